# ruff: noqa: T201 - this is a program for a terminal
"""Damaged alert bodies by the thousand: `make fuzz BODIES=100000 [FIRST=0]`, or one of them: `make fuzz BODY=4711`.

Each is read as the door reads it, in this process alone; one of fifty goes through the real addresses as well, over
PostgreSQL, Redis and the simulator. `judge.py` says what must hold.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from app.alerts.recognise import FORMATS
from tests.fuzz import door
from tests.fuzz.judge import Wrong, memory_kb, outcome, shown
from tests.fuzz.mutate import case

PROCESSES = 2
CHUNK = 500
SAYS_S = 5.0
SHOWN_MAX = 10
DOOR_SHARE = 50  # of so many bodies one is sent as well
# The recorded bodies are among those that are damaged, so a number means another body without them.
SHARED = os.environ.get("LEVELHEAD_SHARED_ALERTS")
AGAIN = f"LEVELHEAD_SHARED_ALERTS={SHARED} " if SHARED else ""

Found = list[tuple[int, str]]


def chunk(numbers: range) -> tuple[Counter[str], Found, int]:
    """Judge these; how each ended, the ones that must not end so, and the memory that this process has held."""
    ended, found = Counter[str](), Found()
    for number in numbers:
        try:
            ended[outcome(case(number, FORMATS))] += 1
        except Wrong as wrong:
            found.append((number, str(wrong)))
    return ended, found, memory_kb()


def search(first: int, count: int, processes: int) -> Iterator[tuple[Counter[str], Found, int]]:
    ranges = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(chunk, ranges)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--body", type=int, help="this one alone, with all that it says")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--no-door", action="store_true", help="send none: no PostgreSQL is needed")
    options = parser.parse_args()
    if options.body is not None:
        return _one(options.body, sends=not options.no_door)
    wrong = _read(options.first, options.bodies, options.processes)
    if not options.no_door:
        wrong += asyncio.run(_sent(range(options.first, options.first + options.bodies, DOOR_SHARE)))
    for number, why in wrong[:SHOWN_MAX]:
        print(f"\n{why}")
        if number != door.NO_BODY:
            print(f"{shown(case(number, FORMATS))}\nagain: {AGAIN}make fuzz BODY={number}")
    return 1 if wrong else 0


def _one(number: int, *, sends: bool) -> int:
    one = case(number, FORMATS)
    print(shown(one))
    try:
        print(f"read: {outcome(one)}")
    except Wrong as wrong:
        print(f"WRONG: {wrong}")
        return 1
    return 1 if sends and asyncio.run(_sent(range(number, number + 1))) else 0


def _read(first: int, count: int, processes: int) -> Found:
    began = said = time.monotonic()
    ended, wrong, most_kb = Counter[str](), Found(), 0
    for some, found, memory in search(first, count, processes):
        ended += some
        wrong += found
        most_kb = max(most_kb, memory)
        for number, why in found:
            print(f"body {number} is WRONG: {why[:300]}", flush=True)
        if time.monotonic() - said > SAYS_S:
            said = time.monotonic()
            ran = ended.total() + len(wrong)
            print(f"{ran} of {count} bodies, {ran / (said - began):.0f} a second, {len(wrong)} wrong", flush=True)
    print("\n".join(f"{number:9} {name}" for name, number in ended.most_common()))
    print(
        f"{count} bodies in {time.monotonic() - began:.0f} s, {most_kb // 1024} MB at most: {len(wrong)} wrong",
        flush=True,
    )
    return wrong


async def _sent(numbers: range) -> Found:
    began = time.monotonic()
    answers, wrong = await door.send(numbers)
    print(f"{len(numbers)} sent in {time.monotonic() - began:.0f} s: {len(wrong)} wrong")
    print("\n".join(f"{count:9} {answer}" for answer, count in answers.most_common()))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
