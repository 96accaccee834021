"""The REST face through pybit, as a client uses it."""

import time
from typing import Any

import pytest
from pybit.exceptions import FailedRequestError, InvalidRequestError

from tests.simulator.support import Client, ask, number

L = {"category": "linear"}
B = {**L, "symbol": "BTCUSDT"}


async def code_of(method: Any, **arguments: Any) -> int:
    with pytest.raises(InvalidRequestError) as caught:
        await ask(method, **arguments)
    return int(caught.value.status_code)


async def test_entry_with_stop_query_move_and_close(client: Client) -> None:
    http = client.sdk()
    entry: dict[str, Any] = {"side": "Buy", "orderType": "Market", "qty": "0.012", "orderLinkId": "e-1"}
    placed = await ask(http.place_order, **B, **entry, positionIdx=0, stopLoss="65000", tpslMode="Full")
    assert set(placed["result"]) == {"orderId", "orderLinkId"}

    order = (await ask(http.get_open_orders, **B, orderLinkId="e-1"))["result"]["list"][0]
    assert (order["orderStatus"], order["cumExecQty"], order["avgPrice"]) == ("Filled", "0.012", "67000")
    fill = (await ask(http.get_executions, **L, orderLinkId="e-1"))["result"]["list"][0]
    assert (fill["execFee"], fill["isMaker"], fill["execType"]) == ("0.4422", False, "Trade")

    stop = (await ask(http.get_open_orders, **B))["result"]["list"][0]
    assert (stop["stopOrderType"], stop["orderStatus"], stop["orderLinkId"]) == ("StopLoss", "Untriggered", "")
    assert (stop["createType"], stop["qty"], stop["reduceOnly"]) == ("CreateByStopLoss", "0.012", True)
    await ask(http.set_trading_stop, **B, positionIdx=0, tpslMode="Full", stopLoss="66000")
    assert await code_of(http.set_trading_stop, **B, positionIdx=0, tpslMode="Full", stopLoss="66000") == 34040
    assert (await client.position())["stopLoss"] == "66000"

    closing: dict[str, Any] = {"side": "Sell", "orderType": "Market", "qty": "0", "orderLinkId": "x-1"}
    await ask(http.place_order, **B, **closing, reduceOnly=True, closeOnTrigger=True)
    assert (await client.position())["size"] == "0"
    history = (await ask(http.get_order_history, **B))["result"]["list"]
    assert [o["orderStatus"] for o in history] == ["Filled", "Deactivated", "Filled"]
    assert history[1]["cancelType"] == "CancelByTpSlTsClear"
    closed = (await ask(http.get_closed_pnl, **B))["result"]["list"][0]
    assert (closed["closedPnl"], closed["closedSize"]) == ("-0.8844", "0.012")
    wallet = (await ask(http.get_wallet_balance, accountType="UNIFIED"))["result"]["list"][0]
    assert wallet["totalWalletBalance"] == "99999.1156"


ORDER = {"side": "Buy", "orderType": "Market", "qty": "0.01"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"symbol": "NOSUCHUSDT"}, 10001),
        ({"category": "spot"}, 10001),
        ({"qty": "0"}, 10001),
        ({"qty": "0.0105"}, 10001),
        ({"qty": "abc"}, 10001),
        ({"qty": 1}, 10001),
        ({"qty": "1e-2"}, 10001),
        ({"qty": "+1"}, 10001),
        ({"side": "Long"}, 10001),
        ({"positionIdx": 1}, 10001),
        ({"orderLinkId": "x" * 37}, 10001),
        ({"orderLinkId": "a b"}, 10001),
        ({"orderType": "Limit"}, 10001),
        ({"orderType": "Limit", "price": "60000.05"}, 10001),
        ({"orderType": "Limit", "price": "400"}, 110094),
        ({"qty": "400"}, 110007),
        ({"reduceOnly": True}, 110017),
        ({"stopLoss": "68000"}, 10001),
        ({"triggerPrice": "68000"}, 10001),
        ({"triggerPrice": "66000", "triggerDirection": 1}, 110092),
        ({"triggerPrice": "68000", "triggerDirection": 2}, 110093),
    ],
)
async def test_refused_orders(client: Client, changed: dict[str, Any], code: int) -> None:
    answer = await client.post("/v5/order/create", **{"symbol": "BTCUSDT", **ORDER, **changed})
    assert answer["retCode"] == code, answer
    assert answer["result"] == {}


async def test_other_codes(client: Client) -> None:
    http = client.sdk()
    await ask(http.place_order, **B, **ORDER, orderLinkId="once")
    assert await code_of(http.place_order, **B, **ORDER, orderLinkId="once") == 110072
    assert await code_of(http.cancel_order, **B, orderLinkId="once") == 110001
    assert await code_of(http.cancel_order, **B, orderId="nobody") == 110001
    assert await code_of(http.set_leverage, **B, buyLeverage="10", sellLeverage="10") == 110043
    assert await code_of(http.set_leverage, **B, buyLeverage="500", sellLeverage="500") == 110013
    assert await code_of(http.switch_position_mode, **B, mode=0) == 110025
    await client.control("instruments", symbol="ETHUSDT", status="Closed")
    assert await code_of(http.place_order, **L, symbol="ETHUSDT", **ORDER) == 110074
    stop: dict[str, Any] = {"positionIdx": 0, "tpslMode": "Full", "stopLoss": "1"}
    assert await code_of(http.set_trading_stop, **L, symbol="SOLUSDT", **stop) == 10001
    with pytest.raises(FailedRequestError):
        await ask(http.get_borrow_quota)  # a path that is not here


