"""Named points at which a test has the process killed: between any two of "write, send, record" lies one.

If LEVELHEAD_TEST_CRASH_DIR names a directory, a process that comes to a point removes DIR/<name>, or
DIR/<name>@<symbol> if it is at work for that symbol, and dies of SIGKILL if the file was there: one file is one crash,
of the process that comes first. What the file says may be otherwise: seconds after which it dies, wherever it is by
then; or `stop`, to have it stopped (SIGSTOP) until somebody lets it go on, with its pid left in <file>.stopped.
Unset, a point costs a comparison.
"""

import os
import signal
import threading
from pathlib import Path
from typing import Final

VARIABLE: Final = "LEVELHEAD_TEST_CRASH_DIR"
STOP: Final = "stop"

POINTS: Final[dict[str, str]] = {
    "receive.before_commit": "the alert was read, and is in no table: its sender hears nothing and sends again",
    "receive.after_commit": "the alert is in the inbox, its sender was not told and nobody was rung for",
    "execute.begun": "the book is claimed and its instruction begun; nothing is decided",
    "execute.planned": "the intents and the first order are committed, nothing was sent",
    "execute.before_finish": "the legs are done, and the alert does not say so yet",
    "open.before_commit": "an opening that is begun goes on, its next order is not committed",
    "open.before_send": "an opening order is committed and about to leave",
    "open.sent": "the exchange has answered to an opening order, and the answer is not stored",
    "open.answered": "the answer to an opening order is stored, its fills are not settled and nothing is protected",
    "open.filled": "the fills are settled; where a stop does not ride on the entry none rests yet",
    "protect.before_stop": "the native stop is about to be placed or moved",
    "protect.after_stop": "the native stop rests at the exchange, and we have not noted it",
    "close.before_commit": "a close is decided on, its order is not committed",
    "close.before_send": "a closing order is committed and about to leave",
    "close.sent": "the exchange has answered to a closing order, and the answer is not stored",
    "close.filled": "a closing order has ended and its fills are settled; the leg is not finished",
    "reverse.between": "the old side is closed, the new one is not opened",
    "settle.before_commit": "fills, position and levels are written, and their transaction is not committed",
    "settle.after_commit": "fills, position and levels are committed, and nobody was rung for",
    "fire.before_send": "a level was crossed, its close is about to leave",
    "fire.written": "a level's close has left from within the tick, and nothing else knows of it",
    "fire.sent": "a level's close was answered, and nothing of it is recorded",
    "fire.recorded": "the fire is recorded, its fills are not settled and its rest is not followed up",
    "reconcile.fetched": "fills that nobody had seen were fetched, and are not settled",
    "watcher.lease_taken": "the symbols are a watcher's that has loaded nothing yet",
    "watcher.loaded": "the levels are loaded, the time without a watcher is not inspected",
    "private.received": "fills came by the private stream, and are not settled",
}
"""Point -> what is so when the process dies there. Every one has a test that dies there."""

_DIRECTORY: Final = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def point(name: str, *symbols: str) -> None:
    """Die here, if a test has asked for it; `symbols` are those that the process is at work for."""
    if _DIRECTORY is None:
        return
    assert name in POINTS, name
    for armed in (name, *(f"{name}@{symbol}" for symbol in symbols)):
        file = _DIRECTORY / armed
        try:
            how = file.read_text()
            file.unlink()
        except FileNotFoundError:
            continue
        if how == STOP:
            (_DIRECTORY / f"{armed}.stopped").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        elif how:
            threading.Timer(float(how), os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)
