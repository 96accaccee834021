"""Bybit's socket for orders: an order leaves once, on one road, and what is not known of it is called so."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import NewOrder, Origins
from app.venues.bybit.entry import BybitEntry
from app.venues.bybit.http import BybitHttp
from app.venues.bybit.limits import ADDRESS
from app.venues.bybit.venue import BybitVenue
from app.venues.clock import Clock
from app.venues.entry import ATTEMPTS_MAX, FRESH_S, IN_FLIGHT_MAX
from app.venues.gate import Gate, Scope
from app.venues.link import Bounds
from app.venues.numbers import milliseconds
from tests.venues.bybit_rows import CREATE, POSITIONS, an_entry, an_exit, page, position_row
from tests.venues.bybit_server import Answer, BybitServer, Say, bybit_server, entering
from tests.venues.scripted import CREDENTIALS, KEY, SECRET, Cut, Hang, Http, Raw, key_verifier
from tests.venues.test_bybit_orders import FAILURES

QUICK = Bounds(
    ping_s=0.1,
    silence_s=0.05,
    connect_s=2.0,
    answer_s=0.1,
    pause_min_s=0.01,
    pause_max_s=0.05,
    refused_pause_s=0.05,
    refused_pause_max_s=0.05,
)


def named(name: str) -> NewOrder:
    return msgspec.structs.replace(an_entry(), client_order_id=name, stop_loss=None)


def entry_of(venue: BybitVenue) -> BybitEntry:
    assert venue.entry is not None
    return venue.entry


async def up(venue: BybitVenue) -> None:
    await soon(lambda: entry_of(venue).has_room)


async def down(venue: BybitVenue) -> None:
    await soon(lambda: not entry_of(venue).has_room)


async def soon(holds: Callable[[], bool]) -> None:
    """For what no event tells of: a flag of the transport, a line of the log."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says, with its facts."""
    return [f"{record.getMessage()} {getattr(record, 'fields', '')}" for record in caplog.records]


async def rest_knows(server: BybitServer, order: NewOrder) -> None:
    """What was sent by one road is sent by no other."""
    assert [request.body["orderLinkId"] for request in server.orders()] == [order.client_order_id]


# which road


