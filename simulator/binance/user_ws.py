"""The route /private: what happens to the account of a listen key.

Nothing is replayed and there is no snapshot: who connects asks REST after. A listen key that does not live is accepted
and stays silent.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from aiohttp import web

from simulator.binance import events, names, rows
from simulator.binance.account_rows import Figures, Wallet
from simulator.binance.context import Context
from simulator.binance.links import Streams
from simulator.faults import FaultKind
from simulator.instruments import Instrument
from simulator.model import (
    ZERO,
    Account,
    Event,
    ExecType,
    Fill,
    Filled,
    Order,
    OrderChanged,
    OrderStatus,
    PositionChanged,
    WalletChanged,
)

EVENTS = (
    "ORDER_TRADE_UPDATE",
    "ACCOUNT_UPDATE",
    "ALGO_UPDATE",
    "TRADE_LITE",
    "ACCOUNT_CONFIG_UPDATE",
    "MARGIN_CALL",
    "listenKeyExpired",
)
TOLD_MAX = 50_000  # orders whose last told form is kept


class UserSocket:
    def __init__(self, context: Context) -> None:
        self.streams = Streams(context, "private", _topics)
        self._context = context
        self._told: OrderedDict[str, tuple[Decimal, Decimal | None]] = OrderedDict()  # id -> qty and price as told
        self._waiting: list[tuple[str, str, events.Frame]] = []  # listen key, symbol, frame
        context.exchange.on_events.append(self._on_events)
        context.on_listen_key_end = self._on_listen_key_end
        context.on_leverage = self._on_leverage

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/private/ws", self._serve(combined=False)),
            web.get("/private/ws/{key}", self._serve(combined=False)),
            web.get("/private/stream", self._serve(combined=True)),
        ]

    def _serve(self, *, combined: bool) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            named = [request.match_info["key"]] if "key" in request.match_info else []
            return await self.streams.serve(request, named + _asked(request.query.items()), combined=combined)

        return handle

    # --- what the engine did

    def _on_events(self, happened: list[Event]) -> None:
        accounts = self._context.engine.accounts
        for n, event in enumerate(happened):
            match event:
                case Filled(fill) if fill.account in accounts:
                    self._on_fill(accounts[fill.account], fill, happened, n)
                case OrderChanged(order) if order.account in accounts:
                    before = happened[n - 1] if n else None
                    own = isinstance(before, Filled) and before.fill.order_id == order.order_id
                    self._on_order(order, told=own)
                case _:
                    pass  # positions and wallet are told with the fill that moved them
        self._publish_waiting()

    def _on_fill(self, account: Account, fill: Fill, happened: list[Event], n: int) -> None:
        if fill.exec_type is ExecType.FUNDING:
            self._tell_account(account, fill, "FUNDING_FEE", -fill.fee, [])
            return
        order = _order_after(happened, n)
        if order is None:
            return
        i = self._instrument(order)
        if not rows.is_exchange_made(order):
            new = order.order_id not in self._told and not fill.is_maker  # who rested was told of, before a restart
            if new and names.is_algo(order):
                self._tell_algo(order, "TRIGGERED")
            self._send(account.name, order.symbol, lambda now_ms: events.trade_lite(order, fill, i, now_ms))
            if new:
                self._tell_order(order, "NEW")
        self._tell_account(account, fill, "ORDER", ZERO, _positions_after(happened, n, fill))
        kind = events.execution_kind(fill)
        self._tell_order(order, kind, fill)
        self._remember(order.order_id, order.qty, order.price)

    def _tell_account(
        self, account: Account, fill: Fill, reason: str, change: Decimal, positions: list[PositionChanged]
    ) -> None:
        engine = self._context.engine

        def frame(now_ms: int) -> events.Frame:
            wallet = Wallet(engine, account)
            figures = [Figures(engine, account, p.view.position) for p in positions]
            return events.account_update(reason, wallet.balance, wallet.cross, change, figures, fill.at_ms, now_ms)

        self._send(account.name, fill.symbol, frame)

    def _on_order(self, order: Order, *, told: bool) -> None:
        """`told`: the fill before has said it all, but for a conditional order's own end."""
        if names.is_algo(order):
            self._on_algo(order)
            if not names.has_fired(order) or order.status is OrderStatus.TRIGGERED:
                return
        if told:
            if names.is_algo(order) and not order.is_open:
                self._tell_algo(order, "FINISHED")
            return
        seen = self._told.get(order.order_id)
        if order.is_open:
            if seen is None:
                self._tell_new(order)
            elif seen != (order.qty, order.price):
                self._tell_order(order, "AMENDMENT")
            self._remember(order.order_id, order.qty, order.price)
            return
        if seen is None:
            self._tell_new(order)
        self._tell_order(order, names.order_status(order))
        if names.is_algo(order):
            self._tell_algo(order, "FINISHED")

    def _on_algo(self, order: Order) -> None:
        """The life before there is an ordinary order, and its start."""
        if order.status is OrderStatus.TRIGGERED:
            self._tell_algo(order, "TRIGGERING")
        elif not order.fired_seq or names.is_refused_at_trigger(order):
            key = f"algo/{order.order_id}"
            seen = self._told.get(key)
            self._remember(key, order.qty, order.trigger_price)
            if seen is None or order.status is not OrderStatus.UNTRIGGERED:
                self._tell_algo(order, names.algo_status(order))

    def _tell_new(self, order: Order) -> None:
        if names.is_algo(order):
            self._tell_algo(order, "TRIGGERED")
        self._tell_order(order, "NEW")
        self._remember(order.order_id, order.qty, order.price)

    def _remember(self, key: str, qty: Decimal, price: Decimal | None) -> None:
        self._told[key] = qty, price
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)

    def _tell_order(self, order: Order, kind: str, fill: Fill | None = None) -> None:
        i, asked = self._instrument(order), self._context.asked_of(order)
        self._send(order.account, order.symbol, lambda now_ms: events.order_update(order, i, asked, kind, now_ms, fill))

    def _tell_algo(self, order: Order, status: str) -> None:
        i, asked = self._instrument(order), self._context.asked_of(order)
        self._send(order.account, order.symbol, lambda now_ms: events.algo_update(order, i, asked, status, now_ms))

    def _instrument(self, order: Order) -> Instrument:
        return self._context.engine.market(order.symbol).instrument

    # --- settings and keys

    def _on_leverage(self, account: str, symbol: str, leverage: int) -> None:
        self._send(account, symbol, lambda now_ms: events.leverage_update(symbol, leverage, now_ms))
        self._publish_waiting()

    def _on_listen_key_end(self, key: str, told: bool) -> None:
        """Run out: its links hear of it and stay, silent. Closed: they end."""
        if told:
            frame = events.listen_key_expired(key, self._context.now_ms())
            self.streams.publish(f"{key}/listenKeyExpired", frame, stream=key)
        else:
            self.streams.close(f"{key}/listenKeyExpired")

    def _send(self, account: str, symbol: str, make: Callable[[int], events.Frame]) -> None:
        """Make the frame only if the account has a live key that somebody listens to."""
        key = self._context.listen_keys.of(account)
        if key is None or not any(self.streams.wants(f"{key}/{event}") for event in EVENTS):
            return
        self._waiting.append((key, symbol, make(self._context.now_ms())))

    def _publish_waiting(self) -> None:
        """The frames of one moment, in their order unless a fault turns it round."""
        frames, self._waiting = self._waiting, []
        take, now_s = self._context.exchange.faults.take, self._context.exchange.now_s()
        if len(frames) > 1 and take(FaultKind.REORDER, now_s, channel="private") is not None:
            frames.reverse()
        for key, symbol, frame in frames:
            twice = take(FaultKind.DUPLICATE_EVENTS, now_s, symbol=symbol, channel="private")
            times = 2 if twice is not None else 1
            self.streams.publish(f"{key}/{frame['e']}", frame, symbol=symbol, stream=key, times=times)


