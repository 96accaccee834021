"""What an alert aims at: the words and sizes of one body -> the one action or target of its Signal."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from app.alerts import fields
from app.alerts.codes import AlertCode
from app.alerts.exits import read_exits
from app.alerts.words import CLOSES, Word, check_agreement
from app.domain.money import HUNDRED
from app.domain.order import Side
from app.domain.signal import CLOSING, REDUCING, Action, Exits, Signal, Size, SizeUnit, Target
from app.errors import InvalidInput


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of `action` and `target` is set."""

    action: Action | None = None
    target: Target | None = None
    previous: Target | None = None
    size: Size | None = None
    whole_order: bool = False  # as in Signal

    @property
    def only_closes(self) -> bool:
        return self.target is Target.FLAT or self.action in CLOSING


class Understood(msgspec.Struct, frozen=True, kw_only=True):
    """What a format's reader hands back: the orders in their sequence. `key` is the sender's id of this firing."""

    signals: tuple[Signal, ...]
    key: str | None
    repairs: tuple[str, ...] = ()


def by_action(word: Word, previous: Target | None, size: Size | None, size_field: str) -> Aim:
    """The aim of an alert that names no target."""
    action = word.action
    if action is Action.SET_EXITS and size is not None:
        raise InvalidInput(
            AlertCode.CONTRADICTION, "set_exits neither opens nor closes: remove the size, or write another action.",
            size_field,
        )  # fmt: skip
    if action in CLOSES:
        action, size = _close(action, size, size_field)
    elif size is not None and size.unit is SizeUnit.PCT_POSITION:
        if action is not Action.ADD and action not in REDUCING:
            raise _of_nothing(size_field)
        if action in REDUCING and size.value > HUNDRED:
            raise InvalidInput(AlertCode.BAD_SIZE, "More than 100 per cent of a position can't be left.", size_field)
    return Aim(action=action, previous=previous, size=size)


def by_target(word: Word | None, previous: Target | None, target: Target, size: Size | None, size_field: str) -> Aim:
    """The aim of an alert that says where the position ends up; `size` is the size there."""
    if word is not None:
        check_agreement(word, previous, target, "action")
    if target is Target.FLAT:
        return Aim(target=target, previous=previous)
    if size is None and word is not None and _leaves(word, target):
        raise InvalidInput(
            AlertCode.MISSING_FIELD,
            f"The alert reduces a {target} position and doesn't say to what; "
            'add "market_position_size": "{{strategy.market_position_size}}", or a size.',
            size_field,
        )
    if size is not None and size.unit is SizeUnit.PCT_POSITION:
        raise _of_nothing(size_field)
    return Aim(target=target, previous=previous, size=size)


def build(obj: Mapping[str, object], aim: Aim, symbol: str, price: Decimal | None, sent_at: datetime | None) -> Signal:
    """The Signal, with the fields that every format shares."""
    refuse_unsupported(obj)
    # A plot without a value in the place of a stop must not keep a position from being closed: a close has no exits.
    closes = aim.only_closes
    names: tuple[str, ...] = ()
    if aim.action is Action.SET_EXITS:
        names = tuple(name for name in Exits.__struct_fields__ if name in obj)
        if not names:
            raise InvalidInput(
                AlertCode.MISSING_FIELD,
                'set_exits names no exit to change; add for example "stop_loss": {"price": "61000"}.',
                "stop_loss",
            )
    return Signal(
        symbol=symbol,
        action=aim.action,
        target=aim.target,
        previous=aim.previous,
        size=aim.size,
        whole_order=aim.whole_order,
        leverage=None if closes else fields.read_leverage(obj.get("leverage")),
        exits=Exits() if closes else read_exits(obj),
        names=names,
        price=price,
        sent_at=sent_at,
        max_age_s=fields.read_max_age_s(obj.get("max_age_s")),
    )


MESSAGES = ("alert_message", "order_alert_message")  # {{strategy.order.alert_message}}, which a script fills
_ORDER_TYPES = ("order_type", "orderType")
_REDUCE_ONLY = ("reduce_only", "reduceOnly")
_MAY_CHANGE = frozenset((*MESSAGES, *_ORDER_TYPES, *_REDUCE_ONLY))


def has_instructions(message: object) -> bool:
    """Whether the message inside is JSON, as a text (maybe without its braces) or put into the body as it is."""
    if isinstance(message, str):
        return message.strip().startswith(("{", '"')) and ":" in message
    return bool(message) and isinstance(message, Mapping | list)


def refuse_unsupported(obj: Mapping[str, object]) -> None:
    """Refuse what would change the trade and cannot be done, rather than doing another trade."""
    if _MAY_CHANGE.isdisjoint(obj):
        return
    for name in _ORDER_TYPES:
        value = obj.get(name)
        if isinstance(value, str) and value.strip().lower() not in ("", "market"):
            raise _later(name, "orders leave at market only; remove it or write market")
    for name in _REDUCE_ONLY:
        if str(obj.get(name)).strip().lower() in ("true", "1"):
            raise _later(name, "write reduce or close as the action, or name the target")
    for name in MESSAGES:
        # Instructions inside the message, such as another stop: following half of an alert is another trade.
        if has_instructions(obj.get(name)):
            raise _later(name, "instructions inside the message are not read; put them into the body itself")


def _close(action: Action, size: Size | None, size_field: str) -> tuple[Action, Size | None]:
    """A share of the position is a reduction. Any other size belongs to a fixed template: a close takes all."""
    if size is None or size.unit is not SizeUnit.PCT_POSITION or size.value >= HUNDRED:
        return action, None
    if size.value == 0:
        raise InvalidInput(AlertCode.BAD_SIZE, "Closing 0 per cent does nothing; write the share to close.", size_field)
    return _REDUCES[action], size


_REDUCES = {
    Action.CLOSE: Action.REDUCE,
    Action.CLOSE_LONG: Action.REDUCE_LONG,
    Action.CLOSE_SHORT: Action.REDUCE_SHORT,
}


def _leaves(word: Word, target: Target) -> bool:
    against = Side.SELL if target is Target.LONG else Side.BUY
    return word.action in REDUCING or word.side is against


def _of_nothing(size_field: str) -> InvalidInput:
    return InvalidInput(
        AlertCode.BAD_SIZE,
        "pct_position is a share of what is held and can't open a position; use base, quote, pct_equity or risk_pct.",
        size_field,
    )


def _later(field: str, why: str) -> InvalidInput:
    return InvalidInput(AlertCode.NOT_SUPPORTED_YET, f"This version cannot follow {field}: {why}.", field)
