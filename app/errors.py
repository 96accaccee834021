"""Everything that may go wrong and isn't a bug. What is not in this tree is a bug and crashes.

LevelheadError
├── SettingsError        the start stops: a setting is missing, unknown or wrong
├── StoreUnavailable     PostgreSQL can't be reached → 503
├── VenueError           an exchange's answer, or the lack of one
│   ├── Refused          final: tell the sender
│   ├── Transient        surely not done: try again
│   └── OutcomeUnknown   maybe done: ask
├── Conflict             the state moved: reload, decide again
└── InvalidInput         what was sent can't be used → 4xx
"""


class LevelheadError(Exception):
    """The base of all errors that a caller is expected to handle."""


class SettingsError(LevelheadError):
    """A setting is missing, unknown or wrong; the message says what to write."""


class StoreUnavailable(LevelheadError):
    """PostgreSQL can't be reached, so nothing was stored and the sender should send again."""


class VenueError(LevelheadError):
    """A request to an exchange did not succeed; the subclass says what is known about its effect."""


class Refused(VenueError):
    """The exchange, or our own check before it, said no for good: nothing was done and asking again changes nothing."""

    def __init__(self, code: str, reason: str, *, venue_code: str | None = None) -> None:
        """`code` is our stable snake_case name, `venue_code` the exchange's own, as it wrote it."""
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.venue_code = venue_code


class Transient(VenueError):
    """The request was surely not carried out, so the same one may be sent again."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None, venue_code: str | None = None) -> None:
        """`retry_after_s` is how long the exchange asked to be left alone, if it said so."""
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.venue_code = venue_code


class OutcomeUnknown(VenueError):
    """The request may have been carried out; only asking the exchange about its client order id can tell."""


class Conflict(LevelheadError):
    """The state moved between reading and writing: reload and decide again."""

    def __init__(self, reason: str, *, kind: str = "") -> None:
        """`kind` tells an exchange's conflicts apart: duplicate_order, nothing_to_reduce, no_position."""
        super().__init__(reason)
        self.kind = kind


class InvalidInput(LevelheadError):
    """What the sender sent can't be used, for a reason that the sender can mend."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        """`code` is stable and snake_case, `detail` a sentence for a person, `field` the path of the culprit."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
