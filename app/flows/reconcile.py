"""Compare what we think is held with what the exchange holds, and fetch what we did not see happen.

The exchange is the truth about what is held. A read that fails changes nothing. What its fills do not explain is a
drift: `app.domain.drift` says what becomes of each kind.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from app import crash
from app.domain.drift import DRIFTS, DriftKind
from app.domain.level import LevelKind
from app.domain.money import plain
from app.domain.order import is_ours, opposite
from app.domain.position import Position, PositionStatus
from app.domain.refusals import Outcome
from app.errors import Conflict, OutcomeUnknown, Refused, Transient
from app.flows import orders as road
from app.flows import protect
from app.flows.settle import settle, settle_external_close
from app.ids import new_id
from app.log import event
from app.resources import Connected, Resources
from app.store import drifts, levels, orders, positions
from app.store.db import store_errors
from app.store.drifts import Seen
from app.store.inbox import CauseKind
from app.venues.base import Holding

log = logging.getLogger("reconcile")

LOOK_BACK = timedelta(minutes=1)  # before the last visit that succeeded: executions may be listed late
FETCH_EVERY = timedelta(minutes=3)  # quantities may agree by chance, a stranger's trade hiding a fill of ours
UNRESOLVED_AGE_S = 3.0
ASK_S = 0.2
LISTED_AFTER = road.QUERY_LAG + timedelta(seconds=1)  # so long after its end a position's fills are all listed
LEFTOVERS = timedelta(minutes=10)  # so long after its end a position's leftovers are looked for
STOP_GRACE = timedelta(seconds=2)  # whoever ended a position is removing its stop
STOP_LAG = timedelta(seconds=5)  # once a stop cannot arrive any more: so long its venue's list may lag behind
ACCOUNTS_AT_ONCE = 8
OUR_PAST = timedelta(days=1)  # in which orders of ours that we do not know are looked for

TROUBLE = (Refused, Transient, OutcomeUnknown, Conflict, msgspec.ValidationError)  # the last: another version's rows


class Difference(msgspec.Struct, frozen=True):
    """What was seen, and since when."""

    what: str
    since: datetime


class Memory:
    """What the reconciler remembers between visits; losing it costs nothing but a longer look back."""

    def __init__(self) -> None:
        self.visited: dict[UUID, datetime] = {}  # position -> when its fills were last fetched
        self.differences: dict[Seen, Difference] = {}  # of one account
        self.cleared: set[UUID] = set()  # ended positions of which nothing rests any more
        self.fetched: set[UUID] = set()  # ended positions whose fills were fetched a last time
        self.again_soon = False  # something could not be judged yet
        self.troubles: dict[tuple[UUID, str], str] = {}  # (account, symbol or "") -> what was said about it
        self.accounts: dict[UUID, Memory] = {}  # where several are visited

    def of(self, account_id: UUID) -> "Memory":
        return self.accounts.setdefault(account_id, Memory())

    def lasted(self, seen: Seen, what: str, now: datetime) -> bool:
        """Whether a difference is the same for as long as its kind has to last."""
        before = self.differences.get(seen)
        if before is None or before.what != what:
            before = self.differences[seen] = Difference(what, now)
        return now - before.since >= timedelta(seconds=DRIFTS[seen[2]].after_s)


class _Visit:
    """One look at one account."""

    def __init__(self, resources: Resources, connected: Connected, memory: Memory) -> None:
        self.resources = resources
        self.connected = connected
        self.memory = memory
        self.still: set[Seen] = set()  # differences that are there now
        self.whole = True  # everything could be looked at

    @contextmanager
    def reported(self, symbol: str) -> Iterator[None]:
        """What fails for one symbol is said, once, and does not keep the others waiting."""
        key = (self.connected.account.id, symbol)
        try:
            yield
        except TROUBLE as error:
            self.whole = self.whole and isinstance(error, Refused)  # asking again changes nothing about that
            _say(self.memory, key, error, account=self.connected.account.name, symbol=symbol)
        else:
            self.memory.troubles.pop(key, None)


def _say(memory: Memory, key: tuple[UUID, str], error: Exception, **where: object) -> None:
    if memory.troubles.get(key) != str(error):
        event(log, logging.WARNING, "cannot compare with the exchange", **where, why=str(error))
    memory.troubles[key] = str(error)


async def account(resources: Resources, account_id: UUID, memory: Memory) -> None:
    """Visit one account: orders whose end is not known, fills that nobody has settled, differences in what is held."""
    await _visit(resources, await resources.venues.of(account_id), memory)


async def first_look(resources: Resources, connected: Connected) -> bool:
    """Compare an account once before this process opens anything on it: this database may have been restored from a
    backup, or have slept while the exchange did not. False when not all could be looked at; raises what a read raises.
    """
    if not connected.compared:
        async with connected.comparing:
            connected.compared = connected.compared or await _visit(resources, connected, Memory())
    return connected.compared


async def _visit(resources: Resources, connected: Connected, memory: Memory) -> bool:
    """Whether everything could be looked at."""
    account_id, visit = connected.account.id, _Visit(resources, connected, memory)
    await _orders(visit)
    holdings = {(holding.symbol, holding.side): holding for holding in await connected.venue.holdings()}
    with store_errors():
        held = await positions.live_of_account(resources.pool, account_id)
        ended = await positions.closed_lately(resources.pool, account_id, since=resources.now() - LEFTOVERS)
    for position in held:
        holding = holdings.pop((position.symbol, position.side), None)
        if holding is None and not position.hedge:
            holding = holdings.pop((position.symbol, opposite(position.side)), None)
        with visit.reported(position.symbol):
            await _position(visit, position, holding)
    for holding in holdings.values():
        with visit.reported(holding.symbol):
            await _foreign(visit, holding)
    for known in (memory.cleared, memory.fetched):
        known.intersection_update(position.id for position in ended)
    by_symbol: dict[str, list[Position]] = {}
    for position in sorted(ended, key=lambda position: position.opened_at):
        by_symbol.setdefault(position.symbol, []).append(position)
    for symbol, of_symbol in by_symbol.items():
        with visit.reported(symbol):
            # A stop rests for a side, not for a position: the last one that ended there speaks for those before it.
            for last in {position.side: position for position in of_symbol}.values():
                await _leftovers(visit, last)
            await _last_fills(visit, of_symbol)
    if visit.whole:
        with store_errors():
            gone = await drifts.gone(resources.pool, account_id, visit.still)
        for drift in gone:
            event(log, logging.INFO, "no drift any more", account=connected.account.name, symbol=drift.symbol,
                  kind=drift.kind)  # fmt: skip
    for seen in set(memory.differences) - visit.still:
        del memory.differences[seen]
    return visit.whole


async def _orders(visit: _Visit) -> None:
    """Ask about orders whose end is not known."""
    resources, connected = visit.resources, visit.connected
    account_id = connected.account.id
    with store_errors():
        waiting = await orders.unresolved(resources.pool, account_id, older_than_s=UNRESOLVED_AGE_S)
        doubtful = await orders.doubtful(resources.pool, account_id)
    for order in waiting:
        with visit.reported(order.symbol):
            await road.resolve(resources, connected, order, patience_s=ASK_S)
    for order in doubtful:
        with visit.reported(order.symbol):
            asked = await road.ask(resources, connected, order)
            if asked.seen:
                event(log, logging.WARNING, "an order given up as absent has arrived", order=order.client_order_id)


async def all_accounts(resources: Resources, memory: Memory) -> None:
    """Visit every account with something at stake; one that fails does not keep the others waiting."""
    await _each_in_use(resources, memory, lambda account_id: account(resources, account_id, memory.of(account_id)))


async def all_orders(resources: Resources, memory: Memory) -> None:
    """Ask about the orders of every account whose end is not known: what cannot wait for the next full visit."""

    async def look(account_id: UUID) -> None:
        await _orders(_Visit(resources, await resources.venues.of(account_id), memory.of(account_id)))

    await _each_in_use(resources, memory, look)


async def _each_in_use(resources: Resources, memory: Memory, look: Callable[[UUID], Awaitable[None]]) -> None:
    """Side by side: one whose exchange hangs does not keep the others waiting."""
    at_once = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

    async def one(account_id: UUID) -> None:
        async with at_once:
            try:
                await look(account_id)
            except TROUBLE as error:
                _say(memory, (account_id, ""), error, account=account_id)
            else:
                memory.troubles.pop((account_id, ""), None)

    with store_errors():
        found = await positions.accounts_in_use(resources.pool)
    for ended in await asyncio.gather(*map(one, found), return_exceptions=True):
        if ended is not None:
            raise ended


async def book(resources: Resources, connected: Connected, symbol: str) -> None:
    """Catch up with one book now: something was refused that should not have been."""
    with store_errors():
        held = await positions.live(resources.pool, connected.account.id, symbol)
    for position in held:
        await _fetch(resources, connected, position, Memory())


async def _position(visit: _Visit, position: Position, holding: Holding | None) -> None:
    """`holding` is what the exchange listed; None: it lists nothing for the symbol."""
    resources, memory = visit.resources, visit.memory
    difference = _difference(position, holding)
    last = memory.visited.get(position.id)
    now = visit.connected.there(resources.now())
    if difference is not None or last is None or now - last > FETCH_EVERY:
        try:
            await _fetch(resources, visit.connected, position, memory)
        except Refused as refused:
            if refused.code != Outcome.UNKNOWN_SYMBOL or holding is not None:
                raise
            # Delisted: of what was held of it no fill is told any more.
    with store_errors():
        current = await positions.get(resources.pool, position.id)
    if current is None or current.status is PositionStatus.CLOSED:
        memory.visited.pop(position.id, None)
        return
    await _resume_levels(resources, current)
    if current.qty != position.qty:
        # It moved while we looked: the holding that was read may be older; next time.
        visit.still.add((position.symbol, position.side, DriftKind.SIZE_DIFFERS))
        return
    await _stop(visit, current, holding)
    if difference is not None:
        await _differs(visit, current, holding, difference)


async def _fetch(resources: Resources, connected: Connected, position: Position, memory: Memory) -> None:
    """Settle the fills of this book that nobody has seen."""
    symbol = position.symbol
    now = connected.there(resources.now())
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
        crash.point("reconcile.fetched", symbol)
        await settle(resources, position.account_id, instrument, missed)
        await protect.secure(resources, connected, position.id)
    memory.visited[position.id] = now


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


async def _stop(visit: _Visit, position: Position, holding: Holding | None) -> None:
    """The native stop of what is held is there, where it belongs and as we say; or it is placed anew."""
    resources, connected = visit.resources, visit.connected
    if holding is None or holding.side is not position.side:
        return
    wanted = protect.wanted_stop(position, await connected.venue.instrument(position.symbol))
    rests = holding.stop_loss
    if wanted is None or (
        rests is not None and rests == position.native_stop and protect.fits(rests, wanted, position)
    ):
        return
    if resources.now() - position.opened_at <= timedelta(seconds=DRIFTS[DriftKind.MISSING_STOP].after_s):
        visit.memory.again_soon = True  # whoever opened the position is placing it
        return
    # The list of holdings may be older than what we know: the last word before anything is done.
    current = (await connected.venue.standing(position.symbol)).on(position.side)
    gone = current is not None and current.stop_loss is None and position.native_stop is not None
    if gone:
        with store_errors():
            await positions.set_native_stop(resources.pool, position.id, None)  # nobody is told that it protects
    if await protect.secure(resources, connected, position.id) and gone:
        seen = (position.symbol, position.side, DriftKind.MISSING_STOP)
        await _healed(visit, seen, position, "the native stop was gone, and is placed anew")


async def _differs(visit: _Visit, position: Position, holding: Holding | None, difference: str) -> None:
    """What the fills do not explain. Where the other side is held in one-way mode, nothing of ours can be left."""
    resources, account_id = visit.resources, position.account_id
    gone = holding is None or holding.side is not position.side
    kind = DriftKind.CLOSED_OUTSIDE if gone else DriftKind.SIZE_DIFFERS
    seen = (position.symbol, position.side, kind)
    visit.still.add(seen)
    if not visit.memory.lasted(seen, difference, resources.now()):
        return
    with store_errors():
        if await orders.in_flight(resources.pool, account_id, position.symbol):
            return  # an order's fills may be on their way
    if gone:
        await settle_external_close(resources, position)
        await protect.secure(resources, visit.connected, position.id)  # nothing of it may go on resting there
        await _healed(visit, seen, position, "the exchange holds nothing any more and lists no fill for it")
        visit.still.discard(seen)
    else:
        await _ask(visit, seen, position.id, difference)


async def _foreign(visit: _Visit, holding: Holding) -> None:
    """The exchange holds what we do not: never traded by us. Ours, if an order of ours is behind it."""
    resources, connected = visit.resources, visit.connected
    seen = (holding.symbol, holding.side, DriftKind.FOREIGN_POSITION)
    visit.still.add(seen)
    with store_errors():
        if await orders.opening_in_flight(resources.pool, connected.account.id, holding.symbol, holding.side):
            return  # on its way into our tables
    what = f"the exchange holds {holding.side} {plain(holding.qty)} that is not ours"
    if visit.memory.lasted(seen, what, resources.now()):
        if await _unknown_orders_of_ours(visit, holding.symbol):
            what += ", opened by orders of this program that this database does not know: was an old backup restored?"
        await _ask(visit, seen, None, what)


async def _unknown_orders_of_ours(visit: _Visit, symbol: str) -> bool:
    """Whether orders with our kind of id were filled of late that are not in our tables."""
    fills = await visit.connected.venue.fills(symbol, since=visit.resources.now() - OUR_PAST)
    ids = {fill.client_order_id for fill in fills if fill.client_order_id and is_ours(fill.client_order_id)}
    with store_errors():
        known = [await orders.by_client_id(visit.resources.pool, one) for one in sorted(ids)]
    return any(order is None for order in known)


async def _leftovers(visit: _Visit, position: Position) -> None:
    """Nothing of an ended position may go on resting: whoever ended it may have died before it looked."""
    memory, now = visit.memory, visit.resources.now()
    if position.id in memory.cleared:
        return
    if position.closed_at is None or now - position.closed_at < STOP_GRACE:
        memory.again_soon = True
        return
    removed = await protect.clear(visit.resources, visit.connected, position)
    window = timedelta(milliseconds=visit.resources.settings.recv_window_ms)
    if removed is not None and now - position.closed_at > window + STOP_LAG:
        memory.cleared.add(position.id)  # until then one may be on its way, or not be listed yet
    if removed:
        seen = (position.symbol, position.side, DriftKind.ORPHAN_STOP)
        await _healed(visit, seen, position, "a native stop of the ended position was left, and is removed")


async def _last_fills(visit: _Visit, of_symbol: list[Position]) -> None:
    """What was listed late is counted for its order, also of a position that has ended meanwhile. One question, from
    the first one's beginning on, is for all of a symbol.
    """
    memory, now = visit.memory, visit.resources.now()
    due = [
        position
        for position in of_symbol
        if position.id not in memory.fetched and position.closed_at and now - position.closed_at > LISTED_AFTER
    ]
    if due:
        await _fetch(visit.resources, visit.connected, due[0], memory)
        memory.visited.pop(due[0].id, None)
        memory.fetched.update(position.id for position in due)


async def _ask(visit: _Visit, seen: Seen, position_id: UUID | None, detail: str) -> None:
    """Have a person told, once, and have it stand in the list until it is over."""
    account, (symbol, side, kind) = visit.connected.account, seen
    with store_errors():
        new = await drifts.ask(
            visit.resources.pool, id=new_id(), account_id=account.id, seen=seen, position_id=position_id, detail=detail
        )
        if new:
            await positions.record(
                visit.resources.pool, kind, position_id=position_id, account_id=account.id,
                detail={"symbol": symbol, "side": side, "detail": detail},
            )  # fmt: skip
    if new:
        event(log, logging.WARNING, "drift: needs an operator", account=account.name, symbol=symbol, kind=kind,
              what=detail, todo=DRIFTS[kind].done)  # fmt: skip


async def _healed(visit: _Visit, seen: Seen, position: Position, detail: str) -> None:
    pool, (symbol, _, kind) = visit.resources.pool, seen
    event(log, logging.WARNING, "drift: healed", account=visit.connected.account.name, symbol=symbol, kind=kind,
          what=detail, position=position.id)  # fmt: skip
    with store_errors():
        await drifts.healed(
            pool, id=new_id(), account_id=position.account_id, seen=seen, position_id=position.id, detail=detail
        )
        await positions.record(
            pool, kind, position_id=position.id, account_id=position.account_id, detail={"detail": detail}
        )


def _difference(position: Position, holding: Holding | None) -> str | None:
    if holding is not None and holding.side is position.side and holding.qty == position.qty:
        return None
    theirs = "flat" if holding is None else f"{holding.side} {plain(holding.qty)}"
    return f"ours {position.side} {plain(position.qty)}, the exchange's {theirs}"
