"""The level book: the armed levels of one instrument, and which of them a price fires."""

import heapq
from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

import msgspec

from app.domain.level import Level, LevelKind
from app.domain.order import PositionSide


class LevelBook:
    """The armed levels of one instrument. A tick that crosses nothing costs the same however many there are.

    Fired levels leave the book; what becomes of them is the store's affair, and so is disarming the others of a
    position that is gone.
    """

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        self._levels: dict[UUID, Level] = {}
        # level id -> the one heap entry of it that counts; others are left behind and skipped
        self._entries: dict[UUID, int] = {}
        self._next_entry = 0
        # Each direction looks at `sign * price`, so that one kind of heap serves both.
        self._firing = {1: _Heap(), -1: _Heap()}
        self._waking = {1: _Heap(), -1: _Heap()}
        self._trailing = {
            PositionSide.LONG: _Trailing(PositionSide.LONG),
            PositionSide.SHORT: _Trailing(PositionSide.SHORT),
        }
        self._changed: dict[UUID, None] = {}
        for level in levels:
            self.arm(level)

    def __len__(self) -> int:
        return len(self._levels)

    def levels(self) -> list[Level]:
        """All levels in the book, with the extremes that they have reached."""
        return list(self._levels.values())

    def arm(self, level: Level) -> None:
        """Add a level, or replace the one with its id.

        The store's copy of an extreme lags behind the book's. A level that is the same otherwise keeps the better of
        the two: a trailing stop only tightens.
        """
        known = self._levels.get(level.id)
        self.disarm(level.id)
        if known is not None and known.extreme is not None and _same_level(known, level):
            kept = _better(level.side, known.extreme, level.extreme)
            if kept != level.extreme:
                level = _with_extreme(level, kept)
                self._changed[level.id] = None
        self._levels[level.id] = level
        self._place(level)

    def disarm(self, level_id: UUID) -> None:
        """Take a level out; nothing happens if it isn't there."""
        level = self._levels.pop(level_id, None)
        if level is None:
            return
        self._entries.pop(level_id, None)
        self._changed.pop(level_id, None)
        self._trailing[level.side].remove(level_id)

    def advance(self, level_id: UUID, extreme: Decimal) -> None:
        """An extreme that was found elsewhere; it counts if it is better than the level's own."""
        level = self._levels.get(level_id)
        if level is None or level.extreme == _better(level.side, extreme, level.extreme):
            return
        self.disarm(level_id)
        self._move(_with_extreme(level, extreme))
        self._place(self._levels[level_id])

    def on_price(self, price: Decimal) -> list[Level]:
        """The levels that this price fires, in the order in which they are to be carried out; they leave the book.

        Once a stop of a position fires, nothing else of that position does: all its levels are for the same holding.
        """
        for sign in (1, -1):
            for level_id in self._pop(self._waking[sign], sign * price):
                self._move(_with_extreme(self._levels[level_id], price))
                self._place(self._levels[level_id])
        for trailing in self._trailing.values():
            for level in trailing.advance(self._levels, price):
                self._move(level)
        crossed = [
            self._levels[level_id] for sign in (1, -1) for level_id in self._pop(self._firing[sign], sign * price)
        ]
        for trailing in self._trailing.values():
            crossed.extend(trailing.crossed(self._levels, price))
        if not crossed:
            return []
        return self._fire(crossed)

    def changed(self) -> list[Level]:
        """The levels whose extreme moved since the last call, for storing; those that fired meanwhile are left out."""
        changed = [self._levels[level_id] for level_id in self._changed]
        self._changed.clear()
        return changed

    def _fire(self, crossed: list[Level]) -> list[Level]:
        crossed.sort(key=lambda level: (level.kind is LevelKind.TAKE_PROFIT, level.armed_at, level.id))
        stopped: set[UUID] = set()
        fired: list[Level] = []
        for level in crossed:
            if level.position_id in stopped:
                self._place(level)  # stays armed until the store disarms it
                continue
            if level.kind is not LevelKind.TAKE_PROFIT:
                stopped.add(level.position_id)
            fired.append(level)
            self.disarm(level.id)
        return fired

    def _move(self, level: Level) -> None:
        self._levels[level.id] = level
        self._changed[level.id] = None

    def _place(self, level: Level) -> None:
        """Put a level where its next event will be looked for."""
        if level.asleep:
            assert level.activation_price is not None
            sign = level.side.sign
            self._push(self._waking[sign], level.id, sign * level.activation_price)
        elif level.kind is LevelKind.TRAILING_STOP:
            self._trailing[level.side].add(level)
        else:
            assert level.price is not None, "only a trailing stop has no price"
            sign = 1 if level.fires_above else -1
            self._push(self._firing[sign], level.id, sign * level.price)

    def _push(self, heap: "_Heap", level_id: UUID, key: Decimal) -> None:
        self._next_entry += 1
        self._entries[level_id] = self._next_entry
        heap.push(key, self._next_entry, level_id, self._entries)

    def _pop(self, heap: "_Heap", value: Decimal) -> list[UUID]:
        return heap.pop(value, self._entries) if heap.reached(value) else []


