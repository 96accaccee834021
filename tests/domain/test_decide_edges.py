"""The edges of decisions: exactly at a limit, one step beyond it, and wishes that lack what they need."""

from decimal import Decimal as D

import pytest

from app.domain.decide import decide
from app.domain.position import CloseReason
from app.domain.refusals import Outcome, Refusal
from app.domain.signal import Action, Exits, Size, SizeUnit, TakeProfit, Target
from app.domain.sizing import needs_equity
from tests.domain.test_decide import (
    BARE,
    RULES,
    at,
    base,
    holding,
    legs,
    opening,
    refusal_of,
    refused,
    rules,
    signal,
    situation,
    size,
)
from tests.domain.test_decide_hedge import facts
from tests.support.instruments import instrument


@pytest.mark.parametrize("unit", [SizeUnit.PCT_EQUITY, SizeUnit.PCT_AVAILABLE, SizeUnit.RISK_PCT])
def test_sizes_of_the_account_need_its_equity_and_reduce_nothing(unit: SizeUnit) -> None:
    wished = size(unit, "1")
    assert needs_equity(signal(Action.OPEN_LONG, size=wished), BARE)
    assert refused(signal(Action.REDUCE, size=wished), RULES, situation("long 3")) is Outcome.NO_SIZE


def test_a_wish_without_any_size_needs_no_equity() -> None:
    assert not needs_equity(signal(Action.OPEN_LONG), BARE)


@pytest.mark.parametrize(
    ("action", "wished", "expected"),
    [
        (Action.REDUCE, "0.1", ["reduce 0.1 signal"]),
        (Action.REDUCE, "0.0999", Outcome.SIZE_BELOW_MINIMUM),
        (Target.LONG, "2.9", ["reduce 0.1 signal"]),
        (Target.LONG, "3.1", ["add long 0.1"]),
        (Target.LONG, "3.099", []),
        (Target.LONG, "0.0009", Outcome.SIZE_BELOW_MINIMUM),  # not even a step: close says so in so many words
        (Target.LONG, "0", Outcome.SIZE_BELOW_MINIMUM),
    ],
)
def test_the_smallest_order_is_allowed(action: Action | Target, wished: str, expected: list[str] | Outcome) -> None:
    where = situation("long 3", instrument=instrument(qty_min=D("0.1")))
    plan = decide(signal(action, size=base(wished)), RULES, where)
    assert (refusal_of(plan) or legs(plan)) == expected


def test_nothing_is_not_an_order_even_where_the_exchange_names_no_minimum() -> None:
    where = situation(instrument=instrument(qty_min=D(0), notional_min=D(0)))
    assert refused(signal(Action.OPEN_LONG, size=base("0.0009")), RULES, where) is Outcome.SIZE_BELOW_MINIMUM


def test_twenty_of_the_largest_orders_are_allowed() -> None:
    assert opening(signal(Action.OPEN_LONG, size=base("2000"))).qty == D(2000)
    assert refused(signal(Action.OPEN_LONG, size=base("2000.001"))) is Outcome.SIZE_ABOVE_MAXIMUM


@pytest.mark.parametrize("action", [Action.ADD, Action.REDUCE])
def test_a_share_of_what_is_held_has_the_multiplier_in_it_already(action: Action) -> None:
    wish = signal(action, size=size(SizeUnit.PCT_POSITION, "50"))
    [words] = legs(decide(wish, rules(multiplier=D(3)), situation("long 2")))
    assert words in ("add long 1", "reduce 1 signal")


@pytest.mark.parametrize(
    ("exits", "said"),
    [
        (Exits(stop_loss=at("101")), "the stop loss of this long would fire at once: the price is 100"),
        (
            Exits(stop_loss=at("99"), take_profit=(TakeProfit(at=at("99"), fraction=D(1)),)),
            "a take profit of this long would fire at once: the price is 100",
        ),
    ],
)
def test_a_refusal_names_the_exit_that_is_wrong(exits: Exits, said: str) -> None:
    plan = decide(signal(Action.OPEN_LONG, exits=exits), RULES, situation())
    assert plan.refusal is not None
    assert plan.refusal.reason == said


# Unfit


UNFIT = Refusal(code=Outcome.BLIND, reason="nothing is opened of what nobody sees")


@pytest.mark.parametrize(
    ("wish", "held", "left"),
    [
        (signal(Action.OPEN_LONG), "flat", []),
        (signal(Action.ADD), "long 3", []),
        (signal(Target.LONG, size=base("5")), "long 3", []),
        (signal(Action.REVERSE), "long 3", ["close reversed"]),
        (signal(Target.LONG), "short 3", ["close reversed"]),
    ],
)
def test_what_is_unfit_is_not_opened_and_the_other_side_is_left(wish: object, held: str, left: list[str]) -> None:
    plan = decide(wish, RULES, situation(held, unfit=UNFIT))  # type: ignore[arg-type]
    assert (plan.refusal, legs(plan)) == (UNFIT, left)


@pytest.mark.parametrize("wish", [signal(Action.CLOSE), signal(Target.FLAT), signal(Action.REDUCE, size=base("1"))])
def test_what_is_unfit_is_closed_all_the_same(wish: object) -> None:
    plan = decide(wish, RULES, situation("long 3", unfit=UNFIT))  # type: ignore[arg-type]
    assert plan.refusal is None
    assert plan.legs


def test_what_the_alert_itself_lacks_is_said_first() -> None:
    """It would be refused tomorrow, too."""
    assert (
        refused(signal(Action.OPEN_LONG, size=base("0")), RULES, situation(unfit=UNFIT)) is Outcome.SIZE_BELOW_MINIMUM
    )


# Beside another strategy's position, in hedge mode


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        (Target.SHORT, ["close long reversed"]),  # ours is not wanted any more, whoever holds the short
        (Action.REVERSE, ["close long reversed"]),
        (Action.OPEN_SHORT, []),  # of the short alone: the long stays
        (Action.CLOSE_SHORT, []),
        (Action.REDUCE_SHORT, []),
    ],
)
def test_what_is_no_longer_wanted_is_closed_beside_what_another_strategy_holds(
    wish: Action | Target, left: list[str]
) -> None:
    where = situation("long 3", holding("short 2", strategy_id="other"), hedge=True)
    plan = decide(signal(wish, size=Size(unit=SizeUnit.BASE, value=D(1))), RULES, where)
    assert (refusal_of(plan), facts(plan)) == (Outcome.OTHER_STRATEGY, left)


@pytest.mark.parametrize("wish", [Action.CLOSE, Target.FLAT])
def test_who_closes_in_hedge_mode_says_why_only_if_nothing_is_held(wish: Action | Target) -> None:
    assert decide(signal(wish), RULES, situation("long 3", hedge=True)).reason == ""
    assert decide(signal(wish), RULES, situation(hedge=True)).reason == "nothing is held"


def test_a_close_in_hedge_mode_carries_its_reason_and_a_reversal_its_own() -> None:
    where = situation("long 3", hedge=True)
    assert facts(decide(signal(Action.CLOSE), RULES, where, CloseReason.MANUAL)) == ["close long manual"]
    plan = decide(signal(Target.SHORT, size=base("1")), RULES, where, CloseReason.MANUAL)
    assert facts(plan) == ["close long reversed", "open short 1"]
