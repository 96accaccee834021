"""After a storm: what the senders were told, what our tables say and what the exchange says, side by side.

`differences` is a pure function of three plain accounts of the same hours; every sentence it answers is a promise that
was broken. Quantities are compared as Decimal, never rounded.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

import msgspec

ZERO: Final = Decimal(0)
PREFIX: Final = "lh"  # of our client order ids
RESTING: Final = frozenset({"New", "PartiallyFilled", "Untriggered", "Triggered"})
OPENING: Final = frozenset({"open", "add"})
TERMINAL: Final = frozenset({"done", "refused", "expired", "superseded", "needs_operator"})
BOTH: Final = ("watcher", "exchange")

Book = tuple[str, str]
"""(account's name, symbol)"""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as its sender knows it. `alert_id`: what a 2xx answered; None: there was none."""

    id: str
    strategy: str
    symbol: str
    alert_id: str | None = None


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    sender_id: str
    strategy: str
    status: str
    code: str | None
    instructions: int
    unfinished: int  # instructions


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    client_order_id: str
    book: Book
    intent: str
    kind: str
    intent_qty: Decimal
    status: str
    filled: Decimal  # sum of its fills


class Execution(msgspec.Struct, frozen=True, order=True):
    """One fill as both know it. Two that are alike in everything are counted, not told apart: the exchanges name
    their fills in ways of their own.
    """

    book: Book
    at_ms: int
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal

    @property
    def signed(self) -> Decimal:
        return self.qty if self.side == "buy" else -self.qty

    def __str__(self) -> str:
        return f"{self.side} {self.qty} at {self.price}, fee {self.fee}, at {self.at_ms} ms"


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    execution: Execution
    position: str | None


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    book: Book
    side: str
    status: str
    qty: Decimal
    protected_by: tuple[str, ...] = ()


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """What our tables and our API say."""

    alerts: list[AlertRow]
    orders: list[OrderRow]
    fills: list[FillRow]
    positions: list[PositionRow]


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True):
    client_order_id: str
    book: Book
    side: str
    status: str
    filled: Decimal
    conditional: bool
    trigger_price: str | None = None
    created_ms: int = 0
    changed_ms: int = 0  # when it ended, once it rests no more


