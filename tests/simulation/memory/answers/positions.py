"""Positions, and what is told of them."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.store import positions
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Transaction
from tests.simulation.memory.values import EXACT, seconds, stored_json, word

LATE_TO_APPEAR = timedelta(minutes=5)
LATELY = timedelta(minutes=1)
DAY = timedelta(days=1)


@statement(positions.LIVE)
@statement(positions.LIVE_FOR_UPDATE)
def live(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> list[Row]:
    return sorted(t.live.get((account_id, symbol)), key=lambda row: str(row["side"]))


@statement(positions.GET)
def get(t: Tables, x: Transaction, position_id: UUID) -> list[Row]:
    slot = t.positions.find(position_id)
    return [] if slot is None else [slot.row]


@statement(positions.LIVE_OF_ACCOUNT)
def live_of_account(t: Tables, x: Transaction, account_id: UUID) -> list[Row]:
    return [row for row in t.live.rows() if row["account_id"] == account_id]


@statement(positions.INSERT)
def insert(
    t: Tables,
    x: Transaction,
    position_id: UUID,
    account_id: UUID,
    strategy_id: str,
    symbol: str,
    side: str,
    epoch: int,
    status: str,
    qty: Decimal,
    qty_opened: Decimal,
    entry_price: Decimal,
    realized_pnl: Decimal,
    fees: Decimal,
    leverage: Decimal | None,
    exits: Any,
    native_stop: Decimal | None,
    opened_at: datetime,
    hedge: bool,
) -> int:
    t.positions.insert(
        x,
        {
            "id": position_id,
            "account_id": account_id,
            "strategy_id": strategy_id,
            "symbol": symbol,
            "side": str(side),
            "epoch": epoch,
            "status": str(status),
            "qty": qty,
            "qty_opened": qty_opened,
            "entry_price": entry_price,
            "realized_pnl": realized_pnl,
            "fees": fees,
            "leverage": leverage,
            "exits": stored_json(exits),
            "native_stop": native_stop,
            "opened_at": opened_at,
            "hedge": hedge,
        },
    )
    return 1


@statement(positions.UPDATE_FOLD)
def update_fold(
    t: Tables,
    x: Transaction,
    position_id: UUID,
    status: str,
    qty: Decimal,
    qty_opened: Decimal,
    entry_price: Decimal,
    realized_pnl: Decimal,
    fees: Decimal,
    closed_at: datetime | None,
    close_reason: str | None,
) -> int:
    folded: Row = {
        "status": str(status),
        "qty": qty,
        "qty_opened": qty_opened,
        "entry_price": entry_price,
        "realized_pnl": realized_pnl,
        "fees": fees,
        "closed_at": closed_at,
        "close_reason": word(close_reason),
    }
    if status == "closed":
        folded["native_stop"] = None
    folded["ended_at"] = x.clock() if status == "closed" else None
    return _update_live(t, x, position_id, folded)


def _update_live(t: Tables, x: Transaction, position_id: UUID, changes: Row) -> int:
    """A closed position is never written again."""
    slot = t.positions.find(position_id)
    if slot is None or slot.row["status"] == "closed":
        return 0
    t.positions.update(x, slot, changes)
    return 1


@statement(positions.ADOPT)
def adopt(t: Tables, x: Transaction, position_id: UUID, qty: Decimal, at: datetime) -> int:
    slot = t.positions.find(position_id)
    if slot is None:
        return 0
    t.positions.update(x, slot, {"adopted_qty": EXACT.add(slot.row["adopted_qty"], qty), "adopted_at": at})
    return 1


@statement(positions.NOT_LET_GO)
def not_let_go(t: Tables, x: Transaction, account_id: UUID, symbol: str, within_s: float) -> list[Row]:
    after = x.clock() - seconds(within_s)
    ended = [row for row in t.closed.get(account_id) if row["symbol"] == symbol and _is_held_on(row, after)]
    sides = dict.fromkeys(row["side"] for row in ended)
    for order in t.unresolved.get((account_id, symbol)):
        if order["reduce_only"]:
            sides["long" if order["side"] == "sell" else "short"] = None
    return [{"side": side} for side in sides]


def _is_held_on(row: Row, after: datetime) -> bool:
    return row["released_at"] is None and row["ended_at"] is not None and row["ended_at"] > after


@statement(positions.UNRELEASED)
def unreleased(t: Tables, x: Transaction, within_s: float) -> list[Row]:
    after = x.clock() - seconds(within_s)
    closed = [row for account_id in t.closed.entries for row in t.closed.get(account_id)]
    return [{"id": row["id"], "symbol": row["symbol"]} for row in closed if _is_held_on(row, after)]


@statement(positions.RELEASE)
def release(t: Tables, x: Transaction, ended: list[UUID], names: list[str], tokens: list[int]) -> int:
    released, now = 0, x.clock()
    for position_id, name, token in zip(ended, names, tokens, strict=True):
        slot = t.positions.find(position_id)
        if slot is None or not t.is_held(name, token, now):
            continue
        if slot.row["status"] == "closed" and slot.row["released_at"] is None:
            t.positions.update(x, slot, {"released_at": x.clock()})
            released += 1
    return released


@statement(positions.CLOSED_LATELY)
def closed_lately(t: Tables, x: Transaction, account_id: UUID, since: datetime) -> list[Row]:
    return [row for row in t.closed.get(account_id) if row["closed_at"] is not None and row["closed_at"] > since]


@statement(positions.SET_STATUS)
def set_status(t: Tables, x: Transaction, position_id: UUID, status: str) -> int:
    slot = t.positions.find(position_id)
    if slot is None or slot.row["status"] in ("closed", status):
        return 0
    t.positions.update(x, slot, {"status": str(status)})
    return 1


@statement(positions.OPENED)
def opened(t: Tables, x: Transaction, intent_id: UUID) -> int:
    intent = t.intents.find(intent_id)
    slot = None if intent is None else t.positions.find(intent.row["position_id"])
    if slot is None or slot.row["status"] != "opening":
        return 0
    t.positions.update(x, slot, {"status": "open"})
    return 1


@statement(positions.SET_NATIVE_STOP)
def set_native_stop(t: Tables, x: Transaction, position_id: UUID, price: Decimal | None) -> int:
    return _update_live(t, x, position_id, {"native_stop": price})


@statement(positions.SET_EXITS)
def set_exits(t: Tables, x: Transaction, position_id: UUID, exits: Any) -> int:
    return _update_live(t, x, position_id, {"exits": stored_json(exits)})


@statement(positions.CHANGED_LATELY)
def changed_lately(t: Tables, x: Transaction, account_id: UUID, symbol: str, within_s: float) -> list[Row]:
    after = x.clock() - seconds(within_s)
    return [{"exists": any(row["recorded_at"] > after for row in t.fills_of_book.get((account_id, symbol)))}]


@statement(positions.ACCOUNTS_IN_USE)
def accounts_in_use(t: Tables, x: Transaction) -> list[Row]:
    after, ended_after = x.clock() - LATE_TO_APPEAR, x.clock() - LATELY
    found = dict.fromkeys(account_id for account_id, _ in [*t.live.entries, *t.unresolved.entries])
    found |= dict.fromkeys(t.asked.entries)
    for account_id in t.closed.entries:
        if any(row["closed_at"] is not None and row["closed_at"] > ended_after for row in t.closed.get(account_id)):
            found[account_id] = None
    for row in t.absent.rows():
        if row["answered_at"] is not None and row["answered_at"] > after:
            found[row["account_id"]] = None
    return [{"account_id": account_id} for account_id in found]


@statement(positions.SYMBOLS_TO_WATCH)
def symbols_to_watch(t: Tables, x: Transaction) -> list[Row]:
    after = x.now - DAY
    found = dict.fromkeys(t.live.entries)
    for row in t.instructions.rows:
        if row["created_at"] > after:
            found[(row["account_id"], row["symbol"])] = None
    return [{"account_id": account_id, "symbol": symbol} for account_id, symbol in found]


@statement(positions.EVENT)
def event(
    t: Tables,
    x: Transaction,
    kind: str,
    position_id: UUID | None,
    alert_id: UUID | None,
    account_id: UUID | None,
    detail: Any,
) -> int:
    t.events.insert(
        x,
        {
            "kind": kind,
            "position_id": position_id,
            "alert_id": alert_id,
            "account_id": account_id,
            "detail": stored_json(detail),
        },
    )
    return 1


@statement(positions.WAS_CHANGED)
def was_changed(t: Tables, x: Transaction, position_id: UUID, change_id: str) -> list[Row]:
    found = any(
        row["position_id"] == position_id and row["kind"] == "exits_changed" and row["detail"].get("id") == change_id
        for row in t.events.rows
    )
    return [{"exists": found}]
