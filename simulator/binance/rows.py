"""Rows of the account: orders, conditional orders, trades, income. Field names and forms as recorded."""

from decimal import Decimal
from typing import Any

from simulator.binance import names
from simulator.binance.context import Asked
from simulator.binance.market_rows import price_precision, price_text, qty_text
from simulator.instruments import Instrument
from simulator.model import CreatedBy, ExecType, Fill, Order, OrderType, PositionSide, TriggerBy
from simulator.numbers import text, text8

Row = dict[str, Any]

TRADE_ID_BASE = 5_612_000_000


def average_text(i: Instrument, order: Order) -> str:
    if not order.filled_qty:
        return price_text(i, None)
    return f"{order.filled_value / order.filled_qty:.{max(5, price_precision(i))}f}"


def working_type(order: Order) -> str:
    return "CONTRACT_PRICE" if order.trigger_by is TriggerBy.LAST else "MARK_PRICE"


def position_side(side: PositionSide) -> str:
    return side.value.upper()


def client_id(order: Order) -> str:
    """The exchange's own orders have ids that name their cause."""
    if order.client_order_id:
        return order.client_order_id
    match order.created_by:
        case CreatedBy.LIQUIDATION:
            return f"autoclose-{order.created_ms}{order.seq}"
        case CreatedBy.ADL:
            return f"adl_autoclose_{order.seq}"
        case CreatedBy.HAND:
            return f"web_{order.order_id.replace('-', '')[:20]}"
        case _:
            return order.order_id.replace("-", "")[:22]


def is_exchange_made(order: Order) -> bool:
    return order.created_by in (CreatedBy.LIQUIDATION, CreatedBy.ADL)


def order_type(order: Order) -> str:
    """An order of the exchange's own is a limit order that takes what is there."""
    return "LIMIT" if is_exchange_made(order) else order.type.value.upper()


def order_tif(order: Order, asked: Asked) -> str:
    return "IOC" if is_exchange_made(order) else asked.time_in_force or names.time_in_force(order)


def order_price(order: Order) -> Decimal | None:
    """A market order shows none: its protective price is the exchange's own business."""
    return None if order_type(order) == "MARKET" else order.price


def _order(order: Order, i: Instrument, asked: Asked) -> Row:
    return {
        "orderId": names.order_id(order),
        "symbol": names.symbol_here(order.symbol),
        "status": names.order_status(order),
        "clientOrderId": client_id(order),
        "price": price_text(i, order_price(order)),
        "avgPrice": average_text(i, order),
        "origQty": qty_text(i, order.qty),
        "executedQty": qty_text(i, order.filled_qty),
        "cumQty": qty_text(i, order.filled_qty),
        "cumQuote": f"{order.filled_value:.5f}",
        "timeInForce": order_tif(order, asked),
        "type": order_type(order),
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": names.side(order.side),
        "positionSide": position_side(order.position_side),
        "stopPrice": price_text(i, None),
        "workingType": working_type(order),
        "priceProtect": asked.price_protect,
        "origType": order_type(order),
        "priceMatch": "NONE",
        "selfTradePreventionMode": asked.stp,
        "goodTillDate": asked.good_till_ms,
        "updateTime": order.updated_ms,
    }


def new_order_row(order: Order, i: Instrument, asked: Asked) -> Row:
    return _order(order, i, asked)


def ack_row(order: Order, i: Instrument, asked: Asked) -> Row:
    """As it was when accepted, though it may be filled by now."""
    row = _order(order, i, asked)
    nothing = qty_text(i, Decimal(0))
    row |= {"status": "NEW", "avgPrice": price_text(i, None), "executedQty": nothing, "cumQty": nothing}
    return row | {"cumQuote": "0.00000", "updateTime": order.created_ms}


def query_row(order: Order, i: Instrument, asked: Asked) -> Row:
    row = _order(order, i, asked)
    del row["cumQty"]
    return row | {"time": created_ms(order)}


def open_row(order: Order, i: Instrument, asked: Asked) -> Row:
    return _order(order, i, asked) | {"time": created_ms(order)}


def amended_row(order: Order, i: Instrument, asked: Asked) -> Row:
    row = _order(order, i, asked)
    del row["cumQuote"]
    return row | {"pair": row["symbol"], "cumBase": "0"}


def created_ms(order: Order) -> int:
    return order.fired_ms or order.created_ms


# --- conditional orders


