"""Signal + position + rules -> what to do, or a refusal with its reason."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from app.domain.exits import check_exits, check_together, native_stop_price
from app.domain.instrument import Instrument
from app.domain.money import HUNDRED, ZERO, floor_to_step, plain
from app.domain.order import PositionSide, opposite
from app.domain.position import CloseReason, Position
from app.domain.refusals import Outcome, Refusal
from app.domain.signal import (
    REDUCING,
    Action,
    Defaults,
    Exits,
    Missed,
    Repeat,
    Sides,
    Signal,
    Size,
    SizeUnit,
    Target,
)

MAX_AGE_S = 60

# An opening above the exchange's largest market order is sent as several, one after the other; more than this many is
# rather a slip of the decimal point.
ORDERS_MAX = 20

# The native stop rests this much of the entry price beyond the stop that the watcher holds: far enough that the
# watcher is always first while it lives, near enough to end the position on the day when it does not.
NATIVE_STOP_BUFFER_PCT = Decimal("0.5")


class Reduce(msgspec.Struct, frozen=True, kw_only=True, tag="reduce"):
    """Close part of what is held on a side."""

    side: PositionSide
    qty: Decimal
    reason: CloseReason


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close"):
    """Close all of what is held on a side, however much that is by then."""

    side: PositionSide
    reason: CloseReason


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Open a position, or add to the one that is held (`adds`)."""

    side: PositionSide
    qty: Decimal
    adds: bool
    leverage: Decimal | None
    exits: Exits
    native_stop: Decimal | None


Leg = Reduce | Close | Open


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The legs in their order, and what of the wish was refused (`refusal`) although the rest is done."""

    legs: tuple[Leg, ...] = ()
    refusal: Refusal | None = None
    reason: str = ""  # why there is nothing to do
    missed: str = ""  # what tells that an alert was missed, for people
    halts: bool = False  # the strategy is to be disabled
    held: tuple[UUID, ...] = ()  # ids of the positions that it was made for


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the strategy says."""

    strategy_id: str
    enabled: bool = True
    symbols: tuple[str, ...] | None = None
    defaults: Defaults = Defaults()
    multiplier: Decimal = Decimal(1)
    trade_without_stop: bool = False
    notional_max: Decimal | None = None  # of one opening, in quote currency
    sides: Sides = Sides.BOTH
    repeat: Repeat = Repeat.IGNORE
    missed: Missed = Missed.HEAL


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is the case when the decision is made. `price` is the last price; `equity` and `available` (for new
    positions) are in quote currency.

    `held` is what we hold of the symbol: one position at most, or in hedge mode one a side. `unfit` is why nothing may
    be opened now, whatever is asked for.
    """

    held: tuple[Position, ...] = ()
    hedge: bool = False
    instrument: Instrument
    price: Decimal
    equity: Decimal | None
    available: Decimal | None = None
    received_at: datetime
    now: datetime
    unfit: Refusal | None = None


class _Refused(Exception):
    def __init__(self, code: Outcome, reason: str) -> None:
        self.refusal = Refusal(code=code, reason=reason)


def needs_equity(signal: Signal, rules: Rules) -> bool:
    """Whether the account's equity has to be known first."""
    size = signal.size or rules.defaults.size
    return not signal.only_closes and size is not None and size.unit in _OF_THE_ACCOUNT


