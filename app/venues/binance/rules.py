"""Rules of all instruments of Binance: read at once, kept, renewed on schedule and after a filter refused an order."""

import asyncio
import logging
import re
import time
from decimal import Decimal
from math import lcm

import msgspec

from app.domain.instrument import Instrument
from app.domain.money import ZERO, tick_down, tick_up
from app.domain.order import Side
from app.domain.refusals import Outcome
from app.errors import Refused, Transient, VenueError
from app.log import event
from app.venues.binance import wire
from app.venues.binance.failures import asking, no_such_path
from app.venues.binance.http import BinanceHttp
from app.venues.failures import VenueSaid
from app.venues.gate import Urgency
from app.venues.numbers import Unreadable, number, positive, required

log = logging.getLogger(__name__)

TTL_S = 3600.0
NEWS_S = 30.0  # what would be refused is looked up again after this
# What https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api/Change-Initial-Leverage
# allows at all, for a symbol without brackets: the exchange refuses what an instrument does not take.
LEVERAGE_MAX = Decimal(125)
# A fall-back order's price keeps this far inside of the filter, for the mark price moves until the order arrives.
INSIDE = Decimal("0.002")
_MULTIPLIED = re.compile(r"(?:10+|1M)?([A-Z0-9]*?[A-Z][A-Z0-9]*?)(?:10{2,})?")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """An instrument, and how far from the mark price a limit order's price may be."""

    instrument: Instrument
    multiplier_up: Decimal | None
    multiplier_down: Decimal | None

    def last_price(self, side: Side, mark: Decimal) -> Decimal:
        """The worst price that a limit order of this side may have."""
        tick = self.instrument.tick_size
        if side is Side.BUY:
            most = (self.multiplier_up or Decimal("1.05")) - INSIDE
            return tick_down(mark * most, tick)
        least = (self.multiplier_down or Decimal("0.95")) + INSIDE
        return tick_up(mark * least, tick)


class Rules:
    def __init__(self, http: BinanceHttp) -> None:
        self._http = http
        self._rules: dict[str, Rule] = {}
        self._others: dict[str, str] = {}  # symbols that are not for us -> what they are
        self._read_at = float("-inf")
        self._wanted, self._have = 1, 0  # how often they were asked to be read anew, and for which of these they were
        self._reading = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    def expire(self) -> None:
        """They may have changed: whoever asks next waits until they are read again."""
        self._wanted += 1

    async def rule(self, symbol: str) -> Rule:
        """Raises Refused(unknown_symbol), Transient."""
        if self._have < self._wanted:
            async with self._reading:
                if self._have < self._wanted:
                    await self._renew_now(symbol)
        elif time.monotonic() - self._read_at > TTL_S and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_quietly())
        found = self._rules.get(symbol)
        if (found is None or not found.instrument.trading) and time.monotonic() - self._read_at > NEWS_S:
            # Before a refusal: it may have been listed, or its trading resumed.
            async with self._reading:
                if time.monotonic() - self._read_at > NEWS_S:
                    await self._renew_now(symbol)
            found = self._rules.get(symbol)
        if found is None:
            raise Refused(Outcome.UNKNOWN_SYMBOL, self._why_not(symbol))
        return found

    def may_be_ours(self, symbol: str) -> bool:
        """False of what is known to be something else than a USDT perpetual."""
        return symbol not in self._others

    def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()

    async def _renew_now(self, symbol: str) -> None:
        wanted = self._wanted
        try:
            await self._renew(Urgency.CLOSE if symbol not in self._rules else Urgency.OPEN)
        except Transient as exc:
            if symbol not in self._rules:
                raise
            self._note_failure(exc)  # what was known last serves better than nothing: the exchange checks it anyway
        else:
            self._have = wanted

    async def _renew_quietly(self) -> None:
        try:
            await self._renew()
        except VenueError as exc:
            self._note_failure(exc)

    def _note_failure(self, exc: VenueError) -> None:
        event(log, logging.WARNING, "instruments not renewed", venue="binance", reason=str(exc))

    async def _renew(self, urgency: Urgency = Urgency.READ) -> None:
        """Nothing can be closed before they were read once, so that is as urgent as a close."""
        with asking():
            body, leverages = await asyncio.gather(
                self._http.read(BinanceHttp.exchange_info, urgency=urgency), self._brackets(urgency)
            )
            info = wire.EXCHANGE_INFO.decode(body)
        self._http.learn_limits(info.rateLimits)
        rules: dict[str, Rule] = {}
        others: dict[str, str] = {}
        for row in info.symbols:
            if row.contractType != "PERPETUAL" or row.marginAsset != "USDT":
                others[row.symbol] = f"{row.contractType or 'unknown'} margined in {row.marginAsset or '?'}"
                continue
            try:
                rules[row.symbol] = rule(row, leverages.get(row.symbol, LEVERAGE_MAX))
            except Unreadable as exc:
                others[row.symbol] = str(exc)
        self._rules, self._others, self._read_at = rules, others, time.monotonic()

    async def _brackets(self, urgency: Urgency) -> dict[str, Decimal]:
        """The most leverage by symbol; nothing where the server has no such path."""
        try:
            body = await self._http.read(BinanceHttp.futures_leverage_bracket, urgency=urgency)
        except VenueSaid as said:
            if not no_such_path(said):
                raise
            event(log, logging.WARNING, "no leverage brackets", venue="binance", assumed_max=str(LEVERAGE_MAX))
            return {}
        rows = wire.BRACKETS.decode(body)
        return {row.symbol: max(b.initialLeverage for b in row.brackets) for row in rows if row.brackets}

    def _why_not(self, symbol: str) -> str:
        other = self._others.get(symbol)
        if other is not None:
            return f"Binance's {symbol} is not a USDT perpetual that can be traded here: {other}"
        hint = next((listed for listed in sorted(self._rules) if _same_coin(listed, symbol)), None)
        if hint is None:
            return f"Binance lists no USDT perpetual {symbol}"
        return f"Binance lists no USDT perpetual {symbol}; it lists {hint}, whose price and size are another multiple"


