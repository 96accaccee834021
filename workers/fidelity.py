"""Which of the trades that are told count: none from long ago, and no jump that nothing else confirms."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from app.domain.money import plain
from app.domain.outliers import Sieve, confirms, near
from app.log import event
from app.venues.base import Quote, Trade

log = logging.getLogger("watcher")

LATE_MS = 1000  # older than the last trade that counted by more: it is none of this moment's
AHEAD_MS = 2000  # a last trade that is so far in the future said something wrong about its time
SAY_EVERY_S = 10.0  # in a whipsaw hundreds are not believed

Known = Mapping[str, tuple[Decimal, int]]  # symbol -> price, exchange time in ms


class Fidelity:
    """Judges the trades of one feed by what is known of their symbols: the last price that counted, the mark price."""

    def __init__(self, last: Known, marks: Known, on_held: Callable[[str], None]) -> None:
        """`on_held`: something is held back, and a second source has to be asked."""
        self._last = last
        self._marks = marks
        self._on_held = on_held
        self._sieves: dict[str, Sieve[Trade]] = {}
        self._asked: dict[str, Decimal] = {}  # the last price that was asked for before the first trade was heard
        self._said: dict[str, float] = {}  # monotonic

    def counted(self, symbol: str, trades: Sequence[Trade]) -> Sequence[Trade]:
        """Those of a frame's trades that count now, perhaps after others that had been held back."""
        sieve, last = self._sieves.get(symbol), self._last.get(symbol)
        if sieve is not None and last is not None:
            low, high, oldest_ms = sieve.low, sieve.high, last[1] - LATE_MS
            for trade in trades:
                if trade.at_ms < oldest_ms or not low <= trade.price <= high:
                    break
            else:
                return trades  # nearly always
        return self._sifted(symbol, trades, sieve, last)

    def holds(self, symbol: str) -> bool:
        """Whether something is held back."""
        sieve = self._sieves.get(symbol)
        return sieve is not None and bool(sieve.held)

    def forget_held(self) -> None:
        """Nothing that was held back counts: it will be looked at with what is missed from here on."""
        for sieve in self._sieves.values():
            sieve.held.clear()

    def forget(self, symbol: str) -> None:
        """The symbol is not followed any more."""
        self._sieves.pop(symbol, None)
        self._asked.pop(symbol, None)

    def weighed(
        self, symbol: str, mark: Decimal | None, bid: Decimal | None = None, ask: Decimal | None = None
    ) -> list[Trade]:
        """The trades that were held back and are confirmed by these prices. They may as well be denied by them."""
        sieve = self._sieves[symbol]
        if not sieve.held:
            return []
        price = sieve.held[-1].price
        believed = confirms(price, mark=mark, bid=bid, ask=ask)
        if believed:
            return sieve.release()
        if believed is False:
            self._deny(symbol, price)
            sieve.held.clear()
        return []

    def settle(self, symbol: str, price: Decimal) -> None:
        """This price counts, from wherever it came."""
        self._sieves.setdefault(symbol, Sieve()).settle(price)

    def recall(self, symbol: str, earlier: Sieve[Trade]) -> None:
        """Where the market was lately, as trades told that were asked for."""
        self._sieves.setdefault(symbol, Sieve()).recall(earlier)

    def believes(self, symbol: str, price: Decimal, quote: Quote | None) -> bool | None:
        """Whether a last price that was asked for counts; None when what is known does not tell.

        `quote` is what else was told with it. Without one, nothing is denied.
        """
        last = self._last.get(symbol)
        if last is None:
            self._asked[symbol] = price
            return True
        if near(price, last[0]):
            return True
        if quote is None:
            mark = self._marks.get(symbol)
            return True if mark is None or near(price, mark[0]) else None
        believed = confirms(price, mark=quote.mark, bid=quote.bid, ask=quote.ask)
        if believed is False:
            self._deny(symbol, price)
        return believed

    def _sifted(
        self, symbol: str, trades: Sequence[Trade], sieve: Sieve[Trade] | None, last: tuple[Decimal, int] | None
    ) -> Sequence[Trade]:
        if last is not None:
            oldest_ms = last[1] - LATE_MS
            for trade in trades:
                if trade.at_ms < oldest_ms:
                    trades = self._in_time(symbol, trades, last[1])
                    break
        if not trades:
            return trades
        if sieve is None:
            sieve = self._sieves[symbol] = Sieve()
        mark = self._marks.get(symbol)
        held = sieve.held[-1] if sieve.held else None
        known = None if mark is None else mark[0]
        # The first of a symbol has to be near its mark price, or what was asked for, if one of them is known.
        before = last[0] if last is not None else known or self._asked.get(symbol)
        counted = sieve.sift(trades, before, known)
        if held is not None and held not in sieve.held and held not in counted:
            self._deny(symbol, held.price)
        if sieve.held:
            self._on_held(symbol)
        return counted

    def _in_time(self, symbol: str, trades: Sequence[Trade], last_ms: int) -> Sequence[Trade]:
        found = [trade for trade in trades if trade.at_ms >= last_ms - LATE_MS]
        if last_ms > time.time() * 1000 + AHEAD_MS:
            return trades
        late_ms = last_ms - min(trade.at_ms for trade in trades)
        self._say(symbol, "trades of the past are not judged", late_ms=late_ms)
        return found

    def _deny(self, symbol: str, price: Decimal) -> None:
        self._say(symbol, "a price is not believed: nothing else is near it", price=plain(price))

    def _say(self, symbol: str, what: str, **fields: object) -> None:
        now = time.monotonic()
        if now >= self._said.get(symbol, 0.0) + SAY_EVERY_S:
            self._said[symbol] = now
            event(log, logging.WARNING, what, symbol=symbol, **fields)
