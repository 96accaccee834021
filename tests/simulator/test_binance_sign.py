"""Key, clock and signature of the Binance face: what is let in, and which refusal the rest gets."""

import base64
import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from simulator.binance.errors import ApiError
from simulator.binance.params import Params, parse
from simulator.binance.sign import check_signed
from simulator.keys import ApiKey
from tests.simulator.binance_client import ORDER, BinanceClient, joined, signed

BALANCE = "/fapi/v3/balance"
VENDOR_SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
VENDOR_PAYLOAD = (
    "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000&timestamp=1591702613943"
)
VENDOR_SIGNATURE = "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def check(query: str, body: str = "", *, now: int = 1591702613943) -> None:
    params = Params(parse(query, body))
    check_signed(params, query, body, ApiKey(secret=VENDOR_SECRET), now)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (f"{VENDOR_PAYLOAD}&signature={VENDOR_SIGNATURE}", ""),
        ("", f"{VENDOR_PAYLOAD}&signature={VENDOR_SIGNATURE}"),
    ],
)
def test_the_vendors_example_fits(query: str, body: str) -> None:
    check(query, body)


def test_query_and_body_are_signed_as_one_text() -> None:
    query, body = VENDOR_PAYLOAD.split("&quantity")[0], "quantity" + VENDOR_PAYLOAD.split("&quantity")[1]
    sign = signed(VENDOR_SECRET, query + body)
    check(query, f"{body}&signature={sign}")


@pytest.mark.parametrize(
    "query",
    [
        f"signature={VENDOR_SIGNATURE}&{VENDOR_PAYLOAD}",
        f"{VENDOR_PAYLOAD}&signature={VENDOR_SIGNATURE}&side=BUY".replace("side=BUY&type", "type"),
        f"{VENDOR_PAYLOAD}&signature={VENDOR_SIGNATURE.upper()}",
        f"{VENDOR_PAYLOAD}&signature=x",
    ],
)
def test_a_signature_that_is_not_last_or_not_right_is_refused(query: str) -> None:
    with pytest.raises(ApiError) as refused:
        check(query)
    assert refused.value.code == -1022


@pytest.mark.parametrize(
    ("ahead_ms", "window", "code"),
    [
        (0, None, 0),
        (-4900, None, 0),
        (-5100, None, -1021),
        (-5100, 6000, 0),
        (999, None, 0),
        (1000, None, -1021),
        (0, 60_000, 0),
        (0, 60_001, -1131),
    ],
)
def test_a_stamp_must_be_young_and_not_a_second_ahead(ahead_ms: int, window: int | None, code: int) -> None:
    now = 1_700_000_000_000
    query = f"timestamp={now + ahead_ms}" + ("" if window is None else f"&recvWindow={window}")
    query += f"&signature={signed(VENDOR_SECRET, query)}"
    if not code:
        check(query, now=now)
        return
    with pytest.raises(ApiError) as refused:
        check(query, now=now)
    assert refused.value.code == code


@pytest.mark.parametrize("missing", ["timestamp", "signature"])
async def test_what_is_missing_is_named(binance: BinanceClient, missing: str) -> None:
    query = "recvWindow=5000" if missing == "timestamp" else f"timestamp={now_ms()}"
    if missing == "timestamp":
        query += f"&signature={binance.signs(query)}"
    answer = await binance.raw("GET", f"{BALANCE}?{query}")
    assert (answer.status, answer.code) == (400, -1102)
    assert f"'{missing}'" in answer.body["msg"]


@pytest.mark.parametrize(("key", "code"), [("", -2014), ("has space", -2014), ("unknown", -2015)])
async def test_keys_that_are_no_keys(binance: BinanceClient, key: str, code: int) -> None:
    answer = await binance.raw("GET", f"{BALANCE}?{binance.stamped({})}", key=key)
    assert (answer.status, answer.code) == (401, code)


async def test_a_wrong_secret_is_400(binance: BinanceClient) -> None:
    wrong = BinanceClient(binance.url, binance.session, secret="wrong")
    answer = await wrong.ask("GET", BALANCE)
    assert (answer.status, answer.body) == (400, {"code": -1022, "msg": "Signature for this request is not valid."})


