"""Native stops at Binance: conditional orders that close, placed, moved and removed.

Quirks; the pages are under https://developers.binance.com/docs/derivatives/usds-margined-futures/ and were read in May
2026, the rest is from public logs of 2026:
1. Conditional orders live behind the algo-order endpoint only (trade/rest-api/New-Algo-Order); the ordinary lists do
   not show them, and reads of them may lag.
2. They can't be modified, and a second one with `closePosition` on the same side is refused: -4130. So a move goes
   over a bridge: a stop of the held quantity at the new price, then the old one goes, the new one comes, and the bridge
   goes last. Whatever fails in between, a stop rests; leftovers are removed by the next call.
3. A cancelled one may stand in the way for about a second: -4130 is asked again for a while.
4. Right after the fill of an entry the position may not be visible yet: -4509 is asked again for up to 3 s, while a
   stop of the filled quantity rests, which needs no visible position. It stays if that takes longer.
5. Stops with `closePosition` have a hidden time in force that removes them with the position, and needs a position;
   `GTC` keeps a bridge out of that, so that it can stand beside one.
6. Past the trigger already: -2021.
"""

import asyncio
import logging
import time
from decimal import Decimal
from typing import Any

import msgspec

from app.domain.money import ZERO, floor_to_step, plain
from app.domain.order import PositionSide
from app.errors import Conflict, Transient, VenueError
from app.log import event
from app.venues.binance import rows, wire
from app.venues.binance.codes import NO_POSITION_YET, STOP_EXISTS
from app.venues.binance.failures import EDGE, asking, changing
from app.venues.binance.http import BinanceHttp
from app.venues.binance.rules import Rules
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.gate import Urgency
from app.venues.kinds import Kind
from app.venues.numbers import number

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
PAUSE_S = 0.15


