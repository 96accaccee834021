"""Faults 51 to 60: what this machine and its servers do to us, on real processes.

Each test has a contract of its own, since all accounts of the simulator see the same prices. Backups, disks, keys
and versions have files of their own.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import redis.asyncio

from app.up.datadir import DataDir
from tests.chaos.support import Chaos, create_path, each, is_sound
from tests.support.desk import Desk, awaited, outcome
from tests.support.stack import Stack

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("heal")]

BOTH = ["watcher", "exchange"]
CONTRACTS = ("RING", "DOWN", "STORE", "FULL", "STALL", "POISON", "OTHER", "CLOCK", "TERM", "NEWER", "BESIDE", "LATER")
SENDER_PATIENCE_S = 3.0
"""After which the sender of an alert hangs up."""


@pytest.fixture(scope="module")
async def desks(chaos: Chaos) -> list[Desk]:
    for name in CONTRACTS:
        await chaos.stack.control(
            "POST", "instruments",
            {"symbol": f"{name}USDT", "tick_size": "0.001", "qty_step": "0.1", "min_qty": "0.1", "max_qty": "100000",
             "max_market_qty": "10000", "start_price": "10"},
        )  # fmt: skip
        await chaos.stack.price(f"{name}USDT", "10")
    return await chaos.both_desks("platform")


@asynccontextmanager
async def tables(stack: Stack) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(DataDir(stack.data_dir).database_url().reveal())
    try:
        yield connection
    finally:
        await connection.close()


async def opened(mine: Desk, symbol: str, qty: str = "30", **more: object) -> dict[str, Any]:
    """A protected long, with its stop at 9.5."""
    await mine.executed(symbol, "buy", size={"base": qty}, **more)
    found: dict[str, Any] = await mine.becomes(symbol, "long", status="open", qty=qty, protected_by=BOTH)
    return found


async def stopped_out(mine: Desk, symbol: str) -> None:
    """Its level was crossed: closed by the watcher, once."""
    await mine.becomes(symbol, status="closed", close_reason="stop_loss")
    await is_sound(mine, symbol)


async def post(mine: Desk, symbol: str, action: str = "buy", **more: object) -> httpx.Response:
    """An alert as its sender posts it, who waits for 3 seconds."""
    body = {"symbol": symbol, "action": action, "id": uuid4().hex, "size": {"base": "30"}, **more}
    url = f"{mine.stack.connection['url']}/webhook/{mine.strategy}/{mine.secret}"
    return await mine.stack.http.post(url, json=body, timeout=SENDER_PATIENCE_S)


async def is_up(stack: Stack, code: int) -> bool:
    return (await stack.http.get(f"{stack.connection['url']}/health/ready")).status_code == code


async def test_51_what_a_flushed_and_restarted_redis_forgot_is_swept_up_by_the_same_processes(
    chaos: Chaos, desks: list[Desk]
) -> None:
    stack, symbol = chaos.stack, "RINGUSDT"
    same = {name: stack.pid(name) for name in ("api", "worker", "watcher")}
    async with chaos.stopped("worker"):
        alerts = [await mine.alert(symbol, "buy", size={"base": "30"}) for mine in desks]
        async with redis.asyncio.Redis.from_url(DataDir(stack.data_dir).redis_url().reveal()) as client:
            assert await client.zcard("levelhead:jobs") >= len(alerts), "they were rung for"
            await client.flushall()
        await chaos.kill("redis")
    for alert_id in alerts:
        await outcome(stack, alert_id, "executed")
    for mine in desks:
        await mine.becomes(symbol, "long", status="open", protected_by=BOTH)
    await stack.price(symbol, "9.49")
    await each(lambda mine: stopped_out(mine, symbol), desks)
    assert {name: stack.pid(name) for name in same} == same, "they came back to it by themselves"


async def test_52_with_redis_down_alerts_are_accepted_in_time_and_carried_out(chaos: Chaos, desks: list[Desk]) -> None:
    stack, symbol = chaos.stack, "DOWNUSDT"
    async with chaos.stopped("redis"):  # worse than dead: it takes connections and does not answer
        answers = await each(lambda mine: post(mine, symbol), desks)
        assert [answer.status_code for answer in answers] == [202, 202]
        for mine in desks:
            await mine.becomes(symbol, "long", status="open", protected_by=BOTH)
    await stack.eventually(lambda: is_up(stack, 200), what="health")
    await stack.price(symbol, "9.49")
    await each(lambda mine: stopped_out(mine, symbol), desks)


async def test_53_while_postgresql_restarts_alerts_get_503_and_everything_resumes(
    chaos: Chaos, desks: list[Desk]
) -> None:
    stack, symbol, later = chaos.stack, "STOREUSDT", "LATERUSDT"
    await each(lambda mine: opened(mine, symbol), desks)
    before = stack.pid("postgres")
    os.kill(before, signal.SIGQUIT)  # as `pg_ctl stop -m immediate`: no farewell, no checkpoint
    mine = desks[0]
    said: list[int] = []
    async with asyncio.timeout(30):
        while 503 not in said or said[-1] != 202:
            said.append((await post(mine, later, "close", id=f"again {len(said)}")).status_code)
    assert set(said) == {202, 503}
    await chaos.is_back("postgres", before)
    await stack.eventually(lambda: is_up(stack, 200), what="health")
    await stack.price(symbol, "9.49")
    await each(lambda mine: stopped_out(mine, symbol), desks)
    alert = await mine.alert(later, "buy", size={"base": "30"})
    await outcome(stack, alert, "executed")


async def test_56_with_a_full_disk_alerts_get_503_nothing_is_opened_and_the_native_stop_holds(
    chaos: Chaos, desks: list[Desk]
) -> None:
    """The server itself says so, as it does when a file can't grow; `test_56_on_a_small_disk` fills a real one."""
    stack, symbol = chaos.stack, "FULLUSDT"
    await each(lambda mine: opened(mine, symbol), desks)
    async with tables(stack) as admin:
        async with full_disk(admin):
            answers = await each(lambda mine: post(mine, symbol, "add"), desks)
            assert [answer.status_code for answer in answers] == [503, 503]
            await stack.price(symbol, "9.3")  # through our level and through the native stop
            await each(lambda mine: mine.becomes_flat(symbol), desks)
    for mine in desks:
        await mine.becomes(symbol, status="closed")
        await is_sound(mine, symbol)
        await mine.executed(symbol, "buy", size={"base": "1"}, stop_loss={"pct": 5})
        await mine.executed(symbol, "close")


