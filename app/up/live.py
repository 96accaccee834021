"""`levelhead doctor --live`: one real round at an account's exchange, with the smallest position that it takes.

Open a long with a stop, see that the stop rests, close, and end flat whatever happens on the way. It speaks to the
exchange as the workers do, through the same adapter, but past our tables: its client order ids begin with `doctor-`, so
that a running bot takes the fills for somebody else's and leaves them alone.
"""

import asyncio
import base64
import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from app.domain.instrument import Instrument
from app.domain.money import ZERO, floor_to_step, plain, tick_down
from app.domain.order import FINAL, OrderStatus, PositionMode, PositionSide, Side
from app.domain.position import Fill
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.ids import new_id
from app.resources import Connected
from app.venues.base import Holding, NewOrder, Venue

PREFIX: Final = "doctor-"
STOP_DISTANCE: Final = Decimal("0.05")
"""Of the price: far enough never to fire in the seconds of a round, near enough for every exchange's price bands."""
MINIMUM_MARGIN: Final = Decimal("1.02")
"""The least worth is judged at a price that may have moved a little since it was asked for."""
STEP_S: Final = 15.0
"""How long each step is waited for. Reads lag behind by seconds at both venues."""
POLL_S: Final = 0.2
ABSENT_S: Final = 10.0
"""After its receive window an order that never showed counts as never arrived this much later: reads lag."""
FLAT_S: Final = 60.0
"""How much longer than that the end is insisted on."""
CLOSE_PAUSES_S: Final = (0.4, 0.8, 1.6, 3.0)

