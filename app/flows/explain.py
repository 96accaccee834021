"""What an alert would do now, or would have done: its whole reading and plan. Nothing is stored, nothing is sent."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from app.alerts.defaults import read_defaults
from app.alerts.recognise import Reading, beyond_us, in_time, open_alert, understand
from app.domain.decide import decide, too_old
from app.domain.exits import check_exits, check_together
from app.domain.meaning import Meaning, meaning, netted, spoken_of
from app.domain.money import ZERO, plain
from app.domain.order import PositionMode, PositionSide
from app.domain.plan import Close, Leg, Open, Plan, Rules, Situation
from app.domain.position import Position, PositionStatus
from app.domain.refusals import Outcome, Refusal
from app.domain.signal import Action, Exits, PriceOrPct, Signal, Target
from app.domain.sizing import needs_equity
from app.errors import InvalidInput, OutcomeUnknown, Refused, Transient
from app.flows import preflight
from app.flows.door import Delivery, addressed
from app.flows.everywhere import spread
from app.flows.plan import rules_of
from app.ids import new_id
from app.resources import Connected, Resources
from app.store import positions
from app.store.db import store_errors
from app.store.strategies import AccountShare, WebhookStrategy

ANSWER_S_MAX = 10.0
"""For all accounts together: who asks waits at a terminal."""

Verdict = Literal["would_execute", "nothing_to_do", "refused"]


class ExplainedOrder(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    account_name: str
    side: str
    qty: str
    reduce_only: bool
    type: str = "market"


class ExplainedLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One order's worth of the alert. `side` is the position's; what is not stated is left out."""

    action: Meaning
    symbol: str
    side: PositionSide | None
    size: dict[str, str] | None
    orders: list[ExplainedOrder]
    venue: str | msgspec.UnsetType = msgspec.UNSET
    target: dict[str, str | None] | msgspec.UnsetType = msgspec.UNSET
    stop_loss: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    take_profit: list[dict[str, str]] | msgspec.UnsetType = msgspec.UNSET
    leverage: str | msgspec.UnsetType = msgspec.UNSET


