"""An event loop without time: when nothing is ready it jumps to the next timer. No I/O, no threads, nothing real."""

import asyncio
import gc
import itertools
import time
from asyncio import TimerHandle
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from types import SimpleNamespace
from typing import Any

import workers.watcher
from app import ids
from app.venues.binance import rows as binance_rows

EPOCH = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)
EPOCH_S = EPOCH.timestamp()
_sleep = asyncio.sleep


class Stuck(Exception):
    """Nothing is ready and no timer is set: everybody waits for somebody."""


class Task(asyncio.Task[Any]):
    """A task whose hash does not depend on where it lies in memory: sets of tasks have one order in every run."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Soon:
    """What is to be run in this turn: a handle with nothing but what is needed."""

    __slots__ = ("args", "callback", "cancelled", "context")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` are virtual seconds since the world began."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0
        self._read = 0.0, EPOCH
        self._numbers = itertools.count(1)
        self._timers: list[
            tuple[float, int, Any]
        ] = []  # with a handle that is to be run, or a future that is to be done
        self._timer_numbers = itertools.count()
        self._ready: Any
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]
        self.set_exception_handler(lambda loop, context: None)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = Task(coro, loop=loop, **options)
        task.number = next(self._numbers)
        return task

    def time(self) -> float:
        return self.now

    def now_at(self) -> datetime:
        """The wall clock of this world."""
        if self._read[0] != self.now:
            self._read = self.now, EPOCH + timedelta(seconds=self.now)
        return self._read[1]

    def now_ms(self) -> int:
        return int((EPOCH_S + self.now) * 1000)

    def later(self, seconds: float, what: Callable[..., None], *args: object) -> TimerHandle:
        return self.call_at(self.now + seconds, what, *args)

    def pause(self, seconds: float) -> "asyncio.Future[None]":
        """As `asyncio.sleep`, cheaper."""
        future: asyncio.Future[None] = self.create_future()
        heappush(self._timers, (self.now + seconds, next(self._timer_numbers), future))
        return future

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        handle = TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        soon = Soon(callback, args, copy_context() if context is None else context)
        self._ready.append(soon)
        return soon

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        while not ready:
            if not timers:
                raise Stuck
            when, _, due = heappop(timers)
            if when > self.now:
                self.now = when
            if isinstance(due, TimerHandle):
                if not due._cancelled:
                    due._run()
            elif not due.done():
                due.set_result(None)
        self.turns += 1
        take = ready.popleft
        for _ in range(len(ready)):
            soon = take()
            if not soon.cancelled:
                soon.context.run(soon.callback, *soon.args)

    def _write_to_self(self) -> None:
        raise AssertionError("a thread: nothing here may have any")


async def _inline(what: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
    return what(*args, **options)


@contextmanager
def virtual(loop: VirtualLoop, chance: Random) -> Iterator[None]:
    """Whatever asks for time or randomness gets this world's; nothing runs in a thread."""

    async def sleep(delay: float, result: Any = None) -> Any:
        await (loop.pause(delay) if delay > 0 else _sleep(0))
        return result

    nothing = SimpleNamespace(collect=lambda: 0, freeze=lambda: None)
    own = SimpleNamespace(urandom=chance.randbytes)
    clock = SimpleNamespace(time_ns=lambda: int((EPOCH_S + loop.now) * 1e9))
    replaced = [
        (time, "monotonic", loop.time),
        (time, "time", lambda: EPOCH_S + loop.now),
        (asyncio, "sleep", sleep),
        (asyncio, "to_thread", _inline),
        (ids, "os", own),
        (ids, "time", clock),
        (binance_rows, "os", own),
        (workers.watcher, "gc", nothing),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in replaced]
    # The tasks of worlds before this one that no collection has taken yet have its tasks' numbers, and so their hashes.
    known: Any = getattr(asyncio.tasks, "_all_tasks", ())
    if known:
        known.clear()
    collecting = gc.isenabled()
    gc.disable()  # a collection runs finalizers at a moment of its own choice
    try:
        for where, name, value in replaced:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
        if collecting:
            gc.enable()
