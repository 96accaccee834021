"""Acknowledgements, refusals and streams of both sockets."""

import asyncio
from typing import Any

import pytest
from pybit import unified_trading

from simulator.bybit import public_ws
from simulator.exchange import Config
from simulator.server import running
from tests.simulator.support import PATIENCE_S, Client


async def test_public_acknowledgements(client: Client) -> None:
    socket = await client.public()
    await socket.send({"op": "ping"})
    pong = await socket.next()
    assert (pong["success"], pong["ret_msg"], pong["op"], pong["req_id"]) == (True, "pong", "ping", "")
    await socket.send({"req_id": "1", "op": "subscribe", "args": ["tickers.BTCUSDT", "tickers.NOSUCH"]})
    refused = await socket.next()
    assert (refused["success"], refused["req_id"]) == (False, "1")
    assert "tickers.NOSUCH" in refused["ret_msg"]
    await socket.link.send_str("nonsense")
    assert (await socket.next())["success"] is False
    await socket.link.ping(b"are you there")  # answered below JSON; the link must live on
    await socket.send({"op": "ping"})
    assert (await socket.next())["op"] == "ping"
    await socket.link.close()


async def test_private_acknowledgements(client: Client) -> None:
    socket = await client.private()
    await socket.send({"req_id": "test", "op": "ping"})
    pong = await socket.next()
    assert (pong["op"], pong["req_id"], len(pong["args"])) == ("pong", "test", 1)
    await socket.send({"op": "subscribe", "args": ["order", "nosuch"]})
    assert (await socket.next())["success"] is False
    await socket.send({"op": "subscribe", "args": ["order", "execution.linear"]})
    assert (await socket.next())["success"] is False
    await socket.link.close()


async def test_bad_auth_is_refused_and_hung_up_on(client: Client) -> None:
    client.secret = "other"
    with pytest.raises(AssertionError):
        await client.private()
    link = await client.session.ws_connect(f"{client.url}/v5/private")
    await link.send_json({"op": "subscribe", "args": ["order"]})
    assert (await link.receive_json(timeout=PATIENCE_S))["success"] is False
    await link.send_json({"op": "auth", "args": ["sim-key", 1, "x"]})
    answer = await link.receive_json(timeout=PATIENCE_S)
    assert (answer["success"], answer["ret_msg"], answer["op"]) == (False, "Params Error", "auth")
    await link.receive(timeout=PATIENCE_S)
    assert link.closed


async def test_the_life_of_a_stop_is_told(client: Client) -> None:
    socket = await client.private("order.linear", "execution.linear", "position.linear")
    await client.market("Buy", "0.01", orderLinkId="e", stopLoss="66000")
    await client.price("65000")

    async def row(topic: str) -> dict[str, Any]:
        frame = await socket.until(lambda f: f.get("topic") == f"{topic}.linear")
        data: dict[str, Any] = frame["data"][0]
        return data

    filled = await row("order")
    assert (filled["orderStatus"], filled["orderLinkId"]) == ("Filled", "e")
    statuses = [(await row("order"))["orderStatus"] for _ in range(3)]
    assert statuses == ["Untriggered", "Triggered", "Filled"]
    flat = await row("position")
    assert (flat["size"], flat["side"]) == ("0", "")
    execution = [f["data"][0] for f in socket.seen if f.get("topic") == "execution.linear"][-1]
    assert (execution["stopOrderType"], execution["execPrice"], execution["closedSize"]) == (
        "StopLoss",
        "65000",
        "0.01",
    )
    await socket.link.close()


