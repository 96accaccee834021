"""The one place of wiring: what API, worker and watcher share, opened and closed together."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import msgspec
from arq.connections import ArqRedis

from app.domain.refusals import Outcome
from app.errors import Conflict, Refused, VenueError
from app.gates import Gates
from app.gather import Gather
from app.keys import Credentials, Keys, SealBroken
from app.log import event
from app.queue import Doorbell, Prices, open_redis
from app.settings import Settings, require_servers
from app.store import accounts, inbox, installation, migrate, strategies
from app.store.accounts import AccountRow
from app.store.db import Pool, open_pool, store_errors
from app.store.inbox import New, Stored, key_of
from app.store.strategies import WebhookStrategy
from app.venues import registry
from app.venues.base import Origins, Permissions, Venue
from app.venues.gate import Gate
from app.venues.origins import default_origins

log = logging.getLogger("resources")

Clock = Callable[[], datetime]

RECHECK_S = 1.0
RETIRED_S = 15.0  # an adapter lives on when its account has changed
PERMISSIONS_TTL_S = 60.0
WITHDRAWAL_TTL_S = 5.0  # of a key that may withdraw: its owner is switching that off
PERMISSIONS_PATIENCE_S = 1.5
PERMISSIONS_PAUSE_S = 60.0  # after it could not be asked
ACCOUNTS_LOOKED_AT = 500  # at the start, for the venues that they are at


class Connected(msgspec.Struct):
    """An account with its venue adapter, and the gate that the adapter asks."""

    account: AccountRow
    origins: Origins
    venue: Venue
    gate: Gate
    compared: bool = False  # with what we think it holds, since this process began to use it
    comparing: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    _permissions: tuple[float, Permissions | None] | None = None  # what was told, and until when it counts (monotonic)

    @property
    def market(self) -> str:
        """Names the market whose prices it trades at, see `market_of`."""
        return market_of(self.account.venue, self.origins)

    def there(self, now: datetime) -> datetime:
        """An instant of this machine's clock by that of the exchange, which its trades and fills are listed by."""
        return now + timedelta(milliseconds=self.venue.clock_offset_ms)

    async def permissions(self) -> Permissions | None:
        """What the account's key may do, as it was not long ago; None when the venue could not be asked.

        An opening waits for the answer, so it waits not for long, and not again and again.
        """
        known = self._permissions
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        try:
            async with asyncio.timeout(PERMISSIONS_PATIENCE_S):
                found = await self.venue.permissions()
        except (VenueError, TimeoutError) as error:
            event(log, logging.WARNING, "cannot ask what the key may do", account=self.account.name, why=repr(error))
            self._permissions = time.monotonic() + PERMISSIONS_PAUSE_S, known[1] if known is not None else None
        else:
            ttl_s = WITHDRAWAL_TTL_S if found.can_withdraw else PERMISSIONS_TTL_S
            self._permissions = time.monotonic() + ttl_s, found
        return self._permissions[1]


def market_of(venue: str, origins: Origins) -> str:
    """Two venues may share an origin (a simulator), and a venue has several; their prices are not the same."""
    return f"{venue} {origins.rest}"


def origins_of(account: AccountRow, simulator_url: str | None) -> Origins:
    """Where this account's exchange is reached. Refused when there is nowhere.

    The simulator shows the faces of all exchanges at one origin.
    """
    if account.environment == "custom":
        if account.rest_url is None or account.ws_url is None:
            raise Refused(
                Outcome.VENUE_UNAVAILABLE, f"account {account.name} has no urls; set them, or remove the account"
            )
        return Origins(rest=account.rest_url, ws=account.ws_url)
    if account.environment == "simulator":
        if simulator_url is None:
            raise Refused(
                Outcome.VENUE_UNAVAILABLE, "LEVELHEAD_SIMULATOR_URL is not set: the simulator cannot be reached"
            )
        return Origins(rest=simulator_url, ws=simulator_url.replace("http", "ws", 1))
    found = default_origins(account.venue, account.environment)
    if found is None:
        raise Refused(
            Outcome.NOT_SUPPORTED_YET, f"{account.venue} {account.environment} cannot be traded by this version"
        )
    return found


