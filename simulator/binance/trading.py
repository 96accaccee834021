"""Ordinary orders: new, cancel, modify, query.

https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from simulator.binance import filters, names, rows
from simulator.binance.account import WEEK_MS
from simulator.binance.context import Asked, Context
from simulator.binance.endpoint import Endpoint, signed
from simulator.binance.errors import error
from simulator.binance.market_data import by_symbol
from simulator.binance.params import Params
from simulator.faults import FaultKind
from simulator.market import Market
from simulator.model import Account, NewOrder, Order, OrderChange, OrderStatus, OrderType, TimeInForce

PATH = "/fapi/v1/order"
ALGO_TYPES = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
STP_MODES = frozenset({"NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"})
TIMES_IN_FORCE = frozenset({"GTC", "IOC", "FOK", "GTX", "GTD"})

_TIF = {"GTX": TimeInForce.POST_ONLY, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}

_NEW = (
    "symbol side type positionSide quantity price timeInForce reduceOnly newClientOrderId newOrderRespType "
    "priceMatch selfTradePreventionMode goodTillDate"
)
_FAULTS = (FaultKind.REJECT_ASYNC, FaultKind.PARTIAL_FILL, FaultKind.SPLIT_FILL)
_REF = "symbol orderId origClientOrderId"
_DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}


class Prepared(NamedTuple):
    market: Market
    new: NewOrder
    asked: Asked
    result: bool  # the final state is wanted in the answer
    channel: str


def new_order(context: Context, account: Account, params: Params) -> Any:
    prepared = _prepare(context, account, params)
    order = _place(context, account, prepared)
    i = prepared.market.instrument
    row = rows.new_order_row if prepared.result else rows.ack_row
    return row(order, i, prepared.asked)


def test_order(context: Context, account: Account, params: Params) -> Any:
    _prepare(context, account, params)
    return {}


def _prepare(context: Context, account: Account, params: Params) -> Prepared:
    market = context.market(params)
    side = params.side()
    kind = params.text("type")
    if kind in ALGO_TYPES:
        raise error(-4120)
    if kind not in ("LIMIT", "MARKET"):
        raise error(-1116)
    at_market = kind == "MARKET"
    position_side = filters.position_side(account, params)
    reduce_only = filters.reduce_only(account, params)
    tif, price = _tif_and_price(params, at_market=at_market)
    qty = params.decimal("quantity")
    client_id = params.client_id("newClientOrderId") or ""
    result = params.choice("newOrderRespType", frozenset({"ACK", "RESULT"}), -1130, "ACK") == "RESULT"
    params.choice("priceMatch", frozenset({"NONE"}), -1130, "NONE")
    stp = params.choice("selfTradePreventionMode", STP_MODES, -1130, "EXPIRE_MAKER")
    good_till_ms = params.integer("goodTillDate") if tif == "GTD" else 0
    closing = filters.closes(side, position_side)
    filters.check_trading(market, reduces=reduce_only or closing)
    i = market.instrument
    filters.check_qty(i, qty, at_market=at_market)
    if price is not None:
        filters.check_price(i, price)
        filters.check_band(market, side, price)
    else:
        filters.check_market_band(market, side)
    if not (reduce_only or closing):
        filters.check_notional(market, qty, price)
    if client_id and find_open(context, account, client_id, algo=False):
        raise error(-4116)
    filters.check_counts(context, account, i.symbol, algo=False)
    new = NewOrder(
        symbol=i.symbol,
        side=side,
        type=OrderType.MARKET if at_market else OrderType.LIMIT,
        qty=qty,
        position_side=position_side,
        price=price,
        time_in_force=_TIF.get(tif, TimeInForce.GTC),
        client_order_id=client_id,
        reduce_only=reduce_only,
        reuse_ids=True,
    )
    _check_leg(context, account, new, closing=closing)
    if not (reduce_only or closing):
        filters.check_bracket(context, account, market, new)
    if tif == "GTX" and _takes(market, new):
        raise error(-5022)
    shown_tif = "" if at_market else tif
    asked = Asked(stp=stp, good_till_ms=good_till_ms, time_in_force=shown_tif)
    return Prepared(market, new, asked, result, params.channel)


def _tif_and_price(params: Params, *, at_market: bool) -> tuple[str, Decimal | None]:
    if at_market:
        for name in ("price", "timeInForce", "goodTillDate"):
            if name in params:
                raise error(-1106, name)
        return "", None
    params.text("timeInForce")
    tif = params.choice("timeInForce", TIMES_IN_FORCE, -1115, "")
    return tif, params.decimal("price")


def _check_leg(context: Context, account: Account, new: NewOrder, *, closing: bool) -> None:
    """In hedge mode a close cannot exceed its leg; what rests against it counts."""
    if not closing:
        return
    resting = sum(
        (
            o.leaves_qty
            for o in context.engine.open_orders(account, new.symbol)
            if o.position_side is new.position_side and o.reduce_only and o.status is not OrderStatus.UNTRIGGERED
        ),
        Decimal(0),
    )
    if new.qty + resting > context.engine.position(account, new.symbol, new.position_side).size:
        raise error(-2022)


def _takes(market: Market, new: NewOrder) -> bool:
    assert new.price is not None
    return market.last <= new.price if new.side.sign > 0 else market.last >= new.price


def _place(context: Context, account: Account, prepared: Prepared) -> Order:
    """A refused order uses up no fault: ask what is there, take it once the order is in."""
    exchange, new = context.exchange, prepared.new
    now_s, where = exchange.now_s(), {"path": PATH, "symbol": new.symbol, "channel": prepared.channel}
    found = {kind: exchange.faults.find(kind, now_s, **where) for kind in _FAULTS}
    reject, partial, split = (found[kind] for kind in _FAULTS)
    share = Decimal(partial.fraction) if partial is not None and partial.fraction and not reject else None
    unfillable = share is not None and new.time_in_force is TimeInForce.FOK
    order = None
    if not unfillable:
        order = exchange.engine.place(
            account,
            new,
            exchange.now_ms(),
            fill_share=share,
            in_two=split is not None,
            reject=reject is not None,
        )
        context.asked[order.seq] = prepared.asked
    for kind, fault in found.items():
        if fault is not None and (reject is None or kind is FaultKind.REJECT_ASYNC):
            exchange.faults.take(kind, now_s, **where)
    if order is None:
        raise error(-5021)
    return order


# --- which order is meant


def is_ordinary(order: Order) -> bool:
    """Whether the ordinary endpoints see it: conditional orders only once they fired."""
    return not names.is_algo(order) or names.has_fired(order)


def find_open(context: Context, account: Account, client_id: str, *, algo: bool) -> Order | None:
    """The open order with this client's id: of the conditional orders, or of the ordinary ones."""
    for order in context.engine.open_orders(account):
        if order.client_order_id == client_id and algo is (order.status is OrderStatus.UNTRIGGERED):
            return order
    return None