class _Heap:
    """Level ids by the value at which they are reached. Entries of levels that are gone are skipped when met."""

    def __init__(self) -> None:
        self._heap: list[tuple[Decimal, int, UUID]] = []

    def reached(self, value: Decimal) -> bool:
        return bool(self._heap) and self._heap[0][0] <= value

    def push(self, key: Decimal, entry: int, level_id: UUID, entries: dict[UUID, int]) -> None:
        # Levels that are re-armed again and again, far from the price, would otherwise pile up.
        if len(self._heap) > 2 * len(entries) + 64:
            self._heap = [item for item in self._heap if entries.get(item[2]) == item[1]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (key, entry, level_id))

    def pop(self, value: Decimal, entries: dict[UUID, int]) -> list[UUID]:
        found: list[UUID] = []
        while self._heap and self._heap[0][0] <= value:
            _, entry, level_id = heapq.heappop(self._heap)
            if entries.get(level_id) == entry:
                del entries[level_id]
                found.append(level_id)
        return found


class _Trailing:
    """The trailing stops of one side that are awake.

    They are looked at one by one only when some extreme moves or some trigger may be crossed; two bounds, which may be
    too wide but never too narrow, tell when.
    """

    def __init__(self, side: PositionSide) -> None:
        self._sign = side.sign
        self._ids: dict[UUID, None] = {}
        self._lowest_extreme: Decimal | None = None  # times sign; None: look at all of them
        self._highest_trigger: Decimal | None = None  # times sign

    def add(self, level: Level) -> None:
        self._ids[level.id] = None
        self._lowest_extreme = None

    def remove(self, level_id: UUID) -> None:
        self._ids.pop(level_id, None)

    def advance(self, levels: dict[UUID, Level], price: Decimal) -> list[Level]:
        """The levels whose extreme this price moves, moved."""
        value = self._sign * price
        if not self._ids or (self._lowest_extreme is not None and value <= self._lowest_extreme):
            return []
        moved: list[Level] = []
        extremes: list[Decimal] = []
        triggers: list[Decimal] = []
        for level_id in self._ids:
            level = levels[level_id]
            if level.extreme is None or value > self._sign * level.extreme:
                level = _with_extreme(level, price)
                moved.append(level)
            assert level.extreme is not None
            trigger = level.trigger_price
            assert trigger is not None
            extremes.append(self._sign * level.extreme)
            triggers.append(self._sign * trigger)
        self._lowest_extreme = min(extremes)
        self._highest_trigger = max(triggers)
        return moved

    def crossed(self, levels: dict[UUID, Level], price: Decimal) -> list[Level]:
        value = self._sign * price
        if not self._ids or self._highest_trigger is None or value > self._highest_trigger:
            return []
        self._lowest_extreme = None  # bounds are renewed at the next price
        found = []
        for level_id in self._ids:
            trigger = levels[level_id].trigger_price
            if trigger is not None and value <= self._sign * trigger:
                found.append(levels[level_id])
        return found


def _with_extreme(level: Level, extreme: Decimal | None) -> Level:
    return msgspec.structs.replace(level, extreme=extreme)


def _better(side: PositionSide, one: Decimal, other: Decimal | None) -> Decimal:
    if other is None:
        return one
    return max(one, other) if side is PositionSide.LONG else min(one, other)


def _same_level(one: Level, other: Level) -> bool:
    """Whether only the closing order or the extreme differs."""
    return (one.kind, one.side, one.price, one.activation_price, one.distance, one.distance_pct, one.armed_at) == (
        other.kind, other.side, other.price, other.activation_price, other.distance, other.distance_pct, other.armed_at
    )  # fmt: skip
