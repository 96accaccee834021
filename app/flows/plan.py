"""Decide what a book is to do, and commit it: from then on it is resumed, not decided again."""

import asyncio
from decimal import Decimal

import msgspec

from app.alerts.defaults import read_defaults
from app.domain.decide import decide
from app.domain.instrument import Instrument
from app.domain.money import ZERO
from app.domain.order import Order, PositionMode, PositionSide
from app.domain.plan import Close, Leg, Open, Plan, Rules, Situation
from app.domain.position import CloseReason, Position, PositionStatus
from app.domain.sequence import place
from app.domain.sizing import needs_equity
from app.errors import Conflict
from app.flows import orders as road
from app.flows import preflight
from app.flows.legs import NotYet, holds_up_a_close
from app.flows.preflight import Readiness, lets_go_s
from app.ids import new_id
from app.resources import Connected, Resources
from app.store import inbox, levels, orders, positions, strategies
from app.store.books import Book
from app.store.db import store_errors, transaction
from app.store.inbox import CauseKind, Instruction
from app.store.orders import Intent, IntentCause, IntentKind, IntentStatus
from app.store.strategies import Strategy, WebhookStrategy
from app.venues.base import Equity

PRICE_AGE_MAX_S = 2.0  # an older price is asked for again
FITNESS_PATIENCE_S = 10.0  # what passes by itself (a watcher that restarts) refuses nothing before that


async def make(resources: Resources, connected: Connected, instruction: Instruction) -> Plan:
    """Read what the decision needs, then decide. Raises NotYet while an opening may have to wait for a moment only."""
    pool, signal, symbol = resources.pool, instruction.request, instruction.symbol
    opens = not signal.only_closes
    if opens:
        resources.bell.follow_soon(instruction.account_id, symbol)
        # First, so that an unknown symbol is called that; the venue's other answers to it say less.
        await connected.venue.instrument(symbol)
    with store_errors():
        held, strategy, price, unfit, neighbours, held_on = await asyncio.gather(
            positions.live(pool, instruction.account_id, symbol),
            strategies.get(pool, instruction.strategy_id),
            price_of(resources, connected, symbol) if opens else _nothing(),
            preflight.unfit(resources, connected, symbol) if opens else _nothing(),
            inbox.neighbours(pool, instruction) if instruction.cause_kind is CauseKind.ALERT else _nothing(),
            positions.not_let_go(pool, instruction.account_id, symbol, within_s=lets_go_s(resources))
            if opens
            else _nothing(),
        )
    replaced = place(signal, neighbours or ())
    if replaced is not None:
        return Plan(refusal=replaced)
    hedge = connected.account.position_mode is PositionMode.HEDGE or any(one.hedge for one in held)
    if instruction.position_id is not None:
        # One position is meant, whatever else is held.
        held, hedge = [one for one in held if one.id == instruction.position_id], False
        if not held:
            return Plan(reason="the position is closed already")
    if strategy is None:
        # Of a strategy that was removed nothing but its closes are carried out: an order that turned up late may have
        # left it a position.
        rules = Rules(strategy_id=instruction.strategy_id, enabled=False)
    else:
        rules = rules_of(strategy, instruction.multiplier)
    if not held and signal.only_closes:
        return Plan(reason="nothing is held")
    instrument = await connected.venue.instrument(symbol)
    if price is None and signal.size is not None:
        price = await price_of(resources, connected, symbol)
    crowded = None
    if opens and strategy is not None and instruction.cause_kind is CauseKind.ALERT:
        crowded = await preflight.crowded(resources, strategy, at=instruction.received_at, before=instruction.cause_id)
    wealth: Equity | None = await connected.venue.equity() if needs_equity(signal, rules) else None
    situation = Situation(
        held=tuple(held),
        hedge=hedge,
        instrument=instrument,
        price=price or ZERO,
        equity=None if wealth is None else wealth.equity,
        available=None if wealth is None else wealth.available,
        received_at=instruction.received_at,
        now=resources.now(),
        unfit=crowded or unfit,
    )
    made = decide(signal, rules, situation, await _close_reason(resources, instruction))
    if not made.legs and made.refusal is not None and made.refusal.code in preflight.PASSES:
        waited_s = (situation.now - situation.received_at).total_seconds()
        if waited_s < FITNESS_PATIENCE_S and not await holds_up_a_close(resources, instruction):
            raise NotYet(made.refusal.reason, 0.5)
    opened = made.legs[0] if made.legs else None
    if isinstance(opened, Open) and not opened.adds and opened.side in (held_on or ()):
        if not await preflight.let_go(resources, instruction.account_id, symbol, opened.side):
            raise NotYet(preflight.NOT_LET_GO, 0.5)
    return msgspec.structs.replace(made, held=tuple(one.id for one in held))


