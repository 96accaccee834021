"""The venues that can be traded, by name: the one place that knows which module speaks for which.

An SDK takes half a second and more to import, and a process that never trades needs none; so each is imported when
first asked for. Whoever must not wait then calls `load` before, in a thread.
"""

from app.domain.refusals import Outcome
from app.errors import Refused
from app.keys import Credentials
from app.venues.base import Origins, PublicListener, PublicStream, Venue
from app.venues.gate import Gate


def load(name: str) -> None:
    """Import what a venue needs, the first time for up to a second. From any thread. Refused when it is unknown."""
    if name == "bybit":
        import app.venues.bybit.stream
        import app.venues.bybit.venue
    elif name == "binance":
        import app.venues.binance.stream
        import app.venues.binance.venue  # noqa: F401
    else:
        raise _unknown(name)


def open_venue(
    name: str, credentials: Credentials, origins: Origins, *, gate: Gate, recv_window_ms: int, timeout_s: float
) -> Venue:
    """An account's adapter; nothing is sent yet. Refused when the venue is unknown or the credentials are of no use."""
    if name == "bybit":
        from app.venues.bybit.venue import BybitVenue

        return BybitVenue(credentials, origins, recv_window_ms=recv_window_ms, timeout_s=timeout_s, gate=gate)
    if name == "binance":
        from app.venues.binance.venue import BinanceVenue

        return BinanceVenue(credentials, origins, recv_window_ms=recv_window_ms, timeout_s=timeout_s, gate=gate)
    raise _unknown(name)


def open_public_stream(name: str, origins: Origins, listener: PublicListener) -> PublicStream:
    """A venue's public prices, not running yet. Refused when the venue is unknown."""
    if name == "bybit":
        from app.venues.bybit.stream import BybitPublicStream

        return BybitPublicStream(origins.ws, listener)
    if name == "binance":
        from app.venues.binance.stream import BinancePublicStream

        return BinancePublicStream(origins.ws, listener)
    raise _unknown(name)


def _unknown(name: str) -> Refused:
    return Refused(Outcome.NOT_SUPPORTED_YET, f"{name} cannot be traded by this version")
