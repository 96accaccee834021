"""Accounts at the simulator with strategies that trade them, as a user of a running `up` sees them."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec

from tests.support.stack import Stack

WORKING = ("New", "PartiallyFilled", "Untriggered", "Triggered")


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """An account at one exchange, and a strategy that trades it; its stop is 5 % if an alert names none."""

    stack: Stack
    account: str
    api_key: str
    """Its name at the simulator."""
    strategy: str
    secret: str

    async def alert(self, symbol: str, action: str, **more: object) -> str:
        body = {"symbol": symbol, "action": action, "id": uuid4().hex, **more}
        return await self.stack.alert(self.strategy, self.secret, body)

    async def executed(self, symbol: str, action: str, **more: object) -> dict[str, Any]:
        """Send an alert and see it through."""
        return await outcome(self.stack, await self.alert(symbol, action, **more), "executed")

    async def position(self, symbol: str, side: str | None = None) -> dict[str, Any] | None:
        """The newest of them, with all that belongs to it."""
        listed = (await self.stack.get(f"/positions?account={self.account}&symbol={symbol}"))["items"]
        newest = next((one["id"] for one in listed if side in (None, one["side"])), None)
        found: dict[str, Any] | None = newest and await self.stack.get(f"/positions/{newest}")
        return found

    async def becomes(self, symbol: str, side: str | None = None, *, within_s: float = 30, **wanted: object) -> Any:
        """Wait for a position that looks like this, and answer it."""

        async def looks_so() -> dict[str, Any] | None:
            found = await self.position(symbol, side)
            return found if found and all(found[name] == value for name, value in wanted.items()) else None

        return await awaited(self.stack, looks_so, f"{self.strategy} {symbol} {side} {wanted}", within_s)

    async def crossings(self, symbol: str, levels: int = 1) -> list[tuple[str, str]]:
        """Wait until so many fires are recorded: that follows the close, whose fills may be settled before."""

        async def recorded() -> list[tuple[str, str]] | None:
            position = await self.position(symbol)
            fires = crossed(position) if position else []
            return fires if len(fires) == levels else None

        fires: list[tuple[str, str]] = await awaited(self.stack, recorded, f"{levels} crossings of {symbol}")
        return fires

    async def orders(self, symbol: str) -> list[dict[str, Any]]:
        """What the exchange has of this account, the oldest first."""
        found = (await self.stack.control("GET", f"ledger?symbol={symbol}"))["orders"]
        return [order for order in found if order["account"] == self.api_key]

    async def resting(self, symbol: str) -> list[dict[str, Any]]:
        return [order for order in await self.orders(symbol) if order["status"] in WORKING]

    async def rests_only(self, symbol: str, orders: list[dict[str, Any]]) -> bool:
        return await self.resting(symbol) == orders

    async def traded(self, symbol: str) -> list[tuple[str, str]]:
        """Side and quantity of each order that was filled."""
        return [(o["side"], o["filled_qty"]) for o in await self.orders(symbol) if Decimal(o["filled_qty"])]

    async def is_flat(self, symbol: str) -> bool:
        """The exchange holds nothing of it, and nothing waits there to touch a later position."""
        held = (await self.stack.control("GET", f"ledger?symbol={symbol}"))["positions"]
        flat = all(one["side"] == "flat" for one in held if one["account"] == self.api_key)
        return flat and not await self.resting(symbol)

    async def becomes_flat(self, symbol: str) -> None:
        await self.stack.eventually(lambda: self.is_flat(symbol), what=f"{self.strategy} {symbol} flat there")


async def awaited(stack: Stack, look: Callable[[], Awaitable[Any]], what: str, within_s: float = 30) -> Any:
    """Wait until `look` answers something, and answer it."""
    found: list[Any] = []

    async def check() -> bool:
        found[:] = [await look()]
        return bool(found[0])

    await stack.eventually(check, within_s=within_s, what=what)
    return found[0]


async def outcome(stack: Stack, alert_id: str, code: str | None = None) -> dict[str, Any]:
    """An alert when it has ended."""

    async def ended() -> dict[str, Any] | None:
        alert: dict[str, Any] = await stack.get(f"/alerts/{alert_id}")
        return None if alert["status"] in ("received", "executing") else alert

    alert: dict[str, Any] = await awaited(stack, ended, "the alert's end")
    assert code in (None, alert["outcome"]["code"]), alert["outcome"]
    return alert


async def account(stack: Stack, name: str, **at_exchange: object) -> str:
    """An account at the simulator and the same in Levelhead; `name` begins with its venue. Answers the latter's id."""
    venue, key = name.split("-")[0], f"{name}-api-key"
    await stack.control("POST", "accounts", {"api_key": key, "api_secret": "hush", "venue": venue, **at_exchange})
    rest = stack.connection["simulator_url"]
    body = {
        "name": name, "venue": venue, "environment": "custom", "api_key": key, "api_secret": "hush",
        "position_mode": at_exchange.get("position_mode", "one_way"),
        "urls": {"rest": rest, "ws": rest.replace("http", "ws", 1)},
    }  # fmt: skip
    made: str = (await stack.post_api("/accounts", body))["id"]
    return made


async def strategy(stack: Stack, name: str, shares: dict[str, str]) -> str:
    """A strategy of these accounts (id -> multiplier); answers its secret."""
    body = {
        "id": name, "name": name, "defaults": {"stop_loss": {"pct": 5}},
        "accounts": [{"account": one, "multiplier": multiplier} for one, multiplier in shares.items()],
    }  # fmt: skip
    made: str = (await stack.post_api("/strategies", body))["secret"]
    return made


async def desk(stack: Stack, name: str, **at_exchange: object) -> Desk:
    made = await account(stack, name, **at_exchange)
    secret = await strategy(stack, name, {made: "1"})
    return Desk(stack=stack, account=made, api_key=f"{name}-api-key", strategy=name, secret=secret)


def armed(position: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Kind, price and quantity of what waits for its price."""
    return [(x["kind"], x["price"], x["qty"]) for x in position["levels"] if x["status"] == "armed"]


def crossed(position: dict[str, Any]) -> list[tuple[str, str]]:
    """The levels that the watcher fired, and the prices at which it did."""
    details = [event["detail"] for event in position["events"] if event["kind"] == "level_crossed"]
    return [(detail["level"], detail["price"]) for detail in details]
