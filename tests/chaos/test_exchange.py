"""Faults 42 to 50: what an exchange does to us, on real processes and at both exchanges.

Each test has symbols of its own, since all accounts of the simulator see the same prices.
"""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import pytest

from app.up.datadir import DataDir
from tests.chaos.support import Chaos, create_path, each, held_there, is_sound
from tests.support.desk import Desk, armed, awaited, outcome
from tests.support.stack import Stack

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("heal")]

BOTH = ["watcher", "exchange"]
VENUES = ("bybit", "binance")
BAN_S = 4


# Contracts of the simulator's that only one test trades: tick 0.001, step 0.1.
CONTRACTS = (
    "LIM403USDT",
    "LIM10006USDT",
    "LIM429USDT",
    "LIM418USDT",
    "BUDGETUSDT",
    "HELDUSDT",
    "WANTEDUSDT",
    "LIQUSDT",
    "ADLUSDT",
    "HANDUSDT",
    "OURSUSDT",
    "THEIRSUSDT",
)
OF_VENUE = ("DELIST", "STEP", "LATE", "KEY", "KEYTWO", "MODE")


@pytest.fixture(scope="module")
async def desks(chaos: Chaos) -> dict[str, Desk]:
    for symbol in (*CONTRACTS, *(f"{name}{venue.upper()}USDT" for name in OF_VENUE for venue in VENUES)):
        await chaos.stack.control(
            "POST", "instruments",
            {"symbol": symbol, "tick_size": "0.001", "qty_step": "0.1", "min_qty": "0.1", "max_qty": "100000",
             "max_market_qty": "10000", "start_price": "10"},
        )  # fmt: skip
    bybit, binance = await chaos.both_desks("exchange")
    return {"bybit": bybit, "binance": binance}


@pytest.fixture(params=VENUES)
def mine(request: pytest.FixtureRequest, desks: dict[str, Desk]) -> Desk:
    return desks[request.param]


@pytest.fixture(scope="module")
async def tables(chaos: Chaos) -> AsyncIterator[Any]:
    url = DataDir(chaos.stack.data_dir).database_url().reveal()
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        yield pool


def own(mine: Desk, name: str) -> str:
    """The contract of this name that only this venue's test trades."""
    return f"{name}{mine.strategy.split('-')[0].upper()}USDT"


async def opened(mine: Desk, symbol: str, price: str, qty: str, **more: object) -> dict[str, Any]:
    """A protected long."""
    await mine.stack.price(symbol, price)
    await mine.executed(symbol, "buy", size={"base": qty}, **more)
    found: dict[str, Any] = await mine.becomes(symbol, "long", status="open", qty=qty, protected_by=BOTH)
    return found


async def ended_as(mine: Desk, code: str, symbol: str, action: str, **more: object) -> str:
    """An alert's end as `code`, and its reason."""
    alert = await outcome(mine.stack, await mine.alert(symbol, action, **more), code)
    return str(alert["outcome"]["reason"])


async def events(tables: Any, mine: Desk, kind: str) -> list[dict[str, Any]]:
    rows = await tables.fetch("SELECT detail FROM events WHERE kind = $1 AND account_id = $2", kind, mine.account)
    return [msgspec.json.decode(row["detail"]) for row in rows]


async def asked(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await stack.control("GET", "ledger?all=1"))["requests"]
    return found


# code, as the exchange's front door or its envelope says it
RATE = {
    ("bybit", "403"): {"fault": "ip_ban", "seconds": BAN_S},
    ("bybit", "10006"): {"fault": "ret_code", "code": 10006, "path": "/v5/position/list", "times": 1},
    ("binance", "429"): {"fault": "rate_limit", "path": "/fapi/v1/time", "times": 1},
    ("binance", "418"): {"fault": "rate_limit", "path": "/fapi/v1/time", "times": 1},
}


@pytest.mark.parametrize(("venue", "code"), RATE)
async def test_42_a_limit_is_honoured_by_all_processes_and_closes_come_after_it(
    chaos: Chaos, desks: dict[str, Desk], tables: Any, venue: str, code: str
) -> None:
    mine, stack, symbol = desks[venue], chaos.stack, f"LIM{code}USDT"
    await opened(mine, symbol, "1", "100")
    await stack.control("POST", "binance", {"limits": {"ban_s": BAN_S, "ban_after": 0 if code == "418" else 10}})
    await stack.control("POST", "faults", RATE[venue, code])
    await stack.post_api(f"/accounts/{mine.account}/verify", None)  # one process is told; the others hear of it
    closing = await mine.alert(symbol, "close")
    if code == "403":  # Bybit bans for ten minutes: they are over when the table says so
        await stack.eventually(lambda: _waits(tables, closing), what="the close waits for the end of the ban")
        await chaos.clear_faults()
        assert await mine.traded(symbol) == [("Buy", "100")]
        await stack.eventually(lambda: _is_over(tables, closing), what="the close after the ban")
    await outcome(stack, closing, "executed")
    await mine.becomes_flat(symbol)
    refused = [r["received_at_ns"] for r in await asked(stack) if _is_refused(r, code)]
    assert refused, "the exchange did refuse"
    if code in ("403", "418"):
        # Asking while banned makes a ban last longer: what was under way when it began may have come, and no more.
        assert max(refused) - min(refused) < BAN_S * 1e9, "who was told sends nothing until the ban is over"
    assert await mine.traded(symbol) == [("Buy", "100"), ("Sell", "100")]


