"""Binance's public sockets: trades, mark prices, best bid and ask.

Quirks; …/websocket-market-streams, read in May 2026:
1. Streams belong to routes: best bid and ask to `/public`, trades and mark prices to `/market`. On the other route they
   are acknowledged and stay silent. So there are two kinds of links.
2. The server pings every three minutes and cuts after ten without a pong; the protocol's own pings are answered both
   ways. It cuts every link after 24 hours.
3. At most 1024 streams a link, ten messages a second to the server, 300 connection attempts per five minutes and
   address.
4. Streams that the address of a link names are subscribed when it opens; the names are in lower case. A wrong name is
   acknowledged and stays silent, so that only data proves a subscription.
5. Some frames come wrapped: `{"stream":…,"data":…}`.
6. Book frames are ordered by `u` per symbol.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from itertools import count
from urllib.parse import quote

import msgspec

from app.domain.money import ZERO
from app.venues.base import PublicListener, Topic, Trade
from app.venues.binance.frames import PUBLIC_FRAME, REPLY, AggregateTrade, BookTicker, MarkPrice, Reply
from app.venues.binance.limits import attempts_at
from app.venues.link import Bounds, Bundle, Link

STREAMS_MAX = 200  # of a link
MESSAGE_EVERY_S = 0.25
SILENT_S = 2.0  # a link without any frame for so long is not worth a subscription
STREAMS = {Topic.TRADES: "aggTrade", Topic.MARK: "markPrice@1s", Topic.BOOK: "bookTicker"}
ROUTES = {Topic.TRADES: "market", Topic.MARK: "market", Topic.BOOK: "public"}


class BinancePublicStream:
    """See `PublicStream`."""

    def __init__(self, ws_origin: str, listener: PublicListener, *, bounds: Bounds | None = None) -> None:
        self._origin = ws_origin.rstrip("/")
        self._listener = listener
        self._bounds = bounds or Bounds()
        self._bundle = Bundle(listener.on_link)
        self._links: dict[str, list[_PublicLink]] = {"market": [], "public": []}
        self._where: dict[str, _PublicLink] = {}  # stream -> the link that carries it

    @property
    def dropped(self) -> int:
        """Trades without a usable price."""
        return sum(link.dropped for links in self._links.values() for link in links)

    async def run(self) -> None:
        await self._bundle.run()

    def want(self, topics: Mapping[str, frozenset[Topic]]) -> None:
        wanted = {
            f"{symbol.lower()}@{STREAMS[topic]}": ROUTES[topic]
            for symbol, of_symbol in topics.items()
            for topic in of_symbol
        }
        touched: set[_PublicLink] = set()
        for stream in self._where.keys() - wanted.keys():
            link = self._where.pop(stream)
            link.wanted.discard(stream)
            touched.add(link)
        added: list[_PublicLink] = []
        for stream in sorted(wanted.keys() - self._where.keys()):
            link = self._link_with_room(wanted[stream], added)
            link.wanted.add(stream)
            self._where[stream] = link
            touched.add(link)
        for link in touched:
            link.changed()
        for link in added:
            self._bundle.add(link)

    def renew(self, symbol: str) -> None:
        streams: dict[_PublicLink, list[str]] = {}
        for stream, link in self._where.items():
            if stream.startswith(f"{symbol.lower()}@"):
                streams.setdefault(link, []).append(stream)
        for link, of_link in streams.items():
            link.renew(sorted(of_link))

    def _link_with_room(self, route: str, added: list["_PublicLink"]) -> "_PublicLink":
        links = self._links[route]
        for link in links:
            if len(link.wanted) < STREAMS_MAX:
                return link
        link = _PublicLink(f"{self._origin}/{route}/ws", f"{route}-{len(links)}", self, self._bounds)
        links.append(link)
        added.append(link)
        return link


class _PublicLink(Link):
    """Up to 200 streams of one route. Without any it waits unconnected, and counts as up."""

    venue = "binance"

    def __init__(self, url: str, name: str, owner: BinancePublicStream, bounds: Bounds) -> None:
        super().__init__(url, bounds)
        self.name = name
        self.wanted: set[str] = set()
        self.dropped = 0
        self._owner = owner
        self._listener = owner._listener
        self._attempts = attempts_at(owner._origin)
        self._some = asyncio.Event()
        self._subscribed: set[str] = set()
        self._numbers: dict[str, int] = {}  # symbol -> of its last book frame
        self._ids = count(1)
        self._asked: dict[int, asyncio.TimerHandle] = {}  # requests without an answer yet
        self._flush: asyncio.TimerHandle | None = None
        self._sent_at = float("-inf")

    def changed(self) -> None:
        """`wanted` changed."""
        if self.wanted:
            self._some.set()
        else:
            self._some.clear()
        if self._transport is not None and self._flush is None:
            wait_s = max(0.0, self._sent_at + MESSAGE_EVERY_S - time.monotonic())  # quirk 3
            self._flush = asyncio.get_running_loop().call_later(wait_s, self._tell)

    def renew(self, streams: list[str]) -> None:
        if self._transport is None:
            return
        if time.monotonic() > self.last_frame_monotonic + SILENT_S:
            self._drop("silent although prices move")
            return
        self._ask("UNSUBSCRIBE", streams)
        self._subscribed.difference_update(streams)
        self.changed()

    async def _address(self) -> str:
        if not self._some.is_set():
            self._rise()
            await self._some.wait()
            self._fall()
        await self._attempts.take()
        self._subscribed = set(self.wanted)
        names = "/".join(quote(stream, safe="@_") for stream in sorted(self._subscribed))
        return f"{self._url}/{names}"  # quirk 4

    def _opened(self) -> None:
        self._numbers.clear()
        self._note(logging.INFO, "stream up", streams=len(self._subscribed))
        self._rise()
        self.changed()  # what was wanted while it connected

    def _lost(self) -> None:
        for timer in self._asked.values():
            timer.cancel()
        self._asked.clear()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._fall()

    def _rise(self) -> None:
        if not self.up:
            self.up = True
            self._owner._bundle.changed(self)

    def _fall(self) -> None:
        if self.up:
            self.up = False
            self._owner._bundle.changed(self)

    def _tell(self) -> None:
        self._flush = None
        for method, streams in (
            ("SUBSCRIBE", self.wanted - self._subscribed),
            ("UNSUBSCRIBE", self._subscribed - self.wanted),
        ):
            if streams:
                self._ask(method, sorted(streams))
        self._subscribed = set(self.wanted)

    def _ask(self, method: str, streams: list[str]) -> None:
        number = next(self._ids)
        self._sent_at = time.monotonic()
        self._send(json.dumps({"method": method, "params": streams, "id": number}).encode())
        self._asked[number] = asyncio.get_running_loop().call_later(
            self._bounds.answer_s, self._drop, f"no answer to {method}"
        )

    def _received(self, payload: memoryview | bytes) -> None:
        try:
            frame = PUBLIC_FRAME.decode(payload)
        except msgspec.ValidationError as exc:
            self._other(payload, exc)
            return
        if type(frame) is AggregateTrade:  # nearly all are
            self._trade(frame)
        elif type(frame) is BookTicker:
            self._book(frame)
        elif type(frame) is MarkPrice and frame.price.is_finite() and frame.price > ZERO:
            self._guard(self._listener.on_mark, frame.symbol, frame.price, frame.at_ms)

    def _trade(self, frame: AggregateTrade) -> None:
        price = frame.price
        if price.is_finite() and price > ZERO:
            trade = Trade(symbol=frame.symbol, trade_id=str(frame.trade_id), price=price, at_ms=frame.at_ms)
            self._guard(self._listener.on_trades, (trade,))
        else:
            self.dropped += 1
            self._complain("a trade without a price above zero", symbol=frame.symbol)

    def _book(self, frame: BookTicker) -> None:
        if frame.number <= self._numbers.get(frame.symbol, -1):  # quirk 6
            return
        self._numbers[frame.symbol] = frame.number
        bid = frame.bid if frame.bid.is_finite() and frame.bid > ZERO else None
        ask = frame.ask if frame.ask.is_finite() and frame.ask > ZERO else None
        self._guard(self._listener.on_book, frame.symbol, bid, ask, frame.at_ms)

    def _other(self, payload: memoryview | bytes, exc: msgspec.ValidationError) -> None:
        """An answer, a wrapped frame (quirk 5), or something else."""
        reply = REPLY.decode(payload)
        if reply.stream:
            self._received(bytes(reply.data))
        elif reply.e:
            if reply.e in ("aggTrade", "markPriceUpdate", "bookTicker"):
                self.dropped += reply.e == "aggTrade"
                self._complain(f"{reply.e} that can't be read", error=str(exc))
        else:
            self._answered(reply)

    def _answered(self, reply: Reply) -> None:
        if isinstance(reply.id, int) and (timer := self._asked.pop(reply.id, None)) is not None:
            timer.cancel()
        if reply.error is not None:
            self._note(logging.WARNING, "subscription refused", code=reply.error.code, reason=reply.error.msg)
