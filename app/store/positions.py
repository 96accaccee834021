"""Positions: what the fills fold into. Written only by `flows.settle` and the statements named here."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from app.domain.position import Position
from app.domain.signal import Exits
from app.store.db import Connection, Pool, as_struct_or_none, as_structs

LIVE = "SELECT * FROM positions WHERE account_id = $1 AND symbol = $2 AND status <> 'closed' ORDER BY side"
LIVE_FOR_UPDATE = LIVE + " FOR UPDATE"
GET = "SELECT * FROM positions WHERE id = $1"
LIVE_OF_ACCOUNT = "SELECT * FROM positions WHERE account_id = $1 AND status <> 'closed'"

INSERT = """
INSERT INTO positions (id, account_id, strategy_id, symbol, side, epoch, status, qty, qty_opened, entry_price,
                       realized_pnl, fees, leverage, exits, native_stop, opened_at, hedge)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""

UPDATE_FOLD = """
UPDATE positions
   SET status = $2, qty = $3, qty_opened = $4, entry_price = $5, realized_pnl = $6, fees = $7,
       closed_at = $8, close_reason = $9, native_stop = CASE WHEN $2 = 'closed' THEN NULL ELSE native_stop END,
       ended_at = CASE WHEN $2 = 'closed' THEN clock_timestamp() END
 WHERE id = $1 AND status <> 'closed'
"""

ADOPT = "UPDATE positions SET adopted_qty = adopted_qty + $2, adopted_at = $3 WHERE id = $1"
SET_STATUS = "UPDATE positions SET status = $2 WHERE id = $1 AND status <> 'closed' AND status <> $2"
OPENED = """
UPDATE positions SET status = 'open'
 WHERE status = 'opening' AND id = (SELECT position_id FROM intents WHERE id = $1)
"""
SET_NATIVE_STOP = "UPDATE positions SET native_stop = $2 WHERE id = $1 AND status <> 'closed'"
SET_EXITS = "UPDATE positions SET exits = $2 WHERE id = $1 AND status <> 'closed'"

CHANGED_LATELY = """
SELECT EXISTS (SELECT FROM fills WHERE account_id = $1 AND symbol = $2
                  AND recorded_at > clock_timestamp() - make_interval(secs => $3))
"""

# Sides of a book of which a close may still be on its way that was meant for a position that has ended: from a watcher
# that has not let go of it, or from a worker that does not know what became of its order.
NOT_LET_GO = """
SELECT side FROM positions
 WHERE account_id = $1 AND symbol = $2 AND status = 'closed' AND released_at IS NULL
   AND ended_at > clock_timestamp() - make_interval(secs => $3)
UNION
SELECT CASE side WHEN 'sell' THEN 'long' ELSE 'short' END FROM orders
 WHERE account_id = $1 AND symbol = $2 AND reduce_only AND status IN ('sent', 'unknown', 'accepted')
"""
UNRELEASED = """
SELECT id, symbol FROM positions
 WHERE status = 'closed' AND released_at IS NULL AND ended_at > clock_timestamp() - make_interval(secs => $1)
"""
RELEASE = """
UPDATE positions p SET released_at = clock_timestamp()
  FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS ended (id, lease, token), leases held
 WHERE p.id = ended.id AND p.status = 'closed' AND p.released_at IS NULL
   AND held.name = ended.lease AND held.token = ended.token AND held.expires_at > clock_timestamp()
"""
CLOSED_LATELY = "SELECT * FROM positions WHERE account_id = $1 AND status = 'closed' AND closed_at > $2"

ACCOUNTS_IN_USE = """
SELECT account_id FROM positions WHERE status <> 'closed'
UNION
SELECT account_id FROM positions WHERE status = 'closed' AND closed_at > clock_timestamp() - interval '1 minute'
UNION
SELECT account_id FROM drifts WHERE status = 'needs_operator'
UNION
SELECT account_id FROM orders WHERE status IN ('sent', 'unknown', 'accepted')
UNION
SELECT account_id FROM orders WHERE status = 'absent' AND answered_at > clock_timestamp() - interval '5 minutes'
"""

SYMBOLS_TO_WATCH = """
SELECT DISTINCT account_id, symbol FROM (
    SELECT account_id, symbol FROM positions WHERE status <> 'closed'
    UNION
    SELECT account_id, symbol FROM instructions WHERE created_at > now() - interval '1 day'
) AS used
"""


async def live(connection: Connection | Pool, account_id: UUID, symbol: str) -> list[Position]:
    """The book's positions that are not closed: at most one, or in hedge mode one a side."""
    return as_structs(await connection.fetch(LIVE, account_id, symbol), Position)


async def live_for_update(connection: Connection, account_id: UUID, symbol: str) -> list[Position]:
    return as_structs(await connection.fetch(LIVE_FOR_UPDATE, account_id, symbol), Position)


async def live_of_account(connection: Connection | Pool, account_id: UUID) -> list[Position]:
    return as_structs(await connection.fetch(LIVE_OF_ACCOUNT, account_id), Position)


