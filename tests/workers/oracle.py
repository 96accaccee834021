"""What must fire and when, in the most obvious way: written from docs/alerts.md and docs/reliability.md alone.

It looks at every level with every price, and reads frames as plain JSON. The tests beside it compare.
"""

import json
from collections import deque
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.order import PositionSide

Seen = tuple[TriggerBy, Decimal, str | None]  # a price that counts: of which kind, and of which trade
Fired = tuple[UUID, Decimal, str | None]

PER_CENT = Decimal("0.01")


class Prices:
    """Which of the prices that one symbol's frames tell count, and when."""

    def __init__(self) -> None:
        self.last: Decimal | None = None
        self.last_ms = 0
        self.mark: Decimal | None = None
        self.step = Decimal(0)  # it is remembered where moves of more than one per cent began
        self.remembered: deque[tuple[int, Decimal]] = deque(maxlen=1000)
        self.held: list[tuple[Decimal, int, str]] = []
        self.side = 0
        self.jumps: list[int] = []
        self.book = -1
        self.ticker: dict[str, str] = {}
        self.denied = 0

    def hear(self, payload: bytes) -> list[Seen]:
        frame = json.loads(payload)
        frame = frame["data"] if "stream" in frame else frame
        topic = frame.get("topic", "")
        if topic.startswith("publicTrade."):
            return [one for row in frame["data"] for one in self._trade(Decimal(row["p"]), row["T"], row["i"])]
        if topic.startswith("tickers."):
            return self._ticker(frame)
        match frame.get("e"):
            case "aggTrade":
                return self._trade(Decimal(frame["p"]), frame["T"], str(frame["a"]))
            case "markPriceUpdate":
                return self._marked(Decimal(frame["p"]))
            case "bookTicker" if frame["u"] > self.book:
                self.book = frame["u"]
                return [(TriggerBy.BID, Decimal(frame["b"]), None), (TriggerBy.ASK, Decimal(frame["a"]), None)]
        return []

    def _ticker(self, frame: dict[str, Any]) -> list[Seen]:
        data = frame["data"]
        if frame["type"] == "snapshot":
            self.ticker = {}
        elif not self.ticker:
            return []
        self.ticker |= data
        seen = self._marked(Decimal(data["markPrice"])) if "markPrice" in data else []
        if frame["type"] == "snapshot" or "bid1Price" in data or "ask1Price" in data:
            for by, name in ((TriggerBy.BID, "bid1Price"), (TriggerBy.ASK, "ask1Price")):
                if self.ticker.get(name):
                    seen.append((by, Decimal(self.ticker[name]), None))
        return seen

    def _marked(self, price: Decimal) -> list[Seen]:
        self.mark = price
        seen: list[Seen] = [(TriggerBy.MARK, price, None)]
        if self.held and near(self.held[-1][0], price):
            seen += self._believe(self.held)
        return seen

    def _trade(self, price: Decimal, at_ms: int, trade_id: str) -> list[Seen]:
        """A trade counts at once unless it jumps; see "Prices that jump" in docs/reliability.md."""
        if self.last is not None and at_ms < self.last_ms - 1000:
            return []
        last = self.last if self.last is not None else self.mark
        trade = (price, at_ms, trade_id)
        if last is None:
            return self._believe([trade])
        if self._moves(price):
            self.remembered.append((at_ms, last))
        if self._no_jump(price, at_ms, last):
            if self.held and abs(price - self.held[-1][0]) < abs(price - last):
                return self._believe([*self.held, trade])
            self.denied += len(self.held)
            return self._believe([trade])
        side = 1 if price > last else -1
        if side != self.side:
            self.side, self.jumps = side, []
            self.denied += len(self.held)
            self.held = []
        self.held.append(trade)
        self.jumps = [ms for ms in self.jumps if ms > at_ms - 1000] + [at_ms]
        three = len(self.held) >= 3 or len(self.jumps) >= 3
        if three or (self.mark is not None and near(price, self.mark)):
            return self._believe(self.held)
        return []

    def _no_jump(self, price: Decimal, at_ms: int, last: Decimal) -> bool:
        if near(price, last):
            return True
        lately = [seen for ms, seen in self.remembered if ms > at_ms - 30_000]
        return min(lately) * (1 - 2 * PER_CENT) <= price <= max(lately) * (1 + 2 * PER_CENT)

    def _moves(self, price: Decimal) -> bool:
        return bool(self.held) or abs(price - self.step) > self.step * PER_CENT

    def _believe(self, trades: list[tuple[Decimal, int, str]]) -> list[Seen]:
        price, at_ms, _ = trades[-1]
        if self._moves(price):
            self.step = price
        self.held = []
        self.last, self.last_ms = price, at_ms
        return [(TriggerBy.LAST, price, trade_id) for price, _, trade_id in trades]


def near(price: Decimal, other: Decimal) -> bool:
    return abs(price - other) <= other * 2 * PER_CENT


class Watched:
    """One level. It is told every price by which it is judged."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.sign = 1 if level.side is PositionSide.LONG else -1
        self.awake = level.activation_price is None
        self.best: Decimal | None = None

    def fires(self, price: Decimal) -> bool:
        level, sign = self.level, self.sign
        if not self.awake:
            assert level.activation_price is not None
            if sign * price < sign * level.activation_price:
                return False
            self.awake = True
        if level.kind is LevelKind.TAKE_PROFIT:
            assert level.price is not None
            return sign * price >= sign * level.price
        if level.price is not None:
            return sign * price <= sign * level.price
        if self.best is None or sign * price > sign * self.best:
            self.best = price
        return sign * price <= sign * self.best - self._distance(self.best)

    def _distance(self, best: Decimal) -> Decimal:
        level = self.level
        if level.distance is not None:
            return level.distance
        assert level.distance_pct is not None
        if level.decay_pct is None:
            return best * level.distance_pct / 100
        assert level.activation_price is not None
        gain_pct = max(Decimal(0), self.sign * (best - level.activation_price) / level.activation_price * 100)
        lost = ((1 - (-gain_pct / level.decay_pct).exp()) * 20).to_integral_value(ROUND_HALF_UP) / 20
        return best * level.distance_pct * (1 - (1 - level.min_factor) * lost) / 100


class Oracle:
    """All levels of one symbol."""

    def __init__(self) -> None:
        self.prices = Prices()
        self.watched: dict[UUID, Watched] = {}

    def arm(self, level: Level) -> None:
        self.watched[level.id] = Watched(level)

    def disarm(self, level_ids: Iterable[UUID]) -> None:
        for level_id in level_ids:
            self.watched.pop(level_id, None)

    def hear(self, payload: bytes) -> list[Fired]:
        return [fired for seen in self.prices.hear(payload) for fired in self._look(*seen)]

    def _look(self, by: TriggerBy, price: Decimal, trade_id: str | None) -> list[Fired]:
        """A stop goes before the targets, and alone of its position; the largest first."""
        crossed = [one.level for one in self.watched.values() if one.level.trigger_by is by and one.fires(price)]
        if not crossed:
            return []
        target = LevelKind.TAKE_PROFIT
        crossed.sort(key=lambda level: (level.kind is target, level.armed_at, level.id))
        fired: list[Level] = []
        for level in crossed:
            if not any(one.position_id == level.position_id and one.kind is not target for one in fired):
                fired.append(level)
        fired.sort(key=lambda level: (level.kind is target, -level.qty))
        self.disarm(level.id for level in fired)
        return [(level.id, price, trade_id) for level in fired]
