"""One line per event, in both formats."""

import io
import logging
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from app.log import JsonFormatter, TextFormatter, event


def written(formatter: logging.Formatter, msg: str, /, **fields: object) -> str:
    logger = logging.Logger("test")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    event(logger, logging.INFO, msg, **fields)
    return stream.getvalue()


def test_text_is_short_and_readable() -> None:
    line = written(TextFormatter("worker"), "order filled", qty=Decimal("1E-7"), symbol="BTCUSDT", done=True, why=None)
    assert line[2] == line[5] == ":"
    assert line[12:] == " worker    info    order filled qty=0.0000001 symbol=BTCUSDT done=true\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("two words", 'v="two words"'), ("a=b", 'v="a=b"'), ("", 'v=""'), ("line\nbreak", r'v="line\nbreak"')],
)
def test_a_value_cannot_be_taken_for_another_field_or_line(value: str, shown: str) -> None:
    line = written(TextFormatter("api"), "seen", v=value)
    assert line.endswith(f" {shown}\n")
    assert line.count("\n") == 1


def test_a_message_stays_on_its_line() -> None:
    assert written(TextFormatter("api"), "one\ntwo\r%s").count("\n") == 1


def test_json_is_one_object_per_line_and_fields_never_replace_ours() -> None:
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    line = written(JsonFormatter("api"), "seen", qty=Decimal("1.50"), at=at, level="x", n=3)
    assert line.count("\n") == 1
    found = msgspec.json.decode(line)
    assert found["process"] == "api"
    assert found["level"] == "info"
    assert found["level_"] == "x"
    assert found["at_"] == "2026-01-05T12:00:00.000Z"
    assert found["qty"] == "1.50"
    assert found["n"] == 3


def test_what_is_below_the_level_costs_nothing_and_says_nothing() -> None:
    logger = logging.Logger("test", level=logging.WARNING)
    event(logger, logging.INFO, "not shown")
    assert not logger.isEnabledFor(logging.INFO)
