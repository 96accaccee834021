"""Tests against the real testnets: only with `-m live`, and only for venues whose key the environment names.

LEVELHEAD_TEST_LIVE_BYBIT_API_KEY, …_API_SECRET (or …_PRIVATE_KEY_FILE), …_ENVIRONMENT (testnet, demo, or custom with
…_REST_URL and …_WS_URL), …_POSITION_MODE, …_SYMBOL; the same with BINANCE. docs/testnet.md tells how to get a key and
what it costs.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.order import PositionMode
from app.ids import new_id
from app.keys import Credentials
from app.resources import Connected, origins_of
from app.settings import Settings
from app.store.accounts import AccountRow, Environment, VenueName
from app.up.live import plays_with_real_money
from app.venues import registry
from app.venues.gate import Gate

TIMEOUT_S = 300
PRACTICE = (Environment.TESTNET, Environment.DEMO, Environment.CUSTOM)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "live: trades on the exchanges' testnets; only with -m live and keys")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            if "live" not in str(config.option.markexpr):
                item.add_marker(pytest.mark.skip(reason="asks the real exchanges: choose it with -m live"))


def named(venue: VenueName, what: str) -> str | None:
    return os.environ.get(f"LEVELHEAD_TEST_LIVE_{venue.upper()}_{what}") or None


def credentials_of(venue: VenueName) -> Credentials:
    key_file = named(venue, "PRIVATE_KEY_FILE")
    return Credentials(
        api_key=named(venue, "API_KEY") or "",
        api_secret=named(venue, "API_SECRET"),
        private_key=None if key_file is None else Path(key_file).read_text(),
    )


@pytest.fixture(params=list(VenueName))
def venue_name(request: pytest.FixtureRequest) -> VenueName:
    venue: VenueName = request.param
    if named(venue, "API_KEY") is None:
        pytest.skip(f"LEVELHEAD_TEST_LIVE_{venue.upper()}_API_KEY is not set: see docs/testnet.md")
    return venue


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def symbol(venue_name: VenueName) -> str:
    return named(venue_name, "SYMBOL") or "BTCUSDT"


@pytest.fixture
async def connected(venue_name: VenueName, settings: Settings) -> AsyncIterator[Connected]:
    """The account that the environment describes, in the position mode that its symbol is in."""
    environment = Environment(named(venue_name, "ENVIRONMENT") or Environment.TESTNET)
    assert environment in PRACTICE, f"these tests trade, so the environment is one of {', '.join(PRACTICE)}"
    now = datetime.now(UTC)
    account = AccountRow(
        id=new_id(),
        name=f"live {venue_name}",
        venue=venue_name,
        environment=environment,
        rest_url=named(venue_name, "REST_URL"),
        ws_url=named(venue_name, "WS_URL"),
        position_mode=PositionMode(named(venue_name, "POSITION_MODE") or PositionMode.ONE_WAY),
        created_at=now,
        updated_at=now,
    )
    origins = origins_of(account, None)
    gate = Gate()
    venue = registry.open_venue(
        venue_name,
        credentials_of(venue_name),
        origins,
        gate=gate,
        recv_window_ms=settings.recv_window_ms,
        timeout_s=settings.venue_timeout_s,
    )
    found = Connected(account, origins, venue, gate)
    assert not plays_with_real_money(found), f"{origins.rest} is no testnet: nothing is sent there"
    await venue.server_time()
    yield found
    await venue.close()
