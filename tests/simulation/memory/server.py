"""The server's side of transactions: one after the other, and what a crash undoes."""

import asyncio
from collections import deque
from collections.abc import Callable

import asyncpg

from tests.simulation.memory.transaction import Transaction

LATE_MAX = 64  # commits that a crash of the server may undo, at most


class WaitsForItself(BaseException):
    """In PostgreSQL that may be harmless, or not; here it would wait for ever."""


class Server:
    """What all processes share beside the rows: whose turn it is, and which commits are not on disk yet."""

    def __init__(self) -> None:
        self.holder: Transaction | None = None
        self.waiting: deque[tuple[asyncio.Future[None], Transaction]] = deque()
        self.crashes = 0
        self.on_commit: Callable[[], None] | None = None  # called after each commit that changed anything
        self.late: deque[Transaction] = deque(maxlen=LATE_MAX)  # committed, but not waited for on disk

    async def turn(self, x: Transaction) -> None:
        """Wait until every transaction before has ended. First come, first served."""
        if self.holder is None and not self.waiting:
            self.holder = x
            return
        if self.holder is not None and x.task is not None and self.holder.task is x.task:
            raise WaitsForItself("a task asks the pool while its own transaction is open")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((waiter, x))
        try:
            await waiter
        except BaseException:
            self._leave(x)
            raise

    def end(self, x: Transaction) -> None:
        """The next one's turn."""
        if self.holder is not x:
            return
        self.holder = None
        while self.waiting and self.holder is None:
            waiter, following = self.waiting.popleft()
            if not waiter.done():
                self.holder = following
                waiter.set_result(None)

    def _leave(self, x: Transaction) -> None:
        self.waiting = deque(entry for entry in self.waiting if entry[1] is not x)
        self.end(x)

    def commit(self, x: Transaction) -> None:
        if not x.changes:
            return
        if x.unhurried:
            self.late.append(x)
        else:
            self.late.clear()  # the log is written in order: what came before is on disk as well
        if self.on_commit is not None:
            self.on_commit()

    def abandon(self, owner: object) -> None:
        """What a process had begun is undone, and it waits for nothing any more."""
        self.waiting = deque(entry for entry in self.waiting if entry[1].owner is not owner)
        holder = self.holder
        if holder is not None and holder.owner is owner:
            holder.lost = True
            holder.undo()
            self.end(holder)

    def crash(self, late_lost: int = 0) -> None:
        """The database server was killed and is back: what was open is undone, and so are the last `late_lost` of the
        commits that nobody waited for on disk.
        """
        self.crashes += 1
        waiting, self.waiting = self.waiting, deque()
        if self.holder is not None:
            self.holder.lost = True
            self.holder.undo()
            self.holder = None
        for _ in range(min(late_lost, len(self.late))):
            self.late.pop().undo()
        self.late.clear()
        for waiter, x in waiting:
            x.lost = True
            if not waiter.done():
                waiter.set_exception(gone())


def gone() -> asyncpg.PostgresConnectionError:
    return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
