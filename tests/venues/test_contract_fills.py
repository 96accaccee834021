"""Fills and orders, for every adapter: who made a fill, and what became of an order, as the simulator has it end."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest

from app.domain.order import OrderStatus
from app.domain.position import FillOrigin
from app.errors import Conflict, Refused
from app.venues.base import RestingStop
from tests.venues.contract import BTC, BUY, LONG, QTY, ROADS, SELL, Site, protect
from tests.venues.contract import site as open_site

D = Decimal
MODES = {"one-way": False, "hedge": True}


@pytest.fixture(params=[(name, mode) for name in ROADS for mode in MODES], ids=lambda param: f"{param[0]}, {param[1]}")
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Each venue in each position mode, orders by REST and over the socket."""
    name, mode = request.param
    async with open_site(name, hedge=MODES[mode]) as found:
        yield found


@pytest.fixture(params=ROADS)
async def one_way(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Each venue in one-way mode, for what has nothing to do with the mode."""
    async with open_site(request.param) as found:
        yield found


async def test_a_native_stop_is_recognised_in_the_fills(site: Site) -> None:
    async with site.venue() as venue:
        began = await venue.server_time() - timedelta(seconds=1)
        await venue.place(site.opens())
        await protect(site, venue, LONG, D(58000))
        await site.simulator.price(57990)
        assert (await venue.standing(BTC)).holdings == ()
        assert await venue.resting_stops(BTC) == []
        opened, stopped = await venue.fills(BTC, since=began)
        assert (opened.origin, stopped.origin) == (FillOrigin.ORDER, FillOrigin.NATIVE_STOP)
        assert (stopped.side, stopped.qty) == (SELL, QTY)
        if site.hedge:
            assert stopped.position_side is LONG


async def test_the_native_stop_goes_with_its_position(site: Site) -> None:
    async with site.venue() as venue:
        await venue.place(site.opens())
        await protect(site, venue, LONG, D(58000))
        await venue.place(site.closes())
        assert await venue.resting_stops(BTC) == []
        await site.simulator.price(57000)
        assert (await venue.standing(BTC)).holdings == ()


@pytest.mark.parametrize(("event", "origin"), [("liquidate", FillOrigin.LIQUIDATION), ("adl", FillOrigin.ADL)])
async def test_what_the_exchange_does_by_itself_is_recognised(site: Site, event: str, origin: FillOrigin) -> None:
    async with site.venue() as venue:
        began = await venue.server_time() - timedelta(seconds=1)
        await venue.place(site.opens())
        await site.simulator.post(event, api_key=site.api_key, symbol=BTC, side="long")
        assert (await venue.standing(BTC)).holdings == ()
        found = await venue.fills(BTC, since=began)  # both may be of one millisecond
        opened, taken = sorted(found, key=lambda fill: fill.origin is not FillOrigin.ORDER)
        assert (opened.origin, taken.origin) == (FillOrigin.ORDER, origin)
        assert (taken.side, taken.qty) == (SELL, QTY)


async def test_a_trade_by_hand_is_somebody_elses(site: Site) -> None:
    async with site.venue() as venue:
        began = await venue.server_time() - timedelta(seconds=1)
        await site.by_hand("Buy", "0.005")
        [fill] = await venue.fills(BTC, since=began)
        assert (fill.origin, fill.side, fill.qty) == (FillOrigin.EXTERNAL, BUY, D("0.005"))
        [held] = await venue.holdings()
        assert (held.side, held.qty) == (LONG, D("0.005"))


async def test_funding_is_no_fill(one_way: Site) -> None:
    async with one_way.venue() as venue:
        began = await venue.server_time() - timedelta(seconds=1)
        await venue.place(one_way.opens())
        await one_way.simulator.post("funding", symbol=BTC, rate="0.0001")
        assert len(await venue.fills(BTC, since=began)) == 1


async def test_more_fills_than_a_page_holds(one_way: Site) -> None:
    count = one_way.face.page + 30
    async with one_way.venue() as venue:
        began = await venue.server_time() - timedelta(seconds=1)
        for _ in range(count):
            await one_way.by_hand("Buy", "0.001")
        fills = await venue.fills(BTC, since=began)
        assert len({fill.venue_fill_id for fill in fills}) == len(fills) == count
        assert [fill.filled_at for fill in fills] == sorted(fill.filled_at for fill in fills)


# what becomes of orders


async def test_a_partial_fill_is_a_cancelled_order_with_a_quantity(site: Site) -> None:
    await site.fault_of_orders("partial_fill", fraction="0.5")
    async with site.venue() as venue:
        order = site.opens()
        await venue.place(order)
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        assert (report.status, report.filled_qty) == (OrderStatus.CANCELLED, D("0.005"))
        [held] = (await venue.standing(BTC)).holdings
        assert held.qty == D("0.005")


async def test_an_order_that_fills_in_two_has_two_fills(site: Site) -> None:
    await site.fault_of_orders("split_fill")
    async with site.venue() as venue:
        order = site.opens()
        await venue.place(order)
        fills = await venue.fills(BTC, client_order_id=order.client_order_id)
        assert len({fill.venue_fill_id for fill in fills}) == 2
        assert sum(fill.qty for fill in fills) == QTY
        assert {fill.client_order_id for fill in fills} == {order.client_order_id}


async def test_an_order_that_the_exchange_gives_up_after_taking_it(site: Site) -> None:
    await site.fault_of_orders("reject_async")
    async with site.venue() as venue:
        order = site.opens()
        try:
            await venue.place(order)
        except Refused:
            pass  # the answer told it already
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        assert report.status in (OrderStatus.REJECTED, OrderStatus.CANCELLED)
        assert report.filled_qty == 0
        assert (await venue.standing(BTC)).holdings == ()


async def test_an_ended_order_is_found_after_the_exchange_forgot_what_ended_lately(one_way: Site) -> None:
    async with one_way.venue() as venue:
        order = one_way.opens()
        await venue.place(order)
        await one_way.simulator.fault("forget_closed")
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        assert report.status is OrderStatus.FILLED


async def test_an_order_that_is_not_shown_yet_is_none_and_then_there(one_way: Site) -> None:
    async with one_way.venue() as venue:
        order = one_way.opens()
        await venue.place(order)
        await one_way.simulator.fault("late_visible", ms=60_000)
        assert await venue.order(BTC, order.client_order_id) is None
        await one_way.simulator.clear()
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        assert report.status is OrderStatus.FILLED


async def test_a_used_id(one_way: Site) -> None:
    async with one_way.venue() as venue:
        order = one_way.opens()
        await venue.place(order)
        if venue.traits.refuses_used_ids:
            with pytest.raises(Conflict) as caught:
                await venue.place(order)
            assert caught.value.kind == "duplicate_order"
        [held] = (await venue.standing(BTC)).holdings
        assert held.qty == order.qty


async def test_ids_of_the_house_are_acceptable(one_way: Site) -> None:
    """34 characters, as `client_order_id` makes them."""
    async with one_way.venue() as venue:
        order = one_way.opens(client_order_id="lh" + "abcdefghijklmnopqrstuvwxyz234567")
        await venue.place(order)
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        [fill] = await venue.fills(BTC, client_order_id=order.client_order_id)
        assert fill.client_order_id == order.client_order_id


async def test_two_accounts_do_not_see_each_other(one_way: Site) -> None:
    await one_way.simulator.post("accounts", api_key="other", api_secret="hush", venue=one_way.face.name)
    other = type(one_way.credentials)(api_key="other", api_secret="hush")
    async with one_way.venue() as venue, one_way.venue(credentials=other) as stranger:
        order = one_way.opens()
        await venue.place(order)
        assert await stranger.holdings() == []
        assert await stranger.order(BTC, order.client_order_id) is None


async def test_a_position_that_is_not_seen_yet_gets_its_stop_all_the_same() -> None:
    """Right after the fill Binance may not see the position that a stop is for: no reason to leave it bare."""
    async with open_site("binance") as site, site.venue() as venue:
        await site.simulator.post("binance", position_lag_ms=400)
        await venue.place(site.opens())
        await protect(site, venue, LONG, D(57000))
        assert await venue.resting_stops(BTC) == [RestingStop(side=LONG, price=D(57000))]
