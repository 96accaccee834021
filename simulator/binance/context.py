"""What the handlers of this face share: the exchange, its limits, listen keys and options."""

from collections.abc import Callable

import msgspec

from simulator.binance import names
from simulator.binance.errors import error
from simulator.binance.limits import Limits
from simulator.binance.listen_keys import ListenKeys
from simulator.binance.params import Params
from simulator.engine import Engine
from simulator.exchange import Exchange
from simulator.faults import FaultKind
from simulator.market import Market
from simulator.model import Order


class Options(msgspec.Struct, kw_only=True):
    """Of the whole face. Times in the unit of their name."""

    position_lag_ms: int = 0  # a position is there for closing stops only when this old: -4509 before
    cancel_lag_ms: int = 0  # a cancelled closing stop is in the way of the next one this long: -4130
    ping_interval_s: float = 180
    pong_wait_s: float = 600
    client_messages_1s: int = 10  # more on one link cut it
    listen_key_s: int = 3600
    order_link_s: float = 86_400  # then a link for orders is ended


class Context:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.limits = Limits(exchange)
        self.options = Options()
        self.listen_keys = ListenKeys(self.options, exchange.now_s)
        self.asked: dict[int, Asked] = {}  # by the engine's number of an order
        self.countdowns: dict[tuple[str, str], float] = {}  # (account, symbol) -> monotonic end
        self.on_listen_key_end: Callable[[str, bool], None] = lambda key, told: None
        self.on_leverage: Callable[[str, str, int], None] = lambda account, symbol, leverage: None

    @property
    def engine(self) -> Engine:
        return self.exchange.engine

    def now_ms(self) -> int:
        return self.exchange.now_ms()

    def end_listen_key(self, account: str, *, told: bool) -> bool:
        """`told`: it ran out, which its links hear of and survive; else it was closed and they end with it."""
        key = self.listen_keys.end(account)
        if key is not None:
            self.on_listen_key_end(key, told)
        return key is not None

    def tell_leverage(self, account: str, symbol: str, leverage: int) -> None:
        self.on_leverage(account, symbol, leverage)

    def market(self, params: Params) -> Market:
        """That of the mandatory parameter `symbol`."""
        return self.market_named(params.text("symbol"))

    def market_named(self, name: str) -> Market:
        for engine_symbol in names.engine_symbols(name):
            if (market := self.engine.markets.get(engine_symbol)) is not None:
                return market
        raise error(-1121)

    def maybe_market(self, params: Params) -> Market | None:
        return None if params.maybe("symbol") is None else self.market(params)

    def asked_of(self, order: Order) -> "Asked":
        return self.asked.get(order.seq) or Asked()

    def is_hidden(self, changed_ms: int, path: str, symbol: str) -> bool:
        """Whether a query does not see yet what happened then (a fault)."""
        now_s = self.exchange.now_s()
        late = self.exchange.faults.find(FaultKind.LATE_VISIBLE, now_s, path=path, symbol=symbol)
        return late is not None and self.now_ms() - changed_ms < (late.ms or 0)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller said of an order that the engine has no use for but answers repeat."""

    price_protect: bool = False
    stp: str = "EXPIRE_MAKER"
    good_till_ms: int = 0
    time_in_force: str = ""
