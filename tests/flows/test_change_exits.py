"""A live position's exits, changed by hand: levels, their orders and the native stop follow, or nothing does."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app.alerts.exits import read_exits
from app.domain.level import Level, LevelKind, LevelStatus
from app.domain.position import Position
from app.errors import Conflict, InvalidInput
from app.flows.change_exits import carry_out, change_exits
from app.ids import new_id
from app.store import inbox, levels
from tests.support.house import House, eventually
from tests.workers.support import armed as watched
from tests.workers.support import closed, watching

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


async def change(house: House, position: Position, exits: Mapping[str, object]) -> UUID | None:
    return await change_exits(house.resources, position.id, read_exits(exits), frozenset(exits), new_id())


async def armed(house: House, position: Position) -> dict[tuple[LevelKind, int], Level]:
    found = await levels.of_position(house.resources.pool, position.id)
    return {(level.kind, level.rung): level for level in found if level.status is LevelStatus.ARMED}


async def resting(house: House) -> list[Decimal]:
    connected = await house.resources.venues.of(house.account_id)
    return [stop.price for stop in await connected.venue.resting_stops("BTCUSDT")]


async def opened(house: House, **more: object) -> Position:
    await house.alert(**LONG | more)
    return await house.last_position()


async def test_a_moved_stop_moves_its_level_its_order_and_the_native_stop(each_house: House) -> None:
    house = each_house
    position = await opened(house)
    before = (await armed(house, position))[LevelKind.STOP_LOSS, 0]
    change_id = await change(house, position, {"stop_loss": {"price": "59700"}})
    after = (await armed(house, position))[LevelKind.STOP_LOSS, 0]
    assert (after.id, after.price) == (before.id, D(59700))
    assert after.order_id != before.order_id, "a closing order is never used for two meanings"
    current = await house.last_position()
    assert position.native_stop is not None
    assert current.native_stop is not None
    assert position.native_stop < current.native_stop < D(59700)
    assert await resting(house) == [current.native_stop]
    [event] = await house.rows("SELECT detail FROM events WHERE kind = 'exits_changed'")
    assert event["detail"]["id"] == str(change_id)


async def test_what_is_not_named_stays_and_null_takes_away(house: House) -> None:
    position = await opened(house, take_profit=[{"pct": 1, "fraction": 0.5}, {"pct": 2, "fraction": 0.5}])
    before = await armed(house, position)
    await change(house, position, {"take_profit": None, "break_even": {"after_pct": 1}})
    after = await armed(house, position)
    assert set(after) == {(LevelKind.STOP_LOSS, 0), (LevelKind.BREAK_EVEN, 0)}
    assert after[LevelKind.STOP_LOSS, 0] == before[LevelKind.STOP_LOSS, 0]
    await change(house, position, {"take_profit": [{"pct": 3}]})
    assert (await armed(house, position))[LevelKind.TAKE_PROFIT, 0].qty == D("0.01")


async def test_a_new_trailing_stop_rides_on_the_price_of_now(house: House) -> None:
    """Below the entry it would otherwise stand above the price, and fire at once."""
    position = await opened(house)
    await house.price("59600")
    await change(house, position, {"trailing": {"distance_pct": "0.5"}})
    trailing = (await armed(house, position))[LevelKind.TRAILING_STOP, 0]
    assert (trailing.extreme, trailing.trigger_price) == (D(59600), D(59302))


@pytest.mark.parametrize(
    ("exits", "code", "field"),
    [
        ({"stop_loss": {"price": "60000"}}, "stop_wrong_side", "stop_loss"),
        ({"take_profit": [{"price": "59990"}]}, "target_wrong_side", "take_profit"),
        ({"stop_loss": None}, "no_stop", "stop_loss"),
        ({"stop_loss": None, "trailing": {"activate_pct": 1, "distance_pct": 1}}, "no_stop", "stop_loss"),
    ],
)
async def test_what_cannot_hold_is_refused_and_changes_nothing(
    house: House, exits: dict[str, object], code: str, field: str
) -> None:
    position = await opened(house)
    before = await armed(house, position)
    with pytest.raises(InvalidInput) as refused:
        await change(house, position, exits)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert await armed(house, position) == before
    assert await house.last_position() == position


async def test_per_cents_count_from_the_entry_and_sides_from_the_price_of_now(house: House) -> None:
    """The price has gained 2 %: a stop above the entry holds, a target of 1 % would fire at once."""
    position = await opened(house)
    await house.price("61200")
    await change(house, position, {"stop_loss": {"price": "60600"}, "break_even": {"after_pct": 1}})
    with pytest.raises(InvalidInput, match="61200"):
        await change(house, position, {"take_profit": [{"pct": 1}]})


async def test_a_ladder_that_has_begun_is_not_replaced(house: House) -> None:
    position = await opened(house, take_profit=[{"pct": 1, "fraction": 0.5}, {"pct": 2, "fraction": 0.5}])
    await house.resources.pool.execute("UPDATE levels SET status = 'done' WHERE kind = 'take_profit' AND rung = 0")
    with pytest.raises(InvalidInput) as refused:
        await change(house, position, {"take_profit": [{"pct": 3}]})
    assert refused.value.code == "ladder_begun"
    await house.price("59900")
    with pytest.raises(InvalidInput) as refused:
        await change(house, position, {"break_even": {"after_target": 1}})
    assert refused.value.code == "stop_wrong_side", "the target was reached, and the price is below the entry again"
    await change(house, position, {"take_profit": None})
    assert set(await armed(house, position)) == {(LevelKind.STOP_LOSS, 0)}


async def test_where_no_stop_is_wanted_none_goes_on_resting(each_house: House) -> None:
    house = each_house
    position = await opened(house)
    await house.resources.pool.execute(
        """UPDATE strategies SET limits = limits || '{"trade_without_stop": true}'::jsonb"""
    )
    await change(house, position, {"stop_loss": None})
    assert await armed(house, position) == {}
    assert await resting(house) == []
    assert (await house.last_position()).native_stop is None


async def test_an_ended_position_and_a_book_at_work_are_conflicts(house: House) -> None:
    position = await opened(house)
    await house.resources.pool.execute("UPDATE books SET holder = $1", house.worker.id)
    with pytest.raises(Conflict) as busy:
        await change(house, position, {"stop_loss": {"pct": 2}})
    assert busy.value.kind == "busy"
    await house.resources.pool.execute("UPDATE books SET holder = NULL")
    await house.alert(symbol="BTCUSDT", action="close")
    with pytest.raises(Conflict) as ended:
        await change(house, position, {"stop_loss": {"pct": 2}})
    assert ended.value.kind == "already_closed"
    assert await change_exits(house.resources, new_id(), read_exits({}), frozenset(), new_id()) is None


async def test_after_its_target_a_stop_waits_at_the_entry_and_fires_there(house: House) -> None:
    position = await opened(
        house, take_profit=[{"pct": 1, "fraction": 0.5}, {"pct": 2, "fraction": 0.5}],
        break_even={"after_target": 1, "offset_pct": "0.1"},
    )  # fmt: skip
    assert (LevelKind.BREAK_EVEN, 0) not in await armed(house, position)
    async with watching(house) as watcher:
        await watched(watcher, 3)
        await house.price("60600")

        async def waits() -> bool:
            return any(one.level.kind is LevelKind.BREAK_EVEN for one in watcher.armed.values())

        await eventually(waits, what="the stop at the entry")
        even = (await armed(house, position))[LevelKind.BREAK_EVEN, 0]
        assert (even.price, even.qty) == (D(60060), D("0.005"))
        await house.price("60060")
        await eventually(lambda: flat(house), what="the close at the entry")
    ended = await house.last_position()
    assert (ended.close_reason, ended.status) == ("break_even", "closed")


async def flat(house: House) -> bool:
    return (await house.last_position()).status == "closed"


async def test_an_alert_changes_exits_in_its_turn(each_house: House) -> None:
    house = each_house
    position = await opened(house, take_profit=[{"pct": 2}])
    outcome = await house.alert(symbol="BTCUSDT", action="set_exits", stop_loss={"price": "59700"}, take_profit=None)
    assert outcome == {"status": "done", "code": "exits_changed", "reason": "changed stop_loss, take_profit"}
    after = await armed(house, position)
    assert {key: level.price for key, level in after.items()} == {(LevelKind.STOP_LOSS, 0): D(59700)}
    current = await house.last_position()
    assert current.native_stop is not None
    assert D(59000) < current.native_stop < D(59700)
    assert len(await house.sent()) == 1, "nothing was traded"


@pytest.mark.parametrize(
    ("exits", "status", "code"),
    [
        ({"stop_loss": {"price": "60000"}}, "refused", "stop_wrong_side"),
        ({"take_profit": [{"price": "59990"}]}, "refused", "target_wrong_side"),
        ({"stop_loss": None}, "refused", "no_stop"),
        ({"break_even": {"after_target": 1}}, "refused", "no_such_target"),
        ({"stop_loss": {"pct": 2}, "time": "2026-01-01T00:00:00Z"}, "expired", "too_old"),
    ],
)
async def test_an_alert_whose_exits_cannot_hold_changes_nothing(
    house: House, exits: dict[str, object], status: str, code: str
) -> None:
    position = await opened(house)
    before = await armed(house, position)
    outcome = await house.alert(symbol="BTCUSDT", action="set_exits", **exits)
    assert (outcome["status"], outcome["code"]) == (status, code)
    assert await armed(house, position) == before


async def test_an_alert_finds_nothing_to_change(house: House) -> None:
    outcome = await house.alert(symbol="BTCUSDT", action="set_exits", stop_loss={"pct": 2})
    assert (outcome["status"], outcome["code"]) == ("done", "nothing_to_do")
    await house.add_strategy("other")
    await opened(house)
    receipt = await house.send({"symbol": "BTCUSDT", "action": "set_exits", "stop_loss": {"pct": 2}}, strategy="other")
    await house.work(receipt.alert_id)
    outcome = await house.outcome(receipt.alert_id)
    assert (outcome["status"], outcome["code"]) == ("refused", "other_strategy")


async def test_an_older_change_of_exits_does_not_undo_a_newer_one(house: House) -> None:
    now = house.resources.now()
    position = await opened(house)
    wish = {"symbol": "BTCUSDT", "action": "set_exits"}
    newer = {**wish, "stop_loss": {"price": "59700"}, "time": now.isoformat()}
    older = {**wish, "stop_loss": {"price": "59500"}, "time": (now - timedelta(seconds=5)).isoformat()}
    assert (await house.alert(**newer))["status"] == "done"
    assert (await house.alert(**older))["code"] == "out_of_order"
    assert (await armed(house, position))[LevelKind.STOP_LOSS, 0].price == D(59700)


async def test_a_change_that_was_interrupted_before_its_end_is_not_made_twice(house: House) -> None:
    """The second time the price has gone on, and the new stop could not be set any more."""
    position = await opened(house)
    receipt = await house.send({"symbol": "BTCUSDT", "action": "set_exits", "stop_loss": {"price": "59700"}})
    [row] = await house.rows("SELECT id FROM instructions WHERE cause_id = $1", receipt.alert_id)
    connected = await house.resources.venues.of(house.account_id)
    await inbox.take(house.resources.pool, house.account_id, "BTCUSDT", house.worker.id)
    row = await house.resources.pool.fetchrow(
        "SELECT *, created_at AS received_at FROM instructions WHERE id = $1", row["id"]
    )
    first = await carry_out(house.resources, connected, inbox.readable(row))
    await house.price("59650")
    assert await carry_out(house.resources, connected, inbox.readable(row)) == first == "changed stop_loss"
    assert (await armed(house, position))[LevelKind.STOP_LOSS, 0].price == D(59700)
    assert len(await house.rows("SELECT FROM events WHERE kind = 'exits_changed'")) == 1


async def test_as_targets_are_hit_the_stop_steps_up(each_house: House) -> None:
    house = each_house
    async with watching(house) as watcher:
        await house.alert(
            **LONG,
            take_profit=[{"pct": 1, "fraction": 0.3}, {"pct": 2, "fraction": 0.3}, {"pct": 3, "fraction": 0.4}],
            stop_steps=[{"after_target": 1, "gain_pct": "0.1"}, {"after_target": 2, "to_target": 1}],
        )
        await watched(watcher, 4)
        for price, stop in (("60600", (D(60060), D("0.007"))), ("61200", (D(60600), D("0.004")))):
            await house.price(price)

            async def stepped(to: tuple[Decimal, Decimal] = stop) -> bool:
                rows = await house.rows("SELECT price, qty FROM levels WHERE kind = 'stop_loss' AND status = 'armed'")
                return [(row["price"], row["qty"]) for row in rows] == [to]

            await eventually(stepped, what=f"the stop at {stop[0]}")
        await house.price("60601", "60600")
        await closed(house)
    position = await house.last_position()
    assert (position.close_reason, await house.held()) == ("stop_loss", ("flat", "0"))
