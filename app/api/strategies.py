"""Strategies: what alerts are addressed to."""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from app import addresses
from app.alerts.defaults import read_defaults
from app.alerts.fields import NUMBER_MAX
from app.alerts.recognise import AUTO, FORMATS
from app.alerts.symbols import normalise
from app.api.access import at_least
from app.api.inject import Injected
from app.api.paging import LIMIT_DEFAULT, Cursor, Limit, Page, one_page, read_cursor
from app.api.problems import not_found
from app.api.proxies import base_url_of
from app.domain.money import ONE, ZERO, plain
from app.errors import InvalidInput
from app.keys import new_secret
from app.resources import Resources
from app.store import strategies
from app.store.db import transaction
from app.store.strategies import AccountShare, Limits, NewStrategy, Strategy, StrategyChange
from app.store.users import Role
from app.store.views import reading

Name = Annotated[str, Meta(min_length=1, max_length=100)]

ACCOUNTS_MAX = 50
SYMBOLS_MAX = 1000
SOURCES_MAX = 100
MULTIPLIER_MIN, MULTIPLIER_MAX = Decimal("0.000001"), Decimal(1000)
OVERLAP_DEFAULT_S = 24 * 3600
OVERLAP_MAX_S = 30 * 24 * 3600
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")
SLUG_CHARS_MAX = 64
SLUG_TRIES_MAX = 20

ALERTS_PER_MINUTE_MAX = 1000
ALERT_EVERY_S_MIN, ALERT_EVERY_S_MAX = 60, 31 * 86_400


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: UUID
    multiplier: Decimal = ONE


Shares = Annotated[list[Share], Meta(max_length=ACCOUNTS_MAX)]
Symbols = Annotated[list[str], Meta(max_length=SYMBOLS_MAX)]


class CreateStrategy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    id: str | None = None
    accounts: Shares = []
    format: str = AUTO
    symbols: Symbols | None = None
    defaults: dict[str, Any] = {}
    limits: Limits = Limits()
    enabled: bool = True


class ChangeStrategy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays; what is given replaces the whole field. `symbols: null` allows any."""

    name: Name | None = None
    accounts: Shares | None = None
    format: str | None = None
    symbols: Symbols | UnsetType | None = UNSET
    defaults: dict[str, Any] | None = None
    limits: Limits | None = None
    enabled: bool | None = None


class ShareJson(msgspec.Struct, frozen=True, kw_only=True):
    account: UUID
    multiplier: str


class StrategyJson(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    accounts: list[ShareJson]
    format: str
    symbols: list[str] | None
    defaults: dict[str, Any]
    limits: Limits
    enabled: bool
    webhook_url: str
    created_at: datetime
    updated_at: datetime


class MadeStrategy(StrategyJson, frozen=True, kw_only=True):
    """`secret` is shown this once."""

    secret: str

    def __repr__(self) -> str:
        return f"MadeStrategy({self.id!r})"


class Rotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The secrets before this one go on to hold for `overlap_s` seconds, so that charts can be changed in peace."""

    overlap_s: Annotated[int, Meta(ge=0, le=OVERLAP_MAX_S)] = OVERLAP_DEFAULT_S


