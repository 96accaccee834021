"""A position is the fold of its fills, and its P&L is the cash that flowed."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.order import PositionSide, Side
from app.domain.position import Fill, FillOrigin, Position, PositionStatus, fold

D = Decimal
AT = datetime(2025, 3, 4, 11, tzinfo=UTC)
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
FREE = D(0)


def empty(side: PositionSide) -> Position:
    return Position(
        id=UUID(int=1),
        account_id=UUID(int=2),
        strategy_id="demo",
        symbol="BTCUSDT",
        side=side,
        epoch=1,
        status=PositionStatus.OPENING,
        qty=D(0),
        qty_opened=D(0),
        entry_price=D(0),
        opened_at=AT,
    )


def fill(side: Side, qty: Decimal, price: Decimal, fee: Decimal = FREE, number: int = 0) -> Fill:
    return Fill(
        venue_fill_id=f"fill-{number}",
        venue_order_id="order",
        client_order_id=None,
        origin=FillOrigin.ORDER,
        symbol="BTCUSDT",
        side=side,
        qty=qty,
        price=price,
        fee=fee,
        fee_currency="USDT",
        filled_at=AT,
    )


def held(side: PositionSide, *fills: tuple[Side, str, str]) -> Position:
    position = empty(side)
    for which, qty, price in fills:
        position, _ = fold(position, fill(which, D(qty), D(price)))
    return position


@pytest.mark.parametrize(
    ("side", "fills", "qty", "entry", "realized"),
    [
        (LONG, [(Side.BUY, "1", "100")], "1", "100", "0"),
        (LONG, [(Side.BUY, "1", "100"), (Side.BUY, "3", "108")], "4", "106", "0"),
        (LONG, [(Side.BUY, "2", "100"), (Side.SELL, "1", "110")], "1", "100", "10"),
        (SHORT, [(Side.SELL, "2", "100"), (Side.BUY, "1", "110")], "1", "100", "-10"),
        # an addition after a partial exit averages over what is still held
        (LONG, [(Side.BUY, "2", "100"), (Side.SELL, "1", "110"), (Side.BUY, "1", "120")], "2", "110", "10"),
        # more than is held closes it and no more
        (LONG, [(Side.BUY, "1", "100"), (Side.SELL, "5", "90")], "0", "100", "-10"),
    ],
)
def test_fills_fold_into_a_position(
    side: PositionSide, fills: list[tuple[Side, str, str]], qty: str, entry: str, realized: str
) -> None:
    position = held(side, *fills)
    assert (position.qty, position.entry_price, position.realized_pnl) == (D(qty), D(entry), D(realized))


def test_a_fill_larger_than_the_position_leaves_its_rest_and_its_share_of_the_fee() -> None:
    position, taken = fold(held(LONG, (Side.BUY, "1", "100")), fill(Side.SELL, D(4), D(100), fee=D("0.8")))
    assert (taken, position.fees) == (D(1), D("0.2"))


@pytest.mark.parametrize(("side", "expected"), [(LONG, "-20"), (SHORT, "20")])
def test_unrealized_pnl_has_the_sign_of_the_side(side: PositionSide, expected: str) -> None:
    assert held(side, (side.opens_with, "2", "100")).unrealized_pnl(D(90)) == D(expected)


# Powers of two and round prices keep the average entry exact, so that equality can be asked for.
QTYS = st.sampled_from([D(1), D(2), D(4), D(8)])
PRICES = st.integers(1, 1000).map(D)
FEES = st.decimals(min_value=-1, max_value=5, places=4)


@st.composite
def lives(draw: st.DrawFn) -> tuple[PositionSide, list[Fill]]:
    """Fills of a position from flat to flat; entries first, so that the average is taken over whole numbers."""
    side = draw(st.sampled_from(PositionSide))
    qty = draw(QTYS)
    fills = [fill(side.opens_with, qty, draw(PRICES), draw(FEES), 0)]
    if draw(st.booleans()):
        fills.append(fill(side.opens_with, qty, draw(PRICES), draw(FEES), 1))
    left = sum((one.qty for one in fills), D(0))
    while left:
        part = min(draw(QTYS), left)
        fills.append(fill(side.closes_with, part, draw(PRICES), draw(FEES), len(fills)))
        left -= part
    return side, fills


@given(life=lives())
def test_the_pnl_of_a_closed_position_is_its_cash_flow(life: tuple[PositionSide, list[Fill]]) -> None:
    side, fills = life
    position = empty(side)
    for one in fills:
        position, taken = fold(position, one)
        assert taken == one.qty
    cash = sum((one.qty * one.price * (1 if one.side is Side.SELL else -1) for one in fills), D(0))
    assert position.qty == 0
    assert position.realized_pnl == cash
    assert position.fees == sum((one.fee for one in fills), D(0))


@given(life=lives(), price=PRICES, cut=st.integers(1, 12))
def test_cash_plus_what_is_held_is_the_pnl_at_any_moment(
    life: tuple[PositionSide, list[Fill]], price: Decimal, cut: int
) -> None:
    side, fills = life
    position = empty(side)
    for one in fills[:cut]:
        position, _ = fold(position, one)
    cash = sum((one.qty * one.price * (1 if one.side is Side.SELL else -1) for one in fills[:cut]), D(0))
    worth = position.qty * price * side.sign
    assert position.realized_pnl + position.unrealized_pnl(price) == cash + worth


@given(life=lives(), data=st.data())
def test_the_order_of_opening_fills_does_not_matter(life: tuple[PositionSide, list[Fill]], data: st.DataObject) -> None:
    side, fills = life
    opening = [one for one in fills if one.side is side.opens_with]
    shuffled = data.draw(st.permutations(opening))
    one, other = empty(side), empty(side)
    for first, second in zip(opening, shuffled, strict=True):
        one, _ = fold(one, first)
        other, _ = fold(other, second)
    assert one == other


@given(life=lives())
def test_the_signed_quantity_is_the_sum_of_the_fills(life: tuple[PositionSide, list[Fill]]) -> None:
    side, fills = life
    position = empty(side)
    total = D(0)
    for one in fills:
        position, _ = fold(position, one)
        total += one.qty if one.side is Side.BUY else -one.qty
        assert position.qty * side.sign == total
    assert position.qty_opened == sum((one.qty for one in fills if one.side is side.opens_with), D(0))
