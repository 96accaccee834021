"""Answers that never came, refusals, crashes between two steps: opened at most once, closed at least once."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from app.domain.drift import DriftKind
from app.domain.order import PositionMode, Side
from app.errors import Transient
from app.flows import legs, orders, reconcile
from app.venues.base import NewOrder, Standing
from tests.support.house import House, at_once, both_roads
from workers.private import AccountStream

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
CREATE = "/v5/order/create"


class Killed(BaseException):
    """The process ends here: nothing catches it."""


@both_roads
async def test_an_opening_whose_answer_was_lost_is_found_not_repeated(house: House) -> None:
    await house.fault("drop_answer", path=CREATE)
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    assert len(await house.sent()) == 1
    assert await house.held() == ("long", "0.01")
    [order] = await house.rows("SELECT status FROM orders WHERE NOT reduce_only")
    assert order["status"] == "filled"


@both_roads
async def test_an_opening_that_is_visible_late_is_waited_for(house: House) -> None:
    await house.fault("late_visible", ms=1500, times=None)
    await house.fault("drop_answer", path=CREATE)
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    assert len(await house.sent()) == 1


@both_roads
async def test_an_opening_that_never_arrived_expires_and_is_not_repeated(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the receive window were over: a request that arrives later is refused by the venue.
    monkeypatch.setattr(orders, "QUERY_LAG", timedelta(seconds=-4))
    await house.fault("drop_request", path=CREATE)
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("expired", "never_arrived"), outcome
    assert await house.held() == ("flat", "0")
    assert await house.rows("SELECT 1 FROM positions") == []


@both_roads
async def test_an_unknown_opening_stays_unknown_until_there_is_evidence(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legs, "PATIENCE_S", 0.2)
    await house.fault("drop_request", path=CREATE)
    receipt = await house.send({**LONG})
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "executing"
    [order] = await house.rows("SELECT status FROM orders")
    assert order["status"] == "unknown"
    # A later visit asks again; it sends nothing.
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.work_book()
    requests = await house.sent()
    assert len(requests) == 1


@both_roads
async def test_an_order_that_turns_up_after_it_was_given_up_is_adopted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 18: the exchange shows the order only half a minute later. There was no second attempt; it is held."""
    monkeypatch.setattr(orders, "QUERY_LAG", timedelta(seconds=-4))
    monkeypatch.setattr(orders, "DELTA_PATIENCE", timedelta(0))
    await house.fault("late_visible", ms=60_000, times=None)
    await house.fault("drop_answer", path=CREATE)
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "never_arrived", outcome
    await house._control("DELETE", "faults")
    await house.resources.pool.execute("UPDATE orders SET sent_at = sent_at - interval '10 seconds'")
    memory = reconcile.Memory()
    await reconcile.all_accounts(house.resources, memory)
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.01")
    assert await house.rows("SELECT 1 FROM levels WHERE status = 'armed'"), "and it is protected"
    assert len(await house.sent()) == 1


async def test_a_refused_connection_is_surely_not_done_and_is_sent_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = await house.resources.venues.of(house.account_id)
    place, refusals = connected.venue.place, iter([True, False])

    async def flaky(order: object) -> str:
        if next(refusals):
            raise Transient("connection refused")
        return await place(order)  # type: ignore[arg-type]

    monkeypatch.setattr(connected.venue, "place", flaky)
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    found = await house.rows("SELECT attempt, status FROM orders WHERE NOT reduce_only ORDER BY attempt")
    assert [(o["attempt"], o["status"]) for o in found] == [(0, "absent"), (1, "filled")]


@both_roads
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("drop_answer", {}),
        ("drop_request", {}),
        ("http_status", {"status": 502}),
        ("http_status", {"status": 502, "after": True}),
        ("ret_code", {"code": 10016, "msg": "Server error."}),
        ("reject_async", {}),
        ("partial_fill", {"fraction": "0.5"}),
        ("delay_answer", {"ms": 300}),
    ],
)
async def test_a_close_goes_on_until_it_is_flat(
    house: House, monkeypatch: pytest.MonkeyPatch, fault: str, options: dict[str, object]
) -> None:
    monkeypatch.setattr(orders, "QUERY_LAG", timedelta(seconds=-4.9))
    await house.alert(**LONG)
    await house.fault(fault, path=CREATE, **options)
    receipt = await house.send({"symbol": "BTCUSDT", "action": "close"})
    async with asyncio.timeout(30):
        while (await house.outcome(receipt.alert_id))["status"] in ("received", "executing"):
            await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
            await house.work(receipt.alert_id)
    outcome = await house.outcome(receipt.alert_id)
    assert outcome["code"] == "executed", outcome
    assert await house.held() == ("flat", "0")
    position = await house.last_position()
    assert position.qty == 0
    assert all(r["body"]["reduceOnly"] for r in (await house.sent())[1:])


