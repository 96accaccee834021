"""Levels: armed, moved, crossed, done."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.store import levels
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import UNRESOLVED, Tables
from tests.simulation.memory.transaction import Transaction
from tests.simulation.memory.values import EXACT

COLUMNS = (
    "id", "position_id", "kind", "rung", "fraction", "qty", "price", "activation_price", "distance", "distance_pct",
    "min_factor", "decay_pct", "due_at", "extreme", "extreme_at", "trigger_by", "armed_at", "order_id", "intent_id",
    "status",
)  # fmt: skip


def _level(row: Row, position: Row) -> Row:
    level = {name: row[name] for name in COLUMNS}
    level["side"] = position["side"]
    return level


@statement(levels.OF_POSITION)
def of_position(t: Tables, x: Transaction, position_id: UUID) -> list[Row]:
    position = t.positions.row(position_id)
    return [] if position is None else [_level(row, position) for row in t.levels_of.get(position_id)]


@statement(levels.ARMED_PAGE)
def armed_page(t: Tables, x: Transaction, position_id: UUID, level_id: UUID, limit: int) -> list[Row]:
    found = []
    for of in sorted(t.armed.entries):
        position = t.positions.row(of)
        if position is not None and position["status"] != "closed":
            found += [(of, row["id"], row["order_id"], position["symbol"]) for row in t.armed.get(of)]
    names = ("position_id", "id", "order_id", "symbol")
    page = [one for one in sorted(found) if one[:2] > (position_id, level_id)][:limit]
    return [dict(zip(names, one, strict=True)) for one in page]


@statement(levels.ARMED_WITH_IDS)
def armed_with_ids(t: Tables, x: Transaction, ids: Sequence[UUID]) -> list[Row]:
    found = [row for of in list(t.armed.entries) for row in armed_of_position(t, x, of)]
    return [row for row in found if row["id"] in ids]


@statement(levels.ARMED_OF_POSITION)
def armed_of_position(t: Tables, x: Transaction, position_id: UUID) -> list[Row]:
    position = t.positions.row(position_id)
    if position is None or position["status"] == "closed":
        return []
    found = []
    for row in t.armed.get(position_id):
        order = t.orders.row(row["order_id"])
        if order is not None:
            fires = {
                "account_id": position["account_id"],
                "symbol": position["symbol"],
                "client_order_id": order["client_order_id"],
                "close_side": order["side"],
                "close_qty": order["qty"],
                "hedge": order["hedge"],
            }
            found.append(_level(row, position) | fires)
    return found


@statement(levels.INSERT)
def insert(
    t: Tables,
    x: Transaction,
    level_id: UUID,
    position_id: UUID,
    kind: str,
    rung: int,
    fraction: Decimal,
    qty: Decimal,
    price: Decimal | None,
    activation_price: Decimal | None,
    distance: Decimal | None,
    distance_pct: Decimal | None,
    min_factor: Decimal,
    decay_pct: Decimal | None,
    due_at: datetime | None,
    trigger_by: str,
    extreme: Decimal | None,
    status: str,
    intent_id: UUID,
    order_id: UUID,
    armed_at: datetime,
) -> int:
    t.levels.insert(
        x,
        {
            "id": level_id,
            "position_id": position_id,
            "kind": str(kind),
            "rung": rung,
            "fraction": fraction,
            "qty": qty,
            "price": price,
            "activation_price": activation_price,
            "distance": distance,
            "distance_pct": distance_pct,
            "min_factor": min_factor,
            "decay_pct": decay_pct,
            "due_at": due_at,
            "trigger_by": str(trigger_by),
            "extreme": extreme,
            "status": str(status),
            "intent_id": intent_id,
            "order_id": order_id,
            "armed_at": armed_at,
        },
    )
    return 1


@statement(levels.REARM)
def rearm(
    t: Tables,
    x: Transaction,
    level_id: UUID,
    qty: Decimal,
    price: Decimal | None,
    activation_price: Decimal | None,
    distance: Decimal | None,
    distance_pct: Decimal | None,
    min_factor: Decimal,
    decay_pct: Decimal | None,
    due_at: datetime | None,
    trigger_by: str,
    extreme: Decimal | None,
    order_id: UUID,
    armed_at: datetime,
) -> int:
    slot = t.levels.find(level_id)
    if slot is None or slot.row["status"] not in ("armed", "disarmed"):
        return 0
    moved: dict[str, Any] = {
        "qty": qty,
        "price": price,
        "activation_price": activation_price,
        "distance": distance,
        "distance_pct": distance_pct,
        "min_factor": min_factor,
        "decay_pct": decay_pct,
        "due_at": due_at,
        "trigger_by": str(trigger_by),
        "extreme": extreme,
        "extreme_at": slot.row["extreme_at"] if slot.row["armed_at"] == armed_at else None,
        "order_id": order_id,
        "armed_at": armed_at,
        "status": "armed",
    }
    t.levels.update(x, slot, moved)
    return 1


@statement(levels.DISARM)
def disarm(t: Tables, x: Transaction, position_id: UUID, ids: Sequence[UUID] | None) -> list[Row]:
    found = []
    for slot in t.armed.slots(position_id):
        if ids is None or slot.row["id"] in ids:
            row = t.levels.update(x, slot, {"status": "disarmed"})
            found.append({"intent_id": row["intent_id"]})
    return found


@statement(levels.TRIGGER)
def trigger(t: Tables, x: Transaction, level_id: UUID, price: Decimal | None, trade_id: str | None) -> int:
    slot = t.levels.find(level_id)
    if slot is None:
        return 0
    row = slot.row
    crossed = {
        "status": "done" if row["status"] == "done" else "triggered",
        "triggered_at": x.clock() if row["triggered_at"] is None else row["triggered_at"],
        "trigger_price": price if row["trigger_price"] is None else row["trigger_price"],
        "trigger_trade_id": trade_id if row["trigger_trade_id"] is None else row["trigger_trade_id"],
    }
    t.levels.update(x, slot, crossed)
    return 1


@statement(levels.DONE)
def done(t: Tables, x: Transaction, level_id: UUID) -> int:
    slot = t.levels.find(level_id)
    if slot is None or slot.row["status"] == "done":
        return 0
    t.levels.update(x, slot, {"status": "done"})
    return 1


@statement(levels.SAVE_EXTREMES)
def save_extremes(
    t: Tables,
    x: Transaction,
    ids: Sequence[UUID],
    armings: Sequence[datetime],
    extremes: Sequence[Decimal],
    instants: Sequence[datetime | None],
    names: Sequence[str],
    tokens: Sequence[int],
) -> int:
    count, now = 0, x.clock()
    for level_id, armed_at, extreme, at, name, token in zip(
        ids, armings, extremes, instants, names, tokens, strict=True
    ):
        slot = t.levels.find(level_id)
        if slot is None or slot.row["status"] != "armed" or not t.is_held(name, token, now):
            continue
        if slot.row["armed_at"] != armed_at:
            continue
        position = t.positions.row(slot.row["position_id"])
        assert position is not None, "levels refer to positions"
        better = max if position["side"] == "long" else min
        kept = {
            "extreme": _of_known(better, slot.row["extreme"], extreme),
            "extreme_at": _of_known(max, slot.row["extreme_at"], at),
        }
        t.levels.update(x, slot, kept)
        count += 1
    return count


def _of_known(better: Any, old: Any, new: Any) -> Any:
    """greatest() and least(): nulls do not count."""
    if old is None or new is None:
        return new if old is None else old
    return better(old, new)


@statement(levels.KIND)
def kind(t: Tables, x: Transaction, level_id: UUID) -> list[Row]:
    row = t.levels.row(level_id)
    return [] if row is None else [{"kind": row["kind"]}]


@statement(levels.STOPPED)
def stopped(t: Tables, x: Transaction, position_id: UUID) -> list[Row]:
    found = any(
        row["kind"] != "take_profit" and row["status"] in ("triggered", "done") for row in t.levels_of.get(position_id)
    )
    return [{"exists": found}]


@statement(levels.INTERRUPTED)
def interrupted(t: Tables, x: Transaction, position_id: UUID) -> list[Row]:
    found = []
    for row in t.levels_of.get(position_id):
        stop = row["kind"] != "take_profit"
        if row["status"] != "triggered" and not (row["status"] == "done" and stop):
            continue
        if t.instructions_of.has(("level", row["id"])):
            continue
        orders = t.orders_of.get(row["intent_id"])
        if not orders or any(order["status"] in UNRESOLVED for order in orders):
            continue
        rest = row["qty"]
        for order in orders:
            rest = EXACT.subtract(rest, order["filled_qty"])
        if stop or rest > 0:
            found.append({"id": row["id"], "kind": row["kind"], "rest": rest})
    return found


@statement(levels.OF_INTENT)
def of_intent(t: Tables, x: Transaction, intent_id: UUID) -> list[Row]:
    return [{"id": row["id"]} for row in t.levels_of_intent.get(intent_id)]
