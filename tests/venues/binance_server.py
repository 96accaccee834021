"""A Binance that answers what a test wrote down, checking that each request is: signed, on time, well-formed."""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import WSMsgType, web

from app.keys import Credentials
from app.venues.base import Origins
from app.venues.binance.venue import BinanceVenue
from app.venues.gate import Gate
from tests.venues.scripted import (
    CREDENTIALS,
    KEY,
    Cut,
    Hang,
    Http,
    Raw,
    ScriptedServer,
    abort,
    risen,
    scripted,
    serving,
)

SIGNED = {"timestamp", "recvWindow", "signature"}
# method and path -> the parameters that it knows, those that it needs, whether it is signed
ENDPOINTS: dict[str, tuple[set[str], set[str], bool]] = {
    "GET /fapi/v1/exchangeInfo": (set(), set(), False),
    "GET /fapi/v1/leverageBracket": ({"symbol"}, set(), True),
    "GET /fapi/v1/premiumIndex": ({"symbol"}, set(), False),
    "GET /fapi/v2/ticker/price": ({"symbol"}, set(), False),
    "GET /fapi/v1/ticker/bookTicker": ({"symbol"}, set(), False),
    "GET /fapi/v1/aggTrades": ({"symbol", "fromId", "startTime", "endTime", "limit"}, {"symbol"}, False),
    "GET /fapi/v1/klines": ({"symbol", "interval", "startTime", "endTime", "limit"}, {"symbol", "interval"}, False),
    "GET /fapi/v3/account": (set(), set(), True),
    "GET /fapi/v1/accountConfig": (set(), set(), True),
    "GET /fapi/v1/symbolConfig": ({"symbol"}, set(), True),
    "GET /fapi/v3/positionRisk": ({"symbol"}, set(), True),
    "GET /fapi/v1/openAlgoOrders": ({"symbol"}, set(), True),
    "GET /fapi/v1/order": ({"symbol", "orderId", "origClientOrderId"}, {"symbol"}, True),
    "GET /fapi/v1/userTrades": (
        {"symbol", "orderId", "startTime", "endTime", "fromId", "limit"},
        {"symbol"},
        True,
    ),
    "POST /fapi/v1/order": (
        {"symbol", "side", "positionSide", "type", "quantity", "price", "timeInForce", "reduceOnly"}
        | {"newClientOrderId", "newOrderRespType"},
        {"symbol", "side", "type", "quantity", "newClientOrderId"},
        True,
    ),
    "POST /fapi/v1/order/test": (
        {"symbol", "side", "positionSide", "type", "quantity", "newClientOrderId"},
        {"symbol", "side", "type", "quantity"},
        True,
    ),
    "POST /fapi/v1/algoOrder": (
        {"algoType", "symbol", "side", "positionSide", "type", "timeInForce", "quantity", "triggerPrice"}
        | {"workingType", "closePosition", "reduceOnly", "clientAlgoId"},
        {"algoType", "symbol", "side", "type", "triggerPrice", "clientAlgoId"},
        True,
    ),
    "DELETE /fapi/v1/algoOrder": ({"algoId", "clientAlgoId"}, set(), True),
    "POST /fapi/v1/leverage": ({"symbol", "leverage"}, {"symbol", "leverage"}, True),
    "POST /fapi/v1/marginType": ({"symbol", "marginType"}, {"symbol", "marginType"}, True),
    "POST /fapi/v1/listenKey": (set(), set(), False),
    "PUT /fapi/v1/listenKey": (set(), set(), False),
    "GET /sapi/v1/account/apiRestrictions": (set(), set(), True),
}
_PLAIN = re.compile(r"\d+(\.\d+)?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_FORMS = {
    "quantity": _PLAIN,
    "price": _PLAIN,
    "triggerPrice": _PLAIN,
    "leverage": re.compile(r"[1-9]\d{0,2}"),
    "reduceOnly": re.compile("true|false"),
    "closePosition": re.compile("true|false"),
    "newClientOrderId": _ID,
    "clientAlgoId": _ID,
    "side": re.compile("BUY|SELL"),
    "positionSide": re.compile("LONG|SHORT"),
    "timestamp": re.compile(r"\d{13}"),
    "recvWindow": re.compile(r"\d{1,5}"),
}


