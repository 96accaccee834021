"""What a tick costs in the level book, by the number of levels that it does not cross."""

import gc
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from app.domain.level import Level, LevelKind
from app.domain.level_book import LevelBook
from app.domain.order import PositionSide
from app.ids import new_id

SIZES = (10, 100, 1_000, 10_000, 100_000)
REPEATS = 20
ONE = Decimal(1)
ARMED_AT = datetime(2026, 1, 1, tzinfo=UTC)

Ticks: TypeAlias = list[Decimal]


def plain(number: int) -> Level:
    """Stops below and targets above, each at a price of its own."""
    far = Decimal(10) + Decimal(number) / 10_000
    kind = LevelKind.STOP_LOSS if number % 2 else LevelKind.TAKE_PROFIT
    return _level(kind, price=100 - far if number % 2 else 100 + far)


def trailing(number: int) -> Level:
    """Awake, each with an extreme and a distance of its own."""
    extreme = Decimal(101) + Decimal(number % 1000) / 10_000
    return _level(LevelKind.TRAILING_STOP, extreme=extreme, distance=Decimal(10) + Decimal(number) / 1_000_000)


def _level(
    kind: LevelKind, *, price: Decimal | None = None, extreme: Decimal | None = None, distance: Decimal | None = None
) -> Level:
    unused: UUID = new_id()
    return Level(
        id=new_id(), position_id=new_id(), kind=kind, side=PositionSide.LONG, fraction=ONE, qty=ONE, price=price,
        extreme=extreme, distance=distance, armed_at=ARMED_AT, order_id=unused, intent_id=unused,
    )  # fmt: skip


def inside(count: int) -> Ticks:
    """Up and down, crossing nothing and moving no extreme."""
    return [Decimal("100.00") + Decimal(step % 7) / 100 for step in range(count)]


def rising(count: int) -> Ticks:
    """A new high with each tick: every trailing stop's extreme moves each time."""
    return [Decimal(110) + Decimal(step) / 1000 for step in range(count)]


CASES: dict[str, tuple[Callable[[int], Level], Callable[[int], Ticks]]] = {
    "plain": (plain, inside),
    "trailing, price below the highs": (trailing, inside),
    "trailing, a new high each tick": (trailing, rising),
}


def ns_per_tick(book: LevelBook, ticks: Ticks) -> float:
    began = time.perf_counter_ns()
    for price in ticks:
        book.on_price(price)
    return (time.perf_counter_ns() - began) / len(ticks)


def measure(sizes: tuple[int, ...] = SIZES, ticks: int = 2_000) -> dict[str, dict[int, float]]:
    """Case -> number of levels -> ns per tick.

    The best of some rounds, for what disturbs only ever adds; the sizes take turns, so that it disturbs all of them.
    """
    found: dict[str, dict[int, float]] = {}
    gc.collect()
    gc.disable()
    try:
        for name, (make, walk) in CASES.items():
            books = {size: LevelBook(make(number) for number in range(size)) for size in sizes}
            if walk is rising:
                # A high is new only once, so there is one round; fewer ticks where each of them takes long.
                found[name] = {
                    size: ns_per_tick(book, walk(max(5, min(ticks, 200_000 // size)))) for size, book in books.items()
                }
                continue
            prices = walk(ticks)
            rounds = [{size: ns_per_tick(book, prices) for size, book in books.items()} for _ in range(REPEATS)]
            found[name] = {size: min(one[size] for one in rounds) for size in sizes}
    finally:
        gc.enable()
    return found


def table(found: dict[str, dict[int, float]]) -> str:
    width = max(len(name) for name in found)
    lines = ["a tick in the level book, ns (and × the smallest book)"]
    for name, row in found.items():
        least = row[min(row)]
        cells = "  ".join(f"{size:>7,}: {ns:>11,.0f} ({ns / least:,.1f} ×)" for size, ns in row.items())
        lines.append(f"  {name:{width}}  {cells}")
    return "\n".join(lines)
