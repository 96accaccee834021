"""What a signal becomes: each wish against what is held, each reason to refuse, each unit of size."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.decide import MAX_AGE_S, decide, too_old
from app.domain.order import PositionSide
from app.domain.plan import Close, Open, Plan, Reduce, Rules, Situation
from app.domain.position import CloseReason, Position, PositionStatus
from app.domain.refusals import Outcome
from app.domain.signal import (
    CLOSING,
    Action,
    BreakEven,
    Defaults,
    Exits,
    Missed,
    Repeat,
    Sides,
    Signal,
    Size,
    SizeUnit,
    StopLoss,
    TakeProfit,
    Target,
    Trailing,
)
from app.domain.sizing import ORDERS_MAX, needs_equity
from tests.support.instruments import BTC, instrument

D = Decimal
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def pct(value: str) -> StopLoss:
    return StopLoss(pct=D(value))


def at(value: str) -> StopLoss:
    return StopLoss(price=D(value))


def size(unit: SizeUnit, value: str | Decimal) -> Size:
    return Size(unit=unit, value=D(value))


def base(value: str | Decimal) -> Size:
    return size(SizeUnit.BASE, value)


STOP = Exits(stop_loss=pct("1"))
TRADING = [action for action in Action if action is not Action.SET_EXITS]
# Size and stop come from the strategy, so that an alert without either can be carried out.
RULES = Rules(strategy_id="demo", defaults=Defaults(size=base("0.1"), exits=STOP))
BARE = Rules(strategy_id="demo")


def rules(like: Rules = RULES, **changes: Any) -> Rules:
    return msgspec.structs.replace(like, **changes)


def holding(text: str, **changes: Any) -> Position | None:
    """`"flat"`, or side and quantity: `"long 3"`."""
    if text == "flat":
        return None
    side, qty = text.split()
    position = Position(
        id=UUID(int=1),
        account_id=UUID(int=2),
        strategy_id="demo",
        symbol="BTCUSDT",
        side=PositionSide(side),
        epoch=1,
        status=PositionStatus.OPEN,
        qty=D(qty),
        qty_opened=D(qty),
        entry_price=D(100),
        exits=STOP,
        opened_at=NOW,
    )
    return msgspec.structs.replace(position, **changes)


def situation(*held: Position | str | None, **changes: Any) -> Situation:
    found = Situation(
        held=tuple(h for one in held if (h := holding(one) if isinstance(one, str) else one) is not None),
        instrument=BTC,
        price=D(100),
        equity=D(10_000),
        available=D(4_000),
        received_at=NOW,
        now=NOW,
    )
    return msgspec.structs.replace(found, **changes)


def only(where: Situation) -> Position | None:
    """What is held in one-way mode."""
    return where.held[0] if where.held else None


def signal(wish: Action | Target, **more: Any) -> Signal:
    named = {"target": wish} if isinstance(wish, Target) else {"action": wish}
    return Signal(**({"symbol": "BTCUSDT"} | named | more))


def legs(plan: Plan) -> list[str]:
    """The legs in words."""
    words = []
    for leg in plan.legs:
        match leg:
            case Open():
                words.append(f"{'add' if leg.adds else 'open'} {leg.side} {leg.qty.normalize():f}")
            case Reduce():
                words.append(f"reduce {leg.qty.normalize():f} {leg.reason}")
            case Close():
                words.append(f"close {leg.reason}")
    return words


def refusal_of(plan: Plan) -> Outcome | None:
    """The code of the refusal, whose sentence must say something."""
    if plan.refusal is None:
        return None
    assert len(plan.refusal.reason.split()) >= 4, plan.refusal
    return plan.refusal.code


def refused(wish: Signal, like: Rules = RULES, where: Situation | None = None) -> Outcome | None:
    """The code of a plan that does nothing else than refuse."""
    plan = decide(wish, like, where or situation())
    assert plan.legs == ()
    return refusal_of(plan)


def opening(wish: Signal, like: Rules = RULES, where: Situation | None = None) -> Open:
    """The last leg, which opens; nothing is refused."""
    plan = decide(wish, like, where or situation())
    assert plan.refusal is None, plan
    leg = plan.legs[-1]
    assert isinstance(leg, Open)
    return leg


@pytest.mark.parametrize(
    ("action", "held", "expected"),
    [
        (Action.OPEN_LONG, "flat", ["open long 2"]),
        (Action.OPEN_LONG, "long 3", []),  # a repeated entry
        (Action.OPEN_LONG, "short 3", ["close reversed", "open long 2"]),
        (Action.OPEN_SHORT, "flat", ["open short 2"]),
        (Action.OPEN_SHORT, "long 3", ["close reversed", "open short 2"]),
        (Action.OPEN_SHORT, "short 3", []),
        (Action.ADD, "flat", []),
        (Action.ADD, "long 3", ["add long 2"]),
        (Action.ADD, "short 3", ["add short 2"]),
        (Action.REDUCE, "flat", []),
        (Action.REDUCE, "long 3", ["reduce 2 signal"]),
        (Action.REDUCE, "short 3", ["reduce 2 signal"]),
        (Action.REDUCE, "long 2", ["close signal"]),  # all of it
        (Action.REDUCE, "long 1", ["close signal"]),  # more than is held
        (Action.REDUCE_LONG, "flat", []),
        (Action.REDUCE_LONG, "long 3", ["reduce 2 signal"]),
        (Action.REDUCE_LONG, "short 3", []),
        (Action.REDUCE_SHORT, "flat", []),
        (Action.REDUCE_SHORT, "long 3", []),
        (Action.REDUCE_SHORT, "short 3", ["reduce 2 signal"]),
        (Action.REVERSE, "flat", []),
        (Action.REVERSE, "long 3", ["close reversed", "open short 2"]),
        (Action.REVERSE, "short 3", ["close reversed", "open long 2"]),
        (Action.CLOSE, "flat", []),
        (Action.CLOSE, "long 3", ["close signal"]),
        (Action.CLOSE, "short 3", ["close signal"]),
        (Action.CLOSE_LONG, "flat", []),
        (Action.CLOSE_LONG, "long 3", ["close signal"]),
        (Action.CLOSE_LONG, "short 3", []),
        (Action.CLOSE_SHORT, "flat", []),
        (Action.CLOSE_SHORT, "long 3", []),
        (Action.CLOSE_SHORT, "short 3", ["close signal"]),
    ],
)
def test_each_action_on_each_side(action: Action, held: str, expected: list[str]) -> None:
    plan = decide(signal(action, size=base("2")), RULES, situation(held))
    assert legs(plan) == expected
    assert plan.refusal is None
    assert bool(plan.reason) is (expected == []), "who does nothing says why"


def test_the_table_of_actions_leaves_none_out() -> None:
    [mark] = [one for one in test_each_action_on_each_side.pytestmark if one.name == "parametrize"]  # type: ignore[attr-defined]
    covered = {(action, held.split()[0]) for action, held, _ in mark.args[1]}
    assert covered == {(action, held) for action in TRADING for held in ("flat", "long", "short")}


@pytest.mark.parametrize(
    ("held", "target", "wished", "expected"),
    [
        # the state table of docs/alerts.md
        ("flat", Target.LONG, base("2"), ["open long 2"]),
        ("long 2", Target.LONG, base("3"), ["add long 1"]),
        ("long 3", Target.LONG, base("1"), ["reduce 2 signal"]),
        ("long 3", Target.SHORT, base("1"), ["close reversed", "open short 1"]),
        ("long 3", Target.FLAT, None, ["close signal"]),
        ("long 3", Target.LONG, None, []),
        ("long 3", Target.LONG, size(SizeUnit.QUOTE, "900"), []),
        ("long 3", Target.LONG, size(SizeUnit.PCT_EQUITY, "50"), []),
        ("long 3", Target.LONG, size(SizeUnit.RISK_PCT, "1"), []),
        # its mirror image, and the rest
        ("flat", Target.SHORT, base("2"), ["open short 2"]),
        ("flat", Target.LONG, None, ["open long 0.1"]),  # the strategy's own size
        ("short 2", Target.SHORT, base("3"), ["add short 1"]),
        ("short 3", Target.SHORT, base("1"), ["reduce 2 signal"]),
        ("short 1", Target.LONG, base("5"), ["close reversed", "open long 5"]),
        ("short 3", Target.FLAT, base("9"), ["close signal"]),
        ("short 3", Target.LONG, None, ["close reversed", "open long 0.1"]),
        ("long 3", Target.LONG, base("3"), []),  # a resend
        ("long 3", Target.LONG, base("3.0009"), []),  # less than a step is missing
        ("flat", Target.FLAT, None, []),
    ],
)
def test_a_target_does_what_gets_there(held: str, target: Target, wished: Size | None, expected: list[str]) -> None:
    plan = decide(signal(target, size=wished), RULES, situation(held))
    assert legs(plan) == expected
    assert plan.refusal is None
    assert bool(plan.reason) is (expected == [])


def test_a_target_is_multiplied_before_it_is_compared_with_what_is_held() -> None:
    wish = signal(Target.LONG, size=base("2"))
    assert legs(decide(wish, rules(multiplier=D(2)), situation("long 3"))) == ["add long 1"]
    assert legs(decide(wish, rules(multiplier=D("0.5")), situation("long 3"))) == ["reduce 2 signal"]


def test_what_is_missing_to_a_target_is_nothing_to_do_below_the_minimum() -> None:
    where = situation("long 3", instrument=instrument(qty_min=D("0.1")))
    plan = decide(signal(Target.LONG, size=base("3.05")), RULES, where)
    assert (legs(plan), plan.refusal) == ([], None)
    assert "already long 3" in plan.reason


def test_a_reduction_to_a_target_below_the_minimum_is_refused() -> None:
    where = situation("long 3", instrument=instrument(qty_min=D("0.1")))
    assert refused(signal(Target.LONG, size=base("2.95")), RULES, where) is Outcome.SIZE_BELOW_MINIMUM


def test_adding_up_to_a_target_is_refused_for_what_refuses_an_opening() -> None:
    wish = signal(Target.LONG, size=base("4"))
    assert refused(wish, rules(enabled=False), situation("long 3")) is Outcome.STRATEGY_DISABLED
    late = situation("long 3", now=NOW + timedelta(hours=1))
    assert refused(wish, RULES, late) is Outcome.TOO_OLD


@pytest.mark.parametrize("reason", [CloseReason.SIGNAL, CloseReason.MANUAL, CloseReason.UNPROTECTED])
def test_closes_and_reductions_carry_the_reason_that_they_are_given(reason: CloseReason) -> None:
    for wish in (signal(Action.CLOSE), signal(Target.FLAT)):
        assert decide(wish, RULES, situation("long 3"), reason).legs == (Close(side=PositionSide.LONG, reason=reason),)
    for wish in (signal(Action.REDUCE, size=base("1")), signal(Target.LONG, size=base("2"))):
        assert decide(wish, RULES, situation("long 3"), reason).legs == (
            Reduce(side=PositionSide.LONG, qty=D(1), reason=reason),
        )


def test_a_reversal_keeps_the_size_when_nobody_names_one() -> None:
    plan = decide(signal(Action.REVERSE), rules(defaults=Defaults(exits=STOP), multiplier=D(3)), situation("long 2.5"))
    assert legs(plan) == ["close reversed", "open short 2.5"], "what is held was multiplied when it was opened"


# ---------------------------------------------------------------------------------------------------------------- size


@pytest.mark.parametrize(
    ("wished", "multiplier", "expected"),
    [
        (base("0.0109"), "1", "0.010"),  # down, never up
        (base("0.0109"), "2", "0.021"),  # multiplied first, then rounded
        (base("0.01"), "0.5", "0.005"),
        (size(SizeUnit.QUOTE, "250"), "1", "2.5"),
        (size(SizeUnit.QUOTE, "100.19"), "1", "1.001"),
        (size(SizeUnit.QUOTE, "250"), "0.1", "0.25"),
        (size(SizeUnit.PCT_EQUITY, "10"), "1", "10"),  # 1,000 of 10,000
        (size(SizeUnit.PCT_EQUITY, "0.3333"), "1", "0.333"),
        (size(SizeUnit.PCT_EQUITY, "250"), "3", "750"),  # beyond the equity: leverage
        (size(SizeUnit.CONTRACTS, "0.0109"), "2", "0.021"),
        (size(SizeUnit.PCT_AVAILABLE, "10"), "1", "4"),  # 400 of 4,000
        (size(SizeUnit.PCT_AVAILABLE, "0.3333"), "1", "0.133"),
        (size(SizeUnit.RISK_PCT, "1"), "1", "50"),  # 100 lost at 2 per unit
        (size(SizeUnit.RISK_PCT, "0.3333"), "1", "16.665"),
        (size(SizeUnit.RISK_PCT, "1"), "0.01", "0.5"),
    ],
)
def test_each_unit_of_size_is_multiplied_and_rounded_down(wished: Size, multiplier: str, expected: str) -> None:
    wish = signal(Action.OPEN_LONG, size=wished, exits=Exits(stop_loss=pct("2")))
    where = situation(instrument=instrument(market_qty_max=D(1000), notional_min=D(0)))
    assert opening(wish, rules(multiplier=D(multiplier)), where).qty == D(expected)


@pytest.mark.parametrize(
    ("side", "stop", "expected"),
    [
        (Action.OPEN_LONG, at("96"), "25"),
        (Action.OPEN_SHORT, at("104"), "25"),
        (Action.OPEN_SHORT, pct("4"), "25"),
    ],
)
def test_risk_is_measured_to_the_stop_loss(side: Action, stop: StopLoss, expected: str) -> None:
    wish = signal(side, size=size(SizeUnit.RISK_PCT, "1"), exits=Exits(stop_loss=stop))
    assert opening(wish).qty == D(expected)


def test_risk_is_measured_to_the_strategys_stop_loss_when_the_alert_names_none() -> None:
    assert opening(signal(Action.OPEN_LONG, size=size(SizeUnit.RISK_PCT, "0.5"))).qty == D(50)


def test_risk_needs_a_stop_loss_even_where_a_trailing_stop_protects() -> None:
    wish = signal(
        Action.OPEN_LONG, size=size(SizeUnit.RISK_PCT, "1"), exits=Exits(trailing=Trailing(distance=pct("1")))
    )
    assert refused(wish, BARE) is Outcome.NO_STOP
    assert refused(wish, rules(BARE, trade_without_stop=True)) is Outcome.NO_STOP


@pytest.mark.parametrize(
    ("action", "share", "expected"),
    [
        (Action.ADD, "50", ["add long 1.5"]),
        (Action.ADD, "33.34", ["add long 1"]),
        (Action.ADD, "200", ["add long 6"]),
        (Action.REDUCE, "50", ["reduce 1.5 signal"]),
        (Action.REDUCE, "33.36", ["reduce 1 signal"]),
        (Action.REDUCE, "100", ["close signal"]),
    ],
)
def test_a_share_of_the_position_is_taken_of_what_is_held(action: Action, share: str, expected: list[str]) -> None:
    assert legs(decide(signal(action, size=size(SizeUnit.PCT_POSITION, share)), RULES, situation("long 3"))) == expected


def test_a_reduction_in_quote_currency_is_divided_by_the_price() -> None:
    plan = decide(signal(Action.REDUCE, size=size(SizeUnit.QUOTE, "120")), RULES, situation("long 3"))
    assert legs(plan) == ["reduce 1.2 signal"]


def test_a_reduction_by_a_share_of_the_equity_is_carried_out_or_refused() -> None:
    wish = signal(Action.REDUCE, size=size(SizeUnit.PCT_EQUITY, "1"))
    equity = D(10_000) if needs_equity(wish, RULES) else None
    plan = decide(wish, RULES, situation("long 3", equity=equity))
    assert legs(plan) == ["reduce 1 signal"] or refusal_of(plan) is not None


def test_a_reduction_by_risk_is_refused() -> None:
    wish = signal(Action.REDUCE, size=size(SizeUnit.RISK_PCT, "1"))
    assert refused(wish, RULES, situation("long 3", equity=None)) is Outcome.NO_SIZE


@pytest.mark.parametrize("wished", [base("1"), size(SizeUnit.QUOTE, "100")])
def test_a_reduction_is_multiplied_as_the_opening_was(wished: Size) -> None:
    doubled = rules(multiplier=D(2))
    assert opening(signal(Action.OPEN_LONG, size=wished), doubled).qty == D(2)
    plan = decide(signal(Action.REDUCE, size=wished), doubled, situation("long 6"))
    assert legs(plan) == ["reduce 2 signal"]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (signal(Action.OPEN_LONG, size=size(SizeUnit.PCT_EQUITY, "1")), True),
        (signal(Action.ADD, size=size(SizeUnit.RISK_PCT, "1")), True),
        (signal(Target.SHORT, size=size(SizeUnit.RISK_PCT, "1")), True),
        (signal(Action.OPEN_LONG, size=base("1")), False),
        (signal(Action.OPEN_LONG, size=size(SizeUnit.QUOTE, "1")), False),
        (signal(Action.OPEN_LONG), True),  # the strategy's size
        (signal(Action.CLOSE), False),
        (signal(Target.FLAT), False),
    ],
)
def test_equity_is_asked_for_only_when_the_size_needs_it(wish: Signal, expected: bool) -> None:
    assert needs_equity(wish, rules(defaults=Defaults(size=size(SizeUnit.PCT_EQUITY, "5")))) is expected


def test_what_the_alert_says_goes_before_what_the_strategy_says() -> None:
    like = rules(
        defaults=Defaults(
            size=base("1"),
            leverage=D(3),
            exits=Exits(stop_loss=pct("1"), take_profit=(TakeProfit(at=pct("5"), fraction=D(1)),)),
        )
    )
    own = opening(signal(Action.OPEN_LONG, size=base("2"), leverage=D(7), exits=Exits(stop_loss=pct("2"))), like)
    assert (own.qty, own.leverage, own.exits.stop_loss) == (D(2), D(7), pct("2"))
    assert own.exits.take_profit == like.defaults.exits.take_profit, "what the alert does not name stays"
    theirs = opening(signal(Action.OPEN_LONG), like)
    assert (theirs.qty, theirs.leverage, theirs.exits) == (D(1), D(3), like.defaults.exits)


def test_a_target_that_was_reached_does_not_keep_from_adding() -> None:
    below = (TakeProfit(at=at("90"), fraction=D("0.5")), TakeProfit(at=at("150"), fraction=D("0.5")))
    where = situation(holding("long 3", exits=Exits(stop_loss=pct("3"), take_profit=below)))
    assert opening(signal(Action.ADD), RULES, where).exits.take_profit == below
    named = signal(Action.ADD, exits=Exits(take_profit=below))
    assert refused(named, RULES, where) is Outcome.TARGET_WRONG_SIDE


def test_an_addition_keeps_the_exits_of_the_position_that_it_does_not_name() -> None:
    exits = Exits(stop_loss=pct("3"), break_even=BreakEven(after=pct("1")))
    where = situation(holding("long 3", exits=exits))
    leg = opening(signal(Action.ADD, exits=Exits(stop_loss=pct("2"))), RULES, where)
    assert leg.exits == Exits(stop_loss=pct("2"), break_even=BreakEven(after=pct("1")))
    assert leg.adds


def test_a_reversal_takes_nothing_over_from_the_side_that_it_leaves() -> None:
    where = situation(holding("long 3", exits=Exits(stop_loss=at("95"))))
    assert opening(signal(Action.REVERSE), RULES, where).exits == STOP


def test_the_native_stop_rests_beyond_the_stop_loss() -> None:
    assert opening(signal(Action.OPEN_LONG)).native_stop == D("98.5")
    assert opening(signal(Action.OPEN_SHORT)).native_stop == D("101.5")


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("wish", "like", "where", "code"),
    [
        (signal(Action.OPEN_LONG), rules(enabled=False), {}, Outcome.STRATEGY_DISABLED),
        (signal(Action.OPEN_LONG), rules(symbols=("ETHUSDT", "XRPUSDT")), {}, Outcome.SYMBOL_NOT_ALLOWED),
        (signal(Action.OPEN_LONG), rules(symbols=()), {}, Outcome.SYMBOL_NOT_ALLOWED),
        (signal(Action.OPEN_LONG), RULES, {"instrument": instrument(trading=False)}, Outcome.NOT_TRADING),
        (signal(Action.OPEN_LONG), RULES, {"now": NOW + timedelta(seconds=61)}, Outcome.TOO_OLD),
        (signal(Action.OPEN_LONG, size=base("1")), BARE, {}, Outcome.NO_STOP),
        (
            signal(
                Action.OPEN_LONG,
                size=base("1"),
                exits=Exits(
                    trailing=Trailing(activate=pct("1"), distance=pct("1")), break_even=BreakEven(after=pct("1"))
                ),
            ),
            BARE,
            {},
            Outcome.NO_STOP,
        ),  # both sleep: nothing protects from the first moment
        (
            signal(
                Action.OPEN_LONG,
                exits=Exits(
                    take_profit=(TakeProfit(at=at("101"), fraction=D(1)),), break_even=BreakEven(after_target=2)
                ),
            ),
            RULES,
            {},
            Outcome.NO_SUCH_TARGET,
        ),
        (
            signal(Action.OPEN_LONG),
            rules(
                defaults=Defaults(
                    size=base("1"),
                    exits=Exits(stop_loss=pct("1"), take_profit=(TakeProfit(at=at("99"), fraction=D(1)),)),
                )
            ),
            {},
            Outcome.TARGET_WRONG_SIDE,
        ),  # the strategy's own
        (signal(Action.OPEN_LONG, exits=Exits(stop_loss=at("100"))), RULES, {}, Outcome.STOP_WRONG_SIDE),
        (signal(Action.OPEN_LONG, exits=Exits(stop_loss=at("101"))), RULES, {}, Outcome.STOP_WRONG_SIDE),
        (signal(Action.OPEN_SHORT, exits=Exits(stop_loss=at("99"))), RULES, {}, Outcome.STOP_WRONG_SIDE),
        (
            signal(Action.OPEN_LONG, exits=Exits(take_profit=(TakeProfit(at=at("99"), fraction=D(1)),))),
            RULES,
            {},
            Outcome.TARGET_WRONG_SIDE,
        ),
        (
            signal(Action.OPEN_SHORT, exits=Exits(take_profit=(TakeProfit(at=at("101"), fraction=D(1)),))),
            RULES,
            {},
            Outcome.TARGET_WRONG_SIDE,
        ),
        (signal(Action.OPEN_LONG, leverage=D("100.5")), RULES, {}, Outcome.LEVERAGE_ABOVE_MAXIMUM),
        (
            signal(Action.OPEN_LONG),
            rules(defaults=Defaults(size=base("1"), exits=STOP, leverage=D(200))),
            {},
            Outcome.LEVERAGE_ABOVE_MAXIMUM,
        ),
        (signal(Action.OPEN_LONG, exits=STOP), BARE, {}, Outcome.NO_SIZE),
        (signal(Action.OPEN_LONG, size=size(SizeUnit.PCT_POSITION, "50")), RULES, {}, Outcome.NO_SIZE),
        (signal(Action.OPEN_LONG, size=base("0.0009")), RULES, {}, Outcome.SIZE_BELOW_MINIMUM),
        (
            signal(Action.OPEN_LONG, size=base("0.009")),
            RULES,
            {"instrument": instrument(qty_min=D("0.01"), notional_min=D(0))},
            Outcome.SIZE_BELOW_MINIMUM,
        ),
        (signal(Action.OPEN_LONG, size=base("0.049")), RULES, {}, Outcome.SIZE_BELOW_MINIMUM),  # worth 4.9 of 5
        (signal(Action.OPEN_LONG, size=base("2000.001")), RULES, {}, Outcome.SIZE_ABOVE_MAXIMUM),
        (signal(Action.OPEN_LONG, size=base("2.001")), rules(notional_max=D(200)), {}, Outcome.SIZE_ABOVE_LIMIT),
        (
            signal(Action.OPEN_LONG, size=base("1.5")),
            rules(notional_max=D(200), multiplier=D(2)),
            {},
            Outcome.SIZE_ABOVE_LIMIT,
        ),
    ],
)
@pytest.mark.parametrize("held", ["flat", "opposite"])
def test_an_opening_is_refused_and_a_reversal_still_closes(
    wish: Signal, like: Rules, where: dict[str, Any], code: Outcome, held: str
) -> None:
    other = {Action.OPEN_LONG: "short 3", Action.OPEN_SHORT: "long 3"}[wish.action or Action.OPEN_LONG]
    plan = decide(wish, like, situation("flat" if held == "flat" else other, **where))
    assert refusal_of(plan) is code
    assert legs(plan) == ([] if held == "flat" else ["close reversed"])


@pytest.mark.parametrize(
    ("wish", "like", "where"),
    [
        (signal(Action.OPEN_LONG), rules(symbols=("BTCUSDT",)), {}),
        (signal(Action.OPEN_LONG), RULES, {"now": NOW + timedelta(seconds=60)}),
        (signal(Action.OPEN_LONG), rules(BARE, defaults=Defaults(size=base("1")), trade_without_stop=True), {}),
        (signal(Action.OPEN_LONG, leverage=D(100)), RULES, {}),
        (signal(Action.OPEN_LONG, size=base("0.001")), RULES, {"price": D(5000)}),
        (signal(Action.OPEN_LONG, size=base("0.05")), RULES, {}),  # worth 5 of 5
        (signal(Action.OPEN_LONG, size=base("100")), RULES, {}),
        (signal(Action.OPEN_LONG, size=base("2")), rules(notional_max=D(200)), {}),
        (
            signal(Action.OPEN_LONG, size=base("1"), exits=Exits(trailing=Trailing(distance=pct("1")))),
            BARE,
            {},
        ),  # a trailing stop that is awake is a stop
    ],
)
def test_the_limit_itself_is_allowed(wish: Signal, like: Rules, where: dict[str, Any]) -> None:
    assert opening(wish, like, situation(**where)).qty > 0


@pytest.mark.parametrize("wish", [signal(Action.CLOSE), signal(Target.FLAT), signal(Action.REDUCE, size=base("1"))])
def test_closes_go_through_whatever_forbids_an_opening(wish: Signal) -> None:
    like = rules(BARE, enabled=False, symbols=("ETHUSDT",), notional_max=D(1))
    late = situation("long 3", now=NOW + timedelta(days=1), instrument=instrument(trading=False), equity=None)
    plan = decide(wish, like, late)
    assert plan.refusal is None
    assert legs(plan) in (["close signal"], ["reduce 1 signal"])


def test_an_addition_is_refused_whole() -> None:
    assert refused(signal(Action.ADD), rules(enabled=False), situation("long 3")) is Outcome.STRATEGY_DISABLED
    wish = signal(Action.ADD, exits=Exits(stop_loss=at("101")))
    assert refused(wish, RULES, situation("long 3")) is Outcome.STOP_WRONG_SIDE


def test_an_addition_is_protected_by_the_positions_own_stop() -> None:
    assert opening(signal(Action.ADD, size=base("1")), BARE, situation("long 3")).exits == STOP
    bare = situation(holding("long 3", exits=Exits()))
    assert refused(signal(Action.ADD), RULES, bare) is Outcome.NO_STOP


def test_a_reduction_without_a_size_is_refused() -> None:
    assert refused(signal(Action.REDUCE), RULES, situation("long 3")) is Outcome.NO_SIZE


def test_a_reduction_below_the_minimum_is_refused() -> None:
    wish = signal(Action.REDUCE, size=size(SizeUnit.PCT_POSITION, "0.01"))
    assert refused(wish, RULES, situation("long 3")) is Outcome.SIZE_BELOW_MINIMUM


def test_the_last_bit_is_closed_however_small_it_is() -> None:
    where = situation("long 3", instrument=instrument(qty_min=D(5)))
    assert legs(decide(signal(Action.REDUCE, size=base("3")), RULES, where)) == ["close signal"]


@pytest.mark.parametrize("wish", [*TRADING, *Target])
def test_another_strategys_position_is_left_alone(wish: Action | Target) -> None:
    where = situation(holding("long 3", strategy_id="other"))
    plan = decide(signal(wish, size=base("1")), RULES, where)
    assert (plan.legs, refusal_of(plan)) == ((), Outcome.OTHER_STRATEGY)
    assert plan.refusal is not None
    assert "other" in plan.refusal.reason


@pytest.mark.parametrize(
    ("max_age_s", "sent_before_s", "received_before_s", "expired"),
    [
        (None, None, MAX_AGE_S, False),
        (None, None, MAX_AGE_S + 1, True),
        (None, MAX_AGE_S + 1, 0, True),  # the sender's own time counts where there is one
        (None, 0, MAX_AGE_S + 1, True),  # a time after its arrival does not make it younger
        (None, -30, 0, False),  # a sender whose clock is ahead
        (5, None, 6, True),
        (5, None, 5, False),
        (300, None, 200, False),
    ],
)
def test_the_age_of_an_alert(
    max_age_s: int | None, sent_before_s: int | None, received_before_s: int, expired: bool
) -> None:
    sent_at = None if sent_before_s is None else NOW - timedelta(seconds=sent_before_s)
    wish = signal(Action.OPEN_LONG, max_age_s=max_age_s, sent_at=sent_at)
    found = too_old(wish, NOW - timedelta(seconds=received_before_s), NOW)
    assert (found is not None) is expired
    if found is not None:
        assert found.code is Outcome.TOO_OLD
        assert str(max_age_s or MAX_AGE_S) in found.reason


# ---------------------------------------------------------------------------------------------------------- properties

QTYS = st.decimals(min_value="0.001", max_value=200, places=3)
STOPS = st.sampled_from([Exits(), STOP, Exits(stop_loss=at("98")), Exits(stop_loss=at("102"))])
UNITS = [SizeUnit.BASE, SizeUnit.QUOTE, SizeUnit.PCT_POSITION]  # those that a reduction knows


@st.composite
def sizes(draw: st.DrawFn, units: list[SizeUnit]) -> Size:
    return size(draw(st.sampled_from(units)), draw(st.decimals(min_value="0.0001", max_value=20_000, places=4)))


@st.composite
def wishes(draw: st.DrawFn) -> Signal:
    wish: Action | Target = draw(st.sampled_from([*TRADING, *Target]))
    units = UNITS if wish is Action.REDUCE else list(SizeUnit)
    return signal(wish, size=draw(st.none() | sizes(units)), exits=draw(STOPS))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Signal, Rules, Situation]:
    like = Rules(
        strategy_id="demo",
        enabled=draw(st.booleans()),
        symbols=draw(st.sampled_from([None, ("BTCUSDT",), ("ETHUSDT",)])),
        defaults=Defaults(size=draw(st.none() | sizes(list(SizeUnit))), exits=draw(STOPS)),
        multiplier=draw(st.decimals(min_value="0.1", max_value=5, places=1)),
        trade_without_stop=draw(st.booleans()),
        notional_max=draw(st.none() | st.integers(10, 100_000).map(D)),
    )
    side = draw(st.sampled_from(["flat", "long", "short"]))
    held = holding(side if side == "flat" else f"{side} {draw(QTYS)}")
    where = situation(
        held,
        price=draw(st.decimals(min_value=90, max_value=110, places=1)),
        now=NOW + timedelta(seconds=draw(st.sampled_from([0, 3600]))),
        instrument=instrument(
            trading=draw(st.booleans()),
            qty_step=draw(st.sampled_from([D("0.001"), D("0.01"), D("0.5")])),
            qty_min=draw(st.sampled_from([D("0.001"), D("0.01"), D(1)])),
        ),
    )
    return draw(wishes()), like, where


@given(case=cases())
def test_no_plan_opens_while_the_other_side_stays_held(case: tuple[Signal, Rules, Situation]) -> None:
    wish, like, where = case
    plan, held = decide(wish, like, where), only(where)
    for number, leg in enumerate(plan.legs):
        if not isinstance(leg, Open):
            assert held is not None
            continue
        assert leg == plan.legs[-1], "nothing follows an opening"
        if held is None:
            assert number == 0
        elif leg.side is held.side:
            assert (number, leg.adds) == (0, True)
        else:
            assert plan.legs[:number] == (Close(side=held.side, reason=CloseReason.REVERSED),)
            assert not leg.adds


@given(case=cases())
def test_a_plan_without_legs_says_why(case: tuple[Signal, Rules, Situation]) -> None:
    plan = decide(*case)
    assert plan.legs or plan.refusal or plan.reason
    assert refusal_of(plan) in (None, *Outcome)
    assert not (plan.refusal and plan.reason)


@given(case=cases(), flat=st.sampled_from([Target.FLAT, Action.CLOSE]))
def test_what_is_held_is_always_closed_when_the_wish_is_flat(
    case: tuple[Signal, Rules, Situation], flat: Target | Action
) -> None:
    _, like, where = case
    plan, held = decide(signal(flat), like, where), only(where)
    if held is None:
        assert (plan.legs, plan.refusal) == ((), None)
    else:
        assert plan == Plan(legs=(Close(side=held.side, reason=CloseReason.SIGNAL),))


@given(case=cases())
def test_the_other_side_is_always_left_whatever_is_refused(case: tuple[Signal, Rules, Situation]) -> None:
    wish, like, where = case
    held = only(where)
    if held is None:
        return
    meant = {Action.OPEN_LONG: "long", Action.OPEN_SHORT: "short", Target.LONG: "long", Target.SHORT: "short"}
    side = meant.get(wish.action or wish.target or Target.FLAT)
    if wish.action is Action.REVERSE or (side is not None and side != held.side):
        assert decide(wish, like, where).legs[:1] == (Close(side=held.side, reason=CloseReason.REVERSED),)


@given(case=cases())
def test_no_quantity_exceeds_the_wish_or_what_the_exchange_takes(case: tuple[Signal, Rules, Situation]) -> None:
    wish, like, where = case
    held, instrument, price = only(where), where.instrument, where.price
    for leg in decide(wish, like, where).legs:
        if isinstance(leg, Close):
            continue
        assert leg.qty % instrument.qty_step == 0
        assert leg.qty >= instrument.qty_min
        if isinstance(leg, Reduce):
            assert held is not None
            assert leg.qty < held.qty
            continue
        assert leg.qty <= instrument.market_qty_max * ORDERS_MAX
        assert leg.qty * price >= instrument.notional_min
        assert like.notional_max is None or leg.qty * price <= like.notional_max
        wanted = wish.size or like.defaults.size
        if wanted is None:
            assert wish.action is Action.REVERSE
            assert held is not None
            assert leg.qty <= held.qty
        elif wanted.unit is SizeUnit.BASE:
            before = held.qty if leg.adds and held is not None and wish.target is not None else D(0)
            assert before + leg.qty <= wanted.value * like.multiplier
        elif wanted.unit is SizeUnit.QUOTE:
            # The division has 28 digits; what it may be off by is far below a step.
            assert leg.qty * price <= wanted.value * like.multiplier + D("1e-18")
        elif wanted.unit is SizeUnit.PCT_EQUITY:
            assert where.equity is not None
            assert leg.qty * price <= where.equity * wanted.value / 100 * like.multiplier + D("1e-18")
        elif wanted.unit is SizeUnit.PCT_AVAILABLE:
            assert where.available is not None
            assert leg.qty * price <= where.available * wanted.value / 100 * like.multiplier + D("1e-18")


@given(case=cases())
def test_closing_wishes_never_open(case: tuple[Signal, Rules, Situation]) -> None:
    wish, like, where = case
    if wish.action in CLOSING or wish.target is Target.FLAT:
        assert not any(isinstance(leg, Open) for leg in decide(wish, like, where).legs)


@pytest.mark.parametrize(
    ("repeat", "held", "wish", "expected"),
    [
        (Repeat.IGNORE, "long 3", signal(Action.OPEN_LONG, size=base("5")), []),
        (Repeat.ADD, "long 3", signal(Action.OPEN_LONG, size=base("5")), ["add long 5"]),
        (Repeat.ADD, "long 3", signal(Action.OPEN_LONG), ["add long 0.1"]),
        (Repeat.ALIGN, "long 3", signal(Action.OPEN_LONG, size=base("5")), ["add long 2"]),
        (Repeat.ALIGN, "long 3", signal(Action.OPEN_LONG, size=base("1")), ["reduce 2 signal"]),
        (Repeat.ALIGN, "long 3", signal(Action.OPEN_LONG, size=size(SizeUnit.QUOTE, "900")), []),
        (Repeat.ADD, "short 3", signal(Action.OPEN_SHORT, size=base("1")), ["add short 1"]),
        (Repeat.ADD, "short 3", signal(Action.OPEN_LONG, size=base("1")), ["close reversed", "open long 1"]),
        (Repeat.ADD, "flat", signal(Action.OPEN_LONG, size=base("1")), ["open long 1"]),
        (Repeat.ADD, "long 3", signal(Target.LONG, size=base("5")), ["add long 2"]),  # a target says what it means
        (Repeat.ADD, "long 3", signal(Target.LONG), []),
    ],
)
def test_an_opening_of_what_is_held_does_what_the_strategy_says(
    repeat: Repeat, held: str, wish: Signal, expected: list[str]
) -> None:
    assert legs(decide(wish, rules(repeat=repeat), situation(held))) == expected


@pytest.mark.parametrize(
    ("sides", "wish", "held", "expected", "code"),
    [
        (Sides.LONG, Action.OPEN_LONG, "flat", ["open long 0.1"], None),
        (Sides.LONG, Action.OPEN_SHORT, "flat", [], Outcome.SIDE_NOT_ALLOWED),
        (Sides.LONG, Target.SHORT, "long 3", ["close reversed"], Outcome.SIDE_NOT_ALLOWED),
        (Sides.SHORT, Action.ADD, "long 3", [], Outcome.SIDE_NOT_ALLOWED),
        (Sides.SHORT, Action.CLOSE, "long 3", ["close signal"], None),
        (Sides.SHORT, Action.OPEN_SHORT, "flat", ["open short 0.1"], None),
    ],
)
def test_a_strategy_may_open_one_side_only(
    sides: Sides, wish: Action | Target, held: str, expected: list[str], code: Outcome | None
) -> None:
    plan = decide(signal(wish), rules(sides=sides), situation(held))
    assert (legs(plan), None if plan.refusal is None else plan.refusal.code) == (expected, code)


@pytest.mark.parametrize(
    ("previous", "wish", "held", "healed", "else_done"),
    [
        (Target.FLAT, Target.LONG, "flat", ["open long 2"], None),  # as the chart says: nothing was missed
        (Target.LONG, Target.FLAT, "long 2", ["close signal"], None),
        (None, Target.LONG, "short 1", ["close reversed", "open long 2"], None),
        (Target.LONG, Target.LONG, "flat", ["open long 2"], []),
        (Target.FLAT, Target.LONG, "short 1", ["close reversed", "open long 2"], ["close reversed"]),
        (Target.LONG, Target.FLAT, "short 1", ["close signal"], ["close signal"]),
        (Target.LONG, Target.FLAT, "flat", [], []),
        (Target.SHORT, Target.LONG, "long 3", ["reduce 1 signal"], ["reduce 1 signal"]),
    ],
)
@pytest.mark.parametrize("policy", Missed)
def test_a_missed_alert_is_told_and_healed_or_opens_nothing(
    previous: Target | None,
    wish: Target,
    held: str,
    healed: list[str],
    else_done: list[str] | None,
    policy: Missed,
) -> None:
    """`else_done`: what is still done where the strategy does not want it healed; None where nothing was missed."""
    goal = signal(wish, previous=previous, size=None if wish is Target.FLAT else base("2"))
    plan = decide(goal, rules(missed=policy), situation(held))
    assert bool(plan.missed) is (else_done is not None)
    assert plan.halts is (policy is Missed.HALT and else_done is not None)
    if policy is Missed.HEAL or else_done is None:
        assert (legs(plan), plan.refusal) == (healed, None)
    else:
        assert legs(plan) == else_done
        opens = len(healed) > len(else_done)
        assert (None if plan.refusal is None else plan.refusal.code) == (Outcome.MISSED_ALERT if opens else None)


def test_an_opening_that_does_not_turn_only_closes_the_other_side() -> None:
    wish = signal(Action.OPEN_SHORT, turns=False)
    assert legs(decide(wish, RULES, situation("long 3"))) == ["close signal"]
    assert legs(decide(wish, RULES, situation("flat"))) == legs(
        decide(signal(Action.OPEN_SHORT), RULES, situation("flat"))
    )


@pytest.mark.parametrize(("held", "opened"), [("flat", "10"), ("long 4", "6")])
def test_a_whole_order_counts_what_it_closes(held: str, opened: str) -> None:
    wish = signal(Action.OPEN_SHORT, size=base("10"), whole_order=True)
    plan = decide(wish, RULES, situation(held))
    assert plan.refusal is None
    [opening] = [leg for leg in plan.legs if isinstance(leg, Open)]
    assert opening.qty == D(opened)


def test_a_whole_order_that_turned_what_is_not_held_opens_nothing() -> None:
    """The chart's 10 may be 5 old and 5 new: from flat it would be twice what was meant."""
    wish = signal(Action.OPEN_SHORT, previous=Target.LONG, size=base("10"), whole_order=True)
    plan = decide(wish, RULES, situation("flat"))
    assert (plan.legs, plan.refusal and plan.refusal.code) == ((), Outcome.NO_SIZE)
    assert plan.missed
    turned = decide(wish, RULES, situation("long 4"))
    assert [leg.qty for leg in turned.legs if isinstance(leg, Open)] == [D(6)]


