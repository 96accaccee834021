"""The order of a strategy's alerts in one book: which one a newer one replaces, and which one came too late."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from app.domain.refusals import Outcome, Refusal
from app.domain.signal import Action, Signal, Target


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Another alert of the same strategy for the same book."""

    alert_id: UUID
    request: Signal
    received_at: datetime
    waits: bool  # it came after ours and was not begun
    done: bool = False  # it was carried out
    opened: bool  # it was carried out, and meant to hold something
    closed: bool  # it was carried out, and meant to end or reduce what was held


def place(signal: Signal, neighbours: Iterable[Neighbour]) -> Refusal | None:
    """Why an alert that was not begun yet is not carried out at all, because of what else its strategy has said."""
    found = list(neighbours)
    return _out_of_order(signal, found) or _superseded(signal, found)


def _superseded(signal: Signal, neighbours: list[Neighbour]) -> Refusal | None:
    """A newer target says where the position should end up, whatever is held; so an older wish to hold something, if it
    was given as a target too, need not be traded first. A wish to be flat is never skipped: the newer one may be
    refused for reasons of its own.
    """
    if signal.target in (None, Target.FLAT):
        return None
    for one in neighbours:
        if one.waits and one.request.target is not None and not _is_earlier(one.request, signal):
            return Refusal(
                code=Outcome.SUPERSEDED,
                reason=f"a newer alert ({one.alert_id}) says that the position should be {one.request.target}, and "
                "this one was not begun yet",
            )
    return None


def _out_of_order(signal: Signal, neighbours: list[Neighbour]) -> Refusal | None:
    """What was said earlier and arrives later must not undo the newer word: an opening not the close that followed it,
    a close not the opening. Two closes, or two openings that do not contradict, may come in any order. Exits are those
    of the position that was held when they were said.
    """
    for one in neighbours:
        if signal.action is Action.SET_EXITS:
            contradicts = one.opened or one.closed or (one.done and one.request.action is Action.SET_EXITS)
        elif signal.only_closes:
            contradicts = one.opened
        else:
            contradicts = one.closed or (one.opened and _turns(signal, one.request))
        if contradicts and not one.waits and _is_earlier(signal, one.request):
            assert signal.sent_at is not None
            assert one.request.sent_at is not None
            return Refusal(
                code=Outcome.OUT_OF_ORDER,
                reason=f"a later alert of this strategy ({one.alert_id}, sent {one.request.sent_at:%H:%M:%S.%f}) was "
                f"carried out already, and this one was sent {signal.sent_at:%H:%M:%S.%f}",
            )
    return None


def _turns(signal: Signal, other: Signal) -> bool:
    """Whether the two openings may name opposite sides."""
    return (signal.action, signal.target) != (other.action, other.target)


def _is_earlier(one: Signal, other: Signal) -> bool:
    """By the strategy's own time, where both state it. Equal times (a chart counts whole seconds) decide nothing."""
    return one.sent_at is not None and other.sent_at is not None and one.sent_at < other.sent_at
