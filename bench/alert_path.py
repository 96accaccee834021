"""An alert is posted → the bytes of its order are at the exchange."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from bench.floor import Floor
from bench.report import Summary, summary
from bench.stack import STRATEGY, Stack
from bench.wire import Wire

SETTLED_WITHIN_S = 20.0
ARMED_PAUSE_S = 0.4  # after the commit of the levels, for the watcher to hear of them
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The instants of one alert, wall clock in ns."""

    sent: int
    answered: int
    received: int
    picked: int
    decided: int
    written: int  # both commits are done; the order leaves
    arrived: int

    def steps(self) -> dict[str, int]:
        return {
            "posted → received": self.received - self.sent,
            "received → picked": self.picked - self.received,
            "picked → decided": self.decided - self.picked,
            "decided → committed": self.written - self.decided,
            "committed → at the exchange": self.arrived - self.written,
        }


class Posted(msgspec.Struct, frozen=True):
    symbol: str
    sent: int
    answered: int


async def open_all(stack: Stack, wire: Wire, floor: Floor, gap_ms: float, rng: random.Random, tag: str) -> list[Sample]:
    """Open a position in each book; answers how long that took."""
    await stack.seen()
    return await _samples(stack, await post_all(stack, wire, floor, gap_ms, rng, tag))


async def post_all(
    stack: Stack, wire: Wire, floor: Floor, gap_ms: float, rng: random.Random, tag: str
) -> dict[UUID, Posted]:
    """Open a position in each book by an alert, arrivals spaced; returns when all are protected."""
    posted: dict[UUID, Posted] = {}
    for symbol in stack.symbols:
        gap_s = gap_ms * rng.uniform(0.5, 1.5) / 1000
        due = asyncio.get_running_loop().time() + gap_s
        body = {
            "secret": stack.secret,
            "id": f"{tag} {symbol}",
            "symbol": symbol,
            "action": "buy",
            "size": {"base": "1"},
            "stop_loss": {"pct": 1},
        }
        raw = msgspec.json.encode(body)
        status, answer = await wire.post(f"/webhook/{STRATEGY}", raw)
        answered = time.time_ns()
        assert status == 202, answer
        posted[UUID(msgspec.json.decode(answer)["alert_id"])] = Posted(symbol, wire.sent_ns, answered)
        await asyncio.sleep(gap_s * rng.uniform(0.5, 0.8))
        await floor.sample()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    await eventually(lambda: _all_done(stack, list(posted)), "the alerts' ends")
    await eventually(lambda: _all_armed(stack), "the levels")
    await asyncio.sleep(ARMED_PAUSE_S)
    return posted


async def _samples(stack: Stack, posted: dict[UUID, Posted]) -> list[Sample]:
    arrived = {order.symbol: order.at_ns for order in (await stack.seen()).orders if not order.reduce_only}
    samples = []
    for row in await stack.rows("SELECT id, marks FROM alerts WHERE id = ANY($1)", list(posted)):
        one, marks = posted[row["id"]], row["marks"]
        samples.append(
            Sample(
                sent=one.sent,
                answered=one.answered,
                received=instant_ns(marks["received"]),
                picked=instant_ns(marks["picked"]),
                decided=instant_ns(marks["decided"]),
                written=instant_ns(marks["sent"]),
                arrived=arrived[one.symbol],
            )
        )
    return samples


def rows(samples: list[Sample]) -> dict[str, Summary]:
    """The whole, its steps, and beside them the answer that the sender waits for."""
    steps = [sample.steps() for sample in samples]
    found = {name: summary([step[name] for step in steps]) for name in steps[0]}
    found["alert: posted → order at the exchange"] = total(samples)
    found["beside it: posted → answered 202"] = summary([x.answered - x.sent for x in samples])
    return found


def total(samples: list[Sample]) -> Summary:
    return summary([x.arrived - x.sent for x in samples])


async def _all_done(stack: Stack, alert_ids: list[UUID]) -> bool:
    for row in await stack.rows("SELECT status, outcome_reason FROM alerts WHERE id = ANY($1)", alert_ids):
        if row["status"] in ("received", "executing"):
            return False
        assert row["status"] == "done", f"an alert ended as {row['status']}: {row['outcome_reason']}"
    return True


async def _all_armed(stack: Stack) -> bool:
    [row] = await stack.rows(
        "SELECT count(*) AS n FROM levels l JOIN positions p ON p.id = l.position_id"
        " WHERE l.status = 'armed' AND p.status = 'open' AND p.symbol = ANY($1)",
        stack.symbols,
    )
    return bool(row["n"] == len(stack.symbols))


async def eventually(check: Callable[[], Awaitable[bool]], what: str, within_s: float = SETTLED_WITHIN_S) -> None:
    """Look at it now and then: this wait is outside of what is measured."""
    try:
        async with asyncio.timeout(within_s):
            while not await check():  # noqa: ASYNC110  # other processes do it; there is no event to wait for
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SystemExit(f"bench: gave up waiting for {what} after {within_s:g} s") from None


def instant_ns(text: str) -> int:
    """An RFC 3339 instant in ns since 1970; exact, because a float isn't."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) * 1000