def algo_type(order: Order) -> str:
    """Which of the conditional types it was: a stop waits on the losing side of its own direction."""
    if order.trail_distance is not None:
        return "TRAILING_STOP_MARKET"
    stop = order.trigger_direction == (1 if order.side.sign > 0 else 2)
    return ("STOP" if stop else "TAKE_PROFIT") + ("_MARKET" if order.type is OrderType.MARKET else "")


def algo_tif(order: Order, asked: Asked) -> str:
    if order.ends_with_position:
        return "GTE_GTC"
    return asked.time_in_force or "GTC"


def algo_qty(order: Order) -> Decimal:
    return Decimal(0) if order.close_position else order.qty


def _algo(order: Order, i: Instrument, asked: Asked) -> Row:
    return {
        "algoId": names.algo_id(order),
        "clientAlgoId": client_id(order),
        "algoType": "CONDITIONAL",
        "orderType": algo_type(order),
        "symbol": names.symbol_here(order.symbol),
        "side": names.side(order.side),
        "positionSide": position_side(order.position_side),
        "timeInForce": algo_tif(order, asked),
        "quantity": qty_text(i, algo_qty(order)),
        "algoStatus": names.algo_status(order),
        "triggerPrice": price_text(i, order.trigger_price),
        "price": price_text(i, order_price(order)),
        "icebergQuantity": None,
        "selfTradePreventionMode": asked.stp,
        "workingType": working_type(order),
        "priceMatch": "NONE",
        "closePosition": order.close_position,
        "priceProtect": asked.price_protect,
        "reduceOnly": order.reduce_only,
        "createTime": order.created_ms,
        "updateTime": order.updated_ms,
        "triggerTime": order.fired_ms,
        "goodTillDate": asked.good_till_ms,
    }


def new_algo_row(order: Order, i: Instrument, asked: Asked) -> Row:
    row = _algo(order, i, asked) | {"activatePrice": "", "callbackRate": ""}
    return row | {"algoStatus": "NEW", "triggerTime": 0, "updateTime": order.created_ms}


def algo_row(order: Order, i: Instrument, asked: Asked) -> Row:
    nothing = price_text(i, None)
    row = _algo(order, i, asked) | {
        "actualOrderId": str(names.order_id(order)) if names.has_fired(order) else "",
        "actualPrice": average_text(i, order) if order.filled_qty else "0.00000",
        "tpTriggerPrice": nothing,
        "tpPrice": nothing,
        "slTriggerPrice": nothing,
        "slPrice": nothing,
        "tpOrderType": "",
    }
    if names.has_fired(order):
        row |= {"actualQty": qty_text(i, order.filled_qty), "actualType": order.type.value.upper()}
    return row


# --- trades and income


def trade_id(fill: Fill) -> int:
    return TRADE_ID_BASE + fill.seq


def user_trade_row(fill: Fill, order: Order, i: Instrument) -> Row:
    return {
        "buyer": fill.side.sign > 0,
        "commission": f"{fill.fee:.8f}",
        "commissionAsset": "USDT",
        "id": trade_id(fill),
        "maker": fill.is_maker,
        "orderId": names.order_id(order),
        "price": price_text(i, fill.price),
        "qty": qty_text(i, fill.qty),
        "quoteQty": text8(fill.value),
        "realizedPnl": f"{fill.pnl:.8f}",
        "side": names.side(fill.side),
        "positionSide": position_side(fill.position_side),
        "symbol": names.symbol_here(fill.symbol),
        "time": fill.at_ms,
    }


def income_rows(fill: Fill) -> list[Row]:
    """What one execution did to the wallet: funding, or commission and realised profit."""
    if fill.exec_type is ExecType.FUNDING:
        return [_income(fill, "FUNDING_FEE", -fill.fee, "")]
    rows = [_income(fill, "COMMISSION", -fill.fee, str(trade_id(fill)))]
    if fill.closed_qty:
        rows.append(_income(fill, "REALIZED_PNL", fill.pnl, str(trade_id(fill))))
    return rows


def _income(fill: Fill, kind: str, amount: Decimal, trade: str) -> Row:
    return {
        "symbol": names.symbol_here(fill.symbol),
        "incomeType": kind,
        "income": f"{amount:.8f}",
        "asset": "USDT",
        "info": kind if kind != "REALIZED_PNL" else trade,
        "time": fill.at_ms,
        "tranId": trade_id(fill),
        "tradeId": trade,
    }


def plain(value: Decimal | None) -> str:
    """As events print numbers: no needless zeros."""
    return text(value or Decimal(0))
