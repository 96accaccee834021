"""The whole of `Venue`, for every adapter in both position modes, against the simulator over sockets.

What becomes of orders is in `test_contract_fills`, what fails in `test_contract_failures` and `test_contract_limits`,
the sockets are in `test_contract_streams`, and what is on the wire in `test_contract_wire`.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import MarginMode, OrderStatus, PositionMode
from app.domain.position import FillOrigin
from app.errors import Conflict, Refused
from app.venues.base import RestingStop
from tests.venues.contract import BTC, LONG, PRICE, QTY, ROADS, SHORT, Site, protect
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


@pytest.fixture(params=ROADS)
async def hedge(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with open_site(request.param, hedge=True) as found:
        yield found


@pytest.mark.parametrize("side", [LONG, SHORT])
async def test_a_position_from_its_entry_to_its_exit(site: Site, side: Any) -> None:
    sign = side.sign
    async with site.venue() as venue:
        began = await venue.server_time() - timedelta(seconds=1)
        await venue.set_leverage(BTC, D(5))
        await venue.set_leverage(BTC, D(5))
        first_stop = PRICE - sign * 3000
        opening = site.opens(side, stop_loss=first_stop if venue.traits.attaches_stops else None)
        venue_order_id = await venue.place(opening)
        if not venue.traits.attaches_stops:
            await protect(site, venue, side, first_stop)

        report = await venue.order(BTC, opening.client_order_id)
        assert report is not None
        assert (report.venue_order_id, report.client_order_id) == (venue_order_id, opening.client_order_id)
        assert (report.status, report.filled_qty, report.avg_price) == (OrderStatus.FILLED, QTY, PRICE)
        [fill] = await venue.fills(BTC, client_order_id=opening.client_order_id)
        assert (fill.venue_order_id, fill.client_order_id) == (venue_order_id, opening.client_order_id)
        assert (fill.origin, fill.side, fill.qty, fill.price) == (FillOrigin.ORDER, side.opens_with, QTY, PRICE)
        assert (fill.fee > 0, fill.fee_currency) == (True, "USDT")
        if site.hedge:
            assert fill.position_side is side

        standing = await venue.standing(BTC)
        assert (standing.symbol, standing.leverage, standing.margin_mode) == (BTC, D(5), MarginMode.CROSS)
        assert standing.position_mode is (PositionMode.HEDGE if site.hedge else PositionMode.ONE_WAY)
        [held] = standing.holdings
        assert (held.symbol, held.side, held.qty, held.entry_price) == (BTC, side, QTY, PRICE)
        assert held.stop_loss == first_stop
        assert await venue.holdings() == [held]
        assert await venue.resting_stops(BTC) == [RestingStop(side=side, price=first_stop)]

        for moved in (PRICE - sign * 2000, PRICE - sign * 2000, PRICE - sign * 2500):
            await protect(site, venue, side, moved)
            assert await venue.resting_stops(BTC) == [RestingStop(side=side, price=moved)]
        for _ in range(2):
            await venue.set_stop(BTC, side, None, hedge=site.hedge)
            assert await venue.resting_stops(BTC) == []
        [held] = (await venue.standing(BTC)).holdings
        assert held.stop_loss is None

        await venue.place(site.closes(side, qty=D("0.004")))
        [held] = (await venue.standing(BTC)).holdings
        assert held.qty == D("0.006")
        await venue.place(site.closes(side, qty=D("0.006")))
        assert (await venue.standing(BTC)).holdings == ()
        assert await venue.holdings() == []
        fills = await venue.fills(BTC, since=began)
        assert [fill.side for fill in fills] == [side.opens_with, side.closes_with, side.closes_with]
        assert len({fill.venue_fill_id for fill in fills}) == 3
        if site.hedge:
            assert {fill.position_side for fill in fills} == {side}


async def test_long_and_short_at_once_and_closing_one_leaves_the_other_untouched(hedge: Site) -> None:
    async with hedge.venue() as venue:
        await venue.place(hedge.opens(LONG))
        await venue.place(hedge.opens(SHORT, qty=D("0.020")))
        await protect(hedge, venue, LONG, D(57000))
        await protect(hedge, venue, SHORT, D(63000))
        standing = await venue.standing(BTC)
        long, short = standing.on(LONG), standing.on(SHORT)
        assert long is not None
        assert short is not None
        assert (long.qty, long.stop_loss) == (QTY, D(57000))
        assert (short.qty, short.stop_loss) == (D("0.020"), D(63000))
        stops = await venue.resting_stops(BTC)
        assert {(stop.side, stop.price) for stop in stops} == {(LONG, D(57000)), (SHORT, D(63000))}

        await protect(hedge, venue, LONG, D(58000))
        assert (await venue.standing(BTC)).on(SHORT) == short
        await venue.place(hedge.closes(LONG))
        assert (await venue.standing(BTC)).holdings == (short,)
        assert await venue.holdings() == [short]
        with pytest.raises(Conflict) as caught:
            await venue.place(hedge.closes(LONG))
        assert caught.value.kind == "nothing_to_reduce"
        assert (await venue.standing(BTC)).holdings == (short,)
        with pytest.raises(Conflict) as caught:
            await protect(hedge, venue, LONG, D(57000))
        assert caught.value.kind == "no_position"

        await venue.place(hedge.closes(SHORT, qty=D("0.020")))
        assert (await venue.standing(BTC)).holdings == ()


async def test_a_close_in_hedge_mode_takes_no_more_than_its_side(hedge: Site) -> None:
    """Too much is cut or refused; never does it touch, or open, the other side."""
    async with hedge.venue() as venue:
        await venue.place(hedge.opens(LONG))
        await venue.place(hedge.opens(SHORT))
        try:
            await venue.place(hedge.closes(LONG, qty=QTY * 3))
        except (Conflict, Refused):
            pass
        short = (await venue.standing(BTC)).on(SHORT)
        assert short is not None
        assert short.qty == QTY


async def test_one_way_orders_turn_a_position_round(one_way: Site) -> None:
    async with one_way.venue() as venue:
        await venue.place(one_way.opens(LONG))
        await venue.place(one_way.closes(LONG))
        await venue.place(one_way.opens(SHORT, qty=D("0.020")))
        [held] = (await venue.standing(BTC)).holdings
        assert (held.side, held.qty) == (SHORT, D("0.020"))


async def test_a_close_in_one_way_mode_never_turns_a_position_round(one_way: Site) -> None:
    async with one_way.venue() as venue:
        await venue.place(one_way.opens(LONG))
        try:
            await venue.place(one_way.closes(LONG, qty=QTY * 3))
        except (Conflict, Refused):
            pass
        held = (await venue.standing(BTC)).holdings
        assert not held or held[0].side is LONG


async def test_what_the_account_and_the_market_say(site: Site) -> None:
    async with site.venue() as venue:
        assert abs(await venue.server_time() - datetime.now(UTC)) < timedelta(seconds=5)
        assert abs(venue.clock_offset_ms) < 5000
        permissions = await venue.permissions()
        assert permissions.can_trade
        assert not permissions.can_withdraw
        assert permissions.detail
        instrument = await venue.instrument(BTC)
        assert instrument.trading
        assert (instrument.symbol, instrument.tick_size, instrument.qty_step) == (BTC, D("0.1"), D("0.001"))
        assert (instrument.qty_min, instrument.market_qty_max) == (D("0.001"), D(500))
        assert (instrument.notional_min, instrument.leverage_max) == (D(5), D(100))
        equity = await venue.equity()
        assert (equity.equity, equity.available) == (D(100_000), D(100_000))
        quote = await venue.quote(BTC)
        assert (quote.last, quote.mark) == (PRICE, PRICE)
        flat = await venue.standing(BTC)
        assert flat.holdings == ()
        assert flat.on(LONG) is None
        assert flat.position_mode is (PositionMode.HEDGE if site.hedge else PositionMode.ONE_WAY)
        assert await venue.order(BTC, "lh-never") is None
        assert await venue.fills(BTC, client_order_id="lh-never") == []
        assert await venue.resting_stops(BTC) == []
        assert await venue.test_order(BTC) is site.face.tests_orders
        assert (await venue.standing(BTC)).holdings == ()
        assert await site.simulator.orders("lh-never") == []
        assert (await site.simulator.ledger())["orders"] == []


async def test_equity_follows_what_is_held(one_way: Site) -> None:
    async with one_way.venue() as venue:
        await venue.set_leverage(BTC, D(10))
        await venue.place(one_way.opens(qty=D(1)))
        await one_way.simulator.price(61000)
        equity = await venue.equity()
        assert D(100_900) < equity.equity < D(101_000)
        assert D(94_000) < equity.available < D(96_000)


async def test_the_last_price_and_the_mark_are_told_apart(one_way: Site) -> None:
    await one_way.simulator.price(60100, mark="60050")
    async with one_way.venue() as venue:
        quote = await venue.quote(BTC)
        assert (quote.last, quote.mark) == (D(60100), D(60050))


async def test_prices_of_multiplied_symbols_are_exact(one_way: Site) -> None:
    symbol = "1000PEPEUSDT"
    await one_way.simulator.price("0.0111113", symbol)
    async with one_way.venue() as venue:
        instrument = await venue.instrument(symbol)
        assert (instrument.tick_size, instrument.qty_step) == (D("0.0000001"), D(100))
        assert (await venue.quote(symbol)).last == D("0.0111113")
        order = one_way.opens(symbol=symbol, qty=D(12300))
        await venue.place(order)
        [fill] = await venue.fills(symbol, client_order_id=order.client_order_id)
        assert (fill.qty, fill.price) == (D(12300), D("0.0111113"))
        await venue.set_stop(symbol, LONG, D("0.0099999"), hedge=False)
        [held] = (await venue.standing(symbol)).holdings
        assert (held.qty, held.entry_price, held.stop_loss) == (D(12300), D("0.0111113"), D("0.0099999"))


async def test_a_symbol_that_is_not_listed(one_way: Site) -> None:
    async with one_way.venue() as venue:
        with pytest.raises(Refused) as caught:
            await venue.instrument("NOPEUSDT")
        assert caught.value.code == "unknown_symbol"


async def test_an_instrument_that_does_not_trade_says_so(one_way: Site) -> None:
    await one_way.simulator.post("instruments", symbol=BTC, status="Closed")
    async with one_way.venue() as venue:
        assert not (await venue.instrument(BTC)).trading


async def test_rules_are_read_again_after_a_filter_refused(one_way: Site) -> None:
    async with one_way.venue() as venue:
        assert (await venue.instrument(BTC)).qty_step == D("0.001")
        await one_way.simulator.post("instruments", symbol=BTC, qty_step="0.01", min_qty="0.01")
        assert (await venue.instrument(BTC)).qty_step == D("0.001")
        with pytest.raises(Refused):
            await venue.place(one_way.opens(qty=D("0.015")))
        assert (await venue.instrument(BTC)).qty_step == D("0.01")


async def test_the_markets_memory(one_way: Site) -> None:
    async with one_way.venue() as venue:
        since = await venue.server_time()
        for price in ("60100", "59900.5", "60050"):
            await one_way.simulator.price(price)
        trades = await venue.trades_since(BTC, since)
        assert trades is not None
        assert [trade.price for trade in trades if trade.price != PRICE] == [D(60100), D("59900.5"), D(60050)]
        assert all(trade.symbol == BTC and trade.trade_id for trade in trades)
        candles = await venue.candles_since(BTC, since - timedelta(minutes=2))
        assert candles
        assert [candle.start for candle in candles] == sorted(candle.start for candle in candles)
        assert max(candle.high for candle in candles) == D(60100)
        assert min(candle.low for candle in candles) == D("59900.5")
        assert candles[-1].close == D(60050)
        assert all(candle.start >= since - timedelta(minutes=2) for candle in candles)


async def test_the_margin_mode_is_set_or_refused_with_the_cure(one_way: Site) -> None:
    async with one_way.venue() as venue:
        await venue.set_margin_mode(BTC, MarginMode.CROSS)
        if one_way.face.margin_mode_of_account:
            with pytest.raises(Refused) as caught:
                await venue.set_margin_mode(BTC, MarginMode.ISOLATED)
            assert caught.value.code == "margin_mode_mismatch"
            assert (await venue.standing(BTC)).margin_mode is MarginMode.CROSS
        else:
            await venue.set_margin_mode(BTC, MarginMode.ISOLATED)
            assert (await venue.standing(BTC)).margin_mode is MarginMode.ISOLATED
            await venue.set_margin_mode(BTC, MarginMode.ISOLATED)


async def test_a_position_keeps_its_margin_mode(one_way: Site) -> None:
    async with one_way.venue() as venue:
        await venue.place(one_way.opens())
        with pytest.raises(Refused):
            await venue.set_margin_mode(BTC, MarginMode.ISOLATED)
        await venue.set_margin_mode(BTC, MarginMode.CROSS)
