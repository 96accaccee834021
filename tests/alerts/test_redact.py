"""Secrets inside of texts, whole or broken."""

import pytest

from app.alerts import redact
from app.alerts.body import BODY_BYTES_MAX, text_of
from app.alerts.redact import SECRET_FIELDS, may_name, secrets_in, without_secrets

SECRET = "Zm9yLXRlc3RzLW9ubHktbm90LWEtc2VjcmV0LWF0LWFs"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (f'{{"secret": "{SECRET}", "size": }}', '{"secret": "***", "size": }'),
        (f"TOKEN={SECRET}\nTAG=a", "TOKEN=***\nTAG=a"),
        (f"?key={SECRET}&x=1", "?key=***&x=1"),
        (f'{{"my_webhook_secret": "{SECRET}"', '{"my_webhook_secret": "***"'),
        (f'{{"accessToken" : "{SECRET}",}}', '{"accessToken" : "***",}'),
        (f'{{"a": "{{\\"secret\\": \\"{SECRET}\\"}}"', '{"a": "{\\"secret\\": \\"***"}"'),
        (f"{{'secret': '{SECRET}', 'b': 1}}", "{'secret': '***', 'b': 1}"),
        (f"{{\u201csecret\u201d: \u201c{SECRET}\u201d, b}}", "{\u201csecret\u201d: \u201c***\u201d, b}"),
        (f'{{secret: "{SECRET}", "b": 1', '{secret: "***", "b": 1'),
        (f'{{"secret: "{SECRET}", "b": 1', '{"secret: "***", "b": 1'),
        (f'{{"secret": {SECRET}, "b": 1', '{"secret": ***, "b": 1'),
        (f'{{"secret": "{SECRET}\n"b": 1', '{"secret": "***\n"b": 1'),
        (f'{{"secret":\n  "{SECRET}"', '{"secret":\n  "***"'),
        (f'{{"token": ["{SECRET}", 1', '{"token": ***'),
        ('{"password": "two \\"words\\" more", "b": 1', '{"password": "***", "b": 1'),
        ('{"api_key": "k", "api_secret": "s", x', '{"api_key": "***", "api_secret": "***", x'),
        ('{"secret": "", "b": 1', '{"secret": "", "b": 1'),
        (f"pa\u017fsword={SECRET} and \u212aey={SECRET}", "pa\u017fsword=*** and \u212aey=***"),
        (f"l\u0131cense_id={SECRET}", "l\u0131cense_id=***"),
        ("6012345678901,buy,BTCUSDT,key=abc", "***,buy,BTCUSDT,key=***"),
        ("Keys(BTCUSDT) { market(side=buy); }", "Keys(BTCUSDT) { market(side=buy); }"),
        ("BTCUSDT.P crossing 64,000: the key level", "BTCUSDT.P crossing 64,000: the key level"),
    ],
)
def test_what_is_named_like_a_secret_is_taken_out_of_a_text(text: str, stored: str) -> None:
    assert without_secrets(text) == stored


@pytest.mark.parametrize("name", [*SECRET_FIELDS, "Secret", "TOKEN", "pa\u017fsword", "\u212aey", "l\u0131cense_id"])
@pytest.mark.parametrize("parted", ["=", ": ", '": "'])
def test_a_text_that_names_a_secret_may_name_one(name: str, parted: str) -> None:
    text = f"{name}{parted}{SECRET}"
    assert SECRET in secrets_in(text)
    assert may_name(text)


@pytest.mark.parametrize("text", ["2026-02-03T04:05:06Z", "BYBIT:BTCUSDT.P", "buy", "the key level", "0.01", ""])
def test_a_text_without_such_a_name_is_not_looked_through(text: str) -> None:
    assert not may_name(text)


def test_a_licence_may_be_one() -> None:
    assert may_name("6012345678901,buy,BTCUSDT")


def test_a_licence_without_a_name_is_the_last_of_the_secrets() -> None:
    assert list(secrets_in("6012345678901,buy,BTCUSDT,key=abc,token=d")) == ["abc", "d", "6012345678901"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"\xff{", "\ufffd{"),
        ('{"secret": "0123456789"}'.encode("utf-16-le"), '{"secret": "0123456789"}'),
        (b"a\x00b", "ab"),
        (b"a" * (BODY_BYTES_MAX + 1), "a" * BODY_BYTES_MAX),
    ],
)
def test_a_body_that_cannot_be_opened_is_some_text_all_the_same(raw: bytes, text: str) -> None:
    assert text_of(raw) == text


@pytest.mark.parametrize("piece", ['"secret":', "secret", 'secret\\"', "key = ", "\\", "[", "token='", " "])
def test_the_longest_text_of_the_worst_kind_is_read_through_once(piece: str) -> None:
    """Were the time to grow with the square of the length, this would take minutes."""
    text = (piece * BODY_BYTES_MAX)[:BODY_BYTES_MAX]
    assert len(without_secrets(text)) <= BODY_BYTES_MAX


def test_names_inside_of_a_value_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them would be followed to the end of the text."""
    ends = []

    def counted(text: str, start: int, escaped: str, quote: str) -> int:
        ends.append(start)
        return end_of_value(text, start, escaped, quote)

    end_of_value = redact._end_of_value
    monkeypatch.setattr(redact, "_end_of_value", counted)
    assert without_secrets("secret=[" * 1000) == "secret=***"
    assert len(ends) == 1
