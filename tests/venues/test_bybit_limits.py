"""Bans and budgets: what answers say of them is heeded, and the last of a budget is for closes."""

import asyncio
import time
from decimal import Decimal

import pytest

from app.domain.order import PositionSide
from app.errors import Conflict, Refused, Transient
from app.venues.bybit import calls as bybit_calls
from app.venues.bybit.limits import ADDRESS, ADDRESS_MAX, ADDRESS_WINDOW_S, address_wait_s, limit_of
from app.venues.bybit.venue import BybitVenue
from app.venues.failures import Limit
from app.venues.gate import Ban, Gate, Limits, Scope
from tests.venues.bybit_rows import CREATE, LEVERAGE, POSITIONS, STOP, WALLET, an_entry, an_exit, page, position_row
from tests.venues.bybit_server import Answer, BybitServer, Say, adapter
from tests.venues.scripted import Cut, Http

NOW_MS = 1_700_000_000_000


def headers(left: int, reset_ms: int = NOW_MS) -> dict[str, str]:
    return {
        "X-Bapi-Limit": "10",
        "X-Bapi-Limit-Status": str(left),
        "X-Bapi-Limit-Reset-Timestamp": str(reset_ms),
    }


@pytest.mark.parametrize(
    ("given", "exceeded", "expected"),
    [
        (headers(10), False, Limit(0.0, 1.0)),
        (headers(5), False, Limit(0.5, 1.0)),
        (headers(0), False, Limit(0.99, 1.0)),  # used up, not exceeded: a close may still try
        (headers(0, NOW_MS + 345), False, Limit(1.0, 0.345)),  # until when is stated: trying gains nothing
        (headers(0, NOW_MS + 345), True, Limit(1.0, 0.345)),
        (headers(0, NOW_MS - 5), True, Limit(1.0, 1.0)),
        ({}, True, Limit(1.0, 1.0)),
        ({}, False, None),
        (headers(5) | {"X-Bapi-Limit": "0"}, False, None),
        (headers(5) | {"X-Bapi-Limit-Status": "many"}, False, None),
    ],
)
def test_what_an_answer_says_of_its_endpoint(given: dict[str, str], exceeded: bool, expected: Limit | None) -> None:
    assert limit_of(given, NOW_MS, exceeded=exceeded) == expected


@pytest.mark.parametrize(
    ("status", "given", "seconds"),
    [(403, {}, 600), (403, {"Retry-After": "30"}, 30), (429, {}, 5), (403, {"Retry-After": "x"}, 600)],
)
def test_how_long_an_address_is_banned(status: int, given: dict[str, str], seconds: float) -> None:
    assert address_wait_s(status, given) == seconds


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(Http(403, "403, access too frequent"), 600), (Http(429, "", {"Retry-After": "60"}), 60), (Say(10018), 5)],
)
async def test_a_ban_of_the_address_stops_everything_and_is_told(
    server: BybitServer, answer: Answer, seconds: float
) -> None:
    told: list[tuple[Scope, Ban]] = []
    gate = Gate(on_ban=lambda scope, ban: told.append((scope, ban)))
    server.script(WALLET, answer)
    async with adapter(server.origin, gate=gate) as venue:
        began = time.monotonic()
        with pytest.raises(Transient) as first:
            await venue.equity()
        assert first.value.retry_after_s is not None
        for request in (
            venue.equity(),
            venue.place(an_exit()),
            venue.set_stop("BTCUSDT", PositionSide.LONG, None, hedge=False),
        ):
            with pytest.raises(Transient, match="not sent") as caught:
                await request
            assert caught.value.retry_after_s is not None
            assert seconds - 5 < caught.value.retry_after_s <= seconds
    assert len(server.requests) == 1
    [(scope, ban)] = told
    assert scope is Scope.ADDRESS
    assert began + seconds <= ban.until <= time.monotonic() + seconds


async def test_a_ban_that_another_process_met_is_heeded(server: BybitServer) -> None:
    gate = Gate()
    gate.heed(Scope.ADDRESS, Ban(until=time.monotonic() + 60, why="another met it"))
    async with adapter(server.origin, gate=gate) as venue:
        with pytest.raises(Transient, match="another met it"):
            await venue.place(an_exit())
        for lane in venue._calls.writes:
            lane.keep_warm()
            await asyncio.wrap_future(lane._executor.submit(int))
    assert server.requests == []
    assert server.time_connections == []  # not even to keep connections warm


