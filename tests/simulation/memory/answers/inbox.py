"""The inbox: alerts, their keys, and the instructions of each book."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.domain.refusals import Outcome
from app.store import inbox
from tests.simulation.memory.answers.books import is_holder
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import WAITING, Tables
from tests.simulation.memory.transaction import Slot, Transaction
from tests.simulation.memory.values import instant_text, seconds, stored_json, word

NEIGHBOURS_MAX = 50
GRAVEST_FIRST = ("needs_operator", "refused", "expired", "superseded", "done")


@statement(inbox.STORE)
def store(
    t: Tables,
    x: Transaction,
    alerts: Sequence[inbox.NewAlert],
    wanted: Sequence[Sequence[inbox.NewInstruction]],
) -> list[Row]:
    claimed = {one.id for one in sorted(alerts, key=inbox.key_of) if _claim(t, x, one)}
    requests = {one.id: stored_json(one.signals) for one in alerts}
    for one, instructions in zip(alerts, wanted, strict=True):
        if one.id not in claimed:
            continue
        alert = {
            "id": one.id,
            "strategy_id": one.strategy_id,
            "body": one.body,
            "content_type": one.content_type,
            "source": one.source,
            "format": str(one.format),
            "signal": requests[one.id][0],
            "more_signals": requests[one.id][1:],
            "sent_at": one.signals[0].sent_at,
            "received_at": one.received_at,
            "marks": {"received": instant_text(one.received_at)},
            "status": "received",
        }
        if not instructions:
            alert |= {
                "status": "refused",
                "outcome_code": str(Outcome.NO_ACCOUNT),
                "outcome_reason": "the strategy trades no account: add one to it",
                "finished_at": one.received_at,
            }
        t.alerts.insert(x, alert)
    for one, instructions in zip(alerts, wanted, strict=True):
        if one.id not in claimed:
            continue
        for instruction in sorted(instructions, key=lambda each: each.leg):
            request = requests[one.id][instruction.leg]
            t.instructions.insert(
                x,
                {
                    "id": instruction.id,
                    "cause_kind": "alert",
                    "cause_id": one.id,
                    "account_id": instruction.account_id,
                    "symbol": request["symbol"],
                    "strategy_id": one.strategy_id,
                    "multiplier": instruction.multiplier,
                    "request": request,
                    "leg": instruction.leg,
                },
            )
    return [{"id": one.id} for one in alerts if one.id in claimed]


def _claim(t: Tables, x: Transaction, alert: inbox.NewAlert) -> bool:
    held = t.alert_keys.find(inbox.key_of(alert))
    claim = {"body_hash": alert.body_hash, "alert_id": alert.id}
    if held is None:
        new = {"strategy_id": alert.strategy_id, "key": alert.key, "windowed": alert.windowed}
        t.alert_keys.insert(x, {**new, **claim})
    elif held.row["windowed"] and held.row["claimed_at"] < x.now - timedelta(seconds=inbox.HASH_WINDOW_S):
        t.alert_keys.update(x, held, {**claim, "claimed_at": x.now})
    else:
        return False
    return True


@statement(inbox.KEY_HOLDERS)
def key_holders(t: Tables, x: Transaction, strategy_ids: Sequence[str], keys: Sequence[str]) -> list[Row]:
    slots = [t.alert_keys.find(one) for one in zip(strategy_ids, keys, strict=True)]
    columns = ("strategy_id", "key", "alert_id", "body_hash")
    return [{name: slot.row[name] for name in columns} for slot in slots if slot is not None]


@statement(inbox.ALERTS_BEFORE)
def alerts_before(
    t: Tables, x: Transaction, strategy_id: str, before: UUID | None, at: datetime, most: int
) -> list[Row]:
    alert = None if before is None else t.alerts.row(before)
    seq = None if alert is None else alert["seq"]
    ours = [row for row in t.alerts.rows if row["strategy_id"] == strategy_id]
    if before is not None:
        ours = [row for row in ours if seq is not None and row["seq"] < seq]
    latest = sorted(ours, key=lambda row: row["seq"], reverse=True)[:most]
    return [{"count": sum(row["received_at"] > at - timedelta(minutes=1) for row in latest)}]


@statement(inbox.INSTRUCT)
def instruct(
    t: Tables,
    x: Transaction,
    instruction_id: UUID,
    cause_kind: str,
    cause_id: UUID,
    account_id: UUID,
    symbol: str,
    strategy_id: str,
    request: Any,
    position_id: UUID,
) -> int:
    cause = (str(cause_kind), cause_id, account_id, symbol, 0)
    if t.instructions.uniques["instructions_cause"].get(cause) is not None:
        t.instructions.skip_identity()
        return 0
    t.instructions.insert(
        x,
        {
            "id": instruction_id,
            "cause_kind": str(cause_kind),
            "cause_id": cause_id,
            "account_id": account_id,
            "symbol": symbol,
            "strategy_id": strategy_id,
            "request": stored_json(request),
            "position_id": position_id,
        },
    )
    return 1


@statement(inbox.CLOSING_WAITS)
def closing_waits(t: Tables, x: Transaction, account_id: UUID, symbol: str, but: UUID) -> list[Row]:
    found = any(
        row["id"] != but
        and (
            row["cause_kind"] != "alert"
            or row["request"].get("target") == "flat"
            or (row["request"].get("action") or "").startswith("close")
        )
        for row in t.waiting.get((account_id, symbol))
    )
    return [{"exists": found}]


@statement(inbox.NEIGHBOURS)
def neighbours(
    t: Tables,
    x: Transaction,
    account_id: UUID,
    symbol: str,
    strategy_id: str,
    but: UUID,
    seq: int,
    sent_at: datetime | None,
) -> list[Row]:
    last = sorted(t.instructions_of_book.get((account_id, symbol)), key=_seq)[-NEIGHBOURS_MAX:]
    found = []
    for row in last:
        if row["cause_kind"] != "alert" or row["strategy_id"] != strategy_id or row["cause_id"] == but:
            continue
        request, status = row["request"], row["status"]
        waits = status == "pending"
        sent = request.get("sent_at")
        made_later = sent is not None and sent_at is not None and datetime.fromisoformat(sent) > sent_at
        if not (row["seq"] > seq if waits else made_later):
            continue
        closes = request.get("target") == "flat" or (request.get("action") or "").startswith(("close", "reduce"))
        acted = {intent["kind"] for intent in t.intents_of.get(("instruction", row["id"]))}
        done = status == "done"
        found.append(
            {
                "alert_id": row["cause_id"],
                "request": request,
                "received_at": row["created_at"],
                "waits": waits,
                "done": done,
                "closed": (done and closes) or not acted.isdisjoint(("reduce", "close")),
                "opened": (done and not closes and request.get("target") is not None)
                or not acted.isdisjoint(("open", "add")),
            }
        )
    return found


def _seq(row: Row) -> int:
    seq: int = row["seq"]
    return seq


@statement(inbox.WAITING_BOOKS)
def waiting_books(t: Tables, x: Transaction, limit: int) -> list[Row]:
    now = x.clock()
    first: dict[tuple[UUID, str], int] = {}
    for book in t.waiting.entries:
        due = [row["seq"] for row in t.waiting.get(book) if row["retry_at"] <= now]
        if due:
            first[book] = min(due)
    longest = sorted(first, key=first.__getitem__)[:limit]
    return [{"account_id": account_id, "symbol": symbol} for account_id, symbol in longest]


def _next(t: Tables, account_id: UUID, symbol: str) -> Slot | None:
    """The book's oldest unfinished instruction."""
    return min(t.waiting.slots((account_id, symbol)), key=lambda slot: int(slot.row["seq"]), default=None)