def _order_after(happened: list[Event], n: int) -> Order | None:
    """An order's new state follows its fill at once."""
    after = happened[n + 1] if n + 1 < len(happened) else None
    return after.order if isinstance(after, OrderChanged) else None


def _positions_after(happened: list[Event], n: int, fill: Fill) -> list[PositionChanged]:
    """What became of the leg that was traded: up to the wallet's own event, which ends what belongs to the fill."""
    found = []
    for event in happened[n + 1 :]:
        if isinstance(event, WalletChanged):
            break
        if isinstance(event, PositionChanged):
            p = event.view.position
            if p.symbol == fill.symbol and p.position_side is fill.position_side:
                found.append(event)
    return found[-1:]


def _topics(stream: str) -> list[str]:
    """A listen key, with its events after a comma each or all of them."""
    key, _, wanted = stream.partition(",")
    picked = wanted.split("/") if wanted else list(EVENTS)
    return [f"{key}/{event}" for event in {*picked, "listenKeyExpired"}]


def _asked(query: Iterable[tuple[str, str]]) -> list[str]:
    """listenKey and events parameters, in pairs."""
    found: list[str] = []
    for name, value in query:
        if name == "listenKey":
            found.append(value)
        elif name == "events" and found:
            found[-1] += f",{value}"
    return found
