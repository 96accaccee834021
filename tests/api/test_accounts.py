from typing import Any
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from app.errors import Conflict
from app.keys import Credentials, Keys, SealBroken
from app.resources import Resources, open_resources
from app.store import accounts
from app.store.db import transaction
from tests.api import rows
from tests.api.conftest import make_settings, serving
from tests.api.test_account_keys import private_pem
from tests.support.servers import Servers

KEY, SECRET = "the-api-key-9876", "the-api-secret"


def body(**more: object) -> dict[str, Any]:
    return {"name": "Main", "venue": "bybit", "environment": "testnet", "api_key": KEY, "api_secret": SECRET} | more


async def make(admin: httpx.AsyncClient, **more: object) -> dict[str, Any]:
    answer = await admin.post("/accounts", json=body(**more))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_account_is_made_read_changed_and_removed(admin: httpx.AsyncClient, resources: Resources) -> None:
    pem = private_pem(rsa.generate_private_key(65537, 2048))
    made = await make(admin)
    assert made.keys() == {
        *("id", "name", "venue", "environment", "position_mode", "margin_mode", "urls", "api_key"),
        *("created_at", "updated_at"),
    }
    assert made["api_key"] == "…9876"
    assert (made["position_mode"], made["margin_mode"]) == ("one_way", None)
    assert (await admin.get(f"/accounts/{made['id']}")).json() == made
    assert made in (await admin.get("/accounts")).json()["items"]

    changed = await admin.patch(
        f"/accounts/{made['id']}", json={"name": "Renamed", "api_key": "another-key-1234", "private_key": pem}
    )
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["api_key"]) == ("Renamed", "…1234")
    assert changed.json()["updated_at"] > made["updated_at"]
    account = UUID(made["id"])
    stored = await accounts.credentials_of(resources.pool, resources.keys, account)
    assert stored == Credentials(api_key="another-key-1234", private_key=pem)

    assert (await admin.delete(f"/accounts/{made['id']}")).status_code == 204
    assert (await admin.get(f"/accounts/{made['id']}")).status_code == 404
    assert (await admin.delete(f"/accounts/{made['id']}")).status_code == 404
    assert (await admin.patch(f"/accounts/{made['id']}", json={})).status_code == 404
    assert await resources.pool.fetchval("SELECT credentials FROM accounts WHERE id = $1", account) == b""
    with pytest.raises(Conflict):
        await accounts.credentials_of(resources.pool, resources.keys, account)


async def test_credentials_are_sealed_in_the_database_and_bound_to_their_row(
    admin: httpx.AsyncClient, resources: Resources
) -> None:
    one, other = await make(admin, name="one"), await make(admin, name="other")
    sealed = await resources.pool.fetchval("SELECT credentials FROM accounts WHERE id = $1", one["id"])
    assert SECRET.encode() not in sealed
    with pytest.raises(SealBroken):
        await accounts.credentials_of(resources.pool, Keys(bytes(32)), UUID(one["id"]))
    async with transaction(resources.pool) as db:
        await db.execute("UPDATE accounts SET credentials = $1 WHERE id = $2", sealed, other["id"])
        with pytest.raises(SealBroken):
            await accounts.credentials_of(db, resources.keys, UUID(other["id"]))
        await db.execute("DELETE FROM accounts WHERE id = $1", other["id"])


async def test_a_short_key_is_not_shown_at_all(admin: httpx.AsyncClient) -> None:
    assert (await make(admin, name="short", api_key="1234567"))["api_key"] == "…"


async def test_the_name_of_a_removed_account_is_free_again(admin: httpx.AsyncClient) -> None:
    made = await make(admin, name="phoenix")
    answer = await admin.post("/accounts", json=body(name="phoenix"))
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "name_taken", "name")
    await admin.delete(f"/accounts/{made['id']}")
    again = await make(admin, name="phoenix")
    other = await make(admin, name="ash")
    answer = await admin.patch(f"/accounts/{other['id']}", json={"name": "phoenix"})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    assert again["id"] != made["id"]


async def test_custom_urls_are_kept_as_origins(admin: httpx.AsyncClient) -> None:
    made = await make(
        admin, name="custom", environment="custom", urls={"rest": "https://Host.example/", "ws": "ws://[::1]:9/"}
    )
    assert made["urls"] == {"rest": "https://host.example", "ws": "ws://[::1]:9"}
    urls = {"rest": "http://127.0.0.1:1", "ws": "wss://x"}
    changed = await admin.patch(f"/accounts/{made['id']}", json={"urls": urls})
    assert changed.json()["urls"] == urls


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"venue": "kraken"}, "bad_value", "venue"),
        ({"position_mode": "both"}, "bad_value", "position_mode"),
        ({"margin_mode": "portfolio"}, "bad_value", "margin_mode"),
        ({"environment": "paper"}, "bad_value", "environment"),
        ({"environment": "custom"}, "missing_field", "urls"),
        ({"urls": {"rest": "https://x", "ws": "wss://x"}}, "bad_value", "urls"),
        ({"environment": "custom", "urls": {"rest": "https://x"}}, "missing_field", "urls.ws"),
        ({"environment": "custom", "urls": {"rest": "https://x/v5", "ws": "wss://x"}}, "bad_url", "urls.rest"),
        ({"environment": "custom", "urls": {"rest": "https://x", "ws": "https://x"}}, "bad_url", "urls.ws"),
        ({"environment": "custom", "urls": {"rest": "file://x", "ws": "ws://x"}}, "bad_url", "urls.rest"),
        ({"environment": "custom", "urls": {"rest": "http://u:p@x", "ws": "ws://x"}}, "bad_url", "urls.rest"),
        ({"environment": "custom", "urls": {"rest": "http://x?", "ws": "ws://x"}}, "bad_url", "urls.rest"),
        ({"environment": "custom", "urls": {"rest": "http://x:99999", "ws": "ws://x"}}, "bad_url", "urls.rest"),
        ({"environment": "custom", "urls": {"rest": "http://", "ws": "ws://x"}}, "bad_url", "urls.rest"),
        ({"api_secret": None}, "bad_value", "api_secret"),
        ({"private_key": "x"}, "bad_value", "api_secret"),
        ({"api_key": ""}, "bad_value", "api_key"),
        ({"name": ""}, "bad_value", "name"),
        ({"passphrase": "x"}, "unknown_field", "passphrase"),
    ],
)
async def test_what_cannot_be_traded_is_refused(
    admin: httpx.AsyncClient, change: dict[str, object], code: str, field: str
) -> None:
    answer = await admin.post("/accounts", json=body(name="refused") | change)
    assert answer.status_code == 422, answer.text
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)
    assert SECRET not in answer.text


