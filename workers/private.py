"""The private streams of the accounts: fills are settled as they come, and what else changed is looked at.

An account has one stream among all watchers, that of the holder of its lease.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from app import crash
from app.domain.position import Fill, FillOrigin
from app.errors import LevelheadError, Refused
from app.flows import protect, reconcile
from app.flows.settle import settle
from app.log import event
from app.resources import Connected, Resources
from app.store import leases, positions
from app.store.db import store_errors
from app.venues.link import Link
from workers.stop import heed_cancellation
from workers.turns import guarded

log = logging.getLogger("watcher")

LEASE = "account:"
LEASE_TTL_S = 2.0
RENEW_S = 0.5
SAFETY_MARGIN_S = 0.25  # of the lease: the stream ends before somebody else's may begin
RESTART_S, RESTART_MAX_S = 5.0, 300.0  # after a stream that cannot be
CHANGE_PAUSE_S = 0.3  # lets whoever sent the order settle its own fills before the account is read
RETRY_S = 1.0


class AccountStream:
    """One account's stream, and what is done about its events. Hears the stream: a `PrivateListener`."""

    def __init__(self, resources: Resources, connected: Connected, memory: reconcile.Memory) -> None:
        self._resources = resources
        self._connected = connected
        self._memory = memory
        self._fills: list[Fill] = []  # not settled yet, in the order of arrival
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._missed = True  # fills may have been missed: the account's are asked for
        self._touched: set[UUID] = set()  # positions that somebody else's orders changed: their stops are looked after

    async def run(self) -> None:
        """Until cancelled. Raises Refused when the credentials are of no use to the venue."""
        stream = self._connected.venue.private_stream(self)
        if isinstance(stream, Link):
            stream.name = f"{stream.name} {self._connected.account.name}"
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.run())
            group.create_task(self._settle_for_ever())
            group.create_task(self._look_for_ever())

    def on_fills(self, fills: Sequence[Fill]) -> None:
        self._fills.extend(fills)
        self._arrived.set()

    def on_change(self, symbol: str) -> None:
        if not symbol:
            self._missed = True
        self._changed.set()

    async def _settle_for_ever(self) -> None:
        """One at a time, so that a burst of fills doesn't fan out over the database."""
        while True:
            heed_cancellation()
            await self._arrived.wait()
            self._arrived.clear()
            arrived, self._fills = self._fills, []
            crash.point("private.received", *(fill.symbol for fill in arrived))
            of_symbol: dict[str, list[Fill]] = {}
            for fill in arrived:
                of_symbol.setdefault(fill.symbol, []).append(fill)
            for symbol, fills in of_symbol.items():
                if not await guarded(self._settle, symbol, fills):
                    self.on_change("")  # they are asked for again

    async def _settle(self, symbol: str, fills: list[Fill]) -> None:
        account_id = self._connected.account.id
        foreign = [fill for fill in fills if fill.origin is not FillOrigin.ORDER]
        if foreign:
            with store_errors():
                held = await positions.live_of_account(self._resources.pool, account_id)
            touched = {position.id for position in held if position.symbol == symbol}
            if not touched and len(foreign) == len(fills):
                return  # somebody else trades what we do not hold: not ours, and perhaps not even listed here
            self._touched |= touched
            self._changed.set()
        instrument = await self._connected.venue.instrument(symbol)
        await settle(self._resources, account_id, instrument, fills)

    async def _look_for_ever(self) -> None:
        """Read the account again whenever something changed; after a gap, its fills too."""
        while True:
            heed_cancellation()
            await self._changed.wait()
            await asyncio.sleep(CHANGE_PAUSE_S)
            self._changed.clear()
            looked = await guarded(self._look)
            again_soon, self._memory.again_soon = self._memory.again_soon, False
            if self._touched or again_soon or not looked:
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _look(self) -> None:
        for position_id in list(self._touched):
            if await guarded(protect.secure, self._resources, self._connected, position_id):
                self._touched.discard(position_id)
        if self._missed:
            self._memory.visited.clear()
            self._missed = False
        await reconcile.account(self._resources, self._connected.account.id, self._memory)


