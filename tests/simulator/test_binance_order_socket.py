"""The WebSocket API: who may ask, what is answered, and that an order takes the road of the REST call."""

import base64
import time
import warnings
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from tests.simulator.binance_client import ALGO, ORDER, BinanceClient, Stream
from tests.simulator.support import KEY, SECRET, Frame

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient
    from binance.exceptions import BinanceAPIException
    from binance.ws.reconnecting_websocket import ReconnectingWebsocket
    from binance.ws.websocket_api import WebsocketAPI

PLACE: Frame = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
RESTING: Frame = {**PLACE, "type": "LIMIT", "price": "60000", "timeInForce": "GTC"}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest_asyncio.fixture
async def socket(binance: BinanceClient) -> AsyncIterator[Stream]:
    stream = await binance.orders()
    yield stream
    await stream.link.close()


async def send(socket: Stream, method: str, params: Frame | None, number: Any = "n") -> None:
    await socket.send({"id": number, "method": method} | ({} if params is None else {"params": params}))


async def ask(socket: Stream, method: str, params: Frame | None = None, number: Any = "n") -> Frame:
    await send(socket, method, params, number)
    return await socket.next()


def code(answer: Frame) -> int:
    """That of a refusal; 0 of a success."""
    assert ("error" in answer) is (answer["status"] != 200)
    return int(answer["error"]["code"]) if "error" in answer else 0


async def statuses(binance: BinanceClient) -> list[str]:
    return [o["status"] for o in (await binance.ledger())["orders"]]


async def pair(binance: BinanceClient, kind: str) -> BinanceClient:
    """A client of an account whose key is of this kind."""
    signs: Callable[[bytes], bytes]
    if kind == "rsa":
        rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public: Any = rsa_key.public_key()
        signs = partial(rsa_key.sign, padding=padding.PKCS1v15(), algorithm=hashes.SHA256())
    else:
        ed_key = ed25519.Ed25519PrivateKey.generate()
        public, signs = ed_key.public_key(), ed_key.sign
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    await binance.control("accounts", api_key=kind, public_key=pem.decode(), venue="binance")

    def encoded(payload: str) -> str:
        return base64.b64encode(signs(payload.encode())).decode()

    return BinanceClient(binance.url, binance.session, key=kind, signs=encoded)


# --- requests and answers


async def test_the_clock_and_a_ping_need_no_key(socket: Stream) -> None:
    assert (await ask(socket, "ping"))["result"] == {}
    answer = await ask(socket, "time", number=7)
    assert abs(answer["result"]["serverTime"] - now_ms()) < 5000
    assert (answer["id"], answer["status"]) == (7, 200)
    assert code(await ask(socket, "v1/time", number=None)) == 0


async def test_an_order_its_answer_and_its_fill(binance: BinanceClient, socket: Stream) -> None:
    user = await binance.user_data()
    order = {**PLACE, "newClientOrderId": "w-1", "newOrderRespType": "RESULT"}
    answer = await ask(socket, "order.place", binance.named(order), "id-1")
    assert list(answer) == ["id", "status", "result", "rateLimits"]
    assert (answer["id"], answer["status"]) == ("id-1", 200)
    result = answer["result"]
    assert (result["status"], result["clientOrderId"], result["executedQty"]) == ("FILLED", "w-1", "0.010")
    assert (await user.order("FILLED"))["i"] == result["orderId"]
    over_rest = (await binance.market("BUY", "0.01")).body
    assert set(result) == set(over_rest)
    await user.link.close()


async def test_limits_are_told_as_they_count(binance: BinanceClient, socket: Stream) -> None:
    await ask(socket, "order.place", binance.named(PLACE))
    placed = await binance.market("BUY", "0.01")
    told = {(r["rateLimitType"], r["interval"], r["intervalNum"]): r for r in (await ask(socket, "time"))["rateLimits"]}
    assert set(told) == {("REQUEST_WEIGHT", "MINUTE", 1)}
    limits = (await ask(socket, "order.place", binance.named(PLACE)))["rateLimits"]
    told = {(r["rateLimitType"], r["interval"], r["intervalNum"]): (r["limit"], r["count"]) for r in limits}
    assert told["ORDERS", "SECOND", 10] == (300, 3)
    assert told["ORDERS", "MINUTE", 1] == (1200, 3)
    assert placed.headers["X-MBX-ORDER-COUNT-1M"] == "2"  # one count for both roads
    assert told["REQUEST_WEIGHT", "MINUTE", 1] == (2400, 6)  # 5 for the handshake, 1 for the clock


