"""The path of a tick: which price judges which level, what is followed, what counts as a gap."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.order import PositionSide
from app.store.accounts import VenueName
from app.venues.base import Origins, Quote, Topic, Trade
from workers.feed import ALWAYS, Feed, Gap

D = Decimal
BTC = "BTCUSDT"
NOWHERE = Origins(rest="http://127.0.0.1:1", ws="ws://127.0.0.1:1")


class Followed:
    """A feed whose socket is not running, and what it fired."""

    def __init__(self) -> None:
        self.leased = True
        self.fired: list[tuple[int, Decimal | None, str | None]] = []
        self.back: list[Feed] = []
        self.missed: list[tuple[str, Gap]] = []
        self.held: list[str] = []
        self.feed = Feed(
            VenueName.BYBIT,
            NOWHERE,
            may_fire=lambda: self.leased,
            on_crossed=lambda level, price, trade_id: self.fired.append((level.id.int, price, trade_id)),
            on_back=self.back.append,
            on_missed=lambda feed, symbol, gap: self.missed.append((symbol, gap)),
            on_held=lambda feed, symbol: self.held.append(symbol),
        )

    def stop(self, number: int, price: str, by: TriggerBy = TriggerBy.LAST) -> Level:
        """A long's stop, armed."""
        return self.arm(number, LevelKind.STOP_LOSS, price=D(price), trigger_by=by)

    def trailing(self, number: int, *, extreme: str, distance: str) -> Level:
        return self.arm(number, LevelKind.TRAILING_STOP, extreme=D(extreme), distance=D(distance))

    def arm(self, number: int, kind: LevelKind, **fields: Any) -> Level:
        fields = {"side": PositionSide.LONG, "qty": D("0.1"), **fields}
        level = Level(
            id=UUID(int=number),
            position_id=UUID(int=1000 + number),
            kind=kind,
            fraction=D(1),
            armed_at=datetime(2026, 1, 1, tzinfo=UTC),
            order_id=UUID(int=2000 + number),
            intent_id=UUID(int=3000 + number),
            **fields,
        )
        self.feed.follow(BTC, level.trigger_by)
        self.feed.arm(BTC, level)
        return level

    def quote(self, quote: Quote, *triggers: TriggerBy) -> None:
        """Prices that were asked for after all that was heard."""
        self.feed.on_quote(BTC, quote, triggers, time.monotonic() + 1)

    def trade(self, *prices: str, at_ms: int = 1) -> None:
        self.feed.on_trades([Trade(symbol=BTC, trade_id=f"t{p}", price=D(p), at_ms=at_ms) for p in prices])


async def test_each_trade_of_a_frame_is_judged_in_order() -> None:
    followed = Followed()
    followed.stop(1, "100")
    followed.stop(2, "98")
    followed.trade("101", "99", "97.5", "99.4")
    assert followed.fired == [(1, D(99), "t99"), (2, D("97.5"), "t97.5")]
    assert followed.feed.prices[TriggerBy.LAST][BTC] == (D("99.4"), 1)


async def test_what_was_traded_before_a_level_was_armed_neither_fires_nor_moves_it() -> None:
    """A stream that lags behind tells of it afterwards; the levels of before are judged by it."""
    followed = Followed()
    followed.stop(1, "99.5")
    trailing = followed.trailing(2, extreme="100", distance="2")
    now_ms = int(time.time() * 1000)
    followed.feed.arm(BTC, trailing, since_ms=now_ms)
    for price, ago_ms in (("101", 30), ("99.4", 20), ("98.9", 10)):
        followed.trade(price, at_ms=now_ms - ago_ms)
    assert [number for number, *_ in followed.fired] == [1]
    followed.trade("98.9", at_ms=now_ms)
    followed.trade("98", at_ms=now_ms + 1)
    assert [number for number, *_ in followed.fired] == [1, 2]


async def test_of_what_one_trade_crosses_the_largest_stop_goes_first() -> None:
    """A long's stop and a short's targets, one below the other."""
    followed = Followed()
    followed.arm(1, LevelKind.TAKE_PROFIT, side=PositionSide.SHORT, price=D(99), qty=D(9))
    followed.arm(2, LevelKind.STOP_LOSS, price=D(99), qty=D("0.1"))
    followed.arm(3, LevelKind.STOP_LOSS, price=D(98), qty=D(2))
    followed.arm(4, LevelKind.TRAILING_STOP, extreme=D(102), distance=D("4.2"), qty=D("0.3"))
    followed.trade("101", "99.5", "97.7")
    assert [number for number, *_ in followed.fired] == [3, 4, 2, 1]


async def test_each_price_fires_only_the_levels_that_it_judges() -> None:
    followed = Followed()
    for number, by in enumerate(TriggerBy, start=1):
        followed.stop(number, "100", by)
    fired = followed.fired
    followed.feed.on_mark(BTC, D(99), 1)
    assert [number for number, *_ in fired] == [2]
    followed.feed.on_book(BTC, D(99), D(101), 1)
    assert [number for number, *_ in fired] == [2, 3]
    followed.feed.on_book(BTC, None, D(100), 1)
    assert [number for number, *_ in fired] == [2, 3, 4]
    followed.trade("100")
    assert [number for number, *_ in fired] == [2, 3, 4, 1]


