"""Fills in, position folded, levels armed or resized: in one transaction, and idempotent.

Worker, watcher and reconciler all come here with what the venue says was executed; a fill that was counted before
changes nothing, so it does not matter who saw it first or how often.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from app import crash
from app.domain.exits import plan_levels
from app.domain.instrument import Instrument
from app.domain.level import Level, LevelKind, LevelStatus, PlannedLevel
from app.domain.money import ZERO, floor_to_step, plain
from app.domain.order import Order, OrderStatus, client_order_id
from app.domain.position import CloseReason, Fill, FillOrigin, Position, PositionStatus, fold
from app.domain.signal import Exits
from app.ids import new_id
from app.log import event
from app.resources import Resources
from app.store import books, levels, orders, positions
from app.store.db import Connection, transaction
from app.store.orders import Intent, IntentCause, IntentKind, IntentStatus

log = logging.getLogger("settle")

TICK = timedelta(microseconds=1)  # by its instant one arming of a level is told from the one before

REASON_OF_ORIGIN = {
    FillOrigin.NATIVE_STOP: CloseReason.NATIVE_STOP,
    FillOrigin.LIQUIDATION: CloseReason.LIQUIDATED,
    FillOrigin.ADL: CloseReason.LIQUIDATED,
    FillOrigin.EXTERNAL: CloseReason.EXTERNAL,
    FillOrigin.ORDER: CloseReason.EXTERNAL,  # somebody else's client order id
}


async def settle(resources: Resources, account_id: UUID, instrument: Instrument, fills: Sequence[Fill]) -> None:
    """Fold fills of one book: each into the position that it acted on."""
    symbol = instrument.symbol
    notes: list[tuple[str, dict[str, object]]] = []
    touched: set[UUID] = set()
    async with transaction(resources.pool) as connection:
        await books.lock(connection, account_id, symbol)
        before = {held.id: held for held in await positions.live_for_update(connection, account_id, symbol)}
        held = dict(before)
        for fill in fills:
            order = await orders.by_client_id(connection, fill.client_order_id) if fill.client_order_id else None
            if order is not None and order.account_id != account_id:
                order = None  # two accounts with one key hear of each other's fills
            intent = await orders.intent(connection, order.intent_id) if order is not None else None
            position = _meant(list(held.values()), intent, fill)
            position, note = await _count(connection, account_id, position, fill, order, intent)
            if note is not None:
                notes.append((note, _facts(fill)))
            if position is not None:
                touched.add(position.id)
                held[position.id] = position
                if position.status is PositionStatus.CLOSED:
                    notes.append(("position closed", _result(position)))
                    del held[position.id]
        latest = max((fill.filled_at for fill in fills), default=resources.now())
        for position in held.values():
            if position != before.get(position.id):
                await arm(connection, resources, position, instrument, at=latest)
        crash.point("settle.before_commit", symbol)
    crash.point("settle.after_commit", symbol)
    for message, facts in notes:
        event(log, logging.INFO, message, **facts)
    for position_id in touched:
        await resources.bell.levels(position_id)


def _meant(held: list[Position], intent: Intent | None, fill: Fill) -> Position | None:
    """The position that a fill acted on: the only one, or in hedge mode that of its side."""
    hedge = intent.hedge if intent is not None else any(position.hedge for position in held)
    if not hedge:
        return held[0] if held else None
    side = intent.position_side if intent is not None else fill.position_side
    return next((position for position in held if position.side is side), None)


async def _count(
    connection: Connection,
    account_id: UUID,
    position: Position | None,
    fill: Fill,
    order: Order | None,
    intent: Intent | None,
) -> tuple[Position | None, str | None]:
    """Count one fill for the order and intent behind it; answers the position after it (closed, perhaps) and what to
    say about it.
    """
    if intent is not None and intent.opens and position is None:
        position = await _begin(connection, intent, fill)
    if position is None or not _concerns(position, intent, fill):
        # What a hand opened or added is not ours to trade, and what comes late for a position that has ended is not
        # the next one's: it is kept, and the reconciler names the difference.
        new = await orders.insert_fill(
            connection, account_id, fill, order_id=order.id if order else None, position_id=None
        )
        if new:
            await _was_sent(connection, order, fill)
            await positions.record(
                connection,
                "foreign_fill",
                account_id=account_id,
                position_id=position.id if position else None,
                detail=_facts(fill),
            )
        return position, "foreign fill, left alone" if new else None
    if not await orders.insert_fill(
        connection, account_id, fill, order_id=order.id if order else None, position_id=position.id
    ):
        return position, None
    await _was_sent(connection, order, fill)
    if intent is not None and intent.cause_kind is IntentCause.LEVEL:
        await levels.trigger(connection, intent.cause_id, None, None)  # or its rung would be armed once more
        await orders.disarm_orders(connection, [intent.id])
    if intent is not None and intent.kind is IntentKind.ADD and intent.exits is not None:
        position = msgspec.structs.replace(position, exits=intent.exits)
        await positions.set_exits(connection, position.id, intent.exits)
    folded, taken = fold(position, fill)
    if taken < fill.qty:
        await positions.record(
            connection,
            "fill_exceeds_position",
            position_id=position.id,
            account_id=account_id,
            detail={"excess": plain(fill.qty - taken)},
        )
    if folded.qty == ZERO:
        reason = intent.reason if intent is not None else REASON_OF_ORIGIN[fill.origin]
        folded = msgspec.structs.replace(
            folded, status=PositionStatus.CLOSED, closed_at=fill.filled_at, close_reason=reason, native_stop=None
        )
        await _end(connection, folded)
    await positions.update_fold(connection, folded)
    return folded, "filled"


async def _was_sent(connection: Connection, order: Order | None, fill: Fill) -> None:
    """An order that was filled was sent, and whoever did so has not recorded that yet, or never will: from here on it
    is followed up. So is a close that was sent twice, where the second answer was that nothing is left to reduce.
    """
    if order is not None and (
        order.status in (OrderStatus.ARMED, OrderStatus.DISARMED)
        or (order.status is OrderStatus.REJECTED and order.reduce_only)
    ):
        await orders.move(connection, order.id, OrderStatus.ACCEPTED, venue_order_id=fill.venue_order_id)


def _concerns(position: Position, intent: Intent | None, fill: Fill) -> bool:
    """Whether a fill is of this position, and not counted yet. What was filled before it began belongs to an earlier
    one; what was filled before a person adopted what the exchange holds was counted then, though it is listed only now.
    """
    if position.adopted_at is not None and fill.filled_at < position.adopted_at:
        return False
    if intent is not None and intent.position_id == position.id:
        return True
    if fill.filled_at < position.opened_at:
        return False
    return fill.side is position.side.closes_with or (intent is not None and intent.opens)


async def _begin(connection: Connection, intent: Intent, fill: Fill) -> Position | None:
    """The position that an opening's fill brings into being; None if that fill was counted long ago.

    Its own position may have ended already (stopped out between two fills of one order, or just before an addition
    matched): what is filled now is held all the same, so a new position begins with it, and its exits with it.
    """
    if await orders.known_fills(connection, intent.account_id, intent.symbol, [fill.venue_fill_id]):
        return None
    position_id = intent.position_id
    if await positions.get(connection, position_id) is not None:
        position_id = new_id()
        await orders.move_intent(connection, intent.id, position_id)
    position = Position(
        id=position_id,
        account_id=intent.account_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        side=intent.position_side,
        hedge=intent.hedge,
        epoch=await books.next_epoch(connection, intent.account_id, intent.symbol),
        status=PositionStatus.OPENING,
        qty=ZERO,
        qty_opened=ZERO,
        entry_price=fill.price,
        leverage=intent.leverage,
        exits=intent.exits or Exits(),
        native_stop=intent.native_stop,
        opened_at=fill.filled_at,
    )
    await positions.insert(connection, position)
    return position


async def _end(connection: Connection, position: Position) -> None:
    """The position is flat: nothing of it may fire any more."""
    await levels.disarm(connection, position.id)
    await orders.disarm_of_position(connection, position.id)
    await positions.record(
        connection, "closed", position_id=position.id, account_id=position.account_id, detail=_result(position)
    )


async def arm(
    connection: Connection,
    resources: Resources,
    position: Position,
    instrument: Instrument,
    *,
    at: datetime,
    price: Decimal | None = None,
) -> None:
    """Make the armed levels those that the position's exits, entry and quantity ask for.

    `at` is the exchange's time of what changed them: trades since then count, also those of before the commit.
    `price` is the one of now where the exits were changed: a trailing stop that is new rides on it, not on the entry.

    Arming is the write: each level's closing order (client order id, side, quantity) is committed with it, so that the
    fire needs no commit before its send. Inside the transaction that changed the position.
    """
    existing = {(level.kind, level.rung): level for level in await levels.of_position(connection, position.id)}
    gone = frozenset(
        rung
        for (kind, rung), level in existing.items()
        if kind is LevelKind.TAKE_PROFIT and level.status in (LevelStatus.TRIGGERED, LevelStatus.DONE)
    )
    wanted = plan_levels(
        position.exits,
        position.side,
        position.entry_price,
        position.qty,
        instrument,
        fired_rungs=gone,
        qty_opened=position.qty_opened,
        opened_at=position.opened_at,
    )
    now = resources.now()
    fresh: list[Level] = []
    moved: list[Level] = []
    intents: list[Intent] = []
    armed_orders: list[Order] = []
    for plan in wanted:
        known = existing.pop((plan.kind, plan.rung), None)
        if known is not None and known.status in (LevelStatus.TRIGGERED, LevelStatus.DONE):
            continue
        if known is not None and known.status is LevelStatus.ARMED and _same(known, plan):
            continue
        if known is None:
            intent = _closing_intent(position, plan)
            intents.append(intent)
            attempt = 0
        else:
            intent = msgspec.structs.replace(_closing_intent(position, plan), id=known.intent_id, cause_id=known.id)
            attempt = await orders.next_attempt(connection, known.intent_id)
        order_qty = min(plan.qty, instrument.market_qty_max)  # the rest is closed by an instruction
        order_qty = floor_to_step(order_qty, instrument.qty_step) or order_qty
        order = _closing_order(resources, position, intent, attempt, order_qty, now)
        armed_orders.append(order)
        level = _level(position, plan, intent, order, at, known, price)
        (fresh if known is None else moved).append(level)
    unwanted = [level.id for level in existing.values() if level.status is LevelStatus.ARMED]
    if unwanted:
        intent_ids = await levels.disarm(connection, position.id, unwanted)
        await orders.disarm_orders(connection, intent_ids)
        for intent_id in intent_ids:
            await orders.finish_intent(connection, intent_id, IntentStatus.DISARMED, None, None)
    await orders.arm_intents(connection, [level.intent_id for level in moved])
    await orders.disarm_orders(connection, [level.intent_id for level in moved])
    await orders.insert_intents(connection, intents)
    await orders.insert_orders(connection, armed_orders)
    await levels.insert(connection, fresh)
    await levels.rearm(connection, moved)


def _same(known: Level, plan: PlannedLevel) -> bool:
    return known.qty == plan.qty and _same_trigger(known, plan)


# What makes a level fire; if one of these differs it is another level.
_TRIGGER = (
    "price", "activation_price", "distance", "distance_pct", "min_factor", "decay_pct", "trigger_by", "due_at",
)  # fmt: skip


def _same_trigger(known: Level, plan: PlannedLevel) -> bool:
    return all(getattr(known, name) == getattr(plan, name) for name in _TRIGGER)


def _closing_intent(position: Position, plan: PlannedLevel) -> Intent:
    level_id = new_id()
    return Intent(
        id=new_id(),
        cause_kind=IntentCause.LEVEL,
        cause_id=level_id,
        leg=0,
        account_id=position.account_id,
        symbol=position.symbol,
        strategy_id=position.strategy_id,
        position_id=position.id,
        position_side=position.side,
        hedge=position.hedge,
        kind=IntentKind.CLOSE if plan.qty >= position.qty else IntentKind.REDUCE,
        reason=plan.kind.close_reason,
        side=position.side.closes_with,
        qty=plan.qty,
        status=IntentStatus.ARMED,
    )


def _closing_order(
    resources: Resources, position: Position, intent: Intent, attempt: int, qty: Decimal, now: datetime
) -> Order:
    return Order(
        id=new_id(),
        intent_id=intent.id,
        attempt=attempt,
        client_order_id=client_order_id(
            resources.keys.install, intent.cause_id, f"{position.account_id}:{position.symbol}", 0, attempt
        ),
        account_id=position.account_id,
        symbol=position.symbol,
        side=intent.side,
        qty=qty,
        reduce_only=True,
        hedge=position.hedge,
        status=OrderStatus.ARMED,
        created_at=now,
    )


def _level(
    position: Position,
    plan: PlannedLevel,
    intent: Intent,
    order: Order,
    at: datetime,
    known: Level | None,
    price: Decimal | None,
) -> Level:
    kept = known is not None and known.status is LevelStatus.ARMED and _same_trigger(known, plan)
    # A trailing stop that is awake from the start rides on the entry price, not on the first tick after it.
    awake = plan.kind is LevelKind.TRAILING_STOP and plan.activation_price is None
    if known is not None:
        at = max(at, known.armed_at + TICK)
    first_extreme = (position.entry_price if price is None else price) if awake else None
    return Level(
        id=intent.cause_id,
        position_id=position.id,
        kind=plan.kind,
        rung=plan.rung,
        side=position.side,
        fraction=plan.fraction,
        qty=plan.qty,
        price=plan.price,
        activation_price=plan.activation_price,
        distance=plan.distance,
        distance_pct=plan.distance_pct,
        min_factor=plan.min_factor,
        decay_pct=plan.decay_pct,
        trigger_by=plan.trigger_by,
        due_at=plan.due_at,
        extreme=known.extreme if known is not None and kept else first_extreme,
        armed_at=known.armed_at if known is not None and kept else at,
        order_id=order.id,
        intent_id=intent.id,
        status=LevelStatus.ARMED,
    )


def _facts(fill: Fill) -> dict[str, object]:
    return {
        "symbol": fill.symbol,
        "side": fill.side,
        "qty": plain(fill.qty),
        "price": plain(fill.price),
        "fee": plain(fill.fee),
        "origin": fill.origin,
    }


def _result(position: Position) -> dict[str, object]:
    return {
        "symbol": position.symbol,
        "side": position.side,
        "reason": position.close_reason,
        "pnl": plain(position.realized_pnl),
        "fees": plain(position.fees),
        "net": plain(position.realized_pnl - position.fees),
        "position": position.id,
    }


async def settle_external_close(resources: Resources, position: Position) -> None:
    """The exchange holds nothing and tells of no fill: the position has ended, at a price that nobody told us."""
    async with transaction(resources.pool) as connection:
        await books.lock(connection, position.account_id, position.symbol)
        held = await positions.live_for_update(connection, position.account_id, position.symbol)
        current = next((one for one in held if one.id == position.id), None)
        if current is None:
            return
        ended = msgspec.structs.replace(
            current,
            status=PositionStatus.CLOSED,
            qty=ZERO,
            closed_at=resources.now(),
            close_reason=CloseReason.EXTERNAL,
            native_stop=None,
        )
        await _end(connection, ended)
        await positions.update_fold(connection, ended)
    event(log, logging.WARNING, "position closed", **_result(ended))
    await resources.bell.levels(position.id)
