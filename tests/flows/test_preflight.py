"""What is looked at before an opening; closes go through whatever is found."""

from decimal import Decimal

import pytest

from app import resources
from app.domain.order import MarginMode, PositionMode
from app.flows import preflight
from app.keys import Credentials
from app.store import accounts
from app.store.db import transaction
from app.venues.base import Standing
from tests.support.house import API_KEY, API_SECRET, House

D = Decimal
LONG = {"symbol": "BTCUSDT.P", "action": "buy", "size": {"base": "0.01"}, "stop_loss": {"pct": 1}}
CLOSE = {"symbol": "BTCUSDT.P", "action": "close"}


async def change(house: House, **changes: object) -> None:
    """As the account's owner does; counts from the next look on."""
    async with transaction(house.resources.pool) as connection:
        await accounts.update(connection, house.resources.keys, house.account_id, **changes)  # type: ignore[arg-type]
    house.resources.venues._checked.clear()


async def test_a_position_mode_other_than_the_accounts_opens_nothing(hedge_house: House) -> None:
    await change(hedge_house, position_mode=PositionMode.ONE_WAY)
    outcome = await hedge_house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "position_mode_mismatch")
    assert "hedge mode at the exchange" in outcome["reason"]
    assert "position_mode to hedge" in outcome["reason"], "it says what to do"
    assert await hedge_house.sent() == []


async def test_the_mode_is_found_for_each_book(each_house: House) -> None:
    await change(each_house, position_mode=PositionMode.HEDGE)
    outcome = await each_house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "position_mode_mismatch")
    assert await each_house.sent() == []


async def test_a_clock_that_is_far_off_opens_nothing_and_closes_all_the_same(each_house: House) -> None:
    outcome = await each_house.alert(**LONG)
    assert outcome["status"] == "done", outcome
    await each_house.fault("clock_skew", ms=3000)
    connected = await each_house.resources.venues.of(each_house.account_id)
    await connected.venue.server_time()  # as is done every few minutes, and after each clock error
    assert connected.venue.clock_offset_ms == pytest.approx(3000, abs=500)
    outcome = await each_house.alert(symbol="BTCUSDT.P", action="add", size={"base": "0.01"})
    assert (outcome["status"], outcome["code"]) == ("refused", "clock_drift"), outcome
    outcome = await each_house.alert(**CLOSE)
    assert outcome["status"] == "done", outcome
    assert await each_house.held() == ("flat", "0")


async def test_a_key_that_may_withdraw_opens_nothing(each_house: House) -> None:
    await each_house._control(
        "POST", "accounts", {"api_key": "rich-key-1234", "api_secret": API_SECRET, "permissions": {"withdraw": True}}
    )
    credentials = Credentials(api_key="rich-key-1234", api_secret=API_SECRET)
    await change(each_house, credentials=credentials)
    outcome = await each_house.alert(**LONG)
    assert (outcome["status"], outcome["code"]) == ("refused", "key_can_withdraw"), outcome
    assert await each_house.sent() == []
    assert API_KEY not in outcome["reason"]


async def test_the_margin_mode_is_made_the_accounts_or_nothing_is_opened(each_house: House) -> None:
    await change(each_house, margin_mode=MarginMode.ISOLATED)
    outcome = await each_house.alert(**LONG)
    if each_house.venue is accounts.VenueName.BYBIT:  # there it is the whole account's, and not ours to change
        assert (outcome["status"], outcome["code"]) == ("refused", "margin_mode_mismatch"), outcome
        assert await each_house.sent() == []
    else:
        assert outcome["status"] == "done", outcome
        connected = await each_house.resources.venues.of(each_house.account_id)
        assert (await connected.venue.standing("BTCUSDT")).margin_mode is MarginMode.ISOLATED
    await change(each_house, margin_mode=None)
    outcome = await each_house.alert(**LONG, id="whatever the exchange has is right now")
    assert outcome["code"] in ("executed", "nothing_to_do"), outcome


async def test_a_key_that_gains_the_right_to_withdraw_is_noticed(
    each_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked once is asked again; and the cure holds as soon as it is done."""
    monkeypatch.setattr(resources, "PERMISSIONS_TTL_S", 0.0)
    monkeypatch.setattr(resources, "WITHDRAWAL_TTL_S", 0.0)
    outcome = await each_house.alert(**LONG)
    assert outcome["code"] == "executed", outcome
    await each_house._control("POST", "permissions", {"api_key": API_KEY, "withdraw": True})
    outcome = await each_house.alert(symbol="BTCUSDT.P", action="add", size={"base": "0.01"}, id="1")
    assert outcome["code"] == "key_can_withdraw", outcome
    await each_house._control("POST", "permissions", {"api_key": API_KEY, "withdraw": False})
    outcome = await each_house.alert(symbol="BTCUSDT.P", action="add", size={"base": "0.01"}, id="2")
    assert outcome["code"] == "executed", outcome


async def test_what_was_looked_at_too_long_ago_is_looked_at_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was held up between the look and the order, and meanwhile a hand has traded."""
    held_up = iter((True,))
    monkeypatch.setattr(preflight.Readiness, "is_old", property(lambda self: next(held_up, False)))
    venue = (await house.resources.venues.of(house.account_id)).venue
    look = venue.standing

    async def looked(symbol: str) -> Standing:
        standing = await look(symbol)
        if not standing.holdings:
            await house.by_hand("Sell", "0.01")
        return standing

    monkeypatch.setattr(venue, "standing", looked)
    assert (await house.alert(**LONG))["code"] == "foreign_position"
    assert await house.held() == ("short", "0.01")
    assert await house.sent() == []


async def test_an_opening_whose_process_was_held_up_is_not_lost(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up = iter([True] * 6)
    monkeypatch.setattr(preflight.Readiness, "is_old", property(lambda self: next(held_up, False)))
    assert (await house.alert(**LONG))["code"] == "executed"
    assert await house.held() == ("long", "0.01")
    assert len(await house.sent()) == 1
