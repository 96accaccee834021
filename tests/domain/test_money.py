"""Rounding goes where its name says, and plain text is plain."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import floor_to_step, plain, tick_down, tick_up

D = Decimal
AMOUNTS = st.decimals(min_value=0, max_value=10**9, places=8)
STEPS = st.sampled_from([D(1), D("0.1"), D("0.05"), D("0.001"), D("0.00000001"), D(10), D("2.5")])


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [
        ("0.0159", "0.001", "0.015"),
        ("0.0009", "0.001", "0"),
        ("0.3", "0.1", "0.3"),  # as floats this is 0.2
        ("17", "10", "10"),
        ("1E+2", "0.5", "100"),
    ],
)
def test_quantities_are_cut_to_the_step(value: str, step: str, expected: str) -> None:
    assert floor_to_step(D(value), D(step)) == D(expected)


@pytest.mark.parametrize(
    ("value", "tick", "down", "up"),
    [
        ("98.529", "0.1", "98.5", "98.6"),
        ("98.5", "0.1", "98.5", "98.5"),
        ("0.00012", "0.00005", "0.00010", "0.00015"),
        ("-1.2", "0.5", "-1.5", "-1.0"),  # down is towards minus infinity
    ],
)
def test_prices_go_to_the_grid_in_the_named_direction(value: str, tick: str, down: str, up: str) -> None:
    assert (tick_down(D(value), D(tick)), tick_up(D(value), D(tick))) == (D(down), D(up))


@given(value=AMOUNTS, step=STEPS)
def test_rounding_never_exceeds_the_wish(value: Decimal, step: Decimal) -> None:
    floored = floor_to_step(value, step)
    assert floored <= value < floored + step
    assert floored % step == 0
    assert floor_to_step(floored, step) == floored


@given(value=AMOUNTS, tick=STEPS)
def test_the_two_ticks_embrace_the_price(value: Decimal, tick: Decimal) -> None:
    down, up = tick_down(value, tick), tick_up(value, tick)
    assert down <= value <= up
    assert up - down == (0 if value % tick == 0 else tick)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1E-7", "0.0000001"), ("1E+3", "1000"), ("0.0150", "0.015"), ("100", "100"), ("-2.50", "-2.5"), ("0.00", "0")],
)
def test_plain_has_no_exponent_and_no_trailing_zeros(value: str, expected: str) -> None:
    assert plain(D(value)) == expected


@given(value=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_plain_loses_nothing(value: Decimal) -> None:
    text = plain(value)
    assert D(text) == value
    assert not set(text) - set("-0123456789.")
