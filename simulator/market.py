"""The price of one symbol as the engine sees it, and the orders that wait for it."""

from decimal import Decimal

from simulator.instruments import Instrument
from simulator.model import Order, OrderStatus, Side, TriggerBy


class Market:
    """Last and mark price of a symbol, its open orders of all accounts, and the band in which nothing can happen."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.last = instrument.start_price
        self.mark = instrument.start_price
        self.mark_by_hand = False
        self._held_bid: Decimal | None = None
        self._held_ask: Decimal | None = None
        self.open: dict[str, Order] = {}  # order id -> order
        # (low, high): a last price strictly between moves no order. None: unknown, ask `is_quiet`.
        self._band: tuple[Decimal | None, Decimal | None] | None = None

    def touch(self) -> None:
        """An open order came, went or changed."""
        self._band = None

    def set_last(self, price: Decimal) -> None:
        self.last = price
        if not self.mark_by_hand:
            self.mark = price

    def hold_quotes(self, bid: Decimal | None, ask: Decimal | None) -> None:
        """Hold best bid and ask by hand; None lets them follow the last price again."""
        self._held_bid, self._held_ask = bid, ask

    @property
    def bid(self) -> Decimal:
        follows = max(self.last - self.instrument.tick_size, self.instrument.min_price)
        return follows if self._held_bid is None else self._held_bid

    @property
    def ask(self) -> Decimal:
        return self.last + self.instrument.tick_size if self._held_ask is None else self._held_ask

    def reference(self, by: TriggerBy) -> Decimal:
        return self.last if by is TriggerBy.LAST else self.mark

    def is_due(self, order: Order) -> bool:
        """Whether the present price fills this resting order or fires this conditional one."""
        if order.status is OrderStatus.UNTRIGGERED:
            if order.trail_distance is not None and not self._trail(order):
                return False
            if order.trigger_price is None:
                return False
            price = self.reference(order.trigger_by)
            return price >= order.trigger_price if order.trigger_direction == 1 else price <= order.trigger_price
        if order.price is None:
            return False
        return self.last <= order.price if order.side is Side.BUY else self.last >= order.price

    def _trail(self, order: Order) -> bool:
        """Pull a trailing stop after the price; False while it sleeps."""
        assert order.trail_distance is not None
        price = self.reference(order.trigger_by)
        falling_fires = order.trigger_direction == 2
        if order.active_price is not None:
            if price < order.active_price if falling_fires else price > order.active_price:
                return False
            order.active_price = None
        wanted = price - order.trail_distance if falling_fires else price + order.trail_distance
        if order.trigger_price is None:
            order.trigger_price = wanted
        else:
            order.trigger_price = (max if falling_fires else min)(order.trigger_price, wanted)
        return True

    def is_quiet(self) -> bool:
        """True when the last price surely moves no order: a tick should not pay for the orders that it spares."""
        if not self.open:
            return True
        if self.mark_by_hand:
            return False
        if self._band is None:
            self._band = self._compute_band()
        low, high = self._band
        return (low is None or self.last > low) and (high is None or self.last < high)

    def _compute_band(self) -> tuple[Decimal | None, Decimal | None]:
        low: Decimal | None = None
        high: Decimal | None = None
        for order in self.open.values():
            if order.trail_distance is not None:
                return self.instrument.highest_price * 10, None  # a trailing stop wants every price
            if order.status is OrderStatus.UNTRIGGERED:
                level, falls = order.trigger_price, order.trigger_direction == 2
            else:
                level, falls = order.price, order.side is Side.BUY
            if level is None:
                continue
            if falls:
                low = level if low is None else max(low, level)
            else:
                high = level if high is None else min(high, level)
        return low, high
