"""What a symbol's whole way costs on one core: a trade frame as it came -> decoded -> checked -> compared with levels.

No socket: the frames are handed to the venue's own reader, one after the other, as fast as it takes them. Beside it the
bare decoding of the same frames into typed structs, which nothing can do without.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from app.domain.level import Level
from app.store.accounts import VenueName
from app.venues.base import Origins
from bench import frames, levels
from bench.readers import decoder
from bench.report import aimed
from workers.feed import Feed

ARMED = 10_000  # levels of each symbol
ROUNDS = 5
RATE_AIM = 100_000  # trades a second
NOWHERE = Origins(rest="http://127.0.0.1:9", ws="ws://127.0.0.1:9")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The best of some rounds, in one process."""

    trades_per_second: float
    decoding_alone: float  # trades per second
    frames: int
    trades: int


def far_levels(price: Decimal, count: int) -> list[Level]:
    """Stops, targets and trailing stops, from a third of the price away; they neither fire nor move."""
    return [_scaled((levels.plain, levels.trailing)[number % 2](number), price) for number in range(count)]


def _scaled(level: Level, price: Decimal) -> Level:
    factor = price / 100

    def times(value: Decimal | None) -> Decimal | None:
        return None if value is None else value * factor

    if level.price is not None:
        away = 3 if level.fires_above else Decimal("0.6")
        return msgspec.structs.replace(level, price=times(level.price * away))
    assert level.distance is not None, "it trails"
    return msgspec.structs.replace(level, extreme=price * 3, distance=price * Decimal("2.5") + level.distance)


def first_prices(found: Sequence[bytes]) -> dict[str, Decimal]:
    prices: dict[str, Decimal] = {}
    for frame in found:
        data = msgspec.json.decode(frame)["data"]
        for row in data if isinstance(data, list) else [data]:
            prices.setdefault(row["s"], Decimal(row["p"]))
    return prices


def open_feed(venue: str, prices: dict[str, Decimal], count: int) -> tuple[Feed, Callable[[bytes], None]]:
    """A feed that may fire, with levels armed around these prices, and what takes its frames."""

    def crossed(level: Level, price: Decimal | None, trade_id: str | None) -> None:
        raise AssertionError(f"a level of the bench fired at {price}")

    feed = Feed(
        VenueName(venue), NOWHERE, may_fire=lambda: True, on_crossed=crossed,
        on_back=lambda feed: None, on_missed=lambda feed, symbol, gap: None, on_held=lambda feed, symbol: None,
    )  # fmt: skip
    feed.end_gap()
    for symbol, price in prices.items():
        feed.follow(symbol)
        for level in far_levels(price, count):
            feed.arm(symbol, level)
    links = feed.stream._links  # type: ignore[attr-defined]
    link = links[0] if venue == "bybit" else links["market"][0]
    return feed, link._received


async def _measure(venue: str, folder: Path | None, count: int, rounds: int) -> Figures:
    found, _ = frames.frames(venue, folder)
    prices = first_prices(found)
    if venue == "binance":  # as on the path that is subscribed: not wrapped
        found = [msgspec.json.encode(msgspec.json.decode(frame)["data"]) for frame in found]
    decode = decoder(venue)
    trades = sum(decode(frame) for frame in found)
    bare = whole = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for frame in found:
            decode(frame)
        bare = min(bare, time.perf_counter() - began)
        feed, take = open_feed(venue, prices, count)
        gc.collect()
        began = time.perf_counter()
        for frame in found:
            take(frame)
        whole = min(whole, time.perf_counter() - began)
        assert feed.judged_ms, "the trades were judged"
    return Figures(trades_per_second=trades / whole, decoding_alone=trades / bare, frames=len(found), trades=trades)


def measure(
    folder: Path | None, venues: Sequence[str] = ("bybit", "binance"), count: int = ARMED, rounds: int = ROUNDS
) -> dict[str, Figures]:
    return {venue: asyncio.run(_measure(venue, folder, count, rounds)) for venue in venues}


def table(found: dict[str, Figures]) -> str:
    lines = [f"a symbol's whole way, frame -> decode -> book, trades a second on one core ({ARMED:,} levels each)"]
    for venue, row in found.items():
        lines.append(
            f"  {venue:8} {aimed(row.trades_per_second, RATE_AIM, least=True)}; decoding alone "
            f"{row.decoding_alone:,.0f}; {row.trades:,} trades in {row.frames:,} frames"
        )
    return "\n".join(lines)
