"""The doorbell: Redis carries ids and nothing else. Job names, typed enqueue functions, the JSON serializer.

A ring is a hint. When Redis is down it is lost, and the sweep of the tables rings (or works) instead; so no function
here raises because Redis does not answer.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.gather import Gather
from app.log import event

log = logging.getLogger("queue")

QUEUE = "levelhead:jobs"  # arq's sorted set of job ids
WAKE = "levelhead:wake"  # list: the jobs that were enqueued just now; a worker waits on it instead of polling
LEVELS = "levelhead:levels"  # pub/sub: a position id whose levels changed, or "+account:symbol" to follow its price
BANS = "levelhead:bans"  # pub/sub: a ban was written; look into the table
SENT = "levelhead:sent:"  # + address and limit: hash process -> "requests in the last seconds, at_ms"
FEEDS = "levelhead:feeds"  # set of the watchers that have told something
FEEDS_OF = "levelhead:feeds:"  # + watcher: JSON of what it hears of its symbols, gone when it stops writing
PRICES = "levelhead:prices:"  # + the market's name: hash symbol -> "price at_ms"
MARKS = "levelhead:marks:"  # the same of mark prices

EXECUTE_ALERT = "execute_alert"
EXECUTE_BOOK = "execute_book"

RING_TIMEOUT_S = 0.3
WAKES_MAX = 1000

# `repr` is for exceptions: arq writes those of jobs that it gave up.
serialize: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=repr).encode
deserialize: Callable[[bytes], Any] = msgspec.json.Decoder().decode


def open_redis(url: str) -> ArqRedis:
    """A client that connects when it is first used, and again by itself after Redis was away."""
    pool = ConnectionPool.from_url(url, socket_connect_timeout=1, socket_timeout=5)
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=QUEUE,
    )


class Rung(msgspec.Struct, frozen=True, array_like=True):
    """An element of WAKE."""

    job_id: str
    job: str
    args: list[Any]


class Doorbell:
    """Rings for workers and watchers."""

    def __init__(self, redis: ArqRedis) -> None:
        self.on_levels: Callable[[UUID], None] | None = None  # who in this process hears of levels without Redis
        self._redis = redis
        self._quiet = False
        self._soon: set[asyncio.Task[None]] = set()
        self._jobs: Gather[Rung, None] = Gather(self._ring_for)

    def alert(self, alert_id: UUID, symbol: str, account_ids: Sequence[UUID]) -> None:
        """There is a new alert for these accounts' books. Does not wait."""
        ids = [str(account_id) for account_id in account_ids]
        self._ring_soon(Rung(str(alert_id), EXECUTE_ALERT, [symbol, ids]))

    def book(self, account_id: UUID, symbol: str, why: str) -> None:
        """There is work in a book; `why` makes the job id, so that equal rings are one. Does not wait."""
        self._ring_soon(Rung(f"{account_id}:{symbol}:{why}", EXECUTE_BOOK, [str(account_id), symbol]))

    def _ring_soon(self, job: Rung) -> None:
        if len(self._jobs) < WAKES_MAX:  # else Redis is stuck, and the sweep takes over
            self._jobs(job)

    async def close(self) -> None:
        """Let the last rings leave."""
        await self._jobs.settled(RING_TIMEOUT_S)

    async def levels(self, position_id: UUID) -> None:
        """Levels of a position were armed, moved or disarmed."""
        if self.on_levels is not None:
            self.on_levels(position_id)
        await self._ring(lambda: self._redis.publish(LEVELS, str(position_id)))

    async def bans(self) -> None:
        """A ban was written."""
        await self._ring(lambda: self._redis.publish(BANS, ""))

    def follow_soon(self, account_id: UUID, symbol: str) -> None:
        """Somebody is about to trade this: have its prices at hand. Does not wait."""
        task = asyncio.create_task(self._ring(lambda: self._redis.publish(LEVELS, f"+{account_id}:{symbol}")))
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def _enqueue(self, jobs: Sequence[Rung]) -> None:
        """As `ArqRedis.enqueue_job` of 0.28 writes it, with the ring, in one round trip instead of four for each.

        It does not ask whether the job is there already: an equal job replaces it. The ring carries the job, so that a
        worker that waits begins at once; arq's queue keeps it for when none does, until one comes: a command for each
        job, which would give it an end, takes twice as long as all the rest.
        """
        now_ms = int(time.time() * 1000)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(WAKE, *map(serialize, jobs))  # first: whoever waits sets off meanwhile
            pipe.mset({job_key_prefix + one.job_id: _body(one, now_ms) for one in jobs})
            pipe.zadd(QUEUE, {one.job_id: now_ms for one in jobs})
            pipe.ltrim(WAKE, 0, WAKES_MAX)
            await pipe.execute()

    async def _ring_for(self, jobs: Sequence[Rung]) -> Sequence[None]:
        await self._ring(lambda: self._enqueue(jobs))
        return [None] * len(jobs)

    async def _ring(self, ring: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with asyncio.timeout(RING_TIMEOUT_S):
                await ring()
        except (RedisError, OSError, TimeoutError) as error:
            if not self._quiet:
                event(log, logging.WARNING, "redis does not answer; the sweep takes over", error=type(error).__name__)
            self._quiet = True
        else:
            self._quiet = False


def _body(rung: Rung, now_ms: int) -> bytes:
    return serialize_job(rung.job, tuple(rung.args), {}, None, now_ms, serializer=serialize)


class LastPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The last price that a watcher saw; `at` is its exchange time."""

    price: Decimal
    at: datetime

    def age_s(self, now: datetime) -> float:
        return (now - self.at).total_seconds()


async def wait_for_ring(redis: ArqRedis, timeout_s: int) -> Rung | None:
    """The next job that was rung for; None after `timeout_s` without one. Raises RedisError and OSError."""
    heard = await cast("Awaitable[list[bytes] | None]", redis.blpop([WAKE], timeout=timeout_s))
    return None if heard is None else msgspec.json.decode(heard[1], type=Rung)


async def forget(redis: ArqRedis, job_id: str) -> None:
    """The job was done on its ring: take it out of arq's queue."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zrem(QUEUE, job_id)
        pipe.delete(job_key_prefix + job_id)
        await pipe.execute()


SENT_TTL_S = 60


class Traffic:
    """How many requests each process sent to an address of late, where only we count them. A hint, never the truth."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._process = str(uuid4())

    async def share(self, what: str, sent: int, *, window_s: float) -> int:
        """Say how many this process sent in the last `window_s` seconds; answers how many the others did.

        0 when Redis does not answer. All who share an address share a clock, or nearly so.
        """
        now_ms = int(time.time() * 1000)
        try:
            async with asyncio.timeout(RING_TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
                pipe.hset(SENT + what, self._process, f"{sent} {now_ms}")
                pipe.expire(SENT + what, SENT_TTL_S)
                pipe.hgetall(SENT + what)
                found: dict[bytes, bytes] = (await pipe.execute())[-1]
                said = {process.decode(): tuple(map(int, text.split())) for process, text in found.items()}
                if gone := [process for process, (_, at_ms) in said.items() if now_ms - at_ms > SENT_TTL_S * 1000]:
                    pipe.hdel(SENT + what, *gone)
                    await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            return 0
        return sum(
            count
            for process, (count, at_ms) in said.items()
            if process != self._process and now_ms - at_ms <= window_s * 1000
        )


class FireLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Of the fires of the last minute: from the tick that crossed the level to the close that leaves for the wire."""

    count: int
    p50_ms: float
    p99_ms: float


class SymbolFeed(msgspec.Struct, frozen=True, kw_only=True):
    """What a watcher hears of one symbol: `age_ms` since its last trade, None before the first."""

    watcher: str
    """Which of the watchers follows it: the end of its id."""
    market: str
    symbol: str
    linked: bool
    age_ms: int | None
    levels: int
    """How many are armed."""
    ticks_per_s: float
    """Trades heard in the last second."""
    fires: FireLatency | None
    """None when nothing was fired in the last minute."""


FEEDS_TTL_S = 5


class Prices:
    """Last prices, written by watchers, for whoever can live with one that is a moment old. Never the truth."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def put(self, market: str, prices: dict[str, tuple[Decimal, int]]) -> None:
        """Write symbol -> (last price, exchange time in ms)."""
        await self._put(PRICES + market, prices)

    async def put_marks(self, market: str, prices: dict[str, tuple[Decimal, int]]) -> None:
        """Write symbol -> (mark price, exchange time in ms)."""
        await self._put(MARKS + market, prices)

    async def _put(self, key: str, prices: dict[str, tuple[Decimal, int]]) -> None:
        if not prices:
            return
        try:
            mapping = {symbol: f"{price} {at_ms}" for symbol, (price, at_ms) in prices.items()}
            await self._redis.hset(key, mapping=mapping)  # type: ignore[misc]
        except (RedisError, OSError):
            return  # whoever reads finds an old one and asks the venue

    async def put_feeds(self, watcher: str, feeds: list[SymbolFeed]) -> None:
        """Say how well this watcher's symbols are heard, for health."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(FEEDS_OF + watcher, serialize(feeds), ex=FEEDS_TTL_S)
                pipe.sadd(FEEDS, watcher)
                await pipe.execute()
        except (RedisError, OSError):
            return

    async def feeds(self) -> list[SymbolFeed]:
        """What the watchers said last; nothing of one for whom that is too long ago, or if Redis does not answer."""
        try:
            async with asyncio.timeout(RING_TIMEOUT_S):
                told: set[bytes] = await self._redis.smembers(FEEDS)  # type: ignore[misc]
                if not told:
                    return []
                watchers = sorted(one.decode() for one in told)
                texts: list[bytes | None] = await self._redis.mget([FEEDS_OF + one for one in watchers])
                if silent := [one for one, text in zip(watchers, texts, strict=True) if text is None]:
                    await self._redis.srem(FEEDS, *silent)  # type: ignore[misc]
        except (RedisError, OSError, TimeoutError):
            return []
        found: list[SymbolFeed] = []
        for text in texts:
            with suppress(msgspec.MsgspecError):  # told by another version
                found += [] if text is None else msgspec.json.decode(text, type=list[SymbolFeed])
        return found

    async def get(self, market: str, symbol: str) -> LastPrice | None:
        """The last price, or None when there is none or Redis does not answer."""
        return await self._get(PRICES + market, symbol)

    async def get_mark(self, market: str, symbol: str) -> LastPrice | None:
        """The mark price, or None when there is none or Redis does not answer."""
        return await self._get(MARKS + market, symbol)

    async def _get(self, key: str, symbol: str) -> LastPrice | None:
        try:
            async with asyncio.timeout(RING_TIMEOUT_S):
                raw: bytes | None = await self._redis.hget(key, symbol)  # type: ignore[misc]
        except (RedisError, OSError, TimeoutError):
            return None
        if raw is None:
            return None
        price, at_ms = raw.decode().split()
        return LastPrice(price=Decimal(price), at=datetime.fromtimestamp(int(at_ms) / 1000, UTC))
