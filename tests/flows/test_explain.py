"""What an alert would do: its reading and plan, with nothing stored and nothing sent."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain.order import PositionSide
from app.errors import InvalidInput
from app.flows.door import Delivery, Unauthorized
from app.flows.explain import Explanation, WhatIf, explain
from app.store.strategies import AccountShare
from tests.support.house import House

D = Decimal
LONG = {"symbol": "BTCUSDT.P", "action": "buy", "size": {"base": "0.0123456"}, "stop_loss": {"pct": 1}}
FLAT = (PositionSide.LONG, D(0))


async def explained(
    house: House, body: Mapping[str, object] | bytes, what_if: WhatIf | None = None, **more: Any
) -> Explanation:
    raw = body if isinstance(body, bytes) else msgspec.json.encode({"secret": house.secret, **body})
    told = {"strategy_id": house.strategy, "path_secret": None, "content_type": "", "source": "", "raw": raw} | more
    found = await explain(house.resources, Delivery(**told), what_if or WhatIf())
    assert await house.rows("SELECT FROM alerts") == []
    assert await house.sent() == []
    return found


async def test_an_opening_is_explained_with_its_rounded_quantity(each_house: House) -> None:
    house = each_house
    told = await explained(house, LONG | {"take_profit": [{"pct": 1, "fraction": 0.5}], "leverage": "5x"})
    [leg] = told.legs
    [order] = leg.orders
    assert (told.verdict, told.format, told.repairs) == ("would_execute", "native", [])
    assert (leg.action, leg.symbol, leg.side, leg.venue) == ("open_long", "BTCUSDT", "long", house.venue)
    assert leg.size == {"unit": "base", "value": "0.0123456"}
    assert (leg.stop_loss, leg.leverage) == ({"pct": "1"}, "5")
    assert leg.take_profit == [{"pct": "1", "fraction": "0.5"}]
    assert (order.account_name, order.side, order.qty, order.reduce_only) == ("paper", "buy", "0.012", False)
    assert all(check.ok for check in told.checks)
    shape = msgspec.to_builtins(told)
    assert "target" not in shape["legs"][0]
    assert "code" not in shape


@pytest.mark.parametrize(
    ("held", "body", "action", "orders"),
    [
        (FLAT, {"target": "long", "size": {"base": 1}}, "open_long", [("buy", "1", False)]),
        ((PositionSide.LONG, D("1.5")), {"target": "long", "size": {"base": 1}}, "reduce", [("sell", "0.5", True)]),
        ((PositionSide.LONG, D("1.5")), {"target": "long", "size": {"base": 2}}, "add", [("buy", "0.5", False)]),
        (
            (PositionSide.LONG, D("1.5")), {"target": "short", "size": {"base": 1}}, "reverse_to_short",
            [("sell", "1.5", True), ("sell", "1", False)],
        ),
        ((PositionSide.SHORT, D(2)), {"action": "close"}, "close", [("buy", "2", True)]),
        (FLAT, {"action": "close"}, "none", []),
    ],
)  # fmt: skip
async def test_what_it_would_do_if_something_else_were_held(
    house: House,
    held: tuple[PositionSide, Decimal],
    body: dict[str, object],
    action: str,
    orders: list[tuple[str, str, bool]],
) -> None:
    told = await explained(house, {"symbol": "BTCUSDT", "stop_loss": {"pct": 1}, **body}, WhatIf(held=held))
    [leg] = told.legs
    assert leg.action == action
    assert [(one.side, one.qty, one.reduce_only) for one in leg.orders] == orders
    assert told.verdict == ("would_execute" if orders else "nothing_to_do")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"symbol": "BTCUSDT", "action": "buy", "size": {"base": 1}}, "no_stop"),
        ({"symbol": "NONEUSDT", "action": "buy", "size": {"base": 1}, "stop_loss": {"pct": 1}}, "unknown_symbol"),
        (LONG | {"time": "2020-01-01T00:00:00Z"}, "too_old"),
        (LONG | {"size": {"base": "0.0001"}}, "size_below_minimum"),
        (LONG | {"size": 5}, "bad_size"),
        ({"symbol": "BTCUSDT", "action": "dance"}, "bad_action"),
    ],
)
async def test_a_refusal_says_why(house: House, body: dict[str, object], code: str) -> None:
    told = await explained(house, body)
    assert (told.verdict, told.code) == ("refused", code)
    assert told.reason
    assert any(not check.ok for check in told.checks)


async def test_another_instant_than_now(house: House) -> None:
    old = LONG | {"time": "2020-01-01T00:00:00Z"}
    at = house.resources.now().replace(year=2020, month=1, day=1, hour=0, minute=0, second=30)
    assert (await explained(house, old, WhatIf(at=at))).verdict == "would_execute"


async def test_each_account_has_its_orders_and_its_check(house: House) -> None:
    binance = await house.add_account("b-account-1", "binance")
    shares = [AccountShare(account_id=house.account_id), AccountShare(account_id=binance, multiplier=D(2))]
    await house.add_strategy("both", shares)
    told = await explained(house, LONG, strategy_id="both")
    assert [(one.account_name, one.qty) for one in told.legs[0].orders] == [
        ("paper", "0.012"),
        ("b-account-1", "0.024"),
    ]
    assert [check.name for check in told.checks if check.name.startswith("account ")] == ["account 1", "account 2"]


async def test_only_who_has_the_secret_is_told_anything(house: House) -> None:
    with pytest.raises(Unauthorized):
        await explained(house, LONG | {"secret": "wrong"})
    with pytest.raises(Unauthorized):
        await explained(house, b"not json", path_secret="wrong")
    with pytest.raises(InvalidInput):
        await explained(house, b"not json")
    told = await explained(house, b"not json", path_secret=house.secret)
    assert (told.verdict, told.code, told.legs) == ("refused", "not_json", [])


async def test_a_change_of_exits_is_explained(house: House) -> None:
    change = {"symbol": "BTCUSDT", "action": "set_exits", "stop_loss": {"price": "59000"}}
    assert (await explained(house, change)).verdict == "nothing_to_do"
    held = WhatIf(held=(PositionSide.LONG, D(1)))
    assert (await explained(house, change, held)).verdict == "would_execute"
    told = await explained(house, change | {"stop_loss": {"price": "61000"}}, held)
    assert (told.verdict, told.code) == ("refused", "stop_wrong_side")


async def test_each_order_of_an_alert_finds_what_those_before_it_leave(house: House) -> None:
    orders = [
        {"secret": house.secret, "symbol": "BTCUSDT", "action": "close_long"},
        {**LONG, "action": "sell"},
        {"symbol": "BTCUSDT", "action": "reduce", "size": {"pct_position": 50}},
    ]
    told = await explained(house, msgspec.json.encode(orders), WhatIf(held=(PositionSide.LONG, D("1.5"))))
    assert [leg.action for leg in told.legs] == ["close", "open_short", "reduce"]
    assert [[(one.side, one.qty, one.reduce_only) for one in leg.orders] for leg in told.legs] == [
        [("sell", "1.5", True)], [("sell", "0.012", False)], [("buy", "0.006", True)],
    ]  # fmt: skip
    assert told.verdict == "would_execute"


async def test_what_cannot_be_done_yet_is_explained_as_it_was_understood(house: House) -> None:
    body = {"symbol": "BTCUSDT", "action": "buy", "quantity": 0.01, "orderType": "limit", "limitPrice": "59000"}
    found = await house.resources.pool.execute("UPDATE strategies SET format = 'traderspost'")
    assert found == "UPDATE 1"
    told = await explained(house, {"ticker": "BTCUSDT", **body, "secret": house.secret})
    assert (told.verdict, told.code) == ("refused", "not_supported_yet")
    assert told.legs[0].action == "open_long"
    assert told.legs[0].orders == []


async def test_an_exchange_that_is_silent_is_not_waited_for_without_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.flows.explain.ANSWER_S_MAX", 0.05)
    await house.fault("delay", ms=500, times=None, channel="rest")
    told = await explained(house, LONG)
    assert (told.verdict, told.code) == ("refused", "venue_unavailable")
    assert told.reason is not msgspec.UNSET
    assert "within" in str(told.reason)


async def test_a_missed_alert_is_told_and_what_nets_is_named_by_what_it_does(house: House) -> None:
    held = WhatIf(held=(PositionSide.SHORT, D(2)))
    told = await explained(house, LONG | {"previous": "flat"}, held)
    assert told.verdict == "would_execute"
    [check] = [check for check in told.checks if not check.ok]
    assert check.name == "previous"
    assert "short is held" in check.detail

    script = f"SYMBOL=BTCUSDT\nSIGNAL=BUY\nVOLUME=0.5\nTOKEN={house.secret}".encode()
    [leg] = (await explained(house, script, held)).legs
    assert (leg.action, leg.side, leg.orders[0].qty, leg.orders[0].reduce_only) == ("reduce", "short", "0.5", True)