async def test_the_signature_covers_the_bytes_as_they_were_sent(binance: BinanceClient) -> None:
    """Escaped on the wire means escaped in what is signed."""
    plain = f"symbol=BTCUSDT&origClientOrderId=a:b/c&timestamp={now_ms()}"
    escaped = plain.replace("a:b/c", "a%3Ab%2Fc")
    right = await binance.raw("GET", f"{ORDER}?{escaped}&signature={binance.signs(escaped)}")
    wrong = await binance.raw("GET", f"{ORDER}?{escaped}&signature={binance.signs(plain)}")
    assert (right.code, wrong.code) == (-2013, -1022)


async def test_a_body_is_signed_too(binance: BinanceClient) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    answer = await binance.raw("POST", ORDER, body=binance.stamped(order))
    assert answer.status == 200, answer.body
    tampered = binance.stamped(order).replace("quantity=0.01", "quantity=0.02")
    assert (await binance.raw("POST", ORDER, body=tampered)).code == -1022


async def test_the_query_wins_over_the_body(binance: BinanceClient) -> None:
    stamp = now_ms()
    query = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01&newOrderRespType=RESULT"
    body = f"quantity=0.02&timestamp={stamp}"
    sign = binance.signs(query + body)
    answer = await binance.raw("POST", f"{ORDER}?{query}", body=f"{body}&signature={sign}")
    assert answer.body["origQty"] == "0.010"


async def test_a_doubled_parameter_is_refused(binance: BinanceClient) -> None:
    query = f"symbol=BTCUSDT&symbol=ETHUSDT&timestamp={now_ms()}"
    answer = await binance.raw("GET", f"/fapi/v1/openOrders?{query}&signature={binance.signs(query)}")
    assert answer.code == -1101


async def test_an_unknown_parameter_is_refused(binance: BinanceClient) -> None:
    assert (await binance.ask("GET", BALANCE, colour="red")).code == -1104


async def test_listen_keys_need_the_header_only(binance: BinanceClient) -> None:
    assert (await binance.raw("POST", "/fapi/v1/listenKey")).status == 200
    assert (await binance.raw("POST", "/fapi/v1/listenKey", key="unknown")).code == -2015


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_keys_that_sign_with_a_private_key(binance: BinanceClient, kind: str) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ed_key = ed25519.Ed25519PrivateKey.generate()
    public = rsa_key.public_key() if kind == "rsa" else ed_key.public_key()

    def signs(payload: str) -> str:
        raw = payload.encode()
        sign = rsa_key.sign(raw, padding.PKCS1v15(), hashes.SHA256()) if kind == "rsa" else ed_key.sign(raw)
        return base64.b64encode(sign).decode()

    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    await binance.control("accounts", api_key="pair", public_key=pem.decode(), venue="binance")
    client = BinanceClient(binance.url, binance.session, key="pair", signs=signs)
    assert (await client.ask("GET", BALANCE)).status == 200
    query = joined({"timestamp": now_ms()})
    other = await client.raw("GET", f"{BALANCE}?{query}&signature={base64.b64encode(b'x' * 64).decode()}")
    assert other.code == -1022


async def test_a_key_for_reading_cannot_trade(binance: BinanceClient) -> None:
    await binance.control("accounts", api_key="eyes", api_secret="s", permissions={"read_only": True})
    eyes = BinanceClient(binance.url, binance.session, key="eyes", secret="s")
    assert (await eyes.ask("GET", BALANCE)).status == 200
    refused = await eyes.market("BUY", "0.01")
    assert (refused.status, refused.code) == (401, -2015)


async def test_a_key_of_another_address_is_refused(binance: BinanceClient) -> None:
    await binance.control("permissions", api_key="sim-key", ips=["203.0.113.7"])
    assert (await binance.ask("GET", BALANCE)).code == -2015


async def test_restrictions_tell_what_the_key_may(binance: BinanceClient) -> None:
    usual = await binance.get("/sapi/v1/account/apiRestrictions")
    assert (usual["enableReading"], usual["enableFutures"], usual["enableWithdrawals"]) == (True, True, False)
    assert usual["ipRestrict"] is False
    await binance.control("permissions", api_key="sim-key", withdraw=True, trade=False, ips=["127.0.0.1"])
    changed = await binance.get("/sapi/v1/account/apiRestrictions")
    assert (changed["enableFutures"], changed["enableWithdrawals"], changed["ipRestrict"]) == (False, True, True)
