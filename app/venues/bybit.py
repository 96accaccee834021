"""Bybit V5, category `linear`: USDT perpetuals of a unified account in one-way mode.

Quirks; the pages are under https://bybit-exchange.github.io/docs/v5/ and were read in July 2026:
1. Errors come with HTTP 200; `retCode` alone tells (guide#error-codes). They are classed in `bybit_codes`.
2. "" means "no value": a flat position is a row of mostly "", and an unset stop is "", "0" or "0.00" (position).
3. An accepted order is not a filled one, and may still be rejected; a cancelled one may have fills: a market order is
   an IOC limit order at a protective price (order/create-order, enum#orderstatus).
4. A used `orderLinkId` is refused for ever, as far as is known: 110072 proves that the earlier request arrived.
5. order/realtime forgets ended orders when Bybit restarts; order/history lags behind: both are asked.
6. The execution list holds funding and settlement too; only trades, ADL and takeovers change a position
   (enum#exectype). It answers at most seven days from `startTime` on (order/execution).
7. Orders that Bybit makes itself have a blank `orderLinkId`; `createType` says what made them (enum#createtype).
8. Position mode is per symbol; a position list by symbol has a row with index 0 in one-way mode, rows 1 and 2 in
   hedge mode (position).
9. An attached stop is not allowed on a reduce-only order. `tpslMode=Full` is the one stop of the whole position: a
   later trading-stop call replaces it (order/create-order, position/trading-stop).
10. A stop on the wrong side and a missing position are both the parameter error 10001. The first is recognised by its
    text, the one place where a text decides; the second by asking what is held.
11. "Already so" is an error: 34040 (stop), 110043 (leverage).
12. Market data comes newest first (market/kline, market/recent-trade).
13. `totalEquity` values all coins, collateral or not, in USD. Positions here win and lose USDT, and a size in percent
    of a bag of other coins would surprise: the USDT row counts where there is one (account/wallet-balance).
14. In isolated margin mode the account-wide numbers are "": available is then what USDT has left.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from zlib import crc32

import msgspec

from app.domain.instrument import Instrument
from app.domain.money import ZERO, plain
from app.domain.order import PositionSide, Side
from app.domain.position import Fill
from app.domain.refusals import Outcome
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues import bybit_rows
from app.venues import bybit_wire as wire
from app.venues.base import (
    Candle,
    Equity,
    Holding,
    NewOrder,
    OrderReport,
    Origins,
    Permissions,
    Quote,
    Trade,
)
from app.venues.bybit_codes import CODES, PARAMETER_ERROR, Kind
from app.venues.bybit_http import BybitHttp, Clock, Lane, NoAnswer, NotSent, VenueSaid
from app.venues.bybit_wire import Envelope, Unreadable, instant, milliseconds, positive, required

T = TypeVar("T")

LANES = 4
INSTRUMENT_TTL_S = 3600.0
PAGES_MAX = 200
EXECUTION_WINDOW = timedelta(days=7)
RECENT_TRADES_MAX = 1000
CANDLES_MAX = 1000
MINUTE_MS = 60_000

SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
# "StopLoss:670000000 set for Buy position should lower than base_price:666666000"
WRONG_SIDE = re.compile(
    r"stop\s*loss.*should\b.*\b(lower|less|smaller|below|greater|higher|larger|above)\b", re.I | re.S
)


class BybitVenue:
    """One account. Orders and settings go through threads and connections of their own, reads through others."""

    def __init__(
        self, credentials: Credentials, origins: Origins, *, recv_window_ms: int = 5000, timeout_s: float = 10.0
    ) -> None:
        """Raises Refused when the credentials are of no use to Bybit."""
        clock = Clock()

        def connection() -> BybitHttp:
            return BybitHttp(credentials, origins.rest, recv_window_ms=recv_window_ms, timeout_s=timeout_s, clock=clock)

        # By symbol: the orders of a book keep their order, and one that hangs holds up a few books, not the account.
        self._writes = [Lane(connection(), f"orders-{number}") for number in range(LANES)]
        self._reads = [Lane(connection(), f"reads-{number}") for number in range(LANES)]
        self._turn = 0  # reads take the lanes by turns
        self._clock = clock
        self._instruments: dict[str, tuple[float, Instrument]] = {}

    async def server_time(self) -> datetime:
        with reading():
            return instant((await self._read(BybitHttp.get_server_time)).time)

    async def permissions(self) -> Permissions:
        with reading():
            try:
                envelope = await self._read(BybitHttp.get_api_key_information)
            except VenueSaid as said:
                if not _no_such_path(said):
                    raise
                detail = "Bybit's demo environment does not say what a key may do"
                return Permissions(can_trade=True, can_withdraw=False, ip_restricted=False, detail=detail)
            return bybit_rows.permissions(wire.KEY_INFO.decode(envelope.result))

    async def instrument(self, symbol: str) -> Instrument:
        cached = self._instruments.get(symbol)
        if cached is not None and time.monotonic() < cached[0]:
            return cached[1]
        unknown = Refused(Outcome.UNKNOWN_SYMBOL, f"Bybit lists no USDT perpetual {symbol}")
        with reading():
            try:
                envelope = await self._read(BybitHttp.get_instruments_info, category="linear", symbol=symbol)
            except VenueSaid as said:
                raise unknown if said.code == PARAMETER_ERROR else said from None
            rows = [row for row in wire.INSTRUMENTS.decode(envelope.result).list if row.symbol == symbol]
            if not rows or rows[0].contractType != "LinearPerpetual" or rows[0].settleCoin != "USDT":
                raise unknown
            found = bybit_rows.instrument(rows[0])
        self._instruments[symbol] = (time.monotonic() + INSTRUMENT_TTL_S, found)
        return found

    async def equity(self) -> Equity:
        with reading():
            envelope = await self._read(BybitHttp.get_wallet_balance, accountType="UNIFIED")
            rows = wire.WALLETS.decode(envelope.result).list
            if not rows:
                raise Unreadable("no unified account")
            return bybit_rows.equity(rows[0])

    async def holding(self, symbol: str) -> Holding:
        with reading():
            envelope = await self._read(BybitHttp.get_positions, category="linear", symbol=symbol)
            rows = [row for row in wire.POSITIONS.decode(envelope.result).list if row.symbol == symbol]
            if any(row.positionIdx != 0 for row in rows):  # quirk 8
                raise Refused(
                    Outcome.NOT_SUPPORTED_YET,
                    f"{symbol} is in hedge mode at Bybit: switch it to one-way mode there, the only one supported",
                )
            if not rows:
                raise Unreadable(f"no position row for {symbol}")
            return bybit_rows.holding(rows[0])

    async def holdings(self) -> list[Holding]:
        with reading():
            rows = await self._pages(
                BybitHttp.get_positions, wire.POSITIONS, category="linear", settleCoin="USDT", limit=200
            )
            return [found for row in rows if (found := bybit_rows.holding(row)).qty != ZERO]

    async def quote(self, symbol: str) -> Quote:
        with reading():
            envelope = await self._read(BybitHttp.get_tickers, category="linear", symbol=symbol)
            for row in wire.TICKERS.decode(envelope.result).list:
                return Quote(last=required(row.lastPrice, "lastPrice"), mark=required(row.markPrice, "markPrice"))
            raise Unreadable(f"no ticker for {symbol}")

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Raises Refused or Transient: setting it again is harmless, so an unknown outcome is told as "try again"."""
        text = plain(leverage)
        with changing():
            await self._write(
                BybitHttp.set_leverage, category="linear", symbol=symbol, buyLeverage=text, sellLeverage=text
            )

    async def place(self, order: NewOrder) -> str:
        assert not (order.reduce_only and order.stop_loss is not None)  # quirk 9
        params: dict[str, object] = {
            "category": "linear",
            "symbol": order.symbol,
            "side": SIDES[order.side],
            "orderType": "Market",
            "qty": plain(order.qty),
            "positionIdx": 0,
            "reduceOnly": order.reduce_only,
            "orderLinkId": order.client_order_id,
        }
        if order.stop_loss is not None:
            params |= {"stopLoss": plain(order.stop_loss), "tpslMode": "Full", "slTriggerBy": "LastPrice"}
        try:
            signed_ms = milliseconds(order.signed_at)
            envelope = await self._write(BybitHttp.place_order, signed_ms=signed_ms, **params)
            return wire.PLACED.decode(envelope.result).orderId
        except VenueSaid as said:
            if said.kind is Kind.REFUSED:
                self._instruments.pop(order.symbol, None)  # its rules may have changed
            raise _order_failure(said, order) from None
        except NotSent as exc:
            raise Transient(f"{exc}: the order was not sent") from None
        except NoAnswer as exc:
            raise OutcomeUnknown(str(exc)) from None
        except msgspec.MsgspecError:
            raise OutcomeUnknown("Bybit took the order and its answer could not be read") from None

    async def order(self, symbol: str, client_order_id: str) -> OrderReport | None:
        with reading():
            for method in (BybitHttp.get_open_orders, BybitHttp.get_order_history):  # quirk 5
                try:
                    envelope = await self._read(method, category="linear", symbol=symbol, orderLinkId=client_order_id)
                except VenueSaid as said:
                    if said.kind is Kind.GONE:
                        continue
                    raise
                for row in wire.ORDERS.decode(envelope.result).list:
                    if row.orderLinkId == client_order_id:
                        return bybit_rows.report(row, client_order_id)
        return None

    async def fills(
        self, symbol: str, *, client_order_id: str | None = None, since: datetime | None = None
    ) -> list[Fill]:
        rows: dict[str, wire.ExecutionRow] = {}
        with reading():
            for start, end in self._execution_windows(since if client_order_id is None else None):
                found = await self._pages(
                    BybitHttp.get_executions,
                    wire.EXECUTIONS,
                    category="linear",
                    symbol=symbol,
                    orderLinkId=client_order_id,
                    startTime=start,
                    endTime=end,
                    limit=100,
                )
                rows |= {row.execId: row for row in found if row.symbol == symbol}
            wanted = [
                row
                for row in rows.values()
                if row.execType in bybit_rows.POSITION_CHANGING and client_order_id in (None, row.orderLinkId)
            ]
            return sorted(
                (bybit_rows.fill(row) for row in wanted), key=lambda fill: (fill.filled_at, fill.venue_fill_id)
            )

    async def set_stop(self, symbol: str, side: PositionSide, price: Decimal | None) -> None:
        """Raises Refused, Conflict or Transient: setting it again is harmless, see `set_leverage`."""
        with changing():
            try:
                await self._write(
                    BybitHttp.set_trading_stop,
                    category="linear",
                    symbol=symbol,
                    positionIdx=0,
                    tpslMode="Full",
                    stopLoss="0" if price is None else plain(price),
                    slTriggerBy="LastPrice",
                )
            except VenueSaid as said:
                if said.kind is Kind.GONE:
                    raise _no_position(symbol, side) from None
                if said.code == PARAMETER_ERROR and not WRONG_SIDE.search(said.text):  # quirk 10
                    if (await self.holding(symbol)).side is not side:
                        raise _no_position(symbol, side) from None
                raise

    async def resting_stops(self, symbol: str) -> list[Decimal]:
        with reading():
            rows = await self._pages(
                BybitHttp.get_open_orders,
                wire.ORDERS,
                category="linear",
                symbol=symbol,
                orderFilter="StopOrder",
                limit=50,
            )
            triggers = (
                positive(row.triggerPrice) for row in rows if row.symbol == symbol and bybit_rows.closing_stop(row)
            )
            return sorted(trigger for trigger in triggers if trigger is not None)

    async def trades_since(self, symbol: str, since: datetime) -> list[Trade] | None:
        """From the millisecond of `since` on: a trade twice does no harm, one left out may."""
        since_ms = milliseconds(since)
        with reading():
            try:
                envelope = await self._read(
                    BybitHttp.get_public_trade_history, category="linear", symbol=symbol, limit=RECENT_TRADES_MAX
                )
            except VenueSaid as said:
                if said.kind in (Kind.REFUSED, Kind.FATAL):
                    return None
                raise
            rows = wire.RECENT_TRADES.decode(envelope.result).list
            found = (bybit_rows.trade(row) for row in reversed(rows) if row.symbol == symbol)  # quirk 12
            trades = [trade for trade in found if trade.price > 0]
        trades.sort(key=lambda trade: trade.at_ms)  # stable: equal times keep the exchange's order
        if len(rows) >= RECENT_TRADES_MAX and trades and trades[0].at_ms > since_ms:
            return None
        return [trade for trade in trades if trade.at_ms >= since_ms]

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        first = -(-milliseconds(since) // MINUTE_MS) * MINUTE_MS
        candles: dict[datetime, Candle] = {}
        with reading():
            for _ in range(PAGES_MAX):
                if first > self._clock.now_ms() + MINUTE_MS:  # one minute's doubt about whose clock is right
                    break
                last = first + (CANDLES_MAX - 1) * MINUTE_MS
                envelope = await self._read(
                    BybitHttp.get_kline,
                    category="linear",
                    symbol=symbol,
                    interval="1",
                    start=first,
                    end=last,
                    limit=CANDLES_MAX,
                )
                for row in wire.CANDLES.decode(envelope.result).list:
                    candle = bybit_rows.candle(row)
                    if candle.start >= since:
                        candles[candle.start] = candle
                first = last + MINUTE_MS
        return [candles[start] for start in sorted(candles)]

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in (*self._writes, *self._reads)))

    async def _write(
        self, method: Callable[..., Envelope], *, signed_ms: int | None = None, **params: object
    ) -> Envelope:
        return await self._writes[_lane(params)].write(method, signed_ms=signed_ms, **params)

    async def _read(self, method: Callable[..., Envelope], **params: object) -> Envelope:
        for lane in self._writes:
            lane.keep_warm()  # who reads may be about to trade
        self._turn += 1
        return await self._reads[self._turn % LANES].read(method, **params)

    async def _pages(
        self, method: Callable[..., Envelope], decoder: "msgspec.json.Decoder[wire.Page[T]]", **params: object
    ) -> list[T]:
        rows: list[T] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = decoder.decode((await self._read(method, cursor=cursor, **params)).result)
            rows += page.list
            if not page.list or not page.nextPageCursor or page.nextPageCursor == cursor:
                return rows
            cursor = page.nextPageCursor
        raise Unreadable(f"more than {PAGES_MAX} pages")

    def _execution_windows(self, since: datetime | None) -> Iterator[tuple[int | None, int | None]]:
        if since is None:
            yield None, None
            return
        now, start, width = self._clock.now_ms(), milliseconds(since), EXECUTION_WINDOW // timedelta(milliseconds=1)
        while True:
            yield start, start + width
            start += width
            if start > now:
                return


