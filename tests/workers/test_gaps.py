"""What nobody judged when it was traded: found afterwards, also when the venue cannot be asked at first."""

import time
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from app.domain.level import Level, TriggerBy
from app.domain.level_book import LevelBook
from app.venues.base import Trade
from tests.support.house import House, eventually
from tests.workers.support import armed, closed, watching
from workers.watcher import Watcher

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}}
STOP = {"stop_loss": {"pct": 1}}
TRADES = {"bybit": "/v5/market/recent-trade", "binance": "/fapi/v1/aggTrades"}
PRICES = {"bybit": "/v5/market/tickers", "binance": "/fapi/v2/ticker/price"}


@pytest.fixture
def house(each_house: House) -> House:
    """Each test runs once for each venue."""
    return each_house


def linked(watcher: Watcher, up: bool) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return all(feed.linked is up for feed in watcher.feeds.values())

    return check


async def test_a_crossing_in_a_gap_is_found_though_the_venue_cannot_be_asked_at_first(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG, **STOP)
        await armed(watcher, 1)
        await house.fault("http_status", status=503, path=TRADES[house.venue], times=2)
        await house.fault("cut_socket", channel="public", seconds=0.5)
        await eventually(linked(watcher, False), what="the loss")
        await house.price("59300", "60100")
        await closed(house)
    assert (await house.last_position()).close_reason == "stop_loss"
    [level] = await house.rows("SELECT trigger_price FROM levels")
    assert level["trigger_price"] == D("59300")


async def test_an_older_price_does_not_fire_a_trailing_stop_that_has_moved_since(house: House) -> None:
    async with watching(house) as watcher:

        async def inspected() -> bool:
            return not watcher.gaps.inspections and all(feed.linked for feed in watcher.feeds.values())

        async def moved() -> bool:
            [feed] = watcher.feeds.values()
            return D(62000) in {level.extreme for level in feed.books[TriggerBy.LAST]["BTCUSDT"].levels()}

        await house.alert(**LONG, stop_loss={"pct": 5}, trailing={"distance_pct": "0.5"})
        await armed(watcher, 2)
        await eventually(inspected, what="the look at what was traded before")
        await house.fault("cut_socket", channel="public", times=None)
        await eventually(linked(watcher, False), what="the loss")
        await house.price(61000, 62000)
        await eventually(moved, what="the price that was asked for")
        await house.control.delete("/control/faults")
        await eventually(inspected, what="the look at what was missed")
        assert watcher.fired == set()
        await house.price(61690)
        await closed(house)
    assert (await house.last_position()).close_reason == "trailing_stop"


@pytest.mark.parametrize("was_there", [True, False])
async def test_a_lone_trade_of_a_gap_counts_where_the_market_was_a_moment_before(house: House, was_there: bool) -> None:
    """Whether it does must not depend on whether somebody was watching then."""
    if was_there:
        await house.price(62000, 61000, 60000)
    async with watching(house) as watcher:

        async def inspected() -> bool:
            return not watcher.gaps.inspections and all(feed.linked for feed in watcher.feeds.values())

        await house.alert(**LONG, stop_loss={"pct": 5}, take_profit=[{"pct": 3}])
        await armed(watcher, 2)
        await eventually(inspected, what="the look at what was traded before")
        await house.fault("cut_socket", channel="public", times=None)
        await eventually(linked(watcher, False), what="the loss")
        await house.price(60100, 62000, 60000)
        await house.control.delete("/control/faults")
        await eventually(inspected, what="the look at what was missed")
        if was_there:
            await closed(house)
            assert (await house.last_position()).close_reason == "take_profit"
        assert len(watcher.fired) == was_there


async def test_a_crossing_in_a_silence_is_found_though_no_price_could_be_asked_for(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG, stop_loss={"pct": 5}, take_profit=[{"pct": 1}])
        await armed(watcher, 2)
        [feed] = watcher.feeds.values()

        async def inspected() -> bool:
            return not watcher.gaps.inspections

        async def heard() -> bool:
            return "BTCUSDT" in feed.judged_ms and await inspected()

        async def in_doubt() -> bool:
            return "BTCUSDT" in feed.doubts and feed.doubts["BTCUSDT"].unanswered

        await eventually(inspected, what="the look at what was traded before")
        await house.price(60010)
        await eventually(heard, what="a first trade")
        await house.fault("silent_socket", channel="public")
        await house.fault("http_status", status=503, path=PRICES[house.venue], times=None)
        await eventually(in_doubt, what="the question for its price")
        await house.price(60700, 60010)
        silence, _ = (await house.control.get("/control/faults")).json()["faults"]
        await house.control.delete(f"/control/faults/{silence['id']}")
        await house.price(60020)
        await closed(house)
    assert (await house.last_position()).close_reason == "take_profit"
    [level] = await house.rows("SELECT trigger_price FROM levels WHERE kind = 'take_profit'")
    assert level["trigger_price"] == D(60700)


async def test_where_the_market_was_in_a_gap_is_known_to_what_is_heard_afterwards(house: House) -> None:
    async with watching(house) as watcher:

        async def inspected() -> bool:
            return not watcher.gaps.inspections and all(feed.linked for feed in watcher.feeds.values())

        await house.alert(**LONG, stop_loss={"pct": 5})
        await armed(watcher, 1)
        await eventually(inspected, what="the look at what was traded before")
        await house.fault("cut_socket", channel="public", times=None)
        await eventually(linked(watcher, False), what="the loss")
        await house.price(61000, 62000, 61000, 60000)
        await house.control.delete("/control/faults")
        await eventually(inspected, what="the look at what was missed")
        [feed] = watcher.feeds.values()
        back = Trade(symbol="BTCUSDT", trade_id="1", price=D(62000), at_ms=time.time_ns() // 1_000_000)
        assert feed.fidelity.counted("BTCUSDT", [back]) == [back]


async def test_a_silent_socket_has_its_prices_asked_for(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG, **STOP)
        await armed(watcher, 1)
        await house.fault("silent_socket", channel="public")
        await house.price("59390")
        await closed(house)
    assert (await house.last_position()).close_reason == "stop_loss"
    [level] = await house.rows("SELECT trigger_trade_id FROM levels")
    assert level["trigger_trade_id"] is None


async def test_arming_many_levels_does_not_look_through_all_of_them_for_each(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the square of their number, with the watcher standing still."""
    looks, all_levels = [], LevelBook.levels

    def counted(book: LevelBook) -> list[Level]:
        looks.append(len(book))
        return all_levels(book)

    monkeypatch.setattr(LevelBook, "levels", counted)
    rungs = [{"pct": 1 + number / 10, "fraction": "0.05"} for number in range(20)]
    async with watching(house) as watcher:
        await house.alert(**LONG | {"size": {"base": "0.1"}}, **STOP, take_profit=rungs)
        await armed(watcher, 21)
    assert len(looks) <= 5
