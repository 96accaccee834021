"""Two positions on one symbol, modes and their switches, closing orders: the engine by itself."""

from decimal import Decimal as D
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import Engine
from simulator.instruments import built_in
from simulator.model import (
    Account,
    CreatedBy,
    EndReason,
    ExecType,
    NewOrder,
    OrderStatus,
    OrderType,
    PositionChanged,
    PositionSide,
    Protection,
    Reason,
    Refused,
    Side,
    WalletChanged,
)

BTC, ETH = "BTCUSDT", "ETHUSDT"
BUY, SELL = Side.BUY, Side.SELL
BOTH, LONG, SHORT = PositionSide


def make(*, hedge: bool = True) -> tuple[Engine, Account]:
    ids = count(1)
    engine = Engine(built_in().values(), new_id=lambda: f"id-{next(ids)}")
    account = engine.add_account("a", D("100000"))
    account.hedge = hedge
    engine.on_trade(BTC, D("60000"), 1)
    return engine, account


def market(side: Side, position_side: PositionSide, qty: str, **more: object) -> NewOrder:
    return NewOrder(
        symbol=BTC,
        side=side,
        position_side=position_side,
        type=OrderType.MARKET,
        qty=D(qty),
        **more,  # type: ignore[arg-type]
    )


def limit(side: Side, position_side: PositionSide, qty: str, price: str, **more: object) -> NewOrder:
    return NewOrder(
        symbol=BTC,
        side=side,
        position_side=position_side,
        type=OrderType.LIMIT,
        qty=D(qty),
        price=D(price),
        **more,  # type: ignore[arg-type]
    )


def stop(side: Side, position_side: PositionSide, price: str, **more: object) -> NewOrder:
    falls = 2 if side is SELL else 1
    return market(side, position_side, "0", trigger_price=D(price), trigger_direction=falls, **more)


def sizes(engine: Engine, account: Account) -> tuple[D, D]:
    return engine.position(account, BTC, LONG).qty, engine.position(account, BTC, SHORT).qty


def test_long_and_short_live_side_by_side() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.3", stop_loss=D("59000")), 2)
    engine.place(account, market(SELL, SHORT, "0.2", stop_loss=D("61000")), 3)
    assert sizes(engine, account) == (D("0.3"), D("-0.2"))
    assert engine.position_margin(account) == D("3000")  # both need theirs
    engine.on_trade(BTC, D("60500"), 4)
    assert engine.unrealized_pnl(account) == D("50")
    engine.on_trade(BTC, D("61000"), 5)
    assert sizes(engine, account) == (D("0.3"), D("0"))
    assert engine.view(account, BTC, LONG).stop_loss == D("59000")  # the other's stop fired, not this one
    engine.on_trade(BTC, D("59000"), 6)
    assert sizes(engine, account) == (D("0"), D("0"))


def test_a_closing_order_is_reduce_only_and_cut_to_its_own_leg() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.3"), 2)
    engine.place(account, market(SELL, SHORT, "0.2"), 3)
    order = engine.place(account, market(SELL, LONG, "5"), 4)
    assert (order.reduce_only, order.qty, order.filled_qty) == (True, D("0.3"), D("0.3"))
    assert sizes(engine, account) == (D("0"), D("-0.2"))
    with pytest.raises(Refused, match="NOTHING_TO_REDUCE"):
        engine.place(account, market(SELL, LONG, "0.1"), 5)


def test_resting_closes_cover_only_their_own_leg() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.3"), 2)
    engine.place(account, market(SELL, SHORT, "0.3"), 2)
    resting = engine.place(account, limit(SELL, LONG, "0.3", "61000"), 3)
    with pytest.raises(Refused, match="REDUCE_COVERED"):
        engine.place(account, market(SELL, LONG, "0.1"), 4)
    engine.place(account, market(BUY, SHORT, "0.3"), 4)
    assert resting.is_open
    engine.cancel(account, resting, 5)
    assert engine.order_margin(account) == 0


@pytest.mark.parametrize(("hedge", "side"), [(True, BOTH), (False, LONG), (False, SHORT)])
def test_a_side_that_does_not_fit_the_mode_is_refused(hedge: bool, side: PositionSide) -> None:
    engine, account = make(hedge=hedge)
    with pytest.raises(Refused, match="POSITION_SIDE"):
        engine.place(account, market(BUY, side, "0.1"), 2)
    with pytest.raises(Refused, match="POSITION_SIDE"):
        engine.protect(account, BTC, Protection(stop_loss=D("59000")), 2, side)


