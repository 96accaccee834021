"""The wire rows of Bybit V5. Numbers are strings, "" is "no value".

Fields: https://bybit-exchange.github.io/docs/v5/order/open-order, /order/execution, /position, /account/wallet-balance,
/market/instrument, /market/tickers, and /websocket/private/* for what only the sockets carry.
"""

from decimal import Decimal
from typing import Any

from simulator.engine import Engine
from simulator.instruments import Instrument
from simulator.model import (
    ZERO,
    Account,
    CreatedBy,
    EndReason,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    PositionView,
    StopKind,
)
from simulator.numbers import decimals, text, text8
from simulator.tape import Tape

Row = dict[str, Any]

MAINTENANCE_RATE = Decimal("0.005")

_CREATE_TYPES = {
    CreatedBy.USER: "CreateByUser",
    CreatedBy.HAND: "CreateByClosing",
    CreatedBy.STOP_LOSS: "CreateByStopLoss",
    CreatedBy.TAKE_PROFIT: "CreateByTakeProfit",
    CreatedBy.TRAILING: "CreateByTrailingStop",
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
}


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
        "positionIdx": 0,
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
    """Rows of /v5/execution/list."""
    return {
        "symbol": fill.symbol,
        "orderType": fill.order_type.value,
        "underlyingPrice": "",
        "orderLinkId": fill.client_order_id,
        "side": fill.side.value,
        "indexPrice": "",
        "orderId": fill.order_id,
        "stopOrderType": fill.stop_kind.value or "UNKNOWN",
        "leavesQty": text(fill.leaves_qty),
        "execTime": str(fill.at_ms),
        "feeCurrency": "USDT",
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


def position_row(view: PositionView) -> Row:
    """Rows of /v5/position/list; a symbol that was never traded has "" in nearly every number."""
    p = view.position
    if not p.created_ms:
        return _never_traded_row(p.symbol)
    side = p.side
    margin = p.size * view.mark / view.leverage
    maintenance = p.size * view.mark * MAINTENANCE_RATE
    break_even = p.cost / p.size * (1 + (Decimal("0.0011") * (1 if p.qty > 0 else -1))) if p.qty else ZERO
    return {
        "positionIdx": 0,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": p.symbol,
        "side": side.value if side else "",
        "size": text(p.size),
        "avgPrice": text8(p.entry_price),
        "positionValue": text8(p.cost),
        "tradeMode": 0,
        "positionStatus": "Normal",
        "autoAddMargin": 0,
        "adlRankIndicator": 2 if p.qty else 0,
        "leverage": text(view.leverage),
        "breakEvenPrice": text8(break_even),
        "positionBalance": "0",
        "markPrice": text(view.mark),
        "liqPrice": "",
        "bustPrice": "",
        "positionMM": text8(maintenance),
        "positionMMByMp": text8(maintenance),
        "positionIM": text8(margin),
        "positionIMByMp": text8(margin),
        "tpslMode": "Full",
        "takeProfit": text(view.take_profit) if view.take_profit else "",
        "stopLoss": text(view.stop_loss) if view.stop_loss else "",
        "trailingStop": text(view.trailing),
        "unrealisedPnl": text8(p.unrealized_pnl(view.mark)),
        "curRealisedPnl": text8(p.current_realized_pnl),
        "cumRealisedPnl": text8(p.net_realized_pnl),
        "seq": p.seq,
        "isReduceOnly": False,
        "leverageSysUpdatedTime": "",
        "sessionAvgPrice": "",
        "createdTime": str(p.created_ms),
        "updatedTime": str(p.updated_ms),
        "openTime": p.opened_ms if p.qty else 0,
        "mmrSysUpdatedTime": "",
    }


_BLANK_WHEN_NEVER_TRADED = (
    "riskLimitValue side avgPrice positionValue positionStatus leverage breakEvenPrice positionBalance markPrice "
    "liqPrice bustPrice positionMM positionMMByMp positionIM positionIMByMp tpslMode takeProfit stopLoss trailingStop "
    "unrealisedPnl curRealisedPnl cumRealisedPnl leverageSysUpdatedTime sessionAvgPrice createdTime updatedTime "
    "mmrSysUpdatedTime"
).split()


def _never_traded_row(symbol: str) -> Row:
    return {
        "positionIdx": 0,
        "riskId": 0,
        "symbol": symbol,
        "size": "0",
        "tradeMode": 0,
        "autoAddMargin": 0,
        "adlRankIndicator": 0,
        "seq": -1,
        "isReduceOnly": False,
        "openTime": 0,
        **dict.fromkeys(_BLANK_WHEN_NEVER_TRADED, ""),
    }


def position_event(view: PositionView) -> Row:
    """Rows of the private topic `position`: `entryPrice` where REST says `avgPrice`, "0" for unset stops."""
    row = position_row(view)
    row["category"] = "linear"
    row["entryPrice"] = row.pop("avgPrice") or "0"
    for name in ("takeProfit", "stopLoss", "trailingStop", "positionValue", "markPrice", "leverage"):
        row[name] = row[name] or "0"
    return row


def wallet_row(engine: Engine, account: Account) -> Row:
    """The one row of /v5/account/wallet-balance and of the topic `wallet`; 1 USDT is 1 USD here."""
    pnl = engine.unrealized_pnl(account)
    equity = account.balance + pnl
    position_im, order_im = engine.position_margin(account), engine.order_margin(account)
    held = ((s, p) for s, p in account.positions.items() if p.qty)
    maintenance = sum((p.size * engine.markets[s].mark * MAINTENANCE_RATE for s, p in held), ZERO)
    margin = position_im + order_im
    im_rate = text((margin / equity).quantize(Decimal("0.0001"))) if equity > 0 else "0"
    mm_rate = text((maintenance / equity).quantize(Decimal("0.0001"))) if equity > 0 else "0"
    coin = {
        "coin": "USDT",
        "equity": text8(equity),
        "usdValue": text8(equity),
        "walletBalance": text8(account.balance),
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": text8(order_im),
        "totalPositionIM": text8(position_im),
        "totalPositionMM": text8(maintenance),
        "unrealisedPnl": text8(pnl),
        "cumRealisedPnl": text8(account.balance - account.deposited),
        "bonus": "0",
        "collateralSwitch": True,
        "marginCollateral": True,
        "locked": "0",
        "spotHedgingQty": "0",
        "spotBorrow": "0",
    }
    return {
        "accountType": "UNIFIED",
        "accountLTV": "0",
        "totalEquity": text8(equity),
        "totalWalletBalance": text8(account.balance),
        "totalMarginBalance": text8(equity),
        "totalAvailableBalance": text8(equity - margin),
        "totalPerpUPL": text8(pnl),
        "totalInitialMargin": text8(margin),
        "totalInitialMarginByMp": text8(margin),
        "totalMaintenanceMargin": text8(maintenance),
        "totalMaintenanceMarginByMp": text8(maintenance),
        "accountIMRate": im_rate,
        "accountIMRateByMp": im_rate,
        "accountMMRate": mm_rate,
        "accountMMRateByMp": mm_rate,
        "coin": [coin] if account.balance or equity else [],
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
        "execType": "Trade",
        "fillCount": str(order.fill_count),
        "cumExitValue": text8(order.closed_exit_value),
    }


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


def ticker_row(tape: Tape, i: Instrument, last: Decimal, mark: Decimal, now_ms: int) -> Row:
    """The fields that REST and socket share."""
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
        "bid1Price": price(max(last - i.tick_size, i.min_price)),
        "bid1Size": text(i.min_qty * 1000),
        "ask1Price": price(last + i.tick_size),
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
