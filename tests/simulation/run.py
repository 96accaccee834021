# ruff: noqa: T201 - this is a program for a terminal
"""Search seeds for a violation: `make simulate SEEDS=100000 [FIRST=0]`, or see one whole: `make simulate SEED=4711`.

A failing seed is run again with its trace, and made smaller first: kinds of faults without which it fails as well are
left out. `WITHOUT=crash,pause` leaves out kinds by hand.
"""

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.pool import Pool

import msgspec

from tests.simulation.schedule import FAULTS, draw
from tests.simulation.simulate import Result, simulate

PROCESSES = 2
CHUNK = 20  # seeds that a process takes at once; garbage is collected in between
TAIL = 60  # lines of the trace before a violation
SAYS_S = 5.0
FAILURES_MAX = 10


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A seed that fails, and the kinds of faults without which it still does."""

    seed: int
    violation: str
    without: frozenset[str]

    @property
    def code(self) -> str:
        return self.violation.split(":", 1)[0]


def chunk(seeds: range) -> list[tuple[int, str]]:
    """Run these; the ones that fail."""
    found = [(seed, violation) for seed in seeds if (violation := violation_of(seed)) is not None]
    gc.collect()
    return found


def violation_of(seed: int, without: frozenset[str] = frozenset()) -> str | None:
    return simulate(seed, without=without).violation


def minimised(seed: int, violation: str) -> Failure:
    """Leave out whatever kinds of faults the failure does not need."""
    code, without = violation.split(":", 1)[0], frozenset[str]()
    for kind in FAULTS:
        if kind in draw(seed, without).rates:
            found = violation_of(seed, without | {kind})
            if found is not None and found.split(":", 1)[0] == code:
                without, violation = without | {kind}, found
    return Failure(seed=seed, violation=violation, without=without)


def trace(seed: int, without: frozenset[str] = frozenset(), *, whole: bool = False) -> Result:
    """Run a seed once more, with its lines."""
    return simulate(seed, without=without, tell=print if whole else None, digest=True)


def report(failure: Failure) -> str:
    """What happened, readable."""
    result = trace(failure.seed, failure.without)
    rates = ", ".join(f"{kind} {rate:.2f}" for kind, rate in draw(failure.seed, failure.without).rates.items())
    return "\n".join(
        [
            f"seed {failure.seed}: {result.violation}",
            f"faults: {rates or 'none'}",
            f"whole: make simulate SEED={failure.seed}"
            + (f" WITHOUT={','.join(sorted(failure.without))}" if failure.without else ""),
            *result.lines[-TAIL:],
        ]
    )


def search(first: int, count: int, pool: Pool) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """How many seeds were run since the last answer, and which of them fail."""
    ranges = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    yield from pool.imap_unordered(_sized_chunk, ranges)


def _sized_chunk(seeds: range) -> tuple[int, list[tuple[int, str]]]:
    return len(seeds), chunk(seeds)


def start_pool(processes: int = PROCESSES) -> Pool:
    """Processes whose strings hash alike in every run: a set of names has one order then.

    They have no clock to keep up with, and let tests that do go first.
    """
    os.environ["PYTHONHASHSEED"] = "0"
    return multiprocessing.get_context("spawn").Pool(processes, initializer=_begin)


def _begin() -> None:
    os.nice(10)
    gc.freeze()  # what was imported stays: collections need not look at it


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="run this one and print all of it")
    parser.add_argument("--without", default="", help="kinds of faults to leave out, with commas")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    options = parser.parse_args()
    if options.seed is not None:
        if os.environ.get("PYTHONHASHSEED") != "0":
            os.environ["PYTHONHASHSEED"] = "0"
            os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.run", *sys.argv[1:]])
        result = trace(options.seed, frozenset(filter(None, options.without.split(","))), whole=True)
        print(f"seed {options.seed}: {result.violation or 'holds'}")
        print(f"{result.seconds:.1f} virtual seconds, {result.steps} steps, trace {result.digest}")
        return 0 if result.violation is None else 1
    return _search(options.first, options.seeds, options.processes)


def _search(first: int, count: int, processes: int) -> int:
    began = said = time.monotonic()
    ran, failures = 0, list[tuple[int, str]]()
    with start_pool(processes) as pool:
        for more, found in search(first, count, pool):
            ran += more
            for seed, violation in found:
                print(f"seed {seed} FAILS: {violation}", flush=True)
            failures += found
            if time.monotonic() - said > SAYS_S:
                said = time.monotonic()
                print(f"{ran} of {count} seeds, {ran / (said - began):.1f} a second, {len(failures)} fail", flush=True)
        took = time.monotonic() - began
        speed = f"{ran / took:.1f} a second on {processes} processes"
        print(f"{ran} seeds in {took:.0f} s, {speed}: {len(failures)} violations", flush=True)
        for failure in pool.starmap(minimised, sorted(failures)[:FAILURES_MAX], chunksize=1):
            print("\n" + pool.apply(report, (failure,)), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
