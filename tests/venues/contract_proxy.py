"""A proxy between an adapter and its exchange that cuts one request of a row: before it arrives, or its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Cutter:
    """Forwards everything until the `nth` (from 0) request of a path is seen: that one is lost."""

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        self._host, self._port = parts.hostname, parts.port
        self.url = ""
        self.seen = 0
        self._path = b""
        self._nth: int | None = None
        self._lose_answer = False

    def cut(self, path: str, nth: int, *, lose_answer: bool) -> None:
        """From now on: changes of this path count, reads of it don't."""
        self.seen, self._path, self._nth, self._lose_answer = 0, f" {path}".encode(), nth, lose_answer

    def mend(self) -> None:
        self._nth = None

    def _is_due(self, data: bytes) -> bool:
        method, _, rest = data.partition(b" ")
        if not self._path or method not in (b"POST", b"PUT", b"DELETE") or not (b" " + rest).startswith(self._path):
            return False
        self.seen += 1
        return self.seen - 1 == self._nth

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection(self._host, self._port)
        cut = asyncio.Event()

        async def forward() -> None:
            while data := await reader.read(65536):
                if self._is_due(data):
                    cut.set()
                    if not self._lose_answer:
                        return
                out.write(data)

        async def back() -> None:
            while data := await there.read(65536):
                if cut.is_set():
                    return
                writer.write(data)

        tasks = [asyncio.create_task(forward()), asyncio.create_task(back())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, out):
                end.transport.abort()


@asynccontextmanager
async def cutter(origin: str) -> AsyncIterator[Cutter]:
    proxy = Cutter(origin)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
