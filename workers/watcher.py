"""The watcher process: public ticks -> level book -> closes; private sockets -> what changed outside."""

import asyncio
import gc
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import uvloop
from redis.exceptions import RedisError

from app.domain.level import Level, LevelBook, LevelKind, would_fire
from app.errors import LevelheadError, Refused
from app.flows import protect, reconcile
from app.ids import new_id
from app.log import event
from app.queue import LEVELS, SymbolFeed
from app.resources import Connected, Resources, open_resources
from app.settings import Settings
from app.store import accounts, leases, levels, positions
from app.store.db import store_errors
from app.store.levels import Armed
from app.venues.base import Origins, Trade
from app.venues.bybit_stream import BybitPrivateStream, BybitPublicStream
from workers.stop import until_asked_to_stop

log = logging.getLogger("watcher")

LEASE = "watcher"
LEASE_TTL_S = 3.0
RENEW_S = 0.75
SAFETY_MARGIN_S = 0.25  # of the lease: nothing fires in its last moments
RELOAD_S = 5.0  # everything anew, for changes whose ring was lost
PERSIST_S = 0.25
SILENCE_S = 2.0  # without the link, or without a trade of a symbol, this long: its price is asked for by REST
LOOK_BACK = timedelta(seconds=2)  # before the last sign of life, when a gap is inspected
CHANGE_PAUSE_S = 0.3  # lets the worker settle its own fills before the account is read
REFIRE_S = 0.5
DRAIN_S = 8.0


class LeaseLost(LevelheadError):
    """Another watcher took over, or the database was away too long: stop at once; the supervisor starts anew."""


class Feed:
    """One venue's public stream with the level books of its symbols."""

    def __init__(self, origins: Origins, watcher: "Watcher") -> None:
        self.origins = origins
        self.books: dict[str, LevelBook] = {}
        self.last: dict[str, tuple[Decimal, int]] = {}  # symbol -> (price, exchange time in ms)
        self.unsaved: set[str] = set()
        self.symbols: set[str] = set()
        self.heard: dict[str, float] = {}  # symbol -> monotonic time of its last trade
        self.linked = False
        self.lost_at: datetime | None = None
        self.watcher = watcher
        self.stream = BybitPublicStream(origins.ws, self.on_trades, self.on_link)

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """The path of a tick: nothing here waits."""
        now = time.monotonic()
        for trade in trades:
            symbol = trade.symbol
            self.heard[symbol] = now
            self.last[symbol] = (trade.price, trade.at_ms)
            self.unsaved.add(symbol)
            book = self.books.get(symbol)
            if book is not None:
                for level in book.on_price(trade.price):
                    self.watcher.fire(level, trade.price, trade.trade_id)

    def on_price(self, symbol: str, price: Decimal) -> None:
        """A price that was asked for by REST."""
        book = self.books.get(symbol)
        if book is not None:
            for level in book.on_price(price):
                self.watcher.fire(level, price, None)

    def on_link(self, up: bool) -> None:
        self.linked = up
        if up:
            self.watcher.inspect_gaps(self, self.lost_at)
            self.lost_at = None
        else:
            self.lost_at = datetime.now(UTC)
            event(log, logging.WARNING, "ticks lost: asking for prices until the stream is back", feed=self.origins.ws)


