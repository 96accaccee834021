"""What keeps an opening from leaving: other words of its strategy, blindness, an account that was not looked at."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.domain.order import PositionMode
from app.domain.shards import LEASES, lease_of
from app.errors import Transient
from app.flows import plan, preflight
from app.flows.manual import close_position
from app.store import blind, leases
from app.venues.base import Holding
from tests.support.house import House

SIZED = {"symbol": "BTCUSDT", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
LONG = {**SIZED, "action": "buy"}


def sent(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()


async def receive_all(house: House, bodies: Iterable[dict[str, object]]) -> list[UUID]:
    return [(await house.send(body)).alert_id for body in bodies]


async def outcomes(house: House, alerts: list[UUID]) -> list[tuple[str, str]]:
    await house.work_book()
    found = [await house.outcome(alert) for alert in alerts]
    return [(one["status"], one["code"]) for one in found]


# Other words of the strategy


async def test_of_targets_that_wait_only_the_newest_is_traded(each_house: House) -> None:
    house = each_house
    alerts = await receive_all(house, [{**SIZED, "target": side, "id": side + "1"} for side in ("long", "short")])
    alerts += await receive_all(house, [{**SIZED, "target": "long", "id": "last"}])
    assert await outcomes(house, alerts) == [
        ("superseded", "superseded"), ("superseded", "superseded"), ("done", "executed"),
    ]  # fmt: skip
    assert len(await house.sent()) == 1
    assert await house.held() == ("long", "0.01")


async def test_a_wish_to_be_flat_is_carried_out_although_a_newer_target_waits(house: House) -> None:
    await house.alert(**LONG)
    alerts = await receive_all(house, [{"symbol": "BTCUSDT", "target": "flat"}, {**SIZED, "target": "short"}])
    assert await outcomes(house, alerts) == [("done", "executed"), ("done", "executed")]
    assert await house.held() == ("short", "0.01")


async def test_another_strategys_target_replaces_nothing(house: House) -> None:
    await house.add_strategy("other")
    first = await house.send({**SIZED, "target": "long"})
    second = await house.send({**SIZED, "target": "short"}, "other")
    assert (await outcomes(house, [first.alert_id, second.alert_id]))[0] == ("done", "executed")


async def test_an_opening_that_arrives_after_its_close_is_not_traded(house: House) -> None:
    alerts = await receive_all(house, [{"symbol": "BTCUSDT", "action": "close", "time": sent(1)}])
    assert await outcomes(house, alerts) == [("done", "nothing_to_do")]
    alerts = await receive_all(house, [{**LONG, "time": sent(2)}])
    assert await outcomes(house, alerts) == [("refused", "out_of_order")]
    assert await house.held() == ("flat", "0")


async def test_a_close_that_arrives_after_the_next_opening_does_not_end_it(house: House) -> None:
    assert (await house.alert(**LONG, time=sent(1)))["code"] == "executed"
    outcome = await house.alert(symbol="BTCUSDT", action="close", time=sent(2))
    assert (outcome["status"], outcome["code"]) == ("refused", "out_of_order"), outcome
    assert await house.held() == ("long", "0.01")


async def test_a_close_in_its_order_is_carried_out(house: House) -> None:
    await house.alert(**LONG, time=sent(2))
    assert (await house.alert(symbol="BTCUSDT", action="close", time=sent(1)))["code"] == "executed"
    assert await house.held() == ("flat", "0")


# Blindness


async def test_nothing_is_opened_blind_and_closes_go_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "FITNESS_PATIENCE_S", 0.0)
    await house.alert(**LONG)
    tokens = await leases.acquire_all(house.resources.pool, LEASES, house.worker.id, ttl_s=600)
    market = (await house.resources.venues.of(house.account_id)).market
    silent = {symbol: {(lease_of(symbol), symbol): "its stream is silent"} for symbol in ("BTCUSDT", "ETHUSDT")}
    await blind.tell(house.resources.pool, market, silent["ETHUSDT"], tokens)
    assert (await house.alert(**LONG | {"action": "add", "id": "1"}))["code"] == "executed", "another symbol is blind"
    await blind.tell(house.resources.pool, market, silent["BTCUSDT"], tokens)
    outcome = await house.alert(**LONG | {"action": "add", "id": "2"})
    assert (outcome["status"], outcome["code"]) == ("refused", "blind"), outcome
    assert "its stream is silent" in outcome["reason"]
    outcome = await house.alert(**LONG | {"action": "reverse"})
    assert outcome["code"] == "blind", outcome
    assert await house.held() == ("flat", "0"), "the closing half of a reversal does not wait for sight"


async def test_an_opening_waits_for_a_watcher_that_restarts(house: House) -> None:
    await house.resources.pool.execute("UPDATE leases SET expires_at = now() WHERE name LIKE 'watcher:%'")
    receipt = await house.send(LONG)
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["status"] == "executing"
    assert await house.sent() == []
    await leases.acquire_all(house.resources.pool, LEASES, house.worker.id, ttl_s=600)
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.work(receipt.alert_id)
    assert (await house.outcome(receipt.alert_id))["code"] == "executed"


async def test_an_opening_resumed_while_blind_waits_for_sight(house: House) -> None:
    """Its worker died before it sent, and the watcher with it."""
    await house.fault("http_status", status=503, path="/v5/position/list", times=1)
    connected = await house.resources.venues.of(house.account_id)
    place = connected.venue.place

    async def dark(order: Any) -> str:
        connected.venue.place = place  # type: ignore[method-assign]
        await house.resources.pool.execute("UPDATE leases SET expires_at = now() WHERE name LIKE 'watcher:%'")
        raise Transient("connection refused")

    connected.venue.place = dark  # type: ignore[method-assign]
    receipt = await house.send(LONG)
    await house.work(receipt.alert_id)
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.work(receipt.alert_id)
    assert await house.sent() == []
    assert (await house.outcome(receipt.alert_id))["status"] == "executing"


# An account that was not looked at since the start


async def test_nothing_is_opened_on_an_account_before_it_was_compared(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = each_house
    monkeypatch.setattr(plan, "FITNESS_PATIENCE_S", 0.0)
    connected = await house.resources.venues.of(house.account_id)
    holdings = connected.venue.holdings

    async def unreachable() -> list[Holding]:
        raise Transient("connection refused")

    connected.venue.holdings = unreachable  # type: ignore[method-assign]
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "not_compared"), outcome
    assert await house.sent() == []
    assert (await house.alert(symbol="BTCUSDT", action="close"))["code"] == "nothing_to_do", "closes do not ask"
    connected.venue.holdings = holdings  # type: ignore[method-assign]
    assert (await house.alert(**LONG, id="again"))["code"] == "executed"
    assert connected.compared


async def test_the_first_look_settles_what_happened_while_nothing_ran(each_house: House) -> None:
    """A hand closed the position, and an order of ours was filled, of which this process has not heard."""
    house = each_house
    assert (await house.alert(**LONG))["code"] == "executed"
    await house.by_hand("Sell", "0.01")
    connected = await house.resources.venues.of(house.account_id)
    connected.compared = False  # as after a start
    outcome = await house.alert(symbol="ETHUSDT", action="buy", size={"base": "0.1"}, stop_loss={"pct": 1})
    assert outcome["code"] in ("executed", "unknown_symbol"), outcome
    assert (await house.last_position()).symbol in ("BTCUSDT", "ETHUSDT")
    [row] = await house.rows("SELECT status, close_reason FROM positions WHERE symbol = 'BTCUSDT'")
    assert (row["status"], row["close_reason"]) == ("closed", "external")


async def test_hedge_mode_knows_its_neighbours_too(hedge_house: House) -> None:
    house = hedge_house
    assert house.mode is PositionMode.HEDGE
    alerts = await receive_all(house, [{**SIZED, "target": "long"}, {**SIZED, "target": "short"}])
    assert await outcomes(house, alerts) == [("superseded", "superseded"), ("done", "executed")]


async def test_a_close_of_what_no_exchange_lists_ends(each_house: House) -> None:
    """It holds up nothing that comes behind it."""
    outcome = await each_house.alert(symbol="NOSUCHUSDT", action="reduce", size={"pct_position": "50"})
    assert (outcome["status"], outcome["code"]) == ("done", "nothing_to_do"), outcome


async def test_a_position_outlives_its_strategy_and_is_still_closed(house: House) -> None:
    """An order that turned up late began it after the strategy had been removed."""
    await house.alert(**LONG)
    position = await house.position()
    assert position is not None
    await house.resources.pool.execute("UPDATE strategies SET removed_at = now(), enabled = false")
    await close_position(house.resources, position.id, None, house.worker.id)
    await house.work_book()
    assert await house.held() == ("flat", "0")


# A close that may still arrive


async def test_a_side_is_not_opened_again_before_the_watcher_let_go_of_its_last_position(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has on its way is bound to the side, not to the position."""
    house = each_house
    monkeypatch.setattr(preflight, "LET_GO_PATIENCE_S", 0.1)
    await house.alert(**LONG)
    await house.alert(symbol="BTCUSDT", action="close")
    await house.resources.pool.execute("UPDATE positions SET released_at = NULL")
    again = await house.send({**LONG, "id": "again"})
    await house.work(again.alert_id)
    assert (await house.outcome(again.alert_id))["status"] == "executing"
    assert await house.held() == ("flat", "0")
    await house.resources.pool.execute("UPDATE positions SET released_at = now()")
    await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
    await house.work(again.alert_id)
    assert (await house.outcome(again.alert_id))["code"] == "executed"


