"""BTCUSDT with round numbers, or with other rules."""

from decimal import Decimal as D
from typing import Any

import msgspec

from app.domain.instrument import Instrument

BTC = Instrument(
    symbol="BTCUSDT",
    tick_size=D("0.1"),
    qty_step=D("0.001"),
    qty_min=D("0.001"),
    market_qty_max=D(100),
    notional_min=D(5),
    leverage_max=D(100),
    trading=True,
)


def instrument(**changes: Any) -> Instrument:
    return msgspec.structs.replace(BTC, **changes)
