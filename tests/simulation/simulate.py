"""One seed: make its world, let it run, judge it."""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import msgspec

from app.domain.order import PositionMode
from app.errors import Conflict, InvalidInput, LevelheadError
from app.flows import execute
from app.flows.door import Delivery
from app.flows.receive import KeyConflict, receive
from app.keys import Credentials
from app.store import accounts, strategies
from app.store.db import transaction
from tests.simulation.ending import Ending
from tests.simulation.exchange import Exchange
from tests.simulation.invariants import Invariants
from tests.simulation.loop import Stuck, VirtualLoop, virtual
from tests.simulation.memory.pool import MemoryPool
from tests.simulation.memory.tables import Tables
from tests.simulation.network import Network
from tests.simulation.people import People
from tests.simulation.processes import KEYS, House, Servers, current, replaced, run
from tests.simulation.schedule import TICKS, AlertPlan, Happening, Plan, draw
from tests.simulation.world import KEPT_LINES, Violation, World

SECRET = "a-secret-of-the-simulation"
REST_S = 60.0  # after the last fault everything must have come to rest
FETCHED_S = 240.0  # what a stranger's trade of the same size hides is found when all fills are fetched anew
# Of the price, when all is at rest: in per cent, step by step. Prices that are asked for are known after seconds, and
# the stop at the exchange, half a per cent further away, is not to come first.
SWEEP = [-0.1] * 80 + [0.1] * 160
SLOW_SWEEP = [-0.03] * 270 + [0.03] * 540
SWEEP_S = 400.0  # it takes so long at most, with the time to come to rest
LOOKS_S = 0.5
TICKS_S = (0.1, 0.5)
RESTARTS_S = (0.2, 1.5)
SENDER_PATIENCE_S = 3.0
POSTS_MAX = 40
EXPECTED = (LevelheadError, asyncio.TimeoutError, OSError)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    violation: str | None
    lines: tuple[str, ...]  # of the trace, if it was kept
    digest: str  # of the trace
    seconds: float  # virtual
    steps: int


