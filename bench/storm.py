"""`python -m bench.storm`, `make storm`: thousands of alerts while everything dies and the exchange misbehaves, then
the judgement.

A real `levelhead up`; accounts at both exchanges; alerts that arrive at their own pace and are sent again until they
are answered; prices that move through stops; faults at the exchange; kill -9 of api, worker, watcher, Redis and
PostgreSQL, never of the exchange. Then it is calm, what is left is drained, and the exchange's ledger is compared with
our tables: see `bench/judge.py` for what must hold. Exit code 1 and the differences if something does not.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import judge, truth
from bench.judge import Difference
from bench.senders import Senders
from bench.timeline import timeline
from bench.up import CUT_OFF, NO_DATABASE, VENUES, Desk, Up, running
from bench.weather import START_PRICE, Weather

SYMBOLS_A_DESK: Final = 25
SYMBOL_LETTERS: Final = "PQRST"
STOP_PCT: Final = "2"
SAY_EVERY_S: Final = 10.0
AGREE_S_MAX: Final = 30.0  # for ours and theirs to be equal, once nothing is left to do
SHOWN_MAX: Final = 40
BOOKS_SHOWN_MAX: Final = 3


class Options(msgspec.Struct, frozen=True, kw_only=True):
    alerts: int
    books: int
    rate: float
    seed: int
    minutes: float
    kill_every_s: float
    fault_every_s: float
    dir: Path | None
    keep: bool


class Result(msgspec.Struct, kw_only=True):
    """What a storm came to. `differences` is empty when every promise held."""

    differences: list[Difference]
    sent: int
    accepted: int
    sending_s: float
    drain_s: float
    agree_s: float
    answers: dict[str, int]
    outcomes: dict[str, int]
    events: dict[str, int]
    kills: dict[str, int]
    faults: dict[str, int]
    ticks: int
    orders: int
    fills: int
    positions: int
    live: int
    uncovered_ms: dict[str, int]


def parse(argv: Sequence[str]) -> Options:
    what = "Alerts while everything dies; then the books are compared."
    parser = argparse.ArgumentParser(prog="bench.storm", description=what)
    parser.add_argument("--alerts", type=int, default=10_000, help="alerts to send")
    parser.add_argument("--books", type=int, default=200, help="pairs of account and symbol")
    parser.add_argument("--rate", type=float, default=200, help="alerts a second")
    parser.add_argument("--seed", type=int, default=None, help="of alerts, prices, faults and kills; not of time")
    parser.add_argument("--minutes", type=float, default=10, help="at most, from the last alert to its end")
    parser.add_argument("--kill-every-s", type=float, default=2, help="seconds between two kills on average; 0: none")
    parser.add_argument("--fault-every-s", type=float, default=0.2, help="the same of faults at the exchange")
    parser.add_argument("--dir", type=Path, help="where the data lie meanwhile")
    parser.add_argument("--keep", action="store_true", help="keep the data although nothing is wrong")
    found = vars(parser.parse_args(argv))
    return Options(**found | {"seed": random.randrange(10**6) if found["seed"] is None else found["seed"]})


async def run(options: Options) -> Result:
    """A whole storm, with progress on the standard output."""
    folder = Path(tempfile.mkdtemp(prefix="levelhead-storm-", dir=options.dir))
    result: Result | None = None
    try:
        async with running(folder) as up:
            result = await _storm(up, options)
    finally:
        if options.keep or result is None or result.differences:
            print(f"data and log are kept in {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    return result


async def _storm(up: Up, options: Options) -> Result:
    desks, symbols = await _furnish(up, options.books)
    rng = random.Random(options.seed)
    weather = Weather(up, symbols, random.Random(rng.random()))
    senders = Senders(up, desks, symbols, random.Random(rng.random()))
    _say(f"seed {options.seed}: {options.alerts} alerts over {len(desks)} × {len(symbols)} books at {options.rate:g}/s")
    saying = asyncio.create_task(_tell(senders, weather))
    weather.blow(options.kill_every_s, options.fault_every_s)
    sending = asyncio.create_task(senders.send(options.alerts, options.rate, options.minutes * 60))
    try:
        all_left = asyncio.create_task(senders.all_left.wait())
        await asyncio.wait({all_left, sending}, return_when=asyncio.FIRST_COMPLETED)
        await weather.calm()
        calm = time.monotonic()
        _say(f"calm after {calm - senders.first_s:.1f} s")
        await sending
        drained = await _drained(up, options.minutes * 60)
        await weather.still()
        drained = await _drained(up, AGREE_S_MAX) and drained  # of what the last ticks set off
        quiet = time.monotonic()
        _say(f"quiet {quiet - calm:.1f} s later" if drained else "NOT quiet: judging what there is")
        result = await _judged(up, desks, symbols, senders, weather)
        result.drain_s, result.sending_s = quiet - calm, calm - senders.first_s
    finally:
        await weather.still()
        saying.cancel()
        sending.cancel()
    print(told(result), flush=True)
    if result.differences:
        await _explain(up, result.differences)
    return result


async def _furnish(up: Up, books: int) -> tuple[list[Desk], list[str]]:
    """Accounts at both exchanges in turn, and symbols that they all trade."""
    per_desk = min(SYMBOLS_A_DESK, max(1, books // (2 * len(VENUES))))
    symbols = [f"{SYMBOL_LETTERS[number // 5]}{SYMBOL_LETTERS[number % 5]}USDT" for number in range(per_desk)]
    for symbol in symbols:
        await up.instrument(symbol, str(START_PRICE))
    count = -(-books // per_desk)
    names = [(f"{VENUES[n % len(VENUES)]}-{n}", VENUES[n % len(VENUES)]) for n in range(count)]
    return [await up.desk(name, venue, STOP_PCT) for name, venue in names], symbols


async def _tell(senders: Senders, weather: Weather) -> None:
    """Progress, now and then."""
    while True:
        await asyncio.sleep(SAY_EVERY_S)
        kills, faults = weather.kills.total(), weather.faults.total()
        _say(f"{len(senders.sent)} sent, {senders.accepted} accepted, {kills} kills, {faults} faults")


async def _drained(up: Up, within_s: float) -> bool:
    """Whether nothing is left to do, in time."""
    deadline, said = time.monotonic() + within_s, time.monotonic()
    while True:
        left: dict[str, int] | None = None
        try:
            connection = await up.connect()
            try:
                left = await truth.busy(connection)
            finally:
                await connection.close()
        except NO_DATABASE:
            pass
        if left == {}:
            return True
        if time.monotonic() > deadline:
            return False
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            _say(f"left to do: {left}")
        await asyncio.sleep(0.2)


async def _judged(up: Up, desks: Sequence[Desk], symbols: Sequence[str], senders: Senders, weather: Weather) -> Result:
    """Compare until all is equal, or for as long as a difference may last."""
    began = time.monotonic()
    accounts = {desk.name for desk in desks}
    while True:
        try:
            connection = await up.connect()
            try:
                theirs = await truth.theirs(up, symbols, accounts)
                ours = await truth.ours(connection, up)
                outcomes = await truth.counted(connection, truth.OUTCOMES)
                events = await truth.counted(connection, truth.EVENTS)
            finally:
                await connection.close()
        except (*NO_DATABASE, *CUT_OFF, RuntimeError):
            if time.monotonic() - began > AGREE_S_MAX:
                raise
            await asyncio.sleep(0.5)
            continue
        found = judge.differences(senders.sent.values(), ours, theirs)
        if not found or time.monotonic() - began > AGREE_S_MAX:
            return Result(
                differences=found,
                sent=len(senders.sent),
                accepted=senders.accepted,
                sending_s=0,
                drain_s=0,
                agree_s=time.monotonic() - began,
                answers=dict(senders.answers),
                outcomes=outcomes,
                events=events,
                kills=dict(weather.kills),
                faults=dict(weather.faults),
                ticks=weather.ticks,
                orders=sum(row.status not in ("armed", "disarmed") for row in ours.orders),
                fills=len(ours.fills),
                positions=len(ours.positions),
                live=sum(row.status != "closed" for row in ours.positions),
                uncovered_ms=judge.uncovered_ms(theirs),
            )
        await asyncio.sleep(1)


def told(result: Result) -> str:
    """The summary."""

    def counts(found: dict[str, int]) -> str:
        return ", ".join(f"{n} {name}" for name, n in sorted(found.items(), key=lambda x: -x[1])) or "none"

    lines = [
        f"{result.accepted} of {result.sent} alerts accepted, sent within {result.sending_s:.1f} s "
        f"({result.sent / result.sending_s:.0f}/s); quiet {result.drain_s:.1f} s after the storm, equal "
        f"{result.agree_s:.1f} s after that",
        f"answers: {counts(result.answers)}",
        f"outcomes: {counts(result.outcomes)}",
        f"killed: {counts(result.kills)}",
        f"faults: {counts(result.faults)}; {result.ticks} prices",
        f"orders sent: {result.orders}; fills: {result.fills}; positions: {result.positions}, {result.live} of them "
        "held at the end",
        f"events: {counts(result.events)}",
        "longest without a stop at the exchange, by account: "
        + ", ".join(f"{name} {ms / 1000:.2f} s" for name, ms in sorted(result.uncovered_ms.items())),
    ]
    if not result.differences:
        return "\n".join([*lines, "nothing lost, nothing doubled, nothing naked"])
    lines.append(f"{len(result.differences)} DIFFERENCES")
    for one in result.differences[:SHOWN_MAX]:
        book = "" if one.book is None else f" [{'/'.join(one.book)}]"
        lines.append(f"  {one.what}{book}: {one.about}: {one.found}")
    return "\n".join(lines)


async def _explain(up: Up, differences: Sequence[Difference]) -> None:
    """All that both sides know of the first books that are wrong."""
    books = sorted({one.book for one in differences if one.book is not None})[:BOOKS_SHOWN_MAX]
    connection = await up.connect()
    try:
        for book in books:
            print(await timeline(connection, up, book), flush=True)
    finally:
        await connection.close()


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


async def _stoppable(options: Options) -> Result:
    """Asked to stop, it stops what it started, as at Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(options)


def main() -> int:
    options = parse(sys.argv[1:])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start", flush=True)
    try:
        result = uvloop.run(_stoppable(options))
    except asyncio.CancelledError:
        return 1
    return 1 if result.differences else 0


if __name__ == "__main__":
    sys.exit(main())
