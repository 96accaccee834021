"""The supervisor, with tiny Python scripts as services."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.up import supervisor as module
from app.up.orphans import Child, Pids, born, is_alive
from app.up.supervisor import Service, StartFailed, Supervisor, last_line, rotate

SLEEP = "import time; time.sleep(600)"


async def at_once() -> bool:
    return True


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return os.path.exists(path)  # noqa: ASYNC240  # a test may block for a microsecond

    return check


def script(name: str, source: str, **more: object) -> Service:
    defaults: dict[str, object] = {"ready": at_once, "ready_timeout_s": 10.0, "stop": ((signal.SIGTERM, 5.0),)}
    return Service(name=name, argv=[sys.executable, "-c", source], env={"PATH": os.defpath}, **defaults | more)  # type: ignore[arg-type]


def touching(path: Path, then: str = SLEEP) -> str:
    return f"open({str(path)!r}, 'a').write('x'); {then}"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def pids(tmp_path: Path) -> Pids:
    return Pids(tmp_path / "pids.json")


def children(tmp_path: Path) -> dict[str, int]:
    return {child.name: child.pid for child in Pids(tmp_path / "pids.json").read()}


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_each_group_is_ready_before_the_next_starts_and_stops_in_reverse(
    tmp_path: Path, pids: Pids, said: list[str]
) -> None:
    order = tmp_path / "order"
    note = (
        "import signal, sys, time, pathlib\n"
        "def note(word):\n"
        f"    open({str(order)!r}, 'a').write(word + '\\n')\n"
        "def stop(*_):\n"
        "    note('-' + name); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "time.sleep(0.3); note('+' + name)\n"
        f"pathlib.Path({str(tmp_path)!r}, name).touch()\n"
        "time.sleep(600)\n"
    )
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(script("first", f"name = 'first'\n{note}", ready=exists(tmp_path / "first")))
        await supervisor.start(script("second", f"name = 'second'\n{note}", ready=exists(tmp_path / "second")))
    assert order.read_text().split() == ["+first", "+second", "-second", "-first"]
    assert said == []
    assert children(tmp_path) == {}


async def test_what_dies_is_restarted_later_each_time_and_said(tmp_path: Path, pids: Pids, said: list[str]) -> None:
    starts = tmp_path / "starts"
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(script("brittle", touching(starts, "import sys; sys.exit(3)")))
        await eventually(lambda: len(said) >= 3)
        assert len(starts.read_text()) >= 3
    assert said[0].startswith("brittle exited with code 3 after ")
    assert [line.rpartition(" in ")[2] for line in said[:3]] == ["0.2 s", "0.4 s", "0.8 s"]


async def test_the_pause_is_short_again_after_a_healthy_life(
    pids: Pids, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEALTHY_AFTER_S", 0.0)
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(script("long-lived", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
        await eventually(lambda: len(said) >= 2)
    assert "was killed by SIGKILL" in said[0]
    assert all(line.endswith("it is restarted in 0.2 s") for line in said)


async def test_a_start_that_can_never_work_is_not_tried_again(tmp_path: Path, pids: Pids, said: list[str]) -> None:
    log = tmp_path / "logs" / "hopeless.log"
    source = "import sys; print('port 80 is taken', flush=True); sys.exit(2)"
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        with pytest.raises(StartFailed, match="hopeless could not start: port 80 is taken"):
            await supervisor.start(script("hopeless", source, ready=exists(tmp_path / "never"), log=log))
    assert said == []


async def test_a_start_that_takes_too_long_says_so(tmp_path: Path, pids: Pids, said: list[str]) -> None:
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        with pytest.raises(StartFailed, match=r"slow was not ready within 0.3 s"):
            await supervisor.start(script("slow", SLEEP, ready=exists(tmp_path / "never"), ready_timeout_s=0.3))


async def test_a_stopped_process_is_found_out_and_replaced(
    tmp_path: Path, pids: Pids, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALIVE_POLL_S", 0.05)
    beat = tmp_path / "beat"
    source = f"import time, pathlib\nwhile True: pathlib.Path({str(beat)!r}).touch(); time.sleep(0.02)"

    async def alive() -> bool:
        return beat.exists() and time.time() - beat.stat().st_mtime < 0.5

    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(script("stalled", source, ready=alive, alive=alive, alive_timeout_s=0.5))
        first = children(tmp_path)["stalled"]
        os.kill(first, signal.SIGSTOP)
        await eventually(lambda: children(tmp_path).get("stalled", first) != first)
        await eventually(beat.exists)
    assert said[0].startswith("stalled shows no life for 0.5 s")
    assert "was killed by SIGKILL" in said[1]


async def test_one_that_gives_no_sign_of_life_any_more_is_replaced(tmp_path: Path, pids: Pids, said: list[str]) -> None:
    """The one after it is judged by its own signs, and one that never gave any has its own time for the first."""
    source = (
        "import os, socket, time\n"
        "at = os.environ['NOTIFY_SOCKET']\n"
        "said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "while True: said.sendto(b'WATCHDOG=1', at); time.sleep(0.02)"
    )
    beats = {"beat_timeout_s": 0.5, "first_beat_timeout_s": 20.0}
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(
            script("beating", source, beats_at=tmp_path / "one.beat", **beats),
            script("mute", SLEEP, beats_at=tmp_path / "two.beat", **beats | {"first_beat_timeout_s": 0.5}),
        )
        await eventually(lambda: len(said) >= 2)
        first = children(tmp_path)["beating"]
        os.kill(first, signal.SIGSTOP)
        await eventually(lambda: children(tmp_path).get("beating", first) != first)
    assert said[0] == "mute gives no sign of life for 0.5 s; it is killed"
    assert "beating gives no sign of life for 0.5 s; it is killed" in said
    assert not (tmp_path / "one.beat").exists()


async def test_one_that_will_not_stop_is_killed_after_its_time(pids: Pids, said: list[str], tmp_path: Path) -> None:
    source = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {touching(tmp_path / 'up')}"
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(script("deaf", source, ready=exists(tmp_path / "up"), stop=((signal.SIGTERM, 0.3),)))
    assert said == ["deaf does not stop when asked; it is killed"]


async def test_children_get_our_environment_only_as_given(tmp_path: Path, pids: Pids, said: list[str]) -> None:
    found = tmp_path / "environment"
    source = f"import os; open({str(found)!r}, 'w').write(' '.join(sorted(os.environ))); {SLEEP}"
    async with Supervisor(pids=pids, say=said.append) as supervisor:
        await supervisor.start(script("bare", source, ready=exists(found)))
        await eventually(lambda: "PATH" in found.read_text())
    assert set(found.read_text().split()) <= {"PATH", "LC_CTYPE"}  # Python itself adds LC_CTYPE


SUPERVISOR = """
import asyncio, os, signal, sys
from pathlib import Path
from app.up.orphans import Pids
from app.up.supervisor import Service, Supervisor
async def ready(): return True
def service(name, source):
    return Service(name=name, argv=[sys.executable, "-c", source], env={}, ready=ready, stop=((signal.SIGTERM, 30.0),))
