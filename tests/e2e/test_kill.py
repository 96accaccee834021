"""Each process killed in the middle of an alert's life: the life completes, and no order is doubled."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack, up

pytestmark = pytest.mark.timeout(180)

# One book for each, so that one failure does not hide another.
VICTIMS = {
    "api": "BTCUSDT",
    "worker": "ETHUSDT",
    "watcher": "SOLUSDT",
    "redis": "XRPUSDT",
    "postgres": "LINKUSDT",
}


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with up(tmp_path_factory.mktemp("kill") / "data", "--no-sample", "--prices", "manual") as running:
        yield running


async def ledger(stack: Stack, symbol: str) -> dict[str, Any]:
    found: dict[str, Any] = await stack.control("GET", f"ledger?symbol={symbol}")
    return found


async def held(stack: Stack, symbol: str) -> str:
    for row in (await ledger(stack, symbol))["positions"]:
        if row["symbol"] == symbol:
            return str(row["side"])
    return "flat"


async def is_held(stack: Stack, symbol: str, side: str) -> bool:
    return await held(stack, symbol) == side


async def alert_ended(stack: Stack, alert_id: str) -> bool:
    return (await stack.get(f"/alerts/{alert_id}"))["status"] not in ("received", "executing")


async def position_of(stack: Stack, symbol: str) -> dict[str, Any] | None:
    items = (await stack.get(f"/positions?symbol={symbol}"))["items"]
    return items[0] if items else None


async def check_protected(stack: Stack, symbol: str) -> bool:
    position = await position_of(stack, symbol)
    return position is not None and set(position["protected_by"]) == {"watcher", "exchange"}


async def check_closed(stack: Stack, symbol: str) -> bool:
    position = await position_of(stack, symbol)
    return position is not None and position["status"] == "closed"


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_life_completes_although_a_process_is_killed_twice(stack: Stack, victim: str) -> None:
    symbol = VICTIMS[victim]
    await stack.price(symbol, "100")
    # The exchange takes its time to answer, so that the kill falls between the order and its answer.
    slow = {"fault": "delay_answer", "ms": 1000, "path": "/v5/order/create", "symbol": symbol}
    await stack.control("POST", "faults", slow)
    answer = await stack.post(
        {"symbol": symbol, "action": "buy", "size": {"quote": "1000"}, "stop_loss": {"pct": 5}, "id": f"kill-{victim}"}
    )
    assert answer.status_code == 202, answer.text
    alert_id = answer.json()["alert_id"]
    await stack.eventually(lambda: is_held(stack, symbol, "long"), what="the opening at the exchange")
    stack.kill(victim)

    await stack.eventually(lambda: alert_ended(stack, alert_id), what="the alert's end")
    assert (await stack.get(f"/alerts/{alert_id}"))["outcome"]["code"] == "executed"
    await stack.eventually(lambda: check_protected(stack, symbol), what="both protections")

    await stack.control("POST", "faults", slow)
    await stack.price(symbol, "94.9")
    await stack.eventually(lambda: is_held(stack, symbol, "flat"), what="the close at the exchange")
    stack.kill(victim)
    await stack.eventually(lambda: check_closed(stack, symbol), what="the close in our books")
    await stack.eventually(lambda: check_ready(stack), what="health")

    position = await position_of(stack, symbol)
    assert position is not None
    assert position["close_reason"] == "stop_loss"
    found = await ledger(stack, symbol)
    taken = [(o["side"], o["reduce_only"]) for o in found["orders"] if Decimal(o["filled_qty"]) > 0]
    assert taken == [("Buy", False), ("Sell", True)], "one opening, one close, nothing doubled"
    assert Decimal(position["qty"]) == 0


async def check_ready(stack: Stack) -> bool:
    return (await stack.http.get(f"{stack.connection['url']}/health/ready")).status_code == 200


async def test_after_a_power_cut_the_life_goes_on(tmp_path: Path) -> None:
    data, symbol = tmp_path / "data", "BTCUSDT"
    async with up(data, "--no-sample", "--prices", "manual") as stack:
        await stack.price(symbol, "60000")
        answer = await stack.post(
            {"symbol": symbol, "action": "sell", "size": {"base": "0.1"}, "stop_loss": {"pct": 1}}
        )
        alert_id = answer.json()["alert_id"]
        await stack.eventually(lambda: alert_ended(stack, alert_id), what="the alert's end")
        # What the simulator remembers of a power cut is what it has written; give it the time of one save.
        await stack.eventually(lambda: _saved(data, symbol), what="the simulator's state on disk")
        await stack.kill_everything()
    async with up(data, "--no-sample", "--prices", "manual") as stack:
        await stack.eventually(lambda: check_protected(stack, symbol), what="both protections again")
        await stack.price(symbol, "60600")
        await stack.eventually(lambda: check_closed(stack, symbol), what="the stop")
        position = await position_of(stack, symbol)
        assert position is not None
        assert position["close_reason"] == "stop_loss"


async def _saved(data: Path, symbol: str) -> bool:
    text = (data / "simulator.json").read_text() if (data / "simulator.json").exists() else ""
    return "StopLoss" in text or "stop_loss" in text
