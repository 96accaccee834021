"""Bodies as they arrive: encodings, broken JSON, secrets, unknown formats."""

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.alerts.body import open_body
from app.alerts.codes import AlertCode
from app.alerts.defaults import _KEPT_MAX, read_defaults
from app.alerts.recognise import _JSON, FORMATS, Reading, read
from app.domain.signal import Defaults, Exits, Size, SizeUnit, StopLoss, Target
from app.errors import InvalidInput
from tests.alerts.examples import EXAMPLES
from tests.alerts.recorded import entries, problem

D = Decimal
SECRET = "s3cr3t-ABCDEFGH"
GOOD: dict[str, Any] = {"secret": SECRET, "symbol": "BTCUSDT.P", "action": "buy", "size": {"base": "0.01"}}
GOOD_TEXT = json.dumps(GOOD)
TEMPLATE: dict[str, Any] = {
    "passphrase": SECRET,
    "ticker": "BTCUSDT.P",
    "action": "sell",
    "contracts": "0.02",
    "market_position": "short",
    "market_position_size": "0.01",
    "prev_market_position": "long",
    "prev_market_position_size": "0.01",
    "position_size": "-0.01",
    "timenow": "2025-03-04T11:00:01Z",
}


def refusal(raw: bytes, format: str = "auto") -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        read(raw, "application/json", format, path_secret=None)
    return refused.value


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_does_not_matter(content_type: str) -> None:
    assert read(GOOD_TEXT.encode(), content_type, path_secret=None).signal.symbol == "BTCUSDT"


def test_a_byte_order_mark_and_windows_line_ends_are_tolerated() -> None:
    raw = b"\xef\xbb\xbf" + json.dumps(GOOD, indent=1).replace("\n", "\r\n").encode()
    reading = read(raw, "text/plain", path_secret=None)
    assert reading.repairs == ("removed a byte order mark before the body",)
    assert reading.signal.size == Size(unit=SizeUnit.BASE, value=D("0.01"))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty_body"),
        (b" \r\n ", "empty_body"),
        (b"\xef\xbb\xbf", "empty_body"),
        (b"\xff\xfe{\x00}\x00", "not_utf8"),
        (b"BTCUSDT.P Crossing 90,000.00", "not_json"),
        (b'{"symbol": "BTCUSDT", "action": "buy",,}', "not_json"),
        (b'{"symbol": "BTCUSDT", "action": ,}', "not_json"),
        ('{“symbol”: “BTC"USDT”, “action”: “buy”}'.encode(), "not_json"),
        (b'{"symbol": "BTCUSDT" /* the pair */, "action": "buy"}', "not_json"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "stop_loss": NaN}', "not_json"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "stop_loss": -Infinity}', "not_json"),
        (b'{"symbol": "BTCUSDT", "action": "buy"} and more', "not_json"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "contracts": {{strategy.order.contracts}}}', "unfilled_placeholder"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "x": ' + b"[" * 50_000, "not_json"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "x": ' + b"[" * 17 + b"]" * 17 + b"}", "not_json"),
        (b'{"x": 1e99999999999999999999}', "bad_number"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "size": {"base": 1e400}}', "bad_size"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "size": {"base": ' + b"1" * 60_000 + b"}}", "bad_size"),
        (b"[1]", "not_an_object"),
        (b'"buy"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "action": "sell"}', "duplicate_field"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "size": {"base": 1, "base": true}}', "duplicate_field"),
        (b'{"symbol": "BTC\\u0000USDT", "action": "buy"}', "bad_character"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "note": "\\ud800"}', "bad_character"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "x": "' + b"x" * 70_000 + b'"}', "body_too_large"),
        (b"{}", "unknown_format"),
        (b'{"event": "alert"}', "unknown_format"),
        # other executors' words for side and size: ignored, they would make another trade
        (b'{"symbol": "BTCUSDT", "action": "buy", "quantity": "5"}', "unknown_format"),
        (b'{"general": {"ticker": "BTCUSDT.P"}, "order": {"action": "buy"}, "action": "buy"}', "unknown_format"),
        (b"[]", "not_an_object"),
        (b'[{"symbol": "BTCUSDT", "action": "buy"}, 1]', "not_an_object"),
        (
            b"[" + b'{"symbol": "BTCUSDT", "action": "buy"},' * 10 + b'{"symbol": "BTCUSDT", "action": "buy"}]',
            "not_an_object",
        ),
        (b'[{"symbol": "BTCUSDT", "action": "buy"}, {"symbol": "ETHUSDT", "action": "fly"}]', "bad_action"),
        # it fits two formats, and each would leave out what the other reads
        (
            b'{"ticker": "BTCUSDT.P", "action": "sell", "sentiment": "short", "market_position": "short"}',
            "ambiguous_format",
        ),
        # a Cyrillic letter in a name: ignored, the stop would be missed
        ('{"symbol": "BTCUSDT", "action": "buy", "st\u043ep_loss": {"pct": 1}}'.encode(), "bad_character"),
        ('{"symbol": "BTCUSDT", "action": "buy", "size\u200b": {"base": 1}}'.encode(), "bad_character"),
        ('{"symbol": "\u0412TCUSDT", "action": "buy"}'.encode(), "bad_symbol"),
        ('{"symbol": "BTCUSDT", "action": "bu\u0443"}'.encode(), "bad_action"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0,01"}}', "bad_size"),
        (b"EXCHANGE=BYBIT\nSYMBOL={{ticker}}\nSIGNAL=BUY", "unfilled_placeholder"),
    ],
)
def test_what_cannot_be_read_is_refused(raw: bytes, code: str) -> None:
    assert refusal(raw).code == code


