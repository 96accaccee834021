"""The schema, read from the migrations themselves, so that a constraint dropped there is missing here as well."""

import functools
import re
from collections.abc import Callable
from decimal import Decimal
from operator import itemgetter
from typing import Any

from app.store import migrate

Row = dict[str, Any]
Predicate = Callable[[Row], bool]

TOKEN = re.compile(r"'(?:[^']|'')*'|\d+(?:\.\d+)?|\w+|<>|<=|>=|[(),=<>]|\S")
WORDS = {"AND": "and", "OR": "or", "NOT": "not", "TRUE": "True", "FALSE": "False", "=": "==", "<>": "!="}


class Column:
    """A column; `default` is a value, or one of the markers below."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.required = False
        self.default: Any = None
        self.identity = False
        self.references: str | None = None


NOW = object()  # the transaction's time
CLOCK = object()  # the time of the statement


class Constraint:
    """A CHECK, or the columns and predicate of a unique index."""

    def __init__(self, name: str, columns: tuple[str, ...], where: str | None = None) -> None:
        self.name = name
        self.columns = columns
        self.where = where


class Schema:
    """One table as the migrations leave it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: dict[str, Column] = {}
        self.primary: tuple[str, ...] = ()
        self.uniques: dict[str, Constraint] = {}
        self.checks: dict[str, Constraint] = {}


def read() -> dict[str, Schema]:
    """Every table by its name. Raises on what it does not understand."""
    found: dict[str, Schema] = {}
    for path in migrate.files():
        text = re.sub(r"--[^\n]*", "", path.read_text())
        for statement in filter(None, map(str.strip, text.split(";"))):
            _apply(found, " ".join(statement.split()))
    return found


@functools.cache
def predicate(condition: str) -> tuple[Predicate, frozenset[str]]:
    """A condition of SQL as a function of a row, and the columns that it looks at."""
    columns: set[str] = set()
    words: list[str] = []
    closing = ""
    tokens = TOKEN.findall(condition)
    place = 0
    while place < len(tokens):
        token = tokens[place]
        place += 1
        upper = token.upper()
        if upper == "IS":
            negated = tokens[place].upper() == "NOT"
            place += 2 if negated else 1
            words.append("is not None" if negated else "is None")
        elif upper == "IN":
            assert tokens[place] == "("
            place, closing = place + 1, "}"
            words.append("in {")
        elif upper in WORDS:
            words.append(WORDS[upper])
        elif token.startswith("'") or token[0].isdigit() or token in ("(", ",", "<", ">", "<=", ">="):
            words.append(token)
        elif token == ")":
            words.append(closing or ")")
            closing = ""
        elif token.isidentifier():
            columns.add(token)
            words.append(f"row[{token!r}]")
        else:
            raise NotImplementedError(f"{token!r} in the condition {condition!r}")
    made: Predicate = eval(f"lambda row: {' '.join(words)}", {})
    return made, frozenset(columns)


def getter(columns: tuple[str, ...]) -> Callable[[Row], Any]:
    """The value of a column, or the tuple of those of several."""
    return itemgetter(*columns)


def _apply(found: dict[str, Schema], statement: str) -> None:
    if match := re.fullmatch(r"CREATE TABLE (\w+) \((.*)\)", statement):
        schema = found[match[1]] = Schema(match[1])
        for part in _parts(match[2]):
            _define(schema, part)
        return
    if match := re.fullmatch(r"DROP TABLE (\w+)", statement):
        del found[match[1]]
        return
    if match := re.fullmatch(r"CREATE UNIQUE INDEX (\w+) ON (\w+) \((.*?)\)(?: WHERE (.*))?", statement):
        if "(" not in match[3]:  # an index over an expression is none of the money's
            columns = tuple(map(str.strip, match[3].split(",")))
            found[match[2]].uniques[match[1]] = Constraint(match[1], columns, match[4])
        return
    if match := re.fullmatch(r"ALTER TABLE (\w+) ADD COLUMN (.*)", statement):
        for part in re.split(r", ADD COLUMN ", match[2]):
            _define(found[match[1]], part)
        return
    if match := re.fullmatch(r"ALTER TABLE (\w+) DROP CONSTRAINT (\w+)", statement):
        schema = found[match[1]]
        assert schema.checks.pop(match[2], None) or schema.uniques.pop(match[2], None), statement
        return
    if match := re.fullmatch(r"ALTER TABLE (\w+) ADD CONSTRAINT (\w+) CHECK \((.*)\)", statement):
        found[match[1]].checks[match[2]] = Constraint(match[2], (), match[3])
        return
    if match := re.fullmatch(r"DROP INDEX (\w+)", statement):
        for schema in found.values():
            schema.uniques.pop(match[1], None)
        return
    if statement.startswith("CREATE INDEX"):
        return
    raise NotImplementedError(f"a migration says {statement!r}: teach it to {__name__}")


def _parts(body: str) -> list[str]:
    """Split at the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for letter in body:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _define(schema: Schema, part: str) -> None:
    """A column, or a constraint of the table."""
    if match := re.fullmatch(r"(PRIMARY KEY|UNIQUE) \((.*)\)", part):
        columns = tuple(map(str.strip, match[2].split(",")))
        if match[1] == "UNIQUE":
            name = f"{schema.name}_{'_'.join(columns)}_key"
            schema.uniques[name] = Constraint(name, columns)
            return
        _make_primary(schema, columns)
        return
    name, kind, *rest = part.split(" ", 2)
    column = schema.columns[name] = Column(name, kind)
    words = rest[0] if rest else ""
    while words:
        if match := re.match(r"PRIMARY KEY", words):
            _make_primary(schema, (name,))
        elif match := re.match(r"NOT NULL", words):
            column.required = True
        elif match := re.match(r"UNIQUE", words):
            schema.uniques[f"{schema.name}_{name}_key"] = Constraint(f"{schema.name}_{name}_key", (name,))
        elif match := re.match(r"REFERENCES (\w+)", words):
            column.references = match[1]
        elif match := re.match(r"GENERATED ALWAYS AS IDENTITY", words):
            column.identity = column.required = True
        elif match := re.match(r"DEFAULT ('[^']*'|\w+(?:\(\))?)", words):
            column.default = _default(kind, match[1])
        elif match := re.match(r"CHECK (\((?:[^()]|\([^()]*\))*\))", words):
            check = f"{schema.name}_{name}_check"
            schema.checks[check] = Constraint(check, (name,), match[1][1:-1])
        else:
            raise NotImplementedError(f"a column is defined by {part!r}: teach it to {__name__}")
        words = words[match.end() :].strip()


def _make_primary(schema: Schema, columns: tuple[str, ...]) -> None:
    schema.primary = columns
    schema.uniques[f"{schema.name}_pkey"] = Constraint(f"{schema.name}_pkey", columns)
    for name in columns:
        schema.columns[name].required = True


def _default(kind: str, text: str) -> Any:
    if text == "now()":
        return NOW
    if text == "clock_timestamp()":
        return CLOCK
    if kind == "jsonb":
        return {"'{}'": {}, "'[]'": []}[text]
    if kind == "boolean":
        return {"true": True, "false": False}[text]
    if kind == "numeric":
        return Decimal(text)
    if kind in ("int", "bigint"):
        return int(text)
    assert kind == "text", f"a default of type {kind}"
    return text[1:-1]
