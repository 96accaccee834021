"""What Bybit lists: rules of instruments, kept for a while, and a hint where a symbol is listed under another name."""

import asyncio
import re
import time
from contextlib import suppress

from app.domain.instrument import Instrument
from app.domain.refusals import Outcome
from app.errors import LevelheadError, Refused
from app.venues.bybit import rows as bybit_rows
from app.venues.bybit import wire
from app.venues.bybit.calls import Calls, asking
from app.venues.bybit.codes import PARAMETER_ERROR
from app.venues.bybit.http import BybitHttp
from app.venues.failures import VenueSaid

REFRESH_S = 3600.0  # older rules still serve while new ones are fetched
NEWS_S = 30.0  # whether what is halted trades again
STALE_S = 86_400.0  # older ones don't: the maxima change twice a month
HALTED = ("PreLaunch", "Delivering", "Closed")  # listed only when asked for
# 1000PEPEUSDT counts thousands of PEPE; SHIB1000USDT says so at the other end.
_QUOTE = "USDT"
_MULTIPLIER = re.compile(r"^10{3,}|10{3,}$")


class Instruments:
    """Rules by symbol."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._known: dict[str, tuple[float, Instrument]] = {}  # symbol -> (monotonic time when fetched, rules)
        self._listed: tuple[float, list[str]] = (float("-inf"), [])  # for hints only
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    async def get(self, symbol: str) -> Instrument:
        """Refused(unknown_symbol) when Bybit lists no such USDT perpetual."""
        fetched_at, known = self._known.get(symbol, (float("-inf"), None))
        age_s = time.monotonic() - fetched_at
        if known is None or age_s >= STALE_S or (not known.trading and age_s >= NEWS_S):
            return await self._fetch(symbol)
        if age_s >= REFRESH_S and symbol not in self._refreshing:
            self._refreshing[symbol] = asyncio.create_task(self._refresh(symbol))
        return known

    def forget(self, symbol: str) -> None:
        """Its rules may have changed: an order was refused."""
        self._known.pop(symbol, None)

    async def close(self) -> None:
        tasks = list(self._refreshing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self, symbol: str) -> None:
        try:
            with suppress(LevelheadError):  # the rules at hand serve on; who needs them next tries again
                await self._fetch(symbol)
        finally:
            del self._refreshing[symbol]

    async def _fetch(self, symbol: str) -> Instrument:
        with asking():
            row = await self._row(symbol)
            for status in HALTED:
                if row is None:
                    row = await self._row(symbol, status=status)
            if row is None or row.contractType != "LinearPerpetual" or row.settleCoin != _QUOTE:
                self.forget(symbol)
                raise Refused(Outcome.UNKNOWN_SYMBOL, await self._unknown(symbol))
            found = bybit_rows.instrument(row, self._calls.clock.now_ms())
        self._known[symbol] = (time.monotonic(), found)
        return found

    async def _row(self, symbol: str, **filters: str) -> wire.InstrumentRow | None:
        try:
            envelope = await self._calls.read(
                BybitHttp.get_instruments_info, category="linear", symbol=symbol, **filters
            )
        except VenueSaid as said:
            if said.code == PARAMETER_ERROR:
                return None
            raise
        return next((row for row in wire.INSTRUMENTS.decode(envelope.result).list if row.symbol == symbol), None)

    async def _unknown(self, symbol: str) -> str:
        """The refusal's sentence. Nothing is traded in place of what was asked for: its unit may be another."""
        said = f"Bybit lists no USDT perpetual {symbol}"
        coin = _coin(symbol)
        if coin is None:
            return said
        alike = [name for name in await self._names() if name != symbol and _coin(name) == coin]
        return f"{said}; it lists {' and '.join(alike)}, whose unit is not one {coin}" if alike else said

    async def _names(self) -> list[str]:
        fetched_at, names = self._listed
        if time.monotonic() - fetched_at >= REFRESH_S:
            with suppress(LevelheadError), asking():  # the refusal stands, with or without the hint
                rows = await self._calls.pages(
                    BybitHttp.get_instruments_info, wire.LISTED, category="linear", limit=1000
                )
                names = [row.symbol for row in rows if row.contractType == "LinearPerpetual"]
                self._listed = (time.monotonic(), names)
        return names


def _coin(symbol: str) -> str | None:
    """The coin behind a USDT symbol, whatever multiple of it the symbol counts."""
    base = symbol.removesuffix(_QUOTE)
    coin = _MULTIPLIER.sub("", base)
    return coin if coin and base != symbol else None
