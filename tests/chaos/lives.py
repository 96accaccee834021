"""Lives that run side by side in one stack, each in a book of its own, at both exchanges: they take as long as the
longest of them. A test waits for its own and fails as it did.

A crash takes a whole process, so it also hits what that does for the neighbours. Nothing crashes before every life has
ended or asked for the storm.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.chaos.proxy import WithoutOrderSockets, proxy, upstream_of
from tests.chaos.support import Chaos, create_path, desk_through, held_there, is_sound, opened
from tests.support import desk as desks
from tests.support.desk import Desk, awaited
from tests.support.stack import Stack

VENUES = ("bybit", "binance")
# With an account of one's own, whose orders go over the socket or over REST: for what cuts the link that all orders of
# an account share.
ALONE = tuple(f"{venue}-{road}" for venue in VENUES for road in ("socket", "rest"))
ONE = {"base": "1"}
WITHIN_S = 200.0  # a bound for machines that are busy
LOOK_AGAIN_S = 0.25  # dozens look at the same time
TRIES = 15
FLAT = ("flat", Decimal(0))
NOTHING = ("never_arrived", "too_old", "blind", "not_compared")  # what a neighbour's crash may do to an opening

INSTRUMENT = {
    "tick_size": "0.01", "qty_step": "0.1", "min_qty": "0.1", "max_qty": "10000", "max_market_qty": "10000",
    "min_notional": "5", "max_leverage": "50", "start_price": "100",
}  # fmt: skip


class Storm:
    """Begins when all lives have ended or wait for it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.began = asyncio.Event()

    def one_less(self) -> None:
        self.waiting -= 1
        if self.waiting == 0:
            self.began.set()


