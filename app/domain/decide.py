"""Signal + position + rules -> what to do, or a refusal with its reason."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from app.domain.exits import check_exits, check_together, native_stop_price
from app.domain.instrument import Instrument
from app.domain.money import ZERO, floor_to_step, plain
from app.domain.order import PositionSide, opposite
from app.domain.plan import Close, Open, Plan, Reduce, Rules, Situation
from app.domain.position import CloseReason, Position
from app.domain.refusals import Declined, Outcome, Refusal
from app.domain.signal import REDUCING, Action, Missed, Repeat, Sides, Signal, Target
from app.domain.sizing import OF_THE_ACCOUNT, base_qty, multiplied, too_small, tradable

MAX_AGE_S = 60

# The native stop rests this much of the entry price beyond the stop that the watcher holds: far enough that the
# watcher is always first while it lives, near enough to end the position on the day when it does not.
NATIVE_STOP_BUFFER_PCT = Decimal("0.5")


def decide(signal: Signal, rules: Rules, situation: Situation, close_reason: CloseReason = CloseReason.SIGNAL) -> Plan:
    """What gets the position to where the signal wants it.

    A reversal whose opening has to be refused still closes: the sender no longer wants what is held. A change of exits
    trades nothing and is not decided here.
    """
    assert signal.action is not Action.SET_EXITS, "nothing to trade"
    if situation.hedge:
        return _decide_hedged(signal, rules, situation, close_reason)
    held = situation.held[0] if situation.held else None
    if held is not None and held.strategy_id != rules.strategy_id:
        return _of_another(held)
    plan = _decide_one(signal, rules, situation, held, close_reason)
    missed = _missed(signal, held)
    return plan if missed is None else _after_a_miss(plan, missed, rules)


def _missed(signal: Signal, held: Position | None) -> str | None:
    """How the chart's position before the alert differs from what is held."""
    state = Target.FLAT if held is None else Target(held.side.value)
    if signal.previous in (None, state):
        return None
    return (
        f"the chart was {signal.previous} before this alert, and {state} is held: an alert was missed, or a stop or a "
        "hand was first"
    )


def _after_a_miss(plan: Plan, missed: str, rules: Rules) -> Plan:
    """The plan with what the strategy wants in this case. What closes is done in any case."""
    halts = rules.missed is Missed.HALT
    closing = tuple(leg for leg in plan.legs if not isinstance(leg, Open))
    if rules.missed is Missed.HEAL or len(closing) == len(plan.legs):
        return msgspec.structs.replace(plan, missed=missed, halts=halts)
    refusal = Refusal(code=Outcome.MISSED_ALERT, reason=missed + ("; the strategy is disabled now" if halts else ""))
    return msgspec.structs.replace(plan, legs=closing, refusal=refusal, missed=missed, halts=halts)


def _decide_one(
    signal: Signal, rules: Rules, situation: Situation, held: Position | None, close_reason: CloseReason
) -> Plan:
    """The plan for one position, or for where there is none."""
    wish = _wish(signal, rules, held)
    if isinstance(wish, Plan):
        return wish
    if wish is Target.FLAT:
        assert held is not None
        return Plan(legs=(Close(side=held.side, reason=close_reason),))
    if signal.action in REDUCING:
        assert held is not None
        return _reduce(signal, rules, held, situation, close_reason)
    side = PositionSide(wish.value)
    if held is None or held.side is not side:
        if held is not None and not signal.turns:
            return Plan(legs=(Close(side=held.side, reason=close_reason),))
        if held is not None and signal.nets and signal.size is not None:
            wanted = multiplied(signal.size, base_qty(signal.size, situation, held=held), rules)
            if wanted <= held.qty:
                return _reduce_by(wanted, held, situation.instrument, close_reason)
        closing = () if held is None else (Close(side=held.side, reason=CloseReason.REVERSED),)
        try:
            opening = _open(signal, rules, situation, side, reverses=held)
        except Declined as declined:
            return Plan(legs=closing, refusal=declined.refusal)
        return Plan(legs=(*closing, opening))
    if signal.action is Action.ADD or (signal.action in _OPENING and rules.repeat is Repeat.ADD):
        try:
            return Plan(legs=(_open(signal, rules, situation, side, held=held),))
        except Declined as declined:
            return Plan(refusal=declined.refusal)
    return _align(signal, rules, situation, held, close_reason)


