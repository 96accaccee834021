"""Fan-out of frames to WebSocket links: a frame is encoded once, a link that cannot follow is cut."""

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from simulator.exchange import Exchange
from simulator.faults import FaultKind

QUEUE_MAX = 20_000  # frames a link may lag before it is cut
# No exchange acknowledges within microseconds: pybit notes its subscription after sending it, and dies of an ack that
# is there before.
ACK_S = 0.01


class Link:
    """One WebSocket. Frames are queued here and written by a task of its own."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.id = uuid.uuid4().hex[:20]
        self.account: str | None = None  # private links, once authenticated
        self.topics: set[str] = set()
        self._socket = socket
        self._transport = request.transport
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_MAX)
        self._writer = asyncio.create_task(self._write())

    def send(self, frame: bytes) -> None:
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.cut()

    def cut(self) -> None:
        """As a failing network does: no closing handshake."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def has_ended(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    async def close(self) -> None:
        await self._socket.close()

    async def finish(self) -> None:
        """Write what is queued, then say goodbye."""
        await self._queue.join()
        await self._socket.close()

    async def drain(self) -> None:
        """Stop writing once the link has ended."""
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._queue.get()
                await self._socket.send_frame(frame, WSMsgType.TEXT)
                self._queue.task_done()
        except ConnectionError:
            self.cut()  # the reader sees the end too and cleans up


class Hub:
    """The links of one channel (public, private or trade) and the topics they asked for."""

    def __init__(self, exchange: Exchange, channel: str) -> None:
        self.channel = channel
        self.links: set[Link] = set()
        self._exchange = exchange
        self._topics: defaultdict[str, set[Link]] = defaultdict(set)

    def wanted(self, topic: str) -> bool:
        return topic in self._topics

    @property
    def topics(self) -> list[str]:
        return list(self._topics)

    def subscribe(self, link: Link, topic: str) -> None:
        link.topics.add(topic)
        self._topics[topic].add(link)

    def unsubscribe(self, link: Link, topic: str) -> None:
        link.topics.discard(topic)
        links = self._topics.get(topic)
        if links is not None:
            links.discard(link)
            if not links:
                del self._topics[topic]

    def leave(self, link: Link) -> None:
        for topic in list(link.topics):
            self.unsubscribe(link, topic)
        self.links.discard(link)

    def is_silent(self, symbol: str = "") -> bool:
        find = self._exchange.faults.find
        return find(FaultKind.SILENT_SOCKET, self._exchange.now_s(), symbol=symbol, channel=self.channel) is not None

    def refuses(self) -> bool:
        """Whether a lasting cut keeps new links out."""
        find = self._exchange.faults.find
        return find(FaultKind.CUT_SOCKET, self._exchange.now_s(), channel=self.channel) is not None

    def publish(self, topic: str, frame: bytes, symbol: str = "") -> None:
        links = self._topics.get(topic)
        if links and not self.is_silent(symbol):
            for link in list(links):
                link.send(frame)

    def answer(self, link: Link, frame: bytes) -> bool:
        """A frame for one link: an acknowledgement or a snapshot. False if nobody will get it."""
        if self.is_silent() or link.has_ended:
            return False
        link.send(frame)
        return True

    def cut_all(self) -> None:
        for link in list(self.links):
            link.cut()

    async def close_all(self) -> None:
        await asyncio.gather(*(link.close() for link in list(self.links)), return_exceptions=True)


async def serve(
    hub: Hub, request: web.Request, handle: Callable[[Link, dict[str, Any]], Awaitable[bool]]
) -> web.StreamResponse:
    """Read one WebSocket until it ends. `handle` gets each JSON object and says whether to go on."""
    if hub.refuses():
        return web.Response(status=503)
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    link = Link(socket, request)
    hub.links.add(link)
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                data = msgspec.json.decode(message.data)
            except msgspec.DecodeError:
                data = None
            data = data if isinstance(data, dict) else {}
            if data.get("op") == "subscribe":
                await asyncio.sleep(ACK_S)
            if not await handle(link, data):
                await link.finish()
                break
    finally:
        hub.leave(link)
        await link.drain()
    return socket
