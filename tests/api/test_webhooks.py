import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from arq.connections import ArqRedis

from app import queue
from app.api import webhooks
from app.flows.door import Delivery
from app.queue import Rung, open_redis, wait_for_ring
from app.resources import Resources, open_resources
from app.store.accounts import Environment, VenueName, create
from app.store.db import transaction
from tests.api.conftest import make_settings, serving
from tests.support.servers import Servers


@pytest.fixture(scope="module")
async def secret(admin: httpx.AsyncClient, resources: Resources) -> str:
    from app.keys import Credentials

    async with transaction(resources.pool) as db:
        account = await create(
            db, resources.keys, name="sim", venue=VenueName.BYBIT, environment=Environment.SIMULATOR,
            credentials=Credentials(api_key="k", api_secret="s"),
        )  # fmt: skip
    made = await admin.post(
        "/strategies", json={"name": "Hooked", "id": "hooked", "accounts": [{"account": str(account.id)}]}
    )
    assert made.status_code == 201, made.text
    return str(made.json()["secret"])


def alert(secret: str, **more: object) -> dict[str, object]:
    return {"secret": secret, "id": str(uuid4()), "symbol": "BYBIT:BTCUSDT.P", "action": "close"} | more


async def count(resources: Resources) -> int:
    found: int = await resources.pool.fetchval("SELECT count(*) FROM alerts")
    return found


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", "nonsense", None])
async def test_an_alert_is_stored_before_it_is_accepted_whatever_its_content_type(
    anyone: httpx.AsyncClient, resources: Resources, secret: str, content_type: str | None
) -> None:
    body = httpx.Request("POST", "http://x", json=alert(secret)).content
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await anyone.post("/webhook/hooked", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json().keys() == {"alert_id", "status"}
    assert answer.json()["status"] == "accepted"
    row = await resources.pool.fetchrow("SELECT * FROM alerts WHERE id = $1", UUID(answer.json()["alert_id"]))
    assert row["content_type"] == (content_type or "")
    assert row["source"] == "127.0.0.1"
    assert secret not in row["body"]


async def test_the_same_alert_again_is_a_duplicate(anyone: httpx.AsyncClient, secret: str) -> None:
    body = alert(secret)
    first = await anyone.post("/webhook/hooked", json=body)
    second = await anyone.post("/webhook/hooked", json=body)
    assert second.status_code == 200
    assert second.json() == {"alert_id": first.json()["alert_id"], "status": "duplicate"}


async def test_the_same_id_with_another_body_is_a_conflict(anyone: httpx.AsyncClient, secret: str) -> None:
    body = alert(secret)
    await anyone.post("/webhook/hooked", json=body)
    answer = await anyone.post("/webhook/hooked", json=body | {"comment": "other"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "key_conflict"


async def test_alerts_at_the_same_time_are_each_answered_for_themselves(
    anyone: httpx.AsyncClient, resources: Resources, secret: str
) -> None:
    before = await count(resources)
    twice, nameless = alert(secret), {"secret": secret, "symbol": "BTCUSDT", "action": "close", "comment": str(uuid4())}
    bodies = [alert(secret), twice, nameless, alert("wrong"), twice, alert(secret, symbol="???"), nameless]
    bodies += [twice | {"comment": "other"}, *(alert(secret) for _ in range(20))]
    answers = await asyncio.gather(
        *(anyone.post("/webhook/hooked", json=body) for body in bodies), anyone.post("/webhook/%00", json=twice)
    )
    told = [answer.status_code for answer in answers]
    assert (told[0], told[3], told[5], set(told[8:-1])) == (202, 401, 422, {202})
    assert told[-1] >= 400
    assert sorted([told[2], told[6]]) == [200, 202]
    same_id = sorted([told[1], told[4], told[7]])
    assert same_id in ([200, 202, 409], [202, 409, 409]), "by which of the two bodies came first"
    ids = {answer.json()["alert_id"] for answer in answers if answer.status_code < 300}
    assert await count(resources) == before + 23 == before + len(ids)


async def test_the_secret_may_stand_in_the_path(anyone: httpx.AsyncClient, secret: str) -> None:
    body = alert(secret)
    del body["secret"]
    assert (await anyone.post(f"/webhook/hooked/{secret}", json=body)).status_code == 202
    assert (await anyone.post("/webhook/hooked/wrong", json=alert(secret))).status_code == 401


async def test_a_wrong_secret_and_an_unknown_strategy_look_the_same(
    anyone: httpx.AsyncClient, resources: Resources, secret: str
) -> None:
    before = await count(resources)
    answers = [
        await anyone.post("/webhook/hooked", json=alert("wrong")),
        await anyone.post("/webhook/unknown", json=alert(secret)),
        await anyone.post("/webhook/hooked", json={"symbol": "BTCUSDT", "action": "close"}),
        await anyone.post("/webhook/unknown/x", json=alert(secret)),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert await count(resources) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a":NaN}', b"[" * 30_000])
async def test_what_cannot_be_read_is_refused_with_a_reason(
    anyone: httpx.AsyncClient, resources: Resources, secret: str, body: bytes
) -> None:
    before = await count(resources)
    answer = await anyone.post(f"/webhook/hooked/{secret}", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert await count(resources) == before


async def test_a_field_that_cannot_be_used_is_named(anyone: httpx.AsyncClient, secret: str) -> None:
    answer = await anyone.post("/webhook/hooked", json=alert(secret, symbol="???"))
    assert answer.status_code == 422
    assert answer.json()["code"] == "bad_symbol"
    assert answer.json()["field"] == "symbol"


async def test_what_was_mended_is_said_and_the_secret_of_a_text_is_not_stored(
    anyone: httpx.AsyncClient, resources: Resources, secret: str
) -> None:
    text = json.dumps(alert(secret)).removesuffix("}") + ",} // bye"
    answer = await anyone.post("/webhook/hooked", content=text.encode())
    assert answer.status_code == 202, answer.text
    assert answer.json()["repairs"] == ["left out // comments", "left out a comma before a closing bracket"]

    text = f"SYMBOL=BTCUSDT\nSIGNAL=SELL\nREDUCE_ONLY=true\nVOLUME=100p%\nTOKEN={secret}\nTAG={uuid4()}"
    answer = await anyone.post("/webhook/hooked", content=text.encode())
    assert answer.status_code == 202, answer.text
    row = await resources.pool.fetchrow("SELECT * FROM alerts WHERE id = $1", UUID(answer.json()["alert_id"]))
    assert row["format"] == "octobot"
    assert row["signal"]["action"] == "close_long"
    assert secret not in row["body"]
    assert "VOLUME=100p%" in row["body"]


async def test_an_alert_of_another_service_takes_side_and_symbol_from_the_strategy(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, resources: Resources
) -> None:
    made = await admin.post(
        "/strategies",
        json={"name": "Bot", "id": "bot", "format": "gainium", "defaults": {"symbol": "SOLUSDT.P", "side": "short"}},
    )
    assert made.status_code == 201, made.text
    path = f"/webhook/bot/{made.json()['secret']}"
    answer = await anyone.post(path, json={"action": "startDeal", "uuid": "b0"})
    assert answer.status_code == 202, answer.text
    row = await resources.pool.fetchrow("SELECT * FROM alerts WHERE id = $1", UUID(answer.json()["alert_id"]))
    assert (row["signal"]["symbol"], row["signal"]["action"]) == ("SOLUSDT", "open_short")
    # Two orders in one body are one alert; if one of them can't be read, nothing is stored.
    body = [{"action": "exitShort", "uuid": "b0"}, {"action": "enterLong", "uuid": "b0"}]
    answer = await anyone.post(path, json=body)
    assert answer.status_code == 202, answer.text
    shown = (await admin.get(f"/alerts/{answer.json()['alert_id']}")).json()
    assert shown["signal"]["action"] == "close_short"
    assert [one["action"] for one in shown["more_signals"]] == ["open_long"]
    before = await count(resources)
    answer = await anyone.post(path, json=[body[0], {"action": "addFunds", "uuid": "b0"}])
    assert (answer.status_code, answer.json()["code"]) == (422, "missing_field")
    assert await count(resources) == before


async def test_an_opening_from_the_future_is_refused(anyone: httpx.AsyncClient, secret: str) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    answer = await anyone.post("/webhook/hooked", json=alert(secret, action="buy", time=ahead))
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "time_in_future", "time")
    answer = await anyone.post("/webhook/hooked", json=alert(secret, time=ahead))
    assert answer.status_code == 202


async def test_a_body_of_exactly_64_kib_is_read(anyone: httpx.AsyncClient, secret: str) -> None:
    body = httpx.Request("POST", "http://x", json=alert(secret)).content
    assert (await anyone.post("/webhook/hooked", content=body.ljust(65_536))).status_code == 202
    answer = await anyone.post("/webhook/hooked", content=body.ljust(65_537))
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


async def test_a_chunked_body_is_cut_off_at_64_kib(anyone: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    assert (await anyone.post("/webhook/hooked", content=chunks())).status_code == 413


async def raw(base_url: str, request: bytes) -> bytes:
    """Send bytes as they are and answer the status line, without ever finishing the body."""
    host, port = base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_413_comes_before_the_body(base_url: str) -> None:
    head = b"POST /webhook/hooked HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000000\r\n\r\n"
    assert b" 413 " in await raw(base_url, head)


async def test_413_comes_before_the_end_of_a_chunked_body(base_url: str) -> None:
    head = b"POST /webhook/hooked HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert b" 413 " in await raw(base_url, head + b"10001\r\n" + b" " * 0x10001 + b"\r\n")


@pytest.mark.parametrize("length", [b"-1", b"x", b"1, 2"])
async def test_a_content_length_that_is_none_is_refused(base_url: str, length: bytes) -> None:
    request = b"POST /webhook/hooked HTTP/1.1\r\nhost: x\r\ncontent-length: " + length + b"\r\n\r\n"
    assert b" 400 " in await raw(base_url, request)


async def test_a_body_that_never_comes_is_answered_503_in_time(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "HANDLER_TIMEOUT_S", 0.05)
    head = b"POST /webhook/hooked HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
    assert b" 503 " in await raw(base_url, head)


async def test_a_slow_store_is_answered_503_in_time(
    anyone: httpx.AsyncClient, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(resources: Resources, delivery: Delivery) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(webhooks, "HANDLER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(webhooks, "take_in", slow)
    answer = await anyone.post("/webhook/hooked", json=alert(secret))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["code"] == "unavailable"


def test_the_time_limit_lies_below_the_senders_patience() -> None:
    assert webhooks.HANDLER_TIMEOUT_S == 2.5


async def test_without_redis_alerts_are_still_accepted(
    resources: Resources, running_servers: Servers, module_database_url: str, secret: str
) -> None:
    settings = make_settings(module_database_url, "redis://127.0.0.1:1/0")
    async with open_resources(settings) as crippled, serving(crippled) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            assert (await client.post("/webhook/hooked", json=alert(secret))).status_code == 202


async def test_an_alert_rings_for_a_worker(anyone: httpx.AsyncClient, redis_url: str, secret: str) -> None:
    redis: ArqRedis = open_redis(redis_url)
    try:
        alert_id = (await anyone.post("/webhook/hooked", json=alert(secret))).json()["alert_id"]
        rung = await wait_for_ring(redis, 5)
        while rung is not None and rung.job_id != alert_id:
            rung = await wait_for_ring(redis, 5)
        assert rung is not None
        jobs = await redis.queued_jobs()
    finally:
        await redis.aclose(close_connection_pool=True)
    assert alert_id in {job.job_id for job in jobs}


async def test_nobody_waits_for_a_redis_that_hangs(
    anyone: httpx.AsyncClient, resources: Resources, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def stuck(jobs: Sequence[Rung]) -> None:
        await answered.wait()

    monkeypatch.setattr(queue, "RING_TIMEOUT_S", 60.0)
    monkeypatch.setattr(resources.bell, "_enqueue", stuck)
    assert (await anyone.post("/webhook/hooked", json=alert(secret))).status_code == 202
    answered.set()


async def test_a_rotated_secret_holds_for_the_overlap_only(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, resources: Resources
) -> None:
    first = (await admin.post("/strategies", json={"name": "Turning"})).json()["secret"]
    second = (await admin.post("/strategies/turning/secrets")).json()["secret"]
    for secret in (first, second):
        assert (await anyone.post("/webhook/turning", json=alert(secret))).status_code == 202
    third = (await admin.post("/strategies/turning/secrets", json={"overlap_s": 0})).json()["secret"]
    for secret in (first, second):
        assert (await anyone.post("/webhook/turning", json=alert(secret))).status_code == 401
    assert (await anyone.post("/webhook/turning", json=alert(third))).status_code == 202


async def test_what_an_alert_would_do_is_told_and_not_done(
    anyone: httpx.AsyncClient, resources: Resources, secret: str
) -> None:
    before = await count(resources)
    for path, body in (("hooked", alert(secret)), (f"hooked/{secret}", alert("x" * 20))):
        answer = await anyone.post(f"/webhook/{path}/explain?held=flat", json=body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told.keys() >= {"format", "repairs", "legs", "checks", "verdict"}
        assert secret not in answer.text
    assert (await anyone.post("/webhook/hooked/explain", json=alert("wrong"))).status_code == 401
    assert (await anyone.post("/webhook/nobody/explain", json=alert(secret))).status_code == 401
    assert await count(resources) == before


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("held=up:1", "bad_held", "held"),
        ("held=long", "bad_number", "held"),
        ("held=long:-1", "bad_number", "held"),
        ("held=flat:1", "bad_held", "held"),
        ("at=yesterday", "bad_time", "at"),
    ],
)
async def test_a_question_that_cannot_be_read_is_refused(
    anyone: httpx.AsyncClient, secret: str, query: str, code: str, field: str
) -> None:
    answer = await anyone.post(f"/webhook/hooked/explain?{query}", json=alert(secret))
    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)
