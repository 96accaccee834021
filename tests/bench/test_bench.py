"""The bench's own arithmetic, and that its parts fit the code they measure; nothing here looks at a clock."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from app.domain.level_book import LevelBook
from bench import alert_path, door, exchange, frames, levels, load, order_overhead, pipeline, report, tick_path
from bench.__main__ import parse
from bench.rivals import Loop, Sorted

MS = report.NS_PER_MS


@pytest.mark.parametrize(
    ("q", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (90, 90), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(q: float, expected: int) -> None:
    assert report.percentile(list(range(100, 0, -1)), q) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        report.percentile([], 50)


def test_a_summary_is_in_milliseconds() -> None:
    found = report.summary([3 * MS, 1 * MS, 2 * MS])
    assert (found.n, found.p50, found.p99, found.max) == (3, 2.0, 3.0, 3.0)


def test_a_table_shows_each_median_as_a_multiple_of_the_floor() -> None:
    floor = report.summary([2 * MS])
    text = report.table("path", {"whole": report.summary([9 * MS]), "part": report.summary([1 * MS])}, floor)
    title, _, whole, part = text.split("\n")
    assert title == "path, ms"
    assert whole.endswith("4.5 ×")
    assert part.endswith("0.5 ×")


@pytest.mark.parametrize(("p50_ms", "said"), [(10, "reached"), (11, "missed")])
def test_a_verdict_follows_from_what_was_measured(p50_ms: int, said: str) -> None:
    text = report.verdict("alert", report.summary([p50_ms * MS]), report.summary([2 * MS]), 5.0)
    assert text.startswith(f"alert: p50 = {p50_ms / 2} × floor (aim ≤ 5 ×: {said})")


def test_the_steps_of_an_alert_add_up_to_the_whole() -> None:
    sample = alert_path.Sample(sent=1, answered=9, received=2, picked=4, decided=8, written=16, arrived=32)
    assert sum(sample.steps().values()) == sample.arrived - sample.sent


def test_the_steps_of_a_tick_add_up_to_the_whole() -> None:
    sample = tick_path.Sample(written=1, fired=4, arrived=9)
    assert sum(sample.steps().values()) == sample.arrived - sample.written


@pytest.mark.parametrize("text", ["2026-01-05T12:00:01.250001Z", "2026-01-05T12:00:01.250001+00:00"])
def test_an_instant_is_exact(text: str) -> None:
    whole_s = int(datetime(2026, 1, 5, 12, 0, 1, tzinfo=UTC).timestamp())
    assert alert_path.instant_ns(text) == whole_s * 1_000_000_000 + 250_001_000


def test_the_crossing_price_lies_between_the_stop_and_the_native_one() -> None:
    entry, crossing = Decimal(tick_path.ENTRY), Decimal(tick_path.CROSSING)
    assert entry * Decimal("0.985") < crossing < entry * Decimal("0.99")


def test_stamps_are_put_into_words_once() -> None:
    stamps = exchange.Stamps()
    stamps.came("a connection", 7, order_overhead.prepared("bybit", "http://127.0.0.1:1", "B00USDT"))
    [seen] = stamps.take().orders
    assert (seen.symbol, seen.reduce_only, seen.qty, seen.at_ns) == ("B00USDT", True, "1", 7)
    assert stamps.take() == exchange.Seen()


def test_no_tick_of_the_level_book_bench_crosses_a_level() -> None:
    for case in levels.CASES.values():
        armed = [case.make(number) for number in range(50)]
        for open_way in case.ways.values():
            way = open_way(armed)
            assert not any(way.on_price(price) for price in case.walk(50, 0))


def test_the_ways_of_the_level_book_bench_find_the_same() -> None:
    for make in (levels.plain, levels.trailing):
        armed = [make(number) for number in range(50)]
        prices = [Decimal(price) for price in (100, 103, 105, 91)]
        for price in prices[:-1]:
            assert len(LevelBook(armed).on_price(price)) == Loop(armed).on_price(price) == Sorted(armed).on_price(price)
        found = [[way.on_price(price) for price in prices][-1] for way in (Loop(armed), Sorted(armed))]
        book = LevelBook(armed)
        assert found == [[len(book.on_price(price)) for price in prices][-1]] * 2


def test_the_level_book_bench_tells_of_each_size() -> None:
    found = levels.measure(sizes=(2, 4), ticks=5, rounds=1)
    assert all(list(row) == [2, 4] for row in found.values())
    assert [name for name in found if name.startswith("plain")] == ["plain: book", "plain: loop", "plain: sorted"]
    assert "(1.0 ×)" in levels.table(found)


def test_the_level_book_bench_says_what_was_reached() -> None:
    rows = {f"{case}: book": {10: 100.0, 10_000: 200.0} for case in levels.CASES}
    rows |= {"plain: loop": {10_000: 60_000.0}, "trailing, a new high each tick: emulator": {10_000: 1_000_000.0}}
    text = levels.verdicts(rows)
    assert (
        "plain: 0.20 µs (aim ≤ 0.5 µs: reached) a tick at most, the most ÷ the least 2.00 (aim ≤ 1.5: missed)" in text
    )
    assert "plain: loop ÷ book at 10,000: 300 (aim ≥ 300: reached)" in text
    assert "trailing, a new high each tick: emulator ÷ book at 10,000: 5,000 (aim ≥ 10,000: missed)" in text
    assert len(text.splitlines()) == len(levels.CASES) + 2, "nothing is said of what was not measured"


@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_the_pipeline_bench_judges_every_trade_of_its_frames(venue: str) -> None:
    [figures] = pipeline.measure(None, venues=(venue,), count=4, rounds=1).values()
    assert figures.trades >= figures.frames == frames.COUNT
    assert figures.trades_per_second > 0


def test_the_options_have_defaults() -> None:
    assert parse(["--alerts", "3"]).alerts == 3
    assert parse([]).gap_ms == 60


def turns(rate: float) -> list[door.Turn]:
    return [door.Turn(rate=rate * part, cpu_us=1e6 / rate, p50_ms=1, p99_ms=2) for part in (0.5, 1, 3)]


@pytest.mark.parametrize(("ours", "said"), [(500, "reached"), (499, "missed")])
def test_the_door_is_judged_by_the_medians(ours: float, said: str) -> None:
    of = {door.FLASK: turns(250), door.FASTAPI: turns(600), door.FRAMEWORK: turns(1000), door.OURS: turns(ours)}
    paced = load.Load(
        answered=1, seconds=1, statuses={202: 1}, cut=0, latency=report.Summary(n=1, p50=1, p90=1, p99=50, max=50)
    )
    found = door.Measured(turns={16: of}, at_rate=paced)
    assert found.rate(16, door.OURS) == ours
    lines = door.told(found).split("\n")
    assert [line.endswith(f"{said})") for line in lines if "beside" in line] == [True, True]
    assert "p99 50.0 ms (aim ≤ 50 ms: reached)" in lines[-1]


def test_a_senders_alert_has_an_id_and_an_instrument_of_its_own() -> None:
    order = load.Order(url="http://127.0.0.1:1", path="/webhook/x", body={"secret": "s", "action": "buy"}, symbols=2)
    senders = load.Senders(order, None)
    requests = [senders.request() for _ in range(3)]
    assert [name for name, _ in requests] == ["load-0", "load-1", "load-2"]
    bodies = [msgspec.json.decode(request.partition(b"\r\n\r\n")[2]) for _, request in requests]
    assert [(body["id"], body["symbol"]) for body in bodies] == [
        ("load-0", "B00USDT"), ("load-1", "B01USDT"), ("load-2", "B00USDT"),
    ]  # fmt: skip
    assert bodies[0].keys() == {"id", "symbol", "secret", "action"}
    head, _, body = requests[0][1].partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
