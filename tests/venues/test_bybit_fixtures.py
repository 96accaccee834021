"""Everything that was recorded of Bybit is read: `LEVELHEAD_SHARED_EXCHANGES` names the folder of `fixtures/bybit`."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.domain.order import PositionMode, PositionSide
from app.domain.position import Fill
from app.venues.base import Topic, Trade
from app.venues.bybit import rows as bybit_rows
from app.venues.bybit import wire
from app.venues.bybit.codes import CODES, kind_of, kind_of_status
from app.venues.bybit.limits import limit_of
from app.venues.bybit.stream import BybitPrivateStream, BybitPublicStream
from app.venues.kinds import Kind
from tests.venues.bybit_server import SocketServer, socket_server
from tests.venues.scripted import CREDENTIALS

SHARED = os.environ.get("LEVELHEAD_SHARED_EXCHANGES", "")
FIXTURES = Path(SHARED) / "fixtures" / "bybit"
REST = sorted((FIXTURES / "rest").glob("*.json")) if SHARED else []
ERRORS = sorted((FIXTURES / "rest" / "errors").glob("*.json")) if SHARED else []
FRAMES = sorted((FIXTURES / "ws").glob("*.json")) if SHARED else []
NOT_BODIES = ("http_level_failures", "rate_limit_headers")

pytestmark = pytest.mark.skipif(not SHARED, reason="LEVELHEAD_SHARED_EXCHANGES is not set")


def name(path: Path) -> str:
    return path.stem


def read(path: Path) -> list[Any]:
    """Everything that our decoders and conversions make of an answer."""
    envelope = wire.ENVELOPE.decode(path.read_bytes())
    match path.stem.split("_"):
        case ["instruments", *_] if envelope.retCode == 0:
            return [bybit_rows.instrument(row, 0) for row in wire.INSTRUMENTS.decode(envelope.result).list]
        case ["position", *_]:
            rows = wire.POSITIONS.decode(envelope.result).list
            symbols = {row.symbol for row in rows}
            return [bybit_rows.standing(s, [row for row in rows if row.symbol == s], None) for s in symbols]
        case ["order", "realtime" | "history", *_]:
            orders = wire.ORDERS.decode(envelope.result).list
            return [(bybit_rows.report(row, "lh"), bybit_rows.resting_stop(row)) for row in orders]
        case ["order", "create"]:
            return [wire.PLACED.decode(envelope.result).orderId]
        case ["execution", *_]:
            rows_ = wire.EXECUTIONS.decode(envelope.result).list
            return [bybit_rows.fill(row) for row in rows_ if row.execType in bybit_rows.POSITION_CHANGING]
        case ["wallet", *_]:
            return [bybit_rows.equity(row) for row in wire.WALLETS.decode(envelope.result).list]
        case ["account", "info"]:
            return [wire.ACCOUNT_INFO.decode(envelope.result)]
        case ["kline", *_]:
            return [bybit_rows.candle(row) for row in wire.CANDLES.decode(envelope.result).list]
        case ["tickers", *_]:
            return list(wire.TICKERS.decode(envelope.result).list)
        case _:
            return [envelope]


def test_there_is_something() -> None:
    assert len(REST) > 30
    assert len(ERRORS) > 30
    assert len(FRAMES) > 25


@pytest.mark.parametrize("path", [path for path in REST if path.stem not in NOT_BODIES], ids=name)
def test_every_answer_is_read_whole(path: Path) -> None:
    rows: list[Any] = (json.loads(path.read_bytes()).get("result") or {}).get("list") or []
    found = read(path)
    if path.stem.startswith("execution"):
        rows = [row for row in rows if row["execType"] in ("Trade", "AdlTrade", "BustTrade")]
    if rows and not path.stem.startswith("position") and path.stem not in ("closed_pnl", "fee_rate"):
        expected = len(rows) if len(found) > 1 or len(rows) == 1 else 1
        assert len(found) == expected


@pytest.mark.parametrize("path", ERRORS, ids=name)
def test_every_error_has_its_class(path: Path) -> None:
    envelope = wire.ENVELOPE.decode(path.read_bytes())
    assert str(envelope.retCode) == path.stem.split("_")[0]
    assert envelope.retCode in CODES


def test_failures_below_the_envelope() -> None:
    found = [
        (one["status"], kind_of_status(one["status"]))
        for one in json.loads((FIXTURES / "rest" / "http_level_failures.json").read_bytes())
    ]
    assert set(found) == {(403, Kind.RATE), (429, Kind.RATE), (502, Kind.UNKNOWN)}
    assert kind_of(110072) is Kind.DUPLICATE


def test_limit_headers() -> None:
    headers = json.loads((FIXTURES / "rest" / "rate_limit_headers.json").read_bytes())
    found = limit_of(headers, int(headers["X-Bapi-Limit-Reset-Timestamp"]), exceeded=False)
    assert found is not None
    assert found.share == pytest.approx(0.1)


def test_positions_of_each_mode() -> None:
    modes = {path.stem: [one.position_mode for one in read(path)] for path in REST if path.stem.startswith("position")}
    for stem, found in modes.items():
        expected = PositionMode.HEDGE if "hedge" in stem else PositionMode.ONE_WAY
        assert set(found) == {expected}, stem
    [hedge] = read(FIXTURES / "rest" / "position_list_hedge_both_open.json")
    assert {held.side for held in hedge.holdings} == {PositionSide.LONG, PositionSide.SHORT}


# sockets


class Heard:
    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.marks: list[Decimal] = []
        self.books: list[tuple[Decimal | None, Decimal | None]] = []
        self.fills: list[Fill] = []
        self.changes: asyncio.Queue[str] = asyncio.Queue()
        self.links: asyncio.Queue[bool] = asyncio.Queue()

    def on_trades(self, trades: Sequence[Trade]) -> None:
        self.trades += trades
        if trades[-1].trade_id == "last":
            self.changes.put_nowait("last")

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.marks.append(price)

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        self.books.append((bid, ask))

    def on_link(self, up: bool) -> None:
        self.links.put_nowait(up)

    def on_fills(self, fills: Sequence[Fill]) -> None:
        self.fills += fills

    def on_change(self, symbol: str) -> None:
        self.changes.put_nowait(symbol)


@pytest.fixture
async def server() -> AsyncIterator[SocketServer]:
    async with socket_server() as server:
        yield server


def frames_of(path: Path) -> list[dict[str, Any]]:
    body = json.loads(path.read_bytes())
    return body if isinstance(body, list) else [body]


def merged(frames: list[dict[str, Any]], field: str) -> list[str]:
    """The values of a field as they were told, by the documented rule."""
    told, whole, cs = [], False, 0
    for frame in frames:
        if frame["type"] == "snapshot":
            whole = True
        elif not whole or frame["cs"] < cs:
            continue
        cs = frame["cs"]
        if field in frame["data"]:
            told.append(frame["data"][field])
    return told


@pytest.mark.parametrize("path", FRAMES, ids=name)
async def test_every_public_frame_is_survived_and_none_of_ours_is_lost(server: SocketServer, path: Path) -> None:
    heard, frames = Heard(), frames_of(path)
    symbols = {frame["topic"].rsplit(".", 1)[1] for frame in frames if "." in frame.get("topic", "")} | {"LASTUSDT"}
    stream = BybitPublicStream(server.origin, heard)
    stream.want({symbol: frozenset(Topic) for symbol in symbols})
    task = asyncio.create_task(stream.run())
    assert await asyncio.wait_for(heard.links.get(), 5)
    last = {"T": 1, "s": "LASTUSDT", "S": "Buy", "v": "1", "p": "1", "i": "last"}
    for frame in [*frames, {"topic": "publicTrade.LASTUSDT", "data": [last]}]:
        await server.send(frame)
    await asyncio.wait_for(heard.changes.get(), 5)
    trades = [row for frame in frames if frame.get("topic", "").startswith("publicTrade") for row in frame["data"]]
    assert [trade.trade_id for trade in heard.trades[:-1]] == [row["i"] for row in trades]
    tickers = [frame for frame in frames if frame.get("topic", "").startswith("tickers")]
    assert heard.marks == [Decimal(text) for text in merged(tickers, "markPrice")]
    assert stream.dropped == 0
    assert heard.links.empty()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("path", FRAMES, ids=name)
async def test_every_private_frame_is_survived_and_none_of_ours_is_lost(server: SocketServer, path: Path) -> None:
    heard = Heard()
    frames = [frame for frame in frames_of(path) if frame.get("op") not in ("auth", "subscribe")]
    stream = BybitPrivateStream(server.origin, CREDENTIALS, heard)
    task = asyncio.create_task(stream.run())
    assert await asyncio.wait_for(heard.changes.get(), 5) == ""
    for frame in [*frames, {"topic": "position", "data": [{"symbol": "LAST"}]}]:
        await server.send(frame)
    changes = [await asyncio.wait_for(heard.changes.get(), 5)]
    while changes[-1] != "LAST":
        changes.append(await asyncio.wait_for(heard.changes.get(), 5))
    ours = [frame for frame in frames if frame.get("topic") in ("order", "execution", "position")]
    executions = [row for frame in ours if frame["topic"] == "execution" for row in frame["data"]]
    wanted = [row for row in executions if row["category"] == "linear" and row["execType"] == "Trade"]
    assert [fill.venue_fill_id for fill in heard.fills] == [row["execId"] for row in wanted]
    assert [fill.qty for fill in heard.fills] == [Decimal(row["execQty"]) for row in wanted]
    changed = [frame["data"] for frame in ours if frame["topic"] != "execution"]
    told = sum(len({row["symbol"] for row in rows if row["category"] == "linear"}) for rows in changed)
    assert len(changes) == told + 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_hedge_fills_name_their_side() -> None:
    frames = frames_of(FIXTURES / "ws" / "lifecycle_btcusdt_hedge_market_two_fills.json")
    rows = [row for frame in frames if frame["topic"] == "execution" for row in frame["data"]]
    fills = [bybit_rows.fill(msgspec.convert(row, wire.ExecutionRow)) for row in rows]
    assert {fill.position_side for fill in fills} == {PositionSide.LONG}
