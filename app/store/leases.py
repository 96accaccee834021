"""Leases: who may act for something, until when. Database time only; a new holder gets a greater token."""

from datetime import datetime
from uuid import UUID

from app.store.db import Connection, Pool

ACQUIRE = """
INSERT INTO leases AS l (name, holder, token, expires_at)
VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, token = l.token + 1, expires_at = excluded.expires_at
 WHERE l.expires_at <= clock_timestamp() OR l.holder = excluded.holder
RETURNING token
"""

RENEW = """
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $4)
 WHERE name = $1 AND holder = $2 AND token = $3 AND expires_at > clock_timestamp()
"""

# The row stays: its token has to go on growing.
RELEASE = "UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1 AND holder = $2 AND token = $3"

LAST_SEEN = "SELECT expires_at FROM leases WHERE name = $1"


async def acquire(connection: Connection | Pool, name: str, holder: UUID, *, ttl_s: float) -> int | None:
    """The token of the lease now held, or None while somebody else holds it."""
    token: int | None = await connection.fetchval(ACQUIRE, name, holder, ttl_s)
    return token


async def renew(connection: Connection | Pool, name: str, holder: UUID, token: int, *, ttl_s: float) -> bool:
    """Whether the lease was still ours; if not, everything done under it must stop."""
    status: str = await connection.execute(RENEW, name, holder, token, ttl_s)
    return status == "UPDATE 1"


async def release(connection: Connection | Pool, name: str, holder: UUID, token: int) -> None:
    """Free it for the next one; nothing happens if it is not ours any more."""
    await connection.execute(RELEASE, name, holder, token)


async def expires_at(connection: Connection | Pool, name: str) -> datetime | None:
    """When the last known lease of this name ran or runs out; None when there never was one."""
    found: datetime | None = await connection.fetchval(LAST_SEEN, name)
    return found
