"""A watcher of a house, and waiting for what it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.domain.shards import LEASES
from app.flows import reconcile
from app.store import leases
from tests.support.house import House, eventually
from workers.watcher import Watcher


@asynccontextmanager
async def watching(house: House) -> AsyncIterator[Watcher]:
    """A watcher that has its leases and its streams; stopped as by SIGTERM, with its fires recorded.

    Meanwhile the house does not hold the leases.
    """
    pool = house.resources.pool
    await pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = ANY($1)", LEASES)
    try:
        async with another(house) as watcher:
            yield watcher
    finally:
        await leases.acquire_all(pool, LEASES, house.worker.id, ttl_s=600)


@asynccontextmanager
async def another(house: House) -> AsyncIterator[Watcher]:
    """One more watcher, stopped in the same way."""
    watcher = Watcher(house.resources)
    task = asyncio.create_task(watcher.run())
    house.watchers += 1
    try:
        await eventually(lambda: _linked(watcher, task), what="stream")
        yield watcher
    finally:
        house.watchers -= 1
        await watcher.drain()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _linked(watcher: Watcher, task: asyncio.Task[None]) -> bool:
    if task.done():
        task.result()
    return watcher.shares.until > 0 and all(feed.linked for feed in watcher.feeds.values())


async def armed(watcher: Watcher, count: int) -> None:
    async def check() -> bool:
        return len(watcher.armed) == count and all(feed.linked for feed in watcher.feeds.values())

    await eventually(check, what=f"{count} levels")


async def closed(house: House, *, within_s: float = 10.0) -> None:
    """The position has ended and whoever ended it has written that down."""

    async def check() -> bool:
        unfinished = await house.rows("SELECT 1 FROM orders WHERE status IN ('sent', 'unknown', 'accepted')")
        return await house.position() is None and not unfinished

    await eventually(check, within_s=within_s, what="the close")


@asynccontextmanager
async def orders_asked_about(house: House) -> AsyncIterator[None]:
    """As a worker does: whoever settles a fill first leaves its order to be followed up."""

    async def ask() -> None:
        memory = reconcile.Memory()
        while True:
            await reconcile.all_orders(house.resources, memory)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def private_links(house: House) -> int:
    """How many private sockets the exchange has."""
    answer = await house.control.get("/control/health")
    return int(answer.json()["links"]["private"])


class Broken:
    """A pool whose database is away."""

    def __getattr__(self, name: str) -> object:
        raise OSError("connection refused")
