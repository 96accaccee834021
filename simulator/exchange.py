"""The running exchange: engine, prices, accounts' secrets, faults and request log, and who wants to hear what happened.

Faces add themselves to `on_prints` and `on_events`; nothing here knows their wire formats.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from simulator.engine import Engine
from simulator.faults import REST, FaultKind, Faults
from simulator.instruments import Instrument, built_in
from simulator.keys import ApiKey
from simulator.model import Account, Event, Order, Trade
from simulator.tape import Print, Tape

REQUESTS_KEPT = 200_000


class Config(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 8090  # 0: any free one
    prices: str = "random"  # random, manual, or the path of a trades file
    symbol: str | None = None  # of the file; None: from its name
    speed: float = 1.0  # of the file, times real time
    start_at: str | None = None  # in the file: HH:MM of its first day, or ISO, UTC
    seed: int = 7
    tick_ms: int = 100  # of the random walk
    state: str | None = None  # path of the state file
    api_key: str = "sim-key"
    api_secret: str = "sim-secret"
    balance: Decimal = Decimal(100_000)  # USDT of a new account


class Received(msgspec.Struct, kw_only=True):
    """A request as it came, for the ledger."""

    n: int
    received_at_ns: int  # wall clock when its bytes were parsed
    method: str
    path: str
    query: str
    body: Any
    api_key: str
    channel: str = REST
    frame: Any = (
        None  # of an order over a socket: all that came; method, path and body are the REST call's that does it
    )
    status: int | None = None  # None: never answered
    ret_code: int | None = None
    answered: bool = False


class Exchange:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.engine = Engine(built_in().values())
        self.keys: dict[str, ApiKey] = {}  # by api key, which is the account's name
        self.faults = Faults()
        self.requests: deque[Received] = deque(maxlen=REQUESTS_KEPT)
        self.requests_seen = 0
        self.market_data_paths: set[str] = set()  # of all faces; the ledger leaves them out
        self.tapes = {symbol: Tape(market.last) for symbol, market in self.engine.markets.items()}
        self.on_prints: list[Callable[[str, list[Print]], None]] = []
        self.on_events: list[Callable[[list[Event]], None]] = []
        self.changed = False  # something that the state file holds
        self._boot_ms = time.time_ns() // 1_000_000
        self._trades_made = 0
        self.engine.refuses_at_trigger = self._refuses_at_trigger
        self.add_account(config.api_key, ApiKey(secret=config.api_secret), config.balance)

    # --- clocks

    def now_ms(self) -> int:
        """The exchange's own clock, wrong by what a fault says."""
        skew = self.faults.find(FaultKind.CLOCK_SKEW, self.now_s())
        return time.time_ns() // 1_000_000 + (skew.ms or 0 if skew else 0)

    @staticmethod
    def now_s() -> float:
        """Monotonic, for spans."""
        return time.monotonic()

    # --- set-up

    def add_account(self, name: str, key: ApiKey, balance: Decimal | None = None) -> Account:
        self.keys[name] = key
        self.changed = True
        return self.engine.add_account(name, self.config.balance if balance is None else balance)

    def _refuses_at_trigger(self, order: Order) -> bool:
        fault = self.faults.take(FaultKind.REJECT_TRIGGER, self.now_s(), symbol=order.symbol)
        return fault is not None

    def put_instrument(self, instrument: Instrument) -> None:
        self.engine.put_instrument(instrument)
        self.tapes.setdefault(instrument.symbol, Tape(instrument.start_price))

    # --- what happens

    def new_trade_id(self) -> str:
        self._trades_made += 1
        return f"{self._boot_ms}-{self._trades_made}"

    def trade(self, symbol: str, trades: Iterable[Trade]) -> None:
        """The market prints these trades, in order: tape, engine, then the listeners."""
        now_ms = self.now_ms()
        tape, on_trade = self.tapes[symbol], self.engine.on_trade
        prints = []
        for trade in trades:
            prints.append(tape.add(trade, now_ms))
            on_trade(symbol, trade.price, now_ms)
        for listener in self.on_prints:
            listener(symbol, prints)
        self.flush()

    def flush(self) -> None:
        """Tell the listeners what the engine did."""
        events = self.engine.take_events()
        if not events:
            return
        self.changed = True
        for listener in self.on_events:
            listener(events)

    def reset(self, balance: Decimal | None) -> None:
        """Wipe orders, fills, positions, faults and requests of all accounts; keep modes, instruments and prices."""
        self.engine.take_events()
        for name, old in list(self.engine.accounts.items()):
            fresh = self.engine.add_account(name, self.config.balance if balance is None else balance)
            for kept in ("hedge", "hedge_symbols", "isolated", "isolated_symbols", "taker_fee", "maker_fee", "venue"):
                setattr(fresh, kept, getattr(old, kept))
        self.engine.restore(list(self.engine.accounts.values()), self.engine.seq)
        self.faults.clear()
        self.requests.clear()
        self.changed = True

    def received(self, **what: Any) -> Received:
        self.requests_seen += 1
        row = Received(n=self.requests_seen, **what)
        self.requests.append(row)
        return row
