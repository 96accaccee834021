"""Orders among the bytes that clients sent, by whichever road: HTTP requests, or messages on a socket.

Bytes are only noted while they come, each with its instant. They are read when somebody asks, so that noting them costs
next to nothing where something is measured.
"""

from collections.abc import Hashable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from bench.canned import Connection
from bench.canned_socket import TEXT, UPGRADE, Frames

PATHS = (b"/v5/order/create", b"/fapi/v1/order")


class OrderSeen(msgspec.Struct, frozen=True, kw_only=True):
    """`at_ns`: when its last byte came out of the socket, wall clock."""

    client_order_id: str
    symbol: str
    reduce_only: bool
    qty: str
    at_ns: int


class Arrivals:
    """What came on all connections; a connection goes by any name that no other has."""

    def __init__(self) -> None:
        self._senders: dict[Hashable, _Sender] = {}
        self._came: list[tuple[Hashable, int, bytes]] = []

    def note(self, name: Hashable, at_ns: int, data: bytes) -> None:
        self._came.append((name, at_ns, data))

    def take(self) -> list[OrderSeen]:
        """The orders that are whole now and were not told of before, in the order of their arrival."""
        came, self._came = self._came, []
        found = []
        for name, at_ns, data in came:
            for message in self._senders.setdefault(name, _Sender()).messages(data, at_ns):
                order = order_in(message)
                if order is not None:
                    found.append(_seen(order, at_ns))
        return found


class _Sender:
    """One connection: HTTP, until it becomes a socket."""

    def __init__(self) -> None:
        self._http = Connection()
        self._frames: Frames | None = None  # from the handshake on

    def messages(self, data: bytes, at_ns: int) -> list[bytes]:
        """The messages that these bytes complete."""
        if self._frames is not None:
            return [payload for kind, payload in self._frames.add(data) if kind == TEXT]
        request = self._http.add(data, at_ns)
        if request is None:
            return []
        if UPGRADE.search(request):
            self._frames = Frames()
        return [request]


def order_in(message: bytes) -> dict[str, Any] | None:
    """An order's parameters in the venue's words; None where the message is something else."""
    if message.startswith(b"POST "):
        head, _, body = message.partition(b"\r\n\r\n")
        path, _, query = head.split(b" ", 2)[1].partition(b"?")
        if path not in PATHS:
            return None
        if path == PATHS[0]:
            return dict(msgspec.json.decode(body))
        return dict(parse_qsl((query + b"&" + body).decode()))
    if not message.startswith(b"{"):
        return None
    asked = msgspec.json.decode(message)
    if asked.get("op") == "order.create":
        return dict(asked["args"][0])
    if asked.get("method") == "order.place":
        return dict(asked["params"])
    return None


def _seen(order: dict[str, Any], at_ns: int) -> OrderSeen:
    return OrderSeen(
        client_order_id=order.get("orderLinkId") or order.get("newClientOrderId", ""),
        symbol=order["symbol"],
        reduce_only=str(order.get("reduceOnly", "")).lower() == "true",
        qty=order.get("qty") or order.get("quantity", ""),
        at_ns=at_ns,
    )
