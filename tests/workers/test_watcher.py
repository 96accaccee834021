"""The watcher against the simulator: levels fire, once, and what is left is protected."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from app.domain.level import TriggerBy
from app.errors import Transient
from app.flows import reconcile
from app.flows.orders import closing
from app.ids import new_id
from app.store import levels, positions
from app.store.db import Pool
from app.venues.base import Trade
from app.venues.binance.venue import BinanceVenue
from app.venues.bybit.venue import BybitVenue
from app.venues.numbers import milliseconds
from tests.support.house import House, eventually
from tests.workers.support import Broken, armed, closed, orders_asked_about, watching
from workers.fires import fire
from workers.markets import Markets
from workers.watcher import Watcher

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


@pytest.fixture
def house(each_house: House) -> House:
    """Each test runs once for each venue."""
    return each_house


async def test_a_stop_loss_fires_at_its_price_and_once(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        await house.price(59500, 59401)
        assert await house.position() is not None
        await house.price("59400", "59390", "59300")
        await closed(house)
    position = await house.last_position()
    assert position.close_reason == "stop_loss"
    orders = await house.sent()
    assert [reduces(request) for request in orders] == [False, True]
    [level] = await house.rows("SELECT * FROM levels")
    assert (level["status"], level["trigger_price"]) == ("done", D("59400"))
    assert level["trigger_trade_id"]


async def test_a_close_has_left_when_its_tick_is_over(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        [one] = watcher.armed.values()
        venue = watcher.markets.connected[one.account_id].venue
        assert isinstance(venue, BybitVenue | BinanceVenue)
        assert venue.entry is not None
        written, write = [], venue.entry._send

        def seen(frame: bytes) -> None:
            written.append(one.client_order_id.encode() in frame)
            write(frame)

        monkeypatch.setattr(venue.entry, "_send", seen)
        watcher.markets.feed(one.account_id).on_price("BTCUSDT", TriggerBy.LAST, D("59400"))
        assert written == [True], "nothing else of this loop has run"
        assert watcher.prepared == {}
        await closed(house)
    assert len(await house.sent()) == 2


async def test_a_ladder_closes_in_parts_and_the_stop_follows(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG, take_profit=[{"pct": "0.5", "fraction": "0.4"}, {"pct": 1, "fraction": "0.6"}])
        await armed(watcher, 3)
        await house.price("60300")

        async def first_part() -> bool:
            position = await house.position()
            return position is not None and position.qty == D("0.006")

        await eventually(first_part)
        await armed(watcher, 2)
        [stop] = await house.rows("SELECT qty, status FROM levels WHERE kind = 'stop_loss'")
        assert (stop["qty"], stop["status"]) == (D("0.006"), "armed")
        await house.price("60600")
        await closed(house)
    position = await house.last_position()
    assert position.close_reason == "take_profit"
    assert position.realized_pnl == D("300") * D("0.004") + D("600") * D("0.006")
    stops = [o for o in (await house.ledger())["orders"] if o["stop_order_type"] and o["status"] == "Untriggered"]
    assert stops == [], "nothing may rest at the exchange after the end"


async def test_a_level_whose_account_could_not_be_reached_at_first_is_inherited_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher before may have sent its close."""
    await house.alert(**LONG)
    connect, failed = Markets.connect, asyncio.Event()

    async def fails_at_first(markets: Markets, account_id: UUID) -> None:
        if not failed.is_set():
            raise Transient("the exchange does not answer")
        await connect(markets, account_id)

    monkeypatch.setattr(Markets, "connect", fails_at_first)
    async with watching(house) as watcher:

        async def loaded() -> bool:
            shard = watcher.shares.of("BTCUSDT")
            return shard is not None and shard.inherited is not None

        await eventually(loaded, what="a look at what is armed")
        assert watcher.armed == {}
        failed.set()
        await watcher._reload()
        [one] = watcher.armed.values()
        before = len((await house.ledger())["requests"])
        watcher.fire(one.level, D("59400"), None)
        await closed(house)
        requests = (await house.ledger())["requests"][before:]
        about_orders = [request["method"] for request in requests if request["path"] == "/fapi/v1/order"]
        assert about_orders[:1] in ([], ["GET"]), "of an order that may have been sent"
        assert about_orders or house.venue == "bybit"
        assert watcher.prepared == {}


