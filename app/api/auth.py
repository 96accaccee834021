"""Log in, stay logged in, log out."""

from typing import Annotated

import msgspec
from litestar import Controller, post
from litestar.datastructures import State
from litestar.params import JSONBody
from msgspec import Meta

from app.api.access import PUBLIC
from app.api.inject import Injected
from app.api.problems import unauthorized
from app.api.throttle import Throttle
from app.api.tokens import issue
from app.keys import PASSWORD_CHARS_MAX, Keys, new_secret, verify_password
from app.resources import Resources
from app.store import users
from app.store.db import transaction
from app.store.users import User
from app.store.views import reading

EMAIL_CHARS_MAX = 254  # RFC 5321
TOKEN_CHARS_MAX = 200


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    email: Annotated[str, Meta(max_length=EMAIL_CHARS_MAX)]
    password: Annotated[str, Meta(max_length=PASSWORD_CHARS_MAX)]

    def __repr__(self) -> str:
        return f"Credentials({self.email!r})"


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(max_length=TOKEN_CHARS_MAX)]

    def __repr__(self) -> str:
        return "RefreshToken(…)"


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"

    def __repr__(self) -> str:
        return "Tokens(…)"


class AuthController(Controller):
    path = "/auth"
    tags = ("auth",)
    opt = PUBLIC

    @post("/login", status_code=200)
    async def login(self, data: JSONBody[Credentials], resources: Injected, state: State) -> Tokens:
        """Exchange e-mail and password for tokens."""
        throttle: Throttle = state.throttle
        with throttle.attempt(data.email):
            async with reading(resources.pool) as db:
                found = await users.login_of(db, data.email)
            good = await verify_password(None if found is None else found.password_hash, data.password)
        if found is None or not good:
            raise unauthorized("E-mail or password is wrong: check both.", "bad_credentials")
        throttle.forgive(data.email)
        refresh_token = new_secret()
        async with transaction(resources.pool) as db:
            await users.start_family(
                db,
                found.user.id,
                resources.keys.refresh_token_hash(refresh_token),
                ttl_s=resources.settings.refresh_token_ttl_s,
            )
        return _tokens(resources, found.user, refresh_token)

    @post("/refresh", status_code=200)
    async def refresh(self, data: JSONBody[RefreshToken], resources: Injected) -> Tokens:
        """Exchange a refresh token for new tokens; it can be used once."""
        keys, next_token = resources.keys, new_secret()
        async with transaction(resources.pool) as db:
            user = await users.rotate(
                db,
                _hashes(keys, data.refresh_token),
                keys.refresh_token_hash(next_token),
                ttl_s=resources.settings.refresh_token_ttl_s,
            )
        if user is None:
            raise unauthorized("The refresh token has expired, was used before or was revoked: log in.", "bad_token")
        return _tokens(resources, user, next_token)

    @post("/logout", status_code=204)
    async def logout(self, data: JSONBody[RefreshToken], resources: Injected) -> None:
        """End the login that the refresh token belongs to."""
        async with transaction(resources.pool) as db:
            await users.revoke(db, _hashes(resources.keys, data.refresh_token))


def _hashes(keys: Keys, refresh_token: str) -> list[bytes]:
    """What may be stored of a token: its hash, and during a rotation of the master key that of before."""
    return [valid.refresh_token_hash(refresh_token) for valid in keys.valid]


def _tokens(resources: Resources, user: User, refresh_token: str) -> Tokens:
    ttl_s = resources.settings.access_token_ttl_s
    return Tokens(
        access_token=issue(resources.keys, user, resources.now(), ttl_s),
        refresh_token=refresh_token,
        expires_in=ttl_s,
    )
