"""Placing orders: what is sent, what each failure is called, and that no secret gets out."""

import asyncio
import json
import logging
import socket

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import NewOrder, Origins
from app.venues.bybit.http import BybitHttp
from app.venues.bybit.venue import BybitVenue
from app.venues.clock import Clock
from tests.venues.bybit_rows import (
    CREATE,
    POSITIONS,
    an_entry,
    an_exit,
    page,
    position_row,
)
from tests.venues.bybit_server import Answer, BybitServer, Say, adapter, bybit_server
from tests.venues.scripted import CREDENTIALS, KEY, SECRET, Cut, Hang, Http, key_verifier


async def test_an_entry_carries_its_stop_and_plain_numbers(server: BybitServer, venue: BybitVenue) -> None:
    server.script(CREATE, {"orderId": "o-1", "orderLinkId": "lh-entry"})
    assert await venue.place(an_entry()) == "o-1"
    assert server.requests[0].body == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Market",
        "qty": "0.012",
        "positionIdx": 0,
        "reduceOnly": False,
        "orderLinkId": "lh-entry",
        "stopLoss": "61000.5",
        "tpslMode": "Full",
        "slTriggerBy": "LastPrice",
    }


async def test_an_exit_is_reduce_only_and_has_no_stop(server: BybitServer, venue: BybitVenue) -> None:
    server.script(CREATE, {"orderId": "o-2"})
    assert await venue.place(an_exit()) == "o-2"
    body = server.requests[0].body
    assert body["reduceOnly"] is True
    assert body["side"] == "Sell"
    assert not {"stopLoss", "tpslMode", "slTriggerBy"} & set(body)


async def test_orders_of_an_account_keep_their_order_and_share_one_connection(
    server: BybitServer, venue: BybitVenue
) -> None:
    server.script(CREATE, {"orderId": "o"})
    names = [f"lh-{n}" for n in range(20)]
    await asyncio.gather(*(venue.place(_named(name)) for name in names))
    assert [request.body["orderLinkId"] for request in server.requests] == names
    assert len({request.connection for request in server.requests}) == 1


def _named(name: str) -> NewOrder:
    return msgspec.structs.replace(an_entry(), client_order_id=name, stop_loss=None)


async def test_the_first_order_finds_a_connection_ready(server: BybitServer, venue: BybitVenue) -> None:
    server.script(CREATE, {"orderId": "o"})
    await venue.server_time()
    await venue.place(an_entry())
    assert server.requests[0].connection in server.time_connections


async def test_a_connection_that_was_closed_while_idle_costs_an_order_nothing(
    server: BybitServer, venue: BybitVenue
) -> None:
    server.script(CREATE, {"orderId": "o"})
    await venue.place(an_entry())
    server.hang_up()
    await venue.server_time()  # the hang-up is on its way before this answer
    await venue.place(an_exit())
    assert len(server.requests) == 2


async def test_a_slow_read_does_not_delay_an_order(server: BybitServer, venue: BybitVenue) -> None:
    server.script(POSITIONS, Hang())
    server.script(CREATE, {"orderId": "o-1"})
    slow = asyncio.create_task(venue.standing("BTCUSDT"))
    async with asyncio.timeout(2):
        await server.hanging.wait()
        assert await venue.place(an_entry()) == "o-1"
    assert not slow.done()
    server.closing.set()
    with pytest.raises(Transient):
        await slow


async def test_an_rsa_key_signs() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    async with bybit_server(key_verifier(key.public_key())) as server:
        server.script(CREATE, {"orderId": "o-1"})
        server.script(POSITIONS, page(position_row()))
        async with adapter(server.origin, Credentials(api_key=KEY, private_key=pem)) as venue:
            assert await venue.place(an_entry()) == "o-1"
            assert (await venue.standing("BTCUSDT")).holdings == ()


