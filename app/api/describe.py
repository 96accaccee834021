"""The OpenAPI document, from which clients are generated: what the handlers say, and what only we know.

Litestar derives parameters, bodies and the good answer. Added here: every refusal as problem+json, who needs no login,
short names, the alert's body, which is read whatever its type is, and an example of each body.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

from litestar import Request
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import Method

from app.alerts.recognise import FORMATS
from app.api.problems import MEDIA_TYPE, OF_STATUS, RETRY_AFTER_S, TITLES

Json = dict[str, Any]

ABOUT: Final = """Takes charting alerts, trades them at crypto exchanges and manages the positions.

Log in with `POST /api/v1/auth/login` and send the `access_token` as a bearer token. Alerts need no login: they
carry the secret of their strategy. Money, prices and quantities are decimal texts. Whatever is refused is answered
as `application/problem+json`: `code` is stable and for programs, `detail` is a sentence for people."""

TAGS: Final = {
    "alerts": "Alerts as they come in, and what became of them.",
    "auth": "Log in, stay logged in, log out.",
    "positions": "What is held, what protects it, and how it differs from the exchange.",
    "strategies": "What alerts are addressed to.",
    "accounts": "Accounts at exchanges. Their keys go in and never come out.",
    "health": "Is every part there?",
}

PARAMETERS: Final = {
    "account": "The id of an account.",
    "account_id": "The account's id.",
    "alert_id": "The alert's id, as it was answered on delivery.",
    "at": "The instant to judge by instead of now, such as 2026-11-21T12:00:00Z.",
    "held": "What is held instead of what is: `long:1.5`, `short:2` or `flat`.",
    "position_id": "The position's id.",
    "secret": "The strategy's secret.",
    "status": "Only those of this status.",
    "strategy": "The strategy's id.",
    "strategy_id": "The strategy's id.",
    "symbol": "The exchange's name of the instrument, such as BTCUSDT.",
}

_SAID: Final = {
    **{status: (TITLES[status], *said) for status, said in OF_STATUS.items()},
    401: (TITLES[401], "unauthorized", "Log in first: send an access token from /api/v1/auth/login as a bearer token."),
    409: (TITLES[409], "already_closed", "This position is closed already."),
    422: (TITLES[422], "bad_value", "name can't be used (Expected str, got int): correct it."),
    429: (TITLES[429], "too_many_logins", "Too many wrong passwords for this e-mail: try again in 42 s."),
    503: (
        TITLES[503],
        "unavailable",
        "The database can't be reached right now, so nothing was changed: try again in 5 s.",
    ),
}
_NAMES: Final = {
    400: "BadRequest", 401: "NotLoggedIn", 403: "NotAllowed", 404: "NotFound", 409: "Conflict", 413: "TooLarge",
    422: "CantBeUsed", 429: "TooMany", 503: "NotAvailable",
}  # fmt: skip
_DESCRIPTIONS: Final = {
    400: "The request or its JSON can't be read.",
    401: "No access token, or one that has expired; of an alert: the secret is wrong, or there is no such strategy.",
    403: "The user's role does not allow it.",
    404: "There is nothing here by this id.",
    409: "It can't be done as things are now: `code` says why.",
    413: "The body is too large.",
    422: "What was sent can't be used: `code` and `detail` say why, `field` says where.",
    429: "Too many attempts: wait for as long as `Retry-After` says.",
    503: "The database or the exchange does not answer: send the same again after `Retry-After` seconds.",
}
_DONE: Final = {"200": "Done.", "201": "Made.", "202": "Taken: it is stored and will be carried out.", "204": "Done."}

_DECIMAL: Final = {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]}
_ALERT: Final = {
    "secret": "the strategy's secret", "symbol": "BYBIT:BTCUSDT.P", "action": "buy", "size": {"quote": 200},
    "stop_loss": {"pct": 1.5},
}  # fmt: skip
_ACCOUNT_ID: Final = "01930000-0000-7000-8000-000000000001"
_EXAMPLES: Final[dict[str, Any]] = {
    "login": {"email": "admin@example.com", "password": "correct horse battery staple"},
    "refresh": {"refresh_token": "kQ3hX7aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567890"},
    "logout": {"refresh_token": "kQ3hX7aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567890"},
    "adopt_position": {
        "account": _ACCOUNT_ID, "symbol": "BTCUSDT", "strategy": "demo", "exits": {"stop_loss": {"pct": 1.5}},
    },
    "change_exits": {"stop_loss": {"price": "63000"}, "take_profit": None},
    "close_position": {"fraction": "0.5"},
    "create_strategy": {
        "name": "My strategy", "accounts": [{"account": _ACCOUNT_ID, "multiplier": "1"}],
        "defaults": {"size": {"quote": 200}, "stop_loss": {"pct": 1.5}}, "limits": {"max_notional": "1000"},
    },
    "change_strategy": {"enabled": False},
    "rotate_secret": {"overlap_s": 3600},
    "add_signing_key": {"overlap_s": 3600},
    "create_account": {
        "name": "testnet", "venue": "bybit", "environment": "testnet", "api_key": "key", "api_secret": "secret",
    },
    "change_account": {"name": "my testnet"},
    "verify_account": {"symbol": "BTCUSDT"},
    "deliver_alert": _ALERT,
    "explain_alert": _ALERT,
}  # fmt: skip


class Described(JsonRenderPlugin):
    """The document as JSON, complete."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        return super().render(request, described(openapi_schema))


