"""Faults 33-41: whatever happens to a watcher or what it hears, a crossed stop closes once, and nothing opens blind."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from itertools import chain, count
from string import ascii_uppercase
from typing import Any

import pytest

from app.domain.shards import LEASES, SHARDS, lease_of
from tests.chaos.lives import INSTRUMENT
from tests.chaos.proxy import Proxy, upstream_of
from tests.chaos.support import Chaos, desk_through, each, is_sound
from tests.support.desk import Desk, awaited, crossed, outcome
from tests.support.stack import Stack

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("heal")]

D = Decimal
VENUES = ("bybit", "binance")
HALF = SHARDS // 2


def apart(name: str) -> tuple[str, str]:
    """Two symbols that two watchers share: one of each half of the shards."""
    names = [f"{name}{letter}USDT" for letter in ascii_uppercase]
    low, high = ([one for one in names if lease_of(one) in half] for half in (LEASES[:HALF], LEASES[HALF:]))
    return low[0], high[0]


SHARED, KILLED, HANDED, STALE = PAIRS = [apart(name) for name in ("SHARED", "KILLED", "HANDED", "STALE")]


class Liar(Proxy):
    """A proxy that can change what the exchange says."""

    lie: Callable[[bytes], bytes] | None = None

    def _answered(self, link: Any, piece: bytes) -> bytes:
        passed = super()._answered(link, piece)
        if self.lie is None:
            return passed
        told = self.lie(passed)
        assert len(told) == len(passed), "a frame's length stands before it"
        return told


class Side:
    """An account at one of the two exchanges, reached by way of a proxy for requests and one for sockets."""

    def __init__(self, desk: Desk, rest: Proxy, ws: Liar) -> None:
        self.desk, self.rest, self.ws = desk, rest, ws

    def heal(self) -> None:
        self.ws.lie = None
        for proxy in (self.rest, self.ws):
            proxy.heal()


@asynccontextmanager
async def listening(made: Proxy) -> AsyncIterator[None]:
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        made.heal()
        server.close()
        made.reset()
        await server.wait_closed()


@pytest.fixture(scope="module")
async def opened_sides(chaos: Chaos) -> AsyncIterator[list[Side]]:
    upstream = upstream_of(chaos.stack.connection["simulator_url"])
    for symbol in chain(*PAIRS):  # before anybody reads what is listed
        await chaos.stack.control("POST", "instruments", {**INSTRUMENT, "symbol": symbol, "base_coin": symbol[:-4]})
    async with AsyncExitStack() as proxies:
        sides = []
        for venue in VENUES:
            rest, ws = Proxy(upstream), Liar(upstream)
            for made in (rest, ws):
                await proxies.enter_async_context(listening(made))
            sides.append(Side(await desk_through(chaos.stack, f"{venue}-watched", rest, ws), rest, ws))
        yield sides


@pytest.fixture
async def sides(opened_sides: list[Side]) -> AsyncIterator[list[Side]]:
    """Both exchanges, with nothing between but what the test does."""
    yield opened_sides
    for side in opened_sides:
        side.heal()


@pytest.fixture
def stack(chaos: Chaos) -> Stack:
    return chaos.stack


async def watched(stack: Stack, symbol: str, sides: list[Side]) -> bool:
    """The watcher has the symbol's levels at both exchanges, and a stream for it."""
    health = (await stack.http.get(f"{stack.connection['url']}/health/ready")).json()
    found = [one for one in health["checks"]["feeds"].get("symbols") or [] if one["symbol"] == symbol]
    heard = [one for one in found if one["linked"] and one["levels"] and one["age_ms"] is not None]
    if len(heard) < len(sides):
        await stack.price(symbol, "100")
    return len(heard) == len(sides)


async def long(stack: Stack, symbol: str, sides: list[Side], **exits: object) -> None:
    """A long of 1 from 100 at both, its stop at 99 if nothing else is said, and the watcher at it."""
    await stack.price(symbol, "100")
    exits = exits or {"stop_loss": {"pct": 1}}

    async def life(desk: Desk) -> None:
        await desk.executed(symbol, "buy", size={"base": "1"}, **exits)

    await each(life, [side.desk for side in sides])
    await stack.eventually(lambda: watched(stack, symbol, sides), what=f"{symbol} is watched")


async def stopped_once(symbol: str, sides: list[Side], *crossings: tuple[str, str]) -> None:
    """The position was closed by this level at this price, by one order, and all is well at both."""

    async def end(desk: Desk) -> None:
        async def ended() -> Any:
            position = await desk.position(symbol)
            return position and position["status"] == "closed" and crossed(position)

        assert await awaited(desk.stack, ended, f"{desk.strategy}'s stop") == list(crossings or [("stop_loss", "98.9")])
        await is_sound(desk, symbol)
        assert await desk.traded(symbol) == [("Buy", "1"), ("Sell", "1")]

    await each(end, [side.desk for side in sides])


