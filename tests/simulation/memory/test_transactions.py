"""What a transaction in memory leaves when it ends, fails, is lost or abandoned: all of it, or exactly nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import StoreUnavailable
from app.store import books, inbox, leases, orders, positions, rejected
from app.store.db import transaction
from tests.simulation.memory.both import START, Call, call
from tests.simulation.memory.calls import (
    ACCOUNTS,
    ANY_CALL,
    SYMBOLS,
    WORKERS,
    WORLD,
    book,
    id_of,
    intent,
    position,
    turned_away,
)
from tests.simulation.memory.pool import MemoryPool
from tests.simulation.memory.schema import Row
from tests.simulation.memory.server import WaitsForItself
from tests.simulation.memory.statements import UnknownStatement
from tests.simulation.memory.tables import Index, Tables, Unique


class Fault(Exception):
    """What makes a transaction fail here."""


async def make(hook: Callable[[str], Awaitable[None]] | None = None) -> MemoryPool:
    """A pool after WORLD; the hook is not asked about what was done before."""
    pool = MemoryPool(Tables(), lambda: START)
    for asked in WORLD:
        await do(pool, asked)
    pool.hook = hook
    return pool


async def do(connection: Any, asked: Call) -> None:
    await asked.function(connection, *asked.args, **asked.named)


async def in_transaction(pool: MemoryPool, *calls: Call) -> None:
    async with transaction(pool) as connection:
        for asked in calls:
            await do(connection, asked)


def contents(tables: Tables) -> dict[str, list[Row]]:
    return {name: [dict(row) for row in table.rows] for name, table in tables.by_name.items()}


def assert_indexes_agree(tables: Tables) -> None:
    """Each index holds what one made anew from the rows would hold."""
    for table in tables.by_name.values():
        for index in table.indexes:
            expected: dict[Any, set[int]] = {}
            for slot in table.slots:
                if index.where is None or index.where(slot.row):
                    expected.setdefault(index.key(slot.row), set()).add(id(slot))
            held = {key: {id(slot) for slot in _slots(index, key)} for key in index.entries}
            assert held == expected, f"an index of {table.name} over {sorted(index.columns)}"


def _slots(index: Unique | Index, key: Any) -> list[Any]:
    return [index.entries[key]] if isinstance(index, Unique) else index.slots(key)


@given(steps=st.lists(ANY_CALL, min_size=5, max_size=30), kept=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
async def test_a_rollback_is_exact(steps: Sequence[Call], kept: int) -> None:
    pool = await make()
    for asked in steps[:kept]:
        await attempt(pool, asked)
    before = contents(pool.tables)

    async def fail() -> None:
        async with transaction(pool) as connection:
            for asked in steps:
                await attempt(connection, asked)
            assert_indexes_agree(pool.tables)
            raise Fault

    with pytest.raises(Fault):
        await fail()
    assert contents(pool.tables) == before
    assert_indexes_agree(pool.tables)
    assert pool.server.holder is None


async def test_a_deleted_row_is_found_again_after_a_rollback() -> None:
    pool = await make()
    for number in range(rejected.KEPT_MAX):
        await rejected.keep(pool, turned_away(number))
    before = contents(pool.tables)

    async def fail() -> None:
        async with transaction(pool) as connection:
            await rejected.keep(connection, turned_away(rejected.KEPT_MAX))  # the oldest leaves
            raise Fault

    with pytest.raises(Fault):
        await fail()
    assert contents(pool.tables) == before
    assert_indexes_agree(pool.tables)


async def attempt(connection: Any, asked: Call) -> None:
    """A call in a savepoint, or in a transaction of its own; it may be refused."""
    try:
        if isinstance(connection, MemoryPool):
            async with transaction(connection) as own:
                await do(own, asked)
        else:
            async with connection.transaction():
                await do(connection, asked)
    except asyncpg.InFailedSQLTransactionError:
        raise
    except Exception:
        pass


async def test_after_a_refused_statement_a_transaction_only_rolls_back() -> None:
    pool = await make()
    before = contents(pool.tables)
    async with transaction(pool) as connection:
        await positions.set_status(connection, id_of("position", 0), "closing")
        with pytest.raises(asyncpg.UniqueViolationError):
            await positions.insert(connection, position(1, 1))
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await positions.get(connection, id_of("position", 0))
    assert contents(pool.tables) == before


async def set_stop_and_insert(connection: Any) -> None:
    """The second is refused."""
    await positions.set_native_stop(connection, id_of("position", 0), None)
    await positions.insert(connection, position(1, 1))


async def test_a_savepoint_saves_what_was_before_it() -> None:
    pool = await make()
    async with transaction(pool) as connection:
        await positions.set_status(connection, id_of("position", 0), "closing")
        await attempt(connection, call(set_stop_and_insert))
        assert (await positions.get(connection, id_of("position", 0))) is not None
    held = pool.tables.positions.row(id_of("position", 0))
    assert held is not None
    assert (held["status"], held["native_stop"]) == ("closing", position(0, 1).native_stop)


@pytest.mark.parametrize(("step", "written"), [("books.NEXT_EPOCH", False), ("commit", False), ("committed", True)])
async def test_a_connection_lost_at(step: str, written: bool) -> None:
    async def lose(at: str) -> None:
        if at == step:
            raise asyncpg.PostgresConnectionError("lost")

    pool = await make(lose)
    before = contents(pool.tables)
    with pytest.raises(StoreUnavailable):
        await in_transaction(
            pool,
            call(positions.set_status, id_of("position", 0), "closing"),
            call(books.next_epoch, ACCOUNTS[0], SYMBOLS[0]),
        )
    assert (contents(pool.tables) != before) is written
    assert pool.server.holder is None


@pytest.mark.parametrize(("step", "written"), [("books.NEXT_EPOCH", False), ("committed", True)])
async def test_a_single_statement_lost_at(step: str, written: bool) -> None:
    async def lose(at: str) -> None:
        if at == step:
            raise asyncpg.PostgresConnectionError("lost")

    pool = await make(lose)
    before = contents(pool.tables)
    with pytest.raises(asyncpg.PostgresConnectionError):
        await books.next_epoch(pool, ACCOUNTS[0], SYMBOLS[0])
    assert (contents(pool.tables) != before) is written


async def test_a_killed_process_leaves_nothing_behind_and_stands_in_nobodys_way() -> None:
    reached = asyncio.Event()

    async def die(step: str) -> None:
        if step == "commit":
            reached.set()
            await asyncio.Event().wait()

    pool = await make(die)
    before = contents(pool.tables)
    other = MemoryPool(pool.tables, lambda: START)

    async def close() -> None:
        async with transaction(pool) as connection:
            await positions.set_status(connection, id_of("position", 0), "closing")

    killed = asyncio.create_task(close())
    await reached.wait()
    waiting = asyncio.create_task(books.next_epoch(other, ACCOUNTS[0], SYMBOLS[0]))
    await asyncio.sleep(0)
    assert not waiting.done()
    pool.abandon()
    assert contents(pool.tables) == before
    assert await waiting == 2
    with pytest.raises(asyncpg.PostgresConnectionError):
        await books.next_epoch(pool, ACCOUNTS[0], SYMBOLS[0])
    killed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed
    assert pool.tables.positions.rows == before["positions"]


async def test_a_killed_process_that_waited_does_not_get_its_turn() -> None:
    pool = await make()
    killed, after = MemoryPool(pool.tables, lambda: START), MemoryPool(pool.tables, lambda: START)
    async with transaction(pool) as connection:
        await books.lock(connection, ACCOUNTS[0], SYMBOLS[0])
        first = asyncio.create_task(books.next_epoch(killed, ACCOUNTS[0], SYMBOLS[0]))
        await asyncio.sleep(0)
        second = asyncio.create_task(books.next_epoch(after, ACCOUNTS[0], SYMBOLS[0]))
        await asyncio.sleep(0)
        killed.abandon()
    assert await second == 2
    assert not first.done()
    first.cancel()


async def test_turns_are_taken_in_the_order_of_asking() -> None:
    pool = await make()
    order: list[int] = []

    async def wait_for_turn(number: int) -> None:
        async with transaction(pool) as connection:
            await books.lock(connection, ACCOUNTS[0], SYMBOLS[0])
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(wait_for_turn(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_a_task_that_would_wait_for_itself_is_told() -> None:
    pool = await make()
    async with transaction(pool) as connection:
        await books.lock(connection, ACCOUNTS[0], SYMBOLS[0])
        with pytest.raises(WaitsForItself):
            await books.lock(pool, ACCOUNTS[0], SYMBOLS[0])


async def test_a_crash_of_the_server_may_undo_what_nobody_waited_for() -> None:
    pool = await make()
    await leases.acquire(pool, "watcher:00", WORKERS[0], ttl_s=99)
    before = contents(pool.tables)
    await inbox.take(pool, ACCOUNTS[0], SYMBOLS[0], WORKERS[0])
    await inbox.begin_next(pool, book(0, SYMBOLS[0], 0, 2))
    pool.tables.server.crash(late_lost=99)
    assert contents(pool.tables) == before
    await inbox.take(pool, ACCOUNTS[0], SYMBOLS[0], WORKERS[0])
    await books.next_epoch(pool, ACCOUNTS[0], SYMBOLS[0])  # waits for the disk, and so for all before it
    before = contents(pool.tables)
    pool.tables.server.crash(late_lost=99)
    assert contents(pool.tables) == before


@pytest.mark.parametrize("begun", [False, True])
async def test_a_crash_of_the_server_ends_open_transactions(begun: bool) -> None:
    pool = await make()
    before = contents(pool.tables)

    async def crash(connection: Any) -> None:
        pool.tables.server.crash()

    with pytest.raises(StoreUnavailable):
        await in_transaction(
            pool,
            *([call(orders.insert_intents, [intent(9, 9, orders.IntentKind.OPEN)])] if begun else []),
            call(crash),
            call(books.next_epoch, ACCOUNTS[0], SYMBOLS[0]),
        )
    assert contents(pool.tables) == before
    assert_indexes_agree(pool.tables)


async def test_an_unknown_statement_is_named() -> None:
    pool = await make()
    with pytest.raises(UnknownStatement, match="SELECT 42 FROM nowhere"):
        await pool.fetchval("SELECT 42\n  FROM nowhere")
