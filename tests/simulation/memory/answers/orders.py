"""Intents, orders and fills."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from app.domain.order import Order
from app.store import orders
from app.store.orders import Intent
from tests.simulation.memory.answers.books import claim_holds, is_holder
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Transaction
from tests.simulation.memory.values import EXACT, divide, seconds, stored_json, word

ENDED = frozenset({"filled", "cancelled", "rejected", "absent"})
LATE_TO_APPEAR = timedelta(minutes=5)
LONG_ASKED = timedelta(seconds=5)


@statement(orders.INSERT_INTENT)
def insert_intent(
    t: Tables,
    x: Transaction,
    intent_id: UUID,
    cause_kind: str,
    cause_id: UUID,
    leg: int,
    account_id: UUID,
    symbol: str,
    strategy_id: str,
    position_id: UUID,
    position_side: str,
    kind: str,
    reason: str,
    side: str,
    qty: Decimal,
    leverage: Decimal | None,
    exits: Any,
    native_stop: Decimal | None,
    status: str,
    hedge: bool,
) -> int:
    t.intents.insert(
        x,
        {
            "id": intent_id,
            "cause_kind": str(cause_kind),
            "cause_id": cause_id,
            "leg": leg,
            "account_id": account_id,
            "symbol": symbol,
            "strategy_id": strategy_id,
            "position_id": position_id,
            "position_side": str(position_side),
            "kind": str(kind),
            "reason": str(reason),
            "side": str(side),
            "qty": qty,
            "leverage": leverage,
            "exits": stored_json(exits),
            "native_stop": native_stop,
            "status": str(status),
            "hedge": hedge,
        },
    )
    return 1


@statement(orders.INSERT_ORDER)
def insert_order(
    t: Tables,
    x: Transaction,
    order_id: UUID,
    intent_id: UUID,
    attempt: int,
    client_order_id: str,
    account_id: UUID,
    symbol: str,
    side: str,
    qty: Decimal,
    reduce_only: bool,
    stop_loss: Decimal | None,
    status: str,
    created_at: datetime,
    sent_at: datetime | None,
    hedge: bool,
) -> int:
    t.orders.insert(
        x,
        {
            "id": order_id,
            "intent_id": intent_id,
            "attempt": attempt,
            "client_order_id": client_order_id,
            "account_id": account_id,
            "symbol": symbol,
            "side": str(side),
            "qty": qty,
            "reduce_only": reduce_only,
            "stop_loss": stop_loss,
            "status": str(status),
            "created_at": created_at,
            "sent_at": sent_at,
            "hedge": hedge,
        },
    )
    return 1


@statement(orders.INSERT_PLAN)
def insert_plan(
    t: Tables,
    x: Transaction,
    account_id: UUID,
    symbol: str,
    holder: UUID,
    token: int,
    intents: Sequence[Intent],
    first: Sequence[Order],
) -> list[Row]:
    if not claim_holds(t, x, account_id, symbol, holder, token):
        return [{"count": 0}]
    for i in intents:
        insert_intent(
            t, x, i.id, i.cause_kind, i.cause_id, i.leg, i.account_id, i.symbol, i.strategy_id, i.position_id,
            i.position_side, i.kind, i.reason, i.side, i.qty, i.leverage, i.exits, i.native_stop, i.status, i.hedge,
        )  # fmt: skip
    for o in first:
        insert_order(
            t, x, o.id, o.intent_id, o.attempt, o.client_order_id, o.account_id, o.symbol, o.side, o.qty,
            o.reduce_only, o.stop_loss, o.status, o.created_at, o.sent_at, o.hedge,
        )  # fmt: skip
    return [{"count": len(intents)}]


@statement(orders.INTENTS_OF)
def intents_of(t: Tables, x: Transaction, cause_kind: str, cause_id: UUID) -> list[Row]:
    return sorted(t.intents_of.get((str(cause_kind), cause_id)), key=lambda row: int(row["leg"]))


@statement(orders.INTENT)
def intent(t: Tables, x: Transaction, intent_id: UUID) -> list[Row]:
    slot = t.intents.find(intent_id)
    return [] if slot is None else [slot.row]


@statement(orders.MOVE_INTENT)
def move_intent(t: Tables, x: Transaction, intent_id: UUID, position_id: UUID) -> int:
    slot = t.intents.find(intent_id)
    if slot is None:
        return 0
    t.intents.update(x, slot, {"position_id": position_id})
    return 1


@statement(orders.FINISH_INTENT)
def finish_intent(t: Tables, x: Transaction, intent_id: UUID, status: str, code: str | None, reason: str | None) -> int:
    slot = t.intents.find(intent_id)
    if slot is None or slot.row["status"] not in ("armed", "planned"):
        return 0
    ended = {"status": str(status), "outcome_code": word(code), "outcome_reason": reason, "finished_at": x.clock()}
    t.intents.update(x, slot, ended)
    return 1


@statement(orders.END_LEG)
def end_leg(
    t: Tables, x: Transaction, intent_id: UUID, holder: UUID, token: int, status: str, code: str, reason: str
) -> list[Row]:
    slot = t.intents.find(intent_id)
    if slot is None or slot.row["status"] != "planned" or not is_holder(t, slot.row, holder, token):
        return []
    ended = {"status": str(status), "outcome_code": word(code), "outcome_reason": reason, "finished_at": x.clock()}
    return [t.intents.update(x, slot, ended)]


@statement(orders.ORDERS_OF_INTENT)
def orders_of_intent(t: Tables, x: Transaction, intent_id: UUID) -> list[Row]:
    return sorted(t.orders_of.get(intent_id), key=lambda row: int(row["attempt"]))


@statement(orders.BY_CLIENT_ID)
def by_client_id(t: Tables, x: Transaction, client_order_id: str) -> list[Row]:
    slot = t.orders.uniques["orders_client_order_id_key"].get(client_order_id)
    return [] if slot is None else [slot.row]


@statement(orders.ORDER)
def order(t: Tables, x: Transaction, order_id: UUID) -> list[Row]:
    slot = t.orders.find(order_id)
    return [] if slot is None else [slot.row]


@statement(orders.ATTEMPTS)
def attempts(t: Tables, x: Transaction, intent_id: UUID) -> list[Row]:
    return [{"coalesce": max((row["attempt"] + 1 for row in t.orders_of.get(intent_id)), default=0)}]


@statement(orders.UNRESOLVED)
def unresolved(t: Tables, x: Transaction, account_id: UUID, older_than_s: float) -> list[Row]:
    before = x.clock() - seconds(older_than_s)
    found = [
        row
        for row in t.unresolved.rows()
        if row["account_id"] == account_id and row["sent_at"] is not None and row["sent_at"] < before
    ]
    return sorted(found, key=lambda row: row["sent_at"].timestamp())


@statement(orders.IN_FLIGHT)
def in_flight(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> list[Row]:
    return [{"exists": t.unresolved.has((account_id, symbol))}]


@statement(orders.OPENING_IN_FLIGHT)
def opening_in_flight(t: Tables, x: Transaction, account_id: UUID, symbol: str, side: str) -> list[Row]:
    found = any(
        not row["reduce_only"] and (not row["hedge"] or row["side"] == side)
        for row in t.unresolved.get((account_id, symbol))
    )
    return [{"exists": found}]


@statement(orders.DOUBTFUL)
def doubtful(t: Tables, x: Transaction, account_id: UUID) -> list[Row]:
    after = x.clock() - LATE_TO_APPEAR
    return [
        row
        for row in t.absent.get(account_id)
        if row["answered_at"] is not None
        and row["answered_at"] > after
        and row["sent_at"] is not None
        and row["sent_at"] < row["answered_at"] - LONG_ASKED
    ]


@statement(orders.MOVE)
def move(
    t: Tables,
    x: Transaction,
    order_id: UUID,
    to: str,
    sources: Sequence[str],
    venue_order_id: str | None,
    venue_code: str | None,
    reason: str | None,
    sent_at: datetime | None,
) -> list[Row]:
    slot = t.orders.find(order_id)
    if slot is None or slot.row["status"] not in sources:
        return []
    row = slot.row
    now = x.clock()
    changes: Row = {"status": str(to)}
    if venue_order_id is not None:
        changes["venue_order_id"] = venue_order_id
    if venue_code is not None:
        changes["venue_code"] = word(venue_code)
    if reason is not None:
        changes["reason"] = reason
    if row["sent_at"] is None:
        changes["sent_at"] = now if sent_at is None else sent_at
    if row["answered_at"] is None and to not in ("sent", "unknown"):
        changes["answered_at"] = now
    if to in ENDED:
        changes["finished_at"] = now
    return [t.orders.update(x, slot, changes)]


@statement(orders.DISARM_OF_POSITION)
def disarm_of_position(t: Tables, x: Transaction, position_id: UUID) -> int:
    now = x.clock()
    count = 0
    for slot in t.intents_of_position.slots(position_id):
        count += _disarm_orders(t, x, slot.row["id"], now)
        if slot.row["status"] == "armed":
            t.intents.update(x, slot, {"status": "disarmed", "finished_at": now})
    return count


@statement(orders.ARM_INTENTS)
def arm_intents(t: Tables, x: Transaction, intent_ids: Sequence[UUID]) -> int:
    count = 0
    for intent_id in intent_ids:
        slot = t.intents.find(intent_id)
        if slot is not None and slot.row["status"] == "disarmed":
            t.intents.update(x, slot, {"status": "armed", "finished_at": None})
            count += 1
    return count


@statement(orders.DISARM_ORDERS)
def disarm_orders(t: Tables, x: Transaction, intent_ids: Sequence[UUID]) -> int:
    now = x.clock()
    return sum(_disarm_orders(t, x, intent_id, now) for intent_id in intent_ids)


def _disarm_orders(t: Tables, x: Transaction, intent_id: UUID, now: datetime) -> int:
    count = 0
    for slot in t.orders_of.slots(intent_id):
        if slot.row["status"] == "armed":
            t.orders.update(x, slot, {"status": "disarmed", "finished_at": now})
            count += 1
    return count


@statement(orders.INSERT_FILL)
def insert_fill(
    t: Tables,
    x: Transaction,
    account_id: UUID,
    symbol: str,
    venue_fill_id: str,
    order_id: UUID | None,
    position_id: UUID | None,
    venue_order_id: str,
    client_order_id: str | None,
    origin: str,
    side: str,
    qty: Decimal,
    price: Decimal,
    fee: Decimal,
    fee_currency: str,
    filled_at: datetime,
    position_side: str | None,
) -> int:
    row = {
        "account_id": account_id,
        "symbol": symbol,
        "venue_fill_id": venue_fill_id,
        "order_id": order_id,
        "position_id": position_id,
        "venue_order_id": venue_order_id,
        "client_order_id": client_order_id,
        "origin": str(origin),
        "side": str(side),
        "qty": qty,
        "price": price,
        "fee": fee,
        "fee_currency": fee_currency,
        "filled_at": filled_at,
        "position_side": word(position_side),
    }
    try:
        t.fills.insert(x, row)  # a row that may not be is refused even if its id is taken
    except asyncpg.UniqueViolationError:
        return 0
    return 1


@statement(orders.COUNT_FILL)
def count_fill(
    t: Tables, x: Transaction, order_id: UUID, qty: Decimal, price: Decimal, venue_order_id: str | None
) -> int:
    slot = t.orders.find(order_id)
    if slot is None:
        return 0
    row = slot.row
    filled = EXACT.add(row["filled_qty"], qty)
    worth = EXACT.add(EXACT.multiply(row["avg_price"] or Decimal(0), row["filled_qty"]), EXACT.multiply(price, qty))
    changes: Row = {"filled_qty": filled, "avg_price": divide(worth, filled)}
    if row["venue_order_id"] is None:
        changes["venue_order_id"] = venue_order_id
    t.orders.update(x, slot, changes)
    return 1


@statement(orders.KNOWN_FILLS)
def known_fills(t: Tables, x: Transaction, account_id: UUID, symbol: str, ids: Sequence[str]) -> list[Row]:
    return [
        {"venue_fill_id": fill_id}
        for fill_id in dict.fromkeys(ids)
        if t.fills.find((account_id, symbol, fill_id)) is not None
    ]
