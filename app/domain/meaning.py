"""What an alert means for the position that is held, in one word: for people, before anything is done."""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum

from app.domain.order import PositionSide, opposite
from app.domain.plan import Close, Plan, Reduce, Rules
from app.domain.position import Position
from app.domain.signal import REDUCING, Action, Repeat, Signal, Target


class Meaning(StrEnum):
    OPEN_LONG = "open_long"
    OPEN_SHORT = "open_short"
    ADD = "add"
    REDUCE = "reduce"
    CLOSE = "close"
    REVERSE_TO_LONG = "reverse_to_long"
    REVERSE_TO_SHORT = "reverse_to_short"
    NONE = "none"


_ABOUT = {
    Action.OPEN_LONG: PositionSide.LONG,
    Action.OPEN_SHORT: PositionSide.SHORT,
    Action.REDUCE_LONG: PositionSide.LONG,
    Action.REDUCE_SHORT: PositionSide.SHORT,
    Action.CLOSE_LONG: PositionSide.LONG,
    Action.CLOSE_SHORT: PositionSide.SHORT,
}
_CLOSES = frozenset({Action.CLOSE, Action.CLOSE_LONG, Action.CLOSE_SHORT})


def spoken_of(signal: Signal, held: Sequence[Position], *, hedge: bool) -> Position | None:
    """Of what a strategy holds, the position that its alert is about. In hedge mode there may be two, and an alert that
    names its side is about that one alone.
    """
    side = _ABOUT.get(signal.action) if signal.action is not None else None
    if hedge and side is not None:
        return next((one for one in held if one.side is side), None)
    if signal.target in (Target.LONG, Target.SHORT):
        held = sorted(held, key=lambda one: one.side.value != signal.target)
    return held[0] if held else None


def netted(plan: Plan) -> tuple[Meaning, PositionSide] | None:
    """The word for an order that nets, where it only takes a part of what is held, or all of it."""
    match plan.legs:
        case (Reduce(side=side),):
            return Meaning.REDUCE, side
        case (Close(side=side),) if plan.refusal is None:
            return Meaning.CLOSE, side
        case _:
            return None


def meaning(signal: Signal, rules: Rules, held: Position | None) -> tuple[Meaning, PositionSide | None]:
    """The word, and the side of the position that it is about; whether it may be done is not asked."""
    if signal.target is not None:
        return _of_target(signal.target, _units(signal, rules), held, signal)
    assert signal.action is not None, "one of action and target is set"
    about = _ABOUT.get(signal.action)
    if signal.action in (Action.OPEN_LONG, Action.OPEN_SHORT):
        assert about is not None
        if held is not None and held.side is about and rules.repeat is not Repeat.ALIGN:
            return (Meaning.ADD if rules.repeat is Repeat.ADD else Meaning.NONE), about
        return _of_target(Target(about.value), _units(signal, rules), held, signal)
    if held is None or signal.action is Action.SET_EXITS or about not in (None, held.side):
        return Meaning.NONE, about or (None if held is None else held.side)
    if signal.action is Action.REVERSE:
        return _of_target(Target(opposite(held.side).value), None, held, signal)
    if signal.action in _CLOSES:
        return Meaning.CLOSE, held.side
    return (Meaning.REDUCE if signal.action in REDUCING else Meaning.ADD), held.side


def _of_target(
    target: Target, units: Decimal | None, held: Position | None, signal: Signal
) -> tuple[Meaning, PositionSide | None]:
    if target is Target.FLAT:
        return (Meaning.NONE, None) if held is None else (Meaning.CLOSE, held.side)
    side = PositionSide(target.value)
    if held is None:
        return (Meaning.OPEN_LONG if side is PositionSide.LONG else Meaning.OPEN_SHORT), side
    if held.side is not side and not signal.turns:
        return Meaning.CLOSE, held.side
    if held.side is not side:
        return (Meaning.REVERSE_TO_LONG if side is PositionSide.LONG else Meaning.REVERSE_TO_SHORT), side
    if units is None or units == held.qty:
        return Meaning.NONE, side
    return (Meaning.ADD if units > held.qty else Meaning.REDUCE), side


def _units(signal: Signal, rules: Rules) -> Decimal | None:
    """The size that is aimed at in base units, where it is stated so."""
    if signal.size is None or not signal.size.unit.counts_units:
        return None
    return signal.size.value * rules.multiplier
