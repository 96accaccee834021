"""Executions of an account at Binance, with the client order ids that its list leaves out.

Quirks; https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api/, read in May 2026:
1. A list without times holds the last seven days; with times at most seven days, and at most 1000 rows, oldest first;
   `fromId` goes with neither time (Account-Trade-List).
2. Rows name the order by the exchange's id only: each order is asked for its client id once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec

from app.domain.money import ZERO
from app.domain.position import Fill, FillOrigin
from app.venues.binance import rows, wire
from app.venues.binance.codes import NO_SUCH_ORDER
from app.venues.binance.http import BinanceHttp
from app.venues.failures import NoAnswer, VenueSaid
from app.venues.gate import Urgency
from app.venues.numbers import Unreadable, milliseconds, number, required

PAGE = 1000
PAGES_MAX = 200
WINDOW_MS = timedelta(days=7) // timedelta(milliseconds=1)
KNOWN_MAX = 10_000
AT_ONCE = 8
LAG_S = 60.0  # for so long nothing that is missing from a list is proven not to be


class Fills:
    def __init__(self, http: BinanceHttp) -> None:
        self._http = http
        self._ids: OrderedDict[tuple[str, int], str] = OrderedDict()  # symbol, order id -> client order id
        self._at_once = asyncio.Semaphore(AT_ONCE)

    def learn(self, symbol: str, order_id: int, client_order_id: str) -> None:
        self._ids[symbol, order_id] = client_order_id
        self._ids.move_to_end((symbol, order_id))
        if len(self._ids) > KNOWN_MAX:
            self._ids.popitem(last=False)

    async def order(self, symbol: str, **key: str) -> wire.OrderRow | None:
        """By `origClientOrderId` or `orderId`. Raises as a request does, or what decoding does."""
        try:
            body = await self._http.read(BinanceHttp.futures_get_order, urgency=Urgency.CLOSE, symbol=symbol, **key)
        except VenueSaid as said:
            if said.code == NO_SUCH_ORDER:
                return None
            raise
        row = wire.ORDER.decode(body)
        if key.get("origClientOrderId", row.clientOrderId) != row.clientOrderId:
            raise Unreadable("another order than the one that was asked for")
        self.learn(symbol, row.orderId, row.clientOrderId)
        return row

    async def of_order(self, symbol: str, client_order_id: str, since: datetime | None) -> list[Fill]:
        row = await self.order(symbol, origClientOrderId=client_order_id)
        if row is not None:
            found = await self._of_row(row)
        elif since is not None:
            found = await self._since(symbol, since)
        else:
            return []
        # Whoever asks by an id calls it theirs.
        return [
            fill if fill.origin is not FillOrigin.EXTERNAL else _owned(fill)
            for fill in await self._named(symbol, found)
            if fill.client_order_id == client_order_id
        ]

    async def since(self, symbol: str, since: datetime | None) -> list[Fill]:
        if since is None:
            found = [row async for row in self._pages(symbol)]
        else:
            found = await self._since(symbol, since)
        return await self._named(symbol, found)

    async def _of_row(self, order: wire.OrderRow) -> list[wire.TradeRow]:
        """An order's executions. Asked for by its id; older than the list reaches without times, by its own times."""
        times: dict[str, int] = {}
        if order.time is not None and self._http.clock.now_ms() - order.time > WINDOW_MS - 60_000:
            times = {"startTime": order.time, "endTime": order.time + WINDOW_MS - 1}
        found = {row.id: row async for row in self._pages(order.symbol, orderId=order.orderId, **times)}
        mine = [row for row in found.values() if row.orderId == order.orderId]
        listed = sum((required(row.qty, "qty") for row in mine), ZERO)
        if listed < (number(order.executedQty) or ZERO) and self._is_new(order.updateTime or 0):
            raise NoAnswer("Binance does not list all executions of the order yet")
        return mine

    async def _since(self, symbol: str, since: datetime) -> list[wire.TradeRow]:
        found: dict[int, wire.TradeRow] = {}
        start, now = milliseconds(since), self._http.clock.now_ms()
        while start <= now:
            rows_before = len(found)
            async for row in self._pages(symbol, startTime=start, endTime=start + WINDOW_MS - 1):
                found[row.id] = row
            if len(found) - rows_before >= PAGE:
                break  # its further pages went on to the present
            start += WINDOW_MS
        return list(found.values())

    async def _pages(self, symbol: str, **params: int) -> AsyncIterator[wire.TradeRow]:
        """The rows that are asked for; where they fill a page, all later rows of the symbol as well (quirk 1)."""
        for _ in range(PAGES_MAX):
            body = await self._http.read(
                BinanceHttp.futures_account_trades, urgency=Urgency.OPEN, symbol=symbol, limit=PAGE, **params
            )
            page = wire.TRADES.decode(body)
            for row in page:
                if row.symbol == symbol:
                    yield row
            if len(page) < PAGE:
                return
            params = {"fromId": max(row.id for row in page) + 1}
        raise Unreadable(f"more than {PAGES_MAX} pages")

    async def _named(self, symbol: str, found: list[wire.TradeRow]) -> list[Fill]:
        newest: dict[int, int] = {}  # order id -> ms of its last execution
        for row in found:
            newest[row.orderId] = max(row.time, newest.get(row.orderId, 0))
        ids = dict(
            zip(newest, await asyncio.gather(*(self._client_id(symbol, *of) for of in newest.items())), strict=True)
        )
        fills = [rows.fill(row, ids[row.orderId], rows.origin(ids[row.orderId])) for row in found]
        return sorted(fills, key=lambda fill: (fill.filled_at, int(fill.venue_fill_id)))

    async def _client_id(self, symbol: str, order_id: int, filled_ms: int) -> str | None:
        known = self._ids.get((symbol, order_id))
        if known is not None:
            return known
        async with self._at_once:
            row = await self.order(symbol, orderId=str(order_id))
        if row is not None:
            return row.clientOrderId
        if self._is_new(filled_ms):
            raise NoAnswer("Binance does not show an order yet of which it shows an execution")
        return None

    def _is_new(self, at_ms: int) -> bool:
        return self._http.clock.now_ms() - at_ms < LAG_S * 1000


def _owned(fill: Fill) -> Fill:
    return msgspec.structs.replace(fill, origin=FillOrigin.ORDER)
