"""What counts as a small wrong change, and what is left alone."""

import ast

import pytest

from tests.mutants.operators import enums_of, mutants, mutated

ENUM = """
class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"
"""


def changes(source: str) -> set[str]:
    """`before → after` of each mutant, which must be different code that compiles."""
    enums = enums_of([ENUM])
    found = mutants("m.py", source, enums)
    for one in found:
        other = mutated(source, enums, one.number)
        compile(other, "m.py", "exec")
        assert ast.dump(other) != ast.dump(ast.parse(source)), one.name
    assert len({one.name for one in found}) == len(found), "a name is one mutant's"
    return {f"{one.before} → {one.after}" for one in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"a < b → a <= b", "a < b → a >= b"}),
        ("x = a is b", {"a is b → a is not b"}),
        ("x = a + b", {"a + b → a - b"}),
        ("x = a * b", {"a * b → a / b"}),
        ("x = a * side.sign", {"a * side.sign → a + side.sign"}),  # divided by it would be the same
        ("x = a and b", {"a and b → a or b", "a and b → a", "a and b → b"}),
        ("x = not a", {"not a → a"}),
        ("x = -a", {"-a → a"}),
        ("x = 3", {"3 → 4"}),
        ("x = True", {"True → False"}),
        ("x = Decimal('0.5')", {"'0.5' → '1.5'"}),
        ("x = 'f'", {"'f' → 'fx'"}),
        ("x = min(a, b)", {"min → max"}),
        ("x = Side.BUY", {"Side.BUY → Side.SELL"}),
        ("x = f(a=b)", {"f(a=b) → f()"}),
        ("x = a if b else c", {"a if b else c → a if True else c", "a if b else c → a if False else c"}),
        ("def f():\n    return a", {"return a → return None"}),
        ("def f():\n    g()", {"g() → pass"}),
        ("self.x = y", {"self.x = y → pass"}),
        ("x += y", {"x += y → x -= y", "x += y → pass"}),
        ("def f():\n    if a:\n        raise b", {"if a: → if True:", "if a: → if False:", "raise b → pass"}),
        # left alone
        ("x = y", set()),
        ("x: int", set()),
        ("'''What it is.'''", set()),
        ("x = 'words for people'", set()),
        ("x = f'{a} words'", set()),
        ("assert a < b, 'so it is'", set()),
        ("import a", set()),
        ("def f():\n    return None", set()),
        ("raised = Refusal(code=a, reason=b)", set()),  # required both: without one it would not even be made
        ("class A(B, frozen=True):\n    x: int", set()),
        (ENUM, set()),
        ("Leg = A | B", set()),
    ],
)
def test_each_change(source: str, expected: set[str]) -> None:
    assert changes(source) == expected


def test_a_mutant_knows_its_function() -> None:
    source = "class A:\n    @property\n    def f(self):\n        return x < y\n\nz = 1\n"
    found = {(one.where, one.function_line, one.in_body) for one in mutants("m.py", source, {})}
    assert found == {("A.f", 2, True), ("", 0, False)}
