"""Drifts and troubles: what people are told of until it is over."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from app.store import drifts, troubles
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Slot, Transaction

OF_LATE = timedelta(minutes=10)


def _open(t: Tables, account_id: UUID) -> list[Slot]:
    return t.asked.slots(account_id)


@statement(drifts.ASK)
def ask(
    t: Tables,
    x: Transaction,
    drift_id: UUID,
    account_id: UUID,
    symbol: str,
    side: str,
    kind: str,
    position_id: UUID | None,
    detail: str,
) -> list[Row]:
    slot = t.drifts.uniques["drifts_open"].get((account_id, symbol, str(side), str(kind)))
    if slot is not None:
        t.drifts.update(x, slot, {"detail": detail, "position_id": position_id})
        return [{"?column?": slot.row["id"] == drift_id}]
    _insert(t, x, drift_id, account_id, symbol, side, kind, position_id, detail, {"status": "needs_operator"})
    return [{"?column?": True}]


def _insert(
    t: Tables,
    x: Transaction,
    drift_id: UUID,
    account_id: UUID,
    symbol: str,
    side: str,
    kind: str,
    position_id: UUID | None,
    detail: str,
    state: Row,
) -> None:
    drift = {
        "id": drift_id,
        "account_id": account_id,
        "symbol": symbol,
        "side": str(side),
        "kind": str(kind),
        "position_id": position_id,
        "detail": detail,
    }
    t.drifts.insert(x, drift | state)


@statement(drifts.HEALED)
def healed(
    t: Tables,
    x: Transaction,
    drift_id: UUID,
    account_id: UUID,
    symbol: str,
    side: str,
    kind: str,
    position_id: UUID | None,
    detail: str,
) -> int:
    state = {"status": "healed", "ended_at": x.clock()}
    _insert(t, x, drift_id, account_id, symbol, side, kind, position_id, detail, state)
    return 1


@statement(drifts.GONE)
def gone(
    t: Tables, x: Transaction, account_id: UUID, symbols: Sequence[str], sides: Sequence[str], kinds: Sequence[str]
) -> list[Row]:
    still = set(zip(symbols, sides, kinds, strict=True))
    ended = {"status": "gone", "ended_at": x.clock()}
    return [
        t.drifts.update(x, slot, ended)
        for slot in _open(t, account_id)
        if (slot.row["symbol"], slot.row["side"], slot.row["kind"]) not in still
    ]


@statement(drifts.ADOPTED)
def adopted(t: Tables, x: Transaction, account_id: UUID, symbol: str, side: str, position_id: UUID) -> int:
    found = [slot for slot in _open(t, account_id) if slot.row["symbol"] == symbol and slot.row["side"] == str(side)]
    for slot in found:
        t.drifts.update(x, slot, {"status": "adopted", "ended_at": x.clock(), "position_id": position_id})
    return len(found)


@statement(drifts.SIZE_DIFFERS)
def size_differs(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> list[Row]:
    found = [
        {"detail": row["detail"]}
        for row in t.asked.get(account_id)
        if row["symbol"] == symbol and row["kind"] == "size_differs"
    ]
    return found[:1]


@statement(troubles.BEGIN)
def begin(t: Tables, x: Transaction, account_id: UUID, symbol: str, why: str) -> int:
    if t.troubles.find((account_id, symbol)) is not None:
        return 0
    t.troubles.insert(x, {"account_id": account_id, "symbol": symbol, "why": why})
    return 1


@statement(troubles.END)
def end(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> int:
    slot = t.troubles.find((account_id, symbol))
    if slot is None:
        return 0
    t.troubles.delete(x, slot)
    return 1


@statement(troubles.SYMBOLS)
def symbols(t: Tables, x: Transaction, account_id: UUID) -> list[Row]:
    return [
        {"symbol": row["symbol"]} for row in t.troubles.rows if row["account_id"] == account_id and row["symbol"] != ""
    ]


@statement(troubles.HELD)
def held(t: Tables, x: Transaction, account_id: UUID) -> list[Row]:
    return [{"symbol": symbol} for holder, symbol in t.live.entries if holder == account_id]


@statement(troubles.ACCOUNTS)
def accounts(t: Tables, x: Transaction) -> list[Row]:
    after = x.now - OF_LATE
    used = dict.fromkeys(account_id for account_id, _ in t.live.entries)
    used |= dict.fromkeys(row["account_id"] for row in t.instructions.rows if row["created_at"] > after)
    used |= dict.fromkeys(row["account_id"] for row in t.troubles.rows)
    found = []
    for account_id in used:
        account = t.accounts.row(account_id)
        if account is not None and account["removed_at"] is None:
            found.append({"account_id": account_id})
    return found
