"""Cornix: help.cornix.io, "Signal Posting" and "Free Text Trade". A post for people, read by its keywords: the pair in
full, Entry or Buy, Take-Profit or Target, Stop, Leverage. The direction is said, or follows from the prices.

Its entries are orders that wait at their prices; only an entry "at market" can be carried out here. Trailing and moving
stops in a post are refused, because leaving them out would be another trade.
"""

import re
import unicodedata
from decimal import Decimal

from app.alerts import fields, part, symbols
from app.alerts.aim import Understood
from app.alerts.codes import AlertCode
from app.domain.signal import Defaults, Exits, PriceOrPct, Size, SizeUnit, Target
from app.errors import InvalidInput

_PAIR = re.compile(r"(?i)[#$]?\b([A-Z0-9]{2,15}?)(?: ?/ ?|[_-])?(USDT|USDC|USD|BUSD)\b(?:\.P)?")
# Each begins where a number begins: else a long row of digits would be read anew from every one of them.
_NUMBER = re.compile(r"(?<![\w.,])[0-9]+(?:[.,][0-9]+)*(?![\w.])", re.ASCII)
_SHARE = re.compile(r"(?:-\s*)?(?<![0-9.,])([0-9]+(?:\.[0-9]+)?)\s*%")
_HEADS = (
    ("trailing", re.compile(r"(?i)trailing|moving (?:target|2 target)|breakeven|break-even")),
    ("amount", re.compile(r"(?i)amount|risk management|\brm\b|invest")),
    ("leverage", re.compile(r"(?i)leverage|\blev\b")),
    ("stop", re.compile(r"(?i)\bstops?\b|\bs/?l\b")),
    # TP1: and Target 2) only count the target; its price follows.
    ("targets", re.compile(r"(?i)(?:take[- ]?profit|\btp|\btargets?|\bsell)(?:\s*#?[0-9]{1,2}\s*[:)=-]|\b)")),
    ("entries", re.compile(r"(?i)\bentry|\benter\b|\bentries\b|\bbuy\b")),
)
_LEVERAGE = re.compile(r"(?i)(?<![0-9.,])([0-9]+(?:\.[0-9]+)?)\s*[x×х]|[x×х]\s*([0-9]+(?:\.[0-9]+)?)")
_ENTRY_TARGETS = re.compile(r"(?i)\bentry\s+(?:targets?|zone|price)")
_STOP_TARGETS = re.compile(r"(?i)\bstop(?:\s+targets?|\s*-?loss)\b")


def matches(text: str) -> bool:
    heads = dict(_HEADS)
    return (
        _PAIR.search(text) is not None
        and heads["entries"].search(text) is not None
        and (heads["stop"].search(text) is not None or heads["targets"].search(text) is not None)
        and len(text.split()) > 5
    )


def read(text: str, defaults: Defaults) -> Understood:
    pairs = {symbols.normalise(found[0].lstrip("#$").replace(" ", ""), "pair") for found in _PAIR.finditer(text)}
    if len(pairs) != 1:
        raise InvalidInput(AlertCode.MISSING_FIELD, "The post must name one pair, such as BTC/USDT.", "pair")
    symbol = pairs.pop()
    parts = _sections(_PAIR.sub(" ", text))
    if parts.get("trailing"):
        raise InvalidInput(
            AlertCode.NOT_SUPPORTED_YET, "This version cannot follow a trailing or moving stop in a post; send the "
            "native format with stop_steps.", "trailing",
        )  # fmt: skip
    at_market = re.search(r"(?i)\bmarket\b|\bcmp\b|\bnow\b", " ".join(parts.get("entries", []))) is not None
    entries = _prices(parts.get("entries", []), "entry")
    if at_market and entries:
        raise InvalidInput(AlertCode.CONTRADICTION, "The entry is at market and at a price; keep one.", "entry")
    stops = _prices(parts.get("stop", []), "stop")
    rungs = _targets(parts.get("targets", []))
    if len(stops) > 1:
        raise InvalidInput(AlertCode.BAD_STOP_LOSS, "The post names several stops; keep one.", "stop")
    if not entries and not at_market:
        raise InvalidInput(
            AlertCode.MISSING_FIELD, "The post names no entry; write Entry: market, or a price.", "entry"
        )
    side = _side(text, entries, stops, [at.price for at, _ in rungs if at.price is not None])
    signal = part.order(
        part.opening(side, _amount(parts.get("amount", []))),
        symbol,
        exits=Exits(stop_loss=part.price_stop(stops[0]) if stops else None, take_profit=part.ladder(rungs, "targets")),
        leverage=_leverage(parts.get("leverage", [])),
        limit_prices=tuple(entries),
    )
    return part.one(signal)


