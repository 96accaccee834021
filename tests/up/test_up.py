"""`levelhead up` as a real process with real servers; only api, worker, watcher and simulator are fakes."""

import asyncio
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from app.settings import Settings
from app.up.datadir import DataDir, read_or_make
from app.up.main import check_port_free, keep_port, local_url
from app.up.orphans import Pids, is_alive
from tests.support.stack import free_port
from tests.up.test_supervisor import eventually

_numbers = itertools.count(1)

RUN_UP = Path(__file__).with_name("run_up.py")


class Running:
    """One `levelhead up` and what it has printed."""

    def __init__(self, data: Path, *flags: str) -> None:
        self.place = DataDir(data)
        self.output = data.parent / f"output-{next(_numbers)}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LEVELHEAD_")}
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(RUN_UP), "--data-dir", str(data), *flags],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=data.parent,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    async def started(self) -> None:
        await eventually(lambda: "Stop with Ctrl-C" in self.said or self.process.poll() is not None, 45)
        assert self.process.poll() is None, self.said

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), 30)


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an `up` that doesn't outlive a failed test."""
    made: list[Running] = []

    def make(data: Path, *flags: str) -> Running:
        made.append(Running(data, *flags))
        return made[-1]

    yield make
    for running in made:
        running.process.kill()
        running.process.wait()


def seen(data: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "seen" / name).read_text())
    return found


async def write_something(place: DataDir) -> None:
    connection = await asyncpg.connect(place.database_url().reveal())
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('still here')")
    await connection.close()
    async with redis.asyncio.Redis.from_url(place.redis_url().reveal()) as client:
        await client.set("kept", "still here")
    await asyncio.sleep(1.2)  # Redis writes its file through once a second


async def read_something(place: DataDir) -> tuple[str, str]:
    connection = await asyncpg.connect(place.database_url().reveal())
    word: str = await connection.fetchval("SELECT word FROM kept")
    await connection.close()
    async with redis.asyncio.Redis.from_url(place.redis_url().reveal()) as client:
        return word, (await client.get("kept")).decode()


async def test_a_first_start_then_a_clean_stop_then_a_second_start(tmp_path: Path, start: Start) -> None:
    data, port = tmp_path / "data", free_port()
    first = start(data, "--port", str(port), "--prices", "manual", "--symbol", "ETHUSDT")
    await first.started()

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for secret in ("connection.json", "master.key", "simulator.key", "simulator.secret", "example-alert.json"):
        assert stat.S_IMODE((data / secret).stat().st_mode) == 0o600, secret
    info = json.loads((data / "connection.json").read_text())
    assert list(info) == ["url", "admin_email", "admin_password", "webhook_url", "webhook_secret", "simulator_url"]
    assert info["url"] == f"http://127.0.0.1:{port}"
    await eventually(lambda: "sample posted for ETHUSDT" in first.said)
    assert "a-webhook-secret" not in first.said
    assert "a-password" not in first.said

    simulator = seen(data, "simulator")
    assert simulator["argv"][-4:] == ["--prices", "manual", "--symbol", "ETHUSDT"]
    secret = (data / "simulator.secret").read_text()
    assert simulator["environ"]["SIMULATOR_API_SECRET"] == secret
    assert secret not in " ".join(simulator["argv"])
    assert not any(name.startswith("LEVELHEAD_") for name in simulator["environ"])
    for name in ("migrate", "api", "worker", "watcher"):
        await eventually((data / "seen" / name).exists)  # it writes that down as soon as it runs
        environ = seen(data, name)["environ"]
        assert environ["LEVELHEAD_DATABASE_URL"].startswith("postgresql://")
        assert environ["LEVELHEAD_REDIS_URL"].startswith("unix://")
        assert environ["LEVELHEAD_MASTER_KEY"] == (data / "master.key").read_text()
        assert not any(name.startswith("SIMULATOR_") for name in environ)
    assert seen(data, "worker")["environ"]["LEVELHEAD_SIMULATOR_URL"] == info["simulator_url"]

    await write_something(first.place)
    os.killpg(first.process.pid, signal.SIGINT)
    assert await first.ended() == 0, first.said
    assert "restarted" not in first.said
    assert Pids(first.place.pids).read() == []
    assert not (first.place.postgres / "postmaster.pid").exists()

    second = start(data, "--port", str(port))
    await second.started()
    assert await read_something(second.place) == ("still here", "still here")
    assert json.loads((data / "connection.json").read_text()) == info  # the simulator's port too
    second.process.terminate()
    assert await second.ended() == 0, second.said
    assert "sample posted" not in second.said


