"""The public socket: /v5/public/linear with tickers, publicTrade, kline and orderbook.1.

https://bybit-exchange.github.io/docs/v5/ws/connect and /websocket/public/*
"""

import asyncio
import re
from typing import Any

import msgspec
from aiohttp import web

from simulator.bybit.market_data import INTERVALS, book
from simulator.bybit.market_rows import ticker_row
from simulator.bybit.rows import Row
from simulator.exchange import Exchange
from simulator.faults import FaultKind
from simulator.hub import Hub, Link, serve
from simulator.numbers import text
from simulator.tape import MINUTE_MS, Bar, Print

TICKER_MS = 100  # deltas come at most this often per symbol
KLINE_MS = 1000
BOOK_REPEAT_S = 3
TRADES_PER_FRAME = 1024
ARGS_MAX = 21_000  # characters of topics in one request

_TOPIC = re.compile(r"(?:tickers|publicTrade|orderbook\.1|kline\.(?P<interval>\w+))\.(?P<symbol>\w+)")


class _Ticker:
    """What the subscribers of one symbol know: the row as merged from snapshot and deltas."""

    def __init__(self) -> None:
        self.row: Row = {}
        self.cs = 1_000_000
        self.sent_s = 0.0
        self.pending: asyncio.TimerHandle | None = None


