"""The control API's part for what an account has and what happens to it: keys, trades by hand, instruments, and what
the exchange does by itself."""

from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from simulator.control_parts import Body, answer, bad, read
from simulator.exchange import Exchange
from simulator.instruments import Instrument
from simulator.keys import ApiKey
from simulator.model import Account, CreatedBy, NewOrder, OrderType, PositionSide, Side

# venue -> taker's and maker's fee of a new account
FEES = {
    "bybit": (Decimal("0.00055"), Decimal("0.0002")),
    "binance": (Decimal("0.0005"), Decimal("0.0002")),
}
POSITION_SIDES = {
    "long": PositionSide.LONG,
    "buy": PositionSide.LONG,
    "short": PositionSide.SHORT,
    "sell": PositionSide.SHORT,
}


class Permissions(Body, frozen=True, kw_only=True):
    """Fields left out stay as they are. `ips`: addresses the key may be used from; []: from any."""

    trade: bool | None = None
    withdraw: bool | None = None
    read_only: bool | None = None
    expired: bool | None = None
    ips: list[str] | None = None


class AccountBody(Body, frozen=True, kw_only=True):
    """One of `api_secret` and `public_key` (PEM). `hedge` and `position_mode` say the same."""

    api_key: str
    api_secret: str = ""
    public_key: str = ""
    balance: Decimal | None = None
    venue: str = "bybit"
    hedge: bool = False
    position_mode: str = "one_way"
    isolated: bool = False
    permissions: Permissions = Permissions()

    def __post_init__(self) -> None:
        if self.venue not in FEES:
            raise ValueError(f"venue is one of {', '.join(FEES)}")
        if self.position_mode not in ("one_way", "hedge"):
            raise ValueError("position_mode is one_way or hedge")


class PermissionsBody(Permissions, frozen=True, kw_only=True):
    api_key: str


class InstrumentBody(Body, frozen=True, kw_only=True):
    """Fields left out stay as they are; a new symbol needs the filters and a start price."""

    symbol: str
    base_coin: str | None = None
    tick_size: Decimal | None = None
    qty_step: Decimal | None = None
    min_qty: Decimal | None = None
    max_qty: Decimal | None = None
    max_market_qty: Decimal | None = None
    start_price: Decimal | None = None
    min_notional: Decimal | None = None
    max_leverage: Decimal | None = None
    min_leverage: Decimal | None = None
    leverage_step: Decimal | None = None
    max_price: Decimal | None = None
    status: str | None = None


class PositionBody(Body, frozen=True, kw_only=True):
    """In hedge mode without `position_side`: the leg that the side opens, or with `reduce_only` the one it closes."""

    symbol: str
    side: Side
    qty: Decimal
    api_key: str | None = None
    reduce_only: bool = False
    position_side: str | None = None


class HeldBody(Body, frozen=True, kw_only=True):
    """A position; its side may be left out while the symbol has only one."""

    symbol: str
    api_key: str | None = None
    side: str | None = None


class AdlBody(HeldBody, frozen=True, kw_only=True):
    qty: Decimal | None = None  # None: all of it


class FundingBody(Body, frozen=True, kw_only=True):
    symbol: str
    rate: Decimal


