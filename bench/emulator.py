"""NautilusTrader's order emulator beside the level book. It is no dependency: it is installed when it is asked for."""

import subprocess
from pathlib import Path

import msgspec

from bench.environment import install

VERSION = "1.221.0"
SIZES = (10, 100, 1_000, 10_000)  # a tick takes a second beyond it


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, dict[int, float]]:
    """Case -> number of levels -> ns per tick, named as the level book's rows are. May raise NotInstalled."""
    child = Path(__file__).with_name("emulator_child.py")
    python = install("emulator", f"nautilus_trader=={VERSION}", size="some 600 MB")
    argv = [str(python), "-P", str(child), *map(str, sizes)]
    answer = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
    found = msgspec.json.decode(answer.splitlines()[-1], type=dict[str, dict[int, float]])
    return {f"{name}: emulator": row for name, row in found.items()}