def _referred(context: Context, account: Account, params: Params) -> tuple[Market, Order | None]:
    """By either id; the exchange's wins. Of an id used several times the newest."""
    market = context.market(params)
    number, client_id = params.maybe_integer("orderId"), params.maybe("origClientOrderId")
    if number is None and client_id is None:
        raise error(-1102, "orderId")
    for order in _candidates(context, account, number, client_id):
        same = names.order_id(order) == number if number is not None else rows.client_id(order) == client_id
        if same and order.symbol == market.instrument.symbol and is_ordinary(order):
            return market, order
    return market, None


def _candidates(context: Context, account: Account, number: int | None, client_id: str | None) -> Iterator[Order]:
    """The newest with this id first, without walking through all of them where that can be avoided."""
    if number is None and client_id is not None:
        likely = context.engine.find(account, client_order_id=client_id)
        if likely is not None:
            yield likely
    yield from reversed(account.orders.values())


def _visible(context: Context, order: Order | None, path: str) -> bool:
    return order is not None and not context.is_hidden(rows.created_ms(order), path, order.symbol)


# --- cancel and modify


def cancel(context: Context, account: Account, params: Params) -> Any:
    market, order = _referred(context, account, params)
    if order is None or not order.is_open:
        raise error(-2011)
    context.engine.cancel(account, order, context.now_ms())
    return rows.new_order_row(order, market.instrument, context.asked_of(order))


def cancel_all(context: Context, account: Account, params: Params) -> Any:
    """Conditional orders stay."""
    cancel_ordinary(context, account, context.market(params).instrument.symbol)
    return _DONE


