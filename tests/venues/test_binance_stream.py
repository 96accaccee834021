"""Binance's public sockets: routes, subscriptions, reconnects, frames."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from app.venues.base import Topic, Trade
from app.venues.binance import limits as binance_limits
from app.venues.binance import stream as binance_stream
from app.venues.binance.stream import BinancePublicStream
from app.venues.link import Bounds
from tests.venues.binance_server import SocketServer, socket_server

TRADES, MARK, BOOK = Topic.TRADES, Topic.MARK, Topic.BOOK
QUICK = Bounds(ping_s=5, silence_s=5, answer_s=5, pause_min_s=0.01, pause_max_s=0.05)


class Listener:
    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.links: asyncio.Queue[bool] = asyncio.Queue()

    def on_trades(self, trades: Sequence[Trade]) -> None:
        for trade in trades:
            self.heard.put_nowait(trade)

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.heard.put_nowait(("mark", symbol, price, at_ms))

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        self.heard.put_nowait(("book", symbol, bid, ask, at_ms))

    def on_link(self, up: bool) -> None:
        self.links.put_nowait(up)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.heard.get(), 5)

    async def until_up(self) -> list[bool]:
        """What was told until everything is linked."""
        told: list[bool] = []
        while not told or not told[-1]:
            told.append(await asyncio.wait_for(self.links.get(), 5))
        return told


@pytest.fixture
async def server() -> AsyncIterator[SocketServer]:
    async with socket_server() as server:
        yield server


@pytest.fixture
def listener() -> Listener:
    return Listener()


@asynccontextmanager
async def running(
    server: SocketServer, listener: Listener, topics: dict[str, set[Topic]], bounds: Bounds = QUICK
) -> AsyncIterator[BinancePublicStream]:
    stream = BinancePublicStream(server.origin, listener, bounds=bounds)
    stream.want(wanting(topics))
    task = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def wanting(topics: dict[str, set[Topic]]) -> dict[str, frozenset[Topic]]:
    return {symbol: frozenset(of_symbol) for symbol, of_symbol in topics.items()}


def agg_trade(price: str = "76968.30", **changes: Any) -> dict[str, Any]:
    frame = {"e": "aggTrade", "E": 20, "a": 309896910, "s": "BTCUSDT", "p": price, "q": "1", "nq": "1", "f": 1, "l": 2}
    return frame | {"T": 10, "m": False, "st": 1} | changes


def book(number: int, bid: str = "1.5", ask: str = "1.6") -> dict[str, Any]:
    frame = {"e": "bookTicker", "u": number, "s": "BTCUSDT", "ps": "BTCUSDT", "b": bid, "B": "9", "a": ask, "A": "8"}
    return frame | {"T": 30, "E": 31, "st": 1}


async def test_each_stream_goes_to_its_route(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {TRADES, MARK, BOOK}, "1000PEPEUSDT": {TRADES}}):
        assert await listener.until_up() == [True]
        assert {await server.next_path(), await server.next_path()} == {
            "/market/ws/1000pepeusdt@aggTrade/btcusdt@aggTrade/btcusdt@markPrice@1s",
            "/public/ws/btcusdt@bookTicker",
        }


async def test_frames_become_values_of_ours(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {TRADES, MARK, BOOK}}):
        await listener.until_up()
        await server.send(agg_trade(), "market")
        assert await listener.next() == Trade(
            symbol="BTCUSDT", trade_id="309896910", price=Decimal("76968.30"), at_ms=10
        )
        mark = {"e": "markPriceUpdate", "E": 40, "s": "BTCUSDT", "p": "83018.14569565", "P": "1", "i": "2", "r": ""}
        await server.send(mark | {"T": 99}, "market")
        assert await listener.next() == ("mark", "BTCUSDT", Decimal("83018.14569565"), 40)
        await server.send(book(1), "public")
        assert await listener.next() == ("book", "BTCUSDT", Decimal("1.5"), Decimal("1.6"), 30)
        await server.send({"stream": "btcusdt@aggTrade", "data": agg_trade("5")}, "market")
        assert (await listener.next()).price == 5


async def test_book_frames_keep_their_order_and_an_empty_side_is_none(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {BOOK}}):
        await listener.until_up()
        for frame in (book(5, "1"), book(4, "2"), book(5, "3"), book(6, "0.00"), book(7, "4", "0")):
            await server.send(frame)
        assert [(await listener.next())[2:4] for _ in range(3)] == [
            (Decimal(1), Decimal("1.6")),
            (None, Decimal("1.6")),
            (Decimal(4), None),
        ]


async def test_what_can_t_be_used_is_left_out_and_the_rest_goes_on(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {TRADES}}) as stream:
        await listener.until_up()
        for frame in (
            "not json",
            "[]",
            agg_trade("0"),
            agg_trade("-5"),
            agg_trade("NaN"),
            agg_trade(""),
            agg_trade(T="soon"),
            {"e": "trade", "s": "BTCUSDT"},
            {"e": "somethingNew", "x": [1]},
            {"result": None, "id": 99},
        ):
            await server.send(frame)
        await server.send(agg_trade("7"))
        assert (await listener.next()).price == 7
        assert stream.dropped == 5


async def test_wishes_change_while_linked(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {TRADES}}) as stream:
        await listener.until_up()
        stream.want(wanting({"BTCUSDT": {TRADES, MARK}, "ETHUSDT": {TRADES}}))
        asked = await server.next_request()
        assert asked["method"] == "SUBSCRIBE"
        assert asked["params"] == ["btcusdt@markPrice@1s", "ethusdt@aggTrade"]
        stream.want(wanting({"ETHUSDT": {TRADES}}))
        asked = await server.next_request()
        assert (asked["method"], asked["params"]) == ("UNSUBSCRIBE", ["btcusdt@aggTrade", "btcusdt@markPrice@1s"])
        await server.next_path()
        server.cut()
        assert await server.next_path() == "/market/ws/ethusdt@aggTrade"
        assert await listener.until_up() == [False, True]


async def test_many_wishes_are_few_messages(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {TRADES}}) as stream:
        await listener.until_up()
        wishes: dict[str, set[Topic]] = {"BTCUSDT": {TRADES}}
        for number in range(50):
            wishes[f"C{number:02}USDT"] = {TRADES}
            stream.want(wanting(wishes))
            await asyncio.sleep(0)
        asked: list[str] = []
        messages = 0
        while len(asked) < 50:
            asked += (await server.next_request())["params"]
            messages += 1
        assert sorted(asked) == [f"c{number:02}usdt@aggTrade" for number in range(50)]
        assert messages <= 2


async def test_streams_are_spread_over_links(
    server: SocketServer, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance_stream, "STREAMS_MAX", 2)
    wishes: dict[str, set[Topic]] = {f"C{number}USDT": {TRADES} for number in range(5)}
    async with running(server, listener, wishes) as stream:
        assert (await listener.until_up())[-1] is True
        paths = [await server.next_path() for _ in range(3)]
        assert sorted(name for path in paths for name in path.split("/")[3:]) == [
            f"c{number}usdt@aggTrade" for number in range(5)
        ]
        stream.want(wanting(wishes | {"C5USDT": {TRADES}, "C6USDT": {TRADES}}))
        assert (await server.next_request())["params"] == ["c5usdt@aggTrade"]
        assert await server.next_path() == "/market/ws/c6usdt@aggTrade"


async def test_a_lost_link_is_told_once_and_everything_is_restored(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {"BTCUSDT": {TRADES, BOOK}}):
        await listener.until_up()
        first = {await server.next_path(), await server.next_path()}
        server.cut()
        assert await listener.until_up() == [False, True]
        assert {await server.next_path(), await server.next_path()} == first
        await server.send(agg_trade(), "market")
        assert (await listener.next()).symbol == "BTCUSDT"


async def test_a_server_that_is_away_is_tried_for_ever(server: SocketServer, listener: Listener) -> None:
    server.turns_away = True
    async with running(server, listener, {"BTCUSDT": {TRADES}}):
        for _ in range(3):
            await asyncio.wait_for(server.turned_away.get(), 5)
        server.turns_away = False
        assert await listener.until_up() == [True]


async def test_a_link_that_falls_silent_is_made_anew(server: SocketServer, listener: Listener) -> None:
    server.muted = True  # not even a pong
    bounds = Bounds(ping_s=0.05, silence_s=0.05, pause_min_s=0.01, pause_max_s=0.02)
    async with running(server, listener, {"BTCUSDT": {TRADES}}, bounds):
        await server.next_path()
        await server.next_path()
        server.muted = False
        told = [await listener.links.get() for _ in range(3)]
        assert False in told


async def test_a_subscription_without_an_answer_makes_the_link_anew(server: SocketServer, listener: Listener) -> None:
    bounds = Bounds(ping_s=60, silence_s=30, answer_s=0.05, pause_min_s=0.01, pause_max_s=0.02)
    async with running(server, listener, {"BTCUSDT": {TRADES}}, bounds) as stream:
        await server.next_path()
        await listener.until_up()
        server.muted = True
        stream.want(wanting({"BTCUSDT": {TRADES}, "ETHUSDT": {TRADES}}))
        assert await server.next_path() == "/market/ws/btcusdt@aggTrade/ethusdt@aggTrade"


async def test_a_refused_subscription_ends_nothing(
    server: SocketServer, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused = "Invalid request: invalid stream"
    async with running(server, listener, {"BTCUSDT": {TRADES}}) as stream:
        await listener.until_up()
        stream.want(wanting({"BTCUSDT": {TRADES}, "币USDT": {TRADES}}))
        assert (await server.next_request())["params"] == ["币usdt@aggTrade"]
        await server.send(agg_trade())
        await listener.next()
    assert "subscription refused" in caplog.text


async def test_a_failing_listener_ends_nothing(server: SocketServer) -> None:
    class Failing(Listener):
        def on_trades(self, trades: Sequence[Trade]) -> None:
            super().on_trades(trades)
            raise RuntimeError("a bug")

    listener = Failing()
    async with running(server, listener, {"BTCUSDT": {TRADES}}):
        await listener.until_up()
        await server.send(agg_trade("1"))
        await server.send(agg_trade("2"))
        assert [(await listener.next()).price for _ in range(2)] == [1, 2]


async def test_without_a_wish_there_is_no_connection(server: SocketServer, listener: Listener) -> None:
    async with running(server, listener, {}) as stream:
        stream.want(wanting({"BTCUSDT": {TRADES}}))
        assert await listener.until_up() == [True]
        assert await server.next_path() == "/market/ws/btcusdt@aggTrade"
        stream.want({})
        assert (await server.next_request())["method"] == "UNSUBSCRIBE"
        server.cut()
        assert await listener.until_up() == [False, True]  # all of nothing is linked
        assert server.opened.empty()
        stream.want(wanting({"ETHUSDT": {TRADES}}))
        assert await server.next_path() == "/market/ws/ethusdt@aggTrade"
        assert await listener.until_up() == [False, True]


async def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_limits, "ATTEMPTS_MAX", 2)
    attempts = binance_limits.Attempts()
    await attempts.take()
    await attempts.take()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(attempts.take(), 0.01)
    monkeypatch.setattr(binance_limits, "ATTEMPTS_WINDOW_S", 0.0)
    await asyncio.wait_for(attempts.take(), 5)
