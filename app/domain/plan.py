"""What a decision is made from (rules, situation), and what it comes to: a plan of legs."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from app.domain.instrument import Instrument
from app.domain.order import PositionSide
from app.domain.position import CloseReason, Position
from app.domain.refusals import Refusal
from app.domain.signal import Defaults, Exits, Missed, Repeat, Sides


class Reduce(msgspec.Struct, frozen=True, kw_only=True, tag="reduce"):
    """Close part of what is held on a side."""

    side: PositionSide
    qty: Decimal
    reason: CloseReason


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close"):
    """Close all of what is held on a side, however much that is by then."""

    side: PositionSide
    reason: CloseReason


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Open a position, or add to the one that is held (`adds`)."""

    side: PositionSide
    qty: Decimal
    adds: bool
    leverage: Decimal | None
    exits: Exits
    native_stop: Decimal | None


Leg = Reduce | Close | Open


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The legs in their order, and what of the wish was refused (`refusal`) although the rest is done."""

    legs: tuple[Leg, ...] = ()
    refusal: Refusal | None = None
    reason: str = ""  # why there is nothing to do
    missed: str = ""  # what tells that an alert was missed, for people
    halts: bool = False  # the strategy is to be disabled
    held: tuple[UUID, ...] = ()  # ids of the positions that it was made for


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the strategy says."""

    strategy_id: str
    enabled: bool = True
    symbols: tuple[str, ...] | None = None
    defaults: Defaults = Defaults()
    multiplier: Decimal = Decimal(1)
    trade_without_stop: bool = False
    notional_max: Decimal | None = None  # of one opening, in quote currency
    sides: Sides = Sides.BOTH
    repeat: Repeat = Repeat.IGNORE
    missed: Missed = Missed.HEAL


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is the case when the decision is made. `price` is the last price; `equity` and `available` (for new
    positions) are in quote currency.

    `held` is what we hold of the symbol: one position at most, or in hedge mode one a side. `unfit` is why nothing may
    be opened now, whatever is asked for.
    """

    held: tuple[Position, ...] = ()
    hedge: bool = False
    instrument: Instrument
    price: Decimal
    equity: Decimal | None
    available: Decimal | None = None
    received_at: datetime
    now: datetime
    unfit: Refusal | None = None
