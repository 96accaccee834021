"""A signal: an alert understood, in our words, still only the sender's wish."""

from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from app.domain.money import ONE, ZERO


class Action(StrEnum):
    OPEN_LONG = "open_long"
    OPEN_SHORT = "open_short"
    ADD = "add"
    REDUCE = "reduce"
    REDUCE_LONG = "reduce_long"
    REDUCE_SHORT = "reduce_short"
    REVERSE = "reverse"
    CLOSE = "close"
    CLOSE_LONG = "close_long"
    CLOSE_SHORT = "close_short"
    SET_EXITS = "set_exits"


class Target(StrEnum):
    """Where the position should end up."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


class SizeUnit(StrEnum):
    BASE = "base"  # base units
    QUOTE = "quote"  # quote currency, notional
    CONTRACTS = "contracts"  # of a linear perpetual one contract is one base unit, at both venues
    PCT_EQUITY = "pct_equity"  # notional as per cent of the account's equity
    PCT_AVAILABLE = "pct_available"  # notional as per cent of the balance that new positions may use
    RISK_PCT = "risk_pct"  # per cent of equity lost if the stop is hit
    PCT_POSITION = "pct_position"  # per cent of what is held (reduce, add)

    @property
    def counts_units(self) -> bool:
        """Whether it states base units outright."""
        return self in (SizeUnit.BASE, SizeUnit.CONTRACTS)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    unit: SizeUnit
    value: Decimal


class PriceKind(StrEnum):
    """Which price an exit looks at."""

    LAST = "last"  # each trade
    MARK = "mark"  # the exchange's mark price, which single trades do not move
    BID = "bid"
    ASK = "ask"
    BID_ASK = "bid_ask"  # the one at which the position would be closed: a long's bid, a short's ask


class PriceOrPct(msgspec.Struct, frozen=True, kw_only=True):
    """A price given outright, or as a distance from the entry in per cent. Exactly one is set."""

    price: Decimal | None = None
    pct: Decimal | None = None


class StopLoss(PriceOrPct, frozen=True, kw_only=True):
    trigger_by: PriceKind = PriceKind.LAST


class StopStep(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stop loss goes once the ladder's target of this number was reached (the first is 1). Exactly one is
    set: a gain in per cent of the entry (0 is the entry itself), the price of an earlier target, or a price.
    """

    after_target: int
    gain_pct: Decimal | None = None
    to_target: int | None = None
    price: Decimal | None = None


class TakeProfit(msgspec.Struct, frozen=True, kw_only=True):
    at: PriceOrPct
    fraction: Decimal  # of the position as opened
    trigger_by: PriceKind = PriceKind.LAST


class Trailing(msgspec.Struct, frozen=True, kw_only=True):
    """A stop that follows the best price. It wakes at `activate` (at once if absent)."""

    activate: PriceOrPct | None = None
    distance: PriceOrPct  # `price`: absolute distance; `pct`: of the best price
    trigger_by: PriceKind = PriceKind.LAST


class TrailingTakeProfit(msgspec.Struct, frozen=True, kw_only=True):
    """From `activate` on it follows the best price, and takes the profit once the price falls back by the callback: per
    cent of the best price, `callback_pct` at first. The more is gained, the less is given back: the callback shrinks
    towards `min_factor` of itself, by e^(-gain / decay_pct), the gain in per cent of the activation price.
    """

    activate: PriceOrPct
    callback_pct: Decimal
    min_factor: Decimal = ONE
    decay_pct: Decimal | None = None  # None: it does not shrink, and `min_factor` is 1
    trigger_by: PriceKind = PriceKind.LAST


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """Once the price has gained this much, or the ladder's target of this number was reached (the first is 1), a stop
    waits at the entry price, or `offset_pct` of it further on the winning side, from which fees are paid. Exactly one
    of `after` and `after_target` is set.
    """

    after: PriceOrPct | None = None
    after_target: int | None = None
    offset_pct: Decimal = ZERO
    trigger_by: PriceKind = PriceKind.LAST


class TimeExit(msgspec.Struct, frozen=True, kw_only=True):
    """Everything is closed `after_s` seconds after the position was opened, whatever the price is."""

    after_s: int


