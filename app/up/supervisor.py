"""Start processes in order, restart what dies, stop everything in reverse order.

Children write to our own stdout and stderr (or to their log file), so no line waits for us. Each lives in a session of
its own: Ctrl-C in the terminal reaches only the supervisor, which then asks them to stop. When the supervisor itself is
killed, the kernel signals them (see child.py).
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from app.beat import MESSAGE, VARIABLE
from app.errors import LevelheadError
from app.up.child import EXIT_NEVER_BETTER
from app.up.orphans import Pids

CHILD: Final = Path(__file__).with_name("child.py")

RESTART_AFTER_S: Final = 0.2
RESTART_AFTER_S_MAX: Final = 10.0
HEALTHY_AFTER_S: Final = 5.0
"""A process that lived this long is taken for healthy again: its next restart waits only RESTART_AFTER_S."""
READY_POLL_S: Final = 0.05
ALIVE_POLL_S: Final = 2.0
BEAT_POLL_S: Final = 0.5
BEAT_LATE_S: Final = 0.5
"""Come so late to look for signs of life, we were kept from running ourselves: then silence proves nothing."""
LOG_BYTES_MAX: Final = 5 * 1024 * 1024


class StartFailed(LevelheadError):
    """A service did not become ready; the message says which one, what was seen, and where to look."""


class Identity(msgspec.Struct, frozen=True):
    """The user that a process runs as."""

    uid: int
    gid: int


class Service(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    argv: Sequence[str]

    env: Mapping[str, str]
    """The whole environment of the process; nothing of ours is added."""

    ready: Callable[[], Awaitable[bool]]
    """Asked again and again until it answers True; it must answer within about a second."""

    ready_timeout_s: float = 30

    alive: Callable[[], Awaitable[bool]] | None = None
    """Asked every 2 s once ready; a process that says nothing good for `alive_timeout_s` is killed, so restarted."""

    alive_timeout_s: float = 15

    beats_at: Path | None = None
    """Where it gives a sign of life each second (a Unix socket that we make; see `app.beat`). One that falls silent for
    `beat_timeout_s` is killed, so restarted; before its first sign it has `first_beat_timeout_s`."""

    beat_timeout_s: float = 5
    first_beat_timeout_s: float = 60

    stop: Sequence[tuple[int, float]] = ((signal.SIGTERM, 10.0),)
    """Signals to stop it with, each with the seconds it is given; SIGKILL comes after the last."""

    orphan_signal: int = signal.SIGKILL
    """What the kernel sends it when the supervisor dies."""

    user: Identity | None = None
    log: Path | None = None
    """Where its output goes; ours if None."""


class Supervisor:
    """Runs services until stopped. `say` gets one readable line per thing a person should know."""

    def __init__(self, *, pids: Pids, say: Callable[[str], None]) -> None:
        self.stop_asked = asyncio.Event()
        self._pids = pids
        self._say = say
        self._groups: list[list[_Kept]] = []
        self._kill_asked = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def listen_to_signals(self) -> None:
        """Ask for a stop at SIGINT, SIGTERM or a closed terminal; the second one kills what still runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to live on
            loop.add_signal_handler(signal.SIGHUP, self.stop_asked.set)

    def _on_signal(self) -> None:
        if not self.stop_asked.is_set():
            self.stop_asked.set()
            return
        self._kill_asked = True
        for group in self._groups:
            for kept in group:
                kept.kill()

    async def start(self, *services: Service) -> None:
        """Start `services` together and return when all are ready. StartFailed if one isn't in its time."""
        together = [_Kept(service, self._pids, self._say) for service in services]
        self._groups.append(together)
        for kept in together:
            kept.begin()
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(kept.wait_ready()) for kept in together]
        for kept, wait in zip(together, waits, strict=True):
            problem = wait.result()
            if problem is not None:
                raise StartFailed(f"{kept.service.name} {problem}")

    async def stop(self) -> None:
        """Stop everything: what was started last first, what was started together together."""
        self.stop_asked.set()
        for group in self._groups:
            for kept in group:
                kept.stopping.set()
        while self._groups:
            await asyncio.gather(*(kept.end(at_once=self._kill_asked) for kept in self._groups[-1]))
            self._groups.pop()


