"""Faults 24-32: a close is carried out at least once and never doubled, whatever fires it and whoever dies."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal

import httpx
import pytest

from app.domain.outliers import AGREEING
from tests.chaos.lives import ONE, TRIES, WITHIN_S, Book, Lives, asked_for, life, living
from tests.chaos.support import Chaos, held_there
from tests.support.desk import crossed

pytestmark = pytest.mark.timeout(400)

OPENED_AND_CLOSED = [("Buy", "1"), ("Sell", "1")]


@pytest.fixture(scope="module")
async def lives(chaos: Chaos, request: pytest.FixtureRequest) -> AsyncIterator[Lives]:
    async with living(chaos, asked_for(request), beside=("worker", "worker", "watcher")) as begun:
        yield begun


async def _closes_although_it_dies(book: Book, point: str) -> None:
    await book.opens()
    await book.sound()
    await book.storm()
    await book.dies(point, "close")
    await book.becomes(status="closed", close_reason="signal")
    await book.sound()
    assert await book.traded() == OPENED_AND_CLOSED


@life
async def test_24_a_crash_before_a_close_is_written(book: Book) -> None:
    await _closes_although_it_dies(book, "close.before_commit")


@life
async def test_24_a_crash_before_a_close_is_sent(book: Book) -> None:
    await _closes_although_it_dies(book, "close.before_send")


@life
async def test_24_a_crash_before_the_answer_to_a_close_is_stored(book: Book) -> None:
    await _closes_although_it_dies(book, "close.sent")


@life
async def test_24_a_crash_after_a_close_was_filled(book: Book) -> None:
    await _closes_although_it_dies(book, "close.filled")


@life
async def test_25_a_crash_between_close_and_opening_and_the_reversal_resumes(book: Book) -> None:
    await book.opens()
    await book.sound()
    await book.storm()
    await book.dies("reverse.between", "sell", size={"base": "2"})
    position = await book.becomes(status="open", qty="2")
    assert position["side"] == "short"
    await book.sound(openings=2)
    assert await book.traded() == [*OPENED_AND_CLOSED, ("Sell", "2")]


@life
async def test_25_a_crash_between_close_and_opening_and_the_reversal_ends_flat_as_expired(book: Book) -> None:
    await book.opens()
    await book.sound()
    await book.storm()
    alert = await book.dies("reverse.between", "sell", code="too_old", size=ONE, max_age_s=1)
    assert alert["status"] == "expired"
    await book.sound()
    assert (await held_there(book.desk, book.symbol))[0] == "flat"
    assert await book.traded() == OPENED_AND_CLOSED


@life
async def test_26_a_close_that_fills_in_part_goes_on_until_flat(book: Book) -> None:
    """A price-capped market order fills in part and ends just so."""
    await book.opens(size={"base": "10"})
    await book.order_fault("partial_fill", fraction="0.4", times=2)
    await book.executed("close")
    await book.sound()
    assert await book.traded() == [("Buy", "10"), ("Sell", "4"), ("Sell", "2.4"), ("Sell", "3.6")]
    position = await book.becomes(status="closed", qty="0", qty_opened="10")
    assert position["close_reason"] == "signal"


@life
async def test_27_to_close_what_is_flat_already_is_a_success(book: Book) -> None:
    """A hand was faster, and nobody has told us."""
    await book.opens()
    await book.fault("silent_socket", channel="private", seconds=20)
    hand = {"api_key": book.desk.api_key, "symbol": book.symbol, "side": "Sell", "qty": "1", "reduce_only": True}
    await book.stack.control("POST", "positions", hand)
    alert = await book.ended(await book.alert("close"))
    assert alert["status"] == "done", alert
    await book.sound()
    assert await book.traded() == OPENED_AND_CLOSED
    assert (await book.ended(await book.alert("close")))["outcome"]["code"] == "nothing_to_do"


@life
async def test_28_a_late_close_does_not_touch_a_newer_position(book: Book) -> None:
    """Its worker is stopped when the close is about to leave, and goes on when the book is another's and holds anew."""
    await book.storm()
    turn, worker = 0, None
    while worker is None:
        turn += 1
        await book.opens()
        first = await book.becomes(status="open", qty="1")
        with suppress(ValueError, ProcessLookupError):  # dead at the moment
            book.stack.kill("worker")  # that of `up`, which does not leave one stopped for long
        async with book.chaos.frozen("close.before_send", book.symbol) as reached:
            closing = await book.alert("close")
            stopped = await reached()
            worker = book.chaos.beside_of(stopped)
            if worker is not None:
                await book.ends(closing, "executed")
                await book.opens(size={"base": "3"})
                second = await book.becomes(status="open", qty="3")
                said = worker.lines_with(book.symbol)
                os.kill(stopped, signal.SIGCONT)
                await worker.says_more(book.stack, book.symbol, said, within_s=WITHIN_S)
        await book.ends(closing, "executed")
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await book.stack.post_api(f"/positions/{first['id']}/close", {})
    assert refused.value.response.json()["code"] == "already_closed"
    await book.sound(openings=turn + 1)
    position = await book.becomes(status="open", qty="3")
    assert (position["id"], position["orders"]) == (second["id"], second["orders"])
    assert await book.traded() == [*(OPENED_AND_CLOSED * turn), ("Buy", "3")]


