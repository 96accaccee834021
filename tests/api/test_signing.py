"""Signed deliveries (Standard Webhooks): what lets in, what does not, and how a resend is known."""

import base64
import hmac
import json
import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.alerts.signed import read_key, write_key
from app.keys import Keys
from app.resources import Resources
from app.store import signing
from app.store.migrate import reseal
from app.store.strategies import SECRETS_MAX
from tests.api import rows

MASTER = bytes(range(32))  # see conftest
FOREIGN_KEY = write_key(b"k" * 32)


async def make(admin: httpx.AsyncClient, name: str, **limits: object) -> tuple[str, str]:
    """A strategy; answers its secret and its signing key."""
    made = await admin.post("/strategies", json={"name": name, "id": name, "limits": limits})
    assert made.status_code == 201, made.text
    answer = await admin.post(f"/strategies/{name}/signing-keys")
    assert answer.status_code == 201, answer.text
    return made.json()["secret"], answer.json()["key"]


@pytest.fixture(scope="module")
async def signed_strategy(admin: httpx.AsyncClient) -> tuple[str, str]:
    return await make(admin, "signed")


def body(**more: object) -> bytes:
    return json.dumps({"symbol": "BTCUSDT", "action": "close", "note": str(uuid4())} | more).encode()


def headers(key: str, raw: bytes, *, id: str | None = None, age_s: float = 0) -> dict[str, str]:
    opened = read_key(key)
    assert opened is not None
    id, at = id or f"msg_{uuid4()}", str(int(time.time() - age_s))
    made = hmac.digest(opened, f"{id}.{at}.".encode() + raw, "sha256")
    signature = f"v1,{base64.b64encode(made).decode()}"
    return {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": signature}


async def post(anyone: httpx.AsyncClient, strategy: str, raw: bytes, given: dict[str, str]) -> httpx.Response:
    return await anyone.post(f"/webhook/{strategy}", content=raw, headers=given)


async def test_a_signature_lets_in_without_the_secret(
    anyone: httpx.AsyncClient, signed_strategy: tuple[str, str]
) -> None:
    secret, key = signed_strategy
    raw = body()
    assert (await post(anyone, "signed", raw, headers(key, raw))).status_code == 202
    assert (await post(anyone, "signed", raw, {})).status_code == 401
    raw = body(secret=secret)
    assert (await post(anyone, "signed", raw, {})).status_code == 202  # the secret alone is enough, see signed_only


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"webhook-signature": "v1,AAAA"}, "unauthorized"),
        ({"webhook-signature": ""}, "unauthorized"),
        ({"webhook-id": "msg_other"}, "unauthorized"),
        ({"webhook-id": ""}, "unauthorized"),
        ({"webhook-timestamp": "1"}, "unauthorized"),
        ({"webhook-timestamp": "now"}, "unauthorized"),
        ({"age_s": 302}, "stale_signature"),
        ({"age_s": -302}, "stale_signature"),
        ({"key": FOREIGN_KEY}, "unauthorized"),
    ],
)
async def test_where_there_is_a_key_a_wrong_signature_is_not_made_good_by_the_secret(
    anyone: httpx.AsyncClient, resources: Resources, signed_strategy: tuple[str, str], change: Any, code: str
) -> None:
    secret, key = signed_strategy
    before = await resources.pool.fetchval("SELECT count(*) FROM alerts")
    raw = body(secret=secret)
    given = headers(change.pop("key", key), raw, age_s=change.pop("age_s", 0)) | change
    answer = await anyone.post(f"/webhook/signed/{secret}", content=raw, headers=given)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert await resources.pool.fetchval("SELECT count(*) FROM alerts") == before


