"""One request's way through the faults, the same for a REST call and for an order over a socket."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from simulator.exchange import Exchange, Received
from simulator.faults import FaultKind, FaultOrder

T = TypeVar("T")


class Passage:
    def __init__(self, exchange: Exchange, entry: Received, symbol: str) -> None:
        self._exchange = exchange
        self._path, self._symbol, self._channel = entry.path, symbol, entry.channel

    def take(self, kind: FaultKind) -> FaultOrder | None:
        where = {"path": self._path, "symbol": self._symbol, "channel": self._channel}
        return self._exchange.faults.take(kind, self._exchange.now_s(), **where)

    async def answer(self, respond: Callable[[], T], failed: Callable[[FaultOrder], T]) -> T | None:
        """What is to be answered, or None: the connection is to be cut. `failed`: as the exchange's front answers."""
        if (delay := self.take(FaultKind.DELAY)) is not None:
            await asyncio.sleep((delay.ms or 0) / 1000)
        if self.take(FaultKind.DROP_REQUEST) is not None:
            return None
        failure = self._failure()
        if failure is not None and not failure.after:
            return failed(failure)
        response = respond()
        if (slow := self.take(FaultKind.DELAY_ANSWER)) is not None:
            self._exchange.flush()
            await asyncio.sleep((slow.ms or 0) / 1000)
        if self.take(FaultKind.DROP_ANSWER) is not None:
            self._exchange.flush()
            return None
        return response if failure is None else failed(failure)

    def _failure(self) -> FaultOrder | None:
        if self.take(FaultKind.MAINTENANCE) is not None:
            return FaultOrder(fault=FaultKind.HTTP_STATUS, status=503)
        return self.take(FaultKind.HTTP_STATUS)

    def execute(self, act: Callable[[], T], refusal: Callable[[int, str], Exception]) -> T:
        """Do it, unless a fault refuses it with a code of the exchange's: before, or after it was done."""
        fault = self.take(FaultKind.RET_CODE)
        if fault is not None and not fault.after:
            raise refusal(fault.code or 0, fault.msg)
        result = act()
        if fault is not None:
            raise refusal(fault.code or 0, fault.msg)
        return result
