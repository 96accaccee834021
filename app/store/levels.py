"""Levels: prices attached to a position at which its close leaves.

An armed level owns an armed order: client order id, side and quantity are committed with it, so that a crossing goes
straight to the wire.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from app.domain.level import Level, LevelKind
from app.domain.order import Side
from app.store.db import Connection, Pool, as_structs, readable


class Armed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An armed level with what its fire needs: the book, and the closing order as it was committed."""

    level: Level
    account_id: UUID
    symbol: str
    client_order_id: str
    close_side: Side
    close_qty: Decimal
    hedge: bool


LEVEL_COLUMNS = """
    l.id, l.position_id, l.kind, l.rung, p.side, l.fraction, l.qty, l.price, l.activation_price, l.distance,
    l.distance_pct, l.min_factor, l.decay_pct, l.due_at, l.extreme, l.extreme_at, l.trigger_by, l.armed_at, l.order_id,
    l.intent_id, l.status
"""

OF_POSITION = f"SELECT {LEVEL_COLUMNS} FROM levels l JOIN positions p ON p.id = l.position_id WHERE l.position_id = $1"

_ARMED = f"""
SELECT {LEVEL_COLUMNS}, p.account_id, p.symbol, o.client_order_id, o.side AS close_side, o.qty AS close_qty,
       o.hedge
  FROM levels l
  JOIN positions p ON p.id = l.position_id
  JOIN orders o ON o.id = l.order_id
 WHERE l.status = 'armed' AND p.status <> 'closed'
"""
ARMED_OF_POSITION = f"{_ARMED} AND l.position_id = $1"
ARMED_WITH_IDS = f"{_ARMED} AND l.id = ANY($1)"

# A page of them, behind a level of a position: reading all at once would hold up whoever reads for too long.
ARMED_PAGE = """
SELECT l.position_id, l.id, l.order_id, p.symbol
  FROM levels l JOIN positions p ON p.id = l.position_id
 WHERE l.status = 'armed' AND p.status <> 'closed' AND (l.position_id, l.id) > ($1, $2)
 ORDER BY l.position_id, l.id
 LIMIT $3
"""
PAGE_ROWS = 500


async def of_position(connection: Connection | Pool, position_id: UUID) -> list[Level]:
    """All levels of a position, whatever became of them."""
    return as_structs(await connection.fetch(OF_POSITION, position_id), Level)


