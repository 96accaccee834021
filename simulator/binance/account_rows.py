"""Rows of positions and balances, in the forms of each version."""

from decimal import Decimal
from typing import Any

from simulator.binance import names
from simulator.binance.brackets import brackets, maintenance_margin, max_notional
from simulator.binance.market_rows import qty_text
from simulator.binance.rows import position_side
from simulator.engine import Engine
from simulator.instruments import Instrument
from simulator.model import ZERO, Account, OrderStatus, Position, PositionSide
from simulator.numbers import text8

Row = dict[str, Any]


class Figures:
    """What all forms of one position's row are made of. Money in USDT."""

    def __init__(self, engine: Engine, account: Account, position: Position) -> None:
        self.position = position
        self.instrument = engine.market(position.symbol).instrument
        self.mark = engine.market(position.symbol).mark
        self.leverage = engine.leverage(account, position.symbol, position.position_side)
        self.isolated = account.is_isolated(position.symbol)
        self.notional = position.qty * self.mark
        self.pnl = position.unrealized_pnl(self.mark)
        self.margin = abs(self.notional) / self.leverage
        self.order_margin = _order_margin(engine, account, position)
        self.maintenance = maintenance_margin(self.instrument, self.notional) if position.qty else ZERO
        self.isolated_margin = self.margin + self.pnl if self.isolated and position.qty else ZERO
        self._wallet = self.margin if self.isolated else account.balance

    @property
    def isolated_wallet(self) -> Decimal:
        return self.margin if self.isolated else ZERO

    @property
    def break_even(self) -> Decimal:
        p = self.position
        fees = p.open_fee if p.qty > 0 else -p.open_fee
        return (p.cost + fees) / p.size if p.qty else ZERO

    @property
    def liquidation(self) -> Decimal:
        """Where this position alone would eat its wallet up to the maintenance margin."""
        p = self.position
        if not p.qty:
            return ZERO
        loss = max(ZERO, self._wallet - self.maintenance) / p.size
        return max(ZERO, p.entry_price - loss if p.qty > 0 else p.entry_price + loss)


def _order_margin(engine: Engine, account: Account, position: Position) -> Decimal:
    leverage = engine.leverage(account, position.symbol, position.position_side)
    resting = (
        o
        for o in engine.open_orders(account, position.symbol)
        if o.position_side is position.position_side and o.status is not OrderStatus.UNTRIGGERED and not o.reduce_only
    )
    return sum((o.leaves_qty * (o.price or ZERO) / leverage for o in resting), ZERO)


def _entry(value: Decimal) -> str:
    return text8(value) if value else "0.0"


def position_v3(f: Figures) -> Row:
    p = f.position
    return {
        "symbol": names.symbol_here(p.symbol),
        "positionSide": position_side(p.position_side),
        "positionAmt": qty_text(f.instrument, p.qty),
        "entryPrice": _entry(p.entry_price),
        "breakEvenPrice": _entry(f.break_even),
        "markPrice": f"{f.mark:.8f}",
        "unRealizedProfit": f"{f.pnl:.8f}",
        "liquidationPrice": text8(f.liquidation),
        "isolatedMargin": text8(f.isolated_margin),
        "notional": text8(f.notional),
        "marginAsset": "USDT",
        "isolatedWallet": text8(f.isolated_wallet),
        "initialMargin": text8(f.margin + f.order_margin),
        "maintMargin": text8(f.maintenance),
        "positionInitialMargin": text8(f.margin),
        "openOrderInitialMargin": text8(f.order_margin),
        "adl": 2 if p.qty else 0,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": p.updated_ms,
    }


def position_v2(f: Figures) -> Row:
    p = f.position
    return {
        "symbol": names.symbol_here(p.symbol),
        "positionAmt": qty_text(f.instrument, p.qty),
        "entryPrice": _entry(p.entry_price),
        "breakEvenPrice": _entry(f.break_even),
        "markPrice": f"{f.mark:.8f}",
        "unRealizedProfit": f"{f.pnl:.8f}",
        "liquidationPrice": text8(f.liquidation),
        "leverage": str(int(f.leverage)),
        "maxNotionalValue": str(max_notional(f.instrument, f.leverage)),
        "marginType": margin_word(f.isolated),
        "isolatedMargin": f"{f.isolated_margin:.8f}",
        "isAutoAddMargin": "false",
        "positionSide": position_side(p.position_side),
        "notional": text8(f.notional),
        "isolatedWallet": text8(f.isolated_wallet),
        "updateTime": p.updated_ms,
    }


def margin_word(isolated: bool) -> str:
    return "isolated" if isolated else "cross"


def account_position_v3(f: Figures) -> Row:
    p = f.position
    return {
        "symbol": names.symbol_here(p.symbol),
        "positionSide": position_side(p.position_side),
        "positionAmt": qty_text(f.instrument, p.qty),
        "unrealizedProfit": f"{f.pnl:.8f}",
        "isolatedMargin": f"{f.isolated_margin:.8f}",
        "notional": text8(f.notional),
        "isolatedWallet": text8(f.isolated_wallet),
        "initialMargin": text8(f.margin + f.order_margin),
        "maintMargin": text8(f.maintenance),
        "updateTime": p.updated_ms,
    }


