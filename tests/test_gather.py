"""Calls that go together: who shares a go, who is told what, and that nobody is hurt by another's mistake."""

import asyncio
from collections.abc import Sequence

import pytest

from app import gather
from app.gather import TOGETHER_MAX, Gather


class Goes:
    """Notes each go and holds it up until it is let on."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.on = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, items: list[str]) -> Sequence[str]:
        self.seen.append(items)
        self.begun.set()
        await self.on.wait()
        if "bad" in items:
            raise ValueError(f"of {len(items)}")
        return [item.upper() for item in items]


@pytest.fixture
async def goes() -> Goes:
    return Goes()


async def begun(goes: Goes, together: Gather[str, str]) -> asyncio.Future[str]:
    """A first call that is under way."""
    first = together("first")
    await goes.begun.wait()
    return first


async def test_one_alone_sets_off_at_once_and_the_others_go_together_after_it(goes: Goes) -> None:
    together = Gather(goes)
    first = await begun(goes, together)
    others = [together(item) for item in "abc"]
    await asyncio.sleep(0)
    goes.on.set()
    assert list(await asyncio.gather(first, *others)) == ["FIRST", "A", "B", "C"]
    assert goes.seen == [["first"], ["a", "b", "c"]]


async def test_equal_ones_share_a_go_unless_they_are_kept_apart(goes: Goes) -> None:
    goes.on.set()
    free, apart = Gather(goes), Gather(goes, apart=str)
    assert list(await asyncio.gather(free("a"), free("a"))) == ["A", "A"]
    assert goes.seen == [["a", "a"]]
    assert list(await asyncio.gather(apart("a"), apart("a"), apart("b"))) == ["A", "A", "B"]
    assert goes.seen[1:] == [["a", "b"], ["a"]]


async def test_no_go_is_larger_than_the_most(goes: Goes) -> None:
    goes.on.set()
    together = Gather(goes)
    await asyncio.gather(*(together(str(number)) for number in range(TOGETHER_MAX + 1)))
    assert [len(items) for items in goes.seen] == [TOGETHER_MAX, 1]


async def test_what_fails_hurts_nobody_else(goes: Goes) -> None:
    goes.on.set()
    together = Gather(goes)
    told = await asyncio.gather(together("a"), together("bad"), together("b"), return_exceptions=True)
    assert (told[0], told[2]) == ("A", "B")
    assert isinstance(told[1], ValueError)
    assert str(told[1]) == "of 1"
    assert goes.seen == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


async def test_one_that_fails_alone_is_not_tried_again(goes: Goes) -> None:
    goes.on.set()
    with pytest.raises(ValueError, match="of 1"):
        await Gather(goes)("bad")
    assert goes.seen == [["bad"]]


async def test_one_for_whom_nobody_waits_any_more_does_not_go(goes: Goes) -> None:
    together = Gather(goes)
    first = await begun(goes, together)
    gone, stays = together("gone"), together("stays")
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    goes.on.set()
    assert list(await asyncio.gather(first, stays)) == ["FIRST", "STAYS"]
    assert goes.seen == [["first"], ["stays"]]


async def test_a_caller_that_gives_up_does_not_end_the_go_of_the_others(goes: Goes) -> None:
    together = Gather(goes)
    tasks = [together(item) for item in "ab"]
    await goes.begun.wait()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    goes.on.set()
    assert await tasks[1] == "B"


async def test_a_go_that_hangs_is_given_up(goes: Goes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "PATIENCE_S", 0.01)
    together = Gather(goes)
    with pytest.raises(TimeoutError):
        await together("a")
    goes.on.set()
    assert await together("b") == "B"
