"""Orders of an account over Binance's socket for requests.

https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info and
…/trade/websocket-api, read in May 2026; python-binance's `ws_futures_create_order` sends the same frames. Quirks:
1. With an Ed25519 key a session is opened by `session.logon`, in which neither key nor signature is sent again. With
   another key each request has both; whether they are good is asked first, by the state of an order that never was.
2. What is signed are the parameters in alphabetical order, not escaped; which escaping would be expected where it is
   needed is not told, so such an order goes over REST. `timestamp` and `recvWindow` are numbers.
3. Answers have REST's statuses and codes, in the frame, and what REST says in headers in `rateLimits`. Limits are those
   of REST. A new connection costs weight.
4. An error whose `id` is null is about the session: the key became invalid.
5. The server pings every three minutes and cuts after ten without a pong. It cuts every connection after 24 hours.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from app.errors import Transient
from app.venues.binance import wire
from app.venues.binance.codes import CODES, kind_of
from app.venues.binance.http import BinanceHttp, limits_of_write
from app.venues.binance.limits import attempts_at, limits_stated
from app.venues.entry import BOUNDS, OrderEntry
from app.venues.failures import NoAnswer, NotSent
from app.venues.gate import Scope, Urgency
from app.venues.kinds import Kind
from app.venues.link import Bounds

REQUEST = b'{"id":"%b","method":"%b","params":{"recvWindow":%d,"timestamp":%d%b}}'

Written: TypeAlias = asyncio.Future[wire.EntryFrame]  # an order that has left
NOBODYS_ORDER = {"symbol": "BTCUSDT", "origClientOrderId": "lh-is-the-key-good"}


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """Parameters of a request, twice: as what is signed, with room for key, window and time; and as JSON members."""

    signed: bytes
    body: bytes


def encoded(params: Mapping[str, str]) -> Encoded:
    whole = {name: value.replace("%", "%%") for name, value in params.items()}
    whole |= {"apiKey": "%b", "recvWindow": "%d", "timestamp": "%d"}
    members = b"," + msgspec.json.encode(params)[1:-1] if params else b""
    return Encoded("&".join(f"{name}={whole[name]}" for name in sorted(whole)).encode(), members)  # quirk 2


class BinanceEntry(OrderEntry[wire.EntryFrame]):
    """See `OrderEntry`. `http` has the key, the clock and the gate."""

    venue = "binance"

    def __init__(self, ws_origin: str, http: BinanceHttp, *, timeout_s: float, bounds: Bounds = BOUNDS) -> None:
        origin = ws_origin.rstrip("/")
        super().__init__(f"{origin}/ws-fapi/v1", house="Binance", timeout_s=timeout_s, bounds=bounds)
        self._http = http
        self._signer = http.signer
        self._key = http.API_KEY.encode()
        self._attempts = attempts_at(origin)
        self._greeting = ""  # the id of the request by which the key is tried
        self._deadline: asyncio.TimerHandle | None = None

    def write(self, params: Encoded, *, urgency: Urgency, signed_ms: int) -> Written | None:
        """Write an order now. None: nothing leaves here at this moment. What comes of it is told by `outcome`."""
        http = self._http
        if not (self.has_room and http.measured and params.signed.isascii()):  # quirk 2
            return None
        try:
            http.check_age(signed_ms)
            http.gate.admit(urgency, *limits_of_write(urgency, order=True))
        except (NotSent, Transient):
            return None  # nor by REST, which says why
        request_id = self._new_id()
        return self._asked(request_id, self._request(request_id, b"order.place", params, signed_ms))

    async def outcome(self, written: Written) -> bytes:
        """The result of what was written. Raises VenueSaid, NotSent or NoAnswer."""
        http = self._http
        http.keep_warm()
        frame = await written
        self._heed_limits(frame)
        if frame.status == 200 and frame.error is None:
            return bytes(frame.result)
        error = frame.error if frame.error is not None and frame.error.code < 0 else None
        said = http.said(frame.status, self._retry_after(frame), error)
        if not isinstance(said, NoAnswer) and said.kind is Kind.CLOCK:
            await http.measure()
        raise said

    async def _address(self) -> str:
        self._http.gate.admit(Urgency.OPEN, wire.WEIGHT)  # quirk 3
        await self._attempts.take()
        if not self._http.measured:
            await self._http.measure()
        return self._url

    def _opened(self) -> None:
        method, params = (b"session.logon", {}) if self._signer.logs_on else (b"order.status", NOBODYS_ORDER)
        self._greeting = self._new_id()
        now_ms = int(time.time() * 1000)
        self._send(self._request(self._greeting, method, encoded(params), now_ms, signed=True))  # quirk 1
        self._deadline = asyncio.get_running_loop().call_later(
            self._bounds.answer_s, self._drop, "no answer to the first request"
        )

    def _lost(self) -> None:
        self._greeted()
        super()._lost()

    def _received(self, payload: memoryview | bytes) -> None:
        frame = wire.ENTRY_FRAME.decode(payload)
        if frame.id is None:
            self._of_the_session(frame)
        elif frame.id == self._greeting:
            self._greeted()
            self._tried(frame)
        else:
            frame.result, frame.rateLimits = _copied(frame.result), _copied(frame.rateLimits)
            self._answered(frame.id, frame)

    def _tried(self, frame: wire.EntryFrame) -> None:
        code = 0 if frame.error is None else frame.error.code
        if kind_of(code) is Kind.FATAL:
            self._refused(f"the key was refused: {CODES[code].meaning} ({code})")
        elif frame.status == 200 or (kind_of(code) is Kind.GONE and not self._signer.logs_on):
            self._rise()
        elif frame.status in (418, 429, 403):
            self._http.said(frame.status, self._retry_after(frame), frame.error)  # the gate hears of it
            self._refused(f"the address is to stay away ({frame.status})")
        else:
            self._drop(f"the key was not tried: status {frame.status}, code {code}")

    def _of_the_session(self, frame: wire.EntryFrame) -> None:
        """Quirk 4: whose order it answers is not known."""
        code = 0 if frame.error is None else frame.error.code
        if frame.status == 401 or kind_of(code) is Kind.FATAL:
            self._refused(f"the session was ended: status {frame.status}, code {code}")
        else:
            self._complain("an answer without a request", status=frame.status, code=code)

    def _request(self, request_id: str, method: bytes, params: Encoded, at_ms: int, *, signed: bool = False) -> bytes:
        http = self._http
        window_ms, at_ms = http.REQUEST_RECVWINDOW, at_ms + http.clock.offset_ms
        body = params.body
        if signed or not self._signer.logs_on:
            signature = self._signer.sign(params.signed % (self._key, window_ms, at_ms))
            body = b'%b,"apiKey":"%b","signature":"%b"' % (body, self._key, signature.encode())
        return REQUEST % (request_id.encode(), method, window_ms, at_ms, body)

    def _heed_limits(self, frame: wire.EntryFrame) -> None:
        try:
            rows = wire.USED_LIMITS.decode(frame.rateLimits)
        except msgspec.MsgspecError:
            return
        for name, share, for_s in limits_stated(rows, self._http.clock.now_ms()):
            scope = Scope.ADDRESS if name == wire.WEIGHT else Scope.ACCOUNT
            self._http.gate.used(name, share, for_s=for_s, scope=scope)

    def _retry_after(self, frame: wire.EntryFrame) -> dict[str, str]:
        """As REST's header says it."""
        at_ms = frame.error.data.retryAfter if frame.error is not None and frame.error.data is not None else None
        if at_ms is None:
            return {}
        return {"Retry-After": str(max(1, -((self._http.clock.now_ms() - at_ms) // 1000)))}

    def _greeted(self) -> None:
        self._greeting = ""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _copied(raw: msgspec.Raw) -> msgspec.Raw:
    """The frame's memory is reused after the call."""
    return msgspec.Raw(bytes(raw))
