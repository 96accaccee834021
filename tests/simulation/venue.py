"""An account as a flow sees it: `app.venues.base.Venue` over the world's exchange, through the world's network."""

from collections.abc import Awaitable, Callable, Collection, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import msgspec

from app.domain.instrument import Instrument
from app.domain.order import MarginMode, OrderStatus, PositionMode, PositionSide
from app.domain.position import Fill
from app.domain.refusals import Outcome
from app.errors import Conflict, Refused, Transient
from app.venues.base import (
    Candle,
    Equity,
    Holding,
    NewOrder,
    OrderReport,
    Permissions,
    Placing,
    PrivateListener,
    Quote,
    RestingStop,
    Standing,
    Trade,
    Traits,
)
from app.venues.binance import rows
from app.venues.binance.failures import EDGE, asking, changing
from app.venues.binance.stops import Stops
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind
from app.venues.numbers import instant, milliseconds
from simulator import model
from simulator.instruments import Instrument as TheirInstrument
from simulator.model import OrderType, Protection, StopKind
from tests.simulation.exchange import HEDGE_SIDES, STATUSES, TO_SIDE, Exchange, saying
from tests.simulation.loop import EPOCH_S
from tests.simulation.network import Network
from tests.simulation.stops import Rules, StopsHttp, stop_rows
from tests.simulation.streams import PrivateStream
from tests.simulation.world import Proc

TRAITS = {
    "bybit": Traits(attaches_stops=True, refuses_used_ids=True, sets_margin_mode=False),
    "binance": Traits(attaches_stops=False, refuses_used_ids=False, sets_margin_mode=True),
}
NOT_NOW = 0.4
NEW_S = 3.5  # an execution of so late an order may be missing from a Binance-like list
T = TypeVar("T")


