"""A chart that runs wild: beyond the strategy's alerts per minute nothing is opened, and what closes still does."""

from typing import Any

import msgspec
import pytest

from app.flows.door import Delivery
from app.flows.explain import WhatIf, explain
from app.store import strategies
from app.store.db import transaction
from app.store.strategies import Limits, StrategyChange
from tests.support.house import House

SIZED: dict[str, object] = {"symbol": "BTCUSDT", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
LONG, SHORT = {**SIZED, "action": "buy"}, {**SIZED, "action": "sell"}
CLOSE: dict[str, object] = {"symbol": "BTCUSDT", "action": "close"}


@pytest.fixture
async def limited(house: House) -> House:
    """Two alerts a minute; one came already."""
    async with transaction(house.resources.pool) as connection:
        assert await strategies.update(connection, "demo", StrategyChange(limits=Limits(alerts_per_minute=2)))
    await house.alert(**LONG)
    return house


async def ended(house: House, **body: Any) -> tuple[str, str]:
    found = await house.alert(**body)
    return found["status"], found["code"]


async def a_minute_later(house: House) -> None:
    await house.resources.pool.execute("UPDATE alerts SET received_at = received_at - interval '61 seconds'")


async def test_what_is_beyond_the_limit_opens_nothing_until_a_minute_is_over(limited: House) -> None:
    house = limited
    assert await ended(house, **CLOSE) == ("done", "executed")
    found = await house.alert(**LONG, id="third")
    assert (found["status"], found["code"]) == ("refused", "too_many_alerts")
    assert "2 alerts of strategy demo" in found["reason"]
    assert await house.held() == ("flat", "0")
    await a_minute_later(house)
    assert await ended(house, **LONG, id="later") == ("done", "executed")
    assert len(await house.sent()) == 3


@pytest.mark.parametrize(
    ("body", "held"),
    [
        ({"action": "close"}, ("flat", "0")),
        ({"action": "close_long"}, ("flat", "0")),
        ({"target": "flat"}, ("flat", "0")),
        ({"action": "reduce", "size": {"pct_position": 50}}, ("long", "0.005")),
        ({"target": "long", "size": {"base": "0.004"}}, ("long", "0.004")),
        ({"action": "set_exits", "stop_loss": {"pct": 2}}, ("long", "0.01")),
    ],
)
async def test_what_closes_or_changes_exits_is_never_held_back(
    limited: House, body: dict[str, object], held: tuple[str, str]
) -> None:
    house = limited
    await house.alert(**LONG, id="second")
    found = await house.alert(symbol="BTCUSDT", **body)
    assert found["status"] == "done", found
    assert await house.held() == held


async def test_a_reversal_still_closes(limited: House) -> None:
    house = limited
    await house.alert(**LONG, id="second")
    assert await ended(house, **SHORT) == ("refused", "too_many_alerts")
    assert await house.held() == ("flat", "0")


async def test_a_resend_and_another_strategys_alerts_do_not_count(limited: House) -> None:
    house = limited
    await house.add_strategy("other")
    for number in range(3):
        await house.send({**CLOSE, "symbol": "ETHUSDT", "id": str(number)}, "other")
        await house.send(LONG)
    assert len(await house.rows("SELECT id FROM alerts WHERE strategy_id = 'demo'")) == 1
    assert await ended(house, **SIZED, action="add") == ("done", "executed")


async def test_one_that_waited_is_judged_by_when_it_came(limited: House) -> None:
    """The third is carried out after the fourth had come."""
    house = limited
    receipts = [await house.send({**body, "id": str(n)}) for n, body in enumerate((CLOSE, LONG, LONG))]
    await house.work_book()
    found = [(await house.outcome(one.alert_id))["code"] for one in receipts]
    assert found == ["executed", "too_many_alerts", "too_many_alerts"]


async def test_an_explanation_says_so(limited: House) -> None:
    house = limited
    await house.alert(**CLOSE)
    for body, verdict in ((LONG, "refused"), (CLOSE, "nothing_to_do")):
        raw = msgspec.json.encode({"secret": house.secret, **body})
        told = Delivery(strategy_id="demo", path_secret=None, raw=raw, content_type="", source="")
        found = await explain(house.resources, told, WhatIf())
        assert found.verdict == verdict
        assert (found.code == "too_many_alerts") is (verdict == "refused")
