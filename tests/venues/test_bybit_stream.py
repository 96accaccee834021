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

from app.domain.order import PositionSide, Side
from app.domain.position import Fill, FillOrigin
from app.keys import Credentials
from app.venues.base import Topic, Trade
from app.venues.bybit.stream import BybitPrivateStream, BybitPublicStream
from app.venues.link import Bounds
from tests.venues.bybit_server import SocketServer, socket_server
from tests.venues.scripted import CREDENTIALS, KEY, SECRET, key_verifier

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
    """A listener, and the running stream that it listens to."""

    def __init__(self, origin: str, bounds: Bounds) -> None:
        self.trades: asyncio.Queue[list[Trade]] = asyncio.Queue()
        self.marks: asyncio.Queue[tuple[str, Decimal, int]] = asyncio.Queue()
        self.books: asyncio.Queue[tuple[str, Decimal | None, Decimal | None, int]] = asyncio.Queue()
        self.links: asyncio.Queue[bool] = asyncio.Queue()
        self.fails = False
        self.stream = BybitPublicStream(origin, self, bounds=bounds)

    def on_trades(self, trades: Sequence[Trade]) -> None:
        if self.fails:
            self.fails = False
            raise RuntimeError("a bug of the caller's")
        self.trades.put_nowait(list(trades))

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.marks.put_nowait((symbol, price, at_ms))

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        self.books.put_nowait((symbol, bid, ask, at_ms))

    def on_link(self, up: bool) -> None:
        self.links.put_nowait(up)
        if self.fails:
            raise RuntimeError("a bug of the caller's")


class Private:
    def __init__(self) -> None:
        self.fills: asyncio.Queue[list[Fill]] = asyncio.Queue()
        self.changes: asyncio.Queue[str] = asyncio.Queue()

    def on_fills(self, fills: Sequence[Fill]) -> None:
        self.fills.put_nowait(list(fills))

    def on_change(self, symbol: str) -> None:
        self.changes.put_nowait(symbol)


def topics(symbols: set[str], *of_each: Topic) -> dict[str, frozenset[Topic]]:
    return {symbol: frozenset(of_each or {Topic.TRADES}) for symbol in symbols}


@asynccontextmanager
async def public(
    server: SocketServer, symbols: set[str], bounds: Bounds = PATIENT, of_each: tuple[Topic, ...] = ()
) -> AsyncIterator[Public]:
    public = Public(server.origin, bounds)
    public.stream.want(topics(symbols, *of_each))
    async with _running(public.stream.run):
        yield public


@asynccontextmanager
async def private(
    server: SocketServer, bounds: Bounds = PATIENT, credentials: Credentials = CREDENTIALS
) -> AsyncIterator[Private]:
    listener = Private()
    stream = BybitPrivateStream(server.origin, credentials, listener, bounds=bounds)
    async with _running(stream.run):
        yield listener


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
        await server.send(trades_frame(*(row(n) for n in range(50))))
        trades = await soon(it.trades)
        assert [trade.trade_id for trade in trades] == [f"t{n}" for n in range(50)]
        first = trades[0]
        assert (first.symbol, first.price, first.at_ms) == ("BTCUSDT", Decimal("64000.5"), 1772366400000)


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
        it.stream.want(topics({"ETHUSDT"}))
        removed, added = await soon(server.operations), await soon(server.operations)
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
            it.stream.want(topics({"BTCUSDT", "SOLUSDT"}))
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
    it.stream.want(topics({"BTCUSDT"}))
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
    assert "a callback of the public-1 stream failed" in caplog.text


# tickers


def ticker(kind: str, cs: int, symbol: str = "BTCUSDT", **fields: Any) -> dict[str, Any]:
    data = {"symbol": symbol} | fields
    return {"topic": f"tickers.{symbol}", "type": kind, "data": data, "cs": cs, "ts": 1772366400000 + cs}


WHOLE = {"markPrice": "64000.25", "bid1Price": "63999.9", "ask1Price": "64000.1", "lastPrice": "64000", "bid1Size": "1"}


async def test_a_symbols_topics_are_asked_for_in_one_request(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}, of_each=(Topic.TRADES, Topic.MARK, Topic.BOOK)) as it:
        assert await soon(it.links) is True
        assert (await soon(server.operations))["args"] == ["publicTrade.BTCUSDT", "tickers.BTCUSDT"]


