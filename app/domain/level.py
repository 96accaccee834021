"""Levels: prices attached to a position at which it is closed, and the book that watches them.

A level whose price is touched exactly fires. A long is left below (stop_loss, trailing_stop, break_even) or above
(take_profit) what it is worth now; a short is its mirror image.
"""

import heapq
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.domain.instrument import Instrument
from app.domain.money import HUNDRED, ONE, ZERO, floor_to_step, tick_down, tick_up
from app.domain.order import PositionSide
from app.domain.refusals import Outcome
from app.domain.signal import Exits, PriceOrPct, TakeProfit


class LevelKind(StrEnum):
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING_STOP = "trailing_stop"
    BREAK_EVEN = "break_even"


class LevelStatus(StrEnum):
    ARMED = "armed"
    TRIGGERED = "triggered"  # crossed; its order is on the way
    DONE = "done"
    DISARMED = "disarmed"


class PlannedLevel(msgspec.Struct, frozen=True, kw_only=True):
    """What a level has to be, before it has ids and a closing order."""

    kind: LevelKind
    rung: int = 0
    fraction: Decimal
    qty: Decimal
    price: Decimal | None = None
    activation_price: Decimal | None = None
    distance: Decimal | None = None
    distance_pct: Decimal | None = None


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """A level with its closing order.

    `price` is None for a trailing stop: `trigger_price` tells where that one stands. `extreme` is the best price since
    the level woke, None while it sleeps; for a break_even it only marks that it is awake.
    """

    id: UUID
    position_id: UUID
    kind: LevelKind
    rung: int = 0
    side: PositionSide  # of the position
    fraction: Decimal
    qty: Decimal
    price: Decimal | None = None
    activation_price: Decimal | None = None
    distance: Decimal | None = None
    distance_pct: Decimal | None = None
    extreme: Decimal | None = None
    extreme_at: datetime | None = None  # exchange time up to which trades are in it, as stored
    armed_at: datetime
    order_id: UUID
    intent_id: UUID
    status: LevelStatus = LevelStatus.ARMED

    @property
    def asleep(self) -> bool:
        """Whether it waits for its activation price."""
        return self.activation_price is not None and self.extreme is None

    @property
    def judged_from(self) -> datetime:
        """From when on trades count that nobody watched: what came before is in its extreme already."""
        return self.armed_at if self.extreme_at is None else max(self.armed_at, self.extreme_at)

    @property
    def fires_above(self) -> bool:
        """Whether a rising price fires it."""
        return (self.kind is LevelKind.TAKE_PROFIT) is (self.side is PositionSide.LONG)

    @property
    def trigger_price(self) -> Decimal | None:
        """The price that fires it now; None while it sleeps or, trailing, has seen no price."""
        if self.asleep:
            return None
        if self.kind is not LevelKind.TRAILING_STOP:
            return self.price
        if self.extreme is None:
            return None
        distance = self.distance
        if distance is None:
            assert self.distance_pct is not None, "a trailing stop has a distance"
            distance = self.extreme * self.distance_pct / HUNDRED
        return self.extreme - distance * self.side.sign


def would_fire(level: Level, high: Decimal, low: Decimal) -> bool:
    """Whether an armed level was crossed somewhere in a candle.

    A candle doesn't tell the order of its prices, so what sleeps stays asleep and a trailing stop is judged by the
    extreme that it is known to have had before.
    """
    trigger = level.trigger_price
    if trigger is None:
        return False
    return high >= trigger if level.fires_above else low <= trigger


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


def plan_levels(
    exits: Exits,
    side: PositionSide,
    entry_price: Decimal,
    qty: Decimal,
    instrument: Instrument,
    fired_rungs: frozenset[int] = frozenset(),
    qty_opened: Decimal | None = None,
) -> list[PlannedLevel]:
    """The levels that a position of `qty` needs.

    Per cents count from the entry. Prices go on the tick grid towards the entry, which ends the position sooner.
    Stops carry the whole quantity; the rungs of the ladder are shares of `qty_opened`, together never above `qty`.
    """
    planned: list[PlannedLevel] = []
    if exits.stop_loss is not None:
        stop = _stop_price(exits.stop_loss, side, entry_price)
        price = _towards_entry(stop, -side.sign, entry_price, instrument)
        planned.append(PlannedLevel(kind=LevelKind.STOP_LOSS, fraction=ONE, qty=qty, price=price))
    if exits.trailing is not None:
        wakes = exits.trailing.activate
        planned.append(
            PlannedLevel(
                kind=LevelKind.TRAILING_STOP,
                fraction=ONE,
                qty=qty,
                activation_price=None if wakes is None else _gain(wakes, side, entry_price, instrument),
                distance=exits.trailing.distance.price,
                distance_pct=exits.trailing.distance.pct,
            )
        )
    if exits.break_even is not None:
        to_grid = tick_up if side is PositionSide.LONG else tick_down
        planned.append(
            PlannedLevel(
                kind=LevelKind.BREAK_EVEN,
                fraction=ONE,
                qty=qty,
                price=to_grid(entry_price, instrument.tick_size),
                activation_price=_gain(exits.break_even.after, side, entry_price, instrument),
            )
        )
    opened = qty if qty_opened is None else qty_opened
    for rung, fraction, share in _shares(exits.take_profit, opened, qty, instrument, fired_rungs):
        price = _gain(exits.take_profit[rung].at, side, entry_price, instrument)
        planned.append(PlannedLevel(kind=LevelKind.TAKE_PROFIT, rung=rung, fraction=fraction, qty=share, price=price))
    return planned


