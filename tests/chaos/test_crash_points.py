"""A process dies at every point that app.crash names, and each time the life goes on to its end: nothing is doubled,
nothing is lost, and what is held is protected.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx
import pytest

from app.crash import POINTS
from tests.chaos.lives import ONE, TRIES, VENUES, WITHIN_S, Book, Life, Lives, living
from tests.chaos.support import Chaos, is_sound
from tests.support import desk as desks

pytestmark = pytest.mark.timeout(400)

NEVER_LEFT = ("execute.planned", "open.before_send")  # the order is on disk and might have left: proven absent


async def opening(book: Book, point: str) -> None:
    await book.storm()
    if point in NEVER_LEFT:
        await book.dies(point, "buy", code="never_arrived", size=ONE)
        assert await book.sent() == []
        await book.opens()
    else:
        # A leverage that has to be set first makes two steps of the opening.
        await book.dies(point, "buy", size=ONE, leverage=7 if point == "open.before_commit" else None)
    await ending(book)


async def closing(book: Book, point: str) -> None:
    await book.opens()
    await book.sound()
    await book.storm()
    await book.dies(point, "close")
    await book.sound()


async def reversing(book: Book, point: str) -> None:
    await book.opens()
    await book.sound()
    await book.storm()
    await book.dies(point, "sell", size=ONE)
    await book.sound(openings=2)


async def firing(book: Book, point: str) -> None:
    """A neighbour's crash may make another process end the position: then once more."""
    for turn in range(1, TRIES):
        await book.price("100")
        await book.opens()
        await book.sound(openings=turn)
        await book.storm()
        book.arm(point)
        await book.price("94.9")
        await book.becomes(status="closed", close_reason="stop_loss")
        await book.sound(openings=turn)
        if book.chaos.crashes.was_hit(point, book.symbol):
            break
    assert book.chaos.crashes.was_hit(point, book.symbol)
    assert await book.traded() == [("Buy", "1"), ("Sell", "1")] * turn


async def comparing(book: Book, point: str) -> None:
    """A hand closes, no socket tells of it, and the reconciler fetches what it missed."""
    await book.opens()
    await book.sound()
    await book.storm()
    await book.fault("silent_socket", channel="private", seconds=30)
    book.arm(point)
    hand = {"api_key": book.desk.api_key, "symbol": book.symbol, "side": "Sell", "qty": "1", "reduce_only": True}
    await book.stack.control("POST", "positions", hand)
    await book.crashed(point)
    await book.becomes(status="closed", close_reason="external")
    await book.sound()


async def watching(book: Book, point: str) -> None:
    """Every watcher dies; the next one dies at the point; the one after that fires what was crossed meanwhile."""
    await book.opens()
    await book.sound()
    await book.storm()
    book.chaos.arm(point)
    book.chaos.kill_all("watcher")
    await book.price("94.9")
    await book.chaos.crashed(point, within_s=WITHIN_S)
    await book.becomes(status="closed", close_reason="stop_loss")
    await book.sound()


async def ending(book: Book) -> None:
    """More is added, some of it is taken off, and the rest ends at the stop or by a close."""
    await book.sound()
    await book.opens("add")
    await book.sound(openings=2)
    await book.executed("reduce", size={"pct_position": 50})
    await book.sound(openings=2)
    if book.venue == "bybit":
        await book.price("94.9")
        await book.becomes(status="closed", close_reason="stop_loss")
    else:
        await book.executed("close")
    await book.sound(openings=2)
    assert await book.traded() == [("Buy", "1"), ("Buy", "1"), ("Sell", "1"), ("Sell", "1")]


LIVES: dict[str, Callable[[Book, str], Awaitable[None]]] = {
    "execute": opening,
    "open": opening,
    "protect": opening,
    "settle": opening,
    "private": opening,
    "close": closing,
    "reverse": reversing,
    "fire": firing,
    "reconcile": comparing,
    "watcher": watching,
}
STOPS_ARE_PLACED_AT = "binance"  # at Bybit they ride on the order


async def _life(point: str, book: Book) -> None:
    await LIVES[point.split(".")[0]](book, point)


def venue_of(point: str) -> str:
    if point.startswith("protect.") or point == "open.filled":
        return STOPS_ARE_PLACED_AT
    return VENUES[list(POINTS).index(point) % len(VENUES)]


RECEIVING = tuple(point for point in POINTS if point.startswith("receive."))


@pytest.mark.parametrize("point", RECEIVING)
async def test_a_sender_goes_on_after_a_crash_at(chaos: Chaos, point: str) -> None:
    """It hears nothing, and sends again. Before the others: they all need the API."""
    stack, symbol = chaos.stack, {"bybit": "BTCUSDT", "binance": "ETHUSDT"}[venue_of(point)]
    desk = await desks.desk(stack, f"{venue_of(point)}-sender")
    await stack.price(symbol, "100")
    body = {"symbol": symbol, "action": "buy", "size": ONE, "id": point}
    url = f"{stack.connection['url']}/webhook/{desk.strategy}/{desk.secret}"
    async with chaos.crash(point, "api", symbol):
        with pytest.raises(httpx.TransportError):
            await stack.http.post(url, json=body)
    answers: list[httpx.Response] = []

    async def answered() -> bool:
        answers.append(await stack.http.post(url, json=body))
        return answers[-1].status_code in (200, 202)

    await stack.eventually(answered, what="the resend is answered")
    await desks.outcome(stack, answers[-1].json()["alert_id"], "executed")
    await is_sound(desk, symbol)
    await desk.executed(symbol, "close")
    await is_sound(desk, symbol)


@pytest.fixture(scope="module")
async def lives(chaos: Chaos, request: pytest.FixtureRequest) -> AsyncIterator[Lives]:
    asked = [
        str(item.callspec.params["point"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and "lives" in item.fixturenames
    ]
    led: list[tuple[str, Life, str]] = [(point, partial(_life, point), venue_of(point)) for point in asked]
    async with living(chaos, led, beside=("worker", "worker", "watcher")) as begun:
        yield begun


@pytest.mark.parametrize("point", [point for point in POINTS if point not in RECEIVING])
async def test_a_life_goes_on_after_a_crash_at(lives: Lives, point: str) -> None:
    await lives.end(point, venue_of(point))
