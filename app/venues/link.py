"""A socket that is kept, whatever the venue: connect, ping, notice silence, reconnect for ever.

Subclasses say what is on it. A bug in them or in a callback never ends a link.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from app.errors import LevelheadError, Refused
from app.log import event

log = logging.getLogger(__name__)
# picows tells of each connect and disconnect itself; a link says it once and with its reason.
_picows_log = logging.getLogger(f"{__name__}.picows")
_picows_log.setLevel(logging.ERROR)


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long a link waits for what. All in seconds."""

    ping_s: float = 20.0
    silence_s: float = 10.0  # nothing at all this long after a ping: the link is dead
    connect_s: float = 5.0
    answer_s: float = 2.0  # for a subscription's or an authentication's answer
    # Venues count new connections (Bybit: 500 per five minutes): the pause grows with each failure and shrinks only
    # after a link that lasted.
    pause_min_s: float = 0.1
    pause_max_s: float = 5.0
    refused_pause_s: float = 30.0  # after credentials were refused; twice as long each time, up to
    refused_pause_max_s: float = 600.0


class Link:
    """One socket. A subclass gives `venue`, `name` and `ping`, and fills in `_opened`, `_lost` and `_received`.

    `_opened` and `_lost` come in pairs, once a connection; between the two `_send` sends. `_received` gets whole text
    messages; the memoryview is valid during the call only.
    """

    venue = ""  # both for notes only
    name = ""
    ping: bytes | None = None  # the venue's own message that it answers; None: a ping frame of the protocol
    up = False  # linked, and what was asked for is subscribed: the subclass keeps it, a `Bundle` reads it

    def __init__(self, url: str, bounds: Bounds) -> None:
        self.last_frame_monotonic = float("-inf")  # when the last frame of any kind arrived
        self._url = url
        self._bounds = bounds
        self._transport: WSTransport | None = None
        self._pause_s: float | None = None  # what the next pause has to be, if the subclass knows better
        self._reason = ""
        self._complaints: set[str] = set()

    async def run(self) -> None:
        bounds, failures, refusals, said = self._bounds, 0, 0, ""
        while True:
            started = time.monotonic()
            self._reason, self._pause_s = "the exchange closed it", None
            try:
                await self._connect_once()
            except Refused as exc:
                self._reason, self._pause_s = exc.reason, bounds.refused_pause_s
            except (OSError, WSError, TimeoutError, LevelheadError) as exc:
                self._reason = f"{type(exc).__name__} {exc}".strip()
            except Exception:
                # A link is never given up, and what is wrong with it is a bug that has to be seen.
                log.exception("stream failed")
            failures = 0 if time.monotonic() - started > bounds.pause_max_s else failures + 1
            pause_s = min(bounds.pause_max_s, bounds.pause_min_s * 2 ** min(failures, 16)) * random.uniform(0.5, 1)
            refusals = 0 if self._pause_s is None else refusals + 1
            if self._pause_s is not None:
                pause_s = min(bounds.refused_pause_max_s, self._pause_s * 2 ** min(refusals - 1, 16))
            if refusals < 2 or self._reason != said:  # a wrong key is said once
                said = self._reason
                self._note(logging.WARNING, "stream lost", reason=self._reason, again_in_s=round(pause_s, 2))
            await asyncio.sleep(pause_s)

    async def _address(self) -> str:
        """Where the next connection goes. A subclass may ask the venue first (a listen key); what it raises counts
        as a failed connection.
        """
        return self._url

    async def _connect_once(self) -> None:
        connect_s = self._bounds.connect_s
        url = await self._address()
        watchdog: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(2 * connect_s):
                connected, _ = await ws_connect(
                    lambda: _Listener(self),
                    url,
                    websocket_handshake_timeout=connect_s,
                    disconnect_on_exception=False,
                    logger_name=_picows_log,
                )
            watchdog = asyncio.create_task(self._watch())
            await connected.wait_disconnected()
        finally:
            if watchdog is not None:
                watchdog.cancel()
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.disconnect(graceful=False)
                self._lost()

    async def _watch(self) -> None:
        """Ping, and end the link when nothing follows: a dead link often shows as silence."""
        bounds = self._bounds
        while True:
            pinged = time.monotonic()
            if self.ping is not None:
                self._send(self.ping)
            elif self._transport is not None:
                self._transport.send_ping()
            await asyncio.sleep(bounds.silence_s)
            if self.last_frame_monotonic < pinged:
                self._drop(f"silent for {bounds.silence_s:g} s after a ping")
                return
            await asyncio.sleep(max(0.0, bounds.ping_s - bounds.silence_s))

    def _send(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, message)

    def _drop(self, reason: str) -> None:
        """End this connection; the next one follows by itself."""
        self._reason = reason
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _refused(self, reason: str) -> None:
        """As `_drop`, where coming back soon would be no use: credentials, a subscription."""
        self._pause_s = self._bounds.refused_pause_s
        self._drop(reason)

    def _note(self, level: int, msg: str, **fields: object) -> None:
        event(log, level, msg, venue=self.venue, stream=self.name, **fields)

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

    def _connected(self, transport: WSTransport) -> None:
        """Before the first frame, which may come with the handshake's answer."""
        self._transport = transport
        try:
            self._opened()
        except Exception:
            log.exception("stream failed")
            self._drop("what to do first failed")

    def _opened(self) -> None:
        raise NotImplementedError

    def _lost(self) -> None:
        raise NotImplementedError

    def _received(self, payload: memoryview | bytes) -> None:
        raise NotImplementedError


class Bundle:
    """Links that count as one: up when all of them are, down when one is lost. More may be added while it runs."""

    def __init__(self, on_link: Callable[[bool], None]) -> None:
        self.links: list[Link] = []
        self._on_link = on_link
        self._up = False
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Keep the links until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for link in self.links:
                    self._group.create_task(link.run())
                await asyncio.Event().wait()
        finally:
            self._group = None

    def add(self, link: Link) -> None:
        """Does not make the whole count as down: what the others deliver is not interrupted."""
        self.links.append(link)
        if self._group is not None:
            self._group.create_task(link.run())

    def changed(self, link: Link) -> None:
        """A link's `up` changed."""
        up = (self._up and link.up) or all(link.up for link in self.links)
        if up == self._up:
            return
        self._up = up
        try:
            self._on_link(up)
        except Exception:
            log.exception("a callback of the %s stream failed", link.name)


class _Listener(WSListener):
    """One connection's frames; a message in several frames is put together."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._parts: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._link._connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        link = self._link
        link.last_frame_monotonic = time.monotonic()
        kind = frame.msg_type
        payload: memoryview | bytes
        if kind == WSMsgType.TEXT and frame.fin:
            payload = frame.get_payload_as_memoryview()
        elif kind == WSMsgType.TEXT or kind == WSMsgType.CONTINUATION:
            self._parts.append(frame.get_payload_as_bytes())
            if not frame.fin:
                return
            payload, self._parts = b"".join(self._parts), []
        else:
            if kind == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            return
        try:
            link._received(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            link._complain("unreadable", error=type(exc).__name__)
        except Exception:
            log.exception("a frame of the %s stream failed", link.name)