async def noticed(stack: Stack, symbol: str, sides: list[Side], since: int) -> None:
    """The watcher says, after so much of the log, that it is blind for the symbol, or for all of the market."""
    told = [re.compile(rf'blind market="[^"]*:{side.rest.port}" symbol=({symbol}|all) ') for side in sides]

    async def said_so() -> bool:
        return all(one.search(stack.output()[since:]) for one in told)

    await stack.eventually(said_so, what=f"blindness for {symbol}")


async def refused_blind(symbol: str, sides: list[Side]) -> None:
    """While it is traded on."""

    async def attempt(desk: Desk) -> None:
        await outcome(desk.stack, await desk.alert(symbol, "buy", size={"base": "1"}), "blind")

    async with trading_on(sides[0].desk.stack, symbol):
        await each(attempt, [side.desk for side in sides])


@asynccontextmanager
async def trading_on(stack: Stack, symbol: str) -> AsyncIterator[None]:
    async def trade() -> None:
        for number in count():
            await stack.price(symbol, f"98.{70 + number % 20}")  # never the same when it is asked for now and then
            await asyncio.sleep(0.3)

    task = asyncio.create_task(trade())
    try:
        yield
    finally:
        task.cancel()


async def opens(symbol: str, sides: list[Side], *, sight: bool = True) -> None:
    """An opening is carried out, as soon as what was dark is seen again."""

    async def attempt(desk: Desk) -> None:
        async with asyncio.timeout(40):
            while True:
                alert = await outcome(desk.stack, await desk.alert(symbol, "buy", size={"base": "1"}))
                if alert["outcome"]["code"] != "blind":
                    break
        assert alert["outcome"]["code"] == "executed", alert

    await each(attempt, [side.desk for side in sides])


async def followers(stack: Stack, symbols: tuple[str, str]) -> dict[str, str]:
    """Wait until each of these has another watcher: symbol -> watcher."""

    async def shared() -> dict[str, str] | None:
        health = (await stack.http.get(f"{stack.connection['url']}/health/ready")).json()
        feeds = health["checks"]["feeds"].get("symbols") or []
        pairs = {(one["symbol"], one["watcher"]) for one in feeds if one["symbol"] in symbols and one["linked"]}
        found = dict(pairs)
        return found if len(pairs) == len(symbols) == len(set(found.values())) else None

    found: dict[str, str] = await awaited(stack, shared, f"two watchers for {symbols}", 60)
    return found


async def test_33_two_watchers_share_the_symbols_and_each_fires_its_own(chaos: Chaos, sides: list[Side]) -> None:
    stack, symbols = chaos.stack, SHARED
    for symbol in symbols:
        await long(stack, symbol, sides)
    async with chaos.beside("watcher") as second:
        await followers(stack, symbols)
        for symbol in symbols:
            await stack.price(symbol, "98.9")
            await stopped_once(symbol, sides)
        assert second.lines_with("level crossed") == len(sides), "those of its own symbol"


async def test_33_the_symbols_of_a_watcher_that_was_killed_are_taken_over(chaos: Chaos, sides: list[Side]) -> None:
    stack, symbols = chaos.stack, KILLED
    for symbol in symbols:
        await long(stack, symbol, sides)
    async with chaos.beside("watcher") as second:
        for symbol, who in (await followers(stack, symbols)).items():  # whatever the other does meanwhile
            if second.lines_with(f"watcher={who}"):
                second.process.kill()
            else:
                stack.kill("watcher")
            await stack.price(symbol, "98.9")
            await stopped_once(symbol, sides)
    await chaos.ready()


async def test_33_levels_that_are_crossed_while_their_shards_change_hands_fire_once(
    chaos: Chaos, sides: list[Side]
) -> None:
    stack, symbols = chaos.stack, HANDED
    rungs = [{"pct": number * 0.2, "fraction": 0.2} for number in range(1, 6)]
    for symbol in symbols:
        await long(stack, symbol, sides, stop_loss={"pct": 5}, take_profit=rungs)

    async def walk(*prices: str) -> None:
        for price in prices:
            for _ in range(5):
                for symbol in symbols:
                    await stack.price(symbol, price, "100.1")  # there, and back at once
                await asyncio.sleep(0.2)

    walking = asyncio.create_task(walk("100.2", "100.4"))
    async with chaos.beside("watcher") as second:
        await followers(stack, symbols)
        await walking
        walking = asyncio.create_task(walk("100.6", "100.8", "101"))
        second.process.terminate()  # it gives back what it has, and the next one joins
        await second.says_more(stack, "watcher ready", 1)
        await walking  # by now all may be closed, and nobody follows these any more

    async def end(desk: Desk) -> None:
        for symbol in symbols:
            await desk.becomes(symbol, "long", within_s=60, status="closed", close_reason="take_profit")
            await is_sound(desk, symbol)
            assert await desk.traded(symbol) == [("Buy", "1")] + [("Sell", "0.2")] * len(rungs)

    await each(end, [side.desk for side in sides])


