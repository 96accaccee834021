"""What each statement does, one module for each of `app.store`. Importing this registers them all."""

from tests.simulation.memory.answers import accounts, books, drifts, inbox, leases, levels, orders, positions, rejected

__all__ = ["accounts", "books", "drifts", "inbox", "leases", "levels", "orders", "positions", "rejected"]