class Request(msgspec.Struct):
    name: str  # method and path
    params: dict[str, str]
    raw: str  # the query, or the body
    connection: int  # the same number: the same TCP connection
    road: str = "REST"


class Fail(msgspec.Struct):
    """An answer with a code."""

    code: int
    text: str = "some reason"
    status: int = 400
    headers: dict[str, str] = {}


class Good(msgspec.Struct):
    """A good answer with headers."""

    body: Any
    headers: dict[str, str] = {}


Answer = dict[str, Any] | list[Any] | Fail | Http | Good | Cut | Hang | Raw


class BinanceServer(ScriptedServer):
    """`script` says what an endpoint answers: in turn, the last one for ever; a function answers by the parameters."""

    ENTRY = "/ws-fapi/v1"

    def __init__(self, verify: Callable[[bytes, str], bool] | None = None) -> None:
        super().__init__(verify)
        self.requests: list[Request] = []
        self._answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self._by_params: dict[str, Callable[[dict[str, str]], Answer]] = {}
        self.refuses_key: int | None = 0  # the code that its first request is answered with; None: not answered
        self.greetings: list[str] = []  # methods of first requests
        self._sessions: set[web.WebSocketResponse] = set()

    def script(self, name: str, *answers: Answer) -> None:
        assert name in ENDPOINTS, name
        self._by_params.pop(name, None)
        self._answers[name] = list(answers)

    def script_by(self, name: str, answer: Callable[[dict[str, str]], Answer]) -> None:
        assert name in ENDPOINTS, name
        self._by_params[name] = answer

    def sent(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.name == name]

    def orders(self, road: str = "") -> list[Request]:
        return [request for request in self.sent("POST /fapi/v1/order") if road in ("", request.road)]

    async def entry(self, request: web.Request) -> web.StreamResponse:
        """https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info"""
        if request.path != self.entry_path:
            return web.Response(status=404)
        link = web.WebSocketResponse(autoping=not self.muted)
        await link.prepare(request)
        self.entries.append(link)
        answering = set()
        async for message in link:
            if message.type is WSMsgType.TEXT and not self.muted:
                task = asyncio.create_task(self._asked(link, json.loads(message.data)))
                answering.add(task)
                task.add_done_callback(answering.discard)
        return link

    async def _asked(self, link: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        params, method = asked["params"], asked["method"]
        if set(asked) != {"id", "method", "params"}:
            self.faults.append(f"not a request: {asked}")
        refusal = self._check_entry(link, method, params)
        if method in ("session.logon", "order.status"):
            self.greetings.append(method)
            if self.refuses_key is None:
                return
            if refusal is None and self.refuses_key:
                refusal = Fail(self.refuses_key, KEY, 401)
            if refusal is None and method == "session.logon":
                self._sessions.add(link)
                await link.send_json({"id": asked["id"], "status": 200, "result": {"apiKey": KEY}})
            else:
                await self._say(link, asked["id"], refusal or Fail(-2013, "Order does not exist."))
            return
        if method != "order.place":
            self.faults.append(f"unknown method {method}")
        told = {key: str(value) for key, value in params.items()}
        self.requests.append(Request("POST /fapi/v1/order", told, "", self.entries.index(link), "socket"))
        self.arrived.put_nowait(told["newClientOrderId"])
        self._check_form("POST /fapi/v1/order", {key: told[key] for key in told.keys() - {"apiKey"}})
        answers = self._answers["POST /fapi/v1/order"]
        by_params = self._by_params.get("POST /fapi/v1/order")
        if refusal is None and by_params is not None:
            await self._say(link, asked["id"], by_params(told))
        else:
            await self._say(link, asked["id"], refusal or (answers.pop(0) if len(answers) > 1 else answers[0]))

    def _check_entry(self, link: web.WebSocketResponse, method: str, params: dict[str, Any]) -> Fail | None:
        for name in ("timestamp", "recvWindow"):
            if type(params[name]) is not int:
                self.faults.append(f"{method}: {name} is no number")
        now, stamp = self.now_ms(), params["timestamp"]
        if not (stamp < now + 1000 and now - stamp <= params["recvWindow"]):
            return Fail(-1021, "Timestamp for this request is outside of the recvWindow.")
        if link in self._sessions:
            if {"apiKey", "signature"} & params.keys():
                self.faults.append(f"{method}: signed within a session")
            return None
        text = "&".join(f"{name}={params[name]}" for name in sorted(params.keys() - {"signature"}))
        if params.get("apiKey") != KEY:
            return Fail(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        if not self.verify(text.encode(), params.get("signature", "")):
            self.faults.append(f"bad signature of {method}")
            return Fail(-1022, "Signature for this request is not valid.")
        return None

    async def _say(self, link: web.WebSocketResponse, number: str, answer: Answer) -> None:
        match answer:
            case Fail(code, text, status, headers):
                error: dict[str, Any] = {"code": code, "msg": text}
                if "Retry-After" in headers:
                    error["data"] = {"retryAfter": self.now_ms() + int(headers["Retry-After"]) * 1000}
                await link.send_json({"id": number, "status": status, "error": error, "rateLimits": _rows(headers)})
            case Http(status):
                await link.send_json({"id": number, "status": status})
            case Good(body, headers):
                await link.send_json({"id": number, "status": 200, "result": body, "rateLimits": _rows(headers)})
            case Raw(text):
                await link.send_str(text.replace("{id}", number))
            case Cut():
                self.cut_entries()
            case Hang():
                self.hanging.set()
                await self.closing.wait()
                if not link.closed:
                    await link.send_json({"id": number, "status": 200, "result": {"orderId": 7}})
            case _:
                await link.send_json({"id": number, "status": 200, "result": answer, "rateLimits": _rows({})})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, _, raw_query = request.raw_path.partition("?")
        raw = (await request.read()).decode()
        number = self.number(request)
        if path == "/fapi/v1/time":
            self.time_connections.append(number)
            return web.json_response({"serverTime": self.now_ms()})
        name = f"{request.method} {path}"
        sent = raw_query or raw
        params = dict(parse_qsl(sent, strict_parsing=True)) if sent else {}
        self.requests.append(Request(name, params, sent, number))
        if name not in ENDPOINTS:
            return await self._answer(request, Http(404))
        refusal = self._check(request, name, params, sent)
        if refusal is not None:
            return await self._answer(request, refusal)
        if name in self._by_params:
            return await self._answer(request, self._by_params[name](params))
        answers = self._answers[name]
        if not answers:
            self.faults.append(f"nothing is scripted for {name}")
            return web.Response(status=500)
        return await self._answer(request, answers.pop(0) if len(answers) > 1 else answers[0])

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        match answer:
            case Fail(code, text, status, headers):
                return web.json_response({"code": code, "msg": text}, status=status, headers=headers)
            case Good(body, headers):
                return web.json_response(body, headers=headers)
            case Http() | Cut() | Hang() | Raw():
                return await self.answer(request, answer)
            case _:
                return web.json_response(answer)

    def _check(self, request: web.Request, name: str, params: dict[str, str], sent: str) -> Fail | None:
        self._check_form(name, params)
        signed = ENDPOINTS[name][2]
        if request.headers.get("X-MBX-APIKEY") != KEY:
            return Fail(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        if not signed:
            return None
        text, _, signature = sent.rpartition("&signature=")
        now, stamp = self.now_ms(), int(params.get("timestamp", "0"))
        if not (stamp < now + 1000 and now - stamp <= int(params.get("recvWindow", "5000"))):
            return Fail(-1021, "Timestamp for this request is outside of the recvWindow.")
        if not self.verify(text.encode(), dict(parse_qsl(f"s={signature}")).get("s", "")):
            self.faults.append(f"bad signature of {name}")
            return Fail(-1022, "Signature for this request is not valid.")
        return None

    def _check_form(self, name: str, params: dict[str, str]) -> None:
        known, needed, signed = ENDPOINTS[name]
        allowed = known | SIGNED if signed else known
        for fault in (
            *(f"unknown parameter {key}" for key in params.keys() - allowed),
            *(f"parameter {key} is missing" for key in needed - params.keys()),
            *(
                f"{key}={value!r}"
                for key, value in params.items()
                if not value or (key in _FORMS and not _FORMS[key].fullmatch(value))
            ),
        ):
            self.faults.append(f"{name}: {fault}")
        if params.get("positionSide") and "reduceOnly" in params:
            self.faults.append(f"{name}: reduceOnly in hedge mode")
        if params.get("closePosition") == "true" and {"quantity", "reduceOnly"} & params.keys():
            self.faults.append(f"{name}: closePosition goes alone")
        if params.get("type") == "MARKET" and {"price", "timeInForce"} & params.keys():
            self.faults.append(f"{name}: a market order has a quantity only")
        if "fromId" in params and {"startTime", "endTime"} & params.keys():
            self.faults.append(f"{name}: fromId with a time")


_LIMITS = {
    "X-MBX-USED-WEIGHT-1M": ("REQUEST_WEIGHT", "MINUTE", 1, 2400),
    "X-MBX-ORDER-COUNT-10S": ("ORDERS", "SECOND", 10, 300),
    "X-MBX-ORDER-COUNT-1M": ("ORDERS", "MINUTE", 1, 1200),
}


def _rows(headers: dict[str, str]) -> list[dict[str, Any]]:
    """What headers say, as the socket says it."""
    return [
        {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit, "count": int(count)}
        for name, (kind, interval, number, limit) in _LIMITS.items()
        if (count := headers.get(name, "1")).lstrip("-").isdigit()
    ]


@asynccontextmanager
async def binance_server(verify: Callable[[bytes, str], bool] | None = None) -> AsyncIterator[BinanceServer]:
    async with scripted(BinanceServer(verify)) as server:
        yield server


@asynccontextmanager
async def adapter(
    origin: str,
    credentials: Credentials = CREDENTIALS,
    timeout_s: float = 5.0,
    gate: Gate | None = None,
    recv_window_ms: int = 5000,
    ws: str = "",
) -> AsyncIterator[BinanceVenue]:
    """Orders go over REST unless `ws` names where they may go over a socket."""
    venue = BinanceVenue(
        credentials, Origins(rest=origin, ws=ws), timeout_s=timeout_s, gate=gate, recv_window_ms=recv_window_ms
    )
    try:
        yield venue
    finally:
        await venue.close()


@asynccontextmanager
async def entering(server: BinanceServer, *, up: bool = True, **options: Any) -> AsyncIterator[BinanceVenue]:
    """An adapter that sends orders over the socket, once that is up."""
    async with adapter(server.origin, ws=server.origin.replace("http", "ws", 1), **options) as venue:
        await risen(venue.entry, up=up)
        yield venue


class SocketServer:
    """Public and private sockets: streams are named by the path; what is asked for is acknowledged."""

    def __init__(self) -> None:
        self.origin = ""
        self.opened: asyncio.Queue[str] = asyncio.Queue()  # the path of each connection
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.muted = False  # hears everything, says nothing
        self.refused: str | None = None  # what an error says instead of an acknowledgement
        self.turns_away = False
        self.turned_away: asyncio.Queue[str] = asyncio.Queue()
        self.links: dict[web.WebSocketResponse, str] = {}

    async def send(self, frame: object, route: str = "") -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        for link, path in list(self.links.items()):
            if path.startswith(f"/{route}"):
                await link.send_str(text)

    def cut(self, route: str = "") -> None:
        for link, path in list(self.links.items()):
            if path.startswith(f"/{route}"):
                abort(link)

    async def next_path(self) -> str:
        return await asyncio.wait_for(self.opened.get(), 5)

    async def next_request(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.asked.get(), 5)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.turns_away:
            self.turned_away.put_nowait(request.path)
            return web.Response(status=502)
        link = web.WebSocketResponse(autoping=not self.muted)
        await link.prepare(request)
        self.links[link] = request.path
        self.opened.put_nowait(request.path)
        try:
            async for message in link:
                if message.type is WSMsgType.TEXT:
                    await self._answer(link, json.loads(message.data))
        finally:
            del self.links[link]
        return link

    async def _answer(self, link: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        self.asked.put_nowait(asked)
        if self.muted:
            return
        if self.refused is not None:
            await link.send_json({"error": {"code": 2, "msg": self.refused}, "id": asked["id"]})
        else:
            await link.send_json({"result": None, "id": asked["id"]})


@asynccontextmanager
async def socket_server() -> AsyncIterator[SocketServer]:
    server = SocketServer()
    app = web.Application()
    app.router.add_get("/{tail:.*}", server.handle)
    async with serving(app) as origin:
        server.origin = f"ws://{origin}"
        yield server
        server.cut()