class _Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A closing stop of one side."""

    algo_id: int
    price: Decimal
    whole: bool  # of the whole position, whatever it grows to
    ours: bool
    qty: Decimal


class Stops:
    def __init__(self, http: BinanceHttp, rules: Rules) -> None:
        self._http = http
        self._rules = rules

    async def resting(self, symbol: str, *, urgency: Urgency = Urgency.OPEN) -> list[wire.AlgoRow]:
        """All conditional orders of a symbol, closing or not. Raises as a request does, or what decoding does."""
        body = await self._http.read(BinanceHttp.futures_get_open_algo_orders, urgency=urgency, symbol=symbol)
        return [row for row in wire.ALGOS.decode(body) if row.symbol == symbol]

    async def set(
        self, symbol: str, side: PositionSide, price: Decimal | None, *, hedge: bool, qty: Decimal | None
    ) -> None:
        """As `Venue.set_stop`."""
        job = _Job(self._http, self._rules, self, symbol, side, hedge, qty)
        if price is None:
            await job.remove()
        else:
            await job.set(price)


class _Job:
    """One call for one side of one symbol."""

    def __init__(
        self,
        http: BinanceHttp,
        rules: Rules,
        stops: Stops,
        symbol: str,
        side: PositionSide,
        hedge: bool,
        qty: Decimal | None,
    ) -> None:
        self._http = http
        self._rules = rules
        self._all = stops
        self._symbol = symbol
        self._side = side
        self._hedge = hedge
        self._qty = qty  # held by our own fills, whether Binance shows it or not
        self._deadline = time.monotonic() + PATIENCE_S
        self._held = ZERO
        self._bridge_stays = False  # no stop of the whole position is taken yet
        self._stops: list[_Stop] = []

    async def remove(self) -> None:
        with changing():
            await self._read_stops()
            await asyncio.gather(*(self._cancel(stop) for stop in self._stops if stop.ours))

    async def set(self, price: Decimal) -> None:
        if not await self._position_is_seen(price):
            return
        crossed = False
        while not any(stop.whole and stop.price == price for stop in self._stops):
            old = [stop for stop in self._stops if stop.whole]
            if old:
                crossed = True
                await self._build_bridge(price)
                with asking():
                    await asyncio.gather(*(self._cancel(stop) for stop in old))
            if await self._place_whole(price, gone=bool(old)):
                break
            # One exists that the list did not show (quirk 1).
            await self._pause(f"Binance says that a stop of {self._symbol} rests already, and shows none")
            with asking():
                await self._read_stops()
        if not self._bridge_stays and (crossed or any(stop.ours and not stop.whole for stop in self._stops)):
            await self._clean(price)

    async def _position_is_seen(self, price: Decimal) -> bool:
        """Wait for the position; meanwhile, and instead of it, a stop of the quantity that is known to be held."""
        while True:
            with asking():
                await asyncio.gather(self._read_stops(), self._read_held())
            if self._held > 0:
                return True
            if self._qty is not None:
                await self._build_bridge(price)
            if time.monotonic() > self._deadline:
                if self._qty is not None:
                    return False
                await self._forsake()
                raise self._no_position()
            await asyncio.sleep(PAUSE_S)  # quirk 4

    async def _read_stops(self) -> None:
        self._stops = []
        for row in await self._all.resting(self._symbol, urgency=Urgency.CLOSE):
            stop = rows.closing_stop(row)
            if stop is not None and stop.side is self._side:
                ours, qty = rows.is_our_stop(row.clientAlgoId), number(row.quantity) or ZERO
                self._stops.append(
                    _Stop(algo_id=row.algoId, price=stop.price, whole=row.closePosition, ours=ours, qty=qty)
                )

    async def _read_held(self) -> None:
        body = await self._http.read(
            BinanceHttp.futures_position_information, urgency=Urgency.CLOSE, symbol=self._symbol
        )
        found = (rows.held(row) for row in wire.POSITIONS.decode(body) if row.symbol == self._symbol)
        self._held = next((held[1] for held in found if held is not None and held[0] is self._side), ZERO)

    async def _place_whole(self, price: Decimal, *, gone: bool) -> bool:
        """Whether it rests now; False when another one does. With `gone` that one is known and only lingers."""
        while True:
            try:
                await self._place(price, closePosition="true")
                return True
            except (NotSent, NoAnswer) as exc:
                raise EDGE.failure(exc) from None
            except VenueSaid as said:
                if said.code == STOP_EXISTS and not gone:
                    return False
                if said.code == NO_POSITION_YET:
                    await self._build_bridge(price)  # it is held all the same: see `_position_is_seen`
                    if time.monotonic() > self._deadline:
                        self._bridge_stays = True
                        return True
                if said.code not in (STOP_EXISTS, NO_POSITION_YET):
                    raise EDGE.failure(said) from None
            await self._pause(f"Binance does not take the stop of {self._symbol} yet")  # quirks 3 and 4

    async def _build_bridge(self, price: Decimal) -> None:
        """A stop of the held quantity at `price`, unless there is one."""
        held = self._held or self._qty or ZERO
        if any(s.ours and not s.whole and s.price == price and s.qty >= held for s in self._stops):
            return
        instrument = (await self._rules.rule(self._symbol)).instrument
        qty = floor_to_step(min(held, instrument.market_qty_max), instrument.qty_step)
        params = {"quantity": plain(qty), "timeInForce": "GTC"}  # quirk 5
        if not self._hedge:
            params["reduceOnly"] = "true"
        with asking():
            await self._place(price, **params)
        self._stops.append(_Stop(algo_id=0, price=price, whole=False, ours=True, qty=qty))  # until the list shows it

    async def _place(self, price: Decimal, **params: Any) -> None:
        if self._hedge:
            params["positionSide"] = rows.POSITION_SIDES[self._side]
        await self._http.write(
            BinanceHttp.futures_create_algo_order,
            urgency=Urgency.CLOSE,
            algoType="CONDITIONAL",
            symbol=self._symbol,
            side=rows.SIDES[self._side.closes_with],
            type="STOP_MARKET",
            triggerPrice=plain(price),
            workingType="CONTRACT_PRICE",
            clientAlgoId=rows.new_stop_id(),
            **params,
        )

    async def _cancel(self, stop: _Stop) -> None:
        """Gone already is success. Raises as a request does."""
        try:
            await self._http.write(
                BinanceHttp.futures_cancel_algo_order, urgency=Urgency.CLOSE, algoId=str(stop.algo_id)
            )
        except VenueSaid as said:
            if said.kind is not Kind.GONE:
                raise

    async def _clean(self, price: Decimal) -> None:
        """Remove what the one stop makes superfluous. That one rests, so nothing here may fail the call."""
        try:
            with asking():
                await self._read_stops()
                for stop in self._stops:
                    if stop.ours and not (stop.whole and stop.price == price):
                        await self._cancel(stop)
        except VenueError as exc:
            event(log, logging.WARNING, "a bridge was left", venue="binance", symbol=self._symbol, reason=str(exc))

    async def _forsake(self) -> None:
        """There is no position: nothing of ours may wait for the next one."""
        try:
            await self.remove()
        except VenueError as exc:
            event(log, logging.WARNING, "a stop was left", venue="binance", symbol=self._symbol, reason=str(exc))

    async def _pause(self, why: str) -> None:
        if time.monotonic() > self._deadline:
            raise Transient(why)
        await asyncio.sleep(PAUSE_S)

    def _no_position(self) -> Conflict:
        return Conflict(f"Binance holds no {self._side} position in {self._symbol}", kind="no_position")
