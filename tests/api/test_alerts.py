from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import httpx
import pytest

from app.resources import Resources
from app.store.db import transaction
from tests.api import rows


@pytest.fixture(scope="module")
async def alerts(resources: Resources) -> list[UUID]:
    """Five alerts, oldest first; the last is of another strategy and done, with all that belongs to it."""
    async with transaction(resources.pool) as db:
        for name in ("one", "two"):
            await rows.strategy(db, name)
        made = [await rows.alert(db, "one") for _ in range(4)]
        made.append(
            await rows.alert(
                db, "two", status="done", outcome_code="executed", outcome_reason="bought", finished_at=rows.START
            )
        )
        account = await rows.account(db, "alerted")
        position = await rows.position(db, account, "two")
        instruction = await rows.instruction(
            db, account, "two", cause_id=made[-1], status="done", outcome_code="executed", outcome_reason="bought",
            multiplier=Decimal("1.50"),
        )  # fmt: skip
        intent = await rows.intent(db, account, "two", position, cause_id=instruction)
        order = await rows.order(
            db, account, intent, avg_price=Decimal("64000.50"), answered_at=rows.START, stop_loss=Decimal("1E-7")
        )
        await rows.fill(db, account, order, position)
        await db.execute("INSERT INTO events (kind, alert_id, detail) VALUES ('noted', $1, '{\"a\":1}')", made[-1])
    return made


async def test_the_newest_alert_comes_first(viewer: httpx.AsyncClient, alerts: list[UUID]) -> None:
    page = (await viewer.get("/alerts")).json()
    assert [item["id"] for item in page["items"]] == [str(alert) for alert in reversed(alerts)]
    assert page["next"] is None
    assert page["items"][0] == {
        "id": str(alerts[-1]),
        "strategy": "two",
        "status": "done",
        "outcome": {"code": "executed", "reason": "bought"},
        "format": "native",
        "signal": {"symbol": "BTCUSDT", "action": "open_long"},
        "more_signals": [],
        "sent_at": None,
        "received_at": "2026-01-05T12:00:00Z",
        "finished_at": "2026-01-05T12:00:00Z",
        "marks": {"received": "2026-01-05T12:00:00Z"},
    }
    assert page["items"][1]["outcome"] is None


async def test_pages_follow_each_other(viewer: httpx.AsyncClient, alerts: list[UUID]) -> None:
    first = (await viewer.get("/alerts", params={"limit": 2})).json()
    second = (await viewer.get("/alerts", params={"limit": 2, "cursor": first["next"]})).json()
    third = (await viewer.get("/alerts", params={"limit": 2, "cursor": second["next"]})).json()
    seen = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert seen == [str(alert) for alert in reversed(alerts)]
    assert third["next"] is None


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"strategy": "one"}, 4),
        ({"strategy": "two"}, 1),
        ({"strategy": "three"}, 0),
        ({"status": "received"}, 4),
        ({"status": "done", "strategy": "one"}, 0),
        ({"limit": 500}, 5),
        ({"limit": 5}, 5),
    ],
)
async def test_the_list_is_filtered(
    viewer: httpx.AsyncClient, alerts: list[UUID], query: dict[str, str | int], count: int
) -> None:
    page = (await viewer.get("/alerts", params=query)).json()
    assert len(page["items"]) == count
    assert page["next"] is None


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("limit=0", "bad_value", "limit"),
        ("limit=501", "bad_value", "limit"),
        ("limit=x", "bad_value", "limit"),
        ("status=open", "bad_value", "status"),
        ("cursor=%25%25", "bad_cursor", "cursor"),
        ("cursor=eA", "bad_cursor", "cursor"),
        ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "bad_cursor", "cursor"),
        ("cursor=" + "a" * 400, "bad_value", "cursor"),
        ("state=done", "unknown_parameter", "state"),
    ],
)
async def test_a_query_that_cannot_be_used_is_named(
    viewer: httpx.AsyncClient, query: str, code: str, field: str
) -> None:
    answer = await viewer.get(f"/alerts?{query}")
    assert answer.status_code == 422, answer.text
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)


async def test_one_alert_comes_with_its_whole_life(viewer: httpx.AsyncClient, alerts: list[UUID]) -> None:
    answer = await viewer.get(f"/alerts/{alerts[-1]}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["body"], found["content_type"], found["source"]) == ('{"secret":"***"}', "text/plain", "10.0.0.1")
    (instruction,), (order,), (fill,), (event,) = (
        found[name] for name in ("instructions", "orders", "fills", "events")
    )
    assert instruction["account_name"] == "alerted"
    assert instruction["outcome"] == {"code": "executed", "reason": "bought"}
    assert instruction["multiplier"] == "1.5"
    assert (order["qty"], order["filled_qty"], order["avg_price"]) == ("0.01", "0.01", "64000.5")
    assert order["stop_loss"] == "0.0000001"
    assert order["kind"] == "open"
    assert fill["order_id"] == order["id"]
    assert (fill["price"], fill["fee"], fill["fee_currency"]) == ("64000.5", "0.0000001", "USDT")
    assert fill["filled_at"] == (rows.START + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert event["detail"] == {"a": 1}


async def test_an_alert_that_led_to_nothing_has_empty_lists(viewer: httpx.AsyncClient, alerts: list[UUID]) -> None:
    found = (await viewer.get(f"/alerts/{alerts[0]}")).json()
    names = ("accounts", "instructions", "orders", "fills", "events")
    assert [found[name] for name in names] == [[], [], [], [], []]


UNKNOWN = "01900000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("alert_id", [UNKNOWN, "x", "1", UNKNOWN[:-1] + "g"])
async def test_an_unknown_alert_is_not_found(viewer: httpx.AsyncClient, alert_id: str) -> None:
    answer = await viewer.get(f"/alerts/{alert_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
