"""Our rows beside recorded ones: each field of theirs is there, with the same type. Needs the folder of recordings."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.simulator.support import Client, Frame

FOLDER = os.environ.get("LEVELHEAD_SHARED_EXCHANGES", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="LEVELHEAD_SHARED_EXCHANGES is not set")

BTC = "category=linear&symbol=BTCUSDT"


def recorded(name: str) -> Any:
    return msgspec.json.decode((Path(FOLDER) / "fixtures" / "bybit" / f"{name}.json").read_bytes())


def check(ours: Frame, theirs: Frame, name: str) -> None:
    assert not set(theirs) - set(ours), name
    for field, value in theirs.items():
        if value is not None:
            assert type(ours[field]) is type(value), (name, field)


async def test_rows_of_rest(client: Client) -> None:
    await client.control("accounts", api_key="h", api_secret="s", hedge=True)
    hedged = Client(client.url, client.session, "h", "s")
    await hedged.market("Buy", "0.01", positionIdx=1, stopLoss="60000")
    await client.control("funding", symbol="BTCUSDT", rate="0.0001")
    await hedged.market("Sell", "0.005", positionIdx=1)
    legs = await hedged.rows("/v5/position/list", BTC)
    executions = await hedged.rows("/v5/execution/list", "category=linear")
    for ours, theirs in (
        (legs, "position_list_hedge_both_open"),
        (await client.rows("/v5/position/list", BTC), "position_list_flat_never_traded"),
        ([executions[1]], "execution_list_with_funding_row"),
        ([executions[0]], "execution_list_docs"),
        (await hedged.rows("/v5/order/realtime", BTC), "order_realtime_tpsl_children"),
        (await hedged.rows("/v5/account/wallet-balance", "accountType=UNIFIED"), "wallet_balance_docs"),
        (await hedged.rows("/v5/position/closed-pnl", "category=linear"), "closed_pnl"),
        (await hedged.rows("/v5/market/instruments-info", BTC), "instruments_info_btcusdt"),
        (await hedged.rows("/v5/market/tickers", BTC), "tickers_linear_btcusdt"),
    ):
        for row in recorded(f"rest/{theirs}")["result"]["list"][: len(ours)]:
            check(ours[0], row, theirs)
    check((await hedged.get("/v5/account/info"))["result"], recorded("rest/account_info")["result"], "account_info")


async def test_rows_of_the_private_socket(client: Client) -> None:
    await client.control("accounts", api_key="h", api_secret="s", hedge=True)
    hedged = Client(client.url, client.session, "h", "s")
    socket = await hedged.private("order", "execution", "execution.fast", "position", "wallet")
    await hedged.market("Buy", "0.01", positionIdx=1)
    await socket.until(lambda f: f.get("topic") == "wallet")
    rows = {(f["topic"], f["data"][0].get("positionIdx")): f["data"][0] for f in socket.seen if "topic" in f}
    life = recorded("ws/lifecycle_btcusdt_hedge_market_two_fills")
    for ours, theirs, name in (
        (rows["order", 1], life[0], "order"),
        (rows["execution", None], life[1], "execution"),
        (rows["execution.fast", None], recorded("ws/execution_fast_docs"), "execution.fast"),
        (rows["position", 1], life[-1], "position"),
        (rows["position", 2], recorded("ws/position_flat_hedge_docs"), "flat position"),
        (rows["wallet", None], recorded("ws/wallet_docs"), "wallet"),
    ):
        check(ours, theirs["data"][0], name)
    await socket.link.close()
