"""Request weight per address and orders per account, with the headers that tell them.

https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info#limits. Counted always; refused
while `enforced`: HTTP 429 over the limit, and 418 for who goes on asking after that.
"""

from collections import deque
from typing import Protocol

import msgspec

from simulator.binance.errors import ApiError, error

MINUTE_S = 60
TEN_SECONDS_S = 10
FIVE_MINUTES_S = 300


class LimitsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be set; None leaves it as it is."""

    enforced: bool | None = None
    weight_1m: int | None = None
    orders_10s: int | None = None
    orders_1m: int | None = None
    connections_5m: int | None = None
    ban_after: int | None = None
    ban_s: int | None = None


class Clock(Protocol):
    def now_s(self) -> float: ...
    def now_ms(self) -> int: ...


class _Visitor:
    """One address."""

    def __init__(self) -> None:
        self.since_s = float("-inf")  # where its present minute began
        self.weight = 0
        self.refused = 0  # in a row
        self.banned_until_s = 0.0


class Limits:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.enforced = False
        self.weight_1m = 2400
        self.orders_10s = 300
        self.orders_1m = 1200
        self.connections_5m = 300  # sockets opened by one address
        self.ban_after = 10  # refusals in a row, then 418
        self.ban_s = 120
        self._visitors: dict[str, _Visitor] = {}
        self._orders: dict[str, deque[float]] = {}  # account -> when, for a minute
        self._connections: dict[str, deque[float]] = {}  # address -> when, for five minutes

    def put(self, body: LimitsBody) -> None:
        for name, value in msgspec.structs.asdict(body).items():
            if value is not None:
                setattr(self, name, value)
        self.clear()

    def state(self) -> dict[str, int | bool]:
        return {name: getattr(self, name) for name in LimitsBody.__struct_fields__}

    def clear(self) -> None:
        self._visitors.clear()
        self._orders.clear()
        self._connections.clear()

    def weigh(
        self, address: str, weight: int, headers: dict[str, str], *, enforced: bool = False, forced: bool = False
    ) -> None:
        """Count a request. Of faults: `enforced` here and now, `forced` as if the limit were reached."""
        now_s = self._clock.now_s()
        visitor = self._visitors.setdefault(address, _Visitor())
        if visitor.banned_until_s > now_s:
            raise ban(visitor.banned_until_s - now_s, self._clock.now_ms())
        if now_s - visitor.since_s >= MINUTE_S:
            visitor.since_s, visitor.weight, visitor.refused = now_s, 0, 0
        visitor.weight += weight
        headers["X-MBX-USED-WEIGHT-1M"] = str(visitor.weight)
        if not forced and (not (enforced or self.enforced) or visitor.weight <= self.weight_1m):
            visitor.refused = 0
            return
        visitor.refused += 1
        if visitor.refused > self.ban_after:
            visitor.banned_until_s = now_s + self.ban_s
            raise ban(self.ban_s, self._clock.now_ms())
        refusal = error(-1003, self.weight_1m)
        refusal.retry_after_s = 1 if forced else int(visitor.since_s + MINUTE_S - now_s) + 1
        raise refusal

    def admits_connection(self, address: str) -> bool:
        """Whether one more socket may be opened; refused attempts count too."""
        times = self._connections.setdefault(address, deque(maxlen=self.connections_5m + 1))
        now_s = self._clock.now_s()
        times.append(now_s)
        return not self.enforced or sum(t > now_s - FIVE_MINUTES_S for t in times) <= self.connections_5m

    def count_order(self, account: str, headers: dict[str, str]) -> None:
        """A new, changed or cancelled order; refused ones count too."""
        now_s = self._clock.now_s()
        times = self._orders.setdefault(account, deque())
        while times and times[0] <= now_s - MINUTE_S:
            times.popleft()
        times.append(now_s)
        in_10s = sum(t > now_s - TEN_SECONDS_S for t in times)
        headers["X-MBX-ORDER-COUNT-10S"] = str(in_10s)
        headers["X-MBX-ORDER-COUNT-1M"] = str(len(times))
        if not self.enforced:
            return
        for count, limit, span, wait_s in (
            (in_10s, self.orders_10s, "TEN_SECONDS", TEN_SECONDS_S),
            (len(times), self.orders_1m, "MINUTE", MINUTE_S),
        ):
            if count > limit:
                times.pop()  # else who keeps trying would never get through
                refusal = error(-1015, limit, span)
                refusal.retry_after_s = wait_s
                raise refusal


def ban(left_s: float, now_ms: int) -> ApiError:
    until_ms = now_ms + int(left_s * 1000)
    text = (
        f"Way too many requests; IP banned until {until_ms}. Please use the websocket for live updates to avoid bans."
    )
    return ApiError(-1003, text, 418, retry_after_s=int(left_s) + 1)
