"""What a position's exits come to: its levels, what cannot hold together, and the stop that rests at the exchange."""

from decimal import Decimal

from app.domain.instrument import Instrument
from app.domain.level import LevelKind, PlannedLevel
from app.domain.money import HUNDRED, ONE, ZERO, floor_to_step, tick_down, tick_up
from app.domain.order import PositionSide
from app.domain.refusals import Outcome
from app.domain.signal import BreakEven, Exits, PriceOrPct, TakeProfit

WAITS_FOR_NO_TARGET = (
    "break_even waits for a target that take_profit does not have: name one of the ladder, the first is 1"
)


def plan_levels(
    exits: Exits,
    side: PositionSide,
    entry_price: Decimal,
    qty: Decimal,
    instrument: Instrument,
    fired_rungs: frozenset[int] = frozenset(),
    qty_opened: Decimal | None = None,
) -> list[PlannedLevel]:
    """The levels that a position of `qty` needs.

    Per cents count from the entry. Prices go on the tick grid towards the entry, which ends the position sooner.
    Stops carry the whole quantity; the rungs of the ladder are shares of `qty_opened`, together never above `qty`.
    """
    planned: list[PlannedLevel] = []
    if exits.stop_loss is not None:
        stop = _stop_price(exits.stop_loss, side, entry_price)
        price = _towards_entry(stop, -side.sign, entry_price, instrument)
        planned.append(PlannedLevel(kind=LevelKind.STOP_LOSS, fraction=ONE, qty=qty, price=price))
    if exits.trailing is not None:
        wakes = exits.trailing.activate
        planned.append(
            PlannedLevel(
                kind=LevelKind.TRAILING_STOP,
                fraction=ONE,
                qty=qty,
                activation_price=None if wakes is None else _gain(wakes, side, entry_price, instrument),
                distance=exits.trailing.distance.price,
                distance_pct=exits.trailing.distance.pct,
            )
        )
    even = exits.break_even
    if even is not None and _begins(even, fired_rungs):
        to_grid = tick_up if side is PositionSide.LONG else tick_down
        wakes = even.after
        planned.append(
            PlannedLevel(
                kind=LevelKind.BREAK_EVEN,
                fraction=ONE,
                qty=qty,
                price=to_grid(_even_price(even, side, entry_price), instrument.tick_size),
                activation_price=None if wakes is None else _gain(wakes, side, entry_price, instrument),
            )
        )
    opened = qty if qty_opened is None else qty_opened
    for rung, fraction, share in _shares(exits.take_profit, opened, qty, instrument, fired_rungs):
        price = _gain(exits.take_profit[rung].at, side, entry_price, instrument)
        planned.append(PlannedLevel(kind=LevelKind.TAKE_PROFIT, rung=rung, fraction=fraction, qty=share, price=price))
    return planned


def check_exits(exits: Exits, side: PositionSide, price: Decimal, entry_price: Decimal | None = None) -> Outcome | None:
    """The code to refuse exits with if one of them would end the position at once, or could never do so.

    `price` is that of now. Per cents count from the entry, which is the same for a position that is about to be opened.
    """
    sign, entry = side.sign, price if entry_price is None else entry_price
    stop = None if exits.stop_loss is None else _stop_price(exits.stop_loss, side, entry)
    if stop is not None and (sign * (price - stop) <= 0 or stop <= 0):
        return Outcome.STOP_WRONG_SIDE
    if exits.trailing is not None and side is PositionSide.LONG:
        distance = exits.trailing.distance
        if (distance.price or ZERO) >= price or (distance.pct or ZERO) >= HUNDRED:
            return Outcome.STOP_WRONG_SIDE
    if exits.break_even is not None and exits.break_even.after is not None:
        # It would fire at the tick that wakes it, unless the price is beyond both already.
        stop = _even_price(exits.break_even, side, entry)
        after = _target_price(exits.break_even.after, side, entry)
        if sign * (after - stop) <= 0 and sign * (price - stop) <= 0:
            return Outcome.STOP_WRONG_SIDE
    for rung in exits.take_profit:
        target = _target_price(rung.at, side, entry)
        if sign * (target - price) <= 0 or target <= 0:
            return Outcome.TARGET_WRONG_SIDE
    return None


def waits_for_no_target(exits: Exits) -> bool:
    """Whether break-even waits for a target that the ladder doesn't have, and would never come."""
    even = exits.break_even
    return even is not None and even.after_target is not None and even.after_target > len(exits.take_profit)