def account_position_v2(f: Figures) -> Row:
    p = f.position
    return {
        "symbol": names.symbol_here(p.symbol),
        "initialMargin": text8(f.margin + f.order_margin),
        "maintMargin": text8(f.maintenance),
        "unrealizedProfit": f"{f.pnl:.8f}",
        "positionInitialMargin": text8(f.margin),
        "openOrderInitialMargin": text8(f.order_margin),
        "leverage": str(int(f.leverage)),
        "isolated": f.isolated,
        "entryPrice": text8(p.entry_price) if p.qty else "0.00000",
        "maxNotional": str(max_notional(f.instrument, f.leverage)),
        "bidNotional": "0",
        "askNotional": "0",
        "positionSide": position_side(p.position_side),
        "positionAmt": qty_text(f.instrument, p.qty),
        "updateTime": p.updated_ms,
    }


def all_positions(engine: Engine, account: Account, symbol: str, *, with_both: bool = False) -> list[Position]:
    """Of one symbol in the present mode, flat ones too; `with_both`: the unused one of hedge mode first."""
    positions = engine.positions(account, symbol)
    if with_both and account.is_hedge(symbol):
        return [engine.position(account, symbol, PositionSide.BOTH), *positions]
    return positions


def live_positions(engine: Engine, account: Account, symbol: str) -> list[Position]:
    """Those with a quantity, and those that an ordinary order is open for."""
    waiting = {o.position_side for o in engine.open_orders(account, symbol) if o.status is not OrderStatus.UNTRIGGERED}
    return [p for p in engine.positions(account, symbol) if p.qty or p.position_side in waiting]


# --- balances


class Wallet:
    def __init__(self, engine: Engine, account: Account) -> None:
        self.balance = account.balance
        self.pnl = engine.unrealized_pnl(account)
        self.position_margin = engine.position_margin(account)
        self.order_margin = engine.order_margin(account)
        self.available = max(ZERO, engine.available(account))
        held = [Figures(engine, account, p) for p in engine.held(account)]
        self.maintenance = sum((f.maintenance for f in held), ZERO)
        self.cross = account.balance - sum((f.isolated_wallet for f in held), ZERO)
        self.cross_pnl = sum((f.pnl for f in held if not f.isolated), ZERO)
        self.updated_ms = account.fills[-1].at_ms if account.fills else 0


def balance_row(w: Wallet, alias: str) -> Row:
    return {
        "accountAlias": alias,
        "asset": "USDT",
        "balance": f"{w.balance:.8f}",
        "crossWalletBalance": f"{w.cross:.8f}",
        "crossUnPnl": f"{w.cross_pnl:.8f}",
        "availableBalance": f"{w.available:.8f}",
        "maxWithdrawAmount": f"{w.available:.8f}",
        "marginAvailable": True,
        "updateTime": w.updated_ms,
    }


def totals(w: Wallet) -> Row:
    return {
        "totalInitialMargin": f"{w.position_margin + w.order_margin:.8f}",
        "totalMaintMargin": f"{w.maintenance:.8f}",
        "totalWalletBalance": f"{w.balance:.8f}",
        "totalUnrealizedProfit": f"{w.pnl:.8f}",
        "totalMarginBalance": f"{w.balance + w.pnl:.8f}",
        "totalPositionInitialMargin": f"{w.position_margin:.8f}",
        "totalOpenOrderInitialMargin": f"{w.order_margin:.8f}",
        "totalCrossWalletBalance": f"{w.cross:.8f}",
        "totalCrossUnPnl": f"{w.cross_pnl:.8f}",
        "availableBalance": f"{w.available:.8f}",
        "maxWithdrawAmount": f"{w.available:.8f}",
    }


def asset_row(w: Wallet) -> Row:
    return {
        "asset": "USDT",
        "walletBalance": f"{w.balance:.8f}",
        "unrealizedProfit": f"{w.pnl:.8f}",
        "marginBalance": f"{w.balance + w.pnl:.8f}",
        "maintMargin": f"{w.maintenance:.8f}",
        "initialMargin": f"{w.position_margin + w.order_margin:.8f}",
        "positionInitialMargin": f"{w.position_margin:.8f}",
        "openOrderInitialMargin": f"{w.order_margin:.8f}",
        "crossWalletBalance": f"{w.cross:.8f}",
        "crossUnPnl": f"{w.cross_pnl:.8f}",
        "availableBalance": f"{w.available:.8f}",
        "maxWithdrawAmount": f"{w.available:.8f}",
        "updateTime": w.updated_ms,
    }


def bracket_row(i: Instrument) -> Row:
    return {
        "symbol": names.symbol_here(i.symbol),
        "notionalCoef": 1.5,
        "brackets": [
            {
                "bracket": b.number,
                "initialLeverage": b.leverage,
                "notionalCap": b.cap,
                "notionalFloor": b.floor,
                "maintMarginRatio": float(b.maintenance),
                "cum": float(b.cum),
            }
            for b in brackets(i)
        ],
    }


def symbol_config_row(engine: Engine, account: Account, i: Instrument) -> Row:
    leverage = engine.leverage(account, i.symbol)
    return {
        "symbol": names.symbol_here(i.symbol),
        "marginType": "ISOLATED" if account.is_isolated(i.symbol) else "CROSSED",
        "isAutoAddMargin": False,
        "leverage": int(leverage),
        "maxNotionalValue": str(max_notional(i, leverage)),
    }
