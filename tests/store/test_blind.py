"""What of a market is dark: told by the holders of the symbols' leases alone, asked before an opening."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.domain.shards import LEASES, lease_of
from app.store import blind, leases

MARKET, OTHER = "bybit http://a", "binance http://a"
BTC, ETH = "BTCUSDT", "ETHUSDT"
BTC_LEASE, ETH_LEASE = lease_of(BTC), lease_of(ETH)
FIRST, SECOND = UUID(int=1), UUID(int=2)
NO_WATCHER = "no watcher follows it, so nobody would see the stop"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def tell(connection: Any, dark: dict[str, str], tokens: dict[str, int], market: str = MARKET) -> bool:
    """Symbol -> why; a whole market for all of these leases."""
    rows = {
        (lease, symbol): why
        for symbol, why in dark.items()
        for lease in (tokens if symbol == blind.EVERYTHING else [lease_of(symbol)])
    }
    return await blind.tell(connection, market, rows, tokens)


def test_the_symbols_of_these_tests_are_of_two_shards() -> None:
    assert BTC_LEASE != ETH_LEASE


async def test_without_a_watcher_all_is_dark(connection: Any) -> None:
    assert await blind.reason(connection, MARKET, BTC) == NO_WATCHER
    tokens = await leases.acquire_all(connection, LEASES, FIRST, ttl_s=60)
    assert await blind.reason(connection, MARKET, BTC) is None
    await leases.release_all(connection, tokens, FIRST)
    assert await blind.reason(connection, MARKET, BTC) == NO_WATCHER


async def test_what_nobody_holds_the_lease_of_is_dark_alone(connection: Any) -> None:
    await leases.acquire(connection, ETH_LEASE, FIRST, ttl_s=60)
    assert await blind.reason(connection, MARKET, BTC) == NO_WATCHER
    assert await blind.reason(connection, MARKET, ETH) is None


async def test_a_symbol_is_dark_alone_and_a_market_with_all_of_its_symbols(connection: Any) -> None:
    tokens = await leases.acquire_all(connection, LEASES, FIRST, ttl_s=60)
    assert await tell(connection, {BTC: "silent"}, tokens)
    assert await blind.reason(connection, MARKET, BTC) == "silent"
    assert await blind.reason(connection, MARKET, ETH) is None
    assert await blind.reason(connection, OTHER, BTC) is None
    assert await tell(connection, {blind.EVERYTHING: "no link"}, tokens)
    assert await blind.reason(connection, MARKET, BTC) == "no link"
    assert await blind.reason(connection, MARKET, ETH) == "no link"
    assert await blind.reason(connection, OTHER, BTC) is None


async def test_what_is_told_anew_replaces_what_was_told_and_keeps_since_when(connection: Any) -> None:
    tokens = await leases.acquire_all(connection, LEASES, FIRST, ttl_s=60)
    await tell(connection, {BTC: "silent", ETH: "silent"}, tokens)
    since = await connection.fetchval("SELECT since FROM blind WHERE symbol = $1", BTC)
    await tell(connection, {BTC: "silent"}, tokens, OTHER)
    await tell(connection, {BTC: "still silent"}, tokens)
    rows = await connection.fetch("SELECT symbol, why, since FROM blind WHERE market = $1", MARKET)
    assert [tuple(row) for row in rows] == [(BTC, "still silent", since)]
    await tell(connection, {}, tokens)
    assert await blind.reason(connection, MARKET, BTC) is None
    assert await blind.reason(connection, OTHER, BTC) == "silent", "another market's rows are left alone"


async def test_a_watcher_without_its_stream_is_blind_for_its_own_symbols(connection: Any) -> None:
    """The others' streams are not its own."""
    first = await leases.acquire_all(connection, [BTC_LEASE], FIRST, ttl_s=60)
    second = await leases.acquire_all(connection, [ETH_LEASE], SECOND, ttl_s=60)
    assert await tell(connection, {ETH: "silent"}, second)
    assert await tell(connection, {blind.EVERYTHING: "no link"}, first)
    assert await blind.reason(connection, MARKET, BTC) == "no link"
    assert await blind.reason(connection, MARKET, ETH) == "silent"
    assert await tell(connection, {}, second)
    assert await blind.reason(connection, MARKET, BTC) == "no link"
    assert await blind.reason(connection, MARKET, ETH) is None
    assert await blind.rows(connection) == {(MARKET, BTC_LEASE, blind.EVERYTHING)}


async def test_a_stale_token_and_a_lease_that_is_over_write_nothing(connection: Any) -> None:
    old = await leases.acquire_all(connection, [BTC_LEASE, ETH_LEASE], FIRST, ttl_s=60)
    await tell(connection, {BTC: "silent"}, old)
    await leases.release_all(connection, {BTC_LEASE: old[BTC_LEASE]}, FIRST)
    assert not await tell(connection, {}, old)
    new = await leases.acquire_all(connection, [BTC_LEASE], SECOND, ttl_s=60)
    assert not await tell(connection, {ETH: "dim"}, old)
    assert await blind.reason(connection, MARKET, BTC) == "silent"
    assert await blind.reason(connection, MARKET, ETH) == "dim", "that lease is not over"
    assert await tell(connection, {}, new)
    assert await blind.reason(connection, MARKET, BTC) is None
    assert not await tell(connection, {BTC: "silent"}, old)
    assert await blind.reason(connection, MARKET, BTC) is None
