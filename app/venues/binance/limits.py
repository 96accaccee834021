"""Limits of Binance: what its answers say is used, and for how long they send us away.

https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info: a weight per minute and address, and
orders per ten seconds and per minute and account. Quirk: the header was seen to say -1. Connections of sockets are
counted too: 300 attempts per five minutes and address.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache

from app.venues.binance import wire
from app.venues.binance.codes import TOO_MANY_ORDERS

# header -> (limit, seconds of its window)
HEADERS = {
    "X-MBX-USED-WEIGHT-1M": (wire.WEIGHT, 60),
    "X-MBX-ORDER-COUNT-10S": (wire.ORDERS_10S, 10),
    "X-MBX-ORDER-COUNT-1M": (wire.ORDERS_1M, 60),
}
WINDOWS = {
    ("REQUEST_WEIGHT", "MINUTE", 1): wire.WEIGHT,
    ("ORDERS", "SECOND", 10): wire.ORDERS_10S,
    ("ORDERS", "MINUTE", 1): wire.ORDERS_1M,
}
WINDOW_S = dict(HEADERS.values())
ATTEMPTS_MAX = 250  # what is left of the limit is for other processes
ATTEMPTS_WINDOW_S = 300.0
BAN_S = 120.0  # the shortest that is documented for a 418
FIREWALL_S = 60.0  # nothing is said of how long; going on extends it
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


def limits_of(rows: list[wire.RateLimitRow]) -> dict[str, int]:
    found = {WINDOWS.get((row.rateLimitType, row.interval, row.intervalNum)): row.limit for row in rows}
    return {name: limit for name, limit in found.items() if name is not None and limit > 0}


def limits_used(
    headers: Mapping[str, str], limits: Mapping[str, int], now_ms: int
) -> Iterator[tuple[str, float, float]]:
    """Limit, share of it that is used, seconds until its window is over by the exchange's clock."""
    for header, (name, window_s) in HEADERS.items():
        text = headers.get(header, "")
        if text.isascii() and text.isdigit():
            yield name, int(text) / limits[name], window_s - now_ms / 1000 % window_s


def limits_stated(rows: list[wire.UsedLimit], now_ms: int) -> Iterator[tuple[str, float, float]]:
    """The same, as the order entry socket states it."""
    for row in rows:
        name = WINDOWS.get((row.rateLimitType, row.interval, row.intervalNum))
        if name is not None and row.limit > 0 and row.count >= 0:
            window_s = WINDOW_S[name]
            yield name, row.count / row.limit, window_s - now_ms / 1000 % window_s


def ban_s(status: int, headers: Mapping[str, str], error: wire.ErrorBody | None, now_ms: int) -> float:
    """How long to stay away: as the answer states it, else until the window is over."""
    stated = headers.get("Retry-After", "")
    if stated.isascii() and stated.isdigit():
        return float(stated)
    until = _BANNED_UNTIL.search(error.msg) if error is not None else None
    if until is not None:
        return max(0.0, (int(until[1]) - now_ms) / 1000)
    if error is not None and error.code == TOO_MANY_ORDERS:
        return 10 - now_ms / 1000 % 10
    match status:
        case 418:
            return BAN_S
        case 403:
            return FIREWALL_S
        case _:
            return 60 - now_ms / 1000 % 60


class Attempts:
    """New connections to one origin, as far back as the limit reaches."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()

    async def take(self) -> None:
        """Wait until another one is allowed."""
        while True:
            now = time.monotonic()
            while self._at and self._at[0] <= now - ATTEMPTS_WINDOW_S:
                self._at.popleft()
            if len(self._at) < ATTEMPTS_MAX:
                self._at.append(now)
                return
            await asyncio.sleep(self._at[0] + ATTEMPTS_WINDOW_S - now)


@cache
def attempts_at(origin: str) -> Attempts:
    """The same for all sockets of this process: the limit counts the address."""
    return Attempts()
