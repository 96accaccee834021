"""The inbox against PostgreSQL: keys, ends, and the order of a book's instructions."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from app.domain.signal import Action, Signal
from app.errors import Conflict
from app.ids import new_id
from app.store import inbox
from app.store.books import Book
from app.store.db import Pool, open_pool, transaction
from app.store.inbox import HASH_WINDOW_S, CauseKind, Instruction, InstructionStatus, NewAlert, NewInstruction, Stored
from tests.api import rows

D = Decimal
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
SIGNAL = Signal(symbol="BTCUSDT", action=Action.CLOSE)
HOLDER = new_id()
DONE, REFUSED = InstructionStatus.DONE, InstructionStatus.REFUSED


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size_max=20)
    yield pool
    pool.terminate()


@pytest.fixture
async def account(pool: Pool) -> UUID:
    """An account; strategies `demo` and `other` are there too."""
    await rows.strategy(pool, "demo")
    await rows.strategy(pool, "other")
    return await rows.account(pool, "paper")


async def more_accounts(pool: Pool, count: int) -> list[UUID]:
    return [await rows.account(pool, f"paper {number}") for number in range(count)]


def alert(key: str = "id:1", body: str = "one", *, windowed: bool = False, strategy: str = "demo") -> NewAlert:
    return NewAlert(
        id=new_id(),
        strategy_id=strategy,
        key=key,
        windowed=windowed,
        body_hash=body.encode(),
        body=body,
        content_type="application/json",
        source="10.0.0.1",
        format="native",
        signals=(SIGNAL,),
        received_at=NOW,
    )


async def store(pool: Pool, new: NewAlert, *account_ids: UUID) -> Stored:
    [stored] = await together(pool, [new], *account_ids)
    return stored


async def together(pool: Pool, news: Sequence[NewAlert], *account_ids: UUID) -> list[Stored]:
    return await inbox.store_all(pool, [(new, [instructed(one) for one in account_ids]) for new in news])


def instructed(account_id: UUID, multiplier: str = "1", leg: int = 0) -> NewInstruction:
    return NewInstruction(id=new_id(), account_id=account_id, multiplier=D(multiplier), leg=leg)


async def later(pool: Pool, seconds: float) -> None:
    """Let every key have been claimed that long ago."""
    await pool.execute("UPDATE alert_keys SET claimed_at = claimed_at - make_interval(secs => $1)", seconds)


async def counts(pool: Pool) -> tuple[int, int, int]:
    """(alerts, instructions, keys)"""
    tables = ("alerts", "instructions", "alert_keys")
    alerts, instructions, keys = [await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    return alerts, instructions, keys


async def instructions_of(pool: Pool, alert_id: UUID) -> list[UUID]:
    found = await pool.fetch("SELECT id FROM instructions WHERE cause_id = $1 ORDER BY seq", alert_id)
    return [row["id"] for row in found]


async def state(pool: Pool, alert_id: UUID) -> dict[str, Any]:
    return dict(await pool.fetchrow("SELECT * FROM alerts WHERE id = $1", alert_id))


async def claimed(pool: Pool, account: UUID, symbol: str = "BTCUSDT", holder: UUID = HOLDER) -> Book:
    """The book in this holder's hands."""
    token = await pool.fetchval(
        "INSERT INTO books AS b (account_id, symbol, holder, token) VALUES ($1, $2, $3, 1) ON CONFLICT "
        "(account_id, symbol) DO UPDATE SET token = b.token + (b.holder <> $3)::int, holder = $3 RETURNING token",
        account, symbol, holder,
    )  # fmt: skip
    return Book(account_id=account, symbol=symbol, holder=holder, token=token)


async def finish(
    pool: Pool,
    instruction_id: UUID,
    status: InstructionStatus = DONE,
    code: str = "executed",
    reason: str = "closed",
    marks: dict[str, datetime] | None = None,
) -> None:
    row = await pool.fetchrow("SELECT account_id, symbol FROM instructions WHERE id = $1", instruction_id)
    book = await claimed(pool, row["account_id"], row["symbol"])
    async with transaction(pool) as connection:
        await inbox.finish(connection, book, instruction_id, status, code, reason, marks)


# ---------------------------------------------------------------------------------------------------------------- keys


async def begin(pool: Pool, account: UUID, symbol: str = "BTCUSDT") -> Instruction | None:
    row = await inbox.begin_next(pool, await claimed(pool, account, symbol))
    return None if row is None else inbox.readable(row)


