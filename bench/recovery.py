"""`python -m bench.recovery`, `make recovery`: how long after a kill -9 the house does its work again.

A real `levelhead up`, killed one process at a time, in turn, at both exchanges. What is measured, in seconds:

- worker: the kill → the order of an alert that is posted right after it is filled at the exchange. Beside it, the same
  for a book whose order was on its way when the worker died: the kill → the alert has ended and the position stands.
- watcher: the kill → a stop that is crossed right after it is closed at the exchange, by the watcher's own order; the
  native stop rests further out and is not reached.
- redis, postgres: it is *back* when it accepts a connection and answers on it (`PING`, `SELECT 1`). From there → the
  order of an alert is filled at the exchange; the alert is posted at that moment, and again until it is accepted.

Kills take turns, so a process has lived for a while when its turn comes; one that dies again and again is restarted
ever later, on purpose.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import uvloop

from app.up import redis
from bench.up import CUT_OFF, VENUES, Desk, Up, running, until

AIMS_S: Final = {"worker": 5.0, "worker, its own book": 5.0, "watcher": 3.0, "redis": 2.0, "postgres": 10.0}
ENTRY, CROSSED = "100.00", "98.90"  # through the stop at 99, not through the native one at 98.5
STOP_PCT: Final = "1"
MEASURED_S_MAX: Final = 60.0
POLL_S: Final = 0.01
RESEND_S: Final = 0.05
SLOW_ANSWER_MS: Final = 3000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    kills: int
    pause_s: float
    seed: int
    only: list[str]
    dir: Path | None
    json: Path | None


class NotRecovered(Exception):
    """What did not happen at all within a minute."""


def parse(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="bench.recovery", description="How long after a kill -9 all works again.")
    parser.add_argument("--kills", type=int, default=10, help="of each")
    parser.add_argument("--pause-s", type=float, default=1, help="between two kills at least, plus a random second")
    parser.add_argument("--seed", type=int, default=7, help="of the pauses")
    parser.add_argument("--only", nargs="+", choices=list(AIMS_S), default=list(AIMS_S), help="leave the others out")
    parser.add_argument("--dir", type=Path, help="where the data lie meanwhile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return Options(**vars(parser.parse_args(argv)))


class Round:
    """One book at a time: opened or closed by an alert or a stop, with something killed in between."""

    def __init__(self, up: Up, desks: Sequence[Desk], symbols: Sequence[str]) -> None:
        self._up = up
        self._books = [(desk, symbol) for symbol in symbols for desk in desks]
        self._number = 0

    def next_book(self) -> tuple[Desk, str]:
        self._number += 1
        return self._books[self._number % len(self._books)]

    async def worker(self) -> float:
        desk, symbol = self.next_book()
        await self._calm(desk, symbol)
        began = self._kill("worker")
        await self._post(desk, self._opening(symbol))
        took = await self._since(began, lambda: self._held(desk, symbol), "the alert's order")
        await self._close(desk, symbol)
        return took

    async def own_book(self) -> float:
        """Killed between its order and the answer."""
        desk, symbol = self.next_book()
        await self._calm(desk, symbol)
        fault = {"fault": "delay_answer", "ms": SLOW_ANSWER_MS, "path": _order_path(desk), "symbol": symbol}
        await self._up.control("POST", "faults", fault)
        alert_id = await self._post(desk, self._opening(symbol))
        await self._since(time.monotonic(), lambda: self._held(desk, symbol), "the order before the kill")
        began = self._kill("worker")
        took = await self._since(began, lambda: self._ended(alert_id), "the end of the alert")
        await self._close(desk, symbol)
        return took

    async def watcher(self) -> float:
        desk, symbol = self.next_book()
        await self._calm(desk, symbol)
        await self._post(desk, self._opening(symbol))
        await self._since(time.monotonic(), lambda: self._protected(desk, symbol), "both protections")
        began = self._kill("watcher")
        await self._up.prices([(symbol, CROSSED)])
        took = await self._since(began, lambda: self._flat(desk, symbol), "the stop")
        await self._since(time.monotonic(), lambda: self._closed_by(desk, symbol, "stop_loss"), "the watcher's close")
        return took

    async def redis(self) -> float:
        service = redis.service(
            data=self._up.place.redis, sockets=self._up.place.sockets, log=self._up.place.logs / "redis.log"
        )
        return await self._server("redis", service.ready)

    async def postgres(self) -> float:
        async def answers() -> bool:
            connection = await self._up.connect()
            try:
                return bool(await connection.fetchval("SELECT 1") == 1)
            finally:
                await connection.close()

        return await self._server("postgres", answers)

    async def _server(self, name: str, answers: Callable[[], Awaitable[bool]]) -> float:
        desk, symbol = self.next_book()
        await self._calm(desk, symbol)
        killed = self._kill(name)
        await self._since(killed, lambda: self._gone(answers), f"the end of {name}")
        await self._since(killed, answers, f"{name}'s own start")
        began = time.monotonic()
        await self._post(desk, self._opening(symbol))
        took = await self._since(began, lambda: self._held(desk, symbol), "the alert's order")
        await self._close(desk, symbol)
        return took

    async def _gone(self, answers: Callable[[], Awaitable[bool]]) -> bool:
        """A killed server may go on answering for a moment on what was open."""
        with suppress(Exception):
            return not await answers()
        return True

    def _kill(self, name: str) -> float:
        began = time.monotonic()
        if not self._up.kill(name):
            raise NotRecovered(f"{name} is not running")
        return began

    def _opening(self, symbol: str) -> dict[str, object]:
        return {
            "id": f"recovery-{self._number}-{time.time_ns()}",
            "symbol": symbol,
            "action": "open_long",
            "size": {"base": "1"},
            "stop_loss": {"pct": STOP_PCT},
        }

    async def _post(self, desk: Desk, body: Mapping[str, object]) -> str:
        """Until it is accepted; answers the alert's id."""
        url = f"{self._up.url}/webhook/{desk.name}/{desk.secret}"
        while True:
            with suppress(*CUT_OFF):
                timeout = aiohttp.ClientTimeout(total=3)
                async with self._up.http.post(url, json=body, timeout=timeout) as answer:
                    if answer.status < 300:
                        alert_id: str = (await answer.json())["alert_id"]
                        return alert_id
                    if answer.status < 500:
                        raise NotRecovered(f"an alert was turned away: {await answer.text()}")
            await asyncio.sleep(RESEND_S)

    async def _since(self, began: float, check: Callable[[], Awaitable[bool]], what: str) -> float:
        if not await until(check, MEASURED_S_MAX, POLL_S):
            raise NotRecovered(f"{what} did not come within {MEASURED_S_MAX:g} s:\n{self._up.log.read_text()[-4000:]}")
        return time.monotonic() - began

    async def _calm(self, desk: Desk, symbol: str) -> None:
        """Every process at work, the book flat, the price where rounds begin."""
        await self._since(time.monotonic(), self._up.is_ready, "health")
        await self._up.prices([(symbol, ENTRY)])
        await self._since(time.monotonic(), lambda: self._flat(desk, symbol), "a flat book")

    async def _close(self, desk: Desk, symbol: str) -> None:
        await self._since(time.monotonic(), self._up.is_ready, "health")
        closing = {"symbol": symbol, "action": "close", "id": f"recovery-{self._number}-{time.time_ns()}"}
        alert_id = await self._post(desk, closing)
        await self._since(time.monotonic(), lambda: self._ended(alert_id), "the close")
        await self._since(time.monotonic(), lambda: self._closed_by(desk, symbol, "signal"), "the position's end")

    async def _held(self, desk: Desk, symbol: str) -> bool:
        return await self._side(desk, symbol) == "long"

    async def _flat(self, desk: Desk, symbol: str) -> bool:
        return await self._side(desk, symbol) == "flat"

    async def _side(self, desk: Desk, symbol: str) -> str:
        ledger = await self._up.ledger(symbol)
        held = (row["side"] for row in ledger["positions"] if row["account"] == desk.name and Decimal(row["qty"]))
        return next(held, "flat")

    async def _ended(self, alert_id: str) -> bool:
        found = await self._up.api("GET", f"/alerts/{alert_id}")
        if found["status"] in ("received", "executing"):
            return False
        if found["outcome"]["code"] != "executed":
            raise NotRecovered(f"an alert ended otherwise: {found['outcome']}")
        return True

    async def _position(self, desk: Desk, symbol: str) -> dict[str, object] | None:
        found = await self._up.api("GET", f"/positions?account={desk.account}&symbol={symbol}&limit=1")
        return next(iter(found["items"]), None)

    async def _protected(self, desk: Desk, symbol: str) -> bool:
        if not await self._held(desk, symbol):
            return False
        position = await self._position(desk, symbol)
        return position is not None and position["protected_by"] == ["watcher", "exchange"]

    async def _closed_by(self, desk: Desk, symbol: str, reason: str) -> bool:
        position = await self._position(desk, symbol)
        if position is None or position["status"] != "closed":
            return False
        if position["close_reason"] != reason:
            raise NotRecovered(f"closed by {position['close_reason']} instead of {reason}")
        return True


