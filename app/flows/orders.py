"""The one road of every order: written, sent, recorded; and asked for when its answer is missing."""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import msgspec

from app import crash
from app.domain.money import ZERO, plain
from app.domain.order import FINAL, UNRESOLVED, Order, OrderStatus, PositionSide, Side, client_order_id
from app.domain.position import Fill
from app.errors import Conflict, OutcomeUnknown, Refused, Transient
from app.flows.settle import settle
from app.ids import new_id
from app.log import event
from app.resources import Connected, Resources
from app.store import books, levels, orders, positions
from app.store.books import Book
from app.store.db import store_errors, transaction
from app.store.levels import Armed
from app.store.orders import Intent
from app.venues.base import NewOrder, OrderReport, Placing, Prepared

log = logging.getLogger("orders")

# How long to wait before asking the venue again about an order that is not finished, first to last.
ASK_DELAYS_S = (0.0, 0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0)

# A request is refused by the venue when it arrives later than its receive window. So an order that the venue does not
# show this long after the window has closed never arrived, and never will. Queries may lag behind by some seconds.
QUERY_LAG = timedelta(seconds=4)
CLOCK_DOUBT = timedelta(seconds=5)  # between this machine's clock, which stamps orders, and the venue's
MISSES_FOR_ABSENCE = 3
DELTA_PATIENCE = timedelta(seconds=40)  # for which a position may speak against an order's absence
NEVER_ARRIVED = "never arrived at the exchange"
# Orders that ended without a fill are listed for a day (Bybit) or three (Binance), others for months.
FORGOTTEN_AFTER = timedelta(hours=25)


def first(resources: Resources, book: Book, intent: Intent, qty: Decimal) -> Order:
    """The first order of an opening intent, to be committed with it."""
    return _order(resources, book, intent, 0, qty, intent.native_stop)


def _order(
    resources: Resources, book: Book, intent: Intent, attempt: int, qty: Decimal, native_stop: Decimal | None
) -> Order:
    now = resources.now()
    return Order(
        id=new_id(),
        intent_id=intent.id,
        attempt=attempt,
        client_order_id=client_order_id(resources.keys.install, intent.cause_id, book.key, intent.leg, attempt),
        account_id=intent.account_id,
        symbol=intent.symbol,
        side=intent.side,
        qty=qty,
        reduce_only=not intent.opens,
        hedge=intent.hedge,
        stop_loss=native_stop,
        status=OrderStatus.SENT,
        created_at=now,
        sent_at=now,
    )


