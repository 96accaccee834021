"""What a dead process of this machine held is free at once; what is not surely dead keeps it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from app.ids import new_id
from app.store import leases
from app.store.db import Pool, open_pool
from workers.succession import free_leases_of_the_dead, has_died, own_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is known to be dead")

TELL = "from workers.succession import own_id; print(own_id(), flush=True); input()"
TTL_S = 60.0


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, size_max=2)
    yield pool
    pool.terminate()


@contextmanager
def another_process() -> Iterator[tuple[UUID, subprocess.Popen[str]]]:
    """One that lives, and its id."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", TELL], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield UUID(process.stdout.readline().strip()), process
        finally:
            process.kill()


def test_each_id_is_another_and_its_process_lives() -> None:
    first, second = own_id(), own_id()
    assert first != second
    assert not has_died(first)
    assert not has_died(second)


def test_a_process_is_dead_once_it_was_killed_even_while_nobody_has_reaped_it() -> None:
    with another_process() as (holder, process):
        assert not has_died(holder)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == "", "the end of its output: it runs no more, and we have not waited for it"
        while not has_died(holder):
            assert process.returncode is None
        process.wait()
        assert has_died(holder)


def test_of_another_machine_nobody_is_dead() -> None:
    with another_process() as (holder, process):
        process.kill()
        process.wait()
    elsewhere = UUID(int=holder.int ^ (1 << 127))
    assert has_died(holder)
    assert not has_died(elsewhere)


def test_an_id_that_names_no_process_is_never_dead() -> None:
    assert not has_died(new_id())


async def test_only_the_leases_of_the_dead_are_freed(pool: Pool) -> None:
    with another_process() as (dead, process):
        process.kill()
        process.wait()
    alive, unknown = own_id(), new_id()
    for name, holder in (("watcher", dead), ("worker:x", dead), ("reconciler", alive), ("account:y", unknown)):
        assert await leases.acquire(pool, name, holder, ttl_s=TTL_S) == 1
    await free_leases_of_the_dead(pool)
    successor = own_id()
    taken = {name: await leases.acquire(pool, name, successor, ttl_s=TTL_S) for name in ("watcher", "worker:x")}
    assert taken == {"watcher": 2, "worker:x": 2}, (
        "a greater token: what the dead one still had on its way writes nothing"
    )
    assert await leases.acquire(pool, "reconciler", successor, ttl_s=TTL_S) is None
    assert await leases.acquire(pool, "account:y", successor, ttl_s=TTL_S) is None
