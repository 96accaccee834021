"""tradingview-alerts-processor (thibaultyou): docs/2_Alerts.md of its repository. A list is several trades.

A size is in quote currency, with % it is of what is available; of a close it is a share, and outside 1 to 100 per cent
all is closed.
"""

from collections.abc import Mapping
from decimal import Decimal

from app.alerts import part
from app.alerts.aim import Understood
from app.alerts.part import Part
from app.domain.signal import Defaults, SizeUnit

KNOWS = frozenset("stub direction symbol size max mode".split())
MARKS = frozenset({"direction"})


def matches(obj: Mapping[str, object]) -> bool:
    return "direction" in obj and "symbol" in obj


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    direction = body.must("direction", ("long", "short", "buy", "sell", "close"))
    symbol = body.symbol("symbol", defaults)
    if direction == "close":
        size = body.size_or_share("size", SizeUnit.QUOTE, SizeUnit.PCT_POSITION)
        whole = size is None or size.unit is SizeUnit.QUOTE or not Decimal(1) <= size.value <= 100
        return part.one(part.order(part.closing(None, None if whole else size, "size"), symbol))
    body.refuse(("max",), "a budget is set as max_notional in the strategy's limits")
    if body.word("mode", ("reverse", "overflow")) == "overflow":
        raise body.later("mode", "an opposite position is turned round; write reverse")
    size = body.size_or_share("size", SizeUnit.QUOTE, SizeUnit.PCT_AVAILABLE)
    return part.one(part.order(part.opening(part.SIDES[direction], size), symbol))
