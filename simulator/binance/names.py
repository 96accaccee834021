"""Names and numbers that this exchange spells its own way: symbols, ids, statuses.

The engine is named after the other exchange's list. https://www.binance.com/en/futures/trading-rules/perpetual
"""

import re

from simulator.model import EndReason, Order, OrderStatus, Side, StopKind, TimeInForce
from simulator.tape import MINUTE_MS

_MULTIPLIER_LAST = re.compile(r"([A-Z]+)(10+)(USDT)")  # SHIB1000USDT there is 1000SHIBUSDT here
_MULTIPLIER_FIRST = re.compile(r"(10+)([A-Z]+)(USDT)")

STATUSES = {"Trading": "TRADING", "PreLaunch": "PENDING_TRADING", "Delivering": "SETTLING", "Closed": "CLOSE"}

# interval on the wire -> minutes; a month is folded as 30 days here
INTERVALS = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1440,
    "3d": 4320,
    "1w": 10_080,
    "1M": 43_200,
}
DAY_MS = 1440 * MINUTE_MS

_REFUSED_AT_TRIGGER = frozenset({EndReason.NO_MARGIN, EndReason.REDUCE_ONLY, EndReason.REFUSED_AT_TRIGGER})

# Ids are integers here and grow over all symbols; the engine's own number of an order makes both of its ids.
# Those of orders are beyond what a double holds exactly, as some of the exchange's are.
ORDER_ID_BASE = 8_389_765_740_000_000_000
ALGO_ID_BASE = 1_000_001_270_000_000


def symbol_here(engine_symbol: str) -> str:
    """The name on this exchange of a symbol of the engine."""
    match = _MULTIPLIER_LAST.fullmatch(engine_symbol)
    return f"{match[2]}{match[1]}{match[3]}" if match else engine_symbol


def engine_symbols(name: str) -> tuple[str, ...]:
    """What the engine may call a symbol of this exchange, in order of likelihood."""
    match = _MULTIPLIER_FIRST.fullmatch(name)
    if match:
        return name, f"{match[2]}{match[1]}{match[3]}"
    return () if _MULTIPLIER_LAST.fullmatch(name) else (name,)


def order_id(order: Order) -> int:
    """Of a conditional order that fired: of the ordinary order that it became."""
    return ORDER_ID_BASE + (order.fired_seq or order.seq)


def algo_id(order: Order) -> int:
    return ALGO_ID_BASE + order.seq


def is_algo(order: Order) -> bool:
    """Born as a conditional order, whatever became of it."""
    return order.stop_kind is not StopKind.NONE


def has_fired(order: Order) -> bool:
    """Whether a conditional order went on to the matching engine: only then there is an ordinary order."""
    return bool(order.fired_seq) and not is_refused_at_trigger(order)


def is_refused_at_trigger(order: Order) -> bool:
    """Its trigger was crossed and the matching engine would not have it."""
    at_once = order.fired_seq and order.updated_ms == order.fired_ms and not order.filled_qty
    return bool(at_once) and order.end_reason in _REFUSED_AT_TRIGGER


def side(order_side: Side) -> str:
    return order_side.value.upper()


def time_in_force(order: Order) -> str:
    """A market order says GTC here though nothing of it ever rests."""
    if order.type.value == "Market":
        return "GTC"
    return "GTX" if order.time_in_force is TimeInForce.POST_ONLY else order.time_in_force.value


def order_status(order: Order) -> str:
    match order.status:
        case OrderStatus.NEW | OrderStatus.TRIGGERED | OrderStatus.UNTRIGGERED:
            return "NEW"
        case OrderStatus.PARTIALLY_FILLED:
            return "PARTIALLY_FILLED"
        case OrderStatus.FILLED:
            return "FILLED"
        case _:  # what the matching engine will not have after all has expired
            return "CANCELED" if order.end_reason is EndReason.BY_USER else "EXPIRED"


def algo_status(order: Order) -> str:
    match order.status:
        case OrderStatus.UNTRIGGERED:
            return "NEW"
        case OrderStatus.DEACTIVATED:
            return "CANCELED" if order.end_reason is EndReason.BY_USER else "EXPIRED"
        case OrderStatus.REJECTED:
            return "REJECTED"
        case _ if is_refused_at_trigger(order):
            return "REJECTED"
        case _:
            return "TRIGGERED" if order.is_open else "FINISHED"
