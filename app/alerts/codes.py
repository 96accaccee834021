"""Every code a body can be refused with, in one list; each becomes `code` of a 422."""

from enum import StrEnum


class AlertCode(StrEnum):
    """Codes of `InvalidInput` raised while an alert is read. The sentence beside each says when it is used."""

    # the body as a whole
    EMPTY_BODY = "empty_body"  # nothing but white space arrived
    BODY_TOO_LARGE = "body_too_large"  # more than 64 KiB
    NOT_UTF8 = "not_utf8"  # the bytes are not UTF-8 text
    NOT_JSON = "not_json"  # the text is not JSON, or nested absurdly deep
    NOT_AN_OBJECT = "not_an_object"  # JSON, but neither { … } nor a list of them
    BAD_CHARACTER = "bad_character"  # U+0000, half a surrogate pair, or a letter in a name that only looks Latin
    DUPLICATE_FIELD = "duplicate_field"  # one field twice with different values
    UNKNOWN_FORMAT = "unknown_format"  # not one of the formats that this version reads
    AMBIGUOUS_FORMAT = "ambiguous_format"  # it fits several formats, which mean different things by it
    # fields
    UNFILLED_PLACEHOLDER = "unfilled_placeholder"  # a field still holds {{…}}: the chart didn't fill it
    UNKNOWN_FIELD = "unknown_field"  # inside our own vocabulary, where a misspelt word must not pass in silence
    MISSING_FIELD = "missing_field"  # without it the alert has no single meaning
    BAD_NUMBER = "bad_number"  # not a plain decimal number, or absurdly large or small
    BAD_ACTION = "bad_action"  # no word for an action that we know
    BAD_TARGET = "bad_target"  # not long, short or flat
    CONTRADICTION = "contradiction"  # two fields that cannot both be true
    BAD_SYMBOL = "bad_symbol"  # can't be read as the name of an instrument
    WRONG_MARKET = "wrong_market"  # readable, but not a USDT perpetual
    BAD_SIZE = "bad_size"  # no unit, two units, zero or negative
    BAD_STOP_LOSS = "bad_stop_loss"  # not exactly one positive pct or price
    BAD_TAKE_PROFIT = "bad_take_profit"  # a rung that can't be read, or fractions that don't fit
    BAD_TRAILING = "bad_trailing"  # no single distance, or two activations
    BAD_TRAILING_TAKE_PROFIT = "bad_trailing_take_profit"  # no activation or callback, or half of a shrinking one
    BAD_STOP_STEPS = "bad_stop_steps"  # a step that can't be read, or not in the order of the targets
    BAD_TIME_EXIT = "bad_time_exit"  # not whole seconds
    BAD_TRIGGER = "bad_trigger"  # not last, mark, bid, ask or bid_ask
    BAD_BREAK_EVEN = "bad_break_even"  # not exactly one positive after_pct, after_price or after_target
    BAD_LEVERAGE = "bad_leverage"  # not a number of 1 or more
    BAD_TIME = "bad_time"  # not an instant with a time zone
    TIME_IN_FUTURE = "time_in_future"  # an opening that fired later than it arrived
    BAD_MAX_AGE = "bad_max_age"  # not whole seconds from 1 to 86400
    BAD_FLAG = "bad_flag"  # neither true nor false
    BAD_ID = "bad_id"  # empty, too long or no text
    NOTHING_HELD = "nothing_held"  # close_all without a symbol, of a strategy that holds nothing
    NOT_SUPPORTED_YET = "not_supported_yet"  # understood, but this version cannot do it
