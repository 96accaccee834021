"""Levels: prices attached to a position at which it is closed.

A level whose price is touched exactly fires. A long is left below (stop_loss, trailing_stop, break_even) or above
(take_profit) what it is worth now; a short is its mirror image.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.domain.money import HUNDRED
from app.domain.order import PositionSide


class LevelKind(StrEnum):
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING_STOP = "trailing_stop"
    BREAK_EVEN = "break_even"


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
