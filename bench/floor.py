"""What the machine itself takes: one durable commit and one loopback HTTP round trip, by bare clients.

Taken between the measured samples of the same run, spaced like them, so that a busy machine slows both.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import asyncpg

from app.domain.order import Side
from app.ids import new_id
from app.keys import Credentials
from app.queue import deserialize, open_redis, serialize
from app.venues.base import NewOrder, Origins
from app.venues.bybit.venue import BybitVenue
from bench.report import Summary, summary
from bench.stack import API_KEY, API_SECRET, Stack
from bench.wire import Wire

BODY = b'{"symbol":"B00USDT","side":"Buy","orderType":"Market","qty":"1","orderLinkId":"LH0123456789"}'
INSERT = "INSERT INTO bench_floor (body) VALUES ($1)"
REFERENCE_GAP_MS = (8, 16)
QUEUE, WAKE = "bench:jobs", "bench:wake"


class Floor:
    """Both halves, each with a warm connection of its own."""

    def __init__(self, connection: Any, wire: Wire) -> None:
        self._connection = connection
        self._wire = wire
        self.commits_ns: list[int] = []
        self.round_trips_ns: list[int] = []

    @classmethod
    async def open(cls, stack: Stack) -> "Floor":
        connection = await asyncpg.connect(stack.settings.database_url.reveal())
        settings = await connection.fetchrow("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
        assert tuple(settings) == ("on", "on"), "the floor is a durable commit"
        await connection.execute(
            "CREATE TABLE bench_floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)"
        )
        return cls(connection, await Wire.open(stack.exchange_url))

    async def sample(self) -> None:
        before = time.perf_counter_ns()
        await self._connection.execute(INSERT, BODY.decode())  # a transaction by itself: answered after its commit
        committed = time.perf_counter_ns()
        status, _ = await self._wire.post("/bench/floor", BODY)
        after = time.perf_counter_ns()
        assert status == 200
        self.commits_ns.append(committed - before)
        self.round_trips_ns.append(after - committed)

    def forget(self) -> None:
        """What was taken while everything warmed up."""
        self.commits_ns.clear()
        self.round_trips_ns.clear()

    def rows(self) -> dict[str, Summary]:
        return {
            "one INSERT + COMMIT": summary(self.commits_ns),
            "one HTTP round trip": summary(self.round_trips_ns),
            "floor: both": self.sum(),
        }

    def sum(self) -> Summary:
        return summary([a + b for a, b in zip(self.commits_ns, self.round_trips_ns, strict=True)])

    async def close(self) -> None:
        await self._wire.close()
        await self._connection.close()


async def references(stack: Stack, count: int, rng: random.Random) -> dict[str, Summary]:
    """Single steps by themselves, spaced: what the paths above are made of."""
    connection = await asyncpg.connect(stack.settings.database_url.reveal())
    canned = await Wire.open(stack.canned_url)
    venue = BybitVenue(
        Credentials(api_key=API_KEY, api_secret=API_SECRET), Origins(rest=stack.canned_url, ws="", ws_orders="")
    )
    rung, hand = open_redis(stack.settings.redis_url.reveal()), open_redis(stack.settings.redis_url.reveal())
    pool = stack.resources.pool

    async def wake() -> None:
        waiting = asyncio.ensure_future(cast("Awaitable[object]", rung.blpop([WAKE], timeout=2)))
        await asyncio.sleep(0.002)
        marks.append(time.perf_counter_ns())
        await cast("Awaitable[int]", hand.lpush(WAKE, b"1"))
        await waiting

    marks: list[int] = []  # a step that waits before it is measured says when it began
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "SELECT on a warm connection": lambda: connection.fetchval("SELECT 1"),
        "SELECT through the pool": lambda: pool.fetchval("SELECT 1"),
        "PUBLISH to Redis": lambda: hand.publish("bench", "1"),
        "Redis list, push to woken": wake,
        "arq's enqueue": lambda: hand.enqueue_job("none", _job_id=str(new_id()), _queue_name=QUEUE),
        "HTTP to a canned server": lambda: canned.post("/", BODY),
    }
    taken: dict[str, list[int]] = {name: [] for name in steps}
    placed: list[int] = []
    whole: list[int] = []
    try:
        hand.job_serializer, hand.job_deserializer = serialize, deserialize
        await stack.seen()
        for _ in range(count):
            for name, step in steps.items():
                await asyncio.sleep(rng.uniform(*REFERENCE_GAP_MS) / 1000)
                marks.clear()
                before = time.perf_counter_ns()
                await step()
                taken[name].append(time.perf_counter_ns() - (marks[0] if marks else before))
            await asyncio.sleep(rng.uniform(*REFERENCE_GAP_MS) / 1000)
            order = NewOrder(
                client_order_id=f"bench-{new_id()}"[:36],
                symbol=stack.symbols[0],
                side=Side.SELL,
                qty=Decimal(1),
                reduce_only=True,
                signed_at=datetime.now(UTC),
            )
            called_ns = time.time_ns()
            await venue.place(order)
            whole.append(time.time_ns() - called_ns)
            [arrived] = [x for x in (await stack.seen()).orders if x.client_order_id == order.client_order_id]
            placed.append(arrived.at_ns - called_ns)
    finally:
        await hand.delete(QUEUE, WAKE)
        await connection.close()
        await canned.close()
        await venue.close()
        await rung.aclose(close_connection_pool=True)
        await hand.aclose(close_connection_pool=True)
    rows = {name: summary(values[1:]) for name, values in taken.items()}
    rows["pybit place(), call to last byte there"] = summary(placed[1:])
    rows["pybit place(), call to answer"] = summary(whole[1:])
    return rows
