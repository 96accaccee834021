"""What an adapter adds to an order: its time minus the network's, per venue.

out: from the call to the last byte of the request at a server that answers at once. back: from the answer to the
return of the call. The same of a request that was prepared beforehand, on a warm raw socket, is what the machine itself
takes; and of the SDK called bare, what is the SDK's. The adapter sends over the venue's socket for orders, and over
REST as where there is none. All four take turns in one process, arrivals spaced.
"""

import asyncio
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec

from app.domain.order import Side
from app.ids import new_id
from app.keys import Credentials
from app.venues.base import NewOrder, Origins, Venue
from app.venues.binance.venue import BinanceVenue
from app.venues.bybit.venue import BybitVenue
from app.venues.gate import Gate
from app.venues.registry import open_venue
from bench.canned import Seen
from bench.report import Summary, summary, table
from bench.wire import Wire

CREDENTIALS = Credentials(api_key="bench-key", api_secret="bench-secret")
SYMBOL, QTY = "BTCUSDT", "1"
HOLLOW = b"_" * 36  # of a prepared request: its client order id
GAP_MS = (8, 24)
WARM_UP = 10
LINKED_S = 10.0
BARE, ADAPTER, BY_REST = "bare socket", "adapter", "adapter by REST"
SDK = {"bybit": "pybit", "binance": "python-binance"}

Send: TypeAlias = Callable[[str], Awaitable[None]]  # places an order with this client order id


class Sample(msgspec.Struct, frozen=True):
    """Nanoseconds."""

    out: int
    back: int

    @property
    def whole(self) -> int:
        return self.out + self.back


