"""The awake trailing stops of one side, which follow the price together.

Stops that have the same extreme will always have the same: a better price moves all of them. So they are one group,
which holds the extreme once, and in which the nearest distance is crossed first. A price that goes beyond the extremes
of some groups makes one of them. While the price makes one new extreme after the other it is a single group that moves,
however many stops are in it.

All is said in values: a price, times -1 for shorts. A higher value is always the better one for the position.
"""

import heapq
from collections.abc import Iterator
from decimal import Decimal
from typing import Final
from uuid import UUID

from app.domain.level import Level
from app.domain.money import HUNDRED, INFINITY

_WIDE: Final = 32  # children of one stop: more are put in order while there is time, not when the first of them fires
_SPARE: Final = 64  # this many left-behind entries are not worth a tidying up


class _Stop:
    """A trailing stop in the heap of its group: a pairing heap, of which two are joined in one step."""

    __slots__ = ("children", "distance", "gone", "group", "level_id", "relative")

    def __init__(self, level: Level) -> None:
        self.level_id = level.id
        self.relative = level.distance is None
        distance = level.callback_pct if self.relative else level.distance
        assert distance is not None, "what trails has a distance"
        self.distance = distance  # in quote, or in per cent of the extreme
        self.group: Group  # the one in which it began; see `Group.now`
        self.children: list[_Stop] = []
        self.gone = False


class Group:
    """Trailing stops with one extreme."""

    __slots__ = ("absolute", "extreme", "joined", "relative")

    def __init__(self, extreme: Decimal) -> None:
        self.extreme = extreme
        self.absolute: _Stop | None = None  # the nearest of those whose distance is in quote
        self.relative: _Stop | None = None  # … in per cent
        self.joined: Group | None = None  # what it became a part of

    def __lt__(self, other: "Group") -> bool:
        return self.extreme < other.extreme

    def now(self) -> "Group":
        """The group in which its stops are now."""
        group = self
        while group.joined is not None:
            if group.joined.joined is not None:
                group.joined = group.joined.joined  # the next look is shorter
            group = group.joined
        return group

    def put(self, stop: _Stop) -> None:
        stop.group = self
        if stop.relative:
            self.relative = _merged(stop, self.relative)
        else:
            self.absolute = _merged(stop, self.absolute)

    def join(self, other: "Group") -> None:
        self.joined = other
        other.absolute = _merged(self.absolute, other.absolute)
        other.relative = _merged(self.relative, other.relative)
        self.absolute = self.relative = None

    def nearest(self) -> Decimal | None:
        """The value at which the first of its stops fires; None when none is left."""
        self.absolute, self.relative = _there(self.absolute), _there(self.relative)
        return None if self.absolute is self.relative else self._trigger_at(self.extreme)

    def reach(self, value: Decimal) -> tuple[Decimal, Decimal] | None:
        """Up to where the extreme may be moved, and above which value no stop fires, wherever it was moved to. None if
        this value fires one.

        That is one value for all those extremes, so that nobody has to ask with each of them. Half of what lies between
        this value and firing is left to the extreme, half to a value that falls. When it is the extreme itself, the
        next one is likely to be as well, and all is left to it: what is lower has to be asked for again.
        """
        if value >= self.extreme:
            self.extreme = value
            return INFINITY, INFINITY
        trigger = self._trigger_at(self.extreme)
        if value <= trigger:
            return None
        extreme = self.extreme + (value - trigger) / 2
        return extreme, self._trigger_at(extreme)

    def _trigger_at(self, extreme: Decimal) -> Decimal:
        return max(_trigger(extreme, self.absolute), _trigger(extreme, self.relative))

    def take(self, value: Decimal) -> list[UUID]:
        """The stops that this value fires; they leave the heap."""
        found = []
        while (stop := self.absolute) is not None and value <= _trigger(self.extreme, stop):
            self.absolute = _without_first(stop)
            if not stop.gone:
                found.append(stop.level_id)
        while (stop := self.relative) is not None and value <= _trigger(self.extreme, stop):
            self.relative = _without_first(stop)
            if not stop.gone:
                found.append(stop.level_id)
        return found

    def stops(self) -> Iterator[_Stop]:
        todo = [stop for stop in (self.absolute, self.relative) if stop is not None]
        while todo:
            stop = todo.pop()
            todo.extend(stop.children)
            if not stop.gone:
                yield stop


