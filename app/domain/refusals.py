"""Every code an alert can end with, in one list. `docs/outcomes.md` is checked against it."""

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """Codes of `outcome.code`. The sentence beside each says when it is used."""

    # done
    EXECUTED = "executed"  # orders were sent and filled
    EXITS_CHANGED = "exits_changed"  # the position's exits are those of the alert from now on
    NOTHING_TO_DO = "nothing_to_do"  # the position already is what the alert asks for
    # refused
    UNKNOWN_SYMBOL = "unknown_symbol"  # the exchange lists no such instrument
    NOT_TRADING = "not_trading"  # the exchange has halted or delisted the instrument
    SYMBOL_NOT_ALLOWED = "symbol_not_allowed"  # the strategy does not trade this symbol
    SIDE_NOT_ALLOWED = "side_not_allowed"  # the strategy does not open this side
    TOO_MANY_ALERTS = "too_many_alerts"  # more alerts came within a minute than the strategy's alerts_per_minute
    MISSED_ALERT = "missed_alert"  # another position is held than the chart says, and the strategy wants that told
    STRATEGY_DISABLED = "strategy_disabled"  # the strategy is switched off; closes still go through
    NO_ACCOUNT = "no_account"  # the strategy has no account to trade on
    NO_SIZE = "no_size"  # neither alert nor strategy names a size
    NO_STOP = "no_stop"  # neither alert nor strategy names a stop
    SIZE_BELOW_MINIMUM = "size_below_minimum"  # rounded down, the size is below what the exchange takes
    SIZE_ABOVE_MAXIMUM = "size_above_maximum"  # more market orders would be needed than one alert may send
    SIZE_ABOVE_LIMIT = "size_above_limit"  # worth more than the strategy's max_notional
    STOP_WRONG_SIDE = "stop_wrong_side"  # the stop would fire at once
    TARGET_WRONG_SIDE = "target_wrong_side"  # a take profit would fire at once
    LADDER_BEGUN = "ladder_begun"  # a target was reached already, so the ladder cannot be replaced
    NO_SUCH_TARGET = "no_such_target"  # break_even or stop_steps wait for a target that the ladder does not have
    AMBIGUOUS_SIDE = "ambiguous_side"  # hedge mode holds both sides, and the alert does not say which it means
    POSITION_MODE_MISMATCH = "position_mode_mismatch"  # the exchange is in another position mode than the account says
    MARGIN_MODE_MISMATCH = "margin_mode_mismatch"  # the exchange is in another margin mode than the account says
    CLOCK_DRIFT = "clock_drift"  # this machine's clock is too far from the exchange's
    KEY_CAN_WITHDRAW = "key_can_withdraw"  # the API key may withdraw money; nothing is opened with such a key
    LEVERAGE_IN_USE = "leverage_in_use"  # hedge mode: the other side is held at another leverage, one counts for both
    LEVERAGE_ABOVE_MAXIMUM = "leverage_above_maximum"  # above the instrument's limit
    NOT_SUPPORTED_YET = "not_supported_yet"  # understood, but this version cannot do it
    FOREIGN_POSITION = "foreign_position"  # the exchange holds a position there that we did not open
    POSITION_ENDED = "position_ended"  # what should have been added to ended before the order could leave
    OTHER_STRATEGY = "other_strategy"  # the book is held by another strategy's position
    OUT_OF_ORDER = "out_of_order"  # by the strategy's own time a later alert was carried out already
    BLIND = "blind"  # the symbol's prices are not seen now, so nobody would see its stop crossed
    NOT_COMPARED = "not_compared"  # the account could not be compared with the exchange since the start
    DRIFT = "drift"  # the exchange holds another quantity than we do, and a person has to say what is meant
    VENUE_REFUSED = "venue_refused"  # the exchange refused the order; the reason is its own
    VENUE_UNAVAILABLE = "venue_unavailable"  # the exchange could not be asked in time; nothing was sent
    NOT_FILLED = "not_filled"  # the exchange took the order and filled nothing
    # expired
    TOO_OLD = "too_old"  # older than max_age_s when it could have been executed
    NEVER_ARRIVED = "never_arrived"  # the order's answer was lost and the exchange is proven not to have it
    # superseded
    SUPERSEDED = "superseded"  # a newer target of the same strategy took its place before it was begun
    # needs_operator
    UNRESOLVED = "unresolved"  # what became of an order could not be proven
    GAVE_UP = "gave_up"  # failed again and again; set aside so that others proceed


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why something was not done; `reason` is a sentence for a trader."""

    code: Outcome
    reason: str


class Declined(Exception):
    """Raised within a decision where nothing can be opened; the plan then has the refusal."""

    def __init__(self, code: Outcome, reason: str) -> None:
        self.refusal = Refusal(code=code, reason=reason)
