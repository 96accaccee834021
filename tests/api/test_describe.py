"""The OpenAPI document: users generate clients from it."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.resources import Resources
from tests.api.test_access import PUBLIC, routes_of

METHODS = ("get", "post", "patch", "delete", "put")


@pytest.fixture(scope="module")
async def document(anyone: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await anyone.get("/schema/openapi.json")).json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method.upper(), path, operation


def test_every_route_is_in_it_and_says_whether_it_needs_a_login(document: dict[str, Any], resources: Resources) -> None:
    found = {(method, path): operation for method, path, operation in operations(document)}
    assert found.keys() == {route for route in routes_of(resources) if not route[1].startswith("/schema")}
    assert {route for route, operation in found.items() if operation.get("security") == []} == PUBLIC & found.keys()
    assert document["security"] == [{"bearer": []}]


def test_operations_have_short_names_and_sentences(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", name)] == []
    known = {tag["name"] for tag in document["tags"] if tag["description"]}
    for _, _, operation in operations(document):
        name = operation["operationId"]
        assert operation["summary"], name
        assert operation["summary"][0].isupper() or operation["summary"][0].isdigit(), name
        assert set(operation["tags"]) <= known, name
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), name
    assert [name for name in document["components"]["schemas"] if not re.fullmatch(r"[A-Z][A-Za-z]+", name)] == []


def test_every_refusal_is_a_problem_and_no_form_is_named_that_is_never_answered(document: dict[str, Any]) -> None:
    refusals = document["components"]["responses"]
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status >= "400" and (path, status) != ("/health/ready", "503"):
                assert answer["$ref"].rpartition("/")[2] in refusals, (path, status)
    for refusal in refusals.values():
        [(media_type, content)] = refusal["content"].items()
        assert media_type == "application/problem+json"
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "status_code" not in str(document), "Litestar's own form of an error"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r"'\$ref': '#/components/([^']+)'", str(document))):
        kind, _, name = reference.partition("/")
        assert name in document["components"][kind], reference


def test_every_body_has_an_example_and_refuses_unknown_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for _, path, operation in operations(document):
        if "requestBody" not in operation or operation["operationId"].endswith("_with_secret"):
            continue
        content = operation["requestBody"]["content"]["application/json"]
        assert content["examples"], path
        for name in re.findall(r"#/components/schemas/(\w+)", str(content["schema"])):
            assert schemas[name]["additionalProperties"] is False, (path, name)


async def test_the_examples_are_taken(document: dict[str, Any], admin: httpx.AsyncClient) -> None:
    """By the shape of their body: what they name need not exist."""
    for method, path, operation in operations(document):
        if not path.startswith("/api/v1/") or "requestBody" not in operation:
            continue
        body = operation["requestBody"]["content"]["application/json"]["examples"]["typical"]["value"]
        address = re.sub(r"{\w+}", "01900000-0000-7000-8000-000000000000", path.removeprefix("/api/v1"))
        answer = await admin.request(method, address, json=body)
        code = answer.json().get("code") if answer.content else None
        assert code not in ("bad_value", "unknown_field", "missing_field", "not_json"), (path, answer.text)
