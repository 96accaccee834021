"""What the contract suite stands on: each venue's words for the same things, and the simulator by its control API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec

from app.domain.order import MarginMode, PositionSide, Side, client_order_id
from app.domain.position import Fill
from app.errors import LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import NewOrder, Origins, PrivateStream, PublicStream, Trade, Venue
from app.venues.binance.venue import BinanceVenue
from app.venues.bybit.venue import BybitVenue
from app.venues.gate import Gate
from app.venues.registry import open_public_stream, open_venue
from simulator.exchange import Config
from simulator.server import running

BTC = "BTCUSDT"
PRICE = Decimal(60000)
QTY = Decimal("0.010")
SOON_S = 10.0
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


class Face(msgspec.Struct, frozen=True, kw_only=True):
    """How a venue says what all venues say."""

    name: str
    order_path: str
    stop_path: str
    ban_status: int  # the HTTP status that says: this address stays away
    margin_mode_of_account: bool  # and not of a symbol, so that it is not ours to change
    tests_orders: bool  # has a call that checks an order without placing it
    page: int  # executions that one answer holds at most, as the adapter asks for them
    # code of the venue that an order may be answered with -> what `place` makes of it
    codes: dict[int, type[LevelheadError]]


FACES = {
    "bybit": Face(
        name="bybit",
        order_path="/v5/order/create",
        stop_path="/v5/position/trading-stop",
        ban_status=403,
        margin_mode_of_account=True,
        tests_orders=False,
        page=100,
        codes={
            10006: Transient,  # rate limit of the endpoint
            10000: OutcomeUnknown,  # time-out inside
            10016: OutcomeUnknown,  # server error
            170007: OutcomeUnknown,
            429: OutcomeUnknown,  # as a code: overloaded
            110007: Refused,  # balance
            110094: Refused,  # notional
            30228: Refused,  # delisting
            10003: Refused,  # key
            10010: Refused,  # address
            33004: Refused,  # key expired
            987654: OutcomeUnknown,  # none that is known
        },
    ),
    "binance": Face(
        name="binance",
        order_path="/fapi/v1/order",
        stop_path="/fapi/v1/algoOrder",
        ban_status=418,
        margin_mode_of_account=False,
        tests_orders=True,
        page=1000,
        codes={
            -1003: Transient,  # rate limit of the address
            -1015: Transient,  # too many orders
            -1008: Transient,  # overloaded, surely not executed
            -1000: OutcomeUnknown,
            -1001: OutcomeUnknown,
            -1006: OutcomeUnknown,
            -1007: OutcomeUnknown,
            -2019: Refused,  # margin
            -4164: Refused,  # notional
            -4061: Refused,  # position side
            -1022: Refused,  # signature
            -2015: Refused,  # key, address or permission
            -9876: OutcomeUnknown,  # none that is known
        },
    ),
}


# How an account's orders are sent: over REST alone, or over the socket for them.
ROADS = (*FACES, *(f"{name}-socket" for name in FACES))


class Simulator:
    """One exchange with an account of each venue in each position mode."""

    def __init__(self, origin: str, http: aiohttp.ClientSession) -> None:
        self.origin = origin
        self.origins = Origins(rest=origin, ws=origin.replace("http", "ws", 1))
        self._http = http

    async def post(self, path: str, /, **body: Any) -> None:
        async with self._http.post(f"{self.origin}/control/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def clear(self) -> None:
        async with self._http.delete(f"{self.origin}/control/faults") as answer:
            assert answer.status == 200

    async def ledger(self, query: str = "") -> dict[str, Any]:
        async with self._http.get(f"{self.origin}/control/ledger{query}") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def price(self, price: object, symbol: str = BTC, **more: str) -> None:
        await self.post("price", symbol=symbol, price=str(price), **more)

    async def fault(self, fault: str, /, **fields: Any) -> None:
        await self.post("faults", fault=fault, **fields)

    async def orders(self, client_order_id: str) -> list[dict[str, Any]]:
        return [o for o in (await self.ledger())["orders"] if o["client_order_id"] == client_order_id]

    async def requests(self, path: str = "", method: str = "") -> list[dict[str, Any]]:
        """Those that arrived, market data's too."""
        found = (await self.ledger("?all=1"))["requests"]
        return [r for r in found if r["path"].startswith(path) and method in ("", r["method"])]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One test's exchange, seen from one account of one venue."""

    face: Face
    simulator: Simulator
    hedge: bool = False
    socket: bool = False  # orders go over it

    @property
    def api_key(self) -> str:
        return f"{self.face.name}-{'hedge' if self.hedge else 'one-way'}"

    @property
    def credentials(self) -> Credentials:
        return Credentials(api_key=self.api_key, api_secret=f"secret of {self.api_key}")

    @asynccontextmanager
    async def venue(
        self,
        *,
        timeout_s: float = 5.0,
        gate: Gate | None = None,
        credentials: Credentials | None = None,
        rest: str | None = None,
        welcome: bool = True,
    ) -> AsyncIterator[Venue]:
        """`welcome` is False where the exchange will not let the key in."""
        origins = msgspec.structs.replace(self.simulator.origins, ws_orders=None if self.socket else "")
        venue = open_venue(
            self.face.name,
            credentials or self.credentials,
            origins if rest is None else msgspec.structs.replace(origins, rest=rest),
            gate=gate or Gate(),
            recv_window_ms=5000,
            timeout_s=timeout_s,
        )
        try:
            if self.socket and welcome:
                await _linked(venue)
            yield venue
        finally:
            await venue.close()

    def public_stream(self, listener: "Heard") -> PublicStream:
        return open_public_stream(self.face.name, self.simulator.origins, listener)

    async def fault_of_orders(self, fault: str, /, **fields: Any) -> None:
        await self.simulator.fault(fault, path=self.face.order_path, **fields)

    async def sent_orders(self) -> int:
        """How many arrived; none on the other road."""
        found = await self.simulator.requests(self.face.order_path, "POST")
        assert {r["channel"] for r in found} <= {"trade" if self.socket else "rest"}
        return len(found)

    async def by_hand(self, side: str, qty: str, **more: Any) -> None:
        await self.simulator.post("positions", api_key=self.api_key, symbol=BTC, side=side, qty=qty, **more)

    def opens(self, side: PositionSide = LONG, **changes: Any) -> NewOrder:
        fields: dict[str, Any] = {
            "client_order_id": client_order_id(b"install", uuid4(), BTC, 0, 1),
            "symbol": BTC,
            "side": side.opens_with,
            "qty": QTY,
            "reduce_only": False,
            "hedge": self.hedge,
            "signed_at": datetime.now(UTC),
        }
        return NewOrder(**(fields | changes))

    def closes(self, side: PositionSide = LONG, **changes: Any) -> NewOrder:
        return msgspec.structs.replace(self.opens(side), **({"side": side.closes_with, "reduce_only": True} | changes))


