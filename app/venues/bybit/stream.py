"""Bybit's sockets: public prices, and the account's own events.

Quirks; the pages are under https://bybit-exchange.github.io/docs/v5/ and were read in July 2026:
1. The client pings with JSON every 20 seconds, or is cut off after ten minutes (ws/connect). The answer has two
   shapes; any frame counts as a sign of life.
2. An acknowledgement may lack the `req_id` that was sent. Whether the good topics of a partly refused request count is
   not documented: one request per symbol, and data confirms it as well.
3. A connection takes 21,000 characters of topics (ws/connect), which is some 400 symbols; half of that a link, so that
   a lost one costs the prices of fewer.
4. tickers: what a delta leaves out is unchanged; deltas before the first snapshot of a connection, and those with a
   `cs` below the last one's, are void; a snapshot may come at any time and replaces all (websocket/public/ticker).
5. Best prices are taken from tickers, too, every 100 ms, and not from orderbook.1, every 10 ms: they come in order with
   the mark price on one topic, and a symbol whose book changes with each trade costs a tenth of the frames.
6. Nothing is replayed on the private socket after a reconnect, and there is no snapshot.
7. All categories arrive on the private topics; executions hold funding, too.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from app.domain.money import ZERO
from app.domain.position import Fill
from app.keys import Credentials
from app.venues.base import PrivateListener, PublicListener, Topic
from app.venues.bybit import rows as bybit_rows
from app.venues.bybit.frames import (
    CHANGED_ROW,
    EXECUTION_EVENT,
    LOOSE_FRAME,
    PRIVATE_FRAME,
    PUBLIC_FRAME,
    TICKER_FRAME,
    TRADE_ROW,
    PublicFrame,
    TickerFrame,
    TradeRow,
)
from app.venues.bybit.wire import auth, signer
from app.venues.link import Bounds, Bundle, Link
from app.venues.numbers import Unreadable, positive

TRADES, TICKERS = "publicTrade.", "tickers."
PREFIXES = {Topic.TRADES: TRADES, Topic.MARK: TICKERS, Topic.BOOK: TICKERS}
SYMBOLS_MAX = 200  # of one link
SILENT_S = 2.0  # a link without any frame for so long is not worth a subscription
ARGS_CHARS_MAX = 20_000  # quirk 3, and a little air
PRIVATE_TOPICS = ("order", "execution", "position")
_TOPIC_IN_TEXT = re.compile(rf"(?:{re.escape(TRADES)}|{re.escape(TICKERS)})([A-Za-z0-9_-]+)")

Wanted = Mapping[str, frozenset[Topic]]


class _Merged(msgspec.Struct):
    """A symbol's ticker as far as it is followed."""

    cs: int
    at_ms: int
    mark: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None


class _BybitLink(Link):
    venue = "bybit"
    ping = b'{"op":"ping"}'  # quirk 1

    def _send_json(self, operation: dict[str, Any]) -> None:
        self._send(msgspec.json.encode(operation))


class BybitPublicStream:
    """See `PublicStream`. As many links as it takes; a symbol stays on its link for as long as it is wanted."""

    def __init__(self, ws_origin: str, listener: PublicListener, *, bounds: Bounds | None = None) -> None:
        self._url = f"{ws_origin.rstrip('/')}/v5/public/linear"
        self._listener = listener
        self._bounds = bounds or Bounds()
        self._bundle = Bundle(listener.on_link)
        self._links: list[_PublicLink] = []
        self._home: dict[str, _PublicLink] = {}
        self._add_link()

    @property
    def dropped(self) -> int:
        """Trades without a usable price."""
        return sum(link.dropped for link in self._links)

    async def run(self) -> None:
        await self._bundle.run()

    def want(self, topics: Wanted) -> None:
        shares: dict[_PublicLink, dict[str, frozenset[Topic]]] = {link: {} for link in self._links}
        for symbol in self._home.keys() & topics.keys():
            shares[self._home[symbol]][symbol] = topics[symbol]
        room = {link: ARGS_CHARS_MAX - sum(map(_chars, share)) for link, share in shares.items()}
        for symbol in sorted(topics.keys() - self._home.keys()):
            fitting = (link for link in shares if room[link] >= _chars(symbol) and len(shares[link]) < SYMBOLS_MAX)
            link = next(fitting, None) or self._add_link()
            shares.setdefault(link, {})[symbol] = topics[symbol]
            room[link] = room.get(link, ARGS_CHARS_MAX) - _chars(symbol)
        self._home = {symbol: link for link, share in shares.items() for symbol in share}
        for link, share in shares.items():
            link.want(share)

    def renew(self, symbol: str) -> None:
        if symbol in self._home:
            self._home[symbol].renew(symbol)

    def _add_link(self) -> "_PublicLink":
        link = _PublicLink(self._url, self._bounds, self._listener, self._bundle, f"public-{len(self._links) + 1}")
        self._links.append(link)
        self._bundle.add(link)
        return link


