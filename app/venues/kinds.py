"""How an exchange's error codes are classed; each venue has one table of them."""

from enum import StrEnum

import msgspec

from app.domain.refusals import Outcome


class Kind(StrEnum):
    """What a code says about the request that it answers."""

    RATE = "rate"  # too many requests: not done, wait
    CLOCK = "clock"  # our timestamp is outside of the window: not done, synchronise
    UNKNOWN = "unknown"  # maybe done: ask
    BUSY = "busy"  # the order is being worked on by another request: not done, wait a moment
    DUPLICATE = "duplicate"  # the client order id was used before: the earlier request arrived
    DONE = "done"  # the state already is what was asked for
    GONE = "gone"  # there is nothing (any more) that the request could act on
    REFUSED = "refused"  # this request is not acceptable
    FATAL = "fatal"  # no request of this account or key is acceptable until somebody mends it


class Code(msgspec.Struct, frozen=True):
    """One code of one venue."""

    kind: Kind
    meaning: str
    outcome: Outcome = Outcome.VENUE_REFUSED  # what a refusal is called in our words