class PublicSocket:
    def __init__(self, exchange: Exchange) -> None:
        self.hub = Hub(exchange, "public")
        self._exchange = exchange
        self._tickers: dict[str, _Ticker] = {}
        self._books_sent: dict[str, float] = {}  # symbol -> monotonic time of the last frame
        self._bars_sent: dict[str, tuple[int, object]] = {}  # kline topic -> (bars confirmed up to, last bar sent)
        exchange.on_prints.append(self._on_prints)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v5/public/linear", self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        return await serve(self.hub, request, self._handle)

    async def _handle(self, link: Link, message: dict[str, Any]) -> bool:
        op, args = message.get("op"), message.get("args")
        refusal = ""
        snapshots: list[Row] = []
        if op == "ping":
            refusal = "pong"
        elif op not in ("subscribe", "unsubscribe"):
            refusal = "error:op not support"
        elif not isinstance(args, list) or not args or sum(len(str(a)) for a in args) > ARGS_MAX:
            refusal = "error:args invalid"
        else:
            topics = [str(a) for a in args]
            unknown = next((t for t in topics if not self._exists(t)), None)
            if unknown is not None:
                refusal = f"error:handler not found,topic:{unknown}"
            elif op == "subscribe":
                snapshots = [snapshot for t in topics if (snapshot := self._join(link, t)) is not None]
            else:
                for topic in topics:
                    self.hub.unsubscribe(link, topic)
        ack = {
            "success": refusal in ("", "pong"),
            "ret_msg": refusal,
            "conn_id": link.id,
            "req_id": str(message.get("req_id", "")),
            "op": op if isinstance(op, str) else "",
        }
        self.hub.answer(link, msgspec.json.encode(ack))
        for snapshot in snapshots:
            self.hub.answer(link, msgspec.json.encode(snapshot))
        return True

    def _exists(self, topic: str) -> bool:
        match = _TOPIC.fullmatch(topic)
        if match is None or match["symbol"] not in self._exchange.engine.markets:
            return False
        return match["interval"] is None or match["interval"] in INTERVALS

    def _join(self, link: Link, topic: str) -> Row | None:
        """Subscribe; what the link must know first, for topics that start with a snapshot."""
        first = not self.hub.wanted(topic)
        self.hub.subscribe(link, topic)
        kind, symbol = topic.split(".", 1)[0], topic.rsplit(".", 1)[1]
        if kind == "tickers":
            return self._ticker_snapshot(symbol, fresh=first)
        if kind == "orderbook":
            return self._book_frame(symbol)
        if kind == "kline" and first:
            self._bars_sent[topic] = (0, None)
        return None

    # --- trades and order book

    def _on_prints(self, symbol: str, prints: list[Print]) -> None:
        topic = f"publicTrade.{symbol}"
        if self.hub.wanted(topic):
            for start in range(0, len(prints), TRADES_PER_FRAME):
                self._send_trades(topic, symbol, prints[start : start + TRADES_PER_FRAME])
        if self.hub.wanted(f"orderbook.1.{symbol}"):
            self._send_book(symbol)
        if self.hub.wanted(f"tickers.{symbol}"):
            self._refresh_ticker(symbol)

    def _send_trades(self, topic: str, symbol: str, prints: list[Print]) -> None:
        rows = [
            {
                "T": p.at_ms,
                "s": symbol,
                "S": p.trade.side.value,
                "v": text(p.trade.qty),
                "p": text(p.trade.price),
                "L": p.tick_direction,
                "i": p.trade.trade_id,
                "BT": False,
                "RPI": False,
                "seq": p.seq,
            }
            for p in prints
        ]
        frame = {"topic": topic, "type": "snapshot", "ts": self._exchange.now_ms(), "data": rows}
        self.hub.publish(topic, msgspec.json.encode(frame), symbol)

    def _send_book(self, symbol: str) -> None:
        self._books_sent[symbol] = self._exchange.now_s()
        self.hub.publish(f"orderbook.1.{symbol}", msgspec.json.encode(self._book_frame(symbol)), symbol)

    def repeat_books(self) -> None:
        """A book that stood still is told again, with the same `u`."""
        old_s = self._exchange.now_s() - BOOK_REPEAT_S
        for topic in self.hub.topics:
            kind, _, symbol = topic.rpartition(".")
            if kind == "orderbook.1" and self._books_sent.setdefault(symbol, self._exchange.now_s()) <= old_s:
                self._send_book(symbol)

    def _book_frame(self, symbol: str) -> Row:
        return {
            "topic": f"orderbook.1.{symbol}",
            "type": "snapshot",
            "ts": self._exchange.now_ms(),
            "data": book(self._exchange, symbol),
        }

    # --- tickers

    def _ticker_snapshot(self, symbol: str, *, fresh: bool) -> Row:
        """Beside others a newcomer gets what they know, so that the deltas to come fit for all."""
        ticker = self._tickers.setdefault(symbol, _Ticker())
        if fresh:
            ticker.row = self._ticker_row(symbol)
        return self._ticker_frame(symbol, "snapshot", ticker.row, ticker.cs)

    def _refresh_ticker(self, symbol: str) -> None:
        """Send a delta now, or as soon as the last one is old enough."""
        ticker = self._tickers.setdefault(symbol, _Ticker())
        if ticker.pending is not None:
            return
        loop = asyncio.get_running_loop()
        wait_s = ticker.sent_s + TICKER_MS / 1000 - loop.time()
        if wait_s <= 0:
            self._send_delta(symbol)
        else:
            ticker.pending = loop.call_later(wait_s, self._send_delta, symbol)

    def _send_delta(self, symbol: str) -> None:
        ticker = self._tickers[symbol]
        ticker.pending = None
        if not self.hub.wanted(f"tickers.{symbol}"):
            return
        row = self._ticker_row(symbol)
        delta = {k: v for k, v in row.items() if k == "symbol" or ticker.row.get(k) != v}
        ticker.row = row
        ticker.sent_s = asyncio.get_running_loop().time()
        if len(delta) > 1:
            ticker.cs += 1
            again = self._exchange.faults.take(FaultKind.RESNAPSHOT, self._exchange.now_s(), symbol=symbol)
            kind, told = ("delta", delta) if again is None else ("snapshot", row)
            frame = self._ticker_frame(symbol, kind, told, ticker.cs)
            self.hub.publish(f"tickers.{symbol}", msgspec.json.encode(frame), symbol)

    def _ticker_row(self, symbol: str) -> Row:
        market, tape = self._exchange.engine.markets[symbol], self._exchange.tapes[symbol]
        row = ticker_row(tape, market, self._exchange.now_ms())
        return row | {"tickDirection": tape.direction}

    def _ticker_frame(self, symbol: str, kind: str, row: Row, cs: int) -> Row:
        return {"topic": f"tickers.{symbol}", "type": kind, "data": row, "cs": cs, "ts": self._exchange.now_ms()}

    # --- klines

    async def send_by_the_clock(self) -> None:
        while True:
            await asyncio.sleep(KLINE_MS / 1000)
            self.send_klines()
            self.repeat_books()

    def send_klines(self) -> None:
        """For each wanted topic: bars that closed since (once, `confirm` true) and the open one if it changed."""
        now_ms = self._exchange.now_ms()
        for topic in self.hub.topics:
            match = _TOPIC.fullmatch(topic)
            if match is None or match["interval"] is None:
                continue
            span_ms = INTERVALS[match["interval"]] * MINUTE_MS
            confirmed_ms, last_sent = self._bars_sent.get(topic, (0, None))
            for bar in self._exchange.tapes[match["symbol"]].bars_of(INTERVALS[match["interval"]])[-2:]:
                closed = bar.start_ms + span_ms <= now_ms
                state = (bar.start_ms, bar.turnover, bar.close)
                if closed and bar.start_ms + span_ms > confirmed_ms:
                    confirmed_ms = bar.start_ms + span_ms
                elif closed or state == last_sent:
                    continue
                last_sent = state
                self._send_bar(topic, match["interval"], match["symbol"], bar, span_ms, closed)
            self._bars_sent[topic] = (confirmed_ms, last_sent)

    def _send_bar(self, topic: str, interval: str, symbol: str, bar: Bar, span_ms: int, closed: bool) -> None:
        now_ms = self._exchange.now_ms()
        row = {
            "start": bar.start_ms,
            "end": bar.start_ms + span_ms - 1,
            "interval": interval,
            "open": text(bar.open),
            "close": text(bar.close),
            "high": text(bar.high),
            "low": text(bar.low),
            "volume": text(bar.volume),
            "turnover": text(bar.turnover),
            "confirm": closed,
            "timestamp": now_ms,
        }
        frame = {"topic": topic, "data": [row], "ts": now_ms, "type": "snapshot"}
        self.hub.publish(topic, msgspec.json.encode(frame), symbol)