@statement(inbox.NEXT_ID)
def next_id(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> list[Row]:
    slot = _next(t, account_id, symbol)
    if slot is None:
        return []
    return [{"case": slot.row["id"] if slot.row["retry_at"] <= x.clock() else None}]


def _begin(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> Row | None:
    """Begin the oldest instruction if it is due; the row with its alert's receipt."""
    x.unhurried = True
    slot = _next(t, account_id, symbol)
    if slot is None or slot.row["retry_at"] > x.clock():
        return None
    begun = t.instructions.update(x, slot, {"status": "executing", "attempts": slot.row["attempts"] + 1})
    received_at = begun["created_at"]
    alert = t.alerts.find(begun["cause_id"])
    if alert is not None:
        received_at = alert.row["received_at"]
        if begun["cause_kind"] == "alert" and alert.row["status"] == "received":
            t.alerts.update(x, alert, {"status": "executing"})
    return begun | {"received_at": received_at}


@statement(inbox.TAKE)
def take(t: Tables, x: Transaction, account_id: UUID, symbol: str, holder: UUID) -> list[Row]:
    slot = t.books.find((account_id, symbol))
    if slot is None:
        token = 1
        t.books.insert(x, {"account_id": account_id, "symbol": symbol, "holder": holder, "token": token})
    else:
        book = slot.row
        claimed = book["holder"]
        if claimed is not None and claimed != holder and t.worker_lives(claimed, x.clock()):
            return []
        token = book["token"] + 1
        t.books.update(x, slot, {"holder": holder, "token": token})
    begun = _begin(t, x, account_id, symbol)
    return [{"token": token} | (NOTHING_BEGUN if begun is None else begun)]


@statement(inbox.BEGIN_NEXT)
def begin_next(t: Tables, x: Transaction, account_id: UUID, symbol: str, holder: UUID, token: int) -> list[Row]:
    x.unhurried = True
    if not is_holder(t, {"account_id": account_id, "symbol": symbol}, holder, token):
        return []
    begun = _begin(t, x, account_id, symbol)
    return [] if begun is None else [begun]


@statement(inbox.POSTPONE)
def postpone(
    t: Tables, x: Transaction, instruction_id: UUID, holder: UUID, token: int, delay_s: float, why: str
) -> int:
    slot = t.instructions.find(instruction_id)
    if slot is None or slot.row["status"] != "executing" or not is_holder(t, slot.row, holder, token):
        return 0
    t.instructions.update(x, slot, {"retry_at": x.clock() + seconds(delay_s), "waits_for": why})
    return 1


@statement(inbox.FAIL)
def fail(t: Tables, x: Transaction, instruction_id: UUID, holder: UUID, token: int) -> list[Row]:
    slot = t.instructions.find(instruction_id)
    if slot is None or not is_holder(t, slot.row, holder, token):
        return []
    failures = slot.row["failures"] + 1
    t.instructions.update(x, slot, {"failures": failures})
    return [{"failures": failures}]


@statement(inbox.FORETELL)
def foretell(t: Tables, x: Transaction, instruction_id: UUID, code: str, reason: str) -> int:
    slot = t.instructions.find(instruction_id)
    if slot is None or slot.row["status"] != "executing":
        return 0
    t.instructions.update(x, slot, {"outcome_code": word(code), "outcome_reason": reason})
    return 1


@statement(inbox.FINISH)
def finish(
    t: Tables,
    x: Transaction,
    instruction_id: UUID,
    holder: UUID,
    token: int,
    status: str,
    code: str | None,
    reason: str | None,
) -> list[Row]:
    slot = t.instructions.find(instruction_id)
    if slot is None or slot.row["status"] not in WAITING or not is_holder(t, slot.row, holder, token):
        return []
    ended = {
        "status": str(status),
        "outcome_code": word(code),
        "outcome_reason": reason,
        "waits_for": None,
        "finished_at": x.clock(),
    }
    row = t.instructions.update(x, slot, ended)
    return [{"cause_kind": row["cause_kind"], "cause_id": row["cause_id"]}]


@statement("SELECT 1 FROM alerts WHERE id = $1 FOR UPDATE", "inbox.finish: lock the alert")
def lock_alert(t: Tables, x: Transaction, alert_id: UUID) -> list[Row]:
    return [] if t.alerts.find(alert_id) is None else [{"?column?": 1}]


def _gravity(row: Row) -> tuple[int, int]:
    """For sorting: the gravest first; nulls come last, as in PostgreSQL."""
    status, code = row["status"], row["outcome_code"]
    place = GRAVEST_FIRST.index(status) if status in GRAVEST_FIRST else len(GRAVEST_FIRST)
    return place, 2 if code is None else int(code == "nothing_to_do")


@statement(inbox.FINISH_ALERT)
def finish_alert(t: Tables, x: Transaction, alert_id: UUID, marks: Any) -> int:
    slot = t.alerts.find(alert_id)
    if slot is None or slot.row["status"] not in ("received", "executing"):
        return 0
    others = t.instructions_of.get(("alert", alert_id))
    if not others or any(row["status"] in WAITING for row in others):
        return 0
    gravest = min(others, key=_gravity)
    reason = gravest["outcome_reason"]
    if len(others) > 1:
        done = sum(row["status"] == "done" for row in others)
        kind = "orders" if any(row["leg"] for row in others) else "accounts"
        reason = f"{done} of {len(others)} {kind} done; {reason or ''}"
    now = x.clock()
    ended = {
        "status": gravest["status"],
        "outcome_code": gravest["outcome_code"],
        "outcome_reason": reason,
        "marks": slot.row["marks"] | stored_json(marks) | {"finished": instant_text(now)},
        "finished_at": now,
    }
    t.alerts.update(x, slot, ended)
    return 1


NOTHING_BEGUN: Row = dict.fromkeys([*Tables().instructions.columns, "received_at"])
