"""A line to the exchange, some milliseconds long each way; a process of its own that notes orders as they come.

Without it the exchange is on the same cores: what it does about the first of many orders would delay the others, and
its answers would have to be read between them. A real one is further away than a burst takes.
"""

import argparse
import selectors
import socket
import time
from collections import deque
from itertools import count
from urllib.parse import urlsplit

import msgspec

from bench.arrivals import Arrivals
from bench.canned import HOST
from bench.order_overhead import warm

SEEN = b"GET /bench/seen"


class Line:
    def __init__(self, upstream: str, delay_s: float, port: int) -> None:
        self._upstream = upstream
        self._delay_s = delay_s
        self._arrivals = Arrivals()
        self._chosen = selectors.DefaultSelector()
        self._listener = socket.create_server((HOST, port), backlog=1024)
        self._chosen.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}  # either end -> the other
        self._clients: dict[socket.socket, int] = {}  # -> its number
        self._numbers = count()
        self._under_way: deque[tuple[float, socket.socket, bytes]] = deque()  # due (monotonic), to whom, what

    def serve(self) -> None:
        """Until killed."""
        while True:
            wait_s = max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else None
            for key, _ in self._chosen.select(wait_s):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                if end is self._listener:
                    self._open()
                elif end in self._peers:  # it may have been closed a moment ago
                    self._read(end)
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, to, data = self._under_way.popleft()
                self._pass_on(to, data)

    def _open(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange = warm(self._upstream)
        self._peers |= {client: exchange, exchange: client}
        self._clients[client] = next(self._numbers)
        for end in (client, exchange):
            self._chosen.register(end, selectors.EVENT_READ)

    def _read(self, end: socket.socket) -> None:
        try:
            data = end.recv(65536)
        except OSError:
            data = b""
        if end in self._clients:
            if data.startswith(SEEN):
                self._tell(end)
                return
            self._arrivals.note(self._clients[end], time.time_ns(), data)
        if not data:
            self._chosen.unregister(end)
        self._under_way.append((time.monotonic() + self._delay_s, self._peers[end], data))

    def _pass_on(self, to: socket.socket, data: bytes) -> None:
        if to not in self._peers:
            return
        try:
            if data:
                to.sendall(data)
                return
        except OSError:
            pass
        other = self._peers.pop(to)
        del self._peers[other]
        for end in (to, other):
            self._clients.pop(end, None)
            if end.fileno() in self._chosen.get_map():
                self._chosen.unregister(end)
            end.close()

    def _tell(self, client: socket.socket) -> None:
        body = msgspec.json.encode({"orders": self._arrivals.take()})
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.line")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, required=True)
    given = parser.parse_args()
    assert urlsplit(given.upstream).port
    Line(given.upstream, given.delay_ms / 1000, given.port).serve()


if __name__ == "__main__":
    main()
