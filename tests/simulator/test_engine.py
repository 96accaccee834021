"""The matching engine by itself: no sockets, no clock."""

from decimal import Decimal as D
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import Engine
from simulator.instruments import built_in
from simulator.model import (
    Account,
    EndReason,
    Filled,
    NewOrder,
    OrderChange,
    OrderStatus,
    OrderType,
    Protection,
    Reason,
    Refused,
    Side,
    StopKind,
    TimeInForce,
    TriggerBy,
)

BTC = "BTCUSDT"
BUY, SELL = Side.BUY, Side.SELL


def make(balance: str = "100000", price: str = "60000") -> tuple[Engine, Account]:
    ids = count(1)
    engine = Engine(built_in().values(), new_id=lambda: f"id-{next(ids)}")
    account = engine.add_account("a", D(balance))
    engine.on_trade(BTC, D(price), 1)
    return engine, account


def market(side: Side, qty: str, **more: object) -> NewOrder:
    return NewOrder(symbol=BTC, side=side, type=OrderType.MARKET, qty=D(qty), **more)  # type: ignore[arg-type]


def limit(side: Side, qty: str, price: str, **more: object) -> NewOrder:
    return NewOrder(symbol=BTC, side=side, type=OrderType.LIMIT, qty=D(qty), price=D(price), **more)  # type: ignore[arg-type]


def refusal(engine: Engine, account: Account, new: NewOrder) -> Reason:
    with pytest.raises(Refused) as caught:
        engine.place(account, new, 2)
    return caught.value.reason


@pytest.mark.parametrize(
    ("new", "fee"),
    [
        (market(BUY, "0.1"), "3.3"),  # taker: 6000 * 0.00055
        (limit(BUY, "0.1", "60000"), "3.3"),  # crosses: taker
        (limit(BUY, "0.1", "59000"), "1.18"),  # rests: maker, 5900 * 0.0002
        (market(SELL, "0.001"), "0.033"),
    ],
)
def test_fees(new: NewOrder, fee: str) -> None:
    engine, account = make()
    order = engine.place(account, new, 2)
    engine.on_trade(BTC, D("59000"), 3)
    assert order.status is OrderStatus.FILLED
    assert order.fee == D(fee)
    assert account.balance == D("100000") - D(fee)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (market(BUY, "0"), Reason.QTY_MIN),
        (market(BUY, "0.0005"), Reason.QTY_MIN),
        (market(BUY, "0.0015"), Reason.QTY_STEP),
        (market(BUY, "500.001"), Reason.QTY_MAX),
        (limit(BUY, "1190.001", "60000"), Reason.QTY_MAX),
        (limit(BUY, "1", "60000.05"), Reason.PRICE_TICK),
        (limit(BUY, "1", "99999999"), Reason.PRICE_RANGE),
        (limit(BUY, "0.001", "4000"), Reason.NOTIONAL_MIN),
        (market(BUY, "20"), Reason.MARGIN),  # 1,200,000 at 10x
        (market(BUY, "0.1", stop_loss=D("60000")), Reason.STOP_SIDE),
        (market(SELL, "0.1", take_profit=D("60000.1")), Reason.STOP_SIDE),
        (market(BUY, "0.1", reduce_only=True), Reason.NOTHING_TO_REDUCE),
        (market(BUY, "0.1", reduce_only=True, stop_loss=D(1)), Reason.STOP_ON_REDUCE_ONLY),
        (market(BUY, "0.1", trigger_price=D("60000"), trigger_direction=1), Reason.TRIGGER_NOT_ABOVE),
        (market(BUY, "0.1", trigger_price=D("60000"), trigger_direction=2), Reason.TRIGGER_NOT_BELOW),
    ],
)
def test_filters(new: NewOrder, reason: Reason) -> None:
    engine, account = make()
    assert refusal(engine, account, new) is reason
    assert not account.orders


