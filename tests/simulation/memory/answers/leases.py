"""Leases, bans and blindness: what holds until an instant of the database's clock."""

from collections.abc import Sequence
from uuid import UUID

from app.store import bans, blind, leases
from tests.simulation.memory.schema import Row
from tests.simulation.memory.statements import statement
from tests.simulation.memory.tables import Tables
from tests.simulation.memory.transaction import Transaction
from tests.simulation.memory.values import seconds


def _acquire(t: Tables, x: Transaction, name: str, holder: UUID, ttl_s: float) -> int | None:
    """The token, or None while somebody else holds it."""
    now = x.clock()
    slot = t.leases.find(name)
    if slot is None:
        t.leases.insert(x, {"name": name, "holder": holder, "token": 1, "expires_at": now + seconds(ttl_s)})
        return 1
    held = slot.row
    if held["expires_at"] > now and held["holder"] != holder:
        return None
    token: int = held["token"] + 1
    t.leases.update(x, slot, {"holder": holder, "token": token, "expires_at": now + seconds(ttl_s)})
    return token


@statement(leases.ACQUIRE)
def acquire(t: Tables, x: Transaction, name: str, holder: UUID, ttl_s: float) -> list[Row]:
    token = _acquire(t, x, name, holder, ttl_s)
    return [] if token is None else [{"token": token}]


@statement(leases.ACQUIRE_ALL)
def acquire_all(t: Tables, x: Transaction, names: Sequence[str], holder: UUID, ttl_s: float) -> list[Row]:
    tokens = {name: _acquire(t, x, name, holder, ttl_s) for name in sorted(names)}
    return [{"name": name, "token": token} for name, token in tokens.items() if token is not None]


def _extend(t: Tables, x: Transaction, name: str, holder: UUID, token: int, ttl_s: float) -> bool:
    now = x.clock()
    slot = t.leases.find(name)
    if slot is None:
        return False
    held = slot.row
    if held["holder"] != holder or held["token"] != token or held["expires_at"] <= now:
        return False
    t.leases.update(x, slot, {"expires_at": now + seconds(ttl_s)})
    return True


@statement(leases.RENEW)
def renew(t: Tables, x: Transaction, name: str, holder: UUID, token: int, ttl_s: float) -> int:
    return int(_extend(t, x, name, holder, token, ttl_s))


@statement(leases.RENEW_ALL)
def renew_all(
    t: Tables, x: Transaction, holder: UUID, names: Sequence[str], tokens: Sequence[int], ttl_s: float
) -> list[Row]:
    held = zip(names, tokens, strict=True)
    return [{"name": name} for name, token in held if _extend(t, x, name, holder, token, ttl_s)]


@statement(leases.RELEASE)
def release(t: Tables, x: Transaction, name: str, holder: UUID, token: int) -> int:
    slot = t.leases.find(name)
    if slot is None or slot.row["holder"] != holder or slot.row["token"] != token:
        return 0
    t.leases.update(x, slot, {"expires_at": x.clock()})
    return 1


@statement(leases.RELEASE_ALL)
def release_all(t: Tables, x: Transaction, holder: UUID, names: Sequence[str], tokens: Sequence[int]) -> int:
    return sum(_extend(t, x, name, holder, token, 0) for name, token in zip(names, tokens, strict=True))


@statement(leases.LAST_SEEN)
def last_seen(t: Tables, x: Transaction, name: str) -> list[Row]:
    slot = t.leases.find(name)
    return [] if slot is None else [{"expires_at": slot.row["expires_at"]}]


@statement(leases.LIVE)
def live(t: Tables, x: Transaction, beginning: str) -> list[Row]:
    now = x.clock()
    return [
        {"name": row["name"], "holder": row["holder"], "remaining_s": (row["expires_at"] - now).total_seconds()}
        for row in t.leases.rows
        if row["name"].startswith(beginning) and row["expires_at"] > now
    ]


@statement(leases.HOLDERS)
def holders(t: Tables, x: Transaction) -> list[Row]:
    now = x.clock()
    found = dict.fromkeys(row["holder"] for row in t.leases.rows if row["expires_at"] > now)
    return [{"holder": holder} for holder in found]


@statement(leases.FREE)
def free(t: Tables, x: Transaction, dead: Sequence[UUID]) -> int:
    now = x.clock()
    held = [slot for slot in t.leases.slots if slot.row["holder"] in dead and slot.row["expires_at"] > now]
    for slot in held:
        t.leases.update(x, slot, {"expires_at": now})
    return len(held)


@statement(bans.TELL)
def tell_ban(t: Tables, x: Transaction, scope: str, ends_after_s: float, why: str) -> int:
    now = x.clock()
    until = now + seconds(ends_after_s)
    slot = t.bans.find(scope)
    if slot is None:
        t.bans.insert(x, {"scope": scope, "until": until, "why": why, "told_at": now})
        return 1
    if slot.row["until"] >= until:
        return 0
    t.bans.update(x, slot, {"until": until, "why": why, "told_at": now})
    return 1


@statement(bans.LIVE)
def live_bans(t: Tables, x: Transaction) -> list[Row]:
    now = x.clock()
    return [
        {
            "scope": ban["scope"],
            "until": ban["until"],
            "why": ban["why"],
            "remaining_s": (ban["until"] - now).total_seconds(),
        }
        for ban in sorted(t.bans.rows, key=lambda row: str(row["scope"]))
        if ban["until"] > now
    ]


@statement(blind.ROWS)
def blind_rows(t: Tables, x: Transaction) -> list[Row]:
    return [{name: row[name] for name in ("market", "lease", "symbol")} for row in t.blind.rows]


@statement(blind.REASON)
def blind_reason(t: Tables, x: Transaction, market: str, symbol: str, lease: str) -> list[Row]:
    if not t.lease_lives(lease, x.clock()):
        return [{"case": "no watcher follows it, so nobody would see the stop"}]
    for asked in ("", symbol):
        slot = t.blind.find((market, lease, asked))
        if slot is not None:
            return [{"case": slot.row["why"]}]
    return [{"case": None}]


@statement(blind.TELL)
def tell_blind(
    t: Tables,
    x: Transaction,
    market: str,
    told_leases: Sequence[str],
    symbols: Sequence[str],
    whys: Sequence[str],
    names: Sequence[str],
    tokens: Sequence[int],
) -> list[Row]:
    now = x.clock()
    held = {name for name, token in zip(names, tokens, strict=True) if t.is_held(name, token, now)}
    told = {
        (lease, symbol): why for lease, symbol, why in zip(told_leases, symbols, whys, strict=True) if lease in held
    }
    for slot in list(t.blind.slots):
        row = slot.row
        if row["market"] == market and row["lease"] in held and (row["lease"], row["symbol"]) not in told:
            t.blind.delete(x, slot)
    for (lease, symbol), why in told.items():
        known = t.blind.find((market, lease, symbol))
        if known is None:
            t.blind.insert(x, {"market": market, "lease": lease, "symbol": symbol, "why": why})
        else:
            t.blind.update(x, known, {"why": why})
    return [{"?column?": len(held) == len(names)}]
