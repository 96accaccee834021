"""Charts that send alerts, and send again what got no answer: the same bytes under the same id, as the real one does,
only with more patience.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import msgspec

from bench.judge import Sent
from bench.up import CUT_OFF, Desk, Up

ANSWER_S_MAX: Final = 3.0  # a chart hangs up then
PAUSE_S: Final = 0.5
PAUSE_S_MAX: Final = 8.0
CONNECTIONS_MAX: Final = 64  # who waits for one of them has not sent yet
MAX_AGE_S: Final = 900  # an opening that waited through the kills is still carried out

# How often each is sent. Half are wishes of where to end up, as a strategy's alerts are.
WISHES: Final[Mapping[tuple[str, str], int]] = {
    ("target", "long"): 20,
    ("target", "short"): 20,
    ("target", "flat"): 12,
    ("action", "open_long"): 12,
    ("action", "open_short"): 12,
    ("action", "add"): 6,
    ("action", "reduce"): 6,
    ("action", "reverse"): 6,
    ("action", "close"): 6,
}


def alert(rng: random.Random, number: int, desk: Desk, symbol: str) -> dict[str, Any]:
    """Body of an alert; some of them state the strategy's own time."""
    [(field, wish)] = rng.choices(list(WISHES), weights=list(WISHES.values()))
    body: dict[str, Any] = {"id": f"storm-{number}", "symbol": symbol, field: wish, "max_age_s": MAX_AGE_S}
    if wish == "reduce":
        body["size"] = {"pct_position": rng.choice(("25", "50"))}
    elif wish not in ("flat", "close"):
        body["size"] = {"base": f"{rng.randint(1, 500) / 100:.2f}"}
        body["stop_loss"] = {"pct": rng.choice(("0.8", "1.5", "2.5"))}
        if rng.random() < 0.3:
            body["take_profit"] = [{"pct": "0.7", "fraction": "0.5"}, {"pct": "1.6", "fraction": "0.5"}]
        if rng.random() < 0.1:
            body["trailing"] = {"distance_pct": "1.2"}
    if rng.random() < 0.3:
        body["time"] = datetime.now(UTC).isoformat()
    return body


class Senders:
    """All alerts of a storm. `sent` grows as they leave; an entry gets its answer when there is one."""

    def __init__(self, up: Up, desks: Sequence[Desk], symbols: Sequence[str], rng: random.Random) -> None:
        self.sent: dict[str, Sent] = {}
        self.answers: Counter[str] = Counter()  # status or the lack of one, over all attempts
        self.first_s = 0.0  # monotonic: when the first left
        self.accepted_s: list[float] = []  # seconds from the due instant to the 2xx
        self._up = up
        self._books = [(desk, symbol) for desk in desks for symbol in symbols]
        self._rng = rng
        self.all_left = asyncio.Event()  # each was sent once; some have no answer yet

    @property
    def accepted(self) -> int:
        return len(self.accepted_s)

    async def send(self, count: int, rate: float, patience_s: float) -> None:
        """`count` alerts, spaced by 1/rate on average whatever becomes of those before; returns when each has its 2xx
        or `patience_s` after the last one is over.
        """
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S_MAX, sock_read=ANSWER_S_MAX)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            self.first_s = due = time.monotonic()
            tasks: list[asyncio.Task[None]] = []
            for number in range(count):
                due += self._rng.expovariate(rate)
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                desk, symbol = self._rng.choice(self._books)
                body = alert(self._rng, number, desk, symbol)
                self.sent[body["id"]] = Sent(id=body["id"], strategy=desk.name, symbol=symbol)
                tasks.append(asyncio.create_task(self._deliver(http, desk, body, due)))
            self.all_left.set()
            done, late = await asyncio.wait(tasks, timeout=patience_s)
            for task in late:
                task.cancel()
            for task in done:
                task.result()  # raises what must not have happened

    async def _deliver(self, http: aiohttp.ClientSession, desk: Desk, body: dict[str, Any], due: float) -> None:
        url, raw = f"{self._up.url}/webhook/{desk.name}/{desk.secret}", msgspec.json.encode(body)
        pause_s = PAUSE_S
        while True:
            try:
                async with http.post(url, data=raw, headers={"content-type": "application/json"}) as answer:
                    said = await answer.read()
                    status = answer.status
            except CUT_OFF as error:
                self.answers[type(error).__name__] += 1
            else:
                self.answers[str(status)] += 1
                if status < 300:
                    alert_id = msgspec.json.decode(said)["alert_id"]
                    self.sent[body["id"]] = msgspec.structs.replace(self.sent[body["id"]], alert_id=alert_id)
                    self.accepted_s.append(time.monotonic() - due)
                    return
                if status < 500:
                    raise RuntimeError(f"an alert was turned away with {status}: {said.decode(errors='replace')}")
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, PAUSE_S_MAX)
