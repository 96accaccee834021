"""The exchange's books for GET /control/ledger: every request, order, fill, position and wallet."""

from typing import Any

from simulator.engine import Engine
from simulator.exchange import Exchange
from simulator.model import Fill, Order, PositionView, Side
from simulator.numbers import text, text8


def ledger(exchange: Exchange, *, symbol: str | None, since: int, everything: bool) -> dict[str, Any]:
    """`since`: only requests with a greater number. Market-data requests only if `everything`."""
    engine = exchange.engine
    accounts = engine.accounts.values()
    return {
        "requests": [
            r for r in exchange.requests if r.n > since and (everything or r.path not in exchange.market_data_paths)
        ],
        "orders": [_order(o, a.venue) for a in accounts for o in a.orders.values() if symbol in (None, o.symbol)],
        "fills": [_fill(f) for a in accounts for f in a.fills if symbol in (None, f.symbol)],
        "positions": [
            _position(engine.view(a, p.symbol, p.position_side))
            for a in accounts
            for p in a.positions.values()
            if symbol in (None, p.symbol)
        ],
        "wallets": [_wallet(engine, name) for name in engine.accounts],
    }


def _order(o: Order, venue: str) -> dict[str, Any]:
    return {
        "venue": venue,
        "account": o.account,
        "order_id": o.order_id,
        "client_order_id": o.client_order_id,
        "symbol": o.symbol,
        "position_side": o.position_side.value,
        "side": o.side.value,
        "type": o.type.value,
        "qty": text(o.qty),
        "price": None if o.price is None else text(o.price),
        "reduce_only": o.reduce_only,
        "status": o.status.value,
        "filled_qty": text(o.filled_qty),
        "avg_price": text8(o.filled_value / o.filled_qty) if o.filled_qty else None,
        "stop_order_type": o.stop_kind.value,
        "create_type": o.created_by.value,
        "trigger_price": None if o.trigger_price is None else text(o.trigger_price),
        "created_at_ms": o.created_ms,
        "updated_at_ms": o.updated_ms,
    }


def _fill(f: Fill) -> dict[str, Any]:
    return {
        "fill_id": f.fill_id,
        "order_id": f.order_id,
        "client_order_id": f.client_order_id,
        "account": f.account,
        "symbol": f.symbol,
        "position_side": f.position_side.value,
        "side": f.side.value,
        "qty": text(f.qty),
        "price": text(f.price),
        "fee": text(f.fee),
        "exec_type": f.exec_type,
        "at_ms": f.at_ms,
    }


def _position(view: PositionView) -> dict[str, Any]:
    p = view.position
    side = {Side.BUY: "long", Side.SELL: "short", None: "flat"}[p.side]
    return {
        "account": p.account,
        "symbol": p.symbol,
        "position_side": p.position_side.value,
        "side": side,
        "qty": text(p.size),
        "entry_price": text8(p.entry_price) if p.qty else None,
        "stop_loss": text(view.stop_loss) if view.stop_loss else None,
        "take_profit": text(view.take_profit) if view.take_profit else None,
        "leverage": text(view.leverage),
        "realized_pnl": text8(p.realized_pnl),
    }


def _wallet(engine: Engine, name: str) -> dict[str, Any]:
    account = engine.accounts[name]
    equity = account.balance + engine.unrealized_pnl(account)
    return {"account": name, "balance": text8(account.balance), "equity": text8(equity)}
