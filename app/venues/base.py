"""What flows see of an exchange: neutral Structs and one Protocol. Wire shapes stay inside the adapters.

Every method raises only `Refused`, `Transient`, `OutcomeUnknown` or `Conflict` of `app.errors`: what they mean for an
order is in `Venue.place`. A read that fails raises `Transient`; it never answers "flat" or "nothing" instead.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from app.domain.instrument import Instrument
from app.domain.order import OrderStatus, PositionSide, Side
from app.domain.position import Fill


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """Where a venue is reached: origins only (`https://api.bybit.com`, `wss://stream.bybit.com`)."""

    rest: str
    ws: str
    ws_private: str | None = None  # the private stream's, where it has a host of its own


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A market order. `stop_loss` rests at the venue from the moment of the fill on; never with `reduce_only`.

    `signed_at` is the instant that was committed with it. The request carries this and no later time, so a venue
    refuses it once its receive window is over, however long this process stood still before sending.
    """

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    reduce_only: bool
    signed_at: datetime
    stop_loss: Decimal | None = None


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
    """What the venue says is held; `side` is None and `qty` 0 when flat. `stop_loss` is the native stop's price."""

    symbol: str
    side: PositionSide | None
    qty: Decimal
    entry_price: Decimal | None
    stop_loss: Decimal | None
    leverage: Decimal | None


class Equity(msgspec.Struct, frozen=True, kw_only=True):
    """In quote currency (USDT/USD). `available` is what new positions may use as margin."""

    equity: Decimal
    available: Decimal


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    last: Decimal
    mark: Decimal


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
    can_withdraw: bool
    ip_restricted: bool
    detail: str


class Venue(Protocol):
    """One account at one venue."""

    async def server_time(self) -> datetime: ...

    async def permissions(self) -> Permissions: ...

    async def instrument(self, symbol: str) -> Instrument:
        """Rules of an instrument, cached for an hour. Refused(unknown_symbol) when the venue lists none."""
        ...

    async def equity(self) -> Equity: ...

    async def holding(self, symbol: str) -> Holding: ...

    async def holdings(self) -> list[Holding]:
        """Everything that is held; what is not listed is flat."""
        ...

    async def quote(self, symbol: str) -> Quote: ...

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Set it for both sides; already so is success."""
        ...

    async def place(self, order: NewOrder) -> str:
        """Send a market order and answer the venue's order id: accepted for matching, not filled.

        Refused: the venue said no; it is final. Transient: surely not done (refused connection, rate limit, clock).
        OutcomeUnknown: maybe done: ask `order` and `fills` for the client order id.
        Conflict: the id was used before (it arrived earlier), or a reduce-only order found nothing to reduce.
        """
        ...

    async def order(self, symbol: str, client_order_id: str) -> OrderReport | None:
        """The order by our id, live or ended; None when the venue shows none (no proof of absence for a while)."""
        ...

    async def fills(
        self, symbol: str, *, client_order_id: str | None = None, since: datetime | None = None
    ) -> list[Fill]:
        """Executions that changed a position, oldest first; all pages."""
        ...

    async def set_stop(self, symbol: str, side: PositionSide, price: Decimal | None) -> None:
        """Place or move the native stop of the whole position, or remove it (None). Already so is success.

        Refused(stop_wrong_side) when the price is already beyond it; Conflict when there is no position.
        """
        ...

    async def resting_stops(self, symbol: str) -> list[Decimal]:
        """Trigger prices of the closing stop orders that rest for the symbol."""
        ...

    async def trades_since(self, symbol: str, since: datetime) -> list[Trade] | None:
        """Public trades after `since`, oldest first; None when the venue's memory does not reach back that far."""
        ...

    async def candles_since(self, symbol: str, since: datetime) -> list[Candle]:
        """One-minute candles that start at or after `since`, oldest first, the unfinished one included."""
        ...

    async def close(self) -> None: ...


OnTrades = Callable[[Sequence[Trade]], None]
OnLink = Callable[[bool], None]


class PublicStream(Protocol):
    """One socket that delivers public trades; it reconnects for ever and restores what was subscribed.

    `on_trades` gets each frame's trades in order, from the event loop's thread, and must not block. `on_link(False)`
    is called when the link is lost, `on_link(True)` each time it is up again with everything subscribed: what was
    traded between the two has to be asked for.
    """

    async def run(self) -> None:
        """Keep the link until cancelled."""
        ...

    def want(self, symbols: set[str]) -> None:
        """Make this the set of subscribed symbols; at once if linked, else at the next connect."""
        ...


class PrivateStream(Protocol):
    """One socket that says when something changed in the account; what changed is then read by REST.

    `on_change(symbol)` names the symbol, or "" after each (re)connect, when anything may have changed.
    """

    async def run(self) -> None: ...