async def test_limit_orders_rest_amend_cancel(client: Client) -> None:
    http = client.sdk()
    resting: dict[str, Any] = {"side": "Buy", "orderType": "Limit", "qty": "0.1", "price": "60000"}
    for name in ("a", "b", "c"):
        await ask(http.place_order, **B, **resting, orderLinkId=name)
    await ask(http.amend_order, **B, orderLinkId="a", price="61000", qty="0.2")
    await ask(http.cancel_order, **B, orderLinkId="b")
    await client.price("60500")
    rows = (await ask(http.get_open_orders, **B, openOnly=1))["result"]["list"]
    assert [(o["orderLinkId"], o["orderStatus"], o["avgPrice"]) for o in rows] == [
        ("b", "Cancelled", ""),
        ("a", "Filled", "61000"),
    ]
    fill = (await ask(http.get_executions, **B))["result"]["list"][0]
    assert (fill["isMaker"], fill["execFee"]) == (True, "2.44")
    everything = (await ask(http.cancel_all_orders, **L, settleCoin="USDT"))["result"]
    assert [o["orderLinkId"] for o in everything["list"]] == ["c"]


async def test_lists_are_paged_without_gap_or_double(client: Client) -> None:
    for n in range(5):
        await client.market("Buy", "0.001", orderLinkId=f"n-{n}")
    http = client.sdk()
    seen: list[str] = []
    cursor = None
    while cursor != "":
        page = (await ask(http.get_order_history, **B, limit=2, cursor=cursor))["result"]
        seen += [o["orderLinkId"] for o in page["list"]]
        cursor = page["nextPageCursor"]
        await client.market("Buy", "0.001")  # a newcomer must shift nothing
    assert seen == [f"n-{n}" for n in (4, 3, 2, 1, 0)]


async def test_a_span_is_seven_days_at_most(client: Client) -> None:
    await client.market("Buy", "0.001")
    day_ms, now_ms = 24 * 3600 * 1000, time.time_ns() // 1_000_000
    for path in ("/v5/order/history", "/v5/execution/list"):
        long = f"category=linear&startTime={now_ms - 8 * day_ms}&endTime={now_ms}"
        assert (await client.get(path, long))["retCode"] == 10001
        assert await client.rows(path, f"category=linear&startTime={now_ms - 8 * day_ms}") == []  # seven days from it
        assert len(await client.rows(path, f"category=linear&startTime={now_ms - 6 * day_ms}")) == 1
        assert await client.rows(path, f"category=linear&endTime={now_ms - day_ms}") == []


async def test_instruments_are_paged(client: Client) -> None:
    http = client.sdk()
    first = (await ask(http.get_instruments_info, **L, limit=10))["result"]
    rest = (await ask(http.get_instruments_info, **L, limit=10, cursor=first["nextPageCursor"]))["result"]
    symbols = [i["symbol"] for i in first["list"] + rest["list"]]
    assert len(symbols) == len(set(symbols)) == 16
    assert rest["nextPageCursor"] == ""


async def test_market_data(client: Client) -> None:
    http = client.sdk()
    await client.control("price", trades=[{"symbol": "BTCUSDT", "price": p} for p in ("66000", "66010", "65990")])
    ticker = (await ask(http.get_tickers, **B))["result"]["list"][0]
    assert number(ticker["lastPrice"]) == number("65990")
    trades = (await ask(http.get_public_trade_history, **B, limit=2))["result"]["list"]
    assert [t["price"] for t in trades] == ["65990", "66010"]
    bars = (await ask(http.get_kline, **B, interval="1"))["result"]["list"]
    assert max(number(b[2]) for b in bars) == number("66010")
    assert (await ask(http.get_server_time))["time"] > 0
    book = (await ask(http.get_orderbook, **B))["result"]
    assert (book["b"][0][0], book["a"][0][0]) == ("65989.9", "65990.1")


async def test_position_list_by_coin_has_only_what_is_open(client: Client) -> None:
    assert await client.rows("/v5/position/list", "category=linear&settleCoin=USDT") == []
    await client.market("Sell", "0.01")
    row = (await client.rows("/v5/position/list", "category=linear&settleCoin=USDT"))[0]
    assert (row["symbol"], row["side"], row["size"]) == ("BTCUSDT", "Sell", "0.01")


async def test_accounts_do_not_see_each_other(client: Client) -> None:
    await client.control("accounts", api_key="second", api_secret="hidden", balance="500")
    other = Client(client.url, client.session, "second", "hidden")
    await client.market("Buy", "0.01", orderLinkId="same")
    assert (await other.position())["size"] == "0"
    assert (await other.market("Buy", "0.01", orderLinkId="same"))["retCode"] == 0
    assert (await other.market("Buy", "0.1"))["retCode"] == 110007


async def test_limit_headers(client: Client) -> None:
    raw = b"category=linear&symbol=BTCUSDT"
    url = f"{client.url}/v5/position/list?{raw.decode()}"
    async with client.session.get(url, headers=client.headers(raw)) as answer:
        assert {"X-Bapi-Limit", "X-Bapi-Limit-Status", "X-Bapi-Limit-Reset-Timestamp"} <= set(answer.headers)
