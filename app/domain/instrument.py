"""A contract with its rules on a venue."""

from decimal import Decimal

import msgspec


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """Rules of one linear perpetual. Quantities in base units, notional in quote currency."""

    symbol: str
    tick_size: Decimal
    qty_step: Decimal
    qty_min: Decimal
    market_qty_max: Decimal
    notional_min: Decimal
    leverage_max: Decimal
    trading: bool
