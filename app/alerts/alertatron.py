"""Alertatron: alertatron.com/docs/automated-trading (market, limit and stop orders), and for "Signals Lite"
docs.infinityalgo.com, "Automating Infinity Algo Alerts via Alertatron".

Scripts: `Keys(SYMBOL) { command(name=value, …); … }`. `amount=` is an order, `position=` where to end up; 25% or 25%b
is of the balance, 25%a or 25%% of what is available, 50%p of the position, plain numbers are base units on linear
perpetuals. An order makes what is held on the other side smaller first. A stop or a limit order that is reduce-only
becomes an exit of the opening before it. Lite: side, amount and offsets as JSON; the symbol is the bot's, so it is the
defaults'; with `closeExisting` the other side is closed first.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from app.alerts import fields, keywords, part
from app.alerts.aim import Aim, Understood
from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.domain.signal import Action, Defaults, Exits, PriceOrPct, Signal, Size, SizeUnit, Target
from app.errors import InvalidInput

KNOWS = frozenset(
    """side amount entry price leverage takeProfit takeProfitOffset stopLoss stopLossOffset closeExisting
    useHedgeMode""".split()
)
MARKS = frozenset({"side"})
_ELSEWHERE = frozenset({"symbol", "pair", "base", "ticker", "instrument", "tv_instrument"})

_BLOCK = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z0-9_]+\(([^(){}]+)\)\s*\{([^{}]*)\}", re.ASCII)
_COMMAND = re.compile(r"\s*([A-Za-z]+)\s*\(([^()]*)\)\s*(?:;|$)", re.DOTALL)
_AMOUNT = re.compile(r"(-?[0-9.]+)\s*(%b|%a|%%|%p|%)?", re.ASCII)
_UNITS = {
    None: SizeUnit.BASE, "%": SizeUnit.PCT_EQUITY, "%b": SizeUnit.PCT_EQUITY, "%a": SizeUnit.PCT_AVAILABLE,
    "%%": SizeUnit.PCT_AVAILABLE, "%p": SizeUnit.PCT_POSITION,
}  # fmt: skip
_ARGUMENTS = ("side", "amount", "position", "offset", "stop", "reduceOnly", "trigger", "tag", "which", "time")
_STOPS = ("stoporder", "stopmarket")


def matches(obj: Mapping[str, object]) -> bool:
    """A "Signals Lite" message: it names no symbol."""
    side = obj.get("side")
    return isinstance(side, str) and side.lower() in ("long", "short", "close") and _ELSEWHERE.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    body = Part(obj)
    side = body.must("side", ("long", "short", "close"))
    symbol = body.symbol("symbol", defaults)
    if side == "close":
        return part.one(part.order(part.closing(None), symbol))
    if (body.text("entry") or "market").lower() != "market":
        raise body.later("entry", "orders leave at market; write market")
    stop = body.pct("stopLossOffset", AlertCode.BAD_STOP_LOSS, below_hundred=True) if body.flag("stopLoss") else None
    profit = body.pct("takeProfitOffset", AlertCode.BAD_TAKE_PROFIT) if body.flag("takeProfit") else None
    for name, wanted, code in (("stopLoss", stop, AlertCode.BAD_STOP_LOSS), ("takeProfit", profit, None)):
        offset = body.obj.get(f"{name}Offset")
        if body.flag(name) and (wanted is None or not str(offset).strip().endswith("%")):
            raise InvalidInput(
                code or AlertCode.BAD_TAKE_PROFIT, f"{name}Offset must be in per cent, such as 2%.", f"{name}Offset"
            )
    signal = part.order(
        part.opening(Target(side), body.size_or_share("amount", SizeUnit.BASE, SizeUnit.PCT_EQUITY)),
        symbol,
        exits=Exits(
            stop_loss=part.pct_stop(stop),
            take_profit=() if profit is None else part.ladder([(PriceOrPct(pct=profit), None)], "takeProfit"),
        ),
        leverage=body.leverage(),
        nets=not body.flag("closeExisting"),
    )
    return part.one(signal)


def matches_text(text: str) -> bool:
    blocks, around = _blocks(text)
    return bool(blocks) and not any(bracket in around for bracket in "{}")


def read_text(text: str, defaults: Defaults) -> Understood:
    """Each block of commands in its turn. Text around them is for people, as it is at their service."""
    blocks, around = _blocks(text)
    repairs = ["left out the text around the script"] if around else []
    signals = [signal for symbol, commands in blocks for signal in _block(symbol, commands, defaults, repairs)]
    if not signals:
        raise InvalidInput(
            AlertCode.NOT_SUPPORTED_YET, "The script trades nothing: orders leave at market, so none can be cancelled.",
            "cancel",
        )  # fmt: skip
    return Understood(signals=tuple(signals), key=None, repairs=tuple(repairs))


def _blocks(text: str) -> tuple[list[tuple[str, str]], str]:
    """Each symbol with its commands, and the rest of the text."""
    script = _without_comments(text)
    around = _BLOCK.sub(" ", script).replace("#bot", " ").strip()
    return [(found[1], found[2]) for found in _BLOCK.finditer(script)], around


def _block(written: str, commands: str, defaults: Defaults, repairs: list[str]) -> list[Signal]:
    symbol = Part({"symbol": written}).symbol("symbol", defaults)
    signals: list[Signal] = []
    for name, arguments in _commands(commands):
        words = [word for word in arguments.split(",") if word.strip()]
        body = keywords.command(words, _ARGUMENTS, where=f"{name}: ") if name not in ("wait",) else Part({})
        match name:
            case "cancel" | "wait":
                repairs.append(f"ignored {name}(): no orders of ours rest")
            case "market":
                signals.append(part.order(_aim(body), symbol, nets=not body.has("position")))
            case "limit" | "stoporder" | "stopmarket":
                if not signals or signals[-1].only_closes:
                    raise body.later(name, "an order that waits; only exits of an opening before it are read")
                signals[-1] = _with_exit(signals[-1], body, name)
            case _:
                raise InvalidInput(
                    AlertCode.NOT_SUPPORTED_YET,
                    f"This version cannot follow {name}(): known are market, limit, stopOrder, stopMarket and cancel.",
                    name,
                )
    return signals


def _without_comments(text: str) -> str:
    """A line that begins with # is a comment, but for the tag that calls the bot."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("#") or line.strip() == "#bot").strip()