class Theirs(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange's ledger says. `held`: signed, what is not flat."""

    orders: list[VenueOrder]
    fills: list[Execution]
    held: dict[Book, Decimal]


class Difference(msgspec.Struct, frozen=True, order=True):
    """A broken promise: which one, the book or alert that it is about, and what was found."""

    what: str
    about: str
    found: str
    book: Book | None = None


def differences(sent: Iterable[Sent], ours: Ours, theirs: Theirs) -> list[Difference]:
    return sorted(
        [
            *_alerts(list(sent), ours.alerts),
            *_orders(ours, theirs),
            *_fills(ours, theirs),
            *_positions(ours, theirs),
            *_protection(ours, theirs),
        ]
    )


def _alerts(sent: list[Sent], rows: list[AlertRow]) -> Iterator[Difference]:
    stored: defaultdict[tuple[str, str], list[AlertRow]] = defaultdict(list)
    for row in rows:
        stored[row.strategy, row.sender_id].append(row)
    for alert in sent:
        found = stored.pop((alert.strategy, alert.id), [])
        book = (alert.strategy, alert.symbol)
        if len(found) > 1:
            yield Difference("alert stored twice", alert.id, str([row.id for row in found]), book)
        if alert.alert_id is not None and alert.alert_id not in {row.id for row in found}:
            yield Difference("accepted alert lost", alert.id, f"answered {alert.alert_id}, stored {found}", book)
        for row in found:
            if row.status not in TERMINAL or row.code is None or row.unfinished:
                why = f"{row.status} {row.code}, {row.unfinished} instructions wait"
                yield Difference("alert without an end", alert.id, why, book)
            if row.instructions != 1:
                yield Difference("alert not carried out once", alert.id, f"{row.instructions} instructions", book)
    for (strategy, sender_id), found in stored.items():
        yield Difference("alert that nobody sent", sender_id, f"{strategy}: {[row.id for row in found]}")


def _orders(ours: Ours, theirs: Theirs) -> Iterator[Difference]:
    rows = {row.client_order_id: row for row in ours.orders}
    there: Counter[str] = Counter()
    for order in theirs.orders:
        # Native stops of ours carry the prefix as well where the exchange lets us name them; they are levels there.
        if not order.client_order_id.startswith(PREFIX) or order.conditional:
            continue
        there[order.client_order_id] += 1
        if order.client_order_id not in rows:
            found = f"{order.status}, filled {order.filled}"
            yield Difference("order without a row", order.client_order_id, found, order.book)
    for client_order_id, times in there.items():
        if times > 1:
            yield Difference("order doubled at the exchange", client_order_id, f"{times} times")
    filled_there: defaultdict[str, Decimal] = defaultdict(Decimal)
    for order in theirs.orders:
        filled_there[order.client_order_id] += order.filled
    opened: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in ours.orders:
        if row.status in ("sent", "unknown", "accepted"):
            yield Difference("order without an end", row.client_order_id, row.status, row.book)
        filled = filled_there[row.client_order_id]
        if row.filled != filled:
            found = f"ours {row.filled}, the exchange's {filled}"
            yield Difference("order filled otherwise", row.client_order_id, found, row.book)
        if row.kind in OPENING:
            opened[row.intent] += row.filled
    for row in {row.intent: row for row in ours.orders}.values():
        if opened[row.intent] > row.intent_qty:
            yield Difference("opened too much", row.intent, f"{opened[row.intent]} of {row.intent_qty}", row.book)


def _fills(ours: Ours, theirs: Theirs) -> Iterator[Difference]:
    mine, there = Counter(row.execution for row in ours.fills), Counter(theirs.fills)
    for one in sorted((there - mine).elements()):
        yield Difference("fill that we do not know", "/".join(one.book), str(one), one.book)
    for one in sorted((mine - there).elements()):
        yield Difference("fill that never was", "/".join(one.book), str(one), one.book)


def _positions(ours: Ours, theirs: Theirs) -> Iterator[Difference]:
    held: defaultdict[Book, Decimal] = defaultdict(Decimal)
    summed: defaultdict[str, Decimal] = defaultdict(Decimal)
    booked: defaultdict[Book, Decimal] = defaultdict(Decimal)
    for fill in ours.fills:
        booked[fill.execution.book] += fill.execution.signed
        if fill.position is not None:
            summed[fill.position] += fill.execution.signed
    for row in ours.positions:
        signed = row.qty if row.side == "long" else -row.qty
        if row.status != "closed":
            held[row.book] += signed
        if row.status not in ("open", "closed"):
            yield Difference("position without rest", row.id, row.status, row.book)
        if summed[row.id] != signed:
            found = f"fills {summed[row.id]}, position {signed}"
            yield Difference("fills do not add up to the position", row.id, found, row.book)
    for book in sorted(held.keys() | theirs.held.keys() | booked.keys()):
        there = theirs.held.get(book, ZERO)
        if held[book] != there:
            yield Difference("held otherwise", "/".join(book), f"ours {held[book]}, the exchange's {there}", book)
        if booked[book] != there:
            found = f"fills {booked[book]}, held {there}"
            yield Difference("fills do not add up to what is held", "/".join(book), found, book)


def _protection(ours: Ours, theirs: Theirs) -> Iterator[Difference]:
    stops: defaultdict[Book, list[VenueOrder]] = defaultdict(list)
    for order in theirs.orders:
        if order.status in RESTING:
            stops[order.book].append(order)
    for book in sorted(theirs.held.keys() | stops.keys()):
        held, resting = theirs.held.get(book, ZERO), stops[book]
        closing = [one for one in resting if one.conditional and one.side == ("Sell" if held > 0 else "Buy")]
        if held and not closing:
            yield Difference("position without a native stop", "/".join(book), f"holds {held}", book)
        if held and closing:
            resting.remove(closing[0])
        for order in resting:
            found = f"{order.side} {order.status} at {order.trigger_price} while {held} is held"
            yield Difference("order left over at the exchange", order.client_order_id or "unnamed", found, book)
    for row in ours.positions:
        if row.status != "closed" and row.protected_by != BOTH:
            yield Difference("position not protected by both", row.id, str(row.protected_by), row.book)


def uncovered_ms(theirs: Theirs) -> dict[str, int]:
    """The longest time in which an account held something without a stop of its own at the exchange, by the
    exchange's clock. No promise is broken by it alone: nobody can place a stop while everything is dead.
    """
    fills: defaultdict[Book, list[Execution]] = defaultdict(list)
    stops: defaultdict[tuple[Book, str], list[tuple[int, float]]] = defaultdict(list)
    for fill in theirs.fills:
        fills[fill.book].append(fill)
    for order in theirs.orders:
        if order.conditional:
            end = float("inf") if order.status in RESTING else order.changed_ms
            stops[order.book, order.side].append((order.created_ms, end))
    longest: defaultdict[str, int] = defaultdict(int)
    for book, executions in fills.items():
        for begin, end, side in _spans(executions):
            rests = stops[book, "Sell" if side > 0 else "Buy"]
            longest[book[0]] = max(longest[book[0]], _bare_ms(begin, end, rests))
    return dict(longest)


def _spans(executions: Iterable[Execution]) -> Iterator[tuple[int, int, int]]:
    """Begin, end and side (1, -1) of each position that has ended."""
    held, begin = ZERO, 0
    for fill in sorted(executions, key=lambda one: one.at_ms):
        before, held = held, held + fill.signed
        if before and before * held <= 0:
            yield begin, fill.at_ms, 1 if before > 0 else -1
        if before * held <= 0:
            begin = fill.at_ms


def _bare_ms(begin: int, end: int, rests: Iterable[tuple[int, float]]) -> int:
    """The longest part of a span that lies in none of the others."""
    longest, bare_since = 0, float(begin)
    for start, stop in sorted(rests):
        if stop < bare_since or start >= end:
            continue
        longest = max(longest, int(start - bare_since))
        bare_since = max(bare_since, stop)
    return max(longest, int(end - bare_since))
