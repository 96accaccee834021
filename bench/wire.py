"""A bare HTTP/1.1 client on one warm socket: what is measured through it is the server, not a client library."""

import asyncio
import re
import time
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


class Wire:
    """One kept-alive connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host.encode()
        self.sent_ns = 0  # wall clock right before the first byte of the last request

    @classmethod
    async def open(cls, url: str) -> "Wire":
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        return cls(reader, writer, parts.netloc)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        return await self._request(b"POST", path, body)

    async def get(self, path: str) -> tuple[int, bytes]:
        return await self._request(b"GET", path, b"")

    async def _request(self, method: bytes, path: str, body: bytes) -> tuple[int, bytes]:
        message = (b"%b %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b") % (
            method,
            path.encode(),
            self._host,
            len(body),
            body,
        )
        self.sent_ns = time.time_ns()
        self._writer.write(message)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        answer = await self._reader.readexactly(int(length[1])) if length else b""
        return int(head.split(b" ", 2)[1]), answer

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
