"""An account's settings, and its listen key.

https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api/Change-Initial-Leverage and its
neighbours. The position mode is the account's, the margin mode a symbol's.
"""

from decimal import Decimal
from typing import Any

from simulator.binance.brackets import max_notional
from simulator.binance.context import Context
from simulator.binance.endpoint import Access, Endpoint, signed
from simulator.binance.errors import error
from simulator.binance.names import symbol_here
from simulator.binance.params import Params
from simulator.model import Account, Reason, Refused

LEVERAGE_MAX = 125
_SUCCESS = {"code": 200, "msg": "success"}

_MODE_CODES = {
    Reason.POSITION_MODE_NOT_MODIFIED: -4059,
    Reason.POSITION_MODE_ORDERS: -4067,
    Reason.POSITION_MODE_HELD: -4068,
    Reason.MARGIN_MODE_NOT_MODIFIED: -4046,
    Reason.MARGIN_MODE_ORDERS: -4047,
    Reason.MARGIN_MODE_HELD: -4048,
}


def set_leverage(context: Context, account: Account, params: Params) -> Any:
    """The same value again succeeds."""
    market = context.market(params)
    i = market.instrument
    wanted = params.integer("leverage")
    if not 1 <= wanted <= min(LEVERAGE_MAX, int(i.max_leverage)):
        raise error(-4028, wanted)
    leverage = Decimal(wanted)
    cap = max_notional(i, leverage)
    if any(p.size * market.mark > cap for p in context.engine.positions(account, i.symbol)):
        raise error(-2027)
    try:
        context.engine.set_leverage(account, i.symbol, leverage)
    except Refused as refused:
        if refused.reason is not Reason.LEVERAGE_NOT_MODIFIED:
            raise error(-4028, wanted) from None
    else:
        context.exchange.changed = True
        context.tell_leverage(account.name, i.symbol, wanted)
    return {"leverage": wanted, "maxNotionalValue": str(cap), "symbol": symbol_here(i.symbol)}


def set_margin_type(context: Context, account: Account, params: Params) -> Any:
    market = context.market(params)
    kind = params.text("marginType")
    if kind not in ("ISOLATED", "CROSSED"):
        raise error(-1130, "marginType")
    try:
        context.engine.set_margin_mode(account, market.instrument.symbol, kind == "ISOLATED")
    except Refused as refused:
        raise error(_MODE_CODES[refused.reason]) from None
    context.exchange.changed = True
    return _SUCCESS


def set_position_mode(context: Context, account: Account, params: Params) -> Any:
    params.text("dualSidePosition")
    hedge = params.boolean("dualSidePosition")
    try:
        context.engine.set_position_mode(account, None, hedge)
    except Refused as refused:
        raise error(_MODE_CODES[refused.reason]) from None
    context.exchange.changed = True
    return _SUCCESS


def open_listen_key(context: Context, account: Account, params: Params) -> Any:
    return {"listenKey": context.listen_keys.open(account.name)}


def keep_listen_key(context: Context, account: Account, params: Params) -> Any:
    if context.listen_keys.of(account.name) is None:
        raise error(-1125)
    return {"listenKey": context.listen_keys.open(account.name)}


def close_listen_key(context: Context, account: Account, params: Params) -> Any:
    """Ends for everybody who uses the key."""
    if context.listen_keys.of(account.name) is None:
        raise error(-1125)
    context.end_listen_key(account.name, told=False)
    return {}


_LISTEN_KEY = "/fapi/v1/listenKey"
# By the header alone; that of the key itself is not needed, and taken when sent.
_KEY_NAMES = frozenset({"listenKey"})

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/fapi/v1/leverage"): signed(set_leverage, "symbol leverage", 1, trades=True),
    ("POST", "/fapi/v1/marginType"): signed(set_margin_type, "symbol marginType", 1, trades=True),
    ("POST", "/fapi/v1/positionSide/dual"): signed(set_position_mode, "dualSidePosition", 1, trades=True),
    ("POST", _LISTEN_KEY): Endpoint(open_listen_key, Access.KEY, _KEY_NAMES, 1),
    ("PUT", _LISTEN_KEY): Endpoint(keep_listen_key, Access.KEY, _KEY_NAMES, 1),
    ("DELETE", _LISTEN_KEY): Endpoint(close_listen_key, Access.KEY, _KEY_NAMES, 1),
}
