"""Carry out what a book is asked to do: load -> decide -> write -> send -> record, one instruction at a time.

A book is claimed first, so alerts of one book run in the order in which they were received and different books run in
parallel. Whatever stops half-way (a crash, a venue that does not answer) is resumed from what the tables say.
"""

import asyncio
import logging
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from app.alerts.fields import read_defaults
from app.domain.decide import Close, Leg, Open, Plan, Refusal, Rules, Situation, decide, needs_equity, too_old
from app.domain.money import ZERO, plain
from app.domain.order import OrderStatus
from app.domain.position import CloseReason, Position, PositionStatus
from app.domain.refusals import Outcome
from app.errors import Conflict, OutcomeUnknown, Refused, StoreUnavailable, Transient
from app.flows import orders as road
from app.flows import protect, reconcile
from app.ids import new_id
from app.log import event
from app.resources import Connected, Resources
from app.store import books, inbox, levels, orders, positions, strategies
from app.store.books import Book
from app.store.db import UNAVAILABLE, store_errors, transaction
from app.store.inbox import CauseKind, Instruction, InstructionStatus
from app.store.orders import Intent, IntentCause, IntentKind, IntentStatus

log = logging.getLogger("execute")

PRICE_AGE_MAX_S = 2.0  # an older price is asked for again
PATIENCE_S = 12.0  # how long one visit waits for an order's end; beyond recv window + query lag
POISON_FAILURES = 5  # a bug that strikes this often is set aside, so that the book goes on; never a stop's close
OPEN_ATTEMPTS = 3  # sends of an opening that surely did not arrive
SEND_AGAIN_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 3.0)
CLOSE_ATTEMPTS_PER_VISIT = 6


class NotYet(Exception):
    """The instruction has to wait: why, and for how long. It stays the book's first."""

    def __init__(self, why: str, seconds: float = 1.0) -> None:
        super().__init__(why)
        self.seconds = seconds


Marks = dict[str, datetime]


