"""Leases: who may act for something, until when. Database time only; a new holder gets a greater token."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import msgspec

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

# What somebody else holds is left out before the insertion, which would lock its row. In the order of their names, so
# that two who want the same ones do not wait for each other.
ACQUIRE_ALL = """
INSERT INTO leases AS l (name, holder, token, expires_at)
SELECT wanted.name, $2, 1, clock_timestamp() + make_interval(secs => $3)
  FROM unnest($1::text[]) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM leases held
                    WHERE held.name = wanted.name AND held.holder <> $2 AND held.expires_at > clock_timestamp())
 ORDER BY wanted.name
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, token = l.token + 1, expires_at = excluded.expires_at
 WHERE l.expires_at <= clock_timestamp() OR l.holder = excluded.holder
RETURNING l.name, l.token
"""

# Rows that are written together are locked in the order of their names, by whoever it is: so nobody waits in a circle.
HELD = """
held AS MATERIALIZED (
    SELECT l.name
      FROM leases l
      JOIN unnest($2::text[], $3::bigint[]) AS ours (name, token) ON l.name = ours.name AND l.token = ours.token
     WHERE l.holder = $1 AND l.expires_at > clock_timestamp()
     ORDER BY l.name
       FOR NO KEY UPDATE OF l
)
"""
RENEW_ALL = f"""
WITH {HELD}
UPDATE leases l SET expires_at = clock_timestamp() + make_interval(secs => $4)
  FROM held WHERE l.name = held.name
RETURNING l.name
"""
RELEASE_ALL = f"""
WITH {HELD}
UPDATE leases l SET expires_at = clock_timestamp() FROM held WHERE l.name = held.name
"""

LIVE = """
SELECT name, holder, extract(epoch FROM expires_at - clock_timestamp())::float8 AS remaining_s
  FROM leases
 WHERE starts_with(name, $1) AND expires_at > clock_timestamp()
"""

HOLDERS = "SELECT DISTINCT holder FROM leases WHERE expires_at > clock_timestamp()"

FREE = """
WITH theirs AS MATERIALIZED (
    SELECT name FROM leases WHERE holder = any($1) AND expires_at > clock_timestamp()
     ORDER BY name
       FOR NO KEY UPDATE
)
UPDATE leases l SET expires_at = clock_timestamp() FROM theirs WHERE l.name = theirs.name
"""

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


async def acquire_all(
    connection: Connection | Pool, names: Collection[str], holder: UUID, *, ttl_s: float
) -> dict[str, int]:
    """The tokens of those of these leases that are now held; somebody else has the others."""
    rows = await connection.fetch(ACQUIRE_ALL, list(names), holder, ttl_s) if names else []
    return {row["name"]: row["token"] for row in rows}


async def renew_all(
    connection: Connection | Pool, tokens: Mapping[str, int], holder: UUID, *, ttl_s: float
) -> set[str]:
    """Those of these leases (name -> token) that were still ours; what is done under the others must stop."""
    if not tokens:
        return set()
    rows = await connection.fetch(RENEW_ALL, holder, list(tokens), list(tokens.values()), ttl_s)
    return {row["name"] for row in rows}


async def release_all(connection: Connection | Pool, tokens: Mapping[str, int], holder: UUID) -> None:
    """Free these leases (name -> token) for the next one."""
    if tokens:
        await connection.execute(RELEASE_ALL, holder, list(tokens), list(tokens.values()))


async def expires_at(connection: Connection | Pool, name: str) -> datetime | None:
    """When the last known lease of this name ran or runs out; None when there never was one."""
    found: datetime | None = await connection.fetchval(LAST_SEEN, name)
    return found


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A lease that somebody holds for so long yet."""

    holder: UUID
    remaining_s: float


async def live(connection: Connection | Pool, beginning: str) -> dict[str, Live]:
    """Name -> lease, of all that somebody holds now and whose name begins so."""
    rows = await connection.fetch(LIVE, beginning)
    return {row["name"]: Live(holder=row["holder"], remaining_s=row["remaining_s"]) for row in rows}


async def holders(connection: Connection | Pool) -> list[UUID]:
    """Who holds anything."""
    return [row["holder"] for row in await connection.fetch(HOLDERS)]


async def free(connection: Connection | Pool, dead: Collection[UUID]) -> None:
    """End all leases of holders that are surely gone."""
    await connection.execute(FREE, list(dead))
