"""Strategies: what an alert is addressed to, with its secrets, its limits and the accounts that it trades."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from app.domain.money import ONE
from app.domain.signal import Missed, Repeat, Sides
from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.store.db import Connection, Pool, affected, as_struct, as_struct_or_none, as_structs

SECRETS_MAX = 10
"""Secrets of one strategy, and signing keys, that hold at the same time: each is tried at each alert."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the strategy may not do, whatever its alerts say, and what it does where they say it twice or too late."""

    trade_without_stop: bool = False
    max_notional: Decimal | None = None
    """The most that one opening order may be worth, in quote currency."""
    sides: Sides = Sides.BOTH
    repeat: Repeat = Repeat.IGNORE
    missed_alert: Missed = Missed.HEAL
    signed_only: bool = False
    """Alerts have to be signed: the secret alone is not enough."""
    certified_only: bool = False
    """Alerts have to come through a proxy that has verified their sender's client certificate."""
    sources: tuple[str, ...] | None = None
    """Addresses and networks that its alerts may come from, in place of those of the settings."""
    alerts_per_minute: int | None = None
    """So many alerts within a minute may open something; those beyond it only close."""
    alert_every_s: int | None = None
    """An alert is expected in every so many seconds; when none comes people are told."""


class AccountShare(msgspec.Struct, frozen=True, kw_only=True):
    """An account that the strategy trades; sizes are multiplied on the way there."""

    account_id: UUID
    multiplier: Decimal = ONE


class WebhookStrategy(msgspec.Struct, frozen=True, kw_only=True):
    """All that receiving an alert needs to know, read in one round trip."""

    id: str
    enabled: bool
    format: str
    """The notation of its alerts: one of `alerts.recognise.FORMATS`."""
    symbols: tuple[str, ...] | None
    defaults: dict[str, Any]
    """As the user wrote it, in the notation of alerts; `alerts.defaults.read_defaults` makes Defaults of it."""
    limits: Limits
    secret_hashes: tuple[bytes, ...]
    accounts: tuple[AccountShare, ...]


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    format: str
    symbols: tuple[str, ...] | None
    defaults: dict[str, Any]
    limits: Limits
    enabled: bool
    created_at: datetime
    updated_at: datetime
    accounts: tuple[AccountShare, ...] = ()


# Numbers of money are text inside JSON: a JSON number would come back as a float.
SHARES = """
coalesce((SELECT jsonb_agg(jsonb_build_object('account_id', sa.account_id, 'multiplier', sa.multiplier::text)
                           ORDER BY sa.account_id)
            FROM strategy_accounts sa
            JOIN accounts a ON a.id = sa.account_id AND a.removed_at IS NULL
           WHERE sa.strategy_id = s.id), '[]') AS accounts
"""
COLUMNS = f"""
s.id, s.name, s.format, s.symbols, s.defaults, s.limits, s.enabled, s.created_at, s.updated_at, {SHARES}
"""

FOR_WEBHOOKS = f"""
SELECT s.id, s.enabled, s.format, s.symbols, s.defaults, s.limits,
       ARRAY(SELECT secret_hash FROM strategy_secrets x
              WHERE x.strategy_id = s.id AND (x.expires_at IS NULL OR x.expires_at > now())
              ORDER BY x.id DESC) AS secret_hashes,
       {SHARES}
  FROM strategies s
 WHERE s.id = ANY($1) AND s.removed_at IS NULL
"""


async def for_webhooks(connection: Connection | Pool, strategy_ids: Sequence[str]) -> list[WebhookStrategy | None]:
    """Of each the strategy with its live secrets (newest first) and accounts; None if there is none."""
    rows = await connection.fetch(FOR_WEBHOOKS, list(set(strategy_ids)))
    found = {row["id"]: as_struct(row, WebhookStrategy) for row in rows}
    return [found.get(strategy_id) for strategy_id in strategy_ids]


