"""python-binance's AsyncClient with one request per call, its failures told apart by what they say about the request.

python-binance names the methods, paths and versions; sending and reading are replaced, for these reasons:

- it signs unescaped text while the wire escapes it, and parses an RSA key of another kind by its length;
- it stamps a request when it leaves: an order has to carry the instant that was committed with it;
- its exceptions hold the whole answer, `client.response` is whichever came last, and numbers would become floats;
- aiohttp follows redirects and sends PUT and DELETE again when an idle connection breaks; it closes idle connections
  after 15 s, and a new one costs an order three round trips.
"""

import asyncio
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
import yarl

from app.errors import Transient
from app.keys import Credentials
from app.venues.binance import wire
from app.venues.binance.codes import CODES, STATUSES, STATUSES_FIRST, TOO_MANY_ORDERS, kind_of
from app.venues.binance.limits import ban_s, limits_of, limits_used
from app.venues.binance.sign import Signer
from app.venues.clock import Clock
from app.venues.failures import Dropped, NoAnswer, NotSent, VenueSaid
from app.venues.gate import Gate, Scope, Urgency
from app.venues.kinds import Kind

with warnings.catch_warnings():
    # It imports names that its websockets library has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance.async_client import AsyncClient

TEXT_MAX = 200
WARM_EVERY_S = 20.0  # well below the minute after which a front server closes an idle connection
WARM_CONNECTIONS = 2
IDLE_MAX_S = 75.0
CLOCK_EVERY_S = 120.0
SYNCHRONISE_TIMEOUT_S = 2.0
CONNECT_SHARE = 0.5  # of the time-out: so that it is known to have run out before the first byte
# Where the key's own permissions are told, a path of the spot API.
_SPOT = {"https://fapi.binance.com": "https://api.binance.com"}
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")  # what is the same on the wire
_CALL = "call"  # the name under which a `Call` travels through the library's methods


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """How a request is sent, besides what it says."""

    urgency: Urgency = Urgency.READ
    limits: tuple[str, ...] = (wire.WEIGHT,)
    signed_ms: int | None = None  # our clock; the request carries this time instead of now
    writes: bool = False  # goes out on a connection that no read can occupy
    timeout_s: float | None = None
    elsewhere: bool = False  # what the answer says of limits is not about ours


Method = Callable[..., Awaitable[bytes]]


