"""Lists in pages: `?limit=&cursor=`, answered as `{"items", "next"}`. A cursor is opaque to whoever holds it."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from app.errors import InvalidInput

LIMIT_MAX = 500
LIMIT_DEFAULT = 50
CURSOR_CHARS_MAX = 300

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="Items per page.")]
Cursor = Annotated[
    str | None,
    QueryParameter(max_length=CURSOR_CHARS_MAX, description="`next` of the page before."),
]

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    items: list[T]
    next: str | None


def write_cursor(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, parse: Callable[[str], K]) -> K | None:
    """The place that a cursor stands for. Raises InvalidInput if it is not one of ours."""
    if cursor is None:
        return None
    try:
        return parse(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode())
    except (ValueError, OverflowError, binascii.Error):
        raise InvalidInput(
            "bad_cursor", "The cursor can't be read: pass on `next` as it was answered.", "cursor"
        ) from None


def one_page(found: Sequence[R], limit: int, shape: Callable[[R], T], place: Callable[[R], str]) -> Page[T]:
    """A page of at most `limit` of what was found by asking for `limit + 1`."""
    kept = found[:limit]
    more = len(found) > limit
    return Page(items=[shape(row) for row in kept], next=write_cursor(place(kept[-1])) if more else None)


def instant_and_id(place: str) -> tuple[datetime, UUID]:
    """The place of a row in a list that is sorted by an instant, then by id."""
    instant, id = place.split(" ")
    at = datetime.fromisoformat(instant)
    if at.tzinfo is None:
        raise ValueError(place)
    return at.astimezone(UTC), UUID(id)  # which raises where no clock has that instant
