"""10,000 made-up instruments, prices and wishes: what the domain makes of them passes both faces' strict filters.

In process: a wish becomes an opening, its stop and a reduction, and none of them is ever refused for its price or
quantity; and a quantity is never more than was wished for. Every quantity and stop meets the filters of both faces; by
turns they are also placed at one of them, through the handlers that requests reach.
"""

import random
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import msgspec

from app.domain.decide import decide
from app.domain.exits import plan_levels
from app.domain.instrument import Instrument
from app.domain.level import LevelKind
from app.domain.money import plain
from app.domain.order import PositionSide
from app.domain.plan import Close, Open, Plan, Reduce, Rules, Situation
from app.domain.position import Position, PositionStatus
from app.domain.refusals import Outcome
from app.domain.signal import Action, Exits, PriceOrPct, Signal, Size, SizeUnit, StopLoss, TakeProfit
from app.domain.sizing import ORDERS_MAX
from simulator import checks
from simulator.binance import algo, filters, trading
from simulator.binance.context import Context
from simulator.binance.params import Params
from simulator.bybit import trading as bybit
from simulator.exchange import Config, Exchange
from simulator.instruments import Instrument as Listed
from simulator.keys import ApiKey
from simulator.model import Account, OrderType

CASES = 10_000
SYMBOL = "AAAUSDT"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
EQUITY = Decimal("98765.4321")
RICH = Decimal(10) ** 12
VALUE_MAX = 2_000_000  # of the largest market order, in quote currency: what leverage allows is not the question here
D = Decimal


class Case(msgspec.Struct, frozen=True, kw_only=True):
    listed: Listed
    price: Decimal
    side: PositionSide
    size: Size
    multiplier: Decimal
    stop_pct: Decimal
    rung_pct: Decimal
    reduce_pct: Decimal

    @property
    def instrument(self) -> Instrument:
        """As an adapter reads it."""
        listed = self.listed
        return Instrument(
            symbol=SYMBOL,
            tick_size=listed.tick_size,
            qty_step=listed.qty_step,
            qty_min=listed.min_qty,
            market_qty_max=listed.max_market_qty,
            notional_min=listed.min_notional,
            leverage_max=listed.max_leverage,
            trading=True,
        )

    def wished(self) -> Fraction:
        """Base units, exactly."""
        value = Fraction(self.size.value) * Fraction(self.multiplier)
        match self.size.unit:
            case SizeUnit.QUOTE:
                return value / Fraction(self.price)
            case SizeUnit.PCT_EQUITY:
                return Fraction(EQUITY) * value / 100 / Fraction(self.price)
            case SizeUnit.RISK_PCT:
                return Fraction(EQUITY) * value / 100 / (Fraction(self.price) * Fraction(self.stop_pct) / 100)
            case _:
                return value


