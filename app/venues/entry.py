"""Orders over a socket: written from the event loop, many in flight at once, each answer matched to its request.

An order is written once, and at once: not when its answer is first waited for. Where `has_room` is False surely nothing
of it leaves, and another road may be taken. After `_asked` has begun some of it may have left: without an answer its
outcome is unknown, and it is sent on no other road.

The socket is kept from the first `keep_warm` on, as any link is. Where a server has none, or turns the key away, it is
tried again rarely.
"""

import asyncio
import logging
import secrets
import time
from functools import partial
from itertools import count
from typing import Generic, TypeVar

from picows import WSInvalidStatusError

from app.domain.refusals import Outcome
from app.errors import Refused
from app.venues.failures import Dropped, NoAnswer
from app.venues.link import Bounds, Link

log = logging.getLogger(__name__)
A = TypeVar("A")

# A link that died in silence costs an order an unknown outcome, so that it is looked at more often than a stream's; and
# none is written to one that was not heard of since the last ping.
BOUNDS = Bounds(ping_s=3.0, silence_s=3.0)
FRESH_S = 4.0
IN_FLIGHT_MAX = 100
ATTEMPTS_MAX = 5  # at a host that was never reached, before it is tried rarely: a firewall may be in front of it
STATUS_OF_TROUBLE = 500  # a server that has no such socket, or not for us, says less


class OrderEntry(Link, Generic[A]):
    """The socket of one account. A subclass authenticates, then calls `_rise`, and hands answers to `_answered`."""

    name = "orders"

    def __init__(self, url: str, *, house: str, timeout_s: float, bounds: Bounds = BOUNDS) -> None:
        super().__init__(url, bounds)
        self.ready = asyncio.Event()  # while it is up
        self._house = house
        self._timeout_s = timeout_s
        # request → (when it was written, monotonic; its answer), the oldest first
        self._in_flight: dict[str, tuple[float, asyncio.Future[A]]] = {}
        self._prefix, self._numbers = secrets.token_hex(6), count(1)
        self._failures, self._was_up = 0, False
        self._ending = ""  # why it ends when nothing is in flight any more
        self._task: asyncio.Task[None] | None = None

    def keep_warm(self) -> None:
        """Be linked from now on."""
        if self._task is None:
            self._task = asyncio.create_task(self.run())

    @property
    def has_room(self) -> bool:
        """Whether an order may be written now.

        Not to a link that may be dead, nor where an answer is owed for long: the order would share its fate.
        """
        transport = self._transport
        if (
            not self.up
            or transport is None
            or transport.is_disconnected
            or transport.is_close_frame_sent
            or transport.underlying_transport.is_closing()
        ):
            return False
        now = time.monotonic()
        if now - self.last_frame_monotonic > FRESH_S:
            return False
        if not self._in_flight:
            return True
        oldest, _ = next(iter(self._in_flight.values()))
        return len(self._in_flight) < IN_FLIGHT_MAX and now - oldest < self._bounds.answer_s

    async def close(self) -> None:
        """Orders in flight are waited for, as REST's are."""
        if self._in_flight:
            await asyncio.wait([future for _, future in self._in_flight.values()], timeout=self._timeout_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _new_id(self) -> str:
        """Never the same twice, in no connection and no process: Bybit refuses a used one (20006)."""
        return f"{self._prefix}-{next(self._numbers)}"

    def _asked(self, request_id: str, frame: bytes) -> asyncio.Future[A]:
        """Write it now. The answer, or NoAnswer, which includes that it could not be written."""
        failed = None
        try:
            self._send(frame)
        except Exception as exc:  # some of it may have left
            log.exception("an order could not be written")
            failed = NoAnswer(f"writing to {self._house} failed: {type(exc).__name__}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        timer = loop.call_later(self._timeout_s, self._give_up, future)
        self._in_flight[request_id] = (time.monotonic(), future)
        future.add_done_callback(partial(self._settled, request_id, timer))
        if failed is not None:
            future.set_exception(failed)
        return future

    def _give_up(self, future: asyncio.Future[A]) -> None:
        if not future.done():
            future.set_exception(NoAnswer(f"{self._house} did not answer in time"))

    def _settled(self, request_id: str, timer: asyncio.TimerHandle, future: asyncio.Future[A]) -> None:
        """Answered, given up, or nobody waits for it any more."""
        timer.cancel()
        if not future.cancelled():
            future.exception()  # asyncio would complain of one that nobody has come to wait for
        self._in_flight.pop(request_id, None)
        if self._ending and not self._in_flight:
            self._drop(self._ending)

    def _answered(self, request_id: str, answer: A) -> None:
        _, future = self._in_flight.pop(request_id, (0.0, None))
        if future is not None and not future.done():
            future.set_result(answer)
        else:
            self._note(logging.WARNING, "an answer to nothing that is waited for", request=request_id[:40])

    async def _connect_once(self) -> None:
        try:
            await super()._connect_once()
        except WSInvalidStatusError as exc:
            status = 0 if exc.response is None else int(exc.response.status)
            if status >= STATUS_OF_TROUBLE:
                raise
            raise _absent(f"no order entry there (HTTP status {status})") from None
        except (OSError, TimeoutError) as exc:
            self._failures += 1
            if self._was_up or self._failures < ATTEMPTS_MAX:
                raise
            raise _absent(f"order entry is out of reach ({type(exc).__name__})") from None

    def _rise(self) -> None:
        self._was_up = True
        self.up = True
        self.ready.set()
        self._note(logging.INFO, "orders go over the socket")

    def _fall(self) -> None:
        self.up = False
        self.ready.clear()

    def _end(self, reason: str) -> None:
        """As `_drop`, when what is in flight is answered: nothing more is written."""
        self._fall()
        self._ending = reason
        if not self._in_flight:
            self._drop(reason)

    def _drop(self, reason: str) -> None:
        self._fall()  # nothing is written to a connection that is being ended
        super()._drop(reason)

    def _lost(self) -> None:
        self._fall()
        self._ending = ""
        in_flight, self._in_flight = self._in_flight, {}
        for _, future in in_flight.values():
            if not future.done():
                future.set_exception(Dropped(f"the order socket to {self._house} broke before it answered"))


def _absent(reason: str) -> Refused:
    return Refused(Outcome.VENUE_UNAVAILABLE, f"{reason}: orders go over REST")
