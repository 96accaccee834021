"""Outliers: a price that jumps away from the one before it counts when something else says the same.

Exchanges print trades that no market has seen (an insurance fund's, a slip of the hand). A real jump differs from them:
more trades follow at once, the mark price goes along, or the best prices are there. And to go back to where the market
was a moment ago is no jump: in a crash bid and ask are per cents apart, and real trades go to and fro between them.
"""

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from app.domain.money import ZERO

BOUND = Decimal("0.02")  # of the price before: less is an everyday jump
SPAN_MS = 30_000  # so long a price that counted is remembered as one where the market was
AGREEING = 3  # as many jumps to the same side are real: with nothing between them, or within WINDOW_MS
WINDOW_MS = 1000

_LOW, _HIGH = 1 - BOUND / 2, 1 + BOUND / 2  # of a price that counts: what is between them is no jump
_MOVES_MAX = 1000  # prices that are remembered: a wild half minute has as many
_NOTHING = (Decimal(1), ZERO)  # a band in which no price is


class Priced(Protocol):
    """A trade, as far as it is of interest here."""

    @property
    def price(self) -> Decimal: ...
    @property
    def at_ms(self) -> int: ...


T = TypeVar("T", bound=Priced)


class Sieve(Generic[T]):
    """One symbol's trades: which of them count now, which are held back until somebody confirms or denies them.

    A trade between `low` and `high` is no jump, whichever counted before it: two comparisons tell, and `sift` is for
    the others. While something is held back, no trade is between them. So what comes in one frame is judged as if each
    trade had come alone.
    """

    __slots__ = ("_jumps_ms", "_moves", "_up", "held", "high", "low")

    def __init__(self) -> None:
        self.low, self.high = _NOTHING
        self.held: list[T] = []
        self._up = False  # the side of what jumped lately
        self._jumps_ms: list[int] = []  # when it did
        self._moves: deque[tuple[int, Decimal]] = deque(maxlen=_MOVES_MAX)  # what it left the bounds from, and when

    def sift(self, trades: Sequence[T], last: Decimal | None, mark: Decimal | None) -> list[T]:
        """The trades that count now, in order. `last`: the price that counted before them, if any; `mark`: if known."""
        counted: list[T] = []
        for trade in trades:
            price = trade.price
            if not self.low <= price <= self.high:
                if last is not None:
                    self._moves.append((trade.at_ms, last))
                if last is None or near(price, last) or self._was_there(trade):
                    # Denied by who trades on at old prices; confirmed by who is near both, and nearer to the new one.
                    if last is not None and self.held and abs(price - self.held[-1].price) < abs(price - last):
                        counted += self.held
                elif self._hold(trade, up=price > last) or (mark is not None and near(price, mark)):
                    counted += self.held[:-1]
                else:
                    continue
                self.settle(price)
            counted.append(trade)
            last = price
        return counted

    def settle(self, price: Decimal) -> None:
        """This price counts; what was held back does not."""
        self.held.clear()
        self.low, self.high = price * _LOW, price * _HIGH

    def release(self) -> list[T]:
        """What was held back is confirmed."""
        counted, self.held = self.held, []
        if counted:
            self.settle(counted[-1].price)
        return counted

    def recall(self, earlier: "Sieve[T]") -> None:
        """Know what another one knew of the moments before."""
        self._moves = deque([*earlier._moves, *self._moves], maxlen=_MOVES_MAX)

    def _was_there(self, trade: T) -> bool:
        """Whether it is near or among the prices of the last moments, of which the last one is one."""
        lately = [price for at_ms, price in self._moves if at_ms > trade.at_ms - SPAN_MS]
        return min(lately) * (1 - BOUND) <= trade.price <= max(lately) * (1 + BOUND)

    def _hold(self, trade: T, *, up: bool) -> bool:
        """Hold it back with others of its side. True when they are enough to confirm each other."""
        self.low, self.high = _NOTHING
        if up is not self._up:
            self._up = up
            self.held.clear()
            self._jumps_ms.clear()
        self.held.append(trade)
        self._jumps_ms = [at_ms for at_ms in self._jumps_ms if at_ms > trade.at_ms - WINDOW_MS]
        self._jumps_ms.append(trade.at_ms)
        return max(len(self.held), len(self._jumps_ms)) >= AGREEING


def near(price: Decimal, other: Decimal) -> bool:
    return abs(price - other) <= BOUND * other


def confirms(price: Decimal, *, mark: Decimal | None, bid: Decimal | None, ask: Decimal | None) -> bool | None:
    """Whether the market is where this price is; None when what is known does not tell.

    In a crash the mark price lags behind: where it is far away, only the best prices deny.
    """
    if mark is not None and near(price, mark):
        return True
    if bid is None or ask is None:
        return None
    return bid * (1 - BOUND) <= price <= ask * (1 + BOUND)
