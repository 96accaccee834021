"""Secrets inside of a text: a command, JSON in a string, a body that is broken. What is named like a secret is one.

Where it cannot be told where a value ends, too much is taken out rather than too little.
"""

import re
import string
from collections.abc import Iterable, Iterator

# In the order in which they are looked at, in capitals or not; all of them are kept out of what is stored, at any
# depth. The later ones are what other services call theirs.
SECRET_FIELDS = (
    "secret", "passphrase", "password", "key", "token",
    "api_secret", "apisecret", "signaltoken", "email_token", "connector_secret", "api_key", "apikey", "license_id",
    "licenseid",
)  # fmt: skip
REMOVED = "***"
# A secret is also cut out of other fields and of sentences that repeat it; a shorter one would cut up ordinary words.
SECRET_LENGTH_MIN = 8

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_ENDINGS = ("secret", "passphrase", "password", "token")
_NAMES = frozenset(SECRET_FIELDS)
_WORDS = re.compile("secret|passphrase|password|token|key|license")  # one is in each name that is looked for
# A name, what parts it from its value, and the quote with which that begins. In broken JSON quotes may be of any kind.
_QUOTE = "[\"'\u201c\u201d\u201e\u2018\u2019\u00ab]"
_NAME = re.compile(
    rf"(?i)(?:{'|'.join(_ENDINGS)}|(?<![a-z0-9])(?:key|apikey|license_?id))"
    rf"\\*{_QUOTE}?\s*[=:]\s*(?P<escaped>\\*)(?P<quote>{_QUOTE}?)"
)
# Where a value ends, by how it begins.
_QUOTED = {'"': re.compile(r'(?s)(?:[^"\\\n]|\\.)*'), "'": re.compile(r"[^'\n]*")}
_IN_A_STRING = re.compile(r"[^\"'\n]*")
_TYPOGRAPHIC = re.compile('[^"\u201c\u201d\u2018\u2019\u00bb\n]*')
_NESTED = re.compile(r"(?s)[\[{].*")
_BARE = re.compile(r"[^\s\"'\\,;|&}]*")
# PineConnector: the licence stands in front, without a name.
_LICENCE = re.compile(r"\s*([0-9]{8,20})\s*,")


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    lowered = name.lower()
    return lowered in _NAMES or lowered.endswith(_ENDINGS)


def may_name(text: str) -> bool:
    """Whether the text may name a secret, or be one with a licence in front. Told of any text, so it is cheap."""
    if ":" in text or "=" in text:
        return not text.isascii() or _WORDS.search(text.lower()) is not None or "," in text
    return "," in text


def secrets_in(text: str) -> Iterator[str]:
    """What the text names as secrets; a licence in front, which has no name, is the last."""
    yield from (text[start:end] for start, end in _named(text, 0))
    if (licence := _licence(text)) is not None:
        yield licence[1]


def without_secrets(text: str) -> str:
    """The text without what it names as secrets."""
    kept, done = [], 0
    if (licence := _licence(text)) is not None:
        kept, done = [text[: licence.start(1)], REMOVED], licence.end(1)
    for start, end in _named(text, done):
        kept += [text[done:start], REMOVED]
        done = end
    return "".join(kept) + text[done:] if kept else text


def cut(text: str, secrets: Iterable[str]) -> str:
    """The text without these, wherever they stand."""
    for secret in secrets:
        text = text.replace(secret, REMOVED)
    return text


def cut_pieces(text: str, secrets: Iterable[str]) -> str:
    """Also without a piece of one, in capitals or not, because sentences shorten what they quote and some raise it."""
    for secret in (secret.translate(_LOWER) for secret in secrets):
        at, lower = 0, text.translate(_LOWER)
        while (end := at + SECRET_LENGTH_MIN) <= len(text):
            if lower[at:end] in secret:
                while end < len(text) and lower[at : end + 1] in secret:
                    end += 1
                text, lower = text[:at] + REMOVED + text[end:], lower[:at] + REMOVED + lower[end:]
            at += 1
    return text


def _licence(text: str) -> re.Match[str] | None:
    return _LICENCE.match(text) if "," in text else None


def _named(text: str, done: int) -> Iterator[tuple[int, int]]:
    """Where the values of named secrets stand, after `done`."""
    if "=" not in text and ":" not in text:
        return
    for found in _NAME.finditer(text):
        start = found.end()
        if start < done:
            continue  # inside of the last one
        end = _end_of_value(text, start, found["escaped"], found["quote"])
        if end > start:
            yield start, end
            done = end


def _end_of_value(text: str, start: int, escaped: str, quote: str) -> int:
    if escaped:
        pattern = _IN_A_STRING
    elif quote:
        pattern = _QUOTED.get(quote, _TYPOGRAPHIC)
    else:
        pattern = _NESTED if text[start : start + 1] in ("[", "{") else _BARE
    found = pattern.match(text, start)
    return start if found is None else found.end()
