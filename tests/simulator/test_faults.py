"""Each fault does what it says, and only that."""

import asyncio
from typing import Any

import aiohttp
import pytest
import requests
from pybit.exceptions import FailedRequestError, InvalidRequestError

from tests.simulator.support import Client, ask

CREATE = "/v5/order/create"
ORDER: dict[str, Any] = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Market",
    "qty": "0.01",
    "orderLinkId": "f-1",
}


async def statuses(client: Client) -> list[str]:
    return [o["status"] for o in (await client.ledger())["orders"]]


async def last_request(client: Client) -> dict[str, Any]:
    request: dict[str, Any] = (await client.ledger())["requests"][-1]
    return request


async def test_delay_comes_before_and_works_once(client: Client) -> None:
    await client.fault("delay", ms=1, path=CREATE)
    assert (await client.post(CREATE, **ORDER))["retCode"] == 0
    async with client.session.get(f"{client.url}/control/faults") as answer:
        assert (await answer.json())["faults"] == []


async def test_a_late_answer_comes_after_the_frames(client: Client) -> None:
    socket = await client.private("order")
    await client.fault("delay_answer", ms=1000, path=CREATE)
    answer = asyncio.create_task(client.post(CREATE, **ORDER))
    await socket.until_order("Filled")
    assert not answer.done()
    assert (await answer)["retCode"] == 0
    await socket.link.close()


@pytest.mark.parametrize(("fault", "orders"), [("drop_request", []), ("drop_answer", ["Filled"])])
async def test_dropped(client: Client, fault: str, orders: list[str]) -> None:
    await client.fault(fault, path=CREATE)
    with pytest.raises(requests.exceptions.ConnectionError):
        await ask(client.sdk().place_order, **ORDER)
    assert await statuses(client) == orders
    entry = await last_request(client)
    assert (entry["answered"], entry["body"]["orderLinkId"], entry["status"]) == (False, "f-1", None)
    assert (await client.post(CREATE, **ORDER))["retCode"] == (110072 if orders else 0)


@pytest.mark.parametrize(("after", "orders"), [(False, []), (True, ["Filled"])])
async def test_http_status(client: Client, after: bool, orders: list[str]) -> None:
    await client.fault("http_status", status=502, after=after)
    with pytest.raises(FailedRequestError) as caught:
        await ask(client.sdk().place_order, **ORDER)
    assert caught.value.status_code == 502
    assert await statuses(client) == orders
    assert (await last_request(client))["status"] == 502


async def test_ret_code_for_one_symbol(client: Client) -> None:
    await client.fault("ret_code", code=10016, msg="Server error.", symbol="ETHUSDT")
    assert (await client.post(CREATE, **ORDER))["retCode"] == 0
    with pytest.raises(InvalidRequestError) as caught:
        await ask(client.sdk().place_order, **{**ORDER, "symbol": "ETHUSDT", "orderLinkId": "f-2"})
    assert caught.value.status_code == 10016


async def test_reject_async(client: Client) -> None:
    socket = await client.private("order")
    await client.fault("reject_async")
    assert (await client.post(CREATE, **ORDER))["retCode"] == 0
    row = await socket.until(lambda f: f.get("topic") == "order")
    assert row["data"][0]["orderStatus"] == "Rejected"
    assert row["data"][0]["rejectReason"] != "EC_NoError"
    assert (await client.position())["size"] == "0"
    await socket.link.close()


async def test_partial_fill(client: Client) -> None:
    await client.fault("partial_fill", fraction="0.3")
    await client.post(CREATE, **ORDER, stopLoss="60000")
    order = (await client.rows("/v5/order/history", "category=linear&orderLinkId=f-1"))[0]
    assert (order["orderStatus"], order["cumExecQty"]) == ("Cancelled", "0.003")
    stop = (await client.rows("/v5/order/realtime", "category=linear&symbol=BTCUSDT"))[0]
    assert stop["qty"] == "0.003"
    assert (await client.market("Buy", "0.01"))["retCode"] == 0
    assert (await client.position())["size"] == "0.013"


async def test_late_visible(client: Client) -> None:
    fault = await client.fault("late_visible", ms=60_000)
    await client.post(CREATE, **ORDER)
    for path in ("/v5/order/realtime", "/v5/order/history", "/v5/execution/list"):
        assert await client.rows(path, "category=linear&orderLinkId=f-1") == []
    async with client.session.delete(f"{client.url}/control/faults/{fault}") as answer:
        assert answer.status == 200
    for path in ("/v5/order/realtime", "/v5/order/history", "/v5/execution/list"):
        assert len(await client.rows(path, "category=linear&orderLinkId=f-1")) == 1


async def test_silent_socket(client: Client) -> None:
    public = await client.public("publicTrade.BTCUSDT")
    private = await client.private("order")
    await client.fault("silent_socket", channel="public")
    await client.price("66000")
    await client.post(CREATE, **ORDER)
    await private.until_order("Filled")  # the other channel goes on
    async with client.session.delete(f"{client.url}/control/faults"):
        pass
    await client.price("66001")
    assert [t["p"] for t in (await public.next())["data"]] == ["66001"]
    await public.link.close()
    await private.link.close()


