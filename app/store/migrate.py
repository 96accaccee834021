"""Forward-only migrations: the files of `migrations/`, in order of name, each in one transaction, each once.

A runner of our own: it is smaller than the second database driver that the migration libraries would bring (ADR 5).
"""

import asyncio
import logging
from pathlib import Path

from app.errors import SettingsError
from app.log import event
from app.settings import Settings, require_servers
from app.store.db import Connection, open_connection

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


async def pending(connection: Connection) -> list[Path]:
    """What has not been applied to this database yet."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return files()
    applied = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}
    return [path for path in files() if path.name not in applied]


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


def run(settings: Settings) -> int:
    """`levelhead migrate`."""
    require_servers(settings)
    done = asyncio.run(migrate(settings.database_url.reveal()))
    event(log, logging.INFO, "migrated", applied=",".join(done) or "nothing", newest=files()[-1].name)
    return 0