class ControlAccounts:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._engine = exchange.engine

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/control/accounts", self.add_account),
            web.post("/control/permissions", self.set_permissions),
            web.post("/control/instruments", self.put_instrument),
            web.post("/control/positions", self.trade_by_hand),
            web.post("/control/liquidate", self.liquidate),
            web.post("/control/adl", self.deleverage),
            web.post("/control/funding", self.fund),
        ]

    async def add_account(self, request: web.Request) -> web.Response:
        wanted = await read(request, AccountBody)
        if not wanted.api_key:
            raise bad("api_key must not be empty")
        if wanted.api_key in self._exchange.keys:
            raise bad(f"there is an account {wanted.api_key} already")
        key = ApiKey(secret=wanted.api_secret, public_key=wanted.public_key)
        try:
            key.check()
        except ValueError as exc:
            raise bad(str(exc)) from None
        _permit(key, wanted.permissions)
        account = self._exchange.add_account(wanted.api_key, key, wanted.balance)
        account.venue = wanted.venue
        account.taker_fee, account.maker_fee = FEES[wanted.venue]
        account.hedge = wanted.hedge or wanted.position_mode == "hedge"
        account.isolated = wanted.isolated
        return answer({"account": wanted.api_key})

    async def set_permissions(self, request: web.Request) -> web.Response:
        wanted = await read(request, PermissionsBody)
        key = self._exchange.keys[self._account(wanted.api_key).name]
        _permit(key, wanted)
        self._exchange.changed = True
        return answer({name: getattr(key, name) for name in Permissions.__struct_fields__})

    async def put_instrument(self, request: web.Request) -> web.Response:
        wanted = await read(request, InstrumentBody)
        given = {k: v for k, v in msgspec.structs.asdict(wanted).items() if v is not None}
        market = self._engine.markets.get(wanted.symbol)
        try:
            if market is not None:
                instrument = msgspec.structs.replace(market.instrument, **given)
            else:
                given.setdefault("base_coin", wanted.symbol.removesuffix("USDT"))
                instrument = Instrument(**given)
        except (TypeError, ValueError) as exc:
            raise bad(str(exc)) from None
        self._exchange.put_instrument(instrument)
        return answer(instrument)

    async def trade_by_hand(self, request: web.Request) -> web.Response:
        """A trade that no client ordered, as a person makes it at the exchange's own page."""
        wanted = await read(request, PositionBody)
        account = self._account(wanted.api_key)
        position_side = PositionSide.BOTH
        if account.is_hedge(wanted.symbol):
            opens = wanted.side.opposite if wanted.reduce_only else wanted.side
            position_side = _position_side(wanted.position_side or opens.value)
        new = NewOrder(
            symbol=wanted.symbol,
            side=wanted.side,
            position_side=position_side,
            type=OrderType.MARKET,
            qty=wanted.qty,
            reduce_only=wanted.reduce_only,
            created_by=CreatedBy.HAND,
        )
        order = self._engine.place(account, new, self._exchange.now_ms())
        self._exchange.flush()
        return answer({"order_id": order.order_id})

    async def liquidate(self, request: web.Request) -> web.Response:
        return self._take_over(await read(request, HeldBody))

    async def deleverage(self, request: web.Request) -> web.Response:
        wanted = await read(request, AdlBody)
        return self._take_over(wanted, adl=True, qty=wanted.qty)

    def _take_over(self, wanted: HeldBody, **how: Any) -> web.Response:
        account = self._account(wanted.api_key)
        self._engine.market(wanted.symbol)
        held = [p.position_side for p in self._engine.positions(account, wanted.symbol) if p.qty]
        if wanted.side is not None and account.is_hedge(wanted.symbol):
            position_side = _position_side(wanted.side)
        elif len(held) > 1:
            raise bad("there are two positions: give side")
        else:
            position_side = held[0] if held else PositionSide.BOTH
        if position_side not in held:
            raise bad(f"{account.name} has no such position of {wanted.symbol}")
        now_ms = self._exchange.now_ms()
        order = self._engine.take_over(account, wanted.symbol, now_ms, position_side=position_side, **how)
        self._exchange.flush()
        return answer({"order_id": order.order_id})

    async def fund(self, request: web.Request) -> web.Response:
        wanted = await read(request, FundingBody)
        paid = self._engine.fund(wanted.symbol, wanted.rate, self._exchange.now_ms())
        self._exchange.flush()
        return answer({"positions": paid})

    def _account(self, api_key: str | None) -> Account:
        account = self._engine.accounts.get(api_key or self._exchange.config.api_key)
        if account is None:
            raise bad(f"there is no account {api_key}")
        return account


def _position_side(word: str) -> PositionSide:
    try:
        return POSITION_SIDES[word.lower()]
    except KeyError:
        raise bad("side is long or short") from None


def _permit(key: ApiKey, wanted: Permissions) -> None:
    for name in Permissions.__struct_fields__:
        if (value := getattr(wanted, name)) is not None:
            setattr(key, name, value)
