"""Bybit's sockets: public trades, and the private one that says when something changed.

Quirks; the pages are under https://bybit-exchange.github.io/docs/v5/ and were read in July 2026:
1. The client pings with JSON every 20 seconds, or is cut off after ten minutes (ws/connect). The answer has two
   shapes; any frame counts as a sign of life.
2. A dead link often shows as silence, so a ping without anything after it ends the link.
3. An acknowledgement may lack the `req_id` that was sent. Whether the good topics of a partly refused request count is
   not documented: one request per symbol, and data confirms it as well.
4. At most 500 new connections per five minutes: the pause between attempts shrinks only after a link that lasted.
5. Nothing is replayed after a reconnect: what was missed has to be asked for.
6. All categories arrive on the private topics.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from app.domain.money import ZERO
from app.keys import Credentials
from app.log import event
from app.venues.base import OnLink, OnTrades
from app.venues.bybit_wire import (
    LOOSE_FRAME,
    PRIVATE_FRAME,
    PUBLIC_FRAME,
    TRADE_ROW,
    PublicFrame,
    TradeRow,
    signer,
)

log = logging.getLogger(__name__)
# picows tells of each connect and disconnect itself; the links below say it once and with its reason.
_picows_log = logging.getLogger(f"{__name__}.picows")
_picows_log.setLevel(logging.ERROR)

PING = b'{"op":"ping"}'
TRADES = "publicTrade."
PRIVATE_TOPICS = ("order", "execution", "position")
_TOPIC_IN_TEXT = re.compile(rf"{re.escape(TRADES)}([A-Za-z0-9_-]+)")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long a link waits for what. All in seconds."""

    ping_s: float = 20.0
    silence_s: float = 10.0  # nothing at all this long after a ping: the link is dead
    connect_s: float = 5.0
    answer_s: float = 2.0  # for a subscription's or an authentication's answer
    pause_min_s: float = 0.1
    pause_max_s: float = 5.0
    refused_pause_s: float = 30.0  # after credentials were refused


