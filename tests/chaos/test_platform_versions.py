"""Faults 61 and 62: a master key that is changed while in use, and two versions of the program at once."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.api.tokens import issue, user_id_of
from app.keys import Credentials, Keys, SealBroken, hash_password, new_secret
from app.resources import Resources, open_resources
from app.settings import Secret, Settings
from app.store import accounts, migrate, strategies, users
from app.store.accounts import Environment, VenueName
from app.store.db import transaction
from app.store.strategies import AccountShare, NewStrategy
from app.store.users import Role
from app.up.datadir import DataDir
from tests.api.conftest import serving
from tests.chaos.support import Chaos, is_sound
from tests.support.desk import Desk, outcome

pytestmark = pytest.mark.timeout(180)

BOTH = ["watcher", "exchange"]
EMAIL, PASSWORD = "admin@example.com", "correct horse battery staple"
CREDENTIALS = Credentials(api_key="key", api_secret="hush")
OPENING = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "1"}, "stop_loss": {"pct": 5}}


class Installation:
    """One database under changing master keys."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.database_url, self.redis_url = database_url, redis_url

    def settings(self, key: str, previous: str = "") -> Settings:
        return Settings(
            database_url=Secret(self.database_url),
            redis_url=Secret(self.redis_url),
            master_key=Secret(key),
            master_key_previous=Secret(previous),
            simulator_url="http://127.0.0.1:1",
        )

    @asynccontextmanager
    async def running(self, key: str, previous: str = "") -> AsyncIterator[tuple[Resources, httpx.AsyncClient]]:
        """As `levelhead migrate` and then `levelhead api` with these keys."""
        await migrate.rotate(self.settings(key, previous))
        async with (
            open_resources(self.settings(key, previous)) as resources,
            serving(resources) as url,
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client,
        ):
            yield resources, client


async def status_of(client: httpx.AsyncClient, token: str) -> int:
    return (await client.get("/api/v1/strategies", headers={"authorization": f"Bearer {token}"})).status_code


