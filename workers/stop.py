"""A clean stop: what was begun is finished, within a bound; the rest is resumed by the next process."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any


def heed_cancellation() -> None:
    """At the turn of every endless loop: raise CancelledError if the task was asked to end.

    `asyncio.wait_for` of Python 3.11, by which redis-py sends, swallows a cancellation that arrives together with its
    result (https://github.com/python/cpython/issues/86296); the loop would go on and its group wait for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these tasks and wait for their ends, so that none outlives the connections that it works with."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def until_asked_to_stop(main: Coroutine[Any, Any, None], drain: Callable[[], Awaitable[None]]) -> None:
    """Run `main` until SIGTERM or SIGINT, then `drain`, then cancel it. What `main` raises is raised."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    running = asyncio.create_task(main)
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await drain()
        running.cancel()
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await running
