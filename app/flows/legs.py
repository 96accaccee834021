"""Carry out the legs of a plan: open at most once, close at least once."""

import asyncio
from datetime import datetime

from app.domain.decide import Refusal, too_old
from app.domain.money import ZERO, plain
from app.domain.order import UNRESOLVED, Order, OrderStatus
from app.domain.refusals import Outcome
from app.errors import OutcomeUnknown, Refused, Transient
from app.flows import orders as road
from app.flows import protect, reconcile
from app.flows.plan import foreign
from app.resources import Connected, Resources
from app.store import orders, positions
from app.store.books import Book
from app.store.db import store_errors
from app.store.inbox import Instruction
from app.store.orders import Intent, IntentKind, IntentStatus
from app.venues.base import Holding

PATIENCE_S = 12.0  # how long one visit waits for an order's end; beyond recv window + query lag
OPEN_ATTEMPTS = 3  # sends of an opening that surely did not arrive
SEND_AGAIN_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 3.0)
CLOSE_ATTEMPTS_PER_VISIT = 6

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
    looking: asyncio.Task[Holding] | None,
    marks: Marks,
) -> Intent:
    """Carry out one leg.

    `order` is its order if that was committed a moment ago and has not left yet, `looking` the question what the
    exchange holds, asked at the same time.
    """
    if leg.opens:
        status, code, reason = await _open(resources, connected, book, instruction, leg, order, looking, marks)
    else:
        status, code, reason = await _close(resources, connected, book, leg, marks)
    with store_errors():
        await orders.finish_intent(resources.pool, leg.id, status, code, reason)
        return await orders.intent(resources.pool, leg.id)


async def _open(
    resources: Resources,
    connected: Connected,
    book: Book,
    instruction: Instruction,
    leg: Intent,
    unsent: Order | None,
    looking: asyncio.Task[Holding] | None,
    marks: Marks,
) -> Ended:
    """Open at most once: an attempt whose end is not proven is never followed by another."""
    if unsent is not None:
        if leg.kind is IntentKind.OPEN and looking is not None:
            try:
                refusal = foreign(await looking)
            except (Refused, Transient, OutcomeUnknown) as error:
                await road.withdraw(resources, unsent, OrderStatus.ABSENT, f"not sent: {error}")
                raise
            if refusal is not None:
                await road.withdraw(resources, unsent, OrderStatus.REJECTED, f"not sent: {refusal.reason}")
                return IntentStatus.REFUSED, refusal.code, refusal.reason
        sent = await _send(resources, connected, unsent, marks)
        if sent.status in UNRESOLVED:
            await road.resolve(resources, connected, sent, patience_s=PATIENCE_S)
    for _ in range(OPEN_ATTEMPTS):
        with store_errors():
            so_far = road.sum_up(await orders.orders_of(resources.pool, leg.id))
        order = so_far.unresolved
        resuming = order is not None
        if order is None and so_far.filled > ZERO:
            break
        if order is None and so_far.last is not None and so_far.last.status is not OrderStatus.ABSENT:
            break
        if order is None:
            if so_far.last is not None and so_far.last.reason == road.NEVER_ARRIVED:
                return IntentStatus.EXPIRED, Outcome.NEVER_ARRIVED, "the order never arrived; nothing was opened"
            try:
                await _prepare(connected, leg)
            except Refused as refused:
                return IntentStatus.REFUSED, refused.code, refused.reason
            if (expired := _expired(resources, instruction)) is not None:
                return IntentStatus.EXPIRED, expired.code, expired.reason
            order = await road.write(resources, book, leg, leg.qty, native_stop=leg.native_stop)
            order = await _send(resources, connected, order, marks)
        if order.status is OrderStatus.ABSENT:
            await asyncio.sleep(SEND_AGAIN_DELAYS_S[min(order.attempt, len(SEND_AGAIN_DELAYS_S) - 1)])
            continue
        if order.status is not OrderStatus.REJECTED:
            order = await road.resolve(resources, connected, order, patience_s=PATIENCE_S)
        if order.status in UNRESOLVED:
            raise NotYet(f"the end of order {order.client_order_id} is not known yet; asking again", 2.0)
        if resuming:
            marks["resumed"] = resources.now()
    with store_errors():
        so_far = road.sum_up(await orders.orders_of(resources.pool, leg.id))
    if so_far.filled == ZERO:
        last = so_far.last
        assert last is not None
        if last.status is OrderStatus.REJECTED:
            return IntentStatus.REFUSED, Outcome.VENUE_REFUSED, f"the exchange refused the order: {last.reason}"
        if last.status is OrderStatus.CANCELLED:
            return IntentStatus.REFUSED, Outcome.NOT_FILLED, f"the exchange filled nothing: {last.reason}"
        if last.reason == road.NEVER_ARRIVED:
            return IntentStatus.EXPIRED, Outcome.NEVER_ARRIVED, "the order never arrived; nothing was opened"
        return IntentStatus.REFUSED, Outcome.VENUE_UNAVAILABLE, f"nothing was sent: {last.reason}"
    marks["filled"] = resources.now()
    with store_errors():
        position_id = (await orders.intent(resources.pool, leg.id)).position_id  # perhaps another than was planned
    if await protect.secure(resources, connected, position_id):
        marks["protected"] = resources.now()
    return IntentStatus.DONE, Outcome.EXECUTED, f"{leg.kind} {leg.position_side} {plain(so_far.filled)} {leg.symbol}"


