"""Carry out the legs of a plan: open at most once, close at least once."""

import asyncio
import time
from datetime import datetime
from decimal import Decimal
from functools import partial

from app import crash
from app.domain.decide import too_old
from app.domain.instrument import Instrument
from app.domain.money import INFINITY, ZERO, plain
from app.domain.order import UNRESOLVED, Order, OrderStatus
from app.domain.position import PositionStatus
from app.domain.refusals import Outcome, Refusal
from app.errors import OutcomeUnknown, Refused, Transient
from app.flows import orders as road
from app.flows import preflight, protect, reconcile
from app.flows.preflight import Readiness
from app.resources import Connected, Resources
from app.store import inbox, levels, orders, positions, strategies
from app.store.books import Book
from app.store.db import store_errors
from app.store.inbox import Instruction
from app.store.orders import Intent, IntentKind, IntentStatus
from app.venues.base import Standing
from app.venues.gate import Urgency

PATIENCE_S = 12.0  # how long one visit waits for an order's end; beyond recv window + query lag
OPEN_ATTEMPTS = 3  # sends of an opening that surely did not arrive
SEND_AGAIN_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 3.0)
CLOSE_FAILURES_PER_VISIT = 6
SETTLING_S = 3.0  # a venue's list of positions may lag behind a fill by this much
LOOK_AGAIN_S = 0.3
GATE_PATIENCE_S = 3.0
GATE_PAUSE_S = 2.0  # a ban is looked at again, by whoever may send by then
LOOKS_ODD = "not sent: what the exchange holds is looked at again first"
LOOKED_LONG_AGO = "not sent: what the exchange holds was looked at too long ago"
SET_UP_FIRST = "not sent: leverage or margin mode is set first"

Marks = dict[str, datetime]
Ended = tuple[IntentStatus, str, str]


class NotYet(Exception):
    """The instruction has to wait: why, and for how long. It stays the book's first."""

    def __init__(self, why: str, seconds: float = 1.0) -> None:
        super().__init__(why)
        self.seconds = seconds


async def execute(
    resources: Resources,
    connected: Connected,
    book: Book,
    instruction: Instruction,
    leg: Intent,
    order: Order | None,
    looking: asyncio.Task[Readiness] | None,
    marks: Marks,
) -> Intent:
    """Carry out one leg.

    `order` is its order if that was committed a moment ago and has not left yet, `looking` the question how things
    stand at the exchange, asked at the same time.
    """
    if leg.opens:
        status, code, reason = await _open(resources, connected, book, instruction, leg, order, looking, marks)
    else:
        status, code, reason = await _close(resources, connected, book, leg, marks)
    with store_errors():
        return await orders.end_leg(resources.pool, book, leg.id, status, code, reason)


