"""Small wrong changes to a piece of source: each a mutant that some test should notice.

What people read (sentences, doc strings, f-strings), annotations, assertions and the options of a class are left as
they are: none of them decides anything.
"""

import ast
import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `before` and `after` are the smallest piece of source that differs."""

    file: str  # app/domain/decide.py
    number: int  # within the file
    line: int
    function_line: int  # where the function begins, its decorators with it; 0 outside
    where: str  # _Heap.pop; the empty text for what lies outside of functions
    before: str
    after: str
    nth: int  # the how many-th of these in the function, from 1

    @property
    def in_body(self) -> bool:
        """Whether it runs when a function is called, and not before."""
        return self.function_line > 0

    @property
    def name(self) -> str:
        """Stays the same when lines are added above."""
        nth = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.file.rsplit('/', 1)[-1]} {self.where or '-'}: {self.before} → {self.after}{nth}"


Enums = dict[str, list[str]]
"""Name of an enum -> its members."""

_BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip
_NAMES = {
    "min": "max", "max": "min", "tick_up": "tick_down", "tick_down": "tick_up", "floor_to_step": "tick_up",
    "ROUND_DOWN": "ROUND_UP", "ROUND_FLOOR": "ROUND_CEILING", "ROUND_CEILING": "ROUND_FLOOR", "ZERO": "ONE",
    "ONE": "ZERO", "any": "all", "all": "any",
}  # fmt: skip


def enums_of(sources: Iterable[str]) -> Enums:
    """The enums that these modules define."""
    found: Enums = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "StrEnum" for base in node.bases):
                found[node.name] = [
                    target.id
                    for one in node.body
                    if isinstance(one, ast.Assign)
                    for target in one.targets
                    if isinstance(target, ast.Name)
                ]
    return found


def mutants(file: str, source: str, enums: Enums) -> list[Mutant]:
    """Every mutant of a module."""
    seen: dict[tuple[str, str, str], int] = {}
    found = []
    for number, (node, where, function_line, other) in enumerate(_all(ast.parse(source), enums)):
        before, after = _shortened(_text(node), _text(other))
        nth = seen[where, before, after] = seen.get((where, before, after), 0) + 1
        found.append(
            Mutant(
                file=file,
                number=number,
                line=node.lineno,
                function_line=function_line,
                where=where,
                before=before,
                after=after,
                nth=nth,
            )
        )
    return found


def mutated(source: str, enums: Enums, number: int) -> ast.Module:
    """The module with that one change, to be compiled."""
    tree = ast.parse(source)
    node, _, _, other = next(itertools.islice(_all(tree, enums), number, None))

    class Replacer(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> Any:
            return other if visited is node else super().visit(visited)

    Replacer().visit(tree)
    return ast.fix_missing_locations(tree)


def _all(tree: ast.Module, enums: Enums) -> Iterator[tuple["Node", str, int, "Node"]]:
    """What is changed, the function that it is in, the line of that one, and what it becomes."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node, where, function_line in walk(tree):
        for other in _changes(node, enums, names):
            yield node, where, function_line, ast.copy_location(other, node)


Node = ast.expr | ast.stmt | ast.pattern


def walk(node: ast.AST, where: str = "", function_line: int = 0) -> Iterator[tuple[Node, str, int]]:
    """Every node that may be changed, with the function in whose body it is, and where that begins."""
    for name, value in ast.iter_fields(node):
        if name in _SIGNATURE and not isinstance(node, ast.Call):
            continue
        within = function_line
        if name == "body" and isinstance(node, ast.FunctionDef) and not function_line:
            within = first_line(node)
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, _LEFT_ALONE):
                continue
            if _is_prose(child) or _is_type_alias(child):
                continue
            inside = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = f"{where}.{child.name}".lstrip(".")
                if isinstance(child, ast.ClassDef) and any(ast.unparse(base) == "StrEnum" for base in child.bases):
                    # Its words are compared with the tables' and the documents' elsewhere.
                    child = ast.Module(body=[x for x in child.body if isinstance(x, ast.FunctionDef)], type_ignores=[])
            if isinstance(child, ast.expr | ast.stmt | ast.pattern):
                yield child, inside, within
            yield from walk(child, inside, within)


