"""How many alerts a second one api process takes durably: authenticated, read, deduplicated, committed, rung for.

Beside it, in turn and on the same core, handlers that do nothing: Flask under a gunicorn sync worker, FastAPI under
uvicorn, and our own framework served as our api is. PostgreSQL (fsync on), Redis and the senders share the other core.
No worker runs: what is measured is the door.
"""

import asyncio
import os
import shutil
import statistics
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from app.keys import new_secret
from app.resources import Resources, open_resources
from app.settings import Settings, handed_on, to_environ
from app.store.accounts import VenueName
from app.store.migrate import migrate
from app.up.datadir import DataDir, read_or_make
from app.up.orphans import Child
from app.up.supervisor import Service
from bench.environment import install
from bench.load import Load, Order
from bench.report import aimed
from bench.stack import HOST, STRATEGY, answers, free_ports, furnish, servers
from bench.up import with_children

OURS, FRAMEWORK, FASTAPI, FLASK = "levelhead", "litestar", "fastapi", "flask"
SERVERS: Final = {
    FLASK: "Flask, gunicorn sync worker, empty",
    FASTAPI: "FastAPI, uvicorn, empty",
    FRAMEWORK: "Litestar as our api is served, empty",
    OURS: "durable accepts",
}
RIVALS: Final = ("flask==3.1.2", "gunicorn==23.0.0", "fastapi==0.121.2", "uvicorn[standard]==0.38.0")
CONNECTIONS: Final = (16, 64)
WARM_UP_S: Final = 0.5
RATE: Final = 200.0
RATE_CONNECTIONS: Final = 16
AIMS: Final = {FLASK: 2.0, FRAMEWORK: 0.5}  # at least so many times its requests
P99_AIM_MS: Final = 50.0
BODY: Final = {"action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": "1.5"}, "take_profit": [{"pct": "3"}]}


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One server loaded for a while. `cpu_us`: its own, per request; less disturbed by what else the machine does."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Turns by connections and server, and the senders that send when it is due."""

    turns: dict[int, dict[str, list[Turn]]]
    at_rate: Load

    def rate(self, connections: int, server: str) -> float:
        return statistics.median(turn.rate for turn in self.turns[connections][server])

    def ratio(self, connections: int, beside: str) -> float:
        return self.rate(connections, OURS) / self.rate(connections, beside)


class House(msgspec.Struct, frozen=True, kw_only=True):
    """All servers run; `ports` and `pids` by their names."""

    resources: Resources
    secret: str
    ports: Mapping[str, int]
    pids: Mapping[str, int]


async def measure(rounds: int, seconds: float, folder: Path | None) -> Measured:
    """Raises NotInstalled."""
    python = install("door", *RIVALS, size="some 30 MB")
    found: dict[int, dict[str, list[Turn]]] = {number: {name: [] for name in SERVERS} for number in CONNECTIONS}
    async with _running(python, folder) as house:
        for turn in range(rounds):
            for connections, of in found.items():
                for name in SERVERS:
                    order = _order(house, name, f"{turn}-{connections}", connections, seconds)
                    of[name].append(await _turn(name, house.pids[name], order))
        at_rate = await load(_order(house, OURS, "paced", RATE_CONNECTIONS, 2 * seconds, RATE))
        stored = await house.resources.pool.fetchval("SELECT count(*) FROM alerts")
        assert stored > 0
    return Measured(turns=found, at_rate=at_rate)


def _order(house: House, name: str, tag: str, connections: int, seconds: float, rate: float | None = None) -> Order:
    return Order(
        url=f"http://{HOST}:{house.ports[name]}",
        path=f"/webhook/{STRATEGY}",
        body={"secret": house.secret, **BODY},
        connections=connections,
        seconds=seconds,
        warm_up_s=WARM_UP_S,
        rate=rate,
        tag=tag,
    )


async def load(order: Order) -> Load:
    """Send until the end of the order."""
    async with loading(order) as senders:
        told, _ = await senders.communicate()
    if senders.returncode:
        raise RuntimeError(f"the senders ended with {senders.returncode}")
    return msgspec.json.decode(told, type=Load)


