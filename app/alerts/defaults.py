"""A strategy's defaults for what an alert does not say."""

from collections.abc import Mapping

from app.alerts.codes import AlertCode
from app.alerts.exits import read_exits
from app.alerts.fields import read_leverage, read_size, read_text
from app.alerts.symbols import normalise
from app.alerts.words import read_target
from app.domain.signal import Defaults, Exits, Target
from app.errors import InvalidInput

_DEFAULTS = frozenset({"symbol", "side", "size", "leverage", *Exits.__struct_fields__})
_KEPT_MAX = 1000  # more than anybody has strategies

_kept: dict[str, Defaults] = {}


def read_defaults(obj: Mapping[str, object], prefix: str = "") -> Defaults:
    """A strategy's `defaults` object; `prefix` (such as "defaults.") goes before the names of fields in errors.

    Unlike in an alert an unknown name is refused: a misspelt stop in a setting would be missed for months.
    Each alert brings its strategy's, so what was read is kept, by how it is written. Raises InvalidInput.
    """
    written = repr(obj)
    defaults = _kept.get(written)
    if defaults is None:
        defaults = _read(obj, prefix)
        if len(_kept) >= _KEPT_MAX:
            _kept.clear()
        _kept[written] = defaults
    return defaults


def _read(obj: Mapping[str, object], prefix: str) -> Defaults:
    for name in obj:
        if name not in _DEFAULTS:
            raise InvalidInput(
                AlertCode.UNKNOWN_FIELD,
                f"{name[:40]!r} is not a default; known are {', '.join(sorted(_DEFAULTS))}.",
                prefix + name[:40],
            )
    symbol = read_text(obj.get("symbol"), prefix + "symbol", AlertCode.BAD_SYMBOL)
    side = read_text(obj.get("side"), prefix + "side", AlertCode.BAD_TARGET)
    if side is not None and read_target(side, prefix + "side") is Target.FLAT:
        raise InvalidInput(AlertCode.BAD_TARGET, "side is the one that is opened: long or short.", prefix + "side")
    return Defaults(
        symbol=None if symbol is None else normalise(symbol, prefix + "symbol"),
        side=None if side is None else read_target(side, prefix + "side"),
        size=read_size(obj.get("size"), prefix + "size"),
        leverage=read_leverage(obj.get("leverage"), prefix + "leverage"),
        exits=read_exits(obj, prefix),
    )
