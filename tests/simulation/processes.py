"""Processes of the program as the world runs them: the real worker, watcher and webhook, with a doorbell of ours.

A process that dies or ends is started again a moment later, as the supervisor does. The doorbell loses rings when Redis
is away; what it carried is in the tables.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
from redis.exceptions import ConnectionError as RedisGone

import workers.feed
import workers.worker
from app.keys import Keys
from app.queue import EXECUTE_ALERT, EXECUTE_BOOK, LastPrice, SymbolFeed
from app.resources import Connected, Resources
from app.settings import Settings
from app.store import accounts
from app.store.db import store_errors
from app.venues.base import Origins, PublicListener
from app.venues.gate import Gate
from app.venues.numbers import instant
from tests.simulation.exchange import Exchange
from tests.simulation.memory.pool import MemoryPool
from tests.simulation.memory.tables import Tables
from tests.simulation.network import Network
from tests.simulation.streams import PublicStream
from tests.simulation.venue import SimulatedVenue
from tests.simulation.world import Proc, World
from workers import tasks
from workers.watcher import Watcher

KEYS = Keys(bytes(range(32)))
SETTINGS = Settings()
RING_S = 0.01
RECHECK_S = 1.0
current: ContextVar["House"] = ContextVar("current")


class Servers:
    """What the processes share besides the exchange: PostgreSQL, and the doorbell."""

    def __init__(self, world: World, tables: Tables, exchange: Exchange, network: Network) -> None:
        self.world = world
        self.tables = tables
        self.exchange = exchange
        self.network = network
        self.account_ids: list[UUID] = []
        self.postgres_away_until = 0.0
        self.redis_away_until = 0.0
        self.prices: dict[tuple[str, str], tuple[Decimal, int]] = {}
        self.workers: list[Callable[[str, Sequence[Any]], None]] = []
        self.hearing: list[Channel] = []

    @property
    def redis_is_away(self) -> bool:
        return self.world.loop.now < self.redis_away_until

    def ring(self, what: Callable[[], None]) -> None:
        """Perhaps it is heard, a moment later."""
        if self.redis_is_away or self.world.strikes("rings"):
            self.world.injected("redis", "a ring is lost")
            return
        self.world.loop.later(self.world.chance.random() * RING_S, what)

    def wake_a_worker(self, job: str, args: Sequence[Any]) -> None:
        if self.workers:
            self.world.chance.choice(self.workers)(job, args)

    def tell_watchers(self, message: str) -> None:
        for channel in list(self.hearing):
            channel.hear(message)

    def restart_postgres(self, seconds: float, late_lost: int) -> None:
        self.tables.server.crash(late_lost)
        self.postgres_away_until = self.world.loop.now + seconds
        self.world.injected("postgres", f"restarts, away for {seconds:.2f} s", until=self.postgres_away_until)

    def lose_redis(self, seconds: float) -> None:
        self.redis_away_until = self.world.loop.now + seconds
        self.world.injected("redis", f"away for {seconds:.2f} s", until=self.redis_away_until)
        for channel in list(self.hearing):
            channel.lose()


class Bell:
    """`app.queue.Doorbell`: hints."""

    def __init__(self, proc: Proc, servers: Servers) -> None:
        self.on_levels: Callable[[UUID], None] | None = None
        self._proc = proc
        self._servers = servers

    def alert(self, alert_id: UUID, symbol: str, account_ids: Sequence[UUID]) -> None:
        self._ring(EXECUTE_ALERT, (symbol, [str(one) for one in account_ids]))

    def book(self, account_id: UUID, symbol: str, why: str) -> None:
        self._ring(EXECUTE_BOOK, (str(account_id), symbol))

    def _ring(self, job: str, args: tuple[Any, ...]) -> None:
        if not self._proc.dead:
            self._servers.ring(lambda: self._servers.wake_a_worker(job, args))

    async def levels(self, position_id: UUID) -> None:
        if self.on_levels is not None and not self._proc.dead:
            self.on_levels(position_id)
        await self._proc.step("ring levels")
        self._servers.ring(lambda: self._servers.tell_watchers(str(position_id)))

    async def bans(self) -> None:
        return None

    def follow_soon(self, account_id: UUID, symbol: str) -> None:
        if not self._proc.dead:
            self._servers.ring(lambda: self._servers.tell_watchers(f"+{account_id}:{symbol}"))

    def __getattr__(self, name: str) -> Any:
        """What other rings there are concern nobody here."""

        async def nothing(*args: Any, **options: Any) -> None:
            return None

        return nothing


class Prices:
    """`app.queue.Prices`: last prices in Redis."""

    def __init__(self, proc: Proc, servers: Servers) -> None:
        self._proc = proc
        self._servers = servers

    async def put(self, market: str, prices: dict[str, tuple[Decimal, int]]) -> None:
        if prices and not self._proc.dead and not self._servers.redis_is_away:
            self._servers.prices |= {(market, symbol): price for symbol, price in prices.items()}

    async def put_marks(self, market: str, prices: dict[str, tuple[Decimal, int]]) -> None:
        return None

    async def put_feeds(self, watcher: str, feeds: list[SymbolFeed]) -> None:
        return None

    async def get(self, market: str, symbol: str) -> LastPrice | None:
        await self._proc.step("price")
        found = None if self._servers.redis_is_away else self._servers.prices.get((market, symbol))
        return None if found is None else LastPrice(price=found[0], at=instant(found[1]))


class Channel:
    """A subscription to what changes of levels."""

    def __init__(self, proc: Proc, servers: Servers) -> None:
        self._proc = proc
        self._servers = servers
        self._heard: list[str] = []
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *error: object) -> None:
        self._end()

    def _end(self) -> None:
        if self in self._servers.hearing:
            self._servers.hearing.remove(self)

    async def subscribe(self, channel: str) -> None:
        await self._proc.step("subscribe")
        if self._servers.redis_is_away:
            raise RedisGone("redis is away")
        self._servers.hearing.append(self)
        self._proc.on_death.append(self._end)

    async def get_message(self, timeout: float) -> dict[str, Any] | None:
        loop = self._proc.world.loop
        if not self._heard and not self._lost:
            self._waiter = loop.pause(timeout)
            await self._waiter
        await self._proc.awake()
        if self._lost:
            self._end()
            raise RedisGone("redis is away")
        return {"data": self._heard.pop(0).encode()} if self._heard else None

    def hear(self, message: str) -> None:
        self._heard.append(message)
        self._wake()

    def lose(self) -> None:
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Redis:
    """What is asked of the client itself: a subscription."""

    def __init__(self, proc: Proc, servers: Servers) -> None:
        self._proc = proc
        self._servers = servers

    def pubsub(self, **options: Any) -> Channel:
        return Channel(self._proc, self._servers)


class Queue:
    """In place of arq's worker: a ring begins its job at once."""

    def __init__(self, *, ctx: dict[str, Any], **options: Any) -> None:
        self._ctx = ctx
        self._functions = {one.name: one.coroutine for one in tasks.FUNCTIONS}

    async def main(self) -> None:
        house = current.get()
        async with asyncio.TaskGroup() as group:

            def ring(job: str, args: Sequence[Any]) -> None:
                if not house.proc.dead and not group._aborting:  # type: ignore[attr-defined]
                    group.create_task(self._begin(job, args), context=house.proc.context.copy())

            house.servers.workers.append(ring)
            house.proc.on_death.append(lambda: house.servers.workers.remove(ring))
            await house.proc.world.loop.create_future()

    async def _begin(self, job: str, args: Sequence[Any]) -> None:
        try:
            await current.get().proc.awake()
            await self._functions[job](self._ctx, *args)
        except Exception as error:
            current.get().proc.world.say(current.get().proc.name, "job failed:", repr(error))


