"""A price that jumps away counts when something else says the same, and a crash always counts."""

import csv
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec
import pytest

from app.domain.outliers import AGREEING, BOUND, SPAN_MS, WINDOW_MS, Sieve, confirms, near

D = Decimal


class Print(msgspec.Struct, frozen=True):
    price: Decimal
    at_ms: int


def prints(*prices: str, every_ms: int = 1, start_ms: int = 0) -> list[Print]:
    return [Print(D(price), start_ms + number * every_ms) for number, price in enumerate(prices)]


class Heard:
    """As a feed uses it: what is between the bounds is not sifted."""

    def __init__(self, mark: str | None = None) -> None:
        self.sieve: Sieve[Print] = Sieve()
        self.mark = None if mark is None else D(mark)
        self.last: Decimal | None = None
        self.counted: list[str] = []
        self.sifted = 0

    def hear(self, trades: Iterable[Print]) -> None:
        for trade in trades:
            if self.sieve.low <= trade.price <= self.sieve.high:
                self.count([trade])
            else:
                self.sifted += 1
                self.count(self.sieve.sift([trade], self.last, self.mark))

    def count(self, trades: Sequence[Print]) -> None:
        for trade in trades:
            self.last = trade.price
            self.counted.append(str(trade.price))

    @property
    def held(self) -> list[str]:
        return [str(trade.price) for trade in self.sieve.held]


def test_an_everyday_walk_is_not_held_and_hardly_sifted() -> None:
    heard = Heard()
    walk = prints("100", "100.5", "99.4", "99.9", "100.9", "99.2")
    heard.hear(walk)
    assert heard.counted == [str(one.price) for one in walk]
    assert heard.sifted == 1, "only the first"
    heard.hear(prints("101.1", "102", "103"))
    assert heard.counted[-3:] == ["101.1", "102", "103"], "far from where it began, each near the one before"


@pytest.mark.parametrize("price", ["102", "98"])
def test_a_jump_of_the_bound_itself_counts(price: str) -> None:
    heard = Heard()
    heard.hear(prints("100", price))
    assert heard.counted == ["100", price]


@pytest.mark.parametrize("price", ["102.01", "97.99", "0.01", "1000000"])
def test_a_lone_jump_is_held_and_denied_by_who_trades_on(price: str) -> None:
    heard = Heard()
    heard.hear(prints("100", price))
    assert (heard.counted, heard.held) == (["100"], [price])
    heard.hear(prints("100.1"))
    assert (heard.counted, heard.held) == (["100", "100.1"], [])
    assert heard.sieve.low < D(100) < heard.sieve.high, "and back to two comparisons"


def test_a_jump_to_where_the_mark_price_is_counts_at_once() -> None:
    heard = Heard(mark="91")
    heard.hear(prints("100", "90"))
    assert heard.counted == ["100", "90"]


def test_a_mark_price_that_stayed_does_not_count_for_it() -> None:
    heard = Heard(mark="100")
    heard.hear(prints("100", "90"))
    assert heard.held == ["90"]


def test_three_on_one_side_confirm_each_other_and_all_count_in_order() -> None:
    heard = Heard(mark="100")
    heard.hear(prints("100", "90", "85"))
    assert (heard.counted, heard.held) == (["100"], ["90", "85"])
    heard.hear(prints("80"))
    assert (heard.counted, heard.held) == (["100", "90", "85", "80"], [])
    heard.hear(prints("80.5"))
    assert heard.counted[-1] == "80.5"


def test_what_was_held_before_the_mark_agreed_counts_with_it() -> None:
    heard = Heard(mark="80")
    heard.hear(prints("100", "90", "81"))
    assert heard.counted == ["100", "90", "81"]


def test_the_other_side_confirms_nothing() -> None:
    heard = Heard()
    heard.hear(prints("100", "90", "110", "91", "109"))
    assert (heard.counted, heard.held) == (["100"], ["109"])


def test_who_is_near_both_confirms_the_one_that_it_is_nearer_to() -> None:
    """The price went on from there: it was no slip of the hand."""
    heard = Heard()
    heard.hear(prints("100", "102.2", "101.9"))
    assert (heard.counted, heard.held) == (["100", "102.2", "101.9"], [])
    heard = Heard()
    heard.hear(prints("100", "102.2", "100.4"))
    assert (heard.counted, heard.held) == (["100", "100.4"], [])


