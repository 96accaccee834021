"""Calls that come while one is under way go together in the next: one round trip, and one commit, for many of them.

Nobody waits for company. A call that finds nothing under way sets off at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

TOGETHER_MAX: Final = 100  # calls in one go
PATIENCE_S: Final = 2.0  # with one go, however many wait behind it


class _Call(Generic[T, R]):
    """One that waits for its result."""

    __slots__ = ("item", "told")

    def __init__(self, item: T) -> None:
        self.item = item
        self.told: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    def tell(self, result: R) -> None:
        if not self.told.done():  # nobody waits any more
            self.told.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.told.done():
            self.told.set_exception(error)


class Gather(Generic[T, R]):
    """`together` answers a result for each of its items, in their order; there is one go of it at a time.

    What fails together is tried once more apart, so that one item does not hurt the others: a go that fails must have
    done nothing, or be able to do it again. Items that have the same key (`apart`) are not in one go.
    """

    def __init__(
        self, together: Callable[[list[T]], Awaitable[Sequence[R]]], *, apart: Callable[[T], Hashable] | None = None
    ) -> None:
        self._together = together
        self._apart = apart
        self._waiting: list[_Call[T, R]] = []
        self._under_way: asyncio.Task[None] | None = None
        self._alone: set[asyncio.Task[None]] = set()  # the loop would forget them

    def __call__(self, item: T) -> asyncio.Future[R]:
        """What will have the result of this item, or what it failed of."""
        call: _Call[T, R] = _Call(item)
        self._waiting.append(call)
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._go())
        return call.told

    def __len__(self) -> int:
        """How many wait for the next go."""
        return len(self._waiting)

    async def settled(self, timeout_s: float) -> None:
        """Wait until nobody waits any more, but not for long."""
        if self._under_way is not None:
            await asyncio.wait({self._under_way}, timeout=timeout_s)

    async def _go(self) -> None:
        try:
            while calls := self._next():
                error = await self._try(calls)
                if error is not None and len(calls) == 1:
                    calls[0].fail(error)
                elif error is not None:
                    for call in calls:
                        self._alone.add(task := asyncio.create_task(self._by_itself(call)))
                        task.add_done_callback(self._alone.discard)
        finally:
            self._under_way = None

    def _next(self) -> list[_Call[T, R]]:
        """Take what goes now: the oldest for whom somebody still waits, but no two of one key."""
        going: list[_Call[T, R]] = []
        later: list[_Call[T, R]] = []
        keys: set[Hashable] = set()
        for call in self._waiting:
            if call.told.done():
                continue
            key = call if self._apart is None else self._apart(call.item)
            if len(going) == TOGETHER_MAX or key in keys:
                later.append(call)
            else:
                keys.add(key)
                going.append(call)
        self._waiting = later
        return going

    async def _try(self, calls: list[_Call[T, R]]) -> Exception | None:
        """Tell all their results; or else why there are none."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                results = await self._together([call.item for call in calls])
            for call, result in zip(calls, results, strict=True):
                call.tell(result)
        except Exception as error:
            return error
        return None

    async def _by_itself(self, call: _Call[T, R]) -> None:
        error = await self._try([call])
        if error is not None:
            call.fail(error)
