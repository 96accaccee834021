"""Bybit V5, category `linear`: USDT perpetuals of a unified account, in one-way or hedge mode.

Quirks; the pages are under https://bybit-exchange.github.io/docs/v5/ and were read in July 2026:
1. Errors come with HTTP 200; `retCode` alone tells (guide#error-codes). They are classed in `codes`.
2. "" means "no value": a flat position is a row of mostly "", and an unset stop is "", "0" or "0.00" (position).
3. An accepted order is not a filled one, and may still be rejected; a cancelled one may have fills: a market order is
   an IOC limit order at a protective price (order/create-order, enum#orderstatus).
4. A used `orderLinkId` is refused for ever, as far as is known: 110072 proves that the earlier request arrived.
5. order/realtime forgets ended orders when Bybit restarts; order/history lags behind: both are asked.
6. The execution list holds funding and settlement too; only trades, ADL and takeovers change a position
   (enum#exectype). It answers at most seven days from `startTime` on (order/execution).
7. Orders that Bybit makes itself have a blank `orderLinkId`; `createType` says what made them (enum#createtype).
8. Position mode is per symbol; a position list by symbol has a row with index 0 in one-way mode, rows 1 (long) and 2
   (short) in hedge mode, flat or not. By settle coin it lists only what is held (position).
9. An attached stop is not allowed on a reduce-only order. `tpslMode=Full` is the one stop of the whole position: a
   later trading-stop call replaces it (order/create-order, position/trading-stop).
10. A stop on the wrong side, a missing position and a wrong position index are all the parameter error 10001. The
    first is recognised by its text, the others by asking how the symbol stands.
11. "Already so" is an error: 34040 (stop), 110043 (leverage).
12. Market data comes newest first (market/kline, market/recent-trade).
13. `totalEquity` values all coins, collateral or not, in USD. Positions here win and lose USDT, and a size in percent
    of a bag of other coins would surprise: the USDT row counts where there is one (account/wallet-balance).
14. In isolated margin mode the account-wide numbers are "": available is then what USDT has left.
15. Executions carry no position index: which side one acted on follows from its own side and `closedSize`, the part
    of it that took off the opposite side (order/execution).
16. Margin mode belongs to the account, not to a symbol (account/set-margin-mode).
17. order/pre-check computes margin and does not check what an order is checked for: there is no test order.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import msgspec

from app.domain.money import plain
from app.domain.order import MarginMode, PositionMode, PositionSide, Side
from app.domain.position import Fill
from app.domain.refusals import Outcome
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused
from app.keys import Credentials
from app.venues.base import (
    Equity,
    Holding,
    NewOrder,
    OrderReport,
    Origins,
    Permissions,
    Placing,
    PrivateListener,
    RestingStop,
    Standing,
    Traits,
)
from app.venues.bybit import rows as bybit_rows
from app.venues.bybit import wire
from app.venues.bybit.calls import EDGE, Calls, asking, wrong_side
from app.venues.bybit.codes import NO_SUCH_PATH, PARAMETER_ERROR
from app.venues.bybit.entry import BybitEntry, Written
from app.venues.bybit.http import BybitHttp
from app.venues.bybit.limits import ADDRESS
from app.venues.bybit.market import BybitMarket
from app.venues.bybit.stream import BybitPrivateStream
from app.venues.failures import NoAnswer, NotSent, VenueSaid
from app.venues.gate import Gate, Urgency
from app.venues.kinds import Kind
from app.venues.numbers import Unreadable, milliseconds

EXECUTION_WINDOW = timedelta(days=7)
MINUTE_MS = 60_000
MARGIN_MODE_TTL_S = 60.0

SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
INDEXES = {PositionSide.LONG: 1, PositionSide.SHORT: 2}  # in hedge mode; 0 in one-way mode


class Ready(msgspec.Struct, frozen=True, gc=False):
    """An order that is encoded, whichever account here sends it; its `signed_at` counts for nothing."""

    order: NewOrder
    urgency: Urgency
    params: bytes


class BybitVenue(BybitMarket):
    """One account."""

    traits = Traits(
        attaches_stops=True,
        refuses_used_ids=True,
        sets_margin_mode=False,  # quirk 16
        order_limits=(ADDRESS, BybitHttp.place_order.__name__),
    )

    def __init__(
        self,
        credentials: Credentials,
        origins: Origins,
        *,
        recv_window_ms: int = 5000,
        timeout_s: float = 10.0,
        gate: Gate | None = None,
    ) -> None:
        """Raises Refused when the credentials are of no use to Bybit."""
        super().__init__(Calls(credentials, origins, recv_window_ms=recv_window_ms, timeout_s=timeout_s, gate=gate))
        self._credentials = credentials
        self._ws_origin = origins.ws_private or origins.ws
        self._margin_mode: tuple[float, MarginMode | None] = (float("-inf"), None)  # (monotonic time when read, mode)

    @property
    def entry(self) -> BybitEntry | None:
        """The socket for orders; None where there is none."""
        return self._calls.entry

    async def permissions(self) -> Permissions:
        with asking():
            try:
                envelope = await self._calls.read(BybitHttp.get_api_key_information)
            except VenueSaid as said:
                if said.code not in (NO_SUCH_PATH, 404):
                    raise
                detail = "this environment does not say what a key may do"
                return Permissions(can_trade=True, can_withdraw=None, ip_restricted=None, detail=detail)
            return bybit_rows.permissions(wire.KEY_INFO.decode(envelope.result))

    async def test_order(self, symbol: str) -> bool:
        return False  # quirk 17

    async def equity(self) -> Equity:
        with asking():
            envelope = await self._calls.read(BybitHttp.get_wallet_balance, accountType="UNIFIED")
            rows = wire.WALLETS.decode(envelope.result).list
            if not rows:
                raise Unreadable("no unified account")
            return bybit_rows.equity(rows[0])

    async def standing(self, symbol: str) -> Standing:
        with asking():
            rows, margin_mode = await asyncio.gather(self._position_rows(symbol), self._account_margin_mode())
            return bybit_rows.standing(symbol, rows, margin_mode)

    async def holdings(self) -> list[Holding]:
        with asking():
            rows = await self._calls.pages(
                BybitHttp.get_positions, wire.POSITIONS, category="linear", settleCoin="USDT", limit=200
            )
            return [found for row in rows if (found := bybit_rows.holding(row)) is not None]

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Raises Refused or Transient: setting it again is harmless, so an unknown outcome is told as "try again"."""
        text = plain(leverage)
        with asking():
            await self._calls.change(
                BybitHttp.set_leverage,
                Urgency.OPEN,
                category="linear",
                symbol=symbol,
                buyLeverage=text,
                sellLeverage=text,
            )

    async def set_margin_mode(self, symbol: str, mode: MarginMode) -> None:
        with asking():
            if mode not in (await self._account_margin_mode(), await self._account_margin_mode(fresh=True)):
                raise Refused(
                    Outcome.MARGIN_MODE_MISMATCH,
                    f"at Bybit margin mode is the whole account's, and it is not {mode}: change it there",
                )

    async def place(self, order: NewOrder) -> str:
        ready, signed_ms = self.prepared(order), milliseconds(order.signed_at)
        return await self._outcome(ready, signed_ms, self._written(ready, signed_ms))

    def prepared(self, order: NewOrder) -> Ready:
        return Ready(order, Urgency.CLOSE if order.reduce_only else Urgency.OPEN, msgspec.json.encode(_params(order)))

    def place_now(self, prepared: Ready, signed_ms: int) -> Placing | None:
        written = self._written(prepared, signed_ms)
        if written is None:
            return None
        return partial(self._outcome, prepared, signed_ms, written)

    def _written(self, ready: Ready, signed_ms: int) -> Written | None:
        return self._calls.write_order(ready.urgency, ready.params, signed_ms=signed_ms)

    async def _outcome(self, ready: Ready, signed_ms: int, written: Written | None) -> str:
        """Of an order that was written to the socket, or else is sent over REST now; it leaves once."""
        order = ready.order
        try:
            if written is None:
                envelope = await self._calls.place(ready.urgency, _params(order), signed_ms=signed_ms)
            else:
                envelope = await self._calls.outcome(written, order.symbol)
            return wire.PLACED.decode(envelope.result).orderId
        except VenueSaid as said:
            if said.kind is Kind.REFUSED:
                self._forget(order.symbol)
            if said.code == PARAMETER_ERROR and not wrong_side(said):
                await self._check_mode(order.symbol, order.hedge, said)
            raise EDGE.order_failure(said, order) from None
        except (NotSent, NoAnswer) as exc:
            raise EDGE.order_failure(exc, order) from None
        except msgspec.MsgspecError:
            raise OutcomeUnknown("Bybit took the order and its answer could not be read") from None

    async def order(self, symbol: str, client_order_id: str) -> OrderReport | None:
        with asking():
            for method in (BybitHttp.get_open_orders, BybitHttp.get_order_history):  # quirk 5
                try:
                    envelope = await self._calls.read(
                        method, category="linear", symbol=symbol, orderLinkId=client_order_id
                    )
                except VenueSaid as said:
                    if said.kind is Kind.GONE:
                        continue
                    raise
                for row in wire.ORDERS.decode(envelope.result).list:
                    if row.orderLinkId == client_order_id:
                        return bybit_rows.report(row, client_order_id)
        return None

    async def fills(
        self, symbol: str, *, client_order_id: str | None = None, since: datetime | None = None
    ) -> list[Fill]:
        rows: dict[str, wire.ExecutionRow] = {}
        with asking():
            for start, end in self._execution_windows(since, of_order=client_order_id is not None):
                found = await self._calls.pages(
                    BybitHttp.get_executions,
                    wire.EXECUTIONS,
                    category="linear",
                    symbol=symbol,
                    orderLinkId=client_order_id,
                    startTime=start,
                    endTime=end,
                    limit=100,
                )
                rows |= {row.execId: row for row in found if row.symbol == symbol}
            wanted = [
                row
                for row in rows.values()
                if row.execType in bybit_rows.POSITION_CHANGING and client_order_id in (None, row.orderLinkId)
            ]
            return sorted(
                (bybit_rows.fill(row) for row in wanted), key=lambda fill: (fill.filled_at, fill.venue_fill_id)
            )

    async def set_stop(
        self, symbol: str, side: PositionSide, price: Decimal | None, *, hedge: bool, qty: Decimal | None = None
    ) -> None:
        """Raises Refused, Conflict or Transient: setting it again is harmless, see `set_leverage`."""
        with asking():
            try:
                await self._calls.change(
                    BybitHttp.set_trading_stop,
                    Urgency.CLOSE,
                    category="linear",
                    symbol=symbol,
                    positionIdx=_index(side, hedge),
                    tpslMode="Full",
                    stopLoss="0" if price is None else plain(price),
                    slTriggerBy="LastPrice",
                )
            except VenueSaid as said:
                if said.kind is Kind.GONE:
                    raise _no_position(symbol, side) from None
                if said.code == PARAMETER_ERROR and not wrong_side(said):  # quirk 10
                    standing = await self._check_mode(symbol, hedge, said)
                    if standing is not None and standing.on(side) is None:
                        raise _no_position(symbol, side) from None
                raise

    async def resting_stops(self, symbol: str) -> list[RestingStop]:
        with asking():
            rows = await self._calls.pages(
                BybitHttp.get_open_orders,
                wire.ORDERS,
                category="linear",
                symbol=symbol,
                orderFilter="StopOrder",
                limit=50,
            )
            stops = (bybit_rows.resting_stop(row) for row in rows if row.symbol == symbol)
            return sorted((stop for stop in stops if stop is not None), key=lambda stop: (stop.side, stop.price))

    def private_stream(self, listener: PrivateListener) -> BybitPrivateStream:
        return BybitPrivateStream(self._ws_origin, self._credentials, listener, now_ms=self._calls.clock.now_ms)

    async def close(self) -> None:
        await self._instruments.close()
        await self._calls.close()

    def _forget(self, symbol: str) -> None:
        """What was remembered may have been the reason for a refusal."""
        self._instruments.forget(symbol)
        self._margin_mode = (float("-inf"), None)

    async def _check_mode(self, symbol: str, hedge: bool, said: VenueSaid) -> Standing | None:
        """After a parameter error: Refused if the position index was the wrong one. None: it could not be found out."""
        try:
            with asking():
                standing = bybit_rows.standing(symbol, await self._position_rows(symbol), None)
        except LevelheadError:
            return None
        mode = PositionMode.HEDGE if hedge else PositionMode.ONE_WAY
        if standing.position_mode is not mode:
            raise Refused(
                Outcome.POSITION_MODE_MISMATCH,
                f"{symbol} is in {standing.position_mode.words} mode at Bybit, and this was for {mode.words} mode: "
                f"switch it there, or verify the account again",
                venue_code=said.venue_code,
            )
        return standing

    async def _position_rows(self, symbol: str) -> list[wire.PositionRow]:
        envelope = await self._calls.read(BybitHttp.get_positions, category="linear", symbol=symbol)
        rows = [row for row in wire.POSITIONS.decode(envelope.result).list if row.symbol == symbol]
        if not rows:
            raise Unreadable(f"no position row for {symbol}")
        return rows

    async def _account_margin_mode(self, *, fresh: bool = False) -> MarginMode | None:
        read_at, mode = self._margin_mode
        if fresh or time.monotonic() - read_at >= MARGIN_MODE_TTL_S:
            envelope = await self._calls.read(BybitHttp.get_account_info)
            mode = bybit_rows.MARGIN_MODES.get(wire.ACCOUNT_INFO.decode(envelope.result).marginMode)  # quirk 16
            self._margin_mode = (time.monotonic(), mode)
        return mode

    def _execution_windows(self, since: datetime | None, *, of_order: bool) -> Iterator[tuple[int | None, int | None]]:
        """One order's executions are found without times, unless it is older than a list without times reaches."""
        width = EXECUTION_WINDOW // timedelta(milliseconds=1)
        now = self._calls.clock.now_ms()
        start = now if since is None else milliseconds(since)
        if since is None or (of_order and now - start < width - MINUTE_MS):
            yield None, None
            return
        while True:
            yield start, start + width
            start += width
            if start > now:
                return


def _params(order: NewOrder) -> dict[str, object]:
    """The same on both roads."""
    assert not (order.reduce_only and order.stop_loss is not None)  # quirk 9
    params: dict[str, object] = {
        "category": "linear",
        "symbol": order.symbol,
        "side": SIDES[order.side],
        "orderType": "Market",
        "qty": plain(order.qty),
        "positionIdx": _index(order.position_side, order.hedge),
        "reduceOnly": order.reduce_only,
        "orderLinkId": order.client_order_id,
    }
    if order.stop_loss is not None:
        params |= {"stopLoss": plain(order.stop_loss), "tpslMode": "Full", "slTriggerBy": "LastPrice"}
    return params


def _index(side: PositionSide, hedge: bool) -> int:
    return INDEXES[side] if hedge else 0


def _no_position(symbol: str, side: PositionSide) -> Conflict:
    return Conflict(f"Bybit holds no {side} position in {symbol}", kind="no_position")
