"""`levelhead up`: from an empty directory to a bot that trades on the simulator, and back down again.

Order: lock the directory → clear what a killed `up` left → PostgreSQL and Redis → migrations → simulator → api, worker,
watcher → first-start data → connection.json → sample alert → wait for Ctrl-C → all down in reverse.
"""

import asyncio
import errno
import logging
import shlex
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import msgspec

from app import settings as environment
from app.errors import SettingsError
from app.log import event
from app.settings import Secret, Settings
from app.up import first_start, postgres, redis
from app.up.datadir import DataDir, read_or_make, write_private
from app.up.orphans import Pids
from app.up.supervisor import Service, StartFailed, Supervisor, child_argv, ending

log = logging.getLogger("up")

Check = Callable[[], Awaitable[bool]]

SIMULATOR_PORT: Final = 8090
SAMPLE_SYMBOL: Final = "BTCUSDT"
READY_TIMEOUT_S: Final = 60.0
MIGRATE_TIMEOUT_S: Final = 600.0


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `levelhead up`. None: the setting or the simulator's own default holds."""

    data_dir: Path | None = None
    host: str | None = None
    port: int | None = None
    sample: bool = True
    prices: str | None = None
    speed: str | None = None
    start_at: str | None = None
    symbol: str | None = None


async def up(options: UpOptions, settings: Settings) -> int:
    """Run everything until asked to stop; return the exit code. SettingsError, StartFailed: what is in the way."""
    place = DataDir(options.data_dir or settings.data_dir or Path("data"))
    place.make()
    with place.locked():
        pids = Pids(place.pids)
        async with Supervisor(pids=pids, say=_say) as supervisor:
            supervisor.listen_to_signals()
            run = _Run(options, settings, place, supervisor)
            starting = asyncio.create_task(run.start(pids))
            asked = asyncio.create_task(supervisor.stop_asked.wait())
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                starting.cancel()
                with suppress(asyncio.CancelledError):
                    await starting
            else:
                try:
                    starting.result()
                    await asked
                finally:
                    asked.cancel()
            _say("stopping; a second Ctrl-C kills what still runs")
        _say("stopped")
    return 0


