"""What a signal becomes where a long and a short are held side by side."""

from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.decide import decide
from app.domain.order import PositionSide
from app.domain.plan import Close, Open, Plan, Situation
from app.domain.refusals import Outcome
from app.domain.signal import Action, Size, SizeUnit, Target
from tests.domain.test_decide import RULES, TRADING, holding, refusal_of, rules, signal, situation


def hedged(*held: str, **changes: object) -> Situation:
    return situation(*held, hedge=True, **changes)


def facts(plan: Plan) -> list[str]:
    words = []
    for leg in plan.legs:
        if isinstance(leg, Open):
            words.append(f"{'add' if leg.adds else 'open'} {leg.side} {leg.qty.normalize():f}")
        elif isinstance(leg, Close):
            words.append(f"close {leg.side} {leg.reason}")
        else:
            words.append(f"reduce {leg.side} {leg.qty.normalize():f}")
    return words


BOTH = ("long 3", "short 2")
AMBIGUOUS = [Outcome.AMBIGUOUS_SIDE]


@pytest.mark.parametrize(
    ("wish", "held", "expected"),
    [
        # an opening is about its side alone
        (Action.OPEN_LONG, (), ["open long 1"]),
        (Action.OPEN_LONG, ("short 2",), ["open long 1"]),
        (Action.OPEN_SHORT, ("long 3",), ["open short 1"]),
        (Action.OPEN_SHORT, ("short 2",), []),
        (Action.OPEN_LONG, BOTH, []),
        # a close that names a side, too
        (Action.CLOSE_LONG, BOTH, ["close long signal"]),
        (Action.CLOSE_SHORT, BOTH, ["close short signal"]),
        (Action.CLOSE_SHORT, ("long 3",), []),
        (Action.REDUCE_LONG, BOTH, ["reduce long 1"]),
        (Action.REDUCE_SHORT, BOTH, ["reduce short 1"]),
        (Action.REDUCE_SHORT, ("long 3",), []),
        # without a side: all that is held, or the only one
        (Action.CLOSE, BOTH, ["close long signal", "close short signal"]),
        (Action.CLOSE, ("short 2",), ["close short signal"]),
        (Action.CLOSE, (), []),
        (Action.ADD, ("short 2",), ["add short 1"]),
        (Action.ADD, BOTH, AMBIGUOUS),
        (Action.REDUCE, ("long 3",), ["reduce long 1"]),
        (Action.REDUCE, BOTH, AMBIGUOUS),
        (Action.REVERSE, ("long 3",), ["close long reversed", "open short 1"]),
        (Action.REVERSE, BOTH, AMBIGUOUS),
        (Action.REVERSE, (), []),
        # a target speaks of the whole position of the strategy
        (Target.FLAT, BOTH, ["close long signal", "close short signal"]),
        (Target.FLAT, (), []),
        (Target.LONG, (), ["open long 1"]),
        (Target.LONG, ("short 2",), ["close short reversed", "open long 1"]),
        (Target.SHORT, ("long 3",), ["close long reversed", "open short 1"]),
        (Target.LONG, BOTH, ["close short reversed", "reduce long 2"]),
        (Target.SHORT, BOTH, ["close long reversed", "reduce short 1"]),
    ],
)
def test_each_wish_on_each_holding(wish: Action | Target, held: tuple[str, ...], expected: list[object]) -> None:
    plan = decide(signal(wish, size=Size(unit=SizeUnit.BASE, value=D(1))), RULES, hedged(*held))
    if expected == AMBIGUOUS:
        assert (refusal_of(plan), facts(plan)) == (Outcome.AMBIGUOUS_SIDE, [])
    else:
        assert (refusal_of(plan), facts(plan)) == (None, expected)
        assert plan.legs or plan.reason


def test_the_same_alerts_reverse_in_one_way_mode() -> None:
    wish = signal(Action.OPEN_SHORT, size=Size(unit=SizeUnit.BASE, value=D(1)))
    assert facts(decide(wish, RULES, situation("long 3"))) == ["close long reversed", "open short 1"]
    assert facts(decide(wish, RULES, hedged("long 3"))) == ["open short 1"]


def test_a_strategy_acts_on_its_own_side_only() -> None:
    theirs = holding("short 2", strategy_id="other")
    where = situation("long 3", theirs, hedge=True)
    assert facts(decide(signal(Action.CLOSE), RULES, where)) == ["close long signal"]
    assert facts(decide(signal(Target.FLAT), RULES, where)) == ["close long signal"]
    for wish in (Action.OPEN_SHORT, Action.CLOSE_SHORT, Action.REDUCE_SHORT, Target.SHORT, Action.REVERSE):
        assert refusal_of(decide(signal(wish), RULES, where)) is Outcome.OTHER_STRATEGY, wish
    alone = situation(theirs, hedge=True)
    assert facts(decide(signal(Action.OPEN_LONG, size=Size(unit=SizeUnit.BASE, value=D(1))), RULES, alone)) == [
        "open long 1"
    ]
    assert refusal_of(decide(signal(Action.CLOSE), RULES, alone)) is Outcome.OTHER_STRATEGY


def test_a_refused_opening_still_closes_the_other_side() -> None:
    plan = decide(signal(Target.LONG), rules(enabled=False), hedged("short 2"))
    assert (refusal_of(plan), facts(plan)) == (Outcome.STRATEGY_DISABLED, ["close short reversed"])


@given(
    wish=st.sampled_from([*TRADING, *Target]),
    held=st.sampled_from([(), ("long 3",), ("short 2",), BOTH]),
    enabled=st.booleans(),
)
def test_an_action_that_names_a_side_leaves_the_other_alone(
    wish: Action | Target, held: tuple[str, ...], enabled: bool
) -> None:
    size = Size(unit=SizeUnit.BASE, value=D(1))
    plan = decide(signal(wish, size=size), rules(enabled=enabled), hedged(*held))
    assert plan.legs or plan.refusal or plan.reason
    if isinstance(wish, Action):
        for side in PositionSide:
            if wish.endswith(side):
                assert {leg.side for leg in plan.legs} <= {side}
    opened = [leg.side for leg in plan.legs if isinstance(leg, Open)]
    assert len(opened) <= 1
    assert not any(leg.side in opened for leg in plan.legs if not isinstance(leg, Open))