def test_an_equal_field_twice_is_no_harm() -> None:
    raw = b'{"symbol": "BTCUSDT", "action": "buy", "action": "buy"}'
    assert read(raw, "", path_secret=None).signal.symbol == "BTCUSDT"


def test_formats_are_named_or_guessed() -> None:
    assert FORMATS[:3] == ("auto", "native", "tradingview")
    assert len(FORMATS) == len(set(FORMATS)) == 25
    assert read(json.dumps(TEMPLATE).encode(), "", path_secret=None).format == "tradingview"
    assert read(json.dumps(TEMPLATE).encode(), "", "tradingview", path_secret=None).format == "tradingview"
    assert refusal(json.dumps(TEMPLATE).encode(), "native").code == "missing_field"
    assert refusal(GOOD_TEXT.encode(), "cornix").code == "unknown_format"
    assert refusal(GOOD_TEXT.encode(), "morse").code == "unknown_format"
    assert refusal(b"buy BTCUSDT.P QTY:1", "native").code == "not_json"
    assert refusal(b"buy BTCUSDT.P QTY:1", "alertatron").code == "unknown_format"
    # a strategy that says which format it takes: unknown names are ignored
    assert read(json.dumps({**GOOD, "sentiment": "?"}).encode(), "", "native", path_secret=None).format == "native"


@pytest.mark.parametrize(
    ("raw", "code", "field"),
    [
        (b'{"symbol": "BTCUSDT", "stop_loss": {"price" : NaN}, "action": "buy"}', "not_json", "price"),
        (b'{"symbol": "BTCUSDT", "action": "buy", "leverage": -Infinity}', "not_json", "leverage"),
        (b'{"symbol": "BTCUSDT", "contracts":\n{{strategy.order.contracts}}}', "unfilled_placeholder", "contracts"),
        (b'{"tp": [{{plot_0}}]}', "unfilled_placeholder", None),
    ],
)
def test_a_body_that_the_chart_broke_names_the_field(raw: bytes, code: str, field: str | None) -> None:
    refused = refusal(raw)
    assert (refused.code, refused.field) == (code, field)


def test_exits_in_words_of_others_keep_nothing_from_being_closed() -> None:
    body = {"symbol": "BTCUSDT", "action": "close", "sl": "60000", "tp1": "{{plot_1}}"}
    reading = read(json.dumps(body).encode(), "", path_secret=None)
    assert (reading.format, reading.signal.only_closes) == ("native", True)
    assert reading.repairs == ("ignored sl, tp1: a close has no exits",)
    both = [body, {"symbol": "BTCUSDT", "action": "buy", "sl": "60000"}]
    assert refusal(json.dumps(both).encode()).field == "sl"
    assert refusal(json.dumps({**body, "action": "buy"}).encode()).code == "unknown_format"
    assert refusal(json.dumps({**body, "qty": 1}).encode()).code == "unknown_format"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"action": "bu\u0443"}, "bad_action"),
        ({"target": "l\u043eng", "action": None}, "bad_target"),
        ({"symbol": "\u0412TCUSDT"}, "bad_symbol"),
    ],
)
def test_a_word_that_only_looks_right_is_told_so(changed: dict[str, object], code: str) -> None:
    refused = refusal(json.dumps({"symbol": "BTCUSDT", "action": "buy", **changed}).encode())
    assert refused.code == code
    assert refused.detail.endswith("only looks Latin: type it anew.")


