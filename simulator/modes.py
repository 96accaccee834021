"""An account's settings that change how it trades: position mode, margin mode, leverage."""

from decimal import Decimal

from simulator.books import BOTH, Books
from simulator.model import Account, PositionSide, Reason, Refused, position_key


class Modes(Books):
    def set_position_mode(self, account: Account, symbol: str | None, hedge: bool) -> None:
        """Of one symbol, or of all; refused while one of them has a position or orders."""
        self._check_change(
            account, symbol, hedge, account.hedge, account.hedge_symbols, Reason.POSITION_MODE_NOT_MODIFIED
        )
        self._check_idle(account, symbol, Reason.POSITION_MODE_HELD, Reason.POSITION_MODE_ORDERS)
        if symbol:
            account.hedge_symbols[symbol] = hedge
        else:
            account.hedge = hedge
            account.hedge_symbols.clear()

    def set_margin_mode(self, account: Account, symbol: str | None, isolated: bool) -> None:
        """Of one symbol, or of all; refused while one of them has a position or orders."""
        self._check_change(
            account, symbol, isolated, account.isolated, account.isolated_symbols, Reason.MARGIN_MODE_NOT_MODIFIED
        )
        self._check_idle(account, symbol, Reason.MARGIN_MODE_HELD, Reason.MARGIN_MODE_ORDERS)
        if symbol:
            account.isolated_symbols[symbol] = isolated
        else:
            account.isolated = isolated
            account.isolated_symbols.clear()

    def _check_change(
        self, account: Account, symbol: str | None, wanted: bool, usual: bool, own: dict[str, bool], reason: Reason
    ) -> None:
        if symbol:
            self.market(symbol)
            same = own.get(symbol, usual) == wanted
        else:
            same = {usual, *own.values()} == {wanted}
        if same:
            raise Refused(reason)

    def _check_idle(self, account: Account, symbol: str | None, held: Reason, orders: Reason) -> None:
        if any(not symbol or p.symbol == symbol for p in self.held(account)):
            raise Refused(held)
        if self.open_orders(account, symbol or ""):
            raise Refused(orders)

    def set_leverage(
        self, account: Account, symbol: str, leverage: Decimal, position_side: PositionSide = BOTH
    ) -> None:
        """Of the symbol with all its positions, or of one leg."""
        instrument = self.market(symbol).instrument
        if leverage > instrument.max_leverage:
            raise Refused(Reason.LEVERAGE_MAX)
        if leverage < instrument.min_leverage or leverage % instrument.leverage_step:
            raise Refused(Reason.LEVERAGE_INVALID)
        sides = account.position_sides(symbol) if position_side is BOTH else (position_side,)
        if all(self.leverage(account, symbol, side) == leverage for side in sides):
            raise Refused(Reason.LEVERAGE_NOT_MODIFIED)
        if position_side is BOTH:
            for side in PositionSide:
                account.leverage.pop(position_key(symbol, side), None)
        account.leverage[position_key(symbol, position_side)] = leverage
        if any(p.created_ms for p in self.positions(account, symbol)):
            self.emit_positions(account, symbol, position_side)