async def write(
    resources: Resources, book: Book, intent: Intent, qty: Decimal, *, native_stop: Decimal | None = None
) -> Order:
    """Commit an order that is about to leave. Conflict when the claim on the book was lost."""
    async with transaction(resources.pool) as connection:
        await books.fence(connection, book)
        attempt = await orders.next_attempt(connection, intent.id)
        order = _order(resources, book, intent, attempt, qty, native_stop)
        await orders.insert_orders(connection, [order])
    return order


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue answered to an order: the status that it has from now on."""

    status: OrderStatus
    venue_order_id: str | None = None
    venue_code: str | None = None
    code: str | None = None  # of a refusal, in our words
    reason: str | None = None


def closing(armed: Armed, signed_at: datetime) -> NewOrder:
    """The order that was committed with a level."""
    return NewOrder(
        client_order_id=armed.client_order_id,
        symbol=armed.symbol,
        side=armed.close_side,
        qty=armed.close_qty,
        reduce_only=True,
        hedge=armed.hedge,
        signed_at=signed_at,
    )


def place_now(connected: Connected, prepared: Prepared, signed_ms: int) -> Placing | None:
    """Send a committed order before this returns, where it can leave at this instant; `place` tells what comes of it.
    Where it can't nothing has left, and `place` sends it. Never raises.
    """
    try:
        return connected.venue.place_now(prepared, signed_ms)
    except Exception as error:
        # A bug, and perhaps one of after the send: the venue is asked, as after an answer that was lost.
        log.exception("the send of an order failed")
        return partial(_lost, repr(error))


async def _lost(why: str) -> str:
    raise OutcomeUnknown(why)


async def place(connected: Connected, order: NewOrder, placing: Placing | None = None) -> Answer:
    """Send a committed order once, or say what came of one that has left (`placing`). Never raises for what the venue
    does.
    """
    try:
        venue_order_id = await (connected.venue.place(order) if placing is None else placing())
        return Answer(status=OrderStatus.ACCEPTED, venue_order_id=venue_order_id)
    except Refused as error:
        return Answer(status=OrderStatus.REJECTED, venue_code=error.venue_code, code=error.code, reason=error.reason)
    except Transient as error:
        return Answer(status=OrderStatus.ABSENT, reason=str(error))
    except OutcomeUnknown as error:
        return Answer(status=OrderStatus.UNKNOWN, reason=str(error))
    except Conflict as error:
        # A duplicate id: it arrived before. Nothing to reduce: it ended without an effect.
        nothing = error.kind == "nothing_to_reduce"
        return Answer(status=OrderStatus.REJECTED if nothing else OrderStatus.UNKNOWN, reason=str(error))


async def send(resources: Resources, connected: Connected, order: Order) -> tuple[Order, str | None]:
    """Send an order that `write` committed, and record what was answered; with the code of a refusal."""
    answer = await place(
        connected,
        NewOrder(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            qty=order.qty,
            reduce_only=order.reduce_only,
            hedge=order.hedge,
            signed_at=order.sent_at or resources.now(),
            stop_loss=order.stop_loss,
        ),
    )
    crash.point("close.sent" if order.reduce_only else "open.sent", order.symbol)
    accepted = answer.status is OrderStatus.ACCEPTED
    event(
        log,
        logging.INFO if accepted else logging.WARNING,
        "order sent" if accepted else f"order {answer.status}",
        account=connected.account.name,
        symbol=order.symbol,
        side=order.side,
        qty=plain(order.qty),
        reduce_only=order.reduce_only or None,
        native_stop=None if order.stop_loss is None else plain(order.stop_loss),
        why=answer.reason,
        client_order_id=order.client_order_id,
    )
    try:
        with store_errors():
            moved = await orders.move(
                resources.pool,
                order.id,
                answer.status,
                venue_order_id=answer.venue_order_id,
                venue_code=answer.venue_code,
                reason=answer.reason,
            )
    except Conflict:
        # Its fill was settled by somebody else before its answer was recorded here.
        moved = await orders.order(resources.pool, order.id)
    return moved, answer.code


async def withdraw(resources: Resources, order: Order, to: OrderStatus, why: str) -> None:
    """A committed order is not sent after all."""
    with store_errors():
        await orders.move(resources.pool, order.id, to, reason=why)


async def resolve(
    resources: Resources,
    connected: Connected,
    order: Order,
    *,
    patience_s: float,
    on_unlisted: Callable[[], Awaitable[None]] | None = None,
) -> Order:
    """Ask the venue until the order's end is known and its fills are settled, or `patience_s` is over.

    Answers the order as it stands: unresolved still, if the venue could not be asked or has not made up its mind.
    `on_unlisted` is called once if something seems to be filled and the venue does not list the fills yet.
    """
    until = time.monotonic() + patience_s
    misses = 0
    for turn in itertools.count():
        delay = ASK_DELAYS_S[min(turn, len(ASK_DELAYS_S) - 1)]
        if time.monotonic() + delay > until and turn:
            break
        await asyncio.sleep(delay)
        if turn:
            # The private stream may have told more, and sooner, than the venue lists.
            with store_errors():
                order = await orders.order(resources.pool, order.id)
            if order.status not in UNRESOLVED:
                return order
            if order.filled_qty >= order.qty:
                return await _finish(resources, order, OrderStatus.FILLED, None)
            if order.filled_qty > ZERO and on_unlisted is not None:
                await on_unlisted()
                on_unlisted = None
        try:
            asked = await ask(resources, connected, order)
        except (Transient, OutcomeUnknown) as error:
            event(log, logging.WARNING, "cannot ask about order", order=order.client_order_id, why=str(error))
            continue
        order = asked.order
        if order.status in FINAL or order.status is OrderStatus.ABSENT:
            return order
        if asked.unlisted and on_unlisted is not None:
            await on_unlisted()
            on_unlisted = None
        misses = 0 if asked.seen else misses + 1
        if misses >= MISSES_FOR_ABSENCE and _window_is_over(resources, order):
            if await _shows_in_position(resources, connected, order):
                misses = 0
                if on_unlisted is not None:
                    await on_unlisted()
                    on_unlisted = None
                continue
            return await _absent(resources, order)
    return order


async def _shows_in_position(resources: Resources, connected: Connected, order: Order) -> bool:
    """Whether the exchange holds more than our fills come to, as it would if an opening that it does not show had been
    filled. Queries have been seen to deny an order for half a minute; somebody's hand, which looks the same, is not
    waited for any longer.
    """
    if order.reduce_only or resources.now() > (order.sent_at or order.created_at) + DELTA_PATIENCE:
        return False
    side = PositionSide.LONG if order.side is Side.BUY else PositionSide.SHORT
    try:
        holding = (await connected.venue.standing(order.symbol)).on(side)
    except (Refused, Transient, OutcomeUnknown):
        return True  # not looked at: not proven
    with store_errors():
        live = await positions.live(resources.pool, order.account_id, order.symbol)
    ours = sum((position.qty for position in live if position.side is side), ZERO)
    if holding is None or holding.qty <= ours:
        return False
    event(log, logging.WARNING, "the exchange denies the order and holds more than we know of: asking on",
          symbol=order.symbol, order=order.client_order_id)  # fmt: skip
    return True


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What asking about an order came to. `seen`: the venue showed something of it. `unlisted`: the venue says that
    more was filled than the fills that it lists.
    """

    order: Order
    seen: bool
    unlisted: bool = False


