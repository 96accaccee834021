"""Between two steps: what is opened in parts, retried, resumed or looked at late is opened once and stays protected."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain.position import FillOrigin, PositionStatus
from app.errors import Transient
from app.flows import legs, orders, protect, reconcile
from app.store import levels, positions
from app.venues.base import NewOrder, OrderReport, Standing
from app.venues.gate import Scope
from tests.support.house import API_KEY, House, both_roads, eventually
from tests.support.levels import all_armed
from workers.private import AccountStream

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
LARGE = LONG | {"size": {"base": "0.25"}}
CLOSE = {"symbol": "BTCUSDT", "action": "close"}
LEVERAGE = {"bybit": "/v5/position/set-leverage", "binance": "/fapi/v1/leverage"}
POSITIONS = {"bybit": "/v5/position/list", "binance": "/fapi/v3/positionRisk"}

on_binance = pytest.mark.parametrize("each_house", ["binance"], indirect=True)


class Killed(BaseException):
    """The process ends here: nothing catches it."""


async def resting_stops(house: House) -> list[tuple[str, Decimal]]:
    connected = await house.resources.venues.of(house.account_id)
    return [(stop.side.value, stop.price) for stop in await connected.venue.resting_stops("BTCUSDT")]


async def largest_order(house: House, qty: str) -> None:
    await house._control("POST", "instruments", {"symbol": "BTCUSDT", "max_market_qty": qty})


async def holds(house: House, side: str) -> Decimal:
    return D((await house.held(side=side))[1])


async def opened(house: House) -> list[str]:
    found = await house.rows("SELECT status FROM orders WHERE NOT reduce_only ORDER BY attempt")
    return [row["status"] for row in found]


def after_order(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Awaitable[None]]) -> None:
    """Have something happen when the end of the opening order of this number has just become known."""
    resolve, seen = orders.resolve, iter(range(1, 100))

    async def resolved(*args: Any, **options: Any) -> Any:
        found = await resolve(*args, **options)
        if not found.reduce_only and next(seen) == number:
            await act()
        return found

    monkeypatch.setattr(orders, "resolve", resolved)


# Age


async def test_nothing_is_opened_past_its_age_while_leverage_is_set(each_house: House) -> None:
    await each_house.fault("delay", path=LEVERAGE[each_house.venue], ms=1300)
    outcome = await each_house.alert(**LONG, leverage=7, max_age_s=1)
    assert (outcome["status"], outcome["code"]) == ("expired", "too_old"), outcome
    assert await each_house.sent() == []


async def test_nothing_is_opened_past_its_age_while_the_exchange_is_asked(each_house: House) -> None:
    await each_house.fault("delay", path=POSITIONS[each_house.venue], ms=1300)
    outcome = await each_house.alert(**LONG, max_age_s=1)
    assert (outcome["status"], outcome["code"]) == ("expired", "too_old"), outcome
    assert await each_house.sent() == []


# Several orders


@pytest.mark.parametrize("adds", [False, True])
async def test_an_order_that_is_called_filled_without_its_fills_is_not_followed_by_another(
    each_house: House, monkeypatch: pytest.MonkeyPatch, adds: bool
) -> None:
    """What was not counted is not proven to be missing: nothing is sent again, and nothing is called refused."""
    house = each_house
    if adds:
        await house.alert(**LONG, id="first")
    monkeypatch.setattr(legs, "PATIENCE_S", 0.3)
    connected = await house.resources.venues.of(house.account_id)
    order, place, sends = connected.venue.order, connected.venue.place, iter(range(1, 100))

    async def without_quantity(*args: Any) -> OrderReport | None:
        report: OrderReport | None = await order(*args)
        return None if report is None else msgspec.structs.replace(report, filled_qty=D(0), avg_price=None)

    async def twice_at_most(new: NewOrder) -> str:
        if next(sends) > 2:
            raise Killed
        answer: str = await place(new)
        return answer

    monkeypatch.setattr(connected.venue, "order", without_quantity)
    monkeypatch.setattr(connected.venue, "place", twice_at_most)
    receipt = await house.send(LONG | {"action": "add"} if adds else LONG)
    with suppress(Killed):
        await house.work(receipt.alert_id)
    assert await house.held() == ("long", "0.02" if adds else "0.01")
    assert (await house.outcome(receipt.alert_id))["status"] in ("executing", "done")


async def test_a_position_that_ended_between_two_orders_is_not_opened_again(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await largest_order(each_house, "0.1")

    async def ends() -> None:
        await each_house.by_hand("Sell", "0.083")
        await reconcile.all_accounts(each_house.resources, reconcile.Memory())

    after_order(monkeypatch, 1, ends)
    await each_house.alert(**LARGE)
    assert (await each_house.last_position()).status is PositionStatus.CLOSED
    assert await each_house.held() == ("flat", "0")
    assert await opened(each_house) == ["filled"]


async def test_nothing_more_is_opened_after_the_stop_fired_between_two_orders(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop closes no more than the largest order at once; what is left is closed, not added to."""
    house = each_house
    await largest_order(house, "0.1")
    connected = await house.resources.venues.of(house.account_id)

    async def stop_fires() -> None:
        [stop] = [one for one in await all_armed(house.resources.pool) if one.level.kind == "stop_loss"]
        fired = await protect.fire(house.resources, connected, stop, D("59400"), "1")
        await protect.follow_up(house.resources, connected, fired)

    after_order(monkeypatch, 2, stop_fires)
    await house.alert(**LARGE)
    await house.sweep()
    assert await house.held() == ("flat", "0")
    assert await opened(house) == ["filled", "filled"]


