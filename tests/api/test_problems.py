import logging
from typing import Any

import httpx
import pytest

from app.api.problems import on_error
from app.errors import Conflict, InvalidInput, OutcomeUnknown, Refused, Transient
from app.store import views


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    assert (answer.status_code, found["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert found["status"] == status
    assert found["title"]
    assert found["detail"].endswith(".")
    return found


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api/v1/nothing", "/webhook", "/schema/nothing.json", "/webhook/a/b/c"]
)
async def test_an_unknown_address_is_404(anyone: httpx.AsyncClient, path: str) -> None:
    is_problem(await anyone.get(path), 404, "not_found")


async def test_another_method_is_405(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/webhook/x")
    is_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"null"])
async def test_a_body_that_is_no_json_is_refused(anyone: httpx.AsyncClient, body: bytes) -> None:
    answer = await anyone.post("/api/v1/auth/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/x-www-form-urlencoded", "text/xml", "x"])
async def test_another_content_type_breaks_nothing(anyone: httpx.AsyncClient, content_type: str) -> None:
    answer = await anyone.post("/api/v1/auth/login", content=b"a=b", headers={"content-type": content_type})
    assert 400 <= answer.status_code < 500
    is_problem(answer, answer.status_code, answer.json()["code"])


async def test_a_large_body_is_413(anyone: httpx.AsyncClient) -> None:
    is_problem(await anyone.post("/api/v1/auth/login", content=b" " * 1_100_000), 413, "body_too_large")


async def test_a_bug_is_500_tells_nothing_and_is_logged(
    viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object, **named: object) -> None:
        raise RuntimeError("inner detail")

    monkeypatch.setattr(views, "alerts", broken)
    with caplog.at_level(logging.ERROR):
        answer = await viewer.get("/alerts")
    is_problem(answer, 500, "internal_error")
    assert "inner" not in answer.text
    assert "inner detail" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInput("some_code", "Do this.", "a.b"), 422, "some_code"),
        (InvalidInput("name_taken", "Do this.", "name"), 409, "name_taken"),
        (Conflict("it moved"), 409, "conflict"),
        (Conflict("it is closed", kind="already_closed"), 409, "already_closed"),
        (Refused("unknown_symbol", "it is not listed"), 422, "unknown_symbol"),
        (Transient("no connection"), 503, "venue_unavailable"),
        (OutcomeUnknown("no answer"), 503, "venue_unavailable"),
        (TimeoutError(), 503, "unavailable"),
        (ConnectionRefusedError(), 503, "unavailable"),
    ],
)
def test_each_error_has_its_answer(error: Exception, status: int, code: str) -> None:
    answer = on_error(None, error)  # type: ignore[arg-type]
    assert (answer.status_code, answer.content.code, answer.content.status) == (status, code, status)
    assert answer.content.detail.endswith(".")
    assert answer.content.field == getattr(error, "field", None)


async def test_every_answer_has_the_security_headers(anyone: httpx.AsyncClient) -> None:
    for answer in (
        await anyone.get("/health/live"),
        await anyone.get("/nothing"),
        await anyone.get("/api/v1/alerts"),
        await anyone.post("/webhook/x", content=b"{"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


async def test_the_schema_is_public_and_loads_nothing_from_elsewhere(anyone: httpx.AsyncClient) -> None:
    for path in ("/schema", "/schema/openapi.json"):
        answer = await anyone.get(path)
        assert answer.status_code == 200
        assert "json" in answer.headers["content-type"]
        assert "/api/v1/positions/{position_id}/close" in answer.json()["paths"]
        first = {path.split("/")[1] for path in answer.json()["paths"]}
        assert first == {"webhook", "api", "health", "metrics"}


FAR = (
    "MDAwMS0wMS0wMVQwMDowMDowMCsxMjowMCAwMTkwMDAwMC0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDA="  # year 1, twelve hours east
)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/positions?strategy=%00", "bad_character"),
        ("/positions?symbol=%00", "bad_character"),
        ("/alerts?strategy=a%00b", "bad_character"),
        ("/strategies/%00", "bad_character"),
        ("/strategies?cursor=YQA=", "bad_character"),
        (f"/positions?cursor={FAR}", "bad_cursor"),
        (f"/drifts?cursor={FAR}", "bad_cursor"),
    ],
)
async def test_what_the_database_cannot_take_is_refused(admin: httpx.AsyncClient, path: str, code: str) -> None:
    is_problem(await admin.get(path), 422, code)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/v1/auth/login", '{"email": "a\\u0000", "password": "b"}', 422, "bad_character"),
        ("/webhook/%00", "{}", 401, "unauthorized"),  # as any strategy that there is not
        ("/webhook/%00/explain", "{}", 401, "unauthorized"),
    ],
)
async def test_strangers_cannot_break_it_with_characters(
    anyone: httpx.AsyncClient, path: str, body: str, status: int, code: str
) -> None:
    answer = await anyone.post(path, content=body, headers={"content-type": "application/json"})
    is_problem(answer, status, code)


async def test_a_body_that_is_nested_absurdly_deep_is_refused(admin: httpx.AsyncClient) -> None:
    deep = '{"name": "a", "defaults": {"x": ' + "[" * 5000 + "]" * 5000 + "}}"
    answer = await admin.post("/strategies", content=deep, headers={"content-type": "application/json"})
    is_problem(answer, 400, "not_json")
