"""Watchers share the symbols by leases: what one gives back or loses the next one watches, and nothing fires twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from app.domain.level import TriggerBy
from app.domain.shards import LEASES, SHARDS, lease_of
from app.ids import new_id
from app.store import leases, levels
from app.store.levels import Armed
from app.venues.entry import OrderEntry
from tests.support.house import House, eventually
from tests.workers.support import Broken, another, armed, closed, watching
from workers.shares import FORMER, LeaseLost, Shard
from workers.watcher import Watcher

D = Decimal
BTC, ETH = "BTCUSDT", "ETHUSDT"
LONG = {"symbol": BTC, "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
HALF = SHARDS // 2


@pytest.fixture
def house(each_house: House) -> House:
    """Each test runs once for each venue."""
    return each_house


def shards(watcher: Watcher, count: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return len(watcher.shares.held) == count

    return check


def follows(watcher: Watcher, symbol: str) -> Callable[[], Awaitable[bool]]:
    """It has the symbol's levels, and a stream that tells of it."""

    async def check() -> bool:
        return any(one.symbol == symbol for one in watcher.armed.values()) and all(
            feed.linked and symbol in feed.topics for feed in watcher.feeds.values()
        )

    return check


@asynccontextmanager
async def sharing(house: House) -> AsyncIterator[tuple[Watcher, Watcher]]:
    """Two watchers with their halves, the first with that of BTCUSDT."""
    async with watching(house) as one, another(house) as other:
        await eventually(shards(one, HALF), what="what is given back")
        await eventually(shards(other, HALF), what="what is taken")
        yield (one, other) if lease_of(BTC) in one.shares.held else (other, one)


async def test_one_watcher_has_all_symbols(house: House) -> None:
    async with watching(house) as watcher:
        assert watcher.shares.held.keys() == set(LEASES)


async def test_two_watchers_share_the_symbols_and_one_that_leaves_gives_its_own_to_the_other(house: House) -> None:
    async with watching(house) as first:
        async with another(house) as second:
            await eventually(shards(second, HALF), what="half of them")
            assert first.shares.held.keys() | second.shares.held.keys() == set(LEASES)
            assert not first.shares.held.keys() & second.shares.held.keys()
            await second.drain()
            await eventually(shards(first, SHARDS), what="all of them, before the end of the second")
            assert second.shares.held == {}


async def test_a_symbol_is_followed_and_fired_by_its_watcher_alone(house: House) -> None:
    async with sharing(house) as (mine, other):
        await house.alert(**LONG)
        await eventually(follows(mine, BTC), what="its levels")
        assert other.armed == {}
        assert all(BTC not in feed.topics for feed in other.feeds.values())
        await house.price("59390")
        await closed(house)
        assert (len(mine.fired), len(other.fired)) == (1, 0)
    assert (await house.last_position()).close_reason == "stop_loss"
    assert len(await house.sent()) == 2


async def test_levels_go_with_their_shard_and_fire_once(house: House) -> None:
    async with watching(house) as first:
        await house.alert(**LONG, take_profit=[{"pct": "0.5", "fraction": "0.4"}, {"pct": 1, "fraction": "0.6"}])
        await armed(first, 3)
        [feed] = first.feeds.values()
        async with another(house) as second:
            await eventually(shards(first, HALF), what="what is given back")
            if lease_of(BTC) in first.shares.held:
                await first.drain()  # what it has left goes too
            await eventually(follows(second, BTC), what="its levels")
            assert first.armed == {}
            assert BTC not in feed.topics
            assert not feed.levels(BTC)
            assert {one.level.order_id for one in second.armed.values()} == second.shares.held[lease_of(BTC)].inherited
            await house.price("60300")
            await eventually(lambda: holds(house, "0.006"), what="the first part's close")
            await house.price("60600")
            await closed(house)
            assert (len(first.fired), len(second.fired)) == (0, 2)
    assert [request["ret_code"] for request in await house.sent()] == [0, 0, 0], "one opening, two closes"
    position = await house.last_position()
    assert position.realized_pnl == D("300") * D("0.004") + D("600") * D("0.006")


async def holds(house: House, qty: str) -> bool:
    position = await house.position()
    return position is not None and position.qty == D(qty)


