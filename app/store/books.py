"""Books (account + instrument): at most one worker mutates one at a time.

A claim names the worker; it holds as long as that worker's lease `worker:<holder>` lives, so one heartbeat keeps all
of a worker's claims and a killed worker's are free when its lease runs out. Each claim raises the token: what a former
holder still tries to write under the old one changes nothing.
"""

from uuid import UUID

import msgspec

from app.errors import Conflict
from app.store.db import Connection, Pool


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed book."""

    account_id: UUID
    symbol: str
    holder: UUID
    token: int

    @property
    def key(self) -> str:
        return f"{self.account_id}:{self.symbol}"


# Not waited for on disk: what a crash undoes runs out with the worker's lease.
RELEASE = """
WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true))
UPDATE books SET holder = NULL FROM unhurried WHERE account_id = $1 AND symbol = $2 AND token = $3
"""

FENCE = """
SELECT 1 FROM books b
 WHERE account_id = $1 AND symbol = $2 AND holder = $3 AND token = $4
   AND EXISTS (SELECT FROM leases WHERE name = 'worker:' || b.holder AND expires_at > clock_timestamp())
   FOR UPDATE
"""

LOCK = """
INSERT INTO books (account_id, symbol) VALUES ($1, $2)
ON CONFLICT (account_id, symbol) DO UPDATE SET symbol = excluded.symbol
"""

CLAIMED = """
SELECT EXISTS (SELECT FROM books b JOIN leases l ON l.name = 'worker:' || b.holder AND l.expires_at > clock_timestamp()
                WHERE b.account_id = $1 AND b.symbol = $2)
"""

# Also what only waits: an opening that was accepted before is closed behind it.
SYMBOLS_OF = """
SELECT symbol FROM positions WHERE strategy_id = $1 AND status <> 'closed'
 UNION
SELECT symbol FROM instructions WHERE strategy_id = $1 AND status IN ('pending', 'executing')
 ORDER BY symbol
"""

NEXT_EPOCH = "UPDATE books SET epoch = epoch + 1 WHERE account_id = $1 AND symbol = $2 RETURNING epoch"


def lost(book: Book) -> Conflict:
    return Conflict(f"the claim on {book.symbol} was lost to another worker")


async def release(connection: Connection | Pool, book: Book) -> None:
    await connection.execute(RELEASE, book.account_id, book.symbol, book.token)


async def fence(connection: Connection, book: Book) -> None:
    """Inside a transaction: Conflict unless the claim still holds, and it holds until the commit."""
    if await connection.fetchval(FENCE, book.account_id, book.symbol, book.holder, book.token) is None:
        raise lost(book)


async def symbols_of(connection: Connection | Pool, strategy_id: str) -> list[str]:
    """What the strategy holds or has work for, by name."""
    return [row["symbol"] for row in await connection.fetch(SYMBOLS_OF, strategy_id)]


async def lock(connection: Connection, account_id: UUID, symbol: str) -> None:
    """Inside a transaction: whoever folds fills or moves levels of this book waits here."""
    await connection.execute(LOCK, account_id, symbol)


async def is_claimed(connection: Connection, account_id: UUID, symbol: str) -> bool:
    """Whether a worker that lives has claimed the book."""
    found: bool = await connection.fetchval(CLAIMED, account_id, symbol)
    return found


async def next_epoch(connection: Connection, account_id: UUID, symbol: str) -> int:
    epoch: int = await connection.fetchval(NEXT_EPOCH, account_id, symbol)
    return epoch
