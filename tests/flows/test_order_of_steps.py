"""What must have happened before what: committed before sent, protected before bare, claimed until finished."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from app.domain.position import CloseReason, Fill, Position, PositionStatus
from app.errors import OutcomeUnknown, Refused, Transient
from app.flows import execute, legs, plan, protect, reconcile, settle
from app.ids import new_id
from app.store import inbox, leases
from app.store.inbox import CauseKind
from app.store.levels import Armed
from app.venues.base import Holding, NewOrder, Standing
from tests.support.house import House
from tests.support.levels import all_armed

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
ADD = {"symbol": "BTCUSDT", "action": "add", "size": {"base": "0.01"}}
CLOSE = {"symbol": "BTCUSDT", "action": "close"}
CREATE = {"bybit": "/v5/order/create", "binance": "/fapi/v1/order"}

on_binance = pytest.mark.parametrize("each_house", ["binance"], indirect=True)


class Killed(BaseException):
    """The process ends here: nothing catches it."""


async def held_position(house: House) -> Position:
    position = await house.position()
    assert position is not None
    return position


async def resting(house: House) -> list[str]:
    """The sides of the native stops at the exchange."""
    connected = await house.resources.venues.of(house.account_id)
    return [stop.side.value for stop in await connected.venue.resting_stops("BTCUSDT")]


async def level(house: House, kind: str) -> Armed:
    [found] = [one for one in await all_armed(house.resources.pool) if one.level.kind == kind]
    return found


async def crossed(house: House, kind: str, price: str) -> None:
    """What a watcher does about a level that this price has crossed."""
    connected = await house.resources.venues.of(house.account_id)
    fired = await protect.fire(house.resources, connected, await level(house, kind), D(price), None)
    await protect.follow_up(house.resources, connected, fired)


# Committed before sent


async def test_no_order_leaves_before_its_row_is_committed(each_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from another connection at the moment at which the order leaves."""
    house = each_house
    await house._control("POST", "instruments", {"symbol": "BTCUSDT", "max_market_qty": "0.1"})
    connected = await house.resources.venues.of(house.account_id)
    place, known = connected.venue.place, []

    async def look_first(order: NewOrder) -> str:
        found = await house.rows("SELECT status FROM orders WHERE client_order_id = $1", order.client_order_id)
        known.append([row["status"] for row in found])
        answer: str = await place(order)
        return answer

    monkeypatch.setattr(connected.venue, "place", look_first)
    for body in (LONG | {"size": {"base": "0.25"}}, ADD, {**LONG, "action": "sell"}, CLOSE):
        assert (await house.alert(**body))["status"] == "done"
    assert known == [["sent"]] * (3 + 1 + 3 + 1 + 1)
    assert await house.held() == ("flat", "0")


async def test_a_fire_leaves_with_an_order_that_was_committed_when_it_was_armed(house: House) -> None:
    await house.alert(**LONG)
    stop = await level(house, "stop_loss")
    await crossed(house, "stop_loss", "59400")
    assert (await house.sent())[-1]["body"]["orderLinkId"] == stop.client_order_id
    assert (await house.sent())[-1]["body"]["reduceOnly"] is True


# Claimed until finished


async def loses_its_claim(house: House) -> None:
    """The worker was away for so long that another has taken its book."""
    pool, other = house.resources.pool, new_id()
    await pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", f"worker:{house.worker.id}")
    await leases.acquire(pool, f"worker:{other}", other, ttl_s=600)
    book, _ = await inbox.take(pool, house.account_id, "BTCUSDT", other)
    assert book is not None


