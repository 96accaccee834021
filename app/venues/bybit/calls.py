"""The requests of one account: each asks the gate, takes a lane, and tells the gate what its answer said of limits.

And what Bybit's answers to them come to.
"""

import asyncio
import re
from typing import TypeVar
from zlib import crc32

import msgspec

from app.domain.refusals import Outcome
from app.errors import Transient
from app.keys import Credentials
from app.venues.base import Origins
from app.venues.bybit import wire
from app.venues.bybit.codes import ADDRESS_LIMIT, CODES, PARAMETER_ERROR
from app.venues.bybit.entry import BybitEntry, Written
from app.venues.bybit.http import BybitHttp
from app.venues.bybit.lane import Answer, Lane, Method
from app.venues.bybit.limits import ADDRESS, ADDRESS_MAX, ADDRESS_WINDOW_S
from app.venues.bybit.wire import Envelope
from app.venues.clock import Clock
from app.venues.edge import Edge
from app.venues.failures import VenueSaid
from app.venues.gate import Gate, Scope, Urgency
from app.venues.kinds import Kind
from app.venues.numbers import Unreadable

T = TypeVar("T")

ORDERS = BybitHttp.place_order.__name__  # what the gate calls their limit
LANES = 4
PAGES_MAX = 200
# An order that is being worked on is free again in a moment.
BUSY_TRIES = 3
BUSY_PAUSE_S = 0.2

# "StopLoss:670000000 set for Buy position should lower than base_price:666666000": the one place where a text decides.
WRONG_SIDE = re.compile(
    r"stop\s*loss.*should\b.*\b(lower|less|smaller|below|greater|higher|larger|above)\b", re.I | re.S
)


def wrong_side(said: VenueSaid) -> bool:
    """A stop beyond the price: a parameter error that only its text tells apart."""
    return said.code == PARAMETER_ERROR and WRONG_SIDE.search(said.text) is not None


def _outcome(said: VenueSaid) -> Outcome:
    if wrong_side(said):
        return Outcome.STOP_WRONG_SIDE
    known = None if said.http else CODES.get(said.code)
    return Outcome.VENUE_REFUSED if known is None else known.outcome


EDGE = Edge(house="Bybit", outcome=_outcome, not_done=frozenset({Kind.RATE, Kind.CLOCK}))
asking = EDGE.asking


