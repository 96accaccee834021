"""A fire is sent once: whatever fails after the send, and whoever sent it a moment before."""

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.errors import OutcomeUnknown, Transient
from app.flows import protect
from app.flows.orders import closing
from app.resources import Connected
from app.store.levels import Armed
from app.venues.base import NewOrder, OrderReport, Prepared, Traits
from tests.support.house import House, eventually
from tests.support.levels import all_armed
from tests.workers.support import Broken
from workers.fires import ASK_TRIES, fire

D = Decimal
ASKED = {"bybit": ["/v5/order/realtime", "/v5/order/history"], "binance": ["/fapi/v1/order"]}  # about one order
STOP = {"stop_loss": {"pct": 1}}
TARGET = {"stop_loss": {"pct": 5}, "take_profit": [{"pct": "0.5", "fraction": "0.4"}]}
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}}


@pytest.fixture
def house(each_house: House) -> House:
    """Each test runs once for each venue."""
    return each_house


async def opened(house: House, kind: str, **exits: object) -> tuple[Connected, Armed]:
    """A long whose level of this kind is about to be crossed, at a venue that takes the id of an ended order again."""
    await house.alert(**LONG, **exits)
    connected = await house.resources.venues.of(house.account_id)
    connected.venue.traits = Traits(attaches_stops=True, refuses_used_ids=False, sets_margin_mode=False)
    [one] = [one for one in await all_armed(house.resources.pool) if one.level.kind == kind]
    return connected, one


async def test_a_record_that_fails_does_not_send_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    pool, house.resources.pool = house.resources.pool, Broken()
    firing = asyncio.create_task(fire(house.resources, connected, one, D("59300"), None, inherited_at=None))

    async def failed() -> bool:
        return "fire not recorded yet" in caplog.text

    await eventually(failed, what="a record that failed")
    assert len(await house.sent()) == 2, "the close needs no database"
    house.resources.pool = pool
    await firing
    assert len(await house.sent()) == 2
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_an_inherited_stop_that_was_sent_before_is_not_sent_again(house: House) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    await connected.venue.place(closing(one, datetime.now(UTC)))
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=time.monotonic())
    assert len(await house.sent()) == 2, "one opening, one close"
    assert (await house.last_position()).close_reason == "stop_loss"
    [level] = await house.rows("SELECT status FROM levels")
    assert level["status"] == "done"


async def test_an_inherited_stop_that_nobody_sent_is_sent(house: House) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=time.monotonic())
    assert len(await house.sent()) == 2
    assert await house.held() == ("flat", "0")


async def test_an_inherited_target_is_not_closed_twice_though_the_first_close_shows_late(house: House) -> None:
    """One empty answer is no proof: a part of the position that was closed already would be closed once more."""
    connected, one = await opened(house, "take_profit", **TARGET)
    await connected.venue.place(closing(one, datetime.now(UTC)))
    await house.fault("late_visible", ms=700)
    await fire(house.resources, connected, one, D("60300"), None, inherited_at=time.monotonic())
    assert len(await house.sent()) == 2
    assert await house.held() == ("long", "0.006")


async def test_an_inherited_target_that_nobody_can_have_sent_any_more_is_sent(house: House) -> None:
    connected, one = await opened(house, "take_profit", **TARGET)
    await fire(house.resources, connected, one, D("60300"), None, inherited_at=time.monotonic() - 60)
    assert len(await house.sent()) == 2
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.006")


async def test_an_inherited_stop_leaves_although_the_venue_answers_no_question(house: House) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    for path in ASKED[house.venue]:
        await house.fault("http_status", status=503, path=path, times=ASK_TRIES)
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=time.monotonic())
    assert await house.held() == ("flat", "0")


async def test_a_level_of_our_own_is_sent_before_anything_is_asked(house: House) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    before = len((await house.ledger())["requests"])
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=None)
    assert (await house.ledger())["requests"][before] == (await house.sent())[1]


async def test_an_inherited_target_that_changed_during_the_wait_closes_what_it_stands_for_now(house: House) -> None:
    connected, one = await opened(house, "take_profit", **TARGET)
    await house.alert(symbol="BTCUSDT", action="reduce", size={"base": "0.007"})
    [now] = [other for other in await all_armed(house.resources.pool) if other.level.id == one.level.id]
    assert now.close_qty < one.close_qty
    before = len(await house.sent())
    await fire(house.resources, connected, one, D("60300"), None, inherited_at=time.monotonic() - 60)
    assert len(await house.sent()) == before + 1
    position = await house.position() or await house.last_position()
    assert position.qty == D("0.003") - now.close_qty


