"""Binance's socket for requests: an order leaves once, on one road, and what is not known of it is called so."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from app.errors import LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import Origins
from app.venues.binance.codes import CODES
from app.venues.binance.entry import BinanceEntry
from app.venues.binance.venue import BinanceVenue
from app.venues.gate import Gate, Scope, Urgency
from app.venues.numbers import milliseconds
from tests.venues.binance_rows import (
    BRACKETS,
    ENTRY_ID,
    EXIT_ID,
    INFO,
    MARK,
    ORDER,
    an_entry,
    an_exit,
    brackets,
    order_row,
)
from tests.venues.binance_rows import info as exchange_info
from tests.venues.binance_server import Answer, BinanceServer, Fail, Good, binance_server, entering
from tests.venues.scripted import CREDENTIALS, KEY, SECRET, Cut, Hang, Http, Raw, key_verifier
from tests.venues.test_binance_orders import ANSWERS, BANS, EXPECTED, Bans, pem

MEANWHILE = ("timestamp", "recvWindow", "signature", "apiKey")


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with binance_server() as server:
        yield server


def entry_of(venue: BinanceVenue) -> BinanceEntry:
    assert venue.entry is not None
    return venue.entry


async def up(venue: BinanceVenue) -> None:
    await soon(lambda: entry_of(venue).has_room)


async def soon(holds: Callable[[], bool]) -> None:
    """For what no event tells of: a flag of the transport, a line of the log."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.getMessage()} {getattr(record, 'fields', '')}" for record in caplog.records]


def roads(server: BinanceServer) -> list[str]:
    return [request.road for request in server.orders()]


# which road


@pytest.mark.parametrize(
    "order", [an_entry(), an_exit(), an_entry(hedge=True), an_exit(hedge=True)], ids=["open", "close", "long", "out"]
)
async def test_an_order_says_over_the_socket_what_it_says_over_rest(server: BinanceServer, order: Any) -> None:
    server.script(ORDER, order_row())
    order = msgspec.structs.replace(order, signed_at=datetime.now(UTC))
    async with entering(server) as venue:
        assert await venue.place(order) == "8389765739703625592"
    by_rest = BinanceVenue(CREDENTIALS, Origins(rest=server.origin, ws=server.origin, ws_orders=""))
    assert by_rest.entry is None
    await by_rest.place(order)
    await by_rest.close()
    assert roads(server) == ["socket", "REST"]
    over_socket, over_rest = (
        {name: value for name, value in request.params.items() if name not in MEANWHILE} for request in server.orders()
    )
    assert over_socket == over_rest


async def test_the_order_is_written_before_place_first_waits(server: BinanceServer) -> None:
    server.script(ORDER, order_row())
    async with entering(server) as venue:
        placing = venue.place(an_entry())
        placing.send(None)  # up to where it waits: nothing else of this loop has run
        placing.close()
        assert await asyncio.wait_for(server.arrived.get(), 5) == ENTRY_ID
    assert roads(server) == ["socket"]


async def test_without_the_socket_orders_go_over_rest(server: BinanceServer) -> None:
    server.script(ORDER, order_row())
    server.refuses_key = None  # connected, alive, and the first request is not answered
    async with entering(server, up=False) as venue:
        await soon(lambda: entry_of(venue).last_frame_monotonic > 0)
        await venue.place(an_entry())
    assert roads(server) == ["REST"]


async def test_who_asks_for_the_time_has_the_socket_ready(server: BinanceServer) -> None:
    """So a watcher warms up what it may fire at."""
    venue = BinanceVenue(CREDENTIALS, Origins(rest=server.origin, ws=server.origin.replace("http", "ws")))
    await venue.server_time()
    await up(venue)
    await venue.close()


async def test_who_reads_has_the_socket_ready(server: BinanceServer) -> None:
    server.script("GET /fapi/v3/positionRisk", [])
    server.script(ORDER, order_row())
    venue = BinanceVenue(CREDENTIALS, Origins(rest=server.origin, ws=server.origin.replace("http", "ws")))
    await venue.holdings()
    await up(venue)
    await venue.place(an_entry())
    await venue.close()
    assert roads(server) == ["socket"]


