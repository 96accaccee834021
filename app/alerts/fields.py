"""Readers of single fields, shared by all formats and by a strategy's defaults; those of exits are in exits.py.

Each takes a decoded JSON value and the path to name when it is wrong. A unit is never guessed: where a bare number
could mean per cent, a fraction or a price, it is refused.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

from app.alerts.codes import AlertCode
from app.domain.money import HUNDRED, ONE, ZERO
from app.domain.signal import Size, SizeUnit
from app.errors import InvalidInput

NUMBER_LENGTH_MAX = 40
NUMBER_MAX = Decimal("1e15")  # above any price, quantity or notional there is
NUMBER_MIN = Decimal("1e-15")  # below any tick or step there is
LEVERAGE_MAX = Decimal(1000)  # a sanity limit; the instrument's own is checked later
ID_LENGTH_MAX = 200
MAX_AGE_S_MAX = 86_400
PLACEHOLDER = "{{"

_NUMBERS = (Decimal, int, float)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_EPOCH_S = (Decimal("1e9"), Decimal("1e10"))  # 2001 to 2286
_EPOCH_MS = (Decimal("1e12"), Decimal("1e13"))
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})"
)

_SIZE_UNITS = {unit.value: unit for unit in SizeUnit}
_IN_PER_CENT = frozenset(SizeUnit) - {SizeUnit.BASE, SizeUnit.QUOTE, SizeUnit.CONTRACTS}
_SIZE_WORDS = "base, quote, contracts, pct_equity, pct_available, risk_pct or pct_position"


def refuse_unfilled(value: object, field: str) -> None:
    """Refuse `{{…}}` anywhere in `value`: skipping the field and taking a default would be a wrong trade."""
    if isinstance(value, str):
        if PLACEHOLDER in value:
            raise InvalidInput(
                AlertCode.UNFILLED_PLACEHOLDER,
                f"{field} still holds the placeholder {value[:60]!r}: this kind of alert does not fill it. "
                "{{strategy.…}} needs a strategy's order-fill alert; inside alert() nothing is filled.",
                field,
            )
    elif isinstance(value, dict):
        for name, child in value.items():
            refuse_unfilled(child, f"{field}.{name}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            refuse_unfilled(child, f"{field}[{index}]")


def read_number(value: object, field: str, code: AlertCode = AlertCode.BAD_NUMBER) -> Decimal:
    """A JSON number or a plain decimal text, exact. `1,000` is refused: it is one thousand here and one there."""
    text: str | None = None
    # A settings body may come through a reader that makes floats; repr is then what was written.
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, _NUMBERS) and not isinstance(value, bool):
        text = str(value)
    if text is None or len(text) > NUMBER_LENGTH_MAX or not _NUMBER.fullmatch(text):
        refuse_unfilled(value, field)
        raise InvalidInput(
            code,
            f"{field} must be a plain number such as 0.015, without separators and units; {shown(value)} is none.",
            field,
        )
    number = value if isinstance(value, Decimal) else Decimal(text)
    if number and not NUMBER_MIN <= abs(number) <= NUMBER_MAX:
        raise InvalidInput(code, f"{field} is absurdly large or small: {shown(value)}; correct it.", field)
    # Plain zero whatever its exponent or sign.
    return number or ZERO


def read_positive(value: object, field: str, code: AlertCode = AlertCode.BAD_NUMBER) -> Decimal:
    number = read_number(value, field, code)
    if number <= ZERO:
        raise InvalidInput(code, f"{field} must be above zero; {shown(value)} is not.", field)
    return number


def read_pct(
    value: object, field: str, code: AlertCode = AlertCode.BAD_NUMBER, *, below_hundred: bool = False
) -> Decimal:
    """Per cent: 1.5 and "1.5%" are both one and a half per cent."""
    if isinstance(value, str) and value.strip().endswith("%"):
        value = value.strip().removesuffix("%")
    pct = read_positive(value, field, code)
    if below_hundred and pct >= HUNDRED:
        raise InvalidInput(code, f"{field} must be below 100 per cent; {shown(value)} is not.", field)
    return pct


def read_size(value: object, field: str = "size", *, zero_ok: bool = False) -> Size | None:
    """`{"base": "0.01"}`: exactly one unit. `zero_ok` for where the size after a close is told."""
    if value is None:
        return None
    code = AlertCode.BAD_SIZE
    refuse_unfilled(value, field)
    if not isinstance(value, dict):
        raise InvalidInput(
            code, f'{field} needs its unit, which is never guessed: write for example {{"base": "0.01"}}.', field
        )
    given = {name: child for name, child in value.items() if child is not None}
    if len(given) != 1:
        raise InvalidInput(code, f"{field} must name exactly one of {_SIZE_WORDS}.", field)
    ((name, amount),) = given.items()
    path = f"{field}.{name[:40]}"
    if name not in _SIZE_UNITS:
        raise InvalidInput(code, f"{name[:40]!r} is not a unit of size; write {_SIZE_WORDS}.", path)
    unit = _SIZE_UNITS[name]
    if unit in _IN_PER_CENT and isinstance(amount, str):
        amount = amount.strip().removesuffix("%")
    number = read_number(amount, path, code)
    if unit is SizeUnit.RISK_PCT and number > HUNDRED:
        raise InvalidInput(code, f"{path} must be at most 100 per cent; {shown(amount)} is not.", path)
    if number < ZERO or (not number and not zero_ok):
        raise InvalidInput(code, f"{path} must be above zero; {shown(amount)} is not.", path)
    return Size(unit=unit, value=number)


def read_leverage(value: object, field: str = "leverage") -> Decimal | None:
    """`5`, `"5"` or `"5x"`."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip().removesuffix("x").removesuffix("X")
    leverage = read_number(value, field, AlertCode.BAD_LEVERAGE)
    if not ONE <= leverage <= LEVERAGE_MAX:
        raise InvalidInput(
            AlertCode.BAD_LEVERAGE, f"{field} must lie between 1 and {LEVERAGE_MAX}; {shown(value)} does not.", field
        )
    return leverage


