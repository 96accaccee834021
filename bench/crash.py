"""A minute of the crash of 10 October 2025 at 100 ×, with 10,000 positions whose stops lie all through its range.

A player, a process of its own, sends each recorded trade over a socket at its due instant, in the venue's frames: those
of one millisecond and symbol come together, as they do where an order sweeps a book. The watcher's own path of a tick
takes them: the venue's stream, the feed with its checks of what counts, the level books, and the call that a crossing
makes. An oracle that looks at every level with every trade that counts says which one crosses it. Which count is asked
of the rule alone (`app.domain.outliers`); an oracle that believes every print is compared as well.

What is measured is the decision: from the trade's due instant to the call, with what the player itself is late, and the
socket. It does not hold the orders: a venue takes ten a second of an account, and 600 requests in five seconds of an
address, so 10,000 in 0.6 s leave nowhere but in a bench; how long an order takes from its tick is what `fire` and
`burst` measure. Nor is there a mark price, or anybody to ask for a quote: a jump is confirmed by the trades that follow
it, or not at all. Recorded trades with `--market DIR`, else made ones of the same shape.
"""

import argparse
import asyncio
import gc
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from uuid import UUID

import msgspec

from app.domain.level import Level, LevelKind
from app.domain.order import PositionSide
from app.domain.outliers import Sieve
from app.store.accounts import VenueName
from app.venues.base import Origins
from bench import frames
from bench.frame_server import HOST, Server, bare, frame
from bench.levels import armed_level
from bench.pipeline import NOWHERE
from bench.report import Summary, summary, table
from simulator.instruments import symbol_of_file
from simulator.model import Side
from simulator.recording import Row, read_rows, start_ts_us
from workers.feed import Feed

RECORDED = "binance*_20251010.csv.gz"
BEGINS, SECONDS = "21:19", 60
SPEED = 100.0
POSITIONS = 10_000
ROUNDS = 5
LEAD_S = 0.2  # from the subscription to the first trade
SETTLE_S = 0.5
MADE_SYMBOLS = tuple(f"C{number}USDT" for number in range(7))

Prints = dict[str, list[Row]]  # symbol -> its trades
Key = tuple[str, str | None]  # symbol, trade id


class Played(msgspec.Struct, frozen=True):
    """What the player did: wall clock in ns of its beginning, and of each frame's way into the socket."""

    began_ns: int
    written_ns: list[int]


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    level_id: UUID
    symbol: str
    trade_id: str | None
    at_ns: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was played, the same each time, and what all rounds together came to."""

    origin: str
    trades: int
    levels: int
    unbelieved: int  # trades that do not count
    delayed: int  # levels that only a later trade crosses than the first print beyond them; so, or not at all
    fired: int
    waited: int  # fires at a trade that another one had to confirm
    missed: int
    twice: int
    elsewhere: int  # at another trade than the oracle's
    late: dict[str, Summary]


def recorded(folder: Path) -> Prints:
    found: Prints = {}
    for path in sorted((folder / "trades").glob(RECORDED)):
        first_us = start_ts_us(path, BEGINS)
        assert first_us is not None
        rows = (row for row in read_rows(path) if row.ts_us >= first_us)
        minute = []
        for row in rows:
            if row.ts_us >= first_us + SECONDS * 1_000_000:
                break
            minute.append(row)
        found[symbol_of_file(path.name)] = minute
    return found


def made() -> Prints:
    """As the recorded minute looks: a fall by half in the first half of it, in bursts, and a third of it back."""
    rng, found = random.Random(11), {}
    for symbol in MADE_SYMBOLS:
        rows: list[Row] = []
        ts_us, number = 1_786_310_340_000_000, 0
        end_us = ts_us + SECONDS * 1_000_000
        while ts_us < end_us:
            past = 1 - (end_us - ts_us) / (SECONDS * 1e6)
            centre = 100 * (1 - past) if past < 0.5 else 50 + 33 * (past - 0.5)
            for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
                number += 1
                price = Decimal(f"{centre * math.exp(rng.gauss(0, 0.002)):.3f}")
                rows.append(Row(ts_us, price, Decimal(1), rng.choice((Side.BUY, Side.SELL)), str(number)))
            ts_us += rng.randrange(1000, 200_000)
        found[symbol] = rows
    return found


def prints(folder: Path | None) -> tuple[Prints, str]:
    """The trades, and where they are from."""
    if folder is not None and (found := recorded(folder)):
        return found, "recorded"
    return made(), "made"


def stops(found: Prints, count: int) -> dict[str, list[Level]]:
    """A stop for each position: as many of each symbol, evenly through its range, on its grid of prices. Below the
    first price they are longs', above it shorts'.
    """
    levels: dict[str, list[Level]] = {}
    for number, (symbol, rows) in enumerate(found.items()):
        share = len(range(number, count, len(found)))
        prices = [row.price for row in rows]
        low, high, first = min(prices), max(prices), prices[0]
        grid = min(prices, key=lambda price: price.as_tuple().exponent)
        levels[symbol] = [_stop((low + (high - low) * turn / share).quantize(grid), first) for turn in range(share)]
    return levels


def _stop(price: Decimal, first: Decimal) -> Level:
    side = PositionSide.LONG if price < first else PositionSide.SHORT
    return armed_level(LevelKind.STOP_LOSS, price=price, side=side)


def counted(found: Prints) -> tuple[Prints, dict[Key, int]]:
    """The trades that count, by the rule alone; and how long (us) each of them waited for one that confirmed it."""
    believed: Prints = {}
    waited_us: dict[Key, int] = {}
    for symbol, rows in found.items():
        sieve, rows_in = Sieve[_Print](), believed.setdefault(symbol, [])
        for _, of_ms in groupby(rows, key=lambda row: row.ts_us // 1000):
            told = [_Print(row) for row in of_ms]
            for one in sieve.sift(told, rows_in[-1].price if rows_in else None, None):
                rows_in.append(one.row)
                waited_us[symbol, one.row.trade_id] = 0 if one in told else told[0].row.ts_us - one.row.ts_us
    return believed, waited_us


class _Print:
    """A trade as the rule looks at it."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.price = row.price
        self.at_ms = row.ts_us // 1000


