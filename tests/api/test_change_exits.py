"""A trader moves a stop and changes targets of a live position."""

from typing import Any

import httpx
import pytest

from app.ids import new_id
from tests.support.house import House

LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


def prices(position: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((level["kind"], level["price"]) for level in position["levels"] if level["status"] == "armed")


async def test_a_trader_changes_the_exits_of_a_position(house: House, house_trader: httpx.AsyncClient) -> None:
    await house.alert(**LONG)
    path = f"/positions/{(await house.last_position()).id}"
    body = {"stop_loss": {"price": "59700"}, "take_profit": [{"pct": 2, "fraction": "0.5"}]}
    answer = await house_trader.patch(path + "/exits", json=body)
    assert answer.status_code == 202, answer.text
    position = (await house_trader.get(path)).json()
    assert prices(position) == [("stop_loss", "59700"), ("take_profit", "61200")]
    [event] = [event for event in position["events"] if event["kind"] == "exits_changed"]
    assert event["detail"]["id"] == answer.json()["intent_id"]
    answer = await house_trader.patch(path + "/exits", json={"take_profit": None})
    assert answer.status_code == 202, answer.text
    assert prices((await house_trader.get(path)).json()) == [("stop_loss", "59700")]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "no_exits"),
        ([], 422, "bad_value"),
        ({"stop": 1}, 422, "unknown_field"),
        ({"stop_loss": {"pct": -1}}, 422, "bad_stop_loss"),
        ({"stop_loss": {"price": "70000"}}, 422, "stop_wrong_side"),
        ({"stop_loss": None}, 422, "no_stop"),
    ],
)
async def test_what_cannot_be_changed_says_why(
    house: House, house_trader: httpx.AsyncClient, body: Any, status: int, code: str
) -> None:
    await house.alert(**LONG)
    path = f"/positions/{(await house.last_position()).id}"
    before = (await house_trader.get(path)).json()
    answer = await house_trader.patch(path + "/exits", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert prices((await house_trader.get(path)).json()) == prices(before)


async def test_exits_of_nothing_and_of_the_past_are_not_changed(house: House, house_trader: httpx.AsyncClient) -> None:
    await house.alert(**LONG)
    path = f"/positions/{(await house.last_position()).id}"
    await house.alert(symbol="BTCUSDT", action="close")
    body = {"stop_loss": {"pct": 2}}
    answer = await house_trader.patch(path + "/exits", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "already_closed"), answer.text
    answer = await house_trader.patch(f"/positions/{new_id()}/exits", json=body)
    assert answer.status_code == 404