def test_stops_are_set_per_leg() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.1"), 2)
    engine.place(account, market(SELL, SHORT, "0.1"), 2)
    engine.protect(account, BTC, Protection(stop_loss=D("59000")), 3, LONG)
    engine.protect(account, BTC, Protection(stop_loss=D("61000"), take_profit=D("58000")), 3, SHORT)
    assert engine.view(account, BTC, LONG).take_profit == 0
    engine.on_trade(BTC, D("58000"), 4)
    assert sizes(engine, account) == (D("0"), D("0"))
    assert [f.position_side for f in account.fills[2:]] == [LONG, SHORT]


def test_both_legs_are_told_of_the_acting_one_first() -> None:
    engine, account = make()
    engine.take_events()
    engine.place(account, limit(SELL, SHORT, "0.1", "61000"), 2)
    told = [e.view.position.position_side for e in engine.take_events() if isinstance(e, PositionChanged)]
    assert told == [SHORT, LONG]


def refusal(engine: Engine, account: Account, symbol: str | None, hedge: bool) -> Reason:
    with pytest.raises(Refused) as caught:
        engine.set_position_mode(account, symbol, hedge)
    return caught.value.reason


def test_the_position_mode_of_a_symbol_wins_over_the_accounts() -> None:
    engine, account = make(hedge=False)
    engine.set_position_mode(account, BTC, True)
    assert refusal(engine, account, BTC, True) is Reason.POSITION_MODE_NOT_MODIFIED
    assert (account.is_hedge(BTC), account.is_hedge(ETH)) == (True, False)
    engine.set_position_mode(account, None, False)  # all, also those with a mode of their own
    assert not account.is_hedge(BTC)
    assert refusal(engine, account, None, False) is Reason.POSITION_MODE_NOT_MODIFIED


def test_a_mode_is_not_switched_under_a_position_or_orders() -> None:
    engine, account = make()
    resting = engine.place(account, limit(BUY, LONG, "0.1", "50000"), 2)
    assert refusal(engine, account, BTC, False) is Reason.POSITION_MODE_ORDERS
    engine.set_position_mode(account, ETH, False)  # nothing there
    engine.cancel(account, resting, 3)
    engine.place(account, market(BUY, LONG, "0.1"), 4)
    assert refusal(engine, account, None, False) is Reason.POSITION_MODE_HELD
    with pytest.raises(Refused, match="MARGIN_MODE_HELD"):
        engine.set_margin_mode(account, None, True)
    engine.place(account, market(SELL, LONG, "0.1"), 5)
    engine.set_margin_mode(account, BTC, True)
    assert (account.is_isolated(BTC), account.is_isolated(ETH)) == (True, False)
    with pytest.raises(Refused, match="MARGIN_MODE_NOT_MODIFIED"):
        engine.set_margin_mode(account, BTC, True)


def test_profit_of_an_isolated_position_funds_nothing_else() -> None:
    engine, account = make(hedge=False)
    engine.set_margin_mode(account, None, True)
    engine.place(account, market(BUY, BOTH, "0.1"), 2)
    before = engine.available(account)
    engine.on_trade(BTC, D("70000"), 3)
    assert engine.available(account) == before - D("100")  # the margin grew with the mark, the profit stays put


def test_leverage_can_differ_by_leg() -> None:
    engine, account = make()
    engine.set_leverage(account, BTC, D(20), LONG)
    assert (engine.leverage(account, BTC, LONG), engine.leverage(account, BTC, SHORT)) == (D(20), D(10))
    engine.set_leverage(account, BTC, D(5))
    assert (engine.leverage(account, BTC, LONG), engine.leverage(account, BTC, SHORT)) == (D(5), D(5))


def test_a_stop_that_closes_the_position_takes_its_size_when_it_fires() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.1"), 2)
    order = engine.place(account, stop(SELL, LONG, "59000", close_position=True), 3)
    engine.place(account, market(BUY, LONG, "0.2"), 4)
    engine.on_trade(BTC, D("58900"), 5)
    assert (order.status, order.filled_qty, order.fired_ms) == (OrderStatus.FILLED, D("0.3"), 5)
    assert order.fired_seq > order.seq


def test_a_stop_that_lives_with_its_position_ends_with_it_and_an_ordinary_one_waits() -> None:
    engine, account = make(hedge=False)
    engine.place(account, market(BUY, BOTH, "0.1"), 2)
    ours = engine.place(account, stop(SELL, BOTH, "59000", close_position=True), 3)
    ordinary = market(SELL, BOTH, "0.1", trigger_price=D("58000"), trigger_direction=2, reduce_only=True)
    waiting = engine.place(account, ordinary, 3)
    engine.place(account, market(SELL, BOTH, "0.1"), 4)
    assert (ours.status, ours.end_reason) == (OrderStatus.DEACTIVATED, EndReason.POSITION_CLOSED)
    engine.on_trade(BTC, D("58000"), 5)
    assert (waiting.status, waiting.end_reason) == (OrderStatus.CANCELLED, EndReason.REDUCE_ONLY)


