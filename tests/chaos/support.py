"""A running `levelhead up` that a test does harm to, and what must be true of it afterwards."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from app.crash import POINTS, STOP, VARIABLE
from app.settings import Settings, handed_on, to_environ
from app.up.datadir import DataDir
from tests.chaos.proxy import Proxy
from tests.support import desk as desks
from tests.support.desk import Desk
from tests.support.stack import Stack

ENDED = ("executed", "expired", "refused")


class Crashes:
    """The armed crash points of running processes: a file for each, gone when a process has come there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def arm(self, point: str, symbol: str | None = None, *, how: str = "") -> None:
        """The next process that comes to `point` (at work for `symbol`) dies there; `how` else, see app.crash."""
        file = self._file(point, symbol)
        beside = file.with_name(f".{file.name}")
        beside.write_text(how)
        beside.rename(file)  # there at once with what it says

    def was_hit(self, point: str, symbol: str | None = None) -> bool:
        return not self._file(point, symbol).exists()

    def disarm_all(self) -> None:
        for file in self.folder.iterdir():
            file.unlink(missing_ok=True)

    def mark(self, point: str, symbol: str | None = None) -> Path:
        """The file that says which process was stopped there."""
        file = self._file(point, symbol)
        return file.with_name(f"{file.name}.stopped")

    def _file(self, point: str, symbol: str | None) -> Path:
        assert point in POINTS, point
        return self.folder / (point if symbol is None else f"{point}@{symbol}")


class Chaos:
    """What a test does to the processes of one stack."""

    def __init__(self, stack: Stack, crashes: Crashes) -> None:
        self.stack = stack
        self.crashes = crashes
        self._beside: list[Beside] = []

    def arm(self, point: str, symbol: str | None = None, *, after_s: float | None = None) -> None:
        """The next process that comes to `point` (at work for `symbol`) dies there, or so much later."""
        self.crashes.arm(point, symbol, how="" if after_s is None else str(after_s))

    async def crashed(self, point: str, symbol: str | None = None, *, within_s: float = 30) -> None:
        """Wait until a process has died at `point`."""

        async def hit() -> bool:
            return self.crashes.was_hit(point, symbol)

        await self.stack.eventually(hit, within_s=within_s, what=f"a process dies at {point}")

    @asynccontextmanager
    async def crash(self, point: str, name: str, symbol: str | None = None) -> AsyncIterator[None]:
        """Around what makes process `name` die at `point`: armed before, restarted after."""
        before = self.stack.pid(name)
        self.arm(point, symbol)
        yield
        await self.crashed(point, symbol)
        await self.is_back(name, before)

    @asynccontextmanager
    async def frozen(self, point: str, symbol: str | None = None) -> AsyncIterator[Callable[[], Awaitable[int]]]:
        """Have a process stopped (SIGSTOP) at `point`; what is yielded waits for that and answers its pid. It goes on
        at the end, or earlier if the test sends SIGCONT itself.
        """
        mark = self.crashes.mark(point, symbol)
        mark.unlink(missing_ok=True)
        self.crashes.arm(point, symbol, how=STOP)

        async def there() -> bool:
            return mark.exists() and bool(mark.read_text())

        async def reached() -> int:
            await self.stack.eventually(there, within_s=120, what=f"a process is stopped at {point}")
            return int(mark.read_text())

        try:
            yield reached
        finally:
            if mark.exists():
                with suppress(ProcessLookupError):
                    os.kill(int(mark.read_text()), signal.SIGCONT)

    @asynccontextmanager
    async def beside(self, name: str, **changes: object) -> AsyncIterator["Beside"]:
        """One more `levelhead <name>` of this stack, with settings of its own; restarted at once whenever it dies."""
        found = DataDir(self.stack.data_dir).complete(Settings())
        found = msgspec.structs.replace(found, **changes)
        environ = handed_on() | to_environ(found) | {VARIABLE: str(self.crashes.folder)}
        log = self.stack.data_dir.parent / f"beside-{name}-{uuid4().hex[:6]}.log"
        made = Beside(name, environ, log)
        await made.spawn()
        self._beside.append(made)
        keeping = asyncio.create_task(made.keep())
        try:
            yield made
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            self._beside.remove(made)
            await made.end()

    async def is_back(self, name: str, before: int) -> None:
        """Wait for the process that runs as `name` in place of `before`; it may not be ready yet."""

        async def changed() -> bool:
            try:
                return self.stack.pid(name) != before
            except ValueError:
                return False  # between two of them

        await self.stack.eventually(changed, what=f"{name} is restarted")

    async def kill(self, name: str) -> None:
        """SIGKILL, and wait for the next one."""
        before = self.stack.pid(name)
        self.stack.kill(name)
        await self.is_back(name, before)

    def beside_of(self, pid: int) -> "Beside | None":
        """The process beside with this pid."""
        return next((one for one in self._beside if one.process.pid == pid), None)

    def kill_all(self, name: str) -> None:
        """SIGKILL to every process of this kind that lives at the moment, those beside too."""
        with suppress(ValueError, ProcessLookupError):
            self.stack.kill(name)
        for one in self._beside:
            if one.name == name and one.process.returncode is None:
                with suppress(ProcessLookupError):
                    one.process.kill()

    async def is_ready(self) -> bool:
        return (await self.stack.http.get(f"{self.stack.connection['url']}/health/ready")).status_code == 200

    async def ready(self) -> None:
        """Wait until every part works again."""
        await self.stack.eventually(self.is_ready, what="health")

    @asynccontextmanager
    async def stopped(self, name: str) -> AsyncIterator[None]:
        """SIGSTOP, and SIGCONT at the end: the process neither runs nor dies."""
        pid = self.stack.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):  # killed meanwhile
                os.kill(pid, signal.SIGCONT)

    async def fault(self, kind: str, **options: object) -> None:
        """A fault of the simulator's: drop_answer, late_visible, partial_fill … see docs/simulator.md."""
        await self.stack.control("POST", "faults", {"fault": kind, **options})

    async def clear_faults(self) -> None:
        await self.stack.control("DELETE", "faults")

    async def both_desks(self, name: str) -> list[Desk]:
        """An account and a strategy at each of the two exchanges."""
        return [await desks.desk(self.stack, f"{venue}-{name}") for venue in ("bybit", "binance")]


