"""One world: its clock, its chances, its processes and what they were made to suffer. The scheduler of everything.

Whatever leaves a process (a statement, a request to the exchange, a ring) is a step: it takes a little virtual time, so
that any two steps of two processes happen in either order in some seed, and it is where a process is killed or stopped.
A killed process's step never returns: nothing of it runs on, no `finally` either.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta
from random import Random
from typing import Any

from tests.simulation.loop import VirtualLoop
from tests.simulation.schedule import Plan

STEP_S = 0.004  # a step takes up to so much

# The share of steps that take time at all: where little is to be found in another order, most are passed at once.
SLOWNESS = {
    "committed": 0.4,
    **dict.fromkeys(
        (
            "leases.ACQUIRE", "leases.RENEW", "leases.RENEW_ALL", "leases.ACQUIRE_ALL", "leases.LIVE",
            "inbox.WAITING_BOOKS",
            "accounts.GET", "positions.ACCOUNTS_IN_USE", "orders.DOUBTFUL", "positions.SYMBOLS_TO_WATCH",
            "blind.REASON", "blind.TELL", "drifts.GONE", "strategies.GET", "positions.CLOSED_LATELY",
        ),
        0.2,
    ),
}  # fmt: skip

KEPT_LINES = 400  # of the trace, before a violation


class Violation(Exception):
    """An invariant does not hold; `code` is its name in DESIGN §7 or one of ours."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{code}: {what}")
        self.code = code
        self.what = what


class World:
    """`tell` is where lines of the trace go; None: nobody reads them."""

    def __init__(self, plan: Plan, loop: VirtualLoop, tell: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.loop = loop
        self.tell = tell
        self.chance = Random(plan.seed + 1)
        self.over = False
        self.calm = False  # nothing breaks any more
        self.steps = 0
        self.violation: BaseException | None = None
        self.hindered_until = -1e9  # somebody suffered something until then
        self.hindrances: deque[tuple[float, str]] = deque(maxlen=50)
        self.kept: set[asyncio.Task[Any]] = set()
        self._chances: dict[str, Random] = {}

    # -- clock and trace -----------------------------------------------------------------------------------------------

    def say(self, who: str, what: str, *facts: object) -> None:
        """A line of the trace; nothing is formatted if nobody reads it."""
        if self.tell is not None:
            self.tell(f"{self.loop.now:9.4f} {who:<10} {what} {' '.join(map(str, facts))}".rstrip())

    def injected(self, who: str, what: str, *facts: object, until: float | None = None) -> None:
        """Something was made to go wrong, until then (now)."""
        self.hindered_until = max(self.hindered_until, self.loop.now if until is None else until)
        if self.tell is not None:
            self.say(who, "!! " + what, *facts)

    def fail(self, error: BaseException) -> None:
        """The world ends here."""
        if self.violation is None:
            self.violation = error
            self.say("world", "VIOLATION", error)

    # -- chances -------------------------------------------------------------------------------------------------------

    def chance_of(self, kind: str) -> Random:
        found = self._chances.get(kind)
        if found is None:
            found = self._chances[kind] = Random(f"{self.plan.seed}:{kind}:3")
        return found

    def strikes(self, kind: str) -> bool:
        """Whether this kind of fault happens here."""
        rate = self.plan.rates.get(kind)
        return rate is not None and not self.calm and self.chance_of(kind).random() < rate

    def happens(self, kind: str) -> bool:
        """The same of what is no fault: it goes on when nothing breaks any more."""
        rate = self.plan.rates.get(kind)
        return rate is not None and self.chance_of(kind).random() < rate

    def up_to(self, kind: str, most: float | None = None) -> float:
        """A span of a fault: up to `most`, or to its rate; 0 when there is no such fault (any more)."""
        rate = self.plan.rates.get(kind)
        if rate is None or self.calm:
            return 0.0
        return self.chance_of(kind).random() * (rate if most is None else most)

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def spawn(self, coro: Any) -> asyncio.Task[Any]:
        """A task that the world keeps alive and whose bugs end the world."""
        task = self.loop.create_task(coro)
        self.kept.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.kept.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.over:
            self.fail(error)


class Proc:
    """One simulated process: it lives, is stopped for a while, dies. Its steps go through `step`."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.stopped_until = 0.0
        self.on_death: list[Callable[[], None]] = []
        self.context = copy_context()
        self.in_transaction: Callable[[], bool] = lambda: False
        self._kill_in: int | None = None
        self._kill_at = ""
        self._delays = Random(f"{world.plan.seed}:{name}:{world.loop.turns}")
        off_s = world.plan.rates.get("clock", 0.0) * Random(f"{world.plan.seed}:clock:{name}").uniform(-1, 1)
        self.ahead = timedelta(milliseconds=round(1000 * off_s))

    def now_at(self) -> datetime:
        """By its machine's clock."""
        return self.world.loop.now_at() + self.ahead

    def kill_after(self, steps: int, place: str) -> None:
        """Die at the step after so many whose name begins like this; a negative number: do not."""
        self._kill_in, self._kill_at = (steps if steps >= 0 else None), place

    def kill(self) -> None:
        if not self.dead:
            self.dead = True
            self.world.injected(self.name, "killed", until=self.world.loop.now + RECOVERY_S)
            for what in self.on_death:
                what()

    def stop(self, seconds: float) -> None:
        """As SIGSTOP, then SIGCONT. Not within a transaction: there is one at a time, and all would wait for it."""
        if self.in_transaction():
            self.world.loop.later(0.005, self.stop, seconds)
            return
        self.stopped_until = self.world.loop.now + seconds
        self.world.injected(self.name, f"stopped for {seconds:.2f} s", until=self.stopped_until + RECOVERY_S)

    def may_die(self, name: str) -> None:
        """Die here, if it is time."""
        if self._kill_in is not None and not self.dead and name.startswith(self._kill_at):
            self._kill_in -= 1
            if self._kill_in < 0:
                self._kill_in = None
                self.world.injected(self.name, "dies at", name)
                self.kill()

    async def step(self, name: str) -> None:
        """Something is about to leave the process. Returns if it still lives then, and after it was continued."""
        world = self.world
        if world.over:
            raise asyncio.CancelledError
        world.steps += 1
        self.may_die(name)
        draw = self._delays.random()
        seconds = draw * STEP_S
        if not world.calm and "slow" in world.plan.rates and world.strikes("slow") and not self.in_transaction():
            seconds = world.up_to("slow", 2.0)
            world.injected(self.name, f"slow: {seconds:.2f} s at", name, until=world.loop.now + seconds)
        else:
            if world.tell is not None:
                world.say(self.name, name)
            if draw > SLOWNESS.get(name, 1.0):
                seconds = 0.0
        if seconds:
            await world.loop.pause(seconds)
        if self.dead or self.stopped_until > world.loop.now:
            await self.awake()

    async def awake(self) -> None:
        """Never returns for a dead process; later for a stopped one."""
        while not self.dead and self.stopped_until > self.world.loop.now:
            await self.world.loop.pause(self.stopped_until - self.world.loop.now)
        if self.dead:
            await self.world.loop.create_future()


RECOVERY_S = 6.0  # a killed or stopped process's leases have run out by then, and another one does its work
