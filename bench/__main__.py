"""`python -m bench`, `make bench`: both paths beside the floor, the steps they are made of, and the level book.

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

import msgspec
import uvloop

from app.errors import LevelheadError
from bench import alert_path, levels, tick_path
from bench.background import arm_far_away
from bench.floor import Floor, references
from bench.report import Summary, table, verdict
from bench.stack import running
from bench.wire import Wire

WARM_UP_ROUNDS = 2
ALERT_AIM, TICK_AIM = 5.0, 1.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    alerts: int
    ticks: int
    gap_ms: float
    books: int
    levels: int
    references: int
    seed: int
    dir: Path | None
    log_level: str
    json: Path | None


def parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="bench", description="Measures the path of an alert and the path of a tick.")
    parser.add_argument("--alerts", type=int, default=200, help="alerts to measure")
    parser.add_argument("--ticks", type=int, default=200, help="crossings to measure")
    parser.add_argument("--gap-ms", type=float, default=60, help="between arrivals on average, each ± 50 %%")
    parser.add_argument("--books", type=int, default=20, help="instruments traded, one position each at a time")
    parser.add_argument("--levels", type=int, default=0, help="armed levels far away, beside those that are crossed")
    parser.add_argument("--references", type=int, default=50, help="samples of each single step")
    parser.add_argument("--seed", type=int, default=7, help="of the spacing")
    parser.add_argument("--dir", type=Path, help="where the database lies meanwhile: its disk is what commits wait for")
    parser.add_argument("--log-level", default="info", help="of the processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return Options(**vars(parser.parse_args(argv)))


async def run(options: Options) -> dict[str, dict[str, Summary]]:
    """Measure and print; answers the tables by name."""
    task = asyncio.current_task()
    assert task is not None
    # Asked to stop, it stops what it started, as at Ctrl-C.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    rng = random.Random(options.seed)
    async with running(options.books, options.dir, options.log_level) as stack:
        wire, floor = await Wire.open(stack.api_url), await Floor.open(stack)
        alerts: list[alert_path.Sample] = []
        ticks: list[tick_path.Sample] = []
        try:
            await stack.price(tick_path.ENTRY, *stack.symbols)
            rounds = -(-max(options.alerts, options.ticks) // options.books)
            for number in range(WARM_UP_ROUNDS + rounds):
                if number == WARM_UP_ROUNDS:
                    if options.levels:
                        await arm_far_away(stack, options.levels)
                    alerts.clear()
                    ticks.clear()
                    floor.forget()
                gc.collect()
                alerts += await alert_path.open_all(stack, wire, floor, options.gap_ms, rng, f"round {number}")
                ticks += await tick_path.cross_all(stack, floor, options.gap_ms, rng)
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


def main() -> int:
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, loopback, load {load:.1f} before the start", end="\n\n", flush=True)
    try:
        tables = uvloop.run(run(options))
    except LevelheadError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 1
    book = levels.measure()
    print(levels.table(book))
    if options.json is not None:
        found = {"load": load, "paths_ms": tables, "level_book_ns": book}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
