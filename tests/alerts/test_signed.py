"""Signatures of Standard Webhooks, by the vector that its own libraries are tested with."""

import base64
from datetime import UTC, datetime

import pytest

from app.alerts.signed import SIGNATURES_MAX, Signed, is_signed, read_key, read_signed, write_key

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
GOOD = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "v1," + base64.b64encode(bytes(32)).decode()


def checked(id: str = ID, at: str = AT, signature: str = GOOD, body: bytes = BODY, key: str = KEY) -> bool:
    made = read_key(key)
    assert made is not None
    return is_signed(read_signed(id, at, signature), body, [bytes(32), made])


@pytest.mark.parametrize(
    "signature",
    [
        GOOD,
        f"{OTHER} {GOOD}",
        f"v1a,hnO3f9T8 v2,x {GOOD}",
        f"v1,%%% v1, nonsense {GOOD}",
        f"  {GOOD}  ",
    ],
)
def test_one_of_the_signatures_has_to_be_right(signature: str) -> None:
    assert checked(signature=signature)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": ID + "x"},
        {"at": "1614265331"},
        {"at": "01614265330"},
        {"body": BODY + b" "},
        {"body": b""},
        {"key": write_key(bytes(24))},
        {"signature": ""},
        {"signature": OTHER},
        {"signature": GOOD.removeprefix("v1,")},
        {"signature": GOOD.replace("v1,", "v1a,")},
        {"signature": GOOD[:-5] + "="},
        {"signature": "v1,"},
        {"signature": " ".join([OTHER] * SIGNATURES_MAX + [GOOD])},
    ],
)
def test_anything_else_is_not_signed(changed: dict[str, str]) -> None:
    assert not checked(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("id", "at"),
    [
        ("", AT),
        ("msg.1", AT),  # a full stop parts the id from the time: msg + 1.… would be signed alike
        ("msg 1", AT),
        ("m\u00f6", AT),
        ("m" * 201, AT),
        (ID, ""),
        (ID, "-1"),
        (ID, "1.5"),
        (ID, "1e9"),
        (ID, "\u00b2"),
        (ID, "9" * 13),
    ],
)
def test_headers_that_cannot_be_read_are_never_right(id: str, at: str) -> None:
    assert read_signed(id, at, GOOD) == Signed(id=id, timestamp=at, signatures=())


def test_the_boundary_between_time_and_body_cannot_be_moved() -> None:
    body = b"1614265330." + BODY
    assert not checked(id=f"{ID}.1614265330", at="1614265330", body=BODY)
    assert not checked(at="1614265330", body=body)


def test_the_age_is_told() -> None:
    signed = read_signed(ID, AT, GOOD)
    assert signed.age_s(datetime.fromtimestamp(1614265330 + 300, UTC)) == 300
    assert signed.age_s(datetime.fromtimestamp(1614265330 - 300, UTC)) == -300


@pytest.mark.parametrize(
    "text", [KEY, KEY.removeprefix("whsec_"), f" {KEY}\n", write_key(bytes(24)), write_key(bytes(64))]
)
def test_a_key_is_read_as_senders_show_it(text: str) -> None:
    assert read_key(text) is not None


def test_a_key_without_padding_is_the_same() -> None:
    assert read_key(write_key(bytes(32)).rstrip("=")) == bytes(32)


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_!!!", write_key(bytes(23)), write_key(bytes(65)), "whsk_" + "A" * 32]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    assert read_key(text) is None
