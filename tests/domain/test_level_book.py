"""The level book against a model that scans a plain list, and by tables."""

import csv
import gzip
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from pathlib import Path
from random import Random
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.level import Level, LevelKind, LevelStatus, would_fire
from app.domain.level_book import LevelBook
from app.domain.order import PositionSide

D = Decimal
START = datetime(2025, 3, 4, tzinfo=UTC)
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
STOP, TARGET = LevelKind.STOP_LOSS, LevelKind.TAKE_PROFIT
TRAILING, EVEN = LevelKind.TRAILING_STOP, LevelKind.BREAK_EVEN
TAKING = LevelKind.TRAILING_TAKE_PROFIT
PRICED = (STOP, TARGET, TRAILING, TAKING, EVEN)  # what looks at a price


def level(
    number: int,
    kind: LevelKind,
    price: str | None = None,
    *,
    side: PositionSide = LONG,
    position: int = 1,
    wakes: str | None = None,
    distance: str | None = None,
    distance_pct: str | None = None,
    min_factor: str = "1",
    decay_pct: str | None = None,
    extreme: str | None = None,
    armed_s: int = 0,
) -> Level:
    def number_of(text: str | None) -> Decimal | None:
        return None if text is None else D(text)

    return Level(
        id=UUID(int=number),
        position_id=UUID(int=1000 + position),
        kind=kind,
        side=side,
        fraction=D(1),
        qty=D("0.1"),
        price=number_of(price),
        activation_price=number_of(wakes),
        distance=number_of(distance),
        distance_pct=number_of(distance_pct),
        min_factor=D(min_factor),
        decay_pct=number_of(decay_pct),
        extreme=number_of(extreme),
        armed_at=START + timedelta(seconds=armed_s),
        order_id=UUID(int=2000 + number),
        intent_id=UUID(int=3000 + number),
        status=LevelStatus.ARMED,
    )


def fires(book: LevelBook, *prices: str) -> list[list[int]]:
    """The numbers of the levels that each price fires."""
    return [[fired.id.int for fired in book.on_price(D(price))] for price in prices]


@pytest.mark.parametrize(
    ("armed", "prices", "expected"),
    [
        (level(1, STOP, "100"), ["100.1", "100"], [[], [1]]),
        (level(1, STOP, "100"), ["100.1", "90", "80"], [[], [1], []]),  # through it, and only once
        (level(1, STOP, "100", side=SHORT), ["99.9", "100"], [[], [1]]),
        (level(1, TARGET, "100"), ["99.9", "100"], [[], [1]]),
        (level(1, TARGET, "100", side=SHORT), ["100.1", "100"], [[], [1]]),
        (level(1, STOP, "100.0"), ["100.00"], [[1]]),  # equal as numbers, not as text
        # trailing from the first price on
        (level(1, TRAILING, distance="5"), ["100", "110", "105.1", "105"], [[], [], [], [1]]),
        (level(1, TRAILING, distance_pct="1"), ["100", "200", "198.01", "198"], [[], [], [], [1]]),
        (level(1, TRAILING, distance="5", side=SHORT), ["100", "90", "94.9", "95"], [[], [], [], [1]]),
        (level(1, TRAILING, distance="5", extreme="120"), ["115.1", "115"], [[], [1]]),  # known from before a restart
        # a sleeping one doesn't follow and doesn't fire
        (level(1, TRAILING, distance="5", wakes="110"), ["109", "50", "110", "106", "105"], [[], [], [], [], [1]]),
        (
            level(1, TRAILING, distance="5", wakes="90", side=SHORT),
            ["91", "200", "90", "94", "95"],
            [[], [], [], [], [1]],
        ),
        # break even: nothing before it woke, a plain stop afterwards
        (level(1, EVEN, "100", wakes="110"), ["99", "109.9", "110", "100.1", "100"], [[], [], [], [], [1]]),
        (level(1, EVEN, "100", wakes="90", side=SHORT), ["101", "90", "99.9", "100"], [[], [], [], [1]]),
        (level(1, EVEN, "100", wakes="110", extreme="110"), ["100"], [[1]]),  # woken before a restart
    ],
)
def test_a_level_fires_when_touched(armed: Level, prices: list[str], expected: list[list[int]]) -> None:
    assert fires(LevelBook([armed]), *prices) == expected


