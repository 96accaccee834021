"""Accounts at exchanges. Credentials go in and never come out."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.alerts.symbols import normalise
from app.api.access import at_least
from app.api.credentials import checked
from app.api.inject import Injected
from app.api.paging import LIMIT_DEFAULT, Cursor, Limit, Page, one_page, read_cursor
from app.api.problems import not_found
from app.domain.order import MarginMode, PositionMode
from app.errors import InvalidInput
from app.flows.verify import Check, verify
from app.keys import Credentials
from app.settings import Settings
from app.store import accounts
from app.store.accounts import AccountRow, Environment, VenueName
from app.store.db import transaction
from app.store.users import Role
from app.store.views import reading

Name = Annotated[str, Meta(min_length=1, max_length=100)]
KeyText = Annotated[str, Meta(min_length=1, max_length=8192)]  # a PEM of RSA 4096 has 3.3 KB
Url = Annotated[str, Meta(max_length=300)]

HINT_CHARS = 4


class Urls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Origins: the paths below them are the venue's own."""

    rest: Url
    ws: Url


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    venue: VenueName
    environment: Environment
    api_key: KeyText
    api_secret: KeyText | None = None
    private_key: KeyText | None = None
    position_mode: PositionMode = PositionMode.ONE_WAY
    margin_mode: MarginMode | None = None
    """None: it stays as it is at the exchange."""
    urls: Urls | None = None

    def __repr__(self) -> str:
        return f"NewAccount({self.name!r})"


class AccountChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. A key is changed as a whole; venue and environment never: make another account.

    The position mode can be changed only while the account holds nothing and has nothing to do.
    """

    name: Name | None = None
    api_key: KeyText | None = None
    api_secret: KeyText | None = None
    private_key: KeyText | None = None
    position_mode: PositionMode | None = None
    margin_mode: MarginMode | msgspec.UnsetType | None = msgspec.UNSET
    """null: from now on it stays as it is at the exchange."""
    urls: Urls | None = None

    def __repr__(self) -> str:
        return f"AccountChange({self.name!r})"


class AccountJson(msgspec.Struct, frozen=True, kw_only=True):
    """`api_key` shows its end only."""

    id: UUID
    name: str
    venue: VenueName
    environment: Environment
    position_mode: PositionMode
    margin_mode: MarginMode | None
    urls: Urls | None
    api_key: str
    created_at: datetime
    updated_at: datetime


class Verify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`symbol` is the instrument to look at; BTCUSDT if left out."""

    symbol: Annotated[str, Meta(max_length=100)] = "BTCUSDT"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` is false as soon as one check failed; a check that could not be told (null) leaves it true."""

    ok: bool
    checks: list[Check]


class AccountController(Controller):
    path = "/accounts"
    tags = ("accounts",)
    opt = at_least(Role.ADMIN)

    @get()
    async def list_accounts(
        self, resources: Injected, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[AccountJson]:
        """Accounts, the oldest first."""
        async with reading(resources.pool) as db:
            found = await accounts.page(db, after=read_cursor(cursor, UUID), limit=limit + 1)
            keys = await accounts.api_keys(db, resources.keys, [row.id for row in found])
        return one_page(found, limit, lambda row: _json(row, keys[row.id]), lambda row: str(row.id))

    @post()
    async def create_account(self, data: JSONBody[NewAccount], resources: Injected) -> AccountJson:
        """Make an account."""
        urls = _checked_urls(data.environment, data.urls, resources.settings, required=True)
        credentials = checked(data.venue, data.api_key, data.api_secret, data.private_key)
        async with transaction(resources.pool) as db:
            row = await accounts.create(
                db,
                resources.keys,
                name=data.name,
                venue=data.venue,
                environment=data.environment,
                credentials=credentials,
                position_mode=data.position_mode,
                margin_mode=data.margin_mode,
                rest_url=urls.rest if urls else None,
                ws_url=urls.ws if urls else None,
            )
        return _json(row, data.api_key)

    @get("/{account_id:uuid}")
    async def get_account(self, account_id: FromPath[UUID], resources: Injected) -> AccountJson:
        """One account."""
        async with reading(resources.pool) as db:
            row = await accounts.get(db, account_id)
            keys = await accounts.api_keys(db, resources.keys, [account_id])
        if row is None or account_id not in keys:
            raise not_found("account")
        return _json(row, keys[account_id])

    @patch("/{account_id:uuid}")
    async def change_account(
        self, account_id: FromPath[UUID], data: JSONBody[AccountChange], resources: Injected
    ) -> AccountJson:
        """Change an account's name, key, modes or urls."""
        async with transaction(resources.pool) as db:
            row = await accounts.get(db, account_id)
            if row is None:
                raise not_found("account")
            urls = _checked_urls(row.environment, data.urls, resources.settings, required=False)
            row = await accounts.update(
                db,
                resources.keys,
                account_id,
                name=data.name,
                credentials=_changed_credentials(row.venue, data),
                position_mode=data.position_mode,
                margin_mode=data.margin_mode,
                rest_url=urls.rest if urls else None,
                ws_url=urls.ws if urls else None,
            )
            keys = await accounts.api_keys(db, resources.keys, [account_id])
        if row is None:
            raise not_found("account")
        return _json(row, keys[account_id])

    @delete("/{account_id:uuid}")
    async def remove_account(self, account_id: FromPath[UUID], resources: Injected) -> None:
        """Remove an account and its key; its history stays. 409 while it holds a position or has work to do."""
        async with transaction(resources.pool) as db:
            if not await accounts.remove(db, account_id):
                raise not_found("account")

    @post("/{account_id:uuid}/verify", status_code=200)
    async def verify_account(
        self, account_id: FromPath[UUID], resources: Injected, data: JSONBody[Verify | None] = None
    ) -> Verified:
        """Try key, clock, modes and feed at the exchange and say what to mend. Nothing is ordered or changed there."""
        symbol = normalise((data or Verify()).symbol, "symbol")
        async with reading(resources.pool) as db:
            if await accounts.get(db, account_id) is None:
                raise not_found("account")
        checks = await verify(resources, account_id, symbol)
        return Verified(ok=all(check.ok is not False for check in checks), checks=checks)


def _json(row: AccountRow, api_key: str) -> AccountJson:
    return AccountJson(
        id=row.id,
        name=row.name,
        venue=row.venue,
        environment=row.environment,
        position_mode=row.position_mode,
        margin_mode=row.margin_mode,
        urls=None if row.rest_url is None or row.ws_url is None else Urls(rest=row.rest_url, ws=row.ws_url),
        api_key="…" + (api_key[-HINT_CHARS:] if len(api_key) >= 2 * HINT_CHARS else ""),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _changed_credentials(venue: VenueName, data: AccountChange) -> Credentials | None:
    if data.api_key is None and data.api_secret is None and data.private_key is None:
        return None
    if data.api_key is None:
        raise InvalidInput("missing_field", "A key is changed as a whole: give api_key and its secret.", "api_key")
    return checked(venue, data.api_key, data.api_secret, data.private_key)


def _checked_urls(environment: Environment, urls: Urls | None, settings: Settings, *, required: bool) -> Urls | None:
    """The urls to store: of a custom environment, and of no other."""
    if environment is Environment.SIMULATOR and settings.simulator_url is None:
        raise InvalidInput(
            "no_simulator",
            "No simulator is known here: set LEVELHEAD_SIMULATOR_URL, or use environment custom with urls.",
            "environment",
        )
    if environment is not Environment.CUSTOM:
        if urls is not None:
            raise InvalidInput("bad_value", "urls belong to environment custom only: leave them out.", "urls")
        return None
    if urls is None:
        if required:
            raise InvalidInput("missing_field", "Environment custom needs urls: rest and ws.", "urls")
        return None
    return Urls(rest=_origin(urls.rest, ("http", "https"), "urls.rest"), ws=_origin(urls.ws, ("ws", "wss"), "urls.ws"))


def _origin(text: str, schemes: tuple[str, ...], field: str) -> str:
    """`https://Host:443/` -> `https://host:443`. Raises InvalidInput for anything that is more than an origin."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _not_an_origin(schemes, field) from None
    host = parts.hostname
    more = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc or "?" in text
    if parts.scheme not in schemes or not host or more or any(c.isspace() for c in text):
        raise _not_an_origin(schemes, field)
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if port is None else f":{port}")


def _not_an_origin(schemes: tuple[str, ...], field: str) -> InvalidInput:
    return InvalidInput(
        "bad_url", f"{field} must be an origin such as {schemes[-1]}://host:443, without a path: correct it.", field
    )
