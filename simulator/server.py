"""The program's wiring: one aiohttp application with REST, sockets and control on one port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from simulator import state
from simulator.binance.face import Binance
from simulator.bybit.limits import Limits
from simulator.bybit.private_ws import PrivateSocket
from simulator.bybit.public_ws import PublicSocket
from simulator.bybit.rest import Rest
from simulator.bybit.trade_ws import TradeSocket
from simulator.control import Control
from simulator.control_accounts import ControlAccounts
from simulator.control_parts import refusals
from simulator.exchange import Config, Exchange
from simulator.prices import Prices

SHUTDOWN_S = 0.2  # handlers that sleep for a fault get this long
BODY_MAX = 1024**2

EXCHANGE = web.AppKey("exchange", Exchange)


def create_app(config: Config) -> web.Application:
    """Started by the runner that serves it: prices walk and state is loaded from then on, until its cleanup."""
    exchange = Exchange(config)
    prices = Prices(exchange)
    limits = Limits(exchange)
    public, private, trade = PublicSocket(exchange), PrivateSocket(exchange), TradeSocket(exchange, limits)
    binance = Binance(exchange)
    hubs = [public.hub, private.hub, trade.links.hub, *binance.hubs]
    app = web.Application(middlewares=[refusals], client_max_size=BODY_MAX)
    app[EXCHANGE] = exchange
    app.add_routes([*Control(exchange, prices, hubs).routes(), *ControlAccounts(exchange).routes()])
    app.add_routes([*limits.routes(), *public.routes(), *private.routes(), *trade.routes()])
    app.add_routes([*Rest(exchange, limits).routes(), *binance.routes()])

    async def run(app: web.Application) -> AsyncIterator[None]:
        path = Path(config.state) if config.state else None
        if path is not None:
            state.load(exchange, path)
        await prices.start()
        beats = [asyncio.create_task(b) for b in (public.send_by_the_clock(), binance.run_for_ever())]
        stop = asyncio.Event()
        saver = asyncio.create_task(state.save_until(stop, exchange, path)) if path is not None else None
        yield
        await prices.stop()
        for beat in beats:
            beat.cancel()
        await asyncio.gather(*beats, return_exceptions=True)
        stop.set()
        if saver is not None:
            await saver

    async def hang_up(app: web.Application) -> None:
        for links in (trade.links, binance.order_links):
            await links.stop()
        for hub in hubs:
            await hub.close_all()

    app.cleanup_ctx.append(run)
    app.on_shutdown.append(hang_up)
    return app


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[str]:
    """Serve while inside; yields the base URL, such as http://127.0.0.1:8090."""
    runner = web.AppRunner(create_app(config), shutdown_timeout=SHUTDOWN_S, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.host, config.port)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
