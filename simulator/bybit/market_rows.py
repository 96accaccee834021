"""The wire rows of Bybit V5 for the market: https://bybit-exchange.github.io/docs/v5/market/instrument and /tickers."""

from decimal import Decimal

from simulator.bybit.rows import Row
from simulator.instruments import Instrument
from simulator.market import Market
from simulator.numbers import decimals, text
from simulator.tape import Tape


def instrument_row(i: Instrument, number: int) -> Row:
    return {
        "symbol": i.symbol,
        "symbolId": number,
        "contractType": "LinearPerpetual",
        "status": i.status,
        "baseCoin": i.base_coin,
        "quoteCoin": "USDT",
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(decimals(i.tick_size)),
        "leverageFilter": {
            "minLeverage": text(i.min_leverage),
            "maxLeverage": format(i.max_leverage.quantize(Decimal("0.01")), "f"),
            "leverageStep": text(i.leverage_step),
        },
        "priceFilter": {
            "minPrice": text(i.min_price),
            "maxPrice": text(i.highest_price),
            "tickSize": text(i.tick_size),
        },
        "lotSizeFilter": {
            "maxOrderQty": text(i.max_qty),
            "minOrderQty": text(i.min_qty),
            "qtyStep": text(i.qty_step),
            "postOnlyMaxOrderQty": text(i.max_qty),
            "maxMktOrderQty": text(i.max_market_qty),
            "minNotionalValue": text(i.min_notional),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": "USDT",
        "copyTrading": "both",
        "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "",
    }


FUNDING_INTERVAL_MS = 8 * 3600 * 1000


def ticker_row(tape: Tape, market: Market, now_ms: int) -> Row:
    """The fields that REST and socket share."""
    i, last, mark = market.instrument, market.last, market.mark
    places = decimals(i.tick_size)
    change = (last - tape.first) / tape.first

    def price(value: Decimal) -> str:
        return f"{value:.{places}f}"

    return {
        "symbol": i.symbol,
        "lastPrice": price(last),
        "indexPrice": price(mark),
        "markPrice": price(mark),
        "prevPrice24h": price(tape.first),
        "price24hPcnt": f"{change:.6f}",
        "highPrice24h": price(tape.high),
        "lowPrice24h": price(tape.low),
        "prevPrice1h": price(tape.first),
        "openInterest": "50000",
        "openInterestValue": f"{50_000 * last:.2f}",
        "turnover24h": f"{tape.turnover:.4f}",
        "volume24h": f"{tape.volume:.4f}",
        "fundingRate": "0.0001",
        "nextFundingTime": str((now_ms // FUNDING_INTERVAL_MS + 1) * FUNDING_INTERVAL_MS),
        "fundingIntervalHour": "8",
        "fundingCap": "0.005",
        "bid1Price": price(market.bid),
        "bid1Size": text(i.min_qty * 1000),
        "ask1Price": price(market.ask),
        "ask1Size": text(i.min_qty * 1000),
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
    }


REST_TICKER_EXTRAS = {
    "predictedDeliveryPrice": "",
    "basisRate": "",
    "deliveryFeeRate": "",
    "deliveryTime": "0",
    "basis": "",
    "basisRateYear": "",
}
