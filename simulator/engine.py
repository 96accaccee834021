"""The matching engine: accounts, orders, positions and stops against one price per symbol.

Pure: no I/O and no clock, `now_ms` comes in. Liquidity is endless: a taker fills whole at the last price, a resting
order fills whole at its own price when a trade touches it. What happened is collected as events for `take_events`.
Fee rates are those of a new account, https://www.bybit.com/en/help-center/article/Trading-Fee-Structure.
"""

import copy
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal

from simulator import checks
from simulator.checks import MAKER_FEE, TAKER_FEE
from simulator.instruments import Instrument
from simulator.market import Market
from simulator.model import (
    ZERO,
    Account,
    CreatedBy,
    EndReason,
    Event,
    Fill,
    Filled,
    NewOrder,
    Order,
    OrderChange,
    OrderChanged,
    OrderStatus,
    OrderType,
    Position,
    PositionChanged,
    PositionView,
    Protection,
    Reason,
    Refused,
    Side,
    StopKind,
    TimeInForce,
    TriggerBy,
    WalletChanged,
)
from simulator.numbers import CENT_OF_A_CENT, down_to, nearest
from simulator.positions import apply_fill

DEFAULT_LEVERAGE = Decimal(10)
PROTECTIVE_SPAN = Decimal("0.05")  # a market order's hidden limit, as a share of the last price
MAX_ROUNDS = 100  # of orders firing orders at one price; more would be a loop of ours

_CREATED_BY = {
    StopKind.STOP_LOSS: CreatedBy.STOP_LOSS,
    StopKind.TAKE_PROFIT: CreatedBy.TAKE_PROFIT,
    StopKind.TRAILING: CreatedBy.TRAILING,
}


