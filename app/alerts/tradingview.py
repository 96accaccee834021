"""TradingView strategy templates: flat, or with the order under `strategy` as the common tutorial has it.

The state after the order decides. `action` alone is ambiguous: a sell may open, add, reduce, close or reverse, and in
a reversal `contracts` is the old size plus the new one, right only for an account that holds exactly the old one.
Names may come as `action` or `order_action`, `contracts` or `order_contracts` and so on; two that differ are refused.
`alert_message` is what the script itself says about the order; if it is JSON, its fields count as the body's.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from app.alerts import aim, fields, symbols, words
from app.alerts.aim import Aim, Understood
from app.alerts.body import inner_object
from app.alerts.codes import AlertCode
from app.alerts.words import Word
from app.domain.money import ZERO, plain
from app.domain.order import Side
from app.domain.signal import REDUCING, Action, Defaults, Exits, Size, SizeUnit, Target
from app.errors import InvalidInput

MARKS = frozenset(
    {
        "ticker",
        "contracts",
        "order_action",
        "order_contracts",
        "position",
        "position_size",
        "market_position",
        "market_position_size",
        "prev_market_position",
        "prev_market_position_size",
    }
)

KNOWS = frozenset(
    {
        "symbol", "action", "target", "previous", "size", "strategy", "stop_loss_price", "take_profit_price",
        "stop_loss_percent", "take_profit_percent", "reduceOnly", *MARKS,
    }
)  # fmt: skip

# Exits with the unit in their name, as scripts write them; ours have it inside.
_FLAT_EXITS = {
    "stop_loss_price": ("stop_loss", "price"),
    "stop_loss_percent": ("stop_loss", "pct"),
    "take_profit_price": ("take_profit", "price"),
    "take_profit_percent": ("take_profit", "pct"),
}
# Of a script's message: what Levelhead is told elsewhere (the account's margin mode), or what changes no order.
_IGNORED_INSIDE = frozenset({"margin_mode", "pyramiding", "enable_multi_tp", "comment", "strategy", "note"})

# What strategy.close() and strategy.close_all() write as the order's id.
_CLOSING_IDS = ("close entry(s) order", "close position order")

# A script's word may be more general, or more exact, than what the template shows.
_MAY_BE: dict[Action, tuple[Action, ...]] = {
    Action.REDUCE_LONG: (Action.REDUCE, Action.CLOSE_LONG, Action.CLOSE),
    Action.REDUCE_SHORT: (Action.REDUCE, Action.CLOSE_SHORT, Action.CLOSE),
    Action.CLOSE_LONG: (Action.CLOSE,),
    Action.CLOSE_SHORT: (Action.CLOSE,),
    Action.OPEN_LONG: (Action.ADD,),
    Action.OPEN_SHORT: (Action.ADD,),
}

# What says where the position is after the order. `position` may hold either.
_SIDE = ("market_position", "target", "position")
_SIGNED = ("position_size", "position")

T = TypeVar("T")


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a template that say what happened. `signed` is position_size: negative when short."""

    contracts: Decimal | None
    signed: Decimal | None
    target: Target | None
    size: Decimal | None
    previous: Target | None
    previous_size: Decimal | None


def matches(obj: Mapping[str, object]) -> bool:
    """Whether the object looks like one of these templates."""
    strategy = obj.get("strategy")
    return not MARKS.isdisjoint(obj) or (isinstance(strategy, dict) and not MARKS.isdisjoint(strategy))


