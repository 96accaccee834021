"""Rows of Bybit V5 as values of ours: pure functions; the quirks are numbered in `venue`."""

from app.domain.instrument import Instrument
from app.domain.money import ZERO
from app.domain.order import MarginMode, OrderStatus, PositionMode, PositionSide, Side
from app.domain.position import Fill, FillOrigin
from app.venues.base import Candle, Equity, Holding, OrderReport, Permissions, RestingStop, Standing, Trade
from app.venues.bybit import wire
from app.venues.numbers import Unreadable, instant, milliseconds, number, positive, required

SIDES_READ = {"Buy": Side.BUY, "Sell": Side.SELL}
POSITION_SIDES = {"Buy": PositionSide.LONG, "Sell": PositionSide.SHORT}
INDEX_SIDES = {1: PositionSide.LONG, 2: PositionSide.SHORT}  # quirk 8
MARGIN_MODES = {"REGULAR_MARGIN": MarginMode.CROSS, "ISOLATED_MARGIN": MarginMode.ISOLATED}
STATUSES = {
    "New": OrderStatus.ACCEPTED,
    "PartiallyFilled": OrderStatus.ACCEPTED,
    "Untriggered": OrderStatus.ACCEPTED,
    "Triggered": OrderStatus.ACCEPTED,
    "Filled": OrderStatus.FILLED,
    "Cancelled": OrderStatus.CANCELLED,
    "PartiallyFilledCanceled": OrderStatus.CANCELLED,
    "Deactivated": OrderStatus.CANCELLED,
    "Rejected": OrderStatus.REJECTED,
}
POSITION_CHANGING = frozenset({"Trade", "AdlTrade", "BustTrade"})  # quirk 6
STOP_ORDERS = frozenset({"StopLoss", "PartialStopLoss", "TrailingStop"})
STOP_CREATORS = frozenset({"CreateByStopLoss", "CreateByPartialStopLoss", "CreateByTrailingStop"})


def permissions(key: wire.KeyInfo) -> Permissions:
    granted = {f"{group}.{name}" for group, names in key.permissions.items() for name in names or ()}
    derivatives = {
        "ContractTrade.Order",
        "ContractTrade.Position",
    } <= granted or "Derivatives.DerivativesTrade" in granted
    can_trade = key.readOnly == 0 and derivatives
    can_withdraw = key.readOnly == 0 and "Wallet.Withdraw" in granted
    ip_restricted = bool(key.ips) and "*" not in (key.ips or ())
    parts = [
        "the key can trade contracts" if can_trade else "the key can't trade contracts: it needs orders and positions",
        "and can withdraw, which it should not" if can_withdraw else "and can't withdraw",
        "; it is bound to addresses" if ip_restricted else "; it works from any address and lapses after 90 days",
    ]
    return Permissions(
        can_trade=can_trade,
        can_withdraw=can_withdraw,
        ip_restricted=ip_restricted,
        detail=f"{parts[0]} {parts[1]}{parts[2]}",
    )


def instrument(row: wire.InstrumentRow, now_ms: int) -> Instrument:
    """`deliveryTime` of a perpetual is when it is delisted."""
    lot = row.lotSizeFilter
    ends_ms = number(row.deliveryTime) or ZERO
    return Instrument(
        symbol=row.symbol,
        tick_size=required(row.priceFilter.tickSize, "tickSize"),
        qty_step=required(lot.qtyStep, "qtyStep"),
        qty_min=required(lot.minOrderQty, "minOrderQty"),
        market_qty_max=positive(lot.maxMktOrderQty) or required(lot.maxOrderQty, "maxOrderQty"),
        notional_min=number(lot.minNotionalValue) or ZERO,
        leverage_max=required(row.leverageFilter.maxLeverage, "maxLeverage"),
        trading=row.status == "Trading" and not row.isPreListing and not 0 < ends_ms <= now_ms,
    )


def equity(row: wire.WalletRow) -> Equity:
    usdt = next((coin for coin in row.coin if coin.coin == "USDT"), None)
    equity = None if usdt is None else number(usdt.equity)
    available = number(row.totalAvailableBalance)
    if equity is None:  # quirk 13
        equity = required(row.totalEquity, "totalEquity") if row.coin else ZERO
    if available is None:  # quirk 14
        available = ZERO
        if usdt is not None:
            tied = (usdt.totalPositionIM, usdt.totalOrderIM, usdt.locked, usdt.bonus)
            available = (number(usdt.walletBalance) or ZERO) - sum((number(text) or ZERO for text in tied), ZERO)
    return Equity(equity=equity, available=max(available, ZERO))


