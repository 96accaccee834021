"""A position is a fold over fills, exact in Decimal: what is realised plus what is held equals the cash that moved."""

from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from simulator.model import ZERO, Position, Side

# Entry value of a part is a quotient; it is cut here and the remainder stays with the rest, so that nothing is lost.
_COST_STEP = Decimal("0.000000000001")


class Closed(msgspec.Struct, frozen=True):
    """What a fill took off a position. `pnl` before fees; `open_fee` is the share of the entry fees."""

    qty: Decimal = ZERO
    entry_value: Decimal = ZERO
    exit_value: Decimal = ZERO
    pnl: Decimal = ZERO
    open_fee: Decimal = ZERO


def apply_fill(position: Position, side: Side, qty: Decimal, price: Decimal, fee: Decimal) -> Closed:
    """Fold one fill in: reduce first, then open (or flip) with what is left."""
    before = position.qty
    closed = _reduce(position, side, qty, price)
    opened = qty - closed.qty
    if not position.qty:
        position.cost = position.open_fee = ZERO  # remainders of divisions end with the position
    fee_of_opening = fee * opened / qty if closed.qty else fee
    if opened:
        position.qty += side.sign * opened
        position.cost += opened * price
        position.open_fee += fee_of_opening
    if before * position.qty <= 0 and position.qty:  # opened or flipped
        position.current_realized_pnl = ZERO - fee_of_opening
    else:
        position.current_realized_pnl += closed.pnl - fee
    position.realized_pnl += closed.pnl
    position.net_realized_pnl += closed.pnl - fee
    return closed


def _reduce(position: Position, side: Side, qty: Decimal, price: Decimal) -> Closed:
    closed = min(position.reducible_by(side), qty)
    if not closed:
        return Closed()
    if closed == position.size:
        entry_value, open_fee = position.cost, position.open_fee
    else:
        share = closed / position.size
        entry_value = (position.cost * share).quantize(_COST_STEP, ROUND_HALF_EVEN)
        open_fee = (position.open_fee * share).quantize(_COST_STEP, ROUND_HALF_EVEN)
    exit_value = closed * price
    pnl = exit_value - entry_value if position.qty > 0 else entry_value - exit_value
    position.qty += side.sign * closed
    position.cost -= entry_value
    position.open_fee -= open_fee
    return Closed(closed, entry_value, exit_value, pnl, open_fee)