def rule(row: wire.SymbolRow, leverage_max: Decimal) -> Rule:
    """Raises Unreadable."""
    filters = {found.filterType: found for found in row.filters}
    try:
        price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    except KeyError as exc:
        raise Unreadable(f"{row.symbol} has no filter {exc}") from None
    market = filters.get("MARKET_LOT_SIZE", lot)
    notional = filters.get("MIN_NOTIONAL")
    percent = filters.get("PERCENT_PRICE")
    step = _common_multiple(required(lot.stepSize, "stepSize"), positive(market.stepSize))
    qty_min = max(required(lot.minQty, "minQty"), number(market.minQty) or ZERO)
    instrument = Instrument(
        symbol=row.symbol,
        tick_size=required(price.tickSize, "tickSize"),
        qty_step=step,
        qty_min=tick_up(qty_min, step),
        market_qty_max=min(required(lot.maxQty, "maxQty"), positive(market.maxQty) or required(lot.maxQty, "maxQty")),
        notional_min=ZERO if notional is None else number(notional.notional) or ZERO,
        leverage_max=leverage_max,
        trading=row.status == "TRADING",
    )
    if instrument.tick_size <= 0 or instrument.qty_step <= 0:
        raise Unreadable(f"{row.symbol} has a step of zero")
    return Rule(
        instrument=instrument,
        multiplier_up=None if percent is None else positive(percent.multiplierUp),
        multiplier_down=None if percent is None else positive(percent.multiplierDown),
    )


def _common_multiple(one: Decimal, other: Decimal | None) -> Decimal:
    """The smallest step whose multiples are multiples of both."""
    if other is None or one == other or one <= 0:
        return one
    (a, b), (c, d) = one.as_integer_ratio(), other.as_integer_ratio()
    return Decimal(lcm(a * d, c * b)) / Decimal(b * d)


def _same_coin(listed: str, asked: str) -> bool:
    """Whether two symbols differ in a multiplier only: 1000SHIBUSDT, SHIBUSDT and SHIB1000USDT."""
    if not (listed.endswith("USDT") and asked.endswith("USDT")):
        return False
    one, other = (_MULTIPLIED.fullmatch(symbol.removesuffix("USDT")) for symbol in (listed, asked))
    return one is not None and other is not None and one[1] == other[1]
