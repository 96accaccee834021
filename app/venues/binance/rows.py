"""Rows of Binance as values of ours: pure functions; the quirks are numbered in `venue`."""

import base64
import os
import re
from decimal import Decimal

from app.domain.money import ZERO
from app.domain.order import MarginMode, OrderStatus, PositionSide, Side
from app.domain.position import Fill, FillOrigin
from app.venues.base import Candle, Equity, Holding, OrderReport, Permissions, RestingStop, Trade
from app.venues.binance import wire
from app.venues.numbers import Unreadable, instant, number, positive, required

SIDES = {Side.BUY: "BUY", Side.SELL: "SELL"}
SIDES_READ = {"BUY": Side.BUY, "SELL": Side.SELL}
POSITION_SIDES = {PositionSide.LONG: "LONG", PositionSide.SHORT: "SHORT"}
POSITION_SIDES_READ = {"LONG": PositionSide.LONG, "SHORT": PositionSide.SHORT}
MARGIN_MODES = {MarginMode.CROSS: "CROSSED", MarginMode.ISOLATED: "ISOLATED"}
MARGIN_MODES_READ = {"CROSSED": MarginMode.CROSS, "ISOLATED": MarginMode.ISOLATED}
STATUSES = {
    "NEW": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.ACCEPTED,
    "NEW_ADL": OrderStatus.ACCEPTED,
    "NEW_INSURANCE": OrderStatus.ACCEPTED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELLED,
    "EXPIRED": OrderStatus.CANCELLED,
    "EXPIRED_IN_MATCH": OrderStatus.CANCELLED,
    "REJECTED": OrderStatus.REJECTED,
}
STOP_TYPES = frozenset({"STOP_MARKET", "STOP"})
RESTS = frozenset({"NEW", "TRIGGERING"})

# An order that a stop became keeps the stop's id, so ids of stops differ from those of orders.
STOP_PREFIX = "stop-"
_OUR_STOP = re.compile(rf"{STOP_PREFIX}[a-z2-7]{{26}}")
_OUR_ORDER = re.compile(r"lh[a-z2-7]{32}")
# https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams/Event-Order-Update
_VENUE_MADE = {"autoclose-": FillOrigin.LIQUIDATION, "adl_autoclose": FillOrigin.ADL}


def new_stop_id() -> str:
    """31 characters, never used before: an algo order's id needs no meaning, stops are recognised by what they are."""
    return STOP_PREFIX + base64.b32encode(os.urandom(16)).decode().rstrip("=").lower()


def is_our_stop(client_id: str) -> bool:
    return _OUR_STOP.fullmatch(client_id) is not None


def origin(client_id: str | None) -> FillOrigin:
    """Quirk 7: every order has a client id, whoever made it."""
    text = client_id or ""
    for prefix, found in _VENUE_MADE.items():
        if text.startswith(prefix):
            return found
    if is_our_stop(text):
        return FillOrigin.NATIVE_STOP
    return FillOrigin.ORDER if _OUR_ORDER.fullmatch(text) else FillOrigin.EXTERNAL


def side(text: str) -> Side:
    found = SIDES_READ.get(text)
    if found is None:
        raise Unreadable(f"a side {text!r}")
    return found


def fill(row: wire.TradeRow, client_order_id: str | None, made_by: FillOrigin) -> Fill:
    return Fill(
        venue_fill_id=str(row.id),
        venue_order_id=str(row.orderId),
        client_order_id=client_order_id or None,
        origin=made_by,
        symbol=row.symbol,
        side=side(row.side),
        position_side=POSITION_SIDES_READ.get(row.positionSide),
        qty=required(row.qty, "qty"),
        price=required(row.price, "price"),
        fee=number(row.commission) or ZERO,
        fee_currency=row.commissionAsset or "USDT",
        filled_at=instant(row.time),
    )


def report(row: wire.OrderRow) -> OrderReport:
    status = STATUSES.get(row.status)
    if status is None:
        raise Unreadable(f"an order of status {row.status!r}")
    return OrderReport(
        client_order_id=row.clientOrderId,
        venue_order_id=str(row.orderId),
        symbol=row.symbol,
        status=status,
        filled_qty=number(row.executedQty) or ZERO,
        avg_price=positive(row.avgPrice),
        reason=row.status if status in (OrderStatus.CANCELLED, OrderStatus.REJECTED) else None,
    )


