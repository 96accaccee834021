"""How much: the size of an alert in base units, rounded to what the exchange takes."""

from decimal import Decimal

from app.domain.instrument import Instrument
from app.domain.money import HUNDRED, ZERO, floor_to_step, plain
from app.domain.plan import Rules, Situation
from app.domain.position import Position
from app.domain.refusals import Declined, Outcome, Refusal
from app.domain.signal import Exits, Signal, Size, SizeUnit

# An opening above the exchange's largest market order is sent as several, one after the other; more than this many is
# rather a slip of the decimal point.
ORDERS_MAX = 20

OF_THE_ACCOUNT = frozenset({SizeUnit.PCT_EQUITY, SizeUnit.PCT_AVAILABLE, SizeUnit.RISK_PCT})


def needs_equity(signal: Signal, rules: Rules) -> bool:
    """Whether the account's equity has to be known first."""
    size = signal.size or rules.defaults.size
    return not signal.only_closes and size is not None and size.unit in OF_THE_ACCOUNT


def multiplied(size: Size, qty: Decimal, rules: Rules) -> Decimal:
    """For this account. A share of what it holds has the account's multiplier in it already."""
    return qty if size.unit is SizeUnit.PCT_POSITION else qty * rules.multiplier


def base_qty(size: Size, situation: Situation, *, held: Position | None, exits: Exits | None = None) -> Decimal:
    """The size in base units, not rounded yet. Raises Declined where a position or a stop is missing."""
    price = situation.price
    match size.unit:
        case SizeUnit.BASE | SizeUnit.CONTRACTS:
            return size.value
        case SizeUnit.QUOTE:
            return size.value / price
        case SizeUnit.PCT_POSITION:
            if held is None:
                raise Declined(Outcome.NO_SIZE, "pct_position needs a position; use base, quote or pct_equity to open")
            return held.qty * size.value / HUNDRED
        case SizeUnit.PCT_EQUITY:
            return _equity(situation) * size.value / HUNDRED / price
        case SizeUnit.PCT_AVAILABLE:
            assert situation.available is not None, "needs_equity() said so"
            return situation.available * size.value / HUNDRED / price
        case SizeUnit.RISK_PCT:
            distance = _stop_distance(exits, price)
            return _equity(situation) * size.value / HUNDRED / distance


def _equity(situation: Situation) -> Decimal:
    assert situation.equity is not None, "needs_equity() said so"
    return situation.equity


def _stop_distance(exits: Exits | None, price: Decimal) -> Decimal:
    """What is lost per base unit when the stop is hit."""
    stop = None if exits is None else exits.stop_loss
    if stop is None:
        raise Declined(Outcome.NO_STOP, "risk_pct is measured from the entry to the stop loss: name one")
    if stop.pct is not None:
        return price * stop.pct / HUNDRED
    assert stop.price is not None
    return abs(price - stop.price)


def too_small(wanted: Decimal, qty: Decimal, instrument: Instrument) -> Refusal:
    return Refusal(
        code=Outcome.SIZE_BELOW_MINIMUM,
        reason=f"{plain(wanted)} {instrument.symbol} rounds down to {plain(qty)}; "
        f"the exchange takes {plain(instrument.qty_min)} at least",
    )


def tradable(wanted: Decimal, situation: Situation) -> Decimal:
    """Rounded down to the step. Raises Declined outside what the exchange takes."""
    instrument = situation.instrument
    qty = floor_to_step(wanted, instrument.qty_step)
    notional = qty * situation.price
    if qty <= ZERO or qty < instrument.qty_min:
        small = too_small(wanted, qty, instrument)
        raise Declined(small.code, small.reason)
    if notional < instrument.notional_min:
        raise Declined(
            Outcome.SIZE_BELOW_MINIMUM,
            f"{plain(qty)} {instrument.symbol} is worth {plain(notional)}; "
            f"the exchange takes {plain(instrument.notional_min)} at least",
        )
    if qty > instrument.market_qty_max * ORDERS_MAX:
        raise Declined(
            Outcome.SIZE_ABOVE_MAXIMUM,
            f"{plain(qty)} {instrument.symbol} is more than {ORDERS_MAX} of the largest market orders, "
            f"{plain(instrument.market_qty_max)} each",
        )
    return qty
