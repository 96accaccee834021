"""The edges of exits: exactly at the price, at nothing, on a grid too coarse, in a ladder whose rungs are too small."""

from datetime import UTC, datetime
from decimal import Decimal as D

import pytest

from app.domain.exits import check_exits, plan_levels
from app.domain.level import LevelKind
from app.domain.order import PositionSide
from app.domain.refusals import Outcome
from app.domain.signal import BreakEven, Exits, PriceOrPct, StopLoss, TakeProfit, Trailing
from tests.support.instruments import instrument

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
OPENED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def pct(value: str) -> StopLoss:
    return StopLoss(pct=D(value))


def at(value: str) -> StopLoss:
    return StopLoss(price=D(value))


def target(where: PriceOrPct) -> Exits:
    return Exits(take_profit=(TakeProfit(at=where, fraction=D(1)),))


@pytest.mark.parametrize(
    ("exits", "side", "price", "expected"),
    [
        # a stop below nothing never fires
        (Exits(stop_loss=at("0")), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=at("-5")), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=pct("100")), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=at("0.5")), LONG, "100", None),
        (Exits(stop_loss=at("100")), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(stop_loss=at("100")), SHORT, "100", Outcome.STOP_WRONG_SIDE),
        # nor does one that trails a long by all that it is worth; a short may be trailed by any distance
        (Exits(trailing=Trailing(distance=at("100"))), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(trailing=Trailing(distance=at("99.9"))), LONG, "100", None),
        (Exits(trailing=Trailing(distance=pct("100"))), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(trailing=Trailing(distance=pct("99.9"))), LONG, "100", None),
        (Exits(trailing=Trailing(distance=pct("5"))), LONG, "0.5", None),
        (Exits(trailing=Trailing(distance=at("150"))), SHORT, "100", None),
        (Exits(trailing=Trailing(distance=pct("150"))), SHORT, "100", None),
        # at the price itself it would fire at once
        (Exits(break_even=BreakEven(after=at("100"))), LONG, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=at("100"))), SHORT, "100", Outcome.STOP_WRONG_SIDE),
        (Exits(break_even=BreakEven(after=at("100.1"))), LONG, "100", None),
        (Exits(break_even=BreakEven(after=at("99.9"))), SHORT, "100", None),
        (target(at("100")), LONG, "100", Outcome.TARGET_WRONG_SIDE),
        (target(at("100")), SHORT, "100", Outcome.TARGET_WRONG_SIDE),
        (target(at("0")), SHORT, "100", Outcome.TARGET_WRONG_SIDE),
        (target(pct("100")), SHORT, "100", Outcome.TARGET_WRONG_SIDE),
        (target(at("0.5")), SHORT, "100", None),
    ],
)
def test_an_exit_exactly_at_an_edge(exits: Exits, side: PositionSide, price: str, expected: Outcome | None) -> None:
    refused = check_exits(exits, side, D(price))
    assert (None if refused is None else refused.code) == expected


@pytest.mark.parametrize(
    ("where", "side", "entry", "tick", "expected"),
    [
        (pct("0.5"), LONG, "100", "1", "101"),  # towards the entry it would be the entry, and fire at once
        (pct("0.5"), SHORT, "100", "1", "99"),
        (pct("1.5"), LONG, "100", "1", "101"),
        (pct("1.5"), SHORT, "100", "1", "99"),
        (at("100.05"), LONG, "100.05", "0.1", "100"),  # at the entry, as it was filled: it is reached already
        (at("100.05"), SHORT, "100.05", "0.1", "100.1"),
        (pct("90"), SHORT, "1", "0.5", "0.5"),  # one tick at least
    ],
)
def test_a_target_on_a_coarse_grid(where: PriceOrPct, side: PositionSide, entry: str, tick: str, expected: str) -> None:
    [level] = plan_levels(target(where), side, D(entry), D(1), instrument(tick_size=D(tick)), opened_at=OPENED_AT)
    assert level.price == D(expected)


def ladder(
    fractions: str,
    qty: str,
    *,
    opened: str | None = None,
    qty_min: str = "0.001",
    fired: frozenset[int] = frozenset(),
) -> list[tuple[int, str, float]]:
    """(rung, fraction, quantity in thousandths) of what is planned for these fractions."""
    rungs = [TakeProfit(at=pct(str(number)), fraction=D(x)) for number, x in enumerate(fractions.split(), 1)]
    planned = plan_levels(
        Exits(take_profit=tuple(rungs)),
        LONG,
        D(100),
        D(qty) / 1000,
        instrument(qty_min=D(qty_min)),
        fired_rungs=fired,
        qty_opened=None if opened is None else D(opened) / 1000,
        opened_at=OPENED_AT,
    )
    assert {level.kind for level in planned} <= {LevelKind.TAKE_PROFIT}
    return [(level.rung, str(level.fraction), float(level.qty * 1000)) for level in planned]


def test_a_last_rung_that_is_too_small_goes_with_the_one_before() -> None:
    assert ladder("0.9 0.1", "5", qty_min="0.002") == [(0, "1.0", 5)]
    assert ladder("0.3 0.3 0.3 0.1", "10", qty_min="0.002") == [(0, "0.3", 3), (1, "0.3", 3), (2, "0.4", 4)]
    assert ladder("0.5 0.1", "10", qty_min="0.002") == [(0, "0.6", 6)], "also where not all is to be closed"
    assert ladder("0.4 0.4 0.15 0.05", "10", qty_min="0.003") == [(0, "0.4", 4), (1, "0.60", 6)]


def test_a_last_rung_of_nothing_is_left_out() -> None:
    assert ladder("0.5 0.0001", "10") == [(0, "0.5", 5)]


def test_a_first_rung_of_nothing_goes_with_the_next() -> None:
    assert ladder("0.1 0.9", "5", qty_min="0") == [(1, "1.0", 5)]
    assert ladder("0.1 0.9", "5") == [(1, "1.0", 5)]


def test_the_last_rung_takes_what_is_left_whatever_the_first_has_taken() -> None:
    first = frozenset({0})
    assert ladder("0.5 0.5", "6", opened="10", fired=first) == [(1, "0.5", 6)]
    assert ladder("0.5 0.5", "4", opened="10", fired=first) == [(1, "0.5", 4)]
    assert ladder("0.5 0.4", "6", opened="10", fired=first) == [(1, "0.4", 4)], "it is not for the whole position"
    assert ladder("0.3 0.3 0.4", "8", opened="10", fired=first) == [(1, "0.3", 3), (2, "0.4", 5)]


def test_what_is_held_off_the_grid_is_cut_to_it() -> None:
    assert ladder("1", "5.5") == [(0, "1", 5)]
    assert ladder("0.5 0.5", "5.5", opened="10", fired=frozenset({0})) == [(1, "0.5", 5)]


def test_a_rung_for_which_nothing_is_left_is_left_out() -> None:
    assert ladder("0.5 0.5", "5", opened="10", qty_min="0") == [(0, "0.5", 5)]
    assert ladder("0.5 0.5", "5", opened="10") == [(0, "0.5", 5)]


def test_an_order_takes_all_that_the_exchange_takes_at_once() -> None:
    rules = instrument(market_qty_max=D("0.0055"))
    assert rules.order_qty(D("0.0045")) == D("0.004"), "the exchange refuses what is off its grid"
    assert rules.order_qty(D("0.0005")) == 0
    assert rules.order_qty(D("0.0055")) == D("0.005")
    assert rules.order_qty(D("0.0060")) == D("0.003")
