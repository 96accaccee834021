"""What Binance says of prices past and present; the quirks are numbered in `venue`."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from app.venues.base import Candle, Quote, Trade
from app.venues.binance import rows, wire
from app.venues.binance.failures import asking
from app.venues.binance.http import BinanceHttp
from app.venues.failures import VenueSaid
from app.venues.gate import Urgency
from app.venues.kinds import Kind
from app.venues.numbers import Unreadable, milliseconds, positive, required

TRADES_PAGE = 1000
TRADES_PAGES_MAX = 20  # each costs 20 of the 2400 a minute
HOUR_MS = 3_600_000
CANDLES_PAGE = 1000
CANDLES_PAGES_MAX = 200
MINUTE_MS = 60_000
LISTED_ONE_BY_ONE = 2

# A crossing that is not looked for is a stop that does not fire: prices may use what is kept for closes.
WATCHING: Final = Urgency.CLOSE


class Market:
    def __init__(self, http: BinanceHttp) -> None:
        self._http = http

    async def quote(self, symbol: str) -> Quote:
        with asking():
            mark, last, best = await asyncio.gather(
                self._mark(symbol),
                self._last(symbol),
                self._http.read(BinanceHttp.futures_orderbook_ticker, urgency=WATCHING, symbol=symbol),
            )
            book = wire.BOOK_PRICES.decode(best)
            return Quote(
                last=last,
                mark=mark,
                bid=positive(book.bidPrice),
                ask=positive(book.askPrice),
            )

    async def last_prices(self, symbols: Collection[str]) -> dict[str, Decimal]:
        """One or two by themselves; the list of all costs as much as two."""
        with asking():
            if len(symbols) <= LISTED_ONE_BY_ONE:
                return dict(zip(symbols, await asyncio.gather(*map(self._last, symbols)), strict=True))
            body = await self._http.read(BinanceHttp.futures_symbol_ticker, urgency=WATCHING)
            listed = wire.LISTED_PRICES.decode(body)
            return {row.symbol: required(row.price, "price") for row in listed if row.symbol in symbols}

    async def mark(self, symbol: str) -> Decimal:
        with asking():
            return await self._mark(symbol)

    async def trades_since(self, symbol: str, since: datetime, *, lead: timedelta = timedelta()) -> list[Trade] | None:
        """As `Venue.trades_since`. From the millisecond of `since` on: a trade twice does no harm, one left out may."""
        since_ms, now_ms = milliseconds(since - lead), self._http.clock.now_ms()
        if now_ms - since_ms > TRADES_PAGES_MAX * HOUR_MS:
            return None
        found: dict[int, Trade] = {}
        params: dict[str, Any] = {"startTime": since_ms, "endTime": since_ms + HOUR_MS - 1}  # quirk 9
        with asking():
            for _ in range(TRADES_PAGES_MAX):
                try:
                    body = await self._http.read(
                        BinanceHttp.futures_aggregate_trades,
                        urgency=WATCHING,
                        symbol=symbol,
                        limit=TRADES_PAGE,
                        **params,
                    )
                except VenueSaid as said:
                    if said.kind in (Kind.REFUSED, Kind.FATAL):
                        return None
                    raise
                page = wire.AGGREGATES.decode(body)
                for row in page:
                    trade = rows.trade(symbol, row)
                    if trade.price > 0 and trade.at_ms >= since_ms:
                        found[row.id] = trade
                if len(page) >= TRADES_PAGE:
                    params = {"fromId": max(row.id for row in page) + 1}
                elif "fromId" in params or params["endTime"] >= now_ms:
                    return [found[key] for key in sorted(found)]
                else:
                    start = params["endTime"] + 1
                    params = {"startTime": start, "endTime": start + HOUR_MS - 1}
        return None

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        """As `Venue.candles_since`."""
        first = -(-milliseconds(since) // MINUTE_MS) * MINUTE_MS
        candles: dict[datetime, Candle] = {}
        with asking():
            for _ in range(CANDLES_PAGES_MAX):
                # One minute's doubt about whose clock is right.
                left = (self._http.clock.now_ms() + MINUTE_MS - first) // MINUTE_MS + 1
                if left <= 0:
                    return [candles[start] for start in sorted(candles)]
                limit = min(left, CANDLES_PAGE)  # the fewer, the lower the weight
                last = first + (limit - 1) * MINUTE_MS
                body = await self._http.read(
                    BinanceHttp.futures_klines,
                    urgency=WATCHING,
                    symbol=symbol,
                    interval="1m",
                    startTime=first,
                    endTime=last,
                    limit=limit,
                )
                for row in wire.CANDLES.decode(body):
                    candle = rows.candle(row)
                    if candle.start >= since:
                        candles[candle.start] = candle
                first = last + MINUTE_MS
            raise Unreadable(f"more than {CANDLES_PAGES_MAX} pages")

    async def _last(self, symbol: str) -> Decimal:
        body = await self._http.read(BinanceHttp.futures_symbol_ticker, urgency=WATCHING, symbol=symbol)
        return required(wire.TICKER_PRICE.decode(body).price, "price")

    async def _mark(self, symbol: str) -> Decimal:
        body = await self._http.read(BinanceHttp.futures_mark_price, urgency=WATCHING, symbol=symbol)
        return required(wire.PREMIUM_INDEX.decode(body).markPrice, "markPrice")
