"""Levels that fire at an instant."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from app.domain.level import Level, LevelKind
from app.domain.order import PositionSide
from workers.due import Due

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def level(number: int, after_s: int) -> Level:
    return Level(
        id=UUID(int=number),
        position_id=UUID(int=1000 + number),
        kind=LevelKind.TIME_EXIT,
        side=PositionSide.LONG,
        fraction=Decimal(1),
        qty=Decimal(1),
        due_at=NOON + timedelta(seconds=after_s),
        armed_at=NOON,
        order_id=UUID(int=2000 + number),
        intent_id=UUID(int=3000 + number),
    )


def test_each_fires_once_at_its_instant_the_earliest_first() -> None:
    fired: list[int] = []
    due = Due(lambda one: fired.append(one.id.int))
    for one in (level(1, 30), level(2, 10), level(3, 20), level(4, 20)):
        due.arm(one)
    due.disarm(UUID(int=4))
    due.disarm(UUID(int=5))
    told = []
    for seconds in (9.99, 10, 10, 30, 31):
        due.look(NOON + timedelta(seconds=seconds))
        told.append(list(fired))
    assert told == [[], [2], [2], [2, 3, 1], [2, 3, 1]]


def test_one_that_was_moved_fires_at_its_new_instant_alone() -> None:
    fired: list[int] = []
    due = Due(lambda one: fired.append(one.id.int))
    due.arm(level(1, 10))
    due.arm(level(1, 20))
    due.arm(level(2, 30))
    due.arm(level(2, 15))
    due.look(NOON + timedelta(seconds=12))
    assert fired == []
    due.look(NOON + timedelta(seconds=60))
    assert fired == [2, 1]
