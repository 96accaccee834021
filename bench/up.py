"""`levelhead up` as a user starts it, with accounts at both faces of its simulator: real processes, to be killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import msgspec

from app.errors import LevelheadError
from app.store.db import Connection, open_connection
from app.up.datadir import DataDir
from app.up.orphans import Child
from bench.stack import BINANCE_LIMITS, HOST, free_ports

START_S_MAX: Final = 90.0
STOP_S_MAX: Final = 60.0
API_TIMEOUT_S: Final = 30.0
VENUES: Final = ("bybit", "binance")
VICTIMS: Final = ("api", "worker", "watcher", "redis", "postgres")
"""Everything that `up` runs but the exchange."""
BALANCE: Final = "100000000"
# More than an account and an address may ask of the exchange: its limits would be measured. What Bybit allows an
# address is not stated in its answers, so that one holds.
LIMITED: Final = ("order/create", "order/cancel", "order/realtime", "execution/list", "position/list",
                  "position/trading-stop", "position/set-leverage")  # fmt: skip
BYBIT_LIMITS: Final = {"paths": dict.fromkeys((f"/v5/{path}" for path in LIMITED), 10_000)}

# A request that met a server which was just killed.
CUT_OFF: Final = (aiohttp.ClientError, OSError, TimeoutError)
NO_DATABASE: Final = (LevelheadError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """An account at one exchange, and a strategy of the same name that trades it alone."""

    name: str
    venue: str
    account: str
    """Its id with us; its API key, the name at the exchange, is `name`."""
    secret: str


class Up:
    """A running `up`. `http` is for questions and prices; alerts go over connections of their own."""

    def __init__(self, place: DataDir, process: asyncio.subprocess.Process, log: Path) -> None:
        self.place = place
        self.log = log
        self._process = process
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=API_TIMEOUT_S))
        self._connection: dict[str, str] = {}
        self._token = ""

    @property
    def url(self) -> str:
        return self._connection["url"]

    async def started(self) -> None:
        """Wait for the greeting."""
        async with asyncio.timeout(START_S_MAX):
            while "Stop with Ctrl-C" not in self.log.read_text(errors="replace"):
                if self._process.returncode is not None:
                    raise RuntimeError(f"up ended while starting:\n{self.log.read_text(errors='replace')[-4000:]}")
                await asyncio.sleep(0.05)
        self._connection = msgspec.json.decode(self.place.connection.read_bytes())
        await self.control("POST", "limits", BYBIT_LIMITS)
        await self.whole_budget()

    async def whole_budget(self) -> None:
        """Binance counts the address from nothing again. A process that has not read the limits yet goes by the real
        ones, which so many accounts behind one address would use up in seconds.
        """
        await self.control("POST", "binance", BINANCE_LIMITS)

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """The exchange's own control API."""
        url = f"{self._connection['simulator_url']}/control/{path}"
        async with self.http.request(method, url, data=None if body is None else msgspec.json.encode(body)) as answer:
            raw = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"control/{path} answered {answer.status}: {raw.decode(errors='replace')}")
            return msgspec.json.decode(raw)

    async def prices(self, trades: list[tuple[str, object]]) -> None:
        """One trade after the other."""
        await self.control("POST", "price", {"trades": [{"symbol": s, "price": str(p)} for s, p in trades]})

    async def ledger(self, symbol: str) -> dict[str, Any]:
        """The exchange's books of one symbol, without the requests that made them."""
        found: dict[str, Any] = await self.control("GET", f"ledger?symbol={symbol}&since={10**15}")
        return found

    async def api(self, method: str, path: str, body: object = None) -> Any:
        """As the admin; logs in when there is no valid token."""
        for _ in range(2):
            if not self._token:
                answer = await self._request("POST", "/auth/login", self._login())
                self._token = answer[1]["access_token"]
            status, found = await self._request(method, path, body)
            if status < 300:
                return found
            if status != 401:
                raise RuntimeError(f"{method} {path} answered {status}: {found}")
            self._token = ""
        raise RuntimeError("the admin is not let in")

    def _login(self) -> dict[str, str]:
        return {"email": self._connection["admin_email"], "password": self._connection["admin_password"]}

    async def _request(self, method: str, path: str, body: object) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        async with self.http.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def is_ready(self) -> bool:
        try:
            async with self.http.get(f"{self.url}/health/ready") as answer:
                return answer.status == 200
        except CUT_OFF:
            return False

    async def desk(self, name: str, venue: str, stop_pct: str) -> Desk:
        """An account at this exchange and a strategy that trades it, with this stop where an alert names none."""
        key = {"api_key": name, "api_secret": f"{name}-secret"}
        await self.control("POST", "accounts", {**key, "venue": venue, "balance": BALANCE})
        rest = self._connection["simulator_url"]
        urls = {"rest": rest, "ws": rest.replace("http", "ws", 1)}
        account = {"name": name, "venue": venue, "environment": "custom", **key, "urls": urls}
        made = (await self.api("POST", "/accounts", account))["id"]
        strategy = {
            "id": name,
            "name": name,
            "defaults": {"stop_loss": {"pct": stop_pct}},
            "accounts": [{"account": made, "multiplier": "1"}],
        }
        secret = (await self.api("POST", "/strategies", strategy))["secret"]
        return Desk(name=name, venue=venue, account=made, secret=secret)

    async def instrument(self, symbol: str, price: str) -> None:
        """A contract of one's own, with round filters."""
        filters = {"tick_size": "0.01", "qty_step": "0.01", "min_qty": "0.01", "max_qty": "100000"}
        body = {"symbol": symbol, **filters, "max_market_qty": "100000", "start_price": price}
        await self.control("POST", "instruments", body)

    def pid(self, name: str) -> int | None:
        """The process that now runs as `name`; None while there is none."""
        children = msgspec.json.decode(self.place.pids.read_bytes(), type=list[Child])
        return next((child.pid for child in children if child.name == name), None)

    def kill(self, name: str) -> bool:
        """kill -9; False if it is not running just now."""
        pid = self.pid(name)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    async def kill_everything(self) -> None:
        """kill -9 of all that runs, `up` first so that it starts nothing anew; also of each process of PostgreSQL's."""
        for pid in with_children(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._process.wait()

    async def connect(self) -> Connection:
        """Our tables, without the house in between. Raises what NO_DATABASE names while it is away."""
        return await open_connection(self.place.database_url().reveal())

    async def stop(self) -> None:
        await self.http.close()
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()  # its children go with it
            await self._process.wait()


@asynccontextmanager
async def running(folder: Path, *flags: str) -> AsyncIterator[Up]:
    """`levelhead up` on a data directory in `folder`, with prices that stand still until somebody sets one."""
    [port] = free_ports(1)
    log = folder / "up.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEVELHEAD_")}
    argv = [sys.executable, "-m", "app.cli", "up", "--data-dir", str(folder / "data"), "--host", HOST]
    argv += ["--port", str(port), "--no-sample", "--prices", "manual", *flags]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    up = Up(DataDir(folder / "data"), process, log)
    try:
        await up.started()
        yield up
    finally:
        await up.stop()


def with_children(pid: int) -> list[int]:
    """A process and all below it, from the top."""
    pids = [pid]
    for one in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            pids += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return pids


async def until(check: Callable[[], Awaitable[bool]], within_s: float, every_s: float = 0.02) -> bool:
    """Whether `check` came to hold in time; what cannot be asked meanwhile does not hold."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        with suppress(*CUT_OFF, *NO_DATABASE):
            if await check():
                return True
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(every_s)