async def test_a_strategy_without_a_key_and_one_that_is_not_there_pass_over_the_signature(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    secret = (await admin.post("/strategies", json={"name": "unsigned"})).json()["secret"]
    raw = body(secret=secret)
    given = headers(FOREIGN_KEY, raw)
    answers = [await post(anyone, name, body(), given) for name in ("unsigned", "nobody")]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert (await post(anyone, "unsigned", raw, given)).status_code == 202


async def test_a_wrong_signature_looks_like_an_unknown_strategy(
    anyone: httpx.AsyncClient, signed_strategy: tuple[str, str]
) -> None:
    raw = body()
    given = headers(FOREIGN_KEY, raw)
    known, unknown = [await post(anyone, name, raw, given) for name in ("signed", "nobody")]
    assert (known.status_code, known.text) == (unknown.status_code, unknown.text)
    assert known.headers.items() - unknown.headers.items() <= {("date", known.headers["date"])}


async def test_a_delivery_that_is_sent_again_is_known_by_its_webhook_id(
    anyone: httpx.AsyncClient, resources: Resources, signed_strategy: tuple[str, str]
) -> None:
    _, key = signed_strategy
    raw = body()
    first = await post(anyone, "signed", raw, headers(key, raw, id="msg_1"))
    assert first.status_code == 202
    await resources.pool.execute("UPDATE alert_keys SET claimed_at = claimed_at - interval '1 hour'")
    again = await post(anyone, "signed", raw, headers(key, raw, id="msg_1", age_s=5))
    assert (again.status_code, again.json()["alert_id"]) == (200, first.json()["alert_id"])
    assert (await post(anyone, "signed", raw, headers(key, raw, id="msg_2"))).status_code == 202
    other = body()
    assert (await post(anyone, "signed", other, headers(key, other, id="msg_1"))).status_code == 409


async def test_an_id_of_the_alert_itself_goes_before_that_of_its_delivery(
    anyone: httpx.AsyncClient, signed_strategy: tuple[str, str]
) -> None:
    _, key = signed_strategy
    raw = body(id="fired-once")
    assert (await post(anyone, "signed", raw, headers(key, raw))).status_code == 202
    assert (await post(anyone, "signed", raw, headers(key, raw))).status_code == 200


async def test_what_is_signed_and_cannot_be_read_is_kept(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, signed_strategy: tuple[str, str]
) -> None:
    _, key = signed_strategy
    raw = b"{ a broken body"
    assert (await post(anyone, "signed", raw, headers(key, raw))).status_code == 422
    found = (await admin.get("/alerts/rejected?strategy=signed&limit=1")).json()["items"]
    assert [(one["code"], one["body"]) for one in found] == [("not_json", raw.decode())]


async def test_a_strategy_may_take_signed_alerts_only(anyone: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    secret, key = await make(admin, "strict", signed_only=True)
    raw = body(secret=secret)
    answer = await post(anyone, "strict", raw, {})
    assert (answer.status_code, answer.json()["code"]) == (401, "signature_missing")
    assert (await admin.get("/alerts/rejected?strategy=strict")).json()["items"][0]["code"] == "signature_missing"
    assert (await post(anyone, "strict", raw, headers(key, raw))).status_code == 202


async def test_keys_are_changed_with_an_overlap_and_taken_away(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, resources: Resources
) -> None:
    _, first = await make(admin, "turning-keys")
    second = (await admin.post("/strategies/turning-keys/signing-keys", json={"key": FOREIGN_KEY})).json()
    assert second["key"] == FOREIGN_KEY
    listed = (await admin.get("/strategies/turning-keys/signing-keys")).json()["items"]
    assert [one["expires_at"] is None for one in listed] == [True, False]
    assert listed[0].keys() == {"id", "created_at", "expires_at"}

    async def statuses(*keys: str) -> list[int]:
        raws = [body() for _ in keys]
        return [
            (await post(anyone, "turning-keys", raw, headers(key, raw))).status_code
            for key, raw in zip(keys, raws, strict=True)
        ]

    assert await statuses(first, FOREIGN_KEY) == [202, 202]
    third = (await admin.post("/strategies/turning-keys/signing-keys", json={"overlap_s": 0})).json()["key"]
    assert await statuses(first, FOREIGN_KEY, third) == [401, 401, 202]
    assert (await admin.delete("/strategies/turning-keys/signing-keys")).status_code == 204
    assert await statuses(third) == [401]
    assert (await admin.delete("/strategies/turning-keys/signing-keys")).status_code == 404
    assert (await admin.delete("/strategies/turning-keys")).status_code == 204
    for method in ("GET", "POST", "DELETE"):
        assert (await admin.request(method, "/strategies/turning-keys/signing-keys")).status_code == 404


async def test_removing_a_strategy_removes_its_keys(admin: httpx.AsyncClient, resources: Resources) -> None:
    await make(admin, "leaving-keys")
    await admin.delete("/strategies/leaving-keys")
    kept = "SELECT count(*) FROM strategy_signing_keys WHERE strategy_id = 'leaving-keys'"
    assert await resources.pool.fetchval(kept) == 0


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"key": "whsec_short"}, "bad_signing_key", "key"),
        ({"key": 1}, "bad_value", "key"),
        ({"overlap_s": -1}, "bad_value", "overlap_s"),
        ({"secret": "x"}, "unknown_field", "secret"),
    ],
)
async def test_what_cannot_be_used_is_named(
    admin: httpx.AsyncClient, signed_strategy: tuple[str, str], given: object, code: str, field: str
) -> None:
    answer = await admin.post("/strategies/signed/signing-keys", json=given)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, code, field)


async def test_ten_keys_at_most_hold_at_once(admin: httpx.AsyncClient) -> None:
    await make(admin, "many-keys")
    answers = [await admin.post("/strategies/many-keys/signing-keys") for _ in range(SECRETS_MAX)]
    assert [answer.status_code for answer in answers] == [201] * (SECRETS_MAX - 1) + [409]
    assert answers[-1].json()["code"] == "too_many_secrets"


async def test_a_key_lies_sealed_in_the_table_and_survives_a_change_of_the_master_key(resources: Resources) -> None:
    pool, old = resources.pool, Keys(MASTER)
    new = Keys(bytes(32), previous=old)
    await rows.strategy(pool, "sealed")
    async with pool.acquire() as db:
        undone = db.transaction()
        await undone.start()  # the keys of other strategies are sealed anew too
        try:
            await signing.rotate(db, old, "sealed", b"k" * 32, overlap_s=0)
            [sealed] = await db.fetch("SELECT sealed FROM strategy_signing_keys WHERE strategy_id = 'sealed'")
            assert b"kkkk" not in sealed["sealed"]
            assert await reseal(db, old) == 0
            assert await reseal(db, new) >= 1
            assert await signing.live(db, Keys(bytes(32)), "sealed") == [b"k" * 32]
            assert await signing.live(db, old, "sealed") == []
        finally:
            await undone.rollback()
