"""What Binance says of an account: positions, modes, orders, executions, equity, permissions."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import MarginMode, OrderStatus, PositionMode, PositionSide
from app.domain.position import FillOrigin
from app.domain.refusals import Outcome
from app.errors import Refused, Transient
from app.venues.base import Holding, RestingStop
from app.venues.binance.venue import BinanceVenue
from tests.venues.binance_rows import (
    ACCOUNT,
    ACCOUNT_CONFIG,
    ALGOS,
    ASK_ORDER,
    AT,
    AT_MS,
    BEST,
    BRACKETS,
    ENTRY_ID,
    EXIT_ID,
    INFO,
    LEVERAGE,
    MARGIN,
    MARK,
    ORDER,
    POSITIONS,
    PRICE,
    RESTRICTIONS,
    SYMBOL_CONFIG,
    TEST,
    TRADES,
    account_config,
    an_entry,
    brackets,
    info,
    order_row,
    position_row,
    stop_row,
    symbol_config,
    trade_row,
)
from tests.venues.binance_server import Answer, BinanceServer, Fail, adapter, binance_server
from tests.venues.scripted import Cut, Http

STOP_ID = "stop-" + "b" * 26


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with binance_server() as server:
        yield server


@pytest.fixture
async def venue(server: BinanceServer) -> AsyncIterator[BinanceVenue]:
    async with adapter(server.origin) as venue:
        yield venue


def stands(server: BinanceServer, *, hedge: bool = False, held: list[Any], stops: list[Any]) -> None:
    server.script(ACCOUNT_CONFIG, account_config(dualSidePosition=hedge))
    server.script(SYMBOL_CONFIG, symbol_config())
    server.script(POSITIONS, held)
    server.script(ALGOS, stops)


# Positions


async def test_a_symbol_with_a_long_in_one_way_mode(server: BinanceServer, venue: BinanceVenue) -> None:
    stands(server, held=[position_row()], stops=[stop_row()])
    standing = await venue.standing("BTCUSDT")
    assert standing.position_mode is PositionMode.ONE_WAY
    assert standing.margin_mode is MarginMode.CROSS
    assert standing.leverage == Decimal(21)
    assert standing.holdings == (
        Holding(
            symbol="BTCUSDT",
            side=PositionSide.LONG,
            qty=Decimal("0.012"),
            entry_price=Decimal("60000.1"),
            stop_loss=Decimal("59000"),
        ),
    )


@pytest.mark.parametrize("held", [[], [position_row(positionAmt="0.000", entryPrice="0.0")]])
async def test_a_flat_symbol(server: BinanceServer, venue: BinanceVenue, held: list[Any]) -> None:
    stands(server, held=held, stops=[])
    standing = await venue.standing("BTCUSDT")
    assert standing.holdings == ()
    assert standing.leverage == Decimal(21)


async def test_a_short_is_negative(server: BinanceServer, venue: BinanceVenue) -> None:
    stands(server, held=[position_row(positionAmt="-0.5")], stops=[stop_row(side="BUY", triggerPrice="61000")])
    (holding,) = (await venue.standing("BTCUSDT")).holdings
    assert (holding.side, holding.qty, holding.stop_loss) == (PositionSide.SHORT, Decimal("0.5"), Decimal(61000))


async def test_both_sides_in_hedge_mode_each_with_its_stop(server: BinanceServer, venue: BinanceVenue) -> None:
    held = [
        position_row(positionSide="BOTH", positionAmt="0.000", entryPrice="0.0"),
        position_row(positionSide="LONG"),
        position_row(positionSide="SHORT", positionAmt="-0.020"),
    ]
    stops = [
        stop_row(positionSide="LONG"),
        stop_row(positionSide="SHORT", side="BUY", triggerPrice="61000"),
        stop_row(positionSide="LONG", orderType="TAKE_PROFIT_MARKET", triggerPrice="70000"),
    ]
    stands(server, hedge=True, held=held, stops=stops)
    standing = await venue.standing("BTCUSDT")
    assert standing.position_mode is PositionMode.HEDGE
    long, short = standing.on(PositionSide.LONG), standing.on(PositionSide.SHORT)
    assert long is not None
    assert short is not None
    assert (long.qty, long.stop_loss) == (Decimal("0.012"), Decimal(59000))
    assert (short.qty, short.stop_loss) == (Decimal("0.020"), Decimal(61000))


@pytest.mark.parametrize(
    ("stops", "counts"),
    [
        ([stop_row(), stop_row(triggerPrice="59500")], "59500"),
        ([stop_row(closePosition=False, quantity="0.012", triggerPrice="59900")], "59900"),
        ([stop_row(closePosition=False, quantity="0.012", triggerPrice="59900"), stop_row()], "59000"),
        ([stop_row(closePosition=False, quantity="0.011")], None),
        ([stop_row(closePosition=False, reduceOnly=False, quantity="0.012")], None),
        ([stop_row(algoStatus="CANCELED")], None),
        ([stop_row(algoStatus="FINISHED")], None),
        ([stop_row(orderType="TAKE_PROFIT_MARKET")], None),
        ([stop_row(orderType="TRAILING_STOP_MARKET", triggerPrice="0.00")], None),
        ([stop_row(side="BUY")], None),
        ([stop_row(symbol="ETHUSDT")], None),
    ],
)
async def test_which_stop_protects_a_long(
    server: BinanceServer, venue: BinanceVenue, stops: list[Any], counts: str | None
) -> None:
    stands(server, held=[position_row()], stops=stops)
    (holding,) = (await venue.standing("BTCUSDT")).holdings
    assert holding.stop_loss == (None if counts is None else Decimal(counts))


async def test_set_up_is_remembered_for_a_moment_and_forgotten_after_a_refusal(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    stands(server, held=[], stops=[])
    await venue.standing("BTCUSDT")
    await venue.standing("BTCUSDT")
    assert len(server.sent(ACCOUNT_CONFIG)) == len(server.sent(SYMBOL_CONFIG)) == 1
    server.script(ORDER, Fail(-4061))
    with pytest.raises(Refused):
        await venue.place(an_entry())
    await venue.standing("BTCUSDT")
    assert len(server.sent(ACCOUNT_CONFIG)) == len(server.sent(SYMBOL_CONFIG)) == 2


async def test_everything_that_is_held(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(
        POSITIONS,
        [
            position_row(),
            position_row(symbol="ETHUSDT", positionAmt="-1.5"),
            position_row(symbol="XRPUSDT", positionAmt="0"),
            position_row(symbol="BTCUSDC", marginAsset="USDC"),
        ],
    )
    server.script_by(ALGOS, lambda params: [stop_row()] if params["symbol"] == "BTCUSDT" else [])
    held = await venue.holdings()
    assert [(holding.symbol, holding.side, holding.stop_loss) for holding in held] == [
        ("BTCUSDT", PositionSide.LONG, Decimal(59000)),
        ("ETHUSDT", PositionSide.SHORT, None),
    ]


async def test_stops_of_many_symbols_are_asked_for_at_once(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(POSITIONS, [position_row(symbol=f"C{number}USDT") for number in range(41)])
    server.script(ALGOS, [stop_row(symbol="C7USDT")])
    held = await venue.holdings()
    assert [holding.symbol for holding in held if holding.stop_loss is not None] == ["C7USDT"]
    (request,) = server.sent(ALGOS)
    assert "symbol" not in request.params


FAILURES = [Http(500), Http(200, "<html>"), Http(200, "{}"), Fail(-1000), Fail(-1003, status=429), Fail(-12345)]


@pytest.mark.parametrize("answer", FAILURES)
async def test_a_read_that_fails_never_says_flat(server: BinanceServer, venue: BinanceVenue, answer: Answer) -> None:
    stands(server, held=[], stops=[])
    server.script(POSITIONS, answer)
    server.script(ACCOUNT, answer)
    with pytest.raises(Transient):
        await venue.holdings()
    with pytest.raises(Transient):
        await venue.standing("BTCUSDT")
    with pytest.raises(Transient):
        await venue.equity()


@pytest.mark.parametrize("path", [ALGOS, SYMBOL_CONFIG, ACCOUNT_CONFIG])
async def test_no_part_of_a_standing_may_be_missing(server: BinanceServer, venue: BinanceVenue, path: str) -> None:
    stands(server, held=[position_row()], stops=[])
    server.script(path, Http(502))
    with pytest.raises(Transient):
        await venue.standing("BTCUSDT")


async def test_resting_stops(server: BinanceServer, venue: BinanceVenue) -> None:
    rows = [
        stop_row(positionSide="SHORT", side="BUY", triggerPrice="61000"),
        stop_row(),
        stop_row(orderType="TAKE_PROFIT_MARKET"),
        stop_row(closePosition=False, reduceOnly=False, quantity="1"),
    ]
    server.script(ALGOS, rows)
    assert await venue.resting_stops("BTCUSDT") == [
        RestingStop(side=PositionSide.LONG, price=Decimal(59000)),
        RestingStop(side=PositionSide.SHORT, price=Decimal(61000)),
    ]


# Orders


@pytest.mark.parametrize(
    ("status", "ours", "reason"),
    [
        ("NEW", OrderStatus.ACCEPTED, None),
        ("PARTIALLY_FILLED", OrderStatus.ACCEPTED, None),
        ("FILLED", OrderStatus.FILLED, None),
        ("CANCELED", OrderStatus.CANCELLED, "CANCELED"),
        ("EXPIRED", OrderStatus.CANCELLED, "EXPIRED"),
        ("EXPIRED_IN_MATCH", OrderStatus.CANCELLED, "EXPIRED_IN_MATCH"),
        ("REJECTED", OrderStatus.REJECTED, "REJECTED"),
    ],
)
async def test_an_order_s_status(
    server: BinanceServer, venue: BinanceVenue, status: str, ours: OrderStatus, reason: str | None
) -> None:
    server.script(ASK_ORDER, order_row(status=status, executedQty="0.005"))
    report = await venue.order("BTCUSDT", ENTRY_ID)
    assert report is not None
    assert (report.status, report.filled_qty, report.avg_price, report.reason) == (
        ours,
        Decimal("0.005"),
        Decimal("60000.1"),
        reason,
    )
    assert report.venue_order_id == "8389765739703625592"
    assert server.sent(ASK_ORDER)[0].params["origClientOrderId"] == ENTRY_ID


async def test_an_order_without_fills_has_no_price(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ASK_ORDER, order_row(status="NEW", executedQty="0.000", avgPrice="0.00"))
    report = await venue.order("BTCUSDT", ENTRY_ID)
    assert report is not None
    assert report.filled_qty == 0
    assert report.avg_price is None


async def test_no_such_order(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ASK_ORDER, Fail(-2013, "Order does not exist."))
    assert await venue.order("BTCUSDT", ENTRY_ID) is None


@pytest.mark.parametrize(
    "answer",
    [Http(500), Cut(), order_row(status="SOMETHING"), order_row(clientOrderId="other"), {"orderId": "1"}],
)
async def test_an_order_that_can_t_be_read_is_not_absent(
    server: BinanceServer, venue: BinanceVenue, answer: Answer
) -> None:
    server.script(ASK_ORDER, answer)
    with pytest.raises(Transient):
        await venue.order("BTCUSDT", ENTRY_ID)


# Executions


async def test_executions_of_an_order(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ASK_ORDER, order_row())
    server.script(
        TRADES,
        [
            trade_row(id=502, qty="0.007", commission="-0.0001", commissionAsset="BNB", positionSide="LONG"),
            trade_row(id=501, qty="0.005"),
        ],
    )
    first, second = await venue.fills("BTCUSDT", client_order_id=ENTRY_ID)
    assert (first.venue_fill_id, first.qty, first.price, first.fee, first.fee_currency) == (
        "501",
        Decimal("0.005"),
        Decimal("60000.10"),
        Decimal("0.36000060"),
        "USDT",
    )
    assert (first.client_order_id, first.origin, first.position_side) == (ENTRY_ID, FillOrigin.ORDER, None)
    assert first.filled_at == AT
    assert (second.fee, second.fee_currency, second.position_side) == (Decimal("-0.0001"), "BNB", PositionSide.LONG)
    assert server.sent(TRADES)[0].params["orderId"] == "8389765739703625592"


async def test_who_asks_by_an_id_of_another_form_owns_it(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ASK_ORDER, order_row(clientOrderId="my-own"))
    server.script(TRADES, [trade_row()])
    (fill,) = await venue.fills("BTCUSDT", client_order_id="my-own")
    assert (fill.client_order_id, fill.origin) == ("my-own", FillOrigin.ORDER)


async def test_an_old_order_s_executions_are_asked_for_by_its_time(server: BinanceServer, venue: BinanceVenue) -> None:
    at_ms = AT_MS - 30 * 86_400_000
    server.script(ASK_ORDER, order_row(time=at_ms))
    server.script(TRADES, [trade_row(time=at_ms)])
    assert len(await venue.fills("BTCUSDT", client_order_id=ENTRY_ID)) == 1
    params = server.sent(TRADES)[0].params
    assert int(params["startTime"]) == at_ms
    assert int(params["endTime"]) - at_ms < 7 * 86_400_000


async def test_an_order_that_is_not_shown_is_looked_for_among_the_executions(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    def ask(params: dict[str, str]) -> Answer:
        if "origClientOrderId" in params:
            return Fail(-2013)
        return order_row(
            orderId=int(params["orderId"]), clientOrderId=ENTRY_ID if params["orderId"] == "7" else "web_x"
        )

    server.script_by(ASK_ORDER, ask)
    server.script(TRADES, [trade_row(id=1, orderId=7), trade_row(id=2, orderId=8)])
    assert await venue.fills("BTCUSDT", client_order_id=ENTRY_ID) == []
    found = await venue.fills("BTCUSDT", client_order_id=ENTRY_ID, since=AT - timedelta(hours=1))
    assert [fill.venue_order_id for fill in found] == ["7"]


@pytest.mark.parametrize(
    ("client_id", "origin"),
    [
        (ENTRY_ID, FillOrigin.ORDER),
        (STOP_ID, FillOrigin.NATIVE_STOP),
        ("autoclose-1234567890", FillOrigin.LIQUIDATION),
        ("autoclose-insurance-5678", FillOrigin.LIQUIDATION),
        ("adl_autoclose_12345", FillOrigin.ADL),
        ("settlement_autoclose-9999", FillOrigin.EXTERNAL),
        ("delivery_autoclose-1", FillOrigin.EXTERNAL),
        ("web_coin_px06wttcjgaebeca9w5ijo3", FillOrigin.EXTERNAL),
        ("lh-of-somebody-else", FillOrigin.EXTERNAL),
    ],
)
async def test_who_made_an_order(
    server: BinanceServer, venue: BinanceVenue, client_id: str, origin: FillOrigin
) -> None:
    server.script(ASK_ORDER, order_row(clientOrderId=client_id))
    server.script(TRADES, [trade_row()])
    (fill,) = await venue.fills("BTCUSDT", since=AT)
    assert (fill.client_order_id, fill.origin) == (client_id, origin)


async def test_each_order_is_asked_for_once(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script_by(ASK_ORDER, lambda params: order_row(orderId=int(params["orderId"]), clientOrderId=EXIT_ID))
    server.script(TRADES, [trade_row(id=1, orderId=7), trade_row(id=2, orderId=7), trade_row(id=3, orderId=9)])
    assert len(await venue.fills("BTCUSDT", since=AT)) == 3
    await venue.fills("BTCUSDT", since=AT)
    assert sorted(request.params["orderId"] for request in server.sent(ASK_ORDER)) == ["7", "9"]


async def test_an_order_that_we_placed_is_not_asked_for(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ORDER, order_row())
    await venue.place(an_entry())
    server.script(TRADES, [trade_row()])
    (fill,) = await venue.fills("BTCUSDT", since=AT)
    assert fill.client_order_id == ENTRY_ID
    assert server.sent(ASK_ORDER) == []


async def test_an_execution_whose_order_is_not_shown_yet_is_not_called_foreign(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    server.script(ASK_ORDER, Fail(-2013))
    server.script(TRADES, [trade_row(time=int(datetime.now(UTC).timestamp() * 1000))])
    with pytest.raises(Transient):
        await venue.fills("BTCUSDT", since=AT)
    server.script(TRADES, [trade_row()])
    (fill,) = await venue.fills("BTCUSDT", since=AT)
    assert (fill.client_order_id, fill.origin) == (None, FillOrigin.EXTERNAL)


async def test_a_list_that_lags_behind_the_order_is_not_taken_for_complete(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    server.script(ASK_ORDER, order_row(time=now_ms, updateTime=now_ms))
    server.script(TRADES, [trade_row(qty="0.005")], [trade_row(qty="0.005"), trade_row(id=502, qty="0.007")])
    with pytest.raises(Transient):
        await venue.fills("BTCUSDT", client_order_id=ENTRY_ID)
    assert len(await venue.fills("BTCUSDT", client_order_id=ENTRY_ID)) == 2


async def test_executions_come_in_windows_and_pages(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ASK_ORDER, order_row(orderId=7))
    since = AT - timedelta(days=9)

    def trades(params: dict[str, str]) -> Answer:
        if "fromId" in params:
            first = int(params["fromId"])
            return [trade_row(id=number, orderId=7) for number in range(first, 1501)]
        if int(params["startTime"]) > AT_MS - 3 * 86_400_000:
            return [trade_row(id=number, orderId=7) for number in range(1, 1001)]
        assert int(params["endTime"]) - int(params["startTime"]) < 7 * 86_400_000
        return []

    server.script_by(TRADES, trades)
    fills = await venue.fills("BTCUSDT", since=since)
    assert [int(fill.venue_fill_id) for fill in fills] == list(range(1, 1501))


# Equity, permissions, settings


def account(**changes: Any) -> dict[str, Any]:
    usdt = {"asset": "USDT", "marginBalance": "110.5", "availableBalance": "80.25", "walletBalance": "100"}
    usdc = {"asset": "USDC", "marginBalance": "40", "availableBalance": "40"}
    made = {"totalMarginBalance": "150.5", "availableBalance": "120.25", "assets": [usdt, usdc], "positions": []}
    return made | changes


@pytest.mark.parametrize(
    ("changes", "multi", "equity", "available"),
    [
        ({}, False, "110.5", "80.25"),
        ({}, True, "150.5", "120.25"),
        ({"assets": [{"asset": "BNFCR", "marginBalance": "9"}]}, False, "150.5", "120.25"),
        ({"assets": [], "totalMarginBalance": "0.00", "availableBalance": "0.00"}, False, "0", "0"),
        ({"availableBalance": "-3"}, True, "150.5", "0"),
    ],
)
async def test_equity(
    server: BinanceServer, venue: BinanceVenue, changes: dict[str, Any], multi: bool, equity: str, available: str
) -> None:
    server.script(ACCOUNT, account(**changes))
    server.script(ACCOUNT_CONFIG, account_config(multiAssetsMargin=multi))
    found = await venue.equity()
    assert (found.equity, found.available) == (Decimal(equity), Decimal(available))


@pytest.mark.parametrize(
    ("key", "can_trade", "withdraw", "restricted"),
    [
        ({"enableFutures": True, "enableWithdrawals": False, "ipRestrict": True}, True, False, True),
        ({"enableFutures": True, "enableWithdrawals": True, "ipRestrict": False}, True, True, False),
        ({"enableFutures": False, "enableWithdrawals": False, "ipRestrict": True}, False, False, True),
        ({}, True, None, None),
        (Http(404), True, None, None),
        (Fail(-5000, "Path /sapi/v1/account/apiRestrictions, Method GET is invalid", 404), True, None, None),
        (Http(500), True, None, None),
        (Cut(), True, None, None),
    ],
)
async def test_permissions(
    server: BinanceServer,
    venue: BinanceVenue,
    key: Answer,
    can_trade: bool,
    withdraw: bool | None,
    restricted: bool | None,
) -> None:
    server.script(ACCOUNT_CONFIG, account_config())
    server.script(RESTRICTIONS, key)
    found = await venue.permissions()
    assert (found.can_trade, found.can_withdraw, found.ip_restricted) == (can_trade, withdraw, restricted)


async def test_an_account_that_may_not_trade(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ACCOUNT_CONFIG, account_config(canTrade=False))
    server.script(RESTRICTIONS, {"enableFutures": True})
    assert not (await venue.permissions()).can_trade


async def test_a_wrong_key_is_told_in_our_words(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ACCOUNT_CONFIG, Fail(-2015, "Invalid API-key, IP 1.2.3.4", 401))
    with pytest.raises(Refused, match="lacks a permission") as caught:
        await venue.permissions()
    assert "1.2.3.4" not in caught.value.reason


async def test_leverage_is_a_whole_number(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(LEVERAGE, {"leverage": 5, "maxNotionalValue": "1000000", "symbol": "BTCUSDT"})
    await venue.set_leverage("BTCUSDT", Decimal("5.0"))
    assert server.sent(LEVERAGE)[0].params["leverage"] == "5"
    with pytest.raises(Refused, match="whole"):
        await venue.set_leverage("BTCUSDT", Decimal("2.5"))
    server.script(LEVERAGE, Fail(-4028, "Leverage 200 is not valid"))
    with pytest.raises(Refused) as caught:
        await venue.set_leverage("BTCUSDT", Decimal(200))
    assert caught.value.code == Outcome.LEVERAGE_ABOVE_MAXIMUM
    server.script(LEVERAGE, Http(502))
    with pytest.raises(Transient):
        await venue.set_leverage("BTCUSDT", Decimal(5))


async def test_margin_mode(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(MARGIN, {"code": 200, "msg": "success"}, Fail(-4046), Fail(-4047), Fail(-4048), Fail(-4168))
    await venue.set_margin_mode("BTCUSDT", MarginMode.ISOLATED)
    await venue.set_margin_mode("BTCUSDT", MarginMode.CROSS)
    assert [request.params["marginType"] for request in server.sent(MARGIN)] == ["ISOLATED", "CROSSED"]
    for cure in ("cancel the open orders of BTCUSDT", "close the position in BTCUSDT", "single-asset mode"):
        with pytest.raises(Refused, match=cure):
            await venue.set_margin_mode("BTCUSDT", MarginMode.ISOLATED)


@pytest.mark.parametrize("hedge", [False, True])
async def test_a_test_order_is_a_small_one(server: BinanceServer, venue: BinanceVenue, hedge: bool) -> None:
    server.script(INFO, info())
    server.script(BRACKETS, [brackets()])
    server.script(MARK, {"markPrice": "60000.00"})
    server.script(PRICE, {"price": "60000.10"})
    server.script(BEST, {"bidPrice": "60000.00", "askPrice": "60000.10"})
    server.script(ACCOUNT_CONFIG, account_config(dualSidePosition=hedge))
    server.script(TEST, {})
    assert await venue.test_order("BTCUSDT") is True
    params = server.sent(TEST)[0].params
    assert params["quantity"] == "0.002"
    assert params.get("positionSide") == ("LONG" if hedge else None)
    server.script(TEST, Http(404))
    assert await venue.test_order("BTCUSDT") is False
    server.script(TEST, Fail(-2015, status=401))
    with pytest.raises(Refused):
        await venue.test_order("BTCUSDT")