def _chars(symbol: str) -> int:
    """What a symbol may take of a link's arguments: all of its topics, in quotes, with a comma."""
    return sum(len(prefix) + len(symbol) + 3 for prefix in (TRADES, TICKERS))


def _topics(symbol: str, topics: frozenset[Topic]) -> set[str]:
    return {PREFIXES[topic] + symbol for topic in topics}


class _PublicLink(_BybitLink):
    def __init__(self, url: str, bounds: Bounds, listener: PublicListener, bundle: Bundle, name: str) -> None:
        super().__init__(url, bounds)
        self.name = name
        self.dropped = 0
        self._listener = listener
        self._bundle = bundle
        self._wanted: dict[str, frozenset[Topic]] = {}
        self._tickers: dict[str, _Merged] = {}
        self._unconfirmed: set[str] = set()
        self._deadline: asyncio.TimerHandle | None = None

    def want(self, topics: Wanted) -> None:
        before, self._wanted = self._wanted, dict(topics)
        if self._transport is None:
            return
        for symbol in sorted(before):
            old, new = _topics(symbol, before[symbol]), _topics(symbol, self._wanted.get(symbol, frozenset()))
            self._ask("unsubscribe", symbol, old - new)
            if not new:
                self._confirmed(symbol)
            if TICKERS + symbol in old - new:
                self._tickers.pop(symbol, None)
        for symbol, wanted in sorted(self._wanted.items()):
            known = before.get(symbol, frozenset())
            self._ask("subscribe", symbol, _topics(symbol, wanted) - _topics(symbol, known))
            if known and wanted - known and symbol in self._tickers:
                # What is known of its ticker would otherwise wait for the next change.
                asyncio.get_running_loop().call_soon(self._tell, symbol)
        self._announce_if_complete()

    def renew(self, symbol: str) -> None:
        if self._transport is None:
            return
        if time.monotonic() > self.last_frame_monotonic + SILENT_S:
            self._drop("silent although prices move")
            return
        topics = _topics(symbol, self._wanted[symbol])
        self._tickers.pop(symbol, None)
        self._ask("unsubscribe", symbol, topics)
        self._ask("subscribe", symbol, topics)

    def _opened(self) -> None:
        self._unconfirmed.clear()
        self._tickers.clear()
        self._deadline = asyncio.get_running_loop().call_later(self._bounds.answer_s, self._announce)
        for symbol in sorted(self._wanted):
            self._ask("subscribe", symbol, _topics(symbol, self._wanted[symbol]))
        self._announce_if_complete()

    def _lost(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self.up:
            self.up = False
            self._bundle.changed(self)

    def _received(self, payload: memoryview | bytes) -> None:
        try:
            frame = PUBLIC_FRAME.decode(payload)
        except msgspec.ValidationError:
            frame = self._decode_loosely(payload)
        data = frame.data
        if type(data) is list:
            trades = data
            for trade in trades:
                if not (trade.price.is_finite() and trade.price > ZERO):
                    trades = self._sound(trades)
                    break
            if self._unconfirmed:
                self._confirmed(frame.topic.removeprefix(TRADES))
            if trades:
                self._guard(self._listener.on_trades, trades)
        elif data is not None:
            self._ticker(TICKER_FRAME.decode(payload))
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

    def _ticker(self, frame: TickerFrame) -> None:
        """Quirk 4."""
        data, symbol = frame.data, frame.topic.removeprefix(TICKERS)
        if symbol == frame.topic or not symbol:
            self._complain("of an unknown shape", topic=frame.topic)
            return
        if self._unconfirmed:
            self._confirmed(symbol)
        wanted = self._wanted.get(symbol, frozenset())
        merged = self._tickers.get(symbol)
        whole = frame.type == "snapshot"
        if whole:
            merged = self._tickers[symbol] = _Merged(frame.cs or 0, frame.ts)
        elif merged is None or (frame.cs is not None and frame.cs < merged.cs):
            return
        else:
            merged.cs = frame.cs or merged.cs
            merged.at_ms = frame.ts
        if isinstance(data.markPrice, str):
            merged.mark = self._price(symbol, data.markPrice)
        if data.bid1Price is not msgspec.UNSET:
            merged.bid = self._price(symbol, data.bid1Price)
        if data.ask1Price is not msgspec.UNSET:
            merged.ask = self._price(symbol, data.ask1Price)
        if Topic.MARK in wanted and merged.mark is not None and isinstance(data.markPrice, str):
            self._guard(self._listener.on_mark, symbol, merged.mark, merged.at_ms)
        has_book = data.bid1Price is not msgspec.UNSET or data.ask1Price is not msgspec.UNSET
        if Topic.BOOK in wanted and (whole or has_book):
            self._guard(self._listener.on_book, symbol, merged.bid, merged.ask, merged.at_ms)

    def _price(self, symbol: str, text: str | None) -> Decimal | None:
        """None: there is none, or it can't be read, and then an older one is not believed any more."""
        try:
            return positive(text)
        except Unreadable as exc:
            self._complain("a price that can't be read", symbol=symbol, error=str(exc))
            return None

    def _tell(self, symbol: str) -> None:
        """What is known of a symbol of which more is wanted now."""
        merged, wanted = self._tickers.get(symbol), self._wanted.get(symbol, frozenset())
        if merged is None:
            return
        if Topic.MARK in wanted and merged.mark is not None:
            self._guard(self._listener.on_mark, symbol, merged.mark, merged.at_ms)
        if Topic.BOOK in wanted:
            self._guard(self._listener.on_book, symbol, merged.bid, merged.ask, merged.at_ms)

    def _ask(self, op: str, symbol: str, topics: set[str]) -> None:
        if not topics:
            return
        if op == "subscribe":
            self._unconfirmed.add(symbol)
        self._send_json({"op": op, "req_id": symbol, "args": sorted(topics)})  # quirk 2

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
        if self.up or self._transport is None:
            return
        self.up = True
        self._note(logging.INFO, "stream up", symbols=len(self._wanted), unconfirmed=len(self._unconfirmed))
        self._bundle.changed(self)


class BybitPrivateStream(_BybitLink):
    """What happens in the account: see `PrivateStream`."""

    name = "private"

    def __init__(
        self,
        ws_origin: str,
        credentials: Credentials,
        listener: PrivateListener,
        *,
        now_ms: Callable[[], int] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """`now_ms` is the exchange's clock, if it is known. Raises Refused when the credentials are of no use."""
        super().__init__(f"{ws_origin.rstrip('/')}/v5/private", bounds or Bounds())
        self._key = credentials.api_key
        self._sign = signer(credentials)
        self._listener = listener
        self._now_ms = now_ms or (lambda: int(time.time() * 1000))
        self._deadline: asyncio.TimerHandle | None = None

    def _opened(self) -> None:
        self._ask(auth(self._key, self._sign, self._now_ms()))

    def _lost(self) -> None:
        self.up = False
        self._answered()

    def _received(self, payload: memoryview | bytes) -> None:
        frame = PRIVATE_FRAME.decode(payload)
        if frame.topic == "execution":
            self._executed(frame.data)
        elif frame.topic in PRIVATE_TOPICS:
            self._changed(frame.data)
        elif frame.op == "auth":
            self._answered()
            if frame.success:
                self._ask({"op": "subscribe", "args": list(PRIVATE_TOPICS)})
            else:
                self._refused(f"the key was refused: {frame.ret_msg or 'no reason given'}")
        elif frame.op == "subscribe":
            self._answered()
            if frame.success:
                self.up = True
                self._note(logging.INFO, "stream up")
                self._guard(self._listener.on_change, "")  # quirk 6
            else:
                self._refused(f"the subscription was refused: {frame.ret_msg or 'no reason given'}")

    def _executed(self, rows: list[msgspec.Raw]) -> None:
        fills: list[Fill] = []
        for raw in rows:
            try:
                row = EXECUTION_EVENT.decode(raw)
                if row.category == "linear" and row.execType in bybit_rows.POSITION_CHANGING:  # quirk 7
                    fills.append(bybit_rows.fill(row))
            except (msgspec.ValidationError, Unreadable) as exc:
                self._complain("an execution that can't be read", error=str(exc))
                self._changed([raw])  # REST will tell it
        if fills:
            self._guard(self._listener.on_fills, fills)

    def _changed(self, rows: list[msgspec.Raw]) -> None:
        found = [CHANGED_ROW.decode(raw) for raw in rows]
        for symbol in dict.fromkeys(row.symbol for row in found if row.category == "linear" and row.symbol):
            self._guard(self._listener.on_change, symbol)

    def _ask(self, operation: dict[str, Any]) -> None:
        self._send_json(operation)
        self._deadline = asyncio.get_running_loop().call_later(
            self._bounds.answer_s, self._drop, f"no answer to {operation['op']}"
        )

    def _answered(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
