"""The smallest of the public Bybit hooks (edikua/hook, its README and bot.py): entries are limit orders at `price`,
exits are at market and reduce by `qty`, which counts base units.
"""

from collections.abc import Mapping

from app.alerts import part
from app.alerts.aim import Understood
from app.alerts.part import Part
from app.domain.signal import Defaults, SizeUnit, Target

KNOWS = frozenset("action symbol qty price".split())
MARKS = frozenset({"qty"})
_ENTRIES = {"entry_long": Target.LONG, "entry_short": Target.SHORT}
_EXITS = {"exit_long": Target.LONG, "exit_short": Target.SHORT}


def matches(obj: Mapping[str, object]) -> bool:
    return "qty" in obj and "symbol" in obj and obj.get("action") in (*_ENTRIES, *_EXITS)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    action = body.must("action", (*_ENTRIES, *_EXITS, "cancel"))
    if action == "cancel":
        raise body.later("action", "orders leave at market, so there is none to cancel")
    symbol = body.symbol("symbol", defaults)
    size = body.size("qty", SizeUnit.BASE)
    if size is None:
        raise body.missing("qty", "write the quantity in base units")
    if action in _EXITS:
        return part.one(part.order(part.closing(_EXITS[action], size, "qty"), symbol))
    price = body.positive("price")
    if price is None:
        raise body.missing("price", "entries are limit orders in this format; without a price, send the native format")
    return part.one(part.order(part.opening(_ENTRIES[action], size), symbol, limit_prices=(price,)))
