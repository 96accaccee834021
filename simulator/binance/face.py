"""The whole face: what the server mounts, runs and lets the control API turn."""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from simulator.binance.context import Context
from simulator.binance.limits import LimitsBody
from simulator.binance.market_ws import MarketSockets
from simulator.binance.order_ws import OrderSocket
from simulator.binance.rest import Rest
from simulator.binance.trading import cancel_ordinary
from simulator.binance.user_ws import UserSocket
from simulator.exchange import Exchange

CHORES_S = 0.1


class FaceBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /control/binance; None leaves a thing as it is.

    `expire_listen_key` names the account whose key runs out now.
    """

    position_lag_ms: int | None = None
    cancel_lag_ms: int | None = None
    ping_interval_s: float | None = None
    pong_wait_s: float | None = None
    client_messages_1s: int | None = None
    listen_key_s: int | None = None
    order_link_s: float | None = None
    limits: LimitsBody | None = None
    expire_listen_key: str | None = None


class Binance:
    def __init__(self, exchange: Exchange) -> None:
        self._context = Context(exchange)
        self._rest = Rest(self._context)
        self._market = MarketSockets(self._context)
        self._user = UserSocket(self._context)
        self._orders = OrderSocket(self._context)
        self.order_links = self._orders.links
        self.hubs = [self._market.public.hub, self._market.market.hub, self._user.streams.hub, self.order_links.hub]

    def routes(self) -> list[web.RouteDef]:
        control = [web.get("/control/binance", self._show), web.post("/control/binance", self._put)]
        return [*control, *self._market.routes(), *self._user.routes(), *self._orders.routes(), *self._rest.routes()]

    async def run_for_ever(self) -> None:
        await asyncio.gather(self._market.beat_for_ever(), self._chores_for_ever())

    async def _chores_for_ever(self) -> None:
        context, exchange = self._context, self._context.exchange
        while True:
            await asyncio.sleep(CHORES_S)
            for account in context.listen_keys.expired():
                context.end_listen_key(account, told=True)
            due = [key for key, end_s in context.countdowns.items() if end_s <= exchange.now_s()]
            for name, symbol in due:
                del context.countdowns[name, symbol]
                cancel_ordinary(context, exchange.engine.accounts[name], symbol)
            if due:
                exchange.flush()

    async def _show(self, request: web.Request) -> web.Response:
        return self._state()

    async def _put(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=FaceBody)
        except (msgspec.DecodeError, ValueError) as exc:
            raise web.HTTPBadRequest(text=str(exc)) from None
        context = self._context
        for name in context.options.__struct_fields__:
            if (value := getattr(wanted, name)) is not None:
                setattr(context.options, name, value)
        if wanted.limits is not None:
            context.limits.put(wanted.limits)
        if wanted.expire_listen_key is not None and not context.end_listen_key(wanted.expire_listen_key, told=True):
            raise web.HTTPBadRequest(text=f"account {wanted.expire_listen_key} has no listen key")
        return self._state()

    def _state(self) -> web.Response:
        context = self._context
        state: dict[str, Any] = msgspec.structs.asdict(context.options) | {"limits": context.limits.state()}
        return web.Response(body=msgspec.json.encode(state), content_type="application/json")
