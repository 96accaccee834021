"""TV-Hub: www.tv-hub.org/docs/trade-command (sizing, close and cancel, take profit, core parameters).

One of `isBuy`, `isSell`, `isClose`, `closeLong`, `closeShort` and `closeCurrentPosition` says what to do; `orderType`
is the order of a TradingView strategy. `units` are base units unless `unitsType` says otherwise. `alertTimestamp` is
the sender's key of the firing. `exchange` names the market too: what is meant for a spot or a coin-margined one is
refused, for a sale there is no short.
"""

from collections.abc import Mapping
from decimal import Decimal

from app.alerts import fields, part
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, Size, SizeUnit, StopLoss, Target
from app.errors import InvalidInput

KNOWS = frozenset(
    """pair isBuy isSell isClose closeLong closeShort closeCurrentPosition isMarket isLimit price units unitsType
    unitsPercent useFixedSize fixedQuoteSize targets targetType targetAmountInPercent stopLoss stopLossType orderType
    leverage""".split()
)
MARKS = frozenset("isBuy isSell isClose closeLong closeShort closeCurrentPosition".split())
_UNITS = {
    "absolute": SizeUnit.BASE,
    "percent": SizeUnit.PCT_AVAILABLE,
    "percentBalance": SizeUnit.PCT_EQUITY,
    "percentWallet": SizeUnit.PCT_EQUITY,
    "percentPosition": SizeUnit.PCT_POSITION,
}
# Fields that change the trade and have no counterpart here; false, 0 and empty ones change nothing.
_LATER = (
    "useDca", "useTrailingStop", "trailingStop", "takeProfitExpression", "stopLossExpression", "useLimitClose",
    "useEntireAccountBalance", "setTpToPosition", "cancelAll", "cancelAllDca", "useOco", "isStop", "isStopLimit",
    "isTrailing", "delay",
)  # fmt: skip


def matches(obj: Mapping[str, object]) -> bool:
    return not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    body.refuse(_LATER, "use the native format or the strategy's defaults for it")
    symbol = body.symbol("pair", defaults)
    _refuse_other_markets(body)
    key = fields.read_id(body.value("alertTimestamp"), "alertTimestamp")
    side = _opens(body)
    if side is None:
        aim = part.closing(_closes(body), _size(body, closes=True), "units")
        return part.one(part.order(aim, symbol), key=key)
    limit: tuple[Decimal, ...] = ()
    if body.flag("isLimit") and not body.flag("isMarket"):
        price = body.positive("price")
        if price is None:
            raise body.missing("price", "a limit order needs its price")
        limit = (price,)
    signal = part.order(
        part.opening(side, _size(body, closes=False)),
        symbol,
        exits=_exits(body),
        leverage=body.leverage(),
        limit_prices=limit,
    )
    return part.one(signal, key=key)


def _refuse_other_markets(body: Part) -> None:
    venue = body.text("exchange", AlertCode.WRONG_MARKET)
    if venue is not None and venue.lower().removesuffix("-testnet").endswith(("-spot", "-coin")):
        raise InvalidInput(
            AlertCode.WRONG_MARKET,
            f"{venue[:40]!r} is another market than USDT perpetuals, and nothing else is traded here; write bybit or "
            "binance-futures.",
            "exchange",
        )


def _opens(body: Part) -> Target | None:
    """The side that is opened, or None if it closes."""
    closes = [name for name in ("isClose", "closeLong", "closeShort") if body.flag(name)]
    opens = [side for name, side in (("isBuy", Target.LONG), ("isSell", Target.SHORT)) if body.flag(name)]
    if len(opens) > 1 or (opens and closes):
        raise InvalidInput(
            AlertCode.CONTRADICTION,
            "Only one of isBuy, isSell and isClose may be true.",
            "isBuy" if opens else "isClose",
        )
    if opens:
        return opens[0]  # with closeCurrentPosition the opposite side is closed first, as always
    if closes or body.flag("closeCurrentPosition"):
        return None
    word = body.word("orderType", ("buy", "sell"))
    if word is None:
        raise body.missing("isBuy", "one of isBuy, isSell and isClose must be true")
    return part.SIDES[word]