class Simulation:
    def __init__(self, plan: Plan, loop: VirtualLoop, tell: Callable[[str], None] | None) -> None:
        self.plan = plan
        self.loop = loop
        self.world = World(plan, loop, tell)
        self.tables = Tables()
        self.exchange = Exchange(self.world, plan)
        self.network = Network(self.world, len(plan.accounts))
        self.servers = Servers(self.world, self.tables, self.exchange, self.network)
        self.houses: dict[str, House] = {}
        self.old: list[House] = []  # dead processes: kept, so that nothing of them runs on
        self.invariants = Invariants(self.world, self.exchange, self.tables, self.servers.account_ids)
        self.people = People(self.world, self.exchange, self.servers, self.invariants, self.houses)
        self.ending = Ending(plan, self.invariants)
        self._prices = Random(f"{plan.seed}:prices")
        self._sweeping: dict[str, list[float]] = {}  # symbol -> where its price goes yet
        self._restarts = Random(f"{plan.seed}:restarts")

    async def main(self) -> None:
        """Until it has come to rest, or an invariant does not hold."""
        world, loop, plan = self.world, self.loop, self.plan
        await self._set_up()
        names = [f"worker{n}" for n in range(plan.workers)] + [f"watcher{n}" for n in range(plan.watchers)] + ["api0"]
        for name in names:
            self._start(name)
        for symbol in plan.symbols:
            loop.later(self._prices.uniform(*TICKS_S), self._tick, symbol)
        for happening in plan.happenings:
            loop.call_at(happening.at, self._happen, happening)
        for alert in plan.alerts:
            for at in alert.times:
                loop.call_at(at, self._post, alert)
        loop.call_at(plan.calm_at, self._calm_down)
        wrong: list[str] = []
        while world.violation is None:
            await loop.pause(LOOKS_S)
            if loop.now < plan.calm_at + LOOKS_S or self.tables.server.holder is not None or self.network.on_the_way:
                continue
            wrong = list(self.ending.wrong())
            if not wrong and plan.sweeps and not self._sweeping and any(self._held(symbol) for symbol in plan.symbols):
                if loop.now < world.hindered_until:
                    continue  # somebody is stopped yet
                world.say("market", "goes through everything that is armed")
                armed = [row for row in self.tables.levels.rows if row["status"] == "armed"]
                steps = SWEEP if all(row["trigger_by"] == "last" for row in armed) else SLOW_SWEEP
                self._sweeping = {symbol: list(steps) for symbol in plan.symbols}
                self.ending.swept_from = loop.now_at()
            if not wrong and not any(self._sweeping.values()):
                return
            hidden = self.invariants.by_hand and all(one.startswith(("I9", "I10")) for one in wrong)
            if wrong and loop.now > plan.calm_at + (FETCHED_S if hidden else REST_S) + (
                SWEEP_S if self._sweeping else 0
            ):
                world.fail(Violation("end", "\n    ".join(wrong)))

    async def _set_up(self) -> None:
        pool = MemoryPool(self.tables, self.loop.now_at)
        async with transaction(pool) as connection:
            for number, one in enumerate(self.plan.accounts):
                account = await accounts.create(
                    connection,
                    KEYS,
                    name=f"account{number}",
                    venue=accounts.VenueName(one.venue),
                    environment=accounts.Environment.SIMULATOR,
                    position_mode=PositionMode.HEDGE if one.hedge else PositionMode.ONE_WAY,
                    credentials=Credentials(api_key="key", api_secret="secret"),
                )
                self.servers.account_ids.append(account.id)
            for book in self.plan.books:
                shares = [strategies.AccountShare(account_id=self.servers.account_ids[one]) for one in book.accounts]
                new = strategies.NewStrategy(id=book.strategy, name=book.strategy, accounts=shares)
                await strategies.create(connection, new, KEYS.secret_hash(SECRET))

    # -- processes -----------------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        if self.world.over:
            return
        house = self.houses[name] = House(self.world, self.servers, name)
        house.looks.append(self.invariants.on_commit)
        if "adoption" in self.plan.rates:
            house.looks.append(self.people.look)
        self.world.say(name, "starts")
        house.proc.on_death.append(partial(self._died, house))
        task = self.loop.create_task(run(house))
        house.tasks.add(task)
        task.add_done_callback(partial(self._ended, house))

    def _died(self, house: House) -> None:
        self.old.append(house)
        self.loop.later(self._restarts.uniform(*RESTARTS_S), self._start, house.proc.name)

    def _ended(self, house: House, task: asyncio.Task[None]) -> None:
        """It came to its end by itself: a lease was lost, or nothing could be done without the database."""
        if self.world.over or house.proc.dead or task.cancelled():
            return
        self.world.say(house.proc.name, "ends:", repr(task.exception()))
        house.proc.kill()

    # -- what happens --------------------------------------------------------------------------------------------------

    def _tick(self, symbol: str) -> None:
        if self.world.over:
            return
        plan, chance = self.plan, self._prices
        calm = self.world.calm
        swing = plan.swing * chance.gauss(0, 1) * (0.2 if calm else 1)
        if not calm and chance.random() < plan.jumps:
            swing = chance.uniform(-3, 3)
        if steps := self._sweeping.get(symbol):
            swing = steps.pop(0)
            if not self._held(symbol):
                steps.clear()
        tick = TICKS[symbol]
        price = self.exchange.price(symbol) * (1 + Decimal(str(round(swing, 4))) / 100)
        price = max(tick, (price / tick).to_integral_value() * tick)
        self.world.say("market", symbol, price)
        self._guarded(self.exchange.tick, symbol, price)
        self.loop.later(chance.uniform(*TICKS_S), self._tick, symbol)

    def _held(self, symbol: str) -> bool:
        return any(row["symbol"] == symbol and row["status"] != "closed" for row in self.tables.positions.rows)

    def _guarded(self, what: Callable[..., Any], *args: Any) -> None:
        try:
            what(*args)
        except BaseException as error:
            self.world.fail(error)

    def _happen(self, one: Happening) -> None:
        if self.world.calm or self.world.over:
            return
        match one.what:
            case "crash":
                self.world.say("fault", one.of, "will be killed after", one.steps, "steps at", one.place or "any")
                self.houses[one.of].proc.kill_after(one.steps, one.place)
            case "pause":
                self.houses[one.of].proc.stop(one.seconds)
            case "redis":
                self.servers.lose_redis(one.seconds)
            case "postgres":
                self.servers.restart_postgres(one.seconds, self.world.chance_of("postgres").choice((0, 1, 5)))
            case "outage":
                self.network.cut(one.account, one.seconds)
            case "private_gap":
                self.world.injected("exchange", f"private streams break for {one.seconds:.2f} s",
                                    until=self.loop.now + one.seconds)  # fmt: skip
                for listener in list(self.exchange.listeners[one.account]):
                    listener.break_for(one.seconds)
            case "tick_gap":
                self.world.injected("exchange", f"public streams break for {one.seconds:.2f} s",
                                    until=self.loop.now + one.seconds)  # fmt: skip
                for stream in list(self.exchange.streams):
                    stream.break_for(one.seconds)
            case "silence":
                self.world.injected("exchange", f"{one.of} is silent for {one.seconds:.2f} s",
                                    until=self.loop.now + one.seconds)  # fmt: skip
                for stream in list(self.exchange.streams):
                    stream.silence(one.of, one.seconds)
            case "button":
                self.world.spawn(self.people.presses(Decimal(one.of)))
            case "disabled":
                self.world.spawn(self.people.asks(one, self.people.disable))
            case "patches":
                self.world.spawn(self.people.asks(one, self.people.patch))
            case "adoption":
                self.world.spawn(self.people.adopts(one))
            case "hand_opens":
                self._guarded(self.people.open_by_hand, one)
            case _:
                self._guarded(self.people.by_others, one)

    def _calm_down(self) -> None:
        self.world.say("world", "nothing breaks any more")
        self.world.calm = True
        self.servers.postgres_away_until = self.servers.redis_away_until = 0.0
        for account in self.exchange.accounts:
            for symbol in self.plan.symbols:
                for side in account.position_sides(symbol):
                    self._guarded(self.exchange.show_all, account, symbol, side)
        for house in self.houses.values():
            house.proc.kill_after(-1, "never")

    # -- senders -------------------------------------------------------------------------------------------------------

    def _post(self, alert: AlertPlan) -> None:
        self.world.spawn(self._send(alert))

    async def _send(self, alert: AlertPlan) -> None:
        """As a chart does: again until there is an answer."""
        orders = [{"secret": SECRET, **body} for body in (alert.body, *alert.also)]
        raw = msgspec.json.encode(orders if alert.also else orders[0])
        self.world.say("chart", f"posts a{alert.number}", raw.decode().replace(SECRET, "…"))
        for turn in range(POSTS_MAX):
            house = self.houses["api0"]
            if house.proc.dead:
                await self.loop.pause(0.5)
                continue
            delivery = Delivery(
                strategy_id=alert.strategy, path_secret=None, raw=raw, content_type="application/json", source="chart"
            )
            task = self.loop.create_task(self._receive(house, delivery))
            house.tasks.add(task)
            await asyncio.wait([task], timeout=SENDER_PATIENCE_S)
            if task.done() and not task.cancelled():
                error = task.exception()
                if error is None:
                    receipt = task.result()
                    self.world.say("chart", f"a{alert.number} is", "a duplicate" if receipt.duplicate else "accepted")
                    if self.tables.alerts.row(receipt.alert_id) is None:
                        self.world.fail(Violation("I1", f"alert a{alert.number} was answered and is not stored"))
                    self.ending.accepted[receipt.alert_id] = alert.number
                    return
                if isinstance(error, (InvalidInput, KeyConflict, Conflict)):
                    self.world.fail(Violation("I1", f"alert a{alert.number} was not taken: {error}"))
                    return
            self.world.say("chart", f"a{alert.number} has no answer, try {turn + 1}")
            await self.loop.pause(0.2 + self.world.chance.random())

    async def _receive(self, house: House, delivery: Delivery) -> Any:
        current.set(house)
        return await receive(house.resources, delivery)


