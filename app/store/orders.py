"""Intents, their orders and the venue's fills. An order is committed before its first byte leaves."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from app.domain.order import SOURCES, Order, OrderStatus, PositionSide, Side
from app.domain.position import CloseReason, Fill
from app.domain.signal import Exits
from app.errors import Conflict
from app.store.books import Book, lost
from app.store.db import Connection, Pool, as_struct, as_struct_or_none, as_structs, readable


class IntentCause(StrEnum):
    INSTRUCTION = "instruction"
    LEVEL = "level"


class IntentKind(StrEnum):
    OPEN = "open"
    ADD = "add"
    REDUCE = "reduce"
    CLOSE = "close"


class IntentStatus(StrEnum):
    """armed (with a level) or planned -> one of the others."""

    ARMED = "armed"
    PLANNED = "planned"
    DONE = "done"
    REFUSED = "refused"
    EXPIRED = "expired"
    DISARMED = "disarmed"
    NEEDS_OPERATOR = "needs_operator"


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What we decided to do: one leg of an instruction, or the close that a level stands for."""

    id: UUID
    cause_kind: IntentCause
    cause_id: UUID
    leg: int
    account_id: UUID
    symbol: str
    strategy_id: str
    position_id: UUID
    position_side: PositionSide
    hedge: bool = False
    kind: IntentKind
    reason: CloseReason
    side: Side
    qty: Decimal
    leverage: Decimal | None = None
    exits: Exits | None = None
    native_stop: Decimal | None = None
    status: IntentStatus
    outcome_code: str | None = None
    outcome_reason: str | None = None

    @property
    def opens(self) -> bool:
        return self.kind in (IntentKind.OPEN, IntentKind.ADD)


INSERT_INTENT = """
INSERT INTO intents (id, cause_kind, cause_id, leg, account_id, symbol, strategy_id, position_id, position_side,
                     kind, reason, side, qty, leverage, exits, native_stop, status, hedge)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""


async def insert_intents(connection: Connection, intents: Sequence[Intent]) -> None:
    await connection.executemany(
        INSERT_INTENT,
        [
            (
                i.id, i.cause_kind, i.cause_id, i.leg, i.account_id, i.symbol, i.strategy_id, i.position_id,
                i.position_side, i.kind, i.reason, i.side, i.qty, i.leverage, i.exits, i.native_stop, i.status, i.hedge,
            )
            for i in intents
        ],
    )  # fmt: skip


INTENT_COLUMNS = """
id, cause_kind, cause_id, leg, account_id, symbol, strategy_id, position_id, position_side, kind, reason, side, qty,
leverage, exits, native_stop, status, hedge
"""
ORDER_COLUMNS = """
id, intent_id, attempt, client_order_id, account_id, symbol, side, qty, reduce_only, stop_loss, status, created_at,
sent_at, hedge
"""

# The fence, the plan and its first order in one round trip: on the way of an alert each one counts.
INSERT_PLAN = f"""
WITH fenced AS (
    SELECT 1 FROM books b
     WHERE account_id = $1 AND symbol = $2 AND holder = $3 AND token = $4
       AND EXISTS (SELECT FROM leases WHERE name = 'worker:' || b.holder AND expires_at > clock_timestamp())
       FOR UPDATE
), planned AS (
    INSERT INTO intents ({INTENT_COLUMNS})
    SELECT {INTENT_COLUMNS} FROM jsonb_populate_recordset(NULL::intents, $5) WHERE EXISTS (SELECT FROM fenced)
    RETURNING 1
), ordered AS (
    INSERT INTO orders ({ORDER_COLUMNS})
    SELECT {ORDER_COLUMNS} FROM jsonb_populate_recordset(NULL::orders, $6) WHERE EXISTS (SELECT FROM fenced)
)
SELECT count(*) FROM planned
"""


async def insert_plan(
    connection: Connection | Pool, book: Book, intents: Sequence[Intent], first: Order | None
) -> None:
    """Write the legs of a plan with the first one's order. Conflict when the claim on the book was lost."""
    written = await connection.fetchval(
        INSERT_PLAN,
        book.account_id,
        book.symbol,
        book.holder,
        book.token,
        list(intents),
        [] if first is None else [first],
    )
    if written == 0:
        raise lost(book)


INTENTS_OF = "SELECT * FROM intents WHERE cause_kind = $1 AND cause_id = $2 ORDER BY leg"
INTENT = "SELECT * FROM intents WHERE id = $1"
MOVE_INTENT = "UPDATE intents SET position_id = $2 WHERE id = $1"
FINISH_INTENT = """
UPDATE intents SET status = $2, outcome_code = $3, outcome_reason = $4, finished_at = clock_timestamp()
 WHERE id = $1 AND status IN ('armed', 'planned')
"""