@pytest.mark.parametrize("name", ["secret", "passphrase", "password", "key", "token"])
def test_a_secret_is_found_and_kept_out_of_the_stored_body(name: str) -> None:
    body = {name: SECRET, "symbol": "BTCUSDT", "action": "buy", "note": f"again {SECRET}", "n": {name.upper(): SECRET}}
    reading = read(json.dumps(body).encode(), "", path_secret="in-the-path-0001")
    assert reading.secret == SECRET
    assert SECRET not in reading.body
    assert SECRET not in repr(reading)
    assert json.loads(reading.body) == {
        name: "***",
        "symbol": "BTCUSDT",
        "action": "buy",
        "note": "again ***",
        "n": {name.upper(): "***"},
    }


def test_the_secret_of_the_path_is_cut_out_too() -> None:
    body = {"symbol": "BTCUSDT", "action": "buy", "url": f"https://host/webhook/demo/{SECRET}"}
    reading = read(json.dumps(body).encode(), "", path_secret=SECRET)
    assert reading.secret is None
    assert SECRET not in reading.body


@pytest.mark.parametrize(
    "secret", ["plain-SECRET", 'with"quote', "with\\slash", "with\ttab-stop", "with-\xfc-\u20ac", "1234567890"]
)
def test_a_secret_that_is_repeated_is_cut_out_of_names_texts_and_numbers(secret: str) -> None:
    number = int(secret) if secret.isdigit() else 1
    more = {"note": f"it is {secret}, keep it", f"by {secret}!": [secret, {"deep": number}], "n": 5}
    for path_secret, body in ((None, GOOD | {"secret": secret}), (secret, GOOD)):
        stored = json.loads(read(json.dumps(body | more).encode(), "", path_secret=path_secret).body)
        assert stored["secret"] == "***"
        assert stored["note"] == "it is ***, keep it"
        assert stored["by ***!"] == ["***", {"deep": "***" if secret.isdigit() else 1}]
        assert stored["n"] == 5


def test_a_format_is_known_by_one_of_its_marks() -> None:
    """By them it is told which formats need not be asked."""
    seen = set()
    for body in [one.body for one in EXAMPLES]:
        for obj in body if isinstance(body, list) else [body]:
            if isinstance(obj, dict):
                for name, format in _JSON.items():
                    seen |= {name} if format.matches(obj) else set()
                    assert not format.matches({key: obj[key] for key in obj if key not in format.marks})
    assert seen == set(_JSON)


@pytest.mark.parametrize("name", [b"\xd0\xb0ction", b"\\u0430ction"])
def test_a_name_with_a_letter_that_only_looks_latin_is_refused(name: bytes) -> None:
    assert refusal(GOOD_TEXT.encode().replace(b"action", name)).code == "bad_character"
    nested = GOOD_TEXT.encode().replace(b"base", name.replace(b"ction", b"se"))
    assert refusal(nested).code == "bad_character"


def test_an_error_does_not_repeat_a_secret() -> None:
    body = {"secret": SECRET, "symbol": "BTCUSDT", "action": SECRET}
    error = refusal(json.dumps(body).encode())
    assert error.code == "bad_action"
    assert SECRET not in error.detail


def test_the_stored_body_keeps_numbers_exactly_and_the_order_of_fields() -> None:
    raw = b'{"symbol":"BTCUSDT","action":"buy","size":{"base":0.10000000000000000001},"b":1.50,"a":null}'
    assert read(raw, "", path_secret=None).body.encode() == raw


def test_a_body_can_be_opened_before_it_is_read() -> None:
    assert open_body(b'{"key": 12345678, "anything": "else"}').secret == "12345678"
    assert open_body(b'{"anything": "else"}').secret is None
    assert SECRET not in repr(open_body(GOOD_TEXT.encode()))


def test_defaults_are_read_with_the_same_rules() -> None:
    # a settings body may come through a reader that makes floats
    assert read_defaults({"size": {"pct_equity": 2.5}, "leverage": 3, "stop_loss": {"pct": 1.5}}) == Defaults(
        size=Size(unit=SizeUnit.PCT_EQUITY, value=D("2.5")),
        leverage=D(3),
        exits=Exits(stop_loss=StopLoss(pct=D("1.5"))),
    )
    assert read_defaults({}) == Defaults()


def test_defaults_that_differ_are_not_mistaken_for_each_other() -> None:
    """What was read is kept, for as long as it is written in the same way."""
    one = read_defaults({"leverage": 1})
    assert read_defaults({"leverage": 1}) is one
    assert read_defaults({"leverage": 2}).leverage == 2
    for _ in range(2):
        with pytest.raises(InvalidInput):  # it equals 1, and is no number
            read_defaults({"leverage": True})
    for leverage in range(_KEPT_MAX + 2):  # more than are kept
        assert read_defaults({"leverage": f"1.{leverage}"}).leverage == D(f"1.{leverage}")
    assert read_defaults({"leverage": 1}) == one


