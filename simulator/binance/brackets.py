"""Leverage brackets: the more a position is worth, the less leverage it may have.

https://developers.binance.com/docs/derivatives/usds-margined-futures/account/rest-api/Notional-and-Leverage-Brackets.
The numbers are plausible, not the exchange's of today.
"""

from decimal import Decimal
from typing import NamedTuple

from simulator.instruments import Instrument

# most leverage as a divisor of the contract's own, notional cap in USDT, maintenance margin rate
_TIERS = (
    (1, 300_000, "0.004"),
    (2, 3_000_000, "0.01"),
    (5, 30_000_000, "0.025"),
    (10, 100_000_000, "0.05"),
    (50, 500_000_000, "0.125"),
)


class Bracket(NamedTuple):
    number: int
    leverage: int
    cap: int
    floor: int
    maintenance: Decimal
    cum: Decimal  # makes the maintenance margin continuous over the steps


def brackets(i: Instrument) -> list[Bracket]:
    rows: list[Bracket] = []
    floor, cum, before = 0, Decimal(0), Decimal(0)
    for number, (divisor, cap, rate) in enumerate(_TIERS, 1):
        maintenance = Decimal(rate)
        cum += floor * (maintenance - before)
        rows.append(Bracket(number, max(1, int(i.max_leverage) // divisor), cap, floor, maintenance, cum))
        floor, before = cap, maintenance
    return rows


def max_notional(i: Instrument, leverage: Decimal) -> int:
    """The most a position may be worth at this leverage."""
    return max((b.cap for b in brackets(i) if b.leverage >= leverage), default=_TIERS[0][1])


def maintenance_margin(i: Instrument, notional: Decimal) -> Decimal:
    fitting = next((b for b in brackets(i) if abs(notional) <= b.cap), brackets(i)[-1])
    return abs(notional) * fitting.maintenance - fitting.cum