async def test_34_a_watcher_whose_leases_ran_out_writes_and_sends_nothing(chaos: Chaos, sides: list[Side]) -> None:
    stack, symbols = chaos.stack, STALE
    for symbol in symbols:
        await long(stack, symbol, sides, trailing={"distance_pct": 1}, stop_loss={"pct": 5})
    async with chaos.beside("watcher") as second:
        found = await followers(stack, symbols)
        [symbol] = [symbol for symbol, who in found.items() if second.lines_with(f"watcher={who}")]
        alone = stack.output().count("shards=16")
        second.process.send_signal(signal.SIGSTOP)
        await stack.eventually(lambda: said(stack, "shards=16", alone + 1), what="a successor")
        await stack.price(symbol, "101", "100.5", "99.9")  # the trailing stop is at 99.99
        await stopped_once(symbol, sides, ("trailing_stop", "99.9"))
        written = [await side.desk.position(symbol) for side in sides]
        second.process.send_signal(signal.SIGCONT)  # all that was traded meanwhile waits in its sockets
        await second.says(stack, "watcher stops")
        await stopped_once(symbol, sides, ("trailing_stop", "99.9"))
        assert [await side.desk.position(symbol) for side in sides] == written


async def test_35_a_silent_socket_is_noticed_and_prices_are_asked_for(stack: Stack, sides: list[Side]) -> None:
    symbol, other = "LINKUSDT", "UNIUSDT"
    await long(stack, symbol, sides)
    await long(stack, other, sides)
    since = len(stack.output())
    for side in sides:
        side.ws.blackhole()
    await stack.price(symbol, "98.9")
    await stack.price(other, "99.5")
    await stopped_once(symbol, sides)
    await noticed(stack, symbol, sides, since)
    await refused_blind(symbol, sides)
    for side in sides:
        await side.desk.executed(other, "close")  # closes never ask
        side.ws.flow()
    await opens(symbol, sides)


async def test_36_a_stop_crossed_in_a_gap_fires_afterwards(stack: Stack, sides: list[Side]) -> None:
    symbol = "AVAXUSDT"
    await long(stack, symbol, sides)
    for side in sides:
        side.ws.refusing = True
        side.ws.reset()
    await stack.price(symbol, "99.5", "98.9", "99.5", "100")  # and back before anybody can ask
    for side in sides:
        side.ws.heal()
    await stopped_once(symbol, sides)


async def test_37_one_symbol_of_which_nothing_arrives_is_noticed_alone(chaos: Chaos, sides: list[Side]) -> None:
    stack, silent, heard = chaos.stack, "FILUSDT", "ADAUSDT"
    await stack.price(heard, "100")
    await long(stack, silent, sides)
    since = len(stack.output())
    await chaos.fault("silent_socket", channel="public", symbol=silent)
    await stack.price(silent, "98.9")
    await stopped_once(silent, sides)
    async with trading_on(stack, silent):
        await noticed(stack, silent, sides, since)
        await refused_blind(silent, sides)
    await opens(heard, sides)
    await chaos.clear_faults()
    await stack.price(silent, "99")
    await opens(silent, sides)


async def test_38_a_price_that_cannot_be_true_fires_nothing(stack: Stack, sides: list[Side]) -> None:
    symbol = "ETCUSDT"
    lies = {b"99.91": b'"0"', b"99.92": b'"-9.92"', b"99.93": b'"NaN"', b"99.94": b'"9.94"'}
    true = re.compile(rb'(?<="p":)"(99\.9[1-4])0*"')

    def lie(piece: bytes) -> bytes:
        return true.sub(lambda found: lies[found[1]].ljust(len(found[0])), piece)

    await long(stack, symbol, sides, stop_loss={"pct": 1}, take_profit=[{"pct": 5, "fraction": 1}])
    for side in sides:
        side.ws.lie = lie
    for price in ("99.91", "99.92", "99.93", "99.94"):
        await stack.price(symbol, price)
    # Nobody else has seen this one: mark and best prices stay where they were.
    off = {"symbol": symbol, "price": "106", "mark": "100", "bid": "99.99", "ask": "100.01"}
    await stack.control("POST", "price", off)
    await stack.eventually(lambda: said(stack, "a price is not believed", 4), what="both prices at both exchanges")
    await stack.price(symbol, "100", "98.9")
    await stopped_once(symbol, sides)