class Venues:
    """Venue adapters, one per account, kept warm. An account that was changed gets a new one."""

    def __init__(self, settings: Settings, pool: Pool, keys: Keys, gates: Gates) -> None:
        self._settings = settings
        self._pool = pool
        self._keys = keys
        self._gates = gates
        self._open: dict[UUID, Connected] = {}
        self._checked: dict[UUID, float] = {}  # monotonic time of the last look at the account's row
        self._retiring: set[asyncio.Task[None]] = set()
        self._locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, account_id: UUID) -> Connected:
        """The adapter of an account. Refused when the account was removed or its venue cannot be traded.

        A change of the account counts after a second at the latest.
        """
        if time.monotonic() < self._checked.get(account_id, 0.0) + RECHECK_S:
            return self._open[account_id]
        with store_errors():
            account = await accounts.get(self._pool, account_id)
        async with self._locks[account_id]:
            if account is None:
                await self._forget(account_id)
                raise Refused(Outcome.NO_ACCOUNT, f"account {account_id} does not exist any more")
            connected = await self._connect(account)
            self._checked[account_id] = time.monotonic()
        return connected

    async def load(self) -> None:
        """Import what the accounts' venues need, so that no order waits for it. For the start of a process."""
        found = await accounts.page(self._pool, after=None, limit=ACCOUNTS_LOOKED_AT)
        for venue in {account.venue for account in found}:
            await asyncio.to_thread(registry.load, venue)

    async def _connect(self, account: AccountRow) -> Connected:
        known = self._open.get(account.id)
        if known is not None and known.account.updated_at == account.updated_at:
            return known
        origins = origins_of(account, self._settings.simulator_url)
        gate = self._gates.of(account.id, account.venue, origins.rest)
        await asyncio.to_thread(registry.load, account.venue)  # the first of its venue: the event loop must not wait
        venue = registry.open_venue(
            account.venue,
            await self._credentials(account),
            origins,
            gate=gate,
            recv_window_ms=self._settings.recv_window_ms,
            timeout_s=self._settings.venue_timeout_s,
        )
        connected = self._open[account.id] = Connected(account, origins, venue, gate)
        if known is not None:
            self._retire(known.venue)
        return connected

    async def _credentials(self, account: AccountRow) -> Credentials:
        try:
            return await accounts.credentials_of(self._pool, self._keys, account.id)
        except SealBroken as error:
            raise Refused(
                Outcome.VENUE_UNAVAILABLE, f"the key of account {account.name} cannot be read: {error}"
            ) from None
        except Conflict as error:
            raise Refused(Outcome.NO_ACCOUNT, str(error)) from None

    async def _forget(self, account_id: UUID) -> None:
        self._checked.pop(account_id, None)
        known = self._open.pop(account_id, None)
        if known is not None:
            self._retire(known.venue)

    def _retire(self, venue: Venue) -> None:
        """Close it soon: whoever holds it (a watcher about to fire) has until then to look here again."""
        task = asyncio.create_task(_close_later(venue))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for connected in self._open.values():
            await connected.venue.close()
        self._open.clear()
        self._checked.clear()


async def _close_later(venue: Venue) -> None:
    try:
        await asyncio.sleep(RETIRED_S)
    finally:
        await venue.close()


def utc_now() -> datetime:
    return datetime.now(UTC)


class Resources:
    """What flows need; passed to them as their first argument."""

    def __init__(self, settings: Settings, pool: Pool, redis: ArqRedis, keys: Keys, now: Clock) -> None:
        self.settings = settings
        self.pool = pool
        self.redis = redis
        self.keys = keys
        self.now = now
        self.bell = Doorbell(redis)
        self.prices = Prices(redis)
        self.gates = Gates(pool, redis, self.bell, address_name=settings.address_name)
        self.venues = Venues(settings, pool, keys, self.gates)
        self.addressed: Gather[str, WebhookStrategy | None] = Gather(partial(strategies.for_webhooks, pool))
        self.inbox: Gather[New, Stored] = Gather(partial(inbox.store_all, pool), apart=lambda new: key_of(new[0]))


@asynccontextmanager
async def open_resources(settings: Settings, now: Clock = utc_now) -> AsyncIterator[Resources]:
    """Raises StoreUnavailable when PostgreSQL cannot be reached; Redis may be away.

    Raises SettingsError when the database's schema is another than this program's.
    """
    require_servers(settings)
    pool = await open_pool(settings.database_url.reveal(), size_max=settings.database_pool_max)
    redis = open_redis(settings.redis_url.reveal())
    keys = Keys.from_text(settings.master_key.reveal(), settings.master_key_previous.reveal())
    resources = Resources(settings, pool, redis, keys, now)
    try:
        with store_errors():
            await migrate.check(pool)
            await installation.keep(pool, keys)
        await resources.gates.start()
        yield resources
    finally:
        await resources.venues.close()
        await resources.gates.close()
        await resources.bell.close()
        await redis.aclose(close_connection_pool=True)
        pool.terminate()
