"""Both exchanges by real processes: the same alerts, with levels, modes, bans, kills and what the exchange does itself.

Each test has a symbol of its own, since all accounts of the simulator see the same prices.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from tests.support.desk import Desk, account, armed, awaited, desk, outcome, strategy
from tests.support.stack import Stack, up

pytestmark = pytest.mark.timeout(180)

VENUES = ("bybit", "binance")
TAKER_FEE = Decimal("0.0005")  # of a new account at Binance
WEIGHT_1M = 2400
BOTH = ["watcher", "exchange"]
# The private sockets tell at once; the reconciler, which looks every six seconds, would mostly be too late for this.
SOON_S = 4.0


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with up(tmp_path_factory.mktemp("both") / "data", "--no-sample", "--prices", "manual") as running:
        yield running


@pytest.fixture(autouse=True)
async def unspent(stack: Stack) -> None:
    """All tests together ask for more than one address may in a minute: each begins with the whole budget."""
    await stack.control("POST", "binance", {"limits": {}})


@pytest.fixture(scope="module")
async def desks(stack: Stack) -> dict[str, Desk]:
    """One-way and hedge at each exchange."""
    made = {venue: await desk(stack, venue) for venue in VENUES}
    return made | {f"{v}-hedge": await desk(stack, f"{v}-hedge", position_mode="hedge") for v in VENUES}


async def test_a_ladder_and_a_stop_at_binance(stack: Stack, desks: dict[str, Desk]) -> None:
    mine, symbol = desks["binance"], "ETHUSDT"
    await stack.price(symbol, "2000")
    ladder = [{"pct": 1, "fraction": "0.5"}, {"pct": 2, "fraction": "0.5"}]
    await mine.executed(symbol, "buy", size={"base": "1"}, take_profit=ladder)
    position = await mine.becomes(symbol, status="open", protected_by=BOTH)
    assert (position["qty"], position["entry_price"], position["native_stop"]) == ("1", "2000", "1875")
    rungs = [("take_profit", "2020", "0.5"), ("take_profit", "2040", "0.5")]
    assert armed(position) == [("stop_loss", "1900", "1"), *rungs]

    await stack.price(symbol, "2020")
    position = await mine.becomes(symbol, qty="0.5", protected_by=BOTH)
    assert armed(position) == [("stop_loss", "1900", "0.5"), rungs[1]]

    await stack.price(symbol, "1899")
    position = await mine.becomes(symbol, status="closed", close_reason="stop_loss")
    await mine.becomes_flat(symbol)
    assert await mine.crossings(symbol, 2) == [("take_profit", "2020"), ("stop_loss", "1899")]
    assert [fill["origin"] for fill in position["fills"]] == ["order"] * 3
    assert Decimal(position["realized_pnl"]) == (Decimal(20) - Decimal(101)) / 2
    assert Decimal(position["fees"]) == TAKER_FEE * (2000 + Decimal(2020) / 2 + Decimal(1899) / 2)
    assert not armed(position)
    assert await mine.traded(symbol) == [("Buy", "1"), ("Sell", "0.5"), ("Sell", "0.5")]


@pytest.mark.parametrize(("venue", "symbol"), [("bybit", "SOLUSDT"), ("binance", "XRPUSDT")])
async def test_in_hedge_mode_one_side_ends_and_the_other_stays(
    stack: Stack, desks: dict[str, Desk], venue: str, symbol: str
) -> None:
    mine = desks[f"{venue}-hedge"]
    await stack.price(symbol, "100")
    await mine.executed(symbol, "open_long", size={"base": "3"})
    await mine.executed(symbol, "open_short", size={"base": "2"})
    long = await mine.becomes(symbol, "long", status="open", protected_by=BOTH)
    short = await mine.becomes(symbol, "short", status="open", protected_by=BOTH)
    assert armed(long) == [("stop_loss", "95", "3")]
    assert armed(short) == [("stop_loss", "105", "2")]
    stops = {order["position_side"]: order for order in await mine.resting(symbol)}
    assert {side: order["trigger_price"] for side, order in stops.items()} == {"Long": "93.75", "Short": "106.25"}

    await stack.price(symbol, "94.9")
    await mine.becomes(symbol, "long", status="closed", close_reason="stop_loss", realized_pnl="-15.3")
    await stack.eventually(lambda: mine.rests_only(symbol, [stops["Short"]]), what="the end of the long's native stop")
    left = await mine.position(symbol, "short")
    assert left is not None
    same = ("id", "status", "qty", "entry_price", "native_stop", "protected_by", "fills")
    assert [left[name] for name in same] == [short[name] for name in same]
    assert armed(left) == armed(short)

    await mine.executed(symbol, "close_short")
    await mine.becomes(symbol, "short", status="closed", close_reason="signal", realized_pnl="10.2")
    await mine.becomes_flat(symbol)
    assert await mine.traded(symbol) == [("Buy", "3"), ("Sell", "2"), ("Sell", "3"), ("Buy", "2")]


@pytest.mark.parametrize("venue", VENUES)
async def test_in_one_way_mode_the_same_alerts_are_a_reversal(stack: Stack, desks: dict[str, Desk], venue: str) -> None:
    mine, symbol = desks[venue], "BTCUSDT"
    await stack.price(symbol, "60000")
    await mine.executed(symbol, "open_long", size={"base": "0.3"})
    await mine.becomes(symbol, "long", status="open", protected_by=BOTH)
    await mine.executed(symbol, "open_short", size={"base": "0.2"})
    await mine.becomes(symbol, "long", status="closed", close_reason="reversed")
    short = await mine.becomes(symbol, "short", status="open", qty="0.2", protected_by=BOTH)
    assert armed(short) == [("stop_loss", "63000", "0.2")]
    assert [order["side"] for order in await mine.resting(symbol)] == ["Buy"], "the long's native stop went with it"
    await mine.executed(symbol, "close")
    await mine.becomes(symbol, "short", status="closed", close_reason="signal")
    await mine.becomes_flat(symbol)
    assert await mine.traded(symbol) == [("Buy", "0.3"), ("Sell", "0.3"), ("Sell", "0.2"), ("Buy", "0.2")]


async def test_each_account_of_an_alert_has_its_own_outcome(stack: Stack, desks: dict[str, Desk]) -> None:
    symbol = "LINKUSDT"
    poor = {venue: await account(stack, f"{venue}-poor", balance="1") for venue in VENUES}
    shares = {desks["bybit"].account: "1", desks["binance"].account: "2.5"} | dict.fromkeys(poor.values(), "1")
    secret = await strategy(stack, "fan", shares)
    await stack.price(symbol, "100")
    opening = {"symbol": symbol, "action": "sell", "size": {"base": "10"}}
    alert = await outcome(stack, await stack.alert("fan", secret, opening), "venue_refused")
    ended = {one["account"]: one for one in alert["accounts"]}
    assert alert["status"] == "refused", "the gravest of its outcomes is the alert's"
    assert {one: ended[one]["multiplier"] for one in ended} == shares
    codes = {one: found["outcome"]["code"] for one, found in ended.items()}
    assert codes == {one: "venue_refused" if one in poor.values() else "executed" for one in shares}
    for venue, qty in (("bybit", "10"), ("binance", "25")):
        await desks[venue].becomes(symbol, "short", status="open", qty=qty, strategy="fan", protected_by=BOTH)
        assert await desks[venue].traded(symbol) == [("Sell", qty)]

    alert = await outcome(stack, await stack.alert("fan", secret, {"symbol": symbol, "action": "close"}), "executed")
    codes = {one["account"]: one["outcome"]["code"] for one in alert["accounts"]}
    assert codes == {one: "nothing_to_do" if one in poor.values() else "executed" for one in shares}
    for venue in VENUES:
        await desks[venue].becomes(symbol, status="closed", close_reason="signal")
        await desks[venue].becomes_flat(symbol)


@pytest.mark.parametrize(
    ("venue", "path"), [("bybit", "/v5/market/instruments-info"), ("binance", "/fapi/v1/exchangeInfo")]
)
async def test_the_first_two_alerts_of_a_new_account_are_both_carried_out(stack: Stack, venue: str, path: str) -> None:
    """The second comes while the exchange's rules are still being read for the first."""
    new, symbols = await desk(stack, f"{venue}-new"), ("ETCUSDT", "POLUSDT")
    for symbol in symbols:
        await stack.price(symbol, "20")
    await stack.control("POST", "faults", {"fault": "delay", "path": path, "ms": 1000, "times": None})
    try:
        await asyncio.gather(*(new.executed(symbol, "buy", size={"base": "100"}) for symbol in symbols))
    finally:
        await stack.control("DELETE", "faults")
    for symbol in symbols:
        await new.becomes(symbol, status="open", qty="100", protected_by=BOTH)


