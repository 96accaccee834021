"""Every alert that was answered 2xx is in the inbox, once, when everything was killed at full load."""

from pathlib import Path

import pytest

from bench import load_kill

ALERTS, CONNECTIONS = 300, 16


@pytest.mark.timeout(120)
async def test_what_was_answered_survives_the_death_of_everything(tmp_path: Path) -> None:
    found = await load_kill.measure(ALERTS, CONNECTIONS, tmp_path)
    assert found.answered >= ALERTS - CONNECTIONS, "they were stored, and the answers of the last were cut off"
    assert (found.lost, found.doubled, found.refused) == ([], [], {})
    assert found.sound


@pytest.mark.parametrize(
    ("rows", "lost", "doubled"),
    [
        ([("a", "1", 1), ("b", "2", 1)], [], []),
        ([("a", "1", 1)], ["b"], []),
        ([("a", "1", 1), ("b", "3", 1)], ["b"], []),
        ([("a", "1", 0), ("b", "2", 1)], ["a"], []),
        ([("a", "1", 1), ("b", "2", 2)], [], ["b"]),
        ([("a", "1", 1), ("a", "9", 1), ("b", "2", 1)], ["a"], ["a"]),
        ([("a", "1", 1), ("b", "2", 1), ("c", "3", 1)], [], []),
    ],
)
def test_what_is_missing_or_there_twice_is_found(
    tmp_path: Path, rows: list[tuple[str, str, int]], lost: list[str], doubled: list[str]
) -> None:
    notes = tmp_path / "answers"
    notes.write_text('a\t202\t{"alert_id":"1"}\nb\t200\t{"alert_id":"2"}\nc\t503\t{}\n')
    found = load_kill.compare(rows, notes)
    assert (found.lost, found.doubled, found.answered, found.refused) == (lost, doubled, 2, {503: 1})
    assert found.sound == (not lost and not doubled)
