"""Trades files: `ts_us,price,qty,side,recv_us,id` lines, plain or .gz, read as a stream.

`ts_us` is the exchange's time in microseconds since the epoch, UTC; `side` is the taker's; `id` may be empty.
"""

import csv
import gzip
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO

import msgspec

from simulator.model import Side

SAMPLE_ROWS = 20_000  # looked at for the decimals of prices and quantities


class Row(msgspec.Struct, frozen=True):
    ts_us: int
    price: Decimal
    qty: Decimal
    side: Side
    trade_id: str


def read_rows(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header[:4] != ["ts_us", "price", "qty", "side"]:
            raise ValueError(f"{path} is not a trades file: its first line is not ts_us,price,qty,side,...")
        for row in reader:
            side = Side.SELL if row[3].lower() == "sell" else Side.BUY
            yield Row(int(row[0]), Decimal(row[1]), Decimal(row[2]), side, row[5] if len(row) > 5 else "")


def sample(path: Path) -> list[Row]:
    return list(itertools.islice(read_rows(path), SAMPLE_ROWS))


def start_ts_us(path: Path, start_at: str | None) -> int | None:
    """`HH:MM` of the file's first day, or an ISO instant (UTC if it names no zone), in microseconds."""
    if start_at is None:
        return None
    if "T" in start_at or "-" in start_at:
        instant = datetime.fromisoformat(start_at)
        instant = instant.replace(tzinfo=instant.tzinfo or UTC)
    else:
        first = next(read_rows(path), None)
        if first is None:
            return None
        wanted = datetime.strptime(start_at, "%H:%M" if start_at.count(":") == 1 else "%H:%M:%S").replace(tzinfo=UTC)
        day = datetime.fromtimestamp(first.ts_us / 1e6, UTC)
        instant = day.replace(hour=wanted.hour, minute=wanted.minute, second=wanted.second, microsecond=0)
    return round(instant.timestamp() * 1e6)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")
