"""Which levels a position needs, and which exits are refused."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import exits as planning
from app.domain.exits import check_exits, check_together, native_stop_price
from app.domain.level import LevelKind, PlannedLevel, TriggerBy
from app.domain.order import PositionSide
from app.domain.refusals import Outcome
from app.domain.signal import (
    BreakEven,
    Exits,
    PriceKind,
    StopLoss,
    StopStep,
    TakeProfit,
    TimeExit,
    Trailing,
    TrailingTakeProfit,
)
from tests.support.instruments import instrument

D = Decimal
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
OPENED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def pct(value: str) -> StopLoss:
    return StopLoss(pct=D(value))


def at(value: str) -> StopLoss:
    return StopLoss(price=D(value))


def plan_levels(*args: Any, **more: Any) -> list[PlannedLevel]:
    return planning.plan_levels(*args, opened_at=OPENED_AT, **more)


def ladder(*rungs: tuple[str, str]) -> Exits:
    return Exits(take_profit=tuple(TakeProfit(at=pct(away), fraction=D(share)) for away, share in rungs))


def rungs(planned: list[PlannedLevel]) -> list[tuple[int, str]]:
    return [(one.rung, str(one.qty)) for one in planned if one.kind is LevelKind.TAKE_PROFIT]


def test_each_exit_becomes_a_level_for_a_long() -> None:
    exits = Exits(
        stop_loss=pct("1.5"),
        take_profit=(TakeProfit(at=pct("1"), fraction=D("0.5")), TakeProfit(at=at("103.07"), fraction=D("0.5"))),
        trailing=Trailing(activate=pct("2"), distance=pct("0.5")),
        break_even=BreakEven(after=pct("1")),
    )
    planned = plan_levels(exits, LONG, D("100.03"), D("0.015"), instrument())
    assert [(x.kind.value, x.rung, x.price, x.activation_price, x.distance_pct, x.qty) for x in planned] == [
        ("stop_loss", 0, D("98.6"), None, None, D("0.015")),  # 98.52955 up
        ("trailing_stop", 0, None, D("102.0"), D("0.5"), D("0.015")),  # 102.0306 down
        ("break_even", 0, D("100.1"), D("101.0"), None, D("0.015")),
        ("take_profit", 0, D("101.0"), None, None, D("0.007")),
        ("take_profit", 1, D("103.0"), None, None, D("0.008")),  # takes what rounding left
    ]


def test_each_exit_becomes_a_level_for_a_short() -> None:
    exits = Exits(
        stop_loss=pct("1.5"),
        take_profit=(TakeProfit(at=pct("1"), fraction=D(1)),),
        trailing=Trailing(distance=at("3")),
        break_even=BreakEven(after=at("98.97")),
    )
    planned = plan_levels(exits, SHORT, D("100.03"), D("0.015"), instrument())
    assert [(x.kind.value, x.price, x.activation_price, x.distance) for x in planned] == [
        ("stop_loss", D("101.5"), None, None),  # 101.53045 down
        ("trailing_stop", None, None, D("3")),
        ("break_even", D("100.0"), D("99.0"), None),
        ("take_profit", D("99.1"), None, None),  # 99.0297 up
    ]


@pytest.mark.parametrize(
    ("exits", "qty", "expected"),
    [
        (ladder(("1", "0.5"), ("2", "0.5")), "0.010", [(0, "0.005"), (1, "0.005")]),
        (ladder(("1", "0.25"), ("2", "0.25")), "0.010", [(0, "0.002"), (1, "0.002")]),  # half runs on
        (ladder(("1", "0.1"), ("2", "0.9")), "0.005", [(1, "0.005")]),  # the first is too small
        (ladder(("1", "0.9"), ("2", "0.1")), "0.005", [(0, "0.004"), (1, "0.001")]),
        (ladder(("1", "0.5"), ("2", "0.5")), "0.001", [(1, "0.001")]),
        (ladder(("1", "0.5")), "0.001", []),  # half of the least that can be traded
    ],
)
def test_the_ladder_is_cut_to_the_step(exits: Exits, qty: str, expected: list[tuple[int, str]]) -> None:
    assert rungs(plan_levels(exits, LONG, D(100), D(qty), instrument())) == expected


def test_rungs_below_the_minimum_are_merged_into_a_neighbour() -> None:
    exits = ladder(("1", "0.2"), ("2", "0.3"), ("3", "0.4"), ("4", "0.1"))
    planned = plan_levels(exits, LONG, D(100), D("0.020"), instrument(qty_min=D("0.010")))
    assert rungs(planned) == [(1, "0.010"), (3, "0.010")]
    assert [x.fraction for x in planned] == [D("0.5"), D("0.5")]
    # what was merged doesn't come back once its rung has fired
    rest = plan_levels(
        exits,
        LONG,
        D(100),
        D("0.010"),
        instrument(qty_min=D("0.010")),
        fired_rungs=frozenset({1}),
        qty_opened=D("0.020"),
    )
    assert rungs(rest) == [(3, "0.010")]


def test_fired_rungs_stay_away_and_the_last_one_takes_what_is_left() -> None:
    exits = ladder(("1", "0.3"), ("2", "0.3"), ("3", "0.4"))
    planned = plan_levels(
        exits, LONG, D(100), D("0.008"), instrument(), fired_rungs=frozenset({0}), qty_opened=D("0.011")
    )
    assert rungs(planned) == [(1, "0.003"), (2, "0.005")]


def test_a_position_made_smaller_by_hand_gets_no_more_than_it_holds() -> None:
    planned = plan_levels(
        ladder(("1", "0.5"), ("2", "0.5")), LONG, D(100), D("0.003"), instrument(), qty_opened=D("0.010")
    )
    assert rungs(planned) == [(0, "0.003")]


@pytest.mark.parametrize(
    ("even", "side", "fired", "expected"),
    [
        (BreakEven(after_target=1), LONG, set(), None),
        (BreakEven(after_target=1), LONG, {0}, D("100.1")),
        (BreakEven(after_target=2), LONG, {0}, None),
        (BreakEven(after_target=2), LONG, {0, 1}, D("100.1")),
        (BreakEven(after_target=1), LONG, {1}, D("100.1")),  # the first was merged into the second
        (BreakEven(after_target=1, offset_pct=D("0.2")), LONG, {0}, D("100.3")),
        (BreakEven(after_target=1, offset_pct=D("0.2")), SHORT, {0}, D("99.8")),
    ],
)
def test_break_even_may_wait_for_a_target(
    even: BreakEven, side: PositionSide, fired: set[int], expected: Decimal | None
) -> None:
    exits = msgspec.structs.replace(ladder(("1", "0.5"), ("2", "0.5")), break_even=even)
    planned = plan_levels(exits, side, D("100.05"), D("0.015"), instrument(), frozenset(fired), D("0.03"))
    found = [level for level in planned if level.kind is LevelKind.BREAK_EVEN]
    assert [(level.price, level.activation_price) for level in found] == [(expected, None)] * (expected is not None)


STEPS_UP = (
    StopStep(after_target=1, gain_pct=D("0.1")),
    StopStep(after_target=2, to_target=1),
    StopStep(after_target=3, price=D("103.57")),
)


@pytest.mark.parametrize(
    ("side", "fired", "expected"),
    [
        (LONG, set(), "99"),
        (LONG, {0}, "100.2"),  # 0.1 % above the entry, 100.15005, up: what is gained is not less
        (LONG, {0, 1}, "101.1"),  # the price of the first target, 101.0505
        (LONG, {1}, "101.1"),  # one that was passed over was reached too
        (LONG, {0, 1, 2}, "103.6"),
        (SHORT, set(), "101.1"),
        (SHORT, {0}, "99.9"),
        (SHORT, {0, 1}, "99.0"),
    ],
)
def test_the_stop_steps_up_as_targets_are_hit(side: PositionSide, fired: set[int], expected: str) -> None:
    rungs = ladder(("1", "0.25"), ("2", "0.25"), ("4", "0.25"), ("5", "0.25"))
    exits = msgspec.structs.replace(rungs, stop_loss=pct("1.05"), stop_steps=STEPS_UP)
    if side is SHORT:
        exits = msgspec.structs.replace(exits, stop_steps=STEPS_UP[:2])
    planned = plan_levels(exits, side, D("100.05"), D("0.4"), instrument(), frozenset(fired), D("0.4"))
    [stop] = [level for level in planned if level.kind is LevelKind.STOP_LOSS]
    assert stop.price == D(expected)


@pytest.mark.parametrize(
    ("steps", "stop", "expected"),
    [
        (STEPS_UP[:2], pct("1"), None),
        (STEPS_UP[:2], None, Outcome.NO_STOP),
        ((StopStep(after_target=3, gain_pct=D(0)),), pct("1"), Outcome.NO_SUCH_TARGET),
        ((StopStep(after_target=1, gain_pct=D(-2)),), pct("1"), Outcome.STOP_WRONG_SIDE),  # it would loosen the stop
        ((StopStep(after_target=1, gain_pct=D(-1)),), pct("1"), Outcome.STOP_WRONG_SIDE),  # it would do nothing
        (
            (StopStep(after_target=1, gain_pct=D(1)),),
            pct("1"),
            Outcome.STOP_WRONG_SIDE,
        ),  # it would fire with the target
        ((StopStep(after_target=1, gain_pct=D("0.99")),), pct("1"), None),
        ((*STEPS_UP[:1], StopStep(after_target=2, gain_pct=D(0))), pct("1"), Outcome.STOP_WRONG_SIDE),
        ((StopStep(after_target=2, price=D("101.99")),), pct("1"), None),
        ((StopStep(after_target=2, price=D(102)),), pct("1"), Outcome.STOP_WRONG_SIDE),
    ],
)
def test_steps_that_cannot_hold_are_refused(
    steps: tuple[StopStep, ...], stop: StopLoss | None, expected: Outcome | None
) -> None:
    exits = msgspec.structs.replace(ladder(("1", "0.5"), ("2", "0.5")), stop_loss=stop, stop_steps=steps)
    refused = check_together(exits, LONG, D(100))
    assert (None if refused is None else refused.code) == expected


@pytest.mark.parametrize(
    ("side", "activate", "expected"),
    [
        (LONG, "100.1", None),
        (LONG, "100", Outcome.TARGET_WRONG_SIDE),
        (SHORT, "100", Outcome.TARGET_WRONG_SIDE),
        (SHORT, "99", None),
    ],
)
def test_a_trailing_take_profit_needs_a_profit(side: PositionSide, activate: str, expected: Outcome | None) -> None:
    exits = Exits(trailing_take_profit=TrailingTakeProfit(activate=at(activate), callback_pct=D(1)))
    refused = check_together(exits, side, D(100))
    assert (None if refused is None else refused.code) == expected


def test_a_trailing_take_profit_and_a_time_exit_become_levels() -> None:
    taking = TrailingTakeProfit(activate=pct("2"), callback_pct=D("0.5"), min_factor=D("0.3"), decay_pct=D(3))
    exits = Exits(trailing_take_profit=taking, time_exit=TimeExit(after_s=90))
    [trails, ends] = plan_levels(exits, LONG, D("100.03"), D("0.015"), instrument())
    assert (trails.kind, trails.qty, trails.activation_price) == (
        LevelKind.TRAILING_TAKE_PROFIT,
        D("0.015"),
        D("102.0"),
    )
    assert (trails.distance_pct, trails.min_factor, trails.decay_pct) == (D("0.5"), D("0.3"), D(3))
    assert (ends.kind, ends.qty, ends.price) == (LevelKind.TIME_EXIT, D("0.015"), None)
    assert (ends.due_at, ends.trigger_by) == (OPENED_AT + timedelta(seconds=90), TriggerBy.LAST)


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        (PriceKind.LAST, LONG, TriggerBy.LAST),
        (PriceKind.MARK, SHORT, TriggerBy.MARK),
        (PriceKind.BID, SHORT, TriggerBy.BID),
        (PriceKind.ASK, LONG, TriggerBy.ASK),
        (PriceKind.BID_ASK, LONG, TriggerBy.BID),  # a long is sold, at the bid
        (PriceKind.BID_ASK, SHORT, TriggerBy.ASK),
    ],
)
def test_each_exit_has_the_price_that_it_looks_at(kind: PriceKind, side: PositionSide, expected: TriggerBy) -> None:
    exits = Exits(
        stop_loss=StopLoss(pct=D(1), trigger_by=kind),
        take_profit=(TakeProfit(at=pct("3"), fraction=D(1), trigger_by=kind),),
        trailing=Trailing(distance=pct("2"), trigger_by=kind),
        trailing_take_profit=TrailingTakeProfit(activate=pct("2"), callback_pct=D(1), trigger_by=kind),
        break_even=BreakEven(after=pct("1"), trigger_by=kind),
    )
    planned = plan_levels(exits, side, D(100), D(1), instrument())
    assert len(planned) == 5
    assert {level.trigger_by for level in planned} == {expected}


@pytest.mark.parametrize(("number", "never"), [(1, False), (2, False), (3, True)])
def test_a_target_that_is_not_there_is_waited_for_in_vain(number: int, never: bool) -> None:
    exits = msgspec.structs.replace(ladder(("1", "0.5"), ("2", "0.5")), break_even=BreakEven(after_target=number))
    refused = check_together(exits, LONG, D(100))
    assert (None if refused is None else refused.code) == (Outcome.NO_SUCH_TARGET if never else None)
    assert check_together(Exits(break_even=BreakEven(after=pct("1"))), LONG, D(100)) is None
    assert check_together(Exits(), LONG, D(100)) is None


@pytest.mark.parametrize(
    ("exits", "side", "price", "expected"),
    [
        (Exits(stop_loss=at("104")), LONG, "105", None),  # above the entry, below the price: it locks gains in
        (Exits(stop_loss=at("105")), LONG, "105", Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=pct("5")), LONG, "96", None),
        (Exits(stop_loss=pct("5")), LONG, "95", Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=at("96")), SHORT, "95", None),
        (Exits(take_profit=(TakeProfit(at=pct("5"), fraction=D(1)),)), LONG, "104.9", None),
        (Exits(take_profit=(TakeProfit(at=pct("5"), fraction=D(1)),)), LONG, "105", Outcome.TARGET_WRONG_SIDE),
        (Exits(take_profit=(TakeProfit(at=pct("5"), fraction=D(1)),)), SHORT, "95", Outcome.TARGET_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=pct("2"))), LONG, "103", None),  # awake at once, with the gain to lose
        (Exits(break_even=BreakEven(after=pct("2"))), LONG, "98", None),  # it sleeps
        (Exits(break_even=BreakEven(after=at("98"))), LONG, "99", Outcome.STOP_WRONG_SIDE),  # awake, and crossed
        (Exits(break_even=BreakEven(after=at("98"))), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=at("98"))), LONG, "100.1", None),
        (Exits(break_even=BreakEven(after=at("102"))), SHORT, "101", Outcome.STOP_WRONG_SIDE),
        (Exits(trailing=Trailing(distance=at("96"))), LONG, "96", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=pct("1"), offset_pct=D("0.5"))), LONG, "100", None),
        (Exits(break_even=BreakEven(after=pct("1"), offset_pct=D(1))), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=pct("1"), offset_pct=D(1))), SHORT, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=pct("1"), offset_pct=D(2))), LONG, "103", None),  # awake, and beyond it
        (Exits(break_even=BreakEven(after=pct("1"), offset_pct=D(2))), LONG, "101.5", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after_target=1)), LONG, "100", None),
    ],
)
def test_changed_exits_count_from_the_entry_of_100_and_fire_by_the_price(
    exits: Exits, side: PositionSide, price: str, expected: Outcome | None
) -> None:
    refused = check_exits(exits, side, D(price), D(100))
    assert (None if refused is None else refused.code) == expected


@pytest.mark.parametrize(
    ("exits", "side", "expected"),
    [
        (Exits(stop_loss=pct("1")), LONG, None),
        (Exits(stop_loss=pct("1")), SHORT, None),
        (Exits(stop_loss=at("99")), LONG, None),
        (Exits(stop_loss=at("100")), LONG, Outcome.STOP_WRONG_SIDE),  # touched is fired
        (Exits(stop_loss=at("101")), LONG, Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=at("99")), SHORT, Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=at("101")), SHORT, None),
        (Exits(take_profit=(TakeProfit(at=at("99"), fraction=D(1)),)), LONG, Outcome.TARGET_WRONG_SIDE),
        (Exits(take_profit=(TakeProfit(at=at("99"), fraction=D(1)),)), SHORT, None),
        (Exits(take_profit=(TakeProfit(at=pct("150"), fraction=D(1)),)), LONG, None),
        (Exits(take_profit=(TakeProfit(at=pct("100"), fraction=D(1)),)), SHORT, Outcome.TARGET_WRONG_SIDE),  # at zero
        (Exits(trailing=Trailing(activate=at("90"), distance=at("1"))), LONG, None),  # awake at once
        (Exits(trailing=Trailing(distance=at("100"))), LONG, Outcome.STOP_WRONG_SIDE),  # at zero: protects nothing
        (Exits(break_even=BreakEven(after=at("99"))), LONG, Outcome.STOP_WRONG_SIDE),  # a stop at the entry itself
        (Exits(break_even=BreakEven(after=at("99"))), SHORT, None),
        (Exits(), LONG, None),
    ],
)
def test_exits_that_would_end_the_position_at_once_are_refused(
    exits: Exits, side: PositionSide, expected: Outcome | None
) -> None:
    refused = check_exits(exits, side, D(100))
    assert (None if refused is None else refused.code) == expected


@pytest.mark.parametrize(
    ("exits", "side", "expected"),
    [
        (Exits(stop_loss=pct("1")), LONG, "98.5"),  # 0.5 % of the entry beyond
        (Exits(stop_loss=pct("4")), LONG, "95"),  # a quarter of the distance beyond
        (Exits(stop_loss=pct("4")), SHORT, "105"),
        (Exits(stop_loss=at("98.37")), LONG, "97.8"),  # 97.87 down
        (Exits(trailing=Trailing(distance=pct("4"))), LONG, "95"),
        (Exits(trailing=Trailing(distance=at("4"))), SHORT, "105"),
        (Exits(stop_loss=pct("95")), LONG, "0.1"),  # never at or below zero
        (Exits(trailing=Trailing(activate=pct("1"), distance=pct("1"))), LONG, None),  # sleeps: no protection yet
        (Exits(), LONG, None),
    ],
)
def test_the_native_stop_rests_beyond_ours(exits: Exits, side: PositionSide, expected: str | None) -> None:
    price = native_stop_price(exits, side, D(100), instrument(), D("0.5"))
    assert price == (None if expected is None else D(expected))


TICKS = st.sampled_from(["0.0001", "0.01", "0.05", "0.1", "0.5", "1"])
STEPS = st.sampled_from([("0.001", "0.001"), ("0.001", "0.005"), ("0.1", "0.1"), ("1", "1"), ("10", "30")])


@st.composite
def exit_plans(draw: st.DrawFn) -> Exits:
    weights = draw(st.lists(st.integers(1, 100), max_size=6))
    total = max(sum(weights), draw(st.integers(1, 400)))
    shares = [D(weight) / total for weight in weights]
    if shares and sum(weights) == total:
        shares[-1] = 1 - sum(shares[:-1], D(0))  # exactly the whole
    percents = st.integers(1, 9000).map(lambda bp: StopLoss(pct=D(bp) / 100))
    return Exits(
        stop_loss=draw(st.none() | percents),
        take_profit=tuple(TakeProfit(at=draw(percents), fraction=share) for share in shares),
        trailing=draw(st.none() | percents.map(lambda away: Trailing(activate=away, distance=away))),
        break_even=draw(st.none() | percents.map(lambda away: BreakEven(after=away))),
    )


@settings(max_examples=300, deadline=None)
@given(
    exits=exit_plans(),
    side=st.sampled_from(PositionSide),
    tick=TICKS,
    step=STEPS,
    entry_ticks=st.integers(50, 1_000_000),
    steps=st.integers(1, 1000),
    fired=st.frozensets(st.integers(0, 5)),
    sold=st.integers(0, 1000),
)
def test_planned_levels_fit_the_position_and_the_instrument(
    exits: Exits,
    side: PositionSide,
    tick: str,
    step: tuple[str, str],
    entry_ticks: int,
    steps: int,
    fired: frozenset[int],
    sold: int,
) -> None:
    rules = instrument(tick_size=D(tick), qty_step=D(step[0]), qty_min=D(step[1]))
    entry = entry_ticks * rules.tick_size + rules.tick_size / 3  # averages lie off the grid
    opened = steps * rules.qty_step
    qty = max(opened - sold * rules.qty_step, rules.qty_step)
    planned = plan_levels(exits, side, entry, qty, rules, fired_rungs=fired, qty_opened=opened)

    ladder_qty = sum((x.qty for x in planned if x.kind is LevelKind.TAKE_PROFIT), D(0))
    assert ladder_qty <= qty
    whole = sum((x.fraction for x in exits.take_profit), D(0)) == 1
    if whole and not fired and qty == opened and qty >= rules.qty_min:
        assert ladder_qty == qty
    for one in planned:
        assert 0 < one.fraction <= 1
        for price in (one.price, one.activation_price):
            assert price is None or (price > 0 and price % rules.tick_size == 0)
        if one.kind is LevelKind.TAKE_PROFIT:
            assert one.rung not in fired
            assert one.qty >= rules.qty_min
            assert one.qty % rules.qty_step == 0
            assert one.price is not None
            assert side.sign * (one.price - entry) > 0
        else:
            assert one.qty == qty
        if one.kind is LevelKind.STOP_LOSS:
            assert one.price is not None
            assert side.sign * (entry - one.price) > 0
            assert exits.stop_loss is not None
            assert exits.stop_loss.pct is not None
            wished = entry * (100 - side.sign * exits.stop_loss.pct) / 100
            assert abs(one.price - wished) <= rules.tick_size
            native = native_stop_price(exits, side, entry, rules, D("0.5"))
            assert native is not None
            assert native > 0
            assert side.sign * (one.price - native) >= 0
        if one.activation_price is not None:
            assert side.sign * (one.activation_price - entry) > 0