async def test_all_accounts_verify(stack: Stack, desks: dict[str, Desk]) -> None:
    answers = await asyncio.gather(*(stack.post_api(f"/accounts/{one.account}/verify", None) for one in desks.values()))
    for name, answer in zip(desks, answers, strict=True):
        assert [check for check in answer["checks"] if check["ok"] is False] == [], name
        assert answer["ok"], name
        checks = {check["name"]: check["ok"] for check in answer["checks"]}
        told = ("reachable", "clock", "key", "permissions", "position_mode", "margin_mode", "feed")
        assert {one: checks[one] for one in told} == dict.fromkeys(told, True), name


@pytest.mark.parametrize("venue", VENUES)
async def test_a_key_that_may_withdraw_opens_nothing(stack: Stack, venue: str) -> None:
    risky = await desk(stack, f"{venue}-withdraws", permissions={"withdraw": True})
    answer = await stack.post_api(f"/accounts/{risky.account}/verify", None)
    failed = [check for check in answer["checks"] if check["ok"] is False]
    assert not answer["ok"]
    assert [check["name"] for check in failed] == ["permissions"]
    assert "withdrawal off" in failed[0]["cure"]
    alert = await outcome(stack, await risky.alert("BTCUSDT", "buy", size={"base": "0.1"}), "key_can_withdraw")
    assert alert["status"] == "refused"
    assert await risky.orders("BTCUSDT") == []