@pytest.mark.parametrize("pem", [None, "not a key"])
def test_an_unusable_key_is_refused_at_once(pem: str | None) -> None:
    with pytest.raises(Refused):
        BybitVenue(Credentials(api_key=KEY, private_key=pem), Origins(rest="http://127.0.0.1:9", ws=""))


# place: what failures are called


FAILURES: list[tuple[Answer, type[LevelheadError]]] = [
    (Say(10006), Transient),
    (Say(170005), Transient),
    (Say(10002), Transient),
    (Http(403, "403, access too frequent"), Transient),
    (Http(429, "System level frequency protection"), Transient),
    (Say(10000), OutcomeUnknown),
    (Say(10016), OutcomeUnknown),
    (Say(429), OutcomeUnknown),
    (Say(110079), OutcomeUnknown),
    (Say(110001), OutcomeUnknown),
    (Say(424242), OutcomeUnknown),
    (Http(502), OutcomeUnknown),
    (Http(200, "<html>all is well</html>"), OutcomeUnknown),
    (Http(200, '{"retMsg":"an envelope without a code"}'), OutcomeUnknown),
    (Http(200, '{"retCode":0,"retMsg":"OK","result":{}}'), OutcomeUnknown),
    (Http(307, "", {"Location": "/v5/order/elsewhere"}), OutcomeUnknown),
    (Cut(), OutcomeUnknown),
    (Say(10001, "Qty invalid"), Refused),
    (Say(110007), Refused),
    (Say(10003), Refused),
    (Say(33004), Refused),
    (Http(401), Refused),
    (Http(404), Refused),
    (Say(110072), Conflict),
    (Say(10014), Conflict),
]


@pytest.mark.parametrize(("answer", "expected"), FAILURES)
async def test_each_failure_of_an_order_has_its_name_and_one_request(
    server: BybitServer, venue: BybitVenue, answer: Answer, expected: type[LevelheadError]
) -> None:
    server.script(CREATE, answer)
    server.script(POSITIONS, page(position_row()))
    with pytest.raises(LevelheadError) as caught:
        await venue.place(an_entry())
    assert type(caught.value) is expected
    assert len(server.sent(CREATE)) == 1


@pytest.mark.parametrize(
    ("answer", "code", "venue_code"),
    [
        (
            Say(10001, "StopLoss:670000000 set for Buy position should lower than base_price:66"),
            "stop_wrong_side",
            "10001",
        ),
        (Say(110093), "stop_wrong_side", "110093"),
        (Say(110094), "size_below_minimum", "110094"),
        (Say(110074), "not_trading", "110074"),
        (Say(10005), "venue_refused", "10005"),
        (Http(401), "venue_refused", "HTTP 401"),
    ],
)
async def test_a_refusal_has_our_code_and_theirs(
    server: BybitServer, venue: BybitVenue, answer: Answer, code: str, venue_code: str
) -> None:
    server.script(CREATE, answer)
    with pytest.raises(Refused) as caught:
        await venue.place(an_entry())
    assert (caught.value.code, caught.value.venue_code) == (code, venue_code)


async def test_nothing_to_reduce_is_a_conflict_only_for_a_reduce_only_order(
    server: BybitServer, venue: BybitVenue
) -> None:
    server.script(CREATE, Say(110017))
    with pytest.raises(Conflict) as caught:
        await venue.place(an_exit())
    assert caught.value.kind == "nothing_to_reduce"
    with pytest.raises(OutcomeUnknown):
        await venue.place(an_entry())


async def test_a_duplicate_id_is_told_apart(server: BybitServer, venue: BybitVenue) -> None:
    server.script(CREATE, Say(110072))
    with pytest.raises(Conflict) as caught:
        await venue.place(an_entry())
    assert caught.value.kind == "duplicate_order"


async def test_an_order_that_is_not_answered_in_time_is_unknown(server: BybitServer) -> None:
    server.script(CREATE, Hang())
    async with adapter(server.origin, timeout_s=0.05) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(an_entry())
    assert len(server.requests) == 1


