from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.domain.shards import lease_of
from app.flows import manual
from app.ids import new_id
from app.resources import Resources
from app.store import leases
from app.store.db import transaction
from app.store.users import Role, User
from tests.api import rows

MARKET = "bybit http://127.0.0.1:1"


@pytest.fixture(scope="module")
async def account(resources: Resources) -> UUID:
    async with transaction(resources.pool) as db:
        for name in ("one", "two"):
            await rows.strategy(db, name)
        return await rows.account(db, "Main")


@pytest.fixture
async def position(resources: Resources, account: UUID) -> AsyncIterator[UUID]:
    async with transaction(resources.pool) as db:
        made = await rows.position(
            db, account, "one", native_stop=Decimal("60000.00"), fees=Decimal("0.10"), leverage=Decimal("5.0")
        )
    yield made
    await clear(resources)


async def clear(resources: Resources) -> None:
    await resources.pool.execute(
        "TRUNCATE positions, levels, orders, intents, fills, events, leases, instructions CASCADE"
    )


async def see_price(resources: Resources, price: str, *, age_s: float = 1) -> None:
    at = resources.now() - timedelta(seconds=age_s)
    await resources.prices.put(MARKET, {"BTCUSDT": (Decimal(price), int(at.timestamp() * 1000))})


async def get(client: httpx.AsyncClient, position: UUID) -> dict[str, Any]:
    answer = await client.get(f"/positions/{position}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_position_as_the_contract_says(
    viewer: httpx.AsyncClient, resources: Resources, account: UUID, position: UUID, redis_url: str
) -> None:
    async with transaction(resources.pool) as db:
        level = await rows.level(db, position, "stop_loss", armed_at=rows.START)
        await leases.acquire(db, lease_of("BTCUSDT"), new_id(), ttl_s=60)
    await see_price(resources, "64100.50")
    (found,) = (await viewer.get("/positions")).json()["items"]
    age_ms = found.pop("feed_age_ms")
    assert 1000 <= age_ms < 20_000
    assert found == {
        "id": str(position),
        "account": str(account),
        "account_name": "Main",
        "strategy": "one",
        "venue": "bybit",
        "environment": "simulator",
        "symbol": "BTCUSDT",
        "side": "long",
        "status": "open",
        "qty": "0.01",
        "qty_opened": "0.01",
        "entry_price": "64000.5",
        "mark_price": "64100.5",
        "leverage": "5",
        "realized_pnl": "0",
        "unrealized_pnl": "1",
        "fees": "0.1",
        "native_stop": "60000",
        "opened_at": "2026-01-05T12:00:00Z",
        "closed_at": None,
        "close_reason": None,
        "protected_by": ["watcher", "exchange"],
        "levels": [
            {
                "id": str(level),
                "position_id": str(position),
                "kind": "stop_loss",
                "rung": 0,
                "price": "63000",
                "fraction": "1",
                "qty": "0.01",
                "trigger_by": "last",
                "status": "armed",
                "activation_price": None,
                "distance": None,
                "distance_pct": None,
                "min_factor": "1",
                "decay_pct": None,
                "due_at": None,
                "extreme": None,
                "armed_at": "2026-01-05T12:00:00Z",
                "triggered_at": None,
                "trigger_price": None,
            }
        ],
    }
    detail = await get(viewer, position)
    assert {name: detail[name] for name in found} == found
    assert detail.keys() - found.keys() == {"feed_age_ms", "orders", "fills", "events"}


async def test_without_a_fresh_price_the_worth_is_unknown(
    viewer: httpx.AsyncClient, resources: Resources, position: UUID, redis_url: str
) -> None:
    found = await get(viewer, position)
    assert (found["mark_price"], found["unrealized_pnl"], found["feed_age_ms"]) == (None, None, None)
    await see_price(resources, "64100.5", age_s=100)
    found = await get(viewer, position)
    assert (found["mark_price"], found["unrealized_pnl"]) == (None, None)
    assert found["feed_age_ms"] >= 100_000


async def test_the_mark_price_goes_before_the_last_one_while_it_is_fresh(
    viewer: httpx.AsyncClient, resources: Resources, position: UUID, redis_url: str
) -> None:
    async def see_mark(price: str, age_s: float) -> None:
        at_ms = int((resources.now() - timedelta(seconds=age_s)).timestamp() * 1000)
        await resources.prices.put_marks(MARKET, {"BTCUSDT": (Decimal(price), at_ms)})

    await see_price(resources, "64100.5")
    await see_mark("64200.50", age_s=1)
    found = await get(viewer, position)
    assert (found["mark_price"], found["unrealized_pnl"]) == ("64200.5", "2")
    await see_mark("64200.50", age_s=100)
    assert (await get(viewer, position))["mark_price"] == "64100.5"


