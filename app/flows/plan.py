"""Decide what a book is to do, and commit it: from then on it is resumed, not decided again."""

import asyncio
from decimal import Decimal

from app.alerts.fields import read_defaults
from app.domain.decide import Close, Leg, Open, Plan, Refusal, Rules, Situation, decide, needs_equity
from app.domain.money import ZERO, plain
from app.domain.order import Order
from app.domain.position import CloseReason, Position, PositionStatus
from app.domain.refusals import Outcome
from app.errors import Conflict, Refused
from app.flows import orders as road
from app.ids import new_id
from app.resources import Connected, Resources
from app.store import inbox, levels, orders, positions, strategies
from app.store.books import Book
from app.store.db import store_errors, transaction
from app.store.inbox import CauseKind, Instruction
from app.store.orders import Intent, IntentCause, IntentKind, IntentStatus
from app.venues.base import Holding

PRICE_AGE_MAX_S = 2.0  # an older price is asked for again


async def make(resources: Resources, connected: Connected, instruction: Instruction) -> Plan:
    """Read what the decision needs, then decide."""
    pool, signal, symbol = resources.pool, instruction.request, instruction.symbol
    opens = not signal.only_closes
    if opens:
        resources.bell.follow_soon(instruction.account_id, symbol)
        # First, so that an unknown symbol is called that; the venue's other answers to it say less.
        await connected.venue.instrument(symbol)
    with store_errors():
        held, strategy, price = await asyncio.gather(
            positions.live(pool, instruction.account_id, symbol),
            strategies.get(pool, instruction.strategy_id),
            _price(resources, connected, symbol) if opens or signal.size is not None else _nothing(),
        )
    if instruction.position_id is not None and (held is None or held.id != instruction.position_id):
        return Plan(reason="the position is closed already")
    if strategy is None:
        raise Refused(Outcome.STRATEGY_DISABLED, "the strategy was removed")
    rules = Rules(
        strategy_id=strategy.id,
        enabled=strategy.enabled,
        symbols=None if strategy.symbols is None else tuple(strategy.symbols),
        defaults=read_defaults(strategy.defaults),
        multiplier=instruction.multiplier,
        trade_without_stop=strategy.limits.trade_without_stop,
        notional_max=strategy.limits.max_notional,
    )
    if held is None and signal.only_closes:
        return Plan(reason="nothing is held")
    instrument = await connected.venue.instrument(symbol)
    equity = (await connected.venue.equity()).equity if needs_equity(signal, rules) else None
    situation = Situation(
        held=held,
        instrument=instrument,
        price=price or ZERO,
        equity=equity,
        received_at=instruction.received_at,
        now=resources.now(),
    )
    return decide(signal, rules, situation, await _close_reason(resources, instruction))


def look(connected: Connected, instruction: Instruction) -> asyncio.Task[Holding] | None:
    """Start to ask what the exchange holds, before an opening: answered while the plan is made and committed."""
    if instruction.request.only_closes:
        return None
    task = asyncio.ensure_future(connected.venue.holding(instruction.symbol))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # who needs it awaits it
    return task


def foreign(holding: Holding) -> Refusal | None:
    """What a hand or another program holds is not ours to add to, to reverse or to net against."""
    if holding.side is None:
        return None
    return Refusal(
        code=Outcome.FOREIGN_POSITION,
        reason=f"the exchange holds {holding.side} {plain(holding.qty)} {holding.symbol} that Levelhead did not open; "
        "close it there, or trade this symbol on another account",
    )


async def _nothing() -> None:
    return None


async def _price(resources: Resources, connected: Connected, symbol: str) -> Decimal:
    """The last price: the watcher's if it is fresh, else the venue's."""
    last = await resources.prices.get(connected.origins.rest, symbol)
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
            return CloseReason(kind.value)


async def write(
    resources: Resources, book: Book, instruction: Instruction, plan: Plan
) -> tuple[list[Intent], Order | None]:
    """Commit the plan's legs, and with them the first one's order, which may leave from now on.

    Answers the legs and that order; none when the first leg still has to be prepared (its leverage).
    """
    pool = resources.pool
    closes = any(not isinstance(leg, Open) or leg.adds for leg in plan.legs)
    if not closes and plan.refusal is None:
        legs, order = _legs(resources, book, instruction, plan, None)
        with store_errors():
            await orders.insert_plan(pool, book, legs, order)
        return legs, order
    async with transaction(pool) as connection:
        held = await positions.live(connection, book.account_id, book.symbol)
        if held is None and closes:
            raise Conflict("the position ended while it was decided what to do with it")
        legs, order = _legs(resources, book, instruction, plan, held)
        await orders.insert_plan(connection, book, legs, order)
        if plan.refusal is not None:
            await inbox.foretell(connection, instruction.id, plan.refusal.code, plan.refusal.reason)
        if held is not None and any(isinstance(leg, Close) for leg in plan.legs):
            await positions.set_status(connection, held.id, PositionStatus.CLOSING)
    return legs, order


def _legs(
    resources: Resources, book: Book, instruction: Instruction, plan: Plan, held: Position | None
) -> tuple[list[Intent], Order | None]:
    legs = [_intent(instruction, held, leg, number) for number, leg in enumerate(plan.legs)]
    leaves_at_once = legs[0].opens and (legs[0].kind is IntentKind.ADD or legs[0].leverage is None)
    return legs, road.first(resources, book, legs[0]) if leaves_at_once else None


def _intent(instruction: Instruction, held: Position | None, leg: Leg, number: int) -> Intent:
    if isinstance(leg, Open):
        position_id = held.id if leg.adds and held is not None else new_id()
        side, qty, kind = leg.side, leg.qty, IntentKind.ADD if leg.adds else IntentKind.OPEN
        order_side, reason = side.opens_with, CloseReason.SIGNAL
    else:
        assert held is not None
        position_id, side, order_side, reason = held.id, held.side, held.side.closes_with, leg.reason
        kind = IntentKind.CLOSE if isinstance(leg, Close) else IntentKind.REDUCE
        qty = held.qty if isinstance(leg, Close) else leg.qty
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
        kind=kind,
        reason=reason,
        side=order_side,
        qty=qty,
        leverage=leg.leverage if isinstance(leg, Open) else None,
        exits=leg.exits if isinstance(leg, Open) else None,
        native_stop=leg.native_stop if isinstance(leg, Open) else None,
        status=IntentStatus.PLANNED,
    )
