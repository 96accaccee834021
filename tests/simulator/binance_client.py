"""A client of the simulator's Binance face that signs by itself, for the tests of that face."""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from tests.simulator.support import KEY, PATIENCE_S, SECRET, Frame, Socket

ORDER, ALGO = "/fapi/v1/order", "/fapi/v1/algoOrder"


def signed(secret: str, payload: str) -> str:
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def joined(params: dict[str, Any]) -> str:
    return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in params.items())


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Answer:
    def __init__(self, status: int, body: Any, headers: Any) -> None:
        self.status, self.body, self.headers = status, body, headers

    @property
    def code(self) -> int:
        """That of a refusal; 0 of a success."""
        return int(self.body["code"]) if self.status != 200 else 0


class BinanceClient:
    """Talks to one running exchange. `signs` replaces the HMAC of `secret`."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        key: str = KEY,
        secret: str = SECRET,
        signs: Callable[[str], str] | None = None,
    ) -> None:
        self.url, self.session, self.key = url, session, key
        self.signs = signs or (lambda payload: signed(secret, payload))

    def stamped(self, params: dict[str, Any]) -> str:
        """A whole query string, stamped and signed."""
        query = joined({"timestamp": time.time_ns() // 1_000_000, **params})
        return f"{query}&signature={quote(self.signs(query), safe='')}"

    async def raw(self, method: str, target: str, *, key: str | None = None, body: str | None = None) -> Answer:
        """Exactly this, with the key's header."""
        headers = {"X-MBX-APIKEY": self.key if key is None else key}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = URL(f"{self.url}{target}", encoded=True)
        async with self.session.request(method, url, headers=headers, data=body) as answer:
            is_json = answer.content_type == "application/json"
            return Answer(answer.status, await answer.json() if is_json else await answer.text(), answer.headers)

    async def ask(self, method: str, path: str, /, **params: Any) -> Answer:
        return await self.raw(method, f"{path}?{self.stamped(params)}")

    async def get(self, path: str, /, **params: Any) -> Any:
        answer = await self.ask("GET", path, **params)
        assert answer.status == 200, answer.body
        return answer.body

    async def public(self, path: str, /, **params: Any) -> Answer:
        return await self.raw("GET", f"{path}?{joined(params)}" if params else path)

    async def market(self, side: str, qty: str, symbol: str = "BTCUSDT", **more: Any) -> Answer:
        more = {"newOrderRespType": "RESULT", **more}
        return await self.ask("POST", ORDER, symbol=symbol, side=side, type="MARKET", quantity=qty, **more)

    async def limit(self, side: str, qty: str, price: str, symbol: str = "BTCUSDT", **more: Any) -> Answer:
        order = {"symbol": symbol, "side": side, "type": "LIMIT", "quantity": qty, "price": price}
        return await self.ask("POST", ORDER, **{**order, "timeInForce": "GTC", **more})

    async def closing(self, side: str, kind: str, trigger: str, name: str, **more: Any) -> Answer:
        """A conditional order for the whole position."""
        order = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": side, "type": kind, "triggerPrice": trigger}
        return await self.ask("POST", ALGO, **{**order, "closePosition": "true", "clientAlgoId": name, **more})

    async def hedge(self) -> None:
        answer = await self.ask("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")
        assert answer.body == {"code": 200, "msg": "success"}

    # --- control

    async def control(self, path: str, /, **body: Any) -> Frame:
        async with self.session.post(f"{self.url}/control/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
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

    # --- sockets

    async def listen_key(self) -> str:
        answer = await self.raw("POST", "/fapi/v1/listenKey")
        assert answer.status == 200, answer.body
        return str(answer.body["listenKey"])

    async def socket(self, path: str, **more: Any) -> "Stream":
        return Stream(await self.session.ws_connect(f"{self.url}{path}", **more))

    async def orders(self, query: str = "") -> "Stream":
        """The socket of the WebSocket API."""
        return await self.socket(f"/ws-fapi/v1{query}")

    def named(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters of a request over that socket, stamped and signed: in the order of the alphabet."""
        whole = {"apiKey": self.key, "timestamp": time.time_ns() // 1_000_000, **params}
        text = "&".join(f"{name}={_said(value)}" for name, value in sorted(whole.items()))
        return {**whole, "signature": self.signs(text)}

    async def user_data(self) -> "Stream":
        return await self.socket(f"/private/ws/{await self.listen_key()}")


class Stream(Socket):
    """As the other face's, with this one's events."""

    async def event(self, kind: str) -> Frame:
        return await self.until(lambda frame: frame.get("e") == kind)

    async def order(self, status: str, kind: str | None = None) -> Frame:
        def fits(frame: Frame) -> bool:
            if frame.get("e") != "ORDER_TRADE_UPDATE":
                return False
            return frame["o"]["X"] == status and kind in (None, frame["o"]["x"])

        row: Frame = (await self.until(fits))["o"]
        return row

    async def algo(self, status: str) -> Frame:
        row: Frame = (await self.until(lambda f: f.get("e") == "ALGO_UPDATE" and f["o"]["X"] == status))["o"]
        return row

    async def said(self, count: int) -> list[str]:
        """The kinds of the next frames."""
        return [str((await self.next())["e"]) for _ in range(count)]

    async def ended(self) -> bool:
        while True:
            message = await self.link.receive(timeout=PATIENCE_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return await self.has_ended() if message.type is aiohttp.WSMsgType.PING else True