async def _send(resources: Resources, connected: Connected, order: Order, marks: Marks) -> Order:
    marks["sent"] = resources.now()
    order = await road.send(resources, connected, order)
    marks["answered"] = resources.now()
    return order


def _expired(resources: Resources, instruction: Instruction) -> Refusal | None:
    """Whether an opening that was decided earlier has waited too long (a crash, an exchange away) to be sent."""
    return too_old(instruction.request, instruction.received_at, resources.now())


async def _prepare(connected: Connected, leg: Intent) -> None:
    """Before an opening: proven flat, and the leverage set if the venue's differs."""
    if leg.kind is IntentKind.ADD:
        return
    holding = await connected.venue.holding(leg.symbol)
    if leg.leg > 0 and holding.qty != ZERO:
        raise NotYet(f"{leg.symbol} is not flat at the exchange yet; it opens the other side after that", 0.3)
    refusal = foreign(holding)
    if refusal is not None:
        raise Refused(refusal.code, refusal.reason)
    if leg.leverage is not None and holding.leverage != leg.leverage:
        await connected.venue.set_leverage(leg.symbol, leg.leverage)


async def _close(resources: Resources, connected: Connected, book: Book, leg: Intent, marks: Marks) -> Ended:
    """Close at least once: reduce-only, so sending again until it is flat is safe."""
    pool = resources.pool
    for turn in range(CLOSE_ATTEMPTS_PER_VISIT):
        with store_errors():
            so_far = road.sum_up(await orders.orders_of(pool, leg.id))
            held = await positions.live(pool, leg.account_id, leg.symbol)
        order = so_far.unresolved
        if order is None:
            if held is None or held.id != leg.position_id:
                return IntentStatus.DONE, Outcome.EXECUTED, f"closed {leg.position_side} {leg.symbol}"
            wanted = held.qty if leg.kind is IntentKind.CLOSE else min(leg.qty - so_far.filled, held.qty)
            if wanted <= ZERO:
                break
            instrument = await connected.venue.instrument(leg.symbol)
            wanted = min(wanted, instrument.market_qty_max)  # the rest with the next order
            if turn:
                await asyncio.sleep(SEND_AGAIN_DELAYS_S[min(turn, len(SEND_AGAIN_DELAYS_S)) - 1])
            order = await road.write(resources, book, leg, wanted)
            order = await _send(resources, connected, order, marks)
        if order.status is OrderStatus.REJECTED:
            # Perhaps it is flat already (the native stop, a level, a hand was faster): let the venue's fills tell.
            await reconcile.book(resources, connected, leg.symbol)
            continue
        if order.status is not OrderStatus.ABSENT:
            order = await road.resolve(resources, connected, order, patience_s=PATIENCE_S)
            marks["filled"] = resources.now()
        if order.status in UNRESOLVED:
            raise NotYet(f"the end of closing order {order.client_order_id} is not known yet; asking again", 0.5)
    else:
        raise NotYet(f"{leg.symbol} is not closed yet after {CLOSE_ATTEMPTS_PER_VISIT} orders; going on", 1.0)
    await protect.secure(resources, connected, leg.position_id)
    return IntentStatus.DONE, Outcome.EXECUTED, f"reduced {leg.position_side} {leg.symbol} by {plain(so_far.filled)}"
