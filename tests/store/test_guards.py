"""Statements that guard what they write: whoever comes late, stale or twice changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from app.domain.level import Level, LevelKind
from app.domain.order import OrderStatus, PositionSide
from app.domain.position import PositionStatus
from app.domain.refusals import Outcome
from app.domain.shards import LEASES, lease_of
from app.domain.signal import Action, Exits, PriceOrPct, Signal, Trailing
from app.errors import Conflict
from app.ids import new_id
from app.resources import Resources, open_resources
from app.store import books, inbox, leases, levels, orders, positions
from app.store.db import transaction
from app.store.inbox import CauseKind, InstructionStatus
from app.store.orders import IntentKind
from tests.api import rows
from tests.store.test_settle import Book, new_book
from tests.support.house import eventually, settings

D = Decimal
LEASE = lease_of("BTCUSDT")
TRAILING = Exits(trailing=Trailing(distance=PriceOrPct(pct=D(1))))


@pytest.fixture
async def resources(database_url: str, redis_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings(database_url, redis_url, "http://simulator.invalid")) as found:
        await rows.strategy(found.pool, "demo")
        yield found


@pytest.fixture
async def book(resources: Resources) -> Book:
    return await new_book(resources)


async def watchers_token(book: Book) -> int:
    token = await leases.acquire(book.pool, LEASE, new_id(), ttl_s=600)
    assert token is not None
    return token


def extreme(level: Level, price: Decimal, token: int, lease: str = LEASE) -> levels.Extreme:
    return levels.Extreme(level_id=level.id, armed_at=level.armed_at, price=price, at=None, lease=lease, token=token)


async def trailing(book: Book) -> Level:
    return (await book.armed(LevelKind.TRAILING_STOP)).level


@pytest.mark.parametrize("side", PositionSide)
async def test_a_stored_extreme_only_gets_better(book: Book, side: PositionSide) -> None:
    await book.open(exits=TRAILING, side=side)
    level, token = await trailing(book), await watchers_token(book)
    assert level.extreme == D(60_000)
    for price, best in (("60500", "60500"), ("59000", "60500"), ("60400", "60500"), ("61000", "61000")):
        seen, expected = (D(x) if side is PositionSide.LONG else 120_000 - D(x) for x in (price, best))
        await levels.save_extremes(book.pool, [extreme(level, seen, token)])
        assert (await trailing(book)).extreme == expected


async def test_an_extreme_is_stored_for_the_level_as_it_was_seen_alone(book: Book) -> None:
    """It was changed since, and begins anew."""
    await book.open(exits=TRAILING)
    level, token = await trailing(book), await watchers_token(book)
    before = msgspec.structs.replace(level, armed_at=level.armed_at - timedelta(microseconds=1))
    await levels.save_extremes(book.pool, [extreme(before, D(61_000), token)])
    assert (await trailing(book)).extreme == D(60_000)


async def test_a_stale_watcher_stores_no_extreme(book: Book) -> None:
    await book.open(exits=TRAILING)
    level, stale = await trailing(book), await watchers_token(book)
    await book.pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", LEASE)
    await levels.save_extremes(book.pool, [extreme(level, D(61_000), stale)])
    assert (await trailing(book)).extreme == D(60_000), "its lease has run out"
    await watchers_token(book)
    await levels.save_extremes(book.pool, [extreme(level, D(61_000), stale)])
    assert (await trailing(book)).extreme == D(60_000), "another has taken over"


async def test_an_extreme_is_stored_by_the_token_of_its_own_shard_alone(book: Book) -> None:
    """Others of the same watcher may be over."""
    await book.open(exits=TRAILING)
    level, token = await trailing(book), await watchers_token(book)
    other = await leases.acquire(book.pool, LEASES[0], new_id(), ttl_s=600)
    assert (LEASES[0] != LEASE, other) == (True, token)
    stale = msgspec.structs.replace(extreme(level, D(62_000), token), level_id=new_id(), token=token + 1)
    await levels.save_extremes(book.pool, [stale, extreme(level, D(61_000), token)])
    assert (await trailing(book)).extreme == D(61_000)
    await book.pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", LEASE)
    await levels.save_extremes(book.pool, [extreme(level, D(63_000), token)])
    assert (await trailing(book)).extreme == D(61_000), "another shard's lease is none for this one"


async def test_a_position_is_let_go_of_by_the_holder_of_its_symbol_alone(book: Book) -> None:
    await book.reduce(await book.open(), "0.010")
    [(position_id, symbol)] = await positions.unreleased(book.pool, within_s=60)
    assert symbol == "BTCUSDT"
    stale = await watchers_token(book)
    await book.pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", LEASE)
    await positions.release(book.pool, [(position_id, LEASE, stale)])
    token = await watchers_token(book)
    await leases.acquire(book.pool, LEASES[0], new_id(), ttl_s=600)
    await positions.release(book.pool, [(position_id, LEASE, stale), (new_id(), LEASES[0], 1)])
    assert await positions.unreleased(book.pool, within_s=60) == [(position_id, symbol)]
    await positions.release(book.pool, [(position_id, LEASE, token)])
    assert await positions.unreleased(book.pool, within_s=60) == []


async def test_whoever_folds_waits_for_whoever_folds(book: Book) -> None:
    async def second() -> None:
        async with transaction(book.pool) as connection:
            await books.lock(connection, book.account_id, "BTCUSDT")

    async def waits() -> bool:
        blocked: int = await book.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return blocked > 0 or task.done()

    await second()  # the book's row is there from the first time on
    async with transaction(book.pool) as connection:
        await books.lock(connection, book.account_id, "BTCUSDT")
        task = asyncio.create_task(second())
        await eventually(waits, what="the second at the lock")
        assert not task.done()
    await task


async def test_what_is_closed_is_not_written_again(book: Book) -> None:
    position = await book.open()
    await book.reduce(position, "0.010")
    late = msgspec.structs.replace(position, status=PositionStatus.OPEN, qty=D("0.010"))
    async with transaction(book.pool) as connection:
        await positions.update_fold(connection, late)
    await positions.set_status(book.pool, position.id, PositionStatus.CLOSING)
    await positions.set_native_stop(book.pool, position.id, D(59_000))
    found = await positions.get(book.pool, position.id)
    assert found is not None
    assert (found.status, found.qty, found.native_stop) == (PositionStatus.CLOSED, D(0), None)


async def test_an_order_does_not_go_back_in_its_life(book: Book) -> None:
    order = await book.order(IntentKind.OPEN, "0.010")
    await orders.move(book.pool, order.id, OrderStatus.FILLED)
    for earlier in (OrderStatus.SENT, OrderStatus.UNKNOWN, OrderStatus.ACCEPTED, OrderStatus.ABSENT):
        with pytest.raises(Conflict):
            await orders.move(book.pool, order.id, earlier)
    assert (await orders.order(book.pool, order.id)).status is OrderStatus.FILLED


async def test_a_level_that_was_crossed_is_never_armed_again(book: Book) -> None:
    position = await book.open()
    level = (await book.armed(LevelKind.STOP_LOSS)).level
    async with transaction(book.pool) as connection:
        await levels.trigger(connection, level.id, D(59_000), "1")
        await levels.rearm(connection, [level])
        await levels.disarm(connection, position.id)
    [row] = await book.pool.fetch("SELECT status, trigger_price FROM levels WHERE id = $1", level.id)
    assert (row["status"], row["trigger_price"]) == ("triggered", D(59_000))


async def succeeded(book: Book) -> tuple[books.Book, books.Book]:
    """The claim of a worker that was away for too long, and that of its successor."""
    claims = []
    for worker in (new_id(), new_id()):
        await book.pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name LIKE 'worker:%'")
        await leases.acquire(book.pool, f"worker:{worker}", worker, ttl_s=600)
        claim, _ = await inbox.take(book.pool, book.account_id, "BTCUSDT", worker)
        assert claim is not None
        claims.append(claim)
    return claims[0], claims[1]


async def test_a_worker_that_is_late_does_not_free_its_successors_claim(book: Book) -> None:
    stale, claim = await succeeded(book)
    await books.release(book.pool, stale)
    async with transaction(book.pool) as connection:
        await books.fence(connection, claim)


async def test_a_worker_that_is_late_ends_nothing(book: Book) -> None:
    position, id = await book.open(), new_id()
    await inbox.instruct(
        book.pool, id=id, cause_kind=CauseKind.MANUAL, cause_id=new_id(), account_id=book.account_id,
        strategy_id="demo", request=Signal(symbol="BTCUSDT", action=Action.CLOSE), position_id=position.id,
    )  # fmt: skip
    stale, claim = await succeeded(book)
    with pytest.raises(Conflict):
        async with transaction(book.pool) as connection:
            await inbox.finish(connection, stale, id, InstructionStatus.DONE, Outcome.EXECUTED, "")
    async with transaction(book.pool) as connection:
        await inbox.finish(connection, claim, id, InstructionStatus.REFUSED, Outcome.NO_SIZE, "")
    assert await book.pool.fetchval("SELECT status FROM instructions WHERE id = $1", id) == "refused"
