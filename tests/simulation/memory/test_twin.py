"""The store in memory is no other than PostgreSQL: the same calls get the same answers and leave the same rows."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.domain.signal import Target
from app.store import books, leases, positions
from tests.simulation.memory.both import START, Both, Call, open_real
from tests.simulation.memory.calls import ACCOUNTS, ALL_CALLS, LIFE, SYMBOLS, WORKERS, WORLD, alert, shares, store
from tests.simulation.memory.statements import STATEMENTS


@pytest.fixture(scope="module")
async def real(module_database_url: str) -> AsyncIterator[Any]:
    """A connection with virtual time to a database in which WORLD was done."""
    connection = await open_real(module_database_url)
    both = Both(connection)
    await both.set_clock(START)
    for asked in WORLD:
        await both.do(asked)
    await both.compare_rows()
    yield connection
    await connection.close()


@asynccontextmanager
async def world(real: Any) -> AsyncIterator[Both]:
    """Both after WORLD; what is done to PostgreSQL is rolled back in the end."""
    transaction = real.transaction()
    await transaction.start()
    try:
        both = Both(real)
        for asked in WORLD:
            await both.do_here(asked)
        await both.set_clock(START)
        await both.align_identities()
        yield both
    finally:
        await transaction.rollback()


async def test_a_life_that_reaches_every_statement(real: Any) -> None:
    async with world(real) as both:
        for asked in LIFE:
            await both.advance(asked if isinstance(asked, float) else 0.1)
            if isinstance(asked, Call):
                await both.do(asked)
        await both.compare_rows()
        assert {found.name for found in STATEMENTS.values()} <= set(both.done)


async def test_time_stands_still_in_a_transaction_but_for_its_clock(real: Any) -> None:
    async with world(real) as both, both.pool.acquire() as here:
        for connection in (real, here):
            await both.set_clock(START)
            async with connection.transaction():
                await both.advance_inside(7)
                await books.lock(connection, ACCOUNTS[1], SYMBOLS[0])
                await positions.record(connection, "noted", detail={})
                await leases.acquire(connection, "reconciler", WORKERS[0], ttl_s=1)
                await store(connection, alert(5, Target.FLAT), shares(5, 1))
        assert both.tables.events.rows[0]["at"] == START
        await both.compare_rows()


@given(calls=ALL_CALLS, pauses_s=st.lists(st.sampled_from([0, 0.001, 1, 31, 301]), min_size=1, max_size=7))
@settings(  # the same calls at each run: what fails here has to fail again
    max_examples=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    derandomize=True,
)
async def test_any_calls(real: Any, calls: Sequence[Call], pauses_s: Sequence[float]) -> None:
    async with world(real) as both:
        for asked, pause_s in zip(calls, itertools.cycle(pauses_s), strict=False):
            await both.do(asked)
            if pause_s:
                await both.advance(pause_s)
        await both.compare_rows()
