"""Private reading: balances, positions, trades, income, settings.

https://developers.binance.com/docs/derivatives/usds-margined-futures/account/rest-api and its neighbours
"""

import itertools
from typing import Any

from simulator.binance import account_rows as rows
from simulator.binance.context import Context
from simulator.binance.endpoint import Endpoint, signed
from simulator.binance.errors import error
from simulator.binance.market_rows import rate_limit_rows
from simulator.binance.names import DAY_MS, order_id, symbol_here
from simulator.binance.params import Params
from simulator.binance.rows import income_rows, trade_id, user_trade_row
from simulator.model import Account, ExecType, Fill
from simulator.numbers import text

WEEK_MS = 7 * DAY_MS


def balance(context: Context, account: Account, params: Params) -> Any:
    alias = account.name.replace("-", "")[:4]
    return [rows.balance_row(rows.Wallet(context.engine, account), alias)]


def account_v3(context: Context, account: Account, params: Params) -> Any:
    engine = context.engine
    wallet = rows.Wallet(engine, account)
    live = [p for symbol in engine.markets for p in rows.live_positions(engine, account, symbol)]
    return {
        **rows.totals(wallet),
        "assets": [rows.asset_row(wallet)],
        "positions": [rows.account_position_v3(rows.Figures(engine, account, p)) for p in live],
    }


def account_v2(context: Context, account: Account, params: Params) -> Any:
    engine = context.engine
    wallet = rows.Wallet(engine, account)
    every = [p for symbol in engine.markets for p in rows.all_positions(engine, account, symbol, with_both=True)]
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
        **rows.totals(wallet),
        "assets": [rows.asset_row(wallet) | {"marginAvailable": True}],
        "positions": [rows.account_position_v2(rows.Figures(engine, account, p)) for p in every],
    }


def account_config(context: Context, account: Account, params: Params) -> Any:
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": account.hedge,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


def symbol_config(context: Context, account: Account, params: Params) -> Any:
    return [rows.symbol_config_row(context.engine, account, m.instrument) for m in _markets(context, params)]


def _markets(context: Context, params: Params) -> list[Any]:
    one = context.maybe_market(params)
    return [one] if one is not None else list(context.engine.markets.values())


def position_risk_v3(context: Context, account: Account, params: Params) -> Any:
    """A flat symbol without orders has no row."""
    engine = context.engine
    live = [p for m in _markets(context, params) for p in rows.live_positions(engine, account, m.instrument.symbol)]
    seen = [p for p in live if not context.is_hidden(p.opened_ms, "/fapi/v3/positionRisk", p.symbol)]
    return [rows.position_v3(rows.Figures(engine, account, p)) for p in seen]


def position_risk_v2(context: Context, account: Account, params: Params) -> Any:
    engine = context.engine
    every = [p for m in _markets(context, params) for p in rows.all_positions(engine, account, m.instrument.symbol)]
    return [rows.position_v2(rows.Figures(engine, account, p)) for p in every]


def leverage_bracket(context: Context, account: Account, params: Params) -> Any:
    return [rows.bracket_row(m.instrument) for m in _markets(context, params)]


def commission_rate(context: Context, account: Account, params: Params) -> Any:
    return {
        "symbol": symbol_here(context.market(params).instrument.symbol),
        "makerCommissionRate": text(account.maker_fee),
        "takerCommissionRate": text(account.taker_fee),
        "rpiCommissionRate": "0.00005",
    }


def user_trades(context: Context, account: Account, params: Params) -> Any:
    """Oldest first: from `fromId`, or of a span of at most seven days, the last seven when none is given."""
    market = context.market(params)
    symbol = market.instrument.symbol
    start, end = params.span(WEEK_MS)
    first = params.maybe_integer("fromId")
    if first is not None and (start is not None or end is not None):
        raise error(-1128)
    of_order = params.maybe_integer("orderId")
    limit = params.limit(500, 1000)
    if first is None:
        start, end = _week(context, start, end)
    picked = [
        (fill, order)
        for fill in _since(account.fills, start)
        if fill.symbol == symbol
        and fill.exec_type is not ExecType.FUNDING
        and (order := account.orders.get(fill.order_id)) is not None
        and (of_order is None or order_id(order) == of_order)
        and (first is None or trade_id(fill) >= first)
        and _in_span(fill, start, end)
        and not context.is_hidden(fill.at_ms, "/fapi/v1/userTrades", symbol)
    ]
    page = picked[:limit] if first is not None or "startTime" in params else picked[-limit:]
    return [user_trade_row(fill, order, market.instrument) for fill, order in page]


