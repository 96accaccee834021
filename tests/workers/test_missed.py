"""What was asked for beside what is heard: neither may make the other be passed over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.order import PositionSide, Side
from app.store.accounts import VenueName
from app.store.levels import Armed
from app.venues.base import Candle, Origins, Quote, Trade, Venue
from app.venues.numbers import instant
from tests.support.house import eventually
from workers.feed import Feed
from workers.gaps import Gaps

D = Decimal
BTC = "BTCUSDT"
NOWHERE = Origins(rest="http://127.0.0.1:1", ws="ws://127.0.0.1:1")


class Exchange:
    """What it answers. `while_asked` happens while the answer is on its way."""

    def __init__(self) -> None:
        self.trades: list[Trade] | None = []
        self.candles: list[Candle] = []
        self.last = D(100)
        self.while_asked: Callable[[], None] = lambda: None
        self.asked = 0

    async def trades_since(self, symbol: str, since: datetime) -> list[Trade] | None:
        self.asked += 1
        found = None if self.trades is None else [trade for trade in self.trades if instant(trade.at_ms) >= since]
        self.while_asked()
        return found

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        return [candle for candle in self.candles if candle.start >= since]

    async def quote(self, symbol: str) -> Quote:
        return Quote(last=self.last, mark=self.last, bid=self.last, ask=self.last)


class Watched:
    """A feed without a socket and what is asked of the exchange, as the watcher puts them together."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.exchange = Exchange()
        self.began_ms = int(time.time()) // 60 * 60_000 - 30_000  # in the middle of a minute
        self.armed: dict[UUID, Armed] = {}
        self.fired: list[tuple[int, Decimal | None]] = []
        self.gaps = Gaps(
            armed=self.armed, venue_of=lambda feed: cast(Venue, self.exchange), may_fire=lambda: True,
            on_crossed=self._crossed, group=group,
        )  # fmt: skip
        self.feed = Feed(
            VenueName.BYBIT, NOWHERE, may_fire=lambda: True, on_crossed=self._crossed,
            on_back=self.gaps.inspect_all, on_missed=self.gaps.inspect, on_held=self.gaps.ask_about_held,
        )  # fmt: skip
        self.feed.end_gap()
        self.feed.linked = True

    def at(self, seconds: float) -> datetime:
        return instant(self.began_ms) + timedelta(seconds=seconds)

    def arm(self, number: int, kind: LevelKind, *, at_s: float = 0.0, **fields: Any) -> Level:
        level = Level(
            id=UUID(int=number), position_id=UUID(int=1000 + number), kind=kind, side=PositionSide.LONG,
            fraction=D(1), qty=D(1), armed_at=self.at(at_s), order_id=UUID(int=2000 + number),
            intent_id=UUID(int=3000 + number), **fields,
        )  # fmt: skip
        self.armed[level.id] = Armed(
            level=level, account_id=UUID(int=1), symbol=BTC, client_order_id=str(number), close_side=Side.SELL,
            close_qty=D(1), hedge=False,
        )  # fmt: skip
        self.feed.follow(BTC)
        self.feed.arm(BTC, level)
        return level

    def trade(self, price: object, at_s: float) -> Trade:
        return Trade(symbol=BTC, trade_id=f"t{price}", price=D(str(price)), at_ms=self.began_ms + round(at_s * 1000))

    def hear(self, price: object, at_s: float) -> None:
        self.feed.on_trades([self.trade(price, at_s)])

    async def inspected(self) -> None:
        async def done() -> bool:
            return not self.gaps.inspections

        await eventually(done, what="the look at what was missed")

    def extreme(self, level: Level) -> Decimal | None:
        [found] = [one for one in self.feed.books[TriggerBy.LAST][BTC].levels() if one.id == level.id]
        return found.extreme

    def _crossed(self, level: Level, price: Decimal | None, trade_id: str | None) -> None:
        if self.armed.pop(level.id, None) is not None:
            self.fired.append((level.id.int, price))


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with asyncio.TaskGroup() as group:
        yield Watched(group)


async def test_a_stream_that_lags_is_heard_out_though_one_level_was_judged_by_what_came_after(
    watched: Watched,
) -> None:
    """In a crash the socket is seconds behind; a level that is armed then has the exchange asked."""
    watched.arm(1, LevelKind.STOP_LOSS, price=D(99))
    watched.hear(100, 0)
    second = watched.arm(2, LevelKind.STOP_LOSS, at_s=1, price=D(90))
    watched.exchange.trades = [watched.trade(price, at_s) for price, at_s in ((100, 0), ("98.9", 1.5), (100, 4))]
    watched.gaps.inspect(watched.feed, BTC, only=second)
    await watched.inspected()
    watched.hear("98.9", 1.5)
    assert watched.fired == [(1, D("98.9"))]


async def test_what_was_heard_while_the_exchange_was_asked_is_judged_by_the_extreme_that_it_told(
    watched: Watched,
) -> None:
    """The high was missed; what fell from it came before anybody knew of the high, and went up again."""
    level = watched.arm(1, LevelKind.TRAILING_STOP, distance=D(1), extreme=D(100))
    watched.hear(100, 0)
    watched.feed.begin_gap()
    watched.exchange.trades = [watched.trade(102, 1), watched.trade(102, 2)]

    def falls() -> None:
        for price, at_s in (("100.9", 3), ("101.5", 4)):
            watched.hear(price, at_s)
            assert watched.exchange.trades is not None
            watched.exchange.trades.append(watched.trade(price, at_s))
        watched.exchange.while_asked = lambda: None

    watched.exchange.while_asked, watched.exchange.last = falls, D("101.5")
    watched.gaps.inspect_all(watched.feed)
    await watched.inspected()
    assert watched.fired == [(1, D("100.9"))], watched.extreme(level)


