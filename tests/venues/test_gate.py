"""Who may send now, to the second: bans, limits that a venue states, and limits that we have to count."""

import pytest

from app.errors import Transient
from app.venues.gate import BAN_MAX_S, OTHERS_TELL_S, SHARE, Ban, Gate, Limits, Scope, Urgency

READ, OPEN, CLOSE = Urgency
ADDRESS, ACCOUNT = Scope


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(clock=clock)


def turned_away(gate: Gate, urgency: Urgency, *limits: str) -> Transient | None:
    try:
        gate.admit(urgency, *limits)
    except Transient as said:
        return said
    return None


def admitted(gate: Gate, *limits: str) -> list[Urgency]:
    return [urgency for urgency in Urgency if turned_away(gate, urgency, *limits) is None]


# ---------------------------------------------------------------------------------------------------------------- bans


@pytest.mark.parametrize("scope", Scope)
def test_a_ban_holds_to_the_second_and_for_every_urgency(gate: Gate, clock: Clock, scope: Scope) -> None:
    gate.ban(scope, 120, "banned by the exchange")
    clock.now += 119.999
    assert admitted(gate) == []
    clock.now += 0.001
    assert admitted(gate) == [READ, OPEN, CLOSE]


def test_who_is_turned_away_hears_why_and_for_how_long(gate: Gate, clock: Clock) -> None:
    gate.ban(ADDRESS, 600, "HTTP 403")
    clock.now += 0.5
    with pytest.raises(Transient, match="HTTP 403; nothing is sent for 600 s") as caught:
        gate.admit(CLOSE)
    assert caught.value.retry_after_s == pytest.approx(599.5)


@pytest.mark.parametrize("durations", [(60, 120), (120, 60)])
def test_of_two_bans_the_one_that_ends_last_counts(gate: Gate, clock: Clock, durations: tuple[float, float]) -> None:
    for seconds in durations:
        gate.ban(ADDRESS, seconds, f"for {seconds} s")
    clock.now += 119
    with pytest.raises(Transient, match="for 120 s"):
        gate.admit(CLOSE)


def test_a_shorter_ban_that_was_heard_of_changes_nothing(gate: Gate, clock: Clock) -> None:
    gate.ban(ACCOUNT, 120, "long")
    gate.heed(ACCOUNT, Ban(until=clock.now + 60, why="short"))
    clock.now += 61
    with pytest.raises(Transient, match="long"):
        gate.admit(READ)


def test_only_what_a_ban_adds_is_told_to_others(clock: Clock) -> None:
    told: list[tuple[Scope, Ban]] = []
    gate = Gate(on_ban=lambda scope, ban: told.append((scope, ban)), clock=clock)
    gate.ban(ADDRESS, 120, "first")
    gate.ban(ADDRESS, 60, "shorter")
    gate.heed(ACCOUNT, Ban(until=clock.now + 5, why="heard of"))
    gate.ban(ACCOUNT, 0, "over already")
    assert told == [(ADDRESS, Ban(until=clock.now + 120, why="first"))]


def test_a_ban_of_years_is_a_mistake_and_ends_after_the_longest_that_exchanges_know(gate: Gate, clock: Clock) -> None:
    gate.ban(ADDRESS, 1e9, "Retry-After: 1000000000")
    clock.now += BAN_MAX_S - 1
    assert admitted(gate) == []
    clock.now += 1
    assert admitted(gate) == [READ, OPEN, CLOSE]


def test_accounts_at_one_address_share_its_bans_and_not_their_own(clock: Clock) -> None:
    address = Limits()
    one, other = (Gate(address=address, clock=clock) for _ in range(2))
    one.ban(ACCOUNT, 10, "this account only")
    assert admitted(one) == []
    assert admitted(other) == [READ, OPEN, CLOSE]
    one.ban(ADDRESS, 10, "everybody here")
    assert admitted(other) == []


