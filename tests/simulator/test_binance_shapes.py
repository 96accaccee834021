"""Every field that the exchange sends is there, in the type it is sent in; over recordings too where there are some.

Examples are written after the vendor's pages. A recording is named by its path under the folder of
LEVELHEAD_SHARED_EXCHANGES, which holds payloads as recorded.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from simulator.binance.errors import by_fault
from tests.simulator.binance_client import ALGO, ORDER, BinanceClient

SHARED = os.environ.get("LEVELHEAD_SHARED_EXCHANGES", "")

TEXT, WHOLE, FLAG = "1", 1, True

ORDER_ROW: dict[str, Any] = {
    "orderId": WHOLE,
    "symbol": TEXT,
    "status": TEXT,
    "clientOrderId": TEXT,
    "price": TEXT,
    "avgPrice": TEXT,
    "origQty": TEXT,
    "executedQty": TEXT,
    "cumQty": TEXT,
    "cumQuote": TEXT,
    "timeInForce": TEXT,
    "type": TEXT,
    "reduceOnly": FLAG,
    "closePosition": FLAG,
    "side": TEXT,
    "positionSide": TEXT,
    "stopPrice": TEXT,
    "workingType": TEXT,
    "priceProtect": FLAG,
    "origType": TEXT,
    "priceMatch": TEXT,
    "selfTradePreventionMode": TEXT,
    "goodTillDate": WHOLE,
    "updateTime": WHOLE,
}
QUERY_ROW = {k: v for k, v in ORDER_ROW.items() if k != "cumQty"} | {"time": WHOLE}
ALGO_ROW: dict[str, Any] = {
    "algoId": WHOLE,
    "clientAlgoId": TEXT,
    "algoType": TEXT,
    "orderType": TEXT,
    "symbol": TEXT,
    "side": TEXT,
    "positionSide": TEXT,
    "timeInForce": TEXT,
    "quantity": TEXT,
    "algoStatus": TEXT,
    "actualOrderId": TEXT,
    "actualPrice": TEXT,
    "triggerPrice": TEXT,
    "price": TEXT,
    "icebergQuantity": None,
    "tpTriggerPrice": TEXT,
    "tpPrice": TEXT,
    "slTriggerPrice": TEXT,
    "slPrice": TEXT,
    "tpOrderType": TEXT,
    "selfTradePreventionMode": TEXT,
    "workingType": TEXT,
    "priceMatch": TEXT,
    "closePosition": FLAG,
    "priceProtect": FLAG,
    "reduceOnly": FLAG,
    "createTime": WHOLE,
    "updateTime": WHOLE,
    "triggerTime": WHOLE,
    "goodTillDate": WHOLE,
}
RISK_ROW = dict.fromkeys(
    """symbol positionSide positionAmt entryPrice breakEvenPrice markPrice unRealizedProfit liquidationPrice
    isolatedMargin notional marginAsset isolatedWallet initialMargin maintMargin positionInitialMargin
    openOrderInitialMargin bidNotional askNotional""".split(),
    TEXT,
) | {"adl": WHOLE, "updateTime": WHOLE}
ORDER_FRAME: dict[str, Any] = dict.fromkeys("s c S o f q p ap sp x X l z L n N b a wt ot ps rp V pm er".split(), TEXT)
ORDER_FRAME |= dict.fromkeys("i T t si ss gtd".split(), WHOLE) | dict.fromkeys("m R cp pP".split(), FLAG)


def same_shape(wanted: Any, got: Any, where: str = "") -> list[str]:
    """What differs in names or types; of lists the first rows are compared."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        found = [f"{where}: missing {k}" for k in wanted.keys() - got.keys()]
        found += [f"{where}: needless {k}" for k in got.keys() - wanted.keys()]
        for name in wanted.keys() & got.keys():
            found += same_shape(wanted[name], got[name], f"{where}.{name}")
        return found
    if isinstance(wanted, list) and isinstance(got, list):
        return same_shape(wanted[0], got[0], f"{where}[]") if wanted and got else []
    return [] if type(wanted) is type(got) else [f"{where}: {got!r} is not as {wanted!r}"]


