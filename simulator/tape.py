"""What the market printed: recent trades, one-minute bars and running extremes, per symbol."""

from collections import deque
from decimal import Decimal

import msgspec

from simulator.model import ZERO, Trade

MINUTE_MS = 60_000
BARS_KEPT = 1500  # one-minute bars: a day and an hour
TRADES_KEPT = 1000  # the most that /v5/market/recent-trade may be asked for


class Bar(msgspec.Struct):
    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO  # base coin
    turnover: Decimal = ZERO  # USDT

    def add(self, price: Decimal, qty: Decimal) -> None:
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += qty
        self.turnover += qty * price


class Print(msgspec.Struct, frozen=True):
    trade: Trade
    at_ms: int
    seq: int
    tick_direction: str


class Tape:
    def __init__(self, start_price: Decimal) -> None:
        self.first = self.high = self.low = self.last = start_price
        self.volume = ZERO
        self.turnover = ZERO
        self.direction = "ZeroPlusTick"
        self.seq = 0
        self.prints: deque[Print] = deque(maxlen=TRADES_KEPT)
        self.bars: deque[Bar] = deque(maxlen=BARS_KEPT)

    def add(self, trade: Trade, now_ms: int) -> Print:
        price, qty = trade.price, trade.qty
        if not self.seq:
            self.first = self.high = self.low = price
        self.direction = self._direction(price)
        self.last = price
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.volume += qty
        self.turnover += qty * price
        self.seq += 1
        start = now_ms - now_ms % MINUTE_MS
        if not self.bars or self.bars[-1].start_ms < start:
            self.bars.append(Bar(start, price, price, price, price))
        self.bars[-1].add(price, qty)
        printed = Print(trade, now_ms, self.seq, self.direction)
        self.prints.append(printed)
        return printed

    def _direction(self, price: Decimal) -> str:
        if price > self.last:
            return "PlusTick"
        if price < self.last:
            return "MinusTick"
        return "ZeroMinusTick" if "Minus" in self.direction else "ZeroPlusTick"

    def bars_of(self, minutes: int) -> list[Bar]:
        """Bars of this many minutes, oldest first, folded from the one-minute bars."""
        span = minutes * MINUTE_MS
        folded: list[Bar] = []
        for bar in self.bars:
            start = bar.start_ms - bar.start_ms % span
            if not folded or folded[-1].start_ms != start:
                folded.append(Bar(start, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover))
                continue
            whole = folded[-1]
            whole.high, whole.low, whole.close = max(whole.high, bar.high), min(whole.low, bar.low), bar.close
            whole.volume += bar.volume
            whole.turnover += bar.turnover
        return folded

    def current_bar(self, minutes: int) -> Bar | None:
        """The newest bar of this length; cheap for the one-minute bar, a fold else."""
        if minutes == 1:
            return self.bars[-1] if self.bars else None
        folded = self.bars_of(minutes)
        return folded[-1] if folded else None
