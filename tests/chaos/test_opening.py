"""Faults 11-23: opened at most once, whatever is lost on the way; what was filled is protected, exactly."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from tests.chaos.lives import ALONE, ONE, TRIES, WITHIN_S, Book, Lives, asked_for, life, living
from tests.chaos.support import Chaos, held_there
from tests.support.desk import WORKING, armed

pytestmark = pytest.mark.timeout(400)

APPEARS_AFTER_MS = 30_000


@pytest.fixture(scope="module")
async def lives(chaos: Chaos, request: pytest.FixtureRequest) -> AsyncIterator[Lives]:
    async with living(chaos, asked_for(request), beside=("worker", "worker", "worker")) as begun:
        yield begun


@life
async def test_11_a_crash_before_the_intents_commit_is_swept_up(book: Book) -> None:
    await book.storm()
    await book.dies("execute.begun", "buy", size=ONE)
    await book.sound()
    assert len(await book.sent()) == 1


@life
async def test_12_an_intent_without_an_order_is_carried_out_while_it_is_fresh(book: Book) -> None:
    """The leverage is set first; nothing of the opening has left by then."""
    await book.storm()
    await book.dies("open.before_commit", "buy", size=ONE, leverage=7)
    await book.sound()
    assert len(await book.sent()) == 1


@life
async def test_12_an_intent_without_an_order_expires_when_it_is_not_fresh(book: Book) -> None:
    """The dead worker's claim outlives the alert's age."""
    await book.storm()
    await book.dies("open.before_commit", "buy", code="too_old", size=ONE, leverage=7, max_age_s=1)
    await book.sound(openings=0)
    assert await book.sent() == []


@life
async def test_13_a_crash_just_before_sending_is_proven_to_have_sent_nothing(book: Book) -> None:
    """The order is on disk, so it might have left."""
    await book.storm()
    await book.dies("open.before_send", "buy", code="never_arrived", size=ONE)
    await book.sound(openings=0)
    assert await book.sent() == []


@life
async def test_13_a_crash_between_sending_and_the_answer_is_resolved_by_asking(book: Book) -> None:
    await book.storm()
    await book.order_fault("delay_answer", ms=8000)
    await book.dies("open.before_send", "buy", after_s=1, size=ONE)
    await book.sound()
    assert len(await book.sent()) == 1


@life
async def test_14_a_crash_before_the_answer_is_stored_is_resolved_by_asking(book: Book) -> None:
    await book.storm()
    await book.dies("open.sent", "buy", size=ONE)
    await book.sound()
    assert len(await book.sent()) == 1


@life
async def test_15_after_a_crash_before_the_protection_the_protection_comes_first(book: Book) -> None:
    await book.storm()
    point = "open.filled" if book.venue == "binance" else "open.answered"
    for _ in range(TRIES):
        opening = asyncio.create_task(book.dies(point, "buy", size=ONE))
        await book.held("1")
        addition = await book.ended(await book.alert("add", size=ONE))
        await opening
        if book.turn == 0 and addition["outcome"]["code"] == "executed":
            break
        await book.begin_anew()  # a neighbour's crash came between
    orders = await book.orders()
    stops = [n for n, order in enumerate(orders) if order["trigger_price"] is not None]
    second = [n for n, order in enumerate(orders) if order["trigger_price"] is None][1]
    assert stops[0] < second, orders
    await book.sound(openings=2)
    assert len(await book.sent()) == 2


@life(venues=ALONE)
async def test_16_an_order_that_lives_although_its_answer_timed_out_is_adopted(book: Book) -> None:
    await book.order_fault("drop_answer")
    await book.executed("buy", size=ONE)
    await book.sound()
    assert len(await book.sent()) == 1


@life(venues=ALONE)
async def test_17_an_order_that_never_arrived_is_proven_absent_and_expires(book: Book) -> None:
    await book.order_fault("drop_request")
    alert_id = await book.alert("buy", size=ONE)
    alert = await book.ends(alert_id, "never_arrived")
    assert alert["status"] == "expired"
    assert [order["status"] for order in alert["orders"]] == ["absent"]
    await book.sound(openings=0)
    assert len(await book.sent()) <= 1
    # The book is free again.
    await book.executed("buy", size=ONE)
    await book.sound()


@life(venues=ALONE)
async def test_18_an_order_that_appears_half_a_minute_later_had_no_second_attempt(book: Book) -> None:
    """Nobody tells of it meanwhile: no answer, no query, no socket. What it filled ends protected."""
    if book.venue == "bybit":
        await book.fault("late_visible", ms=APPEARS_AFTER_MS)
    else:
        for path in ("/fapi/v1/order", "/fapi/v1/allOrders", "/fapi/v1/userTrades"):  # what rests is listed elsewhere
            await book.fault("late_visible", ms=APPEARS_AFTER_MS, path=path)
    await book.fault("silent_socket", channel="private", seconds=APPEARS_AFTER_MS / 1000)
    await book.order_fault("drop_answer")
    alert_id = await book.alert("buy", size=ONE)
    await book.held("1")
    book.leave_the_calm()
    await book.becomes(status="open", qty="1", protected_by=["watcher", "exchange"])
    await book.sound()
    assert (await book.ended(alert_id))["status"] in ("expired", "done")
    assert len(await book.sent()) == 1


@life
async def test_19_an_order_that_is_rejected_after_it_was_acknowledged_is_refused_with_the_reason(book: Book) -> None:
    await book.order_fault("reject_async")
    code, words = {
        "bybit": ("venue_refused", "the exchange refused the order: "),
        "binance": ("not_filled", "EXPIRED"),
    }[book.venue]
    alert = await book.ends(await book.alert("buy", size=ONE), code)
    assert alert["status"] == "refused"
    assert words in alert["outcome"]["reason"]
    assert "it gave no reason" not in alert["outcome"]["reason"]
    await book.sound(openings=0)
    assert len(await book.sent()) == 1


@life
async def test_20_what_was_filled_in_part_is_protected_exactly(book: Book) -> None:
    await book.order_fault("partial_fill", fraction="0.4")
    await book.executed("buy", size={"base": "5"})
    position = await book.becomes(status="open", qty="2", protected_by=["watcher", "exchange"])
    assert armed(position) == [("stop_loss", "95", "2")]
    [stop] = await book.desk.resting(book.symbol)
    assert Decimal(stop["qty"]) in (Decimal(2), Decimal(0)), "what is held, or all of it whatever it is"
    await book.sound()


@life
async def test_21_fills_that_come_twice_and_out_of_order_are_counted_once(book: Book) -> None:
    await book.fault("duplicate_events")
    await book.chaos.fault("reorder", seconds=10)
    await book.order_fault("split_fill")
    await book.executed("buy", size={"base": "3"})
    position = await book.becomes(status="open", qty="3", protected_by=["watcher", "exchange"])
    assert len(position["fills"]) == 2
    await book.order_fault("split_fill")
    await book.executed("close")
    position = await book.becomes(status="closed", qty="0", qty_opened="3")
    assert len(position["fills"]) == len({fill["id"] for fill in position["fills"]}) == 4
    await book.sound()


@life
async def test_22_a_native_stop_that_cannot_rest_any_more_leaves_nothing_open(book: Book) -> None:
    """The price has gone through it while the order was on its way."""
    await book.order_fault("delay", ms=700)
    alert_id = await book.alert("buy", size=ONE, stop_loss={"price": "99"})
    await book.stack.eventually(lambda: _is_on_its_way(book), within_s=WITHIN_S, what="the order is on its way")
    await book.price("90")
    alert = await book.ended(alert_id)
    assert alert["outcome"]["code"] in ("executed", "venue_refused", "stop_wrong_side"), alert["outcome"]
    await book.sound(openings=1 if alert["outcome"]["code"] == "executed" else 0)


async def _is_on_its_way(book: Book) -> bool:
    return bool(await book.sent())


@life(venues=("binance",))
async def test_22_a_position_whose_native_stop_is_rejected_is_closed_at_once(book: Book) -> None:
    """At Bybit the stop rides on the order, and a rejection is the order's."""
    await book.fault(
        "ret_code", path="/fapi/v1/algoOrder", code=-2021, msg="Order would immediately trigger.", times=None
    )
    await book.executed("buy", size=ONE)
    position = await book.becomes(status="closed", qty="0")
    assert position["close_reason"] == "unprotected", position["close_reason"]
    await book.sound()
    assert await book.traded() == [("Buy", "1"), ("Sell", "1")]


@life
async def test_23_what_is_below_the_minimum_is_refused(book: Book) -> None:
    alert = await book.ends(await book.alert("buy", size={"quote": "4.5"}), "size_below_minimum")
    assert alert["status"] == "refused"
    assert await book.sent() == []
    await book.sound(openings=0)


@life
async def test_23_dust_is_flagged_and_not_looped_over(book: Book) -> None:
    await book.executed("buy", size=ONE)
    await book.sound()
    await book.stack.control("POST", "instruments", {"symbol": book.symbol, "min_qty": "2"})
    alert = await book.ends(await book.alert("close"), "size_below_minimum")
    assert alert["status"] == "needs_operator"
    sends = len(await book.sent())
    # The book is not stuck behind it, and nothing goes on trying.
    await book.ends(await book.alert("buy", size=ONE), "nothing_to_do")
    await asyncio.sleep(1.5)
    assert len(await book.sent()) == sends
    assert (await held_there(book.desk, book.symbol)) == ("long", Decimal(1))
    assert [order["status"] in WORKING for order in await book.desk.resting(book.symbol)] == [True]
