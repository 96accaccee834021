"""Ordinary orders: what is taken, what is refused with which code, what the answers say, and how ids behave."""

from typing import Any

import pytest

from tests.simulator.binance_client import ORDER, BinanceClient

MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
LIMIT = {**MARKET, "type": "LIMIT", "price": "66000", "timeInForce": "GTC"}


def without(order: dict[str, str], name: str) -> dict[str, str]:
    return {k: v for k, v in order.items() if k != name}


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (without(MARKET, "symbol"), -1102),
        (without(MARKET, "side"), -1102),
        (without(MARKET, "type"), -1102),
        (without(MARKET, "quantity"), -1102),
        (without(LIMIT, "price"), -1102),
        (without(LIMIT, "timeInForce"), -1102),
        ({**MARKET, "symbol": "NOSUCH"}, -1121),
        ({**MARKET, "side": "Buy"}, -1117),
        ({**MARKET, "type": "market"}, -1116),
        ({**MARKET, "type": "STOP_MARKET"}, -4120),
        ({**MARKET, "type": "TAKE_PROFIT"}, -4120),
        ({**MARKET, "price": "67000"}, -1106),
        ({**MARKET, "timeInForce": "GTC"}, -1106),
        ({**LIMIT, "timeInForce": "gtc"}, -1115),
        ({**MARKET, "quantity": "1e-2"}, -1100),
        ({**MARKET, "quantity": "-1"}, -1100),
        ({**MARKET, "quantity": "0"}, -4003),
        ({**MARKET, "quantity": "0.0105"}, -1111),
        ({**MARKET, "quantity": "600"}, -4005),
        ({**LIMIT, "quantity": "1200"}, -4005),
        ({**MARKET, "symbol": "1000PEPEUSDT", "quantity": "1001"}, -4023),
        ({**MARKET, "symbol": "1000PEPEUSDT", "quantity": "99"}, -4004),
        ({**MARKET, "quantity": "0.001", "symbol": "ETHUSDT"}, -1111),
        ({**LIMIT, "price": "66000.05"}, -4014),
        ({**LIMIT, "price": "66000.051"}, -1111),
        ({**LIMIT, "price": "0"}, -4001),
        ({**LIMIT, "price": "71000"}, -4016),
        ({**LIMIT, "side": "SELL", "price": "63000"}, -4024),
        ({**MARKET, "symbol": "XRPUSDT", "quantity": "2"}, -4164),
        ({**LIMIT, "symbol": "XRPUSDT", "quantity": "2", "price": "2.4"}, -4164),
        ({**MARKET, "quantity": "100"}, -2019),
        ({**MARKET, "positionSide": "LONG"}, -4061),
        ({**MARKET, "positionSide": "UP"}, -4060),
        ({**MARKET, "reduceOnly": "true"}, -2022),
        ({**MARKET, "reduceOnly": "True"}, -1130),
        ({**MARKET, "newClientOrderId": "x" * 37}, -4015),
        ({**MARKET, "newClientOrderId": "no spaces"}, -1100),
        ({**MARKET, "newClientOrderId": ""}, -1105),
        ({**MARKET, "newOrderRespType": "FULL"}, -1130),
        ({**MARKET, "stopPrice": "66000"}, -1104),
        ({**LIMIT, "price": "68000", "timeInForce": "GTX"}, -5022),
        ({**LIMIT, "timeInForce": "GTD"}, -1102),
    ],
)
async def test_refusals(binance: BinanceClient, order: dict[str, str], code: int) -> None:
    answer = await binance.ask("POST", ORDER, **order)
    assert (answer.status, answer.code) == (400, code), answer.body
    assert set(answer.body) == {"code", "msg"}
    assert (await binance.ledger())["orders"] == []
    test = await binance.ask("POST", "/fapi/v1/order/test", **order)
    assert test.code == code or code in (-2019, -2022)


async def test_a_tried_order_is_not_placed(binance: BinanceClient) -> None:
    assert (await binance.ask("POST", "/fapi/v1/order/test", **MARKET)).body == {}
    assert (await binance.ledger())["orders"] == []


