"""The exchange of a world: the simulator's engine, with what it shows late, and what it tells by its streams.

One engine for all accounts; an account behaves like one at Bybit (stops ride on entries, ids are used once) or at
Binance (stops are conditional orders of their own, an ended order's id may be used again).
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

import msgspec

from app.domain.order import OrderStatus, PositionSide, Side
from app.domain.position import Fill, FillOrigin
from app.venues.base import NewOrder, Trade
from app.venues.failures import VenueSaid
from app.venues.kinds import Kind
from app.venues.numbers import instant
from simulator import model
from simulator.engine import Engine
from simulator.instruments import built_in
from simulator.model import Account, CreatedBy, ExecType, OrderType, Reason, StopKind
from tests.simulation.loop import EPOCH
from tests.simulation.schedule import PRICES, Plan
from tests.simulation.world import Proc, World

EPOCH_MS = int(EPOCH.timestamp() * 1000)
BALANCE = Decimal(10_000_000)
OUR_PREFIX = "lh"

SIDES = {model.Side.BUY: Side.BUY, model.Side.SELL: Side.SELL}
TO_SIDE = {Side.BUY: model.Side.BUY, Side.SELL: model.Side.SELL}
HEDGE_SIDES = {PositionSide.LONG: model.PositionSide.LONG, PositionSide.SHORT: model.PositionSide.SHORT}
OF_HEDGE = {there: here for here, there in HEDGE_SIDES.items()}
STATUSES = {
    model.OrderStatus.FILLED: OrderStatus.FILLED,
    model.OrderStatus.CANCELLED: OrderStatus.CANCELLED,
    model.OrderStatus.REJECTED: OrderStatus.REJECTED,
}
STOP_WRONG_SIDE, WOULD_NOT_DO = -2021, -1
KINDS = {
    Reason.DUPLICATE_ID: Kind.DUPLICATE,
    Reason.NOTHING_TO_REDUCE: Kind.GONE,
    Reason.REDUCE_COVERED: Kind.GONE,
    Reason.ZERO_POSITION: Kind.GONE,
    Reason.NOT_FOUND: Kind.GONE,
    Reason.STOPS_NOT_MODIFIED: Kind.DONE,
    Reason.LEVERAGE_NOT_MODIFIED: Kind.DONE,
}


class Listener(Protocol):
    """A private stream that is linked."""

    def deliver(self, fill: Fill | None, symbol: str) -> bool: ...
    def break_for(self, seconds: float) -> None: ...


class Stream(Protocol):
    """A public stream that is linked."""

    def hear_prices(self, symbol: str, at_ms: int, mark: Decimal, bid: Decimal, ask: Decimal) -> None: ...
    def break_for(self, seconds: float) -> None: ...
    def silence(self, symbol: str, seconds: float) -> None: ...


class Shown(msgspec.Struct, frozen=True):
    """What is held of one position (signed), and from when on that is shown."""

    at: float
    qty: Decimal
    entry_price: Decimal


class Exchange:
    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        known = built_in()
        self.instruments = [
            msgspec.structs.replace(
                known[symbol],
                start_price=PRICES[symbol],
                max_market_qty=plan.market_qty_max if symbol == "BTCUSDT" else known[symbol].max_market_qty,
            )
            for symbol in plan.symbols
        ]
        self._ids = 0
        self.engine = Engine(self.instruments, new_id=self._new_id)
        self.accounts: list[Account] = []
        for number, one in enumerate(plan.accounts):
            account = self.engine.add_account(f"account{number}", BALANCE)
            account.venue, account.hedge = one.venue, one.hedge
            self.accounts.append(account)
        self.trades: dict[str, list[Trade]] = {symbol: [] for symbol in plan.symbols}
        self.followed_ms: dict[str, list[int]] = {symbol: [] for symbol in plan.symbols}  # when a watcher began to
        self.listeners: list[list[Listener]] = [[] for _ in plan.accounts]
        self.public: list[Callable[[Trade], None]] = []
        self.streams: list[Stream] = []
        self.sent: Callable[[int, Proc, NewOrder], None] = lambda number, proc, order: None  # before its first byte
        self.after: list[Callable[[list[model.Event]], None]] = []  # each change of the ledger, at once
        self.listed_at: dict[str, float] = {}  # order or fill id -> from when on it is listed
        self._shown: dict[tuple[str, str, model.PositionSide], list[Shown]] = {}
        for symbol in plan.symbols:
            self.tick(symbol, PRICES[symbol])

    def _new_id(self) -> str:
        self._ids += 1
        return str(10_000 + self._ids)

    @property
    def now_ms(self) -> int:
        return self.world.loop.now_ms()

    # -- what happens there --------------------------------------------------------------------------------------------

    def tick(self, symbol: str, price: Decimal) -> None:
        """One trade of the market."""
        now_ms = self.now_ms
        trade = Trade(symbol=symbol, trade_id=self._new_id(), price=price, at_ms=now_ms)
        self.trades[symbol].append(trade)
        self.engine.on_trade(symbol, price, now_ms)
        for hear in self.public:
            hear(trade)
        if self.world.happens("marks"):
            market = self.engine.market(symbol)
            for stream in list(self.streams):
                stream.hear_prices(symbol, now_ms, market.mark, market.bid, market.ask)
        self.settle()

    def by_hand(self, account: Account, symbol: str, side: model.Side, qty: Decimal, *, reduce_only: bool) -> None:
        """Somebody trades at the exchange's own page."""
        sides = account.position_sides(symbol)
        if len(sides) == 1:
            position_side = sides[0]
        else:
            opens_with = side.opposite if reduce_only else side
            position_side = next(one for one in sides if one.opens_with is opens_with)
        new = model.NewOrder(
            symbol=symbol,
            side=side,
            type=OrderType.MARKET,
            qty=qty,
            position_side=position_side,
            reduce_only=reduce_only,
            created_by=CreatedBy.HAND,
        )
        self.engine.place(account, new, self.now_ms)
        self.settle()

    def take_stops(self, account: Account, symbol: str, side: model.PositionSide) -> None:
        """Somebody cancels the native stops at the exchange's own page."""
        for order in list(self.engine.open_orders(account, symbol)):
            if order.position_side is side and order.stop_kind in (StopKind.STOP, StopKind.STOP_LOSS):
                self.engine.cancel(account, order, self.now_ms)
        self.settle()

    def liquidate(self, account: Account, symbol: str, side: model.PositionSide) -> None:
        self.engine.take_over(account, symbol, self.now_ms, position_side=side)
        self.settle()

    def settle(self) -> None:
        """Look at what the engine has just done: list it (late), tell it to the streams, have it checked."""
        events = self.engine.take_events()
        if not events:
            return
        now, world = self.world.loop.now, self.world
        for event in events:
            if isinstance(event, model.Filled):
                fill = event.fill
                number = self.number(fill.account)
                self.listed_at[fill.fill_id] = now + world.up_to("lag")
                told = self._tell(number, self.fill(fill), fill.symbol)
                if not told and self.listed_at[fill.fill_id] > now:
                    world.injected("exchange", "neither tells nor lists a fill", until=self.listed_at[fill.fill_id])
                world.say("exchange", "fill", fill.account, fill.side, fill.qty, fill.symbol, "at", fill.price,
                          fill.created_by, fill.client_order_id)  # fmt: skip
            elif isinstance(event, model.OrderChanged):
                order = event.order
                if order.order_id not in self.listed_at:
                    self.listed_at[order.order_id] = now + world.up_to("lag")
                if not order.is_open:
                    self._tell(self.number(order.account), None, order.symbol)
                if world.tell is not None and order.is_child | (order.stop_kind is not StopKind.NONE):
                    world.say("exchange", "stop", order.account, order.symbol, order.status, order.trigger_price,
                              order.qty, order.end_reason)  # fmt: skip
            elif isinstance(event, model.PositionChanged):
                self._show(event.view.position)
        for look in self.after:
            look(events)

    def number(self, name: str) -> int:
        return int(name.removeprefix("account"))

    def _show(self, position: model.Position) -> None:
        key = (position.account, position.symbol, position.position_side)
        shown = self._shown.setdefault(key, [Shown(0.0, Decimal(0), Decimal(0))])
        if shown[-1].qty == position.qty and shown[-1].entry_price == position.entry_price:
            return
        at = max(shown[-1].at, self.world.loop.now + self.world.up_to("position_lag"))
        shown.append(Shown(at, position.qty, position.entry_price))

    def show_all(self, account: Account, symbol: str, side: model.PositionSide) -> None:
        """From now on nothing is shown late."""
        for shown in self._shown.get((account.name, symbol, side), [])[-1:]:
            self._shown[account.name, symbol, side] = [shown]

    def _tell(self, number: int, fill: Fill | None, symbol: str) -> bool:
        """Whether somebody hears of it soon."""
        return any([listener.deliver(fill, symbol) for listener in self.listeners[number]])

    # -- what it shows -------------------------------------------------------------------------------------------------

    def listed(self, id: str) -> bool:
        return self.world.calm or self.listed_at.get(id, 0.0) <= self.world.loop.now

    def shown(self, account: Account, symbol: str, side: model.PositionSide) -> Shown | None:
        """What the list of positions shows now; None: flat."""
        found = self._shown.get((account.name, symbol, side), [])
        now = self.world.loop.now
        last = found[-1] if found and self.world.calm else next((one for one in reversed(found) if one.at <= now), None)
        return last if last is not None and last.qty else None

    def fill(self, fill: model.Fill) -> Fill:
        """In our words."""
        ours = fill.client_order_id if fill.client_order_id.startswith(OUR_PREFIX) else None
        return Fill(
            venue_fill_id=fill.fill_id,
            venue_order_id=fill.order_id,
            client_order_id=ours,
            origin=_origin(fill),
            symbol=fill.symbol,
            side=SIDES[fill.side],
            position_side=OF_HEDGE.get(fill.position_side),
            qty=fill.qty,
            price=fill.price,
            fee=fill.fee,
            fee_currency="USDT",
            filled_at=instant(fill.at_ms),
        )

    def price(self, symbol: str) -> Decimal:
        return self.engine.market(symbol).last

    def order(self, account: Account, client_order_id: str) -> model.Order | None:
        return self.engine.find(account, client_order_id=client_order_id)

    # -- what is asked of it -------------------------------------------------------------------------------------------

    def place(self, account: Account, new: model.NewOrder) -> model.Order:
        """Raises VenueSaid."""
        world = self.world
        share: Decimal | None = None
        if world.strikes("partial"):
            share = Decimal(world.chance_of("partial:how").choice(("0", "0.3", "0.7")))
        in_two, reject = share is None and world.strikes("in_two"), world.strikes("rejected")
        if share is not None or in_two or reject:
            how = "is rejected" if reject else "fills in two" if in_two else f"fills {share}"
            world.injected("exchange", f"order {how}", new.client_order_id)
        with saying():
            order = self.engine.place(
                account, new, self.now_ms, fill_share=share, in_two=in_two and not reject, reject=reject
            )
        self.settle()
        return order


class saying:
    """Turns the engine's refusals into what a client hears."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, model.Refused):
            code = STOP_WRONG_SIDE if error.reason is Reason.STOP_SIDE else WOULD_NOT_DO
            raise VenueSaid(KINDS.get(error.reason, Kind.REFUSED), code, str(error)) from None


def _origin(fill: model.Fill) -> FillOrigin:
    if fill.exec_type is ExecType.LIQUIDATION:
        return FillOrigin.LIQUIDATION
    if fill.exec_type is ExecType.ADL:
        return FillOrigin.ADL
    if fill.stop_kind is not StopKind.NONE:
        return FillOrigin.NATIVE_STOP
    if fill.created_by is CreatedBy.USER and fill.client_order_id.startswith(OUR_PREFIX):
        return FillOrigin.ORDER
    return FillOrigin.EXTERNAL
