"""Which processes an `up` has started, kept on disk so that the next one can clear what a killed one left behind.

A pid alone names nobody, since pids are used again; a pid with the instant of its start does.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from app.up.datadir import write_private


class Child(msgspec.Struct, frozen=True):
    pid: int
    born: str
    name: str


class Pids:
    """The file of the children that run now. One supervisor owns it (the data directory's lock says which)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._children: dict[int, Child] = {}

    def add(self, pid: int, name: str) -> None:
        identity = born(pid)
        if identity is not None:
            self._children[pid] = Child(pid, identity, name)
            self.write(list(self._children.values()))

    def remove(self, pid: int) -> None:
        if self._children.pop(pid, None) is not None:
            self.write(list(self._children.values()))

    def write(self, children: Sequence[Child]) -> None:
        with suppress(OSError):  # a full disk must not keep the supervisor from restarting what dies
            write_private(self._path, msgspec.json.encode(children))

    async def clear_left_behind(self, say: Callable[[str], None], *, patience_s: float = 5.0) -> None:
        """Wait until the children of the one before us are gone; kill those that stay."""
        left = [child for child in self.read() if is_alive(child)]
        if not left:
            return
        say(f"waiting for processes that a killed `levelhead up` left behind: {', '.join(c.name for c in left)}")
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + patience_s
            for child in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child.pid, number)
            while left and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                left = [child for child in left if is_alive(child)]

    def read(self) -> list[Child]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Child])
        except (FileNotFoundError, msgspec.MsgspecError):
            return []


def is_alive(child: Child) -> bool:
    return born(child.pid) == child.born


def born(pid: int) -> str | None:
    """Return what tells this process from every other that has or will have its pid; None if there is none."""
    if sys.platform != "linux":
        # Rarely run and never on a busy path; `ps` is everywhere where /proc isn't.
        shown = subprocess.run(
            ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return None if not shown.stdout.strip() or " Z" in shown.stdout else shown.stdout.strip()[:24]
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; the fields after it are fixed: state is the 3rd, start the 22nd.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"