class MadeSecret(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is shown this once."""

    secret: str
    webhook_url: str
    previous_expires_at: datetime

    def __repr__(self) -> str:
        return "MadeSecret(…)"


class StrategyController(Controller):
    path = "/strategies"
    tags = ("strategies",)
    opt = at_least(Role.ADMIN)

    @get()
    async def list_strategies(
        self,
        request: Request[Any, Any, State],
        resources: Injected,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[StrategyJson]:
        """Strategies, in the order of their ids."""
        async with reading(resources.pool) as db:
            found = await strategies.page(db, after=read_cursor(cursor, str), limit=limit + 1)
        return one_page(found, limit, lambda row: _json(row, base_of(request, resources)), lambda row: row.id)

    @post()
    async def create_strategy(
        self, request: Request[Any, Any, State], data: JSONBody[CreateStrategy], resources: Injected
    ) -> MadeStrategy:
        """Make a strategy; the answer alone shows its secret."""
        read_defaults(data.defaults, "defaults.")
        new = NewStrategy(
            id=_checked_id(data.id) if data.id is not None else slug_of(data.name),
            name=data.name,
            format=_checked_format(data.format),
            symbols=_checked_symbols(data.symbols),
            defaults=data.defaults,
            limits=_checked_limits(data.limits),
            enabled=data.enabled,
            accounts=_checked_shares(data.accounts),
        )
        secret = new_secret()
        secret_hash = resources.keys.secret_hash(secret)
        async with transaction(resources.pool) as db:
            strategy_id = await _create(db, new, secret_hash, exact=data.id is not None)
            row = await strategies.get(db, strategy_id)
            assert row is not None
        return MadeStrategy(secret=secret, **msgspec.structs.asdict(_json(row, base_of(request, resources))))

    @get("/{strategy_id:str}")
    async def get_strategy(
        self, request: Request[Any, Any, State], strategy_id: FromPath[str], resources: Injected
    ) -> StrategyJson:
        """One strategy."""
        async with reading(resources.pool) as db:
            row = await strategies.get(db, strategy_id)
        if row is None:
            raise not_found("strategy")
        return _json(row, base_of(request, resources))

    @patch("/{strategy_id:str}")
    async def change_strategy(
        self,
        request: Request[Any, Any, State],
        strategy_id: FromPath[str],
        data: JSONBody[ChangeStrategy],
        resources: Injected,
    ) -> StrategyJson:
        """Change a strategy; its open positions keep the levels that they have. 409 when it leaves out an account on
        which it holds one.
        """
        if data.defaults is not None:
            read_defaults(data.defaults, "defaults.")
        change = StrategyChange(
            name=data.name,
            format=None if data.format is None else _checked_format(data.format),
            symbols=data.symbols if isinstance(data.symbols, UnsetType) else _checked_symbols(data.symbols),
            defaults=data.defaults,
            limits=None if data.limits is None else _checked_limits(data.limits),
            enabled=data.enabled,
            accounts=None if data.accounts is None else _checked_shares(data.accounts),
        )
        async with transaction(resources.pool) as db:
            if not await strategies.update(db, strategy_id, change):
                raise not_found("strategy")
            row = await strategies.get(db, strategy_id)
            assert row is not None
        return _json(row, base_of(request, resources))

    @delete("/{strategy_id:str}")
    async def remove_strategy(self, strategy_id: FromPath[str], resources: Injected) -> None:
        """Remove a strategy and its secrets; its history stays. 409 while it holds a position or has work to do."""
        async with transaction(resources.pool) as db:
            if not await strategies.remove(db, strategy_id):
                raise not_found("strategy")

    @post("/{strategy_id:str}/secrets")
    async def rotate_secret(
        self,
        request: Request[Any, Any, State],
        strategy_id: FromPath[str],
        resources: Injected,
        data: JSONBody[Rotate | None] = None,
    ) -> MadeSecret:
        """Make a new secret; the answer alone shows it."""
        secret = new_secret()
        overlap_s = (data or Rotate()).overlap_s
        async with transaction(resources.pool) as db:
            ends = await strategies.rotate_secret(
                db, strategy_id, resources.keys.secret_hash(secret), overlap_s=overlap_s
            )
        if ends is None:
            raise not_found("strategy")
        return MadeSecret(
            secret=secret, webhook_url=webhook_url(base_of(request, resources), strategy_id), previous_expires_at=ends
        )


def slug_of(name: str) -> str:
    """`My 2nd Strategy!` -> `my-2nd-strategy`."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join(words)[: SLUG_CHARS_MAX - 4].strip("-") or "strategy"


def webhook_url(base: str, strategy_id: str) -> str:
    return f"{base}/webhook/{strategy_id}"


async def _create(db: Any, new: NewStrategy, secret_hash: bytes, *, exact: bool) -> str:
    """Create it under its id, or unless `exact` under the next free one: `name`, `name-2`, `name-3` …"""
    for number in range(1, 2 if exact else SLUG_TRIES_MAX):
        named = new if number == 1 else msgspec.structs.replace(new, id=f"{new.id}-{number}")
        if await strategies.create(db, named, secret_hash):
            return named.id
    raise InvalidInput(
        "id_taken", f"The id {new.id} is taken, perhaps by a strategy that was removed: choose another.", "id"
    )


def base_of(request: Request[Any, Any, State], resources: Resources) -> str:
    """The origin under which charts reach us."""
    return resources.settings.public_url or base_url_of(request)


def _json(row: Strategy, base: str) -> StrategyJson:
    return StrategyJson(
        id=row.id,
        name=row.name,
        accounts=[ShareJson(account=share.account_id, multiplier=plain(share.multiplier)) for share in row.accounts],
        format=row.format,
        symbols=None if row.symbols is None else list(row.symbols),
        defaults=row.defaults,
        limits=row.limits,
        enabled=row.enabled,
        webhook_url=webhook_url(base, row.id),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _checked_id(text: str) -> str:
    if not SLUG.fullmatch(text):
        raise InvalidInput(
            "bad_id", f"id may have a-z, 0-9, - and _ inside, {SLUG_CHARS_MAX} at most: correct it.", "id"
        )
    return text


def _checked_format(name: str) -> str:
    if name not in FORMATS:
        raise InvalidInput("unknown_format", f"format is one of {', '.join(FORMATS)}: correct it.", "format")
    return name


def _checked_symbols(symbols: Sequence[str] | None) -> list[str] | None:
    """In the spelling that signals have, each once."""
    if symbols is None:
        return None
    return list(dict.fromkeys(normalise(symbol, f"symbols[{place}]") for place, symbol in enumerate(symbols)))


def _checked_limits(limits: Limits) -> Limits:
    most = limits.max_notional
    if most is not None and not (most.is_finite() and ZERO < most <= NUMBER_MAX):
        raise InvalidInput(
            "bad_value", f"max_notional must be above 0 and at most {NUMBER_MAX:f}: correct it.", "limits.max_notional"
        )
    if limits.sources is not None:
        _check_sources(limits.sources)
    per_minute = limits.alerts_per_minute
    if per_minute is not None and not 1 <= per_minute <= ALERTS_PER_MINUTE_MAX:
        raise InvalidInput(
            "bad_value",
            f"alerts_per_minute must be 1 to {ALERTS_PER_MINUTE_MAX}: correct it.",
            "limits.alerts_per_minute",
        )
    every_s = limits.alert_every_s
    if every_s is not None and not ALERT_EVERY_S_MIN <= every_s <= ALERT_EVERY_S_MAX:
        raise InvalidInput(
            "bad_value",
            f"alert_every_s must be {ALERT_EVERY_S_MIN} to {ALERT_EVERY_S_MAX} seconds: correct it.",
            "limits.alert_every_s",
        )
    return limits


def _check_sources(sources: Sequence[str]) -> None:
    if not 1 <= len(sources) <= SOURCES_MAX:
        raise InvalidInput("bad_value", f"sources are 1 to {SOURCES_MAX}, or null for any.", "limits.sources")
    for place, word in enumerate(sources):
        try:
            addresses.networks((word,))
        except addresses.BadAddress:
            raise InvalidInput(
                "bad_value",
                "A source is an address such as 10.0.0.5, a network such as 10.0.0.0/8, or tradingview: correct it.",
                f"limits.sources[{place}]",
            ) from None


def _checked_shares(shares: Sequence[Share]) -> list[AccountShare]:
    for place, share in enumerate(shares):
        if not (share.multiplier.is_finite() and MULTIPLIER_MIN <= share.multiplier <= MULTIPLIER_MAX):
            raise InvalidInput(
                "bad_value",
                f"multiplier must be {MULTIPLIER_MIN} to {MULTIPLIER_MAX}: correct it.",
                f"accounts[{place}].multiplier",
            )
    return [AccountShare(account_id=share.account, multiplier=share.multiplier) for share in shares]
