"""Frames of the user data stream. Keys and forms as recorded; numbers without needless zeros.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

from decimal import Decimal
from typing import Any

from simulator.binance import names, rows
from simulator.binance.account_rows import Figures, margin_word
from simulator.binance.context import Asked
from simulator.binance.market_rows import price_precision, qty_text, tick_text
from simulator.binance.rows import plain
from simulator.instruments import Instrument
from simulator.model import CreatedBy, ExecType, Fill, Order
from simulator.numbers import text8

Frame = dict[str, Any]

_REASONS = {
    "no_margin": "Margin is insufficient",
    "reduce_only": "Reduce Only reject",
    "refused_at_trigger": "Order rejected by the matching engine",
}


def _average(i: Instrument, order: Order) -> str:
    if not order.filled_qty:
        return "0"
    return plain(round(order.filled_value / order.filled_qty, max(5, price_precision(i))))


def order_update(order: Order, i: Instrument, asked: Asked, kind: str, now_ms: int, fill: Fill | None = None) -> Frame:
    """`kind` is the execution type; `fill` what a TRADE or CALCULATED is about."""
    at_ms = fill.at_ms if fill is not None else now_ms
    made_here = rows.is_exchange_made(order)
    row = {
        "s": names.symbol_here(order.symbol),
        "c": rows.client_id(order),
        "S": names.side(order.side),
        "o": rows.order_type(order),
        "f": rows.order_tif(order, asked),
        "q": plain(order.qty),
        "p": plain(rows.order_price(order)),
        "ap": _average(i, order) if kind != "NEW" else "0",
        "sp": "0",
        "x": kind,
        "X": _status(order, kind),
        "i": names.order_id(order),
        "l": plain(fill.qty if fill else None),
        "z": plain(order.filled_qty) if kind != "NEW" else "0",
        "L": plain(fill.price if fill else None),
        "n": f"{fill.fee:.8f}" if fill is not None else "0",
        "N": "USDT",
        "T": at_ms,
        "t": rows.trade_id(fill) if fill is not None else 0,
        "b": plain(_resting_value(order, 1)),
        "a": plain(_resting_value(order, -1)),
        "m": fill.is_maker if fill is not None else False,
        "R": order.reduce_only,
        "wt": rows.working_type(order),
        "ot": rows.order_type(order),
        "ps": rows.position_side(order.position_side),
        "cp": order.close_position,
        "rp": text8(fill.pnl) if fill is not None else "0",
        "pP": asked.price_protect,
        "si": 0,
        "ss": 0,
        "V": asked.stp,
        "pm": "NONE",
        "gtd": asked.good_till_ms,
        "er": "0",
    }
    if made_here:
        row |= {"V": "NONE", "AP": "0", "cr": "0"}
    return {"e": "ORDER_TRADE_UPDATE", "T": at_ms, "E": now_ms, "o": row}


def _status(order: Order, kind: str) -> str:
    if kind == "NEW":
        return "NEW"
    if kind == "CALCULATED" and order.created_by is CreatedBy.ADL:
        return "NEW_ADL"
    return names.order_status(order)


def _resting_value(order: Order, sign: int) -> Decimal:
    """Bid or ask notional of what still rests."""
    if not order.is_open or order.side.sign != sign or rows.order_price(order) is None:
        return Decimal(0)
    return order.leaves_qty * (order.price or Decimal(0))


def trade_lite(order: Order, fill: Fill, i: Instrument, now_ms: int) -> Frame:
    return {
        "e": "TRADE_LITE",
        "E": now_ms,
        "T": fill.at_ms,
        "s": names.symbol_here(fill.symbol),
        "q": qty_text(i, order.qty),
        "p": tick_text(i, rows.order_price(order) or Decimal(0)) if rows.order_price(order) else "0",
        "m": fill.is_maker,
        "c": rows.client_id(order),
        "S": names.side(fill.side),
        "L": tick_text(i, fill.price),
        "l": qty_text(i, fill.qty),
        "t": rows.trade_id(fill),
        "i": names.order_id(order),
    }


def execution_kind(fill: Fill) -> str:
    return "CALCULATED" if fill.exec_type in (ExecType.LIQUIDATION, ExecType.ADL) else "TRADE"


def account_update(
    reason: str, balance: Decimal, cross: Decimal, change: Decimal, positions: list[Figures], at_ms: int, now_ms: int
) -> Frame:
    """`change` leaves profits and fees out: it is what came or went otherwise."""
    assets = [{"a": "USDT", "wb": text8(balance), "cw": text8(cross), "bc": text8(change)}]
    changed = [_position(f) for f in positions]
    return {"e": "ACCOUNT_UPDATE", "T": at_ms, "E": now_ms, "a": {"B": assets, "P": changed, "m": reason}}


def _position(f: Figures) -> Frame:
    p = f.position
    return {
        "s": names.symbol_here(p.symbol),
        "pa": plain(p.qty),
        "ep": text8(p.entry_price),
        "cr": text8(p.realized_pnl),
        "up": text8(f.pnl),
        "mt": margin_word(f.isolated),
        "iw": text8(f.isolated_wallet if p.qty else Decimal(0)),
        "ps": rows.position_side(p.position_side),
        "ma": "USDT",
        "bep": text8(f.break_even),
    }


# Left out of the frame of a cancelled order, unlike the documentation has it.
_SPARSE = ("V", "wt", "pm", "cp", "pP")


def algo_update(order: Order, i: Instrument, asked: Asked, status: str, now_ms: int) -> Frame:
    fired = status in ("TRIGGERED", "FINISHED")
    done = status == "FINISHED"
    row = {
        "caid": rows.client_id(order),
        "aid": names.algo_id(order),
        "at": "CONDITIONAL",
        "o": rows.algo_type(order),
        "s": names.symbol_here(order.symbol),
        "S": names.side(order.side),
        "ps": rows.position_side(order.position_side),
        "f": rows.algo_tif(order, asked),
        "q": plain(rows.algo_qty(order)),
        "X": status,
        "ai": str(names.order_id(order)) if fired else "",
        "ap": _average(i, order) if done else "0",
        "aq": plain(order.filled_qty) if done else "0",
        "act": order.type.value.upper() if fired else "0",
        "tp": plain(order.trigger_price),
        "p": plain(rows.order_price(order)),
        "V": asked.stp,
        "wt": rows.working_type(order),
        "pm": "NONE",
        "cp": order.close_position,
        "pP": asked.price_protect,
        "R": order.reduce_only,
        "tt": order.fired_ms,
        "gtd": asked.good_till_ms,
        "rm": _REASONS.get(order.end_reason.value, "") if status == "REJECTED" else "",
        "ia": False,
    }
    if status == "TRIGGERING":
        for name in ("ap", "aq", "act"):
            del row[name]
    if status in ("NEW", "TRIGGERING", "TRIGGERED", "FINISHED"):
        del row["rm"], row["ia"]
    if status == "CANCELED":
        for name in _SPARSE:
            del row[name]
    return {"e": "ALGO_UPDATE", "T": now_ms, "E": now_ms, "o": row}


def leverage_update(symbol: str, leverage: int, now_ms: int) -> Frame:
    ac = {"s": names.symbol_here(symbol), "l": leverage}
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ac": ac}


def listen_key_expired(key: str, now_ms: int) -> Frame:
    return {"e": "listenKeyExpired", "E": now_ms, "listenKey": key}