@pytest.mark.parametrize("name", ["bybit", "binance", "bybit-hedge", "binance-hedge"])
async def test_what_happens_outside_is_heard_by_socket(stack: Stack, desks: dict[str, Desk], name: str) -> None:
    """A liquidation, a deleveraging in two steps, and a close by hand, of one long after the other.

    In hedge mode a short stands beside them all the time, and nothing touches it.
    """
    mine, symbol, hedge = desks[name], "AVAXUSDT", name.endswith("hedge")
    held = {"symbol": symbol, "api_key": mine.api_key}
    await stack.price(symbol, "30")
    if hedge:
        await mine.executed(symbol, "open_short", size={"base": "5"})
        beside = await mine.becomes(symbol, "short", status="open", protected_by=BOTH)
    stops = await mine.resting(symbol)

    async def opened() -> None:
        await mine.executed(symbol, "open_long", size={"base": "10"})
        await mine.becomes(symbol, "long", status="open", protected_by=BOTH)

    async def ended(reason: str, *origins: str) -> None:
        closed = await mine.becomes(symbol, "long", within_s=SOON_S, status="closed", close_reason=reason)
        assert [fill["origin"] for fill in closed["fills"]] == ["order", *origins]
        assert not armed(closed)
        await stack.eventually(lambda: mine.rests_only(symbol, stops), what="the end of the long's native stop")

    await opened()
    await stack.control("POST", "liquidate", {**held, "side": "long"})
    await ended("liquidated", "liquidation")

    await opened()
    await stack.control("POST", "adl", {**held, "side": "long", "qty": "4"})
    reduced = await mine.becomes(symbol, "long", within_s=SOON_S, status="open", qty="6")
    assert armed(reduced) == [("stop_loss", "28.5", "6")]
    await mine.becomes(symbol, "long", protected_by=BOTH)
    await stack.control("POST", "adl", {**held, "side": "long"})
    await ended("liquidated", "adl", "adl")

    await opened()
    await stack.control("POST", "positions", {**held, "side": "Sell", "qty": "10", "reduce_only": True})
    await ended("external", "external")
    if hedge:
        left = await mine.position(symbol, "short")
        assert left is not None
        assert (left["id"], left["qty"], left["fills"]) == (beside["id"], "5", beside["fills"])
        assert armed(left) == armed(beside)
        await mine.executed(symbol, "close_short")
    await mine.becomes_flat(symbol)


