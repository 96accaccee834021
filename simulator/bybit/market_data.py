"""Public REST endpoints: /v5/market/*. https://bybit-exchange.github.io/docs/v5/market/time and its neighbours."""

from collections.abc import Callable
from urllib.parse import quote

from simulator.bybit import requests
from simulator.bybit.errors import params
from simulator.bybit.market_rows import REST_TICKER_EXTRAS, instrument_row, ticker_row
from simulator.bybit.rows import Row
from simulator.exchange import Exchange
from simulator.numbers import text
from simulator.tape import Print

# interval on the wire -> minutes; a month is folded as 30 days here
INTERVALS = {"D": 1440, "W": 10_080, "M": 43_200} | {
    str(minutes): minutes for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)
}

Query = dict[str, str]


def time_(exchange: Exchange, query: Query) -> Row:
    now_ms = exchange.now_ms()
    return {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}


def instruments_info(exchange: Exchange, query: Query) -> Row:
    requests.check_category(query.get("category"))
    markets = exchange.engine.markets
    limit = _limit(query, 500, 1000)
    if symbol := query.get("symbol"):
        wanted = [exchange.engine.market(symbol).instrument]
    else:
        status = query.get("status", "Trading")
        wanted = sorted((m.instrument for m in markets.values() if m.instrument.status == status), key=_symbol)
    if base := query.get("baseCoin"):
        wanted = [i for i in wanted if i.base_coin == base]
    if cursor := query.get("cursor"):
        last = dict(part.split("=", 1) for part in cursor.split("&") if "=" in part).get("last", "")
        wanted = [i for i in wanted if i.symbol > last]
    page = wanted[:limit]
    more = len(wanted) > limit
    numbers = {name: n for n, name in enumerate(markets, 1)}
    return {
        "category": "linear",
        "list": [instrument_row(i, numbers[i.symbol]) for i in page],
        "nextPageCursor": quote(f"first={page[0].symbol}&last={page[-1].symbol}", safe="") if more else "",
    }


def _symbol(instrument: object) -> str:
    return str(getattr(instrument, "symbol", ""))


def tickers(exchange: Exchange, query: Query) -> Row:
    requests.check_category(query.get("category"))
    markets = exchange.engine.markets
    symbols = [query["symbol"]] if query.get("symbol") else list(markets)
    rows = []
    for symbol in symbols:
        market = exchange.engine.market(symbol)
        row = ticker_row(exchange.tapes[symbol], market, exchange.now_ms())
        rows.append(row | REST_TICKER_EXTRAS)
    return {"category": "linear", "list": rows}


def kline(exchange: Exchange, query: Query) -> Row:
    symbol = _known(exchange, query)
    minutes = INTERVALS.get(query.get("interval", ""))
    if minutes is None:
        raise params("interval invalid")
    start = requests.integer(query.get("start"), "start") or 0
    end = requests.integer(query.get("end"), "end") or exchange.now_ms()
    bars = [b for b in exchange.tapes[symbol].bars_of(minutes) if start <= b.start_ms <= end]
    newest_first = bars[::-1][: _limit(query, 200, 1000)]
    rows = [
        [str(b.start_ms), *(text(v) for v in (b.open, b.high, b.low, b.close, b.volume, b.turnover))]
        for b in newest_first
    ]
    return {"symbol": symbol, "category": "linear", "list": rows}


def recent_trade(exchange: Exchange, query: Query) -> Row:
    symbol = _known(exchange, query)
    prints = list(exchange.tapes[symbol].prints)[::-1][: _limit(query, 500, 1000)]
    return {"category": "linear", "list": [_trade_row(symbol, p) for p in prints]}


def _trade_row(symbol: str, printed: Print) -> Row:
    return {
        "execId": printed.trade.trade_id,
        "symbol": symbol,
        "price": text(printed.trade.price),
        "size": text(printed.trade.qty),
        "side": printed.trade.side.value,
        "time": str(printed.at_ms),
        "isBlockTrade": False,
        "isRPITrade": False,
        "seq": str(printed.seq),
    }


def orderbook(exchange: Exchange, query: Query) -> Row:
    symbol = _known(exchange, query)
    now_ms = exchange.now_ms()
    return book(exchange, symbol) | {"ts": now_ms, "cts": now_ms}


def book(exchange: Exchange, symbol: str) -> Row:
    """One level each side; `u` counts the prints."""
    market, tape = exchange.engine.market(symbol), exchange.tapes[symbol]
    size = text(market.instrument.min_qty * 1000)
    return {
        "s": symbol,
        "b": [[text(market.bid), size]],
        "a": [[text(market.ask), size]],
        "u": tape.seq + 1,
        "seq": tape.seq + 1,
    }


def _known(exchange: Exchange, query: Query) -> str:
    requests.check_category(query.get("category", "linear"))
    symbol = query.get("symbol", "")
    exchange.engine.market(symbol)
    return symbol


def _limit(query: Query, usual: int, most: int) -> int:
    limit = requests.integer(query.get("limit"), "limit") or usual
    if limit > most:
        raise params("limit invalid")
    return limit


ENDPOINTS: dict[str, Callable[[Exchange, Query], Row]] = {
    "/v5/market/time": time_,
    "/v5/market/instruments-info": instruments_info,
    "/v5/market/tickers": tickers,
    "/v5/market/kline": kline,
    "/v5/market/recent-trade": recent_trade,
    "/v5/market/orderbook": orderbook,
}
