"""What the engine knows: markets, accounts, orders, positions; how to read them; the small steps all parts share."""

import copy
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal

from simulator import checks
from simulator.instruments import Instrument
from simulator.market import Market
from simulator.model import (
    ZERO,
    Account,
    EndReason,
    Event,
    Order,
    OrderChanged,
    OrderStatus,
    Position,
    PositionChanged,
    PositionSide,
    PositionView,
    Reason,
    Refused,
    StopKind,
    position_key,
)

DEFAULT_LEVERAGE = Decimal(10)
BOTH = PositionSide.BOTH


def new_uuid() -> str:
    return str(uuid.uuid4())


class Books:
    def __init__(self, instruments: Iterable[Instrument], *, new_id: Callable[[], str] = new_uuid) -> None:
        self.markets = {i.symbol: Market(i) for i in instruments}
        self.accounts: dict[str, Account] = {}
        self.seq = 0
        self.new_id = new_id
        self._events: list[Event] = []

    # --- reading

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def market(self, symbol: str) -> Market:
        try:
            return self.markets[symbol]
        except KeyError:
            raise Refused(Reason.UNKNOWN_SYMBOL, symbol) from None

    def find(self, account: Account, order_id: str = "", client_order_id: str = "") -> Order | None:
        """By either id; the exchange's id wins when both are given. Of a reused client id: the newest order."""
        return account.orders.get(order_id or account.order_ids.get(client_order_id, ""))

    def position(self, account: Account, symbol: str, side: PositionSide = BOTH) -> Position:
        """The one there is, or a flat one that is not kept."""
        kept = account.positions.get(position_key(symbol, side))
        return kept or Position(account=account.name, symbol=symbol, position_side=side)

    def positions(self, account: Account, symbol: str) -> list[Position]:
        """Those of the present mode, flat ones too."""
        return [self.position(account, symbol, side) for side in account.position_sides(symbol)]

    def held(self, account: Account) -> list[Position]:
        return [p for p in account.positions.values() if p.qty]

    def leverage(self, account: Account, symbol: str, side: PositionSide = BOTH) -> Decimal:
        own = account.leverage.get(position_key(symbol, side)) or account.leverage.get(symbol)
        return own or min(DEFAULT_LEVERAGE, self.market(symbol).instrument.max_leverage)

    def view(self, account: Account, symbol: str, side: PositionSide = BOTH) -> PositionView:
        position = self.position(account, symbol, side)

        def level(kind: StopKind) -> Decimal:
            child = account.orders.get(position.children.get(kind, ""))
            if child is None:
                return ZERO
            return (child.trail_distance if kind is StopKind.TRAILING else child.trigger_price) or ZERO

        return PositionView(
            position=copy.copy(position),
            mark=self.market(symbol).mark,
            leverage=self.leverage(account, symbol, side),
            stop_loss=level(StopKind.STOP_LOSS),
            take_profit=level(StopKind.TAKE_PROFIT),
            trailing=level(StopKind.TRAILING),
        )

    def views(self, account: Account, symbol: str) -> list[PositionView]:
        """Of the present mode: one, or long and short, flat ones too."""
        return [self.view(account, symbol, side) for side in account.position_sides(symbol)]

    def unrealized_pnl(self, account: Account) -> Decimal:
        return sum((p.unrealized_pnl(self.markets[p.symbol].mark) for p in self.held(account)), ZERO)

    def margin_of(self, account: Account, position: Position) -> Decimal:
        """Initial margin at the mark price."""
        leverage = self.leverage(account, position.symbol, position.position_side)
        return position.size * self.markets[position.symbol].mark / leverage

    def position_margin(self, account: Account) -> Decimal:
        return sum((self.margin_of(account, p) for p in self.held(account)), ZERO)

    def order_margin(self, account: Account) -> Decimal:
        total = ZERO
        for order in self.open_orders(account):
            if order.status is OrderStatus.UNTRIGGERED or order.price is None:
                continue
            position = self.position(account, order.symbol, order.position_side)
            opened = checks.opening_qty(position, order.side, order.leaves_qty, reduce_only=order.reduce_only)
            total += opened * order.price / self.leverage(account, order.symbol, order.position_side)
        return total

    def available(self, account: Account) -> Decimal:
        """For new positions. Profit and loss of isolated positions stay with their own margin."""
        pnl = sum(
            (
                p.unrealized_pnl(self.markets[p.symbol].mark)
                for p in self.held(account)
                if not account.is_isolated(p.symbol)
            ),
            ZERO,
        )
        return account.balance + pnl - self.position_margin(account) - self.order_margin(account)

    def open_orders(self, account: Account, symbol: str = "") -> list[Order]:
        """Oldest first."""
        markets = [self.market(symbol)] if symbol else self.markets.values()
        own = [o for m in markets for o in m.open.values() if o.account == account.name]
        return sorted(own, key=lambda o: o.seq)

    # --- what is there

    def put_instrument(self, instrument: Instrument) -> None:
        market = self.markets.get(instrument.symbol)
        if market is None:
            self.markets[instrument.symbol] = Market(instrument)
        else:
            market.instrument = instrument

    def add_account(self, name: str, balance: Decimal) -> Account:
        account = self.accounts[name] = Account(name=name, balance=balance, deposited=balance)
        return account

    def restore(self, accounts: Iterable[Account], seq: int) -> None:
        """Take over what a state file held."""
        self.accounts = {a.name: a for a in accounts}
        self.seq = seq
        for market in self.markets.values():
            market.open.clear()
            market.touch()
        for account in self.accounts.values():
            for order in account.orders.values():
                if order.is_open:
                    self.markets[order.symbol].open[order.order_id] = order

    # --- small steps

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def rest(self, market: Market, order: Order, status: OrderStatus) -> None:
        order.status = status
        market.open[order.order_id] = order
        market.touch()
        self.emit_order(order)

    def end(self, order: Order, status: OrderStatus, reason: EndReason, now_ms: int) -> None:
        market = self.markets[order.symbol]
        market.open.pop(order.order_id, None)
        market.touch()
        if order.is_child:
            children = self.position(self.accounts[order.account], order.symbol, order.position_side).children
            if children.get(order.stop_kind) == order.order_id:
                del children[order.stop_kind]
        order.status, order.end_reason, order.updated_ms = status, reason, now_ms
        self.emit_order(order)

    def emit(self, event: Event) -> None:
        self._events.append(event)

    def emit_order(self, order: Order) -> None:
        self._events.append(OrderChanged(copy.copy(order)))

    def emit_positions(self, account: Account, symbol: str, first: PositionSide = BOTH) -> None:
        """All positions of the symbol: in hedge mode the other one is told too, after the one that it is about."""
        for view in sorted(self.views(account, symbol), key=lambda v: v.position.position_side is not first):
            self._events.append(PositionChanged(view))
