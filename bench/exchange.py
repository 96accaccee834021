"""The exchange of the bench, a process of its own: the simulator, with the two instants that a benchmark needs.

- A tick's: when its frame is handed to the socket.
- An order's: when its last bytes came out of the socket, before anything is parsed; whichever road it took.

The simulator's own work lies outside of both. Beside it listens a canned server that answers any request at once:
what a client costs by itself is measured against that one.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Hashable
from decimal import Decimal
from typing import Any, cast

import msgspec
import uvloop
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from bench.arrivals import Arrivals, OrderSeen
from bench.canned import Connection
from simulator.exchange import Config, Exchange
from simulator.instruments import Instrument
from simulator.model import Side, Trade
from simulator.server import EXCHANGE, create_app

TRADES, WRAPPED = (b'{"topic":"publicTrade.', b'{"e":"aggTrade"'), re.compile(rb'\{"stream":"\w+@aggTrade"')
FAR = "FARUSDT"  # nothing moves it but who asks for it
REFRESH_S = 0.5  # each symbol trades at its last price this often, as a live market does: its price is never stale
CANNED = b'{"retCode":0,"retMsg":"OK","result":{"orderId":"1","orderLinkId":"1"},"retExtInfo":{},"time":0}'
CANNED_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(CANNED), CANNED)
)  # fmt: skip


class Tick(msgspec.Struct, frozen=True):
    symbol: str
    price: str
    at_ns: int


class Seen(msgspec.Struct):
    """What passed since the last question."""

    ticks: list[Tick] = []
    orders: list[OrderSeen] = []


class _Row(msgspec.Struct):
    s: str
    p: str


class _Frame(msgspec.Struct):
    """Bybit's has rows, Binance's is one or has one."""

    data: list[_Row] | _Row | None = None
    s: str = ""
    p: str = ""

    def rows(self) -> list[_Row]:
        data = _Row(self.s, self.p) if self.data is None else self.data
        return data if isinstance(data, list) else [data]


class Stamps:
    """Instants as they happen; put into words when asked for."""

    def __init__(self) -> None:
        self._frames: list[tuple[int, bytes]] = []
        self._arrivals = Arrivals()

    def install(self) -> None:
        """Into aiohttp, at the two places where bytes meet the socket."""
        receive, send = RequestHandler.data_received, web.WebSocketResponse.send_frame
        note, frames = self.came, self._frames

        def data_received(handler: RequestHandler, data: bytes) -> None:
            note(handler, time.time_ns(), data)
            receive(handler, data)

        async def send_frame(socket: web.WebSocketResponse, message: bytes, *args: Any) -> None:
            if message.startswith(TRADES) or WRAPPED.match(message):
                frames.append((time.time_ns(), message))
            await send(socket, message, *args)

        RequestHandler.data_received = data_received  # type: ignore[method-assign, assignment]
        web.WebSocketResponse.send_frame = send_frame  # type: ignore[method-assign, assignment]

    def came(self, connection: Hashable, at_ns: int, data: bytes) -> None:
        self._arrivals.note(connection, at_ns, data)

    def take(self) -> Seen:
        frames = list(self._frames)
        self._frames.clear()
        seen = Seen(orders=self._arrivals.take())
        for at_ns, frame in frames:
            for row in msgspec.json.decode(frame, type=_Frame).rows():
                seen.ticks.append(Tick(row.s, row.p, at_ns))
        return seen


class Canned(asyncio.Protocol):
    """Answers each request at once, and notes what came."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps
        self._request = Connection()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self._stamps.came(self, now_ns, data)
        if self._request.add(data, now_ns) is not None:
            self._transport.write(CANNED_ANSWER)


def symbols(count: int) -> list[str]:
    """B10USDT would be ten of B at Binance."""
    return [f"B{number:02}XUSDT" for number in range(count)]


def instrument(symbol: str) -> Instrument:
    one = Decimal(1)
    return Instrument(
        symbol=symbol,
        base_coin=symbol.removesuffix("USDT"),
        tick_size=Decimal("0.01"),
        qty_step=one,
        min_qty=one,
        max_qty=Decimal(1_000_000),
        max_market_qty=Decimal(1_000_000),
        start_price=Decimal(100),
    )


async def refresh(exchange: Exchange, names: list[str]) -> None:
    """A trade of each symbol at its last price, one after the other."""
    while True:
        for name in names:
            await asyncio.sleep(REFRESH_S / len(names))
            last = exchange.engine.market(name).last
            exchange.trade(name, [Trade(last, Decimal(1), Side.BUY, exchange.new_trade_id())])


async def serve(port: int, canned_port: int, count: int, api_key: str, api_secret: str) -> None:
    stamps = Stamps()
    stamps.install()
    config = Config(port=port, prices="manual", api_key=api_key, api_secret=api_secret, balance=Decimal(1_000_000_000))
    app = create_app(config)
    exchange, names = app[EXCHANGE], symbols(count)
    for name in (*names, FAR):
        exchange.put_instrument(instrument(name))

    async def seen(request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(stamps.take()))

    async def floor(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"{}")

    app.add_routes([web.get("/bench/seen", seen), web.post("/bench/floor", floor)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    canned = await asyncio.get_running_loop().create_server(lambda: Canned(stamps), config.host, canned_port)
    try:
        await web.TCPSite(runner, config.host, port).start()
        await refresh(exchange, names)
    finally:
        canned.close()
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.exchange")
    for name in ("port", "canned-port", "symbols"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("api-key", "api-secret"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.canned_port, given.symbols, given.api_key, given.api_secret))


if __name__ == "__main__":
    main()
