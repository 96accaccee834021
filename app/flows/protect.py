"""Keep what is held protected: the native stop at the exchange, and the close when a level is crossed."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from app import crash
from app.domain.decide import NATIVE_STOP_BUFFER_PCT
from app.domain.exits import native_stop_price
from app.domain.instrument import Instrument
from app.domain.level import LevelKind
from app.domain.money import HUNDRED, ZERO, plain
from app.domain.order import UNRESOLVED, Order, OrderStatus
from app.domain.position import Position, PositionStatus
from app.domain.signal import Action, Signal, Size, SizeUnit
from app.errors import Conflict, OutcomeUnknown, Refused, Transient
from app.flows import orders as road
from app.flows.orders import Answer
from app.ids import new_id
from app.log import event
from app.resources import Connected, Resources
from app.store import books, inbox, levels, orders, positions
from app.store.db import store_errors, transaction
from app.store.inbox import CauseKind
from app.store.levels import Armed
from app.store.orders import Intent
from app.venues.base import Placing, Prepared

log = logging.getLogger("protect")

# The entry price is known only after the fill. A native stop that rode on the entry stays where it is while it is
# within this much of the entry price of where it should be; it is the second line, the watcher holds the exact one.
TOLERANCE_PCT = Decimal("0.1")
STOP_TRIES = 4
STOP_TRY_DELAY_S = 0.3
REFIRE_AFTER_S = 3.0  # a stop's close that is not known to have ended is sent again: reduce-only, so twice is safe
FIRE_PATIENCE_S = 12.0  # of a take-profit, whose part must not be closed twice: then its end is asked for anew


async def secure(resources: Resources, connected: Connected, position_id: UUID) -> bool:
    """Have the native stop rest where the position needs it; True when the exchange shows it.

    A position for which none can be placed is closed. After the end, nothing of it rests at the exchange.
    """
    why = ""
    for turn in range(STOP_TRIES):
        # Anew at each turn: while the venue was asked it may have ended, and the next one begun.
        with store_errors():
            position = await positions.get(resources.pool, position_id)
        if position is None:
            return False
        if position.status is PositionStatus.CLOSED:
            await clear(resources, connected, position)
            return False
        wanted = wanted_stop(position, await connected.venue.instrument(position.symbol))
        if wanted is None:
            return False
        try:
            standing = await connected.venue.standing(position.symbol)
            holding = standing.on(position.side)
            if holding is None and standing.holdings and not position.hedge:
                return False  # turned round meanwhile; its fills are on their way to settle
            # Right after a fill the venue's list may not show the position yet: only `set_stop` knows that it is gone.
            rests = None if holding is None else holding.stop_loss
            if rests is None or not fits(rests, wanted, position):
                crash.point("protect.before_stop", position.symbol)
                await connected.venue.set_stop(
                    position.symbol, position.side, wanted, hedge=position.hedge, qty=position.qty
                )
                crash.point("protect.after_stop", position.symbol)
                rests = wanted
                if await _ended_meanwhile(resources, connected, position):
                    return False
            await _protected(resources, position, rests)
            return True
        except Refused as error:
            why = error.reason
            break
        except Conflict:
            return False  # no position any more
        except (Transient, OutcomeUnknown) as error:
            why = str(error)
            await asyncio.sleep(STOP_TRY_DELAY_S * (turn + 1))
    assert position is not None, "it was read at the last turn"
    await _unprotected(resources, connected, position, why)
    return False


def wanted_stop(position: Position, instrument: Instrument) -> Decimal | None:
    """Where the native stop of a position belongs; None if it needs none."""
    return native_stop_price(position.exits, position.side, position.entry_price, instrument, NATIVE_STOP_BUFFER_PCT)


def fits(rests: Decimal, wanted: Decimal, position: Position) -> bool:
    return abs(rests - wanted) <= position.entry_price * TOLERANCE_PCT / HUNDRED


async def _ended_meanwhile(resources: Resources, connected: Connected, position: Position) -> bool:
    """Whether the position has ended while its stop was being placed: nothing of it may be left, neither resting by
    itself nor in the place of the next one's.
    """
    with store_errors():
        current = await positions.get(resources.pool, position.id)
        if current is not None and current.status is not PositionStatus.CLOSED:
            return False
        live = await positions.live(resources.pool, position.account_id, position.symbol)
    await clear(resources, connected, position)
    for later in live:
        if later.side is position.side:
            await secure(resources, connected, later.id)
    return True


async def cover(connected: Connected, intent: Intent) -> None:
    """Have a native stop rest for what an opening's order has filled although its fills are not known yet."""
    symbol, side = intent.symbol, intent.position_side
    if connected.venue.traits.attaches_stops or intent.exits is None:
        return
    try:
        holding = (await connected.venue.standing(symbol)).on(side)
        if holding is None or holding.stop_loss is not None:
            return
        instrument = await connected.venue.instrument(symbol)
        wanted = native_stop_price(intent.exits, side, holding.entry_price, instrument, NATIVE_STOP_BUFFER_PCT)
        if wanted is not None:
            await connected.venue.set_stop(symbol, side, wanted, hedge=intent.hedge, qty=holding.qty)
            event(log, logging.INFO, "covered before its fills are listed", symbol=symbol, native_stop=plain(wanted))
    except (Refused, Conflict, Transient, OutcomeUnknown) as error:
        event(log, logging.WARNING, "cannot cover what was filled yet", symbol=symbol, why=str(error))