# By who carries it out: another worker may have taken the book meanwhile.
END_LEG = """
UPDATE intents i SET status = $4, outcome_code = $5, outcome_reason = $6, finished_at = clock_timestamp()
  FROM books b
 WHERE i.id = $1 AND i.status = 'planned'
   AND b.account_id = i.account_id AND b.symbol = i.symbol AND b.holder = $2 AND b.token = $3
RETURNING i.*
"""


async def intents_of(connection: Connection | Pool, kind: IntentCause, cause_id: UUID) -> list[Intent]:
    return as_structs(await connection.fetch(INTENTS_OF, kind, cause_id), Intent)


async def intent(connection: Connection | Pool, intent_id: UUID) -> Intent:
    return as_struct(await connection.fetchrow(INTENT, intent_id), Intent)


async def move_intent(connection: Connection, intent_id: UUID, position_id: UUID) -> None:
    """What it opens from now on is another position."""
    await connection.execute(MOVE_INTENT, intent_id, position_id)


async def finish_intent(
    connection: Connection | Pool, intent_id: UUID, status: IntentStatus, code: str | None, reason: str | None
) -> None:
    await connection.execute(FINISH_INTENT, intent_id, status, code, reason)


async def end_leg(
    connection: Connection | Pool, book: Book, intent_id: UUID, status: IntentStatus, code: str, reason: str
) -> Intent:
    """The leg is over; answers it. Conflict when the claim on the book was lost to another worker."""
    row = await connection.fetchrow(END_LEG, intent_id, book.holder, book.token, status, code, reason)
    if row is None:
        raise lost(book)
    return as_struct(row, Intent)


INSERT_ORDER = """
INSERT INTO orders (id, intent_id, attempt, client_order_id, account_id, symbol, side, qty, reduce_only, stop_loss,
                    status, created_at, sent_at, hedge)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""


async def insert_orders(connection: Connection, orders: Sequence[Order]) -> None:
    await connection.executemany(
        INSERT_ORDER,
        [
            (
                o.id, o.intent_id, o.attempt, o.client_order_id, o.account_id, o.symbol, o.side, o.qty, o.reduce_only,
                o.stop_loss, o.status, o.created_at, o.sent_at, o.hedge,
            )
            for o in orders
        ],
    )  # fmt: skip


ORDERS_OF_INTENT = "SELECT * FROM orders WHERE intent_id = $1 ORDER BY attempt"
BY_CLIENT_ID = "SELECT * FROM orders WHERE client_order_id = $1"
ORDER = "SELECT * FROM orders WHERE id = $1"
ATTEMPTS = "SELECT coalesce(max(attempt) + 1, 0) FROM orders WHERE intent_id = $1"

UNRESOLVED = """
SELECT o.* FROM orders o
 WHERE o.status IN ('sent', 'unknown', 'accepted') AND o.account_id = $1
   AND o.sent_at < clock_timestamp() - make_interval(secs => $2)
 ORDER BY o.sent_at
"""

IN_FLIGHT = """
SELECT EXISTS (SELECT FROM orders WHERE account_id = $1 AND symbol = $2 AND status IN ('sent', 'unknown', 'accepted'))
"""

OPENING_IN_FLIGHT = """
SELECT EXISTS (SELECT FROM orders WHERE account_id = $1 AND symbol = $2 AND NOT reduce_only
                  AND status IN ('sent', 'unknown', 'accepted') AND (NOT hedge OR side = $3))
"""

# Called absent by every evidence there was; it is asked for a while longer, since a venue has been seen to show an
# order half a minute late.
DOUBTFUL = """
SELECT o.* FROM orders o
 WHERE o.status = 'absent' AND o.account_id = $1 AND o.answered_at > clock_timestamp() - interval '5 minutes'
   AND o.sent_at < o.answered_at - interval '5 seconds'
"""

MOVE = """
UPDATE orders
   SET status = $2,
       venue_order_id = coalesce($4, venue_order_id),
       venue_code = coalesce($5, venue_code),
       reason = coalesce($6, reason),
       sent_at = coalesce(sent_at, $7, clock_timestamp()),
       answered_at = CASE WHEN $2 IN ('sent', 'unknown') THEN answered_at
                          ELSE coalesce(answered_at, clock_timestamp()) END,
       finished_at = CASE WHEN $2 IN ('filled', 'cancelled', 'rejected', 'absent') THEN clock_timestamp()
                          ELSE finished_at END
 WHERE id = $1 AND status = ANY($3)
