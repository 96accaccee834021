"""All settings, read once from the environment over an optional `.env`; no other module reads the environment.

A setting `name` is written LEVELHEAD_NAME. An unknown LEVELHEAD_ name, a bad value or a missing required one stops the
start with one sentence that names it and says what to write.
"""

import base64
import difflib
import os
import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from app import addresses
from app.errors import SettingsError

PREFIX: Final = "LEVELHEAD_"
MASTER_KEY_FILE: Final = "LEVELHEAD_MASTER_KEY_FILE"
"""A second way to give the master key: a file that holds it (Docker and Kubernetes mount secrets so)."""
MAKE_KEY: Final = "`python3 -c 'import secrets; print(secrets.token_urlsafe(32))'`"
BASE64URL: Final = frozenset(string.ascii_letters + string.digits + "-_")
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]+")
TESTS_PREFIX: Final = "LEVELHEAD_TEST_"
"""Names that belong to the test suite; the program passes over them."""

HANDED_ON: Final = (
    *("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    "LEVELHEAD_TEST_CRASH_DIR",  # see app.crash
)
"""What a child process gets of our environment, besides its settings: what a program needs to run and to reach out."""


class Secret:
    """A string that hides itself in reprs, logs and tracebacks; empty (and false) when it isn't set."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    database_url: Secret = Secret()
    """PostgreSQL 15 or newer: `postgresql://user:password@host:5432/levelhead`. Empty: none is configured."""

    redis_url: Secret = Secret()
    """Redis 6.2 or newer: `redis://`, `rediss://` or `unix:///path/redis.sock`. Empty: none is configured."""

    master_key: Secret = Secret()
    """Encrypts the exchanges' credentials in the database: 32 bytes in base64url. Losing it loses those credentials."""

    master_key_previous: Secret = Secret()
    """The master key before this one, during a rotation: what it sealed, hashed or signed is still recognised."""

    host: str = "127.0.0.1"
    """Address that the API listens on; 0.0.0.0 for all."""

    port: int = 8000
    """TCP port that the API listens on."""

    public_url: str | None = None
    """Origin under which the outside reaches the API, like `https://bot.example.com`; in webhook URLs."""

    trusted_proxies: str | None = None
    """Addresses and networks of proxies, with commas: what they say of their clients (X-Forwarded-For) is believed."""

    alert_sources: str | None = None
    """Addresses and networks that alerts may come from, with commas; `tradingview` stands for those that it publishes.
    Any if not set."""

    certificate_header: str | None = None
    """`name: value` of a header with which a trusted proxy says that it verified the sender's client certificate."""

    simulator_url: str | None = None
    """Origin that accounts with environment "simulator" talk to, like `http://127.0.0.1:8090`."""

    log_format: Literal["text", "json"] = "text"
    """How a log line looks: `text` for a person, `json` for a machine."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""

    worker_jobs: int = 20
    """Jobs that one worker runs at the same time."""

    database_pool_max: int = 10
    """Connections to PostgreSQL that one process holds at most; processes x this stays below max_connections."""

    access_token_ttl_s: int = 900
    """Seconds for which an access token is valid."""

    refresh_token_ttl_s: int = 30 * 24 * 3600
    """Seconds for which a refresh token is valid: how long a person stays logged in without coming back."""

    alert_body_bytes_max: int = 65_536
    """Bytes of an alert's body; a longer one is answered 413."""

    recv_window_ms: int = 5000
    """Milliseconds after signing for which an exchange may still accept a request: an order never comes later."""

    venue_timeout_s: int = 5
    """Seconds to wait for an exchange's answer before its outcome counts as unknown."""

    clock_drift_max_ms: int = 1000
    """Milliseconds that this machine's clock may be away from an exchange's; beyond it nothing is opened."""

    address_name: str | None = None
    """Name of this machine's public IP: processes of one name share an exchange's bans of it. The host's name if not
    set; containers or machines behind one IP need a common one."""

    data_dir: Path | None = None
    """Directory in which `levelhead up` keeps everything; `./data` if not set."""

    def master_key_bytes(self) -> bytes:
        """Return the 32 bytes of the master key; there is one after `require_servers`."""
        assert self.master_key
        return _decode_key(self.master_key.reveal())


REQUIRED: Final = {
    "database_url": "LEVELHEAD_DATABASE_URL is not set: write a PostgreSQL URL such as "
    "postgresql://user:password@host:5432/levelhead, or start everything with `levelhead up`.",
    "redis_url": "LEVELHEAD_REDIS_URL is not set: write a Redis URL such as redis://host:6379/0, "
    "or start everything with `levelhead up`.",
    "master_key": f"LEVELHEAD_MASTER_KEY is not set: write 32 random bytes in base64url ({MAKE_KEY} makes them), "
    "or the path of a file that holds them in LEVELHEAD_MASTER_KEY_FILE.",
}
"""What to say about a setting that a command can't do without. Optional in general: `simulator` and `up` need none."""


def require(settings: Settings, *names: str) -> Settings:
    """Return `settings` if each of `names` (keys of REQUIRED) is set; SettingsError says what to write."""
    for name in names:
        if not getattr(settings, name):
            raise SettingsError(REQUIRED[name])
    return settings


def require_servers(settings: Settings) -> Settings:
    """Return `settings` if it has all that api, worker and watcher can't do without; SettingsError otherwise."""
    return require(settings, "database_url", "redis_url", "master_key")


def read() -> Settings:
    """Read this process's environment over `.env` in the working directory."""
    return load(os.environ, Path(".env"))


def load(environ: Mapping[str, str], dotenv: Path | None) -> Settings:
    """Make the settings from `environ` over the file `dotenv`, which may be missing. May raise SettingsError."""
    from_file = {} if dotenv is None else _read_dotenv(dotenv)
    written = {**from_file, **environ}
    # Over an empty value the default holds: `LEVELHEAD_PUBLIC_URL=` in a compose file means "not set".
    named = {name: value.strip() for name, value in written.items() if name.startswith(PREFIX) and value.strip()}
    named = {name: value for name, value in named.items() if not name.startswith(TESTS_PREFIX)}
    key_file = named.pop(MASTER_KEY_FILE, None)
    if key_file is not None and PREFIX + "MASTER_KEY" not in named:
        named[PREFIX + "MASTER_KEY"] = _read_key_file(Path(key_file))
    values: dict[str, object] = {}
    for name, value in sorted(named.items()):
        field = name.removeprefix(PREFIX).lower()
        if field not in PARSERS or name != env_name(field):
            raise SettingsError(_unknown(name))
        try:
            values[field] = PARSERS[field](value)
        except ValueError as exc:
            raise SettingsError(f"{name} {exc}.") from None
    return Settings(**values)  # type: ignore[arg-type]  # each parser makes its field's type


def env_name(field: str) -> str:
    return PREFIX + field.upper()


def to_environ(settings: Settings) -> dict[str, str]:
    """Write every setting that has a value, for a child process; defaults too, so that its `.env` can't differ."""
    environ = {}
    for field in Settings.__struct_fields__:
        value = getattr(settings, field)
        if isinstance(value, Secret):
            value = value.reveal() or None
        if value is not None:
            environ[env_name(field)] = str(value)
    return environ


def handed_on() -> dict[str, str]:
    """Return the part of our environment that any child process needs."""
    return {name: os.environ[name] for name in HANDED_ON if name in os.environ}


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {value!r}")
        return value.lower()

    return parse


def _integer(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            raise ValueError(f"must be a whole number{unit} from {least} to {most}, not {value!r}")
        return int(value)

    return parse


def _origin(value: str) -> str:
    parts = _split(value)
    rest = parts and (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or rest:
        raise ValueError(f"must be an origin such as https://bot.example.com, without a path, not {value!r}")
    return f"{parts.scheme}://{parts.netloc}"


def _addresses(*words: str) -> Callable[[str], str]:
    """A list with commas; of the words that stand for addresses it may have `words`."""
    cure = "must be addresses such as 10.0.0.5 or networks such as 10.0.0.0/8, with commas"
    also = "".join(f", or {word}" for word in words)

    def parse(value: str) -> str:
        written = addresses.split(value)
        try:
            addresses.networks(written)
        except addresses.BadAddress as bad:
            raise ValueError(f"{cure}{also}, not {str(bad)!r}") from None
        if not written or (addresses.TRADINGVIEW in written and addresses.TRADINGVIEW not in words):
            raise ValueError(f"{cure}{also}, not {value!r}")
        return ",".join(written)

    return parse


def _header(value: str) -> str:
    name, colon, content = value.partition(":")
    if not (colon and HEADER_NAME.fullmatch(name) and content.strip()):
        raise ValueError(f"must be a header's name and content such as X-Chart-Certificate: verified, not {value!r}")
    return f"{name.lower()}: {content.strip()}"


def _database_url(value: str) -> Secret:
    parts = _split(value)
    if parts is None or parts.scheme not in ("postgresql", "postgres"):
        # The value isn't repeated: it may hold a password.
        raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host:5432/levelhead")
    return Secret(value)


def _redis_url(value: str) -> Secret:
    parts = _split(value)
    whole = parts is not None and (parts.path if parts.scheme == "unix" else parts.hostname)
    if parts is None or parts.scheme not in ("redis", "rediss", "unix") or not whole:
        raise ValueError("must be a Redis URL such as redis://host:6379/0, rediss://… or unix:///path/redis.sock")
    return Secret(value)


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _master_key(value: str) -> Secret:
    try:
        size = len(_decode_key(value))
    except ValueError:
        size = 0
    if size != 32:
        raise ValueError(f"must be 32 bytes in base64url; {MAKE_KEY} makes one")
    return Secret(value)


def _decode_key(value: str) -> bytes:
    unpadded = value.rstrip("=")
    if not set(unpadded) <= BASE64URL:  # urlsafe_b64decode passes over what it doesn't know
        raise ValueError
    return base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))


def _text(value: str) -> str:
    return value


PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "database_url": _database_url,
    "redis_url": _redis_url,
    "master_key": _master_key,
    "master_key_previous": _master_key,
    "host": _text,
    "port": _integer(1, 65_535),
    "public_url": _origin,
    "trusted_proxies": _addresses(),
    "alert_sources": _addresses(addresses.TRADINGVIEW),
    "certificate_header": _header,
    "simulator_url": _origin,
    "log_format": _one_of("text", "json"),
    "log_level": _one_of("debug", "info", "warning", "error"),
    "worker_jobs": _integer(1, 1000),
    "database_pool_max": _integer(2, 1000),
    "access_token_ttl_s": _integer(10, 24 * 3600, " of seconds"),
    "refresh_token_ttl_s": _integer(60, 366 * 24 * 3600, " of seconds"),
    "alert_body_bytes_max": _integer(1024, 1024 * 1024, " of bytes"),
    "recv_window_ms": _integer(100, 60_000, " of milliseconds"),
    "venue_timeout_s": _integer(1, 60, " of seconds"),
    "clock_drift_max_ms": _integer(10, 60_000, " of milliseconds"),
    "address_name": _text,
    "data_dir": Path,
}
"""Setting -> what makes a value of its text, or raises ValueError with the end of a sentence ("must be …")."""


def _unknown(name: str) -> str:
    known = [*(field.upper() for field in PARSERS), MASTER_KEY_FILE.removeprefix(PREFIX)]
    near = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), known, n=1)
    meant = f"did you mean {PREFIX}{near[0]}?" if near else "the names that exist are listed in docs/settings.md."
    return f"{name} is not a setting: {meant}"


def _read_key_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{MASTER_KEY_FILE} names {path}, which can't be read ({exc}): check the path.") from None


def _read_dotenv(path: Path) -> dict[str, str]:
    """Read `NAME=value` lines; `#` comments, `export ` and quotes around a value are what other readers take too."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} can't be read ({exc}): mend or remove it.") from None
    values = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise SettingsError(f"{path}, line {number}: write NAME=value, or # in front of a comment.")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = value.split(" #", 1)[0].rstrip()
        values[name.strip()] = value
    return values
