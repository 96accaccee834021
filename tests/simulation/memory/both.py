"""The same calls to a real PostgreSQL and to its twin, under one clock; whatever they answer has to be equal."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from tests.simulation.memory.pool import MemoryPool
from tests.simulation.memory.schema import Row
from tests.simulation.memory.tables import SCHEMA, Tables

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

# Found before PostgreSQL's own, these tell the time that the test has set.
VIRTUAL_TIME = """
CREATE SCHEMA sim;
CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('sim.now')::timestamptz $$;
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT current_setting('sim.clock')::timestamptz $$;
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT table_name, column_name, column_default FROM information_schema.columns
                  WHERE table_schema = 'public' AND column_default IN ('now()', 'clock_timestamp()')
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER %I SET DEFAULT sim.%s', found.table_name, found.column_name,
                       found.column_default);
    END LOOP;
END $$;
"""
IDENTITIES = {"alerts": "seq", "instructions": "seq", "events": "id"}


class Call(msgspec.Struct, frozen=True):
    """A function of the store with its arguments, but for the connection."""

    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    named: dict[str, Any]

    def __repr__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.named.items())]
        return f"{self.function.__module__}.{self.function.__qualname__}({', '.join(given)})"


def call(function: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Call:
    return Call(function, args, named)


class Both:
    """`real` is a connection with virtual time; the twin starts empty."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.tables = Tables()
        self.done: list[str] = []  # statements, as the twin names them
        self.pool = MemoryPool(self.tables, lambda: self.at, self._note)
        self.at = START

    async def _note(self, step: str) -> None:
        self.done.append(step)

    async def set_clock(self, at: datetime) -> None:
        self.at = at
        await self.real.execute("SELECT set_config('sim.now', $1, false), set_config('sim.clock', $1, false)", str(at))

    async def advance(self, seconds: float) -> None:
        await self.set_clock(self.at + timedelta(seconds=seconds))

    async def advance_inside(self, seconds: float) -> None:
        """Time goes on while a transaction is open."""
        self.at += timedelta(seconds=seconds)
        await self.real.execute("SELECT set_config('sim.clock', $1, false)", str(self.at))

    async def do(self, asked: Call) -> None:
        """Ask both. What is refused changes nothing."""
        there = await _outcome(self.real, asked)
        async with self.pool.acquire() as connection:
            here = await _outcome(connection, asked)
        assert here == there, f"{asked} answers\n   {here} and not\n   {there}"

    async def compare_rows(self) -> None:
        for name, schema in SCHEMA.items():
            there = [_plain(row) for row in await self.real.fetch(f"SELECT * FROM {name}")]
            here = [_plain(row) for row in self.tables.by_name[name].rows]

            def place(row: Row, primary: tuple[str, ...] = schema.primary) -> str:
                return repr([row[column] for column in primary])

            here, there = sorted(here, key=place), sorted(there, key=place)
            assert here == there, f"{name} holds\n   {here} and not\n   {there}"

    async def do_here(self, asked: Call) -> None:
        """What PostgreSQL has done already."""
        async with self.pool.acquire() as connection:
            await asked.function(connection, *asked.args, **asked.named)

    async def align_identities(self) -> None:
        """Sequences are not rolled back: have PostgreSQL's go on where the twin's are."""
        for table, column in IDENTITIES.items():
            last = self.tables.by_name[table].last
            await self.real.execute(
                "SELECT setval(pg_get_serial_sequence($1, $2), greatest($3::bigint, 1), $3 > 0)", table, column, last
            )


async def open_real(url: str) -> Any:
    """A connection with virtual time and the codecs of the app's own."""
    from app.store.db import open_connection

    connection = await open_connection(url)
    await connection.execute(VIRTUAL_TIME)
    await connection.execute("SET search_path = sim, pg_catalog, public")
    return connection


async def _outcome(connection: Any, asked: Call) -> Any:
    """What a call answers or raises, in a form that can be compared."""
    try:
        async with connection.transaction():
            return _plain(await asked.function(connection, *asked.args, **asked.named), unordered(asked))
    except Exception as error:
        return type(error)


def unordered(asked: Call) -> bool:
    """Whether the statement behind it leaves the order of its rows to PostgreSQL."""
    return asked.function.__name__ in UNORDERED


UNORDERED = frozenset(
    {
        "accounts", "accounts_in_use", "armed", "closed_lately", "disarm", "doubtful", "gone", "holders", "interrupted",
        "live_of_account", "of_position", "symbols_to_watch", "unresolved",
    }
)  # fmt: skip


def _plain(value: Any, unordered: bool = False) -> Any:
    """Without what may differ: records are dicts, ids are plain. Types are told apart."""
    if isinstance(value, asyncpg.Record | dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        found = [_plain(inner) for inner in value]
        return sorted(found, key=repr) if unordered else found
    if isinstance(value, msgspec.Struct):
        return type(value).__name__, {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, UUID):
        return str(value)
    return type(value).__name__, value