async def test_pybit_sockets_get_ticks_and_fills(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    base = client.url.replace("http", "ws")
    monkeypatch.setattr(unified_trading, "PUBLIC_WSS", base + "/v5/public/{CHANNEL_TYPE}")
    monkeypatch.setattr(unified_trading, "PRIVATE_WSS", base + "/v5/private")
    frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def heard(message: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, message)

    def listen() -> list[Any]:
        public = unified_trading.WebSocket(testnet=False, channel_type="linear")
        public.ticker_stream("BTCUSDT", heard)
        keys = {"api_key": client.key, "api_secret": client.secret, "private_auth_expire": 10}
        private = unified_trading.WebSocket(testnet=False, channel_type="private", **keys)
        private.execution_stream(heard)
        return [public, private]

    sockets = await asyncio.to_thread(listen)
    snapshot = await asyncio.wait_for(frames.get(), PATIENCE_S)
    assert snapshot["topic"] == "tickers.BTCUSDT"
    await client.price("66000")
    assert (await asyncio.wait_for(frames.get(), PATIENCE_S))["data"]["lastPrice"] == "66000.0"
    while (await client.control_get("health"))["topics"]["private"] < 1:
        pass  # pybit does not tell when its subscription was acknowledged
    await client.market("Buy", "0.01")
    execution = await asyncio.wait_for(frames.get(), PATIENCE_S)
    assert (execution["topic"], execution["data"][0]["execQty"]) == ("execution", "0.01")
    for socket in sockets:
        await asyncio.to_thread(socket.exit)


async def test_unsubscribed_topics_are_silent(client: Client) -> None:
    socket = await client.public("publicTrade.BTCUSDT", "publicTrade.ETHUSDT")
    await socket.send({"op": "unsubscribe", "args": ["publicTrade.BTCUSDT"]})
    assert (await socket.next())["op"] == "unsubscribe"
    await client.price("66000")
    await client.price("3000", "ETHUSDT")
    assert (await socket.next())["topic"] == "publicTrade.ETHUSDT"
    await socket.link.close()


async def test_a_late_subscriber_and_an_early_one_end_with_the_same_ticker(client: Client) -> None:
    async def merged_until(socket: Any, price: str) -> dict[str, Any]:
        while True:
            frame = await socket.next()
            if frame.get("type") == "snapshot":
                socket.row = dict(frame["data"])
            elif frame.get("type") == "delta":
                socket.row.update(frame["data"])
            if socket.row.get("lastPrice") == price:
                row: dict[str, Any] = socket.row
                return row

    early = await client.public("tickers.BTCUSDT")
    for price in ("66000", "66001", "66000", "66002"):
        await client.price(price)
    late = await client.public("tickers.BTCUSDT")
    await client.price("66003")
    rows = [await asyncio.wait_for(merged_until(s, "66003.0"), PATIENCE_S) for s in (early, late)]
    assert rows[0] == rows[1]
    for socket in (early, late):
        await socket.link.close()


async def test_held_mark_bid_and_ask_reach_ticker_and_book(client: Client) -> None:
    socket = await client.public("tickers.BTCUSDT", "orderbook.1.BTCUSDT")
    await client.price("67000", mark="66990.5", bid="66980", ask="67020")
    delta = await socket.until(lambda f: f.get("type") == "delta")
    row = delta["data"]
    assert (row["markPrice"], row["bid1Price"], row["ask1Price"]) == ("66990.5", "66980.0", "67020.0")
    assert "lastPrice" not in row  # it did not change
    books = [f["data"] for f in socket.seen if f.get("topic") == "orderbook.1.BTCUSDT"]
    assert (books[-1]["b"][0][0], books[-1]["a"][0][0]) == ("66980", "67020")
    await client.price("67000")
    row = (await socket.until(lambda f: f.get("type") == "delta"))["data"]
    assert (row["markPrice"], row["bid1Price"], row["ask1Price"]) == ("67000.0", "66999.9", "67000.1")
    await socket.link.close()


async def test_a_book_that_stands_still_is_repeated(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_ws, "BOOK_REPEAT_S", 0)
    socket = await client.public("orderbook.1.BTCUSDT")
    first, again = await socket.next(), await socket.next()
    assert (first["data"], first["type"]) == (again["data"], "snapshot")
    await socket.link.close()


async def test_klines_are_streamed(client: Client) -> None:
    socket = await client.public("kline.5.BTCUSDT")
    await client.price("66000")
    frame = await socket.until(lambda f: f.get("topic") == "kline.5.BTCUSDT")
    bar = frame["data"][0]
    assert (bar["close"], bar["interval"], bar["end"] - bar["start"]) == ("66000", "5", 299_999)
    assert isinstance(bar["confirm"], bool)
    await socket.link.close()


async def test_stopping_hangs_up(client: Client) -> None:
    async with running(Config(port=0, prices="manual")) as url:
        other = Client(url, client.session)
        socket = await other.public("tickers.BTCUSDT")
    while not await socket.has_ended():
        pass