class Beside:
    """A process of a stack that the stack's own supervisor does not know."""

    def __init__(self, name: str, environ: Mapping[str, str], log: Path) -> None:
        self.name, self.environ, self.log = name, environ, log
        self.process: asyncio.subprocess.Process

    async def spawn(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.cli", self.name, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env=dict(self.environ),
            )  # fmt: skip

    async def keep(self) -> None:
        while True:
            await self.process.wait()
            await self.spawn()

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def lines_with(self, words: str) -> int:
        """How many lines of its log say so."""
        return sum(words in line for line in self.log.read_text(errors="replace").splitlines())

    async def says(self, stack: Stack, words: str) -> None:
        """Wait until its log says so."""
        await self.says_more(stack, words, 0)

    async def says_more(self, stack: Stack, words: str, than: int, *, within_s: float = 60) -> None:
        """Wait until more than so many lines of its log say so."""

        async def said() -> bool:
            return self.lines_with(words) > than

        await stack.eventually(said, within_s=within_s, what=f"{self.name} says {words}")


async def desk_through(stack: Stack, name: str, rest: Proxy, ws: Proxy | None = None) -> Desk:
    """As `tests.support.desk.desk`, with its requests by way of one proxy and its sockets by way of another."""
    ws = ws or rest
    venue, key = name.split("-")[0], f"{name}-api-key"
    await stack.control("POST", "accounts", {"api_key": key, "api_secret": "hush", "venue": venue})
    body = {
        "name": name, "venue": venue, "environment": "custom", "api_key": key, "api_secret": "hush",
        "urls": {"rest": f"http://127.0.0.1:{rest.port}", "ws": f"ws://127.0.0.1:{ws.port}"},
    }  # fmt: skip
    made: str = (await stack.post_api("/accounts", body))["id"]
    secret = await desks.strategy(stack, name, {made: "1"})
    return Desk(stack=stack, account=made, api_key=key, strategy=name, secret=secret)


async def each(what: Callable[[Desk], Awaitable[Any]], found: list[Desk]) -> list[Any]:
    """The same for several desks at once."""
    return list(await asyncio.gather(*(what(one) for one in found)))


def create_path(desk: Desk) -> str:
    """Where its orders are sent, for faults with a `path`."""
    return "/fapi/v1/order" if desk.strategy.startswith("binance") else "/v5/order/create"


async def held_there(desk: Desk, symbol: str) -> tuple[str, Decimal]:
    """Side and quantity as the exchange has it."""
    for one in (await desk.stack.control("GET", f"ledger?symbol={symbol}"))["positions"]:
        if one["account"] == desk.api_key and one["side"] != "flat":
            return one["side"], Decimal(one["qty"])
    return "flat", Decimal(0)


async def opened(desk: Desk, symbol: str) -> int:
    """How many orders that were filled opened or added."""
    return sum(1 for o in await desk.orders(symbol) if Decimal(o["filled_qty"]) and not o["reduce_only"])


async def asked(stack: Stack, path: str) -> Any:
    """An answer of the API, which may be away for a moment."""
    return await desks.awaited(stack, lambda: stack.get(path), f"an answer to {path}")


async def agrees(desk: Desk, symbol: str) -> bool:
    """Our newest position is what the exchange holds: side, quantity, and a stop that rests there; or both are flat."""
    ours, (side, qty) = await desk.position(symbol), await held_there(desk, symbol)
    if ours is None or ours["status"] == "closed":
        return side == "flat" and not await desk.resting(symbol)
    same = (ours["side"], Decimal(ours["qty"])) == (side, qty)
    return same and set(ours["protected_by"]) == {"watcher", "exchange"}


async def is_sound(desk: Desk, symbol: str, *, openings: int | None = 1, within_s: float = 60) -> None:
    """Wait until our tables and the ledger agree and what is held is protected; then nothing may have been doubled.

    `openings` is how many orders may have opened or added in the whole life of the book; None: whatever it was.
    """
    await desk.stack.eventually(
        lambda: agrees(desk, symbol),
        within_s=within_s,
        what=f"{desk.strategy} {symbol}: ours = the exchange's, protected or flat",
    )
    assert openings in (None, await opened(desk, symbol)), await desk.orders(symbol)
    counted = Decimal(0)
    for one in (await asked(desk.stack, f"/positions?account={desk.account}&symbol={symbol}"))["items"]:
        counted += Decimal((await asked(desk.stack, f"/positions/{one['id']}"))["qty_opened"])
    there = sum((Decimal(o["filled_qty"]) for o in await desk.orders(symbol) if not o["reduce_only"]), Decimal(0))
    assert counted == there, "each fill is counted, and once"


async def one_end(stack: Stack, alert_id: str) -> Mapping[str, Any]:
    """The outcome of an alert that has ended: a status that is an end, and a code."""
    alert = await desks.outcome(stack, alert_id)
    assert alert["outcome"]["code"], alert
    found: Mapping[str, Any] = alert
    return found
