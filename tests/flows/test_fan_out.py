"""One alert for several accounts: side by side, each with its own size and its own outcome."""

import asyncio
from decimal import Decimal

from app.flows.execute import execute_alert
from app.store.strategies import AccountShare
from tests.support.house import House, both_roads, eventually

D = Decimal
LONG = {"symbol": "BTCUSDT.P", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


async def outcomes(house: House) -> dict[str, tuple[str, str]]:
    found = await house.rows(
        "SELECT a.name, i.status, i.outcome_code FROM instructions i JOIN accounts a ON a.id = i.account_id"
    )
    return {row["name"]: (row["status"], row["outcome_code"]) for row in found}


async def held(house: House) -> dict[str, Decimal]:
    found = await house.rows("SELECT a.name, p.qty FROM positions p JOIN accounts a ON a.id = p.account_id")
    return {row["name"]: row["qty"] for row in found}


async def test_each_account_gets_its_multiple_and_its_own_outcome(house: House) -> None:
    binance = await house.add_account("b-account-1", "binance")
    poor = await house.add_account("poor-account", "bybit", balance="1")
    await house.add_strategy(
        "all",
        [
            AccountShare(account_id=house.account_id),
            AccountShare(account_id=binance, multiplier=D("2.5")),
            AccountShare(account_id=poor),
        ],
    )
    receipt = await house.send(LONG, strategy="all")
    await execute_alert(house.resources, house.worker, "BTCUSDT", [house.account_id, binance, poor])
    assert await outcomes(house) == {
        "paper": ("done", "executed"),
        "b-account-1": ("done", "executed"),
        "poor-account": ("refused", "venue_refused"),
    }
    assert await held(house) == {"paper": D("0.01"), "b-account-1": D("0.025")}
    outcome = await house.outcome(receipt.alert_id)
    assert outcome["status"] == "refused", "the gravest of the three, and the reason counts them"
    assert outcome["reason"].startswith("2 of 3 accounts done"), outcome


@both_roads
async def test_an_account_whose_exchange_hangs_does_not_hold_up_the_others(house: House) -> None:
    binance = await house.add_account("b-account-1", "binance")
    await house.add_strategy("all", [AccountShare(account_id=house.account_id), AccountShare(account_id=binance)])
    await house.fault("delay_answer", ms=4000, path="/v5/order/create")
    await house.send(LONG, strategy="all")
    working = asyncio.create_task(execute_alert(house.resources, house.worker, "BTCUSDT", [house.account_id, binance]))

    async def other_done() -> bool:
        return (await outcomes(house))["b-account-1"] == ("done", "executed")

    await eventually(other_done)
    assert (await outcomes(house))["paper"][0] == "executing"
    working.cancel()