async def test_limits_are_shown_to_who_wants_them(binance: BinanceClient) -> None:
    quiet = await binance.orders("?returnRateLimits=false")
    assert "rateLimits" not in await ask(quiet, "time")
    assert "rateLimits" in await ask(quiet, "time", {"returnRateLimits": True})
    assert (await ask(quiet, "session.status"))["result"]["returnRateLimits"] is False
    await quiet.link.close()


async def test_an_order_is_asked_for_changed_and_cancelled(binance: BinanceClient, socket: Stream) -> None:
    placed = await ask(socket, "order.place", binance.named({**RESTING, "newClientOrderId": "w-2"}))
    assert placed["result"]["status"] == "NEW"
    which = {"symbol": "BTCUSDT", "origClientOrderId": "w-2"}
    found = await ask(socket, "order.status", binance.named(which))
    assert found["result"] == await binance.get(ORDER, **which)
    change = {**which, "side": "BUY", "quantity": "0.02", "price": "60001"}
    assert (await ask(socket, "order.modify", binance.named(change)))["result"]["origQty"] == "0.020"
    by_number = {"symbol": "BTCUSDT", "orderId": placed["result"]["orderId"]}
    assert (await ask(socket, "order.cancel", binance.named(by_number)))["result"]["status"] == "CANCELED"
    assert code(await ask(socket, "order.cancel", binance.named(which))) == -2011
    assert code(await ask(socket, "order.status", binance.named({**which, "origClientOrderId": "no"}))) == -2013


async def test_conditional_orders(binance: BinanceClient, socket: Stream) -> None:
    await binance.market("BUY", "0.01")
    stop = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET"}
    stop |= {"triggerPrice": "66000", "closePosition": "true", "clientAlgoId": "w-s"}
    assert (await ask(socket, "algoOrder.place", binance.named(stop)))["result"]["algoStatus"] == "NEW"
    assert (await binance.get(ALGO, clientAlgoId="w-s"))["algoStatus"] == "NEW"
    assert (await ask(socket, "algoOrder.cancel", binance.named({"clientAlgoId": "w-s"})))["result"]["code"] == "200"


async def test_requests_that_are_none(binance: BinanceClient, socket: Stream) -> None:
    for text in ("nonsense", "[]", '"order.place"'):
        await socket.link.send_str(text)
        answer = await socket.next()
        assert (answer["id"], answer["status"], code(answer)) == (None, 400, -1135)
    bad_ids: list[Any] = [{}, 1.5, True, "x" * 37]
    for number in bad_ids:
        assert code(await ask(socket, "time", number=number)) == -1135
    assert code(await ask(socket, "order.dance", binance.named(PLACE))) == -1020
    assert code(await ask(socket, "order.place")) == -1102
    assert await statuses(binance) == []


# --- key, stamp and signature


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_keys_that_sign_with_a_private_key(binance: BinanceClient, socket: Stream, kind: str) -> None:
    client = await pair(binance, kind)
    assert code(await ask(socket, "order.place", client.named(PLACE))) == 0
    assert code(await ask(socket, "order.place", client.named(PLACE) | {"quantity": "0.02"})) == -1022


async def test_what_is_signed_is_sorted(binance: BinanceClient, socket: Stream) -> None:
    whole = {"symbol": "BTCUSDT", "apiKey": KEY, "timestamp": now_ms(), "orderId": 1}
    unsorted = "&".join(f"{name}={value}" for name, value in whole.items())
    assert code(await ask(socket, "order.status", {**whole, "signature": binance.signs(unsorted)})) == -1022
    assert code(await ask(socket, "order.status", binance.named({"symbol": "BTCUSDT", "orderId": 1}))) == -2013


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda p: {k: v for k, v in p.items() if k != "apiKey"}, -1102),
        (lambda p: {k: v for k, v in p.items() if k != "signature"}, -1102),
        (lambda p: {k: v for k, v in p.items() if k != "timestamp"}, -1102),
        (lambda p: p | {"timestamp": str(p["timestamp"])}, -1102),
        (lambda p: p | {"quantity": 0.01}, -1102),
        (lambda p: p | {"apiKey": "has space"}, -2014),
        (lambda p: p | {"apiKey": "unknown"}, -2015),
        (lambda p: p | {"signature": "x"}, -1022),
    ],
)
async def test_what_is_refused(binance: BinanceClient, socket: Stream, spoil: Any, expected: int) -> None:
    answer = await ask(socket, "order.place", spoil(binance.named(PLACE)))
    assert code(answer) == expected
    assert await statuses(binance) == []


