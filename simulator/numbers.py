"""Text of numbers on the wire, and the two roundings of the exchange."""

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

CENT_OF_A_CENT = Decimal("0.00000001")


def text(value: Decimal) -> str:
    """Plain digits, no exponent, no needless zeros."""
    plain = format(value, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain


def text8(value: Decimal) -> str:
    """As `text`, with at most eight decimals: for quotients such as an average price."""
    return text(value.quantize(CENT_OF_A_CENT, ROUND_HALF_EVEN))


def is_multiple(value: Decimal, step: Decimal) -> bool:
    return value % step == 0


def down_to(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_DOWN) * step


def nearest(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_HALF_EVEN) * step


def decimals(value: Decimal) -> int:
    """How many digits after the point carry meaning."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
