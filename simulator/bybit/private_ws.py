"""The private socket: /v5/private with order, execution, position and wallet of the key that authenticated.

https://bybit-exchange.github.io/docs/v5/ws/connect#authentication and /websocket/private/*. Nothing is replayed and
there are no snapshots: who connects asks REST first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from simulator.bybit import account_rows, rows, sign
from simulator.bybit.errors import ApiError
from simulator.bybit.rows import Row
from simulator.exchange import Exchange
from simulator.faults import FaultKind
from simulator.hub import Hub, Link, serve
from simulator.model import Event, ExecType, Fill, Filled, OrderChanged, PositionChanged, WalletChanged

ALL_IN_ONE = frozenset({"order", "execution", "execution.fast", "position", "wallet"})
T = TypeVar("T")
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
            try:
                link.account = sign.check_socket(message.get("args"), self._exchange.keys, self._exchange.now_ms())
            except ApiError:
                self._acknowledge(link, message, "Params Error")
                return False  # the exchange hangs up on a bad one
            self._acknowledge(link, message, "")
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
        """The frames of one moment, in the order of its events; fills of one order share a frame."""
        frames: list[Frame] = []
        fills: defaultdict[str, list[Fill]] = defaultdict(list)  # by order; taken out when told
        for event in events:
            if isinstance(event, Filled):
                fills[event.fill.order_id].append(event.fill)
        for event in events:
            match event:
                case OrderChanged(order):
                    who = (order.account, order.symbol, order.seq)
                    frames += self._frames(*who, "order", partial(_one, rows.order_event, order))
                case Filled(fill) if fill.order_id in fills:
                    own = fills.pop(fill.order_id)
                    who = (fill.account, fill.symbol, own[-1].seq)
                    frames += self._frames(*who, "execution", partial(_each, rows.execution_event, own))
                    if fill.exec_type is ExecType.TRADE:
                        frames += self._frames(*who, "execution.fast", partial(_each, rows.fast_execution_event, own))
                case PositionChanged(view):
                    p = view.position
                    who = (p.account, p.symbol, p.seq)
                    frames += self._frames(*who, "position", partial(_one, account_rows.position_event, view))
                case WalletChanged(name):
                    engine = self._exchange.engine
                    wallet = partial(account_rows.wallet_row, engine)
                    frames += self._frames(name, "", 0, "wallet", partial(_one, wallet, engine.accounts[name]))
        take, now_s = self._exchange.faults.take, self._exchange.now_s()
        if len(frames) > 1 and take(FaultKind.REORDER, now_s, channel="private") is not None:
            frames.reverse()
        for frame in frames:
            twice = take(FaultKind.DUPLICATE_EVENTS, now_s, symbol=frame.symbol, channel="private")
            for _ in range(2 if twice is not None else 1):
                self.hub.publish(frame.key, frame.encoded, frame.symbol)

    def _frames(
        self, account: str, symbol: str, seq: int, topic: str, data: Callable[[], list[Row]]
    ) -> Iterator["Frame"]:
        """Rows are made only if somebody listens; one encoding for each name of the topic."""
        for name in (topic, f"{topic}.linear"):
            key = _key(account, name)
            if not self.hub.wanted(key):
                continue
            now_ms = self._exchange.now_ms()
            frame: Row = {
                "id": f"{account}_{symbol}_{seq}" if symbol else f"{account}_wallet_{now_ms}",
                "topic": name,
                "creationTime": now_ms,
                "data": data(),
            }
            if topic == "execution.fast":
                del frame["id"]
            yield Frame(key, msgspec.json.encode(frame), symbol)


class Frame(NamedTuple):
    key: str  # the hub's topic
    encoded: bytes
    symbol: str


def _one(row: Callable[[T], Row], of: T) -> list[Row]:
    return [row(of)]


def _each(row: Callable[[T], Row], of: list[T]) -> list[Row]:
    return [row(one) for one in of]


def _key(account: str, topic: str) -> str:
    """The hub knows topics only; the account is part of ours."""
    return f"{account}/{topic}"
