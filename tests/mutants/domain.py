"""`make mutants-domain`: how many small wrong changes of app/domain do tests/domain notice?

Each mutant is tried in a forked child, in which the tests are imported already; nothing is written. A child runs only
the tests that were seen to call the changed function, the quickest first, and ends at the first that fails.

    python -m tests.mutants.domain                    all of them
    python -m tests.mutants.domain level_book.py      one module, or any other piece of a mutant's name
"""

import argparse
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import hypothesis
import msgspec

from tests.mutants.child import Seen, Tests, try_mutant, watch
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.operators import Enums, Mutant, enums_of, mutants

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = ROOT / "app" / "domain"
SCORE_MIN = 90.0  # per cent
CPU_S_MAX = 30  # a mutant that needs more turns in circles: noticed

_FORK = multiprocessing.get_context("fork")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    mutant: Mutant
    caught: bool
    why: str


def domain_sources() -> dict[str, str]:
    """File, as in `app/domain/decide.py` -> its source."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(DOMAIN.glob("*.py"))}


def all_mutants(sources: dict[str, str]) -> tuple[list[Mutant], Enums]:
    enums = enums_of(sources.values())
    return [one for file, source in sources.items() for one in mutants(file, source, enums)], enums


def seen_calls(tests: Tests, sources: dict[str, str]) -> Seen:
    """One run of all tests in a child, watched."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "seen.json"
        child = _FORK.Process(target=watch, args=(tests, sources, answer))
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit("the tests of the domain fail as it is: mend that first")
        return msgspec.json.decode(answer.read_bytes(), type=Seen)


def try_all(
    wanted: Iterable[Mutant], sources: dict[str, str], enums: Enums, tests: Tests, seen: Seen, jobs: int
) -> Iterator[Result]:
    """Each mutant's end, as it comes."""
    left = iter(wanted)
    running: dict[int, tuple[BaseProcess, Mutant]] = {}
    while True:
        while len(running) < jobs and (mutant := next(left, None)) is not None:
            chosen = seen.tests_of(mutant)
            if not chosen:
                yield Result(mutant=mutant, caught=False, why="no test comes by")
                continue
            arguments = (mutant, sources[mutant.file], enums, tests, chosen, CPU_S_MAX)
            child: BaseProcess = _FORK.Process(target=try_mutant, args=arguments)
            child.start()
            running[child.sentinel] = child, mutant
        if not running:
            return
        for sentinel in multiprocessing.connection.wait(list(running)):
            assert isinstance(sentinel, int)
            child, mutant = running.pop(sentinel)
            child.join()
            endless = child.exitcode == -signal.SIGXCPU
            yield Result(mutant=mutant, caught=child.exitcode != 0, why="endless" if endless else "")


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.domain", description="Mutation score of app/domain.")
    parser.add_argument("only", nargs="*", help="pieces of names: only mutants with one of them")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    # One seed for all, no examples kept, and no search for the smallest one: it is enough that a test fails.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, phases=phases, deadline=None)
    hypothesis.settings.load_profile("mutants")

    sources = domain_sources()
    found, enums = all_mutants(sources)
    wanted = [one for one in found if not options.only or any(piece in one.name for piece in options.only)]
    wanted = [one for one in wanted if one.name not in EQUIVALENT]
    tests = Tests.collect(ROOT)
    for file in sources:
        importlib.import_module(file.removesuffix(".py").replace("/", "."))
    say(f"{len(found)} mutants of {len(sources)} modules, {len(EQUIVALENT)} equivalent; {len(tests.calls)} tests")
    seen = seen_calls(tests, sources)

    started = time.monotonic()
    results: list[Result] = []
    for result in try_all(wanted, sources, enums, tests, seen, options.jobs):
        results.append(result)
        if not result.caught:
            say(f"SURVIVED line {result.mutant.line} {result.mutant.name} {result.why}")
        if len(results) % 100 == 0:
            lived = sum(not x.caught for x in results)
            say(f"{len(results)} of {len(wanted)}, {lived} survived, {time.monotonic() - started:.0f} s")

    for file in sources:
        here = [x for x in results if x.mutant.file == file]
        if here:
            caught = sum(x.caught for x in here)
            say(f"{file:28} {caught:4} of {len(here):4} caught {100 * caught / len(here):6.1f} %")
    caught = sum(x.caught for x in results)
    score = 100 * caught / max(len(results), 1)
    took = time.monotonic() - started
    say(f"{'mutation score':28} {caught:4} of {len(results):4} caught {score:6.1f} %  in {took:.0f} s")
    if score < SCORE_MIN:
        say(f"at least {SCORE_MIN:.0f} % are asked for")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