class Bugs(logging.Handler):
    """What the program calls unexpected ends the world: an exception that nobody foresaw is a bug of ours."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR if world.tell is None else logging.INFO)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        house = current.get(None)
        who = "?" if house is None else house.proc.name
        if self.world.tell is not None:
            fields = getattr(record, "fields", {})
            facts = [f"{name}={value}" for name, value in fields.items()]
            self.world.say(who, f"[{record.levelname.lower()}] {record.getMessage()}", *facts,
                           "" if error is None else repr(error))  # fmt: skip
        if error is not None and not self.world.over:
            if isinstance(error, Violation):
                self.world.fail(error)
            elif not isinstance(error, EXPECTED) and not type(error).__module__.startswith("asyncpg"):
                self.world.fail(error)


def simulate(
    seed: int, *, tell: Callable[[str], None] | None = None, without: frozenset[str] = frozenset(), digest: bool = False
) -> Result:
    """Run one seed. `tell` hears every line of the trace; `digest` keeps a hash of all of them."""
    plan = draw(seed, without)
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    hashed = hashlib.blake2b(digest_size=8)

    def listen(line: str) -> None:
        if tell is not None:
            tell(line)
        lines.append(line)
        hashed.update(line.encode())

    loop = VirtualLoop()
    listens = tell is not None or digest
    with virtual(loop, Random(seed + 2)), replaced():
        simulation = Simulation(plan, loop, listen if listens else None)
        world = simulation.world
        handler = Bugs(world)
        root = logging.getLogger()
        kept = root.handlers[:], root.level
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO if listens else logging.ERROR)
        watched = _watch_attempts(simulation.invariants)
        asyncio.set_event_loop(loop)
        try:
            main = loop.create_task(simulation.main())
            try:
                loop.run_until_complete(main)
            except Stuck:
                world.fail(Violation("end", "everybody waits for somebody"))
            except Violation as error:
                world.fail(error)
            seconds = loop.now
            world.over = True
            _tear_down(loop)
        finally:
            execute._attempt = watched
            root.handlers[:], root.level = kept
            asyncio.set_event_loop(None)
            loop.close()
    violation = world.violation
    said = None if violation is None else str(violation) if isinstance(violation, Violation) else f"bug: {violation!r}"
    return Result(
        seed=seed, violation=said, lines=tuple(lines), digest=hashed.hexdigest(), seconds=seconds, steps=world.steps
    )


def _watch_attempts(invariants: Invariants) -> Any:
    """Have each attempt of a worker at a book seen (I8); answers what is to be put back."""
    attempt = execute._attempt

    async def watched(resources: Any, book: Any, instruction: Any, *args: Any) -> Any:
        house = current.get()
        invariants.begin(house, book.account_id, book.symbol, book.holder)
        try:
            return await attempt(resources, book, instruction, *args)
        finally:
            invariants.end(house, book.account_id, book.symbol, book.holder)

    execute._attempt = watched
    return attempt


def _tear_down(loop: VirtualLoop) -> None:
    """End whatever still waits; nothing of it does anything any more."""
    for _ in range(100):
        tasks = asyncio.all_tasks(loop)
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        try:
            loop.run_until_complete(asyncio.wait(tasks, timeout=0.001))
        except Stuck:
            continue
