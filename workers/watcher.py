"""The watcher process: public ticks -> level book -> closes; private sockets -> what changed outside."""

import asyncio
import gc
import logging
import time
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import uvloop
from redis.exceptions import RedisError

from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.refusals import Outcome
from app.errors import LevelheadError, Refused
from app.ids import new_id
from app.log import event
from app.queue import LEVELS, SymbolFeed
from app.resources import Connected, Resources, open_resources
from app.settings import Settings
from app.store import leases, levels, positions
from app.store.db import store_errors
from app.store.levels import Armed
from app.venues.base import Venue
from app.venues.numbers import instant
from workers.feed import Feed
from workers.fires import fire
from workers.gaps import SUBSCRIBED_S, Gaps
from workers.private import AccountStreams
from workers.stop import heed_cancellation, until_asked_to_stop
from workers.turns import every, guarded

log = logging.getLogger("watcher")

LEASE = "watcher"
LEASE_TTL_S = 3.0
RENEW_S = 0.75
SAFETY_MARGIN_S = 0.25  # of the lease: nothing fires in its last moments
RELOAD_S = 5.0  # everything anew, for changes whose ring was lost
RELOAD_CHUNK = 500  # levels between two breaths of the event loop
PERSIST_S = 0.25
REPORT_S = 1.0
ASK_S = 1.0
FRESH = timedelta(seconds=1)  # a last price older than a level by more says nothing about it
REDIS_PAUSE_S = 0.5
DRAIN_S = 8.0


class LeaseLost(LevelheadError):
    """Another watcher took over, or the database was away too long: stop at once; the supervisor starts anew."""


