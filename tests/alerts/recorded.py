"""Recorded bodies against what their index says that they mean: what is read, and what would be traded by it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from app.alerts.recognise import beyond_us, open_alert, understand
from app.domain.decide import decide, too_old
from app.domain.order import PositionSide
from app.domain.plan import Close, Open, Plan, Reduce, Rules, Situation
from app.domain.position import Position, PositionStatus
from app.domain.signal import Defaults, Exits, PriceOrPct, Signal, Size, SizeUnit
from app.errors import InvalidInput
from tests.support.instruments import instrument

D = Decimal
PRICE = D(100)
UNITS = {
    "base": SizeUnit.BASE,
    "quote": SizeUnit.QUOTE,
    "contracts": SizeUnit.CONTRACTS,
    "percent_balance": SizeUnit.PCT_EQUITY,
    "percent_available": SizeUnit.PCT_AVAILABLE,
    "percent_position": SizeUnit.PCT_POSITION,
}


def entries(folder: Path) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    for index in sorted(folder.glob("*/INDEX.jsonl")):
        for line in index.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            yield f"{index.parent.name}/{entry['file']}", entry, (index.parent / entry["file"]).read_bytes()


def problem(entry: dict[str, Any], raw: bytes) -> str | None:
    """What is wrong with how a body is read, in words."""
    means = entry["means"]
    invalid = isinstance(means, dict) and means["action"] == "invalid"
    nothing = isinstance(means, dict) and means["action"] == "none"
    try:
        reading = understand(open_alert(raw), path_secret=None)
    except InvalidInput as error:
        return None if invalid or nothing or entry.get("refusal_ok") else f"refused: {error.code}: {error.detail}"
    if invalid:
        if "lenient" not in entry or not reading.repairs:
            return "read although it is invalid"
        means = entry["lenient"]
    wanted = means if isinstance(means, list) else [means]
    if len(reading.signals) != len(wanted):
        return f"{len(reading.signals)} orders are not {len(wanted)}"
    named = "limit" in (one.get("order_type") for one in wanted)
    if (beyond_us(reading) is not None) is not named:
        return "refused by name although it could be done, or not although it can't"
    held = _signed(entry.get("given"))
    for one, signal in zip(wanted, reading.signals, strict=True):
        difference, held = _compare(one, signal, held, _received_at(entry, signal))
        if difference is not None:
            return difference
    return None


def _compare(means: dict[str, Any], signal: Signal, held: Decimal, received_at: datetime) -> tuple[str | None, Decimal]:
    """The first difference, and the signed position afterwards."""
    plan = _plan(signal, held, received_at)
    if means["action"] == "none":
        late = too_old(signal, received_at, received_at) is not None
        return (None if late or plan.legs == () else "it would be traded"), held
    pairs: list[tuple[object, object]] = [(signal.symbol, means["symbol"])]
    if "leverage" in means:
        pairs.append((signal.leverage, D(means["leverage"])))
    if means.get("order_type") == "limit":
        prices = means.get("entries") or [means["price"]]
        pairs.append((signal.limit_prices, tuple(D(price) for price in prices)))
    pairs.append((_exits(signal.exits), _told(means)))
    done, after = _traded(plan, held)
    pairs.append((done, means["action"]))
    if "target" in means:
        pairs.append((after, _signed(means["target"])))
    elif "size" in means and done != "close":
        pairs.append((signal.size, Size(unit=UNITS[means["size_unit"]], value=D(means["size"]))))
    return next((f"{seen} is not {told}" for seen, told in pairs if seen != told), None), after


def _received_at(entry: dict[str, Any], signal: Signal) -> datetime:
    if "received_at" in entry:
        return datetime.fromisoformat(entry["received_at"])
    return signal.sent_at or datetime(2026, 1, 1, tzinfo=UTC)


def _signed(state: dict[str, Any] | None) -> Decimal:
    if state is None or state["side"] == "flat":
        return D(0)
    return D(state["size"]) * (1 if state["side"] == "long" else -1)


def _plan(signal: Signal, given: Decimal, received_at: datetime) -> Plan:
    """What would be done with the position that is given, with a default size and no need for a stop."""
    side = PositionSide.LONG if given > 0 else PositionSide.SHORT
    held = Position(
        id=UUID(int=1), account_id=UUID(int=2), strategy_id="demo", symbol=signal.symbol, side=side, qty=abs(given),
        qty_opened=abs(given), epoch=1, entry_price=PRICE, exits=Exits(), status=PositionStatus.OPEN,
        opened_at=received_at,
    )  # fmt: skip
    fine = instrument(
        qty_step=D("0.000001"), qty_min=D("0.000001"), notional_min=D(0), market_qty_max=D(10**9), symbol=signal.symbol
    )
    situation = Situation(
        held=() if given == 0 else (held,), instrument=fine, price=PRICE, equity=D(1000), available=D(1000),
        received_at=received_at, now=received_at,
    )  # fmt: skip
    # Its stops are looked at elsewhere: here the price of the market would have to suit them.
    rules = Rules(
        strategy_id="demo", trade_without_stop=True, defaults=Defaults(size=Size(unit=SizeUnit.BASE, value=D(1)))
    )
    return decide(msgspec.structs.replace(signal, exits=Exits()), rules, situation)


def _traded(plan: Plan, held: Decimal) -> tuple[str, Decimal]:
    """The action in the words of the index, and the signed position afterwards."""
    assert plan.refusal is None, plan.refusal
    words = []
    for leg in plan.legs:
        sign = 1 if leg.side is PositionSide.LONG else -1
        match leg:
            case Open():
                held += sign * leg.qty
                words.append(f"open_{leg.side}")
            case Reduce():
                held -= sign * leg.qty
                words.append("reduce")
            case Close():
                held = D(0)
                words.append("close")
    if len(words) == 2:
        return words[1].replace("open_", "reverse_to_"), held
    return (words[0] if words else "none"), held


def _exits(exits: Exits) -> tuple[object, object]:
    stop = exits.stop_loss
    targets = [(*_at(rung.at), rung.fraction * 100) for rung in exits.take_profit]
    return None if stop is None else _at(stop), targets


def _told(means: dict[str, Any]) -> tuple[object, object]:
    """As `_exits`; a target alone takes all."""

    def at(level: dict[str, str]) -> tuple[Decimal | None, Decimal | None]:
        return (D(level["price"]), None) if "price" in level else (None, D(level["percent"]))

    stop = means.get("stop_loss")
    targets = [(*at(level), D(level.get("share", "100"))) for level in means.get("take_profit", [])]
    return None if stop is None else at(stop), targets


def _at(level: PriceOrPct) -> tuple[Decimal | None, Decimal | None]:
    return level.price, level.pct
