"""What flows see of an exchange: neutral Structs and one Protocol. Wire shapes stay inside the adapters.

Every method raises only `Refused`, `Transient`, `OutcomeUnknown` or `Conflict` of `app.errors`: what they mean for an
order is in `Venue.place`. A read that fails raises `Transient`; it never answers "flat" or "nothing" instead.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import msgspec

from app.domain.instrument import Instrument
from app.domain.order import MarginMode, OrderStatus, PositionMode, PositionSide, Side
from app.domain.position import Fill


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue's rules allow; the same for all of its accounts."""

    attaches_stops: bool  # a native stop can ride on the opening order; else it is placed right after the fill
    refuses_used_ids: bool  # the client order id of an ended order is refused; else it may be used again
    sets_margin_mode: bool  # of a symbol, before it is traded; else it is the account's and only compared
    order_limits: tuple[str, ...] = ()  # names at the gate of what counts orders


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """Where a venue is reached: origins only (`https://api.bybit.com`, `wss://stream.bybit.com`)."""

    rest: str
    ws: str
    ws_private: str | None = None  # the private stream's, where it has a host of its own
    ws_orders: str | None = None  # order entry's, where it has a host of its own; "": there is none

    @property
    def orders(self) -> str:
        """Where orders are sent over a socket; "" where they are not."""
        return self.ws if self.ws_orders is None else self.ws_orders


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A market order. `stop_loss` rests at the venue from the moment of the fill on; never with `reduce_only`, and
    only where `Traits.attaches_stops`.

    In hedge mode (`hedge`) the order names the side that it opens or closes; a close is then bound to its side instead
    of, or besides, being reduce-only, as the venue wants it.

    `signed_at` is the instant that was committed with it. The request carries this and no later time, so a venue
    refuses it once its receive window is over, however long this process stood still before sending.
    """

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    reduce_only: bool
    hedge: bool = False
    signed_at: datetime
    stop_loss: Decimal | None = None

    @property
    def position_side(self) -> PositionSide:
        """The side that it opens or closes."""
        return PositionSide.LONG if (self.side is Side.BUY) is not self.reduce_only else PositionSide.SHORT


Prepared: TypeAlias = Any
"""An order as a venue writes it, as far as it can be written before it leaves. Only the venue knows its shape."""

Placing = Callable[[], Awaitable[str]]
"""To be called once, and awaited: what `Venue.place` answers or raises, of an order that has left."""


class OrderReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue says of one order. `status` is one of ACCEPTED, FILLED, CANCELLED, REJECTED."""

    client_order_id: str
    venue_order_id: str
    symbol: str
    status: OrderStatus
    filled_qty: Decimal
    avg_price: Decimal | None
    reason: str | None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue says is held on one side; `qty` is above 0. `stop_loss` is the native stop's price."""

    symbol: str
    side: PositionSide
    qty: Decimal
    entry_price: Decimal
    stop_loss: Decimal | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a symbol stands at the venue: how it is set up for this account, and what is held (nothing: flat)."""

    symbol: str
    position_mode: PositionMode
    margin_mode: MarginMode | None  # None: the venue does not say, or has a third kind
    leverage: Decimal | None
    holdings: tuple[Holding, ...]  # at most one in one-way mode, at most one a side in hedge mode

    def on(self, side: PositionSide) -> Holding | None:
        """What is held on this side."""
        return next((holding for holding in self.holdings if holding.side is side), None)


class RestingStop(msgspec.Struct, frozen=True, kw_only=True):
    """A closing stop order that rests at the venue."""

    side: PositionSide  # of the position that it would close
    price: Decimal


class Equity(msgspec.Struct, frozen=True, kw_only=True):
    """In quote currency (USDT/USD). `available` is what new positions may use as margin."""

    equity: Decimal
    available: Decimal


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """Prices now; a best one is None where that side of the book is empty or the venue's answer does not have it."""

    last: Decimal
    mark: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None