class Book:
    """One account's book in which one life is led; prices, faults and crash points are those of its symbol alone."""

    def __init__(self, chaos: Chaos, desk: Desk, symbol: str, storm: Storm) -> None:
        self.chaos, self.stack, self.desk, self.symbol = chaos, chaos.stack, desk, symbol
        self.venue = desk.strategy.split("-")[0]
        self._storm = storm
        self._calm = True
        self.turn = 0  # of `dies`
        self._orders_before = self._sent_before = self._openings_before = 0

    async def storm(self) -> None:
        """From here on neighbours may crash what works for this book."""
        self.leave_the_calm()
        await self._storm.began.wait()

    def leave_the_calm(self) -> None:
        if self._calm:
            self._calm = False
            self._storm.one_less()

    async def alert(self, action: str, **more: object) -> str:
        """Send an alert, again and again while nobody answers, as a sender does; answers its id."""
        body = {"symbol": self.symbol, "action": action, "id": uuid4().hex, **more}
        url = f"{self.stack.connection['url']}/webhook/{self.desk.strategy}/{self.desk.secret}"

        async def taken() -> str | None:
            answer = await self.stack.http.post(url, json=body)
            assert answer.status_code in (200, 202, 503), answer.text
            return None if answer.status_code == 503 else str(answer.json()["alert_id"])

        alert_id: str = await awaited(self.stack, taken, f"an answer to {self.symbol}'s alert", WITHIN_S)
        return alert_id

    async def executed(self, action: str, **more: object) -> dict[str, Any]:
        return await self.ends(await self.alert(action, **more), "executed")

    async def ended(self, alert_id: str) -> dict[str, Any]:
        """The alert when it has ended."""

        async def end() -> dict[str, Any] | None:
            found: dict[str, Any] = await self.stack.get(f"/alerts/{alert_id}")
            return None if found["status"] in ("received", "executing") else found

        alert: dict[str, Any] = await awaited(self.stack, end, f"the end of {self.symbol}'s alert", WITHIN_S)
        return alert

    async def ends(self, alert_id: str, code: str) -> dict[str, Any]:
        """The alert, ended with this code."""
        alert = await self.ended(alert_id)
        assert alert["outcome"]["code"] == code, alert["outcome"]
        return alert

    async def price(self, *prices: object) -> None:
        await self.stack.price(self.symbol, *prices)

    async def fault(self, kind: str, **options: object) -> None:
        """Of the exchange, for this symbol."""
        await self.chaos.fault(kind, symbol=self.symbol, **options)

    async def order_fault(self, kind: str, **options: object) -> None:
        """Of the next order that is sent."""
        await self.fault(kind, path=create_path(self.desk), **options)

    def arm(self, point: str, *, after_s: float | None = None) -> None:
        self.chaos.arm(point, self.symbol, after_s=after_s)

    async def crashed(self, point: str) -> None:
        await self.chaos.crashed(point, self.symbol, within_s=WITHIN_S)

    async def opens(self, action: str = "buy", **more: object) -> None:
        """Open, also when a neighbour's crash takes the worker before anything has left."""
        for _ in range(TRIES):
            alert = await self.ended(await self.alert(action, **{"size": ONE, **more}))
            if alert["outcome"]["code"] == "executed":
                return
            assert alert["outcome"]["code"] in NOTHING, alert["outcome"]
        raise AssertionError(f"{TRIES} times a neighbour's crash was faster")

    async def dies(
        self,
        point: str,
        action: str,
        *,
        code: str = "executed",
        after_s: float | None = None,
        leverage: int | None = None,
        **more: object,
    ) -> dict[str, Any]:
        """Send an alert whose worker dies at `point` (or so much later); answers the alert when it has ended.

        A neighbour's crash may take the worker first, so that the alert rightly comes to nothing, or to its end past
        the point: then all is as before the alert, and it is sent once more. A `leverage` is another one each time, so
        that it has to be set.
        """
        held = await held_there(self.desk, self.symbol)
        for self.turn in range(TRIES):
            if leverage is not None:
                more["leverage"] = leverage + self.turn
            self.arm(point, after_s=after_s)
            alert = await self.ended(await self.alert(action, **more))
            ended, hit = alert["outcome"]["code"], self.chaos.crashes.was_hit(point, self.symbol)
            if hit and ended == code:
                return alert
            # One that was to grow too old may also be taken over in time.
            in_time = ended == "executed" and (not hit or code == "too_old")
            assert in_time or ended in (code, *NOTHING), alert["outcome"]
            await self.begin_anew(held)
        raise AssertionError(f"{TRIES} times a neighbour's crash was faster")

    async def begin_anew(self, held: tuple[str, Decimal] = FLAT) -> None:
        """Flat, or the long of before, and nothing counted up to now."""
        await self.sound(openings=None)
        if await held_there(self.desk, self.symbol) != held:
            await self.ended(await self.alert("close"))
            await self.sound(openings=None)
        self._openings_before = await opened(self.desk, self.symbol)
        self._orders_before += len(await self.orders())
        self._sent_before += len(await self.sent())
        if held != FLAT and await held_there(self.desk, self.symbol) == FLAT:
            await self.opens(size={"base": str(held[1])})

    async def becomes(self, side: str | None = None, **wanted: object) -> Any:
        return await self.desk.becomes(self.symbol, side, within_s=WITHIN_S, **wanted)

    async def sound(self, *, openings: int | None = 1) -> None:
        await is_sound(self.desk, self.symbol, openings=None if openings is None else self._openings_before + openings)

    async def orders(self) -> list[dict[str, Any]]:
        """What the exchange has of this book, the oldest first."""
        return (await self.desk.orders(self.symbol))[self._orders_before :]

    async def sent(self) -> list[dict[str, Any]]:
        """Requests for an order of this book that reached the exchange, whatever became of them."""
        found = [
            request
            for request in (await self.stack.control("GET", "ledger?symbol=-"))["requests"]
            if (request["method"], request["path"]) == ("POST", create_path(self.desk))
            and request["api_key"] == self.desk.api_key
            and self.symbol in f"{request['query']} {request['body']}"
        ]
        if "-rest" in self.desk.strategy:
            assert {request["channel"] for request in found} <= {"rest"}
        return found[self._sent_before :]

    async def traded(self) -> list[tuple[str, str]]:
        return [(o["side"], o["filled_qty"]) for o in await self.orders() if Decimal(o["filled_qty"])]

    async def held(self, qty: str) -> None:
        """Wait until the exchange holds so much."""

        async def holds() -> bool:
            found = (await self.stack.control("GET", f"ledger?symbol={self.symbol}"))["positions"]
            return any(one["account"] == self.desk.api_key and Decimal(one["qty"]) == Decimal(qty) for one in found)

        await self.stack.eventually(holds, within_s=WITHIN_S, what=f"the exchange holds {qty} {self.symbol}")


