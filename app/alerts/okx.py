"""OKX Signal Bot: www.okx.com/help/signal-bot-alert-message-specifications (2.0, sections A and B). BloFin copies it.

Section A is a TradingView strategy: the state after the order decides. Section B says ENTER_LONG and so on. Amounts in
`contract` are refused: OKX's contracts have a face value of their own (0.01 BTC), ours are one base unit. `margin` is
what is put up and not what is traded, so it is refused too. Per cents are per cent; those of the bot's balance count
here from the account's equity, as the notional. `maxLag` is 60 seconds unless the body says otherwise.
"""

from collections.abc import Mapping

from app.alerts import part, tradingview
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Action, Defaults, Size, SizeUnit, Target

KNOWS = frozenset(
    """action instrument signalToken marketPosition prevMarketPosition marketPositionSize prevMarketPositionSize
    orderType orderPriceOffset investmentType amount""".split()
)
MARKS = frozenset({"signalToken", "investmentType", "prevMarketPosition"})
_ENTERS = {"ENTER_LONG": Target.LONG, "ENTER_SHORT": Target.SHORT}
_EXITS = {"EXIT_LONG": Target.LONG, "EXIT_SHORT": Target.SHORT}
_UNITS = {
    "base": SizeUnit.BASE,
    "percentage_balance": SizeUnit.PCT_EQUITY,
    "percentage_position": SizeUnit.PCT_POSITION,
}
_NO_UNITS = {
    "contract": "OKX's contracts are of another size than ours; write base",
    "margin": "it is what is put up and not what is traded; write base or percentage_balance",
    "percentage_investment": "a bot's own investment has no counterpart here; write percentage_balance",
}
_MAX_LAG_S = 60


def matches(obj: Mapping[str, object]) -> bool:
    return not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    action = body.must("action", ("buy", "sell", *_ENTERS, *_EXITS))
    if body.has("orderType"):
        kind = body.must("orderType", ("market", "limit"))
        if kind == "limit":
            raise body.later("orderType", "orders leave at market; write market")
    if action in ("buy", "sell"):
        return _strategy(body, action, defaults)
    closes = action in _EXITS
    size = _size(body, closes=closes)
    aim = part.closing(_EXITS[action], size) if closes else part.opening(_ENTERS[action], size)
    signal = part.order(
        aim,
        body.symbol("instrument", defaults),
        sent_at=body.time("timestamp"),
        max_age_s=body.max_age_s("maxLag") or _MAX_LAG_S,
    )
    return part.one(signal)


def _strategy(body: Part, action: str, defaults: Defaults) -> Understood:
    flat = body.word("marketPosition", ("long", "short", "flat"), AlertCode.BAD_TARGET) == "flat"
    size = None if flat else _size(body, closes=True)  # a close needs none, in whatever unit the template writes it
    state: dict[str, tuple[str, object]] = {}
    if size is not None and size.unit is SizeUnit.PCT_POSITION and not body.has("marketPositionSize"):
        after = body.must("marketPosition", ("long", "short"), AlertCode.BAD_TARGET)
        return _partial(body, part.SIDES[action], Target(after), size, defaults)
    if size is not None and size.unit is SizeUnit.PCT_EQUITY:
        after = body.must("marketPosition", ("long", "short"), AlertCode.BAD_TARGET)
        return _entry(body, part.SIDES[action], Target(after), size, defaults)
    elif size is not None and size.unit is SizeUnit.BASE:
        state["contracts"] = ("amount", size.value)
    return tradingview.read_as(
        {
            **state,
            "symbol": ("instrument", body.symbol("instrument", defaults)),
            "action": ("action", action),
            "order_id": ("id", body.value("id")),
            "market_position": ("marketPosition", body.value("marketPosition")),
            "market_position_size": ("marketPositionSize", body.value("marketPositionSize")),
            "prev_market_position": ("prevMarketPosition", body.value("prevMarketPosition")),
            "prev_market_position_size": ("prevMarketPositionSize", body.value("prevMarketPositionSize")),
            "timestamp": ("timestamp", body.value("timestamp")),
            "max_age_s": ("maxLag", body.value("maxLag") or _MAX_LAG_S),
        },
        defaults,
    )


def _entry(body: Part, order: Target, after: Target, size: Size, defaults: Defaults) -> Understood:
    """A share of the balance is the size of this order, whatever sizes the chart counts: it opens, turns or adds."""
    if order is not after:
        raise body.later("investmentType", "percentage_balance is for entries; write percentage_position or base")
    before = body.word("prevMarketPosition", ("long", "short", "flat"), AlertCode.BAD_TARGET)
    adds = before is not None and Target(before) is after
    opening = part.opening(after, size)
    return part.one(
        part.order(
            Aim(
                action=Action.ADD if adds else opening.action,
                previous=None if before is None else Target(before),
                size=size,
            ),
            body.symbol("instrument", defaults),
            sent_at=body.time("timestamp"),
            max_age_s=body.max_age_s("maxLag") or _MAX_LAG_S,
        )
    )


def _partial(body: Part, order: Target, after: Target, share: Size, defaults: Defaults) -> Understood:
    """A sell that leaves a long closes a share of it."""
    if order is after:
        raise body.later("investmentType", "percentage_position is for exits; write percentage_balance")
    return part.one(
        part.order(
            part.closing(after, share),
            body.symbol("instrument", defaults),
            sent_at=body.time("timestamp"),
            max_age_s=body.max_age_s("maxLag") or _MAX_LAG_S,
        )
    )


def _size(body: Part, *, closes: bool) -> Size | None:
    kind = body.word("investmentType", (*_UNITS, *_NO_UNITS), AlertCode.BAD_SIZE)
    if not body.has("amount"):
        return None
    if kind is None:
        raise body.missing("investmentType", f"write one of {', '.join(_UNITS)}")
    if kind in _NO_UNITS:
        raise body.later("investmentType", _NO_UNITS[kind])
    if kind == "percentage_position" and not closes:
        raise body.later("investmentType", "percentage_position is for exits; write percentage_balance")
    return body.size("amount", _UNITS[kind])
