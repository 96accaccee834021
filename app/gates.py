"""The breaker that all processes share: a ban that one of them is told of stops all, and limits count all.

A ban goes into the table, and a ring over Redis makes the others look; each looks every second anyhow, so without
Redis it is known a second later, and a process that starts knows it from the start. Only remaining seconds cross
between the database's clock and a process's own, so no machine's wall clock matters.

Where a venue does not state how much of an address's limit is used, each process says over Redis how much it sent.
Without Redis each counts itself alone.
"""

import asyncio
import logging
import math
import socket
import time
from contextlib import suppress
from functools import partial
from uuid import UUID

import asyncpg
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app.errors import StoreUnavailable
from app.log import event
from app.queue import BANS, Doorbell, Traffic
from app.store import bans
from app.store.db import Pool, store_errors
from app.venues.gate import OTHERS_TELL_S, Ban, Clock, Gate, Limits, Scope

log = logging.getLogger("gates")

POLL_S = 1.0
RESUBSCRIBE_S = 1.0
LAST_WORD_S = 1.0


def account_scope(account_id: UUID) -> str:
    return f"account:{account_id}"


def address_scope(venue: str, origin: str, address_name: str) -> str:
    """Exchanges know an address by its public IP, which we don't: whoever has the same name shares its bans."""
    return f"address:{venue} {origin.rstrip('/')} from {address_name}"


class Gates:
    """Hands out the gates of this process, one for each account at an address, and keeps what they know in step.

    `start` and `close` frame its tasks; unstarted, the gates know only what they see themselves.
    """

    def __init__(
        self,
        pool: Pool,
        redis: ArqRedis,
        bell: Doorbell,
        *,
        address_name: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._bell = bell
        self._traffic = Traffic(redis)
        self._address_name = address_name or socket.gethostname()
        self._clock = clock
        self._limits: dict[str, Limits] = {}  # scope -> its ban and limits
        self._untold: dict[str, Ban] = {}  # scope -> what is not in the table yet
        self._look = asyncio.Event()
        self._blind = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, account_id: UUID, venue: str, origin: str) -> Gate:
        """A gate for an account's requests to this origin."""
        scopes = {
            Scope.ADDRESS: address_scope(venue, origin, self._address_name),
            Scope.ACCOUNT: account_scope(account_id),
        }
        return Gate(
            address=self._limits_of(scopes[Scope.ADDRESS]),
            account=self._limits_of(scopes[Scope.ACCOUNT]),
            on_ban=partial(self._banned_here, scopes),
            clock=self._clock,
        )

    async def start(self) -> None:
        """Know the bans that hold, and follow them from here on. Raises StoreUnavailable; does not wait for Redis."""
        try:
            await self.look()
        except asyncpg.UndefinedTableError:
            raise StoreUnavailable("the database is older than this program: run `levelhead migrate`") from None
        self._tasks = [asyncio.create_task(work) for work in (self._follow(), self._listen(), self._share_traffic())]

    async def close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        waiting = set(self._tasks)
        while waiting:  # Python 3.11's wait_for, by which redis-py sends, may swallow a cancellation
            waiting = (await asyncio.wait(waiting, timeout=0.2))[1]
            for task in waiting:
                task.cancel()
        if self._untold:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await self._tell()

    async def look(self) -> None:
        """Write what this process was told, then take over what the table says. Raises StoreUnavailable."""
        await self._tell()
        with store_errors():
            live = {ban.scope: ban for ban in await bans.live(self._pool)}
        now = self._clock()  # later than the database's: a ban never ends too early
        for scope, found in live.items():
            limits = self._limits_of(scope)
            if limits.ban is None or limits.ban.until <= now:
                _say(scope, found.why, found.remaining_s)
            ban = Ban(until=now + found.remaining_s, why=found.why)
            if scope in self._untold:  # told while the table was read
                limits.heed(ban)
            else:
                limits.ban = ban
        for scope, limits in self._limits.items():
            if scope not in live and scope not in self._untold:
                limits.ban = None

    def _limits_of(self, scope: str) -> Limits:
        return self._limits.setdefault(scope, Limits())

    def _banned_here(self, scopes: dict[Scope, str], scope: Scope, ban: Ban) -> None:
        if scopes[scope] not in self._untold:
            _say(scopes[scope], ban.why, ban.until - self._clock())
        self._untold[scopes[scope]] = ban
        self._look.set()

    async def _tell(self) -> None:
        """Write the bans that only this process knows of, and ring."""
        told = False
        for scope, ban in list(self._untold.items()):
            left_s = ban.until - self._clock()
            if left_s > 0:
                with store_errors():
                    await bans.tell(self._pool, scope, left_s, ban.why)
                told = True
            if self._untold.get(scope) is ban:  # else a longer one came meanwhile
                del self._untold[scope]
        if told:
            await self._bell.bans()

    async def _follow(self) -> None:
        while not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await self.look()
            except StoreUnavailable as error:
                if not self._blind:
                    event(log, logging.WARNING, "bans of other processes are not heard of", why=error)
                self._blind = True
                await asyncio.sleep(POLL_S)  # an untold ban must not make this spin
            except Exception:
                log.exception("unexpected")
                await asyncio.sleep(POLL_S)
            else:
                self._blind = False

    async def _listen(self) -> None:
        """Look when another process rings. While Redis is away there is only the look of every second."""
        while not self._closing:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(BANS)
                    self._look.set()  # for what was rung before
                    while not self._closing:
                        if await channel.get_message(timeout=2.0) is not None:
                            self._look.set()
            except (RedisError, OSError):
                await asyncio.sleep(RESUBSCRIBE_S)
            except Exception:
                log.exception("unexpected")
                await asyncio.sleep(RESUBSCRIBE_S)

    async def _share_traffic(self) -> None:
        """Keep each window's `others` up to date."""
        while not self._closing:
            await asyncio.sleep(OTHERS_TELL_S)
            for scope, limits in list(self._limits.items()):
                for name, window in list(limits.windows.items()):
                    sent = window.own(self._clock())
                    window.others = await self._traffic.share(f"{scope} {name}", sent, window_s=window.window_s)


def _say(scope: str, why: str, seconds: float) -> None:
    event(log, logging.WARNING, "banned: nothing is sent", scope=scope, why=why, seconds=math.ceil(seconds))
