"""Books: claims, fences, locks and epochs."""

from uuid import UUID

from app.store import books
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Transaction


def is_holder(t: Tables, row: Row, holder: UUID, token: int) -> bool:
    """Whether the book that a row belongs to is still claimed under this token; its lease is not asked for."""
    book = t.books.row((row["account_id"], row["symbol"]))
    return book is not None and book["holder"] == holder and book["token"] == token


def claim_holds(t: Tables, x: Transaction, account_id: UUID, symbol: str, holder: UUID, token: int) -> bool:
    slot = t.books.find((account_id, symbol))
    if slot is None:
        return False
    book = slot.row
    return book["holder"] == holder and book["token"] == token and t.worker_lives(holder, x.clock())


@statement(books.RELEASE)
def release(t: Tables, x: Transaction, account_id: UUID, symbol: str, token: int) -> int:
    x.unhurried = True
    slot = t.books.find((account_id, symbol))
    if slot is None or slot.row["token"] != token:
        return 0
    t.books.update(x, slot, {"holder": None})
    return 1


@statement(books.FENCE)
def fence(t: Tables, x: Transaction, account_id: UUID, symbol: str, holder: UUID, token: int) -> list[Row]:
    return [{"?column?": 1}] if claim_holds(t, x, account_id, symbol, holder, token) else []


@statement(books.LOCK)
def lock(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> int:
    if t.books.find((account_id, symbol)) is None:
        t.books.insert(x, {"account_id": account_id, "symbol": symbol})
    return 1


@statement(books.CLAIMED)
def claimed(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> list[Row]:
    book = t.books.row((account_id, symbol))
    return [{"exists": book is not None and book["holder"] is not None and t.worker_lives(book["holder"], x.clock())}]


@statement(books.SYMBOLS_OF)
def symbols_of(t: Tables, x: Transaction, strategy_id: str) -> list[Row]:
    of = [*t.positions.rows, *t.instructions.rows]
    ended = ("closed", "done", "refused", "expired", "superseded", "needs_operator")
    found = {row["symbol"] for row in of if row["strategy_id"] == strategy_id and row["status"] not in ended}
    return [{"symbol": symbol} for symbol in sorted(found)]


@statement(books.NEXT_EPOCH)
def next_epoch(t: Tables, x: Transaction, account_id: UUID, symbol: str) -> list[Row]:
    slot = t.books.find((account_id, symbol))
    if slot is None:
        return []
    return [{"epoch": t.books.update(x, slot, {"epoch": slot.row["epoch"] + 1})["epoch"]}]
