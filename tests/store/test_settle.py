"""Settling against PostgreSQL: fills counted once, the position folded, its levels in step, all in one transaction."""

import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.domain.level import LevelKind, LevelStatus
from app.domain.order import Order, OrderStatus, PositionSide, Side
from app.domain.position import CloseReason, Fill, FillOrigin, Position
from app.domain.signal import BreakEven, Exits, StopLoss, TakeProfit, Trailing
from app.flows.settle import settle, settle_external_close
from app.ids import new_id
from app.resources import Resources, open_resources
from app.store import levels, orders, positions
from app.store.db import transaction
from app.store.orders import Intent, IntentCause, IntentKind, IntentStatus
from tests.api import rows
from tests.support.house import settings
from tests.support.instruments import BTC
from tests.support.levels import all_armed

D = Decimal
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


def pct(value: str) -> StopLoss:
    return StopLoss(pct=D(value))


STOP = Exits(stop_loss=pct("1"))
HALVES = Exits(
    stop_loss=pct("1"),
    take_profit=(TakeProfit(at=pct("1"), fraction=D("0.5")), TakeProfit(at=pct("2"), fraction=D("0.5"))),
)
ALL_KINDS = Exits(
    stop_loss=pct("1"),
    take_profit=HALVES.take_profit,
    trailing=Trailing(activate=pct("1"), distance=pct("0.5")),
    break_even=BreakEven(after=pct("1")),
)


