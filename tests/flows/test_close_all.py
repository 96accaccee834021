"""`close_all`: one close for each symbol that the strategy holds or has an order waiting for."""

import msgspec
import pytest

from app.errors import InvalidInput
from app.flows.door import Delivery
from app.flows.explain import WhatIf, explain
from tests.support.house import House

LONG = {"action": "buy", "size": {"base": "0.1"}, "stop_loss": {"pct": 5}}


async def _symbols(house: House, alert_id: object) -> list[str]:
    rows = await house.rows("SELECT symbol FROM instructions WHERE cause_id = $1 ORDER BY leg", alert_id)
    return [row["symbol"] for row in rows]


async def test_everything_the_strategy_holds_is_closed_and_nothing_else(house: House) -> None:
    await house.price("3000", symbol="ETHUSDT")
    await house.price("200", symbol="SOLUSDT")
    await house.add_strategy("other")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert (await house.alert(symbol=symbol, **LONG))["code"] == "executed"
    theirs = await house.send({"symbol": "SOLUSDT", **LONG}, "other")
    await house.work(theirs.alert_id)
    receipt = await house.send({"action": "close_all"})
    assert await _symbols(house, receipt.alert_id) == ["BTCUSDT", "ETHUSDT"]
    await house.work(receipt.alert_id)
    outcome = await house.outcome(receipt.alert_id)
    assert (outcome["status"], outcome["code"]) == ("done", "executed")
    assert [(await house.held(symbol))[0] for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")] == ["flat", "flat", "long"]


async def test_what_was_accepted_and_only_waits_is_closed_behind_its_opening(house: House) -> None:
    opening = await house.send({"symbol": "BTCUSDT", **LONG})
    closing = await house.send({"action": "Close All"})
    await house.work(opening.alert_id)
    assert (await house.outcome(opening.alert_id))["code"] == "executed"
    assert (await house.outcome(closing.alert_id))["code"] == "executed"
    assert await house.held() == ("flat", "0")


async def test_a_symbol_that_is_named_is_closed_too(house: House) -> None:
    """Also if nothing of it is held: the alert has its outcome all the same."""
    receipt = await house.send({"action": "close_all", "symbol": "ETHUSDT.P"})
    assert await _symbols(house, receipt.alert_id) == ["ETHUSDT"]
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["code"] == "nothing_to_do"


async def test_without_anything_to_close_it_is_refused_by_name_and_kept(house: House) -> None:
    with pytest.raises(InvalidInput) as refused:
        await house.send({"action": "close_all"})
    assert refused.value.code == "nothing_held"
    assert await house.rows("SELECT id FROM alerts") == []
    assert [row["code"] for row in await house.rows("SELECT code FROM rejected_alerts")] == ["nothing_held"]


async def test_it_is_explained_with_each_of_its_closes(house: House) -> None:
    assert (await house.alert(symbol="BTCUSDT", **LONG))["code"] == "executed"
    await house.send({"symbol": "ETHUSDT", **LONG})
    raw = msgspec.json.encode({"secret": house.secret, "action": "close_all"})
    delivery = Delivery(strategy_id=house.strategy, path_secret=None, raw=raw, content_type="", source="")
    told = await explain(house.resources, delivery, WhatIf())
    assert [(leg.symbol, leg.action) for leg in told.legs] == [("BTCUSDT", "close"), ("ETHUSDT", "none")]
    assert told.verdict == "would_execute"
