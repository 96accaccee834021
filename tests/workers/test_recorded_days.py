"""Levels of every kind through whole days: frames as they come -> what counts -> what fires, against a naive oracle.

Some days are made up here. With LEVELHEAD_SHARED_MARKET, a folder of recorded markets, all of its days are played too.
"""

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import cycle, groupby
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import pytest

from app.domain.level import Level, LevelKind, TriggerBy
from app.domain.order import PositionSide
from app.store.accounts import VenueName
from bench.frames import aggregate, bybit_frame
from bench.pipeline import NOWHERE
from simulator.model import Side
from simulator.recording import Row, read_rows
from tests.workers.oracle import Fired, Oracle
from workers.feed import Feed

D = Decimal
SYMBOL = "BTCUSDT"
START = datetime(2026, 1, 1, tzinfo=UTC)
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
LAST = (TriggerBy.LAST,)


class Step(msgspec.Struct, frozen=True):
    """Once this target was filled, the stop goes to this price."""

    target: UUID
    stop: UUID
    price: Decimal


class Position(msgspec.Struct, frozen=True):
    levels: list[Level]
    steps: list[Step]
    opened: int  # with which frame
    closed: int  # at the latest


class Positions:
    """Positions with any exits, opened at any time, at a price that was just heard."""

    def __init__(self, random: Random, tick: Decimal, triggers: tuple[TriggerBy, ...], nearness: float) -> None:
        self._random, self._tick, self._triggers, self._nearness = random, tick, triggers, nearness
        self._number = 0

    def open(self, price: Decimal, frame: int, life: int) -> Position:
        random, tick = self._random, self._tick
        side = random.choice([LONG, SHORT])
        self._number += 1
        position, at = UUID(int=self._number), START + timedelta(seconds=frame)

        def away(least: float = 0.0005, most: float = 0.12) -> Decimal:
            """Some ticks, at least one; near ones more often than far ones."""
            far = D(str(self._nearness * least * (most / least) ** random.random())) * price
            return max(tick, far.quantize(tick))

        def level(kind: LevelKind, **fields: Any) -> Level:
            self._number += 1
            number = UUID(int=self._number)
            return Level(
                id=number, position_id=position, kind=kind, side=side, fraction=D(1), qty=D(random.randint(1, 9)),
                trigger_by=random.choice(self._triggers), armed_at=at, order_id=number, intent_id=number, **fields,
            )  # fmt: skip

        gain, pct = side.sign, max(D("0.001"), D(str(round(self._nearness * 0.02 * 300 ** random.random(), 4))))
        stop = level(LevelKind.STOP_LOSS, price=price - gain * away())
        targets = [
            level(LevelKind.TAKE_PROFIT, price=price + gain * far)
            for far in sorted(away() for _ in range(random.randint(0, 3)))
        ]
        woken = price + gain * away(0.0003, 0.03)
        others = [
            level(LevelKind.TRAILING_STOP, distance=away()),
            level(LevelKind.TRAILING_STOP, distance_pct=pct),
            level(LevelKind.TRAILING_STOP, distance_pct=pct, activation_price=woken),
            level(LevelKind.TRAILING_TAKE_PROFIT, distance_pct=pct, activation_price=woken),
            level(
                LevelKind.TRAILING_TAKE_PROFIT, distance_pct=pct, activation_price=woken,
                min_factor=D(random.randint(1, 9)) / 10, decay_pct=pct * random.randint(1, 30) / 10,
            ),
            level(LevelKind.BREAK_EVEN, price=price + gain * tick * random.randint(0, 3), activation_price=woken),
        ]  # fmt: skip
        levels = [stop, *targets, *random.sample(others, random.randint(0, 3))]
        to = [price, *(target.price for target in targets if target.price is not None)]
        steps = [Step(one.id, stop.id, price) for one, price in zip(targets, to, strict=False)]
        return Position(levels, steps if random.random() < 0.5 else [], frame, frame + random.randint(1, life))


class Watcher:
    """The pieces of the watcher that a price goes through, without sockets and tables."""

    def __init__(self, venue: str, triggers: Iterable[TriggerBy]) -> None:
        self.fired: list[Fired] = []
        self.feed = Feed(
            VenueName(venue), NOWHERE, may_fire=lambda: True, on_crossed=self._crossed,
            on_back=lambda feed: None, on_missed=lambda feed, symbol, gap: None, on_held=lambda feed, symbol: None,
        )  # fmt: skip
        self.feed.end_gap()
        for by in {TriggerBy.LAST, *triggers}:
            self.feed.follow(SYMBOL, by)
        links = self.feed.stream._links  # type: ignore[attr-defined]
        self._link = links[0] if venue == "bybit" else links["market"][0]

    def hear(self, payload: bytes) -> list[Fired]:
        self.fired = []
        self._link._received(payload)
        return self.fired

    def _crossed(self, level: Level, price: Decimal | None, trade_id: str | None) -> None:
        assert price is not None
        self.fired.append((level.id, price, trade_id))