class _Owned:
    """An account whose lease is ours: its stream is cancelled when the lease runs out."""

    def __init__(self, connected: Connected, token: int) -> None:
        self.connected = connected
        self.token = token
        self.memory = reconcile.Memory()
        self.task: asyncio.Task[None] | None = None
        self._end: asyncio.TimerHandle | None = None

    def until(self, at: float) -> None:
        """The lease is ours until then (time of the event loop)."""
        self.forget_end()
        self._end = asyncio.get_running_loop().call_at(at, self.stop)

    def forget_end(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()


class AccountStreams:
    """The streams of all accounts that are wanted and whose lease can be had."""

    def __init__(self, resources: Resources, holder: UUID) -> None:
        self._resources = resources
        self._holder = holder
        self._wanted: dict[UUID, Connected] = {}
        self._owned: dict[UUID, _Owned] = {}
        self._wake = asyncio.Event()

    def want(self, connected: Connected) -> None:
        """Have this account's stream, with these credentials."""
        self._wanted[connected.account.id] = connected
        self._wake.set()

    def forget(self, account_id: UUID) -> None:
        """The account is gone: its stream ends, and its lease is left to run out."""
        self._wanted.pop(account_id, None)
        if account_id in self._owned:
            self._drop(account_id)

    def running(self) -> set[UUID]:
        """Accounts whose stream is ours now."""
        return {account_id for account_id, owned in self._owned.items() if owned.running}

    async def run(self) -> None:
        try:
            while True:
                heed_cancellation()
                self._wake.clear()
                await guarded(self._turn)
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_S):
                        await self._wake.wait()
        finally:
            await self._give_up()

    async def _turn(self) -> None:
        """Renew what is ours, take what is free, and have the streams run that should."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LEASE_TTL_S - SAFETY_MARGIN_S
        pool = self._resources.pool
        for account_id, owned in list(self._owned.items()):
            if not owned.running:
                self._drop(account_id)
        with store_errors():
            ours = await leases.renew_all(pool, self._tokens(), self._holder, ttl_s=LEASE_TTL_S)
            for account_id, owned in list(self._owned.items()):
                if _name(account_id) in ours and owned.running:
                    owned.until(until)
                else:
                    self._drop(account_id)
            names = {_name(account_id): account_id for account_id in self._wanted if account_id not in self._owned}
            taken = await leases.acquire_all(pool, names, self._holder, ttl_s=LEASE_TTL_S)
        for name, token in taken.items():
            wanted = self._wanted.get(names[name])
            if wanted is None:
                continue  # forgotten meanwhile
            owned = self._owned[names[name]] = _Owned(wanted, token)
            owned.until(until)
            self._start(owned)
        for account_id, owned in self._owned.items():
            if owned.connected is not self._wanted[account_id]:
                owned.connected = self._wanted[account_id]
                owned.stop()
                self._start(owned)

    def _start(self, owned: _Owned) -> None:
        owned.task = asyncio.create_task(self._keep_running(owned.connected, owned.memory))

    async def _keep_running(self, connected: Connected, memory: reconcile.Memory) -> None:
        pause_s, said = RESTART_S, ""
        while True:
            heed_cancellation()
            try:
                await AccountStream(self._resources, connected, memory).run()
            except Refused as error:
                if error.reason != said:
                    said = error.reason
                    event(log, logging.WARNING, "the account has no stream", account=connected.account.name, why=said)
                pause_s = min(2 * pause_s, RESTART_MAX_S)
            except Exception:
                log.exception("unexpected")
                pause_s = RESTART_S
            await asyncio.sleep(pause_s)

    def _drop(self, account_id: UUID) -> None:
        owned = self._owned.pop(account_id)
        owned.forget_end()
        owned.stop()
        event(log, logging.WARNING, "the account's stream is not ours any more", account=owned.connected.account.name)

    def _tokens(self) -> dict[str, int]:
        return {_name(account_id): owned.token for account_id, owned in self._owned.items()}

    async def _give_up(self) -> None:
        """Stop everything, and leave the leases to the next one."""
        tokens = self._tokens()
        tasks = [owned.task for owned in self._owned.values() if owned.task is not None]
        for owned in self._owned.values():
            owned.forget_end()
            owned.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(LevelheadError, OSError), store_errors():
            await leases.release_all(self._resources.pool, tokens, self._holder)


def _name(account_id: UUID) -> str:
    return f"{LEASE}{account_id}"
