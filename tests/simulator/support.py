"""Clients of the simulator for its own tests: signed REST by hand, sockets that are awaited, pybit in a thread."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
from pybit.unified_trading import HTTP
from yarl import URL

from simulator.keys import hmac_hex

KEY, SECRET = "sim-key", "sim-secret"
PATIENCE_S = 10

Frame = dict[str, Any]


class Socket:
    """A WebSocket that keeps every frame it saw."""

    def __init__(self, link: aiohttp.ClientWebSocketResponse) -> None:
        self.link = link
        self.seen: list[Frame] = []

    async def send(self, message: Frame) -> None:
        await self.link.send_json(message)

    async def next(self) -> Frame:
        frame: Frame = await self.link.receive_json(timeout=PATIENCE_S)
        self.seen.append(frame)
        return frame

    async def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        while True:
            frame = await self.next()
            if wanted(frame):
                return frame

    async def until_order(self, status: str, stop_order_type: str = "") -> Frame:
        def fits(frame: Frame) -> bool:
            if frame.get("topic") != "order":
                return False
            row = frame["data"][0]
            return bool(row["orderStatus"] == status and row["stopOrderType"] == stop_order_type)

        frame = await self.until(fits)
        row: Frame = frame["data"][0]
        return row

    async def has_ended(self) -> bool:
        message = await self.link.receive(timeout=PATIENCE_S)
        return message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


class Client:
    """Talks to one running exchange; `key` and `secret` of the account it uses, or `signs` of a key of another kind."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        key: str = KEY,
        secret: str = SECRET,
        signs: Callable[[bytes], str] | None = None,
    ) -> None:
        self.url, self.session, self.key, self.secret, self.signs = url, session, key, secret, signs

    def sign(self, payload: bytes) -> str:
        return hmac_hex(self.secret, payload) if self.signs is None else self.signs(payload)

    def headers(self, payload: bytes, *, stamp_ms: int | None = None, sign: str | None = None) -> dict[str, str]:
        stamp = str(time.time_ns() // 1_000_000 if stamp_ms is None else stamp_ms)
        origin = f"{stamp}{self.key}5000".encode() + payload
        return {
            "X-BAPI-API-KEY": self.key,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": "5000",
            "X-BAPI-SIGN": self.sign(origin) if sign is None else sign,
        }

    async def get(self, path: str, query: str = "") -> Frame:
        url = URL(f"{self.url}{path}?{query}", encoded=True)  # what is signed is what goes out
        async with self.session.get(url, headers=self.headers(query.encode())) as answer:
            result: Frame = await answer.json()
            return result

    async def post(self, path: str, /, **body: Any) -> Frame:
        raw = msgspec.json.encode({"category": "linear", **body})
        async with self.session.post(f"{self.url}{path}", data=raw, headers=self.headers(raw)) as answer:
            result: Frame = await answer.json()
            return result

    async def rows(self, path: str, query: str) -> list[Frame]:
        answer = await self.get(path, query)
        assert answer["retCode"] == 0, answer
        rows: list[Frame] = answer["result"]["list"]
        return rows

    async def market(self, side: str, qty: str, symbol: str = "BTCUSDT", **more: Any) -> Frame:
        order = {"symbol": symbol, "side": side, "orderType": "Market", "qty": qty}
        return await self.post("/v5/order/create", **order, **more)

    async def position(self, symbol: str = "BTCUSDT") -> Frame:
        return (await self.rows("/v5/position/list", f"category=linear&symbol={symbol}"))[0]

    async def control(self, path: str, /, **body: Any) -> Frame:
        async with self.session.post(f"{self.url}/control/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            result: Frame = await answer.json()
            return result

    async def control_get(self, path: str) -> Frame:
        async with self.session.get(f"{self.url}/control/{path}") as answer:
            result: Frame = await answer.json()
            return result

    async def price(self, price: str, symbol: str = "BTCUSDT", **more: Any) -> None:
        await self.control("price", symbol=symbol, price=price, **more)

    async def fault(self, fault: str, /, **more: Any) -> int:
        return int((await self.control("faults", fault=fault, **more))["id"])

    async def ledger(self, query: str = "") -> Frame:
        async with self.session.get(f"{self.url}/control/ledger?{query}") as answer:
            books: Frame = await answer.json()
            return books

    async def public(self, *topics: str) -> Socket:
        socket = Socket(await self.session.ws_connect(f"{self.url}/v5/public/linear"))
        if topics:
            await socket.send({"req_id": "7", "op": "subscribe", "args": list(topics)})
            assert (await socket.next())["success"]
        return socket

    async def private(self, *topics: str) -> Socket:
        socket = Socket(await self.session.ws_connect(f"{self.url}/v5/private"))
        await socket.send({"op": "auth", "args": self.proof()})
        assert (await socket.next())["success"]
        if topics:
            await socket.send({"op": "subscribe", "args": list(topics)})
            assert (await socket.next())["success"]
        return socket

    async def trade(self) -> Socket:
        """The socket for orders, signed in."""
        socket = await self.trade_stranger()
        await socket.send({"op": "auth", "args": self.proof()})
        answer = await socket.next()
        assert (answer["retCode"], answer["op"]) == (0, "auth"), answer
        return socket

    async def trade_stranger(self) -> Socket:
        return Socket(await self.session.ws_connect(f"{self.url}/v5/trade"))

    def proof(self, expires_ms: int | None = None) -> list[str]:
        """What `auth` takes."""
        expires = str(time.time_ns() // 1_000_000 + 5000 if expires_ms is None else expires_ms)
        return [self.key, expires, self.sign(f"GET/realtime{expires}".encode())]

    def sdk(self) -> HTTP:
        http = HTTP(api_key=self.key, api_secret=self.secret, max_retries=1, retry_codes={0}, timeout=PATIENCE_S)
        http.endpoint = self.url
        return http


async def ask(method: Callable[..., Any], **arguments: Any) -> Frame:
    """A call of pybit, which blocks, in a thread."""
    answer: Frame = await asyncio.to_thread(lambda: method(**arguments))
    return answer


def number(text: str) -> Decimal:
    return Decimal(text)
