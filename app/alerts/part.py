"""Reading the formats of other services: one object of a body, field by field, in the vocabulary of its vendor."""

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal

from app.alerts import fields, symbols
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.lookalikes import hint
from app.domain.money import HUNDRED, ONE
from app.domain.signal import (
    Action,
    Defaults,
    Exits,
    PriceOrPct,
    Signal,
    Size,
    SizeUnit,
    StopLoss,
    TakeProfit,
    Target,
)
from app.errors import InvalidInput

SIDES = {"buy": Target.LONG, "long": Target.LONG, "sell": Target.SHORT, "short": Target.SHORT}
OPENS = {Target.LONG: Action.OPEN_LONG, Target.SHORT: Action.OPEN_SHORT}
CLOSES = {Target.LONG: Action.CLOSE_LONG, Target.SHORT: Action.CLOSE_SHORT, None: Action.CLOSE}
REDUCES = {Target.LONG: Action.REDUCE_LONG, Target.SHORT: Action.REDUCE_SHORT, None: Action.REDUCE}

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class Part:
    """One object of a body. An empty text counts as absent; `0` and `false` do not."""

    def __init__(self, obj: Mapping[str, object], path: str = "") -> None:
        self.obj = obj
        self.path = path

    def field(self, name: str) -> str:
        return self.path + name

    def has(self, name: str) -> bool:
        value = self.obj.get(name)
        return value is not None and not (isinstance(value, str) and not value.strip())

    def value(self, name: str) -> object:
        """None when absent. Raises InvalidInput for an unfilled placeholder."""
        if not self.has(name):
            return None
        fields.refuse_unfilled(self.obj[name], self.field(name))
        return self.obj[name]

    def text(self, name: str, code: AlertCode = AlertCode.BAD_ACTION) -> str | None:
        return fields.read_text(self.value(name), self.field(name), code)

    def word(self, name: str, words: Collection[str], code: AlertCode = AlertCode.BAD_ACTION) -> str | None:
        """One of the vendor's words, as the vendor writes it, though in capitals or not."""
        text = self.text(name, code)
        if text is None:
            return None
        for word in words:
            if text.lower() == word.lower():
                return word
        raise InvalidInput(
            code,
            f"{self.field(name)} must be {', '.join(words)}; {text[:40]!r} is none of them." + hint(text),
            self.field(name),
        )

    def must(self, name: str, words: Collection[str], code: AlertCode = AlertCode.BAD_ACTION) -> str:
        word = self.word(name, words, code)
        if word is None:
            raise self.missing(name, f"write one of {', '.join(words)}")
        return word

    def positive(self, name: str, code: AlertCode = AlertCode.BAD_NUMBER) -> Decimal | None:
        value = self.value(name)
        return None if value is None else fields.read_positive(value, self.field(name), code)

    def pct(self, name: str, code: AlertCode, *, below_hundred: bool = False, below: bool = False) -> Decimal | None:
        """Per cent of a distance or a share. With `below` it lies below the entry, and a minus sign may say so."""
        value = self.value(name)
        if below and isinstance(value, str):
            value = value.strip().removeprefix("-")
        elif below and isinstance(value, Decimal):
            value = value.copy_abs()  # exact: abs() rounds, which fails beyond any range
        return None if value is None else fields.read_pct(value, self.field(name), code, below_hundred=below_hundred)

    def fraction(self, name: str, code: AlertCode) -> Decimal | None:
        """A fraction of 1, as per cent: 0.01 is one. Above 1 it was written as per cent, so it is refused."""
        number = self.positive(name, code)
        if number is not None and number > ONE:
            raise InvalidInput(
                code, f"{self.field(name)} is a fraction in this format (0.01 is one per cent), so it is at most 1.",
                self.field(name),
            )  # fmt: skip
        return None if number is None else number * HUNDRED

    def flag(self, name: str) -> bool:
        """False when absent. The word `False` is false."""
        value = self.value(name)
        if value is None:
            return False
        text = str(value).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise InvalidInput(
            AlertCode.BAD_FLAG, f"{self.field(name)} must be true or false; {fields.shown(value)} is neither.",
            self.field(name),
        )  # fmt: skip

    def part(self, name: str, code: AlertCode, known: Collection[str] | None = None) -> "Part | None":
        """An object inside. With `known`, another name in it is refused: it may be a misspelt stop."""
        value = self.value(name)
        return None if value is None else _inner(value, self.field(name), code, known)

    def parts(self, name: str, code: AlertCode, known: Collection[str]) -> list["Part"]:
        """A list of objects, or one alone."""
        value = self.value(name)
        if value is None:
            return []
        rungs = value if isinstance(value, list) else [value]
        return [_inner(rung, f"{self.field(name)}[{index}]", code, known) for index, rung in enumerate(rungs)]

    def time(self, name: str) -> datetime | None:
        return fields.read_time(self.value(name), self.field(name))

    def max_age_s(self, name: str) -> int | None:
        return fields.read_max_age_s(self.value(name), self.field(name))

    def leverage(self, name: str = "leverage") -> Decimal | None:
        return fields.read_leverage(self.value(name), self.field(name))

    def chart_price(self, name: str, repairs: list[str]) -> Decimal | None:
        value = self.obj.get(name) if self.has(name) else None
        return fields.read_chart_price(value, self.field(name), repairs)

    def symbol(self, name: str, defaults: Defaults) -> str:
        """From the body, or where the service kept it in its own bot, from the strategy's defaults."""
        text = self.text(name, AlertCode.BAD_SYMBOL)
        if text is not None:
            return symbols.normalise(text, self.field(name))
        if defaults.symbol is not None:
            return defaults.symbol
        raise self.missing(name, f'add "{name}", or set "symbol" in the strategy\'s defaults')

    def missing(self, name: str, cure: str) -> InvalidInput:
        return InvalidInput(
            AlertCode.MISSING_FIELD, f"The alert doesn't say {self.field(name)}: {cure}.", self.field(name)
        )

    def later(self, name: str, why: str) -> InvalidInput:
        return InvalidInput(
            AlertCode.NOT_SUPPORTED_YET, f"This version cannot follow {self.field(name)}: {why}.", self.field(name)
        )

    def refuse(self, names: Collection[str], why: str) -> None:
        """Refuse fields that would change the trade. `false`, `0` and an empty list change nothing."""
        for name in names:
            value = self.obj.get(name)
            if self.has(name) and value != [] and value != {} and str(value).strip().lower() not in _FALSE:
                raise self.later(name, why)

    def market_or_limit(self, type_name: str, price_name: str) -> tuple[Decimal, ...]:
        """Where the order should wait; nowhere if it is at market. Other kinds of order are refused."""
        kind = self.text(type_name)
        if kind is None or kind.lower() == "market":
            return ()
        if kind.lower() != "limit":
            raise self.later(type_name, "orders leave at market; write market")
        price = self.positive(price_name)
        if price is None:
            raise self.missing(price_name, "a limit order needs its price")
        return (price,)

    def size(self, name: str, unit: SizeUnit) -> Size | None:
        number = self.positive(name, AlertCode.BAD_SIZE)
        return None if number is None else Size(unit=unit, value=number)

    def size_or_share(self, name: str, plain: SizeUnit, share: SizeUnit) -> Size | None:
        """`50` in one unit, `50%` in another."""
        value = self.value(name)
        if not isinstance(value, str) or not value.strip().endswith("%"):
            return self.size(name, plain)
        return Size(unit=share, value=fields.read_pct(value, self.field(name), AlertCode.BAD_SIZE))