async def test_an_alert_is_stored_with_one_instruction_for_each_account(pool: Pool, account: UUID) -> None:
    other = await rows.account(pool, "other")
    new = alert()
    [stored] = await inbox.store_all(pool, [(new, [instructed(account), instructed(other, "2.5")])])
    assert stored == Stored(alert_id=new.id, duplicate=False, body_hash=new.body_hash)
    row = await state(pool, new.id)
    assert (row["status"], row["body"], row["received_at"]) == ("received", "one", NOW)
    assert list(row["marks"]) == ["received"]
    found = [await begin(pool, one) for one in (account, other)]
    assert [(x.cause_id, x.multiplier, x.request, x.status, x.received_at) for x in found if x] == [
        (new.id, D(1), SIGNAL, InstructionStatus.EXECUTING, NOW),
        (new.id, D("2.5"), SIGNAL, InstructionStatus.EXECUTING, NOW),
    ]


async def test_the_orders_of_an_alert_are_begun_in_their_sequence(pool: Pool, account: UUID) -> None:
    other = await rows.account(pool, "other")
    close, opening = Signal(symbol="BTCUSDT", action=Action.CLOSE), Signal(symbol="BTCUSDT", action=Action.OPEN_SHORT)
    elsewhere = Signal(symbol="ETHUSDT", action=Action.OPEN_LONG)
    new = msgspec.structs.replace(alert(), signals=(close, elsewhere, opening))
    # In whichever order they are handed over: the leg says it.
    made = [instructed(one, leg=leg) for leg in (2, 0, 1) for one in (account, other)]
    [stored] = await inbox.store_all(pool, [(new, made)])
    assert not stored.duplicate
    row = await pool.fetchrow("SELECT signal, more_signals FROM alerts WHERE id = $1", new.id)
    assert msgspec.convert([row["signal"], *row["more_signals"]], list[Signal], strict=False) == list(new.signals)

    async def carry_out(one: UUID, told: Signal, status: InstructionStatus, code: str) -> None:
        book = await claimed(pool, one, told.symbol)
        begun = inbox.readable(await inbox.begin_next(pool, book))
        assert begun.request == told
        async with transaction(pool) as connection:
            await inbox.finish(connection, book, begun.id, status, code, code)

    for one in (account, other):
        await carry_out(one, close, InstructionStatus.DONE, "executed")
        await carry_out(one, opening, InstructionStatus.DONE, "executed")
        assert (await state(pool, new.id))["status"] == "executing"
        await carry_out(one, elsewhere, InstructionStatus.REFUSED, "no_stop")
    ended = await state(pool, new.id)
    assert (ended["status"], ended["outcome_reason"]) == ("refused", "4 of 6 orders done; no_stop")


async def test_the_same_key_with_the_same_body_is_a_duplicate_of_the_first(pool: Pool, account: UUID) -> None:
    first = alert()
    await store(pool, first, account)
    assert await store(pool, alert(), account) == Stored(alert_id=first.id, duplicate=True, body_hash=b"one")
    assert await counts(pool) == (1, 1, 1)


async def test_the_same_key_with_another_body_reports_what_the_first_one_was(pool: Pool, account: UUID) -> None:
    first = alert(body="one")
    await store(pool, first, account)
    stored = await store(pool, alert(body="two"), account)
    assert stored == Stored(alert_id=first.id, duplicate=True, body_hash=b"one")
    assert await counts(pool) == (1, 1, 1)


async def test_a_key_belongs_to_its_strategy(pool: Pool, account: UUID) -> None:
    await store(pool, alert(strategy="demo"), account)
    assert not (await store(pool, alert(strategy="other"), account)).duplicate


async def test_a_key_made_of_the_body_is_free_again_after_its_window(pool: Pool, account: UUID) -> None:
    first, second, third = (alert("hash:x", windowed=True) for _ in range(3))
    await store(pool, first, account)
    await later(pool, HASH_WINDOW_S - 5)
    assert (await store(pool, second, account)).alert_id == first.id
    await later(pool, 6)  # a duplicate does not begin the window anew
    assert not (await store(pool, second, account)).duplicate
    # ... and the second one holds it from now on
    assert await store(pool, third, account) == Stored(alert_id=second.id, duplicate=True, body_hash=b"one")
    assert await counts(pool) == (2, 2, 1)


async def test_a_senders_own_key_is_never_free_again(pool: Pool, account: UUID) -> None:
    first = alert("id:1")
    await store(pool, first, account)
    await later(pool, 365 * 86_400)
    assert (await store(pool, alert("id:1"), account)).alert_id == first.id
    assert await counts(pool) == (1, 1, 1)


