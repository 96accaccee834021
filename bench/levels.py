"""What a tick costs in the level book, by the number of levels that it does not cross."""

import gc
import random
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

import msgspec

from app.domain.level import Level, LevelKind
from app.domain.level_book import LevelBook
from app.domain.order import PositionSide
from app.ids import new_id
from bench.report import aimed
from bench.rivals import Loop, Rival, Sorted

SIZES = (10, 100, 1_000, 10_000, 100_000)
ROUNDS = 20
WORK = 200_000  # levels to look at in one round, for ways that look at each
ENOUGH_S = 2.0  # of one way and size: no further round
SORTED_MAX = 10_000  # one that moves every trailing stop in a sorted list takes seconds a tick beyond it
TICK_AIM_US, FLAT_AIM = 0.5, 1.5
RIVAL_AIMS = {"loop": {"plain": 300, "trailing, a new high each tick": 500},
              "emulator": {"plain": 500, "trailing, a new high each tick": 10_000}}  # fmt: skip
COMPARED = 10_000  # levels
ONE = Decimal(1)
ARMED_AT = datetime(2026, 1, 1, tzinfo=UTC)

Ticks: TypeAlias = list[Decimal]


def plain(number: int) -> Level:
    """Stops below and targets above, each at a price of its own."""
    far = Decimal(10) + Decimal(number) / 10_000
    kind = LevelKind.STOP_LOSS if number % 2 else LevelKind.TAKE_PROFIT
    return armed_level(kind, price=100 - far if number % 2 else 100 + far)


def trailing(number: int) -> Level:
    """Awake, each with an extreme and a distance of its own."""
    extreme = Decimal(101) + Decimal(number % 1000) / 10_000
    return armed_level(LevelKind.TRAILING_STOP, extreme=extreme, distance=Decimal(10) + Decimal(number) / 1_000_000)


def armed_over_time(number: int) -> Level:
    """Trailing stops of either side, each armed at another price and so with an extreme of its own: many groups, of
    which a price that goes on passes one after the other.
    """
    away = Decimal(number) / 200
    side, extreme = (PositionSide.LONG, 105 + away) if number % 2 else (PositionSide.SHORT, 105 - away / 1000)
    return armed_level(LevelKind.TRAILING_STOP, extreme=extreme, distance=away + 8, side=side)


def shrinking(number: int) -> Level:
    """Trailing take profits that woke, whose callback is smaller the higher the price has been."""
    return armed_level(
        LevelKind.TRAILING_TAKE_PROFIT, extreme=Decimal(101), activation_price=100 + Decimal(number % 1000) / 10**6,
        distance_pct=Decimal(20), min_factor=Decimal("0.5"), decay_pct=5 + Decimal(number) / 10**9,
    )  # fmt: skip


def armed_level(
    kind: LevelKind,
    *,
    price: Decimal | None = None,
    extreme: Decimal | None = None,
    distance: Decimal | None = None,
    side: PositionSide = PositionSide.LONG,
    activation_price: Decimal | None = None,
    distance_pct: Decimal | None = None,
    min_factor: Decimal = ONE,
    decay_pct: Decimal | None = None,
) -> Level:
    unused: UUID = new_id()
    return Level(
        id=new_id(), position_id=new_id(), kind=kind, side=side, fraction=ONE, qty=ONE, price=price,
        extreme=extreme, distance=distance, armed_at=ARMED_AT, order_id=unused, intent_id=unused,
        activation_price=activation_price, distance_pct=distance_pct, min_factor=min_factor, decay_pct=decay_pct,
    )  # fmt: skip


def inside(count: int, _: int) -> Ticks:
    """Up and down, crossing nothing and moving no extreme."""
    return [Decimal("100.00") + Decimal(step % 7) / 100 for step in range(count)]


def rising(count: int, round_number: int) -> Ticks:
    """A new high with each tick, in each round: every trailing stop's extreme moves each time."""
    return [Decimal(110 + round_number) + Decimal(step) / 100_000 for step in range(count)]


def climbing(count: int, round_number: int) -> Ticks:
    """A new high and a step back in turns."""
    return [price if step % 2 else price - 1 for step, price in enumerate(rising(count, round_number))]


def passing(count: int, round_number: int) -> Ticks:
    """A new high with each tick, which goes on where the round before ended."""
    return [105 + Decimal(round_number * count + step) / 100_000 for step in range(count)]


def walking(count: int, round_number: int) -> Ticks:
    """At random, up as often as down, some steps larger than others."""
    rng, price, ticks = random.Random(round_number), Decimal(105), []
    for _ in range(count):
        price += Decimal(round(rng.gauss(0, 3))) / 1000
        ticks.append(price)
    return ticks


