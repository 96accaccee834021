"""What was refused at the door, although its sender proved who he is: no alert came of it, so it is kept beside them.

Bounded: the newest KEPT_MAX of each strategy, for AGE_MAX_DAYS.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from app.store.db import Connection, Pool, affected, as_structs

KEPT_MAX = 100
AGE_MAX_DAYS = 30


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that became no alert. `body` is its beginning as text, without secrets; `body_bytes` counts all."""

    id: UUID
    strategy_id: str
    code: str
    reason: str
    field: str | None
    body: str
    body_bytes: int
    content_type: str
    source: str
    received_at: datetime


# What is inserted is not seen by the rest of the statement: beside it all but one may stay.
KEEP = f"""
WITH kept AS (
    INSERT INTO rejected_alerts
           (id, strategy_id, code, reason, field, body, body_bytes, content_type, source, received_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
)
DELETE FROM rejected_alerts
 WHERE strategy_id = $2
   AND id <= (SELECT id FROM rejected_alerts WHERE strategy_id = $2 ORDER BY id DESC OFFSET {KEPT_MAX - 1} LIMIT 1)
"""
FORGET = f"DELETE FROM rejected_alerts WHERE received_at < now() - interval '{AGE_MAX_DAYS} days'"
PAGE = f"""
SELECT id, strategy_id, code, reason, field, body, body_bytes, content_type, source, received_at
  FROM rejected_alerts
 WHERE ($1::uuid IS NULL OR id < $1)
   AND ($2::text IS NULL OR strategy_id = $2)
   AND received_at >= now() - interval '{AGE_MAX_DAYS} days'
 ORDER BY id DESC LIMIT $3
"""


async def keep(connection: Connection | Pool, one: Rejected) -> None:
    """Keep it, in the place of the strategy's oldest once there are KEPT_MAX."""
    await connection.execute(
        KEEP, one.id, one.strategy_id, one.code, one.reason, one.field, one.body, one.body_bytes, one.content_type,
        one.source, one.received_at,
    )  # fmt: skip


async def forget(connection: Connection | Pool) -> int:
    """Forget what is too old; answers how many those were."""
    return affected(await connection.execute(FORGET))


async def page(
    connection: Connection | Pool, *, before: UUID | None, strategy: str | None, limit: int
) -> list[Rejected]:
    """The newest first."""
    return as_structs(await connection.fetch(PAGE, before, strategy, limit), Rejected)