def test_a_gap_fires_all_rungs_that_it_crosses_in_the_order_of_their_arming() -> None:
    book = LevelBook(
        [
            level(3, TARGET, "103", armed_s=0),
            level(1, TARGET, "101", armed_s=2),
            level(2, TARGET, "102", armed_s=1),
            level(4, TARGET, "110"),
        ]
    )
    assert fires(book, "105", "105", "110") == [[3, 2, 1], [], [4]]


def test_a_stop_goes_before_the_targets_of_its_position_which_stay_armed() -> None:
    book = LevelBook([level(1, TARGET, "90", armed_s=0), level(2, STOP, "100", armed_s=5)])
    assert fires(book, "95") == [[2]]
    assert [left.id.int for left in book.levels()] == [1]


def test_one_stop_of_a_position_is_enough() -> None:
    book = LevelBook(
        [
            level(1, STOP, "100", armed_s=1),
            level(2, TRAILING, distance="1", extreme="102"),
            level(3, STOP, "100", position=2, armed_s=2),
        ]
    )
    assert fires(book, "99") == [[2, 3]]
    assert fires(book, "99") == [[1]]  # until the store disarms it


def test_arming_again_with_the_same_id_replaces() -> None:
    book = LevelBook([level(1, STOP, "100")])
    book.arm(level(1, STOP, "90"))
    assert fires(book, "95", "90") == [[], [1]]
    assert len(book) == 0


def test_a_disarmed_level_is_silent_and_disarming_twice_is_nothing() -> None:
    book = LevelBook([level(1, STOP, "100"), level(2, TRAILING, distance="1"), level(3, EVEN, "100", wakes="105")])
    for number in (1, 2, 3, 3):
        book.disarm(UUID(int=number))
    assert fires(book, "110", "1") == [[], []]
    assert book.changed() == []


def test_changed_names_what_moved_once() -> None:
    book = LevelBook([level(1, TRAILING, distance="50"), level(2, EVEN, "90", wakes="105"), level(3, STOP, "10")])
    book.on_price(D(100))
    assert [(x.id.int, x.extreme) for x in book.changed()] == [(1, D(100))]
    assert book.changed() == []
    book.on_price(D(99))
    assert book.changed() == []
    book.on_price(D(105))
    assert {(x.id.int, x.extreme) for x in book.changed()} == {(1, D(105)), (2, D(105))}
    book.on_price(D(106))
    book.on_price(D(1))  # all gone but what their position's first stop left
    assert all(x.id in {left.id for left in book.levels()} for x in book.changed())


def test_of_many_that_changed_some_are_told_of_in_turn() -> None:
    book = LevelBook(level(number, TRAILING, distance="50") for number in range(1, 6))
    told: list[int] = []
    for price in range(100, 115):  # all move with each price
        book.on_price(D(price))
        some = book.changed(2)
        assert [one.extreme for one in some] == [D(price)] * 2
        told += [one.id.int for one in some]
    assert sorted(told[:5]) == [1, 2, 3, 4, 5]
    assert all(told.count(number) >= 4 for number in range(1, 6)), "none has to wait for long"
    book.changed()
    assert book.changed(2) == []


def test_arming_again_for_another_quantity_does_not_loosen_a_trailing_stop() -> None:
    book = LevelBook([level(1, TRAILING, distance="5")])
    book.on_price(D(120))
    book.changed()
    stale = msgspec.structs.replace(level(1, TRAILING, distance="5", extreme="110"), qty=D("0.05"))
    book.arm(stale)
    (kept,) = book.changed()  # the store has to learn of it
    assert (kept.extreme, kept.qty) == (D(120), D("0.05"))
    assert fires(book, "115") == [[1]]


def test_a_trailing_take_profit_gives_back_less_the_more_it_gained() -> None:
    """2 % at first, 1 % at least; half-way after ln 2 per cent of gain."""
    book = LevelBook([level(1, TAKING, wakes="100", distance_pct="2", min_factor="0.5", decay_pct="1")])
    found = []
    for price in ("99", "100", "100.7", "101.2", "103.68", "103.69", "110"):
        assert book.on_price(D(price)) == []
        [one] = book.levels()
        found.append(None if one.trigger_price is None else one.callback_pct)
    assert found == [None, D(2), D("1.5"), D("1.3"), D("1.05"), D(1), D(1)]
    assert fires(book, "108.91", "108.9") == [[], [1]]
    book.arm(level(2, TRAILING, distance="50", extreme="100"))
    assert fires(book, "90") == [[]], "nothing of it is left among those that trail"