def side_of(part: Part, defaults: Defaults, name: str = "side") -> Target:
    """The side that a service keeps in its own bot."""
    if defaults.side is None:
        raise part.missing(
            name,
            "in this format the service's own bot knows it; set \"side\" to long or short in the strategy's defaults",
        )
    return defaults.side


def pct_stop(pct: Decimal | None) -> StopLoss | None:
    return None if pct is None else StopLoss(pct=pct)


def price_stop(price: Decimal | None) -> StopLoss | None:
    return None if price is None else StopLoss(price=price)


def ladder(rungs: list[tuple[PriceOrPct, Decimal | None]], field: str) -> tuple[TakeProfit, ...]:
    """Targets with their shares in per cent. Where none has one, they share evenly; the last takes the rest."""
    if len(rungs) > 20:
        raise InvalidInput(AlertCode.BAD_TAKE_PROFIT, f"{field} has more than 20 targets; write fewer.", field)
    given = [share for _, share in rungs if share is not None]
    if given and len(given) != len(rungs):
        raise InvalidInput(
            AlertCode.BAD_TAKE_PROFIT, f"{field}: either each target names its share, or none does.", field
        )
    if sum(given) > HUNDRED:
        raise InvalidInput(AlertCode.BAD_TAKE_PROFIT, f"The shares of {field} sum to more than 100 per cent.", field)
    even = (ONE / max(len(rungs), 1)).quantize(Decimal("0.0001"), "ROUND_DOWN")
    fractions = [share / HUNDRED for share in given] or [even] * (len(rungs) - 1) + [ONE - even * (len(rungs) - 1)]
    return tuple(TakeProfit(at=at, fraction=part) for (at, _), part in zip(rungs, fractions, strict=bool(rungs)))


