"""Orders to send, and rows as Binance answers them, for tests to change."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.domain.order import Side
from app.venues.base import NewOrder

ORDER, ALGO = "POST /fapi/v1/order", "POST /fapi/v1/algoOrder"
CANCEL_ALGO, ALGOS = "DELETE /fapi/v1/algoOrder", "GET /fapi/v1/openAlgoOrders"
ASK_ORDER, TRADES = "GET /fapi/v1/order", "GET /fapi/v1/userTrades"
POSITIONS, ACCOUNT = "GET /fapi/v3/positionRisk", "GET /fapi/v3/account"
ACCOUNT_CONFIG, SYMBOL_CONFIG = "GET /fapi/v1/accountConfig", "GET /fapi/v1/symbolConfig"
INFO, BRACKETS = "GET /fapi/v1/exchangeInfo", "GET /fapi/v1/leverageBracket"
MARK, PRICE = "GET /fapi/v1/premiumIndex", "GET /fapi/v2/ticker/price"
BEST = "GET /fapi/v1/ticker/bookTicker"
AGGREGATES, KLINES = "GET /fapi/v1/aggTrades", "GET /fapi/v1/klines"
LEVERAGE, MARGIN, TEST = "POST /fapi/v1/leverage", "POST /fapi/v1/marginType", "POST /fapi/v1/order/test"
NEW_KEY, KEEP_KEY = "POST /fapi/v1/listenKey", "PUT /fapi/v1/listenKey"
RESTRICTIONS = "GET /sapi/v1/account/apiRestrictions"

AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
AT_MS = int(AT.timestamp()) * 1000

ENTRY_ID = "lh" + "entry234" * 4
EXIT_ID = "lh" + "exitaabb" * 4


def an_entry(**changes: Any) -> NewOrder:
    """Signed now."""
    made: dict[str, Any] = {
        "client_order_id": ENTRY_ID,
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "qty": Decimal("0.0120"),
        "reduce_only": False,
        "signed_at": datetime.now(UTC),
    }
    return NewOrder(**(made | changes))


def an_exit(**changes: Any) -> NewOrder:
    return an_entry(**({"client_order_id": EXIT_ID, "side": Side.SELL, "reduce_only": True} | changes))


def order_row(**changes: Any) -> dict[str, Any]:
    row = {
        "orderId": 8389765739703625592,
        "symbol": "BTCUSDT",
        "status": "FILLED",
        "clientOrderId": ENTRY_ID,
        "price": "0.00",
        "avgPrice": "60000.10000",
        "origQty": "0.012",
        "executedQty": "0.012",
        "time": AT_MS,
        "updateTime": AT_MS,
        "somethingNew": [1],
    }
    return row | changes


def trade_row(**changes: Any) -> dict[str, Any]:
    row = {
        "id": 501,
        "orderId": 8389765739703625592,
        "symbol": "BTCUSDT",
        "side": "BUY",
        "positionSide": "BOTH",
        "price": "60000.10",
        "qty": "0.012",
        "commission": "0.36000060",
        "commissionAsset": "USDT",
        "realizedPnl": "0",
        "maker": False,
        "buyer": True,
        "time": AT_MS,
    }
    return row | changes


def position_row(**changes: Any) -> dict[str, Any]:
    row = {
        "symbol": "BTCUSDT",
        "positionSide": "BOTH",
        "positionAmt": "0.012",
        "entryPrice": "60000.1",
        "markPrice": "60010.00000000",
        "marginAsset": "USDT",
        "adl": 2,
        "updateTime": AT_MS,
    }
    return row | changes


def stop_row(**changes: Any) -> dict[str, Any]:
    row = {
        "algoId": 1000001270850001,
        "clientAlgoId": "stop-" + "a" * 26,
        "algoType": "CONDITIONAL",
        "orderType": "STOP_MARKET",
        "symbol": "BTCUSDT",
        "side": "SELL",
        "positionSide": "BOTH",
        "timeInForce": "GTE_GTC",
        "quantity": "0.000",
        "algoStatus": "NEW",
        "triggerPrice": "59000.00",
        "closePosition": True,
        "reduceOnly": True,
        "icebergQuantity": None,
    }
    return row | changes


def account_config(**changes: Any) -> dict[str, Any]:
    return {"feeTier": 0, "canTrade": True, "dualSidePosition": False, "multiAssetsMargin": False} | changes


def symbol_config(**changes: Any) -> list[dict[str, Any]]:
    return [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 21, "maxNotionalValue": "1000000"} | changes]


def symbol_row(**changes: Any) -> dict[str, Any]:
    row = {
        "symbol": "BTCUSDT",
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "556.80", "maxPrice": "4529764"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
            {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "120"},
            {"filterType": "MIN_NOTIONAL", "notional": "100"},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": "1.0500",
                "multiplierDown": "0.9500",
                "multiplierDecimal": "4",
            },
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ],
    }
    return row | changes


def info(*symbols: dict[str, Any]) -> dict[str, Any]:
    limits = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
    ]
    return {"serverTime": AT_MS, "rateLimits": limits, "symbols": list(symbols or (symbol_row(),))}


def brackets(symbol: str = "BTCUSDT", leverage: int = 125) -> dict[str, Any]:
    tiers = [{"bracket": 1, "initialLeverage": leverage}, {"bracket": 2, "initialLeverage": leverage // 2}]
    return {"symbol": symbol, "brackets": tiers}
