"""What may come of a request, before it becomes one of our four errors at the adapter's edge."""

import msgspec

from app.venues.kinds import Kind


class Limit(msgspec.Struct, frozen=True):
    """What an answer says about a limit: the share (0 to 1) that is used, and for how long that counts."""

    share: float
    for_s: float


class VenueSaid(Exception):
    """The exchange answered, and not with success."""

    def __init__(
        self,
        kind: Kind,
        code: int,
        text: str,
        *,
        http: bool = False,
        limit: Limit | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """`code` is the HTTP status if `http`; `limit` is the endpoint's, `retry_after_s` what a RATE asks for."""
        super().__init__(text)
        self.kind = kind
        self.code = code
        self.http = http
        self.venue_code = f"HTTP {code}" if http else str(code)
        self.text = text
        self.limit = limit
        self.retry_after_s = retry_after_s


class NotSent(Exception):
    """No byte of the request left: no connection came about."""


class NoAnswer(Exception):
    """The request may have arrived; what came back, if anything, says nothing about it."""


class Dropped(NoAnswer):
    """The connection broke instead of answering, as one that the server closed while it was idle does."""