def _decide_hedged(signal: Signal, rules: Rules, situation: Situation, close_reason: CloseReason) -> Plan:
    """Long and short are two positions. An action that names its side is about that one alone; a target speaks of all
    that the strategy holds of the symbol, and so does a close that names no side.
    """
    ours = {held.side: held for held in situation.held if held.strategy_id == rules.strategy_id}
    others = {held.side: held for held in situation.held if held.strategy_id != rules.strategy_id}
    side = _OPENING.get(signal.action) if signal.action else None
    meant = _MEANT.get(signal.action, side) if signal.action else None
    if meant is None and signal.target not in (None, Target.FLAT):
        meant = PositionSide(signal.target.value)
    if signal.action is Action.REVERSE and len(ours) == 1:
        [turned] = ours
        meant = opposite(turned) if opposite(turned) in others else None
    if meant is not None and meant in others:
        # What is ours and no longer wanted is closed all the same.
        unwanted = signal.target is not None or signal.action is Action.REVERSE
        closing = tuple(Close(side=side, reason=CloseReason.REVERSED) for side in ours) if unwanted else ()
        return msgspec.structs.replace(_of_another(others[meant]), legs=closing)
    if not ours and others and meant is None:
        return _of_another(next(iter(others.values())))
    closes_all = signal.target is Target.FLAT or signal.action is Action.CLOSE
    if signal.target is not None or closes_all:
        keeps = meant if not closes_all else None
        reason = close_reason if closes_all else CloseReason.REVERSED
        closing = tuple(Close(side=held.side, reason=reason) for held in ours.values() if held.side is not keeps)
        if keeps is None:
            return Plan(legs=closing, reason="" if closing else "nothing is held")
        rest = _decide_one(signal, rules, situation, ours.get(keeps), close_reason)
        return msgspec.structs.replace(rest, legs=(*closing, *rest.legs))
    if meant is not None:
        return _decide_one(signal, rules, situation, ours.get(meant), close_reason)
    if len(ours) > 1:
        return Plan(
            refusal=Refusal(
                code=Outcome.AMBIGUOUS_SIDE,
                reason=f"both a long and a short of {signal.symbol} are held, and {signal.action} does not say which "
                "it means; write for example reduce_long, close_short or open_long",
            )
        )
    return _decide_one(signal, rules, situation, next(iter(ours.values()), None), close_reason)


def _of_another(held: Position) -> Plan:
    return Plan(
        refusal=Refusal(
            code=Outcome.OTHER_STRATEGY,
            reason=f"the {held.side} {held.symbol} of this account is held by strategy {held.strategy_id}, and a "
            "position belongs to one strategy: close it there, or trade this strategy on another account",
        )
    )


_OPENING = {Action.OPEN_LONG: PositionSide.LONG, Action.OPEN_SHORT: PositionSide.SHORT}

# Actions that are meant for one side only.
_MEANT = {
    Action.CLOSE_LONG: PositionSide.LONG,
    Action.CLOSE_SHORT: PositionSide.SHORT,
    Action.REDUCE_LONG: PositionSide.LONG,
    Action.REDUCE_SHORT: PositionSide.SHORT,
}


