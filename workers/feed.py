"""One venue's public stream with the level books of its symbols: the path of a tick."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from uuid import UUID

from app.domain.level import Level, TriggerBy
from app.domain.level_book import LevelBook
from app.log import event
from app.resources import market_of
from app.store.accounts import VenueName
from app.venues.base import Origins, Quote, Topic, Trade
from app.venues.registry import open_public_stream

log = logging.getLogger("watcher")

OnCrossed = Callable[[Level, Decimal | None, str | None], None]

TOPIC_OF = {
    TriggerBy.LAST: Topic.TRADES,
    TriggerBy.MARK: Topic.MARK,
    TriggerBy.BID: Topic.BOOK,
    TriggerBy.ASK: Topic.BOOK,
}
ALWAYS = frozenset({Topic.TRADES, Topic.MARK})  # a position shows its mark price
ASKING_MAX = 8  # questions to the venue at once: a silent socket must not burn the budget of requests in a burst


class Gap:
    """What was known before trades passed by unjudged."""

    def __init__(self) -> None:
        self.judged_ms: dict[str, int] = {}  # symbol -> exchange time up to which its trades had been judged
        self.levels: dict[UUID, Level] = {}  # as they stood then: what prices did to them since is in the gap

    def over(self, other: "Gap") -> None:
        """Put what this one knows in place of what the other does."""
        other.judged_ms |= self.judged_ms
        other.levels |= self.levels


class Doubt(Gap):
    """A symbol that is silent: prices that were asked for are judged meanwhile, between which others may have been."""

    missed = False  # one of them was not that of the last trade that is known


class Feed:
    """Compares each price with the levels of its symbol that are judged by it. Hears the stream: a `PublicListener`.

    While nothing may fire (no lease) ticks pass by unjudged. That, like a lost link, is a gap, until somebody inspects
    what was traded meanwhile.
    """

    def __init__(
        self,
        venue_name: VenueName,
        origins: Origins,
        *,
        may_fire: Callable[[], bool],
        on_crossed: OnCrossed,
        on_back: Callable[["Feed"], None],
        on_missed: Callable[["Feed", str, Gap], None],
    ) -> None:
        """`on_back`: linked again, after a gap; `on_missed`: a symbol is heard again of which trades were lost."""
        self.market = market_of(venue_name, origins)
        self.origins = origins
        self.topics: dict[str, frozenset[Topic]] = {}  # symbol -> what of it is followed
        self.books: dict[TriggerBy, dict[str, LevelBook]] = {by: {} for by in TriggerBy}
        self.prices: dict[TriggerBy, dict[str, tuple[Decimal, int]]] = {by: {} for by in TriggerBy}  # exchange time, ms
        self.heard: dict[TriggerBy, dict[str, float]] = {by: {} for by in TriggerBy}  # monotonic
        self.unsaved: dict[TriggerBy, set[str]] = {TriggerBy.LAST: set(), TriggerBy.MARK: set()}  # told to nobody yet
        self.judged_ms: dict[str, int] = {}  # symbol -> exchange time up to which its trades were judged
        self.gap: Gap | None = Gap()  # at the start everything is one
        self.doubts: dict[str, Doubt] = {}  # by symbol
        self.linked = False
        self.asking = asyncio.Semaphore(ASKING_MAX)
        self._last = self.prices[TriggerBy.LAST]
        self._heard_trades = self.heard[TriggerBy.LAST]
        self._judged_by_trades = self.books[TriggerBy.LAST]
        self._may_fire = may_fire
        self._on_crossed = on_crossed
        self._on_back = on_back
        self._on_missed = on_missed
        self.stream = open_public_stream(venue_name, origins, self)

    # -- what the stream tells ---------------------------------------------------------------------------------------

    def on_trades(self, trades: Sequence[Trade]) -> None:
        latest = trades[-1]
        symbol = latest.symbol
        self._heard_trades[symbol] = time.monotonic()
        self._last[symbol] = (latest.price, latest.at_ms)
        self.unsaved[TriggerBy.LAST].add(symbol)
        if not self._judging():
            return
        if symbol in self.doubts:
            self._heard_again(symbol)
        self.judged_ms[symbol] = latest.at_ms
        book = self._judged_by_trades.get(symbol)
        if book is not None:
            for trade in trades:
                for level in book.on_price(trade.price):
                    self._on_crossed(level, trade.price, trade.trade_id)

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.unsaved[TriggerBy.MARK].add(symbol)
        self._hear(symbol, TriggerBy.MARK, price, at_ms)

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        if bid is not None:
            self._hear(symbol, TriggerBy.BID, bid, at_ms)
        if ask is not None:
            self._hear(symbol, TriggerBy.ASK, ask, at_ms)

    def on_link(self, up: bool) -> None:
        self.linked = up
        if up:
            self._on_back(self)
        else:
            self.begin_gap()
            event(log, logging.WARNING, "ticks lost: asking for prices until the stream is back", feed=self.origins.ws)

    # -- what was asked for ------------------------------------------------------------------------------------------

    def on_price(self, symbol: str, by: TriggerBy, price: Decimal) -> None:
        """A price that did not come from the stream just now."""
        book = self.books[by].get(symbol)
        if book is not None and self._judging():
            for level in book.on_price(price):
                self._on_crossed(level, price, None)

    def on_quote(self, symbol: str, quote: Quote, triggers: Iterable[TriggerBy], asked_at: float) -> None:
        """A quote that was asked for at `asked_at` (monotonic)."""
        prices = {
            TriggerBy.LAST: quote.last,
            TriggerBy.MARK: quote.mark,
            TriggerBy.BID: quote.bid,
            TriggerBy.ASK: quote.ask,
        }
        for by in triggers:
            self.on_asked(symbol, by, prices[by], asked_at)

    def on_asked(self, symbol: str, by: TriggerBy, price: Decimal | None, asked_at: float) -> None:
        """A price that was asked for at `asked_at` (monotonic). What was heard since is newer."""
        if price is None or self.heard[by].get(symbol, 0.0) >= asked_at:
            return
        if by is TriggerBy.LAST:
            self._doubt(symbol, price)
        self.on_price(symbol, by, price)

    # -- what is followed --------------------------------------------------------------------------------------------

    def follow(self, symbol: str, by: TriggerBy = TriggerBy.LAST) -> None:
        """Have the symbol's prices subscribed, this one too."""
        known = self.topics.get(symbol, frozenset())
        wanted = known | ALWAYS | {TOPIC_OF[by]}
        if wanted != known:
            self.topics[symbol] = wanted
            self.stream.want(dict(self.topics))

    def trim(self) -> None:
        """Follow best prices only where a level is judged by them."""
        needed = {symbol for by in (TriggerBy.BID, TriggerBy.ASK) for symbol, book in self.books[by].items() if book}
        extra = [symbol for symbol, topics in self.topics.items() if topics > ALWAYS and symbol not in needed]
        for symbol in extra:
            self.topics[symbol] = ALWAYS
        if extra:
            self.stream.want(dict(self.topics))

    def arm(self, symbol: str, level: Level) -> None:
        """Have the level judged; keeps the further of the two extremes of one that is there already."""
        self.books[level.trigger_by].setdefault(symbol, LevelBook()).arm(level)

    def disarm(self, symbol: str, level: Level) -> None:
        self.books[level.trigger_by][symbol].disarm(level.id)

    def levels(self, symbol: str) -> int:
        """How many levels of a symbol are armed."""
        return sum(len(books[symbol]) for books in self.books.values() if symbol in books)

    def symbols_with_levels(self) -> list[str]:
        return sorted({symbol for books in self.books.values() for symbol, book in books.items() if book})

    def silent(self, seconds: float) -> dict[str, list[TriggerBy]]:
        """Symbols with levels whose price was not heard for so long -> which of its prices."""
        oldest = time.monotonic() - seconds
        found: dict[str, list[TriggerBy]] = {}
        for by, books in self.books.items():
            for symbol, book in books.items():
                if book and self.heard[by].get(symbol, 0.0) < oldest:
                    found.setdefault(symbol, []).append(by)
        return found

    # -- gaps --------------------------------------------------------------------------------------------------------

    def begin_gap(self) -> None:
        if self.gap is None:
            self.gap = Gap()
            self.gap.judged_ms = dict(self.judged_ms)
            self.gap.levels = {level.id: level for book in self._judged_by_trades.values() for level in book.levels()}
            for doubt in self.doubts.values():
                doubt.over(self.gap)

    def end_gap(self) -> Gap:
        """The gap that the caller inspects now."""
        gap, self.gap = self.gap or Gap(), None
        return gap

    def judged_to(self, trade: Trade) -> None:
        """All trades up to this one, which was asked for, were judged."""
        symbol = trade.symbol
        if trade.at_ms > self.judged_ms.get(symbol, 0):
            self.judged_ms[symbol] = trade.at_ms
            self._last[symbol] = (trade.price, trade.at_ms)
            self.unsaved[TriggerBy.LAST].add(symbol)

    def _hear(self, symbol: str, by: TriggerBy, price: Decimal, at_ms: int) -> None:
        self.heard[by][symbol] = time.monotonic()
        self.prices[by][symbol] = (price, at_ms)
        self.on_price(symbol, by, price)

    def _doubt(self, symbol: str, price: Decimal) -> None:
        doubt = self.doubts.get(symbol)
        if doubt is None:
            doubt = self.doubts[symbol] = Doubt()
            if symbol in self.judged_ms:
                doubt.judged_ms[symbol] = self.judged_ms[symbol]
            book = self._judged_by_trades.get(symbol, LevelBook())
            doubt.levels = {level.id: level for level in book.levels()}
        if symbol not in self.judged_ms or self._last[symbol][0] != price:
            doubt.missed = True

    def _heard_again(self, symbol: str) -> None:
        doubt = self.doubts.pop(symbol)
        if doubt.missed:
            self._on_missed(self, symbol, doubt)

    def _judging(self) -> bool:
        if self._may_fire():
            return True
        self.begin_gap()
        return False
