"""Conditional orders of a Binance-like account, as the adapter's own code for stops asks for them.

`app.venues.binance.stops` runs for real: it builds its bridges, and every request of it may be lost or seen late. Here
is the client that it is given.
"""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec

from app.venues.binance import wire
from app.venues.binance.codes import NO_POSITION_YET, STOP_EXISTS, WOULD_TRIGGER
from app.venues.binance.http import BinanceHttp
from app.venues.failures import VenueSaid
from app.venues.kinds import Kind
from simulator import model
from simulator.model import Account, OrderStatus, OrderType
from tests.simulation.exchange import Exchange, saying
from tests.simulation.network import Network
from tests.simulation.world import Proc

SIDES = {"BUY": model.Side.BUY, "SELL": model.Side.SELL}
WORDS = {model.Side.BUY: "BUY", model.Side.SELL: "SELL"}
POSITION_SIDES = {"LONG": model.PositionSide.LONG, "SHORT": model.PositionSide.SHORT, "BOTH": model.PositionSide.BOTH}
STOP_MARKET, RESTS = "STOP_MARKET", "NEW"


class StopsHttp:
    """The four requests that the code for stops makes, of one account and process."""

    def __init__(self, proc: Proc, network: Network, exchange: Exchange, number: int) -> None:
        self._proc = proc
        self._network = network
        self._exchange = exchange
        self._number = number
        self._account = exchange.accounts[number]

    async def read(self, method: Any, *, urgency: Any = None, symbol: str = "") -> bytes:
        if method is BinanceHttp.futures_get_open_algo_orders:
            return await self._network.read(self._proc, self._number, "stops", lambda: self._stops(symbol))
        assert method is BinanceHttp.futures_position_information, method
        return await self._network.read(self._proc, self._number, "position", lambda: self._positions(symbol))

    async def write(self, method: Any, *, urgency: Any = None, **params: Any) -> bytes:
        if method is BinanceHttp.futures_cancel_algo_order:
            return await self._network.write(
                self._proc, self._number, "set_stop: cancel", lambda: self._cancel(params["algoId"])
            )
        assert method is BinanceHttp.futures_create_algo_order, method
        name = "set_stop: whole" if "closePosition" in params else "set_stop: bridge"
        return await self._network.write(self._proc, self._number, name, lambda: self._create(params))

    def _stops(self, symbol: str) -> bytes:
        return msgspec.json.encode(stop_rows(self._exchange, self._account, symbol))

    def _positions(self, symbol: str) -> bytes:
        found = []
        for side in self._account.position_sides(symbol):
            shown = self._exchange.shown(self._account, symbol, side)
            if shown is not None:
                found.append(
                    wire.PositionRow(
                        symbol=symbol,
                        positionAmt=format(shown.qty, "f"),
                        positionSide=side.value.upper(),
                        entryPrice=format(shown.entry_price, "f"),
                    )
                )
        return msgspec.json.encode(found)

    def _cancel(self, algo_id: str) -> bytes:
        order = self._account.orders.get(algo_id)
        if order is None or order.status is not OrderStatus.UNTRIGGERED:
            raise VenueSaid(Kind.GONE, -2011, "no such order")
        self._exchange.engine.cancel(self._account, order, self._exchange.now_ms)
        self._exchange.settle()
        return b"{}"

    def _create(self, params: dict[str, Any]) -> bytes:
        exchange, account = self._exchange, self._account
        symbol, side, trigger = params["symbol"], SIDES[params["side"]], Decimal(params["triggerPrice"])
        position_side = POSITION_SIDES[params.get("positionSide", "BOTH")]
        whole = params.get("closePosition") == "true"
        if whole:
            if any(_is_twin(order, side, position_side) for order in exchange.engine.open_orders(account, symbol)):
                raise VenueSaid(Kind.BUSY, STOP_EXISTS, "a stop of the whole position rests already")
            shown = exchange.shown(account, symbol, position_side)
            held = exchange.engine.position(account, symbol, position_side)
            if shown is None or not held.reducible_by(side):
                raise VenueSaid(Kind.GONE, NO_POSITION_YET, "no position that could be closed")
        price, rises = exchange.price(symbol), side is model.Side.BUY
        if price >= trigger if rises else price <= trigger:
            raise VenueSaid(Kind.REFUSED, WOULD_TRIGGER, "it would trigger at once")
        new = model.NewOrder(
            symbol=symbol,
            side=side,
            type=OrderType.MARKET,
            qty=Decimal(0) if whole else Decimal(params["quantity"]),
            position_side=position_side,
            client_order_id=params["clientAlgoId"],
            reduce_only=True,
            trigger_price=trigger,
            trigger_direction=1 if rises else 2,
            close_position=whole,
            reuse_ids=True,
            stops_max=200,
        )
        with saying():
            exchange.engine.place(account, new, exchange.now_ms)
        exchange.settle()
        return b"{}"


def _is_twin(order: model.Order, side: model.Side, position_side: model.PositionSide) -> bool:
    return order.close_position and order.side is side and order.position_side is position_side


def stop_rows(exchange: Exchange, account: Account, symbol: str) -> list[wire.AlgoRow]:
    """The conditional orders that are listed: those that were made a moment ago perhaps not yet."""
    return [
        wire.AlgoRow(
            algoId=int(order.order_id),
            symbol=symbol,
            side=WORDS[order.side],
            algoStatus=RESTS,
            orderType=STOP_MARKET,
            clientAlgoId=order.client_order_id,
            positionSide=order.position_side.value.upper(),
            quantity=None if order.close_position else format(order.qty, "f"),
            triggerPrice=None if order.trigger_price is None else format(order.trigger_price, "f"),
            closePosition=order.close_position,
            reduceOnly=order.reduce_only and order.position_side is model.PositionSide.BOTH,
        )
        for order in exchange.engine.open_orders(account, symbol)
        if order.status is OrderStatus.UNTRIGGERED and exchange.listed(order.order_id)
    ]


class Rules:
    """Instruments as the code for stops asks for them."""

    def __init__(self, instruments: dict[str, Any]) -> None:
        self._instruments = instruments

    async def rule(self, symbol: str) -> Any:
        return SimpleNamespace(instrument=self._instruments[symbol])
