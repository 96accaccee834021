"""Trading rules per symbol: the built-in contracts and those made from what a price file holds.

Filter names follow https://bybit-exchange.github.io/docs/v5/market/instrument; the numbers are plausible, not the
exchange's of today.
"""

from decimal import Decimal

import msgspec

from simulator.numbers import decimals, is_multiple


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A USDT-settled linear perpetual. Quantities in base coin, prices and notional in USDT."""

    symbol: str
    base_coin: str
    tick_size: Decimal
    qty_step: Decimal
    min_qty: Decimal
    max_qty: Decimal  # limit orders
    max_market_qty: Decimal
    start_price: Decimal
    min_notional: Decimal = Decimal(5)
    max_leverage: Decimal = Decimal(50)
    min_leverage: Decimal = Decimal(1)
    leverage_step: Decimal = Decimal("0.01")
    max_price: Decimal = Decimal(0)  # 0: 2,000,000 ticks above nothing
    status: str = "Trading"

    def __post_init__(self) -> None:
        for name in ("tick_size", "qty_step", "min_qty", "max_qty", "max_market_qty", "start_price", "max_leverage"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} of {self.symbol} must be above 0")

    @property
    def min_price(self) -> Decimal:
        return self.tick_size

    @property
    def highest_price(self) -> Decimal:
        return self.max_price or max(self.tick_size * 19_999_998, self.start_price * 100)


# symbol: tick, step and min qty, max qty, max market qty, max leverage, start price
_BUILT_IN = {
    "BTCUSDT": ("0.1", "0.001", "1190", "500", 100, "67000"),
    "ETHUSDT": ("0.01", "0.01", "7240", "724", 100, "3500"),
    "SOLUSDT": ("0.01", "0.1", "79770", "15954", 100, "180"),
    "XRPUSDT": ("0.0001", "0.1", "7500000", "1500000", 75, "2.4"),
    "DOGEUSDT": ("0.00001", "1", "8750000", "875000", 75, "0.2"),
    "ADAUSDT": ("0.0001", "1", "4000000", "800000", 75, "0.65"),
    "BNBUSDT": ("0.1", "0.01", "2100", "420", 50, "620"),
    "AVAXUSDT": ("0.001", "0.1", "75000", "15000", 50, "28"),
    "LINKUSDT": ("0.001", "0.1", "136000", "27200", 50, "18"),
    "DOTUSDT": ("0.001", "0.1", "180000", "36000", 50, "4.1"),
    "UNIUSDT": ("0.001", "0.1", "95000", "19000", 50, "7.8"),
    "FILUSDT": ("0.001", "0.1", "150000", "30000", 50, "2.3"),
    "ETCUSDT": ("0.001", "0.1", "60000", "12000", 50, "19"),
    "POLUSDT": ("0.0001", "1", "2500000", "500000", 50, "0.24"),
    "BBUSDT": ("0.0001", "1", "1200000", "240000", 25, "0.17"),
    "1000PEPEUSDT": ("0.0000001", "100", "100000000", "13000000", 50, "0.011"),
}


def built_in() -> dict[str, Instrument]:
    return {
        symbol: Instrument(
            symbol=symbol,
            base_coin=symbol.removesuffix("USDT"),
            tick_size=Decimal(tick),
            qty_step=Decimal(step),
            min_qty=Decimal(step),
            max_qty=Decimal(max_qty),
            max_market_qty=Decimal(max_market_qty),
            max_leverage=Decimal(max_leverage),
            start_price=Decimal(start),
        )
        for symbol, (tick, step, max_qty, max_market_qty, max_leverage, start) in _BUILT_IN.items()
    }


def admitting(instrument: Instrument, price: Decimal) -> Instrument:
    """The same contract with a tick fine enough (and a maximum high enough) for this price of a file."""
    changes: dict[str, Decimal] = {}
    if not is_multiple(price, instrument.tick_size):
        # 0.25 and 0.1 have no common power of ten but 0.01: go by decimals of both
        places = max(decimals(price), decimals(instrument.tick_size))
        changes["tick_size"] = Decimal(1).scaleb(-places)
        changes["max_price"] = instrument.highest_price
    if price > instrument.highest_price:
        changes["max_price"] = price * 100
    return msgspec.structs.replace(instrument, **changes) if changes else instrument


def from_sample(symbol: str, prices: list[Decimal], quantities: list[Decimal]) -> Instrument:
    """A contract for a file's symbol that is not built in, from the decimals seen in its first rows."""
    tick = Decimal(1).scaleb(-max(decimals(p) for p in prices))
    step = Decimal(1).scaleb(-max(decimals(q) for q in quantities))
    return Instrument(
        symbol=symbol,
        base_coin=symbol.removesuffix("USDT"),
        tick_size=tick,
        qty_step=step,
        min_qty=step,
        max_qty=step * 10_000_000,
        max_market_qty=step * 2_000_000,
        start_price=prices[0],
        max_price=max(prices) * 100,
    )


def symbol_of_file(name: str) -> str:
    """`gemini_SOLUSD_20251010.csv.gz` -> SOLUSDT: the second part, settled in USDT whatever the file's venue said."""
    parts = name.split("_")
    if len(parts) < 2 or not parts[1]:
        raise ValueError(f"the symbol cannot be read from the file name {name}: give one")
    symbol = parts[1].upper()
    return symbol + "T" if symbol.endswith("USD") else symbol
