"""Endless work in a process that has to go on: again and again, whatever one turn comes to."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.errors import LevelheadError
from app.log import event
from workers.stop import heed_cancellation

log = logging.getLogger("watcher")


async def guarded(what: Callable[..., Awaitable[object]], *args: object) -> bool:
    """Whether it succeeded. A failure is said and does not end the process: the next ring, reload or tick comes."""
    try:
        await what(*args)
    except (LevelheadError, OSError) as error:
        event(log, logging.WARNING, "will try again", why=str(error) or repr(error))
    except Exception:
        log.exception("unexpected")
    else:
        return True
    return False


async def every(seconds: float, what: Callable[[], Awaitable[None]]) -> None:
    """For ever, with so long a pause before each turn."""
    while True:
        heed_cancellation()
        await asyncio.sleep(seconds)
        await guarded(what)
