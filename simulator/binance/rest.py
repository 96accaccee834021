"""The REST side: faults, key and signature, limits, dispatch, log of requests.

Success is HTTP 200 with the bare answer, failure HTTP 4xx/5xx with `code` and `msg`. A private request's socket frames
go out after its answer was written, as the exchange's own do nearly always.
"""

import asyncio
import time
from typing import Any

import msgspec
from aiohttp import web

from simulator.binance import account, algo, market_data, settings, sign, trading
from simulator.binance.context import Context
from simulator.binance.endpoint import Access, Endpoint
from simulator.binance.errors import ApiError, by_fault, error, of_refusal
from simulator.binance.limits import ban
from simulator.binance.names import engine_symbols
from simulator.binance.params import Params, parse
from simulator.exchange import Received
from simulator.faults import FaultKind, FaultOrder
from simulator.model import ZERO, Account, Refused

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    **market_data.ENDPOINTS,
    **account.ENDPOINTS,
    **settings.ENDPOINTS,
    **trading.ENDPOINTS,
    **algo.ENDPOINTS,
}

_UNKNOWN = "Unknown error, please check your request or try again later."  # whether it was executed is not known
_PAGES = {
    403: "<html><head><title>403 Forbidden</title></head></html>",
    502: "<html><head><title>502 Bad Gateway</title></head></html>",
    504: "<html><head><title>504 Gateway Time-out</title></head></html>",
}
_CODES = {408: -1007, 418: -1003, 429: -1003, 500: -1000, 503: -1000}
_NOBODY = Account(name="", balance=ZERO, deposited=ZERO)  # for endpoints that look at none


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
        path, symbol = entry.path, self._symbol_of(entry)
        if (ban := self._ban()) is not None:
            return await self._answer(request, entry, _refusal(ban, entry, {}))
        if (delay := self._take(FaultKind.DELAY, path, symbol)) is not None:
            await asyncio.sleep((delay.ms or 0) / 1000)
        if self._take(FaultKind.DROP_REQUEST, path, symbol) is not None:
            return _cut(request)
        failure = self._failure(path, symbol)
        if failure is not None and not failure.after:
            return await self._answer(request, entry, _failed(failure))
        response = self._respond(request, raw, entry, symbol)
        if (slow := self._take(FaultKind.DELAY_ANSWER, path, symbol)) is not None:
            self._exchange.flush()
            await asyncio.sleep((slow.ms or 0) / 1000)
        if self._take(FaultKind.DROP_ANSWER, path, symbol) is not None:
            self._exchange.flush()
            return _cut(request)
        return await self._answer(request, entry, response if failure is None else _failed(failure))

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

    def _symbol_of(self, entry: Received) -> str:
        """The engine's name of what the request is about, for faults; empty if it names none."""
        try:
            name = parse(entry.query, entry.body or "").get("symbol", "")
        except ApiError:
            return ""
        return next((s for s in engine_symbols(name) if s in self._exchange.engine.markets), name)

    def _ban(self) -> ApiError | None:
        """A ban of the address, by a fault: who asks meanwhile makes it last longer."""
        faults, now_s = self._exchange.faults, self._exchange.now_s()
        if not faults.extend(FaultKind.IP_BAN, now_s):
            return None
        fault = faults.find(FaultKind.IP_BAN, now_s)
        return ban(fault.seconds or 120 if fault is not None else 120, self._context.now_ms())

    def _take(self, kind: FaultKind, path: str, symbol: str) -> FaultOrder | None:
        return self._exchange.faults.take(kind, self._exchange.now_s(), path=path, symbol=symbol)

    def _failure(self, path: str, symbol: str) -> FaultOrder | None:
        if self._take(FaultKind.MAINTENANCE, path, symbol) is not None:
            return FaultOrder(fault=FaultKind.HTTP_STATUS, status=503)
        return self._take(FaultKind.HTTP_STATUS, path, symbol)

    def _respond(self, request: web.Request, raw: str, entry: Received, symbol: str) -> web.Response:
        """Execute and wrap: everything between the faults before and those after."""
        headers: dict[str, str] = {}
        answer: Any = None
        try:
            fault = self._take(FaultKind.RET_CODE, entry.path, symbol)
            if fault is None or fault.after:
                answer = self._dispatch(request, raw, entry, headers)
            if fault is not None:
                raise by_fault(fault.code or 0, fault.msg)
        except Refused as refused:
            return _refusal(of_refusal(refused), entry, headers)
        except ApiError as refused:
            return _refusal(refused, entry, headers)
        entry.ret_code = 0
        return _json(answer, 200, headers)

    def _dispatch(self, request: web.Request, raw: str, entry: Received, headers: dict[str, str]) -> Any:
        context, exchange = self._context, self._exchange
        endpoint = ENDPOINTS.get((request.method, entry.path))
        if endpoint is None:
            raise ApiError(-5000, f"Path {entry.path}, Method {request.method} is invalid", 404)
        address = request.remote or ""
        params = Params(parse(entry.query, raw))
        limited = exchange.faults.find(FaultKind.RATE_LIMIT, exchange.now_s(), path=entry.path)
        forced = limited is not None and isinstance(limited.times, int)
        if forced:
            self._take(FaultKind.RATE_LIMIT, entry.path, "")
        weight = endpoint.weight_of(params.given)
        context.limits.weigh(address, weight, headers, enforced=limited is not None, forced=forced)
        if endpoint.access is Access.NONE:
            params.allow(endpoint.names)
            return endpoint.run(context, _NOBODY, params)
        name, key = sign.check_key(request.headers, exchange.keys, address)
        if endpoint.access is Access.SIGNED:
            sign.check_signed(params, entry.query, raw, key, exchange.now_ms())
        if endpoint.trades and (key.read_only or not key.trade):
            raise error(-2015)
        if endpoint.counts_order:
            context.limits.count_order(name, headers)
        params.allow(endpoint.names)
        return endpoint.run(context, exchange.engine.accounts[name], params)

    async def _answer(self, request: web.Request, entry: Received, response: web.Response) -> web.StreamResponse:
        """Write the answer out here, so that the private frames of this request follow it."""
        entry.status = response.status
        try:
            await response.prepare(request)
            await response.write_eof()
            entry.answered = True
        except ConnectionError:
            pass  # the caller is gone; what was executed stays executed
        finally:
            self._exchange.flush()
        return response


def _json(value: Any, status: int, headers: dict[str, str]) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _refusal(refused: ApiError, entry: Received, headers: dict[str, str]) -> web.Response:
    entry.ret_code = refused.code
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    return _json({"code": refused.code, "msg": refused.text}, refused.status, headers)


def _failed(fault: FaultOrder) -> web.Response:
    """A failure of the exchange's front. Of 503 the usual text leaves open whether the request was executed."""
    status = fault.status or 503
    if status in _PAGES and not fault.code:
        return web.Response(status=status, text=fault.msg or _PAGES[status], content_type="text/html")
    code = fault.code or _CODES.get(status, -1000)
    msg = fault.msg or (_UNKNOWN if status == 503 and not fault.code else by_fault(code, "").text)
    headers = {"Retry-After": "1"} if status in (418, 429) else {}
    return _json({"code": code, "msg": msg}, status, headers)


def _cut(request: web.Request) -> web.Response:
    """Cut the connection; what is returned is never written."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)
