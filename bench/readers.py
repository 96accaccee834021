"""Which socket client: messages per second and CPU per message of each, on trade frames served at full speed.

Each reader is a process of its own that takes all that a server process beside it has, over a loopback socket, for a
while; its CPU is that of the whole process, threads included. picows, websockets and aiohttp decode into typed msgspec
structs with exact prices; the SDKs read as they come, with their own JSON into dicts of strings. "app" is what the
program has: the venue's `PublicStream` with everything that it checks.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import msgspec
import uvloop

from app.venues.base import Topic, Trade
from bench.frames import frames, symbols_in

VENUES = ("bybit", "binance")
BASE = "picows"
START_S = 20.0
SETTLE_S = 0.3  # not counted: caches, the first growth of buffers

Count: TypeAlias = Callable[[int], None]  # called once a message, with the number of its trades


class Reading(msgspec.Struct, frozen=True):
    """What one process took in."""

    messages: int
    trades: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU per message, in microseconds."""
        return self.cpu_s / self.messages * 1e6


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds. Ratios are of one round each, where noise was the same for both, then their median."""

    messages_per_s: float
    cpu_us: float
    rate_ratio: float  # to the base
    cpu_ratio: float
    rate_to_sdk: float


class BybitTrade(msgspec.Struct, gc=False):
    s: str
    i: str
    p: Decimal
    T: int


class BybitFrame(msgspec.Struct):
    topic: str = ""
    data: list[BybitTrade] = []


class BinanceTrade(msgspec.Struct, gc=False):
    s: str
    a: int
    p: Decimal
    T: int


def decoder(venue: str) -> Callable[[Any], int]:
    """Reads a frame whole; answers how many trades it has."""
    if venue == "bybit":
        bybit = msgspec.json.Decoder(BybitFrame)
        return lambda raw: len(bybit.decode(raw).data)
    binance = msgspec.json.Decoder(BinanceTrade)
    return lambda raw: int(bool(binance.decode(raw).s))


def address(venue: str, origin: str, symbols: Sequence[str]) -> tuple[str, str | None]:
    """Where the frames are, and what has to be sent for them."""
    if venue == "binance":
        return f"{origin}/market/ws/{'/'.join(f'{symbol.lower()}@aggTrade' for symbol in symbols)}", None
    topics = [f"publicTrade.{symbol}" for symbol in symbols]
    return f"{origin}/v5/public/linear", msgspec.json.encode({"op": "subscribe", "args": topics}).decode()


async def read_picows(venue: str, origin: str, symbols: Sequence[str], count: Count) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    decode = decoder(venue)
    url, subscription = address(venue, origin, symbols)

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                count(decode(frame.get_payload_as_memoryview()))

    transport, _ = await ws_connect(Listener, url)
    if subscription:
        transport.send(WSMsgType.TEXT, subscription.encode())
    await transport.wait_disconnected()


async def read_websockets(venue: str, origin: str, symbols: Sequence[str], count: Count) -> None:
    from websockets.asyncio.client import connect

    decode = decoder(venue)
    url, subscription = address(venue, origin, symbols)
    async with connect(url, compression=None, proxy=None, close_timeout=0) as socket:
        if subscription:
            await socket.send(subscription)
        while True:
            count(decode(await socket.recv(decode=False)))


async def read_aiohttp(venue: str, origin: str, symbols: Sequence[str], count: Count) -> None:
    import aiohttp

    decode = decoder(venue)
    url, subscription = address(venue, origin, symbols)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, decode_text=False) as socket:
        if subscription:
            await socket.send_str(subscription)
        async for message in socket:
            count(decode(message.data))


async def read_pybit(venue: str, origin: str, symbols: Sequence[str], count: Count) -> None:
    """Its own thread; the callback does nothing but count, which is less than any user of it has to do."""
    from pybit import unified_trading

    unified_trading.PUBLIC_WSS = f"{origin}/v5/public/{{CHANNEL_TYPE}}"
    socket = await asyncio.to_thread(unified_trading.WebSocket, testnet=False, channel_type="linear")
    await asyncio.to_thread(socket.trade_stream, list(symbols), lambda message: count(len(message["data"])))
    await asyncio.Event().wait()


async def read_python_binance(venue: str, origin: str, symbols: Sequence[str], count: Count) -> None:
    from binance import AsyncClient, BinanceSocketManager

    # Its queue of 100 ends the reading when it is full, so that there is room for all here.
    manager = BinanceSocketManager(AsyncClient(), max_queue_size=10_000_000)
    manager.FSTREAM_URL = f"{origin}/"
    async with manager.futures_multiplex_socket([f"{symbol.lower()}@aggTrade" for symbol in symbols]) as socket:
        while True:
            message = await socket.recv()
            count(int("data" in message))


class _Counter:
    """A `PublicListener` that counts. A message of the bench has trades of one symbol, so a call is a message."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def on_trades(self, trades: Sequence[Trade]) -> None:
        self._count(len(trades))

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        pass

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        pass

    def on_link(self, up: bool) -> None:
        pass


async def read_app(venue: str, origin: str, symbols: Sequence[str], count: Count) -> None:
    stream = public_stream(venue, origin, _Counter(count))
    stream.want({symbol: frozenset({Topic.TRADES}) for symbol in symbols})
    await stream.run()


