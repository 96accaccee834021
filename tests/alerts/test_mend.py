"""The repairs of JSON: each is named, and what only looks like one inside of a string stays as it is."""

import json

import pytest

from app.alerts.mend import COMMA, COMMENTS, CURLY, mend
from app.alerts.recognise import read

GOOD = '{"symbol": "BTCUSDT", "action": "buy", "note": "see http://x, “so”,}"}'


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ('{"symbol": "BTCUSDT", "action": "buy",}', (COMMA,)),
        ('{"symbol": "BTCUSDT", "action": "buy" , \n }', (COMMA,)),
        ('{"symbol": "BTCUSDT", // the pair\n "action": "buy"} // done', (COMMENTS,)),
        ('{"symbol": "BTCUSDT", "action": "buy", // last\n}', (COMMENTS, COMMA)),
        ("{“symbol”: „BTCUSDT“, “action”: “buy”}", (CURLY,)),
        ("{“symbol”: “BTCUSDT”, “action”: “buy”,} // x", (CURLY, COMMENTS, COMMA)),
        ('{"symbol": "BTCUSDT", "action": "buy", "note": "http://x/\\"//,}",}', (COMMA,)),
    ],
)
def test_what_is_mended_is_named(text: str, done: tuple[str, ...]) -> None:
    mended, named = mend(text)
    assert named == done
    reading = read(text.encode(), "text/plain", path_secret=None)
    assert reading.repairs == done
    assert reading.signal.symbol == "BTCUSDT"
    assert json.loads(mended)["action"] == "buy"


def test_good_json_is_never_touched() -> None:
    reading = read(GOOD.encode(), "", path_secret=None)
    assert reading.repairs == ()
    assert json.loads(reading.body) == json.loads(GOOD)


@pytest.mark.parametrize(
    "text", ['{"a": "b"', '{“a”: “b"c”}', '{"a": , }', "{,}", "[,]", '{"a": 1,,}', '{"a": "b', "{'a': 1}", '{"a" 1}']
)
def test_anything_else_stays_broken(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(mend(text)[0])