async def test_ticker_deltas_are_merged(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}, of_each=(Topic.MARK, Topic.BOOK)) as it:
        assert await soon(it.links) is True
        await server.send(ticker("delta", 7, markPrice="1", bid1Price="1"))  # before any snapshot: void
        await server.send(ticker("snapshot", 10, **WHOLE))
        assert await soon(it.marks) == ("BTCUSDT", Decimal("64000.25"), 1772366400010)
        assert await soon(it.books) == ("BTCUSDT", Decimal("63999.9"), Decimal("64000.1"), 1772366400010)
        await server.send(ticker("delta", 11, bid1Size="5", volume24h="3"))  # nothing of ours: nothing is told
        await server.send(ticker("delta", 12, ask1Price="64000.2"))
        assert await soon(it.books) == ("BTCUSDT", Decimal("63999.9"), Decimal("64000.2"), 1772366400012)
        await server.send(ticker("delta", 9, markPrice="2", bid1Price="2"))  # older than what was applied: void
        await server.send(ticker("delta", 12, bid1Price=""))
        assert await soon(it.books) == ("BTCUSDT", None, Decimal("64000.2"), 1772366400012)
        await server.send(ticker("delta", 13, markPrice="64001") | {"ts": "1772366400013"})
        assert await soon(it.marks) == ("BTCUSDT", Decimal(64001), 1772366400013)
        await server.send(ticker("snapshot", 2, markPrice="5", ask1Price="6"))  # the exchange restarted: all is new
        assert await soon(it.marks) == ("BTCUSDT", Decimal(5), 1772366400002)
        assert await soon(it.books) == ("BTCUSDT", None, Decimal(6), 1772366400002)
        await server.send(ticker("delta", 3, bid1Price="4"))
        assert await soon(it.books) == ("BTCUSDT", Decimal(4), Decimal(6), 1772366400003)
        assert it.marks.empty()


async def test_a_new_connection_waits_for_its_own_snapshot(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}, of_each=(Topic.MARK,)) as it:
        assert await soon(it.links) is True
        await server.send(ticker("snapshot", 10, **WHOLE))
        await soon(it.marks)
        server.cut()
        assert [await soon(it.links), await soon(it.links)] == [False, True]
        await server.send(ticker("delta", 11, markPrice="1"))
        await server.send(ticker("snapshot", 12, markPrice="2"))
        assert (await soon(it.marks))[1] == Decimal(2)
        assert it.books.empty()  # nobody wants it


async def test_what_is_known_is_told_to_who_wants_more(server: SocketServer) -> None:
    async with public(server, {"BTCUSDT"}, of_each=(Topic.MARK,)) as it:
        assert await soon(it.links) is True
        await server.send(ticker("snapshot", 10, **WHOLE))
        await soon(it.marks)
        await server.subscribed(1)
        it.stream.want(topics({"BTCUSDT"}, Topic.MARK, Topic.BOOK))
        assert (await soon(it.books))[1:3] == (Decimal("63999.9"), Decimal("64000.1"))
        it.stream.want(topics({"BTCUSDT"}, Topic.TRADES))
        it.stream.want(topics({"BTCUSDT"}, Topic.TRADES, Topic.MARK))
        asked = [await soon(server.operations) for _ in range(3)]
        assert [(one["op"], one["args"]) for one in asked] == [
            ("unsubscribe", ["tickers.BTCUSDT"]),
            ("subscribe", ["publicTrade.BTCUSDT"]),
            ("subscribe", ["tickers.BTCUSDT"]),
        ]
        while not it.marks.empty():
            it.marks.get_nowait()
        await server.send(ticker("delta", 11, markPrice="1"))  # of the old subscription
        await server.send(ticker("snapshot", 12, markPrice="2"))
        assert (await soon(it.marks))[1] == Decimal(2)


@pytest.mark.parametrize("price", ["", "0", "NaN", "x", None])
async def test_a_mark_price_that_is_none_is_not_told(server: SocketServer, price: str | None) -> None:
    async with public(server, {"BTCUSDT"}, of_each=(Topic.MARK, Topic.BOOK)) as it:
        assert await soon(it.links) is True
        await server.send(ticker("snapshot", 1, markPrice=price))
        await server.send(ticker("delta", 2, markPrice="3"))
        assert (await soon(it.marks))[1] == Decimal(3)
        assert (await soon(it.books))[1:3] == (None, None)


