"""Frames as the exchanges send them, through the real public readers over real sockets: nothing lost, nothing changed.

The examples here are made up in the exchanges' shapes. With LEVELHEAD_SHARED_MARKET naming a folder of recorded market
data, its captures are played as well, each frame as it was.
"""

import asyncio
import gzip
import json
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.venues.base import Origins, Topic
from app.venues.registry import open_public_stream
from bench.frame_server import running
from tests.venues.contract import SOON_S, Heard, kept

D = Decimal
SHARED = os.environ.get("LEVELHEAD_SHARED_MARKET", "")
FOLDER = Path(SHARED) / "ws"
recorded = pytest.mark.skipif(not SHARED, reason="LEVELHEAD_SHARED_MARKET is not set")
LINEAR = "wss://stream.bybit.com/v5/public/linear"
END = "ENDUSDT"  # a last trade of this symbol says that all was read


class Told(msgspec.Struct, kw_only=True):
    """What a listener has to be told: trades (symbol, id, price, ms), marks and books (symbol, price…) in order."""

    trades: list[tuple[str, str, Decimal, int]] = []
    marks: list[tuple[str, Decimal]] = []
    books: list[tuple[str, Decimal | None, Decimal | None]] = []


async def play(venue: str, choose: Callable[[str], list[bytes]], symbols: set[str]) -> Told:
    """Through the venue's reader; `choose` has the frames of a path, and ends them with those of `END`."""
    heard = Heard()
    found = Told()
    async with running(choose, again=False) as origin:
        stream = open_public_stream(venue, Origins(rest="", ws=origin), heard)
        stream.want({symbol: frozenset(Topic) for symbol in (*symbols, END)})
        async with kept(stream), asyncio.timeout(6 * SOON_S):
            while (trade := await heard.trades.get()).symbol != END:
                found.trades.append((trade.symbol, trade.trade_id, trade.price, trade.at_ms))
            while (book := await heard.books.get())[0] != END:
                found.books.append(book)
    while not heard.marks.empty():
        found.marks.append(heard.marks.get_nowait())
    return found


# Bybit


