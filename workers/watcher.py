"""The watcher process: public ticks -> level book -> closes; private sockets -> what changed outside."""

import asyncio
import gc
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import uvloop
from redis.exceptions import RedisError

from app import crash
from app.beat import beating
from app.domain.level import Level, LevelKind, TriggerBy
from app.errors import LevelheadError
from app.flows.preflight import lets_go_s
from app.ids import new_id
from app.log import event
from app.queue import LEVELS, SymbolFeed
from app.resources import Resources, open_resources
from app.settings import Settings
from app.store import leases, levels, positions
from app.store.accounts import VenueName
from app.store.db import store_errors
from app.store.levels import Armed
from app.venues.base import Origins
from app.venues.numbers import instant
from workers.due import Due
from workers.feed import Feed
from workers.fires import fire
from workers.gaps import SUBSCRIBED_S, Gaps
from workers.markets import Markets
from workers.private import AccountStreams
from workers.sight import Lookout
from workers.stop import heed_cancellation, until_asked_to_stop
from workers.succession import free_leases_of_the_dead, own_id
from workers.turns import every, guarded

log = logging.getLogger("watcher")

LEASE = "watcher"
LEASE_TTL_S = 2.0
RENEW_S = 0.5
TAKE_S = 0.1  # between two looks at a lease that somebody else has: whose watcher died is not watched meanwhile
SAFETY_MARGIN_S = 0.25  # of the lease: nothing fires in its last moments
RELOAD_S = 5.0  # everything anew, for changes whose ring was lost
RELOAD_CHUNK = 500  # levels between two breaths of the event loop
PERSIST_S = 0.25
DUE_S = 0.25
PERSIST_LEVELS = 1000  # whose extremes are stored at once; after a start one that waited is judged from earlier on
REPORT_S = 1.0
SIGHT_S = 0.25
FRESH = timedelta(seconds=1)  # a last price older than a level by more says nothing about it
REDIS_PAUSE_S = 0.5
DRAIN_S = 8.0


class LeaseLost(LevelheadError):
    """Another watcher took over, or the database was away too long: stop at once; the supervisor starts anew."""


