"""freqtrade's own API shape (ForceEnterPayload, ForceExitPayload), which others copy for alerts.

`stakeamount` is in quote currency. An exit names the trade by a number that only freqtrade knows, so the symbol comes
from `pair` or from the strategy's defaults.
"""

from collections.abc import Mapping

from app.alerts import part
from app.alerts.aim import Understood
from app.alerts.part import Part
from app.domain.signal import Defaults, SizeUnit, Target

KNOWS = frozenset("pair side price ordertype stakeamount entry_tag leverage tradeid amount".split())
MARKS = frozenset({"tradeid", "stakeamount", "ordertype", "entry_tag"})


def matches(obj: Mapping[str, object]) -> bool:
    return "tradeid" in obj or ("pair" in obj and not MARKS.isdisjoint(obj))


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    symbol = body.symbol("pair", defaults)
    if body.has("tradeid"):
        size = body.size("amount", SizeUnit.BASE)
        return part.one(part.order(part.closing(defaults.side, size), symbol))
    side = body.word("side", ("long", "short")) or "long"  # freqtrade's own default
    signal = part.order(
        part.opening(Target(side), body.size("stakeamount", SizeUnit.QUOTE)),
        symbol,
        leverage=body.leverage(),
        limit_prices=body.market_or_limit("ordertype", "price"),
    )
    return part.one(signal)