async def test_what_was_crossed_while_a_shard_changed_hands_is_found(house: House) -> None:
    async with watching(house) as first:
        await house.alert(**LONG)
        await armed(first, 1)
        await first.drain()
        await eventually(shards(first, 0), what="what is given back")
        await house.price("59300", "60100")  # through the stop and back, with nobody's eyes on it
        async with another(house) as second:
            await closed(house)
            assert (len(first.fired), len(second.fired)) == (0, 1)
    [level] = await house.rows("SELECT trigger_price FROM levels")
    assert level["trigger_price"] == D("59300")


async def test_the_next_watcher_knows_how_far_a_trailing_stop_had_come(house: House) -> None:
    async with watching(house) as first:
        await house.alert(**LONG | {"stop_loss": {"pct": 5}}, trailing={"distance_pct": "0.5"})
        await armed(first, 2)
        await house.price(60500, 61000, 62000)
        await first.drain()
        await eventually(shards(first, 0), what="what is given back")
        await house.price(61800)
        async with another(house) as second:
            await armed(second, 2)

            async def moved() -> bool:
                levels = [level for f in second.feeds.values() for level in f.books[TriggerBy.LAST][BTC].levels()]
                return D(62000) in {level.extreme for level in levels}

            await eventually(moved, what="the extreme of before")
            await house.price(61690)
            await closed(house)
    assert (await house.last_position()).close_reason == "trailing_stop"


async def test_a_shard_with_a_fire_on_its_way_is_not_given_back(house: House) -> None:
    async with watching(house) as first:
        on_its_way = asyncio.create_task(asyncio.Event().wait())
        busy = dict.fromkeys([on_its_way], LEASES[0])
        first.in_flight |= busy  # type: ignore[arg-type]
        async with another(house) as second:
            await eventually(shards(second, HALF), what="half of them")
            assert LEASES[0] in first.shares.held
        on_its_way.cancel()
        first.in_flight.clear()


async def test_what_a_killed_watcher_held_is_taken_when_its_leases_have_run_out(house: House) -> None:
    async with sharing(house) as (mine, other):
        await house.alert(**LONG)
        await eventually(follows(mine, BTC), what="its levels")
        mine.draining = True  # it does nothing more, and says nothing
        mine.shares._renew = mine.shares._balance = _never  # type: ignore[method-assign]
        await house.price("59300", "60100")
        await eventually(shards(other, SHARDS), what="all of them")
        await closed(house)
        assert (len(mine.fired), len(other.fired)) == (0, 1)
        mine.shares.held.clear()


async def _never() -> None:
    await asyncio.Event().wait()


async def test_a_shard_that_is_lost_is_let_go_of_at_once_and_the_others_are_kept(house: House) -> None:
    pool, thief = house.resources.pool, new_id()
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        await pool.execute(
            """UPDATE leases SET holder = $2, token = token + 1, expires_at = clock_timestamp() + interval '1 minute'
                WHERE name = $1""",
            lease_of(BTC),
            thief,
        )
        await armed(watcher, 0)
        assert watcher.shares.held.keys() == set(LEASES) - {lease_of(BTC)}
        await house.price("59300")
        await watcher._reload()
        assert (watcher.armed, watcher.fired) == ({}, set())
        await leases.free(pool, [thief])
        await closed(house)