@both_roads
async def test_a_partly_filled_opening_is_protected_exactly(house: House) -> None:
    await house.fault("partial_fill", fraction="0.4", path=CREATE)
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.004")
    [stop] = await house.rows("SELECT qty FROM levels WHERE kind = 'stop_loss'")
    assert stop["qty"] == D("0.004")


@both_roads
async def test_an_asynchronous_rejection_is_a_refusal(house: House) -> None:
    await house.fault("reject_async", path=CREATE)
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "venue_refused"), outcome
    assert await house.rows("SELECT 1 FROM positions") == []


async def test_a_crash_after_the_write_is_resumed_by_asking(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the first byte and the answer: what is left is a row that says `sent`."""
    receipt = await house.send({**LONG})
    real = orders.place

    async def crash(*args: object) -> None:
        await real(*args)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(orders, "place", crash)
    with pytest.raises(Killed):
        await house.work(receipt.alert_id)
    monkeypatch.setattr(orders, "place", real)
    [order] = await house.rows("SELECT status FROM orders")
    assert order["status"] == "sent"
    await house.sweep()
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"
    assert len(await house.sent()) == 1
    assert await house.held() == ("long", "0.01")


async def test_fills_count_once_however_often_they_are_seen(house: House) -> None:
    await house.alert(**LONG)
    for _ in range(3):
        await reconcile.all_accounts(house.resources, reconcile.Memory())
    position = await house.position()
    assert position is not None
    assert (position.qty, position.fees) == (D("0.01"), D("600") * D("0.00055"))


async def test_a_close_by_hand_is_adopted_as_external(house: House) -> None:
    await house.alert(**LONG)
    await house.by_hand("Sell", "0.01")
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    assert (await house.last_position()).close_reason == "external"
    assert await house.rows("SELECT 1 FROM levels WHERE status = 'armed'") == []


async def test_what_a_hand_added_is_left_alone(house: House) -> None:
    await house.alert(**LONG)
    await house.by_hand("Buy", "0.02")
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    position = await house.position()
    assert position is not None
    assert position.qty == D("0.01")
    assert await house.rows("SELECT 1 FROM events WHERE kind = 'foreign_fill'")


async def test_nothing_is_opened_against_a_position_of_somebody_else(house: House) -> None:
    await house.by_hand("Sell", "0.05")
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "foreign_position"), outcome
    assert await house.sent() == []


async def test_an_addition_that_fills_after_the_stop_is_a_new_position_and_protected(house: House) -> None:
    """The stop and the addition cross on their way: what the addition bought is held, so it is managed."""
    await house.alert(**LONG)
    [add] = [await house.send({"symbol": "BTCUSDT", "action": "add", "size": {"base": "0.01"}})]
    connected = await house.resources.venues.of(house.account_id)
    place = connected.venue.place

    async def stopped_out_first(order: NewOrder) -> str:
        await house.by_hand("Sell", "0.01")
        await reconcile.all_accounts(house.resources, reconcile.Memory())
        return await place(order)

    connected.venue.place = stopped_out_first  # type: ignore[method-assign]
    await house.work(add.alert_id)
    connected.venue.place = place  # type: ignore[method-assign]
    position = await house.position()
    assert position is not None
    assert (position.qty, position.epoch) == (D("0.01"), 2)
    assert await house.rows("SELECT 1 FROM levels WHERE position_id = $1 AND status = 'armed'", position.id)
    await reconcile.all_accounts(house.resources, reconcile.Memory())
    [held] = [p for p in (await house.ledger())["positions"] if p["side"] == "long"]
    assert held["stop_loss"], "and its native stop rests"


@pytest.mark.parametrize("code", [10010, 33004, 10003])
async def test_a_passing_key_error_does_not_end_a_close(house: House, code: int) -> None:
    await house.alert(**LONG)
    await house.fault("ret_code", code=code, msg="Unmatched IP", times=None)
    receipt = await house.send({"symbol": "BTCUSDT", "action": "close"})
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "executing"
    await house._control("DELETE", "faults")
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.sweep()
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"
    assert await house.held() == ("flat", "0")


async def test_failed_reads_after_the_fill_do_not_close_what_is_protected(house: House) -> None:
    await house.fault("http_status", status=503, path="/v5/position/list", times=None)
    connected = await house.resources.venues.of(house.account_id)
    connected.compared = True
    standing = connected.venue.standing

    async def flat_before(symbol: str) -> Standing:
        connected.venue.standing = standing  # type: ignore[method-assign]
        return Standing(symbol=symbol, position_mode=PositionMode.ONE_WAY, margin_mode=None, leverage=None, holdings=())

    connected.venue.standing = flat_before  # type: ignore[method-assign]
    outcome = await house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    assert await house.held() == ("long", "0.01")
    assert await house.rows("SELECT 1 FROM instructions WHERE cause_kind = 'protection'") == []


@both_roads
async def test_a_reversal_does_not_open_past_its_age(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.alert(**LONG)
    await house.fault("delay_answer", ms=1500, path=CREATE)
    outcome = await house.alert(
        symbol="BTCUSDT", action="short", size={"base": "0.01"}, stop_loss={"pct": 1}, max_age_s=1
    )
    assert (outcome["status"], outcome["code"]) == ("expired", "too_old"), outcome
    assert await house.held() == ("flat", "0"), "the closing half is done"


async def test_executions_that_lag_do_not_make_a_close_external(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.alert(**LONG)
    [level] = await house.rows("SELECT order_id, client_order_id FROM levels l JOIN orders o ON o.id = l.order_id")
    memory = reconcile.Memory()
    await reconcile.all_accounts(house.resources, memory)
    await house.fault("late_visible", ms=60_000, times=None)
    connected = await house.resources.venues.of(house.account_id)
    await house.resources.pool.execute(
        "UPDATE orders SET status = 'sent', sent_at = now() WHERE id = $1", level["order_id"]
    )
    await connected.venue.place(
        NewOrder(
            client_order_id=level["client_order_id"], symbol="BTCUSDT", side=Side.SELL, qty=D("0.01"),
            reduce_only=True, signed_at=house.resources.now(),
        )
    )  # fmt: skip
    at_once(monkeypatch, DriftKind.CLOSED_OUTSIDE)
    for _ in range(3):
        await reconcile.all_accounts(house.resources, memory)
    assert await house.position() is not None, "an order is on its way: not closed from outside"
    await house._control("DELETE", "faults")
    await house.resources.pool.execute(
        "UPDATE orders SET sent_at = now() - interval '5 s' WHERE id = $1", level["order_id"]
    )
    await reconcile.all_accounts(house.resources, memory)
    assert (await house.last_position()).close_reason == "stop_loss"


async def test_what_the_stream_told_is_believed_although_the_exchange_lists_nothing(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fill is in our tables: nobody waits for a list that lags before the stop is placed."""
    house = each_house
    connected = await house.resources.venues.of(house.account_id)
    account, linked = AccountStream(house.resources, connected, reconcile.Memory()), asyncio.Event()
    on_change = account.on_change

    def hears(symbol: str) -> None:
        linked.set()
        on_change(symbol)

    async def lags(*args: object, **kwargs: object) -> object:
        raise Transient("the list is not there yet")

    monkeypatch.setattr(account, "on_change", hears)
    stream = asyncio.create_task(account.run())
    try:
        await linked.wait()
        monkeypatch.setattr(connected.venue, "order", lags)
        outcome = await house.alert(**LONG)
    finally:
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)
    assert outcome["code"] == "executed", outcome
    assert len(await house.sent()) == 1
    position = await house.position()
    assert position is not None
    assert position.native_stop is not None