def _closes(body: Part) -> Target | None:
    both = body.flag("closeLong") and body.flag("closeShort")
    if both or not (body.flag("closeLong") or body.flag("closeShort")):
        return None
    return Target.LONG if body.flag("closeLong") else Target.SHORT


def _size(body: Part, *, closes: bool) -> Size | None:
    # Without the flag, a size in quote that stands alone is the one that is meant.
    stands_alone = not any(body.has(name) for name in ("useFixedSize", "units", "unitsPercent"))
    if body.flag("useFixedSize") or (stands_alone and str(body.obj.get("fixedQuoteSize")).strip() not in ("0", "0.0")):
        return body.size("fixedQuoteSize", SizeUnit.QUOTE)
    unit = body.word("unitsType", (*_UNITS, "risk"), AlertCode.BAD_SIZE)
    if unit == "risk":
        raise body.later("unitsType", "write risk_pct in the native format")
    if body.has("unitsPercent") and str(body.obj["unitsPercent"]).strip() not in ("0", "0.0"):
        if unit == "absolute":
            raise InvalidInput(AlertCode.CONTRADICTION, "unitsPercent contradicts unitsType absolute.", "unitsPercent")
        name, unit = "unitsPercent", unit or "percent"
    else:
        name, unit = "units", unit or "absolute"
        if str(body.obj.get("units")).strip() in ("0", "0.0"):
            return None  # their own default
    size = body.size(name, _UNITS[unit])
    if size is not None and not closes and size.unit is SizeUnit.PCT_POSITION:
        raise InvalidInput(AlertCode.BAD_SIZE, "percentPosition is for closing only.", "unitsType")
    return size if not closes or size is None or unit in ("absolute", "percentPosition") else _no_part(unit)


def _no_part(unit: str) -> Size:
    raise InvalidInput(
        AlertCode.BAD_SIZE, f"{unit} can't say how much of a position to close; write percentPosition.", "unitsType"
    )


def _exits(body: Part) -> Exits:
    code = AlertCode.BAD_TAKE_PROFIT
    by_price = body.word("targetType", ("percent", "absolute"), code) == "absolute"
    targets = body.parts("targets", code, ("idx", "amount", "takeProfitPercent", "takeProfit", "price"))
    if targets and not body.flag("targetAmountInPercent") and any(target.has("amount") for target in targets):
        raise body.later("targets", "amounts as quantities; set targetAmountInPercent to true")
    rungs = []
    for target in targets:
        name = "price" if by_price else "takeProfitPercent" if target.has("takeProfitPercent") else "takeProfit"
        value = target.positive(name, code) if by_price else target.pct(name, code)
        if value is None:
            raise target.missing(name, "each target needs it")
        at = PriceOrPct(price=value) if by_price else PriceOrPct(pct=value)
        rungs.append((at, target.pct("amount", code)))
    return Exits(take_profit=part.ladder(rungs, "targets"), stop_loss=_stop(body))


def _stop(body: Part) -> StopLoss | None:
    if not body.has("stopLoss") or str(body.obj["stopLoss"]).strip() in ("0", "0.0"):
        return None
    kind = body.word("stopLossType", ("percent", "absolute"), AlertCode.BAD_STOP_LOSS)
    if kind is None:
        raise body.missing("stopLossType", "write percent or absolute: the unit of a stop is never guessed")
    if kind == "absolute":
        return part.price_stop(body.positive("stopLoss", AlertCode.BAD_STOP_LOSS))
    return part.pct_stop(body.pct("stopLoss", AlertCode.BAD_STOP_LOSS, below_hundred=True))
