"""The register: the text of a statement -> the function that does what PostgreSQL would do.

A function gets the tables, the transaction and the statement's parameters; it answers rows (SELECT, RETURNING) or how
many rows it touched.
"""

import inspect
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from app.store import (
    accounts,
    bans,
    blind,
    books,
    drifts,
    inbox,
    installation,
    leases,
    levels,
    orders,
    positions,
    rejected,
    strategies,
    troubles,
)
from tests.simulation.memory.schema import Row

Answer = list[Row] | int
Does = Callable[..., Answer]
F = TypeVar("F", bound=Does)

MODULES = (
    accounts, bans, blind, books, drifts, inbox, installation, leases, levels, orders, positions, rejected, strategies,
    troubles,
)  # fmt: skip


class Statement(msgspec.Struct, frozen=True):
    """`name` is that of the constant, with its module: inbox.TAKE. `tag` begins the command's status."""

    name: str
    tag: str
    does: Does


class UnknownStatement(BaseException):
    """The twin has not learned this statement yet. No `except Exception` of the code under test may hide that."""

    def __init__(self, query: str) -> None:
        super().__init__(f"the store in memory does not know this statement: {' '.join(query.split())[:300]}")


STATEMENTS: dict[str, Statement] = {}

_NAMES: dict[str, str] = {}
for _module in MODULES:
    for _name, _value in vars(_module).items():
        if isinstance(_value, str) and _name.isupper():
            _NAMES.setdefault(_value, f"{_module.__name__.rpartition('.')[2]}.{_name}")


def statement(query: str, name: str | None = None) -> Callable[[F], F]:
    """Register what a statement does; a text that is no constant of a module is given a name."""

    def register(does: F) -> F:
        assert query not in STATEMENTS, f"{query} has its function already"
        known = name or _NAMES[query]
        asked = max(map(int, re.findall(r"\$(\d+)", query)), default=0)
        learned = len(inspect.signature(does).parameters) == asked + 2
        STATEMENTS[query] = Statement(known, _tag(query), does if learned else _changed(known))
        return does

    return register


def _changed(name: str) -> Does:
    def fail(*_: object) -> Answer:
        raise UnknownStatement(f"{name} has other parameters than were learned")

    return fail


def find(query: str) -> Statement:
    """Raises UnknownStatement."""
    found = STATEMENTS.get(query)
    if found is None:
        raise UnknownStatement(query)
    return found


def _tag(query: str) -> str:
    """How the status of a command begins: with the first verb that stands in no parentheses."""
    depth = 0
    for token in re.findall(r"'[^']*'|\w+|[()]", query):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0 and token in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            return "INSERT 0" if token == "INSERT" else token
    raise ValueError(f"no verb in {query}")