async def _open(
    resources: Resources,
    connected: Connected,
    book: Book,
    instruction: Instruction,
    leg: Intent,
    unsent: Order | None,
    looking: asyncio.Task[Readiness] | None,
    marks: Marks,
) -> Ended:
    """Open at most once: an attempt whose end is not proven is never followed by another.

    What is above the largest market order leaves in several, one after the other, while the position lives.
    """
    pool = resources.pool
    resumed = unsent is None
    if unsent is not None:
        refusal = await _send_first(resources, connected, instruction, leg, unsent, looking, marks)
        if refusal is not None:
            return _refused(refusal)
    absent = 0
    while True:
        with store_errors():
            so_far = road.sum_up(await orders.orders_of(pool, leg.id))
        last = so_far.last
        if so_far.unresolved is not None:
            cover = partial(protect.cover, connected, leg)
            order = await road.resolve(
                resources, connected, so_far.unresolved, patience_s=PATIENCE_S, on_unlisted=cover
            )
            if order.status in UNRESOLVED:
                raise NotYet(f"the end of order {order.client_order_id} is not known yet; asking again", 2.0)
            if resumed:
                marks["resumed"] = resources.now()
            continue
        if so_far.filled >= leg.qty or (last is not None and not _may_be_followed(last)):
            break
        if last is not None and last.status is OrderStatus.ABSENT and last.reason != LOOKED_LONG_AGO:
            absent += 1
            if absent > OPEN_ATTEMPTS:
                break
            if last.reason not in (SET_UP_FIRST, LOOKS_ODD):
                await asyncio.sleep(SEND_AGAIN_DELAYS_S[min(absent, len(SEND_AGAIN_DELAYS_S)) - 1])
        resumed = False
        if so_far.filled > ZERO and not await _covered(resources, connected, leg):
            break
        looked = None
        try:
            refusal, looked = await _why_not(resources, connected, instruction, leg, so_far.filled)
            if refusal is None:
                await _heed_gate(connected, Urgency.OPEN)
                refusal = _expired(resources, instruction)  # that may have taken its time
        except (NotYet, Refused, Transient, OutcomeUnknown) as wait:
            if not await holds_up_a_close(resources, instruction):
                raise
            refusal = Refusal(code=Outcome.POSITION_ENDED, reason=f"{wait}; and a close waits behind it")
        if refusal is not None:
            if so_far.filled > ZERO:
                break
            return _refused(refusal)
        instrument = await connected.venue.instrument(leg.symbol)
        qty = instrument.order_qty(leg.qty - so_far.filled)
        if qty <= ZERO:  # its step is a coarser one by now
            if so_far.filled > ZERO:
                break
            reason = f"{plain(leg.qty)} {leg.symbol} is less than the step of {plain(instrument.qty_step)}"
            return _refused(Refusal(code=Outcome.SIZE_BELOW_MINIMUM, reason=reason))
        crash.point("open.before_commit", leg.symbol)
        order = await road.write(resources, book, leg, qty, native_stop=leg.native_stop)
        if looked is not None and looked.is_old:
            await road.withdraw(resources, order, OrderStatus.ABSENT, LOOKED_LONG_AGO)
            continue
        refusal = await _send_opening(resources, connected, order, marks)
        if refusal is not None and so_far.filled == ZERO:
            return _refused(refusal)
    if so_far.filled == ZERO:
        assert last is not None
        return _nothing_opened(last)
    marks["filled"] = resources.now()
    crash.point("open.filled", leg.symbol)
    if await _covered(resources, connected, leg, always=True):
        marks["protected"] = resources.now()
    return IntentStatus.DONE, Outcome.EXECUTED, f"{leg.kind} {leg.position_side} {plain(so_far.filled)} {leg.symbol}"


def _refused(refusal: Refusal) -> Ended:
    status = IntentStatus.EXPIRED if refusal.code is Outcome.TOO_OLD else IntentStatus.REFUSED
    return status, refusal.code, refusal.reason


def _nothing_opened(last: Order) -> Ended:
    reason = last.reason or "it gave no reason"
    match last.status:
        case OrderStatus.REJECTED:
            return IntentStatus.REFUSED, Outcome.VENUE_REFUSED, f"the exchange refused the order: {reason}"
        case OrderStatus.CANCELLED:
            return IntentStatus.REFUSED, Outcome.NOT_FILLED, f"the exchange filled nothing: {reason}"
        case OrderStatus.FILLED:
            why = f"the exchange calls order {last.client_order_id} filled, and its fills were not counted; look there"
            return IntentStatus.NEEDS_OPERATOR, Outcome.UNRESOLVED, why
    if last.reason == road.NEVER_ARRIVED:
        return IntentStatus.EXPIRED, Outcome.NEVER_ARRIVED, "the order never arrived; nothing was opened"
    return IntentStatus.REFUSED, Outcome.VENUE_UNAVAILABLE, f"nothing was sent: {reason}"


def _may_be_followed(last: Order) -> bool:
    """Whether another order of the opening may follow: this one surely was not sent, or is filled and counted."""
    if last.status is OrderStatus.ABSENT:
        return last.reason != road.NEVER_ARRIVED
    return last.status is OrderStatus.FILLED and last.filled_qty >= last.qty


