"""What the sockets for orders of both exchanges share."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from simulator.exchange import Exchange, Received
from simulator.faults import TRADE
from simulator.hub import Hub, Link


class OrderLinks:
    """Each request is a task of its own: a late answer holds up no other, and what came is done if the link ends."""

    def __init__(self, exchange: Exchange) -> None:
        self.hub = Hub(exchange, TRADE)
        self._exchange = exchange
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answer(self, link: Link, entry: Received, frame: bytes) -> None:
        """The private frames of this request follow its answer."""
        entry.answered = self.hub.answer(link, frame)
        self._exchange.flush()
