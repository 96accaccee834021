"""Try an account at its exchange without ordering or changing anything there, and say what to mend.

`POST /api/v1/accounts/{id}/verify` and `levelhead doctor` show the same checks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import msgspec

from app.domain.instrument import Instrument
from app.domain.money import plain
from app.errors import LevelheadError, Refused, VenueError
from app.resources import RECHECK_S, Connected, Resources, origins_of
from app.settings import Settings
from app.store import accounts
from app.store.accounts import AccountRow
from app.store.db import store_errors
from app.venues.base import Equity, Origins, Permissions, RestingStop, Standing, Topic, Trade, Venue
from app.venues.registry import open_public_stream

SYMBOL = "BTCUSDT"  # traded every second, so silence means something
FEED_S = 10.0
CHECK_S = 30.0  # above whatever an adapter waits for by itself: a bound, so that a check always ends

NAMES = (
    "reachable", "clock", "key", "permissions", "ip_restriction", "position_mode", "margin_mode", "leverage",
    "conditional_orders", "order_test", "feed",
)  # fmt: skip

_KEY_CURE = (
    "see that the key is of this environment, that the secret is its own, that it has not expired and that this "
    "machine's address is on its list; then enter it anew with PATCH /api/v1/accounts/{id}"
)
_WAIT_CURE = "wait and try again; if it stays so, see the exchange's status page"

T = TypeVar("T")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the answer.

    `ok` is None where it could not be told, is not offered by the venue, or is a warning that stops nothing. `cure`
    says what to do, where there is something to do.
    """

    name: str
    ok: bool | None
    detail: str
    cure: str | None = None


async def verify(resources: Resources, account_id: UUID, symbol: str = SYMBOL) -> list[Check]:
    """All checks of one account, in the order of NAMES. Raises StoreUnavailable, and nothing of the venue's."""
    with store_errors():
        account = await accounts.get(resources.pool, account_id)
    if account is None:
        return _only("reachable", "the account was removed", "make another")
    try:
        origins_of(account, resources.settings.simulator_url)
    except Refused as exc:
        return _only("reachable", exc.reason, "mend what the sentence names")
    try:
        connected = await _connect(resources, account)
    except Refused as exc:
        return _only(
            "key",
            exc.reason,
            "enter the key anew with PATCH /api/v1/accounts/{id}; if none can be read, this is not the master key that "
            "they were stored under",
        )
    return await check(connected, resources.settings, symbol)


async def _connect(resources: Resources, account: AccountRow) -> Connected:
    """The account's adapter as the account is now: one that was just changed has its new one within a second."""
    with store_errors():
        connected = await resources.venues.of(account.id)
        for _ in range(20):
            if connected.account.updated_at >= account.updated_at:
                break
            await asyncio.sleep(RECHECK_S / 10)
            connected = await resources.venues.of(account.id)
    return connected


async def check(connected: Connected, settings: Settings, symbol: str = SYMBOL) -> list[Check]:
    """The checks of an account whose adapter is there."""
    account, venue = connected.account, connected.venue
    clock = await _ask(venue.server_time)
    if isinstance(clock, LevelheadError):
        return _only(
            "reachable",
            f"{connected.origins.rest} does not answer: {clock}",
            "check this machine's network, the account's environment and urls, and the exchange's status page",
        )
    async with asyncio.TaskGroup() as asking:  # `_ask` never raises, so nothing is cancelled half-way
        equity = asking.create_task(_ask(venue.equity))
        permissions = asking.create_task(_ask(venue.permissions))
        standing = asking.create_task(_ask(lambda: venue.standing(symbol)))
        instrument = asking.create_task(_ask(lambda: venue.instrument(symbol)))
        stops = asking.create_task(_ask(lambda: venue.resting_stops(symbol)))
        test = asking.create_task(_ask(lambda: venue.test_order(symbol)))
        feed = asking.create_task(_check_feed(account.venue, connected.origins, symbol))
    key = equity.result()
    return [
        Check(name="reachable", ok=True, detail=f"{connected.origins.rest} answers"),
        _check_clock(venue, settings),
        _check_key(key),
        _check_permissions(permissions.result(), key),
        _check_ip_restriction(permissions.result()),
        _check_position_mode(account, standing.result(), key, symbol),
        _check_margin_mode(account, standing.result(), symbol, is_set=venue.traits.sets_margin_mode),
        _check_leverage(standing.result(), instrument.result(), key, symbol),
        _check_conditional_orders(stops.result(), key, symbol),
        _check_order_test(test.result(), key),
        feed.result(),
    ]