class Trade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One public trade: the tick that levels are compared with."""

    symbol: str
    trade_id: str
    price: Decimal
    at_ms: int  # exchange time


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of trades; `start` is its first instant."""

    start: datetime
    high: Decimal
    low: Decimal
    close: Decimal


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What the key may do; `detail` is a sentence for a person."""

    can_trade: bool
    can_withdraw: bool | None  # None: the venue does not say
    ip_restricted: bool | None  # None: the venue does not say
    detail: str


class Venue(Protocol):
    """One account at one venue."""

    traits: Traits

    @property
    def clock_offset_ms(self) -> int:
        """The venue's clock minus this machine's, as last measured; requests are stamped with it corrected."""
        ...

    async def server_time(self) -> datetime:
        """The venue's clock; asking measures the offset too."""
        ...

    async def permissions(self) -> Permissions: ...

    async def test_order(self, symbol: str) -> bool:
        """Have a signed market order checked by the venue without placing it.

        True: it would be accepted. False: this venue has no such call. Refused with the venue's reason otherwise.
        """
        ...

    async def instrument(self, symbol: str) -> Instrument:
        """Rules of an instrument: cached, refreshed on schedule and after an order was refused by a filter.

        Refused(unknown_symbol) when the venue lists no such USDT perpetual.
        """
        ...

    async def equity(self) -> Equity: ...

    async def standing(self, symbol: str) -> Standing:
        """How one symbol stands: mode, leverage, what is held on each side with its native stop."""
        ...

    async def holdings(self) -> list[Holding]:
        """Everything that is held, each with its native stop; what is not listed is flat."""
        ...

    async def quote(self, symbol: str) -> Quote: ...

    async def last_prices(self, symbols: Collection[str]) -> dict[str, Decimal]:
        """Last prices of these symbols, of those that the venue lists; cheaper than a quote of each."""
        ...

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Set it for both sides; already so is success."""
        ...

    async def set_margin_mode(self, symbol: str, mode: MarginMode) -> None:
        """Set it for the symbol; already so is success. Refused, with the cure, where it is not ours to change."""
        ...

    async def place(self, order: NewOrder) -> str:
        """Send a market order and answer the venue's order id: accepted for matching, not filled.

        Refused: the venue said no; it is final. Transient: surely not done (refused connection, rate limit, clock).
        OutcomeUnknown: maybe done: ask `order` and `fills` for the client order id.
        Conflict: the id was used before (it arrived earlier), or a reduce-only order found nothing to reduce.
        """
        ...

    def prepared(self, order: NewOrder) -> Prepared:
        """An order to be sent by `place_now`, whatever its `signed_at` will be; by any account at this venue."""
        ...

    def place_now(self, prepared: Prepared, signed_ms: int) -> Placing | None:
        """As `place`, where the order can leave at this instant, which it is signed with: it is written when this
        returns.

        None: nothing has left, and `place` is what sends it, or says why it can't.
        """
        ...

    async def order(self, symbol: str, client_order_id: str) -> OrderReport | None:
        """The order by our id, live or ended; None when the venue shows none (no proof of absence for a while)."""
        ...

    async def fills(
        self, symbol: str, *, client_order_id: str | None = None, since: datetime | None = None
    ) -> list[Fill]:
        """Executions that changed a position, oldest first; all pages.

        With both, those of the client order id, looked for from `since` on where the venue cannot look it up.
        """
        ...

    async def set_stop(
        self, symbol: str, side: PositionSide, price: Decimal | None, *, hedge: bool, qty: Decimal | None = None
    ) -> None:
        """Place or move the native stop of the whole position, or remove it (None). Already so is success.

        A move never leaves the position without a stop. `qty` is what is held by our fills: a venue that does not show
        the position yet may place a stop of that quantity meanwhile. Refused(stop_wrong_side) when the price is already
        beyond it; Conflict(kind="no_position") when there is no position.
        """
        ...

    async def resting_stops(self, symbol: str) -> list[RestingStop]:
        """The closing stop orders that rest for the symbol."""
        ...

    async def trades_since(self, symbol: str, since: datetime, *, lead: timedelta = timedelta()) -> list[Trade] | None:
        """Public trades after `since`, oldest first; None when the venue's memory does not reach back that far. Before
        them those of the `lead` to it, as many as it remembers.
        """
        ...

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        """One-minute candles that start at or after `since`, oldest first, the unfinished one included."""
        ...

    def private_stream(self, listener: "PrivateListener") -> "PrivateStream":
        """A new stream of this account's events, not running yet."""
        ...

    async def close(self) -> None: ...


class Topic(StrEnum):
    """What of a symbol is followed."""

    TRADES = "trades"
    MARK = "mark"  # the mark price
    BOOK = "book"  # best bid and ask


class PublicListener(Protocol):
    """Who hears a public stream. Called from the event loop's thread, in the order of arrival; must not block."""

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """One frame's trades, in order; all of one symbol."""
        ...

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None: ...

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        """The best prices; None where that side of the book is empty."""
        ...

    def on_link(self, up: bool) -> None:
        """False when a link is lost, True each time everything is linked and subscribed again.

        What was traded between the two has to be asked for.
        """
        ...


class PublicStream(Protocol):
    """Sockets that deliver public prices; they reconnect for ever and restore what was subscribed."""

    async def run(self) -> None:
        """Keep the links until cancelled."""
        ...

    def want(self, topics: Mapping[str, frozenset[Topic]]) -> None:
        """Make this what is subscribed, symbol -> topics; at once if linked, else at the next connect."""
        ...

    def renew(self, symbol: str) -> None:
        """Subscribe a symbol anew, of which nothing arrives although it trades; connect anew what is silent at all."""
        ...


class PrivateListener(Protocol):
    """Who hears an account's private stream. Called from the event loop's thread; must not block."""

    def on_fills(self, fills: Sequence[Fill]) -> None:
        """Executions that changed a position, as they come: perhaps twice, perhaps out of order."""
        ...

    def on_change(self, symbol: str) -> None:
        """Orders or the position of a symbol changed: look. "" after each (re)connect: anything may have changed."""
        ...


class PrivateStream(Protocol):
    """A socket that delivers an account's events; it reconnects for ever. Nothing is replayed after a gap."""

    async def run(self) -> None: ...