@life
async def test_29_a_crash_between_the_crossing_and_its_close_is_resumed(book: Book) -> None:
    await book.opens()
    await book.sound()
    await book.storm()
    book.arm("fire.before_send")
    await book.price("94.9")
    await book.crashed("fire.before_send")
    await book.becomes(status="closed", close_reason="stop_loss")
    await book.sound()
    assert await book.traded() == OPENED_AND_CLOSED


@life
async def test_29_a_crash_right_after_the_close_of_a_target_was_written_is_asked_about(book: Book) -> None:
    """The next watcher inherits the level, and cannot know that its close has left: the exchange can."""
    for _ in range(TRIES):
        await book.opens(size={"base": "2"}, take_profit=[{"pct": 5, "fraction": 0.5}])
        await book.sound()
        await book.storm()
        book.arm("fire.written")
        await book.price(*["105.1"] * AGREEING, "100")
        await book.becomes(status="open", qty="1")
        await book.sound()
        assert await book.traded() == [("Buy", "2"), ("Sell", "1")]
        if book.chaos.crashes.was_hit("fire.written", book.symbol):
            return
        await book.begin_anew()
    raise AssertionError(f"{TRIES} times a neighbour's crash was faster")


@life
async def test_30_a_level_that_is_crossed_again_and_again_fires_once(book: Book) -> None:
    await book.opens()
    await book.sound()
    await book.order_fault("delay", ms=300)
    await book.price("94.9", "95.2", "94.9", "96", "94.8")
    for price in ("95.5", "94.9", "95.5", "94.9"):
        await book.price(price)
    await book.becomes(status="closed", close_reason="stop_loss")
    await book.sound()
    assert await book.desk.crossings(book.symbol) == [("stop_loss", "94.9")]
    assert await book.traded() == OPENED_AND_CLOSED
    assert len(await book.sent()) == 2


@life
async def test_31_of_a_stop_and_a_target_at_once_the_stop_wins_and_that_is_recorded(book: Book) -> None:
    await book.opens(take_profit={"pct": 5})
    await book.sound()
    await book.price(*["94.9"] * AGREEING, *["105.1"] * AGREEING, "100")
    await book.becomes(status="closed", close_reason="stop_loss")
    assert await book.desk.crossings(book.symbol) == [("stop_loss", "94.9")]
    await book.sound()
    assert await book.traded() == OPENED_AND_CLOSED


@life
async def test_31_of_a_stop_and_a_target_in_one_gap_the_stop_wins_and_that_is_recorded(book: Book) -> None:
    await book.opens(take_profit={"pct": 5})
    await book.sound()
    await book.storm()
    book.chaos.kill_all("watcher")
    await book.price(*["94.9"] * AGREEING, *["105.1"] * AGREEING, "100")
    await book.becomes(status="closed", close_reason="stop_loss")
    await book.sound()
    assert await book.traded() == OPENED_AND_CLOSED
    # A neighbour's crash may take the watcher between the close and its record: then the reason alone tells.
    assert {kind for kind, _ in crossed(await book.becomes(status="closed"))} <= {"stop_loss"}


@life
async def test_32_of_the_native_stop_and_the_watchers_close_the_second_finds_nothing(book: Book) -> None:
    await book.opens()
    await book.sound()
    await book.price("90")
    position = await book.becomes(status="closed", qty="0")
    assert position["close_reason"] in ("native_stop", "stop_loss")
    await book.sound()
    assert await book.traded() == OPENED_AND_CLOSED
    assert sum((Decimal(fill["qty"]) for fill in position["fills"]), Decimal(0)) == 2, "each counted once"
