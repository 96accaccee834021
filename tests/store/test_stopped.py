"""A process that was stopped in the middle of a transaction (a paused machine, SIGSTOP) does not keep its locks."""

import asyncio

import pytest

from app.store import db

FREE_WITHIN_S = 5


@pytest.mark.parametrize("prepared", [False, True])
async def test_the_locks_of_a_stopped_process_are_freed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, prepared: bool
) -> None:
    """Also between the preparation of a statement and its use, where a session does not count as idle."""
    other = await db.open_pool(database_url, size_max=1)
    monkeypatch.setattr(db, "IDLE_IN_TRANSACTION_MS", 200)
    monkeypatch.setattr(db, "TRANSACTION_MS", 400)
    stopped = await db.open_pool(database_url, size_max=1)
    session = await stopped.acquire()
    await session.execute("BEGIN")
    await session.execute("LOCK TABLE books")
    if prepared:
        await session.prepare("SELECT 1 FROM books WHERE symbol = $1")
    async with asyncio.timeout(FREE_WITHIN_S), other.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE books")
    await other.close()
    stopped.terminate()
