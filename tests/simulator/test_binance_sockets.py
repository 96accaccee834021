"""The sockets of the Binance face: routes, forms of address, streams, limits of a link, and user data."""

import asyncio
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.simulator.binance_client import ORDER, BinanceClient, Stream
from tests.simulator.support import PATIENCE_S


async def subscribed(binance: BinanceClient, path: str, *streams: str) -> Stream:
    stream = await binance.socket(path)
    await stream.send({"method": "SUBSCRIBE", "params": list(streams), "id": 1})
    assert await stream.next() == {"result": None, "id": 1}
    return stream


@pytest.mark.parametrize(
    ("path", "wrapped"),
    [
        ("/market/ws/btcusdt@aggTrade", False),
        ("/market/ws/ethusdt@aggTrade/btcusdt@aggTrade", False),
        ("/market/stream?streams=ethusdt@aggTrade/btcusdt@aggTrade", True),
        ("/public/ws/btcusdt@bookTicker", False),
        ("/public/stream?streams=btcusdt@bookTicker", True),
        ("/ws/btcusdt@bookTicker", False),
    ],
)
async def test_forms_of_address(binance: BinanceClient, path: str, wrapped: bool) -> None:
    stream = await binance.socket(path)
    await binance.price("67001")
    frame = await stream.next()
    assert set(frame) == {"stream", "data"} if wrapped else "e" in frame
    row = frame["data"] if wrapped else frame
    assert row["s"] == "BTCUSDT"
    if wrapped:
        assert frame["stream"] in path


async def test_a_stream_on_the_wrong_route_is_silent(binance: BinanceClient) -> None:
    streams = ("btcusdt@bookTicker", "btcusdt@aggTrade")
    market = await subscribed(binance, "/market/ws", *streams)
    public = await subscribed(binance, "/public/ws", *streams)
    await binance.price("67001")
    await binance.price("67002")
    assert [(await market.next())["e"] for _ in range(2)] == ["aggTrade"] * 2
    assert [(await public.next())["e"] for _ in range(2)] == ["bookTicker"] * 2


@pytest.mark.parametrize("silent", ["BTCUSDT@aggTrade", "nosuch@aggTrade", "btcusdt@nosuch"])
async def test_what_does_not_exist_is_acknowledged_and_silent(binance: BinanceClient, silent: str) -> None:
    stream = await subscribed(binance, "/market/ws", silent, "ethusdt@aggTrade")
    await binance.price("67001")
    await binance.price("3501", "ETHUSDT")
    assert (await stream.next())["s"] == "ETHUSDT"


async def test_subscriptions_are_listed_and_ended(binance: BinanceClient) -> None:
    stream = await subscribed(binance, "/market/ws", "btcusdt@aggTrade", "ethusdt@aggTrade")
    await stream.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 2})
    assert await stream.next() == {"result": None, "id": 2}
    await stream.send({"method": "LIST_SUBSCRIPTIONS", "id": 3})
    assert await stream.next() == {"result": ["ethusdt@aggTrade"], "id": 3}
    await binance.price("67001")
    await binance.price("3501", "ETHUSDT")
    assert (await stream.next())["s"] == "ETHUSDT"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": "SUBSCRIBE", "params": ["no stream"], "id": 7}, 2),
        ({"method": "SUBSCRIBE", "params": [], "id": 7}, 2),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"]}, 2),
        ({"method": "subscribe", "params": ["btcusdt@aggTrade"], "id": 7}, 2),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 7, "more": 1}, 2),
        ({"method": "SUBSCRIBE", "params": [f"s{n}@aggTrade" for n in range(1025)], "id": 7}, 2),
        ([], 3),
    ],
)
async def test_messages_that_will_not_do(binance: BinanceClient, message: Any, code: int) -> None:
    stream = await binance.socket("/market/ws")
    await stream.send(message)
    assert (await stream.next())["error"]["code"] == code


async def test_a_link_that_talks_too_much_is_cut(binance: BinanceClient) -> None:
    stream = await binance.socket("/market/ws")
    for n in range(11):
        await stream.send({"method": "LIST_SUBSCRIPTIONS", "id": n})
    assert await stream.ended()


