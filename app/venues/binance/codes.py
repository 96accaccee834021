"""Every code that Binance may answer with, classed once. Nothing else branches on a number, except by its name here.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code and …/general-info, read in May
2026; -4130 and -4509 are not on the page, and are worded as public logs of 2026 have them. Where the page is silent
about what became of the request, the class is the careful one. A code that is not listed is `Kind.UNKNOWN`: "not done"
is never guessed.
"""

from app.domain.refusals import Outcome
from app.venues.kinds import Code, Kind

TOO_MANY_ORDERS = -1015
INVALID_SYMBOL = -1121
NO_SUCH_ORDER = -2013
WOULD_TRIGGER = -2021
INVALID_LEVERAGE = -4028
SAME_MARGIN_MODE = -4046
ORDERS_BLOCK_MARGIN_MODE = -4047
POSITION_BLOCKS_MARGIN_MODE = -4048
STOP_EXISTS = -4130
PERCENT_PRICE = -4131
MULTI_ASSETS_BLOCK_MARGIN_MODE = -4168
NO_POSITION_YET = -4509
NO_SUCH_PATH = -5000

# Refusals after which the instrument's rules, as we know them, may be out of date.
FILTERS = frozenset(
    {-1111, -4001, -4002, -4003, -4004, -4005, -4006, -4007, -4013, -4014, -4016, -4023, -4024, -4028, -4029, -4030}
    | {-4140, -4141, -4164, -5024}
)

