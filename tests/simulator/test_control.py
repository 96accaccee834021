"""The control API: ledger, reset, trades by hand, instruments, accounts."""

from tests.simulator.support import Client


async def test_the_ledger_has_requests_orders_fills_positions_wallets(client: Client) -> None:
    await client.market("Sell", "0.01", orderLinkId="l-1", takeProfit="60000")
    await client.get("/v5/market/time")
    books = await client.ledger()
    request = books["requests"][0]
    assert set(request) == set(
        "n received_at_ns method path query body api_key channel frame status ret_code answered".split()
    )
    assert (request["path"], request["status"], request["ret_code"]) == ("/v5/order/create", 200, 0)
    assert request["answered"] is True
    assert len(books["requests"]) == 1
    assert len((await client.ledger("all=1"))["requests"]) == 2
    assert (await client.ledger(f"since={request['n']}"))["requests"] == []
    order, child = books["orders"]
    assert set(order) == set(
        """venue account order_id client_order_id symbol position_side side type qty price reduce_only status
        filled_qty avg_price stop_order_type create_type trigger_price created_at_ms updated_at_ms""".split()
    )
    assert (order["client_order_id"], order["status"], order["avg_price"]) == ("l-1", "Filled", "67000")
    assert (child["stop_order_type"], child["trigger_price"]) == ("TakeProfit", "60000")
    assert books["fills"][0]["order_id"] == order["order_id"]
    position = books["positions"][0]
    assert (position["side"], position["qty"], position["take_profit"]) == ("short", "0.01", "60000")
    assert books["wallets"] == [{"account": "sim-key", "balance": "99999.6315", "equity": "99999.6315"}]
    assert (await client.ledger("symbol=ETHUSDT"))["orders"] == []


async def test_reset_wipes_and_sets_the_balance(client: Client) -> None:
    await client.market("Buy", "0.01", orderLinkId="r-1", stopLoss="60000")
    await client.control("reset", balance="777")
    books = await client.ledger()
    assert (books["orders"], books["fills"], books["positions"], books["requests"]) == ([], [], [], [])
    assert books["wallets"][0]["balance"] == "777"
    await client.price("50000")  # the old stop must not fire
    assert (await client.market("Buy", "0.01", orderLinkId="r-1"))["retCode"] == 0


async def test_a_trade_by_hand_reaches_the_private_socket(client: Client) -> None:
    socket = await client.private("order", "position")
    await client.control("positions", symbol="BTCUSDT", side="Buy", qty="0.02")
    row = await socket.until_order("Filled")
    assert (row["createType"], row["orderLinkId"]) == ("CreateByClosing", "")
    assert (await client.position())["size"] == "0.02"
    await client.control("positions", symbol="BTCUSDT", side="Sell", qty="0.02")
    assert (await client.position())["size"] == "0"
    await socket.link.close()


async def test_instruments_are_added_and_changed(client: Client) -> None:
    filters = {"tick_size": "0.5", "qty_step": "1", "min_qty": "1", "max_qty": "100", "max_market_qty": "50"}
    await client.control("instruments", symbol="NEWUSDT", start_price="10", **filters)
    assert (await client.market("Buy", "2", symbol="NEWUSDT"))["retCode"] == 0
    await client.control("instruments", symbol="NEWUSDT", min_qty="5")
    assert (await client.market("Buy", "2", symbol="NEWUSDT"))["retCode"] == 10001
    await client.price("10.5", "NEWUSDT")


async def test_bad_bodies_are_refused_with_a_sentence(client: Client) -> None:
    for path, body in (
        ("price", {"symbol": "BTCUSDT"}),
        ("price", {"symbol": "BTCUSDT", "price": "66000.05"}),
        ("price", {"symbol": "NOSUCH", "price": "1"}),
        ("price", {"symbol": "BTCUSDT", "price": "1", "size": 3}),
        ("positions", {"symbol": "BTCUSDT", "side": "Buy", "qty": "0"}),
        ("accounts", {"api_key": "sim-key", "api_secret": "x"}),
        ("instruments", {"symbol": "OTHERUSDT"}),
        ("instruments", {"symbol": "BTCUSDT", "tick_size": "0"}),
    ):
        async with client.session.post(f"{client.url}/control/{path}", json=body) as answer:
            assert answer.status == 400, (path, body)
            assert len(await answer.text()) > 10
