"""Trade frames of both venues: recorded ones where there are some, else made ones of the same shape.

Bybit's recorded frames are sent as they were. Binance's are recorded prints in the frame that its `@aggTrade` stream
has today: the recordings are of a stream that shows the same prints one by one.
"""

import gzip
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

COUNT = 4_000  # different frames; a server sends them round and round
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT")
LINEAR = "wss://stream.bybit.com/v5/public/linear"


def frames(venue: str, folder: Path | None) -> tuple[list[bytes], str]:
    """The frames, and where they are from."""
    if folder is not None:
        recorded = list(_recorded_bybit(folder) if venue == "bybit" else _recorded_binance(folder))
        return recorded[:COUNT], "recorded"
    return list(_made_bybit() if venue == "bybit" else _made_binance()), "made"


def symbols_in(venue: str, found: list[bytes]) -> list[str]:
    """Which symbols the frames are of."""
    if venue == "bybit":
        return sorted({msgspec.json.decode(frame)["topic"].partition(".")[2] for frame in found})
    return sorted({msgspec.json.decode(frame)["data"]["s"] for frame in found})


def _recorded_bybit(folder: Path) -> Iterator[bytes]:
    for path in sorted((folder / "ws").glob("bybit-v5_*.jsonl.gz")):
        linear = ""
        for line in gzip.open(path):
            row = msgspec.json.decode(line)
            if row["t"] == "connect" and row["addr"] == LINEAR:
                linear = row["conn"]
            elif row["t"] == "recv" and row["conn"] == linear and row["data"].startswith('{"topic":"publicTrade.'):
                yield row["data"].encode()


def _recorded_binance(folder: Path) -> Iterator[bytes]:
    for path in sorted((folder / "ws").glob("binance-usdm_btcusdt_*.txt.gz")):
        for line in gzip.open(path):
            _, _, text = line.partition(b" ")
            if text.startswith(b'{"stream":"btcusdt@trade"'):
                data = msgspec.json.decode(text)["data"]
                yield aggregate(data["s"], data["t"], data["p"], data["q"], data["T"], data["E"], data["m"])


def _made_bybit() -> Iterator[bytes]:
    """As a busy minute looks: mostly one trade a frame, sometimes a sweep of many."""
    rng = random.Random(11)
    now_ms, seq = 1_786_310_819_000, 178_000_000_000
    for number in range(COUNT):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        now_ms, seq = now_ms + rng.randrange(20), seq + 7
        rows = [
            (
                f"{rng.getrandbits(64):016x}-{index}",
                f"{60_000 + rng.uniform(-50, 50):.2f}",
                f"{rng.uniform(0.001, 2):.3f}",
                rng.choice(("Buy", "Sell")),
            )
            for index in range(rng.choice((1, 1, 1, 2, 3, 8)))
        ]
        yield bybit_frame(symbol, now_ms, rows, seq)


def _made_binance() -> Iterator[bytes]:
    rng = random.Random(11)
    now_ms = 1_786_310_819_000
    for number in range(COUNT):
        now_ms += rng.randrange(20)
        price = f"{60_000 + rng.uniform(-50, 50):.2f}"
        yield aggregate(SYMBOLS[number % len(SYMBOLS)], number, price, "0.012", now_ms, now_ms + 3, bool(number % 2))


def bybit_frame(symbol: str, at_ms: int, trades: Sequence[tuple[str, str, str, str]], seq: int = 1) -> bytes:
    """Id, price, quantity and side of each trade."""
    rows = [
        {
            "T": at_ms,
            "s": symbol,
            "S": side,
            "v": qty,
            "p": price,
            "L": "PlusTick",
            "i": trade_id,
            "BT": False,
            "RPI": False,
            "seq": seq,
        }
        for trade_id, price, qty, side in trades
    ]
    return _json({"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": at_ms, "data": rows})


def aggregate(symbol: str, number: int, price: str, qty: str, at_ms: int, event_ms: int, maker: bool) -> bytes:
    data = {
        "e": "aggTrade",
        "E": event_ms,
        "a": number,
        "s": symbol,
        "p": price,
        "q": qty,
        "nq": qty,
        "f": number,
        "l": number,
        "T": at_ms,
        "m": maker,
        "st": 1,
    }
    return _json({"stream": f"{symbol.lower()}@aggTrade", "data": data})


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