def operation_id(handler: HTTPRouteHandler, method: Method, path: list[Any]) -> str:
    """The handler's own name: `list_alerts`."""
    return handler.handler_name


def described(derived: Json) -> Json:
    """The document that Litestar derived, with all that it does not know."""
    document = deepcopy(derived)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(path, method, operation)
    document["components"]["responses"] = {_NAMES[status]: _refusal(status) for status in _NAMES}
    _complete_schemas(document)
    return document


def _describe(path: str, method: str, operation: Json) -> None:
    about = re.sub(r"\s+", " ", operation.get("description", "")).strip()
    first, _, rest = about.partition(". ")
    operation["summary"] = first.removesuffix(".")
    operation["description"] = about if rest else first
    # Litestar gives those that a handler does not name in no order.
    operation.get("parameters", []).sort(key=lambda one: (one["in"] != "path", path.find(f"{{{one['name']}}}")))
    for parameter in operation.get("parameters", []):
        parameter.setdefault("description", PARAMETERS.get(parameter["name"], ""))
    responses = operation["responses"]
    responses.pop("400", None)  # Litestar's own form of an error, which is never answered
    for status, response in responses.items():
        response["description"] = _DONE.get(status, response["description"])
    if path.startswith("/webhook/"):
        operation["requestBody"] = _alert_body()
        if "202" in responses:
            responses["200"] = {**responses["202"], "description": "It was here already, and is not carried out again."}
    body = operation.get("requestBody", {})
    for content in body.get("content", {}).values():
        body["required"] = {"type": "null"} not in content["schema"].get("oneOf", ())
    if not needs_login(path):
        operation["security"] = []
    example = _EXAMPLES.get(operation["operationId"])
    if example is not None:
        for content in body.get("content", {}).values():
            content["examples"] = {"typical": {"value": example}}
    if path == "/health/ready":
        responses["503"] = {**responses["200"], "description": "A part is missing: the checks say which."}
    for status in _refusals(path, method, operation):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{_NAMES[status]}"})
    operation["responses"] = dict(sorted(responses.items()))


def needs_login(path: str) -> bool:
    return path.startswith("/api/v1/") and not path.startswith("/api/v1/auth/")


def _refusals(path: str, method: str, operation: Json) -> Iterator[int]:
    """The statuses with which it may refuse."""
    alert, login = path.startswith("/webhook/"), path == "/api/v1/auth/login"
    if "requestBody" in operation:
        yield from (400, 413, 422)
    if path.startswith("/api/v1/"):
        yield 422  # a parameter in the address that is unknown
    if needs_login(path):
        yield from (401, 403)
    if alert or path in ("/api/v1/auth/login", "/api/v1/auth/refresh"):
        yield 401
    if "{" in path:
        yield 404
    if (needs_login(path) and method != "get") or (alert and not path.endswith("/explain")):
        yield 409
    if login:
        yield 429
    if path.startswith(("/api/v1/", "/webhook/")):
        yield 503


