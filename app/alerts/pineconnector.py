"""PineConnector: docs.pineconnector.com/syntax and /cheatsheet. LicenseID,command,symbol,key=value,…

`sell` opens a short. What `risk`, `sl` and `tp` count in (lots, money, per cent; pips, price, per cent) is a setting of
the program on the trader's machine and not in the message. A unit is never guessed, so a message with one of them is
refused; size and exits then come from the strategy's defaults.
"""

import re

from app.alerts import keywords, part
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.domain.signal import Defaults, Target
from app.errors import InvalidInput

_HEAD = re.compile(r"\s*[0-9]{6,20}\s*,\s*[A-Za-z]+\s*,")
_OPENS = {
    "buy": Target.LONG, "long": Target.LONG, "bull": Target.LONG, "bullish": Target.LONG,
    "sell": Target.SHORT, "short": Target.SHORT, "bear": Target.SHORT, "bearish": Target.SHORT,
}  # fmt: skip
_CLOSES: dict[str, Target | None] = {
    "closelong": Target.LONG, "exitlong": Target.LONG, "closeshort": Target.SHORT, "exitshort": Target.SHORT,
    "closelongshort": None, "exit": None,
}  # fmt: skip
_UNITS = ("risk", "vol", "sl", "tp", "price", "pct", "betrigger", "beoffset", "trailtrig", "traildist", "trailstep",
          "atrtimeframe", "atrtrigger", "atrperiod", "atrmultiplier", "atrshift", "spread", "accfilter")  # fmt: skip
_KNOWN = (*_UNITS, "comment", "secret")


def matches(text: str) -> bool:
    return _HEAD.match(text) is not None


def read(text: str, defaults: Defaults) -> Understood:
    _, _, rest = text.strip().partition(",")  # the licence
    command, _, rest = rest.partition(",")
    symbol, _, rest = rest.partition(",")
    if "\n" in text.strip():
        raise InvalidInput(AlertCode.BAD_ACTION, "Each message holds one command; send several alerts.", "command")
    words = [word for word in rest.split(",") if word.strip()]
    body = keywords.command([f"command={command}", f"symbol={symbol}", *words], ("command", "symbol", *_KNOWN))
    word = body.text("command") or ""
    name = word.lower()
    if name not in _OPENS and name not in _CLOSES:
        raise body.later("command", f"{word[:40]!r} is not read; known are {', '.join((*_OPENS, *_CLOSES))}")
    for key in _UNITS:
        if body.has(key):
            raise InvalidInput(
                AlertCode.BAD_SIZE if key in ("risk", "vol", "pct") else AlertCode.BAD_NUMBER,
                f"What {key} counts in is a setting outside of the message, and a unit is never guessed: leave it out "
                "and set it in the strategy's defaults.",
                key,
            )
    target = body.symbol("symbol", defaults)
    if name in _CLOSES:
        return part.one(part.order(part.closing(_CLOSES[name]), target))
    return part.one(part.order(part.opening(_OPENS[name], None), target))
