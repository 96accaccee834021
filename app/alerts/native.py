"""Levelhead's own format: one flat object, the vocabulary of the Signal itself."""

from collections.abc import Mapping

import msgspec

from app.alerts import aim, fields, symbols, words
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.alerts.words import Word
from app.domain.signal import Defaults, Size, Target
from app.errors import InvalidInput

MARKS = frozenset({"symbol", "action", "target"})
KNOWS = frozenset({"base", "quote", "previous", "size", "reduceOnly", *MARKS})


def matches(obj: Mapping[str, object]) -> bool:
    return not MARKS.isdisjoint(obj)


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    """Raises InvalidInput. Names that are not listed here are ignored."""
    repairs: list[str] = []
    symbol = fields.read_text(obj.get("symbol"), "symbol", AlertCode.BAD_SYMBOL)
    action = fields.read_text(obj.get("action"), "action", AlertCode.BAD_ACTION)
    target = fields.read_text(obj.get("target"), "target", AlertCode.BAD_TARGET)
    previous = fields.read_text(obj.get("previous"), "previous", AlertCode.BAD_TARGET)
    word = _word(action, fields.read_text(obj.get("side"), "side", AlertCode.BAD_ACTION))
    everywhere = word is not None and word.everywhere
    name = symbols.normalise(symbol, "symbol") if symbol is not None else _pair(obj, defaults, must=not everywhere)
    before = words.read_target(previous, "previous") if previous is not None else None
    if target is not None:
        after = words.read_target(target, "target")
        goal = aim.by_target(word, before, after, _size(obj, flat=after is Target.FLAT), "size")
    elif word is not None:
        goal = aim.by_action(word, before, _size(obj, flat=word.action in words.CLOSES), "size")
    else:
        raise InvalidInput(
            AlertCode.MISSING_FIELD,
            'The alert says neither what to do nor where to end up; add "action": "buy" or "target": "long".',
            "action",
        )
    price = fields.read_chart_price(obj.get("price"), "price", repairs)
    signal = aim.build(obj, goal, name, price, fields.read_time(obj.get("time")))
    if everywhere:
        signal = msgspec.structs.replace(signal, everywhere=True)
    return Understood(signals=(signal,), key=fields.read_id(obj.get("id")), repairs=tuple(repairs))


def _word(action: str | None, side: str | None) -> Word | None:
    """The action; people who type it put the side that it is about into a field of its own: `close`, `long`."""
    if action is None or side is None:
        only = action or side
        return None if only is None else words.read_action(only, "side" if action is None else "action")
    if side.lower() not in ("long", "short"):
        raise InvalidInput(
            AlertCode.BAD_ACTION, "Beside an action, side must be long or short: the position that is meant.", "side"
        )
    return words.read_action(f"{action} {side}", "action")


def _pair(obj: Mapping[str, object], defaults: Defaults, *, must: bool) -> str:
    """The symbol of an alert that names base and quote in fields of their own, or that names none. Only one that is
    for every symbol `must` not have any.
    """
    base = fields.read_text(obj.get("base"), "base", AlertCode.BAD_SYMBOL)
    quote = fields.read_text(obj.get("quote"), "quote", AlertCode.BAD_SYMBOL)
    if base is None and quote is None and defaults.symbol is not None:
        return defaults.symbol
    if base is None and quote is None and not must:
        return ""
    if base is None or quote is None:
        raise InvalidInput(AlertCode.MISSING_FIELD, 'The alert names no symbol; add "symbol": "BTCUSDT.P".', "symbol")
    return symbols.normalise_pair(base, quote, "quote")


def _size(obj: Mapping[str, object], *, flat: bool) -> Size | None:
    # A template's size is 0 once the position is flat.
    return fields.read_size(obj.get("size"), zero_ok=flat)
