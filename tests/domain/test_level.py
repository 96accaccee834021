"""A level by itself: which way it fires, from when on it is judged, and what an extreme found elsewhere does to it."""

from datetime import timedelta
from decimal import Decimal as D
from uuid import UUID

import msgspec
import pytest

from app.domain.level import Level, LevelKind, LevelStatus, PlannedLevel, TriggerBy, would_fire
from app.domain.level_book import LevelBook
from app.domain.order import PositionSide
from tests.domain.test_level_book import EVEN, LONG, SHORT, START, STOP, TARGET, TRAILING, fires, level


@pytest.mark.parametrize(
    ("kind", "side", "above"),
    [
        (TARGET, LONG, True),
        (STOP, LONG, False),
        (TRAILING, LONG, False),
        (EVEN, LONG, False),
        (TARGET, SHORT, False),
        (STOP, SHORT, True),
        (TRAILING, SHORT, True),
        (EVEN, SHORT, True),
    ],
)
def test_the_price_that_fires_it_rises_or_falls(kind: LevelKind, side: PositionSide, above: bool) -> None:
    assert level(1, kind, "100", side=side, distance="1").fires_above is above


@pytest.mark.parametrize(
    ("armed", "expected"),
    [
        (level(1, STOP, "100"), "100"),
        (level(1, TARGET, "110"), "110"),
        (level(1, EVEN, "100", wakes="105"), None),
        (level(1, EVEN, "100", wakes="105", extreme="106"), "100"),
        (level(1, TRAILING, distance="5"), None),
        (level(1, TRAILING, distance="5", wakes="110"), None),
        (level(1, TRAILING, distance="5", extreme="120"), "115"),
        (level(1, TRAILING, distance="5", extreme="80", side=SHORT), "85"),
        (level(1, TRAILING, distance_pct="5", extreme="120"), "114"),
        (level(1, TRAILING, distance_pct="5", extreme="80", side=SHORT), "84"),
        (level(1, TRAILING, distance="5", wakes="110", extreme="120"), "115"),
    ],
)
def test_where_it_stands(armed: Level, expected: str | None) -> None:
    assert armed.trigger_price == (None if expected is None else D(expected))
    assert armed.asleep is (armed.activation_price is not None and armed.extreme is None)


def test_it_is_judged_from_its_arming_or_from_where_its_extreme_was_stored() -> None:
    fresh = level(1, TRAILING, distance="5", armed_s=10)
    assert fresh.judged_from == START + timedelta(seconds=10)
    for stored_s, expected_s in ((5, 10), (10, 10), (15, 15)):
        stored = msgspec.structs.replace(fresh, extreme_at=START + timedelta(seconds=stored_s))
        assert stored.judged_from == START + timedelta(seconds=expected_s)


def test_what_is_not_said_of_a_level() -> None:
    planned = PlannedLevel(kind=STOP, fraction=D(1), qty=D(1))
    assert (planned.rung, planned.price, planned.activation_price, planned.distance) == (0, None, None, None)
    bare = Level(
        id=UUID(int=1), position_id=UUID(int=2), kind=STOP, side=LONG, fraction=D(1), qty=D(1), armed_at=START,
        order_id=UUID(int=3), intent_id=UUID(int=4),
    )  # fmt: skip
    assert (bare.rung, bare.trigger_by, bare.status) == (0, TriggerBy.LAST, LevelStatus.ARMED)


@pytest.mark.parametrize(
    ("armed", "high", "low", "crossed"),
    [
        (level(1, TARGET, "110"), "120", "115", True),  # all of the candle lies beyond: a gap
        (level(1, TARGET, "110"), "109", "90", False),
        (level(1, STOP, "110", side=SHORT), "120", "115", True),
        (level(1, STOP, "100"), "95", "90", True),
        (level(1, STOP, "100"), "120", "101", False),
        (level(1, TARGET, "100", side=SHORT), "95", "90", True),
    ],
)
def test_a_candle_beyond_a_level_has_crossed_it(armed: Level, high: str, low: str, crossed: bool) -> None:
    assert would_fire(armed, D(high), D(low)) is crossed


# An extreme that was found elsewhere (in the trades of a gap)


