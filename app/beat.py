"""A sign of life each second, from the event loop itself: one that stalls, or a stopped process, gives none.

Said as systemd wants it of its services (sd_notify(3), WatchdogSec=), so `levelhead up` and systemd hear it alike.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"
MESSAGE: Final = b"WATCHDOG=1"
BEAT_S: Final = 1.0


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Give a sign of life as long as this lasts, to whoever has asked for it; nobody: nothing is done."""
    path = os.environ.get(VARIABLE)
    if not path:
        yield
        return
    task = asyncio.create_task(_beat("\0" + path[1:] if path.startswith("@") else path))
    try:
        yield
    finally:
        task.cancel()


async def _beat(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        said.setblocking(False)
        while True:
            with suppress(OSError):  # nobody listens now, or does not come to read: that must not end us
                said.sendto(MESSAGE, path)
            await asyncio.sleep(BEAT_S)