class Book:
    """One book: orders written as the flows write them, fills as the venue reports them."""

    def __init__(self, resources: Resources, account_id: UUID) -> None:
        self.resources = resources
        self.pool = resources.pool
        self.account_id = account_id
        self._numbers = itertools.count(1)

    async def order(
        self,
        kind: IntentKind,
        qty: str,
        *,
        side: PositionSide = LONG,
        position_id: UUID | None = None,
        exits: Exits = STOP,
        hedge: bool = False,
    ) -> Order:
        """An intent with its order, on the way."""
        opens = kind in (IntentKind.OPEN, IntentKind.ADD)
        order_side = side.opens_with if opens else side.closes_with
        order_id = new_id()
        intent = Intent(
            id=new_id(),
            cause_kind=IntentCause.INSTRUCTION,
            cause_id=new_id(),
            leg=0,
            account_id=self.account_id,
            symbol="BTCUSDT",
            strategy_id="demo",
            position_id=position_id or new_id(),
            position_side=side,
            hedge=hedge,
            kind=kind,
            reason=CloseReason.SIGNAL,
            side=order_side,
            qty=D(qty),
            exits=exits if opens else None,
            status=IntentStatus.PLANNED,
        )
        order = Order(
            id=order_id,
            intent_id=intent.id,
            attempt=0,
            client_order_id=f"lh{order_id.hex}",
            account_id=self.account_id,
            symbol="BTCUSDT",
            side=order_side,
            qty=D(qty),
            reduce_only=not opens,
            hedge=hedge,
            status=OrderStatus.SENT,
            created_at=NOW,
            sent_at=NOW,
        )
        async with transaction(self.pool) as connection:
            await orders.insert_intents(connection, [intent])
            await orders.insert_orders(connection, [order])
        return order

    def fill(self, by: Order | str, qty: str, price: str = "60000", **changes: Any) -> Fill:
        """A fill of one of our orders, given as the order or its client order id."""
        number = next(self._numbers)
        found = Fill(
            venue_fill_id=f"fill-{number}",
            venue_order_id="venue-order",
            client_order_id=by.client_order_id if isinstance(by, Order) else by,
            origin=FillOrigin.ORDER,
            symbol="BTCUSDT",
            side=by.side if isinstance(by, Order) else Side.SELL,
            qty=D(qty),
            price=D(price),
            fee=D(qty),
            fee_currency="USDT",
            filled_at=NOW + timedelta(seconds=number),
        )
        return msgspec.structs.replace(found, **changes)

    def foreign(self, side: Side, qty: str, origin: FillOrigin = FillOrigin.EXTERNAL, **changes: Any) -> Fill:
        """A fill of an order that we did not make."""
        return self.fill("", qty, client_order_id=None, side=side, origin=origin, **changes)

    async def settle(self, *fills: Fill) -> Position | None:
        """Answers what is held then, if it is one position."""
        await settle(self.resources, self.account_id, BTC, fills)
        held = await positions.live(self.pool, self.account_id, "BTCUSDT")
        return held[0] if len(held) == 1 else None

    async def held(self, side: PositionSide) -> Position | None:
        """What is held on a side in hedge mode."""
        held = await positions.live(self.pool, self.account_id, "BTCUSDT")
        return next((position for position in held if position.side is side), None)

    async def open(
        self, qty: str = "0.010", *, exits: Exits = STOP, side: PositionSide = LONG, hedge: bool = False
    ) -> Position:
        order = await self.order(IntentKind.OPEN, qty, exits=exits, side=side, hedge=hedge)
        await self.settle(self.fill(order, qty))
        position = await self.held(side)
        assert position is not None
        return position

    async def add(self, position: Position, qty: str) -> Position:
        """What is added keeps the position's exits."""
        order = await self.order(IntentKind.ADD, qty, side=position.side, position_id=position.id, exits=position.exits)
        found = await self.settle(self.fill(order, qty))
        assert found is not None
        return found

    async def reduce(self, position: Position, qty: str) -> Position | None:
        order = await self.order(IntentKind.REDUCE, qty, side=position.side, position_id=position.id)
        return await self.settle(self.fill(order, qty))

    async def armed(self, kind: LevelKind, rung: int = 0) -> levels.Armed:
        [found] = [x for x in await all_armed(self.pool) if (x.level.kind, x.level.rung) == (kind, rung)
                   and x.account_id == self.account_id]  # fmt: skip
        return found

    async def events(self, kind: str) -> list[dict[str, Any]]:
        query = "SELECT detail FROM events WHERE kind = $1 AND account_id = $2 ORDER BY id"
        return [row["detail"] for row in await self.pool.fetch(query, kind, self.account_id)]

    async def fills(self) -> int:
        found: int = await self.pool.fetchval("SELECT count(*) FROM fills WHERE account_id = $1", self.account_id)
        return found

    async def check(self) -> None:
        """What holds after every settlement."""
        broken = await self.pool.fetch(INVARIANT, self.account_id)
        assert broken == [], [dict(row) for row in broken]


# An armed level has exactly one armed order, the one it names, which closes its position by its quantity; and no order
# waits without an armed level (one with fills has left, whatever its record says). Nothing is armed for what is closed.
INVARIANT = """
SELECT l.id, l.kind, l.rung, l.qty, o.status, o.qty AS order_qty, p.status AS position, 'level' AS what
  FROM levels l
  JOIN positions p ON p.id = l.position_id
  LEFT JOIN orders o ON o.id = l.order_id
  LEFT JOIN intents n ON n.id = l.intent_id
 WHERE p.account_id = $1 AND l.status = 'armed'
   AND (o.id IS NULL OR o.status <> 'armed' OR o.qty <> l.qty OR NOT o.reduce_only OR o.intent_id <> l.intent_id
        OR (o.side = 'sell') <> (p.side = 'long') OR n.cause_id <> l.id OR p.status = 'closed' OR l.qty > p.qty
        OR (SELECT count(*) FROM orders x WHERE x.intent_id = l.intent_id AND x.status = 'armed') <> 1)
UNION ALL
SELECT o.id, l.kind, l.rung, l.qty, o.status, o.qty, NULL, 'order'
  FROM orders o LEFT JOIN levels l ON l.intent_id = o.intent_id
 WHERE o.account_id = $1 AND o.status = 'armed' AND o.filled_qty = 0
   AND (l.id IS NULL OR l.status <> 'armed' OR l.order_id <> o.id)
"""


