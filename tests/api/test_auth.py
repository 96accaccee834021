from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from app.api.problems import Problem
from app.api.throttle import AT_ONCE_MAX, ATTEMPTS_MAX, NAMES_MAX, WINDOW_S, Throttle
from app.resources import Resources
from app.store import users
from app.store.db import transaction
from app.store.users import Role, User

from .conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("people")


async def login(client: httpx.AsyncClient, email: str = "trader@example.com") -> dict[str, Any]:
    answer = await client.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/v1/auth/refresh", json={"refresh_token": token})


async def test_login_gives_tokens_that_work(
    anyone: httpx.AsyncClient, resources: Resources, people: dict[Role, User]
) -> None:
    tokens = await login(anyone, "TRADER@Example.com")
    assert tokens["expires_in"] == 900
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims.keys() == {"iss", "sub", "role", "iat", "exp", "jti"}
    assert claims["sub"] == str(people[Role.TRADER].id)
    assert claims["exp"] - claims["iat"] == 900
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    assert (await anyone.get("/api/v1/positions", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("email", "password"),
    [("viewer@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("viewer@example.com", ""), ("", PASSWORD)],
)
async def test_a_wrong_login_does_not_say_what_was_wrong(anyone: httpx.AsyncClient, email: str, password: str) -> None:
    answer = await anyone.post("/api/v1/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 401
    assert answer.json()["code"] == "bad_credentials"
    assert answer.json()["detail"] == "E-mail or password is wrong: check both."


async def test_a_disabled_user_can_neither_log_in_nor_refresh(
    anyone: httpx.AsyncClient, resources: Resources, password_hash: str
) -> None:
    async with transaction(resources.pool) as db:
        user = await users.create(db, email="gone@example.com", password_hash=password_hash, role=Role.VIEWER)
    tokens = await login(anyone, "gone@example.com")
    await resources.pool.execute("UPDATE users SET disabled_at = now() WHERE id = $1", user.id)
    assert (await refresh(anyone, tokens["refresh_token"])).status_code == 401
    answer = await anyone.post("/api/v1/auth/login", json={"email": "gone@example.com", "password": PASSWORD})
    assert answer.status_code == 401


async def test_refresh_rotates(anyone: httpx.AsyncClient) -> None:
    first = (await login(anyone))["refresh_token"]
    second = (await refresh(anyone, first)).json()["refresh_token"]
    third = (await refresh(anyone, second)).json()["refresh_token"]
    assert len({first, second, third}) == 3


async def test_reuse_revokes_the_whole_family_and_no_other(anyone: httpx.AsyncClient) -> None:
    stolen = (await login(anyone))["refresh_token"]
    other = (await login(anyone))["refresh_token"]
    newest = (await refresh(anyone, stolen)).json()["refresh_token"]
    assert (await refresh(anyone, stolen)).status_code == 401
    answer = await refresh(anyone, newest)
    assert answer.status_code == 401
    assert answer.json()["code"] == "bad_token"
    assert (await refresh(anyone, other)).status_code == 200


async def test_logout_ends_the_login_and_may_be_repeated(anyone: httpx.AsyncClient) -> None:
    token = (await login(anyone))["refresh_token"]
    newest = (await refresh(anyone, token)).json()["refresh_token"]
    for _ in range(2):
        assert (await anyone.post("/api/v1/auth/logout", json={"refresh_token": newest})).status_code == 204
    assert (await refresh(anyone, newest)).status_code == 401


async def test_an_expired_refresh_token_is_refused(anyone: httpx.AsyncClient, resources: Resources) -> None:
    token = (await login(anyone))["refresh_token"]
    await resources.pool.execute(
        "UPDATE refresh_tokens SET expires_at = now() WHERE token_hash = $1", resources.keys.refresh_token_hash(token)
    )
    assert (await refresh(anyone, token)).status_code == 401


async def test_the_token_itself_is_not_stored(anyone: httpx.AsyncClient, resources: Resources) -> None:
    token = (await login(anyone))["refresh_token"]
    rows = await resources.pool.fetch("SELECT t::text AS text FROM refresh_tokens t")
    assert rows
    assert not any(token in row["text"] for row in rows)


async def test_a_new_password_ends_every_login(
    anyone: httpx.AsyncClient, resources: Resources, password_hash: str
) -> None:
    async with transaction(resources.pool) as db:
        user = await users.create(db, email="renewed@example.com", password_hash=password_hash, role=Role.VIEWER)
    token = (await login(anyone, "renewed@example.com"))["refresh_token"]
    async with transaction(resources.pool) as db:
        await users.set_password(db, user.id, password_hash)
    assert (await refresh(anyone, token)).status_code == 401


async def test_guessing_is_slowed_down(anyone: httpx.AsyncClient) -> None:
    email = f"{uuid4()}@example.com"
    for _ in range(ATTEMPTS_MAX):
        assert (await anyone.post("/api/v1/auth/login", json={"email": email, "password": "x"})).status_code == 401
    answer = await anyone.post("/api/v1/auth/login", json={"email": email.upper(), "password": "x"})
    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_logins"
    assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S
    await login(anyone)  # others are not concerned


def test_the_throttle_forgets_with_time_and_with_success() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)

    def fails() -> bool:
        try:
            with throttle.attempt("a"):
                return False
        except Problem:
            return True

    assert [fails() for _ in range(ATTEMPTS_MAX + 2)] == [False] * ATTEMPTS_MAX + [True] * 2
    now = WINDOW_S
    assert not fails()
    for _ in range(3 * ATTEMPTS_MAX):
        assert not fails()
        throttle.forgive("A")


def test_the_throttle_is_bounded() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(NAMES_MAX + 10):
        with throttle.attempt(str(number)):
            pass
    assert len(throttle._attempts) == NAMES_MAX
    running = [throttle.attempt(f"r{number}") for number in range(AT_ONCE_MAX)]
    for one in running:
        one.__enter__()
    with pytest.raises(Problem, match="right now"), throttle.attempt("one more"):
        pass
    for one in running:
        one.__exit__(None, None, None)
    with throttle.attempt("one more"):
        pass


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"email": "a"}, "missing_field", "password"),
        ({"email": "a", "password": "b", "otp": 1}, "unknown_field", "otp"),
        ({"email": ["a"], "password": "b"}, "bad_value", "email"),
        ({"email": "a", "password": "b" * 2000}, "bad_value", "password"),
        ([], "bad_value", None),
    ],
)
async def test_what_is_wrong_with_a_body_is_named(
    anyone: httpx.AsyncClient, body: object, code: str, field: str | None
) -> None:
    answer = await anyone.post("/api/v1/auth/login", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code
    assert answer.json().get("field") == field
