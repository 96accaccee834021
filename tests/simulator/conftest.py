"""A running exchange per test, on a free port, with nobody moving its prices."""

from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio

from simulator.exchange import Config
from simulator.server import running
from tests.simulator.binance_client import BinanceClient
from tests.simulator.support import Client


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with running(Config(port=0, prices="manual")) as url, aiohttp.ClientSession() as session:
        yield Client(url, session)


@pytest_asyncio.fixture
async def binance() -> AsyncIterator[BinanceClient]:
    async with running(Config(port=0, prices="manual")) as url, aiohttp.ClientSession() as session:
        yield BinanceClient(url, session)
