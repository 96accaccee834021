"""The words of the domain and what follows from each: sides, actions, statuses, what is not said."""

from datetime import UTC, datetime
from decimal import Decimal as D
from uuid import UUID

import pytest

from app.domain.order import (
    FINAL,
    SOURCES,
    UNRESOLVED,
    Order,
    OrderStatus,
    PositionMode,
    PositionSide,
    Side,
    client_order_id,
    is_ours,
    opposite,
)
from app.domain.position import Position, PositionStatus
from app.domain.signal import (
    CLOSING,
    REDUCING,
    Action,
    BreakEven,
    Exits,
    PriceOrPct,
    Signal,
    SizeUnit,
    StopLoss,
    Target,
    Trailing,
)

AT = datetime(2026, 3, 4, tzinfo=UTC)

# from (row) to (column): x where an order may go that way
LIFE = """
          sent unknown accepted filled cancelled rejected absent disarmed armed
armed     x    .       x        x      x         x        .      x        .
sent      .    x       x        x      x         x        x      .        .
unknown   .    x       x        x      x         x        x      .        .
accepted  .    .       x        x      x         x        .      .        .
filled    .    .       .        .      .         .        .      .        .
cancelled .    .       .        .      .         .        .      .        .
rejected  .    .       x        .      .         .        .      .        .
absent    .    .       x        x      x         .        .      .        .
disarmed  x    .       x        x      x         x        .      .        .
"""


def test_the_life_of_an_order_is_this_table() -> None:
    head, *lines = LIFE.strip("\n").splitlines()
    columns = head.split()
    allowed = {
        (line.split()[0], to)
        for line in lines
        for to, mark in zip(columns, line.split()[1:], strict=True)
        if mark == "x"
    }
    assert {line.split()[0] for line in lines} == set(columns) == set(OrderStatus)
    assert {(source.value, to.value) for to, sources in SOURCES.items() for source in sources} == allowed


def test_which_orders_wait_and_which_have_ended() -> None:
    assert {"sent", "unknown", "accepted"} == UNRESOLVED
    assert {"filled", "cancelled", "rejected", "disarmed"} == FINAL


def test_a_client_order_id_is_known() -> None:
    """Never another for the same question: after an update the exchange is asked for orders by these ids."""
    found = client_order_id(b"install", UUID(int=7), "account:BTCUSDT", 1, 2)
    assert found == "lhmn5vsopdiz2komyglpazldvwximoxfyk"
    assert client_order_id(b"another", UUID(int=7), "account:BTCUSDT", 1, 2) != found


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("lh" + "a" * 32, True),
        (client_order_id(b"another", UUID(int=7), "account:BTCUSDT", 1, 2), True),
        ("lh" + "a" * 31, False),
        ("lh" + "a" * 33, False),
        ("x-" + "a" * 32, False),
        ("", False),
    ],
)
def test_an_id_of_this_program_is_known_by_its_shape(given: str, ours: bool) -> None:
    assert is_ours(given) is ours


def test_sides_and_their_opposites() -> None:
    assert opposite(PositionSide.LONG) is PositionSide.SHORT
    assert opposite(PositionSide.SHORT) is PositionSide.LONG
    assert [mode.words for mode in PositionMode] == ["one-way", "hedge"]


def test_which_actions_only_close() -> None:
    assert {"reduce", "reduce_long", "reduce_short"} == REDUCING
    assert {*REDUCING, "close", "close_long", "close_short"} == CLOSING
    for action in Action:
        assert Signal(symbol="BTCUSDT", action=action).only_closes is (action in CLOSING)
    for target in Target:
        assert Signal(symbol="BTCUSDT", target=target).only_closes is (target is Target.FLAT)


def test_which_sizes_count_units() -> None:
    assert {unit for unit in SizeUnit if unit.counts_units} == {"base", "contracts"}


STOP = Exits(stop_loss=StopLoss(pct=D(1)))
AWAKE = Exits(trailing=Trailing(distance=PriceOrPct(pct=D(1))))
ASLEEP = Exits(trailing=Trailing(distance=PriceOrPct(pct=D(1)), activate=PriceOrPct(pct=D(1))))


@pytest.mark.parametrize(
    ("exits", "protects"),
    [(Exits(), False), (STOP, True), (AWAKE, True), (ASLEEP, False), (ASLEEP.over(STOP), True)],
)
def test_what_protects_from_the_first_moment(exits: Exits, protects: bool) -> None:
    assert exits.names_a_stop is protects


def test_what_is_named_goes_over_the_defaults_one_by_one() -> None:
    assert STOP.changed(AWAKE, {"trailing"}) == Exits(stop_loss=STOP.stop_loss, trailing=AWAKE.trailing)
    assert STOP.changed(Exits(), {"stop_loss"}) == Exits()
    even = Exits(break_even=BreakEven(after=PriceOrPct(pct=D(1))))
    assert STOP.over(AWAKE).over(even) == Exits(
        stop_loss=STOP.stop_loss, trailing=AWAKE.trailing, break_even=even.break_even
    )
    assert AWAKE.over(ASLEEP).trailing == AWAKE.trailing


def test_what_is_not_said_of_an_order_or_a_position() -> None:
    order = Order(
        id=UUID(int=1), intent_id=UUID(int=2), attempt=0, client_order_id="lh", account_id=UUID(int=3),
        symbol="BTCUSDT", side=Side.BUY, qty=D(1), reduce_only=False, status=OrderStatus.SENT, created_at=AT,
    )  # fmt: skip
    assert (order.hedge, order.filled_qty, order.stop_loss) == (False, D(0), None)
    position = Position(
        id=UUID(int=1), account_id=UUID(int=3), strategy_id="demo", symbol="BTCUSDT", side=PositionSide.LONG, epoch=1,
        status=PositionStatus.OPEN, qty=D(1), qty_opened=D(1), entry_price=D(1), opened_at=AT,
    )  # fmt: skip
    assert (position.hedge, position.realized_pnl, position.fees) == (False, D(0), D(0))