async def test_61_the_old_master_key_serves_only_for_the_overlap(database_url: str, redis_url: str) -> None:
    here = Installation(database_url, redis_url)
    old, new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    used, unused = new_secret(), new_secret()
    async with here.running(old) as (resources, client):
        async with transaction(resources.pool) as db:
            admin = await users.create(db, email=EMAIL, password_hash=await hash_password(PASSWORD), role=Role.ADMIN)
            account = await accounts.create(
                db, resources.keys, name="paper", venue=VenueName.BYBIT, environment=Environment.SIMULATOR,
                credentials=CREDENTIALS,
            )  # fmt: skip
            for name, secret in (("used", used), ("unused", unused)):
                made = NewStrategy(id=name, name=name, accounts=[AccountShare(account_id=account.id)])
                await strategies.create(db, made, resources.keys.secret_hash(secret))
        login = (await client.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
        first = await client.post(f"/webhook/used/{used}", json=OPENING)
        assert first.status_code == 202
        before, install = resources.keys, resources.keys.install
        now = resources.now()
        long_ago = issue(before, admin, now - timedelta(hours=1), 60)

    async with here.running(new, old) as (resources, client):
        again = await client.post(f"/webhook/used/{used}", json=OPENING)
        assert (again.status_code, again.json()["alert_id"]) == (200, first.json()["alert_id"]), "a resend is one still"
        assert resources.keys.install == install, "an order sent once more has the same client order id"
        assert await status_of(client, login["access_token"]) == 200
        assert await status_of(client, long_ago) == 401, "no longer than it was meant to be"
        refreshed = await client.post("/api/v1/auth/refresh", json={"refresh_token": login["refresh_token"]})
        assert refreshed.status_code == 200
        assert await status_of(client, refreshed.json()["access_token"]) == 200
        assert user_id_of(before, refreshed.json()["access_token"]) is None, "nothing new is signed with the old key"
        assert await accounts.credentials_of(resources.pool, resources.keys, account.id) == CREDENTIALS
        with pytest.raises(SealBroken):
            await accounts.credentials_of(resources.pool, Keys.from_text(old), account.id)

    async with here.running(new) as (resources, client):
        assert resources.keys.install == install
        assert await status_of(client, login["access_token"]) == 401
        assert await status_of(client, issue(before, admin, resources.now(), 900)) == 401, "whoever stole the old key"
        assert await status_of(client, refreshed.json()["access_token"]) == 200
        again = await client.post("/api/v1/auth/refresh", json={"refresh_token": refreshed.json()["refresh_token"]})
        assert again.status_code == 200
        assert await accounts.credentials_of(resources.pool, resources.keys, account.id) == CREDENTIALS
        assert (await client.post(f"/webhook/used/{used}", json=OPENING)).status_code == 200
        assert (await client.post(f"/webhook/unused/{unused}", json=OPENING)).status_code == 401


async def test_61_without_the_old_key_nothing_of_it_is_taken(database_url: str, redis_url: str) -> None:
    here, old, new = Installation(database_url, redis_url), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    secret = new_secret()
    async with here.running(old) as (resources, _):
        async with transaction(resources.pool) as db:
            account = await accounts.create(
                db, resources.keys, name="paper", venue=VenueName.BYBIT, environment=Environment.SIMULATOR,
                credentials=CREDENTIALS,
            )  # fmt: skip
            await strategies.create(db, NewStrategy(id="one", name="one"), resources.keys.secret_hash(secret))
    async with here.running(new) as (resources, client):
        assert (await client.post(f"/webhook/one/{secret}", json=OPENING)).status_code == 401
        with pytest.raises(SealBroken):
            await accounts.credentials_of(resources.pool, resources.keys, account.id)


COMMANDS = ("api", "worker", "watcher", "migrate")


async def ran(settings: Settings, command: str) -> tuple[int, str]:
    """A process of this version as a person starts it: its exit code and what it says."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LEVELHEAD_DATABASE_URL": settings.database_url.reveal(),
        "LEVELHEAD_REDIS_URL": settings.redis_url.reveal(),
        "LEVELHEAD_MASTER_KEY": settings.master_key.reveal(),
        "LEVELHEAD_PORT": "0" if command != "api" else "1",
    }
    environ.pop("LEVELHEAD_PORT")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli", command),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environ,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_62_a_database_of_a_newer_version_starts_nothing_of_this_one(database_url: str, redis_url: str) -> None:
    settings = Installation(database_url, redis_url).settings(secrets.token_urlsafe(32))
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO schema_migrations (name) VALUES ('9999_from_the_future.sql')")
        for code, said in await asyncio.gather(*(ran(settings, command) for command in COMMANDS)):
            assert (code, len(said.splitlines())) == (2, 1), said
            assert "newer than this program, which does not know 9999_from_the_future.sql: install" in said
        await connection.execute("DELETE FROM schema_migrations WHERE name = '9999_from_the_future.sql'")
        newest = migrate.files()[-1].name
        await connection.execute("DELETE FROM schema_migrations WHERE name = $1", newest)
        for code, said in await asyncio.gather(*(ran(settings, command) for command in ("worker",))):
            assert (code, len(said.splitlines())) == (2, 1), said
            assert f"lacks {newest}: run `levelhead migrate`" in said
    finally:
        await connection.close()


@asynccontextmanager
async def written_by_another(admin: Any, table: str, column: str, value: str, where: str) -> AsyncIterator[None]:
    """Rows as a newer version's migration and program leave them, until the end."""
    check = f"{table}_{column}_check"
    rule = await admin.fetchval("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", check)
    await admin.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check}")
    found = await admin.fetch(f"SELECT id, {column} AS was FROM {table} WHERE {where}")
    assert found, "there is a row to be changed"
    await admin.execute(f"UPDATE {table} SET {column} = $1 WHERE {where}", value)
    try:
        yield
    finally:
        for row in found:
            await admin.execute(f"UPDATE {table} SET {column} = $2 WHERE id = $1", row["id"], row["was"])
        await admin.execute(f"ALTER TABLE {table} ADD CONSTRAINT {check} {rule}")