async def _is_over(tables: Any, alert_id: str) -> bool:
    await tables.execute("UPDATE bans SET until = now()")  # again and again: another process may tell of it late
    return bool(await tables.fetchval("SELECT finished_at IS NOT NULL FROM alerts WHERE id = $1", alert_id))


async def _waits(tables: Any, alert_id: str) -> bool:
    found = await tables.fetchval("SELECT waits_for FROM instructions WHERE cause_id = $1", alert_id)
    return "not sent" in (found or "")


def _is_refused(request: dict[str, Any], code: str) -> bool:
    return code in (str(request["status"]), str(request["ret_code"]))


async def test_43_in_maintenance_an_opening_is_unknown_and_the_native_stop_holds(chaos: Chaos, mine: Desk) -> None:
    stack, held, wanted = chaos.stack, "HELDUSDT", "WANTEDUSDT"
    await opened(mine, held, "10", "100")
    await stack.price(wanted, "10")
    await chaos.fault("http_status", status=503, after=True, path=create_path(mine), symbol=wanted)
    await chaos.fault("delay", ms=600, path=create_path(mine), symbol=wanted)
    opening = await mine.alert(wanted, "buy", size={"base": "100"})
    await awaited(stack, lambda: mine.traded(wanted), "the opening at the exchange")
    await chaos.fault("maintenance", seconds=4)
    await stack.price(held, "9.3")  # through our level and through the native stop
    await stack.eventually(lambda: _holds_nothing(mine, held), within_s=3, what="the native stop, in maintenance")
    await outcome(stack, opening, "executed")
    await mine.becomes(held, status="closed", close_reason="native_stop")
    await is_sound(mine, held)
    # Where no stop rides on the entry, it is closed if none could be placed in all that time.
    await is_sound(mine, wanted)
    await outcome(stack, await mine.alert(wanted, "close"))


async def _holds_nothing(mine: Desk, symbol: str) -> bool:
    return (await held_there(mine, symbol))[0] == "flat"


async def test_44_what_ends_outside_is_adopted_with_its_reason_and_nothing_is_left(chaos: Chaos, mine: Desk) -> None:
    stack = chaos.stack
    ends: dict[str, tuple[str, dict[str, object], str]] = {
        "LIQUSDT": ("liquidate", {"side": "long"}, "liquidated"),
        "ADLUSDT": ("adl", {"side": "long"}, "liquidated"),
        "HANDUSDT": ("positions", {"side": "Sell", "qty": "10", "reduce_only": True}, "external"),
    }
    for symbol in ends:
        await opened(mine, symbol, "30", "10", take_profit=[{"pct": 5}])

    async def outside(symbol: str) -> None:
        call, body, reason = ends[symbol]
        await stack.control("POST", call, {"symbol": symbol, "api_key": mine.api_key, **body})
        closed = await mine.becomes(symbol, "long", status="closed", close_reason=reason)
        assert not armed(closed)
        await mine.becomes_flat(symbol)

    await asyncio.gather(*(outside(symbol) for symbol in ends))
    for symbol in ends:
        await stack.price(symbol, "32", "27")  # where its levels were
        await outcome(stack, await mine.alert(symbol, "close"), "nothing_to_do")
        assert len(await mine.traded(symbol)) == 2