async def test_an_exceeded_limit_closes_its_endpoint_until_the_stated_time_and_no_other(
    server: BybitServer, venue: BybitVenue
) -> None:
    far = {"X-Bapi-Limit-Reset-Timestamp": str(server.now_ms() + 60_000)}
    server.script(CREATE, Say(10006, "Too many visits!", far))
    server.script(STOP, {})
    for _ in range(3):
        with pytest.raises(Transient) as caught:
            await venue.place(an_exit())
        assert caught.value.retry_after_s is not None
        assert 55 < caught.value.retry_after_s <= 60
    await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1), hedge=False)
    assert len(server.sent(CREATE)) == 1


async def test_the_stated_time_ends(server: BybitServer) -> None:
    now = 0.0
    far = {"X-Bapi-Limit-Reset-Timestamp": str(server.now_ms() + 60_000)}
    server.script(CREATE, Say(10006, "Too many visits!", far), {"orderId": "o"})
    async with adapter(server.origin, gate=Gate(clock=lambda: now)) as venue:
        with pytest.raises(Transient) as caught:
            await venue.place(an_exit())
        assert caught.value.retry_after_s is not None
        now = caught.value.retry_after_s - 0.001
        with pytest.raises(Transient, match="not sent"):
            await venue.place(an_exit())
        now = caught.value.retry_after_s
        assert await venue.place(an_exit()) == "o"
    assert len(server.sent(CREATE)) == 2


async def test_the_last_of_a_budget_is_kept_for_closes(server: BybitServer, venue: BybitVenue) -> None:
    server.script(CREATE, Say(110017, headers=headers(1)))
    with pytest.raises(Conflict):
        await venue.place(an_exit())
    with pytest.raises(Transient, match="is kept"):
        await venue.place(an_entry())
    with pytest.raises(Conflict):
        await venue.place(an_exit())
    assert [request.body["reduceOnly"] for request in server.sent(CREATE)] == [True, True]


def crowd(gate: Gate, requests: int) -> None:
    for _ in range(requests):
        gate.count(ADDRESS, limit=ADDRESS_MAX, window_s=ADDRESS_WINDOW_S)


async def test_a_crowded_address_reads_no_more_and_still_trades(server: BybitServer) -> None:
    gate = Gate()
    server.script(CREATE, {"orderId": "o"})
    async with adapter(server.origin, gate=gate) as venue:
        crowd(gate, ADDRESS_MAX * 8 // 10)
        with pytest.raises(Transient, match="address"):
            await venue.equity()
        assert await venue.place(an_entry()) == "o"
        crowd(gate, ADDRESS_MAX // 10)
        with pytest.raises(Transient, match="address"):
            await venue.place(an_entry())
        assert await venue.place(an_exit()) == "o"
        crowd(gate, ADDRESS_MAX // 10)
        with pytest.raises(Transient, match="address"):
            await venue.place(an_exit())
    assert len(server.requests) == 2


async def test_every_request_counts_for_the_address(server: BybitServer) -> None:
    address = Limits()
    server.script(WALLET, Cut(), {"list": [{}]})
    async with adapter(server.origin, gate=Gate(address=address)) as venue:
        await venue.equity()
        await venue.server_time()
        await asyncio.gather(*(asyncio.wrap_future(lane._executor.submit(int)) for lane in venue._calls.writes))
    assert len(server.requests) == 2
    counted = address.windows[ADDRESS]
    assert counted.own(time.monotonic()) == len(server.requests) + len(server.time_connections)


async def test_an_order_that_is_being_worked_on_is_waited_for(
    server: BybitServer, venue: BybitVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bybit_calls, "BUSY_PAUSE_S", 0.0)
    server.script(STOP, Say(110079), Say(40004), {})
    await venue.set_stop("BTCUSDT", PositionSide.LONG, Decimal(1), hedge=False)
    assert len(server.requests) == 3


async def test_an_order_that_is_worked_on_for_too_long_is_told(
    server: BybitServer, venue: BybitVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bybit_calls, "BUSY_PAUSE_S", 0.0)
    server.script(LEVERAGE, Say(110079))
    with pytest.raises(Transient):
        await venue.set_leverage("BTCUSDT", Decimal(5))
    assert len(server.requests) == 3


async def test_a_setting_is_an_opening_request(server: BybitServer, venue: BybitVenue) -> None:
    server.script(LEVERAGE, Say(110013, headers=headers(1)), {})
    with pytest.raises(Refused):
        await venue.set_leverage("BTCUSDT", Decimal(500))
    with pytest.raises(Transient, match="is kept"):
        await venue.set_leverage("BTCUSDT", Decimal(5))
    server.script(POSITIONS, page(position_row()))
    await venue.standing("BTCUSDT")
