"""Faults and limits on the Binance face: what was executed, what is said, and what the sockets make of it."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.simulator.binance_client import ALGO, ORDER, BinanceClient

LIMITED = {"enforced": True}


async def statuses(binance: BinanceClient) -> list[str]:
    return [o["status"] for o in (await binance.ledger())["orders"]]


@pytest.mark.parametrize(("fault", "orders"), [("drop_request", []), ("drop_answer", ["Filled"])])
async def test_a_cut_connection_leaves_the_outcome_open(binance: BinanceClient, fault: str, orders: list[str]) -> None:
    await binance.fault(fault, path=ORDER)
    with pytest.raises(aiohttp.ClientError):
        await binance.market("BUY", "0.01")
    assert await statuses(binance) == orders


@pytest.mark.parametrize("after", [False, True])
async def test_unknown_error_does_not_tell_whether_it_was_done(binance: BinanceClient, after: bool) -> None:
    await binance.fault("http_status", status=503, after=after, path=ORDER)
    answer = await binance.market("BUY", "0.01")
    assert answer.status == 503
    assert answer.body["msg"].startswith("Unknown error, please check")
    assert await statuses(binance) == (["Filled"] if after else [])


@pytest.mark.parametrize(
    ("status", "code", "body_code"), [(503, -1008, -1008), (503, -1001, -1001), (408, None, -1007)]
)
async def test_other_failures_of_the_front(binance: BinanceClient, status: int, code: int, body_code: int) -> None:
    await binance.fault("http_status", status=status, code=code)
    answer = await binance.market("BUY", "0.01")
    assert (answer.status, answer.body["code"]) == (status, body_code)


@pytest.mark.parametrize("status", [403, 502, 504])
async def test_pages_instead_of_answers(binance: BinanceClient, status: int) -> None:
    await binance.fault("http_status", status=status)
    answer = await binance.market("BUY", "0.01")
    assert answer.status == status
    assert answer.body.startswith("<html>")


@pytest.mark.parametrize(("code", "status"), [(-2015, 401), (-1003, 429), (-1007, 408), (-4131, 400)])
async def test_a_code_by_demand(binance: BinanceClient, code: int, status: int) -> None:
    await binance.fault("ret_code", code=code, path=ORDER)
    answer = await binance.market("BUY", "0.01")
    assert (answer.status, answer.code) == (status, code)
    assert answer.body["msg"]
    assert (await binance.market("BUY", "0.01")).status == 200


async def test_maintenance_lasts(binance: BinanceClient) -> None:
    fault = await binance.fault("maintenance")
    for _ in range(2):
        assert (await binance.public("/fapi/v1/time")).status == 503
    async with binance.session.delete(f"{binance.url}/control/faults/{fault}") as answer:
        assert answer.status == 200
    assert (await binance.public("/fapi/v1/time")).status == 200


async def test_a_late_answer_comes_after_the_frames(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.fault("delay_answer", ms=1000, path=ORDER)
    answer = asyncio.create_task(binance.market("BUY", "0.01"))
    await stream.order("FILLED")
    assert not answer.done()
    assert (await answer).status == 200


async def test_an_accepted_order_ends_without_a_fill(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.fault("reject_async")
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01", "newClientOrderId": "r"}
    assert (await binance.ask("POST", ORDER, **order)).body["status"] == "NEW"
    await stream.order("NEW", "NEW")
    await stream.order("EXPIRED", "EXPIRED")
    row = await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="r")
    assert (row["status"], row["executedQty"]) == ("EXPIRED", "0.000")


async def test_an_ioc_remainder_expires(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.fault("partial_fill", fraction="0.6")
    answer = await binance.limit("BUY", "0.01", "67100", timeInForce="IOC", newOrderRespType="RESULT")
    assert (answer.body["status"], answer.body["executedQty"]) == ("EXPIRED", "0.006")
    assert (await stream.order("PARTIALLY_FILLED", "TRADE"))["l"] == "0.006"
    assert (await stream.order("EXPIRED", "EXPIRED"))["z"] == "0.006"


async def test_a_fok_that_cannot_fill_is_not_recorded(binance: BinanceClient) -> None:
    await binance.fault("partial_fill", fraction="0.6")
    assert (await binance.limit("BUY", "0.01", "67100", timeInForce="FOK")).code == -5021
    assert await statuses(binance) == []


async def test_a_fill_in_two_parts(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.fault("split_fill")
    await binance.market("BUY", "0.01")
    first, last = await stream.order("PARTIALLY_FILLED", "TRADE"), await stream.order("FILLED", "TRADE")
    assert first["t"] != last["t"]
    assert last["z"] == "0.01"
    assert len(await binance.get("/fapi/v1/userTrades", symbol="BTCUSDT")) == 2


async def test_a_query_that_lags_knows_nothing(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01", newClientOrderId="lag")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1")
    fault = await binance.fault("late_visible", ms=600_000)
    assert (await binance.ask("GET", ORDER, symbol="BTCUSDT", origClientOrderId="lag")).code == -2013
    assert (await binance.ask("GET", ALGO, clientAlgoId="s1")).code == -2013
    assert await binance.get("/fapi/v1/openAlgoOrders") == []
    assert await binance.get("/fapi/v1/userTrades", symbol="BTCUSDT") == []
    async with binance.session.delete(f"{binance.url}/control/faults/{fault}"):
        pass
    assert (await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="lag"))["status"] == "FILLED"


async def test_frames_twice_or_in_reverse(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.fault("duplicate_events", times=1)
    await binance.market("BUY", "0.01")
    assert (await stream.said(5))[:2] == ["TRADE_LITE", "TRADE_LITE"]
    await binance.fault("reorder", times=1)
    await binance.market("BUY", "0.01")
    assert await stream.said(4) == ["ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE", "TRADE_LITE"]


async def test_a_silent_socket_stays_open(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    fault = await binance.fault("silent_socket", channel="private")
    await binance.market("BUY", "0.01", newClientOrderId="unheard")
    async with binance.session.delete(f"{binance.url}/control/faults/{fault}"):
        pass
    await binance.market("BUY", "0.01", newClientOrderId="heard")
    assert (await stream.next())["c"] == "heard"


@pytest.mark.parametrize(("channel", "path"), [("private", "/private/ws/x"), ("public", "/market/ws/btcusdt@aggTrade")])
async def test_sockets_are_cut_and_refused(binance: BinanceClient, channel: str, path: str) -> None:
    stream = await binance.socket(path)
    fault = await binance.fault("cut_socket", channel=channel, times=None)
    assert await stream.ended()
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await binance.socket(path)
    async with binance.session.delete(f"{binance.url}/control/faults/{fault}"):
        pass
    await (await binance.socket(path)).link.close()


async def test_a_clock_that_is_wrong(binance: BinanceClient) -> None:
    await binance.fault("clock_skew", ms=-2000)
    assert (await binance.ask("GET", "/fapi/v3/balance")).code == -1021


# --- limits


async def test_too_much_weight_is_429_and_then_418(binance: BinanceClient) -> None:
    await binance.control("binance", limits={**LIMITED, "weight_1m": 12, "ban_after": 1})
    assert (await binance.public("/fapi/v1/premiumIndex")).status == 200
    over = await binance.public("/fapi/v1/premiumIndex")
    assert (over.status, over.body["code"]) == (429, -1003)
    assert 0 < int(over.headers["Retry-After"]) <= 61
    assert int(over.headers["X-MBX-USED-WEIGHT-1M"]) == 20
    banned = await binance.public("/fapi/v1/ping")
    assert banned.status == 418
    assert int(banned.headers["Retry-After"]) > 60
    assert (await binance.public("/fapi/v1/ping")).status == 418
    await binance.control("binance", limits={"enforced": False})
    assert (await binance.public("/fapi/v1/ping")).status == 200


async def test_orders_are_counted_per_account(binance: BinanceClient) -> None:
    await binance.control("binance", limits={**LIMITED, "orders_10s": 2})
    answers: list[Any] = [await binance.market("BUY", "0.01") for _ in range(3)]
    assert [a.status for a in answers] == [200, 200, 429]
    assert answers[1].headers["X-MBX-ORDER-COUNT-10S"] == answers[1].headers["X-MBX-ORDER-COUNT-1M"] == "2"
    assert (answers[2].body["code"], "Retry-After" in answers[2].headers) == (-1015, True)
    assert "X-MBX-ORDER-COUNT-10S" not in (await binance.ask("GET", "/fapi/v3/balance")).headers
    assert len(await statuses(binance)) == 2


async def test_sockets_are_counted_per_address(binance: BinanceClient) -> None:
    await binance.control("binance", limits={**LIMITED, "connections_5m": 1})
    await binance.socket("/market/ws")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await binance.socket("/public/ws")
    assert refused.value.status == 429


async def test_a_limit_by_demand(binance: BinanceClient) -> None:
    await binance.fault("rate_limit", times=1)
    refused = await binance.market("BUY", "0.01")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert await statuses(binance) == []
    assert (await binance.market("BUY", "0.01")).status == 200


async def test_limits_are_enforced_while_a_fault_says_so(binance: BinanceClient) -> None:
    await binance.control("binance", limits={"weight_1m": 1})
    assert [(await binance.public("/fapi/v1/ping")).status for _ in range(3)] == [200] * 3
    await binance.fault("rate_limit")
    assert (await binance.public("/fapi/v1/ping")).status == 429


async def test_a_ban_by_demand(binance: BinanceClient) -> None:
    await binance.fault("ip_ban", seconds=600)
    banned = await binance.market("BUY", "0.01")
    assert (banned.status, banned.code) == (418, -1003)
    assert int(banned.headers["Retry-After"]) >= 600


async def test_the_limits_told_are_the_limits_set(binance: BinanceClient) -> None:
    await binance.control("binance", limits={"weight_1m": 6000, "orders_10s": 50})
    info = (await binance.public("/fapi/v1/exchangeInfo")).body["rateLimits"]
    assert [row["limit"] for row in info] == [6000, 1200, 50]
    own = await binance.get("/fapi/v1/rateLimit/order")
    assert [(row["interval"], row["limit"]) for row in own] == [("SECOND", 50), ("MINUTE", 1200)]
