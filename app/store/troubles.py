"""Troubles of an account that people were told of: with its key (symbol ''), or with an instrument that it holds."""

from uuid import UUID

from app.store.db import Connection, Pool, affected

BEGIN = "INSERT INTO troubles (account_id, symbol, why) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
END = "DELETE FROM troubles WHERE account_id = $1 AND symbol = $2"
SYMBOLS = "SELECT symbol FROM troubles WHERE account_id = $1 AND symbol <> ''"

HELD = "SELECT DISTINCT symbol FROM positions WHERE account_id = $1 AND status <> 'closed'"

# With something at stake, asked for of late, or in trouble: an account at rest is not asked about for ever.
ACCOUNTS = """
SELECT used.account_id
  FROM (SELECT account_id FROM positions WHERE status <> 'closed'
        UNION SELECT account_id FROM instructions WHERE created_at > now() - interval '10 minutes'
        UNION SELECT account_id FROM troubles) AS used
  JOIN accounts a ON a.id = used.account_id AND a.removed_at IS NULL
"""


async def begin(connection: Connection | Pool, account_id: UUID, symbol: str, why: str) -> bool:
    """Whether this is news."""
    return affected(await connection.execute(BEGIN, account_id, symbol, why)) == 1


async def end(connection: Connection | Pool, account_id: UUID, symbol: str) -> bool:
    """Whether there was such a trouble."""
    return affected(await connection.execute(END, account_id, symbol)) == 1


async def symbols(connection: Connection | Pool, account_id: UUID) -> set[str]:
    """Instruments of the account that people were told of."""
    return {row["symbol"] for row in await connection.fetch(SYMBOLS, account_id)}


async def held(connection: Connection | Pool, account_id: UUID) -> set[str]:
    """Instruments of which the account holds something by our tables."""
    return {row["symbol"] for row in await connection.fetch(HELD, account_id)}


async def accounts(connection: Connection | Pool) -> list[UUID]:
    """Whose keys and instruments to look at."""
    return [row["account_id"] for row in await connection.fetch(ACCOUNTS)]
