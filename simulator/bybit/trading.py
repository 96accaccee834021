"""Private POST endpoints: orders, stops, leverage. Answers carry ids only; what became of an order is told elsewhere.

https://bybit-exchange.github.io/docs/v5/order/create-order and its neighbours
"""

from collections.abc import Callable
from decimal import Decimal

from simulator.bybit import requests
from simulator.bybit.errors import MARGIN_MODE_FAILED, ApiError, margin_mode_reasons, params
from simulator.bybit.rows import Row
from simulator.exchange import Exchange
from simulator.faults import REST, FaultKind
from simulator.model import Account, Order, OrderStatus, PositionSide, Reason, Refused, StopKind

CREATE, AMEND, CANCEL = "/v5/order/create", "/v5/order/amend", "/v5/order/cancel"
CANCEL_ALL_MAX = 500


def create(exchange: Exchange, account: Account, raw: bytes, channel: str = REST) -> Row:
    new = requests.body(raw, requests.CreateOrder).to_order()
    now_s, where = exchange.now_s(), {"path": CREATE, "symbol": new.symbol, "channel": channel}
    # A refused order uses up no fault: ask what is there, take it once the order is in.
    reject = exchange.faults.find(FaultKind.REJECT_ASYNC, now_s, **where)
    partial = exchange.faults.find(FaultKind.PARTIAL_FILL, now_s, **where)
    split = exchange.faults.find(FaultKind.SPLIT_FILL, now_s, **where)
    order = exchange.engine.place(
        account,
        new,
        exchange.now_ms(),
        fill_share=Decimal(partial.fraction) if partial and partial.fraction and not reject else None,
        in_two=split is not None,
        reject=reject is not None,
    )
    for kind, fault in (
        (FaultKind.REJECT_ASYNC, reject),
        (FaultKind.PARTIAL_FILL, None if reject else partial),
        (FaultKind.SPLIT_FILL, None if reject else split),
    ):
        if fault is not None:
            exchange.faults.take(kind, now_s, **where)
    return _ids(order)


def amend(exchange: Exchange, account: Account, raw: bytes) -> Row:
    wanted = requests.body(raw, requests.AmendOrder)
    order = _referred(exchange, account, wanted)
    return _ids(exchange.engine.amend(account, order, wanted.to_change(), exchange.now_ms()))


def cancel(exchange: Exchange, account: Account, raw: bytes) -> Row:
    order = _referred(exchange, account, requests.body(raw, requests.OrderRef))
    return _ids(exchange.engine.cancel(account, order, exchange.now_ms()))


def cancel_all(exchange: Exchange, account: Account, raw: bytes) -> Row:
    """Without `orderFilter` the stops of positions go too, as on the exchange."""
    wanted = requests.body(raw, requests.CancelAll)
    if not (wanted.symbol or wanted.baseCoin or wanted.settleCoin):
        raise params("symbol, baseCoin or settleCoin is required")
    if wanted.symbol:
        exchange.engine.market(wanted.symbol)
    picked = [o for o in exchange.engine.open_orders(account) if _is_meant(exchange, o, wanted)][:CANCEL_ALL_MAX]
    for order in picked:
        if order.is_open:
            exchange.engine.cancel(account, order, exchange.now_ms())
    return {"list": [_ids(o) for o in picked], "success": "1"}


def _is_meant(exchange: Exchange, order: Order, wanted: requests.CancelAll) -> bool:
    instrument = exchange.engine.market(order.symbol).instrument
    if wanted.symbol:
        if order.symbol != wanted.symbol:
            return False
    elif wanted.baseCoin:
        if instrument.base_coin != wanted.baseCoin:
            return False
    elif wanted.settleCoin != "USDT":
        return False
    if wanted.stopOrderType:
        return order.stop_kind.value == wanted.stopOrderType and order.status is OrderStatus.UNTRIGGERED
    match wanted.orderFilter:
        case "":
            return True
        case "StopOrder":
            return order.status is OrderStatus.UNTRIGGERED
        case "Order" | "OpenOrder":
            return order.stop_kind is StopKind.NONE
        case _:
            raise params("orderFilter invalid")


def trading_stop(exchange: Exchange, account: Account, raw: bytes) -> Row:
    wanted = requests.body(raw, requests.TradingStop)
    side = requests.position_side(wanted.positionIdx)
    exchange.engine.protect(account, wanted.symbol, wanted.to_protection(), exchange.now_ms(), side)
    return {}


def set_leverage(exchange: Exchange, account: Account, raw: bytes) -> Row:
    """Two values only where long and short have margin of their own: in hedge mode with isolated margin."""
    wanted = requests.body(raw, requests.SetLeverage)
    engine, symbol = exchange.engine, wanted.symbol
    engine.market(symbol)
    buy, sell = (requests.decimal(v, "leverage") for v in (wanted.buyLeverage, wanted.sellLeverage))
    if buy == sell:
        engine.set_leverage(account, symbol, buy)
    elif account.is_hedge(symbol) and account.isolated:
        pairs = ((PositionSide.LONG, buy), (PositionSide.SHORT, sell))
        changed = [(side, leverage) for side, leverage in pairs if engine.leverage(account, symbol, side) != leverage]
        if not changed:
            raise Refused(Reason.LEVERAGE_NOT_MODIFIED)
        for side, leverage in changed:
            engine.set_leverage(account, symbol, leverage, side)
    else:
        raise params("buy leverage not equal sell leverage")
    exchange.changed = True
    return {}


def switch_mode(exchange: Exchange, account: Account, raw: bytes) -> Row:
    """Of one symbol, or of all that settle in a coin."""
    wanted = requests.body(raw, requests.SwitchMode)
    exchange.engine.set_position_mode(account, wanted.symbol, wanted.is_hedge())
    exchange.changed = True
    return {}


def set_margin_mode(exchange: Exchange, account: Account, raw: bytes) -> Row:
    wanted = requests.body(raw, requests.SetMarginMode).setMarginMode
    if wanted == "PORTFOLIO_MARGIN":
        reasons = margin_mode_reasons("Portfolio margin is not offered here")
        raise ApiError(MARGIN_MODE_FAILED, "Set margin mode failed", result=reasons)
    exchange.engine.set_margin_mode(account, None, wanted == "ISOLATED_MARGIN")
    exchange.changed = True
    return {"reasons": []}


def _referred(exchange: Exchange, account: Account, ref: requests.OrderRef) -> Order:
    ref.check()
    exchange.engine.market(ref.symbol)
    order = exchange.engine.find(account, ref.orderId, ref.orderLinkId)
    if order is None or order.symbol != ref.symbol:
        raise Refused(Reason.NOT_FOUND)
    return order


def _ids(order: Order) -> Row:
    return {"orderId": order.order_id, "orderLinkId": order.client_order_id}


ENDPOINTS: dict[str, Callable[[Exchange, Account, bytes], Row]] = {
    CREATE: create,
    AMEND: amend,
    CANCEL: cancel,
    "/v5/order/cancel-all": cancel_all,
    "/v5/position/trading-stop": trading_stop,
    "/v5/position/set-leverage": set_leverage,
    "/v5/position/switch-mode": switch_mode,
    "/v5/account/set-margin-mode": set_margin_mode,
}
