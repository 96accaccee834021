"""How an account and its symbols are set up at Binance: modes and leverage, remembered for a moment."""

import time

from app.domain.order import PositionMode
from app.venues.binance import wire
from app.venues.binance.http import BinanceHttp
from app.venues.gate import Urgency
from app.venues.numbers import Unreadable

TTL_S = 30.0


class Setup:
    """Raises as a request does, or what decoding does."""

    def __init__(self, http: BinanceHttp) -> None:
        self._http = http
        self._account: tuple[float, wire.AccountConfig] | None = None
        self._symbols: dict[str, tuple[float, wire.SymbolConfig]] = {}

    def forget(self) -> None:
        """It was changed, or an order was refused that it may have been the reason of."""
        self._account = None
        self._symbols.clear()

    async def account(self, *, fresh: bool = False) -> wire.AccountConfig:
        known = self._account
        if not fresh and known is not None and time.monotonic() < known[0]:
            return known[1]
        body = await self._http.read(BinanceHttp.futures_account_config, urgency=Urgency.OPEN)
        found = wire.ACCOUNT_CONFIG.decode(body)
        self._account = (time.monotonic() + TTL_S, found)
        return found

    async def position_mode(self) -> PositionMode:
        return PositionMode.HEDGE if (await self.account()).dualSidePosition else PositionMode.ONE_WAY

    async def symbol(self, symbol: str) -> wire.SymbolConfig:
        known = self._symbols.get(symbol)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        body = await self._http.read(BinanceHttp.futures_symbol_config, urgency=Urgency.OPEN, symbol=symbol)
        found = next((row for row in wire.SYMBOL_CONFIGS.decode(body) if row.symbol == symbol), None)
        if found is None:
            raise Unreadable(f"no configuration of {symbol}")
        self._symbols[symbol] = (time.monotonic() + TTL_S, found)
        return found
