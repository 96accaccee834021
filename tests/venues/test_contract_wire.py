"""What a position's whole life puts on the wire, held against the exchanges' documents and not against the simulator.

Every request is looked at as it arrived: parameters, their types and text, and what the position mode forbids.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.venues.contract import BTC, LONG, ROADS, SHORT, Site
from tests.venues.contract import site as open_site

D = Decimal
PLAIN = re.compile(r"\d+(\.\d+)?")
BYBIT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
BINANCE_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")  # without . : / which break signatures
MODES = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])


async def a_life(site: Site) -> list[dict[str, Any]]:
    """Open, protect, move, look, reduce, close, on both sides; with numbers that like to become 1E-7 or 5E+1."""
    async with site.venue() as venue:
        for side, symbol, qty, price in (
            (LONG, BTC, D("0.010"), D(60000)),
            (SHORT, "1000PEPEUSDT", D("1.5E+5"), D("0.0111113")),
        ):
            await site.simulator.price(price, symbol)
            await venue.instrument(symbol)
            await venue.set_leverage(symbol, D("5.00"))
            stop = (price * (1 - side.sign * D("0.05"))).quantize(price)
            order = site.opens(side, symbol=symbol, qty=qty, stop_loss=stop if venue.traits.attaches_stops else None)
            await venue.place(order)
            for step in (2, 3):
                moved = (price * (1 - side.sign * D(step) / 100)).quantize(price)
                await venue.set_stop(symbol, side, moved, hedge=site.hedge)
            await venue.standing(symbol)
            await venue.order(symbol, order.client_order_id)
            await venue.fills(symbol, client_order_id=order.client_order_id)
            await venue.fills(symbol, since=datetime.now(UTC))
            await venue.place(site.closes(side, symbol=symbol, qty=qty / 2 if symbol != BTC else D("0.004")))
            await venue.set_stop(symbol, side, None, hedge=site.hedge)
            await venue.place(site.closes(side, symbol=symbol, qty=qty / 2 if symbol != BTC else D("0.006")))
        await venue.holdings()
        await venue.equity()
        found = await site.simulator.requests()
        assert all(request["status"] == 200 for request in found), [r for r in found if r["status"] != 200]
        return found


@MODES
@pytest.mark.parametrize("road", ["bybit", "bybit-socket"])
async def test_what_bybit_is_sent(hedge: bool, road: str) -> None:
    async with open_site(road, hedge=hedge) as site:
        found = await a_life(site)
    posts = [request for request in found if request["method"] == "POST"]
    assert {request["path"] for request in posts} == {
        "/v5/order/create",
        "/v5/position/set-leverage",
        "/v5/position/trading-stop",
    }
    for request in posts:
        assert request["query"] == ""
        body = request["body"]
        assert body["category"] == "linear"
        for name, value in body.items():
            expected = {"positionIdx": int, "reduceOnly": bool, "closeOnTrigger": bool}.get(name, str)
            assert type(value) is expected, (name, value)
        for name in ("qty", "stopLoss", "buyLeverage", "sellLeverage"):
            assert PLAIN.fullmatch(body.get(name, "1")), body
    ids = []
    for body in (request["body"] for request in posts if request["path"] == "/v5/order/create"):
        ids.append(body["orderLinkId"])
        assert BYBIT_ID.fullmatch(body["orderLinkId"])
        assert body["orderType"] == "Market"
        assert D(body["qty"]) > 0
        opens_long = (body["side"] == "Buy") is not body["reduceOnly"]
        assert body["positionIdx"] == ((1 if opens_long else 2) if hedge else 0)
        if body["reduceOnly"]:
            assert not {"stopLoss", "takeProfit", "tpslMode"} & body.keys()
        else:
            assert body["tpslMode"] == "Full"
    assert len(set(ids)) == len(ids) == 6
    for body in (request["body"] for request in posts if request["path"] == "/v5/position/trading-stop"):
        assert body["positionIdx"] in ((1, 2) if hedge else (0,))
        assert body["tpslMode"] == "Full"
    for request in found:
        if request["method"] == "GET":
            given = dict(parse_qsl(request["query"], keep_blank_values=True))
            assert "" not in given.values()
            assert request["body"] in (None, "")


@MODES
async def test_what_binance_is_sent(hedge: bool) -> None:
    async with open_site("binance", hedge=hedge) as site:
        found = await a_life(site)
    signed = [request for request in found if "signature=" in (request["query"] + (request["body"] or ""))]
    assert signed
    for request in signed:
        # In one place, so that it is plain what was signed; the signature last.
        text = request["query"] or request["body"]
        assert not (request["query"] and request["body"])
        assert re.search(r"&signature=[0-9a-f]{64}$", "&" + text)
        given = parse_qsl(text, keep_blank_values=True)
        names = [name for name, _ in given]
        assert len(set(names)) == len(names)
        values = dict(given)
        assert re.fullmatch(r"\d{13}", values["timestamp"])
        assert 0 < int(values["recvWindow"]) <= 60_000
        assert "" not in values.values()
        assert not {"True", "False", "None"} & set(values.values())

    def sent(method: str, path: str) -> list[dict[str, str]]:
        rows = [r for r in signed if (r["method"], r["path"]) == (method, path)]
        return [dict(parse_qsl(row["query"] or row["body"])) for row in rows]

    orders = sent("POST", "/fapi/v1/order")
    assert len({order["newClientOrderId"] for order in orders}) == len(orders) == 6
    for order in orders:
        assert BINANCE_ID.fullmatch(order["newClientOrderId"])
        assert (order["type"], order["newOrderRespType"]) == ("MARKET", "RESULT")
        assert PLAIN.fullmatch(order["quantity"])
        assert D(order["quantity"]) > 0
        assert not {"price", "timeInForce", "stopPrice"} & order.keys()
        _check_side(order, hedge)
    stops = sent("POST", "/fapi/v1/algoOrder")
    assert stops
    for stop in stops:
        assert (stop["algoType"], stop["type"]) == ("CONDITIONAL", "STOP_MARKET")
        assert "stopPrice" not in stop
        assert PLAIN.fullmatch(stop["triggerPrice"])
        assert BINANCE_ID.fullmatch(stop["clientAlgoId"])
        if stop.get("closePosition") == "true":
            assert not {"quantity", "reduceOnly"} & stop.keys()
        else:
            assert PLAIN.fullmatch(stop["quantity"])
            assert hedge or stop["reduceOnly"] == "true"  # a leftover must never open anything
        _check_side(stop, hedge)
    assert all(row["leverage"].isdigit() for row in sent("POST", "/fapi/v1/leverage"))
    assert not [r for r in found if r["path"].startswith("/fapi/v1/algo") and "newClientOrderId" in (r["body"] or "")]


def _check_side(given: dict[str, str], hedge: bool) -> None:
    if hedge:
        assert given["positionSide"] in ("LONG", "SHORT")
        assert "reduceOnly" not in given
    else:
        assert given.get("positionSide", "BOTH") == "BOTH"
        assert given.get("reduceOnly", "true") == "true"


@pytest.mark.parametrize("name", ROADS)
async def test_a_close_of_hedge_mode_is_bound_to_its_side(name: str) -> None:
    async with open_site(name, hedge=True) as site, site.venue() as venue:
        await venue.place(site.opens(LONG))
        await venue.place(site.opens(SHORT))
        await venue.place(site.closes(SHORT))
        request = (await site.simulator.requests(site.face.order_path, "POST"))[-1]
    if site.face.name == "bybit":
        body = request["body"]
        assert (body["side"], body["positionIdx"], body["reduceOnly"]) == ("Buy", 2, True)
    else:
        given = dict(parse_qsl(request["body"] or request["query"]))
        assert (given["side"], given["positionSide"]) == ("BUY", "SHORT")
