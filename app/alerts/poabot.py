"""POABOT: the model of its orders in public repositories, and the TradingView library "POA" for the units.

entry/buy opens a long and close/sell closes one; entry/sell and close/buy are the mirror image. `percent` is of the
wallet's balance for an entry and of the position for a close; `amount` is in base units. A bare sell is a sale on the
spot market, which could be an exit here or a short: refused. `stop_price` and `profit_price` are the exits of an entry.
Its templates write "NaN" for what is not set; of the sizes one has to be set all the same.
"""

from collections.abc import Mapping

from app.alerts import part, symbols
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, Size, SizeUnit, Target
from app.errors import InvalidInput

KNOWS = frozenset("base quote side amount percent price leverage order_name type stop_price profit_price".split())
MARKS = frozenset({"base"})
_NOT_SET = "nan"
# Fields that change the trade and have no counterpart here.
_LATER = ("cost", "amount_by_percent", "hedge")
_ENTRIES = {"entry/buy": Target.LONG, "entry/sell": Target.SHORT, "buy": Target.LONG}
_CLOSES = {"close/sell": Target.LONG, "close/buy": Target.SHORT}


def matches(obj: Mapping[str, object]) -> bool:
    return all(name in obj for name in ("base", "quote", "side"))


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part({name: value for name, value in obj.items() if not _is_not_set(value)})
    for name in ("amount", "percent"):
        if _is_not_set(obj.get(name)) and not (body.has("amount") or body.has("percent")):
            raise InvalidInput(
                AlertCode.BAD_SIZE, f"{name} is NaN, and no other size is set; write amount or percent.", name
            )
    body.refuse(_LATER, "write amount or percent")
    base, quote = (body.text(name, AlertCode.BAD_SYMBOL) for name in ("base", "quote"))
    if base is None or quote is None:
        raise body.missing("base", 'write "base": "BTC", "quote": "USDT.P"')
    symbol = symbols.normalise_pair(base, quote, "quote")
    side = body.must("side", (*_ENTRIES, *_CLOSES, "sell"))
    if side == "sell":
        raise InvalidInput(
            AlertCode.BAD_ACTION,
            "A bare sell may leave a long or open a short; write close/sell or entry/sell.",
            "side",
        )
    repairs: list[str] = []
    price = body.chart_price("price", repairs)
    if side in _CLOSES:
        aim = part.closing(_CLOSES[side], _size(body, SizeUnit.PCT_POSITION))
        return part.one(part.order(aim, symbol, price=price), repairs=repairs)
    signal = part.order(
        part.opening(_ENTRIES[side], _size(body, SizeUnit.PCT_EQUITY)),
        symbol,
        leverage=body.leverage(),
        exits=_exits(body),
        price=price,
        limit_prices=body.market_or_limit("type", "price"),
    )
    return part.one(signal, repairs=repairs)


def _is_not_set(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() == _NOT_SET


def _exits(body: Part) -> Exits:
    profit = body.positive("profit_price", AlertCode.BAD_TAKE_PROFIT)
    return Exits(
        stop_loss=part.price_stop(body.positive("stop_price", AlertCode.BAD_STOP_LOSS)),
        take_profit=() if profit is None else part.ladder([(PriceOrPct(price=profit), None)], "profit_price"),
    )


def _size(body: Part, share: SizeUnit) -> Size | None:
    if body.has("amount") and body.has("percent"):
        raise InvalidInput(AlertCode.BAD_SIZE, "Both amount and percent are given; keep one.", "percent")
    if body.has("percent"):
        return body.size_or_share("percent", share, share)
    return body.size("amount", SizeUnit.BASE)