class _Kept:
    """One service with the task that keeps it running."""

    def __init__(self, service: Service, pids: Pids, say: Callable[[str], None]) -> None:
        self.service = service
        self.stopping = asyncio.Event()
        self._pids = pids
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self._hopeless: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._beats = None if service.beats_at is None else _Beats(service.beats_at)

    def begin(self) -> None:
        if self.service.log is not None:
            rotate(self.service.log)
        if self._beats is not None:
            self._beats.listen()
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.service.name}")

    async def _keep(self) -> None:
        delay_s = RESTART_AFTER_S
        while not self.stopping.is_set():
            started = time.monotonic()
            process = self._process = await self._spawn()
            watches = []
            if self.service.alive is not None:
                watches.append(asyncio.create_task(self._watch(self.service.alive, process)))
            if self._beats is not None:
                watches.append(asyncio.create_task(self._watch_beats(self._beats, process)))
            code = await process.wait()
            for watch in watches:
                watch.cancel()
            lived_s = time.monotonic() - started
            self._pids.remove(process.pid)
            if self.stopping.is_set():
                return
            if code == EXIT_NEVER_BETTER and not self._was_ready:
                self._hopeless = f"could not start{self._log_hint()}"
                return
            if lived_s >= HEALTHY_AFTER_S:
                delay_s = RESTART_AFTER_S
            said = "" if self.service.log is None else f" ({last_line(self.service.log)})"
            self._say(
                f"{self.service.name} {ending(code)} after {lived_s:.1f} s{said}; it is restarted in {delay_s:g} s"
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), delay_s)
            delay_s = min(delay_s * 2, RESTART_AFTER_S_MAX)

    async def _spawn(self) -> asyncio.subprocess.Process:
        service = self.service
        env = dict(service.env)
        if self._beats is not None:
            self._beats.forget()
            env[VARIABLE] = str(service.beats_at)
        log = None if service.log is None else os.open(service.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *child_argv(service.argv, orphan_signal=service.orphan_signal, user=service.user),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        finally:
            if log is not None:
                os.close(log)
        self._pids.add(process.pid, service.name)
        if self.stopping.is_set():  # asked while we were spawning: `end` saw no process to signal
            process.send_signal(service.stop[0][0])
        return process

    async def _watch(self, alive: Callable[[], Awaitable[bool]], process: asyncio.subprocess.Process) -> None:
        """Kill the process when it has shown no life for too long: a stalled loop or a stopped process never dies."""
        last_sign = time.monotonic()
        while True:
            await asyncio.sleep(ALIVE_POLL_S)
            if not self._was_ready or await alive():
                last_sign = time.monotonic()
            elif time.monotonic() - last_sign > self.service.alive_timeout_s:
                self._say(f"{self.service.name} shows no life for {self.service.alive_timeout_s:g} s; it is killed")
                _kill_group(process, signal.SIGKILL)
                return

    async def _watch_beats(self, beats: "_Beats", process: asyncio.subprocess.Process) -> None:
        """Kill the process when its event loop does not turn any more, however that came about."""
        first = last_sign = time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(BEAT_POLL_S)
            now = time.monotonic()
            if now - before > BEAT_POLL_S + BEAT_LATE_S:
                last_sign = now
            last_sign = max(last_sign, beats.heard_at or first)
            bound_s = self.service.beat_timeout_s if beats.heard_at else self.service.first_beat_timeout_s
            if now - last_sign > bound_s:
                self._say(f"{self.service.name} gives no sign of life for {bound_s:g} s; it is killed")
                _kill_group(process, signal.SIGKILL)
                return

    async def wait_ready(self) -> str | None:
        """Return None when ready, or what is wrong as the end of a sentence."""
        deadline = time.monotonic() + self.service.ready_timeout_s
        while self._hopeless is None and time.monotonic() < deadline:
            if self._task is not None and self._task.done():
                self._task.result()  # a bug of ours; raise it here rather than time out
            # Not ready without a process of ours: else another's server would be taken for it.
            if self._process is not None and self._process.returncode is None and await self.service.ready():
                self._was_ready = True
                return None
            await asyncio.sleep(READY_POLL_S)
        return self._hopeless or f"was not ready within {self.service.ready_timeout_s:g} s{self._log_hint()}"

    def _log_hint(self) -> str:
        log = self.service.log
        if log is None:
            return ": see its lines above."
        return f": {last_line(log)} (all of it in {log})"

    async def end(self, *, at_once: bool) -> None:
        if self._task is None:
            return
        for number, seconds in () if at_once else self.service.stop:
            process = self._process
            if process is not None and process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(number)
            done, _ = await asyncio.wait({self._task}, timeout=seconds)
            if done:
                break
        else:
            if not at_once:
                self._say(f"{self.service.name} does not stop when asked; it is killed")
            self.kill()
        await self._task
        if self._beats is not None:
            self._beats.close()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process, signal.SIGKILL)


class _Beats:
    """The socket at which one service gives its signs of life."""

    def __init__(self, path: Path) -> None:
        self.heard_at: float | None = None
        """Monotonic time of the last one of the process that runs now."""
        self._path = path
        self._socket: socket.socket | None = None

    def listen(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))
        self._path.chmod(0o600)
        asyncio.get_running_loop().add_reader(self._socket, self._on_beat)

    def forget(self) -> None:
        """What was said up to now was said by another process."""
        self._read()
        self.heard_at = None

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    def _on_beat(self) -> None:
        if self._read():
            self.heard_at = time.monotonic()

    def _read(self) -> bool:
        assert self._socket is not None
        heard = False
        with suppress(BlockingIOError):
            while self._socket.recv(len(MESSAGE)):
                heard = True
        return heard


def child_argv(argv: Sequence[str], *, orphan_signal: int = signal.SIGKILL, user: Identity | None = None) -> list[str]:
    """Wrap a command so that it dies with us and runs as `user`."""
    who = "-" if user is None else f"{user.uid}:{user.gid}"
    return [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), str(int(orphan_signal)), who, *argv]


def ending(code: int) -> str:
    """Say how a process ended: its exit code, or the signal that killed it."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def rotate(log: Path) -> None:
    """Move a log that has grown too long aside, over the one before it."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".1.log"))


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, clipped."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "no output"
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:500] if said else "no output"


def _kill_group(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
