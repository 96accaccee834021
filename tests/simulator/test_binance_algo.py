"""Conditional orders: their rules, their life, and what is left when the position or the price goes."""

from typing import Any

import pytest

from tests.simulator.binance_client import ALGO, ORDER, BinanceClient

STOP = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "algoType": "CONDITIONAL", "triggerPrice": "66000"}
CLOSING = {**STOP, "closePosition": "true"}
SIZED = {**STOP, "quantity": "0.01"}


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({k: v for k, v in CLOSING.items() if k != "algoType"}, -1102),
        ({k: v for k, v in CLOSING.items() if k != "triggerPrice"}, -1102),
        (STOP, -1102),
        ({**CLOSING, "algoType": "VP"}, -1130),
        ({**CLOSING, "type": "MARKET"}, -1116),
        ({**CLOSING, "quantity": "0.01"}, -1106),
        ({**CLOSING, "reduceOnly": "true"}, -1106),
        ({**CLOSING, "type": "STOP", "price": "65900"}, -4136),
        ({**CLOSING, "stopPrice": "66000"}, -1104),
        ({**CLOSING, "newClientOrderId": "x"}, -1104),
        ({**CLOSING, "triggerPrice": "66000.05"}, -4014),
        ({**CLOSING, "triggerPrice": "67000"}, -2021),
        ({**CLOSING, "triggerPrice": "68000"}, -2021),
        ({**CLOSING, "type": "TAKE_PROFIT_MARKET"}, -2021),
        ({**CLOSING, "side": "BUY", "triggerPrice": "68000"}, -4509),
        ({**CLOSING, "workingType": "INDEX"}, -1130),
        ({**CLOSING, "positionSide": "LONG"}, -4061),
        ({**SIZED, "price": "65900"}, -1106),
        ({**SIZED, "quantity": "0.0005"}, -1111),
        ({**SIZED, "quantity": "501"}, -4005),
        ({**SIZED, "type": "STOP"}, -1102),
        ({**SIZED, "symbol": "XRPUSDT", "quantity": "1", "triggerPrice": "2"}, -4164),
    ],
)
async def test_refusals(binance: BinanceClient, order: dict[str, str], code: int) -> None:
    await binance.market("BUY", "0.01")
    answer = await binance.ask("POST", ALGO, **order)
    assert (answer.status, answer.code) == (400, code), answer.body
    assert await binance.get("/fapi/v1/openAlgoOrders") == []