def test_an_order_id_is_taken_for_ever_but_a_refused_order_takes_none() -> None:
    engine, account = make()
    refusal(engine, account, market(BUY, "20", client_order_id="x"))
    engine.place(account, market(BUY, "0.01", client_order_id="x"), 2)
    assert refusal(engine, account, market(BUY, "0.01", client_order_id="x")) is Reason.DUPLICATE_ID


def test_reduce_only_is_cut_to_the_position_and_never_flips() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.5"), 2)
    order = engine.place(account, market(SELL, "2", reduce_only=True), 3)
    assert (order.qty, order.filled_qty) == (D("0.5"), D("0.5"))
    assert engine.position(account, BTC).side is None


def test_resting_reduce_only_orders_block_a_second_and_go_with_the_position() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.5"), 2)
    resting = engine.place(account, limit(SELL, "0.5", "61000", reduce_only=True), 3)
    assert refusal(engine, account, market(SELL, "0.1", reduce_only=True)) is Reason.REDUCE_COVERED
    closing = market(SELL, "0", reduce_only=True, close_on_trigger=True)
    assert engine.place(account, closing, 4).filled_qty == D("0.5")
    assert (resting.status, resting.end_reason) == (OrderStatus.CANCELLED, EndReason.REDUCE_ONLY)


@pytest.mark.parametrize(
    ("time_in_force", "price", "status", "reason"),
    [
        (TimeInForce.POST_ONLY, "60000", OrderStatus.CANCELLED, EndReason.POST_ONLY_TAKES),
        (TimeInForce.POST_ONLY, "59000", OrderStatus.NEW, EndReason.NONE),
        (TimeInForce.IOC, "59000", OrderStatus.CANCELLED, EndReason.NO_LIQUIDITY),
        (TimeInForce.FOK, "59000", OrderStatus.CANCELLED, EndReason.NO_FULL_FILL),
        (TimeInForce.FOK, "60000", OrderStatus.FILLED, EndReason.NONE),
    ],
)
def test_time_in_force(time_in_force: TimeInForce, price: str, status: OrderStatus, reason: EndReason) -> None:
    engine, account = make()
    order = engine.place(account, limit(BUY, "0.1", price, time_in_force=time_in_force), 2)
    assert (order.status, order.end_reason) == (status, reason)


def child(engine: Engine, account: Account, kind: StopKind) -> tuple[D, D | None]:
    order = account.orders[engine.position(account, BTC).children[kind]]
    return order.qty, order.trigger_price


def test_an_attached_stop_appears_with_the_fill_follows_the_size_and_goes_with_the_position() -> None:
    engine, account = make()
    engine.place(account, limit(BUY, "0.1", "59000", stop_loss=D("58000"), client_order_id="e"), 2)
    assert not engine.position(account, BTC).children
    engine.on_trade(BTC, D("58900"), 3)
    assert child(engine, account, StopKind.STOP_LOSS) == (D("0.1"), D("58000"))
    engine.place(account, market(BUY, "0.2"), 4)
    assert child(engine, account, StopKind.STOP_LOSS) == (D("0.3"), D("58000"))
    engine.place(account, market(SELL, "0.25"), 5)
    assert child(engine, account, StopKind.STOP_LOSS) == (D("0.05"), D("58000"))
    stop = account.orders[engine.position(account, BTC).children[StopKind.STOP_LOSS]]
    assert stop.parent_client_order_id == "e"
    engine.place(account, market(SELL, "0.05"), 6)
    assert (stop.status, stop.end_reason) == (OrderStatus.DEACTIVATED, EndReason.POSITION_CLOSED)


def test_a_stop_fires_at_the_price_that_jumped_over_it_and_clears_its_brother() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.1", stop_loss=D("58000"), take_profit=D("62000")), 2)
    children = engine.position(account, BTC).children
    stop, target = (account.orders[children[k]] for k in (StopKind.STOP_LOSS, StopKind.TAKE_PROFIT))
    engine.on_trade(BTC, D("58000.1"), 3)
    assert stop.status is OrderStatus.UNTRIGGERED
    engine.on_trade(BTC, D("57000"), 4)
    assert (stop.status, stop.filled_value) == (OrderStatus.FILLED, D("5700"))
    assert target.status is OrderStatus.DEACTIVATED
    assert account.balance == D("100000") - D("3.3") - D("300") - D("3.135")


