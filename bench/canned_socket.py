"""The socket for orders of the canned exchange: whoever connects is welcome, and each order is answered at once."""

import base64
import hashlib
import re

import msgspec

UPGRADE = re.compile(rb"\r\nsec-websocket-key: *([\w+/=]+)", re.I)
PATHS = (b"GET /v5/trade ", b"GET /ws-fapi/v1 ")
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def handshake(request: bytes) -> bytes:
    found = UPGRADE.search(request)
    assert found is not None
    accept = base64.b64encode(hashlib.sha1(found[1] + _MAGIC).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"


class Frames:
    """What came of frames that are not whole yet. Clients mask theirs, and send none in pieces."""

    def __init__(self) -> None:
        self._buffer = b""

    def add(self, data: bytes) -> list[tuple[int, bytes]]:
        """Kind and payload of those that are whole now."""
        self._buffer += data
        found: list[tuple[int, bytes]] = []
        while len(self._buffer) >= 2:
            kind, length, start = self._buffer[0] & 0x0F, self._buffer[1] & 0x7F, 2
            if length >= 126:
                start = 4 if length == 126 else 10
                length = int.from_bytes(self._buffer[2:start])
            end = start + 4 + length
            if len(self._buffer) < end:
                break
            mask = (self._buffer[start : start + 4] * (length // 4 + 1))[:length]
            masked = self._buffer[start + 4 : end]
            found.append((kind, (int.from_bytes(masked) ^ int.from_bytes(mask)).to_bytes(length)))
            self._buffer = self._buffer[end:]
        return found


def frame(kind: int, payload: bytes) -> bytes:
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    return bytes([0x80 | kind]) + size + payload


def answer(request: bytes, order: dict[str, object], now_ms: int) -> bytes:
    """What the venue would say; `order` is Binance's row."""
    asked = msgspec.json.decode(request)
    if "method" in asked:
        return msgspec.json.encode({"id": asked["id"], "status": 200, "result": order})
    op = asked["op"]
    said = {"retCode": 0, "retMsg": "OK", "op": "pong" if op == "ping" else op, "connId": "c"}
    if op == "order.create":
        [params] = asked["args"]
        said |= {"reqId": asked["reqId"], "data": {"orderId": "1", "orderLinkId": params["orderLinkId"]}}
        said |= {"header": {"Timenow": str(now_ms), "X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "9"}}
    return msgspec.json.encode(said)