async def test_an_order_that_never_left_is_transient() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with adapter(f"http://127.0.0.1:{port}") as venue:
        with pytest.raises(Transient):
            await venue.place(an_entry())
    async with adapter("http://no-such-host.invalid") as venue:
        with pytest.raises(Transient):
            await venue.place(an_entry())


@pytest.mark.parametrize(
    ("answer", "low", "high"),
    [
        (Say(10006, headers={"X-Bapi-Limit-Reset-Timestamp": "99999999999999"}), 1e9, 1e12),
        (Say(10006, headers={"X-Bapi-Limit-Reset-Timestamp": "1"}), 1, 1),
        (Say(10006), 1, 1),
        (Http(429, "slow down"), 5, 5),
        (Http(429, "slow down", {"Retry-After": "7"}), 7, 7),
        (Http(403, "access too frequent"), 600, 600),
    ],
)
async def test_a_rate_limit_says_how_long_to_wait(
    server: BybitServer, venue: BybitVenue, answer: Answer, low: float, high: float
) -> None:
    server.script(CREATE, answer)
    with pytest.raises(Transient) as caught:
        await venue.place(an_entry())
    assert caught.value.retry_after_s is not None
    assert low <= caught.value.retry_after_s <= high


async def test_a_clock_that_is_off_is_corrected_for_the_next_order(server: BybitServer, venue: BybitVenue) -> None:
    server.skew_ms = -30_000
    server.script(CREATE, {"orderId": "o-1"})
    for lane in venue._calls.writes:
        lane._used_at = float("inf")  # no warming up: it would correct the clock before the first order
    with pytest.raises(Transient):
        await venue.place(an_entry())
    assert await venue.place(an_entry()) == "o-1"


async def test_a_read_corrects_the_clock_by_itself(server: BybitServer, venue: BybitVenue) -> None:
    server.skew_ms = 60_000
    server.script(POSITIONS, page(position_row()))
    assert (await venue.standing("BTCUSDT")).holdings == ()


# secrets


async def test_no_error_shows_a_secret_or_a_request(
    server: BybitServer, venue: BybitVenue, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    for answer in (Say(10004, f"error sign! origin_string[17{KEY}5000]"), Http(502), Say(10006), Cut()):
        server.script(CREATE, answer)
        with pytest.raises(LevelheadError) as caught:
            await venue.place(an_entry())
        texts += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
    texts += [repr(venue._calls.writes[0].http), repr(CREDENTIALS), caplog.text, *capfd.readouterr()]
    for text in texts:
        assert KEY not in text
        assert SECRET not in text
        assert "orderLinkId" not in text


# pybit


def test_pybit_is_told_not_to_repeat_anything() -> None:
    http = BybitHttp(CREDENTIALS, "http://127.0.0.1:9", recv_window_ms=5000, timeout_s=1, clock=Clock())
    assert (http.max_retries, http.force_retry, http.retry_codes) == (1, False, {0})
    assert http.api_secret is None
    assert http.logger.disabled
    http.close()


def test_signatures_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    http = BybitHttp(
        Credentials(api_key="testkey", api_secret="testsecret"),
        "http://127.0.0.1:9",
        recv_window_ms=5000,
        timeout_s=1,
        clock=Clock(),
    )
    monkeypatch.setattr(http.clock, "now_ms", lambda: 1764547200000)
    query = http.prepare_payload("GET", {"symbol": "BTCUSDT", "category": "linear"})
    assert query == b"category=linear&symbol=BTCUSDT"
    signature = http._prepare_headers(query, 5000)["X-BAPI-SIGN"]
    assert signature == "26a91136d075367a52f8916e905e9330cc9e0e930ac8779969656fe68d289f13"
    body = {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Market",
        "qty": "0.001",
        "orderLinkId": "sig-1",
    }
    signature = http._prepare_headers(json.dumps(body).encode(), 5000)["X-BAPI-SIGN"]
    assert signature == "b5c66b5cbe07163c31f9a85759d9ef0c353f17ffe4f829a1899c0aaada028541"
    http.close()
