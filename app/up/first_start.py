"""What the first start puts into an empty installation: an admin, a simulator account, the strategy `demo`.

Later starts complete what is missing and leave alone what a person has changed or removed.
"""

import logging
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import msgspec

from app.alerts.defaults import read_defaults
from app.keys import Credentials, Keys, SealBroken, hash_password, new_secret, same
from app.log import event
from app.settings import Settings
from app.store import accounts, strategies, users
from app.store.accounts import Environment, VenueName
from app.store.db import Connection, open_connection, store_errors
from app.store.strategies import AccountShare, NewStrategy
from app.store.users import Role

log = logging.getLogger("up")

LOCK: Final = 7_303_015  # any constant: two starts at once take turns
ADMIN_EMAIL: Final = "admin@localhost"
ACCOUNT_NAME: Final = "simulator"
STRATEGY_ID: Final = "demo"
OVERLAP_S: Final = 24 * 3600
POST_TIMEOUT_S: Final = 5

# Near enough for a random walk to reach one of them within a minute.
DEFAULTS: Final[dict[str, Any]] = {
    "size": {"quote": "200"},
    "stop_loss": {"pct": "0.3"},
    "take_profit": [{"pct": "0.2", "fraction": "1"}],
}
SAMPLE: Final[dict[str, Any]] = {
    "action": "open_long",
    "size": {"quote": "500"},
    "stop_loss": {"pct": "0.15"},
    "take_profit": [{"pct": "0.05", "fraction": "0.5"}, {"pct": "0.1", "fraction": "0.5"}],
}


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """DIR/connection.json: all that a person or a script needs to talk to this installation."""

    url: str
    admin_email: str
    admin_password: str
    webhook_url: str
    webhook_secret: str
    simulator_url: str

    def __repr__(self) -> str:
        return f"ConnectionInfo({self.url!r})"


async def ensure(
    settings: Settings, connection_file: Path, simulator_url: str, api_key: str, api_secret: str, base_url: str
) -> ConnectionInfo:
    """Make what is missing and return how to reach it; the same again at every later start.

    Called when `/health/ready` has answered 200; the caller then writes `connection_file`. At a later start the file is
    there: passwords and secrets that exist nowhere else are taken from it, addresses are taken from the arguments.
    """
    known = _read(connection_file)
    keys = Keys.from_text(settings.master_key.reveal(), settings.master_key_previous.reveal())
    credentials = Credentials(api_key=api_key, api_secret=api_secret)
    connection = await open_connection(settings.database_url.reveal())
    try:
        with store_errors():
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                password = await _ensure_admin(connection, known)
                await _ensure_account(connection, keys, credentials)
                secret = await _ensure_strategy(connection, keys, known)
    finally:
        await connection.close()
    return ConnectionInfo(
        url=base_url,
        admin_email=ADMIN_EMAIL,
        admin_password=password,
        webhook_url=f"{base_url}/webhook/{STRATEGY_ID}",
        webhook_secret=secret,
        simulator_url=simulator_url,
    )


def _read(path: Path) -> ConnectionInfo | None:
    """What was written at an earlier start; None if the file is gone or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ConnectionInfo)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        event(log, logging.WARNING, f"{path.name} can't be read and is made anew", error=type(exc).__name__)
        return None


async def _ensure_admin(connection: Connection, known: ConnectionInfo | None) -> str:
    """The admin's password, as far as anybody knows it."""
    admin = await users.find(connection, ADMIN_EMAIL)
    if admin is not None and (known is not None or admin.disabled_at is not None):
        return "" if known is None else known.admin_password
    password = new_secret() if known is None else known.admin_password
    password_hash = await hash_password(password)
    if admin is None:
        await users.create(connection, email=ADMIN_EMAIL, password_hash=password_hash, role=Role.ADMIN)
    else:
        await users.set_password(connection, admin.id, password_hash)
        event(log, logging.WARNING, "connection.json was lost: the admin has a new password", user=admin.id)
    return password


async def _ensure_account(connection: Connection, keys: Keys, credentials: Credentials) -> None:
    """The account at our simulator, with the key that the simulator knows."""
    account = await accounts.by_name(connection, ACCOUNT_NAME)
    if account is None:
        if not await accounts.was_removed(connection, ACCOUNT_NAME):
            await accounts.create(
                connection,
                keys,
                name=ACCOUNT_NAME,
                venue=VenueName.BYBIT,
                environment=Environment.SIMULATOR,
                credentials=credentials,
            )
        return
    if account.environment is not Environment.SIMULATOR:
        return  # a person's own account by that name
    try:
        stored = await accounts.credentials_of(connection, keys, account.id)
    except SealBroken:
        stored = None
    if stored != credentials:
        await accounts.update(connection, keys, account.id, credentials=credentials)
        event(log, logging.WARNING, "the simulator's key changed; its account was given the new one")


async def _ensure_strategy(connection: Connection, keys: Keys, known: ConnectionInfo | None) -> str:
    """A secret of the demo strategy, made with it at the first start."""
    secret = new_secret() if known is None else known.webhook_secret
    secret_hash = keys.secret_hash(secret)
    found = await strategies.for_webhook(connection, STRATEGY_ID)
    if found is None:
        account = await accounts.by_name(connection, ACCOUNT_NAME)
        read_defaults(DEFAULTS)
        new = NewStrategy(
            id=STRATEGY_ID,
            name="Demo",
            defaults=DEFAULTS,
            accounts=() if account is None else (AccountShare(account_id=account.id),),
        )
        if not await strategies.create(connection, new, secret_hash):
            event(log, logging.INFO, "the demo strategy was removed and stays so")
        return secret
    if known is None:
        event(log, logging.WARNING, "connection.json was lost: the demo strategy has a new secret", old_holds="24h")
        await strategies.rotate_secret(connection, STRATEGY_ID, secret_hash, overlap_s=OVERLAP_S)
        return secret
    if any(same(secret_hash, one) for one in found.secret_hashes):
        return secret
    # It was rotated by a person, whose own secret goes on to hold, or stored under another master key.
    event(log, logging.WARNING, "the secret in connection.json holds no more: there is a new one")
    secret = new_secret()
    await strategies.add_secret(connection, STRATEGY_ID, keys.secret_hash(secret))
    return secret


def example_alert(info: ConnectionInfo, symbol: str) -> bytes:
    """Return the body of an alert that opens a small position; `up` keeps it in DIR for the `curl` that it prints.

    Without `id` and `time`, so that it can be posted again half a minute later.
    """
    return msgspec.json.encode({"secret": info.webhook_secret, "symbol": f"BYBIT:{symbol}.P", **SAMPLE})


async def post_sample(info: ConnectionInfo, symbol: str) -> None:
    """Post the sample alert of the first start. Whatever becomes of it, the start goes on."""
    alert = {"id": f"sample-{uuid4()}", **msgspec.json.decode(example_alert(info, symbol))}
    try:
        # A proxy of the environment is for the outside, not for this machine.
        async with httpx.AsyncClient(trust_env=False, timeout=POST_TIMEOUT_S) as client:
            answer = await client.post(info.webhook_url, json=alert)
        said = answer.json()
    except (httpx.HTTPError, ValueError) as exc:
        event(log, logging.WARNING, "the sample alert could not be posted", error=type(exc).__name__)
        return
    if answer.status_code == 202:
        event(log, logging.INFO, "the sample alert was posted", alert=said.get("alert_id"))
    else:
        event(
            log, logging.WARNING, "the sample alert was refused", status=answer.status_code, detail=said.get("detail")
        )
