"""What our tables and the exchange's ledger say, read for the judge."""

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from app.store.db import Connection
from bench.judge import AlertRow, Book, Execution, FillRow, OrderRow, Ours, PositionRow, Theirs, VenueOrder
from bench.up import Up

ALERTS = """
SELECT a.id::text, coalesce(k.key, '') AS key, a.strategy_id, a.status, a.outcome_code, count(i.id) AS instructions,
       count(i.id) FILTER (WHERE i.status IN ('pending', 'executing')) AS unfinished
  FROM alerts a
  LEFT JOIN alert_keys k ON k.alert_id = a.id
  LEFT JOIN instructions i ON i.cause_kind = 'alert' AND i.cause_id = a.id
 GROUP BY a.id, k.key
"""
ORDERS = """
SELECT o.client_order_id, a.name, o.symbol, o.intent_id::text, n.kind, n.qty AS intent_qty, o.status,
       coalesce((SELECT sum(f.qty) FROM fills f WHERE f.order_id = o.id), 0) AS filled
  FROM orders o JOIN intents n ON n.id = o.intent_id JOIN accounts a ON a.id = o.account_id
"""
FILLS = """
SELECT a.name, f.symbol, f.filled_at, f.side, f.qty, f.price, f.fee, f.position_id::text
  FROM fills f JOIN accounts a ON a.id = f.account_id
"""
POSITIONS = """
SELECT p.id::text, a.name, p.symbol, p.side, p.status, p.qty FROM positions p JOIN accounts a ON a.id = p.account_id
"""
# What the house is still busy with, apart from what rests at the exchange.
BUSY = """
SELECT (SELECT count(*) FROM alerts WHERE status IN ('received', 'executing')) AS alerts,
       (SELECT count(*) FROM instructions WHERE status IN ('pending', 'executing')) AS instructions,
       (SELECT count(*) FROM orders WHERE status IN ('sent', 'unknown', 'accepted')) AS orders,
       (SELECT count(*) FROM positions WHERE status IN ('opening', 'closing')) AS positions
"""
OUTCOMES = (
    "SELECT status || ' ' || coalesce(outcome_code, '-') AS code, count(*) AS n FROM alerts GROUP BY 1 ORDER BY 2 DESC"
)
EVENTS = "SELECT kind, count(*) AS n FROM events GROUP BY 1 ORDER BY 2 DESC"


async def busy(connection: Connection) -> dict[str, int]:
    """What is not finished yet, by kind; empty when all is quiet."""
    row = await connection.fetchrow(BUSY)
    return {name: count for name, count in row.items() if count}


async def counted(connection: Connection, query: str) -> dict[str, int]:
    """First column -> second."""
    return {row[0]: row[1] for row in await connection.fetch(query)}


async def ours(connection: Connection, up: Up) -> Ours:
    """Our tables, and for live positions what the API says of their protection."""
    protected: dict[str, tuple[str, ...]] = {}
    for status in ("opening", "open", "closing"):
        found = await up.api("GET", f"/positions?status={status}&limit=500")
        assert found["next"] is None, "more live positions than books"
        protected |= {one["id"]: tuple(one["protected_by"]) for one in found["items"]}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        alerts = await connection.fetch(ALERTS)
        orders = await connection.fetch(ORDERS)
        fills = await connection.fetch(FILLS)
        positions = await connection.fetch(POSITIONS)
    return Ours(
        alerts=[
            AlertRow(
                id=row["id"],
                sender_id=row["key"].removeprefix("id:"),
                strategy=row["strategy_id"],
                status=row["status"],
                code=row["outcome_code"],
                instructions=row["instructions"],
                unfinished=row["unfinished"],
            )
            for row in alerts
        ],
        orders=[
            OrderRow(
                client_order_id=row["client_order_id"],
                book=(row["name"], row["symbol"]),
                intent=row["intent_id"],
                kind=row["kind"],
                intent_qty=row["intent_qty"],
                status=row["status"],
                filled=row["filled"],
            )
            for row in orders
        ],
        fills=[
            FillRow(
                execution=Execution(
                    (row["name"], row["symbol"]),
                    round(row["filled_at"].timestamp() * 1000),
                    row["side"],
                    row["qty"],
                    row["price"],
                    row["fee"],
                ),
                position=row["position_id"],
            )
            for row in fills
        ],
        positions=[
            PositionRow(
                id=row["id"],
                book=(row["name"], row["symbol"]),
                side=row["side"],
                status=row["status"],
                qty=row["qty"],
                protected_by=protected.get(row["id"], ()),
            )
            for row in positions
        ],
    )


async def theirs(up: Up, symbols: Iterable[str], accounts: Collection[str]) -> Theirs:
    orders: list[VenueOrder] = []
    fills: list[Execution] = []
    held: dict[Book, Decimal] = {}
    for symbol in symbols:
        found = await up.ledger(symbol)
        orders += [_venue_order(row) for row in found["orders"] if row["account"] in accounts]
        fills += [_execution(row) for row in found["fills"] if row["account"] in accounts]
        for row in found["positions"]:
            if row["side"] != "flat" and row["account"] in accounts:
                qty = Decimal(row["qty"])
                held[row["account"], symbol] = qty if row["side"] == "long" else -qty
    return Theirs(orders=orders, fills=fills, held=held)


def _venue_order(row: Mapping[str, Any]) -> VenueOrder:
    return VenueOrder(
        client_order_id=row["client_order_id"],
        book=(row["account"], row["symbol"]),
        side=row["side"],
        status=row["status"],
        filled=Decimal(row["filled_qty"]),
        conditional=bool(row["stop_order_type"]),
        trigger_price=row["trigger_price"],
        created_ms=row["created_at_ms"],
        changed_ms=row["updated_at_ms"],
    )


def _execution(row: Mapping[str, Any]) -> Execution:
    book, numbers = (row["account"], row["symbol"]), (Decimal(row[name]) for name in ("qty", "price", "fee"))
    return Execution(book, row["at_ms"], row["side"].lower(), *numbers)
