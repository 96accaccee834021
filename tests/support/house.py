"""A whole house in one process: real PostgreSQL and Redis, the simulator over sockets, one account, one strategy."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from app.domain.drift import DRIFTS, DriftKind
from app.domain.order import PositionMode
from app.domain.position import Position
from app.domain.shards import LEASES
from app.flows.door import Delivery
from app.flows.execute import Worker, execute_book
from app.flows.receive import Receipt, receive
from app.ids import new_id
from app.keys import Credentials, new_secret
from app.resources import Resources, open_resources, origins_of
from app.settings import Secret, Settings
from app.store import accounts, inbox, leases, positions, strategies
from app.store.db import transaction
from app.venues.base import Origins
from app.venues.binance.venue import BinanceVenue
from app.venues.bybit.venue import BybitVenue
from simulator.exchange import Config
from simulator.server import running

SOCKET, REST = "socket", "rest"
both_roads = pytest.mark.parametrize("road", [SOCKET, REST], indirect=True)  # of a house's orders

API_KEY, API_SECRET = "house-key", "house-secret"
MASTER_KEY = secrets.token_urlsafe(32)


def settings(database_url: str, redis_url: str, simulator_url: str) -> Settings:
    return Settings(
        database_url=Secret(database_url),
        redis_url=Secret(redis_url),
        master_key=Secret(MASTER_KEY),
        simulator_url=simulator_url,
    )


class House:
    """What a test does: post alerts, move the price, look at what is held here and there."""

    def __init__(
        self, resources: Resources, simulator_url: str, control: httpx.AsyncClient, venue: str, mode: PositionMode
    ) -> None:
        self.resources = resources
        self.venue = accounts.VenueName(venue)
        self.mode = mode
        self.simulator_url = simulator_url
        self.control = control
        self.worker = Worker(new_id())
        self.watchers = 0  # real ones, which may say for a moment that they are blind
        self.strategy = "demo"
        self.secret = new_secret()
        self.account_id: UUID

    async def set_up(self) -> None:
        keys = self.resources.keys
        async with transaction(self.resources.pool) as connection:
            account = await accounts.create(
                connection,
                keys,
                name="paper",
                venue=self.venue,
                environment=accounts.Environment.SIMULATOR,
                position_mode=self.mode,
                credentials=Credentials(api_key=API_KEY, api_secret=API_SECRET),
            )
            self.account_id = account.id
        await self.add_strategy(self.strategy)
        await leases.acquire(self.resources.pool, f"worker:{self.worker.id}", self.worker.id, ttl_s=600)
        # As if a watcher saw the prices (nothing is opened blind) and let go of each position when it ends.
        await self.resources.pool.execute("ALTER TABLE positions ALTER released_at SET DEFAULT now()")
        await leases.acquire_all(self.resources.pool, LEASES, self.worker.id, ttl_s=600)

    async def linked(self) -> None:
        """Wait until orders will go over the socket for them."""
        venue = (await self.resources.venues.of(self.account_id)).venue
        assert isinstance(venue, BybitVenue | BinanceVenue)
        if venue.entry is not None:
            venue.entry.keep_warm()
            await asyncio.wait_for(venue.entry.ready.wait(), 10)

    async def add_account(self, name: str, venue: str, **options: object) -> UUID:
        """Another account, here and at the exchange; `options` are the control API's."""
        await self._control("POST", "accounts", {"api_key": name, "api_secret": API_SECRET, "venue": venue, **options})
        async with transaction(self.resources.pool) as connection:
            account = await accounts.create(
                connection,
                self.resources.keys,
                name=name,
                venue=accounts.VenueName(venue),
                environment=accounts.Environment.SIMULATOR,
                credentials=Credentials(api_key=name, api_secret=API_SECRET),
            )
        return account.id

    async def add_strategy(
        self, name: str, shares: list[strategies.AccountShare] | None = None, **changes: Any
    ) -> None:
        async with transaction(self.resources.pool) as connection:
            await strategies.create(
                connection,
                strategies.NewStrategy(
                    id=name,
                    name=name,
                    accounts=shares or [strategies.AccountShare(account_id=self.account_id)],
                    **changes,
                ),
                self.resources.keys.secret_hash(self.secret),
            )

    async def send(self, body: Mapping[str, object] | bytes, strategy: str | None = None) -> Receipt:
        """Deliver an alert as the webhook does; the secret is put in."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode({"secret": self.secret, **body})
        return await receive(
            self.resources,
            Delivery(
                strategy_id=strategy or self.strategy,
                path_secret=None,
                raw=raw,
                content_type="application/json",
                source="127.0.0.1",
            ),
        )

    async def alert(self, **body: object) -> dict[str, Any]:
        """Deliver an alert, carry it out, and answer how it ended. A watcher that is blind yet is waited for."""
        receipt = await self.send(body)
        await self.work(receipt.alert_id)
        if self.watchers:
            await eventually(lambda: self._ended(receipt.alert_id), what="the alert's end")
        return await self.outcome(receipt.alert_id)

    async def _ended(self, alert_id: UUID) -> bool:
        if (await self.outcome(alert_id))["status"] not in ("received", "executing"):
            return True
        await self.work(alert_id)
        return False

    async def work(self, alert_id: UUID) -> None:
        found = await self.rows(
            "SELECT DISTINCT account_id, symbol FROM instructions WHERE cause_id = $1 AND finished_at IS NULL", alert_id
        )
        for row in found:
            await execute_book(self.resources, self.worker, row["account_id"], row["symbol"])

    async def work_book(self, symbol: str = "BTCUSDT") -> None:
        await execute_book(self.resources, self.worker, self.account_id, symbol)

    async def sweep(self) -> None:
        """Work on everything that is due."""
        for account_id, symbol in await inbox.waiting_books(self.resources.pool, limit=100):
            await execute_book(self.resources, self.worker, account_id, symbol)

    async def outcome(self, alert_id: UUID) -> dict[str, Any]:
        row = await self.resources.pool.fetchrow("SELECT * FROM alerts WHERE id = $1", alert_id)
        return {"status": row["status"], "code": row["outcome_code"], "reason": row["outcome_reason"]}

    async def position(self, symbol: str = "BTCUSDT", side: str | None = None) -> Position | None:
        """The live position as our tables have it; in hedge mode that of a side."""
        held = await positions.live(self.resources.pool, self.account_id, symbol)
        found = [position for position in held if side in (None, position.side)]
        assert len(found) <= 1, "both sides are held: name one"
        return found[0] if found else None

    async def last_position(self) -> Position:
        found = await self.resources.pool.fetchval("SELECT id FROM positions ORDER BY opened_at DESC LIMIT 1")
        position = await positions.get(self.resources.pool, found)
        assert position is not None
        return position

    async def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.resources.pool.fetch(query, *args)]

    async def price(self, *prices: object, symbol: str = "BTCUSDT") -> None:
        """Trades at these prices, in order."""
        await self._control("POST", "price", {"trades": [{"symbol": symbol, "price": str(p)} for p in prices]})

    async def fault(self, fault: str, **options: object) -> None:
        await self._control("POST", "faults", {"fault": fault, **options})

    async def by_hand(self, side: str, qty: str, symbol: str = "BTCUSDT") -> None:
        """Somebody trades on the exchange's own page."""
        await self._control("POST", "positions", {"api_key": API_KEY, "symbol": symbol, "side": side, "qty": qty})

    async def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._control("GET", "ledger")
        return found

    async def held(self, symbol: str = "BTCUSDT", side: str | None = None) -> tuple[str, str]:
        """(side, qty) as the exchange has it; in hedge mode that of a side."""
        for row in (await self.ledger())["positions"]:
            if row["symbol"] == symbol and row["side"] != "flat" and side in (None, row["side"]):
                return row["side"], row["qty"]
        return "flat", "0"

    async def sent(self) -> list[dict[str, Any]]:
        """The order requests that reached the exchange."""
        return [
            r
            for r in (await self.ledger())["requests"]
            if (r["method"], r["path"]) in (("POST", "/v5/order/create"), ("POST", "/fapi/v1/order"))
        ]

    async def _control(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.control.request(method, f"/control/{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()


@asynccontextmanager
async def open_house(
    database_url: str,
    redis_url: str,
    *,
    price: str = "60000",
    venue: str = "bybit",
    mode: PositionMode = PositionMode.ONE_WAY,
) -> AsyncIterator[House]:
    hedge = mode is PositionMode.HEDGE
    config = Config(port=0, prices="manual", api_key="nobody" if hedge else API_KEY, api_secret=API_SECRET)
    async with (
        running(config) as simulator_url,
        # Without TLS: to read this machine's certificates takes longer than all the rest.
        httpx.AsyncClient(base_url=simulator_url, trust_env=False, verify=False) as control,
        open_resources(settings(database_url, redis_url, simulator_url)) as resources,
    ):
        house = House(resources, simulator_url, control, venue, mode)
        if hedge:
            await house._control("POST", "accounts", {"api_key": API_KEY, "api_secret": API_SECRET, "hedge": True})
        await house.set_up()
        await house.price(price)
        await house.linked()
        yield house


def over_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts that are connected from now on have no socket for orders."""

    def without(account: accounts.AccountRow, simulator_url: str | None) -> Origins:
        return msgspec.structs.replace(origins_of(account, simulator_url), ws_orders="")

    monkeypatch.setattr("app.resources.origins_of", without)


def at_once(monkeypatch: pytest.MonkeyPatch, *kinds: DriftKind) -> None:
    """A difference of these kinds need not last before it counts."""
    for kind in kinds:
        monkeypatch.setitem(DRIFTS, kind, msgspec.structs.replace(DRIFTS[kind], after_s=0.0))


async def eventually(check: Callable[[], Awaitable[bool]], *, within_s: float = 10.0, what: str = "") -> None:
    """Wait for something that another task or process does; a bound, not a duration."""
    try:
        async with asyncio.timeout(within_s):
            while not await check():  # noqa: ASYNC110 - the other side may be another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None
