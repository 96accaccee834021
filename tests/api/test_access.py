"""Every route, found by asking the application: closed to strangers and to roles below the one written here."""

import re
from collections.abc import Callable
from uuid import uuid4

import httpx
import jwt
import pytest
from litestar.routes import HTTPRoute

from app.api.tokens import issue
from app.main import create_app
from app.resources import Resources
from app.store import users
from app.store.db import transaction
from app.store.users import Role, User

PUBLIC = {
    ("POST", "/webhook/{strategy}"),
    ("POST", "/webhook/{strategy}/{secret}"),
    ("POST", "/webhook/{strategy}/explain"),
    ("POST", "/webhook/{strategy}/{secret}/explain"),
    ("POST", "/api/v1/auth/login"),
    ("POST", "/api/v1/auth/refresh"),
    ("POST", "/api/v1/auth/logout"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/schema/{path}"),  # answers 404
}
LEAST_ROLE = {
    ("GET", "/api/v1/alerts"): Role.VIEWER,
    ("GET", "/api/v1/alerts/rejected"): Role.VIEWER,
    ("GET", "/api/v1/alerts/{alert_id}"): Role.VIEWER,
    ("GET", "/api/v1/positions"): Role.VIEWER,
    ("GET", "/api/v1/positions/{position_id}"): Role.VIEWER,
    ("POST", "/api/v1/positions/{position_id}/close"): Role.TRADER,
    ("PATCH", "/api/v1/positions/{position_id}/exits"): Role.TRADER,
    ("POST", "/api/v1/positions/adopt"): Role.TRADER,
    ("GET", "/api/v1/drifts"): Role.VIEWER,
    ("GET", "/api/v1/strategies"): Role.ADMIN,
    ("POST", "/api/v1/strategies"): Role.ADMIN,
    ("GET", "/api/v1/strategies/{strategy_id}"): Role.ADMIN,
    ("PATCH", "/api/v1/strategies/{strategy_id}"): Role.ADMIN,
    ("DELETE", "/api/v1/strategies/{strategy_id}"): Role.ADMIN,
    ("POST", "/api/v1/strategies/{strategy_id}/secrets"): Role.ADMIN,
    ("GET", "/api/v1/strategies/{strategy_id}/signing-keys"): Role.ADMIN,
    ("POST", "/api/v1/strategies/{strategy_id}/signing-keys"): Role.ADMIN,
    ("DELETE", "/api/v1/strategies/{strategy_id}/signing-keys"): Role.ADMIN,
    ("GET", "/api/v1/accounts"): Role.ADMIN,
    ("POST", "/api/v1/accounts"): Role.ADMIN,
    ("GET", "/api/v1/accounts/{account_id}"): Role.ADMIN,
    ("PATCH", "/api/v1/accounts/{account_id}"): Role.ADMIN,
    ("DELETE", "/api/v1/accounts/{account_id}"): Role.ADMIN,
    ("POST", "/api/v1/accounts/{account_id}/verify"): Role.ADMIN,
}
UNKNOWN_ID = "01900000-0000-7000-8000-000000000000"


def routes_of(resources: Resources) -> set[tuple[str, str]]:
    return {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in create_app(resources).routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }


def path_of(template: str) -> str:
    return re.sub(r"{\w+}", UNKNOWN_ID, template)


def test_every_route_is_in_one_of_the_two_lists(resources: Resources) -> None:
    assert routes_of(resources) == PUBLIC | LEAST_ROLE.keys()


@pytest.mark.parametrize(("method", "template"), sorted(LEAST_ROLE))
async def test_strangers_are_kept_out(anyone: httpx.AsyncClient, method: str, template: str) -> None:
    for headers in (
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer x.y.z"},
        {"authorization": "Basic YTpi"},
    ):
        answer = await anyone.request(method, path_of(template), headers=headers)
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


async def test_options_answers_nothing_to_strangers(anyone: httpx.AsyncClient) -> None:
    assert (await anyone.options("/api/v1/accounts")).status_code == 401


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("method", "template"), sorted(LEAST_ROLE))
async def test_a_role_gets_in_from_its_own_routes_on(
    as_role: Callable[[Role], httpx.AsyncClient], role: Role, method: str, template: str
) -> None:
    answer = await as_role(role).request(method, path_of(template).removeprefix("/api/v1"))
    if role.includes(LEAST_ROLE[method, template]):
        assert answer.status_code in (200, 404, 422), answer.text
    else:
        assert answer.status_code == 403
        assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize(
    "path", ["/webhook", "/hook", "/health", "/api/v1/auth", "/api/v1/x/webhook/y", "/api/v1/schema"]
)
async def test_near_a_public_route_there_is_nothing(anyone: httpx.AsyncClient, path: str) -> None:
    assert (await anyone.post(path)).status_code == 404


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_forged_and_outdated_tokens_are_refused(
    anyone: httpx.AsyncClient, resources: Resources, people: dict[Role, User]
) -> None:
    user, keys, now = people[Role.ADMIN], resources.keys, resources.now()
    good = {
        "iss": "levelhead",
        "sub": str(user.id),
        "role": "admin",
        "iat": now,
        "exp": now.timestamp() + 60,
        "jti": "1",
    }
    bad = [
        jwt.encode(good, b"another key of thirty-two bytes!", algorithm="HS256"),
        jwt.encode(good, keys.install, algorithm="HS256"),
        jwt.encode(good, "", algorithm="none"),
        jwt.encode(good, keys.access_token, algorithm="HS384"),
        jwt.encode(good | {"iss": "another"}, keys.access_token, algorithm="HS256"),
        jwt.encode(good | {"exp": now.timestamp() - 1}, keys.access_token, algorithm="HS256"),
        jwt.encode({k: v for k, v in good.items() if k != "exp"}, keys.access_token, algorithm="HS256"),
        jwt.encode(good | {"sub": "admin"}, keys.access_token, algorithm="HS256"),
        jwt.encode(good | {"sub": str(uuid4())}, keys.access_token, algorithm="HS256"),
    ]
    for token in bad:
        answer = await anyone.get("/api/v1/accounts", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert answer.json()["code"] == "bad_token"
    token = jwt.encode(good, keys.access_token, algorithm="HS256")
    assert (await anyone.get("/api/v1/accounts", headers={"authorization": f"bearer {token}"})).status_code == 200


async def test_a_right_that_was_taken_away_ends_at_once(
    anyone: httpx.AsyncClient, resources: Resources, password_hash: str
) -> None:
    async with transaction(resources.pool) as db:
        user = await users.create(db, email="leaver@example.com", password_hash=password_hash, role=Role.ADMIN)
    headers = {"authorization": f"Bearer {issue(resources.keys, user, resources.now(), 900)}"}
    assert (await anyone.get("/api/v1/accounts", headers=headers)).status_code == 200
    await resources.pool.execute("UPDATE users SET role = 'viewer' WHERE id = $1", user.id)
    assert (await anyone.get("/api/v1/accounts", headers=headers)).status_code == 403
    await resources.pool.execute("UPDATE users SET disabled_at = now() WHERE id = $1", user.id)
    assert (await anyone.get("/api/v1/accounts", headers=headers)).status_code == 401
