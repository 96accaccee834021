"""The door itself: strangers cannot tell a strategy from none, nor put anything into a log or a table."""

import logging
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.flows import door
from app.keys import Keys, same
from app.resources import Resources
from app.store import signing


@pytest.fixture(scope="module")
async def secret(admin: httpx.AsyncClient) -> str:
    return str((await admin.post("/strategies", json={"name": "Door", "id": "door"})).json()["secret"])


ALERT = {"symbol": "BTCUSDT", "action": "close"}


@pytest.mark.parametrize("suffix", ["", "/wrong", "/explain", "/wrong/explain"])
@pytest.mark.parametrize(
    "body", [{}, {"secret": "wrong"}, {"secret": ""}, {"secret": None}, {"secret": 1}, {"secret": "\u00e4" * 50}, []]
)
async def test_a_stranger_cannot_tell_a_strategy_from_none(
    anyone: httpx.AsyncClient, resources: Resources, secret: str, suffix: str, body: object
) -> None:
    given = ALERT | body if isinstance(body, dict) else body
    tables = ("alerts", "alert_keys", "instructions", "rejected_alerts", "events")
    before = [await resources.pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    known, *others = [
        await anyone.post(f"/webhook/{name}{suffix}", json=given)
        for name in ("door", "nobody", "Door", "%00", "%ff", "%ed%a0%80", "d%C3%B6r", "x" * 300, "%20", "'; --")
    ]
    assert known.status_code in (401, 422)
    for answer in others:
        assert (answer.status_code, answer.text) == (known.status_code, known.text)
        assert {name: value for name, value in answer.headers.items() if name != "date"} == {
            name: value for name, value in known.headers.items() if name != "date"
        }
    assert [await resources.pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables] == before


async def test_a_stranger_costs_as_much_whatever_he_asks_for(
    anyone: httpx.AsyncClient, resources: Resources, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    live, secret_hash = signing.live, Keys.secret_hash

    async def keys(*args: Any) -> Any:
        asked.append("keys")
        return await live(*args)

    def hashed(self: Keys, text: str) -> bytes:
        asked.append("hash")
        return secret_hash(self, text)

    def compared(one: bytes, other: bytes) -> bool:
        asked.append("compare")
        return same(one, other)

    monkeypatch.setattr(signing, "live", keys)
    monkeypatch.setattr(Keys, "secret_hash", hashed)
    monkeypatch.setattr(door, "same", compared)
    for headers in ({}, {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}):
        seen = []
        for name in ("door", "nobody"):
            asked.clear()
            assert (await anyone.post(f"/webhook/{name}/wrong", json=ALERT, headers=headers)).status_code == 401
            seen.append(list(asked))
        assert seen[0] == seen[1]
        assert seen[0] == [*(["keys"] if headers else []), "hash", "compare"]


async def test_a_secret_has_256_bits_and_lies_as_a_hash_under_a_key_that_is_not_in_the_database(
    resources: Resources, secret: str
) -> None:
    assert len(secret) == 43
    [row] = await resources.pool.fetch("SELECT * FROM strategy_secrets WHERE strategy_id = 'door'")
    assert row["secret_hash"] == resources.keys.secret_hash(secret)
    assert row["secret_hash"] != Keys(bytes(32)).secret_hash(secret)
    assert secret.encode() not in b"".join(str(value).encode() for value in row.values())


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ({"note": "SECRET"}, 202),
        ({"secret": "SECRET", "comment": "the secret is SECRET!"}, 202),
        ({"passphrase": "SECRET", "deep": [{"token": "FOREIGN", "x": {"api_key": "FOREIGN"}}]}, 202),
        ({"SECRET": "a field named so"}, 202),
        ({"note": '{"password": "FOREIGN and more"}'}, 202),
        ({"note": "password = FOREIGN; token:FOREIGN"}, 202),
        ({"webhookToken": "FOREIGN", "user_password": ["FOREIGN"], "Key": {"a": "FOREIGN"}}, 202),
        ({"id": "SECRET"}, 202),
        ({"symbol": "SECRET"}, 422),
        ({"action": "SECRET"}, 422),
        ({"size": {"SECRET": 1}}, 422),
        ({"action": "buy", "stop_loss": {"pct": "SECRET"}}, 422),
        ({"time": "SECRET"}, 422),
    ],
)
async def test_no_secret_is_stored_or_logged_wherever_it_stands(
    anyone: httpx.AsyncClient,
    resources: Resources,
    secret: str,
    caplog: pytest.LogCaptureFixture,
    where: dict[str, object],
    status: int,
) -> None:
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    given = {"id": str(uuid4()), **ALERT, **where}
    raw = httpx.Request("POST", "http://x", json=given).content.decode()
    foreign = "another-services-own"
    raw = raw.replace("SECRET", secret).replace("FOREIGN", foreign)
    answer = await anyone.post(f"/webhook/door/{secret}", content=raw.encode())
    assert answer.status_code == status, answer.text
    tables = ("alerts", "alert_keys", "instructions", "rejected_alerts", "events")
    stored = [str(dict(row)) for table in tables for row in await resources.pool.fetch(f"SELECT * FROM {table}")]
    said = "\n".join([*stored, caplog.text, *(repr(record.__dict__) for record in caplog.records)])
    assert secret not in said
    assert foreign not in said