async def test_a_close_that_was_sent_twice_is_not_called_rejected(house: House) -> None:
    """The second answer was that nothing is left to reduce: the first one had been filled."""
    await house.alert(**LONG)
    [level] = await house.rows("SELECT o.id, o.client_order_id FROM levels l JOIN orders o ON o.id = l.order_id")
    connected = await house.resources.venues.of(house.account_id)
    await connected.venue.place(
        NewOrder(
            client_order_id=level["client_order_id"], symbol="BTCUSDT", side=Side.SELL, qty=D("0.01"),
            reduce_only=True, signed_at=house.resources.now(),
        )
    )  # fmt: skip
    pool = house.resources.pool
    await pool.execute("UPDATE orders SET status = 'rejected', sent_at = now() WHERE id = $1", level["id"])
    await reconcile.account(house.resources, house.account_id, reconcile.Memory())
    await pool.execute("UPDATE orders SET sent_at = now() - interval '5 s'")
    await reconcile.all_orders(house.resources, reconcile.Memory())
    [order] = await house.rows("SELECT status, filled_qty FROM orders WHERE id = $1", level["id"])
    assert (order["status"], order["filled_qty"]) == ("filled", D("0.01"))
    assert (await house.last_position()).close_reason == "stop_loss"


@both_roads
async def test_an_accepted_order_that_the_exchange_has_forgotten_does_not_hold_up_its_book_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepted, then cancelled without a fill while this machine was off: of such an order nothing is kept for long."""
    monkeypatch.setattr(legs, "PATIENCE_S", 1.0)
    connected = await house.resources.venues.of(house.account_id)
    place = connected.venue.place

    async def accepted(order: NewOrder) -> str:
        monkeypatch.setattr(connected.venue, "place", place)
        return "an id that is forgotten"

    monkeypatch.setattr(connected.venue, "place", accepted)
    receipt = await house.send(LONG | {"max_age_s": 86400})
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "executing", "that it is not listed proves nothing yet"
    await house.resources.pool.execute("UPDATE orders SET sent_at = sent_at - interval '30 hours'")
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.work(receipt.alert_id)
    outcome = await house.outcome(receipt.alert_id)
    assert (outcome["status"], outcome["code"]) == ("refused", "not_filled"), outcome
    assert await house.sent() == []
