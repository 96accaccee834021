"""One line of words, as several public hooks take it (MeanY885/tradingview-webhook-executor, README):
`buy BTCUSDT.P QTY:0.001 SL:40000 TP:50000`. QTY counts contracts, which are base units; SL and TP are prices.
"""

import re

from app.alerts import keywords, part
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.domain.signal import Defaults, Exits, PriceOrPct, SizeUnit

_LINE = re.compile(r"(?i)\s*(buy|sell|long|short|close)\s+([^\s:]+)((?:\s+[a-z_]+:\S+)*)\s*")
_KNOWN = ("QTY", "SL", "TP", "LEVERAGE")


def matches(text: str) -> bool:
    return _LINE.fullmatch(text) is not None


def read(text: str, defaults: Defaults) -> Understood:
    found = _LINE.fullmatch(text)
    assert found is not None, "it matched"
    words = (word.replace(":", "=", 1) for word in found[3].split())
    body = keywords.command([f"symbol={found[2]}", *(_upper(word) for word in words)], ("symbol", *_KNOWN))
    symbol = body.symbol("symbol", defaults)
    word = found[1].lower()
    size = body.size("QTY", SizeUnit.BASE)
    if word == "close":
        return part.one(part.order(part.closing(None, size, "QTY"), symbol))
    profit = body.positive("TP", AlertCode.BAD_TAKE_PROFIT)
    stop = part.price_stop(body.positive("SL", AlertCode.BAD_STOP_LOSS))
    targets = () if profit is None else part.ladder([(PriceOrPct(price=profit), None)], "TP")
    exits = Exits(stop_loss=stop, take_profit=targets)
    aim = part.opening(part.SIDES[word], size)
    return part.one(part.order(aim, symbol, exits=exits, leverage=body.leverage("LEVERAGE")))


def _upper(word: str) -> str:
    key, equals, value = word.partition("=")
    return key.upper() + equals + value
