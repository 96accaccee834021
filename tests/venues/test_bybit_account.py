"""What is held, the settings of a position, the account and its key."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.order import PositionSide
from app.errors import Conflict, LevelheadError, Refused, Transient
from app.venues.bybit import BybitVenue
from tests.venues.bybit_rows import (
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
from tests.venues.bybit_server import (
    Answer,
    BybitServer,
    Cut,
    Hang,
    Http,
    Say,
    adapter,
)

# holding, instrument, equity, quote


async def test_a_holding_is_read(server: BybitServer, venue: BybitVenue) -> None:
    row = position_row(side="Sell", size="0.5", avgPrice="64000.5", stopLoss="70000.00", leverage="10")
    server.script(POSITIONS, page(row))
    holding = await venue.holding("BTCUSDT")
    assert (holding.side, holding.qty, holding.entry_price) == (PositionSide.SHORT, Decimal("0.5"), Decimal("64000.5"))
    assert (holding.stop_loss, holding.leverage) == (Decimal(70000), Decimal(10))


@pytest.mark.parametrize("unset", ["", "0", "0.00"])
async def test_a_flat_position_is_a_row_of_blanks(server: BybitServer, venue: BybitVenue, unset: str) -> None:
    server.script(POSITIONS, page(position_row(stopLoss=unset)))
    holding = await venue.holding("BTCUSDT")
    assert (holding.side, holding.qty, holding.entry_price, holding.stop_loss) == (None, Decimal(0), None, None)


async def test_hedge_mode_is_refused_with_the_cure(server: BybitServer, venue: BybitVenue) -> None:
    server.script(POSITIONS, page(position_row(positionIdx=1), position_row(positionIdx=2)))
    with pytest.raises(Refused, match="one-way mode") as caught:
        await venue.holding("BTCUSDT")
    assert caught.value.code == "not_supported_yet"


@pytest.mark.parametrize("answer", [page(), Http(502), Say(10016), Say(10006), Hang(), Http(200, "<html>")])
async def test_a_failed_read_is_never_flat(server: BybitServer, answer: Answer) -> None:
    server.script(POSITIONS, answer)
    async with adapter(server.origin, timeout_s=0.2) as venue:
        with pytest.raises(Transient):
            await venue.holding("BTCUSDT")


async def test_a_read_survives_a_connection_that_was_closed_while_idle(server: BybitServer, venue: BybitVenue) -> None:
    server.script(POSITIONS, Cut(), page(position_row()))
    assert (await venue.holding("BTCUSDT")).side is None
    assert len(server.requests) == 2


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


@pytest.mark.parametrize("changes", [{"status": "Delivering"}, {"isPreListing": True}])
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
    await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal("60000.50"))
    await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal("60000.5"))
    await venue.set_stop("BTCUSDT", PositionSide.LONG, None)
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
        await venue.set_stop("BTCUSDT", PositionSide.SHORT, Decimal(1))
    assert caught.value.code == "stop_wrong_side"


@pytest.mark.parametrize("held", [position_row(), position_row(side="Sell", size="1")])
async def test_a_stop_without_its_position_is_a_conflict(
    server: BybitServer, venue: BybitVenue, held: dict[str, Any]
) -> None:
    server.script(STOP, Say(10001, "can not set tp/sl/ts for zero position"))
    server.script(POSITIONS, page(held))
    with pytest.raises(Conflict) as caught:
        await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1))
    assert caught.value.kind == "no_position"


async def test_a_stop_that_is_refused_though_the_position_is_there(server: BybitServer, venue: BybitVenue) -> None:
    server.script(STOP, Say(10001, "price invalid"))
    server.script(POSITIONS, page(position_row(side="Buy", size="1")))
    with pytest.raises(Refused) as caught:
        await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1))
    assert caught.value.code == "venue_refused"


async def test_resting_stops_are_those_that_close(server: BybitServer, venue: BybitVenue) -> None:
    rest = {"orderStatus": "Untriggered", "orderLinkId": ""}
    server.script(
        REALTIME,
        page(
            order_row(**rest, stopOrderType="StopLoss", triggerPrice="60000"),
            order_row(**rest, stopOrderType="TakeProfit", triggerPrice="70000"),
            order_row(**rest, stopOrderType="Stop", triggerPrice="50000", reduceOnly=True),
            cursor="next",
        ),
        page(
            order_row(**rest, stopOrderType="Stop", triggerPrice="40000", reduceOnly=False),
            order_row(**rest, stopOrderType="PartialStopLoss", triggerPrice="59000"),
            order_row(**rest, stopOrderType="TrailingStop", triggerPrice="0.00"),
            order_row(orderStatus="Deactivated", stopOrderType="StopLoss", triggerPrice="1"),
        ),
    )
    assert await venue.resting_stops("BTCUSDT") == [Decimal(50000), Decimal(59000), Decimal(60000)]
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
    assert (await venue.permissions()).can_trade


async def test_the_exchanges_clock(server: BybitServer, venue: BybitVenue) -> None:
    server.skew_ms = 3_600_000
    ahead = await venue.server_time() - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
