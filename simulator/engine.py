"""The matching engine: orders against one price per symbol.

Pure: no I/O and no clock, `now_ms` comes in. Liquidity is endless: a taker fills whole at the last price, a resting
order fills whole at its own price when a trade touches it. What happened is collected as events for `take_events`.
"""

import copy
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from simulator import checks
from simulator.books import BOTH, new_uuid
from simulator.fills import Fills
from simulator.instruments import Instrument
from simulator.market import Market
from simulator.model import (
    ZERO,
    Account,
    CreatedBy,
    EndReason,
    ExecType,
    NewOrder,
    Order,
    OrderChange,
    OrderStatus,
    OrderType,
    PositionSide,
    Protection,
    Reason,
    Refused,
    Side,
    StopKind,
    TimeInForce,
    TriggerBy,
)
from simulator.modes import Modes
from simulator.numbers import down_to, nearest
from simulator.stops import Stops

PROTECTIVE_SPAN = Decimal("0.05")  # a market order's hidden limit, as a share of the last price
MAX_ROUNDS = 100  # of orders firing orders at one price; more would be a loop of ours


class Engine(Modes):
    def __init__(self, instruments: Iterable[Instrument], *, new_id: Callable[[], str] = new_uuid) -> None:
        super().__init__(instruments, new_id=new_id)
        self._stops = Stops(self)
        self._fills = Fills(self, self._stops)
        # A fault's hand: whether a conditional order whose trigger was crossed is refused by the matching.
        self.refuses_at_trigger: Callable[[Order], bool] = lambda order: False

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
                    self._fills.execute(market, order, order.price, now_ms, maker=True)
        raise AssertionError(f"orders of {market.instrument.symbol} keep firing each other at {market.last}")

    # --- orders

    def place(
        self,
        account: Account,
        new: NewOrder,
        now_ms: int,
        *,
        fill_share: Decimal | None = None,
        in_two: bool = False,
        reject: bool = False,
    ) -> Order:
        """Check, accept and match an order.

        Faults: `fill_share` fills a part, `in_two` fills in two executions, `reject` refuses after accepting.
        """
        market = self.market(new.symbol)
        self._check_id(account, new)
        new = _as_meant(account, new)
        qty = self._check_new(market, account, new)
        order = self._accept(market, account, new, qty, now_ms)
        if reject:
            self.end(order, OrderStatus.REJECTED, EndReason.REJECTED, now_ms)
        elif new.trigger_price is not None:
            self.rest(market, order, OrderStatus.UNTRIGGERED)
        else:
            self._match(market, order, now_ms, fill_share, in_two=in_two)
        if fill_share is None:  # else the rest would be filled in the same breath; it waits for the next trade
            self._settle(market, now_ms)
        self.emit_positions(account, new.symbol, new.position_side)
        return order

    def _check_id(self, account: Account, new: NewOrder) -> None:
        taken = self.find(account, client_order_id=new.client_order_id) if new.client_order_id else None
        if taken is not None and (taken.is_open or not new.reuse_ids):
            raise Refused(Reason.DUPLICATE_ID)

    def _check_new(self, market: Market, account: Account, new: NewOrder) -> Decimal:
        """The quantity that will be worked: as asked, or what a reduce-only order can still take off."""
        instrument = market.instrument
        if instrument.status == "Delivering" and not new.reduce_only:
            raise Refused(Reason.DELISTING)
        if instrument.status not in ("Trading", "Delivering"):
            raise Refused(Reason.NOT_TRADING)
        conditional = new.trigger_price is not None
        closes_all = not new.qty and new.reduce_only and new.close_on_trigger
        if not (closes_all or new.close_position):
            checks.check_qty(instrument, new.qty, new.type)
        if new.price is not None:
            checks.check_price(instrument, new.price)
        checks.check_trigger(market, new)
        checks.check_attached(market, new)
        checks.check_limits(market, account.name, new)
        position = self.position(account, new.symbol, new.position_side)
        if new.reduce_only and not conditional:
            most = instrument.max_market_qty if new.type is OrderType.MARKET else instrument.max_qty
            return min(self._reducible(account, new), new.qty or most)
        price = new.price or market.last
        opened = checks.opening_qty(position, new.side, new.qty, reduce_only=new.reduce_only)
        if opened and new.qty * price < instrument.min_notional:
            raise Refused(Reason.NOTIONAL_MIN, format(instrument.min_notional, "f"))
        if not conditional:
            leverage = self.leverage(account, new.symbol, new.position_side)
            checks.check_funds(account, self.available(account), opened, price, leverage)
        return new.qty

    def _reducible(self, account: Account, new: NewOrder) -> Decimal:
        size = self.position(account, new.symbol, new.position_side).reducible_by(new.side)
        if not size:
            raise Refused(Reason.NOTHING_TO_REDUCE)
        if new.close_on_trigger:
            return size  # it may push resting orders aside
        resting = (o for o in self.open_orders(account, new.symbol) if o.position_side is new.position_side)
        size -= sum((o.leaves_qty for o in resting if o.reduce_only and o.stop_kind is StopKind.NONE), ZERO)
        if size <= 0:
            raise Refused(Reason.REDUCE_COVERED)
        return size

    def _accept(self, market: Market, account: Account, new: NewOrder, qty: Decimal, now_ms: int) -> Order:
        market_order = new.type is OrderType.MARKET
        order = Order(
            account=account.name,
            order_id=self.new_id(),
            seq=self.next_seq(),
            client_order_id=new.client_order_id,
            symbol=new.symbol,
            side=new.side,
            position_side=new.position_side,
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
            close_position=new.close_position,
            ends_with_position=new.ends_with_position,
        )
        account.orders[order.order_id] = order
        if order.client_order_id:
            account.order_ids[order.client_order_id] = order.order_id
        return order

    def _match(
        self,
        market: Market,
        order: Order,
        now_ms: int,
        fill_share: Decimal | None = None,
        *,
        in_two: bool = False,
    ) -> None:
        """Take what the market offers now; rest or end with what is left."""
        takes = order.type is OrderType.MARKET or market.is_due(order)
        if order.time_in_force is TimeInForce.POST_ONLY and takes:
            self.end(order, OrderStatus.CANCELLED, EndReason.POST_ONLY_TAKES, now_ms)
            return
        if takes and in_two:
            half = down_to(order.leaves_qty / 2, market.instrument.qty_step)
            self._fills.execute(market, order, market.last, now_ms, maker=False, at_most=half)
        if takes and order.is_open:
            qty = None if fill_share is None else down_to(order.leaves_qty * fill_share, market.instrument.qty_step)
            self._fills.execute(market, order, market.last, now_ms, maker=False, at_most=qty)
        if not order.is_open:
            return
        if order.time_in_force is TimeInForce.FOK:
            self.end(order, OrderStatus.CANCELLED, EndReason.NO_FULL_FILL, now_ms)
        elif order.time_in_force is TimeInForce.IOC:
            self.end(order, OrderStatus.CANCELLED, EndReason.NO_LIQUIDITY, now_ms)
        else:
            self.rest(market, order, order.status)

    def cancel(self, account: Account, order: Order | None, now_ms: int) -> Order:
        if order is None or not order.is_open:
            raise Refused(Reason.NOT_FOUND)
        ended = OrderStatus.DEACTIVATED if order.status is OrderStatus.UNTRIGGERED else OrderStatus.CANCELLED
        self.end(order, ended, EndReason.BY_USER, now_ms)
        self.emit_positions(account, order.symbol, order.position_side)
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
        self.emit_order(order)
        if order.status is not OrderStatus.UNTRIGGERED and market.is_due(order):
            market.open.pop(order.order_id)
            self._match(market, order, now_ms)
        self._settle(market, now_ms)
        self.emit_positions(account, order.symbol, order.position_side)
        return order

    # --- stops of a position

    def protect(
        self, account: Account, symbol: str, wanted: Protection, now_ms: int, position_side: PositionSide = BOTH
    ) -> None:
        """Set, move or remove the stops of a whole position."""
        market = self.market(symbol)
        if position_side not in account.position_sides(symbol):
            raise Refused(Reason.POSITION_SIDE)
        position = self.position(account, symbol, position_side)
        checks.check_protection(market, position, wanted)
        changed = False
        for kind, price, by in (
            (StopKind.STOP_LOSS, wanted.stop_loss, wanted.sl_trigger_by),
            (StopKind.TAKE_PROFIT, wanted.take_profit, wanted.tp_trigger_by),
            (StopKind.TRAILING, wanted.trailing, TriggerBy.LAST),
        ):
            if price is not None:
                changed |= self._stops.set(account, position, kind, price, by, now_ms, active_price=wanted.active_price)
        if not changed:
            raise Refused(Reason.STOPS_NOT_MODIFIED)
        self._settle(market, now_ms)
        self.emit_positions(account, symbol, position_side)

    def _fire(self, market: Market, order: Order, now_ms: int) -> None:
        """The trigger was crossed: from here it is an ordinary order."""
        account = self.accounts[order.account]
        market.open.pop(order.order_id)
        market.touch()
        position = self.position(account, order.symbol, order.position_side)
        if order.is_child:
            position.children.pop(order.stop_kind, None)
        order.status = OrderStatus.TRIGGERED
        order.updated_ms = order.fired_ms = now_ms
        order.fired_seq = self.next_seq()
        self.emit_order(order)
        if self.refuses_at_trigger(order):
            self.end(order, OrderStatus.REJECTED, EndReason.REFUSED_AT_TRIGGER, now_ms)
            return
        if order.type is OrderType.MARKET:
            order.price = _protective_price(market, order.side)
        if order.reduce_only and not order.qty:
            order.qty = position.reducible_by(order.side)
        if order.reduce_only and not position.reducible_by(order.side):
            self.end(order, OrderStatus.CANCELLED, EndReason.REDUCE_ONLY, now_ms)
            return
        opened = checks.opening_qty(position, order.side, order.leaves_qty, reduce_only=order.reduce_only)
        try:
            leverage = self.leverage(account, order.symbol, order.position_side)
            checks.check_funds(account, self.available(account), opened, market.last, leverage)
        except Refused:
            self.end(order, OrderStatus.REJECTED, EndReason.NO_MARGIN, now_ms)
            return
        order.status = OrderStatus.NEW
        self._match(market, order, now_ms)

    # --- what the exchange does by itself

    def take_over(
        self,
        account: Account,
        symbol: str,
        now_ms: int,
        *,
        adl: bool = False,
        position_side: PositionSide = BOTH,
        qty: Decimal | None = None,
    ) -> Order:
        """Liquidate a position, or auto-deleverage it or a part, by an order of the exchange's own at the mark."""
        market = self.market(symbol)
        if position_side not in account.position_sides(symbol):
            raise Refused(Reason.POSITION_SIDE)
        position = self.position(account, symbol, position_side)
        side = position.side
        if side is None:
            raise Refused(Reason.ZERO_POSITION)
        if qty is not None and not ZERO < qty <= position.size:
            raise Refused(Reason.QTY_MAX, format(position.size, "f"))
        if not adl:
            for order in self.open_orders(account, symbol):
                if order.position_side is position_side and not order.is_child:
                    ended = order.status is OrderStatus.UNTRIGGERED
                    status = OrderStatus.DEACTIVATED if ended else OrderStatus.CANCELLED
                    self.end(order, status, EndReason.LIQUIDATION, now_ms)
        order = Order(
            account=account.name,
            order_id=self.new_id(),
            seq=self.next_seq(),
            client_order_id="",
            symbol=symbol,
            side=side.opposite,
            position_side=position_side,
            type=OrderType.MARKET,
            qty=position.size if qty is None else qty,
            created_by=CreatedBy.ADL if adl else CreatedBy.LIQUIDATION,
            status=OrderStatus.NEW,
            created_ms=now_ms,
            updated_ms=now_ms,
            last_price_on_created=market.last,
            price=market.mark,
            time_in_force=TimeInForce.IOC,
            reduce_only=True,
        )
        account.orders[order.order_id] = order
        exec_type = ExecType.ADL if adl else ExecType.LIQUIDATION
        self._fills.execute(market, order, market.mark, now_ms, maker=False, exec_type=exec_type)
        return order

    def fund(self, symbol: str, rate: Decimal, now_ms: int) -> int:
        """Pay funding on every position of the symbol; how many there were."""
        self.market(symbol)
        held = [(a, p) for a in self.accounts.values() for p in self.held(a) if p.symbol == symbol]
        for account, position in held:
            self._fills.fund(account, position, rate, now_ms)
        return len(held)


def _as_meant(account: Account, new: NewOrder) -> NewOrder:
    """In hedge mode an order against its own position can only close it, whether it says so or not."""
    checks.check_position_side(account, new)
    opens_with = new.position_side.opens_with
    closes = new.close_position or (opens_with is not None and new.side is not opens_with)
    ends = new.close_position or new.ends_with_position
    return msgspec.structs.replace(new, reduce_only=new.reduce_only or closes, ends_with_position=ends)


def _protective_price(market: Market, side: Side) -> Decimal:
    """https://bybit-exchange.github.io/docs/v5/order/create-order: a market order becomes an IOC limit order."""
    price = nearest(market.last * (1 + side.sign * PROTECTIVE_SPAN), market.instrument.tick_size)
    return max(price, market.instrument.min_price)