async def _protected(resources: Resources, position: Position, price: Decimal) -> None:
    with store_errors():
        await positions.set_native_stop(resources.pool, position.id, price)
    event(
        log,
        logging.INFO,
        "protected",
        symbol=position.symbol,
        side=position.side,
        qty=plain(position.qty),
        native_stop=plain(price),
        position=position.id,
    )


async def _unprotected(resources: Resources, connected: Connected, position: Position, why: str) -> None:
    """No native stop can be placed. One that rests already is enough; without any, the position is closed."""
    try:
        holding = (await connected.venue.standing(position.symbol)).on(position.side)
        rests = None if holding is None else holding.stop_loss
    except (Refused, Transient, OutcomeUnknown):
        rests = position.native_stop  # cannot be looked at now: what rode on the entry was accepted with it
    if rests is not None:
        event(log, logging.WARNING, "the native stop stays where it is", symbol=position.symbol, why=why)
        with store_errors():
            await positions.set_native_stop(resources.pool, position.id, rests)
        return
    event(
        log,
        logging.ERROR,
        "no stop can be placed at the exchange: closing the position",
        symbol=position.symbol,
        position=position.id,
        why=why,
    )
    with store_errors():
        await positions.set_native_stop(resources.pool, position.id, None)
    await instruct_close(resources, position, CauseKind.PROTECTION, position.id, qty=None)


async def clear(resources: Resources, connected: Connected, position: Position) -> bool | None:
    """Nothing of an ended position may rest at the exchange: it would touch a later one.

    True if something was removed, None if it could not be looked at.
    """
    try:
        account_id, symbol, side = position.account_id, position.symbol, position.side
        resting = await connected.venue.resting_stops(symbol)
        if not any(stop.side is side for stop in resting):
            return False
        standing = await connected.venue.standing(symbol)
        if standing.on(side) is not None:
            return None  # what is held there is not known to us yet, or the list lags
        with store_errors():
            live = await positions.live(resources.pool, account_id, symbol)
            opening = await orders.opening_in_flight(resources.pool, account_id, symbol, side)
        one_for_both = connected.venue.traits.attaches_stops  # in one-way mode the one that is held has the only stop
        if any(later.side is side or (one_for_both and not later.hedge) for later in live):
            return False  # it may be the next one's, which looks after it in its turn
        if opening:
            return None  # it may be of one that is about to begin, or never will
        await connected.venue.set_stop(symbol, side, None, hedge=position.hedge)
        event(log, logging.INFO, "native stop removed", symbol=symbol, position=position.id)
        return True
    except (Refused, Transient, OutcomeUnknown, Conflict) as error:
        event(log, logging.WARNING, "cannot look for leftover stops", symbol=position.symbol, why=str(error))
        return None


async def instruct_close(
    resources: Resources, position: Position, cause: CauseKind, cause_id: UUID, *, qty: Decimal | None
) -> UUID:
    """Ask the position's book to close it (or `qty` of it) on the one road."""
    request = Signal(
        symbol=position.symbol,
        action=Action.CLOSE if qty is None else Action.REDUCE,
        size=None if qty is None else Size(unit=SizeUnit.BASE, value=qty),
    )
    instruction_id = new_id()
    with store_errors():
        await inbox.instruct(
            resources.pool,
            id=instruction_id,
            cause_kind=cause,
            cause_id=cause_id,
            account_id=position.account_id,
            strategy_id=position.strategy_id,
            request=request,
            position_id=position.id,
        )
    resources.bell.book(position.account_id, position.symbol, str(instruction_id))
    return instruction_id


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """A level's close that has left (or may have): what crossed it, when it was sent, what the venue answered."""

    armed: Armed
    price: Decimal | None
    trade_id: str | None
    sent_at: datetime
    answer: Answer


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """A level's close on its way: it has left, or its `placing` is None and nothing of it has."""

    sent_at: datetime
    placing: Placing | None


def prepared(resources: Resources, connected: Connected, armed: Armed) -> Prepared:
    """An armed level's close for `fire_now`, so that nothing has to be encoded when the level is crossed."""
    return connected.venue.prepared(road.closing(armed, resources.now()))