class Standing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An armed level by its id, and the closing order that stands behind it: another one whenever it is armed anew."""

    id: UUID
    order_id: UUID
    symbol: str


async def armed(connection: Connection | Pool, position_id: UUID) -> list[Armed]:
    """The armed levels of a position; without those that only another version understands."""
    return _armed(await connection.fetch(ARMED_OF_POSITION, position_id))


async def armed_with_ids(connection: Connection | Pool, level_ids: Sequence[UUID]) -> list[Armed]:
    """Those of these levels that are armed, in pages of at most PAGE_ROWS ids."""
    assert len(level_ids) <= PAGE_ROWS
    return _armed(await connection.fetch(ARMED_WITH_IDS, list(level_ids)))


def _armed(rows: Sequence[Any]) -> list[Armed]:
    return readable([{**row, "level": dict(row)} for row in rows], Armed, "level")


async def standing(connection: Connection | Pool) -> AsyncIterator[list[Standing]]:
    """All armed levels, page by page; what is armed or disarmed meanwhile may be among them or not."""
    behind = UUID(int=0), UUID(int=0)
    while True:
        rows = await connection.fetch(ARMED_PAGE, *behind, PAGE_ROWS)
        yield [Standing(id=row["id"], order_id=row["order_id"], symbol=row["symbol"]) for row in rows]
        if len(rows) < PAGE_ROWS:
            return
        behind = rows[-1]["position_id"], rows[-1]["id"]


INSERT = """
INSERT INTO levels (id, position_id, kind, rung, fraction, qty, price, activation_price, distance, distance_pct,
                    min_factor, decay_pct, due_at, trigger_by, extreme, status, intent_id, order_id, armed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""

# A level that moves is another level: it starts anew from here, its extreme with it. One whose closing quantity
# alone changed has been armed all along.
REARM = """
UPDATE levels
   SET qty = $2, price = $3, activation_price = $4, distance = $5, distance_pct = $6, min_factor = $7, decay_pct = $8,
       due_at = $9, trigger_by = $10, extreme = $11, extreme_at = CASE WHEN armed_at = $13 THEN extreme_at END,
       order_id = $12, armed_at = $13, status = 'armed'
 WHERE id = $1 AND status IN ('armed', 'disarmed')
"""

DISARM = """
UPDATE levels SET status = 'disarmed'
 WHERE position_id = $1 AND status = 'armed' AND ($2::uuid[] IS NULL OR id = ANY($2))
RETURNING intent_id
"""

TRIGGER = """
UPDATE levels
   SET status = CASE WHEN status = 'done' THEN 'done' ELSE 'triggered' END,
       triggered_at = coalesce(triggered_at, clock_timestamp()),
       trigger_price = coalesce(trigger_price, $2),
       trigger_trade_id = coalesce(trigger_trade_id, $3)
 WHERE id = $1
"""

DONE = "UPDATE levels SET status = 'done' WHERE id = $1 AND status <> 'done'"

# An extreme only gets better, whoever writes it, and only the holder of the symbol's lease writes it. A level that was
# changed meanwhile is another one, and has begun anew.
SAVE_EXTREMES = """
UPDATE levels l
   SET extreme = CASE WHEN p.side = 'long' THEN greatest(l.extreme, x.extreme) ELSE least(l.extreme, x.extreme) END,
       extreme_at = greatest(l.extreme_at, x.extreme_at)
  FROM unnest($1::uuid[], $2::timestamptz[], $3::numeric[], $4::timestamptz[], $5::text[], $6::bigint[])
       AS x (id, armed_at, extreme, extreme_at, lease, token),
       positions p, leases held
 WHERE l.id = x.id AND l.status = 'armed' AND l.armed_at = x.armed_at AND p.id = l.position_id
   AND held.name = x.lease AND held.token = x.token AND held.expires_at > clock_timestamp()
"""

KIND = "SELECT kind FROM levels WHERE id = $1"
STOPPED = """
SELECT EXISTS (SELECT FROM levels WHERE position_id = $1 AND kind <> 'take_profit' AND status IN ('triggered', 'done'))
"""
# Crossed, and neither an order nor an instruction is on its way that would close what the level stands for.
# A stop stands for all that is held, also for what was added a moment before it fired.
INTERRUPTED = """
SELECT l.id, l.kind, l.qty - coalesce(sum(o.filled_qty), 0) AS rest
  FROM levels l
  JOIN orders o ON o.intent_id = l.intent_id
 WHERE l.position_id = $1 AND (l.status = 'triggered' OR (l.status = 'done' AND l.kind <> 'take_profit'))
   AND NOT EXISTS (SELECT FROM instructions i WHERE i.cause_kind = 'level' AND i.cause_id = l.id)
 GROUP BY l.id
HAVING (l.kind <> 'take_profit' OR l.qty > coalesce(sum(o.filled_qty), 0))
   AND NOT bool_or(o.status IN ('sent', 'unknown', 'accepted'))
"""

OF_INTENT = "SELECT id FROM levels WHERE intent_id = $1"


async def insert(connection: Connection, levels: Sequence[Level]) -> None:
    await connection.executemany(
        INSERT,
        [
            (
                x.id, x.position_id, x.kind, x.rung, x.fraction, x.qty, x.price, x.activation_price, x.distance,
                x.distance_pct, x.min_factor, x.decay_pct, x.due_at, x.trigger_by, x.extreme, x.status, x.intent_id,
                x.order_id, x.armed_at,
            )
            for x in levels
        ],
    )  # fmt: skip


async def rearm(connection: Connection, levels: Sequence[Level]) -> None:
    await connection.executemany(
        REARM,
        [
            (
                x.id, x.qty, x.price, x.activation_price, x.distance, x.distance_pct, x.min_factor, x.decay_pct,
                x.due_at, x.trigger_by, x.extreme, x.order_id, x.armed_at,
            )
            for x in levels
        ],
    )  # fmt: skip


async def disarm(connection: Connection, position_id: UUID, level_ids: Sequence[UUID] | None = None) -> list[UUID]:
    """Disarm these levels of a position, or all; answers the intents that stood behind them."""
    ids = None if level_ids is None else list(level_ids)
    return [row["intent_id"] for row in await connection.fetch(DISARM, position_id, ids)]


async def trigger(connection: Connection, level_id: UUID, price: Decimal | None, trade_id: str | None) -> None:
    """The level was crossed (by this price, if it is known): it is never armed again."""
    await connection.execute(TRIGGER, level_id, price, trade_id)


async def done(connection: Connection | Pool, level_id: UUID) -> None:
    await connection.execute(DONE, level_id)


async def of_intent(connection: Connection | Pool, intent_id: UUID) -> UUID | None:
    level_id: UUID | None = await connection.fetchval(OF_INTENT, intent_id)
    return level_id


async def stopped(connection: Connection | Pool, position_id: UUID) -> bool:
    """Whether a stop of the position was crossed: what is left of it is being closed."""
    found: bool = await connection.fetchval(STOPPED, position_id)
    return found


async def kind(connection: Connection | Pool, level_id: UUID) -> LevelKind:
    return LevelKind(await connection.fetchval(KIND, level_id))


class Interrupted(msgspec.Struct, frozen=True, kw_only=True):
    """A crossed level of which `rest` (base units) has not been closed, and nobody is at it."""

    id: UUID
    kind: LevelKind
    rest: Decimal


async def interrupted(connection: Connection | Pool, position_id: UUID) -> list[Interrupted]:
    """Crossed levels whose closing order ended, or was never sent, without closing their part."""
    return as_structs(await connection.fetch(INTERRUPTED, position_id), Interrupted)


class Extreme(msgspec.Struct, frozen=True, kw_only=True):
    """How far a trailing stop has come, up to when, and by which lease (its name and token) whoever says so knows."""

    level_id: UUID
    armed_at: datetime  # which arming of the level
    price: Decimal
    at: datetime | None
    lease: str
    token: int


async def save_extremes(connection: Connection | Pool, extremes: Sequence[Extreme]) -> None:
    """Persist how far trailing stops have come, so that whoever watches them next goes on from there. What is told by a
    lease that is over is not written.
    """
    if extremes:
        columns = zip(*((x.level_id, x.armed_at, x.price, x.at, x.lease, x.token) for x in extremes), strict=True)
        await connection.execute(SAVE_EXTREMES, *map(list, columns))
