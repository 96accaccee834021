"""What only Bybit has, against the simulator over sockets; what all venues have is in `test_contract`."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal as D

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.domain.order import MarginMode, OrderStatus
from app.errors import Refused, Transient
from app.keys import Credentials
from app.venues.base import RestingStop, Topic
from app.venues.bybit.stream import BybitPublicStream
from app.venues.link import Bounds
from tests.venues.contract import BTC, LONG, QTY, SHORT, Heard, Site, kept, soon
from tests.venues.contract import site as open_site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site("bybit") as found:
        yield found


# stops that ride on orders


async def test_a_stop_on_the_wrong_side_refuses_its_order(site: Site) -> None:
    async with site.venue() as venue:
        with pytest.raises(Refused) as caught:
            await venue.place(site.opens(stop_loss=D(61000)))
        assert caught.value.code == "stop_wrong_side"
        assert caught.value.reason.startswith("Bybit: ")
        assert (await venue.standing(BTC)).holdings == ()


async def test_both_sides_at_once_each_with_the_stop_of_its_order() -> None:
    async with open_site("bybit", hedge=True) as hedge, hedge.venue() as venue:
        await venue.place(hedge.opens(LONG, stop_loss=D(57000)))
        await venue.place(hedge.opens(SHORT, qty=D("0.020"), stop_loss=D(63000)))
        standing = await venue.standing(BTC)
        assert {(held.side, held.qty, held.stop_loss) for held in standing.holdings} == {
            (LONG, QTY, D(57000)),
            (SHORT, D("0.020"), D(63000)),
        }
        await venue.place(hedge.closes(LONG))
        assert await venue.resting_stops(BTC) == [RestingStop(side=SHORT, price=D(63000))]


# an account in isolated margin mode


async def test_the_margin_mode_is_the_accounts(site: Site) -> None:
    await site.simulator.post("accounts", api_key="isolated", api_secret="s", isolated=True)
    async with site.venue(credentials=Credentials(api_key="isolated", api_secret="s")) as venue:
        assert (await venue.standing(BTC)).margin_mode is MarginMode.ISOLATED
        await venue.set_margin_mode(BTC, MarginMode.ISOLATED)
        with pytest.raises(Refused) as caught:
            await venue.set_margin_mode(BTC, MarginMode.CROSS)
        assert caught.value.code == "margin_mode_mismatch"


# keys


async def test_an_rsa_key_listens(site: Site) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    await site.simulator.post("accounts", api_key="rsa-key", public_key=public.decode())
    credentials, heard = Credentials(api_key="rsa-key", private_key=private.decode()), Heard()
    async with site.venue(credentials=credentials) as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        order = site.opens()
        await venue.place(order)
        assert (await soon(heard.fills)).client_order_id == order.client_order_id


# faults


async def test_an_order_that_is_rejected_after_it_was_accepted_says_why(site: Site) -> None:
    await site.fault_of_orders("reject_async")
    async with site.venue() as venue:
        order = site.opens()
        await venue.place(order)
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        assert report.status in (OrderStatus.REJECTED, OrderStatus.CANCELLED)
        assert report.reason


async def test_a_rate_limit_says_when_it_ends(site: Site) -> None:
    await site.simulator.fault("rate_limit")
    async with site.venue() as venue:
        asked = (venue.set_leverage(BTC, D(5)) for _ in range(40))
        results = await asyncio.gather(*asked, return_exceptions=True)
    limited = [result for result in results if isinstance(result, Transient)]
    assert limited
    assert all(exc.retry_after_s is not None and 0 <= exc.retry_after_s <= 1 for exc in limited)


# streams


async def test_a_silent_socket_is_noticed_and_left(site: Site) -> None:
    heard = Heard()
    bounds = Bounds(ping_s=0.1, silence_s=0.05, answer_s=0.1, pause_min_s=0.01, pause_max_s=0.05)
    stream = BybitPublicStream(site.simulator.origins.ws, heard, bounds=bounds)
    stream.want({BTC: frozenset({Topic.TRADES})})
    async with kept(stream):
        assert await soon(heard.links) is True
        await site.simulator.fault("silent_socket", channel="public", seconds=0.3)
        assert await soon(heard.links) is False
        assert await soon(heard.links) is True