def order(
    aim: Aim,
    symbol: str,
    *,
    exits: Exits | None = None,
    leverage: Decimal | None = None,
    price: Decimal | None = None,
    limit_prices: tuple[Decimal, ...] = (),
    sent_at: datetime | None = None,
    max_age_s: int | None = None,
    turns: bool = True,
    nets: bool = False,
) -> Signal:
    """The Signal. What only closes has no exits and no leverage."""
    closes = aim.only_closes
    return Signal(
        symbol=symbol,
        action=aim.action,
        target=aim.target,
        previous=aim.previous,
        size=aim.size,
        leverage=None if closes else leverage,
        exits=Exits() if closes or exits is None else exits,
        price=price,
        limit_prices=limit_prices,
        sent_at=sent_at,
        max_age_s=max_age_s,
        turns=turns,
        whole_order=aim.whole_order,
        nets=nets and aim.action in OPENS.values() and aim.size is not None,
    )


def opening(side: Target, size: Size | None) -> Aim:
    return Aim(action=OPENS[side], size=size)


def closing(side: Target | None, size: Size | None = None, field: str = "amount") -> Aim:
    """A close, or a reduction by a size: a share of 100 per cent is a close."""
    if size is None or (size.unit is SizeUnit.PCT_POSITION and size.value >= HUNDRED):
        return Aim(action=CLOSES[side])
    if size.unit not in (SizeUnit.PCT_POSITION, SizeUnit.BASE, SizeUnit.QUOTE, SizeUnit.CONTRACTS):
        raise InvalidInput(
            AlertCode.BAD_SIZE, "A part of a position is a share of it, or counted in base or quote.", field
        )
    return Aim(action=REDUCES[side], size=size)


def one(signal: Signal, *, key: str | None = None, repairs: list[str] | None = None) -> Understood:
    return Understood(signals=(signal,), key=key, repairs=tuple(repairs or ()))


def _inner(value: object, field: str, code: AlertCode, known: Collection[str] | None) -> Part:
    if not isinstance(value, dict):
        raise InvalidInput(code, f"{field} must be an object {{ … }}; {fields.shown(value)} is none.", field)
    for name in value:
        if known is not None and name not in known:
            raise InvalidInput(
                AlertCode.NOT_SUPPORTED_YET, f"{name[:40]!r} in {field} is not understood; known are "
                f"{', '.join(known)}.", f"{field}.{name[:40]}",
            )  # fmt: skip
    return Part(value, field + ".")