@pytest.mark.parametrize(("fault", "symbol"), [("delay_answer", "ADAUSDT"), ("drop_answer", "DOTUSDT")])
async def test_an_opening_whose_worker_was_killed_is_sent_once(
    stack: Stack, desks: dict[str, Desk], fault: str, symbol: str
) -> None:
    mine = desks["binance"]
    await stack.price(symbol, "10")
    slow = {"ms": 2000} if fault == "delay_answer" else {}
    await stack.control("POST", "faults", {"fault": fault, "path": "/fapi/v1/order", "symbol": symbol, **slow})
    alert_id = await mine.alert(symbol, "buy", size={"base": "100"})
    await awaited(stack, lambda: mine.traded(symbol), "the opening at the exchange")
    stack.kill("worker")

    await awaited(stack, lambda: mine.resting(symbol), "the native stop")
    await outcome(stack, alert_id, "executed")
    await mine.becomes(symbol, status="open", qty="100", protected_by=BOTH)
    assert [order["trigger_price"] for order in await mine.resting(symbol)] == ["9.375"]
    assert await mine.traded(symbol) == [("Buy", "100")]
    assert len(await _sends(stack, mine, symbol)) == 1
    await mine.executed(symbol, "close")
    await mine.becomes_flat(symbol)


@pytest.mark.parametrize(
    ("symbol", "prices", "reason", "sends"),
    [
        ("UNIUSDT", ("10", "10.51", "10.3"), "stop_loss", 2),
        ("1000PEPEUSDT", ("0.01", "0.0107", "0.0103"), "native_stop", 1),
    ],
)
async def test_a_stop_crossed_while_the_watcher_is_dead_closes_once(
    stack: Stack, desks: dict[str, Desk], symbol: str, prices: tuple[str, ...], reason: str, sends: int
) -> None:
    """By the next watcher; or by the stop at the exchange, if the price went that far."""
    mine = desks["binance"]
    await stack.price(symbol, prices[0])
    await mine.executed(symbol, "sell", size={"base": "1000"})
    await mine.becomes(symbol, status="open", protected_by=BOTH)
    watchers = _watchers(stack)
    stack.kill("watcher")
    await stack.price(symbol, *prices[1:])  # through it and back: who comes after has to ask for what was traded
    await mine.becomes(symbol, status="closed", close_reason=reason)
    await mine.becomes_flat(symbol)
    await outcome(stack, await mine.alert(symbol, "close"), "nothing_to_do")
    await awaited(stack, lambda: _more_than(watchers, stack), "the next watcher")
    assert await mine.traded(symbol) == [("Sell", "1000"), ("Buy", "1000")]
    assert len(await _sends(stack, mine, symbol)) == sends


async def test_a_rung_whose_watcher_was_killed_is_sold_once(stack: Stack, desks: dict[str, Desk]) -> None:
    """Binance would take the id of an order that has ended once more."""
    mine, symbol = desks["binance"], "BNBUSDT"
    await stack.price(symbol, "100")
    ladder = [{"pct": 1, "fraction": "0.5"}, {"pct": 2, "fraction": "0.5"}]
    await mine.executed(symbol, "buy", size={"base": "10"}, take_profit=ladder)
    await mine.becomes(symbol, status="open", protected_by=BOTH)
    # Nobody learns of the rung's fill, from answer, socket or list: who takes over has only the order's id to ask for.
    for fault in (
        {"fault": "silent_socket", "channel": "private"},
        {"fault": "http_status", "status": 503, "path": "/fapi/v1/userTrades", "times": None},
        {"fault": "delay_answer", "ms": 10_000, "path": "/fapi/v1/order", "symbol": symbol},
    ):
        await stack.control("POST", "faults", fault)
    try:
        await stack.price(symbol, "101")
        await stack.eventually(lambda: _has_traded(mine, symbol, 2), what="the rung's order at the exchange")
        stack.kill("watcher")
        await stack.price(symbol, "101.1", "100.5")
        assert await mine.crossings(symbol) == [("take_profit", "101")]
    finally:
        await stack.control("DELETE", "faults")
    position = await mine.becomes(symbol, status="open", qty="5", protected_by=BOTH)
    assert armed(position) == [("stop_loss", "95", "5"), ("take_profit", "102", "5")]
    await stack.price(symbol, "94.9")
    await mine.becomes(symbol, status="closed", close_reason="stop_loss", realized_pnl="-20.5")
    await mine.becomes_flat(symbol)
    assert await mine.traded(symbol) == [("Buy", "10"), ("Sell", "5"), ("Sell", "5")]
    assert len(await _sends(stack, mine, symbol)) == 3


def _watchers(stack: Stack) -> int:
    """How many there have been."""
    return stack.output().count("watcher ready")


async def _more_than(watchers: int, stack: Stack) -> bool:
    return _watchers(stack) > watchers