def play(
    venue: str, frames: Iterable[bytes], positions: Iterator[Position], triggers: Iterable[TriggerBy]
) -> tuple[int, int]:
    """How many levels fired, and how many trades did not count. `positions` come in the order of their opening."""
    watcher, oracle = Watcher(venue, triggers), Oracle()
    of_level: dict[UUID, Position] = {}
    closing: defaultdict[int, list[Position]] = defaultdict(list)
    waiting, count = next(positions, None), 0

    def rearm(level: Level) -> None:
        watcher.feed.arm(SYMBOL, level)
        oracle.arm(level)

    def close(position: Position) -> None:
        """What the store does once a stop has fired, or the position has ended otherwise."""
        for level in position.levels:
            watcher.feed.disarm(SYMBOL, level)
        oracle.disarm(level.id for level in position.levels)

    for number, payload in enumerate(frames):
        while waiting is not None and waiting.opened <= number:
            closing[waiting.closed].append(waiting)
            for level in waiting.levels:
                of_level[level.id] = waiting
                rearm(level)
            waiting = next(positions, None)
        expected = oracle.hear(payload)
        assert watcher.hear(payload) == expected, f"frame {number}: {payload!r}"
        for level_id, _, _ in expected:
            position = of_level[level_id]
            kind = next(level.kind for level in position.levels if level.id == level_id)
            if kind is not LevelKind.TAKE_PROFIT:
                close(position)
            for step in position.steps:
                if step.target == level_id and step.stop in oracle.watched:
                    stop = oracle.watched[step.stop].level
                    assert stop.price is not None
                    if stop.side.sign * step.price > stop.side.sign * stop.price:  # only tightens
                        rearm(msgspec.structs.replace(stop, price=step.price))
        for position in closing.pop(number, []):
            close(position)
        count += len(expected)
    return count, oracle.prices.denied


def around(
    opened: list[tuple[int, Decimal]],
    seed: str,
    *,
    count: int,
    life: int,
    triggers: Iterable[TriggerBy],
    near: float = 1,
) -> Iterator[Position]:
    """So many positions, opened at some of these prices, (number of its frame, price)."""
    random = Random(seed)
    tick = D(1).scaleb(min(int(price.as_tuple().exponent) for _, price in opened))
    make = Positions(random, tick, tuple(triggers), near)
    for frame, price in sorted(random.choices(opened, k=count), key=lambda pair: pair[0]):
        yield make.open(price, frame + 1, life)