# many symbols


async def test_many_symbols_are_spread_over_links_that_count_as_one(server: SocketServer) -> None:
    symbols = {f"COIN{n}USDT" for n in range(450)}
    async with public(server, symbols, of_each=(Topic.TRADES, Topic.MARK)) as it:
        assert await soon(it.links) is True
        assert server.connections == 3
        asked = await server.subscribed(900)
        assert sorted(asked) == sorted(prefix + symbol for symbol in symbols for prefix in ("publicTrade.", "tickers."))
        server.cut(links=1)
        assert await soon(it.links) is False
        assert await soon(it.links) is True
        again = await server.subscribed(400)
        assert len(set(again)) == 400
        assert server.connections == 4
        it.stream.want(topics(symbols | {"NEWUSDT"}, Topic.TRADES, Topic.MARK))
        assert await server.subscribed(2) == ["publicTrade.NEWUSDT", "tickers.NEWUSDT"]
        assert server.connections == 4  # there was room
        it.stream.want(topics({"NEWUSDT"}, Topic.TRADES, Topic.MARK))
        await server.send(trades_frame(row(1, symbol="NEWUSDT"), symbol="NEWUSDT"))
        assert [trade.symbol for trade in await soon(it.trades)] == ["NEWUSDT"]
        assert it.links.empty()


async def test_no_link_is_asked_for_more_than_it_takes(server: SocketServer) -> None:
    symbols = {f"{'X' * 90}{n}USDT" for n in range(150)}
    async with public(server, symbols, of_each=(Topic.TRADES, Topic.MARK, Topic.BOOK)) as it:
        assert await soon(it.links) is True
        assert server.connections == 2
        assert len(await server.subscribed(300)) == 300
        assert max(server.args_chars.values()) <= 21_000


async def test_a_link_that_is_added_is_not_a_loss(server: SocketServer) -> None:
    async with public(server, {"AUSDT"}) as it:
        assert await soon(it.links) is True
        it.stream.want(topics({f"COIN{n}USDT" for n in range(250)} | {"AUSDT"}))
        await server.subscribed(251)
        assert server.connections == 2
        assert it.links.empty()


# private


async def test_the_private_stream_signs_in_and_says_that_anything_may_have_changed(server: SocketServer) -> None:
    async with private(server) as it:
        auth = await soon(server.operations)
        key, expires_ms, signature = auth["args"]
        text = f"GET/realtime{expires_ms}".encode()
        assert key == KEY
        assert signature == hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
        assert 5_000 < expires_ms - time.time() * 1000 <= 10_000
        assert await server.subscribed(1) == ["order", "execution", "position"]
        assert await soon(it.changes) == ""


async def test_an_rsa_key_signs_in(server: SocketServer) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    async with private(server, credentials=Credentials(api_key=KEY, private_key=pem)):
        _, expires_ms, signature = (await soon(server.operations))["args"]
        assert key_verifier(key.public_key())(f"GET/realtime{expires_ms}".encode(), signature)


async def test_changes_name_each_symbol_of_a_frame_once(server: SocketServer) -> None:
    def frame(topic: str, *rows: tuple[str, str]) -> dict[str, Any]:
        data = [{"symbol": symbol, "category": category, "tpslMode": "UNKNOWN"} for symbol, category in rows]
        return {"id": "x", "topic": topic, "creationTime": 1, "data": data}

    async with private(server) as it:
        assert await soon(it.changes) == ""
        await server.send(frame("position", ("BTCUSDT", "linear"), ("BTCUSDT", "linear"), ("ETHUSDT", "linear")))
        await server.send(frame("order", ("BTCUSDT", "spot"), ("BTCUSD", "inverse")))
        await server.send(frame("wallet", ("", "")))
        await server.send("not json at all")
        await server.send(frame("position", ("SOLUSDT", "linear")))
        assert [await soon(it.changes) for _ in range(3)] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


async def test_the_private_stream_comes_back_and_says_so(server: SocketServer) -> None:
    async with private(server) as it:
        assert await soon(it.changes) == ""
        server.cut()
        assert await soon(it.changes) == ""
        assert server.connections == 2