def test_a_burst_is_looked_at_row_by_row() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.1", stop_loss=D("59900")), 2)
    later = engine.place(account, market(SELL, "0.2", trigger_price=D("59800"), trigger_direction=2), 3)
    engine.take_events()
    for price in ("59950", "59899", "59970", "59800", "60000"):
        engine.on_trade(BTC, D(price), 4)
    fills = [e.fill for e in engine.take_events() if isinstance(e, Filled)]
    assert [(f.price, f.qty) for f in fills] == [(D("59899"), D("0.1")), (D("59800"), D("0.2"))]
    assert later.status is OrderStatus.FILLED


def test_a_plain_order_flips_and_the_old_stops_go() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.1", stop_loss=D("59000")), 2)
    old = account.orders[engine.position(account, BTC).children[StopKind.STOP_LOSS]]
    engine.on_trade(BTC, D("60500"), 3)
    engine.place(account, market(SELL, "0.3", stop_loss=D("61000")), 4)
    position = engine.position(account, BTC)
    assert (position.qty, position.entry_price, position.realized_pnl) == (D("-0.2"), D("60500"), D("50"))
    assert old.status is OrderStatus.DEACTIVATED
    assert child(engine, account, StopKind.STOP_LOSS) == (D("0.2"), D("61000"))


def test_stops_can_be_set_moved_and_removed() -> None:
    engine, account = make()
    with pytest.raises(Refused, match="ZERO_POSITION"):
        engine.protect(account, BTC, Protection(stop_loss=D("59000")), 2)
    engine.place(account, market(SELL, "0.1"), 2)
    engine.protect(account, BTC, Protection(stop_loss=D("61000"), take_profit=D("59000")), 3)
    with pytest.raises(Refused, match="STOPS_NOT_MODIFIED"):
        engine.protect(account, BTC, Protection(stop_loss=D("61000")), 4)
    with pytest.raises(Refused, match="STOP_SIDE"):
        engine.protect(account, BTC, Protection(stop_loss=D("60000")), 4)
    engine.protect(account, BTC, Protection(stop_loss=D("60500"), take_profit=D(0)), 5)
    assert engine.view(account, BTC).stop_loss == D("60500")
    assert engine.view(account, BTC).take_profit == 0


def test_a_stop_on_mark_ignores_the_last_price() -> None:
    engine, account = make()
    engine.hold_mark(BTC, D("60000"))
    engine.place(account, market(BUY, "0.1", stop_loss=D("59000"), sl_trigger_by=TriggerBy.MARK), 2)
    engine.on_trade(BTC, D("58000"), 3)
    assert engine.position(account, BTC).qty
    engine.hold_mark(BTC, D("59000"))
    engine.on_trade(BTC, D("57000"), 4)
    assert not engine.position(account, BTC).qty
    assert account.fills[-1].price == D("57000")


def test_a_trailing_stop_follows_and_fires() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.1"), 2)
    engine.protect(account, BTC, Protection(trailing=D("500")), 3)
    for price in ("60400", "61000", "60500.1"):
        engine.on_trade(BTC, D(price), 4)
    assert engine.position(account, BTC).qty
    engine.on_trade(BTC, D("60500"), 5)
    assert not engine.position(account, BTC).qty


def test_a_conditional_order_rests_fires_and_is_checked_for_margin_then() -> None:
    engine, account = make(balance="1000")
    new = market(BUY, "0.1", trigger_price=D("61000"), trigger_direction=1)
    good = engine.place(account, new, 2)
    engine.on_trade(BTC, D("61000"), 3)
    assert good.status is OrderStatus.FILLED
    poor = engine.place(account, market(BUY, "0.5", trigger_price=D("62000"), trigger_direction=1), 4)
    engine.on_trade(BTC, D("62000"), 5)
    assert (poor.status, poor.end_reason) == (OrderStatus.REJECTED, EndReason.NO_MARGIN)


