"""Where prices come from: a seeded random walk, a recorded file, or nobody until somebody sets one."""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from simulator.exchange import Exchange
from simulator.instruments import Instrument, admitting, from_sample, symbol_of_file
from simulator.model import Side, Trade
from simulator.numbers import nearest
from simulator.recording import Row, read_rows, sample, start_ts_us

log = logging.getLogger(__name__)

STEP_STD = 0.0002  # of the log price, per step
PULL = 1e-5  # back to the centre, per step: keeps the walk within some 5 % for days
FRAME_ROWS_MAX = 1024  # https://bybit-exchange.github.io/docs/v5/websocket/public/trade


class Walk:
    """One symbol's price: a weakly mean-reverting random walk of the log price. The same seed walks the same way."""

    def __init__(self, symbol: str, centre: Decimal, seed: int) -> None:
        self._random = random.Random(f"{seed}:{symbol}")
        self.recentre(centre)

    def recentre(self, price: Decimal) -> None:
        self._centre = float(price)
        self._offset = 0.0

    def step(self, instrument: Instrument, trade_id: str) -> Trade:
        self._offset += self._random.gauss(0.0, STEP_STD) - PULL * self._offset
        price = nearest(Decimal(self._centre * math.exp(self._offset)), instrument.tick_size)
        price = min(max(price, instrument.min_price), instrument.highest_price)
        qty = instrument.min_qty * self._random.randint(1, 200)
        return Trade(price, qty, self._random.choice((Side.BUY, Side.SELL)), trade_id)


class Player:
    """Plays one file for one symbol with its own spacing, divided by `speed`."""

    def __init__(self, path: Path, symbol: str, speed: float, start_at: str | None) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self.path, self.symbol, self.speed = path, symbol, speed
        self.position_us: int | None = None  # time in the file of the last row played
        self.played = 0
        self.finished = False
        self._first_us = start_ts_us(path, start_at)

    async def play(self, emit: Callable[[str, list[Row]], None]) -> None:
        try:
            await self._play(emit)
            log.info("price file finished: symbol=%s rows=%d path=%s", self.symbol, self.played, self.path)
        except (OSError, EOFError, ValueError, IndexError, ArithmeticError) as exc:
            log.error("price file broken: symbol=%s rows=%d path=%s error=%r", self.symbol, self.played, self.path, exc)
        self.finished = True

    async def _play(self, emit: Callable[[str, list[Row]], None]) -> None:
        clock = asyncio.get_running_loop().time
        rows = self._rows()
        started_s = clock()
        origin_us: int | None = None
        held: Row | None = next(rows, None)
        while held is not None:
            origin_us = held.ts_us if origin_us is None else origin_us
            wait_s = started_s + (held.ts_us - origin_us) / 1e6 / self.speed - clock()
            await asyncio.sleep(max(wait_s, 0))
            due_us = origin_us + (clock() - started_s) * 1e6 * self.speed
            batch: list[Row] = []
            while held is not None and len(batch) < FRAME_ROWS_MAX and (not batch or held.ts_us <= due_us):
                batch.append(held)
                held = next(rows, None)
            emit(self.symbol, batch)
            self.played += len(batch)
            self.position_us = batch[-1].ts_us

    def _rows(self) -> Iterator[Row]:
        for row in read_rows(self.path):
            if self._first_us is None or row.ts_us >= self._first_us:
                yield row


