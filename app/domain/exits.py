"""What a position's exits come to: its levels, what cannot hold together, and the stop that rests at the exchange."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from app.domain.instrument import Instrument
from app.domain.level import LevelKind, PlannedLevel, TriggerBy
from app.domain.money import HUNDRED, ONE, ZERO, floor_to_step, plain, tick_down, tick_up
from app.domain.order import PositionSide
from app.domain.refusals import Outcome, Refusal
from app.domain.signal import BreakEven, Exits, PriceKind, PriceOrPct, StopStep, TakeProfit


def plan_levels(
    exits: Exits,
    side: PositionSide,
    entry_price: Decimal,
    qty: Decimal,
    instrument: Instrument,
    fired_rungs: frozenset[int] = frozenset(),
    qty_opened: Decimal | None = None,
    *,
    opened_at: datetime,
) -> list[PlannedLevel]:
    """The levels that a position of `qty` needs.

    Per cents count from the entry. Prices go on the tick grid towards the entry, which ends the position sooner.
    Stops carry the whole quantity; the rungs of the ladder are shares of `qty_opened`, together never above `qty`.
    """

    def whole(kind: LevelKind, trigger_by: PriceKind = PriceKind.LAST, **what: Any) -> PlannedLevel:
        return PlannedLevel(kind=kind, fraction=ONE, qty=qty, trigger_by=_trigger_by(trigger_by, side), **what)

    def gain(at: PriceOrPct | None) -> Decimal | None:
        return None if at is None else _gain(at, side, entry_price, instrument)

    planned: list[PlannedLevel] = []
    if exits.stop_loss is not None:
        price = _towards_entry(_stop_price(exits.stop_loss, side, entry_price), -side.sign, entry_price, instrument)
        for step in exits.stop_steps:
            if _reached(step.after_target, fired_rungs):
                price = _on_grid(_step_price(step, exits, side, entry_price), side, instrument)
        planned.append(whole(LevelKind.STOP_LOSS, exits.stop_loss.trigger_by, price=price))
    trailing = exits.trailing
    if trailing is not None:
        planned.append(
            whole(
                LevelKind.TRAILING_STOP,
                trailing.trigger_by,
                activation_price=gain(trailing.activate),
                distance=trailing.distance.price,
                distance_pct=trailing.distance.pct,
            )
        )
    taking = exits.trailing_take_profit
    if taking is not None:
        planned.append(
            whole(
                LevelKind.TRAILING_TAKE_PROFIT,
                taking.trigger_by,
                activation_price=gain(taking.activate),
                distance_pct=taking.callback_pct,
                min_factor=taking.min_factor,
                decay_pct=taking.decay_pct,
            )
        )
    even = exits.break_even
    if even is not None and (even.after_target is None or _reached(even.after_target, fired_rungs)):
        planned.append(
            whole(
                LevelKind.BREAK_EVEN,
                even.trigger_by,
                price=_on_grid(_even_price(even, side, entry_price), side, instrument),
                activation_price=gain(even.after),  # one that waits for a price is armed from the start, and sleeps
            )
        )
    if exits.time_exit is not None:
        planned.append(whole(LevelKind.TIME_EXIT, due_at=opened_at + timedelta(seconds=exits.time_exit.after_s)))
    opened = qty if qty_opened is None else qty_opened
    for rung, fraction, share in _shares(exits.take_profit, opened, qty, instrument, fired_rungs):
        target = exits.take_profit[rung]
        planned.append(
            PlannedLevel(
                kind=LevelKind.TAKE_PROFIT,
                rung=rung,
                fraction=fraction,
                qty=share,
                price=_gain(target.at, side, entry_price, instrument),
                trigger_by=_trigger_by(target.trigger_by, side),
            )
        )
    return planned


def check_exits(exits: Exits, side: PositionSide, price: Decimal, entry_price: Decimal | None = None) -> Refusal | None:
    """Why exits are refused of which one would end the position at once, or could never do so.

    `price` is that of now. Per cents count from the entry, which is the same for a position that is about to be opened.
    """
    sign, entry = side.sign, price if entry_price is None else entry_price

    def refused(code: Outcome, what: str) -> Refusal:
        return Refusal(code=code, reason=f"{what} of this {side} would fire at once: the price is {plain(price)}")

    stop = None if exits.stop_loss is None else _stop_price(exits.stop_loss, side, entry)
    if stop is not None and (sign * (price - stop) <= 0 or stop <= 0):
        return refused(Outcome.STOP_WRONG_SIDE, "the stop loss")
    if exits.trailing is not None and side is PositionSide.LONG:
        distance = exits.trailing.distance
        if (distance.price or ZERO) >= price or (distance.pct or ZERO) >= HUNDRED:
            return Refusal(
                code=Outcome.STOP_WRONG_SIDE,
                reason=f"the trailing stop of this long would never fire: it is at zero or below, the price is "
                f"{plain(price)}",
            )
    if exits.break_even is not None and exits.break_even.after is not None:
        # It would fire at the tick that wakes it, unless the price is beyond both already.
        even = _even_price(exits.break_even, side, entry)
        after = _target_price(exits.break_even.after, side, entry)
        if sign * (after - even) <= 0 and sign * (price - even) <= 0:
            return refused(Outcome.STOP_WRONG_SIDE, "break_even")
    for rung in exits.take_profit:
        target = _target_price(rung.at, side, entry)
        if sign * (target - price) <= 0 or target <= 0:
            return refused(Outcome.TARGET_WRONG_SIDE, "a take profit")
    return None


def check_together(exits: Exits, side: PositionSide, entry_price: Decimal) -> Refusal | None:
    """Why exits are refused that cannot hold together, whatever the price is: what waits for a target that is not in
    the ladder, and steps of a stop that is not there, that would loosen it or fire with the target that they follow.
    """
    targets = len(exits.take_profit)
    even = exits.break_even
    if even is not None and even.after_target is not None and even.after_target > targets:
        return _no_target("break_even waits for", even.after_target, targets)
    taking = exits.trailing_take_profit
    if taking is not None and side.sign * (_target_price(taking.activate, side, entry_price) - entry_price) <= 0:
        return Refusal(
            code=Outcome.TARGET_WRONG_SIDE,
            reason=f"the trailing take profit of this {side} is activated where there is no profit yet",
        )
    if not exits.stop_steps:
        return None
    if exits.stop_loss is None:
        return Refusal(code=Outcome.NO_STOP, reason="stop_steps move the stop loss, and there is none: name one")
    stands = _stop_price(exits.stop_loss, side, entry_price)
    for step in exits.stop_steps:
        if step.after_target > targets:
            return _no_target("stop_steps wait for", step.after_target, targets)
        goes = _step_price(step, exits, side, entry_price)
        after = _target_price(exits.take_profit[step.after_target - 1].at, side, entry_price)
        if side.sign * (goes - stands) <= 0:
            return Refusal(
                code=Outcome.STOP_WRONG_SIDE,
                reason=f"the step after target {step.after_target} would loosen the stop, from {plain(stands)} to "
                f"{plain(goes)}: steps only tighten it",
            )
        if side.sign * (after - goes) <= 0:
            return Refusal(
                code=Outcome.STOP_WRONG_SIDE,
                reason=f"the step after target {step.after_target} puts the stop at {plain(goes)}, beyond that target "
                f"at {plain(after)}, where it would fire at once",
            )
        stands = goes
    return None


def _no_target(what: str, wanted: int, there: int) -> Refusal:
    return Refusal(
        code=Outcome.NO_SUCH_TARGET,
        reason=f"{what} target {wanted}, and take_profit has {there or 'none'}: name one of the ladder, the first is 1",
    )


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


def _reached(target: int, fired_rungs: frozenset[int]) -> bool:
    """Whether the ladder has come to this target; one that was passed over was reached too."""
    return any(rung >= target - 1 for rung in fired_rungs)


def _trigger_by(kind: PriceKind, side: PositionSide) -> TriggerBy:
    if kind is PriceKind.BID_ASK:
        return TriggerBy.BID if side is PositionSide.LONG else TriggerBy.ASK
    return TriggerBy(kind.value)


def _on_grid(price: Decimal, side: PositionSide, instrument: Instrument) -> Decimal:
    """A stop that locks a gain in, on the grid where the gain is not less."""
    return (tick_up if side is PositionSide.LONG else tick_down)(price, instrument.tick_size)


def _step_price(step: StopStep, exits: Exits, side: PositionSide, entry_price: Decimal) -> Decimal:
    if step.price is not None:
        return step.price
    if step.to_target is not None:
        return _target_price(exits.take_profit[step.to_target - 1].at, side, entry_price)
    assert step.gain_pct is not None, "a StopStep has one of three"
    return entry_price * (HUNDRED + side.sign * step.gain_pct) / HUNDRED


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