async def get(connection: Connection | Pool, position_id: UUID) -> Position | None:
    return as_struct_or_none(await connection.fetchrow(GET, position_id), Position)


async def changed_lately(connection: Connection | Pool, account_id: UUID, symbol: str, *, within_s: float) -> bool:
    """Whether a fill of the book was counted within the last seconds."""
    found: bool = await connection.fetchval(CHANGED_LATELY, account_id, symbol, within_s)
    return found


async def not_let_go(connection: Connection | Pool, account_id: UUID, symbol: str, *, within_s: float) -> set[str]:
    """Sides on which a close of an ended position may still arrive: of those that ended in the last `within_s`."""
    return {row["side"] for row in await connection.fetch(NOT_LET_GO, account_id, symbol, within_s)}


async def unreleased(connection: Connection | Pool, *, within_s: float) -> list[tuple[UUID, str]]:
    """(position, symbol) of what ended in the last `within_s` and what its watcher has not let go of."""
    return [(row["id"], row["symbol"]) for row in await connection.fetch(UNRELEASED, within_s)]


async def release(connection: Connection | Pool, ended: Collection[tuple[UUID, str, int]]) -> None:
    """The holders of the symbols' leases have let go of these (position, lease, token): nothing leaves for them any
    more or is on its way.
    """
    if ended:
        await connection.execute(RELEASE, *map(list, zip(*ended, strict=True)))


async def closed_lately(connection: Connection | Pool, account_id: UUID, *, since: datetime) -> list[Position]:
    return as_structs(await connection.fetch(CLOSED_LATELY, account_id, since), Position)


async def accounts_in_use(connection: Connection | Pool) -> list[UUID]:
    """Accounts with a live position or one that ended a moment ago, an order whose end is not known, or a difference
    that a person was asked about: what the reconciler visits.
    """
    return [row["account_id"] for row in await connection.fetch(ACCOUNTS_IN_USE)]


async def symbols_to_watch(connection: Connection | Pool) -> list[tuple[UUID, str]]:
    """(account, symbol) with a live position, or traded within a day: whose prices are followed."""
    return [(row["account_id"], row["symbol"]) for row in await connection.fetch(SYMBOLS_TO_WATCH)]


async def insert(connection: Connection, p: Position) -> None:
    await connection.execute(
        INSERT, p.id, p.account_id, p.strategy_id, p.symbol, p.side, p.epoch, p.status, p.qty, p.qty_opened,
        p.entry_price, p.realized_pnl, p.fees, p.leverage, p.exits, p.native_stop, p.opened_at, p.hedge,
    )  # fmt: skip


async def update_fold(connection: Connection, p: Position) -> None:
    """Write what the fold gave; a closed position is never written again."""
    await connection.execute(
        UPDATE_FOLD, p.id, p.status, p.qty, p.qty_opened, p.entry_price, p.realized_pnl, p.fees, p.closed_at,
        p.close_reason,
    )  # fmt: skip


async def adopt(connection: Connection, position_id: UUID, qty: Decimal, at: datetime) -> None:
    """So much of the position has no fill of ours behind it: its fills and this come to its quantity. Fills of
    before `at` that are not known yet are in it.
    """
    await connection.execute(ADOPT, position_id, qty, at)


async def set_status(connection: Connection | Pool, position_id: UUID, status: str) -> None:
    await connection.execute(SET_STATUS, position_id, status)


async def opened(connection: Connection | Pool, intent_id: UUID) -> None:
    """The opening order of this intent has ended: what it filled is all there will be."""
    await connection.execute(OPENED, intent_id)


async def set_native_stop(connection: Connection | Pool, position_id: UUID, price: Decimal | None) -> None:
    await connection.execute(SET_NATIVE_STOP, position_id, price)


EVENT = """
INSERT INTO events (kind, position_id, alert_id, account_id, detail) VALUES ($1, $2, $3, $4, $5)
"""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a position or alert, for people to read."""

    id: int
    at: datetime
    kind: str
    detail: dict[str, object]


async def record(
    connection: Connection | Pool,
    kind: str,
    *,
    position_id: UUID | None = None,
    alert_id: UUID | None = None,
    account_id: UUID | None = None,
    detail: dict[str, object],
) -> None:
    """Note for people that something happened to a position or alert."""
    await connection.execute(EVENT, kind, position_id, alert_id, account_id, detail)


WAS_CHANGED = """
SELECT EXISTS (SELECT FROM events WHERE position_id = $1 AND kind = 'exits_changed' AND detail->>'id' = $2)
"""


async def was_changed(connection: Connection | Pool, position_id: UUID, change_id: UUID) -> bool:
    """Whether this change of the position's exits was made already."""
    found: bool = await connection.fetchval(WAS_CHANGED, position_id, str(change_id))
    return found


async def set_exits(connection: Connection | Pool, position_id: UUID, exits: Exits) -> None:
    """What may end the position from now on; its levels follow with the next fold."""
    await connection.execute(SET_EXITS, position_id, exits)