async def test_a_short_gains_when_the_price_falls(
    viewer: httpx.AsyncClient, resources: Resources, position: UUID, redis_url: str
) -> None:
    await resources.pool.execute("UPDATE positions SET side = 'short'")
    await see_price(resources, "63000.5")
    assert (await get(viewer, position))["unrealized_pnl"] == "10"


async def test_a_closed_position_is_worth_and_protected_by_nothing(
    viewer: httpx.AsyncClient, resources: Resources, position: UUID, redis_url: str
) -> None:
    await see_price(resources, "64100.5")
    await resources.pool.execute(
        "UPDATE positions SET status = 'closed', qty = 0, close_reason = 'stop_loss', closed_at = opened_at"
    )
    found = await get(viewer, position)
    assert (found["status"], found["close_reason"], found["qty"]) == ("closed", "stop_loss", "0")
    assert (found["unrealized_pnl"], found["mark_price"], found["feed_age_ms"]) == ("0", None, None)
    assert found["protected_by"] == []


SHRINKS: dict[str, Any] = {"distance_pct": Decimal(1), "min_factor": Decimal("0.5"), "decay_pct": Decimal(1)}
SLEEPS: dict[str, Any] = {"activation_price": Decimal(65000), "price": None}


@pytest.mark.parametrize(
    ("kind", "more", "watched", "protected_by"),
    [
        ("stop_loss", {}, True, ["watcher"]),
        ("stop_loss", {}, False, []),
        ("stop_loss", {"status": "disarmed"}, True, []),
        ("stop_loss", {"status": "triggered"}, True, []),
        ("take_profit", {}, True, []),
        ("trailing_stop", {"distance_pct": Decimal(1)}, True, ["watcher"]),
        ("trailing_stop", SLEEPS, True, []),
        ("trailing_stop", SLEEPS | {"extreme": Decimal(65001)}, True, ["watcher"]),
        ("trailing_take_profit", SLEEPS | {"distance_pct": Decimal(1)}, True, []),
        ("trailing_take_profit", SLEEPS | {"distance_pct": Decimal(1), "extreme": Decimal(65001)}, True, ["watcher"]),
        ("time_exit", {}, True, []),
        ("break_even", SLEEPS, True, []),
        ("break_even", SLEEPS | {"extreme": Decimal(65001)}, True, ["watcher"]),
    ],
)
async def test_who_protects_it(
    viewer: httpx.AsyncClient,
    resources: Resources,
    position: UUID,
    kind: str,
    more: dict[str, Any],
    watched: bool,
    protected_by: list[str],
) -> None:
    async with transaction(resources.pool) as db:
        await db.execute("UPDATE positions SET native_stop = NULL")
        await rows.level(db, position, kind, **more)
        await leases.acquire(db, lease_of("BTCUSDT" if watched else "ETHUSDT"), new_id(), ttl_s=60)
    assert (await get(viewer, position))["protected_by"] == protected_by


@pytest.mark.parametrize(
    ("side", "more", "price"),
    [
        ("long", {"distance_pct": Decimal("0.5"), "extreme": Decimal(64000)}, "63680"),
        ("short", {"distance_pct": Decimal("0.5"), "extreme": Decimal(64000)}, "64320"),
        ("long", {"distance": Decimal(100), "extreme": Decimal(64000)}, "63900"),
        ("long", {"distance": Decimal(100)}, None),
        # 4 % above its activation, with half of what may shrink gone after ln 2 per cent: at its least
        ("long", SHRINKS | {"activation_price": Decimal(62500), "extreme": Decimal(65000)}, "64675"),
        ("short", SHRINKS | {"activation_price": Decimal(62500), "extreme": Decimal(60000)}, "60300"),
        ("long", SHRINKS | {"activation_price": Decimal(64000), "extreme": Decimal(64000)}, "63360"),
    ],
)
async def test_a_trailing_stop_shows_where_it_stands(
    viewer: httpx.AsyncClient,
    resources: Resources,
    position: UUID,
    side: str,
    more: dict[str, Any],
    price: str | None,
) -> None:
    async with transaction(resources.pool) as db:
        await db.execute("UPDATE positions SET side = $1", side)
        await rows.level(db, position, "trailing_stop", **{"price": None} | more)
    assert (await get(viewer, position))["levels"][0]["price"] == price


