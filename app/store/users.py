"""People, and the refresh tokens that keep them logged in."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg
import msgspec

from app.errors import InvalidInput
from app.ids import new_id
from app.store.db import Connection, Pool, affected, as_struct, as_struct_or_none


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    TRADER = "trader"
    ADMIN = "admin"

    def includes(self, least: "Role") -> bool:
        roles = list(Role)
        return roles.index(self) >= roles.index(least)


class User(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    email: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None = None


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What a login is checked against."""

    user: User
    password_hash: str

    def __repr__(self) -> str:
        return f"Login({self.user.id})"


USER_COLUMNS = "id, email, role, created_at, disabled_at"

CREATE = f"INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, $3, $4) RETURNING {USER_COLUMNS}"
BY_EMAIL = f"SELECT {USER_COLUMNS}, password_hash FROM users WHERE lower(email) = lower($1) AND disabled_at IS NULL"
FIND = f"SELECT {USER_COLUMNS} FROM users WHERE lower(email) = lower($1)"
ACTIVE = f"SELECT {USER_COLUMNS} FROM users WHERE id = $1 AND disabled_at IS NULL"
SET_PASSWORD = "UPDATE users SET password_hash = $2 WHERE id = $1"


async def create(connection: Connection, *, email: str, password_hash: str, role: Role) -> User:
    """Make a user. InvalidInput if the e-mail is taken."""
    try:
        async with connection.transaction():  # a savepoint: the caller's transaction survives the violation
            row = await connection.fetchrow(CREATE, new_id(), email, password_hash, role)
    except asyncpg.UniqueViolationError:
        raise InvalidInput("email_taken", f"There is already a user {email}: choose another e-mail.", "email") from None
    return as_struct(row, User)


async def login_of(connection: Connection | Pool, email: str) -> Login | None:
    """The user who may log in with this e-mail, whatever its case; None if there is none or they are disabled."""
    row = await connection.fetchrow(BY_EMAIL, email)
    return None if row is None else Login(user=as_struct(row, User), password_hash=row["password_hash"])


async def find(connection: Connection, email: str) -> User | None:
    """The user with this e-mail, disabled or not."""
    return as_struct_or_none(await connection.fetchrow(FIND, email), User)


async def active(connection: Connection | Pool, user_id: UUID) -> User | None:
    """The user as of now; None once disabled. Asked at each request, so that taking a right away works at once."""
    return as_struct_or_none(await connection.fetchrow(ACTIVE, user_id), User)


async def set_password(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Change the password and end every login."""
    await connection.execute(SET_PASSWORD, user_id, password_hash)
    await connection.execute(REVOKE_OF_USER, user_id)


INSERT_TOKEN = """
INSERT INTO refresh_tokens (id, user_id, token_hash, family, expires_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
"""

TOKEN_FOR_UPDATE = """
SELECT t.id, t.user_id, t.family, t.expires_at <= now() AS expired, t.used_at IS NOT NULL AS used,
       t.revoked_at IS NOT NULL AS revoked
  FROM refresh_tokens t
 WHERE t.token_hash = ANY($1)
   FOR UPDATE
"""

USE_TOKEN = "UPDATE refresh_tokens SET used_at = now() WHERE id = $1"
REVOKE_FAMILY = "UPDATE refresh_tokens SET revoked_at = now() WHERE family = $1 AND revoked_at IS NULL"
REVOKE_OF_USER = "UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL"
FAMILY_OF = "SELECT family FROM refresh_tokens WHERE token_hash = ANY($1)"
FORGET_EXPIRED = "DELETE FROM refresh_tokens WHERE user_id = $1 AND expires_at < now()"


async def start_family(connection: Connection, user_id: UUID, token_hash: bytes, *, ttl_s: int) -> None:
    """A login: the first token of a new family. The user's expired tokens go."""
    await connection.execute(FORGET_EXPIRED, user_id)
    await connection.execute(INSERT_TOKEN, new_id(), user_id, token_hash, new_id(), ttl_s)


async def rotate(connection: Connection, old_hashes: Sequence[bytes], new_hash: bytes, *, ttl_s: int) -> User | None:
    """Exchange a token (the hashes that it may be stored as) for the next of its family; None if it is no good.

    A token that was used before has two owners, one of them a thief: the whole family is revoked. The caller commits
    in both cases.
    """
    row = await connection.fetchrow(TOKEN_FOR_UPDATE, list(old_hashes))
    if row is None or row["expired"] or row["revoked"]:
        return None
    if row["used"]:
        await connection.execute(REVOKE_FAMILY, row["family"])
        return None
    user = await active(connection, row["user_id"])
    if user is None:
        await connection.execute(REVOKE_FAMILY, row["family"])
        return None
    await connection.execute(USE_TOKEN, row["id"])
    await connection.execute(INSERT_TOKEN, new_id(), user.id, new_hash, row["family"], ttl_s)
    return user


async def revoke(connection: Connection, token_hashes: Sequence[bytes]) -> bool:
    """End the login that a token belongs to; False if there was nothing to end."""
    family = await connection.fetchval(FAMILY_OF, list(token_hashes))
    return affected(await connection.execute(REVOKE_FAMILY, family)) > 0
