"""The private streams: fills are settled as they come, and an account has one stream among all watchers."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import msgspec
import pytest

from app.ids import new_id
from app.store import leases
from tests.support.house import House, eventually
from tests.workers.support import Broken, closed, private_links
from workers import private
from workers.private import AccountStreams

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
READS = re.compile("execution|position|order|userTrades|allOrders|openOrders|openAlgo")


@pytest.fixture
def house(each_house: House) -> House:
    """Each test runs once for each venue."""
    return each_house


@asynccontextmanager
async def streaming(house: House) -> AsyncIterator[AccountStreams]:
    """A watcher's account streams, with the house's account wanted."""
    streams = AccountStreams(house.resources, new_id())
    task = asyncio.create_task(streams.run())
    try:
        streams.want(await house.resources.venues.of(house.account_id))
        yield streams
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def up(house: House, streams: AccountStreams) -> None:
    async def check() -> bool:
        return streams.running() == {house.account_id} and await private_links(house) == 1

    await eventually(check, what="the stream")


@pytest.fixture
def no_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read by REST because of what a stream tells."""
    monkeypatch.setattr(private, "CHANGE_PAUSE_S", 3600.0)


@pytest.mark.usefixtures("no_looking")
async def test_a_fill_on_the_stream_is_settled_without_a_question(house: House) -> None:
    await house.alert(**LONG)
    async with streaming(house) as streams:
        await up(house, streams)
        before = len((await house.ledger())["requests"])
        await house.by_hand("Sell", "0.004")

        async def reduced() -> bool:
            position = await house.position()
            return position is not None and position.qty == D("0.006")

        await eventually(reduced, what="the fill")
        [stop] = await house.rows("SELECT qty FROM levels WHERE status = 'armed'")
        assert stop["qty"] == D("0.006")
        await house.by_hand("Sell", "0.006")
        await closed(house)
        requests = (await house.ledger())["requests"][before:]
    assert [request["path"] for request in requests if READS.search(request["path"])] == []
    assert (await house.last_position()).close_reason == "external"


@pytest.mark.usefixtures("no_looking")
async def test_a_native_stop_on_the_stream_ends_the_position_with_its_reason(house: House) -> None:
    await house.alert(**LONG)
    position = await house.position()
    assert position is not None
    assert position.native_stop is not None
    async with streaming(house) as streams:
        await up(house, streams)
        await house.price(position.native_stop - 1)
        await closed(house)
    assert (await house.last_position()).close_reason == "native_stop"


@pytest.mark.usefixtures("no_looking")
async def test_what_a_hand_trades_elsewhere_is_not_ours(house: House) -> None:
    await house.price("3000", symbol="ETHUSDT")
    await house.alert(**LONG)
    async with streaming(house) as streams:
        await up(house, streams)
        await house.by_hand("Buy", "1", symbol="ETHUSDT")
        await house.by_hand("Sell", "0.01")
        await closed(house)
    assert await house.rows("SELECT 1 FROM fills WHERE symbol = 'ETHUSDT'") == []


async def test_what_was_filled_before_the_stream_was_up_is_asked_for(house: House) -> None:
    await house.alert(**LONG)
    await house.by_hand("Sell", "0.01")
    async with streaming(house):
        await closed(house)
    assert (await house.last_position()).close_reason == "external"


@pytest.mark.usefixtures("no_looking")
async def test_fills_that_cannot_be_settled_are_asked_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.alert(**LONG)
    async with streaming(house) as streams:
        await up(house, streams)
        owned = streams._owned[house.account_id]
        stream = private.AccountStream(house.resources, owned.connected, owned.memory)
        fills = await owned.connected.venue.fills("BTCUSDT", since=(await house.last_position()).opened_at)
        settling = asyncio.create_task(stream._settle_for_ever())
        pool, house.resources.pool = house.resources.pool, Broken()
        stream._missed = False
        stream.on_fills(fills)

        async def missed() -> bool:
            return stream._missed

        await eventually(missed, what="the failure")
        house.resources.pool = pool
        settling.cancel()
    assert stream._changed.is_set()


async def test_two_watchers_run_one_stream_of_an_account(house: House) -> None:
    await house.alert(**LONG)
    async with streaming(house) as first:
        await up(house, first)
        async with streaming(house) as second:
            await second._turn()
            assert second.running() == set()
            assert await private_links(house) == 1
            first_left = asyncio.create_task(first._give_up())
            await first_left
            first._wanted.clear()
            await up(house, second)


async def test_a_stream_ends_with_its_lease(house: House) -> None:
    await house.alert(**LONG)
    async with streaming(house) as streams:
        await up(house, streams)
        name = f"{private.LEASE}{house.account_id}"
        await house.resources.pool.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", name)
        assert await leases.acquire(house.resources.pool, name, new_id(), ttl_s=600) is not None

        async def gone() -> bool:
            return not streams.running() and await private_links(house) == 0

        await eventually(gone, what="the end of the stream")


async def test_a_stream_ends_when_its_lease_cannot_be_renewed(house: House) -> None:
    await house.alert(**LONG)
    async with streaming(house) as streams:
        await up(house, streams)
        pool, house.resources.pool = house.resources.pool, Broken()

        async def gone() -> bool:
            return not streams.running() and await private_links(house) == 0

        try:
            await eventually(gone, what="the end of the stream")
        finally:
            house.resources.pool = pool
        await up(house, streams)


async def test_an_account_that_changed_gets_a_new_stream(house: House) -> None:
    await house.alert(**LONG)
    async with streaming(house) as streams:
        await up(house, streams)
        before = streams._owned[house.account_id].task
        connected = await house.resources.venues.of(house.account_id)
        streams.want(type(connected)(**msgspec.structs.asdict(connected)))

        async def another() -> bool:
            return streams._owned[house.account_id].task is not before

        await eventually(another, what="another stream")
        await up(house, streams)
