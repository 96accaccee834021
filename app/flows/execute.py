"""Carry out what a book is asked to do: load -> decide -> write -> send -> record, one instruction at a time.

A book is claimed first, so alerts of one book run in the order in which they were received and different books run in
parallel. Whatever stops half-way (a crash, a venue that does not answer) is resumed from what the tables say.
"""

import asyncio
import logging
import time
from uuid import UUID

import msgspec

from app import crash
from app.domain.decide import too_old
from app.domain.plan import Plan
from app.domain.refusals import Outcome, Refusal
from app.domain.signal import Action
from app.errors import Conflict, OutcomeUnknown, Refused, StoreUnavailable, Transient
from app.flows import change_exits, legs, plan
from app.flows.legs import GATE_PAUSE_S, Marks, NotYet
from app.log import event
from app.resources import Resources
from app.store import books, inbox, levels, orders, positions, strategies
from app.store.books import Book
from app.store.db import UNAVAILABLE, store_errors, transaction
from app.store.inbox import CauseKind, Instruction, InstructionStatus
from app.store.orders import IntentCause, IntentStatus

log = logging.getLogger("execute")

VISIT_S = 30.0
POISON_FAILURES = 5  # a bug that strikes this often is set aside, so that the book goes on; never a stop's close


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


async def execute_alert(resources: Resources, worker: Worker, symbol: str, account_ids: list[UUID]) -> None:
    """Work on every book that an alert is for, side by side."""
    await asyncio.gather(*(execute_book(resources, worker, account_id, symbol) for account_id in account_ids))


async def execute_book(resources: Resources, worker: Worker, account_id: UUID, symbol: str) -> None:
    """Carry out what waits in a book, oldest first. Returns at once when another task is at it: it will see ours.

    A book with a long queue is left after a while, and rung for: a job must end before arq takes it for stuck.
    """
    key, leave_at = (account_id, symbol), time.monotonic() + VISIT_S
    while key not in worker.busy and not worker.stopping:
        worker.begin(key)
        try:
            claimed = await _work(resources, worker, account_id, symbol, leave_at)
        finally:
            worker.end(key)
        # What came between the last look and the release found the book claimed and left it to us.
        with store_errors():
            if not claimed or await inbox.next_id(resources.pool, account_id, symbol) is None:
                return
        if time.monotonic() > leave_at:
            resources.bell.book(account_id, symbol, "goes on")
            return


async def _work(resources: Resources, worker: Worker, account_id: UUID, symbol: str, leave_at: float) -> bool:
    """Claim the book and empty it until `leave_at`; False when another worker has it."""
    pool = resources.pool
    with store_errors():
        book, row = await inbox.take(pool, account_id, symbol, worker.id)
    if book is None:
        return False
    try:
        while row is not None:
            try:
                await _attempt(resources, book, inbox.readable(row))
            except msgspec.ValidationError as error:
                await _set_aside_unreadable(resources, book, row["id"], error)
            if worker.stopping or time.monotonic() > leave_at:
                break
            with store_errors():
                row = await inbox.begin_next(pool, book)
        return True
    finally:
        with store_errors():
            await books.release(pool, book)


async def _set_aside_unreadable(
    resources: Resources, book: Book, instruction_id: UUID, error: msgspec.ValidationError
) -> None:
    """Another version wrote what this one does not understand: that is refused, not guessed."""
    reason = f"this version cannot read it ({error}); look at the position yourself"
    async with transaction(resources.pool) as connection:
        await inbox.finish(connection, book, instruction_id, InstructionStatus.NEEDS_OPERATOR, Outcome.GAVE_UP, reason)
    event(log, logging.ERROR, "instruction set aside", symbol=book.symbol, id=instruction_id, why=reason)


