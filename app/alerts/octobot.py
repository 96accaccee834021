"""OctoBot: docs of Drakkar-Software/OctoBot, "Alert format", "Orders amount syntax", "Orders price syntax".

KEY=VALUE lines, or separated by `;` or by a literal backslash-n. VOLUME is in base units, with q in quote, with % of
the holdings, a% of what is available, p% of the position. A price with % is a distance from the current price. Where
several targets name no ratio they share evenly. A SELL is an order: without REDUCE_ONLY too it makes a long smaller
first, and goes short with what is left over.
"""

import re
from decimal import Decimal

from app.alerts import fields, keywords, part
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.money import HUNDRED, ZERO
from app.domain.signal import Defaults, Exits, PriceOrPct, Size, SizeUnit, StopLoss, Target
from app.errors import InvalidInput

_SIGNAL = re.compile(r"(?im)(?:^|;|\\n)[ \t]*SIGNAL[ \t]*=")
_SEPARATORS = re.compile(r"\r\n|\n|\r|;|\\n")
_TARGET = re.compile(r"TAKE_PROFIT_PRICE(?:_[0-9]{1,2})?")
_KNOWN = (
    "EXCHANGE", "SYMBOL", "SIGNAL", "ORDER_TYPE", "VOLUME", "PRICE", "STOP_PRICE", "TAKE_PROFIT_PRICE",
    "TAKE_PROFIT_VOLUME_RATIO", "REDUCE_ONLY", "LEVERAGE", "TAG", "TOKEN", "PARAM_SIDE",
    *(f"{name}_{index}" for name in ("TAKE_PROFIT_PRICE", "TAKE_PROFIT_VOLUME_RATIO") for index in range(21)),
)  # fmt: skip
_AMOUNT = re.compile(r"([0-9.]+)\s*(q|%|a%|%a|p%|%p)?", re.ASCII)
_UNITS = {
    None: SizeUnit.BASE, "q": SizeUnit.QUOTE, "%": SizeUnit.PCT_EQUITY, "a%": SizeUnit.PCT_AVAILABLE,
    "%a": SizeUnit.PCT_AVAILABLE, "p%": SizeUnit.PCT_POSITION, "%p": SizeUnit.PCT_POSITION,
}  # fmt: skip


def matches(text: str) -> bool:
    return _SIGNAL.search(text) is not None


def read(text: str, defaults: Defaults) -> Understood:
    # Their reader skips lines without "="; so is a title above the keys here.
    lines = [line for line in _SEPARATORS.split(text) if "=" in line]
    body = keywords.command((_upper(line) for line in lines), _KNOWN)
    signal = body.must("SIGNAL", ("BUY", "SELL", "CANCEL"))
    symbol = body.symbol("SYMBOL", defaults)
    if signal == "CANCEL":
        raise body.later("SIGNAL", "orders leave at market, so there is none to cancel")
    side = part.SIDES[signal.lower()]
    size = _size(body)
    kind = body.word("ORDER_TYPE", ("MARKET", "LIMIT", "STOP"))
    if kind == "STOP":
        raise body.later("ORDER_TYPE", "use set_exits in the native format to move a stop")
    if body.flag("REDUCE_ONLY"):
        held = Target.LONG if side is Target.SHORT else Target.SHORT
        if size is None:
            raise body.missing("VOLUME", "a reduction needs its size; 100p% is all")
        return part.one(part.order(part.closing(held, size, "VOLUME"), symbol))
    if size is not None and size.unit is SizeUnit.PCT_POSITION:
        raise InvalidInput(AlertCode.BAD_SIZE, "A share of a position can't open one; write base or q.", "VOLUME")
    limit: tuple[Decimal, ...] = ()
    if kind == "LIMIT":
        price = body.positive("PRICE")
        if price is None:
            raise body.missing("PRICE", "a limit order needs a price in figures")
        limit = (price,)
    signal_ = part.order(
        part.opening(side, size),
        symbol,
        exits=_exits(body, side),
        leverage=body.leverage("LEVERAGE"),
        limit_prices=limit,
        nets=True,
    )
    return part.one(signal_)


def _upper(line: str) -> str:
    key, equals, value = line.partition("=")
    return key.upper() + equals + value


def _size(body: Part) -> Size | None:
    text = body.text("VOLUME", AlertCode.BAD_SIZE)
    if text is None:
        return None
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise InvalidInput(
            AlertCode.BAD_SIZE, f"{text[:40]!r} is no amount; write 0.01, 100q, 10%, 10a% or 50p%.", "VOLUME"
        )
    return Size(unit=_UNITS[found[2]], value=fields.read_positive(found[1], "VOLUME", AlertCode.BAD_SIZE))


def _at(body: Part, name: str, code: AlertCode, *, below: bool) -> PriceOrPct | None:
    """A price, or a distance from the current price in per cent: a minus sign says that it lies below."""
    text = body.text(name, code)
    if text is None:
        return None
    if text.endswith("%"):
        if text.startswith("-") is not below:
            raise InvalidInput(
                code, f"{text} lies on the wrong side of the price; a stop belongs below a long (-2%) and above a "
                "short (2%), a target the other way.", name,
            )  # fmt: skip
        return PriceOrPct(pct=body.pct(name, code, below=below))
    if text.endswith("d"):
        raise body.later(name, "a distance in money; write a price or per cent")
    return PriceOrPct(price=body.positive(name, code))


def _exits(body: Part, side: Target) -> Exits:
    stop = _at(body, "STOP_PRICE", AlertCode.BAD_STOP_LOSS, below=side is Target.LONG)
    if stop is not None and stop.pct is not None and stop.pct >= HUNDRED:
        raise InvalidInput(AlertCode.BAD_STOP_LOSS, "A stop lies less than 100 per cent away.", "STOP_PRICE")
    code = AlertCode.BAD_TAKE_PROFIT
    rungs = []
    for name in (name for name in body.obj if _TARGET.fullmatch(name)):
        at = _at(body, name, code, below=side is Target.SHORT)
        if at is not None:
            rungs.append((at, body.positive(name.replace("PRICE", "VOLUME_RATIO"), code)))
    return Exits(
        stop_loss=None if stop is None else StopLoss(price=stop.price, pct=stop.pct),
        take_profit=part.ladder(_shares(rungs), "TAKE_PROFIT_PRICE"),
    )


def _shares(rungs: list[tuple[PriceOrPct, Decimal | None]]) -> list[tuple[PriceOrPct, Decimal | None]]:
    """Ratios to one another -> per cent; the last takes what rounding leaves."""
    if not rungs or any(ratio is None for _, ratio in rungs):
        return rungs
    total = sum(ratio for _, ratio in rungs if ratio is not None)
    shares = [
        (ratio * 100 / total).quantize(Decimal("0.01"), "ROUND_DOWN") for _, ratio in rungs[:-1] if ratio is not None
    ]
    shares.append(HUNDRED - sum(shares, ZERO))
    return [(at, share) for (at, _), share in zip(rungs, shares, strict=True)]