async def test_nothing_is_opened_under_a_lost_claim(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    make = plan.make

    async def away_meanwhile(*args: Any) -> Any:
        made = await make(*args)
        await loses_its_claim(house)
        return made

    monkeypatch.setattr(plan, "make", away_meanwhile)
    receipt = await house.send(LONG)
    await house.work(receipt.alert_id)
    assert await house.rows("SELECT 1 FROM intents") == []
    assert await house.sent() == []


async def test_nothing_is_sent_under_a_lost_claim(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.alert(**LONG)
    real = legs.execute

    async def away_meanwhile(*args: Any) -> Any:
        await loses_its_claim(house)
        return await real(*args)

    monkeypatch.setattr(legs, "execute", away_meanwhile)
    receipt = await house.send(CLOSE)
    await house.work(receipt.alert_id)
    assert len(await house.sent()) == 1, "the close is its successor's"


async def test_a_book_stays_claimed_until_its_instruction_is_finished(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = inbox.finish
    holders: list[UUID | None] = []

    async def look(*args: Any) -> None:
        holders.extend(row["holder"] for row in await house.rows("SELECT holder FROM books"))
        await finish(*args)

    monkeypatch.setattr(inbox, "finish", look)
    await house.alert(**LONG)
    assert holders == [house.worker.id]


async def test_a_reversal_whose_close_did_not_succeed_opens_nothing(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    await house._control("POST", "instruments", {"symbol": "BTCUSDT", "min_qty": "0.02"})
    outcome = await house.alert(**LONG | {"action": "sell", "size": {"base": "0.05"}})
    assert (outcome["status"], outcome["code"]) == ("needs_operator", "size_below_minimum"), outcome
    assert await house.held() == ("long", "0.01")
    [opening] = await house.rows("SELECT id FROM orders WHERE NOT reduce_only")
    assert opening


# Closes


async def test_a_late_close_leaves_the_next_position_alone(house: House) -> None:
    await house.alert(**LONG, id="first")
    first = await held_position(house)
    await house.alert(**CLOSE)
    await house.alert(**LONG, id="second")
    await protect.instruct_close(house.resources, first, CauseKind.MANUAL, new_id(), qty=None)
    await house.work_book()
    second = await held_position(house)
    assert (second.epoch, second.status) == (2, PositionStatus.OPEN)
    assert await house.held() == ("long", "0.01")
    assert await house.rows("SELECT 1 FROM instructions WHERE status IN ('pending', 'executing')") == []


@pytest.mark.parametrize("what", ["price", "account"])
async def test_a_reduction_outlasts_what_the_exchange_refuses_today(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An address that is not allowed, a key that is being renewed: mended tomorrow, and what was asked is done then."""
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def refuses(*args: object, **options: object) -> Any:
        raise Refused("key_refused", "Unmatched IP", venue_code="10010")

    receipt = await house.send({"symbol": "BTCUSDT", "action": "reduce", "size": {"quote": "300"}})
    with monkeypatch.context() as patched:
        if what == "price":
            await house.resources.redis.flushdb()
            patched.setattr(connected.venue, "quote", refuses)
        else:
            patched.setattr(house.resources.venues, "of", refuses)
        await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "executing"
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.sweep()
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"
    assert await house.held() == ("long", "0.005")


async def test_a_close_that_is_refused_again_and_again_is_not_called_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def refuses(order: NewOrder) -> str:
        raise Refused("venue_refused", "try again later")

    receipt = await house.send(CLOSE)
    with monkeypatch.context() as patched:
        patched.setattr(legs, "SEND_AGAIN_DELAYS_S", (0.0,))
        patched.setattr(connected.venue, "place", refuses)
        await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "executing"
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.sweep()
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"
    assert await house.held() == ("flat", "0")


async def test_a_partly_filled_target_closes_its_own_part_and_no_more(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG | {"size": {"base": "0.02"}}, take_profit=[{"pct": 1, "fraction": 0.5}])
    await house.fault("partial_fill", fraction="0.4", path=CREATE[house.venue])
    await crossed(house, "take_profit", "60600")
    await house.sweep()
    assert await house.held() == ("long", "0.01")
    assert (await held_position(house)).qty == D("0.01")


async def test_a_partly_filled_stop_goes_on_until_all_is_closed(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    await house.fault("partial_fill", fraction="0.4", path=CREATE[house.venue])
    await crossed(house, "stop_loss", "59400")
    await house.sweep()
    assert await house.held() == ("flat", "0")
    assert (await house.last_position()).close_reason is CloseReason.STOP_LOSS


# Fills


async def test_an_opening_of_several_fills_is_held_whole(each_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = each_house
    connected = await house.resources.venues.of(house.account_id)
    fills = connected.venue.fills

    async def in_two(*args: Any, **options: Any) -> list[Fill]:
        """As an order book gives them: one execution for each maker that was met."""
        return [
            msgspec.structs.replace(fill, venue_fill_id=f"{fill.venue_fill_id}-{part}", qty=fill.qty / 2, fee=D(0))
            for fill in await fills(*args, **options)
            for part in (1, 2)
        ]

    monkeypatch.setattr(connected.venue, "fills", in_two)
    assert (await house.alert(**LONG))["code"] == "executed"
    assert (await held_position(house)).qty == D("0.01")
    assert (await level(house, "stop_loss")).close_qty == D("0.01")


async def test_fills_position_and_levels_are_one_transaction(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(*args: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(settle, "arm", dies)
        receipt = await house.send(LONG)
        with pytest.raises(Killed):
            await house.work(receipt.alert_id)
    for table in ("fills", "positions", "levels"):
        assert await house.rows(f"SELECT 1 FROM {table}") == [], table
    await house.sweep()
    assert (await held_position(house)).qty == D("0.01")
    assert (await level(house, "stop_loss")).close_qty == D("0.01")


@pytest.mark.parametrize("error", [Transient("503"), OutcomeUnknown("cut")])
async def test_a_failed_read_is_not_flat(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Transient | OutcomeUnknown
) -> None:
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def fails(*args: object) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(connected.venue, "holdings", fails)
        patched.setattr(reconcile.Memory, "lasted", lambda *args: True)
        memory = reconcile.Memory()
        for _ in range(2):
            await reconcile.all_accounts(house.resources, memory)
    assert (await held_position(house)).qty == D("0.01")
    assert (await level(house, "stop_loss")).close_qty == D("0.01")


async def test_what_the_exchange_does_not_list_for_a_moment_is_not_closed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lists lag behind each other."""
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)

    async def nothing() -> list[Holding]:
        return []

    with monkeypatch.context() as patched:
        patched.setattr(connected.venue, "holdings", nothing)
        memory = reconcile.Memory()
        for _ in range(3):
            await reconcile.account(house.resources, house.account_id, memory)
    assert (await held_position(house)).qty == D("0.01")
    assert (await level(house, "stop_loss")).close_qty == D("0.01")


# Protected before bare


async def test_the_stop_moves_without_a_moment_uncovered(each_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one is never taken away first: asked of the exchange before and after each request."""
    house = each_house
    await house.alert(**LONG)
    before = (await held_position(house)).native_stop
    connected = await house.resources.venues.of(house.account_id)
    set_stop, covered = connected.venue.set_stop, []

    async def look(*args: Any, **options: Any) -> None:
        covered.append(await resting(house))
        await set_stop(*args, **options)
        covered.append(await resting(house))

    monkeypatch.setattr(connected.venue, "set_stop", look)
    await house.price("61000")
    assert (await house.alert(**ADD))["status"] == "done"
    assert (await held_position(house)).native_stop != before
    assert covered, "it was moved"
    assert all(sides == ["long"] for sides in covered), covered


@on_binance
async def test_what_cannot_be_protected_is_closed_in_an_emergency(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = each_house
    connected = await house.resources.venues.of(house.account_id)

    async def refuses(*args: object, **options: object) -> None:
        raise Refused("venue_refused", "Order would immediately trigger.", venue_code="-2021")

    monkeypatch.setattr(connected.venue, "set_stop", refuses)
    await house.alert(**LONG)
    await house.sweep()
    assert await house.held() == ("flat", "0")
    assert (await house.last_position()).close_reason is CloseReason.UNPROTECTED


@on_binance
async def test_a_stop_whose_request_is_lost_is_tried_again(each_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = each_house
    connected = await house.resources.venues.of(house.account_id)
    set_stop, lost = connected.venue.set_stop, iter([Transient("503"), OutcomeUnknown("cut")])

    async def at_last(*args: Any, **options: Any) -> None:
        if (error := next(lost, None)) is not None:
            raise error
        await set_stop(*args, **options)

    monkeypatch.setattr(protect, "STOP_TRY_DELAY_S", 0)
    monkeypatch.setattr(connected.venue, "set_stop", at_last)
    await house.alert(**LONG)
    await house.sweep()
    assert await house.held() == ("long", "0.01")
    assert await resting(house) == ["long"]


async def test_the_stop_of_a_later_position_is_not_cleared_with_the_earlier_one(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks for leftovers does so late, and the exchange's list of positions lags behind."""
    house = each_house
    await house.alert(**LONG, id="first")
    await house.alert(**CLOSE)
    ended = await house.last_position()
    await house.alert(**LONG, id="second")
    connected = await house.resources.venues.of(house.account_id)
    standing = connected.venue.standing

    async def lags(symbol: str) -> Standing:
        return msgspec.structs.replace(await standing(symbol), holdings=())

    monkeypatch.setattr(connected.venue, "standing", lags)
    await protect.secure(house.resources, connected, ended.id)
    assert await resting(house) == ["long"]


async def test_no_stop_outlives_its_position(each_house: House) -> None:
    """It would end the next one."""
    house = each_house
    await house.alert(**LONG)
    assert await resting(house) == ["long"]
    await house.by_hand("Sell", "0.01")
    await reconcile.account(house.resources, house.account_id, reconcile.Memory())
    assert await house.position() is None
    assert await resting(house) == []


# Too old, not fit, poisoned


def later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes have passed."""
    now = house.resources.now() + timedelta(minutes=2)
    monkeypatch.setattr(house.resources, "now", lambda: now)


async def test_an_alert_that_waited_too_long_opens_nothing(house: House) -> None:
    receipt = await house.send(LONG | {"max_age_s": 5})
    await house.resources.pool.execute("UPDATE alerts SET received_at = received_at - interval '6 s'")
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "expired"
    assert await house.sent() == []


async def test_an_order_that_was_written_in_time_is_not_sent_too_late(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = plan.write

    async def takes_long(*args: Any) -> Any:
        written = await write(*args)
        later(house, monkeypatch)
        return written

    monkeypatch.setattr(plan, "write", takes_long)
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("expired", "too_old"), outcome
    assert await house.sent() == []


async def test_an_opening_that_waited_for_its_turn_is_not_sent_too_late(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange limits orders for each second, or has banned us for a moment."""
    heed = legs._heed_gate

    async def takes_long(*args: Any) -> None:
        await heed(*args)
        later(house, monkeypatch)

    monkeypatch.setattr(legs, "_heed_gate", takes_long)
    outcome = await house.alert(**LONG, leverage=7)  # set first, so that the order is written anew
    assert (outcome["status"], outcome["code"]) == ("expired", "too_old"), outcome
    assert await house.sent() == []


async def test_an_account_of_which_not_all_was_seen_opens_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_part(*args: object) -> bool:
        return False

    monkeypatch.setattr(plan, "FITNESS_PATIENCE_S", 0.0)
    monkeypatch.setattr(reconcile, "first_look", in_part)
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "not_compared"), outcome
    assert await house.sent() == []


async def again_and_again(house: House) -> None:
    for _ in range(execute.POISON_FAILURES + 1):
        await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
        await house.work_book()


async def test_an_alert_that_a_bug_ends_again_and_again_lets_the_next_one_pass(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.alert(**LONG)
    make, poisoned = plan.make, await house.send(ADD)

    async def fails(resources: Any, connected: Any, instruction: inbox.Instruction) -> Any:
        if instruction.cause_id == poisoned.alert_id:
            raise ZeroDivisionError
        return await make(resources, connected, instruction)

    monkeypatch.setattr(plan, "make", fails)
    close = await house.send(CLOSE)
    await again_and_again(house)
    outcome = await house.outcome(poisoned.alert_id)
    assert (outcome["status"], outcome["code"]) == ("needs_operator", "gave_up"), outcome
    assert (await house.outcome(close.alert_id))["code"] == "executed"
    assert await house.held() == ("flat", "0")


async def test_the_close_of_what_cannot_be_protected_is_never_set_aside(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.alert(**LONG)
    position = await held_position(house)
    await protect.instruct_close(house.resources, position, CauseKind.PROTECTION, position.id, qty=None)

    async def fails(*args: object) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(plan, "make", fails)
        await again_and_again(house)
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.work_book()
    assert await house.held() == ("flat", "0")
    assert (await house.last_position()).close_reason is CloseReason.UNPROTECTED
