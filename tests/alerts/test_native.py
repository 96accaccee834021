"""Levelhead's own format, by tables."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.alerts.recognise import read
from app.domain.signal import (
    Action,
    BreakEven,
    Exits,
    PriceKind,
    PriceOrPct,
    Signal,
    Size,
    SizeUnit,
    StopLoss,
    StopStep,
    TakeProfit,
    Target,
    TimeExit,
    Trailing,
    TrailingTakeProfit,
)
from app.errors import InvalidInput

D = Decimal
BUY = {"symbol": "BTCUSDT", "action": "buy"}


def signal(body: dict[str, object]) -> Signal:
    return read(json.dumps(body).encode(), "application/json", "native", path_secret=None).signal


def base(value: str) -> Size:
    return Size(unit=SizeUnit.BASE, value=D(value))


def test_each_exit_is_read() -> None:
    exits = signal(
        BUY
        | {
            "stop_loss": {"pct": 1, "trigger_by": "mark"},
            "take_profit": [{"pct": 1, "fraction": 0.5, "trigger_by": "bid_ask"}, {"pct": 2, "fraction": 0.5}],
            "trailing": {"distance": 300, "trigger_by": "last"},
            "trailing_take_profit": {
                "activate_pct": "2%", "callback_pct": 0.5, "min_factor": "0.3", "decay_pct": 3, "trigger_by": " Mark",
            },
            "break_even": {"after_target": 1, "trigger_by": "ask"},
            "stop_steps": [{"after_target": 1, "gain_pct": "0.1%"}, {"after_target": 2, "to_target": 1}],
            "time_exit": {"after_s": "3600"},
        }
    ).exits  # fmt: skip
    assert exits == Exits(
        stop_loss=StopLoss(pct=D(1), trigger_by=PriceKind.MARK),
        take_profit=(
            TakeProfit(at=PriceOrPct(pct=D(1)), fraction=D("0.5"), trigger_by=PriceKind.BID_ASK),
            TakeProfit(at=PriceOrPct(pct=D(2)), fraction=D("0.5")),
        ),
        trailing=Trailing(distance=PriceOrPct(price=D(300))),
        trailing_take_profit=TrailingTakeProfit(
            activate=PriceOrPct(pct=D(2)),
            callback_pct=D("0.5"),
            min_factor=D("0.3"),
            decay_pct=D(3),
            trigger_by=PriceKind.MARK,
        ),
        break_even=BreakEven(after_target=1, trigger_by=PriceKind.ASK),
        stop_steps=(StopStep(after_target=1, gain_pct=D("0.1")), StopStep(after_target=2, to_target=1)),
        time_exit=TimeExit(after_s=3600),
    )


def test_set_exits_names_what_it_changes() -> None:
    wish = signal({"symbol": "BTCUSDT", "action": "Set Exits", "stop_loss": {"price": "61000"}, "take_profit": None})
    assert wish.action is Action.SET_EXITS
    assert wish.names == ("stop_loss", "take_profit")
    assert wish.exits == Exits(stop_loss=StopLoss(price=D(61000)))
    assert not wish.only_closes


def test_every_field_is_read() -> None:
    reading = read(
        json.dumps(
            {
                "secret": "a-long-secret",
                "id": "Long 2025-03-04T11:00:01Z",
                "time": "2025-03-04T11:00:01Z",
                "symbol": "BYBIT:ETHUSDT.P",
                "target": "long",
                "previous": "flat",
                "size": {"base": "0.25"},
                "leverage": "5x",
                "stop_loss": {"pct": 1.5},
                "take_profit": [{"pct": 1, "fraction": 0.5}, {"price": "2400", "fraction": "0.5"}],
                "trailing": {"activate_pct": 1, "distance_pct": 0.5},
                "break_even": {"after_pct": "1%"},
                "max_age_s": 60,
                "price": "2214.55",
                "comment": {"anything": ["else", None, True]},
            }
        ).encode(),
        "text/plain",
        path_secret=None,
    )
    assert reading.format == "native"
    assert reading.secret == "a-long-secret"
    assert reading.key == "Long 2025-03-04T11:00:01Z"
    assert reading.repairs == ()
    assert reading.signal == Signal(
        symbol="ETHUSDT",
        target=Target.LONG,
        previous=Target.FLAT,
        size=base("0.25"),
        leverage=D(5),
        exits=Exits(
            stop_loss=StopLoss(pct=D("1.5")),
            take_profit=(
                TakeProfit(at=PriceOrPct(pct=D(1)), fraction=D("0.5")),
                TakeProfit(at=PriceOrPct(price=D(2400)), fraction=D("0.5")),
            ),
            trailing=Trailing(activate=PriceOrPct(pct=D(1)), distance=PriceOrPct(pct=D("0.5"))),
            break_even=BreakEven(after=PriceOrPct(pct=D(1))),
        ),
        price=D("2214.55"),
        sent_at=datetime(2025, 3, 4, 11, 0, 1, tzinfo=UTC),
        max_age_s=60,
    )


@pytest.mark.parametrize(
    ("word", "action"),
    [
        ("buy", Action.OPEN_LONG),
        ("LONG", Action.OPEN_LONG),
        ("Enter-Long", Action.OPEN_LONG),
        ("open_long", Action.OPEN_LONG),
        ("sell", Action.OPEN_SHORT),
        (" short ", Action.OPEN_SHORT),
        ("enter short", Action.OPEN_SHORT),
        ("add", Action.ADD),
        ("reduce", Action.REDUCE),
        ("reduce_long", Action.REDUCE_LONG),
        ("Reduce Short", Action.REDUCE_SHORT),
        ("reverse", Action.REVERSE),
        ("flip", Action.REVERSE),
        ("exit", Action.CLOSE),
        ("flat", Action.CLOSE),
        ("close", Action.CLOSE),
        ("exit_long", Action.CLOSE_LONG),
        ("CloseLong", Action.CLOSE_LONG),
        ("close_short", Action.CLOSE_SHORT),
    ],
)
def test_people_write_actions_in_many_ways(word: str, action: Action) -> None:
    assert signal({"symbol": "BTCUSDT", "action": word}) == Signal(symbol="BTCUSDT", action=action)


@pytest.mark.parametrize(
    ("action", "side", "meant"),
    [
        ("close", "long", Action.CLOSE_LONG),
        ("exit", "Short", Action.CLOSE_SHORT),
        ("open", "short", Action.OPEN_SHORT),
        ("reduce", "long", Action.REDUCE_LONG),
        ("buy", "long", Action.OPEN_LONG),
        (None, "sell", Action.OPEN_SHORT),
    ],
)
def test_a_side_in_a_field_of_its_own_says_which_position_is_meant(
    action: str | None, side: str, meant: Action
) -> None:
    size = {"base": 1} if meant in (Action.OPEN_LONG, Action.OPEN_SHORT) else {"pct_position": 50}
    body: dict[str, object] = {"symbol": "BTCUSDT", "side": side, "size": size}
    wish = signal(body if action is None else {**body, "action": action})
    halves = {Action.CLOSE_LONG: Action.REDUCE_LONG, Action.CLOSE_SHORT: Action.REDUCE_SHORT}
    assert (wish.action, wish.target) == (halves.get(meant, meant), None)


@pytest.mark.parametrize(
    ("extra", "size"),
    [
        ({"size": {"base": "0.01"}}, base("0.01")),
        ({"size": {"base": 1e-2}}, base("0.01")),
        ({"size": {"contracts": "3"}}, Size(unit=SizeUnit.CONTRACTS, value=D(3))),
        ({"size": {"pct_available": "25%"}}, Size(unit=SizeUnit.PCT_AVAILABLE, value=D(25))),
        ({"size": {"quote": 150}}, Size(unit=SizeUnit.QUOTE, value=D(150))),
        ({"size": {"pct_equity": "10%"}}, Size(unit=SizeUnit.PCT_EQUITY, value=D(10))),
        ({"size": {"risk_pct": 1}}, Size(unit=SizeUnit.RISK_PCT, value=D(1))),
        ({"size": {"base": "0.01", "quote": None}}, base("0.01")),
        ({"action": "reduce", "size": {"pct_position": 50}}, Size(unit=SizeUnit.PCT_POSITION, value=D(50))),
        ({"size": None}, None),
    ],
)
def test_a_size_names_its_unit(extra: dict[str, object], size: Size | None) -> None:
    assert signal({**BUY, **extra}).size == size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-03-04T11:00:01Z", datetime(2025, 3, 4, 11, 0, 1, tzinfo=UTC)),
        ("2025-03-04T12:00:01.250+01:00", datetime(2025, 3, 4, 11, 0, 1, 250_000, tzinfo=UTC)),
        (1741086001, datetime(2025, 3, 4, 11, 0, 1, tzinfo=UTC)),
        ("1741086001250", datetime(2025, 3, 4, 11, 0, 1, 250_000, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_their_usual_forms(value: object, expected: datetime) -> None:
    assert signal({**BUY, "time": value}).sent_at == expected


@pytest.mark.parametrize(
    ("take_profit", "expected"),
    [
        ({"pct": 2}, [("2", "1")]),
        ([{"pct": 2}], [("2", "1")]),
        ([{"pct": 2, "fraction": 0.4}], [("2", "0.4")]),
        ([{"pct": 1, "fraction": 0.3}, {"pct": 2, "fraction": 0.3}], [("1", "0.3"), ("2", "0.3")]),
        ([], []),
    ],
)
def test_a_single_rung_takes_all_unless_it_says_otherwise(take_profit: object, expected: list[tuple[str, str]]) -> None:
    read_rungs = signal({**BUY, "take_profit": take_profit}).exits.take_profit
    assert [(rung.at.pct, rung.fraction) for rung in read_rungs] == [(D(pct), D(share)) for pct, share in expected]


def test_trailing_may_wake_at_once_and_be_given_in_prices() -> None:
    assert signal({**BUY, "trailing": {"distance": "300"}}).exits.trailing == Trailing(
        distance=PriceOrPct(price=D(300))
    )
    assert signal({**BUY, "trailing": {"activate_price": 65000, "distance": 300}}).exits.trailing == Trailing(
        activate=PriceOrPct(price=D(65000)), distance=PriceOrPct(price=D(300))
    )
    assert signal({**BUY, "break_even": {"after_price": 65000}}).exits.break_even == BreakEven(
        after=PriceOrPct(price=D(65000))
    )
    assert signal({**BUY, "break_even": {"after_target": "2", "offset_pct": 0.1}}).exits.break_even == BreakEven(
        after_target=2, offset_pct=D("0.1")
    )


@pytest.mark.parametrize(
    ("body", "action", "target", "size"),
    [
        # the target decides; a size is the size there
        ({"action": "buy", "target": "long", "size": {"base": 2}}, None, Target.LONG, "2"),
        ({"action": "sell", "target": "long", "size": {"base": 2}}, None, Target.LONG, "2"),  # a partial exit
        ({"action": "sell", "target": "flat"}, None, Target.FLAT, None),
        ({"action": "exit", "target": "FLAT", "size": {"base": "0"}}, None, Target.FLAT, None),
        ({"action": "sell", "target": "short", "previous": "long"}, None, Target.SHORT, None),
        ({"action": "buy", "target": "flat", "previous": "flat"}, None, Target.FLAT, None),
        # a share of the position is a reduction, any other size of a close belongs to a fixed template
        ({"action": "close", "size": {"pct_position": 50}}, Action.REDUCE, None, "50"),
        ({"action": "close_short", "size": {"pct_position": 50}}, Action.REDUCE_SHORT, None, "50"),
        ({"action": "close", "size": {"pct_position": 100}}, Action.CLOSE, None, None),
        ({"action": "close", "size": {"pct_equity": 10}}, Action.CLOSE, None, None),
        ({"action": "close_long", "size": {"base": "0"}}, Action.CLOSE_LONG, None, None),
        # a close has no exits: a plot without a value must not keep the position open
        ({"action": "close", "stop_loss": {"price": "NaN"}, "leverage": ""}, Action.CLOSE, None, None),
    ],
)
def test_action_and_target_become_one_aim(
    body: dict[str, object], action: Action | None, target: Target | None, size: str | None
) -> None:
    result = signal({"symbol": "BTCUSDT", **body})
    assert (result.action, result.target) == (action, target)
    assert (None if result.size is None else str(result.size.value)) == size


def test_a_bad_chart_price_does_not_cost_the_trade() -> None:
    raw = json.dumps({**BUY, "price": "{{close}}"}).encode()
    reading = read(raw, "application/json", path_secret=None)
    assert reading.signal.price is None
    assert reading.repairs == ("ignored price: not a price",)


@pytest.mark.parametrize(
    ("extra", "code", "field"),
    [
        ({"symbol": None}, "missing_field", "symbol"),
        ({"symbol": ""}, "bad_symbol", "symbol"),
        ({"symbol": 5}, "bad_symbol", "symbol"),
        ({"symbol": "{{ticker}}"}, "unfilled_placeholder", "symbol"),
        ({"symbol": "BTCUSD.P"}, "wrong_market", "symbol"),
        ({"action": None}, "missing_field", "action"),
        ({"action": "hodl"}, "bad_action", "action"),
        ({"action": True}, "bad_action", "action"),
        ({"action": "ｂｕｙ"}, "bad_action", "action"),
        ({"action": "cancel"}, "not_supported_yet", "action"),
        ({"action": "set_exits"}, "missing_field", "stop_loss"),
        ({"action": "set_exits", "stop_loss": {"pct": 1}, "size": {"base": "1"}}, "contradiction", "size"),
        ({"action": "set_exits", "stop_loss": {"pct": 1}, "target": "long"}, "contradiction", "action"),
        ({"target": "up"}, "bad_target", "target"),
        ({"target": "long", "previous": "up"}, "bad_target", "previous"),
        ({"target": "{{strategy.market_position}}"}, "unfilled_placeholder", "target"),
        # words that cannot all be true
        ({"action": "long", "target": "short"}, "contradiction", "action"),
        ({"action": "exit", "target": "long"}, "contradiction", "action"),
        ({"action": "buy", "target": "short", "previous": "long"}, "contradiction", "action"),
        ({"action": "sell", "target": "long", "previous": "flat", "size": {"base": 1}}, "contradiction", "action"),
        ({"action": "close_long", "target": "flat", "previous": "short"}, "contradiction", "action"),
        ({"action": "add", "target": "long", "previous": "flat"}, "contradiction", "action"),
        ({"action": "reverse", "target": "long", "previous": "long"}, "contradiction", "action"),
        ({"action": "sell", "target": "long"}, "missing_field", "size"),  # less, but how much less?
        # sizes
        ({"size": "50"}, "bad_size", "size"),
        ({"size": 0.01}, "bad_size", "size"),
        ({"size": {}}, "bad_size", "size"),
        ({"size": {"base": 1, "quote": 2}}, "bad_size", "size"),
        ({"size": {"lots": 1}}, "bad_size", "size.lots"),
        ({"size": {"base": 0}}, "bad_size", "size.base"),
        ({"size": {"base": "-1"}}, "bad_size", "size.base"),
        ({"size": {"base": "1,000"}}, "bad_size", "size.base"),
        ({"size": {"base": "1 000"}}, "bad_size", "size.base"),
        ({"size": {"base": "١"}}, "bad_size", "size.base"),
        ({"size": {"base": "１"}}, "bad_size", "size.base"),
        ({"size": {"base": True}}, "bad_size", "size.base"),
        ({"size": {"base": "NaN"}}, "bad_size", "size.base"),
        ({"size": {"base": "Infinity"}}, "bad_size", "size.base"),
        ({"size": {"base": "1e400"}}, "bad_size", "size.base"),
        ({"size": {"base": "1e-400"}}, "bad_size", "size.base"),
        ({"size": {"base": "1_0"}}, "bad_size", "size.base"),
        ({"size": {"base": "0x10"}}, "bad_size", "size.base"),
        ({"size": {"base": "5%"}}, "bad_size", "size.base"),
        ({"size": {"base": "{{strategy.order.contracts}}"}}, "unfilled_placeholder", "size.base"),
        ({"size": {"risk_pct": 101}}, "bad_size", "size.risk_pct"),
        ({"size": {"pct_available": 0}}, "bad_size", "size.pct_available"),
        ({"size": {"pct_position": 50}}, "bad_size", "size"),  # of nothing
        ({"action": "reduce", "size": {"pct_position": 150}}, "bad_size", "size"),
        ({"action": "close_long", "size": {"pct_position": 0}}, "bad_size", "size"),
        # exits
        ({"stop_loss": 1.5}, "bad_stop_loss", "stop_loss"),
        ({"stop_loss": ""}, "bad_stop_loss", "stop_loss"),
        ({"stop_loss": {}}, "bad_stop_loss", "stop_loss"),
        ({"stop_loss": {"pct": 1, "price": 2}}, "bad_stop_loss", "stop_loss"),
        ({"stop_loss": {"pct": 0}}, "bad_stop_loss", "stop_loss.pct"),
        ({"stop_loss": {"pct": -1}}, "bad_stop_loss", "stop_loss.pct"),
        ({"stop_loss": {"pct": 100}}, "bad_stop_loss", "stop_loss.pct"),
        ({"stop_loss": {"percent": 1}}, "bad_stop_loss", "stop_loss.percent"),
        ({"stop_loss": {"price": "{{plot_0}}"}}, "unfilled_placeholder", "stop_loss.price"),
        ({"take_profit": 5}, "bad_take_profit", "take_profit"),
        ({"take_profit": [{"pct": 1}, {"pct": 2}]}, "bad_take_profit", "take_profit[0].fraction"),
        ({"take_profit": [{"pct": 1, "fraction": 0}]}, "bad_take_profit", "take_profit[0].fraction"),
        ({"take_profit": [{"pct": 1, "fraction": 50}]}, "bad_take_profit", "take_profit[0].fraction"),
        (
            {"take_profit": [{"pct": 1, "fraction": 0.6}, {"pct": 2, "fraction": 0.6}]},
            "bad_take_profit",
            "take_profit",
        ),
        ({"take_profit": [{"fraction": 1}]}, "bad_take_profit", "take_profit[0]"),
        ({"take_profit": [{"pct": 1, "fraction": 0.01}] * 21}, "bad_take_profit", "take_profit"),
        ({"trailing": {"activate_pct": 1}}, "bad_trailing", "trailing"),
        ({"trailing": {"distance": 1, "distance_pct": 1}}, "bad_trailing", "trailing"),
        ({"trailing": {"activate_pct": 1, "activate_price": 1, "distance": 1}}, "bad_trailing", "trailing"),
        ({"trailing": {"distance_pct": 100}}, "bad_trailing", "trailing.distance_pct"),
        ({"trailing": 1}, "bad_trailing", "trailing"),
        ({"break_even": True}, "bad_break_even", "break_even"),
        ({"break_even": {"after_pct": 0}}, "bad_break_even", "break_even.after_pct"),
        ({"break_even": {"after_pct": 1, "after_target": 1}}, "bad_break_even", "break_even"),
        ({"break_even": {"offset_pct": 1}}, "bad_break_even", "break_even"),
        ({"break_even": {"after_pct": 1, "offset_pct": -1}}, "bad_break_even", "break_even.offset_pct"),
        ({"break_even": {"after_target": 1.5}}, "bad_break_even", "break_even.after_target"),
        ({"break_even": {"after_target": 21}}, "bad_break_even", "break_even.after_target"),
        ({"time_exit": {"after_s": 0}}, "bad_time_exit", "time_exit.after_s"),
        ({"time_exit": {"after_s": "1.5"}}, "bad_time_exit", "time_exit.after_s"),
        ({"time_exit": {"after_s": 31622401}}, "bad_time_exit", "time_exit.after_s"),
        ({"time_exit": {}}, "bad_time_exit", "time_exit.after_s"),
        ({"time_exit": 60}, "bad_time_exit", "time_exit"),
        ({"time_exit": {"after_min": 1}}, "bad_time_exit", "time_exit.after_min"),
        ({"stop_loss": {"pct": 1, "trigger_by": "index"}}, "bad_trigger", "stop_loss.trigger_by"),
        ({"break_even": {"after_pct": 1, "trigger_by": 5}}, "bad_trigger", "break_even.trigger_by"),
        ({"take_profit": [{"pct": 1, "trigger_by": ""}]}, "bad_trigger", "take_profit[0].trigger_by"),
        ({"trailing_take_profit": {"callback_pct": 1}}, "bad_trailing_take_profit", "trailing_take_profit"),
        (
            {"trailing_take_profit": {"activate_pct": 1}},
            "bad_trailing_take_profit",
            "trailing_take_profit.callback_pct",
        ),
        (
            {"trailing_take_profit": {"activate_pct": 1, "callback_pct": 1, "decay_pct": 1}},
            "bad_trailing_take_profit",
            "trailing_take_profit",
        ),
        (
            {"trailing_take_profit": {"activate_pct": 1, "callback_pct": 1, "min_factor": 1, "decay_pct": 1}},
            "bad_trailing_take_profit",
            "trailing_take_profit.min_factor",
        ),
        ({"stop_steps": [{"gain_pct": 0}]}, "bad_stop_steps", "stop_steps[0].after_target"),
        ({"stop_steps": [{"after_target": 1}]}, "bad_stop_steps", "stop_steps[0]"),
        ({"stop_steps": [{"after_target": 1, "gain_pct": 0, "price": 5}]}, "bad_stop_steps", "stop_steps[0]"),
        ({"stop_steps": [{"after_target": 1, "to_target": 1}]}, "bad_stop_steps", "stop_steps[0].to_target"),
        ({"stop_steps": [{"after_target": 1, "gain_pct": -100}]}, "bad_stop_steps", "stop_steps[0].gain_pct"),
        (
            {"stop_steps": [{"after_target": 2, "gain_pct": 0}, {"after_target": 2, "gain_pct": 1}]},
            "bad_stop_steps",
            "stop_steps[1].after_target",
        ),
        # the rest
        ({"leverage": 0}, "bad_leverage", "leverage"),
        ({"leverage": "high"}, "bad_leverage", "leverage"),
        ({"leverage": 1001}, "bad_leverage", "leverage"),
        ({"time": "yesterday"}, "bad_time", "time"),
        ({"time": "2025-03-04T11:00:01"}, "bad_time", "time"),  # whose clock?
        ({"time": "2025-02-30T11:00:01Z"}, "bad_time", "time"),
        ({"time": 17}, "bad_time", "time"),
        ({"time": {}}, "bad_time", "time"),
        ({"time": "{{timenow}}"}, "unfilled_placeholder", "time"),
        ({"max_age_s": 0}, "bad_max_age", "max_age_s"),
        ({"max_age_s": 1.5}, "bad_max_age", "max_age_s"),
        ({"max_age_s": 86401}, "bad_max_age", "max_age_s"),
        ({"id": ""}, "bad_id", "id"),
        ({"id": "x" * 201}, "bad_id", "id"),
        ({"id": {}}, "bad_id", "id"),
        ({"id": "{{strategy.order.id}}"}, "unfilled_placeholder", "id"),
        # what would be another trade if it were ignored
        ({"order_type": "limit"}, "not_supported_yet", "order_type"),
        ({"reduce_only": True}, "not_supported_yet", "reduce_only"),
        ({"alert_message": '{"stop_loss_price": "1"}'}, "not_supported_yet", "alert_message"),
    ],
)
def test_what_has_no_single_meaning_is_refused(extra: dict[str, object], code: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        signal({**BUY, **extra})
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize("action", ["close_all", "Exit All", "flatten-all"])
def test_a_close_of_everything_needs_no_symbol(action: str) -> None:
    assert signal({"action": action}) == Signal(symbol="", action=Action.CLOSE, everywhere=True)
    named = signal({"action": action, "symbol": "ETHUSDT.P", "target": "flat"})
    assert (named.symbol, named.target, named.everywhere) == ("ETHUSDT", Target.FLAT, True)
    assert not signal({"action": "close", "symbol": "ETHUSDT"}).everywhere
