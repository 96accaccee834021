"""Bytes of a delivery -> JSON, strictly, or plain text; and what is stored of it, without secrets.

Python's own reader keeps the last of two equal keys, takes NaN and turns 0.1 into a float; each of these can become a
wrong trade in silence, so each is refused or read exactly here.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import NoReturn

import msgspec

from app.alerts.codes import AlertCode
from app.alerts.mend import mend
from app.alerts.redact import (
    REMOVED,
    SECRET_FIELDS,
    SECRET_LENGTH_MIN,
    cut,
    cut_pieces,
    is_secret,
    may_name,
    secrets_in,
    without_secrets,
)
from app.errors import InvalidInput

BODY_BYTES_MAX = 64 * 1024  # more than a legal message in Latin letters needs
DEPTH_MAX = 16  # ours are 3 deep, the deepest known template 4

LEGS_MAX = 10  # orders in one body

_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # what JSON writes otherwise than it is
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
SECRETS_MAX = 20  # that are cut out elsewhere: more than any message has, and few enough to be looked for

_encoder = msgspec.json.Encoder(decimal_format="number")


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """An opened body: one object, a list of them, or text. Numbers in `obj` are Decimal."""

    obj: dict[str, object] | list[dict[str, object]] | str
    secret: str | None
    repairs: tuple[str, ...]
    ascii: bool  # surely: nothing in it is escaped either

    def __repr__(self) -> str:
        """Without content: it holds the secret."""
        return f"Body({len(self.obj)} {'characters' if isinstance(self.obj, str) else 'entries'})"


def open_body(raw: bytes, path_secret: str | None = None) -> Body:
    """Read `raw` as one JSON object or a list of them, or else take it as text. Raises InvalidInput."""
    if len(raw) > BODY_BYTES_MAX:
        raise InvalidInput(
            AlertCode.BODY_TOO_LARGE,
            f"The body is larger than {BODY_BYTES_MAX // 1024} KiB; shorten the alert's message.",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(AlertCode.NOT_UTF8, "The body is not UTF-8 text; send the message as UTF-8.") from error
    repairs: list[str] = []
    if text.startswith("\ufeff"):
        text = text[1:]
        repairs.append("removed a byte order mark before the body")
    if not text.strip():
        raise InvalidInput(
            AlertCode.EMPTY_BODY, "The body is empty; put the JSON message into the message box of the alert."
        )
    try:
        obj = _parse(text, repairs)
        plain = _is_plain(text)
        if not plain:
            _check_text(obj)
    except InvalidInput as error:
        raise _scrubbed(error, long_secrets(path_secret, *secrets_in(text))) from None
    return Body(obj=obj, secret=_secret_of(obj), repairs=tuple(repairs), ascii=plain and text.isascii())


def text_without_secrets(body: Body, path_secret: str | None) -> str:
    """The body for storing: JSON in the order in which it came, or the text; the values of secrets are removed."""
    return text_and_secrets(body, path_secret)[0]


def text_and_secrets(body: Body, path_secret: str | None) -> tuple[str, list[str]]:
    """The body for storing, and the secrets of this delivery, to be cut out of what else is told of it."""
    shown, secrets = _parted(body, path_secret)
    if isinstance(shown, str):
        return cut(shown, secrets), secrets
    text = _encoder.encode(shown).decode()
    for secret in secrets:
        # All names and values stand in the text as they are, but for what is escaped: so it tells if one is repeated.
        if secret in text or _ESCAPED.search(secret) is not None:
            return _encoder.encode(_cut(shown, secrets)).decode(), secrets
    return text, secrets


def text_of(raw: bytes) -> str:
    """A body that could not be opened as text, whatever it is. NULs are left out: PostgreSQL takes none, and UTF-16
    becomes readable.
    """
    return raw[:BODY_BYTES_MAX].decode("utf-8", "replace").replace("\x00", "")


def scrubbed(error: InvalidInput, body: Body, path_secret: str | None) -> InvalidInput:
    """The refusal without any secret of this delivery: its sentence may quote what was sent."""
    return _scrubbed(error, _parted(body, path_secret)[1])


def _scrubbed(error: InvalidInput, secrets: list[str]) -> InvalidInput:
    field = None if error.field is None else cut_pieces(error.field, secrets)
    return InvalidInput(error.code, cut_pieces(error.detail, secrets), field)


def _parted(body: Body, path_secret: str | None) -> tuple[object, list[str]]:
    """The body without what it names as secrets, and those that may stand elsewhere in it as well."""
    named: list[str] = []
    shown = _without_named(body.obj, named)
    return shown, long_secrets(path_secret, body.secret, *named)


def long_secrets(*secrets: str | None) -> list[str]:
    """Those that are cut out wherever they stand, the longest first: one may be the beginning of another."""
    found = [text for text in dict.fromkeys(secrets) if text and len(text) >= SECRET_LENGTH_MIN]
    return sorted(found[:SECRETS_MAX], key=len, reverse=True)


def inner_object(text: str, field: str) -> dict[str, object]:
    """The JSON object in a text field; its braces may be missing, as scripts build it. Raises InvalidInput."""
    inner = text.strip()
    if not inner.startswith("{"):
        inner = "{" + inner.strip("\"' ") + "}" if inner[:1] not in "\"'" else "{" + inner + "}"
    try:
        parsed = _loads(inner)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidInput(
            AlertCode.NOT_JSON,
            f"{field} holds instructions that are not JSON; write them as fields of the body itself.",
            field,
        ) from error
    assert isinstance(parsed, dict), "it has braces"
    _check_text(parsed)
    return parsed


def _parse(text: str, repairs: list[str]) -> dict[str, object] | list[dict[str, object]] | str:
    try:
        parsed = _loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        start = text.lstrip()[:1]
        if start not in ("{", "["):
            return text
        mended, done = mend(text)
        if not done:
            raise _not_json(text, error) from error
        try:
            parsed = _loads(mended)
        except (json.JSONDecodeError, RecursionError) as again:
            raise _not_json(mended, again if isinstance(again, json.JSONDecodeError) else error) from again
        repairs.extend(done)
    if isinstance(parsed, dict):
        return parsed
    if isinstance(parsed, list) and parsed and all(isinstance(leg, dict) for leg in parsed):
        if len(parsed) > LEGS_MAX:
            raise InvalidInput(
                AlertCode.NOT_AN_OBJECT, f"The body holds more than {LEGS_MAX} orders; send several alerts."
            )
        return parsed
    raise InvalidInput(
        AlertCode.NOT_AN_OBJECT,
        "The body is JSON but not one object; write one { … } with the fields of one alert.",
    )


def _loads(text: str) -> object:
    try:
        return _decoder.decode(text)
    except InvalidInput as error:
        found = _CONSTANT.search(text) if error.code == AlertCode.NOT_JSON else None
        raise error if found is None else InvalidInput(error.code, error.detail, found[1]) from None


# A field of the body, at where its value begins or instead of it a constant that is no JSON.
_FIELD = re.compile(r'"([^"\\]{1,40})"\s*:\s*$')
_CONSTANT = re.compile(r'"([^"\\]{1,40})"\s*:\s*(?:NaN|-?Infinity)\b')


def _not_json(text: str, error: json.JSONDecodeError) -> InvalidInput:
    where = f"line {error.lineno}, column {error.colno}"
    # The reader stops at the second brace: after an opening one it waits for a name.
    if text[max(error.pos - 1, 0) : error.pos + 1] == "{{":
        named = _FIELD.search(text[max(error.pos - 100, 0) : error.pos - 1])
        return InvalidInput(
            AlertCode.UNFILLED_PLACEHOLDER,
            f"The body still holds an unfilled {{{{…}}}} placeholder ({where}): this kind of alert does not fill it. "
            "{{strategy.…}} needs a strategy's order-fill alert; inside alert() nothing is filled.",
            None if named is None else named[1],
        )
    if "\u201c" in text or "\u201d" in text:
        cure = 'it holds typographic quotes; write straight ones (")'
    else:
        cure = "check commas, quotes and brackets there"
    return InvalidInput(AlertCode.NOT_JSON, f"The body is not JSON ({where}): {cure}.")


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise InvalidInput(AlertCode.BAD_NUMBER, f"The number {text[:20]} is out of any range; correct it.") from error


def _constant(name: str) -> NoReturn:
    raise InvalidInput(
        AlertCode.NOT_JSON,
        f"The body holds {name} where a number belongs: the chart had no value there; let the alert wait until it has.",
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    result.clear()
    for name, value in pairs:
        # repr tells true from 1, which == does not.
        if name in result and repr(result[name]) != repr(value):
            raise InvalidInput(
                AlertCode.DUPLICATE_FIELD,
                f"The field {name[:40]!r} appears twice with different values; keep one.",
                name[:40],
            )
        result[name] = value
    return result


_decoder = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_constant, object_pairs_hook=_object)


def _too_deep() -> InvalidInput:
    return InvalidInput(AlertCode.NOT_JSON, "The body is nested absurdly deep; send a flat JSON message.")


def _is_plain(text: str) -> bool:
    """Whether the body can hold nothing of what `_check_text` refuses: no escape, no NUL, no depth worth the name."""
    return "\\" not in text and "\x00" not in text and text.count("{") + text.count("[") < DEPTH_MAX


def _check_text(root: object) -> None:
    """Refuse what PostgreSQL cannot store and nesting that later steps would have to fear."""
    level = [root]
    for _ in range(DEPTH_MAX):
        children: list[object] = []
        for value in level:
            if isinstance(value, str):
                _check_string(value)
            elif isinstance(value, dict):
                for name in value:
                    _check_string(name)
                children.extend(value.values())
            elif isinstance(value, list):
                children.extend(value)
        if not children:
            return
        level = children
    raise _too_deep()


def _check_string(text: str) -> None:
    if _NO_TEXT.search(text) is not None:
        raise InvalidInput(
            AlertCode.BAD_CHARACTER,
            "The body holds a character that is no text (U+0000 or half of a pair); remove it from the message.",
        )


def _as_secret(value: object) -> str | None:
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, str) and value else None


def _secret_of(obj: dict[str, object] | list[dict[str, object]] | str) -> str | None:
    """The first of the fields at the top; if there is none, of those one level below, or in the first order."""
    if isinstance(obj, str):
        return next(secrets_in(obj), None)
    objects: list[dict[str, object]] = obj if isinstance(obj, list) else [obj]
    for below in (False, True):
        if below:
            objects = [child for layer in objects for child in layer.values() if isinstance(child, dict)]
        for layer in objects:
            named = {name.lower(): value for name, value in layer.items()}
            for name in SECRET_FIELDS:
                if (text := _as_secret(named.get(name))) is not None:
                    return text
    return None


def _without_named(value: object, named: list[str]) -> object:
    """The value without what it names as secrets; they are put into `named`."""
    if isinstance(value, str):
        if not may_name(value):
            return value
        named.extend(secrets_in(value))
        return without_secrets(value)
    if isinstance(value, dict):
        shown: dict[str, object] = {}
        for name, child in value.items():
            if not is_secret(name):
                shown[name] = _without_named(child, named)
                continue
            shown[name] = REMOVED
            if (secret := _as_secret(child)) is not None:
                named.append(secret)
            else:
                _without_named(child, named)
        return shown
    if isinstance(value, list):
        return [_without_named(child, named) for child in value]
    return value


def _cut(value: object, secrets: list[str]) -> object:
    """The value without these, in whatever name or value they stand."""
    if isinstance(value, dict):
        return {cut(name, secrets): _cut(child, secrets) for name, child in value.items()}
    if isinstance(value, list):
        return [_cut(child, secrets) for child in value]
    if isinstance(value, str):
        return cut(value, secrets)
    if isinstance(value, Decimal) and any(secret in str(value) for secret in secrets):
        return REMOVED
    return value
