"""Plain text of key=value words -> the fields of one command, strictly: no word is skipped, none may stand twice."""

from collections.abc import Collection, Iterable

from app.alerts.codes import AlertCode
from app.alerts.part import Part
from app.errors import InvalidInput


def command(words: Iterable[str], known: Collection[str], *, where: str = "") -> Part:
    """`s=BTCUSDT b=long` -> {"s": "BTCUSDT", "b": "long"}. An unknown key is refused: it may be a misspelt stop."""
    found: dict[str, object] = {}
    for word in words:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise InvalidInput(
                AlertCode.UNKNOWN_FIELD, f"{word[:40]!r} is not key=value; correct it.", where + word[:40]
            )
        if key not in known:
            listed = ", ".join(name for name in known if not name[-1].isdigit())  # numbered ones are without end
            raise InvalidInput(
                AlertCode.UNKNOWN_FIELD, f"{key[:40]!r} is not a key of this format; known are {listed}.",
                where + key[:40],
            )  # fmt: skip
        if key in found and found[key] != value:
            raise InvalidInput(
                AlertCode.DUPLICATE_FIELD, f"{key} stands twice with different values; keep one.", where + key
            )
        found[key] = value
    return Part(found, where)