def test_a_callback_that_does_not_shrink_is_that_of_a_trailing_stop() -> None:
    book = LevelBook(
        [level(1, TAKING, wakes="100", distance_pct="2"), level(2, TRAILING, wakes="100", distance_pct="2")]
    )
    assert fires(book, "100", "150", "147.01", "147") == [[], [], [], [1]]  # both are stops of one position


def test_what_was_advanced_fires_once() -> None:
    book = LevelBook([level(1, TRAILING, distance="5", extreme="100"), level(2, TRAILING, distance="6", extreme="100")])
    book.advance(UUID(int=1), D(120))
    assert fires(book, "114", "94", "94") == [[1], [2], []]
    assert len(book) == 0


def test_arming_anew_starts_anew() -> None:
    book = LevelBook([level(1, TRAILING, distance="5")])
    book.on_price(D(120))
    book.arm(level(1, TRAILING, distance="5", armed_s=9))
    assert fires(book, "110", "106", "105") == [[], [], [1]]


@pytest.mark.parametrize(
    ("armed", "high", "low", "expected"),
    [
        (level(1, STOP, "100"), "110", "100", True),
        (level(1, STOP, "100"), "110", "100.1", False),
        (level(1, TARGET, "110"), "110", "100", True),
        (level(1, STOP, "110", side=SHORT), "110", "100", True),
        (level(1, TARGET, "100", side=SHORT), "110", "100.1", False),
        (level(1, TRAILING, distance="5"), "110", "1", False),  # has seen no price
        (level(1, TRAILING, distance="5", extreme="106"), "200", "101", True),
        (level(1, TRAILING, distance="5", extreme="106"), "200", "101.1", False),  # the candle's own high doesn't count
        (level(1, EVEN, "100", wakes="105"), "110", "99", False),  # which came first isn't known
        (level(1, EVEN, "100", wakes="105", extreme="105"), "110", "99", True),
    ],
)
def test_would_fire_judges_a_candle(armed: Level, high: str, low: str, expected: bool) -> None:
    assert would_fire(armed, D(high), D(low)) is expected


def callback(one: Level) -> Decimal:
    """Per cent of the extreme, by the words of the documentation."""
    assert one.distance_pct is not None
    if one.decay_pct is None:
        return one.distance_pct
    assert one.extreme is not None
    assert one.activation_price is not None
    gain_pct = one.side.sign * (one.extreme - one.activation_price) / one.activation_price * 100
    lost = 1 - (-max(gain_pct, D(0)) / one.decay_pct).exp()
    return one.distance_pct * (1 - (1 - one.min_factor) * (lost * 20).to_integral_value(ROUND_HALF_UP) / 20)


class Model:
    """The same book in the most obvious way."""

    def __init__(self) -> None:
        self.levels: dict[UUID, Level] = {}
        self.moved: set[UUID] = set()

    def arm(self, new: Level) -> None:
        old = self.levels.pop(new.id, None)
        self.moved.discard(new.id)
        if old is not None and old.extreme is not None and self._same(old, new):
            best = max if new.side is LONG else min
            extreme = old.extreme if new.extreme is None else best(old.extreme, new.extreme)
            if extreme != new.extreme:
                new = msgspec.structs.replace(new, extreme=extreme)
                self.moved.add(new.id)
        self.levels[new.id] = new

    @staticmethod
    def _same(old: Level, new: Level) -> bool:
        return msgspec.structs.replace(
            old, extreme=None, qty=D(0), position_id=new.position_id
        ) == msgspec.structs.replace(new, extreme=None, qty=D(0))

    def disarm(self, level_id: UUID) -> None:
        self.levels.pop(level_id, None)
        self.moved.discard(level_id)

    def on_price(self, price: Decimal) -> list[Level]:
        crossed = []
        for one in list(self.levels.values()):
            sign = one.side.sign
            follows = one.kind in (TRAILING, TAKING)
            if one.activation_price is not None and one.extreme is None:
                if sign * price < sign * one.activation_price:
                    continue
                one = self._move(one, price)
            elif follows and (one.extreme is None or sign * price > sign * one.extreme):
                one = self._move(one, price)
            if one.kind is TARGET:
                assert one.price is not None
                hit = sign * price >= sign * one.price
            elif follows:
                assert one.extreme is not None
                away = one.distance if one.distance is not None else one.extreme * callback(one) / 100
                hit = sign * price <= sign * one.extreme - away
            else:
                assert one.price is not None
                hit = sign * price <= sign * one.price
            if hit:
                crossed.append(one)
        crossed.sort(key=lambda one: (one.kind is TARGET, one.armed_at, one.id))
        fired: list[Level] = []
        for one in crossed:
            if any(stop.kind is not TARGET and stop.position_id == one.position_id for stop in fired):
                continue
            fired.append(one)
        for one in fired:
            self.disarm(one.id)
        return fired

    def _move(self, one: Level, price: Decimal) -> Level:
        self.levels[one.id] = msgspec.structs.replace(one, extreme=price)
        self.moved.add(one.id)
        return self.levels[one.id]


