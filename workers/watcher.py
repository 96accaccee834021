"""The watcher process: public ticks -> level book -> closes; private sockets -> what changed outside."""

import asyncio
import gc
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import uvloop
from redis.exceptions import RedisError

from app.domain.level import Level, LevelKind, would_fire
from app.domain.level_book import LevelBook
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
from app.venues.base import Trade, Venue
from app.venues.bybit_stream import BybitPrivateStream
from workers.feed import Feed
from workers.stop import heed_cancellation, until_asked_to_stop

log = logging.getLogger("watcher")

LEASE = "watcher"
LEASE_TTL_S = 3.0
RENEW_S = 0.75
SAFETY_MARGIN_S = 0.25  # of the lease: nothing fires in its last moments
RELOAD_S = 5.0  # everything anew, for changes whose ring was lost
RELOAD_CHUNK = 500  # levels between two breaths of the event loop
PERSIST_S = 0.25
REPORT_S = 1.0
SILENCE_S = 2.0  # without a trade of a symbol (no link, a silent one, a quiet market): its price is asked for
SUBSCRIBED_S = 1.0  # after this a new symbol's trades arrive
FRESH = timedelta(seconds=1)  # a last price older than a level by more says nothing about it
CHANGE_PAUSE_S = 0.3  # lets the worker settle its own fills before the account is read
REFIRE_S = 0.5
DRAIN_S = 8.0


class LeaseLost(LevelheadError):
    """Another watcher took over, or the database was away too long: stop at once; the supervisor starts anew."""