@pytest.mark.parametrize("sent", [False, True], ids=["before its send", "after its send"])
async def test_a_fire_whose_shard_is_lost_on_its_way_is_left_to_whoever_has_it_next(
    house: House, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    """As after a crash; also where that is the same watcher once more."""
    pool, thief, lease = house.resources.pool, new_id(), lease_of(BTC)

    async def stuck(*args: Any, **options: Any) -> None:
        await asyncio.Event().wait()

    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        with monkeypatch.context() as patched:
            patched.setattr("workers.watcher.fire", stuck)
            if not sent:
                patched.setattr(OrderEntry, "has_room", False)  # else it leaves from the tick
            await house.price("59390")
            await eventually(in_flight(watcher, 1), what="the fire")
            if sent:
                await eventually(lambda: closes(house, 1), what="its close")
            await pool.execute("UPDATE leases SET holder = $2, token = token + 1 WHERE name = $1", lease, thief)
            await eventually(in_flight(watcher, 0), what="its end")
        assert (watcher.armed, watcher.firing) == ({}, Counter())
        await leases.free(pool, [thief])
        await eventually(lambda: ended(house), what="the end of the position")
    assert await closes(house, 1), "one at the exchange"
    assert (await house.last_position()).close_reason == "stop_loss"


def in_flight(watcher: Watcher, count: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return len(watcher.in_flight) == count

    return check


async def ended(house: House) -> bool:
    """Its last order may be looked for yet."""
    return await house.position() is None


async def closes(house: House, count: int) -> bool:
    """So many closes were accepted."""
    return len([request for request in await house.sent() if request["ret_code"] == 0]) == count + 1


async def test_what_was_read_before_a_shard_changed_hands_is_not_armed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had it in between may have fired it."""
    lease = lease_of(BTC)
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        read, standing = levels.armed, levels.standing

        def lose() -> None:
            before = watcher.shares.held.pop(lease)
            watcher._shards_gone([lease])
            watcher.shares.held[lease] = Shard(before.token)

        async def lost_meanwhile(*args: Any) -> list[Armed]:
            found = await read(*args)
            lose()
            return found

        async def lost_behind_the_page(*args: Any) -> AsyncIterator[list[levels.Standing]]:
            async for page in standing(*args):
                yield page
            lose()

        with monkeypatch.context() as patched:
            patched.setattr(levels, "armed", lost_meanwhile)
            patched.setattr(levels, "standing", lost_behind_the_page)
            await watcher._reload()
            assert watcher.armed == {}
            [position] = await house.rows("SELECT id FROM positions")
            await watcher._reload_position(position["id"])
            assert watcher.armed == {}
        assert watcher.shares.held[lease].inherited is None, "all that is armed by now may have been sent"
        await watcher._reload()
        assert {one.level.order_id for one in watcher.armed.values()} == watcher.shares.held[lease].inherited
        await house.price("59390")
        await closed(house)


async def test_a_watcher_whose_leases_are_all_lost_ends(house: House) -> None:
    pool = house.resources.pool
    await leases.free(pool, [house.worker.id])
    watcher = Watcher(house.resources)
    task = asyncio.create_task(watcher.run())
    await eventually(shards(watcher, SHARDS), what="all of them")
    await leases.free(pool, [watcher.id])
    with pytest.raises(ExceptionGroup) as ended:
        await task
    assert ended.group_contains(LeaseLost, match="before they were renewed")


async def test_a_watcher_without_its_database_fires_nothing_when_its_leases_run_out(house: House) -> None:
    await house.alert(**LONG)
    await leases.free(house.resources.pool, [house.worker.id])
    watcher = Watcher(house.resources)
    task = asyncio.create_task(watcher.run())
    await armed(watcher, 1)
    assert watcher.may_fire()
    pool, house.resources.pool = house.resources.pool, Broken()
    try:
        with pytest.raises(ExceptionGroup) as ended:
            await task
    finally:
        house.resources.pool = pool
    assert ended.group_contains(LeaseLost, match="ran out: ")
    assert not watcher.may_fire()


async def test_as_long_as_one_of_the_former_version_watches_everything_nobody_else_does(house: House) -> None:
    pool, former = house.resources.pool, new_id()
    token = await leases.acquire(pool, FORMER, former, ttl_s=600)
    assert token is not None
    async with watching(house) as watcher:
        assert watcher.shares.held == {}
        assert await leases.live(pool, "watcher:") == {}
        await leases.release(pool, FORMER, former, token)
        watcher.shares._wake.set()
        await eventually(shards(watcher, SHARDS), what="all of them")


async def test_three_watchers_come_to_fair_shares(house: House) -> None:
    async with watching(house) as first, another(house) as second, another(house) as third:

        async def fair() -> bool:
            counts = sorted(len(one.shares.held) for one in (first, second, third))
            return counts == [5, 5, 6]

        await eventually(fair, what="fair shares")
        ours = {name: one.id for one in (first, second, third) for name in one.shares.held}
        there = await leases.live(house.resources.pool, "watcher:")
        assert ours == {name: lease.holder for name, lease in there.items()}