async def test_a_closing_stop_is_taken(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    row = (await binance.closing("SELL", "STOP_MARKET", "66000", "s1", workingType="MARK_PRICE")).body
    assert (row["algoStatus"], row["orderType"], row["timeInForce"]) == ("NEW", "STOP_MARKET", "GTE_GTC")
    assert (row["closePosition"], row["reduceOnly"], row["quantity"]) == (True, True, "0.000")
    assert isinstance(row["algoId"], int)


async def test_only_one_of_a_kind_and_direction(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    assert (await binance.closing("SELL", "STOP_MARKET", "66000", "s1")).status == 200
    assert (await binance.closing("SELL", "STOP_MARKET", "65000", "s2")).code == -4130
    assert (await binance.closing("SELL", "TAKE_PROFIT_MARKET", "69000", "t1")).status == 200
    assert (await binance.closing("SELL", "TAKE_PROFIT_MARKET", "70000", "t2")).code == -4130
    assert (await binance.ask("DELETE", ALGO, clientAlgoId="s1")).status == 200
    assert (await binance.closing("SELL", "STOP_MARKET", "65000", "s2")).status == 200


async def test_a_cancelled_one_may_linger(binance: BinanceClient) -> None:
    await binance.control("binance", cancel_lag_ms=600_000)
    await binance.market("BUY", "0.01")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1")
    await binance.ask("DELETE", ALGO, clientAlgoId="s1")
    assert (await binance.closing("SELL", "STOP_MARKET", "65000", "s2")).code == -4130
    await binance.control("binance", cancel_lag_ms=0)
    assert (await binance.closing("SELL", "STOP_MARKET", "65000", "s2")).status == 200


async def test_a_closing_stop_needs_a_position_that_is_seen(binance: BinanceClient) -> None:
    assert (await binance.closing("SELL", "STOP_MARKET", "66000", "s1")).code == -4509
    await binance.control("binance", position_lag_ms=600_000)
    await binance.market("BUY", "0.01")
    assert (await binance.closing("SELL", "STOP_MARKET", "66000", "s1")).code == -4509
    await binance.control("binance", position_lag_ms=0)
    assert (await binance.closing("SELL", "STOP_MARKET", "66000", "s1")).status == 200


async def test_the_legs_of_hedge_mode_have_their_own_stops(binance: BinanceClient) -> None:
    await binance.hedge()
    await binance.market("BUY", "0.02", positionSide="LONG")
    await binance.market("SELL", "0.01", positionSide="SHORT")
    assert (await binance.closing("SELL", "STOP_MARKET", "66000", "l", positionSide="LONG")).status == 200
    assert (await binance.closing("BUY", "STOP_MARKET", "68000", "s", positionSide="SHORT")).status == 200
    assert (await binance.closing("BUY", "STOP_MARKET", "68000", "x", positionSide="LONG")).code == -1128
    await binance.price("66000")
    rows = await binance.get("/fapi/v3/positionRisk")
    assert [(r["positionSide"], r["positionAmt"]) for r in rows] == [("SHORT", "-0.010")]
    assert [row["clientAlgoId"] for row in await binance.get("/fapi/v1/openAlgoOrders")] == ["s"]


async def test_the_life_of_a_stop_that_fires(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.market("BUY", "0.01")
    await stream.order("FILLED")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1")
    await binance.closing("SELL", "TAKE_PROFIT_MARKET", "69000", "t1")
    assert (await stream.algo("NEW"))["caid"] == "s1"
    assert (await stream.algo("NEW"))["caid"] == "t1"
    await binance.price("65900")
    triggering = await stream.algo("TRIGGERING")
    assert (triggering["caid"], triggering["ai"]) == ("s1", "")
    triggered = await stream.algo("TRIGGERED")
    order = await stream.order("FILLED", "TRADE")
    assert (order["c"], str(order["i"]), order["ps"], order["R"]) == ("s1", triggered["ai"], "BOTH", True)
    finished = await stream.algo("FINISHED")
    assert (finished["aq"], finished["ap"], finished["ai"]) == ("0.01", "65900", triggered["ai"])
    assert (await stream.algo("EXPIRED"))["caid"] == "t1"  # the position is gone
    row = await binance.get(ALGO, clientAlgoId="s1")
    assert (row["algoStatus"], row["actualOrderId"], row["actualQty"]) == ("FINISHED", triggered["ai"], "0.010")
    assert row["triggerTime"] > 0
    ordinary = await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="s1")
    assert (ordinary["status"], str(ordinary["orderId"])) == ("FILLED", triggered["ai"])
    assert (await binance.get(ALGO, clientAlgoId="t1"))["algoStatus"] == "EXPIRED"


async def test_a_position_takes_its_stops_with_it(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1")
    await binance.ask("POST", ALGO, **SIZED, reduceOnly="true", clientAlgoId="sized")
    await binance.market("SELL", "0.01", reduceOnly="true")
    waiting = await binance.get("/fapi/v1/openAlgoOrders", symbol="BTCUSDT")
    assert [row["clientAlgoId"] for row in waiting] == ["sized"]  # nobody removes this one
    assert (await binance.get(ALGO, clientAlgoId="s1"))["algoStatus"] == "EXPIRED"


async def test_an_orphan_is_refused_when_it_fires(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.ask("POST", ALGO, **SIZED, reduceOnly="true", clientAlgoId="orphan")
    await binance.price("65900")
    refused = await stream.algo("REJECTED")
    assert (refused["caid"], refused["rm"], refused["ai"]) == ("orphan", "Reduce Only reject", "")
    row = await binance.get(ALGO, clientAlgoId="orphan")
    assert (row["algoStatus"], row["actualOrderId"]) == ("REJECTED", "")
    assert (await binance.ask("GET", ORDER, symbol="BTCUSDT", origClientOrderId="orphan")).code == -2013


async def test_margin_is_looked_at_when_it_fires(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    rises = {**SIZED, "side": "BUY", "triggerPrice": "68000", "quantity": "100", "clientAlgoId": "big"}
    assert (await binance.ask("POST", ALGO, **rises)).status == 200
    await binance.price("68000")
    assert (await stream.algo("REJECTED"))["rm"] == "Margin is insufficient"


async def test_a_stop_refused_by_the_matching_leaves_the_position_bare(binance: BinanceClient) -> None:
    stream = await binance.user_data()
    await binance.market("BUY", "0.01")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1")
    await binance.fault("reject_trigger")
    await binance.price("65900")
    assert (await stream.algo("REJECTED"))["caid"] == "s1"
    assert (await binance.get("/fapi/v3/positionRisk"))[0]["positionAmt"] == "0.010"


async def test_a_mark_stop_waits_for_the_mark(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1", workingType="MARK_PRICE")
    await binance.price("65900", mark="67000")
    assert (await binance.get(ALGO, clientAlgoId="s1"))["algoStatus"] == "NEW"
    await binance.price("65950", mark="66000")
    assert (await binance.get(ALGO, clientAlgoId="s1"))["algoStatus"] == "FINISHED"


async def test_a_limit_stop_rests_after_it_fired(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    order = {**SIZED, "type": "STOP", "price": "66500", "reduceOnly": "true", "clientAlgoId": "lim"}
    assert (await binance.ask("POST", ALGO, **order)).status == 200
    await binance.price("65900")
    row = await binance.get(ALGO, clientAlgoId="lim")
    assert (row["algoStatus"], row["actualQty"]) == ("TRIGGERED", "0.000")
    resting = (await binance.get("/fapi/v1/openOrders"))[0]
    assert (resting["clientOrderId"], str(resting["orderId"])) == ("lim", row["actualOrderId"])
    assert (await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="lim")).status == 200
    assert (await binance.get(ALGO, clientAlgoId="lim"))["algoStatus"] == "FINISHED"  # and nothing of it filled


async def test_ids_of_waiting_orders(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    first = (await binance.ask("POST", ALGO, **SIZED, clientAlgoId="a", reduceOnly="true")).body
    twin: dict[str, Any] = {**SIZED, "clientAlgoId": "a", "triggerPrice": "65000", "reduceOnly": "true"}
    assert (await binance.ask("POST", ALGO, **twin)).code == -4116
    cancelled = (await binance.ask("DELETE", ALGO, algoId=first["algoId"])).body
    assert cancelled == {"algoId": first["algoId"], "clientAlgoId": "a", "code": "200", "msg": "success"}
    assert (await binance.ask("DELETE", ALGO, clientAlgoId="a")).code == -2011
    assert (await binance.ask("DELETE", ALGO, clientAlgoId="never")).code == -2011
    assert (await binance.ask("GET", ALGO, clientAlgoId="never")).code == -2013
    assert (await binance.ask("GET", ALGO)).code == -1102
    assert (await binance.ask("POST", ALGO, **twin)).status == 200
    assert (await binance.get(ALGO, clientAlgoId="a"))["triggerPrice"] == "65000.00"  # the newest
    assert len(await binance.get("/fapi/v1/allAlgoOrders", symbol="BTCUSDT")) == 2


async def test_the_ordinary_endpoints_do_not_see_them(binance: BinanceClient) -> None:
    await binance.market("BUY", "0.01")
    await binance.closing("SELL", "STOP_MARKET", "66000", "s1")
    assert await binance.get("/fapi/v1/openOrders") == []
    assert (await binance.ask("GET", ORDER, symbol="BTCUSDT", origClientOrderId="s1")).code == -2013
    assert (await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="s1")).code == -2011
    await binance.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert len(await binance.get("/fapi/v1/openAlgoOrders")) == 1
    gone = await binance.ask("DELETE", "/fapi/v1/algoOpenOrders", symbol="BTCUSDT")
    assert gone.body == {"code": 200, "msg": "The operation of cancel all open order is done."}
    assert await binance.get("/fapi/v1/openAlgoOrders") == []
