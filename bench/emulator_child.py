"""Runs in an environment of its own, which has NautilusTrader: what a tick costs in its order emulator. Prints JSON.

In version 1.221 a tick goes to a matching core, which looks at all orders of the instrument, and each trailing stop is
updated by itself.
"""

import json
import sys
import time
from decimal import Decimal
from typing import Any

from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import MessageBus, TestClock
from nautilus_trader.common.factories import OrderFactory
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.emulator import OrderEmulator
from nautilus_trader.execution.messages import SubmitOrder
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide, TrailingOffsetType, TriggerType
from nautilus_trader.model.identifiers import StrategyId, TraderId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.portfolio.portfolio import Portfolio
from nautilus_trader.test_kit.providers import TestInstrumentProvider

ENDPOINTS = ("RiskEngine.execute", "RiskEngine.process", "ExecEngine.execute", "ExecEngine.process",
             "DataEngine.execute", "DataEngine.process")  # fmt: skip
ONE = Quantity.from_str("0.010")
BY = TriggerType.BID_ASK
TICKS_MAX = 500
WORK = 200_000  # orders to look at for one figure


class Emulator:
    """One emulator with one instrument whose price is known."""

    def __init__(self) -> None:
        clock, self.trader = TestClock(), TraderId("BENCH-001")
        bus = MessageBus(trader_id=self.trader, clock=clock)
        self.cache = Cache()
        self.instrument = TestInstrumentProvider.btcusdt_perp_binance()
        self.cache.add_instrument(self.instrument)
        for endpoint in ENDPOINTS:
            bus.register(endpoint=endpoint, handler=lambda *_: None)
        portfolio = Portfolio(msgbus=bus, cache=self.cache, clock=clock)
        self.emulator = OrderEmulator(portfolio=portfolio, msgbus=bus, cache=self.cache, clock=clock)
        self.emulator.start()
        self.orders = OrderFactory(
            trader_id=self.trader, strategy_id=StrategyId("S-001"), clock=clock, cache=self.cache
        )
        self.number = 0
        self.plain(Decimal(100))  # a trailing stop is only taken where a price is known
        self.emulator.on_quote_tick(self.tick(Decimal(60_000)))

    def plain(self, price: Decimal) -> None:
        trigger = Price(price, self.instrument.price_precision)
        self._submit(
            self.orders.stop_market(
                self.instrument.id, OrderSide.SELL, ONE, trigger_price=trigger, emulation_trigger=BY
            )
        )

    def trailing(self, distance: Decimal) -> None:
        self._submit(
            self.orders.trailing_stop_market(
                self.instrument.id, OrderSide.SELL, ONE, trailing_offset=distance, emulation_trigger=BY,
                trailing_offset_type=TrailingOffsetType.PRICE, trigger_type=BY,
            )
        )  # fmt: skip

    def _submit(self, order: Any) -> None:
        self.cache.add_order(order, None, None)
        self.emulator.execute(
            SubmitOrder(
                trader_id=self.trader, strategy_id=order.strategy_id, position_id=None, order=order,
                command_id=UUID4(), ts_init=0,
            )
        )  # fmt: skip

    def tick(self, price: Decimal) -> QuoteTick:
        self.number += 1
        digits = self.instrument.price_precision
        return QuoteTick(
            instrument_id=self.instrument.id, bid_price=Price(price, digits),
            ask_price=Price(price + Decimal("0.1"), digits), bid_size=ONE, ask_size=ONE,
            ts_event=self.number, ts_init=self.number,
        )  # fmt: skip

    def ns_per_tick(self, prices: list[Decimal]) -> float:
        ticks = [self.tick(price) for price in prices]
        on_tick = self.emulator.on_quote_tick
        on_tick(ticks[0])
        began = time.perf_counter_ns()
        for tick in ticks:
            on_tick(tick)
        return (time.perf_counter_ns() - began) / len(ticks)


def main(sizes: list[int]) -> None:
    found: dict[str, dict[int, float]] = {"plain": {}, "trailing, a new high each tick": {}}
    for size in sizes:
        count = max(5, min(TICKS_MAX, WORK // size))
        emulator = Emulator()
        for number in range(size):
            emulator.plain(Decimal(50_000) - Decimal(number % 10_000) / 10)
        prices = [Decimal(60_000) + Decimal(step % 7) / 10 for step in range(count)]
        found["plain"][size] = min(emulator.ns_per_tick(prices) for _ in range(3))
        emulator = Emulator()
        for number in range(size):
            emulator.trailing(Decimal(1000) + Decimal(number) / 10)
        rising = [Decimal(60_001) + Decimal(step) / 10 for step in range(count)]
        found["trailing, a new high each tick"][size] = emulator.ns_per_tick(rising)
    print(json.dumps(found))


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]])
