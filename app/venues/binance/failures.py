"""What may come of a request to Binance, and the edges where that becomes one of our four errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from app.domain.refusals import Outcome
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.venues.base import NewOrder
from app.venues.binance.codes import CODES, NO_SUCH_PATH
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind
from app.venues.numbers import Unreadable


def no_such_path(said: VenueSaid) -> bool:
    return said.code in (NO_SUCH_PATH, 404)


@contextmanager
def reading() -> Iterator[None]:
    """At the edge of a read: whatever went wrong becomes Refused or Transient, never an empty answer."""
    try:
        yield
    except (VenueSaid, NotSent, NoAnswer) as exc:
        raise failure(exc) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, Unreadable) as exc:
        raise Transient(f"Binance's answer could not be read: {exc}") from None


@contextmanager
def changing() -> Iterator[None]:
    """At the edge of a setting: "already so" is success, the rest is told like a read's failure.

    Setting it again is harmless, so an unknown outcome is told as "try again".
    """
    with reading():
        try:
            yield
        except VenueSaid as said:
            if said.kind is not Kind.DONE:
                raise


def failure(exc: VenueSaid | NotSent | NoAnswer) -> Refused | Transient:
    """For requests that may be repeated without harm."""
    if isinstance(exc, VenueSaid):
        if exc.kind in (Kind.REFUSED, Kind.FATAL, Kind.GONE, Kind.DUPLICATE):
            return refused(exc)
        return Transient(sentence(exc), retry_after_s=exc.retry_after_s, venue_code=exc.venue_code)
    return Transient(str(exc))


def order_failure(exc: VenueSaid | NotSent | NoAnswer, order: NewOrder) -> LevelheadError:
    if isinstance(exc, NotSent):
        return Transient(f"{exc}: the order was not sent")
    if isinstance(exc, NoAnswer):
        return OutcomeUnknown(str(exc))
    match exc.kind:
        case Kind.RATE | Kind.CLOCK | Kind.BUSY:
            return Transient(sentence(exc), retry_after_s=exc.retry_after_s, venue_code=exc.venue_code)
        case Kind.DUPLICATE:
            return Conflict(f"order {order.client_order_id} had arrived before", kind="duplicate_order")
        case Kind.GONE if order.reduce_only:
            return Conflict(sentence(exc), kind="nothing_to_reduce")
        case Kind.REFUSED | Kind.FATAL:
            return refused(exc)
        case _:
            return OutcomeUnknown(sentence(exc))


def refused(said: VenueSaid) -> Refused:
    known = CODES.get(said.code)
    outcome = Outcome.VENUE_REFUSED if known is None else known.outcome
    return Refused(outcome, sentence(said), venue_code=said.venue_code)


def sentence(said: VenueSaid) -> str:
    return f"Binance: {said.text} ({said.venue_code})"
