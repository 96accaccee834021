"""The connection pool, and how rows become Structs."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg
import msgspec

from app.errors import StoreUnavailable
from app.log import event

log = logging.getLogger("store")

# asyncpg ships no types that a strict check could use.
Connection: TypeAlias = Any
Pool: TypeAlias = Any
T = TypeVar("T")

# A dead server must not hang a request: the webhook's sender gives up after 3 s.
CONNECT_TIMEOUT_S = 3
COMMAND_TIMEOUT_S = 5
ACQUIRE_TIMEOUT_S = 3
# Of a process that was stopped in the middle: its locks must not hold up the others. Stopped between the preparation of
# a statement and its use a session does not count as idle; that takes the second, which PostgreSQL has since 17.
IDLE_IN_TRANSACTION_MS = 5000
TRANSACTION_MS = 15_000
RELEASE_TIMEOUT_S = 1  # for a statement that was cancelled to end; then its connection is given up

_decode_json = msgspec.json.Decoder().decode


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def _init(connection: Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=_encode_json, decoder=_decode_json, schema="pg_catalog")


async def _init_pooled(connection: Connection) -> None:
    await _init(connection)
    if connection.get_server_version().major >= 17:
        await connection.execute("SELECT set_config('transaction_timeout', $1, false)", str(TRANSACTION_MS))


class _Session(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """A pooled connection. No code sets anything on it that would outlive its use, so nothing has to be reset."""

    def get_reset_query(self) -> str:
        """None: asyncpg's own would cost a round trip at each release."""
        return ""


class _Pool(asyncpg.Pool):  # type: ignore[misc]
    """A pool in which nobody waits for ever: asyncpg bounds neither the wait for a connection nor its release."""

    def acquire(self, *, timeout: float | None = None) -> Any:
        return super().acquire(timeout=ACQUIRE_TIMEOUT_S if timeout is None else timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        await super().release(connection, timeout=RELEASE_TIMEOUT_S if timeout is None else timeout)


async def open_pool(url: str, *, size_max: int) -> Pool:
    """A pool of at most `size_max` connections. Raises StoreUnavailable when the server cannot be reached."""
    pool = _Pool(
        url,
        min_size=min(2, size_max),
        max_size=size_max,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        loop=None,
        connection_class=_Session,
        record_class=asyncpg.Record,
        init=_init_pooled,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={
            "application_name": "levelhead",
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
            # Every statement is looked up by keys: planning it anew for each value costs more than it finds.
            "plan_cache_mode": "force_generic_plan",
        },
    )
    with store_errors():
        return await pool


async def open_connection(url: str) -> Connection:
    """One connection of its own, with the same codecs."""
    with store_errors():
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": "levelhead", "timezone": "UTC"},
        )
    await _init(connection)
    return connection


class store_errors:
    """Turns what says "PostgreSQL is not there" into StoreUnavailable; other errors are bugs and pass."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UNAVAILABLE):
            raise StoreUnavailable(f"PostgreSQL does not answer ({type(error).__name__})") from error


UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection that is cut in mid-answer may come to
    asyncio.TimeoutError,
    OSError,
)

NO_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)  # U+0000, in text or in JSON


@asynccontextmanager
async def transaction(pool: Pool) -> Any:
    """A connection inside a transaction. Never held open over a call to an exchange."""
    with store_errors():
        async with pool.acquire() as connection, connection.transaction():
            yield connection


def as_struct(row: Any, kind: type[T]) -> T:
    """A row (with the Struct's names) as the Struct."""
    return msgspec.convert(dict(row), kind)


def as_struct_or_none(row: Any, kind: type[T]) -> T | None:
    return None if row is None else as_struct(row, kind)


def as_structs(rows: Iterable[Any], kind: type[T]) -> list[T]:
    return [as_struct(row, kind) for row in rows]


def readable(rows: Iterable[Any], kind: type[T], what: str) -> list[T]:
    """Those of the rows that this version understands. One that another version wrote is left alone, and said once.

    For lists of which each row stands for itself; where a missing row would mean "nothing", `as_structs` is to fail.
    """
    found = []
    for row in rows:
        try:
            found.append(as_struct(row, kind))
        except msgspec.ValidationError as error:
            if (what, row["id"]) not in _left_alone:
                _left_alone.add((what, row["id"]))
                event(log, logging.ERROR, "left alone: this version cannot read it", what=what, id=row["id"], why=error)
    return found


_left_alone: set[tuple[str, Any]] = set()  # what was said already


def affected(status: str) -> int:
    """How many rows a command touched, from its tag (`UPDATE 1`)."""
    return int(status.rsplit(" ", 1)[-1])
