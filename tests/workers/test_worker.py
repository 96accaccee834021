"""The worker process: rung by Redis, swept without it, resumed after a death."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from uuid import UUID

import pytest

from app.ids import new_id
from app.store import inbox, leases
from tests.support.house import House, eventually
from workers import worker as worker_module
from workers.worker import Process

D = Decimal
LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}


@asynccontextmanager
async def working(house: House) -> AsyncIterator[Process]:
    process = Process(house.resources)
    task = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ended(house: House, alert_id: UUID) -> None:
    async def check() -> bool:
        return (await house.outcome(alert_id))["status"] not in ("received", "executing")

    await eventually(check, what="the alert's end")


async def test_a_ring_wakes_the_worker_without_a_poll(house: House) -> None:
    worker_module_poll, worker_module.POLL_S = worker_module.POLL_S, 3600.0
    sweep, worker_module.SWEEP_S = worker_module.SWEEP_S, 3600.0
    try:
        async with working(house):
            receipt = await house.send({**LONG})
            await ended(house, receipt.alert_id)
    finally:
        worker_module.POLL_S, worker_module.SWEEP_S = worker_module_poll, sweep
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"


async def test_the_sweep_finds_what_redis_forgot(house: House) -> None:
    receipt = await house.send({**LONG})
    await house.resources.redis.flushdb()
    async with working(house):
        await ended(house, receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"


async def test_no_job_outlives_its_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What still ran would take a new connection to Redis after the last was closed."""
    forgetting = asyncio.Event()

    async def forget(*_: object) -> None:
        forgetting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(worker_module, "forget", forget)
    before = asyncio.all_tasks()
    async with working(house):
        await house.send({**LONG})
        await forgetting.wait()
    left = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks() - before}
    assert "WokenWorker._begin" not in left


async def test_a_dead_workers_book_is_taken_over_when_its_lease_has_run_out(house: House) -> None:
    receipt = await house.send({**LONG})
    dead = new_id()
    await leases.acquire(house.resources.pool, f"worker:{dead}", dead, ttl_s=1.0)
    book, _ = await inbox.take(house.resources.pool, house.account_id, "ETHUSDT", dead)
    assert book is not None
    await house.resources.pool.execute("UPDATE books SET symbol = 'BTCUSDT'")
    async with working(house):
        await ended(house, receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"
    assert len(await house.sent()) == 1


async def test_alerts_of_one_book_run_in_the_order_of_their_arrival(house: House) -> None:
    first = await house.send({**LONG})
    second = await house.send({"symbol": "BTCUSDT", "action": "reverse", "size": {"base": "0.02"}, **_stop()})
    third = await house.send({"symbol": "BTCUSDT", "action": "close"})
    await house.resources.redis.flushdb()
    async with working(house):
        for receipt in (third, second, first):
            await ended(house, receipt.alert_id)
    sides = [(r["body"]["side"], r["body"]["qty"]) for r in await house.sent()]
    assert sides == [("Buy", "0.01"), ("Sell", "0.01"), ("Sell", "0.02"), ("Buy", "0.02")]


async def test_books_run_side_by_side(house: House) -> None:
    for symbol, price in (("ETHUSDT", "3000"), ("SOLUSDT", "150")):
        await house.price(price, symbol=symbol)
    async with working(house):
        receipts = [
            await house.send({**LONG, "symbol": symbol, "size": {"quote": "300"}})
            for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        ]
        for receipt in receipts:
            await ended(house, receipt.alert_id)
    assert {(await house.outcome(r.alert_id))["code"] for r in receipts} == {"executed"}


async def test_a_poisoned_instruction_is_set_aside_and_the_next_proceeds(house: House) -> None:
    poisoned = await house.send({**LONG})
    good = await house.send({**LONG, "action": "buy"}, strategy=None)
    assert good.duplicate
    await house.resources.pool.execute(
        """UPDATE instructions SET request = '{"symbol": 7}' WHERE cause_id = $1""", poisoned.alert_id
    )
    other = await house.send({"symbol": "BTCUSDT", "action": "close"})
    async with working(house):
        await eventually(lambda: _rushed(house, other.alert_id), within_s=30, what="the alert behind the poisoned one")
    assert (await house.outcome(poisoned.alert_id))["code"] == "gave_up"
    assert (await house.outcome(other.alert_id))["code"] == "nothing_to_do"


async def _rushed(house: House, alert_id: UUID) -> bool:
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    return (await house.outcome(alert_id))["status"] not in ("received", "executing")


def _stop() -> dict[str, object]:
    return {"stop_loss": {"pct": 1}}