def oracle(found: Prints, levels: dict[str, list[Level]]) -> dict[UUID, Row]:
    """Level -> the first trade that crosses it. Looks at all of them with each."""
    crossed: dict[UUID, Row] = {}
    for symbol, rows in found.items():
        waiting = levels[symbol]
        for row in rows:
            left = []
            for level in waiting:
                assert level.price is not None
                if row.price >= level.price if level.fires_above else row.price <= level.price:
                    crossed[level.id] = row
                else:
                    left.append(level)
            waiting = left
    return crossed


# -- the player


def timed_frames(venue: str, found: Prints) -> Iterator[tuple[int, list[tuple[str, Row]], bytes]]:
    """Due (us after the first trade), the trades, the message."""
    merged = sorted(((row.ts_us, symbol, row) for symbol, rows in found.items() for row in rows), key=lambda x: x[:2])
    for (ms, symbol), rows_of in groupby(merged, key=lambda one: (one[0] // 1000, one[1])):
        rows = [row for _, _, row in rows_of]
        for part in [rows] if venue == "bybit" else [[row] for row in rows]:
            yield part[0].ts_us - merged[0][0], [(symbol, row) for row in part], message(venue, symbol, ms, part)


def message(venue: str, symbol: str, ms: int, rows: Sequence[Row]) -> bytes:
    if venue == "bybit":
        return frames.bybit_frame(
            symbol, ms, [(row.trade_id, format(row.price, "f"), format(row.qty, "f"), row.side.value) for row in rows]
        )
    [row] = rows
    maker = row.side is Side.SELL
    return bare(
        frames.aggregate(symbol, int(row.trade_id), format(row.price, "f"), format(row.qty, "f"), ms, ms, maker)
    )


class Player(Server):
    """Sends each frame at its due instant, to the first who subscribes, and tells what it did."""

    def __init__(self, timed: Sequence[tuple[int, bytes]], speed: float) -> None:
        super().__init__(lambda path: [])
        self._timed = [(int(due_us * 1000 / speed), frame(payload)) for due_us, payload in timed]
        self.played: asyncio.Future[Played] = asyncio.get_running_loop().create_future()

    async def _send(self, writer: asyncio.StreamWriter, subscribed: asyncio.Event, whole: list[bytes]) -> None:
        await subscribed.wait()
        while subscribed.is_set():
            subscribed.clear()
            await asyncio.sleep(LEAD_S)
        gc.disable()
        written, began_ns = [], time.time_ns() + 1_000_000
        for due_ns, payload in self._timed:
            while (early_ns := began_ns + due_ns - time.time_ns()) > 0:
                time.sleep(early_ns / 1e9)  # noqa: ASYNC251  # the loop's own timers are a thousand times coarser
            written.append(time.time_ns())
            writer.write(payload)  # goes into the socket at once, unless that is full
            while writer.transport.get_write_buffer_size():  # noqa: ASYNC110  # nothing tells when it is empty
                await asyncio.sleep(0)
        self.played.set_result(Played(began_ns, written))


async def play(venue: str, folder: Path | None, speed: float) -> None:
    found, _ = prints(folder)
    player = Player([(due_us, payload) for due_us, _, payload in timed_frames(venue, found)], speed)
    server = await asyncio.start_server(player.serve, HOST, 0)
    print(f"ws://{HOST}:{server.sockets[0].getsockname()[1]}", flush=True)
    print(msgspec.json.encode(await player.played).decode(), flush=True)
    await asyncio.Event().wait()


# -- the watcher's side


async def watch(
    venue: str, url: str, found: Prints, levels: dict[str, list[Level]], ended: "asyncio.Future[Played]"
) -> list[Fire]:
    """What fires while the player plays."""
    fires: list[Fire] = []
    symbol_of = {level.id: symbol for symbol, of_symbol in levels.items() for level in of_symbol}

    def crossed(level: Level, price: Decimal | None, trade_id: str | None) -> None:
        at_ns = time.time_ns()
        fires.append(Fire(level_id=level.id, symbol=symbol_of[level.id], trade_id=trade_id, at_ns=at_ns))

    feed = Feed(
        VenueName(venue), Origins(rest=NOWHERE.rest, ws=url), may_fire=lambda: True, on_crossed=crossed,
        on_back=lambda feed: None, on_missed=lambda feed, symbol, gap: None, on_held=lambda feed, symbol: None,
    )  # fmt: skip
    feed.end_gap()
    for symbol in found:
        feed.follow(symbol)
        for level in levels[symbol]:
            feed.arm(symbol, level)
    gc.collect()
    gc.freeze()  # as the watcher does once it has loaded
    stream = asyncio.ensure_future(feed.stream.run())
    try:
        await ended
        await asyncio.sleep(SETTLE_S)
    finally:
        stream.cancel()
        with suppress(asyncio.CancelledError):
            await stream
        gc.unfreeze()
    return fires


async def _round(
    venue: str, folder: Path | None, found: Prints, levels: dict[str, list[Level]], speed: float
) -> tuple[Played, list[Fire]]:
    argv = [sys.executable, "-m", "bench.crash", "--venue", venue, "--speed", str(speed)]
    process = await asyncio.create_subprocess_exec(
        *argv, *(["--folder", str(folder)] if folder else []), stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )
    try:
        output = process.stdout
        assert output is not None

        async def played() -> Played:
            return msgspec.json.decode(await output.readline(), type=Played)

        url = (await output.readline()).decode().strip()
        ended = asyncio.ensure_future(played())
        fires = await watch(venue, url, found, levels, ended)
        return await ended, fires
    finally:
        process.kill()
        await process.wait()


async def measure(
    venue: str, folder: Path | None, count: int = POSITIONS, rounds: int = ROUNDS, speed: float = SPEED
) -> Figures:
    found, origin = prints(folder)
    levels, (believed, waited_us) = stops(found, count), counted(found)
    expected, gullible = oracle(believed, levels), oracle(found, levels)
    timed = list(timed_frames(venue, found))
    late: defaultdict[str, list[int]] = defaultdict(list)
    fired = waited = missed = twice = elsewhere = 0
    for _ in range(rounds):
        played, fires = await _round(venue, folder, found, levels, speed)
        due_ns: dict[Key, int] = {}
        written_ns: dict[Key, int] = {}
        for (due_us, trades, _), at_ns in zip(timed, played.written_ns, strict=True):
            for symbol, row in trades:
                due_ns[symbol, row.trade_id] = played.began_ns + int(due_us * 1000 / speed)
                written_ns[symbol, row.trade_id] = at_ns
        by_level = {fire.level_id: fire for fire in reversed(fires)}
        fired += len(by_level)
        twice += len(fires) - len(by_level)
        missed += len(expected.keys() - by_level.keys())
        for one, fire in by_level.items():
            elsewhere += one not in expected or fire.trade_id != expected[one].trade_id
            crossing = (fire.symbol, fire.trade_id)
            waited_ns = int(waited_us.get(crossing, 0) * 1000 / speed)
            waited += waited_ns > 0
            late["due → decided"].append(fire.at_ns - due_ns[crossing])
            late["due, and confirmed → decided"].append(fire.at_ns - due_ns[crossing] - waited_ns)
            late["beside it: due → on the wire"].append(written_ns[crossing] - due_ns[crossing])
            late["beside it: on the wire → decided"].append(fire.at_ns - written_ns[crossing])
    return Figures(
        origin=origin,
        trades=_size(found),
        levels=_size(levels),
        unbelieved=_size(found) - _size(believed),
        delayed=sum(expected.get(one) is not row for one, row in gullible.items()),
        fired=fired,
        waited=waited,
        missed=missed,
        twice=twice,
        elsewhere=elsewhere,
        late={name: summary(values) for name, values in late.items()},
    )


def _size(of: Mapping[str, Sequence[object]]) -> int:
    return sum(map(len, of.values()))


def told(venue: str, found: Figures, speed: float = SPEED) -> str:
    title = f"a crash minute at {speed:g} ×, {venue}, {found.origin}: {found.trades:,} trades, {found.levels:,} stops"
    whole, own = found.late["due → decided"], found.late["due, and confirmed → decided"]
    return (
        f"{table(title, found.late)}\n"
        f"  crash: fired {found.fired:,}, missed {found.missed}, twice {found.twice}, at another trade than the "
        f"oracle's {found.elsewhere}; late by {whole.p50:.2f} ms, p99 {whole.p99:.2f} ms\n"
        f"  {found.waited:,} of them waited for a trade that confirmed theirs; without that wait p99 {own.p99:.2f} ms\n"
        f"  {found.unbelieved} prints are not believed, for nothing confirms them: {found.delayed} stops fire later "
        f"than at the first print beyond them, or not at all"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.crash")
    parser.add_argument("--venue", required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--speed", type=float, required=True)
    given = parser.parse_args()
    asyncio.run(play(given.venue, given.folder, given.speed))
