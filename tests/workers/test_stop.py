"""A clean stop, also where a library swallows the cancellation."""

import asyncio
import os
import signal

import pytest

from workers.stop import heed_cancellation, until_asked_to_stop


async def test_a_swallowed_cancellation_is_heeded_at_the_next_turn() -> None:
    turns = 0

    async def loop() -> None:
        nonlocal turns
        while True:
            heed_cancellation()
            turns += 1
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue  # as `asyncio.wait_for` of Python 3.11 may do

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turns == 1


async def test_what_was_begun_is_finished_before_the_end() -> None:
    told: list[str] = []
    ready = asyncio.Event()

    async def main() -> None:
        ready.set()
        try:
            await asyncio.sleep(3600)
        finally:
            told.append("cancelled")

    async def drain() -> None:
        told.append("drained")

    running = asyncio.create_task(until_asked_to_stop(main(), drain))
    await ready.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert told == ["drained", "cancelled"]


async def test_what_fails_is_raised() -> None:
    async def main() -> None:
        raise ValueError("broken")

    async def drain() -> None:
        raise AssertionError("nothing to drain")

    with pytest.raises(ValueError, match="broken"):
        await until_asked_to_stop(main(), drain)
