"""Tables in memory, with their constraints, and the changes of a transaction, which can be undone exactly."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import count
from typing import Any, NoReturn
from uuid import UUID

import asyncpg

from tests.simulation.memory import schema
from tests.simulation.memory.schema import CLOCK, NOW, Constraint, Row, Schema
from tests.simulation.memory.server import Server
from tests.simulation.memory.transaction import Slot, Transaction


class Unique:
    """A unique index: key -> where its row is. Rows outside its predicate are not in it."""

    def __init__(self, table: str, constraint: Constraint) -> None:
        self.name = constraint.name
        self.table = table
        self.key = schema.getter(constraint.columns)
        self.where: schema.Predicate | None = None
        self.columns = frozenset(constraint.columns)
        if constraint.where is not None:
            self.where, looked_at = schema.predicate(constraint.where)
            self.columns |= looked_at
        self.entries: dict[Any, Slot] = {}
        self.get = self.entries.get

    def add(self, slot: Slot, row: Row) -> None:
        if self.where is None or self.where(row):
            if self.entries.setdefault(self.key(row), slot) is not slot:
                raise asyncpg.UniqueViolationError(
                    f'duplicate key value violates unique constraint "{self.name}" of {self.table}'
                )

    def remove(self, slot: Slot, row: Row) -> None:
        if self.where is None or self.where(row):
            key = self.key(row)
            if self.entries.get(key) is slot:
                del self.entries[key]

    def move(self, slot: Slot, before: Row, row: Row) -> None:
        self.remove(slot, before)
        self.add(slot, row)


NOBODY: Mapping[Slot, None] = {}


def _in_order(slots: Iterable[Slot]) -> dict[Slot, None]:
    return dict.fromkeys(sorted(slots, key=lambda slot: slot.number))


class Index:
    """Rows by a key, for look-ups. `where` picks those that are in it, by the columns named in `looks_at`."""

    def __init__(self, columns: tuple[str, ...], where: schema.Predicate | None, looks_at: Iterable[str]) -> None:
        self.key = schema.getter(columns)
        self.where = where
        self.columns = frozenset(columns) | frozenset(looks_at)
        self.entries: dict[Any, dict[Slot, None]] = {}

    def get(self, key: Any) -> list[Row]:
        return [slot.row for slot in self.entries.get(key, NOBODY)]

    def slots(self, key: Any) -> list[Slot]:
        return list(self.entries.get(key, NOBODY))

    def has(self, key: Any) -> bool:
        return key in self.entries

    def rows(self) -> Iterator[Row]:
        return (slot.row for slots in self.entries.values() for slot in slots)

    def add(self, slot: Slot, row: Row) -> None:
        if self.where is None or self.where(row):
            self.entries.setdefault(self.key(row), {})[slot] = None

    def remove(self, slot: Slot, row: Row) -> None:
        if self.where is None or self.where(row):
            key = self.key(row)
            slots = self.entries.get(key)
            if slots is not None:
                slots.pop(slot, None)
                if not slots:
                    del self.entries[key]

    def move(self, slot: Slot, before: Row, row: Row) -> None:
        """What is in it before and after under one key keeps its place."""
        if self.where is not None:
            was, stays = self.where(before), self.where(row)
            if not was:
                if stays:
                    self.add(slot, row)
                return
            if stays and self.key(before) == self.key(row):
                return
        elif self.key(before) == self.key(row):
            return
        self.remove(slot, before)
        self.add(slot, row)


class Change:
    """What has to be looked at when certain columns of a table change."""

    __slots__ = ("checks", "indexes", "references", "required")

    def __init__(self, table: "Table", names: tuple[str, ...]) -> None:
        unknown = set(names) - set(table.columns)
        if unknown:
            raise asyncpg.UndefinedColumnError(f"{table.name} has no columns {unknown}")
        self.required = tuple(name for name in names if name in table.required)
        self.checks = tuple(check for check in table.checks if not check.columns.isdisjoint(names))
        self.indexes = tuple(index for index in table.indexes if not index.columns.isdisjoint(names))
        self.references = tuple((name, table.referred[name]) for name in names if name in table.referred)


class Check:
    """A CHECK: neither false nor, since a comparison with null is neither, null is a violation."""

    __slots__ = ("columns", "holds", "name")

    def __init__(self, constraint: Constraint) -> None:
        assert constraint.where is not None
        self.name = constraint.name
        self.holds, self.columns = schema.predicate(constraint.where)

    def violated(self, row: Row) -> bool:
        try:
            return not self.holds(row) and all(row[name] is not None for name in self.columns)
        except TypeError:  # a null was compared
            return False


class Table:
    """The rows of a table, in the order in which they came."""

    def __init__(self, described: Schema) -> None:
        self.name = described.name
        self.slots: dict[Slot, None] = {}
        self._numbers = count()
        columns = described.columns.values()
        self.columns = tuple(described.columns)
        self.required = frozenset(column.name for column in columns if column.required)
        self._template: Row = {
            column.name: None if column.default in (NOW, CLOCK) else column.default for column in columns
        }
        self._at_now = tuple(column.name for column in columns if column.default is NOW)
        self._at_clock = tuple(column.name for column in columns if column.default is CLOCK)
        self._identity = next((column.name for column in columns if column.identity), None)
        self.last = 0  # number that an identity column was given
        self._references = {column.name: column.references for column in columns if column.references is not None}
        self.referred: dict[str, Table] = {}
        self.checks = [Check(constraint) for constraint in described.checks.values()]
        self.uniques = {name: Unique(self.name, constraint) for name, constraint in described.uniques.items()}
        self.primary = self.uniques[f"{self.name}_pkey"]
        self.find = self.primary.get  # where the row of this primary key is
        self.indexes: list[Unique | Index] = list(self.uniques.values())
        self._changes: dict[tuple[str, ...], Change] = {}

    def refer(self, tables: Mapping[str, "Table"]) -> None:
        self.referred = {column: tables[name] for column, name in self._references.items()}

    def index(self, *columns: str, where: schema.Predicate | None = None, looks_at: Iterable[str] = ()) -> Index:
        made = Index(columns, where, looks_at)
        self.indexes.append(made)
        return made

    @property
    def rows(self) -> list[Row]:
        return [slot.row for slot in self.slots]

    def __len__(self) -> int:
        return len(self.slots)

    def skip_identity(self) -> None:
        """An insertion that came to nothing took a number all the same."""
        self.last += 1

    def row(self, key: Any) -> Row | None:
        """The row of a primary key (a tuple if it has several columns)."""
        slot = self.find(key)
        return None if slot is None else slot.row

    def insert(self, x: Transaction, values: Row) -> Slot:
        """Raises what asyncpg raises when a constraint is violated."""
        row = self._template | values
        if len(row) != len(self._template):
            raise asyncpg.UndefinedColumnError(f"{self.name} has no columns {row.keys() - self._template.keys()}")
        for name in self._at_now:
            if name not in values:
                row[name] = x.now
        for name in self._at_clock:
            if name not in values:
                row[name] = x.clock()
        if self._identity is not None:
            self.last += 1  # not given back by a rollback
            row[self._identity] = self.last
        for name in self.required:
            if row[name] is None:
                raise asyncpg.NotNullViolationError(f"{self.name}.{name} is null")
        for check in self.checks:
            if check.violated(row):
                self._refuse(check)
        slot = Slot(row, next(self._numbers))
        try:
            for index in self.indexes:
                index.add(slot, row)
        except asyncpg.UniqueViolationError:
            for index in self.indexes:
                index.remove(slot, row)
            raise
        self.slots[slot] = None
        x.changes.append((self, slot, None))
        for name, table in self.referred.items():
            if row[name] is not None:
                x.references.append((table, row[name]))
        return slot

    def update(self, x: Transaction, slot: Slot, values: Row) -> Row:
        """The row after it. Raises what asyncpg raises when a constraint is violated."""
        names = tuple(values)
        change = self._changes.get(names)
        if change is None:
            change = self._changes[names] = Change(self, names)
        before = slot.row
        row = before | values
        for name in change.required:
            if row[name] is None:
                raise asyncpg.NotNullViolationError(f"{self.name}.{name} is null")
        for check in change.checks:
            if check.violated(row):
                self._refuse(check)
        for name, table in change.references:
            if row[name] is not None:
                x.references.append((table, row[name]))
        try:
            for index in change.indexes:
                index.move(slot, before, row)
        except asyncpg.UniqueViolationError:
            self._exchange(slot, row, before)
            raise
        slot.row = row
        x.changes.append((self, slot, before))
        return row

    def delete(self, x: Transaction, slot: Slot) -> None:
        for index in self.indexes:
            index.remove(slot, slot.row)
        del self.slots[slot]
        x.changes.append((self, slot, slot.row))

    def put_back(self, slot: Slot, before: Row | None) -> None:
        """Undo one change of a row."""
        if before is None:
            for index in self.indexes:
                index.remove(slot, slot.row)
            del self.slots[slot]
            return
        if slot in self.slots:
            self._exchange(slot, slot.row, before)
        else:  # it was deleted
            for index in self.indexes:
                index.add(slot, before)
            self.slots[slot] = None
            self.slots = _in_order(self.slots)
        slot.row = before

    def _exchange(self, slot: Slot, row: Row, before: Row) -> None:
        """Have the indexes say again what they said before. An entry that did not change keeps its place."""
        for index in self.indexes:
            if any(row[name] is not before[name] for name in index.columns):
                index.remove(slot, row)
                index.add(slot, before)

    def _refuse(self, check: Check) -> NoReturn:
        raise asyncpg.CheckViolationError(f'new row for {self.name} violates check constraint "{check.name}"')


UNRESOLVED = frozenset({"sent", "unknown", "accepted"})
WAITING = frozenset({"pending", "executing"})


class Tables:
    """All tables, with the look-ups that the statements need. Read `tables.orders.rows` at any time.

    Rows that a transaction has changed but not committed are among them: ask between transactions.
    """

    def __init__(self) -> None:
        self.server = Server()
        self.by_name = {name: Table(described) for name, described in SCHEMA.items()}
        for table in self.by_name.values():
            table.refer(self.by_name)
        self.accounts = self.by_name["accounts"]
        self.strategies = self.by_name["strategies"]
        self.secrets = self.by_name["strategy_secrets"]
        self.shares = self.by_name["strategy_accounts"]
        self.alerts = self.by_name["alerts"]
        self.alert_keys = self.by_name["alert_keys"]
        self.leases = self.by_name["leases"]
        self.books = self.by_name["books"]
        self.instructions = self.by_name["instructions"]
        self.intents = self.by_name["intents"]
        self.orders = self.by_name["orders"]
        self.positions = self.by_name["positions"]
        self.fills = self.by_name["fills"]
        self.levels = self.by_name["levels"]
        self.events = self.by_name["events"]
        self.bans = self.by_name["bans"]
        self.blind = self.by_name["blind"]
        self.drifts = self.by_name["drifts"]
        self.troubles = self.by_name["troubles"]
        self.installation = self.by_name["installation"]
        self.rejected = self.by_name["rejected_alerts"]
        self.secrets_of = self.secrets.index("strategy_id")
        self.shares_of = self.shares.index("strategy_id")
        self.waiting = self.instructions.index(
            "account_id", "symbol", where=lambda row: row["status"] in WAITING, looks_at=["status"]
        )
        self.instructions_of_book = self.instructions.index("account_id", "symbol")
        self.instructions_of = self.instructions.index("cause_kind", "cause_id")
        self.intents_of = self.intents.index("cause_kind", "cause_id")
        self.intents_of_position = self.intents.index("position_id")
        self.orders_of = self.orders.index("intent_id")
        self.unresolved = self.orders.index(
            "account_id", "symbol", where=lambda row: row["status"] in UNRESOLVED, looks_at=["status"]
        )
        self.absent = self.orders.index("account_id", where=lambda row: row["status"] == "absent", looks_at=["status"])
        self.live = self.positions.index(
            "account_id", "symbol", where=lambda row: row["status"] != "closed", looks_at=["status"]
        )
        self.closed = self.positions.index(
            "account_id", where=lambda row: row["status"] == "closed", looks_at=["status"]
        )
        self.fills_of_book = self.fills.index("account_id", "symbol")
        self.levels_of = self.levels.index("position_id")
        self.levels_of_intent = self.levels.index("intent_id")
        self.armed = self.levels.index("position_id", where=lambda row: row["status"] == "armed", looks_at=["status"])
        self.asked = self.drifts.index(
            "account_id", where=lambda row: row["status"] == "needs_operator", looks_at=["status"]
        )
        self._worker_leases: dict[UUID, str] = {}

    def lease_lives(self, name: str, at: datetime) -> bool:
        slot = self.leases.find(name)
        return slot is not None and slot.row["expires_at"] > at

    def is_held(self, name: str, token: int, at: datetime) -> bool:
        """Whether whoever got this token holds the lease yet."""
        slot = self.leases.find(name)
        return slot is not None and slot.row["token"] == token and slot.row["expires_at"] > at

    def worker_lives(self, holder: UUID, at: datetime) -> bool:
        name = self._worker_leases.get(holder)
        if name is None:
            name = self._worker_leases[holder] = f"worker:{holder}"
        return self.lease_lives(name, at)


SCHEMA = schema.read()
