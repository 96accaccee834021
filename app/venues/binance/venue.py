"""Binance USD-M Futures: USDT perpetuals in one-way or hedge mode.

Quirks; the pages are under https://developers.binance.com/docs/derivatives/usds-margined-futures/ and were read in May
2026. Those of stops are in `stops`, of executions in `fills`, of sockets in `stream`.
1. Errors come with an HTTP status of 4xx or 5xx and a negative `code`; some successes have a code too, 200, once as a
   string (general-info). They are classed in `codes`.
2. A client order id is unique among *open* orders only: a filled order's may be used again, so a repeated request is
   not refused (trade/rest-api/New-Order). Without one the library would invent one.
3. `newOrderRespType=RESULT` answers with the final state; the default says NEW of an order that is filling.
4. Position mode is the account's, margin mode the symbol's. In hedge mode an order names its side, and `reduceOnly` is
   refused: -1106; a close is bound by its side instead.
5. positionRisk v3 has rows only for symbols with a position or an open order; a row may say 0, and has neither leverage
   nor margin mode: those are in symbolConfig (trade/rest-api/Position-Information-V3).
6. A CANCELED or EXPIRED order may have fills. "No such order" is said of one that has just been placed, too.
7. Orders that the exchange makes itself are told by their client id: autoclose-…, adl_autoclose… .
8. A market order is refused where the best price is too far from the mark price: -4131. A close then goes once more, as
   an immediate limit order at the worst price that is allowed, under the same id: the first one never was an order.
9. Public trades are aggregated; by time at most one hour at once (market-data/rest-api/
   Compressed-Aggregate-Trades-List).
10. In multi-assets mode the totals are in USD over all assets; else a position wins and loses USDT, and that row counts
    where there is one: some accounts have none (account/rest-api/Account-Information-V3).
11. Setting the leverage that is set succeeds; the margin mode that is set is the error -4046.
12. What a key may do is told by the spot API, which the practice environments do not have.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import msgspec

from app.domain.instrument import Instrument
from app.domain.money import plain, tick_up
from app.domain.order import MarginMode, PositionSide, Side
from app.domain.position import Fill
from app.domain.refusals import Outcome
from app.errors import OutcomeUnknown, Refused
from app.keys import Credentials
from app.venues.base import (
    Candle,
    Equity,
    Holding,
    NewOrder,
    OrderReport,
    Origins,
    Permissions,
    Placing,
    PrivateListener,
    PrivateStream,
    Quote,
    RestingStop,
    Standing,
    Trade,
    Traits,
)
from app.venues.binance import rows, wire
from app.venues.binance.codes import (
    FILTERS,
    MULTI_ASSETS_BLOCK_MARGIN_MODE,
    ORDERS_BLOCK_MARGIN_MODE,
    PERCENT_PRICE,
    POSITION_BLOCKS_MARGIN_MODE,
)
from app.venues.binance.entry import BinanceEntry, Encoded, Written, encoded
from app.venues.binance.failures import EDGE, asking, changing, no_such_path
from app.venues.binance.fills import Fills
from app.venues.binance.http import BinanceHttp
from app.venues.binance.market import Market
from app.venues.binance.private import BinancePrivateStream
from app.venues.binance.rules import Rules
from app.venues.binance.setup import Setup
from app.venues.binance.stops import Stops
from app.venues.clock import Clock
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.gate import Gate, Urgency
from app.venues.kinds import Kind
from app.venues.numbers import instant, milliseconds

MARKET = {"type": "MARKET"}
SYMBOLS_ASKED_MAX = 40  # one list of all conditional orders costs as much as forty of a symbol each
# Other assets' positions are nothing that is traded here. Accounts of the EU have credits in place of USDT.
MARGIN_ASSETS = (None, "", "USDT", "BNFCR")
CURES = {
    str(ORDERS_BLOCK_MARGIN_MODE): "cancel the open orders of {symbol} at Binance first",
    str(POSITION_BLOCKS_MARGIN_MODE): "close the position in {symbol} first",
    str(MULTI_ASSETS_BLOCK_MARGIN_MODE): "switch the account at Binance to single-asset mode first",
}


class Ready(msgspec.Struct, frozen=True, gc=False):
    """An order that is encoded, whichever account here sends it; its `signed_at` counts for nothing."""

    order: NewOrder
    urgency: Urgency
    params: Encoded


class BinanceVenue:
    """One account. Made within a running event loop."""

    traits = Traits(
        attaches_stops=False,
        refuses_used_ids=False,  # quirk 2
        sets_margin_mode=True,  # quirk 4
        order_limits=(wire.WEIGHT, *wire.ORDER_LIMITS),
    )

    def __init__(
        self,
        credentials: Credentials,
        origins: Origins,
        *,
        recv_window_ms: int = 5000,
        timeout_s: float = 10.0,
        gate: Gate | None = None,
    ) -> None:
        """Raises Refused when the credentials are of no use to Binance."""
        self._origins = origins
        self._clock = Clock()
        self._http = BinanceHttp(
            credentials,
            origins.rest,
            recv_window_ms=recv_window_ms,
            timeout_s=timeout_s,
            clock=self._clock,
            gate=gate or Gate(),
        )
        self.entry = BinanceEntry(origins.orders, self._http, timeout_s=timeout_s) if origins.orders else None
        if self.entry is not None:
            self._http.on_warm = self.entry.keep_warm
        self._rules = Rules(self._http)
        self._setup = Setup(self._http)
        self._fills = Fills(self._http)
        self._stops = Stops(self._http, self._rules)
        self._market = Market(self._http)

    @property
    def clock_offset_ms(self) -> int:
        return self._clock.offset_ms

    async def server_time(self) -> datetime:
        self._http.keep_warm()  # who asks may be about to trade
        with asking():
            if not self._http.measured:
                await self._http.synchronise()  # its round trip is a handshake's
            return instant(await self._http.synchronise())

    async def permissions(self) -> Permissions:
        with asking():
            config = await self._setup.account(fresh=True)
            return rows.permissions(config, await self._restrictions())

    async def test_order(self, symbol: str) -> bool:
        instrument, quote = await asyncio.gather(self.instrument(symbol), self.quote(symbol))
        least = max(instrument.qty_min, instrument.notional_min / quote.mark * Decimal("1.1"))
        params = {
            "symbol": symbol,
            "side": "BUY",
            "type": "MARKET",
            "quantity": plain(tick_up(least, instrument.qty_step)),
            "newClientOrderId": rows.new_stop_id(),
        }
        with asking():
            if (await self._setup.account()).dualSidePosition:
                params["positionSide"] = "LONG"
            try:
                await self._http.read(BinanceHttp.futures_create_test_order, urgency=Urgency.OPEN, **params)
            except VenueSaid as said:
                if no_such_path(said):
                    return False
                raise
        return True

    async def instrument(self, symbol: str) -> Instrument:
        return (await self._rules.rule(symbol)).instrument

    async def equity(self) -> Equity:
        with asking():
            body, config = await asyncio.gather(
                self._http.read(BinanceHttp.futures_account, urgency=Urgency.OPEN, version=3), self._setup.account()
            )
            return rows.equity(wire.ACCOUNT.decode(body), multi_assets=config.multiAssetsMargin)

    async def standing(self, symbol: str) -> Standing:
        with asking():
            positions, stops, config, mode = await asyncio.gather(
                self._positions(symbol, urgency=Urgency.OPEN),
                self._stops.resting(symbol),
                self._setup.symbol(symbol),
                self._setup.position_mode(),
            )
            held = (rows.holding(row, stops) for row in positions)
            return Standing(
                symbol=symbol,
                position_mode=mode,
                margin_mode=rows.MARGIN_MODES_READ.get(config.marginType.upper()),
                leverage=None if config.leverage is None else Decimal(config.leverage),
                holdings=tuple(holding for holding in held if holding is not None),
            )

    async def holdings(self) -> list[Holding]:
        with asking():
            held = [row for row in await self._positions() if rows.held(row) is not None]
            symbols = sorted({row.symbol for row in held})
            if len(symbols) > SYMBOLS_ASKED_MAX:
                stops = wire.ALGOS.decode(await self._http.read(BinanceHttp.futures_get_open_algo_orders))
            else:
                asked = (self._stops.resting(symbol, urgency=Urgency.READ) for symbol in symbols)
                stops = [stop for found in await asyncio.gather(*asked) for stop in found]
            found = (rows.holding(row, [stop for stop in stops if stop.symbol == row.symbol]) for row in held)
            return [holding for holding in found if holding is not None]

    async def quote(self, symbol: str) -> Quote:
        return await self._market.quote(symbol)

    async def last_prices(self, symbols: Collection[str]) -> dict[str, Decimal]:
        return await self._market.last_prices(symbols)

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Raises Refused or Transient: setting it again is harmless, so an unknown outcome is told as "try again"."""
        if leverage != leverage.to_integral_value():
            raise Refused(Outcome.VENUE_REFUSED, f"Binance takes whole numbers as leverage, not {plain(leverage)}")
        try:
            with changing():
                await self._http.write(
                    BinanceHttp.futures_change_leverage,
                    urgency=Urgency.OPEN,
                    symbol=symbol,
                    leverage=str(int(leverage)),
                )
        finally:
            self._setup.forget()

    async def set_margin_mode(self, symbol: str, mode: MarginMode) -> None:
        """Raises Refused or Transient, see `set_leverage`."""
        try:
            with changing():
                await self._http.write(
                    BinanceHttp.futures_change_margin_type,
                    urgency=Urgency.OPEN,
                    symbol=symbol,
                    marginType=rows.MARGIN_MODES[mode],
                )
        except Refused as refused:
            cure = CURES.get(refused.venue_code or "")
            if cure is None:
                raise
            reason = f"{symbol} is not in {mode} margin mode and can't change now: {cure.format(symbol=symbol)}"
            raise Refused(refused.code, reason, venue_code=refused.venue_code) from None
        finally:
            self._setup.forget()

    async def place(self, order: NewOrder) -> str:
        return await self._outcome(order, self._written(self.prepared(order), milliseconds(order.signed_at)))

    def prepared(self, order: NewOrder) -> Ready:
        return _ready(order, _params(order) | MARKET)

    def place_now(self, prepared: Ready, signed_ms: int) -> Placing | None:
        written = self._written(prepared, signed_ms)
        if written is None:
            return None
        return partial(self._outcome, msgspec.structs.replace(prepared.order, signed_at=instant(signed_ms)), written)

    async def _outcome(self, order: NewOrder, written: Written | None) -> str:
        try:
            return await self._send(order, _params(order) | MARKET, written)
        except VenueSaid as said:
            if said.code != PERCENT_PRICE or not order.reduce_only:
                raise self._order_failure(said, order) from None
        worst = await self._worst_price(order.symbol, order.side)  # quirk 8
        limited = _params(order) | {"type": "LIMIT", "timeInForce": "IOC", "price": plain(worst)}
        written = self._written(_ready(order, limited), milliseconds(order.signed_at))
        try:
            return await self._send(order, limited, written)
        except VenueSaid as said:
            raise self._order_failure(said, order) from None

    async def order(self, symbol: str, client_order_id: str) -> OrderReport | None:
        with asking():
            row = await self._fills.order(symbol, origClientOrderId=client_order_id)
            return None if row is None else rows.report(row)

    async def fills(
        self, symbol: str, *, client_order_id: str | None = None, since: datetime | None = None
    ) -> list[Fill]:
        with asking():
            if client_order_id is not None:
                return await self._fills.of_order(symbol, client_order_id, since)
            return await self._fills.since(symbol, since)

    async def set_stop(
        self, symbol: str, side: PositionSide, price: Decimal | None, *, hedge: bool, qty: Decimal | None = None
    ) -> None:
        """Raises Refused, Conflict or Transient: setting it again is harmless, see `set_leverage`."""
        await self._stops.set(symbol, side, price, hedge=hedge, qty=qty)

    async def resting_stops(self, symbol: str) -> list[RestingStop]:
        with asking():
            found = (rows.closing_stop(row) for row in await self._stops.resting(symbol))
            return sorted((stop for stop in found if stop is not None), key=lambda stop: (stop.side.value, stop.price))

    async def trades_since(self, symbol: str, since: datetime, *, lead: timedelta = timedelta()) -> list[Trade] | None:
        return await self._market.trades_since(symbol, since, lead=lead)

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        return await self._market.candles_since(symbol, since)

    def private_stream(self, listener: PrivateListener) -> PrivateStream:
        origin = self._origins.ws_private or self._origins.ws
        return BinancePrivateStream(
            origin, self._http, listener, on_setup=self._setup.forget, ours=self._rules.may_be_ours
        )

    async def close(self) -> None:
        self._rules.close()
        if self.entry is not None:
            await self.entry.close()
        await self._http.close()

    async def _positions(self, symbol: str | None = None, *, urgency: Urgency = Urgency.READ) -> list[wire.PositionRow]:
        body = await self._http.read(BinanceHttp.futures_position_information, urgency=urgency, symbol=symbol)
        return [
            row
            for row in wire.POSITIONS.decode(body)
            if symbol in (None, row.symbol) and row.marginAsset in MARGIN_ASSETS
        ]

    async def _restrictions(self) -> wire.Restrictions | None:
        """What the spot API says of the key; None where there is none (quirk 12)."""
        try:
            body = await self._http.read_elsewhere(BinanceHttp.get_account_api_permissions)
            return wire.RESTRICTIONS.decode(body)
        except VenueSaid as said:
            if said.kind in (Kind.RATE, Kind.CLOCK, Kind.BUSY) or (self._http.has_spot and not no_such_path(said)):
                raise
        except (NotSent, NoAnswer, msgspec.MsgspecError):
            if self._http.has_spot:
                raise
        return None

    async def _worst_price(self, symbol: str, side: Side) -> Decimal:
        """Raises Refused or Transient, which is true of the order: it was refused before."""
        rule, mark = await asyncio.gather(self._rules.rule(symbol), self._market.mark(symbol))
        return rule.last_price(side, mark)

    def _written(self, ready: Ready, signed_ms: int) -> Written | None:
        """Over the socket, if it has room at this moment."""
        if self.entry is None:
            return None
        return self.entry.write(ready.params, urgency=ready.urgency, signed_ms=signed_ms)

    async def _send(self, order: NewOrder, params: dict[str, str], written: Written | None) -> str:
        """What comes of an order: of one that was written, or else over REST; it leaves once. Raises VenueSaid,
        Transient or OutcomeUnknown.
        """
        try:
            body = await self._sent(order, params, written)
            row = wire.PLACED.decode(body)
        except (NotSent, NoAnswer) as exc:
            raise EDGE.order_failure(exc, order) from None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise OutcomeUnknown("Binance took the order and its answer could not be read") from None
        self._fills.learn(order.symbol, row.orderId, order.client_order_id)
        return str(row.orderId)

    async def _sent(self, order: NewOrder, params: dict[str, str], written: Written | None) -> bytes:
        if self.entry is not None and written is not None:
            return await self.entry.outcome(written)
        return await self._http.write(
            BinanceHttp.futures_create_order,
            urgency=_urgency(order),
            signed_ms=milliseconds(order.signed_at),
            order=True,
            **params,
        )

    def _order_failure(self, said: VenueSaid, order: NewOrder) -> Exception:
        if said.kind is Kind.REFUSED:
            self._setup.forget()
            if said.code in FILTERS:
                self._rules.expire()
        return EDGE.order_failure(said, order)


def _ready(order: NewOrder, params: dict[str, str]) -> Ready:
    return Ready(order, _urgency(order), encoded(params))


def _urgency(order: NewOrder) -> Urgency:
    return Urgency.CLOSE if order.reduce_only else Urgency.OPEN


def _params(order: NewOrder) -> dict[str, str]:
    """The same on both roads, but for the type."""
    assert order.stop_loss is None  # `traits`
    params = {
        "symbol": order.symbol,
        "side": rows.SIDES[order.side],
        "quantity": plain(order.qty),
        "newClientOrderId": order.client_order_id,
        "newOrderRespType": "RESULT",  # quirk 3
    }
    if order.hedge:  # quirk 4
        params["positionSide"] = rows.POSITION_SIDES[order.position_side]
    elif order.reduce_only:
        params["reduceOnly"] = "true"
    return params
