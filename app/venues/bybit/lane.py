"""Threads for pybit, which knows no event loop: one connection each, kept warm."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from app.errors import Transient
from app.venues.bybit.http import BybitHttp
from app.venues.bybit.wire import Envelope
from app.venues.failures import Dropped, Limit, NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind

WARM_EVERY_S = 20.0  # well below the minute after which a front server closes an idle connection

Method = Callable[..., Envelope]
Answer = tuple[Envelope, Limit | None]


class Lane:
    """A thread with a connection of its own: requests of one lane keep their order, lanes don't wait for each other.

    What it sends beyond what it was told to, a second try or a look at the clock, it tells to `count`, in its thread.
    Before anything leaves `heed_ban` is asked there: it raises Transient when a ban came while the request waited.
    `may_send` is asked in the event loop's: whether there is room for a look at the clock that nobody waits for.
    """

    def __init__(
        self,
        http: BybitHttp,
        name: str,
        *,
        count: Callable[[], None],
        may_send: Callable[[], bool],
        heed_ban: Callable[[], None],
    ) -> None:
        self.http = http
        self._count = count
        self._heed_ban = heed_ban
        self._may_send = may_send
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"bybit-{name}")
        self._used_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    async def write(self, method: Method, params: dict[str, object], *, signed_ms: int | None = None) -> Answer:
        """Send once, whatever happens. Raises VenueSaid, NotSent or NoAnswer.

        With `signed_ms` (our clock) the request is as old as that, and not sent when its window is over.
        """
        work = partial(self._write_signed, method, params, signed_ms)
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._used_at = time.monotonic()
        self.keep_warm()
        return await future

    async def read(self, method: Method, params: dict[str, object]) -> Answer:
        """Send, and once more where that is the cure: the clock was off, or an idle connection had been closed."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(self._read, method, params))

    def keep_warm(self) -> None:
        """Have a connection ready from now on: a new one costs an order three round trips. Measures the clock too."""
        if self._timer is None:
            self._tick()

    async def synchronise(self) -> None:
        """Compare clocks now; that it failed is told by the next request."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._synchronise)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A request that is under way ends by its answer or its time-out; its connection can't be taken from it.
        await asyncio.to_thread(self._executor.shutdown)
        self.http.close()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WARM_EVERY_S, self._tick)
        if time.monotonic() - self._used_at >= WARM_EVERY_S and self._may_send():
            self._executor.submit(self._synchronise)

    def _write_signed(self, method: Method, params: dict[str, object], signed_ms: int | None) -> Answer:
        if signed_ms is not None and time.time() * 1000 - signed_ms > self.http.recv_window:
            raise NotSent("it waited until Bybit would have refused it as too old")
        self.http.signed_ms = signed_ms
        try:
            return self._write(method, params)
        finally:
            self.http.signed_ms = None

    def _write(self, method: Method, params: dict[str, object]) -> Answer:
        try:
            return self._call(method, params)
        except VenueSaid as said:
            if said.kind is Kind.CLOCK:
                self.http.signed_ms = None
                self._synchronise()
            raise

    def _read(self, method: Method, params: dict[str, object]) -> Answer:
        try:
            return self._write(method, params)
        except Dropped:
            pass
        except VenueSaid as said:
            if said.kind is not Kind.CLOCK:
                raise
        self._count()
        return self._call(method, params)

    def _call(self, method: Method, params: dict[str, object]) -> Answer:
        self._heed_ban()
        self.http.limit = None
        return method(self.http, **params), self.http.limit

    def _synchronise(self) -> None:
        with suppress(VenueSaid, NotSent, NoAnswer, Transient):  # the next request will say what is wrong
            self._heed_ban()
            self._count()
            self.http.synchronise()