async def test_the_exchange_pings(binance: BinanceClient) -> None:
    await binance.control("binance", ping_interval_s=0.05, pong_wait_s=0.1)
    stream = await binance.socket("/market/ws", autoping=False)
    message = await stream.link.receive(timeout=PATIENCE_S)
    assert message.type is aiohttp.WSMsgType.PING
    await stream.link.pong(message.data)
    assert (await stream.link.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.PING
    kinds: set[aiohttp.WSMsgType] = set()
    while aiohttp.WSMsgType.PING in kinds or not kinds:  # never answered from here on
        kinds = {(await stream.link.receive(timeout=PATIENCE_S)).type}
    assert kinds & {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE}


async def test_marks_bars_and_day_figures_come_on_their_beat(binance: BinanceClient) -> None:
    names = ["markPrice@1s", "markPrice", "kline_1m", "miniTicker"]
    stream = await subscribed(binance, "/market/ws", *(f"btcusdt@{n}" for n in names))
    await binance.price("67005", mark="67003")
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < 3:
        frame = await stream.next()
        rows[frame["e"]] = frame
    assert Decimal(rows["markPriceUpdate"]["p"]) == 67003
    bar = rows["kline"]["k"]
    assert (bar["i"], bar["x"]) == ("1m", rows["kline"]["E"] > bar["T"])
    assert Decimal(bar["c"]) == Decimal(rows["24hrMiniTicker"]["c"]) == 67005


async def test_a_market_order_as_user_data_tells_it(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    answer = (await binance.market("BUY", "0.01", newClientOrderId="e1")).body
    assert await stream.said(4) == ["TRADE_LITE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    lite, new, account, trade = stream.seen
    assert lite["i"] == new["o"]["i"] == trade["o"]["i"] == answer["orderId"]
    assert (new["o"]["x"], new["o"]["X"], new["o"]["z"]) == ("NEW", "NEW", "0")
    assert (trade["o"]["x"], trade["o"]["X"], trade["o"]["l"], trade["o"]["z"]) == ("TRADE", "FILLED", "0.01", "0.01")
    assert lite["t"] == trade["o"]["t"] == (await binance.get("/fapi/v1/userTrades", symbol="BTCUSDT"))[0]["id"]
    assert account["a"]["m"] == "ORDER"
    assert [(p["s"], p["pa"], p["ps"]) for p in account["a"]["P"]] == [("BTCUSDT", "0.01", "BOTH")]
    wallet = (await binance.get("/fapi/v3/balance"))[0]["balance"]
    assert Decimal(account["a"]["B"][0]["wb"]) == Decimal(wallet)
    await binance.market("SELL", "0.01", reduceOnly="true")
    flat = await stream.until(lambda f: f["e"] == "ACCOUNT_UPDATE")
    assert flat["a"]["P"][0]["pa"] == "0"


async def test_a_resting_order_as_user_data_tells_it(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.limit("BUY", "0.01", "60000", newClientOrderId="r")
    assert (await stream.order("NEW", "NEW"))["b"] == "600"
    ref = {"symbol": "BTCUSDT", "origClientOrderId": "r"}
    await binance.ask("PUT", ORDER, **ref, side="BUY", quantity="0.01", price="66500")
    assert (await stream.order("NEW", "AMENDMENT"))["p"] == "66500"
    await binance.price("66500")
    assert await stream.said(3) == ["TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    assert (stream.seen[-1]["o"]["m"], stream.seen[-3]["m"]) == (True, True)
    await binance.limit("BUY", "0.01", "60000", newClientOrderId="c")
    await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="c")
    assert (await stream.order("CANCELED", "CANCELED"))["c"] == "c"


async def test_ways_to_the_same_user_data(binance: BinanceClient) -> None:
    key = await binance.listen_key()
    assert await binance.listen_key() == key
    by_path = await binance.socket(f"/private/ws/{key}")
    by_query = await binance.socket(f"/private/ws?listenKey={key}&events=ACCOUNT_UPDATE")
    wrapped = await binance.socket(f"/private/stream?listenKey={key}")
    wrong = await binance.socket("/private/ws/nobodys")
    await binance.market("BUY", "0.01")
    assert (await by_path.next())["e"] == "TRADE_LITE"
    assert (await by_query.next())["e"] == "ACCOUNT_UPDATE"
    frame = await wrapped.next()
    assert (frame["stream"], frame["data"]["e"]) == (key, "TRADE_LITE")
    await wrong.send({"method": "LIST_SUBSCRIPTIONS", "id": 1})
    assert (await wrong.next())["id"] == 1  # nothing came before


async def test_user_data_of_another_account_is_not_heard(binance: BinanceClient) -> None:
    await binance.control("accounts", api_key="other", api_secret="s")
    other = BinanceClient(binance.url, binance.session, key="other", secret="s")
    mine, theirs = await binance.user_data(), await other.user_data()
    await binance.market("BUY", "0.01", newClientOrderId="mine")
    await other.market("BUY", "0.01", newClientOrderId="theirs")
    assert (await theirs.next())["c"] == "theirs"
    assert (await mine.next())["c"] == "mine"


async def test_an_expired_key_is_told_and_the_link_stays_silent(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.control("binance", expire_listen_key="sim-key")
    assert set(await stream.event("listenKeyExpired")) == {"e", "E", "listenKey"}
    assert (await binance.raw("PUT", "/fapi/v1/listenKey")).body["code"] == -1125
    fresh = await binance.user_data()
    await binance.market("BUY", "0.01")
    await fresh.order("FILLED")
    await stream.send({"method": "LIST_SUBSCRIPTIONS", "id": 1})
    assert (await stream.next()).get("id") == 1  # nothing came before


async def test_a_key_runs_out_by_itself(binance: BinanceClient) -> None:
    await binance.control("binance", listen_key_s=0)
    stream = await binance.user_data()
    await stream.event("listenKeyExpired")


async def test_a_deleted_key_ends_every_link(binance: BinanceClient) -> None:
    key = await binance.listen_key()
    links = [await binance.socket(f"/private/ws/{key}") for _ in range(2)]
    assert (await binance.raw("PUT", "/fapi/v1/listenKey")).body == {"listenKey": key}
    assert (await binance.raw("DELETE", "/fapi/v1/listenKey")).body == {}
    assert await asyncio.gather(*(link.ended() for link in links)) == [True, True]
    assert (await binance.raw("DELETE", "/fapi/v1/listenKey")).body["code"] == -1125
    assert await binance.listen_key() != key


async def test_leverage_is_told(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=25)
    assert (await stream.event("ACCOUNT_CONFIG_UPDATE"))["ac"] == {"s": "BTCUSDT", "l": 25}


async def test_what_the_exchange_does_by_itself(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.market("BUY", "0.02")
    await binance.control("funding", symbol="BTCUSDT", rate="0.0001")
    funding = await stream.until(lambda f: f["e"] == "ACCOUNT_UPDATE" and f["a"]["m"] == "FUNDING_FEE")
    assert (funding["a"]["P"], funding["a"]["B"][0]["bc"]) == ([], "-0.134")
    await binance.control("adl", symbol="BTCUSDT", qty="0.01")
    adl = await stream.order("NEW_ADL", "CALCULATED")
    assert (adl["c"].startswith("adl_autoclose"), adl["l"]) == (True, "0.01")
    await binance.control("liquidate", symbol="BTCUSDT")
    liquidation = await stream.order("FILLED", "CALCULATED")
    assert (liquidation["c"].startswith("autoclose-"), liquidation["S"], liquidation["l"]) == (True, "SELL", "0.01")
    assert await binance.get("/fapi/v3/positionRisk") == []


async def test_a_persons_trade_is_told_as_any_other(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.control("positions", symbol="BTCUSDT", side="Buy", qty="0.01")
    assert (await stream.order("FILLED"))["c"].startswith("web_")