def read(obj: Mapping[str, object], defaults: Defaults) -> Understood:
    """Raises InvalidInput. Names that are not read here are ignored."""
    strategy = obj.get("strategy")
    nested: Mapping[str, object] = strategy if isinstance(strategy, dict) else {}
    repairs: list[str] = []
    try:
        obj, said = _with_message(obj, nested, repairs)
    except InvalidInput:
        # A close has no exits, so a message that can't be read keeps nothing from being closed.
        if not _ends_flat(_Template(obj, nested)):
            raise
        obj, said = {name: value for name, value in obj.items() if name not in aim.MESSAGES}, None
        repairs.append("ignored the script's message: nothing of it is needed to close")
    template = _Template(obj, nested)

    symbol = template.one(("ticker", "symbol"), _symbol) or defaults.symbol
    if symbol is None:
        raise InvalidInput(AlertCode.MISSING_FIELD, 'The alert names no symbol; add "ticker": "{{ticker}}".', "ticker")
    word = template.one(("action", "order_action"), _action)
    state = _State(
        contracts=template.one(("contracts", "order_contracts"), _amount),
        signed=template.one(_SIGNED, _signed),
        target=template.one(_SIDE, _target),
        size=template.one(("market_position_size",), _amount),
        previous=template.one(("prev_market_position", "previous", "previous_position", "prev_position"), _target),
        previous_size=template.one(
            ("prev_market_position_size", "previous_position_size", "prev_position_size"), _amount
        ),
    )
    order_id = template.one(("order_id",), _order_id)
    goal = _aim(obj, word or said, state, order_id)
    if said is not None:
        _check_said(said, goal)
    if not goal.only_closes:
        _refuse_unfilled_message(template)
    price = fields.read_chart_price(*template.first("price", "order_price"), repairs)

    # A flat template's `time` is the start of the bar, hours before the firing on a slow chart; the nested one's is
    # {{timenow}}. Where a maximal age is asked for, a `time` on its own is all there is to judge it by.
    fired = fields.read_time(*template.first("timenow", "timestamp"))
    if fired is None and (nested or obj.get("max_age_s") is not None):
        fired = fields.read_time(obj.get("time"))
    signal = aim.build(obj, goal, symbol, price, fired)

    key = fields.read_id(obj.get("id"))
    if key is None and fired is not None:
        action = f"{word.action}/{word.side}" if word is not None else None
        parts = (symbol, fired.isoformat(), order_id, action, *msgspec.structs.astuple(state))
        key = _firing_key(parts)
    return Understood(signals=(signal,), key=key, repairs=tuple(repairs))


def read_as(obj: Mapping[str, tuple[str, object]], defaults: Defaults) -> Understood:
    """Read what another service calls by other names. `obj`: our name -> its own name and the value; errors name its
    own. Values that are absent or empty are left out.
    """
    try:
        return read({name: value for name, (_, value) in obj.items() if value not in (None, "")}, defaults)
    except InvalidInput as error:
        if error.field is None or error.field not in obj:
            raise
        theirs = obj[error.field][0]
        # Not in {{strategy.…}}, which is TradingView's own name for it.
        detail = re.sub(rf"(?<!strategy\.)\b{re.escape(error.field)}\b", theirs, error.detail)
        raise InvalidInput(error.code, detail, theirs) from None


def _ends_flat(template: "_Template") -> bool:
    side = template.one(_SIDE, _target)
    return side is Target.FLAT or (side is None and template.one(_SIGNED, _signed) == ZERO)


def _with_message(
    obj: Mapping[str, object], nested: Mapping[str, object], repairs: list[str]
) -> tuple[Mapping[str, object], Word | None]:
    """The body with what the script's message says and with exits in our own notation; and the message's own word for
    the order.
    """
    result = dict(obj)
    said: Word | None = None
    for layer, path in ((obj, ""), (nested, "strategy.")):
        for name in aim.MESSAGES:
            message = layer.get(name)
            if message is None or not aim.has_instructions(message):
                continue
            fields.refuse_unfilled(message, path + name)
            result.pop(name, None)
            said = _merge(result, _inside(message, path + name), path + name, repairs) or said
    for name, (exit_name, unit) in _FLAT_EXITS.items():
        if (value := result.pop(name, None)) in (None, ""):
            continue
        if exit_name in result:
            raise _contradiction(name, f"{exit_name} is given as well")
        result[exit_name] = {unit: value}
    return result, said


def _refuse_unfilled_message(template: "_Template") -> None:
    """An unfilled message may have been meant to name a stop. A plain sentence in its place says nothing."""
    for name in aim.MESSAGES:
        message, field = template.first(name)
        if isinstance(message, str) and message.strip().startswith(fields.PLACEHOLDER):
            fields.refuse_unfilled(message, field)


def _inside(message: object, field: str) -> Mapping[str, object]:
    """A message's fields: of its text, or where its placeholder had no quotes around it, of the object itself."""
    if isinstance(message, str):
        return inner_object(message, field)
    if isinstance(message, Mapping):
        return message
    raise InvalidInput(
        AlertCode.NOT_SUPPORTED_YET, f"{field} is a list of orders; send the list itself as the body.", field
    )


def _merge(result: dict[str, object], inside: Mapping[str, object], path: str, repairs: list[str]) -> Word | None:
    """Put what a message says into the body, and hand back its word for the order."""
    ignored = []
    said: Word | None = None
    for name, value in inside.items():
        if name in ("order_type", "action"):
            text = fields.read_text(value, f"{path}.{name}", AlertCode.BAD_ACTION)
            if name == "order_type" and text is not None and text.lower() == "market":
                continue
            if text is not None:
                said = words.read_action(text, f"{path}.{name}")
        elif name in _FLAT_EXITS or name in ("leverage", "size", "max_age_s", *Exits.__struct_fields__):
            if name in result and result[name] != value:
                raise _contradiction(f"{path}.{name}", "the body says otherwise")
            result[name] = value
        elif name in _IGNORED_INSIDE:
            ignored.append(name)
        else:
            raise InvalidInput(
                AlertCode.NOT_SUPPORTED_YET,
                f"{name[:40]!r} inside {path} is not understood, and may change the trade: put it into the body.",
                f"{path}.{name[:40]}",
            )
    if ignored:
        repairs.append(f"ignored in {path}: {', '.join(ignored)}")
    return said


