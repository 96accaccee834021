# ruff: noqa: T201 - this is a program for a terminal
"""Schemathesis over the whole API of a running `levelhead up`: `make fuzz-api [EXAMPLES=100] [SEED=…]`.

It reads our own OpenAPI document and sends what fits it and what does not, as an admin, as a trader, as a viewer and as
a stranger. It is no dependency: it is installed when it is asked for.
"""

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg

from app.keys import hash_password
from app.store import users
from app.store.users import Role
from app.up.datadir import DataDir
from tests.support.stack import Stack, up

ROOT = Path(__file__).resolve().parents[2]
VERSION = "4.32.5"
PLACE = ROOT / ".venv" / "schemathesis"
UV = ROOT / ".venv" / "tools" / "bin" / "uv"
PASSWORD = "correct horse battery staple"
ROLES = ("admin", "trader", "viewer", None)
ANSWER_S_MAX = 10.0  # an answer that takes longer hangs

# What is valid by its shape may still be refused: a symbol that nobody lists, an account that is not there.
# Litestar reads flags and numbers from texts too (`"enabled": 0`), and its own OPTIONS names one of several methods.
LEFT_OUT = ("positive_data_acceptance", "negative_data_rejection", "allow_header_conformance")
# An admin removes the accounts and strategies that the others would look at.
LAST = ("remove_account", "remove_strategy")


class NotInstalled(Exception):
    """Says what to do."""


def install() -> Path:
    """The program, in an environment of its own that is made if it is not there."""
    program, done = PLACE / "bin" / "schemathesis", PLACE / f"schemathesis-{VERSION}"
    if not done.exists():
        uv = str(UV) if UV.exists() else shutil.which("uv")
        if uv is None:
            raise NotInstalled("no uv: `make test` installs one, then try again")
        print(f"installing Schemathesis {VERSION} into {PLACE.relative_to(ROOT)} …", flush=True)
        python = str(PLACE / "bin" / "python")
        try:
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PLACE)], check=True)
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--python", python, f"schemathesis=={VERSION}"], check=True
            )
        except subprocess.CalledProcessError as error:
            raise NotInstalled(f"Schemathesis could not be installed: {error}") from error
        done.touch()
    return program


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz-api", description=__doc__)
    parser.add_argument("--examples", type=int, default=50, help="for each operation and role")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--role", choices=[str(role) for role in ROLES], help="this one only")
    parser.add_argument("--program", type=Path, help="a Schemathesis that is there already")
    options = parser.parse_args()
    try:
        program = options.program or install()
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    roles = [role for role in ROLES if options.role in (None, str(role))]
    return asyncio.run(_fuzz(program, roles, options.examples, options.seed))


async def _fuzz(program: Path, roles: list[str | None], examples: int, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="levelhead-fuzz-") as folder:
        settings = {"LEVELHEAD_ACCESS_TOKEN_TTL_S": "86400"}
        async with up(Path(folder) / "data", settings=settings) as stack:
            failed = []
            for role in roles:
                print(f"\n=== as {role or 'a stranger'}, seed {seed} ===", flush=True)
                headers = await _headers(stack, role)
                leaves_out = LAST if role == "admin" else ()
                if await _run(program, stack, headers, examples, seed, leaves_out):
                    failed.append(str(role))
            if bugs := [
                line for line in stack.output().splitlines() if "unexpected error" in line or "Traceback" in line
            ]:
                print("the log holds:\n" + "\n".join(bugs[:20]))
                failed.append("log")
            print(f"failed: {', '.join(failed)}; again: make fuzz-api SEED={seed}" if failed else "nothing was found")
            return 1 if failed else 0


async def _headers(stack: Stack, role: str | None) -> list[str]:
    if role is None:
        return []
    email = f"{role}@fuzz.example"
    database = await asyncpg.connect(DataDir(stack.data_dir).database_url().reveal())
    try:
        await users.create(database, email=email, password_hash=await hash_password(PASSWORD), role=Role(role))
    finally:
        await database.close()
    answer = await stack.http.post(
        f"{stack.connection['url']}/api/v1/auth/login", json={"email": email, "password": PASSWORD}
    )
    answer.raise_for_status()
    return ["--header", f"Authorization: Bearer {answer.json()['access_token']}"]


async def _run(
    program: Path, stack: Stack, headers: list[str], examples: int, seed: int, leaves_out: tuple[str, ...]
) -> int:
    argv = [
        str(program), "run", f"{stack.connection['url']}/schema/openapi.json", *headers,
        "--checks", "all", "--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure",
        "--max-examples", str(examples), "--seed", str(seed), "--max-response-time", str(ANSWER_S_MAX),
        "--request-timeout", str(ANSWER_S_MAX), "--warnings", "off", "--no-color",
        "--suppress-health-check", "too_slow",
    ]  # fmt: skip
    for name in leaves_out:
        argv += ["--exclude-operation-id", name]
    process = await asyncio.create_subprocess_exec(*argv)
    return await process.wait()


if __name__ == "__main__":
    sys.exit(main())
