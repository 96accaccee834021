"""Private GET endpoints: what an account holds and did.

https://bybit-exchange.github.io/docs/v5/order/open-order, /order/order-list, /order/execution, /position,
/position/close-pnl, /account/wallet-balance, /account/account-info, /account/fee-rate, /user/apikey-info
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar
from urllib.parse import quote

from simulator.bybit import account_rows, requests, rows
from simulator.bybit.errors import params
from simulator.bybit.rows import Row
from simulator.exchange import Exchange
from simulator.faults import FaultKind
from simulator.model import Account, Fill, Order, StopKind
from simulator.numbers import text

Query = dict[str, str]

SPAN_MS = 7 * 24 * 3600 * 1000
CLOSED_IN_REALTIME = 500  # /v5/order/realtime remembers this many ended orders


class _Numbered(Protocol):
    @property
    def seq(self) -> int: ...


N = TypeVar("N", bound=_Numbered)


def order_realtime(exchange: Exchange, account: Account, query: Query) -> Row:
    """Open orders; with an id or `openOnly=1` also those that ended lately."""
    requests.check_category(query.get("category"))
    order_id, link_id = query.get("orderId", ""), query.get("orderLinkId", "")
    if order_id or link_id:
        found = exchange.engine.find(account, order_id, link_id)
        wanted = [found] if found is not None and not _is_forgotten(exchange, found) else []
    else:
        if not (query.get("symbol") or query.get("settleCoin") or query.get("baseCoin")):
            raise params("symbol, settleCoin or baseCoin is required")
        if query.get("openOnly", "0") == "1":
            wanted = [o for o in reversed(account.orders.values()) if not o.is_open][:CLOSED_IN_REALTIME]
            wanted = [o for o in wanted if not _is_forgotten(exchange, o)]
        else:
            wanted = exchange.engine.open_orders(account)[::-1]
    picked = (o for o in wanted if _fits(exchange, o, query) and _passes_filter(o, query))
    return _page(exchange, _visible_orders(exchange, picked), query, 20, 50, rows.order_row)


def _is_forgotten(exchange: Exchange, order: Order) -> bool:
    """The memory of ended orders is lost when the exchange restarts; a fault says that it was."""
    forgets = exchange.faults.find(FaultKind.FORGET_CLOSED, exchange.now_s(), symbol=order.symbol)
    return forgets is not None and not order.is_open


def order_history(exchange: Exchange, account: Account, query: Query) -> Row:
    """Orders that ended, newest first."""
    requests.check_category(query.get("category"))
    found: Iterable[Order]
    if query.get("orderId") or query.get("orderLinkId"):
        one = exchange.engine.find(account, query.get("orderId", ""), query.get("orderLinkId", ""))
        found = [one] if one is not None else []
    else:
        start, end = _span(exchange, query)
        found = (o for o in reversed(account.orders.values()) if start <= o.created_ms <= end)
    status = query.get("orderStatus")
    picked = (
        o
        for o in found
        if not o.is_open and _fits(exchange, o, query) and status in (None, o.status.value) and _passes_filter(o, query)
    )
    return _page(exchange, _visible_orders(exchange, picked), query, 20, 50, rows.order_row)


def execution_list(exchange: Exchange, account: Account, query: Query) -> Row:
    """Fills, newest first; an id overrides the other filters."""
    requests.check_category(query.get("category"))
    found: Iterator[Fill] = reversed(account.fills)
    if query.get("orderId") or query.get("orderLinkId"):
        order = exchange.engine.find(account, query.get("orderId", ""), query.get("orderLinkId", ""))
        found = (f for f in found if order is not None and f.order_id == order.order_id)
    else:
        start, end = _span(exchange, query)
        if query.get("symbol"):
            exchange.engine.market(query["symbol"])
        symbol, kind = query.get("symbol"), query.get("execType")
        found = (
            f for f in found if start <= f.at_ms <= end and symbol in (None, f.symbol) and kind in (None, f.exec_type)
        )
    newest_ms = _newest_visible_ms(exchange, query.get("symbol", ""))
    seen = (f for f in found if f.at_ms <= newest_ms)
    return _page(exchange, seen, query, 50, 100, rows.execution_row)


def position_list(exchange: Exchange, account: Account, query: Query) -> Row:
    """By symbol: its row even when flat. By settleCoin: only what is open."""
    requests.check_category(query.get("category"))
    _limit(query, 20, 200)
    engine = exchange.engine
    if symbol := query.get("symbol"):
        engine.market(symbol)
        views = engine.views(account, symbol)
    elif query.get("settleCoin"):
        held = engine.held(account) if query["settleCoin"] == "USDT" else []
        views = [engine.view(account, p.symbol, p.position_side) for p in held]
    else:
        raise params("symbol or settleCoin is required")
    return {"list": [account_rows.position_row(v) for v in views], "nextPageCursor": "", "category": "linear"}


def closed_pnl(exchange: Exchange, account: Account, query: Query) -> Row:
    requests.check_category(query.get("category"))
    start, end = _span(exchange, query)
    found = (
        o
        for o in reversed(account.orders.values())
        if o.closed_qty and start <= o.updated_ms <= end and _fits(exchange, o, query)
    )

    def row(order: Order) -> Row:
        return rows.closed_pnl_row(order, exchange.engine.leverage(account, order.symbol))

    return _page(exchange, found, query, 50, 100, row)


def wallet_balance(exchange: Exchange, account: Account, query: Query) -> Row:
    if query.get("accountType") != "UNIFIED":
        raise params("accountType only support UNIFIED.")
    row = account_rows.wallet_row(exchange.engine, account)
    coins = query.get("coin")
    if coins and "USDT" not in coins.split(","):
        row["coin"] = []
    return {"list": [row]}


def account_info(exchange: Exchange, account: Account, query: Query) -> Row:
    return {
        "marginMode": "ISOLATED_MARGIN" if account.isolated else "REGULAR_MARGIN",
        "updatedTime": str(exchange.now_ms()),
        "unifiedMarginStatus": 5,
        "dcpStatus": "OFF",
        "timeWindow": 10,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }


def fee_rate(exchange: Exchange, account: Account, query: Query) -> Row:
    if symbol := query.get("symbol"):
        exchange.engine.market(symbol)
    fees = {"takerFeeRate": text(account.taker_fee), "makerFeeRate": text(account.maker_fee)}
    symbols = [query["symbol"]] if query.get("symbol") else list(exchange.engine.markets)
    return {"list": [{"symbol": s, **fees} for s in symbols]}


def query_api(exchange: Exchange, account: Account, query: Query) -> Row:
    """What the key may do. One that is bound to addresses never lapses."""
    key = exchange.keys[account.name]
    return {
        "id": "1",
        "note": "simulator",
        "apiKey": account.name,
        "readOnly": int(key.read_only),
        "secret": "",
        "permissions": {
            "ContractTrade": ["Order", "Position"] if key.trade else [],
            "Spot": [],
            "Wallet": ["AccountTransfer", "Withdraw"] if key.withdraw else [],
            "Options": [],
            "Derivatives": ["DerivativesTrade"] if key.trade else [],
            "Exchange": [],
            "Earn": [],
        },
        "ips": key.ips or ["*"],
        "type": 1,
        "deadlineDay": 0 if key.ips else 90,
        "expiredAt": "1970-01-01T00:00:00Z" if key.ips else "2099-01-01T00:00:00Z",
        "createdAt": "2024-01-01T00:00:00Z",
        "unified": 0,
        "uta": 1,
        "userID": 1,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": key.public_key,
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
    }


def _fits(exchange: Exchange, order: Order, query: Query) -> bool:
    if symbol := query.get("symbol"):
        exchange.engine.market(symbol)
        return order.symbol == symbol
    if base := query.get("baseCoin"):
        return exchange.engine.market(order.symbol).instrument.base_coin == base
    return query.get("settleCoin", "USDT") == "USDT"


def _passes_filter(order: Order, query: Query) -> bool:
    match query.get("orderFilter"):
        case "Order":
            return order.stop_kind is StopKind.NONE
        case "StopOrder":
            return order.stop_kind is not StopKind.NONE
        case _:
            return True


def _visible_orders(exchange: Exchange, orders: Iterable[Order]) -> Iterator[Order]:
    for order in orders:
        if order.created_ms <= _newest_visible_ms(exchange, order.symbol):
            yield order


def _newest_visible_ms(exchange: Exchange, symbol: str) -> int:
    """Read-after-write lag, when a fault asks for it."""
    fault = exchange.faults.find(FaultKind.LATE_VISIBLE, exchange.now_s(), symbol=symbol)
    return exchange.now_ms() - (fault.ms or 0 if fault else 0)


def _span(exchange: Exchange, query: Query) -> tuple[int, int]:
    """From and to, ms; seven days at most, and the seven days beside the one end that is given."""
    start = requests.integer(query.get("startTime"), "startTime")
    end = requests.integer(query.get("endTime"), "endTime")
    if start is None:
        end = exchange.now_ms() if end is None else end
        return end - SPAN_MS, end
    if end is None:
        return start, start + SPAN_MS
    if end < start:
        raise params("startTime should be less than endTime")
    if end - start > SPAN_MS:
        raise params("The time range between startTime and endTime cannot exceed 7 days")
    return start, end


def _limit(query: Query, usual: int, most: int) -> int:
    limit = requests.integer(query.get("limit"), "limit") or usual
    if limit > most:
        raise params("limit invalid")
    return limit


def _page(
    exchange: Exchange,
    newest_first: Iterable[N],
    query: Query,
    usual: int,
    most: int,
    row: Callable[[N], Row],
) -> Row:
    """One page. The cursor is the number of the last row given, so that rows arriving meanwhile shift nothing."""
    limit = _limit(query, usual, most)
    cursor = re.fullmatch(r"page_token=(\d+)&", query.get("cursor", ""))
    if query.get("cursor") and cursor is None:
        raise params("cursor invalid")
    below = int(cursor[1]) if cursor else None
    page: list[N] = []
    more = False
    for item in newest_first:
        if below is not None and item.seq >= below:
            continue
        if len(page) == limit:
            more = True
            break
        page.append(item)
    return {
        "list": [row(item) for item in page],
        "nextPageCursor": quote(f"page_token={page[-1].seq}&", safe="") if more else "",
        "category": "linear",
    }


ENDPOINTS: dict[str, Callable[[Exchange, Account, Query], Row]] = {
    "/v5/order/realtime": order_realtime,
    "/v5/order/history": order_history,
    "/v5/execution/list": execution_list,
    "/v5/position/list": position_list,
    "/v5/position/closed-pnl": closed_pnl,
    "/v5/account/wallet-balance": wallet_balance,
    "/v5/account/info": account_info,
    "/v5/account/fee-rate": fee_rate,
    "/v5/user/query-api": query_api,
}
