"""Each format of other services: what its bodies mean, and what is refused with which field to blame."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from app.alerts.codes import AlertCode
from app.alerts.recognise import FORMATS, SKEW_MAX_S, beyond_us, in_time, open_alert, read, understand
from app.domain.signal import Action, Defaults, Target
from app.errors import InvalidInput
from tests.alerts.examples import EXAMPLES, SECRET, SENT, Body, Example, commas, commas_state

OURS = Defaults(symbol="BTCUSDT", side=Target.LONG)


def raw(body: Body) -> bytes:
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def names(example: Example) -> str:
    return f"{example.format}: {raw(example.body)[:60].decode(errors='ignore')}"


@pytest.mark.parametrize("example", EXAMPLES, ids=names)
def test_a_body_means(example: Example) -> None:
    reading = understand(open_alert(raw(example.body)), path_secret=None, defaults=OURS)
    assert reading.format == example.format
    assert reading.signals == example.signals
    assert (beyond_us(reading) is not None) is example.later
    # a strategy that says which format it takes reads the same
    assert understand(
        open_alert(raw(example.body)), example.format, path_secret=None, defaults=OURS
    ).signals == example.signals  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=names)
def test_no_secret_is_stored(example: Example) -> None:
    body = open_alert(raw(example.body))
    reading = understand(body, path_secret=None, defaults=OURS)
    assert SECRET not in reading.body
    assert "60123456789" not in reading.body
    assert SECRET not in repr(reading)
    if SECRET in raw(example.body).decode():
        assert body.secret == SECRET


def test_each_format_has_an_example() -> None:
    assert {example.format for example in EXAMPLES} | {"auto"} == set(FORMATS)


def state(**more: Any) -> dict[str, Any]:
    return {"ticker": "BTCUSDT.P", "order_action": "buy", "position_size": "1", "order_contracts": "1", **more}


def wunder(**more: Any) -> dict[str, Any]:
    return {"code": "Enter-Long", "amountPerTradeType": "quote", "amountPerTrade": 10, "pair": "BTCUSDT", **more}


def tvhub(**more: Any) -> dict[str, Any]:
    return {"pair": "BTCUSDT", "token": SECRET, **more}


def altrady(**more: Any) -> dict[str, Any]:
    return {"api_key": "k", "api_secret": SECRET, "symbol": "BYBI_USDT_BTC", "side": "long", **more}


def okx(**more: Any) -> dict[str, Any]:
    return {"action": "ENTER_LONG", "instrument": "BTC-USDT-SWAP", "signalToken": SECRET, **more}


def post(**more: Any) -> dict[str, Any]:
    return {"ticker": "BTCUSDT.P", "action": "buy", "sentiment": "long", "quantity": "1", **more}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        # units are never guessed, and the format says per cent or fraction, never the value
        (wunder(stopLoss={"priceDeviation": 1.5}), "bad_stop_loss", "stopLoss.priceDeviation"),
        (wunder(amountPerTradeType="percents"), "bad_size", "amountPerTrade"),
        ({"code": "Enter-Long", "amountPerTrade": 10, "pair": "BTCUSDT"}, "missing_field", "amountPerTradeType"),
        (commas(action="enter_long", order={"amount": 10}), "missing_field", "order.currency_type"),
        (tvhub(isBuy=True, stopLoss="1"), "missing_field", "stopLossType"),
        (tvhub(isBuy=True, unitsType="risk", units=1), "not_supported_yet", "unitsType"),
        (okx(investmentType="contract", amount="1"), "not_supported_yet", "investmentType"),
        (okx(investmentType="margin", amount="100"), "not_supported_yet", "investmentType"),
        (okx(amount="100"), "missing_field", "investmentType"),
        ("60123456789,buy,BTCUSDT,risk=1", "bad_size", "risk"),
        ("60123456789,buy,BTCUSDT,sl=50", "bad_number", "sl"),
        ("s=btcusdt b=long q=1 sl=50 t=market", "not_supported_yet", "sl"),
        ("s=btcusdt b=long q=1-2 t=market", "bad_size", "q"),
        (post(stopLoss={"amount": 5}), "not_supported_yet", "stopLoss.amount"),
        (post(quantityType="risk_percent"), "not_supported_yet", "quantityType"),
        ("SYMBOL=BTCUSDT\nSIGNAL=BUY\nVOLUME=10s%", "bad_size", "VOLUME"),
        ("SYMBOL=BTCUSDT\nSIGNAL=BUY\nSTOP_PRICE=100d", "not_supported_yet", "STOP_PRICE"),
        ({"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "entry/buy", "amount": "NaN",
          "percent": "NaN"}, "bad_size", "amount"),
        # what would turn into another trade if it was left out
        ({"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "entry/buy", "cost": "50"},
         "not_supported_yet", "cost"),
        (post(test=True), "not_supported_yet", "test"),
        (post(delay=30), "not_supported_yet", "delay"),
        (okx(action="sell", marketPosition="long", prevMarketPosition="long", marketPositionSize="1",
             prevMarketPositionSize="2", investmentType="percentage_balance", amount="50"), "not_supported_yet",
         "investmentType"),
        (state(alert_message=[{"stop_loss_price": "60000"}]), "not_supported_yet", "alert_message"),
        (state(stop_price="60000"), "unknown_format", "stop_price"),
        ({"symbol": "BTCUSDT", "action": "buy", "trailing_stop": "1%"}, "unknown_format", "trailing_stop"),
        (wunder(trailingStop={"x": 1}), "not_supported_yet", "trailingStop"),
        (wunder(stopLoss={"priceDeviation": 0.01, "trailing": True}), "not_supported_yet", "stopLoss.trailing"),
        (post(takeProfit={"percents": 1}), "not_supported_yet", "takeProfit.percents"),
        (post(orderType="stop"), "not_supported_yet", "orderType"),
        (post(orderType="limit"), "missing_field", "limitPrice"),
        (tvhub(isBuy=True, useDca=True), "not_supported_yet", "useDca"),
        (altrady(action="open", dca_orders=[{"price_percentage": 1}]), "not_supported_yet", "dca_orders"),
        (altrady(action="open", test=True), "not_supported_yet", "test"),
        (altrady(action="stop_and_close"), "not_supported_yet", "action"),
        (commas(action="disable", positions_sub_action="market_close"), "not_supported_yet", "action"),
        ({"message_type": "bot", "bot_id": 1, "email_token": SECRET, "delay_seconds": 30}, "not_supported_yet",
         "delay_seconds"),
        ({"name": "h", "side": "buy", "symbol": "BTCUSDT", "open": {"amount": 1}}, "not_supported_yet", "open"),
        ({"name": "h", "side": "sell", "symbol": "BTCUSDT", "positionSide": "long"}, "not_supported_yet",
         "positionSide"),
        ({"stub": "a", "direction": "long", "symbol": "BTCUSDT", "size": "50", "max": "500"}, "not_supported_yet",
         "max"),
        ("s=btcusdt b=long q=1 t=market d=1", "not_supported_yet", "d"),
        ("s=btcusdt b=long q=1 t=market stoploss=2%", "unknown_field", "stoploss"),
        ("s=btcusdt b=long b=short q=1 t=market", "duplicate_field", "b"),
        ("SYMBOL=BTCUSDT\nSIGNAL=BUY\nSTOP_PRISE=60000", "unknown_field", "STOP_PRISE"),
        ("SYMBOL=BTCUSDT\nSIGNAL=BUY\nSIGNAL=SELL", "duplicate_field", "SIGNAL"),
        ("SYMBOL=BTCUSDT\nSIGNAL=BUY\nST\u041eP_PRICE=60000", "unknown_field", "ST\u041eP_PRICE"),
        ("60123456789,closeall,BTCUSDT", "not_supported_yet", "command"),
        ("K(BTCUSDT) { market(side=buy, amount=1); trailingStop(side=sell, amount=100%p); }", "not_supported_yet",
         "trailingstop"),
        ("K(BTCUSDT) { limit(side=buy, amount=1, offset=1%); }", "not_supported_yet", "limit: limit"),
        ("K(BTCUSDT) { market(side=buy, amount=1); limit(side=sell, amount=100%p, offset=e-2%, reduceOnly=true); }",
         "bad_take_profit", "limit: offset"),
        ("K(BTCUSDT) { cancel(which=all); }", "not_supported_yet", "cancel"),
        ("BTC/USDT\nEntry: market\nTake-Profit 70000\nStop 60000\nTrailing configuration: moving target",
         "not_supported_yet", "trailing"),
        # a sign that points the other way is another trade
        (commas(action="enter_long", take_profit={"enabled": True, "steps": [
            {"price_percent": -2, "volume_percent": 100}]}), "bad_take_profit", "take_profit.steps[0].price_percent"),
        (commas(action="enter_short", stop_loss={"enabled": True, "trigger_price_percent": "-2"}), "bad_stop_loss",
         "stop_loss.trigger_price_percent"),
        ("SYMBOL=BTCUSDT\nSIGNAL=SELL\nTAKE_PROFIT_PRICE=5%", "bad_take_profit", "TAKE_PROFIT_PRICE"),
        ("SYMBOL=BTCUSDT\nSIGNAL=BUY\nSTOP_PRICE=5%", "bad_stop_loss", "STOP_PRICE"),
        ("s=btcusdt b=long q=1 t=market tp=-2%", "bad_take_profit", "tp"),
        (post(stopLoss={"percent": "-5"}), "bad_stop_loss", "stopLoss.percent"),
        # a post's figures are never passed over
        ("BTC/USDT long\nEntry: market\nTargets 70K 75000\nStop 60000", "bad_number", "targets"),
        ("BTC/USDT long\nEntry: market 64000\nTargets 75000\nStop 60000", "contradiction", "entry"),
        ("BTC/USDT and ETH/USDT long\nEntry: market\nTargets 75000\nStop 60000", "missing_field", "pair"),
        # words that contradict each other
        (tvhub(isBuy=True, isSell=True), "contradiction", "isBuy"),
        (tvhub(isBuy="maybe"), "bad_flag", "isBuy"),
        (post(action="exit", sentiment="long"), "contradiction", "sentiment"),
        (post(action="sell", sentiment="long", quantity=None), "missing_field", "quantity"),
        (commas_state("long", "1", "flat", "0", "sell", "1"), "contradiction", "action"),
        (commas_state("flat", "1", "long", "1", "sell", "1"), "contradiction",
         "strategy_info.market_position_size"),
        ({"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "sell", "percent": 100}, "bad_action", "side"),
        ({"password": SECRET, "base": "SOL", "quote": "USDT.P", "side": "entry/buy", "percent": 1, "amount": 1},
         "bad_size", "percent"),
        ("BTC/USDT long\nEntry: market\nTargets 60000\nStop 65000", "contradiction", "stop"),
        ("BTC/USDT\nEntry: market\nTargets 64000,5 66000\nStop 60000", "bad_number", "targets"),
        (state(order_alert_message='{"order_type": "enter_short"}'), "contradiction", "alert_message"),
        (state(order_alert_message='{"leverage": "5"', leverage="5"), "not_json", "order_alert_message"),
        (state(order_alert_message='{"leverage": "6"}', leverage="5"), "contradiction", "order_alert_message.leverage"),
        (state(order_alert_message='{"tp1": "6"}'), "not_supported_yet", "order_alert_message.tp1"),
        (state(order_alert_message='{"order_type": "limit"}'), "bad_action", "order_alert_message.order_type"),
        (state(stop_loss_price="1", stop_loss={"pct": 1}), "contradiction", "stop_loss_price"),
        ({"general": {"ticker": "BTCUSDT"}, "currency": {"base": "ETH", "quote": "USDT"},
          "order": {"action": "buy"}, "market": {"position": "long"}}, "contradiction", "currency.base"),
        # what another service's bot knows, and nobody here
        ({"action": "startDeal", "uuid": "b0"}, "missing_field", "symbol"),
        ({"action": "startDeal", "uuid": "b0", "symbol": "BTC_USDT"}, "missing_field", "side"),
        ([{"action": "closeDeal", "uuid": "b0", "symbol": "BTC_USDT"},
          {"action": "closeDeal", "uuid": "b1", "symbol": "BTC_USDT"}], "missing_field", "uuid"),
        ({"side": "long", "amount": "10%"}, "missing_field", "symbol"),
        ({"action": "reduceFunds", "uuid": "b", "symbol": "BTC_USDT", "qty": "5", "type": "fixed"}, "missing_field",
         "asset"),
        ({"action": "addFunds", "uuid": "b", "symbol": "BTC_USDT", "type": "perc"}, "missing_field", "qty"),
        ({"action": "fly", "uuid": "b"}, "bad_action", "action"),
        # other markets
        (okx(instrument="BTC-USD-SWAP"), "wrong_market", "instrument"),
        (altrady(action="open", symbol="BYBI_USD_BTC"), "wrong_market", "symbol"),
        (tvhub(exchange="bybit-spot", isSell=True, units=1), "wrong_market", "exchange"),
        (tvhub(exchange="binance-futures-coin-testnet", isBuy=True, units=1), "wrong_market", "exchange"),
        ({"key": SECRET, "symbol": "ETHUSD", "side": "Buy", "qty": 1, "close_position": "False"}, "wrong_market",
         "symbol"),
        # a list of orders in two formats
        ([{"symbol": "BTCUSDT", "action": "close"}, {"stub": "a", "direction": "long", "symbol": "BTCUSDT"}],
         "ambiguous_format", "format"),
        # unfilled placeholders, in each place that matters
        (commas_state("{{strategy.market_position}}", "1", "flat", "0", "buy", "1"), "unfilled_placeholder",
         "strategy_info.market_position"),
        (okx(timestamp="{{timenow}}"), "unfilled_placeholder", "timestamp"),
        (wunder(amountPerTrade="{{strategy.order.contracts}}"), "unfilled_placeholder", "amountPerTrade"),
        (post(quantity="{{strategy.order.contracts}}"), "unfilled_placeholder", "quantity"),
        ({"code": "{{strategy.order.comment}}"}, "unfilled_placeholder", "code"),
        (state(alert_message="{{strategy.order.alert_message}}"), "unfilled_placeholder", "alert_message"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_field(body: Body, code: str, field: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        understand(open_alert(raw(body)), path_secret=None)
    assert (refused.value.code, refused.value.field) == (code, field), refused.value.detail
    assert refused.value.code in set(AlertCode)
    assert SECRET not in refused.value.detail


@pytest.mark.parametrize(
    ("name", "ours"), [("qty", '"size": {"base"'), ("sl", '"stop_loss": {'), ("pair", '"symbol": "')]
)
def test_a_field_of_others_in_an_alert_typed_by_hand_is_told_in_our_words(name: str, ours: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(raw({"symbol": "BTCUSDT", "action": "buy", name: "1"}), "", path_secret=None)
    assert (refused.value.code, refused.value.field) == ("unknown_format", name)
    assert ours in refused.value.detail


def test_an_offset_of_signals_lite_is_in_per_cent() -> None:
    body = {"side": "long", "amount": "10%", "stopLoss": True, "stopLossOffset": "100"}
    with pytest.raises(InvalidInput) as refused:
        read(raw(body), "", path_secret=None, defaults=OURS)
    assert (refused.value.code, refused.value.field) == ("bad_stop_loss", "stopLossOffset")


def test_a_nonce_and_a_timestamp_of_the_sender_are_keys() -> None:
    hyper = next(example for example in EXAMPLES if example.format == "hypertrade")
    assert read(raw(hyper.body), "", path_secret=None).key == "n-1"
    hub = tvhub(isBuy=True, alertTimestamp="BTCUSDT-" + SENT)
    assert read(raw(hub), "", path_secret=None).key == "BTCUSDT-" + SENT


def test_a_refusal_names_the_field_as_its_own_service_does() -> None:
    body = okx(action="sell", marketPosition="long", prevMarketPosition="long")
    with pytest.raises(InvalidInput) as refused:
        read(raw(body), "", path_secret=None)
    assert refused.value.field == "marketPositionSize"
    assert '"marketPositionSize": "{{strategy.market_position_size}}"' in refused.value.detail


def test_what_is_left_out_is_said() -> None:
    script = "K(BTCUSDT) { cancel(which=all); market(side=buy, amount=1); }"
    assert read(raw(script), "", path_secret=None).repairs == ("ignored cancel(): no orders of ours rest",)
    inside = state(order_alert_message='{"margin_mode": "1", "leverage": "6"}')
    reading = read(raw(inside), "", path_secret=None)
    assert reading.repairs == ("ignored in order_alert_message: margin_mode",)
    assert reading.signal.leverage == D(6)


def test_secrets_inside_of_texts_are_cut_out() -> None:
    inside = state(secret="another-secret", note='{\\"token\\": \\"' + SECRET + '\\"}', text=f"?key={SECRET}&x=1")
    stored = read(raw(inside), "", path_secret=None).body
    assert SECRET not in stored
    assert "another-secret" not in stored
    assert "x=1" in stored


def test_the_settings_give_what_a_bot_of_another_service_knew() -> None:
    body = raw({"side": "short", "amount": "10%"})
    assert read(body, "", path_secret=None, defaults=OURS).signal.symbol == "BTCUSDT"
    native = raw({"action": "close"})
    assert read(native, "", path_secret=None, defaults=OURS).signal.action is Action.CLOSE


def test_an_opening_from_the_future_is_refused_and_a_close_is_not() -> None:
    fired = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    opening = read(raw(okx(timestamp=SENT)), "", path_secret=None)
    assert in_time(opening, fired - timedelta(seconds=SKEW_MAX_S)) == opening
    with pytest.raises(InvalidInput) as refused:
        in_time(opening, fired - timedelta(seconds=SKEW_MAX_S + 1))
    assert (refused.value.code, refused.value.field) == ("time_in_future", "time")

    close = read(raw(okx(action="EXIT_LONG", timestamp=SENT)), "", path_secret=None)
    settled = in_time(close, fired - timedelta(hours=1))
    assert settled.signal == msgspec.structs.replace(close.signal, sent_at=None)
    assert settled.repairs == ("ignored its time: 3600 s in the future",)
