"""Altrady: support.altrady.com, "Webhook Signals: Open, Increase, Reduce, Close or Reverse a Position".

Symbols are written exchange_quote_base. In a reversal `side` is the side wanted afterwards. What a signal leaves out
(the side of a one-sided bot, the size) is in the bot's settings: from the strategy's defaults. `test` trades nothing.
"""

from collections.abc import Mapping

from app.alerts import part
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Action, BreakEven, Defaults, Exits, PriceOrPct, SizeUnit, StopLoss, Target
from app.errors import InvalidInput

KNOWS = frozenset("action symbol side quote_amount leverage take_profit stop_loss dca_orders order_type".split())
MARKS = frozenset({"api_key"})
_ACTIONS = ("open", "increase", "reduce", "close", "reverse")
_BOT = ("start_bot", "start_and_open", "stop_bot", "stop_and_close")


def matches(obj: Mapping[str, object]) -> bool:
    return "api_key" in obj and "api_secret" in obj


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    action = body.word("action", (*_ACTIONS, *_BOT)) or "open"
    if action in _BOT:
        raise body.later("action", "to switch a strategy off or on, use PATCH /api/v1/strategies/{id}")
    if body.flag("test"):
        raise body.later("test", "a test trades nothing; leave it out")
    symbol = body.symbol("symbol", defaults)
    word = body.word("side", ("long", "short"), AlertCode.BAD_TARGET)
    side = defaults.side if word is None else Target(word)
    size = body.size("quote_amount", SizeUnit.QUOTE) if body.obj.get("quote_amount") != 0 else None
    repairs: list[str] = []
    price = body.chart_price("signal_price", repairs)
    if action == "close":
        return part.one(part.order(part.closing(side), symbol, price=price), repairs=repairs)
    if action == "reduce":
        if size is None:
            raise body.missing("quote_amount", "a reduction needs a size")
        return part.one(part.order(part.closing(side, size, "quote_amount"), symbol, price=price), repairs=repairs)
    body.refuse(("dca_orders", "entry_condition", "entry_expiration"), "orders that wait are not placed; leave it out")
    if action == "increase":
        if side is not None and word is not None:
            # Which side is added to is checked against what is held only when it is traded.
            repairs.append("ignored side: an addition goes to what is held")
        return part.one(part.order(Aim(action=Action.ADD, size=size), symbol, price=price), repairs=repairs)
    signal = part.order(
        part.opening(side or part.side_of(body, defaults), size),
        symbol,
        exits=_exits(body),
        leverage=body.leverage() if body.obj.get("leverage") != 0 else None,
        price=price,
        limit_prices=body.market_or_limit("order_type", "signal_price"),
    )
    return part.one(signal, repairs=repairs)


def _exits(body: Part) -> Exits:
    code = AlertCode.BAD_TAKE_PROFIT
    rungs = []
    for target in body.parts("take_profit", code, ("price", "price_percentage", "position_percentage")):
        pct, price = target.pct("price_percentage", code), target.positive("price", code)
        if (pct is None) is (price is None):
            raise target.missing("price_percentage", "each target needs it, or a price")
        rungs.append((PriceOrPct(pct=pct, price=price), target.pct("position_percentage", code)))
    targets = part.ladder(rungs, "take_profit")
    names = ("stop_percentage", "stop_price", "order_type", "protection_type", "cool_down_type", "cool_down_value")
    stop = body.part("stop_loss", AlertCode.BAD_STOP_LOSS, names)
    if stop is None:
        return Exits(take_profit=targets)
    if (stop.text("cool_down_type") or "none").lower() != "none":
        raise stop.later("cool_down_type", "a stop acts at once")
    pct = stop.pct("stop_percentage", AlertCode.BAD_STOP_LOSS, below_hundred=True)
    price = stop.positive("stop_price", AlertCode.BAD_STOP_LOSS)
    if (pct is None) is (price is None):
        raise InvalidInput(
            AlertCode.BAD_STOP_LOSS, "stop_loss needs exactly one of stop_percentage and stop_price.", "stop_loss"
        )
    protection = stop.word("protection_type", ("none", "break_even", "follow_take_profit"), AlertCode.BAD_STOP_LOSS)
    if protection == "follow_take_profit":
        raise stop.later("protection_type", "use stop_steps in the native format")
    even = BreakEven(after_target=1) if protection == "break_even" and targets else None
    return Exits(take_profit=targets, stop_loss=StopLoss(pct=pct, price=price), break_even=even)