@pytest.fixture
async def resources(database_url: str, redis_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings(database_url, redis_url, "http://simulator.invalid")) as found:
        await rows.strategy(found.pool, "demo")
        yield found


async def new_book(resources: Resources) -> Book:
    """A book of an account of its own."""
    return Book(resources, await rows.account(resources.pool, str(new_id())))


@pytest.fixture
async def book(resources: Resources) -> Book:
    return await new_book(resources)


def facts(position: Position | None) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """What must not depend on the order of the fills: quantities, fees, and the money at a price of 50,000."""
    assert position is not None
    worth = position.realized_pnl + position.unrealized_pnl(D(50_000))
    return position.qty, position.qty_opened, position.fees, round(worth, 12)


# --------------------------------------------------------------------------------------------------------------- fills


async def test_the_first_fill_of_an_opening_order_begins_the_position(book: Book) -> None:
    order = await book.order(IntentKind.OPEN, "0.010")
    position = await book.settle(book.fill(order, "0.004"))
    assert position is not None
    assert (position.side, position.qty, position.entry_price, position.epoch) == (LONG, D("0.004"), D(60000), 1)
    assert position.status == "opening"
    assert await positions.live(book.pool, book.account_id, "BTCUSDT") == [position]
    stored = await orders.order(book.pool, order.id)
    assert (stored.filled_qty, stored.avg_price, stored.venue_order_id) == (D("0.004"), D(60000), "venue-order")
    await book.check()


async def test_fills_come_in_any_order_and_any_number_of_times(resources: Resources) -> None:
    seen = set()
    for turn in itertools.permutations(range(4)):
        if turn[0] > 1:
            continue  # a close of ours is only written once there is something to close
        book = await new_book(resources)
        opening = await book.order(IntentKind.OPEN, "0.016")
        intent = await orders.intent(book.pool, opening.intent_id)
        closing = await book.order(IntentKind.REDUCE, "0.005", position_id=intent.position_id)
        fills = [
            book.fill(opening, "0.010", "60000"),
            book.fill(opening, "0.006", "60100"),
            book.fill(closing, "0.002", "60200"),
            book.fill(closing, "0.003", "59900"),
        ]
        for number in turn:
            await book.settle(fills[number])
            await book.settle(fills[number])
            await book.check()
        seen.add(facts(await book.settle(*fills, *reversed(fills))))
        assert await book.fills() == 4
        assert (await orders.order(book.pool, opening.id)).filled_qty == D("0.016")
        assert (await orders.order(book.pool, closing.id)).filled_qty == D("0.005")
        await book.check()
    # Bought for 600 + 360.6, sold for 120.4 + 179.7, and 0.011 are left at 50,000.
    assert seen == {(D("0.011"), D("0.016"), D("0.021"), D("-110.5"))}


async def test_a_duplicate_within_one_delivery_counts_once(book: Book) -> None:
    order = await book.order(IntentKind.OPEN, "0.010")
    fill = book.fill(order, "0.010")
    position = await book.settle(fill, fill)
    assert position is not None
    assert position.qty == D("0.010")


async def test_the_last_closing_fill_ends_the_position_with_its_reason_and_time(book: Book) -> None:
    position = await book.open()
    closing = await book.order(IntentKind.CLOSE, "0.010", position_id=position.id)
    last = book.fill(closing, "0.007", "60100")
    assert await book.settle(book.fill(closing, "0.003", "60100"), last) is None
    ended = await positions.get(book.pool, position.id)
    assert ended is not None
    assert (ended.status, ended.qty, ended.close_reason, ended.closed_at) == ("closed", D(0), "signal", last.filled_at)
    assert ended.realized_pnl == D(1)
    await book.check()


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (FillOrigin.NATIVE_STOP, "native_stop"),
        (FillOrigin.LIQUIDATION, "liquidated"),
        (FillOrigin.ADL, "liquidated"),
        (FillOrigin.EXTERNAL, "external"),
    ],
)
async def test_who_closed_it_is_the_reason(book: Book, origin: FillOrigin, reason: str) -> None:
    position = await book.open()
    assert await book.settle(book.foreign(Side.SELL, "0.010", origin)) is None
    ended = await positions.get(book.pool, position.id)
    assert ended is not None
    assert ended.close_reason == reason
    await book.check()


