"""One alert body -> a Reading: which format it is, what it asks, and its text for storing."""

from collections.abc import Callable, Mapping

import msgspec

from app.alerts import body as bodies
from app.alerts import native, tradingview
from app.alerts.aim import Understood
from app.alerts.body import Body
from app.alerts.codes import AlertCode
from app.domain.signal import Signal
from app.errors import InvalidInput

AUTO = "auto"
_READERS: dict[str, Callable[[Mapping[str, object]], Understood]] = {
    "native": native.read,
    "tradingview": tradingview.read,
}
FORMATS = (AUTO, *_READERS)  # what a strategy's `format` may be

# Fields by which other executors say the side, the size or the exits. Ignored, they would turn the alert into another
# trade, so an alert whose format is guessed may not hold them.
_FOREIGN = frozenset(
    """side sentiment direction quantity qty amount pair positionSide marketPosition prevMarketPosition
    bot_uuid bot_id email_token message_type tv_instrument strategy_info signalToken instrument investmentType
    amountPerTrade amountPerTradeType takeProfit takeProfits stopLoss takeProfitOffset stopLossOffset closeExisting
    stub close_position cancel_orders order_mode quote_amount signal_type isBuy isSell isClose stop_loss_price
    take_profit_price take_profit_percent stop_loss_percent sl tp limitPrice stopPrice""".split()
)
_FOREIGN_OBJECTS = frozenset({"general", "market", "currency", "order", "data"})


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """An alert understood.

    `secret` is what the body carried, to be compared by the caller; `key` the sender's id of this firing, if it can be
    told; `body` the text to store, without secrets; `repairs` what was mended or left out, one sentence each.
    """

    format: str
    signal: Signal
    secret: str | None
    key: str | None
    body: str
    repairs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the secret: a repr ends up in logs."""
        return f"Reading({self.format}, {self.signal!r}, key={self.key!r})"


def read(raw: bytes, content_type: str, format: str = AUTO, *, path_secret: str | None) -> Reading:
    """Read a delivery in a strategy's `format`. Raises InvalidInput with a code of `AlertCode`.

    `content_type` is accepted and not trusted: TradingView and others send JSON under either of two types, so JSON is
    tried always. `path_secret` is the secret in the URL, cut out wherever the body repeats it.
    """
    return read_body(bodies.open_body(raw), format, path_secret=path_secret)


def read_body(body: Body, format: str = AUTO, *, path_secret: str | None) -> Reading:
    """As `read`, for a body that was opened before, to learn its secret. Raises InvalidInput."""
    try:
        name = _recognise(body.obj) if format == AUTO else format
        if name not in _READERS:
            raise InvalidInput(
                AlertCode.UNKNOWN_FORMAT,
                f"The format {name[:40]!r} is not one that this version reads; known are {', '.join(FORMATS)}.",
                "format",
            )
        understood = _READERS[name](body.obj)
    except InvalidInput as error:
        # The sentence may quote the body.
        detail = bodies.scrub(error.detail, body, path_secret)
        field = None if error.field is None else bodies.scrub(error.field, body, path_secret)
        raise InvalidInput(error.code, detail, field) from None
    return Reading(
        format=name,
        signal=understood.signal,
        secret=body.secret,
        key=understood.key,
        body=bodies.text_without_secrets(body, path_secret),
        repairs=body.repairs + understood.repairs,
    )


def _recognise(obj: Mapping[str, object]) -> str:
    foreign = sorted(
        name
        for name, value in obj.items()
        if name in _FOREIGN or (name in _FOREIGN_OBJECTS and isinstance(value, dict))
    )
    if foreign:
        raise InvalidInput(
            AlertCode.UNKNOWN_FORMAT,
            f"The field {foreign[0]!r} belongs to another executor's format, which this version doesn't read; "
            "send the native format or a TradingView strategy template.",
            foreign[0],
        )
    if tradingview.matches(obj):
        return "tradingview"
    if not native.MARKS.isdisjoint(obj):
        return "native"
    raise InvalidInput(
        AlertCode.UNKNOWN_FORMAT,
        'The body is in no known format; it needs at least "symbol" and "action", as in '
        '{"symbol": "BTCUSDT.P", "action": "buy"}.',
    )
