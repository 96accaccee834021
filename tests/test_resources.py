"""Which adapter an account gets, and that a ban of one process stops the requests of another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from app import resources as module
from app.errors import Refused, Transient
from app.keys import Credentials
from app.resources import Resources, open_resources, origins_of
from app.store import accounts
from app.store.accounts import AccountRow, Environment, VenueName
from app.store.db import transaction
from app.venues.base import Origins
from app.venues.gate import Scope
from tests.support.house import eventually, settings

SIMULATOR = "http://127.0.0.1:1"  # nobody is there
NO_REDIS = "redis://127.0.0.1:1/0"
PAPER = {"environment": Environment.SIMULATOR}
HMAC = Credentials(api_key="key", api_secret="secret")

both = pytest.mark.parametrize("venue", VenueName)


@pytest.fixture
async def resources(database_url: str, redis_url: str) -> AsyncIterator[Resources]:
    async with process(database_url, redis_url) as opened:
        yield opened


@asynccontextmanager
async def process(database_url: str, redis_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings(database_url, redis_url, SIMULATOR)) as opened:
        yield opened


async def account(
    resources: Resources, venue: VenueName, name: str = "paper", *, credentials: Credentials = HMAC, **more: Any
) -> AccountRow:
    async with transaction(resources.pool) as connection:
        return await accounts.create(
            connection, resources.keys, name=name, venue=venue, credentials=credentials, **PAPER | more
        )


@pytest.fixture
def no_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every use looks at the account's row."""
    monkeypatch.setattr(module, "RECHECK_S", 0.0)


# ------------------------------------------------------------------------------------------------------------- origins


@both
async def test_the_simulator_shows_every_exchange_at_one_origin(resources: Resources, venue: VenueName) -> None:
    origins = origins_of(await account(resources, venue), "http://127.0.0.1:8090")
    assert (origins.rest, origins.ws) == ("http://127.0.0.1:8090", "ws://127.0.0.1:8090")


async def test_without_an_origin_of_the_simulator_the_setting_is_named(resources: Resources) -> None:
    with pytest.raises(Refused, match="LEVELHEAD_SIMULATOR_URL is not set"):
        origins_of(await account(resources, VenueName.BYBIT), None)


async def test_custom_means_the_accounts_own_urls(resources: Resources) -> None:
    row = await account(
        resources,
        VenueName.BYBIT,
        environment=Environment.CUSTOM,
        rest_url="https://api.bybit.eu",
        ws_url="wss://stream.bybit.eu",
    )
    assert origins_of(row, None) == Origins(rest="https://api.bybit.eu", ws="wss://stream.bybit.eu")


# ------------------------------------------------------------------------------------------------------------ adapters


@both
async def test_an_account_keeps_its_adapter_while_it_is_not_changed(
    resources: Resources, venue: VenueName, no_recheck: None
) -> None:
    row = await account(resources, venue)
    connected = await resources.venues.of(row.id)
    assert connected.account == row
    assert await resources.venues.of(row.id) is connected


async def test_a_changed_account_gets_a_new_adapter_with_the_same_limits(
    resources: Resources, no_recheck: None
) -> None:
    row = await account(resources, VenueName.BYBIT)
    before = await resources.venues.of(row.id)
    before.gate.ban(Scope.ACCOUNT, 60, "10006")
    async with transaction(resources.pool) as connection:
        await accounts.update(connection, resources.keys, row.id, name="renamed")
    after = await resources.venues.of(row.id)
    assert after.venue is not before.venue
    assert after.account.name == "renamed"
    with pytest.raises(Transient, match="10006"):
        await after.venue.equity()


async def test_a_removed_account_is_refused(resources: Resources, no_recheck: None) -> None:
    row = await account(resources, VenueName.BYBIT)
    await resources.venues.of(row.id)
    async with transaction(resources.pool) as connection:
        assert await accounts.remove(connection, row.id)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await resources.venues.of(row.id)
        assert caught.value.code == "no_account"


async def test_an_account_is_not_read_again_within_a_moment(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECHECK_S", 3600.0)
    row = await account(resources, VenueName.BYBIT)
    connected = await resources.venues.of(row.id)
    await resources.pool.execute("UPDATE accounts SET removed_at = now()")
    assert await resources.venues.of(row.id) is connected


@both
@pytest.mark.parametrize("credentials", [Credentials(api_key="key"), Credentials(api_key="key", private_key="no PEM")])
async def test_a_key_of_no_use_is_refused(resources: Resources, venue: VenueName, credentials: Credentials) -> None:
    row = await account(resources, venue, credentials=credentials)
    with pytest.raises(Refused):
        await resources.venues.of(row.id)


async def test_a_key_that_was_stored_under_another_master_key_is_refused(resources: Resources) -> None:
    row = await account(resources, VenueName.BYBIT)
    await resources.pool.execute("UPDATE accounts SET credentials = $1", b"something else that is long enough")
    with pytest.raises(Refused, match="the key of account paper cannot be read"):
        await resources.venues.of(row.id)


async def test_what_the_accounts_need_can_be_loaded_beforehand(resources: Resources) -> None:
    await account(resources, VenueName.BYBIT)
    await resources.venues.load()


# ---------------------------------------------------------------------------------------------------------------- bans


async def turned_away(resources: Resources, account_id: UUID) -> bool:
    """Whether a request of this account is not even sent, for the reason of the tests below."""
    try:
        await (await resources.venues.of(account_id)).venue.equity()
    except Transient as said:
        return "HTTP 418" in str(said)
    raise AssertionError("nobody should have answered")


@both
async def test_a_ban_in_one_process_stops_the_requests_of_all(
    database_url: str, redis_url: str, venue: VenueName
) -> None:
    async with process(database_url, redis_url) as one, process(database_url, redis_url) as other:
        alice, bob = await account(one, venue, "alice"), await account(one, venue, "bob")
        assert not await turned_away(other, bob.id)
        (await one.venues.of(alice.id)).gate.ban(Scope.ADDRESS, 60, "HTTP 418")
        assert await turned_away(one, alice.id)
        assert await turned_away(one, bob.id)
        await eventually(lambda: turned_away(other, bob.id), within_s=5)


@both
async def test_a_process_that_starts_does_not_send_into_a_ban(
    database_url: str, redis_url: str, venue: VenueName
) -> None:
    async with process(database_url, redis_url) as before:
        row = await account(before, venue)
        (await before.venues.of(row.id)).gate.ban(Scope.ACCOUNT, 60, "HTTP 418")
    async with process(database_url, NO_REDIS) as after:
        assert await turned_away(after, row.id)
