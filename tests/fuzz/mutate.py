"""Damaged, twisted and crossed bodies: each follows from its number alone, so that a number repeats it."""

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.alerts.examples import EXAMPLES, SECRET
from tests.alerts.recorded import entries

BYTES_MAX = 200_000  # what grows beyond that is cut: three times what is taken

RICH: dict[str, Any] = {
    "secret": SECRET,
    "id": "{{strategy.order.id}} 1",
    "symbol": "BYBIT:BTCUSDT.P",
    "action": "buy",
    "size": {"risk_pct": "1%"},
    "leverage": "5x",
    "stop_loss": {"pct": 1.5, "trigger_by": "mark"},
    "take_profit": [{"pct": 1, "fraction": 0.5}, {"price": "99000", "fraction": "0.5"}],
    "trailing": {"activate_pct": 2, "distance_pct": 1},
    "trailing_take_profit": {"activate_pct": 2, "callback_pct": 1, "min_factor": 0.3, "decay_pct": 3},
    "break_even": {"after_target": 1, "offset_pct": 0.1},
    "stop_steps": [{"after_target": 1, "gain_pct": 0}, {"after_target": 2, "to_target": 1}],
    "time_exit": {"after_s": 3600},
    "time": "2026-02-03T04:05:06Z",
    "max_age_s": 60,
    "price": "64000.5",
}
TEMPLATE: dict[str, Any] = {
    "passphrase": SECRET,
    "time": "2026-02-03T04:05:06Z",
    "exchange": "BYBIT",
    "ticker": "BTCUSDT.P",
    "bar": {"time": "2026-02-03T04:05:00Z", "open": 64000, "high": 64010.5, "low": 63990, "close": 64005, "volume": 1},
    "strategy": {
        "position_size": -0.3,
        "order_action": "sell",
        "order_contracts": 0.5,
        "order_price": 64000.5,
        "order_id": "Short",
        "market_position": "short",
        "market_position_size": 0.3,
        "prev_market_position": "long",
        "prev_market_position_size": 0.2,
        "order_alert_message": '{"order_type": "enter_short", "take_profit_percent": 2, "secret": "' + SECRET + '"}',
    },
}

NUMBERS = (
    "0", "-0", "-1", "1e999", "-1e999", "1e-999", "1E+1000000", "1e999999999999999999", "1e99999999999999999999", "NaN",
    "-Infinity", "0.1", "1e15", "1e-15", "1e16", "0.10000000000000000000000000000000000000001", "9" * 400, "1" * 5000,
    "00", "1.", ".5", "+1", "1_000", "0x10", "1e+2", "1700000000", "1700000000000", "4102444800", "99999999999999",
)  # fmt: skip
WORDS = (
    "", " ", "0,01", "1.000,5", "1,000", "1e5", "NaN", "Infinity", "nan", "{{close}}", "{{strategy.order.contracts}}",
    "long", "short", "flat", "buy", "sell", "close", "reverse", "add", "set_exits", "reduce_long", "limit", "market",
    "BTCUSDT.P", "BYBIT:ETHUSDT.P", "BTCUSD", "ETHUSDC", "BTCUSDT-26JUN26", "ES1!", "1000PEPEUSDT", "5x", "5%", "-2%",
    "true", "false", "True", "null", "None", "percent", "base", "quote", "percent_of_equity", "2026-02-03T04:05:06Z",
    "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "2026-13-45T99:99:99Z", "2026-02-03", "１２", "١٢",
    "\u0412TCUSDT", "bu\u0443", "a\u200bb", "\u202etxet", "e\u0301" * 9, "\U0001f600", "\ufeff", "\ud800", "a\x00b",
    "'", '"', "\\", "\\u0000", "\r\n", "%", "=", ";", "|", ",", ":", "<script>", "' OR 1=1 --", "Inf", "1e400",
    "٫5", "1٫5", "½", "²", "İ", "ß", "ſ", "K",
)  # fmt: skip
SNIPPETS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"//", b"// x\n", b"/* x */", b"# x\n", b"\\", b"\\u0000", b"\\ud834",
    b"\\ud834\\udd1e", b"{{", b"}}", b"{{close}}", b"=", b";", b"|", b"&", b"%", b"\n", b"\r\n", b"\t", b"\x00",
    b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80\x9c", b"\xe2\x80\x9d",
    b"\xe2\x80\x8b", b"\xc2\xa0", b"NaN", b"1e999", b"-", b".", b"secret=", b"token: ", b'\\"secret\\": \\"', b"p%",
    b"SIGNAL=BUY", b"\nSYMBOL=BTCUSDT", b" q=1 ", b" sl=1% ", b"Stop: 1", b"market(side=buy, amount=1);", b"123456789,",
)  # fmt: skip
GROWN = (
    "[", "{", '{"a":', "(", " ", "=", ";", ",", "|", "a", "0", "\\", '"', "{{", "}}", "\n", "1 ", "x=", "//", "-", ":",
    "1.", "1,", "- ", " 1", "tp ", "key ", "key=", "{}", "é", "}", "x\t",
)  # fmt: skip
CHANGES_MAX = 4


