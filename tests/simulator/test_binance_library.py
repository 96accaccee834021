"""python-binance, as it is, against the Binance face."""

import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.simulator.binance_client import BinanceClient
from tests.simulator.support import KEY, SECRET

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it uses names that websockets is about to drop
    from binance import AsyncClient, BinanceSocketManager
    from binance.exceptions import BinanceAPIException
    from binance.ws.reconnecting_websocket import ReconnectingWebsocket


@pytest_asyncio.fixture
async def library(binance: BinanceClient) -> AsyncIterator[Any]:
    client = AsyncClient(KEY, SECRET)
    client.FUTURES_URL = f"{binance.url}/fapi"
    yield client
    await client.close_connection()


async def test_it_starts_by_asking_the_spot_clock(binance: BinanceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncClient, "API_URL", f"{binance.url}/api")
    client = await AsyncClient.create(KEY, SECRET)
    assert abs(client.timestamp_offset) < 1000
    await client.close_connection()


async def test_reading(library: Any) -> None:
    assert await library.futures_ping() == {}
    assert (await library.futures_exchange_info())["symbols"]
    assert (await library.futures_mark_price(symbol="BTCUSDT"))["markPrice"] == "67000.00000000"
    assert (await library.futures_symbol_ticker(symbol="BTCUSDT"))["price"] == "67000.00"
    assert await library.futures_klines(symbol="BTCUSDT", interval="1m") == []
    assert await library.futures_aggregate_trades(symbol="BTCUSDT") == []
    assert (await library.futures_account_balance())[0]["asset"] == "USDT"
    assert (await library.futures_account(version=3))["positions"] == []
    assert (await library.futures_account())["assets"][0]["asset"] == "USDT"
    assert await library.futures_position_information() == []
    assert await library.futures_get_position_mode() == {"dualSidePosition": False}
    assert (await library.futures_leverage_bracket(symbol="BTCUSDT"))[0]["brackets"]
    assert await library.futures_income_history() == []


async def test_an_order_and_its_stops(library: Any) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01", "newOrderRespType": "RESULT"}
    filled = await library.futures_create_order(**order, newClientOrderId="lib-1")
    assert (filled["status"], filled["clientOrderId"]) == ("FILLED", "lib-1")
    found = await library.futures_get_order(symbol="BTCUSDT", origClientOrderId="lib-1")
    assert found["orderId"] == filled["orderId"]
    assert (await library.futures_account_trades(symbol="BTCUSDT"))[0]["orderId"] == filled["orderId"]
    stop = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "closePosition": "true"}
    placed = await library.futures_create_algo_order(**stop, triggerPrice="66000", clientAlgoId="lib-s")
    assert placed["algoStatus"] == "NEW"
    # It makes an algo order of a stop that is sent the old way, and invents its id.
    with pytest.raises(BinanceAPIException) as twin:
        await library.futures_create_order(**stop, stopPrice="65000")
    assert twin.value.code == -4130
    assert [o["clientAlgoId"] for o in await library.futures_get_open_algo_orders()] == ["lib-s"]
    assert (await library.futures_get_algo_order(clientAlgoId="lib-s"))["algoId"] == placed["algoId"]
    assert (await library.futures_cancel_algo_order(clientAlgoId="lib-s"))["code"] == "200"
    resting = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.01", "price": "60000"}
    await library.futures_create_order(**resting, timeInForce="GTC", newClientOrderId="lib-2")
    assert len(await library.futures_get_open_orders(symbol="BTCUSDT")) == 1
    gone = await library.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="lib-2")
    assert gone["status"] == "CANCELED"


async def test_settings_and_refusals(library: Any) -> None:
    assert (await library.futures_change_leverage(symbol="BTCUSDT", leverage=20))["leverage"] == 20
    await library.futures_change_position_mode(dualSidePosition="true")
    with pytest.raises(BinanceAPIException) as same:
        await library.futures_change_position_mode(dualSidePosition="true")
    assert (same.value.status_code, same.value.code) == (400, -4059)
    with pytest.raises(BinanceAPIException) as crossed:
        await library.futures_change_margin_type(symbol="BTCUSDT", marginType="CROSSED")
    assert crossed.value.code == -4046


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_its_sockets(binance: BinanceClient, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReconnectingWebsocket, "TIMEOUT", 0.1)  # it waits for its own reader when it closes
    manager = BinanceSocketManager(library)
    manager.FSTREAM_URL = binance.url.replace("http", "ws") + "/"
    async with manager.futures_multiplex_socket(["btcusdt@aggTrade"], category="market") as market:
        await binance.price("67001")
        frame = await market.recv()
        assert (frame["stream"], frame["data"]["p"]) == ("btcusdt@aggTrade", "67001.00")
    async with manager.futures_user_socket() as user:
        await binance.market("BUY", "0.01")
        frame = await user.recv()
        assert frame["e"] == "TRADE_LITE"
