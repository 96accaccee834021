"""Drifts: differences between our positions and the exchange's, kept so that people are told once and can look."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from app.domain.drift import DriftKind
from app.domain.order import PositionSide
from app.store.db import Connection, Pool, as_structs


class DriftStatus(StrEnum):
    NEEDS_OPERATOR = "needs_operator"
    HEALED = "healed"  # by ourselves
    GONE = "gone"  # the two agree again
    ADOPTED = "adopted"  # a person took it under management


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    account_id: UUID
    symbol: str
    side: PositionSide
    kind: DriftKind
    status: DriftStatus
    position_id: UUID | None
    detail: str
    seen_at: datetime
    ended_at: datetime | None


ASK = """
INSERT INTO drifts (id, account_id, symbol, side, kind, status, position_id, detail)
VALUES ($1, $2, $3, $4, $5, 'needs_operator', $6, $7)
ON CONFLICT (account_id, symbol, side, kind) WHERE status = 'needs_operator'
DO UPDATE SET detail = excluded.detail, position_id = excluded.position_id
RETURNING id = $1
"""

HEALED = """
INSERT INTO drifts (id, account_id, symbol, side, kind, status, position_id, detail, ended_at)
VALUES ($1, $2, $3, $4, $5, 'healed', $6, $7, clock_timestamp())
"""

GONE = """
UPDATE drifts SET status = 'gone', ended_at = clock_timestamp()
 WHERE account_id = $1 AND status = 'needs_operator'
   AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[], $4::text[]) AS seen (symbol, side, kind)
                    WHERE (seen.symbol, seen.side, seen.kind) = (drifts.symbol, drifts.side, drifts.kind))
RETURNING *
"""

ADOPTED = """
UPDATE drifts SET status = 'adopted', ended_at = clock_timestamp(), position_id = $4
 WHERE account_id = $1 AND symbol = $2 AND side = $3 AND status = 'needs_operator'
"""

SIZE_DIFFERS = """
SELECT detail FROM drifts
 WHERE account_id = $1 AND symbol = $2 AND kind = 'size_differs' AND status = 'needs_operator' LIMIT 1
"""

PAGE = """
SELECT * FROM drifts
 WHERE ($1::timestamptz IS NULL OR seen_at < $1 OR (seen_at = $1 AND id > $2::uuid))
   AND ($3::text IS NULL OR status = $3) AND ($4::uuid IS NULL OR account_id = $4)
 ORDER BY seen_at DESC, id LIMIT $5
"""

Seen = tuple[str, PositionSide, DriftKind]


async def ask(
    connection: Connection | Pool,
    *,
    id: UUID,
    account_id: UUID,
    seen: Seen,
    position_id: UUID | None,
    detail: str,
) -> bool:
    """A person has to say what is meant. True when it is new."""
    symbol, side, kind = seen
    new: bool = await connection.fetchval(ASK, id, account_id, symbol, side, kind, position_id, detail)
    return new


async def healed(
    connection: Connection | Pool, *, id: UUID, account_id: UUID, seen: Seen, position_id: UUID | None, detail: str
) -> None:
    """Something was put right without anybody."""
    symbol, side, kind = seen
    await connection.execute(HEALED, id, account_id, symbol, side, kind, position_id, detail)


async def gone(connection: Connection | Pool, account_id: UUID, still: Collection[Seen]) -> list[Drift]:
    """End those of an account that are not `still` there; answers them."""
    symbols, sides, kinds = zip(*still, strict=True) if still else ((), (), ())
    rows = await connection.fetch(GONE, account_id, list(symbols), list(sides), list(kinds))
    return as_structs(rows, Drift)


async def adopted(connection: Connection, account_id: UUID, symbol: str, side: PositionSide, position_id: UUID) -> None:
    await connection.execute(ADOPTED, account_id, symbol, side, position_id)


async def size_differs(connection: Connection | Pool, account_id: UUID, symbol: str) -> str | None:
    """What differs in the quantity of a symbol, if a person was asked about it."""
    detail: str | None = await connection.fetchval(SIZE_DIFFERS, account_id, symbol)
    return detail


async def page(
    connection: Connection,
    *,
    after: tuple[datetime, UUID] | None,
    status: str | None,
    account: UUID | None,
    limit: int,
) -> list[Drift]:
    """The newest first."""
    at, id = after or (None, None)
    return as_structs(await connection.fetch(PAGE, at, id, status, account, limit), Drift)