def _sections(text: str) -> dict[str, list[str]]:
    """The lines under each keyword; the line with the keyword counts, without it."""
    found: dict[str, list[str]] = {}
    current: str | None = None
    for line in text.splitlines():
        if not line.strip():
            current = None if current != "entries" and current != "targets" else current
            continue
        plain = _ENTRY_TARGETS.sub("entry", line)
        plain = _STOP_TARGETS.sub("stop", plain)
        for name, keyword in _HEADS:
            if keyword.search(plain):
                current = name
                line = keyword.sub(" ", plain)
                break
        if current is not None:
            found.setdefault(current, []).append(line)
    return found


def _prices(lines: list[str], field: str) -> list[Decimal]:
    """All numbers; `1)` in front of a line only counts it. A figure that is no number (70K) is not passed over."""
    found: list[Decimal] = []
    for line in lines:
        plain = _uncounted(_SHARE.sub(" ", line))
        if re.search(r"\d", _NUMBER.sub(" ", plain)):
            raise InvalidInput(AlertCode.BAD_NUMBER, f"{line.strip()[:40]!r} holds a price that can't be read.", field)
        found.extend(fields.read_positive(word, field) for word in _NUMBER.findall(plain))
    return found


def _targets(lines: list[str]) -> list[tuple[PriceOrPct, Decimal | None]]:
    rungs: list[tuple[PriceOrPct, Decimal | None]] = []
    for line in lines:
        share = _SHARE.search(line)
        pct = None if share is None else fields.read_pct(share[1], "targets", AlertCode.BAD_TAKE_PROFIT)
        prices = _prices([line], "targets")
        if pct is not None and len(prices) != 1:
            raise InvalidInput(AlertCode.BAD_TAKE_PROFIT, f"{line.strip()[:40]!r} is no target.", "targets")
        rungs.extend((PriceOrPct(price=price), pct) for price in prices)
    return rungs


def _uncounted(line: str) -> str:
    return re.sub(r"^\W*[0-9]{1,2}\s*[).:]\s(?=\s*\S)", " ", line)


def _amount(lines: list[str]) -> Size | None:
    text = " ".join(lines)
    shares = _SHARE.findall(text)
    if not lines:
        return None
    if len(shares) != 1:
        raise InvalidInput(AlertCode.BAD_SIZE, "The amount must be one share in per cent.", "amount")
    unit = SizeUnit.RISK_PCT if re.search(r"(?i)risk|\brm\b", text) else SizeUnit.PCT_EQUITY
    return Size(unit=unit, value=fields.read_pct(shares[0], "amount", AlertCode.BAD_SIZE))


def _leverage(lines: list[str]) -> Decimal | None:
    """`Cross (5.0X)`, `x20`, and `20х` with a Cyrillic letter, as real posts have it."""
    if not lines:
        return None
    found = _LEVERAGE.search(unicodedata.normalize("NFKC", " ".join(lines)))
    if found is None:
        raise InvalidInput(AlertCode.BAD_LEVERAGE, "The leverage can't be read; write 5x.", "leverage")
    return fields.read_leverage(found[1] or found[2])


def _side(text: str, entries: list[Decimal], stops: list[Decimal], targets: list[Decimal]) -> Target:
    """From the prices, against which a word is checked: a stop below the entry is a long's."""
    words = {word.lower() for word in re.findall(r"(?i)\b(long|short)\b", text)}
    said = Target(words.pop()) if len(words) == 1 else None
    pairs = [(stop, entry) for stop in stops for entry in entries] or [(s, t) for s in stops for t in targets]
    pairs += [(entry, target) for entry in entries for target in targets]
    shown = {Target.LONG if low < high else Target.SHORT for low, high in pairs if low != high}
    if len(shown) > 1 or (said is not None and shown and shown != {said}):
        raise InvalidInput(
            AlertCode.CONTRADICTION, "The prices of entry, stop and targets do not lie as one direction needs.", "stop"
        )
    if said is None and not shown:
        raise InvalidInput(AlertCode.MISSING_FIELD, "The post doesn't say long or short, nor do its prices.", "side")
    return said or shown.pop()
