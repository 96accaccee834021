"""The data directory of `levelhead up`: what lies where, and who may use it.

DIR/                    0700
    lock                held by the one `up` that runs here
    master.key          encrypts the exchanges' credentials; back it up with the database
    connection.json     for people and scripts: addresses, the admin's password, the demo strategy's secret
    example-alert.json  an alert to post by hand
    postgres/ redis/    the embedded servers' data
    simulator.json      the simulator's state, with simulator.port, simulator.key and simulator.secret beside it
    run/                sockets of the embedded servers, and the children that run now
    logs/               the embedded servers' logs
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from app.errors import SettingsError
from app.settings import Secret, Settings

SOCKET_PATH_BYTES_MAX: Final = 100
"""A Unix socket's path ends at 104 bytes on some systems, at 108 on Linux."""
POSTGRES_SOCKET: Final = ".s.PGSQL.5432"
REDIS_SOCKET: Final = "redis.sock"


class DataDir:
    """Paths below one directory, which `make` creates."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock = self.path / "lock"
        self.master_key = self.path / "master.key"
        self.connection = self.path / "connection.json"
        self.example_alert = self.path / "example-alert.json"
        self.postgres = self.path / "postgres"
        self.redis = self.path / "redis"
        self.logs = self.path / "logs"
        self.run = self.path / "run"
        self.pids = self.run / "pids.json"
        self.simulator_state = self.path / "simulator.json"
        self.simulator_port = self.path / "simulator.port"
        self.simulator_key = self.path / "simulator.key"
        self.simulator_secret = self.path / "simulator.secret"
        self.sockets = self._sockets()

    def _sockets(self) -> Path:
        if len(os.fsencode(self.run / POSTGRES_SOCKET)) <= SOCKET_PATH_BYTES_MAX:
            return self.run
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path("/tmp") / f"levelhead-{os.getuid()}-{name}"

    def make(self) -> None:
        """Create the directory and what it needs below. SettingsError if it can't be used."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            for path in (self.run, self.logs, self.sockets):
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise SettingsError(
                f"The data directory {self.path} can't be used ({exc.strerror}): make it yours, or name another "
                "with --data-dir."
            ) from None
        # In /tmp anyone could have made it before us, and trust authentication stands on its mode.
        found = self.sockets.lstat()
        if self.sockets.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise SettingsError(
                f"{self.sockets} is not a private directory of this user: remove it, or name a shorter --data-dir."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for ourselves. SettingsError if another `up` runs here. Freed by the kernel if we die."""
        with self.lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "?"
                raise SettingsError(
                    f"Another `levelhead up` (process {holder}) uses {self.path}: stop it, or name another "
                    "directory with --data-dir."
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def database_url(self) -> Secret:
        """The embedded PostgreSQL's URL. The port is written out, or PGPORT of the environment would win."""
        return Secret(postgres_url(self.sockets, "levelhead"))

    def redis_url(self) -> Secret:
        return Secret(f"unix://{quote(str(self.sockets / REDIS_SOCKET))}?db=0")

    def complete(self, settings: Settings) -> Settings:
        """Fill in what an `up` that runs here uses, for a tool that stands beside it (doctor)."""
        found: dict[str, object] = {}
        if not settings.database_url and (self.sockets / POSTGRES_SOCKET).exists():
            found["database_url"] = self.database_url()
        if not settings.redis_url and (self.sockets / REDIS_SOCKET).exists():
            found["redis_url"] = self.redis_url()
        if not settings.master_key and self.master_key.exists():
            found["master_key"] = Secret(self.master_key.read_text().strip())
        if settings.simulator_url is None and self.simulator_port.exists():
            found["simulator_url"] = f"http://127.0.0.1:{self.simulator_port.read_text().strip()}"
        return msgspec.structs.replace(settings, **found)


def postgres_url(sockets: Path, database: str) -> str:
    return f"postgresql://levelhead@/{database}?host={quote(str(sockets), safe='')}&port=5432"


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, mode 0600; a crash or a full disk leaves the old file as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_or_make(path: Path) -> Secret:
    """Return the token kept in `path`: 32 random bytes in base64url, made the first time."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32).encode())
    return Secret(path.read_text().strip())
