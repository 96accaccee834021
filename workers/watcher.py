"""The watcher process: public ticks -> level book -> closes; private sockets -> what changed outside."""

import asyncio
import gc
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

import uvloop
from redis.exceptions import RedisError

from app import crash
from app.beat import beating
from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.shards import lease_of
from app.errors import LevelheadError
from app.flows import protect
from app.flows.preflight import lets_go_s
from app.ids import new_id
from app.log import event
from app.queue import LEVELS
from app.resources import Resources, open_resources
from app.settings import Settings
from app.store import levels, positions
from app.store.accounts import VenueName
from app.store.db import store_errors
from app.store.levels import Armed, Extreme, Standing
from app.venues.base import Origins, Prepared
from app.venues.numbers import instant, milliseconds
from workers.due import Due
from workers.feed import Feed
from workers.fires import fire
from workers.gaps import SUBSCRIBED_S, Gaps
from workers.markets import Markets
from workers.private import AccountStreams
from workers.shares import LeaseLost, Shard, Shares
from workers.sight import Lookout
from workers.status import Status
from workers.stop import heed_cancellation, until_asked_to_stop
from workers.succession import own_id
from workers.turns import every, guarded

log = logging.getLogger("watcher")

RELOAD_S = 5.0  # everything anew, for changes whose ring was lost
RELOAD_AGAIN_S = 0.5  # the same when it failed: what was taken over waits for it
PERSIST_S = 0.25
DUE_S = 0.25
PERSIST_LEVELS = 1000  # whose extremes are stored at once; after a start one that waited is judged from earlier on
REPORT_S = 1.0
SIGHT_S = 0.25
REDIS_PAUSE_S = 0.5
DRAIN_S = 8.0