async def test_a_quote_judges_the_prices_that_were_silent_and_no_other() -> None:
    followed = Followed()
    followed.stop(1, "100", TriggerBy.LAST)
    followed.stop(2, "100", TriggerBy.MARK)
    followed.stop(3, "100", TriggerBy.BID)
    assert followed.feed.silent(2.0) == {BTC: [TriggerBy.LAST, TriggerBy.MARK, TriggerBy.BID]}
    followed.trade("101")
    assert followed.feed.silent(2.0) == {BTC: [TriggerBy.MARK, TriggerBy.BID]}
    followed.quote(Quote(last=D(50), mark=D(99)), TriggerBy.MARK, TriggerBy.BID)
    assert followed.fired == [(2, D(99), None)], "no answer has the best bid: its level waits"


async def test_a_quote_that_is_older_than_what_was_heard_judges_nothing() -> None:
    followed = Followed()
    followed.stop(1, "100")
    asked_at = time.monotonic()
    followed.trade("110")
    followed.feed.on_quote(BTC, Quote(last=D(90), mark=D(90)), TriggerBy, asked_at)
    assert followed.fired == []
    assert not followed.feed.doubts


async def test_a_symbol_of_which_trades_were_lost_is_reported_as_it_stood_before() -> None:
    followed = Followed()
    trailing = followed.trailing(1, extreme="100", distance="10")
    followed.trade("101", at_ms=5)
    followed.quote(Quote(last=D(101), mark=D(101)), TriggerBy.LAST)
    assert BTC in followed.feed.doubts, "silent, perhaps only quiet"
    followed.trade("102", at_ms=6)
    assert not followed.missed
    followed.quote(Quote(last=D(120), mark=D(120)), TriggerBy.LAST)
    followed.trade("119", at_ms=9)
    [(symbol, gap)] = followed.missed
    assert (symbol, gap.judged_ms) == (BTC, {BTC: 6})
    assert gap.levels[trailing.id].extreme == D(102)
    assert not followed.feed.doubts


async def test_whether_trades_were_lost_is_looked_at_when_nobody_could_tell_while_it_was_silent() -> None:
    for answers, missed in (((), 1), (("101",), 0), (("101", None), 1), (("101", None, "101"), 0)):
        followed = Followed()
        followed.stop(1, "100")
        followed.trade("101", at_ms=7)
        for price in answers or (None,):
            followed.feed.doubt(BTC)
            if price is not None:
                followed.feed.on_asked(BTC, TriggerBy.LAST, D(price), time.monotonic() + 1)
        followed.trade("101", at_ms=9)
        assert [gap.judged_ms for _, gap in followed.missed] == [{BTC: 7}] * missed, answers


async def test_a_gap_begins_where_the_silence_did() -> None:
    followed = Followed()
    trailing = followed.trailing(1, extreme="100", distance="10")
    followed.feed.end_gap()
    followed.trade("101", at_ms=5)
    followed.quote(Quote(last=D(120), mark=D(120)), TriggerBy.LAST)
    followed.feed.on_link(False)
    gap = followed.feed.end_gap()
    assert gap.judged_ms == {BTC: 5}
    assert gap.levels[trailing.id].extreme == D(101)


async def test_the_book_is_followed_only_while_a_level_is_judged_by_it() -> None:
    followed = Followed()
    followed.feed.follow(BTC)
    assert followed.feed.topics == {BTC: ALWAYS}
    level = followed.stop(1, "100", TriggerBy.ASK)
    assert followed.feed.topics == {BTC: ALWAYS | {Topic.BOOK}}
    followed.feed.trim()
    assert Topic.BOOK in followed.feed.topics[BTC]
    followed.feed.disarm(BTC, level)
    followed.feed.trim()
    assert followed.feed.topics == {BTC: ALWAYS}


async def test_what_passes_by_without_a_lease_is_a_gap() -> None:
    followed = Followed()
    followed.stop(1, "100")
    followed.feed.end_gap()
    followed.trade("101", at_ms=7)
    followed.leased = False
    followed.trade("99", at_ms=8)
    followed.leased = True
    assert followed.fired == []
    assert followed.feed.gap is not None
    assert followed.feed.gap.judged_ms == {BTC: 7}, "where the judging stopped"
    followed.feed.on_link(True)
    assert followed.back == [followed.feed]


async def test_an_extreme_that_was_found_elsewhere_counts_if_it_is_better_and_is_stored() -> None:
    followed = Followed()
    trailing = followed.trailing(1, extreme="100", distance="10")
    book = followed.feed.books[TriggerBy.LAST][BTC]
    book.advance(trailing.id, D(99))
    assert book.changed() == []
    book.advance(trailing.id, D(120))
    [changed] = book.changed()
    assert changed.extreme == D(120)
    followed.trade("111", "110")
    assert [price for _, price, _ in followed.fired] == [D(110)]