def public_stream(venue: str, origin: str, listener: Any) -> Any:
    """The program's own reader of this venue."""
    if venue == "bybit":
        from app.venues.bybit.stream import BybitPublicStream

        return BybitPublicStream(origin, listener)
    from app.venues.binance.stream import BinancePublicStream

    return BinancePublicStream(origin, listener)


Reader: TypeAlias = Callable[[str, str, Sequence[str], Count], Awaitable[None]]
COMMON: dict[str, Reader] = {BASE: read_picows, "websockets": read_websockets, "aiohttp": read_aiohttp}
SDK: dict[str, tuple[str, Reader]] = {
    "bybit": ("pybit", read_pybit),
    "binance": ("python-binance", read_python_binance),
}


def readers(venue: str) -> dict[str, Reader]:
    name, sdk = SDK[venue]
    return {**COMMON, name: sdk, "app": read_app}


async def take(read: Reader, venue: str, origin: str, symbols: Sequence[str], seconds: float) -> Reading:
    """Have one reader read for so long."""
    messages = trades = 0

    def count(rows: int) -> None:
        nonlocal messages, trades
        messages += rows > 0
        trades += rows

    task = asyncio.ensure_future(read(venue, origin, symbols, count))
    async with asyncio.timeout(START_S):
        while not messages and not task.done():  # noqa: ASYNC110 - counting is all that a message may cost
            await asyncio.sleep(0.01)
    await asyncio.sleep(SETTLE_S)
    began, cpu, seen, rows = time.perf_counter(), time.process_time(), messages, trades
    await asyncio.sleep(seconds)
    found = Reading(messages - seen, trades - rows, time.perf_counter() - began, time.process_time() - cpu)
    if task.done():
        await task
        raise RuntimeError("the reader ended before its time")
    return found


async def _take_and_tell(venue: str, name: str, origin: str, symbols: Sequence[str], seconds: float) -> NoReturn:
    found = await take(readers(venue)[name], venue, origin, symbols, seconds)
    sys.stdout.write(msgspec.json.encode(found).decode())
    sys.stdout.flush()
    os._exit(0)  # some of them can't be stopped while frames keep coming


async def measure(folder: Path | None, rounds: int, seconds: float) -> tuple[dict[str, dict[str, Row]], str]:
    """Venue -> reader -> row, and where the frames are from. Readers take turns, so that all meet the same noise."""
    taken: dict[str, dict[str, list[Reading]]] = {venue: {} for venue in VENUES}
    origin = ""
    for venue in VENUES:
        where = ["--folder", str(folder)] if folder else []
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.frame_server", "--venue", venue, *where, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert server.stdout is not None
            told = msgspec.json.decode(await server.stdout.readline())
            origin = told["origin"]
            for _ in range(rounds):
                for name in readers(venue):
                    reading = await _process(venue, name, told["url"], where, seconds)
                    taken[venue].setdefault(name, []).append(reading)
        finally:
            server.terminate()
            await server.wait()
    return {venue: compare(readings, SDK[venue][0]) for venue, readings in taken.items()}, origin


async def _process(venue: str, name: str, url: str, where: list[str], seconds: float) -> Reading:
    argv = [sys.executable, "-m", "bench.readers", "--venue", venue, "--reader", name, "--url", url]
    process = await asyncio.create_subprocess_exec(
        *argv, "--seconds", str(seconds), *where, stdout=asyncio.subprocess.PIPE
    )
    try:
        told, _ = await asyncio.wait_for(process.communicate(), START_S + SETTLE_S + 10 * seconds)
    except TimeoutError:
        process.kill()
        raise RuntimeError(f"the reader {name} of {venue} came to no end") from None
    if process.returncode:
        raise RuntimeError(f"the reader {name} of {venue} failed")
    return msgspec.json.decode(told, type=Reading)


def compare(readings: dict[str, list[Reading]], sdk: str) -> dict[str, Row]:
    base, theirs = readings[BASE], readings[sdk]
    return {
        name: Row(
            messages_per_s=statistics.median(one.rate for one in own),
            cpu_us=statistics.median(one.cpu_us for one in own),
            rate_ratio=statistics.median(one.rate / least.rate for one, least in zip(own, base, strict=True)),
            cpu_ratio=statistics.median(one.cpu_us / least.cpu_us for one, least in zip(own, base, strict=True)),
            rate_to_sdk=statistics.median(one.rate / other.rate for one, other in zip(own, theirs, strict=True)),
        )
        for name, own in readings.items()
    }


def table(venue: str, rows: dict[str, Row], origin: str) -> str:
    width = max(len(name) for name in rows)
    lines = [f"readers of {venue}, {origin} frames", f"  {'':{width}} {'messages/s':>11} {'÷ picows':>9} {'CPU µs':>8}"]
    for name, row in rows.items():
        cells = f"{row.messages_per_s:11,.0f} {row.rate_ratio:8.2f} × {row.cpu_us:8.1f} {row.cpu_ratio:8.2f} ×"
        lines.append(f"  {name:{width}} {cells}")
    sdk = SDK[venue][0]
    for name in (BASE, "app"):
        if name in rows:
            lines.append(f"  {name} ÷ {sdk}: {rows[name].rate_to_sdk:.0f} × the messages/s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.readers")
    for name in ("venue", "reader", "url"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    symbols = symbols_in(given.venue, frames(given.venue, given.folder)[0])
    uvloop.run(_take_and_tell(given.venue, given.reader, given.url, symbols, given.seconds))


if __name__ == "__main__":
    main()
