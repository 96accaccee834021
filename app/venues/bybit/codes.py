"""Every code that Bybit may answer with, classed once. Nothing else branches on a number, except by its name here.

Source: https://bybit-exchange.github.io/docs/v5/error (codes, HTTP statuses) and …/docs/v5/rate-limit, read 2026-07;
where the page is silent about what became of the request, the class is the careful one. A code that is not listed is
`Kind.UNKNOWN`: "not done" is never guessed.
"""

from app.domain.refusals import Outcome
from app.venues.kinds import Code, Kind

SUCCESS = 0
PARAMETER_ERROR = 10001
NO_SUCH_PATH = 10017
ADDRESS_LIMIT = 10018
# Of the order entry socket alone: https://bybit-exchange.github.io/docs/v5/websocket/trade/guideline
RESTARTING = 10019
NO_SUCH_OPERATION = 10404

_K = Kind
CODES: dict[int, Code] = {
    # rate
    10006: Code(_K.RATE, "too many requests on this endpoint"),
    ADDRESS_LIMIT: Code(_K.RATE, "too many requests from this address (retired)"),
    10403: Code(_K.RATE, "too many requests from this address, order entry socket"),
    10429: Code(_K.RATE, "too many requests, order entry socket"),
    20003: Code(_K.RATE, "too many requests, order entry socket"),
    170005: Code(_K.RATE, "too many new orders"),
    # clock
    -1: Code(_K.CLOCK, "the request expired"),
    10002: Code(_K.CLOCK, "the timestamp is outside of the receive window"),
    # unknown
    429: Code(_K.UNKNOWN, "the exchange is overloaded"),
    10000: Code(_K.UNKNOWN, "time-out inside the exchange"),
    10016: Code(_K.UNKNOWN, "server error"),
    RESTARTING: Code(_K.UNKNOWN, "the order entry service restarts"),
    20006: Code(_K.UNKNOWN, "the request id is a duplicate, order entry socket"),
    170001: Code(_K.UNKNOWN, "internal error"),
    170007: Code(_K.UNKNOWN, "time-out of the backend"),
    170032: Code(_K.UNKNOWN, "network error inside the exchange"),
    500000: Code(_K.UNKNOWN, "system error"),
    # busy
    40004: Code(_K.BUSY, "the order is being replaced"),
    110079: Code(_K.BUSY, "the order is being processed"),
    # duplicate
    10014: Code(_K.DUPLICATE, "duplicate request"),
    110072: Code(_K.DUPLICATE, "the client order id is a duplicate"),
    # done
    34040: Code(_K.DONE, "stop and target unchanged"),
    110025: Code(_K.DONE, "position mode unchanged"),
    110026: Code(_K.DONE, "margin mode unchanged"),
    110043: Code(_K.DONE, "leverage unchanged"),
    # gone
    110001: Code(_K.GONE, "no such order, or too late to change it"),
    110008: Code(_K.GONE, "the order is finished or cancelled"),
    110010: Code(_K.GONE, "the order is cancelled"),
    110017: Code(_K.GONE, "a reduce-only order has nothing to reduce"),
    # refused
    PARAMETER_ERROR: Code(_K.REFUSED, "parameter error"),
    10029: Code(_K.REFUSED, "the symbol is not in the key's whitelist"),
    30228: Code(_K.REFUSED, "the symbol is being delisted: no new positions", Outcome.NOT_TRADING),
    110003: Code(_K.REFUSED, "price outside of the allowed range"),
    110004: Code(_K.REFUSED, "not enough balance"),
    110006: Code(_K.REFUSED, "not enough assets"),
    110007: Code(_K.REFUSED, "not enough available balance"),
    110009: Code(_K.REFUSED, "too many stop orders"),
    110012: Code(_K.REFUSED, "not enough available balance"),
    110013: Code(_K.REFUSED, "leverage above the risk limit", Outcome.LEVERAGE_ABOVE_MAXIMUM),
    110020: Code(_K.REFUSED, "too many active orders"),
    110024: Code(_K.REFUSED, "the position mode can't change while a position is held"),
    110028: Code(_K.REFUSED, "the position mode can't change while orders rest"),
    110044: Code(_K.REFUSED, "not enough available margin"),
    110045: Code(_K.REFUSED, "not enough wallet balance"),
    110052: Code(_K.REFUSED, "not enough available balance"),
    110066: Code(_K.REFUSED, "trading is not allowed at the moment"),
    110074: Code(_K.REFUSED, "the contract is not live", Outcome.NOT_TRADING),
    110090: Code(_K.REFUSED, "above the position limit at this leverage"),
    110092: Code(_K.REFUSED, "a rising trigger must be above the price", Outcome.STOP_WRONG_SIDE),
    110093: Code(_K.REFUSED, "a falling trigger must be below the price", Outcome.STOP_WRONG_SIDE),
    110094: Code(_K.REFUSED, "below the minimum notional", Outcome.SIZE_BELOW_MINIMUM),
    110099: Code(_K.REFUSED, "not allowed by the account's set-up"),
    3400045: Code(_K.REFUSED, "the margin mode could not be changed"),
    # fatal
    10003: Code(_K.FATAL, "the key is invalid, or of another environment"),
    10004: Code(_K.FATAL, "the signature is wrong"),
    10005: Code(_K.FATAL, "the key lacks a permission"),
    10007: Code(_K.FATAL, "authentication failed"),
    10008: Code(_K.FATAL, "the account is banned"),
    10009: Code(_K.FATAL, "the region is blocked"),
    10010: Code(_K.FATAL, "this address is not on the key's list"),
    NO_SUCH_PATH: Code(_K.FATAL, "no such path"),
    NO_SUCH_OPERATION: Code(_K.FATAL, "no such operation, order entry socket"),
    10024: Code(_K.FATAL, "blocked by compliance rules"),
    10027: Code(_K.FATAL, "trading is banned"),
    10028: Code(_K.FATAL, "the account has to be a unified one"),
    33004: Code(_K.FATAL, "the key has expired"),
}

# HTTP statuses other than 200; the envelope's own codes come with 200. What is not listed (5xx above all) is unknown.
STATUSES: dict[int, Code] = {
    400: Code(_K.REFUSED, "the request is malformed"),
    401: Code(_K.FATAL, "the key or its use is invalid"),
    403: Code(_K.RATE, "this address sent too many requests, or its country is blocked"),
    404: Code(_K.FATAL, "no such path"),
    429: Code(_K.RATE, "too many requests, system level"),
}


def kind_of(code: int) -> Kind:
    known = CODES.get(code)
    return Kind.UNKNOWN if known is None else known.kind


def kind_of_status(status: int) -> Kind:
    known = STATUSES.get(status)
    return Kind.UNKNOWN if known is None else known.kind
