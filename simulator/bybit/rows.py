"""The wire rows of Bybit V5 for orders and executions. Numbers are strings, "" is "no value".

Fields: https://bybit-exchange.github.io/docs/v5/order/open-order, /order/execution, /position/close-pnl, and
/websocket/private/order and /execution for what only the sockets carry.
"""

from decimal import Decimal
from typing import Any

from simulator.model import (
    CreatedBy,
    EndReason,
    ExecType,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    PositionSide,
    StopKind,
)
from simulator.numbers import text, text8

Row = dict[str, Any]

POSITION_IDX = {PositionSide.BOTH: 0, PositionSide.LONG: 1, PositionSide.SHORT: 2}

_CREATE_TYPES = {
    CreatedBy.USER: "CreateByUser",
    CreatedBy.HAND: "CreateByClosing",
    CreatedBy.STOP_LOSS: "CreateByStopLoss",
    CreatedBy.TAKE_PROFIT: "CreateByTakeProfit",
    CreatedBy.TRAILING: "CreateByTrailingStop",
    CreatedBy.LIQUIDATION: "CreateByLiq",
    CreatedBy.ADL: "CreateByAdl_PassThrough",
    CreatedBy.FUNDING: "",
}
# end reason -> (cancelType, rejectReason), https://bybit-exchange.github.io/docs/v5/enum
_END_TYPES = {
    EndReason.NONE: ("UNKNOWN", "EC_NoError"),
    EndReason.BY_USER: ("CancelByUser", "EC_PerCancelRequest"),
    EndReason.REDUCE_ONLY: ("CancelByReduceOnly", "EC_NoError"),
    EndReason.POSITION_CLOSED: ("CancelByTpSlTsClear", "EC_NoError"),
    EndReason.NO_LIQUIDITY: ("UNKNOWN", "EC_NoImmediateQtyToFill"),
    EndReason.NO_FULL_FILL: ("UNKNOWN", "EC_CancelForNoFullFill"),
    EndReason.POST_ONLY_TAKES: ("UNKNOWN", "EC_PostOnlyWillTakeLiquidity"),
    EndReason.REJECTED: ("UNKNOWN", "EC_ReachRiskPriceLimit"),
    EndReason.NO_MARGIN: ("UNKNOWN", "EC_Others"),
    EndReason.REFUSED_AT_TRIGGER: ("UNKNOWN", "EC_Others"),
    EndReason.LIQUIDATION: ("CancelAllBeforeLiq", "EC_NoError"),
    EndReason.ADL: ("CancelByPrepareAdl", "EC_NoError"),
}

_CLOSED_BY = {CreatedBy.LIQUIDATION: ExecType.LIQUIDATION, CreatedBy.ADL: ExecType.ADL}


def _price(value: Decimal | None, none: str = "") -> str:
    return none if value is None else text(value)


def order_row(order: Order) -> Row:
    """Rows of /v5/order/realtime and /v5/order/history."""
    cancel_type, reject_reason = _END_TYPES[order.end_reason]
    conditional = order.stop_kind is not StopKind.NONE
    waiting_market = order.type is OrderType.MARKET and order.status in (
        OrderStatus.UNTRIGGERED,
        OrderStatus.DEACTIVATED,
    )
    leaves = order.leaves_qty
    return {
        "symbol": order.symbol,
        "orderType": order.type.value,
        "orderLinkId": order.client_order_id,
        "parentOrderLinkId": order.parent_client_order_id,
        "slLimitPrice": "0",
        "orderId": order.order_id,
        "cancelType": cancel_type,
        "avgPrice": text8(order.filled_value / order.filled_qty) if order.filled_qty else "",
        "stopOrderType": order.stop_kind.value,
        "lastPriceOnCreated": text(order.last_price_on_created),
        "orderStatus": order.status.value,
        "createType": _CREATE_TYPES[order.created_by],
        "takeProfit": _price(order.take_profit),
        "cumExecValue": text(order.filled_value),
        "tpslMode": "Full" if order.is_child or order.stop_loss or order.take_profit else "",
        "smpType": "None",
        "triggerDirection": order.trigger_direction,
        "blockTradeId": "",
        "isLeverage": "",
        "rejectReason": reject_reason,
        "price": "0" if waiting_market else _price(order.price, "0"),
        "orderIv": "",
        "createdTime": str(order.created_ms),
        "tpTriggerBy": order.tp_trigger_by.value if order.take_profit else "",
        "positionIdx": POSITION_IDX[order.position_side],
        "timeInForce": order.time_in_force.value,
        "leavesValue": text(leaves * (order.price or order.trigger_price or order.last_price_on_created)),
        "updatedTime": str(order.updated_ms),
        "side": order.side.value,
        "smpGroup": 0,
        "triggerPrice": _price(order.trigger_price),
        "tpLimitPrice": "0",
        "cumExecFee": text(order.fee),
        "leavesQty": text(leaves),
        "slTriggerBy": order.sl_trigger_by.value if order.stop_loss else "",
        "closeOnTrigger": order.close_on_trigger,
        "placeType": "",
        "cumExecQty": text(order.filled_qty),
        "reduceOnly": order.reduce_only,
        "qty": text(order.qty),
        "stopLoss": _price(order.stop_loss),
        "smpOrderId": "",
        "triggerBy": order.trigger_by.value if conditional else "",
        "slippageToleranceType": "UNKNOWN",
        "slippageTolerance": "0",
        "extraFees": "",
        "marketUnit": "",
        "cumFeeDetail": {"USDT": text(order.fee)} if order.filled_qty else {},
        "rpiTakerAccess": False,
        "rpiMatchedQty": "0",
    }