async def test_an_inherited_target_that_was_moved_away_during_the_wait_is_not_sent(house: House) -> None:
    connected, one = await opened(house, "take_profit", **TARGET)
    await house.alert(symbol="BTCUSDT", action="set_exits", take_profit=[{"pct": "0.8", "fraction": "0.4"}])
    before = len(await house.sent())
    sent = await fire(house.resources, connected, one, D("60300"), None, inherited_at=time.monotonic() - 60)
    assert (sent, len(await house.sent())) == (False, before)


async def test_an_inherited_target_that_is_armed_no_more_is_not_sent(house: House) -> None:
    connected, one = await opened(house, "take_profit", **TARGET)
    await house.alert(symbol="BTCUSDT", action="close")
    before = len(await house.sent())
    await fire(house.resources, connected, one, D("60300"), None, inherited_at=time.monotonic() - 60)
    assert len(await house.sent()) == before


async def test_the_answer_to_a_second_sending_says_nothing_about_the_first(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    await connected.venue.place(closing(one, datetime.now(UTC)))
    place, asked = connected.venue.place, connected.venue.order

    async def refused(order: NewOrder) -> str:
        raise Transient("connection refused")

    async def not_yet(symbol: str, client_order_id: str) -> OrderReport | None:
        monkeypatch.setattr(connected.venue, "order", asked)
        return None

    monkeypatch.setattr(connected.venue, "place", refused)
    monkeypatch.setattr(connected.venue, "order", not_yet)
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=time.monotonic())
    monkeypatch.setattr(connected.venue, "place", place)
    [order] = await house.rows("SELECT status, filled_qty FROM orders WHERE id = $1", one.level.order_id)
    assert (order["status"], order["filled_qty"]) == ("filled", D("0.01"))


@pytest.mark.parametrize(("kind", "exits"), [("stop_loss", STOP), ("take_profit", TARGET)])
async def test_a_close_that_left_from_the_tick_is_sent_once(house: House, kind: str, exits: dict[str, object]) -> None:
    connected, one = await opened(house, kind, **exits)
    close = protect.fire_now(connected, one.symbol, protect.prepared(house.resources, connected, one))
    assert close.placing is not None

    async def sent() -> bool:
        return len(await house.sent()) == 2

    await eventually(sent, what="a close that nobody waits for yet")
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=None, close=close)
    assert await sent()
    [order] = await house.rows("SELECT status, sent_at FROM orders WHERE id = $1", one.level.order_id)
    assert (order["status"], order["sent_at"]) == ("filled", close.sent_at)


async def test_where_the_socket_has_no_room_the_close_goes_over_rest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected, one = await opened(house, "stop_loss", **STOP)
    monkeypatch.setattr(type(connected.venue.entry), "has_room", False)  # type: ignore[attr-defined]
    close = protect.fire_now(connected, one.symbol, protect.prepared(house.resources, connected, one))
    assert close.placing is None
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=None, close=close)
    assert len(await house.sent()) == 2
    assert await house.held() == ("flat", "0")


async def test_a_bug_in_the_send_leaves_its_outcome_unknown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other levels that a tick crosses fire all the same, and the venue is asked what came of this one."""
    connected, one = await opened(house, "stop_loss", **STOP)
    real, ready = connected.venue.place_now, protect.prepared(house.resources, connected, one)

    def sends_and_fails(prepared: Prepared, signed_ms: int) -> None:
        assert real(prepared, signed_ms) is not None
        raise ZeroDivisionError

    monkeypatch.setattr(connected.venue, "place_now", sends_and_fails)
    close = protect.fire_now(connected, one.symbol, ready)
    await fire(house.resources, connected, one, D("59300"), None, inherited_at=None, close=close)
    assert len(await house.sent()) == 2
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_a_target_whose_end_is_not_known_yet_is_not_closed_by_another_order(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange took the close, its answer was lost, and for long it answers no question: a second order would
    close the target's part twice.
    """
    monkeypatch.setattr(protect, "FIRE_PATIENCE_S", 0.2)
    connected, one = await opened(house, "take_profit", **TARGET)
    order, place, may_answer = connected.venue.order, connected.venue.place, asyncio.Event()

    async def unanswered(new: NewOrder) -> str:
        await place(new)
        raise OutcomeUnknown("no answer in time")

    async def silent(symbol: str, client_order_id: str) -> OrderReport | None:
        if not may_answer.is_set():
            raise Transient("no answer")
        return await order(symbol, client_order_id)

    monkeypatch.setattr(connected.venue, "place_now", lambda prepared, signed_at: None)
    monkeypatch.setattr(connected.venue, "place", unanswered)
    monkeypatch.setattr(connected.venue, "order", silent)
    firing = asyncio.create_task(fire(house.resources, connected, one, D("60400"), None, inherited_at=None))
    await asyncio.sleep(1)
    monkeypatch.setattr(connected.venue, "place", place)
    await house.work_book()
    may_answer.set()
    await firing
    await house.work_book()
    assert await house.held() == ("long", "0.006")
    assert len(await house.sent()) == 2
