"""What the stream did not tell: trades of the time while nobody judged, and the prices of symbols that are silent."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from app.domain.level import Level, TriggerBy
from app.domain.level_book import LevelBook
from app.domain.order import PositionSide
from app.domain.outliers import SPAN_MS, Sieve, confirms
from app.errors import LevelheadError, Transient
from app.log import event
from app.store.levels import Armed
from app.venues.base import Candle, Trade, Venue
from app.venues.numbers import instant
from workers.feed import Feed, Gap, OnCrossed
from workers.stop import heed_cancellation

log = logging.getLogger("watcher")

SUBSCRIBED_S = 1.0  # after this a new symbol's trades arrive
SILENCE_S = 1.5  # without a price (no link, a silent one, a quiet market): it is asked for
AGAIN_S = 0.9  # between two questions for a last price
AGAIN_UNUSED_S = 1.9  # the same for a symbol without levels
AGAIN_MOVED_S = 0.4  # the same when the last answer told of a trade that was not heard
HELD_S = 0.05  # what follows a trade that jumped mostly tells sooner than the venue could be asked
HELD_AGAIN_S = 0.3
LEAD = timedelta(milliseconds=SPAN_MS)  # before a gap: where the market was then tells what is a jump in it
RETRY_MIN_S, RETRY_MAX_S = 0.5, 5.0  # between two tries of an inspection


class Inspection:
    """What is to be judged of one symbol."""

    def __init__(self) -> None:
        self.waiting: dict[UUID, tuple[datetime, Level]] = {}  # level id -> (from when on it is judged, as it was then)
        self.again = False  # another gap since the venue was last asked

    def add(self, level: Level, since: datetime) -> None:
        known = self.waiting.get(level.id)
        if known is None or known[1].armed_at != level.armed_at:
            self.waiting[level.id] = (since, level)


def _judged_to(at_ms: int, level: Level) -> datetime:
    """Trades after this have to be looked at, where those up to a millisecond were, of which there may be more.

    A price that did nothing to a level that stands still does nothing the second time.
    """
    return instant(at_ms if level.extreme is not None else at_ms - 1)


def _told_from(since: datetime, level: Level) -> datetime:
    """From when on minutes tell of a level that is judged since then: minutes that began later.

    The one before too, if the level stood as it is all the time: what of it was judged did not fire or wake it, so what
    does so came afterwards. What follows the price, or woke, may have done so in that minute.
    """
    minute = since.replace(second=0, microsecond=0)
    return since if level.extreme is not None else max(level.armed_at, minute)


class Gaps:
    """Asks the venue for what was missed, and judges it.

    Each level is judged as it stood before: a trailing stop that has moved since must not be fired by an older price.
    """

    def __init__(
        self,
        *,
        armed: Mapping[UUID, Armed],
        venue_of: Callable[[Feed], Venue],
        may_fire: Callable[[], bool],
        on_crossed: OnCrossed,
        group: asyncio.TaskGroup,
    ) -> None:
        self._armed = armed
        self._venue_of = venue_of
        self._may_fire = may_fire
        self._on_crossed = on_crossed
        self._group = group
        self.inspections: dict[tuple[Feed, str], Inspection] = {}  # one task each
        self._asked: dict[tuple[Feed, str], float] = {}  # monotonic: when its quote was last asked for
        self._asked_last: dict[tuple[Feed, str], float] = {}  # monotonic: when its last price was
        self._held: set[tuple[Feed, str]] = set()  # of which a quote is being asked for, since a trade is held back
        self._complained: dict[Feed, str | None] = {}  # why prices could not be asked for, as it was said last
        self._quiet_until: dict[Feed, float] = {}  # monotonic: the venue wants no questions before

    # -- gaps --------------------------------------------------------------------------------------------------------

    def all_judged(self, feed: Feed, symbol: str) -> bool:
        """Whether all its trades were; else extremes are not stored: who takes over judges by what was known before."""
        doubt = feed.doubts.get(symbol)
        sure = doubt is None or not doubt.may_have_missed
        return feed.gap is None and sure and (feed, symbol) not in self.inspections

    def inspect_all(self, feed: Feed) -> None:
        """Ticks were missed (a restart, a lost link, a lease in doubt): what was traded meanwhile counts as well."""
        gap = feed.end_gap()
        for symbol in feed.symbols_with_levels():
            self.inspect(feed, symbol, gap)

    def inspect(
        self, feed: Feed, symbol: str, gap: Gap | None = None, *, only: Level | None = None, after_s: float = 0.0
    ) -> None:
        """Have all levels of a symbol (or `only` one) judged by what was traded since the gap began, or else since they
        were stored.
        """
        inspection = self.inspections.get((feed, symbol))
        if inspection is None:
            inspection = self.inspections[feed, symbol] = Inspection()
            self._group.create_task(self._until_judged(feed, symbol, inspection, after_s))
        inspection.again = True
        for level in self._judged_by_trades(feed, symbol, only):
            before = None if gap is None else gap.levels.get(level.id)
            if gap is not None and before is not None and before.armed_at == level.armed_at:
                inspection.add(before, max(before.judged_from, _judged_to(gap.judged_ms.get(symbol, 0), before)))
            elif level.id in self._armed:
                stored = self._armed[level.id].level
                inspection.add(stored, stored.judged_from)

    def _judged_by_trades(self, feed: Feed, symbol: str, only: Level | None) -> Sequence[Level]:
        """All of a symbol or this one. A level that is armed is not looked for among all: arming many would take the
        square of it.
        """
        if only is None:
            return feed.books[TriggerBy.LAST].get(symbol, LevelBook()).levels()
        return (only,) if only.trigger_by is TriggerBy.LAST else ()

    async def _until_judged(self, feed: Feed, symbol: str, inspection: Inspection, after_s: float) -> None:
        """A gap is not forgotten because the venue could not be asked."""
        await asyncio.sleep(after_s)
        pause_s = RETRY_MIN_S
        while feed.levels(symbol):
            heed_cancellation()
            try:
                async with feed.asking:
                    judged = await self._judge(feed, symbol, inspection)
                if judged and not inspection.again:
                    break
            except (LevelheadError, OSError) as error:
                event(log, logging.WARNING, "cannot look at what was missed, trying again", symbol=symbol,
                      why=str(error) or repr(error))  # fmt: skip
                if isinstance(error, Transient) and error.retry_after_s is not None:
                    pause_s = max(pause_s, error.retry_after_s)
            except Exception:
                log.exception("unexpected")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
        del self.inspections[feed, symbol]

    async def _judge(self, feed: Feed, symbol: str, inspection: Inspection) -> bool:
        """False when it could not be fired."""
        inspection.again = False
        venue = self._venue_of(feed)
        waiting = sorted(inspection.waiting.values(), key=lambda pair: pair[0])
        if waiting:
            since = waiting[0][0]
            trades = await venue.trades_since(symbol, since)
            if trades is not None:
                self._replay(feed, symbol, waiting, await self._believed(feed, symbol, since, trades))
            else:
                told = sorted(((_told_from(*pair), pair[1]) for pair in waiting), key=lambda pair: pair[0])
                self._replay_minutes(feed, symbol, told, await venue.candles_since(symbol, told[0][0]))
        asked_at = time.monotonic()
        feed.on_quote(symbol, await venue.quote(symbol), TriggerBy, asked_at)
        return self._may_fire()

    async def _believed(self, feed: Feed, symbol: str, since: datetime, trades: list[Trade]) -> list[Trade]:
        """Without the lone ones that jumped away; of the last ones a quote tells, since none followed."""
        venue, sieve = self._venue_of(feed), Sieve[Trade]()
        counted = sieve.sift(trades, None, None)
        if len(counted) < len(trades):
            led = await venue.trades_since(symbol, since, lead=LEAD)
            if led is not None:
                sieve = Sieve()
                counted = sieve.sift(led, None, None)
        if sieve.held:
            quote = await venue.quote(symbol)
            if confirms(sieve.held[-1].price, mark=quote.mark, bid=quote.bid, ask=quote.ask):
                counted += sieve.release()
        feed.fidelity.recall(symbol, sieve)
        return [trade for trade in counted if instant(trade.at_ms) >= since]

    def _replay(self, feed: Feed, symbol: str, waiting: list[tuple[datetime, Level]], trades: list[Trade]) -> None:
        """Play the missed trades to a copy of the book, each level from its own moment on."""
        copy, judged, waiting = LevelBook(), [level for _, level in waiting], list(waiting)
        for trade in trades:
            at = instant(trade.at_ms)
            while waiting and waiting[0][0] < at:
                copy.arm(waiting.pop(0)[1])
            for level in copy.on_price(trade.price):
                self._fire_missed(feed, symbol, level, trade.price, trade.trade_id)
        book, moved = feed.books[TriggerBy.LAST].get(symbol), False
        if not trades or book is None:
            return
        for level in copy.levels():
            if self._current(level) is not None and level.extreme is not None:
                moved |= book.advance(level.id, level.extreme)
        if moved and feed.judged_ms.get(symbol, 0) > trades[-1].at_ms:
            # What was heard after these was judged before anybody knew of that extreme.
            self.inspections[feed, symbol].again = True
        if sum(self._current(level) is not None for level in judged) == len(book):
            feed.judged_to(trades[-1])  # else the stream, which may lag behind, has yet to tell the other levels

    def _replay_minutes(
        self, feed: Feed, symbol: str, waiting: list[tuple[datetime, Level]], candles: list[Candle]
    ) -> None:
        """The same with whole minutes. None tells the order of its prices: what is worst for a level is taken as the
        first, so that none fires by an extreme that may have come later, and only the last price comes after all.
        """
        book = feed.books[TriggerBy.LAST].get(symbol, LevelBook())
        for side in PositionSide:
            copy, left = LevelBook(), [pair for pair in waiting if pair[1].side is side]
            for candle in candles:
                while left and left[0][0] <= candle.start:
                    copy.arm(left.pop(0)[1])
                worst, best = (candle.low, candle.high) if side is PositionSide.LONG else (candle.high, candle.low)
                for price in (worst, best, candle.close):
                    for level in copy.on_price(price):
                        self._fire_missed(feed, symbol, level, level.trigger_price, None)
            for level in copy.levels():
                if self._current(level) is not None and level.extreme is not None:
                    book.advance(level.id, level.extreme)

    def _fire_missed(self, feed: Feed, symbol: str, level: Level, price: Decimal | None, trade_id: str | None) -> None:
        current = self._current(level)
        if current is not None and self._may_fire():
            event(log, logging.WARNING, "crossed while nobody watched", symbol=symbol, kind=level.kind)
            feed.disarm(symbol, current)
            self._on_crossed(level, price, trade_id)

    def _current(self, level: Level) -> Level | None:
        """The level as it is armed now; None when it is not, or has moved since and is another one."""
        one = self._armed.get(level.id)
        return one.level if one is not None and one.level.armed_at == level.armed_at else None

    # -- silence -----------------------------------------------------------------------------------------------------

    async def ask_prices(self, feed: Feed) -> None:
        """Ask for the prices of which nothing is heard: the last ones together, since a quiet market has many; the
        others one by one, those first that were not asked for longest.
        """
        silent = feed.silent(SILENCE_S)
        if not silent:
            return
        last = [symbol for symbol, triggers in silent.items() if TriggerBy.LAST in triggers and self._due(feed, symbol)]
        for symbol in last:
            feed.doubt(symbol)
        if time.monotonic() < self._quiet_until.get(feed, 0.0):
            return
        venue = self._venue_of(feed)
        others = {
            s: rest for s, triggers in silent.items() if (rest := [by for by in triggers if by is not TriggerBy.LAST])
        }
        order = sorted(others, key=lambda symbol: self._asked.get((feed, symbol), 0.0))
        failures = await asyncio.gather(
            self._ask_last_prices(feed, venue, last),
            *(self._ask_quote(feed, venue, symbol, others[symbol]) for symbol in order),
        )
        why = next((failure for failure in failures if failure is not None), None)
        if why is not None and why != self._complained.get(feed):
            event(log, logging.WARNING, "cannot ask for prices", feed=feed.origins.rest, symbols=len(silent), why=why)
        self._complained[feed] = why

    def _due(self, feed: Feed, symbol: str) -> bool:
        """Whether its last price is to be asked for anew."""
        doubt = feed.doubts.get(symbol)
        if doubt is not None and doubt.moved:
            pause_s = AGAIN_MOVED_S
        else:
            pause_s = AGAIN_S if feed.levels(symbol) else AGAIN_UNUSED_S
        return time.monotonic() >= self._asked_last.get((feed, symbol), float("-inf")) + pause_s

    async def _ask_last_prices(self, feed: Feed, venue: Venue, symbols: list[str]) -> str | None:
        """Why they could not be asked for."""
        if not symbols:
            return None
        async with feed.asking:
            now = time.monotonic()
            self._asked_last |= {(feed, symbol): now for symbol in symbols}
            try:
                prices = await venue.last_prices(symbols)
            except (LevelheadError, OSError) as error:
                return self._heed(feed, error)
            unclear = [one for one, price in prices.items() if not feed.on_asked(one, TriggerBy.LAST, price, now)]
        said = await asyncio.gather(*(self._ask_quote(feed, venue, symbol, [TriggerBy.LAST]) for symbol in unclear))
        return next((why for why in said if why is not None), None)

    def _heed(self, feed: Feed, error: Exception) -> str:
        if isinstance(error, Transient) and error.retry_after_s is not None:
            self._quiet_until[feed] = time.monotonic() + error.retry_after_s
        return str(error) or repr(error)

    async def _ask_quote(self, feed: Feed, venue: Venue, symbol: str, triggers: Sequence[TriggerBy]) -> str | None:
        """Why it could not be asked for."""
        async with feed.asking:
            now = time.monotonic()
            if now < self._quiet_until.get(feed, 0.0):
                return "the venue wants to be left alone"
            self._asked[feed, symbol] = now
            try:
                feed.on_quote(symbol, await venue.quote(symbol), triggers, now)
            except (LevelheadError, OSError) as error:
                return self._heed(feed, error)
        return None

    # -- trades that jumped ------------------------------------------------------------------------------------------

    def ask_about_held(self, feed: Feed, symbol: str) -> None:
        """Ask for quotes for as long as a trade is held back that nothing else confirms."""
        if (feed, symbol) not in self._held:
            self._held.add((feed, symbol))
            self._group.create_task(self._until_told(feed, symbol))

    async def _until_told(self, feed: Feed, symbol: str) -> None:
        await asyncio.sleep(HELD_S)
        while feed.fidelity.holds(symbol):
            heed_cancellation()
            try:
                why = await self._ask_quote(feed, self._venue_of(feed), symbol, ())
                if why is not None:
                    event(log, logging.WARNING, "cannot ask whether a price is true", symbol=symbol, why=why)
            except Exception:
                log.exception("unexpected")
            if feed.fidelity.holds(symbol):
                await asyncio.sleep(HELD_AGAIN_S)
        self._held.discard((feed, symbol))
