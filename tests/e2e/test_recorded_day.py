"""A recorded crash is played: each level fires at the first recorded trade at or beyond it, once."""

import csv
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack, up

pytestmark = pytest.mark.timeout(180)

SYMBOL = "DOTUSDT"
START_US = 1_760_130_000_000_000
CALM_S, CRASH_S = 14.0, 4.0


def record(path: Path) -> list[tuple[int, Decimal]]:
    """A day of our own: calm around 4.000, then a fall to 2.000 in bursts that share their microsecond."""
    chance = random.Random(11)
    rows: list[tuple[int, Decimal]] = []
    at = 0.0
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["ts_us", "price", "qty", "side", "recv_us", "id"])
        number = 900_000
        while at < CALM_S + CRASH_S:
            falling = max(0.0, (at - CALM_S) / CRASH_S)
            for _ in range(chance.choice([1, 1, 2, 9 if falling else 3])):
                price = Decimal(4000 - int(2000 * falling) + chance.randint(-12, 12)) / 1000
                number += 1
                rows.append((number, price))
                ts_us = START_US + int(at * 1e6)
                side = chance.choice(["buy", "sell"])
                out.writerow([ts_us, price, chance.randint(1, 500), side, ts_us + 900, number])
            at += chance.uniform(0.005, 0.03)
    return rows


def first_at_or_below(rows: list[tuple[int, Decimal]], price: Decimal) -> tuple[int, Decimal]:
    return next(row for row in rows if row[1] <= price)


async def position(stack: Stack, strategy: str) -> dict[str, Any] | None:
    items = (await stack.get(f"/positions?strategy={strategy}"))["items"]
    return None if not items else await stack.get(f"/positions/{items[0]['id']}")


async def test_every_level_fires_at_the_first_trade_at_or_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / f"own_{SYMBOL}_20251010.csv"
    rows = record(path)
    flags = ("--no-sample", "--prices", str(path), "--speed", "1")
    async with up(tmp_path / "data", *flags) as stack:
        await stack.control("POST", "accounts", {"api_key": "second", "api_secret": "second-secret"})
        account = await stack.post_api(
            "/accounts",
            {"name": "two", "venue": "bybit", "environment": "simulator", "api_key": "second",
             "api_secret": "second-secret"},
        )  # fmt: skip
        long = await stack.post_api(
            "/strategies", {"id": "long", "name": "long", "accounts": [{"account": account["id"]}]}
        )
        ladder = [{"price": price, "fraction": "0.25"} for price in ("3.7", "3.2", "2.7", "2.2")]
        short = await stack.post(
            {"symbol": SYMBOL, "action": "sell", "size": {"base": "40"}, "stop_loss": {"price": "5"},
             "take_profit": ladder}
        )  # fmt: skip
        bought = await stack.http.post(
            f"{stack.connection['url']}/webhook/long/{long['secret']}",
            json={"symbol": SYMBOL, "action": "buy", "size": {"base": "30"}, "stop_loss": {"price": "3.45"}},
        )
        assert (short.status_code, bought.status_code) == (202, 202), (short.text, bought.text)

        async def over() -> bool:
            found = [await position(stack, name) for name in ("demo", "long")]
            return all(one is not None and one["status"] == "closed" for one in found)

        await stack.eventually(over, within_s=90, what="both positions' ends")
        ledger = await stack.control("GET", "ledger")
        ended = {name: await position(stack, name) for name in ("demo", "long")}
    orders = [o for o in ledger["orders"] if o["client_order_id"]]
    assert [o["status"] for o in orders] == ["Filled"] * 7, "two openings, five closes, no more"
    for name, prices in (("demo", ("3.7", "3.2", "2.7", "2.2")), ("long", ("3.45",))):
        one = ended[name]
        assert one is not None
        fired = [e["detail"] for e in one["events"] if e["kind"] == "level_crossed"]
        expected = [first_at_or_below(rows, Decimal(price)) for price in prices]
        assert [(int(e["trade"]), Decimal(e["price"])) for e in fired] == expected
