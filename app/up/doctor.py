"""`levelhead doctor`: look at everything that a running bot needs, and say what to mend."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from app.errors import LevelheadError, SettingsError
from app.settings import Settings, require_servers
from app.up.datadir import DataDir
from app.up.main import local_url

TIMEOUT_S: Final = 5.0
POSTGRES_VERSION_MIN: Final = 15
REDIS_VERSION_MIN: Final = (6, 2)
CLOCK_OFF_S_MAX: Final = 1.0
"""Exchanges refuse a request whose time is off by more than a few seconds; beyond this, alerts' ages are wrong too."""
DISK_FREE_BYTES_MIN: Final = 1024**3


class Failed(LevelheadError):
    """A check's verdict: what was found and, after a colon, the cure."""


Check = Callable[[Settings], Awaitable[str]]


def run(settings: Settings, *, data_dir: Path | None = None) -> int:
    """Print one line per check; return 1 if any failed. Without URLs it looks at the `up` that runs in `data_dir`."""
    place = DataDir(data_dir or settings.data_dir or Path("data"))
    settings = msgspec.structs.replace(place.complete(settings), data_dir=place.path)
    try:
        base_url = msgspec.json.decode(place.connection.read_bytes())["url"]  # --port of that `up` is in no setting
    except (OSError, msgspec.MsgspecError, KeyError):
        base_url = local_url(settings.host, settings.port)
    return asyncio.run(_run(settings, base_url))


async def _run(settings: Settings, base_url: str) -> int:
    async def api(_: Settings) -> str:
        return await _check_api(base_url)

    checks: dict[str, Check] = {
        "settings": _check_settings,
        "database": _check_database,
        "migrations": _check_migrations,
        "clock": _check_clock,
        "redis": _check_redis,
        "disk": _check_disk,
        "simulator": _check_simulator,
        "api": api,
    }
    failures = 0
    for name, check in checks.items():
        try:
            verdict, found = "ok  ", await check(settings)
        except LevelheadError as exc:
            verdict, found = "FAIL", str(exc)
            failures += 1
        print(f"{verdict} {name:<10} {found}", flush=True)
    return 1 if failures else 0


async def _check_settings(settings: Settings) -> str:
    try:
        require_servers(settings)
    except SettingsError as exc:
        raise Failed(str(exc)) from None
    return "complete"


async def _connect(settings: Settings) -> "asyncpg.Connection[asyncpg.Record]":
    if not settings.database_url:
        raise Failed("not checked, no database is known: set LEVELHEAD_DATABASE_URL or name a running --data-dir")
    try:
        return await asyncpg.connect(settings.database_url.reveal(), timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise Failed(f"can't be reached ({_brief(exc)}): is it running, and is LEVELHEAD_DATABASE_URL right?") from None


async def _check_database(settings: Settings) -> str:
    connection = await _connect(settings)
    try:
        version = connection.get_server_version()
    finally:
        await connection.close(timeout=TIMEOUT_S)
    if version.major < POSTGRES_VERSION_MIN:
        raise Failed(f"is PostgreSQL {version.major}: {POSTGRES_VERSION_MIN} or newer is needed")
    return f"PostgreSQL {version.major}.{version.minor}"


async def _check_migrations(settings: Settings) -> str:
    from app.store import migrate

    connection = await _connect(settings)
    try:
        pending = await migrate.pending(connection)
    finally:
        await connection.close(timeout=TIMEOUT_S)
    if pending:
        raise Failed(f"{len(pending)} not applied, from {pending[0].name} on: run `levelhead migrate`")
    return "up to date"


async def _check_clock(settings: Settings) -> str:
    connection = await _connect(settings)
    try:
        before = datetime.now(UTC)
        theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
        after = datetime.now(UTC)
    finally:
        await connection.close(timeout=TIMEOUT_S)
    off_s = (theirs - before - (after - before) / 2).total_seconds()
    if abs(off_s) > CLOCK_OFF_S_MAX:
        raise Failed(f"{off_s:+.1f} s between here and the database: switch on time synchronisation on both machines")
    return f"{off_s * 1000:+.0f} ms between here and the database"


async def _check_redis(settings: Settings) -> str:
    if not settings.redis_url:
        raise Failed("not checked, no Redis is known: set LEVELHEAD_REDIS_URL or name a running --data-dir")
    try:
        async with redis.asyncio.Redis.from_url(settings.redis_url.reveal(), socket_timeout=TIMEOUT_S) as client:
            version = str((await client.info("server"))["redis_version"])
    except (OSError, RedisError) as exc:
        raise Failed(f"can't be reached ({_brief(exc)}): is it running, and is LEVELHEAD_REDIS_URL right?") from None
    if tuple(int(part) for part in version.split(".")[:2]) < REDIS_VERSION_MIN:
        raise Failed(f"is Redis {version}: 6.2 or newer is needed")
    return f"Redis {version}"


async def _check_disk(settings: Settings) -> str:
    path = settings.data_dir
    try:
        free = shutil.disk_usage(path or "").free
    except FileNotFoundError:
        return "no data directory on this machine"
    if free < DISK_FREE_BYTES_MIN:
        raise Failed(
            f"{free / 1024**2:.0f} MiB free under {path}: make room, a full disk stops alerts from being stored"
        )
    return f"{free / 1024**3:.1f} GiB free under {path}"


async def _check_simulator(settings: Settings) -> str:
    if settings.simulator_url is None:
        return "none is configured"
    await _get(settings.simulator_url + "/control/ledger", "start it with `levelhead simulator`, or unset the URL")
    return f"answers at {settings.simulator_url}"


async def _check_api(base_url: str) -> str:
    answer = await _get(base_url + "/health/ready", "start it with `levelhead api`, or see LEVELHEAD_HOST and _PORT")
    if answer.status_code != 200:
        raise Failed(f"{base_url} is not ready ({answer.status_code}): {answer.text[:500]}")
    return f"ready at {base_url}"


async def _get(url: str, cure: str) -> httpx.Response:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
            return await client.get(url)
    except httpx.HTTPError as exc:
        raise Failed(f"{url} does not answer ({_brief(exc)}): {cure}") from None


def _brief(exc: BaseException) -> str:
    return str(exc).split("\n")[0][:200] or type(exc).__name__
