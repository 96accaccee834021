"""The least that a program can do when a price is reached, and the usual way: each a process of its own.

- bare: a blocking socket that reads the trades' frames as they are, and a warm one that takes a request which was
  prepared beforehand: what the machine itself takes.
- sdk: the venue's SDK as its documentation shows it: its socket calls back, its REST call goes out from there.

Both know the price to wait for, and nothing else: no book, no levels, no checks. One says when it listens.
"""

import argparse
import asyncio
import base64
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from app.keys import Credentials
from bench.order_overhead import HOLLOW, binance_orders, prepared, pybit_orders, warm
from bench.readers import address
from bench.stack import API_KEY, API_SECRET

SYMBOL = b'"s":"'  # what stands before a trade's symbol at either venue
BUFFER = 65536
KEY = Credentials(api_key=API_KEY, api_secret=API_SECRET)


class Fired:
    """Each symbol once, until its price is another one again."""

    def __init__(self) -> None:
        self._symbols: set[str] = set()

    def now(self, symbol: str, *, reached: bool) -> bool:
        """Whether to fire at this trade."""
        if not reached:
            self._symbols.discard(symbol)
            return False
        if symbol in self._symbols:
            return False
        self._symbols.add(symbol)
        return True


def listen_bare(venue: str, url: str, symbols: Sequence[str], price: str, say: Callable[[], None]) -> None:
    """Until killed."""
    fired = Fired()
    writer, orders = warm(url), {symbol: canned(venue, url, symbol) for symbol in symbols}
    path, subscription = address(venue, url, symbols)
    reader = connect(path)
    if subscription is not None:
        reader.sendall(masked(subscription.encode()))
    listens = False
    while True:
        data = reader.recv(BUFFER)
        if not data:
            return
        for symbol, reached in trades_in(data, price):
            if fired.now(symbol, reached=reached):
                writer.sendall(orders[symbol])
                writer.recv(BUFFER)
        if not listens and SYMBOL in data:
            listens = True
            say()


def trades_in(data: bytes, price: str) -> Iterator[tuple[str, bool]]:
    """The symbol of each trade that was read, and whether it has this price."""
    wanted = f'"p":"{price}'.encode()  # zeros may follow
    for part in data.split(SYMBOL)[1:]:
        yield part[: part.index(b'"')].decode(), wanted in part


def canned(venue: str, url: str, symbol: str) -> bytes:
    """A close that is ready to be sent. The exchange refuses its signature: it has arrived, and that is all."""
    return prepared(venue, url, symbol).replace(HOLLOW, f"bare-{symbol}".ljust(36, "0").encode())


def connect(url: str) -> socket.socket:
    """A socket after its handshake."""
    made, parts = warm(url), urlsplit(url)
    key = base64.b64encode(os.urandom(16)).decode()
    made.sendall(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += made.recv(1)
    assert b" 101 " in answer, answer
    return made


def masked(payload: bytes) -> bytes:
    """A client's text frame; a mask of zeros changes nothing."""
    length = len(payload)
    assert length < 65536
    head = bytes([0x81, 0x80 | length]) if length < 126 else b"\x81\xfe" + length.to_bytes(2)
    return head + bytes(4) + payload


def listen_sdk(venue: str, url: str, symbols: Sequence[str], price: str, say: Callable[[], None]) -> None:
    """Until killed."""
    if venue == "bybit":
        _listen_pybit(url, symbols, price, say)
    else:
        asyncio.run(_listen_python_binance(url, symbols, price, say))


def _listen_pybit(url: str, symbols: Sequence[str], price: str, say: Callable[[], None]) -> None:
    """It calls back in a thread of its own, and dies of an exception there."""
    from pybit import unified_trading

    fired, listens = Fired(), threading.Event()
    place, _ = pybit_orders(url, KEY)
    unified_trading.PUBLIC_WSS = f"{url.replace('http', 'ws', 1)}/v5/public/{{CHANNEL_TYPE}}"

    def on_trades(message: dict[str, Any]) -> None:
        for trade in message["data"]:
            if fired.now(trade["s"], reached=float(trade["p"]) == float(price)):
                with suppress(Exception):  # there is no such position: it has arrived, and that is all
                    place(trade["s"], f"sdk-{trade['i']}"[:36])
        listens.set()

    stream = unified_trading.WebSocket(testnet=False, channel_type="linear")
    stream.trade_stream(list(symbols), on_trades)
    listens.wait()
    say()
    threading.Event().wait()


async def _listen_python_binance(url: str, symbols: Sequence[str], price: str, say: Callable[[], None]) -> None:
    from binance import AsyncClient, BinanceSocketManager

    fired, listens = Fired(), False
    create, _ = binance_orders(url, KEY)
    manager = BinanceSocketManager(AsyncClient())
    manager.FSTREAM_URL = f"{url.replace('http', 'ws', 1)}/"
    async with manager.futures_multiplex_socket([f"{symbol.lower()}@aggTrade" for symbol in symbols]) as stream:
        while True:
            trade = (await stream.recv())["data"]
            if fired.now(trade["s"], reached=float(trade["p"]) == float(price)):
                with suppress(Exception):  # see above
                    await create(trade["s"], f"sdk-{trade['a']}-{trade['s']}")
            if not listens:
                listens = True
                say()


WAYS = {"bare": listen_bare, "sdk": listen_sdk}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.reaction")
    parser.add_argument("way", choices=WAYS)
    for name in ("venue", "url", "price"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--symbols", nargs="+", required=True)
    given = parser.parse_args()
    WAYS[given.way](given.venue, given.url, given.symbols, given.price, lambda: print("listening", flush=True))


if __name__ == "__main__":
    main()
