"""Slows down guessing at passwords. Per process and in memory; a restart forgives."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from app.api.problems import Problem

ATTEMPTS_MAX: Final = 10
WINDOW_S: Final = 60.0
NAMES_MAX: Final = 10_000
"""E-mails remembered; beyond that the oldest is forgotten, so that inventing names can't fill the memory."""
AT_ONCE_MAX: Final = 16
"""Logins checked at the same time: each costs 50 ms of a core."""


class Throttle:
    """Counts the attempts at each e-mail; a success forgives them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attempts: dict[str, list[float]] = {}
        self._running = 0

    @contextmanager
    def attempt(self, email: str) -> Iterator[None]:
        """Around one check of a password. Raises Problem 429."""
        now, name = self._clock(), email.lower()
        recent = [at for at in self._attempts.pop(name, []) if now - at < WINDOW_S]
        self._attempts[name] = recent
        if len(recent) >= ATTEMPTS_MAX:
            wait_s = int(WINDOW_S - (now - recent[0])) + 1
            raise _too_many(f"Too many wrong passwords for this e-mail: try again in {wait_s} s.", wait_s)
        if self._running >= AT_ONCE_MAX:
            raise _too_many("Too many people log in right now: try again in a moment.", 1)
        recent.append(now)
        if len(self._attempts) > NAMES_MAX:
            del self._attempts[next(iter(self._attempts))]
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def forgive(self, email: str) -> None:
        self._attempts.pop(email.lower(), None)


def _too_many(detail: str, wait_s: int) -> Problem:
    return Problem(429, "too_many_logins", detail, headers={"Retry-After": str(wait_s)})
