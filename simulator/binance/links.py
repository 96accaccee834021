"""What all sockets of this face share: routes and forms of address, subscriptions, pings, the limits of a link.

https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams. Each stream belongs to
one route; asked for on another it is acknowledged and stays silent.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from simulator.binance.context import Context
from simulator.hub import ACK_S, Hub, Link

STREAMS_MAX = 1024  # per link

_STREAM = re.compile(r"!?[^\s@!]+(@\S+)?")

Names = Callable[[str], Iterable[str]]


class Streams:
    """One route: its hub, and how a stream's name becomes topics of the hub."""

    def __init__(self, context: Context, channel: str, topics_of: Names = lambda stream: (stream,)) -> None:
        self.hub = Hub(context.exchange, channel)
        self._context = context
        self._topics_of = topics_of
        self._combined: set[Link] = set()
        self._asked: dict[Link, dict[str, None]] = {}  # what each link asked for, silent streams too
        self._goodbyes: set[asyncio.Future[None]] = set()  # keeps the tasks alive

    async def serve(self, request: web.Request, streams: list[str], *, combined: bool) -> web.StreamResponse:
        """Read one WebSocket until it ends."""
        if self.hub.refuses():
            return web.Response(status=503)
        if not self._context.limits.admits_connection(request.remote or ""):
            return web.Response(status=429)
        if len(streams) > STREAMS_MAX:
            return web.Response(status=400)
        socket = web.WebSocketResponse(compress=False, autoping=False)
        await socket.prepare(request)
        link = Link(socket, request)
        self.hub.links.add(link)
        self._asked[link] = dict.fromkeys(streams)
        if combined:
            self._combined.add(link)
        for stream in streams:
            self._join(link, stream)
        heart = Heart(socket, link, self._context)
        pings = asyncio.create_task(heart.beat_for_ever())
        try:
            async for message in socket:
                if not await self._read(link, socket, heart, message):
                    break
        finally:
            pings.cancel()
            await asyncio.gather(pings, return_exceptions=True)
            self._combined.discard(link)
            del self._asked[link]
            self.hub.leave(link)
            await link.drain()
        return socket

    async def _read(self, link: Link, socket: web.WebSocketResponse, heart: "Heart", message: Any) -> bool:
        """False when the link has had enough."""
        if message.type is WSMsgType.PONG:
            heart.answered()
            return True
        if not heart.allows_message(self._context.options.client_messages_1s):
            link.cut()
            return False
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is WSMsgType.TEXT:
            await asyncio.sleep(ACK_S)
            self.hub.answer(link, msgspec.json.encode(self._answer(link, message.data)))
        return True

    def _answer(self, link: Link, text: str) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError as exc:
            return {"error": {"code": 3, "msg": f"Invalid JSON: {exc}"}}
        if not isinstance(message, dict):
            return {"error": {"code": 3, "msg": "Invalid JSON: expected an object"}}
        number = message.get("id")
        refusal = self._refusal(link, message)
        if refusal:
            return {"error": {"code": 2, "msg": f"Invalid request: {refusal}"}, "id": number}
        asked = self._asked[link]
        match message["method"]:
            case "SUBSCRIBE":
                for stream in message["params"]:
                    asked[stream] = None
                    self._join(link, stream)
            case "UNSUBSCRIBE":
                for stream in message["params"]:
                    asked.pop(stream, None)
                    self._part(link, stream)
            case _:
                return {"result": list(asked), "id": number}
        return {"result": None, "id": number}

    def _refusal(self, link: Link, message: dict[str, Any]) -> str:
        """Why a request will not do; empty if it will."""
        method, params, number = message.get("method"), message.get("params"), message.get("id")
        if set(message) - {"method", "params", "id"}:
            return "unknown field"
        if not ((isinstance(number, int) and number >= 0) or (isinstance(number, str) and len(number) <= 36)):
            return "request ID must be an unsigned integer"
        if method == "LIST_SUBSCRIPTIONS":
            return ""
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return "unknown variant, expected one of SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS"
        if not isinstance(params, list) or not params or not all(isinstance(p, str) for p in params):
            return "params must be a list of streams"
        if not all(_STREAM.fullmatch(p) for p in params):
            return "invalid stream"
        if method == "SUBSCRIBE" and len({*self._asked[link], *params}) > STREAMS_MAX:
            return "too many streams"
        return ""

    def _join(self, link: Link, stream: str) -> None:
        for topic in self._topics_of(stream):
            self.hub.subscribe(link, self._key(link in self._combined, topic))

    def _part(self, link: Link, stream: str) -> None:
        for topic in self._topics_of(stream):
            self.hub.unsubscribe(link, self._key(link in self._combined, topic))

    @staticmethod
    def _key(combined: bool, topic: str) -> str:
        """The hub knows topics only; bare and wrapped frames are two."""
        return f"{'wrapped' if combined else 'bare'}/{topic}"

    def wants(self, topic: str) -> bool:
        return self.hub.wanted(self._key(False, topic)) or self.hub.wanted(self._key(True, topic))

    def wanted(self) -> set[str]:
        """Topics that somebody listens to, in either form."""
        return {key.partition("/")[2] for key in self.hub.topics}

    def publish(self, topic: str, payload: Any, *, symbol: str = "", stream: str = "", times: int = 1) -> None:
        """Send to all who asked; encoded once per form. `stream`: the name in the wrapping, if not the topic's."""
        for combined in (False, True):
            key = self._key(combined, topic)
            if self.hub.wanted(key):
                frame = {"stream": stream or topic, "data": payload} if combined else payload
                encoded = msgspec.json.encode(frame)
                for _ in range(times):
                    self.hub.publish(key, encoded, symbol)

    def close(self, topic: str) -> None:
        """Say goodbye to the links that listen to it."""
        keys = {self._key(False, topic), self._key(True, topic)}
        for link in [link for link in self.hub.links if link.topics & keys]:
            task = asyncio.ensure_future(link.finish())
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)


class Heart:
    """The exchange pings, the client must answer; and it may not talk too much."""

    def __init__(self, socket: web.WebSocketResponse, link: Link, context: Context) -> None:
        self._socket = socket
        self._link = link
        self._context = context
        self._unanswered_since_s: float | None = None
        self._messages: deque[float] = deque()

    def answered(self) -> None:
        self._unanswered_since_s = None

    def allows_message(self, most_1s: int) -> bool:
        now_s = self._context.exchange.now_s()
        while self._messages and self._messages[0] <= now_s - 1:
            self._messages.popleft()
        self._messages.append(now_s)
        return len(self._messages) <= most_1s

    async def beat_for_ever(self) -> None:
        options, now = self._context.options, self._context.exchange.now_s
        while True:
            await asyncio.sleep(options.ping_interval_s)
            if self._unanswered_since_s is not None and now() - self._unanswered_since_s > options.pong_wait_s:
                self._link.cut()
                return
            if self._unanswered_since_s is None:
                self._unanswered_since_s = now()
            await self._socket.ping(str(self._context.now_ms()).encode())


def split_streams(text: str) -> list[str]:
    return [part for part in text.split("/") if part]
