"""What is refused at the door is kept for its sender to see, and for nobody else; the answer never depends on that."""

import asyncio
import json
import logging
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.flows import rejected as keeping
from app.ids import new_id
from app.resources import Resources
from app.store import rejected
from app.store.rejected import Rejected
from tests.api import rows

FOREIGN = "another-services-secret"


@pytest.fixture(scope="module")
async def secret(admin: httpx.AsyncClient) -> str:
    made = await admin.post("/strategies", json={"name": "Kept", "id": "kept"})
    return str(made.json()["secret"])


async def latest(viewer: httpx.AsyncClient, strategy: str = "kept") -> dict[str, Any]:
    [found] = (await viewer.get("/alerts/rejected", params={"strategy": strategy, "limit": 1})).json()["items"]
    assert isinstance(found, dict)
    return found


async def count(resources: Resources) -> int:
    found: int = await resources.pool.fetchval("SELECT count(*) FROM rejected_alerts")
    return found


@pytest.mark.parametrize(
    ("path", "body", "code", "kept"),
    [
        ("kept/SECRET", b"", "empty_body", ""),
        ("kept/SECRET", b"BTCUSDT.P crossing 64,000", "not_json", "BTCUSDT.P crossing 64,000"),
        ("kept/SECRET", b"\xff", "not_utf8", "\ufffd"),
        ("kept/SECRET", b'{"a\x00": SECRET FOREIGN', "not_json", '{"a": *** FOREIGN'),
        ("kept/SECRET", b'{"api_key": "FOREIGN", "note": "FOREIGN", "x": {{y}}}', "unfilled_placeholder",
         '{"api_key": "***", "note": "***", "x": {{y}}}'),
        ("kept/SECRET", b'{"symbol": "BTCUSDT", "action": "jump", "token": "FOREIGN"}', "bad_action",
         '{"symbol":"BTCUSDT","action":"jump","token":"***"}'),
        ("kept/SECRET", b'{"SECRET": 1, "SECRET": 2}', "duplicate_field", '{"***": 1, "***": 2}'),
        ("kept", b'{"secret": "SECRET", "symbol": {{ticker}}}', "unfilled_placeholder",
         '{"secret": "***", "symbol": {{ticker}}}'),
        ("kept", b'{"api_key": "FOREIGN", "secret": "SECRET", "size": 0,1}', "not_json",
         '{"api_key": "***", "secret": "***", "size": 0,1}'),
        ("kept", b'{"secret": "SECRET", "symbol": "ES1!", "action": "buy"}', "wrong_market",
         '{"secret":"***","symbol":"ES1!","action":"buy"}'),
        ("kept", b'{"secret": "SECRET", "symbol": "?SECRET", "action": "buy"}', "bad_symbol",
         '{"secret":"***","symbol":"?***","action":"buy"}'),
    ],
)  # fmt: skip
async def test_what_an_authenticated_sender_sent_is_kept_without_its_secrets(
    anyone: httpx.AsyncClient, viewer: httpx.AsyncClient, secret: str, path: str, body: bytes, code: str, kept: str
) -> None:
    raw = body.replace(b"SECRET", secret.encode()).replace(b"FOREIGN", FOREIGN.encode())
    headers = {"content-type": "text/plain"}
    answer = await anyone.post("/webhook/" + path.replace("SECRET", secret), content=raw, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    found = await latest(viewer)
    assert found.keys() == {
        *("id", "strategy", "code", "reason", "field", "body", "body_bytes", "content_type", "source", "received_at")
    }
    assert (found["strategy"], found["code"], found["body"]) == ("kept", code, kept.replace("FOREIGN", FOREIGN))
    assert found["body_bytes"] == len(raw)
    assert (found["content_type"], found["source"]) == ("text/plain", "127.0.0.1")
    assert found["reason"] == answer.json()["detail"].replace(secret, "***")
    assert found["field"] in (None, answer.json().get("field", "").replace(secret, "***"))
    assert secret not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("kept", b""),
        ("kept", b"{"),
        ("kept", b'{"secret": "wrong", "symbol": {{ticker}}}'),
        ("kept", b'{"note": "SECRET", "symbol": {{ticker}}}'),
        ("kept/wrong", b'{"secret": "SECRET", "symbol": {{ticker}}}'),
        ("kept/wrong", b'{"secret": "SECRET", "symbol": "?"}'),
        ("kept", b'{"secret": "wrong", "symbol": "?"}'),
        ("unknown", b'{"secret": "SECRET", "symbol": "?"}'),
        ("unknown/SECRET", b"{"),
    ],
)
async def test_of_strangers_nothing_is_kept_or_said(
    anyone: httpx.AsyncClient,
    resources: Resources,
    secret: str,
    caplog: pytest.LogCaptureFixture,
    path: str,
    body: bytes,
) -> None:
    before = await count(resources)
    caplog.clear()
    answer = await anyone.post(
        "/webhook/" + path.replace("SECRET", secret), content=body.replace(b"SECRET", secret.encode())
    )
    assert answer.status_code in (401, 422)
    assert await count(resources) == before
    assert not [record for record in caplog.records if record.name == "receive"]