async def main():
    async with Supervisor(pids=Pids(Path(sys.argv[1])), say=print) as supervisor:
        supervisor.listen_to_signals()
        await supervisor.start(service("one", sys.argv[2]), service("two", "import time; time.sleep(600)"))
        print("started", flush=True)
        await supervisor.stop_asked.wait()
asyncio.run(main())
"""


async def start_supervisor(tmp_path: Path, source: str = SLEEP) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SUPERVISOR, str(tmp_path / "pids.json"), source),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20) == b"started\n"
    return process


def left(tmp_path: Path) -> list[Child]:
    return Pids(tmp_path / "pids.json").read()


async def test_ctrl_c_reaches_the_supervisor_alone_and_ends_cleanly(tmp_path: Path) -> None:
    process = await start_supervisor(tmp_path)
    before = left(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert len(before) == 2
    assert not any(is_alive(child) for child in before)


async def test_a_second_ctrl_c_kills(tmp_path: Path) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {touching(tmp_path / 'up')}"
    process = await start_supervisor(tmp_path, deaf)
    await eventually((tmp_path / "up").exists)
    process.send_signal(signal.SIGINT)
    await asyncio.sleep(0.3)
    assert process.returncode is None
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert not any(is_alive(child) for child in left(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start clears what was left")
async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    process = await start_supervisor(tmp_path)
    before = left(tmp_path)
    process.kill()
    await process.wait()
    await eventually(lambda: not any(is_alive(child) for child in before), 5)
    assert len(before) == 2


async def test_what_a_killed_one_left_is_cleared_and_a_stranger_with_its_pid_is_not(
    tmp_path: Path, said: list[str]
) -> None:
    ours = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEP)
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEP)
    pids = Pids(tmp_path / "pids.json")
    pids.add(ours.pid, "ours")
    pids.write([*pids.read(), Child(stranger.pid, "another boot 12345", "stranger")])
    await Pids(tmp_path / "pids.json").clear_left_behind(said.append, patience_s=2)
    assert await asyncio.wait_for(ours.wait(), 5) == -signal.SIGTERM
    assert stranger.returncode is None
    assert "ours" in said[0]
    assert "stranger" not in said[0]
    stranger.kill()
    await stranger.wait()
    assert born(stranger.pid) is None


def test_a_long_log_is_moved_aside_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 10)
    log = tmp_path / "logs" / "some.log"
    rotate(log)
    log.write_text("a long enough line\n")
    rotate(log)
    assert not log.exists()
    assert last_line(log.with_suffix(".1.log")) == "a long enough line"
    assert last_line(log) == "no output"