@pytest.mark.parametrize("windowed", [False, True])
async def test_of_twenty_at_once_one_is_stored(pool: Pool, account: UUID, windowed: bool) -> None:
    accounts = [account, *await more_accounts(pool, 2)]
    stored = await asyncio.gather(*(store(pool, alert("k", windowed=windowed), *accounts) for _ in range(20)))
    [winner] = [one for one in stored if not one.duplicate]
    assert {one.alert_id for one in stored} == {winner.alert_id}
    assert await counts(pool) == (1, 3, 1)


async def test_of_twenty_at_once_one_takes_a_key_whose_window_is_over(pool: Pool, account: UUID) -> None:
    old = alert("k", windowed=True)
    await store(pool, old, account)
    await later(pool, HASH_WINDOW_S + 1)
    stored = await asyncio.gather(*(store(pool, alert("k", windowed=True), account) for _ in range(20)))
    [winner] = [one for one in stored if not one.duplicate]
    assert {one.alert_id for one in stored} == {winner.alert_id}
    assert winner.alert_id != old.id
    assert await counts(pool) == (2, 2, 1)


async def test_an_alert_for_no_account_is_stored_as_refused(pool: Pool, account: UUID) -> None:
    new = alert()
    assert not (await store(pool, new)).duplicate
    row = await state(pool, new.id)
    assert (row["status"], row["outcome_code"]) == ("refused", "no_account")
    assert row["finished_at"] is not None


async def test_many_at_once_are_each_stored_once_and_in_their_order(pool: Pool, account: UUID) -> None:
    other = await rows.account(pool, "other")
    news = [alert(f"id:{9 - number}", strategy=("demo", "other")[number % 2]) for number in range(9)]
    stored = await together(pool, news, account, other)
    assert stored == [Stored(alert_id=one.id, duplicate=False, body_hash=one.body_hash) for one in news]
    found = await pool.fetch("SELECT id FROM alerts ORDER BY seq")
    assert [row["id"] for row in found] == [one.id for one in news]
    found = await pool.fetch("SELECT cause_id, account_id FROM instructions ORDER BY seq")
    assert [tuple(row) for row in found] == [(one.id, to) for one in news for to in (account, other)]


async def test_among_many_each_is_told_of_its_own_duplicate(pool: Pool, account: UUID) -> None:
    known = alert("id:1")
    await store(pool, known, account)
    new, resent, other_body = alert("id:2"), alert("id:1"), alert("hash:x", "x", strategy="other", windowed=True)
    stored = await together(pool, [resent, new, other_body], account)
    assert [one.duplicate for one in stored] == [True, False, False]
    assert [one.alert_id for one in stored] == [known.id, new.id, other_body.id]
    assert await counts(pool) == (3, 3, 3)


async def test_one_that_cannot_be_stored_takes_the_others_with_it(pool: Pool, account: UUID) -> None:
    """All or nothing: who stores many has to try them apart then."""
    with pytest.raises(asyncpg.PostgresError):
        await together(pool, [alert("id:1"), alert("id:2", strategy="nobody's")], account)
    assert await counts(pool) == (0, 0, 0)


async def test_an_attempt_whose_answer_was_lost_is_no_duplicate_of_itself(pool: Pool, account: UUID) -> None:
    new = alert()
    assert await store(pool, new, account) == await store(pool, new, account)
    assert not (await store(pool, new, account)).duplicate
    assert await counts(pool) == (1, 1, 1)


async def test_two_processes_with_the_same_keys_in_another_order_do_not_wait_for_each_other(
    pool: Pool, account: UUID
) -> None:
    keys = [f"id:{number}" for number in range(60)]
    both = await asyncio.gather(
        *(together(pool, [alert(key) for key in order], account) for order in (keys, keys[::-1]) * 4)
    )
    assert await counts(pool) == (60, 60, 60)
    told = [one for stored in both for one in stored]
    assert (sum(not one.duplicate for one in told), len(told)) == (60, 480)


