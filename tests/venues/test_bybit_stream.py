"""The sockets against a scripted server: kept for ever, in order, and never killed by a frame or a callback."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.keys import Credentials
from app.venues.base import Trade
from app.venues.bybit_stream import Bounds, BybitPrivateStream, BybitPublicStream
from tests.venues.bybit_server import CREDENTIALS, KEY, SECRET, SocketServer, rsa_verifier, socket_server

T = TypeVar("T")

QUICK = Bounds(
    ping_s=0.1, silence_s=0.05, connect_s=2.0, answer_s=0.1, pause_min_s=0.01, pause_max_s=0.05, refused_pause_s=0.01
)
PATIENT = Bounds(pause_min_s=0.01, pause_max_s=0.05)


@pytest.fixture
async def server() -> AsyncIterator[SocketServer]:
    async with socket_server() as server:
        yield server


class Public:
    """A running public stream and what it told."""

    def __init__(self, origin: str, bounds: Bounds) -> None:
        self.trades: asyncio.Queue[list[Trade]] = asyncio.Queue()
        self.links: asyncio.Queue[bool] = asyncio.Queue()
        self.fails = False
        self.stream = BybitPublicStream(origin, self._on_trades, self._on_link, bounds=bounds)

    def _on_trades(self, trades: Sequence[Trade]) -> None:
        if self.fails:
            self.fails = False
            raise RuntimeError("a bug of the caller's")
        self.trades.put_nowait(list(trades))

    def _on_link(self, up: bool) -> None:
        self.links.put_nowait(up)
        if self.fails:
            raise RuntimeError("a bug of the caller's")


@asynccontextmanager
async def public(server: SocketServer, symbols: set[str], bounds: Bounds = PATIENT) -> AsyncIterator[Public]:
    public = Public(server.origin, bounds)
    public.stream.want(symbols)
    async with _running(public.stream.run):
        yield public


@asynccontextmanager
async def private(
    server: SocketServer, bounds: Bounds = PATIENT, credentials: Credentials = CREDENTIALS
) -> AsyncIterator[asyncio.Queue[str]]:
    changes: asyncio.Queue[str] = asyncio.Queue()
    stream = BybitPrivateStream(server.origin, credentials, changes.put_nowait, bounds=bounds)
    async with _running(stream.run):
        yield changes


@asynccontextmanager
async def _running(run: Callable[[], Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def soon(queue: asyncio.Queue[T]) -> T:
    return await asyncio.wait_for(queue.get(), 5)


def row(number: int, price: Any = "64000.5", symbol: str = "BTCUSDT", **changes: Any) -> dict[str, Any]:
    fields = {"T": 1772366400000 + number, "s": symbol, "S": "Buy", "v": "0.1", "p": price, "i": f"t{number}"}
    return fields | {"L": "PlusTick", "BT": False, "seq": number} | changes


def trades_frame(*rows: dict[str, Any], symbol: str = "BTCUSDT") -> dict[str, Any]:
    return {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": 1772366400000, "data": list(rows)}


# public


async def test_trades_of_a_frame_come_in_one_call_and_in_order(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}) as it:
        assert await soon(it.links) is True
        before = time.monotonic()
        await server.send(trades_frame(*(row(n) for n in range(50))))
        trades = await soon(it.trades)
        assert [trade.trade_id for trade in trades] == [f"t{n}" for n in range(50)]
        first = trades[0]
        assert (first.symbol, first.price, first.at_ms) == ("BTCUSDT", Decimal("64000.5"), 1772366400000)
        assert before <= it.stream.last_frame_monotonic <= time.monotonic()


async def test_each_symbol_is_subscribed_by_itself(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT", "ETHUSDT"}) as it:
        assert await soon(it.links) is True
        first, second = await soon(server.operations), await soon(server.operations)
        assert [first["args"], second["args"]] == [["publicTrade.BTCUSDT"], ["publicTrade.ETHUSDT"]]
        assert server.pings == 1  # the first goes out at once


async def test_wanting_more_or_less_changes_a_link_that_is_up(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}) as it:
        assert await soon(it.links) is True
        await server.subscribed(1)
        it.stream.want({"ETHUSDT"})
        added, removed = await soon(server.operations), await soon(server.operations)
        assert (added["op"], added["args"]) == ("subscribe", ["publicTrade.ETHUSDT"])
        assert (removed["op"], removed["args"]) == ("unsubscribe", ["publicTrade.BTCUSDT"])
        assert it.links.empty()


async def test_nothing_wanted_is_a_link_that_is_up(server: SocketServer) -> None:
    async with public(server, set()) as it:
        assert await soon(it.links) is True


@pytest.mark.parametrize("politely", [False, True])
async def test_a_lost_link_comes_back_with_what_is_wanted(server: SocketServer, politely: bool) -> None:
    async with public(server, {"BTCUSDT", "ETHUSDT"}) as it:
        assert await soon(it.links) is True
        await server.subscribed(2)
        for _ in range(3):
            if politely:
                await server.close_politely()
            else:
                server.cut()
            assert await soon(it.links) is False
            it.stream.want({"BTCUSDT", "SOLUSDT"})
            assert await soon(it.links) is True
            assert await server.subscribed(2) == ["publicTrade.BTCUSDT", "publicTrade.SOLUSDT"]
        assert it.links.empty()
        assert server.connections == 4
        await server.send(trades_frame(row(1)))
        assert [trade.trade_id for trade in await soon(it.trades)] == ["t1"]


async def test_a_server_that_is_not_there_is_asked_for_ever() -> None:
    async with socket_server() as server:
        origin = server.origin
    it = Public(origin, QUICK)
    it.stream.want({"BTCUSDT"})
    async with _running(it.stream.run):
        await asyncio.sleep(0.2)
    assert it.links.empty()


async def test_a_link_that_falls_silent_is_left(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}, QUICK) as it:
        assert await soon(it.links) is True
        server.muted = True
        assert await soon(it.links) is False
        server.muted = False
        assert await soon(it.links) is True


async def test_pongs_keep_a_quiet_link(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}, QUICK) as it:
        assert await soon(it.links) is True
        async with asyncio.timeout(5):
            while server.pings < 4:  # noqa: ASYNC110  # the server counts, nothing tells
                await asyncio.sleep(0.01)
        assert it.links.empty()
        assert server.connections == 1


async def test_a_refused_symbol_does_not_hurt_the_rest(server: SocketServer, caplog: pytest.LogCaptureFixture) -> None:
    server.refused_topics = {"publicTrade.NOPE"}
    async with public(server, {"BTCUSDT", "NOPE"}) as it:
        assert await soon(it.links) is True
        await server.send(trades_frame(row(1)))
        assert [trade.trade_id for trade in await soon(it.trades)] == ["t1"]
    assert [record.getMessage() for record in caplog.records].count("subscription refused") == 1


async def test_acknowledgements_without_an_id_delay_the_link_and_data_confirms_it(server: SocketServer) -> None:
    server.with_req_id = False
    async with public(server, {"BTCUSDT"}) as it:
        await server.subscribed(1)
        assert it.links.empty()
        await server.send(trades_frame(row(1)))
        assert await soon(it.links) is True


async def test_a_link_counts_as_up_when_acknowledgements_do_not_come(server: SocketServer) -> None:
    server.with_req_id = False
    async with public(server, {"BTCUSDT"}, QUICK) as it:
        assert await soon(it.links) is True


@pytest.mark.parametrize(
    "frame",
    [
        "not json at all",
        "[1,2]",
        '{"topic":"publicTrade.BTCUSDT","data":null}',
        '{"topic":"publicTrade.BTCUSDT","data":{"p":"1"}}',
        '{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT"}}',
        '{"op":"something","news":true}',
        '{"success":null,"op":"subscribe","req_id":null}',
        "",
    ],
)
async def test_a_bad_frame_is_skipped_and_told_once(
    server: SocketServer, caplog: pytest.LogCaptureFixture, frame: str
) -> None:
    caplog.set_level(logging.WARNING)
    async with public(server, {"BTCUSDT"}) as it:
        assert await soon(it.links) is True
        for _ in range(3):
            await server.send(frame)
        await server.send(trades_frame(row(1)))
        assert [trade.trade_id for trade in await soon(it.trades)] == ["t1"]
        assert it.links.empty()
        skipped = [record for record in caplog.records if "frame skipped" in record.getMessage()]
        assert len(skipped) <= 1


@pytest.mark.parametrize("price", ["0", "0.00", "-1", "NaN", "sNaN", "Infinity", "", "x", None])
async def test_a_trade_without_a_price_above_zero_is_dropped(server: SocketServer, price: Any) -> None:
    async with public(server, {"BTCUSDT"}) as it:
        assert await soon(it.links) is True
        await server.send(trades_frame(row(1), row(2, price), row(3)))
        assert [trade.trade_id for trade in await soon(it.trades)] == ["t1", "t3"]
        assert it.stream.dropped == 1


async def test_a_failing_callback_does_not_kill_the_link(
    server: SocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with public(server, {"BTCUSDT"}) as it:
        assert await soon(it.links) is True
        it.fails = True
        await server.send(trades_frame(row(1)))
        await server.send(trades_frame(row(2)))
        assert [trade.trade_id for trade in await soon(it.trades)] == ["t2"]
        it.fails = True
        server.cut()
        assert await soon(it.links) is False
        assert await soon(it.links) is True
    assert "a callback of the public stream failed" in caplog.text


# private


async def test_the_private_stream_signs_in_and_says_that_anything_may_have_changed(server: SocketServer) -> None:
    async with private(server) as changes:
        auth = await soon(server.operations)
        key, expires_ms, signature = auth["args"]
        text = f"GET/realtime{expires_ms}".encode()
        assert key == KEY
        assert signature == hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
        assert 5_000 < expires_ms - time.time() * 1000 <= 10_000
        assert await server.subscribed(1) == ["order", "execution", "position"]
        assert await soon(changes) == ""


async def test_an_rsa_key_signs_in(server: SocketServer) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    async with private(server, credentials=Credentials(api_key=KEY, private_key=pem)):
        _, expires_ms, signature = (await soon(server.operations))["args"]
        assert rsa_verifier(key.public_key())(f"GET/realtime{expires_ms}".encode(), signature)


async def test_changes_name_each_symbol_of_a_frame_once(server: SocketServer) -> None:
    def frame(topic: str, *rows: tuple[str, str]) -> dict[str, Any]:
        data = [{"symbol": symbol, "category": category, "tpslMode": "UNKNOWN"} for symbol, category in rows]
        return {"id": "x", "topic": topic, "creationTime": 1, "data": data}

    async with private(server) as changes:
        assert await soon(changes) == ""
        await server.send(frame("execution", ("BTCUSDT", "linear"), ("BTCUSDT", "linear"), ("ETHUSDT", "linear")))
        await server.send(frame("order", ("BTCUSDT", "spot"), ("BTCUSD", "inverse")))
        await server.send(frame("wallet", ("", "")))
        await server.send("not json at all")
        await server.send(frame("position", ("SOLUSDT", "linear")))
        assert [await soon(changes) for _ in range(3)] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


async def test_the_private_stream_comes_back_and_says_so(server: SocketServer) -> None:
    async with private(server) as changes:
        assert await soon(changes) == ""
        server.cut()
        assert await soon(changes) == ""
        assert server.connections == 2


async def test_a_refused_key_is_told_and_tried_again_later(
    server: SocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.auth_refusal = "Params Error"
    async with private(server, QUICK) as changes:
        await soon(server.operations)
        await soon(server.operations)
        assert changes.empty()
        server.auth_refusal = None
        assert await soon(changes) == ""
    lost = [record for record in caplog.records if record.getMessage() == "stream lost"]
    assert "the key was refused: Params Error" in str(vars(lost[0]))
    assert KEY not in caplog.text


async def test_a_sign_in_without_an_answer_is_repeated(server: SocketServer) -> None:
    server.muted = True
    async with private(server, QUICK) as changes:
        await soon(server.operations)
        await soon(server.operations)
        server.muted = False
        assert await soon(changes) == ""