def _lane(params: dict[str, object]) -> int:
    return crc32(str(params.get("symbol", "")).encode()) % LANES


@contextmanager
def reading() -> Iterator[None]:
    """At the edge of a read: whatever went wrong becomes Refused or Transient, never an empty answer."""
    try:
        yield
    except (VenueSaid, NotSent, NoAnswer) as exc:
        raise _failure(exc) from None
    except (msgspec.MsgspecError, Unreadable) as exc:
        raise Transient(f"Bybit's answer could not be read: {exc}") from None


@contextmanager
def changing() -> Iterator[None]:
    """At the edge of a setting: "already so" is success (quirk 11), the rest is told like a read's failure."""
    try:
        yield
    except VenueSaid as said:
        if said.kind is not Kind.DONE:
            raise _failure(said) from None
    except (NotSent, NoAnswer) as exc:
        raise _failure(exc) from None


def _failure(exc: VenueSaid | NotSent | NoAnswer) -> Refused | Transient:
    """For requests that may be repeated without harm."""
    if isinstance(exc, VenueSaid):
        if exc.kind in (Kind.REFUSED, Kind.FATAL, Kind.GONE, Kind.DUPLICATE):
            return _refused(exc)
        return Transient(_sentence(exc), retry_after_s=exc.retry_after_s, venue_code=exc.venue_code)
    return Transient(str(exc))


