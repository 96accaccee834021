"""Limits, bans and clocks, for every adapter: what is not sent, and what is stamped with which time."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.errors import Transient
from app.venues.gate import Ban, Gate, Scope
from tests.venues.contract import BTC, ROADS, Site
from tests.venues.contract import site as open_site

D = Decimal


@pytest.fixture(params=ROADS)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with open_site(request.param) as found:
        yield found


# limits and bans


async def test_a_ban_is_honoured_by_everything_that_follows(site: Site) -> None:
    told: list[tuple[Scope, Ban]] = []
    gate = Gate(on_ban=lambda scope, ban: told.append((scope, ban)))
    async with site.venue(gate=gate) as venue:
        await venue.server_time()
        await venue.equity()
        await site.simulator.fault("ip_ban", seconds=120)
        with pytest.raises(Transient) as caught:
            await venue.equity()
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 60
        assert [scope for scope, _ in told] == [Scope.ADDRESS]
        arrived = len(await site.simulator.requests())
        for call in (venue.equity(), venue.place(site.closes()), venue.place(site.opens()), venue.quote(BTC)):
            with pytest.raises(Transient):
                await call
        assert len(await site.simulator.requests()) == arrived


async def test_a_ban_that_another_process_heard_of_holds_here_too(site: Site) -> None:
    async def arrived() -> int:
        """Without the clock, which connections that are being warmed up may be asking for right now."""
        return len([r for r in await site.simulator.requests() if not r["path"].endswith("/time")])

    gate = Gate()
    async with site.venue(gate=gate) as venue:
        await venue.equity()
        before = await arrived()
        gate.ban(Scope.ADDRESS, 60, "somebody was banned")
        with pytest.raises(Transient):
            await venue.equity()
        assert await arrived() == before


async def test_a_rate_limit_says_when_it_ends_and_nothing_is_sent_again(site: Site) -> None:
    async with site.venue() as venue:
        await venue.equity()
        code = next(code for code, kind in site.face.codes.items() if kind is Transient)
        await site.simulator.fault("ret_code", code=code, msg="too many", path=site.face.order_path)
        with pytest.raises(Transient):
            await venue.place(site.opens())
        assert await site.sent_orders() == 1


@pytest.mark.parametrize(
    ("name", "path", "setting", "opens"),
    [
        ("bybit", "limits", {"paths": {"/v5/order/create": 1}}, 1),
        ("bybit-socket", "limits", {"paths": {"/v5/order/create": 1}}, 1),
        ("binance", "binance", {"limits": {"orders_10s": 10}}, 9),
        ("binance-socket", "binance", {"limits": {"orders_10s": 10}}, 9),
    ],
)
async def test_the_last_of_a_budget_is_kept_for_closes(
    name: str, path: str, setting: dict[str, Any], opens: int
) -> None:
    """By what the answers' headers say is used. The gate's clock stands still, so that nothing is forgotten."""
    async with open_site(name) as site:
        await site.simulator.post(path, **setting)
        async with site.venue(gate=Gate(clock=lambda: 0.0)) as venue:
            await venue.instrument(BTC)  # with it an adapter may learn the limits
            for _ in range(opens):
                await venue.place(site.opens())
            sent = await site.sent_orders()
            with pytest.raises(Transient) as caught:
                await venue.place(site.opens())
            assert caught.value.retry_after_s is not None
            assert await site.sent_orders() == sent
            await venue.place(site.closes())
            assert await site.sent_orders() == sent + 1


# clocks


@pytest.mark.parametrize("skew_ms", [-20_000, 20_000])
async def test_a_skewed_clock_is_made_up_for(site: Site, skew_ms: int) -> None:
    async with site.venue() as venue:
        await venue.equity()
        await site.simulator.fault("clock_skew", ms=skew_ms)
        order = site.opens()
        try:
            await venue.place(order)
        except Transient:
            await venue.place(order)
        assert len(await site.simulator.orders(order.client_order_id)) == 1
        await venue.equity()
        await venue.server_time()
        assert abs(venue.clock_offset_ms - skew_ms) < 2000


async def test_an_order_that_was_signed_too_long_ago_does_not_leave(site: Site) -> None:
    """A process that stood still between the commit and the send must not open what was given up meanwhile."""
    async with site.venue() as venue:
        with pytest.raises(Transient):
            await venue.place(site.opens(signed_at=datetime.now(UTC) - timedelta(seconds=6)))
        assert await site.sent_orders() == 0


async def test_a_request_carries_the_time_that_was_committed_with_it(site: Site) -> None:
    async with site.venue() as venue:
        await venue.equity()
        await site.fault_of_orders("delay", ms=2500)
        with pytest.raises(Transient):  # 3 s old when sent, 5.5 s old when it is looked at: refused there
            await venue.place(site.opens(signed_at=datetime.now(UTC) - timedelta(seconds=3)))
        assert (await venue.standing(BTC)).holdings == ()


async def test_what_tells_of_crossings_and_of_what_was_sent_goes_on_when_openings_do_not() -> None:
    """A close that nobody knows to be due is no close; Binance counts all of it in one budget a minute."""
    gate, since = Gate(), datetime.now(UTC) - timedelta(minutes=5)
    async with open_site("binance") as site, site.venue(gate=gate) as venue:
        await venue.instrument(BTC)

        def nearly_used() -> None:  # anew, for each answer says how much is used in truth
            gate.used("weight", 0.95, for_s=60, scope=Scope.ADDRESS)

        nearly_used()
        with pytest.raises(Transient, match="weight"):
            await venue.holdings()
        nearly_used()
        with pytest.raises(Transient, match="weight"):
            await venue.place(site.opens())
        for urgent in (
            lambda: venue.quote(BTC),
            lambda: venue.last_prices([BTC]),
            lambda: venue.trades_since(BTC, since),
            lambda: venue.candles_since(BTC, since),
            lambda: venue.order(BTC, "lhnone"),
        ):
            nearly_used()
            await urgent()
