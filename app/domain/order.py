"""An order: an intent with a client order id and a life at one venue."""

import base64
import hashlib
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class PositionSide(StrEnum):
    LONG = "long"
    SHORT = "short"

    @property
    def opens_with(self) -> Side:
        return Side.BUY if self is PositionSide.LONG else Side.SELL

    @property
    def closes_with(self) -> Side:
        return Side.SELL if self is PositionSide.LONG else Side.BUY

    @property
    def sign(self) -> int:
        return 1 if self is PositionSide.LONG else -1


def opposite(side: PositionSide) -> PositionSide:
    return PositionSide.SHORT if side is PositionSide.LONG else PositionSide.LONG


class PositionMode(StrEnum):
    """How many positions a symbol may have at once."""

    ONE_WAY = "one_way"  # one: an opposite order takes off, then turns it round
    HEDGE = "hedge"  # a long and a short side by side, each with its own orders

    @property
    def words(self) -> str:
        """For a sentence: one-way, hedge."""
        return self.value.replace("_", "-")


class MarginMode(StrEnum):
    """What a position may lose before it is liquidated."""

    CROSS = "cross"  # all of the account
    ISOLATED = "isolated"  # the margin set aside for it


class OrderStatus(StrEnum):
    ARMED = "armed"  # written in advance with its level; leaves only if the level is crossed
    SENT = "sent"  # committed; the next thing that happens is the first byte, so it may be at the venue
    UNKNOWN = "unknown"  # no answer: maybe done; the venue is asked, nothing is sent again
    ACCEPTED = "accepted"  # the venue has it
    FILLED = "filled"
    CANCELLED = "cancelled"  # ended by the venue, perhaps after part fills
    REJECTED = "rejected"
    ABSENT = "absent"  # proven never to have arrived
    DISARMED = "disarmed"  # its level went away before it was crossed


UNRESOLVED = frozenset({OrderStatus.SENT, OrderStatus.UNKNOWN, OrderStatus.ACCEPTED})
FINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.DISARMED})

# status -> the statuses it may be reached from. A fill may be seen before the acknowledgement, an order called
# absent may turn up late, and a disarmed one may have left the very moment before: evidence from the venue wins.
SOURCES: dict[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.SENT: frozenset({OrderStatus.ARMED, OrderStatus.DISARMED}),
    OrderStatus.UNKNOWN: frozenset({OrderStatus.SENT, OrderStatus.UNKNOWN}),
    OrderStatus.ACCEPTED: frozenset(
        UNRESOLVED | {OrderStatus.ARMED, OrderStatus.DISARMED, OrderStatus.ABSENT, OrderStatus.REJECTED}
    ),
    OrderStatus.FILLED: UNRESOLVED | {OrderStatus.ARMED, OrderStatus.DISARMED, OrderStatus.ABSENT},
    OrderStatus.CANCELLED: UNRESOLVED | {OrderStatus.ARMED, OrderStatus.DISARMED, OrderStatus.ABSENT},
    OrderStatus.REJECTED: UNRESOLVED | {OrderStatus.ARMED, OrderStatus.DISARMED},
    OrderStatus.ABSENT: frozenset({OrderStatus.SENT, OrderStatus.UNKNOWN}),
    OrderStatus.DISARMED: frozenset({OrderStatus.ARMED}),
    OrderStatus.ARMED: frozenset(),
}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to carry out an intent. `stop_loss` is the price of a native stop that rides on it."""

    id: UUID
    intent_id: UUID
    attempt: int
    client_order_id: str
    account_id: UUID
    symbol: str
    side: Side
    qty: Decimal
    reduce_only: bool
    hedge: bool = False
    status: OrderStatus
    stop_loss: Decimal | None = None
    venue_order_id: str | None = None
    filled_qty: Decimal = Decimal(0)
    avg_price: Decimal | None = None
    venue_code: str | None = None
    reason: str | None = None
    created_at: datetime
    sent_at: datetime | None = None
    answered_at: datetime | None = None
    finished_at: datetime | None = None


PREFIX = "lh"


def is_ours(client_order_id: str) -> bool:
    """Whether an id looks like one of this program's, of whatever installation."""
    return len(client_order_id) == len(PREFIX) + 32 and client_order_id.startswith(PREFIX)


def client_order_id(install: bytes, cause: UUID, book: str, leg: int, attempt: int) -> str:
    """A deterministic id of 34 characters: `lh` + base32 of a 20-byte hash.

    Built from what is asked and never from a database sequence, so that a restored backup cannot use an id twice
    for different orders, and a repeated run of the same attempt gets the same id, by which the venue refuses it or is
    asked first.
    """
    digest = hashlib.blake2b(digest_size=20, key=install)
    digest.update(f"{cause}|{book}|{leg}|{attempt}".encode())
    return PREFIX + base64.b32encode(digest.digest()).decode().lower()
