"""A position: the fold of fills for account + instrument (+ side, in hedge mode). Never edited by hand."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.domain.money import ZERO
from app.domain.order import PositionSide, Side
from app.domain.signal import Exits


class PositionStatus(StrEnum):
    OPENING = "opening"  # its opening order still works
    OPEN = "open"
    CLOSING = "closing"  # a close of all of it was sent
    CLOSED = "closed"


class CloseReason(StrEnum):
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING_STOP = "trailing_stop"
    BREAK_EVEN = "break_even"
    TIME_EXIT = "time_exit"
    SIGNAL = "signal"
    REVERSED = "reversed"
    MANUAL = "manual"
    NATIVE_STOP = "native_stop"
    LIQUIDATED = "liquidated"
    EXTERNAL = "external"
    UNPROTECTED = "unprotected"


class FillOrigin(StrEnum):
    """Who made the order behind a fill."""

    ORDER = "order"  # we did: it carries a client order id of ours
    NATIVE_STOP = "native_stop"
    LIQUIDATION = "liquidation"
    ADL = "adl"
    EXTERNAL = "external"  # a hand at the exchange's own page, another program


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. Never changed, never counted twice: (account, symbol, venue_fill_id) is unique."""

    venue_fill_id: str
    venue_order_id: str
    client_order_id: str | None
    origin: FillOrigin
    symbol: str
    side: Side
    position_side: PositionSide | None = None  # that it acted on, where the venue says so (hedge mode)
    qty: Decimal
    price: Decimal
    fee: Decimal  # paid is positive
    fee_currency: str
    filled_at: datetime


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What is held. `realized_pnl` is before fees; `fees` are what was paid; both in quote currency."""

    id: UUID
    account_id: UUID
    strategy_id: str
    symbol: str
    side: PositionSide
    hedge: bool = False  # the other side of the symbol may be held at the same time
    epoch: int
    status: PositionStatus
    qty: Decimal
    qty_opened: Decimal
    entry_price: Decimal
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    leverage: Decimal | None = None
    exits: Exits = Exits()
    native_stop: Decimal | None = None
    opened_at: datetime
    adopted_at: datetime | None = None  # fills of before are in what the exchange showed, and was adopted
    closed_at: datetime | None = None
    close_reason: CloseReason | None = None

    def unrealized_pnl(self, price: Decimal) -> Decimal:
        return (price - self.entry_price) * self.qty * self.side.sign


def fold(position: Position, fill: Fill) -> tuple[Position, Decimal]:
    """The position after `fill`, and how much of the fill it took.

    A closing fill larger than the position takes it to zero and leaves the rest: the rest belongs to no position of
    ours and is for the reconciler to name.
    """
    if fill.side is position.side.opens_with:
        qty = position.qty + fill.qty
        entry_price = (position.entry_price * position.qty + fill.price * fill.qty) / qty
        return (
            msgspec.structs.replace(
                position,
                qty=qty,
                qty_opened=position.qty_opened + fill.qty,
                entry_price=entry_price,
                fees=position.fees + fill.fee,
            ),
            fill.qty,
        )
    taken = min(fill.qty, position.qty)
    pnl = (fill.price - position.entry_price) * taken * position.side.sign
    fee = fill.fee * taken / fill.qty
    return (
        msgspec.structs.replace(
            position,
            qty=position.qty - taken,
            realized_pnl=position.realized_pnl + pnl,
            fees=position.fees + fee,
        ),
        taken,
    )
