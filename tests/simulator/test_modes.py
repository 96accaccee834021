"""Hedge and isolated over the wire: positionIdx, both rows, switches, frames of both legs."""

from typing import Any

import pytest

from tests.simulator.support import Client

BTC = {"symbol": "BTCUSDT"}
LIST = "/v5/position/list"


async def hedge(client: Client) -> None:
    assert (await client.post("/v5/position/switch-mode", coin="USDT", mode=3))["retCode"] == 0


async def legs(client: Client, query: str = "symbol=BTCUSDT") -> list[tuple[int, str, str]]:
    rows = await client.rows(LIST, f"category=linear&{query}")
    return [(r["positionIdx"], r["side"], r["size"]) for r in rows]


async def test_a_symbol_shows_its_mode_even_when_flat(client: Client) -> None:
    assert await legs(client) == [(0, "", "0")]
    await hedge(client)
    assert await legs(client) == [(1, "", "0"), (2, "", "0")]
    assert await legs(client, "settleCoin=USDT") == []
    await client.market("Sell", "0.02", positionIdx=2)
    assert await legs(client) == [(1, "", "0"), (2, "Sell", "0.02")]
    assert await legs(client, "settleCoin=USDT") == [(2, "Sell", "0.02")]


@pytest.mark.parametrize(("mode", "position_idx"), [(0, 1), (0, 2), (3, 0), (0, 3), (3, 3)])
async def test_a_position_idx_that_does_not_fit_is_refused(client: Client, mode: int, position_idx: int) -> None:
    if mode:
        await hedge(client)
    answer = await client.market("Buy", "0.01", positionIdx=position_idx)
    assert answer["retCode"] == 10001
    if position_idx < 3:
        assert answer["retMsg"] == "position idx not match position mode"
    stop = await client.post("/v5/position/trading-stop", **BTC, positionIdx=position_idx, stopLoss="60000")
    assert stop["retCode"] == 10001
    assert (await client.ledger())["orders"] == []


async def test_hedge_needs_an_idx(client: Client) -> None:
    await hedge(client)
    assert (await client.market("Buy", "0.01"))["retCode"] == 10001


async def test_a_long_and_a_short_with_their_own_stops(client: Client) -> None:
    await hedge(client)
    await client.market("Buy", "0.03", positionIdx=1, stopLoss="66000")
    await client.market("Sell", "0.02", positionIdx=2)
    moved = await client.post("/v5/position/trading-stop", **BTC, positionIdx=2, stopLoss="68000", tpslMode="Full")
    assert moved["retCode"] == 0
    long, short = await client.rows(LIST, "category=linear&symbol=BTCUSDT")
    assert (long["stopLoss"], short["stopLoss"]) == ("66000", "68000")
    stops = await client.rows("/v5/order/realtime", "category=linear&symbol=BTCUSDT")
    assert {(o["positionIdx"], o["side"], o["triggerPrice"]) for o in stops} == {
        (1, "Sell", "66000"),
        (2, "Buy", "68000"),
    }
    closing = await client.market("Sell", "1", positionIdx=1, orderLinkId="x-1")  # without reduceOnly, above the size
    assert closing["retCode"] == 0
    order = (await client.rows("/v5/order/history", "category=linear&orderLinkId=x-1"))[0]
    assert (order["reduceOnly"], order["qty"], order["positionIdx"]) == (True, "0.03", 1)
    assert await legs(client) == [(1, "", "0"), (2, "Sell", "0.02")]
    again = await client.market("Sell", "0.01", positionIdx=1, reduceOnly=True)
    assert again["retCode"] == 110017
    await client.price("68000")
    assert await legs(client) == [(1, "", "0"), (2, "", "0")]


async def test_closing_all_of_a_leg_without_its_size(client: Client) -> None:
    await hedge(client)
    await client.market("Buy", "0.03", positionIdx=1)
    await client.market("Sell", "0.02", positionIdx=2)
    await client.market("Buy", "0", positionIdx=2, reduceOnly=True, closeOnTrigger=True)
    assert await legs(client) == [(1, "Buy", "0.03"), (2, "", "0")]


async def test_both_legs_are_pushed_and_executions_carry_no_idx(client: Client) -> None:
    await hedge(client)
    socket = await client.private("position", "order", "execution")
    await client.market("Sell", "0.02", positionIdx=2)
    order = await socket.until_order("Filled")
    assert order["positionIdx"] == 2
    rows: list[dict[str, Any]] = []
    while len(rows) < 2:
        rows.append((await socket.until(lambda f: f.get("topic") == "position"))["data"][0])
    assert [(r["positionIdx"], r["side"], r["size"], r["entryPrice"]) for r in rows] == [
        (2, "Sell", "0.02", "67000"),
        (1, "", "0", "0"),
    ]
    execution = next(f["data"][0] for f in socket.seen if f.get("topic") == "execution")
    assert "positionIdx" not in execution
    await socket.link.close()


