"""What is held, the settings of a position, the account and its key."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import MarginMode, PositionMode, PositionSide
from app.errors import Conflict, LevelheadError, Refused, Transient
from app.venues.bybit.venue import BybitVenue
from tests.venues.bybit_rows import (
    ACCOUNT,
    CREATE,
    INSTRUMENTS,
    KEY_INFO,
    LEVERAGE,
    POSITIONS,
    REALTIME,
    STOP,
    TICKERS,
    WALLET,
    an_entry,
    instrument_row,
    order_row,
    page,
    position_row,
)
from tests.venues.bybit_server import Answer, BybitServer, Say, adapter
from tests.venues.scripted import Cut, Hang, Http

# holding, instrument, equity, quote


async def test_a_holding_is_read(server: BybitServer, venue: BybitVenue) -> None:
    row = position_row(side="Sell", size="0.5", avgPrice="64000.5", stopLoss="70000.00", leverage="10")
    server.script(POSITIONS, page(row))
    standing = await venue.standing("BTCUSDT")
    assert (standing.position_mode, standing.margin_mode) == (PositionMode.ONE_WAY, MarginMode.CROSS)
    assert standing.leverage == Decimal(10)
    held = standing.on(PositionSide.SHORT)
    assert held is not None
    assert standing.holdings == (held,)
    assert (held.qty, held.entry_price, held.stop_loss) == (Decimal("0.5"), Decimal("64000.5"), Decimal(70000))


@pytest.mark.parametrize("unset", ["", "0", "0.00"])
async def test_a_flat_position_is_a_row_of_blanks(server: BybitServer, venue: BybitVenue, unset: str) -> None:
    server.script(POSITIONS, page(position_row(stopLoss=unset)))
    standing = await venue.standing("BTCUSDT")
    assert (standing.holdings, standing.leverage) == ((), None)


async def test_both_sides_are_read_in_hedge_mode(server: BybitServer, venue: BybitVenue) -> None:
    long = position_row(positionIdx=1, side="Buy", size="0.1", avgPrice="1", stopLoss="0.5", leverage="5")
    short = position_row(positionIdx=2, side="Sell", size="0.2", avgPrice="2", stopLoss="0.00", leverage="5.0")
    server.script(POSITIONS, page(long, short))
    standing = await venue.standing("BTCUSDT")
    assert (standing.position_mode, standing.leverage) == (PositionMode.HEDGE, Decimal(5))
    assert [(held.side, held.qty, held.stop_loss) for held in standing.holdings] == [
        (PositionSide.LONG, Decimal("0.1"), Decimal("0.5")),
        (PositionSide.SHORT, Decimal("0.2"), None),
    ]


async def test_a_flat_hedge_has_its_mode_and_two_leverages_are_none(server: BybitServer, venue: BybitVenue) -> None:
    server.script(POSITIONS, page(position_row(positionIdx=1, leverage="5"), position_row(positionIdx=2, leverage="7")))
    standing = await venue.standing("BTCUSDT")
    assert (standing.position_mode, standing.holdings, standing.leverage) == (PositionMode.HEDGE, (), None)


async def test_the_leverage_of_a_side_that_was_never_traded_is_blank(server: BybitServer, venue: BybitVenue) -> None:
    server.script(
        POSITIONS,
        page(
            position_row(positionIdx=1, side="Buy", size="1", avgPrice="1", leverage="5"), position_row(positionIdx=2)
        ),
    )
    assert (await venue.standing("BTCUSDT")).leverage == Decimal(5)


async def test_everything_held_is_listed_from_all_pages(server: BybitServer, venue: BybitVenue) -> None:
    server.script(
        POSITIONS,
        page(position_row(positionIdx=1, side="Buy", size="1", avgPrice="5"), cursor="more"),
        page(position_row(symbol="ETHUSDT", side="Sell", size="2", avgPrice="6", stopLoss="7"), position_row()),
    )
    found = [(held.symbol, held.side, held.qty, held.stop_loss) for held in await venue.holdings()]
    assert found == [
        ("BTCUSDT", PositionSide.LONG, Decimal(1), None),
        ("ETHUSDT", PositionSide.SHORT, Decimal(2), Decimal(7)),
    ]
    assert server.requests[0].query == {"category": "linear", "settleCoin": "USDT", "limit": "200"}


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("REGULAR_MARGIN", MarginMode.CROSS),
        ("ISOLATED_MARGIN", MarginMode.ISOLATED),
        ("PORTFOLIO_MARGIN", None),
        ("SOME_MARGIN", None),
    ],
)
async def test_the_margin_mode_is_the_accounts_and_asked_for_once(
    server: BybitServer, venue: BybitVenue, said: str, mode: MarginMode | None
) -> None:
    server.script(ACCOUNT, {"marginMode": said})
    server.script(POSITIONS, page(position_row()))
    assert (await venue.standing("BTCUSDT")).margin_mode is mode
    assert (await venue.standing("BTCUSDT")).margin_mode is mode
    assert len(server.sent(ACCOUNT)) == 1


async def test_a_parameter_error_has_the_margin_mode_asked_for_again(server: BybitServer, venue: BybitVenue) -> None:
    server.script(POSITIONS, page(position_row()))
    server.script(CREATE, Say(10001, "Qty invalid"))
    await venue.standing("BTCUSDT")
    with pytest.raises(Refused):
        await venue.place(an_entry())
    await venue.standing("BTCUSDT")
    assert len(server.sent(ACCOUNT)) == 2


async def test_a_margin_mode_is_not_ours_to_change(server: BybitServer, venue: BybitVenue) -> None:
    server.script(ACCOUNT, {"marginMode": "ISOLATED_MARGIN"})
    await venue.set_margin_mode("BTCUSDT", MarginMode.ISOLATED)
    with pytest.raises(Refused, match="change it there") as caught:
        await venue.set_margin_mode("BTCUSDT", MarginMode.CROSS)
    assert caught.value.code == "margin_mode_mismatch"
    server.script(ACCOUNT, {"marginMode": "REGULAR_MARGIN"})  # somebody changed it: seen at once
    await venue.set_margin_mode("BTCUSDT", MarginMode.CROSS)


async def test_a_margin_mode_that_can_not_be_read_is_not_guessed(server: BybitServer, venue: BybitVenue) -> None:
    server.script(ACCOUNT, Http(502))
    server.script(POSITIONS, page(position_row()))
    with pytest.raises(Transient):
        await venue.standing("BTCUSDT")


@pytest.mark.parametrize("answer", [page(), Http(502), Say(10016), Say(10006), Hang(), Http(200, "<html>")])
async def test_a_failed_read_is_never_flat(server: BybitServer, answer: Answer) -> None:
    server.script(POSITIONS, answer)
    async with adapter(server.origin, timeout_s=0.2) as venue:
        with pytest.raises(Transient):
            await venue.standing("BTCUSDT")


async def test_a_read_survives_a_connection_that_was_closed_while_idle(server: BybitServer, venue: BybitVenue) -> None:
    server.script(POSITIONS, Cut(), page(position_row()))
    assert (await venue.standing("BTCUSDT")).holdings == ()
    assert len(server.sent(POSITIONS)) == 2


async def test_an_instrument_is_asked_for_once(server: BybitServer, venue: BybitVenue) -> None:
    server.script(INSTRUMENTS, page(instrument_row()))
    first, second = await venue.instrument("BTCUSDT"), await venue.instrument("BTCUSDT")
    assert first == second
    assert len(server.requests) == 1
    assert (first.tick_size, first.qty_step, first.market_qty_max) == (Decimal("0.1"), Decimal("0.001"), Decimal(500))
    assert (first.notional_min, first.leverage_max, first.trading) == (Decimal(5), Decimal(100), True)


async def test_a_refused_order_has_the_rules_read_again(server: BybitServer, venue: BybitVenue) -> None:
    server.script(INSTRUMENTS, page(instrument_row()))
    server.script(CREATE, Say(10001, "Qty invalid"))
    server.script(POSITIONS, page(position_row()))
    await venue.instrument("BTCUSDT")
    with pytest.raises(Refused):
        await venue.place(an_entry())
    await venue.instrument("BTCUSDT")
    assert len(server.sent(INSTRUMENTS)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        page(),
        Say(10001, "params error: symbol invalid"),
        page(instrument_row(contractType="LinearFutures")),
        page(instrument_row(settleCoin="USDC")),
    ],
)
async def test_what_is_not_a_usdt_perpetual_is_unknown(server: BybitServer, venue: BybitVenue, answer: Answer) -> None:
    server.script(INSTRUMENTS, answer)
    with pytest.raises(Refused) as caught:
        await venue.instrument("BTCUSDT")
    assert caught.value.code == "unknown_symbol"


@pytest.mark.parametrize(
    "changes", [{"status": "Delivering"}, {"isPreListing": True}, {"deliveryTime": "1772366400000"}]
)
async def test_a_halted_instrument_is_known_and_not_trading(
    server: BybitServer, venue: BybitVenue, changes: dict[str, Any]
) -> None:
    server.script(INSTRUMENTS, page(instrument_row(**changes)))
    assert not (await venue.instrument("BTCUSDT")).trading


async def test_a_symbol_can_not_smuggle_a_parameter(server: BybitServer, venue: BybitVenue) -> None:
    server.script(INSTRUMENTS, page())
    with pytest.raises(Refused):
        await venue.instrument("BTC&category=spot #")
    assert server.requests[0].query == {"category": "linear", "symbol": "BTC&category=spot #"}


COIN = {"coin": "USDT", "equity": "900.5", "walletBalance": "1000"}


@pytest.mark.parametrize(
    ("row", "equity", "available"),
    [
        ({"totalEquity": "5000", "totalAvailableBalance": "700", "coin": [COIN]}, "900.5", "700"),
        ({"totalEquity": "5000", "totalAvailableBalance": "700", "coin": [{"coin": "BTC"}]}, "5000", "700"),
        ({"totalEquity": "0", "totalAvailableBalance": "0", "coin": []}, "0", "0"),
        (
            {
                "totalEquity": "",
                "totalAvailableBalance": "",
                "coin": [COIN | {"totalPositionIM": "100", "totalOrderIM": "50.5", "locked": "", "bonus": "1"}],
            },
            "900.5",
            "848.5",
        ),
    ],
)
async def test_equity_is_what_wins_and_loses(
    server: BybitServer, venue: BybitVenue, row: dict[str, Any], equity: str, available: str
) -> None:
    server.script(WALLET, {"list": [row]})
    found = await venue.equity()
    assert (found.equity, found.available) == (Decimal(equity), Decimal(available))


async def test_a_quote_is_read(server: BybitServer, venue: BybitVenue) -> None:
    server.script(TICKERS, page({"symbol": "BTCUSDT", "lastPrice": "64000.1", "markPrice": "64000.25"}))
    quote = await venue.quote("BTCUSDT")
    assert (quote.last, quote.mark) == (Decimal("64000.1"), Decimal("64000.25"))


@pytest.mark.parametrize("price", ["", "NaN", "Infinity", "a lot"])
async def test_a_number_that_is_none_is_not_believed(server: BybitServer, venue: BybitVenue, price: str) -> None:
    server.script(TICKERS, page({"symbol": "BTCUSDT", "lastPrice": price, "markPrice": "1"}))
    with pytest.raises(Transient):
        await venue.quote("BTCUSDT")


# settings


async def test_leverage_is_set_for_both_sides(server: BybitServer, venue: BybitVenue) -> None:
    server.script(LEVERAGE, {}, Say(110043))
    await venue.set_leverage("BTCUSDT", Decimal("1E+1"))
    await venue.set_leverage("BTCUSDT", Decimal("10"))
    body = {"category": "linear", "symbol": "BTCUSDT", "buyLeverage": "10", "sellLeverage": "10"}
    assert [request.body for request in server.requests] == [body, body]


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (Say(110013), Refused, "leverage_above_maximum"),
        (Say(10003), Refused, "venue_refused"),
        (Say(10016), Transient, None),
        (Cut(), Transient, None),
    ],
)
async def test_failures_of_a_setting(
    server: BybitServer, venue: BybitVenue, answer: Answer, expected: type[LevelheadError], code: str | None
) -> None:
    server.script(LEVERAGE, answer)
    with pytest.raises(expected) as caught:
        await venue.set_leverage("BTCUSDT", Decimal(10))
    assert getattr(caught.value, "code", None) == code
    assert len(server.requests) == 1


async def test_a_stop_is_placed_moved_and_removed(server: BybitServer, venue: BybitVenue) -> None:
    server.script(STOP, {}, Say(34040), {})
    await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal("60000.50"), hedge=False)
    await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal("60000.5"), hedge=False)
    await venue.set_stop("BTCUSDT", PositionSide.LONG, None, hedge=False)
    assert [request.body["stopLoss"] for request in server.requests] == ["60000.5", "60000.5", "0"]
    assert server.requests[0].body == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "positionIdx": 0,
        "tpslMode": "Full",
        "stopLoss": "60000.5",
        "slTriggerBy": "LastPrice",
    }


async def test_a_stop_on_the_wrong_side_is_refused(server: BybitServer, venue: BybitVenue) -> None:
    server.script(STOP, Say(10001, "StopLoss:1 set for Sell position should greater than base_price:2??LastPrice"))
    with pytest.raises(Refused) as caught:
        await venue.set_stop("BTCUSDT", PositionSide.SHORT, Decimal(1), hedge=False)
    assert caught.value.code == "stop_wrong_side"


@pytest.mark.parametrize("held", [position_row(), position_row(side="Sell", size="1", avgPrice="1")])
async def test_a_stop_without_its_position_is_a_conflict(
    server: BybitServer, venue: BybitVenue, held: dict[str, Any]
) -> None:
    server.script(STOP, Say(10001, "can not set tp/sl/ts for zero position"))
    server.script(POSITIONS, page(held))
    with pytest.raises(Conflict) as caught:
        await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1), hedge=False)
    assert caught.value.kind == "no_position"


async def test_a_stop_that_is_refused_though_the_position_is_there(server: BybitServer, venue: BybitVenue) -> None:
    server.script(STOP, Say(10001, "price invalid"))
    server.script(POSITIONS, page(position_row(side="Buy", size="1", avgPrice="1")))
    with pytest.raises(Refused) as caught:
        await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1), hedge=False)
    assert caught.value.code == "venue_refused"


async def test_resting_stops_are_those_that_close(server: BybitServer, venue: BybitVenue) -> None:
    rest = {"orderStatus": "Untriggered", "orderLinkId": ""}
    server.script(
        REALTIME,
        page(
            order_row(**rest, stopOrderType="StopLoss", triggerPrice="60000", side="Sell"),
            order_row(**rest, stopOrderType="TakeProfit", triggerPrice="70000", side="Sell"),
            order_row(**rest, stopOrderType="Stop", triggerPrice="50000", reduceOnly=True, side="Sell"),
            order_row(**rest, stopOrderType="StopLoss", triggerPrice="80000", side="Buy"),
            order_row(**rest, stopOrderType="StopLoss", triggerPrice="55000", side="Sell", positionIdx=1),
            order_row(**rest, stopOrderType="StopLoss", triggerPrice="75000", side="Buy", positionIdx=2),
            cursor="next",
        ),
        page(
            order_row(**rest, stopOrderType="Stop", triggerPrice="40000", reduceOnly=False),
            order_row(**rest, stopOrderType="PartialStopLoss", triggerPrice="59000", side="Sell"),
            order_row(**rest, stopOrderType="TrailingStop", triggerPrice="0.00"),
            order_row(orderStatus="Deactivated", stopOrderType="StopLoss", triggerPrice="1"),
        ),
    )
    found = [(stop.side, int(stop.price)) for stop in await venue.resting_stops("BTCUSDT")]
    long, short = PositionSide.LONG, PositionSide.SHORT
    assert found == [(long, 50000), (long, 55000), (long, 59000), (long, 60000), (short, 75000), (short, 80000)]
    assert server.requests[0].query["orderFilter"] == "StopOrder"
    assert server.requests[1].query["cursor"] == "next"


# the key


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (
            {"readOnly": 0, "ips": ["1.2.3.4"], "permissions": {"ContractTrade": ["Order", "Position"]}},
            (True, False, True),
        ),
        ({"readOnly": 1, "ips": ["*"], "permissions": {"ContractTrade": ["Order", "Position"]}}, (False, False, False)),
        ({"readOnly": 0, "ips": ["*"], "permissions": {"ContractTrade": ["Order"]}}, (False, False, False)),
        ({"readOnly": 0, "ips": None, "permissions": {"Derivatives": ["DerivativesTrade"]}}, (True, False, False)),
        (
            {"readOnly": 0, "ips": ["*"], "permissions": {"Wallet": ["AccountTransfer", "Withdraw"]}},
            (False, True, False),
        ),
    ],
)
async def test_what_a_key_may_do(
    server: BybitServer, venue: BybitVenue, info: dict[str, Any], expected: tuple[bool, bool, bool]
) -> None:
    server.script(KEY_INFO, info)
    found = await venue.permissions()
    assert (found.can_trade, found.can_withdraw, found.ip_restricted) == expected
    assert found.detail


async def test_an_environment_that_does_not_say_is_believed(server: BybitServer, venue: BybitVenue) -> None:
    server.script(KEY_INFO, Http(404))
    found = await venue.permissions()
    assert (found.can_trade, found.can_withdraw, found.ip_restricted) == (True, None, None)


async def test_the_exchanges_clock(server: BybitServer, venue: BybitVenue) -> None:
    server.skew_ms = 3_600_000
    ahead = await venue.server_time() - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    assert 3_540_000 < venue.clock_offset_ms < 3_660_000