async def test_the_rest_of_a_burst_of_one_millisecond_is_judged_when_the_gap_began_within_it(watched: Watched) -> None:
    """One order that goes through the book is many trades of one instant, at Binance in as many frames."""
    watched.arm(1, LevelKind.STOP_LOSS, at_s=-1, price=D(99))
    watched.arm(2, LevelKind.BREAK_EVEN, at_s=-1, activation_price=D(110), price=D(101))
    watched.arm(3, LevelKind.TRAILING_STOP, at_s=-1, distance=D(1), extreme=D(100))
    watched.hear("99.8", 0)
    watched.hear("100.2", 0)
    watched.feed.begin_gap()
    burst = ["99.1", "99.8", "100.2", "98.9", "99.9"]
    watched.exchange.trades = [watched.trade(price, 0) for price in burst]
    watched.gaps.inspect_all(watched.feed)
    await watched.inspected()
    assert watched.fired == [(1, D("98.9"))], "what follows the price knows not which of them it has seen"


# Where trades do not reach back: minutes


def minutes(watched: Watched, *prices: tuple[object, object, object]) -> list[Candle]:
    """(high, low, close) of whole minutes, the first of them the one in which the test's time begins."""
    first = instant(watched.began_ms // 60_000 * 60_000)
    return [
        Candle(start=first + number * timedelta(minutes=1), high=D(str(high)), low=D(str(low)), close=D(str(close)))
        for number, (high, low, close) in enumerate(prices)
    ]


async def judged_by_minutes(watched: Watched, *prices: tuple[object, object, object]) -> None:
    watched.exchange.trades, watched.exchange.candles = None, minutes(watched, *prices)
    watched.exchange.last = watched.exchange.candles[-1].close
    watched.gaps.inspect_all(watched.feed)
    await watched.inspected()


async def test_a_trailing_stop_has_followed_the_highs_of_the_minutes(watched: Watched) -> None:
    level = watched.arm(1, LevelKind.TRAILING_STOP, at_s=-600, distance_pct=D(1), extreme=D(100))
    await judged_by_minutes(watched, (110, "99.5", "109.5"))
    assert watched.fired == []
    assert watched.extreme(level) == 110


@pytest.mark.parametrize(
    ("kind", "exits", "told", "fires"),
    [
        ("trailing_stop", {"extreme": D(100)}, [(110, 100, "109.5"), (109, 108, 109)], "108.9"),  # a later minute's low
        ("trailing_stop", {"extreme": D(100)}, [(110, 100, "108.5"), (109, "108.95", 109)], "108.9"),  # its last price
        ("trailing_stop", {"extreme": D(100)}, [(110, 98, 109)], "99"),  # by what it had been before
        ("trailing_stop", {"activation_price": D(105)}, [(110, 90, 109)], None),  # the low may have come first
        ("trailing_stop", {"activation_price": D(105)}, [(110, 100, 109.5), (109, 108, 109)], "108.9"),
        ("trailing_stop", {"activation_price": D(105)}, [(104, 90, 100), (103, 80, 100)], None),  # it sleeps
        ("break_even", {"activation_price": D(105), "price": D(101)}, [(106, 100, 104)], None),
        ("break_even", {"activation_price": D(105), "price": D(101)}, [(106, 100, 104), (104, 101, 102)], "101"),
    ],
)  # fmt: skip
async def test_of_minutes_only_what_came_surely_afterwards_fires(
    watched: Watched, kind: str, exits: dict[str, Any], told: list[tuple[object, object, object]], fires: str | None
) -> None:
    if kind == "trailing_stop":
        exits = {"distance_pct": D(1), **exits}
    watched.arm(1, LevelKind(kind), at_s=-600, **exits)
    await judged_by_minutes(watched, *told)
    assert watched.fired == ([] if fires is None else [(1, D(fires))])


async def test_a_stop_and_a_target_in_one_minute_fire_the_stop(watched: Watched) -> None:
    watched.arm(1, LevelKind.TAKE_PROFIT, at_s=-600, price=D(102))
    watched.arm(2, LevelKind.STOP_LOSS, at_s=-600, price=D(98))
    await judged_by_minutes(watched, (103, 97, 100))
    assert watched.fired == [(2, D(98)), (1, D(102))], "the watcher takes the target out of the book"


async def test_a_stop_that_was_judged_until_the_middle_of_a_minute_is_judged_by_the_whole_of_it(
    watched: Watched,
) -> None:
    """Bybit lists the last thousand trades: less than a second of a crash. What it had seen of the minute before did
    not fire it, so what would fire it came afterwards.
    """
    watched.arm(1, LevelKind.STOP_LOSS, at_s=-600, price=D(99))
    watched.arm(2, LevelKind.TRAILING_STOP, at_s=-600, distance=D(5), extreme=D(104))
    watched.arm(3, LevelKind.STOP_LOSS, at_s=0, price=D("99.5"))
    watched.hear(100, 0)
    watched.feed.begin_gap()
    await judged_by_minutes(watched, (104, 98, 100))
    assert watched.fired == [(1, D(99))]
