"""The doorbell: rings leave together, nobody waits for them, and a Redis that is stuck is not rung for ever."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from app.queue import WAKES_MAX, Doorbell, Rung

ACCOUNT = UUID(int=1)


class Rings(Doorbell):
    """Notes each ring, and is stuck until it is let on."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None))
        self.rung: list[str] = []
        self.on = asyncio.Event()

    async def _enqueue(self, jobs: Sequence[Rung]) -> None:
        await self.on.wait()
        self.rung += [job.args[1] for job in jobs]


@pytest.fixture
async def bell() -> Rings:
    return Rings()


async def test_the_last_rings_leave_before_it_is_closed(bell: Rings) -> None:
    bell.book(ACCOUNT, "BTCUSDT", "first")
    await asyncio.sleep(0)
    bell.book(ACCOUNT, "ETHUSDT", "waits behind it")
    bell.on.set()
    await bell.close()
    assert bell.rung == ["BTCUSDT", "ETHUSDT"]


async def test_a_stuck_redis_is_left_to_the_sweep(bell: Rings) -> None:
    bell.book(ACCOUNT, "first", "")
    await asyncio.sleep(0)
    for number in range(WAKES_MAX + 1):
        bell.book(ACCOUNT, str(number), "")
    bell.on.set()
    await bell.close()
    assert bell.rung == ["first", *map(str, range(WAKES_MAX))]