class Watcher:
    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.id = new_id()
        self.feeds: dict[str, Feed] = {}  # socket origin -> feed
        self.connected: dict[UUID, Connected] = {}  # account id -> its venue; at hand, so that a fire reads nothing
        self.armed: dict[UUID, Armed] = {}  # level id -> level
        self.of_position: defaultdict[UUID, set[UUID]] = defaultdict(set)  # position id -> ids of its armed levels
        self.fired: set[UUID] = set()  # levels: each fires once
        self.ending: set[UUID] = set()  # positions whose closing order is on its way: nothing else of theirs fires
        self.memory = reconcile.Memory()
        self.token = 0  # of the lease
        self.lease_until = 0.0  # monotonic
        self.draining = False
        self.in_flight: set[asyncio.Task[None]] = set()  # fires whose record is not complete
        self.group = asyncio.TaskGroup()
        self._private: dict[UUID, asyncio.Task[None]] = {}  # account id -> its private stream
        self._reloading = asyncio.Lock()
        self._extremes: dict[UUID, tuple[Decimal, datetime | None]] = {}  # not stored yet

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self._take_lease()
        event(log, logging.INFO, "watcher ready")
        try:
            async with self.group as group:
                group.create_task(self._keep_lease())
                group.create_task(self._listen())
                group.create_task(self._reload_for_ever())
                for seconds, what in (
                    (PERSIST_S, self._persist),
                    (1.0, self._ask_prices),
                    (REPORT_S, self._report),
                ):
                    group.create_task(self._every(seconds, what))
        finally:
            with suppress(LevelheadError, OSError), store_errors():
                await leases.release(self.resources.pool, LEASE, self.id, self.token)

    def may_fire(self) -> bool:
        """Only the holder of the lease fires, with time left on it."""
        return time.monotonic() < self.lease_until and not self.draining

    async def drain(self) -> None:
        """Fire nothing more, and let what was sent be recorded."""
        self.draining = True
        if self.in_flight:
            await asyncio.wait(self.in_flight, timeout=DRAIN_S)

    async def _take_lease(self) -> None:
        """Wait until the symbols are ours."""
        while True:
            asked = time.monotonic()
            with store_errors():
                token = await leases.acquire(self.resources.pool, LEASE, self.id, ttl_s=LEASE_TTL_S)
            if token is not None:
                self.token = token
                self.lease_until = asked + LEASE_TTL_S - SAFETY_MARGIN_S
                return
            await asyncio.sleep(RENEW_S / 2)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            asked = time.monotonic()
            try:
                with store_errors():
                    ours = await leases.renew(self.resources.pool, LEASE, self.id, self.token, ttl_s=LEASE_TTL_S)
            except LevelheadError as error:
                if not self.may_fire() and not self.draining:
                    raise LeaseLost(f"the watcher's lease ran out: {error}") from error
                continue
            if not ours:
                raise LeaseLost("another watcher has taken over")
            self.lease_until = asked + LEASE_TTL_S - SAFETY_MARGIN_S
            for feed in self.feeds.values():
                if feed.linked and feed.gap_from is not None:
                    self._inspect_gap(feed)  # ticks passed by while the lease was in doubt

    async def _every(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        while True:
            heed_cancellation()
            await asyncio.sleep(seconds)
            await self._guarded(what)

    async def _guarded(self, what: Callable[..., Awaitable[object]], *args: object) -> None:
        """A failure is said and does not end the process: the next ring, reload or tick comes."""
        try:
            await what(*args)
        except (LevelheadError, OSError) as error:
            event(log, logging.WARNING, "will try again", why=str(error) or repr(error))
        except Exception:
            log.exception("unexpected")

    # -- what is armed -----------------------------------------------------------------------------------------------

    async def _reload_for_ever(self) -> None:
        await self._reload()
        gc.collect()
        gc.freeze()  # a full collection over all levels would stop everything for milliseconds
        for feed in self.feeds.values():
            self._inspect_gap(feed)
        await self._every(RELOAD_S, self._reload)

    async def _reload(self) -> None:
        """Everything anew from the tables."""
        async with self._reloading:
            with store_errors():
                used = await positions.symbols_to_watch(self.resources.pool)
                armed = await levels.armed(self.resources.pool)
            for account_id in {account_id for account_id, _ in used}:
                await self._guarded(self._connect, account_id)
            for account_id, symbol in used:
                await self._guarded(self._follow, account_id, symbol)
            for level_id in set(self.armed) - {one.level.id for one in armed}:
                self._disarm(level_id)
            for number, one in enumerate(armed):
                if number % RELOAD_CHUNK == RELOAD_CHUNK - 1:
                    await asyncio.sleep(0)
                await self._guarded(self._arm, one)

    async def _reload_position(self, position_id: UUID) -> None:
        async with self._reloading:
            with store_errors():
                armed = await levels.armed(self.resources.pool, position_id)
            for level_id in self.of_position.get(position_id, set()) - {one.level.id for one in armed}:
                self._disarm(level_id)
            for one in armed:
                await self._arm(one)

    async def _arm(self, one: Armed) -> None:
        level = one.level
        if level.id in self.fired or level.position_id in self.ending:
            return
        known = self.armed.get(level.id)
        if known is not None and (known.level.order_id, known.level.armed_at) == (level.order_id, level.armed_at):
            return
        feed = await self._follow(one.account_id, one.symbol)
        self.armed[level.id] = one
        self.of_position[level.position_id].add(level.id)
        feed.books.setdefault(one.symbol, LevelBook()).arm(level)  # keeps the further of the two extremes
        if known is not None:
            return
        last = feed.last.get(one.symbol)
        if last is not None and feed.linked and _instant(last[1]) >= level.armed_at - FRESH:
            feed.on_price(one.symbol, last[0])  # it may have gone through it while it was being committed
        if one.symbol not in feed.heard:
            self.group.create_task(self._inspect_soon(feed, one.symbol))

    def _disarm(self, level_id: UUID) -> None:
        one = self.armed.pop(level_id)
        self._forget(one)
        self._feed(one.account_id).books[one.symbol].disarm(level_id)

    def _forget(self, one: Armed) -> None:
        ids = self.of_position[one.level.position_id]
        ids.discard(one.level.id)
        if not ids:
            del self.of_position[one.level.position_id]

    async def _follow(self, account_id: UUID, symbol: str) -> Feed:
        """The feed of this account's venue, with this symbol subscribed."""
        if account_id not in self.connected:
            await self._connect(account_id)
        feed = self._feed(account_id)
        feed.follow(symbol)
        return feed

    def _feed(self, account_id: UUID) -> Feed:
        return self.feeds[self.connected[account_id].origins.ws]

    async def _connect(self, account_id: UUID) -> None:
        """Have the account's venue at hand, its connections warm, and its two streams running."""
        connected = await self.resources.venues.of(account_id)
        if self.connected.get(account_id) is connected:
            return
        self.connected[account_id] = connected
        if connected.origins.ws not in self.feeds:
            feed = Feed(connected.origins, may_fire=self.may_fire, on_crossed=self.fire, on_back=self._inspect_gap)
            self.feeds[connected.origins.ws] = feed
            self.group.create_task(feed.stream.run())
        if account_id in self._private:
            self._private[account_id].cancel()
        self._private[account_id] = self.group.create_task(
            self._guarded(self._read_when_changed, account_id, connected)
        )

    async def _listen(self) -> None:
        """Hear of changes; while Redis is away, look at everything again and again."""
        while True:
            heed_cancellation()
            try:
                async with self.resources.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(LEVELS)
                    await self._guarded(self._reload)
                    while True:
                        heed_cancellation()
                        message = await channel.get_message(timeout=2.0)
                        if message is not None:
                            await self._guarded(self._heard, message["data"].decode())
            except (RedisError, OSError):
                await asyncio.sleep(REFIRE_S)
                await self._guarded(self._reload)

    async def _heard(self, message: str) -> None:
        if message.startswith("+"):
            account_id, symbol = message[1:].split(":", 1)
            await self._follow(UUID(account_id), symbol)
        else:
            await self._reload_position(UUID(message))

    # -- firing ------------------------------------------------------------------------------------------------------

    def fire(self, level: Level, price: Decimal | None, trade_id: str | None) -> None:
        """Called once per crossed level, from the tick itself; the level has left the book."""
        one = self.armed.pop(level.id, None)
        if one is None:
            return
        self._forget(one)
        self.fired.add(level.id)
        task = self.group.create_task(self._fire(msgspec.structs.replace(one, level=level), price, trade_id))
        self.in_flight.add(task)
        task.add_done_callback(self.in_flight.discard)
        if level.kind is not LevelKind.TAKE_PROFIT:
            # It closes all that is held: the position's other levels have nothing left to close.
            self.ending.add(level.position_id)
            for other in list(self.of_position.get(level.position_id, ())):
                self._disarm(other)

    async def _fire(self, one: Armed, price: Decimal | None, trade_id: str | None) -> None:
        """Until it is sent and recorded. Sending it again is safe: the same client order id, and reduce-only."""
        while True:
            try:
                await protect.fire(self.resources, self.connected[one.account_id], one, price, trade_id)
                break
            except Exception as error:
                event(log, logging.ERROR, "fire failed, firing again", symbol=one.symbol, kind=one.level.kind,
                      error=repr(error))  # fmt: skip
                await asyncio.sleep(REFIRE_S)
        self.ending.discard(one.level.position_id)
        await self._guarded(self._reload_position, one.level.position_id)

    # -- gaps --------------------------------------------------------------------------------------------------------

    def _inspect_gap(self, feed: Feed) -> None:
        """Ticks were missed (a restart, a lost link, a lease in doubt): what was traded meanwhile counts as well."""
        judged_ms = feed.end_gap()
        for symbol, book in feed.books.items():
            if len(book):
                self.group.create_task(self._guarded(self._inspect, feed, symbol, judged_ms.get(symbol, 0)))

    async def _inspect_soon(self, feed: Feed, symbol: str) -> None:
        """A symbol that is new here: what was traded before its first trade arrived counts as well."""
        await asyncio.sleep(SUBSCRIBED_S)
        await self._guarded(self._inspect, feed, symbol, 0)

    async def _inspect(self, feed: Feed, symbol: str, judged_ms: int) -> None:
        """Judge what was traded after `judged_ms`, for each level from when on it is to be judged."""
        waiting = sorted(
            ((max(level.judged_from, _instant(judged_ms)), level) for level in feed.books[symbol].levels()),
            key=lambda pair: pair[0],
        )
        if not waiting:
            return
        venue = self._any_connected(feed).venue
        trades = await venue.trades_since(symbol, waiting[0][0])
        if trades is not None:
            self._replay(feed, symbol, waiting, trades)
        else:
            # A minute in which a level's time began also shows prices from before: only whole minutes count.
            for candle in await venue.candles_since(symbol, waiting[0][0]):
                judged = [level for since, level in waiting if since <= candle.start]
                crossed = [level for level in judged if would_fire(level, candle.high, candle.low)]
                for level in sorted(crossed, key=lambda level: level.kind is LevelKind.TAKE_PROFIT):
                    self._fire_missed(feed, symbol, level, level.trigger_price, None)
        feed.on_price(symbol, (await venue.quote(symbol)).last)

    def _replay(self, feed: Feed, symbol: str, waiting: list[tuple[datetime, Level]], trades: list[Trade]) -> None:
        """Play the missed trades to a copy of the book, each level from its own moment on."""
        copy = LevelBook()
        for trade in trades:
            at = _instant(trade.at_ms)
            while waiting and waiting[0][0] < at:
                copy.arm(waiting.pop(0)[1])
            for level in copy.on_price(trade.price):
                self._fire_missed(feed, symbol, level, trade.price, trade.trade_id)
        for level in copy.levels():
            if level.id in self.armed:
                feed.books[symbol].arm(level)

    def _fire_missed(self, feed: Feed, symbol: str, level: Level, price: Decimal | None, trade_id: str | None) -> None:
        if level.id in self.armed and self.may_fire():
            event(log, logging.WARNING, "crossed while nobody watched", symbol=symbol, kind=level.kind)
            feed.books[symbol].disarm(level.id)
            self.fire(level, price, trade_id)

    # -- the rest ----------------------------------------------------------------------------------------------------

    async def _persist(self) -> None:
        """Last prices for whoever asks, and how far the trailing stops have come."""
        for feed in list(self.feeds.values()):
            unsaved, feed.unsaved = feed.unsaved, set()
            await self.resources.prices.put(feed.origins.rest, {symbol: feed.last[symbol] for symbol in unsaved})
            for symbol, book in list(feed.books.items()):
                judged_ms = feed.judged_ms.get(symbol)
                at = None if judged_ms is None else _instant(judged_ms)
                self._extremes |= {x.id: (x.extreme, at) for x in book.changed() if x.extreme is not None}
        if self._extremes:
            unstored, self._extremes = self._extremes, {}
            try:
                with store_errors():
                    rows = [(level_id, extreme, at) for level_id, (extreme, at) in unstored.items()]
                    await levels.save_extremes(self.resources.pool, rows, token=self.token)
            except LevelheadError:
                self._extremes = unstored | self._extremes
                raise

    async def _report(self) -> None:
        """How well each symbol is heard, for health."""
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

    async def _ask_prices(self) -> None:
        """A symbol of which nothing is heard has its price asked for."""
        for feed in list(self.feeds.values()):
            silent = feed.silent(SILENCE_S)
            if silent:
                venue = self._any_connected(feed).venue
                await asyncio.gather(*(self._guarded(self._ask_price, feed, venue, symbol) for symbol in silent))

    async def _ask_price(self, feed: Feed, venue: Venue, symbol: str) -> None:
        feed.on_price(symbol, (await venue.quote(symbol)).last)

    async def _read_when_changed(self, account_id: UUID, connected: Connected) -> None:
        """Read the account again whenever its private stream says that something changed."""
        await self._guarded(connected.venue.server_time)  # from here on its connections are kept warm for a fire
        changed = asyncio.Event()
        credentials = await accounts.credentials_of(self.resources.pool, self.resources.keys, account_id)
        origin = connected.origins.ws_private or connected.origins.ws
        stream = asyncio.create_task(BybitPrivateStream(origin, credentials, lambda symbol: changed.set()).run())
        try:
            while True:
                await changed.wait()
                await asyncio.sleep(CHANGE_PAUSE_S)
                changed.clear()
                await self._guarded(reconcile.account, self.resources, account_id, self.memory)
        finally:
            stream.cancel()

    def _any_connected(self, feed: Feed) -> Connected:
        """Some account at this feed's venue, for what is public."""
        for connected in self.connected.values():
            if connected.origins.ws == feed.origins.ws:
                return connected
        raise Refused("no_account", "no account trades on this feed any more")


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


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
