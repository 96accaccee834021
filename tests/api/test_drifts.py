"""Differences with the exchange as people see them, and a foreign position taken under management."""

import httpx
import pytest

from app.domain.drift import DriftKind
from app.flows import reconcile
from tests.support.house import House, at_once


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch, *DriftKind)


def wanted(house: House, **more: object) -> dict[str, object]:
    body: dict[str, object] = {"account": str(house.account_id), "symbol": "BTCUSDT", "strategy": house.strategy}
    return body | {"exits": {"stop_loss": {"pct": 1}}} | more


async def test_a_foreign_position_is_listed_adopted_and_closed(house: House, house_trader: httpx.AsyncClient) -> None:
    await house.by_hand("Buy", "0.02")
    memory = reconcile.Memory()
    for _ in range(2):
        await reconcile.account(house.resources, house.account_id, memory)
    (found,) = (await house_trader.get("/drifts?status=needs_operator")).json()["items"]
    assert (found["symbol"], found["side"], found["kind"]) == ("BTCUSDT", "long", "foreign_position")
    assert "/positions/adopt" in found["todo"]

    answer = await house_trader.post("/positions/adopt", json=wanted(house, symbol="BYBIT:BTCUSDT.P"))
    assert answer.status_code == 202, answer.text
    position = (await house_trader.get(f"/positions/{answer.json()['position_id']}")).json()
    assert (position["qty"], position["strategy"], position["status"]) == ("0.02", house.strategy, "open")
    assert position["protected_by"] == ["watcher", "exchange"]
    [event] = [event for event in position["events"] if event["kind"] == "adopted"]
    assert event["detail"]["id"] == answer.json()["intent_id"]
    (found,) = (await house_trader.get("/drifts")).json()["items"]
    assert (found["status"], found["todo"], found["position"]) == ("adopted", None, position["id"])

    answer = await house_trader.post(f"/positions/{position['id']}/close")
    assert answer.status_code == 202, answer.text
    await house.work_book()
    assert await house.held() == ("flat", "0")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({}, 409, "nothing_held"),
        ({"strategy": "nobody"}, 422, "unknown_strategy"),
        ({"account": "00000000-0000-7000-8000-000000000000"}, 422, "unknown_account"),
        ({"symbol": "BTCUSD"}, 422, "wrong_market"),
        ({"exits": {"stop": 1}}, 422, "unknown_field"),
        ({"exits": {"stop_loss": {"pct": -1}}}, 422, "bad_stop_loss"),
        ({"side": "up"}, 422, "bad_value"),
    ],
)
async def test_what_cannot_be_adopted_says_why(
    house: House, house_trader: httpx.AsyncClient, change: dict[str, object], status: int, code: str
) -> None:
    answer = await house_trader.post("/positions/adopt", json=wanted(house, **change))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert await house.rows("SELECT 1 FROM positions") == []