class Engine:
    def __init__(
        self, instruments: Iterable[Instrument], *, new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    ) -> None:
        self.markets = {i.symbol: Market(i) for i in instruments}
        self.accounts: dict[str, Account] = {}
        self.seq = 0
        self._new_id = new_id
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
        """By either id; the exchange's id wins when both are given."""
        return account.orders.get(order_id or account.order_ids.get(client_order_id, ""))

    def position(self, account: Account, symbol: str) -> Position:
        """The one there is, or a flat one that is not kept."""
        return account.positions.get(symbol) or Position(account=account.name, symbol=symbol)

    def leverage(self, account: Account, symbol: str) -> Decimal:
        return account.leverage.get(symbol) or min(DEFAULT_LEVERAGE, self.market(symbol).instrument.max_leverage)

    def view(self, account: Account, symbol: str) -> PositionView:
        position = self.position(account, symbol)

        def level(kind: StopKind) -> Decimal:
            child = account.orders.get(position.children.get(kind, ""))
            if child is None:
                return ZERO
            return (child.trail_distance if kind is StopKind.TRAILING else child.trigger_price) or ZERO

        return PositionView(
            position=copy.copy(position),
            mark=self.market(symbol).mark,
            leverage=self.leverage(account, symbol),
            stop_loss=level(StopKind.STOP_LOSS),
            take_profit=level(StopKind.TAKE_PROFIT),
            trailing=level(StopKind.TRAILING),
        )

    def unrealized_pnl(self, account: Account) -> Decimal:
        return sum((p.unrealized_pnl(self.markets[s].mark) for s, p in account.positions.items() if p.qty), ZERO)

    def position_margin(self, account: Account) -> Decimal:
        held = ((s, p) for s, p in account.positions.items() if p.qty)
        return sum((p.size * self.markets[s].mark / self.leverage(account, s) for s, p in held), ZERO)

    def order_margin(self, account: Account) -> Decimal:
        total = ZERO
        for order in self.open_orders(account):
            if order.status is OrderStatus.UNTRIGGERED or order.price is None:
                continue
            position = self.position(account, order.symbol)
            opened = checks.opening_qty(position, order.side, order.leaves_qty, reduce_only=order.reduce_only)
            total += opened * order.price / self.leverage(account, order.symbol)
        return total

    def available(self, account: Account) -> Decimal:
        equity = account.balance + self.unrealized_pnl(account)
        return equity - self.position_margin(account) - self.order_margin(account)

    def open_orders(self, account: Account, symbol: str = "") -> list[Order]:
        """Oldest first."""
        markets = [self.market(symbol)] if symbol else self.markets.values()
        own = [o for m in markets for o in m.open.values() if o.account == account.name]
        return sorted(own, key=lambda o: o.seq)

    # --- set-up

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

    def set_leverage(self, account: Account, symbol: str, leverage: Decimal) -> None:
        instrument = self.market(symbol).instrument
        if leverage > instrument.max_leverage:
            raise Refused(Reason.LEVERAGE_MAX)
        if leverage < instrument.min_leverage or leverage % instrument.leverage_step:
            raise Refused(Reason.LEVERAGE_INVALID)
        if self.leverage(account, symbol) == leverage:
            raise Refused(Reason.LEVERAGE_NOT_MODIFIED)
        account.leverage[symbol] = leverage
        if symbol in account.positions:
            self._emit_position(account, symbol)

    # --- prices

    def on_trade(self, symbol: str, price: Decimal, now_ms: int) -> None:
        """One print: orders are looked at after each, so a price that only one print touched counts."""
        market = self.markets[symbol]
        market.set_last(price)
        if not market.is_quiet():
            self._settle(market, now_ms)

    def hold_mark(self, symbol: str, mark: Decimal | None) -> None:
        """Hold the mark by hand from the next trade on; None lets it follow the last price again."""
        market = self.market(symbol)
        market.mark_by_hand = mark is not None
        market.mark = market.last if mark is None else mark

    def _settle(self, market: Market, now_ms: int) -> None:
        """Let everything act that this price moves, oldest first, until nothing is left to act."""
        for _ in range(MAX_ROUNDS):
            due = sorted((o for o in market.open.values() if market.is_due(o)), key=lambda o: o.seq)
            if not due:
                return
            for order in due:
                if order.order_id not in market.open:
                    continue  # an earlier one of this round ended it
                if order.status is OrderStatus.UNTRIGGERED:
                    self._fire(market, order, now_ms)
                else:
                    assert order.price is not None
                    self._execute(market, order, order.price, now_ms, maker=True)
        raise AssertionError(f"orders of {market.instrument.symbol} keep firing each other at {market.last}")

    # --- orders

    def place(
        self,
        account: Account,
        new: NewOrder,
        now_ms: int,
        *,
        fill_share: Decimal | None = None,
        reject: bool = False,
    ) -> Order:
        """Check, accept and match an order. Faults: `fill_share` fills a part, `reject` refuses after accepting."""
        market = self.market(new.symbol)
        if new.client_order_id and new.client_order_id in account.order_ids:
            raise Refused(Reason.DUPLICATE_ID)
        qty = self._check_new(market, account, new)
        order = self._accept(market, account, new, qty, now_ms)
        if reject:
            self._end(order, OrderStatus.REJECTED, EndReason.REJECTED, now_ms)
        elif new.trigger_price is not None:
            self._rest(market, order, OrderStatus.UNTRIGGERED)
        else:
            self._match(market, order, now_ms, fill_share)
        if fill_share is None:  # else the rest would be filled in the same breath; it waits for the next trade
            self._settle(market, now_ms)
        self._emit_position(account, new.symbol)
        return order

    def _check_new(self, market: Market, account: Account, new: NewOrder) -> Decimal:
        """The quantity that will be worked: as asked, or what a reduce-only order can still take off."""
        instrument = market.instrument
        if instrument.status != "Trading":
            raise Refused(Reason.NOT_TRADING)
        conditional = new.trigger_price is not None
        closes_all = not new.qty and new.reduce_only and new.close_on_trigger
        if not closes_all:
            checks.check_qty(instrument, new.qty, new.type)
        if new.price is not None:
            checks.check_price(instrument, new.price)
        checks.check_trigger(market, new)
        checks.check_attached(market, new)
        checks.check_limits(market, account.name, conditional=conditional)
        position = self.position(account, new.symbol)
        if new.reduce_only and not conditional:
            most = instrument.max_market_qty if new.type is OrderType.MARKET else instrument.max_qty
            return min(self._reducible(account, new), new.qty or most)
        price = new.price or market.last
        opened = checks.opening_qty(position, new.side, new.qty, reduce_only=new.reduce_only)
        if opened and new.qty * price < instrument.min_notional:
            raise Refused(Reason.NOTIONAL_MIN, format(instrument.min_notional, "f"))
        if not conditional:
            leverage = self.leverage(account, new.symbol)
            checks.check_funds(account, self.available(account), opened, price, leverage)
        return new.qty

    def _reducible(self, account: Account, new: NewOrder) -> Decimal:
        size = self.position(account, new.symbol).reducible_by(new.side)
        if not size:
            raise Refused(Reason.NOTHING_TO_REDUCE)
        if new.close_on_trigger:
            return size  # it may push resting orders aside
        resting = self.open_orders(account, new.symbol)
        size -= sum((o.leaves_qty for o in resting if o.reduce_only and o.stop_kind is StopKind.NONE), ZERO)
        if size <= 0:
            raise Refused(Reason.REDUCE_COVERED)
        return size

    def _accept(self, market: Market, account: Account, new: NewOrder, qty: Decimal, now_ms: int) -> Order:
        market_order = new.type is OrderType.MARKET
        order = Order(
            account=account.name,
            order_id=self._new_id(),
            seq=self._next_seq(),
            client_order_id=new.client_order_id,
            symbol=new.symbol,
            side=new.side,
            type=new.type,
            qty=qty,
            created_by=new.created_by,
            status=OrderStatus.NEW,
            created_ms=now_ms,
            updated_ms=now_ms,
            last_price_on_created=market.last,
            price=_protective_price(market, new.side) if market_order else new.price,
            time_in_force=TimeInForce.IOC if market_order else new.time_in_force,
            reduce_only=new.reduce_only,
            close_on_trigger=new.close_on_trigger,
            stop_kind=StopKind.NONE if new.trigger_price is None else StopKind.STOP,
            trigger_price=new.trigger_price,
            trigger_direction=new.trigger_direction,
            trigger_by=new.trigger_by,
            stop_loss=new.stop_loss or None,
            take_profit=new.take_profit or None,
            sl_trigger_by=new.sl_trigger_by,
            tp_trigger_by=new.tp_trigger_by,
        )
        account.orders[order.order_id] = order
        if order.client_order_id:
            account.order_ids[order.client_order_id] = order.order_id
        return order

    def _match(self, market: Market, order: Order, now_ms: int, fill_share: Decimal | None = None) -> None:
        """Take what the market offers now; rest or end with what is left."""
        takes = order.type is OrderType.MARKET or market.is_due(order)
        if order.time_in_force is TimeInForce.POST_ONLY and takes:
            self._end(order, OrderStatus.CANCELLED, EndReason.POST_ONLY_TAKES, now_ms)
            return
        if takes:
            qty = None if fill_share is None else down_to(order.leaves_qty * fill_share, market.instrument.qty_step)
            self._execute(market, order, market.last, now_ms, maker=False, at_most=qty)
        if not order.is_open:
            return
        if order.time_in_force is TimeInForce.FOK:
            self._end(order, OrderStatus.CANCELLED, EndReason.NO_FULL_FILL, now_ms)
        elif order.time_in_force is TimeInForce.IOC:
            self._end(order, OrderStatus.CANCELLED, EndReason.NO_LIQUIDITY, now_ms)
        else:
            self._rest(market, order, order.status)

    def cancel(self, account: Account, order: Order | None, now_ms: int) -> Order:
        if order is None or not order.is_open:
            raise Refused(Reason.NOT_FOUND)
        ended = OrderStatus.DEACTIVATED if order.status is OrderStatus.UNTRIGGERED else OrderStatus.CANCELLED
        self._end(order, ended, EndReason.BY_USER, now_ms)
        self._emit_position(account, order.symbol)
        return order

    def amend(self, account: Account, order: Order | None, change: OrderChange, now_ms: int) -> Order:
        if order is None or not order.is_open:
            raise Refused(Reason.NOT_FOUND)
        market = self.market(order.symbol)
        before = copy.copy(order)
        if change.qty is not None:
            checks.check_qty(market.instrument, change.qty, order.type)
            if change.qty <= order.filled_qty:
                raise Refused(Reason.QTY_MIN, format(order.filled_qty, "f"))
        for price in (change.price, change.trigger_price, change.stop_loss, change.take_profit):
            if price:
                checks.check_price(market.instrument, price)
        order.qty = order.qty if change.qty is None else change.qty
        order.price = order.price if change.price is None else change.price
        order.trigger_price = order.trigger_price if change.trigger_price is None else change.trigger_price
        if change.stop_loss is not None:
            order.stop_loss = change.stop_loss or None
        if change.take_profit is not None:
            order.take_profit = change.take_profit or None
        if order == before:
            raise Refused(Reason.ORDER_NOT_MODIFIED)
        order.updated_ms = now_ms
        market.touch()
        self._emit_order(order)
        if order.status is not OrderStatus.UNTRIGGERED and market.is_due(order):
            market.open.pop(order.order_id)
            self._match(market, order, now_ms)
        self._settle(market, now_ms)
        self._emit_position(account, order.symbol)
        return order

    # --- stops of a position

    def protect(self, account: Account, symbol: str, wanted: Protection, now_ms: int) -> None:
        """Set, move or remove the stops of a whole position."""
        market = self.market(symbol)
        position = self.position(account, symbol)
        checks.check_protection(market, position, wanted)
        changed = False
        for kind, price, by in (
            (StopKind.STOP_LOSS, wanted.stop_loss, wanted.sl_trigger_by),
            (StopKind.TAKE_PROFIT, wanted.take_profit, wanted.tp_trigger_by),
            (StopKind.TRAILING, wanted.trailing, TriggerBy.LAST),
        ):
            if price is not None:
                changed |= self._set_child(account, position, kind, price, by, now_ms, active_price=wanted.active_price)
        if not changed:
            raise Refused(Reason.STOPS_NOT_MODIFIED)
        self._settle(market, now_ms)
        self._emit_position(account, symbol)

    def _set_child(
        self,
        account: Account,
        position: Position,
        kind: StopKind,
        price: Decimal,
        by: TriggerBy,
        now_ms: int,
        *,
        parent: str = "",
        active_price: Decimal | None = None,
    ) -> bool:
        """Make one stop what it should be; False if it was so already. `price` of a trailing stop is its distance."""
        market = self.market(position.symbol)
        child = account.orders.get(position.children.get(kind, ""))
        trailing = kind is StopKind.TRAILING
        if not price:
            if child is not None:
                self._end(child, OrderStatus.DEACTIVATED, EndReason.BY_USER, now_ms)
            return child is not None
        if child is not None:
            if (child.trail_distance if trailing else child.trigger_price) == price and child.trigger_by == by:
                return False
            child.trigger_price, child.trail_distance = (None, price) if trailing else (price, None)
            child.trigger_by, child.active_price, child.updated_ms = by, active_price or None, now_ms
            market.touch()
            self._emit_order(child)
            return True
        side = position.side
        assert side is not None
        falls = (side is Side.BUY) == (kind is not StopKind.TAKE_PROFIT)
        child = Order(
            account=account.name,
            order_id=self._new_id(),
            seq=self._next_seq(),
            client_order_id="",
            parent_client_order_id=parent,
            symbol=position.symbol,
            side=side.opposite,
            type=OrderType.MARKET,
            qty=position.size,
            created_by=_CREATED_BY[kind],
            status=OrderStatus.UNTRIGGERED,
            created_ms=now_ms,
            updated_ms=now_ms,
            last_price_on_created=market.last,
            time_in_force=TimeInForce.IOC,
            reduce_only=True,
            close_on_trigger=True,
            stop_kind=kind,
            trigger_price=None if trailing else price,
            trigger_direction=2 if falls else 1,
            trigger_by=by,
            trail_distance=price if trailing else None,
            active_price=active_price if trailing else None,
        )
        account.orders[child.order_id] = child
        position.children[kind] = child.order_id
        self._rest(market, child, OrderStatus.UNTRIGGERED)
        return True

    def _fire(self, market: Market, order: Order, now_ms: int) -> None:
        """The trigger was crossed: from here it is an ordinary order."""
        account = self.accounts[order.account]
        market.open.pop(order.order_id)
        market.touch()
        position = self.position(account, order.symbol)
        if order.is_child:
            position.children.pop(order.stop_kind, None)
        order.status = OrderStatus.TRIGGERED
        order.updated_ms = now_ms
        self._emit_order(order)
        if order.type is OrderType.MARKET:
            order.price = _protective_price(market, order.side)
        if order.close_on_trigger and order.reduce_only and not order.qty:
            order.qty = position.reducible_by(order.side)
        if order.reduce_only and not position.reducible_by(order.side):
            self._end(order, OrderStatus.CANCELLED, EndReason.REDUCE_ONLY, now_ms)
            return
        opened = checks.opening_qty(position, order.side, order.leaves_qty, reduce_only=order.reduce_only)
        try:
            leverage = self.leverage(account, order.symbol)
            checks.check_funds(account, self.available(account), opened, market.last, leverage)
        except Refused:
            self._end(order, OrderStatus.REJECTED, EndReason.NO_MARGIN, now_ms)
            return
        order.status = OrderStatus.NEW
        self._match(market, order, now_ms)

    # --- fills

    def _execute(
        self,
        market: Market,
        order: Order,
        price: Decimal,
        now_ms: int,
        *,
        maker: bool,
        at_most: Decimal | None = None,
    ) -> None:
        """Fill an order (or `at_most` of it) at a price, fold the fill into position and wallet, and follow up."""
        account = self.accounts[order.account]
        position = account.positions.setdefault(order.symbol, self.position(account, order.symbol))
        qty = order.leaves_qty
        if order.reduce_only:
            qty = min(qty, position.reducible_by(order.side))
            if not qty:
                self._end(order, OrderStatus.CANCELLED, EndReason.REDUCE_ONLY, now_ms)
                return
            order.qty = order.filled_qty + qty  # cut to what can be reduced
        if at_most is not None:
            qty = min(qty, at_most)
        if not qty:
            return
        rate = MAKER_FEE if maker else TAKER_FEE
        fee = (qty * price * rate).quantize(CENT_OF_A_CENT)
        side_before = position.side
        closed = apply_fill(position, order.side, qty, price, fee)
        account.balance += closed.pnl - fee
        order.filled_qty += qty
        order.filled_value += qty * price
        order.fee += fee
        order.fill_count += 1
        order.closed_qty += closed.qty
        order.closed_entry_value += closed.entry_value
        order.closed_exit_value += closed.exit_value
        order.closed_pnl += closed.pnl - closed.open_fee - (fee * closed.qty / qty)
        order.updated_ms = now_ms
        order.status = OrderStatus.FILLED if order.filled_qty == order.qty else OrderStatus.PARTIALLY_FILLED
        position.seq = self._next_seq()
        position.updated_ms = now_ms
        position.created_ms = position.created_ms or now_ms
        if position.side is not side_before:
            position.opened_ms = now_ms
        fill = Fill(
            fill_id=self._new_id(),
            seq=position.seq,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            account=account.name,
            symbol=order.symbol,
            side=order.side,
            qty=qty,
            price=price,
            value=qty * price,
            fee=fee,
            fee_rate=rate,
            is_maker=maker,
            closed_qty=closed.qty,
            pnl=closed.pnl,
            leaves_qty=order.leaves_qty,
            mark_price=market.mark,
            order_type=order.type,
            order_qty=order.qty,
            order_price=order.price,
            stop_kind=order.stop_kind,
            created_by=order.created_by,
            at_ms=now_ms,
        )
        account.fills.append(fill)
        self._events.append(Filled(fill))
        if not order.is_open:
            market.open.pop(order.order_id, None)
            market.touch()
        self._emit_order(order)
        if side_before is not None and position.side is not side_before:
            self._clear_children(account, position, now_ms)
        self._attach(account, position, order, now_ms)
        self._follow_size(market, account, position, now_ms)
        self._emit_position(account, order.symbol)
        self._events.append(WalletChanged(account.name))

    def _attach(self, account: Account, position: Position, order: Order, now_ms: int) -> None:
        """An entry's stops become children of the position it opened or enlarged."""
        if position.side is not order.side:
            return
        for kind, price, by in (
            (StopKind.STOP_LOSS, order.stop_loss, order.sl_trigger_by),
            (StopKind.TAKE_PROFIT, order.take_profit, order.tp_trigger_by),
        ):
            if price:
                self._set_child(account, position, kind, price, by, now_ms, parent=order.client_order_id)

    def _clear_children(self, account: Account, position: Position, now_ms: int) -> None:
        for order_id in list(position.children.values()):
            self._end(account.orders[order_id], OrderStatus.DEACTIVATED, EndReason.POSITION_CLOSED, now_ms)

    def _follow_size(self, market: Market, account: Account, position: Position, now_ms: int) -> None:
        """Children cover the whole position; resting reduce-only orders go when nothing is left for them."""
        for order_id in position.children.values():
            child = account.orders[order_id]
            if child.qty != position.size:
                child.qty, child.updated_ms = position.size, now_ms
                self._emit_order(child)
        for order in self.open_orders(account, market.instrument.symbol):
            resting = order.reduce_only and order.status is not OrderStatus.UNTRIGGERED
            if resting and not position.reducible_by(order.side):
                self._end(order, OrderStatus.CANCELLED, EndReason.REDUCE_ONLY, now_ms)

    # --- small parts

    def _rest(self, market: Market, order: Order, status: OrderStatus) -> None:
        order.status = status
        market.open[order.order_id] = order
        market.touch()
        self._emit_order(order)

    def _end(self, order: Order, status: OrderStatus, reason: EndReason, now_ms: int) -> None:
        market = self.markets[order.symbol]
        market.open.pop(order.order_id, None)
        market.touch()
        if order.is_child:
            children = self.position(self.accounts[order.account], order.symbol).children
            if children.get(order.stop_kind) == order.order_id:
                del children[order.stop_kind]
        order.status, order.end_reason, order.updated_ms = status, reason, now_ms
        self._emit_order(order)

    def _next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def _emit_order(self, order: Order) -> None:
        self._events.append(OrderChanged(copy.copy(order)))

    def _emit_position(self, account: Account, symbol: str) -> None:
        self._events.append(PositionChanged(self.view(account, symbol)))


def _protective_price(market: Market, side: Side) -> Decimal:
    """https://bybit-exchange.github.io/docs/v5/order/create-order: a market order becomes an IOC limit order."""
    price = nearest(market.last * (1 + side.sign * PROTECTIVE_SPAN), market.instrument.tick_size)
    return max(price, market.instrument.min_price)