def native_stop_price(
    exits: Exits, side: PositionSide, entry_price: Decimal, instrument: Instrument, buffer_pct: Decimal
) -> Decimal | None:
    """The price of the stop that rests at the exchange; None if nothing protects from the first moment.

    Beyond our own stop by `buffer_pct` of the entry, or by a quarter of the stop's distance where that is more: the
    watcher comes first while it lives, and this one ends the position when it doesn't.
    """
    if exits.stop_loss is not None:
        stop = _stop_price(exits.stop_loss, side, entry_price)
    elif exits.trailing is not None and exits.trailing.activate is None:
        distance = exits.trailing.distance
        stop = _stop_price(
            distance if distance.price is None else PriceOrPct(price=entry_price - side.sign * distance.price),
            side,
            entry_price,
        )
    else:
        return None
    buffer = max(entry_price * buffer_pct / HUNDRED, abs(entry_price - stop) / 4)
    if side is PositionSide.SHORT:
        return tick_up(stop + buffer, instrument.tick_size)
    return max(tick_down(stop - buffer, instrument.tick_size), instrument.tick_size)


def _begins(even: BreakEven, fired_rungs: frozenset[int]) -> bool:
    """Whether its level is armed by now; one that waits for a price is armed from the start, and sleeps."""
    return even.after_target is None or any(rung >= even.after_target - 1 for rung in fired_rungs)


def _even_price(even: BreakEven, side: PositionSide, entry_price: Decimal) -> Decimal:
    return entry_price * (HUNDRED + side.sign * even.offset_pct) / HUNDRED


def _stop_price(at: PriceOrPct, side: PositionSide, entry_price: Decimal) -> Decimal:
    if at.price is not None:
        return at.price
    assert at.pct is not None, "a PriceOrPct has one of both"
    return entry_price * (HUNDRED - side.sign * at.pct) / HUNDRED


def _target_price(at: PriceOrPct, side: PositionSide, entry_price: Decimal) -> Decimal:
    if at.price is not None:
        return at.price
    assert at.pct is not None, "a PriceOrPct has one of both"
    return entry_price * (HUNDRED + side.sign * at.pct) / HUNDRED


def _gain(at: PriceOrPct, side: PositionSide, entry_price: Decimal, instrument: Instrument) -> Decimal:
    """A price on the winning side, on the grid."""
    return _towards_entry(_target_price(at, side, entry_price), side.sign, entry_price, instrument)


def _towards_entry(price: Decimal, direction: int, entry_price: Decimal, instrument: Instrument) -> Decimal:
    """`price`, which lies above (`direction` 1) or below (-1) the entry, on the grid towards the entry.

    On a coarse grid that may be the entry itself, where the level would fire at once: then away from it. Always at
    least one tick.
    """
    nearer, farther = (tick_down, tick_up) if direction > 0 else (tick_up, tick_down)
    placed = nearer(price, instrument.tick_size)
    if direction * (price - entry_price) > 0 >= direction * (placed - entry_price):
        placed = farther(price, instrument.tick_size)
    return max(placed, instrument.tick_size)


def _shares(
    ladder: tuple[TakeProfit, ...],
    qty_opened: Decimal,
    qty: Decimal,
    instrument: Instrument,
    fired: frozenset[int],
) -> list[tuple[int, Decimal, Decimal]]:
    """(rung, fraction, quantity) of the rungs that have not fired.

    A rung too small to be traded is merged into the next, the last one into the one before. What was merged is worked
    out from the whole ladder, so that a rung whose share has left with another doesn't come back. A ladder for the
    whole position ends with all that is left, whatever rounding has eaten before.
    """
    merged: list[tuple[int, Decimal, Decimal]] = []
    carried_fraction, carried = ZERO, ZERO
    left = qty_opened
    ends_it = sum((rung.fraction for rung in ladder), ZERO) == ONE
    for rung, step in enumerate(ladder):
        last = rung == len(ladder) - 1
        share = left if last and ends_it else min(floor_to_step(qty_opened * step.fraction, instrument.qty_step), left)
        left -= share
        carried_fraction += step.fraction
        carried += share
        if ZERO < carried >= instrument.qty_min:
            merged.append((rung, carried_fraction, carried))
            carried_fraction, carried = ZERO, ZERO
    if merged and carried:
        rung, fraction, share = merged[-1]
        merged[-1] = (rung, fraction + carried_fraction, share + carried)

    waiting = [item for item in merged if item[0] not in fired]
    shares: list[tuple[int, Decimal, Decimal]] = []
    left = qty
    for index, (rung, fraction, share) in enumerate(waiting):
        share = left if ends_it and index == len(waiting) - 1 else min(share, left)
        share = floor_to_step(share, instrument.qty_step)
        if ZERO < share >= instrument.qty_min:
            shares.append((rung, fraction, share))
            left -= share
    return shares
