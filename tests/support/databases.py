"""Fresh databases in milliseconds: each is a copy of one template that has been migrated once per session."""

import importlib.util
import itertools
import os
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

import asyncpg

MakeDatabase = Callable[[], Awaitable[str]]

_numbers = itertools.count(1)


class Databases:
    """Makes databases on one server and drops them: thousands that nobody uses slow a server down."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        # Two sessions may share a real server.
        self._stem = f"levelhead_test_{os.getpid()}"
        self._template: str | None = None
        self._made: list[str] = []

    async def make(self) -> str:
        """Return the URL of a new database with the current schema."""
        if self._template is None:
            self._template = await self._create(f"{self._stem}_template", "template0")
            await _migrate(self._url(self._template))
        return self._url(await self._create(f"{self._stem}_{next(_numbers)}", self._template))

    async def drop(self, url: str) -> None:
        name = urlsplit(url).path.removeprefix("/")
        await self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.remove(name)

    async def drop_all(self) -> None:
        for name in reversed(self._made[:]):
            await self.drop(self._url(name))

    async def _create(self, name: str, template: str) -> str:
        await self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self._made.append(name)
        return name

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self._admin_url, timeout=10)
        try:
            await connection.execute(statement, timeout=30)
        finally:
            await connection.close(timeout=5)

    def _url(self, name: str) -> str:
        # An empty host (a socket named in the query) must keep its `//`, which urlunsplit drops without a netloc.
        parts = urlsplit(self._admin_url)
        return urlunsplit(parts._replace(path=f"/{name}"))


async def _migrate(url: str) -> None:
    """Bring the template to the current schema; there may be no migrations yet."""
    if importlib.util.find_spec("app.store.migrate") is not None:
        from app.store.migrate import migrate

        await migrate(url)