async def test_a_server_without_the_socket_is_told_of(server: BinanceServer, caplog: pytest.LogCaptureFixture) -> None:
    server.entry_path = None
    server.script(ORDER, order_row())
    async with entering(server, up=False) as venue:
        await soon(lambda: "no order entry there" in str(lines(caplog)))
        await venue.place(an_entry())
    assert roads(server) == ["REST"]


async def test_a_symbol_that_would_have_to_be_escaped_goes_over_rest(server: BinanceServer) -> None:
    server.script(ORDER, order_row())
    async with entering(server) as venue:
        await venue.place(an_entry(symbol="币安人生USDT"))
    assert roads(server) == ["REST"]


# keys


@pytest.mark.parametrize(
    ("key", "greeting"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), "order.status"),
        (ed25519.Ed25519PrivateKey.generate(), "session.logon"),
    ],
    ids=["rsa", "ed25519"],
)
async def test_a_private_key_signs_each_request_or_opens_a_session(key: Any, greeting: str) -> None:
    credentials = Credentials(api_key=KEY, private_key=pem(key))
    async with binance_server(key_verifier(key.public_key())) as server:
        server.script(ORDER, order_row())
        async with entering(server, credentials=credentials) as venue:
            await venue.place(an_entry())
            server.cut_entries()
            await soon(lambda: not entry_of(venue).has_room)
            await up(venue)
            await venue.place(an_exit())
        assert roads(server) == ["socket", "socket"]
        assert server.greetings == [greeting] * 2
        assert ("signature" in server.orders()[0].params) is (greeting != "session.logon")