async def test_45_what_a_hand_holds_is_not_traded_and_people_are_told(
    chaos: Chaos, desks: dict[str, Desk], tables: Any
) -> None:
    stack, ours, theirs = chaos.stack, "OURSUSDT", "THEIRSUSDT"

    async def life(mine: Desk) -> None:
        await opened(mine, ours, "100", "1")
        for symbol in (ours, theirs):
            by_hand = {"symbol": symbol, "api_key": mine.api_key, "side": "Buy", "qty": "2"}
            await stack.control("POST", "positions", by_hand)
        reason = await ended_as(mine, "foreign_position", theirs, "buy", size={"base": "1"})
        assert "did not open" in reason
        await ended_as(mine, "nothing_to_do", theirs, "close")

        async def told() -> bool:
            rows = await tables.fetch("SELECT symbol, kind, status FROM drifts WHERE account_id = $1", mine.account)
            return {tuple(row) for row in rows} >= {
                (ours, "size_differs", "needs_operator"),
                (theirs, "foreign_position", "needs_operator"),
            }

        await stack.eventually(told, what="the warnings")
        position = await mine.position(ours)
        assert position is not None
        assert position["qty"] == "1", "the increase is not ours"
        await mine.executed(ours, "close")
        await mine.becomes(ours, status="closed", qty="0")
        assert await held_there(mine, ours) == ("long", Decimal(2)), "what the hand added is still there"
        assert await held_there(mine, theirs) == ("long", Decimal(2))
        assert [order["side"] for order in await mine.orders(theirs) if Decimal(order["filled_qty"])] == ["Buy"]

    await stack.price(theirs, "20")
    await each(life, list(desks.values()))


async def test_46_another_position_mode_refuses_opens_with_the_cure_in_words(chaos: Chaos, mine: Desk) -> None:
    stack, symbol = chaos.stack, own(mine, "MODE")
    await stack.price(symbol, "1")
    await stack.control("POST", "accounts", _hedged(mine))
    body = {
        "name": f"{mine.strategy}-mode", "venue": mine.strategy.split("-")[0], "environment": "custom",
        "api_key": _hedged(mine)["api_key"], "api_secret": "hush", "position_mode": "one_way",
        "urls": {"rest": stack.connection["simulator_url"],
                 "ws": stack.connection["simulator_url"].replace("http", "ws", 1)},
    }  # fmt: skip
    account = (await stack.post_api("/accounts", body))["id"]
    made = await stack.post_api(
        "/strategies",
        {"id": body["name"], "name": body["name"], "defaults": {"stop_loss": {"pct": 5}},
         "accounts": [{"account": account, "multiplier": "1"}]},
    )  # fmt: skip
    wrong = Desk(
        stack=stack, account=account, api_key=str(body["api_key"]), strategy=str(body["name"]), secret=made["secret"]
    )
    reason = await ended_as(wrong, "position_mode_mismatch", symbol, "buy", size={"base": "100"})
    assert "position_mode to hedge" in reason
    assert await wrong.orders(symbol) == []
    await stack.http.patch(
        f"{stack.connection['url']}/api/v1/accounts/{account}", json={"position_mode": "hedge"},
        headers={"authorization": f"Bearer {stack._token}"},
    )  # fmt: skip
    await stack.eventually(lambda: _opens(wrong, symbol), what="the cure")
    await wrong.executed(symbol, "close_long")


def _hedged(mine: Desk) -> dict[str, object]:
    venue = mine.strategy.split("-")[0]
    return {"api_key": f"{venue}-mode-api-key", "api_secret": "hush", "venue": venue, "position_mode": "hedge"}


async def _opens(mine: Desk, symbol: str) -> bool:
    alert = await outcome(mine.stack, await mine.alert(symbol, "open_long", size={"base": "10"}))
    return bool(alert["outcome"]["code"] == "executed")


async def test_47_a_delisted_instrument_opens_nothing_and_closes_go_on_and_people_are_told(
    chaos: Chaos, desks: dict[str, Desk], tables: Any
) -> None:
    stack = chaos.stack

    async def life(mine: Desk) -> None:
        symbol = own(mine, "DELIST")
        await opened(mine, symbol, "10", "30")
        await stack.control("POST", "instruments", {"symbol": symbol, "status": "Delivering"})
        # The first one meets it at the exchange, after which the rules are read anew; the next one in the rules.
        for number in range(2):
            await ended_as(mine, "not_trading", symbol, "add", size={"base": "10"}, id=f"{symbol} {number}")
        told = await awaited(stack, lambda: events(tables, mine, "not_trading"), "the warning")
        assert [one["symbol"] for one in told] == [symbol]
        assert any("not trading" in line and symbol in line for line in stack.output().splitlines())
        await mine.executed(symbol, "close")
        await mine.becomes_flat(symbol)
        assert await mine.traded(symbol) == [("Buy", "30"), ("Sell", "30")]
        await awaited(stack, lambda: events(tables, mine, "trading_again"), "the end of the warning")
        assert len(await events(tables, mine, "not_trading")) == 1, "said once"

    await each(life, list(desks.values()))


