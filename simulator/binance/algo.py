"""Conditional orders: they wait here, and become ordinary orders of the same client id when their price comes.

https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api/New-Algo-Order
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from simulator.binance import filters, names, rows
from simulator.binance.context import Asked, Context
from simulator.binance.endpoint import Endpoint, signed
from simulator.binance.errors import error
from simulator.binance.market_data import by_symbol
from simulator.binance.params import Params
from simulator.binance.trading import ALGO_TYPES, STP_MODES, TIMES_IN_FORCE, find_open
from simulator.market import Market
from simulator.model import (
    Account,
    EndReason,
    NewOrder,
    Order,
    OrderStatus,
    OrderType,
    PositionSide,
    Side,
    TimeInForce,
    TriggerBy,
)

PATH = "/fapi/v1/algoOrder"

_NEW = (
    "algoType symbol side type positionSide quantity price triggerPrice workingType closePosition priceProtect "
    "reduceOnly timeInForce clientAlgoId activatePrice callbackRate priceMatch selfTradePreventionMode goodTillDate "
    "newOrderRespType"
)
_REF = "algoId clientAlgoId"
_DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}
_TIF = {"GTX": TimeInForce.POST_ONLY, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}


def new_algo(context: Context, account: Account, params: Params) -> Any:
    if params.text("algoType") != "CONDITIONAL":
        raise error(-1130, "algoType")
    market = context.market(params)
    side = params.side()
    kind = params.text("type")
    if kind not in ALGO_TYPES or kind == "TRAILING_STOP_MARKET":  # trailing ones are not made here
        raise error(-1116)
    position_side = filters.position_side(account, params)
    close_position = params.boolean("closePosition")
    reduce_only = _reduce_only(account, params, close_position=close_position)
    at_market = kind.endswith("_MARKET")
    if close_position and not at_market:
        raise error(-4136, kind)
    trigger = params.decimal("triggerPrice")
    price, tif = _price_and_tif(params, at_market=at_market)
    qty = Decimal(0) if close_position else params.decimal("quantity")
    client_id = params.client_id("clientAlgoId") or ""
    working = params.choice("workingType", frozenset({"CONTRACT_PRICE", "MARK_PRICE"}), -1130, "CONTRACT_PRICE")
    asked = Asked(
        price_protect=_flag(params, "priceProtect"),
        stp=params.choice("selfTradePreventionMode", STP_MODES, -1130, "EXPIRE_MAKER"),
        good_till_ms=params.maybe_integer("goodTillDate") or 0,
        time_in_force=tif,
    )
    closing = close_position or reduce_only or filters.closes(side, position_side)
    filters.check_trading(market, reduces=closing)
    i = market.instrument
    filters.check_price(i, trigger)
    if price is not None:
        filters.check_price(i, price)
    rises = (side is Side.BUY) == kind.startswith("STOP")
    new = NewOrder(
        symbol=i.symbol,
        side=side,
        type=OrderType.MARKET if at_market else OrderType.LIMIT,
        qty=qty,
        position_side=position_side,
        price=price,
        time_in_force=_TIF.get(tif, TimeInForce.GTC),
        client_order_id=client_id,
        reduce_only=reduce_only or close_position,
        trigger_price=trigger,
        trigger_direction=1 if rises else 2,
        trigger_by=TriggerBy.LAST if working == "CONTRACT_PRICE" else TriggerBy.MARK,
        close_position=close_position,
        reuse_ids=True,
        stops_max=filters.MAX_ALGO_ORDERS,
    )
    if client_id and find_open(context, account, client_id, algo=True):
        raise error(-4116)
    filters.check_counts(context, account, i.symbol, algo=True)
    if close_position:
        _check_closing(context, account, new, kind)
    else:
        filters.check_qty(i, qty, at_market=at_market)
        if not closing:
            filters.check_notional(market, qty, price or trigger)
    _check_trigger(market, new)
    order = context.engine.place(account, new, context.now_ms())
    context.asked[order.seq] = asked
    return rows.new_algo_row(order, i, asked)


def _flag(params: Params, name: str) -> bool:
    """These are written in capitals in the documentation, unlike the others."""
    value = params.maybe(name)
    if value is not None and value.lower() not in ("true", "false"):
        raise error(-1130, name)
    return value is not None and value.lower() == "true"


def _reduce_only(account: Account, params: Params, *, close_position: bool) -> bool:
    if close_position:
        for name in ("quantity", "reduceOnly"):
            if name in params:
                raise error(-1106, name.lower())
        return False
    return filters.reduce_only(account, params)


def _price_and_tif(params: Params, *, at_market: bool) -> tuple[Decimal | None, str]:
    tif = params.choice("timeInForce", TIMES_IN_FORCE, -1115, "GTC")
    if not at_market:
        return params.decimal("price"), tif
    if "price" in params:
        raise error(-1106, "price")
    return None, tif


def _check_closing(context: Context, account: Account, new: NewOrder, kind: str) -> None:
    """A stop for a whole position: the position must be there and seen, and the only one of its kind."""
    if new.position_side is not PositionSide.BOTH and not filters.closes(new.side, new.position_side):
        raise error(-1128)
    if any(_is_twin(order, new, kind) for order in _in_the_way(context, account, new.symbol)):
        raise error(-4130)
    position = context.engine.position(account, new.symbol, new.position_side)
    seen = position.opened_ms + context.options.position_lag_ms <= context.now_ms()
    if not position.reducible_by(new.side) or not seen:
        raise error(-4509)


def _is_twin(order: Order, new: NewOrder, kind: str) -> bool:
    same_leg = order.side is new.side and order.position_side is new.position_side
    return order.close_position and not order.fired_seq and same_leg and rows.algo_type(order) == kind


def _in_the_way(context: Context, account: Account, symbol: str) -> Iterator[Order]:
    """What waits, and what was cancelled a moment ago where the exchange is slow to forget it."""
    yield from context.engine.open_orders(account, symbol)
    if lag_ms := context.options.cancel_lag_ms:
        since_ms = context.now_ms() - lag_ms
        yield from (
            o
            for o in account.orders.values()
            if o.symbol == symbol and o.end_reason is EndReason.BY_USER and o.updated_ms > since_ms
        )


def _check_trigger(market: Market, new: NewOrder) -> None:
    assert new.trigger_price is not None
    now = market.reference(new.trigger_by)
    if now >= new.trigger_price if new.trigger_direction == 1 else now <= new.trigger_price:
        raise error(-2021)


def _referred(account: Account, params: Params) -> Order | None:
    """By either id, whatever the symbol; of an id used several times the newest."""
    number, client_id = params.maybe_integer("algoId"), params.maybe("clientAlgoId")
    if number is None and client_id is None:
        raise error(-1102, "algoId")
    for order in reversed(account.orders.values()):
        same = names.algo_id(order) == number if number is not None else rows.client_id(order) == client_id
        if same and names.is_algo(order):
            return order
    return None


def cancel(context: Context, account: Account, params: Params) -> Any:
    order = _referred(account, params)
    if order is None or order.status is not OrderStatus.UNTRIGGERED:
        raise error(-2011)
    context.engine.cancel(account, order, context.now_ms())
    row = {"algoId": names.algo_id(order), "clientAlgoId": rows.client_id(order)}
    return row | {"code": "200", "msg": "success"}


def cancel_all(context: Context, account: Account, params: Params) -> Any:
    symbol = context.market(params).instrument.symbol
    for order in context.engine.open_orders(account, symbol):
        if order.status is OrderStatus.UNTRIGGERED:
            context.engine.cancel(account, order, context.now_ms())
    return _DONE


def query(context: Context, account: Account, params: Params) -> Any:
    order = _referred(account, params)
    if order is None or context.is_hidden(order.created_ms, PATH, order.symbol):
        raise error(-2013)
    return _row(context, order)


def open_algos(context: Context, account: Account, params: Params) -> Any:
    params.maybe("algoType")
    market = context.maybe_market(params)
    number = params.maybe_integer("algoId")
    found = context.engine.open_orders(account, market.instrument.symbol if market else "")
    waiting = (o for o in found if o.status is OrderStatus.UNTRIGGERED and number in (None, names.algo_id(o)))
    return _rows(context, waiting, "/fapi/v1/openAlgoOrders")


def all_algos(context: Context, account: Account, params: Params) -> Any:
    symbol = context.market(params).instrument.symbol
    first = params.maybe_integer("algoId")
    start, end = params.span()
    limit, page = params.limit(500, 1000), params.maybe_integer("page") or 1
    found = [
        o
        for o in account.orders.values()
        if o.symbol == symbol
        and names.is_algo(o)
        and (first is None or names.algo_id(o) >= first)
        and (start or 0) <= o.created_ms <= (end or o.created_ms)
    ]
    return _rows(context, found[(page - 1) * limit : page * limit], "/fapi/v1/allAlgoOrders")


def _rows(context: Context, found: Iterable[Order], path: str) -> list[rows.Row]:
    return [_row(context, o) for o in found if not context.is_hidden(o.created_ms, path, o.symbol)]


def _row(context: Context, order: Order) -> rows.Row:
    return rows.algo_row(order, context.engine.market(order.symbol).instrument, context.asked_of(order))


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", PATH): signed(new_algo, _NEW, 0, counts_order=True, trades=True),
    ("DELETE", PATH): signed(cancel, _REF, 1, trades=True),
    ("GET", PATH): signed(query, _REF, 1),
    ("DELETE", "/fapi/v1/algoOpenOrders"): signed(cancel_all, "symbol", 1, trades=True),
    ("GET", "/fapi/v1/openAlgoOrders"): signed(open_algos, "algoType symbol algoId", by_symbol(1, 40)),
    ("GET", "/fapi/v1/allAlgoOrders"): signed(all_algos, "symbol algoId startTime endTime page limit", 5),
}
