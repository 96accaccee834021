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
        self.began_ms = int(time.time() * 1000) - 10_000
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