async def test_fills_that_come_again_after_the_end_change_nothing(book: Book) -> None:
    opening = await book.order(IntentKind.OPEN, "0.010")
    fills = [book.fill(opening, "0.010"), book.foreign(Side.SELL, "0.010")]
    assert await book.settle(*fills) is None
    assert await book.settle(*fills) is None
    assert await book.settle(fills[1], fills[0]) is None
    assert await book.fills() == 2
    assert await book.pool.fetchval("SELECT count(*) FROM positions") == 1
    assert await book.events("foreign_fill") == []


async def test_a_position_after_another_has_the_next_epoch(book: Book) -> None:
    first = await book.open()
    await book.settle(book.foreign(Side.SELL, "0.010"))
    second = await book.open("0.020", side=SHORT)
    assert (first.epoch, second.epoch) == (1, 2)
    await book.check()


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
async def test_a_foreign_fill_while_flat_is_stored_and_begins_nothing(book: Book, side: Side) -> None:
    fill = book.foreign(side, "0.010")
    assert await book.settle(fill, fill) is None
    assert await book.fills() == 1
    assert len(await book.events("foreign_fill")) == 1
    assert await book.pool.fetchval("SELECT count(*) FROM positions") == 0


async def test_what_a_hand_adds_is_stored_and_leaves_the_position_alone(book: Book) -> None:
    position = await book.open()
    by_hand = book.foreign(Side.BUY, "0.005")
    other_program = book.fill("not-ours", "0.005", side=Side.BUY)
    assert await book.settle(by_hand, other_program) == position
    assert await book.settle(by_hand) == position
    assert await book.fills() == 3
    assert len(await book.events("foreign_fill")) == 2
    assert await book.pool.fetchval("SELECT count(*) FROM fills WHERE position_id IS NULL") == 2


async def test_a_fill_larger_than_the_position_is_recorded_as_excess(book: Book) -> None:
    position = await book.open()
    assert await book.settle(book.foreign(Side.SELL, "0.015")) is None
    assert await book.events("fill_exceeds_position") == [{"excess": "0.005"}]
    ended = await positions.get(book.pool, position.id)
    assert ended is not None
    assert (ended.qty, ended.status) == (D(0), "closed")
    assert ended.fees == D("0.020"), "its own share of the fee only"
    assert await book.events("closed") != []


async def test_a_late_opening_fill_of_an_ended_position_begins_another(book: Book) -> None:
    """Stopped out between two fills of one entry: what was filled after that is held, so it is managed."""
    order = await book.order(IntentKind.OPEN, "0.010")
    await book.settle(book.fill(order, "0.004"))
    await book.settle(book.foreign(Side.SELL, "0.004", FillOrigin.NATIVE_STOP))
    late = book.fill(order, "0.006")  # the exchange holds this now
    position = await book.settle(late)
    assert position is not None
    assert (position.qty, position.epoch) == (D("0.006"), 2)
    assert await book.fills() == 3
    assert (await orders.order(book.pool, order.id)).filled_qty == D("0.010")
    assert await levels.armed(book.pool, position.id)
    assert await book.settle(late) == position, "and it is counted once"


async def test_a_late_closing_fill_of_an_earlier_position_leaves_the_next_one_alone(book: Book) -> None:
    first = await book.open()
    closing = await book.order(IntentKind.CLOSE, "0.010", position_id=first.id)
    await settle_external_close(book.resources, first)  # the exchange was flat and showed no fill
    second = await book.open("0.020")
    late = book.fill(closing, "0.010", filled_at=second.opened_at - timedelta(seconds=1))
    assert await book.settle(late) == second
    assert await book.fills() == 3


