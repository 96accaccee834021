"""What an alert means for what is held, in one word; beside what is decided."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.decide import decide
from app.domain.meaning import Meaning, meaning, netted, spoken_of
from app.domain.plan import Close, Open, Reduce
from app.domain.signal import Action, Repeat, Signal, Target
from tests.domain.test_decide import RULES, TRADING, base, holding, rules, signal, situation

D = Decimal


@pytest.mark.parametrize(
    ("wish", "held", "expected", "side"),
    [
        (signal(Action.OPEN_LONG), "flat", "open_long", "long"),
        (signal(Action.OPEN_SHORT), "flat", "open_short", "short"),
        (signal(Action.OPEN_LONG), "long 3", "none", "long"),
        (signal(Action.OPEN_LONG), "short 3", "reverse_to_long", "long"),
        (signal(Action.OPEN_LONG, turns=False), "short 3", "close", "short"),
        (signal(Action.OPEN_LONG, turns=False), "flat", "open_long", "long"),
        (signal(Action.ADD), "short 3", "add", "short"),
        (signal(Action.ADD), "flat", "none", None),
        (signal(Action.REDUCE), "short 3", "reduce", "short"),
        (signal(Action.REDUCE_LONG), "short 3", "none", "long"),
        (signal(Action.REVERSE), "long 3", "reverse_to_short", "short"),
        (signal(Action.REVERSE), "flat", "none", None),
        (signal(Action.CLOSE), "long 3", "close", "long"),
        (signal(Action.CLOSE_SHORT), "long 3", "none", "short"),
        (signal(Action.SET_EXITS), "long 3", "none", "long"),
        (signal(Target.FLAT), "flat", "none", None),
        (signal(Target.FLAT), "short 1", "close", "short"),
        (signal(Target.LONG, size=base("2")), "flat", "open_long", "long"),
        (signal(Target.LONG, size=base("2")), "long 3", "reduce", "long"),
        (signal(Target.LONG, size=base("4")), "long 3", "add", "long"),
        (signal(Target.LONG, size=base("3")), "long 3", "none", "long"),
        (signal(Target.SHORT), "long 3", "reverse_to_short", "short"),
    ],
)
def test_each_wish_in_one_word(wish: Signal, held: str, expected: str, side: str | None) -> None:
    assert meaning(wish, RULES, holding(held)) == (expected, side)


@pytest.mark.parametrize(
    ("wish", "about"),
    [
        (signal(Action.OPEN_SHORT), None),
        (signal(Action.OPEN_LONG), "long"),
        (signal(Action.CLOSE_SHORT), None),
        (signal(Target.LONG), "long"),
        (signal(Target.SHORT), "long"),  # it is closed
        (signal(Action.CLOSE), "long"),
    ],
)
def test_in_hedge_mode_an_alert_speaks_of_the_side_that_it_names(wish: Signal, about: str | None) -> None:
    long = holding("long 3")
    assert long is not None
    spoken = spoken_of(wish, [long], hedge=True)
    assert (None if spoken is None else spoken.side) == about
    assert spoken_of(wish, [long], hedge=False) is long


def test_of_two_a_target_speaks_of_its_own_side() -> None:
    long, short = holding("long 3"), holding("short 1")
    assert long is not None
    assert short is not None
    assert spoken_of(signal(Target.SHORT), [long, short], hedge=True) is short
    assert spoken_of(signal(Target.LONG), [short, long], hedge=True) is long


@pytest.mark.parametrize(
    ("qty", "told"),
    [("1", ("reduce", "long")), ("3", ("close", "long")), ("5", None)],
)
def test_an_order_that_nets_is_told_by_what_it_does(qty: str, told: tuple[str, str] | None) -> None:
    plan = decide(signal(Action.OPEN_SHORT, size=base(qty), nets=True), RULES, situation("long 3"))
    assert netted(plan) == told


WORDS = {
    (): Meaning.NONE,
    ("close",): Meaning.CLOSE,
    ("reduce",): Meaning.REDUCE,
    ("add long",): Meaning.ADD,
    ("add short",): Meaning.ADD,
    ("open long",): Meaning.OPEN_LONG,
    ("open short",): Meaning.OPEN_SHORT,
    ("close", "open long"): Meaning.REVERSE_TO_LONG,
    ("close", "open short"): Meaning.REVERSE_TO_SHORT,
}


@settings(max_examples=300, deadline=None)
@given(
    wish=st.sampled_from([*TRADING, *Target]),
    held=st.sampled_from(["flat", "long 3", "short 3", "long 0.5"]),
    units=st.none() | st.sampled_from(["0.5", "1", "3", "7"]),
    repeat=st.sampled_from(Repeat),
    turns=st.booleans(),
)
def test_the_word_is_what_is_decided(
    wish: Action | Target, held: str, units: str | None, repeat: Repeat, turns: bool
) -> None:
    """Wherever nothing is refused, and a reduction does not take all."""
    goal, strategy = signal(wish, size=None if units is None else base(units), turns=turns), rules(repeat=repeat)
    plan = decide(goal, strategy, situation(held))
    if plan.refusal is not None or (goal.action in (Action.REDUCE, Action.REDUCE_LONG, Action.REDUCE_SHORT)):
        return
    legs = []
    for leg in plan.legs:
        match leg:
            case Open():
                legs.append(f"{'add' if leg.adds else 'open'} {leg.side}")
            case Close():
                legs.append("close")
            case Reduce():
                legs.append("reduce")
    assert meaning(goal, strategy, holding(held))[0] is WORDS[tuple(legs)]