def check_exits(exits: Exits, side: PositionSide, price: Decimal) -> Outcome | None:
    """The code to refuse an opening at `price` with, if one of its exits would end it at once or could never do so."""
    sign = side.sign
    stop = None if exits.stop_loss is None else _stop_price(exits.stop_loss, side, price)
    if stop is not None and (sign * (price - stop) <= 0 or stop <= 0):
        return Outcome.STOP_WRONG_SIDE
    if exits.trailing is not None and side is PositionSide.LONG:
        distance = exits.trailing.distance
        if (distance.price or ZERO) >= price or (distance.pct or ZERO) >= HUNDRED:
            return Outcome.STOP_WRONG_SIDE
    if exits.break_even is not None:
        # Awake from the first tick on, it would be a stop at the entry price itself.
        after = exits.break_even.after.price
        if after is not None and sign * (after - price) <= 0:
            return Outcome.STOP_WRONG_SIDE
    for rung in exits.take_profit:
        target = _target_price(rung.at, side, price)
        if sign * (target - price) <= 0 or target <= 0:
            return Outcome.TARGET_WRONG_SIDE
    return None


def native_stop_price(
    exits: Exits, side: PositionSide, entry_price: Decimal, instrument: Instrument, buffer_pct: Decimal
) -> Decimal | None:
    """The price of the stop that rests at the exchange; None if nothing protects from the first moment.

    Beyond our own stop by `buffer_pct` of the entry, or by a quarter of the stop's distance where that is more: the
    watcher comes first while it lives, and this one ends the position when it doesn't.
    """
    if exits.stop_loss is not None:
        stop = _stop_price(exits.stop_loss, side, entry_price)
    elif exits.trailing is not None and exits.trailing.activate is None:
        distance = exits.trailing.distance
        stop = _stop_price(
            distance if distance.price is None else PriceOrPct(price=entry_price - side.sign * distance.price),
            side,
            entry_price,
        )
    else:
        return None
    buffer = max(entry_price * buffer_pct / HUNDRED, abs(entry_price - stop) / 4)
    if side is PositionSide.SHORT:
        return tick_up(stop + buffer, instrument.tick_size)
    return max(tick_down(stop - buffer, instrument.tick_size), instrument.tick_size)


def _stop_price(at: PriceOrPct, side: PositionSide, entry_price: Decimal) -> Decimal:
    if at.price is not None:
        return at.price
    assert at.pct is not None, "a PriceOrPct has one of both"
    return entry_price * (HUNDRED - side.sign * at.pct) / HUNDRED


def _target_price(at: PriceOrPct, side: PositionSide, entry_price: Decimal) -> Decimal:
    if at.price is not None:
        return at.price
    assert at.pct is not None, "a PriceOrPct has one of both"
    return entry_price * (HUNDRED + side.sign * at.pct) / HUNDRED


def _gain(at: PriceOrPct, side: PositionSide, entry_price: Decimal, instrument: Instrument) -> Decimal:
    """A price on the winning side, on the grid."""
    return _towards_entry(_target_price(at, side, entry_price), side.sign, entry_price, instrument)


def _towards_entry(price: Decimal, direction: int, entry_price: Decimal, instrument: Instrument) -> Decimal:
    """`price`, which lies above (`direction` 1) or below (-1) the entry, on the grid towards the entry.

    On a coarse grid that may be the entry itself, where the level would fire at once: then away from it. Always at
    least one tick.
    """
    nearer, farther = (tick_down, tick_up) if direction > 0 else (tick_up, tick_down)
    placed = nearer(price, instrument.tick_size)
    if direction * (price - entry_price) > 0 >= direction * (placed - entry_price):
        placed = farther(price, instrument.tick_size)
    return max(placed, instrument.tick_size)


def _shares(
    ladder: tuple[TakeProfit, ...],
    qty_opened: Decimal,
    qty: Decimal,
    instrument: Instrument,
    fired: frozenset[int],
) -> list[tuple[int, Decimal, Decimal]]:
    """(rung, fraction, quantity) of the rungs that have not fired.

    A rung too small to be traded is merged into the next, the last one into the one before. What was merged is worked
    out from the whole ladder, so that a rung whose share has left with another doesn't come back. A ladder for the
    whole position ends with all that is left, whatever rounding has eaten before.
    """
    merged: list[tuple[int, Decimal, Decimal]] = []
    carried_fraction, carried = ZERO, ZERO
    left = qty_opened
    ends_it = sum((rung.fraction for rung in ladder), ZERO) == ONE
    for rung, step in enumerate(ladder):
        last = rung == len(ladder) - 1
        share = left if last and ends_it else min(floor_to_step(qty_opened * step.fraction, instrument.qty_step), left)
        left -= share
        carried_fraction += step.fraction
        carried += share
        if ZERO < carried >= instrument.qty_min:
            merged.append((rung, carried_fraction, carried))
            carried_fraction, carried = ZERO, ZERO
    if merged and carried:
        rung, fraction, share = merged[-1]
        merged[-1] = (rung, fraction + carried_fraction, share + carried)

    waiting = [item for item in merged if item[0] not in fired]
    shares: list[tuple[int, Decimal, Decimal]] = []
    left = qty
    for index, (rung, fraction, share) in enumerate(waiting):
        share = left if ends_it and index == len(waiting) - 1 else min(share, left)
        share = floor_to_step(share, instrument.qty_step)
        if ZERO < share >= instrument.qty_min:
            shares.append((rung, fraction, share))
            left -= share
    return shares
