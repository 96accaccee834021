"""The keys that outlive a change of the master key: those that were derived from the first one.

Were they derived anew, an order sent once more after a rotation would have another client order id, and the exchange
would not know it again; an alert sent once more would not be the duplicate that it is.
"""

from app.keys import Keys, Lasting
from app.store.db import Connection, Pool, as_struct

KEEP = """
INSERT INTO installation (install, body) VALUES ($1, $2) ON CONFLICT (one) DO NOTHING
"""
READ = "SELECT install, body FROM installation"


async def keep(connection: Connection | Pool, keys: Keys) -> None:
    """Have `keys` use the lasting ones of this database; the first who comes writes its own."""
    row = await connection.fetchrow(READ)
    if row is None:
        first = keys.lasting if keys.previous is None else keys.previous.lasting
        await connection.execute(KEEP, first.install, first.body)
        row = await connection.fetchrow(READ)
    keys.lasting = as_struct(row, Lasting)
