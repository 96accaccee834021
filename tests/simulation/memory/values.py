"""Values as they come back from PostgreSQL."""

import decimal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode

EXACT = decimal.Context(prec=2000, rounding=decimal.ROUND_HALF_UP)
SIGNIFICANT_DIGITS_MIN = 16
SCALE_MAX = 1000


def stored_json(value: Any) -> Any:
    """What is read back of a value written to a jsonb column; None is null, as asyncpg has it."""
    return None if value is None else _decode(msgspec.json.encode(value))


def word(value: str | None) -> str | None:
    """Text: an enum's member is stored as its value."""
    return None if value is None else str(value)


def seconds(value: float) -> timedelta:
    """make_interval(secs => value): to the microsecond."""
    return timedelta(microseconds=round(value * 1_000_000))


def instant_text(at: datetime) -> str:
    """A timestamptz inside jsonb."""
    text = at.astimezone(UTC).isoformat()
    return text if at.microsecond == 0 else text[:-6].rstrip("0") + text[-6:]


def numeric_text(value: Decimal) -> str:
    return f"{value:f}"


def divide(dividend: Decimal, divisor: Decimal) -> Decimal:
    """numeric / numeric, to as many digits as PostgreSQL gives (select_div_scale in its numeric.c)."""
    weight1, first1 = _leading(dividend)
    weight2, first2 = _leading(divisor)
    weight = weight1 - weight2 - (first1 <= first2)
    scale = max(SIGNIFICANT_DIGITS_MIN - weight * 4, scale_of(dividend), scale_of(divisor), 0)
    quotient = EXACT.divide(dividend, divisor)
    return EXACT.quantize(quotient, Decimal(1).scaleb(-min(scale, SCALE_MAX)))


def scale_of(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "a number"
    return max(0, -exponent)


def _leading(value: Decimal) -> tuple[int, int]:
    """The first digit that is not zero of a number to the base 10,000, and its power."""
    if not value:
        return 0, 0
    power = value.adjusted() // 4
    return power, int(EXACT.scaleb(abs(value), -4 * power))
