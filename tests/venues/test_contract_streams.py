"""The sockets of every adapter against the simulator: public prices, and what an account is told."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.position import FillOrigin
from app.venues.base import Topic
from tests.venues.contract import BTC, FACES, LONG, PRICE, QTY, SHORT, Heard, Site, kept, moved, protect, soon, until
from tests.venues.contract import site as open_site

D = Decimal
ETH = "ETHUSDT"
TRADES = frozenset({Topic.TRADES})
EVERYTHING = frozenset(Topic)


@pytest.fixture(params=list(FACES))
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with open_site(request.param) as found:
        yield found


@pytest.fixture(params=[(name, mode) for name in FACES for mode in (False, True)], ids=str)
async def any_mode(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    name, hedge = request.param
    async with open_site(name, hedge=hedge) as found:
        yield found


# public


async def test_every_trade_arrives_in_its_order(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({BTC: TRADES, ETH: TRADES})
    async with kept(stream):
        assert await soon(heard.links) is True
        prices = [D(60000) + D(number) / 10 for number in range(300)]
        batch = [{"symbol": BTC, "price": str(price)} for price in prices]
        await site.simulator.post("price", trades=[*batch, {"symbol": ETH, "price": "3501.01"}])
        heard_of_btc = [await soon(heard.trades) for _ in prices]
        assert [(trade.symbol, trade.price) for trade in heard_of_btc] == [(BTC, price) for price in prices]
        assert len({trade.trade_id for trade in heard_of_btc}) == len(prices)
        assert [trade.at_ms for trade in heard_of_btc] == sorted(trade.at_ms for trade in heard_of_btc)
        other = await soon(heard.trades)
        assert (other.symbol, other.price) == (ETH, D("3501.01"))


async def test_the_trades_of_the_socket_are_those_of_the_markets_memory(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({BTC: TRADES})
    async with kept(stream), site.venue() as venue:
        since = await venue.server_time()
        assert await soon(heard.links) is True
        await site.simulator.price("60123.4")
        trade = await until(heard.trades, lambda found: found.price == D("60123.4"))
        remembered = await venue.trades_since(BTC, since)
        assert remembered is not None
        assert trade.trade_id in {other.trade_id for other in remembered}


async def test_mark_and_book_follow(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({BTC: EVERYTHING})
    async with kept(stream):
        assert await soon(heard.links) is True
        await site.simulator.price("60010.5", mark="60005.2", bid="60010.4", ask="60010.6")
        await until(heard.marks, lambda found: found == (BTC, D("60005.2")))
        await until(heard.books, lambda found: found == (BTC, D("60010.4"), D("60010.6")))
        await until(heard.trades, lambda found: found.price == D("60010.5"))


async def test_only_what_is_wanted_is_told(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({BTC: TRADES, ETH: TRADES})
    async with kept(stream):
        assert await soon(heard.links) is True
        stream.want({ETH: TRADES})
        await site.simulator.price("3502", ETH)
        await until(heard.trades, lambda found: found.symbol == ETH)
        # Both requests are on the same socket, in their order: a later subscription proves that the first was read.
        stream.want({ETH: TRADES, "SOLUSDT": TRADES})
        await moved(site, "SOLUSDT", heard.trades, lambda found: found.symbol == "SOLUSDT")
        await site.simulator.price("60500")
        await site.simulator.price("3503", ETH)
        found = await until(heard.trades, lambda trade: trade.symbol in (BTC, ETH))
        assert found.symbol == ETH


async def test_more_is_wanted_while_the_link_is_up(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({})
    async with kept(stream):
        stream.want({BTC: TRADES})
        await moved(site, BTC, heard.trades, lambda found: found.symbol == BTC)
        stream.want({BTC: EVERYTHING})
        await moved(site, BTC, heard.marks, lambda found: found[0] == BTC)
        await moved(site, BTC, heard.books, lambda found: found[0] == BTC)


async def test_a_cut_link_comes_back_with_all_that_was_wanted(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({BTC: EVERYTHING, ETH: TRADES})
    async with kept(stream):
        assert await soon(heard.links) is True
        await site.simulator.fault("cut_socket", channel="public")
        assert await soon(heard.links) is False
        assert await soon(heard.links) is True
        await site.simulator.price("61000.5", mark="60999")
        await site.simulator.price("3600", ETH)
        await until(heard.trades, lambda found: found.symbol == ETH and found.price == D(3600))
        await until(heard.marks, lambda found: found == (BTC, D(60999)))


async def test_a_symbol_that_is_not_listed_spoils_nothing(site: Site) -> None:
    heard = Heard()
    stream = site.public_stream(heard)
    stream.want({BTC: TRADES, "NOPEUSDT": TRADES})
    async with kept(stream):
        assert await soon(heard.links) is True
        await site.simulator.price("60321")
        await until(heard.trades, lambda found: found.price == D(60321))


async def test_a_listener_that_fails_ends_nothing(site: Site) -> None:
    class Failing(Heard):
        def on_trades(self, trades: Any) -> None:
            super().on_trades(trades)
            raise RuntimeError("a bug of ours")

    heard = Failing()
    stream = site.public_stream(heard)
    stream.want({BTC: TRADES})
    async with kept(stream):
        assert await soon(heard.links) is True
        for price in (60001, 60002):
            await site.simulator.price(price)
            await until(heard.trades, lambda found, price=price: found.price == price)  # type: ignore[misc]


# private


async def test_a_fill_arrives_by_socket_as_the_list_tells_it(any_mode: Site) -> None:
    """So that both feed one settlement: same ids, same numbers."""
    site, heard = any_mode, Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        for order in (site.opens(), site.closes(qty=D("0.004"))):
            await venue.place(order)
            told = await soon(heard.fills)
            [listed] = await venue.fills(BTC, client_order_id=order.client_order_id)
            assert told == listed
        assert await until(heard.changes, lambda symbol: symbol == BTC)


async def test_fills_that_are_told_twice_have_one_id(site: Site) -> None:
    heard = Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await site.simulator.fault("duplicate_events")
        await site.fault_of_orders("split_fill")
        await venue.place(site.opens())
        ids = [(await soon(heard.fills)).venue_fill_id for _ in range(4)]
        assert len(set(ids)) == 2


async def test_both_sides_of_hedge_mode_are_told_apart() -> None:
    for name in FACES:
        heard = Heard()
        async with (
            open_site(name, hedge=True) as site,
            site.venue() as venue,
            kept(venue.private_stream(heard)),
        ):
            assert await soon(heard.changes) == ""
            for side in (LONG, SHORT):
                await venue.place(site.opens(side))
                assert (await soon(heard.fills)).position_side is side
            for side in (LONG, SHORT):
                await venue.place(site.closes(side))
                assert (await soon(heard.fills)).position_side is side


@pytest.mark.parametrize(("event", "origin"), [("liquidate", FillOrigin.LIQUIDATION), ("adl", FillOrigin.ADL)])
async def test_what_the_exchange_does_by_itself_arrives_by_socket(
    any_mode: Site, event: str, origin: FillOrigin
) -> None:
    site, heard = any_mode, Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await venue.place(site.opens())
        assert (await soon(heard.fills)).origin is FillOrigin.ORDER
        await site.simulator.post(event, api_key=site.api_key, symbol=BTC, side="long")
        taken = await soon(heard.fills)
        assert (taken.origin, taken.qty, taken.price) == (origin, QTY, PRICE)
        listed = await venue.fills(BTC, since=taken.filled_at - timedelta(minutes=1))
        assert listed[-1] == taken


async def test_the_native_stop_arrives_by_socket(any_mode: Site) -> None:
    site, heard = any_mode, Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await venue.place(site.opens())
        await protect(site, venue, LONG, D(58000))
        await until(heard.fills, lambda fill: fill.origin is FillOrigin.ORDER)
        await site.simulator.price(57990)
        stopped = await soon(heard.fills)
        assert (stopped.origin, stopped.qty) == (FillOrigin.NATIVE_STOP, QTY)


async def test_a_trade_by_hand_arrives_by_socket(site: Site) -> None:
    heard = Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await site.by_hand("Sell", "0.005")
        found = await soon(heard.fills)
        assert (found.origin, found.qty) == (FillOrigin.EXTERNAL, D("0.005"))


async def test_funding_and_deposits_are_no_fills(site: Site) -> None:
    heard = Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await venue.place(site.opens())
        first = await soon(heard.fills)
        await site.simulator.post("funding", symbol=BTC, rate="0.0001")
        await venue.place(site.closes())
        second = await soon(heard.fills)
        assert first.side is not second.side
        assert heard.fills.empty()


async def test_a_private_link_that_is_cut_says_that_anything_may_have_changed(site: Site) -> None:
    heard = Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await site.simulator.fault("cut_socket", channel="private")
        await until(heard.changes, lambda symbol: symbol == "")
        await venue.place(site.opens())
        assert (await soon(heard.fills)).qty == QTY


async def test_a_listen_key_that_ran_out_is_replaced() -> None:
    """The socket stays up then, and nothing more comes on it."""
    heard = Heard()
    async with open_site("binance") as site, site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await site.simulator.post("binance", expire_listen_key=site.api_key)
        await until(heard.changes, lambda symbol: symbol == "")
        await venue.place(site.opens())
        assert (await soon(heard.fills)).qty == QTY


async def test_the_position_is_known_to_have_changed_when_a_setting_did(site: Site) -> None:
    heard = Heard()
    async with site.venue() as venue, kept(venue.private_stream(heard)):
        assert await soon(heard.changes) == ""
        await venue.place(site.opens())
        await until(heard.changes, lambda symbol: symbol == BTC)
        while not heard.changes.empty():
            heard.changes.get_nowait()
        await protect(site, venue, LONG, D(57000))
        await until(heard.changes, lambda symbol: symbol == BTC)
