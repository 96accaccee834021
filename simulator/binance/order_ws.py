"""The WebSocket API: /ws-fapi/v1, orders in requests and answers over one link.

https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info. A request names a
method and takes the road of the REST call that does the same; limits are shared. It brings key and signature, or none
of them after `session.logon`. What is answered to a method that does not exist (here -1020) and to nonsense (here
-1135, as on the spot side) is not in the documentation.
"""

import asyncio
import re
import time
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import WSMsgType, web

from simulator.binance import algo, road, sign, trading
from simulator.binance.context import Context
from simulator.binance.errors import ApiError, attempt, by_fault, by_front, error
from simulator.binance.links import Heart
from simulator.binance.market_rows import rate_limit_rows
from simulator.binance.params import Params
from simulator.binance.rest import symbol_of
from simulator.exchange import Received
from simulator.faults import TRADE, FaultKind
from simulator.hub import Link
from simulator.keys import ApiKey
from simulator.order_links import OrderLinks
from simulator.passage import Passage

PATH = "/ws-fapi/v1"
HANDSHAKE_WEIGHT = 5
SESSION_WEIGHT = 2
PINGS_1S = 5  # frames of a client's

# method -> the REST call that does the same
METHODS = {
    "ping": ("GET", "/fapi/v1/ping"),
    "time": ("GET", "/fapi/v1/time"),
    "order.place": ("POST", trading.PATH),
    "order.modify": ("PUT", trading.PATH),
    "order.cancel": ("DELETE", trading.PATH),
    "order.status": ("GET", trading.PATH),
    "algoOrder.place": ("POST", algo.PATH),
    "algoOrder.cancel": ("DELETE", algo.PATH),
}
SESSION_METHODS = ("session.logon", "session.status", "session.logout")

_INTEGERS = frozenset({"timestamp", "recvWindow", "orderId", "algoId", "goodTillDate"})
_OWN_NAMES = frozenset({"apiKey", "returnRateLimits"})
_LOGON_NAMES = _OWN_NAMES | {"timestamp", "recvWindow", "signature"}
_COUNTED = {
    ("REQUEST_WEIGHT", "MINUTE"): "X-MBX-USED-WEIGHT-1M",
    ("ORDERS", "SECOND"): "X-MBX-ORDER-COUNT-10S",
    ("ORDERS", "MINUTE"): "X-MBX-ORDER-COUNT-1M",
}
_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
_BAD_ID = "Invalid 'id' in JSON request; expected an integer, a string matching '^[a-zA-Z0-9-_]{1,36}$', or null."


class Session:
    """One link, and the key that was logged on to it."""

    def __init__(self, link: Link, address: str, now_ms: int, *, shows_limits: bool) -> None:
        self.link = link
        self.address = address
        self.connected_ms = now_ms
        self.shows_limits = shows_limits
        self.key: str | None = None
        self.authorized_ms: int | None = None

    def log_on(self, key: str, now_ms: int) -> None:
        self.key, self.authorized_ms = key, now_ms

    def log_out(self) -> None:
        self.key = self.authorized_ms = None

    def row(self, now_ms: int) -> dict[str, Any]:
        return {
            "apiKey": self.key,
            "authorizedSince": self.authorized_ms,
            "connectedSince": self.connected_ms,
            "returnRateLimits": self.shows_limits,
            "serverTime": now_ms,
        }


