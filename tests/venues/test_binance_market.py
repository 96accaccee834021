"""Instruments, prices, public trades and candles of Binance."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.refusals import Outcome
from app.errors import Refused, Transient
from app.venues.binance.rules import Rule, rule
from app.venues.binance.venue import BinanceVenue
from app.venues.binance.wire import Filter, SymbolRow
from app.venues.numbers import Unreadable
from tests.venues.binance_rows import (
    AGGREGATES,
    AT,
    AT_MS,
    BEST,
    BRACKETS,
    INFO,
    KLINES,
    MARK,
    PRICE,
    brackets,
    info,
    symbol_row,
)
from tests.venues.binance_server import Answer, BinanceServer, Fail, adapter, binance_server
from tests.venues.scripted import Http


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with binance_server() as server:
        yield server


@pytest.fixture
async def venue(server: BinanceServer) -> AsyncIterator[BinanceVenue]:
    async with adapter(server.origin) as venue:
        yield venue


async def test_the_rules_of_an_instrument(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(INFO, info())
    server.script(BRACKETS, [brackets()])
    found = await venue.instrument("BTCUSDT")
    assert found.tick_size == Decimal("0.1")
    assert found.qty_step == Decimal("0.001")
    assert found.qty_min == Decimal("0.001")
    assert found.market_qty_max == Decimal(120)
    assert found.notional_min == Decimal(100)
    assert found.leverage_max == Decimal(125)
    assert found.trading
    await venue.instrument("BTCUSDT")
    assert len(server.sent(INFO)) == len(server.sent(BRACKETS)) == 1


def made(**filters: dict[str, str]) -> Rule:
    rows = {
        "PRICE_FILTER": {"tickSize": "0.01"},
        "LOT_SIZE": {"stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
        "MARKET_LOT_SIZE": {"stepSize": "0.001", "minQty": "0.001", "maxQty": "120"},
    }
    found = [Filter(filterType=name, **fields) for name, fields in (rows | filters).items()]
    row = SymbolRow(symbol="BTCUSDT", status="TRADING", filters=found)
    return rule(row, Decimal(50))


@pytest.mark.parametrize(
    ("lot", "market", "step", "least", "most"),
    [
        (("0.001", "0.001", "1000"), ("0.01", "0.02", "120"), "0.01", "0.02", "120"),
        (("0.02", "0.02", "10"), ("0.03", "0.03", "120"), "0.06", "0.06", "10"),
        (("1", "1", "9000"), ("0", "0", "0"), "1", "1", "9000"),
        (("0.001", "0.0015", "9"), ("0.001", "0.001", "9"), "0.001", "0.002", "9"),
    ],
)
def test_a_market_order_s_size_fits_both_filters(
    lot: tuple[str, str, str], market: tuple[str, str, str], step: str, least: str, most: str
) -> None:
    fields = ("stepSize", "minQty", "maxQty")
    found = made(
        LOT_SIZE=dict(zip(fields, lot, strict=True)), MARKET_LOT_SIZE=dict(zip(fields, market, strict=True))
    ).instrument
    assert (found.qty_step, found.qty_min, found.market_qty_max) == (Decimal(step), Decimal(least), Decimal(most))


def test_a_step_of_zero_is_no_rule() -> None:
    with pytest.raises(Unreadable):
        made(PRICE_FILTER={"tickSize": "0"})


@pytest.mark.parametrize(
    ("row", "asked", "hint"),
    [
        (symbol_row(), "NOSUCHUSDT", "lists no USDT perpetual NOSUCHUSDT"),
        (symbol_row(symbol="1000SHIBUSDT", baseAsset="1000SHIB"), "SHIBUSDT", "1000SHIBUSDT"),
        (symbol_row(symbol="1000SHIBUSDT", baseAsset="1000SHIB"), "SHIB1000USDT", "1000SHIBUSDT"),
        (symbol_row(symbol="1MBABYDOGEUSDT", baseAsset="1MBABYDOGE"), "BABYDOGEUSDT", "1MBABYDOGEUSDT"),
        (symbol_row(symbol="BTCUSDT_260925", contractType="CURRENT_QUARTER"), "BTCUSDT_260925", "CURRENT_QUARTER"),
        (symbol_row(symbol="TSLAUSDT", contractType="TRADIFI_PERPETUAL"), "TSLAUSDT", "TRADIFI_PERPETUAL"),
        (symbol_row(symbol="BTCUSDC", marginAsset="USDC"), "BTCUSDC", "USDC"),
    ],
)
async def test_an_instrument_that_is_not_for_us_is_refused_with_a_reason(
    server: BinanceServer, venue: BinanceVenue, row: dict[str, Any], asked: str, hint: str
) -> None:
    server.script(INFO, info(row))
    server.script(BRACKETS, [brackets(row["symbol"])])
    with pytest.raises(Refused, match=hint) as caught:
        await venue.instrument(asked)
    assert caught.value.code == Outcome.UNKNOWN_SYMBOL


async def test_an_instrument_that_does_not_trade_is_known(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(INFO, info(symbol_row(status="SETTLING")))
    server.script(BRACKETS, [brackets()])
    assert not (await venue.instrument("BTCUSDT")).trading


@pytest.mark.parametrize("answer", [Http(502), Fail(-1003, status=418), Http(200, "[")])
@pytest.mark.parametrize("path", [INFO, BRACKETS])
async def test_rules_are_never_guessed(server: BinanceServer, venue: BinanceVenue, path: str, answer: Answer) -> None:
    server.script(INFO, info())
    server.script(BRACKETS, [brackets()])
    server.script(path, answer)
    with pytest.raises(Transient):
        await venue.instrument("BTCUSDT")


async def test_a_server_without_brackets_has_the_documented_maximum(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(INFO, info())
    server.script(BRACKETS, Http(404))
    assert (await venue.instrument("BTCUSDT")).leverage_max == Decimal(125)


async def test_old_rules_serve_when_new_ones_can_t_be_had(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(INFO, info(), Http(502), info(symbol_row(status="CLOSE")))
    server.script(BRACKETS, [brackets()])
    await venue.instrument("BTCUSDT")
    venue._rules.expire()
    assert (await venue.instrument("BTCUSDT")).trading
    assert not (await venue.instrument("BTCUSDT")).trading


async def test_a_quote(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(MARK, {"symbol": "BTCUSDT", "markPrice": "60000.12345678", "time": AT_MS})
    server.script(PRICE, {"symbol": "BTCUSDT", "price": "60000.10", "time": AT_MS})
    server.script(BEST, {"symbol": "BTCUSDT", "bidPrice": "60000.00", "askPrice": "0.00", "bidQty": "1", "time": AT_MS})
    quote = await venue.quote("BTCUSDT")
    assert (quote.last, quote.mark) == (Decimal("60000.10"), Decimal("60000.12345678"))
    assert (quote.bid, quote.ask) == (Decimal(60000), None)
    server.script(MARK, Fail(-1121, "Invalid symbol."))
    with pytest.raises(Refused) as caught:
        await venue.quote("NOSUCHUSDT")
    assert caught.value.code == Outcome.UNKNOWN_SYMBOL


# Public trades


def aggregate(number: int, at_ms: int, price: str = "60000.10") -> dict[str, Any]:
    return {"a": number, "p": price, "q": "1", "f": number, "l": number, "T": at_ms, "m": False}


async def test_trades_of_a_gap(server: BinanceServer, venue: BinanceVenue) -> None:
    since = datetime.now(UTC) - timedelta(seconds=30)
    since_ms = int(since.timestamp() * 1000)
    server.script(AGGREGATES, [aggregate(1, since_ms), aggregate(2, since_ms + 5, "0"), aggregate(3, since_ms + 9)])
    trades = await venue.trades_since("BTCUSDT", since)
    assert trades is not None
    assert [(trade.trade_id, trade.at_ms - since_ms, trade.symbol) for trade in trades] == [
        ("1", 0, "BTCUSDT"),
        ("3", 9, "BTCUSDT"),
    ]


async def test_trades_of_the_lead_come_before_them(server: BinanceServer, venue: BinanceVenue) -> None:
    since = datetime.now(UTC) - timedelta(seconds=30)
    since_ms = int(since.timestamp() * 1000)
    server.script(AGGREGATES, [aggregate(1, since_ms - 501), aggregate(2, since_ms - 500), aggregate(3, since_ms)])
    trades = await venue.trades_since("BTCUSDT", since, lead=timedelta(milliseconds=500))
    assert trades is not None
    assert [trade.trade_id for trade in trades] == ["2", "3"]


async def test_trades_come_in_windows_of_an_hour_and_in_pages(server: BinanceServer, venue: BinanceVenue) -> None:
    since_ms = AT_MS

    def answer(params: dict[str, str]) -> Answer:
        if "fromId" in params:
            return [aggregate(number, since_ms + number) for number in range(int(params["fromId"]), 1300)]
        assert int(params["endTime"]) - int(params["startTime"]) < 3_600_000
        if int(params["startTime"]) == since_ms:
            return []
        return [aggregate(number, since_ms + number) for number in range(1, 1001)]

    server.script_by(AGGREGATES, answer)
    trades = await venue.trades_since("BTCUSDT", AT)
    assert trades is not None
    assert [int(trade.trade_id) for trade in trades] == list(range(1, 1300))


async def test_too_many_trades_are_told_as_such(server: BinanceServer, venue: BinanceVenue) -> None:
    def answer(params: dict[str, str]) -> Answer:
        first = int(params.get("fromId", "1"))
        return [aggregate(number, AT_MS + number) for number in range(first, first + 1000)]

    server.script_by(AGGREGATES, answer)
    assert await venue.trades_since("BTCUSDT", AT) is None
    assert await venue.trades_since("BTCUSDT", AT - timedelta(days=3)) is None


@pytest.mark.parametrize(("answer", "none"), [(Http(404), True), (Fail(-1121), True), (Http(502), False)])
async def test_trades_that_can_t_be_had(server: BinanceServer, venue: BinanceVenue, answer: Answer, none: bool) -> None:
    server.script(AGGREGATES, answer)
    if none:
        assert await venue.trades_since("BTCUSDT", AT) is None
    else:
        with pytest.raises(Transient):
            await venue.trades_since("BTCUSDT", AT)


# Candles


def kline(start_ms: int) -> list[Any]:
    return [start_ms, "1", "5.5", "0.5", "2", "9", start_ms + 59_999, "9", 3, "1", "1", "0"]


async def test_candles(server: BinanceServer, venue: BinanceVenue) -> None:
    def answer(params: dict[str, str]) -> Answer:
        assert params["interval"] == "1m"
        assert int(params["limit"]) <= 200
        starts = range(int(params["startTime"]), int(params["endTime"]) + 1, 60_000)
        return [kline(start) for start in starts]

    server.script_by(KLINES, answer)
    since = (datetime.now(UTC) - timedelta(hours=2)).replace(second=30, microsecond=0)
    candles = await venue.candles_since("BTCUSDT", since)
    assert candles[0].start == since.replace(second=0) + timedelta(minutes=1)
    assert [one.start - other.start for one, other in zip(candles[1:], candles, strict=False)] == [
        timedelta(minutes=1)
    ] * (len(candles) - 1)
    assert (candles[0].high, candles[0].low, candles[0].close) == (Decimal("5.5"), Decimal("0.5"), Decimal(2))
    assert len(server.sent(KLINES)) == 1


async def test_candles_of_days_come_in_pages(server: BinanceServer, venue: BinanceVenue) -> None:
    def answer(params: dict[str, str]) -> Answer:
        starts = range(int(params["startTime"]), int(params["endTime"]) + 1, 60_000)
        return [kline(start) for start in starts][: int(params["limit"])]

    server.script_by(KLINES, answer)
    candles = await venue.candles_since("BTCUSDT", AT - timedelta(days=1))
    assert len(candles) >= 26 * 60 - 1
    assert len(server.sent(KLINES)) == 2


@pytest.mark.parametrize("answer", [Http(502), [[1, "2"]], [["x", "1", "1", "1", "1"]], Fail(-1003, status=429)])
async def test_candles_that_can_t_be_read(server: BinanceServer, venue: BinanceVenue, answer: Answer) -> None:
    server.script(KLINES, answer)
    with pytest.raises(Transient):
        await venue.candles_since("BTCUSDT", AT)