async def test_cut_socket(client: Client) -> None:
    public, private = await client.public(), await client.private()
    await client.fault("cut_socket", channel="private")
    assert await private.has_ended()
    await (await client.private()).link.close()
    await client.fault("cut_socket", channel="private", times=None)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.private()
    await public.send({"op": "ping"})
    assert (await public.next())["op"] == "ping"
    await public.link.close()


async def test_duplicate_events(client: Client) -> None:
    socket = await client.private("execution")
    await client.fault("duplicate_events")
    await client.post(CREATE, **ORDER)
    first, second = await socket.next(), await socket.next()
    assert first == second
    assert first["topic"] == "execution"
    await socket.link.close()


async def test_reordered_events(client: Client) -> None:
    socket = await client.private("order", "execution", "position", "wallet")
    await client.fault("reorder", times=1)
    await client.post(CREATE, **ORDER)
    topics = [(await socket.next())["topic"] for _ in range(5)]
    assert topics == ["position", "wallet", "position", "order", "execution"]
    await client.market("Buy", "0.01")
    assert (await socket.next())["topic"] == "execution"  # once
    await socket.link.close()


async def test_a_fill_in_two_executions_of_one_frame(client: Client) -> None:
    socket = await client.private("order", "execution")
    await client.fault("split_fill")
    await client.post(CREATE, **{**ORDER, "qty": "0.011"})
    frame = await socket.next()
    assert [(r["execQty"], r["leavesQty"]) for r in frame["data"]] == [("0.005", "0.006"), ("0.006", "0")]
    assert len({r["execId"] for r in frame["data"]}) == 2
    statuses = [(await socket.next())["data"][0]["orderStatus"] for _ in range(2)]
    assert statuses == ["PartiallyFilled", "Filled"]
    await socket.link.close()


async def test_a_second_snapshot(client: Client) -> None:
    socket = await client.public("tickers.BTCUSDT")
    first = await socket.next()
    await client.fault("resnapshot")
    await client.price("66000")
    again = await socket.next()
    assert (again["type"], set(again["data"])) == ("snapshot", set(first["data"]))
    assert again["data"]["lastPrice"] == "66000.0"
    await client.price("66001")
    assert (await socket.next())["type"] == "delta"
    await socket.link.close()


async def test_a_memory_that_was_lost(client: Client) -> None:
    await client.post(CREATE, **ORDER)
    await client.fault("forget_closed")
    query = "category=linear&orderLinkId=f-1"
    assert await client.rows("/v5/order/realtime", query) == []
    assert await client.rows("/v5/order/realtime", "category=linear&symbol=BTCUSDT&openOnly=1") == []
    assert len(await client.rows("/v5/order/history", query)) == 1


async def test_a_server_error_after_the_order_was_taken(client: Client) -> None:
    await client.fault("ret_code", code=10016, msg="Server error.", after=True)
    assert (await client.post(CREATE, **ORDER))["retCode"] == 10016
    assert await statuses(client) == ["Filled"]


async def test_a_stop_that_is_refused_when_it_fires(client: Client) -> None:
    await client.post(CREATE, **ORDER, stopLoss="66000")
    await client.fault("reject_trigger")
    socket = await client.private("order")
    await client.price("65000")
    row = await socket.until_order("Rejected", "StopLoss")
    assert row["rejectReason"] != "EC_NoError"
    assert (await client.position())["size"] == "0.01"  # and nothing protects it
    await socket.link.close()


async def test_rate_limit(client: Client) -> None:
    await client.fault("rate_limit")
    codes = []
    while 10006 not in codes:  # at ten a second this ends within the first seconds whatever the machine does
        codes.append((await client.post(CREATE, **{**ORDER, "qty": "0"}))["retCode"])
    assert codes.count(10001) >= 10


async def test_clock_skew(client: Client) -> None:
    await client.fault("clock_skew", ms=-5000)
    with pytest.raises(InvalidRequestError) as caught:
        await ask(client.sdk().place_order, **ORDER)
    assert caught.value.status_code == 10002


async def test_maintenance_until_cleared(client: Client) -> None:
    await client.fault("maintenance")
    for _ in range(2):
        with pytest.raises(FailedRequestError) as caught:
            await ask(client.sdk().get_server_time)
        assert caught.value.status_code == 503
    await client.control("reset")
    assert (await ask(client.sdk().get_server_time))["retCode"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"fault": "nosuch"},
        {"fault": "delay"},
        {"fault": "delay", "ms": 1, "oops": 1},
        {"fault": "cut_socket", "channel": "x"},
        {"fault": "ip_ban"},
    ],
)
async def test_bad_faults_are_refused(client: Client, body: dict[str, Any]) -> None:
    async with client.session.post(f"{client.url}/control/faults", json=body) as answer:
        assert answer.status == 400
        assert await answer.text()
