"""The worker process: arq jobs that a Redis list wakes, a sweep for what no job woke, and the reconciler.

arq polls its queue each half second; here a ring (an element in a list) starts its job at once. Everything that matters
is in PostgreSQL: a lost, doubled or late job changes nothing but the time it takes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import uvloop
from arq.worker import Worker as ArqWorker
from redis.exceptions import RedisError

from app.beat import beating
from app.errors import LevelheadError
from app.flows import execute, notices, reconcile
from app.ids import new_id
from app.log import event
from app.queue import QUEUE, Rung, deserialize, forget, serialize, wait_for_ring
from app.resources import Resources, open_resources
from app.settings import Settings
from app.store import inbox, leases, rejected
from app.store.db import store_errors
from workers import tasks
from workers.stop import end_all, heed_cancellation, until_asked_to_stop
from workers.succession import free_leases_of_the_dead, own_id

log = logging.getLogger("worker")

LEASE_TTL_S = 4.0
HEARTBEAT_S = 1.0
SWEEP_S = 1.0
SWEEP_BOOKS_MAX = 200
ASK_ORDERS_S = 2.0  # about orders whose end is not known
RECONCILE_S = 6.0  # all that is held
NOTICE_S = 5.0  # keys that are refused, instruments that are halted
FORGET_S = 3600.0  # what is kept for a while only
RECONCILER_TTL_S = 8.0
POLL_S = 1.0  # a look at the queue without a ring: for jobs that were put off
JOB_TIMEOUT_S = 60
REDIS_PAUSE_S = 0.5
RING_WAIT_S = 2
DRAIN_S = 8.0


class WokenWorker(ArqWorker):
    """arq's worker, woken instead of polling, and patient with a Redis that restarts.

    A ring carries its job: with a hand free it is begun at once, without arq's five round trips to pick it up. What
    rings while all hands are busy, or while no worker lives, waits in arq's queue.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(after_job_end=self._job_ended, **options)
        self._wake = asyncio.Event()
        self._begun: set[asyncio.Task[None]] = set()

    async def _job_ended(self, ctx: dict[str, Any]) -> None:
        self._wake.set()  # a full worker may take the next job now

    async def main(self) -> None:
        """arq's own loop without its poll; see `arq.worker.Worker.main` of 0.28."""
        self.ctx["redis"] = self.pool
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(group))
                await self._poll()
        finally:
            await end_all(self.tasks.values())

    async def _poll(self) -> None:
        while True:
            heed_cancellation()
            self._wake.clear()
            try:
                await self._poll_iteration()
            except (RedisError, OSError) as error:
                event(log, logging.WARNING, "redis does not answer; the sweep goes on", error=type(error).__name__)
                await asyncio.sleep(REDIS_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            heed_cancellation()
            try:
                rung = await wait_for_ring(self.pool, RING_WAIT_S)
            except (RedisError, OSError):
                await asyncio.sleep(REDIS_PAUSE_S)
                continue
            except msgspec.MsgspecError:
                continue  # rung by another version: its job is in the queue
            if rung is None:
                continue
            if rung.job in self.functions and len(self._begun) + self.job_counter < self.max_jobs:
                task = group.create_task(self._begin(rung))
                self._begun.add(task)
                task.add_done_callback(self._begun.discard)
            else:
                self._wake.set()

    async def _begin(self, rung: Rung) -> None:
        try:
            await self.functions[rung.job].coroutine(self.ctx, *rung.args)
            await forget(self.pool, rung.job_id)
        except (LevelheadError, RedisError, OSError) as error:
            event(log, logging.WARNING, "the queue will try again", job=rung.job_id, why=str(error))
        except Exception:
            log.exception("job failed; the queue will try again")
        self._wake.set()


class Process:
    """One worker process: its lease, its sweep, its reconciler, its jobs."""

    lease: ClassVar[str] = "worker:"

    def __init__(self, resources: Resources, id: UUID | None = None) -> None:
        self.resources = resources
        self.worker = execute.Worker(id or new_id())
        self.memory = reconcile.Memory()
        self.token = 0  # of our lease
        self._sweeping: set[asyncio.Task[None]] = set()

    @property
    def id(self) -> UUID:
        return self.worker.id

    async def run(self) -> None:
        await self._renew()
        queue = WokenWorker(
            functions=tasks.FUNCTIONS,
            queue_name=QUEUE,
            redis_pool=self.resources.redis,
            ctx={"resources": self.resources, "worker": self.worker},
            handle_signals=False,
            max_jobs=self.resources.settings.worker_jobs,
            job_timeout=JOB_TIMEOUT_S,
            keep_result=0,
            max_tries=3,
            job_serializer=serialize,
            job_deserializer=deserialize,
            log_results=False,
        )
        event(log, logging.INFO, "worker ready", jobs=self.resources.settings.worker_jobs)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._every(HEARTBEAT_S, self._renew))
                group.create_task(self._every(SWEEP_S, self._sweep))
                group.create_task(self._every(ASK_ORDERS_S, self._ask_orders))
                group.create_task(self._every(RECONCILE_S, self._reconcile))
                group.create_task(self._every(NOTICE_S, self._notice))
                group.create_task(self._every(FORGET_S, self._forget))
                group.create_task(queue.main())
        finally:
            await end_all(self._sweeping)
            with suppress(LevelheadError, OSError), store_errors():
                await leases.release(self.resources.pool, self.lease + str(self.id), self.id, self.token)

    async def drain(self) -> None:
        """Begin nothing more, and let the books that are being worked on come to a point of rest."""
        self.worker.stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.worker.idle()

    async def _every(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        """For ever; a failure is said once per kind of trouble and does not end the process."""
        trouble: str | None = None
        while True:
            heed_cancellation()
            try:
                await what()
                trouble = None
            except LevelheadError as error:
                if trouble != str(error):
                    trouble = str(error)
                    event(log, logging.WARNING, "will try again", doing=what.__name__.strip("_"), why=trouble)
            except Exception:
                log.exception("%s failed", what.__name__.strip("_"))
            await asyncio.sleep(seconds)

    async def _renew(self) -> None:
        with store_errors():
            token = await leases.acquire(self.resources.pool, self.lease + str(self.id), self.id, ttl_s=LEASE_TTL_S)
        assert token is not None, "no other process has this name"
        self.token = token

    async def _sweep(self) -> None:
        """Work on whatever waits and nobody is at: a ring was lost, a worker died, a retry is due."""
        with store_errors():
            waiting = await inbox.waiting_books(self.resources.pool, limit=SWEEP_BOOKS_MAX)
        for account_id, symbol in waiting:
            if len(self._sweeping) >= self.resources.settings.worker_jobs:
                return
            if (account_id, symbol) not in self.worker.busy:
                task = asyncio.create_task(self._book(account_id, symbol))
                self._sweeping.add(task)
                task.add_done_callback(self._sweeping.discard)

    async def _book(self, account_id: UUID, symbol: str) -> None:
        try:
            await execute.execute_book(self.resources, self.worker, account_id, symbol)
        except LevelheadError as error:
            event(log, logging.WARNING, "book put off", symbol=symbol, why=str(error))
        except Exception:
            log.exception("book failed")

    async def _ask_orders(self) -> None:
        if await self._is_reconciler():
            await reconcile.all_orders(self.resources, self.memory)

    async def _reconcile(self) -> None:
        if await self._is_reconciler():
            await reconcile.all_accounts(self.resources, self.memory)

    async def _notice(self) -> None:
        if await self._is_reconciler():
            await notices.all_accounts(self.resources)
            await notices.all_strategies(self.resources)

    async def _forget(self) -> None:
        with store_errors():
            await rejected.forget(self.resources.pool)

    async def _is_reconciler(self) -> bool:
        """One worker of all compares with the exchanges at a time."""
        with store_errors():
            token = await leases.acquire(self.resources.pool, "reconciler", self.id, ttl_s=RECONCILER_TTL_S)
        return token is not None


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; what cannot be finished then is resumed by the next worker."""
    async with beating(), open_resources(settings) as resources:
        await resources.venues.load()
        await free_leases_of_the_dead(resources.pool)
        process = Process(resources, own_id())
        await until_asked_to_stop(process.run(), process.drain)


def serve(settings: Settings) -> int:
    """`levelhead worker`."""
    uvloop.run(run(settings))
    return 0
