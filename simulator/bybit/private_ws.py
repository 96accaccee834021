"""The private socket: /v5/private with order, execution, position and wallet of the key that authenticated.

https://bybit-exchange.github.io/docs/v5/ws/connect#authentication and /websocket/private/*. Nothing is replayed and
there are no snapshots: who connects asks REST first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from simulator.bybit import rows, sign
from simulator.bybit.rows import Row
from simulator.exchange import Exchange
from simulator.faults import FaultKind
from simulator.hub import Hub, Link, serve
from simulator.model import Event, Filled, OrderChanged, PositionChanged, WalletChanged

ALL_IN_ONE = frozenset({"order", "execution", "execution.fast", "position", "wallet"})
SPLIT = frozenset(f"{topic}.linear" for topic in ALL_IN_ONE - {"wallet"})


class PrivateSocket:
    def __init__(self, exchange: Exchange) -> None:
        self.hub = Hub(exchange, "private")
        self._exchange = exchange
        exchange.on_events.append(self._on_events)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v5/private", self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        return await serve(self.hub, request, self._handle)

    async def _handle(self, link: Link, message: dict[str, Any]) -> bool:
        op = message.get("op")
        if op == "ping":
            now = str(self._exchange.now_ms())
            self._answer(link, message, {"op": "pong", "args": [now], "conn_id": link.id})
        elif op == "auth":
            link.account = sign.check_socket(message.get("args"), self._exchange.secrets, self._exchange.now_ms())
            self._acknowledge(link, message, "" if link.account is not None else "Params Error")
            return link.account is not None  # the exchange hangs up on a bad one
        elif op not in ("subscribe", "unsubscribe"):
            self._acknowledge(link, message, "error:op not support")
        elif link.account is None:
            self._acknowledge(link, message, "Request not authorized")
        else:
            self._acknowledge(link, message, self._change_topics(link, link.account, op, message.get("args")))
        return True

    def _change_topics(self, link: Link, account: str, op: str, args: object) -> str:
        """Do it, or say why not."""
        if not isinstance(args, list) or not args:
            return "error:args invalid"
        topics = {str(a) for a in args}
        unknown = sorted(topics - ALL_IN_ONE - SPLIT)
        if unknown:
            return f"error:handler not found,topic:{unknown[0]}"
        if topics & ALL_IN_ONE and topics & SPLIT:
            return "error:all-in-one and split topics in one request"
        change = self.hub.subscribe if op == "subscribe" else self.hub.unsubscribe
        for topic in topics:
            change(link, _key(account, topic))
        return ""

    def _acknowledge(self, link: Link, message: dict[str, Any], refusal: str) -> None:
        ack = {"success": not refusal, "ret_msg": refusal, "op": message.get("op"), "conn_id": link.id}
        self._answer(link, message, ack)

    def _answer(self, link: Link, message: dict[str, Any], answer: Row) -> None:
        if "req_id" in message:
            answer = {"req_id": message["req_id"], **answer}
        self.hub.answer(link, msgspec.json.encode(answer))

    # --- events

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case OrderChanged(order):
                    self._send(order.account, order.symbol, order.seq, "order", partial(rows.order_event, order))
                case Filled(fill):
                    who = (fill.account, fill.symbol, fill.seq)
                    self._send(*who, "execution", partial(rows.execution_event, fill))
                    self._send(*who, "execution.fast", partial(rows.fast_execution_event, fill))
                case PositionChanged(view):
                    p = view.position
                    self._send(p.account, p.symbol, p.seq, "position", partial(rows.position_event, view))
                case WalletChanged(name):
                    engine = self._exchange.engine
                    self._send(name, "", 0, "wallet", partial(rows.wallet_row, engine, engine.accounts[name]))

    def _send(self, account: str, symbol: str, seq: int, topic: str, row: Callable[[], Row]) -> None:
        """Make the row only if somebody listens; one encoding for each name of the topic."""
        for name in (topic, f"{topic}.linear"):
            key = _key(account, name)
            if not self.hub.wanted(key):
                continue
            now_ms = self._exchange.now_ms()
            frame: Row = {
                "id": f"{account}_{symbol}_{seq}" if symbol else f"{account}_wallet_{now_ms}",
                "topic": name,
                "creationTime": now_ms,
                "data": [row()],
            }
            if topic == "execution.fast":
                del frame["id"]
            encoded = msgspec.json.encode(frame)
            now_s = self._exchange.now_s()
            twice = self._exchange.faults.take(FaultKind.DUPLICATE_EVENTS, now_s, symbol=symbol, channel="private")
            for _ in range(2 if twice is not None else 1):
                self.hub.publish(key, encoded, symbol)


def _key(account: str, topic: str) -> str:
    """The hub knows topics only; the account is part of ours."""
    return f"{account}/{topic}"