class Venues:
    """`app.resources.Venues`: the accounts' adapters."""

    def __init__(self, proc: Proc, servers: Servers, pool: MemoryPool) -> None:
        self._proc = proc
        self._servers = servers
        self._pool = pool
        self._open: dict[UUID, Connected] = {}
        self._checked: dict[UUID, float] = {}

    async def load(self) -> None:
        return None

    async def of(self, account_id: UUID) -> Connected:
        now = self._proc.world.loop.now
        if now < self._checked.get(account_id, -1e9) + RECHECK_S:
            return self._open[account_id]
        with store_errors():
            row = await accounts.get(self._pool, account_id)
        assert row is not None
        self._checked[account_id] = self._proc.world.loop.now
        known = self._open.get(account_id)
        if known is None:
            servers = self._servers
            number = servers.account_ids.index(account_id)
            origin = f"sim://{row.venue}"
            venue = SimulatedVenue(self._proc, servers.network, servers.exchange, number)
            gate = Gate(clock=self._proc.world.loop.time)
            known = self._open[account_id] = Connected(row, Origins(rest=origin, ws=origin), venue, gate)
        return known


class House:
    """One process and what it holds open."""

    def __init__(self, world: World, servers: Servers, name: str) -> None:
        self.world = world
        self.servers = servers
        self.proc = Proc(world, name)
        self.pool = MemoryPool(servers.tables, world.loop.now_at, self._hook)
        self.proc.on_death.append(self.pool.abandon)
        self.proc.in_transaction = self._in_transaction
        self.resources = Resources(SETTINGS, self.pool, Redis(self.proc, servers), KEYS, self.proc.now_at)  # type: ignore[arg-type]
        self.resources.bell = Bell(self.proc, servers)  # type: ignore[assignment]
        self.resources.prices = Prices(self.proc, servers)  # type: ignore[assignment]
        self.resources.venues = Venues(self.proc, servers, self.pool)  # type: ignore[assignment]
        self.tasks: set[asyncio.Task[Any]] = set()  # kept: one that nobody holds may be collected in mid-step
        self.looks: list[Callable[[House, str], None]] = []  # before and after each commit

    def _in_transaction(self) -> bool:
        holder = self.servers.tables.server.holder
        return holder is not None and holder.owner is self.pool

    async def _hook(self, step: str) -> None:
        for look in self.looks:
            look(self, step)
        await self.proc.step(step)
        world = self.world
        if world.calm:
            return
        if world.loop.now < self.servers.postgres_away_until or world.strikes("statements"):
            world.injected(self.proc.name, "connection lost at", step)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


async def run(house: House) -> None:
    """The program of this process, until it ends by itself."""
    current.set(house)
    house.proc.context = copy_context()  # what the world calls in this process runs as its own
    if house.proc.name.startswith("worker"):
        await workers.worker.Process(house.resources).run()
    elif house.proc.name.startswith("watcher"):
        await Watcher(house.resources).run()
    else:
        await house.world.loop.create_future()


def _public_stream(venue: str, origins: Origins, listener: PublicListener) -> PublicStream:
    house = current.get()
    return PublicStream(house.proc, house.servers.exchange, listener)


@contextmanager
def replaced() -> Iterator[None]:
    """The two places where a process would open a socket."""
    feed: Any = workers.feed
    before = feed.open_public_stream, workers.worker.WokenWorker
    feed.open_public_stream, workers.worker.WokenWorker = _public_stream, Queue  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        feed.open_public_stream, workers.worker.WokenWorker = before  # type: ignore[misc]
