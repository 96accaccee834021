"""Compare what we think is held with what the exchange holds, and fetch what we did not see happen.

The exchange is the truth about what is held. A read that fails changes nothing.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from app.domain.level import LevelKind
from app.domain.money import ZERO, plain
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

LOOK_BACK = timedelta(minutes=10)
UNRESOLVED_AGE_S = 3.0
ASK_S = 0.2
DRIFT_AGE = timedelta(seconds=3)


class Drift(msgspec.Struct, frozen=True):
    """A difference, since when it is seen, and whether people were told."""

    what: str
    since: datetime
    told: bool = False


class Memory:
    """What the reconciler remembers between visits; losing it costs nothing but a longer look back."""

    def __init__(self) -> None:
        self.visited: set[UUID] = set()  # positions whose whole history has been fetched once
        self.drifts: dict[UUID, Drift] = {}  # position -> the difference that the last visit found


async def account(resources: Resources, account_id: UUID, memory: Memory) -> None:
    """Visit one account: orders whose end is not known, fills that nobody has settled, differences in what is held."""
    connected = await resources.venues.of(account_id)
    with store_errors():
        waiting = await orders.unresolved(resources.pool, account_id, older_than_s=UNRESOLVED_AGE_S)
        doubtful = await orders.doubtful(resources.pool, account_id)
        held = await positions.live_of_account(resources.pool, account_id)
    for order in waiting:
        await road.resolve(resources, connected, order, patience_s=ASK_S)
    for order in doubtful:
        _, seen = await road.ask(resources, connected, order)
        if seen:
            event(log, logging.WARNING, "an order given up as absent has arrived", order=order.client_order_id)
    for position in held:
        await _position(resources, connected, position, memory)


async def all_accounts(resources: Resources, memory: Memory) -> None:
    """Visit every account with something at stake; one that fails does not keep the others waiting."""
    with store_errors():
        found = await positions.accounts_in_use(resources.pool)
    for account_id in found:
        try:
            await account(resources, account_id, memory)
        except (Refused, Transient, OutcomeUnknown, Conflict) as error:
            event(log, logging.WARNING, "cannot compare with the exchange", account=account_id, why=str(error))


async def book(resources: Resources, connected: Connected, symbol: str) -> None:
    """Catch up with one book now: something was refused that should not have been."""
    with store_errors():
        position = await positions.live(resources.pool, connected.account.id, symbol)
    if position is not None:
        await _position(resources, connected, position, Memory())


async def _position(resources: Resources, connected: Connected, position: Position, memory: Memory) -> None:
    pool, symbol = resources.pool, position.symbol
    since = resources.now() - LOOK_BACK
    if position.id not in memory.visited:
        since = position.opened_at
    instrument = await connected.venue.instrument(symbol)
    holding = await connected.venue.holding(symbol)
    seen = await connected.venue.fills(symbol, since=max(since, position.opened_at))
    with store_errors():
        known = await orders.known_fills(pool, position.account_id, symbol, [fill.venue_fill_id for fill in seen])
    missed = [fill for fill in seen if fill.venue_fill_id not in known]
    if missed:
        await settle(resources, position.account_id, instrument, missed)
    memory.visited.add(position.id)
    with store_errors():
        now_held = await positions.get(pool, position.id)
    if now_held is None or now_held.status is PositionStatus.CLOSED:
        memory.drifts.pop(position.id, None)
        if missed:
            await protect.secure(resources, connected, position.id)
        return
    await _resume_levels(resources, now_held)
    if now_held != position:
        return  # it moved while we looked: the holding that was read may be older; next time
    await _compare(resources, connected, position, holding, memory)


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
    resources: Resources, connected: Connected, position: Position, holding: Holding, memory: Memory
) -> None:
    difference = _difference(position, holding)
    if difference is None:
        memory.drifts.pop(position.id, None)
        if holding.stop_loss is None and position.exits.names_a_stop:
            event(log, logging.WARNING, "the native stop is missing", symbol=position.symbol, position=position.id)
            await protect.secure(resources, connected, position.id)
        return
    before = memory.drifts.get(position.id)
    if before is None or before.what != difference:
        memory.drifts[position.id] = Drift(difference, resources.now())
        return
    if resources.now() - before.since < DRIFT_AGE:
        return  # perhaps a matter of what was read first
    if holding.qty == ZERO:
        event(
            log,
            logging.WARNING,
            "the exchange holds nothing any more and shows no fill for it: closed from outside",
            symbol=position.symbol,
            position=position.id,
        )
        await settle_external_close(resources, position)
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


def _difference(position: Position, holding: Holding) -> str | None:
    if holding.side is position.side and holding.qty == position.qty:
        return None
    theirs = "flat" if holding.side is None else f"{holding.side} {plain(holding.qty)}"
    return f"ours {position.side} {plain(position.qty)}, the exchange's {theirs}"
