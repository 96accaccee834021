"""Blindness: the symbols of which the watcher hears nothing true, so that nobody would see a stop crossed.

A quiet market is no blindness. The watcher writes on change only; without a watcher everything is dark.
"""

from collections.abc import Mapping

from app.store.db import Connection, Pool

EVERYTHING = ""  # as a symbol: the whole market

REASON = """
SELECT CASE
         WHEN NOT EXISTS (SELECT FROM leases WHERE name = 'watcher' AND expires_at > clock_timestamp())
         THEN 'no watcher is running, so nobody would see the stop'
         ELSE (SELECT why FROM blind WHERE market = $1 AND symbol IN ('', $2) ORDER BY symbol LIMIT 1)
       END
"""

# The lease is locked until the rows are there: a watcher that takes over writes after its predecessor, never before it.
TELL = """
WITH lease AS MATERIALIZED (
    SELECT FROM leases WHERE name = 'watcher' AND token = $4 AND expires_at > clock_timestamp() FOR SHARE
), sight AS (
    DELETE FROM blind WHERE market = $1 AND symbol <> ALL ($2::text[]) AND EXISTS (SELECT FROM lease)
), dark AS (
    INSERT INTO blind AS b (market, symbol, why)
    SELECT $1, told.symbol, told.why
      FROM unnest($2::text[], $3::text[]) AS told (symbol, why)
     WHERE EXISTS (SELECT FROM lease)
    ON CONFLICT (market, symbol) DO UPDATE SET why = excluded.why
)
SELECT EXISTS (SELECT FROM lease)
"""


ROWS = "SELECT market, symbol FROM blind"


async def rows(connection: Connection | Pool) -> set[tuple[str, str]]:
    """(market, symbol) of what is dark."""
    return {(row["market"], row["symbol"]) for row in await connection.fetch(ROWS)}


async def reason(connection: Connection | Pool, market: str, symbol: str) -> str | None:
    """Why an opening of this symbol would be blind now; None when it would be watched."""
    why: str | None = await connection.fetchval(REASON, market, symbol)
    return why


async def tell(connection: Connection | Pool, market: str, rows: Mapping[str, str], *, token: int) -> bool:
    """Make these (symbol -> why) what of a market is dark. False, and nothing is written, when the watcher's lease of
    this token is over.
    """
    told: bool = await connection.fetchval(TELL, market, list(rows), list(rows.values()), token)
    return told