async def test_ack_says_new_though_it_is_filled(binance: BinanceClient) -> None:
    answer = (await binance.ask("POST", ORDER, **MARKET, newClientOrderId="a")).body
    assert (answer["status"], answer["executedQty"], answer["avgPrice"]) == ("NEW", "0.000", "0.00")
    found = await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="a")
    assert (found["status"], found["executedQty"], found["orderId"]) == ("FILLED", "0.010", answer["orderId"])


async def test_result_says_what_became_of_it(binance: BinanceClient) -> None:
    answer = (await binance.market("BUY", "0.012")).body
    assert (answer["status"], answer["executedQty"], answer["avgPrice"]) == ("FILLED", "0.012", "67000.00000")
    assert answer["cumQuote"] == "804.00000"
    assert isinstance(answer["orderId"], int)


async def test_an_id_is_unique_among_open_orders_only(binance: BinanceClient) -> None:
    resting = (await binance.limit("BUY", "0.01", "60000", newClientOrderId="same")).body
    twice = await binance.limit("BUY", "0.01", "60000", newClientOrderId="same")
    assert twice.code == -4116
    await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="same")
    for _ in range(2):  # a market order that filled does not block its own repetition
        again = await binance.market("BUY", "0.01", newClientOrderId="same")
        assert again.body["status"] == "FILLED"
    newest = await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="same")
    assert newest["orderId"] == again.body["orderId"]
    first = await binance.get(ORDER, symbol="BTCUSDT", orderId=resting["orderId"])
    assert first["status"] == "CANCELED"


async def test_orders_that_are_not_there(binance: BinanceClient) -> None:
    ref = {"symbol": "BTCUSDT", "origClientOrderId": "nobody"}
    assert (await binance.ask("GET", ORDER, **ref)).code == -2013
    assert (await binance.ask("DELETE", ORDER, **ref)).code == -2011
    assert (await binance.ask("GET", "/fapi/v1/openOrder", **ref)).code == -2013
    assert (await binance.ask("GET", ORDER, symbol="BTCUSDT")).code == -1102
    await binance.market("BUY", "0.01", newClientOrderId="done")
    assert (await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="done")).code == -2011
    other = {"symbol": "ETHUSDT", "origClientOrderId": "done"}
    assert (await binance.ask("GET", ORDER, **other)).code == -2013


async def test_reduce_only_is_exempt_from_the_notional(binance: BinanceClient) -> None:
    await binance.market("BUY", "10", "XRPUSDT")
    assert (await binance.market("SELL", "1", "XRPUSDT")).code == -4164
    answer = await binance.market("SELL", "1", "XRPUSDT", reduceOnly="true")
    assert (answer.body["status"], answer.body["reduceOnly"]) == ("FILLED", True)


async def test_reduce_only_on_the_same_side_is_refused(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    assert (await binance.market("BUY", "0.01", reduceOnly="true")).code == -2022


async def test_resting_closes_are_in_the_way_of_another(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    await binance.limit("SELL", "0.01", "68000", reduceOnly="true")
    assert (await binance.market("SELL", "0.01", reduceOnly="true")).code == -4118


async def test_a_market_order_outside_the_band_is_refused(binance: BinanceClient) -> None:
    await binance.price("71000", mark="67000")
    assert (await binance.market("BUY", "0.01")).code == -4131
    assert (await binance.market("SELL", "0.01")).body["status"] == "FILLED"


async def test_a_position_must_fit_its_leverage(binance: BinanceClient) -> None:
    await binance.control("accounts", api_key="rich", api_secret="s", balance="100000000")
    rich = BinanceClient(binance.url, binance.session, key="rich", secret="s")
    assert (await rich.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=100)).status == 200
    assert (await rich.market("BUY", "10")).code == -2027
    assert (await rich.market("BUY", "4")).status == 200


async def test_resting_orders_are_listed_and_cancelled(binance: BinanceClient) -> None:
    for n in range(3):
        await binance.limit("BUY", "0.01", str(60000 + n), newClientOrderId=f"r{n}")
    await binance.limit("BUY", "0.1", "3000", "ETHUSDT", newClientOrderId="other")
    listed = await binance.get("/fapi/v1/openOrders", symbol="BTCUSDT")
    assert [row["clientOrderId"] for row in listed] == ["r0", "r1", "r2"]
    assert len(await binance.get("/fapi/v1/openOrders")) == 4
    gone = (await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="r1")).body
    assert (gone["status"], gone["clientOrderId"]) == ("CANCELED", "r1")
    everything = await binance.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert everything.body == {"code": 200, "msg": "The operation of cancel all open order is done."}
    assert [row["clientOrderId"] for row in await binance.get("/fapi/v1/openOrders")] == ["other"]
    history = await binance.get("/fapi/v1/allOrders", symbol="BTCUSDT")
    assert [row["status"] for row in history] == ["CANCELED"] * 3