@asynccontextmanager
async def loading(order: Order) -> AsyncIterator[asyncio.subprocess.Process]:
    """Senders in a process of its own, on the second core if there is one."""
    argv = on_core(1, sys.executable, "-m", "bench.load", msgspec.json.encode(order).decode())
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _turn(name: str, pid: int, order: Order) -> Turn:
    before = _cpu_s(pid)
    done = await load(order)
    cpu_s = _cpu_s(pid) - before
    if set(done.statuses) != {202}:
        raise RuntimeError(f"{name} answered {done.statuses}, and cut {done.cut} off")
    assert done.latency is not None
    warm = 1 + order.warm_up_s / order.seconds  # what is not counted took its time as well
    return Turn(
        rate=done.rate,
        cpu_us=cpu_s / (done.answered * warm) * 1e6,
        p50_ms=done.latency.p50,
        p99_ms=done.latency.p99,
    )


def on_core(core: int, *argv: str) -> list[str]:
    """The command, kept on one core; as it is where there is only one, or no taskset."""
    taskset = shutil.which("taskset")
    if taskset is None or (os.cpu_count() or 1) <= core:
        return list(argv)
    return [taskset, "-c", str(core), *argv]


def _cpu_s(pid: int) -> float:
    """What a process and its children have used."""
    ticks = 0
    for one in with_children(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def _running(python: Path, folder: Path | None) -> AsyncIterator[House]:
    async with servers(folder, partial(_pinned, 1)) as (place, supervisor):
        ports = dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True))
        settings = Settings(
            database_url=place.database_url(),
            redis_url=place.redis_url(),
            master_key=read_or_make(place.master_key),
            host=HOST,
            port=ports[OURS],
        )
        await migrate(settings.database_url.reveal())
        async with open_resources(settings) as resources:
            secret = new_secret()
            await furnish(resources, secret, VenueName.BYBIT)  # which is never asked
            environ = handed_on() | to_environ(settings)
            await supervisor.start(*(_server(name, python, ports[name], environ, place) for name in SERVERS))
            children = msgspec.json.decode(place.pids.read_bytes(), type=list[Child])
            pids = {child.name: child.pid for child in children}
            yield House(resources=resources, secret=secret, ports=ports, pids=pids)


def _server(name: str, python: Path, port: int, environ: Mapping[str, str], place: DataDir) -> Service:
    here = Path(__file__).parent
    argv: Sequence[str] = {
        FLASK: [str(python), "-m", "gunicorn", "-k", "sync", "-w", "1", "-b", f"{HOST}:{port}",
                "--chdir", str(here), "bare_flask:app"],
        FASTAPI: [str(python), "-m", "uvicorn", "--host", HOST, "--port", str(port), "--no-access-log",
                  "--log-level", "warning", "--app-dir", str(here), "bare_fastapi:app"],
        FRAMEWORK: [sys.executable, "-m", "bench.bare_litestar", str(port)],
        OURS: [sys.executable, "-m", "app.cli", "api"],
    }[name]  # fmt: skip

    async def ready() -> bool:
        return await answers(f"http://{HOST}:{port}", "/health/live", ok=200 if name == OURS else 404)

    service = Service(name=name, argv=argv, env=environ, ready=ready, log=place.logs / f"{name}.log")
    return _pinned(0, service)


def _pinned(core: int, service: Service) -> Service:
    return msgspec.structs.replace(service, argv=on_core(core, *service.argv))


def told(found: Measured) -> str:
    width = max(map(len, SERVERS.values()))
    lines = []
    for connections, of in found.turns.items():
        lines.append(f"door, {connections} connections {'':{width - 16}} requests/s   CPU µs       p50     p99 ms")
        for name, turns in of.items():
            middle = {
                field: statistics.median(getattr(turn, field) for turn in turns) for field in Turn.__struct_fields__
            }
            lines.append(
                f"  {SERVERS[name]:{width}} {middle['rate']:12,.0f} {middle['cpu_us']:8.0f}"
                f" {middle['p50_ms']:9.2f} {middle['p99_ms']:10.2f}"
            )
        for beside, aim in AIMS.items():
            ratio = aimed(found.ratio(connections, beside), aim, " ×", least=True)
            lines.append(f"  durable accepts beside {beside}: {ratio}")
    latency = found.at_rate.latency
    assert latency is not None
    lines.append(
        f"door at {RATE:g} alerts/s, from when each is due: p50 {latency.p50:.2f} ms, "
        f"p99 {aimed(latency.p99, P99_AIM_MS, ' ms')}, max {latency.max:.1f} ms, {latency.n} alerts"
    )
    return "\n".join(lines)
