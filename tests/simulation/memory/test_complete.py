"""The twin knows every statement and every constraint: what is new in the store or a migration is missed here."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.simulation.memory import pool  # noqa: F401  # registers the statements
from tests.simulation.memory.statements import STATEMENTS
from tests.simulation.memory.tables import SCHEMA

ROOT = Path(__file__).resolve().parents[3]
CALLS = {"fetch", "fetchrow", "fetchval", "execute", "executemany"}

READS = "the API's: pages for people"
CHANGES = "the API's: what people change while nothing trades"
LEFT_OUT = {
    "app.store.views": READS,
    "app.store.users": "people and their logins",
    "app.store.migrate": "the schema itself, at the start",
    "app.store.db: SELECT set_config('transaction_timeout'": "each new session's setting: the twin has no sessions",
    "app.store.accounts.WAS_REMOVED": READS,
    "app.store.accounts.BY_NAME": READS,
    "app.store.accounts.LIST": READS,
    "app.store.accounts.LOCK": CHANGES,
    "app.store.accounts.IN_USE": CHANGES,
    "app.store.accounts.UPDATE": CHANGES,
    "app.store.accounts.REMOVE": CHANGES,
    "app.store.drifts.PAGE": READS,
    "app.store.rejected.PAGE": READS,
    "app.store.signing": "the simulation's chart signs nothing",
    "app.store.strategies.LIST": READS,
    "app.store.strategies.UPDATE": CHANGES,
    "app.store.strategies.DELETE_SHARES": CHANGES,
    "app.store.strategies.STILL_HELD_ON": CHANGES,
    "app.store.strategies.LOCK": CHANGES,
    "app.store.strategies.IN_USE": CHANGES,
    "app.store.strategies.REMOVE": CHANGES,
    "app.store.strategies.DELETE_SECRETS": CHANGES,
    "app.store.strategies.DELETE_SIGNING_KEYS": CHANGES,
    "app.store.strategies: connection.": CHANGES,
    "app.store.strategies: SELECT now()": CHANGES,
}


def modules() -> Iterator[Path]:
    yield from sorted((ROOT / "app").rglob("*.py"))
    yield from sorted((ROOT / "workers").rglob("*.py"))


def statements_sent() -> Iterator[tuple[str, str | None]]:
    """(where, text) of each statement that a module sends; the text is None if it is made up on the way."""
    for path in modules():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not name.startswith(("app.store.", "app.flows.", "app.resources", "app.gates", "workers.")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS):
                continue
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Name) and first.id.isupper():
                yield f"{name}.{first.id}", getattr(importlib.import_module(name), first.id)
            elif isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield f"{name}: {first.value}", first.value
            elif name.startswith("app.store."):
                yield f"{name}: {ast.unparse(node)}", None


def test_every_statement_is_known_or_left_out_for_a_reason() -> None:
    sent = dict(statements_sent())
    assert len(sent) > len(STATEMENTS) > 90
    used = {key for where in sent for key in LEFT_OUT if where.startswith(key)}
    unknown = [
        where
        for where, text in sent.items()
        if text not in STATEMENTS and not any(where.startswith(key) for key in LEFT_OUT)
    ]
    assert not unknown, "write what they do in tests/simulation/memory/answers"
    assert used == LEFT_OUT.keys(), "left out, but nobody sends it any more"
    assert STATEMENTS.keys() <= set(sent.values()), "known, but nobody sends it any more"


@pytest.fixture
async def real(module_database_url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(module_database_url)
    yield connection
    await connection.close()


async def test_the_schema_is_the_migrated_one(real: asyncpg.Connection) -> None:
    columns = await real.fetch(
        """
        SELECT c.relname AS table, a.attname AS name, a.attnotnull AS required, a.attidentity <> '' AS identity,
               a.atthasdef AS has_default
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'schema_migrations'
         ORDER BY c.relname, a.attnum
        """
    )
    ours = [
        (name, column.name, column.required, column.identity, column.default is not None)
        for name in sorted(SCHEMA)
        for column in SCHEMA[name].columns.values()
    ]
    assert [tuple(row) for row in columns] == ours


async def test_the_constraints_are_the_migrated_ones(real: asyncpg.Connection) -> None:
    checks = await real.fetch(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
    )
    assert {row["conname"] for row in checks} == {name for schema in SCHEMA.values() for name in schema.checks}
    references = await real.fetch(
        """
        SELECT conrelid::regclass::text, a.attname, confrelid::regclass::text
          FROM pg_constraint JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]
         WHERE contype = 'f' AND connamespace = 'public'::regnamespace
        """
    )
    ours = {
        (schema.name, column.name, column.references)
        for schema in SCHEMA.values()
        for column in schema.columns.values()
        if column.references
    }
    assert {tuple(row) for row in references} == ours
    uniques = await real.fetch(
        """
        SELECT i.relname AS name, t.relname AS table, x.indpred IS NOT NULL AS partial,
               ARRAY(SELECT a.attname::text FROM unnest(x.indkey) WITH ORDINALITY k (n, place)
                       JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.n ORDER BY k.place) AS columns
          FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
         WHERE x.indisunique AND x.indexprs IS NULL AND t.relnamespace = 'public'::regnamespace
           AND t.relname <> 'schema_migrations'
        """
    )
    there = {(row["table"], row["name"], tuple(row["columns"]), row["partial"]) for row in uniques}
    here = {
        (schema.name, unique.name, unique.columns, unique.where is not None)
        for schema in SCHEMA.values()
        for unique in schema.uniques.values()
    }
    assert there == here