def test_a_stop_can_be_refused_when_it_fires() -> None:
    engine, account = make()
    engine.refuses_at_trigger = lambda order: True
    engine.place(account, market(BUY, LONG, "0.1"), 2)
    order = engine.place(account, stop(SELL, LONG, "59000", close_position=True), 3)
    engine.on_trade(BTC, D("58900"), 5)
    assert (order.status, order.end_reason) == (OrderStatus.REJECTED, EndReason.REFUSED_AT_TRIGGER)
    assert sizes(engine, account)[0] == D("0.1")


def test_an_id_may_be_reused_where_the_order_says_so_once_it_is_done() -> None:
    engine, account = make()
    first = engine.place(account, limit(BUY, LONG, "0.1", "50000", client_order_id="x", reuse_ids=True), 2)
    with pytest.raises(Refused, match="DUPLICATE_ID"):
        engine.place(account, market(BUY, LONG, "0.1", client_order_id="x", reuse_ids=True), 3)
    engine.cancel(account, first, 4)
    second = engine.place(account, market(BUY, LONG, "0.1", client_order_id="x", reuse_ids=True), 5)
    assert engine.find(account, client_order_id="x") is second


def test_a_liquidation_ends_the_orders_and_takes_the_position() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.1", stop_loss=D("50000")), 2)
    engine.place(account, market(SELL, SHORT, "0.1"), 2)
    resting = engine.place(account, limit(BUY, LONG, "0.1", "50000"), 3)
    order = engine.take_over(account, BTC, 4, position_side=LONG)
    assert sizes(engine, account) == (D("0"), D("-0.1"))
    assert (order.created_by, order.client_order_id) == (CreatedBy.LIQUIDATION, "")
    assert account.fills[-1].exec_type is ExecType.LIQUIDATION
    assert (resting.status, resting.end_reason) == (OrderStatus.CANCELLED, EndReason.LIQUIDATION)
    assert not engine.open_orders(account)
    with pytest.raises(Refused, match="ZERO_POSITION"):
        engine.take_over(account, BTC, 5, position_side=LONG)


def test_auto_deleveraging_takes_a_part() -> None:
    engine, account = make(hedge=False)
    engine.place(account, market(SELL, BOTH, "0.1", stop_loss=D("61000")), 2)
    engine.take_over(account, BTC, 3, adl=True, qty=D("0.04"))
    assert engine.position(account, BTC).qty == D("-0.06")
    assert account.fills[-1].exec_type is ExecType.ADL
    assert engine.view(account, BTC).stop_loss == D("61000")
    with pytest.raises(Refused, match="QTY_MAX"):
        engine.take_over(account, BTC, 4, adl=True, qty=D("0.07"))


def test_funding_moves_cash_and_no_size() -> None:
    engine, account = make()
    engine.place(account, market(BUY, LONG, "0.3"), 2)
    engine.place(account, market(SELL, SHORT, "0.1"), 2)
    before = account.balance
    engine.take_events()
    assert engine.fund(BTC, D("0.0001"), 3) == 2
    assert account.balance == before - D("1.8") + D("0.6")
    assert sizes(engine, account) == (D("0.3"), D("-0.1"))
    assert [(f.exec_type, f.qty, f.fee) for f in account.fills[-2:]] == [
        (ExecType.FUNDING, D("0.3"), D("1.8")),
        (ExecType.FUNDING, D("0.1"), D("-0.6")),
    ]
    assert sum((e.change for e in engine.take_events() if isinstance(e, WalletChanged)), D(0)) == D("-1.2")


STEPS = st.lists(
    st.tuples(
        st.sampled_from([BUY, SELL]), st.sampled_from([LONG, SHORT]), st.integers(1, 400), st.integers(100_000, 900_000)
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_legs_never_flip_and_profit_equals_cash_flow(steps: list[tuple[Side, PositionSide, int, int]]) -> None:
    engine, account = make()
    account.balance = account.deposited = D("1000000000")
    for side, leg, thousandths, tenths in steps:
        engine.on_trade(BTC, D(tenths) / 10, 2)
        held = engine.position(account, BTC, leg).reducible_by(side)
        if held or side is leg.opens_with:
            engine.place(account, market(side, leg, str(D(thousandths) / 1000)), 3)
        else:
            with pytest.raises(Refused, match="NOTHING_TO_REDUCE"):
                engine.place(account, market(side, leg, str(D(thousandths) / 1000)), 3)
    long, short = sizes(engine, account)
    assert long >= 0 >= short
    cash = sum((-f.side.sign * f.value - f.fee for f in account.fills), D(0))
    held_value = engine.position(account, BTC, LONG).cost - engine.position(account, BTC, SHORT).cost
    assert account.balance - account.deposited == cash + held_value
