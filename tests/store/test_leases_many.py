"""Leases by the dozen: taken, renewed and freed in one statement, each with its own token."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from app.store import leases
from app.store.db import Pool, open_pool

A, B = UUID(int=0xA), UUID(int=0xB)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size_max=4)
    yield pool
    pool.terminate()


async def test_only_what_is_free_is_taken(pool: Pool) -> None:
    assert await leases.acquire_all(pool, ["one", "two"], A, ttl_s=600) == {"one": 1, "two": 1}
    assert await leases.acquire_all(pool, ["three", "two", "one"], B, ttl_s=600) == {"three": 1}
    assert await leases.acquire_all(pool, ["one"], A, ttl_s=600) == {"one": 2}, "our own, with a greater token"
    assert await leases.acquire_all(pool, [], A, ttl_s=600) == {}


async def test_only_what_is_still_ours_is_renewed(pool: Pool) -> None:
    tokens = await leases.acquire_all(pool, ["one", "two", "three"], A, ttl_s=600)
    await pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = 'two'")
    await pool.execute("UPDATE leases SET token = token + 1 WHERE name = 'three'")
    assert await leases.renew_all(pool, tokens, A, ttl_s=600) == {"one"}
    assert await leases.renew_all(pool, tokens, B, ttl_s=600) == set()
    assert await leases.renew_all(pool, {}, A, ttl_s=600) == set()


async def test_what_was_freed_is_there_for_the_next_one_with_a_greater_token(pool: Pool) -> None:
    tokens = await leases.acquire_all(pool, ["one", "two"], A, ttl_s=600)
    await leases.release_all(pool, {**tokens, "two": 77}, A)
    assert await leases.acquire_all(pool, ["one", "two"], B, ttl_s=600) == {"one": 2}
