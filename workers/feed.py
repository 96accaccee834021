"""One venue's public stream with the level books of its symbols: the path of a tick."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.level_book import LevelBook
from app.log import event
from app.resources import market_of
from app.store.accounts import VenueName
from app.venues.base import Origins, Quote, Topic, Trade
from app.venues.registry import open_public_stream
from workers.fidelity import Fidelity

log = logging.getLogger("watcher")

OnCrossed = Callable[[Level, Decimal | None, str | None], None]

TOPIC_OF = {
    TriggerBy.LAST: Topic.TRADES,
    TriggerBy.MARK: Topic.MARK,
    TriggerBy.BID: Topic.BOOK,
    TriggerBy.ASK: Topic.BOOK,
}
ALWAYS = frozenset({Topic.TRADES, Topic.MARK})  # a position shows its mark price
LAG_MAX_MS = 60_000  # no stream is further behind
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
    unanswered = True  # asked for, and not told yet

    def __init__(self, price: Decimal | None) -> None:
        super().__init__()
        self.quiet_at = price  # while it is this one, nothing has happened that the stream should have told
        self.price = price  # the last one that was asked for
        self.moved = 0  # so often in a row it was not `quiet_at`

    @property
    def may_have_missed(self) -> bool:
        return self.missed or self.unanswered


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
        on_held: Callable[["Feed", str], None],
    ) -> None:
        """`on_back`: linked again, after a gap; `on_missed`: a symbol is heard again of which trades were lost;
        `on_held`: a trade counts only if a quote, which has to be asked for, says the same.
        """
        self.market = market_of(venue_name, origins)
        self.origins = origins
        self.topics: dict[str, frozenset[Topic]] = {}  # symbol -> what of it is followed
        self.followed_at: dict[str, float] = {}  # symbol -> monotonic
        self.books: dict[TriggerBy, dict[str, LevelBook]] = {by: {} for by in TriggerBy}
        self.prices: dict[TriggerBy, dict[str, tuple[Decimal, int]]] = {by: {} for by in TriggerBy}  # exchange time, ms
        self.heard: dict[TriggerBy, dict[str, float]] = {by: {} for by in TriggerBy}  # monotonic
        self.unsaved: dict[TriggerBy, set[str]] = {TriggerBy.LAST: set(), TriggerBy.MARK: set()}  # told to nobody yet
        self.judged_ms: dict[str, int] = {}  # symbol -> exchange time up to which its trades were judged
        self.gap: Gap | None = Gap()  # at the start everything is one
        self.doubts: dict[str, Doubt] = {}  # by symbol
        self._young: dict[str, dict[UUID, int]] = {}  # symbol -> levels that were armed of late, and since when (ms)
        self._unheard: dict[str, Decimal] = {}  # symbol -> the last price heard, where a later one was asked for
        self.answered: dict[str, float] = {}  # symbol -> monotonic: when its last price was asked for with success
        self.ticks: defaultdict[str, int] = defaultdict(int)  # symbol -> trades heard since somebody last took them
        self.linked = False
        self.link_changed_at = time.monotonic()
        self.asking = asyncio.Semaphore(ASKING_MAX)
        self._last = self.prices[TriggerBy.LAST]
        self._heard_trades = self.heard[TriggerBy.LAST]
        self._judged_by_trades = self.books[TriggerBy.LAST]
        self._may_fire = may_fire
        self._on_crossed = on_crossed
        self._on_back = on_back
        self._on_missed = on_missed
        self.fidelity = Fidelity(self._last, self.prices[TriggerBy.MARK], lambda symbol: on_held(self, symbol))
        self.stream = open_public_stream(venue_name, origins, self)

    # -- what the stream tells ---------------------------------------------------------------------------------------

    def on_trades(self, trades: Sequence[Trade]) -> None:
        symbol = trades[0].symbol
        self.ticks[symbol] += len(trades)
        counted = self.fidelity.counted(symbol, trades)
        if counted:
            self._heard_trades[symbol] = time.monotonic()
            self._count(symbol, counted)
        elif self.fidelity.holds(symbol):
            self._heard_trades[symbol] = time.monotonic()

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.unsaved[TriggerBy.MARK].add(symbol)
        self._hear(symbol, TriggerBy.MARK, price, at_ms)
        if self.fidelity.holds(symbol):
            self._count(symbol, self.fidelity.weighed(symbol, price))

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        if bid is not None:
            self._hear(symbol, TriggerBy.BID, bid, at_ms)
        if ask is not None:
            self._hear(symbol, TriggerBy.ASK, ask, at_ms)

    def on_link(self, up: bool) -> None:
        self.linked, self.link_changed_at = up, time.monotonic()
        self._unheard.clear()
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
            self._fire(book.on_price(price), price, None)

    def on_quote(self, symbol: str, quote: Quote, triggers: Iterable[TriggerBy], asked_at: float) -> None:
        """A quote that was asked for at `asked_at` (monotonic). It also tells what becomes of trades held back."""
        if self.fidelity.holds(symbol) and self._heard_trades[symbol] < asked_at:
            self._count(symbol, self.fidelity.weighed(symbol, quote.mark, quote.bid, quote.ask))
        prices = {
            TriggerBy.LAST: quote.last,
            TriggerBy.MARK: quote.mark,
            TriggerBy.BID: quote.bid,
            TriggerBy.ASK: quote.ask,
        }
        for by in triggers:
            self.on_asked(symbol, by, prices[by], asked_at, quote)

    def on_asked(
        self, symbol: str, by: TriggerBy, price: Decimal | None, asked_at: float, quote: Quote | None = None
    ) -> bool:
        """A price that was asked for at `asked_at` (monotonic). What was heard since is newer.

        False: it is so far from the last one that it has to be asked for with the others, in a quote.
        """
        if price is None or self.heard[by].get(symbol, 0.0) >= asked_at:
            return True
        if by is TriggerBy.LAST:
            believed = self.fidelity.believes(symbol, price, quote)
            if believed is None:
                return quote is not None
            self.answered[symbol] = time.monotonic()
            if not believed:
                return True
            self._note_answer(symbol, price)
        self.on_price(symbol, by, price)
        return True

    # -- what is followed --------------------------------------------------------------------------------------------

    def follow(self, symbol: str, by: TriggerBy = TriggerBy.LAST) -> None:
        """Have the symbol's prices subscribed, this one too."""
        known = self.topics.get(symbol, frozenset())
        wanted = known | ALWAYS | {TOPIC_OF[by]}
        if wanted != known:
            if not known:
                self._forget(symbol)  # trades that came when it had just been left
                self.followed_at[symbol] = time.monotonic()
            self.topics[symbol] = wanted
            self.stream.want(dict(self.topics))

    def forget(self, symbols: Collection[str]) -> None:
        """Follow these no more; their levels are disarmed. What was known of them is not what will be when they are
        followed again.
        """
        if not symbols:
            return
        for symbol in symbols:
            del self.topics[symbol], self.followed_at[symbol]
            self._forget(symbol)
        self.stream.want(dict(self.topics))

    def _forget(self, symbol: str) -> None:
        known: list[dict[str, Any]] = [
            self.judged_ms, self.doubts, self._young, self._unheard, self.answered, self.ticks,
            *self.books.values(), *self.prices.values(), *self.heard.values(),
        ]  # fmt: skip
        for of_symbols in known:
            of_symbols.pop(symbol, None)
        for unsaved in self.unsaved.values():
            unsaved.discard(symbol)
        self.fidelity.forget(symbol)

    def trim(self) -> None:
        """Follow best prices only where a level is judged by them."""
        needed = {symbol for by in (TriggerBy.BID, TriggerBy.ASK) for symbol, book in self.books[by].items() if book}
        extra = [symbol for symbol, topics in self.topics.items() if topics > ALWAYS and symbol not in needed]
        for symbol in extra:
            self.topics[symbol] = ALWAYS
        if extra:
            self.stream.want(dict(self.topics))

    def arm(self, symbol: str, level: Level, *, since_ms: int = 0) -> None:
        """Have the level judged; keeps the further of the two extremes of one that is there already. Trades from before
        `since_ms` (exchange time), of which a stream that lags behind may tell yet, are nothing to it.
        """
        if level.trigger_by is TriggerBy.LAST and since_ms > time.time() * 1000 - LAG_MAX_MS:
            self._young.setdefault(symbol, {})[level.id] = since_ms
        self.books[level.trigger_by].setdefault(symbol, LevelBook()).arm(level)

    def disarm(self, symbol: str, level: Level) -> None:
        self.books[level.trigger_by][symbol].disarm(level.id)

    def levels(self, symbol: str) -> int:
        """How many levels of a symbol are armed."""
        return sum(len(books[symbol]) for books in self.books.values() if symbol in books)

    def symbols_with_levels(self) -> list[str]:
        return sorted({symbol for books in self.books.values() for symbol, book in books.items() if book})

    def silent(self, seconds: float) -> dict[str, list[TriggerBy]]:
        """Symbols of which something was not heard for so long -> which of its prices: the last one, and those by which
        a level is judged.
        """
        oldest = time.monotonic() - seconds
        found = {symbol: [TriggerBy.LAST] for symbol in self.topics if self._heard_trades.get(symbol, 0.0) < oldest}
        for by, books in self.books.items():
            for symbol, book in books.items():
                if book and by is not TriggerBy.LAST and self.heard[by].get(symbol, 0.0) < oldest:
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
            self.fidelity.forget_held()

    def end_gap(self) -> Gap:
        """The gap that the caller inspects now."""
        gap, self.gap = self.gap or Gap(), None
        return gap

    def judged_to(self, trade: Trade) -> None:
        """All trades up to this one, which was asked for, were judged."""
        symbol = trade.symbol
        if trade.at_ms > self.judged_ms.get(symbol, 0):
            self.judged_ms[symbol] = trade.at_ms
            self._unheard.setdefault(symbol, self._told(symbol) or trade.price)
            self._last[symbol] = (trade.price, trade.at_ms)
            self.fidelity.settle(symbol, trade.price)
            self.unsaved[TriggerBy.LAST].add(symbol)

    def _count(self, symbol: str, trades: Sequence[Trade]) -> None:
        """These trades count: what is known goes on, and levels are compared."""
        if not trades:
            return
        if self._unheard:
            self._unheard.pop(symbol, None)
        latest = trades[-1]
        self._last[symbol] = (latest.price, latest.at_ms)
        self.unsaved[TriggerBy.LAST].add(symbol)
        if not self._may_fire():
            self.begin_gap()
            return
        if symbol in self.doubts:
            self._heard_again(symbol)
        self.judged_ms[symbol] = latest.at_ms
        book = self._judged_by_trades.get(symbol)
        if book is not None:
            if self._young and symbol in self._young:
                self._judge_apart(symbol, book, trades)
                return
            for trade in trades:
                if crossed := book.on_price(trade.price):
                    self._fire(crossed, trade.price, trade.trade_id)

    def _judge_apart(self, symbol: str, book: LevelBook, trades: Sequence[Trade]) -> None:
        """Without the levels that were armed after a trade."""
        for trade in trades:
            young = {id: since for id, since in self._young.get(symbol, {}).items() if since > trade.at_ms}
            apart = [level for id in young if (level := book.take(id)) is not None]
            crossed = book.on_price(trade.price)
            for level in apart:
                book.arm(level)
            if apart:
                self._young[symbol] = {level.id: young[level.id] for level in apart}
            else:
                self._young.pop(symbol, None)
            if crossed:
                self._fire(crossed, trade.price, trade.trade_id)

    def _fire(self, crossed: list[Level], price: Decimal, trade_id: str | None) -> None:
        """Where the venue's limits let not all go at once, what limits a loss goes first, and the most of it."""
        if len(crossed) > 1:
            crossed.sort(key=lambda level: (level.kind is LevelKind.TAKE_PROFIT, -level.qty))
        for level in crossed:
            self._on_crossed(level, price, trade_id)

    def _hear(self, symbol: str, by: TriggerBy, price: Decimal, at_ms: int) -> None:
        self.heard[by][symbol] = time.monotonic()
        self.prices[by][symbol] = (price, at_ms)
        self.on_price(symbol, by, price)

    def doubt(self, symbol: str) -> Doubt:
        """Nothing is heard of it, and its last price has to be asked for. Until that is answered nobody knows whether
        trades were missed.
        """
        doubt = self.doubts.get(symbol)
        if doubt is None:
            doubt = self.doubts[symbol] = Doubt(self._unheard.pop(symbol, None) or self._told(symbol))
            if symbol in self.judged_ms:
                doubt.judged_ms[symbol] = self.judged_ms[symbol]
            book = self._judged_by_trades.get(symbol, LevelBook())
            doubt.levels = {level.id: level for level in book.levels()}
        doubt.unanswered = True
        return doubt

    def _note_answer(self, symbol: str, price: Decimal) -> None:
        """A price that is believed was asked for while nothing is heard."""
        last, doubt = self._last.get(symbol), self.doubt(symbol)
        doubt.unanswered = False
        if symbol not in self.judged_ms or last is None or last[0] != price:
            doubt.missed = True
        doubt.price = price
        if not self.linked or doubt.quiet_at is None:
            doubt.quiet_at = price  # nothing is expected of a stream that is not there
        doubt.moved = 0 if price == doubt.quiet_at else doubt.moved + 1
        if last is not None and last[0] != price:
            self._last[symbol] = (price, last[1])  # the next trade has to be near this one
            self.fidelity.settle(symbol, price)

    def _told(self, symbol: str) -> Decimal | None:
        """The last price that this link told."""
        heard = self._heard_trades.get(symbol, 0.0) >= self.link_changed_at
        return self._last[symbol][0] if heard and symbol in self._last else None

    def _heard_again(self, symbol: str) -> None:
        doubt = self.doubts.pop(symbol)
        if doubt.may_have_missed:
            self._on_missed(self, symbol, doubt)

    def _judging(self) -> bool:
        if self._may_fire():
            return True
        self.begin_gap()
        return False