async def _has_traded(mine: Desk, symbol: str, orders: int) -> bool:
    return len(await mine.traded(symbol)) == orders


async def test_a_ban_is_honoured_by_all_processes_and_what_was_asked_comes_after_it(
    stack: Stack, desks: dict[str, Desk]
) -> None:
    ban_s = 6
    mine, other, told, stopped, late = desks["binance"], desks["bybit"], "FILUSDT", "BBUSDT", "DOGEUSDT"
    for symbol in (told, stopped, late):
        await stack.price(symbol, "10")
    for symbol in (told, stopped):
        await mine.executed(symbol, "buy", size={"base": "100"})
        await mine.becomes(symbol, status="open", protected_by=BOTH)
    await stack.control("POST", "binance", {"limits": {"ban_after": 0, "ban_s": ban_s}})
    try:
        await stack.control("POST", "faults", {"fault": "rate_limit", "path": "/fapi/v1/time", "times": 1})
        await stack.post_api(f"/accounts/{mine.account}/verify", None)  # one process is told; the others hear of it
        ends = await awaited(stack, lambda: _banned_at_ns(stack), "the ban") + ban_s * 10**9
        await stack.eventually(lambda: _known_to_all(stack), within_s=ban_s, what="the ban in API, worker and watcher")
        known = time.time_ns()
        closing = await mine.alert(told, "close")
        opening = await mine.alert(late, "sell", size={"base": "100"})
        await stack.price(stopped, "9.49")
        await other.executed(told, "buy", size={"base": "100"})
        stack.kill("worker")  # the next one has to know of it from its start
        await outcome(stack, closing, "executed")
        await outcome(stack, opening, "executed")
        await mine.becomes(stopped, status="closed", close_reason="stop_loss")
    finally:
        await stack.control("POST", "binance", {"limits": {"ban_after": 10, "ban_s": 120}})
    asked = [r for r in await _requests(stack) if r["path"].startswith(("/fapi", "/sapi"))]
    assert known < ends
    assert [r["path"] for r in asked if known < r["received_at_ns"] < ends] == []
    for symbol in (told, stopped):
        assert await mine.traded(symbol) == [("Buy", "100"), ("Sell", "100")]
        assert [r["received_at_ns"] > ends for r in await _sends(stack, mine, symbol)] == [False, True]
    assert [r["received_at_ns"] > ends for r in await _sends(stack, mine, late)] == [True]
    [elsewhere] = [order for order in await other.orders(told) if not order["reduce_only"]]
    assert elsewhere["created_at_ms"] * 10**6 < ends, "the other exchange was traded meanwhile"
    for one, symbol in ((mine, late), (other, told)):
        await one.becomes(symbol, status="open", protected_by=BOTH)
        await one.executed(symbol, "close")
        await one.becomes_flat(symbol)


async def test_a_close_by_a_new_worker_needs_none_of_the_budget_for_reads(stack: Stack, desks: dict[str, Desk]) -> None:
    mine, symbol = desks["binance"], "BTCUSDT"
    await mine.executed(symbol, "buy", size={"base": "0.1"})
    await mine.becomes(symbol, status="open", protected_by=BOTH)
    trades, used = f"{stack.connection['simulator_url']}/fapi/v1/aggTrades?symbol={symbol}", 0
    while used < 0.78 * WEIGHT_1M:  # reads stop at three quarters
        used = int((await stack.http.get(trades)).headers["X-MBX-USED-WEIGHT-1M"])
    stack.kill("worker")
    await mine.alert(symbol, "close")
    await mine.becomes(symbol, status="closed", close_reason="signal", within_s=15)


async def _requests(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await stack.control("GET", "ledger?all=1"))["requests"]
    return found


async def _sends(stack: Stack, mine: Desk, symbol: str) -> list[dict[str, Any]]:
    """Requests for an order that reached Binance, whatever became of them."""
    return [
        r
        for r in await _requests(stack)
        if (r["method"], r["path"], r["api_key"]) == ("POST", "/fapi/v1/order", mine.api_key)
        and symbol in f"{r['query']} {r['body']}"
    ]


async def _known_to_all(stack: Stack) -> bool:
    return stack.output().count("banned: nothing is sent") >= 3


async def _banned_at_ns(stack: Stack) -> int | None:
    return next((r["received_at_ns"] for r in await _requests(stack) if r["status"] == 418), None)