class Watcher:
    def __init__(self, resources: Resources, id: UUID | None = None) -> None:
        self.resources = resources
        self.id = id or new_id()
        self.armed: dict[UUID, Armed] = {}  # level id -> level
        self.prepared: dict[UUID, Prepared] = {}  # level id -> its close as the venue will be told it
        self.of_position: defaultdict[UUID, set[UUID]] = defaultdict(set)  # position id -> ids of its armed levels
        self.fired: set[UUID] = set()  # levels: each fires once
        self.firing: Counter[UUID] = Counter()  # positions: closes of theirs that are on their way
        self.ending: set[UUID] = set()  # positions whose closing order is on its way: nothing else of theirs fires
        self.draining = False
        self.in_flight: dict[asyncio.Task[None], str] = {}  # fires whose record is not complete -> their shards' leases
        self.group = asyncio.TaskGroup()
        self.shares = Shares(
            resources,
            self.id,
            is_idle=lambda lease: lease not in self.in_flight.values(),
            on_taken=lambda: self._taken.set(),
            on_gone=self._shards_gone,
            on_renewed=self._renewed,
        )
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
        self.status = Status(self.id)
        self._taken = asyncio.Event()  # shards of which nothing is loaded yet
        self._reloading = asyncio.Lock()
        self._extremes: dict[UUID, tuple[Level, datetime | None]] = {}  # levels, and when they were as they are here

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.shares.join()
        crash.point("watcher.lease_taken")
        event(log, logging.INFO, "watcher ready", watcher=self.status.watcher)
        try:
            async with self.group as group:
                self.resources.bell.on_levels = self._changed_here
                group.create_task(self.shares.keep())
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
            await self.shares.end()

    def may_fire(self) -> bool:
        """Only with time left on the leases anything fires. Levels of a shard that is not ours are in no book."""
        return time.monotonic() < self.shares.until and not self.draining

    async def drain(self) -> None:
        """Fire nothing more, and let what was sent be recorded."""
        self.draining = True
        self.shares.leave()
        if self.in_flight:
            await asyncio.wait(self.in_flight, timeout=DRAIN_S)

    def _renewed(self) -> None:
        for feed in self.feeds.values():
            if feed.linked and feed.gap is not None:
                self.gaps.inspect_all(feed)  # ticks passed by while the leases were in doubt

    def _shards_gone(self, gone: Collection[str]) -> None:
        """They were given back or are lost: nothing of them fires any more. What is on its way is left to whoever has
        them now, as after a crash; where they were given back, nothing is.
        """
        for one in [one for one in self.armed.values() if lease_of(one.symbol) in gone]:
            del self.armed[one.level.id]
            self._forget(one)
            self.due.disarm(one.level.id)
        for feed in self.feeds.values():
            feed.forget([symbol for symbol in feed.topics if lease_of(symbol) in gone])
        for task in [task for task, lease in self.in_flight.items() if lease in gone]:
            task.cancel()

    # -- what is armed -----------------------------------------------------------------------------------------------

    async def _reload_for_ever(self) -> None:
        self._taken.clear()
        await self._reload()
        crash.point("watcher.loaded")
        gc.collect()
        gc.freeze()  # a full collection over all levels would stop everything for milliseconds
        for feed in self.feeds.values():
            self.gaps.inspect_all(feed)
        pause_s = RELOAD_S
        while True:
            heed_cancellation()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._taken.wait()
            self._taken.clear()
            pause_s = RELOAD_S if await guarded(self._reload) else RELOAD_AGAIN_S

    async def _reload(self) -> None:
        """Everything of our shards anew from the tables."""
        async with self._reloading:
            held = dict(self.shares.held)  # what is taken from here on may have been changed after it was read
            with store_errors():
                used = await positions.symbols_to_watch(self.resources.pool)
                standing = {
                    one.id: one
                    async for page in levels.standing(self.resources.pool)
                    for one in page
                    if lease_of(one.symbol) in held
                }
            used = [(account_id, symbol) for account_id, symbol in used if lease_of(symbol) in held]
            for account_id in {account_id for account_id, _ in used}:
                await guarded(self.markets.connect, account_id)
            await self.markets.look_again()
            for account_id, symbol in used:
                await guarded(self._follow, account_id, symbol)
            for level_id in self.armed.keys() - standing.keys():
                self._disarm(level_id)
            await self._arm_changed(standing, held)
            for lease, shard in held.items():
                if shard.inherited is None:  # until now all of its were: who fires asks first
                    shard.inherited = {one.order_id for one in standing.values() if lease_of(one.symbol) == lease}
            for feed in self.feeds.values():
                feed.trim()
            await self._let_go()

    async def _arm_changed(self, standing: Mapping[UUID, Standing], held: Mapping[str, Shard]) -> None:
        """Read and arm what is new, or was armed anew: mostly nothing of thousands."""
        changed = [
            level_id
            for level_id, one in standing.items()
            if (known := self.armed.get(level_id)) is None or known.level.order_id != one.order_id
        ]
        for start in range(0, len(changed), levels.PAGE_ROWS):
            with store_errors():
                page = await levels.armed_with_ids(self.resources.pool, changed[start : start + levels.PAGE_ROWS])
            for one in page:
                if (shard := held.get(lease_of(one.symbol))) is not None:
                    await guarded(self._arm, one, shard)

    def _changed_here(self, position_id: UUID) -> None:
        """What this process itself has settled is not waited for over Redis."""
        reload = guarded(self._reload_position, position_id)
        try:
            self.group.create_task(reload)
        except RuntimeError:
            reload.close()  # we are about to end

    async def _reload_position(self, position_id: UUID) -> None:
        async with self._reloading:
            held = dict(self.shares.held)
            with store_errors():
                armed = await levels.armed(self.resources.pool, position_id)
            for level_id in self.of_position.get(position_id, set()) - {one.level.id for one in armed}:
                self._disarm(level_id)
            for one in armed:
                if (shard := held.get(lease_of(one.symbol))) is not None:
                    await self._arm(one, shard)
            if not armed:
                await self._let_go()

    async def _let_go(self) -> None:
        """Say of which ended positions no close can leave any more, so that the next one may be opened. What a watcher
        before us has on its way is not known until it is out of its receive window.
        """
        window_s = self.resources.settings.recv_window_ms / 1000 + 1
        with store_errors():
            ended = await positions.unreleased(self.resources.pool, within_s=lets_go_s(self.resources))
        free = []
        for position_id, symbol in ended:
            shard = self.shares.of(symbol)
            if shard is None or time.monotonic() < shard.taken_at + window_s:
                continue
            if position_id not in self.of_position and not self.firing[position_id]:
                free.append((position_id, lease_of(symbol), shard.token))
        with store_errors():
            await positions.release(self.resources.pool, free)

    async def _arm(self, one: Armed, shard: Shard) -> None:
        """`shard` was ours when the level was read."""
        level = one.level
        if level.id in self.fired or level.position_id in self.ending:
            return
        known = self.armed.get(level.id)
        if known is not None and (known.level.order_id, known.level.armed_at) == (level.order_id, level.armed_at):
            return
        feed = await self._follow(one.account_id, one.symbol, level.trigger_by)
        if feed is None or self.shares.of(one.symbol) is not shard:
            return
        if level.kind is LevelKind.TIME_EXIT:
            self._keep(one)
            self.due.arm(level)
            return
        if known is not None and known.level.trigger_by is not level.trigger_by:
            feed.disarm(one.symbol, known.level)
        self._keep(one)
        feed.arm(one.symbol, level, since_ms=milliseconds(level.armed_at))
        if known is not None and known.level.armed_at == level.armed_at:
            return  # its quantity alone has changed
        last = feed.prices[level.trigger_by].get(one.symbol)
        if last is not None and instant(last[1]) <= level.armed_at:
            last = None  # of the time before
        if last is not None and feed.linked:
            # It may have gone through it while it was being committed.
            feed.on_price(one.symbol, level.trigger_by, last[0])
        if one.symbol not in feed.heard[level.trigger_by]:
            self.gaps.inspect(feed, one.symbol, only=level, after_s=SUBSCRIBED_S)
        elif last is not None and level.trigger_by is TriggerBy.LAST:
            self.gaps.inspect(feed, one.symbol, only=level)  # crossed since it was committed, and back

    def _keep(self, one: Armed) -> None:
        connected = self.markets.connected[one.account_id]
        self.prepared[one.level.id] = protect.prepared(self.resources, connected, one)
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
        del self.prepared[one.level.id]
        ids = self.of_position[one.level.position_id]
        ids.discard(one.level.id)
        if not ids:
            del self.of_position[one.level.position_id]

    async def _follow(self, account_id: UUID, symbol: str, by: TriggerBy = TriggerBy.LAST) -> Feed | None:
        """The feed of this account's venue, with this symbol subscribed; None where another watcher follows it."""
        if self.shares.of(symbol) is None:
            return None
        if account_id not in self.markets.connected:
            await self.markets.connect(account_id)
            if self.shares.of(symbol) is None:
                return None
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
        crossed_at = time.monotonic()
        one = self.armed.pop(level.id, None)
        if one is None:
            return
        shard = self.shares.of(one.symbol)
        assert shard is not None, "what is armed goes with its shard"
        self.fired.add(level.id)
        connected = self.markets.connected[one.account_id]
        inherited = shard.inherited is None or one.level.order_id in shard.inherited
        close = None if inherited else protect.fire_now(connected, one.symbol, self.prepared[level.id])
        told = partial(self.status.fired, connected.market, one.symbol, crossed_at)
        if close is not None and close.placing is not None:
            told()
        self._forget(one)
        work = partial(
            fire, self.resources, connected, one, price, trade_id,
            inherited_at=shard.taken_at if inherited else None, close=close, on_sending=told,
        )  # fmt: skip
        task = self.group.create_task(self._fire(level, work))
        self.in_flight[task] = lease_of(one.symbol)
        self.firing[level.position_id] += 1
        task.add_done_callback(self.in_flight.pop)
        if level.kind is not LevelKind.TAKE_PROFIT:
            # It closes all that is held: the position's other levels have nothing left to close.
            self.ending.add(level.position_id)
            for other in list(self.of_position.get(level.position_id, ())):
                self._disarm(other)

    async def _fire(self, level: Level, work: Callable[[], Awaitable[bool]]) -> None:
        try:
            if not await work():
                self.fired.discard(level.id)  # it may be armed again
        except asyncio.CancelledError:
            self.fired.discard(level.id)  # if its shard is ours again, it is inherited like any other
            raise
        finally:
            self.ending.discard(level.position_id)
            self.firing -= Counter([level.position_id])
        await guarded(self._reload_position, level.position_id)

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
                        self._extremes |= {level.id: (level, at) for level in moved}
        if self._extremes:
            unstored, self._extremes = self._extremes, {}
            try:
                with store_errors():
                    await levels.save_extremes(self.resources.pool, self._as_rows(unstored))
            except LevelheadError:
                self._extremes = unstored | self._extremes
                raise

    def _as_rows(self, extremes: dict[UUID, tuple[Level, datetime | None]]) -> list[Extreme]:
        """Those of the levels that are armed with us, each under the lease of its shard."""
        rows = []
        for level_id, (level, at) in extremes.items():
            one = self.armed.get(level_id)
            if one is not None and level.extreme is not None and (shard := self.shares.of(one.symbol)) is not None:
                rows.append(
                    Extreme(
                        level_id=level_id,
                        armed_at=level.armed_at,
                        price=level.extreme,
                        at=at,
                        lease=lease_of(one.symbol),
                        token=shard.token,
                    )
                )
        return rows

    def _judged_to(self, feed: Feed, by: TriggerBy, symbol: str) -> datetime | None:
        """Exchange time up to which prices are in the extremes."""
        if by is TriggerBy.LAST:
            return instant(feed.judged_ms[symbol]) if symbol in feed.judged_ms else None
        return instant(feed.prices[by][symbol][1]) if symbol in feed.prices[by] else None

    async def _report(self) -> None:
        """How well each symbol is watched, for health."""
        await self.resources.prices.put_feeds(self.status.watcher, self.status.of(self.feeds.values()))

    async def _tell_sight(self) -> None:
        """Of what nothing true is heard, for whoever is about to open something."""
        await self.lookout.tell(list(self.feeds.values()), self.resources.pool, self.shares.tokens())


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Ends with an error when the leases are lost."""
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
