"""Rows put straight into the tables: what flows would have written."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.ids import new_id

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


async def strategy(db: Any, strategy_id: str) -> str:
    await db.execute("INSERT INTO strategies (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING", strategy_id)
    return strategy_id


async def account(db: Any, name: str) -> UUID:
    account_id = new_id()
    await db.execute(
        "INSERT INTO accounts (id, name, venue, environment, credentials) VALUES ($1, $2, 'bybit', 'simulator', '')",
        account_id,
        name,
    )
    return account_id


async def alert(db: Any, strategy_id: str, **more: Any) -> UUID:
    alert_id = new_id()
    row = {"id": alert_id, "strategy_id": strategy_id, "body": '{"secret":"***"}', "content_type": "text/plain"}
    row |= {"source": "10.0.0.1", "format": "native", "signal": {"symbol": "BTCUSDT", "action": "open_long"}}
    row |= {"received_at": START, "marks": {"received": START}}
    await insert(db, "alerts", row | more)
    return alert_id


async def instruction(db: Any, account_id: Any, strategy_id: str, **more: Any) -> UUID:
    instruction_id = new_id()
    row = {"id": instruction_id, "cause_kind": "alert", "cause_id": new_id(), "account_id": account_id}
    row |= {"symbol": "BTCUSDT", "strategy_id": strategy_id, "request": {"symbol": "BTCUSDT", "action": "close"}}
    await insert(db, "instructions", row | more)
    return instruction_id


async def position(db: Any, account_id: Any, strategy_id: str, **more: Any) -> UUID:
    position_id = new_id()
    row = {"id": position_id, "account_id": account_id, "strategy_id": strategy_id, "symbol": "BTCUSDT"}
    row |= {"side": "long", "epoch": 1, "status": "open", "qty": Decimal("0.0100"), "qty_opened": Decimal("0.01")}
    row |= {"entry_price": Decimal("64000.50"), "exits": {}, "opened_at": START}
    await insert(db, "positions", row | more)
    return position_id


async def intent(db: Any, account_id: Any, strategy_id: str, position_id: UUID, **more: Any) -> UUID:
    intent_id = new_id()
    row = {"id": intent_id, "cause_kind": "instruction", "cause_id": new_id(), "leg": 0, "account_id": account_id}
    row |= {"symbol": "BTCUSDT", "strategy_id": strategy_id, "position_id": position_id, "position_side": "long"}
    row |= {"kind": "open", "reason": "signal", "side": "buy", "qty": Decimal("0.01"), "status": "done"}
    await insert(db, "intents", row | more)
    return intent_id


async def order(db: Any, account_id: Any, intent_id: UUID, **more: Any) -> UUID:
    order_id = new_id()
    row = {"id": order_id, "intent_id": intent_id, "attempt": 0, "client_order_id": f"lh{order_id.hex}"}
    row |= {"account_id": account_id, "symbol": "BTCUSDT", "side": "buy", "qty": Decimal("0.010")}
    row |= {"reduce_only": False, "status": "filled", "filled_qty": Decimal("0.010"), "sent_at": START}
    await insert(db, "orders", row | more)
    return order_id


async def fill(db: Any, account_id: Any, order_id: UUID, position_id: UUID, **more: Any) -> str:
    row = {"account_id": account_id, "symbol": "BTCUSDT", "venue_fill_id": str(new_id()), "order_id": order_id}
    row |= {"position_id": position_id, "venue_order_id": "v1", "origin": "order", "side": "buy"}
    row |= {"qty": Decimal("0.010"), "price": Decimal("64000.50"), "fee": Decimal("0.0000001000")}
    row |= {"fee_currency": "USDT", "filled_at": START + timedelta(seconds=1)}
    await insert(db, "fills", row | more)
    return str(row["venue_fill_id"])


async def level(db: Any, position_id: UUID, kind: str, **more: Any) -> UUID:
    level_id = new_id()
    row = {"id": level_id, "position_id": position_id, "kind": kind, "fraction": Decimal(1), "qty": Decimal("0.010")}
    row |= {"price": Decimal("63000.00"), "status": "armed", "intent_id": new_id(), "order_id": new_id()}
    await insert(db, "levels", row | more)
    return level_id


async def insert(db: Any, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())