class Worker:
    """One worker process: the holder of its claims, and the books that its tasks are at."""

    def __init__(self, id: UUID) -> None:
        self.id = id
        self.busy: set[tuple[UUID, str]] = set()
        self.stopping = False  # no instruction is begun any more
        self._idle = asyncio.Event()

    def begin(self, key: tuple[UUID, str]) -> None:
        self.busy.add(key)
        self._idle.clear()

    def end(self, key: tuple[UUID, str]) -> None:
        self.busy.discard(key)
        if not self.busy:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no book is being worked on."""
        if self.busy:
            await self._idle.wait()


async def execute_alert(resources: Resources, worker: Worker, alert_id: UUID) -> None:
    """Work on every book that waits for this alert, side by side."""
    with store_errors():
        found = await inbox.books_of_alert(resources.pool, alert_id)
    await asyncio.gather(*(execute_book(resources, worker, account_id, symbol) for account_id, symbol in found))


async def execute_book(resources: Resources, worker: Worker, account_id: UUID, symbol: str) -> None:
    """Carry out what waits in a book, oldest first. Returns at once when another task is at it: it will see ours."""
    key = (account_id, symbol)
    while key not in worker.busy and not worker.stopping:
        worker.begin(key)
        try:
            claimed = await _work(resources, worker, account_id, symbol)
        finally:
            worker.end(key)
        # What came between the last look and the release found the book claimed and left it to us.
        with store_errors():
            if not claimed or await inbox.next_id(resources.pool, account_id, symbol) is None:
                return


async def _work(resources: Resources, worker: Worker, account_id: UUID, symbol: str) -> bool:
    """Claim the book and empty it; False when another worker has it."""
    pool = resources.pool
    with store_errors():
        book = await books.claim(pool, account_id, symbol, worker.id)
    if book is None:
        return False
    try:
        while not worker.stopping:
            try:
                with store_errors():
                    instruction = await inbox.next_instruction(pool, account_id, symbol)
            except msgspec.ValidationError as error:
                await _set_aside_unreadable(resources, account_id, symbol, error)
                continue
            if instruction is None:
                break
            await _attempt(resources, book, instruction)
        return True
    finally:
        with store_errors():
            await books.release(pool, book)


async def _set_aside_unreadable(
    resources: Resources, account_id: UUID, symbol: str, error: msgspec.ValidationError
) -> None:
    """Another version wrote what this one does not understand: that is refused, not guessed."""
    async with transaction(resources.pool) as connection:
        instruction_id = await inbox.next_id(connection, account_id, symbol)
        if instruction_id is not None:
            reason = f"this version cannot read it ({error}); look at the position yourself"
            await inbox.finish(connection, instruction_id, InstructionStatus.NEEDS_OPERATOR, Outcome.GAVE_UP, reason)
            event(log, logging.ERROR, "instruction set aside", symbol=symbol, id=instruction_id, why=reason)


async def _attempt(resources: Resources, book: Book, instruction: Instruction) -> None:
    """One attempt at an instruction. Ends it, or postpones it with a reason; only losing the book raises."""
    pool = resources.pool
    try:
        with store_errors():
            instruction = await inbox.start(pool, instruction.id)
    except Conflict:
        return  # another worker was faster
    marks: Marks = {"picked": resources.now()}
    try:
        status, code, reason = await _carry_out(resources, book, instruction, marks)
    except NotYet as wait:
        await inbox.postpone(pool, instruction.id, seconds=wait.seconds, why=str(wait))
        event(log, logging.WARNING, "postponed", symbol=book.symbol, why=str(wait), cause=instruction.cause_id)
        return
    except (Refused, Transient, OutcomeUnknown) as error:
        # A request that is not an order failed. A close waits as long as it takes: what refuses today (a key, an
        # address) is mended tomorrow. So does whatever has begun. An opening that has not ends here, or by its age.
        begun = bool(await orders.intents_of(pool, IntentCause.INSTRUCTION, instruction.id))
        ends = None if begun or instruction.request.only_closes else await _ends(resources, instruction, error)
        if ends is None:
            seconds = min(5.0, 0.5 * 2 ** min(instruction.attempts, 4))
            await inbox.postpone(pool, instruction.id, seconds=seconds, why=str(error))
            event(log, logging.WARNING, "put off", symbol=book.symbol, why=str(error), cause=instruction.cause_id)
            return
        status, code, reason = ends
    except Conflict as error:
        await inbox.postpone(pool, instruction.id, seconds=0.2, why=str(error))
        return
    except Exception as error:
        if isinstance(error, (StoreUnavailable, *UNAVAILABLE)):
            raise  # nothing can be recorded now; the sweep comes back to it
        log.exception("instruction failed")
        failures = await inbox.fail(pool, instruction.id)
        if failures < POISON_FAILURES or instruction.cause_kind in (CauseKind.LEVEL, CauseKind.PROTECTION):
            await inbox.postpone(pool, instruction.id, seconds=min(failures, 5), why=repr(error))
            return
        status, code = InstructionStatus.NEEDS_OPERATOR, Outcome.GAVE_UP
        reason = f"failed {failures} times ({type(error).__name__}); look at the log, and at the position"
    async with transaction(pool) as connection:
        await inbox.finish(connection, instruction.id, status, code, reason, marks)
    level = logging.INFO if status is InstructionStatus.DONE else logging.WARNING
    event(
        log, level, f"{instruction.cause_kind} {status}", symbol=book.symbol, code=code, reason=reason or None,
        strategy=instruction.strategy_id, id=instruction.cause_id,
    )  # fmt: skip


async def _ends(
    resources: Resources, instruction: Instruction, error: Refused | Transient | OutcomeUnknown
) -> tuple[InstructionStatus, str, str] | None:
    """How an opening ends of which nothing was sent; None while it may still be tried."""
    if isinstance(error, Refused):
        return InstructionStatus.REFUSED, error.code, error.reason
    expired = await _expired(resources, instruction)
    if expired is None:
        return None
    return InstructionStatus.EXPIRED, expired.code, f"{expired.reason}; the exchange did not answer: {error}"


async def _carry_out(
    resources: Resources, book: Book, instruction: Instruction, marks: Marks
) -> tuple[InstructionStatus, str, str]:
    """Decide if that was not done yet, then execute the legs; answers how the instruction ended."""
    connected = await resources.venues.of(instruction.account_id)
    with store_errors():
        legs = await orders.intents_of(resources.pool, IntentCause.INSTRUCTION, instruction.id)
    refused = (instruction.outcome_code, instruction.outcome_reason)
    if not legs:
        plan = await _decide(resources, connected, instruction)
        marks["decided"] = resources.now()
        if not plan.legs:
            if plan.refusal is None:
                return InstructionStatus.DONE, Outcome.NOTHING_TO_DO, plan.reason
            expired = plan.refusal.code is Outcome.TOO_OLD
            status = InstructionStatus.EXPIRED if expired else InstructionStatus.REFUSED
            return status, plan.refusal.code, plan.refusal.reason
        legs = await _write_legs(resources, book, instruction, plan)
        refused = (plan.refusal.code, plan.refusal.reason) if plan.refusal else (None, None)
    done: list[str] = []
    for leg in legs:
        if leg.status is IntentStatus.PLANNED:
            leg = await _execute(resources, connected, book, instruction, leg, marks)
        if leg.status is not IntentStatus.DONE:
            status = {
                IntentStatus.EXPIRED: InstructionStatus.EXPIRED,
                IntentStatus.NEEDS_OPERATOR: InstructionStatus.NEEDS_OPERATOR,
            }.get(leg.status, InstructionStatus.REFUSED)
            reason = leg.outcome_reason or ""
            return status, leg.outcome_code or Outcome.UNRESOLVED, "; ".join([*done, reason])
        done.append(leg.outcome_reason or leg.kind)
    code, why = refused
    if code is not None:
        status = InstructionStatus.EXPIRED if code == Outcome.TOO_OLD else InstructionStatus.REFUSED
        return status, code, "; ".join([*done, f"not opened: {why}"])
    return InstructionStatus.DONE, Outcome.EXECUTED, "; ".join(done)


async def _decide(resources: Resources, connected: Connected, instruction: Instruction) -> Plan:
    """Read what the decision needs, then decide."""
    pool, signal = resources.pool, instruction.request
    with store_errors():
        held = await positions.live(pool, instruction.account_id, instruction.symbol)
        strategy = await strategies.get(pool, instruction.strategy_id)
        received_at = (
            await inbox.received_at(pool, instruction.cause_id)
            if instruction.cause_kind is CauseKind.ALERT
            else instruction.created_at
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
    symbol = instruction.symbol
    if not signal.only_closes:
        await resources.bell.follow(instruction.account_id, symbol)
    instrument = await connected.venue.instrument(symbol)
    equity = (await connected.venue.equity()).equity if needs_equity(signal, rules) else None
    price = ZERO
    if not signal.only_closes or signal.size is not None:
        price, foreign = await asyncio.gather(
            _price(resources, connected, symbol), _foreign(connected, symbol) if held is None else _none()
        )
        if foreign is not None:
            return Plan(refusal=foreign)
    situation = Situation(
        held=held, instrument=instrument, price=price, equity=equity, received_at=received_at, now=resources.now()
    )
    return decide(signal, rules, situation, await _close_reason(resources, instruction))


async def _foreign(connected: Connected, symbol: str) -> Refusal | None:
    """What a hand or another program holds is not ours to add to, to reverse or to net against."""
    holding = await connected.venue.holding(symbol)
    if holding.side is None:
        return None
    return Refusal(
        code=Outcome.FOREIGN_POSITION,
        reason=f"the exchange holds {holding.side} {plain(holding.qty)} {symbol} that Levelhead did not open; "
        "close it there, or trade this symbol on another account",
    )


async def _none() -> None:
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


async def _write_legs(resources: Resources, book: Book, instruction: Instruction, plan: Plan) -> list[Intent]:
    """Commit the plan: from here on it is resumed, not decided again."""
    async with transaction(resources.pool) as connection:
        await books.fence(connection, book)
        held = await positions.live(connection, book.account_id, book.symbol)
        if held is None and any(not isinstance(leg, Open) or leg.adds for leg in plan.legs):
            raise Conflict("the position ended while it was decided what to do with it")
        legs = [_intent(instruction, held, leg, number) for number, leg in enumerate(plan.legs)]
        await orders.insert_intents(connection, legs)
        if plan.refusal is not None:
            await inbox.foretell(connection, instruction.id, plan.refusal.code, plan.refusal.reason)
        if held is not None and any(isinstance(leg, Close) for leg in plan.legs):
            await positions.set_status(connection, held.id, PositionStatus.CLOSING)
    return legs


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


async def _execute(
    resources: Resources, connected: Connected, book: Book, instruction: Instruction, leg: Intent, marks: Marks
) -> Intent:
    if leg.opens:
        status, code, reason = await _open(resources, connected, book, instruction, leg, marks)
    else:
        status, code, reason = await _close(resources, connected, book, leg, marks)
    with store_errors():
        await orders.finish_intent(resources.pool, leg.id, status, code, reason)
        return await orders.intent(resources.pool, leg.id)


async def _open(
    resources: Resources, connected: Connected, book: Book, instruction: Instruction, leg: Intent, marks: Marks
) -> tuple[IntentStatus, str, str]:
    """Open at most once: an attempt whose end is not proven is never followed by another."""
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
            if (expired := await _expired(resources, instruction)) is not None:
                return IntentStatus.EXPIRED, expired.code, expired.reason
            order = await road.write(resources, book, leg, leg.qty, native_stop=leg.native_stop)
            marks["sent"] = resources.now()
            order = await road.send(resources, connected, order)
            marks["answered"] = resources.now()
        if order.status is OrderStatus.ABSENT:
            await asyncio.sleep(SEND_AGAIN_DELAYS_S[min(order.attempt, len(SEND_AGAIN_DELAYS_S) - 1)])
            continue
        if order.status is not OrderStatus.REJECTED:
            order = await road.resolve(resources, connected, order, patience_s=PATIENCE_S)
        if order.status in (OrderStatus.SENT, OrderStatus.UNKNOWN, OrderStatus.ACCEPTED):
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
    if await protect.secure(resources, connected, leg.position_id):
        marks["protected"] = resources.now()
    return IntentStatus.DONE, Outcome.EXECUTED, f"{leg.kind} {leg.position_side} {plain(so_far.filled)} {leg.symbol}"


async def _expired(resources: Resources, instruction: Instruction) -> Refusal | None:
    """Whether an opening that was decided earlier has waited too long (a crash, an exchange away) to be sent."""
    with store_errors():
        received_at = await inbox.received_at(resources.pool, instruction.cause_id)
    return too_old(instruction.request, received_at, resources.now())


async def _prepare(connected: Connected, leg: Intent) -> None:
    """Before an opening: proven flat if it follows a close, and the leverage set if the venue's differs."""
    if leg.kind is IntentKind.ADD or (leg.leg == 0 and leg.leverage is None):
        return
    holding = await connected.venue.holding(leg.symbol)
    if leg.leg > 0 and holding.qty != ZERO:
        raise NotYet(f"{leg.symbol} is not flat at the exchange yet; it opens the other side after that", 0.3)
    if leg.leverage is not None and holding.leverage != leg.leverage:
        await connected.venue.set_leverage(leg.symbol, leg.leverage)


async def _close(
    resources: Resources, connected: Connected, book: Book, leg: Intent, marks: Marks
) -> tuple[IntentStatus, str, str]:
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
            marks["sent"] = resources.now()
            order = await road.send(resources, connected, order)
            marks["answered"] = resources.now()
        if order.status is OrderStatus.REJECTED:
            # Perhaps it is flat already (the native stop, a level, a hand was faster): let the venue's fills tell.
            await reconcile.book(resources, connected, leg.symbol)
            continue
        if order.status is not OrderStatus.ABSENT:
            order = await road.resolve(resources, connected, order, patience_s=PATIENCE_S)
            marks["filled"] = resources.now()
        if order.status in (OrderStatus.SENT, OrderStatus.UNKNOWN, OrderStatus.ACCEPTED):
            raise NotYet(f"the end of closing order {order.client_order_id} is not known yet; asking again", 0.5)
    else:
        raise NotYet(f"{leg.symbol} is not closed yet after {CLOSE_ATTEMPTS_PER_VISIT} orders; going on", 1.0)
    await protect.secure(resources, connected, leg.position_id)
    return IntentStatus.DONE, Outcome.EXECUTED, f"reduced {leg.position_side} {leg.symbol} by {plain(so_far.filled)}"
