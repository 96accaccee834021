from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from app.domain.shards import LEASES
from app.ids import new_id
from app.keys import Keys
from app.queue import FEEDS, FEEDS_OF, FireLatency, SymbolFeed, open_redis
from app.resources import Resources, open_resources, utc_now
from app.store import leases
from tests.api.conftest import MASTER_KEY, make_settings, serving
from tests.support.servers import Servers


@pytest.fixture
async def processes(resources: Resources) -> AsyncIterator[None]:
    await leases.acquire_all(resources.pool, LEASES, new_id(), ttl_s=60)
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
    feeds = [followed(watcher="a", symbol="BTCUSDT"), followed(watcher="b", symbol="ETHUSDT", age_ms=None)]
    for feed in feeds:
        await resources.prices.put_feeds(feed.watcher, [feed])
    feeds_check = (await anyone.get("/health/ready")).json()["checks"]["feeds"]
    assert feeds_check == {
        "ok": True,
        "detail": "2 symbols followed by 2 watchers",
        "symbols": [msgspec.to_builtins(feed) for feed in feeds],
    }
    await resources.prices.put_feeds("a", [followed(watcher="a", symbol="BTCUSDT", linked=False)])
    answer = await anyone.get("/health/ready")
    assert answer.status_code == 503
    assert "BTCUSDT" in answer.json()["checks"]["feeds"]["detail"]
    for watcher in ("a", "b"):
        await resources.prices.put_feeds(watcher, [])


async def test_a_watcher_that_tells_nothing_more_is_forgotten(resources: Resources) -> None:
    await resources.redis.delete(FEEDS)
    await resources.prices.put_feeds("a", [followed(watcher="a", symbol="BTCUSDT")])
    assert [feed.watcher for feed in await resources.prices.feeds()] == ["a"]
    await resources.redis.delete(f"{FEEDS_OF}a")  # as when its time is over
    assert await resources.prices.feeds() == []
    assert not await resources.redis.exists(FEEDS)


def followed(**changes: Any) -> SymbolFeed:
    known: dict[str, Any] = {
        "watcher": "a", "market": "bybit https://api.bybit.com", "symbol": "BTCUSDT", "linked": True, "age_ms": 40,
        "levels": 3, "ticks_per_s": 12.5, "fires": FireLatency(count=2, p50_ms=0.25, p99_ms=1.5),
    }  # fmt: skip
    return SymbolFeed(**known | changes)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("pattern", "name"), [("watcher:%", "watcher"), ("watcher:07", "watcher"), ("worker:%", "worker")]
)
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