NOBODY: Final = Group(INFINITY)  # in front where there is none: no price is beyond its extreme


class Trail:
    """The awake trailing stops of one side. A new extreme costs the same however many follow it."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self.stops: dict[UUID, _Stop] = {}
        self._made = 0  # stops in the heaps of all groups, with those that are gone
        self._groups: list[Group] = []  # a heap: the lowest extreme, which a price reaches first, is in front
        self._begun: dict[Decimal, Group] = {}  # by the extreme with which they began; they may be past it, or empty
        # A heap of (-value, number, group, its extreme then): where a group fires first. An entry is too high when the
        # nearest stop is gone, and without meaning when the extreme has changed; it is never too low.
        self._triggers: list[tuple[Decimal, int, Group, Decimal]] = []
        self._numbers = 0
        self._ahead: Group | None = None  # the group in front, which may have moved on from where it was noted
        self._ahead_at = INFINITY
        self._moved: dict[Group, None] = {}

    def add(self, level: Level) -> None:
        """Follow the price from the level's extreme on; from the next price on if it has none."""
        self._settle()
        extreme = -INFINITY if level.extreme is None else self._sign * level.extreme
        group = self._begun.get(extreme)
        if group is None or group.extreme != extreme:
            group = self._begun[extreme] = Group(extreme)
            heapq.heappush(self._groups, group)
        stop = self.stops[level.id] = _Stop(level)
        self._made += 1
        group.put(stop)
        if stop is group.absolute or stop is group.relative:
            self._note(group)  # it is the nearest
        if max(self._made, len(self._begun)) > 2 * len(self.stops) + _SPARE:
            self._tidy()

    def remove(self, level_id: UUID) -> None:
        stop = self.stops.pop(level_id, None)
        if stop is not None:
            stop.gone = True  # it leaves its heap when it comes to the front

    def extreme(self, level_id: UUID) -> Decimal | None:
        """The best price that the level has seen; None before its first."""
        extreme = self.stops[level_id].group.now().extreme
        return None if extreme == -INFINITY else self._sign * extreme

    def __contains__(self, level_id: UUID) -> bool:
        return level_id in self.stops

    def board(self) -> tuple[Group, Decimal, Decimal]:
        """The group in front, whose extreme may be moved from outside until anything else is called here; up to where
        it is the only one; and the value at which one of the others fires.
        """
        self._settle()
        while self._groups and self._groups[0].nearest() is None:
            self._drop(heapq.heappop(self._groups))
        if not self._groups:
            return NOBODY, INFINITY, -INFINITY
        front = self._ahead = self._groups[0]
        self._ahead_at = front.extreme
        # In a heap, the second is one of the two behind the first. At its extreme nothing happens to it yet.
        second = min(self._groups[1:3]).extreme.next_plus() if len(self._groups) > 1 else INFINITY
        return front, second, self._trigger()

    def advance(self, value: Decimal) -> None:
        """A new extreme for all groups that have a worse one: they are one group from here on."""
        if not self._groups or value <= self._groups[0].extreme:
            return
        self._settle()
        self._ahead = None
        front = heapq.heappop(self._groups)
        while self._groups and self._groups[0].extreme < value:
            passed = heapq.heappop(self._groups)
            passed.join(front)
            self._drop(passed)
        front.extreme = value
        heapq.heappush(self._groups, front)
        self._moved[front] = None
        self._note(front)

    def take(self, value: Decimal) -> list[UUID]:
        """The stops that this value fires. Each has to be removed, or put back."""
        self._settle()
        found: list[UUID] = []
        while self._trigger() >= value:
            group = heapq.heappop(self._triggers)[2]
            found.extend(group.take(value))
            self._note(group)
        return found

    def put_back(self, level_id: UUID) -> None:
        stop = self.stops[level_id]
        group = stop.group.now()
        stop.children = []
        group.put(stop)
        self._note(group)

    def moved(self) -> list[UUID]:
        """The stops whose extreme has moved since the last call."""
        self._settle()
        groups, self._moved = self._moved, {}
        return [stop.level_id for group in groups if group.joined is None for stop in group.stops()]

    def _drop(self, group: Group) -> None:
        """A group is no more: none begins in it."""
        if self._begun.get(group.extreme) is group:
            del self._begun[group.extreme]

    def _settle(self) -> None:
        """Note where the group in front was moved to."""
        group = self._ahead
        if group is not None and group.extreme != self._ahead_at:
            self._ahead_at = group.extreme
            self._moved[group] = None
            self._note(group)

    def _trigger(self) -> Decimal:
        """At this value, or a lower one, a stop may fire; above it, none does."""
        triggers = self._triggers
        while triggers and (triggers[0][2].joined is not None or triggers[0][3] != triggers[0][2].extreme):
            heapq.heappop(triggers)
        return -triggers[0][0] if triggers else -INFINITY

    def _note(self, *groups: Group) -> None:
        """Note where groups fire first, except those of which nothing is left."""
        if len(self._triggers) > 2 * len(self._groups) + _SPARE:
            self._triggers.clear()
            groups = tuple(self._groups)
        for group in groups:
            trigger = group.nearest()
            if trigger is not None:
                self._numbers += 1
                heapq.heappush(self._triggers, (-trigger, self._numbers, group, group.extreme))

    def _tidy(self) -> None:
        """Leave behind what is gone: levels that are armed and disarmed far from the price would pile up."""
        groups: dict[Group, Group] = {}
        for stop in self.stops.values():
            old = stop.group.now()
            if old not in groups:
                groups[old] = Group(old.extreme)
            stop.children = []
            groups[old].put(stop)
        self._moved = {groups[old]: None for old in self._moved if old in groups}
        self._made = len(self.stops)
        self._groups, self._ahead = list(groups.values()), None
        self._begun = {group.extreme: group for group in self._groups}
        heapq.heapify(self._groups)
        self._triggers.clear()
        self._note(*self._groups)