async def a_day(binance: BinanceClient) -> dict[str, Any]:
    """Something of everything, by the name of what it is."""
    seen: dict[str, Any] = {}
    stream = await binance.user_data()
    seen["result"] = (await binance.market("BUY", "0.02", newClientOrderId="e1")).body
    order = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.01", "reduceOnly": "true"}
    seen["ack"] = (await binance.ask("POST", ORDER, **order)).body
    seen["query"] = await binance.get(ORDER, symbol="BTCUSDT", origClientOrderId="e1")
    await binance.limit("BUY", "0.01", "60000", newClientOrderId="r")
    seen["open"] = await binance.get("/fapi/v1/openOrders")
    change = {"symbol": "BTCUSDT", "origClientOrderId": "r", "side": "BUY", "quantity": "0.01", "price": "60001"}
    seen["modify"] = (await binance.ask("PUT", ORDER, **change)).body
    seen["cancel"] = (await binance.ask("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="r")).body
    seen["risk"] = await binance.get("/fapi/v3/positionRisk")
    seen["risk2"] = await binance.get("/fapi/v2/positionRisk", symbol="BTCUSDT")
    seen["account3"] = await binance.get("/fapi/v3/account")
    seen["account2"] = await binance.get("/fapi/v2/account")
    seen["stop"] = (await binance.closing("SELL", "STOP_MARKET", "66000", "s1", workingType="MARK_PRICE")).body
    await binance.closing("SELL", "TAKE_PROFIT_MARKET", "69000", "t1")
    seen["algos"] = await binance.get("/fapi/v1/openAlgoOrders")
    await binance.ask("DELETE", ALGO, clientAlgoId="t1")
    await binance.price("65999")
    seen["fired"] = await binance.get(ALGO, clientAlgoId="s1")
    seen["trades"] = await binance.get("/fapi/v1/userTrades", symbol="BTCUSDT")
    seen["income"] = await binance.get("/fapi/v1/income")
    await stream.algo("FINISHED")
    for frame in stream.seen:
        kind = frame["e"]
        detail = frame["o"]["X"] if kind == "ALGO_UPDATE" else frame["o"]["x"] if kind.startswith("ORDER") else ""
        seen[f"{kind} {detail}".strip()] = frame
    return seen


async def test_rows_have_the_fields_of_the_exchange(binance: BinanceClient) -> None:
    seen = await a_day(binance)
    found = same_shape(ORDER_ROW, seen["result"], "result") + same_shape(ORDER_ROW, seen["ack"], "ack")
    found += same_shape(ORDER_ROW, seen["cancel"], "cancel") + same_shape(QUERY_ROW, seen["query"], "query")
    found += same_shape([ORDER_ROW | {"time": WHOLE}], seen["open"], "open")
    found += same_shape([ALGO_ROW], seen["algos"], "algos")
    found += same_shape(ALGO_ROW | {"actualQty": TEXT, "actualType": TEXT}, seen["fired"], "fired")
    found += same_shape([RISK_ROW], seen["risk"], "risk")
    for kind in ("NEW", "TRADE", "AMENDMENT", "CANCELED"):
        found += same_shape(ORDER_FRAME, seen[f"ORDER_TRADE_UPDATE {kind}"]["o"], kind)
    assert found == []


async def test_the_frame_of_a_cancelled_stop_is_sparse(binance: BinanceClient) -> None:
    seen = await a_day(binance)
    lacking = set(seen["ALGO_UPDATE NEW"]["o"]) - set(seen["ALGO_UPDATE CANCELED"]["o"])
    assert lacking == {"V", "wt", "pm", "cp", "pP"}


# --- over recordings

# what was seen -> file, and names that only one of both has: the file is of another type of order, or leaves them open
PRIVATE = {
    "result": ("rest/order_new_market_result_filled.json", set()),
    "ack": ("rest/order_new_market_ack.json", set()),
    "query": ("rest/order_query_filled.json", set()),
    "open": ("rest/open_orders.json", set()),
    "modify": ("rest/order_modify.json", set()),
    "cancel": ("rest/order_cancel.json", {"activatePrice", "priceRate"}),
    "risk": ("rest/position_risk_v3_oneway.json", set()),
    "risk2": ("rest/position_risk_v2_oneway_flat.json", set()),
    "account3": ("rest/account_v3.json", set()),
    "account2": ("rest/account_v2.json", set()),
    "stop": ("rest/algo_new_take_profit_docs.json", set()),
    "algos": ("rest/algo_open_close_position_pair.json", set()),
    "fired": ("rest/algo_query_finished_filled.json", set()),
    "trades": ("rest/user_trades.json", set()),
    "income": ("rest/income.json", set()),
    "ORDER_TRADE_UPDATE NEW": ("ws/user_limit_new.json", set()),
    "ORDER_TRADE_UPDATE AMENDMENT": ("ws/user_limit_amendment.json", set()),
    "ORDER_TRADE_UPDATE CANCELED": ("ws/user_limit_canceled.json", set()),
}
PUBLIC = {
    "/fapi/v1/time": "rest/server_time.json",
    "/fapi/v1/exchangeInfo": "rest/exchange_info_5.json",
    "/fapi/v1/premiumIndex?symbol=BTCUSDT": "rest/premium_index.json",
    "/fapi/v1/premiumIndex": "rest/premium_index_all.json",
    "/fapi/v1/ticker/bookTicker?symbol=BTCUSDT": "rest/book_ticker.json",
    "/fapi/v2/ticker/price?symbol=BTCUSDT": "rest/ticker_price_v2.json",
    "/fapi/v2/ticker/price": "rest/ticker_price_v2_all.json",
    "/fapi/v1/klines?symbol=BTCUSDT&interval=5m": "rest/klines_5m.json",
}
SETTINGS = {
    "/fapi/v3/balance": "rest/balance_v3.json",
    "/fapi/v1/accountConfig": "rest/account_config.json",
    "/fapi/v1/symbolConfig": "rest/symbol_config.json",
    "/fapi/v1/leverageBracket": "rest/leverage_bracket.json",
    "/fapi/v1/rateLimit/order": "rest/rate_limit_order.json",
    "/fapi/v1/positionSide/dual": "rest/position_side_dual_false.json",
    "/fapi/v1/multiAssetsMargin": "rest/multi_assets_mode.json",
}
STREAMS = {
    "/market/stream?streams=btcusdt@aggTrade": "ws/combined_agg_trade.json",
    "/public/stream?streams=btcusdt@bookTicker": "ws/combined_book_ticker.json",
    "/market/stream?streams=btcusdt@markPrice@1s": "ws/combined_mark_price_1s.json",
    "/market/stream?streams=btcusdt@kline_5m": "ws/combined_kline_5m_closed.json",
    "/market/ws/btcusdt@miniTicker": "ws/mini_ticker_docs.json",
}


def recorded(name: str) -> Any:
    if not SHARED:
        pytest.skip("LEVELHEAD_SHARED_EXCHANGES is not set")
    return json.loads((Path(SHARED) / "fixtures" / "binance" / name).read_text())


def names_in_order(value: Any) -> list[str]:
    return list(value["data"] if "data" in value else value)


async def test_private_rows_against_recordings(binance: BinanceClient) -> None:
    recordings = {kind: (recorded(file), loose) for kind, (file, loose) in PRIVATE.items()}
    seen = await a_day(binance)
    found = []
    for kind, (wanted, loose) in recordings.items():
        found += [d for d in same_shape(wanted, seen[kind], kind) if d.rsplit(" ", 1)[1] not in loose]
    triggering, triggered, finished = recorded("ws/user_algo_triggering_triggered_finished.json")
    for wanted in (triggering, triggered, finished):
        status = wanted["o"]["X"]
        found += same_shape(wanted, seen[f"ALGO_UPDATE {status}"], status)
    lite, account, trade = recorded("ws/user_lifecycle_maker_fill.json")
    for wanted, kind in ((lite, "TRADE_LITE"), (account, "ACCOUNT_UPDATE"), (trade, "ORDER_TRADE_UPDATE TRADE")):
        found += same_shape(wanted, seen[kind], kind)
    assert found == []


async def test_public_rows_against_recordings(binance: BinanceClient) -> None:
    recordings = {path: recorded(file) for path, file in PUBLIC.items()}
    await binance.price("67001")
    found = []
    for path, wanted in recordings.items():
        found += same_shape(wanted, (await binance.raw("GET", path)).body, path)
    assert found == []


async def test_settings_against_recordings(binance: BinanceClient) -> None:
    found = []
    for path, file in SETTINGS.items():
        found += same_shape(recorded(file), await binance.get(path), path)
    rate = await binance.get("/fapi/v1/commissionRate", symbol="BTCUSDT")
    found += same_shape(recorded("rest/commission_rate.json"), rate, "commission")
    leverage = await binance.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=21)
    assert leverage.body.keys() == recorded("rest/leverage_set.json").keys()
    assert found == []


@pytest.mark.parametrize("path", STREAMS)
async def test_streams_against_recordings(binance: BinanceClient, path: str) -> None:
    wanted = recorded(STREAMS[path])
    stream = await binance.socket(path)
    await binance.price("67001")
    got = await stream.next()
    assert same_shape(wanted, got, path) == []
    assert names_in_order(got) == names_in_order(wanted)


def test_refusals_read_and_count_as_recorded() -> None:
    folder = Path(SHARED) / "fixtures" / "binance" / "rest" / "errors"
    if not SHARED:
        pytest.skip("LEVELHEAD_SHARED_EXCHANGES is not set")
    wrong = []
    for file in sorted(folder.glob("*.json")):
        wanted = json.loads(file.read_text())
        made = by_fault(int(file.stem), "")
        text = re.sub(r"\d+|'\w+'|TEN_SECONDS", "#", wanted["body"]["msg"])
        if (made.status, re.sub(r"\d+|'\?'|\?", "#", made.text)) != (wanted["http_status"], text):
            wrong.append((file.stem, made.status, made.text))
    assert wrong == []
