"""What of a market is dark: told by the holder of the watcher's lease alone, asked before an opening."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.store import blind, leases

MARKET, OTHER = "bybit http://a", "binance http://a"
BTC, ETH = "BTCUSDT", "ETHUSDT"
FIRST, SECOND = UUID(int=1), UUID(int=2)
NO_WATCHER = "no watcher is running, so nobody would see the stop"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_without_a_watcher_all_is_dark(connection: Any) -> None:
    assert await blind.reason(connection, MARKET, BTC) == NO_WATCHER
    token = await leases.acquire(connection, "watcher", FIRST, ttl_s=60)
    assert await blind.reason(connection, MARKET, BTC) is None
    await leases.release(connection, "watcher", FIRST, token or 0)
    assert await blind.reason(connection, MARKET, BTC) == NO_WATCHER


async def test_a_symbol_is_dark_alone_and_a_market_with_all_of_its_symbols(connection: Any) -> None:
    token = await leases.acquire(connection, "watcher", FIRST, ttl_s=60) or 0
    assert await blind.tell(connection, MARKET, {BTC: "silent"}, token=token)
    assert await blind.reason(connection, MARKET, BTC) == "silent"
    assert await blind.reason(connection, MARKET, ETH) is None
    assert await blind.reason(connection, OTHER, BTC) is None
    assert await blind.tell(connection, MARKET, {blind.EVERYTHING: "no link"}, token=token)
    assert await blind.reason(connection, MARKET, BTC) == "no link"
    assert await blind.reason(connection, MARKET, ETH) == "no link"
    assert await blind.reason(connection, OTHER, BTC) is None


async def test_what_is_told_anew_replaces_what_was_told_and_keeps_since_when(connection: Any) -> None:
    token = await leases.acquire(connection, "watcher", FIRST, ttl_s=60) or 0
    await blind.tell(connection, MARKET, {BTC: "silent", ETH: "silent"}, token=token)
    since = await connection.fetchval("SELECT since FROM blind WHERE symbol = $1", BTC)
    await blind.tell(connection, OTHER, {BTC: "silent"}, token=token)
    await blind.tell(connection, MARKET, {BTC: "still silent"}, token=token)
    rows = await connection.fetch("SELECT symbol, why, since FROM blind WHERE market = $1", MARKET)
    assert [tuple(row) for row in rows] == [(BTC, "still silent", since)]
    await blind.tell(connection, MARKET, {}, token=token)
    assert await blind.reason(connection, MARKET, BTC) is None
    assert await blind.reason(connection, OTHER, BTC) == "silent", "another market's rows are left alone"


async def test_a_stale_token_and_a_lease_that_is_over_write_nothing(connection: Any) -> None:
    old = await leases.acquire(connection, "watcher", FIRST, ttl_s=60) or 0
    await blind.tell(connection, MARKET, {BTC: "silent"}, token=old)
    await leases.release(connection, "watcher", FIRST, old)
    assert not await blind.tell(connection, MARKET, {}, token=old)
    new = await leases.acquire(connection, "watcher", SECOND, ttl_s=60) or 0
    assert not await blind.tell(connection, MARKET, {}, token=old)
    assert await blind.reason(connection, MARKET, BTC) == "silent"
    assert await blind.tell(connection, MARKET, {}, token=new)
    assert not await blind.tell(connection, MARKET, {ETH: "silent"}, token=old)
    assert await blind.reason(connection, MARKET, ETH) is None