def first_line(function: ast.FunctionDef) -> int:
    """Of a function with its decorators, as its code object has it."""
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


_SIGNATURE = {"annotation", "returns", "decorator_list", "bases", "keywords", "type_ignores"}
_LEFT_ALONE = (ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)


def _is_prose(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value


def _is_type_alias(node: ast.AST) -> bool:
    """`Leg = Reduce | Close | Open` is no arithmetic."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    name = node.targets[0].id
    return isinstance(node.value, ast.BinOp) and node.col_offset == 0 and name[0].isupper() and not name.isupper()


def _changes(node: Node, enums: Enums, names: set[str]) -> Iterator[Node]:
    match node:
        case ast.Compare():
            for index, op in enumerate(node.ops):
                for table in (_BOUNDARY, _OPPOSITE):
                    if type(op) in table:
                        yield _with(node, ops=[*node.ops[:index], table[type(op)](), *node.ops[index + 1 :]])
        case ast.BinOp(op=ast.Mult(), right=ast.Name(id="sign") | ast.Attribute(attr="sign" | "_sign")):
            yield _with(node, op=ast.Add())  # divided by a sign it would be the same
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            yield _with(node, op=_ARITHMETIC[type(node.op)]())
        case ast.AugAssign() if type(node.op) in _ARITHMETIC:
            yield _with(node, op=_ARITHMETIC[type(node.op)]())
            yield ast.Pass()
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for index in range(len(node.values)):
                rest = [*node.values[:index], *node.values[index + 1 :]]
                yield _with(node, values=rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant():
            yield from _constants(node)
        case ast.Name() if node.id in _NAMES and isinstance(node.ctx, ast.Load):
            # Only what the module has at hand; else every test would fail for want of a name.
            if (other := _NAMES[node.id]) in names or other in {"min", "max", "any", "all"}:
                yield _with(node, id=other)
        case ast.Attribute(value=ast.Name(id=enum)) if node.attr in enums.get(enum, []):
            members = enums[enum]
            yield _with(node, attr=members[(members.index(node.attr) + 1) % len(members)])
        case ast.Call() if not (isinstance(node.func, ast.Name) and node.func.id.endswith(("Refusal", "Refused"))):
            for index, keyword in enumerate(node.keywords):
                if keyword.arg is not None:
                    yield _with(node, keywords=[*node.keywords[:index], *node.keywords[index + 1 :]])
        case ast.If() | ast.IfExp():
            yield _with(node, test=ast.Constant(True))
            yield _with(node, test=ast.Constant(False))
        case ast.While():
            yield _with(node, test=ast.Constant(False))
        case ast.Return() if node.value is not None and not _is_none(node.value):
            yield _with(node, value=ast.Constant(None))
        case ast.Expr() | ast.Raise() | ast.Delete() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign() if not isinstance(node.targets[0], ast.Name | ast.Tuple | ast.List):
            yield ast.Pass()  # a note in an object or a mapping that is not taken


def _constants(node: ast.Constant) -> Iterator[ast.Constant]:
    value = node.value
    if isinstance(value, bool):
        yield _with(node, value=not value)
    elif isinstance(value, int):
        yield _with(node, value=value + 1)
    elif isinstance(value, str):
        try:
            yield _with(node, value=str(float(value) + 1))
        except ValueError:
            yield _with(node, value=value + "x")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


N = TypeVar("N", bound=ast.AST)


def _with(node: N, **changes: object) -> N:
    other = copy.copy(node)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def _text(node: ast.AST) -> str:
    """The source of a node; of what has a body the head alone."""
    return ast.unparse(node).split("\n")[0]


def _shortened(before: str, after: str) -> tuple[str, str]:
    """Both without most of what they have in common, where they are long."""
    shorter = min(len(before), len(after))
    if max(len(before), len(after)) <= 60:
        return before, after
    start = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    end = next((i for i in range(shorter - start) if before[-1 - i] != after[-1 - i]), shorter - start)
    start, end = max(start - 20, 0), max(end - 20, 0)

    def cut(text: str) -> str:
        return f"{'…' * (start > 0)}{text[start : len(text) - end]}{'…' * (end > 0)}"

    return cut(before), cut(after)
