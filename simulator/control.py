"""The control API under /control, for tests and drills: prices, faults, books, accounts, instruments. No sign-in.

Bodies are JSON; an unknown field or a value that will not do is a 400 with a sentence.
"""

import itertools
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from simulator.exchange import Exchange
from simulator.faults import FaultKind, FaultOrder
from simulator.hub import Hub
from simulator.instruments import Instrument
from simulator.ledger import ledger
from simulator.model import CreatedBy, NewOrder, OrderType, Refused, Side
from simulator.prices import Prices


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class OnePrice(_Body, frozen=True, kw_only=True):
    symbol: str
    price: Decimal


class PriceBody(_Body, frozen=True, kw_only=True):
    """One print, or many in order. A mark is held until the next price of its symbol comes without one."""

    symbol: str | None = None
    price: Decimal | None = None
    mark: Decimal | None = None
    trades: list[OnePrice] | None = None


class PricesBody(_Body, frozen=True, kw_only=True):
    source: str
    path: str | None = None
    speed: float = 1.0
    symbol: str | None = None
    start_at: str | None = None


class AccountBody(_Body, frozen=True, kw_only=True):
    api_key: str
    api_secret: str
    balance: Decimal | None = None


class InstrumentBody(_Body, frozen=True, kw_only=True):
    """Fields left out stay as they are; a new symbol needs the filters and a start price."""

    symbol: str
    base_coin: str | None = None
    tick_size: Decimal | None = None
    qty_step: Decimal | None = None
    min_qty: Decimal | None = None
    max_qty: Decimal | None = None
    max_market_qty: Decimal | None = None
    start_price: Decimal | None = None
    min_notional: Decimal | None = None
    max_leverage: Decimal | None = None
    min_leverage: Decimal | None = None
    leverage_step: Decimal | None = None
    max_price: Decimal | None = None
    status: str | None = None


class PositionBody(_Body, frozen=True, kw_only=True):
    symbol: str
    side: Side
    qty: Decimal
    api_key: str | None = None
    reduce_only: bool = False


class ResetBody(_Body, frozen=True, kw_only=True):
    balance: Decimal | None = None


