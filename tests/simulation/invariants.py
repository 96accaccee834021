"""What must hold at every step (DESIGN §7), judged by the engine's ledger and the tables, never by the program's word.

An exception raised here ends the world. What only holds in the end is in `ending`.
"""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.venues.base import NewOrder
from app.venues.numbers import milliseconds
from simulator import model
from simulator.model import OrderStatus, StopKind
from tests.simulation.exchange import OUR_PREFIX, Exchange
from tests.simulation.ledger import Holding, Key, Ledger
from tests.simulation.memory.tables import Tables
from tests.simulation.processes import House
from tests.simulation.world import RECOVERY_S, Proc, Violation, World

ZERO = Decimal(0)
BY_HAND = ("hand_adds", "hand_closes", "hand_turns", "hand_opens", "adoption")
OPENS = frozenset({"open", "add"})
UNRESOLVED = frozenset({"sent", "unknown", "accepted"})

# I4 where a stop is placed after the fill. Nothing bounds it while something is made to fail: then it counts from when
# the last such thing was over, and whoever takes the work up again needs a lease to run out, a look and some tries.
UNCOVERED_S = 2.0
UNSEEN_MS = 4000  # lists of positions lag behind by up to 2.5 s, what they say holds for 1 s; and the order's way
HEARD = timedelta(seconds=5.25)  # within which a watcher knows of new quantities of its levels, if the ring is lost
UNCOVERED_AFTER_FAULTS_S = 15.0
HINDERED_BEFORE_S = 3.0  # a fault that ended so shortly before the fill still delays what follows it