def rules_of(strategy: Strategy | WebhookStrategy, multiplier: Decimal) -> Rules:
    """The strategy's say, for an account with this multiplier."""
    return Rules(
        strategy_id=strategy.id,
        enabled=strategy.enabled,
        symbols=None if strategy.symbols is None else tuple(strategy.symbols),
        defaults=read_defaults(strategy.defaults),
        multiplier=multiplier,
        trade_without_stop=strategy.limits.trade_without_stop,
        notional_max=strategy.limits.max_notional,
        sides=strategy.limits.sides,
        repeat=strategy.limits.repeat,
        missed=strategy.limits.missed_alert,
    )


def look(resources: Resources, connected: Connected, instruction: Instruction) -> asyncio.Task[Readiness] | None:
    """Start to ask how things stand at the exchange before an opening: answered while the plan is made and written."""
    if instruction.request.only_closes:
        return None
    task = asyncio.ensure_future(preflight.look(resources, connected, instruction.symbol))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # who needs it awaits it
    return task


async def _nothing() -> None:
    return None


async def price_of(resources: Resources, connected: Connected, symbol: str) -> Decimal:
    """The last price: the watcher's if it is fresh, else the venue's."""
    last = await resources.prices.get(connected.market, symbol)
    if last is not None and last.age_s(resources.now()) <= PRICE_AGE_MAX_S:
        return last.price
    return (await connected.venue.quote(symbol)).last


async def _close_reason(resources: Resources, instruction: Instruction) -> CloseReason:
    match instruction.cause_kind:
        case CauseKind.ALERT:
            return CloseReason.SIGNAL
        case CauseKind.MANUAL:
            return CloseReason.MANUAL
        case CauseKind.PROTECTION:
            return CloseReason.UNPROTECTED
        case CauseKind.LEVEL:
            kind = await levels.kind(resources.pool, instruction.cause_id)
            return kind.close_reason


async def write(
    resources: Resources, connected: Connected, book: Book, instruction: Instruction, plan: Plan
) -> tuple[list[Intent], Order | None]:
    """Commit the plan's legs, and with them the first one's order, which may leave from now on.

    Answers the legs and that order; none when the first leg closes.
    """
    pool = resources.pool
    instrument = await connected.venue.instrument(book.symbol)
    closes = any(not isinstance(leg, Open) or leg.adds for leg in plan.legs)
    if not closes and plan.refusal is None:
        legs, order = _legs(resources, connected, book, instruction, plan, {}, instrument)
        with store_errors():
            await orders.insert_plan(pool, book, legs, order)
        return legs, order
    async with transaction(pool) as connection:
        live = await positions.live(connection, book.account_id, book.symbol)
        held = {one.side: one for one in live if one.id in plan.held}
        if any(leg.side not in held for leg in plan.legs if not isinstance(leg, Open) or leg.adds):
            raise Conflict("the position ended while it was decided what to do with it")
        legs, order = _legs(resources, connected, book, instruction, plan, held, instrument)
        await orders.insert_plan(connection, book, legs, order)
        if plan.refusal is not None:
            await inbox.foretell(connection, instruction.id, plan.refusal.code, plan.refusal.reason)
        for leg in plan.legs:
            if isinstance(leg, Close):
                await positions.set_status(connection, held[leg.side].id, PositionStatus.CLOSING)
    return legs, order


Held = dict[PositionSide, Position]


def _legs(
    resources: Resources,
    connected: Connected,
    book: Book,
    instruction: Instruction,
    plan: Plan,
    held: Held,
    instrument: Instrument,
) -> tuple[list[Intent], Order | None]:
    legs = [_intent(connected, instruction, held, leg, number) for number, leg in enumerate(plan.legs)]
    first = legs[0]
    return legs, road.first(resources, book, first, instrument.order_qty(first.qty)) if first.opens else None


def _intent(connected: Connected, instruction: Instruction, held: Held, leg: Leg, number: int) -> Intent:
    side = leg.side
    if isinstance(leg, Open):
        position_id = held[side].id if leg.adds else new_id()
        qty, kind = leg.qty, IntentKind.ADD if leg.adds else IntentKind.OPEN
        order_side, reason = side.opens_with, CloseReason.SIGNAL
        hedge = connected.account.position_mode is PositionMode.HEDGE
    else:
        position_id, order_side, reason = held[side].id, side.closes_with, leg.reason
        kind = IntentKind.CLOSE if isinstance(leg, Close) else IntentKind.REDUCE
        qty = held[side].qty if isinstance(leg, Close) else leg.qty
        hedge = held[side].hedge
    return Intent(
        id=new_id(),
        cause_kind=IntentCause.INSTRUCTION,
        cause_id=instruction.id,
        leg=number,
        account_id=instruction.account_id,
        symbol=instruction.symbol,
        strategy_id=instruction.strategy_id,
        position_id=position_id,
        position_side=side,
        hedge=hedge,
        kind=kind,
        reason=reason,
        side=order_side,
        qty=qty,
        leverage=leg.leverage if isinstance(leg, Open) else None,
        exits=leg.exits if isinstance(leg, Open) else None,
        native_stop=leg.native_stop if isinstance(leg, Open) and connected.venue.traits.attaches_stops else None,
        status=IntentStatus.PLANNED,
    )
