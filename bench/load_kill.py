"""Is what was answered 2xx there? `levelhead up` at full load, everything killed with -9 at once, and started again.

Senders on many connections post alerts as fast as they are answered. When so many are stored, api, worker, watcher,
simulator, Redis and PostgreSQL with all its processes die in mid-commit, and the supervisor with them. After the next
start each alert that was answered 2xx has to be in the inbox, once, with one instruction for its account. One that was
not answered may be there or not: its sender sends again.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.door import loading
from bench.load import Order
from bench.up import Up, running, until

STOP_PCT: Final = "1"
SYMBOLS: Final = 20
CONNECTIONS: Final = 64
STORED_S_MAX: Final = 900.0


class Survived(msgspec.Struct, frozen=True, kw_only=True):
    """`lost`, `doubled`: names of alerts that were answered 2xx and are not there, or more than once."""

    answered: int
    refused: dict[int, int]
    stored: int
    lost: list[str]
    doubled: list[str]
    per_s: float
    started_again_s: float

    @property
    def sound(self) -> bool:
        return self.answered > 0 and not self.lost and not self.doubled


class Answer(msgspec.Struct, frozen=True):
    alert_id: str


async def measure(alerts: int, connections: int, folder: Path | None) -> Survived:
    """Kill everything when so many alerts are stored; answers what is there after the next start."""
    with tempfile.TemporaryDirectory(prefix="levelhead-kill-", dir=folder) as made:
        place = Path(made)
        notes = place / "answers"
        async with running(place) as up:
            desk = await up.desk("door", "bybit", STOP_PCT)
            for number in range(SYMBOLS):
                await up.instrument(f"B{number:02d}USDT", "100")
            order = Order(
                url=up.url,
                path=f"/webhook/{desk.name}",
                body={"secret": desk.secret, "action": "close"},
                connections=connections,
                seconds=STORED_S_MAX,
                symbols=SYMBOLS,
                answers=str(notes),
            )
            began = time.monotonic()
            async with loading(order) as senders:
                await _stored(up, alerts)
                took_s = time.monotonic() - began
                await up.kill_everything()
                senders.terminate()
                await senders.communicate()
        began = time.monotonic()
        async with running(place) as up:
            started_again_s = time.monotonic() - began
            return await _compare(up, notes, alerts / took_s, started_again_s)


async def _stored(up: Up, alerts: int) -> None:
    connection = await up.connect()

    async def enough() -> bool:
        # Their numbers have no gaps to speak of, and to count them would load what is measured.
        return bool(await connection.fetchval("SELECT coalesce(max(seq), 0) >= $1 FROM alerts", alerts))

    try:
        if not await until(enough, STORED_S_MAX, every_s=0.05):
            raise RuntimeError(f"{alerts} alerts were not stored within {STORED_S_MAX:g} s")
    finally:
        connection.terminate()


async def _compare(up: Up, notes: Path, per_s: float, started_again_s: float) -> Survived:
    connection = await up.connect()
    try:
        rows = await connection.fetch(
            "SELECT a.body::jsonb->>'id' AS name, a.id::text, count(i.id) AS instructions FROM alerts a"
            " LEFT JOIN instructions i ON i.cause_kind = 'alert' AND i.cause_id = a.id GROUP BY a.id"
        )
    finally:
        await connection.close()
    return compare([tuple(row) for row in rows], notes, per_s, started_again_s)


def compare(
    rows: Sequence[tuple[str, str, int]], notes: Path, per_s: float = 0, started_again_s: float = 0
) -> Survived:
    """What is there (the sender's id, ours, how many instructions) beside what was answered."""
    times = Counter(name for name, _, _ in rows)
    there = {name: (alert_id, instructions) for name, alert_id, instructions in rows}
    answered: dict[str, str] = {}
    refused: Counter[int] = Counter()
    for line in notes.read_text().splitlines():
        name, status, text = line.split("\t", 2)
        if status in ("200", "202"):
            answered[name] = msgspec.json.decode(text, type=Answer).alert_id
        else:
            refused[int(status)] += 1
    return Survived(
        answered=len(answered),
        refused=dict(refused),
        stored=len(rows),
        lost=[
            name
            for name, alert_id in answered.items()
            if name not in there or there[name][0] != alert_id or not there[name][1]
        ],
        doubled=[name for name, (_, instructions) in there.items() if times[name] > 1 or instructions > 1],
        per_s=per_s,
        started_again_s=started_again_s,
    )


def told(found: Survived) -> str:
    refused = f", {sum(found.refused.values())} answered otherwise ({found.refused})" if found.refused else ""
    return (
        f"kill -9 of everything at full load: {found.answered} alerts answered 2xx{refused}, {found.stored} stored, "
        f"{found.per_s:,.0f} a second with the worker beside; "
        f"started again in {found.started_again_s:.1f} s: {len(found.lost)} lost, {len(found.doubled)} doubled "
        f"(aim 0, 0: {'reached' if found.sound else 'MISSED'})"
    )
