"""Placing orders at Binance: what is sent, what each failure is called, and that no secret gets out."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from app.domain.order import Side
from app.domain.refusals import Outcome
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import Origins
from app.venues.binance.codes import CODES, STATUSES
from app.venues.binance.sign import Signer
from app.venues.binance.venue import BinanceVenue
from app.venues.gate import Ban, Gate, Scope, Urgency
from app.venues.kinds import Kind
from tests.venues.binance_rows import (
    BRACKETS,
    ENTRY_ID,
    EXIT_ID,
    INFO,
    MARK,
    ORDER,
    POSITIONS,
    an_entry,
    an_exit,
    brackets,
    info,
    order_row,
    symbol_row,
)
from tests.venues.binance_server import Answer, BinanceServer, Fail, Good, adapter, binance_server
from tests.venues.scripted import KEY, SECRET, Cut, Hang, Http, key_verifier


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with binance_server() as server:
        yield server


@pytest.fixture
async def venue(server: BinanceServer) -> AsyncIterator[BinanceVenue]:
    async with adapter(server.origin) as venue:
        yield venue


def said(server: BinanceServer, name: str = ORDER) -> dict[str, str]:
    """The parameters of the one request, without those of the signature."""
    (request,) = server.sent(name)
    return {key: value for key, value in request.params.items() if key not in ("timestamp", "recvWindow", "signature")}


async def test_an_entry_is_a_market_order_with_our_id_and_plain_numbers(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    server.script(ORDER, order_row())
    assert await venue.place(an_entry()) == "8389765739703625592"
    assert said(server) == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "MARKET",
        "quantity": "0.012",
        "newClientOrderId": ENTRY_ID,
        "newOrderRespType": "RESULT",
    }


async def test_a_one_way_close_is_reduce_only(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ORDER, order_row())
    await venue.place(an_exit())
    assert said(server)["reduceOnly"] == "true"
    assert "positionSide" not in said(server)


@pytest.mark.parametrize(
    ("order", "side"),
    [
        (an_entry(hedge=True), "LONG"),
        (an_exit(hedge=True), "LONG"),
        (an_entry(hedge=True, side=Side.SELL), "SHORT"),
        (an_exit(hedge=True, side=Side.BUY), "SHORT"),
    ],
)
async def test_a_hedge_order_names_its_side_and_is_never_reduce_only(
    server: BinanceServer, venue: BinanceVenue, order: Any, side: str
) -> None:
    server.script(ORDER, order_row())
    await venue.place(an_entry(**{name: getattr(order, name) for name in ("hedge", "side", "reduce_only")}))
    assert said(server)["positionSide"] == side
    assert "reduceOnly" not in said(server)


async def test_the_timestamp_is_the_instant_that_was_committed(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ORDER, order_row())
    signed_at = datetime.now(UTC) - timedelta(seconds=2)
    await venue.place(an_entry(signed_at=signed_at))
    stamp = int(server.sent(ORDER)[0].params["timestamp"])
    assert stamp == int(signed_at.timestamp() * 1000) + venue.clock_offset_ms


async def test_an_order_that_stood_still_is_not_sent(server: BinanceServer, venue: BinanceVenue) -> None:
    with pytest.raises(Transient, match="not sent"):
        await venue.place(an_entry(signed_at=datetime.now(UTC) - timedelta(seconds=6)))
    assert server.sent(ORDER) == []


async def test_the_exchange_s_clock_counts(server: BinanceServer, venue: BinanceVenue) -> None:
    server.skew_ms = -7_000
    server.script(ORDER, order_row())
    await venue.place(an_entry())
    assert -7_100 < venue.clock_offset_ms < -6_900
    assert len(server.sent(ORDER)) == 1


async def test_a_clock_error_measures_again_and_the_order_surely_did_not_arrive(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    await venue.server_time()
    server.skew_ms = 9_000
    with pytest.raises(Transient) as caught:
        await venue.place(an_entry())
    assert caught.value.venue_code == "-1021"
    assert venue.clock_offset_ms > 8_900
    server.script(ORDER, order_row())
    await venue.place(an_entry())
    assert len(server.sent(ORDER)) == 2


# Signatures


def test_the_signature_is_that_of_the_documentation() -> None:
    secret = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
    text = (
        "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000"
        "&timestamp=1591702613943"
    )
    signer = Signer(Credentials(api_key="k", api_secret=secret))
    assert signer.sign(text.encode()) == "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(public_exponent=65537, key_size=2048), ed25519.Ed25519PrivateKey.generate()],
    ids=["rsa", "ed25519"],
)
@pytest.mark.parametrize("padding", ["", "\n\n  \n"])
async def test_private_keys_sign_orders_and_reads(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, padding: str
) -> None:
    credentials = Credentials(api_key=KEY, private_key=pem(key) + padding)
    async with binance_server(key_verifier(key.public_key())) as server, adapter(server.origin, credentials) as venue:
        server.script(ORDER, order_row())
        server.script(POSITIONS, [])
        assert await venue.place(an_entry()) == "8389765739703625592"
        assert await venue.holdings() == []


@pytest.mark.parametrize(
    "private_key", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
async def test_an_unusable_key_is_refused_at_once(private_key: str) -> None:
    with pytest.raises(Refused, match="PEM") as caught:
        BinanceVenue(Credentials(api_key=KEY, private_key=private_key), Origins(rest="http://127.0.0.1:1", ws=""))
    assert private_key == "" or private_key not in caught.value.reason


async def test_what_is_signed_is_what_is_sent_even_where_it_has_to_be_escaped(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    server.script(POSITIONS, [])
    server.script("GET /fapi/v1/openAlgoOrders", [])
    assert await venue.resting_stops("币安人生USDT") == []
    (request,) = server.sent("GET /fapi/v1/openAlgoOrders")
    assert request.params["symbol"] == "币安人生USDT"
    assert request.raw.isascii()


# Failures. An order's outcome by what the answer says of it.

EXPECTED: dict[Kind, type[LevelheadError]] = {
    Kind.RATE: Transient,
    Kind.CLOCK: Transient,
    Kind.BUSY: Transient,
    Kind.UNKNOWN: OutcomeUnknown,
    Kind.DUPLICATE: Conflict,
    Kind.DONE: OutcomeUnknown,  # no answer to an order
    Kind.GONE: OutcomeUnknown,  # nor this, of an entry
    Kind.REFUSED: Refused,
    Kind.FATAL: Refused,
}


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_of_an_entry(server: BinanceServer, venue: BinanceVenue, code: int) -> None:
    server.script(ORDER, Fail(code))
    known = CODES[code]
    with pytest.raises(EXPECTED[known.kind]) as caught:
        await venue.place(an_entry())
    assert len(server.sent(ORDER)) == 1
    if isinstance(caught.value, Refused):
        assert caught.value.code == known.outcome
        assert caught.value.venue_code == str(code)
        assert (known.meaning if known.kind is Kind.FATAL else "some reason") in caught.value.reason
    if isinstance(caught.value, Conflict):
        assert caught.value.kind == "duplicate_order"


@pytest.mark.parametrize("code", [-2022, -4118])
@pytest.mark.parametrize("hedge", [False, True])
async def test_a_close_without_a_position_finds_nothing_to_reduce(
    server: BinanceServer, venue: BinanceVenue, code: int, hedge: bool
) -> None:
    server.script(ORDER, Fail(code))
    with pytest.raises(Conflict) as caught:
        await venue.place(an_exit(hedge=hedge))
    assert caught.value.kind == "nothing_to_reduce"


ANSWERS: list[tuple[Answer, type[LevelheadError]]] = [
    (Fail(-99999, "never heard of"), OutcomeUnknown),
    (Fail(-99999, "never heard of", status=500), OutcomeUnknown),
    (Fail(-1000, "Unknown error, please check your request or try again later.", status=503), OutcomeUnknown),
    (Fail(-1001, "Service Unavailable.", status=503), OutcomeUnknown),
    (Fail(-1001, "Internal error; unable to process your request. Please try again."), OutcomeUnknown),
    (Fail(-1008, "Request throttled by system-level protection.", status=503), Transient),
    (Fail(-1007, "Timeout waiting for response from backend server.", status=408), OutcomeUnknown),
    (Fail(-2015, "Invalid API-key, IP, or permissions for action.", status=401), Refused),
    (Http(408), OutcomeUnknown),
    (Http(400), OutcomeUnknown),
    (Http(500), OutcomeUnknown),
    (Http(502), OutcomeUnknown),
    (Http(503, "Service Unavailable."), OutcomeUnknown),
    (Http(504), OutcomeUnknown),
    (Http(307, headers={"Location": "/fapi/v1/order"}), OutcomeUnknown),
    (Http(401), Refused),
    (Http(404), Refused),
    (Http(451), Refused),
    (Http(403), Transient),
    (Http(200, "<html>"), OutcomeUnknown),
    (Http(200, ""), OutcomeUnknown),
    ({"msg": "no id"}, OutcomeUnknown),
    (Good({"code": -2019, "msg": "Margin is insufficient."}), Refused),
    (Cut(), OutcomeUnknown),
]


@pytest.mark.parametrize(("answer", "error"), ANSWERS)
async def test_what_else_an_order_may_be_answered(
    server: BinanceServer, venue: BinanceVenue, answer: Answer, error: type[LevelheadError]
) -> None:
    server.script(ORDER, answer)
    with pytest.raises(error) as caught:
        await venue.place(an_entry())
    assert type(caught.value) is error
    assert len(server.sent(ORDER)) == 1


@pytest.mark.parametrize("status", sorted(STATUSES))
async def test_every_status_of_a_read_is_an_error(server: BinanceServer, venue: BinanceVenue, status: int) -> None:
    server.script(POSITIONS, Http(status))
    with pytest.raises((Refused, Transient)):
        await venue.holdings()


async def test_an_order_without_an_answer_is_unknown(server: BinanceServer) -> None:
    async with adapter(server.origin, timeout_s=0.2) as venue:
        server.script(ORDER, Hang())
        with pytest.raises(OutcomeUnknown, match="in time"):
            await venue.place(an_entry())
    assert len(server.sent(ORDER)) == 1


async def test_an_order_without_a_connection_was_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with adapter(f"http://127.0.0.1:{port}") as venue:
        with pytest.raises(Transient, match="not sent"):
            await venue.place(an_entry())


async def test_an_order_whose_connection_is_not_taken_in_time_was_not_sent() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # the backlog is used up
            async with adapter(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=0.3) as venue:
                with pytest.raises(Transient, match="not sent"):
                    await venue.place(an_entry())


# Limits


class Bans:
    def __init__(self) -> None:
        self.told: list[tuple[Scope, Ban]] = []
        self.gate = Gate(on_ban=lambda scope, ban: self.told.append((scope, ban)))


BANS: list[tuple[Answer, Scope, int]] = [
    (Fail(-1003, "Too many requests", 429, {"Retry-After": "17"}), Scope.ADDRESS, 17),
    (Fail(-1003, "Way too many requests", 418, {"Retry-After": "120"}), Scope.ADDRESS, 120),
    (Fail(-1015, "Too many new orders", 429, {"Retry-After": "4"}), Scope.ACCOUNT, 4),
    (Http(429, "slow down", {"Retry-After": "9"}), Scope.ADDRESS, 9),
    (Http(418, "", {"Retry-After": "259200"}), Scope.ADDRESS, 259_200),
    (Http(403), Scope.ADDRESS, 60),
    (Fail(-2011, "whatever", 418, {"Retry-After": "33"}), Scope.ADDRESS, 33),
]


@pytest.mark.parametrize(("answer", "scope", "seconds"), BANS)
async def test_a_ban_is_heeded_to_the_second_that_it_states(
    server: BinanceServer, answer: Answer, scope: Scope, seconds: int
) -> None:
    bans = Bans()
    async with adapter(server.origin, gate=bans.gate) as venue:
        server.script(ORDER, answer)
        with pytest.raises(Transient) as caught:
            await venue.place(an_entry())
        assert caught.value.retry_after_s == seconds
        assert [told for told, _ in bans.told] == [scope]
        with pytest.raises(Transient) as again:
            await venue.place(an_exit())
        assert again.value.retry_after_s == pytest.approx(seconds, abs=5)
        assert len(server.sent(ORDER)) == 1


@pytest.mark.parametrize(("answer", "most"), [(Fail(-1015, status=429), 10), (Fail(-1003, status=429), 60)])
async def test_a_limit_that_states_no_time_holds_until_its_window_is_over(
    server: BinanceServer, venue: BinanceVenue, answer: Answer, most: int
) -> None:
    server.script(ORDER, answer)
    with pytest.raises(Transient) as caught:
        await venue.place(an_entry())
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= most


async def test_a_ban_may_be_stated_in_words(server: BinanceServer) -> None:
    bans = Bans()
    async with adapter(server.origin, gate=bans.gate) as venue:
        until = server.now_ms() + 90_000
        server.script(ORDER, Fail(-1003, f"Way too many requests; IP(1.2.3.4) banned until {until}.", 418))
        with pytest.raises(Transient) as caught:
            await venue.place(an_entry())
        assert caught.value.retry_after_s == pytest.approx(90, abs=5)
        assert "1.2.3.4" not in str(caught.value)


async def test_used_limits_keep_room_for_closes(server: BinanceServer) -> None:
    gate = Gate()
    async with adapter(server.origin, gate=gate) as venue:
        headers = {"X-MBX-ORDER-COUNT-10S": "280", "X-MBX-ORDER-COUNT-1M": "300", "X-MBX-USED-WEIGHT-1M": "2200"}
        server.script(ORDER, Good(order_row(), headers))
        await venue.place(an_entry())
        with pytest.raises(Transient, match=r"orders-10s|weight"):
            await venue.place(an_entry())
        with pytest.raises(Transient, match="weight"):
            await venue.holdings()
        await venue.place(an_exit())
        assert len(server.sent(ORDER)) == 2
        gate.admit(Urgency.CLOSE, "weight", "orders-10s", "orders-1m")


@pytest.mark.parametrize("text", ["-1", "", "many"])
async def test_a_limit_header_that_says_nothing_is_left_out(server: BinanceServer, text: str) -> None:
    gate = Gate()
    async with adapter(server.origin, gate=gate) as venue:
        server.script(ORDER, Good(order_row(), {"X-MBX-USED-WEIGHT-1M": text}))
        await venue.place(an_entry())
        gate.admit(Urgency.READ, "weight")


# The book's best price is outside of PERCENT_PRICE


async def test_a_close_that_finds_no_price_goes_as_a_limit_order_under_the_same_id(
    server: BinanceServer, venue: BinanceVenue
) -> None:
    server.script(ORDER, Fail(-4131), order_row())
    server.script(INFO, info())
    server.script(BRACKETS, [brackets()])
    server.script(MARK, {"markPrice": "60000.00"})
    assert await venue.place(an_exit()) == "8389765739703625592"
    first, second = (request.params for request in server.sent(ORDER))
    assert first["newClientOrderId"] == second["newClientOrderId"] == EXIT_ID
    assert (second["type"], second["timeInForce"], second["reduceOnly"]) == ("LIMIT", "IOC", "true")
    assert second["price"] == "57120"  # 60000 · (0.95 + 0.002)


async def test_an_entry_that_finds_no_price_is_refused(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ORDER, Fail(-4131))
    with pytest.raises(Refused):
        await venue.place(an_entry())
    assert len(server.sent(ORDER)) == 1


async def test_the_fall_back_s_own_outcome_counts(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ORDER, Fail(-4131), Cut())
    server.script(INFO, info())
    server.script(BRACKETS, [brackets()])
    server.script(MARK, {"markPrice": "60000.00"})
    with pytest.raises(OutcomeUnknown):
        await venue.place(an_exit(side=Side.BUY))
    assert server.sent(ORDER)[1].params["price"] == "62880"
    server.script(ORDER, Fail(-4131))
    server.script(MARK, Http(500))
    with pytest.raises(Transient):  # surely no order: the first was refused, the second not sent
        await venue.place(an_exit())


async def test_a_filter_s_refusal_has_the_rules_read_again(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(INFO, info(), info(symbol_row(status="SETTLING")))
    server.script(BRACKETS, [brackets()])
    assert (await venue.instrument("BTCUSDT")).trading
    assert (await venue.instrument("BTCUSDT")).trading
    server.script(ORDER, Fail(-4164))
    with pytest.raises(Refused) as caught:
        await venue.place(an_entry())
    assert caught.value.code == Outcome.SIZE_BELOW_MINIMUM
    assert not (await venue.instrument("BTCUSDT")).trading
    assert len(server.sent(INFO)) == 2


# Connections


async def test_orders_find_a_connection_that_is_open(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(ORDER, order_row())
    await venue.place(an_entry())
    await venue.place(an_exit())
    first, second = server.sent(ORDER)
    assert first.connection == second.connection or second.connection in server.time_connections


async def test_a_read_survives_an_idle_connection_that_was_closed(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script(POSITIONS, [], Cut(), [])
    await venue.holdings()
    assert await venue.holdings() == []
    assert len(server.sent(POSITIONS)) == 3
    server.script(POSITIONS, Cut())
    with pytest.raises(Transient):
        await venue.holdings()
    assert len(server.sent(POSITIONS)) == 5


async def test_many_requests_at_once_keep_their_answers(server: BinanceServer, venue: BinanceVenue) -> None:
    server.script_by(ORDER, lambda params: order_row(orderId=int(params["quantity"])))
    placed = await asyncio.gather(*(venue.place(an_entry(qty=number)) for number in range(1, 40)))
    assert placed == [str(number) for number in range(1, 40)]


async def test_no_secret_gets_out(server: BinanceServer, venue: BinanceVenue, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = [repr(venue), repr(venue._http)]
    for answer in (Fail(-1022, f"signature {KEY} {SECRET}"), Fail(-2015, KEY, 401), Cut(), Http(500, KEY)):
        server.script(ORDER, answer)
        with pytest.raises(LevelheadError) as caught:
            await venue.place(an_entry())
        told += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    signatures = [dict(parse_qsl(request.raw))["signature"] for request in server.sent(ORDER)]
    text = "\n".join(told) + caplog.text
    assert not any(secret in text for secret in (KEY, SECRET, *signatures))