async def test_the_same_id_with_another_body_is_kept_too(
    anyone: httpx.AsyncClient, viewer: httpx.AsyncClient, secret: str
) -> None:
    body = {"secret": secret, "id": str(uuid4()), "symbol": "BTCUSDT", "action": "close"}
    assert (await anyone.post("/webhook/kept", json=body)).status_code == 202
    answer = await anyone.post("/webhook/kept", json=body | {"note": "other"})
    assert answer.status_code == 409
    found = await latest(viewer)
    assert found["code"] == "key_conflict"
    assert json.loads(found["body"])["note"] == "other"


async def test_an_explanation_is_not_kept(anyone: httpx.AsyncClient, resources: Resources, secret: str) -> None:
    before = await count(resources)
    assert (await anyone.post(f"/webhook/kept/{secret}/explain", content=b"{")).status_code == 200
    assert await count(resources) == before


async def test_of_a_long_body_the_beginning_is_kept(
    anyone: httpx.AsyncClient, viewer: httpx.AsyncClient, secret: str
) -> None:
    raw = b"{" + b"\xc3\xa4" * 30_000
    assert (await anyone.post(f"/webhook/kept/{secret}", content=raw)).status_code == 422
    found = await latest(viewer)
    assert found["body"] == ("{" + "\u00e4" * 30_000)[: keeping.BODY_LENGTH_MAX]
    assert found["body_bytes"] == len(raw)


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [Broken(), OSError()], ids=["a bug", "no database"])
@pytest.mark.parametrize("body", [b"{", b'{"symbol": "?"}'], ids=["not opened", "not read"])
async def test_if_it_cannot_be_kept_only_the_log_tells(
    anyone: httpx.AsyncClient,
    resources: Resources,
    secret: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    body: bytes,
) -> None:
    async def fail(*_: object) -> None:
        raise error

    before = await count(resources)
    monkeypatch.setattr(rejected, "keep", fail)
    caplog.set_level(logging.WARNING, "receive")
    answer = await anyone.post(f"/webhook/kept/{secret}", content=body)
    assert answer.status_code == 422
    assert await count(resources) == before
    assert [record.message for record in caplog.records if record.name == "receive"] == [
        "alert rejected",
        "what was rejected could not be kept",
    ]


async def test_the_answer_does_not_wait_for_a_slow_database(
    anyone: httpx.AsyncClient, viewer: httpx.AsyncClient, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, done = asyncio.Event(), asyncio.Event()
    keep = rejected.keep

    async def slow(connection: Any, one: Rejected) -> None:
        await may_go_on.wait()
        await keep(connection, one)
        done.set()

    monkeypatch.setattr(rejected, "keep", slow)
    monkeypatch.setattr(keeping, "WAIT_S", 0.01)
    assert (await anyone.post(f"/webhook/kept/{secret}", content=b"[slow]")).status_code == 422
    may_go_on.set()
    await done.wait()
    assert (await latest(viewer))["body"] == "[slow]"


def one(strategy: str, **more: Any) -> Rejected:
    return Rejected(
        id=new_id(), strategy_id=strategy, code="not_json", reason="r", field=None, body="", body_bytes=0,
        content_type="", source="", received_at=more["received_at"],
    )  # fmt: skip


async def test_the_newest_hundred_of_a_strategy_are_kept_for_thirty_days(
    viewer: httpx.AsyncClient, resources: Resources
) -> None:
    pool = resources.pool
    for name in ("many", "old"):
        await rows.strategy(pool, name)
    now = await pool.fetchval("SELECT now()")
    ids = []
    for _ in range(rejected.KEPT_MAX + 3):
        new = one("many", received_at=now)
        ids.append(str(new.id))
        await rejected.keep(pool, new)
    ids.sort(reverse=True)  # those of one millisecond are in no order
    first = (await viewer.get("/alerts/rejected", params={"strategy": "many", "limit": 60})).json()
    params = {"strategy": "many", "limit": 60, "cursor": first["next"]}
    second = (await viewer.get("/alerts/rejected", params=params)).json()
    seen = [item["id"] for page in (first, second) for item in page["items"]]
    assert len(seen) == rejected.KEPT_MAX
    assert seen == sorted(seen, reverse=True)
    assert set(seen[:50]) <= set(ids)
    assert second["next"] is None

    aged = await pool.fetchval("SELECT now() - interval '30 days 1 second'")
    await rejected.keep(pool, one("old", received_at=aged))
    await rejected.keep(pool, one("old", received_at=now))
    assert len((await viewer.get("/alerts/rejected", params={"strategy": "old"})).json()["items"]) == 1
    assert await rejected.forget(pool) == 1
    assert await pool.fetchval("SELECT count(*) FROM rejected_alerts WHERE strategy_id = 'old'") == 1


async def test_a_cursor_that_is_none_is_refused(viewer: httpx.AsyncClient) -> None:
    answer = await viewer.get("/alerts/rejected?cursor=OTk5OQ")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")