def test_three_in_a_row_confirm_each_other_however_long_it_takes() -> None:
    heard = Heard()
    heard.hear(prints("100", "90", "90", every_ms=60_000))
    assert len(heard.held) == AGREEING - 1
    heard.hear(prints("90", start_ms=600_000))
    assert heard.counted == ["100", "90", "90", "90"]


def test_jumps_with_the_old_price_between_them_confirm_each_other_only_when_they_are_close_in_time() -> None:
    heard = Heard()
    heard.hear(prints("100", "95", "100", "95", "100", every_ms=1))  # the jumps at 1 and 3 ms
    heard.hear(prints("95", start_ms=1 + WINDOW_MS))
    assert heard.held == ["95"], "the first is too long ago"
    heard.hear(prints("100", "95", start_ms=2 + WINDOW_MS))
    assert heard.counted[-1] == "100"
    heard.hear(prints("100", "95", start_ms=3 + WINDOW_MS))
    assert heard.counted[-1] == "95"


def test_jumps_between_which_the_old_price_trades_on_count_from_the_third() -> None:
    """A book with a wide gap: both of its sides are real."""
    heard = Heard()
    heard.hear(prints("100", "95", "100", "95", "100", "95"))
    assert heard.counted == ["100", "100", "100", "95"]


FALL = ("100", "98.5", "97", "95.5", "94", "92.5", "91", "90")


@pytest.mark.parametrize(
    ("price", "counts"), [("94", True), ("98", True), ("102", True), ("102.01", False), ("88.2", True), ("88.1", False)]
)
def test_to_go_back_to_where_the_market_just_was_is_no_jump(price: str, counts: bool) -> None:
    """In a crash trades go to and fro between a bid and an ask that are per cents apart."""
    heard = Heard()
    heard.hear(prints(*FALL, price))
    assert heard.counted == [*FALL, *([price] if counts else [])]


@pytest.mark.parametrize(("price", "counts"), [("98", True), ("97.99", False), ("112.2", True), ("112.3", False)])
def test_so_it_is_after_a_rise(price: str, counts: bool) -> None:
    heard, rise = Heard(), ("100", "101.5", "103", "104.5", "106", "107.5", "109", "110")
    heard.hear(prints(*rise, price))
    assert heard.counted == [*rise, *([price] if counts else [])]


def test_where_the_market_was_is_forgotten_after_a_while() -> None:
    for late_ms, counts in ((SPAN_MS - 1, True), (SPAN_MS, False)):
        heard = Heard()
        heard.hear(prints("100"))
        heard.hear(prints("98.5", "97", start_ms=10_000))
        heard.hear(prints("95.5", "94", start_ms=20_000))
        heard.hear(prints("101.5", start_ms=10_000 + late_ms))  # near what was left at 10,000, if that is remembered
        assert (heard.counted[-1] == "101.5") is counts


def test_a_lone_price_is_not_where_the_market_was() -> None:
    heard = Heard()
    heard.hear(prints("100", "103", "100", every_ms=WINDOW_MS))
    heard.hear(prints("103", start_ms=10 * WINDOW_MS))
    assert (heard.counted, heard.held) == (["100", "100"], ["103"])


@pytest.mark.parametrize("told", [True, False])
def test_where_the_market_was_can_be_told_by_who_knew_the_trades_before(told: bool) -> None:
    earlier, heard = Heard(), Heard()
    earlier.hear(prints("100", "98.5", "97"))
    heard.hear(prints("97", start_ms=3))
    if told:
        heard.sieve.recall(earlier.sieve)
    heard.hear(prints("100", start_ms=4))
    assert heard.counted == (["97", "100"] if told else ["97"])


def test_of_moves_without_end_only_the_last_are_remembered() -> None:
    heard = Heard()
    heard.hear(prints("90", *(("100", "101.5") * 2000)))
    assert heard.counted[-1] == "101.5"
    heard.hear(prints("90", start_ms=5000))
    assert heard.held == ["90"]