async def test_a_strategy_that_is_held_does_not_hold_up_an_alert_for_ever(
    pool: Pool, account: UUID, database_url: str
) -> None:
    holding = await asyncpg.connect(database_url)
    try:
        await holding.execute("BEGIN; SELECT FROM strategies WHERE id = 'demo' FOR UPDATE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await store(pool, alert(), account)
        assert not (await store(pool, alert(strategy="other"), account)).duplicate
    finally:
        await holding.close()
    async with pool.acquire() as connection:
        assert await connection.fetchval("SHOW lock_timeout") == "0"


# ---------------------------------------------------------------------------------------------------------------- ends


async def test_an_alert_of_one_account_ends_as_its_instruction(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account)
    [only] = await instructions_of(pool, new.id)
    await begin(pool, account)
    assert (await state(pool, new.id))["status"] == "executing"
    await finish(pool, only, DONE, "executed", "closed long", {"sent": NOW})
    row = await state(pool, new.id)
    assert (row["status"], row["outcome_code"], row["outcome_reason"]) == ("done", "executed", "closed long")
    assert set(row["marks"]) == {"received", "sent", "finished"}
    assert row["finished_at"] is not None


async def test_an_alert_of_several_accounts_ends_with_the_last_of_them(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account, *await more_accounts(pool, 2))
    first, second, third = await instructions_of(pool, new.id)
    await begin(pool, account)
    for one in (second, first):
        await finish(pool, one)
        assert (await state(pool, new.id))["status"] == "executing"
    await finish(pool, third)
    assert (await state(pool, new.id))["outcome_reason"] == "3 of 3 accounts done; closed"


@pytest.mark.parametrize(
    ("ends", "status", "code", "reason"),
    [
        (["done executed", "refused no_stop"], "refused", "no_stop", "1 of 2 accounts done; no_stop"),
        (["refused no_stop", "done executed"], "refused", "no_stop", "1 of 2 accounts done; no_stop"),
        (["expired too_old", "refused no_stop"], "refused", "no_stop", "0 of 2 accounts done; no_stop"),
        (["done executed", "expired too_old"], "expired", "too_old", "1 of 2 accounts done; too_old"),
        (["superseded x", "expired too_old"], "expired", "too_old", "0 of 2 accounts done; too_old"),
        (["done executed", "superseded x"], "superseded", "x", "1 of 2 accounts done; x"),
        (
            ["refused no_stop", "needs_operator unresolved", "done executed"],
            "needs_operator",
            "unresolved",
            "1 of 3 accounts done; unresolved",
        ),
        (["done nothing_to_do", "done executed"], "done", "executed", "2 of 2 accounts done; executed"),
        (["done executed", "done nothing_to_do"], "done", "executed", "2 of 2 accounts done; executed"),
    ],
)
async def test_the_gravest_end_is_the_alerts(
    pool: Pool, account: UUID, ends: Sequence[str], status: str, code: str, reason: str
) -> None:
    new = alert()
    await store(pool, new, account, *await more_accounts(pool, len(ends) - 1))
    for one, end in zip(await instructions_of(pool, new.id), ends, strict=True):
        how, why = end.split()
        await finish(pool, one, InstructionStatus(how), why, why)
    row = await state(pool, new.id)
    assert (row["status"], row["outcome_code"], row["outcome_reason"]) == (status, code, reason)


async def test_every_end_has_its_place_among_the_gravest(pool: Pool, account: UUID) -> None:
    ends = set(InstructionStatus) - {InstructionStatus.PENDING, InstructionStatus.EXECUTING}
    for number, status in enumerate(sorted(ends)):
        new = alert(f"id:{number}")
        await store(pool, new, account)
        [only] = await instructions_of(pool, new.id)
        await finish(pool, only, status)
        assert (await state(pool, new.id))["status"] == status


async def test_accounts_that_finish_at_once_end_their_alert(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account, *await more_accounts(pool, 9))
    await asyncio.gather(*(finish(pool, one) for one in await instructions_of(pool, new.id)))
    row = await state(pool, new.id)
    assert (row["status"], row["outcome_reason"]) == ("done", "10 of 10 accounts done; closed")


async def test_an_instruction_ends_once(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account)
    [only] = await instructions_of(pool, new.id)
    await finish(pool, only, DONE, "executed", "first")
    before = await state(pool, new.id), await pool.fetchrow("SELECT * FROM instructions WHERE id = $1", only)
    with pytest.raises(Conflict):
        await finish(pool, only, REFUSED, "no_stop", "second")
    after = await state(pool, new.id), await pool.fetchrow("SELECT * FROM instructions WHERE id = $1", only)
    assert after == before


async def test_an_instruction_that_has_ended_is_not_started_again(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account)
    [only] = await instructions_of(pool, new.id)
    await finish(pool, only, DONE, "nothing_to_do", "nothing is held")
    assert await begin(pool, account) is None
    assert await inbox.next_id(pool, account, "BTCUSDT") is None
    assert await pool.fetchval("SELECT status FROM instructions WHERE id = $1", only) == "done"


async def test_what_was_foretold_stays_until_the_end(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account)
    [only] = await instructions_of(pool, new.id)
    await begin(pool, account)
    async with transaction(pool) as connection:
        await inbox.foretell(connection, only, "no_stop", "name one")
    found = await begin(pool, account)
    assert found is not None
    assert (found.outcome_code, found.outcome_reason, found.status) == ("no_stop", "name one", "executing")
    assert (await state(pool, new.id))["outcome_code"] is None


# --------------------------------------------------------------------------------------------------------------- order


async def test_a_book_is_worked_in_the_order_in_which_alerts_came(pool: Pool, account: UUID) -> None:
    came = [alert(f"id:{number}") for number in range(4)]
    for new in came:
        await store(pool, new, account)
    seen = []
    while (found := await begin(pool, account)) is not None:
        seen.append(found.cause_id)
        await finish(pool, found.id)
    assert seen == [new.id for new in came]
    assert await begin(pool, account, "ETHUSDT") is None


async def test_one_that_was_begun_stays_the_first(pool: Pool, account: UUID) -> None:
    for number in range(2):
        await store(pool, alert(f"id:{number}"), account)
    first = await begin(pool, account)
    assert first is not None
    assert (first.status, first.attempts) == ("executing", 1)
    again = await begin(pool, account)
    assert again == msgspec.structs.replace(first, attempts=2)


async def test_what_is_put_off_holds_its_book_until_it_is_due(pool: Pool, account: UUID) -> None:
    other = await rows.account(pool, "other")
    await store(pool, alert("id:1"), account)
    await store(pool, alert("id:2"), account, other)
    first = await begin(pool, account)
    assert first is not None
    await inbox.postpone(pool, await claimed(pool, account), first.id, seconds=3600, why="the exchange is away")
    assert await inbox.next_id(pool, account, "BTCUSDT") is None, "the second must not overtake it"
    assert await inbox.next_id(pool, other, "BTCUSDT") is not None
    row = await pool.fetchrow("SELECT status, waits_for FROM instructions WHERE id = $1", first.id)
    assert (row["status"], row["waits_for"]) == ("executing", "the exchange is away")
    await pool.execute("UPDATE instructions SET retry_at = clock_timestamp() WHERE id = $1", first.id)
    assert await inbox.next_id(pool, account, "BTCUSDT") == first.id
    await finish(pool, first.id)
    assert await pool.fetchval("SELECT waits_for FROM instructions WHERE id = $1", first.id) is None


async def test_an_instruction_that_has_ended_is_not_put_off(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account)
    [only] = await instructions_of(pool, new.id)
    await finish(pool, only)
    await inbox.postpone(pool, await claimed(pool, account), only, seconds=0, why="late")
    assert await inbox.waiting_books(pool, limit=10) == []


async def test_the_sweep_sees_the_longest_waiting_books_first(pool: Pool, account: UUID) -> None:
    second, third = await more_accounts(pool, 2)
    for number, one in enumerate([second, account, third, second]):
        await store(pool, alert(f"id:{number}"), one)
    assert await inbox.waiting_books(pool, limit=2) == [(second, "BTCUSDT"), (account, "BTCUSDT")]
    assert len(await inbox.waiting_books(pool, limit=10)) == 3


async def test_one_cause_instructs_once(pool: Pool, account: UUID) -> None:
    position_id = await rows.position(pool, account, "demo")
    for _ in range(2):
        await inbox.instruct(
            pool,
            id=new_id(),
            cause_kind=CauseKind.LEVEL,
            cause_id=position_id,
            account_id=account,
            strategy_id="demo",
            request=SIGNAL,
            position_id=position_id,
        )
    assert await pool.fetchval("SELECT count(*) FROM instructions") == 1


# ------------------------------------------------------------------------------------------------------------- claims


async def test_whose_claim_was_lost_writes_nothing_about_an_instruction(pool: Pool, account: UUID) -> None:
    new = alert()
    await store(pool, new, account)
    await store(pool, alert("id:2"), account)
    lost = await claimed(pool, account)
    first = await begin(pool, account)
    assert first is not None
    await claimed(pool, account, holder=new_id())
    before = await pool.fetch("SELECT * FROM instructions ORDER BY seq")
    assert await inbox.begin_next(pool, lost) is None
    await inbox.postpone(pool, lost, first.id, seconds=9, why="late")
    with pytest.raises(Conflict):
        await inbox.fail(pool, lost, first.id)
    with pytest.raises(Conflict):
        async with transaction(pool) as connection:
            await inbox.finish(connection, lost, first.id, DONE, "executed", "late")
    assert await pool.fetch("SELECT * FROM instructions ORDER BY seq") == before
    assert (await state(pool, new.id))["status"] == "executing"