async def test_a_limit_order_fills_when_the_price_comes(binance: BinanceClient) -> None:
    await binance.limit("BUY", "0.01", "66500", newClientOrderId="rest")
    await binance.price("66499")
    row = await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="rest")
    assert (row["status"], row["avgPrice"], row["price"]) == ("FILLED", "66500.00000", "66500.00")
    trade = (await binance.get("/fapi/v1/userTrades", symbol="BTCUSDT"))[0]
    assert (trade["maker"], trade["buyer"], trade["orderId"]) == (True, True, row["orderId"])


async def test_an_order_is_modified(binance: BinanceClient) -> None:
    await binance.limit("BUY", "0.01", "60000", newClientOrderId="m")
    ref: dict[str, Any] = {"symbol": "BTCUSDT", "origClientOrderId": "m", "side": "BUY"}
    assert (await binance.ask("PUT", ORDER, **ref, quantity="0.01", price="60000")).code == -5027
    assert (await binance.ask("PUT", ORDER, **ref, price="60000")).code == -1102
    changed = (await binance.ask("PUT", ORDER, **ref, quantity="0.02", price="61000")).body
    assert (changed["origQty"], changed["price"], changed["status"]) == ("0.020", "61000.00", "NEW")
    nobody = {**ref, "origClientOrderId": "nobody"}
    assert (await binance.ask("PUT", ORDER, **nobody, quantity="0.02", price="61000")).code == -2013


async def test_trades_are_asked_by_order_number_and_time(binance: BinanceClient) -> None:
    numbers = [(await binance.market("BUY", "0.01")).body["orderId"] for _ in range(3)]
    path, symbol = "/fapi/v1/userTrades", {"symbol": "BTCUSDT"}
    every = await binance.get(path, **symbol)
    assert [t["orderId"] for t in every] == numbers
    assert [t["orderId"] for t in await binance.get(path, **symbol, orderId=numbers[1])] == numbers[1:2]
    later = await binance.get(path, **symbol, fromId=every[1]["id"])
    assert [t["id"] for t in later] == [t["id"] for t in every[1:]]
    assert len(await binance.get(path, **symbol, limit=2)) == 2
    start = every[0]["time"]
    assert await binance.get(path, **symbol, startTime=start, endTime=start + 60_000) == every
    week = 7 * 24 * 3600 * 1000
    assert (await binance.ask("GET", path, **symbol, startTime=start, endTime=start + week + 1)).code == -1127
    assert (await binance.ask("GET", path, **symbol, fromId=1, startTime=start)).code == -1128
    assert (await binance.ask("GET", path)).code == -1102


async def test_a_countdown_cancels_what_rests(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.limit("BUY", "0.01", "60000", newClientOrderId="c")
    answer = await binance.ask("POST", "/fapi/v1/countdownCancelAll", symbol="BTCUSDT", countdownTime=1)
    assert answer.body == {"symbol": "BTCUSDT", "countdownTime": "1"}
    assert (await stream.order("CANCELED"))["c"] == "c"


async def test_both_faces_serve_one_account(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    position = (await binance.ledger())["positions"][0]
    assert (position["symbol"], position["side"], position["qty"]) == ("BTCUSDT", "long", "0.01")


async def test_the_ledger_keeps_requests_with_their_codes(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01", newClientOrderId="kept")
    await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="kept")
    rows = (await binance.ledger())["requests"]
    assert [(r["method"], r["status"], r["ret_code"]) for r in rows] == [("POST", 200, 0), ("DELETE", 400, -2011)]
    assert "newClientOrderId=kept" in rows[0]["query"]
