"""What blows in a storm: prices that move, faults at the exchange, kill -9 of whatever runs. All from one seed."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from bench.up import CUT_OFF, VICTIMS, Up

TICK_S: Final = 0.25  # between two rounds of prices
START_PRICE: Final = Decimal(100)
LOWEST, HIGHEST = Decimal(60), Decimal(160)
CENT: Final = Decimal("0.01")
STEP_PCT: Final = 0.15  # of the price, one standard deviation a round
JUMP_CHANCE: Final = 0.004  # of a symbol in a round: through most stops at once, the native ones too
JUMP_PCT: Final = 3.0

ORDER_PATHS: Final = ("/v5/order/create", "/fapi/v1/order")
READ_PATHS: Final = ("/v5/order/realtime", "/v5/execution/list", "/fapi/v1/userTrades", "/v5/position/list")
STOP_PATHS: Final = ("/v5/position/trading-stop", "/fapi/v1/algoOrder")

Fault = dict[str, Any]


def _path(rng: random.Random) -> str | None:
    """Mostly of what moves money."""
    return rng.choice([None, *ORDER_PATHS * 3, *READ_PATHS, *STOP_PATHS])


def _times(rng: random.Random) -> int:
    return rng.randint(1, 6)


def _channel(rng: random.Random) -> str:
    return rng.choice(("public", "private"))


def _at_request(kind: str, **more: Callable[[random.Random], object]) -> Callable[[random.Random], Fault]:
    def make(rng: random.Random) -> Fault:
        found: Fault = {"fault": kind, "times": _times(rng), **{name: value(rng) for name, value in more.items()}}
        path = _path(rng)
        return found if path is None else found | {"path": path}

    return make


FAULTS: Final[Sequence[Callable[[random.Random], Fault]]] = (
    _at_request("delay", ms=lambda rng: rng.randint(50, 1500)),
    _at_request("delay_answer", ms=lambda rng: rng.randint(50, 6000)),
    _at_request("drop_request"),
    _at_request("drop_answer"),
    _at_request("http_status", status=lambda rng: rng.choice((500, 502, 503, 504))),
    _at_request("http_status", status=lambda rng: rng.choice((500, 502, 503, 504)), after=lambda _: True),
    lambda rng: {"fault": "partial_fill", "fraction": f"{rng.uniform(0.1, 0.9):.2f}", "times": _times(rng)},
    lambda rng: {"fault": "split_fill", "times": _times(rng)},
    lambda rng: {"fault": "reject_async", "times": rng.randint(1, 2)},
    lambda rng: {"fault": "duplicate_events", "seconds": rng.uniform(1, 5)},
    lambda rng: {"fault": "reorder", "seconds": rng.uniform(1, 5)},
    lambda rng: {"fault": "late_visible", "ms": rng.randint(100, 1500), "seconds": rng.uniform(1, 4)},
    lambda rng: {"fault": "forget_closed", "seconds": rng.uniform(1, 4)},
    lambda rng: {"fault": "cut_socket", "channel": _channel(rng)},
    lambda rng: {"fault": "cut_socket", "channel": _channel(rng), "seconds": rng.uniform(0.5, 4)},
    lambda rng: {"fault": "silent_socket", "channel": _channel(rng), "seconds": rng.uniform(1, 5)},
    lambda rng: {"fault": "maintenance", "seconds": rng.uniform(0.2, 1.5)},
)


class Weather:
    """Everything that goes wrong, and how often it did. `calm` ends what breaks things, `still` the prices."""

    def __init__(self, up: Up, symbols: Sequence[str], rng: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.ticks = 0
        self._up = up
        self._rng = rng
        self._prices = dict.fromkeys(symbols, START_PRICE)
        self._moving: list[asyncio.Task[None]] = []
        self._breaking: list[asyncio.Task[None]] = []

    def blow(self, kill_every_s: float, fault_every_s: float) -> None:
        """Spans on average; 0: never."""
        self._moving.append(asyncio.create_task(self._for_ever(TICK_S, self._move_prices)))
        if kill_every_s:
            self._breaking.append(asyncio.create_task(self._for_ever(kill_every_s, self._kill)))
        if fault_every_s:
            self._breaking.append(asyncio.create_task(self._for_ever(fault_every_s, self._set_fault)))

    async def calm(self) -> None:
        """No more kills and faults; what is set at the exchange is cleared."""
        await _end(self._breaking)
        await self._up.control("DELETE", "faults")

    async def still(self) -> None:
        """No more ticks."""
        await _end(self._moving)

    async def _for_ever(self, every_s: float, what: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0.5 * every_s, 1.5 * every_s))
            with suppress(*CUT_OFF):
                await what()

    async def _kill(self) -> None:
        victim = self._rng.choice(VICTIMS)
        if self._up.kill(victim):
            self.kills[victim] += 1

    async def _set_fault(self) -> None:
        fault = self._rng.choice(FAULTS)(self._rng)
        await self._up.control("POST", "faults", fault)
        self.faults[fault["fault"]] += 1

    async def _move_prices(self) -> None:
        trades: list[tuple[str, object]] = []
        for symbol, price in self._prices.items():
            pct = self._rng.gauss(0, STEP_PCT)
            if self._rng.random() < JUMP_CHANCE:
                pct = self._rng.choice((-JUMP_PCT, JUMP_PCT))
            moved = (price * (1 + Decimal(f"{pct / 100:.6f}"))).quantize(CENT)
            self._prices[symbol] = moved if LOWEST < moved < HIGHEST else START_PRICE
            trades.append((symbol, self._prices[symbol]))
        await self._up.prices(trades)
        await self._up.whole_budget()
        self.ticks += len(trades)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    tasks.clear()
