"""Gainium: gainium.io/help/webhooks, gainium.io/help/reduce-funds. One action or a list that is run in order.

The bot (`uuid`) knows side, size and pair: from the strategy's defaults. Two bots in one list are most often one for
each side, and one strategy has one side, so those are refused, unless each action names its side (enterLong, …).
"""

from collections.abc import Mapping, Sequence

from app.alerts import part
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Action, Defaults, Size, SizeUnit, Target

KNOWS = frozenset("action uuid symbol qty type asset".split())
MARKS = frozenset({"uuid", "action"})
_SIDED = {
    "enterLong": (True, Target.LONG), "enterShort": (True, Target.SHORT),
    "exitLong": (False, Target.LONG), "exitShort": (False, Target.SHORT),
}  # fmt: skip
_BARE = ("startDeal", "closeDeal", "closeDealSl", "addFunds", "reduceFunds")
_BOT = ("startBot", "stopBot", "changePairs")


def matches(obj: Mapping[str, object]) -> bool:
    action = obj.get("action")
    return "uuid" in obj or (isinstance(action, str) and action in (*_BARE, *_BOT))


def check_legs(legs: Sequence[Mapping[str, object]]) -> None:
    """Raise InvalidInput for a list that speaks of several bots without naming sides."""
    bots = {str(leg.get("uuid")) for leg in legs}
    if len(bots) > 1 and any(leg.get("action") in _BARE for leg in legs):
        raise Part({}).missing(
            "uuid", "two bots in one list, and which side each has is known to them alone; send "
            '{"action": "reverse"} in the native format, or a TradingView template',
        )  # fmt: skip


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    action = body.must("action", (*_BARE, *_SIDED, *_BOT))
    if action in _BOT:
        raise body.later("action", "to switch a strategy off or on, or to change its symbols, use the API")
    symbol = body.symbol("symbol", defaults)
    if action in _SIDED:
        opens, side = _SIDED[action]
        return part.one(part.order(part.opening(side, None) if opens else part.closing(side), symbol))
    if action == "startDeal":
        return part.one(part.order(part.opening(part.side_of(body, defaults), None), symbol))
    if action in ("closeDeal", "closeDealSl"):
        return part.one(part.order(part.closing(defaults.side), symbol))
    size = _size(body)
    if action == "reduceFunds":
        return part.one(part.order(part.closing(defaults.side, size, "qty"), symbol))
    return part.one(part.order(Aim(action=Action.ADD, size=size), symbol))


def _size(body: Part) -> Size:
    kind = body.must("type", ("fixed", "perc"), AlertCode.BAD_SIZE)
    unit = SizeUnit.PCT_POSITION
    if kind == "fixed":
        unit = SizeUnit(body.must("asset", ("base", "quote"), AlertCode.BAD_SIZE))
    size = body.size("qty", unit)
    if size is None:
        raise body.missing("qty", "write how much")
    return size
