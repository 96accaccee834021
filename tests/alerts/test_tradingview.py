"""TradingView strategy templates, by tables: the state after the order decides."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.alerts.recognise import Reading, read
from app.domain.signal import Action, SizeUnit, StopLoss, Target
from app.errors import InvalidInput

D = Decimal
LONG, SHORT, FLAT = Target.LONG, Target.SHORT, Target.FLAT


def reading(body: dict[str, object], format: str = "auto") -> Reading:
    return read(json.dumps(body).encode(), "application/json", format, path_secret=None)


def flat(before: str, after: str, action: str, **fields: object) -> dict[str, object]:
    """A filled template. `before` and `after` read "long 2"."""
    (was, was_size), (now, now_size) = before.split(), after.split()
    return {
        "ticker": "SOLUSDT.P",
        "action": action,
        "market_position": now,
        "market_position_size": now_size,
        "prev_market_position": was,
        "prev_market_position_size": was_size,
        **fields,
    }


@pytest.mark.parametrize(
    ("before", "after", "action", "target", "previous", "size"),
    [
        ("flat 0", "long 2", "buy", LONG, FLAT, "2"),
        ("flat 0", "short 2", "sell", SHORT, FLAT, "2"),
        ("long 2", "flat 0", "sell", FLAT, LONG, None),
        ("short 2", "flat 0", "buy", FLAT, SHORT, None),
        ("long 2", "long 5", "buy", LONG, LONG, "5"),
        ("long 5", "long 2", "sell", LONG, LONG, "2"),
        ("short 2", "short 5", "sell", SHORT, SHORT, "5"),
        ("short 5", "short 2", "buy", SHORT, SHORT, "2"),
        ("short 1.5", "long 2", "buy", LONG, SHORT, "2"),
        ("long 1.5", "short 2", "sell", SHORT, LONG, "2"),
        ("flat 0", "flat 0", "buy", FLAT, FLAT, None),
        ("Long 1.50", "SHORT 2", "SELL", SHORT, LONG, "2"),
    ],
)
def test_the_state_table(
    before: str, after: str, action: str, target: Target, previous: Target, size: str | None
) -> None:
    result = reading(flat(before, after, action, contracts="3.5"))
    signal = result.signal
    assert result.format == "tradingview"
    assert (signal.symbol, signal.action, signal.target, signal.previous) == ("SOLUSDT", None, target, previous)
    assert (None if signal.size is None else (signal.size.unit, signal.size.value)) == (
        None if size is None else (SizeUnit.BASE, D(size))
    )


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ("flat 0", "long 2", "sell"),
        ("flat 0", "short 2", "buy"),
        ("long 2", "flat 0", "buy"),
        ("short 2", "flat 0", "sell"),
        ("short 2", "long 2", "sell"),
        ("long 2", "short 2", "buy"),
        ("long 2", "long 5", "sell"),  # a sell doesn't add to a long
        ("short 2", "short 5", "buy"),
        ("flat 0", "long 0", "buy"),
        ("long 2", "flat 2", "sell"),
        ("flat 2", "long 2", "buy"),
    ],
)
def test_states_that_cannot_be_are_contradictions(before: str, after: str, action: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        reading(flat(before, after, action))
    assert refused.value.code == "contradiction"


@pytest.mark.parametrize(
    ("body", "action", "target", "size"),
    [
        # only the signed size
        ({"order_action": "buy", "contracts": "0.1", "position_size": "0.1"}, None, LONG, "0.1"),
        ({"order_action": "sell", "contracts": "0.2", "position_size": "-0.1"}, None, SHORT, "0.1"),
        ({"order_action": "sell", "contracts": "0.2", "position_size": "0"}, None, FLAT, None),
        ({"position_size": -3}, None, SHORT, "3"),
        # only the order: it opens
        ({"action": "buy", "contracts": "0.01"}, Action.OPEN_LONG, None, "0.01"),
        ({"action": "sell", "contracts": 1e-2}, Action.OPEN_SHORT, None, "0.01"),
        ({"action": "buy"}, Action.OPEN_LONG, None, None),
        ({"action": "exit", "contracts": "0.01"}, Action.CLOSE, None, None),
        # strategy.close() of a long is a sell, which must not open a short
        ({"action": "sell", "contracts": "1", "order_id": "Close entry(s) order Long"}, Action.CLOSE_LONG, None, None),
        ({"action": "buy", "contracts": "1", "order_id": "Close position order"}, Action.CLOSE_SHORT, None, None),
        # the side after the order, but no size after it
        ({"market_position": "long"}, None, LONG, None),
        ({"action": "sell", "contracts": "2", "market_position": "flat"}, None, FLAT, None),
        ({"action": "sell", "contracts": "2", "market_position": "long"}, Action.REDUCE_LONG, None, "2"),
        (
            {"action": "buy", "contracts": "2", "market_position": "long", "prev_market_position": "long"},
            Action.ADD,
            None,
            "2",
        ),
        (
            {"action": "buy", "contracts": "2", "market_position": "long", "prev_market_position": "flat"},
            None,
            LONG,
            "2",
        ),
        (
            {
                "action": "sell",
                "contracts": "5",
                "market_position": "short",
                "prev_market_position": "long",
                "prev_market_position_size": "2",
            },
            None,
            SHORT,
            "3",
        ),
        # our own words go before what the chart counts
        ({"action": "buy", "contracts": "2", "market_position": "long", "size": {"base": "7"}}, None, LONG, "7"),
        ({"ticker": "SOLUSDT", "target": "short", "size": {"base": "7"}}, None, SHORT, "7"),
    ],
)
def test_templates_that_tell_less(
    body: dict[str, object], action: Action | None, target: Target | None, size: str | None
) -> None:
    signal = reading({"ticker": "SOLUSDT.P", **body}).signal
    assert (signal.action, signal.target) == (action, target)
    assert (None if signal.size is None else signal.size.value) == (None if size is None else D(size))


@pytest.mark.parametrize("before", [{}, {"prev_market_position": "short"}])
def test_the_order_alone_is_the_old_size_and_the_new_one_together(before: dict[str, object]) -> None:
    body: dict[str, object] = {
        "ticker": "SOLUSDT.P",
        "action": "buy",
        "contracts": "2",
        "market_position": "long",
        **before,
    }
    signal = reading(body).signal
    assert (signal.action, signal.whole_order) == (Action.OPEN_LONG, True)
    assert signal.size is not None
    assert (signal.size.unit, signal.size.value) == (SizeUnit.BASE, D(2))


@pytest.mark.parametrize(
    ("body", "target", "previous", "size"),
    [
        ({"position": "flat"}, FLAT, None, None),
        ({"position": "0"}, FLAT, None, None),
        ({"position": "-1", "previous_position": "Long"}, SHORT, LONG, "1"),
        ({"position": -1, "prev_position": "long", "prev_position_size": "2"}, SHORT, LONG, "1"),
        ({"position": "short", "previous_position": "long", "previous_position_size": "2"}, SHORT, LONG, "1"),
    ],
)
def test_a_position_is_a_side_or_a_signed_size(
    body: dict[str, object], target: Target, previous: Target | None, size: str | None
) -> None:
    signal = reading({"ticker": "SOLUSDT.P", "action": "sell", "contracts": "3", **body}).signal
    assert (signal.target, signal.previous) == (target, previous)
    assert (None if signal.size is None else signal.size.value) == (None if size is None else D(size))


def test_a_message_without_quotes_around_its_placeholder_is_read_the_same() -> None:
    inside = {"stop_loss_price": "1.5", "leverage": 4, "order_type": "enter_long"}
    body = flat("flat 0", "long 2", "buy")
    as_text, as_object = (reading({**body, "alert_message": told}).signal for told in (json.dumps(inside), inside))
    assert as_object == as_text
    assert as_object.exits.stop_loss == StopLoss(price=D("1.5"))


@pytest.mark.parametrize(
    "message",
    ['{"stop_loss_price": "{{plot_0}}"}', '{"tp1_price": "66000"}', '{"leverage": ', [{"stop_loss_price": "1"}]],
)
def test_a_message_that_can_not_be_read_keeps_nothing_from_being_closed(message: object) -> None:
    closes = reading(flat("long 2", "flat 0", "sell", alert_message=message))
    assert (closes.signal.target, len(closes.repairs)) == (FLAT, 1)
    signed = {"ticker": "SOLUSDT.P", "action": "sell", "contracts": "2", "position_size": 0, "alert_message": message}
    assert reading(signed).signal.target is FLAT
    with pytest.raises(InvalidInput):
        reading(flat("flat 0", "long 2", "buy", alert_message=message))
    with pytest.raises(InvalidInput):
        reading(flat("long 2", "long 1", "sell", alert_message=message))


def test_a_message_that_was_not_filled_keeps_nothing_from_being_closed() -> None:
    body = flat("long 2", "flat 0", "sell", alert_message="{{strategy.order.alert_message}}")
    assert reading(body).signal.target is FLAT


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"action": "sell", "position": "{{strategy.position_size}}"}, "unfilled_placeholder", "position"),
        ({"action": "sell", "position": "long", "position_size": "-1"}, "contradiction", "position_size"),
        ({"contracts": "2", "market_position": "long"}, "missing_field", "market_position_size"),
        ({"action": "sell", "market_position": "long"}, "missing_field", "market_position_size"),
        ({"action": "sell", "market_position_size": "2"}, "missing_field", "market_position"),
        ({"contracts": "2"}, "missing_field", "market_position"),
        ({"ticker": None, "market_position": "flat"}, "missing_field", "ticker"),
        ({"action": "buy", "contracts": "0"}, "bad_size", "contracts"),
        ({"action": "buy", "contracts": "-1"}, "bad_size", "contracts"),
        ({"action": "buy", "contracts": "1,000"}, "bad_size", "contracts"),
        ({"action": "buy", "contracts": "{{strategy.order.contracts}}"}, "unfilled_placeholder", "contracts"),
        ({"action": "buy", "position_size": "many"}, "bad_number", "position_size"),
        ({"market_position": "up"}, "bad_target", "market_position"),
        ({"market_position": "long", "position_size": "-2"}, "contradiction", "position_size"),
        ({"market_position": "short", "position_size": "2"}, "contradiction", "position_size"),
        (
            {"market_position": "long", "position_size": "2", "market_position_size": "3"},
            "contradiction",
            "position_size",
        ),
        ({"action": "buy", "order_action": "sell"}, "contradiction", "order_action"),
        ({"symbol": "BTCUSDT", "action": "buy"}, "contradiction", "symbol"),
        ({"strategy": {"order_action": "sell"}, "action": "buy"}, "contradiction", "action"),
        (
            {
                "action": "sell",
                "contracts": "1",
                "market_position": "short",
                "prev_market_position": "long",
                "prev_market_position_size": "2",
            },
            "contradiction",
            "contracts",
        ),
        ({"action": "buy", "stop_loss": "60000"}, "bad_stop_loss", "stop_loss"),
        ({"action": "buy", "timenow": "soon"}, "bad_time", "timenow"),
        ({"action": "buy", "order_type": "LIMIT"}, "not_supported_yet", "order_type"),
    ],
)
def test_what_has_no_single_meaning_is_refused(body: dict[str, object], code: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        reading({"ticker": "SOLUSDT.P", **body})
    assert (refused.value.code, refused.value.field) == (code, field)


def tutorial(**strategy: object) -> dict[str, object]:
    return {
        "passphrase": "a-long-passphrase",
        "time": "2025-03-04T11:00:01Z",
        "exchange": "BYBIT",
        "ticker": "ETHUSDT.P",
        "bar": {"time": "2025-03-04T10:00:00Z", "close": 2214.55},
        "strategy": {
            "position_size": 1.2,
            "order_action": "sell",
            "order_contracts": 0.6,
            "order_price": 2214.55,
            "order_id": "TP1",
            "market_position": "long",
            "market_position_size": 1.2,
            "prev_market_position": "long",
            "prev_market_position_size": 1.8,
            **strategy,
        },
    }


def test_the_tutorial_shape_is_read() -> None:
    result = reading(tutorial())
    signal = result.signal
    assert (result.format, result.secret) == ("tradingview", "a-long-passphrase")
    assert (signal.symbol, signal.target, signal.previous, signal.price) == ("ETHUSDT", LONG, LONG, D("2214.55"))
    assert signal.size is not None
    assert signal.size.value == D("1.2")
    assert signal.sent_at == datetime(2025, 3, 4, 11, 0, 1, tzinfo=UTC)


def test_the_sender_may_name_exits_in_our_words() -> None:
    body = flat("flat 0", "long 2", "buy", stop_loss={"pct": 1}, leverage="3x", max_age_s="30", id="mine")
    result = reading(body)
    assert result.key == "mine"
    assert result.signal.exits.stop_loss == StopLoss(pct=D(1))
    assert (result.signal.leverage, result.signal.max_age_s) == (D(3), 30)


def test_the_time_of_a_flat_template_is_the_start_of_the_bar() -> None:
    bar, firing = "2025-03-04T08:00:00Z", "2025-03-04T12:00:01Z"
    assert reading(flat("flat 0", "long 2", "buy", time=bar)).signal.sent_at is None
    assert reading(flat("flat 0", "long 2", "buy", time=bar, timenow=firing)).signal.sent_at == datetime(
        2025, 3, 4, 12, 0, 1, tzinfo=UTC
    )
    # a maximal age needs something to be judged by
    assert reading(flat("flat 0", "long 2", "buy", time=bar, max_age_s=60)).signal.sent_at == datetime(
        2025, 3, 4, 8, tzinfo=UTC
    )


def test_a_resend_has_the_same_key_and_another_firing_has_not() -> None:
    first = flat("flat 0", "long 2", "buy", timenow="2025-03-04T12:00:01Z", order_id="Long", price="100")
    keys = {
        "first": reading(first).key,
        "later": reading({**first, "timenow": "2025-03-04T12:00:02Z"}).key,
        "other order": reading({**first, "order_id": "Long 2"}).key,
        "other symbol": reading({**first, "ticker": "BTCUSDT.P"}).key,
        "added": reading(flat("long 2", "long 4", "buy", timenow=first["timenow"], order_id="Long")).key,
    }
    assert None not in keys.values()
    assert len(set(keys.values())) == len(keys)
    assert reading({**first, "comment": "resent"}).key == keys["first"]
    assert reading({**first, "timenow": None}).key is None
