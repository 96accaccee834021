"""Public REST of the Binance face: names, filters, prices, bars, trades, and the weight that is told."""

from decimal import Decimal
from typing import Any

import pytest

from tests.simulator.binance_client import BinanceClient


async def symbol_of(binance: BinanceClient, name: str) -> dict[str, Any]:
    info = (await binance.public("/fapi/v1/exchangeInfo")).body
    row: dict[str, Any] = next(s for s in info["symbols"] if s["symbol"] == name)
    return row


def filters_of(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["filterType"]: f for f in row["filters"]}


async def test_ping_and_time(binance: BinanceClient) -> None:
    assert (await binance.public("/fapi/v1/ping")).body == {}
    assert isinstance((await binance.public("/fapi/v1/time")).body["serverTime"], int)


async def test_an_unknown_path_has_no_endpoint(binance: BinanceClient) -> None:
    answer = await binance.public("/fapi/v1/nothing")
    assert (answer.status, answer.body["code"]) == (404, -5000)


async def test_filters_of_a_symbol(binance: BinanceClient) -> None:
    row = await symbol_of(binance, "BTCUSDT")
    filters = filters_of(row)
    assert set(filters) == {
        "PRICE_FILTER",
        "LOT_SIZE",
        "MARKET_LOT_SIZE",
        "MIN_NOTIONAL",
        "PERCENT_PRICE",
        "MAX_NUM_ORDERS",
        "POSITION_RISK_CONTROL",
    }
    assert Decimal(filters["PRICE_FILTER"]["tickSize"]) == Decimal("0.1")
    assert Decimal(filters["MARKET_LOT_SIZE"]["maxQty"]) < Decimal(filters["LOT_SIZE"]["maxQty"])
    assert (row["contractType"], row["status"], row["marginAsset"]) == ("PERPETUAL", "TRADING", "USDT")
    assert Decimal(1).scaleb(-row["pricePrecision"]) != Decimal(filters["PRICE_FILTER"]["tickSize"])


async def test_a_dated_contract_is_listed_beside(binance: BinanceClient) -> None:
    listed = (await binance.public("/fapi/v1/exchangeInfo")).body["symbols"]
    dated = [s for s in listed if s["contractType"] != "PERPETUAL"]
    assert [(s["pair"], s["contractType"]) for s in dated] == [("BTCUSDT", "CURRENT_QUARTER")]
    assert (await binance.market("BUY", "0.01", dated[0]["symbol"])).code == -1121


async def test_a_multiplier_stands_in_front_here(binance: BinanceClient) -> None:
    """The engine knows the contract by the other exchange's name."""
    filters = {"tick_size": "0.000001", "qty_step": "10", "min_qty": "10", "max_qty": "9000000"}
    more = {"max_market_qty": "900000", "start_price": "0.01"}
    await binance.control("instruments", symbol="SHIB1000USDT", **filters, **more)
    assert (await symbol_of(binance, "1000SHIBUSDT"))["baseAsset"] == "1000SHIB"
    price = (await binance.public("/fapi/v2/ticker/price", symbol="1000SHIBUSDT")).body
    assert Decimal(price["price"]) == Decimal("0.01")
    assert (await binance.public("/fapi/v2/ticker/price", symbol="SHIB1000USDT")).code == -1121
    filled = (await binance.market("BUY", "1000", "1000SHIBUSDT")).body
    assert (filled["symbol"], filled["status"]) == ("1000SHIBUSDT", "FILLED")


@pytest.mark.parametrize(("status", "here"), [("Delivering", "SETTLING"), ("Closed", "CLOSE")])
async def test_a_symbol_that_does_not_trade(binance: BinanceClient, status: str, here: str) -> None:
    await binance.control("instruments", symbol="BTCUSDT", status=status)
    assert (await symbol_of(binance, "BTCUSDT"))["status"] == here
    assert (await binance.market("BUY", "0.01")).code in (-4140, -4141)


