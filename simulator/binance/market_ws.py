"""The routes /public and /market: prices as they come, marks, bars and day figures on their beat."""

import asyncio
import re
from typing import Any

from aiohttp import web

from simulator.binance import market_rows as rows
from simulator.binance.context import Context
from simulator.binance.links import Streams, split_streams
from simulator.binance.names import INTERVALS, engine_symbols, symbol_here
from simulator.market import Market
from simulator.model import Side
from simulator.numbers import text
from simulator.tape import MINUTE_MS, Bar, Print, Tape

BEAT_S = 0.25
MARK_BEATS, SLOW_MARK_BEATS, MINI_BEATS = 4, 12, 8  # 1 s, 3 s, 2 s

_KLINE = re.compile(r"(?P<symbol>[^@]+)@kline_(?P<interval>\w+)")


class MarketSockets:
    def __init__(self, context: Context) -> None:
        self.public = Streams(context, "public")
        self.market = Streams(context, "public")
        self._context = context
        self._exchange = context.exchange
        self._bars_sent: dict[str, tuple[int, object]] = {}  # stream -> (closed bars told up to, last bar told)
        self._updates = 400_900_000_000
        self._exchange.on_prints.append(self._on_prints)

    def routes(self) -> list[web.RouteDef]:
        """Addresses without a route behave as /public."""
        routes = []
        for prefix, streams in (("/public", self.public), ("/market", self.market), ("", self.public)):
            routes += [
                web.get(f"{prefix}/ws", self._serve(streams, combined=False)),
                web.get(f"{prefix}/ws/{{names:.+}}", self._serve(streams, combined=False)),
                web.get(f"{prefix}/stream", self._serve(streams, combined=True)),
            ]
        return routes

    def _serve(self, streams: Streams, *, combined: bool) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            names = request.query.get("streams", "") if combined else request.match_info.get("names", "")
            return await streams.serve(request, split_streams(names), combined=combined)

        return handle

    # --- as it happens

    def _on_prints(self, symbol: str, prints: list[Print]) -> None:
        name = symbol_here(symbol).lower()
        market = self._exchange.engine.markets[symbol]
        stream = f"{name}@aggTrade"
        if self.market.wants(stream):
            for printed in prints:
                self.market.publish(stream, self._agg_trade(market, printed), symbol=symbol)
        stream = f"{name}@bookTicker"
        if self.public.wants(stream) or self.public.wants("!bookTicker"):
            frame = self._book_ticker(market)
            self.public.publish(stream, frame, symbol=symbol)
            self.public.publish("!bookTicker", frame, symbol=symbol)

    def _agg_trade(self, market: Market, printed: Print) -> rows.Row:
        """Each print is an aggregate of one."""
        trade, number = printed.trade, printed.seq
        return {
            "e": "aggTrade",
            "E": self._exchange.now_ms(),
            "a": number,
            "s": symbol_here(market.instrument.symbol),
            "p": rows.tick_text(market.instrument, trade.price),
            "q": text(trade.qty),
            "nq": text(trade.qty),
            "f": number,
            "l": number,
            "T": printed.at_ms,
            "m": trade.side is Side.SELL,
            "st": 1,
        }

    def _book_ticker(self, market: Market) -> rows.Row:
        self._updates += 1
        symbol = symbol_here(market.instrument.symbol)
        bid, bid_qty, ask, ask_qty = rows.best(market)
        now_ms = self._exchange.now_ms()
        return {
            "e": "bookTicker",
            "u": self._updates,
            "s": symbol,
            "ps": symbol,
            "b": bid,
            "B": bid_qty,
            "a": ask,
            "A": ask_qty,
            "T": now_ms,
            "E": now_ms,
            "st": 1,
        }

    # --- on the beat

    async def beat_for_ever(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(BEAT_S)
            beats += 1
            self.send_klines()
            if beats % MARK_BEATS == 0:
                self._send_marks("@1s")
            if beats % SLOW_MARK_BEATS == 0:
                self._send_marks("")
            if beats % MINI_BEATS == 0:
                self._send_mini_tickers()

    def _send_marks(self, pace: str) -> None:
        everybody = f"!markPrice@arr{pace}"
        every = []
        for symbol, market in self._exchange.engine.markets.items():
            stream = f"{symbol_here(symbol).lower()}@markPrice{pace}"
            if self.market.wants(stream):
                self.market.publish(stream, self._mark(market), symbol=symbol)
            if self.market.wants(everybody):
                every.append(self._mark(market))
        if every:
            self.market.publish(everybody, every)

    def _mark(self, market: Market) -> rows.Row:
        now_ms = self._exchange.now_ms()
        mark = f"{market.mark:.8f}"
        return {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": symbol_here(market.instrument.symbol),
            "p": mark,
            "ap": mark,
            "P": mark,
            "i": mark,
            "r": rows.FUNDING_RATE,
            "T": rows.next_funding_ms(now_ms),
            "st": 1,
        }

    def _send_mini_tickers(self) -> None:
        for symbol, tape in self._exchange.tapes.items():
            stream = f"{symbol_here(symbol).lower()}@miniTicker"
            if self.market.wants(stream):
                self.market.publish(stream, self._mini_ticker(symbol, tape), symbol=symbol)

    def _mini_ticker(self, symbol: str, tape: Tape) -> rows.Row:
        i = self._exchange.engine.markets[symbol].instrument
        return {
            "e": "24hrMiniTicker",
            "E": self._exchange.now_ms(),
            "s": symbol_here(symbol),
            "c": rows.tick_text(i, tape.last),
            "o": rows.tick_text(i, tape.first),
            "h": rows.tick_text(i, tape.high),
            "l": rows.tick_text(i, tape.low),
            "v": text(tape.volume),
            "q": f"{tape.turnover:.2f}",
        }

    def send_klines(self) -> None:
        """For each wanted stream: bars that closed since (once, `x` true) and the open one if it changed."""
        now_ms = self._exchange.now_ms()
        for stream in self.market.wanted():
            match = _KLINE.fullmatch(stream)
            symbol = self._known(match["symbol"]) if match else None
            if match is None or symbol is None or match["interval"] not in INTERVALS:
                continue
            minutes = INTERVALS[match["interval"]]
            span_ms = minutes * MINUTE_MS
            told_ms, last = self._bars_sent.get(stream, (0, None))
            for bar in self._exchange.tapes[symbol].bars_of(minutes)[-2:]:
                closed = bar.start_ms + span_ms <= now_ms
                state = (bar.start_ms, bar.turnover, bar.close)
                if closed and bar.start_ms + span_ms > told_ms:
                    told_ms = bar.start_ms + span_ms
                elif closed or state == last:
                    continue
                last = state
                frame = self._kline(symbol, match["interval"], bar, span_ms, closed=closed)
                self.market.publish(stream, frame, symbol=symbol)
            self._bars_sent[stream] = told_ms, last

    def _known(self, lower: str) -> str | None:
        """The engine's symbol of a stream's name, which must be lower case."""
        if lower != lower.lower():
            return None
        found = (s for s in engine_symbols(lower.upper()) if s in self._exchange.engine.markets)
        return next(found, None)

    def _kline(self, symbol: str, interval: str, bar: Bar, span_ms: int, *, closed: bool) -> rows.Row:
        i = self._exchange.engine.markets[symbol].instrument
        name = symbol_here(symbol)
        return {
            "e": "kline",
            "E": self._exchange.now_ms(),
            "s": name,
            "k": {
                "t": bar.start_ms,
                "T": bar.start_ms + span_ms - 1,
                "s": name,
                "i": interval,
                "f": 1,
                "L": 1,
                "o": rows.tick_text(i, bar.open),
                "c": rows.tick_text(i, bar.close),
                "h": rows.tick_text(i, bar.high),
                "l": rows.tick_text(i, bar.low),
                "v": text(bar.volume),
                "n": 1,
                "x": closed,
                "q": f"{bar.turnover:.5f}",
                "V": text(bar.volume / 2),
                "Q": f"{bar.turnover / 2:.5f}",
                "B": "0",
            },
        }