class Case(msgspec.Struct, frozen=True):
    """A body, and the secret that was put into it; `path` if the address has the secret too."""

    number: int
    raw: bytes
    secret: str
    path: bool
    format: str = "auto"


class Raw(str):
    """A token that is written into JSON as it is."""


class Pairs(list[tuple[str, Any]]):
    """An object whose names may appear twice."""


Random = random.Random


def _texts() -> list[str]:
    bodies = [example.body for example in EXAMPLES] + [RICH, TEMPLATE, [RICH, {**RICH, "symbol": "ETHUSDT"}]]
    texts = [body if isinstance(body, str) else json.dumps(body, ensure_ascii=False) for body in bodies]
    shared = os.environ.get("LEVELHEAD_SHARED_ALERTS")
    if shared is not None:
        texts += [raw.decode("utf-8", "replace") for _, _, raw in entries(Path(shared))]
    return texts


TEXTS = _texts()


def names_in(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


OBJECTS = [parsed for text in TEXTS if isinstance(parsed := _parsed(text), dict | list)]
NAMES = sorted(set().union(*map(names_in, OBJECTS)))


def case(number: int, formats: Sequence[str] = ("auto",), secret: str | None = None) -> Case:
    """The body of this number, with a secret of its own or a given one."""
    rng = Random(number)
    own = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", k=43))
    secret = own if secret is None else secret
    text = rng.choice(TEXTS).replace(SECRET, secret)
    parsed = _parsed(text)
    if parsed is not None and rng.random() < 0.7:
        value = _pairs(parsed)
        for _ in range(rng.randint(1, CHANGES_MAX)):
            value = rng.choice(IN_JSON)(rng, value, secret)
        text = _write(rng, value)
    raw = text.encode("utf-8", "surrogatepass")[:BYTES_MAX]
    if parsed is None or rng.random() < 0.35:
        for _ in range(rng.randint(1, CHANGES_MAX)):
            raw = rng.choice(IN_BYTES)(rng, raw, secret.encode())[:BYTES_MAX]
    pinned = rng.random() < 0.2
    return Case(number, raw, secret, rng.random() < 0.5, rng.choice(formats) if pinned else "auto")


# --- of bytes


def _flip(rng: Random, raw: bytes, secret: bytes) -> bytes:
    changed = bytearray(raw or b"x")
    for _ in range(rng.choice((1, 1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _part(rng: Random, raw: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(raw))
    return start, min(len(raw), start + rng.choice((0, 1, 2, 5, 20, 100)))


def _drop(rng: Random, raw: bytes, secret: bytes) -> bytes:
    start, end = _part(rng, raw)
    return raw[:start] + raw[end:]


def _cut(rng: Random, raw: bytes, secret: bytes) -> bytes:
    at = rng.randint(0, len(raw))
    return raw[:at] if rng.random() < 0.8 else raw[at:]


def _double(rng: Random, raw: bytes, secret: bytes) -> bytes:
    start, end = _part(rng, raw)
    return raw[:end] + raw[start:end] * rng.choice((1, 1, 2, 100)) + raw[end:]


def _put(rng: Random, raw: bytes, secret: bytes) -> bytes:
    start, end = _part(rng, raw)
    put = rng.choice((*SNIPPETS, secret, secret[:20], rng.choice(WORDS).encode("utf-8", "surrogatepass")))
    return raw[:start] + put + raw[rng.choice((start, end)) :]


def _grow(rng: Random, raw: bytes, secret: bytes) -> bytes:
    start, end = _part(rng, raw)
    return raw[:start] + rng.choice(GROWN).encode() * rng.choice((10, 100, 1500, 3500, 30_000)) + raw[end:]


def _splice(rng: Random, raw: bytes, secret: bytes) -> bytes:
    other = rng.choice(TEXTS).replace(SECRET, secret.decode()).encode("utf-8", "surrogatepass")
    return (
        raw[: rng.randint(0, len(raw))]
        + rng.choice((b"", b"\n", b";", b",", b"|"))
        + other[rng.randint(0, len(other)) :]
    )


def _append(rng: Random, raw: bytes, secret: bytes) -> bytes:
    other = rng.choice(TEXTS).replace(SECRET, secret.decode()).encode("utf-8", "surrogatepass")
    return raw + rng.choice((b"", b"\n", b";", b",", b"|", b" ")) + other


def _encode(rng: Random, raw: bytes, secret: bytes) -> bytes:
    if rng.random() < 0.5:
        return b"\xef\xbb\xbf" + raw
    text = raw.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "latin-1", "cp1252", "utf-7", "utf-32")), "replace")


def _lines(rng: Random, raw: bytes, secret: bytes) -> bytes:
    return raw.replace(
        *rng.choice(((b"\n", b"\r\n"), (b" ", b"\n"), (b",", b"\r\n,"), (b"\n", b"\\n"), (b"=", b" = ")))
    )


def _curly(rng: Random, raw: bytes, secret: bytes) -> bytes:
    return raw.replace(b'"', rng.choice(("“", "”", "„", "'", "\u00ab", "``", "&quot;", '\\"')).encode())


def _comment(rng: Random, raw: bytes, secret: bytes) -> bytes:
    put = rng.choice((b",", b", // x\n", b" // {\n ", b"# note\n", b"\n//" + secret + b"\n"))
    return raw.replace(*rng.choice(((b"}", put + b"}"), (b",", put + b","), (b"{", b"{" + put))))


IN_BYTES: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (
    _flip, _drop, _cut, _double, _put, _put, _grow, _splice, _append, _encode, _lines, _curly, _comment,
)  # fmt: skip


# --- of JSON


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs((name, _pairs(child)) for name, child in value.items())
    return [_pairs(child) for child in value] if isinstance(value, list) else value


def _holders(value: Any) -> list[Pairs]:
    """Every object in it."""
    if isinstance(value, Pairs):
        return [value, *(one for _, child in value for one in _holders(child))]
    return [one for child in value for one in _holders(child)] if isinstance(value, list) else []


def _any(rng: Random, value: Any) -> Pairs:
    """An object in it, rather an outer one; one of its own if there is none."""
    holders = _holders(value)
    return rng.choice(holders[:1] * 2 + holders) if holders else Pairs([("x", value)])


def _leaf(rng: Random, secret: str) -> Any:
    roll = rng.random()
    if roll < 0.4:
        return Raw(rng.choice(NUMBERS))
    if roll < 0.75:
        return rng.choice(WORDS)
    if roll < 0.85:
        return rng.choice(
            (secret, f"x {secret} y", secret[:20], f"secret={secret}", f'{{"key": "{secret}"}}', [secret])
        )
    return rng.choice((None, True, False, 0, 1, -1, 0.5, [], Pairs(), [Pairs()], [[]], {"a": 1}, "1", "0.5"))


def _retype(rng: Random, value: Any, secret: str) -> Any:
    holder = _any(rng, value)
    if holder:
        at = rng.randrange(len(holder))
        name, old = holder[at]
        wrapped = (_leaf(rng, secret), [old], Pairs([(rng.choice(NAMES), old)]), str(old), [old, old])
        holder[at] = (name, wrapped[0] if rng.random() < 0.7 else rng.choice(wrapped))
    return value


def _rename(rng: Random, value: Any, secret: str) -> Any:
    holder = _any(rng, value)
    if holder:
        at = rng.randrange(len(holder))
        name, old = holder[at]
        other = rng.choice(
            (name.upper(), name.title(), name + " ", name.replace("o", "о"), name + "\u200b", "", secret, name + secret,
             rng.choice(NAMES), rng.choice(WORDS), "x" * 5000)
        )  # fmt: skip
        holder[at] = (other, old)
    return value


def _twice(rng: Random, value: Any, secret: str) -> Any:
    holder = _any(rng, value)
    if holder:
        name, old = rng.choice(holder)
        holder.insert(rng.randint(0, len(holder)), (name, old if rng.random() < 0.5 else _leaf(rng, secret)))
    return value


def _more(rng: Random, value: Any, secret: str) -> Any:
    """A field of another format, or one beside its own."""
    holder = _any(rng, value)
    if rng.random() < 0.5:
        holder.append((rng.choice(NAMES), _leaf(rng, secret)))
    else:
        other = rng.choice(_holders(_pairs(rng.choice(OBJECTS))))
        holder.extend(rng.sample(other, min(len(other), rng.randint(1, 4))))
    return value


def _less(rng: Random, value: Any, secret: str) -> Any:
    holder = _any(rng, value)
    if holder:
        del holder[rng.randrange(len(holder))]
    return value


def _shuffle(rng: Random, value: Any, secret: str) -> Any:
    rng.shuffle(_any(rng, value))
    return value


def _several(rng: Random, value: Any, secret: str) -> Any:
    count = rng.choice((1, 2, 3, 10, 11, 300))
    if isinstance(value, list) and not isinstance(value, Pairs):
        return (value * count)[:600]
    return [value] * count if rng.random() < 0.6 else [value, _pairs(rng.choice(OBJECTS))]


def _deep(rng: Random, value: Any, secret: str) -> Any:
    depth, name = rng.choice((2, 5, 13, 15, 16, 17, 40)), rng.choice(NAMES)
    holder = _any(rng, value)
    inner: Any = _leaf(rng, secret)
    for _ in range(depth):
        inner = [inner] if rng.random() < 0.5 else Pairs([(name, inner)])
    holder.append((name, inner))
    return value


def _in_text(rng: Random, value: Any, secret: str) -> Any:
    """JSON inside of a text, as scripts build their messages."""
    holder = _any(rng, value)
    inner = _write(rng, _pairs(rng.choice(OBJECTS)))[: rng.choice((10_000, 10_000, 60))]
    inner = inner.replace(SECRET, secret)
    named = rng.choice(("alert_message", "order_alert_message", "comment", "message", rng.choice(NAMES)))
    holder.append((named, inner if rng.random() < 0.8 else json.dumps(inner)))
    return value


def _long(rng: Random, value: Any, secret: str) -> Any:
    holder = _any(rng, value)
    length = rng.choice((41, 200, 201, 4097, 30_000))
    text = (rng.choice((*GROWN, *WORDS, secret + " ")) or "x") * length
    holder.append((rng.choice(NAMES), text[:length]))
    return value


def _secret(rng: Random, value: Any, secret: str) -> Any:
    name = rng.choice(("secret", "Secret", "KEY", "token", "passphrase", "x_token", "signalToken", rng.choice(NAMES)))
    _any(rng, value).insert(0, (name, secret))
    return value


IN_JSON: tuple[Callable[[Random, Any, str], Any], ...] = (
    _retype, _retype, _retype, _rename, _twice, _more, _more, _less, _shuffle, _several, _deep, _in_text, _long,
    _secret,
)  # fmt: skip


def _write(rng: Random, value: Any) -> str:
    """As JSON, now and then with white space; names may appear twice, and raw tokens are written as they are."""
    comma, colon = rng.choice(((",", ":"), (", ", ": "), (",\r\n  ", " : "), (" ,\t", ":\n")))
    escaped = rng.random() < 0.5

    def told(one: Any) -> str:
        if isinstance(one, Raw):
            return one
        if isinstance(one, Pairs):
            return "{" + comma.join(f"{told(name)}{colon}{told(child)}" for name, child in one) + "}"
        if isinstance(one, list):
            return "[" + comma.join(map(told, one)) + "]"
        return json.dumps(one, ensure_ascii=escaped)

    return told(value)
