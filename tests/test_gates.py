"""The breaker that processes share. Each `Gates` here is a process of its own: nothing but servers connects them."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from app import gates as module
from app.errors import StoreUnavailable, Transient
from app.gates import Gates
from app.queue import BANS, SENT, Doorbell, open_redis
from app.store.db import Pool, open_pool
from app.venues.gate import Clock, Gate, Scope, Urgency
from tests.support.house import eventually

ALICE, BOB = UUID(int=0xA), UUID(int=0xB)
ORIGIN = "https://exchange.example"
NO_REDIS = "redis://127.0.0.1:1/0"

Start = Callable[..., Awaitable[Gates]]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size_max=10)
    yield pool
    pool.terminate()


@pytest.fixture
def only_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look but for a ring."""
    monkeypatch.setattr(module, "POLL_S", 3600.0)


@asynccontextmanager
async def process(
    pool: Pool, redis_url: str, *, address_name: str = "here", clock: Clock = time.monotonic
) -> AsyncIterator[Gates]:
    redis = open_redis(redis_url)
    gates = Gates(pool, redis, Doorbell(redis), address_name=address_name, clock=clock)
    try:
        await gates.start()
        yield gates
    finally:
        await gates.close()
        await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def start(pool: Pool) -> AsyncIterator[Start]:
    """`await start(redis_url, address_name="here")`: a process that ends with the test."""
    async with AsyncExitStack() as stack:

        async def started(redis_url: str, **more: Any) -> Gates:
            return await stack.enter_async_context(process(pool, redis_url, **more))

        yield started


def closed(gate: Gate, urgency: Urgency = Urgency.CLOSE, *limits: str) -> bool:
    try:
        gate.admit(urgency, *limits)
    except Transient:
        return True
    return False


async def until_closed(gate: Gate, urgency: Urgency = Urgency.CLOSE, *limits: str) -> None:
    async def check() -> bool:
        return closed(gate, urgency, *limits)

    await eventually(check, within_s=5)


async def until_open(gate: Gate, urgency: Urgency = Urgency.CLOSE, *limits: str) -> None:
    async def check() -> bool:
        return not closed(gate, urgency, *limits)

    await eventually(check, within_s=5)


async def listening(pool_of: str, processes: int) -> None:
    """Every process has subscribed: a ring from now on is heard."""
    redis = open_redis(pool_of)

    async def check() -> bool:
        ((_, count),) = await redis.pubsub_numsub(BANS)
        return int(count) == processes

    try:
        await eventually(check, within_s=5)
    finally:
        await redis.aclose(close_connection_pool=True)


# --------------------------------------------------------------------------------------------------------- who is meant


async def test_a_ban_of_the_address_stops_all_its_accounts_in_this_process_at_once(
    start: Start, redis_url: str
) -> None:
    gates = await start(redis_url)
    alice, bob = gates.of(ALICE, "bybit", ORIGIN), gates.of(BOB, "bybit", ORIGIN)
    alice.ban(Scope.ADDRESS, 60, "HTTP 403")
    assert closed(alice)
    assert closed(bob)


async def test_a_ban_of_an_account_stops_it_alone(start: Start, redis_url: str) -> None:
    gates = await start(redis_url)
    gates.of(ALICE, "bybit", ORIGIN).ban(Scope.ACCOUNT, 60, "10006")
    assert closed(gates.of(ALICE, "bybit", ORIGIN))
    assert not closed(gates.of(BOB, "bybit", ORIGIN))


async def test_an_origin_that_shows_two_exchanges_is_two_addresses(start: Start, redis_url: str) -> None:
    gates = await start(redis_url)
    gates.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 60, "HTTP 403")
    assert not closed(gates.of(BOB, "binance", ORIGIN))
    assert closed(gates.of(BOB, "bybit", ORIGIN + "/"))  # the same origin, written otherwise


async def test_another_machine_has_another_address_but_the_same_accounts(
    start: Start, redis_url: str, only_rings: None
) -> None:
    here, there = await start(redis_url), await start(redis_url, address_name="there")
    await listening(redis_url, 2)
    here.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 60, "HTTP 403")
    here.of(BOB, "bybit", ORIGIN).ban(Scope.ACCOUNT, 60, "10006")
    await until_closed(there.of(BOB, "bybit", ORIGIN))
    assert not closed(there.of(ALICE, "bybit", ORIGIN))


# ------------------------------------------------------------------------------------------------------- how it is told


@pytest.mark.parametrize("scope", Scope)
async def test_a_ring_stops_the_other_processes(start: Start, redis_url: str, only_rings: None, scope: Scope) -> None:
    one, other = await start(redis_url), await start(redis_url)
    await listening(redis_url, 2)
    gate = other.of(ALICE, "bybit", ORIGIN)
    one.of(ALICE, "bybit", ORIGIN).ban(scope, 60, "told by one")
    await until_closed(gate)
    with pytest.raises(Transient, match="told by one"):
        gate.admit(Urgency.CLOSE)


async def test_without_redis_the_table_is_looked_into_all_the_same(start: Start) -> None:
    one, other = await start(NO_REDIS), await start(NO_REDIS)
    gate = other.of(ALICE, "bybit", ORIGIN)
    one.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 60, "told by one")
    await until_closed(gate)


async def test_a_process_that_starts_knows_the_bans(pool: Pool, redis_url: str, only_rings: None) -> None:
    async with process(pool, redis_url) as gates:
        gates.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 60, "HTTP 403")
        gates.of(BOB, "bybit", ORIGIN).ban(Scope.ACCOUNT, 60, "10006")
    async with process(pool, NO_REDIS) as gates:
        assert closed(gates.of(ALICE, "bybit", ORIGIN))
        assert closed(gates.of(BOB, "bybit", "https://elsewhere.example"))