def _wish(signal: Signal, rules: Rules, held: Position | None) -> Target | Plan:
    """The side to be on afterwards, or a plan to do nothing."""
    if signal.target is not None:
        if signal.target is Target.FLAT and held is None:
            return Plan(reason="nothing is held")
        return signal.target
    if signal.action in (Action.OPEN_LONG, Action.OPEN_SHORT):
        wish = Target.LONG if signal.action is Action.OPEN_LONG else Target.SHORT
        if held is not None and held.side.value == wish.value and rules.repeat is Repeat.IGNORE:
            return Plan(reason=f"already {held.side} {plain(held.qty)}; to add to it, send action add")
        return wish
    assert signal.action is not None, "one of action and target is set"
    if held is None:
        return Plan(reason="nothing is held")
    if _MEANT.get(signal.action, held.side) is not held.side:
        return Plan(reason=f"what is held is {held.side}")
    if signal.action in (Action.CLOSE, Action.CLOSE_LONG, Action.CLOSE_SHORT):
        return Target.FLAT
    if signal.action is Action.REVERSE:
        return Target(opposite(held.side).value)
    return Target(held.side.value)


def _reduce(signal: Signal, rules: Rules, held: Position, situation: Situation, reason: CloseReason) -> Plan:
    if signal.size is None or signal.size.unit in OF_THE_ACCOUNT:
        return Plan(
            refusal=Refusal(
                code=Outcome.NO_SIZE,
                reason="a reduction needs a size of what is held: pct_position, base or quote, such as pct_position 50",
            )
        )
    wanted = multiplied(signal.size, base_qty(signal.size, situation, held=held), rules)
    return _reduce_by(wanted, held, situation.instrument, reason)


def _reduce_by(wanted: Decimal, held: Position, instrument: Instrument, reason: CloseReason) -> Plan:
    if wanted >= held.qty:
        return Plan(legs=(Close(side=held.side, reason=reason),))
    qty = floor_to_step(wanted, instrument.qty_step)
    if qty < instrument.qty_min:
        return Plan(refusal=too_small(wanted, qty, instrument))
    return Plan(legs=(Reduce(side=held.side, qty=qty, reason=reason),))


def _align(signal: Signal, rules: Rules, situation: Situation, held: Position, reason: CloseReason) -> Plan:
    """The right side is held: bring it to the size that the signal states in base units, if it does."""
    if signal.size is None or not signal.size.unit.counts_units:
        return Plan(reason=f"already {held.side} {plain(held.qty)}")
    wanted = signal.size.value * rules.multiplier
    target = floor_to_step(wanted, situation.instrument.qty_step)
    if target <= ZERO:
        return Plan(refusal=too_small(wanted, target, situation.instrument))
    if target < held.qty:
        return _reduce_by(held.qty - target, held, situation.instrument, reason)
    missing = target - held.qty
    if missing < situation.instrument.qty_min:
        return Plan(reason=f"already {held.side} {plain(held.qty)}")
    try:
        return Plan(legs=(_open(signal, rules, situation, held.side, held=held, qty=missing),))
    except Declined as declined:
        return Plan(refusal=declined.refusal)


