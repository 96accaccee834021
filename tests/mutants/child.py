"""What happens in the forked children of the mutation runner: one mutant, and the tests that may notice it."""

import ast
import contextlib
import importlib.abc
import importlib.machinery
import io
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import msgspec
import pytest

from tests.mutants.operators import Enums, Mutant, first_line, mutated, walk


class Tests:
    """The tests of the domain, each as a call. They need no fixtures, so that is all there is to them."""

    __test__ = False

    def __init__(self, root: Path, calls: dict[str, Callable[[], object]]) -> None:
        self.root = root
        self.calls = calls

    @classmethod
    def collect(cls, root: Path) -> "Tests":
        found = _Collected()
        options = ["--collect-only", "--noconftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(root)]
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = pytest.main([*options, str(root / "tests" / "domain")], plugins=[found])
        if code:
            raise ImportError(f"the tests of the domain cannot be collected\n{output.getvalue()[-2000:]}")
        return cls(root, found.calls)

    def run(self, names: Iterable[str]) -> bool:
        """Whether all of these pass."""
        for name in names:
            try:
                self.calls[name]()
            except BaseException:  # whatever it is: the mutant was noticed
                return False
        return True


class _Collected:
    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], object]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            assert isinstance(item, pytest.Function)
            if item.get_closest_marker("skipif"):
                continue  # needs what is not everywhere
            arguments = item.callspec.params if hasattr(item, "callspec") else {}
            missing = set(item.fixturenames) - set(arguments) - {"request"}
            assert not missing, f"{item.nodeid} needs fixtures: {missing}"
            self.calls[item.nodeid] = _call(item.obj, arguments)


def _call(function: Callable[..., object], arguments: dict[str, object]) -> Callable[[], object]:
    return lambda: function(**arguments)


Function = tuple[str, int]
"""File and first line."""


class Seen(msgspec.Struct, kw_only=True):
    """Which tests call a function, and how long each takes."""

    seconds: dict[str, float]
    called: dict[str, list[Function]]  # by a test

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Those that call the mutant's function, the quickest first; all of them for what runs at import."""
        wanted = list(self.seconds)
        if mutant.in_body:
            here = (mutant.file, mutant.function_line)
            wanted = [test for test, called in self.called.items() if here in called]
        return sorted(wanted, key=lambda test: self.seconds[test])


def watch(tests: Tests, sources: dict[str, str], answer: Path) -> None:
    """Run all tests, and note the functions of the domain that each of them calls."""
    here: set[Function] = set()
    for file, source in sources.items():
        module = sys.modules[_module(file)]
        module.__dict__["_note"] = here.add
        tree = ast.parse(source)
        functions = [(where, line) for _, where, line in walk(tree) if line]
        code = compile(_noting(tree, file), str(tests.root / file), "exec")
        for where in {where for where, _ in functions}:
            if not _swap(module, where, code):
                raise NotImplementedError(f"{where} of {file} cannot be watched")
    seen = Seen(seconds={}, called={})
    for name, run in tests.calls.items():
        here.clear()
        started = time.monotonic()
        run()
        seen.seconds[name] = time.monotonic() - started
        seen.called[name] = sorted(here)
    answer.write_bytes(msgspec.json.encode(seen))


def _noting(tree: ast.Module, file: str) -> ast.Module:
    """The module, with each of its functions noting that it is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body.insert(0, ast.parse(f"_note(({file!r}, {first_line(node)}))").body[0])
    return ast.fix_missing_locations(tree)


def try_mutant(mutant: Mutant, source: str, enums: Enums, tests: Tests, chosen: list[str], cpu_s_max: int) -> None:
    """Ends the process with 0 if no test notices the mutant."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s_max, cpu_s_max + 1))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        code = compile(mutated(source, enums, mutant.number), str(tests.root / mutant.file), "exec")
        if not (mutant.in_body and _swap(sys.modules[_module(mutant.file)], mutant.where, code)):
            tests = _imported_anew(mutant, code, tests.root)
        passed = tests.run(chosen)
    except BaseException:
        passed = False
    os._exit(0 if passed else 1)


def _swap(module: ModuleType, where: str, code: CodeType) -> bool:
    """Put changed code into the function that everybody has imported already. False where that can't be done."""
    found: Any = module
    for name in where.split("."):
        found = vars(found).get(name)
        code = next(x for x in code.co_consts if isinstance(x, CodeType) and x.co_name == name)
        if isinstance(found, property):
            found = found.fget
        if hasattr(found, "cache_clear"):  # what it remembers are the answers of the code before
            found.cache_clear()
            found = found.__wrapped__
        if isinstance(found, FunctionType):
            if found.__code__.co_freevars != code.co_freevars:
                return False
            found.__code__ = code
            return True
    return False


def _imported_anew(mutant: Mutant, code: CodeType, root: Path) -> Tests:
    """The tests, with the changed module in the place of the true one."""
    for name in [name for name in sys.modules if name.startswith(("app.", "tests.domain", "tests.support"))]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Changed(_module(mutant.file), code))
    return Tests.collect(root)


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the changed module."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, origin=self._code.co_filename) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")
