"""What a watcher tells of each symbol once a second."""

from decimal import Decimal
from uuid import UUID

import pytest

from app.queue import FireLatency
from app.venues.base import Trade
from tests.workers.test_feed import BTC, Followed
from tests.workers.test_sight import Clock
from workers.status import FIRES_MAX, SPAN_S, Status

WATCHER = UUID("01a20086-e47a-7936-b08e-e83c0ae3479c")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in ("workers.status", "workers.feed", "workers.fidelity"):
        monkeypatch.setattr(f"{module}.time", made)
    return made


@pytest.fixture
async def followed(clock: Clock) -> Followed:
    made = Followed()
    made.feed.on_link(True)
    made.feed.follow(BTC)
    return made


def frame(followed: Followed, *prices: str) -> None:
    trades = [Trade(symbol=BTC, price=Decimal(price), at_ms=1, trade_id="t") for price in prices]
    followed.feed.on_trades(trades)


async def test_a_symbol_is_told_with_its_age_its_levels_and_its_ticks(clock: Clock, followed: Followed) -> None:
    status = Status(WATCHER)
    [told] = status.of([followed.feed])
    assert (told.watcher, told.market, told.symbol) == ("0ae3479c", followed.feed.market, BTC)
    assert (told.linked, told.age_ms, told.levels, told.ticks_per_s, told.fires) == (True, None, 0, 0, None)
    followed.stop(1, "99")
    followed.stop(2, "98")
    frame(followed, "100", "100.1", "100.2")
    frame(followed, "100.3")
    clock.now += 2
    [told] = status.of([followed.feed])
    assert (told.age_ms, told.levels, told.ticks_per_s) == (2000, 2, 2.0)
    clock.now += 1
    [told] = status.of([followed.feed])
    assert (told.age_ms, told.ticks_per_s) == (3000, 0)


async def test_fires_are_told_for_a_minute(clock: Clock, followed: Followed) -> None:
    status, market = Status(WATCHER), followed.feed.market
    for latency_ms in range(1, 101):
        status.fired(market, BTC, clock.now - latency_ms / 1000)
    status.fired("another market", BTC, clock.now - 7)
    [told] = status.of([followed.feed])
    assert told.fires == FireLatency(count=100, p50_ms=51.0, p99_ms=100.0)
    clock.now += SPAN_S / 2
    status.fired(market, BTC, clock.now - 0.002)
    clock.now += SPAN_S / 2 + 1
    [told] = status.of([followed.feed])
    assert told.fires == FireLatency(count=1, p50_ms=2.0, p99_ms=2.0)
    clock.now += SPAN_S
    [told] = status.of([followed.feed])
    assert told.fires is None


async def test_a_storm_of_fires_is_told_of_its_last_ones(clock: Clock, followed: Followed) -> None:
    status = Status(WATCHER)
    for _ in range(FIRES_MAX + 5):
        status.fired(followed.feed.market, BTC, clock.now)
    [told] = status.of([followed.feed])
    assert told.fires is not None
    assert told.fires.count == FIRES_MAX


async def test_of_a_symbol_that_is_left_nothing_is_told_and_nothing_is_kept(clock: Clock, followed: Followed) -> None:
    feed = followed.feed
    feed.follow("ETHUSDT")
    followed.stop(1, "99")
    frame(followed, "100")
    feed.forget([BTC])
    assert [told.symbol for told in Status(WATCHER).of([feed])] == ["ETHUSDT"]
    assert not feed.levels(BTC)
    assert BTC not in feed.judged_ms
    frame(followed, "50")  # one that was on its way when the symbol was left
    feed.follow(BTC)
    [told, _] = Status(WATCHER).of([feed])
    assert (told.symbol, told.age_ms, told.levels, told.ticks_per_s) == (BTC, None, 0, 0)
    frame(followed, "100")
    assert feed.judged_ms[BTC] == 1, "what was known of it before does not keep it from counting"
    assert followed.fired == []
