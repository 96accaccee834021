"""Orders to send, and rows as Bybit answers them, for tests to change."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.domain.order import Side
from app.venues.base import NewOrder

CREATE = "/v5/order/create"
REALTIME, HISTORY = "/v5/order/realtime", "/v5/order/history"
EXECUTIONS, POSITIONS = "/v5/execution/list", "/v5/position/list"
INSTRUMENTS, WALLET, TICKERS = "/v5/market/instruments-info", "/v5/account/wallet-balance", "/v5/market/tickers"
STOP, LEVERAGE, KEY_INFO = "/v5/position/trading-stop", "/v5/position/set-leverage", "/v5/user/query-api"
ACCOUNT = "/v5/account/info"
RECENT, KLINE = "/v5/market/recent-trade", "/v5/market/kline"

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AT_MS = 1772366400000


def an_entry() -> NewOrder:
    """Signed now."""
    return NewOrder(
        client_order_id="lh-entry",
        symbol="BTCUSDT",
        side=Side.BUY,
        qty=Decimal("0.0120"),
        reduce_only=False,
        signed_at=datetime.now(UTC),
        stop_loss=Decimal("61000.50"),
    )


def an_exit() -> NewOrder:
    return NewOrder(
        client_order_id="lh-exit",
        symbol="BTCUSDT",
        side=Side.SELL,
        qty=Decimal("0.012"),
        reduce_only=True,
        signed_at=datetime.now(UTC),
    )


def page(*rows: Any, cursor: str = "") -> dict[str, Any]:
    return {"list": list(rows), "nextPageCursor": cursor, "category": "linear"}


def position_row(**changes: Any) -> dict[str, Any]:
    flat = {
        "positionIdx": 0,
        "symbol": "BTCUSDT",
        "side": "",
        "size": "0",
        "avgPrice": "",
        "leverage": "",
        "stopLoss": "",
    }
    return flat | changes


def execution_row(exec_id: str, at_ms: int = AT_MS, **changes: Any) -> dict[str, Any]:
    row = {
        "execId": exec_id,
        "orderId": "o-1",
        "orderLinkId": "lh-entry",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "closedSize": "0",
        "execPrice": "64000.10",
        "execQty": "0.012",
        "execFee": "0.42",
        "feeCurrency": "USDT",
        "execType": "Trade",
        "execTime": str(at_ms),
        "createType": "CreateByUser",
        "stopOrderType": "UNKNOWN",
    }
    return row | changes


def order_row(**changes: Any) -> dict[str, Any]:
    row = {
        "orderId": "o-1",
        "orderLinkId": "lh-entry",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "positionIdx": 0,
        "orderStatus": "Filled",
        "avgPrice": "64000.1",
        "cumExecQty": "0.012",
        "cancelType": "UNKNOWN",
        "rejectReason": "EC_NoError",
        "stopOrderType": "",
        "triggerPrice": "",
    }
    return row | changes


def instrument_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "settleCoin": "USDT",
        "isPreListing": False,
        "deliveryTime": "0",
        "priceFilter": {"tickSize": "0.10"},
        "lotSizeFilter": {
            "qtyStep": "0.001",
            "minOrderQty": "0.001",
            "maxOrderQty": "1190",
            "maxMktOrderQty": "500",
            "minNotionalValue": "5",
        },
        "leverageFilter": {"maxLeverage": "100.00"},
    }
    return row | changes
