"""`levelhead doctor`: look at everything that a running bot needs, its accounts too, and say what to mend.

With `--live` it also trades a round with the smallest position on one account; `live.py` does that.
"""

import asyncio
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from app.alerts.symbols import normalise
from app.errors import LevelheadError, SettingsError, StoreUnavailable
from app.flows import verify
from app.resources import Connected, Resources, open_resources
from app.settings import Settings, require_servers
from app.store import accounts
from app.store.accounts import AccountRow
from app.up.datadir import DataDir
from app.up.live import Step, plays_with_real_money, trade_minimum
from app.up.main import local_url

TIMEOUT_S: Final = 5.0
POSTGRES_VERSION_MIN: Final = 15
REDIS_VERSION_MIN: Final = (6, 2)
CLOCK_OFF_S_MAX: Final = 1.0
"""Exchanges refuse a request whose time is off by more than a few seconds; beyond this, alerts' ages are wrong too."""
DISK_FREE_BYTES_MIN: Final = 1024**3
ACCOUNTS_MAX: Final = 100
"""Accounts looked at in one go."""
VERDICTS: Final = {True: "ok  ", False: "FAIL", None: "?   "}
NEEDED_TO_TRADE: Final = frozenset({"reachable", "clock", "key", "permissions", "position_mode"})
"""Checks of which none may have failed before a round is traded."""


class Failed(LevelheadError):
    """A check's verdict: what was found and, after a colon, the cure."""


Check = Callable[[Settings], Awaitable[str]]


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What `--live` was told. `yes`: no question is asked. `mainnet`: real money may be traded with."""

    yes: bool = False
    mainnet: bool = False


def symbol_of(text: str | None) -> str:
    """The symbol in any of its spellings. Raises InvalidInput."""
    return verify.SYMBOL if text is None else normalise(text, "--symbol")


def run(
    settings: Settings,
    *,
    data_dir: Path | None = None,
    account: str | None = None,
    symbol: str = verify.SYMBOL,
    live: Live | None = None,
) -> int:
    """Print one line per check; return 1 if any failed. Without URLs it looks at the `up` that runs in `data_dir`.

    `account` is the name of the one account to look at; all of them if None.
    """
    place = DataDir(data_dir or settings.data_dir or Path("data"))
    settings = msgspec.structs.replace(place.complete(settings), data_dir=place.path)
    try:
        base_url = msgspec.json.decode(place.connection.read_bytes())["url"]  # --port of that `up` is in no setting
    except (OSError, msgspec.MsgspecError, KeyError):
        base_url = local_url(settings.host, settings.port)
    try:
        return asyncio.run(_run(settings, base_url, account, symbol, live))
    except asyncio.CancelledError:  # asked to end, and all that was opened is closed
        return 1


async def _run(settings: Settings, base_url: str, account: str | None, symbol: str, live: Live | None) -> int:
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
            found = await check(settings)
        except LevelheadError as exc:
            failures += 1
            _say(False, name, str(exc))
        else:
            _say(True, name, found)
    try:
        failures += await _check_accounts(settings, account, symbol, live)
    except LevelheadError as exc:
        failures += 1
        _say(False, "accounts", str(exc))
    return 1 if failures else 0


def _say(ok: bool | None, name: str, found: str) -> None:
    print(f"{VERDICTS[ok]} {name:<10} {found}", flush=True)


async def _check_accounts(settings: Settings, name: str | None, symbol: str, live: Live | None) -> int:
    """Try each account at its exchange; answers how many checks failed. Raises Failed for what stops all of it."""
    try:
        require_servers(settings)
    except SettingsError as exc:
        if live is not None or name is not None:
            raise Failed(f"can't be looked at: {exc}") from None
        _say(None, "accounts", f"not checked: {exc}")
        return 0
    try:
        async with open_resources(settings) as resources:
            found = await accounts.page(resources.pool, after=None, limit=ACCOUNTS_MAX)
            if name is not None:
                found = [row for row in found if row.name == name]
                if not found:
                    raise Failed(f"there is no account called {name!r}: see GET /api/v1/accounts for their names")
            if not found:
                _say(True, "accounts", "there are none")
            one = None if live is None else _the_one(found)
            failures = 0
            for row in found:
                checks = await _check_account(resources, row, symbol)
                failures += sum(check.ok is False for check in checks)
                if live is not None and row is one:
                    failures += not await _trade(resources, row, checks, symbol, live)
            return failures
    except (StoreUnavailable, asyncpg.PostgresError) as exc:
        if live is not None or name is not None:
            raise Failed(f"can't be read ({_brief(exc)}): see database and migrations above") from None
        _say(None, "accounts", f"not checked ({_brief(exc)}): see database and migrations above")
        return 0


def _the_one(found: list[AccountRow]) -> AccountRow:
    if len(found) != 1:
        names = ", ".join(row.name for row in found) or "none"
        raise Failed(f"--live trades on one account: name it with --account (there are: {names})")
    return found[0]


async def _check_account(resources: Resources, row: AccountRow, symbol: str) -> list[verify.Check]:
    checks = await verify.verify(resources, row.id, symbol)
    for check in checks:
        cure = "" if check.cure is None else f". To do: {check.cure}"
        _say(check.ok, "account", f"{row.name}: {check.name}: {check.detail}{cure}")
    return checks


async def _trade(resources: Resources, row: AccountRow, checks: list[verify.Check], symbol: str, live: Live) -> bool:
    """Trade the round after all that has to be asked before; answers whether it went well."""
    failed = [check.name for check in checks if check.ok is False and check.name in NEEDED_TO_TRADE]
    if failed:
        _say(False, "live", f"{row.name}: not tried, because of {', '.join(failed)} above")
        return False
    connected = await resources.venues.of(row.id)
    _refuse_real_money(connected, live)
    _confirm(connected, symbol, live)

    def say(step: Step) -> None:
        _say(step.ok, "live", f"{row.name}: {step.name}: {step.detail} [{step.took_ms:.0f} ms]")

    with _ending_in_order():
        return await trade_minimum(connected.venue, symbol, say, recv_window_ms=resources.settings.recv_window_ms)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """A signal to end cancels, as Ctrl-C does, instead of killing: what was opened has to be closed first."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _refuse_real_money(connected: Connected, live: Live) -> None:
    if plays_with_real_money(connected) and not live.mainnet:
        raise Failed(
            f"{connected.account.name} trades with real money at {connected.origins.rest}: nothing was opened. Name an "
            "account of a testnet, or add --mainnet if you mean it"
        )


def _confirm(connected: Connected, symbol: str, live: Live) -> None:
    if live.yes:
        return
    if not sys.stdin.isatty():
        raise Failed("nobody is here to be asked: add --yes-trade-minimum to open and close the smallest position")
    account = connected.account
    question = (
        f"This opens the smallest {symbol} position on {account.name} ({account.venue} {account.environment}, "
        f"{connected.origins.rest}), and closes it. Type yes to go on: "
    )
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop's would let the question stand
    try:
        answer = input(question)
    except (KeyboardInterrupt, EOFError):
        print()
        answer = ""
    finally:
        signal.signal(signal.SIGINT, handler)
    if answer.strip().lower() != "yes":
        raise Failed("not confirmed, so nothing was opened")


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
