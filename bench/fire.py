"""A tick that crosses a stop is on the socket → the bytes of the close are at the exchange, in three ways of one run.

- watcher: the program's own, with 10,000 other levels armed beside those that are crossed;
- bare: a socket that reads the frame, and a warm one that takes a request which was prepared beforehand;
- sdk: the venue's SDK as it comes, pybit or python-binance: its socket, and its REST call.

Each is a process with as many symbols of its own at the same exchange, each of which trades every half second. They
take turns with each crossing, in an order that changes, and arrivals are spaced: a closed loop would flatter.
"""

import asyncio
import gc
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench import alert_path, tick_path
from bench.background import arm_far_away
from bench.exchange import Seen
from bench.floor import Floor
from bench.order_overhead import SDK as SDK_OF
from bench.report import Summary, aimed, summary, table
from bench.stack import Stack, running
from bench.tick_path import CROSSING, ENTRY, QUIET_PAUSE_S, Sample
from bench.wire import Wire

WATCHER, BARE, SDK = "watcher", "bare", "sdk"
LEVELS = 10_000
WARM_UP_ROUNDS = 2
P50_AIM, P99_AIM, SDK_AIM = 2.0, 5.0, 4.0

Taken = dict[str, list[Sample]]


async def measure(
    venue: str,
    count: int,
    books: int,
    gap_ms: float,
    folder: Path | None,
    log_level: str,
    rng: random.Random,
    far: int = LEVELS,
) -> Taken:
    """Who → its samples, `count` of each."""
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(running(3 * books, folder, log_level, venue=venue))
        own = {
            way: stack.symbols[books * number : books * (number + 1)] for number, way in enumerate((WATCHER, BARE, SDK))
        }
        ours = msgspec.structs.replace(stack, symbols=own[WATCHER])
        wire, floor = await Wire.open(stack.api_url), await Floor.open(stack)
        opened.push_async_callback(wire.close)
        opened.push_async_callback(floor.close)
        await stack.price(ENTRY, *stack.symbols)
        for way in (BARE, SDK):
            await opened.enter_async_context(reacting(way, venue, stack.exchange_url, own[way]))
        taken: Taken = {way: [] for way in own}
        for number in range(WARM_UP_ROUNDS - (-count // books)):
            if number == WARM_UP_ROUNDS:
                if far:
                    await arm_far_away(stack, far)
                taken = {way: [] for way in own}
            gc.collect()
            await alert_path.post_all(ours, wire, floor, gap_ms, rng, f"round {number}")
            seen = await cross_all(ours, own, gap_ms, rng)
            for way, samples in (await _samples(ours, own, seen)).items():
                taken[way] += samples
    return {way: samples[:count] for way, samples in taken.items()}


@asynccontextmanager
async def reacting(way: str, venue: str, url: str, symbols: Sequence[str]) -> AsyncIterator[None]:
    """One of the others, listening."""
    argv = [sys.executable, "-m", "bench.reaction", way, "--venue", venue, "--url", url, "--price", CROSSING]
    process = await asyncio.create_subprocess_exec(*argv, "--symbols", *symbols, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), alert_path.SETTLED_WITHIN_S)
        assert said, f"{way} has ended"
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def cross_all(ours: Stack, own: dict[str, Sequence[str]], gap_ms: float, rng: random.Random) -> Seen:
    """Cross each symbol once, the ways by turns; answers what the exchange saw of it."""
    await ours.seen()
    books = len(ours.symbols)
    for number in rng.sample(range(books), books):
        for way in rng.sample(sorted(own), len(own)):
            await asyncio.sleep(gap_ms * rng.uniform(0.5, 1.5) / 1000)
            await ours.price(CROSSING, own[way][number])
    await tick_path.all_closed(ours)
    await asyncio.sleep(QUIET_PAUSE_S)
    seen = await ours.seen()
    await ours.price(ENTRY, *(symbol for symbols in own.values() for symbol in symbols))
    await asyncio.sleep(QUIET_PAUSE_S)
    return seen


async def _samples(ours: Stack, own: dict[str, Sequence[str]], seen: Seen) -> Taken:
    """Of the first order of each symbol."""
    written, arrived = tick_path.crossings(seen), {order.symbol: order.at_ns for order in reversed(seen.orders)}
    taken = {WATCHER: await tick_path.samples_of(ours, seen)}
    for way in (BARE, SDK):
        missed = [symbol for symbol in own[way] if symbol not in arrived]
        assert not missed, f"{way} sent nothing for {missed}"
        taken[way] = [Sample(written=written[one], fired=None, arrived=arrived[one]) for one in own[way]]
    assert len(taken[WATCHER]) == len(own[WATCHER]), "each stop fires once"
    return taken


def rows(taken: Taken) -> dict[str, Summary]:
    """Each way's whole, and the watcher's steps."""
    steps = [sample.steps() for sample in taken[WATCHER] if sample.fired is not None]
    found = {way: tick_path.total(samples) for way, samples in taken.items()}
    return found | {f"watcher: {name}": summary([step[name] for step in steps]) for name in (steps[0] if steps else ())}


def told(venue: str, found: dict[str, Summary], far: int = LEVELS) -> str:
    """The table, and what it says."""
    watcher, bare, sdk = found[WATCHER], found[BARE], found[SDK]
    return (
        f"{table(f'{venue}: tick on the wire → close at the exchange, {far:,} levels armed beside', found, bare)}\n"
        f"  fire ÷ bare socket: p50 {aimed(watcher.p50 / bare.p50, P50_AIM)}, "
        f"p99 {aimed(watcher.p99 / bare.p99, P99_AIM)}; "
        f"{SDK_OF[venue]}'s own way ÷ fire: p50 {aimed(sdk.p50 / watcher.p50, SDK_AIM, least=True)}"
    )
