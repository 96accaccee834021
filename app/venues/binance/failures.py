"""What Binance's answers to a request come to."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.refusals import Outcome
from app.venues.binance.codes import CODES, NO_SUCH_PATH
from app.venues.edge import Edge
from app.venues.failures import VenueSaid
from app.venues.kinds import Kind


def _outcome(said: VenueSaid) -> Outcome:
    known = CODES.get(said.code)
    return Outcome.VENUE_REFUSED if known is None else known.outcome


EDGE = Edge(house="Binance", outcome=_outcome, not_done=frozenset({Kind.RATE, Kind.CLOCK, Kind.BUSY}))
asking = EDGE.asking


@contextmanager
def changing() -> Iterator[None]:
    """At the edge of a setting: "already so" is success, the rest is told like a read's failure.

    Setting it again is harmless, so an unknown outcome is told as "try again".
    """
    with asking():
        try:
            yield
        except VenueSaid as said:
            if said.kind is not Kind.DONE:
                raise


def no_such_path(said: VenueSaid) -> bool:
    return said.code in (NO_SUCH_PATH, 404)