def fire_now(connected: Connected, symbol: str, close: Prepared) -> Close:
    """A level was crossed: its close leaves before this returns, if the venue has a road for that; `fire` goes on.

    The closing order was committed when the level was armed, so nothing is written before the first byte.
    """
    sent_s = time.time()  # as venues read the clock: an aware time is made of it when the close has left
    crash.point("fire.before_send", symbol)
    placing = road.place_now(connected, close, int(sent_s * 1000))
    if placing is not None:
        crash.point("fire.written", symbol)
    return Close(sent_at=datetime.fromtimestamp(sent_s, UTC), placing=placing)


async def fire(
    resources: Resources,
    connected: Connected,
    armed: Armed,
    price: Decimal | None,
    trade_id: str | None,
    close: Close | None = None,
) -> Fired:
    """See the close of a crossed level leave once; `follow_up` records it. `close` is what `fire_now` made.

    Never raises for what the venue does.
    """
    if close is None:
        close = fire_now(connected, armed.symbol, prepared(resources, connected, armed))
    answer = await road.place(connected, road.closing(armed, close.sent_at), close.placing)
    crash.point("fire.sent", armed.symbol)
    return Fired(armed=armed, price=price, trade_id=trade_id, sent_at=close.sent_at, answer=answer)


async def follow_up(resources: Resources, connected: Connected, fired: Fired) -> None:
    """Record a close that was sent, and see it through; may be repeated when it fails.

    Whatever is left open is handed to the book as an instruction, which goes on until the level's part is closed.
    """
    armed, level = fired.armed, fired.armed.level
    patience_s = FIRE_PATIENCE_S if level.kind is LevelKind.TAKE_PROFIT else REFIRE_AFTER_S
    with store_errors():
        order = await _record(resources, fired)
    crash.point("fire.recorded", armed.symbol)
    if order.status not in (OrderStatus.REJECTED, OrderStatus.ABSENT):
        order = await road.resolve(resources, connected, order, patience_s=patience_s)
    while level.kind is LevelKind.TAKE_PROFIT and order.status in UNRESOLVED:
        # However long the venue does not answer: another order would close the part twice.
        connected = await resources.venues.of(armed.account_id)  # perhaps changed meanwhile
        order = await road.resolve(resources, connected, order, patience_s=patience_s)
    with store_errors():
        position = await positions.get(resources.pool, level.position_id)
    assert position is not None
    if position.status is PositionStatus.CLOSED:
        await clear(resources, connected, position)
        return
    with store_errors():
        filled = sum((o.filled_qty for o in await orders.orders_of(resources.pool, level.intent_id)), ZERO)
    if level.kind is LevelKind.TAKE_PROFIT and filled >= level.qty:
        await secure(resources, connected, position.id)
        return
    # A stop stands for all that is held, also for what was added a moment before it fired.
    rest = level.qty - filled if level.kind is LevelKind.TAKE_PROFIT else None
    event(
        log, logging.WARNING, "level not fully closed: going on", symbol=armed.symbol, kind=level.kind,
        filled=plain(filled), of=plain(level.qty), why=order.reason,
    )  # fmt: skip
    await instruct_close(resources, position, CauseKind.LEVEL, level.id, qty=rest)


async def _record(resources: Resources, fired: Fired) -> Order:
    armed, level, answer = fired.armed, fired.armed.level, fired.answer
    price, trade_id = fired.price, fired.trade_id
    event(
        log,
        logging.INFO,
        "level crossed",
        kind=level.kind,
        symbol=armed.symbol,
        level=None if level.price is None else plain(level.price),
        price=None if price is None else plain(price),
        trade=trade_id,
        qty=plain(level.qty),
        sent=answer.status,
        why=answer.reason,
        position=level.position_id,
    )
    async with transaction(resources.pool) as connection:
        await books.lock(connection, armed.account_id, armed.symbol)
        await levels.trigger(connection, level.id, price, trade_id)
        try:
            await orders.move(connection, level.order_id, OrderStatus.SENT, sent_at=fired.sent_at)
        except Conflict:
            pass  # its fill was settled already, by whoever saw it first
        else:
            await orders.move(
                connection,
                level.order_id,
                answer.status,
                venue_order_id=answer.venue_order_id,
                venue_code=answer.venue_code,
                reason=answer.reason,
            )
        await orders.disarm_orders(connection, [level.intent_id])
        await positions.record(
            connection,
            "level_crossed",
            position_id=level.position_id,
            account_id=armed.account_id,
            detail={"level": level.kind, "price": None if price is None else plain(price), "trade": trade_id},
        )
        return await orders.order(connection, level.order_id)