async def _ask(call: Callable[[], Awaitable[T]]) -> T | LevelheadError:
    """What the venue answers, or what it failed with: one failure must not hide the other answers."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await call()
    except LevelheadError as exc:
        return exc
    except TimeoutError:
        return VenueError(f"no answer within {CHECK_S:g} s")


def _only(name: str, detail: str, cure: str) -> list[Check]:
    """One failure before which nothing else can be looked at."""
    return [
        Check(name=one, ok=False, detail=detail, cure=cure)
        if one == name
        else Check(name=one, ok=None, detail=f"not checked: {name} comes first")
        for one in NAMES
    ]


def _failed(name: str, error: LevelheadError, key: object = None) -> Check:
    """A check that the venue did not answer. Refused in the same words as the key itself, it is no fault of its own."""
    if isinstance(error, Refused):
        if isinstance(key, Refused) and (key.venue_code, key.reason) == (error.venue_code, error.reason):
            return Check(name=name, ok=None, detail="not checked: refused as the key is")
        return Check(name=name, ok=False, detail=error.reason, cure=_KEY_CURE)
    return Check(name=name, ok=False, detail=str(error), cure=_WAIT_CURE)


def _check_clock(venue: Venue, settings: Settings) -> Check:
    """Requests are stamped with the offset corrected; beyond the bound the machine itself is not to be trusted."""
    offset_ms, most_ms = venue.clock_offset_ms, settings.clock_drift_max_ms
    way = "behind" if offset_ms > 0 else "ahead of"
    detail = f"this machine's clock is {abs(offset_ms)} ms {way} the exchange's; up to {most_ms} ms are allowed"
    if abs(offset_ms) <= most_ms:
        return Check(name="clock", ok=True, detail=detail)
    return Check(
        name="clock",
        ok=False,
        detail=detail + ": nothing is opened",
        cure="switch on time synchronisation (NTP) on this machine",
    )


def _check_key(equity: Equity | LevelheadError) -> Check:
    if isinstance(equity, LevelheadError):
        return _failed("key", equity)
    return Check(
        name="key",
        ok=True,
        detail=f"accepted; the account holds {plain(equity.equity)}, of which {plain(equity.available)} are available",
    )


def _check_permissions(found: Permissions | LevelheadError, key: object) -> Check:
    name = "permissions"
    if isinstance(found, LevelheadError):
        return _failed(name, found, key)
    if not found.can_trade:
        return Check(
            name=name,
            ok=False,
            detail=f"the key may not trade: {found.detail}",
            cure="give the key reading and trading of futures (contract orders and positions) at the exchange",
        )
    if found.can_withdraw:
        return Check(
            name=name,
            ok=False,
            detail=f"the key may withdraw money, and nothing is opened with such a key: {found.detail}",
            cure="switch withdrawal off for this key at the exchange, or make another key without it",
        )
    if found.can_withdraw is None:
        return Check(
            name=name,
            ok=None,
            detail=f"the key may trade; whether it may withdraw money is not told: {found.detail}",
            cure="look at the key's page at the exchange: withdrawal must be switched off",
        )
    return Check(name=name, ok=True, detail=found.detail)


def _check_ip_restriction(found: Permissions | LevelheadError) -> Check:
    """A warning at most: a key that works from anywhere works."""
    name = "ip_restriction"
    if isinstance(found, LevelheadError):
        return Check(name=name, ok=None, detail="not told: the key's permissions could not be read")
    if found.ip_restricted:
        return Check(name=name, ok=True, detail="the key works from its listed addresses only")
    if found.ip_restricted is None:
        return Check(
            name=name,
            ok=None,
            detail="the exchange does not say whether the key is bound to addresses",
            cure="look at the key's page at the exchange, and bind it to this machine's address",
        )
    return Check(
        name=name,
        ok=None,
        detail=f"warning: whoever steals the key can use it from anywhere: {found.detail}",
        cure="bind it to this machine's address at the exchange",
    )


def _check_position_mode(account: AccountRow, standing: Standing | LevelheadError, key: object, symbol: str) -> Check:
    name = "position_mode"
    if isinstance(standing, LevelheadError):
        return _failed(name, standing, key)
    there, here = standing.position_mode, account.position_mode
    if there is here:
        return Check(name=name, ok=True, detail=f"{symbol} is in {there.words} mode, as the account says")
    return Check(
        name=name,
        ok=False,
        detail=f"{symbol} is in {there.words} mode at the exchange, and the account says {here.words}",
        cure=f"switch the exchange to {here.words} mode while nothing is held or ordered there, or the account with "
        f'PATCH /api/v1/accounts/{account.id} {{"position_mode": "{there}"}}',
    )


def _check_margin_mode(account: AccountRow, standing: Standing | LevelheadError, symbol: str, *, is_set: bool) -> Check:
    """With `is_set` the next opening sets it, while nothing is held; else it would be refused."""
    name = "margin_mode"
    if isinstance(standing, LevelheadError):
        return Check(name=name, ok=None, detail="not told: see position_mode")
    there, here = standing.margin_mode, account.margin_mode
    said = "in a mode that the exchange does not name as cross or isolated" if there is None else f"{there}"
    if here is None:
        return Check(name=name, ok=True, detail=f"{symbol} is {said}; the account leaves it so")
    if there is here:
        return Check(name=name, ok=True, detail=f"{symbol} is {said}, as the account says")
    mends_itself = is_set and not standing.holdings
    return Check(
        name=name,
        ok=None if mends_itself else False,
        detail=f"{symbol} is {said} at the exchange, and the account says {here}"
        + (": it is set before the next opening, where the exchange lets it be set" if mends_itself else ""),
        cure=f"set {here} margin at the exchange while nothing is held, or the account with "
        f'PATCH /api/v1/accounts/{account.id} {{"margin_mode": {_json(there)}}}',
    )


def _json(value: str | None) -> str:
    return "null" if value is None else f'"{value}"'


def _check_leverage(
    standing: Standing | LevelheadError, instrument: Instrument | LevelheadError, key: object, symbol: str
) -> Check:
    name = "leverage"
    if isinstance(instrument, Refused) and instrument.venue_code is None:
        return Check(name=name, ok=False, detail=instrument.reason, cure="look at another symbol")
    if isinstance(instrument, LevelheadError):
        return _failed(name, instrument, key)
    most = f"up to {plain(instrument.leverage_max)}x"
    if isinstance(standing, LevelheadError):
        return Check(name=name, ok=None, detail=f"{symbol} allows {most}; what is set is not told: see position_mode")
    if standing.leverage is None:
        return Check(name=name, ok=None, detail=f"{symbol} allows {most}; the exchange does not say what is set")
    return Check(name=name, ok=True, detail=f"{symbol} is set to {plain(standing.leverage)}x, of {most}")


def _check_conditional_orders(stops: Sequence[RestingStop] | LevelheadError, key: object, symbol: str) -> Check:
    name = "conditional_orders"
    if isinstance(stops, LevelheadError):
        return _failed(name, stops, key)
    return Check(name=name, ok=True, detail=f"readable; {len(stops)} closing stops rest for {symbol}")


def _check_order_test(accepted: bool | LevelheadError, key: object) -> Check:
    name = "order_test"
    if isinstance(accepted, Refused):
        same = _failed(name, accepted, key)
        if same.ok is None:
            return same
        return Check(
            name=name,
            ok=False,
            detail=f"an order would be refused: {accepted.reason}",
            cure="mend what the exchange names; most often it is margin, the key's permissions or a symbol's rules",
        )
    if isinstance(accepted, LevelheadError):
        return _failed(name, accepted)
    if not accepted:
        return Check(name=name, ok=None, detail="not offered by this venue; `levelhead doctor --live` places an order")
    return Check(name=name, ok=True, detail="the exchange would accept a signed order (nothing was placed)")


class _FirstPrice:
    """Hears a public stream until the first price."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[Decimal] = asyncio.get_running_loop().create_future()
        self.linked = False

    def _hear(self, price: Decimal) -> None:
        if not self.heard.done():
            self.heard.set_result(price)

    def on_trades(self, trades: Sequence[Trade]) -> None:
        if trades:
            self._hear(trades[-1].price)

    def on_mark(self, symbol: str, price: Decimal, at_ms: int) -> None:
        self._hear(price)

    def on_book(self, symbol: str, bid: Decimal | None, ask: Decimal | None, at_ms: int) -> None:
        pass

    def on_link(self, up: bool) -> None:
        self.linked = self.linked or up


async def _check_feed(venue: str, origins: Origins, symbol: str) -> Check:
    """Whether prices arrive: an acknowledged subscription may stay silent, so nothing less than a price counts."""
    listener = _FirstPrice()
    stream = open_public_stream(venue, origins, listener)
    stream.want({symbol: frozenset({Topic.TRADES, Topic.MARK})})
    running = asyncio.create_task(stream.run())
    try:
        async with asyncio.timeout(FEED_S):
            price = await listener.heard
    except TimeoutError:
        what = "linked, but no price" if listener.linked else "no link"
        return Check(
            name="feed",
            ok=False,
            detail=f"{what} of {symbol} from {origins.ws} within {FEED_S:g} s",
            cure="let WebSocket connections to that address out of this machine, and check the account's urls",
        )
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return Check(name="feed", ok=True, detail=f"{symbol} at {plain(price)} from {origins.ws}")