def _order_failure(said: VenueSaid, order: NewOrder) -> LevelheadError:
    match said.kind:
        case Kind.RATE | Kind.CLOCK:
            return Transient(_sentence(said), retry_after_s=said.retry_after_s, venue_code=said.venue_code)
        case Kind.DUPLICATE:  # quirk 4
            return Conflict(f"order {order.client_order_id} had arrived before", kind="duplicate_order")
        case Kind.GONE if order.reduce_only:
            return Conflict(_sentence(said), kind="nothing_to_reduce")
        case Kind.REFUSED | Kind.FATAL:
            return _refused(said)
        case _:
            return OutcomeUnknown(_sentence(said))


def _refused(said: VenueSaid) -> Refused:
    known = CODES.get(said.code)
    outcome = Outcome.VENUE_REFUSED if known is None else known.outcome
    if said.code == PARAMETER_ERROR and WRONG_SIDE.search(said.text):  # quirk 10
        outcome = Outcome.STOP_WRONG_SIDE
    return Refused(outcome, _sentence(said), venue_code=said.venue_code)


def _sentence(said: VenueSaid) -> str:
    return f"Bybit: {said.text} ({said.venue_code})"


def _no_position(symbol: str, side: PositionSide) -> Conflict:
    return Conflict(f"Bybit holds no {side} position in {symbol}", kind="no_position")


def _no_such_path(said: VenueSaid) -> bool:
    return said.venue_code in ("10017", "HTTP 404")