class SimulatedVenue:
    """One account, as one process speaks to it."""

    def __init__(self, proc: Proc, network: Network, exchange: Exchange, number: int) -> None:
        self.traits = TRAITS[exchange.plan.accounts[number].venue]
        self._proc = proc
        self._network = network
        self._exchange = exchange
        self._number = number
        self._account = exchange.accounts[number]
        self._instruments = {one.symbol: _instrument(one) for one in exchange.instruments}
        self._stops = Stops(StopsHttp(proc, network, exchange, number), Rules(self._instruments))  # type: ignore[arg-type]

    @property
    def clock_offset_ms(self) -> int:
        return -round(self._proc.ahead.total_seconds() * 1000)

    async def server_time(self) -> datetime:
        return await self._read("time", self._exchange.world.loop.now_at)

    async def permissions(self) -> Permissions:
        return Permissions(can_trade=True, can_withdraw=False, ip_restricted=None, detail="")

    async def test_order(self, symbol: str) -> bool:
        return False

    async def instrument(self, symbol: str) -> Instrument:
        """From memory, as in the adapters: no step."""
        if symbol not in self._instruments:
            raise Refused(Outcome.UNKNOWN_SYMBOL, f"no such instrument: {symbol}")
        return self._instruments[symbol]

    async def equity(self) -> Equity:
        engine, account = self._exchange.engine, self._account
        return await self._read(
            "equity",
            lambda: Equity(
                equity=account.balance + engine.unrealized_pnl(account), available=engine.available(account)
            ),
        )

    async def standing(self, symbol: str) -> Standing:
        return await self._read("standing", lambda: self._standing(symbol))

    async def holdings(self) -> list[Holding]:
        return await self._read(
            "holdings", lambda: [one for symbol in self._instruments for one in self._holdings(symbol)]
        )

    async def quote(self, symbol: str) -> Quote:
        market = self._exchange.engine.market(symbol)
        return await self._read(
            "quote", lambda: Quote(last=market.last, mark=market.mark, bid=market.bid, ask=market.ask)
        )

    async def last_prices(self, symbols: Collection[str]) -> dict[str, Decimal]:
        return await self._read("prices", lambda: {symbol: self._exchange.price(symbol) for symbol in symbols})

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        def change() -> None:
            with saying():
                self._exchange.engine.set_leverage(self._account, symbol, leverage)
            self._exchange.settle()

        with changing():
            await self._network.write(self._proc, self._number, "set_leverage", change)

    async def set_margin_mode(self, symbol: str, mode: MarginMode) -> None:
        raise Refused(Outcome.MARGIN_MODE_MISMATCH, "not in this world")

    async def place(self, order: NewOrder) -> str:
        name, what, signed = self._request(order)
        return await self._placed(order, self._network.write(self._proc, self._number, name, what, signed=signed))

    def prepared(self, order: NewOrder) -> NewOrder:
        return order

    def place_now(self, prepared: NewOrder, signed_ms: int) -> Placing | None:
        """Now and then, as if the socket for orders were up."""
        order = msgspec.structs.replace(prepared, signed_at=instant(signed_ms))
        if self._proc.world.chance_of("place_now").random() < NOT_NOW:
            return None
        name, what, signed = self._request(order)
        answer = self._network.write_now(self._proc, self._number, name, what, signed=signed)
        return None if answer is None else lambda: self._placed(order, answer())

    def _request(self, order: NewOrder) -> tuple[str, Callable[[], model.Order], float]:
        self._exchange.sent(self._number, self._proc, order)
        new = model.NewOrder(
            symbol=order.symbol,
            side=TO_SIDE[order.side],
            type=OrderType.MARKET,
            qty=order.qty,
            position_side=HEDGE_SIDES[order.position_side] if order.hedge else model.PositionSide.BOTH,
            client_order_id=order.client_order_id,
            reduce_only=order.reduce_only,
            stop_loss=order.stop_loss,
            reuse_ids=not self.traits.refuses_used_ids,
        )
        signed = milliseconds(order.signed_at - self._proc.ahead) / 1000 - EPOCH_S  # stamped by the exchange's clock
        name = f"place {order.side} {order.qty} {order.symbol}{' reduce-only' if order.reduce_only else ''}"
        return name, lambda: self._exchange.place(self._account, new), signed

    async def _placed(self, order: NewOrder, answer: Awaitable[model.Order]) -> str:
        try:
            return (await answer).order_id
        except (VenueSaid, NotSent, NoAnswer) as error:
            raise EDGE.order_failure(error, order) from None

    async def order(self, symbol: str, client_order_id: str) -> OrderReport | None:
        return await self._read("order", lambda: self._report(client_order_id))

    async def fills(
        self, symbol: str, *, client_order_id: str | None = None, since: datetime | None = None
    ) -> list[Fill]:
        return await self._read("fills", lambda: self._fills(symbol, client_order_id, since))

    async def set_stop(
        self, symbol: str, side: PositionSide, price: Decimal | None, *, hedge: bool, qty: Decimal | None = None
    ) -> None:
        if not self.traits.attaches_stops:
            await self._stops.set(symbol, side, price, hedge=hedge, qty=qty)
            return

        def change() -> None:
            stop = Protection(stop_loss=price or Decimal(0))
            position_side = HEDGE_SIDES[side] if hedge else model.PositionSide.BOTH
            held = self._exchange.engine.position(self._account, symbol, position_side)
            if held.side is not TO_SIDE[side.opens_with]:
                raise VenueSaid(Kind.GONE, -1, "no such position")
            with saying():
                self._exchange.engine.protect(self._account, symbol, stop, self._exchange.now_ms, position_side)
            self._exchange.settle()

        name = f"set_stop {price}"
        try:
            with changing():
                await self._network.write(self._proc, self._number, name, change)
        except Refused as error:
            if error.venue_code == "-1":
                raise Conflict(error.reason, kind="no_position") from None
            raise

    async def resting_stops(self, symbol: str) -> list[RestingStop]:
        return await self._read("resting_stops", lambda: self._resting(symbol))

    async def trades_since(self, symbol: str, since: datetime, *, lead: timedelta = timedelta()) -> list[Trade] | None:
        since_ms = milliseconds(since - lead)
        return await self._read(
            "trades_since", lambda: [one for one in self._exchange.trades[symbol] if one.at_ms > since_ms]
        )

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        raise Transient("not in this world: trades reach back far enough")

    def private_stream(self, listener: PrivateListener) -> PrivateStream:
        return PrivateStream(self._proc, self._exchange, self._number, listener)

    async def close(self) -> None:
        return None

    # -- what is shown -------------------------------------------------------------------------------------------------

    async def _read(self, name: str, what: Callable[[], T]) -> T:
        with asking():
            return await self._network.read(self._proc, self._number, name, what)

    def _standing(self, symbol: str) -> Standing:
        account, engine = self._account, self._exchange.engine
        return Standing(
            symbol=symbol,
            position_mode=PositionMode.HEDGE if account.is_hedge(symbol) else PositionMode.ONE_WAY,
            margin_mode=None,
            leverage=engine.leverage(account, symbol, account.position_sides(symbol)[0]),
            holdings=tuple(self._holdings(symbol)),
        )

    def _holdings(self, symbol: str) -> Iterator[Holding]:
        for there in self._account.position_sides(symbol):
            shown = self._exchange.shown(self._account, symbol, there)
            if shown is None:
                continue
            side = PositionSide.LONG if shown.qty > 0 else PositionSide.SHORT
            yield Holding(
                symbol=symbol,
                side=side,
                qty=abs(shown.qty),
                entry_price=shown.entry_price,
                stop_loss=self._stop(symbol, there, side, abs(shown.qty)),
            )

    def _stop(self, symbol: str, there: model.PositionSide, side: PositionSide, qty: Decimal) -> Decimal | None:
        if self.traits.attaches_stops:
            return self._exchange.engine.view(self._account, symbol, there).stop_loss or None
        return rows.stop_price(stop_rows(self._exchange, self._account, symbol), side, qty)

    def _resting(self, symbol: str) -> list[RestingStop]:
        if not self.traits.attaches_stops:
            found = (rows.closing_stop(row) for row in stop_rows(self._exchange, self._account, symbol))
            return [stop for stop in found if stop is not None]
        return [
            RestingStop(
                side=PositionSide.LONG if order.side is model.Side.SELL else PositionSide.SHORT,
                price=order.trigger_price or Decimal(0),
            )
            for order in self._exchange.engine.open_orders(self._account, symbol)
            if order.stop_kind is StopKind.STOP_LOSS
        ]

    def _report(self, client_order_id: str) -> OrderReport | None:
        order = self._exchange.order(self._account, client_order_id)
        if order is None or not self._exchange.listed(order.order_id):
            return None
        status = STATUSES.get(order.status, OrderStatus.ACCEPTED)
        return OrderReport(
            client_order_id=client_order_id,
            venue_order_id=order.order_id,
            symbol=order.symbol,
            status=status,
            filled_qty=order.filled_qty,
            avg_price=order.filled_value / order.filled_qty if order.filled_qty else None,
            reason=order.end_reason.value or None,
        )

    def _fills(self, symbol: str, client_order_id: str | None, since: datetime | None) -> list[Fill]:
        exchange = self._exchange
        found = [
            fill
            for fill in self._account.fills
            if fill.symbol == symbol
            and client_order_id in (None, fill.client_order_id)
            and exchange.listed(fill.fill_id)
        ]
        order = exchange.order(self._account, client_order_id) if client_order_id is not None else None
        if not self.traits.attaches_stops and order is not None and exchange.listed(order.order_id):
            new = exchange.now_ms - order.updated_ms < NEW_S * 1000
            if new and sum((fill.qty for fill in found), Decimal(0)) < order.filled_qty:
                raise NoAnswer("not all executions of the order are listed yet")
        if since is not None and (client_order_id is None or order is None):
            found = [fill for fill in found if fill.at_ms >= milliseconds(since)]
        return [exchange.fill(fill) for fill in found]


def _instrument(one: TheirInstrument) -> Instrument:
    return Instrument(
        symbol=one.symbol,
        tick_size=one.tick_size,
        qty_step=one.qty_step,
        qty_min=one.min_qty,
        market_qty_max=one.max_market_qty,
        notional_min=one.min_notional,
        leverage_max=one.max_leverage,
        trading=True,
    )
