"""Every fault of the list has a test that bears its number: `test_<two digits>_…` in this folder."""

import ast
from collections import defaultdict
from pathlib import Path

FAULTS = range(1, 63)


def names() -> list[str]:
    return [
        node.name
        for file in sorted(Path(__file__).parent.glob("test_*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def test_every_fault_has_a_test() -> None:
    of_fault: defaultdict[int, list[str]] = defaultdict(list)
    for name in names():
        number = name.removeprefix("test_")[:2]
        if number.isdecimal():
            of_fault[int(number)].append(name)
    assert sorted(of_fault) == list(FAULTS)
