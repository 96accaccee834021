"""Which alert of a strategy counts, when several wait or arrive in the wrong order."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from app.domain.refusals import Outcome
from app.domain.sequence import Neighbour, place
from app.domain.signal import Action, Signal, Target

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def signal(wish: str, at: int | None = None) -> Signal:
    sent_at = None if at is None else NOON + timedelta(seconds=at)
    if wish.startswith("target "):
        return Signal(symbol="BTCUSDT", target=Target(wish.removeprefix("target ")), sent_at=sent_at)
    return Signal(symbol="BTCUSDT", action=Action(wish), sent_at=sent_at)


def neighbour(wish: str, at: int | None = None, *, waits: bool = False) -> Neighbour:
    request = signal(wish, at)
    return Neighbour(
        alert_id=UUID(int=7),
        request=request,
        received_at=NOON,
        waits=waits,
        opened=not waits and not request.only_closes,
        closed=not waits and request.only_closes,
    )


@pytest.mark.parametrize(
    ("wish", "newer", "code"),
    [
        ("target long", "target short", Outcome.SUPERSEDED),
        ("target long", "target long", Outcome.SUPERSEDED),
        ("target short", "target flat", Outcome.SUPERSEDED),
        ("target flat", "target long", None),  # a close is never skipped
        ("target flat", "target flat", None),
        ("target long", "open_short", None),  # an action speaks of a change, not of where it ends
        ("open_long", "target short", None),
        ("close", "target long", None),
    ],
)
def test_a_newer_target_replaces_an_older_one_that_waits(wish: str, newer: str, code: Outcome | None) -> None:
    found = place(signal(wish), [neighbour(newer, waits=True)])
    assert (found and found.code) == code


@pytest.mark.parametrize(("ours", "newer", "replaced"), [(1, 2, True), (2, 2, True), (3, 2, False), (None, 2, True)])
def test_what_came_later_and_was_said_earlier_replaces_nothing(ours: int | None, newer: int, replaced: bool) -> None:
    found = place(signal("target long", ours), [neighbour("target short", newer, waits=True)])
    assert (found is not None) is replaced


@pytest.mark.parametrize(
    ("late", "done", "refused"),
    [
        ("open_long", "close", True),  # the position would live on although the strategy has ended it
        ("target long", "target flat", True),
        ("add", "close", True),
        ("close", "open_long", True),  # it would end the newer position
        ("target flat", "target short", True),
        ("reduce", "open_long", True),
        ("close", "reduce", False),  # both close: any order
        ("reduce", "close", False),
        ("open_long", "open_short", True),
        ("target long", "target short", True),
        ("open_long", "open_long", False),
        ("target short", "target short", False),
    ],
)
def test_the_strategys_own_time_decides(late: str, done: str, refused: bool) -> None:
    found = place(signal(late, 1), [neighbour(done, 2)])
    assert (found is not None) is refused
    if found is not None:
        assert found.code is Outcome.OUT_OF_ORDER
        assert "12:00:02" in found.reason
        assert "12:00:01" in found.reason


@pytest.mark.parametrize(("ours", "done"), [(2, 2), (3, 2), (None, 2), (1, None)])
def test_equal_or_missing_times_decide_nothing(ours: int | None, done: int | None) -> None:
    assert place(signal("open_long", ours), [neighbour("close", done)]) is None


def test_what_waits_was_not_carried_out() -> None:
    waiting = msgspec.structs.replace(neighbour("close", 2, waits=True), closed=True)
    assert place(signal("open_long", 1), [waiting]) is None


def test_alone_it_is_carried_out() -> None:
    assert place(signal("target long", 1), []) is None


@pytest.mark.parametrize(
    ("other", "opened", "closed", "done", "refused"),
    [
        (Action.OPEN_LONG, True, False, True, True),  # the position is another one by now
        (Action.CLOSE, False, True, True, True),
        (Action.SET_EXITS, False, False, True, True),  # the newer exits stay
        (Action.SET_EXITS, False, False, False, False),  # they were refused
        (Action.OPEN_LONG, False, False, True, False),  # it came to nothing
        (Action.OPEN_LONG, False, False, False, False),
    ],
)
def test_exits_are_those_of_what_was_held_when_they_were_said(
    other: Action, opened: bool, closed: bool, done: bool, refused: bool
) -> None:
    late = Signal(symbol="BTCUSDT", action=Action.SET_EXITS, sent_at=NOON)
    request = Signal(symbol="BTCUSDT", action=other, sent_at=NOON + timedelta(seconds=1))
    one = Neighbour(
        alert_id=UUID(int=7), request=request, received_at=NOON, waits=False, done=done, opened=opened, closed=closed
    )
    found = place(late, [one])
    assert (None if found is None else found.code) == (Outcome.OUT_OF_ORDER if refused else None)


@pytest.mark.parametrize("late", [Action.OPEN_LONG, Action.ADD, Action.CLOSE])
def test_a_change_of_exits_holds_nothing_up(late: Action) -> None:
    ours = Signal(symbol="BTCUSDT", action=late, sent_at=NOON)
    request = Signal(symbol="BTCUSDT", action=Action.SET_EXITS, sent_at=NOON + timedelta(seconds=1))
    one = Neighbour(
        alert_id=UUID(int=7), request=request, received_at=NOON, waits=False, done=True, opened=False, closed=False
    )
    assert place(ours, [one]) is None
