"""What is read from a real exchange has the meaning that `app/venues/base.py` gives it. Nothing is ordered."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.errors import Refused
from app.flows import verify
from app.resources import Connected
from app.settings import Settings


async def test_every_check_of_the_account_passes(connected: Connected, settings: Settings, symbol: str) -> None:
    checks = await verify.check(connected, settings, symbol)
    for check in checks:
        print(check.ok, check.name, check.detail)  # noqa: T201 - shown with -s, and when it fails
    assert [check.name for check in checks] == list(verify.NAMES)
    assert [check for check in checks if check.ok is False] == []


async def test_the_clock_is_measured(connected: Connected) -> None:
    asked = datetime.now(UTC)
    theirs = await connected.venue.server_time()
    assert abs(theirs - asked) < timedelta(minutes=5)
    assert abs(connected.venue.clock_offset_ms) < 300_000


async def test_an_instrument_has_rules_that_fit_each_other(connected: Connected, symbol: str) -> None:
    found = await connected.venue.instrument(symbol)
    assert (found.symbol, found.trading) == (symbol, True)
    assert min(found.tick_size, found.qty_step, found.qty_min, found.notional_min) > 0
    assert found.market_qty_max > found.qty_min
    assert found.qty_min % found.qty_step == 0
    assert found.leverage_max >= 1


async def test_an_instrument_that_is_not_there_is_refused(connected: Connected) -> None:
    with pytest.raises(Refused) as refused:
        await connected.venue.instrument("NOSUCHCOINUSDT")
    assert refused.value.code == "unknown_symbol"


async def test_prices_of_all_roads_agree(connected: Connected, symbol: str) -> None:
    venue = connected.venue
    quote = await venue.quote(symbol)
    since = datetime.now(UTC) - timedelta(minutes=10)
    candles = await venue.candles_since(symbol, since)
    assert candles == sorted(candles, key=lambda candle: candle.start)
    assert all(candle.start >= since and candle.low <= candle.close <= candle.high for candle in candles)
    # Testnets are thin, so last and mark may be apart; a mistake in units would be a factor.
    for price in (quote.mark, *(candle.close for candle in candles)):
        assert quote.last / 2 < price < quote.last * 2
    trades = await venue.trades_since(symbol, datetime.now(UTC) - timedelta(seconds=5))
    assert trades is None or trades == sorted(trades, key=lambda trade: trade.at_ms)


async def test_what_is_held_and_what_rests_can_be_read(connected: Connected, symbol: str) -> None:
    venue = connected.venue
    standing = await venue.standing(symbol)
    assert standing.symbol == symbol
    held = [holding for holding in await venue.holdings() if holding.symbol == symbol]
    assert {(h.side, h.qty) for h in held} == {(h.side, h.qty) for h in standing.holdings}
    assert all(stop.price > 0 for stop in await venue.resting_stops(symbol))
    equity = await venue.equity()
    assert equity.equity >= 0
    assert equity.available <= equity.equity + Decimal(1)


async def test_an_order_that_never_was_is_not_found(connected: Connected, symbol: str) -> None:
    assert await connected.venue.order(symbol, "doctor-never-sent") is None
    since = datetime.now(UTC) - timedelta(hours=1)
    assert await connected.venue.fills(symbol, client_order_id="doctor-never-sent", since=since) == []
