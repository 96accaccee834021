"""What people look at: alerts and positions with all that belongs to them, in the words of the public contract.

Read only. Money, prices and quantities leave the database as text without exponent or trailing zeros, and go into JSON
as they are; nothing here is calculated with.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.store.db import CONNECT_TIMEOUT_S, Connection, Pool, as_struct_or_none, as_structs, store_errors


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for statements that change nothing. Raises StoreUnavailable."""
    with store_errors():
        async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
            yield connection


class OutcomeView(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    reason: str | None


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    strategy: str
    status: str
    outcome: OutcomeView | None
    format: str
    signal: Any
    more_signals: Any
    """The orders after `signal`, in their sequence; most often there is none."""
    sent_at: datetime | None
    received_at: datetime
    finished_at: datetime | None
    marks: dict[str, datetime]
    """Step -> instant: received, picked, decided, sent, answered, filled, protected, finished."""


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` is the place in the list."""

    seq: int
    alert: AlertView


class AlertSource(msgspec.Struct, frozen=True, kw_only=True):
    body: str
    content_type: str
    source: str


class InstructionView(msgspec.Struct, frozen=True, kw_only=True):
    """What one account was asked to do, and what became of it there. `leg` is the order's place in the alert."""

    id: UUID
    account: UUID
    account_name: str
    leg: int
    symbol: str
    multiplier: str
    status: str
    outcome: OutcomeView | None
    attempts: int
    created_at: datetime
    finished_at: datetime | None


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    intent_id: UUID
    position_id: UUID
    account: UUID
    symbol: str
    kind: str
    side: str
    qty: str
    reduce_only: bool
    stop_loss: str | None
    status: str
    client_order_id: str
    venue_order_id: str | None
    filled_qty: str
    avg_price: str | None
    venue_code: str | None
    reason: str | None
    created_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None
    finished_at: datetime | None


class FillView(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is the venue's."""

    id: str
    order_id: UUID | None
    position_id: UUID | None
    account: UUID
    symbol: str
    origin: str
    side: str
    qty: str
    price: str
    fee: str
    fee_currency: str
    filled_at: datetime


class LevelView(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    position_id: UUID
    kind: str
    rung: int
    price: str | None
    fraction: str
    qty: str
    trigger_by: str
    status: str
    activation_price: str | None
    distance: str | None
    distance_pct: str | None
    min_factor: str
    decay_pct: str | None
    due_at: datetime | None
    extreme: str | None
    armed_at: datetime
    triggered_at: datetime | None
    trigger_price: str | None


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    account: UUID
    account_name: str
    strategy: str
    venue: str
    environment: str
    symbol: str
    side: str
    status: str
    qty: str
    qty_opened: str
    entry_price: str
    leverage: str | None
    realized_pnl: str
    fees: str
    native_stop: str | None
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    kind: str
    detail: Any


ALERT_COLUMNS = """
a.seq, a.id, a.strategy_id AS strategy, a.status, a.outcome_code, a.outcome_reason, a.format, a.signal, a.more_signals,
a.sent_at, a.received_at, a.finished_at, a.marks
"""

ALERTS = f"""
SELECT {ALERT_COLUMNS} FROM alerts a
 WHERE ($1::bigint IS NULL OR a.seq < $1)
   AND ($2::text IS NULL OR a.strategy_id = $2)
   AND ($3::text IS NULL OR a.status = $3)
 ORDER BY a.seq DESC LIMIT $4
"""
ALERT = f"SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.id = $1"
ALERT_SOURCE = "SELECT body, content_type, source FROM alerts WHERE id = $1"

INSTRUCTIONS = """
SELECT i.id, i.account_id AS account, a.name AS account_name, i.leg, i.symbol,
       trim_scale(i.multiplier)::text AS multiplier, i.status, i.outcome_code, i.outcome_reason, i.attempts,
       i.created_at, i.finished_at
  FROM instructions i JOIN accounts a ON a.id = i.account_id
 WHERE i.cause_kind = 'alert' AND i.cause_id = $1
 ORDER BY i.seq
"""

ORDER_COLUMNS = """
o.id, o.intent_id, n.position_id, o.account_id AS account, o.symbol, n.kind, o.side, trim_scale(o.qty)::text AS qty,
o.reduce_only, trim_scale(o.stop_loss)::text AS stop_loss, o.status, o.client_order_id, o.venue_order_id,
trim_scale(o.filled_qty)::text AS filled_qty, trim_scale(o.avg_price)::text AS avg_price, o.venue_code, o.reason,
o.created_at, o.sent_at, o.answered_at, o.finished_at
"""

ORDERS_OF_ALERT = f"""
SELECT {ORDER_COLUMNS}
  FROM instructions i
  JOIN intents n ON n.cause_kind = 'instruction' AND n.cause_id = i.id
  JOIN orders o ON o.intent_id = n.id
 WHERE i.cause_kind = 'alert' AND i.cause_id = $1
 ORDER BY o.created_at, o.id
"""

# Orders that wait behind a level, and those of a level that went away, never left: the levels tell of them.
ORDERS_OF_POSITION = f"""
SELECT {ORDER_COLUMNS}
  FROM intents n JOIN orders o ON o.intent_id = n.id
 WHERE n.position_id = $1 AND o.status NOT IN ('armed', 'disarmed')
 ORDER BY coalesce(o.sent_at, o.created_at), o.id
"""

FILL_COLUMNS = """
f.venue_fill_id AS id, f.order_id, f.position_id, f.account_id AS account, f.symbol, f.origin, f.side,
trim_scale(f.qty)::text AS qty, trim_scale(f.price)::text AS price, trim_scale(f.fee)::text AS fee, f.fee_currency,
f.filled_at
"""

FILLS_OF_ORDERS = f"SELECT {FILL_COLUMNS} FROM fills f WHERE f.order_id = any($1) ORDER BY f.filled_at, f.venue_fill_id"
FILLS_OF_POSITION = f"SELECT {FILL_COLUMNS} FROM fills f WHERE f.position_id = $1 ORDER BY f.filled_at, f.venue_fill_id"

POSITION_COLUMNS = """
p.id, p.account_id AS account, a.name AS account_name, p.strategy_id AS strategy, a.venue, a.environment,
p.symbol, p.side, p.status, trim_scale(p.qty)::text AS qty, trim_scale(p.qty_opened)::text AS qty_opened,
trim_scale(p.entry_price)::text AS entry_price, trim_scale(p.leverage)::text AS leverage,
trim_scale(p.realized_pnl)::text AS realized_pnl, trim_scale(p.fees)::text AS fees,
trim_scale(p.native_stop)::text AS native_stop, p.opened_at, p.closed_at, p.close_reason
"""

# The newest first; of two opened in the same microsecond the one with the lesser id.
POSITIONS = f"""
SELECT {POSITION_COLUMNS}
  FROM positions p JOIN accounts a ON a.id = p.account_id
 WHERE ($1::timestamptz IS NULL OR p.opened_at < $1 OR (p.opened_at = $1 AND p.id > $2::uuid))
   AND ($3::text IS NULL OR p.status = $3)
   AND ($4::text IS NULL OR p.strategy_id = $4)
   AND ($5::uuid IS NULL OR p.account_id = $5)
   AND ($6::text IS NULL OR p.symbol = $6)
 ORDER BY p.opened_at DESC, p.id LIMIT $7
"""
POSITION = f"SELECT {POSITION_COLUMNS} FROM positions p JOIN accounts a ON a.id = p.account_id WHERE p.id = $1"

LEVELS = """
SELECT l.id, l.position_id, l.kind, l.rung, trim_scale(l.price)::text AS price,
       trim_scale(l.fraction)::text AS fraction, trim_scale(l.qty)::text AS qty, l.trigger_by, l.status,
       trim_scale(l.activation_price)::text AS activation_price,
       trim_scale(l.distance)::text AS distance, trim_scale(l.distance_pct)::text AS distance_pct,
       trim_scale(l.min_factor)::text AS min_factor, trim_scale(l.decay_pct)::text AS decay_pct, l.due_at,
       trim_scale(l.extreme)::text AS extreme, l.armed_at, l.triggered_at,
       trim_scale(l.trigger_price)::text AS trigger_price
  FROM levels l
 WHERE l.position_id = any($1)
 ORDER BY l.kind, l.rung
"""

EVENTS = "SELECT at, kind, detail FROM events WHERE position_id = $1 ORDER BY id"
ALERT_EVENTS = "SELECT at, kind, detail FROM events WHERE alert_id = $1 ORDER BY id"

LIVE_LEASES = "SELECT name FROM leases WHERE expires_at > clock_timestamp()"


def _outcome(row: Any) -> OutcomeView | None:
    code = row["outcome_code"]
    return None if code is None else OutcomeView(code=code, reason=row["outcome_reason"])


def _alert_row(row: Any) -> AlertRow:
    return AlertRow(seq=row["seq"], alert=msgspec.convert(dict(row) | {"outcome": _outcome(row)}, AlertView))


async def alerts(
    connection: Connection, *, before_seq: int | None, strategy: str | None, status: str | None, limit: int
) -> list[AlertRow]:
    """The newest first."""
    return [_alert_row(row) for row in await connection.fetch(ALERTS, before_seq, strategy, status, limit)]


async def alert(connection: Connection, alert_id: UUID) -> AlertRow | None:
    row = await connection.fetchrow(ALERT, alert_id)
    return None if row is None else _alert_row(row)


async def alert_source(connection: Connection, alert_id: UUID) -> AlertSource | None:
    """How the alert came, its secrets already removed."""
    return as_struct_or_none(await connection.fetchrow(ALERT_SOURCE, alert_id), AlertSource)


async def instructions_of_alert(connection: Connection, alert_id: UUID) -> list[InstructionView]:
    rows = await connection.fetch(INSTRUCTIONS, alert_id)
    return [msgspec.convert(dict(row) | {"outcome": _outcome(row)}, InstructionView) for row in rows]


async def orders_of_alert(connection: Connection, alert_id: UUID) -> list[OrderView]:
    return as_structs(await connection.fetch(ORDERS_OF_ALERT, alert_id), OrderView)


async def fills_of_orders(connection: Connection, order_ids: Sequence[UUID]) -> list[FillView]:
    return as_structs(await connection.fetch(FILLS_OF_ORDERS, list(order_ids)), FillView)


async def events_of_alert(connection: Connection, alert_id: UUID) -> list[EventView]:
    return as_structs(await connection.fetch(ALERT_EVENTS, alert_id), EventView)


async def positions(
    connection: Connection,
    *,
    after: tuple[datetime, UUID] | None,
    status: str | None,
    strategy: str | None,
    account: UUID | None,
    symbol: str | None,
    limit: int,
) -> list[PositionRow]:
    """The newest first; `after` is (opened_at, id) of the last one seen."""
    opened_at, last_id = after or (None, None)
    rows = await connection.fetch(POSITIONS, opened_at, last_id, status, strategy, account, symbol, limit)
    return as_structs(rows, PositionRow)


async def position(connection: Connection, position_id: UUID) -> PositionRow | None:
    return as_struct_or_none(await connection.fetchrow(POSITION, position_id), PositionRow)


async def levels_of(connection: Connection, position_ids: Sequence[UUID]) -> dict[UUID, list[LevelView]]:
    """position -> its levels."""
    found: dict[UUID, list[LevelView]] = {position_id: [] for position_id in position_ids}
    for level in as_structs(await connection.fetch(LEVELS, list(position_ids)), LevelView):
        found[level.position_id].append(level)
    return found


async def orders_of_position(connection: Connection, position_id: UUID) -> list[OrderView]:
    return as_structs(await connection.fetch(ORDERS_OF_POSITION, position_id), OrderView)


async def fills_of_position(connection: Connection, position_id: UUID) -> list[FillView]:
    return as_structs(await connection.fetch(FILLS_OF_POSITION, position_id), FillView)


async def events_of_position(connection: Connection, position_id: UUID) -> list[EventView]:
    return as_structs(await connection.fetch(EVENTS, position_id), EventView)


async def live_leases(connection: Connection) -> set[str]:
    """Names of the leases that somebody holds right now: `watcher:00`, `worker:<id>` …"""
    return {row["name"] for row in await connection.fetch(LIVE_LEASES)}
