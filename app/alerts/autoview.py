"""Autoview: www.autoview.com/syntax and use.autoview.com, "Building Autoview commands". key=value words, a command per
line or split by `|`; several commands are several orders, in order.

`b` is the side of an order, which makes a position of the other side smaller first; `q` is its quantity: base units, or
per cent of `y` (balance; equity). `c=position` closes, `cm` a part of it. Orders beside the first are joined by `&`:
tp, sl and ts, whose plain numbers are distances in money, so only per cent is read; ftp and fsl are prices. `d=1`
trades nothing.
"""

import re
from decimal import Decimal

from app.alerts import keywords, part
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Defaults, Exits, PriceOrPct, Signal, Size, SizeUnit, Target, Trailing
from app.errors import InvalidInput

_WORD = re.compile(r"[a-z]{1,20}=\S*")
_KNOWN = (
    "e",
    "a",
    "s",
    "b",
    "q",
    "p",
    "fp",
    "t",
    "c",
    "cm",
    "l",
    "y",
    "d",
    "tp",
    "sl",
    "ts",
    "ftp",
    "fsl",
    "mt",
    "close",
    "ro",
    "u",
)


def matches(text: str) -> bool:
    commands = _commands(text)
    return bool(commands) and all(
        all(word == "&" or _WORD.fullmatch(word) for word in command.replace("&", " & ").split())
        and re.search(r"(?:^|\s)[bc]=", command) is not None
        for command in commands
    )


def read(text: str, defaults: Defaults) -> Understood:
    commands = _commands(text)
    many = len(commands) > 1
    signals = tuple(
        _one(command, f"command {number}: " if many else "", defaults) for number, command in enumerate(commands, 1)
    )
    return Understood(signals=signals, key=None)


def _commands(text: str) -> list[str]:
    return [command.strip() for command in re.split(r"[\r\n|]+", text) if command.strip()]


def _one(text: str, where: str, defaults: Defaults) -> Signal:
    words = [word for word in text.replace("&", " ").split() if word]
    body = keywords.command(words, _KNOWN, where=where)
    if body.flag("d"):
        raise body.later("d", "a command that is disabled trades nothing; leave d=1 out")
    symbol = body.symbol("s", defaults)
    word = body.word("b", part.SIDES)
    side = None if word is None else part.SIDES[word]
    if body.has("c"):
        if body.must("c", ("order", "position")) == "order":
            raise body.later("c", "orders leave at market, so there is none to cancel")
        size = body.size_or_share("cm", SizeUnit.BASE, SizeUnit.PCT_POSITION)
        return part.order(part.closing(side, size, "cm"), symbol)
    if side is None:
        raise body.missing("b", "write b=long or b=short")
    body.refuse(("ro",), "write c=position to leave a position")
    body.refuse(("u",), "the unit of q is base; leave it out")
    return part.order(
        part.opening(side, _size(body)),
        symbol,
        exits=_exits(body, long=side is Target.LONG),
        leverage=body.leverage("l"),
        limit_prices=_limit(body),
        nets=True,
    )


def _size(body: Part) -> Size | None:
    base = body.word("y", ("balance", "equity", "available"), AlertCode.BAD_SIZE)
    share = SizeUnit.PCT_AVAILABLE if base == "available" else SizeUnit.PCT_EQUITY
    return body.size_or_share("q", SizeUnit.BASE, share)


def _limit(body: Part) -> tuple[Decimal, ...]:
    """`t` is the kind of order; without one a price makes it a limit order. `p` is a distance from the best price."""
    kind = body.word("t", ("market", "limit"))
    if kind == "market":
        return ()
    if body.has("fp"):
        price = body.positive("fp")
        return () if price is None else (price,)
    if kind == "limit" or body.has("p"):
        raise body.later("p", "a limit order at a distance from the best price; write t=market")
    return ()


def _exits(body: Part, *, long: bool) -> Exits:
    trail = _pct(body, "ts", AlertCode.BAD_TRAILING)
    profit = _level(body, "tp", AlertCode.BAD_TAKE_PROFIT, below=not long)
    stop = _level(body, "sl", AlertCode.BAD_STOP_LOSS, below=long)
    return Exits(
        take_profit=() if profit is None else part.ladder([(profit, None)], "tp"),
        stop_loss=None if stop is None else part.price_stop(stop.price) or part.pct_stop(stop.pct),
        trailing=None if trail is None else Trailing(distance=PriceOrPct(pct=trail)),
    )


def _level(body: Part, name: str, code: AlertCode, *, below: bool) -> PriceOrPct | None:
    """`sl=2%`, or `fsl=61000`."""
    pct, price = _pct(body, name, code, below=below), body.positive(f"f{name}", code)
    if pct is not None and price is not None:
        raise InvalidInput(code, f"Both {name} and f{name} are given; keep one.", body.field(f"f{name}"))
    return None if pct is None and price is None else PriceOrPct(pct=pct, price=price)


def _pct(body: Part, name: str, code: AlertCode, *, below: bool = False) -> Decimal | None:
    text = body.text(name, code)
    if text is not None and not text.endswith("%"):
        raise body.later(name, "a distance in money; write it in per cent, such as 2%")
    return body.pct(name, code, below_hundred=name != "tp", below=below)
