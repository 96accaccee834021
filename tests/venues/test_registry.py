"""Every venue that an account may name is there, and costs nothing until it is used."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from app.errors import Refused
from app.keys import Credentials
from app.store.accounts import VenueName
from app.venues import registry
from app.venues.base import Origins, Trade
from app.venues.gate import Gate

ORIGINS = Origins(rest="http://127.0.0.1:1", ws="ws://127.0.0.1:1")
HMAC = Credentials(api_key="key", api_secret="secret")


class Listener:
    def on_trades(self, trades: Sequence[Trade]) -> None: ...
    def on_mark(self, symbol: str, price: object, at_ms: int) -> None: ...
    def on_book(self, symbol: str, bid: object, ask: object, at_ms: int) -> None: ...
    def on_link(self, up: bool) -> None: ...


@pytest.mark.parametrize("name", VenueName)
async def test_every_venue_that_an_account_may_name_opens(name: str) -> None:
    venue = registry.open_venue(name, HMAC, ORIGINS, gate=Gate(), recv_window_ms=5000, timeout_s=1)
    assert isinstance(venue.traits.attaches_stops, bool)
    assert venue.clock_offset_ms == 0  # nothing was asked yet
    await venue.close()
    registry.open_public_stream(name, ORIGINS, Listener()).want({})


async def test_another_name_is_refused() -> None:
    with pytest.raises(Refused, match="nowhere cannot be traded by this version"):
        registry.open_venue("nowhere", HMAC, ORIGINS, gate=Gate(), recv_window_ms=5000, timeout_s=1)
    with pytest.raises(Refused, match="nowhere"):
        registry.open_public_stream("nowhere", ORIGINS, Listener())
    with pytest.raises(Refused, match="nowhere"):
        registry.load("nowhere")


def imported_by(statement: str) -> set[str]:
    """The SDKs that a new process has imported after this."""
    program = f"import sys; {statement}; print(*({{'pybit', 'binance'}} & set(sys.modules)))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_a_process_that_never_trades_imports_no_sdk() -> None:
    assert imported_by("import app.main") == set()


@pytest.mark.parametrize(("name", "sdk"), [("bybit", "pybit"), ("binance", "binance")])
def test_a_venue_that_was_loaded_is_there(name: str, sdk: str) -> None:
    """And no other."""
    assert imported_by(f"from app.venues import registry; registry.load({name!r})") == {sdk}