def in_frames(venue: str, rows: Iterable[Row]) -> tuple[list[bytes], list[tuple[int, Decimal]]]:
    """Trades in the venue's frames: at Bybit those of one millisecond come together."""
    frames: list[bytes] = []
    opened: list[tuple[int, Decimal]] = []
    for ms, of_ms in groupby(rows, key=lambda row: row.ts_us // 1000):
        together = list(of_ms)
        for part in [together] if venue == "bybit" else [[row] for row in together]:
            opened.append((len(frames), part[-1].price))
            told = [(row.trade_id or "0", format(row.price, "f"), format(row.qty, "f"), row.side.value) for row in part]
            if venue == "bybit":
                frames.append(bybit_frame(SYMBOL, ms, told))
            else:
                number, price, qty, _ = told[0]
                frames.append(aggregate(SYMBOL, int(number), price, qty, ms, ms, False))
    return frames, opened


def made_day(random: Random, count: int) -> list[Row]:
    """A quiet walk, a fall by half with bid and ask per cents apart, some of it back; and lone prints."""
    rows: list[Row] = []
    centre, us, wild = 100.0, 1_790_000_000_000_000, 0.0
    for number in range(count):
        past = number / count
        crash = 0.4 < past < 0.55
        wild = min(1.0, wild + 0.05) if crash else max(0.0, wild - 0.002)
        drift = (-1.6 if past < 0.5 else 1.2) / count * 8 if crash else 0.0
        centre *= 1 + drift + random.gauss(0, 0.0003 + 0.002 * wild)
        spread = random.choice([-1, 1]) * (0.0001 + 0.015 * wild)
        lone = random.choice([0.9, 0.975, 1.03, 1.2]) if random.random() < 0.002 else 1.0
        price = D(f"{centre * (1 + spread) * lone:.2f}")
        us += random.choice([0, 0, 300, 20_000, 400_000, 4_000_000 if not crash else 30_000])
        rows.append(Row(us, price, D(1), random.choice(list(Side)), str(number + 1)))
    return rows


@pytest.mark.parametrize("venue", ["bybit", "binance"])
@pytest.mark.parametrize("seed", range(3))
async def test_on_a_day_that_was_made_up_all_fires_are_the_oracles(venue: str, seed: int) -> None:
    frames, opened = in_frames(venue, made_day(Random(seed), 3000))
    fired, denied = play(venue, frames, around(opened, f"{venue} {seed}", count=150, life=800, triggers=LAST), LAST)
    assert fired > 100
    assert denied > 0, "lone prints"


MARKET = os.environ.get("LEVELHEAD_SHARED_MARKET", "")
POSITIONS = int(os.environ.get("RECORDED_POSITIONS", "200"))  # of each day
LIFE = 5000  # frames
NEAR = 0.01  # in minutes in which nothing happened, levels have to be near to be reached
PRINTS = sorted((Path(MARKET) / "trades").glob("*.csv.gz")) if MARKET else []
SOCKETS = sorted((Path(MARKET) / "ws").glob("binance-usdm_btcusdt_*.gz")) if MARKET else []
BYBIT = sorted((Path(MARKET) / "ws").glob("bybit-v5_*.gz")) if MARKET else []
recorded = pytest.mark.skipif(not MARKET, reason="LEVELHEAD_SHARED_MARKET names no folder of recorded markets")


def name(value: Path | str) -> str:
    return value.name.split(".")[0] if isinstance(value, Path) else value


@recorded
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("path", "venue"), list(zip(PRINTS, cycle(["bybit", "binance"]), strict=False)), ids=name)
async def test_on_a_recorded_day_all_fires_are_the_oracles(path: Path, venue: str) -> None:
    frames, opened = in_frames(venue, read_rows(path))
    fired, _ = play(venue, frames, around(opened, path.name + venue, count=POSITIONS, life=LIFE, triggers=LAST), LAST)
    assert fired > POSITIONS / 2


@recorded
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", SOCKETS, ids=name)
async def test_by_every_price_of_a_recorded_socket_all_fires_are_the_oracles(path: Path) -> None:
    frames: list[bytes] = []
    opened: list[tuple[int, Decimal]] = []
    for line in gzip.open(path, "rt"):
        told = json.loads(line[line.index("{") :])
        data = told.get("data", {})
        if data.get("e") == "trade":  # today's stream tells them in another frame
            opened.append((len(frames), D(data["p"])))
            frames.append(aggregate(SYMBOL, data["t"], data["p"], data["q"], data["T"], data["E"], data["m"]))
        elif data.get("e") in ("bookTicker", "markPriceUpdate"):
            frames.append(json.dumps(told).encode())
    triggers = [TriggerBy.LAST, TriggerBy.BID, TriggerBy.ASK]
    if any(b"markPrice" in frame for frame in frames):
        triggers.append(TriggerBy.MARK)
    fired, _ = play(
        "binance", frames, around(opened, path.name, count=POSITIONS, life=LIFE, triggers=triggers, near=NEAR), triggers
    )
    assert fired > POSITIONS / 4


@recorded
@pytest.mark.parametrize("path", BYBIT, ids=name)
async def test_by_every_price_of_bybits_recorded_socket_all_fires_are_the_oracles(path: Path) -> None:
    rows = [json.loads(line) for line in gzip.open(path, "rt")]
    [linear] = [row["conn"] for row in rows if row["t"] == "connect" and row["addr"].endswith("/linear")]
    topics = (f'{{"topic":"publicTrade.{SYMBOL}"', f'{{"topic":"tickers.{SYMBOL}"')
    told = [row["data"] for row in rows if row["t"] == "recv" and row["conn"] == linear]
    frames = [data.encode() for data in told if data.startswith(topics)]
    opened = [
        (number, D(json.loads(frame)["data"][-1]["p"]))
        for number, frame in enumerate(frames)
        if frame.startswith(topics[0].encode())
    ]
    chosen = around(opened, path.name, count=POSITIONS, life=LIFE, triggers=TriggerBy, near=NEAR)
    fired, _ = play("bybit", frames, chosen, TriggerBy)
    assert fired > POSITIONS / 20