PRICES = st.integers(180, 220).map(lambda halves: D(halves) / 2)


@st.composite
def levels(draw: st.DrawFn) -> Level:
    kind = draw(st.sampled_from(PRICED))
    number = draw(st.integers(1, 12))
    sleeps = kind in (EVEN, TAKING) or (kind is TRAILING and draw(st.booleans()))
    absolute = kind is TRAILING and draw(st.booleans())
    awake = kind in (TRAILING, TAKING, EVEN) and draw(st.integers(0, 3)) == 0
    follows = kind in (TRAILING, TAKING)
    shrinks = kind is TAKING and draw(st.booleans())
    return Level(
        id=UUID(int=number),
        position_id=UUID(int=1000 + draw(st.integers(1, 3))),
        kind=kind,
        side=draw(st.sampled_from(PositionSide)),
        fraction=D(1),
        qty=D(draw(st.integers(1, 3))),
        price=None if follows else draw(PRICES),
        activation_price=draw(PRICES) if sleeps else None,
        distance=D(draw(st.integers(1, 6))) if absolute else None,
        distance_pct=D(draw(st.integers(1, 6))) if follows and not absolute else None,
        min_factor=D(draw(st.integers(1, 9))) / 10 if shrinks else D(1),
        decay_pct=D(draw(st.integers(1, 8))) if shrinks else None,
        extreme=draw(PRICES) if awake else None,
        armed_at=START + timedelta(seconds=draw(st.integers(0, 3))),
        order_id=UUID(int=2000 + number),
        intent_id=UUID(int=3000 + number),
    )


Step = Level | UUID | Decimal | None  # arm, disarm, tick, collect what changed
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(levels(), PRICES, PRICES, st.integers(1, 12).map(lambda number: UUID(int=number)), st.none()),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_the_book_does_what_a_list_scan_does(steps: Sequence[Step]) -> None:
    book, model = LevelBook(), Model()
    for step in steps:
        match step:
            case Level():
                book.arm(step)
                model.arm(step)
            case UUID():
                book.disarm(step)
                model.disarm(step)
            case Decimal():
                assert book.on_price(step) == model.on_price(step)
            case None:
                assert {x.id: x for x in book.changed()} == {x: model.levels[x] for x in model.moved}
                model.moved.clear()
        assert {x.id: x for x in book.levels()} == model.levels


def any_level(random: Random, number: int, price: int) -> Level:
    kind = random.choice([TRAILING, TRAILING, TRAILING, TAKING, STOP, TARGET, EVEN])
    trails = kind in (TRAILING, TAKING)
    absolute = kind is TRAILING and random.random() < 0.5
    sleeps = kind in (EVEN, TAKING) or (trails and random.random() < 0.3)
    shrinks = kind is TAKING and random.random() < 0.7
    return level(
        number,
        kind,
        None if trails else str(price + random.randint(-30, 30)),
        side=random.choice([LONG, SHORT]),
        position=random.randint(1, number),
        wakes=str(price + random.randint(-20, 20)) if sleeps else None,
        distance=str(random.randint(1, 25)) if absolute else None,
        distance_pct=str(D(random.randint(1, 30)) / 10) if trails and not absolute else None,
        min_factor=str(D(random.randint(1, 9)) / 10) if shrinks else "1",
        decay_pct=str(D(random.randint(1, 40)) / 10) if shrinks else None,
        extreme=str(price + random.randint(-20, 20)) if (trails or kind is EVEN) and random.random() < 0.5 else None,
        armed_s=random.randint(0, 3),
    )


