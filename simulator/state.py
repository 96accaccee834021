"""The exchange's memory over a restart: one JSON file, replaced as a whole.

A reader of the file sees the old or the new state, never a torn one: it is written beside and renamed. What happened
in the last moments before a kill -9 may be missing.
"""

import asyncio
import contextlib
import logging
import os
from decimal import Decimal
from pathlib import Path

import msgspec

from simulator.exchange import Exchange
from simulator.instruments import Instrument
from simulator.keys import ApiKey
from simulator.model import Account

log = logging.getLogger(__name__)

SAVE_EVERY_S = 0.2
PRICES_EVERY_S = 5
DUTY = 20  # rest at least this many times as long as the last save took: big books are saved less often


class Saved(msgspec.Struct, kw_only=True):
    seq: int
    accounts: list[Account]
    keys: dict[str, ApiKey] = {}
    secrets: dict[str, str] = {}  # how files of before kept them
    instruments: list[Instrument]
    prices: dict[str, Decimal]


def snapshot(exchange: Exchange) -> bytes:
    markets = exchange.engine.markets
    saved = Saved(
        seq=exchange.engine.seq,
        accounts=list(exchange.engine.accounts.values()),
        keys=exchange.keys,
        instruments=[m.instrument for m in markets.values()],
        prices={symbol: m.last for symbol, m in markets.items()},
    )
    return msgspec.json.encode(saved)


def load(exchange: Exchange, path: Path) -> bool:
    """Take over what the file holds; False if there is none. The key given at the start keeps its secret."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return False
    saved = msgspec.json.decode(raw, type=Saved)
    for instrument in saved.instruments:
        exchange.put_instrument(instrument)
    for symbol, price in saved.prices.items():
        exchange.engine.markets[symbol].set_last(price)
    fresh = [a for a in exchange.engine.accounts.values() if a.name not in {s.name for s in saved.accounts}]
    exchange.engine.restore([*saved.accounts, *fresh], saved.seq)
    keys = {name: ApiKey(secret=secret) for name, secret in saved.secrets.items()} | saved.keys
    exchange.keys = keys | exchange.keys
    exchange.changed = False
    return True


def write(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    os.replace(beside, path)


async def save_until(stop: asyncio.Event, exchange: Exchange, path: Path) -> None:
    """Save when something changed, now and then for the prices' sake, and once more at the end."""
    clock = asyncio.get_running_loop().time
    saved_s = clock()
    while not stop.is_set():
        started_s = clock()
        if exchange.changed or started_s - saved_s > PRICES_EVERY_S:
            await _save(exchange, path)
            saved_s = clock()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(SAVE_EVERY_S, (clock() - started_s) * DUTY))
    await _save(exchange, path)


async def _save(exchange: Exchange, path: Path) -> None:
    exchange.changed = False
    content = snapshot(exchange)
    try:
        await asyncio.to_thread(write, path, content)
    except OSError as exc:
        exchange.changed = True
        log.error("state not written: path=%s error=%s", path, exc)
