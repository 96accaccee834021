"""The engine's ledger, told apart: what of a position is ours, what a hand added, and which of ours owns it.

A position there has generations: each time it goes from flat to held, another one begins. An order that closes one of
our positions must not touch another generation than those which that position's openings made.
"""

from collections import defaultdict
from decimal import Decimal
from uuid import UUID

from simulator import model

ZERO = Decimal(0)
Key = tuple[str, str, model.PositionSide]  # account, symbol, side (hedge mode)


class Holding:
    """What is held there of one position."""

    def __init__(self) -> None:
        self.ours = ZERO
        self.foreign = ZERO
        self.sign = 0
        self.generation = 0
        self.foreign_at_ms = 0  # when a hand added last
        self.mixed = False  # something was taken off while both held: whose it was depends on who counts first
        self.naked_since: float | None = None
        self.bared = False  # a hand has cancelled its native stop, or it was adopted without one

    @property
    def qty(self) -> Decimal:
        return self.ours + self.foreign

    def adopt(self) -> None:
        """A person has put all of it under our management."""
        self.ours, self.foreign, self.mixed = self.qty, ZERO, True
        self.bared = True


class Ledger:
    def __init__(self) -> None:
        self.holdings: defaultdict[Key, Holding] = defaultdict(Holding)
        self.opened: defaultdict[UUID, Decimal] = defaultdict(lambda: ZERO)  # intent -> what its orders have opened
        self.generations: defaultdict[UUID, set[int]] = defaultdict(set)  # intent -> those that its fills are in
        self.taken: defaultdict[UUID, Decimal] = defaultdict(lambda: ZERO)  # level -> what was closed for it

    def count(self, fill: model.Fill, *, ours: bool) -> Holding:
        """Fold one fill; a reduction takes what is ours first, as our own fold does."""
        holding = self.holdings[fill.account, fill.symbol, fill.position_side]
        closed, opened = fill.closed_qty, fill.qty - fill.closed_qty
        if closed:
            holding.mixed = holding.mixed or holding.foreign > ZERO
            taken = min(closed, holding.ours)
            holding.ours -= taken
            holding.foreign -= closed - taken
        if opened:
            if holding.qty == ZERO:
                holding.generation += 1
                holding.sign = fill.side.sign
            if ours:
                holding.ours += opened
            else:
                holding.foreign += opened
                holding.foreign_at_ms = fill.at_ms
        return holding