@pytest.mark.parametrize("seed", range(60))
def test_on_a_long_walk_the_book_does_what_a_list_scan_does(seed: int) -> None:
    """Many levels that ride together, are passed, fire, come and go; on rising, falling and jumping prices."""
    random = Random(seed)
    numbers, price, drift = random.choice([5, 30, 120]), 1000, random.choice([-1, 0, 1])
    back = random.choice([0, 0, 3, 12, 25])  # so far it steps back from each second price, and up again
    book, model = LevelBook(), Model()
    for _ in range(400):
        dice = random.random()
        if dice < 0.25:
            new = any_level(random, random.randint(1, numbers), price)
            book.arm(new)
            model.arm(new)
        elif dice < 0.3:
            gone = UUID(int=random.randint(1, numbers))
            book.disarm(gone)
            model.disarm(gone)
        elif dice < 0.35:
            assert {x.id: x for x in book.changed()} == {x: model.levels[x] for x in model.moved}
            model.moved.clear()
        else:
            price += random.randint(-25, 25) if random.random() < 0.05 else random.choice([-2, -1, 0, 1, 2]) + drift
            for one in [price, price - back, price + back][: random.randint(1, 3) if back else 1]:
                assert book.on_price(D(one)) == model.on_price(D(one))
    assert {x.id: x for x in book.levels()} == model.levels


RECORDED = os.environ.get("LEVELHEAD_SHARED_MARKET", "")
RECORDS = sorted((Path(RECORDED) / "trades").glob("*.csv.gz")) if RECORDED else []


def recorded_prices(path: Path, count: int) -> list[Decimal]:
    with gzip.open(path, "rt") as rows:
        return [D(row["price"]) for row in islice(csv.DictReader(rows), count)]


@pytest.mark.skipif(not RECORDS, reason="LEVELHEAD_SHARED_MARKET names no folder of recorded markets")
@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_on_recorded_trades_the_book_does_what_a_list_scan_does(path: Path) -> None:
    random = Random(path.name)
    book, model = LevelBook(), Model()
    for number, price in enumerate(recorded_prices(path, 20_000)):
        while len(book) < 30:
            new = near_level(random, number * 100 + len(book) + 1, price)
            book.arm(new)
            model.arm(new)
        assert book.on_price(price) == model.on_price(price)
    assert {x.id: x for x in book.levels()} == model.levels


def near_level(random: Random, number: int, price: Decimal) -> Level:
    """Within a per cent of the price, on its own side of it."""
    kind, side = random.choice([STOP, TARGET, TRAILING, TRAILING, TAKING, EVEN]), random.choice([LONG, SHORT])
    away = price * random.randint(1, 1000) / 100_000
    gain, loss = price + side.sign * away, price - side.sign * away
    absolute = random.random() < 0.5
    return level(
        number,
        kind,
        {STOP: str(loss), TARGET: str(gain), EVEN: str(price)}.get(kind),
        side=side,
        position=number,
        wakes=str(gain) if kind in (EVEN, TAKING) or (kind is TRAILING and random.random() < 0.5) else None,
        distance=str(away) if kind is TRAILING and absolute else None,
        distance_pct=str(D(random.randint(1, 100)) / 100) if kind is TAKING or not absolute else None,
        min_factor="0.2" if kind is TAKING else "1",
        decay_pct=str(D(random.randint(1, 100)) / 100) if kind is TAKING else None,
    )


class Counting(LevelBook):
    """Counts the prices that were looked at, and how often all bounds were noted anew."""

    looks = binds = 0

    def _look(self, price: Decimal) -> list[Level]:
        self.looks += 1
        return super()._look(price)

    def _bind(self) -> None:
        self.binds += 1
        super()._bind()