async def test_an_order_says_over_the_socket_what_it_says_over_rest(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o-1", "orderLinkId": "lh-entry"})
    bodies = []
    for order in (an_entry(), an_exit(), msgspec.structs.replace(an_exit(), hedge=True)):
        async with entering(server) as venue:
            assert await venue.place(order) == "o-1"
            assert await over_rest(server, order) == "o-1"
        bodies.append([request.body for request in server.orders()[-2:]])
        assert [request.method for request in server.orders()[-2:]] == ["WS", "POST"]
    assert all(socket == rest for socket, rest in bodies)


async def over_rest(server: BybitServer, order: NewOrder) -> str:
    venue = BybitVenue(CREDENTIALS, Origins(rest=server.origin, ws=server.origin, ws_orders=""))
    try:
        return await venue.place(order)
    finally:
        await venue.close()


async def test_the_first_order_is_written_before_place_first_waits(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o-1"})
    async with entering(server) as venue:
        placing = venue.place(an_entry())
        placing.send(None)  # up to where it waits: nothing else of this loop has run
        transport = entry_of(venue)._transport
        assert transport is not None
        assert transport.underlying_transport.get_write_buffer_size() == 0
        placing.close()
        assert await asyncio.wait_for(server.arrived.get(), 5) == "lh-entry"


async def test_without_the_socket_orders_go_over_rest(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    server.auth_code = None  # connected, alive, and not authenticated
    async with entering(server, up=False) as venue:
        await soon(lambda: entry_of(venue).last_frame_monotonic > 0)
        await venue.place(an_entry())
        assert [request.method for request in server.orders()] == ["POST"]


async def test_who_asks_for_the_time_has_the_socket_ready(server: BybitServer) -> None:
    """So a watcher warms up what it may fire at."""
    venue = BybitVenue(CREDENTIALS, Origins(rest=server.origin, ws=server.origin.replace("http", "ws")))
    await venue.server_time()
    await up(venue)
    await venue.close()


async def test_who_reads_has_the_socket_ready(server: BybitServer) -> None:
    server.script(POSITIONS, page(position_row()))
    server.script(CREATE, {"orderId": "o"})
    venue = BybitVenue(CREDENTIALS, Origins(rest=server.origin, ws=server.origin.replace("http", "ws")))
    try:
        await venue.standing("BTCUSDT")
        await up(venue)
        await venue.place(an_entry())
    finally:
        await venue.close()
    assert [request.method for request in server.orders()] == ["WS"]


async def test_a_server_without_the_socket_is_asked_rarely_and_told_of_once(
    server: BybitServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.entry_path = None
    server.script(CREATE, {"orderId": "o"})
    async with entering(server, up=False) as venue:
        entry_of(venue)._bounds = msgspec.structs.replace(QUICK, refused_pause_s=0.01, refused_pause_max_s=0.01)
        tried = asyncio.Event()
        address, seen = entry_of(venue)._address, []

        async def counted() -> str:
            seen.append(1)
            if len(seen) > 4:
                tried.set()
            return await address()

        entry_of(venue)._address = counted  # type: ignore[method-assign]
        await asyncio.wait_for(tried.wait(), 5)
        await venue.place(an_entry())
    assert [request.method for request in server.orders()] == ["POST"]
    assert len([line for line in lines(caplog) if "no order entry there" in line]) == 1
    assert BybitEntry("ws://x", CREDENTIALS, recv_window_ms=1, timeout_s=1, clock=Clock())._bounds.refused_pause_s >= 30


async def test_a_host_that_is_never_reached_is_tried_rarely_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    bounds = msgspec.structs.replace(QUICK, refused_pause_s=60.0)
    clock = Clock()
    entry = BybitEntry("ws://127.0.0.1:9", CREDENTIALS, recv_window_ms=5000, timeout_s=1, clock=clock, bounds=bounds)
    entry.keep_warm()
    await soon(lambda: "out of reach" in str(lines(caplog)))
    assert len([line for line in lines(caplog) if "stream lost" in line]) == ATTEMPTS_MAX
    await entry.close()


@pytest.mark.parametrize("code", [10003, 10004])
async def test_a_refused_key_leaves_rest_working_and_does_not_loop(
    server: BybitServer, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    server.auth_code = code
    server.script(CREATE, {"orderId": "o"})
    async with entering(server, up=False) as venue:
        await soon(lambda: "the key was refused" in str(lines(caplog)))
        await venue.place(an_entry())
        assert len(server.entries) == 1
    assert [request.method for request in server.orders()] == ["POST"]
    assert KEY not in str(lines(caplog))


async def test_an_account_without_a_socket_for_orders_opens_none(server: BybitServer) -> None:
    venue = BybitVenue(CREDENTIALS, Origins(rest=server.origin, ws="ws://127.0.0.1:9", ws_orders=""))
    assert venue.entry is None
    await venue.close()


# what failures are called


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *(pair for pair in FAILURES if not isinstance(pair[0], Http)),
        (Say(10403), Transient),
        (Say(10429), Transient),
        (Say(20003), Transient),
        (Say(10404), Transient),
        (Say(10019), OutcomeUnknown),
        (Say(20006), OutcomeUnknown),
        (Raw('{"reqId":"{id}","retCode":0,"retMsg":"OK","op":"order.create","data":{}}'), OutcomeUnknown),
        (Raw('{"reqId":"{id}","retCode":0,"retMsg":"OK","op":"order.create"}'), OutcomeUnknown),
    ],
)
async def test_each_failure_has_its_name_and_one_request(
    server: BybitServer, answer: Answer, expected: type[LevelheadError]
) -> None:
    server.script(CREATE, answer)
    server.script(POSITIONS, page(position_row()))
    async with entering(server) as venue:
        with pytest.raises(LevelheadError) as caught:
            await venue.place(an_entry())
    assert type(caught.value) is expected
    assert [request.method for request in server.orders()] == ["WS"]


@pytest.mark.parametrize(
    "answer",
    [
        Hang(),
        Raw("<html>all is well</html>"),
        Raw('{"reqId":"{id}"}'),  # no code
        Raw('{"retCode":0,"retMsg":"OK","op":"order.create","data":{"orderId":"o"}}'),  # whose?
        Raw('{"reqId":"another","retCode":0,"op":"order.create","data":{"orderId":"o"}}'),
        Raw('{"reqId":"another","retCode":110007,"op":"order.create","data":{}}'),
    ],
)
async def test_an_answer_that_cannot_be_matched_is_unknown(server: BybitServer, answer: Answer) -> None:
    server.script(CREATE, answer)
    async with entering(server, timeout_s=0.1) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(an_entry())
    await rest_knows(server, an_entry())


async def test_a_late_answer_is_dropped_with_a_line(server: BybitServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server.script(CREATE, Hang(), {"orderId": "o-2"})
    async with entering(server, timeout_s=0.1) as venue:
        with pytest.raises(OutcomeUnknown):
            await venue.place(named("one"))
        server.closing.set()
        await soon(lambda: "an answer to nothing" in str(lines(caplog)))
        assert await venue.place(named("two")) == "o-2"
    assert [request.body["orderLinkId"] for request in server.orders("WS")] == ["one", "two"]


async def test_a_cut_with_many_in_flight_is_unknown_for_each_and_repeats_none(server: BybitServer) -> None:
    server.script(CREATE, Hang())
    names = [f"lh-{number}" for number in range(20)]
    async with entering(server) as venue:
        placing = [asyncio.create_task(venue.place(named(name))) for name in names]
        for _ in names:
            await asyncio.wait_for(server.arrived.get(), 5)
        server.cut_entries()
        found = await asyncio.gather(*placing, return_exceptions=True)
        assert [type(one) for one in found] == [OutcomeUnknown] * len(names)
        server.script(CREATE, {"orderId": "after"})
        await up(venue)
        assert await venue.place(named("after")) == "after"
    assert [request.body["orderLinkId"] for request in server.orders()] == [*names, "after"]


async def test_while_it_reconnects_orders_go_over_rest(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    async with entering(server) as venue:
        server.muted = True
        server.cut_entries()
        await down(venue)
        await venue.place(named("meanwhile"))
        server.muted = False
        await up(venue)
        await venue.place(named("after"))
    assert [(r.method, r.body["orderLinkId"]) for r in server.orders()] == [("POST", "meanwhile"), ("WS", "after")]


async def test_answers_come_in_any_order(server: BybitServer) -> None:
    server.script(CREATE, Hang(), {"orderId": "second"})
    async with entering(server) as venue:
        slow = asyncio.create_task(venue.place(named("slow")))
        await asyncio.wait_for(server.hanging.wait(), 5)
        assert await asyncio.wait_for(venue.place(named("quick")), 5) == "second"
        assert not slow.done()
        server.closing.set()
        assert await slow == "late"
    assert [request.body["orderLinkId"] for request in server.orders("WS")] == ["slow", "quick"]


async def test_no_order_follows_one_that_is_not_answered_for_long(server: BybitServer) -> None:
    server.script(CREATE, Hang())
    async with entering(server) as venue:
        slow = asyncio.create_task(venue.place(named("slow")))
        await asyncio.wait_for(server.arrived.get(), 5)
        entry = entry_of(venue)
        assert entry.has_room
        entry._bounds = msgspec.structs.replace(entry._bounds, answer_s=0.0)
        assert not entry.has_room
        server.closing.set()
        await slow
        assert entry.has_room


async def test_no_order_is_written_to_a_link_that_may_be_dead(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    async with entering(server) as venue:
        server.muted = True  # the pings too
        entry_of(venue).last_frame_monotonic -= FRESH_S + 1
        await venue.place(an_entry())
    assert [request.method for request in server.orders()] == ["POST"]


async def test_only_so_many_are_in_flight(server: BybitServer) -> None:
    server.script(CREATE, *[Hang()] * IN_FLIGHT_MAX, {"orderId": "by-rest"})
    async with entering(server) as venue:
        placing = [asyncio.create_task(venue.place(named(f"lh-{n}"))) for n in range(IN_FLIGHT_MAX)]
        for _ in placing:
            await asyncio.wait_for(server.arrived.get(), 5)
        assert await venue.place(named("more")) == "by-rest"
        server.closing.set()
        await asyncio.gather(*placing)
    assert [request.body["orderLinkId"] for request in server.orders("POST")] == ["more"]


async def test_who_gives_up_waiting_leaves_nothing_behind(server: BybitServer) -> None:
    server.script(CREATE, Hang())
    async with entering(server) as venue:
        placing = asyncio.create_task(venue.place(an_entry()))
        await asyncio.wait_for(server.arrived.get(), 5)
        placing.cancel()
        await asyncio.gather(placing, return_exceptions=True)
        assert entry_of(venue)._in_flight == {}
    assert len(server.orders()) == 1


async def test_an_order_that_is_placed_now_is_written_before_anybody_waits(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o-1"})
    async with entering(server) as venue:
        placing = venue.place_now(venue.prepared(an_entry()), milliseconds(datetime.now(UTC)))
        transport = entry_of(venue)._transport
        assert transport is not None
        assert transport.underlying_transport.get_write_buffer_size() == 0
        assert await asyncio.wait_for(server.arrived.get(), 5) == "lh-entry"
        assert placing is not None
        assert await placing() == "o-1"
        assert await over_rest(server, an_entry()) == "o-1"
    socket, rest = server.orders()
    assert socket.body == rest.body


async def test_what_cannot_leave_now_has_not_left(server: BybitServer) -> None:
    gate = Gate()
    async with entering(server, gate=gate) as venue:
        ready, now = venue.prepared(an_exit()), milliseconds(datetime.now(UTC))
        assert venue.place_now(ready, now - 6000) is None, "too old"
        gate.ban(Scope.ADDRESS, 60, "told to stay away")
        assert venue.place_now(ready, now) is None
        server.cut_entries()
        await down(venue)
        assert venue.place_now(ready, now) is None
    assert server.orders() == []


async def test_nobody_has_to_wait_for_the_answer(server: BybitServer) -> None:
    server.script(CREATE, Hang())
    async with entering(server, timeout_s=0.1) as venue:
        assert venue.place_now(venue.prepared(an_entry()), milliseconds(datetime.now(UTC))) is not None
        await asyncio.wait_for(server.arrived.get(), 5)
        await soon(lambda: entry_of(venue)._in_flight == {})


async def test_closing_waits_for_what_is_in_flight(server: BybitServer) -> None:
    server.script(CREATE, Hang())
    async with entering(server) as venue:
        placing = asyncio.create_task(venue.place(an_entry()))
        await asyncio.wait_for(server.arrived.get(), 5)
        closing = asyncio.create_task(venue.close())
        await asyncio.sleep(0)
        server.closing.set()
        assert await placing == "late"
        await closing


# time


async def test_the_request_carries_the_instant_that_was_committed(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    signed_at = datetime.now(UTC) - timedelta(seconds=2)
    async with entering(server) as venue:
        await venue.place(msgspec.structs.replace(an_entry(), signed_at=signed_at))
        offset = venue.clock_offset_ms
    [sent] = server.orders("WS")
    assert int(sent.stamp) == int(signed_at.timestamp() * 1000) + offset


async def test_an_order_that_stood_still_is_not_sent(server: BybitServer) -> None:
    async with entering(server) as venue:
        with pytest.raises(Transient, match="not sent"):
            await venue.place(msgspec.structs.replace(an_entry(), signed_at=datetime.now(UTC) - timedelta(seconds=6)))
    assert server.orders() == []


async def test_an_order_that_arrives_late_is_refused_by_its_window(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    async with entering(server) as venue:
        await venue.server_time()
        server.skew_ms = 4_000  # as if it stood in the network
        with pytest.raises(Transient):
            await venue.place(msgspec.structs.replace(an_entry(), signed_at=datetime.now(UTC) - timedelta(seconds=3)))
        assert venue.clock_offset_ms > 3_000  # and the clocks were compared
        assert await venue.place(an_entry()) == "o"
    assert len(server.orders("WS")) == 2


# the gate


async def test_a_ban_holds_on_this_road_too(server: BybitServer) -> None:
    gate = Gate()
    async with entering(server, gate=gate) as venue:
        gate.ban(Scope.ADDRESS, 60, "told to stay away")
        with pytest.raises(Transient, match="stay away"):
            await venue.place(an_exit())
    assert server.orders() == []


async def test_what_an_answer_says_of_the_limit_counts(server: BybitServer) -> None:
    server.script(CREATE, Say(10006, headers={"X-Bapi-Limit-Reset-Timestamp": "99999999999999"}), {"orderId": "o"})
    gate = Gate()
    async with entering(server, gate=gate) as venue:
        with pytest.raises(Transient) as caught:
            await venue.place(an_entry())
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 1e9
        with pytest.raises(Transient, match=BybitHttp.place_order.__name__):
            await venue.place(an_entry())
    assert len(server.orders()) == 1


async def test_the_rest_of_the_budget_is_kept_for_closes(server: BybitServer) -> None:
    server.script(
        CREATE,
        Raw(
            '{"reqId":"{id}","retCode":0,"op":"order.create","data":{"orderId":"o"},'
            '"header":{"X-Bapi-Limit":"10","X-Bapi-Limit-Status":"0","Timenow":"1"}}'
        ),
    )
    async with entering(server) as venue:
        await venue.place(an_entry())
        with pytest.raises(Transient, match="more urgent"):
            await venue.place(an_entry())
        await venue.place(an_exit())
    assert len(server.orders("WS")) == 2


async def test_an_order_over_the_socket_is_counted(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    gate = Gate()
    async with entering(server, gate=gate) as venue:
        await venue.place(an_entry())
        assert gate._limits[Scope.ADDRESS].windows[ADDRESS].own(0) >= 1


# the link


async def test_a_server_that_takes_no_orders_is_left_for_rest(server: BybitServer) -> None:
    server.script(CREATE, Say(10404), {"orderId": "by-rest"})
    async with entering(server) as venue:
        with pytest.raises(Transient):
            await venue.place(named("one"))
        assert await venue.place(named("two")) == "by-rest"
    assert [request.method for request in server.orders()] == ["WS", "POST"]


async def test_a_server_that_restarts_is_left_when_it_has_answered_what_it_took(server: BybitServer) -> None:
    server.script(CREATE, Hang(), Say(10019), {"orderId": "o"})
    async with entering(server) as venue:
        slow = asyncio.create_task(venue.place(named("slow")))
        await asyncio.wait_for(server.arrived.get(), 5)
        with pytest.raises(OutcomeUnknown):
            await venue.place(named("too-late"))
        assert not entry_of(venue).has_room
        server.closing.set()
        assert await slow == "late"
        await up(venue)
        await venue.place(named("anew"))
    assert [request.connection for request in server.orders("WS")] == [0, 0, 1]


async def test_a_dead_link_is_noticed_by_its_silence(server: BybitServer) -> None:
    entry = BybitEntry(
        server.origin.replace("http", "ws"),
        CREDENTIALS,
        recv_window_ms=5000,
        timeout_s=5,
        clock=Clock(),
        bounds=QUICK,
    )
    entry.keep_warm()
    await asyncio.wait_for(entry.ready.wait(), 5)
    server.muted = True
    await soon(lambda: not entry.ready.is_set())
    server.muted = False
    await asyncio.wait_for(entry.ready.wait(), 5)
    await entry.close()


async def test_a_polite_close_leaves_no_room(server: BybitServer) -> None:
    server.script(CREATE, {"orderId": "o"})
    async with entering(server) as venue:
        await server.entries[0].close()
        await down(venue)
        await up(venue)
        await venue.place(an_entry())
    assert [request.connection for request in server.orders("WS")] == [1]


async def test_a_key_of_its_own_kind_signs_the_authentication() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    async with bybit_server(key_verifier(key.public_key())) as server:
        server.script(CREATE, {"orderId": "o"})
        async with entering(server, credentials=Credentials(api_key=KEY, private_key=pem)) as venue:
            await venue.place(an_entry())
        assert len(server.orders("WS")) == 1


async def test_no_error_or_line_shows_a_secret_or_a_request(
    server: BybitServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    answers = (Say(10004, f"error sign! origin_string[17{KEY}5000]"), Say(10016), Raw(json.dumps({"reqId": 3})), Cut())
    for answer in answers:
        server.script(CREATE, answer)
        async with entering(server, timeout_s=0.3) as venue:
            with pytest.raises((Refused, Conflict, OutcomeUnknown, Transient)) as caught:
                await venue.place(an_entry())
        texts += [str(caught.value), repr(vars(caught.value))]
    for text in (*texts, *lines(caplog)):
        assert KEY not in text
        assert SECRET not in text
        assert "orderLinkId" not in text
