"""Blindness: the symbols of which their watcher hears nothing true, so that nobody would see a stop crossed.

A quiet market is no blindness. A watcher writes on change only, under the leases of its symbols' shards; what nobody
holds the lease of is dark.
"""

from collections.abc import Mapping

from app.domain.shards import lease_of
from app.store.db import Connection, Pool

EVERYTHING = ""  # as a symbol: all of the market that belongs to the lease

REASON = """
SELECT CASE
         WHEN NOT EXISTS (SELECT FROM leases WHERE name = $3 AND expires_at > clock_timestamp())
         THEN 'no watcher follows it, so nobody would see the stop'
         ELSE (SELECT why FROM blind
                WHERE market = $1 AND lease = $3 AND symbol IN ('', $2) ORDER BY symbol LIMIT 1)
       END
"""

# The leases are locked until the rows are there: a watcher that takes over writes after its predecessor, never before
# it. In the order of their names, as all who write leases do.
TELL = """
WITH held AS MATERIALIZED (
    SELECT l.name
      FROM leases l
      JOIN unnest($5::text[], $6::bigint[]) AS ours (name, token) ON l.name = ours.name AND l.token = ours.token
     WHERE l.expires_at > clock_timestamp()
     ORDER BY l.name
       FOR SHARE OF l
), told AS MATERIALIZED (
    SELECT told.lease, told.symbol, told.why
      FROM unnest($2::text[], $3::text[], $4::text[]) AS told (lease, symbol, why)
      JOIN held ON held.name = told.lease
), sight AS (
    DELETE FROM blind b USING held
     WHERE b.market = $1 AND b.lease = held.name
       AND NOT EXISTS (SELECT FROM told WHERE told.lease = b.lease AND told.symbol = b.symbol)
), dark AS (
    INSERT INTO blind AS b (market, lease, symbol, why)
    SELECT $1, lease, symbol, why FROM told
    ON CONFLICT (market, lease, symbol) DO UPDATE SET why = excluded.why
)
SELECT count(*) = cardinality($5::text[]) FROM held
"""


ROWS = "SELECT market, lease, symbol FROM blind"


async def rows(connection: Connection | Pool) -> set[tuple[str, str, str]]:
    """(market, lease, symbol) of what is dark."""
    return {(row["market"], row["lease"], row["symbol"]) for row in await connection.fetch(ROWS)}


async def reason(connection: Connection | Pool, market: str, symbol: str) -> str | None:
    """Why an opening of this symbol would be blind now; None when it would be watched."""
    why: str | None = await connection.fetchval(REASON, market, symbol, lease_of(symbol))
    return why


async def tell(
    connection: Connection | Pool, market: str, rows: Mapping[tuple[str, str], str], tokens: Mapping[str, int]
) -> bool:
    """Make these ((lease, symbol) -> why) what of a market is dark, as far as it belongs to these leases (name ->
    token). False when one of them is over: of what belongs to that nothing is written.
    """
    leases, symbols = zip(*rows, strict=True) if rows else ((), ())
    told: bool = await connection.fetchval(
        TELL, market, list(leases), list(symbols), list(rows.values()), list(tokens), list(tokens.values())
    )
    return told
