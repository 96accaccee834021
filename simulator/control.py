"""The control API under /control, for tests and drills: prices, faults, books. No sign-in.

Bodies are JSON; an unknown field or a value that will not do is a 400 with a sentence.
"""

import itertools
from decimal import Decimal

from aiohttp import web

from simulator.control_parts import Body, answer, bad, read
from simulator.exchange import Exchange
from simulator.faults import PRIVATE, PUBLIC, TRADE, FaultKind, FaultOrder
from simulator.hub import Hub
from simulator.ledger import ledger
from simulator.prices import Prices

SOCKETS = (PUBLIC, PRIVATE, TRADE)


class OnePrice(Body, frozen=True, kw_only=True):
    symbol: str
    price: Decimal


class PriceBody(Body, frozen=True, kw_only=True):
    """One print, or many in order. Mark, bid and ask are held until the symbol's next price comes without them."""

    symbol: str | None = None
    price: Decimal | None = None
    mark: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    trades: list[OnePrice] | None = None


class PricesBody(Body, frozen=True, kw_only=True):
    source: str
    path: str | None = None
    speed: float = 1.0
    symbol: str | None = None
    start_at: str | None = None


class ResetBody(Body, frozen=True, kw_only=True):
    balance: Decimal | None = None


class Control:
    def __init__(self, exchange: Exchange, prices: Prices, hubs: list[Hub]) -> None:
        self._exchange = exchange
        self._prices = prices
        self._hubs = hubs

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/health", self.health),
            web.post("/control/price", self.set_price),
            web.get("/control/prices", self.get_prices),
            web.post("/control/prices", self.set_prices),
            web.get("/control/ledger", self.get_ledger),
            web.post("/control/reset", self.reset),
            web.get("/control/faults", self.get_faults),
            web.post("/control/faults", self.add_fault),
            web.delete("/control/faults", self.clear_faults),
            web.delete("/control/faults/{id}", self.clear_fault),
        ]

    async def health(self, request: web.Request) -> web.Response:
        links, topics = dict.fromkeys(SOCKETS, 0), dict.fromkeys(SOCKETS, 0)
        for hub in self._hubs:
            links[hub.channel] += len(hub.links)
            topics[hub.channel] += len(hub.topics)
        return answer({"ok": True, "now_ms": self._exchange.now_ms(), "links": links, "topics": topics})

    async def set_price(self, request: web.Request) -> web.Response:
        wanted = await read(request, PriceBody)
        if (wanted.trades is None) == (wanted.symbol is None or wanted.price is None):
            raise bad("give symbol and price, or a list of trades")
        held = (wanted.mark, wanted.bid, wanted.ask)
        if wanted.trades is not None and (wanted.symbol or wanted.price is not None or any(held)):
            raise bad("a list of trades stands alone")
        trades = wanted.trades
        if trades is None:
            assert wanted.symbol is not None
            assert wanted.price is not None
            trades = [OnePrice(symbol=wanted.symbol, price=wanted.price)]
        for trade in trades:
            self._check_price(trade.symbol, trade.price)
        if any(price is not None and price <= 0 for price in held):
            raise bad("mark, bid and ask must be above 0")
        for symbol, run in itertools.groupby(trades, key=lambda t: t.symbol):
            self._exchange.engine.hold_mark(symbol, wanted.mark)
            self._exchange.engine.market(symbol).hold_quotes(wanted.bid, wanted.ask)
            self._prices.by_hand(symbol, [t.price for t in run])
        return answer({"ok": True})

    def _check_price(self, symbol: str, price: Decimal) -> None:
        instrument = self._exchange.engine.market(symbol).instrument
        if price <= 0 or price % instrument.tick_size:
            raise bad(f"price {price} of {symbol} is not a multiple of its tick size {instrument.tick_size}")

    async def get_prices(self, request: web.Request) -> web.Response:
        return answer(self._prices.status())

    async def set_prices(self, request: web.Request) -> web.Response:
        wanted = await read(request, PricesBody)
        if wanted.source in ("random", "manual"):
            await self._prices.use(wanted.source, wanted.symbol)
        elif wanted.source == "file" and wanted.path is not None:
            try:
                await self._prices.play(wanted.path, wanted.symbol, wanted.speed, wanted.start_at)
            except (OSError, ValueError, ArithmeticError) as exc:
                raise bad(f"cannot play {wanted.path}: {exc}") from None
        else:
            raise bad("source is random, manual, or file with a path")
        return answer(self._prices.status())

    async def get_ledger(self, request: web.Request) -> web.Response:
        query = request.query
        since = query.get("since", "0")
        if not since.isdecimal():
            raise bad("since is the number of a request")
        everything = query.get("all", "0") not in ("", "0")
        return answer(ledger(self._exchange, symbol=query.get("symbol"), since=int(since), everything=everything))

    async def reset(self, request: web.Request) -> web.Response:
        wanted = await read(request, ResetBody)
        self._exchange.reset(wanted.balance)
        return answer({"ok": True})

    async def get_faults(self, request: web.Request) -> web.Response:
        return answer({"faults": self._exchange.faults.rows(self._exchange.now_s())})

    async def add_fault(self, request: web.Request) -> web.Response:
        wanted = await read(request, FaultOrder)
        fault = self._exchange.faults.add(wanted, self._exchange.now_s())
        if wanted.fault is FaultKind.CUT_SOCKET:
            for hub in self._hubs:
                if wanted.channel in (None, hub.channel):
                    hub.cut_all()
            if fault.times_left is not None:  # done; a lasting one also keeps new links out
                self._exchange.faults.clear(fault.id)
        return answer({"id": fault.id})

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._exchange.faults.clear()
        return answer({"ok": True})

    async def clear_fault(self, request: web.Request) -> web.Response:
        fault_id = request.match_info["id"]
        if not fault_id.isdecimal() or not self._exchange.faults.clear(int(fault_id)):
            raise web.HTTPNotFound(text=f"there is no fault {fault_id} (any more)")
        return answer({"ok": True})
