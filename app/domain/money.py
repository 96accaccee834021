"""Decimal arithmetic whose rounding names its direction. Prices are quote per base, quantities base units."""

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)
HUNDRED = Decimal(100)
INFINITY = Decimal("Infinity")


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above `value`; quantities are never rounded up."""
    return (value / step).to_integral_value(rounding=ROUND_DOWN) * step


def tick_down(price: Decimal, tick_size: Decimal) -> Decimal:
    """The nearest price on the tick grid at or below `price`."""
    return (price / tick_size).to_integral_value(rounding=ROUND_FLOOR) * tick_size


def tick_up(price: Decimal, tick_size: Decimal) -> Decimal:
    """The nearest price on the tick grid at or above `price`."""
    return (price / tick_size).to_integral_value(rounding=ROUND_CEILING) * tick_size


def plain(value: Decimal) -> str:
    """Plain decimal text: no exponent (`str` can yield 1E-7), no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
