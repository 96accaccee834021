"""What the exchange does by itself: liquidation, auto-deleveraging, funding, delisting."""

from typing import Any

from tests.simulator.support import Client


async def executions(client: Client) -> list[dict[str, Any]]:
    return await client.rows("/v5/execution/list", "category=linear")


async def test_a_liquidation(client: Client) -> None:
    await client.market("Buy", "0.1", orderLinkId="e-1", stopLoss="60000")
    limit = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "50000"}
    await client.post("/v5/order/create", **limit, orderLinkId="l-1")
    socket = await client.private("order", "execution", "position")
    await client.control("liquidate", symbol="BTCUSDT")
    execution = (await socket.until(lambda f: f.get("topic") == "execution"))["data"][0]
    await socket.until(lambda f: f.get("topic") == "position" and f["data"][0]["size"] == "0")
    for row in (execution, (await executions(client))[0]):
        assert (row["execType"], row["createType"], row["orderLinkId"]) == ("BustTrade", "CreateByLiq", "")
        assert (row["execQty"], row["closedSize"], row["side"]) == ("0.1", "0.1", "Sell")
    ended = (await client.rows("/v5/order/history", "category=linear&orderLinkId=l-1"))[0]
    assert (ended["orderStatus"], ended["cancelType"]) == ("Cancelled", "CancelAllBeforeLiq")
    assert await client.rows("/v5/order/realtime", "category=linear&symbol=BTCUSDT") == []
    closed = (await client.rows("/v5/position/closed-pnl", "category=linear"))[0]
    assert closed["execType"] == "BustTrade"
    await socket.link.close()


async def test_auto_deleveraging_of_a_part(client: Client) -> None:
    await client.control("accounts", api_key="h", api_secret="s", hedge=True)
    other = Client(client.url, client.session, "h", "s")
    await other.market("Buy", "0.1", positionIdx=1)
    await other.market("Sell", "0.1", positionIdx=2)
    await client.control("adl", api_key="h", symbol="BTCUSDT", side="short", qty="0.04")
    row = (await executions(other))[0]
    assert (row["execType"], row["createType"], row["execQty"]) == ("AdlTrade", "CreateByAdl_PassThrough", "0.04")
    assert (row["orderLinkId"], row["side"]) == ("", "Buy")
    sizes = await other.rows("/v5/position/list", "category=linear&symbol=BTCUSDT")
    assert [r["size"] for r in sizes] == ["0.1", "0.06"]


async def test_funding_is_an_execution_that_changes_no_size(client: Client) -> None:
    await client.market("Buy", "0.1")
    socket = await client.private("execution", "execution.fast", "position", "wallet")
    before = await client.position()
    assert await client.control("funding", symbol="BTCUSDT", rate="0.0001") == {"positions": 1}
    frame = await socket.until(lambda f: f.get("topic") == "execution")
    wallet = await socket.until(lambda f: f.get("topic") == "wallet")
    assert not [f for f in socket.seen if f.get("topic") == "execution.fast"]
    row = (await executions(client))[0]
    assert frame["data"][0]["execId"] == row["execId"]
    assert (row["execType"], row["orderType"], row["orderQty"], row["closedSize"]) == ("Funding", "UNKNOWN", "0", "0")
    assert (row["execQty"], row["execFee"], row["feeRate"]) == ("0.1", "0.67", "0.0001")
    assert (row["orderLinkId"], row["createType"], row["side"]) == ("", "", "Buy")
    assert wallet["data"][0]["coin"][0]["walletBalance"] == "99995.645"  # less 3.685 for the entry and 0.67
    assert (await client.position())["size"] == before["size"]
    orders = (await client.ledger())["orders"]
    assert len(orders) == 1
    await socket.link.close()


async def test_what_cannot_be_taken_over_is_refused(client: Client) -> None:
    await client.control("accounts", api_key="h", api_secret="s", hedge=True)
    for side in ("Buy", "Sell"):
        await client.control("positions", api_key="h", symbol="BTCUSDT", side=side, qty="0.01")
    for path, body in (
        ("liquidate", {"symbol": "BTCUSDT"}),
        ("liquidate", {"symbol": "NOSUCH"}),
        ("liquidate", {"symbol": "BTCUSDT", "api_key": "h"}),
        ("liquidate", {"symbol": "BTCUSDT", "api_key": "h", "side": "up"}),
        ("adl", {"symbol": "BTCUSDT", "api_key": "h", "side": "long", "qty": "0.02"}),
        ("funding", {"symbol": "NOSUCH", "rate": "0.1"}),
        ("accounts", {"api_key": "n"}),
        ("accounts", {"api_key": "n", "api_secret": "s", "position_mode": "both"}),
        ("accounts", {"api_key": "n", "api_secret": "s", "venue": "nowhere"}),
        ("permissions", {"api_key": "nobody"}),
    ):
        async with client.session.post(f"{client.url}/control/{path}", json=body) as answer:
            assert answer.status == 400, (path, body)
            assert len(await answer.text()) > 10


async def test_a_contract_that_is_delisted_can_only_be_closed(client: Client) -> None:
    await client.market("Buy", "0.1")
    await client.control("instruments", symbol="BTCUSDT", status="Delivering")
    assert (await client.market("Buy", "0.1"))["retCode"] == 30228
    assert (await client.market("Sell", "0.1", reduceOnly=True))["retCode"] == 0
    await client.control("instruments", symbol="BTCUSDT", status="Closed")
    assert (await client.market("Sell", "0.1", reduceOnly=True))["retCode"] == 110074
