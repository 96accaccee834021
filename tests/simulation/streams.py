"""Streams of the exchange: public trades and an account's events, late, twice, out of order, or not at all."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from app.domain.position import Fill
from app.venues.base import PrivateListener, PublicListener, Topic, Trade
from tests.simulation.exchange import Exchange
from tests.simulation.world import Proc

LINKS_S = 0.3
TELLS_S = 0.02
LATE_S = 3.0
SUBSCRIBES_S = 0.3


class PrivateStream:
    """An account's events, to one listener of one process."""

    def __init__(self, proc: Proc, exchange: Exchange, number: int, listener: PrivateListener) -> None:
        self._proc = proc
        self._exchange = exchange
        self._number = number
        self._listener = listener
        self._running = False

    async def run(self) -> None:
        loop = self._proc.world.loop
        await loop.pause(self._proc.world.chance.random() * LINKS_S)
        await self._proc.awake()
        self._running = True
        listeners = self._exchange.listeners[self._number]
        listeners.append(self)
        self._proc.on_death.append(self.end)
        self._listener.on_change("")
        try:
            await loop.create_future()
        finally:
            self.end()

    def end(self) -> None:
        self._running = False
        if self in self._exchange.listeners[self._number]:
            self._exchange.listeners[self._number].remove(self)

    def break_for(self, seconds: float) -> None:
        """Nothing is told meanwhile, and nothing of it afterwards either."""
        self._running = False
        self._proc.world.loop.later(seconds, self._back)

    def _back(self) -> None:
        if self in self._exchange.listeners[self._number]:
            self._running = True
            self._hand_over(None, "")

    def deliver(self, fill: Fill | None, symbol: str) -> bool:
        """Whether it is told at once."""
        world = self._proc.world
        if not self._running or self._proc.dead:
            return False
        if world.strikes("fills_lost"):
            world.injected("exchange", "event not told", symbol)
            return False
        seconds = world.chance.random() * TELLS_S
        if world.strikes("fills_late"):
            seconds = world.up_to("fills_late", LATE_S)
        world.loop.later(seconds, self._hand_over, fill, symbol)
        if world.strikes("fills_twice"):
            world.loop.later(seconds + world.up_to("fills_twice", LATE_S), self._hand_over, fill, symbol)
        return seconds <= TELLS_S

    def _hand_over(self, fill: Fill | None, symbol: str) -> None:
        proc = self._proc
        if proc.dead or not self._running:
            return
        if proc.stopped_until > proc.world.loop.now:
            proc.world.loop.later(proc.stopped_until - proc.world.loop.now, self._hand_over, fill, symbol)
            return
        if fill is not None:
            proc.context.run(self._listener.on_fills, [fill])
        proc.context.run(self._listener.on_change, symbol)


class PublicStream:
    """Public trades and prices, to one listener of one process, in their order."""

    def __init__(self, proc: Proc, exchange: Exchange, listener: PublicListener) -> None:
        self._proc = proc
        self._exchange = exchange
        self._listener = listener
        self._topics: Mapping[str, frozenset[Topic]] = {}
        self._wanted: dict[str, float] = {}  # symbol -> from when on it is heard
        self._last = 0.0  # when the last one will be told: none overtakes another
        self._linked = False
        self._links = 0
        self._silent: dict[str, float] = {}

    def want(self, topics: Mapping[str, frozenset[Topic]]) -> None:
        for symbol in topics.keys() - self._topics.keys():
            self._exchange.followed_ms[symbol].append(self._exchange.now_ms)
        world, self._topics = self._proc.world, topics
        for symbol in topics:
            if symbol not in self._wanted:
                self._wanted[symbol] = world.loop.now + world.chance.random() * SUBSCRIBES_S

    async def run(self) -> None:
        loop = self._proc.world.loop
        await loop.pause(self._proc.world.chance.random() * LINKS_S)
        await self._proc.awake()
        self._exchange.public.append(self.hear)
        self._exchange.streams.append(self)
        self._proc.on_death.append(self.end)
        self._link(True)
        try:
            await loop.create_future()
        finally:
            self.end()

    def end(self) -> None:
        self._links += 1
        self._linked = False
        if self.hear in self._exchange.public:
            self._exchange.public.remove(self.hear)
            self._exchange.streams.remove(self)

    def break_for(self, seconds: float) -> None:
        self._link(False)
        self._proc.world.loop.later(seconds, self._link, True)

    def silence(self, symbol: str, seconds: float) -> None:
        self._silent[symbol] = self._proc.world.loop.now + seconds

    def renew(self, symbol: str) -> None:
        """Subscribed anew: what was silent is heard again, if the exchange has come to itself."""

    def _link(self, up: bool) -> None:
        proc = self._proc
        if proc.dead or self not in self._exchange.streams:
            return
        if proc.stopped_until > proc.world.loop.now:
            proc.world.loop.later(proc.stopped_until - proc.world.loop.now, self._link, up)
            return
        if up is not self._linked:
            self._links += 1
            self._linked = up
            proc.context.run(self._listener.on_link, up)

    def hear(self, trade: Trade) -> None:
        """A trade took place."""
        self._tell(trade.symbol, partial(self._listener.on_trades, [trade]))

    def hear_prices(self, symbol: str, at_ms: int, mark: Decimal, bid: Decimal, ask: Decimal) -> None:
        """The other prices changed."""
        topics = self._topics.get(symbol, frozenset())
        if Topic.MARK in topics:
            self._tell(symbol, partial(self._listener.on_mark, symbol, mark, at_ms))
        if Topic.BOOK in topics:
            self._tell(symbol, partial(self._listener.on_book, symbol, bid, ask, at_ms))

    def _tell(self, symbol: str, what: Callable[[], None]) -> None:
        loop = self._proc.world.loop
        wanted = self._wanted.get(symbol)
        if not self._linked or wanted is None or wanted > loop.now or self._silent.get(symbol, 0.0) > loop.now:
            return
        lags = self._proc.world.up_to("ticks_late")
        self._last = max(self._last, loop.now + self._proc.world.chance.random() * TELLS_S + lags)
        loop.call_at(self._last, self._hand_over, what, self._links)

    def _hand_over(self, what: Callable[[], None], link: int) -> None:
        proc = self._proc
        if proc.dead or link != self._links:
            return
        if proc.stopped_until > proc.world.loop.now:
            proc.world.loop.call_at(proc.stopped_until, self._hand_over, what, link)
            return
        proc.context.run(what)
