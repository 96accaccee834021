"""The planted bugs still have their places in the code, and are bugs, not typing errors."""

import shlex
from collections import Counter

import pytest

from tests.mutants.__main__ import ROOT
from tests.mutants.domain import all_mutants, domain_sources
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.planted import BUGS
from tests.mutants.planted.bug import Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_has_its_place_and_compiles(bug: Bug) -> None:
    source = (ROOT / bug.file).read_text()
    planted = bug.planted_in(source)
    assert planted != source
    compile(planted, bug.file, "exec")
    assert bug.loses


@pytest.mark.parametrize("tests", sorted({bug.tests for bug in BUGS}))
def test_what_must_catch_it_is_there(tests: str) -> None:
    """Files, and names of which one at least is still a test's."""
    files = [word for word in shlex.split(tests) if word.endswith(".py")]
    text = "".join((ROOT / file).read_text() for file in files)
    assert files
    if "-k" in (words := shlex.split(tests)):
        wanted = [word for word in words[words.index("-k") + 1].split() if word not in ("and", "or", "not")]
        titles = [line for line in text.splitlines() if "def test_" in line or "parametrize" in line or '("' in line]
        assert all(any(word in line for line in titles) for word in wanted), wanted


def test_each_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(bug.name for bug in BUGS).items() if times > 1] == []


def test_what_is_called_equivalent_is_a_mutant_still() -> None:
    found, _ = all_mutants(domain_sources())
    assert set(EQUIVALENT) - {mutant.name for mutant in found} == set()
    assert all(EQUIVALENT.values())