async def for_webhook(connection: Connection | Pool, strategy_id: str) -> WebhookStrategy | None:
    """As `for_webhooks`, for one."""
    [found] = await for_webhooks(connection, [strategy_id])
    return found


GET = f"SELECT {COLUMNS} FROM strategies s WHERE s.id = $1 AND s.removed_at IS NULL"
LIST = f"""
SELECT {COLUMNS} FROM strategies s
 WHERE s.removed_at IS NULL AND ($1::text IS NULL OR s.id COLLATE "C" > $1)
 ORDER BY s.id COLLATE "C" LIMIT $2
"""


async def get(connection: Connection | Pool, strategy_id: str) -> Strategy | None:
    return as_struct_or_none(await connection.fetchrow(GET, strategy_id), Strategy)


async def page(connection: Connection | Pool, *, after: str | None, limit: int) -> list[Strategy]:
    return as_structs(await connection.fetch(LIST, after, limit), Strategy)


# A removed strategy's id stays taken: alerts and positions of the past still name it.
CREATE = """
INSERT INTO strategies (id, name, format, symbols, defaults, limits, enabled) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING
"""
INSERT_SHARE = "INSERT INTO strategy_accounts (strategy_id, account_id, multiplier) VALUES ($1, $2, $3)"
# The lock holds against the account's removal until the commit.
LIVE_ACCOUNTS = "SELECT id FROM accounts WHERE id = any($1) AND removed_at IS NULL FOR KEY SHARE"


