"""Compare what we think is held with what the exchange holds, and fetch what we did not see happen.

The exchange is the truth about what is held. A read that fails changes nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from app.domain.level import LevelKind
from app.domain.money import plain
from app.domain.order import opposite
from app.domain.position import Position, PositionStatus
from app.errors import Conflict, OutcomeUnknown, Refused, Transient
from app.flows import orders as road
from app.flows import protect
from app.flows.settle import settle, settle_external_close
from app.log import event
from app.resources import Connected, Resources
from app.store import levels, orders, positions
from app.store.db import store_errors
from app.store.inbox import CauseKind
from app.venues.base import Holding

log = logging.getLogger("reconcile")

LOOK_BACK = timedelta(minutes=1)  # before the last visit that succeeded: executions may be listed late
UNRESOLVED_AGE_S = 3.0
ASK_S = 0.2
DRIFT_AGE = timedelta(seconds=10)  # longer than executions lag behind positions
STOP_GRACE = timedelta(seconds=2)  # whoever opened the position is placing its stop

TROUBLE = (Refused, Transient, OutcomeUnknown, Conflict)


class Drift(msgspec.Struct, frozen=True):
    """A difference, since when it is seen, and whether people were told."""

    what: str
    since: datetime
    told: bool = False


class Memory:
    """What the reconciler remembers between visits; losing it costs nothing but a longer look back."""

    def __init__(self) -> None:
        self.visited: dict[UUID, datetime] = {}  # position -> when its fills were last fetched
        self.drifts: dict[UUID, Drift] = {}  # position -> the difference that the last visit found
        self.foreign: set[tuple[UUID, str, str]] = set()  # (account, symbol, what) that people were told of
        self.again_soon = False  # something could not be judged yet


async def account(resources: Resources, account_id: UUID, memory: Memory) -> None:
    """Visit one account: orders whose end is not known, fills that nobody has settled, differences in what is held."""
    connected = await resources.venues.of(account_id)
    await _orders(resources, connected)
    holdings = {(holding.symbol, holding.side): holding for holding in await connected.venue.holdings()}
    with store_errors():
        held = await positions.live_of_account(resources.pool, account_id)
    for position in held:
        holding = holdings.pop((position.symbol, position.side), None)
        if holding is None and not position.hedge:
            holding = holdings.pop((position.symbol, opposite(position.side)), None)
        with _reported(position.symbol):
            await _position(resources, connected, position, holding, memory)
    for holding in holdings.values():
        await _foreign(resources, connected, holding, memory)


async def _orders(resources: Resources, connected: Connected) -> None:
    """Ask about orders whose end is not known."""
    account_id = connected.account.id
    with store_errors():
        waiting = await orders.unresolved(resources.pool, account_id, older_than_s=UNRESOLVED_AGE_S)
        doubtful = await orders.doubtful(resources.pool, account_id)
    for order in waiting:
        with _reported(order.symbol):
            await road.resolve(resources, connected, order, patience_s=ASK_S)
    for order in doubtful:
        with _reported(order.symbol):
            asked = await road.ask(resources, connected, order)
            if asked.seen:
                event(log, logging.WARNING, "an order given up as absent has arrived", order=order.client_order_id)


async def all_accounts(resources: Resources, memory: Memory) -> None:
    """Visit every account with something at stake; one that fails does not keep the others waiting."""
    await _each_in_use(resources, lambda account_id: account(resources, account_id, memory))


async def all_orders(resources: Resources) -> None:
    """Ask about the orders of every account whose end is not known: what cannot wait for the next full visit."""

    async def visit(account_id: UUID) -> None:
        await _orders(resources, await resources.venues.of(account_id))

    await _each_in_use(resources, visit)


async def _each_in_use(resources: Resources, visit: Callable[[UUID], Awaitable[None]]) -> None:
    with store_errors():
        found = await positions.accounts_in_use(resources.pool)
    for account_id in found:
        try:
            await visit(account_id)
        except TROUBLE as error:
            event(log, logging.WARNING, "cannot compare with the exchange", account=account_id, why=str(error))


@contextmanager
def _reported(symbol: str) -> Iterator[None]:
    """What fails for one symbol is said and does not keep the others waiting."""
    try:
        yield
    except TROUBLE as error:
        event(log, logging.WARNING, "cannot compare with the exchange", symbol=symbol, why=str(error))


async def book(resources: Resources, connected: Connected, symbol: str) -> None:
    """Catch up with one book now: something was refused that should not have been."""
    with store_errors():
        held = await positions.live(resources.pool, connected.account.id, symbol)
    for position in held:
        await _fetch(resources, connected, position, Memory())


async def _position(
    resources: Resources, connected: Connected, position: Position, holding: Holding | None, memory: Memory
) -> None:
    """`holding` is what the exchange listed; None: it lists nothing for the symbol."""
    difference = _difference(position, holding)
    if difference is not None or position.id not in memory.visited:
        await _fetch(resources, connected, position, memory)
    with store_errors():
        current = await positions.get(resources.pool, position.id)
    if current is None or current.status is PositionStatus.CLOSED:
        memory.drifts.pop(position.id, None)
        memory.visited.pop(position.id, None)
        return
    await _resume_levels(resources, current)
    if current.qty != position.qty:
        return  # it moved while we looked: the holding that was read may be older; next time
    await _compare(resources, connected, current, holding, difference, memory)


async def _fetch(resources: Resources, connected: Connected, position: Position, memory: Memory) -> None:
    """Settle the fills of this book that nobody has seen."""
    symbol, now = position.symbol, resources.now()
    last = memory.visited.get(position.id)
    since = position.opened_at if last is None else max(position.opened_at, last - LOOK_BACK)
    instrument = await connected.venue.instrument(symbol)
    seen = await connected.venue.fills(symbol, since=since)
    with store_errors():
        known = await orders.known_fills(
            resources.pool, position.account_id, symbol, [fill.venue_fill_id for fill in seen]
        )
    missed = [fill for fill in seen if fill.venue_fill_id not in known]
    if missed:
        await settle(resources, position.account_id, instrument, missed)
        await protect.secure(resources, connected, position.id)
    memory.visited[position.id] = now


async def _foreign(resources: Resources, connected: Connected, holding: Holding, memory: Memory) -> None:
    """The exchange holds what we do not: never traded by us, said once. Ours, if an order of ours is behind it."""
    account_id, what = connected.account.id, f"{holding.side} {plain(holding.qty)}"
    with store_errors():
        if await orders.opening_in_flight(resources.pool, account_id, holding.symbol, holding.side):
            return  # on its way into our tables
    if (account_id, holding.symbol, what) in memory.foreign:
        return
    memory.foreign.add((account_id, holding.symbol, what))
    event(log, logging.WARNING, "the exchange holds a position that is not ours: left alone",
          account=connected.account.name, symbol=holding.symbol, holds=what)  # fmt: skip
    with store_errors():
        await positions.record(
            resources.pool, "foreign_position", account_id=account_id, detail={"symbol": holding.symbol, "holds": what}
        )


async def _resume_levels(resources: Resources, position: Position) -> None:
    """A watcher that died between a crossing and its close left it to us; the same level is taken up once."""
    with store_errors():
        found = await levels.interrupted(resources.pool, position.id)
    for level in found:
        event(log, logging.WARNING, "a crossed level was left half-way", symbol=position.symbol, kind=level.kind)
        closes_all = level.kind is not LevelKind.TAKE_PROFIT
        await protect.instruct_close(
            resources, position, CauseKind.LEVEL, level.id, qty=None if closes_all else level.rest
        )


async def _compare(
    resources: Resources,
    connected: Connected,
    position: Position,
    holding: Holding | None,
    difference: str | None,
    memory: Memory,
) -> None:
    covers = holding is not None and (holding.side is not position.side or holding.stop_loss is not None)
    if holding is not None and not covers and position.exits.names_a_stop:
        if resources.now() - position.opened_at > STOP_GRACE:
            event(log, logging.WARNING, "the native stop is missing", symbol=position.symbol, position=position.id)
            await protect.secure(resources, connected, position.id)
        else:
            memory.again_soon = True
    if difference is None:
        memory.drifts.pop(position.id, None)
        return
    before = memory.drifts.get(position.id)
    if before is None or before.what != difference:
        memory.drifts[position.id] = Drift(difference, resources.now())
        return
    with store_errors():
        in_flight = await orders.in_flight(resources.pool, position.account_id, position.symbol)
    if in_flight or resources.now() - before.since < DRIFT_AGE:
        return  # an order's fills may be on their way
    if holding is None:
        event(
            log,
            logging.WARNING,
            "the exchange holds nothing any more and shows no fill for it: closed from outside",
            symbol=position.symbol,
            position=position.id,
        )
        await settle_external_close(resources, position)
        await protect.secure(resources, connected, position.id)  # nothing of it may go on resting there
        memory.drifts.pop(position.id, None)
        return
    if before.told:
        return
    event(log, logging.WARNING, "drift", symbol=position.symbol, position=position.id, what=difference)
    with store_errors():
        await positions.record(
            resources.pool,
            "drift",
            position_id=position.id,
            account_id=position.account_id,
            detail={"difference": difference},
        )
    memory.drifts[position.id] = Drift(difference, before.since, told=True)


def _difference(position: Position, holding: Holding | None) -> str | None:
    if holding is not None and holding.side is position.side and holding.qty == position.qty:
        return None
    theirs = "flat" if holding is None else f"{holding.side} {plain(holding.qty)}"
    return f"ours {position.side} {plain(position.qty)}, the exchange's {theirs}"
