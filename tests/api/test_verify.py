"""An account is tried at its exchange: each line says what is wrong and the cure, and nothing is ever ordered."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.api.tokens import issue
from app.flows.verify import NAMES
from app.resources import Resources
from app.store import users
from app.store.accounts import VenueName
from app.store.db import transaction
from app.store.users import Role
from tests.api.conftest import serving
from tests.support.house import API_KEY, API_SECRET, House

Checks = dict[str, dict[str, Any]]


@pytest.fixture
def resources(house: House) -> Resources:
    """Of the house, which has a simulator."""
    return house.resources


@pytest.fixture
async def base_url(resources: Resources) -> AsyncIterator[str]:
    async with serving(resources) as url:
        yield url


@pytest.fixture
async def owner(base_url: str, resources: Resources, password_hash: str) -> AsyncIterator[httpx.AsyncClient]:
    """An admin at this house."""
    async with transaction(resources.pool) as db:
        user = await users.create(db, email="owner@example.com", password_hash=password_hash, role=Role.ADMIN)
    headers = {"authorization": f"Bearer {issue(resources.keys, user, resources.now(), 900)}"}
    async with httpx.AsyncClient(base_url=base_url + "/api/v1", trust_env=False, timeout=60, headers=headers) as client:
        yield client


async def verified(owner: httpx.AsyncClient, account: object, **body: object) -> tuple[bool, Checks]:
    answer = await owner.post(f"/accounts/{account}/verify", json=body or None)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [check["name"] for check in found["checks"]] == list(NAMES)
    return found["ok"], {check["name"]: check for check in found["checks"]}


async def make(owner: httpx.AsyncClient, **more: object) -> str:
    body = {"name": "other", "venue": "bybit", "environment": "simulator", "api_key": API_KEY, "api_secret": API_SECRET}
    answer = await owner.post("/accounts", json=body | more)
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def oks(checks: Checks) -> dict[str, object]:
    return {name: check["ok"] for name, check in checks.items()}


async def orders_sent(house: House) -> list[dict[str, Any]]:
    """Every request that could have changed something at the exchange."""
    reads = ("GET",)
    return [
        request
        for request in (await house.ledger())["requests"]
        if request["method"] not in reads and "order" in request["path"].lower() and "test" not in request["path"]
    ]


@pytest.mark.parametrize("venue", VenueName)
async def test_a_good_account_is_good_in_every_line(house: House, owner: httpx.AsyncClient, venue: VenueName) -> None:
    account = await make(owner, name="good", venue=venue)
    ok, checks = await verified(owner, account)
    assert ok, [check for check in checks.values() if check["ok"] is False]
    assert [name for name, check in checks.items() if check["ok"] is False] == []
    for name in ("reachable", "clock", "key", "position_mode", "margin_mode", "conditional_orders", "feed"):
        assert checks[name]["ok"] is True, checks[name]
    assert "60000" in checks["feed"]["detail"]
    assert await orders_sent(house) == []
    assert (await house.ledger())["positions"] == []


@pytest.mark.parametrize("venue", VenueName)
async def test_another_position_mode_names_both_cures(owner: httpx.AsyncClient, venue: VenueName) -> None:
    account = await make(owner, name="hedged", venue=venue, position_mode="hedge")
    ok, checks = await verified(owner, account)
    assert not ok
    found = checks["position_mode"]
    assert (found["ok"], checks["key"]["ok"]) == (False, True)
    assert "one-way mode at the exchange, and the account says hedge" in found["detail"]
    assert "switch the exchange to hedge mode" in found["cure"]
    assert f'PATCH /api/v1/accounts/{account} {{"position_mode": "one_way"}}' in found["cure"]
    changed = await owner.patch(f"/accounts/{account}", json={"position_mode": "one_way"})
    assert changed.status_code == 200
    ok, checks = await verified(owner, account)  # at once: it has to see the change
    assert ok, [check for check in checks.values() if check["ok"] is False]


@pytest.mark.parametrize("venue", VenueName)
async def test_a_wrong_secret_fails_the_key_and_hides_nothing_else(owner: httpx.AsyncClient, venue: VenueName) -> None:
    account = await make(owner, name="wrong", venue=venue, api_secret="of-another-key")
    ok, checks = await verified(owner, account)
    assert not ok
    assert checks["key"]["ok"] is False
    assert "PATCH /api/v1/accounts" in checks["key"]["cure"]
    assert checks["conditional_orders"]["detail"] == "not checked: refused as the key is"
    for name in ("reachable", "clock", "feed"):
        assert checks[name]["ok"] is True, checks[name]
    assert "of-another-key" not in str(checks)


async def test_an_exchange_that_is_not_there(owner: httpx.AsyncClient) -> None:
    urls = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1"}
    account = await make(owner, name="away", environment="custom", urls=urls)
    ok, checks = await verified(owner, account)
    assert not ok
    assert oks(checks) == {name: False if name == "reachable" else None for name in NAMES}
    assert "http://127.0.0.1:1 does not answer" in checks["reachable"]["detail"]
    assert checks["reachable"]["cure"]
    assert checks["feed"]["detail"] == "not checked: reachable comes first"


async def test_a_key_under_another_master_key(owner: httpx.AsyncClient, resources: Resources, house: House) -> None:
    sealed = await resources.pool.fetchval("SELECT credentials FROM accounts WHERE id = $1", house.account_id)
    account = await make(owner, name="sealed")
    await resources.pool.execute("UPDATE accounts SET credentials = $1 WHERE id = $2", sealed, UUID(account))
    ok, checks = await verified(owner, account)
    assert not ok
    assert oks(checks) == {name: False if name == "key" else None for name in NAMES}
    assert "master key" in checks["key"]["cure"]


async def test_an_unlisted_symbol_is_one_line_of_several(owner: httpx.AsyncClient, house: House) -> None:
    ok, checks = await verified(owner, house.account_id, symbol="BYBIT:NOSUCHUSDT.P")
    assert not ok
    assert checks["leverage"]["ok"] is False
    assert (checks["key"]["ok"], checks["reachable"]["ok"]) == (True, True)
    answer = await owner.post(f"/accounts/{house.account_id}/verify", json={"symbol": "BTCUSD.P"})
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_market")


@pytest.mark.parametrize("venue", VenueName)
async def test_a_margin_mode_that_differs_is_told(owner: httpx.AsyncClient, house: House, venue: VenueName) -> None:
    account = await make(owner, name="differs", venue=venue)
    ok, checks = await verified(owner, account)
    assert ok
    there = "isolated" if "isolated" in checks["margin_mode"]["detail"] else "cross"
    other = "cross" if there == "isolated" else "isolated"
    changed = await owner.patch(f"/accounts/{account}", json={"margin_mode": other})
    assert changed.status_code == 200
    ok, checks = await verified(owner, account)
    mends_itself = venue is VenueName.BINANCE  # nothing is held: the next opening sets it, and at Bybit it is refused
    assert ok is mends_itself
    assert checks["margin_mode"]["ok"] is (None if mends_itself else False)
    assert f"the account says {other}" in checks["margin_mode"]["detail"]
    await house.by_hand("Buy", "0.01")
    ok, checks = await verified(owner, account)
    assert not ok
    assert checks["margin_mode"]["ok"] is False
    assert f'{{"margin_mode": "{there}"}}' in checks["margin_mode"]["cure"]


async def test_a_clock_beyond_the_bound_fails(owner: httpx.AsyncClient, house: House) -> None:
    await house.fault("clock_skew", ms=30_000)
    ok, checks = await verified(owner, await make(owner, name="late"))
    assert not ok
    assert checks["clock"]["ok"] is False
    assert "behind the exchange's" in checks["clock"]["detail"]
    assert "NTP" in checks["clock"]["cure"]
    assert checks["key"]["ok"] is True  # requests are stamped with the offset corrected


async def permit(house: House, **permissions: object) -> None:
    answer = await house.control.post("/control/permissions", json={"api_key": API_KEY, **permissions})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("venue", VenueName)
async def test_a_key_that_may_withdraw_fails(house: House, owner: httpx.AsyncClient, venue: VenueName) -> None:
    await permit(house, withdraw=True)
    account = await make(owner, name="withdrawing", venue=venue)
    ok, checks = await verified(owner, account)
    assert not ok
    assert checks["permissions"]["ok"] is False
    assert "may withdraw" in checks["permissions"]["detail"]
    assert "switch withdrawal off" in checks["permissions"]["cure"]


async def test_a_key_that_may_not_trade_fails(house: House, owner: httpx.AsyncClient) -> None:
    await permit(house, read_only=True)
    ok, checks = await verified(owner, house.account_id)
    assert not ok
    assert (checks["permissions"]["ok"], checks["key"]["ok"]) == (False, True)
    assert "may not trade" in checks["permissions"]["detail"]
    assert "trading of futures" in checks["permissions"]["cure"]


async def test_a_key_without_addresses_is_a_warning(house: House, owner: httpx.AsyncClient) -> None:
    ok, checks = await verified(owner, house.account_id)
    assert ok
    assert checks["ip_restriction"]["ok"] is None
    assert "warning" in checks["ip_restriction"]["detail"]
    assert "lapses after 90 days" in checks["ip_restriction"]["detail"]
    assert "this machine's address" in checks["ip_restriction"]["cure"]
    await permit(house, ips=["127.0.0.1"])
    ok, checks = await verified(owner, house.account_id)
    assert checks["ip_restriction"]["ok"] is True


async def test_a_silent_feed_fails_although_it_is_linked(
    house: House, owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.flows.verify.FEED_S", 1.0)
    await house.fault("silent_socket", channel="public")
    ok, checks = await verified(owner, house.account_id)
    assert not ok
    assert checks["feed"]["ok"] is False
    assert "within 1 s" in checks["feed"]["detail"]
    assert "WebSocket" in checks["feed"]["cure"]
    assert checks["key"]["ok"] is True


async def test_only_admins_verify_and_only_what_exists(
    owner: httpx.AsyncClient, house: House, resources: Resources, base_url: str, password_hash: str
) -> None:
    answer = await owner.post("/accounts/01900000-0000-7000-8000-000000000000/verify")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    async with transaction(resources.pool) as db:
        trader = await users.create(db, email="trader@example.com", password_hash=password_hash, role=Role.TRADER)
    headers = {"authorization": f"Bearer {issue(resources.keys, trader, resources.now(), 900)}"}
    answer = await owner.post(f"/accounts/{house.account_id}/verify", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
