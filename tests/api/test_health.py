from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from app.ids import new_id
from app.keys import Keys
from app.queue import SymbolFeed, open_redis
from app.resources import Resources, open_resources, utc_now
from app.store import leases
from tests.api.conftest import MASTER_KEY, make_settings, serving
from tests.support.servers import Servers


@pytest.fixture
async def processes(resources: Resources) -> AsyncIterator[None]:
    await leases.acquire(resources.pool, "watcher", new_id(), ttl_s=60)
    await leases.acquire(resources.pool, f"worker:{uuid4()}", new_id(), ttl_s=60)
    yield
    await resources.pool.execute("TRUNCATE leases")


async def test_live_is_200_always(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.usefixtures("processes")
async def test_ready_when_all_is_there(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/health/ready")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ok"
    assert answer.json()["checks"].keys() == {"database", "redis", "worker", "watcher", "feeds"}
    assert all(check["ok"] and check["detail"] for check in answer.json()["checks"].values())


@pytest.mark.usefixtures("processes")
async def test_ready_names_each_symbol_that_is_followed(anyone: httpx.AsyncClient, resources: Resources) -> None:
    feed = SymbolFeed(symbol="BTCUSDT", linked=True, age_ms=40, levels=3)
    await resources.prices.put_feeds([feed])
    answer = await anyone.get("/health/ready")
    assert answer.json()["checks"]["feeds"]["symbols"] == [msgspec.to_builtins(feed)]
    await resources.prices.put_feeds([msgspec.structs.replace(feed, linked=False)])
    answer = await anyone.get("/health/ready")
    assert answer.status_code == 503
    assert "BTCUSDT" in answer.json()["checks"]["feeds"]["detail"]
    await resources.prices.put_feeds([])


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(("pattern", "name"), [("watcher", "watcher"), ("worker:%", "worker")])
async def test_not_ready_when_a_lease_ran_out(
    anyone: httpx.AsyncClient, resources: Resources, pattern: str, name: str
) -> None:
    await resources.pool.execute("UPDATE leases SET expires_at = now() WHERE name LIKE $1", pattern)
    answer = await anyone.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert {check for check, found in answer.json()["checks"].items() if not found["ok"]} == {name}


@pytest.mark.usefixtures("processes")
async def test_not_ready_without_redis(module_database_url: str) -> None:
    settings = make_settings(module_database_url, "redis://127.0.0.1:1/0")
    async with open_resources(settings) as crippled, serving(crippled) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert {check for check, found in answer.json()["checks"].items() if not found["ok"]} == {"redis"}


async def test_without_postgresql_everything_but_live_is_503(running_servers: Servers) -> None:
    pool = asyncpg.create_pool("postgresql://127.0.0.1:1/x", min_size=0)
    redis = open_redis(running_servers.redis_url)
    settings = make_settings("postgresql://127.0.0.1:1/x", running_servers.redis_url)
    async with pool:
        resources = Resources(settings, pool, redis, Keys.from_text(MASTER_KEY), utc_now)
        async with serving(resources) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
            assert (await client.get("/health/live")).status_code == 200
            ready = await client.get("/health/ready")
            alert = await client.post("/webhook/x/y", json={"symbol": "BTCUSDT", "action": "close"})
            login = await client.post("/api/v1/auth/login", json={"email": "a", "password": "b"})
    await redis.aclose(close_connection_pool=True)
    assert ready.status_code == 503
    assert [name for name, found in ready.json()["checks"].items() if found["ok"]] == ["redis", "feeds"]
    for answer in (alert, login):
        assert answer.status_code == 503
        assert answer.json()["code"] == "unavailable"
        assert answer.headers["retry-after"] == "5"