def read_time(value: object, field: str = "time") -> datetime | None:
    """RFC 3339 with a zone, as `{{timenow}}` gives it, or seconds or milliseconds since 1970."""
    if value is None:
        return None
    refuse_unfilled(value, field)
    if isinstance(value, str) and _INSTANT.fullmatch(text := value.strip()):
        try:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise _no_time(value, field) from error
    try:
        number = read_number(value, field, AlertCode.BAD_TIME)
    except InvalidInput as error:
        raise _no_time(value, field) from error
    if _EPOCH_MS[0] <= number < _EPOCH_MS[1]:
        number /= 1000
    elif not _EPOCH_S[0] <= number < _EPOCH_S[1]:
        raise _no_time(value, field)
    whole = int(number)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=int((number - whole) * 1_000_000))


def _no_time(value: object, field: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.BAD_TIME,
        f"{field} must be an instant such as 2025-03-04T11:00:01Z ({{{{timenow}}}}); {shown(value)} is none.",
        field,
    )


def read_max_age_s(value: object, field: str = "max_age_s") -> int | None:
    if value is None:
        return None
    number = read_number(value, field, AlertCode.BAD_MAX_AGE)
    if number != int(number) or not 1 <= number <= MAX_AGE_S_MAX:
        raise InvalidInput(
            AlertCode.BAD_MAX_AGE, f"{field} must be whole seconds from 1 to {MAX_AGE_S_MAX}; correct it.", field
        )
    return int(number)


def read_id(value: object, field: str = "id") -> str | None:
    """The sender's own name for this firing. A number is taken as its text."""
    if value is None:
        return None
    refuse_unfilled(value, field)
    text = str(value) if isinstance(value, Decimal) else value
    if not isinstance(text, str) or not text.strip() or len(text) > ID_LENGTH_MAX:
        raise InvalidInput(
            AlertCode.BAD_ID,
            f"{field} must be a text of 1 to {ID_LENGTH_MAX} characters that differs for each firing.",
            field,
        )
    return text.strip()


def read_text(value: object, field: str, code: AlertCode) -> str | None:
    """A word; None when absent."""
    if value is None:
        return None
    refuse_unfilled(value, field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(code, f"{field} must be a word in quotes; {shown(value)} is none.", field)
    return value.strip()


def read_chart_price(value: object, field: str, repairs: list[str]) -> Decimal | None:
    """The chart's price. People read it and nothing is decided by it, so a bad one doesn't cost the trade."""
    if value is None:
        return None
    try:
        return read_positive(value, field)
    except InvalidInput:
        repairs.append(f"ignored {field}: not a price")
        return None


def shown(value: object) -> str:
    """A value in a sentence: short, and only if it is plain."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, Decimal | int | float):
        return str(value)[:40]
    return "an object or a list"
