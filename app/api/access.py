"""Who may do what. Every route is closed unless it says otherwise, so that a forgotten word locks out, not in.

A handler or controller carries `opt=PUBLIC` or `opt=at_least(Role.…)`; one without either is for admins.
"""

from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from app.api.problems import OF_STATUS, Problem, unauthorized
from app.api.tokens import user_id_of
from app.resources import Resources
from app.store import users
from app.store.users import Role, User
from app.store.views import reading

PUBLIC: Final = {"public": True}
SCHEME: Final = "bearer "


def at_least(role: Role) -> dict[str, Any]:
    return {"role": role}


async def require_access(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of the whole application but the door, see `main`."""
    if handler.opt.get("public") is True:
        return
    resources: Resources = connection.app.state.resources
    user = await _user(connection, resources)
    connection.scope["user"] = user
    if not user.role.includes(handler.opt.get("role", Role.ADMIN)):
        raise Problem(403, *OF_STATUS[403])


async def _user(connection: ASGIConnection[Any, Any, Any, Any], resources: Resources) -> User:
    header = connection.headers.get("authorization", "")
    if header[: len(SCHEME)].lower() != SCHEME:
        raise unauthorized()
    user_id = user_id_of(resources.keys, header[len(SCHEME) :].strip())
    if user_id is None:
        raise unauthorized("The access token has expired or is not ours: refresh it, or log in again.", "bad_token")
    async with reading(resources.pool) as db:
        user = await users.active(db, user_id)
    if user is None:
        raise unauthorized("This user was disabled: ask an admin.", "bad_token")
    return user