class Watcher:
    def __init__(self, resources: Resources, id: UUID | None = None) -> None:
        self.resources = resources
        self.id = id or new_id()
        self.armed: dict[UUID, Armed] = {}  # level id -> level
        self.of_position: defaultdict[UUID, set[UUID]] = defaultdict(set)  # position id -> ids of its armed levels
        self.fired: set[UUID] = set()  # levels: each fires once
        self.firing: Counter[UUID] = Counter()  # positions: closes of theirs that are on their way
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
            venue_of=lambda feed: self.markets.any_venue(feed),
            may_fire=self.may_fire,
            on_crossed=self.fire,
            group=self.group,
        )
        self.markets = Markets(
            resources,
            self.group,
            self.accounts,
            open_feed=self._open_feed,
            ask_prices=self.gaps.ask_prices,
            on_left=self._leave,
        )
        self.feeds = self.markets.feeds
        self.lookout = Lookout()
        self.due = Due(lambda level: self.fire(level, None, None))
        self._reloading = asyncio.Lock()
        self._extremes: dict[UUID, tuple[Decimal, datetime | None]] = {}  # not stored yet

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self._take_lease()
        crash.point("watcher.lease_taken")
        event(log, logging.INFO, "watcher ready")
        try:
            async with self.group as group:
                self.resources.bell.on_levels = self._changed_here
                group.create_task(self._keep_lease())
                group.create_task(self.accounts.run())
                group.create_task(self._listen())
                group.create_task(self._reload_for_ever())
                for seconds, what in (
                    (DUE_S, self._look_at_the_clock),
                    (PERSIST_S, self._persist),
                    (SIGHT_S, self._tell_sight),
                    (REPORT_S, self._report),
                ):
                    group.create_task(every(seconds, what))
        finally:
            self.resources.bell.on_levels = None
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
        """Wait until the symbols are ours. One that was killed on this machine is not waited for."""
        waiting = False
        while True:
            await free_leases_of_the_dead(self.resources.pool)
            asked = time.monotonic()
            with store_errors():
                token = await leases.acquire(self.resources.pool, LEASE, self.id, ttl_s=LEASE_TTL_S)
            if token is not None:
                self.token, self.taken_at = token, time.monotonic()
                self.lease_until = asked + LEASE_TTL_S - SAFETY_MARGIN_S
                return
            if not waiting:
                waiting = True
                event(log, logging.INFO, "waiting: another watcher has the symbols")
            await asyncio.sleep(TAKE_S)

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
        crash.point("watcher.loaded")
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
                await guarded(self.markets.connect, account_id)
            await self.markets.look_again()
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
            with store_errors():
                ended = await positions.unreleased(self.resources.pool, within_s=lets_go_s(self.resources))
            await self._let_go(ended)

    def _changed_here(self, position_id: UUID) -> None:
        """What this process itself has settled is not waited for over Redis."""
        reload = guarded(self._reload_position, position_id)
        try:
            self.group.create_task(reload)
        except RuntimeError:
            reload.close()  # we are about to end

    async def _reload_position(self, position_id: UUID) -> None:
        async with self._reloading:
            with store_errors():
                armed = await levels.armed(self.resources.pool, position_id)
            for level_id in self.of_position.get(position_id, set()) - {one.level.id for one in armed}:
                self._disarm(level_id)
            for one in armed:
                await self._arm(one)
            if not armed:
                await self._let_go([position_id])

    async def _let_go(self, position_ids: Sequence[UUID]) -> None:
        """Say of which ended positions no close can leave any more, so that the next one may be opened. What a watcher
        before us has on its way is not known until it is out of its receive window.
        """
        window_s = self.resources.settings.recv_window_ms / 1000 + 1
        if time.monotonic() < self.taken_at + window_s:
            return
        free = [one for one in position_ids if one not in self.of_position and not self.firing[one]]
        with store_errors():
            await positions.release(self.resources.pool, free, token=self.token)

    async def _arm(self, one: Armed) -> None:
        level = one.level
        if level.id in self.fired or level.position_id in self.ending:
            return
        known = self.armed.get(level.id)
        if known is not None and (known.level.order_id, known.level.armed_at) == (level.order_id, level.armed_at):
            return
        feed = await self._follow(one.account_id, one.symbol, level.trigger_by)
        if level.kind is LevelKind.TIME_EXIT:
            self._keep(one)
            self.due.arm(level)
            return
        if known is not None and known.level.trigger_by is not level.trigger_by:
            feed.disarm(one.symbol, known.level)
        self._keep(one)
        feed.arm(one.symbol, level)
        if known is not None and known.level.armed_at == level.armed_at:
            return  # its quantity alone has changed
        last = feed.prices[level.trigger_by].get(one.symbol)
        if last is not None and feed.linked and instant(last[1]) >= level.armed_at - FRESH:
            # It may have gone through it while it was being committed.
            feed.on_price(one.symbol, level.trigger_by, last[0])
        if one.symbol not in feed.heard[level.trigger_by]:
            self.gaps.inspect(feed, one.symbol, after_s=SUBSCRIBED_S)
        elif level.trigger_by is TriggerBy.LAST and last is not None and instant(last[1]) >= level.armed_at - FRESH:
            self.gaps.inspect(feed, one.symbol, only=level)  # crossed since it was committed, and back

    def _keep(self, one: Armed) -> None:
        self.armed[one.level.id] = one
        self.of_position[one.level.position_id].add(one.level.id)

    def _disarm(self, level_id: UUID) -> None:
        one = self.armed.pop(level_id)
        self._forget(one)
        if one.level.kind is LevelKind.TIME_EXIT:
            self.due.disarm(level_id)
            return
        self.markets.feed(one.account_id).disarm(one.symbol, one.level)

    def _forget(self, one: Armed) -> None:
        ids = self.of_position[one.level.position_id]
        ids.discard(one.level.id)
        if not ids:
            del self.of_position[one.level.position_id]

    async def _follow(self, account_id: UUID, symbol: str, by: TriggerBy = TriggerBy.LAST) -> Feed:
        """The feed of this account's venue, with this symbol subscribed."""
        if account_id not in self.markets.connected:
            await self.markets.connect(account_id)
        feed = self.markets.feed(account_id)
        feed.follow(symbol, by)
        return feed

    def _leave(self, account_id: UUID) -> None:
        for one in [one for one in self.armed.values() if one.account_id == account_id]:
            self._disarm(one.level.id)

    def _open_feed(self, venue_name: VenueName, origins: Origins) -> Feed:
        return Feed(
            venue_name,
            origins,
            may_fire=self.may_fire,
            on_crossed=self.fire,
            on_back=self.gaps.inspect_all,
            on_missed=self.gaps.inspect,
            on_held=self.gaps.ask_about_held,
        )

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
        self.firing[level.position_id] += 1
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
            self.markets.connected[one.account_id],
            one,
            price,
            trade_id,
            inherited_at=self.taken_at if inherited else None,
        )
        self.ending.discard(one.level.position_id)
        self.firing -= Counter([one.level.position_id])
        await guarded(self._reload_position, one.level.position_id)

    async def _look_at_the_clock(self) -> None:
        if self.may_fire():
            self.due.look(self.resources.now())

    # -- the rest ----------------------------------------------------------------------------------------------------

    async def _persist(self) -> None:
        """Last prices for whoever asks, and how far the trailing stops have come."""
        prices = self.resources.prices
        for feed in list(self.feeds.values()):
            for by, put in ((TriggerBy.LAST, prices.put), (TriggerBy.MARK, prices.put_marks)):
                unsaved, feed.unsaved[by] = feed.unsaved[by], set()
                await put(feed.market, {symbol: feed.prices[by][symbol] for symbol in unsaved})
            share = max(1, PERSIST_LEVELS // max(1, sum(map(len, feed.books.values()))))
            for by, books in feed.books.items():
                for symbol, book in list(books.items()):
                    if by is not TriggerBy.LAST or self.gaps.all_judged(feed, symbol):
                        at = self._judged_to(feed, by, symbol)
                        moved = book.changed(share)
                        self._extremes |= {x.id: (x.extreme, at) for x in moved if x.extreme is not None}
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

    async def _tell_sight(self) -> None:
        """Of what nothing true is heard, for whoever is about to open something."""
        await self.lookout.tell(list(self.feeds.values()), self.resources.pool, token=self.token)


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Ends with an error when the lease is lost."""
    async with beating(), open_resources(settings) as resources:
        await resources.venues.load()
        watcher = Watcher(resources, own_id())
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