def _order_path(desk: Desk) -> str:
    return {"bybit": "/v5/order/create", "binance": "/fapi/v1/order"}[desk.venue]


async def measure(options: Options) -> dict[str, list[float]]:
    """Seconds by what was killed, in the order of the kills."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    rng = random.Random(options.seed)
    found: dict[str, list[float]] = {name: [] for name in options.only}
    with tempfile.TemporaryDirectory(prefix="levelhead-recovery-", dir=options.dir) as folder:
        async with running(Path(folder)) as up:
            symbols = [f"R{number}USDT" for number in range(len(options.only))]
            for symbol in symbols:
                await up.instrument(symbol, ENTRY)
            desks = [await up.desk(venue, venue, STOP_PCT) for venue in VENUES]
            rounds = Round(up, desks, symbols)
            kinds = {
                "worker": rounds.worker,
                "worker, its own book": rounds.own_book,
                "watcher": rounds.watcher,
                "redis": rounds.redis,
                "postgres": rounds.postgres,
            }
            for _ in range(options.kills):
                for name in options.only:
                    found[name].append(await kinds[name]())
                    print(f"{name}: {found[name][-1]:.2f} s", flush=True)
                    await asyncio.sleep(options.pause_s + rng.random())
    return found


def told(found: dict[str, list[float]]) -> str:
    width = max(len(name) for name in found)
    lines = [f"{'killed':{width}}     n     min  median     max   aim"]
    for name, took in found.items():
        said = "reached" if max(took) <= AIMS_S[name] else "MISSED"
        figures = f"{min(took):7.2f} {statistics.median(took):7.2f} {max(took):7.2f}"
        lines.append(f"{name:{width}} {len(took):5d} {figures} {AIMS_S[name]:5g} s {said}")
    return "\n".join(lines)


def main() -> int:
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, loopback, load {load:.1f} before the start", flush=True)
    try:
        found = uvloop.run(measure(options))
    except asyncio.CancelledError:
        return 1
    print(told(found))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode({"load": load, "seconds": found})) + b"\n")
    return 0 if all(max(took) <= AIMS_S[name] for name, took in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