class NewStrategy(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    format: str = "auto"
    symbols: Sequence[str] | None = None
    defaults: dict[str, Any] = {}
    limits: Limits = Limits()
    enabled: bool = True
    accounts: Sequence[AccountShare] = ()


async def create(connection: Connection, new: NewStrategy, secret_hash: bytes) -> bool:
    """Make a strategy with its first secret; False if the id is taken. InvalidInput names an unknown account."""
    status = await connection.execute(
        CREATE, new.id, new.name, new.format, new.symbols, new.defaults, new.limits, new.enabled
    )
    if status != "INSERT 0 1":
        return False
    await _insert_shares(connection, new.id, new.accounts)
    await connection.execute(INSERT_SECRET, new_id(), new.id, secret_hash)
    return True


async def _insert_shares(connection: Connection, strategy_id: str, shares: Sequence[AccountShare]) -> None:
    known = {row["id"] for row in await connection.fetch(LIVE_ACCOUNTS, [share.account_id for share in shares])}
    for place, share in enumerate(shares):
        if share.account_id not in known:
            detail = f"There is no account {share.account_id}: make it first, or leave it out."
            raise InvalidInput("unknown_account", detail, f"accounts[{place}].account")
    try:
        await connection.executemany(INSERT_SHARE, [(strategy_id, x.account_id, x.multiplier) for x in shares])
    except asyncpg.UniqueViolationError:
        raise InvalidInput("account_twice", "An account is named twice: name each once.", "accounts") from None


UPDATE = """
UPDATE strategies
   SET name = coalesce($2, name), format = coalesce($3, format),
       symbols = CASE WHEN $4 THEN $5 ELSE symbols END,
       defaults = coalesce($6, defaults), limits = coalesce($7, limits), enabled = coalesce($8, enabled),
       updated_at = clock_timestamp()
 WHERE id = $1 AND removed_at IS NULL
"""
DELETE_SHARES = "DELETE FROM strategy_accounts WHERE strategy_id = $1"
# What a strategy holds on an account that it trades no more, no close of its alerts would reach.
STILL_HELD_ON = """
SELECT a.name
  FROM strategy_accounts s JOIN accounts a ON a.id = s.account_id
 WHERE s.strategy_id = $1 AND s.account_id <> ALL($2)
   AND (EXISTS (SELECT FROM positions p
                 WHERE p.strategy_id = $1 AND p.account_id = a.id AND p.status <> 'closed')
        OR EXISTS (SELECT FROM instructions i
                    WHERE i.strategy_id = $1 AND i.account_id = a.id AND i.status IN ('pending', 'executing')))
 ORDER BY a.name LIMIT 1
"""


class StrategyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to change; None and UNSET leave what is there. `symbols` may be set to None: any."""

    name: str | None = None
    format: str | None = None
    symbols: Sequence[str] | msgspec.UnsetType | None = msgspec.UNSET
    defaults: dict[str, Any] | None = None
    limits: Limits | None = None
    enabled: bool | None = None
    accounts: Sequence[AccountShare] | None = None


async def update(connection: Connection, strategy_id: str, change: StrategyChange) -> bool:
    """Change a strategy, inside a transaction; False if there is none. Conflict when an account would be taken away on
    which it holds a position or has work to do.
    """
    symbols = None if change.symbols is msgspec.UNSET else change.symbols
    status = await connection.execute(
        UPDATE, strategy_id, change.name, change.format, change.symbols is not msgspec.UNSET, symbols,
        change.defaults, change.limits, change.enabled,
    )  # fmt: skip
    if status != "UPDATE 1":
        return False
    if change.accounts is not None:
        await connection.fetchval(LOCK, strategy_id)  # no alert comes in between
        left = [share.account_id for share in change.accounts]
        held_on = await connection.fetchval(STILL_HELD_ON, strategy_id, left)
        if held_on is not None:
            raise Conflict(
                f"The strategy holds a position on account {held_on}, or has work to do there, and no close of its "
                "alerts would reach it any more: close it first, then take the account away.",
                kind="in_use",
            )
        await connection.execute(DELETE_SHARES, strategy_id)
        await _insert_shares(connection, strategy_id, change.accounts)
    return True


DISABLE = "UPDATE strategies SET enabled = false, updated_at = clock_timestamp() WHERE id = $1 AND enabled"


async def disable(connection: Connection | Pool, strategy_id: str) -> None:
    """It opens nothing any more; closes still go through."""
    await connection.execute(DISABLE, strategy_id)


# Of those that are enabled and expect an alert: when the last one came, or when they were made or changed last.
QUIET = """
SELECT s.id, s.silent_since IS NOT NULL AS told, quiet.since,
       quiet.since < clock_timestamp() - make_interval(secs => (s.limits->>'alert_every_s')::float8) AS silent
  FROM strategies s
 CROSS JOIN LATERAL (SELECT greatest((SELECT a.received_at FROM alerts a WHERE a.strategy_id = s.id
                                       ORDER BY a.seq DESC LIMIT 1), s.updated_at) AS since) AS quiet
 WHERE s.removed_at IS NULL AND s.enabled AND s.limits->>'alert_every_s' IS NOT NULL
 ORDER BY s.id COLLATE "C"
"""
SILENT = "UPDATE strategies SET silent_since = $2 WHERE id = $1 AND silent_since IS NULL"
HEARD = "UPDATE strategies SET silent_since = NULL WHERE id = $1 AND silent_since IS NOT NULL"


class Quiet(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that expects alerts: since when it heard none, whether that is too long, whether people know."""

    id: str
    told: bool
    since: datetime
    silent: bool


async def quiet(connection: Connection | Pool) -> list[Quiet]:
    return as_structs(await connection.fetch(QUIET), Quiet)


async def silent(connection: Connection | Pool, strategy_id: str, since: datetime) -> bool:
    """Whether this is news."""
    return affected(await connection.execute(SILENT, strategy_id, since)) == 1


async def heard(connection: Connection | Pool, strategy_id: str) -> bool:
    """Whether it was told to be silent."""
    return affected(await connection.execute(HEARD, strategy_id)) == 1


LOCK = "SELECT id FROM strategies WHERE id = $1 AND removed_at IS NULL FOR UPDATE"
IN_USE = """
SELECT EXISTS (SELECT FROM positions WHERE strategy_id = $1 AND status <> 'closed') AS position,
       EXISTS (SELECT FROM instructions WHERE strategy_id = $1 AND status IN ('pending', 'executing')) AS instruction
"""
REMOVE = "UPDATE strategies SET removed_at = now(), updated_at = now(), enabled = false WHERE id = $1"
DELETE_SECRETS = "DELETE FROM strategy_secrets WHERE strategy_id = $1"
DELETE_SIGNING_KEYS = "DELETE FROM strategy_signing_keys WHERE strategy_id = $1"


async def remove(connection: Connection, strategy_id: str) -> bool:
    """Remove a strategy that is at rest, with its secrets; False if there is none. Conflict while it is in use."""
    if await connection.fetchval(LOCK, strategy_id) is None:
        return False
    busy = await connection.fetchrow(IN_USE, strategy_id)
    if busy["position"] or busy["instruction"]:
        what = "holds an open position: close it" if busy["position"] else "still has work to do: wait for it"
        raise Conflict(f"The strategy {what} first, then remove it.", kind="in_use")
    await connection.execute(REMOVE, strategy_id)
    await connection.execute(DELETE_SECRETS, strategy_id)
    await connection.execute(DELETE_SIGNING_KEYS, strategy_id)
    return True


INSERT_SECRET = "INSERT INTO strategy_secrets (id, strategy_id, secret_hash) VALUES ($1, $2, $3)"
FORGET_EXPIRED = "DELETE FROM strategy_secrets WHERE strategy_id = $1 AND expires_at <= now()"
COUNT_SECRETS = "SELECT count(*) FROM strategy_secrets WHERE strategy_id = $1"
EXPIRE_SECRETS = """
UPDATE strategy_secrets
   SET expires_at = least(expires_at, now() + make_interval(secs => $2))
 WHERE strategy_id = $1
RETURNING expires_at
"""


REHASH_SECRET = "UPDATE strategy_secrets SET secret_hash = $3 WHERE strategy_id = $1 AND secret_hash = $2"


async def rehash_secret(connection: Connection | Pool, strategy_id: str, old: bytes, new: bytes) -> None:
    """Keep a secret under the hash of another key."""
    await connection.execute(REHASH_SECRET, strategy_id, old, new)


async def add_secret(connection: Connection, strategy_id: str, secret_hash: bytes) -> None:
    """One more secret, beside those that hold."""
    await connection.execute(INSERT_SECRET, new_id(), strategy_id, secret_hash)


async def rotate_secret(
    connection: Connection, strategy_id: str, secret_hash: bytes, *, overlap_s: int
) -> datetime | None:
    """Add a secret, inside a transaction; those before it end after `overlap_s` at the latest, which is answered.

    None if there is no such strategy. Conflict if too many secrets hold at once.
    """
    ends = await make_room(
        connection, strategy_id, "secrets", EXPIRE_SECRETS, FORGET_EXPIRED, COUNT_SECRETS, overlap_s=overlap_s
    )
    if ends is not None:
        await connection.execute(INSERT_SECRET, new_id(), strategy_id, secret_hash)
    return ends


async def make_room(
    connection: Connection, strategy_id: str, what: str, expire: str, forget_expired: str, count: str, *, overlap_s: int
) -> datetime | None:
    """For one secret (or signing key) more: those before it end after `overlap_s` at the latest, which is answered.

    Inside a transaction, and locks the strategy. None if there is no such one. Conflict if too many hold at once.
    """
    if await connection.fetchval(LOCK, strategy_id) is None:
        return None
    ended = [row["expires_at"] for row in await connection.fetch(expire, strategy_id, overlap_s)]
    await connection.execute(forget_expired, strategy_id)
    if await connection.fetchval(count, strategy_id) >= SECRETS_MAX:
        raise Conflict(
            f"{SECRETS_MAX} {what} hold at the same time: rotate with a shorter overlap_s, 0 ends all.",
            kind="too_many_secrets",
        )
    last: datetime = max(ended, default=await connection.fetchval("SELECT now()"))
    return last