def order_event(order: Order) -> Row:
    """Rows of the private topic `order`."""
    return {
        "category": "linear",
        **order_row(order),
        "closedPnl": text8(order.closed_pnl),
        "feeCurrency": "",
        "tpslMode": "Full" if order.is_child else "UNKNOWN",
    }


def execution_row(fill: Fill) -> Row:
    """Rows of /v5/execution/list; funding is one too, of no order."""
    funding = fill.exec_type is ExecType.FUNDING
    return {
        "symbol": fill.symbol,
        "orderType": "UNKNOWN" if funding else fill.order_type.value,
        "underlyingPrice": "",
        "orderLinkId": fill.client_order_id,
        "side": fill.side.value,
        "indexPrice": "",
        "orderId": fill.order_id,
        "stopOrderType": fill.stop_kind.value or "UNKNOWN",
        "leavesQty": text(fill.leaves_qty),
        "execTime": str(fill.at_ms),
        "feeCurrency": "" if funding else "USDT",
        "createType": _CREATE_TYPES[fill.created_by],
        "isMaker": fill.is_maker,
        "execFee": text(fill.fee),
        "feeRate": text(fill.fee_rate),
        "execId": fill.fill_id,
        "tradeIv": "",
        "blockTradeId": "",
        "markPrice": text(fill.mark_price),
        "execPrice": text(fill.price),
        "markIv": "",
        "orderQty": text(fill.order_qty),
        "orderPrice": _price(fill.order_price, "0"),
        "execValue": text(fill.value),
        "execType": fill.exec_type,
        "execQty": text(fill.qty),
        "closedSize": text(fill.closed_qty),
        "extraFees": "",
        "marketUnit": "",
        "seq": fill.seq,
    }


def execution_event(fill: Fill) -> Row:
    """Rows of the private topic `execution`."""
    return {
        "category": "linear",
        **execution_row(fill),
        "isLeverage": "0",
        "execPnl": text8(fill.pnl),
        "extraFees": [],
    }


def fast_execution_event(fill: Fill) -> Row:
    return {
        "category": "linear",
        "symbol": fill.symbol,
        "execId": fill.fill_id,
        "execPrice": text(fill.price),
        "execQty": text(fill.qty),
        "orderId": fill.order_id,
        "isMaker": fill.is_maker,
        "orderLinkId": "" if fill.is_maker else fill.client_order_id,
        "side": fill.side.value,
        "execTime": str(fill.at_ms),
        "seq": fill.seq,
    }


def closed_pnl_row(order: Order, leverage: Decimal) -> Row:
    """Rows of /v5/position/closed-pnl: one per order that took something off a position."""
    return {
        "symbol": order.symbol,
        "orderType": order.type.value,
        "leverage": text(leverage),
        "updatedTime": str(order.updated_ms),
        "side": order.side.value,
        "orderId": order.order_id,
        "closedPnl": text8(order.closed_pnl),
        "avgEntryPrice": text8(order.closed_entry_value / order.closed_qty),
        "qty": text(order.qty),
        "cumEntryValue": text8(order.closed_entry_value),
        "createdTime": str(order.created_ms),
        "orderPrice": _price(order.price, "0"),
        "closedSize": text(order.closed_qty),
        "avgExitPrice": text8(order.closed_exit_value / order.closed_qty),
        "execType": _CLOSED_BY.get(order.created_by, ExecType.TRADE).value,
        "fillCount": str(order.fill_count),
        "cumExitValue": text8(order.closed_exit_value),
    }