async def _attempt(resources: Resources, book: Book, instruction: Instruction) -> None:
    """One attempt at an instruction. Ends it, or postpones it with a reason; only losing the book raises."""
    pool = resources.pool
    marks: Marks = {"picked": resources.now()}
    try:
        status, code, reason = await _carry_out(resources, book, instruction, marks)
    except NotYet as wait:
        await inbox.postpone(pool, book, instruction.id, seconds=wait.seconds, why=str(wait))
        event(log, logging.WARNING, "postponed", symbol=book.symbol, why=str(wait), cause=instruction.cause_id)
        return
    except (Refused, Transient, OutcomeUnknown) as error:
        # A request that is not an order failed. A close waits as long as it takes: what refuses today (a key, an
        # address) is mended tomorrow. So does whatever has begun. An opening that has not ends here, or by its age.
        begun = bool(await orders.intents_of(pool, IntentCause.INSTRUCTION, instruction.id))
        ends = None if begun or instruction.request.only_closes else await _ends(resources, instruction, error)
        if ends is None:
            seconds = min(5.0, 0.5 * 2 ** min(instruction.attempts, 4))
            if isinstance(error, Transient) and error.retry_after_s is not None:
                seconds = min(error.retry_after_s, GATE_PAUSE_S)
            await inbox.postpone(pool, book, instruction.id, seconds=seconds, why=str(error))
            event(log, logging.WARNING, "put off", symbol=book.symbol, why=str(error), cause=instruction.cause_id)
            return
        status, code, reason = ends
    except Conflict as error:
        await inbox.postpone(pool, book, instruction.id, seconds=0.2, why=str(error))
        return
    except msgspec.ValidationError as error:
        reason = f"another version wrote what this one cannot read ({error})"
        if instruction.request.only_closes:
            await inbox.postpone(pool, book, instruction.id, seconds=5.0, why=reason)
            event(log, logging.ERROR, "put off", symbol=book.symbol, why=reason, cause=instruction.cause_id)
            return
        status, code = InstructionStatus.NEEDS_OPERATOR, Outcome.GAVE_UP
        reason += "; look at the position yourself"
    except Exception as error:
        if isinstance(error, (StoreUnavailable, *UNAVAILABLE)):
            raise  # nothing can be recorded now; the sweep comes back to it
        log.exception("instruction failed")
        failures = await inbox.fail(pool, book, instruction.id)
        if failures < POISON_FAILURES or instruction.cause_kind in (CauseKind.LEVEL, CauseKind.PROTECTION):
            await inbox.postpone(pool, book, instruction.id, seconds=min(failures, 5), why=repr(error))
            return
        status, code = InstructionStatus.NEEDS_OPERATOR, Outcome.GAVE_UP
        reason = f"failed {failures} times ({type(error).__name__}); look at the log, and at the position"
    crash.point("execute.before_finish", instruction.symbol)
    async with transaction(pool) as connection:
        await inbox.finish(connection, book, instruction.id, status, code, reason, marks)
        if instruction.cause_kind is CauseKind.LEVEL and status is InstructionStatus.DONE:
            await levels.done(connection, instruction.cause_id)
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
    expired = too_old(instruction.request, instruction.received_at, resources.now())
    if expired is not None:
        return InstructionStatus.EXPIRED, expired.code, f"{expired.reason}; the exchange did not answer: {error}"
    if await legs.holds_up_a_close(resources, instruction):
        return InstructionStatus.REFUSED, Outcome.VENUE_UNAVAILABLE, f"{error}; and a close waits behind it"
    return None


async def _carry_out(
    resources: Resources, book: Book, instruction: Instruction, marks: Marks
) -> tuple[InstructionStatus, str, str]:
    """Decide if that was not done yet, then execute the legs; answers how the instruction ended."""
    crash.point("execute.begun", instruction.symbol)
    connected = await resources.venues.of(instruction.account_id)
    if instruction.request.action is Action.SET_EXITS:
        changed = await change_exits.carry_out(resources, connected, instruction)
        if isinstance(changed, Refusal):
            return _refusal_status(changed.code), changed.code, changed.reason
        done_code = Outcome.NOTHING_TO_DO if changed == change_exits.NOTHING_HELD else Outcome.EXITS_CHANGED
        return InstructionStatus.DONE, done_code, changed
    found, order, looking = [], None, None
    if instruction.attempts > 1:
        with store_errors():
            found = await orders.intents_of(resources.pool, IntentCause.INSTRUCTION, instruction.id)
    refused = (instruction.outcome_code, instruction.outcome_reason)
    if not found:
        looking = plan.look(resources, connected, instruction)
        decided = await plan.make(resources, connected, instruction)
        marks["decided"] = resources.now()
        if decided.missed:
            await _tell_of_a_miss(resources, instruction, decided)
        if not decided.legs:
            if decided.refusal is None:
                return InstructionStatus.DONE, Outcome.NOTHING_TO_DO, decided.reason
            return _refusal_status(decided.refusal.code), decided.refusal.code, decided.refusal.reason
        found, order = await plan.write(resources, connected, book, instruction, decided)
        crash.point("execute.planned", instruction.symbol)
        refused = (decided.refusal.code, decided.refusal.reason) if decided.refusal else (None, None)
    done: list[str] = []
    for leg in found:
        if leg.status is IntentStatus.PLANNED:
            if done and leg.opens:
                crash.point("reverse.between", leg.symbol)
            leg = await legs.execute(resources, connected, book, instruction, leg, order, looking, marks)
            order = looking = None
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
        return _refusal_status(code), code, "; ".join([*done, f"not opened: {why}"])
    return InstructionStatus.DONE, Outcome.EXECUTED, "; ".join(done)


async def _tell_of_a_miss(resources: Resources, instruction: Instruction, decided: Plan) -> None:
    """People are told; a strategy that wants it opens nothing more until one of them has looked."""
    async with transaction(resources.pool) as connection:
        await positions.record(
            connection, "missed_alert", alert_id=instruction.cause_id, account_id=instruction.account_id,
            position_id=decided.held[0] if decided.held else None, detail={"why": decided.missed},
        )  # fmt: skip
        if decided.halts:
            await strategies.disable(connection, instruction.strategy_id)
    event(
        log, logging.WARNING, "an alert was missed", symbol=instruction.symbol, strategy=instruction.strategy_id,
        why=decided.missed, disabled=decided.halts or None, id=instruction.cause_id,
    )  # fmt: skip


def _refusal_status(code: str) -> InstructionStatus:
    """How an instruction ends of which something was refused: what is only too old has expired."""
    return _STATUS_OF.get(code, InstructionStatus.REFUSED)


_STATUS_OF: dict[str, InstructionStatus] = {
    Outcome.TOO_OLD: InstructionStatus.EXPIRED,
    Outcome.SUPERSEDED: InstructionStatus.SUPERSEDED,
}
