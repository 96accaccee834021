"""An alert that went to several accounts: each has an outcome of its own."""

from decimal import Decimal

import httpx

from app.resources import Resources
from app.store.db import transaction
from tests.api import rows


async def test_each_account_has_an_outcome_of_its_own(viewer: httpx.AsyncClient, resources: Resources) -> None:
    async with transaction(resources.pool) as db:
        await rows.strategy(db, "one")
        alert = await rows.alert(db, "one", status="refused", outcome_code="no_size", finished_at=rows.START)
        one, other, waiting = [await rows.account(db, f"fan {number}") for number in range(3)]
        await rows.instruction(
            db, one, "one", cause_id=alert, status="done", outcome_code="executed", outcome_reason="bought",
            finished_at=rows.START,
        )  # fmt: skip
        await rows.instruction(
            db, other, "one", cause_id=alert, status="refused", outcome_code="size_below_minimum",
            outcome_reason="too small", multiplier=Decimal("0.10"), finished_at=rows.START,
        )  # fmt: skip
        await rows.instruction(db, waiting, "one", cause_id=alert)
    found = (await viewer.get(f"/alerts/{alert}")).json()["accounts"]
    shared = {"attempts": 0, "finished_at": "2026-01-05T12:00:00Z"}
    assert found == [
        {
            "account": str(one),
            "account_name": "fan 0",
            "multiplier": "1",
            "status": "done",
            "outcome": {"code": "executed", "reason": "bought"},
        }
        | shared,
        {
            "account": str(other),
            "account_name": "fan 1",
            "multiplier": "0.1",
            "status": "refused",
            "outcome": {"code": "size_below_minimum", "reason": "too small"},
        }
        | shared,
        {
            "account": str(waiting),
            "account_name": "fan 2",
            "multiplier": "1",
            "status": "pending",
            "outcome": None,
            "attempts": 0,
            "finished_at": None,
        },
    ]
