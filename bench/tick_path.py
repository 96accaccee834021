"""A tick that crosses a level is on the socket → the bytes of the closing order are at the exchange.

The level was armed with its closing order committed, so the path holds no commit.
"""

import asyncio
import random
from datetime import timedelta
from decimal import Decimal

import msgspec

from bench.alert_path import EPOCH, eventually
from bench.exchange import Seen
from bench.floor import Floor
from bench.report import Summary, summary
from bench.stack import Stack

ENTRY, CROSSING = "100", "98.99"  # through a stop 1 % below the entry, short of the native one behind it
QUIET_PAUSE_S = 0.3


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The instants of one crossing, wall clock in ns."""

    written: int  # the tick's frame is handed to the exchange's socket
    fired: int | None  # the watcher hands the order to the client library; not recorded when its fill was settled first
    arrived: int

    def steps(self) -> dict[str, int]:
        """Empty where the instant between is not known."""
        if self.fired is None:
            return {}
        return {
            "tick on the wire → order handed over": self.fired - self.written,
            "handed over → at the exchange": self.arrived - self.fired,
        }


async def cross_all(stack: Stack, floor: Floor, gap_ms: float, rng: random.Random) -> list[Sample]:
    """Cross the stop of each book's position, one after the other; returns when all are closed and prices are back."""
    await stack.seen()
    for symbol in rng.sample(stack.symbols, len(stack.symbols)):
        gap_s = gap_ms * rng.uniform(0.5, 1.5) / 1000
        due = asyncio.get_running_loop().time() + gap_s
        await stack.price(CROSSING, symbol)
        await asyncio.sleep(gap_s * rng.uniform(0.5, 0.8))
        await floor.sample()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    await all_closed(stack)
    samples = await samples_of(stack, await stack.seen())
    await stack.price(ENTRY, *stack.symbols)
    await asyncio.sleep(QUIET_PAUSE_S)
    return samples


def crossings(seen: Seen) -> dict[str, int]:
    """Symbol -> when the first tick through its stop was handed to the socket."""
    written: dict[str, int] = {}
    for tick in seen.ticks:
        if Decimal(tick.price) == Decimal(CROSSING):
            written.setdefault(tick.symbol, tick.at_ns)
    return written


async def samples_of(stack: Stack, seen: Seen) -> list[Sample]:
    """The closes that are ours."""
    written = crossings(seen)
    closes = {order.client_order_id: order for order in seen.orders if order.reduce_only}
    samples = []
    for row in await stack.rows(
        "SELECT client_order_id, sent_at FROM orders WHERE client_order_id = ANY($1)", list(closes)
    ):
        order = closes[row["client_order_id"]]
        sent_at = row["sent_at"]
        fired = None if sent_at is None else (sent_at - EPOCH) // timedelta(microseconds=1) * 1000
        samples.append(Sample(written=written[order.symbol], fired=fired, arrived=order.at_ns))
    return samples


def rows(samples: list[Sample]) -> dict[str, Summary]:
    steps = [sample.steps() for sample in samples if sample.fired is not None]
    found = {name: summary([step[name] for step in steps]) for name in steps[0]}
    found["tick: on the wire → close at the exchange"] = total(samples)
    return found


def total(samples: list[Sample]) -> Summary:
    return summary([x.arrived - x.written for x in samples])


async def all_closed(stack: Stack) -> None:
    await eventually(lambda: _all_closed(stack), "the closes")


async def _all_closed(stack: Stack) -> bool:
    [row] = await stack.rows(
        "SELECT count(*) AS n FROM positions WHERE status <> 'closed' AND symbol = ANY($1)", stack.symbols
    )
    return bool(row["n"] == 0)
