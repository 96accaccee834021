"""Rules of instruments: kept, refreshed without making anybody wait, and hints for names that are not listed."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from app.errors import Refused, Transient
from app.venues.bybit import instruments as bybit_instruments
from app.venues.bybit.venue import BybitVenue
from tests.venues.bybit_rows import CREATE, INSTRUMENTS, an_entry, instrument_row, page
from tests.venues.bybit_server import BybitServer, Say
from tests.venues.scripted import Http


async def refusal(venue: BybitVenue, symbol: str) -> str:
    with pytest.raises(Refused) as caught:
        await venue.instrument(symbol)
    assert caught.value.code == "unknown_symbol"
    return caught.value.reason


def listed(*symbols: str) -> dict[str, Any]:
    return page(*(instrument_row(symbol=symbol) for symbol in symbols))


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("SHIBUSDT", "SHIB1000USDT"),
        ("1000SHIBUSDT", "SHIB1000USDT"),
        ("PEPEUSDT", "1000PEPEUSDT"),
        ("1000SATSUSDT", "10000SATSUSDT"),
        ("BABYDOGEUSDT", "1000000BABYDOGEUSDT"),
    ],
)
async def test_a_symbol_with_another_multiplier_is_named_and_never_traded(
    server: BybitServer, venue: BybitVenue, asked: str, hint: str
) -> None:
    there = listed("BTCUSDT", "SHIB1000USDT", "1000PEPEUSDT", "10000SATSUSDT", "1000000BABYDOGEUSDT", "100USDT")
    server.script(INSTRUMENTS, page(), page(), page(), page(), there)
    assert f"it lists {hint}," in await refusal(venue, asked)


@pytest.mark.parametrize("asked", ["NOPEUSDT", "1000USDT", "USDT", "SHIBUSDC", "SHIB", "", "0GUSDT", "10USDT"])
async def test_nothing_is_hinted_where_nothing_is_alike(server: BybitServer, venue: BybitVenue, asked: str) -> None:
    server.script(
        INSTRUMENTS, page(), page(), page(), page(), listed("SHIB1000USDT", "1000PEPEUSDT", "GUSDT", "100USDT")
    )
    assert "; it" not in await refusal(venue, asked)


async def test_a_hint_that_can_not_be_had_leaves_the_refusal(server: BybitServer, venue: BybitVenue) -> None:
    server.script(INSTRUMENTS, page(), page(), page(), page(), Http(502))
    assert await refusal(venue, "SHIBUSDT") == "Bybit lists no USDT perpetual SHIBUSDT"


async def test_the_list_for_hints_is_read_once(server: BybitServer, venue: BybitVenue) -> None:
    server.script(INSTRUMENTS, *([page()] * 4), listed("SHIB1000USDT"), page())
    for asked in ("SHIBUSDT", "1000SHIBUSDT"):
        assert "SHIB1000USDT" in await refusal(venue, asked)
    assert len([request for request in server.requests if "symbol" not in request.query]) == 1


async def test_an_instrument_that_is_listed_only_as_halted_is_not_trading(
    server: BybitServer, venue: BybitVenue
) -> None:
    server.script(INSTRUMENTS, Say(10001), page(), page(instrument_row(status="Delivering")))
    assert not (await venue.instrument("BTCUSDT")).trading
    assert [request.query.get("status") for request in server.requests] == [None, "PreLaunch", "Delivering"]


async def test_a_failed_look_is_not_unknown(server: BybitServer, venue: BybitVenue) -> None:
    server.script(INSTRUMENTS, page(), Http(502))
    with pytest.raises(Transient):
        await venue.instrument("BTCUSDT")


async def test_the_market_maximum_may_be_missing(server: BybitServer, venue: BybitVenue) -> None:
    row = instrument_row()
    del row["lotSizeFilter"]["maxMktOrderQty"]
    server.script(INSTRUMENTS, page(row))
    assert (await venue.instrument("BTCUSDT")).market_qty_max == Decimal(1190)


async def test_old_rules_serve_while_new_ones_are_fetched(
    server: BybitServer, venue: BybitVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script(INSTRUMENTS, page(instrument_row()), Http(502), page(instrument_row(priceFilter={"tickSize": "0.5"})))
    await venue.instrument("BTCUSDT")
    monkeypatch.setattr(bybit_instruments, "REFRESH_S", 0.0)
    for expected in ("0.1", "0.1", "0.5"):  # the first refresh fails
        assert (await venue.instrument("BTCUSDT")).tick_size == Decimal(expected)
        await asyncio.gather(*venue._instruments._refreshing.values())
    assert len(server.requests) == 4


async def test_rules_that_are_a_day_old_serve_nobody(
    server: BybitServer, venue: BybitVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script(INSTRUMENTS, page(instrument_row()), Http(502))
    await venue.instrument("BTCUSDT")
    monkeypatch.setattr(bybit_instruments, "STALE_S", 0.0)
    with pytest.raises(Transient):
        await venue.instrument("BTCUSDT")


@pytest.mark.parametrize("code", [110003, 110094, 110007, 110074, 30228])
async def test_a_refusal_that_may_be_a_filters_has_the_rules_read_again(
    server: BybitServer, venue: BybitVenue, code: int
) -> None:
    server.script(INSTRUMENTS, page(instrument_row()))
    server.script(CREATE, Say(code))
    await venue.instrument("BTCUSDT")
    with pytest.raises(Refused):
        await venue.place(an_entry())
    await venue.instrument("BTCUSDT")
    assert len(server.sent(INSTRUMENTS)) == 2
