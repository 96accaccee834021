"""A scripted Bybit and an adapter that talks to it."""

from collections.abc import AsyncIterator

import pytest

from app.venues.bybit.venue import BybitVenue
from tests.venues.bybit_server import BybitServer, adapter, bybit_server


@pytest.fixture
async def server() -> AsyncIterator[BybitServer]:
    async with bybit_server() as server:
        yield server


@pytest.fixture
async def venue(server: BybitServer) -> AsyncIterator[BybitVenue]:
    async with adapter(server.origin) as venue:
        yield venue
