"""The program in many worlds: seeds in which nothing may go wrong for good, and the proof that this search finds bugs.

`LEVELHEAD_TEST_SEEDS` seeds are run (5,000 if not set) on two processes; `make simulate` runs as many as one likes.
"""

import os
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.domain.order import Order
from app.flows import legs, orders, protect
from app.store import positions
from tests.simulation.run import Failure, chunk, report, start_pool
from tests.simulation.simulate import Result, simulate

SEEDS = int(os.environ.get("LEVELHEAD_TEST_SEEDS", "5000"))
PARTS = 10
PROCESSES = 2
REGRESSIONS = Path(__file__).parent / "regressions.txt"
SEARCHED = 300  # seeds in which a planted bug has to show itself

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with start_pool(PROCESSES) as found:
        yield found


def digest_of(seed: int) -> str:
    return simulate(seed, digest=True).digest


@pytest.mark.parametrize("part", range(PARTS))
def test_every_world_comes_to_rest_with_all_promises_kept(pool: Pool, part: int) -> None:
    seeds = range(SEEDS * part // PARTS, SEEDS * (part + 1) // PARTS)
    chunks = [range(start, min(start + 20, seeds.stop)) for start in range(seeds.start, seeds.stop, 20)]
    failed = [one for found in pool.map(chunk, chunks, chunksize=1) for one in found]
    told = [report(Failure(seed=seed, violation=violation, without=frozenset())) for seed, violation in failed[:3]]
    assert not failed, f"{len(failed)} seeds fail\n" + "\n\n".join(told)


def regressions() -> list[tuple[int, frozenset[str], str]]:
    found = []
    for line in REGRESSIONS.read_text().splitlines():
        if line and not line.startswith("#"):
            seed, without, why = line.split(maxsplit=2)
            found.append((int(seed), frozenset() if without == "-" else frozenset(without.split(",")), why))
    return found


@pytest.mark.parametrize(("seed", "without", "why"), regressions())
def test_what_failed_once_holds(seed: int, without: frozenset[str], why: str) -> None:
    assert simulate(seed, without=without).violation is None, why


def test_a_seed_is_the_same_world_each_time(pool: Pool) -> None:
    """Here, here again, and in a process of its own that has run others before."""
    seeds = [3, 11, 42, 77]
    there = pool.map(digest_of, seeds, chunksize=1)
    assert pool.map(digest_of, reversed(seeds), chunksize=1) == there[::-1]
    assert len(set(there)) == len(seeds)


def test_time_is_real_again_after_a_world() -> None:
    import time

    before = time.time()
    simulate(5)
    assert 0 <= time.time() - before < 3600


# Planted bugs: what the search has to find


def first_violation(codes: set[str]) -> Result | None:
    for seed in range(SEARCHED):
        found = simulate(seed)
        if found.violation is not None and found.violation.split(":")[0] in codes:
            return found
    return None


def test_an_order_that_leaves_before_its_commit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sent_first(resources: Any, book: Any, intent: Any, qty: Any, *, native_stop: Any = None) -> Order:
        return orders._order(resources, book, intent, 0, qty, native_stop)

    monkeypatch.setattr(orders, "write", sent_first)
    assert first_violation({"I3"}) is not None


def test_an_unknown_opening_that_is_sent_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called absent as soon as it is not shown, and another one follows."""
    monkeypatch.setattr(orders, "_window_is_over", lambda *args: True)
    monkeypatch.setattr(legs, "_may_be_followed", lambda last: True)
    assert first_violation({"I2"}) is not None


def test_a_close_that_may_open_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = orders._order

    def unbound(*args: Any) -> Order:
        return msgspec.structs.replace(real(*args), reduce_only=False)

    monkeypatch.setattr(orders, "_order", unbound)
    assert first_violation({"I5"}) is not None


def test_a_stop_that_is_not_placed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*args: Any) -> bool:
        return True

    monkeypatch.setattr(protect, "secure", nothing)
    monkeypatch.setattr(protect, "cover", nothing)
    assert first_violation({"I4", "end"}) is not None


def test_a_fill_that_is_never_folded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets(connection: Any, position: Any) -> None:
        return None

    monkeypatch.setattr(positions, "update_fold", forgets)
    assert first_violation({"end"}) is not None


def test_a_crossed_level_that_fires_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.domain.level_book import LevelBook

    monkeypatch.setattr(LevelBook, "on_price", lambda self, price: [])
    assert first_violation({"end"}) is not None
