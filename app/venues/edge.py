"""The edge of an adapter, where what came of a request becomes one of our four errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from app.domain.refusals import Outcome
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.venues.base import NewOrder
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind
from app.venues.numbers import Unreadable


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Of one house's adapter."""

    house: str
    outcome: Callable[[VenueSaid], Outcome]
    """What a refusal is called in our words."""
    not_done: frozenset[Kind]
    """With such an answer an order surely was not."""

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around what may be repeated: whatever went wrong becomes Refused or Transient, never an empty answer."""
        try:
            yield
        except (VenueSaid, NotSent, NoAnswer) as exc:
            raise self.failure(exc) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, Unreadable) as exc:
            raise Transient(f"{self.house}'s answer could not be read: {exc}") from None

    def failure(self, exc: VenueSaid | NotSent | NoAnswer) -> Refused | Transient:
        """Of a request that may be repeated without harm."""
        if isinstance(exc, VenueSaid):
            if exc.kind in (Kind.REFUSED, Kind.FATAL, Kind.GONE, Kind.DUPLICATE):
                return self._refused(exc)
            return self._transient(exc)
        return Transient(str(exc))

    def order_failure(self, exc: VenueSaid | NotSent | NoAnswer, order: NewOrder) -> LevelheadError:
        """Of an order, which must not be doubled."""
        if isinstance(exc, NotSent):
            return Transient(f"{exc}: the order was not sent")
        if isinstance(exc, NoAnswer):
            return OutcomeUnknown(str(exc))
        if exc.kind in self.not_done:
            return self._transient(exc)
        match exc.kind:
            case Kind.DUPLICATE:
                return Conflict(f"order {order.client_order_id} had arrived before", kind="duplicate_order")
            case Kind.GONE if order.reduce_only:
                return Conflict(self.sentence(exc), kind="nothing_to_reduce")
            case Kind.REFUSED | Kind.FATAL:
                return self._refused(exc)
            case _:
                return OutcomeUnknown(self.sentence(exc))

    def sentence(self, said: VenueSaid) -> str:
        return f"{self.house}: {said.text} ({said.venue_code})"

    def _refused(self, said: VenueSaid) -> Refused:
        return Refused(self.outcome(said), self.sentence(said), venue_code=said.venue_code)

    def _transient(self, said: VenueSaid) -> Transient:
        return Transient(self.sentence(said), retry_after_s=said.retry_after_s, venue_code=said.venue_code)
