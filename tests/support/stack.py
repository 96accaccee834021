"""`levelhead up` as a user starts it: real processes, to be killed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

START_S_MAX = 60.0


class Stack:
    """A running `up`: its log, its addresses, its processes."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process, log: Path) -> None:
        self.data_dir = data_dir
        self.process = process
        self.log = log
        self.http = httpx.AsyncClient(timeout=10, trust_env=False, verify=False)
        self.connection: dict[str, str] = {}
        self.look_again_s = 0.05
        self._token = ""

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    async def started(self) -> None:
        """Wait for the greeting; then the addresses are known."""
        async with asyncio.timeout(START_S_MAX):
            while "Stop with Ctrl-C" not in self.output():
                assert self.process.returncode is None, self.output()
                await asyncio.sleep(0.05)
        self.connection = msgspec.json.decode((self.data_dir / "connection.json").read_bytes())

    async def post(self, body: dict[str, object]) -> httpx.Response:
        return await self.http.post(
            self.connection["webhook_url"], json={"secret": self.connection["webhook_secret"], **body}
        )

    async def alert(self, strategy: str, secret: str, body: Mapping[str, object]) -> str:
        """Send an alert to a strategy; answers its id."""
        answer = await self.http.post(f"{self.connection['url']}/webhook/{strategy}/{secret}", json=body)
        assert answer.status_code == 202, answer.text
        alert_id: str = answer.json()["alert_id"]
        return alert_id

    async def get(self, path: str) -> Any:
        """An answer of the API as the admin."""
        return await self._api("GET", path)

    async def post_api(self, path: str, body: object) -> Any:
        return await self._api("POST", path, body)

    def headers(self) -> dict[str, str]:
        """Of a request as the admin; after any call of the API."""
        return {"authorization": f"Bearer {self._token}"}

    async def _api(self, method: str, path: str, body: object = None) -> Any:
        """Logs in when there is no valid token."""
        for _ in range(2):
            if not self._token:
                await self._log_in()
            answer = await self.http.request(
                method,
                f"{self.connection['url']}/api/v1{path}",
                json=body,
                headers=self.headers(),
            )
            if answer.status_code != 401:
                answer.raise_for_status()
                return answer.json()
            self._token = ""
        raise AssertionError(f"no access: {answer.text}")

    async def _log_in(self) -> None:
        answer = await self.http.post(
            f"{self.connection['url']}/api/v1/auth/login",
            json={"email": self.connection["admin_email"], "password": self.connection["admin_password"]},
        )
        answer.raise_for_status()
        self._token = answer.json()["access_token"]

    async def control(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.http.request(method, f"{self.connection['simulator_url']}/control/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def price(self, symbol: str, *prices: object) -> None:
        await self.control("POST", "price", {"trades": [{"symbol": symbol, "price": str(p)} for p in prices]})

    def pid(self, name: str) -> int:
        """The process that now runs as `name`."""
        children = msgspec.json.decode((self.data_dir / "run" / "pids.json").read_bytes())
        [found] = [child["pid"] for child in children if child["name"] == name]
        assert isinstance(found, int)
        return found

    def kill(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGKILL)

    async def eventually(self, check: Any, *, within_s: float = 30.0, what: str = "") -> None:
        """Wait until `check` holds; what cannot be reached meanwhile does not hold."""
        deadline = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < deadline:
            try:
                if await check():
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(self.look_again_s)
        raise AssertionError(f"not within {within_s} s: {what}\n{self.output()[-6000:]}")

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), 30)

    async def kill_everything(self) -> None:
        """Every process of it at once, the supervisor first, as when the machine loses its power."""
        children = msgspec.json.decode((self.data_dir / "run" / "pids.json").read_bytes())
        self.process.kill()
        for child in children:
            try:
                os.kill(child["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue
        await self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def keep_simulator_port(data_dir: Path) -> None:
    """Any free one: the usual one is wished for by all that start side by side."""
    data_dir.mkdir(mode=0o700, exist_ok=True)
    kept = data_dir / "simulator.port"
    if not kept.exists():
        kept.write_text(f"{free_port()}\n")


@asynccontextmanager
async def up(
    data_dir: Path, *flags: str, port: int | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """`levelhead up` with these flags and LEVELHEAD_ settings, started; stopped at the end."""
    port = port or free_port()
    keep_simulator_port(data_dir)
    log = data_dir.parent / f"{data_dir.name}-{port}.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEVELHEAD_")}
    environ |= settings or {}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli", "up", "--data-dir", str(data_dir), "--port", str(port),
            *flags, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ,
            start_new_session=True,
        )  # fmt: skip
    stack = Stack(data_dir, process, log)
    try:
        await stack.started()
        yield stack
    finally:
        await stack.stop()
        await stack.http.aclose()
