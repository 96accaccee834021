"""The REST side: faults, key and signature, limits, dispatch, log of requests.

Success is HTTP 200 with the bare answer, failure HTTP 4xx/5xx with `code` and `msg`. A private request's socket frames
go out after its answer was written, as the exchange's own do nearly always.
"""

import time
from typing import Any

import msgspec
from aiohttp import web

from simulator.answering import answer
from simulator.binance import market_data, road, sign
from simulator.binance.context import Context
from simulator.binance.errors import ApiError, attempt, by_fault, by_front
from simulator.binance.names import engine_symbols
from simulator.binance.params import Params, parse
from simulator.exchange import Exchange, Received
from simulator.faults import FaultOrder
from simulator.keys import ApiKey
from simulator.passage import Passage

_PAGES = {
    403: "<html><head><title>403 Forbidden</title></head></html>",
    502: "<html><head><title>502 Bad Gateway</title></head></html>",
    504: "<html><head><title>504 Gateway Time-out</title></head></html>",
}


class Rest:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._exchange = context.exchange
        self._exchange.market_data_paths.update(path for _, path in market_data.ENDPOINTS)

    def routes(self) -> list[web.RouteDef]:
        """Of the spot side, /api, only what client libraries ask when they start."""
        return [web.route("*", f"/{side}/{{tail:.*}}", self.handle) for side in ("fapi", "sapi", "api")]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = (await request.read()).decode("utf-8", "replace")
        entry = self._log(request, raw)
        if (banned := road.ban_by_fault(self._context)) is not None:
            return await answer(self._exchange, request, entry, _refusal(banned, entry, {}))
        passage = Passage(self._exchange, entry, symbol_of(self._context, entry))
        response = await passage.answer(lambda: self._respond(request, raw, entry, passage), _failed)
        return await answer(self._exchange, request, entry, response)

    def _log(self, request: web.Request, raw: str) -> Received:
        """The body as it was sent: its very bytes were signed."""
        target = request.raw_path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        path, _, query = target.partition("?")
        return self._exchange.received(
            received_at_ns=time.time_ns(),
            method=request.method,
            path=path,
            query=query,
            body=raw or None,
            api_key=request.headers.get("X-MBX-APIKEY", ""),
        )

    def _respond(self, request: web.Request, raw: str, entry: Received, passage: Passage) -> web.Response:
        """Execute and wrap: everything between the faults before and those after."""
        headers: dict[str, str] = {}
        answer, refused = attempt(
            lambda: passage.execute(lambda: self._dispatch(request, raw, entry, headers), by_fault)
        )
        if refused is not None:
            return _refusal(refused, entry, headers)
        entry.ret_code = 0
        return _json(answer, 200, headers)

    def _dispatch(self, request: web.Request, raw: str, entry: Received, headers: dict[str, str]) -> Any:
        caller = _Caller(self._exchange, request, entry, raw)
        return road.carry_out(
            self._context, (request.method, entry.path), Params(parse(entry.query, raw)), caller, headers
        )


class _Caller:
    """Known by a header; signs the text of the call."""

    names: frozenset[str] = frozenset()

    def __init__(self, exchange: Exchange, request: web.Request, entry: Received, raw: str) -> None:
        self._exchange, self._entry, self._raw = exchange, entry, raw
        self.address = request.remote or ""

    def key(self) -> tuple[str, ApiKey]:
        return sign.check_key(self._entry.api_key, self._exchange.keys, self.address)

    def check_signed(self, params: Params, key: ApiKey) -> None:
        sign.check_signed(params, self._entry.query, self._raw, key, self._exchange.now_ms())


def symbol_of(context: Context, entry: Received) -> str:
    """The engine's name of what the request is about, for faults; empty if it names none."""
    try:
        name = parse(entry.query, entry.body or "").get("symbol", "")
    except ApiError:
        return ""
    return next((s for s in engine_symbols(name) if s in context.engine.markets), name)


def _json(value: Any, status: int, headers: dict[str, str]) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _refusal(refused: ApiError, entry: Received, headers: dict[str, str]) -> web.Response:
    entry.ret_code = refused.code
    return _refused(refused, headers)


def _refused(refused: ApiError, headers: dict[str, str]) -> web.Response:
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    return _json({"code": refused.code, "msg": refused.text}, refused.status, headers)


def _failed(fault: FaultOrder) -> web.Response:
    refused = by_front(fault)
    if refused.status in _PAGES and not fault.code:
        return web.Response(status=refused.status, text=fault.msg or _PAGES[refused.status], content_type="text/html")
    return _refused(refused, {})