def held(row: wire.PositionRow) -> tuple[PositionSide, Decimal] | None:
    """Side and quantity; None for a row without a position (quirk 5)."""
    amount = required(row.positionAmt, "positionAmt")
    if amount == 0:
        return None
    by_sign = PositionSide.LONG if amount > 0 else PositionSide.SHORT
    return POSITION_SIDES_READ.get(row.positionSide, by_sign), abs(amount)


def holding(row: wire.PositionRow, stops: list[wire.AlgoRow]) -> Holding | None:
    found = held(row)
    if found is None:
        return None
    position_side, qty = found
    return Holding(
        symbol=row.symbol,
        side=position_side,
        qty=qty,
        entry_price=required(row.entryPrice, "entryPrice"),
        stop_loss=stop_price(stops, position_side, qty),
    )


def closing_stop(row: wire.AlgoRow) -> RestingStop | None:
    """The stop that a conditional order is, if it closes."""
    price = positive(row.triggerPrice)
    if row.orderType not in STOP_TYPES or row.algoStatus not in RESTS or price is None:
        return None
    closes = PositionSide.LONG if side(row.side) is Side.SELL else PositionSide.SHORT
    bound = row.positionSide == POSITION_SIDES[closes]  # hedge mode: what it acts on is what it would close
    return RestingStop(side=closes, price=price) if row.closePosition or row.reduceOnly or bound else None


def stop_price(rows: list[wire.AlgoRow], position_side: PositionSide, qty: Decimal) -> Decimal | None:
    """Where the stop of the whole position rests; of several, the first that the price would reach.

    A stop of a fixed quantity counts where there is no other and as long as it covers what is held: it is the bridge
    of a move that was interrupted.
    """
    whole: list[Decimal] = []
    bridges: list[Decimal] = []
    for row in rows:
        stop = closing_stop(row)
        if stop is None or stop.side is not position_side:
            continue
        if row.closePosition:
            whole.append(stop.price)
        elif (number(row.quantity) or ZERO) >= qty:
            bridges.append(stop.price)
    nearest = max if position_side is PositionSide.LONG else min
    return nearest(whole or bridges, default=None)


def equity(account: wire.Account, *, multi_assets: bool) -> Equity:
    """Quirk 10."""
    usdt = next((asset for asset in account.assets if asset.asset == "USDT"), None)
    if multi_assets or usdt is None:
        whole, available = account.totalMarginBalance, account.availableBalance
    else:
        whole, available = usdt.marginBalance, usdt.availableBalance
    free = required(available, "availableBalance")
    return Equity(equity=required(whole, "the margin balance"), available=max(free, ZERO))


def permissions(config: wire.AccountConfig, key: wire.Restrictions | None) -> Permissions:
    if key is None:
        detail = "the account can trade" if config.canTrade else "the account can't trade"
        return Permissions(
            can_trade=config.canTrade,
            can_withdraw=None,
            ip_restricted=None,
            detail=f"{detail}; this environment does not say whether the key may withdraw or is bound to addresses",
        )
    can_trade = config.canTrade and key.enableFutures is not False
    withdraws = {True: "and can withdraw, which it should not", False: "and can't withdraw"}
    bound = {True: "it is bound to addresses", False: "it works from any address"}
    parts = [
        "the key can trade futures" if can_trade else "the key can't trade futures: switch that on",
        " " + withdraws[key.enableWithdrawals] if key.enableWithdrawals is not None else "",
        "; " + bound[key.ipRestrict] if key.ipRestrict is not None else "",
    ]
    return Permissions(
        can_trade=can_trade,
        can_withdraw=key.enableWithdrawals,
        ip_restricted=key.ipRestrict,
        detail="".join(parts),
    )


def trade(symbol: str, row: wire.AggregateRow) -> Trade:
    return Trade(symbol=symbol, trade_id=str(row.id), price=required(row.price, "price"), at_ms=row.at_ms)


def candle(row: list[int | str]) -> Candle:
    if len(row) < 5 or not isinstance(row[0], int):
        raise Unreadable("a candle of another shape")
    return Candle(
        start=instant(row[0]),
        high=required(str(row[2]), "high"),
        low=required(str(row[3]), "low"),
        close=required(str(row[4]), "close"),
    )