class Calls:
    """Orders go over a socket while it is up, else as settings do through threads and connections of their own; reads
    through others.

    Whatever the gate turns away raises Transient and was not sent.
    """

    def __init__(
        self, credentials: Credentials, origins: Origins, *, recv_window_ms: int, timeout_s: float, gate: Gate | None
    ) -> None:
        """Raises Refused when the credentials are of no use to Bybit."""
        self.clock = clock = Clock()
        self._gate = gate or Gate()

        def lane(name: str) -> Lane:
            http = BybitHttp(credentials, origins.rest, recv_window_ms=recv_window_ms, timeout_s=timeout_s, clock=clock)
            return Lane(http, name, count=self._count, may_send=self._may_send, heed_ban=self._heed_ban)

        # By symbol: the orders of a book keep their order, and one that hangs holds up a few books, not the account.
        self.writes = [lane(f"orders-{number}") for number in range(LANES)]
        self.reads = [lane(f"reads-{number}") for number in range(LANES)]
        self.entry = (
            BybitEntry(
                origins.orders, credentials, recv_window_ms=recv_window_ms, timeout_s=timeout_s, clock=self.clock
            )
            if origins.orders
            else None
        )
        self._turn = 0  # reads take the lanes by turns

    async def write(
        self, method: Method, urgency: Urgency, params: dict[str, object], *, signed_ms: int | None = None
    ) -> Envelope:
        """Send once. Raises VenueSaid, NotSent, NoAnswer, or Transient from the gate."""
        self._admit(urgency, method)
        try:
            answer = await self.writes[_lane(str(params["symbol"]))].write(method, params, signed_ms=signed_ms)
        except VenueSaid as said:
            self._heed(method, said)
            raise
        return self._took(method, answer)

    def write_order(self, urgency: Urgency, params: bytes, *, signed_ms: int) -> Written | None:
        """Write an order (as JSON) to the socket now. None: nothing leaves there at this moment; `place` sends it."""
        if self.entry is None or not self.entry.takes(signed_ms):
            return None
        try:
            self._gate.admit(urgency, ADDRESS, ORDERS)
        except Transient:
            return None  # nor by REST, which says why
        written = self.entry.write(params, signed_ms)
        self._count()
        return written

    async def outcome(self, written: Written, symbol: str) -> Envelope:
        """What comes of an order that was written. Raises VenueSaid, NotSent or NoAnswer."""
        assert self.entry is not None
        method = BybitHttp.place_order
        try:
            answer = await self.entry.outcome(written)
        except VenueSaid as said:
            self._heed(method, said)
            if said.kind is Kind.CLOCK:
                await self.writes[_lane(symbol)].synchronise()
            raise
        return self._took(method, answer)

    async def place(self, urgency: Urgency, params: dict[str, object], *, signed_ms: int) -> Envelope:
        """Send an order over REST. Raises as `write` does."""
        self._keep_warm()
        return await self.write(BybitHttp.place_order, urgency, params, signed_ms=signed_ms)

    async def read(self, method: Method, **params: object) -> Envelope:
        """Send, twice if that is the cure. Raises as `write` does."""
        self._admit(Urgency.READ, method)
        self._keep_warm()  # who reads may be about to trade
        self._turn += 1
        try:
            answer = await self.reads[self._turn % LANES].read(method, params)
        except VenueSaid as said:
            self._heed(method, said)
            raise
        return self._took(method, answer)

    async def change(self, method: Method, urgency: Urgency, **params: object) -> None:
        """A setting: setting it again is harmless, so "already so" is success and "busy" is tried again."""
        for left in reversed(range(BUSY_TRIES)):
            try:
                await self.write(method, urgency, params)
            except VenueSaid as said:
                if said.kind is Kind.BUSY and left:
                    await asyncio.sleep(BUSY_PAUSE_S)
                    continue
                if said.kind is not Kind.DONE:
                    raise
            return

    async def pages(self, method: Method, decoder: "msgspec.json.Decoder[wire.Page[T]]", **params: object) -> list[T]:
        """The rows of all pages."""
        rows: list[T] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = decoder.decode((await self.read(method, cursor=cursor, **params)).result)
            rows += page.list
            if not page.list or not page.nextPageCursor or page.nextPageCursor == cursor:
                return rows
            cursor = page.nextPageCursor
        raise Unreadable(f"more than {PAGES_MAX} pages")

    async def close(self) -> None:
        if self.entry is not None:
            await self.entry.close()
        await asyncio.gather(*(lane.close() for lane in (*self.writes, *self.reads)))

    def _keep_warm(self) -> None:
        for lane in self.writes:
            lane.keep_warm()
        if self.entry is not None:
            self.entry.keep_warm()

    def _admit(self, urgency: Urgency, method: Method) -> None:
        self._gate.admit(urgency, ADDRESS, method.__name__)
        self._count()

    def _heed_ban(self) -> None:
        self._gate.admit(Urgency.CLOSE)

    def _count(self) -> None:
        self._gate.count(ADDRESS, limit=ADDRESS_MAX, window_s=ADDRESS_WINDOW_S)

    def _may_send(self) -> bool:
        try:
            self._gate.admit(Urgency.READ, ADDRESS)
        except Transient:
            return False
        return True

    def _took(self, method: Method, answer: Answer) -> Envelope:
        envelope, limit = answer
        if limit is not None:
            self._gate.used(method.__name__, limit.share, for_s=limit.for_s)
        return envelope

    def _heed(self, method: Method, said: VenueSaid) -> None:
        if said.kind is Kind.RATE and said.http:
            self._gate.ban(Scope.ADDRESS, said.retry_after_s or 0.0, EDGE.sentence(said))
        elif said.code == ADDRESS_LIMIT:
            self._gate.ban(Scope.ADDRESS, ADDRESS_WINDOW_S, EDGE.sentence(said))
        elif said.limit is not None:
            self._gate.used(method.__name__, said.limit.share, for_s=said.limit.for_s)


def _lane(symbol: str) -> int:
    return crc32(symbol.encode()) % LANES
