"""Every refusal of the Binance face: code, text and HTTP status, in one table.

Codes: https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code. -4130 and -4509 are not in the
documentation; their texts are those seen in traffic. Texts vary on the exchange, so no client may branch on them.
"""

from collections.abc import Callable
from typing import Any

from simulator.faults import FaultOrder
from simulator.model import Reason, Refused

_UNKNOWN = "Unknown error, please check your request or try again later."  # whether it was executed is not known
_FRONT = {408: -1007, 418: -1003, 429: -1003, 500: -1000, 503: -1000}  # status -> code


class ApiError(Exception):
    """A refusal: HTTP `status` with this code and text; `retry_after_s` goes into the header of that name."""

    def __init__(self, code: int, text: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.status = status
        self.retry_after_s = retry_after_s


_TEXTS = {
    -1000: "An unknown error occurred while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1003: "Too many requests; current limit is {} requests per minute. "
    "Please use the websocket for live updates to avoid polling the API.",
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. "
    "Please try again.",
    -1015: "Too many new orders; current limit is {} orders per {}.",
    -1020: "This operation is not supported.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1100: "Illegal characters found in parameter '{}'; legal range is '{}'.",
    -1101: "Duplicate values for a parameter detected.",
    -1102: "Mandatory parameter '{}' was not sent, was empty/null, or malformed.",
    -1104: "Not all sent parameters were read; read '{}' parameter(s) but was sent '{}'.",
    -1105: "Parameter '{}' was empty.",
    -1106: "Parameter '{}' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1125: "This listenKey does not exist.",
    -1127: "Lookup interval is too big.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '{}' is not valid.",
    -1131: "recvWindow must be less than 60000",
    -1135: "Invalid JSON request.",
    -2010: "NEW_ORDER_REJECTED",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2019: "Margin is insufficient.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -2028: "Leverage is smaller than permitted: insufficient margin balance.",
    -4001: "Price less than 0.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id length should not be more than 36 chars",
    -4016: "Limit price can't be higher than {}.",
    -4023: "Qty not increased by step size.",
    -4024: "Limit price can't be lower than {}.",
    -4028: "Leverage {} is not valid",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4056: "Invalid api key type.",
    -4059: "No need to change position side.",
    -4060: "Invalid position side.",
    -4061: "Order's position side does not match user's setting.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4108: "Symbol is on delivering or delivered or settling or closed or pre-trading.",
    -4116: "ClientOrderId is duplicated.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4130: "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit",
    -4136: "Target strategy invalid for orderType '{}',closePosition 'true'",
    -4140: "Invalid symbol status for opening position.",
    -4141: "Symbol is closed.",
    -4164: "Order's notional must be no smaller than {} (unless you choose reduce only).",
    -4509: "Time in Force (TIF) GTE can only be used with open positions. Please ensure that positions are available.",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected. "
    "The order will not be recorded in the order history",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history",
    -5027: "No need to modify the order.",
    -5028: "Timestamp for this request is outside of the ME recvWindow.",
}

_STATUSES = {-1003: 429, -1007: 408, -1008: 503, -1015: 429, -2014: 401, -2015: 401}


def error(code: int, *details: object) -> ApiError:
    """The refusal of this code; `details` fill the gaps of its text."""
    return ApiError(code, _TEXTS[code].format(*details), _STATUSES.get(code, 400))


def by_fault(code: int, text: str) -> ApiError:
    """A code that a fault asks for; it need not be in the table."""
    return ApiError(code, text or _TEXTS.get(code, "").format("?", "?"), _STATUSES.get(code, 400))


def by_front(fault: FaultOrder) -> ApiError:
    """A failure of the exchange's front. Of 503 the usual text leaves open whether the request was executed."""
    status = fault.status or 503
    code = fault.code or _FRONT.get(status, -1000)
    text = fault.msg or (_UNKNOWN if status == 503 and not fault.code else by_fault(code, "").text)
    return ApiError(code, text, status, 1 if status in (418, 429) else None)


_REFUSALS = {
    Reason.UNKNOWN_SYMBOL: -1121,
    Reason.NOT_TRADING: -4108,
    Reason.DELISTING: -4140,
    Reason.PRICE_TICK: -4014,
    Reason.PRICE_RANGE: -4002,
    Reason.QTY_STEP: -4023,
    Reason.QTY_MIN: -4004,
    Reason.QTY_MAX: -4005,
    Reason.NOTIONAL_MIN: -4164,
    Reason.DUPLICATE_ID: -4116,
    Reason.NOTHING_TO_REDUCE: -2022,
    Reason.REDUCE_COVERED: -4118,
    Reason.MARGIN: -2019,
    Reason.TRIGGER_NOT_ABOVE: -2021,
    Reason.TRIGGER_NOT_BELOW: -2021,
    Reason.TOO_MANY_ORDERS: -2025,
    Reason.TOO_MANY_STOPS: -4045,
    Reason.NOT_FOUND: -2011,
    Reason.ORDER_NOT_MODIFIED: -5027,
    Reason.POSITION_SIDE: -4061,
    Reason.LEVERAGE_MAX: -4028,
    Reason.LEVERAGE_INVALID: -4028,
}


def of_refusal(refused: Refused) -> ApiError:
    code = _REFUSALS.get(refused.reason)
    return error(-1000) if code is None else error(code, refused.detail)


def attempt(act: Callable[[], Any]) -> tuple[Any, ApiError | None]:
    """The answer, or why there is none."""
    try:
        return act(), None
    except Refused as refused:
        return None, of_refusal(refused)
    except ApiError as refused:
        return None, refused
