"""CryptoGnome's Tradingview-Webhook-Bot: the README of its repository. Booleans are the words True and False; per cents
are per cent. It acts on the mere presence of `cancel_orders`; no orders of ours rest, so there is nothing to cancel.
"""

from collections.abc import Mapping

from app.alerts import part
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, SizeUnit

KNOWS = frozenset(
    """symbol type side qty price close_position cancel_orders order_mode take_profit_percent stop_loss_percent
    leverage""".split()
)
MARKS = frozenset({"close_position", "cancel_orders", "order_mode"})


def matches(obj: Mapping[str, object]) -> bool:
    return "side" in obj and "symbol" in obj and not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    symbol = body.symbol("symbol", defaults)
    side = part.SIDES[body.must("side", ("buy", "sell"))]
    repairs: list[str] = []
    if body.has("cancel_orders") and body.flag("cancel_orders"):
        repairs.append("ignored cancel_orders: no orders of ours rest")
    if body.flag("close_position"):
        return part.one(part.order(part.closing(None), symbol), repairs=repairs)
    mode = body.word("order_mode", ("both", "profit", "stop")) or "both"
    profit, stop = body.pct("take_profit_percent", AlertCode.BAD_TAKE_PROFIT), None
    if mode in ("both", "stop"):
        stop = body.pct("stop_loss_percent", AlertCode.BAD_STOP_LOSS, below_hundred=True)
    targets = () if profit is None or mode == "stop" else part.ladder([(PriceOrPct(pct=profit), None)], "")
    signal = part.order(
        part.opening(side, body.size("qty", SizeUnit.BASE)),
        symbol,
        exits=Exits(take_profit=targets, stop_loss=part.pct_stop(stop)),
        leverage=body.leverage(),
        price=body.chart_price("price", repairs),
        limit_prices=body.market_or_limit("type", "price"),
        nets=True,
    )
    return part.one(signal, repairs=repairs)
