"""Client order ids, and the visible table of an order's life."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.order import FINAL, SOURCES, UNRESOLVED, OrderStatus, PositionSide, Side, client_order_id

CAUSES = st.uuids()
BOOKS = st.text(min_size=1, max_size=60)
ATTEMPTS = st.integers(0, 10**6)
Asked = tuple[bytes, UUID, str, int, int]
ASKED = st.tuples(st.binary(min_size=1, max_size=64), CAUSES, BOOKS, ATTEMPTS, ATTEMPTS)


@given(asked=ASKED)
def test_a_client_order_id_is_what_every_venue_takes(asked: Asked) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,36}", client_order_id(*asked))


@given(asked=ASKED)
def test_a_client_order_id_is_the_same_for_the_same_question(asked: Asked) -> None:
    assert client_order_id(*asked) == client_order_id(*asked)


@given(one=ASKED, other=ASKED)
def test_client_order_ids_of_different_questions_differ(one: Asked, other: Asked) -> None:
    assert (client_order_id(*one) == client_order_id(*other)) is (one == other or _same_key(one, other))


def _same_key(one: Asked, other: Asked) -> bool:
    """A keyed hash pads its key with zeros: installs that differ only by these are the same."""
    return one[1:] == other[1:] and one[0].rstrip(b"\0") == other[0].rstrip(b"\0")


@given(cause=CAUSES, attempts=st.lists(ATTEMPTS, unique=True, min_size=2, max_size=20))
def test_each_attempt_has_its_own_id(cause: UUID, attempts: list[int]) -> None:
    ids = {client_order_id(b"install", cause, "account:BTCUSDT", 0, attempt) for attempt in attempts}
    assert len(ids) == len(attempts)


def test_sides_mirror_each_other() -> None:
    assert (PositionSide.LONG.opens_with, PositionSide.LONG.closes_with) == (Side.BUY, Side.SELL)
    assert (PositionSide.SHORT.opens_with, PositionSide.SHORT.closes_with) == (Side.SELL, Side.BUY)
    assert (PositionSide.LONG.sign, PositionSide.SHORT.sign) == (1, -1)


def test_every_status_has_a_row_in_the_table() -> None:
    assert set(SOURCES) == set(OrderStatus)


@pytest.mark.parametrize("final", sorted(FINAL - {OrderStatus.DISARMED, OrderStatus.REJECTED}))
def test_nothing_leaves_a_final_status(final: OrderStatus) -> None:
    assert all(final not in sources for sources in SOURCES.values())


def test_a_rejection_is_only_overruled_by_a_fill() -> None:
    """The second send of a close finds nothing to reduce, since the first was filled."""
    after = {status for status, sources in SOURCES.items() if OrderStatus.REJECTED in sources}
    assert after == {OrderStatus.ACCEPTED}


@pytest.mark.parametrize("proof", [OrderStatus.FILLED, OrderStatus.CANCELLED])
@pytest.mark.parametrize("before", sorted(UNRESOLVED | {OrderStatus.ABSENT, OrderStatus.DISARMED}))
def test_evidence_from_the_venue_always_counts(proof: OrderStatus, before: OrderStatus) -> None:
    assert before in SOURCES[proof]


def test_an_unknown_order_is_never_sent_again() -> None:
    assert OrderStatus.UNKNOWN not in SOURCES[OrderStatus.SENT]
