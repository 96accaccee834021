"""Calls of the store's functions: a written life that reaches every statement, and strategies for any others."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal as D
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from app.domain.drift import DriftKind
from app.domain.level import Level, LevelKind, LevelStatus
from app.domain.order import Order, OrderStatus, PositionMode, PositionSide, Side
from app.domain.position import CloseReason, Fill, FillOrigin, Position, PositionStatus
from app.domain.shards import lease_of
from app.domain.signal import Action, Exits, PriceOrPct, Signal, StopLoss, TakeProfit, Target
from app.store import (
    accounts,
    bans,
    blind,
    books,
    drifts,
    inbox,
    installation,
    leases,
    levels,
    orders,
    positions,
    rejected,
    strategies,
    troubles,
)
from app.store.books import Book
from app.store.inbox import CauseKind, Instruction, InstructionStatus, NewAlert, NewInstruction, Stored
from app.store.orders import Intent, IntentCause, IntentKind, IntentStatus
from tests.simulation.memory.both import START, Call, call

SYMBOLS = ("BTCUSDT", "ETHUSDT")
DONE, REFUSED, EXPIRED = InstructionStatus.DONE, InstructionStatus.REFUSED, InstructionStatus.EXPIRED
STRATEGIES = ("one", "two", "nobody's")


def id_of(kind: str, number: int) -> UUID:
    """The same wherever it is asked for; of one kind they sort by their numbers."""
    return UUID(int=(int.from_bytes(kind[:6].encode().ljust(6)) << 80) | number)


ACCOUNTS = [id_of("account", number) for number in range(2)]
WORKERS = [id_of("worker", number) for number in range(3)]


def exits(number: int) -> Exits:
    return (Exits(), Exits(stop_loss=StopLoss(price=D("59000.50"))), LADDER)[number % 3]


LADDER = Exits(
    stop_loss=StopLoss(pct=D("1.5")), take_profit=(TakeProfit(at=PriceOrPct(price=D("61000")), fraction=D("0.5")),)
)


def signal(wish: Action | Target, symbol: str = SYMBOLS[0], sent_at: datetime | None = None) -> Signal:
    if isinstance(wish, Target):
        return Signal(symbol=symbol, target=wish, sent_at=sent_at)
    return Signal(symbol=symbol, action=wish, exits=exits(2), leverage=D("3.0"), sent_at=sent_at)


def alert(
    number: int, wish: Action | Target, *, strategy: str = STRATEGIES[0], key: str = "", windowed: bool = False,
    symbol: str = SYMBOLS[0], sent_at: datetime | None = None, more: tuple[Signal, ...] = (),
) -> NewAlert:  # fmt: skip
    return NewAlert(
        id=id_of("alert", number), strategy_id=strategy, key=key or f"id:{number}", windowed=windowed,
        body_hash=bytes([number]), body='{"a": "ö"}', content_type="application/json", source="127.0.0.1",
        format="own", signals=(signal(wish, symbol, sent_at), *more),
        received_at=START + timedelta(seconds=number),
    )  # fmt: skip


def shares(first: int, count: int, leg: int = 0) -> list[NewInstruction]:
    return [
        NewInstruction(
            id=id_of("instruction", first + place), account_id=ACCOUNTS[place], multiplier=D("1.50"), leg=leg
        )
        for place in range(count)
    ]


async def store(connection: Any, new: NewAlert, instructions: list[NewInstruction]) -> Stored:
    [stored] = await inbox.store_all(connection, [(new, instructions)])
    return stored


def instruction(number: int, account: int, seq: int, sent_at: datetime | None) -> Instruction:
    """As it was read a while ago."""
    return Instruction(
        id=id_of("instruction", number), seq=seq, cause_kind=CauseKind.ALERT, cause_id=id_of("alert", number),
        account_id=ACCOUNTS[account], symbol=SYMBOLS[0], strategy_id=STRATEGIES[0], multiplier=D(1),
        request=signal(Target.LONG, sent_at=sent_at), position_id=None, status=InstructionStatus.EXECUTING, attempts=1,
        outcome_code=None, outcome_reason=None, created_at=START, received_at=START,
    )  # fmt: skip


WATCHES = lease_of("BTCUSDT")


def extreme(
    level_id: UUID,
    price: D,
    at: datetime | None = None,
    *,
    armed_at: datetime = START,
    lease: str = WATCHES,
    token: int = 1,
) -> levels.Extreme:
    return levels.Extreme(level_id=level_id, armed_at=armed_at, price=price, at=at, lease=lease, token=token)


def book(account: int, symbol: str, worker: int, token: int) -> Book:
    return Book(account_id=ACCOUNTS[account], symbol=symbol, holder=WORKERS[worker], token=token)


def intent(
    number: int, cause: int, kind: IntentKind, *, by: IntentCause = IntentCause.INSTRUCTION, leg: int = 0,
    account: int = 0, position: int = 0, status: IntentStatus = IntentStatus.PLANNED, qty: D = D("0.5"),
    hedge: bool = False, strategy: str = STRATEGIES[0],
) -> Intent:  # fmt: skip
    opens = kind in (IntentKind.OPEN, IntentKind.ADD)
    return Intent(
        id=id_of("intent", number), cause_kind=by,
        cause_id=id_of("instruction" if by is IntentCause.INSTRUCTION else "level", cause), leg=leg,
        account_id=ACCOUNTS[account], symbol=SYMBOLS[0], strategy_id=strategy,
        position_id=id_of("position", position), position_side=PositionSide.LONG, hedge=hedge, kind=kind,
        reason=CloseReason.SIGNAL, side=Side.BUY if opens else Side.SELL, qty=qty,
        leverage=D("5") if opens else None, exits=exits(number) if opens else None,
        native_stop=D("58000") if opens else None, status=status,
    )  # fmt: skip


def order(
    number: int, of: int, status: OrderStatus, *, attempt: int = 0, reduce_only: bool = False, account: int = 0,
    qty: D = D("0.5"), client_order_id: str = "", hedge: bool = False, age_s: float = 0,
) -> Order:  # fmt: skip
    return Order(
        id=id_of("order", number), intent_id=id_of("intent", of), attempt=attempt,
        client_order_id=client_order_id or f"lh{number}", account_id=ACCOUNTS[account], symbol=SYMBOLS[0],
        side=Side.SELL if reduce_only else Side.BUY, qty=qty, reduce_only=reduce_only, hedge=hedge, status=status,
        stop_loss=None if reduce_only else D("58000.10"), created_at=START,
        sent_at=None if status is OrderStatus.ARMED else START - timedelta(seconds=age_s, microseconds=number),
    )  # fmt: skip


def position(
    number: int, epoch: int, *, account: int = 0, symbol: str = SYMBOLS[0], side: PositionSide = PositionSide.LONG,
    status: PositionStatus = PositionStatus.OPENING, qty: D = D("0.5"), hedge: bool = False,
) -> Position:  # fmt: skip
    closed = status is PositionStatus.CLOSED
    return Position(
        id=id_of("position", number), account_id=ACCOUNTS[account], strategy_id=STRATEGIES[0], symbol=symbol,
        side=side, hedge=hedge, epoch=epoch, status=status, qty=qty, qty_opened=D("0.50"), entry_price=D("60000.10"),
        realized_pnl=D("-3.25"), fees=D("0.0330"), leverage=D("5"), exits=exits(number), native_stop=D("58000"),
        opened_at=START, closed_at=START if closed else None, close_reason=CloseReason.MANUAL if closed else None,
    )  # fmt: skip


def level(
    number: int, *, of: int = 0, kind: LevelKind = LevelKind.STOP_LOSS, rung: int = 0, intent_number: int = 0,
    order_number: int = 0, status: LevelStatus = LevelStatus.ARMED, moved_s: float = 0, qty: D = D("0.5"),
    extreme: D | None = None, fraction: D = D(1),
) -> Level:  # fmt: skip
    return Level(
        id=id_of("level", number), position_id=id_of("position", of), kind=kind, rung=rung, side=PositionSide.LONG,
        fraction=fraction, qty=qty, price=D("59000"), activation_price=None, distance=D("100"), extreme=extreme,
        armed_at=START + timedelta(seconds=moved_s), order_id=id_of("order", order_number),
        intent_id=id_of("intent", intent_number), status=status,
    )  # fmt: skip


def fill(
    number: int, client_order_id: str | None, *, qty: D = D("0.3"), price: D = D("60000.1"), side: Side = Side.BUY
) -> Fill:
    return Fill(
        venue_fill_id=f"f{number}", venue_order_id=f"v{number}", client_order_id=client_order_id,
        origin=FillOrigin.ORDER, symbol=SYMBOLS[0], side=side, position_side=PositionSide.LONG if number % 2 else None,
        qty=qty, price=price, fee=D("0.01"), fee_currency="USDT", filled_at=START,
    )  # fmt: skip


def turned_away(number: int, strategy: str = STRATEGIES[0]) -> rejected.Rejected:
    return rejected.Rejected(
        id=id_of("reject", number), strategy_id=strategy, code="not_json", reason="The body is not JSON.", field=None,
        body="{", body_bytes=1, content_type="text/plain", source="127.0.0.1",
        received_at=START + timedelta(days=number - 40),
    )  # fmt: skip


async def create_account(connection: Any, number: int, name: str) -> Any:
    return await connection.fetchrow(
        accounts.CREATE, ACCOUNTS[number], name, accounts.VenueName.BYBIT, accounts.Environment.SIMULATOR, None, None,
        b"sealed", PositionMode.ONE_WAY, None,
    )  # fmt: skip


async def sealed(connection: Any, account_ids: list[UUID]) -> Any:
    return await connection.fetch(accounts.SEALED, account_ids)


async def create_strategy(connection: Any, strategy_id: str, account_numbers: Sequence[int], multiplier: D) -> Any:
    new = strategies.NewStrategy(
        id=strategy_id, name=strategy_id.upper(), symbols=None if account_numbers else ["BTCUSDT"],
        defaults={"size": {"unit": "base", "value": 1.5}},
        limits=strategies.Limits(max_notional=D("100.0"), alert_every_s=3600),
    )  # fmt: skip
    status = await connection.execute(
        strategies.CREATE, new.id, new.name, new.format, new.symbols, new.defaults, new.limits, new.enabled
    )
    known = await connection.fetch(strategies.LIVE_ACCOUNTS, [ACCOUNTS[number] for number in account_numbers])
    traded = [(strategy_id, ACCOUNTS[number], multiplier) for number in account_numbers]
    await connection.executemany(strategies.INSERT_SHARE, traded)
    return status, len(known)


async def standing(connection: Any) -> list[list[levels.Standing]]:
    return [page async for page in levels.standing(connection)]


async def add_secret(connection: Any, number: int, strategy_id: str) -> Any:
    return await connection.execute(strategies.INSERT_SECRET, id_of("secret", number), strategy_id, bytes([number]))


async def keep_keys(connection: Any, first: int) -> Any:
    status = await connection.execute(installation.KEEP, bytes([first]), b"body")
    return status, await connection.fetchrow(installation.READ)


WORLD = [
    call(create_account, 0, "first"),
    call(create_account, 1, "second"),
    call(create_strategy, "one", [0, 1], D("1.50")),
    call(create_strategy, "two", [0], D(2)),
    call(create_strategy, "nobody's", [], D(1)),
    call(add_secret, 1, "one"),
    call(add_secret, 2, "one"),
    call(leases.acquire, f"worker:{WORKERS[0]}", WORKERS[0], ttl_s=60),
    call(leases.acquire, WATCHES, WORKERS[0], ttl_s=60),
    call(store, alert(0, Action.OPEN_LONG), shares(0, 2)),
    call(inbox.take, ACCOUNTS[0], SYMBOLS[0], WORKERS[0]),
    call(orders.insert_plan, book(0, SYMBOLS[0], 0, 1), [intent(0, 0, IntentKind.OPEN)], order(0, 0, OrderStatus.SENT)),
    call(books.next_epoch, ACCOUNTS[0], SYMBOLS[0]),
    call(positions.insert, position(0, 1)),
    call(orders.insert_fill, ACCOUNTS[0], fill(0, "lh0"), order_id=id_of("order", 0), position_id=id_of("position", 0)),
    call(
        orders.insert_intents,
        [intent(1, 0, IntentKind.CLOSE, by=IntentCause.LEVEL, status=IntentStatus.ARMED),
         intent(2, 1, IntentKind.REDUCE, by=IntentCause.LEVEL, status=IntentStatus.ARMED)],
    ),
    call(
        orders.insert_orders,
        [order(1, 1, OrderStatus.ARMED, reduce_only=True), order(2, 2, OrderStatus.ARMED, reduce_only=True)],
    ),
    call(
        levels.insert,
        [level(0, intent_number=1, order_number=1),
         level(1, kind=LevelKind.TAKE_PROFIT, intent_number=2, order_number=2, qty=D("0.25"), fraction=D("0.5"))],
    ),
]  # fmt: skip
"""What the generated calls begin with."""

LIFE: list[Call | float] = [
    call(create_account, 0, "first"),  # twice
    call(create_account, 1, "third"),
    call(create_strategy, "one", [0], D(1)),
    call(add_secret, 3, "unknown"),
    call(accounts.get, ACCOUNTS[0]),
    call(accounts.get, WORKERS[0]),
    call(sealed, [ACCOUNTS[1]]),
    call(strategies.for_webhook, "one"),
    call(strategies.rehash_secret, "one", bytes([1]), b"another"),
    call(strategies.for_webhook, "one"),
    call(strategies.get, "one"),
    call(strategies.get, "nobody's"),
    call(strategies.get, "unknown"),
    call(strategies.quiet),
    call(strategies.silent, "one", START),
    call(strategies.silent, "one", START),
    call(strategies.silent, "unknown", START),
    call(strategies.quiet),
    call(strategies.heard, "one"),
    call(strategies.heard, "one"),
    call(strategies.disable, "nobody's"),
    call(strategies.disable, "nobody's"),
    call(strategies.disable, "unknown"),
    call(strategies.get, "nobody's"),
    call(keep_keys, 1),
    call(keep_keys, 2),
    call(store, alert(0, Action.OPEN_LONG), shares(10, 2)),  # a duplicate
    call(store, alert(1, Target.FLAT, strategy="nobody's"), []),
    call(store, alert(80, Target.FLAT, key="hash:8", windowed=True), []),
    call(store, alert(81, Target.FLAT, key="hash:8", windowed=True), []),
    30.0 - 0.3,
    call(store, alert(82, Target.FLAT, key="hash:8", windowed=True), []),
    0.2,
    call(store, alert(83, Target.FLAT, key="hash:8", windowed=True), []),
    call(store, alert(2, Target.LONG, sent_at=START, windowed=True), shares(2, 2)),
    call(inbox.closing_waits, ACCOUNTS[0], SYMBOLS[0], id_of("instruction", 0)),
    call(store, alert(3, Action.CLOSE_LONG, sent_at=START + timedelta(seconds=5)), shares(4, 1)),
    call(inbox.closing_waits, ACCOUNTS[0], SYMBOLS[0], id_of("instruction", 0)),
    call(inbox.neighbours, instruction(0, 0, 1, START)),
    call(inbox.too_many, "one", 2, at=START + timedelta(seconds=2), before=id_of("alert", 2)),
    call(inbox.too_many, "one", 1, at=START + timedelta(seconds=2), before=id_of("alert", 2)),
    call(inbox.too_many, "one", 3, at=START + timedelta(seconds=60), before=None),
    call(inbox.too_many, "one", 3, at=START + timedelta(seconds=59), before=None),
    call(inbox.too_many, "one", 1, at=START, before=WORKERS[0]),
    call(inbox.waiting_books, limit=10),
    call(inbox.next_id, ACCOUNTS[0], SYMBOLS[0]),
    call(inbox.take, ACCOUNTS[0], SYMBOLS[0], WORKERS[1]),  # W0 has it
    call(inbox.take, ACCOUNTS[0], SYMBOLS[1], WORKERS[1]),  # nothing waits
    call(inbox.begin_next, book(0, SYMBOLS[0], 0, 1)),
    call(inbox.begin_next, book(0, SYMBOLS[0], 0, 2)),
    call(inbox.begin_next, book(1, SYMBOLS[1], 0, 1)),
    call(books.is_claimed, ACCOUNTS[0], SYMBOLS[0]),
    call(books.symbols_of, "one"),
    call(books.symbols_of, "nobody's"),
    call(books.fence, book(0, SYMBOLS[0], 0, 1)),
    call(books.fence, book(0, SYMBOLS[0], 0, 7)),
    call(books.lock, ACCOUNTS[1], SYMBOLS[1]),
    call(books.lock, ACCOUNTS[1], SYMBOLS[1]),
    call(inbox.postpone, book(0, SYMBOLS[0], 1, 1), id_of("instruction", 0), seconds=5, why="not ours"),
    call(inbox.postpone, book(0, SYMBOLS[0], 0, 1), id_of("instruction", 0), seconds=1.2345678, why="later"),
    call(inbox.next_id, ACCOUNTS[0], SYMBOLS[0]),
    call(inbox.fail, book(0, SYMBOLS[0], 0, 1), id_of("instruction", 0)),
    call(inbox.fail, book(0, SYMBOLS[0], 0, 3), id_of("instruction", 0)),
    call(inbox.fail, book(0, SYMBOLS[0], 0, 1), WORKERS[0]),
    call(inbox.foretell, id_of("instruction", 0), "no_stop", "the rest was refused"),
    call(orders.intents_of, IntentCause.INSTRUCTION, id_of("instruction", 0)),
    call(orders.insert_intents, [intent(7, 7, IntentKind.REDUCE)]),
    call(orders.end_leg, book(0, SYMBOLS[0], 0, 2), id_of("intent", 7), IntentStatus.DONE, "executed", "not ours"),
    call(orders.end_leg, book(0, SYMBOLS[0], 0, 1), id_of("intent", 7), IntentStatus.DONE, "executed", "closed"),
    call(orders.end_leg, book(0, SYMBOLS[0], 0, 1), id_of("intent", 7), IntentStatus.DONE, "executed", "twice"),
    call(orders.intent, id_of("intent", 0)),
    call(orders.intent, WORKERS[0]),
    call(orders.orders_of, id_of("intent", 0)),
    call(orders.order, id_of("order", 0)),
    call(orders.by_client_id, "lh0"),
    call(orders.by_client_id, "lh77"),
    call(orders.next_attempt, id_of("intent", 0)),
    call(orders.next_attempt, WORKERS[0]),
    call(orders.in_flight, ACCOUNTS[0], SYMBOLS[0]),
    call(orders.opening_in_flight, ACCOUNTS[0], SYMBOLS[0], PositionSide.LONG),
    call(orders.unresolved, ACCOUNTS[0], older_than_s=0),
    call(orders.insert_orders, [order(3, 0, OrderStatus.UNKNOWN, attempt=1)]),  # a second opening
    call(orders.insert_orders, [order(3, 0, OrderStatus.SENT, attempt=1, client_order_id="lh0")]),
    call(orders.insert_orders, [order(3, 99, OrderStatus.SENT)]),  # of no intent
    call(orders.insert_orders, [order(3, 0, OrderStatus.ABSENT, attempt=1, qty=D(0))]),
    call(orders.insert_orders, []),
    call(orders.insert_intents, [intent(3, 0, IntentKind.OPEN)]),  # the same cause and leg
    call(orders.move, id_of("order", 0), OrderStatus.ACCEPTED, venue_order_id="v1"),
    call(orders.move, id_of("order", 1), OrderStatus.ABSENT),
    call(orders.move, id_of("order", 1), OrderStatus.ACCEPTED),
    call(positions.insert, position(1, 1)),  # the same epoch
    call(positions.insert, position(1, 2)),  # a second live one
    call(positions.insert, position(1, 2, account=1, qty=D(-1))),
    call(positions.live, ACCOUNTS[0], SYMBOLS[0]),
    call(positions.live_for_update, ACCOUNTS[0], SYMBOLS[0]),
    call(positions.live_of_account, ACCOUNTS[0]),
    call(positions.get, id_of("position", 0)),
    call(positions.changed_lately, ACCOUNTS[0], SYMBOLS[0], within_s=5.5),
    call(positions.accounts_in_use),
    call(positions.symbols_to_watch),
    call(positions.opened, id_of("intent", 0)),
    call(positions.set_status, id_of("position", 0), "closing"),
    call(positions.set_native_stop, id_of("position", 0), D("58100")),
    call(positions.set_exits, id_of("position", 0), LADDER),
    call(positions.adopt, id_of("position", 0), D("0.25"), START),
    call(positions.record, "exits_changed", position_id=id_of("position", 0), detail={"id": WORKERS[0]}),
    call(positions.was_changed, id_of("position", 0), WORKERS[0]),
    call(positions.was_changed, id_of("position", 0), WORKERS[1]),
    call(positions.record, "opened", position_id=id_of("position", 0), detail={"qty": D("0.10"), "at": START}),
    call(
        orders.insert_fill, ACCOUNTS[0], fill(1, "lh0", qty=D("0.2"), price=D("60003.07")),
        order_id=id_of("order", 0), position_id=id_of("position", 0),
    ),
    call(orders.insert_fill, ACCOUNTS[0], fill(1, "lh0"), order_id=id_of("order", 0), position_id=None),  # twice
    call(orders.insert_fill, ACCOUNTS[0], fill(2, None), order_id=None, position_id=WORKERS[0]),  # of no position
    call(orders.known_fills, ACCOUNTS[0], SYMBOLS[0], ["f0", "f1", "f2"]),
    call(levels.of_position, id_of("position", 0)),
    call(standing),
    call(levels.armed_with_ids, [id_of("level", 0), id_of("level", 1), id_of("level", 7)]),
    call(levels.armed, id_of("position", 0)),
    call(levels.save_extremes, [extreme(id_of("level", 0), D("60100.5"), START), extreme(WORKERS[0], D(1))]),
    call(levels.save_extremes, [extreme(id_of("level", 0), D("60000"))]),
    call(levels.save_extremes, [extreme(id_of("level", 0), D("70000"), token=2)]),  # of another watcher
    call(levels.save_extremes, [extreme(id_of("level", 0), D("70000"), armed_at=START + timedelta(seconds=1))]),
    call(levels.rearm, [level(0, intent_number=1, order_number=1, qty=D("0.4"))]),
    call(levels.rearm, [level(0, intent_number=1, order_number=1, moved_s=1)]),
    call(levels.insert, [level(2, intent_number=1)]),  # the same kind and rung
    call(levels.insert, [level(2, rung=1, of=77, intent_number=1)]),  # of no position
    call(levels.disarm, id_of("position", 0), [id_of("level", 1)]),
    call(orders.disarm_orders, [id_of("intent", 2)]),
    call(orders.finish_intent, id_of("intent", 2), IntentStatus.DISARMED, None, None),
    call(orders.arm_intents, [id_of("intent", 2), id_of("intent", 1)]),
    call(orders.move_intent, id_of("intent", 0), id_of("position", 5)),
    call(levels.trigger, id_of("level", 0), D("59000"), "t1"),
    call(levels.trigger, id_of("level", 0), D("58000"), "t2"),
    call(levels.stopped, id_of("position", 0)),
    call(levels.interrupted, id_of("position", 0)),
    call(
        inbox.instruct, id=id_of("instruction", 50), cause_kind=CauseKind.LEVEL, cause_id=id_of("level", 0),
        account_id=ACCOUNTS[0], strategy_id="one", request=signal(Action.CLOSE), position_id=id_of("position", 0),
    ),
    call(
        inbox.instruct, id=id_of("instruction", 51), cause_kind=CauseKind.LEVEL, cause_id=id_of("level", 0),
        account_id=ACCOUNTS[0], strategy_id="one", request=signal(Action.CLOSE), position_id=id_of("position", 0),
    ),
    call(store, alert(4, Target.LONG), shares(60, 1)),  # its number tells that one was left out
    call(
        store,
        alert(6, Action.CLOSE, more=(signal(Action.OPEN_SHORT), signal(Target.LONG, SYMBOLS[1]))),
        [*shares(66, 2, leg=2), *shares(62, 2), *shares(64, 2, leg=1)],
    ),
    call(levels.interrupted, id_of("position", 0)),
    call(levels.done, id_of("level", 0)),
    call(levels.kind, id_of("level", 0)),
    call(levels.kind, WORKERS[0]),
    call(levels.of_intent, id_of("intent", 1)),
    call(inbox.finish, book(0, SYMBOLS[0], 1, 1), id_of("instruction", 0), DONE, "executed", "", {}),
    call(inbox.finish, book(0, SYMBOLS[0], 0, 1), id_of("instruction", 0), DONE, "executed", "opened", {"sent": START}),
    call(inbox.take, ACCOUNTS[1], SYMBOLS[0], WORKERS[0]),
    call(inbox.finish, book(1, SYMBOLS[0], 0, 1), id_of("instruction", 1), REFUSED, "no_stop", "why", {}),
    call(inbox.finish, book(0, SYMBOLS[0], 0, 1), id_of("instruction", 4), EXPIRED, "too_old", "late", {}),
    call(inbox.neighbours, instruction(2, 0, 3, START - timedelta(seconds=1))),
    call(
        positions.update_fold,
        position(0, 1, status=PositionStatus.CLOSED, qty=D(0)),
    ),
    call(orders.disarm_of_position, id_of("position", 0)),
    call(positions.closed_lately, ACCOUNTS[0], since=START - timedelta(seconds=1)),
    call(positions.not_let_go, ACCOUNTS[0], SYMBOLS[0], within_s=12.0),
    call(positions.unreleased, within_s=12.0),
    call(positions.release, [(id_of("position", 0), WATCHES, 2)]),  # of another watcher
    call(positions.release, [(id_of("position", 0), WATCHES, 1)]),
    call(positions.unreleased, within_s=12.0),
    call(positions.set_status, id_of("position", 0), "open"),  # a closed one
    call(positions.accounts_in_use),
    call(orders.move, id_of("order", 0), OrderStatus.FILLED),
    call(orders.doubtful, ACCOUNTS[0]),
    call(books.release, book(0, SYMBOLS[0], 0, 1)),
    call(leases.renew, WATCHES, WORKERS[0], 1, ttl_s=30),
    call(leases.acquire, WATCHES, WORKERS[1], ttl_s=30),
    call(leases.acquire, WATCHES, WORKERS[0], ttl_s=30),
    call(leases.release, WATCHES, WORKERS[0], 2),
    call(leases.acquire, WATCHES, WORKERS[1], ttl_s=30),
    call(leases.expires_at, WATCHES),
    call(leases.acquire_all, [WATCHES, "b", "a"], WORKERS[0], ttl_s=10),
    call(leases.renew_all, {"a": 1, "b": 2, "c": 1}, WORKERS[0], ttl_s=10),
    call(leases.release_all, {"a": 1, "b": 1}, WORKERS[0]),
    call(leases.holders),
    call(leases.live, "watch"),
    call(leases.free, [WORKERS[1]]),
    call(leases.acquire, WATCHES, WORKERS[1], ttl_s=30),
    call(bans.tell, "account:1", 10.5, "too many"),
    call(bans.tell, "account:1", 5, "fewer"),
    call(bans.live),
    call(blind.reason, "bybit", "BTCUSDT"),
    call(blind.tell, "bybit", {(WATCHES, "BTCUSDT"): "silent", (WATCHES, ""): "no", ("b", "X"): "x"}, {WATCHES: 4}),
    call(blind.reason, "bybit", "BTCUSDT"),
    call(blind.tell, "bybit", {(WATCHES, "BTCUSDT"): "still silent"}, {WATCHES: 4, "b": 77}),
    call(blind.rows),
    call(blind.tell, "bybit", {}, {WATCHES: 1}),  # of another watcher
    call(blind.reason, "bybit", "BTCUSDT"),
    call(blind.reason, "bybit", "ETHUSDT"),
    *(
        call(
            drifts.ask, id=id_of("drift", number), account_id=ACCOUNTS[0], position_id=None, detail=f"differs {number}",
            seen=("BTCUSDT", PositionSide.LONG, DriftKind.SIZE_DIFFERS),
        )
        for number in range(2)
    ),
    call(
        drifts.healed, id=id_of("drift", 2), account_id=ACCOUNTS[0], position_id=id_of("position", 0), detail="healed",
        seen=("BTCUSDT", PositionSide.LONG, DriftKind.ORPHAN_STOP),
    ),
    call(drifts.size_differs, ACCOUNTS[0], "BTCUSDT"),
    call(drifts.adopted, ACCOUNTS[0], "BTCUSDT", PositionSide.SHORT, id_of("position", 0)),
    call(drifts.gone, ACCOUNTS[0], [("BTCUSDT", PositionSide.LONG, DriftKind.SIZE_DIFFERS)]),
    call(drifts.gone, ACCOUNTS[0], []),
    call(troubles.begin, ACCOUNTS[0], "BTCUSDT", "delisted"),
    call(troubles.begin, ACCOUNTS[0], "BTCUSDT", "delisted"),
    call(troubles.symbols, ACCOUNTS[0]),
    call(troubles.held, ACCOUNTS[0]),
    call(troubles.accounts),
    call(troubles.end, ACCOUNTS[0], "BTCUSDT"),
    call(troubles.end, ACCOUNTS[0], "BTCUSDT"),
    call(
        inbox.store_all,
        [
            (alert(93, Action.CLOSE, more=(signal(Target.LONG, SYMBOLS[1]),)), [*shares(70, 1), *shares(71, 2, leg=1)]),
            (alert(0, Action.OPEN_LONG), shares(73, 2)),  # a duplicate
            (alert(92, Target.FLAT, strategy="nobody's"), []),
            (alert(91, Target.FLAT, strategy="two", windowed=True), shares(75, 1)),
        ],
    ),
    call(rejected.keep, turned_away(0, "unknown")),
    *(call(rejected.keep, turned_away(number)) for number in range(rejected.KEPT_MAX + 2)),
    call(rejected.keep, turned_away(1)),  # twice
    call(rejected.keep, turned_away(200, "two")),
    call(rejected.forget),
]  # fmt: skip
"""After WORLD: every statement at least once, with its refusals; numbers are seconds that go by."""


def _calls(function: Callable[..., Awaitable[Any]], *args: SearchStrategy[Any], **named: SearchStrategy[Any]) -> Any:
    return st.builds(
        lambda given, keywords: Call(function, given, keywords), st.tuples(*args), st.fixed_dictionaries(named)
    )


account_numbers = st.integers(0, 1)
account_ids = st.sampled_from(ACCOUNTS)
symbols = st.sampled_from(SYMBOLS)
workers = st.integers(0, 2)
worker_ids = st.sampled_from(WORKERS)
tokens = st.integers(1, 3)
numbers = st.integers(0, 5)
seconds = st.sampled_from([0, 0.5, 3, 31.123456])
quantities = st.sampled_from([D("0.5"), D("0.25"), D("1.000"), D("0.00001"), D("7"), D(0)])
prices = st.sampled_from([D("60000.1"), D("59000"), D("0.000123"), D("61234.56789")])
sides = st.sampled_from(PositionSide)
wishes: SearchStrategy[Action | Target] = st.one_of(st.sampled_from(Target), st.sampled_from(Action))
instants = st.none() | st.integers(-10, 10).map(lambda s: START + timedelta(seconds=s))


def ids(kind: str) -> SearchStrategy[UUID]:
    return numbers.map(lambda number: id_of(kind, number))


books_claimed = st.builds(book, account_numbers, symbols, workers, tokens) | st.just(book(0, SYMBOLS[0], 0, 1))
causes = st.sampled_from(IntentCause)
intents = st.builds(
    intent, numbers, numbers, st.sampled_from(IntentKind), by=causes, leg=st.integers(0, 1), account=account_numbers,
    position=numbers, status=st.sampled_from(IntentStatus), qty=quantities, hedge=st.booleans(),
    strategy=st.sampled_from([*STRATEGIES, "unknown"]),
)  # fmt: skip
all_orders = st.builds(
    order, numbers, numbers, st.sampled_from(OrderStatus), attempt=st.integers(0, 2), reduce_only=st.booleans(),
    account=account_numbers, qty=quantities, hedge=st.booleans(), age_s=st.sampled_from([0, 8, 100]),
)  # fmt: skip
all_positions = st.builds(
    position, numbers, st.integers(1, 3), account=account_numbers, symbol=symbols, side=sides,
    status=st.sampled_from(PositionStatus), qty=quantities, hedge=st.booleans(),
)  # fmt: skip
other_intents = numbers.filter(lambda number: number != 1)  # which is a level's already, and asked for by that
all_levels = st.builds(
    level, numbers, of=st.integers(0, 1), kind=st.sampled_from(LevelKind), rung=st.integers(0, 1),
    intent_number=other_intents, order_number=numbers, status=st.sampled_from(LevelStatus),
    moved_s=st.sampled_from([0, 1]), qty=quantities, extreme=st.none() | prices,
)  # fmt: skip
fills = st.builds(fill, numbers, st.none() | st.just("lh0"), qty=quantities, price=prices, side=st.sampled_from(Side))
endings = st.sampled_from([InstructionStatus.DONE, InstructionStatus.REFUSED, InstructionStatus.NEEDS_OPERATOR])
leased = st.sampled_from([WATCHES, "stream:a", "stream:b", *(f"worker:{worker}" for worker in WORKERS)])
held_leases = st.dictionaries(leased, tokens, max_size=3)
seen = st.tuples(symbols, sides, st.sampled_from(DriftKind))
alerts = st.builds(
    alert, st.integers(5, 9), wishes, strategy=st.sampled_from([*STRATEGIES, "unknown"]),
    key=st.sampled_from(["", "hash:1"]), windowed=st.booleans(), symbol=symbols, sent_at=instants,
)  # fmt: skip


@st.composite
def finishing(draw: st.DrawFn) -> Call:
    """Of two endings that weigh the same PostgreSQL may take either: they give the same reason."""
    status, code = draw(endings), draw(st.sampled_from(["executed", "nothing_to_do"]))
    return call(
        inbox.finish, draw(books_claimed), draw(ids("instruction")), status, code, f"{status} {code}", {"sent": START}
    )


CALLS: list[SearchStrategy[Call]] = [
    _calls(store, alerts, st.builds(shares, st.integers(5, 9), st.integers(0, 2))),
    _calls(inbox.take, account_ids, symbols, worker_ids),
    _calls(inbox.begin_next, books_claimed),
    _calls(inbox.next_id, account_ids, symbols),
    _calls(inbox.waiting_books, limit=st.integers(1, 3)),
    _calls(inbox.closing_waits, account_ids, symbols, ids("instruction")),
    _calls(
        inbox.neighbours, st.builds(instruction, numbers, account_numbers, st.integers(1, 5), instants)
    ),
    _calls(inbox.postpone, books_claimed, ids("instruction"), seconds=seconds, why=st.just("later")),
    _calls(inbox.fail, books_claimed, ids("instruction")),
    _calls(inbox.foretell, ids("instruction"), st.just("no_stop"), st.just("why")),
    finishing(),
    _calls(
        inbox.instruct, id=ids("instruction"), cause_kind=st.sampled_from(CauseKind), cause_id=ids("level"),
        account_id=account_ids, strategy_id=st.sampled_from(STRATEGIES),
        request=st.builds(signal, st.sampled_from(Action), symbols), position_id=ids("position"),
    ),
    _calls(books.release, books_claimed),
    _calls(books.fence, books_claimed),
    _calls(books.is_claimed, account_ids, symbols),
    _calls(books.lock, account_ids | worker_ids, symbols),
    _calls(books.next_epoch, account_ids, symbols),
    _calls(leases.acquire, leased, worker_ids, ttl_s=seconds),
    _calls(leases.renew, leased, worker_ids, tokens, ttl_s=seconds),
    _calls(leases.release, leased, worker_ids, tokens),
    _calls(leases.acquire_all, st.lists(leased, unique=True), worker_ids, ttl_s=seconds),
    _calls(leases.renew_all, held_leases, worker_ids, ttl_s=seconds),
    _calls(leases.release_all, held_leases, worker_ids),
    _calls(leases.expires_at, leased),
    _calls(leases.holders),
    _calls(leases.live, st.sampled_from(["watch", "stream:"])),
    _calls(leases.free, st.lists(worker_ids, max_size=2)),
    _calls(bans.tell, st.sampled_from(["a", "b"]), seconds, st.just("too many")),
    _calls(bans.live),
    _calls(blind.reason, st.just("bybit"), symbols),
    _calls(blind.rows),
    _calls(
        blind.tell, st.just("bybit"),
        st.dictionaries(st.tuples(leased, symbols | st.just("")), st.sampled_from(["dark", "dim"])), held_leases,
    ),
    _calls(orders.insert_intents, st.lists(intents, max_size=2)),
    _calls(orders.insert_orders, st.lists(all_orders, max_size=2)),
    _calls(orders.insert_plan, books_claimed, st.lists(intents, max_size=2), st.none() | all_orders),
    _calls(orders.intents_of, causes, ids("instruction")),
    _calls(orders.intent, ids("intent")),
    _calls(orders.move_intent, ids("intent"), ids("position")),
    _calls(
        orders.finish_intent, ids("intent"), st.sampled_from(IntentStatus), st.none() | st.just("a"), st.just("why")
    ),
    _calls(
        orders.end_leg, books_claimed, ids("intent"), st.sampled_from(IntentStatus), st.just("executed"), st.just("why")
    ),
    _calls(orders.orders_of, ids("intent")),
    _calls(orders.order, ids("order")),
    _calls(orders.by_client_id, numbers.map(lambda number: f"lh{number}")),
    _calls(orders.next_attempt, ids("intent")),
    _calls(orders.in_flight, account_ids, symbols),
    _calls(orders.opening_in_flight, account_ids, symbols, sides),
    _calls(orders.unresolved, account_ids, older_than_s=seconds),
    _calls(orders.doubtful, account_ids),
    _calls(
        orders.move, ids("order"), st.sampled_from([s for s in OrderStatus if s is not OrderStatus.ARMED]),
        venue_order_id=st.none() | st.just("v9"), venue_code=st.none() | st.just("c"), sent_at=instants,
    ),
    _calls(orders.disarm_of_position, ids("position")),
    _calls(orders.arm_intents, st.lists(ids("intent"), max_size=3)),
    _calls(orders.disarm_orders, st.lists(ids("intent"), max_size=3)),
    _calls(
        orders.insert_fill, account_ids, fills, order_id=st.none() | ids("order"),
        position_id=st.none() | ids("position"),
    ),
    _calls(orders.known_fills, account_ids, symbols, st.just(["f0", "f1", "f1", "f9"])),
    _calls(positions.insert, all_positions),
    _calls(positions.update_fold, all_positions),
    _calls(positions.live, account_ids, symbols),
    _calls(positions.live_for_update, account_ids, symbols),
    _calls(positions.live_of_account, account_ids),
    _calls(positions.get, ids("position")),
    _calls(positions.changed_lately, account_ids, symbols, within_s=seconds),
    _calls(positions.closed_lately, account_ids, since=instants.filter(bool)),
    _calls(positions.not_let_go, account_ids, symbols, within_s=seconds),
    _calls(positions.unreleased, within_s=seconds),
    _calls(
        positions.release,
        st.lists(st.tuples(ids("position"), leased, tokens), unique_by=lambda row: row[0], max_size=2),
    ),
    _calls(positions.accounts_in_use),
    _calls(positions.symbols_to_watch),
    _calls(positions.adopt, ids("position"), quantities, instants.filter(bool)),
    _calls(positions.set_status, ids("position"), st.sampled_from(PositionStatus)),
    _calls(positions.opened, ids("intent")),
    _calls(positions.set_native_stop, ids("position"), st.none() | prices),
    _calls(positions.set_exits, ids("position"), st.sampled_from([exits(1), exits(2)])),
    _calls(positions.record, st.just("noted"), account_id=st.none() | account_ids, detail=st.just({"a": D("1.0")})),
    _calls(levels.insert, st.lists(all_levels, max_size=2)),
    _calls(levels.rearm, st.lists(all_levels, max_size=2)),
    _calls(levels.of_position, ids("position")),
    _calls(standing),
    _calls(levels.armed_with_ids, st.lists(ids("level"), max_size=3)),
    _calls(levels.armed, ids("position")),
    _calls(levels.disarm, ids("position"), st.none() | st.lists(ids("level"), max_size=2)),
    _calls(levels.trigger, ids("level"), st.none() | prices, st.none() | st.just("t")),
    _calls(levels.done, ids("level")),
    _calls(levels.of_intent, st.just(id_of("intent", 1))),
    _calls(levels.stopped, ids("position")),
    _calls(levels.kind, ids("level")),
    _calls(levels.interrupted, ids("position")),
    _calls(
        levels.save_extremes,
        st.lists(
            st.builds(
                extreme, ids("level"), prices, instants, lease=leased, token=tokens,
                armed_at=st.sampled_from([START, START + timedelta(seconds=1)]),
            ),
            unique_by=lambda row: row.level_id, max_size=3,
        ),
    ),
    _calls(
        drifts.ask, id=ids("drift"), account_id=account_ids, seen=seen, position_id=st.none() | ids("position"),
        detail=st.just("differs"),
    ),
    _calls(
        drifts.healed, id=ids("drift"), account_id=account_ids, seen=seen, position_id=st.none(),
        detail=st.just("healed"),
    ),
    _calls(drifts.gone, account_ids, st.lists(seen, max_size=2)),
    _calls(drifts.adopted, account_ids, symbols, sides, ids("position")),
    _calls(drifts.size_differs, account_ids, st.just(SYMBOLS[0])),
    _calls(troubles.begin, account_ids | worker_ids, symbols | st.just(""), st.just("why")),
    _calls(troubles.end, account_ids, symbols | st.just("")),
    _calls(troubles.symbols, account_ids),
    _calls(troubles.held, account_ids),
    _calls(troubles.accounts),
    _calls(
        inbox.too_many, st.sampled_from(STRATEGIES), st.integers(1, 3), at=instants.filter(bool),
        before=st.none() | ids("alert"),
    ),
    _calls(rejected.keep, st.builds(turned_away, numbers, st.sampled_from(STRATEGIES))),
    _calls(rejected.forget),
]  # fmt: skip
ANY_CALL = st.one_of(CALLS)
ALL_CALLS = st.tuples(st.tuples(*CALLS), st.randoms(use_true_random=False)).map(lambda drawn: shuffled(*drawn))
"""Each function once, in any order."""


def shuffled(calls: Sequence[Call], chance: Random) -> list[Call]:
    return chance.sample(calls, len(calls))
