"""Native stops at Binance against a book of conditional orders that behaves as the exchange's does."""

import itertools
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import PositionSide
from app.domain.refusals import Outcome
from app.errors import Conflict, LevelheadError, Refused, Transient
from app.venues.base import RestingStop
from app.venues.binance import stops as binance_stops
from app.venues.binance.venue import BinanceVenue
from tests.venues.binance_rows import (
    ALGO,
    ALGOS,
    BRACKETS,
    CANCEL_ALGO,
    INFO,
    POSITIONS,
    brackets,
    info,
    position_row,
    stop_row,
)
from tests.venues.binance_server import Answer, BinanceServer, Fail, adapter, binance_server
from tests.venues.scripted import Cut, Http

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
FAILURES: list[Answer] = [Cut(), Http(502), Fail(-1008, status=503), Fail(-2019), Fail(-12345)]


class Book:
    """The conditional orders of BTCUSDT. What covers the position is looked at after every change."""

    def __init__(self, server: BinanceServer) -> None:
        self.rests: dict[int, dict[str, Any]] = {}
        self.held: list[dict[str, Any]] = [position_row()]
        self.uncovered = 0  # changes after which nothing covered the long
        self.watch = False
        self.lingers = 0  # times that -4130 is said after the old one went
        self.not_visible = 0  # times that -4509 is said
        self.fails: dict[int, Answer] = {}  # the how many-th change -> what it is answered, and not done
        self.changes = 0
        self._numbers = itertools.count(10**15)
        server.script_by(ALGO, self.place)
        server.script_by(CANCEL_ALGO, self.cancel)
        server.script_by(ALGOS, lambda params: list(self.rests.values()))
        server.script_by(POSITIONS, lambda params: self.held)
        server.script(INFO, info())
        server.script(BRACKETS, [brackets()])

    def add(self, **changes: Any) -> None:
        number = next(self._numbers)
        self.rests[number] = stop_row(algoId=number) | changes

    def place(self, params: dict[str, str]) -> Answer:
        if (failure := self._counted()) is not None:
            return failure
        whole = params.get("closePosition") == "true"
        side, acts_on = params["side"], params.get("positionSide", "BOTH")
        there = any(
            row["closePosition"] and (row["side"], row["positionSide"]) == (side, acts_on)
            for row in self.rests.values()
        )
        if whole and self.not_visible:
            self.not_visible -= 1
            return Fail(-4509)
        if whole and (there or self.lingers):
            self.lingers = max(0, self.lingers - 1)
            return Fail(-4130)
        number = next(self._numbers)
        self.rests[number] = stop_row(
            algoId=number,
            clientAlgoId=params["clientAlgoId"],
            side=side,
            positionSide=acts_on,
            triggerPrice=params["triggerPrice"],
            closePosition=whole,
            reduceOnly=whole or params.get("reduceOnly") == "true",
            quantity=params.get("quantity", "0"),
            timeInForce=params.get("timeInForce", "GTE_GTC"),
        )
        self._look()
        return self.rests[number]

    def cancel(self, params: dict[str, str]) -> Answer:
        if (failure := self._counted()) is not None:
            return failure
        if self.rests.pop(int(params["algoId"]), None) is None:
            return Fail(-2011)
        self._look()
        return {"algoId": int(params["algoId"]), "code": "200", "msg": "success"}

    def prices(self) -> list[str]:
        return sorted(row["triggerPrice"] for row in self.rests.values())

    def _counted(self) -> Answer | None:
        self.changes += 1
        return self.fails.pop(self.changes, None)

    def _look(self) -> None:
        if self.watch and not any(
            row["side"] == "SELL" and (row["closePosition"] or Decimal(row["quantity"]) >= Decimal("0.012"))
            for row in self.rests.values()
        ):
            self.uncovered += 1


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again soon, and given up only where a test wants that: a busy machine takes its time."""
    monkeypatch.setattr(binance_stops, "PATIENCE_S", 8.0)
    monkeypatch.setattr(binance_stops, "PAUSE_S", 0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, unhurried: None) -> None:
    monkeypatch.setattr(binance_stops, "PATIENCE_S", 0.3)


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with binance_server() as server:
        yield server


@pytest.fixture
async def venue(server: BinanceServer) -> AsyncIterator[BinanceVenue]:
    async with adapter(server.origin) as venue:
        yield venue


@pytest.fixture
def book(server: BinanceServer) -> Book:
    return Book(server)


async def test_a_stop_is_a_conditional_order_of_the_whole_position(
    server: BinanceServer, venue: BinanceVenue, book: Book
) -> None:
    await venue.set_stop("BTCUSDT", LONG, Decimal("59000.50"), hedge=False)
    (request,) = server.sent(ALGO)
    params = {key: request.params[key] for key in request.params.keys() - {"timestamp", "recvWindow", "signature"}}
    client_id = params.pop("clientAlgoId")
    assert params == {
        "algoType": "CONDITIONAL",
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "STOP_MARKET",
        "triggerPrice": "59000.5",
        "closePosition": "true",
        "workingType": "CONTRACT_PRICE",
    }
    assert client_id.startswith("stop-")
    assert len(client_id) == 31


async def test_in_hedge_mode_each_side_has_its_own(server: BinanceServer, venue: BinanceVenue, book: Book) -> None:
    book.held = [position_row(positionSide="LONG"), position_row(positionSide="SHORT", positionAmt="-0.02")]
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=True)
    await venue.set_stop("BTCUSDT", SHORT, Decimal(61000), hedge=True)
    sides = [(sent.params["side"], sent.params["positionSide"]) for sent in server.sent(ALGO)]
    assert sides == [("SELL", "LONG"), ("BUY", "SHORT")]
    await venue.set_stop("BTCUSDT", LONG, None, hedge=True)
    assert await venue.resting_stops("BTCUSDT") == [RestingStop(side=SHORT, price=Decimal(61000))]


@pytest.mark.parametrize("client_id", ["stop-" + "a" * 26, "web_by-hand"])
async def test_already_so_is_success(server: BinanceServer, venue: BinanceVenue, book: Book, client_id: str) -> None:
    book.add(triggerPrice="59000.00", clientAlgoId=client_id)
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    assert server.sent(ALGO) == server.sent(CANCEL_ALGO) == []


@pytest.mark.parametrize("hedge", [False, True])
@pytest.mark.parametrize("lingers", [0, 3])
async def test_a_move_never_leaves_the_position_uncovered(
    server: BinanceServer, venue: BinanceVenue, book: Book, hedge: bool, lingers: int
) -> None:
    if hedge:
        book.held = [position_row(positionSide="LONG")]
    book.add(triggerPrice="59000.00", positionSide="LONG" if hedge else "BOTH")
    book.watch, book.lingers = True, lingers
    await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=hedge)
    assert book.uncovered == 0
    (row,) = book.rests.values()
    assert (row["triggerPrice"], row["closePosition"]) == ("59500", True)
    bridge = server.sent(ALGO)[0].params
    assert (bridge["quantity"], bridge["timeInForce"]) == ("0.012", "GTC")
    assert bridge.get("reduceOnly") == (None if hedge else "true")


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", [1, 2, 3])
async def test_whichever_step_of_a_move_fails_a_stop_rests_and_the_next_call_mends_it(
    venue: BinanceVenue, book: Book, step: int, failure: Answer
) -> None:
    book.add(triggerPrice="59000.00")
    book.watch = True
    book.fails = {step: failure}
    with pytest.raises(LevelheadError) as caught:
        await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=False)
    assert isinstance(caught.value, Refused if failure == Fail(-2019) else Transient)
    assert book.rests
    await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=False)
    assert book.uncovered == 0
    (row,) = book.rests.values()
    assert (row["triggerPrice"], row["closePosition"]) == ("59500", True)


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_bridge_that_can_t_be_removed_fails_nothing_and_goes_next_time(
    venue: BinanceVenue, book: Book, failure: Answer
) -> None:
    book.add(triggerPrice="59000.00")
    book.fails = {4: failure}
    await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=False)
    assert book.prices() == ["59500", "59500"]
    await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=False)
    (row,) = book.rests.values()
    assert row["closePosition"]


async def test_a_stop_that_went_in_between_is_no_failure(
    server: BinanceServer, venue: BinanceVenue, book: Book
) -> None:
    book.add(triggerPrice="59000.00")
    book.fails = {2: Fail(-2011)}
    server.script(ALGOS, list(book.rests.values()), [])
    book.rests.clear()
    await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=False)
    assert "59500" in book.prices()


async def test_a_stop_that_the_list_does_not_show_yet_is_waited_for(
    server: BinanceServer, venue: BinanceVenue, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.add(triggerPrice="59000.00")
    server.script(ALGOS, [], [], list(book.rests.values()))
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    assert book.prices() == ["59000.00"]
    server.script(ALGOS, [])
    monkeypatch.setattr(binance_stops, "PATIENCE_S", 0.3)
    with pytest.raises(Transient, match="shows none"):
        await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)


async def test_right_after_an_entry_the_position_is_waited_for(
    server: BinanceServer, venue: BinanceVenue, book: Book
) -> None:
    server.script(POSITIONS, [], [], [position_row()])
    book.not_visible = 2
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    assert book.prices() == ["59000"], "the stop of the quantity that rested meanwhile is gone"
    assert len(server.sent(ALGO)) == 4


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("held", [[], [position_row(positionAmt="-0.012")], [position_row(positionAmt="0")]])
async def test_without_a_position_there_is_no_stop_and_none_of_ours_stays(
    server: BinanceServer, venue: BinanceVenue, book: Book, held: list[Any]
) -> None:
    book.held = held
    book.add(closePosition=False, quantity="0.012")
    with pytest.raises(Conflict) as caught:
        await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    assert caught.value.kind == "no_position"
    assert server.sent(ALGO) == []
    assert book.rests == {}


@pytest.mark.usefixtures("impatient")
async def test_a_stop_of_the_quantity_rests_where_none_of_the_whole_is_taken(
    server: BinanceServer, venue: BinanceVenue, book: Book
) -> None:
    book.not_visible = 10_000
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    [rests] = book.rests.values()
    assert (rests["closePosition"], rests["quantity"]) == (False, "0.012")
    assert len([r for r in server.sent(ALGO) if "quantity" in r.params]) == 1


@pytest.mark.usefixtures("impatient")
async def test_what_our_fills_say_is_covered_before_the_position_is_shown(venue: BinanceVenue, book: Book) -> None:
    book.held = []
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False, qty=Decimal("0.005"))
    [rests] = book.rests.values()
    assert (rests["closePosition"], rests["quantity"]) == (False, "0.005")


async def test_a_stop_on_the_wrong_side_is_refused_and_the_old_one_stays(venue: BinanceVenue, book: Book) -> None:
    book.fails = {1: Fail(-2021, "Order would immediately trigger.")}
    with pytest.raises(Refused) as caught:
        await venue.set_stop("BTCUSDT", LONG, Decimal(69000), hedge=False)
    assert caught.value.code == Outcome.STOP_WRONG_SIDE
    book.add(triggerPrice="59000.00")
    book.fails = {2: Fail(-2021, "Order would immediately trigger.")}
    with pytest.raises(Refused):
        await venue.set_stop("BTCUSDT", LONG, Decimal(69000), hedge=False)
    assert book.prices() == ["59000.00"]


async def test_a_stop_without_an_answer_is_found_by_the_next_call(
    server: BinanceServer, venue: BinanceVenue, book: Book
) -> None:
    place = book.place

    def done_and_cut(params: dict[str, str]) -> Answer:
        place(params)
        return Cut()

    server.script_by(ALGO, done_and_cut)
    with pytest.raises(Transient):
        await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)
    assert book.prices() == ["59000"]
    assert len(server.sent(ALGO)) == 1


async def test_removing_takes_ours_and_leaves_others(venue: BinanceVenue, book: Book) -> None:
    book.add(triggerPrice="59000.00")
    book.add(triggerPrice="59100.00", closePosition=False, quantity="0.012")
    book.add(triggerPrice="58000.00", clientAlgoId="web_by-hand")
    book.add(triggerPrice="70000.00", orderType="TAKE_PROFIT_MARKET")
    book.add(triggerPrice="61000.00", side="BUY")
    await venue.set_stop("BTCUSDT", LONG, None, hedge=False)
    assert book.prices() == ["58000.00", "61000.00", "70000.00"]
    await venue.set_stop("BTCUSDT", LONG, None, hedge=False)


@pytest.mark.parametrize("failure", [Cut(), Http(502)])
async def test_removing_that_fails_is_told_and_not_sent_again(
    server: BinanceServer, venue: BinanceVenue, book: Book, failure: Answer
) -> None:
    await venue.set_stop("BTCUSDT", LONG, Decimal(59000), hedge=False)  # leaves an open connection behind
    book.fails = {2: failure}
    with pytest.raises(Transient):
        await venue.set_stop("BTCUSDT", LONG, None, hedge=False)
    assert len(server.sent(CANCEL_ALGO)) == 1


async def test_the_bridge_of_a_large_position_is_capped(server: BinanceServer, venue: BinanceVenue, book: Book) -> None:
    book.held = [position_row(positionAmt="500.0000")]
    book.add(triggerPrice="59000.00")
    await venue.set_stop("BTCUSDT", LONG, Decimal(59500), hedge=False)
    assert server.sent(ALGO)[0].params["quantity"] == "120"
