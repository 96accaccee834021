"""One venue's public stream with the level books of its symbols: the path of a tick."""

import logging
import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from app.domain.level import Level
from app.domain.level_book import LevelBook
from app.log import event
from app.venues.base import Origins, Trade
from app.venues.bybit_stream import BybitPublicStream

log = logging.getLogger("watcher")

OnCrossed = Callable[[Level, Decimal | None, str | None], None]


class Feed:
    """Compares each trade with the levels of its symbol.

    While nothing may fire (no lease) ticks pass by unjudged. That, like a lost link, is a gap: `gap_from` remembers up
    to which exchange time each symbol had been judged before it, until somebody inspects what was traded meanwhile.
    """

    def __init__(
        self,
        origins: Origins,
        *,
        may_fire: Callable[[], bool],
        on_crossed: OnCrossed,
        on_back: Callable[["Feed"], None],
    ) -> None:
        self.origins = origins
        self.books: dict[str, LevelBook] = {}
        self.symbols: set[str] = set()
        self.last: dict[str, tuple[Decimal, int]] = {}  # symbol -> (price, exchange time in ms)
        self.unsaved: set[str] = set()  # symbols whose last price nobody has been told yet
        self.heard: dict[str, float] = {}  # symbol -> monotonic time of its last trade
        self.judged_ms: dict[str, int] = {}  # symbol -> exchange time up to which its trades were judged
        self.gap_from: dict[str, int] | None = {}  # None: no gap; at the start everything is one
        self.linked = False
        self._may_fire = may_fire
        self._on_crossed = on_crossed
        self._on_back = on_back
        self.stream = BybitPublicStream(origins.ws, self.on_trades, self.on_link)

    def on_trades(self, trades: Sequence[Trade]) -> None:
        now = time.monotonic()
        judging = self._judging()
        for trade in trades:
            symbol = trade.symbol
            self.heard[symbol] = now
            self.last[symbol] = (trade.price, trade.at_ms)
            self.unsaved.add(symbol)
            if not judging:
                continue
            self.judged_ms[symbol] = trade.at_ms
            book = self.books.get(symbol)
            if book is not None:
                for level in book.on_price(trade.price):
                    self._on_crossed(level, trade.price, trade.trade_id)

    def on_price(self, symbol: str, price: Decimal) -> None:
        """A price that was asked for."""
        book = self.books.get(symbol)
        if book is not None and self._judging():
            for level in book.on_price(price):
                self._on_crossed(level, price, None)

    def on_link(self, up: bool) -> None:
        self.linked = up
        if up:
            self._on_back(self)
        else:
            self._begin_gap()
            event(log, logging.WARNING, "ticks lost: asking for prices until the stream is back", feed=self.origins.ws)

    def end_gap(self) -> dict[str, int]:
        """Up to where each symbol had been judged before the gap, which the caller inspects now."""
        gap, self.gap_from = self.gap_from or {}, None
        return gap

    def follow(self, symbol: str) -> None:
        if symbol not in self.symbols:
            self.symbols.add(symbol)
            self.stream.want(set(self.symbols))

    def silent(self, seconds: float) -> list[str]:
        """Symbols with levels of which nothing was heard for so long."""
        oldest = time.monotonic() - seconds
        return [s for s, book in self.books.items() if len(book) and self.heard.get(s, 0.0) < oldest]

    def _judging(self) -> bool:
        if self._may_fire():
            return True
        self._begin_gap()
        return False

    def _begin_gap(self) -> None:
        if self.gap_from is None:
            self.gap_from = dict(self.judged_ms)