class Watcher:
    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.id = new_id()
        self.feeds: dict[str, Feed] = {}
        self.armed: dict[UUID, Armed] = {}  # level id -> level
        self.of_position: defaultdict[UUID, set[UUID]] = defaultdict(set)  # position id -> ids of its armed levels
        self.fired: set[UUID] = set()  # levels: each fires once
        self.ending: set[UUID] = set()  # positions whose closing order is on its way: nothing else of theirs fires
        self.feed_of_account: dict[UUID, Feed] = {}
        self.private: set[UUID] = set()
        self.memory = reconcile.Memory()
        self.token = 0  # of the lease
        self.lease_until = 0.0  # monotonic
        self.in_flight: set[asyncio.Task[None]] = set()  # fires whose record is not complete
        self.group = asyncio.TaskGroup()

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        last_seen = await self._take_lease()
        event(log, logging.INFO, "watcher ready")
        try:
            async with self.group as group:
                group.create_task(self._keep_lease())
                group.create_task(self._listen())
                group.create_task(self._reload_for_ever(last_seen))
                group.create_task(self._persist_for_ever())
                group.create_task(self._ask_prices_for_ever())
                group.create_task(self._report_for_ever())
        finally:
            with suppress(LevelheadError, OSError), store_errors():
                await leases.release(self.resources.pool, LEASE, self.id, self.token)

    async def _take_lease(self) -> datetime | None:
        """Wait until the symbols are ours; answers when a watcher was last alive."""
        pool = self.resources.pool
        while True:
            asked = time.monotonic()
            with store_errors():
                last = await leases.expires_at(pool, LEASE)
                token = await leases.acquire(pool, LEASE, self.id, ttl_s=LEASE_TTL_S)
            if token is not None:
                self.token = token
                self.lease_until = asked + LEASE_TTL_S - SAFETY_MARGIN_S
                return None if last is None else last - timedelta(seconds=LEASE_TTL_S) - LOOK_BACK
            await asyncio.sleep(RENEW_S / 2)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            asked = time.monotonic()
            try:
                with store_errors():
                    ours = await leases.renew(self.resources.pool, LEASE, self.id, self.token, ttl_s=LEASE_TTL_S)
            except LevelheadError as error:
                if time.monotonic() > self.lease_until:
                    raise LeaseLost(f"the watcher's lease ran out: {error}") from error
                continue
            if not ours:
                raise LeaseLost("another watcher has taken over")
            self.lease_until = asked + LEASE_TTL_S - SAFETY_MARGIN_S

    # -- what is armed -----------------------------------------------------------------------------------------------

    async def _reload_for_ever(self, last_seen: datetime | None) -> None:
        await self._reload()
        gc.collect()
        gc.freeze()  # a full collection over all levels would stop everything for milliseconds
        for feed in self.feeds.values():
            self.inspect_gaps(feed, last_seen)
        while True:
            await asyncio.sleep(RELOAD_S)
            await self._guarded(self._reload)

    async def _reload(self) -> None:
        """Everything anew from the tables."""
        with store_errors():
            used = await positions.symbols_to_watch(self.resources.pool)
            armed = await levels.armed(self.resources.pool)
        for account_id, symbol in used:
            await self._guarded(lambda a=account_id, s=symbol: self._follow(a, s))  # type: ignore[misc]
        known = {one.level.id for one in armed}
        for level_id in [level_id for level_id in self.armed if level_id not in known]:
            self._disarm(level_id)
        for one in armed:
            await self._arm(one)

    async def _reload_position(self, position_id: UUID) -> None:
        with store_errors():
            armed = await levels.armed(self.resources.pool, position_id)
        known = {one.level.id for one in armed}
        for level_id in self.of_position.get(position_id, set()) - known:
            self._disarm(level_id)
        for one in armed:
            await self._arm(one)

    async def _arm(self, one: Armed) -> None:
        if one.level.id in self.fired or one.level.position_id in self.ending:
            return
        feed = await self._follow(one.account_id, one.symbol)
        book = feed.books.setdefault(one.symbol, LevelBook())
        new = one.level.id not in self.armed
        self.armed[one.level.id] = one
        self.of_position[one.level.position_id].add(one.level.id)
        book.arm(one.level)  # keeps the further extreme of what it has seen and what was stored
        last = feed.last.get(one.symbol)
        if new and last is not None:
            # The price may have gone through it while it was being committed.
            feed.on_price(one.symbol, last[0])

    def _disarm(self, level_id: UUID) -> None:
        one = self.armed.pop(level_id)
        self._forget(one)
        feed = self.feed_of_account[one.account_id]
        feed.books[one.symbol].disarm(level_id)

    def _forget(self, one: Armed) -> None:
        ids = self.of_position[one.level.position_id]
        ids.discard(one.level.id)
        if not ids:
            del self.of_position[one.level.position_id]

    async def _follow(self, account_id: UUID, symbol: str) -> Feed:
        """The feed of this account's venue, with this symbol subscribed."""
        feed = self.feed_of_account.get(account_id)
        if feed is None:
            connected = await self.resources.venues.of(account_id)
            feed = self.feeds.get(connected.origins.ws)
            if feed is None:
                feed = self.feeds[connected.origins.ws] = Feed(connected.origins, self)
                self.group.create_task(feed.stream.run())
            self.feed_of_account[account_id] = feed
        if account_id not in self.private:
            self.private.add(account_id)
            self.group.create_task(self._private(account_id))
        if symbol not in feed.symbols:
            feed.symbols.add(symbol)
            feed.stream.want(set(feed.symbols))
        return feed

    async def _listen(self) -> None:
        """Hear of changes; after each silence of Redis, look at everything once."""
        while True:
            try:
                async with self.resources.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(LEVELS)
                    await self._guarded(self._reload)
                    while True:
                        message = await channel.get_message(timeout=2.0)
                        if message is not None:
                            await self._guarded(lambda m=message: self._heard(m["data"].decode()))  # type: ignore[misc]
            except (RedisError, OSError):
                await asyncio.sleep(REFIRE_S)

    async def _heard(self, message: str) -> None:
        if message.startswith("+"):
            account_id, symbol = message[1:].split(":", 1)
            await self._follow(UUID(account_id), symbol)
        else:
            await self._reload_position(UUID(message))

    # -- firing ------------------------------------------------------------------------------------------------------

    def fire(self, level: Level, price: Decimal | None, trade_id: str | None) -> None:
        """Called once per crossed level, from the tick itself; the level has left the book."""
        if time.monotonic() > self.lease_until:
            return  # another watcher may have it; ours ends in a moment
        one = self.armed.pop(level.id, None)
        if one is None:
            return
        self._forget(one)
        self.fired.add(level.id)
        if level.kind is not LevelKind.TAKE_PROFIT:
            # It closes all that is held: the position's other levels have nothing left to close.
            self.ending.add(level.position_id)
            for other in list(self.of_position.get(level.position_id, ())):
                self._disarm(other)
        task = self.group.create_task(self._fire(msgspec.structs.replace(one, level=level), price, trade_id))
        self.in_flight.add(task)
        task.add_done_callback(self.in_flight.discard)

    async def drain(self) -> None:
        """Fire nothing more, and let what was sent be recorded."""
        self.lease_until = 0.0
        if self.in_flight:
            await asyncio.wait(self.in_flight, timeout=DRAIN_S)

    async def _fire(self, one: Armed, price: Decimal | None, trade_id: str | None) -> None:
        try:
            connected = await self.resources.venues.of(one.account_id)
            await protect.fire(self.resources, connected, one, price, trade_id)
            self.ending.discard(one.level.position_id)
        except Exception as error:
            # It may have been sent. Sending it again is safe: the same client order id, and reduce-only.
            event(log, logging.ERROR, "fire failed, firing again", symbol=one.symbol, kind=one.level.kind,
                  error=repr(error))  # fmt: skip
            await asyncio.sleep(REFIRE_S)
            self.fired.discard(one.level.id)
            self.ending.discard(one.level.position_id)
            await self._guarded(lambda: self._fire_again(one, price, trade_id))

    async def _fire_again(self, one: Armed, price: Decimal | None, trade_id: str | None) -> None:
        with store_errors():
            still = await levels.armed(self.resources.pool, one.level.position_id)
        for other in still:
            if other.level.id == one.level.id:
                self.armed[one.level.id] = other
                self.of_position[one.level.position_id].add(one.level.id)
                self.fire(other.level, price, trade_id)

    # -- gaps --------------------------------------------------------------------------------------------------------

    def inspect_gaps(self, feed: Feed, since: datetime | None) -> None:
        """Ticks were missed (a restart, a lost link): what was traded meanwhile counts as well."""
        for symbol, book in feed.books.items():
            if len(book):
                self.group.create_task(self._guarded(lambda s=symbol: self._inspect(feed, s, since)))  # type: ignore[misc]

    async def _inspect(self, feed: Feed, symbol: str, since: datetime | None) -> None:
        waiting = sorted(
            (one.level for one in self.armed.values() if one.symbol == symbol and self._feed(one) is feed),
            key=lambda level: level.armed_at,
        )
        if not waiting:
            return
        start = max(waiting[0].armed_at, since) if since is not None else waiting[0].armed_at
        venue = (await self._connected(feed)).venue
        trades = await venue.trades_since(symbol, start)
        if trades is not None:
            self._replay(feed, symbol, waiting, trades)
        else:
            for candle in await venue.candles_since(symbol, start.replace(second=0, microsecond=0)):
                # A minute in which a level was armed also shows prices from before: only whole minutes count.
                crossed = [
                    level
                    for level in waiting
                    if level.armed_at <= candle.start and would_fire(level, candle.high, candle.low)
                ]
                for level in sorted(crossed, key=lambda level: level.kind is LevelKind.TAKE_PROFIT):
                    self._fire_missed(feed, symbol, level, level.price)
        feed.on_price(symbol, (await venue.quote(symbol)).last)

    def _replay(self, feed: Feed, symbol: str, waiting: list[Level], trades: list[Trade]) -> None:
        """Play the missed trades to a copy of the book, each level from the moment at which it was armed."""
        copy = LevelBook()
        for trade in trades:
            while waiting and waiting[0].armed_at.timestamp() * 1000 <= trade.at_ms:
                copy.arm(waiting.pop(0))
            for level in copy.on_price(trade.price):
                self._fire_missed(feed, symbol, level, trade.price, trade.trade_id)
        for level in copy.levels():
            if level.id in self.armed:
                feed.books[symbol].arm(level)

    def _fire_missed(
        self, feed: Feed, symbol: str, level: Level, price: Decimal | None, trade_id: str | None = None
    ) -> None:
        if level.id in self.armed:
            event(log, logging.WARNING, "crossed while nobody watched", symbol=symbol, kind=level.kind)
            feed.books[symbol].disarm(level.id)
            self.fire(level, price, trade_id)

    # -- the rest ----------------------------------------------------------------------------------------------------

    async def _persist_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PERSIST_S)
            await self._guarded(self._persist)

    async def _persist(self) -> None:
        """Last prices for whoever asks, and how far the trailing stops have come."""
        extremes: list[tuple[UUID, Decimal]] = []
        for feed in self.feeds.values():
            unsaved, feed.unsaved = feed.unsaved, set()
            await self.resources.prices.put(feed.origins.rest, {symbol: feed.last[symbol] for symbol in unsaved})
            for book in feed.books.values():
                extremes += [(x.id, x.extreme) for x in book.changed() if x.extreme is not None]
        if extremes:
            with store_errors():
                await levels.save_extremes(self.resources.pool, extremes)

    async def _report_for_ever(self) -> None:
        """How well each symbol is heard, for health."""
        while True:
            now = time.monotonic()
            await self.resources.prices.put_feeds(
                [
                    SymbolFeed(
                        symbol=symbol,
                        linked=feed.linked,
                        age_ms=int((now - feed.heard[symbol]) * 1000) if symbol in feed.heard else None,
                        levels=len(feed.books.get(symbol, ())),
                    )
                    for feed in self.feeds.values()
                    for symbol in sorted(feed.symbols)
                ]
            )
            await asyncio.sleep(1.0)

    async def _ask_prices_for_ever(self) -> None:
        """A symbol of which nothing is heard (no link, a silent one, a quiet market) has its price asked for."""
        while True:
            await asyncio.sleep(1.0)
            for feed in self.feeds.values():
                await self._guarded(lambda f=feed: self._ask_prices(f))  # type: ignore[misc]

    async def _ask_prices(self, feed: Feed) -> None:
        oldest = time.monotonic() - SILENCE_S
        silent = [s for s, book in feed.books.items() if len(book) and feed.heard.get(s, 0.0) < oldest]
        if silent:
            venue = (await self._connected(feed)).venue
            quotes = await asyncio.gather(*(venue.quote(symbol) for symbol in silent))
            for symbol, quote in zip(silent, quotes, strict=True):
                feed.on_price(symbol, quote.last)

    async def _private(self, account_id: UUID) -> None:
        """Read the account again whenever its private stream says that something changed."""
        changed = asyncio.Event()
        credentials = await accounts.credentials_of(self.resources.pool, self.resources.keys, account_id)
        feed = self.feed_of_account[account_id]
        connected = await self.resources.venues.of(account_id)
        await self._guarded(connected.venue.server_time)  # from here on its connections are kept warm for a fire
        origin = feed.origins.ws_private or feed.origins.ws
        stream = BybitPrivateStream(origin, credentials, lambda symbol: changed.set())
        self.group.create_task(stream.run())
        while True:
            await changed.wait()
            await asyncio.sleep(CHANGE_PAUSE_S)
            changed.clear()
            await self._guarded(lambda: reconcile.account(self.resources, account_id, self.memory))

    def _feed(self, one: Armed) -> Feed | None:
        return self.feed_of_account.get(one.account_id)

    async def _connected(self, feed: Feed) -> Connected:
        for account_id, of in self.feed_of_account.items():
            if of is feed:
                return await self.resources.venues.of(account_id)
        raise Refused("no_account", "no account trades on this feed any more")

    async def _guarded(self, what: Callable[[], Awaitable[object]]) -> None:
        """A failure is said and does not end the process: the next ring, reload or tick comes."""
        try:
            await what()
        except (LevelheadError, OSError) as error:
            event(log, logging.WARNING, "will try again", why=str(error) or repr(error))
        except Exception:
            log.exception("unexpected")


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Ends with an error when the lease is lost."""
    async with open_resources(settings) as resources:
        watcher = Watcher(resources)
        await until_asked_to_stop(watcher.run(), watcher.drain)


def serve(settings: Settings) -> int:
    """`levelhead watcher`."""
    code = 0
    try:
        uvloop.run(run(settings))
    except* LeaseLost as lost:
        event(log, logging.ERROR, "watcher stops", why=str(lost.exceptions[0]))
        code = 1
    return code
