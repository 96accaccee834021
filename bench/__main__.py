"""`python -m bench`, `make bench`: both paths beside the floor and the steps they are made of; how many alerts the door
takes; what an adapter adds to an order; the socket clients; a frame's way into the level book; the level book; a fire
beside a bare socket and the SDK, fifty at once, and those of a recorded crash.

One position per book and round: an alert opens it (measured), a tick through its stop closes it (measured).
"""

import argparse
import asyncio
import gc
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from app.errors import LevelheadError
from bench import (
    alert_path,
    burst,
    crash,
    door,
    emulator,
    environment,
    fire,
    levels,
    load_kill,
    order_overhead,
    pipeline,
    readers,
    tick_path,
)
from bench.background import arm_far_away
from bench.floor import Floor, references
from bench.report import Summary, table, verdict
from bench.stack import running
from bench.wire import Wire

WARM_UP_ROUNDS = 2
# For each book, from one round to the next: the house spends three quarters of an address's 600 requests in 5 s on what
# is not urgent, a book's opening and close take some fifteen, and what is put off is no measure of the path.
ROUND_S = 0.25
ALERT_AIM, TICK_AIM = 5.0, 1.0
PARTS = ("paths", "door", "kill", "fire", "burst", "orders", "readers", "crash", "pipeline", "levels")
MARKET_ENV = "LEVELHEAD_SHARED_MARKET"  # a folder of recorded market data: bench/frames.py


class Options(msgspec.Struct, frozen=True, kw_only=True):
    alerts: int
    ticks: int
    gap_ms: float
    books: int
    levels: int | None
    fires: int
    references: int
    seed: int
    dir: Path | None
    log_level: str
    json: Path | None
    only: list[str]
    venues: list[str]
    orders: int
    reader_rounds: int
    reader_seconds: float
    bursts: int
    door_rounds: int
    door_seconds: float
    kill_alerts: int
    market: Path | None
    emulator: bool


def parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="bench", description="Measures the path of an alert and the path of a tick.")
    parser.add_argument("--alerts", type=int, default=200, help="alerts to measure")
    parser.add_argument("--ticks", type=int, default=200, help="crossings to measure")
    parser.add_argument("--gap-ms", type=float, default=60, help="between arrivals on average, each ± 50 %%")
    parser.add_argument("--books", type=int, default=20, help="instruments traded, one position each at a time")
    parser.add_argument("--fires", type=int, default=200, help="crossings of each way in the part fire")
    parser.add_argument("--levels", type=int, help="armed levels far away, beside those that are crossed")
    parser.add_argument("--references", type=int, default=50, help="samples of each single step")
    parser.add_argument("--seed", type=int, default=7, help="of the spacing")
    parser.add_argument("--dir", type=Path, help="where the database lies meanwhile: its disk is what commits wait for")
    parser.add_argument("--log-level", default="info", help="of the processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="leave the other parts out")
    venues = list(readers.VENUES)
    parser.add_argument("--venues", nargs="+", choices=venues, default=venues, help="of fire, orders and crash")
    parser.add_argument("--orders", type=int, default=150, help="orders to measure through each adapter")
    parser.add_argument("--reader-rounds", type=int, default=3, help="rounds of the socket clients")
    parser.add_argument("--reader-seconds", type=float, default=1, help="of each of them")
    parser.add_argument("--bursts", type=int, default=burst.ROUNDS, help="ticks that cross fifty stops")
    parser.add_argument("--door-rounds", type=int, default=3, help="rounds of each server in the part door")
    parser.add_argument("--door-seconds", type=float, default=3, help="of each of them")
    parser.add_argument("--kill-alerts", type=int, default=100_000, help="stored when everything is killed")
    parser.add_argument("--emulator", action="store_true", help="NautilusTrader's beside the level book; installs it")
    folder = os.environ.get(MARKET_ENV)
    parser.add_argument(
        "--market",
        type=Path,
        default=Path(folder) if folder else None,
        metavar="DIR",
        help=f"recorded frames lie in its folder ws ({MARKET_ENV} if that is set; else frames are made up)",
    )
    return Options(**vars(parser.parse_args(argv)))


async def run(options: Options) -> dict[str, dict[str, Summary]]:
    """Measure and print; answers the tables by name."""
    rng = random.Random(options.seed)
    async with running(options.books, options.dir, options.log_level) as stack:
        wire, floor = await Wire.open(stack.api_url), await Floor.open(stack)
        alerts: list[alert_path.Sample] = []
        ticks: list[tick_path.Sample] = []
        try:
            await stack.price(tick_path.ENTRY, *stack.symbols)
            await asyncio.sleep(stack.settings.recv_window_ms / 1000 + 1)  # before, a watcher lets go of no book
            rounds = -(-max(options.alerts, options.ticks) // options.books)
            for number in range(WARM_UP_ROUNDS + rounds):
                if number == WARM_UP_ROUNDS:
                    if options.levels:
                        await arm_far_away(stack, options.levels)
                    alerts.clear()
                    ticks.clear()
                    floor.forget()
                gc.collect()
                due = asyncio.get_running_loop().time() + ROUND_S * options.books
                alerts += await alert_path.open_all(stack, wire, floor, options.gap_ms, rng, f"round {number}")
                ticks += await tick_path.cross_all(stack, floor, options.gap_ms, rng)
                await asyncio.sleep(due - asyncio.get_running_loop().time())
            single = await references(stack, options.references, rng) if options.references else {}
        finally:
            await floor.close()
            await wire.close()
    alerts, ticks = alerts[: options.alerts], ticks[: options.ticks]
    least = floor.sum()
    tables = {
        "floor": floor.rows(),
        "alert": alert_path.rows(alerts),
        "tick": tick_path.rows(ticks),
        "single steps": single,
    }
    for name, rows in tables.items():
        if rows:
            print(table(name, rows, least), end="\n\n")
    print(verdict("alert", alert_path.total(alerts), least, ALERT_AIM))
    print(verdict("tick", tick_path.total(ticks), least, TICK_AIM), end="\n\n", flush=True)
    return tables


async def measure(options: Options) -> dict[str, Any]:
    """The parts that were asked for, one after the other; answers their figures."""
    task = asyncio.current_task()
    assert task is not None
    # Asked to stop, it stops what it started, as at Ctrl-C.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    found: dict[str, Any] = {}
    rng = random.Random(options.seed)
    if "paths" in options.only:
        found["paths_ms"] = await run(options)
    if "door" in options.only:
        try:
            found["door"] = await door.measure(options.door_rounds, options.door_seconds, options.dir)
            print(door.told(found["door"]), end="\n\n", flush=True)
        except environment.NotInstalled as error:
            print(f"bench: {error}", file=sys.stderr)
    if "kill" in options.only:
        found["kill"] = await load_kill.measure(options.kill_alerts, load_kill.CONNECTIONS, options.dir)
        print(load_kill.told(found["kill"]), end="\n\n", flush=True)
    if "fire" in options.only:
        far = fire.LEVELS if options.levels is None else options.levels
        found["fire_ms"] = {}
        for venue in options.venues:
            fired = await fire.measure(
                venue, options.fires, options.books, options.gap_ms, options.dir, options.log_level, rng, far
            )
            found["fire_ms"][venue] = fire.rows(fired)
            print(fire.told(venue, found["fire_ms"][venue], far), end="\n\n", flush=True)
    if "burst" in options.only:
        rounds = await burst.measure(options.bursts, options.dir, options.log_level)
        found["burst_ms"] = burst.rows(rounds)
        print(burst.told(rounds), end="\n\n", flush=True)
    if "crash" in options.only:
        found["crash"] = {}
        for venue in options.venues:
            found["crash"][venue] = await crash.measure(venue, options.market)
            print(crash.told(venue, found["crash"][venue]), end="\n\n", flush=True)
    if "orders" in options.only:
        found["orders_ms"] = {}
        for venue in options.venues:
            rows = order_overhead.rows(await order_overhead.measure(venue, options.orders, rng))
            found["orders_ms"][venue] = rows
            print(order_overhead.told(venue, rows), end="\n\n", flush=True)
    if "readers" in options.only:
        found["readers"], origin = await readers.measure(options.market, options.reader_rounds, options.reader_seconds)
        for venue, figures in found["readers"].items():
            print(readers.table(venue, figures, origin), end="\n\n", flush=True)
    return found


def main() -> int:
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, loopback, load {load:.1f} before the start", end="\n\n", flush=True)
    try:
        found = uvloop.run(measure(options))
    except LevelheadError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if "pipeline" in options.only:
        found["pipeline"] = pipeline.measure(options.market)
        print(pipeline.table(found["pipeline"]), end="\n\n", flush=True)
    if "levels" in options.only:
        rows = levels.measure()
        if options.emulator:
            try:
                rows |= emulator.measure()
            except environment.NotInstalled as error:
                print(f"bench: {error}", file=sys.stderr)
        found["level_book_ns"] = rows
        print(levels.table(rows), levels.verdicts(rows), sep="\n")
    if options.json is not None:
        whole = {"load": load, **found}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