async def test_a_position_that_ended_from_outside_has_nothing_armed(book: Book) -> None:
    position = await book.open(exits=ALL_KINDS)
    await settle_external_close(book.resources, position)
    await settle_external_close(book.resources, position)
    ended = await positions.get(book.pool, position.id)
    assert ended is not None
    assert (ended.status, ended.qty, ended.close_reason, ended.realized_pnl) == ("closed", D(0), "external", D(0))
    assert len(await book.events("closed")) == 1
    await book.check()


# -------------------------------------------------------------------------------------------------------------- levels


async def test_levels_are_armed_with_the_first_fill_in_the_same_transaction(book: Book) -> None:
    position = await book.open(exits=ALL_KINDS)
    found = {(x.kind, x.rung): (x.qty, x.status) for x in await levels.of_position(book.pool, position.id)}
    whole, half = (D("0.010"), LevelStatus.ARMED), (D("0.005"), LevelStatus.ARMED)
    assert found == {
        (LevelKind.STOP_LOSS, 0): whole,
        (LevelKind.TRAILING_STOP, 0): whole,
        (LevelKind.BREAK_EVEN, 0): whole,
        (LevelKind.TAKE_PROFIT, 0): half,
        (LevelKind.TAKE_PROFIT, 1): half,
    }
    # `xmin` is the transaction that wrote a row's last version.
    writers = await book.pool.fetch(
        "SELECT xmin FROM positions UNION SELECT xmin FROM levels UNION SELECT xmin FROM fills "
        "UNION SELECT xmin FROM orders WHERE status = 'armed' UNION SELECT xmin FROM intents WHERE cause_kind = 'level'"
    )
    assert len(writers) == 1
    await book.check()


async def test_a_level_whose_quantity_changes_gets_another_order_and_the_old_one_is_disarmed(book: Book) -> None:
    position = await book.open()
    before = await book.armed(LevelKind.STOP_LOSS)
    await book.reduce(position, "0.004")
    after = await book.armed(LevelKind.STOP_LOSS)
    assert after.level.id == before.level.id
    assert after.level.armed_at == before.level.armed_at, "it has been armed all along"
    assert after.level.qty == D("0.006")
    assert after.client_order_id != before.client_order_id
    old, new = [await orders.order(book.pool, x.level.order_id) for x in (before, after)]
    assert (old.status, new.status) == (OrderStatus.DISARMED, OrderStatus.ARMED)
    assert (old.attempt, new.attempt) == (0, 1)
    writers = await book.pool.fetch(
        "SELECT xmin FROM levels UNION SELECT xmin FROM orders WHERE id = ANY($1) UNION SELECT xmin FROM positions",
        [old.id, new.id],
    )
    assert len(writers) == 1
    await book.check()


async def test_a_level_that_does_not_change_keeps_its_order(book: Book) -> None:
    position = await book.open(exits=HALVES)
    before = await book.armed(LevelKind.TAKE_PROFIT, 0)
    await book.reduce(position, "0.002")
    after = await book.armed(LevelKind.TAKE_PROFIT, 0)
    assert after == before
    assert (await book.armed(LevelKind.TAKE_PROFIT, 1)).level.qty == D("0.003")
    await book.check()


async def test_a_close_by_a_level_marks_it_even_if_nobody_recorded_the_crossing(book: Book) -> None:
    position = await book.open(exits=HALVES)
    rung = await book.armed(LevelKind.TAKE_PROFIT, 0)
    left = await book.settle(book.fill(rung.client_order_id, "0.005", "60600"))
    assert left is not None
    assert left.qty == D("0.005")
    found = {(x.kind, x.rung): (x.status, x.qty) for x in await levels.of_position(book.pool, position.id)}
    assert found[LevelKind.TAKE_PROFIT, 0][0] is LevelStatus.TRIGGERED
    assert found[LevelKind.TAKE_PROFIT, 1] == (LevelStatus.ARMED, D("0.005"))
    assert found[LevelKind.STOP_LOSS, 0] == (LevelStatus.ARMED, D("0.005"))