def _check_said(said: Word, goal: Aim) -> None:
    """The script's own word for the order must be able to mean what the template says."""
    if goal.target is not None:
        reduces = said.action in REDUCING
        agrees = reduces or goal.target in words.ENDS_AT[said.action] or said.side is not None
        if reduces and said.action is not Action.REDUCE:
            agrees = goal.target in (*words.ENDS_AT[said.action], Target.FLAT)
    else:
        agrees = goal.action is said.action or goal.action in _MAY_BE.get(said.action, ())
    if not agrees:
        raise _contradiction("alert_message", "it names another action than the body")


def _aim(obj: Mapping[str, object], word: Word | None, state: _State, order_id: str | None) -> Aim:
    target = _target_of(state)
    flat = target is Target.FLAT or (target is None and word is not None and word.action in words.CLOSES)
    stated = fields.read_size(obj.get("size"), zero_ok=flat)  # in our own words: it goes before what the chart counts
    if target is not None:
        _check_sizes(state, word, target)
        size = None if target is Target.FLAT else stated or _size_after(state, word, target)
        if size is None and target is not Target.FLAT and state.contracts is not None:
            return _step(word, state, target)
        return aim.by_target(word, state.previous, target, size, "market_position_size")
    if word is None:
        raise InvalidInput(
            AlertCode.MISSING_FIELD,
            'The alert doesn\'t say what to do; add "market_position": "{{strategy.market_position}}".',
            "market_position",
        )
    if state.size is not None:
        raise _ambiguous("a size after the order without its side", "market_position")
    if word.side is not None and order_id is not None and order_id.lower().startswith(_CLOSING_IDS):
        # strategy.close() of a long is a sell; read as an entry it would open a short.
        action = Action.CLOSE_LONG if word.side is Side.SELL else Action.CLOSE_SHORT
        return Aim(action=action, previous=state.previous)
    return aim.by_action(word, state.previous, stated or _base(state.contracts, flat), "contracts")


def _target_of(state: _State) -> Target | None:
    """The side after the order, from its name or from the sign of the size."""
    if state.target is not None or state.signed is None:
        return state.target
    return _side_of(state.signed)


def _side_of(signed: Decimal) -> Target:
    if not signed:
        return Target.FLAT
    return Target.LONG if signed > ZERO else Target.SHORT


def _check_sizes(state: _State, word: Word | None, target: Target) -> None:
    """Refuse sizes that deny the sides beside them: some placeholder stands in the wrong field."""
    after = state.size
    if state.signed is not None:
        if _side_of(state.signed) is not target:
            raise _contradiction("position_size", f"{plain(state.signed)} is no size of a {target} position")
        if after is not None and after != abs(state.signed):
            raise _contradiction("position_size", "it differs from market_position_size")
        after = abs(state.signed)
    if after is not None and (not after) is not (target is Target.FLAT):
        raise _contradiction("market_position_size", f"{plain(after)} is no size of a {target} position")
    before = state.previous_size
    if before is not None and state.previous is not None and (not before) is not (state.previous is Target.FLAT):
        raise _contradiction("prev_market_position_size", f"{plain(before)} is no size of a {state.previous} position")
    if after is None or before is None or word is None or word.side is None or state.previous is not target:
        return
    grows = word.side is (Side.BUY if target is Target.LONG else Side.SELL)
    if target is not Target.FLAT and (after < before if grows else after > before):
        raise _contradiction("action", f"a {word.side} doesn't lead from {target} {plain(before)} to {plain(after)}")


def _size_after(state: _State, word: Word | None, target: Target) -> Size | None:
    """The size after the order, stated or worked out; None if the template doesn't tell."""
    if state.size is not None:
        return _base(state.size, False)
    if state.signed is not None:
        return _base(abs(state.signed), False)
    if state.contracts is None or state.previous is None or word is None or word.side is None:
        return None
    if state.previous is Target.FLAT:
        return _base(state.contracts, False)
    if state.previous_size is None:
        return None
    held = state.previous_size if state.previous is Target.LONG else -state.previous_size
    after = held + (state.contracts if word.side is Side.BUY else -state.contracts)
    if target is Target.SHORT:
        after = -after
    if after <= 0:
        raise _contradiction("contracts", f"{plain(state.contracts)} don't lead to a {target} position")
    return _base(after, False)