@pytest.mark.parametrize(
    ("side", "found", "fires_at", "not_at"),
    [
        (LONG, "130", "125", "125.1"),  # better than what was seen
        (LONG, "110", "115", "115.1"),  # worse: a trailing stop only tightens
        (SHORT, "70", "75", "74.9"),
        (SHORT, "90", "85", "84.9"),
    ],
)
def test_an_extreme_found_elsewhere_counts_if_it_is_better(
    side: PositionSide, found: str, fires_at: str, not_at: str
) -> None:
    seen = "120" if side is LONG else "80"
    book = LevelBook([level(1, TRAILING, distance="5", side=side, extreme=seen)])
    book.advance(UUID(int=1), D(found))
    better = found in ("130", "70")
    assert [x.id.int for x in book.changed()] == ([1] if better else [])
    assert len(book) == 1
    assert fires(book, not_at, fires_at) == [[], [1]]


def test_an_extreme_wakes_what_slept() -> None:
    book = LevelBook([level(1, EVEN, "100", wakes="105"), level(2, TRAILING, distance="5", wakes="110", position=2)])
    book.advance(UUID(int=1), D(106))
    book.advance(UUID(int=2), D(111))
    assert {x.id.int for x in book.changed()} == {1, 2}
    assert fires(book, "106.1", "106", "100.1", "100") == [[], [2], [], [1]]


def test_an_extreme_of_nothing_is_nothing() -> None:
    book = LevelBook([level(1, TRAILING, distance="5", extreme="120")])
    book.advance(UUID(int=9), D(500))
    book.advance(UUID(int=1), D(120))
    assert book.changed() == []
    assert len(book) == 1


def test_a_level_that_is_armed_with_a_better_extreme_takes_it() -> None:
    """Another watcher has seen more than this one."""
    book = LevelBook([level(1, TRAILING, distance="5")])
    book.on_price(D(110))
    book.changed()
    book.arm(level(1, TRAILING, distance="5", extreme="120"))
    assert book.changed() == [], "the store knows it"
    assert fires(book, "115.1", "115") == [[], [1]]


def test_a_level_that_has_seen_nothing_takes_what_another_has_seen() -> None:
    book = LevelBook([level(1, TRAILING, distance="5")])
    book.arm(level(1, TRAILING, distance="5", extreme="120"))
    assert book.changed() == []
    assert fires(book, "115.1", "115") == [[], [1]]


def test_a_level_without_an_extreme_keeps_none_from_the_book() -> None:
    book = LevelBook([level(1, STOP, "100")])
    book.arm(level(1, STOP, "100"))
    assert book.changed() == []
    assert [x.extreme for x in book.levels()] == [None]


@pytest.mark.parametrize(
    "other",
    [
        level(1, TRAILING, distance="6"),
        level(1, TRAILING, distance_pct="5"),
        level(1, TRAILING, distance="5", wakes="101"),
        level(1, TRAILING, distance="5", armed_s=1),
        level(1, TRAILING, distance="5", side=SHORT),
    ],
)
def test_another_level_of_the_same_id_starts_anew(other: Level) -> None:
    book = LevelBook([level(1, TRAILING, distance="5")])
    book.on_price(D(120))
    book.changed()
    book.arm(other)
    assert [x.extreme for x in book.levels()] == [None]
    assert book.changed() == []


def test_the_levels_of_a_position_that_a_stop_ended_stay_as_they_are_in_the_book() -> None:
    """Targets, sleeping and trailing ones alike, until the store disarms them; then nothing of them is left."""
    book = LevelBook(
        [level(1, STOP, "100", armed_s=0), level(2, TARGET, "99", armed_s=1), level(3, STOP, "99.5", armed_s=2)]
    )
    assert fires(book, "99.2") == [[1]]
    assert {x.id.int for x in book.levels()} == {2, 3}
    assert fires(book, "99.2") == [[3]]
    assert fires(book, "99") == [[2]]


@pytest.mark.parametrize("side", PositionSide)
def test_no_level_is_lost_when_the_book_is_tidied_up(side: PositionSide) -> None:
    """Levels that are armed again leave entries behind, which are thrown out from time to time."""

    def price(number: int, turn: int) -> int:
        return 1000 - side.sign * (1 + (number * 37 + turn * 101) % 500)

    book = LevelBook()
    for turn in range(40):
        for number in range(1, 61):
            book.arm(level(number, STOP, str(price(number, turn)), side=side, position=number))
    left = {number: price(number, 39) for number in range(1, 61)}
    for now in range(1000, 1000 - side.sign * 502, -side.sign):
        [fired] = fires(book, str(now))
        assert sorted(fired) == sorted(number for number, at in left.items() if at == now)
    assert len(book) == 0
