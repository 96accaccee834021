"""How exchanges write numbers and times: as strings and milliseconds, and "" or null where there is none."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


class Unreadable(ValueError):
    """An answer that isn't what the exchange documents."""


def number(text: str | None) -> Decimal | None:
    """The number, or None where the exchange wrote "" or null."""
    if not text:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise Unreadable(f"{text!r} is not a number") from None
    if not value.is_finite():
        raise Unreadable(f"{text!r} is not a finite number")
    return value


def positive(text: str | None) -> Decimal | None:
    """The number, or None where it is absent or zero: unset prices come as "", "0" and "0.00"."""
    value = number(text)
    return value if value is not None and value > 0 else None


def required(text: str | None, field: str) -> Decimal:
    value = number(text)
    if value is None:
        raise Unreadable(f"{field} is missing")
    return value


def instant(ms: str | int) -> datetime:
    """Milliseconds since the epoch, exactly (a float would round them)."""
    try:
        return _EPOCH + timedelta(milliseconds=int(ms))
    except (ValueError, OverflowError):
        raise Unreadable(f"{ms!r} is not a time in milliseconds") from None


def milliseconds(at: datetime) -> int:
    """The millisecond that `at` lies in."""
    return (at - _EPOCH) // _MILLISECOND
