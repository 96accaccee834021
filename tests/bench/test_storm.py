"""A small storm of the real processes, and that its judge sees what is wrong."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from bench import judge, storm
from bench.judge import AlertRow, Execution, FillRow, OrderRow, Ours, PositionRow, Sent, Theirs, VenueOrder

BOOK = ("bybit-0", "S00USDT")
OTHER = ("bybit-0", "S01USDT")
OPENED = Execution(BOOK, 1000, "buy", Decimal("2"), Decimal("100"), Decimal("0.11"))

SENT = [
    Sent(id="a", strategy="bybit-0", symbol="S00USDT", alert_id="1"),
    Sent(id="b", strategy="bybit-0", symbol="S00USDT"),
]
ALERT = AlertRow(
    id="1", sender_id="a", strategy="bybit-0", status="done", code="executed", instructions=1, unfinished=0
)
ORDER = OrderRow(
    client_order_id="lha",
    book=BOOK,
    intent="i",
    kind="open",
    intent_qty=Decimal("2"),
    status="filled",
    filled=Decimal("2"),
)
POSITION = PositionRow(
    id="p", book=BOOK, side="long", status="open", qty=Decimal("2"), protected_by=("watcher", "exchange")
)
OURS = Ours(alerts=[ALERT], orders=[ORDER], fills=[FillRow(execution=OPENED, position="p")], positions=[POSITION])
THERE = VenueOrder(
    client_order_id="lha", book=BOOK, side="Buy", status="Filled", filled=Decimal("2"), conditional=False
)
STOP = VenueOrder(
    client_order_id="",
    book=BOOK,
    side="Sell",
    status="Untriggered",
    filled=Decimal(0),
    conditional=True,
    trigger_price="98",
)
THEIRS = Theirs(orders=[THERE, STOP], fills=[OPENED], held={BOOK: Decimal("2")})


def found(ours: Ours = OURS, theirs: Theirs = THEIRS, sent: list[Sent] = SENT) -> set[str]:
    return {one.what for one in judge.differences(sent, ours, theirs)}


def with_ours(**changed: object) -> set[str]:
    return found(ours=msgspec.structs.replace(OURS, **changed))


def with_theirs(**changed: object) -> set[str]:
    return found(theirs=msgspec.structs.replace(THEIRS, **changed))


def alert(**changed: object) -> list[AlertRow]:
    return [msgspec.structs.replace(ALERT, **changed)]


def order(**changed: object) -> list[OrderRow]:
    return [msgspec.structs.replace(ORDER, **changed)]


def position(**changed: object) -> list[PositionRow]:
    return [msgspec.structs.replace(POSITION, **changed)]


def stop(**changed: object) -> list[VenueOrder]:
    return [THERE, msgspec.structs.replace(STOP, **changed)]


def test_equal_books_differ_in_nothing() -> None:
    assert found() == set()


def test_an_alert_without_an_answer_may_be_stored_or_not() -> None:
    assert found(ours=msgspec.structs.replace(OURS, alerts=[ALERT, *alert(id="2", sender_id="b")])) == set()


WRONG: dict[str, tuple[Callable[[], set[str]], str]] = {
    "lost": (lambda: with_ours(alerts=[]), "accepted alert lost"),
    "stored under another id": (lambda: with_ours(alerts=alert(id="9")), "accepted alert lost"),
    "stored twice": (lambda: with_ours(alerts=[ALERT, *alert(id="2")]), "alert stored twice"),
    "unanswered and stored twice": (
        lambda: with_ours(alerts=[ALERT, *alert(id="2", sender_id="b"), *alert(id="3", sender_id="b")]),
        "alert stored twice",
    ),
    "from nobody": (lambda: with_ours(alerts=[ALERT, *alert(id="2", sender_id="z")]), "alert that nobody sent"),
    "not ended": (lambda: with_ours(alerts=alert(status="executing")), "alert without an end"),
    "ended without a code": (lambda: with_ours(alerts=alert(code=None)), "alert without an end"),
    "ended while its instruction waits": (lambda: with_ours(alerts=alert(unfinished=1)), "alert without an end"),
    "instructed twice": (lambda: with_ours(alerts=alert(instructions=2)), "alert not carried out once"),
    "order never written": (
        lambda: with_theirs(orders=[THERE, STOP, msgspec.structs.replace(THERE, client_order_id="lhz")]),
        "order without a row",
    ),
    "order sent twice": (lambda: with_theirs(orders=[THERE, THERE, STOP]), "order doubled at the exchange"),
    "order still open": (lambda: with_ours(orders=order(status="unknown")), "order without an end"),
    "order's fill not seen": (lambda: with_ours(orders=order(filled=Decimal(1))), "order filled otherwise"),
    "opened beyond the intent": (lambda: with_ours(orders=order(intent_qty=Decimal("1.99"))), "opened too much"),
    "opened by two orders": (
        lambda: with_ours(orders=[ORDER, *order(client_order_id="lhb")]),
        "opened too much",
    ),
    "fill missed": (lambda: with_ours(fills=[]), "fill that we do not know"),
    "fill counted twice": (lambda: with_ours(fills=OURS.fills * 2), "fill that never was"),
    "fee of a fill": (
        lambda: with_theirs(fills=[msgspec.structs.replace(OPENED, fee=Decimal("0.12"))]),
        "fill that never was",
    ),
    "fill of no position": (
        lambda: with_ours(fills=[FillRow(execution=OPENED, position=None)]),
        "fills do not add up to the position",
    ),
    "held less there": (lambda: with_theirs(held={BOOK: Decimal("1.9999999999")}), "held otherwise"),
    "held on the other side": (lambda: with_theirs(held={BOOK: Decimal(-2)}), "held otherwise"),
    "held where we know of nothing": (lambda: with_theirs(held={**THEIRS.held, OTHER: Decimal(1)}), "held otherwise"),
    "neither open nor closed": (lambda: with_ours(positions=position(status="closing")), "position without rest"),
    "no native stop": (lambda: with_theirs(orders=[THERE]), "position without a native stop"),
    "a stop on the wrong side": (lambda: with_theirs(orders=stop(side="Buy")), "position without a native stop"),
    "a stop that has ended": (lambda: with_theirs(orders=stop(status="Deactivated")), "position without a native stop"),
    "two stops": (lambda: with_theirs(orders=[*THEIRS.orders, STOP]), "order left over at the exchange"),
    "a stop of a flat book": (
        lambda: with_theirs(orders=[*THEIRS.orders, msgspec.structs.replace(STOP, book=OTHER)]),
        "order left over at the exchange",
    ),
    "not watched": (
        lambda: with_ours(positions=position(protected_by=("exchange",))),
        "position not protected by both",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_judge_sees_what_is_wrong(name: str) -> None:
    planted, said = WRONG[name]
    assert said in planted()


def fill(at_ms: int, side: str, qty: str) -> Execution:
    return Execution(BOOK, at_ms, side, Decimal(qty), Decimal(100), Decimal(0))


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ([], 100),
        ([(0, 300)], 0),  # with the entry, ends with the position
        ([(10, 300)], 10),  # after the fill
        ([(0, 60), (60, 300)], 0),  # moved, new before old
        ([(0, 60), (65, 300)], 5),  # moved, old before new
        ([(0, 90)], 10),  # taken away
    ],
)
def test_the_longest_time_without_a_stop_is_measured(stops: list[tuple[int, int]], expected: int) -> None:
    ended = [
        msgspec.structs.replace(STOP, status="Deactivated", created_ms=1000 + start, changed_ms=1000 + end)
        for start, end in stops
    ]
    fills = [fill(1000, "buy", "1"), fill(1050, "buy", "1"), fill(1100, "sell", "2")]
    assert judge.uncovered_ms(Theirs(orders=ended, fills=fills, held={})) == {BOOK[0]: expected}


def test_a_difference_is_told_with_its_book_and_the_storm_fails() -> None:
    [one] = judge.differences(SENT, OURS, msgspec.structs.replace(THEIRS, orders=[THERE]))
    result = storm.Result(
        differences=[one], sent=2, accepted=1, sending_s=1, drain_s=1, agree_s=1, answers={}, outcomes={}, events={},
        kills={}, faults={}, ticks=0, orders=1, fills=1, positions=1, live=1, uncovered_ms={},
    )  # fmt: skip
    assert "1 DIFFERENCES" in storm.told(result)
    assert "position without a native stop [bybit-0/S00USDT]: bybit-0/S00USDT: holds 2" in storm.told(result)
    result.differences = []
    assert "nothing lost, nothing doubled, nothing naked" in storm.told(result)


@pytest.mark.timeout(240)
async def test_in_a_small_storm_nothing_is_lost_doubled_or_naked(tmp_path: Path) -> None:
    argv = [
        "--alerts",
        "300",
        "--books",
        "20",
        "--rate",
        "30",
        "--seed",
        "11",
        "--minutes",
        "2",
        "--dir",
        str(tmp_path),
    ]
    result = await storm.run(storm.parse(argv))
    assert result.differences == []
    assert (result.sent, result.accepted) == (300, 300)
    assert sum(result.kills.values()) >= 2
    assert sum(result.faults.values()) >= 10
    assert result.outcomes.get("done executed", 0) > 0