def _open(
    signal: Signal,
    rules: Rules,
    situation: Situation,
    side: PositionSide,
    *,
    held: Position | None = None,
    reverses: Position | None = None,
    qty: Decimal | None = None,
) -> Open:
    """The opening leg; `held` when it adds to a position, `reverses` when it turns one round, `qty` when it is known
    already. Raises Declined.
    """
    instrument = situation.instrument
    if not rules.enabled:
        raise Declined(Outcome.STRATEGY_DISABLED, f"strategy {rules.strategy_id} is disabled; enable it to trade")
    if rules.symbols is not None and signal.symbol not in rules.symbols:
        raise Declined(
            Outcome.SYMBOL_NOT_ALLOWED,
            f"strategy {rules.strategy_id} trades {', '.join(rules.symbols)}, not {signal.symbol}",
        )
    if rules.sides not in (Sides.BOTH, side):
        raise Declined(Outcome.SIDE_NOT_ALLOWED, f"strategy {rules.strategy_id} opens {rules.sides} only, not {side}")
    if not instrument.trading:
        raise Declined(Outcome.NOT_TRADING, f"{instrument.symbol} is not trading at the exchange now")
    expired = too_old(signal, situation.received_at, situation.now)
    if expired is not None:
        raise Declined(expired.code, expired.reason)
    exits = signal.exits.over(rules.defaults.exits if held is None else held.exits)
    if not exits.names_a_stop and not rules.trade_without_stop:
        raise Declined(
            Outcome.NO_STOP,
            'neither the alert nor the strategy names a stop; add "stop_loss": {"pct": 1.5} or a trailing stop that is '
            "active from the start",
        )
    # Targets of what is held may have been reached: their rungs are gone, and nothing of them fires again.
    reached = held is not None and not signal.exits.take_profit
    checked = msgspec.structs.replace(exits, take_profit=()) if reached else exits
    entry = situation.price if held is None else held.entry_price
    wrong = check_exits(checked, side, situation.price) or check_together(exits, side, entry)
    if wrong is not None:
        raise Declined(wrong.code, wrong.reason)
    leverage = signal.leverage or rules.defaults.leverage
    if leverage is not None and leverage > instrument.leverage_max:
        raise Declined(
            Outcome.LEVERAGE_ABOVE_MAXIMUM,
            f"leverage {plain(leverage)} is above the {plain(instrument.leverage_max)} of {instrument.symbol}",
        )
    if qty is None:
        size = signal.size or rules.defaults.size
        if size is None and signal.action is Action.REVERSE and reverses is not None:
            qty = reverses.qty  # a plain reversal keeps the size
        elif size is None:
            raise Declined(Outcome.NO_SIZE, 'neither the alert nor the strategy names a size; add "size": {"base": …}')
        else:
            qty = multiplied(size, base_qty(size, situation, held=held, exits=exits), rules)
            if (signal.whole_order or signal.nets) and signal.size is not None:
                qty = _new_part(signal, side, qty, reverses)
    qty = tradable(qty, situation)
    if rules.notional_max is not None and qty * situation.price > rules.notional_max:
        raise Declined(
            Outcome.SIZE_ABOVE_LIMIT,
            f"{plain(qty)} {instrument.symbol} is worth {plain(qty * situation.price)}, above the strategy's limit of "
            f"{plain(rules.notional_max)}",
        )
    if situation.unfit is not None:
        raise Declined(situation.unfit.code, situation.unfit.reason)
    return Open(
        side=side,
        qty=qty,
        adds=held is not None,
        leverage=leverage,
        exits=exits,
        native_stop=native_stop_price(exits, side, situation.price, instrument, NATIVE_STOP_BUFFER_PCT),
    )


def _new_part(signal: Signal, side: PositionSide, qty: Decimal, reverses: Position | None) -> Decimal:
    """What an order that does it all opens: the rest of it closes the other side. Raises Declined where the chart held
    that side and nothing of it is held here: then nobody knows how much of the order is new.
    """
    if reverses is None and signal.previous is Target(opposite(side).value):
        raise Declined(
            Outcome.NO_SIZE,
            f"{plain(qty)} is the size of an order that turned the chart's {signal.previous} round, which is not held "
            "here, so what of it is new is not known; add the size after the order, in a TradingView template "
            '"market_position_size": "{{strategy.market_position_size}}"',
        )
    return qty if reverses is None else max(qty - reverses.qty, ZERO)


def too_old(signal: Signal, received_at: datetime, now: datetime) -> Refusal | None:
    """An alert past its age opens nothing any more."""
    max_age_s = MAX_AGE_S if signal.max_age_s is None else signal.max_age_s
    age = now - min(signal.sent_at or received_at, received_at)  # a time in the future does not make it younger
    if age <= timedelta(seconds=max_age_s):
        return None
    return Refusal(
        code=Outcome.TOO_OLD,
        reason=f"the alert is {age.total_seconds():.0f} s old; nothing is opened after {max_age_s} s",
    )
