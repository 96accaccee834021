"""A kept socket of no venue: pings of the protocol, an address that has to be asked for, several that count as one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSMsgType, web

from app.errors import Refused, Transient
from app.venues.link import Bounds, Bundle, Link

QUICK = Bounds(
    ping_s=0.1, silence_s=0.05, connect_s=2.0, answer_s=0.1, pause_min_s=0.01, pause_max_s=0.05, refused_pause_s=0.01
)


class Server:
    """Says "hello" to each connection, and hears pings."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = True
        self.pings: asyncio.Queue[int] = asyncio.Queue()  # the connection's number
        self.links: list[web.WebSocketResponse] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        link = web.WebSocketResponse(autoping=False)
        await link.prepare(request)
        self.links.append(link)
        number = len(self.links)
        await link.send_str("hello")
        async for message in link:
            if message.type is WSMsgType.PING:
                self.pings.put_nowait(number)
                if self.answers:
                    await link.pong(message.data)
        return link

    def cut(self, number: int) -> None:
        request = self.links[number]._req
        assert request is not None
        assert request.transport is not None
        request.transport.abort()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"ws://{host}:{port}/"
    yield server
    await runner.cleanup()


class Heard(Link):
    venue, name = "none", "test"

    def __init__(self, url: str, changed: Callable[[Link], None] = lambda link: None) -> None:
        super().__init__(url, QUICK)
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self.refusals: list[Exception] = []  # what asking for the address raises, in turn
        self._changed = changed

    async def _address(self) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        return self._url

    def _opened(self) -> None:
        self.events.put_nowait("opened")

    def _lost(self) -> None:
        self.events.put_nowait("lost")
        self.up = False
        self._changed(self)

    def _received(self, payload: memoryview | bytes) -> None:
        self.events.put_nowait(bytes(payload).decode())
        self.up = True
        self._changed(self)

    async def event(self) -> str:
        return await asyncio.wait_for(self.events.get(), 5)


@asynccontextmanager
async def running(it: Link | Bundle) -> AsyncIterator[None]:
    task = asyncio.create_task(it.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_ping_of_the_protocol_keeps_a_quiet_link(server: Server) -> None:
    link = Heard(server.url)
    async with running(link):
        assert [await link.event() for _ in range(2)] == ["opened", "hello"]
        assert [await asyncio.wait_for(server.pings.get(), 5) for _ in range(4)] == [1, 1, 1, 1]
        assert link.events.empty()


async def test_a_ping_without_a_pong_ends_the_link(server: Server) -> None:
    server.answers = False
    link = Heard(server.url)
    async with running(link):
        assert [await link.event() for _ in range(4)] == ["opened", "hello", "lost", "opened"]


@pytest.mark.parametrize("failure", [Refused("venue_refused", "no"), Transient("busy"), RuntimeError("a bug")])
async def test_an_address_that_can_not_be_had_is_asked_for_again(server: Server, failure: Exception) -> None:
    link = Heard(server.url)
    link.refusals = [failure, failure]
    async with running(link):
        assert [await link.event() for _ in range(2)] == ["opened", "hello"]
    assert link.refusals == []


async def test_several_links_count_as_one(server: Server) -> None:
    told: asyncio.Queue[bool] = asyncio.Queue()
    bundle = Bundle(told.put_nowait)
    links = [Heard(server.url, bundle.changed) for _ in range(3)]
    for link in links[:2]:
        bundle.add(link)
    async with running(bundle):
        assert await asyncio.wait_for(told.get(), 5) is True
        bundle.add(links[2])  # while it runs
        assert [await links[2].event() for _ in range(2)] == ["opened", "hello"]
        assert told.empty()
        server.cut(0)
        assert [await asyncio.wait_for(told.get(), 5) for _ in range(2)] == [False, True]
        assert all(link.up for link in links)
        bundle.add(Heard("ws://127.0.0.1:9/", bundle.changed))  # one that never comes up
        await server.links[-1].send_str("news")
        while await links[0].event() != "news":
            pass
        assert told.empty()


async def test_a_listener_that_fails_is_survived(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def fail(up: bool) -> None:
        raise RuntimeError("a bug of the caller's")

    bundle = Bundle(fail)
    link = Heard(server.url, bundle.changed)
    bundle.add(link)
    async with running(bundle):
        assert [await link.event() for _ in range(2)] == ["opened", "hello"]
        server.cut(0)
        assert [await link.event() for _ in range(3)] == ["lost", "opened", "hello"]
    assert caplog.text.count("a callback of the test stream failed") >= 2