@pytest.mark.parametrize("side", PositionSide)
def test_what_crosses_nothing_is_not_looked_at(side: PositionSide) -> None:
    armed = [
        level(1, STOP, "80"),
        level(2, TARGET, "140"),
        level(3, TRAILING, distance="15", extreme="105"),
        level(4, TRAILING, distance="40", extreme="120"),
        level(5, TRAILING, distance="60", extreme="70", side=SHORT),
        level(6, EVEN, "100", wakes="150"),
    ]
    book = Counting(armed if side is LONG else map(mirrored, armed))

    def costs(*prices: str) -> tuple[int, int]:
        """Looks and binds at these prices."""
        before = book.looks, book.binds
        for price in prices:
            assert book.on_price(D(price) if side is LONG else MIRROR - D(price)) == []
        return book.looks - before[0], book.binds - before[1]

    assert costs("100") == (1, 1)
    # Level 3 would fire at 90: half of those 10 may be lost, and half won, before that is asked for again.
    assert costs("99", "101", "104.9", "95.1", "105", "105.1", "105.1", "95.1", "109.9", "95.1") == (0, 0)
    assert costs("110", "111", "113", "113", "119") == (1, 0)  # nothing but new extremes of one group
    assert costs("118", "117.9", "111.6", "119.5", "111.6") == (1, 0)  # the turn, which asks where that one fires
    assert costs("111.1", "109", "120", "120") == (2, 0)  # nearer to where it does, and up to the next group
    assert costs("121", "122", "121", "107.1") == (3, 1)  # two groups become one
    [stop] = [one for one in book.levels() if one.id.int == 3]
    assert stop.extreme == (D(122) if side is LONG else MIRROR - D(122))
    assert [one.id.int for one in book.on_price(D(107) if side is LONG else MIRROR - D(107))] == [3]


def test_what_fires_does_not_wait_until_the_next_event_is_found() -> None:
    book = Counting([level(1, STOP, "95"), level(2, TARGET, "120"), level(3, TRAILING, distance="30")])
    assert fires(book, "100") == [[]]
    noted = book.binds
    assert fires(book, "95") == [[1]]
    assert book.binds == noted
    assert fires(book, "96", "97") == [[], []]
    assert book.binds == noted + 1


def test_what_was_crossed_and_not_fired_keeps_its_extreme() -> None:
    book = LevelBook([level(1, STOP, "100"), level(2, TRAILING, distance="5", armed_s=1)])
    assert fires(book, "110", "100") == [[], [1]]
    assert [(one.id.int, one.extreme) for one in book.changed()] == [(2, D(110))]


MIRROR = D(200)


def mirrored(one: Level) -> Level:
    def turn(price: Decimal | None) -> Decimal | None:
        return None if price is None else MIRROR - price

    return msgspec.structs.replace(
        one,
        side=SHORT if one.side is LONG else LONG,
        price=turn(one.price),
        activation_price=turn(one.activation_price),
        extreme=turn(one.extreme),
    )


@settings(max_examples=200, deadline=None)
@given(armed=st.lists(levels(), max_size=10), prices=st.lists(PRICES, max_size=20))
def test_a_short_is_the_mirror_image_of_a_long(armed: list[Level], prices: list[Decimal]) -> None:
    absolute = [one for one in armed if one.distance_pct is None]  # per cents of mirrored prices differ
    book = LevelBook(absolute)
    mirror = LevelBook([mirrored(one) for one in absolute])
    for price in prices:
        assert [x.id for x in book.on_price(price)] == [x.id for x in mirror.on_price(MIRROR - price)]
    assert book.levels() == [mirrored(one) for one in mirror.levels()]


@settings(max_examples=200, deadline=None)
@given(side=st.sampled_from(PositionSide), prices=st.lists(PRICES, min_size=1, max_size=40))
def test_a_trailing_stop_only_tightens(side: PositionSide, prices: list[Decimal]) -> None:
    book = LevelBook([level(1, TRAILING, distance="3", side=side)])
    tightest: Decimal | None = None
    for price in prices:
        if book.on_price(price):
            assert tightest is not None
            assert side.sign * price <= side.sign * tightest
            return
        trigger = book.levels()[0].trigger_price
        assert trigger is not None
        assert tightest is None or side.sign * trigger >= side.sign * tightest
        tightest = trigger


def test_levels_armed_again_and_again_leave_no_heap_behind() -> None:
    book = LevelBook()
    for turn in range(5000):
        book.arm(level(1, STOP, str(100 + turn % 7)))
        book.arm(level(2, TRAILING, distance=str(50 + turn % 7), extreme=str(101 + turn % 11)))
    assert sum(len(heap) for heap in book._firing.values()) < 200
    assert left_behind(book) < 400


def test_new_highs_without_end_leave_nothing_behind() -> None:
    book = LevelBook([level(1, TRAILING, distance="50"), level(2, TRAILING, distance="50", extreme="99999")])
    for price in range(100, 5100):
        book.on_price(D(price))
        book.on_price(D(price - 1))
        book.changed()
    assert left_behind(book) < 400


def left_behind(book: LevelBook) -> int:
    return sum(len(t._triggers) + len(t._groups) + len(t._begun) + t._made for t in book._trails.values())
