"""Rows of public data: symbols with their filters, premium index, book, prices, trades, bars."""

from decimal import Decimal
from typing import Any

from simulator.binance import names
from simulator.binance.limits import Limits
from simulator.instruments import Instrument
from simulator.market import Market
from simulator.model import Side
from simulator.numbers import decimals, text
from simulator.tape import MINUTE_MS, Bar, Print

Row = dict[str, Any]

BAND = Decimal("0.05")  # PERCENT_PRICE, around the mark
MAX_NUM_ORDERS = 200
FUNDING_INTERVAL_MS = 8 * 3600 * 1000
FUNDING_RATE = "0.00010000"
QUARTER, QUARTER_MS = "270326", 1_806_048_000_000
NEVER_MS = 4_133_404_800_000  # the delivery date of what is never delivered


def price_precision(i: Instrument) -> int:
    """Digits that the exchange accepts and prints; one finer than the tick, as for many of its symbols."""
    return decimals(i.tick_size) + 1


def qty_precision(i: Instrument) -> int:
    return decimals(i.qty_step)


def price_text(i: Instrument, price: Decimal | None) -> str:
    return f"{price or 0:.{price_precision(i)}f}"


def tick_text(i: Instrument, price: Decimal) -> str:
    """As prices of the market are printed: with the decimals of the tick."""
    return f"{price:.{price_precision(i)}f}"


def qty_text(i: Instrument, qty: Decimal) -> str:
    return f"{qty:.{qty_precision(i)}f}"


def symbol_row(i: Instrument) -> Row:
    symbol = names.symbol_here(i.symbol)
    lot = {"stepSize": text(i.qty_step), "minQty": text(i.min_qty)}
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": NEVER_MS,
        "onboardDate": 1569398400000,
        "status": names.STATUSES.get(i.status, i.status),
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": symbol.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": price_precision(i),
        "quantityPrecision": qty_precision(i),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012000",
        "marketTakeBound": "0.05",
        "filters": [
            {
                "minPrice": text(i.min_price),
                "maxPrice": text(i.highest_price),
                "filterType": "PRICE_FILTER",
                "tickSize": price_text(i, i.tick_size),
            },
            {"filterType": "LOT_SIZE", "maxQty": text(i.max_qty), **lot},
            {"filterType": "MARKET_LOT_SIZE", "maxQty": text(i.max_market_qty), **lot},
            {"limit": MAX_NUM_ORDERS, "filterType": "MAX_NUM_ORDERS"},
            {"notional": text(i.min_notional), "filterType": "MIN_NOTIONAL"},
            {
                "multiplierDown": f"{1 - BAND:.4f}",
                "multiplierUp": f"{1 + BAND:.4f}",
                "multiplierDecimal": "4",
                "filterType": "PERCENT_PRICE",
            },
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "maxMoveOrderLimit": 10000,
        "permissionSets": ["GRID", "COPY"],
    }


def quarterly_row(i: Instrument) -> Row:
    """A contract with an end: who takes the list for perpetual ones trips over it."""
    row = symbol_row(i)
    row |= {"symbol": f"{row['symbol']}_{QUARTER}", "contractType": "CURRENT_QUARTER", "deliveryDate": QUARTER_MS}
    return row


def rate_limit_rows(limits: Limits) -> list[Row]:
    return [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limits.weight_1m},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": limits.orders_1m},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": limits.orders_10s},
    ]


def next_funding_ms(now_ms: int) -> int:
    return (now_ms // FUNDING_INTERVAL_MS + 1) * FUNDING_INTERVAL_MS


def premium_row(market: Market, now_ms: int) -> Row:
    mark = f"{market.mark:.8f}"
    return {
        "symbol": names.symbol_here(market.instrument.symbol),
        "markPrice": mark,
        "indexPrice": mark,
        "estimatedSettlePrice": mark,
        "lastFundingRate": FUNDING_RATE,
        "interestRate": "0.00010000",
        "nextFundingTime": next_funding_ms(now_ms),
        "time": now_ms,
    }


def best(market: Market) -> tuple[str, str, str, str]:
    """Bid, its quantity, ask, its quantity: one tick around the last price if not held by hand, without end."""
    i = market.instrument
    depth = qty_text(i, i.min_qty * 1000)
    return tick_text(i, market.bid), depth, tick_text(i, market.ask), depth


def book_ticker_row(market: Market, now_ms: int) -> Row:
    bid, bid_qty, ask, ask_qty = best(market)
    return {
        "symbol": names.symbol_here(market.instrument.symbol),
        "bidPrice": bid,
        "bidQty": bid_qty,
        "askPrice": ask,
        "askQty": ask_qty,
        "time": now_ms,
    }


def price_row(market: Market, now_ms: int) -> Row:
    return {
        "symbol": names.symbol_here(market.instrument.symbol),
        "price": tick_text(market.instrument, market.last),
        "time": now_ms,
    }


def bar_row(i: Instrument, bar: Bar, minutes: int) -> list[Any]:
    half = bar.volume / 2
    return [
        bar.start_ms,
        tick_text(i, bar.open),
        tick_text(i, bar.high),
        tick_text(i, bar.low),
        tick_text(i, bar.close),
        text(bar.volume),
        bar.start_ms + minutes * MINUTE_MS - 1,
        f"{bar.turnover:.5f}",
        1,
        text(half),
        f"{bar.turnover / 2:.5f}",
        "0",
    ]


def agg_trade_row(i: Instrument, printed: Print) -> Row:
    """Each print is an aggregate of one."""
    trade = printed.trade
    return {
        "a": printed.seq,
        "p": tick_text(i, trade.price),
        "q": text(trade.qty),
        "nq": text(trade.qty),
        "f": printed.seq,
        "l": printed.seq,
        "T": printed.at_ms,
        "m": trade.side is Side.SELL,
    }


def trade_row(i: Instrument, printed: Print) -> Row:
    trade = printed.trade
    return {
        "id": printed.seq,
        "price": tick_text(i, trade.price),
        "qty": text(trade.qty),
        "quoteQty": f"{trade.price * trade.qty:.2f}",
        "time": printed.at_ms,
        "isBuyerMaker": trade.side is Side.SELL,
        "isRPITrade": False,
    }
