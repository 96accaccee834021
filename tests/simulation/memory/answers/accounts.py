"""Accounts and strategies, as far as flows and workers read them, and what it takes to make them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.store import accounts, installation, strategies
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Transaction
from tests.simulation.memory.values import numeric_text, stored_json, word

ACCOUNT = tuple(name.strip() for name in accounts.COLUMNS.split(","))
STRATEGY = ("id", "name", "format", "symbols", "defaults", "limits", "enabled", "created_at", "updated_at")
WEBHOOK = ("id", "enabled", "format", "symbols", "defaults", "limits")


def _account(t: Tables, account_id: UUID) -> Row | None:
    row = t.accounts.row(account_id)
    return None if row is None or row["removed_at"] is not None else row


@statement(accounts.CREATE)
def create_account(
    t: Tables,
    x: Transaction,
    account_id: UUID,
    name: str,
    venue: str,
    environment: str,
    rest_url: str | None,
    ws_url: str | None,
    credentials: bytes,
    position_mode: str,
    margin_mode: str | None,
) -> list[Row]:
    slot = t.accounts.insert(
        x,
        {
            "id": account_id,
            "name": name,
            "venue": str(venue),
            "environment": str(environment),
            "rest_url": rest_url,
            "ws_url": ws_url,
            "credentials": credentials,
            "position_mode": str(position_mode),
            "margin_mode": word(margin_mode),
        },
    )
    return [{name: slot.row[name] for name in ACCOUNT}]


@statement(accounts.GET)
def get_account(t: Tables, x: Transaction, account_id: UUID) -> list[Row]:
    row = _account(t, account_id)
    return [] if row is None else [{name: row[name] for name in ACCOUNT}]


@statement(accounts.SEALED)
def sealed(t: Tables, x: Transaction, account_ids: Sequence[UUID]) -> list[Row]:
    rows = [_account(t, account_id) for account_id in dict.fromkeys(account_ids)]
    return [{"id": row["id"], "credentials": row["credentials"]} for row in rows if row is not None]


def _shares(t: Tables, strategy_id: str) -> list[Row]:
    found = [row for row in t.shares_of.get(strategy_id) if _account(t, row["account_id"]) is not None]
    return [
        {"account_id": str(row["account_id"]), "multiplier": numeric_text(row["multiplier"])}
        for row in sorted(found, key=lambda row: int(row["account_id"].int))
    ]


def _strategy(t: Tables, strategy_id: str) -> Row | None:
    row = t.strategies.row(strategy_id)
    return None if row is None or row["removed_at"] is not None else row


@statement(strategies.FOR_WEBHOOKS)
def for_webhooks(t: Tables, x: Transaction, strategy_ids: Sequence[str]) -> list[Row]:
    return [_for_webhook(t, x, row) for one in strategy_ids if (row := _strategy(t, one)) is not None]


def _for_webhook(t: Tables, x: Transaction, row: Row) -> Row:
    secrets = [
        secret for secret in t.secrets_of.get(row["id"]) if secret["expires_at"] is None or secret["expires_at"] > x.now
    ]
    hashes = [secret["secret_hash"] for secret in sorted(secrets, key=lambda one: -int(one["id"].int))]
    return {name: row[name] for name in WEBHOOK} | {"secret_hashes": hashes, "accounts": _shares(t, row["id"])}


@statement(strategies.GET)
def get_strategy(t: Tables, x: Transaction, strategy_id: str) -> list[Row]:
    row = _strategy(t, strategy_id)
    return [] if row is None else [{name: row[name] for name in STRATEGY} | {"accounts": _shares(t, strategy_id)}]


@statement(strategies.CREATE)
def create_strategy(
    t: Tables,
    x: Transaction,
    strategy_id: str,
    name: str,
    format: str,
    symbols: Sequence[str] | None,
    defaults: Any,
    limits: Any,
    enabled: bool,
) -> int:
    if t.strategies.find(strategy_id) is not None:
        return 0
    t.strategies.insert(
        x,
        {
            "id": strategy_id,
            "name": name,
            "format": str(format),
            "symbols": None if symbols is None else [str(symbol) for symbol in symbols],
            "defaults": stored_json(defaults),
            "limits": stored_json(limits),
            "enabled": enabled,
        },
    )
    return 1


@statement(strategies.QUIET)
def quiet(t: Tables, x: Transaction) -> list[Row]:
    found = []
    for row in sorted(t.strategies.rows, key=lambda row: str(row["id"])):
        every_s = row["limits"].get("alert_every_s")
        if row["removed_at"] is not None or not row["enabled"] or every_s is None:
            continue
        last = max((one for one in t.alerts.rows if one["strategy_id"] == row["id"]), key=_seq, default=None)
        since = row["updated_at"] if last is None else max(last["received_at"], row["updated_at"])
        found.append(
            {
                "id": row["id"],
                "told": row["silent_since"] is not None,
                "since": since,
                "silent": since < x.clock() - timedelta(seconds=every_s),
            }
        )
    return found


def _seq(row: Row) -> int:
    seq: int = row["seq"]
    return seq


@statement(strategies.SILENT)
def silent(t: Tables, x: Transaction, strategy_id: str, since: datetime) -> int:
    slot = t.strategies.find(strategy_id)
    if slot is None or slot.row["silent_since"] is not None:
        return 0
    t.strategies.update(x, slot, {"silent_since": since})
    return 1


@statement(strategies.HEARD)
def heard(t: Tables, x: Transaction, strategy_id: str) -> int:
    slot = t.strategies.find(strategy_id)
    if slot is None or slot.row["silent_since"] is None:
        return 0
    t.strategies.update(x, slot, {"silent_since": None})
    return 1


@statement(strategies.DISABLE)
def disable(t: Tables, x: Transaction, strategy_id: str) -> int:
    slot = t.strategies.find(strategy_id)
    if slot is None or not slot.row["enabled"]:
        return 0
    t.strategies.update(x, slot, {"enabled": False, "updated_at": x.clock()})
    return 1


@statement(strategies.LIVE_ACCOUNTS)
def live_accounts(t: Tables, x: Transaction, account_ids: Sequence[UUID]) -> list[Row]:
    rows = [_account(t, account_id) for account_id in dict.fromkeys(account_ids)]
    return [{"id": row["id"]} for row in rows if row is not None]


@statement(strategies.INSERT_SHARE)
def insert_share(t: Tables, x: Transaction, strategy_id: str, account_id: UUID, multiplier: Decimal) -> int:
    t.shares.insert(x, {"strategy_id": strategy_id, "account_id": account_id, "multiplier": multiplier})
    return 1


@statement(strategies.REHASH_SECRET)
def rehash_secret(t: Tables, x: Transaction, strategy_id: str, old: bytes, new: bytes) -> int:
    found = [slot for slot in t.secrets_of.slots(strategy_id) if slot.row["secret_hash"] == old]
    for slot in found:
        t.secrets.update(x, slot, {"secret_hash": new})
    return len(found)


@statement(installation.KEEP)
def keep_keys(t: Tables, x: Transaction, install: bytes, body: bytes) -> int:
    if len(t.installation):
        return 0
    t.installation.insert(x, {"install": install, "body": body})
    return 1


@statement(installation.READ)
def read_keys(t: Tables, x: Transaction) -> list[Row]:
    return [{"install": row["install"], "body": row["body"]} for row in t.installation.rows]


@statement(strategies.INSERT_SECRET)
def insert_secret(t: Tables, x: Transaction, secret_id: UUID, strategy_id: str, secret_hash: bytes) -> int:
    t.secrets.insert(x, {"id": secret_id, "strategy_id": strategy_id, "secret_hash": secret_hash})
    return 1