async def ask(resources: Resources, connected: Connected, order: Order) -> Asked:
    """Ask once for the order and its fills, and record both."""
    instrument = await connected.venue.instrument(order.symbol)
    report = await connected.venue.order(order.symbol, order.client_order_id)
    listed: list[Fill] = []
    if report is None or report.filled_qty > ZERO or report.status is OrderStatus.FILLED:
        since = (order.sent_at or order.created_at) - CLOCK_DOUBT
        try:
            listed = await connected.venue.fills(order.symbol, client_order_id=order.client_order_id, since=since)
        except Transient:
            if report is None:
                raise
        if listed:
            await settle(resources, order.account_id, instrument, listed)
    filled = sum((fill.qty for fill in listed), ZERO)
    if report is None:
        if filled >= order.qty:
            return Asked(order=await _finish(resources, order, OrderStatus.FILLED, None), seen=True)
        return Asked(order=order, seen=filled > ZERO)
    # "Filled" without a quantity is not believed. With one it may be less than was asked: a reduce-only order is cut to
    # what is held.
    said = order.qty if report.status is OrderStatus.FILLED and report.filled_qty == ZERO else report.filled_qty
    if report.status in FINAL and filled >= said:
        return Asked(order=await _finish(resources, order, report.status, report), seen=True)
    if report.status is not OrderStatus.REJECTED and order.status is not OrderStatus.ACCEPTED:
        order = await orders.move(resources.pool, order.id, OrderStatus.ACCEPTED, venue_order_id=report.venue_order_id)
    return Asked(order=order, seen=True, unlisted=filled < said)


async def _finish(resources: Resources, order: Order, status: OrderStatus, report: OrderReport | None) -> Order:
    async with transaction(resources.pool) as connection:
        await books.lock(connection, order.account_id, order.symbol)
        try:
            finished = await orders.move(
                connection,
                order.id,
                status,
                venue_order_id=None if report is None else report.venue_order_id,
                reason=None if report is None else report.reason,
            )
        except Conflict:
            return await orders.order(connection, order.id)
        await positions.opened(connection, order.intent_id)
        level_id = await levels.of_intent(connection, order.intent_id)
        if level_id is not None:
            await levels.trigger(connection, level_id, None, None)
            await orders.disarm_orders(connection, [order.intent_id])
            if status is OrderStatus.FILLED:
                await levels.done(connection, level_id)
    if status is not OrderStatus.FILLED:
        event(
            log,
            logging.WARNING,
            f"order {status}",
            symbol=order.symbol,
            filled=plain(finished.filled_qty),
            of=plain(order.qty),
            why=finished.reason,
            client_order_id=order.client_order_id,
        )
    return finished


def _window_is_over(resources: Resources, order: Order) -> bool:
    sent_at = order.sent_at or order.created_at
    return resources.now() > sent_at + timedelta(milliseconds=resources.settings.recv_window_ms) + QUERY_LAG


async def _absent(resources: Resources, order: Order) -> Order:
    if order.status is OrderStatus.ACCEPTED:
        return await _forgotten(resources, order)
    event(
        log,
        logging.WARNING,
        "order never arrived",
        symbol=order.symbol,
        client_order_id=order.client_order_id,
        why="the exchange does not know it and would refuse it by now",
    )
    try:
        return await orders.move(resources.pool, order.id, OrderStatus.ABSENT, reason=NEVER_ARRIVED)
    except Conflict:
        return await orders.order(resources.pool, order.id)


async def _forgotten(resources: Resources, order: Order) -> Order:
    """The exchange took it and does not show it. No market order works for a day, and what has fills is kept for long:
    after that time it has ended without any. Before that, nothing is said by its absence from the lists.
    """
    if resources.now() < (order.sent_at or order.created_at) + FORGOTTEN_AFTER:
        return order
    report = OrderReport(
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id or "",
        symbol=order.symbol,
        status=OrderStatus.CANCELLED,
        filled_qty=ZERO,
        avg_price=None,
        reason="the exchange lists it no more, as what ended without a fill",
    )
    return await _finish(resources, order, OrderStatus.CANCELLED, report)


class Sum(msgspec.Struct, frozen=True):
    """What the orders of an intent have come to."""

    filled: Decimal
    unresolved: Order | None
    last: Order | None


def sum_up(found: list[Order]) -> Sum:
    waiting = [o for o in found if o.status in UNRESOLVED]
    sent = [o for o in found if o.status not in (OrderStatus.ARMED, OrderStatus.DISARMED)]
    return Sum(
        filled=sum((o.filled_qty for o in found), ZERO),
        unresolved=waiting[0] if waiting else None,
        last=sent[-1] if sent else None,
    )