async def test_switching_the_position_mode(client: Client) -> None:
    async def switch(**what: Any) -> int:
        return int((await client.post("/v5/position/switch-mode", **what))["retCode"])

    assert await switch(mode=0, coin="USDT") == 110025
    assert await switch(mode=1, coin="USDT") == 10001
    assert await switch(mode=3) == 10001
    assert await switch(mode=3, symbol="NOSUCH") == 10001
    assert await switch(mode=3, symbol="BTCUSDT") == 0
    assert await switch(mode=3, symbol="BTCUSDT") == 110025
    assert await legs(client, "symbol=ETHUSDT") == [(0, "", "0")]  # the symbol's own setting only
    await client.market("Buy", "0.01", positionIdx=1)
    assert await switch(mode=0, symbol="BTCUSDT") == 110024
    await client.market("Sell", "0.01", positionIdx=1)
    await client.post(
        "/v5/order/create", **BTC, side="Buy", orderType="Limit", qty="0.01", price="50000", positionIdx=1
    )
    assert await switch(mode=0, symbol="BTCUSDT") == 110028
    assert await switch(mode=0, coin="USDT") == 110028
    await client.post("/v5/order/cancel-all", **BTC)
    assert await switch(mode=0, symbol="BTCUSDT") == 0
    assert await legs(client) == [(0, "", "0")]


async def margin_mode(client: Client, mode: str) -> dict[str, Any]:
    return await client.post("/v5/account/set-margin-mode", setMarginMode=mode)


async def test_switching_the_margin_mode(client: Client) -> None:
    async def present() -> str:
        return str((await client.get("/v5/account/info"))["result"]["marginMode"])

    assert await present() == "REGULAR_MARGIN"
    assert (await margin_mode(client, "REGULAR_MARGIN"))["retCode"] == 110026
    assert (await margin_mode(client, "CROSS"))["retCode"] == 10001
    await client.market("Buy", "0.01")
    refused = await margin_mode(client, "ISOLATED_MARGIN")
    assert refused["retCode"] == 3400045
    assert refused["result"]["reasons"][0]["reasonMsg"]
    await client.market("Sell", "0.01")
    assert (await margin_mode(client, "ISOLATED_MARGIN"))["result"] == {"reasons": []}
    assert await present() == "ISOLATED_MARGIN"
    wallet = (await client.rows("/v5/account/wallet-balance", "accountType=UNIFIED"))[0]
    assert (wallet["totalAvailableBalance"], wallet["totalInitialMargin"]) == ("", "")
    assert wallet["coin"][0]["walletBalance"]
    assert (await margin_mode(client, "PORTFOLIO_MARGIN"))["retCode"] == 3400045


async def test_leverage_of_long_and_short_may_differ_only_in_hedge_with_isolated_margin(client: Client) -> None:
    async def set_leverage(buy: str, sell: str) -> int:
        answer = await client.post("/v5/position/set-leverage", **BTC, buyLeverage=buy, sellLeverage=sell)
        return int(answer["retCode"])

    assert await set_leverage("20", "30") == 10001
    await hedge(client)
    assert await set_leverage("20", "30") == 10001
    await margin_mode(client, "ISOLATED_MARGIN")
    assert await set_leverage("20", "30") == 0
    assert await set_leverage("20", "30") == 110043
    await client.market("Buy", "0.01", positionIdx=1)
    await client.market("Sell", "0.01", positionIdx=2)
    rows = await client.rows(LIST, "category=linear&symbol=BTCUSDT")
    assert [r["leverage"] for r in rows] == ["20", "30"]
    assert await set_leverage("20", "101") == 110013


async def test_an_account_can_be_made_in_hedge_mode_and_keeps_it_over_a_reset(client: Client) -> None:
    await client.control("accounts", api_key="h", api_secret="s", position_mode="hedge")
    other = Client(client.url, client.session, "h", "s")
    await client.control("reset")
    assert await legs(other) == [(1, "", "0"), (2, "", "0")]
    await client.control("positions", symbol="BTCUSDT", side="Sell", qty="0.02", api_key="h")
    assert await legs(other) == [(1, "", "0"), (2, "Sell", "0.02")]
    await client.control("positions", symbol="BTCUSDT", side="Buy", qty="0.02", api_key="h", reduce_only=True)
    assert await legs(other, "settleCoin=USDT") == []