class _Run:
    """The steps of one start. `settings` grows from what was configured to what the processes get."""

    def __init__(self, options: UpOptions, settings: Settings, place: DataDir, supervisor: Supervisor) -> None:
        self.options = options
        self.place = place
        self.supervisor = supervisor
        self.settings = msgspec.structs.replace(
            settings,
            data_dir=place.path,
            host=options.host or settings.host,
            port=options.port or settings.port,
            master_key=settings.master_key or read_or_make(place.master_key),
        )
        self.base_url = local_url(self.settings.host, self.settings.port)

    async def start(self, pids: Pids) -> None:
        await pids.clear_left_behind(_say)
        check_port_free(self.settings.host, self.settings.port)
        await self._start_servers()
        await self._migrate()
        api_key, api_secret = await self._start_simulator()
        await self.supervisor.start(
            self._process("api", ready=self._is_live, alive=True),
            self._process("worker", ready=_at_once),
            self._process("watcher", ready=_at_once),
        )
        await self._wait_ready()
        await self._greet(api_key, api_secret)

    async def _start_servers(self) -> None:
        place, services = self.place, []
        if not self.settings.database_url:
            data, output = place.postgres, place.logs / "postgres.log"
            await postgres.prepare(data=data, sockets=place.sockets, log=output)
            services.append(postgres.service(data=data, sockets=place.sockets, log=output))
            self.settings = msgspec.structs.replace(self.settings, database_url=place.database_url())
        if not self.settings.redis_url:
            services.append(redis.service(data=place.redis, sockets=place.sockets, log=place.logs / "redis.log"))
            self.settings = msgspec.structs.replace(self.settings, redis_url=place.redis_url())
        await self.supervisor.start(*services)

    async def _migrate(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *child_argv(command("app.cli", "migrate")),
            stdin=asyncio.subprocess.DEVNULL,
            env=self._environ(),
            start_new_session=True,
        )
        try:
            code = await asyncio.wait_for(process.wait(), MIGRATE_TIMEOUT_S)
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        if code != 0:
            raise StartFailed(f"the migrations {ending(code)}: see the lines above.")

    async def _start_simulator(self) -> tuple[Secret, Secret]:
        """Start the simulator, unless another is configured; return the API key and secret of our account there."""
        key, secret = read_or_make(self.place.simulator_key), read_or_make(self.place.simulator_secret)
        if self.settings.simulator_url is not None:
            return key, secret
        port = keep_port(self.place.simulator_port, avoid=self.settings.port)
        self.settings = msgspec.structs.replace(self.settings, simulator_url=f"http://127.0.0.1:{port}")
        argv = command("simulator", "--host", "127.0.0.1", "--port", str(port))
        argv += ["--state", str(self.place.simulator_state)]
        for flag, value in (
            ("--prices", self.options.prices),
            ("--speed", self.options.speed),
            ("--start-at", self.options.start_at),
            ("--symbol", self.options.symbol),
        ):
            argv += [] if value is None else [flag, value]
        names = {"SIMULATOR_API_KEY": key.reveal(), "SIMULATOR_API_SECRET": secret.reveal()}
        await self.supervisor.start(
            Service(
                name="simulator",
                argv=argv,
                env=environment.handed_on() | {"PYTHONUNBUFFERED": "1"} | names,
                ready=lambda: _accepts("127.0.0.1", port),
                orphan_signal=signal.SIGTERM,  # an exchange doesn't forget because a customer crashed: let it save
            )
        )
        return key, secret

    def _process(self, name: str, *, ready: Check, alive: bool = False) -> Service:
        return Service(
            name=name,
            argv=command("app.cli", name),
            env=self._environ(),
            ready=ready,
            alive=self._is_live if alive else None,
            beats_at=self.place.sockets / f"{name}.beat",
            stop=((signal.SIGTERM, 15.0),),  # longer than any answer it may wait for
        )

    def _environ(self) -> dict[str, str]:
        return environment.handed_on() | environment.to_environ(self.settings) | {"PYTHONUNBUFFERED": "1"}

    async def _is_live(self) -> bool:
        return await _get(self.base_url + "/health/live") == 200

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while True:
                    if await _get(self.base_url + "/health/ready") == 200:
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StartFailed(
                f"{self.base_url}/health/ready did not answer 200 within {READY_TIMEOUT_S:g} s: see the lines above."
            ) from None

    async def _greet(self, api_key: Secret, api_secret: Secret) -> None:
        place, symbol = self.place, self.options.symbol or SAMPLE_SYMBOL
        first = not place.connection.exists()
        assert self.settings.simulator_url is not None
        info = await first_start.ensure(
            self.settings,
            place.connection,
            self.settings.simulator_url,
            api_key.reveal(),
            api_secret.reveal(),
            self.base_url,
        )
        write_private(place.connection, msgspec.json.format(msgspec.json.encode(info)) + b"\n")
        # In a file, so that the secret gets neither into the log nor into the shell's history.
        write_private(place.example_alert, first_start.example_alert(info, symbol))
        alert = shlex.quote(str(place.example_alert))
        print(
            f"\n  Levelhead runs at  {info.url}\n"
            f"  Log in with the admin of  {place.connection}\n"
            f"  Send an alert:  curl -H 'content-type: application/json' --data @{alert} {info.webhook_url}\n"
            "  Stop with Ctrl-C.\n",
            flush=True,
        )
        if first and self.options.sample:
            await first_start.post_sample(info, symbol)


def check_port_free(host: str, port: int) -> None:
    """Bind the API's address for a moment: the API's own complaint would come late and repeat itself."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise SettingsError(f"{host} is not an address of this machine: choose another with --host.") from None
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"Port {port} on {host} is in use by another program: choose another with --port."
            ) from None
        if exc.errno == errno.EACCES:
            raise SettingsError(f"Port {port} may not be opened by this user: choose another with --port.") from None
        raise SettingsError(f"{host} port {port} can't be opened ({exc.strerror}): see --host and --port.") from None


def keep_port(path: Path, *, avoid: int) -> int:
    """Return the port kept in `path` while it is free; else the usual one, else any free one, and keep that."""
    try:
        kept = int(path.read_text())
    except (FileNotFoundError, ValueError):
        kept = SIMULATOR_PORT
    for wish in (kept, SIMULATOR_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wish))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
        if port != avoid:
            write_private(path, f"{port}\n".encode())
            return port
    raise StartFailed("no TCP port is free on 127.0.0.1 for the simulator")


def local_url(host: str, port: int) -> str:
    """Return the origin under which this machine reaches what listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def command(module: str, *arguments: str) -> list[str]:
    # -P: a directory named `app` where the user happens to stand is not ours.
    return [sys.executable, "-P", "-m", module, *arguments]


async def _get(url: str) -> int | None:
    try:
        # A proxy of the environment is for the outside, not for this machine.
        async with httpx.AsyncClient(trust_env=False, timeout=3) as client:
            return (await client.get(url)).status_code
    except httpx.HTTPError:
        return None


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _at_once() -> bool:
    """For a process that nothing waits for by itself: `/health/ready` names it."""
    return True


def _say(line: str) -> None:
    event(log, logging.INFO, line)