def _commands(text: str) -> list[tuple[str, str]]:
    commands = []
    at = 0
    text = text.strip()
    while at < len(text):
        found = _COMMAND.match(text, at)
        if found is None:
            raise InvalidInput(
                AlertCode.BAD_ACTION, f"{text[at : at + 40]!r} is no command; write market(side=buy, amount=0.01);",
                "script",
            )  # fmt: skip
        commands.append((found[1].lower(), found[2]))
        at = found.end()
    return commands


def _aim(body: Part) -> Aim:
    word = body.word("side", ("buy", "sell"))
    if body.has("position"):
        if body.has("amount") or word is not None:
            raise body.later("position", "with a side or an amount it contradicts itself; keep one")
        size = _amount(body, "position")
        assert size is not None, "it is there"
        if size.unit is SizeUnit.PCT_POSITION:
            raise body.later("position", "a target as a share of what is held; write amount with reduceOnly=true")
        if size.value == 0:
            return Aim(target=Target.FLAT)
        target = Target.LONG if size.value > 0 else Target.SHORT
        return Aim(target=target, size=Size(unit=size.unit, value=abs(size.value)))
    side = part.SIDES[word or "buy"]  # buy is their default
    size = _amount(body, "amount")
    if size is None or size.value <= 0:
        raise body.missing("amount", "an order needs an amount above zero, or a position")
    if body.flag("reduceOnly"):
        return part.closing(Target.SHORT if side is Target.LONG else Target.LONG, size)
    if size.unit is SizeUnit.PCT_POSITION:
        raise body.later("amount", "a share of a position can't open one; with reduceOnly=true it leaves one")
    return part.opening(side, size)


def _amount(body: Part, name: str) -> Size | None:
    text = body.text(name, AlertCode.BAD_SIZE)
    if text is None:
        return None
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise InvalidInput(
            AlertCode.BAD_SIZE, f"{text[:40]!r} is no amount; write 0.01, 25%, 25%a or 50%p.", body.field(name)
        )
    return Size(unit=_UNITS[found[2]], value=fields.read_number(found[1], body.field(name), AlertCode.BAD_SIZE))


def _with_exit(opened: Signal, body: Part, name: str) -> Signal:
    """The opening with a stop or a target more, if the order can only leave it."""
    code = AlertCode.BAD_STOP_LOSS if name in _STOPS else AlertCode.BAD_TAKE_PROFIT
    long = opened.target is Target.LONG or opened.action is Action.OPEN_LONG
    if body.must("side", ("buy", "sell")) != ("sell" if long else "buy"):
        raise body.later("side", "an order that would add to the position; only exits are read")
    if not body.flag("reduceOnly"):
        raise body.later("reduceOnly", "an order that waits and may open; write reduceOnly=true")
    share = _amount(body, "amount")
    if share is None or share.unit is not SizeUnit.PCT_POSITION or not 0 < share.value <= 100:
        raise body.later("amount", "an exit is a share of the position, such as 100%p")
    at = _at(body, code, long=long, stop=name in _STOPS)
    exits = opened.exits
    if name in _STOPS:
        if share.value < 100 or exits.stop_loss is not None:
            raise body.later("amount", "a stop closes all, and there is one of them")
        changed = Exits(take_profit=exits.take_profit, stop_loss=part.price_stop(at.price) or part.pct_stop(at.pct))
    else:
        rungs = [(rung.at, rung.fraction * 100) for rung in exits.take_profit]
        changed = Exits(stop_loss=exits.stop_loss, take_profit=part.ladder([*rungs, (at, share.value)], name))
    return msgspec.structs.replace(opened, exits=changed)


def _at(body: Part, code: AlertCode, *, long: bool, stop: bool) -> PriceOrPct:
    """`e2%` or `e-2%` from the entry, `2%` from the current price, `@68000` a price."""
    name = "stop" if body.has("stop") else "offset"
    text = body.text(name, code)
    if text is None:
        raise body.missing(name, "write e2%, e-2% or @68000")
    if text.startswith("@"):
        return PriceOrPct(price=fields.read_positive(text[1:], body.field(name), code))
    if not text.endswith("%"):
        raise body.later(name, "a distance in money; write per cent, such as e2%")
    number: Decimal = fields.read_number(text.removeprefix("e").removesuffix("%"), body.field(name), code)
    below = long is stop  # a long's stop and a short's target lie below the entry
    if number == 0 or (number < 0 and not below):
        raise InvalidInput(code, f"{text} lies on the wrong side of the entry.", body.field(name))
    return PriceOrPct(pct=fields.read_pct(abs(number), body.field(name), code, below_hundred=below))