@asynccontextmanager
async def full_disk(admin: Any) -> AsyncIterator[None]:
    """Whatever would make a table grow fails."""
    written = ("alerts", "intents", "orders", "fills", "instructions")
    await admin.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END$$"
    )
    for table in written:
        await admin.execute(f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION full_disk()")
    try:
        yield
    finally:
        for table in written:  # one lock at a time
            await admin.execute(f"DROP TRIGGER full_disk ON {table}")
        await admin.execute("DROP FUNCTION full_disk")


async def test_57_a_process_whose_loop_stands_still_is_killed_and_restarted(chaos: Chaos, desks: list[Desk]) -> None:
    stack, symbol = chaos.stack, "STALLUSDT"
    await each(lambda mine: opened(mine, symbol), desks)
    before = {name: stack.pid(name) for name in ("api", "worker", "watcher")}
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    await asyncio.gather(*(chaos.is_back(name, pid) for name, pid in before.items()))
    await stack.eventually(lambda: is_up(stack, 200), what="health")
    for name in before:
        assert f"{name} gives no sign of life for 5 s; it is killed" in stack.output()
    await stack.price(symbol, "9.49")
    await each(lambda mine: stopped_out(mine, symbol), desks)


async def test_58_a_poisoned_job_is_set_aside_with_a_warning_and_others_proceed(
    chaos: Chaos, desks: list[Desk]
) -> None:
    stack, symbol, other, mine = chaos.stack, "POISONUSDT", "OTHERUSDT", desks[0]
    async with tables(stack) as admin:
        # What no reader of ours writes: deciding on it is a bug each time.
        alert_id = await poisoned(mine, symbol, admin)
        waits_behind = await mine.alert(symbol, "sell", size={"base": "30"}, max_age_s=120)
        await opened(mine, other)
        await mine.executed(other, "close")
        alert = await outcome(stack, alert_id, "gave_up")
        assert alert["status"] == "needs_operator"
        await outcome(stack, waits_behind, "executed")
    assert await mine.traded(symbol) == [("Sell", "30")]
    assert any("alert needs_operator" in line and symbol in line for line in stack.output().splitlines())
    await mine.executed(symbol, "close")


async def poisoned(mine: Desk, symbol: str, admin: Any) -> str:
    """An alert whose instruction fails by a bug whenever it is tried."""
    await admin.execute(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        "IF NEW.symbol = 'POISONUSDT' AND NEW.request->'size'->>'value' = '13' THEN NEW.multiplier := 'NaN'; END IF; "
        "RETURN NEW; END$$"
    )
    await admin.execute("CREATE TRIGGER poison BEFORE INSERT ON instructions FOR EACH ROW EXECUTE FUNCTION poison()")
    alert_id = await mine.alert(symbol, "buy", size={"base": "13"}, max_age_s=120)
    await admin.execute("DROP FUNCTION poison CASCADE")
    return alert_id


@pytest.mark.parametrize("skew_ms", [5000, -5000])
async def test_59_a_clock_that_was_set_opens_nothing_until_it_is_right_and_closes(
    chaos: Chaos, desks: list[Desk], skew_ms: int
) -> None:
    """Seen from here: this machine's clock stepped back (the exchange's is ahead), or forth."""
    symbol = "CLOCKUSDT"
    await chaos.stack.price(symbol, "10")
    await each(lambda mine: opened(mine, symbol), desks)
    await chaos.fault("clock_skew", ms=skew_ms)

    async def meanwhile(mine: Desk) -> None:
        alert = await outcome(mine.stack, await mine.alert(symbol, "add", size={"base": "10"}), "clock_drift")
        assert ("behind" if skew_ms > 0 else "ahead of") in alert["outcome"]["reason"]
        await mine.executed(symbol, "reduce", size={"base": "10"})

    async def afterwards(mine: Desk) -> None:
        await mine.stack.eventually(lambda: _opens(mine, symbol), what="openings once the clock is right")
        await mine.executed(symbol, "close")
        await mine.becomes_flat(symbol)

    await each(meanwhile, desks)
    await chaos.clear_faults()
    await each(afterwards, desks)


async def _opens(mine: Desk, symbol: str) -> bool:
    alert = await outcome(mine.stack, await mine.alert(symbol, "add", size={"base": "10"}))
    return bool(alert["outcome"]["code"] == "executed")


async def test_60_a_worker_that_is_asked_to_stop_in_mid_send_finishes_first(chaos: Chaos, desks: list[Desk]) -> None:
    stack, symbol = chaos.stack, "TERMUSDT"
    for mine in desks:
        await chaos.fault("delay_answer", ms=1500, path=create_path(mine), symbol=symbol)
    alerts = [await mine.alert(symbol, "buy", size={"base": "30"}) for mine in desks]
    await each(lambda mine: awaited(stack, lambda: mine.traded(symbol), "the opening at the exchange"), desks)
    before = stack.pid("worker")
    os.kill(before, signal.SIGTERM)
    await chaos.is_back("worker", before)
    for alert_id in alerts:
        alert = await outcome(stack, alert_id, "executed")
        assert "resumed" not in alert["marks"], "whoever sent it has finished it"
    assert "worker exited with code 0" in stack.output()
    for mine in desks:
        await is_sound(mine, symbol)
        await mine.executed(symbol, "close")