_K = Kind
CODES: dict[int, Code] = {
    # rate
    -1003: Code(_K.RATE, "too many requests from this address"),
    TOO_MANY_ORDERS: Code(_K.RATE, "too many new orders of this account"),
    # clock
    -1021: Code(_K.CLOCK, "the timestamp is outside of the receive window"),
    -5028: Code(_K.CLOCK, "the timestamp is outside of the matching engine's receive window"),
    # busy
    -1008: Code(_K.BUSY, "the exchange is overloaded"),
    STOP_EXISTS: Code(_K.BUSY, "a stop of the whole position rests on that side"),
    # unknown
    -1000: Code(_K.UNKNOWN, "unknown error"),
    # The page calls its "Service Unavailable." a plain failure: asking costs a request, believing it maybe a position.
    -1001: Code(_K.UNKNOWN, "internal error, or overloaded"),
    -1006: Code(_K.UNKNOWN, "unexpected answer inside the exchange"),
    -1007: Code(_K.UNKNOWN, "time-out inside the exchange"),
    -1010: Code(_K.UNKNOWN, "error of the matching engine"),
    -1016: Code(_K.UNKNOWN, "the service is shutting down"),
    # duplicate
    -4116: Code(_K.DUPLICATE, "the client order id is that of an open order"),
    # done
    SAME_MARGIN_MODE: Code(_K.DONE, "margin mode unchanged"),
    -4059: Code(_K.DONE, "position mode unchanged"),
    -5027: Code(_K.DONE, "order unchanged"),
    # gone
    -1125: Code(_K.GONE, "the listen key does not exist"),
    -2011: Code(_K.GONE, "no such order to cancel"),
    NO_SUCH_ORDER: Code(_K.GONE, "no such order"),
    -2022: Code(_K.GONE, "a reduce-only order has nothing to reduce"),
    -4118: Code(_K.GONE, "a reduce-only order has nothing to reduce, or resting orders are in its way"),
    NO_POSITION_YET: Code(_K.GONE, "no open position (yet)"),
    # refused: the request
    -1013: Code(_K.REFUSED, "the request is not valid"),
    -1014: Code(_K.REFUSED, "not a combination that an order may have"),
    -1020: Code(_K.REFUSED, "not supported"),
    -1023: Code(_K.REFUSED, "the start is later than the end"),
    -1100: Code(_K.REFUSED, "illegal characters in a parameter"),
    -1101: Code(_K.REFUSED, "too many parameters"),
    -1102: Code(_K.REFUSED, "a parameter is missing or malformed"),
    -1103: Code(_K.REFUSED, "an unknown parameter"),
    -1104: Code(_K.REFUSED, "not all parameters were read"),
    -1105: Code(_K.REFUSED, "a parameter is empty"),
    -1106: Code(_K.REFUSED, "a parameter was sent that is not allowed here"),
    -1111: Code(_K.REFUSED, "more decimals than the instrument has"),
    -1112: Code(_K.REFUSED, "no orders on the book"),
    -1114: Code(_K.REFUSED, "a time in force was sent that is not allowed here"),
    -1115: Code(_K.REFUSED, "not a time in force"),
    -1116: Code(_K.REFUSED, "not an order type"),
    -1117: Code(_K.REFUSED, "not a side"),
    -1118: Code(_K.REFUSED, "the new client order id is empty"),
    -1119: Code(_K.REFUSED, "the client order id is empty"),
    -1120: Code(_K.REFUSED, "not an interval"),
    INVALID_SYMBOL: Code(_K.REFUSED, "no such symbol", Outcome.UNKNOWN_SYMBOL),
    -1127: Code(_K.REFUSED, "the span between start and end is too long"),
    -1128: Code(_K.REFUSED, "not a combination that parameters may have"),
    -1130: Code(_K.REFUSED, "a parameter's data are not valid"),
    # refused: the order or the account's state
    -2010: Code(_K.REFUSED, "the order was rejected"),
    -2018: Code(_K.REFUSED, "not enough balance"),
    -2019: Code(_K.REFUSED, "not enough margin"),
    -2020: Code(_K.REFUSED, "it can't be filled"),
    WOULD_TRIGGER: Code(_K.REFUSED, "the stop would trigger at once", Outcome.STOP_WRONG_SIDE),
    -2023: Code(_K.REFUSED, "the account is being liquidated"),
    -2024: Code(_K.REFUSED, "the position is not large enough"),
    -2025: Code(_K.REFUSED, "too many open orders"),
    -2026: Code(_K.REFUSED, "a reduce-only order can't be of this type"),
    -2027: Code(_K.REFUSED, "above the largest position at this leverage"),
    -2028: Code(_K.REFUSED, "the leverage is too small for the margin that is there"),
    # refused: filters
    -4001: Code(_K.REFUSED, "the price is below zero"),
    -4002: Code(_K.REFUSED, "the price is above the maximum"),
    -4003: Code(_K.REFUSED, "the quantity is not above zero", Outcome.SIZE_BELOW_MINIMUM),
    -4004: Code(_K.REFUSED, "the quantity is below the minimum", Outcome.SIZE_BELOW_MINIMUM),
    -4005: Code(_K.REFUSED, "the quantity is above the maximum", Outcome.SIZE_ABOVE_MAXIMUM),
    -4006: Code(_K.REFUSED, "the stop price is below zero"),
    -4007: Code(_K.REFUSED, "the stop price is above the maximum"),
    -4013: Code(_K.REFUSED, "the price is below the minimum"),
    -4014: Code(_K.REFUSED, "the price is not a multiple of the tick"),
    -4015: Code(_K.REFUSED, "the client order id is too long"),
    -4016: Code(_K.REFUSED, "the price is too far above the mark price"),
    -4023: Code(_K.REFUSED, "the quantity is not a multiple of the step"),
    -4024: Code(_K.REFUSED, "the price is too far below the mark price"),
    INVALID_LEVERAGE: Code(_K.REFUSED, "not a leverage of this instrument", Outcome.LEVERAGE_ABOVE_MAXIMUM),
    -4029: Code(_K.REFUSED, "the tick has more decimals than it may have"),
    -4030: Code(_K.REFUSED, "the step has more decimals than it may have"),
    -4045: Code(_K.REFUSED, "too many stop orders"),
    -4164: Code(_K.REFUSED, "below the minimum notional", Outcome.SIZE_BELOW_MINIMUM),
    # refused: modes and states
    ORDERS_BLOCK_MARGIN_MODE: Code(
        _K.REFUSED, "the margin mode can't change while orders rest", Outcome.MARGIN_MODE_MISMATCH
    ),
    POSITION_BLOCKS_MARGIN_MODE: Code(
        _K.REFUSED, "the margin mode can't change while a position is held", Outcome.MARGIN_MODE_MISMATCH
    ),
    -4060: Code(_K.REFUSED, "not a position side"),
    -4061: Code(
        _K.REFUSED, "the position side does not fit the account's position mode", Outcome.POSITION_MODE_MISMATCH
    ),
    -4062: Code(_K.REFUSED, "reduce-only does not fit the account's position mode", Outcome.POSITION_MODE_MISMATCH),
    -4067: Code(_K.REFUSED, "the position mode can't change while orders rest"),
    -4068: Code(_K.REFUSED, "the position mode can't change while a position is held"),
    -4087: Code(_K.REFUSED, "the account may only reduce"),
    -4108: Code(_K.REFUSED, "the symbol is being delivered", Outcome.NOT_TRADING),
    -4109: Code(_K.REFUSED, "the account is not active: it needs a transfer of funds"),
    -4120: Code(_K.REFUSED, "this order type belongs to the algo-order endpoint"),
    PERCENT_PRICE: Code(_K.REFUSED, "the best price is too far from the mark price for a market order"),
    -4140: Code(_K.REFUSED, "the symbol takes no new positions", Outcome.NOT_TRADING),
    -4141: Code(_K.REFUSED, "the symbol is closed", Outcome.NOT_TRADING),
    -4161: Code(_K.REFUSED, "the leverage can't be lowered while an isolated position is held"),
    MULTI_ASSETS_BLOCK_MARGIN_MODE: Code(
        _K.REFUSED, "there is no isolated margin in multi-assets mode", Outcome.MARGIN_MODE_MISMATCH
    ),
    -4192: Code(_K.REFUSED, "the account is in a cooling-off period"),
    -4531: Code(_K.REFUSED, "the position mode is held by the coin-margined account"),
    -5021: Code(_K.REFUSED, "the order could not be filled at once"),
    -5022: Code(_K.REFUSED, "the order would not have been a maker"),
    -5024: Code(_K.REFUSED, "the symbol is not trading", Outcome.NOT_TRADING),
    # fatal
    -1002: Code(_K.FATAL, "the key is not authorized for this"),
    -1022: Code(_K.FATAL, "the signature is wrong"),
    -2014: Code(_K.FATAL, "the key's form is wrong"),
    -2015: Code(
        _K.FATAL, "the key is invalid or of another environment, lacks a permission, or does not list this address"
    ),
    -2017: Code(_K.FATAL, "the key is locked"),
    -4088: Code(_K.FATAL, "the account may not place orders"),
    NO_SUCH_PATH: Code(_K.FATAL, "no such path"),
}

# HTTP statuses that decide whatever the body says, and those that decide where it says nothing readable.
# https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info
STATUSES_FIRST: dict[int, Code] = {
    418: Code(_K.RATE, "this address is banned"),
    429: Code(_K.RATE, "too many requests"),
}
STATUSES: dict[int, Code] = STATUSES_FIRST | {
    401: Code(_K.FATAL, "the key or its use is invalid"),
    403: Code(_K.RATE, "the firewall turned this address away"),
    404: Code(_K.FATAL, "no such path"),
    451: Code(_K.FATAL, "this address is in a country that is not served"),
}


def kind_of(code: int) -> Kind:
    known = CODES.get(code)
    return Kind.UNKNOWN if known is None else known.kind
