"""Fields of other formats in an alert whose own does not know them: most often one that was typed by hand."""

from app.alerts.codes import AlertCode
from app.errors import InvalidInput

_STOPS = frozenset(
    """sl sl_price sl_pct sl_percent stopLoss stopLossPrice stop_loss_pct stoploss stop_loss_price stop_loss_percent
    stopPrice stop_price""".split()
)
_TARGETS = frozenset(
    """tp tp_price tp_pct tp_percent takeProfit takeProfitPrice take_profit_pct takeprofit take_profit_price
    take_profit_percent profit_price tp1 tp2 tp3""".split()
)
_TRAILS = frozenset({"trailing_stop", "trailing_stop_pct", "trailing_stop_percent"})
EXITS = _STOPS | _TARGETS | _TRAILS
# How we write what others write so, for who types an alert by hand.
_OUR_WORDS = {
    **dict.fromkeys(("qty", "quantity", "amount", "units"), '"size": {"base": "0.01"}'),
    **dict.fromkeys(("percent", "unitsPercent"), '"size": {"pct_equity": 10}'),
    **dict.fromkeys(("side", "direction", "sentiment", "order_action"), '"action": "open_long"'),
    **dict.fromkeys(("pair", "instrument"), '"symbol": "BTCUSDT.P"'),
    **dict.fromkeys(_STOPS, '"stop_loss": {"pct": 1.5} or {"price": "61000"}'),
    **dict.fromkeys(_TARGETS, '"take_profit": [{"pct": 1, "fraction": 0.5}, {"price": "71000", "fraction": 0.5}]'),
    **dict.fromkeys(_TRAILS, '"trailing": {"distance_pct": 0.5}'),
}


def foreign(name: str) -> InvalidInput:
    """The refusal of such a field, with how it is written here."""
    cure = "send the native format or a TradingView strategy template."
    if name in _OUR_WORDS:
        cure = f"in the native format it is {_OUR_WORDS[name]}."
    return InvalidInput(
        AlertCode.UNKNOWN_FORMAT,
        f"The field {name!r} belongs to another format than the rest of the body, or to one that this version doesn't "
        f"read; {cure}",
        name,
    )
