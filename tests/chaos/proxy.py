"""A TCP proxy between two parts that are told of it instead of each other: it delays, cuts, swallows, cuts short."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

CHUNK = 65_536

Upstream = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""


class _Link:
    """One accepted connection with its connection to the upstream."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far
        self.cut_at_answer = False

    def reset(self) -> None:
        """Cut both sides with RST: whoever reads or writes learns at once, and what was under way is lost."""
        for writer in (self.near, self.far):
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.family != socket.AF_UNIX:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def cut(self) -> None:
        """End both sides after what was passed on already."""
        for writer in (self.near, self.far):
            writer.close()


class Proxy:
    """What a test does to the links; each change holds for those that are open and for later ones."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.port = 0
        self.delay_s = 0.0
        """Before each piece is passed on, in both directions."""
        self.refusing = False
        """New connections are reset."""
        self.requests_passed = 0
        """Pieces that went towards the upstream."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._answer_bytes_left: int | None = None
        self._cut_after: bytes | None = None
        self._cut_before: bytes | None = None
        self._cut = asyncio.Event()
        self._accepted = asyncio.Event()

    @property
    def links(self) -> int:
        return len(self._links)

    def blackhole(self) -> None:
        """Nothing passes any more, and nobody is told; a silence, not an end. `flow` lets what waits pass."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def reset(self) -> None:
        """Cut every open link."""
        for link in list(self._links):
            link.reset()

    def truncate(self, answer_bytes: int) -> None:
        """Pass so many more bytes of answers, then cut the link that the last one came by."""
        self._answer_bytes_left = answer_bytes

    def cut_answer_to(self, request: bytes) -> None:
        """Pass the next piece that contains `request`, wait until it is answered, and cut the link instead of passing
        the answer. Once; `was_cut` waits for it.
        """
        self._cut_after = request
        self._cut.clear()

    def cut_request(self, request: bytes) -> None:
        """Cut the link instead of passing the next piece that contains `request`. Once; `was_cut` waits for it."""
        self._cut_before = request
        self._cut.clear()

    async def was_cut(self) -> None:
        await self._cut.wait()

    async def linked(self) -> None:
        """Wait for the next connection."""
        self._accepted.clear()
        await self._accepted.wait()

    def heal(self) -> None:
        """As if nothing had been; what was cut stays cut."""
        self.delay_s, self.refusing = 0.0, False
        self._answer_bytes_left = self._cut_after = self._cut_before = None
        self.flow()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self._accepted.set()
        try:
            far_reader, far_writer = await self._dial()
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, far_writer, self._sent))
                group.create_task(self._pump(link, far_reader, writer, self._answered))
        finally:
            self._links.discard(link)
            for one in (writer, far_writer):
                one.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.upstream, Path):
            return await asyncio.open_unix_connection(str(self.upstream))
        return await asyncio.open_connection(*self.upstream)

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        judge: Callable[[_Link, bytes], bytes],
    ) -> None:
        """Pass on until an end; `judge` says what of a piece passes. After less than all of it the link is cut."""
        try:
            while piece := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flowing.wait()
                passed = judge(link, piece)
                if passed:
                    writer.write(passed)
                    await writer.drain()
                if len(passed) < len(piece):
                    link.cut()
                    return
            writer.write_eof()
        except OSError:
            link.reset()

    def _sent(self, link: _Link, piece: bytes) -> bytes:
        if self._cut_before is not None and self._cut_before in piece:
            self._cut_before = None
            self._cut.set()
            return b""
        self.requests_passed += 1
        if self._cut_after is not None and self._cut_after in piece:
            self._cut_after = None
            link.cut_at_answer = True
        return piece

    def _answered(self, link: _Link, piece: bytes) -> bytes:
        if link.cut_at_answer:
            self._cut.set()
            return b""
        if self._answer_bytes_left is None:
            return piece
        passed = piece[: self._answer_bytes_left]
        self._answer_bytes_left -= len(passed)
        if len(passed) < len(piece):
            self._answer_bytes_left = None
        return passed


class WithoutOrderSockets(Proxy):
    """An exchange's server that has no sockets for orders."""

    def _sent(self, link: _Link, piece: bytes) -> bytes:
        return b"" if piece.startswith((b"GET /v5/trade", b"GET /ws-fapi/")) else super()._sent(link, piece)


@asynccontextmanager
async def proxy(upstream: Upstream, kind: type[Proxy] = Proxy) -> AsyncIterator[Proxy]:
    """A proxy that listens on `port` of 127.0.0.1."""
    made = kind(upstream)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.heal()
        server.close()
        made.reset()
        await server.wait_closed()


def upstream_of(url: str, default_port: int = 80) -> Upstream:
    """Where a URL leads: http://…, postgresql://…, redis://…, also with a Unix socket as `up` writes it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Path(unquote(parts.path))
    folder = parse_qs(parts.query).get("host", [""])[0]
    if folder.startswith("/"):
        return Path(folder) / f".s.PGSQL.{parse_qs(parts.query).get('port', ['5432'])[0]}"
    return parts.hostname or "127.0.0.1", parts.port or default_port


def through(made: Proxy, url: str) -> str:
    """The same URL by way of the proxy. One of PostgreSQL's keeps user, password and database."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis://127.0.0.1:{made.port}/0"
    who, at, _ = parts.netloc.rpartition("@")
    query = "sslmode=disable" if parts.scheme.startswith("postgres") else parts.query
    return urlunsplit(parts._replace(netloc=f"{who}{at}127.0.0.1:{made.port}", query=query))