@pytest.mark.parametrize("off_ms", [-6000, 2000])
async def test_the_stamp_must_be_of_now(binance: BinanceClient, socket: Stream, off_ms: int) -> None:
    late = binance.named({**PLACE, "timestamp": now_ms() + off_ms})
    assert code(await ask(socket, "order.place", late)) == -1021
    assert code(await ask(socket, "order.place", binance.named({**PLACE, "recvWindow": 60_001}))) == -1131


async def test_a_key_for_reading_cannot_trade(binance: BinanceClient, socket: Stream) -> None:
    await binance.control("permissions", api_key=KEY, read_only=True)
    answer = await ask(socket, "order.place", binance.named(PLACE))
    assert (answer["id"], answer["status"], code(answer)) == ("n", 401, -2015)


# --- sessions


async def test_a_session_needs_no_signature(binance: BinanceClient, socket: Stream) -> None:
    client = await pair(binance, "ed25519")
    before = (await ask(socket, "session.status"))["result"]
    assert (before["apiKey"], before["authorizedSince"]) == (None, None)
    assert code(await ask(socket, "order.place", {**PLACE, "timestamp": now_ms()})) == -1102
    logged = (await ask(socket, "session.logon", client.named({})))["result"]
    assert logged["apiKey"] == "ed25519"
    assert logged["connectedSince"] <= logged["authorizedSince"] <= logged["serverTime"]
    assert code(await ask(socket, "order.place", {**PLACE, "timestamp": now_ms()})) == 0
    assert code(await ask(socket, "order.place", PLACE)) == -1102  # a stamp all the same
    assert code(await ask(socket, "order.place", {**PLACE, "timestamp": now_ms() - 6000})) == -1021
    own = await ask(socket, "order.place", binance.named(PLACE))  # another key, for this request
    assert code(own) == 0
    accounts = [o["account"] for o in (await binance.ledger())["orders"]]
    assert sorted(accounts) == ["ed25519", KEY]
    assert (await ask(socket, "session.logout"))["result"]["apiKey"] is None
    assert code(await ask(socket, "order.place", {**PLACE, "timestamp": now_ms()})) == -1102


@pytest.mark.parametrize("kind", ["hmac", "rsa"])
async def test_only_one_kind_of_key_may_log_on(binance: BinanceClient, socket: Stream, kind: str) -> None:
    client = binance if kind == "hmac" else await pair(binance, kind)
    assert code(await ask(socket, "session.logon", client.named({}))) == -4056
    assert (await ask(socket, "session.status"))["result"]["apiKey"] is None


async def test_a_bad_proof_logs_nobody_on(binance: BinanceClient, socket: Stream) -> None:
    client = await pair(binance, "ed25519")
    assert code(await ask(socket, "session.logon", client.named({}) | {"timestamp": now_ms() + 1})) == -1022
    assert (await ask(socket, "session.status"))["result"]["apiKey"] is None


async def test_a_session_whose_key_is_taken_away_is_revoked(binance: BinanceClient, socket: Stream) -> None:
    client = await pair(binance, "ed25519")
    await ask(socket, "session.logon", client.named({}))
    await binance.control("permissions", api_key="ed25519", expired=True)
    answer = await ask(socket, "order.place", {**PLACE, "timestamp": now_ms()})
    assert (answer["id"], answer["status"], code(answer)) == (None, 401, -2015)
    assert (await ask(socket, "session.status"))["result"]["apiKey"] is None


# --- the road of the REST call


@pytest.mark.parametrize(
    "order",
    [
        {**PLACE, "symbol": "NOSUCH"},
        {**PLACE, "quantity": "0.0101"},
        {**PLACE, "quantity": "1e-2"},
        {**PLACE, "quantity": "0.001", "symbol": "DOGEUSDT"},
        {**PLACE, "side": "buy"},
        {**PLACE, "type": "STOP_MARKET"},
        {**PLACE, "positionSide": "LONG"},
        {**PLACE, "side": "SELL", "reduceOnly": "true", "symbol": "ETHUSDT"},
        {**PLACE, "newClientOrderId": "a b"},
        {**PLACE, "colour": "red"},
        {**RESTING, "price": "60000.01"},
        {**RESTING, "price": "1"},
        {**RESTING, "timeInForce": "GTX", "price": "67000.1"},
        {**RESTING, "newClientOrderId": "taken"},
    ],
)
async def test_a_refusal_is_the_same_on_either_road(binance: BinanceClient, socket: Stream, order: Frame) -> None:
    await binance.limit("BUY", "0.01", "60000", newClientOrderId="taken")
    over_socket = await ask(socket, "order.place", binance.named(order))
    over_rest = await binance.ask("POST", ORDER, **order)
    assert code(over_socket) == over_rest.code != 0
    if over_rest.code != -1104:  # that counts the parameters, and here the key is one
        assert over_socket["error"]["msg"] == over_rest.body["msg"]
    assert over_socket["status"] == over_rest.status


