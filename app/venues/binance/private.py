"""Binance's private socket: executions of an account, and what else changed.

Quirks; …/user-data-streams, read in May 2026, and public logs of 2026:
1. The socket is opened with a listen key that lives an hour unless it is renewed. POST answers the same key while it
   lives, and DELETE would cut every other program of the account: it is never sent.
2. After `listenKeyExpired` nothing more comes and the socket stays up.
3. Nothing is replayed after a reconnect: what was missed has to be asked for.
4. TRADE_LITE comes ahead of an execution and lacks fee and status; retired events still come. Both are left out.
5. Liquidation and ADL are executions of the type CALCULATED. An ordinary order's remainder may expire with a quantity
   of zero.
"""

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from app.domain.money import ZERO
from app.domain.position import Fill
from app.errors import Transient
from app.venues.base import PrivateListener
from app.venues.binance import rows, wire
from app.venues.binance.failures import asking
from app.venues.binance.frames import (
    EVENT,
    PRIVATE_FRAME,
    AccountUpdate,
    AlgoUpdate,
    ConfigUpdate,
    KeyExpired,
    MarginCall,
    OrderEvent,
    OrderUpdate,
)
from app.venues.binance.http import BinanceHttp
from app.venues.binance.limits import attempts_at
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.kinds import Kind
from app.venues.link import Bounds, Link
from app.venues.numbers import Unreadable, instant, number, required

log = logging.getLogger(__name__)

RENEW_EVERY_S = 1800.0
RENEW_AGAIN_S = 60.0
EXECUTIONS = frozenset({"TRADE", "CALCULATED"})
LEFT_OUT = frozenset({"TRADE_LITE", "STRATEGY_UPDATE", "GRID_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT"})


class BinancePrivateStream(Link):
    """See `PrivateStream`. `on_setup` is called when the account's or a symbol's settings changed.

    Of symbols that are not `ours` (margined in something else, dated) nothing is told.
    """

    venue = "binance"
    name = "private"

    def __init__(
        self,
        ws_origin: str,
        http: BinanceHttp,
        listener: PrivateListener,
        *,
        on_setup: Callable[[], None] = lambda: None,
        ours: Callable[[str], bool] = lambda symbol: True,
        bounds: Bounds | None = None,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        super().__init__(f"{ws_origin.rstrip('/')}/private/ws", bounds or Bounds())
        self._http = http
        self._attempts = attempts_at(ws_origin.rstrip("/"))
        self._listener = listener
        self._on_setup = on_setup
        self._ours = ours
        self._renew_every_s = renew_every_s
        self._key = ""
        self._renewal: asyncio.Task[None] | None = None

    async def _address(self) -> str:
        await self._attempts.take()
        with asking():
            self._key = wire.LISTEN_KEY.decode(await self._http.listen_key("post")).listenKey  # quirk 1
        return f"{self._url}/{quote(self._key, safe='')}"

    def _opened(self) -> None:
        self.up = True
        self._renewal = asyncio.create_task(self._renew())
        self._note(logging.INFO, "stream up")
        self._guard(self._listener.on_change, "")  # quirk 3

    def _lost(self) -> None:
        self.up = False
        if self._renewal is not None:
            self._renewal.cancel()

    async def _renew(self) -> None:
        pause_s = self._renew_every_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(RENEW_AGAIN_S, self._renew_every_s)
            try:
                body = await self._http.listen_key("put")
                if wire.LISTEN_KEY.decode(body).listenKey not in (self._key, ""):
                    self._drop("the listen key is another one now")
                pause_s = self._renew_every_s
            except VenueSaid as said:
                if said.kind is Kind.GONE:
                    self._drop("the listen key is gone")
                else:
                    self._note(logging.WARNING, "listen key not renewed", reason=said.text)
            except (NotSent, NoAnswer, Transient) as exc:
                self._note(logging.WARNING, "listen key not renewed", reason=str(exc))
            except Exception:
                log.exception("listen key not renewed")

    def _received(self, payload: memoryview | bytes) -> None:
        try:
            frame = PRIVATE_FRAME.decode(payload)
        except msgspec.ValidationError as exc:
            self._unknown(payload, exc)
            return
        match frame:
            case OrderUpdate():
                self._order_changed(frame.order)
            case AccountUpdate():
                self._changed([position.symbol for position in frame.account.positions])
            case AlgoUpdate():
                self._changed([frame.order.symbol])
            case ConfigUpdate():
                self._on_setup()
                self._changed([] if frame.of_symbol is None else [frame.of_symbol.symbol])
            case MarginCall():
                self._changed([position.symbol for position in frame.positions])
            case KeyExpired():  # quirk 2
                self._pause_s = self._bounds.pause_min_s
                self._drop("the listen key expired")

    def _order_changed(self, order: OrderEvent) -> None:
        if order.event in EXECUTIONS and order.trade_id > 0 and self._ours(order.symbol):
            try:
                fill = execution(order)
            except Unreadable as exc:
                self._complain("an execution that can't be read", symbol=order.symbol, error=str(exc))
            else:
                if fill is not None:
                    self._guard(self._listener.on_fills, [fill])
                    return
        self._changed([order.symbol])

    def _changed(self, symbols: list[str]) -> None:
        for symbol in dict.fromkeys(symbols):
            if symbol and self._ours(symbol):
                self._guard(self._listener.on_change, symbol)

    def _unknown(self, payload: memoryview | bytes, exc: msgspec.ValidationError) -> None:
        """A frame of another kind, or one of ours that is not as documented: then anything may have changed."""
        event = EVENT.decode(payload).e
        if event in LEFT_OUT:
            return
        self._complain(f"of an unknown shape: {event or '?'}", error=str(exc))
        if event in ("ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ALGO_UPDATE"):
            self._guard(self._listener.on_change, "")


def execution(order: OrderEvent) -> Fill | None:
    """None where nothing was executed. Raises Unreadable."""
    qty = required(order.qty, "l")
    if qty <= 0:
        return None
    return Fill(
        venue_fill_id=str(order.trade_id),
        venue_order_id=str(order.order_id),
        client_order_id=order.client_id or None,
        origin=rows.origin(order.client_id),
        symbol=order.symbol,
        side=rows.side(order.side),
        position_side=rows.POSITION_SIDES_READ.get(order.position_side),
        qty=qty,
        price=required(order.price, "L"),
        fee=number(order.fee) or ZERO,
        fee_currency=order.fee_asset or "USDT",
        filled_at=instant(order.at_ms),
    )
