"""An exchange that answers at once and notes when: what is left of a call's time is the client's own.

A process of its own, one thread, one blocking write per answer, so that its stamps are close to the socket:
- first and last byte of an order's request, when they came out of the socket (of a frame: both at once);
- its answer, right before it goes in.
"""

import re
import selectors
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from bench import canned_socket

HOST = "127.0.0.1"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
CLIENT_ID = re.compile(rb'(?:newClientOrderId(?:=|":")|"orderLinkId": ?")([\w-]+)')
ORDERS = (b"POST /v5/order/create", b"POST /fapi/v1/order")


class Seen(msgspec.Struct, frozen=True):
    """One order's instants, wall clock in ns."""

    client_order_id: str
    first_ns: int
    last_ns: int
    answered_ns: int


class Connection:
    """What came on one connection of the request that is not whole yet."""

    def __init__(self) -> None:
        self.buffer = b""
        self.first_ns = 0
        self.frames: canned_socket.Frames | None = None  # from the handshake on

    def add(self, data: bytes, now_ns: int) -> bytes | None:
        """The request, if it is whole now; clients send one at a time."""
        if not self.buffer:
            self.first_ns = now_ns
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        found = LENGTH.search(head)
        if len(body) < (int(found[1]) if found else 0):
            return None
        whole, self.buffer = self.buffer, b""
        return whole


def answer(request: bytes, now_ms: int) -> bytes:
    """What the venue would say, as far as an adapter has to read it."""
    path = request.split(b" ", 2)[1].partition(b"?")[0]
    found = CLIENT_ID.search(request)
    client_id = found[1].decode() if found else ""
    if path.startswith(b"/v5/"):
        bybit = {"retCode": 0, "retMsg": "OK", "result": {"orderId": "1", "orderLinkId": client_id}, "time": now_ms}
        return msgspec.json.encode(bybit)
    if path == b"/fapi/v1/time":
        return msgspec.json.encode({"serverTime": now_ms})
    if path == b"/fapi/v1/order":
        return msgspec.json.encode(_binance_order(client_id, now_ms))
    return b"{}"


def _binance_order(client_id: str, now_ms: int) -> dict[str, object]:
    return {
        "orderId": 1,
        "symbol": "BTCUSDT",
        "status": "FILLED",
        "clientOrderId": client_id,
        "price": "0.00",
        "avgPrice": "60000.00",
        "origQty": "1",
        "executedQty": "1",
        "cumQty": "1",
        "cumQuote": "60000.00",
        "timeInForce": "GTC",
        "type": "MARKET",
        "reduceOnly": True,
        "closePosition": False,
        "side": "SELL",
        "positionSide": "BOTH",
        "stopPrice": "0.00",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": "MARKET",
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": now_ms,
    }


def serve(say: Callable[[str], None]) -> None:
    """Until killed; `say` is told the address."""
    chosen = selectors.DefaultSelector()
    listener = socket.create_server((HOST, 0))
    chosen.register(listener, selectors.EVENT_READ, None)
    say(f"http://{HOST}:{listener.getsockname()[1]}")
    seen: list[Seen] = []
    while True:
        for key, _ in chosen.select():
            if key.data is None:
                fresh, _ = listener.accept()
                fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                chosen.register(fresh, selectors.EVENT_READ, Connection())
                continue
            peer, connection = key.fileobj, key.data
            assert isinstance(peer, socket.socket)
            try:
                data = peer.recv(65536)
                now_ns = time.time_ns()
                if connection.frames is not None:
                    _converse(peer, connection.frames, data, now_ns, seen)
                elif (request := connection.add(data, now_ns) if data else None) is not None:
                    if request.startswith(canned_socket.PATHS):
                        connection.frames = canned_socket.Frames()
                        peer.sendall(canned_socket.handshake(request))
                    else:
                        _reply(peer, request, connection.first_ns, now_ns, seen)
            except OSError:
                data = b""
            if not data:
                chosen.unregister(peer)
                peer.close()


def _reply(peer: socket.socket, request: bytes, first_ns: int, last_ns: int, seen: list[Seen]) -> None:
    if request.startswith(b"GET /bench/seen"):
        body = msgspec.json.encode(seen)
        seen.clear()
    else:
        body = answer(request, last_ns // 1_000_000)
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    if request.startswith(ORDERS):
        found = CLIENT_ID.search(request)
        assert found is not None
        seen.append(Seen(found[1].decode(), first_ns, last_ns, time.time_ns()))
    peer.sendall(whole)


def _converse(peer: socket.socket, frames: canned_socket.Frames, data: bytes, now_ns: int, seen: list[Seen]) -> None:
    for kind, payload in frames.add(data):
        if kind == canned_socket.PING:
            peer.sendall(canned_socket.frame(canned_socket.PONG, payload))
        elif kind == canned_socket.TEXT:
            found = CLIENT_ID.search(payload)
            client_id = "" if found is None else found[1].decode()
            now_ms = now_ns // 1_000_000
            body = canned_socket.answer(payload, _binance_order(client_id, now_ms), now_ms)
            if found is not None:
                seen.append(Seen(client_id, now_ns, now_ns, time.time_ns()))
            peer.sendall(canned_socket.frame(canned_socket.TEXT, body))


if __name__ == "__main__":

    def tell(url: str) -> None:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()

    serve(tell)
