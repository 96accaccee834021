"""Forward-only migrations: the files of `migrations/`, in order of name, each in one transaction, each once.

A runner of our own: it is smaller than the second database driver that the migration libraries would bring (ADR 5).
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from app.errors import SettingsError
from app.keys import Keys, SealBroken
from app.log import event
from app.settings import Settings, require_servers
from app.store import accounts, installation, signing
from app.store.db import Connection, Pool, affected, open_connection

log = logging.getLogger("migrate")

LOCK = 7_303_014  # any constant: two runners of one database take turns

# Beside the package in a checkout and in a wheel alike.
FOLDER = Path(__file__).resolve().parents[2] / "migrations"

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


def files() -> list[Path]:
    """The migrations in order."""
    found = sorted(FOLDER.glob("[0-9]*.sql"))
    if not found:
        raise SettingsError(f"no migrations in {FOLDER}: the installation is incomplete, install it again")
    return found


async def applied(connection: Connection | Pool) -> set[str]:
    """The names of what has been applied to this database."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return set()
    return {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}


async def pending(connection: Connection) -> list[Path]:
    """What has not been applied to this database yet. SettingsError when it is newer than this program."""
    done = await applied(connection)
    refuse_newer(done)
    return [path for path in files() if path.name not in done]


def refuse_newer(done: set[str]) -> None:
    """SettingsError when a newer version has been here: what it writes would be guessed at, not understood."""
    unknown = sorted(done - {path.name for path in files()})
    if unknown:
        raise SettingsError(
            f"the database is newer than this program, which does not know {unknown[0]}: install the version that "
            "migrated it, or restore the backup of before"
        )


async def check(connection: Connection | Pool) -> None:
    """At the start of each process: SettingsError unless the schema is the one that this program was written for."""
    done = await applied(connection)
    refuse_newer(done)
    lacking = [path.name for path in files() if path.name not in done]
    if lacking:
        raise SettingsError(f"the database is older than this program and lacks {lacking[0]}: run `levelhead migrate`")


async def migrate(url: str) -> list[str]:
    """Bring the database to the newest schema; answers the names of what was applied."""
    connection = await open_connection(url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(CREATE_TABLE)
        done = []
        for path in await pending(connection):
            async with connection.transaction():
                await connection.execute(path.read_text(), timeout=600)
                await connection.execute("INSERT INTO schema_migrations (name) VALUES ($1)", path.name)
            done.append(path.name)
        return done
    finally:
        await connection.close()


async def rotate(settings: Settings) -> int:
    """After a change of the master key: seal anew what the one before had sealed; answers how many rows."""
    keys = Keys.from_text(settings.master_key.reveal(), settings.master_key_previous.reveal())
    connection = await open_connection(settings.database_url.reveal())
    try:
        await installation.keep(connection, keys)
        return await reseal(connection, keys)
    finally:
        await connection.close()


async def reseal(connection: Connection, keys: Keys) -> int:
    """Seal anew what was sealed before a rotation of the master key; answers how many rows that were.

    What neither key opens is left as it is: entering it anew is all that helps.
    """
    if keys.previous is None:
        return 0
    done = 0
    for all_sealed, write in (accounts.ALL_SEALED, accounts.RESEAL), (signing.ALL_SEALED, signing.RESEAL):
        for row_id, sealed in await connection.fetch(all_sealed):
            with suppress(SealBroken):
                plain = keys.previous.open_sealed(sealed, row_id.bytes)
                done += affected(await connection.execute(write, row_id, sealed, keys.seal(plain, row_id.bytes)))
    return done


def run(settings: Settings) -> int:
    """`levelhead migrate`."""
    require_servers(settings)
    done = asyncio.run(migrate(settings.database_url.reveal()))
    resealed = asyncio.run(rotate(settings)) or None
    event(
        log, logging.INFO, "migrated", applied=",".join(done) or "nothing", newest=files()[-1].name, resealed=resealed
    )
    return 0
