"""Bans: whom an exchange told to stay away, until when. Database time only; processes exchange remaining seconds.

A row stays when its ban is over: there is one for each address and account at most, and it says when the last one was.
To lift a ban by hand, delete its row.
"""

from datetime import datetime

import msgspec

from app.store.db import Connection, Pool, as_structs


class LiveBan(msgspec.Struct, frozen=True, kw_only=True):
    """A ban that holds. `remaining_s` is as of the reading."""

    scope: str
    until: datetime
    why: str
    remaining_s: float


TELL = """
INSERT INTO bans AS b (scope, until, why, told_at)
VALUES ($1, clock_timestamp() + make_interval(secs => $2), $3, clock_timestamp())
ON CONFLICT (scope) DO UPDATE SET until = excluded.until, why = excluded.why, told_at = excluded.told_at
 WHERE b.until < excluded.until
"""

LIVE = """
SELECT scope, until, why, extract(epoch FROM until - clock_timestamp())::float8 AS remaining_s
  FROM bans WHERE until > clock_timestamp()
 ORDER BY scope
"""


async def tell(connection: Connection | Pool, scope: str, seconds: float, why: str) -> None:
    """Write that nothing may be sent for so many seconds from now on; the ban that ends last counts."""
    await connection.execute(TELL, scope, seconds, why)


async def live(connection: Connection | Pool) -> list[LiveBan]:
    """The bans that hold now."""
    return as_structs(await connection.fetch(LIVE), LiveBan)
