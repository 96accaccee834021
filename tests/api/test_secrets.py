"""Invariant I12: what is secret stands in no answer but the one that makes it, and in no log line."""

import logging
from uuid import uuid4

import httpx
import pytest

from app.resources import Resources
from app.store import users
from tests.api.conftest import MASTER_KEY, PASSWORD


@pytest.mark.usefixtures("people")
async def test_secrets_stay_secret(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # The client beside us logs its own URLs; it is not what is tested.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    tokens = (await anyone.post("/api/v1/auth/login", json={"email": "admin@example.com", "password": PASSWORD})).json()
    account = {"venue": "bybit", "environment": "testnet", "api_key": "KEY-in-full", "api_secret": "SECRET-in-full"}
    made_account = await admin.post("/accounts", json=account | {"name": "a"})
    body = {"name": "s", "id": "s", "accounts": [{"account": made_account.json()["id"]}]}
    made = (await admin.post("/strategies", json=body)).json()
    rotated = (await admin.post("/strategies/s/secrets")).json()
    alert = {"secret": made["secret"], "id": str(uuid4()), "symbol": "BTCUSDT", "action": "close"}
    stored = await anyone.post("/webhook/s", json=alert)
    assert stored.status_code == 202
    login = await users.login_of(resources.pool, "admin@example.com")
    assert login is not None

    answers = [
        made_account,
        stored,
        await anyone.post("/webhook/s", json=alert | {"symbol": "?"}),
        await anyone.post(f"/webhook/s/{rotated['secret']}", json=alert),
        await anyone.post(f"/webhook/s/{rotated['secret']}", content=b"{"),
        await anyone.get(f"/webhook/s/{rotated['secret']}"),
        await anyone.post(f"/webhook/s/{rotated['secret']}/more"),
        await anyone.post(f"/webhook/s/{rotated['secret']}", content=b" " * 70_000),
        await anyone.post("/webhook/other", json=alert),
        await anyone.post("/api/v1/auth/refresh", json={"refresh_token": [tokens["refresh_token"]]}),
        await anyone.post("/api/v1/auth/login", json={"email": "a", "password": [PASSWORD]}),
        await admin.post("/accounts", json=account | {"name": "a"}),
        await admin.post("/accounts", json=account | {"name": "b", "api_secret": ["SECRET-in-full"]}),
        await admin.post("/accounts", json=account | {"name": "b", "venue": "SECRET-in-full"}),
        await admin.get("/accounts"),
        await admin.get(f"/accounts/{made_account.json()['id']}"),
        await admin.patch(f"/accounts/{made_account.json()['id']}", json={"name": "c"}),
        await admin.get("/strategies"),
        await admin.get("/strategies/s"),
        await admin.get("/alerts"),
        await admin.get(f"/alerts/{stored.json()['alert_id']}"),
        await anyone.get("/health/ready"),
    ]
    said = "\n".join([answer.text for answer in answers] + [caplog.text])
    said += "".join(repr(record.__dict__) for record in caplog.records)
    secrets = {
        "webhook secret": made["secret"],
        "rotated secret": rotated["secret"],
        "api key": "KEY-in-full",
        "api secret": "SECRET-in-full",
        "password": PASSWORD,
        "password hash": login.password_hash,
        "access token": tokens["access_token"],
        "refresh token": tokens["refresh_token"],
        "master key": MASTER_KEY,
    }
    assert [name for name, secret in secrets.items() if secret in said] == []
    assert PASSWORD not in repr(login)
    assert login.password_hash not in repr(login)
