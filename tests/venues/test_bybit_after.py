"""What became of orders: their state and their fills."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import OrderStatus, Side
from app.domain.position import FillOrigin
from app.errors import Transient
from app.venues.bybit.venue import BybitVenue
from tests.venues.bybit_rows import (
    AT,
    AT_MS,
    EXECUTIONS,
    HISTORY,
    REALTIME,
    execution_row,
    order_row,
    page,
)
from tests.venues.bybit_server import BybitServer, Say

# order


@pytest.mark.parametrize(
    ("row", "status", "reason"),
    [
        (order_row(), OrderStatus.FILLED, None),
        (order_row(orderStatus="New", cumExecQty="", avgPrice=""), OrderStatus.ACCEPTED, None),
        (order_row(orderStatus="PartiallyFilled"), OrderStatus.ACCEPTED, None),
        (order_row(orderStatus="Untriggered"), OrderStatus.ACCEPTED, None),
        (
            order_row(orderStatus="Cancelled", rejectReason="EC_NoImmediateQtyToFill"),
            OrderStatus.CANCELLED,
            "EC_NoImmediateQtyToFill",
        ),
        (order_row(orderStatus="Cancelled", cancelType="CancelByUser"), OrderStatus.CANCELLED, "CancelByUser"),
        (order_row(orderStatus="Deactivated"), OrderStatus.CANCELLED, None),
        (
            order_row(orderStatus="Rejected", rejectReason="EC_ReachRiskPriceLimit", avgPrice="0", cumExecQty="0"),
            OrderStatus.REJECTED,
            "EC_ReachRiskPriceLimit",
        ),
    ],
)
async def test_an_orders_state_is_read(
    server: BybitServer, venue: BybitVenue, row: dict[str, Any], status: OrderStatus, reason: str | None
) -> None:
    server.script(REALTIME, page(row))
    report = await venue.order("BTCUSDT", "lh-entry")
    assert report is not None
    assert (report.status, report.reason, report.venue_order_id) == (status, reason, "o-1")
    assert report.filled_qty == Decimal(row["cumExecQty"] or 0)
    assert report.avg_price == (Decimal("64000.1") if row["avgPrice"] == "64000.1" else None)


async def test_an_order_that_realtime_forgot_is_found_in_the_history(server: BybitServer, venue: BybitVenue) -> None:
    server.script(REALTIME, page())
    server.script(HISTORY, page(order_row()))
    report = await venue.order("BTCUSDT", "lh-entry")
    assert report is not None
    assert server.sent(HISTORY)[0].query == {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "lh-entry"}


async def test_an_order_that_is_nowhere_is_none(server: BybitServer, venue: BybitVenue) -> None:
    server.script(REALTIME, page(order_row(orderLinkId="another")))
    server.script(HISTORY, Say(110001))
    assert await venue.order("BTCUSDT", "lh-entry") is None


async def test_an_unknown_order_state_is_not_guessed(server: BybitServer, venue: BybitVenue) -> None:
    server.script(REALTIME, page(order_row(orderStatus="Brewing")))
    with pytest.raises(Transient):
        await venue.order("BTCUSDT", "lh-entry")


# fills


async def test_fills_come_from_all_pages_in_order_and_only_trades_count(server: BybitServer, venue: BybitVenue) -> None:
    server.script(
        EXECUTIONS,
        page(execution_row("c", AT_MS + 5), execution_row("b", AT_MS), cursor="x%3A1%2Cy"),
        page(
            execution_row("f", execType="Funding", orderLinkId=""),
            execution_row("a", AT_MS),
            execution_row("b", AT_MS),
            cursor="x%3a2",
        ),
        page(),
    )
    fills = await venue.fills("BTCUSDT", client_order_id="lh-entry")
    assert [fill.venue_fill_id for fill in fills] == ["a", "b", "c"]
    first = fills[0]
    assert (first.qty, first.price, first.fee) == (Decimal("0.012"), Decimal("64000.10"), Decimal("0.42"))
    assert (first.filled_at, first.side, first.client_order_id) == (AT, Side.BUY, "lh-entry")
    # The cursor comes escaped and goes back unchanged, and what was signed is what was sent.
    raw = [request.raw_query for request in server.requests]
    assert "cursor=x%3A1%2Cy&" in raw[1]
    assert "cursor=x%3A2&" in raw[2]


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({}, FillOrigin.ORDER),
        ({"orderLinkId": ""}, FillOrigin.EXTERNAL),
        ({"orderLinkId": "", "createType": "CreateByClosing"}, FillOrigin.EXTERNAL),
        ({"orderLinkId": "", "createType": "CreateByTakeProfit", "stopOrderType": "TakeProfit"}, FillOrigin.EXTERNAL),
        ({"orderLinkId": "", "createType": "CreateByStopLoss"}, FillOrigin.NATIVE_STOP),
        ({"orderLinkId": "", "createType": "CreateByTrailingStop"}, FillOrigin.NATIVE_STOP),
        ({"orderLinkId": "", "createType": "", "stopOrderType": "StopLoss"}, FillOrigin.NATIVE_STOP),
        ({"orderLinkId": "", "createType": "CreateByLiq"}, FillOrigin.LIQUIDATION),
        ({"orderLinkId": "", "createType": "CreateByTakeOver_PassThrough"}, FillOrigin.LIQUIDATION),
        ({"orderLinkId": "", "execType": "BustTrade"}, FillOrigin.LIQUIDATION),
        ({"orderLinkId": "", "execType": "AdlTrade"}, FillOrigin.ADL),
        ({"orderLinkId": "", "createType": "CreateByAdl_PassThrough"}, FillOrigin.ADL),
    ],
)
async def test_who_made_a_fill_is_told_apart(
    server: BybitServer, venue: BybitVenue, changes: dict[str, Any], origin: FillOrigin
) -> None:
    server.script(EXECUTIONS, page(execution_row("a", **changes)))
    [fill] = await venue.fills("BTCUSDT", since=datetime.now(UTC))
    assert fill.origin is origin
    assert fill.client_order_id == (changes.get("orderLinkId", "lh-entry") or None)


@pytest.mark.parametrize("of_order", [{}, {"client_order_id": "lh-entry"}])
async def test_fills_of_more_than_a_week_are_asked_for_week_by_week(
    server: BybitServer, venue: BybitVenue, of_order: dict[str, str]
) -> None:
    """One order's as well: a list without times reaches no further back, and its order would never be resolved."""
    server.script(EXECUTIONS, page(execution_row("b")), page(execution_row("a")), page())
    since = datetime.now(UTC) - timedelta(days=15)
    fills = await venue.fills("BTCUSDT", since=since, **of_order)
    assert [fill.venue_fill_id for fill in fills] == ["a", "b"]
    spans = [(int(r.query["startTime"]), int(r.query["endTime"])) for r in server.requests]
    assert len(spans) == 3
    assert all(end - start <= 7 * 86_400_000 for start, end in spans)
    assert all(after[0] <= before[1] for before, after in itertools.pairwise(spans))
