"""Every refusal of the Bybit face: code and text, in one table.

Codes: https://bybit-exchange.github.io/docs/v5/error. The texts are those seen in traffic where known; the exchange
changes them at will, so no client may branch on them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from simulator.model import Reason, Refused


class ApiError(Exception):
    """A business error: HTTP 200 with this code and text."""

    def __init__(
        self, code: int, text: str, *, result: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.result = result or {}
        self.headers = headers or {}


class _Entry(NamedTuple):
    code: int
    text: str


PARAMS = 10001
CLOCK = 10002
BAD_KEY = 10003
BAD_SIGN = 10004
PERMISSION = 10005
TOO_MANY_VISITS = 10006
WRONG_ADDRESS = 10010
SERVER = 10016
RESTARTING = 10019
TOO_OFTEN_FOR_ADDRESS = 10403
UNKNOWN_OP = 10404
TOO_OFTEN_FOR_SYSTEM = 10429
AUTH_TWICE = 20001
REQ_ID_TWICE = 20006
EXPIRED = 33004
MARGIN_MODE_FAILED = 3400045

REQUESTS = {
    BAD_KEY: "API key is invalid.",
    PERMISSION: "Permission denied, please check your API key permissions.",
    WRONG_ADDRESS: "Unmatched IP, please check your API key's bound IP addresses.",
    EXPIRED: "Your api key has expired.",
    TOO_MANY_VISITS: "Too many visits. Exceeded the API Rate Limit.",
}

# Of the socket for orders alone.
ORDER_SOCKET = {
    SERVER: "Internal server error",
    RESTARTING: "ws trade service is restarting, do not accept new request",
    TOO_OFTEN_FOR_ADDRESS: "exceed IP rate limit",
    UNKNOWN_OP: "op type is not found",
    TOO_OFTEN_FOR_SYSTEM: "System level frequency protection",
    AUTH_TWICE: "Repeat auth",
    REQ_ID_TWICE: "reqId is duplicated",
}

_REFUSALS = {
    Reason.UNKNOWN_SYMBOL: _Entry(PARAMS, "params error: symbol invalid {}"),
    Reason.NOT_TRADING: _Entry(110074, "This contract is not live"),
    Reason.DELISTING: _Entry(30228, "No new positions during delisting"),
    Reason.PRICE_TICK: _Entry(PARAMS, "params error: Price invalid"),
    Reason.PRICE_RANGE: _Entry(110003, "The price should be between {}."),
    Reason.QTY_STEP: _Entry(PARAMS, "params error: Qty invalid"),
    Reason.QTY_MIN: _Entry(PARAMS, "The number of contracts exceeds minimum limit allowed"),
    Reason.QTY_MAX: _Entry(PARAMS, "The number of contracts exceeds maximum limit allowed: too large"),
    Reason.NOTIONAL_MIN: _Entry(110094, "Order does not meet minimum order value {}USDT"),
    Reason.DUPLICATE_ID: _Entry(110072, "OrderLinkedID is duplicate"),
    Reason.NOTHING_TO_REDUCE: _Entry(110017, "current position is zero, cannot fix reduce-only order qty"),
    Reason.REDUCE_COVERED: _Entry(110017, "orderQty will be truncated to zero."),
    Reason.MARGIN: _Entry(110007, "ab not enough for new order"),
    Reason.STOP_SIDE: _Entry(PARAMS, "{}"),
    Reason.STOP_ON_REDUCE_ONLY: _Entry(PARAMS, "params error: TP/SL cannot be set with a reduce-only order"),
    Reason.TRIGGER_NOT_ABOVE: _Entry(110092, "expect Rising, but {}"),
    Reason.TRIGGER_NOT_BELOW: _Entry(110093, "expect Falling, but {}"),
    Reason.TOO_MANY_ORDERS: _Entry(110020, "Not allowed to have more than 500 active orders"),
    Reason.TOO_MANY_STOPS: _Entry(110009, "The number of stop orders exceeds the maximum allowable limit"),
    Reason.NOT_FOUND: _Entry(110001, "order not exists or too late to cancel"),
    Reason.ORDER_NOT_MODIFIED: _Entry(
        PARAMS, "The order remains unchanged as the parameters entered match the existing ones."
    ),
    Reason.STOPS_NOT_MODIFIED: _Entry(34040, "not modified"),
    Reason.ZERO_POSITION: _Entry(PARAMS, "can not set tp/sl/ts for zero position"),
    Reason.LEVERAGE_NOT_MODIFIED: _Entry(110043, "leverage not modified"),
    Reason.LEVERAGE_MAX: _Entry(110013, "can not set leverage gt maxLeverage by risk limit"),
    Reason.LEVERAGE_INVALID: _Entry(PARAMS, "leverage invalid"),
    Reason.POSITION_SIDE: _Entry(PARAMS, "position idx not match position mode"),
    Reason.POSITION_MODE_NOT_MODIFIED: _Entry(110025, "Position mode is not modified"),
    Reason.POSITION_MODE_HELD: _Entry(110024, "Position mode cannot be switched: there is a position"),
    Reason.POSITION_MODE_ORDERS: _Entry(
        110028, "You have existing open orders, so the position mode cannot be switched"
    ),
    Reason.MARGIN_MODE_NOT_MODIFIED: _Entry(110026, "Cross/isolated margin mode is not modified"),
    Reason.MARGIN_MODE_HELD: _Entry(MARGIN_MODE_FAILED, "Set margin mode failed"),
    Reason.MARGIN_MODE_ORDERS: _Entry(MARGIN_MODE_FAILED, "Set margin mode failed"),
}
_MARGIN_MODE_REASONS = {
    Reason.MARGIN_MODE_HELD: "There are positions",
    Reason.MARGIN_MODE_ORDERS: "There are open orders",
}


def of_refusal(refused: Refused) -> ApiError:
    entry = _REFUSALS[refused.reason]
    result = {}
    if entry.code == MARGIN_MODE_FAILED:
        result = margin_mode_reasons(_MARGIN_MODE_REASONS[refused.reason])
    return ApiError(entry.code, entry.text.format(refused.detail), result=result)


class Outcome(NamedTuple):
    """What the envelope of an answer says."""

    code: int
    text: str
    result: dict[str, Any]
    headers: dict[str, str]


def outcome(act: Callable[[], dict[str, Any]]) -> Outcome:
    try:
        return Outcome(0, "OK", act(), {})
    except (Refused, ApiError) as refusal:
        error = of_refusal(refusal) if isinstance(refusal, Refused) else refusal
        return Outcome(error.code, error.text, error.result, error.headers)


def margin_mode_reasons(text: str, code: str = "3400000") -> dict[str, Any]:
    """What /v5/account/set-margin-mode answers beside its code."""
    return {"reasons": [{"reasonCode": code, "reasonMsg": text}]}


def params(what: str) -> ApiError:
    return ApiError(PARAMS, f"params error: {what}")
