"""Hedge mode: each order and stop names its side, and a wrong mode is told as that."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain.order import PositionSide, Side
from app.errors import Conflict, Refused
from app.venues.base import NewOrder
from app.venues.bybit.venue import BybitVenue
from tests.venues.bybit_rows import (
    CREATE,
    EXECUTIONS,
    POSITIONS,
    STOP,
    an_entry,
    an_exit,
    execution_row,
    page,
    position_row,
)
from tests.venues.bybit_server import Answer, BybitServer, Say
from tests.venues.scripted import Http

WRONG_INDEX = Say(10001, "position idx not match position mode")
HEDGE = page(position_row(positionIdx=1), position_row(positionIdx=2))
ONE_WAY = page(position_row())


@pytest.mark.parametrize(
    ("side", "closes", "index"),
    [(Side.BUY, False, 1), (Side.SELL, True, 1), (Side.SELL, False, 2), (Side.BUY, True, 2)],
)
async def test_a_hedge_order_names_its_side(
    server: BybitServer, venue: BybitVenue, side: Side, closes: bool, index: int
) -> None:
    server.script(CREATE, {"orderId": "o"})
    order = NewOrder(
        client_order_id="lh-1",
        symbol="BTCUSDT",
        side=side,
        qty=Decimal(1),
        reduce_only=closes,
        hedge=True,
        signed_at=datetime.now(UTC),
    )
    await venue.place(order)
    await venue.place(msgspec.structs.replace(order, hedge=False))
    bodies = [request.body for request in server.requests]
    assert [body["positionIdx"] for body in bodies] == [index, 0]
    assert [body["reduceOnly"] for body in bodies] == [closes, closes]


@pytest.mark.parametrize(("side", "index"), [(PositionSide.LONG, 1), (PositionSide.SHORT, 2)])
async def test_a_hedge_stop_names_its_side(
    server: BybitServer, venue: BybitVenue, side: PositionSide, index: int
) -> None:
    server.script(STOP, {})
    await venue.set_stop("BTCUSDT", side, Decimal(1), hedge=True)
    await venue.set_stop("BTCUSDT", side, None, hedge=True)
    assert [(r.body["positionIdx"], r.body["stopLoss"]) for r in server.requests] == [(index, "1"), (index, "0")]


@pytest.mark.parametrize(("hedge", "rows"), [(False, HEDGE), (True, ONE_WAY)])
async def test_an_order_for_the_wrong_mode_is_refused_with_the_cure(
    server: BybitServer, venue: BybitVenue, hedge: bool, rows: dict[str, Any]
) -> None:
    server.script(CREATE, WRONG_INDEX)
    server.script(STOP, WRONG_INDEX)
    server.script(POSITIONS, rows)
    order = msgspec.structs.replace(an_exit(), hedge=hedge)
    for request in (venue.place(order), venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1), hedge=hedge)):
        with pytest.raises(Refused, match="switch it there") as caught:
            await request
        assert (caught.value.code, caught.value.venue_code) == ("position_mode_mismatch", "10001")


@pytest.mark.parametrize("look", [ONE_WAY, Http(502), page()])
async def test_another_parameter_error_stays_what_it_is(server: BybitServer, venue: BybitVenue, look: Answer) -> None:
    server.script(CREATE, Say(10001, "Qty invalid"))
    server.script(POSITIONS, look)
    with pytest.raises(Refused, match="Qty invalid") as caught:
        await venue.place(an_entry())
    assert caught.value.code == "venue_refused"


async def test_a_stop_for_the_side_that_is_flat_is_a_conflict(server: BybitServer, venue: BybitVenue) -> None:
    server.script(STOP, Say(10001, "can not set tp/sl/ts for zero position"))
    server.script(
        POSITIONS, page(position_row(positionIdx=1, side="Buy", size="1", avgPrice="1"), position_row(positionIdx=2))
    )
    with pytest.raises(Conflict) as caught:
        await venue.set_stop("BTCUSDT", PositionSide.SHORT, Decimal(1), hedge=True)
    assert caught.value.kind == "no_position"
    with pytest.raises(Refused):
        await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1), hedge=True)


@pytest.mark.parametrize(
    ("side", "closed", "acted_on"),
    [
        ("Buy", "0", PositionSide.LONG),
        ("Sell", "0.000", PositionSide.SHORT),
        ("Sell", "0.012", PositionSide.LONG),
        ("Buy", "0.012", PositionSide.SHORT),
        ("Sell", "0.002", PositionSide.LONG),  # turns a one-way position round
        ("Sell", "", None),
        ("Sell", None, None),
    ],
)
async def test_a_fill_tells_the_side_that_it_acted_on(
    server: BybitServer, venue: BybitVenue, side: str, closed: str | None, acted_on: PositionSide | None
) -> None:
    server.script(EXECUTIONS, page(execution_row("a", side=side, closedSize=closed)))
    [fill] = await venue.fills("BTCUSDT", client_order_id="lh-entry")
    assert fill.position_side is acted_on
