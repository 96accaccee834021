"""Orders over Bybit's socket for them: who may send, what is answered, and that it is the road of the REST calls."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from pybit import _websocket_trading, unified_trading

from tests.simulator.support import PATIENCE_S, Client, Frame, Socket

CREATE = "/v5/order/create"
ORDER: Frame = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.01"}


def frame(op: str, /, req_id: str | None = None, stamp_ms: int | None = None, **order: Any) -> Frame:
    stamp = time.time_ns() // 1_000_000 if stamp_ms is None else stamp_ms
    header = {"X-BAPI-TIMESTAMP": str(stamp), "X-BAPI-RECV-WINDOW": "5000"}
    named = {} if req_id is None else {"reqId": req_id}
    return {**named, "header": header, "op": op, "args": [order]}


async def ask(socket: Socket, op: str = "order.create", /, **more: Any) -> Frame:
    await socket.send(frame(op, **more))
    return await socket.next()


async def statuses(client: Client) -> list[str]:
    return [o["status"] for o in (await client.ledger())["orders"]]


# --- who may send


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda proof: proof[:2], 10001),
        (lambda proof: [proof[0], "1", proof[2]], 10001),
        (lambda proof: ["nobody", *proof[1:]], 10003),
        (lambda proof: [*proof[:2], "0" * 64], 10004),
    ],
)
async def test_a_bad_proof_is_refused_and_hung_up_on(client: Client, spoil: Any, code: int) -> None:
    socket = await client.trade_stranger()
    await socket.send({"reqId": "a", "op": "auth", "args": spoil(client.proof())})
    answer = await socket.next()
    assert (answer["reqId"], answer["op"], answer["retCode"]) == ("a", "auth", code)
    assert await socket.has_ended()


async def test_an_expired_key_is_refused(client: Client) -> None:
    await client.control("permissions", api_key=client.key, expired=True)
    socket = await client.trade_stranger()
    await socket.send({"op": "auth", "args": client.proof()})
    assert (await socket.next())["retCode"] == 33004
    assert await socket.has_ended()


async def test_the_answer_to_auth_and_to_a_second_one(client: Client) -> None:
    socket = await client.trade_stranger()
    for code in (0, 20001, 20001):
        await socket.send({"op": "auth", "args": client.proof()})
        answer = await socket.next()
        assert set(answer) == {"retCode", "retMsg", "op", "connId"}
        assert (answer["op"], answer["retCode"]) == ("auth", code)
    assert (await ask(socket, **ORDER))["retCode"] == 0  # the first still counts
    await socket.link.close()


async def test_an_order_before_auth_is_refused(client: Client) -> None:
    socket = await client.trade_stranger()
    answer = await ask(socket, req_id="early", **ORDER)
    assert (answer["reqId"], answer["retCode"], answer["data"]) == ("early", 10003, {})
    assert await statuses(client) == []
    await socket.link.close()


async def test_a_key_that_loses_its_rights_trades_no_more(client: Client) -> None:
    socket = await client.trade()
    await client.control("permissions", api_key=client.key, read_only=True)
    assert (await ask(socket, **ORDER))["retCode"] == 10005
    await client.control("permissions", api_key=client.key, read_only=False, ips=["10.0.0.1"])
    assert (await ask(socket, **ORDER))["retCode"] == 10010
    assert await statuses(client) == []
    await socket.link.close()


async def test_pings_are_answered_before_auth_and_after(client: Client) -> None:
    socket = await client.trade_stranger()
    for _ in range(2):
        await socket.send({"op": "ping"})
        assert (await socket.next())["op"] == "pong"
        await socket.send({"op": "auth", "args": client.proof()})
        await socket.next()
    await socket.link.close()


# --- what is answered


async def test_an_order_its_answer_and_its_fill(client: Client) -> None:
    socket, private = await client.trade(), await client.private("order", "execution")
    before_ms = time.time_ns() // 1_000_000
    answer = await ask(socket, req_id="r-1", **ORDER, orderLinkId="w-1")
    assert list(answer) == ["reqId", "retCode", "retMsg", "op", "connId", "data", "header"]
    assert (answer["reqId"], answer["retCode"], answer["retMsg"]) == ("r-1", 0, "OK")
    assert answer["op"] == "order.create"
    execution = await private.until(lambda f: f.get("topic") == "execution")
    assert execution["data"][0]["orderLinkId"] == "w-1"
    order = await private.until_order("Filled")
    assert answer["data"] == {"orderId": order["orderId"], "orderLinkId": "w-1"}
    header = answer["header"]
    assert set(header) == {
        "Traceid",
        "Timenow",
        "X-Bapi-Limit",
        "X-Bapi-Limit-Status",
        "X-Bapi-Limit-Reset-Timestamp",
    }
    assert {type(value) for value in header.values()} == {str}
    assert int(header["Timenow"]) >= before_ms
    for one in (socket, private):
        await one.link.close()


async def test_an_id_is_said_again_only_if_it_was_given(client: Client) -> None:
    socket = await client.trade()
    assert "reqId" not in await ask(socket, **ORDER)
    await socket.link.close()


async def test_amend_and_cancel(client: Client) -> None:
    socket = await client.trade()
    resting = {**ORDER, "orderType": "Limit", "price": "60000", "orderLinkId": "w-2"}
    assert (await ask(socket, **resting))["retCode"] == 0
    which = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "w-2"}
    assert (await ask(socket, "order.amend", **which, price="60001"))["retCode"] == 0
    assert [o["price"] for o in (await client.ledger())["orders"]] == ["60001"]
    answer = await ask(socket, "order.cancel", **which)
    assert (answer["retCode"], answer["op"], answer["data"]["orderLinkId"]) == (0, "order.cancel", "w-2")
    assert await statuses(client) == ["Cancelled"]
    assert (await ask(socket, "order.cancel", **which))["retCode"] == 110001
    await socket.link.close()


async def test_requests_that_this_socket_does_not_take(client: Client) -> None:
    socket = await client.trade()

    async def code(message: Frame) -> int:
        await socket.send(message)
        return int((await socket.next())["retCode"])

    assert await code(frame("order.create-batch", **ORDER)) == 10404
    assert await code(frame("subscribe", **ORDER)) == 10404
    assert await code(frame("order.create", **{**ORDER, "category": "spot"})) == 10404
    assert await code(frame("order.create", req_id="x" * 37, **ORDER)) == 10001
    assert await code({**frame("order.create"), "args": [ORDER, ORDER]}) == 10001
    assert await code({**frame("order.create"), "args": ORDER}) == 10001
    assert await code({"op": "order.create", "args": [ORDER]}) == 10001
    assert await code({**frame("order.create", **ORDER), "header": {}}) == 10002
    await socket.link.send_str("nonsense")
    assert (await socket.next())["retCode"] == 10404
    assert await statuses(client) == []
    await socket.link.close()


async def test_an_id_is_good_once_on_its_link(client: Client) -> None:
    one, other = await client.trade(), await client.trade()
    assert (await ask(one, req_id="same", **ORDER))["retCode"] == 0
    again = await ask(one, req_id="same", **ORDER)
    assert (again["reqId"], again["retCode"]) == ("same", 20006)
    assert (await ask(other, req_id="same", **ORDER))["retCode"] == 0
    assert await statuses(client) == ["Filled", "Filled"]
    for socket in (one, other):
        await socket.link.close()


@pytest.mark.parametrize("off_ms", [-6000, 2000])
async def test_the_stamp_must_be_of_now(client: Client, off_ms: int) -> None:
    socket = await client.trade()
    answer = await ask(socket, stamp_ms=time.time_ns() // 1_000_000 + off_ms, **ORDER)
    assert answer["retCode"] == 10002
    await socket.link.close()


# --- the road of the REST calls


@pytest.mark.parametrize(
    "order",
    [
        {**ORDER, "symbol": "NOSUCH"},
        {**ORDER, "qty": 0.01},
        {**ORDER, "qty": "0.0101"},
        {**ORDER, "qty": "0.0001"},
        {**ORDER, "qty": "100000"},
        {**ORDER, "orderLinkId": "a b"},
        {**ORDER, "orderLinkId": "taken"},
        {**ORDER, "side": "Sell", "reduceOnly": True, "symbol": "ETHUSDT"},
        {**ORDER, "positionIdx": 1},
        {**ORDER, "stopLoss": "70000"},
        {**ORDER, "tpslMode": "Partial"},
        {**ORDER, "orderType": "Limit"},
        {**ORDER, "orderType": "Limit", "price": "60000.01"},
        {"category": "linear"},
    ],
)
async def test_a_refusal_is_the_same_on_either_road(client: Client, order: Frame) -> None:
    socket = await client.trade()
    assert (await ask(socket, **ORDER, orderLinkId="taken"))["retCode"] == 0
    over_socket, over_rest = await ask(socket, **order), await client.post(CREATE, **order)
    assert over_socket["retCode"] != 0
    assert (over_socket["retCode"], over_socket["retMsg"]) == (over_rest["retCode"], over_rest["retMsg"])
    assert over_socket["data"] == over_rest["result"] == {}
    await socket.link.close()


async def test_stops_come_with_an_order_and_hedge_mode_holds(client: Client) -> None:
    socket = await client.trade()
    await client.post("/v5/position/switch-mode", mode=3, coin="USDT")
    stops = {"stopLoss": "66000", "takeProfit": "70000", "tpslMode": "Full"}
    assert (await ask(socket, **ORDER, positionIdx=1, **stops))["retCode"] == 0
    assert (await ask(socket, **{**ORDER, "side": "Sell"}, positionIdx=2))["retCode"] == 0
    long, short = await client.rows("/v5/position/list", "category=linear&symbol=BTCUSDT")
    assert (long["side"], long["stopLoss"], long["takeProfit"]) == ("Buy", "66000", "70000")
    assert (short["side"], short["stopLoss"]) == ("Sell", "")
    await socket.link.close()


async def test_both_roads_share_a_limit(client: Client) -> None:
    socket = await client.trade()
    await client.control("limits", enforce=True, paths={CREATE: 2})
    codes: list[int] = []
    while codes != [0, 0, 10006]:  # a second may end between two
        first = (await client.post(CREATE, **ORDER))["retCode"]
        codes = [first, *[(await ask(socket, **ORDER))["retCode"] for _ in range(2)]]
    refused: Frame = {"retCode": 0}
    while refused["retCode"] != 10006:
        refused = await ask(socket, **ORDER)
    assert refused["header"]["X-Bapi-Limit-Status"] == "0"
    assert int(refused["header"]["X-Bapi-Limit-Reset-Timestamp"]) % 1000 == 0
    await socket.link.close()


async def test_the_ledger_lists_an_order_as_the_rest_call_that_does_the_same(client: Client) -> None:
    socket = await client.trade()
    before_ns = time.time_ns()
    sent = frame("order.create", req_id="l-1", **ORDER, orderLinkId="l")
    await socket.send(sent)
    await socket.next()
    await client.post(CREATE, **{**ORDER, "orderLinkId": "m"})
    over_socket, over_rest = (await client.ledger())["requests"]
    assert (over_socket["channel"], over_rest["channel"]) == ("trade", "rest")
    for name in ("method", "path", "query", "api_key", "status", "ret_code", "answered"):
        assert over_socket[name] == over_rest[name]
    assert {**over_socket["body"], "orderLinkId": "m"} == over_rest["body"]
    assert (over_socket["frame"], over_rest["frame"]) == (sent, None)
    assert before_ns < over_socket["received_at_ns"] < over_rest["received_at_ns"]
    await socket.link.close()


# --- faults


@pytest.mark.parametrize(("fault", "orders"), [("drop_request", []), ("drop_answer", ["Filled"])])
async def test_a_link_that_is_cut_leaves_the_outcome_open(client: Client, fault: str, orders: list[str]) -> None:
    socket = await client.trade()
    await client.fault(fault, path=CREATE, symbol="BTCUSDT")
    await socket.send(frame("order.create", **ORDER))
    assert await socket.has_ended()
    assert await statuses(client) == orders
    entry = (await client.ledger())["requests"][-1]
    assert (entry["status"], entry["ret_code"], entry["answered"]) == (None, None, False)


async def test_a_late_answer_comes_after_the_frames_and_holds_up_nobody(client: Client) -> None:
    socket, private = await client.trade(), await client.private("order")
    await client.fault("delay_answer", ms=1000)
    await socket.send(frame("order.create", req_id="slow", **ORDER))
    await private.until_order("Filled")
    await socket.send(frame("order.create", req_id="quick", **ORDER))
    assert [(await socket.next())["reqId"] for _ in range(2)] == ["quick", "slow"]
    for one in (socket, private):
        await one.link.close()


async def test_what_came_is_done_though_the_link_ends(client: Client) -> None:
    socket, private = await client.trade(), await client.private("order")
    await client.fault("delay", ms=200)
    await socket.send(frame("order.create", **ORDER))
    while not (await client.ledger())["requests"]:
        pass
    await socket.link.close()
    await private.until_order("Filled")
    assert not (await client.ledger())["requests"][-1]["answered"]
    await private.link.close()


@pytest.mark.parametrize(
    ("status", "after", "code"),
    [(403, False, 10403), (429, False, 10429), (503, False, 10019), (503, True, 10016), (502, False, 10016)],
)
async def test_failures_of_the_front(client: Client, status: int, after: bool, code: int) -> None:
    socket = await client.trade()
    await client.fault("http_status", status=status, after=after)
    answer = await ask(socket, req_id="f", **ORDER)
    assert (answer["reqId"], answer["retCode"], answer["data"]) == ("f", code, {})
    assert await statuses(client) == (["Filled"] if after else [])
    assert (await ask(socket, **ORDER))["retCode"] == 0
    await socket.link.close()


@pytest.mark.parametrize(("after", "orders"), [(False, []), (True, ["Filled"])])
async def test_a_code_by_demand(client: Client, after: bool, orders: list[str]) -> None:
    socket = await client.trade()
    await client.fault("ret_code", code=20003, msg="Too frequent requests", after=after)
    answer = await ask(socket, **ORDER)
    assert (answer["retCode"], answer["retMsg"]) == (20003, "Too frequent requests")
    assert await statuses(client) == orders
    await socket.link.close()


async def test_a_fault_may_be_of_one_road_only(client: Client) -> None:
    socket = await client.trade()
    await client.fault("ret_code", code=1, channel="trade")
    await client.fault("ret_code", code=2, channel="rest", path=CREATE)
    assert (await client.post(CREATE, **ORDER))["retCode"] == 2
    assert (await ask(socket, **ORDER))["retCode"] == 1
    for fault, more in (("partial_fill", {"fraction": "0.3"}), ("reject_async", {})):
        await client.fault(fault, channel="trade", **more)
        assert (await client.post(CREATE, **ORDER))["retCode"] == 0
        assert (await ask(socket, **ORDER))["retCode"] == 0
    assert await statuses(client) == ["Filled", "Cancelled", "Filled", "Rejected"]
    await client.fault("rate_limit", channel="rest")
    codes = [(await ask(socket, **ORDER))["retCode"] for _ in range(30)]
    assert set(codes) == {0}
    await socket.link.close()


async def test_maintenance_refuses_orders_and_links(client: Client) -> None:
    socket = await client.trade()
    fault = await client.fault("maintenance")
    for _ in range(2):
        assert (await ask(socket, **ORDER))["retCode"] == 10019
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.trade_stranger()
    assert refused.value.status == 503
    async with client.session.delete(f"{client.url}/control/faults/{fault}"):
        pass
    assert (await ask(socket, **ORDER))["retCode"] == 0
    await socket.link.close()


async def test_a_ban_holds_here_too(client: Client) -> None:
    socket = await client.trade()
    await client.fault("ip_ban", seconds=60)
    assert (await ask(socket, **ORDER))["retCode"] == 10403
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.trade_stranger()
    await socket.link.close()


async def test_a_silent_socket_executes_and_says_nothing(client: Client) -> None:
    socket, private = await client.trade(), await client.private("order")
    await client.fault("silent_socket", channel="trade")
    await socket.send(frame("order.create", req_id="unheard", **ORDER))
    await private.until_order("Filled")  # the other sockets go on
    assert not (await client.ledger())["requests"][-1]["answered"]
    async with client.session.delete(f"{client.url}/control/faults"):
        pass
    assert (await ask(socket, req_id="heard", **ORDER))["reqId"] == "heard"
    for one in (socket, private):
        await one.link.close()


async def test_cutting_this_socket_leaves_the_others(client: Client) -> None:
    socket, private = await client.trade(), await client.private("order")
    assert (await client.control_get("health"))["links"] == {"public": 0, "private": 1, "trade": 1}
    await client.fault("cut_socket", channel="trade", seconds=60)
    assert await socket.has_ended()
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.trade_stranger()
    await client.market("Buy", "0.01")
    await private.until_order("Filled")
    await private.link.close()


# --- the exchange's own library


async def test_pybit_places_amends_and_cancels(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_websocket_trading, "TRADE_WSS", client.url.replace("http", "ws") + "/v5/trade")
    loop = asyncio.get_running_loop()
    keys = {"api_key": client.key, "api_secret": client.secret, "private_auth_expire": 10}
    # It notes whom to call after it has sent: no real exchange answers before that, this one might.
    await client.fault("delay_answer", ms=100, times=None)
    trading = await asyncio.to_thread(lambda: unified_trading.WebSocketTrading(testnet=False, recv_window=5000, **keys))

    async def call(method: Any, **order: Any) -> tuple[bool, Frame]:
        answer: asyncio.Future[tuple[bool, Frame]] = loop.create_future()

        def heard(good: bool) -> Any:
            return lambda message: loop.call_soon_threadsafe(answer.set_result, (good, message))

        await asyncio.to_thread(lambda: method(heard(True), heard(False), **order))
        return await asyncio.wait_for(answer, PATIENCE_S)

    resting = {**ORDER, "orderType": "Limit", "price": "60000", "orderLinkId": "sdk"}
    which = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "sdk"}
    good, placed = await call(trading.place_order, **resting)
    assert (good, placed["data"]["orderLinkId"]) == (True, "sdk")
    good, refused = await call(trading.place_order, **resting)
    assert (good, refused["retCode"]) == (False, 110072)
    assert (await call(trading.amend_order, **which, price="60001"))[0]
    assert (await call(trading.cancel_order, **which))[0]
    assert await statuses(client) == ["Cancelled"]
    await asyncio.to_thread(trading.exit)
