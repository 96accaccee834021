"""A level fires once, and only under a lease."""

import asyncio
import time
from typing import Any

import pytest

from app.flows import protect
from app.flows.settle import settle
from tests.support.house import House, eventually
from tests.workers.support import armed, watching
from workers import private
from workers.watcher import Watcher

LONG = {"symbol": "BTCUSDT", "action": "buy", "size": {"base": "0.02"}, "stop_loss": {"pct": 5}}


async def test_a_level_whose_fire_is_not_recorded_yet_is_not_armed_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables still call it armed, and the watcher reads them all the time."""
    await house.alert(**LONG, take_profit=[{"pct": 1, "fraction": 0.5}])
    follow_up, may_go_on = protect.follow_up, asyncio.Event()

    async def held_up(*args: Any) -> None:
        await may_go_on.wait()
        await follow_up(*args)

    async def not_yet(*args: Any) -> None:
        """Its fill, too, would tell the tables that it has fired."""
        await may_go_on.wait()
        await settle(*args)

    async def sent(count: int) -> bool:
        return len(await house.sent()) == count

    monkeypatch.setattr(protect, "follow_up", held_up)
    monkeypatch.setattr(private, "settle", not_yet)
    async with watching(house) as watcher:
        await armed(watcher, 2)
        await house.price("60600")
        await eventually(lambda: sent(2), what="the close")
        await watcher._reload()
        assert [one.level.kind for one in watcher.armed.values()] == ["stop_loss"]
        assert len(watcher.in_flight) == 1, "armed again, it would have fired again at the price that is there"
        may_go_on.set()
    assert await house.held() == ("long", "0.01")
    assert await sent(2)


async def test_only_who_has_the_lease_with_time_left_on_it_may_fire(house: House) -> None:
    watcher = Watcher(house.resources)
    assert not watcher.may_fire(), "it never had it"
    watcher.shares.until = time.monotonic() + 60
    assert watcher.may_fire()
    watcher.shares.until = time.monotonic()
    assert not watcher.may_fire(), "it has run out"
    watcher.shares.until = time.monotonic() + 60
    watcher.draining = True
    assert not watcher.may_fire(), "its successor may have begun"