async def _send_first(
    resources: Resources,
    connected: Connected,
    instruction: Instruction,
    leg: Intent,
    unsent: Order,
    looking: asyncio.Task[Readiness] | None,
    marks: Marks,
) -> Refusal | None:
    """Send the order that was committed a moment ago, or withdraw it: for good, or until what it lacks is seen to.

    Answers why it was withdrawn for good, or the venue's own refusal.
    """
    assert looking is not None, "whoever opens has looked"
    try:
        ready = await looking
    except (Refused, Transient, OutcomeUnknown) as error:
        await road.withdraw(resources, unsent, OrderStatus.ABSENT, f"not sent: {error}")
        raise
    standing = ready.standing
    refusal = ready.refusal or _expired(resources, instruction)
    if refusal is None and (refusal := _odd(leg, standing)) is not None and await _may_lag(resources, leg):
        await road.withdraw(resources, unsent, OrderStatus.ABSENT, LOOKS_ODD)
        return None
    if refusal is not None:
        await road.withdraw(resources, unsent, OrderStatus.ABSENT, f"not sent: {refusal.reason}")
        return refusal
    if leg.kind is IntentKind.OPEN and _to_set_up(connected, leg, standing):
        await road.withdraw(resources, unsent, OrderStatus.ABSENT, SET_UP_FIRST)
        return None
    if ready.is_old:
        await road.withdraw(resources, unsent, OrderStatus.ABSENT, LOOKED_LONG_AGO)
        return None
    return await _send_opening(resources, connected, unsent, marks)


async def _why_not(
    resources: Resources, connected: Connected, instruction: Instruction, leg: Intent, filled: Decimal
) -> tuple[Refusal | None, Readiness | None]:
    """Why the opening's next order may not leave, and what was seen at the exchange, if it was looked at. Raises
    NotYet, or what a read of the venue raises.
    """
    looked = None
    refusal = _expired(resources, instruction) or await _disabled(resources, leg)
    if refusal is None:
        refusal = await preflight.unfit(resources, connected, leg.symbol)
        if refusal is not None and refusal.code in preflight.PASSES and filled == ZERO:
            raise NotYet(refusal.reason, 0.5)  # until it is too old
    if refusal is None and leg.kind is IntentKind.OPEN and filled == ZERO:
        if not await preflight.let_go(resources, leg.account_id, leg.symbol, leg.position_side):
            raise NotYet(preflight.NOT_LET_GO, 0.5)
    if refusal is None and (leg.kind is IntentKind.ADD or filled > ZERO):
        refusal = await _ended(resources, instruction, leg)
    if refusal is None and filled == ZERO:
        try:
            looked = await _prepare(resources, connected, leg)
        except Refused as refused:
            return Refusal(code=Outcome(refused.code), reason=refused.reason), None
        refusal = _expired(resources, instruction)  # that took its time
    return refusal, looked


async def _disabled(resources: Resources, leg: Intent) -> Refusal | None:
    """Whether the strategy was disabled, or removed, since this was decided."""
    with store_errors():
        strategy = await strategies.get(resources.pool, leg.strategy_id)
    if strategy is not None and strategy.enabled:
        return None
    return Refusal(code=Outcome.STRATEGY_DISABLED, reason=f"strategy {leg.strategy_id} is disabled; enable it to trade")


async def holds_up_a_close(resources: Resources, instruction: Instruction) -> bool:
    """Whether something is held that an instruction behind this one is to close: an opening does not wait then."""
    pool, account_id, symbol = resources.pool, instruction.account_id, instruction.symbol
    with store_errors():
        if not await inbox.closing_waits(pool, account_id, symbol, instruction.id):
            return False
        return bool(await positions.live(pool, account_id, symbol))


async def _ended(resources: Resources, instruction: Instruction, leg: Intent) -> Refusal | None:
    """Whether what an order would add to has ended meanwhile, or is about to."""
    pool = resources.pool
    with store_errors():
        position_id = (await orders.intent(pool, leg.id)).position_id
        position = await positions.get(pool, position_id)
        lives = position_id == leg.position_id and position is not None and position.status is not PositionStatus.CLOSED
        if lives and not await levels.stopped(pool, position_id):
            if not await inbox.closing_waits(pool, leg.account_id, leg.symbol, instruction.id):
                return None
    return Refusal(code=Outcome.POSITION_ENDED, reason=f"the {leg.position_side} of {leg.symbol} has ended meanwhile")