class Invariants:
    def __init__(self, world: World, exchange: Exchange, tables: Tables, account_ids: list[UUID]) -> None:
        self.world = world
        self.exchange = exchange
        self.tables = tables
        self.account_ids = account_ids
        self.ledger = Ledger()
        self.ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)  # client id -> orders there
        self.level_qty: dict[UUID, Decimal] = {}  # the most that a level has stood for
        self.attempts: defaultdict[tuple[UUID, str], list[tuple[House, UUID]]] = defaultdict(list)
        self.holders: dict[UUID, House] = {}  # of claims
        self.by_hand = any(kind in world.plan.rates for kind in BY_HAND)
        self._clocks_off_s = world.plan.rates.get("clock", 0.0)
        exchange.sent = self.on_send
        exchange.after.append(self.on_events)

    # -- what leaves ---------------------------------------------------------------------------------------------------

    def committed(self, client_order_id: str) -> dict[str, Any] | None:
        """The order's row, if it is committed."""
        tables = self.tables
        slot = tables.orders.uniques["orders_client_order_id_key"].get(client_order_id)
        if slot is None:
            return None
        holder = tables.server.holder
        if holder is not None and any(
            changed is slot and before is None for _, changed, before in holder.changes if _ is tables.orders
        ):
            return None
        return slot.row

    def on_send(self, number: int, proc: Proc, order: NewOrder) -> None:
        """An order is about to leave."""
        row = self.committed(order.client_order_id)
        if row is None:
            raise Violation("I3", f"order {order.client_order_id} leaves {proc.name} and is not committed")
        intent = self.tables.intents.row(row["intent_id"])
        assert intent is not None
        if (row["side"], row["qty"], row["reduce_only"]) != (order.side, order.qty, order.reduce_only):
            raise Violation("I3", f"order {order.client_order_id} leaves as another one than was committed")
        if (intent["kind"] in OPENS) is order.reduce_only:
            raise Violation("I5", f"a {intent['kind']} leaves {'' if order.reduce_only else 'not '}reduce-only")
        if intent["kind"] in OPENS:
            open_ones = [one for one in self.tables.orders_of.get(intent["id"]) if one["status"] in UNRESOLVED]
            if len(open_ones) > 1:
                raise Violation("I2", f"{len(open_ones)} unresolved opening orders of one intent")
        else:
            self._stands_for(intent, row)  # when the close leaves: a fill may make the level smaller on the way

    # -- what happens there --------------------------------------------------------------------------------------------

    def on_events(self, events: list[model.Event]) -> None:
        touched: set[Key] = set()
        for event in events:
            if isinstance(event, model.Filled):
                fill = event.fill
                self._on_fill(fill)
                touched.add((fill.account, fill.symbol, fill.position_side))
            elif isinstance(event, model.OrderChanged):
                order = event.order
                if order.client_order_id.startswith(OUR_PREFIX):
                    self._on_order(order)
                touched.add((order.account, order.symbol, order.position_side))
        for key in sorted(touched):
            self.on_cover(key)

    def _on_order(self, order: model.Order) -> None:
        if self.committed(order.client_order_id) is None:
            raise Violation("I3", f"order {order.client_order_id} has arrived and is not committed")
        known = self.ids[order.account, order.client_order_id]
        known.add(order.order_id)
        if len(known) > 1 and not order.reduce_only:
            raise Violation("I2", f"an opening has arrived twice under {order.client_order_id}")

    def _counted(self, fill: model.Fill) -> Decimal:
        """What our tables hold of the position that a fill acts on."""
        live = self.tables.live.get((self.account_ids[self.exchange.number(fill.account)], fill.symbol))
        side = fill.position_side.value
        return sum((row["qty"] for row in live if side in ("Both", row["side"].title())), ZERO)

    def _on_fill(self, fill: model.Fill) -> None:
        ours = fill.client_order_id.startswith(OUR_PREFIX)
        row = self.committed(fill.client_order_id) if ours else None
        opening = row is not None and not row["reduce_only"]
        before = self.ledger.holdings[fill.account, fill.symbol, fill.position_side]
        # No program can know of what a hand opened a moment before an order was sent, which was not listed yet.
        sent_ms = fill.at_ms if row is None or not opening else milliseconds(row["sent_at"])
        unseen = before.ours == ZERO and sent_ms - before.foreign_at_ms < UNSEEN_MS
        if fill.closed_qty and not ours and before.ours != self._counted(fill):
            before.mixed = True  # our fills of before are listed later: they are counted in another order than here
        ours_before = before.ours
        holding = self.ledger.count(fill, ours=opening)
        self.world.say("ledger", fill.account, fill.symbol, fill.position_side, "ours", holding.ours * holding.sign,
                       "foreign", holding.foreign * holding.sign, "generation", holding.generation)  # fmt: skip
        if row is None:
            return
        intent = self.tables.intents.row(row["intent_id"])
        assert intent is not None
        if opening:
            if fill.closed_qty and not unseen:
                raise Violation("I5", f"an opening took {fill.closed_qty} off another position of {fill.symbol}")
            self.ledger.opened[intent["id"]] += fill.qty
            self.ledger.generations[intent["id"]].add(holding.generation)
            if self.ledger.opened[intent["id"]] > intent["qty"]:
                raise Violation(
                    "I2", f"{self.ledger.opened[intent['id']]} opened for an intent of {intent['qty']} {fill.symbol}"
                )
            return
        if fill.closed_qty != fill.qty:
            raise Violation("I5", f"a close of {fill.qty} {fill.symbol} took only {fill.closed_qty} off")
        self._on_close(fill, row, holding, ours_before - holding.ours)

    def _on_close(self, fill: model.Fill, order: dict[str, Any], holding: Holding, taken: Decimal) -> None:
        """`taken` is what it took off ours; in one-way mode the rest is a stranger's, which nobody can tell apart."""
        intent = self.tables.intents.row(order["intent_id"])
        assert intent is not None
        openings = [one for one in self.tables.intents_of_position.get(intent["position_id"]) if one["kind"] in OPENS]
        # What was on its way to be added when its position ended begins the next one, and meets closes of the last.
        known = map(self.tables.intents.row, self.ledger.generations)
        openings += [one for one in known if one is not None and _adds_to(one, intent)]
        generations = {one for opening in openings for one in self.ledger.generations[opening["id"]]}
        if holding.generation not in generations and not self.by_hand:
            raise Violation(
                "I5", f"a close of {fill.symbol} for position {intent['position_id']} of generation "
                f"{sorted(generations)} took {fill.qty} off generation {holding.generation}",
            )  # fmt: skip
        level_id = self._level_of(intent)
        most = self._stands_for(intent, order)
        if level_id is not None and most is not None:
            self.ledger.taken[level_id] += taken
            if self.ledger.taken[level_id] > most:
                raise Violation("I6", f"{self.ledger.taken[level_id]} closed for a take profit of {most} {fill.symbol}")

    def _stands_for(self, intent: dict[str, Any], order: dict[str, Any]) -> Decimal | None:
        """The most that the take profit of a close has stood for when it was looked at; None if it is none's."""
        level_id = self._level_of(intent)
        level = None if level_id is None else self.tables.levels.row(level_id)
        if level_id is None or level is None or level["kind"] != "take_profit":
            return None
        most: Decimal = max(level["qty"], self.level_qty.get(level_id, ZERO))
        armed = self.tables.orders.row(level["order_id"])
        assert armed is not None
        if self.world.loop.now_at() - armed["created_at"] < HEARD + timedelta(seconds=self._clocks_off_s):
            most = max(most, order["qty"])  # since a moment ago it has another order, for another quantity
        self.level_qty[level_id] = most
        return most

    def _level_of(self, intent: dict[str, Any]) -> UUID | None:
        cause: UUID = intent["cause_id"]
        if intent["cause_kind"] == "level":
            return cause
        instruction = self.tables.instructions.row(cause)
        if instruction is not None and instruction["cause_kind"] == "level":
            found: UUID = instruction["cause_id"]
            return found
        return None

    # -- cover ---------------------------------------------------------------------------------------------------------

    def covered(self, key: Key) -> bool:
        """Whether what is ours has a native stop for all of it."""
        name, symbol, side = key
        account = self.exchange.engine.accounts[name]
        holding = self.ledger.holdings[key]
        if account.venue == "bybit":
            return bool(self.exchange.engine.view(account, symbol, side).stop_loss)
        resting = [
            order
            for order in self.exchange.engine.open_orders(account, symbol)
            if order.status is OrderStatus.UNTRIGGERED
            and order.stop_kind is StopKind.STOP
            and order.position_side is side
            and order.side.sign == -holding.sign
        ]
        return any(order.close_position for order in resting) or sum((o.qty for o in resting), ZERO) >= holding.ours

    def on_cover(self, key: Key) -> None:
        holding = self.ledger.holdings[key]
        if holding.ours == ZERO or self.covered(key):
            holding.naked_since, holding.bared = None, False
            return
        if holding.naked_since is not None:
            return
        if self.exchange.engine.accounts[key[0]].venue == "bybit" and not holding.bared:
            raise Violation("I4", f"{holding.ours} {key[1]} of {key[0]} are held without a native stop")
        holding.naked_since = self.world.loop.now
        self.world.say("ledger", "uncovered", *key)
        self.world.loop.later(UNCOVERED_S + 0.001, self._still_naked, key, holding.naked_since)

    def _still_naked(self, key: Key, since: float) -> None:
        """Look again until it is covered, or has been uncovered for too long with nothing in the way."""
        world, holding = self.world, self.ledger.holdings[key]
        if world.over or holding.naked_since != since or holding.ours == ZERO:
            return
        if self.closing(key):
            world.loop.later(0.25, self._still_naked, key, since)
            return
        free = max(since, world.hindered_until)
        bound = UNCOVERED_S if world.hindered_until < since - HINDERED_BEFORE_S else UNCOVERED_AFTER_FAULTS_S
        left = free + bound - world.loop.now
        if left > 0:
            world.loop.later(left + 0.001, self._still_naked, key, since)
            return
        world.fail(Violation("I4", f"{holding.ours} {key[1]} of {key[0]} uncovered for {world.loop.now - since:.2f} s, "
                             f"{bound:g} s of them with nothing in the way"))  # fmt: skip

    def closing(self, key: Key) -> bool:
        """Whether its book is closing it: a close that was sent, or an instruction that is to close."""
        account_id = self.account_ids[self.exchange.number(key[0])]
        if any(one["reduce_only"] for one in self.tables.unresolved.get((account_id, key[1]))):
            return True
        return any(
            one["cause_kind"] != "alert" or _only_closes(one["request"])
            for one in self.tables.waiting.get((account_id, key[1]))
        )

    # -- books ---------------------------------------------------------------------------------------------------------

    def begin(self, house: House, account_id: UUID, symbol: str, holder: UUID) -> None:
        """A worker begins an attempt in a book: it must hold the claim, and be at it only once.

        Not so while leases may have run out (a fault within their span): who took the book a moment ago may have lost
        it again before it begins, or a crash of PostgreSQL undid the claim, which nobody waits for on disk. What such
        a worker does is asking, what it would write is fenced (`on_commit`).
        """
        self.holders[holder] = house
        claim = self.tables.books.row((account_id, symbol))
        if claim is None or claim["holder"] != holder:
            if self.world.loop.now > self.world.hindered_until + RECOVERY_S:
                raise Violation("I8", f"{house.proc.name} works on {symbol} without a claim")
        for _, other_holder in self.attempts[account_id, symbol]:
            if other_holder == holder:
                raise Violation("I8", f"{house.proc.name} works on {symbol} twice at once")
        self.attempts[account_id, symbol].append((house, holder))

    def end(self, house: House, account_id: UUID, symbol: str, holder: UUID) -> None:
        self.attempts[account_id, symbol].remove((house, holder))

    def on_commit(self, house: House, step: str) -> None:
        """I7: orders that are about to be sent are committed under a claim that holds."""
        x = self.tables.server.holder
        if step != "commit" or x is None or x.owner is not house.pool:
            return
        for table, slot, before in x.changes:
            row = slot.row
            if table is self.tables.orders and before is None and row["status"] == "sent":
                claim = self.tables.books.row((row["account_id"], row["symbol"]))
                holder = None if claim is None else claim["holder"]
                if holder is None or self.holders.get(holder) is not house:
                    raise Violation("I7", f"{house.proc.name} writes an order for {row['symbol']} without a claim")


def _only_closes(request: Any) -> bool:
    """Of an instruction's request as it is stored: a struct, or its JSON."""
    if isinstance(request, dict):
        return request.get("target") == "flat" or str(request.get("action", "")).startswith(("close", "reduce"))
    return bool(request.only_closes)


def _adds_to(opening: dict[str, Any], close: dict[str, Any]) -> bool:
    same = ("account_id", "symbol", "position_side")
    return opening["kind"] == "add" and all(opening[one] == close[one] for one in same)
