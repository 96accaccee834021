"""What must hold in the end, when nothing breaks any more and everybody has had the time to find out."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from app.domain.level import Level
from app.domain.money import HUNDRED
from app.domain.outliers import Sieve
from app.venues.base import Trade
from app.venues.numbers import instant
from simulator import model
from simulator.model import OrderStatus, StopKind
from tests.simulation.exchange import OUR_PREFIX
from tests.simulation.invariants import UNRESOLVED, Invariants
from tests.simulation.ledger import Key
from tests.simulation.loop import EPOCH
from tests.simulation.schedule import TICKS, Plan
from tests.workers.oracle import Watched

ZERO = Decimal(0)
ENDS = frozenset({"done", "refused", "expired", "superseded", "needs_operator"})
TOLERANCE_PCT = Decimal("0.1")  # of the entry price: a native stop that rode on the entry may stay so near
JUDGED_FROM = timedelta(milliseconds=1)  # a trade of the very instant in which a level was armed may count or not

FRESH = timedelta(seconds=1)  # a price that was told so long before a level was armed may still be the one of then
CHANGED = timedelta(seconds=6)  # within which a change of a level may come too late for its close
LOOKED_AT = timedelta(seconds=6)  # within which a watcher hears of a level whose ring was lost
SEEN = timedelta(seconds=5)  # within which a price that nobody tells of is asked for

Row = dict[str, Any]


class Ending:
    """Looks for what is not as it should be; nothing found: the world has come to rest."""

    def __init__(self, plan: Plan, invariants: Invariants) -> None:
        self.plan = plan
        self.tables = invariants.tables
        self.exchange = invariants.exchange
        self.engine = invariants.exchange.engine
        self.ledger = invariants.ledger
        self.invariants = invariants
        self.account_ids = invariants.account_ids
        self.swept_from: datetime | None = None  # from then on the price goes through everything that is armed
        self.accepted: dict[Any, int] = {}  # alert id, as it was answered -> number in the plan

    def wrong(self) -> Iterator[str]:
        """Sentences, each begins with the invariant's name."""
        yield from self._alerts()
        yield from self._orders()
        yield from self._fills()
        yield from self._positions()
        yield from self._cover()
        yield from self._levels()

    # -- I1 ------------------------------------------------------------------------------------------------------------

    def _alerts(self) -> Iterator[str]:
        for alert_id, number in self.accepted.items():
            row = self.tables.alerts.row(alert_id)
            if row is None:
                yield f"I1 alert a{number} was answered 2xx and is not stored"
            elif row["status"] not in ENDS:
                yield f"I1 alert a{number} is {row['status']}"
            elif row["outcome_code"] is None:
                yield f"I1 alert a{number} has ended as {row['status']} without an outcome"
            elif row["outcome_code"] == "gave_up":
                yield f"I1 alert a{number} was given up: {row['outcome_reason']}"
        for row in self.tables.instructions.rows:
            if row["status"] not in ENDS:
                what = f"{row['cause_kind']} for {row['symbol']}"
                yield f"I1 instruction of {what} is {row['status']}: {row['waits_for']}"
        for number in self.plan_numbers() - set(self.accepted.values()):
            yield f"I1 alert a{number} was never answered"

    def plan_numbers(self) -> set[int]:
        return {alert.number for alert in self.plan.alerts}

    # -- I9, I10: orders and fills -------------------------------------------------------------------------------------

    def _orders(self) -> Iterator[str]:
        for row in self.tables.orders.rows:
            order = self.exchange.order(self._account(row), row["client_order_id"])
            there = ZERO if order is None else self._filled_under(row)
            name = f"{row['side']} {row['qty']} {row['symbol']} ({row['client_order_id'][:10]})"
            if row["status"] in UNRESOLVED:
                yield f"I9 order {name} is {row['status']}; there it is {order.status if order else 'unknown'}"
            elif row["status"] == "absent" and order is not None:
                yield f"I9 order {name} is absent; there it is {order.status} with {there}"
            elif row["status"] in ("armed", "disarmed") and there:
                # One that ended there without a fill was fired by a watcher that died with that: it had no effect.
                yield f"I9 order {name} is {row['status']}; there it is {order.status if order else None} with {there}"
            elif row["status"] == "rejected" and there:
                yield f"I9 order {name} is rejected; there {there} were filled"
            elif row["status"] in ("filled", "cancelled") and order is None:
                yield f"I9 order {name} is {row['status']}; there it is unknown"
            if row["filled_qty"] != there:
                yield f"I10 order {name} has {row['filled_qty']} filled; there {there}"

    def _filled_under(self, row: Row) -> Decimal:
        """Of all orders under this id: a Binance-like account takes an id again."""
        ids = self.invariants.ids[self._account(row).name, row["client_order_id"]]
        orders = self._account(row).orders
        return sum((orders[id].filled_qty for id in sorted(ids)), ZERO)

    def _account(self, row: Row) -> model.Account:
        return self.exchange.accounts[self.account_ids.index(row["account_id"])]

    def _fills(self) -> Iterator[str]:
        known = {(row["account_id"], row["venue_fill_id"]): row for row in self.tables.fills.rows}
        for number, account in enumerate(self.exchange.accounts):
            for fill in account.fills:
                row = known.get((self.account_ids[number], fill.fill_id))
                if row is None:
                    if fill.client_order_id.startswith(OUR_PREFIX):
                        name = fill.client_order_id[:10]
                        yield f"I10 a fill of {fill.qty} {fill.symbol} under {name} was not counted"
                elif (row["qty"], row["price"]) != (fill.qty, fill.price):
                    yield f"I10 fill {fill.fill_id} is {row['qty']} at {row['price']}; there {fill.qty} at {fill.price}"

    # -- I10: positions ------------------------------------------------------------------------------------------------

    def keys(self) -> Iterator[tuple[Key, list[Row]]]:
        """Each position of the exchange with the live one of ours."""
        for number, account in enumerate(self.exchange.accounts):
            for symbol in self.plan.symbols:
                live = self.tables.live.get((self.account_ids[number], symbol))
                for side in account.position_sides(symbol):
                    mine = [row for row in live if side.value in ("Both", row["side"].title())]
                    yield (account.name, symbol, side), mine

    def _positions(self) -> Iterator[str]:
        for key, live in self.keys():
            holding = self.ledger.holdings[key]
            account = self.engine.accounts[key[0]]
            there = self.engine.position(account, key[1], key[2]).qty
            name = f"{key[1]} {key[2]} of {key[0]}"
            if there != holding.qty * holding.sign:
                yield f"simulation: the ledger has {holding.qty * holding.sign} {name}, the engine {there}"
            if len(live) > 1:
                yield f"I10 {len(live)} live positions of {name}"
            ours = sum((row["qty"] if row["side"] == "long" else -row["qty"] for row in live), ZERO)
            visited = live or "hand_opens" not in self.plan.rates  # what an idle account holds is not looked at
            if holding.mixed:
                # An exchange has one position. Which part of it is a stranger's is a matter of the order in which
                # fills were listed; that there is a difference has to be told all the same.
                if visited and ours != there and not self._told(key):
                    yield f"I10 ours {ours} {name}, there {there}, and nobody was told"
            elif ours != holding.ours * holding.sign:
                yield f"I10 ours {ours} {name}; the ledger says {holding.ours * holding.sign} are ours"
            if visited and not holding.mixed and holding.foreign and not self._told(key):
                yield f"I10 {holding.foreign} {name} are a stranger's, and nobody was told"
        for row in self.tables.positions.rows:
            folded = ZERO
            for fill in self.tables.fills_of_book.get((row["account_id"], row["symbol"])):
                if fill["position_id"] == row["id"]:
                    opens = (fill["side"] == "buy") is (row["side"] == "long")
                    folded = folded + fill["qty"] if opens else max(ZERO, folded - fill["qty"])
            if folded != row["qty"] and row["close_reason"] != "external" and not row["adopted_qty"]:
                yield f"I10 position {row['side']} {row['symbol']} is {row['qty']}, its fills fold to {folded}"

    def _told(self, key: Key) -> bool:
        """A person was asked about what is held there, and the question is open."""
        account_id = self.account_ids[self.exchange.number(key[0])]
        return any(
            (row["account_id"], row["symbol"], row["status"]) == (account_id, key[1], "needs_operator")
            for row in self.tables.drifts.rows
        )

    # -- I4 ------------------------------------------------------------------------------------------------------------

    def _cover(self) -> Iterator[str]:
        for key, live in self.keys():
            holding, name = self.ledger.holdings[key], f"{key[1]} {key[2]} of {key[0]}"
            if holding.ours and not self.invariants.covered(key):
                yield f"I4 {holding.ours} {name} have no native stop"
            resting = self._resting(key)
            if not holding.qty and resting:
                yield f"I4 {len(resting)} stops rest for {name}, which is flat"
            for row in live:
                stop = row["native_stop"]
                near = row["entry_price"] * TOLERANCE_PCT / HUNDRED
                if holding.ours and stop is None:
                    yield f"protected_by says that no stop rests for {name}"
                if stop is not None and not any(abs(order.trigger_price - stop) <= near for order in resting):
                    yield f"protected_by says {stop} for {name}; there {[str(one.trigger_price) for one in resting]}"

    def _resting(self, key: Key) -> list[Any]:
        return [
            order
            for order in self.engine.open_orders(self.engine.accounts[key[0]], key[1])
            if order.status is OrderStatus.UNTRIGGERED
            and order.stop_kind in (StopKind.STOP, StopKind.STOP_LOSS)
            and order.position_side is key[2]
        ]

    # -- levels --------------------------------------------------------------------------------------------------------

    def _levels(self) -> Iterator[str]:
        for row in self.tables.levels.rows:
            position = self.tables.positions.row(row["position_id"])
            assert position is not None
            if (trade := self._fired_by(row, position)) is not None and instant(trade.at_ms) < position["opened_at"]:
                yield f"a trade from before {position['symbol']} was opened fired its {row['kind']}"
            if self._fired_early(row, position):
                yield f"{row['trigger_price']} fired a {row['kind']} of {position['symbol']} that stood further away"
            if self._slept(row, position):
                yield f"the {row['kind']} of {position['symbol']} did not fire before the stop at the exchange"
            if position["status"] == "closed":
                if row["status"] == "armed":
                    yield f"I6 a {row['kind']} of a closed {position['symbol']} is armed"
                continue
            if row["status"] == "triggered" and not self._carried_out(row):
                yield f"a crossed {row['kind']} of {position['symbol']} is not carried out"
            if row["status"] == "armed" and row["due_at"] is not None and row["due_at"] < instant(self.exchange.now_ms):
                yield f"the time of {position['symbol']} was over at {row['due_at']:%H:%M:%S.%f}, and it is held"
            if row["status"] == "armed" and (crossing := self._crossing(row, position)) is not None:
                yield f"{crossing} went through the {row['kind']} {row['price']} of {position['symbol']}, which is held"
            if row["status"] == "armed" and self._overdue(row, position):
                yield f"the {row['trigger_by']} price was at the {row['kind']} {row['price']} of {position['symbol']}"

    def _fired_by(self, level: Row, position: Row) -> Trade | None:
        """The trade that crossed a level, if it was one."""
        trade_id = level["trigger_trade_id"]
        trades = self.exchange.trades[position["symbol"]] if trade_id is not None else []
        return next((trade for trade in trades if trade.trade_id == trade_id), None)

    def _carried_out(self, level: Row) -> bool:
        """A rung of the ladder whose part was closed. A stop closes all: its position would have ended."""
        return level["kind"] == "take_profit" and bool(self.ledger.taken[level["id"]] >= level["qty"])

    def _crossing(self, level: Row, position: Row) -> str | None:
        """The first trade since a level was armed that crossed it. An outlier, as far as trades tell, does not count,
        nor what is one to a watcher that follows the symbol only now, and has not seen where the market was before.

        A trailing stop may ride on a better price than those traded since; then it fires sooner.
        """
        if level["trigger_by"] != "last" or level["kind"] == "time_exit":
            return None
        watched = Watched(_level(level, position))
        since = level["armed_at"] + JUDGED_FROM
        everything: Sieve[Trade] = Sieve()
        young = self._counted_by_the_young(position["symbol"])
        for trade in everything.sift(self.exchange.trades[position["symbol"]], None, None):
            if trade.trade_id not in young:
                continue
            if instant(trade.at_ms) > since and watched.fires(trade.price):
                return f"a trade at {trade.price} ({instant(trade.at_ms):%H:%M:%S.%f})"
        return None

    def _counted_by_the_young(self, symbol: str) -> set[str]:
        """Trades that count for watchers that know nothing of what was before they followed the symbol."""
        counted: list[Trade] = []
        begins = sorted(self.exchange.followed_ms[symbol])
        sieve, last = Sieve[Trade](), None
        for trade in self.exchange.trades[symbol]:
            while begins and begins[0] <= trade.at_ms:
                begins.pop(0)
                sieve, last = Sieve[Trade](), None
            if more := sieve.sift([trade], last, None):
                counted += more
                last = more[-1].price
        return {trade.trade_id for trade in counted}

    def _fired_early(self, level: Row, position: Row) -> bool:
        """Whether a level was fired by a price that could not: no price since it was armed puts it there."""
        price, trade, closes = level["trigger_price"], self._fired_by(level, position), self._closes(level)
        fired_at = min((order["sent_at"] for order in closes), default=level["triggered_at"])
        if trade is not None:
            fired_at = instant(trade.at_ms)
        armed = self.tables.orders.row(level["order_id"])
        assert armed is not None
        on_the_way = any(order["sent_at"] < armed["created_at"] for order in closes)
        if price is None or fired_at < level["armed_at"] + CHANGED or on_the_way:
            return False  # it was changed while its close was on the way
        watched = Watched(_level(level, position))
        before = [position["entry_price"]]
        for trade in self.exchange.trades[position["symbol"]]:
            at = instant(trade.at_ms)
            if at < level["armed_at"] - FRESH:
                before[1:] = [trade.price]
            elif at <= fired_at:
                before.append(trade.price)
        tick = TICKS[position["symbol"]]  # between the last price and the others
        best = max if position["side"] == "long" else min
        watched.fires(best(one for one in before) + tick * watched.sign)
        return not watched.fires(price - tick * watched.sign * (-1 if level["kind"] == "take_profit" else 1))

    def _closes(self, level: Row) -> list[Row]:
        """The orders of a level that were sent."""
        rows = [order for order in self.tables.orders.rows if order["sent_at"] is not None]
        return [order for order in rows if self._intent(order)["cause_id"] == level["id"]]

    def _intent(self, order: Row) -> Row:
        intent = self.tables.intents.row(order["intent_id"])
        assert intent is not None
        return intent

    def _slept(self, level: Row, position: Row) -> bool:
        """Whether a level stood still while the price went through it, slowly, and on to the native stop."""
        return (
            self.swept_from is not None
            and position["close_reason"] == "native_stop"
            and position["closed_at"] > self.swept_from
            and level["kind"] == "stop_loss"
            and level["armed_at"] + LOOKED_AT < self.swept_from
        )

    def _overdue(self, level: Row, position: Row) -> bool:
        """Whether another price was beyond a level of a fixed price for seconds, after nothing broke any more."""
        if level["trigger_by"] == "last" or level["price"] is None or level["activation_price"] is not None:
            return False
        tick = TICKS[position["symbol"]] * {"bid": -1, "ask": 1}.get(level["trigger_by"], 0)
        watched = Watched(_level(level, position))
        since = max(level["armed_at"], EPOCH + timedelta(seconds=self.plan.calm_at)) + SEEN
        began = None
        for trade in self.exchange.trades[position["symbol"]]:
            if instant(trade.at_ms) > since and watched.fires(trade.price + tick):
                began = began or instant(trade.at_ms)
                if instant(trade.at_ms) > began + SEEN:
                    return True
            else:
                began = None
        return False


def _level(row: Row, position: Row) -> Level:
    return msgspec.convert(row | {"side": position["side"], "extreme": None, "extreme_at": None}, Level)
