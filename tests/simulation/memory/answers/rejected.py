"""What was refused at the door."""

from datetime import datetime, timedelta
from uuid import UUID

from app.store import rejected
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Slot, Transaction

COLUMNS = ("id", "strategy_id", "code", "reason", "field", "body", "body_bytes", "content_type", "source")


@statement(rejected.KEEP)
def keep(
    t: Tables,
    x: Transaction,
    rejected_id: UUID,
    strategy_id: str,
    code: str,
    reason: str,
    field: str | None,
    body: str,
    body_bytes: int,
    content_type: str,
    source: str,
    received_at: datetime,
) -> int:
    ours = [slot for slot in t.rejected.slots if slot.row["strategy_id"] == strategy_id]
    ours.sort(key=_id, reverse=True)
    values = (rejected_id, strategy_id, code, reason, field, body, body_bytes, content_type, source)
    t.rejected.insert(x, dict(zip(COLUMNS, values, strict=True)) | {"received_at": received_at})
    leaving = ours[rejected.KEPT_MAX - 1 :]
    for slot in leaving:
        t.rejected.delete(x, slot)
    return len(leaving)


def _id(slot: Slot) -> int:
    found: UUID = slot.row["id"]
    return found.int


@statement(rejected.FORGET)
def forget(t: Tables, x: Transaction) -> int:
    before = x.now - timedelta(days=rejected.AGE_MAX_DAYS)
    leaving = [slot for slot in t.rejected.slots if slot.row["received_at"] < before]
    for slot in leaving:
        t.rejected.delete(x, slot)
    return len(leaving)
