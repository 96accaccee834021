"""The keys under which other senders than charts sign their deliveries to a strategy."""

import os
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.alerts.signed import KEY_BYTES_MAX, KEY_BYTES_MIN, read_key, write_key
from app.api.access import at_least
from app.api.inject import Injected
from app.api.paging import Page
from app.api.problems import not_found
from app.api.strategies import OVERLAP_DEFAULT_S, OVERLAP_MAX_S, base_of, webhook_url
from app.errors import InvalidInput
from app.keys import SECRET_BYTES
from app.store import signing, strategies
from app.store.db import transaction
from app.store.users import Role
from app.store.views import reading


class NewSigningKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`key` is that of a sender who made it himself; without it one is made. Those before it hold for `overlap_s`."""

    key: str | None = None
    overlap_s: Annotated[int, Meta(ge=0, le=OVERLAP_MAX_S)] = OVERLAP_DEFAULT_S

    def __repr__(self) -> str:
        return "NewSigningKey(…)"


class MadeSigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is shown this once."""

    key: str
    webhook_url: str
    previous_expires_at: datetime

    def __repr__(self) -> str:
        return "MadeSigningKey(…)"


class SigningKeyJson(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    created_at: datetime
    expires_at: datetime | None


class SigningController(Controller):
    path = "/strategies/{strategy_id:str}/signing-keys"
    tags = ("strategies",)
    opt = at_least(Role.ADMIN)

    @get()
    async def list_signing_keys(self, strategy_id: FromPath[str], resources: Injected) -> Page[SigningKeyJson]:
        """Those that hold now, the newest first; the keys themselves are not told."""
        async with reading(resources.pool) as db:
            if await strategies.get(db, strategy_id) is None:
                raise not_found("strategy")
            found = await signing.listed(db, strategy_id)
        return Page(items=[SigningKeyJson(**msgspec.structs.asdict(one)) for one in found], next=None)

    @post()
    async def add_signing_key(
        self,
        request: Request[Any, Any, State],
        strategy_id: FromPath[str],
        resources: Injected,
        data: JSONBody[NewSigningKey | None] = None,
    ) -> MadeSigningKey:
        """Have deliveries signed (Standard Webhooks), or change the key; the answer alone shows one that was made."""
        wanted = data or NewSigningKey()
        key = os.urandom(SECRET_BYTES) if wanted.key is None else read_key(wanted.key)
        if key is None:
            raise InvalidInput(
                "bad_signing_key",
                f"A signing key is whsec_ and {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes in base64: copy it whole.",
                "key",
            )
        async with transaction(resources.pool) as db:
            ends = await signing.rotate(db, resources.keys, strategy_id, key, overlap_s=wanted.overlap_s)
        if ends is None:
            raise not_found("strategy")
        return MadeSigningKey(
            key=write_key(key),
            webhook_url=webhook_url(base_of(request, resources), strategy_id),
            previous_expires_at=ends,
        )

    @delete()
    async def remove_signing_keys(self, strategy_id: FromPath[str], resources: Injected) -> None:
        """No signature counts any more; the strategy's secret does. 404 if there was no key."""
        async with transaction(resources.pool) as db:
            if not await signing.remove(db, strategy_id):
                raise not_found("signing key")