def warm(url: str) -> socket.socket:
    """A connection that sends at once."""
    parts = urlsplit(url)
    made = socket.create_connection((parts.hostname or "", parts.port or 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Bare:
    """A blocking socket that is warm, and bytes that are ready but for the id."""

    def __init__(self, url: str, request: bytes) -> None:
        self._socket = warm(url)
        self._request = request

    async def __call__(self, client_order_id: str) -> None:
        self._socket.sendall(self._request.replace(HOLLOW, client_order_id.encode()))
        self._socket.recv(65536)

    def close(self) -> None:
        self._socket.close()


def prepared(venue: str, url: str, symbol: str = SYMBOL) -> bytes:
    """A request as the venue's documentation has it, but for its signature."""
    host, hollow = urlsplit(url).netloc, HOLLOW.decode()
    stamp, signature = "1764547200000", "0" * 64
    if venue == "binance":
        query = f"symbol={symbol}&side=SELL&type=MARKET&quantity={QTY}&reduceOnly=true&newClientOrderId={hollow}"
        query += f"&newOrderRespType=RESULT&recvWindow=5000&timestamp={stamp}&signature={signature}"
        return f"POST /fapi/v1/order?{query} HTTP/1.1\r\nHost: {host}\r\nX-MBX-APIKEY: k\r\n\r\n".encode()
    order = {"category": "linear", "symbol": symbol, "side": "Sell", "orderType": "Market", "qty": QTY}
    body = msgspec.json.encode({**order, "positionIdx": 0, "reduceOnly": True, "orderLinkId": hollow}).decode()
    head = f"POST /v5/order/create HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += (
        f"X-BAPI-API-KEY: k\r\nX-BAPI-SIGN: {signature}\r\nX-BAPI-TIMESTAMP: {stamp}\r\nX-BAPI-RECV-WINDOW: 5000\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def pybit_orders(url: str, credentials: Credentials) -> tuple[Callable[[str, str], None], Callable[[], None]]:
    """What sends a symbol's close with a client order id by pybit alone, and what ends it."""
    from pybit.unified_trading import HTTP

    session = HTTP(api_key=credentials.api_key, api_secret=credentials.api_secret, max_retries=1, retry_codes={0})
    session.endpoint = url

    def place(symbol: str, client_order_id: str) -> None:
        session.place_order(
            category="linear",
            symbol=symbol,
            side="Sell",
            orderType="Market",
            qty=QTY,
            positionIdx=0,
            reduceOnly=True,
            orderLinkId=client_order_id,
        )

    return place, session.client.close


@asynccontextmanager
async def sdk(venue: str, url: str) -> AsyncIterator[Send]:
    """The SDK alone, called as its documentation says."""
    if venue == "bybit":
        send, close = pybit_orders(url, CREDENTIALS)

        async def place(client_order_id: str) -> None:
            send(SYMBOL, client_order_id)

        yield place
        close()
        return
    create, end = binance_orders(url, CREDENTIALS)
    yield partial(create, SYMBOL)
    await end()


def binance_orders(
    url: str, credentials: Credentials
) -> tuple[Callable[[str, str], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """What sends a symbol's close with a client order id by python-binance alone, and what ends it."""
    from binance import AsyncClient

    client = AsyncClient(credentials.api_key, credentials.api_secret)
    client.FUTURES_URL = f"{url}/fapi"

    async def create(symbol: str, client_order_id: str) -> None:
        await client.futures_create_order(
            symbol=symbol,
            side="SELL",
            type="MARKET",
            quantity=QTY,
            reduceOnly="true",
            newClientOrderId=client_order_id,
            newOrderRespType="RESULT",
        )

    return create, client.close_connection


def by_adapter(venue: Venue) -> Send:
    async def place(client_order_id: str) -> None:
        await venue.place(
            NewOrder(
                client_order_id=client_order_id,
                symbol=SYMBOL,
                side=Side.SELL,
                qty=Decimal(QTY),
                reduce_only=True,
                signed_at=datetime.now(UTC),
            )
        )

    return place


async def measure(venue: str, count: int, rng: random.Random) -> dict[str, list[Sample]]:
    """Who → its samples."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.canned", stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = (await server.stdout.readline()).decode().strip()
        bare = Bare(url, prepared(venue, url))
        adapter, by_rest = _adapter(venue, url, None), _adapter(venue, url, "")
        asked = await Wire.open(url)
        try:
            for one in (adapter, by_rest):
                await one.server_time()
            await _linked(adapter)
            async with sdk(venue, url) as by_sdk:
                ways: dict[str, Send] = {
                    BARE: bare,
                    SDK[venue]: by_sdk,
                    BY_REST: by_adapter(by_rest),
                    ADAPTER: by_adapter(adapter),
                }
                return await _samples(ways, asked, count, rng)
        finally:
            await asked.close()
            for one in (adapter, by_rest):
                await one.close()
            bare.close()
    finally:
        server.kill()
        await server.wait()


def _adapter(venue: str, url: str, ws_orders: str | None) -> Venue:
    origins = Origins(rest=url, ws=url.replace("http", "ws", 1), ws_orders=ws_orders)
    return open_venue(venue, CREDENTIALS, origins, gate=Gate(), recv_window_ms=5000, timeout_s=10.0)


async def _linked(adapter: Venue) -> None:
    """Wait until its orders go over the socket."""
    assert isinstance(adapter, BybitVenue | BinanceVenue)
    assert adapter.entry is not None
    await asyncio.wait_for(adapter.entry.ready.wait(), LINKED_S)


async def _samples(ways: dict[str, Send], asked: Wire, count: int, rng: random.Random) -> dict[str, list[Sample]]:
    taken: dict[str, list[Sample]] = {name: [] for name in ways}
    for number in range(WARM_UP + count):
        for name, send in ways.items():
            await asyncio.sleep(rng.uniform(*GAP_MS) / 1000)
            client_order_id = f"bench{new_id().hex}"[:36].ljust(36, "0")
            called_ns = time.time_ns()
            await send(client_order_id)
            returned_ns = time.time_ns()
            _, raw = await asked.get("/bench/seen")
            [seen] = msgspec.json.decode(raw, type=list[Seen])
            assert seen.client_order_id == client_order_id
            if number >= WARM_UP:
                taken[name].append(Sample(seen.last_ns - called_ns, returned_ns - seen.answered_ns))
    return taken


def rows(taken: dict[str, list[Sample]]) -> dict[str, Summary]:
    found = {}
    for name, samples in taken.items():
        found[f"{name}: call → request there"] = summary([sample.out for sample in samples])
        found[f"{name}: answer → returned"] = summary([sample.back for sample in samples])
        found[f"{name}: both"] = summary([sample.whole for sample in samples])
    return found


def told(venue: str, found: dict[str, Summary]) -> str:
    """The table, and the overhead in a sentence."""
    bare = found[f"{BARE}: both"]

    def more(name: str) -> str:
        summed = found[f"{name}: both"]
        return f"{summed.p50 - bare.p50:.2f} ms (p99 {summed.p99 - bare.p99:.2f})"

    title = f"an order of {venue}, time beside the network's"
    return (
        f"{table(title, found, bare)}\n"
        f"  {venue}: to a bare request the adapter adds {more(ADAPTER)}, by REST {more(BY_REST)}, "
        f"{SDK[venue]} alone {more(SDK[venue])}"
    )
