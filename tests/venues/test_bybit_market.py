"""The market's memory: trades and candles."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.errors import Transient
from app.venues.bybit.venue import BybitVenue
from tests.venues.bybit_rows import (
    AT,
    AT_MS,
    KLINE,
    RECENT,
    page,
)
from tests.venues.bybit_server import Answer, BybitServer, Say
from tests.venues.scripted import Http


def trade_row(number: int, at_ms: int, price: str = "64000") -> dict[str, Any]:
    return {"execId": str(number), "symbol": "BTCUSDT", "price": price, "time": str(at_ms)}


async def test_trades_come_oldest_first_from_since_on(server: BybitServer, venue: BybitVenue) -> None:
    rows = [trade_row(4, AT_MS + 1), trade_row(3, AT_MS), trade_row(2, AT_MS), trade_row(1, AT_MS - 1)]
    server.script(RECENT, page(*rows, trade_row(0, AT_MS, price="0")))
    trades = await venue.trades_since("BTCUSDT", AT)
    assert trades is not None
    assert [trade.trade_id for trade in trades] == ["2", "3", "4"]


async def test_trades_of_the_lead_come_before_them_as_many_as_are_remembered(
    server: BybitServer, venue: BybitVenue
) -> None:
    server.script(RECENT, page(trade_row(3, AT_MS), trade_row(2, AT_MS - 500), trade_row(1, AT_MS - 501)))
    trades = await venue.trades_since("BTCUSDT", AT, lead=timedelta(milliseconds=500))
    assert trades is not None
    assert [trade.trade_id for trade in trades] == ["2", "3"]
    server.script(RECENT, page(*(trade_row(n, AT_MS + 1 - n % 2) for n in range(1000))))
    assert await venue.trades_since("BTCUSDT", AT, lead=timedelta(seconds=30)) is not None


@pytest.mark.parametrize(("oldest", "reaches"), [(AT_MS + 1, False), (AT_MS, True)])
async def test_a_full_page_that_does_not_reach_back_is_none(
    server: BybitServer, venue: BybitVenue, oldest: int, reaches: bool
) -> None:
    server.script(RECENT, page(*(trade_row(n, oldest + 999 - n) for n in range(1000))))
    assert ((await venue.trades_since("BTCUSDT", AT)) is not None) is reaches


@pytest.mark.parametrize("answer", [Http(404), Say(10017), Say(10001)])
async def test_a_missing_trade_memory_is_none(server: BybitServer, venue: BybitVenue, answer: Answer) -> None:
    server.script(RECENT, answer)
    assert await venue.trades_since("BTCUSDT", AT) is None


async def test_a_trade_memory_that_fails_is_transient(server: BybitServer, venue: BybitVenue) -> None:
    server.script(RECENT, Http(503))
    with pytest.raises(Transient):
        await venue.trades_since("BTCUSDT", AT)


async def test_candles_come_oldest_first_over_all_pages(server: BybitServer, venue: BybitVenue) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    since = now - timedelta(minutes=1500)
    starts = [since + timedelta(minutes=n) for n in range(1501)]
    rows = [[str(int(s.timestamp() * 1000)), "1", "3", "0.5", "2", "9", "9"] for s in starts]
    server.script(KLINE, page(*reversed(rows[:1000])), page(*reversed(rows[1000:])))
    candles = await venue.candles_since("BTCUSDT", since + timedelta(seconds=-1))
    assert [candle.start for candle in candles] == starts
    assert (candles[0].high, candles[0].low, candles[0].close) == (Decimal(3), Decimal("0.5"), Decimal(2))
