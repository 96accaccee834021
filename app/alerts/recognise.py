"""One alert body -> a Reading: which format it is, what it asks, and its text for storing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from app.alerts import (
    alertatron,
    alerts_processor,
    altrady,
    autoview,
    bybit_hook,
    cornix,
    cryptognome,
    finandy,
    freqtrade,
    gainium,
    hypertrade,
    native,
    octobot,
    okx,
    pineconnector,
    pionex,
    poabot,
    textline,
    threecommas,
    threecommas_dca,
    traderspost,
    tradingview,
    tvhub,
    wundertrading,
)
from app.alerts import body as bodies
from app.alerts.aim import Understood
from app.alerts.body import Body
from app.alerts.codes import AlertCode
from app.alerts.fields import PLACEHOLDER, refuse_unfilled
from app.alerts.foreign import EXITS, foreign
from app.alerts.lookalikes import refuse_lookalikes
from app.alerts.redact import cut
from app.domain.signal import Defaults, Signal
from app.errors import InvalidInput

AUTO = "auto"
NO_DEFAULTS = Defaults()
TEXT_LENGTH_MAX = 4096  # of plain text: more than any post or script there is
SKEW_MAX_S = 10  # the sender's clock may be this far ahead of ours

Object = Mapping[str, object]


class Json(msgspec.Struct, frozen=True):
    """A format of objects. None fits it without one of the fields in `marks`, so it is asked about those alone. `knows`
    are the fields by which it says what is traded: see `_MEANT`.
    """

    matches: Callable[[Object], bool]
    read: Callable[[Object, Defaults], Understood]
    marks: frozenset[str]
    knows: frozenset[str]


class Text(msgspec.Struct, frozen=True):
    """A format of plain text."""

    matches: Callable[[str], bool]
    read: Callable[[str, Defaults], Understood]


_OURS = {
    "tradingview": Json(tradingview.matches, tradingview.read, tradingview.MARKS | {"strategy"}, tradingview.KNOWS),
    "native": Json(native.matches, native.read, native.MARKS, native.KNOWS),
}
_THEIRS = {
    "threecommas": Json(threecommas.matches, threecommas.read, threecommas.MARKS, threecommas.KNOWS),
    "threecommas_dca": Json(
        threecommas_dca.matches, threecommas_dca.read, threecommas_dca.MARKS, threecommas_dca.KNOWS
    ),
    "traderspost": Json(traderspost.matches, traderspost.read, traderspost.MARKS, traderspost.KNOWS),
    "wundertrading": Json(wundertrading.matches, wundertrading.read, wundertrading.MARKS, wundertrading.KNOWS),
    "finandy": Json(finandy.matches, finandy.read, finandy.MARKS, finandy.KNOWS),
    "tvhub": Json(tvhub.matches, tvhub.read, tvhub.MARKS, tvhub.KNOWS),
    "altrady": Json(altrady.matches, altrady.read, altrady.MARKS, altrady.KNOWS),
    "gainium": Json(gainium.matches, gainium.read, gainium.MARKS, gainium.KNOWS),
    "okx": Json(okx.matches, okx.read, okx.MARKS, okx.KNOWS),
    "alertatron": Json(alertatron.matches, alertatron.read, alertatron.MARKS, alertatron.KNOWS),
    "freqtrade": Json(freqtrade.matches, freqtrade.read, freqtrade.MARKS, freqtrade.KNOWS),
    "poabot": Json(poabot.matches, poabot.read, poabot.MARKS, poabot.KNOWS),
    "hypertrade": Json(hypertrade.matches, hypertrade.read, hypertrade.MARKS, hypertrade.KNOWS),
    "pionex": Json(pionex.matches, pionex.read, pionex.MARKS, pionex.KNOWS),
    "cryptognome": Json(cryptognome.matches, cryptognome.read, cryptognome.MARKS, cryptognome.KNOWS),
    "alerts_processor": Json(
        alerts_processor.matches, alerts_processor.read, alerts_processor.MARKS, alerts_processor.KNOWS
    ),
    "bybit_hook": Json(bybit_hook.matches, bybit_hook.read, bybit_hook.MARKS, bybit_hook.KNOWS),
}
_JSON = {**_OURS, **_THEIRS}
_RANKS = {name: rank for rank, name in enumerate((*_THEIRS, *_OURS))}
_MARKED = {
    mark: frozenset(name for name, format in _JSON.items() if mark in format.marks)
    for mark in frozenset[str]().union(*(format.marks for format in _JSON.values()))
}
_TEXT = {
    "alertatron": Text(alertatron.matches_text, alertatron.read_text),
    "octobot": Text(octobot.matches, octobot.read),
    "autoview": Text(autoview.matches, autoview.read),
    "pineconnector": Text(pineconnector.matches, pineconnector.read),
    "wundertrading": Text(wundertrading.matches_text, wundertrading.read_text),
    "textline": Text(textline.matches, textline.read),
    "cornix": Text(cornix.matches, cornix.read),  # a post for people, so it is looked at last
}
FORMATS = (AUTO, *dict.fromkeys(("native", *_JSON, *_TEXT)))  # what a strategy's `format` may be

# Fields by which some format says the side, the size or the exits. Ignored, they would turn the alert into another
# trade, so an alert whose format is guessed may hold none that its format doesn't know.
_MEANT = frozenset(
    """side sentiment direction quantity qty amount pair positionSide marketPosition prevMarketPosition
    bot_uuid bot_id email_token message_type tv_instrument strategy_info signalToken instrument investmentType
    amountPerTrade amountPerTradeType takeProfit takeProfits stopLoss takeProfitOffset stopLossOffset closeExisting
    stub close_position cancel_orders order_mode quote_amount signal_type isBuy isSell isClose stop_loss_price
    take_profit_price take_profit_percent stop_loss_percent sl tp limitPrice stopPrice stakeamount units unitsPercent
    targets closeLong closeShort percent action target contracts position_size market_position market_position_size
    order_action order_contracts dca_orders position sl_price tp_price sl_pct tp_pct sl_percent tp_percent
    stop_loss_pct take_profit_pct stop_price profit_price stopLossPrice takeProfitPrice stoploss takeprofit
    tp1 tp2 tp3 trailing_stop trailing_stop_pct trailing_stop_percent""".split()
)
_MEANT_OBJECTS = frozenset({"general", "market", "currency", "order", "data"})


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """An alert understood.

    `signals` are its orders in their sequence; `secret` is what the body carried, to be compared by the caller; `key`
    the sender's id of this firing, if it can be told; `body` the text to store, without secrets; `repairs` what was
    mended or left out, one sentence each.
    """

    format: str
    signals: tuple[Signal, ...]
    secret: str | None
    key: str | None
    body: str
    repairs: tuple[str, ...] = ()

    @property
    def signal(self) -> Signal:
        """The only one."""
        [signal] = self.signals
        return signal

    def __repr__(self) -> str:
        """Without the secret: a repr ends up in logs."""
        return f"Reading({self.format}, {self.signals!r}, key={self.key!r})"


def read(
    raw: bytes, content_type: str, format: str = AUTO, *, path_secret: str | None, defaults: Defaults = NO_DEFAULTS
) -> Reading:
    """Read a delivery in a strategy's `format`. Raises InvalidInput with a code of `AlertCode`.

    `content_type` is accepted and not trusted: TradingView and others send JSON under either of two types, so JSON is
    tried always. `path_secret` is the secret in the URL, cut out wherever the body repeats it. `defaults` has the
    symbol and the side that other services keep in a bot of theirs.
    """
    return read_body(open_alert(raw, path_secret), format, path_secret=path_secret, defaults=defaults)


def open_alert(raw: bytes, path_secret: str | None = None) -> Body:
    """Open a body, to learn its secret. Raises InvalidInput, also for text that is in no format."""
    body = bodies.open_body(raw, path_secret)
    if isinstance(body.obj, str):
        _text_format(body.obj)
    return body


def read_body(body: Body, format: str = AUTO, *, path_secret: str | None, defaults: Defaults = NO_DEFAULTS) -> Reading:
    """As `understand`, for what is to be traded: what this version cannot do is refused by its name."""
    reading = understand(body, format, path_secret=path_secret, defaults=defaults)
    refusal = beyond_us(reading)
    if refusal is not None:
        raise refusal
    return reading


def understand(body: Body, format: str = AUTO, *, path_secret: str | None, defaults: Defaults = NO_DEFAULTS) -> Reading:
    """The full reading of an opened body, also of one that asks for what cannot be done yet. Raises InvalidInput."""
    try:
        if format != AUTO and format not in FORMATS:
            raise InvalidInput(
                AlertCode.UNKNOWN_FORMAT,
                f"The format {format[:40]!r} is not one that this version reads; known are {', '.join(FORMATS)}.",
                "format",
            )
        if not body.ascii:
            refuse_lookalikes(body.obj)
        name, understood = _read(body.obj, format, defaults)
    except InvalidInput as error:
        raise bodies.scrubbed(error, body, path_secret) from None
    text, secrets = bodies.text_and_secrets(body, path_secret)
    return Reading(
        format=name,
        signals=understood.signals,
        secret=body.secret,
        key=None if understood.key is None else cut(understood.key, secrets),
        body=text,
        repairs=body.repairs + understood.repairs,
    )


def beyond_us(reading: Reading) -> InvalidInput | None:
    """Why an alert that was understood cannot be carried out by this version."""
    for signal in reading.signals:
        if signal.limit_prices:
            return InvalidInput(
                AlertCode.NOT_SUPPORTED_YET,
                "The alert asks for an order that waits at a price, and orders leave at market only; "
                "send the alert when the price is there, as a market order.",
                "price",
            )
    return None


def in_time(reading: Reading, received_at: datetime) -> Reading:
    """The reading, if it was not sent later than it arrived. Raises InvalidInput for an opening from the future; what
    only closes goes through, and its time, by which later alerts would be judged, is left out.
    """
    signals = []
    repairs = list(reading.repairs)
    for signal in reading.signals:
        if signal.sent_at is not None and signal.sent_at > received_at + timedelta(seconds=SKEW_MAX_S):
            ahead = (signal.sent_at - received_at).total_seconds()
            if not signal.only_closes:
                raise InvalidInput(
                    AlertCode.TIME_IN_FUTURE,
                    f"The alert says that it fired {ahead:.0f} s after it arrived: write {{{{timenow}}}} as its time, "
                    "or set the clocks.",
                    "time",
                )
            signal = msgspec.structs.replace(signal, sent_at=None)
            repairs.append(f"ignored its time: {ahead:.0f} s in the future")
        signals.append(signal)
    return msgspec.structs.replace(reading, signals=tuple(signals), repairs=tuple(repairs))


def _read(
    obj: dict[str, object] | list[dict[str, object]] | str, format: str, defaults: Defaults
) -> tuple[str, Understood]:
    if isinstance(obj, str):
        name = _text_format(obj) if format == AUTO else format
        if name not in _TEXT:
            raise InvalidInput(
                AlertCode.NOT_JSON,
                f"The strategy's format {name} is JSON, and the body is plain text; send JSON, or set another format.",
            )
        if not _TEXT[name].matches(obj):
            raise InvalidInput(
                AlertCode.UNKNOWN_FORMAT,
                f"The strategy's format is {name}, and the body is not written in it.",
                "format",
            )
        return name, _TEXT[name].read(obj, defaults)
    if format != AUTO and format not in _JSON:
        raise InvalidInput(
            AlertCode.UNKNOWN_FORMAT,
            f"The strategy's format {format} is plain text, and the body is JSON; set another format.",
        )
    if isinstance(obj, list):
        return _read_legs(obj, format, defaults)
    return _read_object(obj, format, defaults)


def _read_object(obj: Object, format: str, defaults: Defaults) -> tuple[str, Understood]:
    if format != AUTO:
        return format, _JSON[format].read(obj, defaults)
    try:
        names = _json_formats(obj)
    except InvalidInput as unknown:
        if unknown.field not in EXITS:
            raise
        return _closing(obj, defaults, unknown)
    if len(names) == 1:
        return names[0], _JSON[names[0]].read(obj, defaults)
    read: dict[str, Understood] = {}
    errors: list[InvalidInput] = []
    for name in names:
        try:
            read[name] = _JSON[name].read(obj, defaults)
        except InvalidInput as error:
            errors.append(error)
    if not read:
        raise errors[0]
    for refusal in errors:
        if refusal.code != AlertCode.BAD_ACTION:  # that one only says that the words are the other format's
            raise refusal
    name, first = next(iter(read.items()))
    if any(understood.signals != first.signals for understood in read.values()):
        raise _ambiguous(list(read))
    return name, first


def _closing(obj: Object, defaults: Defaults, refusal: InvalidInput) -> tuple[str, Understood]:
    """The alert without exits in the words of others, if it only closes: a close has none. Raises `refusal` else."""
    left_out = [name for name in obj if name in EXITS]
    try:
        name, understood = _read_object({name: obj[name] for name in obj if name not in EXITS}, AUTO, defaults)
    except InvalidInput:
        raise refusal from None
    if not all(signal.only_closes for signal in understood.signals):
        raise refusal
    told = f"ignored {', '.join(left_out)}: a close has no exits"
    return name, msgspec.structs.replace(understood, repairs=(*understood.repairs, told))


def _read_legs(legs: Sequence[Object], format: str, defaults: Defaults) -> tuple[str, Understood]:
    """Several orders in one format."""
    names: list[str] = []
    read: list[Understood] = []
    for number, leg in enumerate(legs, 1):
        try:
            name, understood = _read_object(leg, format, defaults)
        except InvalidInput as error:
            raise InvalidInput(error.code, f"Order {number}: {error.detail}", error.field) from None
        names.append(name)
        read.append(understood)
    if len(set(names)) > 1:
        raise _ambiguous(list(dict.fromkeys(names)))
    if names[0] == "gainium":
        gainium.check_legs(legs)
    return names[0], Understood(
        signals=tuple(signal for one in read for signal in one.signals),
        key=read[0].key if len(read) == 1 else None,  # an order's key is not the list's
        repairs=tuple(repair for one in read for repair in one.repairs),
    )


def _json_formats(obj: Object) -> list[str]:
    """The formats that an object fits, and that know all that it says about the trade."""
    marked = frozenset[str]().union(*[_MARKED[mark] for mark in _MARKED.keys() & obj.keys()])
    fitting = [name for name in sorted(marked, key=_RANKS.__getitem__) if _JSON[name].matches(obj)]
    if "tradingview" in fitting and "native" in fitting:
        fitting.remove("native")  # a template may use its words
    meant = set(_MEANT.intersection(obj))
    meant.update([name for name in _MEANT_OBJECTS.intersection(obj) if isinstance(obj[name], dict)])
    knowing = [name for name in fitting if _JSON[name].knows.issuperset(meant)]
    if knowing:
        return knowing
    if len(fitting) > 1:
        raise _ambiguous(fitting)
    if fitting or meant:
        known = _JSON[fitting[0]].knows if fitting else frozenset[str]()
        unknown = sorted(name for name in meant if name not in known)
        if fitting == ["native"] and unknown == ["side"]:
            return fitting  # typed by hand: {"symbol": …, "action": "close", "side": "long"}
        raise foreign(unknown[0])
    for name, value in obj.items():
        refuse_unfilled(value, name[:40])
    raise InvalidInput(
        AlertCode.UNKNOWN_FORMAT,
        'The body is in no known format; it needs at least "symbol" and "action", as in '
        '{"symbol": "BTCUSDT.P", "action": "buy"}.',
    )


def _text_format(text: str) -> str:
    if len(text) > TEXT_LENGTH_MAX:
        raise InvalidInput(
            AlertCode.BODY_TOO_LARGE,
            f"The body is plain text of more than {TEXT_LENGTH_MAX} characters, and no JSON; shorten the message.",
        )
    if PLACEHOLDER in text:
        raise InvalidInput(
            AlertCode.UNFILLED_PLACEHOLDER,
            "The body still holds an unfilled {{…}} placeholder: this kind of alert does not fill it. "
            "{{strategy.…}} needs a strategy's order-fill alert; inside alert() nothing is filled.",
        )
    names = [name for name, format in _TEXT.items() if name != "cornix" and format.matches(text)]
    if not names and _TEXT["cornix"].matches(text):
        return "cornix"
    if len(names) > 1:
        raise _ambiguous(names)
    if not names:
        raise InvalidInput(
            AlertCode.NOT_JSON,
            "The body is not JSON: it is plain text in no known format; replace the alert's default message by a JSON "
            "message.",
        )
    return names[0]


def _ambiguous(names: Sequence[str]) -> InvalidInput:
    return InvalidInput(
        AlertCode.AMBIGUOUS_FORMAT,
        f"The body fits the formats {' and '.join(names)}, which mean different things by it; set the strategy's "
        '"format" to the one that is meant.',
        "format",
    )
