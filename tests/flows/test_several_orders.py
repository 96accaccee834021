"""One alert with several orders: stored together, carried out in their sequence, each book on its own."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.errors import InvalidInput
from tests.support.house import House

D = Decimal
LONG = {"symbol": "BTCUSDT.P", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
SHORT = LONG | {"action": "sell", "size": {"base": "0.02"}}
CLOSE = {"symbol": "BTCUSDT.P", "action": "close_long"}
FLY = {"symbol": "BTCUSDT.P", "action": "fly"}


def several(house: House, *orders: dict[str, Any]) -> bytes:
    return msgspec.json.encode([{"secret": house.secret, **order} for order in orders])


async def test_a_close_and_an_entry_turn_the_position_round(house: House) -> None:
    assert (await house.alert(**LONG))["status"] == "done"
    receipt = await house.send(several(house, CLOSE, SHORT))
    await house.work(receipt.alert_id)
    outcome = await house.outcome(receipt.alert_id)
    assert (outcome["status"], outcome["code"]) == ("done", "executed")
    assert outcome["reason"].startswith("2 of 2 orders done"), outcome
    assert await house.held() == ("short", "0.02")
    told = await house.rows(
        "SELECT leg, outcome_code FROM instructions WHERE cause_id = $1 ORDER BY seq", receipt.alert_id
    )
    assert [(row["leg"], row["outcome_code"]) for row in told] == [(0, "executed"), (1, "executed")]


async def test_an_order_that_is_refused_does_not_hold_up_the_next(house: House) -> None:
    assert (await house.alert(**LONG))["status"] == "done"
    larger = {"symbol": "BTCUSDT.P", "action": "add", "size": {"base": "0.0000001"}}
    receipt = await house.send(several(house, larger, CLOSE))
    await house.work(receipt.alert_id)
    outcome = await house.outcome(receipt.alert_id)
    assert (outcome["status"], outcome["code"]) == ("refused", "size_below_minimum")
    assert outcome["reason"].startswith("1 of 2 orders done"), outcome
    assert await house.position() is None


async def test_the_same_orders_again_are_a_duplicate(house: House) -> None:
    body = several(house, CLOSE, SHORT)
    first, second = await house.send(body), await house.send(body)
    assert (second.alert_id, second.duplicate) == (first.alert_id, True)
    assert len(await house.rows("SELECT id FROM instructions")) == 2


async def test_if_one_order_cannot_be_read_nothing_is_stored(house: House) -> None:
    with pytest.raises(InvalidInput) as refused:
        await house.send(several(house, CLOSE, FLY))
    assert refused.value.code == "bad_action"
    assert refused.value.detail.startswith("Order 2: ")
    assert await house.rows("SELECT id FROM alerts") == []


async def test_orders_of_one_alert_do_not_replace_each_other(house: House) -> None:
    """Two alerts with these targets would: the newer says where the position should end up."""
    goal = {"symbol": "BTCUSDT.P", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
    receipt = await house.send(several(house, {**goal, "target": "long"}, {**goal, "target": "short"}))
    await house.work(receipt.alert_id)
    told = await house.rows("SELECT outcome_code FROM instructions ORDER BY seq")
    assert [row["outcome_code"] for row in told] == ["executed", "executed"]
    assert await house.held() == ("short", "0.01")
