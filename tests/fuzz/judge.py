"""What must hold of any body: one named outcome, soon, with little memory, and no secret in what is kept or said."""

import html
import re
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import unquote
from uuid import UUID

import msgspec

from app.alerts.codes import AlertCode
from app.alerts.recognise import Reading, beyond_us, in_time, open_alert, understand
from app.alerts.redact import SECRET_FIELDS
from app.domain.decide import decide
from app.domain.meaning import meaning
from app.domain.order import PositionSide
from app.domain.plan import Plan, Rules, Situation
from app.domain.position import Position, PositionStatus
from app.domain.signal import Action, Defaults, Exits, Signal, Size, SizeUnit, StopLoss, Target
from app.errors import InvalidInput
from tests.fuzz.mutate import Case
from tests.support.instruments import instrument

AT = datetime(2026, 2, 3, 4, 5, 10, tzinfo=UTC)
OURS = Defaults(symbol="BTCUSDT", side=Target.LONG)
RULES = Rules(
    strategy_id="fuzzed",
    defaults=Defaults(
        size=Size(unit=SizeUnit.QUOTE, value=Decimal(100)), exits=Exits(stop_loss=StopLoss(pct=Decimal(1)))
    ),
)
SECONDS_MAX = 0.3  # of the processor; the slowest that is taken needs a tenth of it
MEMORY_KB_MAX = 64 * 1024  # more than before, for one body
UNAUTHORIZED = "unauthorized"  # its secret is none of those: nothing of it is kept, and the sender is told nothing
PIECE = 12  # characters of a secret that nothing may show: 72 of its 256 bits
DETAIL_MAX, FIELD_MAX = 800, 200  # a sentence for a person, and the path of a field
_ESCAPE = re.compile(r"(?<!\\)\\+u([0-9a-fA-F]{4})")


class Wrong(Exception):
    """What must never happen."""


def outcome(case: Case, *, seconds_max: float = SECONDS_MAX) -> str:
    """The outcome of a body by its name. Raises Wrong."""
    held_kb = memory_kb()
    name, took = _timed(case)
    if took > seconds_max and (took := _timed(case)[1]) > seconds_max:  # once may be the machine's fault
        raise Wrong(f"it took {took:.2f} s")
    if (grown_kb := memory_kb() - held_kb) > MEMORY_KB_MAX:
        raise Wrong(f"it took {grown_kb // 1024} MB of memory")
    return name


def _timed(case: Case) -> tuple[str, float]:
    began = time.process_time()
    try:
        name = _read(case)
    except Wrong:
        raise
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    return name, time.process_time() - began


def memory_kb() -> int:
    """The most that this process ever held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most


def _read(case: Case) -> str:
    """As the door and `explain` do."""
    path_secret = case.secret if case.path else None
    try:
        body = open_alert(case.raw, path_secret)
    except InvalidInput as error:
        return _refused(case, error, known=case.path or _is_named(case))
    let_in = case.path or body.secret == case.secret
    try:
        reading = understand(body, case.format, path_secret=path_secret, defaults=OURS)
        reading = in_time(reading, AT)
    except InvalidInput as error:
        return _refused(case, error) if let_in else UNAUTHORIZED
    if let_in:
        _kept(case, reading)
    beyond = beyond_us(reading)
    if beyond is not None:
        return _refused(case, beyond)
    for signal in reading.signals:
        _planned(signal)
    return f"read as {reading.format}" if let_in else UNAUTHORIZED


def _is_named(case: Case) -> bool:
    """Whether it stands under one of the names of a secret; anything else nobody can know for one before it is read."""
    text = case.raw.decode("utf-8", "replace")
    return re.search(rf"(?i)(?<![a-z0-9])(?:{'|'.join(SECRET_FIELDS)})[\\\s\"':=]+{case.secret}", text) is not None


def _refused(case: Case, error: InvalidInput, *, known: bool = True) -> str:
    if error.code not in set(AlertCode):
        raise Wrong(f"{error.code!r} is no code of an alert")
    said = f"{error.detail}\n{error.field}"
    if known and shows(said, case.secret):
        raise Wrong(f"{error.code} repeats the secret: {said}")
    if not error.detail or len(error.detail) > DETAIL_MAX or len(error.field or "") > FIELD_MAX:
        raise Wrong(f"{error.code}: a sentence of {len(error.detail)} characters, a field of {len(error.field or '')}")
    return str(error.code)


def _kept(case: Case, reading: Reading) -> None:
    """What would be stored, logged and answered."""
    for signal in reading.signals:
        stored = msgspec.json.encode(signal)
        if msgspec.json.decode(stored, type=Signal) != signal:
            raise Wrong(f"it is another signal when it is read back: {signal}")
    told = "\n".join((repr(reading), *reading.repairs, msgspec.json.encode(reading.signals).decode()))
    if shows(told, case.secret, whole=True):
        raise Wrong(f"the reading shows the secret: {told}")
    if shows(reading.body, case.secret, whole=True):
        raise Wrong(f"the body is stored with its secret: {reading.body}")
    if "\x00" in reading.body:
        raise Wrong("the body can't be stored: it holds U+0000")
    reading.body.encode()
    for text in (reading.key or "", *reading.repairs):
        if len(text) > DETAIL_MAX:
            raise Wrong(f"{len(text)} characters: {text[:200]}")


def _planned(signal: Signal) -> None:
    """What would be done, from flat, long and short, in both modes."""
    for side, qty in ((PositionSide.LONG, 0), (PositionSide.LONG, 1), (PositionSide.SHORT, 1)):
        held = Position(
            id=UUID(int=1), account_id=UUID(int=2), strategy_id="fuzzed", symbol=signal.symbol, side=side,
            qty=Decimal(qty), qty_opened=Decimal(qty), epoch=1, entry_price=Decimal(64000), exits=Exits(),
            status=PositionStatus.OPEN, opened_at=AT - timedelta(hours=1),
        )  # fmt: skip
        for hedge in (False, True):
            situation = Situation(
                held=(held,) if qty else (), hedge=hedge, instrument=instrument(symbol=signal.symbol),
                price=Decimal(64000), equity=Decimal(10_000), available=Decimal(9000), received_at=AT, now=AT,
            )  # fmt: skip
            meaning(signal, RULES, held if qty else None)
            if signal.action is not Action.SET_EXITS:
                assert isinstance(decide(signal, RULES, situation), Plan)


def shows(text: str, secret: str, *, whole: bool = False) -> bool:
    """Whether the secret can be read from it, or with `whole` all of it: as it is, in other capitals, escaped as JSON,
    in an address or in HTML, once or twice.
    """
    pieces = [secret] if whole else [secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)]
    pieces = [piece.casefold() for piece in pieces]
    for form in _forms(text):
        folded = form.casefold()
        if any(piece in folded for piece in pieces):
            return True
    return False


def _forms(text: str) -> set[str]:
    forms = {text}
    for _ in range(2):
        forms |= {_ESCAPE.sub(lambda found: chr(int(found[1], 16)), one) for one in forms}
        forms |= {unquote(one) for one in forms if "%" in one} | {html.unescape(one) for one in forms if "&" in one}
        forms |= {one.replace("\\", "") for one in forms if "\\" in one}
    return forms


def shown(case: Case) -> str:
    """The body for a person: whole, and pasted back as bytes."""
    head = f"body {case.number}, format {case.format}, secret in the {'path' if case.path else 'body'}: {case.secret}"
    kept = case.raw if len(case.raw) <= 2000 else case.raw[:1500] + b" ... " + case.raw[-500:]
    return f"{head}\n{len(case.raw)} bytes: {kept!r}"