B = TypeVar("B", bound=msgspec.Struct)


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
            web.post("/control/accounts", self.add_account),
            web.post("/control/instruments", self.put_instrument),
            web.post("/control/positions", self.trade_by_hand),
        ]

    async def health(self, request: web.Request) -> web.Response:
        links = {hub.channel: len(hub.links) for hub in self._hubs}
        topics = {hub.channel: len(hub.topics) for hub in self._hubs}
        return _json({"ok": True, "now_ms": self._exchange.now_ms(), "links": links, "topics": topics})

    async def set_price(self, request: web.Request) -> web.Response:
        wanted = await _body(request, PriceBody)
        if (wanted.trades is None) == (wanted.symbol is None or wanted.price is None):
            raise _bad("give symbol and price, or a list of trades")
        if wanted.trades is not None and (wanted.symbol or wanted.price is not None or wanted.mark is not None):
            raise _bad("a list of trades stands alone")
        trades = wanted.trades
        if trades is None:
            assert wanted.symbol is not None
            assert wanted.price is not None
            trades = [OnePrice(symbol=wanted.symbol, price=wanted.price)]
        for trade in trades:
            self._check_price(trade.symbol, trade.price)
        if wanted.mark is not None and wanted.mark <= 0:
            raise _bad("mark must be above 0")
        for symbol, run in itertools.groupby(trades, key=lambda t: t.symbol):
            self._exchange.engine.hold_mark(symbol, wanted.mark)
            self._prices.by_hand(symbol, [t.price for t in run])
        return _json({"ok": True})

    def _check_price(self, symbol: str, price: Decimal) -> None:
        instrument = self._exchange.engine.market(symbol).instrument
        if price <= 0 or price % instrument.tick_size:
            raise _bad(f"price {price} of {symbol} is not a multiple of its tick size {instrument.tick_size}")

    async def get_prices(self, request: web.Request) -> web.Response:
        return _json(self._prices.status())

    async def set_prices(self, request: web.Request) -> web.Response:
        wanted = await _body(request, PricesBody)
        if wanted.source in ("random", "manual"):
            await self._prices.use(wanted.source, wanted.symbol)
        elif wanted.source == "file" and wanted.path is not None:
            try:
                await self._prices.play(wanted.path, wanted.symbol, wanted.speed, wanted.start_at)
            except (OSError, ValueError, ArithmeticError) as exc:
                raise _bad(f"cannot play {wanted.path}: {exc}") from None
        else:
            raise _bad("source is random, manual, or file with a path")
        return _json(self._prices.status())

    async def get_ledger(self, request: web.Request) -> web.Response:
        query = request.query
        since = query.get("since", "0")
        if not since.isdecimal():
            raise _bad("since is the number of a request")
        everything = query.get("all", "0") not in ("", "0")
        return _json(ledger(self._exchange, symbol=query.get("symbol"), since=int(since), everything=everything))

    async def reset(self, request: web.Request) -> web.Response:
        wanted = await _body(request, ResetBody)
        self._exchange.reset(wanted.balance)
        return _json({"ok": True})

    async def get_faults(self, request: web.Request) -> web.Response:
        return _json({"faults": self._exchange.faults.rows(self._exchange.now_s())})

    async def add_fault(self, request: web.Request) -> web.Response:
        wanted = await _body(request, FaultOrder)
        fault = self._exchange.faults.add(wanted, self._exchange.now_s())
        if wanted.fault is FaultKind.CUT_SOCKET:
            for hub in self._hubs:
                if wanted.channel in (None, hub.channel):
                    hub.cut_all()
            if fault.times_left is not None:  # done; a lasting one also keeps new links out
                self._exchange.faults.clear(fault.id)
        return _json({"id": fault.id})

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._exchange.faults.clear()
        return _json({"ok": True})

    async def clear_fault(self, request: web.Request) -> web.Response:
        fault_id = request.match_info["id"]
        if not fault_id.isdecimal() or not self._exchange.faults.clear(int(fault_id)):
            raise web.HTTPNotFound(text=f"there is no fault {fault_id} (any more)")
        return _json({"ok": True})

    async def add_account(self, request: web.Request) -> web.Response:
        wanted = await _body(request, AccountBody)
        if not wanted.api_key or not wanted.api_secret:
            raise _bad("api_key and api_secret must not be empty")
        if wanted.api_key in self._exchange.secrets:
            raise _bad(f"there is an account {wanted.api_key} already")
        self._exchange.add_account(wanted.api_key, wanted.api_secret, wanted.balance)
        return _json({"account": wanted.api_key})

    async def put_instrument(self, request: web.Request) -> web.Response:
        wanted = await _body(request, InstrumentBody)
        given = {k: v for k, v in msgspec.structs.asdict(wanted).items() if v is not None}
        market = self._exchange.engine.markets.get(wanted.symbol)
        try:
            if market is not None:
                instrument = msgspec.structs.replace(market.instrument, **given)
            else:
                given.setdefault("base_coin", wanted.symbol.removesuffix("USDT"))
                instrument = Instrument(**given)
        except (TypeError, ValueError) as exc:
            raise _bad(str(exc)) from None
        self._exchange.put_instrument(instrument)
        return _json(instrument)

    async def trade_by_hand(self, request: web.Request) -> web.Response:
        """A trade that no client ordered, as a person makes it at the exchange's own page."""
        wanted = await _body(request, PositionBody)
        account = self._exchange.engine.accounts.get(wanted.api_key or self._exchange.config.api_key)
        if account is None:
            raise _bad(f"there is no account {wanted.api_key}")
        new = NewOrder(
            symbol=wanted.symbol,
            side=wanted.side,
            type=OrderType.MARKET,
            qty=wanted.qty,
            reduce_only=wanted.reduce_only,
            created_by=CreatedBy.HAND,
        )
        order = self._exchange.engine.place(account, new, self._exchange.now_ms())
        self._exchange.flush()
        return _json({"order_id": order.order_id})


@web.middleware
async def refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    """The engine's refusals as a 400; the faces catch theirs before."""
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        raise _bad(str(refused)) from None
    return response


async def _body(request: web.Request, kind: type[B]) -> B:
    raw = await request.read()
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, ValueError) as exc:
        raise _bad(str(exc)) from None


def _bad(sentence: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=sentence)


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
