"""Bans as the database keeps them: the one that ends last counts, and its clock is the only one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.store import bans
from app.store.db import Pool, open_pool

SCOPE = "address:bybit https://exchange.example from here"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size_max=5)
    yield pool
    pool.terminate()


async def test_a_ban_is_read_with_what_remains_of_it(pool: Pool) -> None:
    await bans.tell(pool, SCOPE, 120, "HTTP 418")
    (found,) = await bans.live(pool)
    assert (found.scope, found.why) == (SCOPE, "HTTP 418")
    assert 60 < found.remaining_s <= 120


@pytest.mark.parametrize("durations", [(60, 120), (120, 60)])
async def test_the_ban_that_ends_last_counts(pool: Pool, durations: tuple[float, float]) -> None:
    for seconds in durations:
        await bans.tell(pool, SCOPE, seconds, f"for {seconds} s")
    (found,) = await bans.live(pool)
    assert found.why == "for 120 s"
    assert found.remaining_s > 60


async def test_it_counts_whoever_tells_first(pool: Pool) -> None:
    await asyncio.gather(*(bans.tell(pool, SCOPE, seconds, f"for {seconds} s") for seconds in (60, 300, 120, 30, 240)))
    (found,) = await bans.live(pool)
    assert found.why == "for 300 s"


async def test_scopes_are_banned_one_by_one(pool: Pool) -> None:
    await bans.tell(pool, SCOPE, 60, "a")
    await bans.tell(pool, "account:1", 600, "b")
    assert [ban.scope for ban in await bans.live(pool)] == ["account:1", SCOPE]


async def test_a_ban_that_is_over_is_not_live_and_can_be_followed_by_a_new_one(pool: Pool) -> None:
    await bans.tell(pool, SCOPE, 600, "first")
    await pool.execute("UPDATE bans SET until = clock_timestamp()")
    assert await bans.live(pool) == []
    await bans.tell(pool, SCOPE, 60, "second")
    assert [ban.why for ban in await bans.live(pool)] == ["second"]
