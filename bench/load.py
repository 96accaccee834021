"""Many senders at once: alerts over kept-alive connections, in a process of its own that is faster than what it loads.

    python -m bench.load '{"url": "http://127.0.0.1:8000", "path": "/webhook/bench", "body": {"symbol": "BTCUSDT", …}}'

Each alert gets an `id` and an instrument of its own. A closed loop sends the next one when the last is answered; with
`rate` an alert is sent when it is due, whoever is late, and its time counts from then. Prints one line of JSON.
"""

import asyncio
import signal
import sys
import time
from collections import Counter, deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.report import Summary, summary

PAUSE_S: Final = 0.05  # before a connection that was refused is tried again
LEFT_S: Final = 3.0  # for what is still under way in the end: a chart hangs up after as long
SECOND_NS: Final = 1_000_000_000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. It ends after `seconds` or `count` alerts, whichever comes first."""

    url: str
    path: str
    body: dict[str, Any]
    connections: int = 16
    seconds: float = 3.0
    warm_up_s: float = 0.0  # what is answered before that is not counted
    count: int | None = None
    rate: float | None = None
    symbols: int = 20
    tag: str = "load"
    answers: str | None = (
        None  # a file where to note each alert that was answered: its id, the status, what was answered
    )


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `cut`: connections that ended under an alert; nobody knows what became of that one."""

    answered: int
    seconds: float
    statuses: dict[int, int]
    cut: int
    latency: Summary | None

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


class Senders:
    """All connections, and what they have heard."""

    def __init__(self, order: Order, notes: TextIO | None) -> None:
        self.order = order
        self.host = urlsplit(order.url)
        self.statuses: Counter[int] = Counter()
        self.times_ns: list[int] = []
        self.cut = 0
        self.counts_from = time.perf_counter_ns() + int(order.warm_up_s * SECOND_NS)
        self.over = asyncio.Event()
        self.under_way = 0
        self._notes = notes
        self._number = 0
        self._due: deque[int] = deque()
        self._idle: deque[Sender] = deque()
        body = msgspec.json.encode({"id": "@", "symbol": "@", **order.body}).split(b'"@"')
        self._start, self._middle, self._end = body
        self._head = f"POST {order.path} HTTP/1.1\r\nHost: {self.host.netloc}\r\nContent-Type: application/json\r\n"

    def next(self, sender: "Sender") -> None:
        """The next alert of this connection, now or when one is due."""
        if self.order.rate is not None:
            if not self._due:
                self._idle.append(sender)
                return
            sender.send(self._due.popleft())
        elif not self.over.is_set():
            sender.send(time.perf_counter_ns())

    def request(self) -> tuple[str, bytes]:
        number, self._number = self._number, self._number + 1
        if self.order.count is not None and self._number >= self.order.count:
            self.over.set()
        name = f"{self.order.tag}-{number}"
        body = b'%b"%b"%b"B%02dUSDT"%b' % (
            self._start, name.encode(), self._middle, number % self.order.symbols, self._end,
        )  # fmt: skip
        return name, b"%bContent-Length: %d\r\n\r\n%b" % (self._head.encode(), len(body), body)

    def heard(self, name: str, begun_ns: int, status: int, answer: bytes) -> None:
        now = time.perf_counter_ns()
        if now >= self.counts_from:
            self.statuses[status] += 1
            self.times_ns.append(now - begun_ns)
        if self._notes is not None:
            self._notes.write(f"{name}\t{status}\t{answer.decode()}\n")

    async def paced(self) -> None:
        """Have one due at each instant."""
        assert self.order.rate is not None
        gap_ns = SECOND_NS / self.order.rate
        begun, number = time.perf_counter_ns(), 0
        while not self.over.is_set():
            due = begun + int(number * gap_ns)
            await asyncio.sleep(max(0.0, (due - time.perf_counter_ns()) / SECOND_NS))
            number += 1
            if self._idle:
                self._idle.popleft().send(due)
            else:
                self._due.append(due)


class Sender(asyncio.Protocol):
    """One connection, one alert at a time; opened anew when the server closes it."""

    def __init__(self, senders: Senders) -> None:
        self._all = senders
        self._name: str | None = None  # of the alert that is under way
        self._begun_ns = 0
        self._heard = b""
        self._closing = False

    async def open(self) -> None:
        while not self._all.over.is_set():
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: self, self._all.host.hostname or "", self._all.host.port or 80
                )
            except OSError:
                await asyncio.sleep(PAUSE_S)
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._heard, self._closing = b"", False
        self._all.next(self)

    def send(self, begun_ns: int) -> None:
        self._begun_ns = begun_ns
        self._name, request = self._all.request()
        self._all.under_way += 1
        self._transport.write(request)  # type: ignore[attr-defined]  # a stream's

    def data_received(self, data: bytes) -> None:
        self._heard = self._heard + data if self._heard else data
        end = self._heard.find(b"\r\n\r\n")
        if end < 0 or self._name is None:
            return
        head = self._heard[:end].lower()
        at = head.find(b"content-length:")
        length = 0 if at < 0 else int(head[at + 15 :].split(b"\r", 1)[0])
        if len(self._heard) < end + 4 + length:
            return
        answer, self._heard = self._heard[end + 4 :], b""
        name, self._name = self._name, None
        self._all.under_way -= 1
        self._all.heard(name, self._begun_ns, int(head[9:12]), answer)
        if b"connection: close" in head:
            self._transport.close()
        else:
            self._all.next(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._name is not None:
            self._name = None
            self._all.under_way -= 1
            self._all.cut += 1
        if not self._all.over.is_set():
            _opening.add(task := asyncio.ensure_future(self.open()))
            task.add_done_callback(_opening.discard)

    def close(self) -> None:
        self._transport.close()


_opening: set[asyncio.Future[None]] = set()


async def send(order: Order, notes: TextIO | None) -> Load:
    senders = Senders(order, notes)
    connections = [Sender(senders) for _ in range(order.connections)]
    await asyncio.gather(*(one.open() for one in connections))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, senders.over.set)
    pace = None if order.rate is None else asyncio.create_task(senders.paced())
    try:
        async with asyncio.timeout(order.warm_up_s + order.seconds):
            await senders.over.wait()
    except TimeoutError:
        pass
    counted_s = (time.perf_counter_ns() - senders.counts_from) / SECOND_NS
    answered, statuses, times = len(senders.times_ns), dict(senders.statuses), senders.times_ns[:]
    senders.over.set()
    if pace is not None:
        await pace
    deadline = asyncio.get_running_loop().time() + LEFT_S
    while senders.under_way and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # not worth an event
        await asyncio.sleep(0.01)
    for one in connections:
        one.close()
    return Load(
        answered=answered,
        seconds=counted_s,
        statuses=statuses,
        cut=senders.cut,
        latency=summary(times) if times else None,
    )


def main() -> int:
    order = msgspec.json.decode(sys.argv[1], type=Order)
    with ExitStack() as open_files:
        notes = None if order.answers is None else open_files.enter_context(Path(order.answers).open("w"))
        done = uvloop.run(send(order, notes))
    sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
