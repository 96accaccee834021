"""A contract with its rules on a venue."""

from decimal import ROUND_CEILING, Decimal

import msgspec

from app.domain.money import floor_to_step


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

    def order_qty(self, rest: Decimal) -> Decimal:
        """How much of `rest` the next market order takes: all, or an even share where one order must not take all.

        Even shares, because a small last one might be below the venue's minimum. On the step, which may be a coarser
        one than when `rest` was bought: 0 where nothing of it can be ordered.
        """
        if rest <= self.market_qty_max:
            return floor_to_step(rest, self.qty_step)
        orders = (rest / self.market_qty_max).to_integral_value(ROUND_CEILING)
        return floor_to_step(rest / orders, self.qty_step)
