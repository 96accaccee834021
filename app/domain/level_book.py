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
from app.domain.trailing import NOBODY, Trail


class LevelBook:
    """The armed levels of one instrument. A tick that crosses nothing costs the same however many there are, also when
    it is a new extreme for trailing stops.

    Fired levels leave the book; what becomes of them is the store's affair, and so is disarming the others of a
    position that is gone.
    """

    # Between `_below` and `_above` nothing happens. Beyond them, up to `_ride_above` and down to `_ride_below`, nothing
    # but a new extreme of one group. Between `_down` and `_up` nothing but to that group and the other side's.
    _above: Decimal
    _below: Decimal
    _ride_above: Decimal
    _ride_below: Decimal
    _up: Decimal
    _down: Decimal

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
        self._rising = self._sinking = NOBODY  # what a new high moves, and a new low
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

    def take(self, level_id: UUID) -> Level | None:
        """Take a level out and answer it with the extreme that it has reached; None if it isn't there."""
        level = self._levels.get(level_id)
        if level is None:
            return None
        level = self._current(level)
        self.disarm(level_id)
        return level

    def advance(self, level_id: UUID, extreme: Decimal) -> bool:
        """An extreme that was found elsewhere; whether it counts: if it is better than the level's own."""
        level = self._levels.get(level_id)
        if level is None:
            return False
        level = self._current(level)
        if level.extreme == _better(level.side, extreme, level.extreme):
            return False
        self.disarm(level_id)
        self._move(_with_extreme(level, extreme))
        self._place(self._levels[level_id])
        return True

    def on_price(self, price: Decimal) -> list[Level]:
        """The levels that this price fires, in the order in which they are to be carried out; they leave the book.

        Once a stop of a position fires, nothing else of that position does: all its levels are for the same holding.
        """
        # Nearly every tick ends here, in nothing or in one new extreme. A comparison more would be a third of its cost.
        if price < self._above:
            if price > self._below:
                return []
        elif price < self._ride_above:
            self._rising.extreme = self._above = price
            return []
        if self._ride_below < price <= self._below:
            self._below, self._sinking.extreme = price, -price
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
        told = list(islice(self._changed, most))
        for level_id in told:
            del self._changed[level_id]
        return [self._current(self._levels[level_id]) for level_id in told]

    def _look(self, price: Decimal) -> list[Level]:
        """`on_price` where more may happen, if it is not the groups in front alone that have to be asked."""
        if self._down < price < self._up and self._share(price):
            return []
        sides = (1, price), (-1, -price)
        for sign, value in sides:
            if self._waking[sign]:
                for level_id in self._waking[sign].take(value, self._entries):
                    self._trails[sign].remove(level_id)  # where it is one whose callback shrinks
                    self._move(_with_extreme(self._levels[level_id], price))
                    self._place(self._levels[level_id])
        crossed: list[Level] = []
        for sign, value in sides:
            if self._firing[sign]:
                crossed += map(self._levels.__getitem__, self._firing[sign].take(value, self._entries))
            trail = self._trails[sign]
            if trail.stops:
                trail.advance(value)
                crossed += [self._current(self._levels[level_id]) for level_id in trail.take(value)]
        if crossed:
            return self._fire(crossed)  # which has unbound: the next price is looked at, and these do not wait for it
        self._bind()
        self._share(price)
        return []

    def _unbind(self) -> None:
        """Have the next price looked at, whatever it is."""
        self._above = self._ride_above = self._up = -INFINITY
        self._below = self._ride_below = self._down = INFINITY

    def _bind(self) -> None:
        """Note between which prices nothing happens but to one group of each side, the one in front."""
        self._rising, second, longs_fire = self._trails[1].board()
        self._up = min(self._firing[1].first(self._entries), self._waking[1].first(self._entries), second)
        self._sinking, second, shorts_fire = self._trails[-1].board()
        self._down = -min(self._firing[-1].first(self._entries), self._waking[-1].first(self._entries), second)
        self._up, self._down = min(self._up, -shorts_fire), max(self._down, longs_fire)

    def _share(self, price: Decimal) -> bool:
        """Note between which prices nothing happens at all, and beyond them, up to which nothing but a new extreme.

        False where something is due at this price, or where that was crossed and did not fire: it is at the next one.
        """
        between = self._down < price < self._up
        longs = self._rising.reach(price) if between else None
        shorts = self._sinking.reach(-price) if between else None
        if longs is None or shorts is None:
            self._unbind()
            return False
        highest, longs_fire = longs
        lowest, shorts_fire = shorts
        self._ride_above, self._ride_below = min(self._up, highest, -shorts_fire), max(self._down, -lowest, longs_fire)
        self._above = min(self._rising.extreme, self._ride_above)
        self._below = max(-self._sinking.extreme, self._ride_below)
        return True

    def _fire(self, crossed: list[Level]) -> list[Level]:
        if len(crossed) == 1:
            self.disarm(crossed[0].id)
            return crossed
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


class _Heap(list[tuple[Decimal, int, UUID]]):
    """Level ids by the value at which they are reached. Entries of levels that are gone are skipped when met."""

    def first(self, entries: dict[UUID, int]) -> Decimal:
        """The value at which the first is reached."""
        while self and entries.get(self[0][2]) != self[0][1]:
            heapq.heappop(self)
        return self[0][0] if self else INFINITY

    def push(self, key: Decimal, entry: int, level_id: UUID, entries: dict[UUID, int]) -> None:
        # Levels that are re-armed again and again, far from the price, would otherwise pile up.
        if len(self) > 2 * len(entries) + 64:
            self[:] = [item for item in self if entries.get(item[2]) == item[1]]
            heapq.heapify(self)
        heapq.heappush(self, (key, entry, level_id))

    def take(self, value: Decimal, entries: dict[UUID, int]) -> list[UUID]:
        """Those that are reached; their entries go."""
        found: list[UUID] = []
        while self and self[0][0] <= value:
            _, entry, level_id = heapq.heappop(self)
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