@pytest.mark.parametrize("seed", range(20))
def test_how_trades_are_put_into_frames_makes_no_difference(seed: int) -> None:
    random, price = Random(seed), 100.0
    trades = []
    for number in range(300):
        price *= 1 + random.gauss(0, random.choice([0.001, 0.01]))
        trades.append(
            Print(D(f"{price * random.choice([1, 1, 1, 1, 0.96, 1.1]):.2f}"), number * random.choice([1, 300]))
        )
    alone, together = Heard(), Heard()
    alone.hear(trades)
    while trades:
        frame, trades = trades[: (size := random.randint(1, 5))], trades[size:]
        together.count(together.sieve.sift(frame, together.last, None))
    assert together.counted == alone.counted


def test_a_frame_is_sifted_as_its_trades_are_one_by_one() -> None:
    sieve: Sieve[Print] = Sieve()
    frame = prints("100", "94", "99", "99.5", "50", "100")
    assert [str(one.price) for one in sieve.sift(frame, None, None)] == ["100", "99", "99.5", "100"]
    assert not sieve.held


def test_what_is_held_counts_when_somebody_else_confirms_it() -> None:
    heard = Heard()
    heard.hear(prints("100", "90", "89"))
    assert [str(one.price) for one in heard.sieve.release()] == ["90", "89"]
    assert heard.held == []
    assert heard.sieve.low < D(89) < heard.sieve.high
    assert heard.sieve.release() == []


def test_a_price_from_elsewhere_settles_it() -> None:
    heard = Heard()
    heard.hear(prints("100", "90"))
    heard.sieve.settle(D(100))
    assert heard.held == []
    assert (heard.sieve.low, heard.sieve.high) == (D(99), D(101)), "half the bound, so that no jump across is greater"


def test_what_is_near() -> None:
    assert near(D(102), D(100))
    assert near(D(98), D(100))
    assert not near(D("102.1"), D(100))
    assert not near(D("97.9"), D(100))
    assert D("0.02") == BOUND


@pytest.mark.parametrize(
    ("mark", "bid", "ask", "verdict"),
    [
        ("91", None, None, True),
        ("100", None, None, None),  # in a crash the mark price lags behind
        (None, None, None, None),
        ("100", "89", "90", True),
        ("100", "99.9", "100.1", False),
        (None, "99.9", "100.1", False),
        ("100", "99.9", None, None),
        ("100", None, "100.1", None),
        (None, "80", "100", True),  # between the best prices: a wide book
        (None, "91.8", "95", True),
        (None, "91.9", "95", False),
        (None, "80", "88.3", True),
        (None, "80", "88.2", False),
    ],
)
def test_who_confirms_a_price_of_90(mark: str | None, bid: str | None, ask: str | None, verdict: bool | None) -> None:
    found = confirms(
        D(90),
        mark=None if mark is None else D(mark),
        bid=None if bid is None else D(bid),
        ask=None if ask is None else D(ask),
    )
    assert found is verdict


RECORDED = os.environ.get("LEVELHEAD_SHARED_MARKET", "")
recorded = pytest.mark.skipif(not RECORDED, reason="LEVELHEAD_SHARED_MARKET names no folder of recorded markets")


@recorded
def test_the_recorded_lone_print_of_an_insurance_fund_does_not_count() -> None:
    heard = Heard()
    path = Path(RECORDED) / "ws/binance-usdm_btcusdt_20230405.txt.gz"
    with gzip.open(path, "rt") as lines:
        for line in lines:
            event = json.loads(line[line.index("{") :])
            event = event.get("data", event)
            if event.get("e") == "trade":
                heard.hear([Print(D(event["p"]), event["T"])])
    assert len(heard.counted) == 10_737, "all but one"
    assert max(map(D, heard.counted)) < D(28_200)


@recorded
def test_in_the_recorded_crash_every_stop_on_the_way_down_is_reached() -> None:
    with gzip.open(Path(RECORDED) / "trades/binance-coinm_DOTUSD_PERP_20251010.csv.gz", "rt") as rows:
        trades = [Print(D(row["price"]), int(row["ts_us"]) // 1000) for row in csv.DictReader(rows)]
    heard = Heard()
    heard.hear(trades)
    assert min(map(D, heard.counted)) == min(one.price for one in trades) == D("0.696")
    assert len(trades) - len(heard.counted) < 20, "of 206,062"