class Case(msgspec.Struct, frozen=True):
    make: Callable[[int], Level]
    walk: Callable[[int, int], Ticks]
    ways: dict[str, Callable[[Iterable[Level]], LevelBook | Rival]]


CASES = {
    "plain": Case(plain, inside, {"book": LevelBook, "loop": Loop, "sorted": Sorted}),
    "trailing, below the highs": Case(trailing, inside, {"book": LevelBook, "loop": Loop, "sorted": Sorted}),
    "trailing, a new high each tick": Case(trailing, rising, {"book": LevelBook, "loop": Loop, "sorted": Sorted}),
    "trailing, every second a new high": Case(trailing, climbing, {"book": LevelBook}),
    "trailing, a walk among them": Case(armed_over_time, walking, {"book": LevelBook}),
    "trailing, a new high among them": Case(armed_over_time, passing, {"book": LevelBook}),
    "shrinking, a new high each tick": Case(shrinking, rising, {"book": LevelBook}),
}


def ns_per_tick(way: LevelBook | Rival, ticks: Ticks) -> float:
    on_price = way.on_price
    began = time.perf_counter_ns()
    for price in ticks:
        on_price(price)
    return (time.perf_counter_ns() - began) / len(ticks)


def measure(sizes: tuple[int, ...] = SIZES, ticks: int = 2_000, rounds: int = ROUNDS) -> dict[str, dict[int, float]]:
    """Case and way -> number of levels -> ns per tick.

    The best of some rounds, for what disturbs only ever adds; sizes and ways take turns, so that it disturbs all of
    them. Ways whose cost grows with the levels get fewer ticks.
    """
    found: dict[str, dict[int, float]] = {}
    gc.collect()
    gc.disable()
    try:
        for name, case in CASES.items():
            ways = {
                (way, size): open_way([case.make(number) for number in range(size)])
                for way, open_way in case.ways.items()
                for size in sizes
                if way != "sorted" or case.walk is inside or size <= SORTED_MAX
            }
            spent_s = dict.fromkeys(ways, 0.0)
            for number in range(rounds):
                for (way, size), one in ways.items():
                    if spent_s[way, size] > ENOUGH_S:
                        continue
                    count = ticks if way == "book" else max(5, min(ticks, WORK // size))
                    if way == "sorted" and case.walk is not inside:
                        count = max(2, min(count, WORK // size**2))  # each is looked for among all
                    prices = case.walk(count, number)
                    one.on_price(prices[0])  # what has to be put in order first
                    took = ns_per_tick(one, prices)
                    spent_s[way, size] += took * count / 1e9
                    row = found.setdefault(f"{name}: {way}", {})
                    row[size] = min(took, row.get(size, took))
            del ways
            gc.collect()
    finally:
        gc.enable()
    return found


def table(found: dict[str, dict[int, float]]) -> str:
    """Rows by name. The book's are followed by how often it is faster than the others at the same size."""
    width = max(len(name) for name in found)
    lines = ["a tick in the level book, ns (and × the smallest book; others: × the book of that size)"]
    for name, row in sorted(found.items(), key=lambda item: list(CASES).index(item[0].rsplit(": ", 1)[0])):
        book = found[name.rsplit(": ", 1)[0] + ": book"]
        cells = "  ".join(
            f"{size:>7,}: {ns:>11,.0f} ({ns / (book[min(row)] if row is book else book[size]):,.1f} ×)"
            for size, ns in row.items()
        )
        lines.append(f"  {name:{width}}  {cells}")
    return "\n".join(lines)


def verdicts(found: dict[str, dict[int, float]]) -> str:
    """The aims: what a tick may take at any size, how flat that is, and how much longer the other ways take."""
    lines = []
    for case in CASES:
        row = found[f"{case}: book"]
        lines.append(
            f"  {case}: {aimed(max(row.values()) / 1000, TICK_AIM_US, ' µs')} a tick at most, "
            f"the most ÷ the least {aimed(max(row.values()) / min(row.values()), FLAT_AIM)}"
        )
    for way, cases in RIVAL_AIMS.items():
        for case, aim in cases.items():
            rival = found.get(f"{case}: {way}", {})
            if COMPARED in rival:
                ratio = rival[COMPARED] / found[f"{case}: book"][COMPARED]
                lines.append(f"  {case}: {way} ÷ book at {COMPARED:,}: {aimed(ratio, aim, least=True)}")
    return "\n".join(lines)