def standing(symbol: str, rows: list[wire.PositionRow], margin_mode: MarginMode | None) -> Standing:
    """From all rows of one symbol, of which there is at least one (quirk 8)."""
    leverages = {found for row in rows if (found := positive(row.leverage)) is not None}  # quirk 2
    held = (holding(row) for row in rows)
    return Standing(
        symbol=symbol,
        position_mode=PositionMode.HEDGE if any(row.positionIdx for row in rows) else PositionMode.ONE_WAY,
        margin_mode=margin_mode,
        leverage=leverages.pop() if len(leverages) == 1 else None,  # two sides, two leverages: no answer to give
        holdings=tuple(found for found in held if found is not None),
    )


def holding(row: wire.PositionRow) -> Holding | None:
    """None: flat."""
    qty = number(row.size) or ZERO  # quirk 2
    if qty == 0:
        return None
    side = INDEX_SIDES.get(row.positionIdx) or POSITION_SIDES.get(row.side)
    if side is None:
        raise Unreadable(f"a position of side {row.side!r}")
    return Holding(
        symbol=row.symbol,
        side=side,
        qty=qty,
        entry_price=required(row.avgPrice, "avgPrice"),
        stop_loss=positive(row.stopLoss),
    )


def report(row: wire.OrderRow, client_order_id: str) -> OrderReport:
    status = STATUSES.get(row.orderStatus)
    if status is None:
        raise Unreadable(f"an order of status {row.orderStatus!r}")
    said = [text for text in (row.rejectReason, row.cancelType) if text and text not in ("EC_NoError", "UNKNOWN")]
    return OrderReport(
        client_order_id=client_order_id,
        venue_order_id=row.orderId,
        symbol=row.symbol,
        status=status,
        filled_qty=number(row.cumExecQty) or ZERO,
        avg_price=positive(row.avgPrice),
        reason=said[0] if said and status in (OrderStatus.CANCELLED, OrderStatus.REJECTED) else None,
    )


def fill(row: wire.ExecutionRow) -> Fill:
    side = SIDES_READ.get(row.side)
    if side is None:
        raise Unreadable(f"an execution of side {row.side!r}")
    return Fill(
        venue_fill_id=row.execId,
        venue_order_id=row.orderId,
        client_order_id=row.orderLinkId or None,
        origin=origin(row),
        symbol=row.symbol,
        side=side,
        position_side=acted_on(row, side),
        qty=required(row.execQty, "execQty"),
        price=required(row.execPrice, "execPrice"),
        fee=number(row.execFee) or ZERO,
        fee_currency=row.feeCurrency or "USDT",
        filled_at=instant(row.execTime),
    )


def acted_on(row: wire.ExecutionRow, side: Side) -> PositionSide | None:
    """Quirk 15. What turns a one-way position round acted on the side that it took off. None: it does not say."""
    closed = number(row.closedSize)
    if closed is None:
        return None
    return PositionSide.LONG if (side is Side.BUY) is (closed == 0) else PositionSide.SHORT


def origin(row: wire.ExecutionRow) -> FillOrigin:
    """Quirk 7."""
    creator = row.createType or ""
    if row.execType == "BustTrade" or creator.startswith(("CreateByLiq", "CreateByTakeOver")):
        return FillOrigin.LIQUIDATION
    if row.execType == "AdlTrade" or creator.startswith("CreateByAdl"):
        return FillOrigin.ADL
    if creator in STOP_CREATORS:
        return FillOrigin.NATIVE_STOP
    if row.orderLinkId:
        return FillOrigin.ORDER
    return FillOrigin.NATIVE_STOP if row.stopOrderType in STOP_ORDERS else FillOrigin.EXTERNAL


def resting_stop(row: wire.OrderRow) -> RestingStop | None:
    """None: it does not rest, is no stop, or would not close."""
    if STATUSES.get(row.orderStatus) is not OrderStatus.ACCEPTED:
        return None
    closes = bool(row.reduceOnly or row.closeOnTrigger)
    if row.stopOrderType not in STOP_ORDERS and not (row.stopOrderType == "Stop" and closes):
        return None
    price = positive(row.triggerPrice)
    if price is None:
        return None
    side = INDEX_SIDES.get(row.positionIdx)
    if side is None:
        if row.side not in SIDES_READ:
            raise Unreadable(f"an order of side {row.side!r}")
        side = PositionSide.LONG if SIDES_READ[row.side] is Side.SELL else PositionSide.SHORT
    return RestingStop(side=side, price=price)


def trade(row: wire.RecentTradeRow) -> Trade:
    return Trade(
        symbol=row.symbol,
        trade_id=row.execId,
        price=required(row.price, "price"),
        at_ms=milliseconds(instant(row.time)),
    )


def candle(row: list[str]) -> Candle:
    if len(row) < 5:
        raise Unreadable("a candle of fewer than five values")
    return Candle(
        start=instant(row[0]),
        high=required(row[2], "high"),
        low=required(row[3], "low"),
        close=required(row[4], "close"),
    )