async def test_a_refused_key_is_told_and_tried_again_later(
    server: SocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.auth_refusal = "Params Error"
    async with private(server, QUICK) as it:
        await soon(server.operations)
        await soon(server.operations)
        assert it.changes.empty()
        server.auth_refusal = None
        assert await soon(it.changes) == ""
    lost = [record for record in caplog.records if record.getMessage() == "stream lost"]
    assert "the key was refused: Params Error" in str(vars(lost[0]))
    assert KEY not in caplog.text


async def test_a_sign_in_without_an_answer_is_repeated(server: SocketServer) -> None:
    server.muted = True
    async with private(server, QUICK) as it:
        await soon(server.operations)
        await soon(server.operations)
        server.muted = False
        assert await soon(it.changes) == ""


# executions


def executed(number: int, **changes: Any) -> dict[str, Any]:
    fields = {
        "category": "linear",
        "symbol": "BTCUSDT",
        "execId": f"e{number}",
        "orderId": "o-1",
        "orderLinkId": "lh-1",
        "side": "Buy",
        "execPrice": "64000.5",
        "execQty": "0.01",
        "closedSize": "0",
        "execFee": "-0.1",
        "feeCurrency": "",
        "execType": "Trade",
        "execTime": "1772366400001",
        "createType": "CreateByUser",
        "stopOrderType": "UNKNOWN",
        "extraFees": [],
        "seq": number,
    }
    return fields | changes


def execution_frame(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", "topic": "execution", "creationTime": 1, "data": list(rows)}


async def test_executions_become_fills(server: SocketServer) -> None:
    async with private(server) as it:
        assert await soon(it.changes) == ""
        await server.send(
            execution_frame(
                executed(1),
                executed(2, side="Sell", closedSize="0.01", execType="AdlTrade", orderLinkId="", extraFees=""),
                executed(3, execType="Funding"),
                executed(4, category="spot", closedSize=""),
                executed(5, execType="Settle"),
                executed(6, closedSize="0.004", execType="BustTrade"),
            )
        )
        first, second, third = await soon(it.fills)
        assert (first.venue_fill_id, first.venue_order_id, first.client_order_id) == ("e1", "o-1", "lh-1")
        assert (first.side, first.position_side, first.qty, first.price) == (
            Side.BUY,
            PositionSide.LONG,
            Decimal("0.01"),
            Decimal("64000.5"),
        )
        assert (first.fee, first.fee_currency, first.origin) == (Decimal("-0.1"), "USDT", FillOrigin.ORDER)
        assert (second.client_order_id, second.position_side) == (None, PositionSide.LONG)
        assert second.origin is FillOrigin.ADL
        assert (third.origin, third.position_side) == (FillOrigin.LIQUIDATION, PositionSide.SHORT)
        assert it.changes.empty()


@pytest.mark.parametrize("changes", [{"execPrice": ""}, {"side": "None"}, {"execQty": 5}, {"execTime": "soon"}])
async def test_an_execution_that_can_not_be_read_is_a_change_and_hides_no_other(
    server: SocketServer, changes: dict[str, Any]
) -> None:
    async with private(server) as it:
        assert await soon(it.changes) == ""
        await server.send(execution_frame(executed(1, symbol="ETHUSDT", **changes), executed(2)))
        assert await soon(it.changes) == "ETHUSDT"
        assert [fill.venue_fill_id for fill in await soon(it.fills)] == ["e2"]


async def test_a_frame_without_fills_tells_nothing(server: SocketServer) -> None:
    async with private(server) as it:
        assert await soon(it.changes) == ""
        await server.send(execution_frame(executed(1, execType="Funding")))
        await server.send(execution_frame(executed(2)))
        assert [fill.venue_fill_id for fill in await soon(it.fills)] == ["e2"]
        assert it.fills.empty()


async def test_the_sign_in_is_good_by_the_exchanges_clock(server: SocketServer) -> None:
    stream = BybitPrivateStream(server.origin, CREDENTIALS, Private(), now_ms=lambda: 5_000_000, bounds=PATIENT)
    async with _running(stream.run):
        assert (await soon(server.operations))["args"][1] == 5_010_000
