"""What one transaction has changed."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from tests.simulation.memory.schema import Row

Clock = Callable[[], datetime]


class Slot:
    """Where a row is. A row itself is never changed: a new one is put in its place, so readers may keep the old."""

    __slots__ = ("number", "row")

    def __init__(self, row: Row, number: int) -> None:
        self.row = row
        self.number = number  # in the order in which rows came


class Changed(Protocol):
    """What a transaction needs to know of a table."""

    name: str
    primary: Any

    def put_back(self, slot: Slot, before: Row | None) -> None: ...


class Transaction:
    """What was changed since it began. `now` stands still, `clock` goes on."""

    unhurried = False  # its commit does not wait for the disk
    failed = False  # a statement was refused: nothing but a rollback is possible
    held = False  # it has had its turn
    lost = False  # its connection is gone
    task: object = None  # that it belongs to

    def __init__(self, clock: Clock, owner: object) -> None:
        self.clock = clock
        self.now = clock()
        self.owner = owner
        self.changes: list[tuple[Changed, Slot, Row | None]] = []  # with what was there before
        self.references: list[tuple[Changed, Any]] = []  # what has to be there when the statement ends

    def check_references(self) -> None:
        """Every row that was referred to must be there by now. Raises ForeignKeyViolationError."""
        for table, key in self.references:
            if key not in table.primary.entries:
                raise asyncpg.ForeignKeyViolationError(f"there is no row {key} in {table.name}")
        self.references.clear()

    def undo(self, mark: int = 0) -> None:
        """Put back what was there when so many changes had been made."""
        changes = self.changes
        while len(changes) > mark:
            table, slot, before = changes.pop()
            table.put_back(slot, before)
        self.references.clear()
