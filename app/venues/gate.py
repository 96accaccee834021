"""Whether a request may leave now: the bans and limits of one address and of one account at one venue.

Every request asks first (`admit`), and every answer tells what it said about limits (`used`, `ban`). Nothing here
waits or does I/O: who is turned away gets `Transient` with the seconds to wait, because nothing was sent.

Instants are those of the monotonic clock, which no step of the wall clock moves. All but `Gate.count`, and `Gate.admit`
without limits, is for the event loop's thread only.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum, StrEnum

import msgspec

from app.errors import Transient

Clock = Callable[[], float]
"""Seconds that only grow."""


class Urgency(IntEnum):
    """What a request is for. The last part of a budget is kept for what is more urgent."""

    READ = 0
    OPEN = 1
    CLOSE = 2


class Scope(StrEnum):
    """Whom a limit counts."""

    ADDRESS = "address"  # this machine's IP at one origin, whatever the account
    ACCOUNT = "account"


# The share of a limit that a request of this urgency may use up.
SHARE = {Urgency.READ: 0.75, Urgency.OPEN: 0.9, Urgency.CLOSE: 1.0}

# Binance's longest, and Bybit's are shorter: what says more is a mistake that must not stop closes for a year.
# https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info
BAN_MAX_S = 3 * 24 * 3600.0


class Ban(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing may be sent before `until` (monotonic, of this process)."""

    until: float
    why: str


# How often processes tell each other what they sent.
OTHERS_TELL_S = 0.5


class Window:
    """The requests of the last `window_s` seconds, where a venue states no use of a limit and we have to count."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit = limit
        self.window_s = window_s
        self.others = 0  # what other processes say that they sent in theirs
        self._sent: deque[float] = deque(maxlen=limit)  # more would change nothing

    def add(self, now: float) -> None:
        """From any thread; what is over is taken out by the event loop's alone."""
        self._sent.append(now)

    def own(self, now: float) -> int:
        """How many this process sent."""
        while self._sent and self._sent[0] <= now - self.window_s:
            self._sent.popleft()
        return len(self._sent)

    def share(self, now: float) -> float:
        return (self.own(now) + self.others) / self.limit

    def full(self, share: float, now: float) -> bool:
        """Whether so much of it is used. With what is over it is rarely as much, so that is rarely taken out for it."""
        return (len(self._sent) + self.others) / self.limit >= share and self.share(now) >= share

    def eases_at(self, now: float) -> float:
        """When to ask again: the first of our requests is out of the window, or the others have told anew."""
        ours = self._sent[0] + self.window_s if self._sent else math.inf
        return min(ours, now + OTHERS_TELL_S) if self.others else ours


class Limits:
    """The ban and the limits that count one address, or one account; shared by all gates that it counts."""

    def __init__(self) -> None:
        self.ban: Ban | None = None
        self.windows: dict[str, Window] = {}
        self._stated: dict[str, tuple[float, float]] = {}  # limit -> (share that is used, end of its window)

    def heed(self, ban: Ban) -> bool:
        """A ban that was heard of; the longer one counts. Whether it is this one."""
        if self.ban is not None and self.ban.until >= ban.until:
            return False
        self.ban = ban
        return True

    def state(self, limit: str, share: float, ends: float) -> None:
        self._stated[limit] = (share, ends)

    def full(self, limits: tuple[str, ...], share: float, now: float) -> str | None:
        """The first of these limits of which so much is used; a limit of which nothing is known has room."""
        for limit in limits:
            stated = self._stated.get(limit)
            if stated is not None and stated[0] >= share and now < stated[1]:
                return limit
            window = self.windows.get(limit)
            if window is not None and window.full(share, now):
                return limit
        return None

    def use(self, limit: str, now: float) -> tuple[float, float]:
        """The share of a limit that is used, and when that eases; (0, now) where nothing is known of it."""
        use = (0.0, now)
        stated = self._stated.get(limit)
        if stated is not None and now < stated[1]:
            use = stated
        window = self.windows.get(limit)
        if window is not None:
            use = max(use, (window.share(now), window.eases_at(now)))
        return use


class Gate:
    """One adapter's view: its address and its account.

    A ban is told to `on_ban`, so that other processes hear of it, and theirs come in by `heed`.
    """

    def __init__(
        self,
        *,
        address: Limits | None = None,
        account: Limits | None = None,
        on_ban: Callable[[Scope, Ban], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._limits = {Scope.ADDRESS: address or Limits(), Scope.ACCOUNT: account or Limits()}
        self._on_ban = on_ban
        self._clock = clock

    def admit(self, urgency: Urgency, *limits: str) -> None:
        """Raises Transient when a ban holds, or when one of these limits has no room left for this urgency.

        Without limits it may be called from any thread.
        """
        now = self._clock()
        for counted in self._limits.values():
            ban = counted.ban
            if ban is not None and now < ban.until:
                wait_s = ban.until - now
                raise Transient(f"not sent: {ban.why}; nothing is sent for {math.ceil(wait_s)} s", retry_after_s=wait_s)
            limit = counted.full(limits, SHARE[urgency], now)
            if limit is not None:
                raise self._used_up(limit, urgency, now)

    def _used_up(self, limit: str, urgency: Urgency, now: float) -> Transient:
        share, eases = max(counted.use(limit, now) for counted in self._limits.values())
        rest = "" if urgency is Urgency.CLOSE else ", the rest is kept for what is more urgent"
        return Transient(f"not sent: {share:.0%} of the limit {limit} is used{rest}", retry_after_s=eases - now)

    def used(self, limit: str, share: float, *, for_s: float, scope: Scope = Scope.ACCOUNT) -> None:
        """An answer said how much (0 to 1) of a limit is used; it is forgotten after `for_s` seconds.

        With the scope of an address, other accounts at the same address heed it too.
        """
        self._limits[scope].state(limit, share, self._clock() + for_s)

    def count(self, name: str, *, limit: int, window_s: float) -> None:
        """A request is sent that counts for this limit of the address: at most `limit` in `window_s` seconds.

        For limits whose use the venue does not state; `admit(…, name)` then knows them, with what other accounts and
        processes send from the same address. May be called from any thread, where a request is sent from one.
        """
        windows = self._limits[Scope.ADDRESS].windows
        window = windows.get(name) or windows.setdefault(name, Window(limit, window_s))
        window.add(self._clock())

    def ban(self, scope: Scope, seconds: float, why: str) -> None:
        """The venue said to stay away: nothing leaves until then, in no process. 0 seconds and less are no ban."""
        if seconds <= 0:
            return
        ban = Ban(until=self._clock() + min(seconds, BAN_MAX_S), why=why)
        if self._limits[scope].heed(ban) and self._on_ban is not None:
            self._on_ban(scope, ban)

    def heed(self, scope: Scope, ban: Ban) -> None:
        """A ban that was heard of; the longer one counts."""
        self._limits[scope].heed(ban)