ROWS = {
    "LEVELKIND": ("levels", "kind", "time_stop", "position_id = (SELECT id FROM positions WHERE symbol = '{}')"),
    "LEVELSTATUS": ("levels", "status", "snoozed", "position_id = (SELECT id FROM positions WHERE symbol = '{}')"),
    "POSITION": ("positions", "status", "paused", "symbol = '{}'"),
    "ORDER": ("orders", "status", "amended", "symbol = '{}' AND status = 'armed'"),
}


@pytest.fixture(scope="module")
async def desks(chaos: Chaos) -> list[Desk]:
    for name in (*ROWS, *(f"{name}BESIDE" for name in ROWS)):
        await chaos.stack.control(
            "POST", "instruments",
            {"symbol": f"{name}USDT", "tick_size": "0.001", "qty_step": "0.1", "min_qty": "0.1", "max_qty": "100000",
             "max_market_qty": "10000", "start_price": "10"},
        )  # fmt: skip
        await chaos.stack.price(f"{name}USDT", "10")
    return await chaos.both_desks("versions")


@pytest.mark.parametrize("names", [("LEVELKIND", "LEVELSTATUS", "ORDER"), ("POSITION",)], ids=["not-held", "held"])
async def test_62_a_row_of_a_newer_version_is_left_alone_and_everything_beside_it_goes_on(
    chaos: Chaos, desks: list[Desk], names: tuple[str, ...]
) -> None:
    """Of a position that cannot be read it is not known what it holds; of what belongs to one, that is known."""
    stack, beside, symbols = chaos.stack, f"{names[0]}BESIDEUSDT", [f"{name}USDT" for name in names]
    mine, other = desks
    for one in (*symbols, beside):
        await mine.executed(one, "buy", size={"base": "30"})
        await mine.becomes(one, "long", status="open", protected_by=BOTH)
    admin = await asyncpg.connect(DataDir(stack.data_dir).database_url().reveal())
    try:
        async with AsyncExitStack() as rows:
            for name, symbol in zip(names, symbols, strict=True):
                table, column, value, where = ROWS[name]
                await rows.enter_async_context(written_by_another(admin, table, column, value, where.format(symbol)))
            before = {process: stack.pid(process) for process in ("worker", "watcher")}
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)  # those that start now read everything anew
            await asyncio.gather(*(chaos.is_back(process, pid) for process, pid in before.items()))
            await chaos.ready()
            closings = [await mine.alert(symbol, "close") for symbol in symbols]
            await stack.price(beside, "9.49")
            await mine.becomes(beside, "long", status="closed", close_reason="stop_loss")
            await is_sound(mine, beside)
            await stack.price(beside, "10")
            if "POSITION" in names:
                # What the account holds is not known, so nothing is opened on it; and a state is not guessed at.
                alert = await outcome(stack, await mine.alert(beside, "buy", size={"base": "1"}))
                assert (alert["status"], await mine.traded(symbols[0])) == ("refused", [("Buy", "30")])
                await other.executed(beside, "buy", size={"base": "1"})
            else:
                await mine.executed(beside, "buy", size={"base": "1"})
    finally:
        await admin.close()
    for symbol, closing in zip(symbols, closings, strict=True):
        alert = await outcome(stack, closing)
        if alert["outcome"]["code"] != "executed":
            await mine.executed(symbol, "close", id=f"once {symbol} can be read")
        await mine.becomes_flat(symbol)
        assert await mine.traded(symbol) == [("Buy", "30"), ("Sell", "30")]