async def test_a_large_position_is_closed_without_a_pause_for_each_order(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses are for what failed: an order that filled is followed by the next one at once, however many."""
    monkeypatch.setattr(legs, "SEND_AGAIN_DELAYS_S", ())  # whoever looks for one fails
    await largest_order(each_house, "0.1")
    outcome = await each_house.alert(**LONG | {"size": {"base": "0.8"}})
    assert outcome["status"] == "done", outcome
    outcome = await each_house.alert(**CLOSE)
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("flat", "0")


async def test_killed_between_two_orders_it_goes_on_and_opens_no_more_than_was_asked(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await largest_order(each_house, "0.1")

    async def dies() -> None:
        raise Killed

    after_order(monkeypatch, 1, dies)
    receipt = await each_house.send(LARGE)
    with pytest.raises(Killed):
        await each_house.work(receipt.alert_id)
    await each_house.sweep()
    assert (await each_house.outcome(receipt.alert_id))["code"] == "executed"
    assert await each_house.held() == ("long", "0.25")
    position = await each_house.position()
    assert position is not None
    assert position.qty == D("0.25")
    assert await resting_stops(each_house) == [("long", position.native_stop)]


async def test_killed_after_the_second_order_left_it_is_asked_for_and_not_repeated(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await largest_order(each_house, "0.1")
    place, sends = orders.place, iter(range(1, 100))

    async def crash(*args: Any) -> Any:
        answer = await place(*args)
        if next(sends) == 2:
            raise Killed
        return answer

    monkeypatch.setattr(orders, "place", crash)
    receipt = await each_house.send(LARGE)
    with pytest.raises(Killed):
        await each_house.work(receipt.alert_id)
    assert len(await resting_stops(each_house)) == 1, "the first part is protected before the second leaves"
    await each_house.sweep()
    assert await each_house.held() == ("long", "0.25")
    assert await opened(each_house) == ["filled"] * 3


# Protection


@on_binance
async def test_a_position_that_the_exchange_shows_late_gets_its_stop(each_house: House) -> None:
    """Right after a fill the list of positions may not have it yet: that is not "closed meanwhile"."""
    await each_house.fault("late_visible", path=POSITIONS["binance"], ms=700)
    outcome = await each_house.alert(**LONG)
    assert outcome["status"] == "done", outcome
    assert [side for side, _ in await resting_stops(each_house)] == ["long"]


@on_binance
async def test_a_position_that_is_not_shown_for_long_has_a_stop_of_its_quantity(each_house: House) -> None:
    """A stop of the whole position is not taken without one that is visible; one of the filled quantity is."""
    await each_house._control("POST", "binance", {"position_lag_ms": 20_000})
    outcome = await each_house.alert(**LONG)
    assert outcome["status"] == "done", outcome
    assert [side for side, _ in await resting_stops(each_house)] == ["long"]
    await each_house._control("POST", "binance", {"position_lag_ms": 0})
    outcome = await each_house.alert(**CLOSE)
    assert outcome["status"] == "done", outcome
    assert await resting_stops(each_house) == [], "it does not outlive the position"


@on_binance
async def test_a_position_that_the_exchange_shows_late_is_opened_whole(each_house: House) -> None:
    await largest_order(each_house, "0.1")
    await each_house.fault("late_visible", path=POSITIONS["binance"], ms=700)
    outcome = await each_house.alert(**LARGE)
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("long", "0.25")


@on_binance
async def test_a_filled_order_whose_executions_are_listed_late_is_protected_meanwhile(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange says FILLED and holds the position: its stop does not wait for the list of executions."""
    monkeypatch.setattr(legs, "PATIENCE_S", 0.3)
    await each_house.fault("late_visible", path="/fapi/v1/userTrades", ms=60_000, times=None)
    receipt = await each_house.send(LONG)
    await each_house.work(receipt.alert_id)
    assert await each_house.held() == ("long", "0.01")
    assert [side for side, _ in await resting_stops(each_house)] == ["long"]


async def test_killed_between_the_fill_and_its_stop_the_stop_comes_first(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = protect.secure

    async def dies(*args: object) -> bool:
        raise Killed

    monkeypatch.setattr(protect, "secure", dies)
    receipt = await each_house.send(LONG)
    with pytest.raises(Killed):
        await each_house.work(receipt.alert_id)
    monkeypatch.setattr(protect, "secure", secure)
    await each_house.sweep()
    assert (await each_house.outcome(receipt.alert_id))["code"] == "executed"
    assert [side for side, _ in await resting_stops(each_house)] == ["long"]
    assert len(await each_house.sent()) == 1


@on_binance
async def test_killed_between_the_fill_and_its_stop_the_watcher_places_it(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker lives: what the account's stream tells is enough."""
    house = each_house
    connected = await house.resources.venues.of(house.account_id)
    stream = asyncio.create_task(AccountStream(house.resources, connected, reconcile.Memory()).run())

    async def is_protected() -> bool:
        return [side for side, _ in await resting_stops(house)] == ["long"]

    async def is_known() -> bool:
        return await house.position() is not None

    try:
        await asyncio.sleep(1)  # until it is up and has looked
        real = orders.place

        async def crash(*args: Any) -> Any:
            await real(*args)
            raise Killed

        monkeypatch.setattr(orders, "place", crash)
        receipt = await house.send(LONG)
        with pytest.raises(Killed):
            await house.work(receipt.alert_id)
        await eventually(is_known, what="the stream's fill is settled")
        await eventually(is_protected, what="the stop rests")
    finally:
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)


@both_roads
@pytest.mark.parametrize("fault", ["drop_answer", "drop_request"])
async def test_a_second_order_without_an_answer_is_not_repeated(
    each_house: House, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(orders, "QUERY_LAG", timedelta(seconds=-4))
    await largest_order(each_house, "0.1")
    path = {"bybit": "/v5/order/create", "binance": "/fapi/v1/order"}[each_house.venue]

    async def goes_wrong() -> None:
        await each_house.fault(fault, path=path)

    after_order(monkeypatch, 1, goes_wrong)
    outcome = await each_house.alert(**LARGE)
    assert outcome["code"] == "executed", outcome
    whole = fault == "drop_answer"
    assert await opened(each_house) == (["filled"] * 3 if whole else ["filled", "absent"])
    position = await each_house.position()
    assert position is not None
    assert position.qty == D("0.25" if whole else "0.083")
    assert await holds(each_house, "long") == position.qty
    assert await resting_stops(each_house) == [("long", position.native_stop)]


@both_roads
@on_binance
async def test_an_order_that_turns_up_late_is_protected_at_the_exchange_too(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = each_house
    monkeypatch.setattr(orders, "QUERY_LAG", timedelta(seconds=-4))
    await house.fault("late_visible", ms=60_000, times=None)
    await house.fault("drop_answer", path="/fapi/v1/order")
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "never_arrived", outcome
    await house._control("DELETE", "faults")
    await house.resources.pool.execute("UPDATE orders SET sent_at = sent_at - interval '10 seconds'")
    memory = reconcile.Memory()
    await reconcile.all_accounts(house.resources, memory)
    await house.resources.pool.execute("UPDATE positions SET opened_at = opened_at - interval '10 seconds'")
    await reconcile.all_accounts(house.resources, memory)
    assert [side for side, _ in await resting_stops(house)] == ["long"]
    assert len(await house.sent()) == 1


async def test_a_lost_stop_is_put_back_although_a_hand_added_to_the_position(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    await house.by_hand("Buy", "0.02")
    memory = reconcile.Memory()
    await reconcile.all_accounts(house.resources, memory)
    connected = await house.resources.venues.of(house.account_id)
    position = await house.position()
    assert position is not None
    await connected.venue.set_stop("BTCUSDT", position.side, None, hedge=False)
    await house.resources.pool.execute("UPDATE positions SET opened_at = opened_at - interval '10 seconds'")
    for _ in range(3):
        await reconcile.all_accounts(house.resources, memory)
    assert [side for side, _ in await resting_stops(house)] == ["long"]


# What ended or is not ours


async def test_an_addition_that_did_not_leave_is_not_sent_after_its_position_ended(each_house: House) -> None:
    """Stopped out between two attempts: what it should have been added to is gone."""
    house = each_house
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)
    place, tries = connected.venue.place, iter(range(100))

    async def stopped_out(order: NewOrder) -> str:
        if next(tries) == 0:
            await house.by_hand("Sell", "0.01")
            await reconcile.all_accounts(house.resources, reconcile.Memory())
            raise Transient("connection refused")
        return await place(order)

    connected.venue.place = stopped_out  # type: ignore[method-assign]
    await house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"})
    assert await house.held() == ("flat", "0")


async def test_nothing_is_added_to_what_the_exchange_does_not_hold_any_more(each_house: House) -> None:
    """The native stop or a hand ended it and its fill has not been seen yet: the look beforehand shows it."""
    await each_house.alert(**LONG)
    await each_house.by_hand("Sell", "0.01")
    await each_house.alert(symbol="BTCUSDT", action="add", size={"base": "0.01"})
    assert await each_house.held() == ("flat", "0")


async def test_what_is_too_small_to_be_closed_does_not_hold_up_its_book(each_house: House) -> None:
    """Dust is flagged, not looped over."""
    await each_house.alert(**LONG)
    await each_house._control("POST", "instruments", {"symbol": "BTCUSDT", "min_qty": "0.02"})
    outcome = await each_house.alert(**CLOSE)
    assert outcome["status"] in ("refused", "needs_operator"), outcome


async def test_a_reversal_over_what_a_hand_added_is_refused_as_foreign(each_house: House) -> None:
    await each_house.alert(**LONG)
    await each_house.by_hand("Buy", "0.02")
    outcome = await each_house.alert(**LONG | {"action": "sell"})
    assert (outcome["status"], outcome["code"]) == ("refused", "foreign_position"), outcome
    assert await each_house.held() == ("long", "0.02"), "ours is closed, the hand's is left alone"


async def test_killed_after_an_order_was_withdrawn_it_is_refused_for_the_same_reason(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.by_hand("Sell", "0.05")
    withdraw = orders.withdraw

    async def crash(*args: Any) -> None:
        await withdraw(*args)
        raise Killed

    monkeypatch.setattr(orders, "withdraw", crash)
    receipt = await house.send(LONG)
    with pytest.raises(Killed):
        await house.work(receipt.alert_id)
    await house.sweep()
    assert (await house.outcome(receipt.alert_id))["code"] == "foreign_position"
    assert await house.sent() == []


async def test_a_close_that_a_ban_holds_up_is_not_put_off_until_its_end(each_house: House) -> None:
    """The ban is of one address, or ends sooner: whoever may send takes the close up at once."""
    house = each_house
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)
    connected.gate.ban(Scope.ADDRESS, 3600, "told to stay away")
    receipt = await house.send(CLOSE)
    await house.work(receipt.alert_id)
    [row] = await house.rows(
        "SELECT status, retry_at < now() + interval '1 minute' AS soon FROM instructions WHERE cause_id = $1",
        receipt.alert_id,
    )
    assert (row["status"], row["soon"]) == ("executing", True)


# Hedge mode


async def test_a_fire_closes_the_position_of_its_level(hedge_house: House) -> None:
    house = hedge_house
    await house.alert(**LONG)
    await house.alert(**LONG | {"action": "sell", "size": {"base": "0.02"}})
    long, short = await house.position(side="long"), await house.position(side="short")
    assert long is not None
    connected = await house.resources.venues.of(house.account_id)
    [stop] = await levels.armed(house.resources.pool, long.id)
    for _ in range(2):
        fired = await protect.fire(house.resources, connected, stop, D("59400"), "1")
        await protect.follow_up(house.resources, connected, fired)
    await house.sweep()
    assert await house.held(side="long") == ("flat", "0")
    assert await house.held(side="short") == ("short", "0.02")
    assert await house.position(side="short") == short
    ended = await positions.get(house.resources.pool, long.id)
    assert ended is not None
    assert ended.close_reason == "stop_loss"


async def test_what_a_hand_closed_is_the_side_that_it_closed(hedge_house: House) -> None:
    house = hedge_house
    await house.alert(**LONG)
    await house.alert(**LONG | {"action": "sell"})
    short = await house.position(side="short")
    await house._control(
        "POST", "positions",
        {"api_key": API_KEY, "symbol": "BTCUSDT", "side": "Sell", "qty": "0.01", "reduce_only": True},
    )  # fmt: skip
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    assert await house.position(side="long") is None
    assert await house.position(side="short") == short


async def test_fills_from_the_stream_and_from_questions_come_to_the_same(hedge_house: House) -> None:
    """The watcher settles what the worker asks for at the same time: everything is counted once, for its side."""
    house = hedge_house
    await largest_order(house, "0.1")
    await house.fault("duplicate_events", times=None)
    await house.fault("split_fill", times=None)
    connected = await house.resources.venues.of(house.account_id)
    stream = asyncio.create_task(AccountStream(house.resources, connected, reconcile.Memory()).run())
    try:
        for turn in range(2):
            for action in ("buy", "sell"):
                outcome = await house.alert(**LARGE | {"action": action}, id=f"{action} {turn}")
                assert outcome["status"] == "done", outcome
            for side in ("long", "short"):
                position = await house.position(side=side)
                assert position is not None
                assert position.qty == await holds(house, side)
                assert (side, position.native_stop) in await resting_stops(house)
            outcome = await house.alert(symbol="BTCUSDT", target="flat", id=f"flat {turn}")
            assert outcome["status"] == "done", outcome
            assert await house.held() == ("flat", "0")
    finally:
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)
    assert await house.rows("SELECT 1 FROM events WHERE kind IN ('foreign_fill', 'fill_exceeds_position')") == []
    assert await house.rows("SELECT 1 FROM positions WHERE status <> 'closed'") == []


async def test_opening_one_side_leaves_the_leverage_of_the_other_alone(hedge_house: House) -> None:
    """Leverage is of both sides at once: changing it moves the liquidation price of what is held."""
    house = hedge_house
    await house.alert(**LONG, leverage=5)
    await house.alert(**LONG | {"action": "sell"}, leverage=50)
    [long] = [row for row in (await house.ledger())["positions"] if row["side"] == "long"]
    assert long["leverage"] == "5"


async def test_a_native_stop_ends_the_position_of_its_side(hedge_house: House) -> None:
    house = hedge_house
    await house.alert(**LONG)
    await house.alert(**LONG | {"action": "sell", "size": {"base": "0.02"}})
    short = await house.position(side="short")
    long = await house.position(side="long")
    assert long is not None
    assert long.native_stop is not None
    await house.price(long.native_stop)
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    ended = await positions.get(house.resources.pool, long.id)
    assert ended is not None
    assert (ended.status, ended.close_reason) == (PositionStatus.CLOSED, "native_stop")
    assert await house.position(side="short") == short
    assert await house.held(side="short") == ("short", "0.02")


async def test_a_liquidation_ends_the_position_of_its_side(hedge_house: House) -> None:
    house = hedge_house
    await house.alert(**LONG)
    await house.alert(**LONG | {"action": "sell", "size": {"base": "0.02"}})
    long = await house.position(side="long")
    await house._control("POST", "liquidate", {"symbol": "BTCUSDT", "side": "short", "api_key": API_KEY})
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    assert await house.position(side="short") is None
    [ended] = await house.rows("SELECT side, close_reason FROM positions WHERE status = 'closed'")
    assert (ended["side"], ended["close_reason"]) == ("short", "liquidated")
    assert await house.position(side="long") == long


@pytest.mark.parametrize("wish", [{"target": "long"}, {"action": "reverse"}])
async def test_a_target_whose_side_another_strategy_holds_still_closes_what_is_unwanted(
    hedge_house: House, wish: dict[str, str]
) -> None:
    house = hedge_house
    await house.add_strategy("other")
    receipt = await house.send(LONG, strategy="other")
    await house.work(receipt.alert_id)
    await house.alert(**LONG | {"action": "sell"})
    outcome = await house.alert(symbol="BTCUSDT", **wish, size={"base": "0.01"}, stop_loss={"pct": 1})
    assert (outcome["status"], outcome["code"]) == ("refused", "other_strategy"), outcome
    assert await house.held(side="short") == ("flat", "0"), "the sender no longer wants it"
    assert await house.held(side="long") == ("long", "0.01"), "the other strategy's is left alone"


async def test_what_a_coarser_step_leaves_is_closed_but_for_the_dust(each_house: House) -> None:
    """The exchange changed the step while the position was held: what is no multiple of it is refused."""
    house = each_house
    await house.alert(**LONG | {"size": {"base": "0.025"}})
    await house._control("POST", "instruments", {"symbol": "BTCUSDT", "qty_step": "0.01", "min_qty": "0.01"})
    outcome = await house.alert(**CLOSE)
    assert (outcome["status"], outcome["code"]) == ("needs_operator", "size_below_minimum"), outcome
    assert await house.held() == ("long", "0.005")


async def test_of_less_than_we_think_the_rest_is_closed(hedge_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand took a part off and no fill tells of it: Binance refuses to close more than a side holds."""
    house = hedge_house
    await house.alert(**LONG)
    venue = (await house.resources.venues.of(house.account_id)).venue
    fills = venue.fills

    async def without_the_hands(symbol: str, **options: Any) -> Any:
        return [fill for fill in await fills(symbol, **options) if fill.origin is FillOrigin.ORDER]

    monkeypatch.setattr(venue, "fills", without_the_hands)
    await house._control(
        "POST", "positions",
        {"api_key": API_KEY, "symbol": "BTCUSDT", "side": "Sell", "qty": "0.004", "reduce_only": True},
    )  # fmt: skip
    assert await holds(house, "long") == D("0.006")
    receipt = await house.send(CLOSE)
    await house.work(receipt.alert_id)
    assert await holds(house, "long") == 0


async def test_a_list_that_lags_makes_one_order_of_a_close_smaller_and_not_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a refusal the exchange is asked how much it holds, and shows what it held before an addition."""
    await house.alert(**LONG)
    await house.alert(symbol="BTCUSDT.P", action="add", size={"base": "0.5"})
    venue = (await house.resources.venues.of(house.account_id)).venue
    look = venue.standing

    async def late(symbol: str) -> Standing:
        standing = await look(symbol)
        holdings = tuple(msgspec.structs.replace(one, qty=min(one.qty, D("0.01"))) for one in standing.holdings)
        return msgspec.structs.replace(standing, holdings=holdings)

    monkeypatch.setattr(venue, "standing", late)
    await house.fault("ret_code", code=110007, msg="ab not enough for new order", path="/v5/order/create")
    receipt = await house.send(CLOSE)
    await house.work(receipt.alert_id)
    assert await house.held() == ("flat", "0")
    sold = [one["filled_qty"] for one in (await house.ledger())["orders"] if one["side"] == "Sell"]
    assert [qty for qty in sold if qty != "0"] == ["0.01", "0.5"]
