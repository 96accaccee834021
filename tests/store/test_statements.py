"""Every statement of app/store fits the migrated schema, and every list of words in the schema is an enum's."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import AsyncIterator
from enum import StrEnum
from types import ModuleType
from typing import Any

import asyncpg
import pytest

import app.store
from app.domain.drift import DriftKind
from app.domain.level import LevelKind, LevelStatus, TriggerBy
from app.domain.order import MarginMode, OrderStatus, PositionMode, PositionSide, Side
from app.domain.position import CloseReason, FillOrigin, PositionStatus
from app.store.accounts import Environment, VenueName
from app.store.drifts import DriftStatus
from app.store.inbox import AlertStatus, CauseKind, InstructionStatus
from app.store.orders import IntentCause, IntentKind, IntentStatus
from app.store.users import Role

MODULES = [
    importlib.import_module(f"{app.store.__name__}.{found.name}") for found in pkgutil.iter_modules(app.store.__path__)
]

# Not what a command answers: `UPDATE 1`.
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|TRUNCATE|LOCK|SET)\s(?![\d ]+$)")


def constants(module: ModuleType) -> dict[str, str]:
    """The texts that the module itself names in capitals."""
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


def inside_functions(module: ModuleType) -> list[str]:
    """Statements that are written where they are used."""
    functions = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        node.value
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value)
    ]


def statements() -> list[Any]:
    found = []
    for module in MODULES:
        stem = module.__name__.rsplit(".", 1)[-1]
        for name, text in constants(module).items():
            if STATEMENT.match(text):
                found.append(pytest.param(text, id=f"{stem}.{name}"))
        for number, text in enumerate(inside_functions(module)):
            found.append(pytest.param(text, id=f"{stem}.inline{number}"))
    return found


def fragments() -> list[Any]:
    """Lists of columns and the like, that are no statement by themselves."""
    return [
        pytest.param(module, name, id=f"{module.__name__.rsplit('.', 1)[-1]}.{name}")
        for module in MODULES
        for name, text in constants(module).items()
        if not STATEMENT.match(text)
    ]


@pytest.fixture(scope="module")
async def connection(module_database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(module_database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("statement", statements())
async def test_a_statement_fits_the_schema(connection: Any, statement: str) -> None:
    await connection.prepare(statement)


@pytest.mark.parametrize(("module", "name"), fragments())
def test_a_fragment_is_part_of_a_statement_that_is_tried(module: ModuleType, name: str) -> None:
    texts = constants(module)
    whole = [text for text in texts.values() if STATEMENT.match(text)]
    assert any(texts[name] in text for text in whole), f"{name} is neither a statement nor part of one"


def test_statements_are_found_in_every_module_that_has_some() -> None:
    """The search itself: a module whose statements it overlooks would pass unseen."""
    with_some = {module.__name__ for module in MODULES if any(STATEMENT.match(x) for x in constants(module).values())}
    expected = {"accounts", "books", "inbox", "leases", "levels", "migrate", "orders", "positions", "strategies"}
    assert with_some >= {f"app.store.{name}" for name in expected | {"users", "views"}}
    assert len(statements()) > 100


# Each column whose words the schema lists, and who has the same list in code.
WORDS: dict[tuple[str, str], type[StrEnum]] = {
    ("drifts", "kind"): DriftKind,
    ("drifts", "side"): PositionSide,
    ("drifts", "status"): DriftStatus,
    ("users", "role"): Role,
    ("accounts", "venue"): VenueName,
    ("accounts", "environment"): Environment,
    ("accounts", "position_mode"): PositionMode,
    ("accounts", "margin_mode"): MarginMode,
    ("alerts", "status"): AlertStatus,
    ("instructions", "cause_kind"): CauseKind,
    ("instructions", "status"): InstructionStatus,
    ("intents", "cause_kind"): IntentCause,
    ("intents", "position_side"): PositionSide,
    ("intents", "kind"): IntentKind,
    ("intents", "side"): Side,
    ("intents", "status"): IntentStatus,
    ("orders", "side"): Side,
    ("orders", "status"): OrderStatus,
    ("positions", "side"): PositionSide,
    ("positions", "status"): PositionStatus,
    ("positions", "close_reason"): CloseReason,
    ("fills", "origin"): FillOrigin,
    ("fills", "side"): Side,
    ("fills", "position_side"): PositionSide,
    ("levels", "kind"): LevelKind,
    ("levels", "status"): LevelStatus,
    ("levels", "trigger_by"): TriggerBy,
}

CHECKS = """
SELECT t.relname AS name, pg_get_constraintdef(c.oid) AS definition
  FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
 WHERE c.contype = 'c' AND t.relnamespace = 'public'::regnamespace
"""
# As PostgreSQL writes `x IN ('a', 'b')` and `x IN ('a')`.
ONE_OF = re.compile(r"\((\w+) = (?:ANY \(ARRAY\[(.*?)\]\)|('[^']*'::text))\)")


async def lists(connection: Any) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for row in await connection.fetch(CHECKS):
        for column, several, single in ONE_OF.findall(row["definition"]):
            found[row["name"], column] = set(re.findall(r"'([^']*)'::text", several or single))
    return found


async def test_every_list_of_words_in_the_schema_is_the_list_in_code(connection: Any) -> None:
    in_schema = await lists(connection)
    assert set(in_schema) == set(WORDS), "a column with a CHECK … IN has to be named in WORDS, and no other"
    assert in_schema == {column: set(map(str, words)) for column, words in WORDS.items()}


async def test_every_check_with_words_is_understood_by_this_test(connection: Any) -> None:
    for row in await connection.fetch(CHECKS):
        assert ("::text" in row["definition"]) is bool(ONE_OF.search(row["definition"])), dict(row)
