"""Every class of failure, for every adapter, against the simulator over sockets: what a caller may believe afterwards.

Refused is final, Transient was surely not done, OutcomeUnknown is maybe done, Conflict found another state. Nothing is
ever sent twice by itself, and no read answers "nothing" because it failed.
"""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from app.domain.order import OrderStatus
from app.errors import Conflict, LevelheadError, OutcomeUnknown, Refused, Transient
from app.keys import Credentials
from app.venues.base import Origins, RestingStop
from app.venues.gate import Gate
from app.venues.registry import open_venue
from tests.venues.contract import BTC, CHANGES, FACES, LONG, QTY, READS, ROADS, SHORT, Site, protect
from tests.venues.contract import site as open_site
from tests.venues.contract_proxy import cutter

D = Decimal


@pytest.fixture(params=ROADS)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with open_site(request.param) as found:
        yield found


@pytest.fixture(params=ROADS)
async def hedge(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with open_site(request.param, hedge=True) as found:
        yield found


# refusals and conflicts


@pytest.mark.parametrize(
    "changes",
    [
        {"qty": D("0.0001")},
        {"qty": D("0.0015")},
        {"qty": D(501)},
        {"qty": D(200)},  # not enough margin
        {"symbol": "NOPEUSDT"},
        {"client_order_id": "bad id!"},
        {"client_order_id": "x" * 37},
    ],
    ids=lambda changes: f"{next(iter(changes.items()))}",
)
async def test_an_unacceptable_order_is_refused(site: Site, changes: dict[str, Any]) -> None:
    async with site.venue() as venue:
        with pytest.raises(Refused) as caught:
            await venue.place(site.opens(**changes))
        assert caught.value.reason
        assert caught.value.venue_code
        assert (await venue.standing(BTC)).holdings == ()
        assert await site.sent_orders() == 1


async def test_below_the_minimum_notional_is_refused_and_a_close_of_it_is_not(site: Site) -> None:
    async with site.venue() as venue:
        await venue.place(site.opens())
        await site.simulator.price(1000)
        with pytest.raises(Refused) as caught:
            await venue.place(site.opens(qty=D("0.004")))
        assert caught.value.code == "size_below_minimum"
        await venue.place(site.closes(qty=D("0.004")))
        [held] = (await venue.standing(BTC)).holdings
        assert held.qty == QTY - D("0.004")


async def test_closing_what_is_flat_is_a_conflict(site: Site) -> None:
    async with site.venue() as venue:
        with pytest.raises(Conflict) as caught:
            await venue.place(site.closes())
        assert caught.value.kind == "nothing_to_reduce"


async def test_closing_a_flat_side_in_hedge_mode_is_a_conflict(hedge: Site) -> None:
    async with hedge.venue() as venue:
        for side in (LONG, SHORT):
            with pytest.raises(Conflict) as caught:
                await venue.place(hedge.closes(side))
            assert caught.value.kind == "nothing_to_reduce"
        assert (await venue.standing(BTC)).holdings == ()


async def test_stops_that_will_not_do(site: Site) -> None:
    async with site.venue() as venue:
        with pytest.raises(Conflict) as caught:
            await protect(site, venue, LONG, D(50000))
        assert caught.value.kind == "no_position"
        await venue.place(site.opens())
        with pytest.raises(Refused) as refused:
            await protect(site, venue, LONG, D(61000))
        assert refused.value.code == "stop_wrong_side"
        assert await venue.resting_stops(BTC) == []
        with pytest.raises(Refused):
            await protect(site, venue, LONG, D("57000.05"))  # off the tick
        assert await venue.resting_stops(BTC) == []


async def test_a_stop_on_the_wrong_side_leaves_the_one_that_rests(site: Site) -> None:
    async with site.venue() as venue:
        await venue.place(site.opens())
        await protect(site, venue, LONG, D(57000))
        with pytest.raises(Refused) as refused:
            await protect(site, venue, LONG, D(61000))
        assert refused.value.code == "stop_wrong_side"
        assert await venue.resting_stops(BTC) == [RestingStop(side=LONG, price=D(57000))]


async def test_a_leverage_above_the_maximum_is_refused(site: Site) -> None:
    async with site.venue() as venue:
        with pytest.raises(Refused) as refused:
            await venue.set_leverage(BTC, D(1000))
        assert refused.value.code == "leverage_above_maximum"


async def test_the_wrong_position_mode_is_called_by_its_name(site: Site, hedge: Site) -> None:
    for right, wrong in ((site, True), (hedge, False)):
        async with right.venue() as venue:
            with pytest.raises(Refused) as caught:
                await venue.place(right.opens(hedge=wrong))
            assert caught.value.code == "position_mode_mismatch"
            assert (await venue.standing(BTC)).holdings == ()


# keys


async def test_a_wrong_key_or_secret_is_refused_without_quoting_it(site: Site) -> None:
    for credentials in (
        Credentials(api_key="nobody-at-all", api_secret="x"),
        Credentials(api_key=site.api_key, api_secret="wrong secret"),
    ):
        async with site.venue(credentials=credentials, welcome=False) as venue:
            for call in (venue.equity(), venue.place(site.opens())):
                with pytest.raises(Refused) as caught:
                    await call
                assert credentials.api_key not in str(caught.value)
                assert "wrong secret" not in str(caught.value)


async def test_what_a_key_may_do(site: Site) -> None:
    async with site.venue() as venue:
        await site.simulator.post("permissions", api_key=site.api_key, withdraw=True, ips=["127.0.0.1"])
        found = await venue.permissions()
        assert found.can_withdraw is True
        assert found.ip_restricted is True
        await site.simulator.post("permissions", api_key=site.api_key, trade=False)
        assert not (await venue.permissions()).can_trade
        with pytest.raises(Refused):
            await venue.place(site.opens())
        await site.simulator.post("permissions", api_key=site.api_key, expired=True)
        with pytest.raises(Refused):
            await venue.equity()


async def test_an_address_that_is_not_on_the_keys_list_is_refused(site: Site) -> None:
    await site.simulator.post("permissions", api_key=site.api_key, ips=["203.0.113.7"])
    async with site.venue(welcome=False) as venue:
        with pytest.raises(Refused):
            await venue.equity()


def _rsa() -> tuple[str, str]:
    return _pems(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _ed25519() -> tuple[str, str]:
    return _pems(ed25519.Ed25519PrivateKey.generate())


def _pems(key: Any) -> tuple[str, str]:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.mark.parametrize(
    ("name", "make"),
    [(road, make) for road in ROADS for make in (_rsa, _ed25519) if "bybit" not in road or make is _rsa],
)
async def test_keys_that_sign_with_a_private_key(name: str, make: Any) -> None:
    private, public = make()
    async with open_site(name) as site:
        await site.simulator.post("accounts", api_key="signer", public_key=public, venue=site.face.name)
        credentials = Credentials(api_key="signer", private_key=private)
        async with site.venue(credentials=credentials) as venue:
            order = site.opens()
            await venue.place(order)
            await protect(site, venue, LONG, D(57000))
            assert (await venue.standing(BTC)).on(LONG) is not None
            assert len(await venue.fills(BTC, client_order_id=order.client_order_id)) == 1


async def test_a_key_of_no_use_is_refused_at_once(site: Site) -> None:
    with pytest.raises(Refused):
        open_venue(
            site.face.name,
            Credentials(api_key="k", private_key="not a key"),
            site.simulator.origins,
            gate=Gate(),
            recv_window_ms=5000,
            timeout_s=5,
        )


# faults while an order is sent

FAULTS: list[tuple[dict[str, Any], type[LevelheadError], int]] = [
    ({"fault": "drop_answer"}, OutcomeUnknown, 1),
    ({"fault": "drop_request"}, OutcomeUnknown, 0),
    ({"fault": "delay_answer", "ms": 1500}, OutcomeUnknown, 1),
    ({"fault": "http_status", "status": 500}, OutcomeUnknown, 0),
    ({"fault": "http_status", "status": 502}, OutcomeUnknown, 0),
    ({"fault": "http_status", "status": 502, "after": True}, OutcomeUnknown, 1),
    ({"fault": "http_status", "status": 503, "after": True}, OutcomeUnknown, 1),
    ({"fault": "http_status", "status": 504}, OutcomeUnknown, 0),
    ({"fault": "http_status", "status": 408, "after": True}, OutcomeUnknown, 1),
    ({"fault": "http_status", "status": 429}, Transient, 0),
    ({"fault": "http_status", "status": 403}, Transient, 0),
    ({"fault": "maintenance"}, OutcomeUnknown, 0),
]


def _said(fault: dict[str, Any]) -> str:
    return ", ".join(str(value) for value in fault.values())


@pytest.mark.parametrize(("fault", "expected", "executed"), FAULTS, ids=[_said(fault) for fault, _, _ in FAULTS])
async def test_a_fault_while_an_order_is_sent(
    site: Site, fault: dict[str, Any], expected: type[LevelheadError], executed: int
) -> None:
    order = site.opens()
    if site.socket and site.face.name == "binance" and fault.get("status") == 403:
        expected = OutcomeUnknown  # in a frame it comes with a code, and that proves nothing
    async with site.venue(timeout_s=0.5) as venue:
        await venue.server_time()
        await venue.equity()
        await site.simulator.post("faults", **fault, path=site.face.order_path)
        with pytest.raises(LevelheadError) as caught:
            await venue.place(order)
        assert type(caught.value) is expected
        assert len(await site.simulator.orders(order.client_order_id)) == executed
        assert await site.sent_orders() == 1
    await site.simulator.clear()
    async with site.venue() as venue:
        report = await venue.order(BTC, order.client_order_id)
        assert (report is not None) == bool(executed)
        assert len(await venue.fills(BTC, client_order_id=order.client_order_id)) == executed


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [(name, code, expected) for name in ROADS for code, expected in FACES[name.split("-")[0]].codes.items()],
)
async def test_a_code_that_answers_an_order(name: str, code: int, expected: type[LevelheadError]) -> None:
    async with open_site(name) as site, site.venue() as venue:
        await venue.server_time()
        await site.fault_of_orders("ret_code", code=code, msg="as it says")
        with pytest.raises(LevelheadError) as caught:
            await venue.place(site.opens())
        assert type(caught.value) is expected
        if isinstance(caught.value, Refused | Transient):
            assert caught.value.venue_code == str(code)
        assert await site.sent_orders() == 1


@pytest.mark.parametrize("text", ["Service Unavailable.", "Unknown error, please check your request."])
async def test_a_503_proves_nothing_whatever_it_says(text: str) -> None:
    """Binance's page calls the first a plain failure; an order that was taken all the same must not be lost."""
    async with open_site("binance") as site, site.venue() as venue:
        await venue.server_time()
        await site.fault_of_orders("http_status", status=503, msg=text)
        with pytest.raises(OutcomeUnknown):
            await venue.place(site.opens())


async def test_an_unknown_order_that_did_arrive_is_adopted_by_its_id(site: Site) -> None:
    order = site.opens()
    async with site.venue() as venue:
        await site.fault_of_orders("drop_answer")
        with pytest.raises(OutcomeUnknown):
            await venue.place(order)
        report = await venue.order(BTC, order.client_order_id)
        assert report is not None
        assert (report.status, report.filled_qty) == (OrderStatus.FILLED, QTY)


# settings


async def test_a_setting_whose_answer_is_lost_is_told_as_try_again(site: Site) -> None:
    async with site.venue() as venue:
        await venue.place(site.opens())
        await site.simulator.fault("drop_answer", path=site.face.stop_path)
        try:
            await protect(site, venue, LONG, D(57000))
        except Transient:
            await protect(site, venue, LONG, D(57000))
        assert await venue.resting_stops(BTC) == [RestingStop(side=LONG, price=D(57000))]


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("nth", range(5))
async def test_a_stop_that_is_moved_while_requests_are_lost_is_never_missing(site: Site, lost: str, nth: int) -> None:
    """Whichever request of a move is lost, something rests, and the next call puts it right."""
    async with cutter(site.simulator.origin) as proxy, site.venue(rest=proxy.url) as venue:
        await venue.place(site.opens())
        await protect(site, venue, LONG, D(57000))
        proxy.cut(site.face.stop_path, nth, lose_answer=lost == "answer")
        try:
            await protect(site, venue, LONG, D(58000))
        except Transient:
            assert proxy.seen > nth
        assert proxy.seen >= 1
        proxy.mend()
        resting = [o for o in (await site.simulator.ledger())["orders"] if o["status"] == "Untriggered"]
        assert resting
        assert {D(o["trigger_price"]) for o in resting} <= {D(57000), D(58000)}
        await protect(site, venue, LONG, D(58000))
        assert await venue.resting_stops(BTC) == [RestingStop(side=LONG, price=D(58000))]


# reads


@pytest.mark.parametrize("call", [*READS, *CHANGES])
async def test_what_fails_is_transient_and_never_an_empty_answer(site: Site, call: str) -> None:
    async with site.venue() as venue:
        await venue.server_time()
        await venue.equity()
        await site.simulator.fault("maintenance")
        with pytest.raises(Transient):
            await {**READS, **CHANGES}[call](venue)


@pytest.mark.parametrize("call", list(READS))
async def test_a_read_whose_connection_breaks_is_right_or_transient(site: Site, call: str) -> None:
    async with site.venue() as venue:
        await venue.place(site.opens())
        await site.simulator.fault("drop_request", times=None)
        with pytest.raises(Transient):
            await READS[call](venue)


async def test_an_idle_connection_that_was_cut_costs_a_read_nothing(site: Site) -> None:
    async with site.venue() as venue:
        await venue.place(site.opens())
        await site.simulator.fault("drop_request")
        assert len(await venue.holdings()) == 1


async def test_an_exchange_that_is_not_there() -> None:
    for name in FACES:
        venue = open_venue(
            name,
            Credentials(api_key="k", api_secret="s"),
            Origins(rest="http://127.0.0.1:9", ws="ws://127.0.0.1:9"),
            gate=Gate(),
            recv_window_ms=5000,
            timeout_s=2,
        )
        site = Site(face=FACES[name], simulator=None)  # type: ignore[arg-type]
        try:
            for call in (*READS.values(), *CHANGES.values()):
                with pytest.raises(Transient):
                    await call(venue)
            with pytest.raises(Transient):
                await venue.place(site.opens())
        finally:
            await venue.close()
