"""The adapter and its streams against the simulator over sockets: the whole of `Venue`, and what its faults become."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.domain.order import MarginMode, OrderStatus, PositionMode, PositionSide, Side
from app.domain.position import Fill, FillOrigin
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import NewOrder, Origins, PrivateStream, PublicStream, RestingStop, Topic, Trade, Venue
from app.venues.bybit.stream import BybitPublicStream
from app.venues.bybit.venue import BybitVenue
from app.venues.link import Bounds
from simulator.exchange import Config
from simulator.server import running

CREDENTIALS = Credentials(api_key="contract-key", api_secret="contract-secret")
CONFIG = Config(port=0, prices="manual", api_key="contract-key", api_secret="contract-secret")
BTC = "BTCUSDT"
QUICK = Bounds(pause_min_s=0.01, pause_max_s=0.05)


class Prices:
    """Keeps what it hears of public prices."""

    def __init__(self) -> None:
        self.trades: asyncio.Queue[Trade] = asyncio.Queue()
        self.marks: asyncio.Queue[tuple[str, Decimal]] = asyncio.Queue()
        self.books: asyncio.Queue[tuple[str, Decimal | None, Decimal | None]] = asyncio.Queue()
        self.links: asyncio.Queue[bool] = asyncio.Queue()

    def on_trades(self, trades: Sequence[Trade]) -> None:
        for trade in trades:
            self.trades.put_nowait(trade)

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self.marks.put_nowait((symbol, price))

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        self.books.put_nowait((symbol, bid, ask))

    def on_link(self, up: bool) -> None:
        self.links.put_nowait(up)


class Account:
    """Keeps what it hears of an account."""

    def __init__(self) -> None:
        self.fills: asyncio.Queue[Fill] = asyncio.Queue()
        self.changes: asyncio.Queue[str] = asyncio.Queue()

    def on_fills(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            self.fills.put_nowait(fill)

    def on_change(self, symbol: str) -> None:
        self.changes.put_nowait(symbol)


class Simulator:
    def __init__(self, origin: str, http: aiohttp.ClientSession) -> None:
        self.origin = origin
        self.ws = origin.replace("http", "ws", 1)
        self._http = http

    async def post(self, path: str, /, **body: Any) -> None:
        async with self._http.post(f"{self.origin}/control/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def ledger(self) -> dict[str, Any]:
        async with self._http.get(f"{self.origin}/control/ledger") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def price(self, price: str, symbol: str = BTC) -> None:
        await self.post("price", symbol=symbol, price=price)

    async def fault(self, fault: str, /, **fields: Any) -> None:
        await self.post("faults", fault=fault, **fields)

    async def orders(self, client_order_id: str) -> list[dict[str, Any]]:
        return [o for o in (await self.ledger())["orders"] if o["client_order_id"] == client_order_id]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with running(CONFIG) as origin, aiohttp.ClientSession() as http:
        simulator = Simulator(origin, http)
        await simulator.price("60000")
        yield simulator


@pytest.fixture
async def venue(simulator: Simulator) -> AsyncIterator[Venue]:
    async with _venue(simulator) as venue:
        yield venue


@asynccontextmanager
async def _venue(
    simulator: Simulator, timeout_s: float = 5.0, credentials: Credentials = CREDENTIALS
) -> AsyncIterator[Venue]:
    venue: Venue = BybitVenue(credentials, Origins(rest=simulator.origin, ws=simulator.ws), timeout_s=timeout_s)
    try:
        yield venue
    finally:
        await venue.close()


def entry(**changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "client_order_id": f"lh{uuid4().hex}",
        "symbol": BTC,
        "side": Side.BUY,
        "qty": Decimal("0.010"),
        "reduce_only": False,
        "signed_at": datetime.now(UTC),
        "stop_loss": Decimal(57000),
    }
    return NewOrder(**(fields | changes))


def close(**changes: Any) -> NewOrder:
    return entry(**({"side": Side.SELL, "reduce_only": True, "stop_loss": None} | changes))


async def test_a_position_from_its_entry_to_its_exit(venue: Venue, simulator: Simulator) -> None:
    began = await venue.server_time() - timedelta(seconds=1)
    await venue.set_leverage(BTC, Decimal(5))
    await venue.set_leverage(BTC, Decimal(5))
    opening = entry()
    venue_order_id = await venue.place(opening)

    report = await venue.order(BTC, opening.client_order_id)
    assert report is not None
    assert (report.status, report.filled_qty, report.avg_price) == (
        OrderStatus.FILLED,
        Decimal("0.010"),
        Decimal(60000),
    )
    [fill] = await venue.fills(BTC, client_order_id=opening.client_order_id)
    assert (fill.venue_order_id, fill.client_order_id) == (venue_order_id, opening.client_order_id)
    assert (fill.origin, fill.side, fill.qty) == (FillOrigin.ORDER, Side.BUY, Decimal("0.010"))
    assert fill.fee > 0
    assert fill.position_side is PositionSide.LONG
    standing = await venue.standing(BTC)
    assert (standing.position_mode, standing.leverage) == (PositionMode.ONE_WAY, Decimal(5))
    [held] = standing.holdings
    assert (held.side, held.qty, held.entry_price) == (PositionSide.LONG, Decimal("0.010"), Decimal(60000))
    assert held.stop_loss == Decimal(57000)
    assert await venue.resting_stops(BTC) == [RestingStop(side=PositionSide.LONG, price=Decimal(57000))]

    await venue.set_stop(BTC, PositionSide.LONG, Decimal(58000), hedge=False)
    await venue.set_stop(BTC, PositionSide.LONG, Decimal(58000), hedge=False)
    assert await venue.resting_stops(BTC) == [RestingStop(side=PositionSide.LONG, price=Decimal(58000))]
    await venue.set_stop(BTC, PositionSide.LONG, None, hedge=False)
    assert await venue.resting_stops(BTC) == []
    assert [held.stop_loss for held in (await venue.standing(BTC)).holdings] == [None]

    await venue.place(close())
    assert (await venue.standing(BTC)).holdings == ()
    fills = await venue.fills(BTC, since=began)
    assert [fill.side for fill in fills] == [Side.BUY, Side.SELL]


async def test_what_the_account_and_the_market_say(venue: Venue, simulator: Simulator) -> None:
    assert abs(await venue.server_time() - datetime.now(UTC)) < timedelta(seconds=5)
    permissions = await venue.permissions()
    assert (permissions.can_trade, permissions.can_withdraw) == (True, False)
    instrument = await venue.instrument(BTC)
    assert instrument.trading
    assert instrument.qty_step == Decimal("0.001")
    equity = await venue.equity()
    assert (equity.equity, equity.available) == (Decimal(100_000), Decimal(100_000))
    assert (await venue.quote(BTC)).last == Decimal(60000)
    standing = await venue.standing(BTC)
    assert (standing.holdings, standing.margin_mode) == ((), MarginMode.CROSS)
    await venue.set_margin_mode(BTC, MarginMode.CROSS)
    assert await venue.test_order(BTC) is False
    assert await venue.order(BTC, "lh-never") is None
    assert await venue.fills(BTC, client_order_id="lh-never") == []
    with pytest.raises(Refused) as caught:
        await venue.instrument("NOPEUSDT")
    assert caught.value.code == "unknown_symbol"


async def test_the_markets_memory(venue: Venue, simulator: Simulator) -> None:
    since = await venue.server_time()
    for price in ("60100", "59900", "60050"):
        await simulator.price(price)
    trades = await venue.trades_since(BTC, since)
    assert trades is not None
    assert [trade.price for trade in trades] == [Decimal(60100), Decimal(59900), Decimal(60050)]
    candles = await venue.candles_since(BTC, since - timedelta(minutes=2))
    assert max(candle.high for candle in candles) >= Decimal(60100)
    assert min(candle.low for candle in candles) <= Decimal(59900)


async def test_a_native_stop_is_recognised_in_the_fills(venue: Venue, simulator: Simulator) -> None:
    began = await venue.server_time() - timedelta(seconds=1)
    await venue.place(entry())
    await simulator.price("56900")
    fills = await venue.fills(BTC, since=began)
    assert [fill.origin for fill in fills] == [FillOrigin.ORDER, FillOrigin.NATIVE_STOP]
    assert fills[1].client_order_id is None
    assert (await venue.standing(BTC)).holdings == ()


async def test_a_trade_by_hand_is_external(venue: Venue, simulator: Simulator) -> None:
    began = await venue.server_time() - timedelta(seconds=1)
    await simulator.post("positions", symbol=BTC, side="Buy", qty="0.01", api_key=CREDENTIALS.api_key)
    [fill] = await venue.fills(BTC, since=began)
    assert (fill.origin, fill.client_order_id) == (FillOrigin.EXTERNAL, None)


async def test_more_fills_than_a_page_holds(venue: Venue, simulator: Simulator) -> None:
    began = await venue.server_time() - timedelta(seconds=1)
    for _ in range(130):
        await simulator.post("positions", symbol=BTC, side="Buy", qty="0.001", api_key=CREDENTIALS.api_key)
    fills = await venue.fills(BTC, since=began)
    assert len({fill.venue_fill_id for fill in fills}) == 130
    assert [fill.filled_at for fill in fills] == sorted(fill.filled_at for fill in fills)


async def test_a_partial_fill_is_a_cancelled_order_with_a_quantity(venue: Venue, simulator: Simulator) -> None:
    await simulator.fault("partial_fill", fraction="0.5")
    order = entry()
    await venue.place(order)
    report = await venue.order(BTC, order.client_order_id)
    assert report is not None
    assert (report.status, report.filled_qty) == (OrderStatus.CANCELLED, Decimal("0.005"))
    assert [held.qty for held in (await venue.standing(BTC)).holdings] == [Decimal("0.005")]


async def test_an_order_that_is_rejected_after_it_was_accepted(venue: Venue, simulator: Simulator) -> None:
    await simulator.fault("reject_async")
    order = entry()
    await venue.place(order)
    report = await venue.order(BTC, order.client_order_id)
    assert report is not None
    assert report.status in (OrderStatus.REJECTED, OrderStatus.CANCELLED)
    assert report.filled_qty == 0
    assert report.reason


# hedge mode


@pytest.fixture
async def hedged(simulator: Simulator) -> AsyncIterator[Venue]:
    await simulator.post("accounts", api_key="hedge-key", api_secret="s", position_mode="hedge", isolated=True)
    async with _venue(simulator, credentials=Credentials(api_key="hedge-key", api_secret="s")) as venue:
        yield venue


async def test_both_sides_at_once_each_with_its_own_stop(hedged: Venue) -> None:
    flat = await hedged.standing(BTC)
    assert (flat.position_mode, flat.margin_mode, flat.holdings) == (PositionMode.HEDGE, MarginMode.ISOLATED, ())
    await hedged.set_leverage(BTC, Decimal(7))
    long = entry(hedge=True)
    short = entry(hedge=True, side=Side.SELL, qty=Decimal("0.020"), stop_loss=Decimal(63000))
    await hedged.place(long)
    await hedged.place(short)
    standing = await hedged.standing(BTC)
    assert standing.leverage == Decimal(7)
    assert {(held.side, held.qty, held.stop_loss) for held in standing.holdings} == {
        (PositionSide.LONG, Decimal("0.010"), Decimal(57000)),
        (PositionSide.SHORT, Decimal("0.020"), Decimal(63000)),
    }
    assert sorted(await hedged.holdings(), key=lambda held: held.qty) == sorted(
        standing.holdings, key=lambda held: held.qty
    )
    await hedged.set_stop(BTC, PositionSide.SHORT, Decimal(62000), hedge=True)
    await hedged.set_stop(BTC, PositionSide.LONG, Decimal(58000), hedge=True)
    assert await hedged.resting_stops(BTC) == [
        RestingStop(side=PositionSide.LONG, price=Decimal(58000)),
        RestingStop(side=PositionSide.SHORT, price=Decimal(62000)),
    ]
    exit_ = close(hedge=True)
    await hedged.place(exit_)
    [left] = (await hedged.standing(BTC)).holdings
    assert (left.side, left.qty, left.stop_loss) == (PositionSide.SHORT, Decimal("0.020"), Decimal(62000))
    sides = []
    for order in (long, short, exit_):
        [fill] = await hedged.fills(BTC, client_order_id=order.client_order_id)
        sides.append(fill.position_side)
    assert sides == [PositionSide.LONG, PositionSide.SHORT, PositionSide.LONG]
    with pytest.raises(Conflict) as caught:
        await hedged.set_stop(BTC, PositionSide.LONG, Decimal(58000), hedge=True)
    assert caught.value.kind == "no_position"
    with pytest.raises(Conflict) as caught:
        await hedged.place(close(hedge=True))
    assert caught.value.kind == "nothing_to_reduce"


async def test_the_wrong_mode_is_refused_by_its_name(hedged: Venue, venue: Venue) -> None:
    for wrong, order in ((hedged, entry()), (venue, entry(hedge=True))):
        with pytest.raises(Refused) as caught:
            await wrong.place(order)
        assert caught.value.code == "position_mode_mismatch"
    with pytest.raises(Refused) as caught:
        await hedged.set_margin_mode(BTC, MarginMode.CROSS)
    assert caught.value.code == "margin_mode_mismatch"


# keys


async def test_an_rsa_key_trades_and_listens(simulator: Simulator) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    await simulator.post("accounts", api_key="rsa-key", public_key=public.decode())
    credentials = Credentials(api_key="rsa-key", private_key=private.decode())
    async with _venue(simulator, credentials=credentials) as venue:
        heard = Account()
        async with _running(venue.private_stream(heard).run):
            assert await _soon(heard.changes) == ""
            order = entry()
            await venue.place(order)
            assert (await _soon(heard.fills)).client_order_id == order.client_order_id


# refusals and conflicts


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"qty": Decimal("0.0001")}, "venue_refused"),
        ({"qty": Decimal("400")}, "venue_refused"),
        ({"stop_loss": Decimal(61000)}, "stop_wrong_side"),
        ({"symbol": "NOPEUSDT"}, "venue_refused"),
        ({"client_order_id": "bad id!"}, "venue_refused"),
    ],
)
async def test_an_unacceptable_order_is_refused(venue: Venue, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as caught:
        await venue.place(entry(**changes))
    assert caught.value.code == code
    assert caught.value.reason.startswith("Bybit: ")


async def test_a_used_id_is_a_conflict_for_ever(venue: Venue, simulator: Simulator) -> None:
    order = entry()
    await venue.place(order)
    with pytest.raises(Conflict) as caught:
        await venue.place(order)
    assert caught.value.kind == "duplicate_order"
    assert [held.qty for held in (await venue.standing(BTC)).holdings] == [order.qty]


async def test_closing_what_is_flat_is_a_conflict(venue: Venue) -> None:
    with pytest.raises(Conflict) as caught:
        await venue.place(close())
    assert caught.value.kind == "nothing_to_reduce"


async def test_stops_that_will_not_do(venue: Venue) -> None:
    with pytest.raises(Conflict) as caught:
        await venue.set_stop(BTC, PositionSide.LONG, Decimal(50000), hedge=False)
    assert caught.value.kind == "no_position"
    await venue.place(entry())
    with pytest.raises(Refused) as refused:
        await venue.set_stop(BTC, PositionSide.LONG, Decimal(61000), hedge=False)
    assert refused.value.code == "stop_wrong_side"
    with pytest.raises(Refused) as refused:
        await venue.set_leverage(BTC, Decimal(1000))
    assert refused.value.code == "leverage_above_maximum"


async def test_a_wrong_key_is_refused(simulator: Simulator) -> None:
    for credentials in (
        Credentials(api_key="nobody", api_secret="x"),
        Credentials(api_key="contract-key", api_secret="x"),
    ):
        venue = BybitVenue(credentials, Origins(rest=simulator.origin, ws=simulator.ws))
        with pytest.raises(Refused) as caught:
            await venue.equity()
        assert caught.value.code == "venue_refused"
        assert credentials.api_key not in caught.value.reason
        await venue.close()


# faults


@pytest.mark.parametrize(
    ("fault", "expected", "executed"),
    [
        ({"fault": "drop_answer"}, OutcomeUnknown, 1),
        ({"fault": "drop_request"}, OutcomeUnknown, 0),
        ({"fault": "delay_answer", "ms": 1000}, OutcomeUnknown, 1),
        ({"fault": "http_status", "status": 502}, OutcomeUnknown, 0),
        ({"fault": "http_status", "status": 503, "after": True}, OutcomeUnknown, 1),
        ({"fault": "ret_code", "code": 10016, "msg": "Server error."}, OutcomeUnknown, 0),
        ({"fault": "maintenance"}, OutcomeUnknown, 0),
        ({"fault": "http_status", "status": 403}, Transient, 0),
        ({"fault": "http_status", "status": 429}, Transient, 0),
        ({"fault": "ret_code", "code": 10006, "msg": "Too many visits."}, Transient, 0),
        ({"fault": "ret_code", "code": 110007, "msg": "ab not enough"}, Refused, 0),
        ({"fault": "ret_code", "code": 33004, "msg": "Your api key has expired."}, Refused, 0),
    ],
)
async def test_a_fault_while_an_order_is_sent(
    simulator: Simulator, fault: dict[str, Any], expected: type[LevelheadError], executed: int
) -> None:
    order = entry()
    async with _venue(simulator, timeout_s=0.3) as venue:
        await venue.server_time()
        await simulator.post("faults", **fault, path="/v5/order/create")
        with pytest.raises(LevelheadError) as caught:
            await venue.place(order)
        assert type(caught.value) is expected
        assert len(await simulator.orders(order.client_order_id)) == executed
    async with _venue(simulator) as venue:  # another one: this one may be banned
        report = await venue.order(BTC, order.client_order_id)
        assert (report is not None) == bool(executed)
    requests = [r for r in (await simulator.ledger())["requests"] if r["path"] == "/v5/order/create"]
    assert len(requests) == 1


async def test_a_rate_limit_says_when_it_ends(venue: Venue, simulator: Simulator) -> None:
    await simulator.fault("rate_limit")
    results = await asyncio.gather(*(venue.set_leverage(BTC, Decimal(5)) for _ in range(40)), return_exceptions=True)
    limited = [result for result in results if isinstance(result, Transient)]
    assert limited
    assert all(exc.retry_after_s is not None and 0 <= exc.retry_after_s <= 1 for exc in limited)


async def warmed_up(venue: Venue) -> None:
    assert isinstance(venue, BybitVenue)
    for lane in venue._calls.writes:
        await asyncio.wrap_future(lane._executor.submit(lambda: None))


async def test_a_skewed_clock_is_made_up_for(venue: Venue, simulator: Simulator) -> None:
    await venue.equity()
    await warmed_up(venue)  # or a connection that is still warming up would measure the new clock
    await simulator.fault("clock_skew", ms=-20_000)
    order = entry()
    with pytest.raises(Transient):
        await venue.place(order)
    assert await venue.place(order)
    assert (await venue.equity()).equity > 0


READS: list[Callable[[Venue], Awaitable[object]]] = [
    lambda venue: venue.server_time(),
    lambda venue: venue.permissions(),
    lambda venue: venue.instrument(BTC),
    lambda venue: venue.equity(),
    lambda venue: venue.standing(BTC),
    lambda venue: venue.holdings(),
    lambda venue: venue.set_margin_mode(BTC, MarginMode.CROSS),
    lambda venue: venue.quote(BTC),
    lambda venue: venue.order(BTC, "lh-x"),
    lambda venue: venue.fills(BTC, client_order_id="lh-x"),
    lambda venue: venue.resting_stops(BTC),
    lambda venue: venue.trades_since(BTC, datetime.now(UTC)),
    lambda venue: venue.candles_since(BTC, datetime.now(UTC) - timedelta(minutes=2)),
    lambda venue: venue.set_leverage(BTC, Decimal(5)),
    lambda venue: venue.set_stop(BTC, PositionSide.LONG, Decimal(50000), hedge=False),
]


@pytest.mark.parametrize("call", READS)
async def test_what_fails_is_transient_and_never_an_empty_answer(
    venue: Venue, simulator: Simulator, call: Callable[[Venue], Awaitable[object]]
) -> None:
    await simulator.fault("maintenance")
    with pytest.raises(Transient):
        await call(venue)


async def test_an_exchange_that_is_not_there(simulator: Simulator) -> None:
    venue = BybitVenue(CREDENTIALS, Origins(rest="http://127.0.0.1:9", ws=""))
    for call in READS:
        with pytest.raises(Transient):
            await call(venue)
    with pytest.raises(Transient):
        await venue.place(entry())
    await venue.close()


# streams


async def test_ticks_arrive_and_a_cut_link_comes_back(simulator: Simulator) -> None:
    heard = Prices()
    trades, links = heard.trades, heard.links
    stream: PublicStream = BybitPublicStream(simulator.ws, heard, bounds=QUICK)
    stream.want({BTC: frozenset({Topic.TRADES}), "NOPEUSDT": frozenset({Topic.TRADES})})
    async with _running(stream.run):
        assert await _soon(links) is True
        batch = [{"symbol": BTC, "price": str(price)} for price in range(60000, 60100)]
        await simulator.post("price", trades=batch)
        assert [(await _soon(trades)).price for _ in batch] == [Decimal(row["price"]) for row in batch]
        await simulator.fault("cut_socket", channel="public")
        assert await _soon(links) is False
        assert await _soon(links) is True
        await simulator.price("61000")
        assert (await _soon(trades)).price == Decimal(61000)


async def test_prices_of_a_symbol_arrive_merged(simulator: Simulator) -> None:
    heard = Prices()
    stream: PublicStream = BybitPublicStream(simulator.ws, heard, bounds=QUICK)
    stream.want({BTC: frozenset({Topic.MARK, Topic.BOOK})})
    async with _running(stream.run):
        assert await _soon(heard.marks) == (BTC, Decimal(60000))
        symbol, bid, ask = await _soon(heard.books)
        assert symbol == BTC
        assert bid <= 60000 <= ask
        await simulator.price("60500")
        assert await _soon(heard.marks) == (BTC, Decimal(60500))
        _, bid, ask = await _soon(heard.books)
        assert bid <= 60500 <= ask


async def test_a_silent_socket_is_noticed_and_left(simulator: Simulator) -> None:
    heard = Prices()
    links = heard.links
    bounds = Bounds(ping_s=0.1, silence_s=0.05, answer_s=0.1, pause_min_s=0.01, pause_max_s=0.05)
    stream: PublicStream = BybitPublicStream(simulator.ws, heard, bounds=bounds)
    stream.want({BTC: frozenset({Topic.TRADES})})
    async with _running(stream.run):
        assert await _soon(links) is True
        await simulator.fault("silent_socket", channel="public", seconds=0.3)
        assert await _soon(links) is False
        assert await _soon(links) is True


async def test_the_account_tells_what_changed(venue: Venue, simulator: Simulator) -> None:
    heard = Account()
    changes = heard.changes
    stream: PrivateStream = venue.private_stream(heard)
    async with _running(stream.run):
        assert await _soon(changes) == ""
        order = entry()
        await venue.place(order)
        assert await _soon(changes) == BTC
        fills = [await _soon(heard.fills)]
        assert fills == await venue.fills(BTC, client_order_id=order.client_order_id)
        await simulator.fault("cut_socket", channel="private")
        while await _soon(changes) != "":
            pass


@asynccontextmanager
async def _running(run: Callable[[], Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _soon(queue: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(queue.get(), 5)


async def test_an_order_that_was_signed_too_long_ago_does_not_leave(venue: Venue, simulator: Simulator) -> None:
    """A process that stood still between the commit and the send must not open what was given up meanwhile."""
    with pytest.raises(Transient):
        await venue.place(entry(signed_at=datetime.now(UTC) - timedelta(seconds=6)))
    assert (await venue.standing(BTC)).holdings == ()


async def test_a_request_carries_the_time_that_was_committed_with_it(venue: Venue, simulator: Simulator) -> None:
    await simulator.fault("delay", ms=2500, path="/v5/order/create")
    with pytest.raises(Transient):  # 3 s old when sent, 5.5 s old when it is looked at: refused there
        await venue.place(entry(signed_at=datetime.now(UTC) - timedelta(seconds=3)))
    assert (await venue.standing(BTC)).holdings == ()


async def test_everything_held_is_listed(venue: Venue) -> None:
    assert await venue.holdings() == []
    await venue.place(entry())
    [held] = await venue.holdings()
    assert (held,) == (await venue.standing(BTC)).holdings
