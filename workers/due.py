"""Levels that fire at an instant instead of a price."""

import heapq
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from app.domain.level import Level


class Due:
    """Time exits in the order of their instants."""

    def __init__(self, on_due: Callable[[Level], None]) -> None:
        self._on_due = on_due
        self._levels: dict[UUID, Level] = {}
        self._waiting: list[tuple[datetime, UUID]] = []  # with entries of levels that are gone, or were moved

    def arm(self, level: Level) -> None:
        """Add a level, or replace the one with its id."""
        assert level.due_at is not None, "it fires at an instant"
        known = self._levels.get(level.id)
        self._levels[level.id] = level
        if known is None or known.due_at != level.due_at:
            heapq.heappush(self._waiting, (level.due_at, level.id))

    def disarm(self, level_id: UUID) -> None:
        self._levels.pop(level_id, None)

    def look(self, now: datetime) -> None:
        """Fire what is due."""
        while self._waiting and self._waiting[0][0] <= now:
            due_at, level_id = heapq.heappop(self._waiting)
            level = self._levels.get(level_id)
            if level is not None and level.due_at == due_at:
                del self._levels[level_id]
                self._on_due(level)