async def _covered(resources: Resources, connected: Connected, leg: Intent, *, always: bool = False) -> bool:
    """Have what was filled protected. A stop that rode on the order is looked at once, at the end (`always`)."""
    if connected.venue.traits.attaches_stops and not always:
        return True
    with store_errors():
        position_id = (await orders.intent(resources.pool, leg.id)).position_id  # perhaps another than was planned
        position = await positions.get(resources.pool, position_id)
    secured = await protect.secure(resources, connected, position_id)
    return secured or (not always and position is not None and not position.exits.names_a_stop)


async def _heed_gate(connected: Connected, urgency: Urgency) -> None:
    """Under a ban, or with the budget for orders used up, nothing is even written. A limit that counts seconds is
    waited for; of what lasts longer the book is told.
    """
    until = time.monotonic() + GATE_PATIENCE_S
    while True:
        try:
            connected.gate.admit(urgency, *connected.venue.traits.order_limits)
            return
        except Transient as error:
            wait_s = error.retry_after_s or GATE_PAUSE_S
            if time.monotonic() + wait_s > until:
                raise NotYet(str(error), min(wait_s, GATE_PAUSE_S)) from None
        await asyncio.sleep(wait_s)


async def _send(resources: Resources, connected: Connected, order: Order, marks: Marks) -> tuple[Order, str | None]:
    marks["sent"] = resources.now()
    crash.point("close.before_send" if order.reduce_only else "open.before_send", order.symbol)
    sent = await road.send(resources, connected, order)
    marks["answered"] = resources.now()
    return sent


async def _send_opening(resources: Resources, connected: Connected, order: Order, marks: Marks) -> Refusal | None:
    """Send an opening order; the venue's refusal, if it refused at once."""
    sent, code = await _send(resources, connected, order, marks)
    crash.point("open.answered", order.symbol)
    if sent.status is not OrderStatus.REJECTED:
        return None
    return Refusal(code=Outcome(code or Outcome.VENUE_REFUSED), reason=f"the exchange refused the order: {sent.reason}")


def _expired(resources: Resources, instruction: Instruction) -> Refusal | None:
    """Whether an opening that was decided earlier has waited too long (a crash, an exchange away) to be sent."""
    return too_old(instruction.request, instruction.received_at, resources.now())


async def _prepare(resources: Resources, connected: Connected, leg: Intent) -> Readiness:
    """Before an opening: the account is fit, the side proven flat, leverage and margin mode as they are meant to be.

    Raises Refused with the reason why not.
    """
    until = time.monotonic() + SETTLING_S
    while True:
        ready = await preflight.look(resources, connected, leg.symbol)
        refusal = ready.refusal or _odd(leg, ready.standing)
        if refusal is None:
            break
        if ready.refusal is not None or time.monotonic() > until or not await _may_lag(resources, leg):
            raise Refused(refusal.code, refusal.reason)
        await asyncio.sleep(LOOK_AGAIN_S)
    if leg.kind is IntentKind.ADD:
        return ready
    standing, margin_mode = ready.standing, connected.account.margin_mode
    if margin_mode is not None and standing.margin_mode is not margin_mode:
        await connected.venue.set_margin_mode(leg.symbol, margin_mode)
    if leg.leverage is not None and standing.leverage != leg.leverage:
        if standing.holdings:
            raise Refused(
                Outcome.LEVERAGE_IN_USE,
                f"the other side of {leg.symbol} is held, and one leverage counts for both: send this alert without a "
                "leverage, or close the other side first",
            )
        await connected.venue.set_leverage(leg.symbol, leg.leverage)
    return ready


def _odd(leg: Intent, standing: Standing) -> Refusal | None:
    """What the exchange holds against what an opening expects: nothing there, or for an addition what it adds to."""
    if leg.kind is IntentKind.OPEN:
        return preflight.foreign(standing, leg.position_side)
    if standing.on(leg.position_side) is not None:
        return None
    reason = f"the exchange holds no {leg.position_side} of {leg.symbol} any more that could be added to"
    return Refusal(code=Outcome.POSITION_ENDED, reason=reason)


