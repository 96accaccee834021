"""Public REST endpoints. https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api"""

from collections.abc import Callable
from typing import Any

from simulator.binance import market_rows as rows
from simulator.binance import names
from simulator.binance.context import Context
from simulator.binance.endpoint import Endpoint, no_access
from simulator.binance.errors import error
from simulator.binance.params import Params
from simulator.market import Market
from simulator.tape import MINUTE_MS, Print

BOOK_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))  # levels asked for -> weight
DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
DATED = ("BTCUSDT",)  # listed with a contract of the quarter beside, which is not traded here
HOUR_MS = 60 * MINUTE_MS


def ping(context: Context, params: Params) -> Any:
    return {}


def time_(context: Context, params: Params) -> Any:
    return {"serverTime": context.now_ms()}


def exchange_info(context: Context, params: Params) -> Any:
    return {
        "timezone": "UTC",
        "serverTime": context.now_ms(),
        "futuresType": "U_MARGINED",
        "rateLimits": rows.rate_limit_rows(context.limits),
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [
            *(rows.symbol_row(m.instrument) for m in context.engine.markets.values()),
            *(
                rows.quarterly_row(m.instrument)
                for m in context.engine.markets.values()
                if m.instrument.symbol in DATED
            ),
        ],
    }


def _one_or_all(row: Callable[[Market, int], Any]) -> Callable[[Context, Params], Any]:
    def answer(context: Context, params: Params) -> Any:
        now_ms = context.now_ms()
        if params.maybe("symbol") is not None:
            return row(context.market(params), now_ms)
        return [row(market, now_ms) for market in context.engine.markets.values()]

    return answer


def klines(context: Context, params: Params) -> Any:
    market = context.market(params)
    minutes = names.INTERVALS.get(params.text("interval"))
    if minutes is None:
        raise error(-1120)
    start, end = params.span()
    limit = params.limit(500, 1500)
    tape = context.exchange.tapes[market.instrument.symbol]
    bars = [b for b in tape.bars_of(minutes) if (start or 0) <= b.start_ms <= (end or b.start_ms)]
    bars = bars[:limit] if start is not None else bars[-limit:]
    return [rows.bar_row(market.instrument, bar, minutes) for bar in bars]


def agg_trades(context: Context, params: Params) -> Any:
    """Oldest first: from `fromId`, or from `startTime`, or the newest."""
    market = context.market(params)
    start, end = params.span()
    first = params.maybe_integer("fromId")
    if first is not None and (start is not None or end is not None):
        raise error(-1128)
    limit = params.limit(500, 1000)
    if start is not None and end is not None and end - start > HOUR_MS:
        raise error(-1127)
    prints = list(context.exchange.tapes[market.instrument.symbol].prints)
    prints = [p for p in prints if _in_span(p, start, end) and (first is None or p.seq >= first)]
    newest = first is None and start is None
    page = prints[-limit:] if newest else prints[:limit]
    return [rows.agg_trade_row(market.instrument, p) for p in page]


def _in_span(printed: Print, start: int | None, end: int | None) -> bool:
    return (start is None or printed.at_ms >= start) and (end is None or printed.at_ms <= end)


def trades(context: Context, params: Params) -> Any:
    market = context.market(params)
    prints = list(context.exchange.tapes[market.instrument.symbol].prints)[-params.limit(500, 1000) :]
    return [rows.trade_row(market.instrument, p) for p in prints]


def depth(context: Context, params: Params) -> Any:
    market = context.market(params)
    limit = params.maybe_integer("limit")
    if limit is not None and limit not in DEPTHS:
        raise error(-1130, "limit")
    bid, bid_qty, ask, ask_qty = rows.best(market)
    now_ms = context.now_ms()
    tape = context.exchange.tapes[market.instrument.symbol]
    return {"lastUpdateId": tape.seq, "E": now_ms, "T": now_ms, "bids": [[bid, bid_qty]], "asks": [[ask, ask_qty]]}


def _klines_weight(given: dict[str, str]) -> int:
    limit = int(given.get("limit", "500")) if given.get("limit", "500").isdecimal() else 500
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def _depth_weight(given: dict[str, str]) -> int:
    limit = given.get("limit", "500")
    asked = int(limit) if limit.isdecimal() else 500
    return next((weight for most, weight in BOOK_WEIGHTS if asked <= most), 20)


def by_symbol(one: int, all_: int) -> Callable[[dict[str, str]], int]:
    return lambda given: one if given.get("symbol") else all_


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/api/v3/ping"): no_access(ping, "", 1),
    ("GET", "/api/v3/time"): no_access(time_, "", 1),
    ("GET", "/fapi/v1/ping"): no_access(ping, "", 1),
    ("GET", "/fapi/v1/time"): no_access(time_, "", 1),
    ("GET", "/fapi/v1/exchangeInfo"): no_access(exchange_info, "", 1),
    ("GET", "/fapi/v1/premiumIndex"): no_access(_one_or_all(rows.premium_row), "symbol", by_symbol(1, 10)),
    ("GET", "/fapi/v1/ticker/bookTicker"): no_access(_one_or_all(rows.book_ticker_row), "symbol", by_symbol(2, 5)),
    ("GET", "/fapi/v1/ticker/price"): no_access(_one_or_all(rows.price_row), "symbol", by_symbol(1, 2)),
    ("GET", "/fapi/v2/ticker/price"): no_access(_one_or_all(rows.price_row), "symbol", by_symbol(1, 2)),
    ("GET", "/fapi/v1/klines"): no_access(klines, "symbol interval startTime endTime limit", _klines_weight),
    ("GET", "/fapi/v1/aggTrades"): no_access(agg_trades, "symbol fromId startTime endTime limit", 20),
    ("GET", "/fapi/v1/trades"): no_access(trades, "symbol limit", 5),
    ("GET", "/fapi/v1/depth"): no_access(depth, "symbol limit", _depth_weight),
}
