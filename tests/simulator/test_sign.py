"""Keys, clock and signatures, with vectors that were computed apart from this code."""

from urllib.parse import quote

import pytest

from simulator.bybit.errors import ApiError
from simulator.bybit.sign import check_request, check_socket
from simulator.keys import ApiKey, hmac_hex
from tests.simulator.support import Client

NOW_MS = 1_764_547_200_000
KEYS = {"testkey": ApiKey(secret="testsecret")}
QUERY = b"category=linear&symbol=BTCUSDT"
QUERY_SIGN = "26a91136d075367a52f8916e905e9330cc9e0e930ac8779969656fe68d289f13"
BODY = (
    b'{"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.001", '
    b'"orderLinkId": "sig-1"}'
)
BODY_SIGN = "b5c66b5cbe07163c31f9a85759d9ef0c353f17ffe4f829a1899c0aaada028541"
SOCKET_SIGN = "9b0da5d0ec2295354bea8357439e4be586bf5345191152738e4faf8ff4110ebe"


def headers(sign: str, *, stamp: int = NOW_MS, key: str = "testkey") -> dict[str, str]:
    return {
        "X-BAPI-API-KEY": key,
        "X-BAPI-TIMESTAMP": str(stamp),
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": sign,
    }


@pytest.mark.parametrize(("payload", "sign"), [(QUERY, QUERY_SIGN), (BODY, BODY_SIGN)])
def test_the_vectors_pass(payload: bytes, sign: str) -> None:
    assert check_request(headers(sign), payload, KEYS, NOW_MS) == "testkey"


@pytest.mark.parametrize(
    ("changed", "payload", "code"),
    [
        ({"key": "nobody"}, BODY, 10003),
        ({}, BODY.replace(b": ", b":"), 10004),  # the bytes count, not their meaning
        ({"stamp": NOW_MS - 5001}, BODY, 10002),
        ({"stamp": NOW_MS + 1000}, BODY, 10002),
        ({"stamp": NOW_MS + 999}, BODY, 10004),  # in time, but signed for another stamp
        ({"sign": ""}, BODY, 10004),
    ],
)
def test_what_is_refused(changed: dict[str, object], payload: bytes, code: int) -> None:
    given = headers(**({"sign": BODY_SIGN} | changed))  # type: ignore[arg-type]
    with pytest.raises(ApiError) as caught:
        check_request(given, payload, KEYS, NOW_MS)
    assert caught.value.code == code


def test_the_socket_vector() -> None:
    assert hmac_hex("testsecret", f"GET/realtime{NOW_MS}".encode()) == SOCKET_SIGN
    assert check_socket(["testkey", NOW_MS, SOCKET_SIGN], KEYS, NOW_MS - 1) == "testkey"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["testkey", NOW_MS, SOCKET_SIGN], 10001),  # expired
        (["testkey", NOW_MS + 1, "0" * 64], 10004),
        (["nobody", NOW_MS + 1, SOCKET_SIGN], 10003),
        (["testkey"], 10001),
        (None, 10001),
    ],
)
def test_what_is_refused_of_a_socket(args: object, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        check_socket(args, KEYS, NOW_MS)
    assert caught.value.code == code


async def test_over_the_wire(client: Client) -> None:
    assert (await client.get("/v5/account/info"))["retCode"] == 0
    escaped = f"category=linear&symbol={quote('BTC/USDT', safe='')}"
    assert (await client.get("/v5/position/list", escaped))["retCode"] == 10001  # signed well, symbol unknown
    client.secret = "other"
    assert (await client.get("/v5/account/info"))["retCode"] == 10004
    client.key = "other"
    assert (await client.get("/v5/account/info"))["retCode"] == 10003