def made(rng: random.Random) -> Case:
    tick = D(rng.choice((1, 1, 1, 2, 5, 25))).scaleb(-rng.randrange(8))
    price = tick * int(10 ** rng.uniform(1.5, 6))
    fitting = [power for power in range(-6, 4) if price.scaleb(power) < VALUE_MAX // 1000]
    step = D(rng.choice((1, 1, 1, 2, 5))).scaleb(rng.choice(fitting))
    min_notional = D(rng.choice(("0", "5", "20", "100")))
    min_qty = step * rng.choice((1, 1, 1, 2, 10, 17))
    least = max(4 * min_qty, 10 * min_notional / price)
    steps = int(max(least, D(VALUE_MAX) / price * D(repr(rng.uniform(0.0001, 1)))) / step) + 1
    listed = Listed(
        symbol=SYMBOL,
        base_coin="AAA",
        tick_size=tick,
        qty_step=step,
        min_qty=min_qty,
        max_qty=step * steps * 10,
        max_market_qty=step * steps,
        start_price=price,
        min_notional=min_notional,
        max_price=price * 100,
    )
    stop_pct = _number(rng, 0.05, 60)
    multiplier = D(rng.choice(("1", "1", "0.5", "0.333", "2.75")))
    largest = float(listed.max_market_qty)
    wish = D(repr(10 ** rng.uniform(_log(float(min_qty) / 20), _log(largest * rng.choice((1, 1, 1, 3, 3, 40))))))
    unit = rng.choice((SizeUnit.BASE, SizeUnit.QUOTE, SizeUnit.PCT_EQUITY, SizeUnit.RISK_PCT))
    return Case(
        listed=listed,
        price=price,
        side=rng.choice(list(PositionSide)),
        size=Size(unit=unit, value=_short(_in_unit(wish, unit, price, stop_pct), rng)),
        multiplier=multiplier,
        stop_pct=stop_pct,
        rung_pct=_number(rng, 0.05, 60),
        reduce_pct=_number(rng, 0.5, 100),
    )


def _in_unit(wish: Decimal, unit: SizeUnit, price: Decimal, stop_pct: Decimal) -> Decimal:
    """About the same wish in another unit."""
    match unit:
        case SizeUnit.QUOTE:
            return wish * price
        case SizeUnit.PCT_EQUITY:
            return wish * price / EQUITY * 100
        case SizeUnit.RISK_PCT:
            return wish * price * stop_pct / EQUITY
        case _:
            return wish


def _log(value: float) -> float:
    return D(repr(value)).log10().__float__()


def _number(rng: random.Random, low: float, high: float) -> Decimal:
    return D(f"{rng.uniform(low, high):.{rng.randrange(1, 4)}f}") or D("0.1")


def _short(value: Decimal, rng: random.Random) -> Decimal:
    """As people write numbers, with few digits or with many."""
    return +value.normalize() if rng.random() < 0.3 else D(f"{value:.{rng.choice((1, 2, 4, 12))}g}")


class Faces:
    """Both faces of one exchange, without sockets; fresh accounts for each case, which is placed at one of them."""

    def __init__(self) -> None:
        self.exchange = Exchange(Config(prices="manual"))
        self.turn = "binance"
        self._context = Context(self.exchange)
        for name in ("bybit", "binance"):
            self.exchange.add_account(name, ApiKey(secret="s"))

    def list(self, case: Case) -> None:
        self.turn = "binance" if self.turn == "bybit" else "bybit"
        self.exchange.put_instrument(case.listed)
        self.exchange.engine.on_trade(SYMBOL, case.price, self.exchange.now_ms())
        self.exchange.reset(RICH)
        self.exchange.engine.set_leverage(self._account(), SYMBOL, D(1))
        self._number = 0

    def market(self, case: Case, qty: Decimal, stop: Decimal | None, *, reduce: bool) -> None:
        """A market order, as the adapters write it; raises what the exchange refuses with."""
        market = self.exchange.engine.market(SYMBOL)
        checks.check_qty(case.listed, qty, OrderType.MARKET)
        filters.check_qty(case.listed, qty, at_market=True)
        if not reduce:
            filters.check_notional(market, qty, None)
        self._number += 1
        buys = (case.side is PositionSide.LONG) is not reduce
        if self.turn == "bybit":
            body: dict[str, object] = {
                "category": "linear",
                "symbol": SYMBOL,
                "side": "Buy" if buys else "Sell",
                "orderType": "Market",
                "qty": plain(qty),
                "positionIdx": 0,
                "reduceOnly": reduce,
                "orderLinkId": f"lh{self._number}",
            }
            if stop is not None:
                body |= {"stopLoss": plain(stop), "tpslMode": "Full", "slTriggerBy": "LastPrice"}
            bybit.create(self.exchange, self._account(), msgspec.json.encode(body))
        else:
            given = {"symbol": SYMBOL, "side": "BUY" if buys else "SELL", "type": "MARKET", "quantity": plain(qty)}
            given |= {"newClientOrderId": f"lh{self._number}", "newOrderRespType": "RESULT"}
            if reduce:
                given["reduceOnly"] = "true"
            trading.new_order(self._context, self._account(), Params(given))

    def closing_stop(self, case: Case, price: Decimal) -> None:
        """The native stop of the venue that has none on the order."""
        filters.check_price(case.listed, price)
        checks.check_price(case.listed, price)
        if self.turn == "bybit":
            return
        given = {
            "algoType": "CONDITIONAL",
            "symbol": SYMBOL,
            "side": "SELL" if case.side is PositionSide.LONG else "BUY",
            "type": "STOP_MARKET",
            "triggerPrice": plain(price),
            "closePosition": "true",
            "clientAlgoId": "lhs",
        }
        algo.new_algo(self._context, self._account(), Params(given))

    def held(self) -> Decimal:
        return self.exchange.engine.position(self._account(), SYMBOL).size

    def _account(self) -> Account:
        return self.exchange.engine.accounts[self.turn]


def test_what_the_domain_rounds_is_never_refused_and_never_rounded_up() -> None:
    rng, faces = random.Random(20260304), Faces()
    ended = {"opened": 0, "refused": 0, "split": 0, "reduced": 0}
    for _ in range(CASES):
        case = made(rng)
        faces.list(case)
        exits = Exits(
            stop_loss=StopLoss(pct=case.stop_pct),
            take_profit=(
                TakeProfit(at=PriceOrPct(pct=case.rung_pct), fraction=D("0.35")),
                TakeProfit(at=PriceOrPct(pct=case.rung_pct * 2), fraction=D("0.65")),
            )
            if case.side is PositionSide.LONG
            else (),
        )
        plan = _decide(case, exits)
        if plan.refusal is not None:
            _check_refusal(case, plan)
            ended["refused"] += 1
            continue
        [opening] = plan.legs
        assert isinstance(opening, Open)
        wished = case.wished()
        assert wished - Fraction(case.listed.qty_step) < Fraction(opening.qty) <= wished, case
        ended["opened"] += 1
        ended["split"] += _open(case, opening, faces)
        ended["reduced"] += _reduce(case, opening, faces)
        _check_levels(case, opening, exits)
    assert sum(ended[how] for how in ("opened", "refused")) == CASES
    assert min(ended.values()) > CASES // 50, ended  # each road was walked


def _decide(case: Case, exits: Exits) -> Plan:
    action = Action.OPEN_LONG if case.side is PositionSide.LONG else Action.OPEN_SHORT
    return decide(
        Signal(symbol=SYMBOL, action=action, size=case.size, exits=exits),
        Rules(strategy_id="demo", multiplier=case.multiplier),
        _situation(case),
    )


def _situation(case: Case, *held: Position) -> Situation:
    return Situation(
        held=held,
        instrument=case.instrument,
        price=case.price,
        equity=EQUITY,
        available=EQUITY,
        received_at=NOW,
        now=NOW,
    )


def _check_refusal(case: Case, plan: Plan) -> None:
    """Nothing is refused that the exchange would take."""
    assert plan.refusal is not None
    assert not plan.legs
    listed = case.listed
    step, wished = Fraction(listed.qty_step), case.wished()
    qty = wished // step * step
    if plan.refusal.code is Outcome.SIZE_BELOW_MINIMUM:
        assert qty < listed.min_qty or qty * Fraction(case.price) < listed.min_notional, case
    else:
        assert plan.refusal.code is Outcome.SIZE_ABOVE_MAXIMUM, plan.refusal
        assert qty > listed.max_market_qty * ORDERS_MAX, case


def _open(case: Case, opening: Open, faces: Faces) -> bool:
    """Send it whole or split; answers whether it was split."""
    rest, parts = opening.qty, 0
    while rest:
        qty = case.instrument.order_qty(rest)
        assert 0 < qty <= rest
        faces.market(case, qty, opening.native_stop, reduce=False)
        rest -= qty
        parts += 1
    assert faces.held() == opening.qty
    assert opening.native_stop is not None
    away = case.side.sign * (case.price - opening.native_stop)
    if away > 0:  # a stop within a tick of zero has nowhere to go
        faces.closing_stop(case, opening.native_stop)
    return parts > 1


def _reduce(case: Case, opening: Open, faces: Faces) -> bool:
    """Take a part off, if there is one that can be traded."""
    held = Position(
        id=UUID(int=1),
        account_id=UUID(int=2),
        strategy_id="demo",
        symbol=SYMBOL,
        side=case.side,
        epoch=1,
        status=PositionStatus.OPEN,
        qty=opening.qty,
        qty_opened=opening.qty,
        entry_price=case.price,
        opened_at=NOW,
    )
    signal = Signal(symbol=SYMBOL, action=Action.REDUCE, size=Size(unit=SizeUnit.PCT_POSITION, value=case.reduce_pct))
    plan = decide(signal, Rules(strategy_id="demo"), _situation(case, held))
    if plan.refusal is not None:
        assert opening.qty * case.reduce_pct / 100 < case.listed.min_qty, case
        return False
    [leg] = plan.legs
    if isinstance(leg, Close):
        assert case.reduce_pct >= 100
        return False
    assert isinstance(leg, Reduce)
    assert Fraction(leg.qty) <= Fraction(opening.qty) * Fraction(case.reduce_pct) / 100
    rest = leg.qty
    while rest:
        qty = case.instrument.order_qty(rest)
        faces.market(case, qty, None, reduce=True)
        rest -= qty
    assert faces.held() == opening.qty - leg.qty
    return True


def _check_levels(case: Case, opening: Open, exits: Exits) -> None:
    """What the watcher would close with later, by the filters alone."""
    levels = plan_levels(exits, case.side, case.price, opening.qty, case.instrument, opened_at=NOW)
    rungs = [level for level in levels if level.kind is LevelKind.TAKE_PROFIT]
    assert sum((level.qty for level in rungs), D(0)) <= opening.qty
    for level in levels:
        if level.price is not None:
            checks.check_price(case.listed, level.price)
        qty = case.instrument.order_qty(level.qty)
        checks.check_qty(case.listed, qty, OrderType.MARKET)
        filters.check_qty(case.listed, qty, at_market=True)
