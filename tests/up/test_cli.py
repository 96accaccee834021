"""The command line: quick, and what a person can mend is one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.up import doctor
from tests.support.servers import Servers

HEAVY = ("asyncpg", "litestar", "redis", "arq", "httpx", "aiohttp", "cryptography", "pybit", "binance")


def levelhead(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=tmp_path,
        env={"PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = levelhead(tmp_path, "--help")
    assert shown.returncode == 0
    for command in ("up", "api", "worker", "watcher", "simulator", "migrate", "doctor"):
        assert f"\n    {command} " in shown.stdout or f"\n    {command}\n" in shown.stdout


def test_the_command_line_imports_nothing_heavy(tmp_path: Path) -> None:
    source = f"import sys, app.cli; print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["migrate"], {}, "LEVELHEAD_DATABASE_URL is not set: write"),
        (["up"], {"LEVELHEAD_PORT": "many"}, "LEVELHEAD_PORT must be a whole number"),
        (["doctor"], {"LEVELHEAD_PRT": "1"}, "did you mean LEVELHEAD_PORT?"),
        (["up", "--host", "no.such.host.invalid"], {}, "choose another with --host"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], says: str
) -> None:
    shown = levelhead(tmp_path, *arguments, **environ)
    assert shown.returncode == 2
    assert says in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert shown.stderr.startswith(f"levelhead {arguments[0]}: ")


def test_a_flag_of_another_command_is_refused(tmp_path: Path) -> None:
    shown = levelhead(tmp_path, "api", "--port", "80")
    assert shown.returncode == 2
    assert "unrecognized arguments: --port 80" in shown.stderr
    assert "'99999' is not a port" in levelhead(tmp_path, "up", "--port", "99999").stderr


def test_the_doctor_is_not_told_to_trade_by_half(tmp_path: Path) -> None:
    for flag in ("--mainnet", "--yes-trade-minimum"):
        shown = levelhead(tmp_path, "doctor", flag)
        assert (shown.returncode, "belong to --live" in shown.stderr) == (2, True)
    shown = levelhead(tmp_path, "doctor", "--symbol", "BTCUSD.P")
    assert shown.returncode == 2
    assert "is not a USDT perpetual" in shown.stderr
    shown = levelhead(tmp_path, "doctor", "--live", "--yes-trade-minimum")
    assert shown.returncode == 1
    assert "FAIL accounts   can't be looked at: LEVELHEAD_DATABASE_URL is not set" in shown.stdout


def test_the_simulator_gets_its_flags_and_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "simulator").mkdir()  # a stranger's directory of that name is not ours
    (tmp_path / "simulator" / "__main__.py").write_text("raise SystemExit('the wrong one')")
    shown = levelhead(tmp_path, "simulator", "--help")
    assert "the wrong one" not in shown.stderr + shown.stdout
    assert "--prices" in shown.stdout


async def test_doctor_says_what_is_well_and_what_to_mend(running_servers: Servers, database_url: str) -> None:
    from app.settings import Secret, Settings

    well = Settings(database_url=Secret(database_url), redis_url=Secret(running_servers.redis_url))
    assert (await doctor._check_database(well)).startswith("PostgreSQL ")
    assert (await doctor._check_migrations(well)) == "up to date"
    assert (await doctor._check_redis(well)).startswith("Redis ")
    assert "between here and the database" in await doctor._check_clock(well)
    ill = Settings(
        database_url=Secret("postgresql://127.0.0.1:1/none"),
        redis_url=Secret("redis://127.0.0.1:1"),
        simulator_url="http://127.0.0.1:1",
    )
    for check in (doctor._check_database, doctor._check_redis, doctor._check_simulator):
        with pytest.raises(doctor.Failed, match=r"127\.0\.0\.1|can't be reached"):
            await check(ill)
    with pytest.raises(doctor.Failed, match="is not set: write"):
        await doctor._check_settings(ill)


def test_doctor_fails_as_a_whole_if_anything_does(tmp_path: Path) -> None:
    shown = levelhead(tmp_path, "doctor", LEVELHEAD_PORT="1")
    assert shown.returncode == 1
    lines = {line.split()[1]: line for line in shown.stdout.splitlines()}
    assert list(lines) == [
        "settings",
        "database",
        "migrations",
        "clock",
        "redis",
        "disk",
        "simulator",
        "api",
        "accounts",
    ]
    assert lines["database"].startswith("FAIL")
    assert lines["simulator"].startswith("ok")
    assert lines["accounts"].startswith("?")
    assert shown.stderr == ""