def _refusal(status: int) -> Json:
    title, code, detail = _SAID[status]
    value = {"title": title, "status": status, "code": code, "detail": detail}
    said: Json = {
        "description": _DESCRIPTIONS[status],
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {code: {"value": value}}}
        },
    }
    if status in (429, 503):
        said["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}, "example": RETRY_AFTER_S}
        }
    return said


def _alert_body() -> Json:
    """Of any type: JSON in one of many formats, or text."""
    return {
        "description": "The alert, in any of the formats that are read; the type of the content does not matter.",
        "required": True,
        "content": {MediaType.JSON.value: {"schema": {}}, MediaType.TEXT.value: {"schema": {"type": "string"}}},
    }


def _complete_schemas(document: Json) -> None:
    schemas: Json = document["components"]["schemas"]
    for name in _sent(document):
        schemas[name].setdefault("additionalProperties", False)  # a misspelt field is refused
    for name, field in (("Share", "multiplier"), ("Close", "fraction"), ("Limits", "max_notional")):
        old = schemas[name]["properties"][field]
        nullable = [{"type": "null"}] if "oneOf" in old else []
        schemas[name]["properties"][field] = {"anyOf": [*_DECIMAL["anyOf"], *nullable]}
    schemas["CreateStrategy"]["properties"]["format"] |= {"enum": list(FORMATS)}
    schemas["Problem"] = _PROBLEM
    renamed = {name: _short(name) for name in schemas}
    assert len(set(renamed.values())) == len(schemas), "two would bear one name"
    document["components"]["schemas"] = {renamed[name]: schema for name, schema in sorted(schemas.items())}
    for holder in _objects(document):
        prefix, _, name = holder.get("$ref", "").rpartition("/")
        if prefix == "#/components/schemas":
            holder["$ref"] = f"{prefix}/{renamed[name]}"


_PROBLEM: Final[Json] = {
    "title": "Problem",
    "description": "Why something was not done (RFC 9457; `type` is left out: it is about:blank).",
    "type": "object",
    "required": ["title", "status", "code", "detail"],
    "properties": {
        "title": {"type": "string", "description": "The kind of refusal in two words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "code": {"type": "string", "description": "Stable, for programs.", "pattern": "^[a-z][a-z0-9_]*$"},
        "detail": {"type": "string", "description": "What to do about it, for people."},
        "field": {"type": "string", "description": "The path of the field that is to blame, if one is."},
    },
}


def _short(name: str) -> str:
    """`Page_app.api.accounts.AccountJson_` -> `AccountPage`, `api_health_Check` -> `HealthCheck`."""
    if page := re.fullmatch(r"Page_.*?(\w+?)(?:Json|View)?_", name):
        return f"{page[1]}Page"
    if "_" in name:
        return "".join(part[:1].upper() + part[1:] for part in name.split("_")[1:])
    return re.sub(r"(?<=.)(?:Json|View)$", "", name) if name != "ShareJson" else "AccountShare"


def _sent(document: Json) -> set[str]:
    """The schemas of what clients send, with those inside of them."""
    schemas = document["components"]["schemas"]
    waiting = [op["requestBody"] for path in document["paths"].values() for op in path.values() if "requestBody" in op]
    found: set[str] = set()
    while waiting:
        for holder in _objects(waiting.pop()):
            name = holder.get("$ref", "").rpartition("/")[2]
            if name and name not in found and schemas[name].get("type") == "object":
                found.add(name)
                waiting.append(schemas[name])
    return found


def _objects(value: Any) -> Iterator[Json]:
    """Every object in it, itself included."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _objects(child)
    elif isinstance(value, list):
        for child in value:
            yield from _objects(child)
