"""Rate limits: requests per second, account and endpoint; requests per address. Always counted, enforced when told to.

https://bybit-exchange.github.io/docs/v5/rate-limit
"""

from collections import Counter, deque

import msgspec
from aiohttp import web

from simulator.bybit.errors import REQUESTS, TOO_MANY_VISITS, ApiError
from simulator.control_parts import Body, answer, read
from simulator.exchange import Exchange
from simulator.faults import REST, FaultKind

TRADING_1S = 10  # POST
QUERIES_1S = 50  # GET


class LimitsBody(Body, frozen=True, kw_only=True):
    """Fields left out stay as they are."""

    enforce: bool | None = None
    paths: dict[str, int] | None = None  # endpoint -> requests per second and account
    address_max: int | None = None  # requests of one address in `address_s`
    address_s: float | None = None
    ban_s: float | None = None  # from the last request that was refused


class Limits:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.enforce = False
        self.paths: dict[str, int] = {}
        self.address_max = 600
        self.address_s = 5.0
        self.ban_s = 600.0
        self._visits: Counter[tuple[str, str]] = Counter()  # (account, path) -> requests in the present second
        self._second = 0
        self._seen: dict[str, deque[float]] = {}  # address -> monotonic times
        self._banned: dict[str, float] = {}  # address -> monotonic end

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/control/limits", self._change)]

    async def _change(self, request: web.Request) -> web.Response:
        wanted = await read(request, LimitsBody)
        for name, value in msgspec.structs.asdict(wanted).items():
            if value is not None:
                setattr(self, name, value)
        self._seen.clear()
        self._banned.clear()
        now = {name: getattr(self, name) for name in LimitsBody.__struct_fields__}
        return answer(now)

    def is_banned(self) -> bool:
        """Whether a fault shuts everybody out; asking meanwhile makes it last longer."""
        return self._exchange.faults.extend(FaultKind.IP_BAN, self._exchange.now_s())

    def admits(self, address: str) -> bool:
        """Whether this address may ask at all; asking while banned makes the ban last longer."""
        now_s = self._exchange.now_s()
        if self.is_banned():
            return False
        if not self.enforce:
            return True
        if self._banned.get(address, 0) <= now_s:
            seen = self._seen.setdefault(address, deque())
            while seen and seen[0] <= now_s - self.address_s:
                seen.popleft()
            seen.append(now_s)
            if len(seen) <= self.address_max:
                return True
        self._banned[address] = now_s + self.ban_s
        return False

    def count(self, account: str, path: str, *, is_get: bool, channel: str = REST) -> dict[str, str]:
        """The headers that tell; ApiError with them when a limit is enforced and used up.

        Orders count alike whichever way they come, https://bybit-exchange.github.io/docs/v5/websocket/trade/guideline.
        """
        now_ms = self._exchange.now_ms()
        if self._second != now_ms // 1000:
            self._second = now_ms // 1000
            self._visits.clear()
        limit = self.paths.get(path, QUERIES_1S if is_get else TRADING_1S)
        self._visits[account, path] += 1
        left = limit - self._visits[account, path]
        over = left < 0 and (self.enforce or self._fault(path, channel))
        headers = {
            "X-Bapi-Limit": str(limit),
            "X-Bapi-Limit-Status": str(max(left, 0)),
            "X-Bapi-Limit-Reset-Timestamp": str((self._second + 1) * 1000 if over else now_ms),
        }
        if over:
            raise ApiError(TOO_MANY_VISITS, REQUESTS[TOO_MANY_VISITS], headers=headers)
        return headers

    def _fault(self, path: str, channel: str) -> bool:
        take, now_s = self._exchange.faults.take, self._exchange.now_s()
        return take(FaultKind.RATE_LIMIT, now_s, path=path, channel=channel) is not None