async def test_hedge_mode_holds(binance: BinanceClient, socket: Stream) -> None:
    await binance.hedge()
    for side, position_side in (("BUY", "LONG"), ("SELL", "SHORT")):
        order = {**PLACE, "side": side, "positionSide": position_side}
        assert code(await ask(socket, "order.place", binance.named(order))) == 0
    assert code(await ask(socket, "order.place", binance.named(PLACE))) == -4061
    held = [(p["side"], p["qty"]) for p in (await binance.ledger())["positions"]]
    assert sorted(held) == [("long", "0.01"), ("short", "0.01")]


async def test_too_many_orders_over_either_road(binance: BinanceClient, socket: Stream) -> None:
    await binance.control("binance", limits={"enforced": True, "orders_10s": 2})
    assert (await binance.market("BUY", "0.01")).status == 200
    assert code(await ask(socket, "order.place", binance.named(PLACE))) == 0
    refused = await ask(socket, "order.place", binance.named(PLACE))
    assert (refused["status"], code(refused)) == (429, -1015)
    assert (await binance.market("BUY", "0.01")).code == -1015


async def test_the_ledger_lists_an_order_as_the_rest_call_that_does_the_same(
    binance: BinanceClient, socket: Stream
) -> None:
    before_ns = time.time_ns()
    params = binance.named(PLACE)
    await ask(socket, "order.place", params)
    await binance.ask("POST", ORDER, **PLACE)
    over_socket, over_rest = (await binance.ledger())["requests"]
    assert (over_socket["channel"], over_rest["channel"]) == ("trade", "rest")
    for name in ("method", "path", "api_key", "status", "ret_code", "answered"):
        assert over_socket[name] == over_rest[name]
    assert over_socket["frame"] == {"id": "n", "method": "order.place", "params": params}
    assert over_socket["body"] == "&".join(f"{name}={value}" for name, value in params.items())
    assert before_ns < over_socket["received_at_ns"] < over_rest["received_at_ns"]


# --- faults


@pytest.mark.parametrize(("fault", "orders"), [("drop_request", []), ("drop_answer", ["Filled"])])
async def test_a_link_that_is_cut_leaves_the_outcome_open(
    binance: BinanceClient, fault: str, orders: list[str]
) -> None:
    socket = await binance.orders()
    await binance.fault(fault, path=ORDER, symbol="BTCUSDT")
    await send(socket, "order.place", binance.named(PLACE))
    assert await socket.has_ended()
    assert await statuses(binance) == orders
    assert (await binance.ledger())["requests"][-1]["answered"] is False


async def test_a_late_answer_comes_after_the_frames_and_holds_up_nobody(binance: BinanceClient, socket: Stream) -> None:
    user = await binance.user_data()
    await binance.fault("delay_answer", ms=1000, path=ORDER)
    await send(socket, "order.place", binance.named(PLACE), "slow")
    await user.order("FILLED")
    await send(socket, "order.place", binance.named(PLACE), "quick")
    assert [(await socket.next())["id"] for _ in range(2)] == ["quick", "slow"]
    await user.link.close()


@pytest.mark.parametrize(
    ("status", "after", "expected"),
    [(503, False, -1000), (503, True, -1000), (502, False, -1000), (408, True, -1007), (429, False, -1003)],
)
async def test_failures_of_the_front(
    binance: BinanceClient, socket: Stream, status: int, after: bool, expected: int
) -> None:
    await binance.fault("http_status", status=status, after=after)
    answer = await ask(socket, "order.place", binance.named(PLACE))
    assert (answer["id"], answer["status"], code(answer)) == ("n", status, expected)
    assert await statuses(binance) == (["Filled"] if after else [])
    assert code(await ask(socket, "order.place", binance.named(PLACE))) == 0


