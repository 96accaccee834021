"""The stops of a position: child orders that cover all of it, follow its size and end with it."""

from decimal import Decimal

from simulator.books import Books
from simulator.model import (
    Account,
    CreatedBy,
    EndReason,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    StopKind,
    TimeInForce,
    TriggerBy,
)

_CREATED_BY = {
    StopKind.STOP_LOSS: CreatedBy.STOP_LOSS,
    StopKind.TAKE_PROFIT: CreatedBy.TAKE_PROFIT,
    StopKind.TRAILING: CreatedBy.TRAILING,
}


class Stops:
    def __init__(self, books: Books) -> None:
        self._books = books

    def set(
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
        books = self._books
        child = account.orders.get(position.children.get(kind, ""))
        trailing = kind is StopKind.TRAILING
        if not price:
            if child is not None:
                books.end(child, OrderStatus.DEACTIVATED, EndReason.BY_USER, now_ms)
            return child is not None
        if child is not None:
            if (child.trail_distance if trailing else child.trigger_price) == price and child.trigger_by == by:
                return False
            child.trigger_price, child.trail_distance = (None, price) if trailing else (price, None)
            child.trigger_by, child.active_price, child.updated_ms = by, active_price or None, now_ms
            books.market(position.symbol).touch()
            books.emit_order(child)
            return True
        child = self._make(account, position, kind, price, by, now_ms, parent, active_price)
        account.orders[child.order_id] = child
        position.children[kind] = child.order_id
        books.rest(books.market(position.symbol), child, OrderStatus.UNTRIGGERED)
        return True

    def _make(
        self,
        account: Account,
        position: Position,
        kind: StopKind,
        price: Decimal,
        by: TriggerBy,
        now_ms: int,
        parent: str,
        active_price: Decimal | None,
    ) -> Order:
        side = position.side
        assert side is not None
        trailing = kind is StopKind.TRAILING
        falls = (side is Side.BUY) == (kind is not StopKind.TAKE_PROFIT)
        return Order(
            account=account.name,
            order_id=self._books.new_id(),
            seq=self._books.next_seq(),
            client_order_id="",
            parent_client_order_id=parent,
            symbol=position.symbol,
            side=side.opposite,
            position_side=position.position_side,
            type=OrderType.MARKET,
            qty=position.size,
            created_by=_CREATED_BY[kind],
            status=OrderStatus.UNTRIGGERED,
            created_ms=now_ms,
            updated_ms=now_ms,
            last_price_on_created=self._books.market(position.symbol).last,
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

    def attach(self, account: Account, position: Position, order: Order, now_ms: int) -> None:
        """An entry's stops become children of the position it opened or enlarged."""
        if position.side is not order.side:
            return
        for kind, price, by in (
            (StopKind.STOP_LOSS, order.stop_loss, order.sl_trigger_by),
            (StopKind.TAKE_PROFIT, order.take_profit, order.tp_trigger_by),
        ):
            if price:
                self.set(account, position, kind, price, by, now_ms, parent=order.client_order_id)

    def clear(self, account: Account, position: Position, now_ms: int) -> None:
        for order_id in list(position.children.values()):
            self._books.end(account.orders[order_id], OrderStatus.DEACTIVATED, EndReason.POSITION_CLOSED, now_ms)

    def follow_size(self, account: Account, position: Position, now_ms: int) -> None:
        """Children cover the whole position; orders that only live with it go when nothing is left for them."""
        books = self._books
        for order_id in position.children.values():
            child = account.orders[order_id]
            if child.qty != position.size:
                child.qty, child.updated_ms = position.size, now_ms
                books.emit_order(child)
        for order in books.open_orders(account, position.symbol):
            if order.position_side is not position.position_side or position.reducible_by(order.side):
                continue
            if order.status is not OrderStatus.UNTRIGGERED:
                if order.reduce_only:
                    books.end(order, OrderStatus.CANCELLED, EndReason.REDUCE_ONLY, now_ms)
            elif order.ends_with_position:
                books.end(order, OrderStatus.DEACTIVATED, EndReason.POSITION_CLOSED, now_ms)
