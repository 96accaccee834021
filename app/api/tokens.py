"""Access tokens: JWT, HS256, short-lived. They say who somebody is; what they may do is asked of the database."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import jwt

from app.keys import Keys
from app.store.users import User

ISSUER: Final = "levelhead"
ALGORITHM: Final = "HS256"


def issue(keys: Keys, user: User, now: datetime, ttl_s: int) -> str:
    claims = {
        "iss": ISSUER,
        "sub": str(user.id),
        "role": user.role.value,
        "iat": now,
        "exp": now + timedelta(seconds=ttl_s),
        "jti": str(uuid4()),
    }
    return jwt.encode(claims, keys.access_token, algorithm=ALGORITHM)


def user_id_of(keys: Keys, token: str) -> UUID | None:
    """Whose valid token this is; None if it is forged, expired or anything else.

    One of before a rotation of the master key is good until it expires, while that key is still configured.
    """
    for valid in keys.valid:
        with suppress(jwt.InvalidTokenError, ValueError):
            claims = jwt.decode(
                token,
                valid.access_token,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"require": ["iss", "sub", "iat", "exp", "jti"]},
            )
            return UUID(claims["sub"])
    return None
