"""Bybit's limits, and what its answers say of them.

https://bybit-exchange.github.io/docs/v5/rate-limit, read in July 2026. Two limits count: requests of an account on one
endpoint in a second, told in the headers of every private answer, and requests of an address on all hosts in five
seconds, told by nothing until it is broken, which costs ten minutes.
"""

from collections.abc import Mapping

from app.venues.failures import Limit

ENDPOINT_WINDOW_S = 1.0
ADDRESS_MAX = 600
ADDRESS_WINDOW_S = 5.0
ADDRESS_BAN_S = 600.0
ADDRESS = "address"  # the name of that limit at the gate
# A budget that is used up, and whose end is not stated, does not hold back a close: one refusal costs nothing here.
NEARLY_ALL = 0.99


def limit_of(headers: Mapping[str, str], now_ms: int, *, exceeded: bool) -> Limit | None:
    """From an answer of the exchange's time `now_ms`; None when it says nothing."""
    reset_s = _number(headers.get("X-Bapi-Limit-Reset-Timestamp"))
    wait_s = 0.0 if reset_s is None or not now_ms else (reset_s - now_ms) / 1000
    if exceeded:
        return Limit(1.0, wait_s if wait_s > 0 else ENDPOINT_WINDOW_S)
    whole, left = _number(headers.get("X-Bapi-Limit")), _number(headers.get("X-Bapi-Limit-Status"))
    if not whole or left is None:
        return None
    if left <= 0 and wait_s > 0:
        return Limit(1.0, wait_s)
    return Limit(min(1 - left / whole, NEARLY_ALL), ENDPOINT_WINDOW_S)


def address_wait_s(status: int, headers: Mapping[str, str]) -> float:
    """How long an HTTP status 403 or 429 forbids this address everything."""
    stated = _number(headers.get("Retry-After"))
    if stated is not None:
        return stated
    return ADDRESS_BAN_S if status == 403 else ADDRESS_WINDOW_S


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
