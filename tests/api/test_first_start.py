import logging
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.resources import Resources, open_resources
from app.settings import Settings
from app.store import accounts
from app.up import first_start
from app.up.first_start import ConnectionInfo
from tests.api.conftest import make_settings, serving

SIMULATOR = "http://127.0.0.1:1"


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return make_settings(database_url, redis_url)


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    async with open_resources(settings) as opened:
        yield opened


@pytest.fixture
async def base_url(resources: Resources) -> AsyncIterator[str]:
    async with serving(resources) as url:
        yield url


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=10) as opened:
        yield opened


class Start:
    """One start of `up`: ensures, and writes the file as the caller does."""

    def __init__(self, settings: Settings, file: Path, base_url: str) -> None:
        self.settings, self.file, self.base_url = settings, file, base_url

    async def __call__(self, key: str = "key", secret: str = "secret", *, write: bool = True) -> ConnectionInfo:
        info = await first_start.ensure(self.settings, self.file, SIMULATOR, key, secret, self.base_url)
        if write:
            self.file.write_bytes(msgspec.json.encode(info))
        return info


@pytest.fixture
def start(settings: Settings, tmp_path: Path, base_url: str) -> Start:
    return Start(settings, tmp_path / "connection.json", base_url)


async def login(client: httpx.AsyncClient, info: ConnectionInfo) -> httpx.Response:
    return await client.post("/api/v1/auth/login", json={"email": info.admin_email, "password": info.admin_password})


async def post(client: httpx.AsyncClient, info: ConnectionInfo) -> int:
    body = msgspec.json.decode(first_start.example_alert(info, "BTCUSDT")) | {"id": str(uuid4())}
    return (await client.post(info.webhook_url, json=body)).status_code


async def test_the_first_start_makes_all_that_is_needed_to_trade(
    start: Start, client: httpx.AsyncClient, base_url: str
) -> None:
    info = await start()
    assert (info.url, info.webhook_url, info.simulator_url) == (base_url, f"{base_url}/webhook/demo", SIMULATOR)
    token = (await login(client, info)).json()["access_token"]
    client.headers["authorization"] = f"Bearer {token}"
    (account,) = (await client.get("/api/v1/accounts")).json()["items"]
    assert (account["name"], account["venue"], account["environment"]) == ("simulator", "bybit", "simulator")
    (strategy,) = (await client.get("/api/v1/strategies")).json()["items"]
    assert (strategy["id"], strategy["enabled"]) == ("demo", True)
    assert [share["account"] for share in strategy["accounts"]] == [account["id"]]
    assert await post(client, info) == 202


async def test_later_starts_change_nothing(start: Start, client: httpx.AsyncClient, resources: Resources) -> None:
    first = await start()
    before = await dump(resources)
    assert await start() == first
    assert await dump(resources) == before


async def dump(resources: Resources) -> list[str]:
    tables = ("users", "accounts", "strategies", "strategy_secrets", "strategy_accounts")
    return [str(await resources.pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")) for table in tables]


async def test_a_crash_before_the_file_was_written_is_made_good(start: Start, client: httpx.AsyncClient) -> None:
    await start(write=False)
    info = await start()
    assert (await login(client, info)).status_code == 200
    assert await post(client, info) == 202


@pytest.mark.parametrize("damage", ["gone", "cut off"])
async def test_a_lost_file_means_a_new_password_and_secret(
    start: Start, client: httpx.AsyncClient, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = await start()
    if damage == "gone":
        start.file.unlink()
    else:
        start.file.write_bytes(start.file.read_bytes()[:20])
    info = await start()
    assert info.admin_password != first.admin_password
    assert info.webhook_secret != first.webhook_secret
    assert (await login(client, first)).status_code == 401
    assert (await login(client, info)).status_code == 200
    assert await post(client, info) == 202
    assert await post(client, first) == 202  # the charts that know it have a day to change
    assert "new password" in caplog.text
    assert "new secret" in caplog.text
    for secret in (info.admin_password, info.webhook_secret, first.webhook_secret, first.admin_password):
        assert secret not in caplog.text + str([record.__dict__ for record in caplog.records])


async def test_a_secret_that_a_person_rotated_away_is_replaced_and_theirs_holds(
    start: Start, client: httpx.AsyncClient
) -> None:
    first = await start()
    token = (await login(client, first)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    rotated = await client.post("/api/v1/strategies/demo/secrets", json={"overlap_s": 0}, headers=headers)
    theirs = msgspec.structs.replace(first, webhook_secret=rotated.json()["secret"])
    assert await post(client, first) == 401
    info = await start()
    assert await post(client, info) == 202
    assert await post(client, theirs) == 202


async def test_what_a_person_removed_stays_removed(start: Start, client: httpx.AsyncClient) -> None:
    info = await start()
    client.headers["authorization"] = f"Bearer {(await login(client, info)).json()['access_token']}"
    (account,) = (await client.get("/api/v1/accounts")).json()["items"]
    assert (await client.delete("/api/v1/strategies/demo")).status_code == 204
    assert (await client.delete(f"/api/v1/accounts/{account['id']}")).status_code == 204
    await start()
    assert (await client.get("/api/v1/accounts")).json()["items"] == []
    assert (await client.get("/api/v1/strategies")).json()["items"] == []


async def test_the_account_gets_the_simulators_present_key(start: Start, resources: Resources) -> None:
    await start("old key", "old secret")
    await start("new key", "new secret")
    (row,) = await accounts.page(resources.pool, after=None, limit=10)
    stored = await accounts.credentials_of(resources.pool, resources.keys, row.id)
    assert (stored.api_key, stored.api_secret) == ("new key", "new secret")


async def test_a_disabled_admin_stays_disabled(start: Start, client: httpx.AsyncClient, resources: Resources) -> None:
    await start()
    await resources.pool.execute("UPDATE users SET disabled_at = now()")
    start.file.unlink()
    assert (await login(client, await start())).status_code == 401


async def test_the_sample_is_accepted_and_logged(
    start: Start, resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    info = await start()
    await first_start.post_sample(info, "ETHUSDT")
    row = await resources.pool.fetchrow("SELECT * FROM alerts")
    assert row["signal"]["symbol"] == "ETHUSDT"
    assert "sample alert was posted" in caplog.text
    assert info.webhook_secret not in str([record.__dict__ for record in caplog.records if record.name != "httpx"])


async def test_a_sample_that_fails_is_said_and_no_more(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    info = await start()
    await first_start.post_sample(msgspec.structs.replace(info, webhook_secret="wrong"), "BTCUSDT")
    assert "sample alert was refused" in caplog.text
    await first_start.post_sample(msgspec.structs.replace(info, webhook_url="http://127.0.0.1:1/"), "BTCUSDT")
    assert "could not be posted" in caplog.text


async def test_the_example_can_be_posted_as_it_is(start: Start, client: httpx.AsyncClient) -> None:
    info = await start()
    answer = await client.post(info.webhook_url, content=first_start.example_alert(info, "BTCUSDT"))
    assert answer.status_code == 202, answer.text