_OF_THE_ACCOUNT = frozenset({SizeUnit.PCT_EQUITY, SizeUnit.PCT_AVAILABLE, SizeUnit.RISK_PCT})


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
            wanted = _multiplied(signal.size, _base_qty(signal.size, situation, held=held), rules)
            if wanted <= held.qty:
                return _reduce_by(wanted, held, situation.instrument, close_reason)
        closing = () if held is None else (Close(side=held.side, reason=CloseReason.REVERSED),)
        try:
            opening = _open(signal, rules, situation, side, reverses=held)
        except _Refused as refused:
            return Plan(legs=closing, refusal=refused.refusal)
        return Plan(legs=(*closing, opening))
    if signal.action is Action.ADD or (signal.action in _OPENING and rules.repeat is Repeat.ADD):
        try:
            return Plan(legs=(_open(signal, rules, situation, side, held=held),))
        except _Refused as refused:
            return Plan(refusal=refused.refusal)
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
    if signal.size is None or signal.size.unit in _OF_THE_ACCOUNT:
        return Plan(
            refusal=Refusal(
                code=Outcome.NO_SIZE,
                reason="a reduction needs a size of what is held: pct_position, base or quote, such as pct_position 50",
            )
        )
    wanted = _multiplied(signal.size, _base_qty(signal.size, situation, held=held), rules)
    return _reduce_by(wanted, held, situation.instrument, reason)


def _reduce_by(wanted: Decimal, held: Position, instrument: Instrument, reason: CloseReason) -> Plan:
    if wanted >= held.qty:
        return Plan(legs=(Close(side=held.side, reason=reason),))
    qty = floor_to_step(wanted, instrument.qty_step)
    if qty < instrument.qty_min:
        return Plan(refusal=_too_small(wanted, qty, instrument))
    return Plan(legs=(Reduce(side=held.side, qty=qty, reason=reason),))


def _align(signal: Signal, rules: Rules, situation: Situation, held: Position, reason: CloseReason) -> Plan:
    """The right side is held: bring it to the size that the signal states in base units, if it does."""
    if signal.size is None or not signal.size.unit.counts_units:
        return Plan(reason=f"already {held.side} {plain(held.qty)}")
    wanted = signal.size.value * rules.multiplier
    target = floor_to_step(wanted, situation.instrument.qty_step)
    if target <= ZERO:
        return Plan(refusal=_too_small(wanted, target, situation.instrument))
    if target < held.qty:
        return _reduce_by(held.qty - target, held, situation.instrument, reason)
    missing = target - held.qty
    if missing < situation.instrument.qty_min:
        return Plan(reason=f"already {held.side} {plain(held.qty)}")
    try:
        return Plan(legs=(_open(signal, rules, situation, held.side, held=held, qty=missing),))
    except _Refused as refused:
        return Plan(refusal=refused.refusal)


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
    already. Raises _Refused.
    """
    instrument = situation.instrument
    if not rules.enabled:
        raise _Refused(Outcome.STRATEGY_DISABLED, f"strategy {rules.strategy_id} is disabled; enable it to trade")
    if rules.symbols is not None and signal.symbol not in rules.symbols:
        raise _Refused(
            Outcome.SYMBOL_NOT_ALLOWED,
            f"strategy {rules.strategy_id} trades {', '.join(rules.symbols)}, not {signal.symbol}",
        )
    if rules.sides not in (Sides.BOTH, side):
        raise _Refused(Outcome.SIDE_NOT_ALLOWED, f"strategy {rules.strategy_id} opens {rules.sides} only, not {side}")
    if not instrument.trading:
        raise _Refused(Outcome.NOT_TRADING, f"{instrument.symbol} is not trading at the exchange now")
    expired = too_old(signal, situation.received_at, situation.now)
    if expired is not None:
        raise _Refused(expired.code, expired.reason)
    exits = signal.exits.over(rules.defaults.exits if held is None else held.exits)
    if not exits.names_a_stop and not rules.trade_without_stop:
        raise _Refused(
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
        raise _Refused(wrong.code, wrong.reason)
    leverage = signal.leverage or rules.defaults.leverage
    if leverage is not None and leverage > instrument.leverage_max:
        raise _Refused(
            Outcome.LEVERAGE_ABOVE_MAXIMUM,
            f"leverage {plain(leverage)} is above the {plain(instrument.leverage_max)} of {instrument.symbol}",
        )
    if qty is None:
        size = signal.size or rules.defaults.size
        if size is None and signal.action is Action.REVERSE and reverses is not None:
            qty = reverses.qty  # a plain reversal keeps the size
        elif size is None:
            raise _Refused(Outcome.NO_SIZE, 'neither the alert nor the strategy names a size; add "size": {"base": …}')
        else:
            qty = _multiplied(size, _base_qty(size, situation, held=held, exits=exits), rules)
            if (signal.whole_order or signal.nets) and signal.size is not None:
                qty = _new_part(signal, side, qty, reverses)
    qty = _tradable(qty, situation)
    if rules.notional_max is not None and qty * situation.price > rules.notional_max:
        raise _Refused(
            Outcome.SIZE_ABOVE_LIMIT,
            f"{plain(qty)} {instrument.symbol} is worth {plain(qty * situation.price)}, above the strategy's limit of "
            f"{plain(rules.notional_max)}",
        )
    if situation.unfit is not None:
        raise _Refused(situation.unfit.code, situation.unfit.reason)
    return Open(
        side=side,
        qty=qty,
        adds=held is not None,
        leverage=leverage,
        exits=exits,
        native_stop=native_stop_price(exits, side, situation.price, instrument, NATIVE_STOP_BUFFER_PCT),
    )


def _new_part(signal: Signal, side: PositionSide, qty: Decimal, reverses: Position | None) -> Decimal:
    """What an order that does it all opens: the rest of it closes the other side. Raises _Refused where the chart held
    that side and nothing of it is held here: then nobody knows how much of the order is new.
    """
    if reverses is None and signal.previous is Target(opposite(side).value):
        raise _Refused(
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


def _multiplied(size: Size, qty: Decimal, rules: Rules) -> Decimal:
    """For this account. A share of what it holds has the account's multiplier in it already."""
    return qty if size.unit is SizeUnit.PCT_POSITION else qty * rules.multiplier