class _Link:
    """A socket that is kept: connect, ping, notice silence, reconnect for ever. Subclasses say what is on it."""

    name = ""

    def __init__(self, url: str, bounds: Bounds) -> None:
        self.last_frame_monotonic = float("-inf")  # when the last frame of any kind arrived
        self._url = url
        self._bounds = bounds
        self._transport: WSTransport | None = None
        self._pause_s: float | None = None  # what the next pause has to be, if the subclass knows better
        self._reason = ""
        self._complaints: set[str] = set()

    async def run(self) -> None:
        bounds, failures = self._bounds, 0
        while True:
            started = time.monotonic()
            self._reason, self._pause_s = "the exchange closed it", None
            try:
                await self._connect_once()
            except (OSError, WSError, TimeoutError) as exc:
                self._reason = f"{type(exc).__name__} {exc}".strip()
            except Exception:
                # A link is never given up, and what is wrong with it is a bug that has to be seen.
                log.exception("stream failed")
            failures = 0 if time.monotonic() - started > bounds.pause_max_s else failures + 1  # quirk 4
            pause_s = min(bounds.pause_max_s, bounds.pause_min_s * 2 ** min(failures, 16)) * random.uniform(0.5, 1)
            if self._pause_s is not None:
                pause_s = self._pause_s
            self._note(logging.WARNING, "stream lost", reason=self._reason, again_in_s=round(pause_s, 2))
            await asyncio.sleep(pause_s)

    async def _connect_once(self) -> None:
        connect_s = self._bounds.connect_s
        async with asyncio.timeout(2 * connect_s):
            transport, _ = await ws_connect(
                lambda: _Listener(self),
                self._url,
                websocket_handshake_timeout=connect_s,
                disconnect_on_exception=False,
                logger_name=_picows_log,
            )
        self._transport = transport
        watchdog = asyncio.create_task(self._watch())
        try:
            self._opened()
            await transport.wait_disconnected()
        finally:
            self._transport = None
            watchdog.cancel()
            transport.disconnect(graceful=False)
            self._lost()

    async def _watch(self) -> None:
        """Ping, and end the link when nothing follows."""
        bounds = self._bounds
        while True:
            pinged = time.monotonic()
            self._send(PING)  # quirk 1
            await asyncio.sleep(bounds.silence_s)
            if self.last_frame_monotonic < pinged:  # quirk 2
                self._drop(f"silent for {bounds.silence_s:g} s after a ping")
                return
            await asyncio.sleep(max(0.0, bounds.ping_s - bounds.silence_s))

    def _send(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, message)

    def _drop(self, reason: str) -> None:
        self._reason = reason
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _note(self, level: int, msg: str, **fields: object) -> None:
        event(log, level, msg, venue="bybit", stream=self.name, **fields)

    def _complain(self, kind: str, **fields: object) -> None:
        """Once per kind: a frame that can't be used comes a thousand times or never."""
        if kind not in self._complaints:
            self._complaints.add(kind)
            self._note(logging.WARNING, f"frame skipped: {kind}", **fields)

    def _guard(self, callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except Exception:
            log.exception("a callback of the %s stream failed", self.name)

    def _opened(self) -> None:
        raise NotImplementedError

    def _lost(self) -> None:
        raise NotImplementedError

    def _received(self, payload: memoryview | bytes) -> None:
        raise NotImplementedError


class _Listener(WSListener):
    """One connection's frames; a message in several frames is put together."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._parts: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._link.last_frame_monotonic = time.monotonic()
        kind = frame.msg_type
        if kind == WSMsgType.TEXT and frame.fin:
            self._deliver(frame.get_payload_as_memoryview())
        elif kind == WSMsgType.TEXT or kind == WSMsgType.CONTINUATION:
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._deliver(whole)
        elif kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _deliver(self, payload: memoryview | bytes) -> None:
        link = self._link
        try:
            link._received(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            link._complain("unreadable", error=type(exc).__name__)
        except Exception:
            log.exception("a frame of the %s stream failed", link.name)


class BybitPublicStream(_Link):
    """Public trades of the wanted symbols: see `PublicStream`."""

    name = "public"

    def __init__(self, ws_origin: str, on_trades: OnTrades, on_link: OnLink, *, bounds: Bounds | None = None) -> None:
        super().__init__(f"{ws_origin.rstrip('/')}/v5/public/linear", bounds or Bounds())
        self.dropped = 0  # trades without a usable price
        self._on_trades = on_trades
        self._on_link = on_link
        self._wanted: set[str] = set()
        self._unconfirmed: set[str] = set()
        self._up = False
        self._deadline: asyncio.TimerHandle | None = None

    def want(self, symbols: set[str]) -> None:
        before, self._wanted = self._wanted, set(symbols)
        if self._transport is None:
            return
        for symbol in sorted(self._wanted - before):
            self._ask("subscribe", symbol)
        for symbol in sorted(before - self._wanted):
            self._ask("unsubscribe", symbol)
            self._confirmed(symbol)
        self._announce_if_complete()

    def _opened(self) -> None:
        self._unconfirmed = set()
        self._deadline = asyncio.get_running_loop().call_later(self._bounds.answer_s, self._announce)
        for symbol in sorted(self._wanted):
            self._ask("subscribe", symbol)
        self._announce_if_complete()

    def _lost(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._up:
            self._up = False
            self._guard(self._on_link, False)

    def _received(self, payload: memoryview | bytes) -> None:
        try:
            frame = PUBLIC_FRAME.decode(payload)
        except msgspec.ValidationError:
            frame = self._decode_loosely(payload)
        if frame.data:
            trades = frame.data
            for trade in trades:
                if not (trade.price.is_finite() and trade.price > ZERO):
                    trades = self._sound(trades)
                    break
            if self._unconfirmed:
                self._confirmed(frame.topic.removeprefix(TRADES))
            if trades:
                self._guard(self._on_trades, trades)
        elif frame.op == "subscribe":
            self._subscribed(frame)

    def _decode_loosely(self, payload: memoryview | bytes) -> PublicFrame:
        """A frame of which something is not as documented: keep the rows that are."""
        loose = LOOSE_FRAME.decode(payload)
        frame = PublicFrame(topic=loose.topic)
        if not loose.topic.startswith(TRADES):
            self._complain("of an unknown shape", topic=loose.topic)
            return frame
        rows: list[TradeRow] = []
        for raw in loose.data:
            try:
                rows.append(TRADE_ROW.decode(raw))
            except msgspec.ValidationError as exc:
                self.dropped += 1
                self._complain("a trade that can't be read", topic=loose.topic, error=str(exc))
        frame.data = rows
        return frame

    def _sound(self, trades: list[TradeRow]) -> list[TradeRow]:
        sound = [trade for trade in trades if trade.price.is_finite() and trade.price > ZERO]
        self.dropped += len(trades) - len(sound)
        self._complain("a trade without a price above zero", symbol=trades[0].symbol)
        return sound

    def _ask(self, op: str, symbol: str) -> None:
        if op == "subscribe":
            self._unconfirmed.add(symbol)
        self._send(msgspec.json.encode({"op": op, "req_id": symbol, "args": [f"{TRADES}{symbol}"]}))  # quirk 3

    def _subscribed(self, frame: PublicFrame) -> None:
        named = _TOPIC_IN_TEXT.search(frame.ret_msg)
        symbol = frame.req_id or (named[1] if named else "")
        if not frame.success:
            self._note(logging.WARNING, "subscription refused", symbol=symbol or "?", reason=frame.ret_msg)
        self._confirmed(symbol)

    def _confirmed(self, symbol: str) -> None:
        self._unconfirmed.discard(symbol)
        self._announce_if_complete()

    def _announce_if_complete(self) -> None:
        if not self._unconfirmed:
            self._announce()

    def _announce(self) -> None:
        if self._up or self._transport is None:
            return
        self._up = True
        self._note(logging.INFO, "stream up", symbols=len(self._wanted), unconfirmed=len(self._unconfirmed))
        self._guard(self._on_link, True)


class BybitPrivateStream(_Link):
    """What changed in the account: see `PrivateStream`."""

    name = "private"

    def __init__(
        self,
        ws_origin: str,
        credentials: Credentials,
        on_change: Callable[[str], None],
        *,
        bounds: Bounds | None = None,
    ) -> None:
        """Raises Refused when the credentials are of no use to Bybit."""
        super().__init__(f"{ws_origin.rstrip('/')}/v5/private", bounds or Bounds())
        self._key = credentials.api_key
        self._sign = signer(credentials)
        self._on_change = on_change
        self._deadline: asyncio.TimerHandle | None = None

    def _opened(self) -> None:
        expires_ms = int((time.time() + 10) * 1000)
        signature = self._sign(f"GET/realtime{expires_ms}".encode())
        self._ask({"op": "auth", "args": [self._key, expires_ms, signature]})

    def _lost(self) -> None:
        self._answered()

    def _received(self, payload: memoryview | bytes) -> None:
        frame = PRIVATE_FRAME.decode(payload)
        if frame.topic:
            if frame.topic.partition(".")[0] in PRIVATE_TOPICS:
                symbols = dict.fromkeys(row.symbol for row in frame.data if row.category == "linear")  # quirk 6
                for symbol in symbols:
                    if symbol:
                        self._guard(self._on_change, symbol)
        elif frame.op == "auth":
            self._answered()
            if frame.success:
                self._ask({"op": "subscribe", "args": list(PRIVATE_TOPICS)})
            else:
                self._pause_s = self._bounds.refused_pause_s
                self._drop(f"the key was refused: {frame.ret_msg or 'no reason given'}")
        elif frame.op == "subscribe":
            self._answered()
            if frame.success:
                self._note(logging.INFO, "stream up")
                self._guard(self._on_change, "")  # quirk 5
            else:
                self._pause_s = self._bounds.refused_pause_s
                self._drop(f"the subscription was refused: {frame.ret_msg or 'no reason given'}")

    def _ask(self, operation: dict[str, Any]) -> None:
        self._send(msgspec.json.encode(operation))
        self._deadline = asyncio.get_running_loop().call_later(
            self._bounds.answer_s, self._drop, f"no answer to {operation['op']}"
        )

    def _answered(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