def _trigger(extreme: Decimal, stop: _Stop | None) -> Decimal:
    """The value that fires a stop, if there is one."""
    if stop is None:
        return -INFINITY
    return extreme - (abs(extreme) * stop.distance / HUNDRED if stop.relative else stop.distance)


def _merged(one: _Stop | None, other: _Stop | None) -> _Stop | None:
    if one is None or other is None:
        return one or other
    if other.distance < one.distance:
        one, other = other, one
    one.children.append(other)
    if len(one.children) > _WIDE:
        heap = _in_one(one.children)
        assert heap is not None, "there are children"
        one.children = [heap]
    return one


def _without_first(first: _Stop) -> _Stop | None:
    return _in_one(first.children)


def _in_one(heaps: list[_Stop]) -> _Stop | None:
    """Join heaps: in pairs, and the pairs with each other, which keeps what comes after short."""
    pairs = [_merged(one, other) for one, other in zip(heaps[::2], heaps[1::2], strict=False)]
    heap = heaps[-1] if len(heaps) % 2 else None
    while pairs:
        heap = _merged(heap, pairs.pop())
    return heap


def _there(heap: _Stop | None) -> _Stop | None:
    """The heap with a first that is not gone."""
    while heap is not None and heap.gone:
        heap = _without_first(heap)
    return heap