async def test_the_other_side_is_opened_at_once(house: House) -> None:
    await house.alert(**LONG)
    await house.alert(symbol="BTCUSDT", action="close")
    await house.resources.pool.execute("UPDATE positions SET released_at = NULL")
    assert (await house.alert(**LONG | {"action": "sell"}))["code"] == "executed"


async def test_a_watcher_that_does_not_say_so_has_let_go_after_a_while(house: House) -> None:
    await house.alert(**LONG)
    await house.alert(symbol="BTCUSDT", action="close")
    await house.resources.pool.execute(
        "UPDATE positions SET released_at = NULL, ended_at = now() - make_interval(secs => $1)",
        preflight.lets_go_s(house.resources),
    )
    assert (await house.alert(**LONG, id="again"))["code"] == "executed"


async def test_a_side_is_not_opened_while_a_close_of_it_is_not_resolved(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LET_GO_PATIENCE_S", 0.1)
    await house.alert(**LONG)
    await house.alert(symbol="BTCUSDT", action="close")
    await house.resources.pool.execute("UPDATE orders SET status = 'unknown' WHERE reduce_only AND status = 'filled'")
    again = await house.send({**LONG, "id": "again"})
    await house.work(again.alert_id)
    assert await house.held() == ("flat", "0")
    assert (await house.outcome(again.alert_id))["status"] == "executing"


# What waits behind it


async def test_a_close_does_not_wait_behind_an_addition_that_waits_for_sight(each_house: House) -> None:
    house = each_house
    await house.alert(**LONG)
    await house.resources.pool.execute("UPDATE leases SET expires_at = now() WHERE name LIKE 'watcher:%'")
    adding = await house.send(LONG | {"action": "add", "id": "1"})
    closing = await house.send({"symbol": "BTCUSDT", "action": "close"})
    await house.work_book()
    assert (await house.outcome(closing.alert_id))["code"] == "executed"
    assert (await house.outcome(adding.alert_id))["code"] == "blind"
    assert await house.held() == ("flat", "0")


async def test_a_close_does_not_wait_behind_an_addition_that_was_begun_and_waits(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decided while there was sight, and did not leave."""
    house = each_house
    await house.alert(**LONG)
    connected = await house.resources.venues.of(house.account_id)
    place = connected.venue.place

    async def dark(order: Any) -> str:
        monkeypatch.setattr(connected.venue, "place", place)
        await house.resources.pool.execute("UPDATE leases SET expires_at = now() WHERE name LIKE 'watcher:%'")
        raise Transient("connection refused")

    monkeypatch.setattr(connected.venue, "place", dark)
    adding = await house.send(LONG | {"action": "add", "id": "1"})
    closing = await house.send({"symbol": "BTCUSDT", "action": "close"})
    await house.work_book()
    assert (await house.outcome(closing.alert_id))["code"] == "executed"
    assert (await house.outcome(adding.alert_id))["code"] == "position_ended"
    assert await house.held() == ("flat", "0")


@pytest.mark.parametrize("begun", [False, True])
async def test_a_close_does_not_wait_behind_an_addition_for_which_the_exchange_cannot_be_asked(
    each_house: House, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    house = each_house
    await house.alert(**LONG)
    venue = (await house.resources.venues.of(house.account_id)).venue

    async def silent(*args: Any) -> Any:
        raise Transient("no answer")

    monkeypatch.setattr(venue, "standing" if begun else "equity", silent)
    adding = await house.send(LONG | {"action": "add", "size": {"pct_equity" if not begun else "base": "0.01"}})
    closing = await house.send({"symbol": "BTCUSDT", "action": "close"})
    await house.work_book()
    if begun:
        await house.resources.pool.execute("UPDATE instructions SET retry_at = now()")
        await house.work_book()
    assert (await house.outcome(closing.alert_id))["code"] == "executed"
    assert (await house.outcome(adding.alert_id))["status"] == "refused"
    assert await house.held() == ("flat", "0")


# A strategy that was disabled


async def test_what_was_begun_is_not_opened_once_its_strategy_is_disabled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = await house.resources.venues.of(house.account_id)
    place = connected.venue.place

    async def disabled(order: Any) -> str:
        monkeypatch.setattr(connected.venue, "place", place)
        await house.resources.pool.execute("UPDATE strategies SET enabled = false")
        raise Transient("connection refused")

    monkeypatch.setattr(connected.venue, "place", disabled)
    outcome = await house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "strategy_disabled"), outcome
    assert await house.sent() == []