class Watcher:
    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.id = new_id()
        self.feeds: dict[tuple[str, str], Feed] = {}  # (venue, socket origin) -> feed
        self.connected: dict[UUID, Connected] = {}  # account id -> its venue; at hand, so that a fire reads nothing
        self.armed: dict[UUID, Armed] = {}  # level id -> level
        self.of_position: defaultdict[UUID, set[UUID]] = defaultdict(set)  # position id -> ids of its armed levels
        self.fired: set[UUID] = set()  # levels: each fires once
        self.ending: set[UUID] = set()  # positions whose closing order is on its way: nothing else of theirs fires
        self.inherited: set[str] | None = None  # client order ids that a watcher before us may have sent; None: all
        self.token = 0  # of the lease
        self.taken_at = 0.0  # monotonic: since when the lease is ours
        self.lease_until = 0.0  # monotonic
        self.draining = False
        self.in_flight: set[asyncio.Task[None]] = set()  # fires whose record is not complete
        self.group = asyncio.TaskGroup()
        self.accounts = AccountStreams(resources, self.id)
        self.gaps = Gaps(
            armed=self.armed,
            venue_of=self._any_venue,
            may_fire=self.may_fire,
            on_crossed=self.fire,
            group=self.group,
        )
        self._reloading = asyncio.Lock()
        self._extremes: dict[UUID, tuple[Decimal, datetime | None]] = {}  # not stored yet

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self._take_lease()
        event(log, logging.INFO, "watcher ready")
        try:
            async with self.group as group:
                group.create_task(self._keep_lease())
                group.create_task(self.accounts.run())
                group.create_task(self._listen())
                group.create_task(self._reload_for_ever())
                for seconds, what in (
                    (PERSIST_S, self._persist),
                    (ASK_S, self._ask_prices),
                    (REPORT_S, self._report),
                ):
                    group.create_task(every(seconds, what))
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
                self.token, self.taken_at = token, time.monotonic()
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
                if feed.linked and feed.gap is not None:
                    self.gaps.inspect_all(feed)  # ticks passed by while the lease was in doubt

    # -- what is armed -----------------------------------------------------------------------------------------------

    async def _reload_for_ever(self) -> None:
        await self._reload()
        gc.collect()
        gc.freeze()  # a full collection over all levels would stop everything for milliseconds
        for feed in self.feeds.values():
            self.gaps.inspect_all(feed)
        await every(RELOAD_S, self._reload)

    async def _reload(self) -> None:
        """Everything anew from the tables."""
        async with self._reloading:
            with store_errors():
                used = await positions.symbols_to_watch(self.resources.pool)
                armed = await levels.armed(self.resources.pool)
            if self.inherited is None:
                self.inherited = {one.client_order_id for one in armed}
            for account_id in {account_id for account_id, _ in used}:
                await guarded(self._connect, account_id)
            for account_id, symbol in used:
                await guarded(self._follow, account_id, symbol)
            for level_id in set(self.armed) - {one.level.id for one in armed}:
                self._disarm(level_id)
            for number, one in enumerate(armed):
                if number % RELOAD_CHUNK == RELOAD_CHUNK - 1:
                    await asyncio.sleep(0)
                await guarded(self._arm, one)
            for feed in self.feeds.values():
                feed.trim()

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
        feed = await self._follow(one.account_id, one.symbol, level.trigger_by)
        if known is not None and known.level.trigger_by is not level.trigger_by:
            feed.disarm(one.symbol, known.level)
        self.armed[level.id] = one
        self.of_position[level.position_id].add(level.id)
        feed.arm(one.symbol, level)
        if known is not None:
            return
        last = feed.prices[level.trigger_by].get(one.symbol)
        if last is not None and feed.linked and instant(last[1]) >= level.armed_at - FRESH:
            # It may have gone through it while it was being committed.
            feed.on_price(one.symbol, level.trigger_by, last[0])
        if one.symbol not in feed.heard[level.trigger_by]:
            self.gaps.inspect(feed, one.symbol, after_s=SUBSCRIBED_S)

    def _disarm(self, level_id: UUID) -> None:
        one = self.armed.pop(level_id)
        self._forget(one)
        self._feed(one.account_id).disarm(one.symbol, one.level)

    def _forget(self, one: Armed) -> None:
        ids = self.of_position[one.level.position_id]
        ids.discard(one.level.id)
        if not ids:
            del self.of_position[one.level.position_id]

    async def _follow(self, account_id: UUID, symbol: str, by: TriggerBy = TriggerBy.LAST) -> Feed:
        """The feed of this account's venue, with this symbol subscribed."""
        if account_id not in self.connected:
            await self._connect(account_id)
        feed = self._feed(account_id)
        feed.follow(symbol, by)
        return feed

    def _feed(self, account_id: UUID) -> Feed:
        return self.feeds[_feed_key(self.connected[account_id])]

    async def _connect(self, account_id: UUID) -> None:
        """Have the account's venue at hand, its connections warm, and its two streams running."""
        connected = await self.resources.venues.of(account_id)
        if self.connected.get(account_id) is connected:
            return
        key = _feed_key(connected)
        if key not in self.feeds:
            feed = Feed(
                connected.account.venue,
                connected.origins,
                may_fire=self.may_fire,
                on_crossed=self.fire,
                on_back=self.gaps.inspect_all,
                on_missed=self.gaps.inspect,
            )
            self.feeds[key] = feed
            self.group.create_task(feed.stream.run())
        if account_id in self.connected and self._feed(account_id) is not self.feeds[key]:
            for one in [one for one in self.armed.values() if one.account_id == account_id]:
                self._disarm(one.level.id)  # armed at the new feed by who reloads
        self.connected[account_id] = connected
        self.group.create_task(guarded(connected.venue.server_time))  # kept warm for a fire from here on
        self.accounts.want(connected)

    async def _listen(self) -> None:
        """Hear of changes; while Redis is away, look at everything again and again."""
        while True:
            heed_cancellation()
            try:
                async with self.resources.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(LEVELS)
                    await guarded(self._reload)
                    while True:
                        heed_cancellation()
                        message = await channel.get_message(timeout=2.0)
                        if message is not None:
                            await guarded(self._heard, message["data"].decode())
            except (RedisError, OSError):
                await asyncio.sleep(REDIS_PAUSE_S)
                await guarded(self._reload)

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
        task = self.group.create_task(self._fire(one, price, trade_id))
        self.in_flight.add(task)
        task.add_done_callback(self.in_flight.discard)
        if level.kind is not LevelKind.TAKE_PROFIT:
            # It closes all that is held: the position's other levels have nothing left to close.
            self.ending.add(level.position_id)
            for other in list(self.of_position.get(level.position_id, ())):
                self._disarm(other)

    async def _fire(self, one: Armed, price: Decimal | None, trade_id: str | None) -> None:
        inherited = self.inherited is None or one.client_order_id in self.inherited
        await fire(
            self.resources,
            self.connected[one.account_id],
            one,
            price,
            trade_id,
            inherited_at=self.taken_at if inherited else None,
        )
        self.ending.discard(one.level.position_id)
        await guarded(self._reload_position, one.level.position_id)

    # -- the rest ----------------------------------------------------------------------------------------------------

    async def _persist(self) -> None:
        """Last prices for whoever asks, and how far the trailing stops have come."""
        prices = self.resources.prices
        for feed in list(self.feeds.values()):
            for by, put in ((TriggerBy.LAST, prices.put), (TriggerBy.MARK, prices.put_marks)):
                unsaved, feed.unsaved[by] = feed.unsaved[by], set()
                await put(feed.market, {symbol: feed.prices[by][symbol] for symbol in unsaved})
            for by, books in feed.books.items():
                for symbol, book in list(books.items()):
                    if by is not TriggerBy.LAST or self.gaps.all_judged(feed, symbol):
                        at = self._judged_to(feed, by, symbol)
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

    def _judged_to(self, feed: Feed, by: TriggerBy, symbol: str) -> datetime | None:
        """Exchange time up to which prices are in the extremes."""
        if by is TriggerBy.LAST:
            return instant(feed.judged_ms[symbol]) if symbol in feed.judged_ms else None
        return instant(feed.prices[by][symbol][1]) if symbol in feed.prices[by] else None

    async def _report(self) -> None:
        """How well each symbol is heard, for health."""
        now = time.monotonic()
        await self.resources.prices.put_feeds(
            [
                SymbolFeed(
                    symbol=symbol,
                    linked=feed.linked,
                    age_ms=int((now - heard[symbol]) * 1000) if symbol in heard else None,
                    levels=feed.levels(symbol),
                )
                for feed in self.feeds.values()
                for heard in (feed.heard[TriggerBy.LAST],)
                for symbol in sorted(feed.topics)
            ]
        )

    async def _ask_prices(self) -> None:
        """A symbol of which nothing is heard has its prices asked for."""
        await asyncio.gather(*(self.gaps.ask_prices(feed) for feed in list(self.feeds.values())))

    def _any_venue(self, feed: Feed) -> Venue:
        """Some account's at this feed's venue, for what is public."""
        for connected in self.connected.values():
            if self.feeds[_feed_key(connected)] is feed:
                return connected.venue
        raise Refused(Outcome.NO_ACCOUNT, "no account trades on this feed any more")


def _feed_key(connected: Connected) -> tuple[str, str]:
    return (connected.account.venue, connected.origins.ws)


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Ends with an error when the lease is lost."""
    async with open_resources(settings) as resources:
        await resources.venues.load()
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