class BinanceHttp(AsyncClient):  # type: ignore[misc]  # python-binance is untyped
    """The connections of one account. Its methods are python-binance's and return the answer's bytes."""

    def __init__(
        self, credentials: Credentials, origin: str, *, recv_window_ms: int, timeout_s: float, clock: Clock, gate: Gate
    ) -> None:
        """Sends nothing. Raises Refused when the credentials are of no use to Binance."""
        self.signer = Signer(credentials)
        super().__init__(api_key=credentials.api_key)
        self.origin = origin.rstrip("/")
        self.FUTURES_URL = f"{self.origin}/fapi"
        spot = _SPOT.get(self.origin)
        self.has_spot = spot is not None  # else the same origin is asked, which may serve it or not
        self.MARGIN_API_URL = f"{spot or self.origin}/sapi"
        self.REQUEST_TIMEOUT = timeout_s
        self.REQUEST_RECVWINDOW = recv_window_ms
        self.clock = clock
        self.gate = gate
        self.limits = dict(wire.LIMITS)
        self._proxy = _proxy_for(self.origin)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # writes or not -> its connections
        self._measured = float("-inf")  # monotonic
        self._measuring = asyncio.Lock()
        self._measurement: asyncio.Task[None] | None = None
        self._wrote_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._warming: asyncio.Task[None] | None = None
        self.on_warm: Callable[[], None] = lambda: None  # when `keep_warm` is first called

    def __repr__(self) -> str:
        return f"BinanceHttp({self.origin!r})"

    async def read(self, method: Method, *, urgency: Urgency = Urgency.READ, **params: object) -> bytes:
        """Send, and once more where that is the cure: the clock was off, or an idle connection had been closed."""
        call = Call(urgency=urgency)
        self.keep_warm()  # who reads may be about to trade
        try:
            return await self._stamped(method, call, params)
        except Dropped:
            pass
        except VenueSaid as said:
            if said.kind is not Kind.CLOCK:
                raise
        return await self._stamped(method, call, params)

    async def write(
        self, method: Method, *, urgency: Urgency, signed_ms: int | None = None, order: bool = False, **params: object
    ) -> bytes:
        """Send once, whatever happens. Raises VenueSaid, NotSent, NoAnswer or the gate's Transient.

        With `signed_ms` (our clock) the request is as old as that, and not sent when its window is over.
        """
        self.check_age(signed_ms)
        limits = limits_of_write(urgency, order=order)
        self.keep_warm()
        self._wrote_at = time.monotonic()
        call = Call(urgency=urgency, limits=limits, signed_ms=signed_ms, writes=True)
        return await self._stamped(method, call, params)

    def check_age(self, signed_ms: int | None) -> None:
        """Raises NotSent when the receive window of what was signed then is over."""
        if signed_ms is not None and time.time() * 1000 - signed_ms > self.REQUEST_RECVWINDOW:
            raise NotSent("it waited until Binance would have refused it as too old")

    async def read_elsewhere(self, method: Method, **params: object) -> bytes:
        """A read of the spot API: it has limits of its own, and bans from it are not heeded here."""
        return await self._stamped(method, Call(limits=(), elsewhere=True), params)

    async def exchange_info(self, **params: object) -> bytes:
        answer: bytes = await self._request_futures_api("get", "exchangeInfo", data=params)
        return answer

    async def listen_key(self, verb: str) -> bytes:
        """POST or PUT; the library's own methods look into the answer, and send a parameter that is not documented."""
        answer: bytes = await self._request_futures_api(verb, "listenKey", data={_CALL: Call(urgency=Urgency.CLOSE)})
        return answer

    async def synchronise(self, *, writes: bool = False) -> int:
        """Compare clocks; the exchange's time in ms. Raises as any call does, but sooner: an order may wait for it."""
        call = Call(urgency=Urgency.CLOSE, timeout_s=min(self.REQUEST_TIMEOUT, SYNCHRONISE_TIMEOUT_S), writes=writes)
        sent_ms = int(time.time() * 1000)
        body = await self._request_futures_api("get", "time", data={_CALL: call})
        received_ms = int(time.time() * 1000)
        server_ms = wire.SERVER_TIME.decode(body).serverTime
        self.clock.sample(sent_ms, server_ms, received_ms)
        self._measured = time.monotonic()
        return server_ms

    @property
    def measured(self) -> bool:
        """Whether the clocks were compared before."""
        return self._measured != float("-inf")

    def learn_limits(self, rows: list[wire.RateLimitRow]) -> None:
        """What exchangeInfo says that the limits are."""
        self.limits |= limits_of(rows)

    def keep_warm(self) -> None:
        """Have connections ready from now on, and the clock measured."""
        if self._timer is None:
            self._tick()
            self.on_warm()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._warming, self._measurement) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self._sessions.values():
            await session.close()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WARM_EVERY_S, self._tick)
        now = time.monotonic()
        if now - self._wrote_at >= WARM_EVERY_S and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        await asyncio.gather(*(self.measure(writes=True) for _ in range(WARM_CONNECTIONS)))

    async def measure(self, *, writes: bool = False) -> None:
        with suppress(VenueSaid, NotSent, NoAnswer, Transient, msgspec.MsgspecError):
            await self.synchronise(writes=writes)  # the next request will say what is wrong

    async def _measure_first(self) -> None:
        """Nothing is stamped before clocks were compared once. If that fails, the request will say what is wrong."""
        async with self._measuring:
            if not self.measured:
                await self.measure()
                if self.measured:
                    await self.measure()  # the round trip of the first one was a handshake
                else:
                    self._measured = time.monotonic() - CLOCK_EVERY_S

    async def _stamped(self, method: Method, call: Call, params: dict[str, object]) -> bytes:
        if not self.measured:
            await self._measure_first()
        elif time.monotonic() - self._measured > CLOCK_EVERY_S and (
            self._measurement is None or self._measurement.done()
        ):
            self._measurement = asyncio.create_task(self.measure())
        try:
            return await method(self, **params, **{_CALL: call})
        except VenueSaid as said:
            if said.kind is Kind.CLOCK:
                await self.measure()
            raise

    # What follows replaces steps of python-binance.

    def _init_session(self) -> None:
        """Sessions are made when first used: they belong to the running loop."""

    def _init_private_key(self, private_key: object, private_key_pass: object = None) -> None:
        """Keys are `signer`'s."""

    async def close_connection(self) -> None:
        await self.close()

    async def _request(self, method: str, uri: str, signed: bool, force_params: bool = False, **kwargs: Any) -> bytes:
        params: dict[str, object] = dict(kwargs.get("data") or {})
        call = params.pop(_CALL, None)
        assert isinstance(call, Call)
        self.gate.admit(call.urgency, *call.limits)
        payload = "&".join(f"{key}={_escaped(str(value))}" for key, value in params.items() if value is not None)
        if signed:
            payload = self._signed(payload, call.signed_ms)
        in_query = method in ("get", "delete")
        url = yarl.URL(f"{uri}?{payload}" if in_query and payload else uri, encoded=True)
        timeout_s = call.timeout_s or self.REQUEST_TIMEOUT
        try:
            async with self._session(call.writes).request(
                method,
                url,
                data=None if in_query else payload.encode(),
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s * CONNECT_SHARE),
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise _network_failure(exc) from None
        used = () if call.elsewhere else limits_used(response.headers, self.limits, self.clock.now_ms())
        for name, share, for_s in used:
            scope = Scope.ADDRESS if name == wire.WEIGHT else Scope.ACCOUNT
            self.gate.used(name, share, for_s=for_s, scope=scope)
        error = _error(body) if response.status >= 300 or body.startswith(b'{"code"') else None
        if response.status < 300 and error is None:
            return body
        raise self.said(response.status, response.headers, error, bans=not call.elsewhere)

    def _signed(self, payload: str, signed_ms: int | None) -> str:
        at_ms = self.clock.now_ms() if signed_ms is None else signed_ms + self.clock.offset_ms
        stamp = f"recvWindow={self.REQUEST_RECVWINDOW}&timestamp={at_ms}"
        text = f"{payload}&{stamp}" if payload else stamp
        return f"{text}&signature={self.signer.for_query(text.encode())}"

    def _session(self, writes: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(writes)
        if session is None:
            session = self._sessions[writes] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_MAX_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "Accept": "application/json",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "User-Agent": "levelhead",
                    "X-MBX-APIKEY": self.API_KEY,
                },
            )
            session._retry_connection = False  # has no public switch
        return session

    def said(
        self, status: int, headers: Mapping[str, str], error: wire.ErrorBody | None, *, bans: bool = True
    ) -> VenueSaid | NoAnswer:
        """What an answer that is no success means, over whichever road it came; the gate hears of bans."""
        of_status = STATUSES_FIRST.get(status) or (STATUSES.get(status) if error is None else None)
        if of_status is not None and (error is None or kind_of(error.code) is not Kind.RATE):
            code, kind, text = status, of_status.kind, of_status.meaning
        elif error is None:
            return NoAnswer(f"Binance answered with HTTP status {status}")
        else:
            code, kind, text = error.code, kind_of(error.code), error.msg or "no reason given"
            if kind in (Kind.FATAL, Kind.RATE):
                text = CODES[code].meaning  # the exchange's own words may quote what was sent, or our address
        wait_s: float | None = None
        if kind is Kind.RATE:
            wait_s = ban_s(status, headers, error, self.clock.now_ms())
            scope = Scope.ACCOUNT if code == TOO_MANY_ORDERS else Scope.ADDRESS
            if bans:
                self.gate.ban(scope, wait_s, f"Binance: {text}")
        return VenueSaid(kind, code, text[:TEXT_MAX], http=code > 0, retry_after_s=wait_s)


def limits_of_write(urgency: Urgency, *, order: bool) -> tuple[str, ...]:
    """What has to have room: an order has no weight of its own, but what follows it has."""
    limits = wire.ORDER_LIMITS if order else ()
    return limits if urgency is Urgency.CLOSE else (wire.WEIGHT, *limits)


def _escaped(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else quote(value, safe="")


def _error(body: bytes) -> wire.ErrorBody | None:
    """What an answer says that is wrong; some good ones have a code too, 200."""
    try:
        error = wire.ERROR.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return error if error.code < 0 else None


def _network_failure(exc: Exception) -> NotSent | NoAnswer:
    """Tell apart what aiohttp raises before the first byte of a request, and what it may raise after."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return NotSent("no connection to Binance in time")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return NotSent("Binance's certificate could not be verified")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return NotSent("the proxy did not connect to Binance")
        case aiohttp.ClientConnectorError():
            return NotSent("no connection to Binance")  # refused, unreachable, or its name is not known
        case TimeoutError():
            return NoAnswer("Binance did not answer in time")
        case _:
            return Dropped("the connection to Binance broke before it answered")


def _proxy_for(origin: str) -> str | None:
    """A proxy from the environment counts; it is looked up once."""
    parts = urlsplit(origin)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)
