"""Finandy: docs.finandy.com, "Signal interface: Open, Close / Reverse"; finandy.gitbook.io/algo-trading.

`side` is buy or sell. An opposite signal closes what is held and opens nothing, unless the hook is set up to reverse.
`positionSide` is {{strategy.market_position}}: flat closes; long or short is the side afterwards. Size, leverage and
what the blocks inside could say are the hook's own settings: from the strategy's defaults.
"""

from collections.abc import Mapping

from app.alerts import part
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, Target

KNOWS = frozenset("name symbol side positionSide tp open dca close sl slx leverage".split())
MARKS = frozenset({"name", "positionSide"})


def matches(obj: Mapping[str, object]) -> bool:
    return "symbol" in obj and "side" in obj and not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    side = part.SIDES[body.must("side", ("buy", "sell"))]
    symbol = body.symbol("symbol", defaults)
    after = body.word("positionSide", ("long", "short", "flat", "both"), AlertCode.BAD_TARGET)
    if after == "flat":
        return part.one(part.order(Aim(target=Target.FLAT), symbol))
    if after in ("long", "short") and Target(after) is not side:
        # A sell while the chart stays long: a partial exit, whose size is in the hook's settings.
        raise body.later("positionSide", "a partial exit whose size is set in the hook; send a TradingView template")
    body.refuse(("open", "dca", "close", "sl", "slx"), "blocks of settings are not read; set them in the strategy")
    body.refuse(("leverage",), "set it in the strategy's defaults")
    turns = after in ("long", "short")  # a strategy's own reversal; a plain opposite signal only closes
    return part.one(part.order(part.opening(side, None), symbol, exits=_exits(body, side), turns=turns))


def _exits(body: Part, side: Target) -> Exits:
    code = AlertCode.BAD_TAKE_PROFIT
    profit = body.part("tp", code, ("orders", "update"))
    if profit is None:
        return Exits()
    rungs = []
    for order in profit.parts("orders", code, ("ofs", "price", "piece")):
        pct, price = order.pct("ofs", code, below=side is Target.SHORT), order.positive("price", code)
        if (pct is None) is (price is None):
            raise order.missing("ofs", "each target needs its distance in per cent, or a price")
        rungs.append((PriceOrPct(pct=pct, price=price), order.pct("piece", code)))
    return Exits(take_profit=part.ladder(rungs, "tp.orders"))