def _base_qty(size: Size, situation: Situation, *, held: Position | None, exits: Exits | None = None) -> Decimal:
    """The size in base units, not rounded yet."""
    price = situation.price
    match size.unit:
        case SizeUnit.BASE | SizeUnit.CONTRACTS:
            return size.value
        case SizeUnit.QUOTE:
            return size.value / price
        case SizeUnit.PCT_POSITION:
            if held is None:
                raise _Refused(Outcome.NO_SIZE, "pct_position needs a position; use base, quote or pct_equity to open")
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
        raise _Refused(Outcome.NO_STOP, "risk_pct is measured from the entry to the stop loss: name one")
    if stop.pct is not None:
        return price * stop.pct / HUNDRED
    assert stop.price is not None
    return abs(price - stop.price)


def _too_small(wanted: Decimal, qty: Decimal, instrument: Instrument) -> Refusal:
    return Refusal(
        code=Outcome.SIZE_BELOW_MINIMUM,
        reason=f"{plain(wanted)} {instrument.symbol} rounds down to {plain(qty)}; "
        f"the exchange takes {plain(instrument.qty_min)} at least",
    )


def _tradable(wanted: Decimal, situation: Situation) -> Decimal:
    """Rounded down to the step; refused outside what the exchange takes."""
    instrument = situation.instrument
    qty = floor_to_step(wanted, instrument.qty_step)
    notional = qty * situation.price
    if qty <= ZERO or qty < instrument.qty_min:
        small = _too_small(wanted, qty, instrument)
        raise _Refused(small.code, small.reason)
    if notional < instrument.notional_min:
        raise _Refused(
            Outcome.SIZE_BELOW_MINIMUM,
            f"{plain(qty)} {instrument.symbol} is worth {plain(notional)}; "
            f"the exchange takes {plain(instrument.notional_min)} at least",
        )
    if qty > instrument.market_qty_max * ORDERS_MAX:
        raise _Refused(
            Outcome.SIZE_ABOVE_MAXIMUM,
            f"{plain(qty)} {instrument.symbol} is more than {ORDERS_MAX} of the largest market orders, "
            f"{plain(instrument.market_qty_max)} each",
        )
    return qty