@pytest.mark.parametrize(
    ("obj", "code", "field"),
    [
        ({"stoploss": {"pct": 1}}, "unknown_field", "defaults.stoploss"),
        ({"stop_loss": {"pct": float("nan")}}, "bad_stop_loss", "defaults.stop_loss.pct"),
        ({"size": {"base": 0}}, "bad_size", "defaults.size.base"),
        ({"time_exit": 60}, "bad_time_exit", "defaults.time_exit"),
    ],
)
def test_bad_defaults_name_their_field(obj: dict[str, object], code: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_defaults(obj, "defaults.")
    assert (refused.value.code, refused.value.field) == (code, field)


OURS = Defaults(symbol="BTCUSDT", side=Target.LONG)


def outcome(raw: bytes, format: str = "auto", path_secret: str | None = None) -> Reading | InvalidInput:
    try:
        return read(raw, "text/plain", format, path_secret=path_secret, defaults=OURS)
    except InvalidInput as error:
        return error


def check(ended: Reading | InvalidInput) -> None:
    """Whatever arrives ends in one of these two, and neither repeats the secret."""
    if isinstance(ended, InvalidInput):
        assert ended.code in set(AlertCode)
        assert SECRET not in ended.detail
        return
    assert SECRET not in ended.body
    for signal in ended.signals:
        assert (signal.action is None) is not (signal.target is None)


@settings(deadline=None)
@given(raw=st.binary(max_size=200))
def test_any_bytes_end_in_a_reading_or_a_refusal(raw: bytes) -> None:
    check(outcome(raw))


OBJECTS = [example.body for example in EXAMPLES if isinstance(example.body, dict)]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([SECRET, "{{x}}", "", "1e5", "0", "-1", "long", "flat", "buy", "BTCUSDT.P", "5x", "NaN"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    """secret id time symbol action target previous size leverage stop_loss take_profit trailing break_even max_age_s
    price ticker contracts market_position market_position_size prev_market_position prev_market_position_size
    position_size order_action order_contracts order_id timenow timestamp strategy passphrase key token order_type
    reduce_only alert_message time_exit note""".split()
    + sorted({name for body in OBJECTS for name in body})
)
PARTS = st.dictionaries(
    st.sampled_from(
        "base quote contracts pct price fraction activate_pct distance distance_pct after_pct after_price".split()
    ),
    JSON | st.integers(-2, 200) | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    max_size=3,
)


@settings(max_examples=150, deadline=None)  # `tests/fuzz` goes further
@given(
    start=st.sampled_from([GOOD, TEMPLATE, {**GOOD, "secret": SECRET, "strategy": TEMPLATE}, *OBJECTS]),
    changes=st.dictionaries(NAMES, JSON | PARTS | st.lists(PARTS, max_size=3), max_size=5),
    dropped=st.frozensets(NAMES, max_size=3),
    format=st.sampled_from(FORMATS),
)
@example(start=GOOD, changes={"note": {"a" + SECRET: [SECRET + "b", SECRET]}}, dropped=frozenset(), format="native")
def test_any_change_of_a_good_body_ends_in_a_reading_or_a_refusal(
    start: dict[str, Any], changes: dict[str, Any], dropped: frozenset[str], format: str
) -> None:
    body = {name: value for name, value in {**start, **changes}.items() if name not in dropped}
    check(outcome(json.dumps(body).encode(), format, SECRET))


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from(
        [GOOD_TEXT.encode(), json.dumps(TEMPLATE).encode()]
        + [one.body.encode() if isinstance(one.body, str) else json.dumps(one.body).encode() for one in EXAMPLES]
    ),
    at=st.integers(0, 400),
    length=st.integers(0, 4),
    put=st.binary(max_size=6)
    | st.sampled_from(
        [b'"', b"{", b"}", b",", b"\\u0000", b"\\ud834", b"{{", b"1e9", b"//", b"=", b";", b"\n", b"%", b"|"]
    ),
)
def test_any_damage_to_a_good_body_ends_in_a_reading_or_a_refusal(
    start: bytes, at: int, length: int, put: bytes
) -> None:
    at = min(at, len(start))
    check(outcome(start[:at] + put + start[at + length :], path_secret=SECRET))


SHARED = os.environ.get("LEVELHEAD_SHARED_ALERTS")


@pytest.mark.skipif(SHARED is None, reason="LEVELHEAD_SHARED_ALERTS names no folder of recorded bodies")
def test_recorded_bodies_mean_what_their_index_says() -> None:
    """Each is read as told and would be traded so, or is refused where that is as good or the only thing right."""
    assert SHARED is not None
    found = list(entries(Path(SHARED)))
    assert found
    problems = {name: wrong for name, entry, raw in found if (wrong := problem(entry, raw)) is not None}
    assert problems == {}