async def test_a_close_by_a_level_that_was_moved_meanwhile_marks_it_too(book: Book) -> None:
    position = await book.open()
    stop = await book.armed(LevelKind.STOP_LOSS)
    await book.reduce(position, "0.004")  # its order is disarmed while it is on the wire
    left = await book.settle(book.fill(stop.client_order_id, "0.005", "59400"))
    assert left is not None
    assert left.qty == D("0.001")
    [level] = await levels.of_position(book.pool, position.id)
    assert level.status is LevelStatus.TRIGGERED


async def test_the_reason_of_a_close_by_a_level_is_its_kind(book: Book) -> None:
    position = await book.open()
    stop = await book.armed(LevelKind.STOP_LOSS)
    assert await book.settle(book.fill(stop.client_order_id, "0.010", "59400")) is None
    ended = await positions.get(book.pool, position.id)
    assert ended is not None
    assert ended.close_reason is CloseReason.STOP_LOSS


async def test_no_order_stays_armed_after_a_level_was_moved_and_fired_by_its_former_order(book: Book) -> None:
    position = await book.open()
    stop = await book.armed(LevelKind.STOP_LOSS)
    await book.reduce(position, "0.004")
    assert await book.settle(book.fill(stop.client_order_id, "0.010", "59400")) is None
    assert await book.pool.fetch("SELECT id FROM orders WHERE status = 'armed'") == []


async def test_a_rung_that_there_was_no_room_for_comes_back_when_there_is(book: Book) -> None:
    position = await book.open("0.002", exits=HALVES)
    await book.reduce(position, "0.001")
    assert (await book.armed(LevelKind.TAKE_PROFIT, 0)).level.qty == D("0.001")
    await book.add(position, "0.005")
    ladder = [x for x in await levels.armed(book.pool, position.id) if x.level.kind is LevelKind.TAKE_PROFIT]
    assert sum(x.level.qty for x in ladder) == D("0.006"), "the ladder takes all of it"


async def test_the_intent_of_a_level_that_goes_away_is_disarmed_with_it(book: Book) -> None:
    position = await book.open("0.002", exits=HALVES)
    await book.reduce(position, "0.001")
    found = await book.pool.fetch(
        "SELECT n.status FROM levels l JOIN intents n ON n.id = l.intent_id WHERE l.status = 'disarmed'"
    )
    assert [row["status"] for row in found] == ["disarmed"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "reduce", "rung", "hand", "again"]), st.integers(1, 9)), min_size=1, max_size=7
)


@given(side=st.sampled_from(PositionSide), exits=st.sampled_from([STOP, HALVES, ALL_KINDS]), steps=STEPS)
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_each_armed_level_has_one_armed_order_after_any_life(
    resources: Resources, side: PositionSide, exits: Exits, steps: Sequence[tuple[str, int]]
) -> None:
    book = await new_book(resources)
    position: Position | None = await book.open("0.010", exits=exits, side=side)
    signed = D("0.010")
    last: Fill | None = None
    for what, number in steps:
        if position is None:
            break
        qty = D(number) / 1000
        match what:
            case "add":
                order = await book.order(IntentKind.ADD, str(qty), side=side, position_id=position.id)
                last = book.fill(order, str(qty), "60500")
                signed += qty
            case "reduce":
                order = await book.order(IntentKind.REDUCE, str(qty), side=side, position_id=position.id)
                last = book.fill(order, str(qty))
                signed -= qty
            case "hand":
                last = book.foreign(side.closes_with, str(qty))
                signed -= qty
            case "rung":
                ladder = [x for x in await levels.armed(book.pool, position.id) if x.level.kind == "take_profit"]
                if not ladder:
                    continue
                fired = ladder[number % len(ladder)]
                part = min(qty, fired.level.qty)
                last = book.fill(fired.client_order_id, str(part), side=side.closes_with)
                signed -= part
            case "again":
                if last is None:
                    continue
        assert last is not None
        position = await book.settle(last)
        await book.check()
        assert (D(0) if position is None else position.qty) == max(signed, D(0))
        if position is not None:
            armed = await levels.armed(book.pool, position.id)
            assert [x.level.qty for x in armed if x.level.kind == "stop_loss"] == [position.qty]
            assert sum(x.level.qty for x in armed if x.level.kind == "take_profit") <= position.qty


