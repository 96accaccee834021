"""The REST side: faults, signature, dispatch, envelope, log of requests.

Business errors answer HTTP 200 with a `retCode`, https://bybit-exchange.github.io/docs/v5/guide. A private request's
socket frames go out after its answer was written, as the exchange's own do nearly always.
"""

import time
from typing import Any

import msgspec
from aiohttp import web

from simulator.answering import answer
from simulator.bybit import market_data, private_data, requests, sign, trading
from simulator.bybit.errors import ApiError, outcome
from simulator.bybit.limits import Limits
from simulator.exchange import Exchange, Received
from simulator.passage import Passage

# status -> what the exchange's front door says, and as what
_STATUS_TEXTS = {
    403: ("403, access too frequent", "text/html"),
    429: ("System level frequency protection", "text/plain"),
    502: ("<html><head><title>502 Bad Gateway</title></head></html>", "text/html"),
    503: ("<html><head><title>503 Service Temporarily Unavailable</title></head></html>", "text/html"),
}


class Rest:
    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self._exchange = exchange
        self._limits = limits
        exchange.market_data_paths |= set(market_data.ENDPOINTS)

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/v5/{tail:.*}", self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        entry = self._log(request, raw)
        if not self._limits.admits(request.remote or ""):
            return await answer(self._exchange, request, entry, _plain(403))
        passage = Passage(self._exchange, entry, _symbol_of(entry))
        response = await passage.answer(
            lambda: self._respond(request, raw, entry, passage), lambda failure: _plain(failure.status or 503)
        )
        return await answer(self._exchange, request, entry, response)

    def _log(self, request: web.Request, raw: bytes) -> Received:
        target = request.raw_path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        path, _, query = target.partition("?")
        body: Any = None
        if raw:
            try:
                body = msgspec.json.decode(raw)
            except msgspec.DecodeError:
                body = raw.decode("utf-8", "replace")
        return self._exchange.received(
            received_at_ns=time.time_ns(),
            method=request.method,
            path=path,
            query=query,
            body=body,
            api_key=request.headers.get("X-BAPI-API-KEY", ""),
        )

    def _respond(self, request: web.Request, raw: bytes, entry: Received, passage: Passage) -> web.Response:
        """Execute and wrap: everything between the faults before and those after."""
        headers: dict[str, str] = {}
        try:
            done = outcome(lambda: passage.execute(lambda: self._dispatch(request, raw, entry, headers), ApiError))
        except LookupError:
            entry.status = 404
            return web.Response(status=404, text="404 page not found")
        entry.ret_code = done.code
        envelope = {
            "retCode": done.code,
            "retMsg": done.text,
            "result": done.result,
            "retExtInfo": {},
            "time": self._exchange.now_ms(),
        }
        headers |= done.headers
        body = msgspec.json.encode(envelope)
        return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)

    def _dispatch(self, request: web.Request, raw: bytes, entry: Received, headers: dict[str, str]) -> dict[str, Any]:
        """The result of the endpoint; LookupError if there is none of this name."""
        exchange, path = self._exchange, entry.path
        is_get = request.method == "GET"
        if is_get and path in market_data.ENDPOINTS:
            return market_data.ENDPOINTS[path](exchange, requests.query(entry.query))
        known = private_data.ENDPOINTS if is_get else trading.ENDPOINTS
        if request.method not in ("GET", "POST") or path not in known:
            raise LookupError(path)
        payload = entry.query.encode() if is_get else raw
        name = sign.check_request(request.headers, payload, exchange.keys, exchange.now_ms())
        sign.check_rights(exchange.keys[name], request.remote or "", writes=not is_get)
        headers |= self._limits.count(name, path, is_get=is_get)
        account = exchange.engine.accounts[name]
        if is_get:
            return private_data.ENDPOINTS[path](exchange, account, requests.query(entry.query))
        return trading.ENDPOINTS[path](exchange, account, raw)


def _symbol_of(entry: Received) -> str:
    if isinstance(entry.body, dict):
        return str(entry.body.get("symbol", ""))
    return requests.query(entry.query).get("symbol", "")


def _plain(status: int) -> web.Response:
    text, kind = _STATUS_TEXTS.get(status, (f"{status}", "text/html"))
    return web.Response(status=status, text=text, content_type=kind)
