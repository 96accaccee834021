"""The life of one book, in the order in which it happened: our rows and the exchange's side by side."""

from datetime import UTC, datetime
from typing import Any

from app.store.db import Connection
from bench.up import Up

Line = tuple[datetime, str]

ALERTS = """
SELECT i.created_at AS at, 'instruction ' || left(i.id::text, 13) || ' ' || i.cause_kind || ' '
       || left(i.cause_id::text, 13) || ' ' || coalesce(i.request->>'action', i.request->>'target', '') || ' size '
       || coalesce(i.request->'size'->>'value', '-') || ': ' || i.status || ' ' || coalesce(i.outcome_code, '-') || ' '
       || coalesce(i.outcome_reason, '') || ' attempts ' || i.attempts || ' ended '
       || coalesce(i.finished_at::text, '-')
  FROM instructions i JOIN accounts a ON a.id = i.account_id
 WHERE a.name = $1 AND i.symbol = $2
"""
ORDERS = """
SELECT o.created_at AS at, 'order ' || o.client_order_id || ' ' || o.status || ' ' || n.kind || ' ' || o.side || ' '
       || trim_scale(o.qty) || ' of intent ' || left(n.id::text, 13) || ' (' || n.cause_kind || ' '
       || left(n.cause_id::text, 13) || ', leg ' || n.leg || ', ' || trim_scale(n.qty) || ', ' || n.status
       || ') filled ' || trim_scale(o.filled_qty) || ' sent ' || coalesce(o.sent_at::text, '-') || ' ended '
       || coalesce(o.finished_at::text, '-') || ' ' || coalesce(o.reason, '')
  FROM orders o JOIN intents n ON n.id = o.intent_id JOIN accounts a ON a.id = o.account_id
 WHERE a.name = $1 AND o.symbol = $2 AND o.status NOT IN ('armed', 'disarmed')
"""
FILLS = """
SELECT f.filled_at AS at, 'fill ' || f.side || ' ' || trim_scale(f.qty) || ' at ' || trim_scale(f.price) || ' '
       || coalesce(f.client_order_id, '-') || ' ' || f.origin || ' of position '
       || coalesce(left(f.position_id::text, 13), '-') || ' recorded ' || f.recorded_at
  FROM fills f JOIN accounts a ON a.id = f.account_id
 WHERE a.name = $1 AND f.symbol = $2
"""
POSITIONS = """
SELECT p.opened_at AS at, 'position ' || left(p.id::text, 13) || ' ' || p.side || ' ' || trim_scale(p.qty) || ' '
       || p.status || ' epoch ' || p.epoch || ' native stop '
       || coalesce(trim_scale(p.native_stop)::text, '-') || ' closed '
       || coalesce(p.closed_at::text, '-') || ' ' || coalesce(p.close_reason, '')
  FROM positions p JOIN accounts a ON a.id = p.account_id
 WHERE a.name = $1 AND p.symbol = $2
"""
LEVELS = """
SELECT coalesce(l.triggered_at, l.armed_at) AS at, 'level ' || l.kind || ' ' || l.rung || ' ' || l.status || ' of '
       || left(l.position_id::text, 13) || ' at ' || coalesce(trim_scale(l.price)::text, '-') || ' qty '
       || trim_scale(l.qty)
  FROM levels l JOIN positions p ON p.id = l.position_id JOIN accounts a ON a.id = p.account_id
 WHERE a.name = $1 AND p.symbol = $2
"""
EVENTS = """
SELECT e.at, 'event ' || e.kind || ' ' || e.detail::text
  FROM events e JOIN accounts a ON a.id = e.account_id LEFT JOIN positions p ON p.id = e.position_id
 WHERE a.name = $1 AND coalesce(p.symbol, e.detail->>'symbol') = $2
"""


async def timeline(connection: Connection, up: Up, book: tuple[str, str]) -> str:
    """As text, for a person."""
    lines: list[Line] = []
    for query in (ALERTS, ORDERS, FILLS, POSITIONS, LEVELS, EVENTS):
        lines += [(row["at"], f"ours     {row[1]}") for row in await connection.fetch(query, *book)]
    ledger = await up.ledger(book[1])
    lines += [
        (_at(row["created_at_ms"]), f"exchange {_order(row)}") for row in ledger["orders"] if row["account"] == book[0]
    ]
    lines += [(_at(row["at_ms"]), f"exchange {_fill(row)}") for row in ledger["fills"] if row["account"] == book[0]]
    held = [row for row in ledger["positions"] if row["account"] == book[0]]
    head = f"--- {'/'.join(book)}: the exchange holds {[(row['side'], row['qty'], row['stop_loss']) for row in held]}"
    return "\n".join([head, *(f"{at:%H:%M:%S.%f} {said}" for at, said in sorted(lines))])


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _order(row: dict[str, Any]) -> str:
    reduces = " reduce-only" if row["reduce_only"] else ""
    stop = f" {row['stop_order_type']} at {row['trigger_price']}" if row["stop_order_type"] else ""
    return (
        f"order {row['client_order_id'] or '-'} {row['status']} {row['side']} {row['qty']}{reduces}{stop} filled "
        f"{row['filled_qty']} changed {_at(row['updated_at_ms']):%H:%M:%S.%f}"
    )


def _fill(row: dict[str, Any]) -> str:
    return f"fill {row['side']} {row['qty']} at {row['price']} {row['client_order_id'] or '-'}"