def _step(word: Word | None, state: _State, target: Target) -> Aim:
    """The aim of a template with the order's size but no size after it: the order itself."""
    if word is None or word.side is None:
        raise _ambiguous("contracts, but not the size after the order", "market_position_size")
    words.check_agreement(word, state.previous, target, "action")
    size = _base(state.contracts, False)
    if word.side is not (Side.BUY if target is Target.LONG else Side.SELL):
        # Against the side that is left: whatever was held before, this is a partial exit of that side.
        reduces = Action.REDUCE_LONG if target is Target.LONG else Action.REDUCE_SHORT
        return Aim(action=reduces, previous=state.previous, size=size)
    if state.previous is target:
        return Aim(action=Action.ADD, previous=state.previous, size=size)
    # It opens, or turns round what is held; then the old size and the new one are in it together.
    action = Action.OPEN_LONG if target is Target.LONG else Action.OPEN_SHORT
    return Aim(action=action, previous=state.previous, size=size, whole_order=True)


def _firing_key(parts: tuple[object, ...]) -> str:
    """What tells this firing from others: a resend has all of it the same, a second fill in the second differs."""
    text = "\x1f".join(
        ["" if part is None else plain(part) if isinstance(part, Decimal) else str(part) for part in parts]
    )
    return "tv-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _ambiguous(what: str, field: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.MISSING_FIELD,
        f'The alert states {what}, which has several meanings; add "{field}": "{{{{strategy.{field}}}}}".',
        field,
    )


def _contradiction(field: str, what: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.CONTRADICTION, f"{field} contradicts the rest of the alert: {what}. Check its placeholders.", field
    )


def _base(amount: Decimal | None, flat: bool) -> Size | None:
    """Charts of linear perpetuals count in base units, and so do both venues."""
    if amount is None:
        return None
    if amount == ZERO and not flat:
        raise InvalidInput(AlertCode.BAD_SIZE, "The size is zero; an opening needs one above zero.", "contracts")
    return Size(unit=SizeUnit.BASE, value=amount) if amount else None


def _symbol(value: object, field: str) -> str | None:
    text = fields.read_text(value, field, AlertCode.BAD_SYMBOL)
    return symbols.normalise(text, field) if text is not None else None


def _action(value: object, field: str) -> Word | None:
    text = fields.read_text(value, field, AlertCode.BAD_ACTION)
    return words.read_action(text, field) if text is not None else None


def _target(value: object, field: str) -> Target | None:
    if field.rpartition(".")[2] == "position" and not _is_a_side(value, field):
        return None  # it is read as a size
    text = fields.read_text(value, field, AlertCode.BAD_TARGET)
    return words.read_target(text, field) if text is not None else None


def _amount(value: object, field: str) -> Decimal:
    amount = fields.read_number(value, field, AlertCode.BAD_SIZE)
    if amount < ZERO:
        raise InvalidInput(AlertCode.BAD_SIZE, f"{field} can't be negative; only position_size has a sign.", field)
    return amount


def _signed(value: object, field: str) -> Decimal | None:
    """`position` may hold the side, or the signed size."""
    return None if _is_a_side(value, field) else fields.read_number(value, field)


def _is_a_side(value: object, field: str) -> bool:
    return field.endswith("position") and isinstance(value, str) and value.strip().lower() in (*Target, "")


def _order_id(value: object, field: str) -> str | None:
    """A name for the order; nothing but the key of the firing and the closing names hang on it."""
    return value if isinstance(value, str) else str(value) if isinstance(value, Decimal) else None


class _Template:
    """The two layers of a body, read as one."""

    def __init__(self, top: Mapping[str, object], nested: Mapping[str, object]) -> None:
        self._layers = (("strategy.", nested), ("", top)) if nested else (("", top),)

    def one(self, names: tuple[str, ...], read: Callable[[object, str], T | None]) -> T | None:
        """The value under any of `names` in either layer. All that are given must say the same."""
        found: T | None = None
        for prefix, layer in self._layers:
            for name in names:
                given = layer.get(name)
                if given is None or (value := read(given, prefix + name)) is None:
                    continue
                if found is not None and value != found:
                    raise _contradiction(prefix + name, "another field says otherwise")
                found = value
        return found

    def first(self, *names: str) -> tuple[object, str]:
        """The first value under any of `names` and its field; for what may differ without harm."""
        for name in names:
            for prefix, layer in self._layers:
                if layer.get(name) is not None:
                    return layer[name], prefix + name
        return None, names[0]