def _since(fills: list[Fill], start: int | None) -> list[Fill]:
    """Those from an instant on, without a look at all that were before."""
    if start is None:
        return fills
    return list(itertools.takewhile(lambda fill: fill.at_ms >= start, reversed(fills)))[::-1]


def _week(context: Context, start: int | None, end: int | None) -> tuple[int, int]:
    if start is None:
        end = context.now_ms() if end is None else end
        return end - WEEK_MS, end
    return start, start + WEEK_MS if end is None else end


def _in_span(fill: Fill, start: int | None, end: int | None) -> bool:
    return (start is None or fill.at_ms >= start) and (end is None or fill.at_ms <= end)


def income(context: Context, account: Account, params: Params) -> Any:
    market = context.maybe_market(params)
    kind = params.maybe("incomeType")
    start, end = params.span()
    page = params.maybe_integer("page") or 1
    limit = params.limit(100, 1000)
    if start is None and end is None:
        start, end = _week(context, start, end)
    picked = [
        row
        for fill in account.fills
        if (market is None or fill.symbol == market.instrument.symbol) and _in_span(fill, start, end)
        for row in income_rows(fill)
        if kind in (None, row["incomeType"])
    ]
    return picked[(page - 1) * limit : page * limit]


def rate_limit_order(context: Context, account: Account, params: Params) -> Any:
    minute, ten_seconds = rate_limit_rows(context.limits)[1:]
    return [ten_seconds, minute]


def multi_assets(context: Context, account: Account, params: Params) -> Any:
    return {"multiAssetsMargin": False}


def position_mode(context: Context, account: Account, params: Params) -> Any:
    return {"dualSidePosition": account.hedge}


def api_restrictions(context: Context, account: Account, params: Params) -> Any:
    key = context.exchange.keys[account.name]
    return {
        "ipRestrict": bool(key.ips),
        "createTime": 1698645219000,
        "enableReading": True,
        "enableWithdrawals": key.withdraw,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": key.trade and not key.read_only,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": False,
        "enablePortfolioMarginTrading": False,
    }


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/fapi/v2/balance"): signed(balance, "", 5),
    ("GET", "/fapi/v3/balance"): signed(balance, "", 5),
    ("GET", "/fapi/v2/account"): signed(account_v2, "", 5),
    ("GET", "/fapi/v3/account"): signed(account_v3, "", 5),
    ("GET", "/fapi/v1/accountConfig"): signed(account_config, "", 5),
    ("GET", "/fapi/v1/symbolConfig"): signed(symbol_config, "symbol", 5),
    ("GET", "/fapi/v2/positionRisk"): signed(position_risk_v2, "symbol", 5),
    ("GET", "/fapi/v3/positionRisk"): signed(position_risk_v3, "symbol", 5),
    ("GET", "/fapi/v1/leverageBracket"): signed(leverage_bracket, "symbol", 1),
    ("GET", "/fapi/v1/commissionRate"): signed(commission_rate, "symbol", 20),
    ("GET", "/fapi/v1/userTrades"): signed(user_trades, "symbol orderId startTime endTime fromId limit", 5),
    ("GET", "/fapi/v1/income"): signed(income, "symbol incomeType startTime endTime page limit", 30),
    ("GET", "/fapi/v1/rateLimit/order"): signed(rate_limit_order, "", 1),
    ("GET", "/fapi/v1/multiAssetsMargin"): signed(multi_assets, "", 30),
    ("GET", "/fapi/v1/positionSide/dual"): signed(position_mode, "", 30),
    ("GET", "/sapi/v1/account/apiRestrictions"): signed(api_restrictions, "", 1),
}
