"""The one place of wiring: what API, worker and watcher share, opened and closed together."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from arq.connections import ArqRedis

from app.errors import Refused
from app.keys import Keys
from app.queue import Doorbell, Prices, open_redis
from app.settings import Settings, require_servers
from app.store import accounts
from app.store.accounts import AccountRow
from app.store.db import Pool, open_pool
from app.venues.base import Origins, Venue
from app.venues.bybit import BybitVenue
from app.venues.origins import default_origins

Clock = Callable[[], datetime]


RECHECK_S = 1.0


class Connected(msgspec.Struct, frozen=True):
    """An account with its venue adapter."""

    account: AccountRow
    origins: Origins
    venue: Venue


def origins_of(account: AccountRow, simulator_url: str | None) -> Origins:
    """Where this account's exchange is reached. Refused when there is nowhere."""
    if account.environment == "custom":
        if account.rest_url is None or account.ws_url is None:
            raise Refused("venue_unavailable", f"account {account.name} has no urls; set them, or remove the account")
        return Origins(rest=account.rest_url, ws=account.ws_url)
    if account.environment == "simulator":
        if simulator_url is None:
            raise Refused("venue_unavailable", "LEVELHEAD_SIMULATOR_URL is not set: the simulator cannot be reached")
        return Origins(rest=simulator_url, ws=simulator_url.replace("http", "ws", 1))
    found = default_origins(account.venue, account.environment)
    if found is None:
        raise Refused("not_supported_yet", f"{account.venue} {account.environment} cannot be traded by this version")
    return found


class Venues:
    """Venue adapters, one per account, kept warm. An account that was changed gets a new one."""

    def __init__(self, settings: Settings, pool: Pool, keys: Keys) -> None:
        self._settings = settings
        self._pool = pool
        self._keys = keys
        self._open: dict[UUID, Connected] = {}
        self._checked: dict[UUID, float] = {}  # monotonic time of the last look at the account's row
        self._locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, account_id: UUID) -> Connected:
        """The adapter of an account. Refused when the account was removed or its venue cannot be traded.

        A change of the account counts after a second at the latest.
        """
        if time.monotonic() < self._checked.get(account_id, 0.0) + RECHECK_S:
            return self._open[account_id]
        account = await accounts.get(self._pool, account_id)
        if account is None:
            raise Refused("no_account", f"account {account_id} does not exist any more")
        async with self._locks[account_id]:
            connected = await self._connect(account)
        self._checked[account_id] = time.monotonic()
        return connected

    async def _connect(self, account: AccountRow) -> Connected:
        known = self._open.get(account.id)
        if known is not None and known.account.updated_at == account.updated_at:
            return known
        credentials = await accounts.credentials_of(self._pool, self._keys, account.id)
        origins = origins_of(account, self._settings.simulator_url)
        connected = Connected(
            account,
            origins,
            BybitVenue(
                credentials,
                origins,
                recv_window_ms=self._settings.recv_window_ms,
                timeout_s=self._settings.venue_timeout_s,
            ),
        )
        self._open[account.id] = connected
        if known is not None:
            await known.venue.close()
        return connected

    async def close(self) -> None:
        for connected in self._open.values():
            await connected.venue.close()
        self._open.clear()


def utc_now() -> datetime:
    return datetime.now(UTC)


class Resources:
    """What flows need; passed to them as their first argument."""

    def __init__(
        self, settings: Settings, pool: Pool, redis: ArqRedis, keys: Keys, now: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.redis = redis
        self.keys = keys
        self.now = now
        self.bell = Doorbell(redis)
        self.prices = Prices(redis)
        self.venues = Venues(settings, pool, keys)


@asynccontextmanager
async def open_resources(settings: Settings, now: Clock = utc_now) -> AsyncIterator[Resources]:
    """Raises StoreUnavailable when PostgreSQL cannot be reached; Redis may be away."""
    require_servers(settings)
    pool = await open_pool(settings.database_url.reveal(), size_max=settings.database_pool_max)
    redis = open_redis(settings.redis_url.reveal())
    resources = Resources(settings, pool, redis, Keys.from_text(settings.master_key.reveal()), now)
    try:
        yield resources
    finally:
        await resources.venues.close()
        await redis.aclose(close_connection_pool=True)
        pool.terminate()