class OrderSocket:
    def __init__(self, context: Context) -> None:
        self.links = OrderLinks(context.exchange)
        self._context = context
        self._exchange = context.exchange

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        address = request.remote or ""
        if (status := self._refuses(address)) is not None:
            return web.Response(status=status)
        socket = web.WebSocketResponse(compress=False, autoping=False)
        await socket.prepare(request)
        link = Link(socket, request)
        self.links.hub.links.add(link)
        shows_limits = request.query.get("returnRateLimits", "true") != "false"
        session = Session(link, address, self._context.now_ms(), shows_limits=shows_limits)
        heart = Heart(socket, link, self._context)
        chores = [asyncio.create_task(chore) for chore in (heart.beat_for_ever(), self._end_in_time(link))]
        try:
            async for message in socket:
                await self._read(session, socket, heart, message)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            self.links.hub.leave(link)
            await link.drain()
        return socket

    def _refuses(self, address: str) -> int | None:
        """The status that a handshake is refused with."""
        if (banned := road.ban_by_fault(self._context)) is not None:
            return banned.status
        maintenance = self._exchange.faults.find(FaultKind.MAINTENANCE, self._exchange.now_s(), channel=TRADE)
        if maintenance is not None or self.links.hub.refuses():
            return 503
        if not self._context.limits.admits_connection(address):
            return 429
        _, refused = attempt(lambda: self._context.limits.weigh(address, HANDSHAKE_WEIGHT, {}))
        return None if refused is None else refused.status

    async def _end_in_time(self, link: Link) -> None:
        await asyncio.sleep(self._context.options.order_link_s)
        await link.finish()

    async def _read(self, session: Session, socket: web.WebSocketResponse, heart: Heart, message: Any) -> None:
        match message.type:
            case WSMsgType.PONG:
                heart.answered()
            case WSMsgType.PING if heart.allows_message(PINGS_1S):
                await socket.pong(message.data)
            case WSMsgType.PING:
                session.link.cut()
            case WSMsgType.TEXT:
                self._take(session, message.data)

    # --- requests

    def _take(self, session: Session, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            self._refuse(session, error(-1135))
            return
        number = message.get("id")
        if not (number is None or type(number) is int or (isinstance(number, str) and _ID.fullmatch(number))):
            self._refuse(session, ApiError(-1135, _BAD_ID))
            return
        self.links.start(self._request(session, message, self._log(session, message)))

    def _refuse(self, session: Session, refused: ApiError) -> None:
        self.links.hub.answer(session.link, msgspec.json.encode({"id": None, **_error(refused)}))

    def _log(self, session: Session, message: dict[str, Any]) -> Received:
        given = _given(message)
        method, path = METHODS.get(_method(message), ("POST", PATH))
        return self._exchange.received(
            received_at_ns=time.time_ns(),
            method=method,
            path=path,
            query="",
            body="&".join(f"{name}={quote(_text(value), safe='')}" for name, value in given.items()) or None,
            api_key=_text(given.get("apiKey")) or session.key or "",
            channel=TRADE,
            frame=message,
        )

    async def _request(self, session: Session, message: dict[str, Any], entry: Received) -> None:
        usage: dict[str, str] = {}
        known = session.key
        if (banned := road.ban_by_fault(self._context)) is not None:
            done: tuple[Any, ApiError | None] | None = (None, banned)
        else:
            passage = Passage(self._exchange, entry, symbol_of(self._context, entry))
            done = await passage.answer(
                lambda: attempt(
                    lambda: passage.execute(lambda: self._dispatch(session, message, entry, usage), by_fault)
                ),
                lambda failure: (None, by_front(failure)),
            )
        if done is None:
            session.link.cut()
            return
        result, refused = done
        answer: dict[str, Any] = {"id": message.get("id"), "status": 200, "result": result}
        if refused is not None:
            # A session that is revoked is told so, whatever was asked.
            revoked = refused.code == -2015 and known is not None and session.key is None
            answer = {"id": None if revoked else message.get("id"), **_error(refused)}
        shows = _given(message).get("returnRateLimits", session.shows_limits)
        if shows and usage:
            answer["rateLimits"] = self._usage_rows(usage)
        entry.status, entry.ret_code = answer["status"], 0 if refused is None else refused.code
        self.links.answer(session.link, entry, msgspec.json.encode(answer))

    def _dispatch(self, session: Session, message: dict[str, Any], entry: Received, usage: dict[str, str]) -> Any:
        given = _given(message)
        for name, value in given.items():
            if isinstance(value, float | list | dict) or (name in _INTEGERS and type(value) is not int):
                raise error(-1102, name)
        params = Params({name: _text(value) for name, value in given.items()}, TRADE)
        caller = _Caller(self._context, session, params)
        method = _method(message)
        if method in SESSION_METHODS:
            return self._session(session, method, params, caller, usage)
        if method not in METHODS:
            raise error(-1020)
        return road.carry_out(self._context, METHODS[method], params, caller, usage)

    def _session(
        self, session: Session, method: str, params: Params, caller: "_Caller", usage: dict[str, str]
    ) -> dict[str, Any]:
        now_ms = self._context.now_ms()
        road.weigh(self._context, PATH, SESSION_WEIGHT, TRADE, session.address, usage)
        match method:
            case "session.logon":
                params.text("apiKey")
                name, key = caller.key()
                if key.algorithm != "ED25519":
                    raise error(-4056)
                sign.check_sorted(params, key, now_ms)
                params.allow(_LOGON_NAMES)
                session.log_on(name, now_ms)
            case "session.logout":
                session.log_out()
        return session.row(now_ms)

    def _usage_rows(self, usage: dict[str, str]) -> list[dict[str, Any]]:
        rows = []
        for row in rate_limit_rows(self._context.limits):
            count = usage.get(_COUNTED[row["rateLimitType"], row["interval"]])
            if count is not None:
                rows.append(row | {"count": int(count)})
        return rows


class _Caller:
    """By the key in the request, which then is signed; else by that of the session."""

    names = _OWN_NAMES

    def __init__(self, context: Context, session: Session, params: Params) -> None:
        self._context, self._session = context, session
        self._own = params.given.get("apiKey", "")
        self.address = session.address

    def key(self) -> tuple[str, ApiKey]:
        if not self._own and self._session.key is None:
            raise error(-1102, "apiKey")
        try:
            name = self._own or self._session.key or ""
            return sign.check_key(name, self._context.exchange.keys, self.address)
        except ApiError:
            if not self._own:
                self._session.log_out()
            raise

    def check_signed(self, params: Params, key: ApiKey) -> None:
        check = sign.check_sorted if self._own else _check_stamp
        check(params, key, self._context.now_ms())


def _check_stamp(params: Params, key: ApiKey, now_ms: int) -> None:
    sign.check_clock(params, now_ms)


def _given(message: dict[str, Any]) -> dict[str, Any]:
    params = message.get("params")
    return params if isinstance(params, dict) else {}


def _method(message: dict[str, Any]) -> str:
    """A version may stand before the name, such as v1/order.place."""
    return re.sub(r"^v\d+/", "", str(message.get("method", "")))


def _text(value: Any) -> str:
    """As it is signed."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _error(refused: ApiError) -> dict[str, Any]:
    return {"status": refused.status, "error": {"code": refused.code, "msg": refused.text}}
