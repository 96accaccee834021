"""Fixtures for every test: real PostgreSQL and Redis, started once per session."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from app.domain.order import PositionMode
from app.log import TextFormatter
from tests.support.databases import Databases, MakeDatabase
from tests.support.house import REST, SOCKET, House, open_house, over_rest
from tests.support.servers import Servers, servers


def pytest_sessionstart(session: pytest.Session) -> None:
    """What the program told before a failure is shown with its facts."""
    told = session.config.pluginmanager.get_plugin("logging-plugin")
    assert told is not None
    told.report_handler.setFormatter(TextFormatter("test"))


@pytest.fixture(scope="session")
async def running_servers() -> AsyncIterator[Servers]:
    async with servers() as running:
        yield running


@pytest.fixture(scope="session")
async def databases(running_servers: Servers) -> AsyncIterator[Databases]:
    made = Databases(running_servers.database_url)
    yield made
    await made.drop_all()


@pytest.fixture(scope="session")
def make_database(databases: Databases) -> MakeDatabase:
    """A factory: `url = await make_database()` is a new migrated database, gone when the session ends."""
    return databases.make


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A migrated database for this test alone."""
    url = await databases.make()
    yield url
    await databases.drop(url)


@pytest.fixture(scope="module")
async def module_database_url(databases: Databases) -> AsyncIterator[str]:
    """A migrated database for this module; its tests see each other's rows."""
    url = await databases.make()
    yield url
    await databases.drop(url)


@pytest.fixture
async def redis_url(running_servers: Servers) -> str:
    """Redis, emptied for this test."""
    async with redis.asyncio.Redis.from_url(running_servers.redis_url) as client:
        await client.flushdb()
    return running_servers.redis_url


@pytest.fixture
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """That of a house's orders: the socket, unless `both_roads` has a test run on each."""
    chosen: str = getattr(request, "param", SOCKET)
    if chosen == REST:
        over_rest(monkeypatch)
    return chosen


@pytest.fixture(params=["bybit", "binance"])
async def each_house(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, road: str
) -> AsyncIterator[House]:
    """The house, once for each venue."""
    async with open_house(database_url, redis_url, venue=request.param) as found:
        yield found


@pytest.fixture(params=["bybit", "binance"])
async def hedge_house(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[House]:
    """The house in hedge mode, once for each venue."""
    async with open_house(database_url, redis_url, venue=request.param, mode=PositionMode.HEDGE) as found:
        yield found


@pytest.fixture
async def house(database_url: str, redis_url: str, road: str) -> AsyncIterator[House]:
    """A whole house with BTCUSDT at 60,000 and prices that move by hand."""
    async with open_house(database_url, redis_url) as found:
        yield found
