"""Positions, modes, leverage and balances of the Binance face."""

from decimal import Decimal
from typing import Any

import pytest

from tests.simulator.binance_client import ORDER, BinanceClient

DUAL = "/fapi/v1/positionSide/dual"
RISK = "/fapi/v3/positionRisk"


async def test_a_flat_account_has_no_rows(binance: BinanceClient) -> None:
    assert await binance.get(RISK) == []
    assert await binance.get(RISK, symbol="BTCUSDT") == []
    old = await binance.get("/fapi/v2/positionRisk", symbol="BTCUSDT")
    assert [(row["positionSide"], Decimal(row["positionAmt"])) for row in old] == [("BOTH", Decimal(0))]
    assert len(await binance.get("/fapi/v2/positionRisk")) > 10


async def test_a_position_and_an_open_order_have_rows(binance: BinanceClient) -> None:
    await binance.market("SELL", "0.01")
    await binance.limit("BUY", "0.1", "3400", "ETHUSDT")
    btc, eth = await binance.get(RISK)
    assert (btc["symbol"], btc["positionAmt"], btc["positionSide"]) == ("BTCUSDT", "-0.010", "BOTH")
    assert (eth["symbol"], Decimal(eth["positionAmt"])) == ("ETHUSDT", Decimal(0))
    assert Decimal(eth["openOrderInitialMargin"]) == 34
    assert Decimal(btc["notional"]) == -670
    await binance.price("66000")
    moved = (await binance.get(RISK, symbol="BTCUSDT"))[0]
    assert Decimal(moved["unRealizedProfit"]) == 10
    assert Decimal(moved["liquidationPrice"]) > 66000


async def test_two_legs_live_side_by_side(binance: BinanceClient) -> None:
    await binance.hedge()
    assert await binance.get(DUAL) == {"dualSidePosition": True}
    assert (await binance.get("/fapi/v1/accountConfig"))["dualSidePosition"] is True
    await binance.market("BUY", "0.02", positionSide="LONG")
    await binance.market("SELL", "0.01", positionSide="SHORT")
    rows = await binance.get(RISK)
    assert [(r["positionSide"], r["positionAmt"]) for r in rows] == [("LONG", "0.020"), ("SHORT", "-0.010")]
    both = await binance.get("/fapi/v2/positionRisk", symbol="ETHUSDT")
    assert [r["positionSide"] for r in both] == ["LONG", "SHORT"]


@pytest.mark.parametrize(
    ("side", "more", "code"),
    [
        ("BUY", {}, -4061),
        ("BUY", {"positionSide": "BOTH"}, -4061),
        ("SELL", {"positionSide": "LONG", "reduceOnly": "true"}, -1106),
        ("SELL", {"positionSide": "LONG", "reduceOnly": "false"}, -1106),
        ("SELL", {"positionSide": "LONG", "quantity": "0.021"}, -2022),
        ("BUY", {"positionSide": "SHORT"}, -2022),
        ("SELL", {"positionSide": "LONG", "quantity": "0.02"}, 0),
    ],
)
async def test_orders_of_hedge_mode(binance: BinanceClient, side: str, more: dict[str, str], code: int) -> None:
    await binance.hedge()
    await binance.market("BUY", "0.02", positionSide="LONG")
    order = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": "0.01", **more}
    assert (await binance.ask("POST", ORDER, **order)).code == code


async def test_the_mode_is_the_accounts_and_not_free_to_change(binance: BinanceClient) -> None:
    assert (await binance.ask("POST", DUAL, dualSidePosition="false")).code == -4059
    assert (await binance.ask("POST", DUAL)).code == -1102
    await binance.limit("BUY", "0.01", "60000")
    assert (await binance.ask("POST", DUAL, dualSidePosition="true")).code == -4067
    await binance.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    await binance.market("BUY", "0.01")
    assert (await binance.ask("POST", DUAL, dualSidePosition="true")).code == -4068


