"""The real application on a real socket, with people of each role and a helper that fills the tables."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest
from litestar import Litestar

from app.api.tokens import issue
from app.keys import hash_password
from app.main import Server, create_app, server_config
from app.resources import Resources, open_resources
from app.settings import Secret, Settings
from app.store import users
from app.store.db import transaction
from app.store.users import Role, User
from tests.support.house import House
from tests.support.servers import Servers

MASTER_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
PASSWORD = "correct horse battery staple"


class Quiet(Server):
    """Leaves signals alone, and tells when it listens."""

    def __init__(self, app: Litestar) -> None:
        super().__init__(server_config(app, "127.0.0.1", 0))
        self.ready = asyncio.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"


@asynccontextmanager
async def serving(resources: Resources) -> AsyncIterator[str]:
    server = Quiet(create_app(resources))
    task = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield server.url
    finally:
        server.should_exit = True
        await task


def make_settings(database_url: str, redis_url: str, **more: object) -> Settings:
    values = {"simulator_url": "http://127.0.0.1:1", "database_pool_max": 5} | more
    return Settings(
        database_url=Secret(database_url),
        redis_url=Secret(redis_url),
        master_key=Secret(MASTER_KEY),
        **values,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
async def password_hash() -> str:
    return await hash_password(PASSWORD)


@pytest.fixture(scope="module")
async def resources(module_database_url: str, running_servers: Servers) -> AsyncIterator[Resources]:
    async with open_resources(make_settings(module_database_url, running_servers.redis_url)) as opened:
        yield opened


@pytest.fixture(scope="module")
async def people(resources: Resources, password_hash: str) -> dict[Role, User]:
    async with transaction(resources.pool) as db:
        return {
            role: await users.create(db, email=f"{role}@example.com", password_hash=password_hash, role=role)
            for role in Role
        }


@pytest.fixture(scope="module")
async def base_url(resources: Resources) -> AsyncIterator[str]:
    async with serving(resources) as url:
        yield url


@pytest.fixture(scope="module")
async def anyone(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
async def as_role(
    base_url: str, resources: Resources, people: dict[Role, User]
) -> AsyncIterator[Callable[[Role], httpx.AsyncClient]]:
    clients = {
        role: httpx.AsyncClient(
            base_url=base_url + "/api/v1",
            trust_env=False,
            verify=False,
            timeout=10,
            headers={"authorization": f"Bearer {issue(resources.keys, user, resources.now(), 900)}"},
        )
        for role, user in people.items()
    }
    yield clients.__getitem__
    for client in clients.values():
        await client.aclose()


@pytest.fixture(scope="module")
async def admin(as_role: Callable[[Role], httpx.AsyncClient]) -> httpx.AsyncClient:
    return as_role(Role.ADMIN)


@pytest.fixture(scope="module")
async def viewer(as_role: Callable[[Role], httpx.AsyncClient]) -> httpx.AsyncClient:
    return as_role(Role.VIEWER)


@pytest.fixture(scope="module")
async def trader(as_role: Callable[[Role], httpx.AsyncClient]) -> httpx.AsyncClient:
    return as_role(Role.TRADER)


@pytest.fixture
async def house_trader(house: House, password_hash: str) -> AsyncIterator[httpx.AsyncClient]:
    """A trader of the house, which has an exchange."""
    resources = house.resources
    async with transaction(resources.pool) as db:
        user = await users.create(db, email="trader@example.com", password_hash=password_hash, role=Role.TRADER)
    headers = {"authorization": f"Bearer {issue(resources.keys, user, resources.now(), 900)}"}
    async with (
        serving(resources) as url,
        httpx.AsyncClient(
            base_url=url + "/api/v1", trust_env=False, verify=False, timeout=60, headers=headers
        ) as client,
    ):
        yield client
