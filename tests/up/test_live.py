"""`levelhead doctor --live`: a real round with the smallest position, which ends flat whatever happens."""

import asyncio
import io
import os
import signal
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from app.domain.order import PositionMode
from app.errors import InvalidInput
from app.ids import new_id
from app.keys import Credentials
from app.resources import Connected
from app.store import accounts
from app.store.accounts import AccountRow, Environment, VenueName
from app.store.db import transaction
from app.up import doctor
from app.up.live import Step, minimum_qty, plays_with_real_money, trade_minimum
from app.venues.base import Origins
from tests.support.house import House

STEPS = ["prepare", "private_stream", "open", "fill", "fill_by_stream", "stop", "close", "end"]


async def trade(house: House, symbol: str = "BTCUSDT") -> tuple[bool, dict[str, Step]]:
    connected = await house.resources.venues.of(house.account_id)
    steps: list[Step] = []
    window_ms = house.resources.settings.recv_window_ms
    ok = await trade_minimum(connected.venue, symbol, steps.append, recv_window_ms=window_ms)
    return ok, {step.name: step for step in steps}


async def test_a_round_opens_with_a_stop_closes_and_ends_flat(house: House) -> None:
    ok, steps = await trade(house)
    assert ok, steps
    assert list(steps) == STEPS
    assert all(step.ok and step.took_ms >= 0 for step in steps.values())
    assert "0.001 BTCUSDT at 60000" in steps["prepare"].detail
    assert steps["stop"].detail == "rests at 57000"
    assert await house.held() == ("flat", "0")
    opened, closed = [request["body"] for request in await house.sent()]
    assert (opened["side"], opened["qty"], closed["side"], closed["qty"]) == ("Buy", "0.001", "Sell", "0.001")
    assert closed["reduceOnly"] is True
    assert all(order["orderLinkId"].startswith("doctor-") for order in (opened, closed))


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
@pytest.mark.parametrize("venue", VenueName)
async def test_a_round_on_each_venue_and_in_each_mode(house: House, venue: VenueName, hedge: bool) -> None:
    key, secret = f"{venue}-{hedge}", "its-secret"
    made = await house.control.post(
        "/control/accounts", json={"api_key": key, "api_secret": secret, "venue": venue, "hedge": hedge}
    )
    assert made.status_code == 200, made.text
    async with transaction(house.resources.pool) as db:
        account = await accounts.create(
            db,
            house.resources.keys,
            name="round",
            venue=venue,
            environment=Environment.SIMULATOR,
            credentials=Credentials(api_key=key, api_secret=secret),
            position_mode=PositionMode.HEDGE if hedge else PositionMode.ONE_WAY,
        )
    connected = await house.resources.venues.of(account.id)
    steps: list[Step] = []
    ok = await trade_minimum(connected.venue, "BTCUSDT", steps.append, recv_window_ms=5000)
    assert ok, [step for step in steps if step.ok is False]
    assert [step.name for step in steps] == STEPS
    assert (await connected.venue.standing("BTCUSDT")).holdings == ()
    assert await connected.venue.resting_stops("BTCUSDT") == []


async def test_what_is_held_already_is_left_alone(house: House) -> None:
    await house.by_hand("Buy", "0.5")
    ok, steps = await trade(house)
    assert not ok
    assert list(steps) == ["prepare"]
    assert "the account holds long 0.5 BTCUSDT" in steps["prepare"].detail
    assert await house.held() == ("long", "0.5")
    assert await house.sent() == []


async def test_an_unlisted_symbol_ends_it_before_anything_is_sent(house: House) -> None:
    ok, steps = await trade(house, "NOSUCHUSDT")
    assert (ok, list(steps)) == (False, ["prepare"])
    assert await house.sent() == []


async def test_a_lost_answer_is_found_out_and_closed(house: House) -> None:
    await house.fault("drop_answer", path="/v5/order/create")
    ok, steps = await trade(house)
    assert ok, steps
    assert steps["open"].ok is None
    assert steps["fill"].ok is True
    assert await house.held() == ("flat", "0")


async def test_an_order_that_is_refused_leaves_nothing_to_end(house: House) -> None:
    await house.fault("ret_code", path="/v5/order/create", code=110007, msg="ab not enough for new order")
    ok, steps = await trade(house)
    assert not ok
    assert list(steps) == ["prepare", "private_stream", "open"]
    assert "not enough" in steps["open"].detail
    assert await house.held() == ("flat", "0")


async def test_a_close_that_fails_is_sent_again_until_flat(house: House) -> None:
    steps: list[Step] = []
    faults: list[asyncio.Task[None]] = []

    def say(step: Step) -> None:
        steps.append(step)
        if step.name == "open":  # set long before the close: several reads come between
            fault = house.fault("ret_code", path="/v5/order/create", code=110007, msg="no")
            faults.append(asyncio.create_task(fault))

    connected = await house.resources.venues.of(house.account_id)
    assert not await trade_minimum(connected.venue, "BTCUSDT", say, recv_window_ms=5000)
    await faults[0]
    assert [(step.name, step.ok) for step in steps[-2:]] == [("close", False), ("end", True)]
    assert "flat after 1 more closes" in steps[-1].detail
    assert await house.held() == ("flat", "0")


async def test_whoever_stops_it_half_way_still_ends_flat(house: House) -> None:
    connected = await house.resources.venues.of(house.account_id)
    steps: list[Step] = []
    opened = asyncio.Event()

    def say(step: Step) -> None:
        steps.append(step)
        if step.name == "open":
            opened.set()

    window_ms = house.resources.settings.recv_window_ms
    round_ = asyncio.create_task(trade_minimum(connected.venue, "BTCUSDT", say, recv_window_ms=window_ms))
    await opened.wait()
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    assert steps[-1].name == "end"
    assert steps[-1].ok is True
    assert await house.held() == ("flat", "0")