async def test_the_margin_type_is_a_symbols(binance: BinanceClient) -> None:
    path = "/fapi/v1/marginType"
    assert (await binance.ask("POST", path, symbol="BTCUSDT", marginType="CROSSED")).code == -4046
    assert (await binance.ask("POST", path, symbol="BTCUSDT", marginType="cross")).code == -1130
    answer = await binance.ask("POST", path, symbol="BTCUSDT", marginType="ISOLATED")
    assert answer.body == {"code": 200, "msg": "success"}
    config = {row["symbol"]: row["marginType"] for row in await binance.get("/fapi/v1/symbolConfig")}
    assert (config["BTCUSDT"], config["ETHUSDT"]) == ("ISOLATED", "CROSSED")
    await binance.limit("BUY", "0.01", "60000")
    assert (await binance.ask("POST", path, symbol="BTCUSDT", marginType="CROSSED")).code == -4047
    await binance.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    await binance.market("BUY", "0.01")
    assert (await binance.ask("POST", path, symbol="BTCUSDT", marginType="CROSSED")).code == -4048


async def test_leverage_can_be_set_to_what_it_is(binance: BinanceClient) -> None:
    for _ in range(2):
        answer = (await binance.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=21)).body
        assert (answer["leverage"], answer["symbol"]) == (21, "BTCUSDT")
        assert isinstance(answer["maxNotionalValue"], str)
    assert (await binance.get("/fapi/v1/symbolConfig", symbol="BTCUSDT"))[0]["leverage"] == 21
    wrong = await binance.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=200)
    assert wrong.body == {"code": -4028, "msg": "Leverage 200 is not valid"}
    assert (await binance.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage="2.5")).code == -1102


async def test_money_adds_up(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.1")
    await binance.price("67500")
    wallet = (await binance.get("/fapi/v3/balance"))[0]
    fee = Decimal("6700") * Decimal("0.00055")
    assert Decimal(wallet["balance"]) == 100_000 - fee
    assert Decimal(wallet["crossUnPnl"]) == 50
    account = await binance.get("/fapi/v3/account")
    assert Decimal(account["totalMarginBalance"]) == 100_000 - fee + 50
    assert Decimal(account["availableBalance"]) == 100_000 - fee + 50 - 675
    assert [p["symbol"] for p in account["positions"]] == ["BTCUSDT"]
    old = await binance.get("/fapi/v2/account")
    btc = next(p for p in old["positions"] if p["symbol"] == "BTCUSDT")
    assert (btc["leverage"], btc["positionAmt"], btc["isolated"]) == ("10", "0.100", False)


async def test_fees_are_those_of_the_venue(binance: BinanceClient) -> None:
    await binance.control("accounts", api_key="b", api_secret="s", venue="binance")
    client = BinanceClient(binance.url, binance.session, key="b", secret="s")
    rate = await client.get("/fapi/v1/commissionRate", symbol="BTCUSDT")
    assert (rate["takerCommissionRate"], rate["makerCommissionRate"]) == ("0.0005", "0.0002")


async def test_income_tells_commission_profit_and_funding(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.1")
    await binance.control("funding", symbol="BTCUSDT", rate="0.0001")
    await binance.price("67500")
    await binance.market("SELL", "0.1", reduceOnly="true")
    rows: list[dict[str, Any]] = await binance.get("/fapi/v1/income")
    assert [r["incomeType"] for r in rows] == ["COMMISSION", "FUNDING_FEE", "COMMISSION", "REALIZED_PNL"]
    wallet = (await binance.get("/fapi/v3/balance"))[0]
    assert 100_000 + sum(Decimal(r["income"]) for r in rows) == Decimal(wallet["balance"])
    funding = await binance.get("/fapi/v1/income", incomeType="FUNDING_FEE")
    assert [Decimal(r["income"]) for r in funding] == [Decimal("-0.67")]
    assert [t["side"] for t in await binance.get("/fapi/v1/userTrades", symbol="BTCUSDT")] == ["BUY", "SELL"]
