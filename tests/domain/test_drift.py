"""The table of differences between us and the exchange: which heal by themselves, and how long each has to last."""

from app.domain.drift import DRIFTS, DriftKind


def test_every_difference_heals_or_asks_and_counts_after_its_time() -> None:
    assert {kind.value: (handling.heals, handling.after_s) for kind, handling in DRIFTS.items()} == {
        "closed_outside": (True, 10.0),
        "size_differs": (False, 10.0),
        "foreign_position": (False, 10.0),
        "missing_stop": (True, 1.0),
        "orphan_stop": (True, 0.0),
    }
    assert set(DRIFTS) == set(DriftKind)
    assert all(handling.means and handling.done for handling in DRIFTS.values())
