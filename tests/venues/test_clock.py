"""What is believed of an exchange's clock."""

import pytest

from app.venues.clock import Clock


def test_a_difference_counts_only_beyond_the_round_trips_doubt() -> None:
    clock = Clock()
    clock.sample(1000, 1150, 1200)  # 50 ms ahead, at a doubt of 100
    assert clock.offset_ms == 0
    clock.sample(1000, 3100, 1200)
    assert clock.offset_ms == 2000
    clock.sample(1000, 3700, 1900)  # 250 ms more, at a doubt of 450: the quick one is believed
    assert clock.offset_ms == 2000
    clock.sample(1000, 1050, 1100)
    assert clock.offset_ms == 0


@pytest.mark.parametrize(("sent", "received"), [(0, 1001), (10, 0)])
def test_a_slow_or_impossible_round_trip_proves_nothing(sent: int, received: int) -> None:
    clock = Clock()
    clock.sample(sent, 99_999, received)
    assert clock.offset_ms == 0
