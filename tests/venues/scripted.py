"""What both scripted exchanges are made of: the answers that are no words of either, connections, signatures."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.keys import Credentials
from app.venues.entry import OrderEntry

KEY = "test-key"
SECRET = "test-secret"
CREDENTIALS = Credentials(api_key=KEY, api_secret=SECRET)


class Http(msgspec.Struct):
    status: int
    text: str = "<html></html>"
    headers: dict[str, str] = {}


class Cut(msgspec.Struct):
    """No answer: the connection ends."""


class Hang(msgspec.Struct):
    """No answer: the connection stays."""


class Raw(msgspec.Struct):
    """What is said, as it is; over the socket "{id}" is the request's."""

    text: str


class ScriptedServer:
    """An exchange's REST, and its socket for orders. What a test wrote down is answered by the venue's own."""

    ENTRY: str
    """Where its socket for orders is."""

    def __init__(self, verify: Callable[[bytes, str], bool] | None) -> None:
        self.faults: list[str] = []  # what was wrong with requests; has to stay empty
        self.time_connections: list[int] = []  # of the calls for the time, which `requests` leaves out
        self.skew_ms = 0
        self.origin = ""
        self.verify = verify or hmac_fits
        self._connections: dict[asyncio.Transport | None, int] = {}
        self.entries: list[web.WebSocketResponse] = []  # connections to the socket for orders, gone ones too
        self.entry_path: str | None = self.ENTRY  # None: this server has none
        self.muted = False  # the socket for orders hears everything and says nothing
        self.arrived: asyncio.Queue[str] = asyncio.Queue()  # client order ids, over the socket
        self.hanging = asyncio.Event()  # a request is left without an answer
        self.closing = asyncio.Event()  # such requests end

    def number(self, request: web.Request) -> int:
        """Of its connection."""
        return self._connections.setdefault(request.transport, len(self._connections))

    def hang_up(self) -> None:
        """Close what is idle, as a front server does after a while."""
        for transport in self._connections:
            if transport is not None:
                transport.close()

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self.skew_ms

    def cut_entries(self) -> None:
        for link in self.entries:
            abort(link)

    async def entry(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def answer(self, request: web.Request, given: Http | Cut | Hang | Raw) -> web.Response:
        match given:
            case Http(status, text, headers):
                return web.Response(status=status, text=text, headers=headers)
            case Cut():
                assert request.transport is not None
                request.transport.abort()
            case Hang():
                self.hanging.set()
                await self.closing.wait()
            case Raw(text):
                return web.Response(text=text)
        return web.Response()


S = TypeVar("S", bound=ScriptedServer)


@asynccontextmanager
async def scripted(server: S) -> AsyncIterator[S]:
    app = web.Application()
    app.router.add_get(server.ENTRY, server.entry)
    app.router.add_route("*", "/{tail:.*}", server.handle)
    async with serving(app) as origin:
        server.origin = f"http://{origin}"
        try:
            yield server
        finally:
            server.closing.set()
            server.cut_entries()
    assert server.faults == []


async def risen(entry: OrderEntry[Any] | None, *, up: bool) -> None:
    """Have an adapter's orders go over the socket; with `up` once that is."""
    assert entry is not None
    entry.keep_warm()
    if up:
        await asyncio.wait_for(entry.ready.wait(), 5)


def abort(link: web.WebSocketResponse) -> None:
    transport = link._req.transport if link._req is not None else None
    if transport is not None:
        transport.abort()


def hmac_fits(text: bytes, signature: str) -> bool:
    return hmac.compare_digest(hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest(), signature)


def key_verifier(public_key: RSAPublicKey | Ed25519PublicKey) -> Callable[[bytes, str], bool]:
    def fits(text: bytes, signature: str) -> bool:
        try:
            if isinstance(public_key, Ed25519PublicKey):
                public_key.verify(base64.b64decode(signature), text)
            else:
                public_key.verify(base64.b64decode(signature), text, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    return fits


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