async def test_an_inherited_target_that_was_taken_away_and_named_again_fires(house: House) -> None:
    """While it was asked whether the watcher before had sent its close."""
    ladder = [{"pct": "0.5", "fraction": "0.4"}]
    async with watching(house) as watcher:
        await house.alert(**LONG, take_profit=ladder)
        await armed(watcher, 2)
        [target] = [one for one in watcher.armed.values() if one.level.kind == "take_profit"]
        shard = watcher.shares.of("BTCUSDT")
        assert shard is not None
        shard.inherited, shard.taken_at = None, shard.taken_at - 60
        bell, house.resources.bell.on_levels = house.resources.bell.on_levels, None
        await house.resources.pool.execute("UPDATE levels SET status = 'disarmed' WHERE id = $1", target.level.id)
        watcher.fire(target.level, D("60300"), None)

        async def came_to_nothing() -> bool:
            return not watcher.in_flight

        await eventually(came_to_nothing, what="a look at what is armed")
        assert len(await house.sent()) == 1
        house.resources.bell.on_levels = bell
        await house.alert(symbol="BTCUSDT", action="set_exits", take_profit=ladder)
        await armed(watcher, 2)


async def test_what_was_traded_before_a_level_was_armed_does_not_fire_it_though_our_clock_is_behind(
    house: House,
) -> None:
    """A level is armed by our clock, trades are of the exchange's."""
    resources = house.resources
    real, settings = resources.now, resources.settings
    resources.now = lambda: real() - timedelta(seconds=4)
    resources.settings = msgspec.structs.replace(settings, clock_drift_max_ms=60_000)
    try:
        async with watching(house) as watcher:
            await watcher._follow(house.account_id, "BTCUSDT")
            await house.price(59300, 60000)
            await house.alert(**LONG)
            await armed(watcher, 1)

            async def inspected() -> bool:
                return not watcher.gaps.inspections

            await eventually(inspected, what="the look at what was traded since it was armed")
            assert watcher.fired == set()
            await house.price(59300)
            await closed(house)
    finally:
        resources.now, resources.settings = real, settings


def told(house: House, price: str, *, ago_s: float) -> Trade:
    """A trade as the stream tells it."""
    at = house.resources.now() - timedelta(seconds=ago_s)
    return Trade(symbol="BTCUSDT", trade_id=f"at {price}", price=D(price), at_ms=milliseconds(at))


async def test_the_price_from_before_a_position_was_opened_does_not_fire_its_levels(house: House) -> None:
    async with watching(house) as watcher:
        feed = await watcher._follow(house.account_id, "BTCUSDT")
        assert feed is not None
        feed.on_trades([told(house, "59300", ago_s=0)])  # the last that is heard before it is filled at 60,000
        await house.alert(**LONG)
        await armed(watcher, 1)
        assert watcher.fired == set()


async def test_what_a_stream_that_lags_tells_of_the_time_before_a_level_was_armed_does_not_fire_it(
    house: House,
) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        [one] = watcher.armed.values()
        feed = watcher.markets.feed(one.account_id)
        since_s = (house.resources.now() - one.level.armed_at).total_seconds()
        feed.on_trades([told(house, "59300", ago_s=since_s + 0.1)])
        assert watcher.fired == set()
        feed.on_trades([told(house, "59390", ago_s=since_s - 0.01)])
        assert watcher.fired == {one.level.id}
        await closed(house)