async def test_48_after_a_change_of_step_and_tick_the_rules_are_read_anew_and_kept_exactly(
    chaos: Chaos, mine: Desk
) -> None:
    stack, symbol = chaos.stack, own(mine, "STEP")
    await opened(mine, symbol, "10", "5.3")
    # Coarser than what is held is a multiple of: what remains has to be closable all the same.
    await stack.control("POST", "instruments", {"symbol": symbol, "qty_step": "1", "min_qty": "1", "tick_size": "0.05"})
    await outcome(stack, await mine.alert(symbol, "add", size={"base": "3.7"}))
    await mine.executed(symbol, "add", size={"base": "4.7"}, stop_loss={"price": "9.333"})
    sent = [order for order in await mine.orders(symbol) if not order["reduce_only"] and Decimal(order["filled_qty"])]
    assert sent[-1]["filled_qty"] == "4", "rounded down to the new step"
    assert all(Decimal(order["trigger_price"]) % Decimal("0.05") == 0 for order in await mine.resting(symbol))


async def test_49_a_refused_key_opens_nothing_people_are_told_once_and_closes_go_on_trying(
    chaos: Chaos, desks: dict[str, Desk], tables: Any
) -> None:
    stack = chaos.stack
    ends: dict[str, tuple[dict[str, object], dict[str, object]]] = {
        "bybit": ({"expired": True}, {"expired": False}),
        "binance": ({"ips": ["192.0.2.1"]}, {"ips": []}),
    }

    async def life(mine: Desk) -> None:
        revoked, mended = ends[mine.strategy.split("-")[0]]
        held, other = own(mine, "KEY"), own(mine, "KEYTWO")
        await stack.price(other, "10")
        await opened(mine, held, "10", "30")
        await stack.control("POST", "permissions", {"api_key": mine.api_key, **revoked})
        alert = await outcome(stack, await mine.alert(other, "buy", size={"base": "10"}))
        assert alert["status"] == "refused"
        assert "key" in alert["outcome"]["reason"], "in the exchange's words"
        closing = await mine.alert(held, "close")
        [told] = await awaited(stack, lambda: events(tables, mine, "key_refused"), "the warning")
        assert "PATCH /api/v1/accounts" in told["why"], "it says what to do"
        assert (await stack.get(f"/alerts/{closing}"))["status"] == "executing"
        assert await held_there(mine, held) == ("long", Decimal(30))
        await stack.control("POST", "permissions", {"api_key": mine.api_key, **mended})
        await outcome(stack, closing, "executed")
        await awaited(stack, lambda: events(tables, mine, "key_accepted"), "the end of the warning")
        assert len(await events(tables, mine, "key_refused")) == 1, "said once"
        await stack.price(other, "10.001")  # of a market in which nobody trades little is known
        await stack.eventually(lambda: _opens(mine, other), what="openings with the new key")
        await mine.executed(other, "close")

    await each(life, list(desks.values()))


async def test_50_an_empty_answer_about_an_order_that_was_taken_is_no_proof_of_absence(
    chaos: Chaos, desks: dict[str, Desk]
) -> None:
    """Neither the socket nor any list shows it for a while, and its answer is lost for one of the two exchanges."""
    stack = chaos.stack

    async def life(mine: Desk) -> None:
        symbol = own(mine, "LATE")
        await stack.price(symbol, "10")
        if mine is desks["bybit"]:
            await chaos.fault("drop_answer", path=create_path(mine), symbol=symbol)
        await mine.executed(symbol, "buy", size={"base": "30"})
        await is_sound(mine, symbol)
        creates = [r for r in await asked(stack) if r["method"] == "POST" and r["path"] == create_path(mine)]
        assert len([r for r in creates if symbol in f"{r['query']} {r['body']}"]) == 1
        await mine.executed(symbol, "close")

    await chaos.fault("late_visible", ms=4000, seconds=15)
    await chaos.fault("silent_socket", channel="private", seconds=15)
    await each(life, list(desks.values()))


async def test_42_the_last_part_of_a_budget_is_kept_for_closes(chaos: Chaos, desks: dict[str, Desk]) -> None:
    """The last test here: for the rest of its minute little else is asked of Binance."""
    mine, stack, symbol = desks["binance"], chaos.stack, "BUDGETUSDT"
    await opened(mine, symbol, "10", "50")
    trades, used = f"{stack.connection['simulator_url']}/fapi/v1/aggTrades?symbol={symbol}", 0
    while used < 0.91 * 2400:  # openings stop at nine tenths
        used = int((await stack.http.get(trades)).headers["X-MBX-USED-WEIGHT-1M"])
    await stack.post_api(f"/accounts/{mine.account}/verify", None)
    opening = await mine.alert(symbol, "add", size={"base": "10"}, max_age_s=3)
    try:
        alert = await outcome(stack, opening)
        assert alert["status"] in ("expired", "refused"), alert["outcome"]
        assert await mine.traded(symbol) == [("Buy", "50")]
        await mine.alert(symbol, "close")
        await stack.eventually(lambda: _holds_nothing(mine, symbol), what="the close, with what was kept for it")
    finally:
        await stack.control("POST", "binance", {"limits": {}})  # a new minute
