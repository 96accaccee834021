"""Bodies and queries of Bybit V5 as typed values. A wrong type or a missing field is a 10001.

https://bybit-exchange.github.io/docs/v5/order/create-order and its neighbours. Fields we do not act on are let pass.
"""

import re
from decimal import Decimal
from typing import Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec

from simulator.bybit.errors import ApiError, params
from simulator.model import NewOrder, OrderChange, OrderType, PositionSide, Protection, Side, TimeInForce, TriggerBy

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_NUMBER = re.compile(r"\d+(\.\d+)?")  # plain digits: no exponent, no sign

ONE_WAY, HEDGE = 0, 3  # `mode` of /v5/position/switch-mode
POSITION_SIDES = {0: PositionSide.BOTH, 1: PositionSide.LONG, 2: PositionSide.SHORT}


class CreateOrder(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    symbol: str
    side: Side
    orderType: OrderType
    qty: str
    price: str | None = None
    timeInForce: TimeInForce | None = None
    positionIdx: int = 0
    orderLinkId: str = ""
    reduceOnly: bool = False
    closeOnTrigger: bool = False
    takeProfit: str | None = None
    stopLoss: str | None = None
    tpTriggerBy: TriggerBy | None = None
    slTriggerBy: TriggerBy | None = None
    tpslMode: str | None = None
    tpOrderType: OrderType | None = None
    slOrderType: OrderType | None = None
    triggerPrice: str | None = None
    triggerDirection: int = 0
    triggerBy: TriggerBy | None = None

    def to_order(self) -> NewOrder:
        check_client_id(self.orderLinkId)
        only_full(self.tpslMode, self.tpOrderType, self.slOrderType)
        trigger_price = decimal_or_none(self.triggerPrice, "triggerPrice") or None
        if (trigger_price is None) != (self.triggerDirection == 0) or self.triggerDirection not in (0, 1, 2):
            raise params("triggerDirection invalid")
        price = decimal_or_none(self.price, "price")
        if self.orderType is OrderType.LIMIT and not price:
            raise params("Price invalid")
        return NewOrder(
            symbol=self.symbol,
            side=self.side,
            position_side=position_side(self.positionIdx),
            type=self.orderType,
            qty=decimal(self.qty, "Qty"),
            price=price if self.orderType is OrderType.LIMIT else None,
            time_in_force=self.timeInForce or TimeInForce.GTC,
            client_order_id=self.orderLinkId,
            reduce_only=self.reduceOnly,
            close_on_trigger=self.closeOnTrigger,
            trigger_price=trigger_price,
            trigger_direction=self.triggerDirection,
            trigger_by=self.triggerBy or TriggerBy.LAST,
            stop_loss=decimal_or_none(self.stopLoss, "stopLoss"),
            take_profit=decimal_or_none(self.takeProfit, "takeProfit"),
            sl_trigger_by=self.slTriggerBy or TriggerBy.LAST,
            tp_trigger_by=self.tpTriggerBy or TriggerBy.LAST,
        )


class OrderRef(msgspec.Struct, frozen=True, kw_only=True):
    """Body of cancel: one of the ids; the exchange's own wins."""

    category: str
    symbol: str
    orderId: str = ""
    orderLinkId: str = ""

    def check(self) -> None:
        if not self.orderId and not self.orderLinkId:
            raise params("orderId or orderLinkId is required")


class AmendOrder(OrderRef, frozen=True, kw_only=True):
    qty: str | None = None
    price: str | None = None
    triggerPrice: str | None = None
    stopLoss: str | None = None
    takeProfit: str | None = None

    def to_change(self) -> OrderChange:
        return OrderChange(
            qty=decimal_or_none(self.qty, "Qty"),
            price=decimal_or_none(self.price, "price"),
            trigger_price=decimal_or_none(self.triggerPrice, "triggerPrice"),
            stop_loss=decimal_or_none(self.stopLoss, "stopLoss"),
            take_profit=decimal_or_none(self.takeProfit, "takeProfit"),
        )


class CancelAll(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    symbol: str = ""
    baseCoin: str = ""
    settleCoin: str = ""
    orderFilter: str = ""
    stopOrderType: str = ""


class TradingStop(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    symbol: str
    positionIdx: int
    tpslMode: str
    takeProfit: str | None = None
    stopLoss: str | None = None
    trailingStop: str | None = None
    activePrice: str | None = None
    tpTriggerBy: TriggerBy | None = None
    slTriggerBy: TriggerBy | None = None
    tpOrderType: OrderType | None = None
    slOrderType: OrderType | None = None

    def to_protection(self) -> Protection:
        only_full(self.tpslMode, self.tpOrderType, self.slOrderType)
        wanted = Protection(
            stop_loss=decimal_or_none(self.stopLoss, "stopLoss"),
            take_profit=decimal_or_none(self.takeProfit, "takeProfit"),
            trailing=decimal_or_none(self.trailingStop, "trailingStop"),
            active_price=decimal_or_none(self.activePrice, "activePrice"),
            sl_trigger_by=self.slTriggerBy or TriggerBy.LAST,
            tp_trigger_by=self.tpTriggerBy or TriggerBy.LAST,
        )
        if wanted.stop_loss is wanted.take_profit is wanted.trailing is None:
            raise params("takeProfit, stopLoss or trailingStop is required")
        return wanted


class SetLeverage(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    symbol: str
    buyLeverage: str
    sellLeverage: str


class SwitchMode(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    mode: int
    symbol: str = ""
    coin: str = ""

    def is_hedge(self) -> bool:
        if self.mode not in (ONE_WAY, HEDGE):
            raise params("mode invalid")
        if not self.symbol and self.coin != "USDT":
            raise params("symbol or coin is required")
        return self.mode == HEDGE


class SetMarginMode(msgspec.Struct, frozen=True, kw_only=True):
    setMarginMode: Literal["ISOLATED_MARGIN", "REGULAR_MARGIN", "PORTFOLIO_MARGIN"]


T = TypeVar("T", bound=msgspec.Struct)


def body(raw: bytes, kind: type[T]) -> T:
    try:
        value = msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as exc:
        raise ApiError(10001, f"Request parameter error. {exc}") from None
    if "category" in kind.__struct_fields__:
        check_category(getattr(value, "category", None))
    return value


def query(raw: str) -> dict[str, str]:
    return dict(parse_qsl(raw, keep_blank_values=False))


def check_category(category: str | None) -> None:
    if category != "linear":
        raise params("category invalid: this exchange has linear only")


def position_side(position_idx: int) -> PositionSide:
    """https://bybit-exchange.github.io/docs/v5/position/position-mode; whether it fits the mode the engine says."""
    try:
        return POSITION_SIDES[position_idx]
    except KeyError:
        raise params("positionIdx invalid") from None


def check_client_id(client_id: str) -> None:
    if client_id and not _CLIENT_ID.fullmatch(client_id):
        raise params("OrderLinkId invalid")


def only_full(mode: str | None, tp_type: OrderType | None, sl_type: OrderType | None) -> None:
    if mode not in (None, "", "Full") or OrderType.LIMIT in (tp_type, sl_type):
        raise params("tpslMode: this exchange has Full with market orders only")


def decimal(value: str, name: str) -> Decimal:
    if not _NUMBER.fullmatch(value):
        raise params(f"{name} invalid")
    number = Decimal(value)
    if number > Decimal("1e15"):
        raise params(f"{name} invalid")
    return number


def decimal_or_none(value: str | None, name: str) -> Decimal | None:
    """None for a field that is absent or "", which both mean: leave it."""
    return None if value is None or value == "" else decimal(value, name)


def integer(value: str | None, name: str) -> int | None:
    if value is None or value == "":
        return None
    if not value.isdecimal():
        raise params(f"{name} invalid")
    return int(value)
