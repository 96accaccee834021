"""docs/reliability.md names what there is: each fault's test, each drift, each command."""

import re
from pathlib import Path

import pytest

from app.domain.drift import DRIFTS, DriftKind

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (\d+) \|.*\| `(test_\w+)` \|$", PAGE, re.MULTILINE))
TESTS = {
    name
    for path in (ROOT / "tests/chaos").glob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("number", range(1, 63))
def test_each_fault_has_a_row_with_a_test_of_its_number(number: int) -> None:
    named = ROWS.get(str(number))
    assert named in TESTS
    assert named is not None
    assert named.startswith(f"test_{number:02d}_")


def test_there_is_no_row_beyond() -> None:
    assert sorted(map(int, ROWS)) == list(range(1, 63))


@pytest.mark.parametrize("kind", DriftKind)
def test_each_drift_is_told_as_the_code_handles_it(kind: DriftKind) -> None:
    [(means, done)] = re.findall(rf"^\| `{kind}` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert DRIFTS[kind].means in means
    assert DRIFTS[kind].done in done.replace("`", "")
    assert done.endswith("; it waits for you") is not DRIFTS[kind].heals


def test_each_command_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = set(re.findall(r"(?:`|\$ )make ([a-z]+)", PAGE))
    assert {"storm", "recovery", "test"} <= commands <= targets
