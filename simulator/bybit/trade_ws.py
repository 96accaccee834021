"""The socket for orders: /v5/trade, https://bybit-exchange.github.io/docs/v5/websocket/trade/guideline.

Signed once, by `auth`; an order then carries its stamp only. Its one argument is the body of the REST call, whose road
it takes from there: the same checks, limits and codes. Those of this socket alone are in the list of all,
https://bybit-exchange.github.io/docs/v5/error. The documentation does not say whether who fails to authenticate is hung
up on (here as on the private socket), what an order before that is answered (10003), nor how a pong looks (as there).
"""

import time
import uuid
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web

from simulator.bybit import sign, trading
from simulator.bybit.errors import (
    AUTH_TWICE,
    BAD_KEY,
    ORDER_SOCKET,
    REQ_ID_TWICE,
    RESTARTING,
    SERVER,
    TOO_OFTEN_FOR_ADDRESS,
    TOO_OFTEN_FOR_SYSTEM,
    UNKNOWN_OP,
    ApiError,
    Outcome,
    outcome,
    params,
)
from simulator.bybit.limits import Limits
from simulator.bybit.rows import Row
from simulator.exchange import Exchange, Received
from simulator.faults import TRADE, FaultKind, FaultOrder
from simulator.hub import Link, serve
from simulator.order_links import OrderLinks
from simulator.passage import Passage

PATH = "/v5/trade"
REQ_ID_LENGTH_MAX = 36
REQ_IDS_KEPT = 10_000  # of one link

# op -> the REST call that does the same
OPS = {"order.create": trading.CREATE, "order.amend": trading.AMEND, "order.cancel": trading.CANCEL}

# status of a fault -> what this socket's front says instead
_FAILURES = {403: TOO_OFTEN_FOR_ADDRESS, 429: TOO_OFTEN_FOR_SYSTEM}


class TradeSocket:
    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self.links = OrderLinks(exchange)
        self._exchange = exchange
        self._limits = limits
        self._req_ids: WeakKeyDictionary[Link, dict[str, None]] = WeakKeyDictionary()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        address = request.remote or ""
        if self._limits.is_banned():
            return web.Response(status=403)
        if self._exchange.faults.find(FaultKind.MAINTENANCE, self._exchange.now_s(), channel=TRADE) is not None:
            return web.Response(status=503)

        async def handle(link: Link, message: Row) -> bool:
            return self._handle(link, address, message)

        return await serve(self.links.hub, request, handle)

    def _handle(self, link: Link, address: str, message: Row) -> bool:
        """False to hang up."""
        match message.get("op"):
            case "ping":
                pong = {"op": "pong", "args": [str(self._exchange.now_ms())], "conn_id": link.id}
                self.links.hub.answer(link, msgspec.json.encode(pong))
            case "auth":
                done = outcome(lambda: self._authenticate(link, address, message))
                self.links.hub.answer(link, _encoded(message, self._head(link, "auth", done)))
                return link.account is not None
            case op:
                entry = self._log(link, str(op or ""), message)
                self.links.start(self._order(link, address, message, entry))
        return True

    def _authenticate(self, link: Link, address: str, message: Row) -> Row:
        if link.account is not None:
            raise _refusal(AUTH_TWICE)
        exchange = self._exchange
        name = sign.check_socket(message.get("args"), exchange.keys, exchange.now_ms())
        sign.check_rights(exchange.keys[name], address, writes=False)
        link.account = name
        return {}

    def _log(self, link: Link, op: str, message: Row) -> Received:
        args = message.get("args")
        return self._exchange.received(
            received_at_ns=time.time_ns(),
            method="POST",
            path=OPS.get(op, PATH),
            query="",
            body=args[0] if isinstance(args, list) and args else args,
            api_key=link.account or "",
            channel=TRADE,
            frame=message,
        )

    # --- orders

    async def _order(self, link: Link, address: str, message: Row, entry: Received) -> None:
        symbol = entry.body.get("symbol", "") if isinstance(entry.body, dict) else ""
        passage = Passage(self._exchange, entry, str(symbol))
        limits: dict[str, str] = {}

        def respond() -> Outcome:
            return outcome(
                lambda: passage.execute(lambda: self._dispatch(link, address, message, entry, limits), ApiError)
            )

        done = await passage.answer(respond, _failed)
        if done is None:
            link.cut()
            return
        entry.status, entry.ret_code = 200, done.code
        header = {**limits, **done.headers, "Traceid": uuid.uuid4().hex, "Timenow": str(self._exchange.now_ms())}
        head = self._head(link, str(message.get("op") or ""), done)
        self.links.answer(link, entry, _encoded(message, {**head, "data": done.result, "header": header}))

    def _dispatch(self, link: Link, address: str, message: Row, entry: Received, limits: dict[str, str]) -> Row:
        exchange, op = self._exchange, str(message.get("op") or "")
        if link.account is None:
            raise ApiError(BAD_KEY, "Request not authorized")
        self._note(link, message.get("reqId"))
        if op not in OPS:
            raise _refusal(UNKNOWN_OP)
        header, args = message.get("header"), message.get("args")
        if not isinstance(header, dict):
            raise params("header is required")
        if not isinstance(args, list) or len(args) != 1 or not isinstance(args[0], dict):
            raise params("args must be one order")
        stamp, window = (str(header.get(name, "")) for name in ("X-BAPI-TIMESTAMP", "X-BAPI-RECV-WINDOW"))
        sign.check_clock(stamp, window, exchange.now_ms())
        if args[0].get("category", "linear") != "linear":
            raise ApiError(UNKNOWN_OP, "category is not correct or not supported")
        sign.check_rights(exchange.keys[link.account], address, writes=True)
        if self._limits.is_banned():
            raise _refusal(TOO_OFTEN_FOR_ADDRESS)
        limits |= self._limits.count(link.account, entry.path, is_get=False, channel=TRADE)
        account, raw = exchange.engine.accounts[link.account], msgspec.json.encode(args[0])
        if op == "order.create":
            return trading.create(exchange, account, raw, TRADE)
        return trading.ENDPOINTS[entry.path](exchange, account, raw)

    def _note(self, link: Link, req_id: object) -> None:
        """An id is good once on its link."""
        if req_id is None:
            return
        if not isinstance(req_id, str) or len(req_id) > REQ_ID_LENGTH_MAX:
            raise params("reqId invalid")
        seen = self._req_ids.setdefault(link, {})
        if req_id in seen:
            raise _refusal(REQ_ID_TWICE)
        seen[req_id] = None
        if len(seen) > REQ_IDS_KEPT:
            del seen[next(iter(seen))]

    def _head(self, link: Link, op: str, done: Outcome) -> Row:
        return {"retCode": done.code, "retMsg": done.text, "op": op, "connId": link.id}


def _encoded(message: Row, answer: Row) -> bytes:
    """`reqId` is said again only if it was given."""
    if "reqId" in message:
        answer = {"reqId": message["reqId"], **answer}
    return msgspec.json.encode(answer)


def _refusal(code: int) -> ApiError:
    return ApiError(code, ORDER_SOCKET[code])


def _failed(fault: FaultOrder) -> Outcome:
    """A restarting service takes no new requests; of its other failures nobody knows what was done."""
    code = _FAILURES.get(fault.status or 503)
    if code is None:
        code = RESTARTING if fault.status == 503 and not fault.after else SERVER
    return Outcome(code, ORDER_SOCKET[code], {}, {})