async def test_the_whole_life_of_a_position(
    viewer: httpx.AsyncClient, resources: Resources, account: UUID, position: UUID
) -> None:
    async with transaction(resources.pool) as db:
        opening = await rows.intent(db, account, "one", position)
        closing = await rows.intent(db, account, "one", position, kind="close", side="sell", cause_kind="level")
        order = await rows.order(db, account, opening)
        later = rows.START + timedelta(minutes=1)
        close = await rows.order(db, account, closing, side="sell", reduce_only=True, sent_at=later)
        for attempt, status in enumerate(("armed", "disarmed"), start=1):
            await rows.order(
                db, account, closing, side="sell", reduce_only=True, status=status, attempt=attempt, sent_at=None
            )
        fills = [
            await rows.fill(db, account, order, position),
            await rows.fill(db, account, close, position, side="sell", filled_at=later),
        ]
        await db.execute("INSERT INTO events (kind, position_id) VALUES ('a', $1), ('b', $1)", position)
    found = await get(viewer, position)
    assert [(one["id"], one["kind"]) for one in found["orders"]] == [(str(order), "open"), (str(close), "close")]
    assert [one["id"] for one in found["fills"]] == fills
    assert [one["kind"] for one in found["events"]] == ["a", "b"]


async def test_the_list_is_filtered_and_paged(viewer: httpx.AsyncClient, resources: Resources, account: UUID) -> None:
    async with transaction(resources.pool) as db:
        other = await rows.account(db, "Other")
        made = [
            await rows.position(db, account, "one", epoch=number, status="closed", opened_at=opened_at)
            for number, opened_at in enumerate([rows.START] * 3 + [rows.START + timedelta(microseconds=1)])
        ]
        made.append(await rows.position(db, other, "two", symbol="ETHUSDT", opened_at=rows.START - timedelta(1)))

    async def ids(**query: Any) -> list[str]:
        answer = await viewer.get("/positions", params=query)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    in_order = [str(one) for one in (made[3], *sorted(made[:3]), made[4])]
    assert await ids() == in_order
    assert await ids(status="open") == in_order[4:]
    assert await ids(status="closed") == in_order[:4]
    assert await ids(strategy="two") == in_order[4:]
    assert await ids(account=str(other)) == in_order[4:]
    assert await ids(symbol="ethusdt") == in_order[4:]
    assert await ids(symbol="ETHUSDT", status="closed") == []
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 1}
    while True:
        page = (await viewer.get("/positions", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == in_order
    await clear(resources)


@pytest.mark.parametrize(
    ("query", "field"),
    [("status=live", "status"), ("account=Main", "account"), ("cursor=eA", "cursor"), ("side=long", "side")],
)
async def test_a_query_that_cannot_be_used_is_named(viewer: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await viewer.get(f"/positions?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


async def test_an_unknown_position_is_not_found(viewer: httpx.AsyncClient, trader: httpx.AsyncClient) -> None:
    for position in (str(new_id()), "x"):
        assert (await viewer.get(f"/positions/{position}")).json()["code"] == "not_found"
        answer = await trader.post(f"/positions/{position}/close")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("body", [None, {}, {"fraction": "1"}])
async def test_a_trader_closes_a_position(
    trader: httpx.AsyncClient, resources: Resources, people: dict[Role, User], position: UUID, body: Any
) -> None:
    answer = await trader.post(f"/positions/{position}/close", json=body)
    assert answer.status_code == 202, answer.text
    row = await resources.pool.fetchrow("SELECT * FROM instructions")
    assert answer.json() == {"intent_id": str(row["id"])}
    assert (row["cause_kind"], row["position_id"]) == ("manual", position)
    requested = await resources.pool.fetchrow("SELECT * FROM events WHERE position_id = $1", position)
    assert str(people[Role.TRADER].id) in str(requested["detail"])


async def test_a_fraction_is_passed_on_exactly(
    trader: httpx.AsyncClient, position: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def close(resources: Resources, position_id: UUID, fraction: Decimal | None, user_id: UUID) -> UUID:
        asked.append(fraction)
        return position_id

    monkeypatch.setattr(manual, "close_position", close)
    answer = await trader.post(f"/positions/{position}/close", json={"fraction": "0.30"})
    assert answer.status_code == 202
    assert [str(one) for one in asked] == ["0.30"]


async def test_a_closed_position_is_not_closed_again(
    trader: httpx.AsyncClient, resources: Resources, position: UUID
) -> None:
    await resources.pool.execute("UPDATE positions SET status = 'closed'")
    answer = await trader.post(f"/positions/{position}/close")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_closed")


@pytest.mark.parametrize("fraction", ["0", "-1", "1.5", "NaN", "Infinity", "half", [1]])
async def test_a_fraction_has_bounds(
    trader: httpx.AsyncClient, resources: Resources, position: UUID, fraction: Any
) -> None:
    answer = await trader.post(f"/positions/{position}/close", json={"fraction": fraction})
    assert (answer.status_code, answer.json()["field"]) == (422, "fraction"), answer.text
    assert await resources.pool.fetchval("SELECT count(*) FROM instructions") == 0