async def said(stack: Stack, words: str, times: int) -> bool:
    return stack.output().count(words) >= times


async def test_38_a_jump_that_others_have_seen_too_fires_at_once(stack: Stack, sides: list[Side]) -> None:
    """Upwards: on the way down the native stop at the exchange would be as fast."""
    symbol = "BNBUSDT"
    await long(stack, symbol, sides, stop_loss={"pct": 1}, take_profit=[{"pct": 5, "fraction": 1}])
    await stack.price(symbol, "120")
    await stopped_once(symbol, sides, ("take_profit", "120"))


async def test_39_a_trade_of_the_past_fires_nothing(stack: Stack, sides: list[Side]) -> None:
    symbol = "XRPUSDT"
    row = re.compile(rb'\{[^{}]*"p":"98\.910*"[^{}]*\}')

    def lie(piece: bytes) -> bytes:
        return row.sub(lambda found: re.sub(rb'"T":\d{13}', b'"T":1600000000000', found[0]), piece)

    await long(stack, symbol, sides)
    for side in sides:
        side.ws.lie = lie
    await stack.price(symbol, "99.5", "98.91", "99.5", "98.9")
    await stopped_once(symbol, sides)


async def test_40_what_piled_up_in_a_slow_watcher_is_judged_in_order(chaos: Chaos, sides: list[Side]) -> None:
    """The trailing stop's high and the low that crosses it came and went while the process stood still."""
    stack, symbol = chaos.stack, "POLUSDT"
    await long(stack, symbol, sides, trailing={"distance_pct": 1}, stop_loss={"pct": 5})
    async with chaos.stopped("watcher"):
        await stack.price(symbol, "100.8", "101.6", "100.7", "100.5", "101", "100.9")
    await stopped_once(symbol, sides, ("trailing_stop", "100.5"))


async def test_40_what_was_traded_while_the_lease_ran_out_is_inspected(chaos: Chaos, sides: list[Side]) -> None:
    stack, symbol = chaos.stack, "DOGEUSDT"
    await long(stack, symbol, sides)

    async def unwatched() -> bool:
        health = (await stack.http.get(f"{stack.connection['url']}/health/ready")).json()
        return not health["checks"]["watcher"]["ok"]

    async with chaos.stopped("watcher"):
        await stack.price(symbol, "99.5", "98.9", "99.5", "100")
        await stack.eventually(unwatched, what="the end of its lease")
    await stopped_once(symbol, sides)


async def test_41_a_stream_that_is_cut_and_refused_comes_back_with_its_symbols(chaos: Chaos, sides: list[Side]) -> None:
    stack, symbol, other = chaos.stack, "BTCUSDT", "BBUSDT"
    await stack.price(other, "100")
    await long(stack, symbol, sides)
    lost, since = stack.output().count("stream lost"), len(stack.output())
    await chaos.fault("cut_socket", channel="public", times=None)  # new links are answered with 503
    await stack.eventually(lambda: said(stack, "stream lost", lost + 8), what="trying on and on")
    await noticed(stack, "all", sides, since)
    await refused_blind(other, sides)
    await chaos.clear_faults()
    await stack.eventually(lambda: watched(stack, symbol, sides), what="linked again")
    await stack.price(symbol, "98.9")
    await stopped_once(symbol, sides)


async def test_41_a_host_that_has_no_address_is_tried_until_it_has_one(stack: Stack, sides: list[Side]) -> None:
    symbol, side = "ETHUSDT", sides[0]
    desk = await desk_through(stack, "bybit-nameless", side.rest, side.ws)
    urls = {"rest": f"http://127.0.0.1:{side.rest.port}", "ws": "ws://levelhead.invalid"}
    await change(stack, desk.account, urls)
    await stack.price(symbol, "100")
    before, since = stack.output().count("stream lost"), len(stack.output())
    await desk.executed(symbol, "buy", size={"base": "1"})  # from now on its prices are followed, if that can be
    await stack.eventually(lambda: said(stack, "stream lost", before + 5), what="trying on and on")
    await noticed(stack, symbol, [side], since)
    await desk.executed(symbol, "close")
    await refused_blind(symbol, [Side(desk, side.rest, side.ws)])
    urls["ws"] = f"ws://127.0.0.1:{side.ws.port}"
    await change(stack, desk.account, urls)
    await opens(symbol, [Side(desk, side.rest, side.ws)])


async def change(stack: Stack, account: str, urls: dict[str, str]) -> None:
    await stack.get("/accounts")  # logged in
    path = f"{stack.connection['url']}/api/v1/accounts/{account}"
    (await stack.http.patch(path, json={"urls": urls}, headers=stack.headers())).raise_for_status()
