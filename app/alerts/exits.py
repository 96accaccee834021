"""Readers of the fields that end a position, shared by all formats, by a strategy's defaults and by the API."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app.alerts.codes import AlertCode
from app.alerts.fields import read_number, read_pct, read_positive, refuse_unfilled, shown
from app.domain.money import HUNDRED, ONE, ZERO
from app.domain.signal import (
    BreakEven,
    Exits,
    PriceKind,
    PriceOrPct,
    StopLoss,
    StopStep,
    TakeProfit,
    TimeExit,
    Trailing,
    TrailingTakeProfit,
)
from app.errors import InvalidInput

TAKE_PROFITS_MAX = 20
TIME_EXIT_S_MAX = 366 * 86_400

_PRICE_KINDS = {kind.value: kind for kind in PriceKind}
_ACTIVATE = ("activate_pct", "activate_price")


def read_exits(obj: Mapping[str, object], prefix: str = "") -> Exits:
    """The fields that end a position."""
    exits: dict[str, Any] = {}
    for name, read in _READERS.items():
        if name in obj and (value := obj[name]) is not None:
            refuse_unfilled(value, prefix + name)
            exits[name] = read(value, prefix + name)
    return Exits(**exits)


def _stop_loss(value: object, field: str) -> StopLoss:
    """`{"pct": 1.5}` from the entry, or `{"price": "61000"}`."""
    code = AlertCode.BAD_STOP_LOSS
    parts = _parts(value, field, code, ("pct", "price", "trigger_by"), 'write {"pct": 1.5} or {"price": "61000"}')
    trigger_by = _trigger_by(parts, field)
    # A stop 100 per cent away from the entry is at zero or below for a long, and beyond liquidation for a short.
    at = _one_of(parts, field, code, pct="pct", price="price", below_hundred=True)
    return StopLoss(price=at.price, pct=at.pct, trigger_by=trigger_by)


def _take_profit(value: object, field: str) -> tuple[TakeProfit, ...]:
    """One rung or a list. A single rung without a fraction takes all; several must each name theirs."""
    code = AlertCode.BAD_TAKE_PROFIT
    rungs = value if isinstance(value, list) else [value]
    if len(rungs) > TAKE_PROFITS_MAX:
        raise InvalidInput(code, f"{field} has more than {TAKE_PROFITS_MAX} rungs; write fewer.", field)
    read: list[TakeProfit] = []
    for index, rung in enumerate(rungs):
        path = f"{field}[{index}]" if isinstance(value, list) else field
        cure = 'write {"pct": 1, "fraction": 0.5} or {"price": "71000", "fraction": 0.5}'
        parts = _parts(rung, path, code, ("pct", "price", "fraction", "trigger_by"), cure)
        trigger_by = _trigger_by(parts, path)
        fraction = parts.pop("fraction", None)
        if fraction is None and len(rungs) > 1:
            raise InvalidInput(
                code, f"{path} has no fraction; with several rungs each must name its own.", f"{path}.fraction"
            )
        share = ONE if fraction is None else read_positive(fraction, f"{path}.fraction", code)
        if share > ONE:
            raise InvalidInput(
                code,
                f"{path}.fraction must be at most 1, which is the whole position (0.5 is half).",
                f"{path}.fraction",
            )
        at = _one_of(parts, path, code, pct="pct", price="price")
        read.append(TakeProfit(at=at, fraction=share, trigger_by=trigger_by))
    if sum((rung.fraction for rung in read), ZERO) > ONE:
        raise InvalidInput(code, f"The fractions of {field} sum to more than 1; lower them.", field)
    return tuple(read)


def _trailing(value: object, field: str) -> Trailing:
    """`{"distance_pct": 0.5}` of the best price or `{"distance": "300"}`, and when it wakes."""
    code = AlertCode.BAD_TRAILING
    names = (*_ACTIVATE, "distance_pct", "distance", "trigger_by")
    parts = _parts(value, field, code, names, 'write {"activate_pct": 1, "distance_pct": 0.5}')
    trigger_by = _trigger_by(parts, field)
    wakes: dict[str, object] = {name: parts.pop(name) for name in _ACTIVATE if name in parts}
    return Trailing(
        activate=_one_of(wakes, field, code, pct="activate_pct", price="activate_price") if wakes else None,
        distance=_one_of(parts, field, code, pct="distance_pct", price="distance", below_hundred=True),
        trigger_by=trigger_by,
    )


def _trailing_take_profit(value: object, field: str) -> TrailingTakeProfit:
    """`{"activate_pct": 2, "callback_pct": 0.5}`; with `"min_factor": 0.3, "decay_pct": 3` the callback shrinks."""
    code = AlertCode.BAD_TRAILING_TAKE_PROFIT
    names = (*_ACTIVATE, "callback_pct", "min_factor", "decay_pct", "trigger_by")
    parts = _parts(value, field, code, names, 'write {"activate_pct": 2, "callback_pct": 0.5}')
    trigger_by = _trigger_by(parts, field)
    wakes: dict[str, object] = {name: parts.pop(name) for name in _ACTIVATE if name in parts}
    if "callback_pct" not in parts:
        raise InvalidInput(code, f"{field} needs a callback_pct, such as 0.5.", f"{field}.callback_pct")
    if ("min_factor" in parts) is not ("decay_pct" in parts):
        raise InvalidInput(code, f"{field} shrinks its callback by min_factor and decay_pct together.", field)
    min_factor, decay_pct = ONE, None
    if "min_factor" in parts:
        min_factor = read_positive(parts["min_factor"], f"{field}.min_factor", code)
        decay_pct = read_pct(parts["decay_pct"], f"{field}.decay_pct", code)
        if min_factor >= ONE:
            raise InvalidInput(
                code, f"{field}.min_factor is the part of the callback that is left at least: below 1.",
                f"{field}.min_factor",
            )  # fmt: skip
    return TrailingTakeProfit(
        activate=_one_of(wakes, field, code, pct="activate_pct", price="activate_price"),
        callback_pct=read_pct(parts["callback_pct"], f"{field}.callback_pct", code, below_hundred=True),
        min_factor=min_factor,
        decay_pct=decay_pct,
        trigger_by=trigger_by,
    )


def _stop_steps(value: object, field: str) -> tuple[StopStep, ...]:
    """`[{"after_target": 1, "gain_pct": 0}, {"after_target": 2, "to_target": 1}]`: where the stop goes, one by one."""
    code = AlertCode.BAD_STOP_STEPS
    steps = value if isinstance(value, list) else [value]
    read: list[StopStep] = []
    for index, step in enumerate(steps):
        path = f"{field}[{index}]" if isinstance(value, list) else field
        cure = 'write {"after_target": 1, "gain_pct": 0} or {"after_target": 2, "to_target": 1}'
        parts = _parts(step, path, code, ("after_target", "gain_pct", "to_target", "price"), cure)
        after = _target_number(parts.pop("after_target", None), f"{path}.after_target", code)
        if len(parts) != 1:
            raise InvalidInput(code, f"{path} must name exactly one of gain_pct, to_target and price.", path)
        if read and after <= read[-1].after_target:
            raise InvalidInput(code, f"{field} must be in the order of the targets, each once.", f"{path}.after_target")
        to = parts.get("to_target")
        to_target = None if to is None else _target_number(to, f"{path}.to_target", code)
        if to_target is not None and to_target >= after:
            raise InvalidInput(code, f"{path}.to_target must be a target before {after}.", f"{path}.to_target")
        gain, price = parts.get("gain_pct"), parts.get("price")
        if isinstance(gain, str):
            gain = gain.strip().removesuffix("%")
        gain_pct = None if gain is None else read_number(gain, f"{path}.gain_pct", code)
        if gain_pct is not None and gain_pct <= -HUNDRED:
            raise InvalidInput(code, f"{path}.gain_pct must be above -100 per cent.", f"{path}.gain_pct")
        read.append(
            StopStep(
                after_target=after,
                gain_pct=gain_pct,
                to_target=to_target,
                price=None if price is None else read_positive(price, f"{path}.price", code),
            )
        )
    return tuple(read)


def _time_exit(value: object, field: str) -> TimeExit:
    """`{"after_s": 3600}`: an hour after the position was opened."""
    code = AlertCode.BAD_TIME_EXIT
    parts = _parts(value, field, code, ("after_s",), 'write {"after_s": 3600}')
    number = read_number(parts.get("after_s"), f"{field}.after_s", code)
    if number != int(number) or not 1 <= number <= TIME_EXIT_S_MAX:
        raise InvalidInput(
            code, f"{field}.after_s must be whole seconds from 1 to {TIME_EXIT_S_MAX} (a year).", f"{field}.after_s"
        )
    return TimeExit(after_s=int(number))


def _break_even(value: object, field: str) -> BreakEven:
    """`{"after_pct": 1}`, `{"after_price": "65000"}` or `{"after_target": 1}`; each may have an `offset_pct`."""
    code = AlertCode.BAD_BREAK_EVEN
    names = ("after_pct", "after_price", "after_target", "offset_pct", "trigger_by")
    parts = _parts(value, field, code, names, 'write {"after_pct": 1}')
    trigger_by = _trigger_by(parts, field)
    offset = parts.pop("offset_pct", None)
    offset_pct = ZERO if offset is None else read_pct(offset, f"{field}.offset_pct", code, below_hundred=True)
    if len(parts) != 1:
        raise InvalidInput(code, f"{field} must name exactly one of after_pct, after_price and after_target.", field)
    target = parts.pop("after_target", None)
    if target is None:
        after = _one_of(parts, field, code, pct="after_pct", price="after_price")
        return BreakEven(after=after, offset_pct=offset_pct, trigger_by=trigger_by)
    number = _target_number(target, f"{field}.after_target", code)
    return BreakEven(after_target=number, offset_pct=offset_pct, trigger_by=trigger_by)


def _target_number(value: object, field: str, code: AlertCode) -> int:
    number = read_positive(value, field, code)
    if number > TAKE_PROFITS_MAX or number != int(number):
        raise InvalidInput(code, f"{field} is the number of a target, from 1 to {TAKE_PROFITS_MAX}.", field)
    return int(number)


def _trigger_by(parts: dict[str, object], field: str) -> PriceKind:
    """Which price is looked at; taken out of `parts`."""
    value = parts.pop("trigger_by", None)
    if value is None:
        return PriceKind.LAST
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in _PRICE_KINDS:
        raise InvalidInput(
            AlertCode.BAD_TRIGGER,
            f"{field}.trigger_by is the price that is looked at: {', '.join(PriceKind)}; {shown(value)} is none.",
            f"{field}.trigger_by",
        )
    return _PRICE_KINDS[text]


def _parts(value: object, field: str, code: AlertCode, known: Iterable[str], cure: str) -> dict[str, object]:
    """The parts of a nested object that are set. An unknown name in it is refused: it may be a misspelt stop."""
    if not isinstance(value, dict):
        raise InvalidInput(code, f"{field} needs its unit, which is never guessed: {cure}.", field)
    parts: dict[str, object] = {}
    for name, child in value.items():
        if name not in known:
            raise InvalidInput(code, f"{name[:40]!r} is unknown in {field}: {cure}.", f"{field}.{name[:40]}")
        if child is not None:
            parts[name] = child
    return parts


def _one_of(
    parts: Mapping[str, object], field: str, code: AlertCode, *, pct: str, price: str, below_hundred: bool = False
) -> PriceOrPct:
    if len(parts) != 1:
        raise InvalidInput(code, f"{field} must name exactly one of {pct} and {price}.", field)
    if pct in parts:
        return PriceOrPct(pct=read_pct(parts[pct], f"{field}.{pct}", code, below_hundred=below_hundred))
    return PriceOrPct(price=read_positive(parts[price], f"{field}.{price}", code))


# In the order in which they are looked at: the first that can't be read is the one that is named.
_READERS: dict[str, Callable[[object, str], object]] = {
    "stop_loss": _stop_loss,
    "take_profit": _take_profit,
    "trailing": _trailing,
    "trailing_take_profit": _trailing_take_profit,
    "break_even": _break_even,
    "stop_steps": _stop_steps,
    "time_exit": _time_exit,
}
