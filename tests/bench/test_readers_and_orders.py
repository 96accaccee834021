"""The parts of the bench that measure socket clients and adapters: that they read what they say and count it right."""

import asyncio
import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bench import canned, canned_socket, order_overhead, readers
from bench.__main__ import PARTS, parse
from bench.frame_server import acknowledge, bare, chunks, frame, running
from bench.frames import COUNT, frames, symbols_in
from bench.report import NS_PER_MS


@pytest.mark.parametrize("venue", readers.VENUES)
def test_made_frames_are_readable_and_of_some_symbols(venue: str) -> None:
    found, origin = frames(venue, None)
    assert (len(found), origin) == (COUNT, "made")
    decode = readers.decoder(venue)
    counted = [decode(bare(one) if venue == "binance" else one) for one in found]
    assert min(counted) == 1
    assert max(counted) == (8 if venue == "bybit" else 1)
    assert symbols_in(venue, found) == ["BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT"]


def test_a_frame_says_its_length() -> None:
    for length, head in ((5, b"\x81\x05"), (300, b"\x81\x7e\x01\x2c"), (70_000, b"\x81\x7f" + (70_000).to_bytes(8))):
        assert frame(b"x" * length) == head + b"x" * length


def test_no_frame_is_lost_between_chunks() -> None:
    payloads = [b"%d" % number + b"." * 5_000 for number in range(40)]
    found = chunks(payloads)
    assert len(found) > 1
    assert b"".join(found) == b"".join(map(frame, payloads))


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({"op": "subscribe", "req_id": "x", "args": []}, {"success": True, "req_id": "x", "op": "subscribe"}),
        ({"op": "ping"}, {"ret_msg": "pong", "op": "ping"}),
        ({"method": "SUBSCRIBE", "params": [], "id": 7}, {"result": None, "id": 7}),
    ],
)
def test_what_a_reader_asks_is_acknowledged(asked: dict[str, Any], answered: dict[str, Any]) -> None:
    answer = acknowledge(msgspec.json.encode(asked))
    assert answer is not None
    assert answered.items() <= msgspec.json.decode(answer).items()


@pytest.mark.parametrize("name", [*readers.COMMON, "app"])
@pytest.mark.parametrize("venue", readers.VENUES)
async def test_each_reader_reads_all_of_it(venue: str, name: str) -> None:
    found, _ = frames(venue, None)
    some = found[:500]
    unwrapped = [bare(one) for one in some] if venue == "binance" else some
    decode = readers.decoder(venue)
    expected = sum(decode(one) for one in unwrapped)
    done = asyncio.Event()
    counted = [0, 0]

    def count(rows: int) -> None:
        counted[0] += rows > 0
        counted[1] += rows
        if counted[1] >= expected:
            done.set()

    async with running(lambda path: unwrapped, again=False) as origin:
        task = asyncio.ensure_future(readers.readers(venue)[name](venue, origin, symbols_in(venue, some), count))
        async with asyncio.timeout(20):
            await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert counted == [len(some), expected]


def test_readers_are_compared_within_a_round() -> None:
    def reading(messages: int, cpu_s: float) -> readers.Reading:
        return readers.Reading(messages, messages, 1.0, cpu_s)

    rows = readers.compare(
        {
            readers.BASE: [reading(100, 0.1), reading(50, 0.1), reading(100, 0.1)],
            "aiohttp": [reading(50, 0.1), reading(25, 0.1), reading(80, 0.1)],
            "pybit": [reading(5, 0.1), reading(5, 0.1), reading(5, 0.1)],
        },
        "pybit",
    )
    assert rows[readers.BASE].rate_ratio == rows[readers.BASE].cpu_ratio == 1
    assert rows["aiohttp"].rate_ratio == 0.5
    assert rows["aiohttp"].cpu_ratio == 2
    assert rows["aiohttp"].rate_to_sdk == 10
    assert rows["aiohttp"].messages_per_s == 50
    assert rows["aiohttp"].cpu_us == pytest.approx(2000)


