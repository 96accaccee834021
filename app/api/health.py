"""Is it alive, and is every part of it there."""

import asyncio

import msgspec
from litestar import Controller, Response, get
from redis.exceptions import RedisError

from app.api.access import PUBLIC
from app.api.inject import Injected
from app.domain.shards import LEASES as SHARDS
from app.errors import StoreUnavailable
from app.queue import SymbolFeed
from app.resources import Resources
from app.store.db import UNAVAILABLE
from app.store.views import live_leases, reading

CHECK_TIMEOUT_S = 2.0
WORKER_LEASES = "worker:"
WATCHER_LEASES = "watching:"


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    ok: bool
    detail: str
    count: int | None = None
    """With `worker` and `watcher`: how many live."""
    symbols: list[SymbolFeed] | None = None
    """With `feeds`: how well each symbol that is followed is watched, and by which watcher."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    checks: dict[str, Check]


class Live(msgspec.Struct, frozen=True, kw_only=True):
    status: str = "ok"


class HealthController(Controller):
    path = "/health"
    tags = ("health",)
    opt = PUBLIC

    @get("/live")
    async def live(self) -> Live:
        """200 while the process answers at all."""
        return Live()

    @get("/ready")
    async def ready(self, resources: Injected) -> Response[Ready]:
        """200 when every part is there, else 503; the checks name what is missing."""
        checks = await look(resources)
        ok = all(check.ok for check in checks.values())
        return Response(Ready(status="ok" if ok else "unavailable", checks=checks), status_code=200 if ok else 503)


async def look(resources: Resources) -> dict[str, Check]:
    """Every part by its name."""
    found = await asyncio.gather(_processes(resources), _redis(resources), _feeds(resources))
    return {name: check for part in found for name, check in part.items()}


async def _processes(resources: Resources) -> dict[str, Check]:
    """The database, and by their leases in it the processes beside us."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S), reading(resources.pool) as connection:
            leases = await live_leases(connection)
    except (StoreUnavailable, *UNAVAILABLE):
        unknown = Check(ok=False, detail="unknown while the database does not answer")
        return {
            "database": Check(ok=False, detail="does not answer: alerts are refused with 503 until it does"),
            "worker": unknown,
            "watcher": unknown,
        }
    workers = sum(name.startswith(WORKER_LEASES) for name in leases)
    return {
        "database": Check(ok=True, detail="answers"),
        "worker": Check(
            ok=workers > 0,
            count=workers,
            detail=f"{workers} at work" if workers else "none: alerts are kept, and wait until one starts",
        ),
        "watcher": _watchers(leases),
    }


def _watchers(leases: set[str]) -> Check:
    """By the leases under which the symbols are shared out; who watches has some of them."""
    count, free = sum(name.startswith(WATCHER_LEASES) for name in leases), len(set(SHARDS) - leases)
    if not free:
        detail = f"{count} at work, all symbols are followed"
    elif free == len(SHARDS):
        detail = "none: only the stops at the exchanges protect what is open"
    else:
        detail = (
            f"{count} at work, but nobody follows {free} of {len(SHARDS)} parts of the symbols: only the stops at the "
            "exchanges protect what is open there"
        )
    return Check(ok=not free, detail=detail, count=count)


async def _redis(resources: Resources) -> dict[str, Check]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await resources.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return {"redis": Check(ok=False, detail="does not answer: alerts are accepted, but carried out later")}
    return {"redis": Check(ok=True, detail="answers")}


async def _feeds(resources: Resources) -> dict[str, Check]:
    """A link that is lost is a fault; a market in which nobody trades is not."""
    feeds = await resources.prices.feeds()
    lost = [feed.symbol for feed in feeds if not feed.linked]
    if lost:
        detail = f"the stream is lost for {', '.join(lost)}: prices are asked for one by one"
    else:
        watchers = len({feed.watcher for feed in feeds})
        detail = f"{len(feeds)} symbols followed" + (f" by {watchers} watchers" if watchers > 1 else "")
    return {"feeds": Check(ok=not lost, detail=detail, symbols=feeds)}