def cancel_ordinary(context: Context, account: Account, symbol: str) -> None:
    for order in context.engine.open_orders(account, symbol):
        if order.is_open and is_ordinary(order):
            context.engine.cancel(account, order, context.now_ms())


def modify(context: Context, account: Account, params: Params) -> Any:
    market, order = _referred(context, account, params)
    side, qty, price = params.side(), params.decimal("quantity"), params.decimal("price")
    if order is None or not order.is_open:
        raise error(-2013)
    if order.type is not OrderType.LIMIT:
        raise error(-1116)
    if order.side is not side:
        raise error(-1117)
    i = market.instrument
    filters.check_qty(i, qty, at_market=False)
    filters.check_price(i, price)
    filters.check_band(market, side, price)
    if qty == order.qty and price == order.price:
        raise error(-5027)
    if qty <= order.filled_qty:
        context.engine.cancel(account, order, context.now_ms())
    else:
        context.engine.amend(account, order, OrderChange(qty=qty, price=price), context.now_ms())
    return rows.amended_row(order, i, context.asked_of(order))


def countdown(context: Context, account: Account, params: Params) -> Any:
    market = context.market(params)
    wait_ms = params.integer("countdownTime")
    key = (account.name, market.instrument.symbol)
    if wait_ms:
        context.countdowns[key] = context.exchange.now_s() + wait_ms / 1000
    else:
        context.countdowns.pop(key, None)
    return {"symbol": names.symbol_here(market.instrument.symbol), "countdownTime": str(wait_ms)}


# --- query


def query(context: Context, account: Account, params: Params) -> Any:
    market, order = _referred(context, account, params)
    if order is None or not _visible(context, order, PATH):
        raise error(-2013)
    return rows.query_row(order, market.instrument, context.asked_of(order))


def open_order(context: Context, account: Account, params: Params) -> Any:
    market, order = _referred(context, account, params)
    if order is None or not order.is_open or not _visible(context, order, "/fapi/v1/openOrder"):
        raise error(-2013)
    return rows.open_row(order, market.instrument, context.asked_of(order))


def open_orders(context: Context, account: Account, params: Params) -> Any:
    market = context.maybe_market(params)
    found = context.engine.open_orders(account, market.instrument.symbol if market else "")
    return _rows(context, found, "/fapi/v1/openOrders", rows.open_row)


def all_orders(context: Context, account: Account, params: Params) -> Any:
    market = context.market(params)
    symbol = market.instrument.symbol
    first = params.maybe_integer("orderId")
    start, end = params.span(WEEK_MS)
    limit = params.limit(500, 1000)
    found = [
        o
        for o in account.orders.values()
        if o.symbol == symbol
        and (first is None or names.order_id(o) >= first)
        and (start or 0) <= rows.created_ms(o) <= (end or rows.created_ms(o))
    ]
    answer = _rows(context, sorted(found, key=names.order_id), "/fapi/v1/allOrders", rows.query_row)
    return answer[-limit:] if first is None and start is None else answer[:limit]


def _rows(context: Context, found: Iterable[Order], path: str, row: Any) -> list[rows.Row]:
    return [
        row(o, context.engine.market(o.symbol).instrument, context.asked_of(o))
        for o in found
        if is_ordinary(o) and _visible(context, o, path)
    ]


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", PATH): signed(new_order, _NEW, 0, counts_order=True, trades=True),
    ("POST", "/fapi/v1/order/test"): signed(test_order, _NEW, 0, counts_order=True, trades=True),
    ("PUT", PATH): signed(modify, f"{_REF} side quantity price priceMatch", 1, counts_order=True, trades=True),
    ("DELETE", PATH): signed(cancel, _REF, 1, trades=True),
    ("DELETE", "/fapi/v1/allOpenOrders"): signed(cancel_all, "symbol", 1, trades=True),
    ("POST", "/fapi/v1/countdownCancelAll"): signed(countdown, "symbol countdownTime", 10, trades=True),
    ("GET", PATH): signed(query, _REF, 1),
    ("GET", "/fapi/v1/openOrder"): signed(open_order, _REF, 1),
    ("GET", "/fapi/v1/openOrders"): signed(open_orders, "symbol", by_symbol(1, 40)),
    ("GET", "/fapi/v1/allOrders"): signed(all_orders, "symbol orderId startTime endTime limit", 5),
}
