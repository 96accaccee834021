"""A watcher's share of the symbols: the shards whose leases it holds, as many as are fair among the watchers that live.

Each watcher says by a lease of its own that it is there. Whoever has more than its share gives back what nothing is on
its way for; whoever has less takes what is free. A dead one's shards are free when their leases run out, or at once if
it died on this machine.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final
from uuid import UUID

from app.domain.shards import LEASES, SHARDS, fair_share, lease_of
from app.errors import LevelheadError
from app.log import event
from app.resources import Resources
from app.store import leases
from app.store.db import store_errors
from app.store.leases import Live
from workers.stop import heed_cancellation
from workers.succession import free_leases_of_the_dead, has_died

log = logging.getLogger("watcher")

HERE: Final = "watching:"  # + the watcher's id: it is there, whatever it holds
OF_WATCHERS: Final = "watch"  # all leases of watchers begin so
FORMER: Final = "watcher"  # of all symbols, when there was one watcher: a process of that version may be running yet
LEASE_TTL_S = 2.0
RENEW_S = 0.5
TAKE_S = 0.1  # between two looks while somebody has what should be ours: it is about to be given back
SAFETY_MARGIN_S = 0.25  # of the leases: nothing fires in their last moments
ENDED_S = 0.01  # after it has run out, a lease is surely over


class LeaseLost(LevelheadError):
    """Other watchers took over, or the database was away too long: stop at once; the supervisor starts anew."""


class Shard:
    """A shard that is ours."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.taken_at = time.monotonic()
        self.inherited: set[UUID] | None = None  # orders that a watcher before us may have sent; None: all


class Shares:
    """Renewed, taken and given back; what happens to a shard is told before anything else can happen."""

    def __init__(
        self,
        resources: Resources,
        holder: UUID,
        *,
        is_idle: Callable[[str], bool],
        on_taken: Callable[[], None],
        on_gone: Callable[[Collection[str]], None],
        on_renewed: Callable[[], None],
    ) -> None:
        """`is_idle`: nothing is on its way for this shard, so it may be given back; `on_gone`: these are not ours any
        more, and are not told to be anybody's yet.
        """
        self.held: dict[str, Shard] = {}  # by the name of its lease
        self.until = 0.0  # monotonic: so long all of them are ours
        self._resources = resources
        self._holder = holder
        self._name = f"{HERE}{holder}"
        self._here: dict[str, int] = {}  # that lease -> its token, until we leave
        self._given: dict[str, int] = {}  # lease -> token of what was given back and may not be written down yet
        self._is_idle, self._on_taken, self._on_gone, self._on_renewed = is_idle, on_taken, on_gone, on_renewed
        self._leaving = False
        self._wake = asyncio.Event()
        self._look_again_s = RENEW_S
        self._said: tuple[int, int] | None = None

    def of(self, symbol: str) -> Shard | None:
        """The shard of this symbol if it is ours."""
        return self.held.get(lease_of(symbol))

    def tokens(self) -> dict[str, int]:
        """Lease -> token of all that are ours."""
        return {name: shard.token for name, shard in self.held.items()}

    async def join(self) -> None:
        """Be there, and have what is free of our share. Of one that was killed on this machine nothing is waited for.

        Raises StoreUnavailable.
        """
        await free_leases_of_the_dead(self._resources.pool)
        asked = time.monotonic()
        with store_errors():
            self._here = await leases.acquire_all(self._resources.pool, [self._name], self._holder, ttl_s=LEASE_TTL_S)
            await self._balance()
        self.until = asked + LEASE_TTL_S - SAFETY_MARGIN_S

    async def keep(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        while True:
            heed_cancellation()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_again_s):
                    await self._wake.wait()
            self._wake.clear()
            self._look_again_s = RENEW_S
            try:
                with store_errors():
                    await self._renew()
                    await self._balance()
            except LeaseLost:
                raise
            except LevelheadError as error:
                if time.monotonic() >= self.until and not self._leaving:
                    raise LeaseLost(f"the watcher's leases ran out: {error}") from error

    def leave(self) -> None:
        """From here on take nothing, and give back what nothing is on its way for: others do not wait for our end."""
        self._leaving = True
        self._given |= self._here
        self._here = {}
        self._wake.set()

    async def end(self) -> None:
        """Give back all that is left."""
        tokens = self._given | self._here | self.tokens()
        self.held.clear()
        with suppress(LevelheadError, OSError), store_errors():
            await leases.release_all(self._resources.pool, tokens, self._holder)

    async def _renew(self) -> None:
        asked = time.monotonic()
        tokens = self._here | self.tokens()
        ours = await leases.renew_all(self._resources.pool, tokens, self._holder, ttl_s=LEASE_TTL_S)
        if not self._here.keys() <= ours:
            raise LeaseLost("the watcher's leases ran out before they were renewed")
        self.until = asked + LEASE_TTL_S - SAFETY_MARGIN_S
        if lost := self.held.keys() - ours:
            event(log, logging.ERROR, "another watcher has taken over", leases=",".join(sorted(lost)))
            for name in lost:
                del self.held[name]
            self._on_gone(lost)
        self._on_renewed()

    async def _balance(self) -> None:
        pool = self._resources.pool
        live = await leases.live(pool, OF_WATCHERS)
        others = {name: lease for name, lease in live.items() if lease.holder != self._holder}
        watchers = {lease.holder for name, lease in others.items() if name.startswith(HERE)} | {self._holder}
        if any(has_died(lease.holder) for lease in others.values()):
            await free_leases_of_the_dead(pool)
            self._look_again_s = 0.0
        share = 0 if self._leaving or FORMER in live else fair_share(self._holder, watchers)
        await self._give_back(len(self.held) - share)
        free = [name for name in LEASES if name not in self.held and name not in others]
        missing = share - len(self.held)
        if missing > 0 and free:
            await self._take(free[:missing])
        self._look_again_s = min(self._look_again_s, self._pause_s(others, share))
        self._say(len(watchers))

    async def _give_back(self, count: int) -> None:
        idle = [name for name in self.held if self._is_idle(name)][: max(0, count)]
        if idle:
            self._given |= {name: self.held.pop(name).token for name in idle}
            self._on_gone(idle)
        if given := dict(self._given):
            await leases.release_all(self._resources.pool, given, self._holder)
            for name in given:
                del self._given[name]

    async def _take(self, names: list[str]) -> None:
        taken = await leases.acquire_all(self._resources.pool, names, self._holder, ttl_s=LEASE_TTL_S)
        self.held |= {name: Shard(token) for name, token in taken.items()}
        if taken:
            self._on_taken()

    def _pause_s(self, others: Mapping[str, Live], share: int) -> float:
        """Until it is worth looking: soon if ours is not free yet, else when the next lease would run out."""
        if len(self.held) < share:
            return TAKE_S
        return max(ENDED_S, min((lease.remaining_s for lease in others.values()), default=RENEW_S) + ENDED_S)

    def _say(self, watchers: int) -> None:
        if self._said != (len(self.held), watchers):
            self._said = len(self.held), watchers
            event(log, logging.INFO, "symbols are shared", shards=len(self.held), of=SHARDS, watchers=watchers)
