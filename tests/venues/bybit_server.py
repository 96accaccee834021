"""A Bybit that answers what a test wrote down, and checks what every private request must be: signed, on time."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import WSMsgType, web

from app.keys import Credentials
from app.venues.base import Origins
from app.venues.bybit.venue import BybitVenue
from app.venues.gate import Gate
from tests.venues.bybit_rows import CREATE
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


class Request(msgspec.Struct):
    method: str
    path: str
    query: dict[str, str]
    raw_query: str
    body: Any
    connection: int  # the same number: the same TCP connection
    stamp: str = ""  # X-BAPI-TIMESTAMP


class Say(msgspec.Struct):
    """An answer of HTTP status 200 whose retCode is not 0."""

    code: int
    text: str = "some reason"
    headers: dict[str, str] = {}


Answer = dict[str, Any] | Say | Http | Cut | Hang | Raw


class BybitServer(ScriptedServer):
    """`script` says what a path answers: in turn, the last one for ever."""

    ENTRY = "/v5/trade"

    def __init__(self, verify: Callable[[bytes, str], bool] | None = None) -> None:
        super().__init__(verify)
        self.requests: list[Request] = []
        self._answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.script("/v5/account/info", {"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5})
        self.auth_code: int | None = 0  # None: the authentication is not answered
        self._request_ids: set[str] = set()

    def script(self, path: str, *answers: Answer) -> None:
        self._answers[path] = list(answers)

    def sent(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def orders(self, road: str = "") -> list[Request]:
        """Orders that arrived, over "POST" or "WS" or either."""
        return [request for request in self.sent(CREATE) if road in ("", request.method)]

    async def entry(self, request: web.Request) -> web.StreamResponse:
        """https://bybit-exchange.github.io/docs/v5/websocket/trade/guideline"""
        if request.path != self.entry_path:
            return web.Response(status=404)
        link = web.WebSocketResponse()
        await link.prepare(request)
        self.entries.append(link)
        authenticated, answering = False, set()
        async for message in link:
            if message.type is not WSMsgType.TEXT:
                continue
            asked = json.loads(message.data)
            if self.muted:
                continue
            if asked["op"] == "ping":
                await link.send_json({"retCode": 0, "retMsg": "OK", "op": "pong", "data": [str(self.now_ms())]})
            elif asked["op"] == "auth":
                authenticated = await self._authenticate(link, asked)
            else:
                if not authenticated:
                    self.faults.append("an order before the authentication was answered")
                task = asyncio.create_task(self._entered(link, asked))
                answering.add(task)
                task.add_done_callback(answering.discard)
        return link

    async def _authenticate(self, link: web.WebSocketResponse, asked: dict[str, Any]) -> bool:
        key, expires, signature = asked["args"]
        code = self.auth_code
        if code is None:
            return False
        if not code and (expires <= self.now_ms() or key != KEY):
            code = 10001
        if not code and not self.verify(f"GET/realtime{expires}".encode(), signature):
            code = 10004
        await link.send_json({"retCode": code, "retMsg": f"said of {key}", "op": "auth", "connId": "c"})
        return code == 0

    async def _entered(self, link: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        number, header = asked["reqId"], asked["header"]
        [params] = asked["args"]
        if asked["op"] != "order.create" or set(asked) != {"reqId", "header", "op", "args"}:
            self.faults.append(f"not an order: {asked}")
        if number in self._request_ids or not 0 < len(number) <= 36:
            self.faults.append(f"reqId {number}")
        if not all(isinstance(value, str) for value in header.values()):
            self.faults.append(f"header {header}")
        self._request_ids.add(number)
        stamp = header["X-BAPI-TIMESTAMP"]
        self.requests.append(Request("WS", CREATE, {}, "", params, self.entries.index(link), stamp))
        self.arrived.put_nowait(params["orderLinkId"])
        now = self.now_ms()
        answers = self._answers[CREATE]
        late = not now - int(header["X-BAPI-RECV-WINDOW"]) <= int(stamp) < now + 1000
        answer = Say(10002, "too late") if late else answers.pop(0) if len(answers) > 1 else answers[0]
        said: dict[str, Any] = {"reqId": number, "retCode": 0, "retMsg": "OK", "op": "order.create", "connId": "c"}
        said |= {"data": {}, "retExtInfo": {}, "header": {"Timenow": str(now), "Traceid": "t"}}
        match answer:
            case Say(code, text, headers):
                await link.send_json(said | {"retCode": code, "retMsg": text, "header": said["header"] | headers})
            case Raw(text):
                await link.send_str(text.replace("{id}", number))
            case Cut():
                self.cut_entries()
            case Hang():
                self.hanging.set()
                await self.closing.wait()
                if not link.closed:
                    await link.send_json(said | {"data": {"orderId": "late", "orderLinkId": ""}})
            case dict():
                await link.send_json(said | {"data": answer})
            case _:
                raise AssertionError(answer)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, _, raw_query = request.raw_path.partition("?")
        raw = await request.read()
        number = self.number(request)
        if path == "/v5/market/time":
            self.time_connections.append(number)
            return self._envelope(0, {"timeSecond": "", "timeNano": ""}, {})
        body = json.loads(raw) if raw else None
        query = dict(parse_qsl(raw_query, strict_parsing=True)) if raw_query else {}
        stamp = request.headers.get("X-BAPI-TIMESTAMP", "")
        self.requests.append(Request(request.method, path, query, raw_query, body, number, stamp))
        if not path.startswith("/v5/market/") and (refusal := self._check(request, raw_query, raw)) is not None:
            return self._envelope(refusal.code, {}, {}, refusal.text)
        answers = self._answers[path]
        if not answers:
            self.faults.append(f"nothing is scripted for {path}")
            return self._envelope(10017, {}, {})
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        match answer:
            case Say(code, text, headers):
                return self._envelope(code, {}, headers, text)
            case Http() | Cut() | Hang() | Raw():
                return await self.answer(request, answer)
            case _:
                return self._envelope(0, answer, {})

    def _check(self, request: web.Request, raw_query: str, raw: bytes) -> Say | None:
        headers = request.headers
        stamp, window = headers.get("X-BAPI-TIMESTAMP", "0"), headers.get("X-BAPI-RECV-WINDOW", "0")
        now = self.now_ms()
        if not now - int(window) <= int(stamp) < now + 1000:
            return Say(10002, "invalid request, please check your server timestamp")
        payload = raw_query.encode() if request.method == "GET" else raw
        text = f"{stamp}{headers.get('X-BAPI-API-KEY')}{window}".encode() + payload
        if headers.get("X-BAPI-API-KEY") != KEY or not self.verify(text, headers.get("X-BAPI-SIGN", "")):
            self.faults.append(f"bad signature of {request.raw_path}")
            return Say(10004, f"error sign! origin_string[{text.decode()}]")
        if request.method == "POST" and headers.get("Content-Type") != "application/json":
            self.faults.append(f"content type of {request.raw_path}")
        return None

    def _envelope(self, code: int, result: dict[str, Any], headers: dict[str, str], text: str = "OK") -> web.Response:
        body = {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": self.now_ms()}
        return web.json_response(body, headers=headers)


@asynccontextmanager
async def bybit_server(verify: Callable[[bytes, str], bool] | None = None) -> AsyncIterator[BybitServer]:
    async with scripted(BybitServer(verify)) as server:
        yield server


@asynccontextmanager
async def adapter(
    origin: str,
    credentials: Credentials = CREDENTIALS,
    timeout_s: float = 5.0,
    gate: Gate | None = None,
    ws: str = "",
) -> AsyncIterator[BybitVenue]:
    """Orders go over REST unless `ws` names where they may go over a socket."""
    venue = BybitVenue(credentials, Origins(rest=origin, ws=ws), timeout_s=timeout_s, gate=gate)
    try:
        yield venue
    finally:
        await venue.close()


@asynccontextmanager
async def entering(server: BybitServer, *, up: bool = True, **options: Any) -> AsyncIterator[BybitVenue]:
    """An adapter that sends orders over the socket, once that is up."""
    async with adapter(server.origin, ws=server.origin.replace("http", "ws", 1), **options) as venue:
        await risen(venue.entry, up=up)
        yield venue


class SocketServer:
    """A public or private socket: acknowledges operations unless told otherwise; what arrives is queued."""

    def __init__(self) -> None:
        self.origin = ""
        self.connections = 0
        self.operations: asyncio.Queue[dict[str, Any]] = asyncio.Queue()  # without pings
        self.args_chars: dict[web.WebSocketResponse, int] = {}  # of the topics that a connection asked for
        self.pings = 0
        self.muted = False  # hears everything, says nothing
        self.refused_topics: set[str] = set()
        self.auth_refusal: str | None = None
        self.with_req_id = True
        self._links: dict[web.WebSocketResponse, None] = {}

    async def send(self, frame: object) -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        for link in list(self._links):
            await link.send_str(text)

    def cut(self, links: int | None = None) -> None:
        for link in list(self._links)[:links]:
            abort(link)

    async def close_politely(self) -> None:
        for link in list(self._links):
            await link.close()

    async def subscribed(self, count: int) -> list[str]:
        """The topics of the next `count` subscriptions."""
        topics: list[str] = []
        while len(topics) < count:
            operation = await asyncio.wait_for(self.operations.get(), 5)
            if operation["op"] == "subscribe":
                topics += operation["args"]
        return topics

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        link = web.WebSocketResponse()
        await link.prepare(request)
        self.connections += 1
        self._links[link] = None
        try:
            async for message in link:
                if message.type is WSMsgType.TEXT:
                    await self._answer(link, json.loads(message.data))
        finally:
            del self._links[link]
        return link

    async def _answer(self, link: web.WebSocketResponse, operation: dict[str, Any]) -> None:
        op = operation["op"]
        if op == "ping":
            self.pings += 1
        else:
            self.operations.put_nowait(operation)
            chars = sum(len(json.dumps(arg)) + 1 for arg in operation["args"])
            self.args_chars[link] = self.args_chars.get(link, 0) + chars
        if self.muted:
            return
        answer: dict[str, Any] = {"op": op, "success": True, "ret_msg": "", "conn_id": "c"}
        if op == "ping":
            answer |= {"ret_msg": "pong"}
        elif op == "auth" and self.auth_refusal is not None:
            answer |= {"success": False, "ret_msg": self.auth_refusal}
        elif refused := [topic for topic in operation["args"] if topic in self.refused_topics]:
            answer |= {"success": False, "ret_msg": f"error:handler not found,topic:{refused[0]}"}
        if self.with_req_id and "req_id" in operation:
            answer["req_id"] = operation["req_id"]
        await link.send_json(answer)


@asynccontextmanager
async def socket_server() -> AsyncIterator[SocketServer]:
    server = SocketServer()
    app = web.Application()
    app.router.add_get("/v5/public/linear", server._handle)
    app.router.add_get("/v5/private", server._handle)
    async with serving(app) as origin:
        server.origin = f"ws://{origin}"
        yield server
        server.cut()