# -------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("share", "who"),
    [
        (0.0, [READ, OPEN, CLOSE]),
        (0.7499, [READ, OPEN, CLOSE]),
        (0.75, [OPEN, CLOSE]),
        (0.8999, [OPEN, CLOSE]),
        (0.9, [CLOSE]),
        (0.9999, [CLOSE]),
        (1.0, []),
        (1.2, []),
    ],
)
def test_the_last_part_of_a_limit_is_kept_for_what_is_more_urgent(gate: Gate, share: float, who: list[Urgency]) -> None:
    gate.used("weight", share, for_s=60)
    assert admitted(gate, "weight") == who
    assert admitted(gate) == admitted(gate, "orders") == [READ, OPEN, CLOSE]  # other limits are not touched


def test_every_urgency_has_a_share_and_the_most_urgent_has_all() -> None:
    assert list(SHARE) == sorted(SHARE, key=SHARE.__getitem__) == list(Urgency)
    assert SHARE[CLOSE] == 1.0


def test_what_was_used_is_forgotten_with_its_window(gate: Gate, clock: Clock) -> None:
    gate.used("weight", 1.0, for_s=7)
    clock.now += 6.5
    said = turned_away(gate, CLOSE, "weight")
    assert said is not None
    assert said.retry_after_s == pytest.approx(0.5)
    clock.now += 0.5
    assert admitted(gate, "weight") == [READ, OPEN, CLOSE]


def test_the_last_word_about_a_limit_counts(gate: Gate) -> None:
    gate.used("weight", 1.0, for_s=60)
    gate.used("weight", 0.1, for_s=60)
    assert admitted(gate, "weight") == [READ, OPEN, CLOSE]


def test_one_full_limit_of_several_is_enough(gate: Gate) -> None:
    gate.used("orders", 0.8, for_s=60)
    assert admitted(gate, "weight", "orders") == [OPEN, CLOSE]
    assert admitted(gate, "orders", "weight") == [OPEN, CLOSE]


def test_the_use_of_an_address_counts_for_all_its_accounts(clock: Clock) -> None:
    address = Limits()
    one, other = (Gate(address=address, clock=clock) for _ in range(2))
    one.used("weight", 0.8, for_s=60, scope=ADDRESS)
    one.used("orders", 1.0, for_s=60)
    assert admitted(other, "weight", "orders") == [OPEN, CLOSE]


# ------------------------------------------------------------------------------------------------------------- windows


def send_all(gate: Gate, urgency: Urgency, *, most: int) -> int:
    """How many requests of this urgency are let out at once."""
    for sent in range(most):
        if turned_away(gate, urgency, "address") is not None:
            return sent
        gate.count("address", limit=20, window_s=5)
    return most


@pytest.mark.parametrize(("urgency", "sent"), [(READ, 15), (OPEN, 18), (CLOSE, 20)])
def test_of_a_counted_limit_each_urgency_sends_its_share_and_no_request_more(
    gate: Gate, urgency: Urgency, sent: int
) -> None:
    assert send_all(gate, urgency, most=100) == sent


def test_a_counted_request_leaves_the_window_after_its_time(gate: Gate, clock: Clock) -> None:
    gate.count("address", limit=20, window_s=5)
    clock.now += 3
    assert send_all(gate, CLOSE, most=100) == 19
    said = turned_away(gate, CLOSE, "address")
    assert said is not None
    assert said.retry_after_s == pytest.approx(2)
    clock.now += 2
    assert send_all(gate, CLOSE, most=100) == 1


def test_what_other_processes_sent_counts_too(clock: Clock) -> None:
    address = Limits()
    gate = Gate(address=address, clock=clock)
    gate.count("address", limit=20, window_s=5)
    address.windows["address"].others = 17
    assert admitted(gate, "address") == [CLOSE]
    said = turned_away(gate, OPEN, "address")
    assert said is not None
    assert said.retry_after_s == pytest.approx(OTHERS_TELL_S)
    address.windows["address"].others = 0
    assert admitted(gate, "address") == [READ, OPEN, CLOSE]


def test_accounts_at_one_address_are_counted_together(clock: Clock) -> None:
    address = Limits()
    one, other = (Gate(address=address, clock=clock) for _ in range(2))
    assert send_all(one, READ, most=10) == 10
    assert send_all(other, READ, most=10) == 5
