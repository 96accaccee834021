from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.api.strategies import slug_of
from app.ids import new_id
from app.resources import Resources, open_resources
from app.store import strategies
from app.store.db import transaction
from tests.api import rows
from tests.api.conftest import make_settings, serving
from tests.support.servers import Servers

DEFAULTS = {
    "size": {"base": "0.01"},
    "leverage": 5,
    "stop_loss": {"pct": 1.5},
    "take_profit": [{"pct": 1, "fraction": 0.5}, {"price": "71000", "fraction": 0.5}],
    "trailing": {"activate_pct": 1, "distance_pct": 0.5},
    "break_even": {"after_pct": 1},
}


@pytest.fixture(scope="module")
async def account(resources: Resources) -> str:
    async with transaction(resources.pool) as db:
        return str(await rows.account(db, "for strategies"))


async def make(admin: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    answer = await admin.post("/strategies", json={"name": f"S {uuid4()}"} | body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_strategy_is_made_read_changed_and_removed(
    admin: httpx.AsyncClient, base_url: str, resources: Resources, account: str
) -> None:
    made = await make(
        admin,
        name="My 1st: Strategy!",
        accounts=[{"account": account, "multiplier": "1.50"}],
        symbols=["BYBIT:BTCUSDT.P", "ETH/USDT:USDT", "BTCUSDT"],
        defaults=DEFAULTS,
        limits={"trade_without_stop": True, "max_notional": "1000.0", "alerts_per_minute": 20},
    )
    secret = made.pop("secret")
    assert len(secret) == 43
    assert made.keys() == {
        *("id", "name", "accounts", "format", "symbols", "defaults", "limits", "enabled", "webhook_url"),
        *("created_at", "updated_at"),
    }
    assert made["id"] == "my-1st-strategy"
    assert made["webhook_url"] == f"{base_url}/webhook/my-1st-strategy"
    assert made["accounts"] == [{"account": account, "multiplier": "1.5"}]
    assert made["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert made["defaults"] == DEFAULTS
    assert made["limits"] == {"trade_without_stop": True, "max_notional": "1000.0", "alerts_per_minute": 20}
    assert (made["format"], made["enabled"]) == ("auto", True)
    assert (await admin.get("/strategies/my-1st-strategy")).json() == made
    assert made in (await admin.get("/strategies")).json()["items"]

    changed = await admin.patch(
        "/strategies/my-1st-strategy",
        json={"name": "N", "symbols": None, "enabled": False, "accounts": [], "limits": {}, "format": "native"},
    )
    assert changed.status_code == 200, changed.text
    expected: dict[str, Any] = {
        "name": "N",
        "symbols": None,
        "enabled": False,
        "accounts": [],
        "limits": {},
        "format": "native",
    }
    assert changed.json() == made | expected | {"updated_at": changed.json()["updated_at"]}
    assert (await admin.patch("/strategies/my-1st-strategy", json={})).json()["symbols"] is None

    assert (await admin.delete("/strategies/my-1st-strategy")).status_code == 204
    for method in ("GET", "DELETE", "PATCH"):
        assert (await admin.request(method, "/strategies/my-1st-strategy", json={})).status_code == 404
    assert (await admin.post("/strategies/my-1st-strategy/secrets")).status_code == 404
    async with transaction(resources.pool) as db:
        assert await strategies.for_webhook(db, "my-1st-strategy") is None


async def test_the_webhook_reads_all_it_needs_at_once(
    admin: httpx.AsyncClient, resources: Resources, account: str
) -> None:
    made = await make(
        admin,
        id="complete",
        accounts=[{"account": account, "multiplier": "0.3"}],
        symbols=["BTCUSDT"],
        defaults=DEFAULTS,
        limits={"max_notional": "12.5"},
    )
    second = (await admin.post("/strategies/complete/secrets")).json()["secret"]
    found = await strategies.for_webhook(resources.pool, "complete")
    assert found is not None
    assert (found.id, found.enabled, found.format, found.symbols) == ("complete", True, "auto", ("BTCUSDT",))
    assert found.defaults == DEFAULTS
    assert found.limits == strategies.Limits(max_notional=Decimal("12.5"))
    assert found.secret_hashes == tuple(resources.keys.secret_hash(one) for one in (second, made["secret"]))
    assert [(str(share.account_id), str(share.multiplier)) for share in found.accounts] == [(account, "0.3")]


async def test_a_removed_account_is_traded_no_more(admin: httpx.AsyncClient, resources: Resources) -> None:
    async with transaction(resources.pool) as db:
        account = str(await rows.account(db, "leaving"))
    await make(admin, id="left", accounts=[{"account": account}])
    await admin.delete(f"/accounts/{account}")
    found = await strategies.for_webhook(resources.pool, "left")
    assert found is not None
    assert found.accounts == ()
    assert (await admin.get("/strategies/left")).json()["accounts"] == []


async def test_a_taken_name_gets_another_id_but_a_wished_id_does_not(admin: httpx.AsyncClient) -> None:
    assert [(await make(admin, name="Twin"))["id"] for _ in range(3)] == ["twin", "twin-2", "twin-3"]
    await admin.delete("/strategies/twin")
    answer = await admin.post("/strategies", json={"name": "x", "id": "twin"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "id_taken", "id")


@pytest.mark.parametrize(
    ("name", "slug"), [("Ünïcode ×", "n-code"), ("***", "strategy"), ("a" * 200, "a" * 60), ("  A--b  ", "a-b")]
)
def test_slugs(name: str, slug: str) -> None:
    assert slug_of(name) == slug


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"name": ""}, "bad_value", "name"),
        ({"id": "Upper"}, "bad_id", "id"),
        ({"id": "a/b"}, "bad_id", "id"),
        ({"id": ""}, "bad_id", "id"),
        ({"id": "a" * 65}, "bad_id", "id"),
        ({"format": "morse"}, "unknown_format", "format"),
        ({"symbols": ["BTCUSDT", "?"]}, "bad_symbol", "symbols[1]"),
        ({"symbols": ["ES1!"]}, "wrong_market", "symbols[0]"),
        ({"defaults": {"stop_loss": {"pct": -1}}}, "bad_stop_loss", "defaults.stop_loss.pct"),
        ({"defaults": {"size": {"base": "1", "quote": "1"}}}, "bad_size", "defaults.size"),
        ({"defaults": {"time_exit": {"after_h": 1}}}, "bad_time_exit", "defaults.time_exit.after_h"),
        ({"defaults": {"stoploss": 1}}, "unknown_field", "defaults.stoploss"),
        ({"defaults": {"side": "flat"}}, "bad_target", "defaults.side"),
        ({"defaults": {"symbol": "BTCUSD.P"}}, "wrong_market", "defaults.symbol"),
        ({"limits": {"max_loss": "1"}}, "unknown_field", "limits.max_loss"),
        ({"limits": {"max_notional": "-1"}}, "bad_value", "limits.max_notional"),
        ({"limits": {"missed_alert": "panic"}}, "bad_value", "limits.missed_alert"),
        ({"limits": {"repeat": "twice"}}, "bad_value", "limits.repeat"),
        ({"limits": {"alert_every_s": 59}}, "bad_value", "limits.alert_every_s"),
        ({"limits": {"alert_every_s": 2678401}}, "bad_value", "limits.alert_every_s"),
        ({"limits": {"alerts_per_minute": 0}}, "bad_value", "limits.alerts_per_minute"),
        ({"limits": {"alerts_per_minute": 1001}}, "bad_value", "limits.alerts_per_minute"),
        ({"limits": {"sides": "up"}}, "bad_value", "limits.sides"),
        ({"limits": {"max_notional": "NaN"}}, "bad_value", "limits.max_notional"),
        ({"limits": {"max_notional": "much"}}, "bad_value", "limits.max_notional"),
        ({"accounts": [{"account": "main"}]}, "bad_value", "accounts[0].account"),
        ({"accounts": [{"account": str(new_id())}]}, "unknown_account", "accounts[0].account"),
        ({"accounts": [{}]}, "missing_field", "accounts[0].account"),
        ({"enabled": "perhaps"}, "bad_value", "enabled"),
        ({"secret": "mine"}, "unknown_field", "secret"),
        ({"limits": {"max_notional": "1e999999"}}, "bad_value", "limits.max_notional"),
    ],
)
async def test_what_cannot_be_used_is_named(
    admin: httpx.AsyncClient, change: dict[str, object], code: str, field: str
) -> None:
    answer = await admin.post("/strategies", json={"name": "Wrong"} | change)
    assert answer.status_code == 422, answer.text
    assert (answer.json()["code"], answer.json().get("field")) == (code, field)
    if "id" not in change and "secret" not in change:
        await admin.post("/strategies", json={"name": "Right", "id": "right"})
        answer = await admin.patch("/strategies/right", json=change)
        assert (answer.json()["code"], answer.json().get("field")) == (code, field)