class ExplainedCheck(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    ok: bool
    detail: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    format: str | None
    repairs: list[str]
    legs: list[ExplainedLeg]
    checks: list[ExplainedCheck]
    verdict: Verdict
    code: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """Instead of what is the case: `held` (side and quantity; quantity 0 is flat) and the instant."""

    held: tuple[PositionSide, Decimal] | None = None
    at: datetime | None = None


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the strategy, and as of when."""

    resources: Resources
    strategy: WebhookStrategy
    share: AccountShare
    what_if: WhatIf
    now: datetime

    @property
    def rules(self) -> Rules:
        return rules_of(self.strategy, self.share.multiplier)


class _Told(msgspec.Struct, kw_only=True):
    """What one account would do."""

    plan: Plan
    meaning: Meaning = Meaning.NONE
    side: PositionSide | None = None
    venue: str = ""
    orders: list[ExplainedOrder] = []


async def explain(resources: Resources, delivery: Delivery, what_if: WhatIf) -> Explanation:
    """The reading of a delivery and what it would come to. Raises Unauthorized, StoreUnavailable, and InvalidInput
    where a body that cannot be read would have had to hold the secret.
    """
    try:
        body = open_alert(delivery.raw, delivery.path_secret)
    except InvalidInput as error:
        if delivery.path_secret is None:
            raise
        await addressed(resources, delivery)
        return _unread(error, None)
    strategy = (await addressed(resources, delivery, body.secret)).strategy
    now = what_if.at or resources.now()
    try:
        defaults = read_defaults(strategy.defaults, "defaults.")
        reading = understand(body, strategy.format, path_secret=delivery.path_secret, defaults=defaults)
        reading = await spread(resources, strategy.id, in_time(reading, now))
    except InvalidInput as error:
        return _unread(error, None if strategy.format == "auto" else strategy.format)
    until = asyncio.get_running_loop().time() + ANSWER_S_MAX
    accounts = []
    for share in strategy.accounts:
        asked = _Asked(resources=resources, strategy=strategy, share=share, what_if=what_if, now=now)
        accounts.append(await _in_time(_of_account(asked, reading.signals), len(reading.signals), until))
    return _explained(reading, strategy, accounts, now)


def _unread(error: InvalidInput, format: str | None) -> Explanation:
    detail = error.detail if error.field is None else f"{error.field}: {error.detail}"
    check = ExplainedCheck(name="readable", ok=False, detail=detail)
    return Explanation(
        format=format, repairs=[], legs=[], checks=[check], verdict="refused", code=error.code, reason=error.detail
    )


def _explained(reading: Reading, strategy: WebhookStrategy, accounts: list[list[_Told]], now: datetime) -> Explanation:
    """`accounts` have one `_Told` for each signal."""
    checks = [ExplainedCheck(name="readable", ok=True, detail=f"format {reading.format}"), *_of_strategy(strategy)]
    checks += [_age(signal, now) for signal in reading.signals]
    told = [one for account in accounts for one in account]
    for number, account in enumerate(accounts, 1):
        checks += [_check(f"account {number}", one.plan.refusal, _says(one)) for one in account]
    missed = dict.fromkeys(one.plan.missed for one in told if one.plan.missed)
    checks += [ExplainedCheck(name="previous", ok=False, detail=text) for text in missed]
    beyond = beyond_us(reading)
    if beyond is not None:
        checks.append(ExplainedCheck(name="supported", ok=False, detail=beyond.detail))
        for one in told:
            one.orders = []
    refusal = next((one.plan.refusal for one in told if one.plan.refusal is not None), None)
    if not accounts:
        refusal = Refusal(code=Outcome.NO_ACCOUNT, reason=f"strategy {strategy.id} has no account")
    verdict: Verdict = "nothing_to_do"
    if beyond is not None:
        verdict = "refused"
    elif any(one.orders or one.plan.reason == _CHANGES for one in told):
        verdict = "would_execute"
    elif refusal is not None:
        verdict = "refused"
    code, reason = (None, "") if refusal is None else (str(refusal.code), refusal.reason)
    if beyond is not None:
        code, reason = beyond.code, beyond.detail
    return Explanation(
        format=reading.format,
        repairs=list(reading.repairs),
        legs=[
            _leg(signal, strategy, [account[number] for account in accounts])
            for number, signal in enumerate(reading.signals)
        ],
        checks=checks,
        verdict=verdict,
        code=code or msgspec.UNSET,
        reason=reason or next((one.plan.reason for one in told if one.plan.reason), "") or msgspec.UNSET,
    )


def _age(signal: Signal, now: datetime) -> ExplainedCheck:
    expired = None if signal.only_closes else too_old(signal, now, now)
    return _check("age", expired, "closes never expire" if signal.only_closes else "not too old")


def _of_strategy(strategy: WebhookStrategy) -> list[ExplainedCheck]:
    off = Refusal(code=Outcome.STRATEGY_DISABLED, reason="disabled: only closes are carried out")
    return [
        _check("strategy", None if strategy.enabled else off, "enabled"),
        ExplainedCheck(
            name="accounts", ok=bool(strategy.accounts), detail=f"{len(strategy.accounts)} traded by the strategy"
        ),
    ]


def _check(name: str, refusal: Refusal | None, fine: str) -> ExplainedCheck:
    detail = fine if refusal is None else f"{refusal.code}: {refusal.reason}"
    return ExplainedCheck(name=name, ok=refusal is None, detail=detail)


def _says(one: _Told) -> str:
    if one.orders:
        return f"{len(one.orders)} orders" if len(one.orders) > 1 else "1 order"
    return one.plan.reason or "nothing to do"


async def _in_time(told: Awaitable[list[_Told]], signals: int, until: float) -> list[_Told]:
    """If the exchange answers by then: many accounts and orders could else wait for many timeouts."""
    try:
        async with asyncio.timeout_at(until):
            return await told
    except TimeoutError:
        late = Refusal(
            code=Outcome.VENUE_UNAVAILABLE,
            reason=f"the exchange did not say what is needed within {ANSWER_S_MAX:.0f} s",
        )
        return [_Told(plan=Plan(refusal=late)) for _ in range(signals)]


async def _of_account(asked: _Asked, signals: Sequence[Signal]) -> list[_Told]:
    """What an account would do for each signal; each finds what those before it would leave."""
    told: list[_Told] = []
    held: dict[str, list[Position]] = {}
    for signal in signals:
        try:
            connected = await asked.resources.venues.of(asked.share.account_id)
            await connected.venue.instrument(signal.symbol)  # first, so that an unknown symbol is called that
            price = (await connected.venue.quote(signal.symbol)).last
            if signal.symbol not in held:
                held[signal.symbol] = await _held(asked, signal, price)
            one = await _of_signal(asked, connected, signal, held[signal.symbol], price)
        except Refused as error:
            one = _Told(plan=Plan(refusal=Refusal(code=_outcome(error.code), reason=error.reason)))
        except (Transient, OutcomeUnknown) as error:
            refusal = Refusal(code=Outcome.VENUE_UNAVAILABLE, reason=f"the exchange cannot be asked now: {error}")
            one = _Told(plan=Plan(refusal=refusal))
        else:
            held[signal.symbol] = _after(asked, one.plan, held[signal.symbol], signal, price)
        told.append(one)
    return told


async def _of_signal(
    asked: _Asked, connected: Connected, signal: Signal, held: list[Position], price: Decimal
) -> _Told:
    rules = asked.rules
    equity = await connected.venue.equity() if needs_equity(signal, rules) else None
    situation = Situation(
        held=tuple(held),
        hedge=connected.account.position_mode is PositionMode.HEDGE or any(one.hedge for one in held),
        instrument=await connected.venue.instrument(signal.symbol),
        price=price,
        equity=None if equity is None else equity.equity,
        available=None if equity is None else equity.available,
        received_at=asked.now,
        now=asked.now,
        unfit=None if signal.only_closes else await _unfit(asked, connected, signal),
    )
    mine = [one for one in held if one.strategy_id == asked.strategy.id]
    ours = spoken_of(signal, mine, hedge=situation.hedge)
    word, side = meaning(signal, rules, ours)
    if signal.action is Action.SET_EXITS:
        plan = _change(signal, ours, price)
    elif not held and signal.only_closes:
        plan = Plan(reason="nothing is held")
    else:
        plan = decide(signal, rules, situation)
        if signal.nets:
            word, side = netted(plan) or (word, side)
    orders = [_order(connected, leg, held) for leg in plan.legs]
    return _Told(plan=plan, meaning=word, side=side, venue=connected.account.venue, orders=orders)


async def _unfit(asked: _Asked, connected: Connected, signal: Signal) -> Refusal | None:
    crowded = await preflight.crowded(asked.resources, asked.strategy, at=asked.now, before=None)
    return crowded or await preflight.in_the_way(asked.resources, connected, signal.symbol)


def _after(asked: _Asked, plan: Plan, held: list[Position], signal: Signal, price: Decimal) -> list[Position]:
    """What is held once the plan was carried out at this price."""
    left = {one.side: one for one in held}
    for leg in plan.legs:
        known = left.get(leg.side)
        if isinstance(leg, Open):
            qty = leg.qty + (ZERO if known is None else known.qty)
            left[leg.side] = _position(asked, signal, leg.side, qty, price)
        elif isinstance(leg, Close) or known is None or known.qty <= leg.qty:
            left.pop(leg.side, None)
        else:
            left[leg.side] = msgspec.structs.replace(known, qty=known.qty - leg.qty)
    return list(left.values())


def _outcome(code: str) -> Outcome:
    return Outcome(code) if code in set(Outcome) else Outcome.VENUE_REFUSED


async def _held(asked: _Asked, signal: Signal, price: Decimal) -> list[Position]:
    if asked.what_if.held is None:
        with store_errors():
            return await positions.live(asked.resources.pool, asked.share.account_id, signal.symbol)
    side, qty = asked.what_if.held
    return [] if qty == ZERO else [_position(asked, signal, side, qty, price)]


def _position(asked: _Asked, signal: Signal, side: PositionSide, qty: Decimal, price: Decimal) -> Position:
    return Position(
        id=new_id(),
        account_id=asked.share.account_id,
        strategy_id=asked.strategy.id,
        symbol=signal.symbol,
        side=side,
        epoch=0,
        status=PositionStatus.OPEN,
        qty=qty,
        qty_opened=qty,
        entry_price=price,
        exits=asked.rules.defaults.exits,
        opened_at=asked.now,
    )


_CHANGES = "the position's exits would be changed"


def _change(signal: Signal, held: Position | None, price: Decimal) -> Plan:
    if held is None:
        return Plan(reason="nothing is held whose exits could be changed")
    exits, entry = held.exits.changed(signal.exits, signal.names), held.entry_price
    refusal = check_exits(signal.exits, held.side, price, entry) or check_together(exits, held.side, entry)
    return Plan(refusal=refusal) if refusal is not None else Plan(reason=_CHANGES)


def _order(connected: Connected, leg: Leg, held: list[Position]) -> ExplainedOrder:
    if isinstance(leg, Open):
        side, qty = leg.side.opens_with, leg.qty
    else:
        side = leg.side.closes_with
        qty = next(one.qty for one in held if one.side is leg.side) if isinstance(leg, Close) else leg.qty
    return ExplainedOrder(
        account=str(connected.account.id),
        account_name=connected.account.name,
        side=side,
        qty=plain(qty),
        reduce_only=not isinstance(leg, Open),
    )


def _leg(signal: Signal, strategy: WebhookStrategy, told: list[_Told]) -> ExplainedLeg:
    """`told`: what each account would do for it."""
    first = told[0] if told else _Told(plan=Plan())
    defaults = rules_of(strategy, Decimal(1)).defaults
    opens = not signal.only_closes and signal.action is not Action.SET_EXITS
    size = signal.size or (defaults.size if opens else None)
    exits = signal.exits.over(defaults.exits) if opens else signal.exits
    leverage = signal.leverage or (defaults.leverage if opens else None)
    return ExplainedLeg(
        action=first.meaning,
        symbol=signal.symbol,
        side=first.side,
        size=None if size is None else {"unit": size.unit, "value": plain(size.value)},
        orders=[order for one in told for order in one.orders],
        venue=first.venue or msgspec.UNSET,
        target=msgspec.UNSET if signal.target is None else _target(signal),
        stop_loss=msgspec.UNSET if exits.stop_loss is None else _at(exits.stop_loss),
        take_profit=_ladder(exits) or msgspec.UNSET,
        leverage=msgspec.UNSET if leverage is None else plain(leverage),
    )


def _target(signal: Signal) -> dict[str, str | None]:
    assert signal.target is not None
    if signal.target is Target.FLAT:
        return {"side": "flat", "size": "0"}
    states = signal.size is not None and signal.size.unit.counts_units
    return {"side": signal.target, "size": plain(signal.size.value) if states and signal.size else None}


def _at(at: PriceOrPct) -> dict[str, str]:
    named = {"price": at.price, "pct": at.pct}
    return {name: plain(value) for name, value in named.items() if value is not None}


def _ladder(exits: Exits) -> list[dict[str, str]]:
    return [{**_at(rung.at), "fraction": plain(rung.fraction)} for rung in exits.take_profit]
