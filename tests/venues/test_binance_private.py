"""Binance's private socket: listen keys, executions, changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import PositionSide, Side
from app.domain.position import Fill, FillOrigin
from app.venues.base import Origins
from app.venues.binance.private import BinancePrivateStream
from app.venues.binance.venue import BinanceVenue
from app.venues.link import Bounds
from tests.venues.binance_rows import BRACKETS, ENTRY_ID, INFO, KEEP_KEY, NEW_KEY, brackets, info, symbol_row
from tests.venues.binance_server import BinanceServer, Fail, SocketServer, binance_server, socket_server
from tests.venues.scripted import CREDENTIALS, Http

BOUNDS = Bounds(ping_s=5, silence_s=5, pause_min_s=0.01, pause_max_s=0.05, refused_pause_s=0.05)


class Listener:
    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()

    def on_fills(self, fills: Sequence[Fill]) -> None:
        self.heard.put_nowait(list(fills))

    def on_change(self, symbol: str) -> None:
        self.heard.put_nowait(symbol)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.heard.get(), 5)


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with binance_server() as server:
        server.script(NEW_KEY, {"listenKey": "key-1"})
        yield server


@pytest.fixture
async def sockets() -> AsyncIterator[SocketServer]:
    async with socket_server() as server:
        yield server


@asynccontextmanager
async def running(
    server: BinanceServer, sockets: SocketServer, *, on_setup: Callable[[], None] = lambda: None, renew_s: float = 60.0
) -> AsyncIterator[Listener]:
    listener = Listener()
    venue = BinanceVenue(CREDENTIALS, Origins(rest=server.origin, ws="", ws_private=sockets.origin))
    stream = BinancePrivateStream(
        sockets.origin, venue._http, listener, on_setup=on_setup, bounds=BOUNDS, renew_every_s=renew_s
    )
    task = asyncio.create_task(stream.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await venue.close()


def order_frame(**changes: Any) -> dict[str, Any]:
    order = {
        "s": "BTCUSDT",
        "c": ENTRY_ID,
        "S": "BUY",
        "o": "MARKET",
        "f": "GTC",
        "q": "0.012",
        "p": "0",
        "ap": "66500",
        "sp": "0",
        "x": "TRADE",
        "X": "PARTIALLY_FILLED",
        "i": 8389765739703625592,
        "l": "0.005",
        "z": "0.005",
        "L": "66500.10",
        "n": "0.16625000",
        "N": "USDT",
        "T": 1764546000012,
        "t": 5612428004,
        "b": "0",
        "a": "0",
        "m": False,
        "R": False,
        "wt": "CONTRACT_PRICE",
        "ot": "MARKET",
        "ps": "BOTH",
        "cp": False,
        "rp": "0",
    }
    return {"e": "ORDER_TRADE_UPDATE", "T": 1764546000012, "E": 1764546000013, "o": order | changes}


async def test_it_is_opened_with_a_listen_key_and_says_to_look(server: BinanceServer, sockets: SocketServer) -> None:
    async with running(server, sockets) as listener:
        assert await sockets.next_path() == "/private/ws/key-1"
        assert await listener.next() == ""


async def test_an_execution_is_a_fill(server: BinanceServer, sockets: SocketServer) -> None:
    async with running(server, sockets) as listener:
        await listener.next()
        await sockets.send(order_frame())
        (fill,) = await listener.next()
        assert (fill.venue_fill_id, fill.venue_order_id) == ("5612428004", "8389765739703625592")
        assert (fill.client_order_id, fill.origin) == (ENTRY_ID, FillOrigin.ORDER)
        assert (fill.side, fill.position_side) == (Side.BUY, None)
        assert (fill.qty, fill.price) == (Decimal("0.005"), Decimal("66500.10"))
        assert (fill.fee, fill.fee_currency) == (Decimal("0.16625"), "USDT")
        assert int(fill.filled_at.timestamp() * 1000) == 1764546000012


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({"x": "CALCULATED", "c": "autoclose-1"}, FillOrigin.LIQUIDATION),
        ({"x": "CALCULATED", "c": "adl_autoclose_1", "X": "NEW_ADL"}, FillOrigin.ADL),
        ({"c": "stop-" + "c" * 26}, FillOrigin.NATIVE_STOP),
        ({"c": "web_1"}, FillOrigin.EXTERNAL),
    ],
)
async def test_who_made_it(
    server: BinanceServer, sockets: SocketServer, changes: dict[str, Any], origin: FillOrigin
) -> None:
    async with running(server, sockets) as listener:
        await listener.next()
        await sockets.send(order_frame(ps="SHORT", **changes))
        (fill,) = await listener.next()
        assert (fill.origin, fill.position_side) == (origin, PositionSide.SHORT)


async def test_a_fee_may_be_missing(server: BinanceServer, sockets: SocketServer) -> None:
    async with running(server, sockets) as listener:
        await listener.next()
        frame = order_frame()
        del frame["o"]["n"], frame["o"]["N"]
        await sockets.send(frame)
        (fill,) = await listener.next()
        assert (fill.fee, fill.fee_currency) == (0, "USDT")


@pytest.mark.parametrize(
    ("frame", "symbols"),
    [
        (order_frame(x="NEW", l="0", L="0", t=0), ["BTCUSDT"]),
        (order_frame(x="EXPIRED", l="0", t=0, z="0.005"), ["BTCUSDT"]),
        (order_frame(x="CALCULATED", t=0), ["BTCUSDT"]),  # without an id it can't be told from REST's
        (order_frame(l=""), ["BTCUSDT"]),
        ({"e": "ORDER_TRADE_UPDATE", "o": {"s": 5}}, [""]),
        ({"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER", "B": [], "P": [{"s": "A"}, {"s": "B"}, {"s": "A"}]}}, ["A", "B"]),
        ({"e": "ACCOUNT_UPDATE", "a": {"m": "FUNDING_FEE", "B": [{"a": "USDT"}], "P": []}}, []),
        ({"e": "ALGO_UPDATE", "o": {"caid": "x", "o": "STOP_MARKET", "s": "BTCUSDT", "S": "SELL"}}, ["BTCUSDT"]),
        ({"e": "ACCOUNT_CONFIG_UPDATE", "ac": {"s": "BTCUSDT", "l": 25}}, ["BTCUSDT"]),
        ({"e": "ACCOUNT_CONFIG_UPDATE", "ai": {"j": True}}, []),
        ({"e": "MARGIN_CALL", "cw": "3", "p": [{"s": "ETHUSDT"}]}, ["ETHUSDT"]),
        ({"e": "TRADE_LITE", "s": "BTCUSDT", "t": 1, "l": "1"}, []),
        ({"e": "GRID_UPDATE", "gu": {}}, []),
        ({"e": "SOMETHING_NEW", "o": 5}, []),
        ("not json", []),
    ],
)
async def test_what_else_comes(server: BinanceServer, sockets: SocketServer, frame: object, symbols: list[str]) -> None:
    async with running(server, sockets) as listener:
        await listener.next()
        await sockets.send(frame)
        await sockets.send({"e": "ALGO_UPDATE", "o": {"s": "THE-END"}})
        heard = []
        while (symbol := await listener.next()) != "THE-END":
            heard.append(symbol)
        assert heard == symbols


async def test_of_what_is_not_ours_nothing_is_told(server: BinanceServer, sockets: SocketServer) -> None:
    server.script(INFO, info(symbol_row(), symbol_row(symbol="BTCUSDC", marginAsset="USDC")))
    server.script(BRACKETS, [brackets()])
    listener = Listener()
    venue = BinanceVenue(CREDENTIALS, Origins(rest=server.origin, ws="", ws_private=sockets.origin))
    await venue.instrument("BTCUSDT")
    task = asyncio.create_task(venue.private_stream(listener).run())
    assert await listener.next() == ""
    await sockets.send(order_frame(s="BTCUSDC"))
    await sockets.send({"e": "ALGO_UPDATE", "o": {"s": "BTCUSDC"}})
    await sockets.send({"e": "ALGO_UPDATE", "o": {"s": "BTCUSDT"}})
    assert await listener.next() == "BTCUSDT"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await venue.close()


async def test_changed_settings_are_told(server: BinanceServer, sockets: SocketServer) -> None:
    told: list[None] = []
    async with running(server, sockets, on_setup=lambda: told.append(None)) as listener:
        await listener.next()
        await sockets.send({"e": "ACCOUNT_CONFIG_UPDATE", "ac": {"s": "BTCUSDT", "l": 25}})
        await listener.next()
        assert len(told) == 1


async def test_an_expired_key_is_replaced(server: BinanceServer, sockets: SocketServer) -> None:
    server.script(NEW_KEY, {"listenKey": "key-1"}, {"listenKey": "key-2"})
    async with running(server, sockets) as listener:
        assert await sockets.next_path() == "/private/ws/key-1"
        await listener.next()
        await sockets.send({"e": "listenKeyExpired", "E": 1, "listenKey": "key-1"})
        assert await sockets.next_path() == "/private/ws/key-2"
        assert await listener.next() == ""


async def test_after_a_cut_everything_has_to_be_looked_at(server: BinanceServer, sockets: SocketServer) -> None:
    async with running(server, sockets) as listener:
        await listener.next()
        sockets.cut()
        assert await listener.next() == ""
        assert len(server.sent(NEW_KEY)) == 2


async def test_the_key_is_renewed(server: BinanceServer, sockets: SocketServer) -> None:
    server.script(KEEP_KEY, {"listenKey": "key-1"}, Http(502), Fail(-1125))
    server.script(NEW_KEY, {"listenKey": "key-1"}, {"listenKey": "key-3"})
    async with running(server, sockets, renew_s=0.02) as listener:
        assert await sockets.next_path() == "/private/ws/key-1"
        assert await listener.next() == ""
        assert await sockets.next_path() == "/private/ws/key-3"  # the third renewal said that the key was gone
        assert await listener.next() == ""


async def test_a_renewal_that_names_another_key_opens_another_link(
    server: BinanceServer, sockets: SocketServer
) -> None:
    server.script(KEEP_KEY, {"listenKey": "key-2"})
    server.script(NEW_KEY, {"listenKey": "key-1"}, {"listenKey": "key-2"})
    async with running(server, sockets, renew_s=0.02):
        assert await sockets.next_path() == "/private/ws/key-1"
        assert await sockets.next_path() == "/private/ws/key-2"


async def test_without_a_key_it_is_tried_again(server: BinanceServer, sockets: SocketServer) -> None:
    server.script(NEW_KEY, Http(502), Fail(-2015, status=401), {"listenKey": "key-1"})
    async with running(server, sockets) as listener:
        assert await listener.next() == ""


async def test_the_key_gets_into_no_log(
    server: BinanceServer, sockets: SocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sockets.turns_away = True
    async with running(server, sockets) as listener:
        for _ in range(2):
            await asyncio.wait_for(sockets.turned_away.get(), 5)
        sockets.turns_away = False
        await listener.next()
    mine = [repr(record.__dict__) for record in caplog.records if record.name.startswith(("app", "picows"))]
    assert not any("key-1" in message for message in mine)
    assert any("stream lost" in message for message in mine)
