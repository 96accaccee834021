"""The PostgreSQL and Redis that tests run against: real ones if named in the environment, else embedded ones."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from app.up import postgres, redis
from app.up.datadir import DataDir
from app.up.orphans import Pids
from app.up.supervisor import Supervisor

MEMORY_MIN = 2 * 1024**3


class Servers(msgspec.Struct, frozen=True):
    database_url: str
    """An administrator's URL: databases are made through it."""
    redis_url: str


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Yield the servers named by LEVELHEAD_TEST_DATABASE_URL and LEVELHEAD_TEST_REDIS_URL; start what isn't named."""
    database_url = os.environ.get("LEVELHEAD_TEST_DATABASE_URL")
    redis_url = _for_this_process(os.environ.get("LEVELHEAD_TEST_REDIS_URL"))
    with tempfile.TemporaryDirectory(prefix="levelhead-test-", dir=_in_memory()) as folder:
        place = DataDir(Path(folder))
        place.make()
        async with Supervisor(pids=Pids(place.pids), say=lambda line: None) as supervisor:
            started = []
            if not database_url:
                data, log = place.postgres, place.logs / "postgres.log"
                await postgres.prepare(data=data, sockets=place.sockets, log=log, durable=False)
                started.append(postgres.service(data=data, sockets=place.sockets, log=log, durable=False))
            if not redis_url:
                log = place.logs / "redis.log"
                started.append(redis.service(data=place.redis, sockets=place.sockets, log=log, durable=False))
            await supervisor.start(*started)
            yield Servers(
                database_url or place.database_url().reveal(),
                redis_url or place.redis_url().reveal(),
            )


def _in_memory() -> Path | None:
    """A disk of memory with room for them, where there is one: a copied database takes a fifth of the time there."""
    shm = Path("/dev/shm")
    roomy = os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > MEMORY_MIN
    return shm if roomy else None


def _for_this_process(redis_url: str | None) -> str | None:
    """A numbered database of a real server: tests empty theirs, and pytest-xdist runs several processes."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if redis_url is None or worker is None:
        return redis_url
    return urlunsplit(urlsplit(redis_url)._replace(path="/" + worker.removeprefix("gw")))