@pytest.mark.parametrize("code", [-2015, -1022, -2014])
async def test_a_refused_key_leaves_rest_working_and_does_not_loop(
    server: BinanceServer, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    server.refuses_key = code
    server.script(ORDER, order_row())
    async with entering(server, up=False) as venue:
        await soon(lambda: "the key was refused" in str(lines(caplog)))
        await venue.place(an_entry())
        assert len(server.entries) == 1
    assert roads(server) == ["REST"]
    assert KEY not in str(lines(caplog))


async def test_a_session_that_is_ended_leaves_what_it_took_unknown(server: BinanceServer) -> None:
    error = '{"id":null,"status":401,"error":{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}}'
    server.script(ORDER, Raw(error), order_row())
    async with entering(server) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(an_entry())
        await venue.place(an_exit())
    assert roads(server) == ["socket", "REST"]


# what failures are called


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_of_an_entry(server: BinanceServer, code: int) -> None:
    server.script(ORDER, Fail(code))
    async with entering(server) as venue:
        with pytest.raises(EXPECTED[CODES[code].kind]) as caught:
            await venue.place(an_entry())
    assert roads(server) == ["socket"]
    if isinstance(caught.value, Refused):
        assert (caught.value.code, caught.value.venue_code) == (CODES[code].outcome, str(code))


@pytest.mark.parametrize(
    ("answer", "error"),
    [(answer, error) for answer, error in ANSWERS if not (isinstance(answer, Http) and answer.status == 200)],
)
async def test_what_else_an_order_may_be_answered(
    server: BinanceServer, answer: Answer, error: type[LevelheadError]
) -> None:
    if isinstance(answer, Good):
        answer = Fail(answer.body["code"])
    server.script(ORDER, answer)
    async with entering(server) as venue:
        with pytest.raises(LevelheadError) as caught:
            await venue.place(an_entry())
    assert type(caught.value) is error
    assert roads(server) == ["socket"]


@pytest.mark.parametrize(
    "answer",
    [
        Hang(),
        Raw("<html>all is well</html>"),
        Raw('{"id":"{id}"}'),
        Raw('{"id":null,"status":200,"result":{"orderId":1}}'),
        Raw('{"id":null,"status":400,"error":{"code":-1102,"msg":"whose?"}}'),
        Raw('{"id":"another","status":200,"result":{"orderId":1}}'),
        Raw('{"id":"{id}","status":200}'),
        Raw('{"id":"{id}","status":200,"result":{}}'),
        Raw('{"id":"{id}","status":200,"result":{"orderId":"one"}}'),
    ],
)
async def test_an_answer_that_cannot_be_matched_or_read_is_unknown(server: BinanceServer, answer: Answer) -> None:
    server.script(ORDER, answer)
    async with entering(server, timeout_s=0.1) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(an_entry())
    assert roads(server) == ["socket"]


async def test_an_answer_whose_limits_cannot_be_read_is_good(server: BinanceServer) -> None:
    server.script(ORDER, Raw('{"id":"{id}","status":200,"result":{"orderId":12},"rateLimits":[{"odd":1}]}'))
    async with entering(server) as venue:
        assert await venue.place(an_entry()) == "12"


async def test_a_late_answer_is_dropped_with_a_line(server: BinanceServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server.script(ORDER, Hang(), order_row(orderId=2))
    async with entering(server, timeout_s=0.1) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(an_entry())
        server.closing.set()
        await soon(lambda: "an answer to nothing" in str(lines(caplog)))
        assert await venue.place(an_exit()) == "2"
    assert roads(server) == ["socket", "socket"]


async def test_a_cut_with_many_in_flight_is_unknown_for_each_and_repeats_none(server: BinanceServer) -> None:
    server.script(ORDER, Hang())
    async with entering(server) as venue:
        names = [f"lh{number}" for number in range(20)]
        placing = [asyncio.create_task(venue.place(an_entry(client_order_id=name))) for name in names]
        for _ in names:
            await asyncio.wait_for(server.arrived.get(), 5)
        server.cut_entries()
        found = await asyncio.gather(*placing, return_exceptions=True)
        assert [type(one) for one in found] == [OutcomeUnknown] * len(names)
        server.script(ORDER, order_row())
        await up(venue)
        await venue.place(an_exit())
    assert [request.params["newClientOrderId"] for request in server.orders()] == [*names, EXIT_ID]


async def test_many_at_once_keep_their_answers(server: BinanceServer) -> None:
    server.script_by(ORDER, lambda params: order_row(orderId=int(params["quantity"])))
    async with entering(server) as venue:
        placed = await asyncio.gather(*(venue.place(an_entry(qty=number)) for number in range(1, 40)))
    assert placed == [str(number) for number in range(1, 40)]
    assert roads(server) == ["socket"] * 39


async def test_a_close_that_finds_no_price_goes_as_a_limit_order_under_the_same_id(server: BinanceServer) -> None:
    server.script(ORDER, Fail(-4131), order_row())
    server.script(INFO, exchange_info())
    server.script(BRACKETS, [brackets()])
    server.script(MARK, {"markPrice": "60000.00"})
    async with entering(server) as venue:
        assert await venue.place(an_exit()) == "8389765739703625592"
    first, second = (request.params for request in server.orders("socket"))
    assert first["newClientOrderId"] == second["newClientOrderId"] == EXIT_ID
    assert (second["type"], second["timeInForce"], second["price"]) == ("LIMIT", "IOC", "57120")


async def test_what_leaves_now_carries_the_instant_of_the_tick(server: BinanceServer) -> None:
    """Whenever it was prepared, and its fall back too."""
    server.script(ORDER, Fail(-4131), order_row())
    server.script(INFO, exchange_info())
    server.script(BRACKETS, [brackets()])
    server.script(MARK, {"markPrice": "60000.00"})
    crossed_at = datetime.now(UTC)
    async with entering(server) as venue:
        ready = venue.prepared(an_exit(signed_at=crossed_at - timedelta(hours=1)))
        placing = venue.place_now(ready, milliseconds(crossed_at))
        assert placing is not None
        assert await placing() == "8389765739703625592"
        offset = venue.clock_offset_ms
    stamps = {int(request.params["timestamp"]) for request in server.orders("socket")}
    assert stamps == {milliseconds(crossed_at) + offset}
    assert roads(server) == ["socket", "socket"]


async def test_what_cannot_leave_now_has_not_left(server: BinanceServer) -> None:
    gate = Gate()
    async with entering(server, gate=gate) as venue:
        now = milliseconds(datetime.now(UTC))
        assert venue.place_now(venue.prepared(an_exit()), now - 6000) is None, "too old"
        gate.ban(Scope.ADDRESS, 60, "told to stay away")
        assert venue.place_now(venue.prepared(an_exit()), now) is None
    assert server.orders() == []


async def test_the_fall_back_s_own_outcome_counts(server: BinanceServer) -> None:
    server.script(ORDER, Fail(-4131), Cut())
    server.script(INFO, exchange_info())
    server.script(BRACKETS, [brackets()])
    server.script(MARK, {"markPrice": "60000.00"})
    async with entering(server) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(an_exit())
    assert roads(server) == ["socket", "socket"]


# time


async def test_the_timestamp_is_the_instant_that_was_committed(server: BinanceServer) -> None:
    server.script(ORDER, order_row())
    signed_at = datetime.now(UTC) - timedelta(seconds=2)
    async with entering(server) as venue:
        await venue.place(an_entry(signed_at=signed_at))
        offset = venue.clock_offset_ms
    [sent] = server.orders("socket")
    assert int(sent.params["timestamp"]) == int(signed_at.timestamp() * 1000) + offset


async def test_an_order_that_stood_still_is_not_sent(server: BinanceServer) -> None:
    async with entering(server) as venue:
        with pytest.raises(Transient, match="not sent"):
            await venue.place(an_entry(signed_at=datetime.now(UTC) - timedelta(seconds=6)))
    assert server.orders() == []


async def test_a_clock_error_measures_again_and_the_order_surely_did_not_arrive(server: BinanceServer) -> None:
    server.script(ORDER, order_row())
    async with entering(server) as venue:
        server.skew_ms = 9_000
        with pytest.raises(Transient) as caught:
            await venue.place(an_entry())
        assert caught.value.venue_code == "-1021"
        assert venue.clock_offset_ms > 8_900
        await venue.place(an_entry())
    assert roads(server) == ["socket", "socket"]


# limits


@pytest.mark.parametrize(("answer", "scope", "seconds"), BANS)
async def test_a_ban_is_heeded(server: BinanceServer, answer: Answer, scope: Scope, seconds: int) -> None:
    bans = Bans()
    server.script(ORDER, answer)
    async with entering(server, gate=bans.gate) as venue:
        with pytest.raises(Transient) as caught:
            await venue.place(an_entry())
        assert caught.value.retry_after_s is not None
        stated = isinstance(answer, Fail) or answer == Http(403)
        assert not stated or caught.value.retry_after_s == pytest.approx(seconds, abs=1)
        assert [told for told, _ in bans.told] == [scope]
        with pytest.raises(Transient):
            await venue.place(an_exit())
    assert roads(server) == ["socket"]


async def test_used_limits_keep_room_for_closes(server: BinanceServer) -> None:
    gate = Gate()
    headers = {"X-MBX-ORDER-COUNT-10S": "280", "X-MBX-ORDER-COUNT-1M": "300", "X-MBX-USED-WEIGHT-1M": "2200"}
    server.script(ORDER, Good(order_row(), headers))
    async with entering(server, gate=gate) as venue:
        await venue.place(an_entry())
        with pytest.raises(Transient, match=r"orders-10s|weight"):
            await venue.place(an_entry())
        await venue.place(an_exit())
        gate.admit(Urgency.CLOSE, "weight", "orders-10s", "orders-1m")
    assert roads(server) == ["socket", "socket"]


async def test_a_ban_keeps_the_socket_from_connecting(server: BinanceServer, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    gate.ban(Scope.ADDRESS, 60, "told to stay away")
    async with entering(server, up=False, gate=gate):
        await soon(lambda: "stay away" in str(lines(caplog)))
        assert server.entries == []


async def test_no_secret_gets_out(server: BinanceServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for answer in (Fail(-1022, f"signature {KEY} {SECRET}"), Fail(-2015, KEY, 401), Cut(), Raw('{"id":7}')):
        server.script(ORDER, answer)
        async with entering(server, timeout_s=0.3) as venue:
            with pytest.raises(LevelheadError) as caught:
                await venue.place(an_entry())
            told += [str(caught.value), repr(caught.value), repr(venue), repr(venue.entry)]
    signatures = [request.params["signature"] for request in server.orders()]
    text = "\n".join([*told, *lines(caplog)])
    assert not any(secret in text for secret in (KEY, SECRET, *signatures))
