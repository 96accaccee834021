"""A fill: folded into position and wallet, told, and followed up by the position's stops."""

from decimal import Decimal

from simulator.books import Books
from simulator.market import Market
from simulator.model import (
    Account,
    CreatedBy,
    EndReason,
    ExecType,
    Fill,
    Filled,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    StopKind,
    WalletChanged,
    position_key,
)
from simulator.numbers import CENT_OF_A_CENT
from simulator.positions import Closed, apply_fill
from simulator.stops import Stops


class Fills:
    def __init__(self, books: Books, stops: Stops) -> None:
        self._books = books
        self._stops = stops

    def execute(
        self,
        market: Market,
        order: Order,
        price: Decimal,
        now_ms: int,
        *,
        maker: bool,
        at_most: Decimal | None = None,
        exec_type: ExecType = ExecType.TRADE,
    ) -> None:
        """Fill an order (or `at_most` of it) at a price, fold the fill into position and wallet, and follow up."""
        books = self._books
        account = books.accounts[order.account]
        key = position_key(order.symbol, order.position_side)
        position = account.positions.setdefault(key, books.position(account, order.symbol, order.position_side))
        qty = order.leaves_qty
        if order.reduce_only:
            qty = min(qty, position.reducible_by(order.side))
            if not qty:
                books.end(order, OrderStatus.CANCELLED, EndReason.REDUCE_ONLY, now_ms)
                return
            order.qty = order.filled_qty + qty  # cut to what can be reduced
        if at_most is not None:
            qty = min(qty, at_most)
        if not qty:
            return
        rate = account.maker_fee if maker else account.taker_fee
        fee = (qty * price * rate).quantize(CENT_OF_A_CENT)
        side_before = position.side
        closed = apply_fill(position, order.side, qty, price, fee)
        account.balance += closed.pnl - fee
        _fold_into_order(order, closed, qty, price, fee, now_ms)
        position.seq = books.next_seq()
        position.updated_ms = now_ms
        position.created_ms = position.created_ms or now_ms
        if position.side is not side_before:
            position.opened_ms = now_ms
        fill = Fill(
            fill_id=books.new_id(),
            seq=position.seq,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            account=account.name,
            symbol=order.symbol,
            side=order.side,
            position_side=order.position_side,
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
            exec_type=exec_type,
        )
        account.fills.append(fill)
        books.emit(Filled(fill))
        if not order.is_open:
            market.open.pop(order.order_id, None)
            market.touch()
        books.emit_order(order)
        if side_before is not None and position.side is not side_before:
            self._stops.clear(account, position, now_ms)
        self._stops.attach(account, position, order, now_ms)
        self._stops.follow_size(account, position, now_ms)
        books.emit_positions(account, order.symbol, order.position_side)
        books.emit(WalletChanged(account.name, exec_type, order.symbol, order.position_side, change=closed.pnl - fee))

    def fund(self, account: Account, position: Position, rate: Decimal, now_ms: int) -> None:
        """One funding payment: who is long pays a positive rate. Cash moves, the size stays."""
        books = self._books
        mark = books.market(position.symbol).mark
        fee = (position.qty * mark * rate).quantize(CENT_OF_A_CENT)
        account.balance -= fee
        position.current_realized_pnl -= fee
        position.net_realized_pnl -= fee
        position.seq, position.updated_ms = books.next_seq(), now_ms
        fill = Fill(
            fill_id=books.new_id(),
            seq=position.seq,
            order_id=books.new_id(),
            client_order_id="",
            account=account.name,
            symbol=position.symbol,
            side=position.side or Side.BUY,
            position_side=position.position_side,
            qty=position.size,
            price=mark,
            value=position.size * mark,
            fee=fee,
            fee_rate=rate,
            is_maker=False,
            closed_qty=Decimal(0),
            pnl=Decimal(0),
            leaves_qty=Decimal(0),
            mark_price=mark,
            order_type=OrderType.MARKET,
            order_qty=Decimal(0),
            order_price=None,
            stop_kind=StopKind.NONE,
            created_by=CreatedBy.FUNDING,
            at_ms=now_ms,
            exec_type=ExecType.FUNDING,
        )
        account.fills.append(fill)
        books.emit(Filled(fill))
        books.emit_positions(account, position.symbol, position.position_side)
        books.emit(WalletChanged(account.name, ExecType.FUNDING, position.symbol, position.position_side, change=-fee))


def _fold_into_order(order: Order, closed: Closed, qty: Decimal, price: Decimal, fee: Decimal, now_ms: int) -> None:
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