async def test_everything_killed_at_once_comes_back_with_its_data(tmp_path: Path, start: Start) -> None:
    data, port = tmp_path / "data", free_port()
    first = start(data, "--port", str(port), "--no-sample")
    await first.started()
    await write_something(first.place)
    children = Pids(first.place.pids).read()
    assert sorted(child.name for child in children) == ["api", "postgres", "redis", "simulator", "watcher", "worker"]
    first.process.kill()
    for child in children:
        with suppress(ProcessLookupError):  # it saw its supervisor go
            os.kill(child.pid, signal.SIGKILL)
    await first.ended()

    second = start(data, "--port", str(port), "--no-sample")
    await second.started()
    assert await read_something(second.place) == ("still here", "still here")
    assert "sample posted" not in second.said

    # A server that dies alone is restarted, and so is what the page runs on.
    for name in ("postgres", "api"):
        before = {child.name: child for child in Pids(second.place.pids).read()}[name]
        os.kill(before.pid, signal.SIGKILL)
        await eventually(lambda name=name: f"{name} was killed by SIGKILL" in second.said)  # type: ignore[misc]
    await eventually(lambda: len(Pids(second.place.pids).read()) == 6)

    third = start(data, "--port", str(free_port()))
    assert await third.ended() == 2
    assert f"Another `levelhead up` (process {second.process.pid}) uses {data}" in third.said
    assert "Traceback" not in third.said

    children = Pids(second.place.pids).read()
    os.killpg(second.process.pid, signal.SIGINT)
    assert await second.ended() == 0, second.said
    assert not any(is_alive(child) for child in children)


async def test_ctrl_c_in_the_middle_of_the_start_is_clean(tmp_path: Path, start: Start) -> None:
    run = start(tmp_path / "data", "--port", str(free_port()))
    await eventually((tmp_path / "data" / "postgres.new").exists, 20)
    os.killpg(run.process.pid, signal.SIGINT)
    assert await run.ended() == 0, run.said
    assert "Traceback" not in run.said
    assert Pids(run.place.pids).read() == []


async def test_a_taken_port_is_one_sentence_that_names_the_flag(tmp_path: Path, start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = start(tmp_path / "data", "--port", str(port))
        assert await run.ended() == 2
    assert f"Port {port} on 127.0.0.1 is in use by another program: choose another with --port." in run.said
    assert len(run.said.splitlines()) == 1
    check_port_free("127.0.0.1", port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
async def test_root_may_run_it_below_a_closed_directory(tmp_path: Path, start: Start) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert all(closed.stat().st_uid == 0 for closed in (closed, tmp_path))
    run = start(closed / "data", "--port", str(free_port()), "--no-sample")
    await run.started()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    children = {child.name: child.pid for child in Pids(run.place.pids).read()}
    assert os.stat(f"/proc/{children['postgres']}").st_uid != 0  # a test may block for a microsecond
    run.process.terminate()
    assert await run.ended() == 0, run.said


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    place = DataDir(tmp_path / ("long" * 30))
    assert place.sockets.parent == Path("/tmp")
    place.make()
    try:
        assert stat.S_IMODE(place.sockets.stat().st_mode) == 0o700
        place.sockets.chmod(0o777)
        with pytest.raises(Exception, match="not a private directory"):
            place.make()
    finally:
        place.sockets.rmdir()


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    kept = tmp_path / "port"
    kept.write_text(f"{free_port()}\n")
    first = keep_port(kept, avoid=1)
    assert keep_port(kept, avoid=1) == first
    assert keep_port(kept, avoid=first) != first
    with socket.socket() as other:
        # The port may have served another test a moment ago.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(kept.read_text())))
        other.listen()
        assert keep_port(kept, avoid=1) != other.getsockname()[1]


def test_a_token_is_made_once(tmp_path: Path) -> None:
    assert read_or_make(tmp_path / "key") == read_or_make(tmp_path / "key")


def test_what_listens_everywhere_is_reached_at_loopback() -> None:
    assert local_url("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert local_url("::", 8000) == "http://[::1]:8000"
    assert local_url("127.0.0.1", 1) == "http://127.0.0.1:1"


def test_a_tool_beside_it_finds_the_servers_of_a_running_one(tmp_path: Path) -> None:
    place = DataDir(tmp_path / "data")
    assert place.complete(Settings()) == Settings()
    place.make()
    for name in (".s.PGSQL.5432", "redis.sock"):
        (place.sockets / name).touch()
    place.simulator_port.write_text("8090\n")
    read_or_make(place.master_key)
    found = place.complete(Settings())
    assert found.database_url == place.database_url()
    assert found.redis_url == place.redis_url()
    assert found.master_key
    assert found.simulator_url == "http://127.0.0.1:8090"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start clears what was left")
async def test_a_killed_one_takes_everything_along_and_leaves_clean_servers(tmp_path: Path, start: Start) -> None:
    run = start(tmp_path / "data", "--port", str(free_port()), "--no-sample")
    await run.started()
    children = Pids(run.place.pids).read()
    run.process.kill()
    await run.ended()
    await eventually(lambda: not any(is_alive(child) for child in children), 10)
    assert not (run.place.postgres / "postmaster.pid").exists()  # it was told, and ended by itself
