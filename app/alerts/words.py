"""What people write for an action or a side, and whether the words of one alert can all be true."""

from typing import assert_never

import msgspec

from app.alerts.codes import AlertCode
from app.alerts.lookalikes import hint
from app.domain.order import Side
from app.domain.signal import Action, Target
from app.errors import InvalidInput

# Case, spaces, `_`, `-`, `/` and `.` make no difference. Without a target `buy` and `sell` open: to leave a position,
# the alert says `close`, or says where the position ends up with `target`.
ACTIONS: dict[str, Action] = {
    **dict.fromkeys(
        ("buy", "long", "openlong", "enterlong", "entrylong", "longentry", "golong", "buylong", "entrybuy"),
        Action.OPEN_LONG,
    ),
    **dict.fromkeys(
        ("sell", "short", "openshort", "entershort", "entryshort", "shortentry", "goshort", "sellshort", "entrysell"),
        Action.OPEN_SHORT,
    ),
    **dict.fromkeys(("add", "increase", "scalein"), Action.ADD),
    **dict.fromkeys(("reduce", "decrease", "scaleout", "partialclose", "partialexit"), Action.REDUCE),
    **dict.fromkeys(("reducelong", "decreaselong"), Action.REDUCE_LONG),
    **dict.fromkeys(("reduceshort", "decreaseshort"), Action.REDUCE_SHORT),
    **dict.fromkeys(("reverse", "flip"), Action.REVERSE),
    **dict.fromkeys(("close", "exit", "flat", "flatten", "closeposition", "exitposition"), Action.CLOSE),
    **dict.fromkeys(("closeall", "exitall", "flattenall"), Action.CLOSE),
    **dict.fromkeys(("closelong", "exitlong", "longexit", "longclose", "selltoclose"), Action.CLOSE_LONG),
    **dict.fromkeys(("setexits", "updateexits", "changeexits"), Action.SET_EXITS),
    **dict.fromkeys(("closeshort", "exitshort", "shortexit", "shortclose", "buytoclose"), Action.CLOSE_SHORT),
}
CLOSES = frozenset({Action.CLOSE, Action.CLOSE_LONG, Action.CLOSE_SHORT})
# In the native format of every symbol that the strategy holds. In a chart's template it is the script's own
# `strategy.close_all()`: all entries of the chart's symbol.
_EVERYWHERE = frozenset({"closeall", "exitall", "flattenall"})
# Understood, and refused by name instead of as a typing error.
_LATER: dict[str, str] = {
    **dict.fromkeys(("cancel", "cancelall", "cancelorders"), "orders leave at market, so there is none to cancel"),
    **dict.fromkeys(("addlong", "addshort"), "write add"),
}

# The targets that an action can be meant with.
ENDS_AT: dict[Action, frozenset[Target]] = {
    Action.OPEN_LONG: frozenset({Target.LONG}),
    Action.OPEN_SHORT: frozenset({Target.SHORT}),
    Action.ADD: frozenset({Target.LONG, Target.SHORT}),
    Action.REDUCE: frozenset({Target.LONG, Target.SHORT}),
    Action.REDUCE_LONG: frozenset({Target.LONG}),
    Action.REDUCE_SHORT: frozenset({Target.SHORT}),
    Action.REVERSE: frozenset({Target.LONG, Target.SHORT}),
    Action.CLOSE: frozenset({Target.FLAT}),
    Action.CLOSE_LONG: frozenset({Target.FLAT}),
    Action.CLOSE_SHORT: frozenset({Target.FLAT}),
    Action.SET_EXITS: frozenset(),  # whatever is held stays held
}


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """An action as written. `side` is set for a bare buy or sell: beside a target it names the order, not the aim."""

    action: Action
    side: Side | None
    everywhere: bool


_WORDS = {
    text: Word(action=action, side=Side(text) if text in ("buy", "sell") else None, everywhere=text in _EVERYWHERE)
    for text, action in ACTIONS.items()
}
_TARGETS = {target.value: target for target in Target}
_RANKS = {Target.SHORT: -1, Target.FLAT: 0, Target.LONG: 1}
_NO_DIFFERENCE = str.maketrans("", "", " _-/.")


def read_action(text: str, field: str) -> Word:
    word = text.casefold()
    if word not in _WORDS:
        word = word.translate(_NO_DIFFERENCE)
    if word in _LATER:
        raise InvalidInput(AlertCode.NOT_SUPPORTED_YET, f"This version cannot do {text[:40]!r}: {_LATER[word]}.", field)
    if word not in _WORDS:
        raise InvalidInput(
            AlertCode.BAD_ACTION,
            f"{text[:40]!r} is no action; write buy, sell, add, reduce, reverse, close, close_all, close_long or "
            "reduce_short." + hint(text),
            field,
        )
    return _WORDS[word]


def read_target(text: str, field: str) -> Target:
    target = _TARGETS.get(text.lower())
    if target is None:
        raise InvalidInput(
            AlertCode.BAD_TARGET,
            f"{text[:40]!r} is no side of a position; write long, short or flat." + hint(text),
            field,
        )
    return target


def check_agreement(word: Word, previous: Target | None, target: Target, field: str) -> None:
    """Raise `contradiction` if the action cannot lead from `previous` to `target`."""
    if word.side is not None:
        agrees = previous is None or previous is target or word.side is _order_side(previous, target)
    else:
        agrees = target in ENDS_AT[word.action] and _starts_at(word.action, previous, target)
    if not agrees:
        start = "" if previous is None else f"from {previous} "
        raise InvalidInput(
            AlertCode.CONTRADICTION,
            f"The action doesn't lead {start}to {target}; check which placeholders fill the message.",
            field,
        )


def _order_side(previous: Target, target: Target) -> Side:
    """The order that leads from one state to another."""
    return Side.BUY if _RANKS[target] > _RANKS[previous] else Side.SELL


def _starts_at(action: Action, previous: Target | None, target: Target) -> bool:
    if previous is None:
        return True
    match action:
        case Action.OPEN_LONG | Action.OPEN_SHORT | Action.CLOSE | Action.SET_EXITS:
            return True
        case Action.ADD | Action.REDUCE | Action.REDUCE_LONG | Action.REDUCE_SHORT:
            return previous is target
        case Action.REVERSE:
            return previous not in (target, Target.FLAT)
        case Action.CLOSE_LONG:
            return previous is not Target.SHORT
        case Action.CLOSE_SHORT:
            return previous is not Target.LONG
        case _:
            assert_never(action)
