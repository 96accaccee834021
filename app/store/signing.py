"""The keys under which senders sign their deliveries to a strategy. They are sealed like credentials of accounts."""

from contextlib import suppress
from datetime import datetime
from uuid import UUID

import msgspec

from app.ids import new_id
from app.keys import Keys, SealBroken
from app.store.db import Connection, Pool, affected, as_structs
from app.store.strategies import make_room


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """What may be told of a key."""

    id: UUID
    created_at: datetime
    expires_at: datetime | None


LIVE = """
SELECT id, sealed FROM strategy_signing_keys
 WHERE strategy_id = $1 AND (expires_at IS NULL OR expires_at > now())
"""
LIST = """
SELECT id, created_at, expires_at FROM strategy_signing_keys
 WHERE strategy_id = $1 AND (expires_at IS NULL OR expires_at > now())
 ORDER BY id DESC
"""
EXPIRE = """
UPDATE strategy_signing_keys
   SET expires_at = least(expires_at, now() + make_interval(secs => $2))
 WHERE strategy_id = $1
RETURNING expires_at
"""
FORGET_EXPIRED = "DELETE FROM strategy_signing_keys WHERE strategy_id = $1 AND expires_at <= now()"
COUNT = "SELECT count(*) FROM strategy_signing_keys WHERE strategy_id = $1"
INSERT = "INSERT INTO strategy_signing_keys (id, strategy_id, sealed) VALUES ($1, $2, $3)"
DELETE = "DELETE FROM strategy_signing_keys WHERE strategy_id = $1"
ALL_SEALED = "SELECT id, sealed FROM strategy_signing_keys"
RESEAL = "UPDATE strategy_signing_keys SET sealed = $3 WHERE id = $1 AND sealed = $2"


async def live(connection: Connection | Pool, keys: Keys, strategy_id: str) -> list[bytes]:
    """The keys that hold now, in the clear; without those that the master key does not open."""
    found = []
    for row in await connection.fetch(LIVE, strategy_id):
        with suppress(SealBroken):
            found.append(keys.open_sealed(row["sealed"], row["id"].bytes))
    return found


async def listed(connection: Connection, strategy_id: str) -> list[SigningKey]:
    """The newest first."""
    return as_structs(await connection.fetch(LIST, strategy_id), SigningKey)


async def rotate(
    connection: Connection, keys: Keys, strategy_id: str, key: bytes, *, overlap_s: int
) -> datetime | None:
    """Add a key, inside a transaction; those before it end after `overlap_s` at the latest, which is answered.

    None if there is no such strategy. Conflict if too many keys hold at once.
    """
    ends = await make_room(connection, strategy_id, "signing keys", EXPIRE, FORGET_EXPIRED, COUNT, overlap_s=overlap_s)
    if ends is not None:
        key_id = new_id()
        await connection.execute(INSERT, key_id, strategy_id, keys.seal(key, key_id.bytes))
    return ends


async def remove(connection: Connection | Pool, strategy_id: str) -> int:
    """No key of the strategy holds any more; answers how many there were."""
    return affected(await connection.execute(DELETE, strategy_id))