@pytest.mark.parametrize(
    "path", ["/fapi/v1/premiumIndex", "/fapi/v1/ticker/bookTicker", "/fapi/v1/ticker/price", "/fapi/v2/ticker/price"]
)
async def test_one_symbol_or_all(binance: BinanceClient, path: str) -> None:
    one = (await binance.public(path, symbol="ETHUSDT")).body
    assert one["symbol"] == "ETHUSDT"
    every = (await binance.public(path)).body
    assert {"BTCUSDT", "ETHUSDT"} <= {row["symbol"] for row in every}
    assert (await binance.public(path, symbol="NOSUCH")).body == {"code": -1121, "msg": "Invalid symbol."}


async def test_prices_follow_the_market(binance: BinanceClient) -> None:
    await binance.price("67100.5", mark="67000")
    premium = (await binance.public("/fapi/v1/premiumIndex", symbol="BTCUSDT")).body
    assert premium["markPrice"] == "67000.00000000"
    book = (await binance.public("/fapi/v1/ticker/bookTicker", symbol="BTCUSDT")).body
    assert Decimal(book["bidPrice"]) < Decimal("67100.5") < Decimal(book["askPrice"])


async def test_bars_are_mixed_rows_oldest_first(binance: BinanceClient) -> None:
    for price in ("67000", "67100", "66900", "67050"):
        await binance.price(price)
    bars = (await binance.public("/fapi/v1/klines", symbol="BTCUSDT", interval="1m")).body
    start, opened, high, low, close, volume, end, *_ = bars[-1]
    assert end - start == 59_999
    assert {type(v) for v in (opened, high, low, close, volume)} == {str}
    assert Decimal(close) == Decimal(67050)
    assert [row[0] for row in bars] == sorted(row[0] for row in bars)
    assert (await binance.public("/fapi/v1/klines", symbol="BTCUSDT", interval="7m")).code == -1120
    assert (await binance.public("/fapi/v1/klines", symbol="BTCUSDT")).code == -1102


async def test_trades_by_number_and_by_time(binance: BinanceClient) -> None:
    for step in range(5):
        await binance.price(str(67000 + step))
    path, symbol = "/fapi/v1/aggTrades", {"symbol": "BTCUSDT"}
    every = (await binance.public(path, **symbol)).body
    assert [Decimal(row["p"]) for row in every] == [67000 + n for n in range(5)]
    numbers = [row["a"] for row in every]
    assert numbers == sorted(numbers)
    later = (await binance.public(path, **symbol, fromId=numbers[2], limit=2)).body
    assert [row["a"] for row in later] == numbers[2:4]
    newest = (await binance.public(path, **symbol, limit=1)).body
    assert [row["a"] for row in newest] == numbers[-1:]
    span = (await binance.public(path, **symbol, startTime=every[0]["T"], endTime=every[-1]["T"])).body
    assert span == every
    assert (await binance.public(path, **symbol, startTime=1, endTime=2)).body == []
    assert (await binance.public(path, **symbol, fromId=1, startTime=1)).code == -1128
    assert (await binance.public(path, **symbol, limit=1001)).code == -1130
    assert (await binance.public(path, **symbol, startTime=0, endTime=3_600_001)).code == -1127


@pytest.mark.parametrize(
    ("path", "params", "weight"),
    [
        ("/fapi/v1/ping", {}, 1),
        ("/fapi/v1/premiumIndex", {"symbol": "BTCUSDT"}, 1),
        ("/fapi/v1/premiumIndex", {}, 10),
        ("/fapi/v1/ticker/bookTicker", {"symbol": "BTCUSDT"}, 2),
        ("/fapi/v1/ticker/bookTicker", {}, 5),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 99}, 1),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 499}, 2),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1000}, 5),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1500}, 10),
    ],
)
async def test_the_weight_is_told(binance: BinanceClient, path: str, params: dict[str, Any], weight: int) -> None:
    first = await binance.public("/fapi/v1/time")
    second = await binance.public(path, **params)
    used = [int(a.headers["X-MBX-USED-WEIGHT-1M"]) for a in (first, second)]
    assert used[1] - used[0] == weight


async def test_market_data_is_left_out_of_the_ledger(binance: BinanceClient) -> None:
    await binance.public("/fapi/v1/time")
    await binance.ask("GET", "/fapi/v3/balance")
    assert [r["path"] for r in (await binance.ledger())["requests"]] == ["/fapi/v3/balance"]
    assert len((await binance.ledger("all=1"))["requests"]) == 2
