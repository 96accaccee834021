"""asyncpg's pool and connections, as far as the code uses them, over tables in memory.

Before each statement, and around a commit, `hook` is awaited with a step: the statement's name (`inbox.TAKE`),
`commit`, and `committed` once there is no way back. What it raises is raised to the caller, as if the connection had
been lost there: after `committed` everything is written all the same. One that never returns is a process that was
killed there: `abandon` its pool.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.simulation.memory import answers  # noqa: F401  # registers them
from tests.simulation.memory.schema import Row
from tests.simulation.memory.server import gone
from tests.simulation.memory.statements import Answer, find
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Clock, Transaction

Hook = Callable[[str], Awaitable[None]]


class _Executor:
    """What a pool and a connection have in common."""

    async def _run(self, query: str, args: Sequence[Any]) -> Answer:
        raise NotImplementedError

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Row]:
        answer = await self._run(query, args)
        return answer if isinstance(answer, list) else []

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Row | None:
        answer = await self._run(query, args)
        return answer[0] if isinstance(answer, list) and answer else None

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        answer = await self._run(query, args)
        return next(iter(answer[0].values())) if isinstance(answer, list) and answer else None

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        answer = await self._run(query, args)
        return f"{find(query).tag} {len(answer) if isinstance(answer, list) else answer}"


class MemoryPool(_Executor):
    """The pool of one process. All processes share the tables."""

    def __init__(self, tables: Tables, clock: Clock, hook: Hook | None = None) -> None:
        self.tables = tables
        self.server = tables.server
        self.clock = clock
        self.hook = hook
        self.gone = False  # the process is dead: what its coroutines still try does nothing

    def abandon(self) -> None:
        """The process was killed: undo what it had begun. Whatever its coroutines still try fails."""
        self.gone = True
        self.server.abandon(self)

    terminate = abandon

    async def close(self) -> None:
        self.abandon()

    async def _run(self, query: str, args: Sequence[Any]) -> Answer:
        """A statement with a transaction of its own."""
        statement = find(query)
        if self.hook is not None:
            await self.hook(statement.name)
        if self.gone:
            raise gone()
        server = self.server
        x = Transaction(self.clock, self)
        if server.holder is not None or server.waiting:
            x.task = asyncio.current_task()
            await server.turn(x)
            if self.gone or x.lost:
                raise gone()
        try:
            answer = statement.does(self.tables, x, *args)
            if x.references:
                x.check_references()
        except BaseException:
            x.undo()
            raise
        else:
            server.commit(x)
        finally:
            server.end(x)
        if self.hook is not None and x.changes:
            await self.hook("committed")
        return answer

    async def executemany(self, query: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        async with self.acquire() as connection, connection.transaction():
            await connection.executemany(query, args)

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator["MemoryConnection"]:
        if self.gone:
            raise gone()
        yield MemoryConnection(self)


class MemoryConnection(_Executor):
    def __init__(self, pool: MemoryPool) -> None:
        self.pool = pool
        self.open: Transaction | None = None
        self._crashes = pool.server.crashes

    def transaction(self) -> "MemoryTransaction":
        return MemoryTransaction(self)

    def is_in_transaction(self) -> bool:
        return self.open is not None

    async def _run(self, query: str, args: Sequence[Any]) -> Answer:
        if self.open is None:
            if self._crashes != self.pool.server.crashes:
                raise gone()
            return await self.pool._run(query, args)
        return await self._in(self.open, query, [args])

    async def executemany(self, query: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        if self.open is None:
            async with self.transaction():
                await self.executemany(query, args)
        else:
            await self._in(self.open, query, args)

    async def _in(self, x: Transaction, query: str, many: Iterable[Sequence[Any]]) -> Answer:
        statement = find(query)
        await self._step(x, statement.name)
        if not x.held:
            x.task = asyncio.current_task()
            await self.pool.server.turn(x)
            x.held = True
            self._alive(x)
        if x.failed:
            raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
        answer: Answer = 0
        try:
            for args in many:
                answer = statement.does(self.pool.tables, x, *args)
                if x.references:
                    x.check_references()
        except BaseException:
            x.failed = True
            raise
        return answer

    async def _step(self, x: Transaction, name: str) -> None:
        """The hook; what it raises is the end of the connection, and so of the transaction."""
        self._alive(x)
        if self.pool.hook is not None:
            try:
                await self.pool.hook(name)
            except BaseException:
                x.lost = True
                x.undo()
                self.pool.server.end(x)
                raise
            self._alive(x)

    def _alive(self, x: Transaction) -> None:
        if x.lost or self.pool.gone or self._crashes != self.pool.server.crashes:
            raise gone()


class MemoryTransaction:
    """A transaction; inside another one a savepoint."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._x: Transaction | None = None
        self._mark: int | None = None  # of a savepoint: how many changes there were

    async def start(self) -> None:
        connection = self._connection
        if connection.open is None:
            connection.open = self._x = Transaction(connection.pool.clock, connection.pool)
        else:
            self._x = connection.open
            self._mark = len(self._x.changes)

    async def commit(self) -> None:
        x = self._x
        assert x is not None, "the transaction was never started"
        if self._mark is not None:
            if x.failed:
                raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
            return
        connection, server = self._connection, self._connection.pool.server
        connection.open = None
        if x.failed:
            x.undo()
            server.end(x)
            return
        if x.held:
            await connection._step(x, "commit")
            server.commit(x)
            server.end(x)
            if connection.pool.hook is not None:
                await connection.pool.hook("committed")

    async def rollback(self) -> None:
        x = self._x
        assert x is not None, "the transaction was never started"
        if self._mark is not None:
            if not x.lost:
                x.undo(self._mark)
                x.failed = False
            return
        self._connection.open = None
        if not x.lost:
            x.undo()
            self._connection.pool.server.end(x)

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            await self.commit()
        else:
            await self.rollback()
