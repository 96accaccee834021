"""Bybit's public side: the clock, instruments, prices and the market's memory. Quirks are numbered in `venue`."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

from app.domain.instrument import Instrument
from app.venues.base import Candle, Quote, Trade
from app.venues.bybit import rows as bybit_rows
from app.venues.bybit import wire
from app.venues.bybit.calls import PAGES_MAX, Calls, asking
from app.venues.bybit.http import BybitHttp
from app.venues.bybit.instruments import Instruments
from app.venues.failures import VenueSaid
from app.venues.kinds import Kind
from app.venues.numbers import Unreadable, instant, milliseconds, positive, required

RECENT_TRADES_MAX = 1000
LISTED_ONE_BY_ONE = 5  # tickers; the list of all has half a megabyte
CANDLES_MAX = 1000
MINUTE_MS = 60_000


class BybitMarket:
    """What needs no key. For the documentation of the methods see `Venue`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._instruments = Instruments(calls)

    @property
    def clock_offset_ms(self) -> int:
        return self._calls.clock.offset_ms

    async def server_time(self) -> datetime:
        with asking():
            return instant((await self._calls.read(BybitHttp.compare_clocks)).time)

    async def instrument(self, symbol: str) -> Instrument:
        return await self._instruments.get(symbol)

    async def quote(self, symbol: str) -> Quote:
        with asking():
            envelope = await self._calls.read(BybitHttp.get_tickers, category="linear", symbol=symbol)
            for row in wire.TICKERS.decode(envelope.result).list:
                if row.symbol == symbol:
                    return Quote(
                        last=required(row.lastPrice, "lastPrice"),
                        mark=required(row.markPrice, "markPrice"),
                        bid=positive(row.bid1Price),
                        ask=positive(row.ask1Price),
                    )
            raise Unreadable(f"no ticker for {symbol}")

    async def last_prices(self, symbols: Collection[str]) -> dict[str, Decimal]:
        """A few one by one; of many the whole list, which is long."""
        with asking():
            if len(symbols) <= LISTED_ONE_BY_ONE:
                asked = [self._calls.read(BybitHttp.get_tickers, category="linear", symbol=one) for one in symbols]
            else:
                asked = [self._calls.read(BybitHttp.get_tickers, category="linear")]
            rows = [
                row for envelope in await asyncio.gather(*asked) for row in wire.TICKERS.decode(envelope.result).list
            ]
            prices = {row.symbol: positive(row.lastPrice) for row in rows if row.symbol in symbols}
            return {symbol: price for symbol, price in prices.items() if price is not None}

    async def trades_since(self, symbol: str, since: datetime, *, lead: timedelta = timedelta()) -> list[Trade] | None:
        """From the millisecond of `since` on: a trade twice does no harm, one left out may."""
        since_ms = milliseconds(since)
        with asking():
            try:
                envelope = await self._calls.read(
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
        first_ms = milliseconds(since - lead)
        return [trade for trade in trades if trade.at_ms >= first_ms]

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        first = -(-milliseconds(since) // MINUTE_MS) * MINUTE_MS
        candles: dict[datetime, Candle] = {}
        with asking():
            for _ in range(PAGES_MAX):
                if first > self._calls.clock.now_ms() + MINUTE_MS:  # one minute's doubt about whose clock is right
                    break
                last = first + (CANDLES_MAX - 1) * MINUTE_MS
                envelope = await self._calls.read(
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
