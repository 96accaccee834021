"""NautilusTrader's order emulator beside the level book. It is no dependency: it is installed when it is asked for."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
VERSION = "1.221.0"
PLACE = ROOT / ".venv" / "emulator"
UV = ROOT / ".venv" / "tools" / "bin" / "uv"
SIZES = (10, 100, 1_000, 10_000)  # a tick takes a second beyond it


class NotInstalled(Exception):
    """Says what to do."""


def install() -> Path:
    """The Python of an environment that has NautilusTrader, made if it is not there."""
    python = PLACE / "bin" / "python"
    done = PLACE / f"nautilus-{VERSION}"
    if not done.exists():
        uv = str(UV) if UV.exists() else shutil.which("uv")
        if uv is None:
            raise NotInstalled("no uv: `make test` installs one, then try again")
        print(f"installing NautilusTrader {VERSION} into {PLACE.relative_to(ROOT)} (some 600 MB) …", flush=True)
        try:
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PLACE)], check=True)
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--python", str(python), f"nautilus_trader=={VERSION}"], check=True
            )
        except subprocess.CalledProcessError as error:
            raise NotInstalled(f"NautilusTrader could not be installed: {error}") from error
        done.touch()
    return python


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, dict[int, float]]:
    """Case -> number of levels -> ns per tick, named as the level book's rows are."""
    child = Path(__file__).with_name("emulator_child.py")
    argv = [str(install()), "-P", str(child), *map(str, sizes)]
    answer = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
    found = msgspec.json.decode(answer.splitlines()[-1], type=dict[str, dict[int, float]])
    return {f"{name}: emulator": row for name, row in found.items()}