def bybit_trades(symbol: str, prices: list[str], at_ms: int = 1_700_000_000_000) -> dict[str, Any]:
    rows = [
        {
            "T": at_ms,
            "s": symbol,
            "S": "Buy",
            "v": "0.1",
            "p": price,
            "L": "PlusTick",
            "i": f"{symbol}-{at_ms}-{number}",
        }
        | {"BT": False, "RPI": False, "seq": 7}
        for number, price in enumerate(prices)
    ]
    return {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": at_ms + 1, "data": rows}


def bybit_ticker(symbol: str, kind: str, cs: int, **fields: str) -> dict[str, Any]:
    data = {"symbol": symbol, **fields}
    return {"topic": f"tickers.{symbol}", "type": kind, "data": data, "cs": cs, "ts": 1_700_000_000_000 + cs}


BYBIT: list[dict[str, Any]] = [
    bybit_ticker("AUSDT", "delta", 3, markPrice="1", bid1Price="1", ask1Price="1"),  # before any snapshot: void
    bybit_ticker("AUSDT", "snapshot", 5, lastPrice="7.00", markPrice="7.001", bid1Price="6.99", ask1Price="7.01"),
    bybit_trades("AUSDT", ["7.00", "7.10", "7.05"]),
    bybit_ticker("AUSDT", "delta", 6, bid1Price="7.00", bid1Size="3"),
    bybit_ticker("BUSDT", "snapshot", 1, lastPrice="0.0000001", markPrice="0.00000012", bid1Price="", ask1Price="0.2"),
    bybit_ticker("AUSDT", "delta", 7, openInterest="12.5"),
    bybit_trades("BUSDT", ["0.00000011"], 1_700_000_000_500),
    bybit_ticker("AUSDT", "delta", 8, markPrice="7.002", ask1Price="7.02"),
    bybit_ticker("AUSDT", "delta", 7, markPrice="1.111", bid1Price="1.11"),  # older than the last one: void
    {"topic": "kline.1.AUSDT", "type": "snapshot", "ts": 1, "data": [{"start": 1, "close": "7", "confirm": False}]},
    bybit_ticker("BUSDT", "delta", 2, bid1Price="0.1"),
    bybit_trades("AUSDT", ["7.06"], 1_700_000_000_900),
    bybit_ticker("AUSDT", "snapshot", 1, lastPrice="8", markPrice="8.5", bid1Price="8.1", ask1Price=""),
    bybit_ticker("AUSDT", "delta", 2, bid1Price="8.2"),
    {"topic": "publicTrade.AUSDT", "type": "snapshot", "ts": 1, "news": {"of": "tomorrow"}, "data": [
        {"T": 1_700_000_001_000, "s": "AUSDT", "S": "Sell", "v": "1", "p": "8.00", "i": "z", "new": [1, {"a": None}]}
    ]},
]  # fmt: skip


def merged(frames: list[dict[str, Any]], symbols: set[str]) -> Told:
    """The exchange's rules of merging, with plain dicts: a snapshot replaces, a delta overwrites what it has."""
    told = Told()
    state: dict[str, dict[str, Any]] = {}
    for frame in frames:
        kind, _, symbol = frame.get("topic", "").partition(".")
        if symbol not in symbols:
            continue
        if kind == "publicTrade":
            told.trades += [(row["s"], row["i"], D(row["p"]), row["T"]) for row in frame["data"]]
        if kind != "tickers":
            continue
        data = frame["data"]
        if frame["type"] == "snapshot":
            state[symbol] = {"cs": frame["cs"], **data}
        elif symbol not in state or frame["cs"] < state[symbol]["cs"]:
            continue
        else:
            state[symbol] |= {"cs": frame["cs"], **data}
        now = state[symbol]
        if "markPrice" in data:
            told.marks.append((symbol, D(now["markPrice"])))
        if frame["type"] == "snapshot" or "bid1Price" in data or "ask1Price" in data:
            told.books.append((symbol, _price(now.get("bid1Price")), _price(now.get("ask1Price"))))
    return told


def _price(text: str | None) -> Decimal | None:
    return D(text) if text else None


def by_bybit(frames: list[bytes]) -> Callable[[str], list[bytes]]:
    """One socket has everything."""
    last = [bybit_ticker(END, "snapshot", 1, bid1Price="1", ask1Price="2"), bybit_trades(END, ["1"])]
    whole = [*frames, *(json.dumps(frame).encode() for frame in last)]
    return lambda path: whole if path == "/v5/public/linear" else []


async def test_made_frames_of_bybit() -> None:
    told = await play("bybit", by_bybit([json.dumps(frame).encode() for frame in BYBIT]), {"AUSDT", "BUSDT"})
    assert told == merged(BYBIT, {"AUSDT", "BUSDT"})
    # and, so that both can't be wrong in the same way:
    prices = [format(price, "f") for _, _, price, _ in told.trades]
    assert prices == ["7.00", "7.10", "7.05", "0.00000011", "7.06", "8.00"]
    assert told.marks == [
        ("AUSDT", D("7.001")),
        ("BUSDT", D("0.00000012")),
        ("AUSDT", D("7.002")),
        ("AUSDT", D("8.5")),
    ]
    assert told.books == [
        ("AUSDT", D("6.99"), D("7.01")),
        ("AUSDT", D("7.00"), D("7.01")),
        ("BUSDT", None, D("0.2")),
        ("AUSDT", D("7.00"), D("7.02")),
        ("BUSDT", D("0.1"), D("0.2")),
        ("AUSDT", D("8.1"), None),
        ("AUSDT", D("8.2"), None),
    ]


@recorded
async def test_recorded_frames_of_bybit() -> None:
    frames = list(_recorded_bybit())
    decoded = [json.loads(frame) for frame in frames]
    symbols = {frame["topic"].rpartition(".")[2] for frame in decoded if "topic" in frame}
    expected = merged(decoded, symbols)
    assert min(len(expected.trades), len(expected.marks), len(expected.books)) > 50
    told = await play("bybit", by_bybit(frames), symbols)
    assert told.trades == expected.trades
    assert told.marks == expected.marks
    assert told.books == expected.books


def _recorded_bybit() -> Iterator[bytes]:
    """All that came on the linear socket."""
    for path in sorted(FOLDER.glob("bybit-v5_*.jsonl.gz")):
        linear = ""
        for line in gzip.open(path):
            row = json.loads(line)
            if row["t"] == "connect" and row["addr"] == LINEAR:
                linear = row["conn"]
            elif row["t"] == "recv" and row["conn"] == linear:
                yield row["data"].encode()


# Binance


def binance_trade(symbol: str, number: int, price: str, at_ms: int = 1_700_000_000_000) -> dict[str, Any]:
    data = {"e": "aggTrade", "E": at_ms + 3, "a": number, "s": symbol, "p": price, "q": "0.5", "nq": "0.5"}
    data |= {"f": number, "l": number + 2, "T": at_ms, "m": True, "st": 1}
    return {"stream": f"{symbol.lower()}@aggTrade", "data": data}


def binance_mark(symbol: str, price: str) -> dict[str, Any]:
    data = {"e": "markPriceUpdate", "E": 1_700_000_000_000, "s": symbol, "p": price, "ap": price, "i": price, "P": "9"}
    return {"stream": f"{symbol.lower()}@markPrice@1s", "data": data | {"r": "", "T": 1_700_003_600_000}}


def binance_book(symbol: str, number: int, bid: str, ask: str) -> dict[str, Any]:
    data = {"e": "bookTicker", "u": number, "s": symbol, "b": bid, "B": "1", "a": ask, "A": "2", "T": 7, "E": 8}
    return {"stream": f"{symbol.lower()}@bookTicker", "data": data | {"ps": symbol, "st": 1}}


BINANCE: list[dict[str, Any]] = [
    binance_trade("AUSDT", 9_007_199_254_740_993, "7.00"),
    binance_book("AUSDT", 10, "6.99", "7.01"),
    binance_mark("AUSDT", "7.00100000"),
    binance_trade("BUSDT", 5, "0.00000011"),
    binance_book("AUSDT", 12, "7.00", "7.01"),
    binance_book("AUSDT", 11, "6.90", "7.90"),  # older than the last one
    {
        "stream": "ausdt@kline_1m",
        "data": {"e": "kline", "E": 1, "s": "AUSDT", "k": {"t": 1, "T": 2, "o": "7", "c": "7"}},
    },
    binance_trade("AUSDT", 9_007_199_254_740_994, "7.10"),
    {"stream": "ausdt@news", "data": {"e": "somethingNew", "s": "AUSDT", "p": "1"}},
    binance_mark("BUSDT", "0.00000012"),
    binance_book("BUSDT", 1, "0.1", "0.2"),
    binance_trade("AUSDT", 9_007_199_254_740_995, "7.05"),
]


def told_by(frames: list[dict[str, Any]]) -> Told:
    """What the frames say, read with plain dicts."""
    told, books = Told(), dict[str, int]()
    for frame in frames:
        data = frame["data"]
        match data["e"]:
            case "aggTrade":
                told.trades.append((data["s"], str(data["a"]), D(data["p"]), data["T"]))
            case "markPriceUpdate":
                told.marks.append((data["s"], D(data["p"])))
            case "bookTicker" if data["u"] > books.get(data["s"], -1):
                books[data["s"]] = data["u"]
                told.books.append((data["s"], D(data["b"]), D(data["a"])))
    return told


def by_binance(frames: list[dict[str, Any]], *, wrapped: bool) -> Callable[[str], list[bytes]]:
    """Best prices are on one route, everything else on the other; with the stream's name around them, or bare."""

    def written(route: list[dict[str, Any]]) -> list[bytes]:
        return [json.dumps(frame if wrapped else frame["data"]).encode() for frame in route]

    public = written([*(frame for frame in frames if _is_book(frame)), binance_book(END, 1, "1", "2")])
    market = written([*(frame for frame in frames if not _is_book(frame)), binance_trade(END, 1, "1")])
    return lambda path: public if path.startswith("/public/") else market if path.startswith("/market/") else []


def _is_book(frame: dict[str, Any]) -> bool:
    return bool(frame["data"]["e"] == "bookTicker")


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
async def test_made_frames_of_binance(wrapped: bool) -> None:
    told = await play("binance", by_binance(BINANCE, wrapped=wrapped), {"AUSDT", "BUSDT"})
    assert told == told_by(BINANCE)
    assert [(symbol, number) for symbol, number, _, _ in told.trades] == [
        ("AUSDT", "9007199254740993"),
        ("BUSDT", "5"),
        ("AUSDT", "9007199254740994"),
        ("AUSDT", "9007199254740995"),
    ]
    assert [format(price, "f") for _, price in told.marks] == ["7.00100000", "0.00000012"]
    assert told.books == [
        ("AUSDT", D("6.99"), D("7.01")),
        ("AUSDT", D("7.00"), D("7.01")),
        ("BUSDT", D("0.1"), D("0.2")),
    ]


@recorded
@pytest.mark.parametrize("name", ["btcusdt_20230404", "btcusdt_20230405", "sushi-akro-keep-ctk_20210722"])
async def test_recorded_frames_of_binance(name: str) -> None:
    frames = [json.loads(frame) for frame in _recorded_binance(name)]
    expected = told_by(frames)
    assert len(expected.trades) + len(expected.marks) > 50
    assert len(expected.books) > 500
    told = await play("binance", by_binance(frames, wrapped=True), {frame["data"]["s"] for frame in frames})
    assert told.trades == expected.trades
    assert told.marks == expected.marks
    assert told.books == expected.books


@recorded
async def test_recorded_prints_as_the_stream_that_is_read_has_them() -> None:
    """The captures of a busy minute are of single prints: the same, in the frames of the aggregated stream."""
    prints = [json.loads(frame)["data"] for frame in _recorded_binance("btcusdt_20230405") if b"@trade" in frame[:40]]
    frames = [binance_trade(row["s"], row["t"], row["p"], row["T"]) for row in prints]
    assert len(frames) > 10_000
    told = await play("binance", by_binance(frames, wrapped=False), {"BTCUSDT"})
    assert told.trades == [(row["s"], str(row["t"]), D(row["p"]), row["T"]) for row in prints]


def _recorded_binance(name: str) -> Iterator[bytes]:
    """All frames of the capture, those of streams that nobody reads as well."""
    for line in gzip.open(FOLDER / f"binance-usdm_{name}.txt.gz"):
        _, _, text = line.partition(b" ")
        if text.startswith(b'{"stream"'):
            yield text.strip()