@asynccontextmanager
async def site(road: str, *, hedge: bool = False) -> AsyncIterator[Site]:
    name, _, socket = road.partition("-")
    config = Config(port=0, prices="manual", api_key="nobody", api_secret="nothing")
    async with running(config) as origin, aiohttp.ClientSession() as http:
        found = Site(face=FACES[name], simulator=Simulator(origin, http), hedge=hedge, socket=bool(socket))
        await found.simulator.post(
            "accounts",
            api_key=found.api_key,
            api_secret=found.credentials.api_secret,
            venue=name,
            position_mode="hedge" if hedge else "one_way",
        )
        await found.simulator.price(PRICE)
        yield found


async def _linked(venue: Venue) -> None:
    """Wait until orders will go over the socket."""
    assert isinstance(venue, BybitVenue | BinanceVenue)
    assert venue.entry is not None
    venue.entry.keep_warm()
    await asyncio.wait_for(venue.entry.ready.wait(), SOON_S)


class Heard:
    """A listener of both kinds of stream: all that it is told, in queues."""

    def __init__(self) -> None:
        self.trades: asyncio.Queue[Trade] = asyncio.Queue()
        self.marks: asyncio.Queue[tuple[str, Decimal]] = asyncio.Queue()
        self.books: asyncio.Queue[tuple[str, Decimal | None, Decimal | None]] = asyncio.Queue()
        self.links: asyncio.Queue[bool] = asyncio.Queue()
        self.fills: asyncio.Queue[Fill] = asyncio.Queue()
        self.changes: asyncio.Queue[str] = asyncio.Queue()

    def on_trades(self, trades: Sequence[Trade]) -> None:
        assert len({trade.symbol for trade in trades}) == 1
        for trade in trades:
            self.trades.put_nowait(trade)

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.marks.put_nowait((symbol, price))

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        self.books.put_nowait((symbol, bid, ask))

    def on_link(self, up: bool) -> None:
        self.links.put_nowait(up)

    def on_fills(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            self.fills.put_nowait(fill)

    def on_change(self, symbol: str) -> None:
        self.changes.put_nowait(symbol)


@asynccontextmanager
async def kept(stream: PublicStream | PrivateStream) -> AsyncIterator[None]:
    """The stream runs while inside."""
    task = asyncio.create_task(stream.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def soon(queue: asyncio.Queue[Any]) -> Any:
    """What comes next; it has to come."""
    return await asyncio.wait_for(queue.get(), SOON_S)


async def until(queue: asyncio.Queue[Any], wanted: Callable[[Any], bool]) -> Any:
    """What comes next of those that are wanted."""
    async with asyncio.timeout(SOON_S):
        while not wanted(found := await queue.get()):
            pass
    return found


async def moved(site: Site, symbol: str, queue: asyncio.Queue[Any], wanted: Callable[[Any], bool]) -> None:
    """The price moves until what is wanted is heard: a subscription has no other end that can be seen from here."""
    async with asyncio.timeout(SOON_S):
        for number in range(1, 1000):
            await site.simulator.price(100 + number, symbol)
            try:
                await asyncio.wait_for(until(queue, wanted), 0.2)
            except TimeoutError:
                continue
            return


async def protect(site: Site, venue: Venue, side: PositionSide, price: Decimal) -> None:
    await venue.set_stop(BTC, side, price, hedge=site.hedge)


READS: dict[str, Callable[[Venue], Awaitable[object]]] = {
    "server_time": lambda venue: venue.server_time(),
    "permissions": lambda venue: venue.permissions(),
    "instrument": lambda venue: venue.instrument(BTC),
    "equity": lambda venue: venue.equity(),
    "standing": lambda venue: venue.standing(BTC),
    "holdings": lambda venue: venue.holdings(),
    "quote": lambda venue: venue.quote(BTC),
    "last_prices": lambda venue: venue.last_prices([BTC]),
    "order": lambda venue: venue.order(BTC, "lh-x"),
    "fills": lambda venue: venue.fills(BTC, since=datetime.now(UTC)),
    "fills of an order": lambda venue: venue.fills(BTC, client_order_id="lh-x"),
    "resting_stops": lambda venue: venue.resting_stops(BTC),
    "trades_since": lambda venue: venue.trades_since(BTC, datetime.now(UTC)),
    "candles_since": lambda venue: venue.candles_since(BTC, datetime.now(UTC)),
}
CHANGES: dict[str, Callable[[Venue], Awaitable[object]]] = {
    "set_leverage": lambda venue: venue.set_leverage(BTC, Decimal(5)),
    "set_margin_mode": lambda venue: venue.set_margin_mode(BTC, MarginMode.CROSS),
    "set_stop": lambda venue: venue.set_stop(BTC, LONG, Decimal(50000), hedge=False),
}
BUY, SELL = Side.BUY, Side.SELL
