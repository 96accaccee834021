"""How well each symbol is watched, as it is told once a second: for health and for metrics."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from app.domain.level import TriggerBy
from app.queue import FireLatency, SymbolFeed
from workers.feed import Feed

SPAN_S: Final = 60.0  # of the fires that are told of
FIRES_MAX: Final = 1000  # of one symbol


class Status:
    def __init__(self, watcher: UUID) -> None:
        self.watcher = watcher.hex[-8:]  # short: where an id names its process, its end does
        self._told_at = time.monotonic()
        self._fires: dict[tuple[str, str], deque[tuple[float, float]]] = {}  # (market, symbol) -> (when, latency in s)

    def fired(self, market: str, symbol: str, crossed_at: float) -> None:
        """The close of a level that was crossed then (monotonic) is handed to the wire now."""
        now = time.monotonic()
        self._fires.setdefault((market, symbol), deque(maxlen=FIRES_MAX)).append((now, now - crossed_at))

    def of(self, feeds: Iterable[Feed]) -> list[SymbolFeed]:
        """Of all symbols that are followed. Ticks are counted since this was asked last."""
        now = time.monotonic()
        span_s, self._told_at = max(now - self._told_at, 0.001), now
        found = []
        for feed in feeds:
            heard = feed.heard[TriggerBy.LAST]
            for symbol in sorted(feed.topics):
                found.append(
                    SymbolFeed(
                        watcher=self.watcher,
                        market=feed.market,
                        symbol=symbol,
                        linked=feed.linked,
                        age_ms=int((now - heard[symbol]) * 1000) if symbol in heard else None,
                        levels=feed.levels(symbol),
                        ticks_per_s=round(feed.ticks.pop(symbol, 0) / span_s, 1),
                        fires=self._latency(feed.market, symbol, now),
                    )
                )
        return found

    def _latency(self, market: str, symbol: str, now: float) -> FireLatency | None:
        fires = self._fires.get((market, symbol))
        while fires and fires[0][0] < now - SPAN_S:
            fires.popleft()
        if not fires:
            self._fires.pop((market, symbol), None)
            return None
        latencies = sorted(latency for _, latency in fires)

        def quantile_ms(share: float) -> float:
            return round(latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1000, 3)

        return FireLatency(count=len(latencies), p50_ms=quantile_ms(0.5), p99_ms=quantile_ms(0.99))
