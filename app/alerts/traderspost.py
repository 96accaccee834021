"""TradersPost: docs.traderspost.io, "Signal Message Reference" and "Order Behavior".

`action` is the order, `sentiment` the side afterwards. `sentiment: flat` leaves all of the position, whatever the
quantity. A buy while short leaves the short first. With a sentiment the quantity is a chart's: in a swap it is the old
size and the new one together, so the old one is taken off it. Without one it is the size of the new position.
`price` and `signalPrice` are the chart's; a limit order says so in `orderType`.
"""

from collections.abc import Mapping
from decimal import Decimal

from app.alerts import part
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import (
    Action,
    Defaults,
    Exits,
    PriceOrPct,
    Size,
    SizeUnit,
    StopLoss,
    TakeProfit,
    Target,
    Trailing,
)
from app.errors import InvalidInput

KNOWS = frozenset(
    """ticker action sentiment quantity quantityType takeProfit stopLoss orderType limitPrice stopPrice leverage
    trailAmount trailPercent""".split()
)
MARKS = frozenset(
    "sentiment quantity quantityType signalPrice takeProfit stopLoss limitPrice trailPercent trailAmount".split()
)
_SENTIMENTS = {
    "long": Target.LONG, "bullish": Target.LONG, "short": Target.SHORT, "bearish": Target.SHORT, "flat": Target.FLAT,
}  # fmt: skip
_UNITS = {
    "fixed_quantity": SizeUnit.BASE,
    "dollar_amount": SizeUnit.QUOTE,
    "percent_of_equity": SizeUnit.PCT_EQUITY,
    "percent_of_position": SizeUnit.PCT_POSITION,
}


# Fields that change the trade, or keep it from being done, and have no counterpart here.
_LATER = ("test", "delay", "optionType", "expiration", "intrinsicValue", "strikePrice", "strikeCount", "strikesAway")


def matches(obj: Mapping[str, object]) -> bool:
    return "ticker" in obj and not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    action = body.must("action", ("buy", "sell", "exit", "add", "cancel"))
    if action == "cancel":
        raise body.later("action", "orders leave at market, so there is none to cancel")
    body.refuse(_LATER, "leave it out")
    after = body.word("sentiment", _SENTIMENTS, AlertCode.BAD_TARGET)
    aim = _aim(body, action, None if after is None else _SENTIMENTS[after])
    repairs: list[str] = []
    closes = aim.only_closes
    signal = part.order(
        aim,
        body.symbol("ticker", defaults),
        exits=None if closes else _exits(body),
        leverage=None if closes else body.leverage(),
        price=body.chart_price("signalPrice" if body.has("signalPrice") else "price", repairs),
        limit_prices=() if closes else _limit(body),
        sent_at=body.time("time"),
    )
    return part.one(signal, repairs=repairs)


def _aim(body: Part, action: str, after: Target | None) -> Aim:
    if after is Target.FLAT:
        return Aim(target=Target.FLAT)
    size = _size(body)
    if action == "exit":
        if after is not None:
            raise _contradiction(body, "an exit ends flat")
        return part.closing(None, size, "quantity")
    if action == "add":
        return Aim(action=Action.ADD, size=size)
    side = part.SIDES[action]
    if after is not None and after is not side:
        # A sell that leaves a long: whatever was held before, this is a partial exit.
        if size is None:
            raise body.missing("quantity", "a partial exit needs the size that is left off")
        return part.closing(after, size, "quantity")
    if size is not None and size.unit is SizeUnit.PCT_POSITION:
        raise InvalidInput(AlertCode.BAD_SIZE, "A share of a position can't open one.", "quantityType")
    return Aim(action=part.OPENS[side], size=size, whole_order=after is not None and size is not None)


def _size(body: Part) -> Size | None:
    unit = body.word("quantityType", (*_UNITS, "risk_dollar_amount", "risk_percent"), AlertCode.BAD_SIZE)
    if unit is not None and unit not in _UNITS:
        raise body.later("quantityType", f"write one of {', '.join(_UNITS)}, or risk_pct in the native format")
    return body.size("quantity", _UNITS[unit or "fixed_quantity"])


def _limit(body: Part) -> tuple[Decimal, ...]:
    body.refuse(("stopPrice", "trailAmount", "trailPercent"), "orders leave at market; leave it out")
    return body.market_or_limit("orderType", "limitPrice")


def _exits(body: Part) -> Exits:
    profit = body.part("takeProfit", AlertCode.BAD_TAKE_PROFIT, ("percent", "limitPrice", "amount"))
    targets: tuple[TakeProfit, ...] = ()
    if profit is not None:
        at = _price_or_pct(profit, "limitPrice", AlertCode.BAD_TAKE_PROFIT)
        targets = part.ladder([(at, None)], "takeProfit")
    names = ("type", "percent", "stopPrice", "limitPrice", "amount", "trailPercent", "trailAmount")
    stop = body.part("stopLoss", AlertCode.BAD_STOP_LOSS, names)
    if stop is None:
        return Exits(take_profit=targets)
    kind = stop.word("type", ("stop", "stop_limit", "trailing_stop"), AlertCode.BAD_STOP_LOSS) or "stop"
    if kind == "trailing_stop":
        stop.refuse(("trailAmount", "amount"), "a distance in money; write trailPercent")
        pct = stop.pct("trailPercent", AlertCode.BAD_TRAILING, below_hundred=True)
        if pct is None:
            raise stop.missing("trailPercent", "a trailing stop needs its distance")
        return Exits(take_profit=targets, trailing=Trailing(distance=PriceOrPct(pct=pct)))
    # A stop-limit order may stay unfilled; ours leaves at market, so its limit price is not needed.
    at = _price_or_pct(stop, "stopPrice", AlertCode.BAD_STOP_LOSS)
    return Exits(take_profit=targets, stop_loss=StopLoss(price=at.price, pct=at.pct))


def _price_or_pct(exit_: Part, price_name: str, code: AlertCode) -> PriceOrPct:
    exit_.refuse(("amount",), "a distance in money; write percent, or the price itself")
    pct, price = exit_.pct("percent", code), exit_.positive(price_name, code)
    if (pct is None) is (price is None):
        raise InvalidInput(code, f"{exit_.path[:-1]} needs exactly one of percent and {price_name}.", exit_.path[:-1])
    return PriceOrPct(pct=pct, price=price)


def _contradiction(body: Part, what: str) -> InvalidInput:
    return InvalidInput(AlertCode.CONTRADICTION, f"sentiment contradicts the action: {what}.", body.field("sentiment"))
