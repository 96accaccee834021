"""The way to the exchange and back: what becomes of each request, drawn when it leaves.

A request that has left is on its way whatever becomes of its sender. It carries the instant at which it was signed, and
the exchange refuses it once its receive window is over, as both real ones do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Never, TypeVar

from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind
from tests.simulation.world import Proc, World

T = TypeVar("T")

RECV_WINDOW_S = 5.0
TIMEOUT_S = 5.0  # after which a caller gives up
ON_THE_WAY_S = 0.01  # there, and back
LATE_S = 7.0  # after signing; what is later than the window is refused
CLOCK_CODE, RATE_CODE, REFUSED_CODE = -1021, -1015, -2019


class Network:
    """What all processes' requests go through; `away_until` per account (by number): nothing answers."""

    def __init__(self, world: World, accounts: int) -> None:
        self.world = world
        self.away_until = [0.0] * accounts
        self.on_the_way = 0  # requests that have left and not arrived

    def cut(self, account: int, seconds: float) -> None:
        self.away_until[account] = self.world.loop.now + seconds
        self.world.injected("exchange", f"does not answer account {account} for {seconds:.2f} s",
                            until=self.away_until[account])  # fmt: skip

    async def read(self, proc: Proc, account: int, name: str, what: Callable[[], T]) -> T:
        """Raises NotSent, NoAnswer or VenueSaid, as a client does."""
        world = self.world
        await proc.step(name)
        if not world.calm:
            if world.loop.now < self.away_until[account] or world.strikes("unread"):
                await self._fail(proc, name, "unread")
            if world.strikes("limited"):
                self._limited(proc, name)
        answer = what()
        await world.loop.pause(world.chance.random() * ON_THE_WAY_S)
        await proc.awake()
        return answer

    async def write(
        self, proc: Proc, account: int, name: str, what: Callable[[], T], *, signed: float | None = None
    ) -> T:
        """`signed`: when it was (virtual seconds); None: now. Raises as `read` does."""
        world, loop = self.world, self.world.loop
        await proc.step(name)
        signed = loop.now if signed is None else signed
        if loop.now - signed > RECV_WINDOW_S:
            raise NotSent("it waited until the exchange would have refused it as too old")
        travel = world.chance.random() * ON_THE_WAY_S
        if not world.calm:
            if loop.now < self.away_until[account]:
                await self._fail(proc, name, "lost")
            if world.strikes("limited"):
                self._limited(proc, name)
            if world.strikes("refused"):
                world.injected(proc.name, f"{name}: refused")
                raise VenueSaid(Kind.REFUSED, REFUSED_CODE, "refused by a fault")
            if world.strikes("lost"):
                await self._fail(proc, name, "lost")
            if world.strikes("unanswered"):
                self._send(travel, signed, name, what)
                wait = world.up_to("unanswered", TIMEOUT_S)
                world.injected(proc.name, f"{name}: no answer for {wait:.2f} s", until=loop.now + wait)
                await loop.pause(wait)
                await proc.awake()
                raise NoAnswer("the answer was lost")
            if world.strikes("late"):
                wait = world.up_to("late", TIMEOUT_S)
                arrives = max(signed - loop.now + world.up_to("late", LATE_S), wait)
                world.injected(proc.name, f"{name}: given up after {wait:.2f} s, arrives after {arrives:.2f} s",
                               until=loop.now + arrives)  # fmt: skip
                self._send(arrives, signed, name, what)
                await loop.pause(wait)
                await proc.awake()
                raise NoAnswer("no answer in time")
        answered = self._send(travel, signed, name, what)
        await asyncio.wait([answered])
        await loop.pause(world.chance.random() * ON_THE_WAY_S)
        await proc.awake()
        if world.calm is False and loop.now < self.away_until[account]:
            raise NoAnswer("the answer was lost")
        return answered.result()

    def write_now(
        self, proc: Proc, account: int, name: str, what: Callable[[], T], *, signed: float
    ) -> Callable[[], Awaitable[T]] | None:
        """It has left when this returns, and its answer is asked for once; None: nothing has left.

        The sender may be killed right after: then what it has left to do in this turn comes to nothing.
        """
        world, loop = self.world, self.world.loop
        too_late = loop.now - signed > RECV_WINDOW_S
        if proc.dead or too_late or (not world.calm and loop.now < self.away_until[account]):
            return None
        world.say(proc.name, name, "at once")
        answer = self._left(proc, account, name, what, signed)
        proc.may_die(f"{name}: written")
        return answer

    def _left(
        self, proc: Proc, account: int, name: str, what: Callable[[], T], signed: float
    ) -> Callable[[], Awaitable[T]]:
        world, loop = self.world, self.world.loop
        if world.strikes("lost"):
            return partial(self._fail, proc, name, "lost", sure=0.0)
        arrives, waits = world.chance.random() * ON_THE_WAY_S, TIMEOUT_S
        if world.strikes("late"):
            arrives = max(0.0, signed - loop.now + world.up_to("late", LATE_S))
            world.injected(proc.name, f"{name}: arrives after {arrives:.2f} s", until=loop.now + arrives)
        if world.strikes("unanswered"):
            waits = world.up_to("unanswered", TIMEOUT_S)
            world.injected(proc.name, f"{name}: no answer for {waits:.2f} s", until=loop.now + waits)
            answered: asyncio.Future[T] = loop.create_future()
            self._send(arrives, signed, name, what)
        else:
            answered = self._send(arrives, signed, name, what)
        return partial(self._answer, proc, account, answered, waits)

    async def _answer(self, proc: Proc, account: int, answered: "asyncio.Future[T]", waits: float) -> T:
        world, loop = self.world, self.world.loop
        await asyncio.wait([answered], timeout=waits)
        await loop.pause(world.chance.random() * ON_THE_WAY_S)
        await proc.awake()
        if not answered.done() or (not world.calm and loop.now < self.away_until[account]):
            raise NoAnswer("the answer was lost")
        return answered.result()

    def _send(self, travel: float, signed: float, name: str, what: Callable[[], T]) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.world.loop.create_future()
        future.add_done_callback(_seen)
        self.on_the_way += 1
        self.world.loop.later(travel, self._arrive, future, signed, name, what)
        return future

    def _arrive(self, future: "asyncio.Future[Any]", signed: float, name: str, what: Callable[[], Any]) -> None:
        self.on_the_way -= 1
        try:
            if self.world.loop.now - signed > RECV_WINDOW_S:
                self.world.say("exchange", "refuses as too old", name)
                raise VenueSaid(Kind.CLOCK, CLOCK_CODE, "the timestamp is outside of the receive window")
            answer = what()
        except (VenueSaid, NoAnswer, NotSent) as error:
            self.world.say("exchange", f"{name}:", error)
            if not future.done():
                future.set_exception(error)
        except BaseException as error:  # an invariant, or a bug of the simulation: the world ends
            self.world.fail(error)
        else:
            if not future.done():
                future.set_result(answer)

    async def _fail(self, proc: Proc, name: str, kind: str, *, sure: float = 0.3) -> Never:
        """It never arrives; whether that is sure is another question."""
        world = self.world
        chance = world.chance_of(kind + ":how")
        refused, wait = chance.random() < sure, chance.random() * chance.choice((0.05, 1.0, TIMEOUT_S))
        until = world.loop.now + wait
        world.injected(proc.name, f"{name}: {'no connection' if refused else 'lost'}, {wait:.2f} s", until=until)
        await world.loop.pause(wait)
        await proc.awake()
        raise NotSent("no connection") if refused else NoAnswer("no answer in time")

    def _limited(self, proc: Proc, name: str) -> None:
        wait = self.world.chance_of("limited:how").choice((None, 0.3, 2.0))
        self.world.injected(proc.name, f"{name}: too many requests, {wait} s", until=self.world.loop.now + (wait or 0))
        raise VenueSaid(Kind.RATE, RATE_CODE, "too many requests", retry_after_s=wait)


def _seen(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