class Prices:
    """Who moves which symbol. Every symbol has one source: random, manual or file."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._walks: dict[str, Walk] = {}
        self._sources: dict[str, str] = {}
        self._players: dict[str, tuple[Player, asyncio.Task[None]]] = {}
        self._default = "random"
        self._stepping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        config = self._exchange.config
        if config.prices in ("random", "manual"):
            self._default = config.prices
        else:
            await self.play(config.prices, config.symbol, config.speed, config.start_at)
        self._stepping = asyncio.create_task(self._step_for_ever())

    async def stop(self) -> None:
        tasks = [task for _, task in self._players.values()]
        if self._stepping is not None:
            tasks.append(self._stepping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def source(self, symbol: str) -> str:
        return self._sources.get(symbol, self._default)

    async def use(self, source: str, symbol: str | None = None) -> None:
        """Random or manual from now on, for one symbol or for all (which ends files)."""
        if symbol is None:
            self._default = source
            self._sources.clear()
        else:
            self._exchange.engine.market(symbol)
            self._sources[symbol] = source
        for name in [symbol] if symbol else list(self._players):
            await self._stop_player(name)
        for name, walk in self._walks.items():
            if symbol in (None, name):
                walk.recentre(self._exchange.engine.market(name).last)

    async def play(
        self, path: str, symbol: str | None = None, speed: float = 1.0, start_at: str | None = None
    ) -> Player:
        file = Path(path)
        symbol = symbol or symbol_of_file(file.name)
        first = await asyncio.to_thread(sample, file)
        if not first:
            raise ValueError(f"{path} holds no rows")
        player = await asyncio.to_thread(Player, file, symbol, speed, start_at)
        market = self._exchange.engine.markets.get(symbol)
        if market is None:
            self._exchange.put_instrument(from_sample(symbol, [r.price for r in first], [r.qty for r in first]))
        else:
            instrument = market.instrument
            for row in first:
                instrument = admitting(instrument, row.price)
            self._exchange.put_instrument(instrument)
        await self._stop_player(symbol)
        self._sources[symbol] = "file"
        self._players[symbol] = (player, asyncio.create_task(player.play(self._emit)))
        return player

    def by_hand(self, symbol: str, prices: list[Decimal]) -> None:
        """Prints at these prices, in order; a random walk goes on from the last of them."""
        instrument = self._exchange.engine.market(symbol).instrument
        trades = [Trade(price, instrument.min_qty, Side.BUY, self._exchange.new_trade_id()) for price in prices]
        if symbol in self._walks:
            self._walks[symbol].recentre(prices[-1])
        else:
            self._walks[symbol] = Walk(symbol, prices[-1], self._exchange.config.seed)
        self._exchange.trade(symbol, trades)
        self._exchange.changed = True

    def status(self) -> dict[str, Any]:
        markets = self._exchange.engine.markets
        files = [
            {
                "symbol": p.symbol,
                "path": str(p.path),
                "speed": p.speed,
                "position_us": p.position_us,
                "rows_played": p.played,
                "finished": p.finished,
            }
            for p, _ in self._players.values()
        ]
        return {
            "source": "file" if files else self._default,
            "sources": {symbol: self.source(symbol) for symbol in markets},
            "prices": {symbol: format(market.last, "f") for symbol, market in markets.items()},
            "rows_played": sum(p.played for p, _ in self._players.values()),
            "finished": bool(files) and all(p.finished for p, _ in self._players.values()),
            "files": files,
        }

    def _emit(self, symbol: str, rows: list[Row]) -> None:
        instrument = self._exchange.engine.markets[symbol].instrument
        trades = []
        for row in rows:
            if row.price % instrument.tick_size or row.price > instrument.highest_price:
                instrument = admitting(instrument, row.price)
                self._exchange.put_instrument(instrument)
            trades.append(Trade(row.price, row.qty, row.side, row.trade_id or self._exchange.new_trade_id()))
        self._exchange.trade(symbol, trades)

    async def _stop_player(self, symbol: str) -> None:
        entry = self._players.pop(symbol, None)
        if entry is not None:
            entry[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await entry[1]

    async def _step_for_ever(self) -> None:
        exchange = self._exchange
        clock = asyncio.get_running_loop().time
        next_s = clock()
        while True:
            next_s = max(next_s + exchange.config.tick_ms / 1000, clock())
            await asyncio.sleep(next_s - clock())
            for symbol in list(exchange.engine.markets):
                if self.source(symbol) == "random":
                    self._step(symbol)

    def _step(self, symbol: str) -> None:
        exchange = self._exchange
        market = exchange.engine.markets[symbol]
        walk = self._walks.get(symbol)
        if walk is None:
            walk = self._walks[symbol] = Walk(symbol, market.last, exchange.config.seed)
        try:
            exchange.trade(symbol, [walk.step(market.instrument, exchange.new_trade_id())])
        except Exception:  # ours to mend, but the other symbols must go on moving
            log.exception("price step failed: symbol=%s", symbol)
