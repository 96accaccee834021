"""Health as numbers: each line as Prometheus reads it, nothing of accounts."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from app.domain.shards import LEASES
from app.ids import new_id
from app.queue import FEEDS, FEEDS_OF
from app.resources import Resources
from app.store import leases
from tests.api.test_health import followed

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\})? (-?[0-9.e+-]+|nan)')


@pytest.fixture
async def told(resources: Resources) -> AsyncIterator[None]:
    """Two watchers, one of which has something to tell."""
    ids = new_id(), new_id()
    for one in ids:
        await leases.acquire(resources.pool, f"watching:{one}", one, ttl_s=60)
    await leases.acquire_all(resources.pool, LEASES, ids[0], ttl_s=60)
    await resources.redis.delete(FEEDS)
    quiet = followed(symbol="ETHUSDT", age_ms=None, ticks_per_s=0.0, fires=None, linked=False)
    await resources.prices.put_feeds("a", [followed(), quiet])
    yield
    await resources.pool.execute("TRUNCATE leases")
    await resources.redis.delete(FEEDS, f"{FEEDS_OF}a")


async def scraped(client: httpx.AsyncClient) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    lines = answer.text.splitlines()
    samples = [SAMPLE.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(samples), lines
    found = {f"{one[1]}{{{one[2] or ''}}}": float(one[3]) for one in samples if one is not None}
    assert len(found) == len(samples), "no series twice"
    named = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert {name.split("{")[0] for name in found} <= named
    return found


@pytest.mark.usefixtures("told")
async def test_each_symbol_and_part_is_told_as_numbers(anyone: httpx.AsyncClient) -> None:
    found = await scraped(anyone)
    btc, eth = (
        f'market="bybit https://api.bybit.com",symbol="{symbol}",watcher="a"' for symbol in ("BTCUSDT", "ETHUSDT")
    )
    assert found == {
        'levelhead_up{part="database"}': 1,
        'levelhead_up{part="redis"}': 1,
        'levelhead_up{part="worker"}': 0,
        'levelhead_up{part="watcher"}': 1,
        'levelhead_up{part="feeds"}': 0,
        "levelhead_workers{}": 0,
        "levelhead_watchers{}": 2,
        f"levelhead_feed_linked{{{btc}}}": 1,
        f"levelhead_feed_linked{{{eth}}}": 0,
        f"levelhead_feed_age_seconds{{{btc}}}": 0.04,
        f"levelhead_armed_levels{{{btc}}}": 3,
        f"levelhead_armed_levels{{{eth}}}": 3,
        f"levelhead_ticks_per_second{{{btc}}}": 12.5,
        f"levelhead_ticks_per_second{{{eth}}}": 0,
        f"levelhead_fires{{{btc}}}": 2,
        f"levelhead_fires{{{eth}}}": 0,
        f'levelhead_fire_latency_seconds{{{btc},quantile="0.5"}}': 0.00025,
        f'levelhead_fire_latency_seconds{{{btc},quantile="0.99"}}': 0.0015,
    }


async def test_a_name_that_would_break_a_line_does_not(anyone: httpx.AsyncClient, resources: Resources) -> None:
    await resources.prices.put_feeds("a", [followed(symbol='A"B\\C\nD')])
    found = await scraped(anyone)
    assert any('symbol="A\\"B\\\\C\\nD"' in name for name in found)
    await resources.redis.delete(FEEDS, f"{FEEDS_OF}a")