@pytest.mark.parametrize(
    ("held", "ordered", "done"),
    [
        ("flat", base("2"), ["open short 2"]),
        ("long 5", base("2"), ["reduce 2"]),
        ("long 2", base("2"), ["close"]),
        ("long 2", base("5"), ["close", "open short 3"]),
        ("long 5", None, ["close", "open short 0.1"]),  # without a size of its own it is no order, but a wish
        ("long 5", size(SizeUnit.QUOTE, "100"), ["reduce 1"]),
    ],
)
def test_an_order_that_nets_uses_up_the_other_side_first(held: str, ordered: Size | None, done: list[str]) -> None:
    plan = decide(signal(Action.OPEN_SHORT, size=ordered, nets=True), RULES, situation(held))
    assert plan.refusal is None
    words = []
    for leg in plan.legs:
        match leg:
            case Open():
                words.append(f"open {leg.side} {leg.qty}")
            case Reduce():
                words.append(f"reduce {leg.qty}")
            case Close():
                words.append("close")
    assert words == done


def test_an_order_that_nets_never_rounds_a_part_up_to_all() -> None:
    plan = decide(signal(Action.OPEN_SHORT, size=base("0.0001"), nets=True), RULES, situation("long 5"))
    assert (plan.legs, plan.refusal and plan.refusal.code) == ((), Outcome.SIZE_BELOW_MINIMUM)


def test_a_whole_order_that_is_used_up_by_the_close_opens_nothing() -> None:
    wish = signal(Action.OPEN_SHORT, size=base("3"), whole_order=True)
    plan = decide(wish, RULES, situation("long 4"))
    assert [type(leg) for leg in plan.legs] == [Close]
    assert plan.refusal is not None
    assert plan.refusal.code is Outcome.SIZE_BELOW_MINIMUM
