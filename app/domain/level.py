"""Levels: prices attached to a position at which it is closed.

A level whose price is touched exactly fires. A long is left below (stop_loss, trailing_stop, trailing_take_profit,
break_even) or above (take_profit) what it is worth now; a short is its mirror image. A time_exit has no price at all.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.domain.callback import callback_pct, next_step
from app.domain.money import HUNDRED, ONE
from app.domain.order import PositionSide
from app.domain.position import CloseReason


class LevelKind(StrEnum):
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING_STOP = "trailing_stop"
    TRAILING_TAKE_PROFIT = "trailing_take_profit"
    BREAK_EVEN = "break_even"
    TIME_EXIT = "time_exit"

    @property
    def close_reason(self) -> CloseReason:
        """What a position closed by such a level was closed for."""
        return CloseReason.TAKE_PROFIT if self is LevelKind.TRAILING_TAKE_PROFIT else CloseReason(self.value)

    @property
    def trails(self) -> bool:
        """Whether it follows the best price."""
        return self in (LevelKind.TRAILING_STOP, LevelKind.TRAILING_TAKE_PROFIT)


class TriggerBy(StrEnum):
    """Which price a level is compared with."""

    LAST = "last"  # each trade
    MARK = "mark"
    BID = "bid"
    ASK = "ask"


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
    min_factor: Decimal = ONE
    decay_pct: Decimal | None = None
    trigger_by: TriggerBy = TriggerBy.LAST
    due_at: datetime | None = None


class Level(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A level with its closing order.

    `price` is None for what trails: `trigger_price` tells where that one stands. `extreme` is the best price since the
    level woke, None while it sleeps; for a break_even it only marks that it is awake. `distance_pct` is per cent of the
    extreme; that of a trailing_take_profit shrinks, by `min_factor` and `decay_pct`. `due_at` is a time_exit's.
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
    min_factor: Decimal = ONE
    decay_pct: Decimal | None = None
    due_at: datetime | None = None
    extreme: Decimal | None = None
    extreme_at: datetime | None = None  # exchange time up to which trades are in it, as stored
    trigger_by: TriggerBy = TriggerBy.LAST
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
        if not self.kind.trails:
            return self.price
        if self.extreme is None:
            return None
        distance = self.distance
        if distance is None:
            distance = self.extreme * self.callback_pct / HUNDRED
        return self.extreme - distance * self.side.sign

    @property
    def callback_pct(self) -> Decimal:
        """The distance as it is now, in per cent of the extreme; where it is not absolute."""
        assert self.distance_pct is not None, "what trails has a distance"
        if self.decay_pct is None:
            return self.distance_pct
        return callback_pct(self.distance_pct, self.min_factor, self.decay_pct, self._gain_pct)

    @property
    def next_step(self) -> Decimal | None:
        """The price at which its callback shrinks next; None if it does not."""
        if self.decay_pct is None:
            return None
        assert self.activation_price is not None, "a callback shrinks with the gain from the activation on"
        gain_pct = next_step(self.decay_pct, self._gain_pct)
        if gain_pct is None:
            return None
        return self.activation_price * (HUNDRED + self.side.sign * gain_pct) / HUNDRED

    @property
    def _gain_pct(self) -> Decimal:
        """What the best price has gained since the activation, in per cent of the activation price."""
        assert self.activation_price is not None, "a callback shrinks with the gain from the activation on"
        assert self.extreme is not None, "it is awake"
        return (self.extreme / self.activation_price - ONE) * HUNDRED * self.side.sign


def would_fire(level: Level, high: Decimal, low: Decimal) -> bool:
    """Whether an armed level was crossed somewhere in a candle.

    A candle doesn't tell the order of its prices, so what sleeps stays asleep and a trailing stop is judged by the
    extreme that it is known to have had before.
    """
    trigger = level.trigger_price
    if trigger is None:
        return False
    return high >= trigger if level.fires_above else low <= trigger
