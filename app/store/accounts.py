"""Accounts: one set of credentials on one venue and environment. What is read here never holds the credentials."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg
import msgspec

from app.domain.order import MarginMode, PositionMode
from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.keys import Credentials, Keys
from app.store.db import Connection, Pool, as_struct, as_struct_or_none, as_structs


class VenueName(StrEnum):
    BYBIT = "bybit"
    BINANCE = "binance"


class Environment(StrEnum):
    MAINNET = "mainnet"
    TESTNET = "testnet"
    DEMO = "demo"
    SIMULATOR = "simulator"
    CUSTOM = "custom"  # any other server that speaks the venue's protocol


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    name: str
    venue: VenueName
    environment: Environment
    rest_url: str | None = None
    ws_url: str | None = None
    position_mode: PositionMode  # as its owner says; the exchange is asked before each opening
    margin_mode: MarginMode | None = None  # None: whatever the exchange has
    created_at: datetime
    updated_at: datetime


COLUMNS = "id, name, venue, environment, rest_url, ws_url, position_mode, margin_mode, created_at, updated_at"

CREATE = f"""
INSERT INTO accounts (id, name, venue, environment, rest_url, ws_url, credentials, position_mode, margin_mode)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING {COLUMNS}
"""

GET = f"SELECT {COLUMNS} FROM accounts WHERE id = $1 AND removed_at IS NULL"
BY_NAME = f"SELECT {COLUMNS} FROM accounts WHERE name = $1 AND removed_at IS NULL"
WAS_REMOVED = "SELECT EXISTS (SELECT FROM accounts WHERE name = $1 AND removed_at IS NOT NULL)"
LIST = f"""
SELECT {COLUMNS} FROM accounts
 WHERE removed_at IS NULL AND ($1::uuid IS NULL OR id > $1)
 ORDER BY id LIMIT $2
"""
SEALED = "SELECT id, credentials FROM accounts WHERE id = any($1) AND removed_at IS NULL"
ALL_SEALED = "SELECT id, credentials FROM accounts WHERE removed_at IS NULL"
RESEAL = "UPDATE accounts SET credentials = $3 WHERE id = $1 AND credentials = $2"

UPDATE = f"""
UPDATE accounts
   SET name = coalesce($2, name), rest_url = coalesce($3, rest_url), ws_url = coalesce($4, ws_url),
       credentials = coalesce($5, credentials), position_mode = coalesce($6, position_mode),
       margin_mode = CASE WHEN $7 THEN $8 ELSE margin_mode END, updated_at = clock_timestamp()
 WHERE id = $1 AND removed_at IS NULL
RETURNING {COLUMNS}
"""

LOCK = "SELECT id, position_mode FROM accounts WHERE id = $1 AND removed_at IS NULL FOR UPDATE"
IN_USE = """
SELECT EXISTS (SELECT FROM positions WHERE account_id = $1 AND status <> 'closed') AS position,
       EXISTS (SELECT FROM instructions WHERE account_id = $1 AND status IN ('pending', 'executing')) AS instruction
