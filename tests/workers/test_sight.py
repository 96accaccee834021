"""What counts as blind: a stream that is gone, a symbol that trades unheard; never a quiet market."""

import time
from decimal import Decimal
from typing import Any

import pytest

from app.domain.level import TriggerBy
from app.store import blind
from tests.support.house import House, eventually
from tests.workers.support import armed, watching
from tests.workers.test_feed import BTC, Followed
from workers import sight
from workers.sight import DEAF, UNHEARD, UNLINKED, Sight

D = Decimal


class Clock:
    """The monotonic clock, as it is wanted."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


class Seen:
    """A linked feed that follows one symbol, heard at 100, and what is seen of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.followed = Followed()
        self.feed = self.followed.feed
        self.renewed: list[str] = []
        self.feed.stream.renew = self.renewed.append  # type: ignore[method-assign, assignment]
        self.feed.on_link(True)
        self.feed.follow(BTC)
        self.followed.trade("100")
        self.sight = Sight(self.feed)

    def asks(self, price: str, *, after_s: float = 1.0) -> None:
        self.clock.now += after_s
        self.feed.on_asked(BTC, TriggerBy.LAST, D(price), self.clock.now)

    def dark(self) -> dict[str, str] | None:
        return self.sight.look()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in ("workers.sight", "workers.feed", "workers.fidelity"):
        monkeypatch.setattr(f"{module}.time", made)
    return made


@pytest.fixture
async def seen(clock: Clock) -> Seen:
    return Seen(clock)


async def test_a_quiet_market_is_not_blind_however_long(seen: Seen) -> None:
    for _ in range(100):
        seen.asks("100")
        assert seen.dark() == {}
    assert seen.renewed == []


async def test_a_symbol_that_was_never_heard_and_does_not_move_is_not_blind(seen: Seen) -> None:
    seen.feed.follow("ETHUSDT")
    assert seen.dark() == {}
    for _ in range(10):
        seen.asks("100")
        seen.feed.on_asked("ETHUSDT", TriggerBy.LAST, D(7), seen.clock.now)
        assert seen.dark() == {}


async def test_a_symbol_that_trades_unheard_is_blind_with_the_second_answer_and_subscribed_anew(seen: Seen) -> None:
    seen.asks("100")
    seen.asks("101")
    assert seen.dark() == {}, "the answer may have overtaken the stream"
    seen.asks("101")
    assert seen.dark() == {BTC: UNHEARD}
    assert seen.renewed == [BTC]
    seen.asks("101.5")
    assert seen.dark() == {BTC: UNHEARD}
    assert seen.renewed == [BTC], "not again at once"


async def test_sight_returns_with_the_first_trade(seen: Seen) -> None:
    seen.asks("101")
    seen.asks("101")
    assert seen.dark() == {BTC: UNHEARD}
    seen.clock.now += 0.1
    seen.followed.trade("101.5", at_ms=2)
    assert seen.dark() == {}
    seen.asks("101.5")
    assert seen.dark() == {}


async def test_sight_returns_when_nothing_happens_any_more(seen: Seen) -> None:
    seen.asks("101")
    seen.asks("101")
    assert seen.dark() == {BTC: UNHEARD}
    for _ in range(2):
        seen.asks("101")
        assert seen.dark() == {BTC: UNHEARD}
    seen.asks("101")
    assert seen.dark() == {}
    seen.asks("101")
    assert seen.dark() == {}
    seen.asks("102")
    seen.asks("102")
    assert seen.dark() == {BTC: UNHEARD}


async def test_as_long_as_it_trades_unheard_it_stays_blind_and_is_subscribed_anew_more_and_more_seldom(
    seen: Seen,
) -> None:
    times = []
    for number in range(100):
        seen.asks(f"{101 + number % 2}")
        before = len(seen.renewed)
        assert number == 0 or seen.dark() == {BTC: UNHEARD}
        if len(seen.renewed) > before:
            times.append(number)
    assert times == [1, 6, 16, 36, 76]


async def test_neither_heard_nor_answered_is_blind(seen: Seen) -> None:
    seen.clock.now += 2.9
    assert seen.dark() == {}
    seen.clock.now += 0.2
    assert seen.dark() == {BTC: DEAF}
    seen.asks("100", after_s=0)
    assert seen.dark() == {}


async def test_a_feed_without_its_link_is_blind_as_a_whole(seen: Seen) -> None:
    seen.feed.on_link(False)
    assert seen.dark() is None, "most links are back at once"
    seen.clock.now += 1.1
    assert seen.dark() == {blind.EVERYTHING: UNLINKED}
    seen.asks("105")
    seen.asks("106")
    seen.feed.on_link(True)
    assert seen.dark() == {}, "what was traded meanwhile is looked at, and was nothing that the new link missed"


async def rows(house: House) -> list[dict[str, Any]]:
    return await house.rows("SELECT market, symbol, why FROM blind ORDER BY symbol")


async def test_a_watcher_says_that_it_is_blind_and_its_successor_that_it_sees(each_house: House) -> None:
    house = each_house
    market = f"{house.venue} {house.simulator_url}"
    long = {"symbol": BTC, "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 5}}

    async def is_dark(symbol: str) -> bool:
        return {(row["market"], row["symbol"]) for row in await rows(house)} == {(market, symbol)}

    async def is_seen() -> bool:
        return not await rows(house)

    async with watching(house) as watcher:
        await house.alert(**long)
        await armed(watcher, 1)
        [feed] = watcher.feeds.values()

        async def is_heard() -> bool:
            await house.price("60001")
            return BTC in feed.heard[TriggerBy.LAST]

        await eventually(is_heard, what="the stream")
        await house.fault("silent_socket", channel="public", symbol=BTC)
        await house.price("60010")
        await eventually(lambda: is_dark(BTC), what="blindness")
        assert await blind.reason(house.resources.pool, market, BTC) == UNHEARD
        assert await blind.reason(house.resources.pool, market, "ETHUSDT") is None
        await house.control.delete("/control/faults")
        await house.price("60011")
        await eventually(is_seen, what="sight")
        await house.fault("cut_socket", channel="public", times=None)
        await eventually(lambda: is_dark(blind.EVERYTHING), what="blindness")
    assert await rows(house), "nobody has seen anything since"
    await house.control.delete("/control/faults")
    async with watching(house):
        await eventually(is_seen, what="sight of the one after")


async def _nothing(*_: object) -> None:
    """Instead of what is told each quarter of a second."""


async def test_a_stale_token_tells_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(house) as watcher:
        await house.alert(symbol=BTC, action="buy", size={"base": "0.01"}, stop_loss={"pct": 5})
        await armed(watcher, 1)
        [feed] = watcher.feeds.values()
        monkeypatch.setattr(watcher.lookout, "tell", _nothing)  # its own token is not stale
        feed.on_link(False)
        feed.link_changed_at -= sight.UNLINKED_S
        tokens = watcher.shares.tokens()
        stale = {lease: token - 1 for lease, token in tokens.items()}
        await sight.Lookout().tell([feed], house.resources.pool, stale)
        assert await rows(house) == []
        await sight.Lookout().tell([feed], house.resources.pool, tokens)
        assert [row["symbol"] for row in await rows(house)] == [blind.EVERYTHING] * len(tokens)