def test_amending_to_a_crossing_price_takes() -> None:
    engine, account = make()
    order = engine.place(account, limit(BUY, "0.1", "59000"), 2)
    with pytest.raises(Refused, match="ORDER_NOT_MODIFIED"):
        engine.amend(account, order, OrderChange(price=D("59000")), 3)
    engine.amend(account, order, OrderChange(qty=D("0.2")), 3)
    assert order.status is OrderStatus.NEW
    engine.amend(account, order, OrderChange(price=D("60100")), 4)
    assert (order.status, order.filled_value) == (OrderStatus.FILLED, D("12000"))


def test_a_cancelled_stop_leaves_the_position_bare() -> None:
    engine, account = make()
    engine.place(account, market(BUY, "0.1", stop_loss=D("59000")), 2)
    stop = account.orders[engine.position(account, BTC).children[StopKind.STOP_LOSS]]
    engine.cancel(account, stop, 3)
    engine.on_trade(BTC, D("50000"), 4)
    assert engine.position(account, BTC).qty == D("0.1")


def test_a_partial_fill_leaves_a_market_order_cancelled_and_a_limit_resting() -> None:
    engine, account = make()
    taken = engine.place(account, market(BUY, "0.1", stop_loss=D("59000")), 2, fill_share=D("0.25"))
    assert (taken.status, taken.filled_qty) == (OrderStatus.CANCELLED, D("0.025"))
    assert child(engine, account, StopKind.STOP_LOSS) == (D("0.025"), D("59000"))
    resting = engine.place(account, limit(BUY, "0.1", "60000"), 3, fill_share=D("0.5"))
    assert (resting.status, resting.filled_qty) == (OrderStatus.PARTIALLY_FILLED, D("0.05"))


def test_leverage() -> None:
    engine, account = make()
    for leverage, reason in (("10", "NOT_MODIFIED"), ("101", "MAX"), ("0.5", "INVALID")):
        with pytest.raises(Refused, match=f"LEVERAGE_{reason}"):
            engine.set_leverage(account, BTC, D(leverage))
    engine.set_leverage(account, BTC, D("100"))
    engine.place(account, market(BUY, "20"), 2)
    assert engine.position_margin(account) == D("12000")


STEPS = st.lists(
    st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 400), st.integers(100_000, 900_000)), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_profit_equals_cash_flow(steps: list[tuple[Side, int, int]]) -> None:
    engine, account = make(balance="1000000000")
    for side, thousandths, tenths in steps:
        engine.on_trade(BTC, D(tenths) / 10, 2)
        engine.place(account, market(side, str(D(thousandths) / 1000)), 3)
    cash = sum((-f.side.sign * f.value - f.fee for f in account.fills), D(0))
    position = engine.position(account, BTC)
    held = position.cost * (1 if position.qty > 0 else -1)
    assert account.balance - account.deposited == cash + held
    assert position.qty == sum((f.side.sign * f.qty for f in account.fills), D(0))
    assert position.net_realized_pnl == account.balance - account.deposited
    if not position.qty:
        assert position.cost == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(590_000, 610_000), min_size=1, max_size=40),
    st.integers(590_000, 599_999),
    st.integers(600_001, 610_000),
)
def test_the_quiet_band_hides_no_trigger(tenths: list[int], stop: int, target: int) -> None:
    """The engine skips prices between its levels; a plain walk over the prices must find the same exit."""
    engine, account = make()
    engine.place(account, market(BUY, "0.1", stop_loss=D(stop) / 10, take_profit=D(target) / 10), 2)
    for price in tenths:
        engine.on_trade(BTC, D(price) / 10, 3)
    exits = [f.price for f in account.fills[1:]]
    assert exits == [D(p) / 10 for p in tenths if p <= stop or p >= target][:1]