async def test_the_ban_that_ends_last_counts_in_every_process(
    start: Start, pool: Pool, redis_url: str, only_rings: None
) -> None:
    one, other = await start(redis_url), await start(redis_url)
    await listening(redis_url, 2)
    one.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 600, "long")
    await until_closed(other.of(ALICE, "bybit", ORIGIN))
    one.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 60, "short")
    other.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 30, "shorter")
    other.of(BOB, "bybit", ORIGIN).ban(Scope.ACCOUNT, 60, "told last")
    await until_closed(one.of(BOB, "bybit", ORIGIN))
    for gates in (one, other):
        with pytest.raises(Transient, match="long") as caught:
            gates.of(ALICE, "bybit", ORIGIN).admit(Urgency.CLOSE)
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 60


async def test_a_ban_lasts_as_long_in_every_process_whatever_their_clocks_say(start: Start) -> None:
    one = await start(NO_REDIS, clock=lambda: time.monotonic() - 50_000)
    other = await start(NO_REDIS, clock=lambda: time.monotonic() + 50_000)
    one.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 600, "HTTP 403")
    await until_closed(other.of(ALICE, "bybit", ORIGIN))
    for gates in (one, other):
        with pytest.raises(Transient) as caught:
            gates.of(ALICE, "bybit", ORIGIN).admit(Urgency.CLOSE)
        assert caught.value.retry_after_s is not None
        assert 540 < caught.value.retry_after_s < 601


async def test_a_ban_whose_row_is_deleted_is_lifted(start: Start, pool: Pool) -> None:
    one, other = await start(NO_REDIS), await start(NO_REDIS)
    gate = one.of(ALICE, "bybit", ORIGIN)
    gate.ban(Scope.ADDRESS, 600, "HTTP 403")
    await until_closed(other.of(ALICE, "bybit", ORIGIN))
    await pool.execute("DELETE FROM bans")
    await until_open(gate)
    await until_open(other.of(ALICE, "bybit", ORIGIN))


async def test_a_ban_that_cannot_be_written_holds_here_and_is_written_later(
    start: Start, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.05)
    one, other = await start(NO_REDIS), await start(NO_REDIS)
    gate = one.of(ALICE, "bybit", ORIGIN)
    await pool.execute("ALTER TABLE bans RENAME TO bans_away")
    gate.ban(Scope.ADDRESS, 60, "HTTP 403")
    with pytest.raises(Exception, match="bans"):
        await one.look()
    assert closed(gate)
    assert not closed(other.of(ALICE, "bybit", ORIGIN))
    await pool.execute("ALTER TABLE bans_away RENAME TO bans")
    await until_closed(other.of(ALICE, "bybit", ORIGIN))
    assert closed(gate)


async def test_a_process_that_ends_leaves_word(pool: Pool, redis_url: str) -> None:
    """Even when it was told in its last moment."""
    async with process(pool, redis_url) as gates:
        gates.of(ALICE, "bybit", ORIGIN).ban(Scope.ADDRESS, 60, "the last thing it heard")
    assert await pool.fetchval("SELECT why FROM bans") == "the last thing it heard"


async def test_a_database_without_the_table_says_what_to_do(pool: Pool) -> None:
    await pool.execute("DROP TABLE bans")
    with pytest.raises(StoreUnavailable, match="levelhead migrate"):
        async with process(pool, NO_REDIS):
            pass


# ------------------------------------------------------------------------------------------------------------- traffic


def send(gate: Gate, requests: int) -> None:
    for _ in range(requests):
        gate.count("address", limit=100, window_s=300)


async def test_what_one_process_sends_counts_for_the_others_of_its_address(start: Start, redis_url: str) -> None:
    processes = [await start(redis_url, address_name=name) for name in ("here", "here", "there")]
    one, other, elsewhere = (gates.of(ALICE, "bybit", ORIGIN) for gates in processes)
    for gate in (other, elsewhere):
        send(gate, 1)
    assert not closed(other, Urgency.READ, "address")
    send(one, 90)
    await until_closed(other, Urgency.OPEN, "address")
    assert not closed(other, Urgency.CLOSE, "address")
    assert not closed(elsewhere, Urgency.READ, "address")


async def test_without_redis_each_process_counts_itself(
    start: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = await start(redis_url)
    gate, busy = gates.of(ALICE, "bybit", ORIGIN), (await start(redis_url)).of(ALICE, "bybit", ORIGIN)
    send(gate, 1)
    send(busy, 90)
    await until_closed(gate, Urgency.OPEN, "address")
    nowhere = open_redis(NO_REDIS)
    monkeypatch.setattr(gates._traffic, "_redis", nowhere)
    await until_open(gate, Urgency.READ, "address")
    await nowhere.aclose(close_connection_pool=True)


async def test_what_a_process_sent_that_is_gone_is_forgotten(start: Start, redis_url: str) -> None:
    gates = await start(redis_url)
    gate = gates.of(ALICE, "bybit", ORIGIN)
    send(gate, 1)
    (scope,) = (scope for scope, limits in gates._limits.items() if limits.windows)
    redis: Any = open_redis(redis_url)
    await redis.hset(f"{SENT}{scope} address", mapping={"gone": "90 1000"})  # said in 1970

    async def is_removed() -> bool:
        return not await redis.hexists(f"{SENT}{scope} address", "gone")

    await eventually(is_removed, within_s=5)
    assert not closed(gate, Urgency.READ, "address")
    await redis.aclose(close_connection_pool=True)
