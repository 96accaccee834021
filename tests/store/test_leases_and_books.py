"""Who may act for something: leases by the database's clock, claims on books that a lease keeps alive."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from app.errors import Conflict
from app.ids import new_id
from app.store import books, inbox, leases
from app.store.books import Book
from app.store.db import Pool, open_pool, transaction
from tests.api import rows

A, B = UUID(int=0xA), UUID(int=0xB)
SYMBOL = "BTCUSDT"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size_max=12)
    yield pool
    pool.terminate()


@pytest.fixture
async def account(pool: Pool) -> UUID:
    return await rows.account(pool, "paper")


async def expire(pool: Pool, name: str) -> None:
    """The lease's time is over, by the database's clock."""
    await pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", name)


async def alive(pool: Pool, worker: UUID) -> None:
    assert await leases.acquire(pool, f"worker:{worker}", worker, ttl_s=600) is not None


async def claimed(pool: Pool, account: UUID, worker: UUID) -> Book:
    book = (await inbox.take(pool, account, SYMBOL, worker))[0]
    assert book is not None
    return book


async def holds(pool: Pool, book: Book) -> bool:
    async with transaction(pool) as connection:
        try:
            await books.fence(connection, book)
        except Conflict:
            return False
    return True


# -------------------------------------------------------------------------------------------------------------- leases


async def test_a_lease_has_one_holder(pool: Pool) -> None:
    assert await leases.acquire(pool, "watcher", A, ttl_s=600) == 1
    assert await leases.acquire(pool, "watcher", B, ttl_s=600) is None
    assert await leases.acquire(pool, "another", B, ttl_s=600) == 1


async def test_of_many_at_once_one_gets_the_lease(pool: Pool) -> None:
    holders = [new_id() for _ in range(12)]
    tokens = await asyncio.gather(*(leases.acquire(pool, "watcher", one, ttl_s=600) for one in holders))
    assert sorted(tokens, key=lambda x: x is None) == [1] + [None] * 11


async def test_a_lease_lasts_as_long_as_it_was_asked_for_by_the_databases_clock(pool: Pool) -> None:
    async with transaction(pool) as connection:
        before = await connection.fetchval("SELECT clock_timestamp()")
        await leases.acquire(connection, "watcher", A, ttl_s=600)
        after = await connection.fetchval("SELECT clock_timestamp()")
        ends = await leases.expires_at(connection, "watcher")
    assert ends is not None
    assert before + timedelta(seconds=600) <= ends <= after + timedelta(seconds=600)


async def test_a_lease_that_ran_out_goes_to_the_next_with_a_greater_token(pool: Pool) -> None:
    first = await leases.acquire(pool, "watcher", A, ttl_s=600)
    await expire(pool, "watcher")
    second = await leases.acquire(pool, "watcher", B, ttl_s=600)
    assert first is not None
    assert second is not None
    assert second > first
    assert not await leases.renew(pool, "watcher", A, first, ttl_s=600)
    assert await leases.renew(pool, "watcher", B, second, ttl_s=600)


async def test_renewing_makes_it_last_and_keeps_the_token(pool: Pool) -> None:
    token = await leases.acquire(pool, "watcher", A, ttl_s=10)
    assert token is not None
    before = await leases.expires_at(pool, "watcher")
    assert await leases.renew(pool, "watcher", A, token, ttl_s=600)
    after = await leases.expires_at(pool, "watcher")
    assert before is not None
    assert after is not None
    assert after > before
    assert await leases.renew(pool, "watcher", A, token, ttl_s=600)


async def test_a_lease_that_ran_out_is_not_renewed_even_if_nobody_took_it(pool: Pool) -> None:
    token = await leases.acquire(pool, "watcher", A, ttl_s=600)
    assert token is not None
    await expire(pool, "watcher")
    assert not await leases.renew(pool, "watcher", A, token, ttl_s=600)


async def test_its_holder_may_take_it_again_and_the_old_token_ends(pool: Pool) -> None:
    first = await leases.acquire(pool, "watcher", A, ttl_s=600)
    second = await leases.acquire(pool, "watcher", A, ttl_s=600)
    assert (first, second) == (1, 2)
    assert not await leases.renew(pool, "watcher", A, 1, ttl_s=600)


async def test_a_released_lease_is_free_at_once(pool: Pool) -> None:
    token = await leases.acquire(pool, "watcher", A, ttl_s=600)
    assert token is not None
    await leases.release(pool, "watcher", B, token)  # not its own: nothing happens
    assert await leases.acquire(pool, "watcher", B, ttl_s=600) is None
    await leases.release(pool, "watcher", A, token)
    assert await leases.acquire(pool, "watcher", B, ttl_s=600) is not None


async def test_tokens_go_on_growing_after_a_release(pool: Pool) -> None:
    first = await leases.acquire(pool, "watcher", A, ttl_s=600)
    assert first is not None
    await leases.release(pool, "watcher", A, first)
    second = await leases.acquire(pool, "watcher", B, ttl_s=600)
    assert second is not None
    assert second > first


async def test_a_lease_that_never_was_ends_never(pool: Pool) -> None:
    assert await leases.expires_at(pool, "watcher") is None


# --------------------------------------------------------------------------------------------------------------- books


async def test_a_book_is_claimed_by_one_worker(pool: Pool, account: UUID) -> None:
    await alive(pool, A)
    await alive(pool, B)
    book = await claimed(pool, account, A)
    assert (book.holder, book.token, book.key) == (A, 1, f"{account}:BTCUSDT")
    assert (await inbox.take(pool, account, SYMBOL, B))[0] is None
    assert (await inbox.take(pool, account, "ETHUSDT", B))[0] is not None, "other books are free"
    assert await holds(pool, book)


async def test_of_many_claims_at_once_one_succeeds(pool: Pool, account: UUID) -> None:
    workers = [new_id() for _ in range(12)]
    for worker in workers:
        await alive(pool, worker)
    found = await asyncio.gather(*(inbox.take(pool, account, SYMBOL, worker) for worker in workers))
    [book] = [one for one, _ in found if one is not None]
    assert await holds(pool, book)


async def test_of_many_claims_at_once_one_inherits_from_a_dead_worker(pool: Pool, account: UUID) -> None:
    await alive(pool, A)
    dead = await claimed(pool, account, A)
    await expire(pool, f"worker:{A}")
    workers = [new_id() for _ in range(12)]
    for worker in workers:
        await alive(pool, worker)
    found = await asyncio.gather(*(inbox.take(pool, account, SYMBOL, worker) for worker in workers))
    [book] = [one for one, _ in found if one is not None]
    assert book.token == dead.token + 1


async def test_a_released_book_is_free_and_its_claim_over(pool: Pool, account: UUID) -> None:
    await alive(pool, A)
    await alive(pool, B)
    first = await claimed(pool, account, A)
    await books.release(pool, first)
    assert not await holds(pool, first)
    second = await claimed(pool, account, B)
    assert second.token > first.token
    await books.release(pool, first)  # late, under the old token: nothing happens
    assert await holds(pool, second)


async def test_a_dead_workers_book_is_taken_and_what_it_still_tries_is_fenced_off(pool: Pool, account: UUID) -> None:
    await alive(pool, A)
    await alive(pool, B)
    first = await claimed(pool, account, A)
    await expire(pool, f"worker:{A}")
    assert not await holds(pool, first), "the claim ended with the lease, whoever comes next"
    second = await claimed(pool, account, B)
    assert second.token > first.token
    # The dead one was only asleep.
    await alive(pool, A)
    assert not await holds(pool, first)
    await books.release(pool, first)
    assert await holds(pool, second)
    assert (await inbox.take(pool, account, SYMBOL, A))[0] is None


async def test_a_worker_claims_again_what_it_holds_under_a_new_token(pool: Pool, account: UUID) -> None:
    await alive(pool, A)
    first = await claimed(pool, account, A)
    second = await claimed(pool, account, A)
    assert second.token == first.token + 1
    assert not await holds(pool, first)
    assert await holds(pool, second)


async def test_a_claim_without_a_living_lease_allows_nothing(pool: Pool, account: UUID) -> None:
    book = await claimed(pool, account, A)
    assert not await holds(pool, book)
    await alive(pool, B)
    assert (await inbox.take(pool, account, SYMBOL, B))[0] is not None


async def test_what_a_fence_allowed_is_committed_before_the_book_changes_hands(pool: Pool, account: UUID) -> None:
    await alive(pool, A)
    await alive(pool, B)
    book = await claimed(pool, account, A)
    async with pool.acquire() as other:
        await other.execute("SET lock_timeout = '50ms'")
        async with transaction(pool) as connection:
            await books.fence(connection, book)
            await connection.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", f"worker:{A}")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await inbox.take(other, account, SYMBOL, B)
        assert (await inbox.take(other, account, SYMBOL, B))[0] is not None


async def test_folding_and_claiming_do_not_disturb_each_other(pool: Pool, account: UUID) -> None:
    async with transaction(pool) as connection:
        await books.lock(connection, account, SYMBOL)
    await alive(pool, A)
    book = await claimed(pool, account, A)
    async with transaction(pool) as connection:
        await books.lock(connection, account, SYMBOL)
        assert await books.next_epoch(connection, account, SYMBOL) == 1
        assert await books.next_epoch(connection, account, SYMBOL) == 2
    assert await holds(pool, book)