async def test_a_key_is_changed_as_a_whole(admin: httpx.AsyncClient) -> None:
    made = await make(admin, name="whole")
    answer = await admin.patch(f"/accounts/{made['id']}", json={"api_secret": "x"})
    assert (answer.status_code, answer.json()["field"]) == (422, "api_key")
    answer = await admin.patch(f"/accounts/{made['id']}", json={"environment": "mainnet"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")


async def test_a_simulator_account_needs_a_simulator(
    admin: httpx.AsyncClient, module_database_url: str, running_servers: Servers
) -> None:
    made = await make(admin, name="simulated", environment="simulator")
    assert made["urls"] is None
    settings = make_settings(module_database_url, running_servers.redis_url, simulator_url=None)
    async with open_resources(settings) as without, serving(without) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers=admin.headers) as client:
            answer = await client.post("/api/v1/accounts", json=body(name="x", environment="simulator"))
    assert (answer.status_code, answer.json()["code"]) == (422, "no_simulator")


async def test_an_account_in_use_is_not_removed(admin: httpx.AsyncClient, resources: Resources) -> None:
    made = await make(admin, name="busy")
    async with transaction(resources.pool) as db:
        await rows.strategy(db, "busy-account")
        position = await rows.position(db, made["id"], "busy-account")
    answer = await admin.delete(f"/accounts/{made['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert "open position" in answer.json()["detail"]
    await resources.pool.execute("UPDATE positions SET status = 'closed' WHERE id = $1", position)
    async with transaction(resources.pool) as db:
        instruction = await rows.instruction(db, made["id"], "busy-account")
    assert (await admin.delete(f"/accounts/{made['id']}")).status_code == 409
    await resources.pool.execute("UPDATE instructions SET status = 'done' WHERE id = $1", instruction)
    assert (await admin.delete(f"/accounts/{made['id']}")).status_code == 204


async def test_both_venues_and_both_modes_are_taken(admin: httpx.AsyncClient) -> None:
    made = await make(admin, name="hedged", venue="binance", position_mode="hedge", margin_mode="isolated")
    assert (made["venue"], made["position_mode"], made["margin_mode"]) == ("binance", "hedge", "isolated")
    assert (await admin.get(f"/accounts/{made['id']}")).json() == made


async def test_a_margin_mode_is_set_left_and_taken_back(admin: httpx.AsyncClient) -> None:
    made = await make(admin, name="margined")
    for change, expected in (
        ({"margin_mode": "cross"}, "cross"),
        ({"name": "margined still"}, "cross"),
        ({"margin_mode": None}, None),
    ):
        changed = await admin.patch(f"/accounts/{made['id']}", json=change)
        assert (changed.status_code, changed.json()["margin_mode"]) == (200, expected), change


async def test_the_position_mode_changes_only_at_rest(admin: httpx.AsyncClient, resources: Resources) -> None:
    made = await make(admin, name="turning")
    place = f"/accounts/{made['id']}"
    assert (await admin.patch(place, json={"position_mode": "hedge"})).json()["position_mode"] == "hedge"
    async with transaction(resources.pool) as db:
        await rows.strategy(db, "turning")
        instruction = await rows.instruction(db, made["id"], "turning")
    answer = await admin.patch(place, json={"position_mode": "one_way"})
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert (await admin.patch(place, json={"position_mode": "hedge", "margin_mode": "cross"})).status_code == 200
    await resources.pool.execute("UPDATE instructions SET status = 'done' WHERE id = $1", instruction)
    async with transaction(resources.pool) as db:
        position = await rows.position(db, made["id"], "turning")
    answer = await admin.patch(place, json={"position_mode": "one_way", "name": "not this either"})
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert (await admin.get(place)).json()["name"] == "turning"
    await resources.pool.execute("UPDATE positions SET status = 'closed' WHERE id = $1", position)
    assert (await admin.patch(place, json={"position_mode": "one_way"})).json()["position_mode"] == "one_way"


async def test_the_list_comes_in_pages(admin: httpx.AsyncClient) -> None:
    for number in range(3):
        await make(admin, name=f"paged {number}")
    everything = [item["id"] for item in (await admin.get("/accounts?limit=500")).json()["items"]]
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = (await admin.get("/accounts", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == everything
