"""A small share of what `make fuzz` does, and the bodies that it found."""

import json
from math import inf
from typing import Any

import pytest

from app.alerts.recognise import FORMATS
from tests.fuzz import door
from tests.fuzz.judge import Wrong, outcome, shows
from tests.fuzz.mutate import Case, case
from tests.support.house import House

SECRET = "kQ3_hX7-aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456_-"
BODIES = 1500
SENT = 60


def test_damaged_bodies_end_in_one_named_outcome_and_show_no_secret() -> None:
    ended = {outcome(case(number, FORMATS), seconds_max=inf) for number in range(BODIES)}
    # It goes everywhere: a mutation that breaks every body would find nothing.
    assert {"not_json", "unauthorized", "duplicate_field", "missing_field", "bad_size", "bad_action"} < ended
    assert len({name for name in ended if name.startswith("read as")}) > 15


async def test_damaged_bodies_through_the_door_leave_no_secret_behind(house: House) -> None:
    ended, wrong = await door.send_to(house, range(SENT))
    assert wrong == []
    assert any(name.startswith("202") for name in ended)


def found(body: dict[str, Any] | str, format: str = "auto", *, path: bool = True) -> str:
    raw = body if isinstance(body, str) else json.dumps(body)
    return outcome(Case(0, raw.encode(), SECRET, path, format), seconds_max=inf)


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        # sentences quote the beginning of a value, so they held the beginning of a secret
        ({"symbol": "BTCUSDT", "action": SECRET}, "bad_action"),
        ({"symbol": f"x{SECRET}", "action": "buy"}, "bad_symbol"),
        ({SECRET: 1, "symbol": "BTCUSDT", "action": "buy", "size": {SECRET: 1}}, "bad_size"),
        (f'{{"{SECRET}": 1, "{SECRET}": 2}}', "duplicate_field"),
        # … in capitals, as OctoBot's keys are
        (f"SIGNAL=BUY\n{SECRET}=1", "unknown_field"),
        # the sentence that lists what is known
        ("SIGNAL=BUY\nx=1", "unknown_field"),
        # a number beyond any range, whose sign was taken away
        (
            '{"bot_uuid": "8", "tv_instrument": "BTCUSDT", "action": "enter_long", "stop_loss": {"enabled": true, '
            '"trigger_price_percent": 1E+1000000}}',
            "bad_stop_loss",
        ),
        # it was stored as the symbol, and as the id
        ({"base": SECRET.replace("-", "").replace("_", ""), "quote": "USDT", "action": "close"}, "bad_symbol"),
        ({"symbol": "BTCUSDT", "action": "close", "id": f"{SECRET} 1"}, "read as native"),
        # a row of digits that was read from each of them anew
        ("SOL/USDT long\nEntry: market\nTake-Profit: " + "0" * 3900 + " 9", "bad_number"),
        ("SOL/USDT long\nEntry: market\nStop: 1\nLeverage: " + "1" * 3900 + " 9", "bad_leverage"),
    ],
)
def test_what_was_found_stays_mended(body: dict[str, Any] | str, ends: str) -> None:
    assert found(body) == ends


def test_the_judge_sees_a_secret_in_any_dress() -> None:
    for text in (
        SECRET,
        SECRET.upper(),
        f"x{SECRET[5:30]}y",
        SECRET.replace("h", "\\u0068"),
        SECRET.replace("_", "%5F"),
    ):
        assert shows(f"<{text}>", SECRET)
    assert not shows("an ordinary sentence of some length about BTCUSDT.P and 64000.5", SECRET)


def test_the_judge_refuses_what_is_too_slow() -> None:
    with pytest.raises(Wrong, match="it took"):
        outcome(case(0), seconds_max=-1)