@pytest.mark.parametrize("multiplier", ["0", "-1", "1001", "Infinity", "1e-20000"])
async def test_a_multiplier_has_bounds(admin: httpx.AsyncClient, account: str, multiplier: str) -> None:
    accounts = [{"account": account, "multiplier": multiplier}]
    answer = await admin.post("/strategies", json={"name": "x", "accounts": accounts})
    assert (answer.status_code, answer.json()["field"]) == (422, "accounts[0].multiplier")


async def test_an_account_is_named_once(admin: httpx.AsyncClient, account: str) -> None:
    answer = await admin.post("/strategies", json={"name": "x", "accounts": [{"account": account}] * 2})
    assert (answer.status_code, answer.json()["code"]) == (422, "account_twice")


async def test_a_strategy_in_use_is_not_removed(admin: httpx.AsyncClient, resources: Resources, account: str) -> None:
    await make(admin, id="busy")
    async with transaction(resources.pool) as db:
        position = await rows.position(db, account, "busy", symbol="ADAUSDT")
    answer = await admin.delete("/strategies/busy")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    await resources.pool.execute("UPDATE positions SET status = 'closed' WHERE id = $1", position)
    async with transaction(resources.pool) as db:
        instruction = await rows.instruction(db, account, "busy")
    assert (await admin.delete("/strategies/busy")).status_code == 409
    await resources.pool.execute("UPDATE instructions SET status = 'done' WHERE id = $1", instruction)
    assert (await admin.delete("/strategies/busy")).status_code == 204


