"""The callback of a trailing take profit: what is given back of the best price, less the more was gained.

It follows min_factor + (1 - min_factor) * e^(-gain / decay_pct) in steps, so that a level moves among the others of a
book some twenty times in its life and not with each new high.
"""

from bisect import bisect_right
from decimal import Decimal

from app.domain.money import ONE

STEPS = 20  # equal ones, from the whole callback to its least; the curve is never more than half a step away

# Gains, in units of decay_pct, at which the next step begins: where the curve is half-way between the two.
_BEGINS = tuple(-((STEPS - step + Decimal("0.5")) / STEPS).ln() for step in range(1, STEPS + 1))


def callback_pct(start_pct: Decimal, min_factor: Decimal, decay_pct: Decimal, gain_pct: Decimal) -> Decimal:
    """The callback, in per cent of the best price, once that has gained `gain_pct` per cent."""
    factor = ONE - (ONE - min_factor) * _step(decay_pct, gain_pct) / STEPS
    return start_pct * factor


def next_step(decay_pct: Decimal, gain_pct: Decimal) -> Decimal | None:
    """The gain in per cent from which on the callback is smaller than now; None when it is at its least."""
    step = _step(decay_pct, gain_pct)
    return None if step == STEPS else _BEGINS[step] * decay_pct


def _step(decay_pct: Decimal, gain_pct: Decimal) -> int:
    return bisect_right(_BEGINS, gain_pct / decay_pct)