class Exits(msgspec.Struct, frozen=True, kw_only=True):
    """What may end the position; each becomes a level once it is filled."""

    stop_loss: StopLoss | None = None
    take_profit: tuple[TakeProfit, ...] = ()
    trailing: Trailing | None = None
    trailing_take_profit: TrailingTakeProfit | None = None
    break_even: BreakEven | None = None
    stop_steps: tuple[StopStep, ...] = ()
    time_exit: TimeExit | None = None

    def over(self, defaults: "Exits") -> "Exits":
        """These exits, with the strategy's defaults for what is not named."""
        return Exits(**{name: getattr(self, name) or getattr(defaults, name) for name in Exits.__struct_fields__})

    def changed(self, given: "Exits", names: Collection[str]) -> "Exits":
        """These exits with the named ones as they are in `given`, also where that is none."""
        return msgspec.structs.replace(self, **{name: getattr(given, name) for name in names})

    @property
    def names_a_stop(self) -> bool:
        """Whether the position is protected from its first moment: a trailing stop that sleeps does not count."""
        return self.stop_loss is not None or (self.trailing is not None and self.trailing.activate is None)


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What one alert asks of one instrument. Exactly one of `action` and `target` is set."""

    symbol: str
    action: Action | None = None
    target: Target | None = None
    previous: Target | None = None
    size: Size | None = None
    leverage: Decimal | None = None
    exits: Exits = Exits()
    names: tuple[str, ...] = ()  # of set_exits: the exits that it changes; one that `exits` does not have is taken away
    price: Decimal | None = None  # the chart's price, for people only
    limit_prices: tuple[Decimal, ...] = ()  # where orders should wait to open it; none: at market
    turns: bool = True  # an opening turns an opposite position round; if not, it only closes one
    # `size` is of one order that does it all: what it closes of the other side is counted in
    whole_order: bool = False
    # an order as it goes to an account that nets: what is held on the other side it makes smaller by its size, and
    # opens only what is left over
    nets: bool = False
    everywhere: bool = False  # one of each symbol that the strategy holds: `symbol`, which may be "", and the others
    sent_at: datetime | None = None
    max_age_s: int | None = None

    @property
    def only_closes(self) -> bool:
        """Closes and reductions never expire and never need a size or stop."""
        return self.target is Target.FLAT or self.action in CLOSING


def everywhere(signals: Iterable[Signal], symbols: Collection[str]) -> tuple[Signal, ...]:
    """The orders, with one for each of the symbols in the place of one that is for all of them."""
    orders: list[Signal] = []
    for signal in signals:
        if signal.everywhere:
            names = filter(None, dict.fromkeys((signal.symbol, *symbols)))
            orders += [msgspec.structs.replace(signal, symbol=name, everywhere=False) for name in names]
        else:
            orders.append(signal)
    return tuple(orders)


REDUCING = frozenset({Action.REDUCE, Action.REDUCE_LONG, Action.REDUCE_SHORT})
CLOSING = REDUCING | {Action.CLOSE, Action.CLOSE_LONG, Action.CLOSE_SHORT}


class Sides(StrEnum):
    """Which sides a strategy may open."""

    BOTH = "both"
    LONG = "long"
    SHORT = "short"


class Repeat(StrEnum):
    """What an opening does whose side is held already: `buy` while long. A target says by itself what it means."""

    IGNORE = "ignore"
    ADD = "add"  # its size once more
    ALIGN = "align"  # up or down to its size, where that is in base units


class Missed(StrEnum):
    """What is done with an alert whose `previous` is not what is held. It is told in any case, and closes are done."""

    HEAL = "heal"  # carried out from what is held
    IGNORE = "ignore"  # nothing is opened
    HALT = "halt"  # nothing is opened, and the strategy is disabled until a person has looked


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy's defaults for what an alert does not say.

    `symbol` and `side` are for alerts of services that keep both in a bot of their own.
    """

    symbol: str | None = None
    side: Target | None = None  # long or short
    size: Size | None = None
    leverage: Decimal | None = None
    exits: Exits = Exits()
