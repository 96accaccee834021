"""What is measured beside us and is no dependency: installed when it is asked for, into an environment of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]


class NotInstalled(Exception):
    """Says why."""


def install(name: str, *requirements: str, size: str) -> Path:
    """The Python of `.venv/NAME`, which has these packages; made if it is not there."""
    place = ROOT / ".venv" / name
    python = place / "bin" / "python"
    done = place / "installed"
    if not done.exists() or done.read_text().split() != list(requirements):
        print(f"installing {', '.join(requirements)} into {place.relative_to(ROOT)} ({size}) …", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        except subprocess.CalledProcessError as error:
            raise NotInstalled(f"{name} could not be installed: {error}") from error
        done.write_text("\n".join(requirements))
    return python