T = TypeVar("T")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the round. `ok` is None for what is worth knowing and no fault."""

    name: str
    ok: bool | None
    detail: str
    took_ms: float


Say = Callable[[Step], None]


class _Wrong(LevelheadError):
    """A step did not end as it should; the message says what was found."""


def plays_with_real_money(connected: Connected) -> bool:
    """Whether an order there costs money. A custom server counts as real unless its address says otherwise."""
    environment = connected.account.environment
    if environment != "custom":
        return environment == "mainnet"
    host = urlsplit(connected.origins.rest).hostname or ""
    if _is_local(host) or not ("." in host or ":" in host):  # a name without a dot is of this network
        return False
    return not ("testnet" in host or "demo" in host)


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


async def trade_minimum(venue: Venue, symbol: str, say: Say, *, recv_window_ms: int) -> bool:
    """Trade one round and answer whether all went well and the account ended flat. Cancelled, it still ends flat.

    `recv_window_ms` is the adapter's: an order without an answer may arrive within it.
    """
    round_ = _Round(venue, symbol, say, absent_s=recv_window_ms / 1000 + ABSENT_S)
    try:
        return await round_.run()
    finally:
        await round_.listen_no_more()


class _Listener:
    """What the account's private stream tells during the round."""

    def __init__(self) -> None:
        self.linked = asyncio.Event()
        self.heard: dict[str, float] = {}  # client order id -> monotonic time of its first fill

    def on_fills(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            if fill.client_order_id is not None:
                self.heard.setdefault(fill.client_order_id, time.monotonic())

    def on_change(self, symbol: str) -> None:
        if symbol == "":
            self.linked.set()


class _Round:
    """The steps of one round, in order. `ordered` is what may be held because of us; never more than that is closed."""

    def __init__(self, venue: Venue, symbol: str, say: Say, *, absent_s: float) -> None:
        self.venue = venue
        self.symbol = symbol
        self.ok = True
        self._say = say
        self._listener = _Listener()
        self._listening: asyncio.Task[None] | None = None
        self._hedge = False
        self._stop: Decimal | None = None
        self._ordered = ZERO
        self._open_id = ""
        self._sent_at = time.monotonic()
        self._absent_s = absent_s

    async def run(self) -> bool:
        try:
            qty = await self._step("prepare", self._prepare)
            await self._step("private_stream", self._listen)
            await self._step("open", lambda: self._open(qty))
            await self._step("fill", self._filled)
            await self._step("fill_by_stream", self._told)
            await self._step("stop", self._stop_rests)
            await self._step("close", self._close)
        except _Ended:
            pass
        finally:
            if self._ordered:
                await _to_its_end(self._end_flat())
        return self.ok

    async def listen_no_more(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def _step(self, name: str, call: Callable[[], Awaitable[tuple[T, bool | None, str]]]) -> T:
        """Take a step and say how it went. A failed one ends the round, which then closes what it opened."""
        started = time.monotonic()
        try:
            value, ok, detail = await call()
        except LevelheadError as exc:
            self._tell(name, False, str(exc), started)
            raise _Ended from None
        self._tell(name, ok, detail, started)
        return value

    def _tell(self, name: str, ok: bool | None, detail: str, started: float) -> None:
        self.ok = self.ok and ok is not False
        self._say(Step(name=name, ok=ok, detail=detail, took_ms=(time.monotonic() - started) * 1000))

    async def _prepare(self) -> tuple[Decimal, bool, str]:
        await self.venue.server_time()  # the clock offset that orders are signed with
        instrument = await self.venue.instrument(self.symbol)
        if not instrument.trading:
            raise _Wrong(f"{self.symbol} is not traded at the moment: name another with --symbol")
        standing = await self.venue.standing(self.symbol)
        if standing.holdings:
            held = standing.holdings[0]
            raise _Wrong(
                f"the account holds {held.side} {plain(held.qty)} {self.symbol}: close it first, or name another "
                "symbol with --symbol"
            )
        if await self.venue.resting_stops(self.symbol):
            raise _Wrong(f"a stop rests for {self.symbol} without a position: remove it, or name another symbol")
        self._hedge = standing.position_mode is PositionMode.HEDGE
        quote = await self.venue.quote(self.symbol)
        qty = minimum_qty(instrument, min(quote.last, quote.mark))
        self._stop = tick_down(quote.last * (1 - STOP_DISTANCE), instrument.tick_size)
        said = f"flat, {standing.position_mode} mode; {plain(qty)} {self.symbol} at {plain(quote.last)} is the least"
        return qty, True, said

    async def _listen(self) -> tuple[None, bool, str]:
        self._listening = asyncio.create_task(self.venue.private_stream(self._listener).run())
        try:
            async with asyncio.timeout(STEP_S):
                await self._listener.linked.wait()
        except TimeoutError:
            # The workers ask where the stream is silent, so the round goes on without it.
            return None, False, f"not linked within {STEP_S:g} s"
        return None, True, "linked"

    async def _open(self, qty: Decimal) -> tuple[None, bool | None, str]:
        attaches = self.venue.traits.attaches_stops
        order = self._order(Side.BUY, qty, reduce_only=False, stop_loss=self._stop if attaches else None)
        self._open_id, self._sent_at = order.client_order_id, time.monotonic()
        self._ordered = qty  # from here on something may be held
        with_stop = f", stop {plain(self._stop or ZERO)} on it" if attaches else ""
        try:
            await self.venue.place(order)
        except OutcomeUnknown as exc:
            return None, None, f"no answer, which settles nothing: {exc}"
        except (Refused, Transient):
            self._ordered = ZERO  # surely not done
            raise
        return None, True, f"accepted: buy {plain(qty)}{with_stop}"

    async def _filled(self) -> tuple[None, bool, str]:
        async def asked() -> str | None:
            report = await self.venue.order(self.symbol, self._open_id)
            if report is None or report.status not in FINAL:
                return None
            if report.status is not OrderStatus.FILLED:
                raise _Wrong(f"the order ended {report.status}: {report.reason or 'no reason given'}")
            return f"filled {plain(report.filled_qty)} at {plain(report.avg_price or ZERO)}"

        said = await self._until(asked, "the order did not end")

        async def held() -> Holding | None:
            return (await self.venue.standing(self.symbol)).on(PositionSide.LONG)

        holding = await self._until(held, "the position is not shown")
        since = datetime.now(UTC) - timedelta(minutes=5)

        async def listed() -> Decimal | None:
            found = await self.venue.fills(self.symbol, client_order_id=self._open_id, since=since)
            return sum((fill.fee for fill in found), ZERO) if sum(f.qty for f in found) == holding.qty else None

        fees = await self._until(listed, "the fills are not listed")
        return None, True, f"{said}, fees {plain(fees)}"

    async def _told(self) -> tuple[None, bool, str]:
        async def heard() -> float | None:
            return self._listener.heard.get(self._open_id)

        try:
            at = await self._until(heard, "the private stream did not tell of the fill")
        except _Wrong as exc:
            return None, False, str(exc)
        return None, True, f"the private stream told of it {(at - self._sent_at) * 1000:.0f} ms after the send began"

    async def _stop_rests(self) -> tuple[None, bool, str]:
        price = self._stop
        assert price is not None
        if not self.venue.traits.attaches_stops:

            async def placed() -> bool | None:
                try:
                    await self.venue.set_stop(self.symbol, PositionSide.LONG, price, hedge=self._hedge)
                except (Conflict, Transient, OutcomeUnknown):
                    return None  # the position is not visible everywhere at once; setting it again is safe
                return True

            await self._until(placed, "no stop could be placed")

        async def rests() -> str | None:
            stops = await self.venue.resting_stops(self.symbol)
            return next((plain(s.price) for s in stops if s.side is PositionSide.LONG and s.price == price), None)

        return None, True, f"rests at {await self._until(rests, f'no stop rests at {plain(price)}')}"

    async def _close(self) -> tuple[None, bool, str]:
        await self._close_what_is_held()

        async def flat() -> bool | None:
            return (await self.venue.standing(self.symbol)).on(PositionSide.LONG) is None or None

        await self._until(flat, "still held after the close")
        return None, True, "flat"

    async def _close_what_is_held(self) -> bool:
        """Send a close for what is held, at most what we ordered; False when nothing is."""
        holding = (await self.venue.standing(self.symbol)).on(PositionSide.LONG)
        if holding is None:
            return False
        order = self._order(Side.SELL, min(holding.qty, self._ordered), reduce_only=True)
        with suppress(Conflict, OutcomeUnknown):  # nothing left to reduce, or it is asked for again: a close may repeat
            await self.venue.place(order)
        return True

    async def _end_flat(self) -> None:
        """Close until the exchange shows nothing held and no order of ours that could still fill."""
        started, closes, turn, trouble = time.monotonic(), 0, 0, ""
        while time.monotonic() < started + self._absent_s + FLAT_S:
            try:
                if await self._close_what_is_held():
                    closes += 1
                elif await self._nothing_to_come():
                    await self._clear_stops()
                    again = f" after {closes} more closes" if closes else ""
                    self._tell("end", True, f"flat{again}, no stop rests", started)
                    return
            except LevelheadError as exc:
                trouble = f" ({exc})"
            await asyncio.sleep(CLOSE_PAUSES_S[min(turn, len(CLOSE_PAUSES_S) - 1)])
            turn += 1
        self._tell(
            "end",
            False,
            f"NOT PROVEN FLAT{trouble}: look at {self.symbol} at the exchange, and close it there",
            started,
        )

    async def _nothing_to_come(self) -> bool:
        """Whether the opening has ended: one without an answer may arrive for a while."""
        report = await self.venue.order(self.symbol, self._open_id)
        if report is None:
            return time.monotonic() > self._sent_at + self._absent_s
        return report.status in FINAL

    async def _clear_stops(self) -> None:
        """The exchange takes a stop away with its position, sometimes seconds later; what is left we remove."""

        async def gone() -> bool | None:
            if not any(stop.side is PositionSide.LONG for stop in await self.venue.resting_stops(self.symbol)):
                return True
            with suppress(Conflict):
                await self.venue.set_stop(self.symbol, PositionSide.LONG, None, hedge=self._hedge)
            return None

        await self._until(gone, "a stop still rests")

    def _order(self, side: Side, qty: Decimal, *, reduce_only: bool, stop_loss: Decimal | None = None) -> NewOrder:
        return NewOrder(
            client_order_id=PREFIX + base64.b32encode(new_id().bytes).decode().rstrip("=").lower(),
            symbol=self.symbol,
            side=side,
            qty=qty,
            reduce_only=reduce_only,
            hedge=self._hedge,
            signed_at=datetime.now(UTC),
            stop_loss=stop_loss,
        )

    async def _until(self, look: Callable[[], Awaitable[T | None]], otherwise: str) -> T:
        """Look until something is seen. Raises _Wrong after STEP_S; a failed look is not an answer."""
        trouble = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(STEP_S):
                while True:
                    try:
                        found = await look()
                    except (Transient, OutcomeUnknown) as exc:
                        found, trouble = None, f" ({exc})"
                    if found is not None:
                        return found
                    await asyncio.sleep(POLL_S)
        raise _Wrong(f"{otherwise} within {STEP_S:g} s{trouble}")


class _Ended(Exception):
    """A step failed and was told of."""


async def _to_its_end(work: Awaitable[None]) -> None:
    """Finish `work` even while being cancelled: Ctrl-C must not leave a position behind."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise


def minimum_qty(instrument: Instrument, price: Decimal) -> Decimal:
    """The least that may be opened at about this price. Rounded up, and only here: less would be refused."""
    least = max(instrument.qty_min, instrument.notional_min * MINIMUM_MARGIN / price)
    qty = (least / instrument.qty_step).to_integral_value(rounding=ROUND_CEILING) * instrument.qty_step
    if qty > floor_to_step(instrument.market_qty_max, instrument.qty_step):
        raise _Wrong(f"{instrument.symbol} takes no market order as small as its minimum: name another with --symbol")
    return qty