def test_the_readers_table_tells_the_ratio_to_the_sdk() -> None:
    row = readers.Row(messages_per_s=100, cpu_us=1, rate_ratio=1, cpu_ratio=1, rate_to_sdk=5)
    slow = readers.Row(messages_per_s=20, cpu_us=5, rate_ratio=0.2, cpu_ratio=5, rate_to_sdk=1)
    text = readers.table("bybit", {"picows": row, "pybit": slow, "app": row}, "made")
    assert text.endswith("app ÷ pybit: 5 × the messages/s")


# orders


def test_a_request_in_pieces_is_one_request() -> None:
    connection = canned.Connection()
    whole = b"POST /v5/order/create HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"
    assert connection.add(whole[:20], 1) is None
    assert connection.add(whole[20:-1], 2) is None
    assert connection.add(whole[-1:], 3) == whole
    assert connection.first_ns == 1
    assert connection.add(b"GET / HTTP/1.1\r\n\r\n", 4) == b"GET / HTTP/1.1\r\n\r\n"
    assert connection.first_ns == 4


def test_frames_of_a_client_are_read_whole_and_unmasked() -> None:
    frames, long = canned_socket.Frames(), b"abcde" * 40
    masked = bytes(byte ^ b"\x01\x02\x03\x04"[at % 4] for at, byte in enumerate(long))
    sent = b"\x81\xfe" + len(long).to_bytes(2) + b"\x01\x02\x03\x04" + masked + b"\x89\x80\x00\x00\x00\x00"
    assert frames.add(sent[:50]) == []
    assert frames.add(sent[50:]) == [(canned_socket.TEXT, long), (canned_socket.PING, b"")]


@pytest.mark.parametrize("venue", readers.VENUES)
def test_the_prepared_request_is_an_order_that_carries_its_id(venue: str) -> None:
    request = order_overhead.prepared(venue, "http://127.0.0.1:1")
    assert request.startswith(canned.ORDERS)
    found = canned.CLIENT_ID.search(request.replace(b"_" * 36, b"a" * 36))
    assert found is not None
    assert found[1] == b"a" * 36
    assert canned.Connection().add(request, 1) == request
    answer = msgspec.json.decode(canned.answer(request.replace(b"_" * 36, b"a" * 36), 7))
    assert "a" * 36 in (answer.get("clientOrderId"), answer.get("result", {}).get("orderLinkId"))


def test_the_overhead_is_told_beside_the_bare_request() -> None:
    def samples(ms: int) -> list[order_overhead.Sample]:
        return [order_overhead.Sample(ms * NS_PER_MS, NS_PER_MS)]

    taken = {"bare socket": samples(1), "pybit": samples(5), "adapter by REST": samples(4), "adapter": samples(3)}
    rows = order_overhead.rows(taken)
    assert rows["adapter: both"].p50 == 4
    text = order_overhead.told("bybit", rows)
    assert "the adapter adds 2.00 ms (p99 2.00), by REST 3.00 ms (p99 3.00), pybit alone 4.00 ms (p99 4.00)" in text


async def test_an_order_is_placed_by_every_way_that_is_measured() -> None:
    """Against the canned server itself: whoever is measured does send an order with the id it is given."""
    for venue in readers.VENUES:
        taken = await order_overhead.measure(venue, 1, random.Random(1))
        assert list(taken) == ["bare socket", order_overhead.SDK[venue], "adapter by REST", "adapter"]
        assert all(len(found) == 1 for found in taken.values())


def test_parts_can_be_left_out() -> None:
    assert parse([]).only == list(PARTS)
    assert parse(["--only", "readers", "levels"]).only == ["readers", "levels"]


def test_prices_are_read_exactly() -> None:
    frame_of = msgspec.json.decode(b'{"s":"A","a":1,"p":"0.00000010","T":2}', type=readers.BinanceTrade)
    assert frame_of.p == Decimal("0.00000010")
    assert format(frame_of.p, "f") == "0.00000010"
