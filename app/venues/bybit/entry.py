"""Orders of an account over Bybit's socket for them.

https://bybit-exchange.github.io/docs/v5/websocket/trade/guideline, read in July 2026; pybit's `_websocket_trading.py`
sends the same frames. Quirks:
1. The socket is authenticated once, as the private one is; orders are not signed. They carry their time and receive
   window, and are refused when that is over, as REST's are.
2. Answers have REST's codes and some of their own, and what REST says in headers in `header`. An answer means accepted.
   The account's limit is one for both roads.
3. A `reqId` counts once (20006), and has 36 characters at most.
4. 10019: this server restarts and takes nothing more; a new connection is led to another one.
5. 10404: it takes no orders of this kind at all. Nothing was done.
6. The client pings with JSON, and may take up to ten minutes between two pings.
7. Demo accounts have no such socket.
8. 10003, elsewhere a wrong key, is also said where an account has too many sessions.
"""

import asyncio
import time
from typing import TypeAlias

import msgspec

from app.keys import Credentials
from app.venues.bybit.codes import CODES, NO_SUCH_OPERATION, RESTARTING, SUCCESS, kind_of
from app.venues.bybit.http import told
from app.venues.bybit.lane import Answer
from app.venues.bybit.wire import ENTRY_FRAME, EntryFrame, Envelope, auth, signer
from app.venues.clock import Clock
from app.venues.entry import BOUNDS, OrderEntry
from app.venues.failures import NotSent
from app.venues.kinds import Kind
from app.venues.link import Bounds

PING = b'{"op":"ping"}'

REQUEST = b'{"reqId":"%b","header":{"X-BAPI-TIMESTAMP":"%d","X-BAPI-RECV-WINDOW":"%d"},"op":"order.create","args":[%b]}'

Reply = tuple[Envelope, dict[str, str]]  # with its headers
Written: TypeAlias = asyncio.Future[Reply]  # an order that has left


class BybitEntry(OrderEntry[Reply]):
    """See `OrderEntry`."""

    venue = "bybit"
    ping = PING  # quirk 6

    def __init__(
        self,
        ws_origin: str,
        credentials: Credentials,
        *,
        recv_window_ms: int,
        timeout_s: float,
        clock: Clock,
        bounds: Bounds = BOUNDS,
    ) -> None:
        """Raises Refused when the credentials are of no use to Bybit."""
        super().__init__(f"{ws_origin.rstrip('/')}/v5/trade", house="Bybit", timeout_s=timeout_s, bounds=bounds)
        self._key = credentials.api_key
        self._sign = signer(credentials)
        self._window_ms = recv_window_ms
        self._clock = clock
        self._deadline: asyncio.TimerHandle | None = None

    def takes(self, signed_ms: int) -> bool:
        """Whether an order of that instant may be written now."""
        return self.has_room and time.time() * 1000 - signed_ms <= self._window_ms

    def write(self, params: bytes, signed_ms: int) -> Written:
        """Write an order now, of which `params` are the JSON. What comes of it is told by `outcome`."""
        request_id = self._new_id()
        at_ms = signed_ms + self._clock.offset_ms
        return self._asked(request_id, REQUEST % (request_id.encode(), at_ms, self._window_ms, params))

    async def outcome(self, written: Written) -> Answer:
        """Of what was written. Raises VenueSaid, NotSent or NoAnswer."""
        envelope, headers = await written
        if envelope.retCode == NO_SUCH_OPERATION:  # quirk 5
            self._pause_s = self._bounds.refused_pause_s
            self._end("it takes no orders: they go over REST")
            raise NotSent("Bybit's socket took no orders")
        if envelope.retCode == RESTARTING:  # quirk 4
            self._end("it restarts")
        return envelope, told(envelope, headers)

    def _opened(self) -> None:
        self._send(msgspec.json.encode(auth(self._key, self._sign, self._clock.now_ms())))
        self._deadline = asyncio.get_running_loop().call_later(self._bounds.answer_s, self._drop, "no answer to auth")

    def _lost(self) -> None:
        self._authenticated()
        super()._lost()

    def _received(self, payload: memoryview | bytes) -> None:
        frame = ENTRY_FRAME.decode(payload)
        code = frame.retCode
        if frame.op == "pong":
            return
        if code is None:
            self._complain("an answer without a code", op=frame.op)
        elif frame.reqId:
            self._answered(frame.reqId, _copied(frame, code))
        elif frame.op == "auth":
            self._authenticated()
            if code == SUCCESS:
                self._rise()
            elif kind_of(code) in (Kind.FATAL, Kind.REFUSED):
                self._refused(f"the key was refused: {CODES[code].meaning} ({code})")
            else:
                self._drop(f"not authenticated: code {code}")
        else:
            self._complain("an answer without a request", op=frame.op, code=code)

    def _authenticated(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _copied(frame: EntryFrame, code: int) -> Reply:
    """As REST answers it; the frame's memory is reused after this call."""
    headers = {name: str(value) for name, value in (frame.header or {}).items() if value is not None}
    now = headers.get("Timenow", "")
    envelope = Envelope(
        retCode=code,
        retMsg=frame.retMsg,
        result=msgspec.Raw(bytes(frame.data)),
        time=int(now) if now.isascii() and now.isdigit() else 0,
    )
    return envelope, headers
