"""The same bodies through the real addresses: answered by a status that is meant, carried out, and nowhere a secret."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from unittest.mock import patch
from uuid import UUID

import httpx

from app.alerts.recognise import FORMATS
from app.api import webhooks
from tests.alerts.examples import SENT
from tests.api.conftest import serving
from tests.fuzz.judge import Wrong, shows
from tests.fuzz.mutate import Case, case
from tests.support.databases import Databases
from tests.support.house import House, open_house
from tests.support.servers import servers

STATUSES = frozenset({200, 202, 401, 409, 413, 422})
HELD = (None, "flat", "long:0.5", "short:2")
DEFAULTS = {"symbol": "BTCUSDT", "side": "long", "size": {"quote": "100"}, "stop_loss": {"pct": "1"}}
NO_BODY = -1  # it is not known which one it was
SECONDS_MAX = 40.0  # an answer that takes longer hangs, however busy the machine is


async def send(numbers: Iterable[int]) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Send the bodies of these numbers to a house made for them; how they were answered, and what must not be."""
    async with servers() as running:
        databases = Databases(running.database_url)
        try:
            async with open_house(await databases.make(), running.redis_url) as house:
                return await send_to(house, numbers)
        finally:
            await databases.drop_all()


async def send_to(house: House, numbers: Iterable[int]) -> tuple[Counter[str], list[tuple[int, str]]]:
    for format in FORMATS:
        await house.add_strategy(_strategy(format), defaults=DEFAULTS, format=format)
    ended, wrong = Counter[str](), list[tuple[int, str]]()
    # A busy machine answers 503 in time, as it should; here it has to come to an end.
    with recorded() as lines, patch.object(webhooks, "HANDLER_TIMEOUT_S", SECONDS_MAX):
        async with (
            serving(house.resources) as url,
            httpx.AsyncClient(trust_env=False, timeout=SECONDS_MAX + 5, verify=False) as client,
        ):
            for number in numbers:
                try:
                    ended.update(await _one(house, client, url, case(number, FORMATS, house.secret)))
                    if found := [line for line in lines if shows(line, house.secret)]:
                        raise Wrong(f"the log shows the secret: {found[0]}")
                except (Wrong, httpx.HTTPError) as error:
                    wrong.append((number, f"{type(error).__name__}: {error}"))
                lines.clear()
    wrong += [(NO_BODY, place) for place in await stored(house)]
    return ended, wrong


def _strategy(format: str) -> str:
    return f"reads-{format}"


async def _one(house: House, client: httpx.AsyncClient, url: str, one: Case) -> list[str]:
    """Explained, delivered, and carried out if it was taken."""
    address = f"{url}/webhook/{_strategy(one.format)}" + (f"/{one.secret}" if one.path else "")
    raw = one.raw.replace(SENT.encode(), datetime.now(UTC).isoformat(timespec="seconds").encode())
    held = Random(one.number).choice(HELD)
    params = {} if held is None else {"held": held}
    explained = await client.post(f"{address}/explain", params=params, content=raw)
    told = _checked(explained, one)
    answer = await client.post(address, content=raw)
    ended = [f"explained: {explained.json().get('verdict', told)}", f"{answer.status_code} {_checked(answer, one)}"]
    if answer.status_code == 202:
        alert_id = UUID(answer.json()["alert_id"])
        await house.work(alert_id)
        became = await house.outcome(alert_id)
        ended.append(f"became {became['status']} {became['code'] or ''}")
    return ended


def _checked(answer: httpx.Response, one: Case) -> str:
    """What the answer says in one word. Raises Wrong."""
    if answer.status_code not in STATUSES:
        raise Wrong(f"answered {answer.status_code}: {answer.text}")
    if shows(answer.text, one.secret):
        raise Wrong(f"the answer shows the secret: {answer.text}")
    if answer.status_code < 300:
        return str(answer.json().get("status", ""))
    problem = answer.json()
    if answer.headers["content-type"] != "application/problem+json" or not problem["code"] or not problem["detail"]:
        raise Wrong(f"no problem: {answer.text}")
    return str(problem["code"])


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Every line that is logged, but for the sender's own."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("http"):
                lines.append(f"{record.getMessage()} {record.__dict__}")

    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


async def stored(house: House) -> list[str]:
    """Every table and every key of Redis that holds the secret, in whatever capitals, or as hexadecimal."""
    forms = [house.secret.lower(), house.secret.encode().hex()]
    found = []
    tables = await house.rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        rows = await house.rows(
            f'SELECT t::text AS row FROM "{table["name"]}" t WHERE lower(t::text) LIKE ANY ($1::text[])',
            [f"%{form.replace('_', chr(92) + '_')}%" for form in forms],
        )
        found += [f"table {table['name']} holds the secret: {row['row'][:500]}" for row in rows]
    redis = house.resources.redis
    for key in await redis.keys("*"):
        held = repr((key, await redis.dump(key))).lower()
        if any(form in held for form in forms):
            found.append(f"Redis holds the secret under {key!r}")
    return found