# ---------------------------------------------------------------------------------------------------------- hedge mode


async def test_long_and_short_are_held_side_by_side_each_with_its_levels(book: Book) -> None:
    long = await book.open("0.010", hedge=True)
    short = await book.open("0.020", side=SHORT, hedge=True)
    assert (long.side, long.qty, short.side, short.qty) == (LONG, D("0.010"), SHORT, D("0.020"))
    armed = {(x.level.side, x.close_side, x.close_qty, x.hedge) for x in await all_armed(book.pool)
             if x.account_id == book.account_id}  # fmt: skip
    assert armed == {(LONG, Side.SELL, D("0.010"), True), (SHORT, Side.BUY, D("0.020"), True)}


async def test_a_close_in_hedge_mode_leaves_the_other_side_untouched(book: Book) -> None:
    long = await book.open("0.010", hedge=True)
    short = await book.open("0.020", side=SHORT, hedge=True)
    closing = await book.order(IntentKind.CLOSE, "0.010", position_id=long.id, hedge=True)
    await book.settle(book.fill(closing, "0.010", "60500"))
    assert await book.held(LONG) is None
    assert await book.held(SHORT) == short
    [left] = [x for x in await all_armed(book.pool) if x.account_id == book.account_id]
    assert left.level.position_id == short.id


async def test_what_the_exchange_closed_goes_to_the_side_that_it_names(book: Book) -> None:
    await book.open("0.010", hedge=True)
    await book.open("0.020", side=SHORT, hedge=True)
    stop = book.foreign(Side.SELL, "0.010", FillOrigin.NATIVE_STOP, position_side=LONG)
    await book.settle(stop)
    assert await book.held(LONG) is None
    held = await book.held(SHORT)
    assert held is not None
    assert held.qty == D("0.020"), "a sale is not an addition to the short"


async def test_what_a_hand_opens_beside_ours_is_left_alone(book: Book) -> None:
    long = await book.open("0.010", hedge=True)
    await book.settle(book.foreign(Side.SELL, "0.005", position_side=SHORT))
    assert await book.held(LONG) == long
    assert await book.held(SHORT) is None
    assert len(await book.events("foreign_fill")) == 1


async def test_a_second_position_of_one_side_or_mode_is_refused_by_the_table(book: Book) -> None:
    long = await book.open("0.010", hedge=True)
    for double in (
        msgspec.structs.replace(long, id=new_id(), epoch=7),
        msgspec.structs.replace(long, id=new_id(), epoch=8, hedge=False),
    ):
        with pytest.raises(asyncpg.UniqueViolationError):
            async with transaction(book.pool) as connection:
                await positions.insert(connection, double)


async def test_a_fill_of_another_accounts_order_begins_nothing_here(resources: Resources) -> None:
    """Two accounts were made with one key: each hears of the other's fills."""
    one, other = await new_book(resources), await new_book(resources)
    order = await one.order(IntentKind.OPEN, "0.010")
    fill = one.fill(order, "0.010")
    assert await other.settle(fill) is None
    position = await one.settle(fill)
    assert position is not None
    assert (position.account_id, position.qty) == (one.account_id, D("0.010"))
    assert await other.settle(fill) is None
    assert await positions.live(other.pool, other.account_id, "BTCUSDT") == []
