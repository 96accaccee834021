"""3Commas Signal Bot, strategy type and custom type.

Strategy type: help.3commas.io/en/articles/9374557. The state after the order decides, as in TradingView's own
templates. Custom type: help.3commas.io/en/articles/8894481. Per cents are per cent there (1 is one per cent), and some
write those of a short with a minus sign. `max_lag` seconds after `timestamp` the alert is too old.
"""

from collections.abc import Mapping
from decimal import Decimal

from app.alerts import part, tradingview
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, Size, SizeUnit, Target, Trailing
from app.errors import InvalidInput

KNOWS = frozenset("action bot_uuid tv_instrument strategy_info order take_profit stop_loss leverage".split())
MARKS = frozenset({"bot_uuid", "tv_instrument", "strategy_info"})

_ENTERS = {"enter_long": Target.LONG, "enter_short": Target.SHORT}
_EXITS = {"exit_long": Target.LONG, "exit_short": Target.SHORT}
_UNITS = {
    "base": SizeUnit.BASE,
    "quote": SizeUnit.QUOTE,
    "margin_percent": SizeUnit.PCT_EQUITY,
    "position_percent": SizeUnit.PCT_POSITION,
}


def matches(obj: Mapping[str, object]) -> bool:
    return not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    return _strategy(body, defaults) if body.has("strategy_info") else _custom(body, defaults)


def _strategy(body: Part, defaults: Defaults) -> Understood:
    code = AlertCode.BAD_TARGET
    info = body.part("strategy_info", code) or Part({})
    order = body.part("order", AlertCode.BAD_SIZE) or Part({}, "order.")
    unit = order.word("currency_type", ("base", "quote"), AlertCode.BAD_SIZE)
    if unit == "quote":
        # market_position_size counts base units all the same, and the two can't be compared.
        raise order.later("currency_type", "with strategy_info the amount is counted in base")
    after, before = "market_position", "prev_market_position"
    flat = {
        name: (f"strategy_info.{name}", info.value(name)) for name in (after, f"{after}_size", before, f"{before}_size")
    }
    return tradingview.read_as(
        {
            **flat,
            "symbol": ("tv_instrument", body.symbol("tv_instrument", defaults)),
            "action": ("action", body.must("action", ("buy", "sell"))),
            "contracts": ("order.amount", order.value("amount")),
            "price": ("trigger_price", body.obj.get("trigger_price")),
            "timestamp": ("timestamp", body.value("timestamp")),
            "max_age_s": ("max_lag", body.value("max_lag")),
        },
        defaults,
    )


def _custom(body: Part, defaults: Defaults) -> Understood:
    action = body.must("action", (*_ENTERS, *_EXITS, "disable", "enable"))
    if action in ("disable", "enable"):
        raise body.later("action", "to switch a strategy off or on, use PATCH /api/v1/strategies/{id}")
    order = body.part("order", AlertCode.BAD_SIZE, ("amount", "currency_type", "order_type", "price", "price_percent"))
    order = order or Part({}, "order.")
    order.refuse(("price_percent",), "orders leave at market; leave it out")
    size = _size(order, closes=action in _EXITS)
    aim: Aim
    if action in _ENTERS:
        aim = part.opening(_ENTERS[action], size)
    else:
        aim = part.closing(_EXITS[action], size, order.field("amount"))
    repairs: list[str] = []
    closes = action in _EXITS
    signal = part.order(
        aim,
        body.symbol("tv_instrument", defaults),
        exits=Exits() if closes else _exits(body, _ENTERS[action]),
        leverage=None if closes else body.leverage(),
        price=body.chart_price("trigger_price", repairs),
        limit_prices=() if closes else order.market_or_limit("order_type", "price"),
        sent_at=body.time("timestamp"),
        max_age_s=body.max_age_s("max_lag"),
    )
    return part.one(signal, repairs=repairs)


def _size(order: Part, *, closes: bool) -> Size | None:
    unit = order.word("currency_type", _UNITS, AlertCode.BAD_SIZE)
    if not order.has("amount"):
        return None
    if unit is None:
        raise order.missing("currency_type", f"write one of {', '.join(_UNITS)}")
    if (unit == "position_percent") is not closes and (closes is False or unit == "margin_percent"):
        raise InvalidInput(
            AlertCode.BAD_SIZE, f"{unit} can't size this action; write another currency_type.",
            order.field("currency_type"),
        )  # fmt: skip
    return order.size("amount", _UNITS[unit])


def _exits(body: Part, side: Target) -> Exits:
    code = AlertCode.BAD_TAKE_PROFIT
    profit = body.part("take_profit", code, ("enabled", "steps"))
    rungs: list[tuple[PriceOrPct, Decimal | None]] = []
    if profit is not None and (profit.flag("enabled") or not profit.has("enabled")):
        steps = profit.parts("steps", code, ("order_type", "price_percent", "volume_percent", "trailing"))
        for step in steps:
            trailing = step.part("trailing", AlertCode.BAD_TRAILING)
            if trailing is not None and trailing.flag("enabled"):
                raise step.later("trailing", "a target that trails; use trailing_take_profit in the native format")
            pct = step.pct("price_percent", code, below=side is Target.SHORT)
            if pct is None:
                raise step.missing("price_percent", "each step needs one")
            rungs.append((PriceOrPct(pct=pct), step.pct("volume_percent", code)))
    targets = part.ladder(rungs, "take_profit.steps")
    stop = body.part("stop_loss", AlertCode.BAD_STOP_LOSS)
    if stop is None or not (stop.flag("enabled") or not stop.has("enabled")):
        return Exits(take_profit=targets)
    stop.refuse(("breakeven",), "use break_even in the native format or the strategy's defaults")
    distance = stop.pct("trigger_price_percent", AlertCode.BAD_STOP_LOSS, below_hundred=True, below=side is Target.LONG)
    if distance is None:
        raise stop.missing("trigger_price_percent", "the stop needs its distance")
    trailing = stop.part("trailing", AlertCode.BAD_TRAILING)
    if trailing is not None and trailing.flag("enabled"):
        # A stop loss that follows the price from the start, at its own distance.
        pct = trailing.pct("percent", AlertCode.BAD_TRAILING, below_hundred=True) or distance
        return Exits(take_profit=targets, trailing=Trailing(distance=PriceOrPct(pct=pct)))
    return Exits(take_profit=targets, stop_loss=part.pct_stop(distance))