Life = Callable[[Book], Awaitable[None]]


class Lives:
    """What was begun, by name and venue."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def begin(self, name: str, venue: str, life: Life, book: Book) -> None:
        self._tasks[name, venue] = asyncio.create_task(_lead(life, book))

    async def end(self, name: str, venue: str) -> None:
        """Wait for the end of this life; raises what it has raised."""
        await self._tasks[name, venue]

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def _lead(life: Life, book: Book) -> None:
    try:
        await life(book)
    finally:
        book.leave_the_calm()


def life(at: Life | None = None, *, venues: tuple[str, ...] = VENUES) -> Callable[..., Any]:
    """Decorates a test that takes a Book: led at both exchanges (or at `venues`) beside the module's other lives."""

    def decorate(led: Life) -> Callable[..., Any]:
        @pytest.mark.parametrize("venue", venues)
        async def test(lives: Lives, venue: str) -> None:
            await lives.end(led.__name__, venue)

        test.__name__, test.__qualname__, test.__doc__ = led.__name__, led.__qualname__, led.__doc__
        test.life = led  # type: ignore[attr-defined]
        return test

    return decorate if at is None else decorate(at)


def asked_for(request: pytest.FixtureRequest) -> list[tuple[str, Life, str]]:
    """Name, life and venue of the module's tests that are to run."""
    return [
        (item.function.__name__, item.function.life, str(item.callspec.params["venue"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item.function, "life")
    ]


@asynccontextmanager
async def living(chaos: Chaos, led: list[tuple[str, Life, str]], *, beside: tuple[str, ...]) -> AsyncIterator[Lives]:
    """Begin these lives. The processes `beside` those of `up` are restarted without a pause, however often they die."""
    stack, lives, storm, books = chaos.stack, Lives(), Storm(), []
    stack.look_again_s = LOOK_AGAIN_S
    for number, (_, _, venue) in enumerate(led):
        symbol = f"T{number:02}{'YN'[VENUES.index(venue.partition('-')[0])]}USDT"
        await stack.control("POST", "instruments", {**INSTRUMENT, "symbol": symbol, "base_coin": symbol[:-4]})
        await stack.price(symbol, "100")
        books.append(symbol)
    async with AsyncExitStack() as processes:
        more = [await processes.enter_async_context(chaos.beside(name)) for name in beside]
        for one in more:
            await one.says(stack, f"{one.name} ready")
        desks_of = {venue: await desks.desk(stack, f"{venue}-lives") for venue in VENUES}
        by_rest = await processes.enter_async_context(
            proxy(upstream_of(stack.connection["simulator_url"]), WithoutOrderSockets)
        )
        for number, (_, _, venue) in enumerate(led):
            if venue.endswith("-socket"):
                desks_of[f"{venue}{number}"] = await desks.desk(stack, f"{venue}{number}")
            elif venue.endswith("-rest"):
                desks_of[f"{venue}{number}"] = await desk_through(stack, f"{venue}{number}", by_rest)
        storm.waiting = len(led)
        for number, ((name, one_life, venue), symbol) in enumerate(zip(led, books, strict=True)):
            desk = desks_of[f"{venue}{number}" if venue in ALONE else venue]
            lives.begin(name, venue, one_life, Book(chaos, desk, symbol, storm))
        forgetting = asyncio.create_task(_forget_weights(stack))
        try:
            yield lives
        finally:
            forgetting.cancel()
            await lives.stop()


async def _forget_weights(stack: Stack) -> None:
    """All lives together ask for more than one address may in a minute: now and then they get a new budget."""
    while True:
        await stack.control("POST", "binance", {"limits": {}})
        await asyncio.sleep(3)