"""
# The key goes with the account: nothing is left to be done with it.
REMOVE = "UPDATE accounts SET removed_at = now(), updated_at = now(), credentials = '' WHERE id = $1"


def _seal(keys: Keys, account_id: UUID, credentials: Credentials) -> bytes:
    return keys.seal(msgspec.json.encode(credentials), account_id.bytes)


def _name_taken(name: str | None) -> InvalidInput:
    return InvalidInput("name_taken", f"There is already an account called {name!r}: choose another name.", "name")


async def create(
    connection: Connection,
    keys: Keys,
    *,
    name: str,
    venue: VenueName,
    environment: Environment,
    credentials: Credentials,
    position_mode: PositionMode = PositionMode.ONE_WAY,
    margin_mode: MarginMode | None = None,
    rest_url: str | None = None,
    ws_url: str | None = None,
) -> AccountRow:
    """Make an account. InvalidInput if the name is taken."""
    account_id = new_id()
    sealed = _seal(keys, account_id, credentials)
    try:
        async with connection.transaction():
            row = await connection.fetchrow(
                CREATE, account_id, name, venue, environment, rest_url, ws_url, sealed, position_mode, margin_mode
            )
    except asyncpg.UniqueViolationError:
        raise _name_taken(name) from None
    return as_struct(row, AccountRow)


async def get(connection: Connection | Pool, account_id: UUID) -> AccountRow | None:
    """The account, unless it was removed."""
    return as_struct_or_none(await connection.fetchrow(GET, account_id), AccountRow)


async def by_name(connection: Connection, name: str) -> AccountRow | None:
    """The account of this name, unless it was removed."""
    return as_struct_or_none(await connection.fetchrow(BY_NAME, name), AccountRow)


async def was_removed(connection: Connection, name: str) -> bool:
    """Whether there was an account of this name that somebody removed."""
    found: bool = await connection.fetchval(WAS_REMOVED, name)
    return found


async def page(connection: Connection | Pool, *, after: UUID | None, limit: int) -> list[AccountRow]:
    return as_structs(await connection.fetch(LIST, after, limit), AccountRow)


async def credentials_of(connection: Connection | Pool, keys: Keys, account_id: UUID) -> Credentials:
    """The account's credentials in the clear, for its venue adapter only.

    Conflict if the account was removed meanwhile; SealBroken if the master key is not the one it was stored under.
    """
    rows = await connection.fetch(SEALED, [account_id])
    if not rows:
        raise Conflict(f"account {account_id} was removed")
    return _open(keys, rows[0])


async def api_keys(connection: Connection | Pool, keys: Keys, account_ids: Sequence[UUID]) -> dict[UUID, str]:
    """account -> its API key (the public half), for a hint at which one it is."""
    rows = await connection.fetch(SEALED, list(account_ids))
    return {row["id"]: _open(keys, row).api_key for row in rows}


def _open(keys: Keys, row: asyncpg.Record) -> Credentials:
    return msgspec.json.decode(keys.open_sealed(row["credentials"], row["id"].bytes), type=Credentials)


async def update(
    connection: Connection,
    keys: Keys,
    account_id: UUID,
    *,
    name: str | None = None,
    credentials: Credentials | None = None,
    position_mode: PositionMode | None = None,
    margin_mode: MarginMode | msgspec.UnsetType | None = msgspec.UNSET,
    rest_url: str | None = None,
    ws_url: str | None = None,
) -> AccountRow | None:
    """Change what is given; None if there is no such account. InvalidInput if the name is taken.

    Conflict when the position mode would change while something is held or asked for.
    """
    if position_mode is not None:
        row = await connection.fetchrow(LOCK, account_id)
        if row is not None and row["position_mode"] != position_mode:
            await _at_rest(connection, account_id, "then change its position mode")
    sealed = None if credentials is None else _seal(keys, account_id, credentials)
    try:
        async with connection.transaction():
            row = await connection.fetchrow(
                UPDATE, account_id, name, rest_url, ws_url, sealed, position_mode,
                margin_mode is not msgspec.UNSET, None if margin_mode is msgspec.UNSET else margin_mode,
            )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise _name_taken(name) from None
    return as_struct_or_none(row, AccountRow)


async def remove(connection: Connection, account_id: UUID) -> bool:
    """Remove an account that is at rest, with its credentials; False if there is none.

    Conflict while it holds a position or has work to do. New instructions refer to the row, so its lock keeps them out
    until the caller's commit.
    """
    if await connection.fetchval(LOCK, account_id) is None:
        return False
    await _at_rest(connection, account_id, "then remove it")
    await connection.execute(REMOVE, account_id)
    return True


async def _at_rest(connection: Connection, account_id: UUID, then: str) -> None:
    busy = await connection.fetchrow(IN_USE, account_id)
    if busy["position"] or busy["instruction"]:
        what = "holds an open position: close it" if busy["position"] else "still has work to do: wait for it"
        raise Conflict(f"The account {what} first, {then}.", kind="in_use")