async def test_a_secret_is_shown_once_and_stored_as_a_hash(admin: httpx.AsyncClient, resources: Resources) -> None:
    made = await make(admin, id="shown-once")
    rotated = (await admin.post("/strategies/shown-once/secrets", json={"overlap_s": 60})).json()
    assert rotated.keys() == {"secret", "webhook_url", "previous_expires_at"}
    for path in ("/strategies", "/strategies/shown-once"):
        text = (await admin.get(path)).text
        assert made["secret"] not in text
        assert rotated["secret"] not in text
    stored = await resources.pool.fetchval("SELECT string_agg(s::text, '') FROM strategy_secrets s")
    assert made["secret"] not in stored


async def test_a_later_rotation_does_not_lengthen_an_overlap(admin: httpx.AsyncClient, resources: Resources) -> None:
    await make(admin, id="overlap")
    await admin.post("/strategies/overlap/secrets", json={"overlap_s": 60})
    await admin.post("/strategies/overlap/secrets", json={"overlap_s": 3600})
    ends = await resources.pool.fetch(
        "SELECT extract(epoch FROM expires_at - now())::int AS s FROM strategy_secrets WHERE strategy_id = 'overlap'"
    )
    assert sorted(-1 if row["s"] is None else (row["s"] + 10) // 60 for row in ends) == [-1, 1, 60]


async def test_secrets_that_hold_at_once_are_limited(admin: httpx.AsyncClient) -> None:
    await make(admin, id="many")
    codes = [(await admin.post("/strategies/many/secrets")).status_code for _ in range(strategies.SECRETS_MAX)]
    assert codes == [201] * (strategies.SECRETS_MAX - 1) + [409]
    assert (await admin.post("/strategies/many/secrets", json={"overlap_s": 0})).status_code == 201


@pytest.mark.parametrize("overlap_s", [-1, 10**9, "x"])
async def test_an_overlap_has_bounds(admin: httpx.AsyncClient, overlap_s: object) -> None:
    answer = await admin.post("/strategies/any/secrets", json={"overlap_s": overlap_s})
    assert (answer.status_code, answer.json()["field"]) == (422, "overlap_s")


async def test_the_webhook_url_is_the_public_one_if_there_is_one(
    admin: httpx.AsyncClient, module_database_url: str, running_servers: Servers
) -> None:
    settings = make_settings(module_database_url, running_servers.redis_url, public_url="https://bot.example.com")
    async with open_resources(settings) as public, serving(public) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers=admin.headers) as client:
            made = (await client.post("/api/v1/strategies", json={"name": "Public"})).json()
    assert made["webhook_url"] == "https://bot.example.com/webhook/public"


async def test_the_list_comes_in_pages(admin: httpx.AsyncClient) -> None:
    for name in ("paged-c", "paged-a", "paged-b"):
        await make(admin, id=name)
    everything = [item["id"] for item in (await admin.get("/strategies?limit=500")).json()["items"]]
    assert everything == sorted(everything)
    first = (await admin.get("/strategies?limit=1")).json()
    second = (await admin.get("/strategies", params={"limit": 500, "cursor": first["next"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == everything
    assert second["next"] is None


async def test_an_account_is_not_taken_from_a_strategy_that_holds_a_position_there(
    admin: httpx.AsyncClient, resources: Resources, account: str
) -> None:
    """No close of its alerts would reach that position any more."""
    await make(admin, id="holder", accounts=[{"account": account}])
    async with transaction(resources.pool) as db:
        other = str(await rows.account(db, "beside"))
        position = await rows.position(db, account, "holder", symbol="XRPUSDT")
    for left in ([], [{"account": other}]):
        answer = await admin.patch("/strategies/holder", json={"accounts": left})
        assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    more = [{"account": account, "multiplier": "2"}, {"account": other}]
    assert (await admin.patch("/strategies/holder", json={"accounts": more})).status_code == 200
    await resources.pool.execute("UPDATE positions SET status = 'closed' WHERE id = $1", position)
    assert (await admin.patch("/strategies/holder", json={"accounts": [{"account": other}]})).status_code == 200