async def test_a_stop_that_is_touched_before_its_fill_is_settled_fires(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = positions.insert

    async def touched_meanwhile(*args: Any) -> None:
        await house.price("59300", "60000")
        await begin(*args)

    monkeypatch.setattr(positions, "insert", touched_meanwhile)
    async with watching(house):
        await house.alert(**LONG)
        await closed(house)
    [level] = await house.rows("SELECT trigger_price FROM levels")
    assert level["trigger_price"] == D("59300")


async def test_a_trailing_stop_follows_and_fires(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(
            symbol="BTCUSDT", action="short", size={"base": "0.01"}, stop_loss={"pct": 2},
            trailing={"activate_pct": 1, "distance_pct": "0.5"},
        )  # fmt: skip
        await armed(watcher, 2)
        await house.price(59500, 59800, 59400, 59000, 59290)
        assert await house.position() is not None
        await house.price("59295")
        await closed(house)
    assert (await house.last_position()).close_reason == "trailing_stop"


async def test_an_extreme_that_is_stored_late_is_not_that_of_the_level_as_it_was_changed_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one rides on the price of when it was named: by the old high it would fire at once."""
    save, stored, changed = levels.save_extremes, asyncio.Event(), asyncio.Event()

    async def slowly(pool: Pool, found: Sequence[levels.Extreme]) -> None:
        if found:
            await changed.wait()
            await save(pool, found)
            stored.set()

    monkeypatch.setattr(levels, "save_extremes", slowly)
    async with watching(house) as watcher:
        await house.alert(**LONG, trailing={"distance_pct": 2})
        await armed(watcher, 2)
        await house.price(60600, 60000)
        async with watcher._reloading:
            await house.alert(symbol="BTCUSDT", action="set_exits", trailing={"distance_pct": "0.5"})
            changed.set()
            await stored.wait()
        [level] = await house.rows("SELECT extreme FROM levels WHERE kind = 'trailing_stop'")
        assert level["extreme"] == D(60000)
        await watcher._reload()
        assert watcher.fired == set()


async def test_a_trailing_take_profit_takes_the_profit_when_the_price_falls_back(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(
            **LONG,
            trailing_take_profit={"activate_pct": 1, "callback_pct": 1, "min_factor": "0.2", "decay_pct": 1},
        )
        await armed(watcher, 2)
        # 3.33 % above 60,600 the callback is at its step of 0.24 %, which is 150 of 62,620.
        await house.price(60500, 60600, 60300, 62620, 62480)
        assert await house.position() is not None
        await house.price("62469")
        await closed(house)
    position = await house.last_position()
    assert position.close_reason == "take_profit"
    [level] = await house.rows("SELECT * FROM levels WHERE kind = 'trailing_take_profit'")
    assert (level["status"], level["trigger_price"]) == ("done", D("62469"))


async def test_time_ends_a_position_also_one_that_was_over_before_the_start(house: House) -> None:
    await house.alert(**LONG, time_exit={"after_s": 1})
    position = await house.position()
    assert position is not None
    [level] = await house.rows("SELECT * FROM levels WHERE kind = 'time_exit'")
    assert level["due_at"] - position.opened_at == timedelta(seconds=1)
    async with watching(house):
        await closed(house)
    assert (await house.last_position()).close_reason == "time_exit"
    assert await house.held() == ("flat", "0")
    assert house.resources.now() >= level["due_at"]


async def test_levels_crossed_while_nobody_watched_fire_at_the_start(house: House) -> None:
    await house.alert(**LONG)
    await house.price(59300, 60100)  # through the stop and back, with no watcher alive
    async with watching(house):
        await closed(house)
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_a_fire_that_was_sent_but_not_recorded_is_found(house: House) -> None:
    """A watcher killed between the send and the record: the exchange knows the order, our tables do not."""
    await house.alert(**LONG)
    async with watching(house) as watcher:
        await armed(watcher, 1)
        [one] = watcher.armed.values()
    connected = await house.resources.venues.of(house.account_id)
    await connected.venue.place(closing(one, datetime.now(UTC)))
    async with watching(house), orders_asked_about(house):
        await house.price("59000")
        await closed(house, within_s=30.0)
    assert len([o for o in await house.sent() if o["ret_code"] == 0]) == 2, "one opening, one close"
    assert await house.held() == ("flat", "0")


async def test_a_native_stop_that_fired_alone_ends_the_position(house: House) -> None:
    await house.alert(**LONG)
    async with watching(house):
        pass
    position = await house.position()
    assert position is not None
    assert position.native_stop is not None
    await house.price(position.native_stop - 1)
    assert await house.held() == ("flat", "0"), "the exchange's own stop acted while we were down"
    async with watching(house), orders_asked_about(house):
        # Where the level was judged before the stop's fill was heard of, its close is only proven not to have been sent
        # by the watcher before once the receive window is over.
        await closed(house, within_s=30.0)
    assert (await house.last_position()).close_reason in ("native_stop", "stop_loss")
    fills = await house.rows("SELECT origin FROM fills ORDER BY filled_at")
    assert [f["origin"] for f in fills] == ["order", "native_stop"]


async def test_a_crossed_level_that_was_left_half_way_is_taken_up(house: House) -> None:
    """A watcher that died after it recorded the crossing, its order never arrived: somebody else closes the rest."""
    await house.alert(**LONG)
    [level] = await house.rows("SELECT id, order_id FROM levels")
    await house.resources.pool.execute("UPDATE levels SET status = 'triggered' WHERE id = $1", level["id"])
    await house.resources.pool.execute(
        "UPDATE orders SET status = 'absent', sent_at = now(), answered_at = now() WHERE id = $1", level["order_id"]
    )
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    await house.sweep()
    assert (await house.last_position()).close_reason == "stop_loss"
    assert await house.held() == ("flat", "0")


async def test_a_restart_does_not_judge_a_trailing_stop_by_what_came_before(house: House) -> None:
    """Prices from before its best one are in the extreme already: they fire nothing afterwards."""
    async with watching(house) as watcher:
        await house.alert(
            symbol="BTCUSDT",
            action="buy",
            size={"base": "0.01"},
            stop_loss={"pct": 5},
            trailing={"distance_pct": "0.5"},
        )
        await armed(watcher, 2)
        await house.price(60500, 61000, 62000)

        async def stored() -> bool:
            rows = await house.rows("SELECT extreme, extreme_at FROM levels WHERE kind = 'trailing_stop'")
            return rows[0]["extreme"] == D("62000") and rows[0]["extreme_at"] is not None

        await eventually(stored, what="the extreme in the table")
    async with watching(house) as watcher:
        await armed(watcher, 2)
        await house.price(61800)
        await judged(watcher, D(61800))
        assert await house.position() is not None
        await house.price(61690)
        await closed(house)
    assert (await house.last_position()).close_reason == "trailing_stop"


def reduces(request: dict[str, Any]) -> bool:
    """Whether an order request is reduce-only; one venue's is JSON, the other's a form."""
    body = request["body"]
    return body["reduceOnly"] is True if isinstance(body, dict) else "reduceOnly=true" in str(request)


async def mark(house: House, price: str, *, last: str) -> None:
    """A trade, and the mark price that the exchange holds while it is the last."""
    body = {"symbol": "BTCUSDT", "price": last, "mark": price}
    assert (await house.control.post("/control/price", json=body)).status_code == 200


async def judged(watcher: Watcher, price: Decimal) -> None:
    """The trade at this price has been judged."""
    [feed] = watcher.feeds.values()

    async def check() -> bool:
        return feed.prices[TriggerBy.LAST].get("BTCUSDT", (D(0), 0))[0] == price

    await eventually(check, what="the tick")


async def test_an_outage_of_the_database_during_a_fire_loses_nothing(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        pool, house.resources.pool = house.resources.pool, Broken()
        await house.price("59300")

        async def sent() -> bool:
            return len(await house.sent()) == 2

        await eventually(sent, what="the close: it needs no database")
        house.resources.pool = pool
        await house.price("60000")
        await closed(house)
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_a_crossing_while_the_lease_was_in_doubt_is_found_afterwards(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        watcher.shares.until = 0.0  # the next renewal comes in a moment
        await house.price("59300", "60100")
        await closed(house)
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_a_stop_closes_also_what_was_added_a_moment_before(house: House) -> None:
    """The watcher had not heard of the addition when the old quantity's stop was crossed."""
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        [old] = watcher.armed.values()
    await house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"})
    connected = await house.resources.venues.of(house.account_id)
    await fire(house.resources, connected, old, D("59300"), None, inherited_at=None)
    await house.sweep()
    assert await house.held() == ("flat", "0")
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_a_crossing_before_the_watcher_heard_of_the_level_is_found(house: House) -> None:
    async with watching(house) as watcher:
        await watcher._follow(house.account_id, "BTCUSDT")
        await eventually(lambda: _heard(house, watcher, 60000), what="the stream")
        async with watcher._reloading:  # the ring is slow
            await house.alert(**LONG)
            await house.price("59390")
            await eventually(lambda: _heard(house, watcher, 60010), what="the way back")
        await closed(house)
    [level] = await house.rows("SELECT trigger_price FROM levels")
    assert level["trigger_price"] == D(59390)


async def _heard(house: House, watcher: Watcher, price: int) -> bool:
    await house.price(price)
    return any(feed.prices[TriggerBy.LAST].get("BTCUSDT", (D(0), 0))[0] == price for feed in watcher.feeds.values())


async def test_one_account_that_cannot_be_reached_leaves_the_others_watched(house: House) -> None:
    await house.alert(**LONG)
    await house.resources.pool.execute(
        """INSERT INTO accounts (id, name, venue, environment, credentials)
           VALUES ($1, 'broken', 'bybit', 'custom', 'x')""",
        broken := new_id(),
    )
    await house.resources.pool.execute(
        """INSERT INTO instructions (id, cause_kind, cause_id, account_id, symbol, strategy_id, request)
           VALUES ($1, 'alert', $1, $2, 'BTCUSDT', 'demo', '{}')""",
        new_id(),
        broken,
    )
    async with watching(house) as watcher:
        await armed(watcher, 1)
        await house.price("59300")
        await closed(house)


async def test_an_old_price_says_nothing_about_a_new_level(house: House) -> None:
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        [feed] = watcher.feeds.values()
        feed.prices[TriggerBy.LAST]["BTCUSDT"] = (D("50000"), 1)
        await house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"}, take_profit={"pct": 3})
        await armed(watcher, 2)
        assert await house.position() is not None


async def test_a_level_judged_by_the_mark_price_fires_on_it_and_not_on_the_last(house: House) -> None:
    await house.alert(**LONG)
    await house.resources.pool.execute("UPDATE levels SET trigger_by = 'mark'")
    async with watching(house) as watcher:
        await armed(watcher, 1)
        await mark(house, "60000", last="59390")
        await judged(watcher, D(59390))
        assert watcher.fired == set()
        await mark(house, "59399", last="59500")
        await closed(house)

        async def published() -> bool:
            known = await house.resources.prices.get_mark(f"{house.venue} {house.simulator_url}", "BTCUSDT")
            return known is not None and known.price == D(59399)

        await eventually(published, what="the mark price for whoever asks")
    assert (await house.last_position()).close_reason == "stop_loss"
    [level] = await house.rows("SELECT trigger_price, trigger_trade_id FROM levels")
    assert (level["trigger_price"], level["trigger_trade_id"]) == (D("59399"), None)


async def test_in_hedge_mode_a_stop_closes_its_own_side_alone(hedge_house: House) -> None:
    house = hedge_house
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await house.alert(**LONG | {"action": "short", "stop_loss": {"pct": 3}})
        await armed(watcher, 2)
        await house.price("59390")

        async def closed_long() -> bool:
            return await house.held(side="long") == ("flat", "0") and await house.position(side="long") is None

        await eventually(closed_long, what="the long's close")
        await armed(watcher, 1)
    assert await house.held(side="short") == ("short", "0.01")
    assert await house.position(side="short") is not None


async def test_a_watcher_lets_go_of_a_position_when_it_has_ended(house: House) -> None:
    await house.resources.pool.execute("ALTER TABLE positions ALTER released_at DROP DEFAULT")
    async with watching(house) as watcher:
        for shard in watcher.shares.held.values():
            shard.taken_at -= 60  # whoever watched before has nothing on its way any more
        await house.alert(**LONG)
        await armed(watcher, 1)
        await house.alert(symbol="BTCUSDT", action="close")
        await eventually(lambda: _let_go(house), what="the release")


async def test_a_watcher_that_took_over_a_moment_ago_lets_go_of_nothing(house: House) -> None:
    """The one before it may have a close on its way."""
    await house.resources.pool.execute("ALTER TABLE positions ALTER released_at DROP DEFAULT")
    async with watching(house) as watcher:
        await house.alert(**LONG)
        await armed(watcher, 1)
        await house.alert(symbol="BTCUSDT", action="close")
        await eventually(lambda: _knows_nothing(watcher), what="the end")
        await watcher._reload()
        assert not await _let_go(house)


async def _let_go(house: House) -> bool:
    return (await house.rows("SELECT released_at FROM positions"))[0]["released_at"] is not None


async def _knows_nothing(watcher: Watcher) -> bool:
    return not watcher.armed
