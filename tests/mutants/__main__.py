"""`make mutants`: plant each of the bugs in a copy of the tree, and see that the tests catch it.

python -m tests.mutants                 all of them
python -m tests.mutants fence reversal  those whose names have one of these words
python -m tests.mutants --list          say what they are
python -m tests.mutants --sound         the same selections on the tree as it is: all of them must pass
"""

import argparse
import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.mutants.planted import BUGS
from tests.mutants.planted.bug import Bug
from tests.support.servers import Servers, servers

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "app",
    "workers",
    "simulator",
    "tests",
    "bench",
    "migrations",
    "docs",
    "pyproject.toml",
    "README.md",
    "Makefile",
)
RUN_S_MAX = 180.0  # a bug that makes tests hang is caught, too
FAILED, PASSED = 1, 0  # what pytest ends with


class Result(msgspec.Struct, frozen=True, kw_only=True):
    bug: Bug
    caught: bool
    by: str  # the test that failed first
    seconds: float


class Copy:
    """A copy of the tree, with servers of its own: one bug at a time is planted in it."""

    def __init__(self, place: Path, running: Servers) -> None:
        self._place = place
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("LEVELHEAD_")}
        self._env |= {
            "PYTHONPATH": str(place),
            "LEVELHEAD_TEST_DATABASE_URL": running.database_url,
            "LEVELHEAD_TEST_REDIS_URL": running.redis_url,
        }
        self._written_at = int(time.time()) - 10**6

    def check(self) -> None:
        """That its tests import the copy: the package is installed from where it stands, so it could be otherwise."""
        script = "import app, simulator, tests, workers as w; print(*(x.__file__ for x in (app, simulator, tests, w)))"
        run = subprocess.run(
            [sys.executable, "-c", script], cwd=self._place, env=self._env, capture_output=True, text=True, check=True
        )
        for found in run.stdout.split():
            if not Path(found).is_relative_to(self._place):
                raise SystemExit(f"the tests would import {found}, which is not of the copy")

    def _write(self, file: str, source: str) -> None:
        path = self._place / file
        path.write_text(source)
        # Compiled modules are told apart by size and whole seconds: no two of ours have the same.
        self._written_at += 1
        os.utime(path, (self._written_at, self._written_at))

    async def try_bug(self, bug: Bug, plant: bool = True) -> Result:
        sound = (self._place / bug.file).read_text()
        started = time.monotonic()
        if plant:
            self._write(bug.file, bug.planted_in(sound))
        try:
            code, output = await self._run(bug.tests)
        finally:
            if plant:
                self._write(bug.file, sound)
        if code not in (PASSED, FAILED, None):
            raise SystemExit(f"{bug.name}: pytest ended with {code}\n{output[-3000:]}")
        failed = [line for line in output.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
        by = failed[0].split(" - ")[0].split("::", 1)[-1] if failed else "too slow" if code is None else ""
        return Result(bug=bug, caught=code != PASSED, by=by, seconds=time.monotonic() - started)

    async def _run(self, tests: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line", *shlex.split(tests),
            cwd=self._place, env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        reading = asyncio.ensure_future(process.communicate())
        done, _ = await asyncio.wait([reading], timeout=RUN_S_MAX)
        if not done:
            os.killpg(process.pid, 9)  # the session that was begun for it, and nothing else
        output, _ = await reading
        return process.returncode if done else None, output.decode(errors="replace")


@asynccontextmanager
async def a_copy(of: Path, place: Path) -> AsyncIterator[Copy]:
    shutil.copytree(of, place)
    async with servers() as running:
        copy = Copy(place, running)
        copy.check()
        yield copy


def take_tree(to: Path) -> None:
    """What stands in the tree now, so that edits meanwhile disturb nothing."""
    to.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, to / name)


async def try_all(bugs: list[Bug], jobs: int, plant: bool) -> list[Result]:
    left = list(reversed(bugs))
    results: list[Result] = []

    async def work(tree: Path, place: Path) -> None:
        async with a_copy(tree, place) as copy:
            while left:
                result = await copy.try_bug(left.pop(), plant)
                results.append(result)
                word = "caught" if result.caught else "SURVIVED" if plant else "passes"
                said = f"{len(results):3}/{len(bugs)} {word:8} {result.seconds:5.1f} s  {result.bug.name}"
                say(f"{said}  [{result.by}]" if result.by else said)

    with tempfile.TemporaryDirectory(prefix="levelhead-mutants-") as folder:
        tree = Path(folder) / "tree"
        take_tree(tree)
        async with asyncio.TaskGroup() as group:
            for number in range(min(jobs, len(bugs))):
                group.create_task(work(tree, Path(folder) / str(number)))
    return results


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Plant bugs; the tests must catch them."
    )
    parser.add_argument("words", nargs="*", help="only bugs whose name has one of these words")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--sound", action="store_true", help="plant nothing: the selections themselves must pass")
    options = parser.parse_args()
    bugs = [bug for bug in BUGS if not options.words or any(word in bug.name for word in options.words)]
    if options.list:
        for bug in bugs:
            say(f"{bug.name}\n    {bug.file}: {bug.loses}\n    {bug.tests}")
        return 0
    for bug in bugs:
        compile(bug.planted_in((ROOT / bug.file).read_text()), bug.file, "exec")
    if options.sound:
        bugs = list({bug.tests: bug for bug in bugs}.values())
    started = time.monotonic()
    say(f"{len(bugs)} {'selections' if options.sound else 'planted bugs'}, {options.jobs} at a time")
    results = asyncio.run(try_all(bugs, options.jobs, plant=not options.sound))
    wrong = [result for result in results if result.caught is options.sound]
    for result in wrong:
        say(f"{'FAILS' if options.sound else 'SURVIVED'}: {result.bug.name} ({result.bug.file}): {result.bug.loses}")
    well, took = "pass" if options.sound else "caught", time.monotonic() - started
    say(f"{len(results) - len(wrong)} of {len(results)} {well} in {took:.0f} s")
    return 1 if wrong or not results else 0


if __name__ == "__main__":
    sys.exit(main())