RETURNING *
"""


async def orders_of(connection: Connection | Pool, intent_id: UUID) -> list[Order]:
    return as_structs(await connection.fetch(ORDERS_OF_INTENT, intent_id), Order)


async def order(connection: Connection | Pool, order_id: UUID) -> Order:
    return as_struct(await connection.fetchrow(ORDER, order_id), Order)


async def by_client_id(connection: Connection | Pool, client_order_id: str) -> Order | None:
    return as_struct_or_none(await connection.fetchrow(BY_CLIENT_ID, client_order_id), Order)


async def in_flight(connection: Connection | Pool, account_id: UUID, symbol: str) -> bool:
    """Whether the end of any order of the book is not known."""
    found: bool = await connection.fetchval(IN_FLIGHT, account_id, symbol)
    return found


async def opening_in_flight(connection: Connection | Pool, account_id: UUID, symbol: str, side: PositionSide) -> bool:
    """Whether an order may be on its way that opens what would be held on this side, or has just been filled."""
    found: bool = await connection.fetchval(OPENING_IN_FLIGHT, account_id, symbol, side.opens_with)
    return found


async def next_attempt(connection: Connection | Pool, intent_id: UUID) -> int:
    attempt: int = await connection.fetchval(ATTEMPTS, intent_id)
    return attempt


async def unresolved(connection: Connection | Pool, account_id: UUID, *, older_than_s: float) -> list[Order]:
    """Orders whose end is not known although they were sent a while ago."""
    return readable(await connection.fetch(UNRESOLVED, account_id, older_than_s), Order, "order")


async def doubtful(connection: Connection | Pool, account_id: UUID) -> list[Order]:
    """Orders that were called absent after their answer was lost, not long ago."""
    return readable(await connection.fetch(DOUBTFUL, account_id), Order, "order")


async def move(
    connection: Connection | Pool,
    order_id: UUID,
    to: OrderStatus,
    *,
    venue_order_id: str | None = None,
    venue_code: str | None = None,
    reason: str | None = None,
    sent_at: datetime | None = None,
) -> Order:
    """Move an order to `to`; Conflict if the status it has by now does not allow that."""
    row = await connection.fetchrow(
        MOVE, order_id, to, sorted(SOURCES[to]), venue_order_id, venue_code, reason, sent_at
    )
    if row is None:
        raise Conflict(f"order {order_id} cannot become {to}")
    return as_struct(row, Order)


DISARM_OF_POSITION = """
WITH gone AS (
    UPDATE intents SET status = 'disarmed', finished_at = clock_timestamp()
     WHERE position_id = $1 AND status = 'armed'
)
UPDATE orders SET status = 'disarmed', finished_at = clock_timestamp()
 WHERE status = 'armed' AND intent_id IN (SELECT id FROM intents WHERE position_id = $1)
"""

ARM_INTENTS = """
UPDATE intents SET status = 'armed', finished_at = NULL WHERE id = ANY($1) AND status = 'disarmed'
"""

DISARM_ORDERS = """
UPDATE orders SET status = 'disarmed', finished_at = clock_timestamp()
 WHERE intent_id = ANY($1) AND status = 'armed'
"""


async def disarm_of_position(connection: Connection, position_id: UUID) -> None:
    """The position is gone: nothing that was armed for it will be sent any more."""
    await connection.execute(DISARM_OF_POSITION, position_id)


async def arm_intents(connection: Connection, intent_ids: Sequence[UUID]) -> None:
    """Levels that had gone away are back."""
    await connection.execute(ARM_INTENTS, list(intent_ids))


async def disarm_orders(connection: Connection, intent_ids: Sequence[UUID]) -> None:
    """The armed orders of these intents will not be sent any more."""
    await connection.execute(DISARM_ORDERS, list(intent_ids))


INSERT_FILL = """
INSERT INTO fills (account_id, symbol, venue_fill_id, order_id, position_id, venue_order_id, client_order_id, origin,
                   side, qty, price, fee, fee_currency, filled_at, position_side)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (account_id, symbol, venue_fill_id) DO NOTHING
"""

COUNT_FILL = """
UPDATE orders
   SET filled_qty = filled_qty + $2,
       avg_price = (coalesce(avg_price, 0) * filled_qty + $3 * $2) / (filled_qty + $2),
       venue_order_id = coalesce(venue_order_id, $4)
 WHERE id = $1
"""

KNOWN_FILLS = "SELECT venue_fill_id FROM fills WHERE account_id = $1 AND symbol = $2 AND venue_fill_id = ANY($3)"


async def known_fills(connection: Connection | Pool, account_id: UUID, symbol: str, ids: list[str]) -> set[str]:
    """Which of these fills have been counted already."""
    return {row["venue_fill_id"] for row in await connection.fetch(KNOWN_FILLS, account_id, symbol, ids)}


async def insert_fill(
    connection: Connection, account_id: UUID, fill: Fill, *, order_id: UUID | None, position_id: UUID | None
) -> bool:
    """Record a fill and count it for its order; False when it has been counted before."""
    status = await connection.execute(
        INSERT_FILL, account_id, fill.symbol, fill.venue_fill_id, order_id, position_id, fill.venue_order_id,
        fill.client_order_id, fill.origin, fill.side, fill.qty, fill.price, fill.fee, fill.fee_currency,
        fill.filled_at, fill.position_side,
    )  # fmt: skip
    if status != "INSERT 0 1":
        return False
    if order_id is not None:
        await connection.execute(COUNT_FILL, order_id, fill.qty, fill.price, fill.venue_order_id)
    return True
