"""Who may deliver alerts, by address: through sockets and proxies, per installation and per strategy."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.api.tokens import issue
from app.resources import Resources, open_resources
from app.store import users
from app.store.db import transaction
from app.store.users import Role
from tests.api.conftest import make_settings, serving
from tests.support.servers import Servers

SUBJECT = "CN=TradingView Webhooks,O=TradingView\\, Inc.,L=Westerville,ST=Ohio,C=US"
CHART, ELSEWHERE = "52.89.214.238", "203.0.113.7"


class Guarded:
    """An api behind a proxy on this machine that takes alerts from TradingView only."""

    def __init__(self, client: httpx.AsyncClient, bearer: dict[str, str]) -> None:
        self.client = client
        self.bearer = bearer
        self.made: dict[str, Any] = {}

    async def make(self, name: str, **limits: object) -> None:
        headers = self.bearer | {"x-forwarded-proto": "https"}
        answer = await self.client.post("/api/v1/strategies", json={"name": name, "limits": limits}, headers=headers)
        assert answer.status_code == 201, answer.text
        self.made[name] = answer.json()

    async def deliver(self, strategy: str, source: str | None, path: str = "", **more: Any) -> httpx.Response:
        """Post to a strategy as if the proxy had heard `source`."""
        alert = {"id": str(uuid4()), "symbol": "BTCUSDT", "action": "close", "secret": self.made[strategy]["secret"]}
        headers = {} if source is None else {"x-forwarded-for": source}
        return await self.client.post(f"/webhook/{strategy}{path}", json=alert | more, headers=headers)

    async def rejected(self, strategy: str) -> Any:
        answer = await self.client.get(f"/api/v1/alerts/rejected?strategy={strategy}", headers=self.bearer)
        return answer.json()["items"]


@pytest.fixture(scope="module")
async def guarded(module_database_url: str, running_servers: Servers, password_hash: str) -> AsyncIterator[Guarded]:
    settings = make_settings(
        module_database_url, running_servers.redis_url, trusted_proxies="127.0.0.1", alert_sources="tradingview",
        certificate_header=f"x-cert: {SUBJECT}",
    )  # fmt: skip
    async with open_resources(settings) as resources, serving(resources) as url:
        async with transaction(resources.pool) as db:
            user = await users.create(db, email="guard@example.com", password_hash=password_hash, role=Role.ADMIN)
        bearer = {"authorization": f"Bearer {issue(resources.keys, user, resources.now(), 900)}"}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
            found = Guarded(client, bearer)
            await found.make("listed")
            await found.make("own", sources=[ELSEWHERE, "tradingview"])
            await found.make("any", sources=["0.0.0.0/0"])
            await found.make("certified", certified_only=True)
            yield found


@pytest.mark.parametrize(
    ("strategy", "source", "status"),
    [
        ("listed", CHART, 202),
        ("listed", f"{ELSEWHERE}, {CHART}", 202),
        ("listed", f"{CHART}, {ELSEWHERE}", 403),
        ("listed", ELSEWHERE, 403),
        ("listed", "nonsense", 403),
        ("listed", None, 403),
        ("own", ELSEWHERE, 202),
        ("own", CHART, 202),
        ("own", "203.0.113.8", 403),
        ("any", "203.0.113.8", 202),
        ("any", "2001:db8::1", 403),
    ],
)
async def test_alerts_are_taken_from_listed_addresses(
    guarded: Guarded, strategy: str, source: str | None, status: int
) -> None:
    answer = await guarded.deliver(strategy, source)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "source_not_allowed"
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ([SUBJECT], 202),
        ([], 403),
        (["CN=TradingView Webhooks"], 403),
        ([SUBJECT, SUBJECT], 403),  # one of them is the sender's own
        (["NONE", SUBJECT], 403),
    ],
)
async def test_a_certificate_is_what_the_trusted_proxy_says_of_it(
    guarded: Guarded, given: list[str], status: int
) -> None:
    alert = {"secret": guarded.made["certified"]["secret"], "id": str(uuid4()), "symbol": "BTCUSDT", "action": "close"}
    headers = [("x-forwarded-for", CHART), *(("X-Cert", one) for one in given)]
    answer = await guarded.client.post("/webhook/certified", json=alert, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "certificate_missing"


async def test_a_certificate_is_not_believed_of_anybody_else(
    module_database_url: str, running_servers: Servers, guarded: Guarded
) -> None:
    settings = make_settings(
        module_database_url,
        running_servers.redis_url,
        trusted_proxies="10.0.0.1",
        certificate_header=f"x-cert: {SUBJECT}",
    )
    alert = {"secret": guarded.made["certified"]["secret"], "symbol": "BTCUSDT", "action": "close"}
    async with open_resources(settings) as resources, serving(resources) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
            headers = {"x-cert": SUBJECT, "x-forwarded-for": "10.0.0.1"}
            answer = await client.post("/webhook/certified", json=alert, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "certificate_missing")


async def test_who_has_no_secret_learns_nothing_of_the_list(guarded: Guarded) -> None:
    for source in (CHART, ELSEWHERE):
        assert (await guarded.deliver("listed", source, secret="wrong")).status_code == 401


async def test_what_came_from_elsewhere_is_kept_with_its_address(guarded: Guarded) -> None:
    assert (await guarded.deliver("listed", "203.0.113.99")).status_code == 403
    found = (await guarded.rejected("listed"))[0]
    assert (found["code"], found["source"]) == ("source_not_allowed", "203.0.113.99")
    assert "LEVELHEAD_TRUSTED_PROXIES" in found["reason"]


async def test_an_explanation_may_be_asked_for_from_anywhere(guarded: Guarded) -> None:
    assert (await guarded.deliver("listed", ELSEWHERE, "/explain")).status_code == 200


async def test_a_trusted_proxy_tells_the_scheme(guarded: Guarded) -> None:
    assert guarded.made["listed"]["webhook_url"].startswith("https://127.0.0.1:")


async def test_by_default_no_header_is_believed_and_any_address_may_send(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, resources: Resources
) -> None:
    headers = {"x-forwarded-for": ELSEWHERE, "x-forwarded-proto": "https"}
    made = (await admin.post("/strategies", json={"name": "plain"}, headers=headers)).json()
    assert made["webhook_url"].startswith("http://127.0.0.1:")
    alert = {"secret": made["secret"], "symbol": "BTCUSDT", "action": "close"}
    answer = await anyone.post("/webhook/plain", json=alert, headers=headers)
    assert answer.status_code == 202
    source = await resources.pool.fetchval("SELECT source FROM alerts WHERE strategy_id = 'plain'")
    assert source == "127.0.0.1"


@pytest.mark.parametrize(
    ("sources", "field"),
    [
        ([], "limits.sources"),
        (["10.0.0.1"] * 101, "limits.sources"),
        (["10.0.0.1", "bot.example.com"], "limits.sources[1]"),
        ("10.0.0.1", "limits.sources"),
    ],
)
async def test_a_list_that_cannot_be_used_is_refused(admin: httpx.AsyncClient, sources: object, field: str) -> None:
    answer = await admin.post("/strategies", json={"name": "wrong", "limits": {"sources": sources}})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "bad_value", field)
