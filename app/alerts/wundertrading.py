"""WunderTrading Signal Bot: docs.infinityalgo.com ("Automating Infinity Algo Alerts via WunderTrading", after help
article 10475473) and wundertrading.com/docs (place_strategy_trade, for the units).

`code` is the comment of the bot that is meant: Enter-Long, or with exchange, pair and name behind it
(ENTER-LONG_Bybit_ETHUSDT_…). Deviations, portfolios and `percents` are fractions: 0.01 is one per cent. `reduceOnly`
speaks of the exits and not of the entry. The pair and what is not in the body are the bot's: from the defaults. The
code alone, without JSON around it, is the message of a bot that knows all the rest.
"""

import re
from collections.abc import Mapping

from app.alerts import part, symbols
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, Size, SizeUnit, Target
from app.errors import InvalidInput

KNOWS = frozenset(
    """code orderType amountPerTrade amountPerTradeType takeProfits stopLoss reduceOnly leverage
    placeConditionalOrdersOnExchange price pair""".split()
)
MARKS = frozenset({"code"})
_CODE = re.compile(r"(?i)(enter|exit)-(long|short|all)(?:_(.*))?")
_UNITS = {
    "quote": SizeUnit.QUOTE, "$": SizeUnit.QUOTE, "base": SizeUnit.BASE, "contracts": SizeUnit.CONTRACTS,
    "percents": SizeUnit.PCT_EQUITY,
}  # fmt: skip


def matches(obj: Mapping[str, object]) -> bool:
    code = obj.get("code")
    return isinstance(code, str) and _CODE.fullmatch(code.strip()) is not None


def matches_text(text: str) -> bool:
    return len(text.splitlines()) == 1 and _CODE.fullmatch(text.strip()) is not None


def read_text(text: str, defaults: Defaults) -> Understood:
    return read({"code": text}, defaults)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    text = body.text("code")
    if text is None:
        raise body.missing("code", "write the comment of the bot, such as Enter-Long")
    found = _CODE.fullmatch(text)
    if found is None or (found[1].lower() == "enter" and found[2].lower() == "all"):
        raise InvalidInput(
            AlertCode.BAD_ACTION,
            f"{text[:40]!r} is no code; write Enter-Long, Enter-Short, Exit-Long, Exit-Short or Exit-All.", "code",
        )  # fmt: skip
    enters, side = found[1].lower() == "enter", _side(found[2].lower())
    symbol = _symbol(body, found[3], defaults)
    if not enters:
        return part.one(part.order(part.closing(side), symbol))
    assert side is not None, "Enter-All is refused"
    body.refuse(
        ("trailingStop", "moveToBreakeven", "moveToBreakEven", "extraOrders", "dca", "swingTrade"),
        "use the native format or the strategy's defaults for it",
    )
    signal = part.order(
        part.opening(side, _size(body)),
        symbol,
        exits=_exits(body),
        leverage=body.leverage(),
        limit_prices=body.market_or_limit("orderType", "price"),
    )
    return part.one(signal)


def _side(word: str) -> Target | None:
    return None if word == "all" else Target(word)


def _symbol(body: Part, rest: str | None, defaults: Defaults) -> str:
    """The pair is the third part of a long code, ENTER-LONG_Bybit_ETHUSDT_…, unless that says that there is none."""
    parts = (rest or "").split("_")
    if not body.has("pair") and len(parts) > 1 and parts[1].upper() not in ("", "NONE", "MULTIPLE-PAIRS"):
        return symbols.normalise(parts[1], "code")
    return body.symbol("pair", defaults)


def _size(body: Part) -> Size | None:
    unit = body.word("amountPerTradeType", _UNITS, AlertCode.BAD_SIZE)
    if not body.has("amountPerTrade"):
        return None
    if unit is None:
        raise body.missing("amountPerTradeType", f"write one of {', '.join(_UNITS)}")
    if unit == "percents":
        value = body.fraction("amountPerTrade", AlertCode.BAD_SIZE)
        assert value is not None, "it is there"
        return Size(unit=SizeUnit.PCT_EQUITY, value=value)
    return body.size("amountPerTrade", _UNITS[unit])


def _exits(body: Part) -> Exits:
    code = AlertCode.BAD_TAKE_PROFIT
    rungs = []
    for target in body.parts("takeProfits", code, ("priceDeviation", "portfolio", "price")):
        pct, price = target.fraction("priceDeviation", code), target.positive("price", code)
        if (pct is None) is (price is None):
            raise target.missing("priceDeviation", "each target needs it, or a price")
        rungs.append((PriceOrPct(pct=pct, price=price), target.fraction("portfolio", code)))
    stop = body.part("stopLoss", AlertCode.BAD_STOP_LOSS, ("priceDeviation", "price"))
    if stop is None:
        return Exits(take_profit=part.ladder(rungs, "takeProfits"))
    pct = stop.fraction("priceDeviation", AlertCode.BAD_STOP_LOSS)
    price = stop.positive("price", AlertCode.BAD_STOP_LOSS)
    if (pct is None) is (price is None) or (pct is not None and pct >= 100):
        raise InvalidInput(
            AlertCode.BAD_STOP_LOSS, "stopLoss needs one priceDeviation below 1, or a price.", "stopLoss"
        )
    exit_ = part.pct_stop(pct) or part.price_stop(price)
    return Exits(take_profit=part.ladder(rungs, "takeProfits"), stop_loss=exit_)