async def test_a_fault_may_be_of_one_road_only(binance: BinanceClient, socket: Stream) -> None:
    await binance.fault("ret_code", code=-1008, channel="trade")
    await binance.fault("ret_code", code=-1001, channel="rest")
    assert (await binance.market("BUY", "0.01")).code == -1001
    assert code(await ask(socket, "order.place", binance.named(PLACE))) == -1008
    await binance.fault("partial_fill", fraction="0.3", channel="trade")
    assert (await binance.market("BUY", "0.01")).body["executedQty"] == "0.010"
    answer = await ask(socket, "order.place", binance.named({**PLACE, "newOrderRespType": "RESULT"}))
    assert answer["result"]["executedQty"] == "0.003"
    await binance.fault("rate_limit", channel="trade", times=1)
    assert (await binance.market("BUY", "0.01")).status == 200
    limited = await ask(socket, "order.place", binance.named(PLACE))
    assert (limited["status"], code(limited)) == (429, -1003)


async def test_maintenance_refuses_requests_and_links(binance: BinanceClient, socket: Stream) -> None:
    await binance.fault("maintenance")
    assert (await ask(socket, "order.place", binance.named(PLACE)))["status"] == 503
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await binance.orders()
    assert refused.value.status == 503


async def test_a_ban_holds_here_too(binance: BinanceClient, socket: Stream) -> None:
    await binance.fault("ip_ban", seconds=60)
    answer = await ask(socket, "time")
    assert (answer["status"], code(answer)) == (418, -1003)
    assert "banned until" in answer["error"]["msg"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await binance.orders()
    assert refused.value.status == 418


async def test_a_silent_socket_executes_and_says_nothing(binance: BinanceClient, socket: Stream) -> None:
    user = await binance.user_data()
    fault = await binance.fault("silent_socket", channel="trade")
    await send(socket, "order.place", binance.named(PLACE), "unheard")
    await user.order("FILLED")  # the other sockets go on
    async with binance.session.delete(f"{binance.url}/control/faults/{fault}"):
        pass
    assert (await ask(socket, "time", number="heard"))["id"] == "heard"
    await user.link.close()


async def test_cutting_this_socket_leaves_the_others(binance: BinanceClient) -> None:
    socket, user = await binance.orders(), await binance.user_data()
    await binance.fault("cut_socket", channel="trade", seconds=60)
    assert await socket.ended()
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await binance.orders()
    await binance.market("BUY", "0.01")
    await user.order("FILLED")
    await user.link.close()


# --- the link


async def test_the_exchange_pings_and_ends_a_link_that_is_old(binance: BinanceClient) -> None:
    await binance.control("binance", ping_interval_s=0.05)
    socket = await binance.socket("/ws-fapi/v1", autoping=False)
    ping = await socket.link.receive()
    assert ping.type is aiohttp.WSMsgType.PING
    await socket.link.close()
    await binance.control("binance", ping_interval_s=180, order_link_s=0.05)
    assert await (await binance.orders()).ended()


async def test_a_client_may_ping_but_not_too_often(binance: BinanceClient) -> None:
    socket = await binance.socket("/ws-fapi/v1", autoping=False)
    await socket.link.ping(b"hello")
    pong = await socket.link.receive()
    assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"hello")
    for _ in range(6):
        await socket.link.ping()
    assert await socket.ended()


async def test_handshakes_weigh(binance: BinanceClient) -> None:
    await binance.control("binance", limits={"enforced": True, "weight_1m": 5})
    socket = await binance.orders()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await binance.orders()
    assert refused.value.status == 429
    await socket.link.close()


# --- the usual library


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_python_binance_places_asks_and_cancels(binance: BinanceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReconnectingWebsocket, "TIMEOUT", 0.5)  # it waits for its own reader when it closes
    client = AsyncClient(KEY, SECRET)
    client.ws_future = WebsocketAPI(url=binance.url.replace("http", "ws") + "/ws-fapi/v1")
    try:
        placed = await client.ws_futures_create_order(**RESTING, newClientOrderId="lib")
        assert (placed["status"], placed["clientOrderId"]) == ("NEW", "lib")
        which = {"symbol": "BTCUSDT", "origClientOrderId": "lib"}
        assert (await client.ws_futures_get_order(**which))["orderId"] == placed["orderId"]
        with pytest.raises(BinanceAPIException) as refused:
            await client.ws_futures_create_order(**RESTING, newClientOrderId="lib")
        assert refused.value.code == -4116
        assert (await client.ws_futures_cancel_order(**which))["status"] == "CANCELED"
    finally:
        await client.close_connection()
