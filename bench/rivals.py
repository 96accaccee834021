"""Other ways to find the levels that a price crosses, for comparison: each holds longs' levels and answers a count."""

from bisect import insort
from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from app.domain.level import Level


class Rival(Protocol):
    def on_price(self, price: Decimal) -> int:
        """How many levels the price crosses."""


class Loop:
    """Looks at every level with every price."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self._stops, self._targets, self._trailing = split(levels)

    def on_price(self, price: Decimal) -> int:
        fired = 0
        for stop in self._stops:
            if price <= stop:
                fired += 1
        for target in self._targets:
            if price >= target:
                fired += 1
        for trail in self._trailing:
            if price > trail[0]:
                trail[0] = price
            elif price <= trail[0] - trail[1]:
                fired += 1
        return fired


class Sorted:
    """Keeps what fires in order of price, on each side. A trailing stop is put in anew when its extreme moves."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self._stops, self._targets, self._trailing = split(levels)
        self._stops.sort()
        self._targets.sort()
        self._trailing.sort()  # the lowest extreme, which moves first, in front
        self._triggers = sorted(extreme - distance for extreme, distance in self._trailing)

    def on_price(self, price: Decimal) -> int:
        moved = 0
        for trail in self._trailing:
            if price <= trail[0]:
                break
            self._triggers.remove(trail[0] - trail[1])
            insort(self._triggers, price - trail[1])
            trail[0] = price
            moved += 1
        fired = 0
        for below in (self._stops, self._triggers):
            while fired < len(below) and below[-1 - fired] >= price:
                fired += 1
        while fired < len(self._targets) and self._targets[fired] <= price:
            fired += 1
        return fired


def split(levels: Iterable[Level]) -> tuple[list[Decimal], list[Decimal], list[list[Decimal]]]:
    """Prices of stops, prices of targets, [extreme, distance] of trailing stops."""
    stops: list[Decimal] = []
    targets: list[Decimal] = []
    trailing: list[list[Decimal]] = []
    for level in levels:
        if level.price is not None:
            (targets if level.fires_above else stops).append(level.price)
        elif level.extreme is not None and level.distance is not None:
            trailing.append([level.extreme, level.distance])
    return stops, targets, trailing
