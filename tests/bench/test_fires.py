"""The parts of the bench that measure fires: that they see what is sent, by whichever road, and count it right."""

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import arrivals, burst, crash, fire, reaction, report, tick_path
from bench.arrivals import Arrivals, OrderSeen
from bench.canned import Connection
from bench.canned_socket import TEXT, Frames
from bench.frame_server import frame
from bench.frames import bybit_frame
from bench.order_overhead import prepared
from simulator.model import Side
from simulator.recording import Row

MS = report.NS_PER_MS
HANDSHAKE = b"GET /v5/trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a==\r\n\r\n"
BYBIT_ORDER = {"symbol": "B00USDT", "side": "Sell", "qty": "3", "reduceOnly": True, "orderLinkId": "a"}
BINANCE_ORDER = {"symbol": "B00USDT", "side": "SELL", "quantity": "3", "reduceOnly": "true", "newClientOrderId": "a"}
ORDER = OrderSeen(client_order_id="a", symbol="B00USDT", reduce_only=True, qty="3", at_ns=7)


def on_socket(message: dict[str, Any], mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """As a client sends it."""
    payload = msgspec.json.encode(message)
    head = reaction.masked(payload)[: -len(payload) - len(mask)]
    return head + mask + bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


# arrivals


@pytest.mark.parametrize(
    "message", [{"op": "order.create", "args": [BYBIT_ORDER]}, {"method": "order.place", "params": BINANCE_ORDER}]
)
def test_an_order_on_a_socket_is_seen(message: dict[str, Any]) -> None:
    seen = Arrivals()
    seen.note("one", 1, HANDSHAKE)
    seen.note("one", 7, on_socket(message))
    assert seen.take() == [ORDER]
    assert seen.take() == []


def test_an_order_arrives_with_its_last_byte() -> None:
    whole = on_socket({"op": "order.create", "args": [BYBIT_ORDER]})
    seen = Arrivals()
    seen.note("one", 1, HANDSHAKE)
    seen.note("one", 5, whole[:3])
    seen.note("one", 6, whole[3:-1])
    assert seen.take() == []
    seen.note("one", 7, whole[-1:] + whole)
    assert seen.take() == [ORDER, ORDER]


def test_what_else_is_on_a_socket_is_no_order() -> None:
    seen = Arrivals()
    seen.note("one", 1, HANDSHAKE)
    seen.note("one", 2, on_socket({"op": "auth", "args": ["k", 1, "s"]}) + b"\x89\x80\x01\x02\x03\x04")
    seen.note("one", 3, on_socket({"id": "x", "method": "order.status", "params": BINANCE_ORDER}))
    assert seen.take() == []


@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_an_order_by_rest_is_seen(venue: str) -> None:
    request = prepared(venue, "http://127.0.0.1:1")
    seen = Arrivals()
    seen.note("one", 5, request[:40])
    seen.note("another", 6, b"GET /v5/market/time HTTP/1.1\r\n\r\n")
    seen.note("one", 7, request[40:])
    [order] = seen.take()
    assert (order.symbol, order.reduce_only, order.qty, order.at_ns) == ("BTCUSDT", True, "1", 7)
    assert order.client_order_id == "_" * 36


def test_a_long_message_is_unmasked() -> None:
    message = {"op": "order.create", "args": [BYBIT_ORDER | {"orderLinkId": "a" * 200}]}
    seen = Arrivals()
    seen.note("one", 1, HANDSHAKE)
    seen.note("one", 7, on_socket(message))
    assert seen.take()[0].client_order_id == "a" * 200


# fire


def test_a_reference_fires_once_until_the_price_is_back() -> None:
    fired = reaction.Fired()
    assert [fired.now("A", reached=reached) for reached in (True, True, False, True)] == [True, False, False, True]
    assert fired.now("B", reached=True)


def test_each_frame_of_what_was_read_is_looked_at() -> None:
    read = b"".join(
        frame(bybit_frame(symbol, 1, [("1", price, "1", "Sell")])) for symbol, price in (("A", "100"), ("B", "98.990"))
    )
    assert list(reaction.trades_in(read, "98.99")) == [("A", False), ("B", True)]


@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_the_bare_request_is_whole(venue: str) -> None:
    request = reaction.canned(venue, "http://127.0.0.1:1", "B00USDT")
    assert Connection().add(request, 1) == request
    assert arrivals.order_in(request) is not None


def test_a_fire_is_told_beside_the_others() -> None:
    def sample(ms: float) -> tick_path.Sample:
        return tick_path.Sample(written=0, fired=None, arrived=int(ms * MS))

    rows = fire.rows({fire.WATCHER: [sample(3)], fire.BARE: [sample(1)], fire.SDK: [sample(15)]})
    assert fire.told("bybit", rows).endswith(
        "fire ÷ bare socket: p50 3.00 (aim ≤ 2: missed), p99 3.00 (aim ≤ 5: reached); "
        "pybit's own way ÷ fire: p50 5.00 (aim ≥ 4: reached)"
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("venue", ["bybit", "binance"])
async def test_each_way_closes_what_is_crossed(venue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real processes, a few crossings."""
    monkeypatch.setattr(fire, "WARM_UP_ROUNDS", 0)
    taken = await fire.measure(venue, 3, 3, 30, tmp_path, "warning", random.Random(1), far=0)
    assert {way: len(samples) for way, samples in taken.items()} == {fire.WATCHER: 3, fire.BARE: 3, fire.SDK: 3}
    assert all(sample.arrived > sample.written for samples in taken.values() for sample in samples)


# burst


def seen_at(ns: int, name: str, qty: str) -> OrderSeen:
    return OrderSeen(client_order_id=name, symbol="B00USDT", reduce_only=True, qty=qty, at_ns=ns)


def test_a_burst_is_judged_by_its_stops() -> None:
    kinds = {"a": "stop_loss", "b": "trailing_stop", "c": "stop_loss", "x": "take_profit", "y": "take_profit"}
    orders = [seen_at(9, "y", "90"), seen_at(1, "a", "3"), seen_at(5, "b", "1"), seen_at(6, "c", "2"),
              seen_at(4, "x", "80")]  # fmt: skip
    found = burst.judged(orders, kinds)
    assert (found.spread_ns, found.stops, found.targets) == (5, 3, 2)
    assert found.early_targets == 1
    assert found.overtaken == 1


@pytest.mark.timeout(180)
async def test_one_tick_closes_several_accounts(tmp_path: Path) -> None:
    [found] = await burst.measure(1, tmp_path, "warning", stops=3, targets=1, quiet_s=0.1)
    assert (found.stops, found.targets) == (3, 1)
    assert found.spread_ns > 0
    assert "3 stops and 1 targets at one tick" in burst.told([found])


# crash


def row(ms: int, price: str, number: int) -> Row:
    return Row(ms * 1000, Decimal(price), Decimal(1), Side.SELL, str(number))


def test_stops_lie_all_through_the_range() -> None:
    prints = {"A": [row(0, "10.00", 1), row(1, "9.00", 2), row(2, "11.00", 3)]}
    [levels] = crash.stops(prints, 20).values()
    assert [level.price for level in levels][:2] == [Decimal("9.00"), Decimal("9.10")]
    assert len({level.price for level in levels}) == 20
    assert {level.side for level in levels if level.price is not None and level.price < 10} == {"long"}
    assert len(crash.oracle(prints, {"A": levels})) == 20


def test_the_oracle_names_the_first_trade_beyond_a_stop() -> None:
    rows = [row(0, "10.00", 1), row(1, "9.50", 2), row(2, "9.40", 3)]
    [levels] = crash.stops({"A": [*rows, row(3, "9.00", 4)]}, 100).values()
    crossed = crash.oracle({"A": rows}, {"A": levels})
    by_price = {level.price: crossed.get(level.id) for level in levels}
    assert by_price[Decimal("9.50")] is rows[1]
    assert by_price[Decimal("9.49")] is rows[2]
    assert by_price[Decimal("9.39")] is None


def test_a_lone_print_does_not_count() -> None:
    rows = [row(number, price, number) for number, price in enumerate(("10.00", "9.00", "10.00", "9.99"))]
    believed, waited_us = crash.counted({"A": rows})
    assert [one.trade_id for one in believed["A"]] == ["0", "2", "3"]
    assert set(waited_us.values()) == {0}


def test_a_print_counts_once_others_confirm_it() -> None:
    rows = [row(number, price, number) for number, price in enumerate(("10.00", "9.00", "8.99", "8.98", "8.97"))]
    believed, waited_us = crash.counted({"A": rows})
    assert believed["A"] == rows
    assert list(waited_us.values()) == [0, 2000, 1000, 0, 0]


@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_each_trade_is_in_one_frame(venue: str) -> None:
    prints = {"A": [row(0, "10.00", 1), row(0, "9.99", 2), row(5, "9.98", 3)], "B": [row(5, "1.0", 1)]}
    timed = list(crash.timed_frames(venue, prints))
    assert [due_us for due_us, _, _ in timed] == [0, 5000, 5000] if venue == "bybit" else [0, 0, 5000, 5000]
    assert sum(len(trades) for _, trades, _ in timed) == 4
    assert b'"9.99"' in timed[0 if venue == "bybit" else 1][2]


@pytest.mark.parametrize("venue", ["bybit", "binance"])
async def test_in_the_crash_each_stop_fires_once_where_the_oracle_says(venue: str) -> None:
    found = await crash.measure(venue, None, count=200, rounds=1)
    assert (found.levels, found.fired, found.missed, found.twice, found.elsewhere) == (200, 200, 0, 0, 0)
    assert "fired 200, missed 0" in crash.told(venue, found)


# the words


@pytest.mark.parametrize(
    ("value", "least", "text"),
    [(1.5, False, "1.50 (aim ≤ 2: reached)"), (25, False, "25.0 (aim ≤ 2: missed)"),
     (1234.5, True, "1,234 (aim ≥ 2: reached)"), (1, True, "1.00 (aim ≥ 2: missed)")],
)  # fmt: skip
def test_a_figure_stands_beside_its_aim(value: float, least: bool, text: str) -> None:
    assert report.aimed(value, 2, least=least) == text


def test_what_a_bare_socket_sends_is_read() -> None:
    for length in (0, 1, 125, 126, 300):
        assert Frames().add(reaction.masked(b"x" * length)) == [(TEXT, b"x" * length)]
