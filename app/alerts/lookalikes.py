"""Names that look like one thing and are another: `аction` with a Cyrillic а is no action, and would be ignored."""

import unicodedata

from app.alerts.codes import AlertCode
from app.errors import InvalidInput

_NESTED = (dict, list)


def refuse_lookalikes(obj: object) -> None:
    """Refuse a name, at any depth, that mixes Latin letters with others. Names in one script are the sender's own."""
    if isinstance(obj, dict):
        for name, child in obj.items():
            if _mixed(name):
                raise InvalidInput(
                    AlertCode.BAD_CHARACTER,
                    f"The name {name[:40]!r} holds a letter that only looks Latin; type it anew.",
                    name[:40],
                )
            if isinstance(child, _NESTED):
                refuse_lookalikes(child)
    elif isinstance(obj, list):
        for child in obj:
            refuse_lookalikes(child)


def hint(word: str) -> str:
    """For the end of a refusal of a word that looks right and is not: `buу` with a Cyrillic у."""
    return " A letter in it only looks Latin: type it anew." if _mixed(word) else ""


def _mixed(name: str) -> bool:
    if name.isascii():
        return False
    scripts = {unicodedata.name(char, "").split(" ")[0] for char in name if char.isalpha()}
    return len(scripts) > 1 or any(unicodedata.category(char) == "Cf" for char in name)
