"""One tick crosses the stops of 50 positions: how far apart the first and the last of their orders arrive.

Fifty accounts hold a long of one instrument each, of fifty sizes. Ten more hold shorts, larger than any of them, whose
targets the same tick reaches: stops have to leave before targets, and of stops the largest first. The exchange is some
milliseconds away (see `bench.line`), so that nothing of what it does about the first order falls between the others.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from app.keys import Credentials
from app.store import accounts, strategies
from app.store.db import transaction
from bench.alert_path import ARMED_PAUSE_S, eventually
from bench.arrivals import OrderSeen
from bench.report import Summary, aimed, summary, table
from bench.stack import Stack, running
from bench.tick_path import CROSSING, ENTRY
from bench.wire import Wire

STOPS, TARGETS, ROUNDS = 50, 10, 5
DELAY_MS = 20.0
# Bybit takes 600 requests in five seconds from an address: accounts open in groups, and the burst has all of it.
GROUP, GROUP_S, QUIET_S = 20, 3.0, 6.0
ARRIVED_WITHIN_S, SETTLED_WITHIN_S = 15.0, 60.0
SPREAD_AIM_MS = 5.0


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy, the alert that it is sent, and how many accounts it has."""

    strategy: str
    alert: dict[str, Any]
    size: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one tick came to."""

    spread_ns: int  # between the first stop's order and the last one's
    stops: int
    targets: int
    early_targets: int  # before the last stop
    overtaken: int  # stops that arrived right after a smaller one


async def measure(
    rounds: int,
    folder: Path | None,
    log_level: str,
    *,
    stops: int = STOPS,
    targets: int = TARGETS,
    quiet_s: float = QUIET_S,
) -> list[Round]:
    async with running(1, folder, log_level, delay_ms=DELAY_MS) as stack:
        await stack.price(ENTRY, *stack.symbols)
        long: dict[str, Any] = {"action": "buy", "stop_loss": {"pct": 1}}
        short: dict[str, Any] = {"action": "sell", "stop_loss": {"pct": 10}, "take_profit": [{"pct": 1, "fraction": 1}]}
        sizes = random.Random(stops).sample(range(1, stops + 1), stops)
        groups = [(sizes[at : at + GROUP], long) for at in range(0, stops, GROUP)]
        groups.append((list(range(stops + 1, stops + targets + 1)), short))
        desks = [Desk(strategy=await _strategy(stack, of), alert=alert, size=len(of)) for of, alert in groups]
        wire = await Wire.open(stack.api_url)
        try:
            found = []
            for number in range(rounds):
                await _open(stack, wire, desks, number, min(quiet_s, GROUP_S))
                await asyncio.sleep(quiet_s + ARMED_PAUSE_S)
                found.append(await _cross(stack, stops + targets))
                await asyncio.sleep(quiet_s)
            return found
        finally:
            await wire.close()


async def _strategy(stack: Stack, sizes: Sequence[int]) -> str:
    """A strategy with an account for each size."""
    resources, made, name = stack.resources, [], f"burst-{sizes[0]}"
    for size in sizes:
        key = {"api_key": f"account-{size}", "api_secret": f"account-{size}-secret"}
        status, body = await stack.exchange.post("/control/accounts", msgspec.json.encode(key | {"balance": "1e9"}))
        assert status == 200, body
        async with transaction(resources.pool) as connection:
            account = await accounts.create(
                connection,
                resources.keys,
                name=key["api_key"],
                venue=accounts.VenueName.BYBIT,
                environment=accounts.Environment.SIMULATOR,
                credentials=Credentials(**key),
            )
        made.append(strategies.AccountShare(account_id=account.id, multiplier=Decimal(size)))
    async with transaction(resources.pool) as connection:
        await strategies.create(
            connection,
            strategies.NewStrategy(id=name, name=name, accounts=made),
            resources.keys.secret_hash(stack.secret),
        )
    return name


async def _open(stack: Stack, wire: Wire, desks: Sequence[Desk], number: int, pause_s: float) -> None:
    """All positions, each with its levels armed."""
    [symbol] = stack.symbols
    common = {"secret": stack.secret, "id": str(number), "symbol": symbol, "size": {"base": "1"}}
    count = 0
    for desk in desks:
        status, answer = await wire.post(f"/webhook/{desk.strategy}", msgspec.json.encode(common | desk.alert))
        assert status == 202, answer
        count += desk.size
        await eventually(partial(_are_open, stack, count), "the positions", SETTLED_WITHIN_S)
        await asyncio.sleep(pause_s)


async def _cross(stack: Stack, count: int) -> Round:
    """One tick through all of them; returns when all is closed and the price is back."""
    await stack.seen()
    await stack.price(CROSSING, *stack.symbols)
    orders = await _arrived(stack, count)
    await eventually(lambda: _are_closed(stack), "the closes", SETTLED_WITHIN_S)
    again = [order for order in (await stack.seen()).orders if order.reduce_only]
    assert not again, f"sent again: {again}"
    await stack.price(ENTRY, *stack.symbols)
    kinds = await stack.rows(
        "SELECT o.client_order_id, l.kind FROM orders o JOIN levels l ON l.order_id = o.id"
        " WHERE o.client_order_id = ANY($1)",
        [order.client_order_id for order in orders],
    )
    return judged(orders, {row["client_order_id"]: row["kind"] for row in kinds})


async def _arrived(stack: Stack, count: int) -> list[OrderSeen]:
    """The closes, once they are so many."""
    found: list[OrderSeen] = []
    until = time.monotonic() + ARRIVED_WITHIN_S
    while len(found) < count and time.monotonic() < until:
        await asyncio.sleep(0.2)
        found += [order for order in (await stack.seen()).orders if order.reduce_only]
    assert len({order.client_order_id for order in found}) == len(found) == count, f"{len(found)} orders of {count}"
    return found


def judged(orders: Sequence[OrderSeen], kinds: dict[str, str]) -> Round:
    """`kinds`: client order id -> of the level that it closes."""
    ordered = sorted(orders, key=lambda order: order.at_ns)
    stops = [order for order in ordered if kinds[order.client_order_id] != "take_profit"]
    targets = [order for order in ordered if kinds[order.client_order_id] == "take_profit"]
    return Round(
        spread_ns=stops[-1].at_ns - stops[0].at_ns,
        stops=len(stops),
        targets=len(targets),
        early_targets=sum(order.at_ns < stops[-1].at_ns for order in targets),
        overtaken=sum(Decimal(one.qty) < Decimal(other.qty) for one, other in pairwise(stops)),
    )


async def _are_open(stack: Stack, count: int) -> bool:
    """Whether so many positions are, and protected by their levels."""
    for row in await stack.rows(
        "SELECT status, outcome_reason FROM instructions WHERE finished_at IS NOT NULL AND cause_kind = 'alert'"
    ):
        assert row["status"] == "done", f"an opening ended as {row['status']}: {row['outcome_reason']}"
    [row] = await stack.rows(
        "SELECT count(*) AS n FROM positions p WHERE status = 'open'"
        " AND EXISTS (SELECT FROM levels WHERE position_id = p.id AND status = 'armed')"
    )
    return bool(row["n"] == count)


async def _are_closed(stack: Stack) -> bool:
    return not await stack.rows("SELECT 1 FROM positions WHERE status <> 'closed'")


def rows(rounds: Sequence[Round]) -> dict[str, Summary]:
    return {"first stop → last stop at the exchange": summary([one.spread_ns for one in rounds])}


def told(rounds: Sequence[Round]) -> str:
    found, stops = rows(rounds), sum(one.stops for one in rounds)
    [spread] = found.values()
    overtaken, early = (sum(getattr(one, name) for one in rounds) for name in ("overtaken", "early_targets"))
    return (
        f"{table(f'{rounds[0].stops} stops and {rounds[0].targets} targets at one tick', found)}\n"
        f"  burst: p50 {aimed(spread.p50, SPREAD_AIM_MS, ' ms')}; largest first: {stops - overtaken} of {stops} "
        f"in order; targets before the last stop: {early} of {sum(one.targets for one in rounds)}"
    )