async def test_a_signal_to_end_closes_first(house: House) -> None:
    connected = await house.resources.venues.of(house.account_id)
    steps: list[Step] = []

    def say(step: Step) -> None:
        steps.append(step)
        if step.name == "open":
            os.kill(os.getpid(), signal.SIGTERM)

    async def trade_until_told_to_end() -> None:
        with doctor._ending_in_order():
            await trade_minimum(connected.venue, "BTCUSDT", say, recv_window_ms=5000)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(trade_until_told_to_end())
    assert (steps[-1].name, steps[-1].ok) == ("end", True)
    assert await house.held() == ("flat", "0")


async def test_the_least_is_enough_in_units_and_in_worth(house: House) -> None:
    instrument = await (await house.resources.venues.of(house.account_id)).venue.instrument("BTCUSDT")
    rules = msgspec.structs.replace(
        instrument, qty_step=Decimal("0.001"), qty_min=Decimal("0.001"), notional_min=Decimal(100)
    )
    assert minimum_qty(rules, Decimal(60000)) == Decimal("0.002")
    assert minimum_qty(rules, Decimal(200_000)) == Decimal("0.001")


@pytest.mark.parametrize(
    ("environment", "rest", "real"),
    [
        (Environment.MAINNET, "https://api.bybit.com", True),
        (Environment.TESTNET, "https://api-testnet.bybit.com", False),
        (Environment.DEMO, "https://demo-fapi.binance.com", False),
        (Environment.SIMULATOR, "http://127.0.0.1:8090", False),
        (Environment.CUSTOM, "http://127.0.0.1:8090", False),
        (Environment.CUSTOM, "http://[::1]:8090", False),
        (Environment.CUSTOM, "http://localhost:8090", False),
        (Environment.CUSTOM, "http://simulator:8090", False),
        (Environment.CUSTOM, "http://10.1.2.3", False),
        (Environment.CUSTOM, "https://testnet.binancefuture.com", False),
        (Environment.CUSTOM, "https://api.bybit.eu", True),
        (Environment.CUSTOM, "https://exchange.example.com", True),
        (Environment.CUSTOM, "https://8.8.8.8", True),
    ],
)
async def test_real_money_is_known_by_environment_and_address(
    house: House, environment: Environment, rest: str, real: bool
) -> None:
    now = datetime.now(UTC)
    account = AccountRow(
        id=new_id(), name="x", venue=VenueName.BYBIT, environment=environment, position_mode=PositionMode.ONE_WAY,
        created_at=now, updated_at=now,
    )  # fmt: skip
    there = await house.resources.venues.of(house.account_id)
    connected: Connected = msgspec.structs.replace(there, account=account, origins=Origins(rest=rest, ws="ws://x"))
    assert plays_with_real_money(connected) is real


async def test_the_doctor_looks_at_accounts_and_trades_when_told(
    house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = house.resources.settings
    assert await doctor._check_accounts(settings, None, "BTCUSDT", None) == 0
    shown = capsys.readouterr().out
    assert "ok   account    paper: position_mode: BTCUSDT is in one-way mode, as the account says" in shown
    assert "?    account    paper: ip_restriction: warning" in shown
    assert ". To do: bind it" in shown

    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal
    with pytest.raises(doctor.Failed, match="--yes-trade-minimum"):
        await doctor._check_accounts(settings, "paper", "BTCUSDT", doctor.Live())
    assert await house.sent() == []
    capsys.readouterr()
    assert await doctor._check_accounts(settings, "paper", "BTCUSDT", doctor.Live(yes=True)) == 0
    shown = capsys.readouterr().out
    assert "ok   live       paper: stop: rests at 57000 [" in shown
    assert await house.held() == ("flat", "0")
    with pytest.raises(doctor.Failed, match="no account called 'papers'"):
        await doctor._check_accounts(settings, "papers", "BTCUSDT", None)


async def test_the_doctor_does_not_trade_with_real_money_unasked(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    connected = await house.resources.venues.of(house.account_id)
    real = msgspec.structs.replace(
        connected, account=msgspec.structs.replace(connected.account, environment=Environment.MAINNET)
    )
    with pytest.raises(doctor.Failed, match=r"real money .* nothing was opened"):
        doctor._refuse_real_money(real, doctor.Live(yes=True))
    doctor._refuse_real_money(real, doctor.Live(mainnet=True))


async def test_the_doctor_trades_on_one_account_only_and_not_past_a_failed_check(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = house.resources.settings
    async with transaction(house.resources.pool) as db:
        await db.execute("UPDATE accounts SET position_mode = 'hedge', updated_at = clock_timestamp()")
    assert await doctor._check_accounts(settings, None, "BTCUSDT", doctor.Live(yes=True)) == 2
    assert "not tried, because of position_mode above" in capsys.readouterr().out
    async with transaction(house.resources.pool) as db:
        await db.execute(
            "INSERT INTO accounts (id, name, venue, environment, credentials) SELECT $1, 'two', venue, environment, '' "
            "FROM accounts",
            new_id(),
        )
    with pytest.raises(doctor.Failed, match=r"name it with --account \(there are: paper, two\)"):
        await doctor._check_accounts(settings, None, "BTCUSDT", doctor.Live(yes=True))
    assert await house.sent() == []


def test_the_symbol_may_be_spelt_as_in_an_alert() -> None:
    assert (doctor.symbol_of(None), doctor.symbol_of("bybit:ethusdt.p")) == ("BTCUSDT", "ETHUSDT")
    with pytest.raises(InvalidInput, match="USDT perpetual"):
        doctor.symbol_of("BTCUSD")
