"""What the recovery bench says of its figures; the kills themselves are those of tests/chaos and the storm."""

import pytest

from bench import recovery


@pytest.mark.parametrize(("worst", "said"), [(3.0, "reached"), (3.01, "MISSED")])
def test_the_slowest_kill_decides(worst: float, said: str) -> None:
    head, row = recovery.told({"watcher": [1.0, worst, 2.0]}).split("\n")
    assert head.split() == ["killed", "n", "min", "median", "max", "aim"]
    assert row.split() == ["watcher", "3", "1.00", "2.00", f"{worst:.2f}", "3", "s", said]


def test_everything_that_has_an_aim_is_measured() -> None:
    options = recovery.parse([])
    assert options.only == list(recovery.AIMS_S)
    assert options.kills >= 10
