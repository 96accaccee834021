"""The level book: the armed levels of one instrument, and which of them a price fires."""

import heapq
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from uuid import UUID

import msgspec

from app.domain.level import Level, LevelKind
from app.domain.money import INFINITY
from app.domain.order import PositionSide
from app.domain.trailing import Group, Trail


class LevelBook:
    """The armed levels of one instrument. A tick that crosses nothing costs the same however many there are, also when
    it is a new extreme for trailing stops.

    Fired levels leave the book; what becomes of them is the store's affair, and so is disarming the others of a
    position that is gone.
    """

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        self._levels: dict[UUID, Level] = {}  # the extremes of trailing ones are in their trail
        # level id -> the one heap entry of it that counts; others are left behind and skipped
        self._entries: dict[UUID, int] = {}
        self._next_entry = 0
        # Each direction looks at `sign * price`, so that one kind of heap serves both.
        self._firing = {1: _Heap(), -1: _Heap()}
        self._waking = {1: _Heap(), -1: _Heap()}  # activation prices, and where a callback shrinks
        self._trails = {1: Trail(1), -1: Trail(-1)}
        self._changed: dict[UUID, None] = {}
        self._group = Group(INFINITY)  # the one that moves, while `_riding` is the sign of its side
        self._before = INFINITY, INFINITY  # bounds of the other direction when it began to
        self._unbind()
        for level in levels:
            self.arm(level)

    def __len__(self) -> int:
        return len(self._levels)

    def levels(self) -> list[Level]:
        """All levels in the book, with the extremes that they have reached."""
        return [self._current(level) for level in self._levels.values()]

    def arm(self, level: Level) -> None:
        """Add a level, or replace the one with its id.

        The store's copy of an extreme lags behind the book's. A level that is the same otherwise keeps the better of
        the two: a trailing stop only tightens.
        """
        known = self._levels.get(level.id)
        if known is not None:
            known = self._current(known)
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
        self._trails[level.side.sign].remove(level_id)
        self._unbind()

    def advance(self, level_id: UUID, extreme: Decimal) -> None:
        """An extreme that was found elsewhere; it counts if it is better than the level's own."""
        level = self._levels.get(level_id)
        if level is None:
            return
        level = self._current(level)
        if level.extreme != _better(level.side, extreme, level.extreme):
            self.disarm(level_id)
            self._move(_with_extreme(level, extreme))
            self._place(self._levels[level_id])

    def on_price(self, price: Decimal) -> list[Level]:
        """The levels that this price fires, in the order in which they are to be carried out; they leave the book.

        Once a stop of a position fires, nothing else of that position does: all its levels are for the same holding.
        """
        if self._below < price < self._above:
            return []
        return self._look(price)

    def changed(self, most: int | None = None) -> list[Level]:
        """The levels whose extreme moved since they were told of, for storing, those that fired left out.

        With `most` no more than so many, those that have waited longest; the others are told of next time. So storing
        costs the same however many follow one price.
        """
        if most is None or len(self._changed) < most:
            for trail in self._trails.values():
                self._changed |= dict.fromkeys(trail.moved())
            self._unbind()  # what moves from here on has moved again
        told = list(islice(self._changed, most))
        for level_id in told:
            del self._changed[level_id]
        return [self._current(self._levels[level_id]) for level_id in told]

    def _look(self, price: Decimal) -> list[Level]:
        """`on_price` where something happens."""
        if self._above <= price < self._ride_above:
            if price != self._above:
                self._ride(1, price)
            return []
        if self._ride_below < price <= self._below:
            if price != self._below:
                self._ride(-1, price)
            return []
        if self._riding and self._get_off(price):
            return []
        for sign in (1, -1):
            for level_id in self._waking[sign].pop(sign * price, self._entries):
                self._trails[sign].remove(level_id)  # where it is one whose callback shrinks
                self._move(_with_extreme(self._levels[level_id], price))
                self._place(self._levels[level_id])
        for sign, trail in self._trails.items():
            trail.advance(sign * price)
        crossed = [
            self._levels[level_id]
            for sign in (1, -1)
            for level_id in self._firing[sign].pop(sign * price, self._entries)
        ]
        for sign, trail in self._trails.items():
            crossed.extend(self._current(self._levels[level_id]) for level_id in trail.take(sign * price))
        if crossed:
            return self._fire(crossed)  # which has unbound: the next price may bind again, these do not wait for it
        self._bind()
        return []

    def _unbind(self) -> None:
        """Have the next price looked at, whatever it is."""
        self._above, self._ride_above = -INFINITY, -INFINITY
        self._below, self._ride_below = INFINITY, INFINITY
        self._riding = 0

    def _bind(self) -> None:
        """Note between which prices nothing happens, and beyond them, up to which nothing but one new extreme."""
        far = {
            sign: min(
                self._firing[sign].first(self._entries), self._waking[sign].first(self._entries), -against.trigger()
            )
            for sign, against in ((1, self._trails[-1]), (-1, self._trails[1]))
        }
        near = {sign: trail.front() for sign, trail in self._trails.items()}
        ride = {sign: min(far[sign], trail.second()) for sign, trail in self._trails.items()}
        self._above, self._ride_above = min(near[1], ride[1]), ride[1]
        self._below, self._ride_below = -min(near[-1], ride[-1]), -ride[-1]
        if self._ride_above <= self._below or self._above <= self._ride_below:
            self._unbind()  # what this price crossed, and did not fire, is due at the next one

    def _ride(self, sign: int, price: Decimal) -> None:
        """A new extreme of trailing stops and nothing else. Their trigger has moved too; where to, is asked later."""
        if not self._riding:
            self._riding, self._group = sign, self._trails[sign].board()
            if sign > 0:  # whatever is lower has to be looked at until `_get_off` has
                self._before = self._below, self._ride_below
                self._below = self._ride_below = INFINITY
            else:
                self._before = self._above, self._ride_above
                self._above = self._ride_above = -INFINITY
        if sign > 0:
            self._group.extreme = self._above = price
        else:
            self._group.extreme, self._below = -price, price

    def _get_off(self, price: Decimal) -> bool:
        """The price has turned after a new extreme: note where the trigger is. Whether it is still before that."""
        sign, self._riding = self._riding, 0
        trigger = sign * self._trails[sign].trigger()
        near, far = self._before
        if sign > 0:
            self._below, self._ride_below = max(near, trigger), max(far, trigger)
        else:
            self._above, self._ride_above = min(near, trigger), min(far, trigger)
        return self._below < price < self._above

    def _fire(self, crossed: list[Level]) -> list[Level]:
        crossed.sort(key=lambda level: (level.kind is LevelKind.TAKE_PROFIT, level.armed_at, level.id))
        stopped: set[UUID] = set()
        fired: list[Level] = []
        for level in crossed:
            if level.position_id in stopped:
                self._put_back(level)  # stays armed until the store disarms it
                continue
            if level.kind is not LevelKind.TAKE_PROFIT:
                stopped.add(level.position_id)
            fired.append(level)
            self.disarm(level.id)
        return fired

    def _put_back(self, level: Level) -> None:
        trail = self._trails[level.side.sign]
        if level.id in trail:
            trail.put_back(level.id)
        else:
            self._place(level)

    def _current(self, level: Level) -> Level:
        trail = self._trails[level.side.sign]
        return _with_extreme(level, trail.extreme(level.id)) if level.id in trail else level

    def _move(self, level: Level) -> None:
        self._levels[level.id] = level
        self._changed[level.id] = None

    def _place(self, level: Level) -> None:
        """Put a level where its next event will be looked for."""
        self._unbind()
        sign = level.side.sign
        if level.asleep:
            assert level.activation_price is not None
            self._push(self._waking[sign], level.id, sign * level.activation_price)
        elif level.kind.trails:
            self._trails[sign].add(level)
            step = level.next_step
            if step is not None:
                self._push(self._waking[sign], level.id, sign * step)
        else:
            assert level.price is not None, "only what trails has no price"
            sign = 1 if level.fires_above else -1
            self._push(self._firing[sign], level.id, sign * level.price)

    def _push(self, heap: "_Heap", level_id: UUID, key: Decimal) -> None:
        self._next_entry += 1
        self._entries[level_id] = self._next_entry
        heap.push(key, self._next_entry, level_id, self._entries)


class _Heap:
    """Level ids by the value at which they are reached. Entries of levels that are gone are skipped when met."""

    def __init__(self) -> None:
        self._heap: list[tuple[Decimal, int, UUID]] = []

    def first(self, entries: dict[UUID, int]) -> Decimal:
        """The value at which the first is reached."""
        heap = self._heap
        while heap and entries.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else INFINITY

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


def _with_extreme(level: Level, extreme: Decimal | None) -> Level:
    return msgspec.structs.replace(level, extreme=extreme)


def _better(side: PositionSide, one: Decimal, other: Decimal | None) -> Decimal:
    if other is None:
        return one
    return max(one, other) if side is PositionSide.LONG else min(one, other)


def _same_level(one: Level, other: Level) -> bool:
    """Whether only the closing order or the extreme differs."""
    return one == msgspec.structs.replace(
        other, position_id=one.position_id, qty=one.qty, fraction=one.fraction, extreme=one.extreme,
        extreme_at=one.extreme_at, order_id=one.order_id, intent_id=one.intent_id, status=one.status,
    )  # fmt: skip
