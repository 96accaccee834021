"""Every error as RFC 9457 problem+json: `code` for programs, `detail` for people, `field` where one is to blame."""

import logging
import re
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException

from app.errors import Conflict, InvalidInput, LevelheadError, Refused, StoreUnavailable, VenueError
from app.flows.door import StaleSignature, Unauthorized
from app.flows.receive import KeyConflict
from app.log import event
from app.store.db import NO_TEXT, UNAVAILABLE

log = logging.getLogger("api")

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5


class Problem(LevelheadError):
    """An answer that is an error, from the HTTP layer itself."""

    def __init__(
        self, status: int, code: str, detail: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = headers or {}


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`type` is left out: it is about:blank, the code tells the kind."""

    title: str
    status: int
    code: str
    detail: str
    field: str | None = None


TITLES: Final = {
    400: "Bad request",
    401: "Not logged in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    422: "Can't be used",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
}

STATUS_OF_CODE: Final = {
    "signature_missing": 401,
    "certificate_missing": 403,
    "source_not_allowed": 403,
    "email_taken": 409,
    "name_taken": 409,
    "id_taken": 409,
}
"""InvalidInput is 422, except where HTTP has a word for it."""

# What Litestar itself says, by status. Its own words may repeat the path, and a webhook's path may hold its secret.
OF_STATUS: Final = {
    400: ("bad_request", "The request can't be read: check its address, headers and body."),
    401: ("unauthorized", "Log in first: send an access token from /api/v1/auth/login as a bearer token."),
    403: ("forbidden", "Your role does not allow this: ask an admin."),
    404: ("not_found", "There is nothing at this address: check it for misspellings."),
    405: ("method_not_allowed", "This address does not take this method: see /schema for those that it takes."),
    413: ("body_too_large", "The body is too large: shorten it."),
}

_MISSING = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `([^`]+)`")


def not_found(what: str) -> Problem:
    return Problem(404, "not_found", f"There is no such {what}: it never was, or was removed.")


def unauthorized(detail: str = OF_STATUS[401][1], code: str = "unauthorized") -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})


def on_error(request: Request[Any, Any, Any], error: Exception) -> Response[ProblemBody]:
    """The one exception handler."""
    problem = _problem(error)
    if problem is None:
        # The template, not the path: a webhook's path may hold its secret.
        where = f"{request.scope['method']} {request.scope.get('path_template', '?')}"
        event(log, logging.ERROR, "unexpected error", at=where, error=type(error).__name__)
        log.error("%s", where, exc_info=error)
        problem = Problem(
            500, "internal_error", "Something went wrong inside Levelhead: its log says what. Try again, or report it."
        )
    return Response(
        ProblemBody(
            title=TITLES.get(problem.status, "Error"),
            status=problem.status,
            code=problem.code,
            detail=problem.detail,
            field=problem.field,
        ),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def _problem(error: Exception) -> Problem | None:
    """The problem that an error is to its sender; None if it is a bug of ours."""
    match error:
        case Problem():
            return error
        case InvalidInput():
            return Problem(STATUS_OF_CODE.get(error.code, 422), error.code, error.detail, error.field)
        case Conflict():
            return Problem(409, error.kind or "conflict", _sentence(error))
        case Refused():
            return Problem(422, error.code, _sentence(error))
        case VenueError():
            return Problem(
                503,
                "venue_unavailable",
                f"The exchange did not answer: try again in {RETRY_AFTER_S} s.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        case StoreUnavailable():
            return _unavailable(error)
        case StaleSignature():
            return Problem(401, "stale_signature", _sentence(error))
        case Unauthorized():
            return Problem(401, "unauthorized", "The secret is wrong, or there is no such strategy: check both.")
        case KeyConflict():
            return Problem(409, "key_conflict", _sentence(error))
        case ValidationException():
            return _invalid(error)
        case SerializationException():
            return Problem(400, "not_json", "The body is not JSON: send a JSON object.")
        case HTTPException() if error.status_code < 500:
            code, detail = OF_STATUS.get(error.status_code, ("bad_request", OF_STATUS[400][1]))
            return Problem(error.status_code, code, detail, headers=dict(error.headers or {}))
        case RecursionError() if "deserializing" in str(error):
            return Problem(400, "not_json", "The body is nested absurdly deep: send the fields that are asked for.")
        case _ if isinstance(error, UNAVAILABLE):
            return _unavailable(error)
        case _ if isinstance(error, NO_TEXT):
            return Problem(422, "bad_character", "The request holds a character that is no text (U+0000): remove it.")
        case _:
            return None


def _sentence(error: Exception) -> str:
    """An error's message as a sentence of its own."""
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _unavailable(error: Exception) -> Problem:
    event(log, logging.WARNING, "answered 503", error=type(error).__name__, why=str(error))
    return Problem(
        503,
        "unavailable",
        f"The database can't be reached right now, so nothing was changed: try again in {RETRY_AFTER_S} s.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _invalid(error: ValidationException) -> Problem:
    """Litestar's list of what is wrong with body or query -> the first of it, by name."""
    extra = error.extra if isinstance(error.extra, list) else []
    first: dict[str, str] = extra[0] if extra else {}
    message = first.get("message", "")
    key = first.get("key", "")
    field = "" if key == "data" else key
    for pattern, code, text in (
        (_MISSING, "missing_field", "is missing: add it."),
        (_UNKNOWN, "unknown_field", "is not a field here: remove it, or correct its spelling."),
    ):
        if found := pattern.search(message):
            name = ".".join(part for part in (field, found[1]) if part)
            return Problem(422, code, f"{name} {text}", name)
    # "Expected `decimal`, got `str`" is short and right; values are never repeated, they may be secrets.
    said = "" if "Invalid enum value" in message else message.replace("`", "")
    name = field or "The body"
    return Problem(422, "bad_value", f"{name} can't be used{f' ({said})' if said else ''}: correct it.", field or None)