async def _may_lag(resources: Resources, leg: Intent) -> bool:
    """Whether the book changed so lately that the venue's list of positions may not show it yet."""
    with store_errors():
        return await positions.changed_lately(resources.pool, leg.account_id, leg.symbol, within_s=SETTLING_S)


def _to_set_up(connected: Connected, leg: Intent, standing: Standing) -> bool:
    margin_mode = connected.account.margin_mode
    return (margin_mode is not None and standing.margin_mode is not margin_mode) or (
        leg.leverage is not None and standing.leverage != leg.leverage
    )


async def _close(resources: Resources, connected: Connected, book: Book, leg: Intent, marks: Marks) -> Ended:
    """Close at least once: reduce-only, so sending again until it is flat is safe. Pauses are for what failed."""
    pool, failures, there = resources.pool, 0, INFINITY
    while failures < CLOSE_FAILURES_PER_VISIT:
        with store_errors():
            so_far = road.sum_up(await orders.orders_of(pool, leg.id))
            held = await positions.get(pool, leg.position_id)
        order = so_far.unresolved
        if order is None:
            if held is None or held.status is PositionStatus.CLOSED:
                await protect.secure(resources, connected, leg.position_id)  # nothing of it may go on resting there
                return IntentStatus.DONE, Outcome.EXECUTED, f"closed {leg.position_side} {leg.symbol}"
            wanted = min(there, held.qty if leg.kind is IntentKind.CLOSE else min(leg.qty - so_far.filled, held.qty))
            if wanted <= ZERO:
                break
            instrument = await connected.venue.instrument(leg.symbol)
            qty = instrument.order_qty(wanted)  # the rest with the next one
            if qty <= ZERO or (failures and wanted < instrument.qty_min):
                return _dust(leg, wanted, instrument)
            await _heed_gate(connected, Urgency.CLOSE)
            if failures:
                await asyncio.sleep(SEND_AGAIN_DELAYS_S[min(failures, len(SEND_AGAIN_DELAYS_S)) - 1])
            crash.point("close.before_commit", leg.symbol)
            order = await road.write(resources, book, leg, qty)
            order, _ = await _send(resources, connected, order, marks)
        if order.status is OrderStatus.REJECTED:
            # Perhaps it is flat already (the native stop, a level, a hand was faster): let the venue's fills tell.
            failures += 1
            await reconcile.book(resources, connected, leg.symbol)
            there = await _held_there(connected, leg)
            continue
        if order.status is not OrderStatus.ABSENT:
            order = await road.resolve(resources, connected, order, patience_s=PATIENCE_S)
            crash.point("close.filled", leg.symbol)
            marks["filled"] = resources.now()
        if order.status in UNRESOLVED:
            raise NotYet(f"the end of closing order {order.client_order_id} is not known yet; asking again", 0.5)
        failures += order.filled_qty == ZERO
        there = INFINITY  # that was for one order: the exchange's list may have lagged behind
    else:
        raise NotYet(f"{leg.symbol} is not closed yet after {failures} orders that failed; going on", 1.0)
    await protect.secure(resources, connected, leg.position_id)
    return IntentStatus.DONE, Outcome.EXECUTED, f"reduced {leg.position_side} {leg.symbol} by {plain(so_far.filled)}"


async def _held_there(connected: Connected, leg: Intent) -> Decimal:
    """The most that can be closed: in hedge mode Binance cuts nothing off, it refuses. What it does not list is no
    reason to close less.
    """
    try:
        holding = (await connected.venue.standing(leg.symbol)).on(leg.position_side)
    except (Refused, Transient, OutcomeUnknown):
        return INFINITY
    return INFINITY if holding is None else holding.qty


def _dust(leg: Intent, rest: Decimal, instrument: Instrument) -> Ended:
    """The exchange has refused it, or would do so."""
    return (
        IntentStatus.NEEDS_OPERATOR,
        Outcome.SIZE_BELOW_MINIMUM,
        f"{plain(rest)} {leg.symbol} are left, and the exchange takes {plain(instrument.qty_min)} at least: "
        "close them on the exchange's own page",
    )
